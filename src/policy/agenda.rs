//! Which scheduled times have been dealt with, and what the clock asks for now.
//!
//! The wall clock may be set forward and back by any amount, so one mark would not do: a clock that was
//! ten years ahead for a minute would silence a schedule for ten years. Kept are stretches of time in
//! which every scheduled time was dealt with, one after the other. What was passed over by a jump lies in
//! none; of that only the latest is due (no storm of runs that were missed), and it begins a new stretch.
//! So no scheduled time is due twice, and none is passed over without a count of it.

use jiff::Timestamp;

use super::calendar::Calendar;

/// Stretches kept: each begins with a missed run, so this is the last sixteen nights that a laptop slept.
const STRETCHES_MAX: usize = 16;
/// So many missed times are counted; beyond, there are "more".
pub const MISSED_COUNTED: u32 = 100;

/// From the first scheduled time (or the moment it began) to the last, in seconds since the epoch.
pub type Stretch = (i64, i64);

/// In order, none touching another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dealt(Vec<Stretch>);

/// What the clock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub due: Option<Due>,
    /// The next scheduled time after now.
    pub next: Option<Timestamp>,
    /// The clock was set back: what lies before this has been dealt with and does not come again.
    pub done_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    /// The first of the scheduled times before it that were missed too, and how many they are.
    pub missed: Option<(Timestamp, u32)>,
}

fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

impl Dealt {
    pub const fn new() -> Dealt {
        Dealt(Vec::new())
    }

    pub fn of(stretches: &[Stretch]) -> Dealt {
        let mut dealt = Dealt::default();
        for &(first, last) in stretches.iter().take(STRETCHES_MAX) {
            if first <= last && dealt.0.last().is_none_or(|before| before.1 < first) {
                dealt.0.push((first, last));
            }
        }
        dealt
    }

    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    /// Whether nothing is known of the time before now: then it begins now.
    pub fn is_new_at(&self, now: Timestamp) -> bool {
        self.0.first().is_none_or(|first| first.0 > now.as_second())
    }

    /// From now on; what lay before is neither due nor missed.
    pub fn begin(&mut self, now: Timestamp) {
        self.cover(now);
    }

    /// This one is dealt with, whatever lies before it.
    pub fn cover(&mut self, at: Timestamp) {
        let at = at.as_second();
        if self.0.iter().any(|stretch| stretch.0 <= at && at <= stretch.1) {
            return;
        }
        let place = self.0.partition_point(|stretch| stretch.0 <= at);
        self.0.insert(place, (at, at));
        if self.0.len() > STRETCHES_MAX {
            self.0.remove(0);
        }
    }

    /// A time that was due is dealt with.
    pub fn deal(&mut self, due: Due) {
        let at = due.at.as_second();
        let place = self.0.partition_point(|stretch| stretch.0 <= at);
        match (place.checked_sub(1), due.missed) {
            (Some(before), None) => self.0[before].1 = self.0[before].1.max(at),
            (Some(_) | None, _) => self.cover(due.at),
        }
    }

    /// None is due twice: what the stretches hold is left out.
    pub fn look(&self, calendar: &Calendar<'_>, now: Timestamp) -> Look {
        let second = now.as_second();
        let later = self.0.partition_point(|stretch| stretch.0 <= second);
        let Some(&(_, last)) = later.checked_sub(1).and_then(|at| self.0.get(at)) else {
            return Look { due: None, next: self.free(calendar, now, later), done_until: None };
        };
        let last = moment(last);
        if last > now {
            return Look { due: None, next: self.free(calendar, last, later), done_until: Some(last) };
        }
        let due = calendar.last(now).filter(|at| *at > last).map(|at| Due { at, missed: missed(calendar, last, at) });
        Look { due, next: self.free(calendar, now, later), done_until: None }
    }

    /// The next scheduled time that no stretch from the `later` on holds.
    fn free(&self, calendar: &Calendar<'_>, after: Timestamp, later: usize) -> Option<Timestamp> {
        let mut next = calendar.next(after)?;
        for &(first, last) in &self.0[later..] {
            if next.as_second() < first {
                break;
            }
            if next.as_second() <= last {
                next = calendar.next(moment(last))?;
            }
        }
        Some(next)
    }
}

