//! What the status files last said, for when no controller answers.
//!
//! Nothing in them is taken for the present: it is printed as what it is, with exit code 6.

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::de::IntoDeserializer;
use serde::{Deserialize, de};
use serde_json::Value;

use super::args::{GetArgs, GetOutput, StatusArgs};
use super::fault::{Code, Fault};
use super::row::{self, Row};
use super::select::Selection;
use super::table::{self, Shape};
use super::{Session, node};
use crate::model::name::Name;
use crate::model::text::clean;
use crate::model::view::in_a_line;

/// A status file is at most 16 KiB; `_controller.status` may have 64.
const FILE_MAX: u64 = 64 * 1024;
/// Files that are looked at: 10,000 services is the size that plugd is tested with.
const FILES_MAX: usize = 20_000;

/// `plugd get` without a controller.
pub fn get(args: &GetArgs, selection: &Selection, session: &Session, fault: Fault) -> Result<Code, Fault> {
    let Ok(dir) = node::directory(&session.global) else { return Err(fault) };
    let wanted = |row: &Row| selection.names.is_empty() || selection.names.contains(&row.name);
    let mut rows: Vec<Row> = read(&dir).into_iter().filter(wanted).collect();
    super::say(&fault.to_string());
    let as_table = matches!(args.output, GetOutput::Table | GetOutput::Wide) && !args.summary && !args.watch;
    if !rows.is_empty() && as_table {
        super::say(&format!("this is what the status files in {} last said:", dir.display()));
        if session.look.terminal {
            row::sort_by_trouble(&mut rows);
        }
        let text = table::table(&rows, Shape::Normal, !args.no_headers, &session.look, session.now());
        let mut out = session.out();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(fault.code())
}

/// `plugd status NAME` without a controller: its status file as it is, and what it last wrote.
pub fn status(args: &StatusArgs, session: &Session, fault: Fault) -> Result<Code, Fault> {
    let Ok(dir) = node::directory(&session.global) else { return Err(fault) };
    let file = |name: &str| {
        let service = Name::parse(name.split_once('/').map_or(name, |(service, _)| service)).ok()?;
        text_of(&dir.join(format!("{service}.status")))
    };
    let texts: Vec<Option<String>> = args.names.iter().map(|name| file(name)).collect();
    if texts.iter().all(Option::is_none) {
        return Err(fault);
    }
    match fault {
        Fault::Silent { .. } => super::say(&format!("{fault}; this is what it last wrote:")),
        _ => super::say(&format!("plugd does not run for {}; this is what it last wrote:", dir.display())),
    }
    let mut out = session.out();
    for (at, (name, text)) in args.names.iter().zip(texts).enumerate() {
        let Some(text) = text else {
            super::say(&format!("there is no status file of {name}"));
            continue;
        };
        if args.output == "json" {
            let value: Option<Value> = serde_saphyr::from_str(&text).ok();
            writeln!(out, "{}", super::json(&value.unwrap_or_default()))?;
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        // Whoever may write in the directory wrote it, perhaps not plugd.
        for line in text.lines() {
            writeln!(out, "{}", clean(line))?;
        }
    }
    out.flush()?;
    Ok(fault.code())
}

/// The services whose status files lie in a directory, by name.
pub fn read(dir: &Path) -> Vec<Row> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut rows: Vec<Row> = entries
        .take(FILES_MAX)
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".status") && !name.starts_with(['.', '_']) && entry.file_type().is_ok_and(|t| t.is_file())
        })
        .filter_map(|entry| parse(&text_of(&entry.path())?))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// The value of a status file; none if it is none.
pub fn value(path: &Path) -> Option<Value> {
    serde_saphyr::from_str(&text_of(path)?).ok()
}

fn text_of(path: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A row of what a status file says.
pub fn parse(text: &str) -> Option<Row> {
    let value: Value = serde_saphyr::from_str(text).ok()?;
    let string = |key: &str| value.get(key).and_then(Value::as_str);
    let ready = string("ready").and_then(|ready| ready.split_once('/'));
    let why = text.lines().find_map(|line| line.strip_prefix("# why:"));
    let said = |key: &str| value.pointer(&format!("/problems/0/{key}")).and_then(Value::as_str);
    let problem = said("type").zip(said("message"));
    Some(Row {
        name: string("service")?.to_string(),
        status: word(string("status")?)?,
        reason: string("reason").and_then(word),
        ready: ready.and_then(|(ready, desired)| Some((ready.parse().ok()?, desired.parse().ok()?))),
        restarts: value.get("restarts").and_then(Value::as_u64),
        score: None,
        since: string("since").and_then(|since| since.parse().ok()),
        why: why.map(|why| why.trim().to_string()).or_else(|| problem.map(in_a_line)).unwrap_or_default(),
        // What was a pid then may be anybody's now.
        pids: Vec::new(),
        address: string("address").unwrap_or_default().to_string(),
        check: string("check").unwrap_or_default().to_string(),
        file: value.pointer("/manifest/file").and_then(Value::as_str).unwrap_or_default().to_string(),
    })
}

/// A word of the documentation, back from its text.
fn word<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let text: de::value::BorrowedStrDeserializer<'de, de::value::Error> = de::value::BorrowedStrDeserializer::new(text);
    T::deserialize(text.into_deserializer()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reason::{Reason, Status};

    #[test]
    fn a_status_file_is_read_back_into_a_row() {
        let row = parse(
            "# mailer  unhealthy (CrashLoopBackOff)  0/1 ready\n# why:  exits with 1\nservice: mailer\nstatus: unhealthy\n\
             reason: CrashLoopBackOff\nready: 0/1\nrestarts: 5\nsince: 2026-11-23T12:30:02Z\nmanifest: {file: mailer.yaml}\n",
        )
        .expect("a status file");
        assert_eq!(
            (row.name.as_str(), row.status, row.reason),
            ("mailer", Status::Unhealthy, Some(Reason::CrashLoopBackOff))
        );
        assert_eq!((row.ready, row.restarts, row.why.as_str()), (Some((0, 1)), Some(5), "exits with 1"));
        assert!(row.since.is_some());
    }

    #[test]
    fn what_is_well_but_for_an_edit_says_so_as_with_a_controller() {
        let row = parse(
            "# a  running  1/1 ready\nservice: a\nstatus: running\nready: 1/1\nproblems:\n\
             - {type: UpdateBlocked, message: \"the new version would not start\\nmore\", since: 2026-11-23T12:30:02Z}\n",
        );
        assert_eq!(row.expect("a status file").why, "UpdateBlocked: the new version would not start");
    }

    #[test]
    fn what_is_no_status_file_makes_no_row() {
        for text in ["", "service: x\n", "service: x\nstatus: splendid\n", "[1, 2", "status: healthy"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
