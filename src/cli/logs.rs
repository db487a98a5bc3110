//! `plugd logs`: reads the log files themselves, so it works without a controller.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::args::values::Since;
use super::args::{LogsArgs, LogsOutput};
use super::fault::{Code, Fault};
use super::gone::{self, News};
use super::look::{Color, Look};
use super::{Session, last, node, row, select};
use crate::edge::output::layout::Side;
use crate::edge::output::{Follow, Line, LogFiles, Query, escape};
use crate::edge::places::{self, Who};
use crate::model::log_names;
use crate::model::name::{Instance, InvalidName, Name};
use crate::model::reason::Reason;
use crate::model::text::{clean, record};
use crate::model::view::{LogFormat, ServiceView, Snapshot};

/// Lines of each where several are shown and nothing else narrows it: a few screens.
const TAIL_OF_SEVERAL: usize = 100;
/// Columns that short names are filled up to.
const PREFIX_MAX: usize = 24;
/// Between two looks for new lines: a person sees no difference, and 10 wake-ups a second are cheap.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const NOTHING: &str = "nothing has been written yet";

/// The logs of one service or instance.
struct Source {
    name: Name,
    /// Only this instance.
    instance: Option<u32>,
    /// The service has several: each line tells which.
    several: bool,
    format: LogFormat,
    files: LogFiles,
    /// Why nothing, or not all, is kept of what it writes now.
    trouble: Option<String>,
    /// Why it does not run: `web is failed (ConfigInvalid): …`.
    idle: Option<String>,
}

impl Source {
    fn tell_trouble(&self) {
        if let Some(trouble) = &self.trouble {
            super::say(&format!("{}: {trouble}", self.name));
        }
    }

    /// Nothing has been written yet, and why.
    fn silence(&self) -> String {
        let idle = self.idle.as_ref().map(|idle| format!(": {idle}")).unwrap_or_default();
        format!("{NOTHING}{idle}")
    }
}

pub fn logs(args: &LogsArgs, session: &Session) -> Result<Code, Fault> {
    let snapshot =
        session.node().and_then(|node| Ok((node.snapshot_with(&args.names)?, node.get("/v1/node").ok()))).ok();
    let (snapshot, told) =
        (snapshot.as_ref().map(|(snapshot, _)| snapshot), snapshot.as_ref().and_then(|(_, n)| n.as_ref()));
    let dir = directory(told, session)?;
    let sources = sources(&args.names, &dir, snapshot, session)?;
    if sources.is_empty() {
        return Err(Fault::no("there is no service to show logs of", "`plugd get` lists them"));
    }
    let query = query(args, sources.len(), session)?;
    let mut print = Print::new(args, &sources, session.look);
    let mut out = session.out();
    if args.follow {
        if let ([only], false) = (sources.as_slice(), args.is_narrowed())
            && only.trouble.is_none()
            && last_lines(&only.files, 1).is_empty()
        {
            super::say(&only.silence());
        }
        return follow(sources, &query, &mut print, &mut out, session);
    }
    let mut streams = Vec::new();
    for source in &sources {
        let lines = match source.files.read(&query) {
            Ok(lines) => lines,
            // A place that takes nothing holds nothing, and that is told.
            Err(_) if source.trouble.is_some() => Box::new(std::iter::empty()),
            Err(error) => return Err(Fault::path("read the logs of", source.name.as_str(), error)),
        };
        streams.push(lines.peekable());
    }
    let mut quiet = true;
    while let Some(at) = earliest(&mut streams) {
        if let Some(line) = streams[at].next() {
            quiet = false;
            print.line(&mut out, &sources[at], &line)?;
        }
    }
    let troubled = sources.iter().any(|source| source.trouble.is_some());
    if quiet && troubled {
        sources.iter().for_each(Source::tell_trouble);
    } else if quiet {
        let silence = match sources.as_slice() {
            [only] => only.silence(),
            _ => NOTHING.to_string(),
        };
        super::say(match (args.previous, args.is_narrowed()) {
            (true, _) if args.since.is_none() && args.grep.is_none() => {
                "no line is kept of a life before this one: it has not been started again, or wrote nothing"
            }
            (_, true) => "no line matches",
            (_, false) => &silence,
        });
    }
    out.flush()?;
    Ok(Code::Done)
}

