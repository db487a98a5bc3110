//! The facts that the world hands to the brain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::name::{LifeId, Name};
use crate::model::reason::{Reason, Status};
use crate::model::settings::Settings;
use crate::model::spec::{Digest, Spec};
use crate::model::view::{FileProblem, RunResult, is_false};

/// One fact.
#[derive(Debug, Clone)]
pub enum Input {
    // ── at start, before anything is declared ──
    /// What `state.db` holds of a service.
    Remembered(Name, Box<Memory>),
    /// A life that the keeper has in its table: running, or ended and not yet forgotten.
    Adopted(Adopted),

    // ── from the directory ──
    /// A valid manifest or a discovered script, new or changed (also when only the content of its
    /// wrapper or of an env file changed, or the wrapper appeared or went).
    Declared(Declaration),
    /// The file of a service is invalid; the last good spec stays.
    Rejected(Rejection),
    /// The file of a service is gone for good.
    Withdrawn(Name),
    /// The first scan is complete: what was not declared by now has no manifest.
    Scanned,
    /// The directory is missing, unreadable or emptied by a mount (why); hold everything.
    DirectoryLost(String),
    DirectoryFound,
    /// What outlives the keeper cannot be read or written, and why; `None`: it can be (again).
    Memory(Option<String>),
    /// What outlived the keeper is gone, and why: a new memory is begun.
    MemoryLost(String),
    /// The settings of the node, edited.
    Rules(Rules),
    /// What is wrong with the node itself, as of now (replaces the former list).
    NodeProblems(Vec<FileProblem>),
    /// All files that make no service, as of now (replaces the former list).
    FileProblems(Vec<FileProblem>),

    // ── from the keeper and the process edge ──
    Spawned {
        life: LifeId,
        pid: i32,
        start_time: u64,
    },
    /// The kernel killed a process of it for want of memory, and the others go on.
    LostProcess {
        life: LifeId,
    },
    /// What was executed may not be what is pinned, and why: it is ended at once.
    Mismatched {
        life: LifeId,
        why: String,
    },
    /// Nothing runs and nothing is left of this life.
    SpawnFailed {
        life: LifeId,
        reason: Reason,
        message: String,
    },
    /// Answer to [`Action::CallOff`](super::Action::CallOff): the keeper was not asked, nothing began.
    CalledOff(LifeId),
    /// What a start, or the hook before it, waits for in vain (a file system whose server is gone), in
    /// words; `None`: it is over.
    HeldUp {
        life: LifeId,
        why: Option<String>,
    },
    Exited {
        life: LifeId,
        exit: Exit,
    },
    /// What is left of a life's tree, the main process included; empty means nothing.
    Surveyed {
        life: LifeId,
        left: Vec<Leftover>,
    },
    /// The last output of an ended life, drained to the end.
    Output {
        life: LifeId,
        lines: Vec<String>,
    },
    /// Answer to [`Action::Try`](super::Action::Try).
    Tried {
        name: Name,
        digest: Digest,
        result: Result<(), (Reason, String)>,
    },
    /// Answer to [`Action::RunHook`](super::Action::RunHook).
    HookEnded {
        life: LifeId,
        hook: Hook,
        result: Result<(), (Reason, String)>,
    },

    // ── from the probes ──
    Verdict {
        life: LifeId,
        probe: ProbeSlot,
        verdict: Verdict,
    },
    /// A line that matches this pattern came in the life's output: of the `logLine` probe that it was
    /// judged by when it was looked for.
    LogLine {
        life: LifeId,
        pattern: String,
    },
    /// sd_notify(3), from a process of the life's tree.
    Notified {
        life: LifeId,
        message: Notification,
    },
    /// The machine slept, or the loop stood still for longer than a check may take: what failed
    /// meanwhile, and fails within the next period, proves nothing.
    Awoke,
    /// The port that a wait names has become free.
    PortFree(u16),
    /// The port of a life that has failed was somebody else's; the message names who holds it.
    PortHeld {
        life: LifeId,
        message: String,
    },
    /// Something that the edge has to say of a service beside its lives (`StatusNotWritten`,
    /// `SecretReadable`); `None` takes it back.
    Problem {
        name: Name,
        reason: Reason,
        message: Option<String>,
    },
    /// The same of what one life writes (`LogsDropped`, `LogNotWritten`): it goes with that life.
    LogProblem {
        life: LifeId,
        reason: Reason,
        message: Option<String>,
    },

    // ── from the doors ──
    /// Who wants a service that runs on demand: a level, told when it changes.
    Demand {
        name: Name,
        demand: Demand,
        /// Connections that were closed since it was told last, because nobody was ready within `holdRequests`.
        sent_away: u32,
    },
    /// Whether plugd listens for it now. That it cannot is a `Problem`, said as well.
    Door {
        name: Name,
        listens: bool,
    },
    /// The port that the next processes of a service on demand are given; none of it runs.
    PrivatePort {
        name: Name,
        port: u16,
    },

