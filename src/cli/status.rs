//! `plugd status NAME`: the cause and the next step first, then everything, then the last lines.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;

use super::args::{GetArgs, GetOutput, StatusArgs};
use super::fault::{Code, Fault};
use super::look::{Color, Look, columns, wrap};
use super::{Session, get, history, last, logs, row, select, told as telling};
use crate::api::wire::Tail;
use crate::model::name::Name;
use crate::model::ready;
use crate::model::text::{age, clean, indicator, since, span, telling};
use crate::model::view::{FileProblem, InstanceView, RejectedView, ScoreView, ServiceView, Snapshot, VitalsView};

/// Log lines under a status: what fits beside the rest on one screen.
const LOG_LINES: usize = 10;
/// Instances whose response time is told; `-o json` has them all.
const INSTANCES_SHOWN: usize = 10;
/// Links of a chain of causes that are told: nobody debugs deeper on one screen.
const CHAIN_MAX: usize = 16;

pub fn status(args: &StatusArgs, session: &Session) -> Result<Code, Fault> {
    if args.names.is_empty() {
        let output = if args.output == "json" { GetOutput::Json } else { GetOutput::Table };
        return get::get(&GetArgs { output, ..GetArgs::default() }, session);
    }
    let node = match session.node() {
        Err(fault) if fault.is_unreachable() => return last::status(args, session, fault),
        node => node?,
    };
    let snapshot = node.snapshot_with(&args.names)?;
    let told = node.get("/v1/node").ok();
    let mut out = session.out();
    let mut code = Code::Done;
    for (at, name) in select::plain(&snapshot, &args.names).iter().enumerate() {
        // `get` shows a file that makes no service under its own name.
        if let Some(problem) = snapshot.node.problems.iter().find(|problem| problem.file == *name) {
            code = Code::NotReady;
            match args.output.as_str() {
                "json" => writeln!(out, "{}", super::json(problem))?,
                _ => write!(out, "{}", text_of_file(problem, &session.look))?,
            }
            continue;
        }
        let (view, instance) = select::find_instance(&snapshot, name)?;
        if !ready::is_well(view) {
            code = Code::NotReady;
        }
        if args.output == "json" {
            writeln!(out, "{}", super::json(&node.object(&view.service)?))?;
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        write!(out, "{}", text(view, &snapshot, &session.look, session.now()))?;
        // What wobbles is asked for by itself; a node that does not say it is an older one.
        let wobbles = node.object(&view.service).ok().and_then(|object| object.pointer("/status/vitals").cloned());
        if let Some(wobbles) = wobbles.and_then(|told| serde_json::from_value(told).ok()) {
            write!(out, "{}", vitals(&wobbles, &session.look))?;
        }
        if told.as_ref().is_some_and(logs::keeps_none) && view.log.is_none() {
            write!(out, "{}", label("log", "none is kept: no place for log files can be written", &session.look))?;
        }
        // The controller knows what of it is secret; `plugd logs` shows it as it was written.
        let of = instance.map(|index| format!("&instance={index}")).unwrap_or_default();
        let tail = node.get(&format!("/v1/services/{}/tail?lines={LOG_LINES}{of}", view.service)).ok();
        let tail = tail.and_then(|tail| serde_json::from_value::<Tail>(tail).ok()).unwrap_or_default();
        if !tail.lines.is_empty() || tail.covered > 0 {
            writeln!(out, "\n{}", session.look.paint(Color::Bold, "last output"))?;
        }
        if tail.covered > 0 {
            let so = "what it wrote before may hold secrets that plugd does not know any more";
            writeln!(out, "  ({so};\n   `plugd logs {}` shows it as it was written)", view.service)?;
        }
        for line in tail.lines {
            writeln!(out, "  {line}")?;
        }
    }
    out.flush()?;
    telling::lost_directory(&snapshot).iter().for_each(|lost| super::say(lost));
    Ok(code)
}

/// Everything but the log.
pub fn text(view: &ServiceView, snapshot: &Snapshot, look: &Look, now: Timestamp) -> String {
    let mut text = headline(view, look, now);
    for (at, why) in view.why.iter().filter(|line| !line.is_empty()).enumerate() {
        text.push_str(&label(if at == 0 { "why" } else { "" }, &clean(why), look));
    }
    for (at, link) in chain(view, snapshot).iter().enumerate() {
        text.push_str(&label(if at == 0 { "cause" } else { "" }, link, look));
    }
    if let Some(next) = view.told_next() {
        text.push_str(&label("next", &clean(&next), look));
    }
    for problem in &view.problems {
        text.push_str(&label("problem", &format!("{} since {}", problem.reason, moment(problem.since)), look));
        for line in problem.message.lines() {
            text.push_str(&label("", &clean(line), look));
        }
    }
    text.push('\n');
    text.push_str(&facts(view, snapshot, look, now));
    if view.instances.len() > 1 {
        text.push_str(&instances(view, now));
    }
    if let Some(schedule) = &view.schedule {
        text.push_str(&history::runs(&schedule.runs, look, now));
    }
    text
}

/// A file that makes no service: that it does not, and why.
fn text_of_file(problem: &FileProblem, look: &Look) -> String {
    let status = problem.status();
    let mut text = format!(
        "{} {}  {}  makes no service\n",
        look.paint(Color::of(status), indicator(status, look.charset)),
        look.paint(Color::Bold, &clean(&problem.file)),
        look.paint(Color::of(status), &row::word(status, Some(problem.reason))),
    );
    for (at, line) in problem.message.lines().enumerate() {
        text.push_str(&label(if at == 0 { "why" } else { "" }, &clean(line), look));
    }
    text
}

/// `✘ mailer  unhealthy (CrashLoopBackOff)  0/1 ready  for 3m`
fn headline(view: &ServiceView, look: &Look, now: Timestamp) -> String {
    let word = row::word(view.status, view.reason);
    let sign = indicator(view.status, look.charset);
    let name = view.service.as_str();
    let rest = format!("{}/{} ready  for {}", view.ready, view.desired, age(since(view.since, now)));
    // On a narrow terminal each part has a line of its own.
    let fits = |parts: &[&str]| look.width.is_none_or(|width| columns(&parts.join("  ")) + 2 <= width);
    let first = if fits(&[name, &word]) { "  " } else { "\n  " };
    let second = if fits(&[name, &word, &rest]) { "  " } else { "\n  " };
    format!(
        "{} {}{first}{}{second}{rest}\n",
        look.paint(Color::of(view.status), sign),
        look.paint(Color::Bold, name),
        look.paint(Color::of(view.status), &word),
    )
}

/// The dependencies that are not ready, and theirs, down to the ones that have a cause of their own.
fn chain(view: &ServiceView, snapshot: &Snapshot) -> Vec<String> {
    let mut links = Vec::new();
    let mut seen = BTreeSet::from([view.service.clone()]);
    if !ready::is_well(view) {
        // What stopped it is one of them, however the others are.
        let names = view.lost.as_ref().map_or(view.depends_on.as_slice(), std::slice::from_ref);
        follow(names, snapshot, 0, &mut seen, &mut links);
    }
    links
}

fn follow(names: &[Name], snapshot: &Snapshot, depth: usize, seen: &mut BTreeSet<Name>, links: &mut Vec<String>) {
    for name in names {
        if links.len() >= CHAIN_MAX || !seen.insert(name.clone()) {
            continue;
        }
        let indent = "  ".repeat(depth);
        match snapshot.services.get(name) {
            None => links.push(format!("{indent}{name}: no manifest declares it")),
            Some(view) if ready::is_well(view) => {}
            Some(view) => {
                let word = row::word(view.status, view.reason);
                let why = view.why.first().map(|why| format!(": {}", clean(why))).unwrap_or_default();
                links.push(format!("{indent}{name} is {word}{why}"));
                follow(&view.depends_on, snapshot, depth + 1, seen, links);
            }
        }
    }
}

fn facts(view: &ServiceView, snapshot: &Snapshot, look: &Look, now: Timestamp) -> String {
    let mut text = String::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&label(key, &value, look));
        }
    };
    let names = |names: &[Name]| names.iter().map(Name::to_string).collect::<Vec<_>>().join(", ");
    let needed_by: Vec<Name> = snapshot
        .services
        .values()
        .filter(|v| v.depends_on.contains(&view.service))
        .map(|v| v.service.clone())
        .collect();

    put("available", yes(view.available).into());
    put("required", yes(view.required).into());
    if let [instance] = view.instances.as_slice() {
        let started = instance.started.map(|at| format!(", up {}", age(since(at, now)))).unwrap_or_default();
        put("process", instance.pid.map(|pid| format!("pid {pid}{started}")).unwrap_or_default());
    }
    put("address", clean(view.address.as_deref().unwrap_or_default()).into_owned());
    put("check", clean(view.check.as_deref().unwrap_or_default()).into_owned());
    put("restarts", view.restarts.to_string());
    put("score", score(view));
    put("since", moment(view.since));
    if let Some(schedule) = &view.schedule {
        put("schedule", clean(&format!("{} in {}", schedule.cron, schedule.time_zone)).into_owned());
        put("next run", schedule.next_run.map(moment).unwrap_or_default());
        put("last success", schedule.last_success.map(moment).unwrap_or_default());
    }
    put("retry at", view.retry_at.map(moment).unwrap_or_default());
    put("last exit", last_exit(view));
    put("tried", view.tried.iter().map(|path| clean(path).into_owned()).collect::<Vec<_>>().join(", "));
    put("depends on", names(&view.depends_on));
    put("needed by", names(&needed_by));
    put("capabilities", clean(&view.capabilities.join(", ")).into_owned());
    put(
        "labels",
        clean(&view.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")).into_owned(),
    );
    put("manifest", manifest(view));
    put("log", clean(view.log.as_deref().unwrap_or_default()).into_owned());
    // How far a stop reaches matters where there is something to stop.
    let kill_scope = view.kill_scope.as_deref().filter(|_| view.process_running);
    put("kill scope", clean(kill_scope.unwrap_or_default()).into_owned());
    text
}

