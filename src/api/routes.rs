//! The table of routes: one list for the router, the description and the tests.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request};
use axum::routing::{MethodRouter, delete, get, post};
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::context::Context;
use super::refusal::{Refusal, echo};
use super::{guard, history, logs, node, openapi, register, services, stream};
use crate::model::view::ServiceView;

/// What a handler gets.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) ctx: Arc<Context>,
    pub(super) lane: Lane,
}

/// Which of the seats a connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    General,
    /// For short requests only.
    Reserved,
}

/// What a caller must be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not even a token.
    Anybody,
    View,
    Operate,
    Admin,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub role: Role,
    pub summary: &'static str,
}

const fn route(method: &'static str, path: &'static str, role: Role, summary: &'static str) -> Route {
    Route { method, path, role, summary }
}

/// Everything there is.
pub const ROUTES: &[Route] = &[
    route("GET", "/v1/services", Role::View, "all services, as {items}; `?form=object` for the full objects"),
    route("POST", "/v1/services", Role::Admin, "write a manifest into the directory"),
    route("GET", "/v1/services/{name}", Role::View, "one service as the full object; `?form=view` for its view alone"),
    route("DELETE", "/v1/services/{name}", Role::Admin, "remove the manifest of a service"),
    route("GET", "/v1/services/{name}/logs", Role::View, "its log; `tail`, `since`, `previous`, `follow`, `instance`"),
    route("GET", "/v1/services/{name}/tail", Role::View, "its last lines, without its secrets; `lines`, `instance`"),
    route("GET", "/v1/services/{name}/history", Role::View, "its past: availability, score, latency; `since=24h`"),
    route("POST", "/v1/services/{name}/start", Role::Operate, "start it, clear back-off and overrides"),
    route(
        "POST",
        "/v1/services/{name}/resume",
        Role::Operate,
        "let the schedule of a stopped job go on, without a run",
    ),
    route("POST", "/v1/services/{name}/stop", Role::Operate, "stop it until it is started again"),
    route("POST", "/v1/services/{name}/restart", Role::Operate, "stop it, then start it"),
    route("POST", "/v1/services/{name}/scale", Role::Operate, "how many instances it shall have"),
    route("POST", "/v1/services/{name}/signal", Role::Operate, "send a signal to its processes"),
    route("GET", "/v1/health", Role::View, "the report over all services"),
    route(
        "GET",
        "/v1/node",
        Role::View,
        "the node, its places and its problems; `?form=place` for its directory alone",
    ),
    route("GET", "/v1/snapshot", Role::View, "everything at once, with its sequence number"),
    route("GET", "/v1/watch", Role::View, "a snapshot, then every change (server-sent events)"),
    route("GET", "/v1/events", Role::View, "what happened, then what happens; `?follow=false` for a list"),
    route(
        "POST",
        "/v1/rescan",
        Role::Operate,
        "look at the directory, and try refused edits again, now; answered when that is known",
    ),
    route("POST", "/v1/confirm-missing", Role::Admin, "let go what a lost directory held"),
    route("GET", "/v1/openapi.json", Role::View, "this table"),
    route("GET", "/livez", Role::Anybody, "whether the controller answers"),
    route("GET", "/readyz", Role::Anybody, "whether every required service is ready"),
];

fn handler(route: &Route) -> MethodRouter<App> {
    match (route.method, route.path) {
        ("GET", "/v1/services") => get(services::list),
        ("POST", "/v1/services") => post(register::register),
        ("GET", "/v1/services/{name}") => get(services::one),
        ("DELETE", "/v1/services/{name}") => delete(register::remove),
        ("GET", "/v1/services/{name}/logs") => get(logs::logs),
        ("GET", "/v1/services/{name}/tail") => get(logs::tail),
        ("GET", "/v1/services/{name}/history") => get(history::history),
        ("POST", "/v1/services/{name}/start") => post(services::start),
        ("POST", "/v1/services/{name}/resume") => post(services::resume),
        ("POST", "/v1/services/{name}/stop") => post(services::stop),
        ("POST", "/v1/services/{name}/restart") => post(services::restart),
        ("POST", "/v1/services/{name}/scale") => post(services::scale),
        ("POST", "/v1/services/{name}/signal") => post(services::signal),
        ("GET", "/v1/health") => get(node::health),
        ("GET", "/v1/node") => get(node::node),
        ("GET", "/v1/snapshot") => get(node::snapshot),
        ("GET", "/v1/watch") => get(stream::watch),
        ("GET", "/v1/events") => get(stream::events),
        ("POST", "/v1/rescan") => post(node::rescan),
        ("POST", "/v1/confirm-missing") => post(node::confirm_missing),
        ("GET", "/v1/openapi.json") => get(openapi::openapi),
        ("GET", "/livez") => get(node::livez),
        ("GET", "/readyz") => get(node::readyz),
        (method, path) => unreachable!("{method} {path} is in the table without a handler; a test builds the router"),
    }
}

pub(super) fn router(app: App, lock: guard::Lock) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, handler(route)))
        .method_not_allowed_fallback(not_allowed)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(lock, guard::guard))
        .with_state(app)
}

async fn not_found(request: Request) -> Refusal {
    Refusal::no_such_route(request.uri().path())
}

async fn not_allowed(request: Request) -> Refusal {
    let message = format!("{} does not work on {}", echo(request.method().as_str()), echo(request.uri().path()));
    let next = "GET /v1/openapi.json lists what there is";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, next)
}

/// The service that the URL names. A name is a key of the table and nothing else.
pub(super) struct Named(pub(super) Arc<ServiceView>);

impl FromRequestParts<App> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        let Ok(Path(name)) = path else { return Err(Refusal::no_such_service(parts.uri.path())) };
        let view = app.ctx.board.look(|now| now.services.get(name.as_str()).cloned());
        view.map(Named).ok_or_else(|| Refusal::no_such_service(&name))
    }
}
