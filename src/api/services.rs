//! Services: shown from the snapshot, steered through the loop.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::context::{Context, OrderError, Reply, Request};
use super::object;
use super::pieces::{Pipe, Sent, pipe};
use super::refusal::{Json, Refusal, echo};
use super::routes::{App, Named};
use super::wire::{Accepted, Scale, Signal};
use crate::controller::Order;
use crate::model::signal as signals;
use crate::model::view::{ServiceView, Snapshot};

/// The loop takes up a request within milliseconds; beyond this it is in trouble.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// More instances than a machine has room for: a slip of the finger.
const REPLICAS_MAX: u32 = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Form {
    pub(super) form: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<Form>, QueryRejection>,
) -> Result<Response, Refusal> {
    let shape = shape(query, Shape::View)?;
    let snapshot = app.ctx.board.load();
    Ok(stream_json(move |mut pipe| async move {
        match shape {
            Shape::View => {
                pipe.write("{\"items\":[").await?;
                write_views(&mut pipe, &snapshot).await?;
            }
            Shape::Object => {
                pipe.write("{\"apiVersion\":\"plugd/v1\",\"kind\":\"List\",\"items\":[").await?;
                for (index, view) in snapshot.services.values().enumerate() {
                    if index > 0 {
                        pipe.write(",").await?;
                    }
                    // A loop that does not answer leaves out the specs; what is known is told.
                    let object = full(&app.ctx, view).await.unwrap_or_else(|_| object::object(view, None));
                    pipe.write_json(&object).await?;
                }
            }
        }
        pipe.write("]}").await?;
        pipe.flush().await
    }))
}

pub(super) async fn one(
    State(app): State<App>,
    Named(view): Named,
    query: Result<Query<Form>, QueryRejection>,
) -> Result<Response, Refusal> {
    match shape(query, Shape::Object)? {
        Shape::View => Ok(axum::Json(view).into_response()),
        Shape::Object => Ok(axum::Json(full(&app.ctx, &view).await?).into_response()),
    }
}

/// In which form services are told.
#[derive(Debug, Clone, Copy)]
enum Shape {
    View,
    Object,
}

/// A list is of views, which need nobody to answer; one service is the full object.
fn shape(query: Result<Query<Form>, QueryRejection>, usual: Shape) -> Result<Shape, Refusal> {
    let Ok(Query(query)) = query else {
        return Err(Refusal::bad_request("the query is not understood", "use `form=view` or `form=object`"));
    };
    match query.form.as_deref() {
        None => Ok(usual),
        Some("view") => Ok(Shape::View),
        Some("object") => Ok(Shape::Object),
        Some(other) => Err(Refusal::bad_request(format!("there is no form {}", echo(other)), "use `view` or `object`")),
    }
}

/// The full object: what was never valid has no spec; its status is told all the same.
async fn full(ctx: &Context, view: &ServiceView) -> Result<serde_json::Value, Refusal> {
    let name = view.service.clone();
    let mut object = match ask(ctx, ANSWER_WAIT, |reply| Request::Effective { name, reply }).await {
        Ok(spec) => object::object(view, Some(spec)),
        Err(Asked::Answered(_)) => object::object(view, None),
        Err(Asked::Unanswered(refusal)) => return Err(refusal),
    };
    let name = view.service.clone();
    match ask(ctx, ANSWER_WAIT, |reply| Request::Vitals { name, reply }).await {
        Ok(vitals) => object["status"]["vitals"] = serde_json::to_value(vitals).unwrap_or_default(),
        // It has just gone.
        Err(Asked::Answered(_)) => {}
        Err(Asked::Unanswered(refusal)) => return Err(refusal),
    }
    Ok(object)
}

pub(super) async fn start(State(app): State<App>, Named(view): Named) -> Result<Response, Refusal> {
    order(&app.ctx, &view, Order::Start).await
}

pub(super) async fn resume(State(app): State<App>, Named(view): Named) -> Result<Response, Refusal> {
    if view.schedule.is_none() {
        let message = format!("{} runs by no schedule that could go on without a run", view.service);
        return Err(Refusal::conflict(message, "start it"));
    }
    order(&app.ctx, &view, Order::Resume).await
}

