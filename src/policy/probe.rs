//! When a check runs next, and what its answers mean.
//!
//! Until a readiness or startup probe has passed for the first time it runs 5 ms after the spawn
//! and then each time the age has grown by a tenth, so that a service is known to be ready no later
//! than 1.1 × its own start time + 5 ms. After that it runs once a period, from a random point on; while a
//! readiness probe has failed too often, five times a period.

use std::time::Duration;

use crate::model::spec::{Check, Probe};

/// Least distance of two runs before the first success.
const GAP_MIN: Duration = Duration::from_millis(5);
/// The same for exec: a fork and an exec each time.
const GAP_MIN_EXEC: Duration = Duration::from_millis(100);
/// Largest distance before the first success.
const GAP_MAX: Duration = Duration::from_secs(1);
/// Routine checks meet on a grid of this width, at most a twentieth of their period.
const GRID: Duration = Duration::from_millis(250);
const GRID_MIDDLE: Duration = Duration::from_millis(100);
const GRID_FINE: Duration = Duration::from_millis(50);
/// How many times its width the period is at least.
const GRIDS: u32 = 20;
/// Least distance of two runs while it is out.
const OUT_GAP_MIN: Duration = Duration::from_secs(1);
/// An answer that has not come this long after its timeout is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Whether the brain runs this check; the other kinds speak by themselves.
pub fn is_active(check: &Check) -> bool {
    match check {
        Check::Exec { .. }
        | Check::HttpGet { .. }
        | Check::TcpSocket { .. }
        | Check::Grpc { .. }
        | Check::Mcp { .. } => true,
        Check::Notify | Check::Fd(_) | Check::LogLine(_) | Check::Later(_) => false,
    }
}

/// The age at which a probe that has not passed yet runs next.
pub fn next_age(check: &Check, period: Duration, age: Duration) -> Duration {
    let least = match check {
        Check::Exec { .. } => GAP_MIN_EXEC,
        Check::HttpGet { .. }
        | Check::TcpSocket { .. }
        | Check::Grpc { .. }
        | Check::Mcp { .. }
        | Check::Notify
        | Check::Fd(_)
        | Check::LogLine(_)
        | Check::Later(_) => GAP_MIN,
    };
    age + (age / 10).clamp(least, GAP_MAX).min(period.max(GAP_MIN))
}

/// How often one that was taken out is asked whether it is back: who waits for it is to hear of it within seconds.
fn out_gap(period: Duration) -> Duration {
    (period / 5).max(OUT_GAP_MIN).min(period)
}

/// A moment of a routine check, moved to the next of a common grid: a thousand services that are
/// checked every 10 s need 4 wake-ups a second and not 100, and what is done 25 times in a row costs less.
fn gathered(at: Duration, period: Duration) -> Duration {
    let grid = [GRID, GRID_MIDDLE, GRID_FINE].into_iter().find(|grid| period >= *grid * GRIDS);
    grid.map_or(at, |grid| super::wake::gathered(at, grid))
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Nothing,
    /// The success threshold was reached.
    Passed,
    /// The failure threshold was reached.
    Failed,
}

/// One probe of one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// When it runs next; none while an answer is awaited or where the kind speaks by itself.
    due: Option<Duration>,
    asked: Option<Asked>,
    successes: u32,
    failures: u32,
    /// Runs often until its first success.
    eager: bool,
    /// The moment of its first run.
    first: Duration,
    /// It has passed at least once.
    pub ever: bool,
    /// The last threshold that was reached was the good one.
    pub passing: bool,
    /// A check that was begun before this proves nothing by failing.
    forgiven_until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    at: Duration,
    /// The loop itself was late by more than a period: a failure proves nothing.
    late: bool,
}

impl Course {
    /// A startup or readiness probe of a process spawned at `spawned`, held back until `now`.
    pub fn eager(probe: &Probe, spawned: Duration, now: Duration) -> Course {
        let first = if probe.initial_delay.is_zero() { GAP_MIN } else { probe.initial_delay };
        Course { eager: true, ..Course::begin(probe, (spawned + first).max(now)) }
    }

