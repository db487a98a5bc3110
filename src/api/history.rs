//! `/v1/services/{name}/history`: what the memory holds of one service, in numbers and events.
//!
//! A service that is gone has a history too, until its hours are too old.

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::context::Request;
use super::refusal::{Refusal, echo};
use super::routes::App;
use super::services::ask;
use crate::edge::store::Question;
use crate::model::duration;
use crate::model::name::Name;

/// As far back as the hours go.
const SINCE_MAX: Duration = Duration::from_secs(90 * 86_400);
const SINCE_DEFAULT: Duration = Duration::from_secs(86_400);
/// The loop hands over at once.
const GATHER_WAIT: Duration = Duration::from_secs(10);
/// The memory's thread may wait for a disk.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    since: Option<String>,
}

pub(super) async fn history(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Ok(Path(text)) = path else { return Err(Refusal::no_such_service("?")) };
    let name = Name::parse(&text).map_err(|_| Refusal::no_such_service(&text))?;
    let Ok(Query(wanted)) = wanted else {
        return Err(Refusal::bad_request("the query is not understood", "use since=24h, since=7d or since=TIME"));
    };
    let until = ask(&app.ctx, GATHER_WAIT, |reply| Request::Gathered { reply }).await?;
    let since = match wanted.since.as_deref() {
        None => ago(until, SINCE_DEFAULT),
        Some(text) => moment(text, until)?,
    };
    let question = Question { service: name.to_string(), since: since.max(ago(until, SINCE_MAX)), until };
    let answer = app.ctx.store.recall(question);
    let Ok(answer) = tokio::time::timeout(ANSWER_WAIT, answer).await else {
        let message = format!("the memory has not answered within {} s", ANSWER_WAIT.as_secs());
        return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "Late", message, "is its disk well? try again"));
    };
    let Ok(mut history) = answer else {
        return Err(Refusal::conflict("plugd runs without memory here", "give it a place with `--state-dir`"));
    };
    if history.is_empty() && !app.ctx.board.look(|now| now.services.contains_key(name.as_str())) {
        return Err(Refusal::no_such_service(&text));
    }
    // What goes on is known here; the memory has seen its begin only.
    let runs = app.ctx.board.look(|now| Some(now.services.get(name.as_str())?.schedule.as_ref()?.runs.clone()));
    history.runs = runs.unwrap_or(history.runs);
    Ok(axum::Json(history).into_response())
}

/// `24h`, or a moment.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    if let Ok(back) = duration::parse(text) {
        return Ok(ago(now, back));
    }
    text.parse().map_err(|_| {
        let message = format!("{} is neither a length of time nor a moment", echo(text));
        Refusal::bad_request(message, "write it as 24h, 7d or 2026-11-23T12:30:02Z")
    })
}

fn ago(now: Timestamp, back: Duration) -> Timestamp {
    let back = SignedDuration::try_from(back).unwrap_or(SignedDuration::MAX);
    now.checked_sub(back).unwrap_or(Timestamp::MIN)
}