/// The last lines of a service, escaped, for `plugd status`.
pub fn last_lines(files: &LogFiles, count: usize) -> Vec<String> {
    files.last_lines(count).unwrap_or_default().iter().map(shown).collect()
}

/// The log files of a service as its view tells them.
pub fn files_of(dir: &Path, view: &ServiceView, instance: Option<u32>) -> LogFiles {
    let own = view.log.as_deref().map(Path::new).filter(|log| log.is_absolute() && !log.starts_with(dir));
    LogFiles::of(dir, &view.service, own.map(log_names::path_of).as_deref(), instance)
}

/// A node that runs, and has no place for log files.
pub fn keeps_none(told: &Value) -> bool {
    told.get("places").is_some() && told.pointer("/places/logs").is_none()
}

/// The log directory: what the controller says, what it last said, else where the flags put it.
pub fn directory(told: Option<&Value>, session: &Session) -> Result<PathBuf, Fault> {
    let unknown = || match node::directory(&session.global) {
        Ok(dir) => Fault::no(
            format!("there are no logs of {}", dir.display()),
            "they begin with the first `plugd run`; if it had a --state-dir or --log-dir, name it",
        ),
        Err(fault) => fault,
    };
    if told.is_some_and(keeps_none) {
        let of = told.and_then(|told| told.get("directory")).and_then(Value::as_str).unwrap_or_default();
        let problems = told.and_then(|told| told.get("problems")).and_then(Value::as_array).into_iter().flatten();
        let is_it = |problem: &&Value| problem.get("type").and_then(Value::as_str) == Some("LogNotWritten");
        let why = problems.into_iter().find(is_it).and_then(|problem| problem.get("message")).and_then(Value::as_str);
        // What it says ends with what to do.
        let (what, next) = why
            .and_then(|why| why.rsplit_once("; "))
            .unwrap_or(("no place for them can be written", "give `plugd run` a --log-dir"));
        return Err(Fault::no(format!("the node of {of} keeps no log files: {what}"), next));
    }
    let flagged = || session.global.state_dir.as_ref().map(|dir| dir.join("logs"));
    let usual = || {
        let key = places::key(&node::directory(&session.global).ok()?);
        let who = Who::now();
        let beside = who.state_home.map(|home| home.join("plugd").join(&key).join("logs"));
        [Path::new("/var/log/plugd").join(&key)].into_iter().chain(beside).find(|dir| dir.is_dir())
    };
    node::place("logs", told, &session.global).or_else(flagged).or_else(usual).ok_or_else(unknown)
}

fn sources(names: &[String], dir: &Path, snapshot: Option<&Snapshot>, session: &Session) -> Result<Vec<Source>, Fault> {
    match snapshot {
        Some(snapshot) => {
            let all: Vec<String> = match names {
                [] => snapshot.services.keys().map(Name::to_string).collect(),
                names => select::plain(snapshot, names),
            };
            all.iter()
                .map(|text| {
                    let (view, instance) = match select::find_instance(snapshot, text) {
                        Ok(found) => found,
                        Err(fault) => return kept(text, dir, snapshot).ok_or(fault),
                    };
                    let files = files_of(dir, view, instance);
                    let several = files.has_several(Some(view));
                    let (trouble, idle, format) = (trouble(view), idle(view), view.log_format);
                    Ok(Source { name: view.service.clone(), instance, several, format, files, trouble, idle })
                })
                .collect()
        }
        None => {
            let all: Vec<String> = match names {
                [] => {
                    let watched = node::directory(&session.global)?;
                    last::read(&watched).into_iter().map(|row| row.name).collect()
                }
                names => names.to_vec(),
            };
            all.iter()
                .map(|text| {
                    by_name(text, dir).map_err(|error| Fault::usage(error.to_string(), "`plugd get` lists the names"))
                })
                .collect()
        }
    }
}

fn trouble(view: &ServiceView) -> Option<String> {
    let of_its_log = |reason: &Reason| matches!(reason, Reason::LogNotWritten | Reason::LogsDropped);
    let problem = view.problems.iter().find(|problem| of_its_log(&problem.reason))?;
    Some(problem.message.clone())
}

