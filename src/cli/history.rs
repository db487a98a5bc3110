//! `plugd history`: availability, score, latency and restarts over time, then the last exits and events.
//!
//! The controller answers with what it gathered up to this moment; where none runs the memory itself is
//! read, and that is said.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::args::values::Since;
use super::args::{HistoryArgs, LogsOutput};
use super::fault::{Code, Fault};
use super::look::{Color, Look, columns, cut, wrap};
use super::status::moment;
use super::{Session, node, row, select, spark};
use crate::edge::store::{Question, Store};
use crate::model::history::{Bucket, History, fold};
use crate::model::name::Name;
use crate::model::text::{age, clean, since, span, telling};
use crate::model::view::{Event, ExitView, RunView, ServiceView};

/// Columns of a sparkline where nothing else says how many.
const CELLS: usize = 60;
/// More tell a person nothing more.
const CELLS_MAX: usize = 96;
/// A narrower one stands on a line of its own.
const CELLS_MIN: usize = 24;
/// Columns before a value.
const MARGIN: usize = 16;
/// Before a line that belongs to the one above it.
const INDENT: &str = "  ";
/// Rows of a table that a person is shown; `-o json` has more.
const ROWS: usize = 10;
/// Moments are told in full where there is so much room, else as ages.
const WIDE: usize = 72;

pub fn history(args: &HistoryArgs, session: &Session) -> Result<Code, Fault> {
    let name =
        Name::parse(&args.name).map_err(|error| Fault::usage(error.to_string(), "`plugd get` lists the names"))?;
    let (history, view) = match session.node() {
        Ok(node) => ask(&node, &name, args)?,
        Err(fault) if fault.is_unreachable() => (remembered(&name, args, session, fault)?, None),
        Err(fault) => return Err(fault),
    };
    let mut out = session.out();
    match args.output {
        LogsOutput::Text => write!(out, "{}", text(&history, view.as_deref(), &session.look, session.now()))?,
        LogsOutput::Json => writeln!(out, "{}", super::json(&history))?,
    }
    out.flush()?;
    Ok(Code::Done)
}

type Answer = (History, Option<std::sync::Arc<ServiceView>>);

fn ask(node: &node::Node, name: &Name, args: &HistoryArgs) -> Result<Answer, Fault> {
    let since = match args.since {
        // As long as was asked for, told by the clock of the one who answers.
        Since::Ago(ago) => format!("{}ms", ago.as_millis()),
        Since::At(at) => at.to_string(),
    };
    let snapshot = node.snapshot_with(&[name.to_string()])?;
    let answer = match node.get(&format!("/v1/services/{name}/history?since={since}")) {
        Err(missing @ Fault::Missing { .. }) => {
            return Err(select::find(&snapshot, name.as_str()).err().unwrap_or(missing));
        }
        answer => answer?,
    };
    let history = serde_json::from_value(answer).map_err(|error| {
        Fault::no(format!("the controller's answer is not understood: {error}"), "are both of one version?")
    })?;
    Ok((history, snapshot.services.get(name.as_str()).cloned()))
}

/// What the memory holds while no controller runs.
fn remembered(name: &Name, args: &HistoryArgs, session: &Session, fault: Fault) -> Result<History, Fault> {
    let Some(path) = node::memory(None, &session.global) else { return Err(fault) };
    let until = session.now();
    let since = match args.since {
        Since::Ago(ago) => until.checked_sub(SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX)),
        Since::At(at) => Ok(at),
    };
    let question = Question { service: name.to_string(), since: since.unwrap_or(Timestamp::MIN), until };
    let history = Store::recall_from(&path, &question).map_err(|error| {
        Fault::no(format!("{} cannot be read: {error}", path.display()), "start plugd, which moves a broken one aside")
    })?;
    if history.is_empty() {
        super::say(&fault.to_string());
        let what = format!("the memory {} holds nothing of {name} in that time", path.display());
        return Err(Fault::Missing { what, next: "ask for more with --since 90d".into() });
    }
    super::say(&format!("no controller runs; this is what the memory {} holds", path.display()));
    Ok(history)
}

/// The whole answer for a person.
pub fn text(history: &History, view: Option<&ServiceView>, look: &Look, now: Timestamp) -> String {
    let mut text = head(history, view, look);
    text.push('\n');
    if history.points.is_empty() {
        text.push_str("  nothing was measured in this time\n");
    } else {
        text.push_str(&figures(history, look));
    }
    text.push_str(&runs(&history.runs, look, now));
    text.push_str(&exits(&history.exits, look, now));
    text.push_str(&events(&history.events, look, now));
    text
}

