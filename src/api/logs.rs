//! `/v1/services/{name}/logs`: lines as text, escaped as on a terminal. `…/tail`: the last of them for a status.
//!
//! Files are read on the threads for blocking work, a batch at a time. What a slow client does not
//! take waits in the file: the service never notices.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use super::context::{Request, Written};
use super::pieces::{Gone, Pipe, Sent, pipe};
use super::refusal::{Refusal, echo};
use super::routes::{App, Lane, Named};
use super::services::{ANSWER_WAIT, ask};
use super::stream::no_seat;
use super::wire::Tail;
use crate::edge::output::{Follow, Line, LogFiles, Query, escape};
use crate::model::log_names;
use crate::model::text::record;
use crate::model::view::{LogFormat, ServiceView};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(100);
/// Lines that are read at one time.
const BATCH: usize = 1000;
/// Lines of `tail`, which are gathered in memory; beyond, read the file itself.
const TAIL_MAX: usize = 100_000;
const DROPPED: &str = "\nplugd: nothing was read for 10 s; ask again with `since`\n";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    tail: Option<usize>,
    /// A moment (RFC 3339).
    since: Option<String>,
    #[serde(default)]
    previous: bool,
    #[serde(default)]
    follow: bool,
    instance: Option<u32>,
    /// Each line with its time.
    #[serde(default)]
    times: bool,
}

pub(super) async fn logs(
    State(app): State<App>,
    Named(view): Named,
    wanted: Result<Parameters<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Parameters(wanted) = wanted.map_err(|_| {
        let next = "use tail=N, since=TIME, previous=true, follow=true, instance=N, times=true";
        Refusal::bad_request("the query is not understood", next)
    })?;
    let since = match wanted.since.as_deref().map(str::parse::<Timestamp>) {
        None => None,
        Some(Ok(since)) => Some(since),
        Some(Err(_)) => {
            let message = format!("{} is no moment", echo(wanted.since.as_deref().unwrap_or_default()));
            return Err(Refusal::bad_request(message, "write it as 2026-11-23T12:30:02Z"));
        }
    };
    let Some(dir) = app.ctx.places.logs.clone() else {
        return Err(Refusal::conflict("plugd runs without log files here", "give it a place with `--log-dir`"));
    };
    if wanted.follow && app.lane == Lane::Reserved {
        return Err(no_seat());
    }
    let own = own_file(&view, &dir);
    let files = LogFiles::of(&dir, &view.service, own.as_deref(), wanted.instance);
    let several = files.has_several(Some(&view));
    // They are gathered together.
    let tail_max = TAIL_MAX / view.instances.len().max(1);
    let query = Query {
        tail: wanted.tail.map(|tail| tail.min(tail_max)),
        since,
        previous: wanted.previous,
        ..Query::default()
    };
    let print = Print { times: wanted.times, names: several, service: view.service.to_string() };
    let (pipe, body) = pipe(DROPPED);
    let source = tokio::task::spawn_blocking(move || match wanted.follow {
        true => files.follow(&query).map(Source::Grows),
        false => files.read(&query).map(Source::Ends),
    });
    let source = source.await.unwrap_or_else(|ended| Err(io::Error::other(ended))).map_err(|error| {
        let message = format!("the log of {} cannot be read: {error}", print.service);
        let next = format!("look at {}", dir.display());
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "LogUnreadable", message, next)
    })?;
    tokio::spawn(feed(source, print, pipe));
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    lines: Option<usize>,
    instance: Option<u32>,
}

/// Lines of a tail, if it does not say how many; and at most.
const LAST: usize = 10;
const LAST_MAX: usize = 100;
/// Of each this much: the loop looks for secrets in all of it.
const SHOWN_MAX: usize = 4096;

