//! Where status files lie, and the write by temporary file and rename.
//!
//! Everything goes through descriptors of the directory and of `.plugd/` in it, so that neither a
//! link that is planted nor a mount that covers the path leads a write elsewhere.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The folder that holds nothing but the temporary files of our renames.
pub const TEMPORARY: &str = ".plugd";

/// A directory with its folder for temporary files.
#[derive(Debug)]
struct Opened {
    dir: OwnedFd,
    temporary: OwnedFd,
}

#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    fallback: Option<PathBuf>,
    main: Result<Opened, Errno>,
    second: Option<Opened>,
}

/// What tells a file of ours from one that somebody else put there or wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    ino: u64,
    mtime: (i64, u64),
    size: i64,
}

impl Mark {
    fn of(stat: &Stat) -> Mark {
        Mark { ino: stat.st_ino, mtime: (stat.st_mtime, stat.st_mtime_nsec), size: stat.st_size }
    }
}

/// A write that did not reach the place it belongs to.
#[derive(Debug)]
pub(super) struct Refused {
    pub errno: Errno,
    /// Where the text is instead.
    pub instead: Option<PathBuf>,
}

impl Place {
    pub fn open(path: &Path, fallback: Option<PathBuf>) -> Place {
        let main = Opened::at(path);
        if let Err(errno) = &main {
            let error = io::Error::from(*errno);
            match &fallback {
                Some(to) => tracing::warn!("{}: {error}; status files are in {}", path.display(), to.display()),
                None => tracing::warn!("{}: {error}; there are no status files", path.display()),
            }
        }
        Place { path: path.to_path_buf(), fallback, main, second: None }
    }

    /// Opens the path anew; keeps the old directory where that fails. The files of these stems go from
    /// a directory that is left: nobody would ever write them again.
    pub fn reopen<'a>(&mut self, stems: impl Iterator<Item = &'a String>) {
        match Opened::at(&self.path) {
            Ok(opened) => {
                if let Ok(old) = &self.main
                    && !old.is_same(&opened)
                {
                    stems.for_each(|stem| old.remove(stem));
                }
                self.main = Ok(opened);
            }
            Err(errno) if self.main.is_err() => self.main = Err(errno),
            Err(_) => {}
        }
    }

    /// Where most files go.
    pub fn shown(&self) -> PathBuf {
        match (&self.main, &self.fallback) {
            (Err(_), Some(fallback)) => fallback.clone(),
            (Ok(_), _) | (Err(_), None) => self.path.clone(),
        }
    }

    /// Gives what the file is now; none where it is elsewhere.
    pub fn write(&mut self, stem: &str, text: &[u8], like: Option<&Path>) -> Result<Option<Mark>, Refused> {
        let mut result = match &self.main {
            Ok(opened) => opened.write(stem, text, like),
            Err(errno) => Err(*errno),
        };
        // `git clean` takes `.plugd/` away: it is made again, in the directory that is held.
        if let (Err(Errno::NOENT), Ok(opened)) = (&result, &mut self.main)
            && opened.renew().is_ok()
        {
            result = opened.write(stem, text, like);
        }
        let errno = match result {
            Ok(mark) => return Ok(Some(mark)),
            Err(errno) => errno,
        };
        // A full disk passes and the old file is whole: only what will not pass goes elsewhere.
        let passes =
            matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::NOMEM | Errno::NFILE | Errno::MFILE);
        if passes {
            return Err(Refused { errno, instead: None });
        }
        let instead = self.write_second(stem, text).ok();
        match instead {
            // The whole directory is read-only, which was said at the start: this is its place.
            Some(_) if self.main.is_err() => Ok(None),
            instead => Err(Refused { errno, instead }),
        }
    }

    fn write_second(&mut self, stem: &str, text: &[u8]) -> Result<PathBuf, Errno> {
        let fallback = self.fallback.as_ref().ok_or(Errno::NOENT)?;
        if self.second.is_none() {
            std::fs::create_dir_all(fallback).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            self.second = Some(Opened::at(fallback)?);
        }
        let second = self.second.as_ref().ok_or(Errno::NOENT)?;
        second.write(stem, text, None)?;
        Ok(fallback.join(format!("{stem}.status")))
    }

    /// What the file of this stem is now.
    pub fn mark(&self, stem: &str) -> Option<Mark> {
        let opened = self.main.as_ref().ok()?;
        rustix::fs::statat(&opened.dir, format!("{stem}.status"), AtFlags::SYMLINK_NOFOLLOW).ok().map(|s| Mark::of(&s))
    }

    pub fn remove(&self, stem: &str) {
        self.main.iter().chain(&self.second).for_each(|opened| opened.remove(stem));
    }

    /// Removes the status files whose stem is not kept.
    pub fn sweep(&self, kept: impl Fn(&str) -> bool) {
        for opened in self.main.iter().chain(&self.second) {
            for stem in opened.stems().unwrap_or_default() {
                if !kept(&stem) {
                    opened.remove(&stem);
                }
            }
        }
    }
}

