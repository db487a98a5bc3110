//! What the runtime talks to: a handle that sends commands to the pump's threads (`lanes`).
//!
//! No call blocks (but [`Pump::shutdown`]): a command is queued and the thread is woken. What comes
//! of it arrives as a [`PumpEvent`].

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::lanes::Lanes;
use super::off_limits::OffLimits;
use crate::model::name::{Instance, LifeId};
use crate::model::spec::Logs;

/// How the pump works for the whole node.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where logs lie; none where no place can be written: output is then only copied and counted.
    pub dir: Option<PathBuf>,
    /// All logs together, in bytes; none is a tenth of the filesystem, at most 1 GiB (tmpfs: 64 MiB).
    pub total: Option<u64>,
    /// Where output is copied to besides.
    pub tee: Option<Tee>,
    /// Where no service's `logs.path` may lead.
    pub off_limits: OffLimits,
}

/// A copy of all output for the person or collector behind plugd's own stdout.
#[derive(Debug)]
pub struct Tee {
    /// A duplicate of stdout. Its flags are never changed: others share the description.
    pub to: OwnedFd,
    /// Prefixes in colour.
    pub colour: bool,
    /// `name | ` before each line; false for `run FILE` and `run -- CMD`.
    pub prefix: bool,
    /// All of it, byte for byte where stdout is no terminal, and the service waits for a slow reader:
    /// what `run -- CMD | reader` needs, as if the shell had run the command.
    pub whole: bool,
}

/// The output of one life, as it is handed to the pump.
#[derive(Debug)]
pub struct Stream {
    pub life: LifeId,
    /// The read end of the pipe of stdout (and of stderr, unless that is separate); non-blocking.
    pub fd: OwnedFd,
    /// A pipe of its own for stderr (`logs.separate`), kept in `NAME.err`.
    pub stderr: Option<OwnedFd>,
    pub logs: Logs,
    /// Whether the service has several instances: one is `NAME.log`, several are `NAME/0.log`.
    pub several: bool,
    /// The pattern of a `logLine` probe.
    pub log_line: Option<regex::Regex>,
}

/// What the pump has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PumpEvent {
    /// Answer to [`Pump::finish`]: the pipe was empty; the last output, at most 2 KiB, harmless.
    Drained { life: LifeId, lines: Vec<String> },
    /// A line that matches the pattern of the `logLine` probe was seen; told once.
    LogLine { life: LifeId, pattern: String },
    /// A file that `logs.path` names could not be opened, and why; told before anything is lost by it.
    Unopened { life: LifeId, why: String },
    /// What was told of it is over: it is open, or nothing more goes there.
    Opened { life: LifeId },
    /// Output is being lost: bytes since the loss began, and why. Repeated every 10 s at most.
    Dropped { life: LifeId, bytes: u64, why: String },
    /// Answer to [`Pump::close`]: everything that the life wrote is where it belongs.
    Closed { life: LifeId },
    /// Output is stored again.
    Recovered { life: LifeId },
}

#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    #[error("start the log pump")]
    Start(#[from] std::io::Error),
}

/// Counted of one instance since the controller started.
#[derive(Debug, Default)]
pub struct Counted {
    pub bytes: AtomicU64,
    pub dropped: AtomicU64,
}

pub(super) type Counts = Arc<Mutex<BTreeMap<Instance, Arc<Counted>>>>;

#[derive(Debug)]
pub(super) enum Command {
    Attach(Box<Stream>),
    Update(LifeId, Logs, bool),
    LookFor(LifeId, Option<regex::Regex>),
    Finish(LifeId),
    Close(LifeId),
    Reopen,
    Shutdown,
}

/// Tells the thread that commands wait; a burst of them rings once.
#[derive(Debug)]
pub(super) struct Bell {
    pub fd: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { fd, rung: AtomicBool::new(false) })
    }

    /// After the command was sent.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        }
    }

    /// Before the commands are looked at: one that comes later rings again.
    pub(super) fn answer(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
        self.rung.store(false, Ordering::Release);
    }
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pump {
    lanes: Arc<Lanes>,
}

impl Pump {
    /// Starts the thread of the log directory. Events that do not fit into the channel wait in the pump:
    /// it never blocks on the receiver, because services would then block on their pipes.
    pub fn start(settings: Settings, events: tokio::sync::mpsc::Sender<PumpEvent>) -> Result<Pump, PumpError> {
        Ok(Pump { lanes: Lanes::start(settings, events)? })
    }

    /// Begins to move the output of a life; what an earlier life of the instance left is moved first.
    pub fn attach(&self, stream: Stream) {
        self.lanes.attach(stream);
    }

    /// Takes up edited settings for a life that runs, and whether it is one of several now.
    pub fn update(&self, life: LifeId, logs: Logs, several: bool) {
        self.lanes.tell(&life.clone(), Command::Update(life, logs, several));
    }

    /// Looks for another line than before, also in what the file holds of this life; none: for no line.
    pub fn look_for(&self, life: LifeId, pattern: Option<regex::Regex>) {
        self.lanes.tell(&life.clone(), Command::LookFor(life, pattern));
    }

    /// The process has ended: empty its pipe, then say `Drained`. End-of-file is never waited for,
    /// because a grandchild may hold the other end for ever.
    pub fn finish(&self, life: LifeId) {
        self.lanes.tell(&life.clone(), Command::Finish(life));
    }

    /// Nothing is left of the life: empty its pipe once more and let it go.
    pub fn close(&self, life: LifeId) {
        self.lanes.tell(&life.clone(), Command::Close(life));
    }

    /// Look at every file's name anew (USR1, after a foreign rotation).
    pub fn reopen(&self) {
        self.lanes.reopen();
    }

    /// Empties all pipes, closes all files and waits for the threads.
    pub fn shutdown(&self) {
        self.lanes.shutdown();
    }

    /// Bytes stored and dropped of each instance: `(instance, bytes, dropped)`.
    pub fn counted(&self) -> Vec<(Instance, u64, u64)> {
        let counts = self.lanes.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(instance, counted)| {
                (instance.clone(), counted.bytes.load(Ordering::Relaxed), counted.dropped.load(Ordering::Relaxed))
            })
            .collect()
    }
}
