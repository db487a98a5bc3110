//! httpGet: a status from 200 to 399 passes, as with Kubernetes.
//!
//! Each check is a connection of its own. Redirects are not followed: a 3xx passes, and what lies
//! behind it is not ours to ask, least of all on another host. The other side may be anything that
//! listens, so all that it sends together is capped, 1xx answers and headers included, and one
//! deadline covers the whole check.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::context::{LifeContext, Place};
use super::sockets::Sockets;
use super::tcp::{Failure, connect, judged};
use crate::controller::Verdict;

/// Head and 1xx answers, in bytes: what common servers allow for a request's head, times eight.
const HEAD_MAX: usize = 64 * 1024;
/// Of a body this much is read, so that an honest server does not meet a closed connection; what
/// comes after is not waited for. Kubernetes reads 10 KiB.
const BODY_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    pub place: Place,
    /// With the query; `/` is put in front where it is missing.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub https: bool,
}

/// One check; ends within `timeout`.
pub async fn http(ctx: Arc<LifeContext>, sockets: Arc<Sockets>, get: Get, timeout: Duration) -> Verdict {
    let check = async {
        if get.https {
            return Err(Failure::because("probe is not made: https is not supported yet; use tcpSocket or exec"));
        }
        let request = request(&get)?;
        let reached = connect(&ctx, &sockets, &get.place).await?;
        let (addr, note) = (reached.addr.clone(), reached.note());
        let path = request.uri().path().to_string();
        let status =
            answer(reached.stream, request).await.map_err(|why| Failure::because(format!("{addr}{path} {why}")))?;
        match status {
            200..=399 => Ok(format!("http {addr}{path} passed ({status}){note}")),
            _ => Err(Failure::because(format!("{addr}{path} answered {status}{note}"))),
        }
    };
    judged("http", &ctx, &get.place, timeout, check).await
}

fn request(get: &Get) -> Result<Request<Empty<Bytes>>, Failure> {
    let slash = if get.path.starts_with('/') { "" } else { "/" };
    let host = match &get.place {
        Place::Local(port) => format!("localhost:{port}"),
        Place::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Place::Host(host, port) => format!("{host}:{port}"),
    };
    let invalid = |what: &str| Failure::because(format!("request cannot be made: {what}"));
    let built = Request::get(format!("{slash}{}", get.path)).body(Empty::new());
    let mut request = built.map_err(|_| invalid(&format!("{:?} is not a path", get.path)))?;
    let headers = request.headers_mut();
    let agent = HeaderValue::from_static(concat!("plugd-probe/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, agent);
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| invalid(&format!("{host:?} is not a host")))?);
    headers.insert(hyper::header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &get.headers {
        let parsed = HeaderName::try_from(name.as_str()).ok().zip(HeaderValue::from_str(value).ok());
        // The value may be a secret (a token): only the name is told.
        let (name, value) = parsed.ok_or_else(|| invalid(&format!("header {name:?} is not valid")))?;
        headers.insert(name, value);
    }
    Ok(request)
}

/// The status, once the body has come to its end or to what is read of it.
async fn answer(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<u16, String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let io = TokioIo::new(Capped { stream, left: HEAD_MAX + BODY_MAX });
    let (mut sender, connection) = builder.handshake(io).await.map_err(|error| told(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            // Cut off in the middle: it had answered, and a check is not a download.
            let Ok(frame) = frame else { break };
            length += frame.data_ref().map_or(0, Bytes::len);
            if length >= BODY_MAX {
                break;
            }
        }
        Ok(status)
    };
    // The connection has to be driven beside the exchange; when it ends first the exchange learns
    // why from its own side.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        status = exchange => status,
        () = driven => Err("closed the connection".into()),
    }
}

/// hyper's errors, as the end of a sentence.
fn told(error: &hyper::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(one) = cause {
        if let Some(io) = one.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::QuotaExceeded => format!("sent more than {HEAD_MAX} bytes of head"),
                _ => format!("broke off: {io}"),
            };
        }
        cause = one.source();
    }
    if error.is_parse_too_large() {
        format!("sent more than {HEAD_MAX} bytes or {HEADERS_MAX} lines of head")
    } else if error.is_parse() {
        "did not answer in HTTP/1".into()
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        "closed the connection without an answer".into()
    } else {
        format!("failed: {error}")
    }
}

/// A connection that yields about so many bytes and then fails.
#[derive(Debug)]
struct Capped {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for Capped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        // hyper's buffer bounds one read, so the cap may be passed by that much and no more.
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Capped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
