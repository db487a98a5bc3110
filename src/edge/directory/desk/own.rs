//! plugd's own files in the directory, `_defaults.yaml` and `_plugd.yaml`, and how much of a mistake in
//! them may be told. Both keep their last good version.

use std::path::{Path, PathBuf};

use super::super::disk::{self, Stamp, Unread};
use super::super::parse::{self, OwnedText};
use super::super::trust::Surroundings;
use super::{Desk, Seen};
use crate::model::reason::Reason;

impl Desk {
    pub(super) fn look_at_defaults(&mut self, complete: bool) -> Seen {
        let file = "_defaults.yaml";
        let path = self.path_of(file);
        match self.own_file(file, self.defaults_stamp, complete) {
            Err(seen) => seen,
            Ok(None) => Seen::Done,
            Ok(Some((bytes, stamp))) => {
                self.defaults_stamp = Some(stamp);
                let text = OwnedText { file: file.to_string(), text: bytes };
                match parse::defaults_fault(&text) {
                    Some(message) => {
                        let message = self.without_quotes(&path, message);
                        let message = format!("{message}\nthe last good version stays");
                        self.note_problem(file, Reason::ConfigInvalid, message);
                    }
                    None => {
                        self.problems.remove(file);
                        self.set_defaults(Some(text));
                    }
                }
                tracing::debug!("read {}", path.display());
                Seen::Done
            }
        }
    }

    pub(super) fn set_defaults(&mut self, text: Option<OwnedText>) {
        if self.defaults == text {
            return;
        }
        self.defaults = text;
        self.read_all_again();
    }

    pub(super) fn look_at_settings(&mut self, complete: bool) -> Seen {
        match self.own_file("_plugd.yaml", self.settings_stamp, complete) {
            Err(seen) => seen,
            Ok(None) => Seen::Done,
            Ok(Some((bytes, stamp))) => {
                self.settings_stamp = Some(stamp);
                self.tell_settings(Some(&String::from_utf8_lossy(&bytes)));
                Seen::Done
            }
        }
    }

    pub(super) fn tell_settings(&mut self, text: Option<&str>) {
        let file = "_plugd.yaml";
        let Some(tell) = self.on_settings.as_mut() else { return };
        match tell(text) {
            Ok(()) => {
                self.problems.remove(file);
            }
            Err(message) => {
                let message = self.without_quotes(&self.path_of(file), message);
                self.note_problem(file, Reason::ConfigInvalid, format!("{message}\nthe last good version stays"));
            }
        }
    }

    /// Where a file leads that those who may ask us may not read: not everybody, and neither the
    /// ordinary user that we are nor the one that owns the directory.
    pub(super) fn closed(&self, path: &Path) -> Option<PathBuf> {
        let target = disk::closed_target(path, &self.dir)?;
        let owner = disk::stat(&target).map_or(0, |stamp| stamp.uid);
        let Surroundings { uid, dir_owner, .. } = self.surroundings;
        (owner == 0 || (owner != uid && owner != dir_owner)).then_some(target)
    }

    /// What is wrong in one of our own files, if that may be told to everybody.
    pub(super) fn without_quotes(&self, path: &Path, message: String) -> String {
        match self.closed(path) {
            Some(target) => format!(
                "it is not valid, and nothing of it is quoted: it leads to {}, which not everybody may read",
                target.display()
            ),
            None => message,
        }
    }

    /// The bytes of one of our own files, if they are new.
    pub(super) fn own_file(
        &mut self,
        file: &str,
        known: Option<Stamp>,
        complete: bool,
    ) -> Result<Option<(Vec<u8>, Stamp)>, Seen> {
        let path = self.path_of(file);
        if known.is_some() && disk::stat(&path).ok() == known {
            return Ok(None);
        }
        let (reason, message) = match disk::read(&path, disk::MANIFEST_MAX, complete) {
            Ok(content) => match self.surroundings.judge(&path, &content.stamp, None) {
                Some(finding) if finding.refused => (Reason::UntrustedFile, finding.message),
                Some(_) | None => return Ok(Some((content.bytes, content.stamp))),
            },
            Err(Unread::Absent) => return Err(Seen::Absent),
            Err(Unread::Busy) => return Err(Seen::Busy(path)),
            Err(Unread::NotAFile(kind)) => (Reason::NotARegularFile, format!("{file} is {kind}")),
            Err(Unread::TooLarge(size)) => {
                (Reason::TooLarge, format!("{file} has {size} bytes, at most 65536 are read"))
            }
            Err(Unread::Failed(error)) => (Reason::Unreadable, format!("{file} cannot be read: {error}")),
        };
        self.note_problem(file, reason, format!("{message}; the last good version stays"));
        Ok(None)
    }
}
