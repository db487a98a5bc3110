//! What the server is given: the board to print from, and the channel on which it asks.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::board::Board;
use crate::controller::Order;
use crate::edge::store::Store;
use crate::model::name::Name;
use crate::model::text::{ControllerInfo, Places};
use crate::model::view::{Event, VitalsView};

/// Everything that a handler may look at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub board: Arc<Board>,
    /// Told soon after the board has changed.
    pub changed: watch::Receiver<u64>,
    pub requests: mpsc::Sender<Request>,
    /// Sent to after the event was pushed to `history`, while its lock is still held: so a stream
    /// that subscribes under the lock misses no event and sees none twice.
    pub events: broadcast::Sender<Event>,
    /// The last events, oldest first; the loop bounds it.
    pub history: Arc<Mutex<VecDeque<Event>>>,
    /// The memory, for what lies further back.
    pub store: Store,
    pub places: Places,
    /// The watched directory, as a real path.
    pub dir: PathBuf,
    pub info: ControllerInfo,
}

/// The answer to a request; dropped unanswered counts as "the controller is leaving".
pub type Reply<T> = oneshot::Sender<Result<T, OrderError>>;

/// What people ask of the loop.
#[derive(Debug)]
pub enum Request {
    /// Answered when the brain has taken it up, not when it is carried out; with why it will not be remembered.
    Order { name: Name, order: Order, reply: Reply<Option<String>> },
    /// To the process group of one instance (`None`: of every instance) that runs.
    Signal { name: Name, instance: Option<u32>, signal: i32, reply: Reply<()> },
    /// `plugd rm --missing`: let go what a lost directory held.
    ConfirmMissing { reply: Reply<()> },
    /// The whole spec that is declared, with defaults and where each value came from.
    Effective { name: Name, reply: Reply<serde_json::Value> },
    /// These lines of a service's log, without its secrets; none where one may hold what is not known.
    Cover { name: Name, lines: Vec<Written>, reply: Reply<Vec<Option<String>>> },
    /// What wobbles: availability, response times.
    Vitals { name: Name, reply: Reply<VitalsView> },
    /// Hand what was gathered in numbers to the store, so that a history includes it; answered with
    /// the moment.
    Gathered { reply: Reply<Timestamp> },
    /// Look at the directory now, and try again what would not start; answered when all that was written by now is
    /// taken in and that is known, or after a second.
    Rescan { reply: Reply<()> },
}

/// A line of a log.
#[derive(Debug)]
pub struct Written {
    pub instance: u32,
    pub at: Option<Timestamp>,
    pub text: String,
}

/// Why the loop does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("no service is named {0}")]
    NoSuchService(String),
    #[error("{0} has no such instance")]
    NoSuchInstance(String),
    #[error("{0} has no running process")]
    NotRunning(String),
    /// A sentence about why, and what next.
    #[error("{0}")]
    Refused(String),
    #[error("the controller is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Failed(String),
}
