//! The copy that an editor is given: in a folder that only we can enter, and gone unless somebody wrote in it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::cli::fault::Fault;
use crate::cli::say;
use crate::edge::places::random;

/// The one folder of plugd's own in a directory of manifests.
const PRIVATE: &str = ".plugd";
/// How a copy's folder is called.
const NAME: &str = "plugd-edit-";
/// What was written and not put in place stays for so long: somebody may have been told of it on a Friday.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug)]
pub(super) struct Copy {
    pub path: PathBuf,
    text: Vec<u8>,
    folder: PathBuf,
    /// Held while an editor may have it, so that no other `plugd edit` takes it for one that was left.
    _lock: File,
    /// Made for it, where the node has made none yet.
    made: Option<PathBuf>,
}

impl Copy {
    /// Among other temporary files, or in the private folder of the directory, which can be written.
    pub fn of(file: &str, text: &[u8], dir: &Path) -> Result<Copy, Fault> {
        Copy::below(&std::env::temp_dir(), file, text).or_else(|_| {
            let private = dir.join(PRIVATE);
            let made = std::fs::DirBuilder::new().mode(0o700).create(&private).is_ok().then(|| private.clone());
            let copy = is_ours(&private).and_then(|()| Copy::below(&private, file, text));
            copy.map(|copy| Copy { made, ..copy }).map_err(|error| Fault::path("make a copy in", private, error))
        })
    }

    fn below(parent: &Path, file: &str, text: &[u8]) -> io::Result<Copy> {
        sweep(parent);
        let folder = parent.join(format!("{NAME}{}", random()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let lock = File::open(&folder)?;
        flock(&lock, FlockOperation::NonBlockingLockShared)?;
        let path = folder.join(file);
        let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        out.write_all(text)?;
        Ok(Copy { path, text: text.to_vec(), folder, _lock: lock, made: None })
    }

    pub fn remove(&self) {
        // What cannot be removed is swept by a later edit.
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = self.made.as_ref().map(std::fs::remove_dir);
    }

    /// When nothing comes of it: what was written stays, and is told.
    pub fn leave(&self) {
        if self.is_untouched() {
            return self.remove();
        }
        say(&format!("what you wrote is kept in {} for a week", self.path.display()));
    }

    /// An editor that asks back has it open, and may write it yet.
    pub fn keep_for_an_editor(&self) {
        say(&format!("the editor goes on without plugd; what it writes is kept in {} for a week", self.path.display()));
    }

    /// As it was given; what an editor keeps beside it may be text that was not saved.
    fn is_untouched(&self) -> bool {
        let alone = std::fs::read_dir(&self.folder).map_or(0, Iterator::count) <= 1;
        alone && std::fs::read(&self.path).is_ok_and(|text| text == self.text)
    }
}

/// A folder, and no link that somebody put there, or what another user could change.
fn is_ours(folder: &Path) -> io::Result<()> {
    let found = folder.symlink_metadata()?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if ours { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Removes what was left of our own edits a week ago or more, and nobody has open.
fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(NAME));
    for folder in ours.map(|entry| entry.path()).filter(|folder| is_left(folder).unwrap_or(false)) {
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn is_left(folder: &Path) -> io::Result<bool> {
    let found = folder.symlink_metadata()?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let mut newest = found.modified()?;
    for entry in std::fs::read_dir(folder)? {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    let age = SystemTime::now().duration_since(newest).unwrap_or_default();
    let is_free = || flock(File::open(folder)?, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from);
    Ok(age >= KEPT_FOR && is_free().is_ok())
}