/// Scheduled times between two.
fn missed(calendar: &Calendar<'_>, after: Timestamp, before: Timestamp) -> Option<(Timestamp, u32)> {
    let mut at = calendar.next(after).filter(|at| *at < before)?;
    let first = at;
    for count in 1..=MISSED_COUNTED {
        match calendar.next(at) {
            Some(next) if next < before => at = next,
            Some(_) | None => return Some((first, count)),
        }
    }
    Some((first, MISSED_COUNTED + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::model::cron::Cron;
    use crate::model::spec::{Concurrency, Schedule};
    use crate::model::zone::Zone;

    fn schedule(cron: &str) -> Schedule {
        Schedule {
            cron: Cron::parse(cron).expect(cron),
            time_zone: Zone::find("Europe/Berlin").expect("a zone"),
            concurrency_policy: Concurrency::Forbid,
            starting_deadline: None,
            history_limit: 3,
        }
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}Z").parse().expect("a moment")
    }

    struct Day {
        schedule: Schedule,
        dealt: Dealt,
    }

    impl Day {
        fn begun(cron: &str, now: &str) -> Day {
            let mut dealt = Dealt::default();
            dealt.begin(at(now));
            Day { schedule: schedule(cron), dealt }
        }

        /// What is due now, and is dealt with; and what is next.
        fn look(&mut self, now: &str) -> (Option<Due>, Option<Timestamp>) {
            let look = self.dealt.look(&Calendar::of(&self.schedule), at(now));
            if let Some(due) = look.due {
                self.dealt.deal(due);
            }
            (look.due, look.next)
        }

        fn due(&mut self, now: &str) -> Option<Due> {
            self.look(now).0
        }
    }

    fn alone(moment: &str) -> Option<Due> {
        Some(Due { at: at(moment), missed: None })
    }

    #[test]
    fn each_time_is_due_once_and_what_lies_before_the_beginning_never() {
        let mut day = Day::begun("*/10 * * * *", "23T12:00:30");
        assert_eq!(day.look("23T12:00:31"), (None, Some(at("23T12:10"))));
        assert_eq!(day.due("23T12:10:00.2"), alone("23T12:10"));
        assert_eq!(day.look("23T12:10:00.3"), (None, Some(at("23T12:20"))));
        assert_eq!(day.due("23T12:20"), alone("23T12:20"));
        assert_eq!(day.dealt.stretches().len(), 1);
    }

    #[test]
    fn of_what_was_missed_only_the_last_is_due_and_the_others_are_counted() {
        let mut day = Day::begun("*/10 * * * *", "23T12:00");
        assert_eq!(day.due("23T12:45"), Some(Due { at: at("23T12:40"), missed: Some((at("23T12:10"), 3)) }));
        assert_eq!(day.due("23T12:46"), None);
        assert_eq!(day.due("24T12:46").and_then(|due| due.missed), Some((at("23T12:50"), MISSED_COUNTED + 1)));
    }

    #[test]
    fn a_clock_that_is_set_back_runs_nothing_twice() {
        let mut day = Day::begun("*/10 * * * *", "23T12:00");
        for moment in ["23T12:10", "23T12:20", "23T12:30"] {
            assert_eq!(day.due(moment), alone(moment));
        }
        let look = day.dealt.look(&Calendar::of(&day.schedule), at("23T12:12"));
        assert_eq!((look.due, look.next, look.done_until), (None, Some(at("23T12:40")), Some(at("23T12:30"))));
        assert_eq!(day.due("23T12:30"), None);
        assert_eq!(day.due("23T12:40"), alone("23T12:40"));
    }

    #[test]
    fn a_clock_that_was_years_ahead_for_a_minute_silences_nothing() {
        let mut day = Day::begun("*/10 * * * *", "23T12:00");
        assert_eq!(day.due("23T12:10"), alone("23T12:10"));
        let ahead: Timestamp = "2036-11-23T12:11:00Z".parse().expect("a moment");
        let look = day.dealt.look(&Calendar::of(&day.schedule), ahead);
        day.dealt.deal(look.due.expect("the last of ten years"));

        assert_eq!(day.look("23T12:12"), (None, Some(at("23T12:20"))));
        assert_eq!(day.due("23T12:20"), alone("23T12:20"));
        // What is run by then is left out when its time comes.
        let next = day.dealt.look(&Calendar::of(&day.schedule), "2036-11-23T12:09:00Z".parse().expect("a moment")).next;
        assert_eq!(next, Some("2036-11-23T12:20:00Z".parse().expect("a moment")));
    }

    #[test]
    fn before_all_that_is_known_it_begins_anew() {
        let mut day = Day::begun("*/10 * * * *", "23T12:00");
        assert!(!day.dealt.is_new_at(at("23T12:00:00.5")) && day.dealt.is_new_at(at("22T12:00")));
        day.dealt.begin(at("22T12:00"));
        assert_eq!(day.due("22T12:10"), alone("22T12:10"));
    }

    #[test]
    fn only_so_many_stretches_are_kept_and_what_is_read_back_is_in_order() {
        let mut dealt = Dealt::default();
        for hour in 0..40 {
            dealt.cover(Timestamp::from_second(hour * 3_600).expect("in range"));
        }
        assert_eq!(dealt.stretches().len(), STRETCHES_MAX);
        assert_eq!(dealt.stretches().last(), Some(&(39 * 3_600, 39 * 3_600)));
        assert_eq!(Dealt::of(dealt.stretches()), dealt);
        assert_eq!(Dealt::of(&[(5, 3), (10, 20), (15, 30), (40, 50)]).stretches(), [(10, 20), (40, 50)]);
    }

    proptest! {
        /// However the clock is set: nothing is due twice, and what it passed over is counted.
        #[test]
        fn no_time_is_due_twice_and_none_is_lost_without_being_counted(
            cron in prop::sample::select(vec!["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */2 * * *"]),
            moves in prop::collection::vec((0u8..20, -100_000i64..100_000), 1..200),
        ) {
            let schedule = schedule(cron);
            let calendar = Calendar::of(&schedule);
            let mut now = at("23T12:00:30");
            let mut dealt = Dealt::default();
            dealt.begin(now);
            let mut begun = vec![now];
            let (mut ran, mut told, mut jumps) = (BTreeSet::new(), Vec::new(), 0);
            for (kind, size) in moves {
                let before = now;
                // Mostly it goes on; now and then it is set, by a day or by years.
                let step = match kind {
                    0 if jumps < 12 => size,
                    1 if jumps < 12 => size * 3_000,
                    _ => size.rem_euclid(59) + 1,
                };
                jumps += i32::from(kind < 2 && jumps < 12);
                now = now.checked_add(SignedDuration::from_secs(step)).expect("this millennium");
                if dealt.is_new_at(now) {
                    dealt.begin(now);
                    begun.push(now);
                }
                let look = dealt.look(&calendar, now);
                if let Some(due) = look.due {
                    prop_assert!(ran.insert(due.at), "{} is due twice", due.at);
                    prop_assert!(due.at <= now);
                    dealt.deal(due);
                    told.extend(due.missed.map(|(first, _)| first..due.at));
                }
                prop_assert_eq!(dealt.look(&calendar, now).due, None);
                prop_assert!(look.next.is_none_or(|next| next > now && !ran.contains(&next)));
                // What lies before a beginning is not missed, also when the clock comes to it once more.
                let began = begun.iter().any(|at| before <= *at && *at <= now);
                if began || !(0..1_000_000).contains(&step) {
                    continue;
                }
                let mut passed = calendar.next(before);
                while let Some(at) = passed.filter(|at| *at <= now) {
                    let counted = told.iter().any(|span: &std::ops::Range<Timestamp>| span.contains(&at));
                    prop_assert!(ran.contains(&at) || counted, "{} is lost", at);
                    passed = calendar.next(at);
                }
            }
        }
    }
}
