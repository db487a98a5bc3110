//! The node as a whole: report, places, snapshot, and the two bare answers for health checks.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::{Map, Value};

use super::context::Request;
use super::refusal::{Refusal, echo};
use super::routes::App;
use super::services::{Form, accepted, ask, stream_json, write_views};
use super::wire::{Node, Place};
use crate::edge::directory;
use crate::model::ready::node_ready;
use crate::model::text::Report;

const ANSWER_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn health(State(app): State<App>) -> Response {
    let snapshot = app.ctx.board.load();
    stream_json(move |mut pipe| async move {
        let report = serde_json::to_value(Report::of(&snapshot)).expect("a report is JSON");
        let fields: Map<String, Value> = report.as_object().cloned().unwrap_or_default();
        pipe.write("{").await?;
        for (key, value) in &fields {
            pipe.write_json(key).await?;
            pipe.write(":").await?;
            pipe.write_json(value).await?;
            pipe.write(",").await?;
        }
        pipe.write("\"services\":[").await?;
        write_views(&mut pipe, &snapshot).await?;
        pipe.write("]}").await?;
        pipe.flush().await
    })
}

pub(super) async fn snapshot(State(app): State<App>) -> Response {
    let snapshot = app.ctx.board.load();
    stream_json(move |mut pipe| async move {
        super::stream::write_snapshot(&mut pipe, &snapshot).await?;
        pipe.flush().await
    })
}

/// Whole, or where it is alone: what a client compares before it says anything.
pub(super) async fn node(
    State(app): State<App>,
    query: Result<Query<Form>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Ok(Query(query)) = query else {
        return Err(Refusal::bad_request("the query is not understood", "use `form=place`, or none"));
    };
    match query.form.as_deref() {
        None => {}
        Some("place") => {
            let directory = app.ctx.dir.clone();
            let identity = directory::identity(&directory);
            return Ok(axum::Json(Place { directory, identity }).into_response());
        }
        Some(other) => {
            return Err(Refusal::bad_request(format!("there is no form {}", echo(other)), "use `place`, or none"));
        }
    }
    let snapshot = app.ctx.board.load();
    let node = Node {
        directory: app.ctx.dir.clone(),
        controller: app.ctx.info.clone(),
        places: app.ctx.places.clone(),
        ready: node_ready(&snapshot),
        view: snapshot.node.clone(),
        report: Report::of(&snapshot),
    };
    Ok(axum::Json(node).into_response())
}

pub(super) async fn rescan(State(app): State<App>) -> Result<Response, Refusal> {
    ask(&app.ctx, ANSWER_WAIT, |reply| Request::Rescan { reply }).await?;
    Ok(accepted())
}

pub(super) async fn confirm_missing(State(app): State<App>) -> Result<Response, Refusal> {
    ask(&app.ctx, ANSWER_WAIT, |reply| Request::ConfirmMissing { reply }).await?;
    Ok(accepted())
}

/// The loop itself runs this: an answer is the proof.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    match node_ready(&app.ctx.board.load()) {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}
