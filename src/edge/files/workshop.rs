//! `.plugd/`: where a status is written before it takes its place.
//!
//! A new file for each write costs a filesystem ten times what the rest of the write does: an inode is
//! made, one is freed, and ext4 sends the data of a file that replaces another to the disk at once. So
//! the new text and the old one change places (`RENAME_EXCHANGE`, rename(2)), and the sheet that held
//! the old text takes the next one, of whichever service: if nobody has it open, which a write lease
//! proves. Nothing is ever written to a file that somebody can read, as the folder is ours alone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::edge::{afar, lease};

/// The folder that holds nothing but the temporary files of our renames.
const FOLDER: &str = ".plugd";

#[derive(Debug)]
pub(super) struct Workshop {
    folder: OwnedFd,
    /// What an exchange brought in: its name and inode.
    spare: Option<(String, u64)>,
    /// False once the filesystem has shown that it has no leases or no exchange.
    keeps_spares: bool,
}

/// The next text on its way.
pub(super) struct Sheet {
    name: String,
    file: OwnedFd,
}

impl Workshop {
    /// The folder in `dir`, which is made where it is missing; what a killed run left in it goes.
    pub fn open(dir: &OwnedFd) -> Result<Workshop, Errno> {
        let folder = private(dir)?;
        for name in names(&folder).unwrap_or_default() {
            rustix::fs::unlinkat(&folder, name, AtFlags::empty()).ok();
        }
        let workshop = Workshop { folder, spare: None, keeps_spares: true };
        // A read-only mount of a directory that holds `.plugd/` shows itself only at a write.
        workshop.discard(workshop.new_sheet()?);
        Ok(workshop)
    }

    /// `like`: whether it will take a manifest's mode; otherwise it has that of any new file.
    pub fn sheet(&mut self, like: bool) -> Result<Sheet, Errno> {
        let Some((name, ino)) = self.spare.take_if(|_| like) else { return self.new_sheet() };
        match self.take_up(&name, ino) {
            Ok(file) => return Ok(Sheet { name, file }),
            // Somebody still reads the old text.
            Err(Errno::AGAIN) => {}
            Err(_) => self.keeps_spares = false,
        }
        rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty()).ok();
        self.new_sheet()
    }

    /// Opens the spare with a lease on it: whoever opens it now waits until it is filled.
    fn take_up(&self, name: &str, ino: u64) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // One that was given away may carry more than a mode of its owner's (acl(5)).
        let ours = rustix::fs::Uid::from_raw(stat.st_uid) == rustix::process::geteuid();
        if !regular || !ours || stat.st_ino != ino || stat.st_nlink != 1 {
            return Err(Errno::AGAIN);
        }
        lease::hold(&file)?;
        Ok(file)
    }

    fn new_sheet(&self) -> Result<Sheet, Errno> {
        // Keyed from the system's random source: nobody else can plant the name beforehand.
        let name = format!("{:016x}", RandomState::new().build_hasher().finish());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, &name, flags, Mode::from_raw_mode(0o644))?;
        Ok(Sheet { name, file })
    }

    pub fn discard(&self, sheet: Sheet) {
        rustix::fs::unlinkat(&self.folder, sheet.name, AtFlags::empty()).ok();
    }

    /// Takes the place of `name` in `dir`, whatever file is there.
    pub fn rename(&self, sheet: Sheet, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        let renamed = rustix::fs::renameat(&self.folder, &sheet.name, dir, name);
        if renamed.is_err() {
            self.discard(sheet);
        }
        renamed
    }

    /// Changes places with `name` in `dir`, which is an older file of ours.
    pub fn exchange(&mut self, sheet: Sheet, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        let swap = || rustix::fs::renameat_with(&self.folder, &sheet.name, dir, name, RenameFlags::EXCHANGE);
        if !self.keeps_spares || self.spare.is_some() {
            return self.rename(sheet, dir, name);
        }
        match swap() {
            Ok(()) => {}
            Err(errno) => {
                // NOENT: it was taken away in this moment.
                self.keeps_spares = errno == Errno::NOENT;
                return self.rename(sheet, dir, name);
            }
        }
        let old = rustix::fs::statat(&self.folder, &sheet.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(old.st_mode) == FileType::Directory {
            // Put there in this moment, and not ours to take away.
            let _it_stays_here_if_it_cannot_go_back = swap();
            self.discard(sheet);
            return Err(Errno::ISDIR);
        }
        self.spare = Some((sheet.name, old.st_ino));
        Ok(())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.spare {
            rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()).ok();
        }
    }
}

impl Sheet {
    /// The whole text, with owner, group and mode of the manifest `like`; then others may open it.
    pub fn fill(&self, text: &[u8], like: Option<&Path>) -> Result<Stat, Errno> {
        // Before there is anything to read: it may have been another service's.
        like.into_iter().for_each(|like| self.resemble(like));
        let mut at = 0;
        while at < text.len() {
            match rustix::io::pwrite(&self.file, &text[at..], at as u64) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(count) => at += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::ftruncate(&self.file, text.len() as u64)?;
        let stat = rustix::fs::fstat(&self.file)?;
        // None is held on a new sheet.
        lease::let_go(&self.file).ok();
        Ok(stat)
    }

    /// Takes owner, group and mode of the manifest, as far as that is allowed.
    fn resemble(&self, like: &Path) {
        let Some(theirs) = afar::look(like, |path| rustix::fs::stat(path)) else {
            // A link that leads to what does not answer; the sheet may have been another service's.
            rustix::fs::fchmod(&self.file, Mode::RUSR | Mode::WUSR).ok();
            return;
        };
        let (Ok(theirs), Ok(ours)) = (theirs, rustix::fs::fstat(&self.file)) else { return };
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
}

/// The folder for folder files: ours, and closed to others.
fn private(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, FOLDER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = rustix::fs::openat(dir, FOLDER, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    let own = rustix::process::geteuid();
    match stat.st_uid == own.as_raw() {
        true => {}
        // Left by an ordinary user's run: root takes it over, what lies in it goes.
        false if own.is_root() => rustix::fs::fchown(&folder, Some(own), None)?,
        false => return Err(Errno::ACCESS),
    }
    if stat.st_mode & 0o777 != 0o700 {
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

pub(super) fn names(dir: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