fn head(history: &History, view: Option<&ServiceView>, look: &Look) -> String {
    let width = look.width.unwrap_or(usize::MAX);
    let name = clean(&history.service);
    let status = view.map(|view| {
        let ready = format!("  {}/{} ready", view.ready, view.desired);
        let word = row::word(view.status, view.reason);
        let gap = if columns(&name) + 2 + columns(&word) + ready.len() > width { "\n" } else { "  " };
        format!("{gap}{}{ready}", look.paint(Color::of(view.status), &word))
    });
    let name = look.paint(Color::Bold, &name);
    let step = if history.step_secs < 3_600 { "minutes" } else { "hours" };
    let asked = asked(history);
    let stretch = format!("the last {asked} in {step}, {} to {}", moment(history.since), moment(history.until));
    let stretch = wrap(&stretch, width).join("\n");
    format!("{name}{}\n{stretch}\n", status.unwrap_or_default())
}

/// `24h`, `7d`.
fn asked(history: &History) -> String {
    let asked = since(history.since, history.until);
    // Asked a moment ago, answered now.
    let hours = asked.as_secs().saturating_add(30) / 3_600;
    if (1..48).contains(&hours) { format!("{hours}h") } else { age(asked) }
}

fn figures(history: &History, look: &Look) -> String {
    let total = &history.total;
    let mut lines: Vec<Figure> = vec![Figure {
        label: "availability",
        value: total.availability().map_or("-".into(), percent),
        draw: |cells, look| spark::parts(&values(cells, |one| one.availability().map(|up| up / 100.0)), look.charset),
    }];
    if let Some(mean) = total.score.mean() {
        lines.push(Figure {
            label: "score",
            value: format!("{} (min {})", mean.floor(), total.score.extreme),
            draw: |cells, look| {
                spark::parts(&values(cells, |one| one.score.mean().map(|mean| mean / 100.0)), look.charset)
            },
        });
    }
    if let Some(mean) = total.latency.mean() {
        lines.push(Figure {
            label: "latency",
            value: format!("{} (max {})", millis(mean), millis(total.latency.extreme as f64)),
            draw: |cells, look| spark::beside(&values(cells, |one| one.latency.mean()), look.charset),
        });
    }
    lines.push(Figure {
        label: "restarts",
        value: total.restarts.to_string(),
        draw: |cells, look| spark::beside(&values(cells, |one| Some(one.restarts as f64)), look.charset),
    });
    if total.probes_ok + total.probes_failed > 0 {
        lines.push(Figure {
            label: "probes",
            value: format!("{} ok, {} failed", total.probes_ok, total.probes_failed),
            draw: |cells, look| spark::beside(&values(cells, |one| Some(one.probes_failed as f64)), look.charset),
        });
    }
    let widest = lines.iter().map(|line| columns(&line.value)).max().unwrap_or_default();
    let room = look.width.map_or(CELLS, |width| width.saturating_sub(MARGIN + widest + INDENT.len()));
    let beneath = room < CELLS_MIN;
    let room = if beneath { look.width.map_or(CELLS, |width| width.saturating_sub(INDENT.len())) } else { room };
    let drawn = from_the_first(history);
    let cells = fold(&drawn, room.clamp(1, CELLS_MAX).min(steps(&drawn)));
    let mut text = String::new();
    for line in &lines {
        let drawn = (line.draw)(&cells, look);
        let drawn = drawn.trim_end();
        let _ = match beneath {
            true => writeln!(text, "  {:<14}{}\n{INDENT}{drawn}", line.label, line.value),
            false => writeln!(text, "  {:<14}{:<widest$}{INDENT}{drawn}", line.label, line.value),
        };
    }
    let indent = if beneath { INDENT.len() } else { MARGIN + widest + INDENT.len() };
    let from = format!("{} ago", asked(&drawn));
    let gap = cells.len().saturating_sub(columns(&from) + "now".len()).max(1);
    let axis = format!("{from}{}now", " ".repeat(gap));
    let _ = writeln!(text, "{}{}", " ".repeat(indent), look.paint(Color::Dim, &axis));
    text
}

/// One measure: its sum, and how it is drawn.
struct Figure {
    label: &'static str,
    value: String,
    draw: fn(&[Option<Bucket>], &Look) -> String,
}

/// What lies before the first point is not drawn: a young service has its whole width.
fn from_the_first(history: &History) -> History {
    let first = history.points.first().map_or(history.since, |point| point.at.max(history.since));
    History { since: first, exits: Vec::new(), events: Vec::new(), ..history.clone() }
}

/// A cell is never shorter than a step: between two of them nothing is known.
fn steps(history: &History) -> usize {
    let asked = history.until.as_second().saturating_sub(history.since.as_second()).max(1) as u64;
    asked.div_ceil(history.step_secs.max(1)) as usize
}