pub(super) async fn stop(State(app): State<App>, Named(view): Named) -> Result<Response, Refusal> {
    order(&app.ctx, &view, Order::Stop).await
}

pub(super) async fn restart(State(app): State<App>, Named(view): Named) -> Result<Response, Refusal> {
    order(&app.ctx, &view, Order::Restart).await
}

pub(super) async fn scale(
    State(app): State<App>,
    Named(view): Named,
    Json(scale): Json<Scale>,
) -> Result<Response, Refusal> {
    if scale.replicas > REPLICAS_MAX {
        let message =
            format!("{} instances are more than the {REPLICAS_MAX} that one service may have", scale.replicas);
        return Err(Refusal::bad_request(message, "ask for fewer"));
    }
    if view.schedule.is_some() {
        let message = format!("{} runs by its schedule, one process a run", view.service);
        let next = "`schedule.concurrencyPolicy: Allow` in its manifest lets runs overlap; `plugd start` runs it now";
        return Err(Refusal::conflict(message, next));
    }
    order(&app.ctx, &view, Order::Scale(scale.replicas)).await
}

pub(super) async fn signal(
    State(app): State<App>,
    Named(view): Named,
    Json(body): Json<Signal>,
) -> Result<Response, Refusal> {
    let Some(signal) = signals::parse(&body.signal) else {
        let message = format!("{} is no signal", echo(&body.signal));
        return Err(Refusal::bad_request(message, "use a name such as HUP or USR1, or a number from 1 to 64"));
    };
    let (name, instance) = (view.service.clone(), body.instance);
    ask(&app.ctx, ANSWER_WAIT, |reply| Request::Signal { name, instance, signal, reply }).await?;
    Ok(accepted())
}

async fn order(ctx: &Context, view: &ServiceView, order: Order) -> Result<Response, Refusal> {
    let name = view.service.clone();
    let forgotten = ask(ctx, ANSWER_WAIT, |reply| Request::Order { name, order, reply }).await?;
    // A restart is over once it is done.
    let warning = forgotten.filter(|_| order != Order::Restart);
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { accepted: true, warning })).into_response())
}

pub(super) fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(Accepted { accepted: true, warning: None })).into_response()
}

/// Why there is no answer of the wanted kind.
pub(super) enum Asked {
    /// The loop said no.
    Answered(OrderError),
    /// The loop said nothing.
    Unanswered(Refusal),
}

impl From<Asked> for Refusal {
    fn from(asked: Asked) -> Refusal {
        match asked {
            Asked::Answered(error) => error.into(),
            Asked::Unanswered(refusal) => refusal,
        }
    }
}

/// Hands a request to the loop and waits for what it says.
pub(super) async fn ask<T>(
    ctx: &Context,
    limit: Duration,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Asked> {
    let (reply, answer) = oneshot::channel();
    match ctx.requests.try_send(request(reply)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            let message = "too many requests wait for the controller";
            return Err(Asked::Unanswered(Refusal::unavailable("Busy", message)));
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return Err(Asked::Answered(OrderError::ShuttingDown)),
    }
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(Asked::Answered(error)),
        Ok(Err(_)) => Err(Asked::Answered(OrderError::ShuttingDown)),
        Err(_) => {
            let message = format!("the controller has not answered within {} s", limit.as_secs());
            let next = "it may still do as asked; `plugd status` shows it";
            Err(Asked::Unanswered(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "Late", message, next)))
        }
    }
}

/// An answer of any length, written by a task of its own.
pub(super) fn stream_json<F, W>(write: W) -> Response
where
    W: FnOnce(Pipe) -> F,
    F: Future<Output = Sent> + Send + 'static,
{
    let (pipe, body) = pipe("");
    tokio::spawn(write(pipe));
    ([("content-type", "application/json")], body).into_response()
}

/// Views with commas between them.
pub(super) async fn write_views(pipe: &mut Pipe, snapshot: &Arc<Snapshot>) -> Sent {
    for (index, view) in snapshot.services.values().enumerate() {
        if index > 0 {
            pipe.write(",").await?;
        }
        pipe.write_json(view).await?;
    }
    Ok(())
}
