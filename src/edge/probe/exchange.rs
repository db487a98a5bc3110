//! One HTTP/1 request and its answer, over a connection that has been made.
//!
//! Used by httpGet and mcp. The other side may be anything that listens: all that it sends together is
//! capped by the line, 1xx answers and headers included, and of the body only so much is kept.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::context::Place;
use super::line::Line;

/// Head and 1xx answers, in bytes: what common servers allow for a request's head, times eight.
pub(super) const HEAD_MAX: usize = 64 * 1024;
/// Of a body this much is read, so that an honest server does not meet a closed connection; what
/// comes after is not waited for. Kubernetes reads 10 KiB.
pub(super) const BODY_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// As much of it as was read.
    pub body: Vec<u8>,
    /// It ended in the middle of its body.
    pub broken: bool,
}

/// A request to a path, with what each of ours says; the error is a whole sentence's end.
pub(super) fn request(
    method: &'static str,
    place: &Place,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let host = match place {
        Place::Local(port) => format!("localhost:{port}"),
        Place::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Place::Host(host, port) => format!("{host}:{port}"),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let built = Request::builder().method(method).uri(format!("{slash}{path}")).body(Full::new(body));
    let mut request = built.map_err(|_| format!("{path:?} is not a path"))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, agent());
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| format!("{host:?} is not a host"))?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

pub(super) fn agent() -> HeaderValue {
    HeaderValue::from_static(concat!("plugd-probe/", env!("CARGO_PKG_VERSION")))
}

/// The answer, once the body has come to its end, to what is read of it, or to where `enough` says so.
/// The error is the end of a sentence whose subject is the address.
pub(super) async fn exchange(
    line: Box<dyn Line>,
    request: Request<Full<Bytes>>,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Answer, String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(line)).await.map_err(|error| told(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        let (head, mut body) = response.into_parts();
        let (mut read, mut broken): (Vec<u8>, bool) = (Vec::new(), false);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                broken = true;
                break;
            };
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(&data[..data.len().min(BODY_MAX - read.len())]);
            }
            if read.len() >= BODY_MAX || enough(&read) {
                break;
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, body: read, broken })
    };
    // The connection has to be driven beside the exchange; when it ends first the exchange learns
    // why from its own side.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
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
