//! MCP servers of both eras, and what is none.

use std::sync::Mutex;

use plugd::edge::probe::mcp::mcp;
use serde_json::{Value, json};

use super::*;

/// The requests that a server was sent: method, headers in lower case.
type Heard = Arc<Mutex<Vec<(String, String)>>>;

/// A server over HTTP; `answer` is given the message and the head and returns the whole response.
fn mcp_server(answer: impl Fn(&Value, &str) -> Option<String> + Send + 'static) -> (u16, Heard) {
    let heard = Heard::default();
    let notes = heard.clone();
    let port = server(move |mut stream| {
        let head = head(&mut stream).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let message: Value = serde_json::from_slice(&body).expect("JSON");
        notes.lock().expect("no panic").push((message["method"].as_str().unwrap_or_default().into(), head.clone()));
        match answer(&message, &head) {
            Some(response) => drop(stream.write_all(response.as_bytes())),
            // Silence, until the other side goes.
            None => drop(stream.read(&mut [0])),
        }
    });
    (port, heard)
}

fn json_response(status: &str, headers: &str, body: &Value) -> Option<String> {
    let body = body.to_string();
    Some(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn result(message: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "result": result})
}

fn error(message: &Value, code: i64, words: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": words}})
}

/// A legacy server with sessions; `session` names the only one that it knows.
fn legacy(session: Arc<Mutex<String>>) -> impl Fn(&Value, &str) -> Option<String> + Send + 'static {
    move |message, head| {
        let session = session.lock().expect("no panic").clone();
        let known = head.contains(&format!("mcp-session-id: {session}\r\n"));
        match message["method"].as_str() {
            Some("initialize") => {
                let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x"}});
                let header = format!("mcp-session-id: {session}\r\n");
                json_response("200 OK", &header, &result(message, hello))
            }
            Some("notifications/initialized") if known => json_response("202 Accepted", "", &json!(null)),
            Some("ping") if known && head.contains("mcp-protocol-version: 2025-06-18\r\n") => {
                // As a stream that stays open.
                let event = result(message, json!({}));
                Some(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: message\ndata: {event}\n\n"
                ))
            }
            Some(_) if !head.contains("mcp-session-id") => {
                json_response("400 Bad Request", "", &error(message, -32000, "no session"))
            }
            Some(_) | None => json_response("404 Not Found", "", &error(message, -32001, "session not found")),
        }
    }
}

fn methods(heard: &Heard) -> Vec<String> {
    std::mem::take(&mut *heard.lock().expect("no panic")).into_iter().map(|(method, _)| method).collect()
}

async fn ask(ctx: &Arc<LifeContext>, port: u16, timeout: Duration) -> Verdict {
    let mut verdict = mcp(ctx.clone(), Arc::new(Sockets::new()), Place::Local(port), "/mcp", timeout).await;
    verdict.message = verdict.message.replace(&port.to_string(), "PORT");
    verdict
}

fn life() -> Arc<LifeContext> {
    Arc::new(LifeContext::new(None, vec![]))
}

#[tokio::test]
async fn a_modern_server_is_discovered_and_asked_no_more_than_that() {
    let (port, heard) = mcp_server(|message, head| {
        assert!(head.starts_with("post /mcp http/1.1\r\n"), "{head}");
        assert!(head.contains("mcp-protocol-version: 2026-07-28\r\n"), "{head}");
        assert!(head.contains("mcp-method: server/discover\r\n"), "{head}");
        let meta = &message["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        json_response("200 OK", "", &result(message, json!({"supportedVersions": ["2026-07-28"]})))
    });
    let ctx = life();
    for _ in 0..2 {
        let verdict = ask(&ctx, port, TIMEOUT).await;
        assert_eq!(
            (verdict.passed, verdict.message.as_str()),
            (true, "mcp 127.0.0.1:PORT/mcp passed (server/discover)")
        );
        assert_eq!(methods(&heard), ["server/discover"]);
    }
}

#[tokio::test]
async fn a_legacy_server_is_initialized_once_and_then_pinged_in_its_session() {
    let session = Arc::new(Mutex::new("one".to_string()));
    let (port, heard) = mcp_server(legacy(session.clone()));
    let ctx = life();
    let begins = ["initialize", "notifications/initialized", "ping"];
    let verdict = ask(&ctx, port, TIMEOUT).await;
    assert_eq!((verdict.passed, verdict.message.as_str()), (true, "mcp 127.0.0.1:PORT/mcp passed (ping)"));
    assert_eq!(methods(&heard), [&["server/discover"][..], &begins[..]].concat());
    assert!(ask(&ctx, port, TIMEOUT).await.passed);
    assert_eq!(methods(&heard), ["ping"], "the era is remembered, and the session goes on");
    // It was restarted behind our back and knows the session no more.
    *session.lock().expect("no panic") = "two".into();
    assert!(ask(&ctx, port, TIMEOUT).await.passed);
    assert_eq!(methods(&heard), [&["ping"][..], &begins[..]].concat());
}

#[tokio::test]
async fn a_server_that_never_answers_discover_is_taken_for_legacy_in_time() {
    let known = legacy(Arc::new(Mutex::new("one".into())));
    let (port, _heard) = mcp_server(move |message, head| match message["method"].as_str() {
        Some("server/discover") => None,
        Some(_) | None => known(message, head),
    });
    let verdict = ask(&life(), port, Duration::from_millis(900)).await;
    assert!(verdict.passed, "{verdict:?}");
}

#[tokio::test]
async fn what_a_server_says_instead_is_told() {
    let (port, _) =
        mcp_server(|message, _| json_response("200 OK", "", &error(message, -32603, "database\x1b is gone")));
    let verdict = ask(&life(), port, TIMEOUT).await;
    assert_eq!(verdict.message, "mcp 127.0.0.1:PORT/mcp answered initialize with error -32603: database is gone");

    let (port, _) = mcp_server(|_, _| Some("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\nnginx".into()));
    let verdict = ask(&life(), port, TIMEOUT).await;
    assert_eq!(verdict.message, "mcp 127.0.0.1:PORT/mcp answered initialize with HTTP 502");

    let (port, _) = mcp_server(|_, _| Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".into()));
    let verdict = ask(&life(), port, TIMEOUT).await;
    assert_eq!(verdict.message, "mcp 127.0.0.1:PORT/mcp answered initialize with what is no JSON-RPC");

    let (gone, port) = listener("127.0.0.1:0");
    drop(gone);
    assert_eq!(ask(&life(), port, TIMEOUT).await.message, "mcp nothing listens on port PORT");
}