/// The subtraction: `65 = 100 - 15 (a failed check) - 20 (2 restarts in the last 10 min)`.
fn score(view: &ServiceView) -> String {
    match (view.score, view.instances.as_slice()) {
        (None, _) => String::new(),
        (Some(_), [InstanceView { score: Some(one), .. }]) => subtraction(one),
        (Some(mean), _) => format!("{mean}, the mean of its instances"),
    }
}

fn subtraction(score: &ScoreView) -> String {
    let steps: Vec<String> =
        score.less.iter().map(|less| format!(" - {} ({})", less.points, clean(&less.why))).collect();
    if steps.is_empty() { score.points.to_string() } else { format!("{} = 100{}", score.points, steps.concat()) }
}

/// Availability and response times, as they are now.
pub fn vitals(vitals: &VitalsView, look: &Look) -> String {
    let mut text = String::new();
    if let Some(percent) = vitals.availability_percent {
        let since = vitals.availability_since.map(|at| format!(" since {}", moment(at))).unwrap_or_default();
        text.push_str(&label("availability", &format!("{percent} %{since}"), look));
    }
    let several = vitals.instances.len() > 1;
    for instance in vitals.instances.iter().take(INSTANCES_SHOWN) {
        let Some(response) = instance.response_ms else { continue };
        let name = if several { format!("{}: ", instance.name) } else { String::new() };
        let failures = match instance.consecutive_failures {
            0 => String::new(),
            1 => "; the last check failed".into(),
            count => format!("; the last {count} checks failed"),
        };
        text.push_str(&label("answers in", &format!("{name}{response} ms on average{failures}"), look));
    }
    text
}