    // ── from people ──
    Order {
        name: Name,
        order: Order,
    },
    Shutdown(Shutdown),
    /// `plugd rm --missing`: what a lost directory held is let go.
    ConfirmMissing,
    /// What would not start is tried again now: what was missing may be there since, and somebody asks.
    TryAgain,
}

/// A service as the directory declares it now.
#[derive(Debug, Clone)]
pub struct Declaration {
    pub spec: Arc<Spec>,
    pub source: Source,
    pub program: Resolved,
    pub watched: Watched,
    /// Warnings about the file: reason and message.
    pub problems: Vec<(Reason, String)>,
}

/// The files that it watches, beside what their content is ([`Resolved`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// How often they have changed since somebody looks.
    pub changes: u64,
    /// Which of them the last change was of, in order.
    pub edited: Vec<String>,
    /// Of some that are not there the last content goes on standing.
    pub lacks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name in the directory.
    pub file: String,
    /// First 16 hex digits of the sha256 of its bytes (drop-ins and defaults not included).
    pub sha256: String,
}

impl Source {
    /// What it says of the service stands in comments.
    pub fn is_script(&self) -> bool {
        !crate::model::manifest::is_manifest(Path::new(&self.file))
    }
}

/// What became of the wrapper and the env files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// `wrapper`: the absolute path that was found, where the spec has one. `content`: a digest of
    /// the wrapper's and the env files' bytes; part of what decides about a restart.
    Found { wrapper: Option<PathBuf>, content: Digest },
    /// It cannot be started: `WrapperNotFound`, `NotExecutable`, `BadInterpreter`, `UntrustedFile`,
    /// `DigestMismatch`. A running life is not touched by it.
    Missing { reason: Reason, message: String, tried: Vec<String> },
}

impl Resolved {
    pub fn content(&self) -> Option<Digest> {
        match self {
            Resolved::Found { content, .. } => Some(*content),
            Resolved::Missing { .. } => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Rejection {
    pub name: Name,
    pub source: Source,
    /// `ConfigInvalid`, `UntrustedFile`, `Unreadable`, `MissingVariable` …
    pub reason: Reason,
    /// `file:line:col: what (hint)`, then the offending line.
    pub message: String,
    /// The file that is wrong: its manifest, a drop-in of it, or the defaults.
    pub file: String,
    /// As far as it can be read from an invalid file.
    pub required: bool,
}

/// What outlives the keeper, of one service.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    pub generation: u64,
    /// Of the accepted spec, hex; empty if never.
    pub digest: String,
    pub restarts: u64,
    pub step: u32,
    pub failed_starts: u32,
    /// `plugd stop`: the boot id and keeper start it holds for is checked by the edge.
    pub stopped_by_operator: bool,
    /// `onLoss: Stop` struck: the dependency that went; as long as that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency_lost: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// For showing; and its code is the node's, where the node ends for its sake.
    pub last_exit: Option<super::ExitMemory>,
    /// The highest life of each instance.
    pub lives: Vec<u64>,
    /// The instances of which `restart.limit` lets no other life follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<u32>,
    /// Of a service that runs by the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<ScheduleMemory>>,
    /// The version that goes on while a later one cannot be carried out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::kept::if_it_can_be_read")]
    pub kept: Option<Box<KeptMemory>>,
    /// What was told last: a controller that finds it like that goes on telling since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// It was told that it runs as root.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned_root: bool,
    /// Somebody wanted it, where it runs on demand: true as long as the keeper lives, for callers wait at its doors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awake: bool,
}

/// `plugd scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scaled {
    pub to: u32,
    /// `replicas` when that was said: as declared, and as in force; none where no manifest had been read.
    pub over: Option<(u32, u32)>,
}

/// A version that ran when an edit came.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeptMemory {
    /// On the disk a manifest: whole, without defaults and drop-ins, all paths absolute.
    #[serde(with = "super::kept::as_manifest")]
    pub spec: Arc<Spec>,
    /// What its wrapper was found to be.
    pub wrapper: Option<PathBuf>,
    /// Of the wrapper's and the env files' bytes.
    pub content: Digest,
    /// Of the manifest's bytes, as [`Source`] has it.
    pub source: u64,
    pub generation: u64,
}

/// A status word and since when it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Told {
    pub status: Status,
    pub reason: Option<Reason>,
    pub since: Timestamp,
    /// Since when the edit of that generation has been blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Timestamp>,
}

/// What outlives the keeper, of a schedule.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScheduleMemory {
    /// Expression and zone that the rest is of.
    pub of: String,
    /// It was not meant to run: stopped or disabled.
    pub paused: bool,
    /// Which scheduled times were dealt with (policy/agenda.rs).
    pub dealt: Vec<(i64, i64)>,
    /// The last that are over and those that are open, oldest first.
    pub runs: Vec<RunMemory>,
    /// Of the runs of which the keeper holds a life, those that were told as over.
    pub told: Vec<i64>,
    /// Microseconds since the epoch.
    pub last_success: Option<i64>,
    /// Why the last run failed, if it did.
    pub failed: Option<String>,
}

