//! Time zones by name, with the rules of their clocks.
//!
//! A name is looked up in the tz database that plugd carries, so that a manifest means the same in a
//! container without `/usr/share/zoneinfo`. Where a machine has rules of its own, which may be newer, the
//! edge puts them in their place (`edge/zones.rs`).

use std::fmt;
use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Serialize, Serializer};

use super::manifest::nearest;

static CARRIED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A zone that is known. Two are equal by their names: rules come and go with the machine.
#[derive(Clone)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    pub fn utc() -> Zone {
        Zone { name: "UTC".into(), rules: TimeZone::UTC }
    }

    /// The error is what to write instead.
    pub fn find(name: &str) -> Result<Zone, String> {
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Zone::utc());
        }
        let found = CARRIED.get(name).ok().filter(|rules| !rules.is_unknown());
        match found.as_ref().and_then(|rules| Some((rules, rules.iana_name()?))) {
            Some((rules, canonical)) => Ok(Zone { name: canonical.into(), rules: rules.clone() }),
            None => Err(meant(name)),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }

    /// The same zone by other rules.
    pub fn with_rules(&mut self, rules: TimeZone) {
        self.rules = rules;
    }
}

/// `Europe/Berln` and `Berlin` are Europe/Berlin.
fn meant(name: &str) -> String {
    if name.eq_ignore_ascii_case("local") {
        return "write the zone's name, such as Europe/Berlin; `timedatectl` tells that of this machine".into();
    }
    let names: Vec<String> = CARRIED.available().map(|name| name.as_str().to_owned()).collect();
    let city = |known: &&String| known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name));
    let near = names.iter().find(city).map(String::as_str).or_else(|| {
        let cities = names.iter().filter_map(|known| known.rsplit('/').next());
        let city = || nearest(name, cities).and_then(|city| names.iter().find(|known| known.ends_with(city)));
        nearest(name, names.iter().map(String::as_str)).or_else(|| city().map(String::as_str))
    });
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a name such as UTC, Europe/Berlin or America/New_York".into(),
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_in_any_case_and_an_unknown_one_has_a_nearest() {
        let name = |text: &str| Zone::find(text).map(|zone| zone.name);
        assert_eq!(name("utc").as_deref(), Ok("UTC"));
        assert_eq!(name("europe/berlin").as_deref(), Ok("Europe/Berlin"));
        for (wrong, said) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("new york", "America/New_York"),
            ("local", "timedatectl"),
            ("Mars/Olympus", "such as UTC"),
            ("Etc/Unknown", ""),
            ("", "such as UTC"),
        ] {
            let told = name(wrong).expect_err(wrong);
            assert!(told.contains(said), "{wrong}: {told}");
        }
    }
}
