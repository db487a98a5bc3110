//! Parsers of the values that flags take: durations, sizes, signals, formats.
//!
//! Durations and sizes are read as in a manifest, so that a person learns them once.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::{StringValueParser, TypedValueParser};
use jiff::Timestamp;

use super::{GetOutput, WaitFor};
use crate::cli::jsonpath::JsonPath;
use crate::cli::select;
use crate::model::name::Name;
use crate::model::reason::Status;
use crate::model::settings::{Discovery, Trust};
use crate::model::signal;

/// `--exit-on-required`: a limit, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOnRequired {
    Off,
    After(Duration),
}

/// `--since`: so long ago, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    At(Timestamp),
}

pub fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| error.to_string())
}

pub fn duration(text: &str) -> Result<Duration, String> {
    crate::model::duration::parse(text)
}

pub fn bytes(text: &str) -> Result<u64, String> {
    crate::model::quantity::bytes(text)
}

pub fn exit_on_required(text: &str) -> Result<ExitOnRequired, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "no" | "false" | "never" => Ok(ExitOnRequired::Off),
        _ => duration(text).map(ExitOnRequired::After).map_err(|error| format!("{error}, or off")),
    }
}

pub fn listen(text: &str) -> Result<SocketAddr, String> {
    crate::model::settings::listen(text)
}

pub fn discovery(text: &str) -> Result<Discovery, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(Discovery::On),
        "all" => Ok(Discovery::All),
        "off" => Ok(Discovery::Off),
        _ => Err("choose on, all or off".into()),
    }
}

pub fn trust(text: &str) -> Result<Trust, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(Trust::Auto),
        "strict" => Ok(Trust::Strict),
        "any" => Ok(Trust::Any),
        _ => Err("choose auto, strict or any".into()),
    }
}

pub fn get_output(text: &str) -> Result<GetOutput, String> {
    match text {
        "table" => Ok(GetOutput::Table),
        "wide" => Ok(GetOutput::Wide),
        "name" => Ok(GetOutput::Name),
        "json" => Ok(GetOutput::Json),
        "yaml" => Ok(GetOutput::Yaml),
        _ => match text.strip_prefix("jsonpath=") {
            Some(path) => Ok(GetOutput::JsonPath(path.into())),
            None => Err("choose table, wide, name, json, yaml or jsonpath={…}".into()),
        },
    }
}

/// The conditions of the full object, as `api::object` makes them.
const CONDITIONS: [&str; 5] = ["Ready", "Available", "Valid", "DependenciesReady", "Registered"];

/// `condition=Available`, `condition=Available=false`.
fn condition(text: &str) -> Result<WaitFor, String> {
    let (name, wanted) = text.split_once('=').unwrap_or((text, "true"));
    let known = CONDITIONS.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    let known = known.ok_or_else(|| format!("the conditions are {}", CONDITIONS.join(", ")))?;
    match wanted.to_ascii_lowercase().as_str() {
        // One word for one thing: skipped and completed ones count as they do for `ready`.
        "true" if known == "Ready" => Ok(WaitFor::Ready),
        "true" => Ok(WaitFor::Condition(known, true)),
        "false" => Ok(WaitFor::Condition(known, false)),
        _ => Err("a condition is true or false".into()),
    }
}