/// The folder for temporary files: ours, and closed to others.
fn private(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, TEMPORARY, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let temporary = rustix::fs::openat(dir, TEMPORARY, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&temporary)?;
    let own = rustix::process::geteuid();
    match stat.st_uid == own.as_raw() {
        true => {}
        // Left by an ordinary user's run: root takes it over, what lies in it goes.
        false if own.is_root() => rustix::fs::fchown(&temporary, Some(own), None)?,
        false => return Err(Errno::ACCESS),
    }
    if stat.st_mode & 0o777 != 0o700 {
        rustix::fs::fchmod(&temporary, Mode::RWXU)?;
    }
    Ok(temporary)
}

impl Opened {
    fn at(path: &Path) -> Result<Opened, Errno> {
        let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, folder | OFlags::RDONLY, Mode::empty())?;
        let temporary = private(&dir)?;
        let opened = Opened { dir, temporary };
        opened.clear();
        // A read-only mount of a directory that holds `.plugd/` shows itself only at a write.
        opened.create()?.discard(opened.temporary.as_fd());
        Ok(opened)
    }

    fn renew(&mut self) -> Result<(), Errno> {
        self.temporary = private(&self.dir)?;
        Ok(())
    }

    /// Removes the temporary files that a killed run left.
    fn clear(&self) {
        for name in names(&self.temporary).unwrap_or_default() {
            rustix::fs::unlinkat(&self.temporary, name, AtFlags::empty()).ok();
        }
    }

    fn create(&self) -> Result<Temporary, Errno> {
        // Keyed from the system's random source: nobody else can plant the name beforehand.
        let name = format!("{:016x}", RandomState::new().build_hasher().finish());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.temporary, &name, flags, Mode::from_raw_mode(0o644))?;
        Ok(Temporary { name, file })
    }

    fn is_same(&self, other: &Opened) -> bool {
        let of = |opened: &Opened| rustix::fs::fstat(&opened.dir).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((of(self), of(other)), (Ok(ours), Ok(theirs)) if ours == theirs)
    }

    fn remove(&self, stem: &str) {
        // A file that is gone, or cannot be removed, is swept at the next start.
        rustix::fs::unlinkat(&self.dir, format!("{stem}.status"), AtFlags::empty()).ok();
    }

    fn write(&self, stem: &str, text: &[u8], like: Option<&Path>) -> Result<Mark, Errno> {
        let temporary = self.create()?;
        let written = temporary
            .fill(text)
            .map(|()| like.into_iter().for_each(|like| temporary.resemble(like)))
            .and_then(|()| rustix::fs::renameat(&self.temporary, &temporary.name, &self.dir, format!("{stem}.status")))
            .and_then(|()| rustix::fs::fstat(&temporary.file).map(|stat| Mark::of(&stat)));
        if written.is_err() {
            temporary.discard(self.temporary.as_fd());
        }
        written
    }

    /// The stems of all status files.
    fn stems(&self) -> Result<Vec<String>, Errno> {
        let names = names(&self.dir)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".status").map(str::to_string)).collect())
    }
}

fn names(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

struct Temporary {
    name: String,
    file: OwnedFd,
}

impl Temporary {
    fn fill(&self, mut text: &[u8]) -> Result<(), Errno> {
        while !text.is_empty() {
            match rustix::io::write(&self.file, text) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(count) => text = &text[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Takes owner, group and mode of the manifest, as far as that is allowed.
    fn resemble(&self, like: &Path) {
        let (Ok(theirs), Ok(ours)) = (rustix::fs::stat(like), rustix::fs::fstat(&self.file)) else { return };
        if (theirs.st_uid, theirs.st_gid) != (ours.st_uid, ours.st_gid) {
            let owner = rustix::fs::Uid::from_raw(theirs.st_uid);
            let group = rustix::fs::Gid::from_raw(theirs.st_gid);
            // Only root may give a file away; the group alone may be ours to give.
            if rustix::fs::fchown(&self.file, Some(owner), Some(group)).is_err() {
                rustix::fs::fchown(&self.file, None, Some(group)).ok();
            }
        }
        let mode = theirs.st_mode & 0o664;
        if mode != ours.st_mode & 0o777 {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)).ok();
        }
    }

    fn discard(self, temporary: BorrowedFd<'_>) {
        rustix::fs::unlinkat(temporary, self.name, AtFlags::empty()).ok();
    }
}
