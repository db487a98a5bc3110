//! A service as it is meant: what a valid manifest becomes.
//!
//! Everything here is resolved as far as text alone allows: defaults are filled in, durations are
//! durations, short forms are gone. Paths that a manifest writes are absolute (joined to the
//! manifest's directory) except a wrapper's, which is searched for.
//!
//! A [`Spec`] has two digests. `digest` covers its whole meaning and moves `generation`;
//! `process_digest` covers what only a new process can take up (see [`Process`]) and decides
//! whether an edit restarts anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capability::Set;
use super::cron::Cron;
use super::name::Name;
use super::text::harmless::clip;
use super::zone::Zone;

/// Of a pattern in a message.
const PATTERN_SHOWN: usize = 60;

/// One service, valid.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub name: Name,
    pub description: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub capabilities: Vec<String>,
    pub enabled: bool,
    pub required: bool,
    pub replicas: u32,
    pub process: Process,
    pub depends_on: Vec<Dependency>,
    pub startup_probe: Option<Probe>,
    pub readiness: Readiness,
    pub liveness_probe: Option<Probe>,
    pub min_ready: Duration,
    pub restart: Restart,
    /// It runs by the clock, to its end each time.
    pub schedule: Option<Schedule>,
    /// It runs only while somebody wants it.
    pub activation: Option<Activation>,
    pub update: Option<Update>,
    pub lifecycle: Lifecycle,
    pub stop: Stop,
    pub logs: Logs,
    pub resources: Resources,
    /// Patterns ([`glob`](super::glob)), relative to the manifest.
    pub watch_files: Vec<String>,
    /// Fields that are valid but whose machinery is not built yet, as they are written
    /// (`loadBalancing`); told as the problem `NotYetSupported`.
    pub not_yet_supported: Vec<String>,
    /// Everything of the manifest that is understood but acted on later (mesh, MCP …),
    /// canonical, so that it is part of the digest and of `get -o yaml`.
    pub later: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    pub digest: Digest,
    #[serde(skip)]
    pub process_digest: Digest,
}

impl Spec {
    /// Those that it has, by their fields; what is implied by `port` counts as its readiness.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        let probes = [
            ("startupProbe", self.startup_probe.as_ref()),
            ("readinessProbe", self.readiness.probe()),
            ("livenessProbe", self.liveness_probe.as_ref()),
        ];
        probes.into_iter().filter_map(|(field, probe)| Some((field, probe?)))
    }

    /// The pattern of the `logLine` probe; a service has one.
    pub fn log_line(&self) -> Option<&str> {
        self.probes().find_map(|(_, probe)| match &probe.check {
            Check::LogLine(pattern) => Some(pattern.as_str()),
            Check::Exec { .. }
            | Check::HttpGet { .. }
            | Check::TcpSocket { .. }
            | Check::Grpc { .. }
            | Check::Mcp { .. }
            | Check::Notify
            | Check::Fd(_)
            | Check::Later(_) => None,
        })
    }
}

/// 128 bits of a sha256 over a canonical form that carries a version number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

/// What only a new process can take up: a change here restarts, a change elsewhere applies live.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub program: Program,
    pub args: Vec<String>,
    /// Absolute; none is the directory that plugd was started in.
    pub working_dir: Option<PathBuf>,
    pub env: Vec<(String, EnvValue)>,
    pub env_from: Vec<EnvFile>,
    pub inherit_env: InheritEnv,
    /// `name[:group]` or numbers, as written; resolved when the process is prepared.
    pub user: Option<String>,
    pub group: Option<String>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    /// Open files of each process.
    pub nofile: Option<u64>,
    /// It begins in groups of its own in which the kernel counts what it uses: the numbers
    /// ([`Spec::resources`]) may then change while it runs.
    pub counted: bool,
    /// None: plugd's own.
    pub capabilities: Option<Capabilities>,
    /// Kubernetes' field; false sets no_new_privs.
    pub allow_privilege_escalation: bool,
    /// The first of `ports`, or `port:`.
    pub port: Option<u16>,
    pub ports: Vec<Port>,
    /// plugd listens on `port` for it: how it gets at its callers.
    pub on_demand: Option<Pass>,
    /// That port (of the first instance), which the runtime chose: no part of what the manifest means.
    #[serde(skip)]
    pub private_port: Option<u16>,
    /// An stdio MCP server: no implied port check, a short environment, stdin is a pipe.
    pub stdio_mcp: bool,
    pub selfcheck: bool,
    pub separate_logs: bool,
    pub kill_scope_tree: bool,
    /// The descriptor on which a `fd` probe expects a newline, if any.
    pub ready_fd: Option<i32>,
    /// A notify probe of any kind is declared: NOTIFY_SOCKET is passed.
    pub notify: bool,
    /// WATCHDOG_USEC, where the liveness probe is `notify`.
    pub watchdog: Option<Duration>,
}