fn idle(view: &ServiceView) -> Option<String> {
    let word = row::word(view.status, view.reason);
    let why = view.why.first().and_then(|why| why.lines().next()).unwrap_or_default();
    (!view.process_running && !why.is_empty()).then(|| format!("{} is {word}: {}", view.service, clean(why)))
}

/// The usual files of that name, whether there is such a service or not.
fn by_name(text: &str, dir: &Path) -> Result<Source, InvalidName> {
    let instance = Instance::parse(text);
    let name = Name::parse(instance.as_ref().map_or(text, |instance| instance.service.as_str()))?;
    let index = instance.map(|instance| instance.index);
    let files = LogFiles::of(dir, &name, None, index);
    let several = files.has_several(None);
    Ok(Source { name, instance: index, several, format: LogFormat::Text, files, trouble: None, idle: None })
}

/// What is left of a service whose manifest was deleted, or of an instance that was scaled away: a log goes only when
/// room is needed.
fn kept(text: &str, dir: &Path, snapshot: &Snapshot) -> Option<Source> {
    let mut source = by_name(text, dir).ok()?;
    let what = match (snapshot.services.get(&source.name), source.instance) {
        (Some(view), Some(index)) => {
            (source.files, source.format) = (files_of(dir, view, Some(index)), view.log_format);
            format!("{} has no instance {index} any more", view.service)
        }
        (Some(_) | None, _) => format!("there is no service {text} any more"),
    };
    if last_lines(&source.files, 1).is_empty() {
        return None;
    }
    super::say(&format!("{what}; this is what is kept of its log"));
    Some(source)
}

fn query(args: &LogsArgs, sources: usize, session: &Session) -> Result<Query, Fault> {
    let since = args.since.map(|since| match since {
        Since::At(at) => at,
        Since::Ago(ago) => {
            let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
            session.now().checked_sub(ago).unwrap_or(Timestamp::MIN)
        }
    });
    let grep = args.grep.as_deref().map(regex::Regex::new).transpose().map_err(|error| {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let grep = args.grep.as_deref().unwrap_or_default();
        Fault::usage(
            format!("--grep {grep:?} is no regular expression: {why}"),
            "a backslash before a character takes it as it is",
        )
    })?;
    let narrowed = since.is_some() || grep.is_some() || args.previous;
    let tail = match args.tail {
        Some(lines) => Some(usize::try_from(lines).unwrap_or(usize::MAX)),
        None if sources > 1 && !narrowed => Some(TAIL_OF_SEVERAL),
        None => None,
    };
    Ok(Query { tail, since, previous: args.previous, grep })
}

/// The stream whose next line is the oldest; one without a time goes first, for it cannot be placed.
fn earliest<I: Iterator<Item = Line>>(streams: &mut [Peekable<I>]) -> Option<usize> {
    let mut best: Option<(usize, Option<Timestamp>)> = None;
    for (at, stream) in streams.iter_mut().enumerate() {
        let Some(line) = stream.peek() else { continue };
        if best.is_none_or(|(_, time)| line.time < time) {
            best = Some((at, line.time));
        }
    }
    best.map(|(at, _)| at)
}