    /// A liveness probe: first after `initialDelay`, else after one period.
    pub fn patient(probe: &Probe, now: Duration) -> Course {
        let first = if probe.initial_delay.is_zero() { probe.period } else { probe.initial_delay };
        Course::begin(probe, now + first)
    }

    fn begin(probe: &Probe, first: Duration) -> Course {
        Course {
            due: is_active(&probe.check).then_some(first),
            asked: None,
            successes: 0,
            failures: 0,
            eager: false,
            first,
            ever: false,
            passing: false,
            forgiven_until: Duration::ZERO,
        }
    }

    /// The machine slept, or the loop stood still: what is found within one period proves nothing.
    pub fn forgive(&mut self, probe: &Probe, now: Duration) {
        self.forgiven_until = now + probe.period;
    }

    /// When something is to be done about it next.
    pub fn deadline(&self, probe: &Probe) -> Option<Duration> {
        self.due.or_else(|| self.asked.map(|asked| asked.at + probe.timeout + LOST_AFTER))
    }

    /// True if it is to be run now; it then waits for the answer.
    pub fn take_due(&mut self, probe: &Probe, now: Duration) -> bool {
        if let Some(asked) = self.asked {
            if now < asked.at + probe.timeout + LOST_AFTER {
                return false;
            }
            self.asked = None;
            self.due = Some(now);
        }
        match self.due {
            Some(due) if due <= now => {
                self.due = None;
                self.asked = Some(Asked { at: now, late: now - due > probe.period });
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes an answer in; `unit` is random in [0, 1).
    pub fn answer(
        &mut self,
        probe: &Probe,
        passed: bool,
        counts: Counts,
        spawned: Duration,
        now: Duration,
        unit: f64,
    ) -> Turn {
        let asked = self.asked.take();
        let overdue = |asked: Asked| asked.late || now.saturating_sub(asked.at) > probe.timeout + probe.period;
        let forgiven = asked.is_some_and(overdue) || asked.map_or(now, |asked| asked.at) < self.forgiven_until;
        let enough = self.ever || self.successes + 1 >= probe.success_threshold;
        let first = passed && enough && (self.eager || !self.ever);
        self.eager &= !first;
        let turn = self.judge(probe, passed, counts, forgiven, now);
        // Of an edited check that has not passed yet the failures count as ever.
        let has_lost = self.failures >= probe.failure_threshold || self.successes > 0;
        let is_out = counts == Counts::AfterFirstSuccess && self.ever && !self.passing && has_lost;
        if is_active(&probe.check) {
            self.due = Some(if first {
                gathered(now + probe.period.mul_f64(unit), probe.period)
            } else if is_out {
                let gap = out_gap(probe.period);
                gathered(now + gap, gap)
            } else if self.ever || !self.eager {
                gathered(now + probe.period, probe.period)
            } else {
                spawned + next_age(&probe.check, probe.period, now.saturating_sub(spawned))
            });
        }
        turn
    }

    fn judge(&mut self, probe: &Probe, passed: bool, counts: Counts, forgiven: bool, now: Duration) -> Turn {
        if passed {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            if self.passing || self.successes < probe.success_threshold {
                return Turn::Nothing;
            }
            self.ever = true;
            self.passing = true;
            return Turn::Passed;
        }
        self.successes = 0;
        // However often it runs meanwhile: `period × failureThreshold` is what a start is given.
        let in_step = self.ever || !self.eager || now >= self.first + probe.period * self.failures;
        let counted = match counts {
            Counts::AfterFirstSuccess => self.ever,
            Counts::Always => in_step,
            Counts::Never => false,
        };
        if forgiven || !counted {
            return Turn::Nothing;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < probe.failure_threshold || (!self.passing && self.failures > probe.failure_threshold) {
            return Turn::Nothing;
        }
        self.passing = false;
        Turn::Failed
    }

    /// Another check passed before it: failures count, but it must pass itself. What speaks by itself has
    /// spoken, and will not say it twice.
    pub fn resumed(self, probe: &Probe) -> Course {
        Course { passing: !is_active(&probe.check), ever: true, ..self }
    }

    /// It passed, and goes on from there.
    pub fn carried(self) -> Course {
        Course { passing: true, ever: true, ..self }
    }

    /// And then failed as often as it may.
    pub fn lost(self) -> Course {
        Course { passing: false, ..self }
    }

    /// So many checks in a row had failed already.
    pub fn failed(self, failures: u32) -> Course {
        Course { failures, ..self }
    }

    /// Whether an answer can be its own: one that came twice, or that an earlier check was asked for, is not.
    pub fn awaits(&self, probe: &Probe) -> bool {
        self.asked.is_some() || !is_active(&probe.check)
    }

    pub fn successes(&self) -> u32 {
        self.successes
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Which failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Readiness: only those after the first success.
    AfterFirstSuccess,
    /// Startup and liveness.
    Always,
    /// One that could not be made.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::ProbePort;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn tcp() -> Probe {
        Probe {
            check: Check::TcpSocket { host: None, port: ProbePort::Number(80) },
            initial_delay: Duration::ZERO,
            period: ms(10_000),
            timeout: ms(1_000),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    fn exec() -> Probe {
        Probe { check: Check::Exec { command: vec!["true".into()] }, ..tcp() }
    }

    /// The moments at which it runs until it passes; it passes once `takes` have gone since the spawn.
    fn runs(probe: &Probe, spawned: Duration, takes: Duration) -> Vec<Duration> {
        let mut course = Course::eager(probe, spawned, spawned);
        let mut moments = Vec::new();
        loop {
            let now = course.deadline(probe).expect("it is not over");
            assert!(course.take_due(probe, now), "at {now:?}");
            moments.push(now - spawned);
            let passed = now >= spawned + takes;
            let turn = course.answer(probe, passed, Counts::AfterFirstSuccess, spawned, now, 0.5);
            assert_eq!(turn, if passed { Turn::Passed } else { Turn::Nothing }, "at {now:?}");
            if passed {
                return moments;
            }
        }
    }

    #[test]
    fn before_its_first_success_it_runs_each_time_its_age_has_grown_by_a_tenth() {
        for (age, apart) in
            [(0, 5), (5, 5), (50, 5), (60, 6), (1_000, 100), (9_000, 900), (10_000, 1_000), (600_000, 1_000)]
        {
            let next = next_age(&tcp().check, ms(10_000), ms(age));
            assert_eq!(next, ms(age + apart), "at {age} ms");
        }
        for (age, apart) in [(5, 100), (1_000, 100), (2_000, 200), (10_000, 1_000), (600_000, 1_000)] {
            let next = next_age(&exec().check, ms(10_000), ms(age));
            assert_eq!(next, ms(age + apart), "exec at {age} ms");
        }
    }

    #[test]
    fn it_is_never_slower_than_its_period_and_never_faster_than_5_ms() {
        assert_eq!(next_age(&tcp().check, ms(50), ms(9_000)), ms(9_050));
        assert_eq!(next_age(&exec().check, ms(50), ms(9_000)), ms(9_050));
        assert_eq!(next_age(&tcp().check, ms(1), ms(9_000)), ms(9_005));
    }

    #[test]
    fn the_first_run_is_5_ms_after_the_spawn_or_exactly_after_its_initial_delay() {
        let spawned = ms(77);
        assert_eq!(runs(&tcp(), spawned, Duration::ZERO), [ms(5)]);
        assert_eq!(runs(&exec(), spawned, Duration::ZERO), [ms(5)]);
        let delayed = Probe { initial_delay: ms(1_234), ..tcp() };
        assert_eq!(runs(&delayed, spawned, Duration::ZERO), [ms(1_234)]);
        // Held back by a startup probe: at once when that has passed.
        assert_eq!(Course::eager(&tcp(), spawned, spawned + ms(9)).deadline(&tcp()), Some(spawned + ms(9)));
    }

    #[test]
    fn one_that_is_out_is_known_to_be_back_within_a_fifth_of_its_period() {
        for (period, gap) in [(10_000, 2_000), (60_000, 12_000), (2_000, 1_000), (500, 500)] {
            let probe = Probe { period: ms(period), ..tcp() };
            let mut course = Course::eager(&probe, Duration::ZERO, Duration::ZERO).carried();
            let mut answer = |now, counts, passed| {
                course.take_due(&probe, now);
                course.answer(&probe, passed, counts, Duration::ZERO, now, 0.5);
                course.deadline(&probe).expect("it goes on") - now
            };
            let whole = |distance: Duration| distance >= probe.period && distance <= probe.period + GRID;
            let mut now = ms(1_000);
            for failures in 1..=5 {
                let distance = answer(now, Counts::AfterFirstSuccess, false);
                let meant = if failures < probe.failure_threshold { probe.period } else { ms(gap) };
                assert!(distance >= meant && distance <= meant + GRID, "{failures}: {distance:?}");
                now += distance;
            }
            assert!(answer(now, Counts::AfterFirstSuccess, true) <= probe.period + GRID);
            // What ends a process is asked no more often than that, nor is an edited check that is to pass yet.
            let edited = Course::eager(&probe, Duration::ZERO, Duration::ZERO).resumed(&probe);
            let ends = Course::eager(&probe, Duration::ZERO, Duration::ZERO).carried();
            for (mut course, counts, times) in [(ends, Counts::Always, 5), (edited, Counts::AfterFirstSuccess, 2)] {
                let mut now = ms(1_000);
                for _ in 0..times {
                    course.take_due(&probe, now);
                    course.answer(&probe, false, counts, Duration::ZERO, now, 0.5);
                    let distance = course.deadline(&probe).expect("it goes on") - now;
                    assert!(whole(distance), "{distance:?}");
                    now += distance;
                }
            }
        }
    }

    #[test]
    fn readiness_is_known_within_a_tenth_of_the_start_and_5_ms() {
        for takes in (0..9_000).step_by(7).map(ms) {
            let moments = runs(&tcp(), ms(100), takes);
            let known = *moments.last().expect("at least one");
            assert!(known <= takes.mul_f64(1.1) + ms(5), "ready after {takes:?}, known after {known:?}");
        }
        // A start of a minute costs some hundred checks and not thousands.
        let moments = runs(&tcp(), Duration::ZERO, ms(60_000));
        assert!(moments.len() < 120, "{}", moments.len());
        assert!(moments.windows(2).all(|two| two[1] - two[0] >= ms(5) && two[1] - two[0] <= ms(1_000)));
        let moments = runs(&exec(), Duration::ZERO, ms(60_000));
        assert!(moments.windows(2).all(|two| two[1] - two[0] >= ms(100) && two[1] - two[0] <= ms(1_000)));
    }

    #[test]
    fn after_its_first_success_it_runs_once_a_period_from_a_random_point_on() {
        let probe = tcp();
        for unit in [0.0, 0.25, 0.999] {
            let mut course = Course::eager(&probe, Duration::ZERO, Duration::ZERO);
            assert!(course.take_due(&probe, ms(5)));
            course.answer(&probe, true, Counts::AfterFirstSuccess, Duration::ZERO, ms(5), unit);
            let second = course.deadline(&probe).expect("it goes on");
            let wanted = ms(5) + probe.period.mul_f64(unit);
            assert!(second >= wanted && second <= wanted + GRID, "{unit}: {second:?}");
            assert!(course.take_due(&probe, second));
            course.answer(&probe, true, Counts::AfterFirstSuccess, Duration::ZERO, second, unit);
            let third = course.deadline(&probe).expect("it goes on");
            assert!(third >= second + probe.period && third <= second + probe.period + GRID, "{unit}: {third:?}");
        }
    }
}