fn values(cells: &[Option<Bucket>], of: impl Fn(&Bucket) -> Option<f64>) -> Vec<Option<f64>> {
    cells.iter().map(|cell| cell.as_ref().and_then(&of)).collect()
}

fn percent(value: f64) -> String {
    // 100 is said only of all, and 99.90 as 99.9.
    format!("{value} %")
}

/// A length of time of microseconds, as people say it.
fn millis(micros: f64) -> String {
    match micros {
        _ if micros < 1_000.0 => format!("{:.2} ms", micros / 1_000.0),
        _ if micros < 10_000.0 => format!("{:.1} ms", micros / 1_000.0),
        _ if micros < 1_000_000.0 => format!("{:.0} ms", micros / 1_000.0),
        _ => format!("{:.1} s", micros / 1_000_000.0),
    }
}

/// The runs of a job, also for `plugd status`.
pub fn runs(runs: &[RunView], look: &Look, now: Timestamp) -> String {
    let rows = runs.iter().map(|run| {
        let scheduled = run.scheduled.map_or("by hand".into(), |at| when(at, look, now));
        let started = run.started.map_or("-".into(), |at| when(at, look, now));
        let took = run.took_seconds.and_then(|took| Duration::try_from_secs_f64(took).ok());
        let code = run.code.map_or(String::new(), |code| format!(", code {code}"));
        [scheduled, started, took.map_or("-".into(), span), format!("{}{code}", run.result.word())]
    });
    table("last runs", ["SCHEDULED", "STARTED", "TOOK", "RESULT"], rows.collect(), look)
}

fn exits(exits: &[ExitView], look: &Look, now: Timestamp) -> String {
    let rows = exits.iter().map(|exit| {
        let how = match (&exit.signal, exit.code) {
            (Some(signal), _) => clean(signal).into_owned(),
            (None, Some(code)) => format!("code {code}"),
            (None, None) => "unknown".into(),
        };
        let how = match (exit.told_beside(), look.width) {
            (Some(_), Some(width)) if width < WIDE => exit.reason.map_or(how, |reason| reason.to_string()),
            (Some(told), width) => {
                // What a check said stands in the events, and the last output needs room, too.
                let told = told.split(": ").next().unwrap_or_default();
                let room = width.map_or(usize::MAX, |width| width / 3);
                format!("{how} ({})", cut(&clean(told), room, look.ellipsis()))
            }
            (None, _) => how,
        };
        let said = telling(&exit.output).map(|line| clean(line).into_owned()).unwrap_or_default();
        [when(exit.at, look, now), how, span(exit.ran_for), said]
    });
    table("last exits", ["WHEN", "HOW", "RAN FOR", "LAST OUTPUT"], rows.collect(), look)
}

fn events(events: &[Event], look: &Look, now: Timestamp) -> String {
    let rows = events.iter().map(|event| {
        let mark = if event.warning { "! " } else { "" };
        let message = clean(&event.message).into_owned();
        [when(event.at, look, now), format!("{mark}{}", event.reason), message]
    });
    table("last events", ["WHEN", "EVENT", "MESSAGE"], rows.collect(), look)
}

fn when(at: Timestamp, look: &Look, now: Timestamp) -> String {
    match look.width {
        Some(width) if width < WIDE => age(since(at, now)),
        Some(_) | None => moment(at),
    }
}

/// The newest rows in columns, the last of them cut to the terminal.
fn table<const N: usize>(title: &str, head: [&str; N], mut rows: Vec<[String; N]>, look: &Look) -> String {
    if rows.is_empty() {
        return String::new();
    }
    rows.drain(..rows.len().saturating_sub(ROWS));
    let mut text = format!("\n{title}\n");
    let head = head.map(str::to_string);
    let widths: [usize; N] =
        std::array::from_fn(|at| rows.iter().chain([&head]).map(|row| columns(&row[at])).max().unwrap_or_default());
    let before: usize = widths[..N - 1].iter().map(|width| width + 2).sum::<usize>() + INDENT.len();
    for (at, row) in [&head].into_iter().chain(&rows).enumerate() {
        let mut line = String::from(INDENT);
        for (cell, width) in row.iter().zip(widths).take(N - 1) {
            let _ = write!(line, "{cell}{}  ", " ".repeat(width - columns(cell)));
        }
        let room = look.width.map_or(usize::MAX, |width| width.saturating_sub(before));
        line.push_str(&cut(&row[N - 1], room, look.ellipsis()));
        let line = line.trim_end();
        let _ = writeln!(text, "{}", if at == 0 { look.paint(Color::Dim, line) } else { line.to_string() });
    }
    text
}
