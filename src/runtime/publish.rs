//! What everybody else may see: the board, the status files, the events, the start-up report.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::api::board::Board;
use crate::edge::files::{StatusFiles, Text};
use crate::edge::store::Store;
use crate::model::name::Name;
use crate::model::text::{ControllerInfo, ControllerLine, NodeFile, Places, Report, node_file, start_report};
use crate::model::time::Now;
use crate::model::view::{Event, NodeView, ServiceView, Snapshot};

/// Who listens for changes is told once a millisecond: `plugd wait` returns within 2 ms of the fact.
const PUBLISH_MIN: Duration = Duration::from_millis(1);
/// The node's own file tells sums over all services: ten times a second at most.
const NODE_MIN: Duration = Duration::from_millis(100);
/// And so long after what it tells of: it is in nobody's way then, and a start and its readiness are often one write.
const NODE_BEHIND: Duration = Duration::from_millis(20);
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Whose pid stands in the node's file answers for all other files: it comes when every service has been announced,
/// or after this where the directory does not answer.
const UNANNOUNCED_MAX: Duration = Duration::from_secs(1);
/// Events that a late subscriber or `plugd events` can still read from memory.
pub const HISTORY_MAX: usize = 1000;

/// The published half of the node.
pub struct Publisher {
    pub board: Arc<Board>,
    pub changed: watch::Sender<u64>,
    pub events: broadcast::Sender<Event>,
    pub history: Arc<Mutex<VecDeque<Event>>>,
    pub files: Option<StatusFiles>,
    pub info: ControllerInfo,
    pub places: Places,
    pub dir: PathBuf,
    /// Print the start-up report once.
    pub report: bool,

    /// The first scan is over: every service has been announced.
    complete: bool,
    unpublished: bool,
    published: Option<Instant>,
    node_stale: Option<Instant>,
    node_written: Option<Instant>,
    began: Instant,
}

impl Publisher {
    pub fn new(
        info: ControllerInfo,
        places: Places,
        dir: PathBuf,
        files: Option<StatusFiles>,
        report: bool,
    ) -> Publisher {
        let empty = Snapshot { sequence: 0, node: NodeView::default(), services: BTreeMap::new() };
        Publisher {
            board: Arc::new(Board::new(empty)),
            changed: watch::channel(0).0,
            events: broadcast::channel(256).0,
            history: Arc::default(),
            files,
            info,
            places,
            dir,
            report,
            complete: false,
            unpublished: true,
            published: None,
            node_stale: Some(Instant::now()),
            node_written: None,
            began: Instant::now(),
        }
    }

    /// Where the API listens over TCP now, and where its token is.
    pub fn listens(&mut self, at: Option<SocketAddr>, token: Option<PathBuf>) {
        (self.places.listen, self.places.token) = (at, token);
        self.outdate_node();
    }

    /// A service's view changed.
    pub fn announce(&mut self, view: Arc<ServiceView>, now: Now) {
        self.write(&view, now);
        self.board.change(|now| drop(now.services.insert(view.service.clone(), view)));
        self.mark();
    }

    pub fn retire(&mut self, name: &Name) {
        if let Some(files) = &self.files {
            files.remove(name);
        }
        self.board.change(|now| drop(now.services.remove(name.as_str())));
        self.mark();
    }

    pub fn view(&self, name: &Name) -> Option<Arc<ServiceView>> {
        self.board.look(|shown| shown.services.get(name.as_str()).cloned())
    }

    pub fn knows(&self, name: &Name) -> bool {
        self.board.look(|now| now.services.contains_key(name.as_str()))
    }

    pub fn node(&mut self, node: NodeView) {
        self.board.change(|now| now.node = node);
        self.mark();
    }

    /// Status files of services that are not there any more, from an earlier run.
    pub fn sweep(&mut self) {
        self.complete = true;
        if let Some(files) = &self.files {
            files.keep_only(self.board.look(|now| now.services.keys().cloned().collect()));
        }
    }

