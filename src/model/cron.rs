//! Cron expressions: five fields, and the times of the calendar at which they fall due.
//!
//! What is taken is checked here, field by field, so that a mistake is named with what to write instead.
//! The calendar itself (leap years, days of the week, `L`, `#`) is computed by the crate `croner`, on
//! dates and times without a zone: what a clock that is put forward or back makes of them is
//! `policy/calendar.rs`.

use std::cmp::Ordering;
use std::fmt;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Serialize, Serializer};

use super::zone::Zone;

const SHORTHANDS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A valid expression that comes due at least once.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    /// As it was written, with single spaces.
    text: String,
    pattern: croner::Cron,
}

impl Cron {
    /// The error is what to write instead.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        let fields = match text.starts_with('@') {
            true => shorthand(&text)?.to_owned(),
            false => text.clone(),
        };
        check(&fields)?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).sloppy_ranges(true);
        let pattern = parser.build().parse(&fields).map_err(|error| format!("as a schedule: {error}"))?;
        match never_comes(&fields, &pattern) {
            true => Err("that day never comes: none of these months has it".into()),
            false => Ok(Cron { text, pattern }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Minute and hour are written out, so that it is meant to run at these times of a day; otherwise it
    /// runs every so often.
    pub fn has_fixed_times(&self) -> bool {
        let fields = self.pattern.pattern.to_string();
        fields.split_whitespace().take(2).all(|field| !field.contains(['*', '/']))
    }

    /// The first time after another.
    pub fn next(&self, after: DateTime) -> Option<DateTime> {
        self.pattern.find_next_occurrence(&Civil(after), false).ok().map(|found| found.0)
    }

    /// The last time that is not after another.
    pub fn last(&self, until: DateTime) -> Option<DateTime> {
        self.pattern.find_previous_occurrence(&Civil(until), true).ok().map(|found| found.0)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn shorthand(text: &str) -> Result<&'static str, String> {
    let known = SHORTHANDS.iter().find(|(name, _)| *name == text);
    known.map(|(_, fields)| *fields).ok_or_else(|| match text {
        "@reboot" => "a service without `schedule` and with `restart: Never` runs once at each start".into(),
        text if text.starts_with("@every") => "write fields: \"*/10 * * * *\" is every ten minutes".into(),
        _ => format!("write five fields, or one of {}", SHORTHANDS.map(|(name, _)| name).join(", ")),
    })
}

/// Five fields (minute, hour, day, month, weekday) of `*`, numbers, names, ranges, steps and lists.
fn check(text: &str) -> Result<(), String> {
    if let Some((zone, rest)) =
        text.strip_prefix("cron_tz=").or(text.strip_prefix("tz=")).and_then(|t| t.split_once(' '))
    {
        let zone = Zone::find(zone).map_or(zone.into(), |zone| zone.name().to_owned());
        return Err(format!("write `schedule: {{cron: \"{rest}\", timeZone: {zone}}}`"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if let [_, rest @ ..] = fields.as_slice()
        && rest.len() == 5
        && check(&rest.join(" ")).is_ok()
    {
        return Err(format!("there is no field for seconds; write \"{}\"", rest.join(" ")));
    }
    if let Some((name, _)) = SHORTHANDS.iter().find(|(name, _)| name.strip_prefix('@') == Some(text)) {
        return Err(format!("write \"{name}\""));
    }
    if fields.len() != 5 {
        let count = fields.len();
        return Err(format!(
            "a schedule has five fields (minute hour day month weekday), this has {count}; \"0 3 * * *\" is every day at 3:00"
        ));
    }
    let rules: [(&str, u32, u32, &[&str], u32); 5] = [
        ("minute", 0, 59, &[], 0),
        ("hour", 0, 23, &[], 0),
        ("day", 1, 31, &[], 0),
        ("month", 1, 12, &MONTHS, 1),
        ("weekday", 0, 7, &DAYS, 0),
    ];
    for (field, (what, min, max, names, offset)) in fields.iter().zip(rules) {
        let value = |text: &str| -> Option<u32> {
            let named = names.iter().position(|name| *name == text).map(|at| at as u32 + offset);
            let number = || text.parse().ok().filter(|_| text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit()));
            named.or_else(number).filter(|value| (min..=max).contains(value))
        };
        // A week may end with Sunday.
        let end = |text: &str| if text == "sun" { Some(7) } else { value(text) };
        let special = |text: &str| match what {
            "day" => text == "l" || text == "lw" || text.strip_suffix('w').is_some_and(|day| value(day).is_some()),
            "weekday" => {
                text.strip_suffix('l').is_some_and(|day| value(day).is_some())
                    || text
                        .split_once('#')
                        .is_some_and(|(day, nth)| value(day).is_some() && matches!(nth, "1" | "2" | "3" | "4" | "5"))
            }
            _ => false,
        };
        let any = |text: &str| text == "*" || (text == "?" && matches!(what, "day" | "weekday"));
        let valid = field.split(',').all(|part| {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let steps = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| (1..=max).contains(&step)));
            let spans = any(range)
                || (step.is_none() && special(range))
                || match range.split_once('-') {
                    Some((from, to)) => matches!((value(from), end(to)), (Some(from), Some(to)) if from <= to),
                    None => value(range).is_some(),
                };
            steps && spans
        });
        if !valid {
            return Err(format!("`{field}` is no {what}: it takes {min} to {max}, *, a-b, */n, or a list of them"));
        }
    }
    Ok(())
}

/// Whether the days that are written lie beyond the ends of all months that are. (A search for the first
/// time would go on for thousands of years.)
fn never_comes(fields: &str, pattern: &croner::Cron) -> bool {
    const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut fields = fields.split_whitespace().skip(2);
    let (Some(days), _, Some("*" | "?")) = (fields.next(), fields.next(), fields.next()) else { return false };
    // `L` and `*` are in every month.
    let first = |item: &str| item.split(['-', '/', 'w']).next().and_then(|day| day.parse().ok()).unwrap_or(1);
    let earliest: u32 = days.split(',').map(first).min().unwrap_or(1);
    let months = pattern.pattern.months.values();
    let longest = months.into_iter().filter_map(|month| LONGEST.get(usize::from(month).checked_sub(1)?)).max();
    longest.is_some_and(|longest| earliest > *longest)
}

/// A date and time without a zone, as croner reads it.
#[derive(Clone)]
struct Civil(DateTime);

impl CronDateTime for Civil {
    fn to_civil(&self) -> CivilDateTime {
        let at = self.0;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::from(at.year()), at.month() as u32, at.day() as u32),
            CivilTime::from_parts_unchecked(at.hour() as u32, at.minute() as u32, at.second() as u32),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.0.weekday().to_sunday_zero_offset() as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Civil>, CronError> {
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (civil.month() as i8, civil.day() as i8);
        let (hour, minute, second) = (civil.hour() as i8, civil.minute() as i8, civil.second() as i8);
        let at = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)?;
        Ok(Resolution::Single(Civil(at)))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Civil> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Civil)
    }

    fn cmp_instant(&self, other: &Civil) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_are_checked_field_by_field() {
        for good in [
            "0 3 * * *",
            "*/5 0-6 1,15 jan-jun MON",
            "@daily",
            "59 23 31 12 7",
            "0 9 * * mon-sun",
            "0 9 * * Sat-Sun",
            "5/15 * * * *",
            "0 0 L * ?",
            "0 0 * * fri#2",
            "0 0 15W * *",
            "  0   3\t* * * ",
        ] {
            assert!(Cron::parse(good).is_ok(), "{good}: {:?}", Cron::parse(good));
        }
        for wrong in [
            "",
            "0 3 * *",
            "60 3 * * *",
            "0 24 * * *",
            "0 3 0 * *",
            "0 3 * 13 *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@never",
            "a b c d e",
            "1,,2 * * * *",
            "+1 * * * *",
            "0 0 * * sunmon",
            "0 0 30 2 *",
            "0 0 31 2,4,6,9,11 *",
            "0 0 30w,31-31 feb ?",
            "0 0 3 * * *",
        ] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_people_paste_from_elsewhere_has_a_remedy() {
        for (pasted, remedy) in [
            ("0 0 3 * * *", "there is no field for seconds; write \"0 3 * * *\""),
            ("CRON_TZ=Europe/Berlin 0 3 * * *", "timeZone: Europe/Berlin"),
            ("@every 10m", "*/10 * * * *"),
            ("@reboot", "restart: Never"),
            ("3 o'clock", "five fields"),
            ("daily", "write \"@daily\""),
        ] {
            let told = Cron::parse(pasted).expect_err(pasted);
            assert!(told.contains(remedy), "{pasted}: {told}");
        }
    }

    #[test]
    fn whatever_is_taken_comes_and_is_found_from_both_sides() {
        let start = jiff::civil::date(2026, 11, 23).at(12, 0, 0, 0);
        for text in [
            "0 3 * * *",
            "* * * * *",
            "*/7 9-17/2 1,15,L jan,feb mon-fri",
            "0 0 29 2 *",
            "0 0 * 2 sun#5",
            "59 23 31 12 7",
            "0 0 lw 2 ?",
            "5/15 * * * sat-sun",
            "@yearly",
        ] {
            let cron = Cron::parse(text).expect(text);
            let next = cron.next(start).expect(text);
            assert!(next > start && (next.second(), next.subsec_nanosecond()) == (0, 0), "{text}: {next}");
            assert_eq!(cron.last(next), Some(next), "{text}");
            let before = cron.last(start).expect(text);
            assert!(before <= start && cron.next(before) >= Some(next), "{text}: {before}");
        }
    }

    #[test]
    fn fixed_times_are_those_without_a_star_or_a_step() {
        for (text, fixed) in [
            ("30 2 * * *", true),
            ("0,30 1-4 * * mon", true),
            ("@daily", true),
            ("@hourly", false),
            ("*/15 2 * * *", false),
            ("0 */2 * * *", false),
        ] {
            assert_eq!(Cron::parse(text).map(|cron| cron.has_fixed_times()), Ok(fixed), "{text}");
        }
    }
}
