//! Small words for tables: ages, spans, indicators.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::reason::Status;

/// What the terminal can show; ASCII where the locale is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Unicode,
    Ascii,
}

/// The mark before a status word; it always stands beside the word, never alone.
pub const fn indicator(status: Status, charset: Charset) -> &'static str {
    let (unicode, ascii) = match status {
        Status::Running | Status::Healthy | Status::Completed => ("✔", "+"),
        Status::Degraded => ("!", "!"),
        Status::Unhealthy | Status::Failed => ("✘", "x"),
        Status::Skipped | Status::Stopped => ("↷", "-"),
        Status::Starting | Status::Waiting | Status::Stopping => ("…", "."),
    };
    match charset {
        Charset::Unicode => unicode,
        Charset::Ascii => ascii,
    }
}

/// How long, in its largest unit: `12s`, `3m`, `5h`, `40d`.
pub fn age(age: Duration) -> String {
    let secs = age.as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// The time from `then` to `now`; nothing when the clock was set back in between.
pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// A length of time that is data: `0.003s`, `0.2s`, `12.0s`, `75s`, then as [`age`] from two minutes on, as events
/// tell it.
pub fn span(span: Duration) -> String {
    if span < Duration::from_millis(100) {
        // What ends at once ends in milliseconds; 0.0s would tell nothing.
        format!("0.{:03}s", span.as_millis())
    } else if span < Duration::from_secs(60) {
        // Cut, not rounded: 59.99 s must not be told as 60.0s.
        let tenths = span.as_millis() / 100;
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else if span < Duration::from_secs(120) {
        format!("{}s", span.as_secs())
    } else {
        age(span)
    }
}

/// A length of time as JSON: seconds, to the millisecond, as a string that says so (`0.214s`).
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:03}s", span.as_secs(), span.subsec_millis()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds = text.strip_suffix('s').and_then(|digits| digits.parse::<f64>().ok());
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| serde::de::Error::custom(format_args!("{text:?} is no length of time such as \"0.214s\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let table =
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (86_400, "1d"), (864_000, "10d")];
        for (secs, word) in table {
            assert_eq!(age(Duration::from_secs(secs)), word);
        }
    }

    #[test]
    fn a_span_below_a_minute_keeps_tenths_and_below_two_its_seconds() {
        assert_eq!(span(Duration::from_millis(214)), "0.2s");
        assert_eq!(span(Duration::from_micros(3_400)), "0.003s");
        assert_eq!(span(Duration::from_millis(100)), "0.1s");
        assert_eq!(span(Duration::from_millis(59_999)), "59.9s");
        assert_eq!(span(Duration::from_secs(75)), "75s");
        assert_eq!(span(Duration::from_secs(120)), "2m");
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_age() {
        let then = Timestamp::from_second(1_000).expect("in range");
        let now = Timestamp::from_second(900).expect("in range");
        assert_eq!(since(then, now), Duration::ZERO);
    }

    #[test]
    fn every_indicator_has_an_ascii_twin() {
        for status in Status::ALL {
            assert!(indicator(*status, Charset::Ascii).is_ascii(), "{status}");
            assert!(!indicator(*status, Charset::Unicode).is_empty(), "{status}");
        }
    }
}
