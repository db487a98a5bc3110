//! Durations as people write them: `10s`, `1m30s`, `500ms`, `7d`.

use std::time::Duration;

/// The units, longest first; a day is 24 hours.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longest duration that is taken: 100 years, so that sums with any clock cannot overflow.
const MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Numbers with units, added up: `1h30m`, `1.5s`; a bare `0` needs none. Not negative.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() || rest.starts_with('-') {
        return Err("a duration cannot be empty or negative; write one like 10s, 500ms or 1m30s".into());
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("the unit is missing; write {rest}s (units are ms, s, m, h, d)"));
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let letters = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - digits);
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
        let (Some(millis), Ok(number)) = (millis, number.parse::<f64>()) else {
            return Err("write a duration like 10s, 500ms or 1m30s (units are ms, s, m, h, d)".into());
        };
        let part = Duration::try_from_secs_f64(number * millis as f64 / 1000.0).unwrap_or(Duration::MAX);
        sum = sum.saturating_add(part);
        rest = &rest[digits + letters..];
    }
    if sum > MAX { Err("a duration of more than 100 years".into()) } else { Ok(round(sum)) }
}

/// Whole milliseconds: nothing here is timed finer, and `0.1s` is then exactly `100ms`.
fn round(duration: Duration) -> Duration {
    Duration::from_millis(((duration.as_nanos() + 500_000) / 1_000_000) as u64)
}

/// The inverse of [`parse`], canonical: `90s` is `1m30s`.
pub fn show(duration: Duration) -> String {
    let mut left = duration.as_millis() as u64;
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if left >= millis {
            text.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis, shown) in [
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("0.1s", 100, "100ms"),
            ("0", 0, "0s"),
            ("0ms", 0, "0s"),
            ("7d", 604_800_000, "7d"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(show(duration), shown);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }

    #[test]
    fn wrong_durations_say_what_to_write() {
        assert!(parse("10").expect_err("no unit").contains("10s"));
        for wrong in ["", "-1s", "s", "1x", "1 s", "1..2s", "99999999999999999999d", "1e9s", "½s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
