//! The one gate in front of every route of every listener: is this asked by who it seems to be?
//!
//! A browser can be led to ask a local address in its user's name: by a form, by a script of another
//! site, by a name that is made to point here (DNS rebinding), through an `ssh -L` or a proxy also
//! on a unix socket. It always says so in a header that a page cannot forge, and such a request is
//! refused with 403 before any handler sees it. A program such as curl sends none of these headers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::http::request::Parts;
use hyper::http::{HeaderName, HeaderValue, header};

use super::refusal::{Refusal, echo};
use super::routes::{ROUTES, Role};
use super::token::Token;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a caller must know; nothing on the local socket, whose peer is known.
pub(super) type Lock = Option<Arc<Token>>;

/// Lets a request through, or answers it with the reason why not.
pub(super) async fn guard(State(lock): State<Lock>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match judge(&parts).and_then(|()| unlock(&parts, &lock)) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn unlock(parts: &Parts, lock: &Lock) -> Result<(), Refusal> {
    let Some(token) = lock else { return Ok(()) };
    let is_open = |path: &str| ROUTES.iter().any(|route| route.role == Role::Anybody && route.path == path);
    let mut given = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (first, more) = (given.next().map(text), given.next().is_some());
    let bearer = first.and_then(|given| given.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    if is_open(parts.uri.path()) || (!more && bearer.is_some_and(|(_, given)| token.is(given.trim()))) {
        return Ok(());
    }
    let message = if first.is_some() { "the token is not the right one" } else { "a token is needed here" };
    let next = "send `authorization: Bearer TOKEN`; the token is in the file that `plugd run` named at its start";
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message, next))
}

fn judge(parts: &Parts) -> Result<(), Refusal> {
    let headers = &parts.headers;
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(text);
    // `GET http://elsewhere/ HTTP/1.1` names a host, too.
    let target = parts.uri.authority().map(|authority| authority.as_str());
    for named in host.into_iter().chain(target) {
        if !is_ours(named) {
            let message = format!("the request is for the host {}, which is not this controller", echo(named));
            return Err(forbidden(message, "ask for http://localhost/"));
        }
    }
    if hosts.next().is_some() {
        return Err(forbidden("the request has two Host headers", "send one"));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let own = text(origin).strip_prefix("http://").is_some_and(|rest| Some(rest) == host);
        if !own {
            let message = format!("the request comes from {}, a page that is not ours", echo(text(origin)));
            return Err(forbidden(message, "ask without an Origin header"));
        }
    }
    for site in headers.get_all(SEC_FETCH_SITE) {
        if !matches!(text(site), "same-origin" | "none") {
            let message = format!("a browser asks on behalf of another site ({})", echo(text(site)));
            return Err(forbidden(message, "open the address itself"));
        }
    }
    if headers.contains_key(header::UPGRADE) {
        return Err(forbidden("no other protocol is spoken here", "GET /v1/watch streams over plain HTTP"));
    }
    for kind in headers.get_all(header::CONTENT_TYPE) {
        if !is_json(text(kind)) {
            let message = format!("a body of {} is not taken", echo(text(kind)));
            return Err(forbidden(message, "send JSON with `content-type: application/json`"));
        }
    }
    Ok(())
}

fn forbidden(message: impl Into<String>, next: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message, next)
}

/// A value that is not ASCII equals nothing that is allowed.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// Names of this machine: `localhost`, a loopback address, and `plugd`, which our own client says;
/// with any port, for a tunnel has its own.
fn is_ours(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let is_loopback = || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    port_is_fine && (host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("plugd") || is_loopback())
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_ours() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "plugd"] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost:80@evil.example",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "10.0.0.1",
            "[::1]evil",
            "localhost:99999",
            "localhost:",
            "::1",
        ] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
