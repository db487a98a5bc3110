//! `plugd get`: the table, and the same as data.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{GetArgs, GetOutput};
use super::fault::{Code, Fault};
use super::jsonpath::JsonPath;
use super::look::{Look, wrap};
use super::node::{Node, Step};
use super::row::{self, Row};
use super::select::Selection;
use super::table::{self, Shape};
use super::{Session, effective, last, told};
use crate::api::wire::Health;
use crate::model::reason::Status;
use crate::model::text::{Cause, Report, clean};
use crate::model::view::{ServiceView, Snapshot};
use crate::model::yaml::to_yaml;

pub fn get(args: &GetArgs, session: &Session) -> Result<Code, Fault> {
    let selection = Selection::new(&args.names, &args.selector, args.capability.as_deref());
    let node = match session.node() {
        Ok(node) => node,
        Err(fault) if fault.is_unreachable() => return last::get(args, &selection, session, fault),
        Err(fault) => return Err(fault),
    };
    if args.watch {
        return watch(args, &selection, &node, session);
    }
    let snapshot = match node.snapshot_with(&args.names) {
        Ok(snapshot) => snapshot,
        // It was about to end.
        Err(fault) if fault.is_unreachable() => return last::get(args, &selection, session, fault),
        Err(fault) => return Err(fault),
    };
    let selection = selection.without_kind(&snapshot);
    let mut out = session.out();
    if args.summary {
        write!(out, "{}", summary(&snapshot, &args.output, &session.look))?;
        out.flush()?;
        told::lost_directory(&snapshot).iter().for_each(|lost| super::say(lost));
        return Ok(Code::Done);
    }
    let views = selection.pick(&snapshot)?;
    match &args.output {
        GetOutput::Table | GetOutput::Wide => {
            let mut rows = rows(&views, &snapshot, &selection);
            if session.look.terminal {
                row::sort_by_trouble(&mut rows);
            }
            if rows.is_empty() {
                match (snapshot.services.is_empty(), &snapshot.node.directory_lost) {
                    (true, Some(_)) => {}
                    (true, None) => super::say(
                        "there is no service yet; put a manifest into the directory, or see `plugd add --help`",
                    ),
                    (false, _) => super::say("no service matches; `plugd get` alone lists all"),
                }
            } else {
                let text = table::table(&rows, shape(args), !args.no_headers, &session.look, session.now());
                out.write_all(text.as_bytes())?;
            }
            out.flush()?;
            told::lost_directory(&snapshot).iter().for_each(|lost| super::say(lost));
        }
        GetOutput::Name => {
            for view in &views {
                writeln!(out, "{}", view.service)?;
            }
        }
        GetOutput::Json => writeln!(out, "{}", super::json(&data(args, &views, &node)?))?,
        GetOutput::Yaml if args.effective => write!(out, "{}", effective::yaml(&views, &node, session)?)?,
        GetOutput::Yaml => write!(out, "{}", to_yaml(&data(args, &views, &node)?))?,
        GetOutput::JsonPath(path) => {
            let value = data(args, &views, &node)?;
            match parse(path)?.find(&value) {
                Some(text) => writeln!(out, "{text}")?,
                None => return Err(Fault::no("the path names nothing", "`plugd get -o json` shows what there is")),
            }
        }
    }
    out.flush()?;
    Ok(Code::Done)
}

fn shape(args: &GetArgs) -> Shape {
    if args.output == GetOutput::Wide { Shape::Wide } else { Shape::Normal }
}

/// The rows of a table; files that make no service are among them when all are shown.
fn rows(views: &[Arc<ServiceView>], snapshot: &Snapshot, selection: &Selection) -> Vec<Row> {
    let mut rows: Vec<Row> = views.iter().map(|view| Row::of(view)).collect();
    if selection.is_all() {
        rows.extend(snapshot.node.problems.iter().map(Row::of_file));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
    }
    rows
}

/// The full objects, as the API gives them: one name asked for is one object, anything else a list.
fn data(args: &GetArgs, views: &[Arc<ServiceView>], node: &Node) -> Result<Value, Fault> {
    match (args.names.as_slice(), views) {
        ([_], [view]) => node.object(&view.service),
        // One question for all of them; what was chosen here may be fewer.
        (_, [_, _, ..]) => {
            let mut list = node.get("/v1/services?form=object")?;
            let chosen = |object: &Value| {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                views.iter().any(|view| view.service.as_str() == name)
            };
            if let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) {
                items.retain(chosen);
            }
            Ok(list)
        }
        (_, views) => {
            let items: Vec<Value> =
                views.iter().map(|view| node.object(&view.service)).collect::<Result<_, Fault>>()?;
            Ok(json!({"apiVersion": "plugd/v1", "kind": "List", "items": items}))
        }
    }
}

pub fn parse(path: &str) -> Result<JsonPath, Fault> {
    JsonPath::parse(path).map_err(|error| Fault::usage(error.to_string(), "`plugd get -o json` shows what there is"))
}

/// Columns before the names of a summary: the longest of its three words, a colon and a gap.
const SUMMARY_MARGIN: usize = 10;

/// Names of a kind that a person is shown; `-o json` has them all.
const SUMMARY_NAMES: usize = 50;

/// The report over all as data: what `/v1/health` answers.
fn whole(report: Report, snapshot: &Snapshot) -> Health {
    Health { report, services: snapshot.services.values().cloned().collect() }
}

