//! The gRPC health service: who serves, who does not, and what is none.

use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use plugd::edge::probe::grpc::grpc;

use super::*;

/// What a server answers: a message, and `grpc-status` with `grpc-message`.
#[derive(Clone, Copy)]
struct Answer(&'static [u8], &'static str, &'static str);

const SERVING: Answer = Answer(&[0, 0, 0, 0, 2, 8, 1], "0", "");

/// A server on a thread of its own, which ends with the test; it tells what it was asked.
fn grpc_server(answer: Answer) -> (u16, std::sync::mpsc::Receiver<(String, Vec<u8>)>) {
    let (listener, port) = listener("127.0.0.1:0");
    listener.set_nonblocking(true).expect("a socket");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let tell = tell.clone();
                    tokio::spawn(async move { drop(serve(request, respond, answer, tell).await) });
                }
            }
        });
    });
    (port, told)
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: Answer,
    tell: std::sync::mpsc::Sender<(String, Vec<u8>)>,
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_string();
    let mut body = request.into_body();
    let mut asked = Vec::new();
    while let Some(data) = body.data().await {
        asked.extend_from_slice(&data?);
    }
    let _ = tell.send((path, asked));
    let Answer(message, code, words) = answer;
    let mut ends = HeaderMap::new();
    ends.insert("grpc-status", HeaderValue::from_static(code));
    ends.insert("grpc-message", HeaderValue::from_static(words));
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if message.is_empty() {
        // As servers refuse: all in one frame.
        head.headers_mut().extend(ends);
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(Bytes::from_static(message), false)?;
    stream.send_trailers(ends)
}

async fn ask(port: u16, service: &str, timeout: Duration) -> Verdict {
    let ctx = Arc::new(LifeContext::new(None, vec![]));
    let mut verdict = grpc(ctx, Arc::new(Sockets::new()), Place::Local(port), service, timeout).await;
    verdict.message = verdict.message.replace(&port.to_string(), "PORT");
    verdict
}

#[tokio::test]
async fn serving_passes_and_the_service_is_named_in_the_question() {
    let (port, told) = grpc_server(SERVING);
    let verdict = ask(port, "orders", TIMEOUT).await;
    assert_eq!((verdict.passed, verdict.message.as_str()), (true, "grpc 127.0.0.1:PORT passed (SERVING)"));
    let (path, asked) = told.recv_timeout(TIMEOUT).expect("a question");
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    assert_eq!(asked, b"\0\0\0\0\x08\x0a\x06orders");
}

#[tokio::test]
async fn every_other_answer_fails_and_is_told() {
    for (answer, message) in [
        (Answer(&[0, 0, 0, 0, 2, 8, 2], "0", ""), "answered NOT_SERVING"),
        (Answer(&[0, 0, 0, 0, 0], "0", ""), "answered UNKNOWN"),
        (Answer(&[], "5", "unknown service"), "does not know the service \"orders\" (NOT_FOUND: unknown service)"),
        (Answer(&[], "12", ""), "has no health service (UNIMPLEMENTED)"),
        (Answer(&[], "14", "try \x41gain"), "refused with gRPC status 14: try Again"),
        (Answer(&[0, 0, 0, 0, 9, 8], "0", ""), "answered with a message that is none"),
        (Answer(&[0, 0, 0, 0, 2, 8, 1], "no", ""), "ended its answer without a gRPC status"),
    ] {
        let verdict = ask(grpc_server(answer).0, "orders", TIMEOUT).await;
        assert_eq!((verdict.passed, verdict.message), (false, format!("grpc 127.0.0.1:PORT {message}")));
    }
}

#[tokio::test]
async fn what_speaks_no_http_2_fails_at_once_and_silence_at_the_deadline() {
    let begun = Instant::now();
    for said in [&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b""] {
        let port = server(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(said);
        });
        let verdict = ask(port, "", TIMEOUT).await;
        assert!(!verdict.passed && !verdict.message.contains("within"), "{verdict:?}");
    }
    // Settings without end.
    let flood = server(|mut stream| while stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(400)).is_ok() {});
    let verdict = ask(flood, "", TIMEOUT).await;
    assert!(!verdict.passed && !verdict.message.contains("within"), "{verdict:?}");
    assert!(begun.elapsed() < TIMEOUT);
    let silent = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let verdict = ask(silent, "", Duration::from_millis(200)).await;
    assert!(verdict.message.ends_with("did not answer within 200ms"), "{verdict:?}");
}
