//! mcp: whether an MCP server on its port answers, in whichever era of the protocol it lives.
//!
//! Modern (2026-07-28, stateless): `server/discover`. Legacy (until 2025-11-25): `initialize` once, then
//! `ping` in that session at each check; a session that the server has forgotten is begun anew. Which of
//! the two it is, is found out by the first check of a life (any answer but the right one, or none in a
//! third of the time, means legacy) and remembered as long as the life lasts: a life is one program.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::context::{LifeContext, Place};
use super::exchange::{self, Answer, BODY_MAX, HEAD_MAX};
use super::line;
use super::sockets::Sockets;
use super::tcp::{Failure, connect, judged};
use crate::controller::Verdict;
use crate::model::text::harmless::strip;

const MODERN: &str = "2026-07-28";
/// The newest of the older ones; a server answers with the one that it speaks.
const LEGACY: &str = "2025-11-25";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// A session's name is a UUID or a token; what is longer is not carried about.
const SESSION_MAX: usize = 1024;
/// Of a server's own words this much is shown, in characters.
const SHOWN_MAX: usize = 200;

/// How a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Era {
    Modern,
    Legacy { version: HeaderValue, session: Option<HeaderValue> },
}

/// One check; ends within `timeout`.
pub async fn mcp(ctx: Arc<LifeContext>, sockets: Arc<Sockets>, place: Place, path: &str, timeout: Duration) -> Verdict {
    let client = Client { ctx: &ctx, sockets: &sockets, place: &place, path };
    let check = async {
        let passed = client.check(timeout).await?;
        Ok(format!("mcp {passed}"))
    };
    judged("mcp", &ctx, &place, timeout, check).await
}

struct Client<'a> {
    ctx: &'a LifeContext,
    sockets: &'a Arc<Sockets>,
    place: &'a Place,
    path: &'a str,
}

/// What came back for one message, and where from (with what is to be said of it).
struct Reply {
    at: String,
    note: String,
    answer: Answer,
}

impl Client<'_> {
    async fn check(&self, timeout: Duration) -> Result<String, Failure> {
        match self.ctx.era() {
            Some(Era::Modern) => self.discover().await,
            Some(Era::Legacy { version, session }) => match self.ping(&version, session.as_ref()).await? {
                Pinged::Passed(message) => Ok(message),
                Pinged::Forgotten => self.begin().await,
            },
            None => {
                let tried = tokio::time::timeout(timeout / 3, self.discover()).await;
                if let Ok(Ok(message)) = tried {
                    self.ctx.remember_era(Era::Modern);
                    return Ok(message);
                }
                // Nobody there at all is told as that.
                self.begin().await
            }
        }
    }

    async fn discover(&self) -> Result<String, Failure> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": client_info(),
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let mut headers = HeaderMap::new();
        headers.insert(VERSION, HeaderValue::from_static(MODERN));
        headers.insert(METHOD, HeaderValue::from_static("server/discover"));
        let reply = self.send("server/discover", Some(json!({ "_meta": meta })), headers).await?;
        result(&reply, "server/discover")?;
        Ok(format!("{} passed (server/discover){}", reply.at, reply.note))
    }

    /// A new session, and a ping in it.
    async fn begin(&self) -> Result<String, Failure> {
        let hello = json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info() });
        let reply = self.send("initialize", Some(hello), HeaderMap::new()).await?;
        let said = result(&reply, "initialize")?;
        let version = said.get("protocolVersion").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let Some(version) = version else {
            return Err(Failure::because(format!("{} answered initialize without a protocolVersion", reply.at)));
        };
        let session = reply.answer.headers.get(SESSION).filter(|name| name.len() <= SESSION_MAX).cloned();
        // A notification: whatever is answered, the ping will tell.
        self.send("notifications/initialized", None, of_session(&version, session.as_ref())).await?;
        match self.ping(&version, session.as_ref()).await? {
            Pinged::Passed(message) => {
                self.ctx.remember_era(Era::Legacy { version, session });
                Ok(message)
            }
            Pinged::Forgotten => Err(Failure::because(format!("{} forgot its session at once", reply.at))),
        }
    }

    async fn ping(&self, version: &HeaderValue, session: Option<&HeaderValue>) -> Result<Pinged, Failure> {
        let reply = self.send("ping", Some(json!({})), of_session(version, session)).await?;
        // 404 is the protocol's word for it; 400 is what many say of a session that they do not know.
        if matches!(reply.answer.status.as_u16(), 400 | 404) && self.ctx.era().is_some() {
            self.ctx.forget_era();
            return Ok(Pinged::Forgotten);
        }
        result(&reply, "ping")?;
        Ok(Pinged::Passed(format!("{} passed (ping){}", reply.at, reply.note)))
    }

    /// One message by POST, on a connection of its own. None for `params`: a notification.
    async fn send(&self, method: &str, params: Option<Value>, headers: HeaderMap) -> Result<Reply, Failure> {
        let message = match params {
            Some(params) => json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }),
            None => json!({ "jsonrpc": "2.0", "method": method }),
        };
        let body = Bytes::from(message.to_string());
        let mut request = exchange::request("POST", self.place, self.path, body)
            .map_err(|what| Failure::because(format!("request cannot be made: {what}")))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        request.headers_mut().extend(headers);
        let reached = connect(self.ctx, self.sockets, self.place).await?;
        let (at, note) = (format!("{}{}", reached.addr, self.path), reached.note());
        let line = line::plain(reached.stream, HEAD_MAX + BODY_MAX);
        let answer = exchange::exchange(line, request, |read| response(read).is_some()).await;
        let answer = answer.map_err(|why| Failure::because(format!("{at} {why}{note}")))?;
        Ok(Reply { at, note, answer })
    }
}