fn follow(
    sources: Vec<Source>,
    query: &Query,
    print: &mut Print,
    out: &mut impl std::io::Write,
    session: &Session,
) -> Result<Code, Fault> {
    let news = gone::watch(sources.iter().map(|source| source.name.clone()).collect(), &session.global);
    let mut leaving: BTreeSet<Name> = BTreeSet::new();
    let mut follows: Vec<(Source, Follow)> = Vec::new();
    for source in sources {
        source.tell_trouble();
        let followed = source.files.clone().follow(query);
        let follow = followed.map_err(|error| Fault::path("read the logs of", source.name.as_str(), error))?;
        follows.push((source, follow));
    }
    loop {
        let mut quiet = true;
        for (source, follow) in &mut follows {
            let lines = follow.poll().map_err(|error| Fault::path("read the logs of", source.name.as_str(), error))?;
            quiet &= lines.is_empty();
            // From the moment an instance comes to it each tells who it is.
            if source.instance.is_none() && lines.iter().any(|line| line.instance > 0) && !source.several {
                source.several = true;
                print.prefix.get_or_insert(prefix_of(source).min(PREFIX_MAX));
            }
            for line in &lines {
                print.line(out, source, line)?;
            }
        }
        out.flush()?;
        if !quiet {
            continue;
        }
        // Their last words are read by now.
        for name in std::mem::take(&mut leaving) {
            super::say(&format!("{name} is gone: its manifest was removed; nothing more comes of it"));
            follows.retain(|(source, _)| source.name != name);
        }
        if follows.is_empty() {
            return Ok(Code::Done);
        }
        for news in news.try_iter() {
            match news {
                News::Gone(name) if follows.iter().any(|(source, _)| source.name == name) => {
                    leaving.insert(name);
                }
                News::Gone(_) => {}
                News::Unwatched => super::say("plugd has ended; what a later `plugd run` writes is shown here too"),
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Columns of the name before each line.
fn prefix_of(source: &Source) -> usize {
    source.name.as_str().len() + if source.several { 2 } else { 0 }
}

/// How lines are printed.
struct Print {
    json: bool,
    times: bool,
    /// Columns of the widest prefix; none where one service is shown.
    prefix: Option<usize>,
    look: Look,
}

impl Print {
    fn new(args: &LogsArgs, sources: &[Source], look: Look) -> Print {
        let several = sources.len() > 1 || sources.iter().any(|source| source.several && source.instance.is_none());
        // One very long name does not push the lines of all others to the right.
        let widest = sources.iter().map(prefix_of).max().map(|widest| widest.min(PREFIX_MAX));
        Print {
            json: args.output == LogsOutput::Json,
            times: args.timestamps,
            prefix: widest.filter(|_| several),
            look,
        }
    }

    fn line(&self, out: &mut impl std::io::Write, source: &Source, line: &Line) -> Result<(), Fault> {
        let who = match source.several {
            true => format!("{}/{}", source.name, line.instance),
            false => source.name.to_string(),
        };
        if self.json {
            let mut object = json!({
                "service": source.name,
                "instance": line.instance,
                "time": line.time,
                "stream": match line.side { Side::Out => "out", Side::Err => "err" },
                "line": String::from_utf8_lossy(&line.bytes),
                "leftOut": line.left_out,
                "dropped": line.dropped,
            });
            if let Some(fields) = fields_of(source.format, line) {
                object["fields"] = fields.into();
            }
            writeln!(out, "{object}")?;
            return Ok(());
        }
        if line.dropped > 0 {
            let text = format!("({} bytes were dropped here)", line.dropped);
            writeln!(out, "{}", self.look.paint(Color::Dim, &text))?;
        }
        if let Some(width) = self.prefix {
            write!(out, "{} ", self.look.paint(Color::Dim, &format!("{who:<width$} |")))?;
        }
        if self.times {
            let time = line.time.map_or("-".to_string(), |time| time.to_string());
            write!(out, "{} ", self.look.paint(Color::Dim, &time))?;
        }
        let text = match (source.format, self.look.terminal) {
            (LogFormat::Json, false) => marked(escape::escape_json(&line.bytes), line),
            (format, _) => told(format, line),
        };
        writeln!(out, "{text}")?;
        Ok(())
    }
}

fn fields_of(format: LogFormat, line: &Line) -> Option<Map<String, Value>> {
    (format == LogFormat::Json).then(|| record::fields(std::str::from_utf8(&line.bytes).ok()?))?
}

/// A line as a person reads it.
pub fn told(format: LogFormat, line: &Line) -> String {
    let json = std::str::from_utf8(&line.bytes).ok().filter(|_| format == LogFormat::Json);
    let record = json.and_then(record::told);
    record.map_or_else(|| shown(line), |text| marked(escape::escape(text.as_bytes()), line))
}

/// A line as it may be shown: escaped, and marked where it was cut.
pub fn shown(line: &Line) -> String {
    marked(escape::escape(&line.bytes), line)
}

fn marked(mut text: String, line: &Line) -> String {
    if line.left_out > 0 {
        text.push_str(&escape::cut_mark(line.left_out));
    }
    text
}