pub fn wait_for(text: &str) -> Result<WaitFor, String> {
    let word = text.to_ascii_lowercase();
    let status = Status::ALL.iter().find(|status| status.as_str() == word);
    match (word.as_str(), status) {
        ("ready", _) => Ok(WaitFor::Ready),
        ("created" | "create", _) => Ok(WaitFor::Created),
        ("deleted" | "delete", _) => Ok(WaitFor::Deleted),
        (_, Some(status)) => Ok(WaitFor::Status(*status)),
        (_, None) => {
            if let Some(named) = text.strip_prefix("condition=") {
                return condition(named);
            }
            let rest = text.strip_prefix("jsonpath=").ok_or(
                "choose ready, created, deleted, a status word (running, completed …), condition=NAME or jsonpath={…}=TEXT",
            )?;
            // A filter inside the braces may hold an equals sign; the one that counts is behind them.
            let (path, value) = match rest.rsplit_once('}') {
                Some((path, tail)) => (format!("{path}}}"), tail.strip_prefix('=')),
                None => match rest.split_once('=') {
                    Some((path, value)) => (path.to_string(), Some(value)),
                    None => (rest.to_string(), None),
                },
            };
            let path = JsonPath::parse(&path).map_err(|error| error.to_string())?;
            Ok(WaitFor::JsonPath(path, value.map(Into::into)))
        }
    }
}

pub fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse().map(Since::At).map_err(|_| "write it as 10m or 2026-11-23T11:00:00Z".into())
}

/// The name of a service or an instance.
pub fn service() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(select::bare)
}

/// `orders=3`.
pub fn scale(text: &str) -> Result<(String, u32), String> {
    const HINT: &str = "write it as orders=3";
    let (name, count) = text.split_once('=').ok_or_else(|| format!("write it as {text}=3"))?;
    if name.is_empty() {
        return Err(HINT.into());
    }
    Ok((select::bare(name.into()), count.parse().map_err(|_| HINT)?))
}

/// `HUP`, `SIGHUP`, `hup` or `1`.
pub fn signal(text: &str) -> Result<i32, String> {
    signal::parse(text).ok_or_else(|| "write it as HUP, USR1, RTMIN+3 or a number from 1 to 64".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_words_to_wait_for_are_known_in_any_case() {
        for text in ["ready", "Ready", "READY"] {
            assert!(matches!(wait_for(text), Ok(WaitFor::Ready)), "{text}");
        }
        assert!(matches!(wait_for("Completed"), Ok(WaitFor::Status(Status::Completed))));
        wait_for("readily").expect_err("no such word");
    }

    #[test]
    fn durations_add_up_and_need_a_unit() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "10", "s", "-1s", "1y", "1..2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_signals_and_counts_are_read_as_people_write_them() {
        assert_eq!(bytes("512Mi"), Ok(512 << 20));
        assert!(bytes("12 apples").is_err());
        assert_eq!(signal("sighup"), Ok(libc::SIGHUP));
        assert_eq!(signal("10"), Ok(10));
        assert!(signal("0").is_err());
        assert_eq!(scale("orders=3"), Ok(("orders".into(), 3)));
        assert!(scale("orders").is_err());
    }

    #[test]
    fn what_to_wait_for_may_be_a_path_with_or_without_a_value() {
        let path = |text: &str| JsonPath::parse(text).expect("a path");
        assert_eq!(
            wait_for("jsonpath={.status}=healthy"),
            Ok(WaitFor::JsonPath(path("{.status}"), Some("healthy".into())))
        );
        assert_eq!(wait_for("jsonpath=.pid"), Ok(WaitFor::JsonPath(path(".pid"), None)));
        assert!(wait_for("happy").is_err());
        assert!(wait_for("jsonpath={.a[?(@.b)]}=1").is_err());
    }

    #[test]
    fn what_to_wait_for_may_be_a_status_word_or_a_condition() {
        assert_eq!(wait_for("completed"), Ok(WaitFor::Status(Status::Completed)));
        assert_eq!(wait_for("condition=ready"), Ok(WaitFor::Ready));
        assert_eq!(wait_for("condition=Available"), Ok(WaitFor::Condition("Available", true)));
        assert_eq!(wait_for("condition=available=False"), Ok(WaitFor::Condition("Available", false)));
        let told = wait_for("condition=Happy").expect_err("there is none");
        assert!(told.contains("DependenciesReady"), "{told}");
        assert!(wait_for("condition=Valid=maybe").is_err());
    }
}
