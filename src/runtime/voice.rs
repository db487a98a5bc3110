//! What the controller says on stderr: for a program whole records, for a person at a terminal one
//! short line each, in the form of `plugd events`.
//!
//! ```text
//! 12:30:18Z  ! mailer exited with 1 after 0.2 s
//! ```

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::edge::stderr;
use crate::model::text::clean;

/// The environment variable that tells how much is said: `PLUGD_LOG=debug`.
const TRACING: &str = "PLUGD_LOG";

/// From here on events go to stderr. A second controller in one process happens only in tests; the
/// first one's voice is as good. `level` is how much is said where the environment does not tell.
pub fn begin(level: &str) {
    stderr::begin();
    let filter = EnvFilter::try_from_env(TRACING).unwrap_or_else(|_| EnvFilter::new(level));
    // A terminal that was closed takes no words: its error is not told, for that would go there too,
    // and panic.
    let layer = tracing_subscriber::fmt()
        .with_writer(stderr::Stderr)
        .with_env_filter(filter)
        .with_target(false)
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let _ = layer.with_ansi(colour).event_format(Short).try_init();
    } else {
        let _ = layer.with_ansi(false).try_init();
    }
}

/// A line of plain words.
pub fn say(words: &str) {
    stderr::say(format!("plugd: {words}\n").into());
}

/// Time, a sign for what needs attention, who, what.
struct Short;

impl<S, N> FormatEvent<S, N> for Short
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let (sign, code) = match *event.metadata().level() {
            Level::ERROR => ("✘ ", "31"),
            Level::WARN => ("! ", "33"),
            Level::INFO | Level::DEBUG | Level::TRACE => ("", "2"),
        };
        let time = Timestamp::now().strftime("%H:%M:%SZ").to_string();
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[2m{time}\x1b[0m  \x1b[{code}m{sign}\x1b[0m")?;
        } else {
            write!(writer, "{time}  {sign}")?;
        }
        for (at, line) in said.text().lines().enumerate() {
            writeln!(writer, "{}{}", if at == 0 { "" } else { "             " }, clean(line))?;
        }
        Ok(())
    }
}

/// The fields of one event.
#[derive(Default)]
struct Said {
    message: String,
    service: String,
    /// Neither who nor the reason, which the words of the message tell.
    others: String,
}

impl Said {
    fn text(&self) -> String {
        let known = self.service.is_empty() || self.service == "plugd" || self.message.starts_with(&self.service);
        let who = if known { String::new() } else { format!("{}: ", self.service) };
        format!("{who}{}{}", self.message, self.others)
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "service" => write!(self.service, "{value:?}"),
            "instance" | "reason" => Ok(()),
            "error" => write!(self.others, ": {value:?}"),
            other => write!(self.others, " {other}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "service" => self.service = value.into(),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_once() {
        let said =
            |service: &str, message: &str| Said { service: service.into(), message: message.into(), ..Said::default() };
        assert_eq!(said("web", "web is ready").text(), "web is ready");
        assert_eq!(said("web", "its manifest is in force").text(), "web: its manifest is in force");
        assert_eq!(said("plugd", "the directory is back").text(), "the directory is back");
    }
}
