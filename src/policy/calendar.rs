//! The moments at which a schedule falls due, by the clock of its zone.
//!
//! What a clock that is put forward or back makes of them is declared here:
//! - A schedule with fixed times (minute and hour written out, no `*`, no `/`) runs once at each of them
//!   every day. A time that the clock leaves out runs at the first moment after; one that the clock shows
//!   twice runs the first time.
//! - Any other runs as the clock shows it: what is left out is left out, what comes twice runs twice, so
//!   that `*/15` is a quarter of an hour on every day.

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::model::cron::Cron;
use crate::model::spec::Schedule;

/// A cron expression in its zone.
#[derive(Debug, Clone, Copy)]
pub struct Calendar<'a> {
    cron: &'a Cron,
    zone: &'a TimeZone,
}

impl<'a> Calendar<'a> {
    pub fn of(schedule: &'a Schedule) -> Calendar<'a> {
        Calendar { cron: &schedule.cron, zone: schedule.time_zone.rules() }
    }

    /// The first moment after another; none within the reach of the calendar.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.cron.has_fixed_times() { self.next_fixed(after) } else { self.next_shown(after) }
    }

    /// The last moment that is not after another.
    pub fn last(&self, until: Timestamp) -> Option<Timestamp> {
        if self.cron.has_fixed_times() { self.last_fixed(until) } else { self.last_shown(until) }
    }

    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(after);
        loop {
            civil = self.cron.next(civil)?;
            // What comes for the second time has run.
            match self.moment(civil)? {
                moment if moment > after => return Some(moment),
                _ => {}
            }
        }
    }

    fn last_fixed(&self, until: Timestamp) -> Option<Timestamp> {
        let civil = self.zone.to_datetime(until);
        let mut civil = match self.zone.to_ambiguous_timestamp(civil).offset() {
            // The clock has shown later times before it was put back.
            AmbiguousOffset::Fold { before, .. } => before.to_datetime(until),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => civil,
        };
        loop {
            civil = self.cron.last(civil)?;
            match self.moment(civil)? {
                moment if moment <= until => return Some(moment),
                _ => civil = civil.checked_sub(SignedDuration::from_secs(1)).ok()?,
            }
        }
    }

    /// When a fixed time comes.
    fn moment(&self, civil: jiff::civil::DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
            // By the offset that holds after the change it lies before it.
            AmbiguousOffset::Gap { after, .. } => {
                let before_change = after.to_timestamp(civil).ok()?;
                self.zone.following(before_change).next().map(|change| change.timestamp())
            }
        }
    }

    /// Between two changes of the clock it goes evenly.
    fn next_shown(&self, after: Timestamp) -> Option<Timestamp> {
        let (mut from, mut change) = (after, self.zone.following(after).next());
        let mut civil = self.zone.to_datetime(after);
        loop {
            let offset = self.zone.to_offset(from);
            let found = self.cron.next(civil).and_then(|civil| offset.to_timestamp(civil).ok());
            match change {
                Some(at) if found.is_none_or(|found| found >= at.timestamp()) => {
                    from = at.timestamp();
                    // The moment of the change may be one.
                    civil = at.offset().to_datetime(from).checked_sub(SignedDuration::from_secs(1)).ok()?;
                    change = self.zone.following(from).next();
                }
                Some(_) | None => return found,
            }
        }
    }

    fn last_shown(&self, until: Timestamp) -> Option<Timestamp> {
        let second = SignedDuration::from_secs(1);
        let mut until = until;
        loop {
            let offset = self.zone.to_offset(until);
            let began = self.zone.preceding(until.checked_add(second).ok()?).next().map(|change| change.timestamp());
            let found = self.cron.last(offset.to_datetime(until)).and_then(|civil| offset.to_timestamp(civil).ok());
            match began {
                Some(began) if found.is_none_or(|found| found < began) => until = began.checked_sub(second).ok()?,
                Some(_) | None => return found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::spec::Concurrency;
    use crate::model::zone::Zone;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule {
            cron: Cron::parse(cron).expect(cron),
            time_zone: Zone::find(zone).expect(zone),
            concurrency_policy: Concurrency::Forbid,
            starting_deadline: None,
            history_limit: 3,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    /// All from one moment to another, forwards; and the same backwards.
    fn between(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let calendar = Calendar::of(schedule);
        let (from, until) = (at(from), at(until));
        let forwards = std::iter::successors(calendar.next(from), |at| calendar.next(*at));
        let forwards: Vec<Timestamp> = forwards.take_while(|at| *at <= until).collect();
        let before = |at: &Timestamp| calendar.last(at.checked_sub(SignedDuration::from_secs(1)).ok()?);
        let mut backwards: Vec<Timestamp> =
            std::iter::successors(calendar.last(until), before).take_while(|at| *at > from).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards, "{schedule:?}");
        forwards.iter().map(|at| at.strftime("%m-%d %H:%M").to_string()).collect()
    }

    #[test]
    fn in_spring_a_time_that_is_left_out_runs_at_the_first_moment_after() {
        // 02:00 is 03:00, at 01:00 UTC.
        let berlin = |cron| between(&schedule(cron, "Europe/Berlin"), "2026-03-28T00:00Z", "2026-03-30T12:00Z");
        assert_eq!(berlin("30 2 * * *"), ["03-28 01:30", "03-29 01:00", "03-30 00:30"]);
        assert_eq!(berlin("0,30 2 * * *"), ["03-28 01:00", "03-28 01:30", "03-29 01:00", "03-30 00:00", "03-30 00:30"]);
        assert_eq!(berlin("30 2,14 29 * *"), ["03-29 01:00", "03-29 12:30"]);
        assert_eq!(berlin("0 3 * * *"), ["03-28 02:00", "03-29 01:00", "03-30 01:00"]);
        // At midnight; by half an hour; and a whole day, when Samoa went over the date line.
        let cairo = schedule("@daily", "Africa/Cairo");
        assert_eq!(
            between(&cairo, "2026-04-22T12:00Z", "2026-04-24T22:00Z"),
            ["04-22 22:00", "04-23 22:00", "04-24 21:00"]
        );
        let howe = schedule("15 2 * * *", "Australia/Lord_Howe");
        assert_eq!(
            between(&howe, "2026-10-02T12:00Z", "2026-10-04T16:00Z"),
            ["10-02 15:45", "10-03 15:30", "10-04 15:15"]
        );
        let apia = schedule("0 3 * * *", "Pacific/Apia");
        assert_eq!(
            between(&apia, "2011-12-29T12:00Z", "2011-12-30T14:00Z"),
            ["12-29 13:00", "12-30 10:00", "12-30 13:00"]
        );
    }

    #[test]
    fn in_autumn_a_time_that_comes_twice_runs_the_first_time() {
        // 03:00 is 02:00, at 01:00 UTC.
        let berlin = |cron| between(&schedule(cron, "Europe/Berlin"), "2026-10-24T00:00Z", "2026-10-26T12:00Z");
        assert_eq!(berlin("30 2 * * *"), ["10-24 00:30", "10-25 00:30", "10-26 01:30"]);
        assert_eq!(berlin("0,59 2 25 * *"), ["10-25 00:00", "10-25 00:59"]);
        assert_eq!(berlin("0 3 * * *"), ["10-24 01:00", "10-25 02:00", "10-26 02:00"]);
        let york = schedule("30 1 * * *", "America/New_York");
        assert_eq!(between(&york, "2026-11-01T00:00Z", "2026-11-02T12:00Z"), ["11-01 05:30", "11-02 06:30"]);
    }

    #[test]
    fn stars_and_steps_follow_the_clock_through_both() {
        let spring = |cron| between(&schedule(cron, "Europe/Berlin"), "2026-03-29T00:00Z", "2026-03-29T02:30Z");
        let autumn = |cron| between(&schedule(cron, "Europe/Berlin"), "2026-10-24T23:59Z", "2026-10-25T02:30Z");
        let quarters = ["00:15", "00:30", "00:45", "01:00", "01:15", "01:30", "01:45", "02:00", "02:15", "02:30"];
        assert_eq!(spring("*/15 * * * *"), quarters.map(|time| format!("03-29 {time}")));
        assert_eq!(autumn("*/15 * * * *")[1..], quarters.map(|time| format!("10-25 {time}")));
        assert_eq!(spring("30 * * * *"), ["03-29 00:30", "03-29 01:30", "03-29 02:30"]);
        assert_eq!(autumn("30 * * * *"), ["10-25 00:30", "10-25 01:30", "10-25 02:30"]);
        // 02:00 is left out in spring and comes twice in autumn.
        assert_eq!(spring("0 */2 * * *"), ["03-29 02:00"]);
        assert_eq!(autumn("0 */2 * * *"), ["10-25 00:00", "10-25 01:00"]);
    }

    #[test]
    fn a_calendar_ends_where_time_does() {
        let daily = schedule("0 3 * * *", "Europe/Berlin");
        assert_eq!(Calendar::of(&daily).next(Timestamp::MAX), None);
        assert_eq!(Calendar::of(&daily).last(Timestamp::MIN), None);
        let quarterly = schedule("*/15 * * * *", "Europe/Berlin");
        assert_eq!(Calendar::of(&quarterly).next(Timestamp::MAX), None);
        assert_eq!(Calendar::of(&quarterly).last(Timestamp::MIN), None);
    }

    /// The clock of a zone, minute by minute, and what a schedule makes of it: slow and obvious. It looks from a
    /// minute earlier on: at the very moment of a change only the clock before tells what was left out.
    fn by_hand(schedule: &Schedule, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let mut found = from_a_minute_before(schedule, from, minutes);
        found.retain(|at| *at >= from);
        found
    }

    fn from_a_minute_before(schedule: &Schedule, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let (cron, zone) = (&schedule.cron, schedule.time_zone.rules());
        let all: Vec<(Timestamp, jiff::civil::DateTime)> = (-1..minutes)
            .map(|minute| from.checked_add(SignedDuration::from_mins(minute)).expect("in range"))
            .map(|at| (at, zone.to_datetime(at)))
            .collect();
        let is_due = |civil: jiff::civil::DateTime| cron.last(civil) == Some(civil);
        if !cron.has_fixed_times() {
            return all.into_iter().filter(|(_, civil)| is_due(*civil)).map(|(at, _)| at).collect();
        }
        // Each time of the calendar, when the clock shows it or a later one for the first time.
        let mut found = Vec::new();
        let (mut civil, mut shown) = (all[0].1, all.iter());
        let mut now = shown.next();
        while let Some((at, clock)) = now {
            if *clock < civil {
                now = shown.next();
            } else {
                found.extend(is_due(civil).then_some(*at));
                civil = civil.checked_add(SignedDuration::from_mins(1)).expect("in range");
            }
        }
        found.dedup();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn every_schedule_in_every_zone_is_what_one_finds_by_hand(
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu",
                "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll", "Pacific/Apia",
            ]),
            cron in prop::sample::select(vec![
                "30 2 * * *", "0,30 1-3 * * *", "*/15 * * * *", "0 * * * *", "0 */2 * * *", "@daily", "59 1,2 * * *",
                "5/20 0-4 * * *", "* 2 * * *", "15 2 * * sun", "0 12 1,15 * *",
            ]),
            (year, change) in (2010i16..2032, 0usize..3),
            before in 0i64..2_000,
        ) {
            let schedule = schedule(cron, zone);
            let new_year = at(&format!("{year}-01-01T00:00Z"));
            let rules = schedule.time_zone.rules();
            let changes: Vec<Timestamp> = rules.following(new_year).take(3).map(|change| change.timestamp()).collect();
            let change = changes.get(change).copied().unwrap_or(new_year);
            let start = Timestamp::from_second(change.as_second().div_euclid(60) * 60 - before * 60).expect("in range");
            let found = by_hand(&schedule, start, 4_000);
            let calendar = Calendar::of(&schedule);
            let mut moment = start.checked_sub(SignedDuration::from_secs(1)).expect("in range");
            for expected in &found {
                let next = calendar.next(moment);
                prop_assert_eq!(next, Some(*expected), "after {}", moment);
                let shortly_before = expected.checked_sub(SignedDuration::from_secs(1)).expect("in range");
                prop_assert_eq!(calendar.last(*expected), Some(*expected));
                prop_assert_eq!(calendar.last(shortly_before).filter(|last| *last > moment), None);
                moment = *expected;
            }
        }
    }
}
