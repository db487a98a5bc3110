//! One controller a directory: flock on the directory itself.
//!
//! The lock lives as long as a descriptor of it, so it survives nothing that a kill ends and is
//! never stale. It works on read-only mounts; where flock on a directory is refused (NFS, some
//! FUSE) a file in the run directory stands in for it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::edge::process::stat::Stat;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that is ours until this is dropped (or the last process that inherited it ends).
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
    /// Set where the lock stands in the run directory: other hosts are not excluded.
    pub warning: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} {}", dir.display(), told(holder.as_ref()))]
    Held { dir: PathBuf, holder: Option<Holder> },
    #[error("lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    command: String,
}

impl Holder {
    /// By the name that plugd gives itself, or by which this program was started.
    pub fn is_plugd(&self) -> bool {
        let own = Stat::of(std::process::id() as i32).map(|own| own.command);
        self.command == "plugd" || Some(&self.command) == own.as_ref()
    }
}

fn told(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) if holder.is_plugd() => format!("belongs to another plugd (pid {})", holder.pid),
        // Whoever may open the directory may lock it.
        Some(Holder { pid, command }) => format!("is locked by {command} (pid {pid}), which is no plugd"),
        None => "belongs to another plugd".to_string(),
    }
}

impl Lock {
    /// Takes the lock of `dir`, or of `lock` in the run directory where directories cannot be locked.
    pub fn take(dir: &Path, run: Option<&Path>) -> Result<Lock, LockError> {
        let failed = |path: &Path, errno: Errno| LockError::Io { path: path.to_path_buf(), source: errno.into() };
        let fd = rustix::fs::open(dir, FLAGS, Mode::empty()).map_err(|errno| failed(dir, errno))?;
        let refused = match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock { fd, warning: None }),
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held { dir: dir.to_path_buf(), holder: holder(&fd) }),
            Err(errno) => errno,
        };
        let Some(run) = run else { return Err(failed(dir, refused)) };
        let path = run.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(&path, errno))?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let why = io::Error::from(refused);
                let warning =
                    format!("{} cannot be locked ({why}): a plugd on another host is not kept out", dir.display());
                Ok(Lock { fd, warning: Some(warning) })
            }
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { dir: dir.to_path_buf(), holder: holder(&fd) }),
            Err(errno) => Err(failed(&path, errno)),
        }
    }

    /// Takes the lock of `dir` if nobody holds it. Who does is not looked up: `/proc/locks` is slow (the kernel waits
    /// for every processor).
    pub fn take_if_free(dir: &Path) -> Option<Lock> {
        let fd = rustix::fs::open(dir, FLAGS, Mode::empty()).ok()?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Lock { fd, warning: None })
    }

    /// To be handed to the process that shall hold it.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Who holds the lock, from `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF`.
fn holder(fd: &OwnedFd) -> Option<Holder> {
    let inode = rustix::fs::fstat(fd).ok()?.st_ino.to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = words.get(1) == Some(&"FLOCK") && words.get(5)?.rsplit(':').next() == Some(inode.as_str());
        // 0 and -1 are holders in other pid namespaces.
        ours.then(|| words.get(4)?.parse().ok()).flatten().filter(|pid| *pid > 0)
    })?;
    Some(Holder { pid, command: Stat::of(pid).map(|stat| stat.command).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_is_refused_with_the_pid_of_the_first_and_a_dropped_lock_is_free() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Lock::take(dir.path(), None).expect("free");
        match Lock::take(dir.path(), None) {
            Err(LockError::Held { holder: Some(holder), .. }) => {
                assert_eq!(holder.pid, std::process::id() as i32);
                assert!(holder.is_plugd());
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        Lock::take(dir.path(), None).expect("free again");
    }

    #[test]
    fn a_lock_of_somebody_else_is_told_as_such() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().to_path_buf();
        let holder = Some(Holder { pid: 7, command: "flock".into() });
        let said = LockError::Held { dir: dir.clone(), holder }.to_string();
        assert!(said.ends_with("is locked by flock (pid 7), which is no plugd"), "{said}");
    }
}
