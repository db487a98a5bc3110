//! The local socket: bytes in, through hyper, the guard and the router as the server puts them together.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{broadcast, mpsc, watch};

use super::shown;
use crate::api::board::Board;
use crate::api::context::{Context, Request};
use crate::api::server;
use crate::edge::store::Store;
use crate::model::text::{ControllerInfo, Places};
use crate::model::view::{NodeView, Snapshot};

/// A conversation whose other side has closed is over at once; a loaded machine is given this long.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How long a stream of events may be silent before its follower leaves.
const FOLLOWED: Duration = Duration::from_millis(20);
const STREAM: &[u8] = b"text/event-stream";
/// What a pipe of a conversation holds.
const ROOM: usize = 64 * 1024;
/// What a page of another site cannot help sending.
const STRANGER: &[u8] = b"Origin: http://evil.example\r\n";

/// The bytes as they are, and again with a stranger's Origin in each request.
pub fn http(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (answer, _) = talk(bytes).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));

        let mut marked = Vec::with_capacity(bytes.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            marked.extend_from_slice(line);
            if line.ends_with(b"\n") {
                marked.extend_from_slice(STRANGER);
            }
        }
        let (answer, asked) = talk(&marked).await;
        assert_eq!(asked, 0, "a stranger's page reached the loop");
        let status = answer.get(9..12).unwrap_or(b"400");
        assert!(status.starts_with(b"4"), "a stranger's page is answered {}", String::from_utf8_lossy(&answer));
    });
    // A look at the disk that hangs would hang here.
    runtime.shutdown_timeout(TIME_MAX);
}

/// What is answered to these bytes, and how often the loop was asked for anything.
async fn talk(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (ours, theirs) = tokio::io::duplex(ROOM);
    let (asks, mut requests) = mpsc::channel(4);
    let (changed, context) = context(asks);
    let conversation = async {
        let mut server = std::pin::pin!(server::answer(theirs, context));
        let mut client = std::pin::pin!(exchange(ours, bytes));
        tokio::select! {
            () = &mut server => client.await.0,
            (answer, followed) = &mut client => {
                if !followed {
                    server.await;
                }
                answer
            }
        }
    };
    let mut conversation = std::pin::pin!(tokio::time::timeout(TIME_MAX, conversation));
    let mut asked = 0;
    let answer = loop {
        tokio::select! {
            answer = &mut conversation => break answer.expect("a conversation that ends"),
            // Dropped unanswered: the loop is leaving.
            Some(_) = requests.recv() => asked += 1,
        }
    };
    while requests.try_recv().is_ok() {
        asked += 1;
    }
    drop(changed);
    (answer, asked)
}

/// Writes all, says that this was all, and reads to the end. What was answered, and whether that is a stream
/// that was followed for a moment.
async fn exchange(stream: DuplexStream, bytes: &[u8]) -> (Vec<u8>, bool) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let send = async {
        // It may hang up before it has heard all.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let hear = async {
        let mut piece = [0; 4096];
        loop {
            let told = answer.windows(STREAM.len()).any(|part| part == STREAM);
            let more = read.read(&mut piece);
            // Who follows what happens leaves when he likes: behind more bytes his half-close is not seen.
            let more = if told { tokio::time::timeout(FOLLOWED, more).await } else { Ok(more.await) };
            match more {
                Ok(Ok(length)) if length > 0 => answer.extend_from_slice(&piece[..length]),
                Ok(_) => break told,
                Err(_) => break true,
            }
        }
    };
    let (_, followed) = tokio::join!(send, hear);
    (answer, followed)
}

/// A node with one service, whose directory cannot be written.
fn context(requests: mpsc::Sender<Request>) -> (watch::Sender<u64>, Context) {
    let web = Arc::new(shown::filled("web.yaml"));
    let services = BTreeMap::from([(web.service.clone(), web)]);
    let snapshot = Snapshot { sequence: 1, node: NodeView::default(), services };
    let (changed, hears) = watch::channel(1);
    let context = Context {
        board: Arc::new(Board::new(snapshot)),
        changed: hears,
        requests,
        events: broadcast::channel(8).0,
        history: Arc::new(Mutex::new(VecDeque::new())),
        store: Store::none(),
        places: Places { logs: Some(PathBuf::from("/dev/null/logs")), ..Places::default() },
        dir: PathBuf::from("/dev/null/services.d"),
        info: ControllerInfo {
            pid: 8,
            keeper_pid: 1,
            version: "0.1.0".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
            working_dir: PathBuf::from("/"),
        },
    };
    (changed, context)
}
