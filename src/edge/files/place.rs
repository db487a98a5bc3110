//! Where status files lie, and the write by temporary file and rename.
//!
//! Everything goes through descriptors of the directory and of `.plugd/` in it, so that neither a
//! link that is planted nor a mount that covers the path leads a write elsewhere.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::workshop::{Workshop, names};

/// A directory with its folder for temporary files.
#[derive(Debug)]
struct Opened {
    dir: OwnedFd,
    workshop: Workshop,
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

/// A full disk passes and the old file is whole: only what will not pass goes elsewhere.
fn passes(errno: Errno) -> bool {
    let full = matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::NFILE | Errno::MFILE);
    full || matches!(errno, Errno::IO | Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::TIMEDOUT | Errno::STALE)
}

impl Place {
    /// `through`: another way to the directory, while something else is at its path.
    pub fn open(path: &Path, through: Option<&Path>, fallback: Option<PathBuf>) -> Place {
        let main = Opened::at(through.unwrap_or(path));
        if let Err(errno) = &main {
            let error = io::Error::from(*errno);
            match &fallback {
                _ if passes(*errno) => tracing::warn!("{}: {error}; status files follow", path.display()),
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
                    // What cannot be removed there is nobody's any more.
                    for stem in stems {
                        let _ = old.remove(stem);
                    }
                }
                self.main = Ok(opened);
            }
            Err(errno) if self.main.is_err() => self.main = Err(errno),
            Err(_) => {}
        }
    }

    /// There is no place for any file, which was said at the start.
    pub fn is_nowhere(&self) -> bool {
        self.fallback.is_none() && self.main.as_ref().is_err_and(|errno| !passes(*errno))
    }

    /// Where most files go.
    pub fn shown(&self) -> PathBuf {
        match (&self.main, &self.fallback) {
            (Err(errno), Some(fallback)) if !passes(*errno) => fallback.clone(),
            (Ok(_) | Err(_), _) => self.path.clone(),
        }
    }

    /// Gives what the file is now; none where it is elsewhere.
    pub fn write(
        &mut self,
        stem: &str,
        text: &[u8],
        like: Option<&Path>,
        last: Option<Mark>,
    ) -> Result<Option<Mark>, Refused> {
        // What was in the way when it was opened may be over; nobody else would open it again.
        if self.main.as_ref().is_err_and(|errno| passes(*errno)) {
            self.main = Opened::at(&self.path);
        }
        let mut result = match &mut self.main {
            Ok(opened) => opened.write(stem, text, like, last),
            Err(errno) => Err(*errno),
        };
        // `git clean` takes `.plugd/` away: it is made again, in the directory that is held.
        if let (Err(Errno::NOENT), Ok(opened)) = (&result, &mut self.main)
            && opened.renew().is_ok()
        {
            result = opened.write(stem, text, like, last);
        }
        let errno = match result {
            Ok(mark) => return Ok(Some(mark)),
            Err(errno) => errno,
        };
        if passes(errno) {
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
        let second = self.second.as_mut().ok_or(Errno::NOENT)?;
        second.write(stem, text, None, None)?;
        Ok(fallback.join(format!("{stem}.status")))
    }

    /// What the file of this stem is now.
    pub fn mark(&self, stem: &str) -> Option<Mark> {
        let opened = self.main.as_ref().ok()?;
        opened.mark(&format!("{stem}.status"))
    }

    /// Fails where a file may still be there.
    pub fn remove(&self, stem: &str) -> Result<(), Errno> {
        self.main.iter().chain(&self.second).map(|opened| opened.remove(stem)).fold(Ok(()), Result::and)
    }

    /// Removes the status files whose stem is not kept.
    pub fn sweep(&self, kept: impl Fn(&str) -> bool) {
        for opened in self.main.iter().chain(&self.second) {
            for stem in opened.stems().unwrap_or_default() {
                if !kept(&stem) {
                    let _ = opened.remove(&stem);
                }
            }
        }
    }
}

impl Opened {
    fn at(path: &Path) -> Result<Opened, Errno> {
        let folder = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, folder | OFlags::RDONLY, Mode::empty())?;
        let workshop = Workshop::open(&dir)?;
        Ok(Opened { dir, workshop })
    }

    fn renew(&mut self) -> Result<(), Errno> {
        self.workshop = Workshop::open(&self.dir)?;
        Ok(())
    }

    fn is_same(&self, other: &Opened) -> bool {
        let of = |opened: &Opened| rustix::fs::fstat(&opened.dir).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((of(self), of(other)), (Ok(ours), Ok(theirs)) if ours == theirs)
    }

    fn remove(&self, stem: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.dir, format!("{stem}.status"), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // Not ours to take away, now or later.
            Err(Errno::ISDIR | Errno::ROFS | Errno::PERM | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// `last`: what the file was when it was written last.
    fn write(&mut self, stem: &str, text: &[u8], like: Option<&Path>, last: Option<Mark>) -> Result<Mark, Errno> {
        let name = format!("{stem}.status");
        let sheet = self.workshop.sheet(like.is_some())?;
        // Before it can be reached: whoever writes to it from then on changes it.
        let mark = match sheet.fill(text, like) {
            Ok(stat) => Mark::of(&stat),
            Err(errno) => {
                self.workshop.discard(sheet);
                return Err(errno);
            }
        };
        // Only a file of ours may be moved away: what somebody else put there is replaced, or is in the way.
        match last.is_some() && self.mark(&name) == last {
            true => self.workshop.exchange(sheet, &self.dir, &name)?,
            false => {
                let is_link = rustix::fs::readlinkat(&self.dir, &name, Vec::new()).is_ok();
                self.workshop.rename(sheet, &self.dir, &name)?;
                if is_link {
                    tracing::warn!("{name} was a link; it is a file now, and what the link led to was left alone");
                }
            }
        }
        Ok(mark)
    }

    fn mark(&self, name: &str) -> Option<Mark> {
        rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Mark::of(&stat))
    }

    /// The stems of all status files.
    fn stems(&self) -> Result<Vec<String>, Errno> {
        let names = names(&self.dir)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".status").map(str::to_string)).collect())
    }
}