    /// Another directory lies at the path now: everything is written there once more.
    pub fn reopen(&mut self, now: Now) {
        let Some(files) = &self.files else { return };
        files.reopen();
        self.board.look(|shown| shown.services.values().for_each(|view| self.write(view, now)));
        self.outdate_node();
        // What lies there of services that are not ours is of another time or place.
        if self.complete {
            self.sweep();
        }
    }

    /// Somebody removed or overwrote a status file.
    pub fn rewrite(&mut self, name: Option<&Name>, now: Now) {
        match name {
            Some(name) => {
                let view = self.board.look(|shown| shown.services.get(name.as_str()).cloned());
                view.iter().for_each(|view| self.write(view, now));
            }
            None => self.outdate_node(),
        }
    }

    fn write(&self, view: &Arc<ServiceView>, now: Now) {
        if let Some(files) = &self.files {
            let line = ControllerLine { pid: self.info.pid, version: self.info.version.clone(), written: now.wall };
            let like = self.dir.join(&view.manifest.file);
            files.announce(&view.service, Text::View(view.clone(), line), Some(like));
        }
    }

    /// What controllers before this one told is told on, as soon as the memory answers.
    pub fn recall(&self, store: &Store, started: Timestamp) {
        let (history, asked) = (self.history.clone(), store.events(None, None, HISTORY_MAX));
        tokio::task::spawn_local(async move {
            let Ok(told) = asked.await else { return };
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            for event in told.into_iter().rev().filter(|event| event.at < started) {
                if history.len() == HISTORY_MAX {
                    break;
                }
                history.push_front(event);
            }
        });
    }

    pub fn record(&mut self, event: &Event) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY_MAX {
            history.pop_front();
        }
        history.push_back(event.clone());
        // Nobody listening is no error. Under the lock, so that a subscriber misses nothing.
        let _ = self.events.send(event.clone());
    }

    fn mark(&mut self) {
        self.unpublished = true;
        self.outdate_node();
    }

    fn outdate_node(&mut self) {
        self.node_stale.get_or_insert_with(Instant::now);
    }

    /// When something is owed to readers.
    pub fn next_due(&self) -> Option<Instant> {
        let publication = self.unpublished.then(|| self.published.map_or_else(Instant::now, |at| at + PUBLISH_MIN));
        let node = self.files.is_some().then(|| self.node_due());
        match (publication, node) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Publishes and writes what is due.
    pub fn serve(&mut self, now: Now) {
        let at = Instant::now();
        if self.unpublished && self.published.is_none_or(|last| at >= last + PUBLISH_MIN) {
            self.publish();
            self.published = Some(at);
        }
        if self.files.is_some() && at >= self.node_due() {
            self.write_node(now);
        }
    }

    fn node_due(&self) -> Instant {
        match self.node_written {
            None if self.complete => self.began,
            None => self.began + UNANNOUNCED_MAX,
            Some(at) => self.node_stale.map_or(at + HEARTBEAT, |since| (at + NODE_MIN).max(since + NODE_BEHIND)),
        }
    }

    fn publish(&mut self) {
        self.unpublished = false;
        self.changed.send_modify(|count| *count += 1);
        if self.report && self.board.look(|now| now.node.settled) {
            self.report = false;
            let report = self.board.look(Report::of);
            super::voice::say(&start_report(&report));
        }
    }

    fn write_node(&mut self, now: Now) {
        if self.unpublished {
            self.publish();
        }
        let Publisher { dir, places, info, .. } = &*self;
        let heartbeat = now.wall;
        let text = self.board.look(|snapshot| node_file(&NodeFile { snapshot, dir, places, info, heartbeat }));
        if let Some(files) = &self.files {
            files.node(text);
        }
        self.node_stale = None;
        self.node_written = Some(Instant::now());
    }

    /// Takes the socket away.
    pub fn close_door(&self) {
        if let Some(socket) = &self.places.socket {
            let _ = std::fs::remove_file(socket);
        }
    }

    /// The last state of everything, before the end.
    pub fn last(&mut self, now: Now) {
        self.publish();
        self.write_node(now);
        if let Some(files) = &self.files {
            files.flush();
        }
    }
}
