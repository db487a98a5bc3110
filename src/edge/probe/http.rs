//! httpGet: a status from 200 to 399 passes, as with Kubernetes, or what the manifest expects.
//!
//! Each check is a connection of its own. Redirects are not followed: a 3xx passes, and what lies
//! behind it is not ours to ask, least of all on another host. One deadline covers the whole check.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};

use super::context::{LifeContext, Place};
use super::exchange::{self, BODY_MAX, HEAD_MAX};
use super::line;
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
        let request = request(&get).map_err(invalid)?;
        let pattern = match &get.expect_body {
            Some(pattern) => Some(ctx.pattern(pattern).map_err(invalid)?),
            None => None,
        };
        let reached = connect(&ctx, &sockets, &get.place).await?;
        let (note, path) = (reached.note(), request.uri().path().to_string());
        let at = format!("{}{path}", reached.addr);
        let said = |why: String| Failure::because(format!("{at} {why}"));
        let most = HEAD_MAX + BODY_MAX;
        let line = match get.https {
            true => line::tls(reached.stream, &get.place, most).await.map_err(said)?,
            false => line::plain(reached.stream, most),
        };
        let answer = exchange::exchange(line, request, |_| false).await.map_err(said)?;
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
        // What it said instead may be anything, a secret too: it is not repeated.
        if pattern.is_some_and(|pattern| !pattern.is_match(&answer.body)) {
            return Err(said(format!("answered {status}, but its body does not match `expectBody`{note}")));
        }
        Ok(format!("{kind} {at} passed ({status}){note}"))
    };
    judged(kind, &ctx, &get.place, timeout, check).await
}

fn request(get: &Get) -> Result<Request<Full<Bytes>>, String> {
    let mut request = exchange::request("GET", &get.place, &get.path, Bytes::new())?;
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
