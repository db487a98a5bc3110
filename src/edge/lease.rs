//! Does anybody have this file open, for writing or at all?
//!
//! A read lease can be had only while nobody writes, a write lease only while nobody else has the file
//! open or mapped (`F_SETLEASE`, fcntl(2)). While one is held, who opens the file waits. The kernel says
//! so with SIGIO, whose default would end the process, so it is ignored first.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Once;

use rustix::io::Errno;

use super::afar;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) enum Writers {
    None,
    Some,
    /// Leases are refused: a filesystem without them, or a file of somebody else.
    Unknown,
}

/// Asks the kernel. The descriptor must be open for reading only.
pub(in crate::edge) fn writers(file: &OwnedFd) -> Writers {
    match set(file, libc::F_RDLCK) {
        Ok(()) => {
            let _held_a_moment_ago = set(file, libc::F_UNLCK);
            Writers::None
        }
        Err(Errno::AGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

/// Keeps everybody else from opening the file until it is let go, or closed; AGAIN where somebody has
/// it open already.
pub(in crate::edge) fn hold(file: &OwnedFd) -> Result<(), Errno> {
    set(file, libc::F_WRLCK)
}

pub(in crate::edge) fn let_go(file: &OwnedFd) -> Result<(), Errno> {
    set(file, libc::F_UNLCK)
}

#[expect(unsafe_code, reason = "rustix has no call for leases")]
fn set(file: &OwnedFd, lease: libc::c_int) -> Result<(), Errno> {
    static IGNORED: Once = Once::new();
    // SAFETY: SIG_IGN is a valid disposition and no handler of ours is replaced (SIGIO has none).
    IGNORED.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
    // SAFETY: F_SETLEASE takes an int and touches no memory; the descriptor is open for the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// Processes looked at in the search for a writer: a crowded host has a few thousand.
const PROCESSES_MAX: usize = 10_000;

/// A process that has the file open for writing, where /proc shows it.
pub(in crate::edge) fn writer_of(path: &Path) -> Option<i32> {
    let path = afar::look(path, |path| path.canonicalize().ok()).flatten()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut named = descriptors.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == path));
        named.any(|fd| writes(*pid, &fd.file_name().to_string_lossy()))
    })
}

/// The access mode is in the last octal digits of `flags:` in fdinfo.
fn writes(pid: i32, fd: &str) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & libc::O_ACCMODE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.yaml");
        let writer = std::fs::File::create(&path).expect("made");
        let reader = OwnedFd::from(std::fs::File::open(&path).expect("there"));
        assert_eq!(writers(&reader), Writers::Some);
        assert_eq!(writer_of(&path), Some(std::process::id() as i32));
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
        assert_eq!(writer_of(&path), None);
    }

    #[test]
    fn a_file_is_held_only_while_nobody_else_has_it_open() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        let file = OwnedFd::from(std::fs::File::create(&path).expect("made"));
        let reader = std::fs::File::open(&path).expect("there");
        assert_eq!(hold(&file), Err(Errno::AGAIN));
        drop(reader);
        assert_eq!(hold(&file), Ok(()));
        assert_eq!(let_go(&file), Ok(()));
        assert!(std::fs::File::open(&path).is_ok());
    }
}
