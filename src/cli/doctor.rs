//! `plugd doctor`: what this machine offers plugd, what that means, and what would help.
//!
//! It only looks. The one thing it makes is a cgroup for a moment, since nothing else tells whether
//! one can be made. It needs no running plugd and reads no manifest.
#![expect(clippy::disallowed_methods, reason = "the doctor examines the machine")]

mod kernel;
mod limits;
mod surroundings;

use std::io::{self, Write};

use serde::Serialize;

use super::look::{Look, wrap};
use crate::model::text::Charset;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Worth knowing; everything works.
    Note,
    /// A promise of plugd's is weaker here.
    Warning,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What follows from it for the services.
    pub meaning: String,
    /// What would change it, where something would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, what: what.into(), meaning: meaning.into(), remedy: None }
    }

    fn note(what: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { level: Level::Note, ..Finding::ok(what, meaning) }
    }

    fn warning(what: impl Into<String>, meaning: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, ..Finding::ok(what, meaning) }
    }

    fn remedy(self, remedy: impl Into<String>) -> Finding {
        Finding { remedy: Some(remedy.into()), ..self }
    }
}

/// Everything, in the order of what carries what: kernel, limits, surroundings.
pub fn report() -> Vec<Finding> {
    let scope = kernel::kill_scope();
    let can_kill_by_cgroup = scope.level == Level::Ok;
    let mut findings = kernel::features();
    findings.push(scope);
    findings.extend(kernel::limits());
    findings.extend(limits::findings());
    findings.extend(surroundings::findings(can_kill_by_cgroup));
    findings
}

/// Columns before a text.
const MARGIN: usize = 8;
/// A text is not broken into less than this, however narrow the terminal.
const VALUE_MIN: usize = 24;

/// For a person: an indicator, what was found, and below it what it means and what helps.
pub fn print_table(out: &mut impl Write, findings: &[Finding], look: &Look) -> io::Result<()> {
    let utf8 = look.charset == Charset::Unicode;
    let width = look.width.map_or(usize::MAX, |width| width.saturating_sub(MARGIN).max(VALUE_MIN));
    for finding in findings {
        let mark = match (finding.level, utf8) {
            (Level::Ok, true) => "✔ ok  ",
            (Level::Note, true) => "· note",
            (Level::Warning, true) => "! warn",
            (Level::Ok, false) => "+ ok  ",
            (Level::Note, false) => "- note",
            (Level::Warning, false) => "! warn",
        };
        let remedy = finding.remedy.as_ref().map(|remedy| format!("{} {remedy}", if utf8 { "→" } else { "->" }));
        let mut head = format!("{mark}  ");
        for text in [&finding.what, &finding.meaning].into_iter().chain(&remedy) {
            for line in wrap(text, width) {
                writeln!(out, "{head:<MARGIN$}{line}")?;
                head.clear();
            }
        }
    }
    let warnings = findings.iter().filter(|finding| finding.level == Level::Warning).count();
    match warnings {
        0 => writeln!(out, "nothing stands in the way"),
        1 => writeln!(out, "1 warning"),
        more => writeln!(out, "{more} warnings"),
    }
}

/// For a program: a list of `{level, what, meaning, remedy}`.
pub fn print_json(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, findings)?;
    writeln!(out)
}

/// Whether the locale promises UTF-8, in the order of setlocale(3).
pub fn is_utf8() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    let value = value.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_ascii_lowercase();
    value.contains("utf-8") || value.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_this_machine_is_complete_and_changes_nothing() {
        let first = report();
        assert!(first.len() >= 10);
        let own = format!("plugd-doctor-{}", std::process::id());
        let groups = walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten();
        let left: Vec<_> =
            groups.filter(|group| group.file_name() == own.as_str()).map(|group| group.into_path()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(first.iter().all(|finding| !finding.what.is_empty() && !finding.meaning.is_empty()));
        for finding in first.iter().filter(|finding| finding.level == Level::Warning) {
            assert!(finding.remedy.is_some(), "a warning says what helps: {finding:?}");
        }
    }

    #[test]
    fn both_forms_tell_the_same() {
        let findings = [
            Finding::ok("pidfd", "signals reach nobody else"),
            Finding::warning("no cgroup", "a daemon may get away").remedy("delegate one"),
        ];
        let mut table = Vec::new();
        let look = Look { charset: Charset::Ascii, ..Look::PLAIN };
        print_table(&mut table, &findings, &look).expect("written");
        let expected = "+ ok    pidfd\n        signals reach nobody else\n! warn  no cgroup\n        a daemon may get away\n        -> delegate one\n1 warning\n";
        assert_eq!(String::from_utf8_lossy(&table), expected);
        let mut json = Vec::new();
        print_json(&mut json, &findings).expect("written");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("json");
        assert_eq!(json[1]["level"], "warning");
        assert_eq!(json[0].get("remedy"), None);
    }
}
