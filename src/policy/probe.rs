//! When a check runs next, and what its answers mean.
//!
//! Until a readiness or startup probe has passed for the first time it runs 5 ms after the spawn
//! and then each time the age has grown by a tenth, so that a service is known to be ready no later
//! than 1.1 × its own start time + 5 ms. After that it runs once a period, from a random point on.

use std::time::Duration;

use crate::model::spec::{Check, Probe};

/// Least distance of two runs before the first success.
const GAP_MIN: Duration = Duration::from_millis(5);
/// The same for exec: a fork and an exec each time.
const GAP_MIN_EXEC: Duration = Duration::from_millis(100);
/// Largest distance before the first success.
const GAP_MAX: Duration = Duration::from_secs(1);
/// Routine checks of at least this period meet on a grid of this width, at most a twentieth of it.
const GATHERED_FROM: Duration = Duration::from_secs(1);
const GRID: Duration = Duration::from_millis(50);
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

/// A moment of a routine check, moved to the next of a common grid: a thousand services that are
/// checked every 10 s need 20 wake-ups a second and not 100.
fn gathered(at: Duration, period: Duration) -> Duration {
    if period < GATHERED_FROM { at } else { super::wake::gathered(at, GRID) }
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
        let first = passed && !self.ever && self.successes + 1 >= probe.success_threshold;
        if is_active(&probe.check) {
            self.due = Some(if first {
                gathered(now + probe.period.mul_f64(unit), probe.period)
            } else if self.ever || !self.eager {
                gathered(now + probe.period, probe.period)
            } else {
                spawned + next_age(&probe.check, probe.period, now.saturating_sub(spawned))
            });
        }
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

    /// It passed in an earlier controller's time: failures count, but it must pass again. What speaks
    /// by itself has spoken, and will not say it twice.
    pub fn resumed(self, probe: &Probe) -> Course {
        Course { passing: !is_active(&probe.check), ever: true, ..self }
    }

    /// Whether an answer can be its own: one that came twice, or that an earlier check was asked for, is not.
    pub fn awaits(&self, probe: &Probe) -> bool {
        self.asked.is_some() || !is_active(&probe.check)
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
}
