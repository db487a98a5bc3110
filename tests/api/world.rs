//! A server over a hand-made snapshot, on a socket in a temp folder.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use plugd::api::board::Board;
use plugd::api::client::Client;
use plugd::api::context::{Context, Request};
use plugd::api::{server, socket};
use plugd::edge::store::Store;
use plugd::model::reason::{Reason, Status};
use plugd::model::text::{ControllerInfo, Places};
use plugd::model::view::{Event, ExitView, InstanceView, ServiceView, Snapshot, Turned};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::samples;
pub use crate::samples::{at, name};

pub struct World {
    pub dir: TempDir,
    pub socket: PathBuf,
    pub board: Arc<Board>,
    pub changed: watch::Sender<u64>,
    pub requests: Option<mpsc::Receiver<Request>>,
    pub events: broadcast::Sender<Event>,
    pub history: Arc<Mutex<VecDeque<Event>>>,
    /// For a further listener.
    pub ctx: Context,
    server: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    pub fn new(services: impl IntoIterator<Item = ServiceView>) -> World {
        World::with(services, |_| {})
    }

    pub fn with(services: impl IntoIterator<Item = ServiceView>, change: impl FnOnce(&mut Context)) -> World {
        let dir = TempDir::new().expect("a temp folder");
        let path = dir.path().join("run").join("plugd.sock");
        std::fs::create_dir(dir.path().join("run")).expect("a folder");
        std::fs::create_dir(dir.path().join("services.d")).expect("a folder");
        let listener = socket::bind(&path).expect("a socket");
        let board = Arc::new(Board::new(snapshot(1, services)));
        let (changed, hears) = watch::channel(1);
        let (asks, requests) = mpsc::channel(4);
        let (events, _) = broadcast::channel(8);
        let history = Arc::new(Mutex::new(VecDeque::new()));
        let mut ctx = Context {
            board: Arc::clone(&board),
            changed: hears,
            requests: asks,
            events: events.clone(),
            history: Arc::clone(&history),
            store: Store::open(&dir.path().join("state.db")),
            places: Places { logs: Some(dir.path().join("logs")), socket: Some(path.clone()), ..Places::default() },
            dir: dir.path().join("services.d"),
            info: ControllerInfo {
                pid: 8,
                keeper_pid: 1,
                version: "0.1.0".to_string(),
                since: at("2026-11-23T11:02:40Z"),
                working_dir: "/app".into(),
            },
        };
        change(&mut ctx);
        let server = tokio::spawn(server::serve(listener, ctx.clone()));
        World { dir, socket: path, board, changed, requests: Some(requests), events, history, ctx, server }
    }

    pub fn services_d(&self) -> PathBuf {
        self.dir.path().join("services.d")
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket).await.expect("a server")
    }

    /// Publishes the next snapshot, as the loop does.
    pub fn publish(&self, change: impl FnOnce(&mut Snapshot)) -> u64 {
        self.board.change(change);
        let sequence = self.board.load().sequence;
        self.changed.send(sequence).ok();
        sequence
    }

    /// Something happens, as the loop tells it.
    pub fn happens(&self, message: &str) -> Event {
        let event = Event {
            at: at("2026-11-23T12:00:00Z"),
            service: Some("web".to_string()),
            instance: None,
            reason: Reason::Exited,
            warning: true,
            message: message.to_string(),
        };
        let mut history = self.history.lock().expect("whole");
        history.push_back(event.clone());
        self.events.send(event.clone()).ok();
        event
    }

    /// Answers each request with what `answer` does, for ever.
    pub fn answer(&mut self, mut answer: impl FnMut(Request) + Send + 'static) {
        let mut requests = self.requests.take().expect("answered once");
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                answer(request);
            }
        });
    }

    /// Bytes to the socket, as they stand; what came back until the server closed.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.ok();
        read_to_end(&mut stream).await
    }

    pub async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("a server")
    }

    /// Status and body of a request that is written by hand.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let answer = self.raw(format!("{head}{body}").as_bytes()).await;
        let (status, body) = split(&answer);
        (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
    }
}

pub async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the last byte changes nothing about what was said.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status, and the body with its chunks joined.
pub fn split(answer: &str) -> (u16, String) {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return (0, answer.to_string()) };
    let status = head.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return (status, body.to_string());
    }
    let (mut bytes, mut rest) = (Vec::new(), body.as_bytes());
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap_or("0"), 16).unwrap_or(0);
        let chunk = &rest[end + 2..];
        if size == 0 || chunk.len() < size {
            bytes.extend_from_slice(&chunk[..size.min(chunk.len())]);
            break;
        }
        bytes.extend_from_slice(&chunk[..size]);
        rest = chunk.get(size + 2..).unwrap_or_default();
    }
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

pub fn snapshot(sequence: u64, services: impl IntoIterator<Item = ServiceView>) -> Snapshot {
    Snapshot { sequence, ..samples::snapshot(services) }
}

pub fn view(service: &str) -> ServiceView {
    let instance = InstanceView {
        port: Some(80),
        started: Some(at("2026-11-23T11:02:43Z")),
        ..samples::instance(service, Some(412))
    };
    ServiceView {
        address: None,
        check: Some("tcp 127.0.0.1:80 passed".to_string()),
        log: None,
        labels: BTreeMap::from([("tier".to_string(), "front".to_string())]),
        instances: vec![instance],
        since: at("2026-11-23T11:02:44Z"),
        ..samples::healthy(service)
    }
}

pub fn broken(service: &str) -> ServiceView {
    ServiceView {
        status: Status::Unhealthy,
        reason: Some(Reason::CrashLoopBackOff),
        why: vec!["exits with 1".to_string()],
        next: Some("tries again at 2026-11-23T12:30:34Z".to_string()),
        available: false,
        process_running: false,
        ready: 0,
        score: Some(0),
        schedule: None,
        last_exit: Some(ExitView {
            code: Some(1),
            signal: None,
            reason: None,
            by: None,
            at: at("2026-11-23T12:30:18Z"),
            ran_for: std::time::Duration::from_millis(214),
            output: vec!["bind: address already in use".to_string()],
        }),
        problems: vec![samples::problem(Reason::DependencyNotReady, "waits for db")],
        turned: Some(Box::new(Turned {
            depends: at("2026-11-23T12:30:02Z"),
            ..Turned::all(at("2026-11-23T11:02:44Z"))
        })),
        ..view(service)
    }
}
