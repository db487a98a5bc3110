//! Where state, logs and run files lie, who holds the directory, and how a client finds a controller.
//!
//! Nothing of this lies in `services.d`, which may be mounted over, committed or baked into an image.
//! Every place is the first of a list that can be written (`interfaces.md`); none at all is no error.

mod find;
mod lock;

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::model::settings::Settings;

pub use find::{FindError, Found, Silent, find};
pub use lock::{Holder, Lock, LockError};

/// The longest path that fits `sockaddr_un` with its closing zero.
const SOCKET_PATH_MAX: usize = 107;
pub const SOCKET: &str = "plugd.sock";
pub const DATABASE: &str = "state.db";

/// Who asks: what of the process decides about places. Made once, at the start.
#[derive(Debug, Clone, Default)]
pub struct Who {
    pub uid: u32,
    pub state_home: Option<PathBuf>,
    pub runtime_dir: Option<PathBuf>,
    /// `/` but in tests.
    pub root: PathBuf,
}

/// The places of one controller; none where nothing can be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    pub key: String,
    /// Holds `state.db`, and `status/` where the directory is read-only.
    pub state: Option<PathBuf>,
    pub logs: Option<PathBuf>,
    /// Holds the socket and the table of lives.
    pub run: Option<PathBuf>,
    /// What could not be had, as sentences for people.
    pub warnings: Vec<String>,
}

impl Who {
    pub fn now() -> Who {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME").map(|home| home.join(".local/state"));
        Who {
            uid: rustix::process::geteuid().as_raw(),
            state_home: set("XDG_STATE_HOME").or(home).filter(|path| path.is_absolute()),
            runtime_dir: set("XDG_RUNTIME_DIR").filter(|path| path.is_absolute()),
            root: PathBuf::from("/"),
        }
    }

    /// The places of the memory, without that of a flag; also where a client looks.
    pub fn state_candidates(&self, key: &str) -> Vec<PathBuf> {
        let system = (self.uid == 0).then(|| self.root.join("var/lib/plugd").join(key));
        let user = self.state_home.as_ref().map(|home| home.join("plugd").join(key));
        system.into_iter().chain(user).collect()
    }

    /// The places of run files, without those of flags; also where a client looks.
    fn run_candidates(&self, key: &str) -> Vec<PathBuf> {
        self.run_parents().into_iter().map(|parent| parent.join(key)).collect()
    }

    fn run_parents(&self) -> Vec<PathBuf> {
        let system = (self.uid == 0).then(|| self.root.join("run/plugd"));
        let user = self.runtime_dir.as_ref().map(|dir| dir.join("plugd"));
        let shared = ["tmp", "dev/shm"].map(|dir| self.root.join(dir).join(format!("plugd-{}", self.uid)));
        system.into_iter().chain(user).chain(shared).collect()
    }
}

/// The directory's base name, `-`, and six hex digits of the sha256 of its real path.
pub fn key(dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let real = dir.canonicalize().or_else(|_| std::path::absolute(dir)).unwrap_or_else(|_| dir.to_path_buf());
    let base = real.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned());
    let base: String =
        base.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(64).collect();
    let hash = Sha256::digest(real.as_os_str().as_bytes());
    format!("{base}-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2])
}

/// Without a directory on the command line: `./services.d`, else `/etc/plugd/services.d`.
pub fn default_dir() -> Option<PathBuf> {
    ["services.d", "/etc/plugd/services.d"].map(PathBuf::from).into_iter().find(|dir| dir.is_dir())
}

impl Places {
    /// Chooses and creates the places of the directory `dir`.
    pub fn choose(dir: &Path, settings: &Settings, who: &Who) -> Places {
        let key = key(dir);
        let mut places = Places { key: key.clone(), ..Places::default() };
        let state = match &settings.state_dir {
            Some(dir) => vec![dir.clone()],
            None => who.state_candidates(&key),
        };
        places.state = places.first("memory", &state, writable);

        let beside = places.state.as_ref().map(|state| state.join("logs"));
        let system = (who.uid == 0).then(|| who.root.join("var/log/plugd").join(&key));
        let logs: Vec<PathBuf> = match (&settings.log_dir, &settings.state_dir) {
            (Some(dir), _) => vec![dir.clone()],
            (None, Some(dir)) => vec![dir.join("logs")],
            (None, None) => system.into_iter().chain(beside).collect(),
        };
        places.logs = places.first("log files", &logs, writable);

        let run = match (&settings.run_dir, &settings.state_dir) {
            (Some(dir), _) => vec![dir.clone()],
            (None, Some(dir)) => vec![dir.join("run")],
            (None, None) => who.run_candidates(&key),
        };
        let fits = |dir: &Path| made(dir).and_then(|()| private(dir, who.uid)).and_then(|()| writable(dir));
        places.run = places.first("run files", &run, |dir| fits(dir).and_then(|()| can_bind(dir)));
        places
    }

