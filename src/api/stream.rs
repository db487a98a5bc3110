//! Streams: the state as it changes, and what happens.
//!
//! `/v1/watch` compares whole snapshots instead of passing on news: what was sent last is known, so
//! a slow or late client can never end up with a wrong picture. One that was so slow that we had to
//! wait for it is told (`lagged`) and begins anew with a fresh snapshot.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use super::context::Context;
use super::pieces::{Gone, Pipe, Sent, pipe};
use super::refusal::Refusal;
use super::routes::{App, Lane};
use super::wire::List;
use crate::model::view::{Event, Snapshot};

/// Between two comparisons: 10,000 services cost 0.3 ms each, so a busy node spends 3 % a client.
const PACE: Duration = Duration::from_millis(10);
/// A comment line when nothing happens, so that both ends notice a dead peer.
const KEEPALIVE: Duration = Duration::from_secs(15);
const DROPPED: &str =
    "event: dropped\ndata: {\"message\":\"nothing was read for 10 s; connect again for a fresh snapshot\"}\n\n";

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    follow: Option<bool>,
}

pub(super) async fn watch(State(app): State<App>) -> Result<Response, Refusal> {
    let (pipe, response) = open(&app)?;
    tokio::spawn(feed_watch(app.ctx, pipe));
    Ok(response)
}

pub(super) async fn events(
    State(app): State<App>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Ok(Query(wanted)) = query else {
        return Err(Refusal::bad_request("the query is not understood", "use `follow=true` or `follow=false`"));
    };
    if wanted.follow == Some(false) {
        let items: Vec<Event> = lock(&app.ctx).iter().cloned().collect();
        return Ok(axum::Json(List { items }).into_response());
    }
    let (pipe, response) = open(&app)?;
    tokio::spawn(feed_events(app.ctx, pipe));
    Ok(response)
}

fn open(app: &App) -> Result<(Pipe, Response), Refusal> {
    match app.lane {
        Lane::General => {
            let (pipe, body) = pipe(DROPPED);
            let headers = [("content-type", "text/event-stream"), ("cache-control", "no-store")];
            Ok((pipe, (headers, body).into_response()))
        }
        Lane::Reserved => Err(no_seat()),
    }
}

pub(super) fn no_seat() -> Refusal {
    Refusal::unavailable("TooManyStreams", "240 connections are open, and the last 16 are for short requests")
}

async fn feed_watch(ctx: Arc<Context>, mut pipe: Pipe) -> Sent {
    let mut changed = ctx.changed.clone();
    changed.mark_unchanged();
    let mut known = ctx.board.load();
    send_snapshot(&mut pipe, &known).await?;
    loop {
        // The sender is gone when the controller leaves: the stream ends.
        wait(&pipe, async { changed.changed().await.map_err(|_| Gone) }).await?.keep_alive(&mut pipe).await?;
        let now = ctx.board.load();
        if Arc::ptr_eq(&known, &now) {
            continue;
        }
        if pipe.take_waited() {
            let lag = Lag { from: Some(known.sequence), to: Some(now.sequence), missed: None };
            send(&mut pipe, "lagged", now.sequence, &lag).await?;
            send_snapshot(&mut pipe, &now).await?;
        } else {
            send_changes(&mut pipe, &known, &now).await?;
        }
        known = now;
        tokio::time::sleep(PACE).await;
    }
}

async fn feed_events(ctx: Arc<Context>, mut pipe: Pipe) -> Sent {
    let mut sequence = 1;
    let (mut events, mut history) = subscribe(&ctx);
    send(&mut pipe, "snapshot", sequence, &history).await?;
    loop {
        let mut next = None;
        let receive = async {
            next = Some(events.recv().await);
            Ok(())
        };
        wait(&pipe, receive).await?.keep_alive(&mut pipe).await?;
        match next {
            None => {}
            Some(Ok(event)) => {
                sequence += 1;
                send(&mut pipe, "event", sequence, &event).await?;
            }
            Some(Err(RecvError::Lagged(missed))) => {
                sequence += 1;
                send(&mut pipe, "lagged", sequence, &Lag { from: None, to: None, missed: Some(missed) }).await?;
                (events, history) = subscribe(&ctx);
                sequence += 1;
                send(&mut pipe, "snapshot", sequence, &history).await?;
            }
            Some(Err(RecvError::Closed)) => return Err(Gone),
        }
    }
}

