//! Looking at files and reading them, so that nothing of theirs can hold us up or fool us.
//!
//! What is not a regular file is never opened; the open does not block; type and size are asked of
//! the descriptor, before and after the read; a file that somebody still writes is not read.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::names::{Candidate, candidate};
use super::presence::Sight;
use crate::edge::lease::{self, Writers};
use crate::edge::{Identity, afar};
use crate::model::digest::digits;

/// The largest manifest, drop-in or settings file.
pub(super) const MANIFEST_MAX: u64 = 64 * 1024;
/// Links that are followed by hand to know what to watch; the kernel's own limit is 40.
const HOPS_MAX: usize = 8;
/// Waits for no writer, and makes no terminal ours.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// Where leases are refused, a file that was modified less than this ago may still be written.
const QUIET_NANOS: i128 = 1_000_000_000;

/// What tells one content of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub mtime: i128,
    pub ctime: i128,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Unread {
    pub fn is_silent(&self) -> bool {
        matches!(self, Unread::Failed(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        let nanos = |secs: i64, nanos: u64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Stamp {
            dev: stat.st_dev,
            ino: stat.st_ino,
            mtime: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime: nanos(stat.st_ctime, stat.st_ctime_nsec),
            size: stat.st_size as u64,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    pub fn identity(&self) -> Identity {
        (self.dev, self.ino)
    }

    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    pub fn is_link(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }

    /// What is read from its beginning to its end, once.
    fn is_stream(&self) -> bool {
        matches!(self.mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFCHR)
    }

    pub fn is_executable(&self) -> bool {
        self.is_file() && self.mode & 0o111 != 0
    }

    /// Identity and time of the content, for `state.db`: not touched by chmod and chown.
    pub fn written(&self) -> String {
        format!("{}:{}:{}", self.ino, self.mtime, self.size)
    }

    pub fn kind(&self) -> &'static str {
        match self.mode & libc::S_IFMT {
            libc::S_IFREG => "a file",
            libc::S_IFDIR => "a directory",
            libc::S_IFIFO => "a pipe",
            libc::S_IFSOCK => "a socket",
            libc::S_IFLNK => "a link",
            _ => "a device",
        }
    }
}

/// Follows links. What does not answer is TIMEDOUT.
pub(super) fn stat(path: &Path) -> Result<Stamp, Errno> {
    afar::look(path, |path| stat_now(path, AtFlags::empty())).unwrap_or(Err(Errno::TIMEDOUT))
}

fn stat_now(path: &Path, flags: AtFlags) -> Result<Stamp, Errno> {
    rustix::fs::statat(CWD, path, flags).map(|stat| Stamp::of(&stat))
}

pub(super) fn lstat(path: &Path) -> Result<Stamp, Errno> {
    afar::look(path, |path| stat_now(path, AtFlags::SYMLINK_NOFOLLOW)).unwrap_or(Err(Errno::TIMEDOUT))
}

pub(super) fn identity(directory: &OwnedFd) -> Option<Identity> {
    rustix::fs::fstat(directory).ok().map(|stat| Stamp::of(&stat).identity())
}

pub(super) fn open_directory(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// What the path shows, where the watched directory belongs.
pub(super) fn sight(dir: &Path) -> Sight {
    match stat(dir) {
        Ok(found) if found.is_dir() => Sight::There(found.identity()),
        Ok(found) => Sight::Nothing(format!("{} is {}", dir.display(), found.kind())),
        Err(errno) => Sight::Nothing(format!("{}: {}", dir.display(), io::Error::from(errno))),
    }
}

/// Whether there is at least one manifest in the directory at this path.
pub(super) fn holds_manifest(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| matches!(candidate(&name), Candidate::Manifest { .. }))
}

/// The paths that a symbolic link leads through, each to be watched; empty for what is no link.
pub(super) fn hops(path: &Path) -> Vec<PathBuf> {
    afar::look(path, follow).unwrap_or_default()
}

fn follow(path: &Path) -> Vec<PathBuf> {
    let mut hops = Vec::new();
    let mut at = path.to_path_buf();
    while hops.len() < HOPS_MAX {
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("/")).join(target);
        hops.push(at.clone());
    }
    hops
}

/// Where a path leads, if that is outside `dir` and not everybody may read it there.
pub(super) fn closed_target(path: &Path, dir: &Path) -> Option<PathBuf> {
    let dir = dir.to_path_buf();
    afar::look(path, move |path| closed(path, &dir)).flatten()
}

fn closed(path: &Path, dir: &Path) -> Option<PathBuf> {
    let target = path.canonicalize().ok()?;
    if dir.canonicalize().is_ok_and(|dir| target.starts_with(dir)) {
        return None;
    }
    let may = |path: &Path, bit: u32| stat(path).is_ok_and(|stamp| stamp.mode & bit != 0);
    let open = may(&target, 0o004) && target.ancestors().skip(1).all(|dir| may(dir, 0o001));
    (!open).then_some(target)
}

/// The bytes of a file that nobody writes, and what it was when they were read.
#[derive(Debug)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
}

#[derive(Debug)]
pub(super) enum Unread {
    /// Nothing is there (a link that leads nowhere is not nothing).
    Absent,
    /// Somebody is writing it, or it changed while it was read.
    Busy,
    NotAFile(&'static str),
    TooLarge(u64),
    Failed(io::Error),
}

/// Reads at most `max` bytes. `complete`: an event said that the writer is done, which is believed
/// where the filesystem has no leases.
pub(super) fn read(path: &Path, max: u64, complete: bool) -> Result<Content, Unread> {
    afar::look(path, move |path| read_now(path, max, complete)).unwrap_or_else(|| Err(silent()))
}

/// It does not answer.
fn silent() -> Unread {
    Unread::Failed(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"))
}

/// The names in a directory.
pub(super) fn list(path: &Path) -> io::Result<Vec<OsString>> {
    let look = |path: &Path| Ok(std::fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect());
    afar::look(path, look).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

fn read_now(path: &Path, max: u64, complete: bool) -> Result<Content, Unread> {
    let before = match stat_now(path, AtFlags::empty()) {
        Ok(stamp) => stamp,
        Err(Errno::NOENT) if stat_now(path, AtFlags::SYMLINK_NOFOLLOW).is_err() => return Err(Unread::Absent),
        Err(Errno::NOENT) => {
            return Err(Unread::Failed(io::Error::new(io::ErrorKind::NotFound, "the link leads to nothing")));
        }
        Err(errno) => return Err(Unread::Failed(errno.into())),
    };
    if !before.is_file() {
        return Err(Unread::NotAFile(before.kind()));
    }
    if before.size > max {
        return Err(Unread::TooLarge(before.size));
    }
    let file = open(path).map_err(|errno| match errno {
        Errno::NOENT => Unread::Absent,
        errno => Unread::Failed(errno.into()),
    })?;
    let opened = fstat(&file)?;
    if !opened.is_file() {
        return Err(Unread::NotAFile(opened.kind()));
    }
    match lease::writers(&file) {
        Writers::None => {}
        Writers::Some => return Err(Unread::Busy),
        Writers::Unknown if complete || is_quiet(&opened) => {}
        Writers::Unknown => return Err(Unread::Busy),
    }
    let bytes = read_all(&file, max, opened.size).map_err(Unread::Failed)?;
    if bytes.len() as u64 > max {
        return Err(Unread::TooLarge(bytes.len() as u64));
    }
    let after = fstat(&file)?;
    let unchanged = (after.size, after.mtime) == (opened.size, opened.mtime) && bytes.len() as u64 >= opened.size;
    if unchanged { Ok(Content { bytes, stamp: after }) } else { Err(Unread::Busy) }
}

/// What the files of a directory hold, by their names.
pub fn reader(dir: &Path) -> impl Fn(&str) -> Option<Vec<u8>> {
    |file| read_named(&dir.join(file)).ok()
}

/// The text of one file that was named by hand, cut a byte after the most that a manifest may have.
pub fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    afar::look(path, |path| named(path, Stamp::is_file)).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// As [`read_named`], or what comes through a pipe or a device, to its end.
pub fn read_handed(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = named(path, |stamp| stamp.is_file() || stamp.is_stream())?;
    match stat(path)? {
        // Its end is there at once where nobody writes to it.
        found if bytes.is_empty() && !found.is_file() => {
            Err(io::Error::other(format!("it is {}, and nothing came through it", found.kind())))
        }
        _ => Ok(bytes),
    }
}

/// Links of /proc are followed: `/dev/stdin` is one.
fn named(path: &Path, may: impl Fn(&Stamp) -> bool) -> io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, READING, Mode::empty())?;
    let stamp = Stamp::of(&rustix::fs::fstat(&file)?);
    if !may(&stamp) {
        return Err(io::Error::other(format!("it is {}, not a regular file", stamp.kind())));
    }
    // Opened without waiting for a writer, and then read as slowly as it comes.
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    let expected = if stamp.is_file() { stamp.size.min(MANIFEST_MAX) } else { 0 };
    read_all(&file, MANIFEST_MAX, expected)
}

/// What is in a file at this moment, whoever writes it.
pub(super) fn read_as_it_is(path: &Path, max: u64) -> Option<Vec<u8>> {
    let look = move |path: &Path| {
        let file = open(path).ok()?;
        let stamp = fstat(&file).ok().filter(Stamp::is_file)?;
        read_all(&file, max, stamp.size).ok()
    };
    afar::look(path, look).flatten()
}

/// sha256 of the bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first 16 hex digits: how a manifest's content is named.
pub(super) fn short_hex(hash: &[u8; 32]) -> String {
    digits(&hash[..8])
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat2(CWD, path, READING, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        // Kernels before 5.6 and some sandboxes do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, READING, Mode::empty()),
        result => result,
    }
}

fn fstat(file: &OwnedFd) -> Result<Stamp, Unread> {
    rustix::fs::fstat(file).map(|stat| Stamp::of(&stat)).map_err(|errno| Unread::Failed(errno.into()))
}

/// Not modified in the last second.
pub(super) fn is_quiet(stamp: &Stamp) -> bool {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let age = since_epoch.as_nanos() as i128 - stamp.mtime;
    // A time in the future says nothing.
    !(0..QUIET_NANOS).contains(&age)
}

/// Reads to the end, or one byte more than allowed.
fn read_all(file: &OwnedFd, max: u64, expected: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; expected as usize + 1];
    let mut length = 0;
    loop {
        match rustix::io::read(file, &mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if length as u64 > max {
            break;
        }
        if length == bytes.len() {
            bytes.resize(length + 4096, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
