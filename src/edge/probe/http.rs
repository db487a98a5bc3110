//! httpGet: a status from 200 to 399 passes, as with Kubernetes, or what the manifest expects.
//!
//! Each check is a connection of its own, and each redirect that is followed is another: to the same scheme, host and
//! port. One that leads elsewhere is an answer like any other (a 3xx passes): what lies there is not ours to ask. One
//! deadline covers the whole check.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};

use super::context::{LifeContext, Place};
use super::exchange::{self, BODY_MAX, HEAD_MAX};
use super::line;
use super::redirect;
use super::sockets::Sockets;
use super::tcp::{Failure, connect, judged};
use crate::controller::Verdict;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    pub place: Place,
    /// With the query; `/` is put in front where it is missing.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub https: bool,
    /// Empty: 200 to 399.
    pub expect_status: Vec<u16>,
    /// A pattern that the first 64 KiB of the body must match.
    pub expect_body: Option<String>,
}

/// One check; ends within `timeout`.
pub async fn http(ctx: Arc<LifeContext>, sockets: Arc<Sockets>, get: Get, timeout: Duration) -> Verdict {
    let kind = if get.https { "https" } else { "http" };
    let check = async {
        let invalid = |what: String| Failure::because(format!("request cannot be made: {what}"));
        let mut request = request(&get, &get.path).map_err(invalid)?;
        let pattern = match &get.expect_body {
            Some(pattern) => Some(ctx.pattern(pattern).map_err(invalid)?),
            None => None,
        };
        let mut hops = 0;
        let Asked { at, note, answer } = loop {
            let from = path_of(&request);
            let asked = ask(&ctx, &sockets, &get, request).await?;
            let expected = get.expect_status.contains(&asked.answer.status.as_u16());
            let onward = redirect::onward(asked.answer.status, &asked.answer.headers, &from, &get.place, kind);
            let Some(onward) = onward.filter(|_| !expected) else { break asked };
            hops += 1;
            if hops > redirect::HOPS_MAX {
                let many = redirect::HOPS_MAX;
                return Err(of(&asked.at, format!("redirects more than {many} times{}", asked.note)));
            }
            request = self::request(&get, &onward).map_err(|_| of(&asked.at, "redirects to no path".into()))?;
        };
        let said = |why: String| of(&at, why);
        let status = answer.status.as_u16();
        let fits = match get.expect_status.as_slice() {
            [] => (200..=399).contains(&status),
            expected => expected.contains(&status),
        };
        if !fits {
            let expected: Vec<String> = get.expect_status.iter().map(u16::to_string).collect();
            let instead =
                if expected.is_empty() { String::new() } else { format!(" and not {}", expected.join(" or ")) };
            return Err(said(format!("answered {status}{instead}{note}")));
        }
        if answer.broken {
            return Err(said(format!("answered {status}, and closed the connection in the middle of its body{note}")));
        }
        // What it said instead may be anything, a secret too: it is not repeated.
        if pattern.is_some_and(|pattern| !pattern.is_match(&answer.body)) {
            return Err(said(format!("answered {status}, but its body does not match `expectBody`{note}")));
        }
        Ok(format!("{kind} {at} passed ({status}){note}"))
    };
    judged(kind, &ctx, &get.place, timeout, check).await
}

/// One question and its answer.
struct Asked {
    /// Address and path.
    at: String,
    note: String,
    answer: exchange::Answer,
}

async fn ask(
    ctx: &LifeContext,
    sockets: &Arc<Sockets>,
    get: &Get,
    request: Request<Full<Bytes>>,
) -> Result<Asked, Failure> {
    let reached = connect(ctx, sockets, &get.place).await?;
    let (note, at) = (reached.note(), format!("{}{}", reached.addr, request.uri().path()));
    let said = |why: String| of(&at, why);
    let most = HEAD_MAX + BODY_MAX;
    let line = match get.https {
        true => line::tls(reached.stream, &get.place, most).await.map_err(said)?,
        false => line::plain(reached.stream, most),
    };
    let answer = exchange::exchange(line, request, |_| false).await.map_err(said)?;
    Ok(Asked { at, note, answer })
}

fn of(at: &str, why: String) -> Failure {
    Failure::because(format!("{at} {why}"))
}

fn path_of(request: &Request<Full<Bytes>>) -> String {
    request.uri().path_and_query().map_or_else(|| "/".into(), |path| path.to_string())
}

fn request(get: &Get, path: &str) -> Result<Request<Full<Bytes>>, String> {
    let mut request = exchange::request("GET", &get.place, path, Bytes::new())?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &get.headers {
        let parsed = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::from_str(value).ok());
        // The value may be a secret (a token): only the name is told.
        let (name, value) = parsed.ok_or_else(|| format!("header {name:?} is not valid"))?;
        headers.insert(name, value);
    }
    Ok(request)
}