/// The counts, worst first, and the triple.
pub fn summary(snapshot: &Snapshot, output: &GetOutput, look: &Look) -> String {
    let report = Report::of(snapshot);
    match output {
        GetOutput::Json => super::json(&whole(report, snapshot)) + "\n",
        GetOutput::Yaml => to_yaml(&whole(report, snapshot)),
        GetOutput::Table | GetOutput::Wide | GetOutput::Name | GetOutput::JsonPath(_) => {
            let summary = &report.summary;
            // As the table shows them.
            let files = &snapshot.node.problems;
            let of = |status: Status| files.iter().filter(move |file| file.status() == status);
            let mut counts: Vec<_> =
                Status::ALL.iter().map(|status| (*status, summary.count(*status) + of(*status).count())).collect();
            counts.retain(|(_, count)| *count > 0);
            counts.sort_by_key(|(status, _)| row::trouble(*status));
            let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
            let counts = if counts.is_empty() { "none".into() } else { counts.join(", ") };
            let causes = |causes: &[Cause], status: Status| {
                let services = causes.iter().map(|one| format!("{} ({})", one.name, one.reason));
                services.chain(of(status).map(|file| format!("{} ({})", clean(&file.file), file.reason))).collect()
            };
            let none = match files.len() {
                0 => String::new(),
                1 => " and 1 file that makes none".into(),
                more => format!(" and {more} files that make none"),
            };
            let head = format!(
                "{} {}{none}: {counts}; {} % healthy",
                summary.total,
                if summary.total == 1 { "service" } else { "services" },
                summary.percentage_healthy,
            );
            let mut text = wrap(&head, look.width.unwrap_or(usize::MAX)).join("\n") + "\n";
            let lists: [(&str, Vec<String>); 4] = [
                ("failed", causes(&report.failed, Status::Failed)),
                ("pending", causes(&report.pending, Status::Waiting)),
                ("skipped", causes(&report.skipped, Status::Skipped)),
                ("started", report.started.iter().map(ToString::to_string).collect()),
            ];
            for (word, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
                let width = look.width.map_or(usize::MAX, |width| width.saturating_sub(SUMMARY_MARGIN));
                let more = names.len().saturating_sub(SUMMARY_NAMES);
                let mut shown = names[..names.len() - more].join(", ");
                if more > 0 {
                    shown.push_str(&format!(" and {more} more"));
                }
                for (at, line) in wrap(&shown, width).iter().enumerate() {
                    let word = if at == 0 { format!("{word}:") } else { String::new() };
                    text.push_str(&format!("{word:<SUMMARY_MARGIN$}{line}\n"));
                }
            }
            text
        }
    }
}

/// As `kubectl get -w`: the table, then a line for each change.
fn watch(args: &GetArgs, selection: &Selection, node: &Node, session: &Session) -> Result<Code, Fault> {
    let mut watching = node.watch()?;
    let mut out = session.out();
    let mut plan = table::Plan::default();
    let mut selection = selection.clone();
    let mut shown: BTreeMap<String, Row> = BTreeMap::new();
    loop {
        let step = watching.step(None)?;
        let Some(known) = watching.known() else { continue };
        match step {
            Step::All => {
                selection = selection.without_kind(known);
                let views: Vec<_> = known.services.values().filter(|view| selection.holds(view)).cloned().collect();
                match &args.output {
                    GetOutput::Table | GetOutput::Wide => {
                        let rows = rows(&views, known, &selection);
                        let now = session.now();
                        plan = table::Plan::of(&rows, shape(args), &session.look, now);
                        let text = table::table(&rows, shape(args), !args.no_headers, &session.look, now);
                        shown = rows.into_iter().map(|row| (row.name.clone(), row.as_in(shape(args)))).collect();
                        out.write_all(text.as_bytes())?;
                    }
                    output => each(&mut out, output, &views, node)?,
                }
            }
            Step::Changed(name) => {
                let Some(view) = known.services.get(&name).filter(|view| selection.holds(view)) else { continue };
                match &args.output {
                    GetOutput::Table | GetOutput::Wide => {
                        let row = Row::of(view);
                        let visible = row.clone().as_in(shape(args));
                        // Of what it does not show it tells no change.
                        if shown.get(&row.name) == Some(&visible) {
                            continue;
                        }
                        shown.insert(row.name.clone(), visible);
                        let text = table::line(&row, shape(args), &session.look, session.now(), &mut plan);
                        out.write_all(text.as_bytes())?;
                    }
                    output => each(&mut out, output, std::slice::from_ref(view), node)?,
                }
            }
            Step::Removed(name) if selection.names.is_empty() || selection.names.iter().any(|n| n == name.as_str()) => {
                shown.remove(name.as_str());
                super::say(&format!("{name} is gone"));
            }
            Step::Removed(_) | Step::Node | Step::TimeIsUp => {}
        }
        out.flush()?;
    }
}

/// One object each, for programs that read as it comes.
fn each(
    out: &mut impl std::io::Write,
    output: &GetOutput,
    views: &[Arc<ServiceView>],
    node: &Node,
) -> Result<(), Fault> {
    for view in views {
        let object = || match node.object(&view.service) {
            // Gone since: that is told by a change of its own.
            Err(Fault::Missing { .. }) => Ok(None),
            object => object.map(Some),
        };
        match output {
            GetOutput::Table | GetOutput::Wide | GetOutput::Name => writeln!(out, "{}", view.service)?,
            GetOutput::Json => {
                if let Some(object) = object()? {
                    writeln!(out, "{object}")?;
                }
            }
            GetOutput::Yaml => {
                if let Some(object) = object()? {
                    write!(out, "---\n{}", to_yaml(&object))?;
                }
            }
            GetOutput::JsonPath(path) => {
                if let Some(object) = object()? {
                    writeln!(out, "{}", parse(path)?.find(&object).unwrap_or_default())?;
                }
            }
        }
    }
    Ok(())
}