#[derive(Serialize)]
struct Lag {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

enum Woken {
    News,
    Quiet,
}

impl Woken {
    async fn keep_alive(self, pipe: &mut Pipe) -> Sent {
        match self {
            Woken::News => Ok(()),
            Woken::Quiet => {
                pipe.write(":\n\n").await?;
                pipe.flush().await
            }
        }
    }
}

/// Until there is news, the client hangs up, or it has been quiet for long.
async fn wait(pipe: &Pipe, news: impl Future<Output = Sent>) -> Result<Woken, Gone> {
    tokio::select! {
        biased;
        () = pipe.closed() => Err(Gone),
        news = news => news.map(|()| Woken::News),
        () = tokio::time::sleep(KEEPALIVE) => Ok(Woken::Quiet),
    }
}

/// History and subscription of one moment (see [`Context::events`]).
fn subscribe(ctx: &Context) -> (tokio::sync::broadcast::Receiver<Event>, List<Event>) {
    let history = lock(ctx);
    (ctx.events.subscribe(), List { items: history.iter().cloned().collect() })
}

fn lock(ctx: &Context) -> std::sync::MutexGuard<'_, std::collections::VecDeque<Event>> {
    // A panic elsewhere leaves the ring as whole as it was.
    ctx.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn send(pipe: &mut Pipe, event: &str, id: u64, data: &(impl Serialize + Sync)) -> Sent {
    pipe.write(&format!("event: {event}\nid: {id}\ndata: ")).await?;
    pipe.write_json(data).await?;
    pipe.write("\n\n").await?;
    pipe.flush().await
}

async fn send_snapshot(pipe: &mut Pipe, snapshot: &Snapshot) -> Sent {
    pipe.write(&format!("event: snapshot\nid: {}\ndata: ", snapshot.sequence)).await?;
    write_snapshot(pipe, snapshot).await?;
    pipe.write("\n\n").await?;
    pipe.flush().await
}

/// The JSON of a [`Snapshot`], piece by piece.
pub(super) async fn write_snapshot(pipe: &mut Pipe, snapshot: &Snapshot) -> Sent {
    let Snapshot { sequence, node, services } = snapshot;
    pipe.write(&format!("{{\"sequence\":{sequence},\"node\":")).await?;
    pipe.write_json(node).await?;
    pipe.write(",\"services\":{").await?;
    for (index, (name, view)) in services.iter().enumerate() {
        pipe.write(if index > 0 { ",\"" } else { "\"" }).await?;
        pipe.write(name.as_str()).await?;
        pipe.write("\":").await?;
        pipe.write_json(view).await?;
    }
    pipe.write("}}").await
}

/// What is different, all under the new sequence number: removed, then changed, then the node.
async fn send_changes(pipe: &mut Pipe, known: &Snapshot, now: &Snapshot) -> Sent {
    #[derive(Serialize)]
    struct Removed<'a> {
        service: &'a crate::model::name::Name,
    }
    for name in known.services.keys().filter(|name| !now.services.contains_key(*name)) {
        send(pipe, "removed", now.sequence, &Removed { service: name }).await?;
    }
    for (name, view) in &now.services {
        let same = known.services.get(name).is_some_and(|old| Arc::ptr_eq(old, view) || old == view);
        if !same {
            send(pipe, "changed", now.sequence, view).await?;
        }
    }
    if now.node != known.node {
        send(pipe, "node", now.sequence, &now.node).await?;
    }
    Ok(())
}