/// Started by the first connection, stopped when idle.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// Without a connection for so long it is stopped.
    pub idle_stop: Option<Duration>,
    /// So long a connection waits for a ready instance.
    pub hold_requests: Duration,
}

/// The descriptor of the listening socket that a process is handed, as sd_listen_fds(3) has it.
pub const LISTEN_FD: i32 = 3;

/// How a service on demand gets at its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Pass {
    /// plugd lets them in and passes them on; each process listens on a port of its own.
    Proxy,
    /// Each process is handed the listening socket and lets them in itself.
    Socket,
}

/// Kubernetes' field: what is added is there, also where all are dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    pub drop: Set,
    pub add: Set,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// Executed as it stands; a first word without a slash is looked up in the service's PATH.
    Command(Vec<String>),
    Wrapper(Wrapper),
    /// Handed untouched to `sh -euc TEXT NAME`.
    Script(String),
    /// Nothing to run: `mcp.url` or `address:`; only probed (and later balanced).
    External(String),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wrapper {
    /// As written; searched for in `services.d/`, `services.d/wrappers/`, each `--wrappers DIR`.
    pub path: PathBuf,
    /// Lower-case hex of the pinned content.
    pub sha256: Option<String>,
    /// `--port N` is appended to the arguments.
    pub port_arg: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// `$(VAR)` is expanded when the process is prepared.
    Literal(String),
    /// The content of a file, less one trailing newline. A secret: never shown.
    File(PathBuf),
    /// A variable of plugd's own environment. A secret: never shown.
    FromEnv(String),
}