    /// `state.db`.
    pub fn database(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|dir| dir.join(DATABASE))
    }

    pub fn socket(&self) -> Option<PathBuf> {
        self.run.as_ref().map(|dir| dir.join(SOCKET))
    }

    /// Where status files go when the directory is read-only.
    pub fn status(&self) -> Option<PathBuf> {
        self.state.as_ref().map(|dir| dir.join("status"))
    }

    fn first(&mut self, what: &str, candidates: &[PathBuf], fits: impl Fn(&Path) -> io::Result<()>) -> Option<PathBuf> {
        let mut tried = Vec::new();
        for dir in candidates {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            match fits(&dir) {
                Ok(()) => return Some(dir),
                Err(error) => tried.push(format!("{}: {error}", dir.display())),
            }
        }
        let tried = if tried.is_empty() { "no place is known".to_string() } else { tried.join("; ") };
        self.warnings.push(format!("running without {what} ({tried})"));
        None
    }
}

/// The database of a run that was, where the places of these settings have one.
pub fn known_database(dir: &Path, settings: &Settings, who: &Who) -> Option<PathBuf> {
    let state = settings.state_dir.clone().map_or_else(|| who.state_candidates(&key(dir)), |dir| vec![dir]);
    state.into_iter().map(|dir| dir.join(DATABASE)).find(|path| path.is_file())
}

/// Makes the directory (0700) where it is missing and sees whether a file can be made in it.
fn writable(dir: &Path) -> io::Result<()> {
    made(dir)?;
    let fd = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = format!(".try-{}", random());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    drop(rustix::fs::openat(&fd, &name, flags, Mode::RUSR | Mode::WUSR)?);
    Ok(rustix::fs::unlinkat(&fd, &name, rustix::fs::AtFlags::empty())?)
}

pub(super) fn made(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What nobody can have put at a name beforehand: from the system's random source.
pub fn random() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Makes the run directory again, as it was chosen.
pub fn renew(run: &Path) -> io::Result<()> {
    made(run)?;
    private(run, rustix::process::geteuid().as_raw())?;
    writable(run)
}

/// The place of the socket is ours alone: in `/tmp` anybody could have made it before us, and what they made
/// is not looked into. One that others may write to is left as it is: it may be a place of many.
fn private(dir: &Path, uid: u32) -> io::Result<()> {
    // In shared places the parent (`/tmp/plugd-UID`) could be planted just as well.
    let parent = dir.parent().filter(|parent| parent.ends_with(format!("plugd-{uid}")));
    for dir in parent.into_iter().chain([dir]) {
        let (shown, found) = (dir.display(), std::fs::symlink_metadata(dir)?);
        if !found.is_dir() {
            return Err(io::Error::other(format!("{shown} is no directory")));
        }
        if found.uid() != uid && found.uid() != 0 {
            return Err(io::Error::other(format!("{shown} belongs to uid {}", found.uid())));
        }
        // The group that is only its owner's is nobody else (umask 002).
        let group = found.gid() != 0 && found.gid() != found.uid();
        if found.mode() & if group { 0o022 } else { 0o002 } != 0 {
            let own = dir.join("plugd");
            let own = own.display();
            return Err(io::Error::other(format!("others may write to {shown}; a directory in it, {own}, would do")));
        }
    }
    Ok(())
}

/// Some filesystems take files but no sockets (9p, some FUSE).
fn can_bind(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".try-{}.sock", random()));
    let bound = with_short_path(&path, UnixListener::bind).map(drop);
    // Not there where bind failed.
    std::fs::remove_file(&path).ok();
    bound
}

pub fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, UnixStream::connect)
}

/// A path that is too long for a socket address is reached through a descriptor of its directory.
fn with_short_path<T>(path: &Path, use_it: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return use_it(path.to_path_buf());
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    use_it(PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}
