//! What is told of a service: the one source of the status file, the CLI and the API.
//!
//! The controller makes a [`ServiceView`] from its facts; everybody else only prints it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::Name;
use super::reason::{Reason, Status};
use super::spec::Digest;

/// All services and the node, as one immutable value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Counts up with every published change; the sequence number of `/v1/watch`.
    pub sequence: u64,
    pub node: NodeView,
    pub services: BTreeMap<Name, std::sync::Arc<ServiceView>>,
}

/// The node's own part: what `_controller.status` shows beside the services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Every service has had its first verdict.
    pub settled: bool,
    pub directory_lost: Option<String>,
    /// Not all that lies in the directory has been read since the start: there may be services that are not listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reading: bool,
    pub shutting_down: bool,
    /// It runs one manifest or one command, and looks at no directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// It ends by itself: for the sake of which service, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_for: Option<String>,
    /// Files that make no service, and what is wrong with the node itself.
    pub problems: Vec<FileProblem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileProblem {
    /// The file's name in the directory.
    pub file: String,
    #[serde(rename = "type")]
    pub reason: Reason,
    pub message: String,
}

impl FileProblem {
    /// Whether somebody has to mend something; else it is only told why the file is no service.
    pub fn is_fault(&self) -> bool {
        !matches!(self.reason, Reason::Withdrawn | Reason::ExecFormat)
    }

    /// The word under which the file is listed.
    pub fn status(&self) -> Status {
        if self.is_fault() { Status::Failed } else { Status::Skipped }
    }
}

/// One service as it was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    pub service: Name,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What happened, one sentence a line; empty where the status says it all.
    pub why: Vec<String>,
    /// What comes next, one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    pub available: bool,
    pub process_running: bool,
    pub mesh_registration: bool,
    pub required: bool,
    /// What counts for its availability: for who counts it, and told to nobody.
    #[serde(skip)]
    pub serving: Serving,
    /// Ready instances, of as many as are desired.
    pub ready: u32,
    pub desired: u32,
    pub restarts: u64,
    /// 0 to 100, the mean of its instances'; none where nothing is checked or expected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The last thing that a check said: `tcp 127.0.0.1:5432 passed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitView>,
    /// Of a service that runs by the clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<Box<ScheduleView>>,
    pub problems: Vec<Problem>,
    /// Paths tried for a wrapper that was not found.
    pub tried: Vec<String>,
    /// When the status (and reason) became what it is.
    pub since: Timestamp,
    /// The same of each condition; none as an older controller tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned: Option<Box<Turned>>,
    pub instances: Vec<InstanceView>,
    pub manifest: ManifestView,
    /// `session` or `cgroup`: how far a stop reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    #[serde(default, skip_serializing_if = "LogFormat::is_text")]
    pub log_format: LogFormat,
    pub labels: BTreeMap<String, String>,
    pub capabilities: Vec<String>,
    pub depends_on: Vec<Name>,
    /// The one of them whose loss stopped it (`onLoss: Stop`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Name>,
    /// Completed, armed or stopped on purpose: nothing is expected of it now.
    pub settled: bool,
    /// On its way to its first verdict: neither started nor failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending: bool,
    /// Nothing checks it, its last starts failed, and that it lives again proves nothing yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unproven: bool,
    /// A connection starts it, unless it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub on_demand: bool,
    /// A job: who waits for it by its name waits for its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub runs_to_end: bool,
}

