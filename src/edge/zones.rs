//! The rules of time zones as this machine has them.
//!
//! A distribution brings news of clocks (a country that gives up summer time) sooner than a plugd does. So
//! its rules are read when a manifest is read, and where there are none, or they cannot be understood, those
//! that plugd carries stay. A schedule goes by the rules that it was read with until it is read again.

use std::io::Read as _;
use std::path::Path;

use jiff::tz::TimeZone;

use crate::model::spec::Spec;

/// tzset(3).
const PLACE: &str = "/usr/share/zoneinfo";
/// The largest zone has less than 4 KiB.
const SIZE_MAX: u64 = 64 * 1024;

/// Puts this machine's rules into the schedule of a service, if it keeps one.
pub fn of_this_machine(spec: &mut Spec) {
    found_in(Path::new(PLACE), spec);
}

fn found_in(place: &Path, spec: &mut Spec) {
    let Some(schedule) = &mut spec.schedule else { return };
    let zone = &mut schedule.time_zone;
    // A name of the database that plugd carries: it leads nowhere else.
    let mut rules = Vec::new();
    let read =
        std::fs::File::open(place.join(zone.name())).and_then(|file| file.take(SIZE_MAX).read_to_end(&mut rules));
    if read.is_ok()
        && let Ok(rules) = TimeZone::tzif(zone.name(), &rules)
    {
        zone.with_rules(rules);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::controller::testing::job;
    use crate::model::zone::Zone;

    /// A zone without changes, nine hours ahead (tzfile(5)).
    fn nine_ahead() -> Vec<u8> {
        let mut half = b"TZif2".to_vec();
        half.extend([0; 15]);
        half.extend([0_u32, 0, 0, 0, 1, 4].iter().flat_map(|count| count.to_be_bytes()));
        half.extend((9_i32 * 3_600).to_be_bytes());
        half.extend([0, 0]);
        half.extend(b"NIN\0");
        [&half[..], &half[..], b"\nNIN-9\n"].concat()
    }

    #[test]
    fn rules_of_the_machine_take_the_place_of_those_that_plugd_carries() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spec = job("report", "0 3 * * *");
        spec.schedule.as_mut().expect("a job").time_zone = Zone::find("Europe/Berlin").expect("a zone");
        let offset = |spec: &Spec| {
            let rules = spec.schedule.as_ref().expect("a job").time_zone.rules();
            rules.to_offset(Timestamp::from_second(1_795_000_000).expect("a moment")).seconds() / 3_600
        };
        found_in(dir.path(), &mut spec);
        assert_eq!(offset(&spec), 1, "it carries its own");

        std::fs::create_dir(dir.path().join("Europe")).expect("a folder");
        std::fs::write(dir.path().join("Europe/Berlin"), "nonsense").expect("written");
        found_in(dir.path(), &mut spec);
        assert_eq!(offset(&spec), 1, "what cannot be understood is left");

        std::fs::write(dir.path().join("Europe/Berlin"), nine_ahead()).expect("written");
        let before = spec.clone();
        found_in(dir.path(), &mut spec);
        assert_eq!(offset(&spec), 9);
        assert_eq!(spec, before, "the same manifest");
    }
}