/// What a status may show to whom the log is not shown: covered as all that is quoted of a service.
pub(super) async fn tail(
    State(app): State<App>,
    Named(view): Named,
    wanted: Result<Parameters<Last>, QueryRejection>,
) -> Result<axum::Json<Tail>, Refusal> {
    let Parameters(wanted) =
        wanted.map_err(|_| Refusal::bad_request("the query is not understood", "use lines=N, instance=N"))?;
    let Some(dir) = app.ctx.places.logs.clone() else { return Ok(axum::Json(Tail::default())) };
    let files = LogFiles::of(&dir, &view.service, own_file(&view, &dir).as_deref(), wanted.instance);
    let count = wanted.lines.unwrap_or(LAST).min(LAST_MAX);
    let read = move || files.last_lines(count);
    let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
    // A place that cannot be read holds nothing that could be shown; its problem is told.
    let lines = read.unwrap_or_default();
    let written = |line: &Line| {
        let text = String::from_utf8_lossy(&line.bytes[..line.bytes.len().min(SHOWN_MAX)]).into_owned();
        // Before it is covered: a record may spell a secret in another way.
        let record = record::told(&text).filter(|_| view.log_format == LogFormat::Json);
        Written { instance: line.instance, at: line.time, text: record.unwrap_or(text) }
    };
    let said = lines.iter().map(written).collect();
    let name = view.service.clone();
    let said = ask(&app.ctx, ANSWER_WAIT, |reply| Request::Cover { name, lines: said, reply }).await?;
    let covered = said.iter().filter(|said| said.is_none()).count();
    let shown = lines.iter().zip(said).filter_map(|(line, said)| {
        let mut text = escape::escape(said?.as_bytes());
        let left_out = line.left_out + line.bytes.len().saturating_sub(SHOWN_MAX) as u64;
        if left_out > 0 {
            text.push_str(&escape::cut_mark(left_out));
        }
        Some(text)
    });
    Ok(axum::Json(Tail { lines: shown.collect(), covered }))
}

/// A log outside of the log directory is the service's own (`logs.path`).
fn own_file(view: &ServiceView, dir: &Path) -> Option<PathBuf> {
    view.log.as_ref().map(Path::new).filter(|path| !path.starts_with(dir)).map(log_names::path_of)
}

/// Lines that come in batches; asked only on a thread that may block.
enum Source {
    Ends(Box<dyn Iterator<Item = Line> + Send>),
    Grows(Follow),
}

impl Source {
    /// The next lines; none from a source that ends is its end.
    fn batch(&mut self) -> io::Result<Vec<Line>> {
        match self {
            Source::Ends(lines) => Ok(lines.take(BATCH).collect()),
            Source::Grows(follow) => follow.poll(),
        }
    }
}

async fn feed(mut source: Source, print: Print, mut pipe: Pipe) -> Sent {
    loop {
        // In and out again: a follower must not hold a thread while nothing happens.
        let asked = tokio::task::spawn_blocking(move || {
            let batch = source.batch();
            (source, batch)
        });
        let Ok((back, batch)) = asked.await else { return Err(Gone) };
        source = back;
        let lines = match batch {
            Ok(lines) => lines,
            Err(error) => {
                tracing::warn!(service = %print.service, %error, "a log cannot be read");
                pipe.write(&format!("plugd: the log cannot be read: {error}\n")).await?;
                return pipe.flush().await;
            }
        };
        for line in &lines {
            pipe.write(&print.line(line)).await?;
        }
        pipe.flush().await?;
        match &source {
            Source::Ends(_) if lines.is_empty() => return Ok(()),
            Source::Grows(_) if lines.is_empty() => tokio::select! {
                () = pipe.closed() => return Err(Gone),
                () = tokio::time::sleep(LOOK) => {}
            },
            Source::Ends(_) | Source::Grows(_) => {}
        }
    }
}

/// How lines are shown.
#[derive(Debug)]
struct Print {
    times: bool,
    /// The instance before each line.
    names: bool,
    service: String,
}

impl Print {
    fn line(&self, line: &Line) -> String {
        let mut text = String::with_capacity(line.bytes.len() + 64);
        if line.dropped > 0 {
            text.push_str(&format!("plugd: {} bytes were dropped here\n", line.dropped));
        }
        if let (true, Some(time)) = (self.times, line.time) {
            text.push_str(&format!("{time} "));
        }
        if self.names {
            text.push_str(&format!("{}/{} | ", self.service, line.instance));
        }
        text.push_str(&escape::escape(&line.bytes));
        if line.left_out > 0 {
            text.push_str(&escape::cut_mark(line.left_out));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::output::layout::Side;

    #[test]
    fn a_line_is_shown_with_its_time_and_instance_and_without_control_characters() {
        let line = Line {
            instance: 2,
            side: Side::Out,
            time: Some(Timestamp::from_second(0).expect("in range")),
            bytes: b"a\x1b[2Jb".to_vec(),
            left_out: 7,
            dropped: 9,
        };
        let print = Print { times: true, names: true, service: "web".to_string() };
        let expected =
            "plugd: 9 bytes were dropped here\n1970-01-01T00:00:00Z web/2 | a\\x1b[2Jb… (7 bytes left out)\n";
        assert_eq!(print.line(&line), expected);
    }
}
