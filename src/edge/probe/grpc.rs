//! grpc: the standard health service, `grpc.health.v1.Health/Check`, over HTTP/2 without TLS (as with
//! Kubernetes). SERVING passes.
//!
//! Two messages of one field each are no reason for a code generator: they are written and read here.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};

use super::context::{LifeContext, Place};
use super::line;
use super::sockets::Sockets;
use super::tcp::{Failure, connect, judged};
use crate::controller::Verdict;
use crate::model::text::harmless::strip;

/// All that the other side may send: settings, headers, a message of two bytes, trailers.
const ANSWER_MAX: usize = 64 * 1024;
const HEADERS_MAX: u32 = 16 * 1024;
/// Of `grpc-message` this much is shown, in characters.
const SHOWN_MAX: usize = 200;

/// One check; ends within `timeout`.
pub async fn grpc(
    ctx: Arc<LifeContext>,
    sockets: Arc<Sockets>,
    place: Place,
    service: &str,
    timeout: Duration,
) -> Verdict {
    let check = async {
        let reached = connect(&ctx, &sockets, &place).await?;
        let (addr, note) = (reached.addr.clone(), reached.note());
        let said = |why: String| Failure::because(format!("{addr} {why}{note}"));
        let port = match &place {
            Place::Local(port) | Place::Host(_, port) => *port,
        };
        let line = line::plain(reached.stream, ANSWER_MAX);
        let health = ask(line, port, service).await.map_err(|error| said(told(&error)))?;
        match health {
            Health::Serving => Ok(format!("grpc {addr} passed (SERVING){note}")),
            Health::Other(word) => Err(said(format!("answered {word}"))),
            Health::Refused(code, message) => Err(said(refusal(code, &message, service))),
            Health::Unclear(what) => Err(said(what)),
        }
    };
    judged("grpc", &ctx, &place, timeout, check).await
}

enum Health {
    Serving,
    Other(&'static str),
    /// `grpc-status` and `grpc-message`.
    Refused(u32, String),
    /// The end of a sentence.
    Unclear(String),
}

async fn ask(line: Box<dyn line::Line>, port: u16, service: &str) -> Result<Health, h2::Error> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(HEADERS_MAX).max_concurrent_streams(1);
    let (sender, connection) = builder.handshake::<_, Bytes>(line).await?;
    let exchange = async {
        let mut sender = sender.ready().await?;
        let mut request = Request::new(());
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() =
            format!("http://localhost:{port}/grpc.health.v1.Health/Check").parse().expect("a port is a number");
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, super::exchange::agent());
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(question(service), true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.status != hyper::StatusCode::OK {
            return Ok(Health::Unclear(format!("answered HTTP {} and no gRPC", head.status.as_u16())));
        }
        let mut message = Vec::new();
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            message.extend_from_slice(&data);
        }
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await?;
        Ok(judge(&message, trailers.as_ref().unwrap_or(&head.headers)))
    };
    let driven = async {
        let ended = connection.await;
        match ended {
            Err(error) => Err(error),
            // The exchange learns from its own side that nothing comes any more.
            Ok(()) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        health = exchange => health,
        error = driven => error,
    }
}

/// HealthCheckRequest { string service = 1 }, behind the five bytes of a gRPC message.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            message.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        message.push(left as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn judge(message: &[u8], trailers: &HeaderMap) -> Health {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse::<u32>) {
        Some(Ok(0)) => match status(message) {
            Some(1) => Health::Serving,
            Some(0) => Health::Other("UNKNOWN"),
            Some(2) => Health::Other("NOT_SERVING"),
            Some(3) => Health::Other("SERVICE_UNKNOWN"),
            Some(_) => Health::Other("a status that is none"),
            None => Health::Unclear("answered with a message that is none".into()),
        },
        Some(Ok(code)) => Health::Refused(code, text("grpc-message").unwrap_or_default().to_string()),
        Some(Err(_)) | None => Health::Unclear("ended its answer without a gRPC status".into()),
    }
}

/// HealthCheckResponse { ServingStatus status = 1 }: a varint, 0 where it is left out.
fn status(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    // Compressed is what nobody asked for.
    if head[0] != 0 || message.len() != length {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, value] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

/// The codes of gRPC that a health service answers with.
fn refusal(code: u32, message: &str, service: &str) -> String {
    let message: String = strip(message).chars().take(SHOWN_MAX).collect();
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    match code {
        5 => format!("does not know the service {service:?} (NOT_FOUND{said})"),
        12 => format!("has no health service (UNIMPLEMENTED{said})"),
        code => format!("refused with gRPC status {code}{said}"),
    }
}

fn told(error: &h2::Error) -> String {
    if let Some(io) = error.get_io() {
        return match io.kind() {
            std::io::ErrorKind::QuotaExceeded => format!("sent more than {ANSWER_MAX} bytes"),
            _ => format!("broke off: {io}"),
        };
    }
    match error.reason() {
        Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR) => "did not answer in HTTP/2".into(),
        Some(reason) => format!("broke off: {reason}"),
        None => format!("broke off: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_the_bytes_that_a_generator_would_write() {
        assert_eq!(&question("")[..], &[0, 0, 0, 0, 0][..]);
        assert_eq!(&question("orders")[..], b"\0\0\0\0\x08\x0a\x06orders");
        let long = "x".repeat(300);
        assert_eq!(&question(&long)[..8], &[0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn a_status_is_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0), "left out is its default");
        for bytes in [&[][..], &[0; 4], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 9, 8, 1], &[0, 0, 0, 0, 2, 16, 1]] {
            assert_eq!(status(bytes), None, "{bytes:?}");
        }
    }
}
