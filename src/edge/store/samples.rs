//! What is seen of services between two writes: gathered in memory, a bucket each.
//!
//! A probe is no write. The loop hands in a [`Sample`] whenever something was seen, and once a minute
//! (and before somebody asks, and at the end) takes the buckets out for the store. What a killed
//! controller had gathered is lost with it: less than a minute of numbers, no fact.
//!
//! Lengths of time are told by the monotonic clock, so that a clock that is set does not make a service
//! available for a year; which minute a bucket belongs to is told by the wall clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::history::{EXITS_OF_ONE, Minute};
use crate::model::history::Bucket;
use crate::model::name::Name;
use crate::model::time::Now;
use crate::model::view::ExitView;

/// How long a bucket is gathered.
const MINUTE: Duration = Duration::from_secs(60);
/// One exit a second of each service is written at once; the rest of a storm waits for the minute.
const EXIT_PAUSE: Duration = Duration::from_secs(1);
/// Services that may go within a minute and leave their numbers: the largest node there is.
const GONE_MAX: usize = 10_000;

/// What is seen of a service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub at: Now,
    pub service: Name,
    /// From now on it can be used, or should be usable and is not.
    pub ready: bool,
    /// From 0 to 100.
    pub score: Option<u8>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// In that time, where it was timed.
    Passed(Option<Duration>),
    Failed,
}

/// What was seen of all services since the last write.
#[derive(Debug, Default)]
pub struct Samples {
    series: HashMap<Name, Series>,
    /// The wall clock's minute in which gathering began, and when it ends.
    opened: Option<(i64, Duration)>,
    /// Of services that went since the last write.
    gone: Minute,
}

#[derive(Debug, Default)]
struct Series {
    seen: Bucket,
    since: Duration,
    state: State,
    /// As it was told last.
    score: Option<u8>,
    /// The count that the next one is compared with.
    restarts: Option<u64>,
    exits: VecDeque<ExitView>,
    /// When it was, and how many lines of its output were known.
    last_exit: Option<(Timestamp, usize)>,
    exit_written: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing is expected of it, or nothing is known yet.
    #[default]
    Resting,
    Up,
    Down,
}