impl ServiceView {
    pub fn problem(&self, reason: Reason) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.reason == reason)
    }

    /// Why what its files say now is not in force: refused, or blocked by what it lacks. What is refused counts
    /// whatever was declared before.
    pub fn not_in_force(&self) -> Option<&Problem> {
        match &self.manifest.rejected {
            Some(rejected) => self.problem(rejected.reason.unwrap_or(Reason::ConfigInvalid)),
            None => self.problem(Reason::UpdateBlocked),
        }
    }

    /// The same in a line, where that is not what `why` says: who has just edited it looks for that first.
    pub fn edit_not_in_force(&self) -> Option<String> {
        let told_already = |problem: &&Problem| self.reason == Some(problem.reason);
        let is_over = self.reason == Some(Reason::ControllerStopped);
        let problem = self.not_in_force().filter(|problem| !is_over && !told_already(problem))?;
        Some(in_a_line((problem.reason.as_str(), &problem.message)))
    }

    /// What comes next, and what a person has to do before that.
    pub fn told_next(&self) -> Option<String> {
        let rejected = self.manifest.rejected.as_ref().filter(|_| self.edit_not_in_force().is_some());
        let mend = rejected.and_then(|rejected| rejected.file.as_ref()).map(|file| format!("mend {file}"));
        let steps: Vec<String> = mend.into_iter().chain(self.next.clone()).collect();
        (!steps.is_empty()).then(|| steps.join("; "))
    }
}

/// What a service is expected to do, and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serving {
    Up,
    Down,
    /// Stopped on purpose, completed, skipped, a job: that time does not count.
    #[default]
    Aside,
}

/// The conditions of a service, as Kubernetes has them: whether each holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    pub ready: bool,
    pub available: bool,
    pub valid: bool,
    pub depends: bool,
    pub registered: bool,
}

/// Since when each of them holds, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turned {
    pub ready: Timestamp,
    pub available: Timestamp,
    pub valid: Timestamp,
    pub depends: Timestamp,
    pub registered: Timestamp,
}

impl Turned {
    pub fn all(at: Timestamp) -> Turned {
        Turned { ready: at, available: at, valid: at, depends: at, registered: at }
    }

    /// Those that are another now turned now.
    pub fn follow(self, before: Conditions, after: Conditions, now: Timestamp) -> Turned {
        let at = |was: bool, is: bool, since: Timestamp| if was == is { since } else { now };
        Turned {
            ready: at(before.ready, after.ready, self.ready),
            available: at(before.available, after.available, self.available),
            valid: at(before.valid, after.valid, self.valid),
            depends: at(before.depends, after.depends, self.depends),
            registered: at(before.registered, after.registered, self.registered),
        }
    }
}

/// What makes a manifest one that is not valid.
pub const INVALID: &[Reason] =
    &[Reason::ConfigInvalid, Reason::NameInvalid, Reason::NameConflict, Reason::UntrustedFile, Reason::Unreadable];
/// What it waits for, of others.
pub const WAITS: &[Reason] = &[Reason::DependencyNotReady, Reason::DependencyCycle, Reason::DependencyLost];

impl ServiceView {
    pub fn conditions(&self) -> Conditions {
        let armed = matches!(self.reason, Some(Reason::NextRun | Reason::OnDemand));
        let serves = self.desired > 0 && self.ready >= self.desired;
        let names = |reasons: &[Reason]| {
            let own = self.reason.is_some_and(|reason| reasons.contains(&reason));
            own || self.problems.iter().any(|problem| reasons.contains(&problem.reason))
        };
        Conditions {
            ready: armed || serves || self.status == Status::Completed,
            available: self.available,
            valid: !names(INVALID),
            depends: !names(WAITS),
            registered: self.mesh_registration,
        }
    }
}

/// What each line of its log is (`logs.format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    pub fn of(json: bool) -> LogFormat {
        if json { LogFormat::Json } else { LogFormat::Text }
    }

    fn is_text(&self) -> bool {
        *self == LogFormat::Text
    }
}

/// A problem: `UpdateBlocked: the new version would not start …`, of its word and its message.
pub fn in_a_line((reason, message): (&str, &str)) -> String {
    format!("{reason}: {}", message.lines().next().unwrap_or_default())
}

pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a service does by the clock, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    pub cron: String,
    pub time_zone: String,
    /// None while it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Timestamp>,
    /// When the last run that ended well was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// What goes on, and the last that are over; the newest last.
    pub runs: Vec<RunView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// None: started by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
    /// When its first process was spawned; none where it came to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    pub result: RunResult,
    /// How its last process ended: the exit code, or 128 + signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// From the first start to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_seconds: Option<f64>,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunResult {
    /// It is due and has not begun.
    Waiting,
    Running,
    Completed,
    Failed,
    /// It was ended on purpose: `plugd stop`, or the end of plugd.
    Stopped,
    /// It was ended for the next one.
    Replaced,
    /// plugd was killed with it: nobody knows.
    Unknown,
}

impl RunResult {
    pub fn word(self) -> &'static str {
        match self {
            RunResult::Waiting => "waiting",
            RunResult::Running => "running",
            RunResult::Completed => "completed",
            RunResult::Failed => "failed",
            RunResult::Stopped => "stopped",
            RunResult::Replaced => "replaced",
            RunResult::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// `orders/0`; just `orders` where there is one.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub ready: bool,
    pub restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub score: Option<ScoreView>,
    /// The status word of this one instance.
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When its process was spawned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
}

/// The health score of one instance, with the subtraction that gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreView {
    pub points: u8,
    /// What was taken from 100.
    pub less: Vec<LessView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LessView {
    pub points: u8,
    /// `2 failed checks in a row`.
    pub why: String,
}

/// What wobbles: told when somebody asks, never announced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VitalsView {
    /// In how much of the time in which it was meant to serve it could be used, in this controller's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_percent: Option<f64>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_since: Option<Timestamp>,
    pub instances: Vec<InstanceVitals>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceVitals {
    pub name: String,
    pub consecutive_failures: u32,
    /// What the last ten passed checks or so took on average, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitView {
    /// The exit code; 128 + signal where a signal ended it; none where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// `OOMKilled` where memory ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Who asked for it, or why plugd did; none where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub at: Timestamp,
    #[serde(with = "super::text::seconds")]
    pub ran_for: Duration,
    /// The last lines it wrote, at most 2 KiB, control characters stripped.
    pub output: Vec<String>,
}

impl ExitView {
    /// What its code or signal does not tell: that memory ran out, and who asked for it.
    pub fn told_beside(&self) -> Option<String> {
        let out_of_memory = (self.reason == Some(Reason::OomKilled)).then_some("out of memory");
        let told: Vec<&str> = out_of_memory.into_iter().chain(self.by.as_deref()).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(rename = "type")]
    pub reason: Reason,
    pub message: String,
    pub since: Timestamp,
    /// What a start of what is declared lacks: an edit waits for it, or cannot be carried out (`UpdateBlocked`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<BlockView>,
}

/// Why what is declared would not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    #[serde(rename = "type")]
    pub reason: Reason,
    pub message: String,
    /// The dependencies that are not there; or the cycle, with the first one again at its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Name>,
    /// If what runs ends, it is started again: as the version before.
    #[serde(default)]
    pub starts_again: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestView {
    /// The file's name in the directory.
    pub file: String,
    /// First 16 hex digits of the sha256 of the bytes that are in force.
    pub sha256: String,
    pub generation: u64,
    /// The generation that runs, where that is an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<u64>,
    /// Of the whole meaning of what is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What a start would be made from now; none where it cannot be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declares: Option<PrintView>,
    /// What all its processes were made from; none where nothing runs, or not all of them the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<PrintView>,
    /// The bytes that were refused last, if they are what is on disk now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RejectedView>,
}

/// The digests that decide whether a change needs a new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrintView {
    /// Of what only a new process can take up.
    pub process: Digest,
    /// Of its wrapper and its env files.
    pub content: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedView {
    pub sha256: String,
    pub at: Timestamp,
    /// The word of the problem that tells why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The file that is wrong: the manifest, a drop-in of it, or the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Something that happened, as `plugd events` and the history show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: Timestamp,
    /// None: the node itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    pub reason: Reason,
    pub warning: bool,
    pub message: String,
}
