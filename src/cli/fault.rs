//! What a verb can end with: an exit code, or a fault that has one.
//!
//! A fault is told on stderr as `plugd: what happened; what to do next`. It has no backtrace and
//! no chain: whoever reads it has a shell, not the source.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::register::Refused;

/// The exit codes of the command line, the same for every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Done,
    /// No, failed, or differs.
    No,
    Usage,
    /// Known but not running or not ready.
    NotReady,
    NoSuchService,
    InvalidManifest,
    Unreachable,
    Permission,
    TimedOut,
    /// 128 + the signal that ended what we ran, or its own code.
    Other(u8),
}

impl Code {
    pub fn number(self) -> u8 {
        match self {
            Code::Done => 0,
            Code::No => 1,
            Code::Usage => 2,
            Code::NotReady => 3,
            Code::NoSuchService => 4,
            Code::InvalidManifest => 5,
            Code::Unreachable => 6,
            Code::Permission => 7,
            Code::TimedOut => 124,
            Code::Other(number) => number,
        }
    }
}

/// Why a verb could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// stdout was closed by its reader: the end, and nothing to say.
    #[error("nobody reads stdout")]
    Pipe,
    #[error(
        "no controller answers for {node}{detail}; start one with `plugd run {node}`, name another with --dir, or say --state-dir if it was started with one"
    )]
    Unreachable { node: String, detail: String },
    /// Its controller is there and says nothing.
    #[error("the controller of {node} has not answered within {within:?}; {next}")]
    Silent { node: String, within: Duration, next: String },
    /// A copy of a directory names the socket of the original.
    #[error("no plugd runs for {dir}: what answers at {socket} is the node of {of}; start one with `plugd run {dir}`")]
    OfAnother { dir: String, socket: String, of: String },
    /// Neither a directory is named nor a controller found.
    #[error("no plugd runs here that {0}; start one with `plugd run`, or name its directory with --dir")]
    NoneRuns(&'static str),
    /// The directory that was named.
    #[error(
        "there is no directory {0}, and no plugd that was started for it is known here; say --state-dir if it was started with one"
    )]
    NoDirectory(String),
    #[error("{} controllers run here: {}; name one with --dir", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    #[error("no service is named {name}{}; `plugd get` lists them", .nearest.as_ref().map(|n| format!(" (did you mean {n}?)")).unwrap_or_default())]
    NoSuchService { name: String, nearest: Option<String> },
    #[error("{service} is {status}; `plugd status {service}` tells why")]
    NotReady { service: String, status: String },
    #[error("{0}")]
    Invalid(String),
    #[error("waited {after:?}: {what}; {next}")]
    TimedOut { what: String, after: Duration, next: String },
    /// The controller knows nothing of that name.
    #[error("{what}; {next}")]
    Missing { what: String, next: String },
    /// The controller knows it and cannot do that to it now.
    #[error("{what}; {next}")]
    Conflict { what: String, next: String },
    #[error("{what}; {next}")]
    Usage { what: String, next: String },
    #[error("{what}; {next}")]
    No { what: String, next: String },
    #[error("{what} {path}: permission denied; run it as the owner of the directory or as root", path = .path.display())]
    Permission { what: &'static str, path: PathBuf },
    #[error("failed to {what} {path}: {}", plain(source), path = .path.display())]
    Path { what: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to write to stdout: {}", plain(.0))]
    Stdout(io::Error),
}

impl Fault {
    pub fn code(&self) -> Code {
        match self {
            Fault::Pipe => Code::Done,
            Fault::Unreachable { .. }
            | Fault::Silent { .. }
            | Fault::OfAnother { .. }
            | Fault::NoneRuns(_)
            | Fault::NoDirectory(_) => Code::Unreachable,
            Fault::Several(_) | Fault::Usage { .. } => Code::Usage,
            Fault::NoSuchService { .. } | Fault::Missing { .. } => Code::NoSuchService,
            Fault::NotReady { .. } | Fault::Conflict { .. } => Code::NotReady,
            Fault::Invalid(_) => Code::InvalidManifest,
            Fault::TimedOut { .. } => Code::TimedOut,
            Fault::Permission { .. } => Code::Permission,
            Fault::No { .. } | Fault::Path { .. } | Fault::Stdout(_) => Code::No,
        }
    }

    /// No controller answers, however that is known.
    pub fn is_unreachable(&self) -> bool {
        self.code() == Code::Unreachable
    }

    /// As that, and the next controller may answer in a moment.
    pub fn may_pass(&self) -> bool {
        // Of a copied directory the original's answers; who was silent for so long is not asked once more.
        self.is_unreachable() && !matches!(self, Fault::OfAnother { .. } | Fault::Silent { .. })
    }

    /// An error of a path, told apart by kind.
    pub fn path(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Fault {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Fault::Permission { what, path },
            _ => Fault::Path { what, path, source },
        }
    }

    /// Root could ask anybody, and looks only in places that nobody else can write in.
    pub fn none_runs() -> Fault {
        Fault::NoneRuns(match rustix::process::geteuid().is_root() {
            true => "is root's; that of another user is asked as that user (`docker exec -u USER`)",
            false => "this user may ask",
        })
    }

    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Fault {
        Fault::Usage { what: what.into(), next: next.into() }
    }

    pub fn no(what: impl Into<String>, next: impl Into<String>) -> Fault {
        Fault::No { what: what.into(), next: next.into() }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        match refused {
            Refused::Exists { name, file } => Fault::no(
                format!("{name} is declared already, by {file}"),
                format!("change it with `plugd edit {name}`, or put this in its place with --replace"),
            ),
            Refused::Shared { name, file, other } => {
                Fault::no(format!("{file} declares {other} too"), format!("take {name} alone out of {file}"))
            }
            Refused::Unnamed { name, file } => Fault::no(
                format!("{name} is declared by {file}; this text there, without `name: {name}`, is another service"),
                format!("write `name: {name}` into it, or change it with `plugd edit {name}`"),
            ),
            Refused::NotJson { name, file } => Fault::no(
                format!("{name} is declared by {file}, and this is no JSON"),
                format!("change it with `plugd edit {name}`, or remove {file} first"),
            ),
            Refused::Script { name, file } => Fault::no(
                format!("{name} is a script that was discovered, {file}: nobody's but yours to delete"),
                format!("`plugd stop {name}` ends the service and keeps the script; or delete {file}"),
            ),
        }
    }
}

/// What the system says, without its number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, _)) => words.to_string(),
        None => text,
    }
}

/// Writing to stdout is the only bare I/O of the verbs; everything else names its path.
impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Fault::Pipe,
            _ => Fault::Stdout(error),
        }
    }
}