impl EnvValue {
    /// It is read from where only some may read, and told to nobody.
    pub fn is_secret(&self) -> bool {
        match self {
            EnvValue::File(_) | EnvValue::FromEnv(_) => true,
            EnvValue::Literal(_) => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvFile {
    pub file: PathBuf,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InheritEnv {
    All,
    None,
    Only(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub name: Option<String>,
    pub port: u16,
    pub protocol: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    pub name: Name,
    pub condition: Condition,
    pub optional: bool,
    pub on_loss: OnLoss,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Condition {
    Started,
    Ready,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OnLoss {
    Ignore,
    Restart,
    Stop,
}

/// What an instance may use: numbers that the kernel takes at any time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub limits: Limits,
    pub requests: Requests,
    /// Where memory runs out one process is killed, not the whole instance.
    pub single_process_oom_kill: bool,
}

/// What cannot be exceeded.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What is given when others want it too.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// How an instance is known to be ready.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// `readinessProbe: none`, or nothing written and no port: ready at exec.
    AtExec,
    /// `port:` and nothing written: a tcp check of that port, with Kubernetes' numbers.
    ImpliedPort(Probe),
    Probe(Probe),
}

impl Readiness {
    pub fn probe(&self) -> Option<&Probe> {
        match self {
            Readiness::AtExec => None,
            Readiness::ImpliedPort(probe) | Readiness::Probe(probe) => Some(probe),
        }
    }

    pub fn probe_mut(&mut self) -> Option<&mut Probe> {
        match self {
            Readiness::AtExec => None,
            Readiness::ImpliedPort(probe) | Readiness::Probe(probe) => Some(probe),
        }
    }
}

impl Check {
    /// The port of this machine that it asks.
    pub fn local_port_mut(&mut self) -> Option<&mut ProbePort> {
        match self {
            Check::HttpGet { host: None, port, .. }
            | Check::TcpSocket { host: None, port }
            | Check::Grpc { port, .. }
            | Check::Mcp { port, .. } => Some(port),
            Check::HttpGet { host: Some(_), .. } | Check::TcpSocket { host: Some(_), .. } => None,
            Check::Exec { .. } | Check::Notify | Check::Fd(_) | Check::LogLine(_) | Check::Later(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub check: Check,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

/// What one probe does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    Exec {
        command: Vec<String>,
    },
    HttpGet {
        /// None is this machine: the owner-of-the-socket rule applies.
        host: Option<String>,
        port: ProbePort,
        path: String,
        headers: Vec<(String, String)>,
        /// Not verified, as with Kubernetes: a check asks whether it answers, not who it is.
        https: bool,
        /// Empty: 200 to 399.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        expect_status: Vec<u16>,
        /// A pattern that what is read of the body must match.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect_body: Option<String>,
    },
    TcpSocket {
        host: Option<String>,
        port: ProbePort,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as with Kubernetes.
    Grpc {
        port: ProbePort,
        /// Empty: the server as a whole.
        service: String,
    },
    /// An MCP server on its port: `server/discover`, or `initialize` and `ping` of the older protocol.
    Mcp {
        port: ProbePort,
        path: String,
    },
    Notify,
    Fd(i32),
    LogLine(String),
    /// `mcp` of a server on stdin or elsewhere: understood, built later.
    Later(String),
}

impl Check {
    pub const NOTIFIED: &str = "notify READY=1";
    pub const NEWLINE_CAME: &str = "a newline came on its descriptor";
    pub const LINE_CAME: &str = "its log line came";

    /// What is told of one that has not answered, or spoken, yet.
    pub fn not_said(&self) -> String {
        match self {
            Check::Notify => "it has not said READY=1 yet".into(),
            Check::Fd(number) => format!("no newline has come on its descriptor {number} yet"),
            Check::LogLine(pattern) => format!("no line of its output matches `{}` yet", clip(pattern, PATTERN_SHOWN)),
            Check::Exec { .. }
            | Check::HttpGet { .. }
            | Check::TcpSocket { .. }
            | Check::Grpc { .. }
            | Check::Mcp { .. }
            | Check::Later(_) => "its check has not answered yet".into(),
        }
    }

    /// What is told of one that speaks once, and by itself, when it has.
    pub fn once_said(&self) -> Option<&'static str> {
        match self {
            Check::Notify => Some(Check::NOTIFIED),
            Check::Fd(_) => Some(Check::NEWLINE_CAME),
            Check::LogLine(_) => Some(Check::LINE_CAME),
            Check::Exec { .. }
            | Check::HttpGet { .. }
            | Check::TcpSocket { .. }
            | Check::Grpc { .. }
            | Check::Mcp { .. }
            | Check::Later(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbePort {
    /// A port that the manifest writes as a number or names; resolved to the number here.
    Number(u16),
    /// `$(instance.port)`.
    Instance,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    pub policy: RestartPolicy,
    pub backoff: Backoff,
    pub crash_loop_after: u32,
    pub limit: Option<RestartLimit>,
    /// Exit codes and 128 + signal that count as success.
    pub success_exit_codes: Vec<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    /// A delay is shortened by at most this share, never lengthened.
    pub jitter: f64,
    pub reset_after: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartLimit {
    pub max: u32,
    pub within: Duration,
}

impl RestartLimit {
    /// As many ends are remembered, and one more.
    pub const MOST: u32 = 10_000;
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    pub cron: Cron,
    pub time_zone: Zone,
    pub concurrency_policy: Concurrency,
    /// How late a run may start; none: however late.
    pub starting_deadline: Option<Duration>,
    /// Runs that are over and still told.
    pub history_limit: u32,
}

/// What becomes of a run that falls due while the one before is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The new one is skipped.
    Forbid,
    /// The old one is ended.
    Replace,
}

/// `update:` as written; the strategy is computed where it is not (policy/update.rs).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    pub strategy: Option<Strategy>,
    pub max_surge: Option<u32>,
    pub max_unavailable: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Strategy {
    Recreate,
    Rolling,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    pub pre_start: Option<Vec<String>>,
    pub pre_stop: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The signal's number.
    pub signal: i32,
    pub grace_period: Duration,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    pub max_size: u64,
    pub max_files: u32,
    pub max_age: Option<Duration>,
    pub path: Option<PathBuf>,
    pub tee: bool,
    pub on_stall: OnStall,
    pub rate_limit: Option<u64>,
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum OnStall {
    Discard,
    Block,
}