/// One run of a job.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunMemory {
    /// When it was called, microseconds since the epoch; no two of a service are the same.
    pub id: i64,
    /// Seconds since the epoch; none: by hand.
    pub scheduled: Option<i64>,
    /// When its first process was spawned, microseconds since the epoch.
    pub began: Option<i64>,
    /// None while it is open.
    pub result: Option<RunResult>,
    /// Of its last process: the code, or 128 + signal.
    pub code: Option<i32>,
    pub took: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ExitMemory {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom_killed: bool,
    /// Who asked for it, or why we did.
    #[serde(default)]
    pub by: Option<String>,
    /// Microseconds since the epoch.
    pub at: i64,
    pub ran_for: Duration,
    pub output: Vec<String>,
    /// Of which life of which instance.
    #[serde(default)]
    pub life: u64,
    #[serde(default)]
    pub index: u32,
    /// It was an event.
    #[serde(default)]
    pub told: bool,
}

/// A life from the keeper's list.
#[derive(Debug, Clone)]
pub struct Adopted {
    pub life: LifeId,
    pub pid: i32,
    /// Its preStop hook runs.
    pub pre_stop: bool,
    /// How long it has been running (or had been, when it ended).
    pub age: Duration,
    pub exit: Option<Exit>,
    /// As the brain gave it with the spawn or later.
    pub blob: Vec<u8>,
}

/// How a process ended, as wait(2) said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub how: ExitHow,
    pub oom_killed: bool,
    /// Its limit of processes, at which the kernel refused it one.
    pub pids_met: Option<u64>,
    /// Somebody waits at the listening socket that it was handed, and nobody of its service is left to let him in.
    pub left_callers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitHow {
    Code(i32),
    Signal(i32),
}

/// Of what memory has of it.
pub(super) fn exit_of(code: Option<i32>, signal: Option<i32>) -> Exit {
    match (code, signal) {
        (Some(code), _) => Exit::code(code),
        (None, signal) => Exit::signal(signal.unwrap_or_default()),
    }
}

impl ExitMemory {
    pub(super) fn exit(&self) -> Exit {
        Exit { oom_killed: self.oom_killed, ..exit_of(self.code, self.signal) }
    }
}

impl Exit {
    pub fn code(code: i32) -> Exit {
        Exit { how: ExitHow::Code(code), oom_killed: false, pids_met: None, left_callers: false }
    }
    pub fn signal(signal: i32) -> Exit {
        Exit { how: ExitHow::Signal(signal), oom_killed: false, pids_met: None, left_callers: false }
    }
    /// What its group had counted until then says nothing of an end that plugd asked for.
    pub fn asked_for(self) -> Exit {
        Exit { oom_killed: false, pids_met: None, ..self }
    }
    /// As a shell tells it: the code, or 128 + signal.
    pub fn status(&self) -> i32 {
        match self.how {
            ExitHow::Code(code) => code,
            ExitHow::Signal(signal) => 128 + signal,
        }
    }
}

/// Who is at the door of a service that runs on demand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Somebody waits to be let in.
    pub waiting: bool,
    /// Somebody is connected, or was a moment ago.
    pub connected: bool,
    /// What keeps callers waiting although something of it is ready.
    pub block: Option<Block>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// It had all the connections that plugd passes on for one service: so many. Less than an eighth of them is free.
    Full(usize),
    /// The same of all services together.
    NodeFull(usize),
    /// Somebody else listens where it should.
    Taken,
}

impl Demand {
    /// Somebody came, and nobody was there before.
    pub(super) fn calls_after(self, before: Demand) -> bool {
        (self.waiting && !before.waiting) || (self.connected && !before.connected && !before.waiting)
    }
}

/// A process that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub pid: i32,
    pub command: String,
    /// Where in the kernel it waits for what no signal ends (a disk, a server of files), as far as the kernel says.
    pub held: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    Selfcheck,
    PreStart,
    PreStop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeSlot {
    Startup,
    Readiness,
    Liveness,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub passed: bool,
    /// `tcp 127.0.0.1:5432 passed`, `http 127.0.0.1:80/ready answered 503`.
    pub message: String,
    /// `AddressInUse` where a stranger holds the port; the message names it.
    pub reason: Option<Reason>,
    pub took: Duration,
}

/// One datagram of sd_notify(3), parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    pub ready: bool,
    pub stopping: bool,
    pub watchdog: bool,
    pub status: Option<String>,
    pub extend_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Start,
    /// The schedule of a job that was stopped goes on; nothing runs for it now.
    Resume,
    Stop,
    Restart,
    Scale(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// In reverse dependency order, each with its grace.
    Ordered,
    /// Grace 0.
    Now,
}

/// Settings of the node that are in force as soon as they are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub shutdown_timeout: Option<Duration>,
    pub exit_on_required: Option<Duration>,
    pub max_starting: Option<u32>,
    pub require_user: bool,
}

impl Rules {
    pub fn of(settings: &Settings) -> Rules {
        Rules {
            shutdown_timeout: settings.shutdown_timeout,
            exit_on_required: settings.exit_on_required,
            max_starting: settings.max_starting,
            require_user: settings.require_user,
        }
    }
}