fn manifest(view: &ServiceView) -> String {
    let manifest = &view.manifest;
    let file = clean(&manifest.file);
    let refused = |rejected: &RejectedView| format!("{} was refused at {}", rejected.sha256, moment(rejected.at));
    let in_force = manifest.in_force.map(|older| format!(", {older} is in force")).unwrap_or_default();
    match (&manifest.rejected, manifest.sha256.as_str()) {
        (Some(rejected), "") => format!("{file}  {}; it never was valid", refused(rejected)),
        (None, "") => file.into_owned(),
        (Some(rejected), sha256) => {
            let in_force = if in_force.is_empty() { ", the one before is in force" } else { &in_force };
            format!("{file}  sha256 {sha256}  generation {}; {}{in_force}", manifest.generation, refused(rejected))
        }
        (None, sha256) => format!("{file}  sha256 {sha256}  generation {}{in_force}", manifest.generation),
    }
}

fn last_exit(view: &ServiceView) -> String {
    let Some(exit) = &view.last_exit else { return String::new() };
    let how = match (&exit.signal, exit.code) {
        (Some(signal), _) => format!("by {}", clean(signal)),
        (None, Some(code)) => format!("code {code}"),
        (None, None) => "unknown".into(),
    };
    let how = exit.told_beside().map_or(how.clone(), |told| format!("{how} ({})", clean(&told)));
    let said = telling(&exit.output).map(|line| format!(": {}", clean(line))).unwrap_or_default();
    format!("{how} at {}, ran for {}{said}", moment(exit.at), span(exit.ran_for))
}

fn instances(view: &ServiceView, now: Timestamp) -> String {
    let mut text = String::from("\n");
    for instance in &view.instances {
        let pid = instance.pid.map(|pid| format!("  pid {pid}")).unwrap_or_default();
        let port = instance.port.map(|port| format!("  port {port}")).unwrap_or_default();
        let up = instance.started.map(|at| format!("  up {}", age(since(at, now)))).unwrap_or_default();
        let word = row::word(instance.status, instance.reason);
        let score = instance.score.as_ref().map(|score| format!("  score {}", subtraction(score))).unwrap_or_default();
        let _ = writeln!(text, "  {}  {word}{pid}{port}{up}  {} restarts{score}", instance.name, instance.restarts);
    }
    text
}

/// Columns before a value.
const MARGIN: usize = 15;
/// A value is not broken into less than this, however narrow the terminal.
const VALUE_MIN: usize = 20;

/// `  why          exits with 1`: a value that is too long goes on beneath itself, on a terminal.
fn label(key: &str, value: &str, look: &Look) -> String {
    let width = look.width.map_or(usize::MAX, |width| width.saturating_sub(MARGIN).max(VALUE_MIN));
    let mut text = String::new();
    for (at, line) in wrap(value, width).iter().enumerate() {
        let key = if at == 0 { key } else { "" };
        text.push_str(&format!("  {key:<13}{line}\n"));
    }
    text
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// Whole seconds, as the status file has them.
pub fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