impl Series {
    /// Credits the time that has passed to what was.
    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_millis() as u64;
        match self.state {
            State::Up => self.seen.up_ms += passed,
            State::Down => self.seen.down_ms += passed,
            State::Resting => {}
        }
        // What is left of a millisecond counts next time: many short stretches lose nothing.
        self.since = if self.state == State::Resting { now } else { self.since + Duration::from_millis(passed) };
    }

    fn hand_over(&mut self, name: &Name, now: Duration, to: &mut Minute) {
        self.pass(now);
        let seen = std::mem::take(&mut self.seen);
        if seen.restarts > 0 {
            to.counts.extend(self.restarts.map(|count| (name.clone(), count)));
        }
        if !seen.is_empty() {
            to.buckets.push((name.clone(), seen));
        }
        to.exits.extend(self.exits.drain(..).map(|exit| (name.clone(), exit)));
    }

    fn become_(&mut self, state: State, now: Duration) {
        self.pass(now);
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

impl Samples {
    /// What is counted already: further restarts are counted from there.
    pub fn known(&mut self, service: Name, restarts: u64) {
        self.series.entry(service).or_default().restarts = Some(restarts);
    }

    pub fn take(&mut self, sample: Sample) {
        let Sample { at, service, ready, score } = sample;
        let series = self.of(service, at);
        series.become_(if ready { State::Up } else { State::Down }, at.mono);
        series.score = score;
        score.into_iter().for_each(|score| series.seen.scored(score));
    }

    /// A check has answered, of a service that is as it was when it was seen last.
    pub fn checked(&mut self, service: &Name, found: Checked) {
        let Some(series) = self.series.get_mut(service.as_str()).filter(|series| series.state != State::Resting) else {
            return;
        };
        series.score.into_iter().for_each(|score| series.seen.scored(score));
        match found {
            Checked::Passed(latency) => {
                series.seen.probes_ok += 1;
                latency.into_iter().for_each(|latency| series.seen.answered_in(latency));
            }
            Checked::Failed => series.seen.probes_failed += 1,
        }
    }

    /// From now on nothing is expected of it: that time is neither good nor bad.
    pub fn rest(&mut self, service: &Name, at: Now) {
        self.of(service.clone(), at).become_(State::Resting, at.mono);
    }

    /// Its restarts, counted from its first day. A service that nothing is counted of yet begins with
    /// these: the count comes back, to be written at once, so that what is killed with this controller
    /// is counted by the next.
    pub fn restarts(&mut self, service: &Name, count: u64, at: Now) -> Option<u64> {
        let series = self.of(service.clone(), at);
        match series.restarts.replace(count) {
            Some(before) => {
                series.seen.restarts += count.saturating_sub(before);
                None
            }
            None => Some(count),
        }
    }

    /// An exit that may have been told before, without its last output, and others since. It comes back where it is
    /// to be written at once.
    pub fn exit(&mut self, service: &Name, exit: ExitView, at: Now) -> Option<ExitView> {
        let series = self.of(service.clone(), at);
        if let Some(waits) = series.exits.iter_mut().find(|waits| waits.at == exit.at) {
            *waits = exit;
            return None;
        }
        let told = (exit.at, exit.output.len());
        match series.last_exit {
            Some(newest) if newest == told => return None,
            Some((newest, _)) if newest > exit.at => return Some(exit),
            Some((newest, _)) => {
                series.last_exit = Some(told);
                if newest == exit.at {
                    return Some(exit);
                }
            }
            None => series.last_exit = Some(told),
        }
        if series.exit_written.is_none_or(|last| at.mono >= last + EXIT_PAUSE) {
            series.exit_written = Some(at.mono);
            return Some(exit);
        }
        if series.exits.len() == EXITS_OF_ONE {
            series.exits.pop_front();
        }
        series.exits.push_back(exit);
        None
    }

    /// The service is gone; what was seen of it stays seen.
    pub fn forget(&mut self, service: &Name, at: Now) {
        let Some(mut series) = self.series.remove(service.as_str()) else { return };
        if self.gone.buckets.len() < GONE_MAX {
            self.open(at);
            // The next of that name begins at nothing, and may have been told already.
            series.restarts = None;
            series.hand_over(service, at.mono, &mut self.gone);
        }
    }

    /// When the minute is over.
    pub fn next_due(&self) -> Option<Duration> {
        self.opened.map(|(_, due)| due)
    }

    /// What was gathered; gathering goes on with empty buckets.
    pub fn close(&mut self, now: Now) -> Option<Minute> {
        let (at, _) = self.opened.take()?;
        let mut minute = Minute { at, ..std::mem::take(&mut self.gone) };
        for (name, series) in &mut self.series {
            series.hand_over(name, now.mono, &mut minute);
        }
        // A node on which nothing is expected of any service need not be woken each minute.
        if self.series.values().any(|series| series.state != State::Resting) {
            self.open(now);
        }
        Some(minute)
    }

    fn of(&mut self, service: Name, now: Now) -> &mut Series {
        self.open(now);
        self.series.entry(service).or_insert_with(|| Series { since: now.mono, ..Series::default() })
    }

    fn open(&mut self, now: Now) {
        if self.opened.is_none() {
            let second = now.wall.as_second();
            let left = MINUTE - Duration::from_secs(second.rem_euclid(60) as u64);
            self.opened = Some((second.div_euclid(60), now.mono + left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after the machine's start; its wall clock says 11:00:00 then.
    fn now(secs: f64) -> Now {
        let mono = Duration::from_secs_f64(secs);
        let wall = "2026-11-23T11:00:00Z".parse::<Timestamp>().expect("a moment");
        Now { mono, wall: wall.checked_add(jiff::SignedDuration::try_from(mono).expect("small")).expect("in range") }
    }

    fn name() -> Name {
        Name::parse("web").expect("a name")
    }

    fn sample(secs: f64, ready: bool) -> Sample {
        Sample { at: now(secs), service: name(), ready, score: None }
    }

    fn bucket(minute: &Minute) -> Bucket {
        minute.buckets[0].1
    }

    #[test]
    fn time_is_credited_to_what_the_service_was() {
        let mut samples = Samples::default();
        samples.take(sample(10.0, false));
        samples.take(sample(12.5, true));
        samples.take(sample(30.0, true));
        samples.rest(&name(), now(40.0));
        samples.take(sample(50.0, true));
        let seen = samples.close(now(60.0)).expect("open");
        assert_eq!((bucket(&seen).down_ms, bucket(&seen).up_ms), (2_500, 37_500));
        let next = samples.close(now(120.0)).expect("opened again");
        assert_eq!((next.at, bucket(&next).up_ms), (seen.at + 1, 60_000));
    }

    #[test]
    fn the_minute_ends_with_the_wall_clocks() {
        let mut samples = Samples::default();
        assert_eq!(samples.next_due(), None);
        samples.take(sample(10.0, true));
        assert_eq!(samples.next_due(), Some(Duration::from_secs(60)));
        // Somebody asks in between: the rest of the minute comes later.
        assert_eq!(bucket(&samples.close(now(20.0)).expect("open")).up_ms, 10_000);
        assert_eq!(samples.next_due(), Some(Duration::from_secs(60)));
        assert_eq!(bucket(&samples.close(now(60.0)).expect("open")).up_ms, 40_000);
    }

    #[test]
    fn one_that_goes_leaves_what_was_seen_of_it() {
        let mut samples = Samples::default();
        samples.take(sample(1.0, true));
        samples.known(name(), 0);
        samples.restarts(&name(), 3, now(1.0));
        samples.forget(&name(), now(3.0));
        samples.take(sample(4.0, true));
        let seen = samples.close(now(5.0)).expect("open");
        assert_eq!((seen.buckets[0].1.restarts, seen.counts.len()), (3, 0), "the next of that name begins at nothing");
        assert_eq!(seen.buckets.iter().map(|(_, bucket)| bucket.up_ms).collect::<Vec<_>>(), [2_000, 1_000]);
    }

    #[test]
    fn where_nothing_is_expected_nobody_is_woken() {
        let mut samples = Samples::default();
        samples.take(sample(1.0, true));
        samples.rest(&name(), now(2.0));
        assert_eq!(bucket(&samples.close(now(60.0)).expect("open")).up_ms, 1_000);
        assert_eq!(samples.next_due(), None);
        assert_eq!(samples.close(now(61.0)), None);
    }

    #[test]
    fn probes_scores_and_latencies_are_summed() {
        let mut samples = Samples::default();
        for (score, micros) in [(100, 200), (40, 400)] {
            samples.take(Sample { score: Some(score), ..sample(1.0, true) });
            samples.checked(&name(), Checked::Passed(Some(Duration::from_micros(micros))));
        }
        samples.checked(&name(), Checked::Passed(None));
        samples.checked(&name(), Checked::Failed);
        let seen = bucket(&samples.close(now(2.0)).expect("open"));
        assert_eq!((seen.probes_ok, seen.probes_failed), (3, 1));
        // Each check is a look at the score, too.
        assert_eq!((seen.score.mean(), seen.score.extreme), (Some(60.0), 40));
        assert_eq!((seen.latency.mean(), seen.latency.extreme), (Some(300.0), 400));
        samples.rest(&name(), now(3.0));
        samples.checked(&name(), Checked::Failed);
        assert_eq!(bucket(&samples.close(now(4.0)).expect("open")).probes_failed, 0, "nothing is expected of it");
    }

    #[test]
    fn restarts_count_from_what_was_known() {
        let mut samples = Samples::default();
        samples.known(name(), 5);
        assert_eq!(samples.restarts(&name(), 7, now(1.0)), None);
        assert_eq!(samples.restarts(&name(), 7, now(2.0)), None);
        let other = Name::parse("unknown").expect("a name");
        assert_eq!(samples.restarts(&other, 40, now(2.0)), Some(40), "nothing is counted of it yet");
        samples.restarts(&other, 41, now(3.0));
        let mut seen = samples.close(now(4.0)).expect("open");
        seen.buckets.sort_by(|a, b| a.0.cmp(&b.0));
        seen.counts.sort();
        assert_eq!(seen.buckets.iter().map(|(_, bucket)| bucket.restarts).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(seen.counts, [(other, 41), (name(), 7)]);
        assert_eq!(samples.close(now(5.0)), None, "nothing is expected of either");
    }

    #[test]
    fn a_storm_of_exits_is_written_once_a_second_and_its_newest_with_the_minute() {
        let mut samples = Samples::default();
        let exit = |n: i64| ExitView {
            code: Some(1),
            signal: None,
            reason: None,
            by: None,
            at: Timestamp::from_microsecond(n).expect("in range"),
            ran_for: Duration::ZERO,
            output: Vec::new(),
        };
        assert!(samples.exit(&name(), exit(0), now(1.0)).is_some());
        assert!(samples.exit(&name(), exit(0), now(5.0)).is_none(), "told before");
        let last_words = ExitView { output: vec!["bye".into()], ..exit(0) };
        assert_eq!(samples.exit(&name(), last_words.clone(), now(5.0)), Some(last_words), "and its output came later");
        for n in 1..100 {
            samples.exit(&name(), exit(n), now(1.5));
        }
        let last_words = ExitView { output: vec!["bye".into()], ..exit(99) };
        assert_eq!(samples.exit(&name(), last_words.clone(), now(1.6)), None, "it waits with its exit");
        assert!(samples.exit(&name(), exit(100), now(2.0)).is_some());
        let late = ExitView { output: vec!["bye".into()], ..exit(98) };
        assert_eq!(samples.exit(&name(), late.clone(), now(2.1)), None, "nor is it lost when others have ended since");
        let written = ExitView { output: vec!["hello".into()], ..exit(0) };
        assert_eq!(samples.exit(&name(), written.clone(), now(2.1)), Some(written), "it does not wait any more");
        let kept = samples.close(now(60.0)).expect("open").exits;
        assert_eq!(kept.len(), EXITS_OF_ONE);
        assert_eq!(kept[EXITS_OF_ONE - 2..], [(name(), late), (name(), last_words)]);
    }
}