enum Pinged {
    Passed(String),
    /// The server does not know the session (any more).
    Forgotten,
}

fn client_info() -> Value {
    json!({ "name": "plugd-probe", "version": env!("CARGO_PKG_VERSION") })
}

fn of_session(version: &HeaderValue, session: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(VERSION, version.clone());
    headers.extend(session.map(|session| (SESSION, session.clone())));
    headers
}

/// The `result` of the answer, or why there is none.
fn result(reply: &Reply, method: &str) -> Result<Value, Failure> {
    let fault = |why: String| Failure::because(format!("{} {why}{}", reply.at, reply.note));
    let status = reply.answer.status;
    match response(&reply.answer.body) {
        Some(mut message) if message.get("result").is_some() && status.is_success() => Ok(message["result"].take()),
        Some(message) if message.get("error").is_some() => {
            let error = &message["error"];
            let said: String = strip(error["message"].as_str().unwrap_or_default()).chars().take(SHOWN_MAX).collect();
            Err(fault(format!("answered {method} with error {}: {said}", error["code"])))
        }
        Some(_) | None if !status.is_success() => {
            Err(fault(format!("answered {method} with HTTP {}", status.as_u16())))
        }
        Some(_) | None => Err(fault(format!("answered {method} with what is no JSON-RPC"))),
    }
}

/// The response to our message (each of ours has the id 1): the body as it is, or an event of a stream.
fn response(body: &[u8]) -> Option<Value> {
    let is_ours = |message: &Value| message.get("id") == Some(&json!(1)) && message.get("method").is_none();
    // An error may come without the id that could not be read.
    let is_error = |message: &Value| message.get("error").is_some();
    if let Ok(message) = serde_json::from_slice::<Value>(body) {
        return Some(message).filter(|message| is_ours(message) || is_error(message));
    }
    let text = String::from_utf8_lossy(body).replace("\r\n", "\n");
    // What stands after the last empty line may still be on its way.
    let complete = &text[..text.rfind("\n\n").map_or(0, |end| end + 1)];
    complete.split("\n\n").find_map(|event| {
        let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        serde_json::from_str(&data.join("\n")).ok().filter(|message| is_ours(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_found_in_a_body_and_in_a_stream_that_goes_on() {
        let plain = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert!(response(plain).is_some());
        let stream = b"event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\nid: 7\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\r\n\r\ndata: {\"half";
        assert!(response(stream).is_some());
        let begun = b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
        for other in [&b""[..], b"<html>", b"[1]", b"data: x\n\n", br#"{"id":2,"result":{}}"#, begun] {
            assert_eq!(response(other), None, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
