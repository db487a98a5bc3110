//! plugd's own files in the directory, `_defaults.yaml` and `_plugd.yaml`, and how much of a mistake in
//! them may be told. Both keep their last good version.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::accepted::Accepted;
use super::super::disk::{self, Content, Stamp, Unread};
use super::super::parse::{self, OwnedText};
use super::super::trust::Surroundings;
use super::{Desk, Seen};
use crate::edge::named::File;
use crate::model::reason::Reason;

pub(in super::super) const DEFAULTS: &str = "_defaults.yaml";
pub(in super::super) const SETTINGS: &str = "_plugd.yaml";
/// How long a start waits for somebody who writes the settings.
const WRITTEN_MAX: Duration = Duration::from_secs(2);

/// What is known of one of these files.
#[derive(Debug, Default)]
pub(super) struct OwnFile {
    /// It was there at the last look.
    pub there: bool,
    /// What it was when it was read.
    stamp: Option<Stamp>,
    /// Bytes of its last good version in `state.db`.
    pub kept: usize,
}

/// What a look at one of them found.
enum Own {
    Unchanged,
    New(Content),
    Refused(Reason, String),
    NotNow(Seen),
}

/// Where nobody knows what the defaults were.
const NO_DEFAULTS: &str = "_defaults.yaml cannot be used, and no good version of it is known: what it may say of users and \
    limits must not be left out, so nothing new starts; mend it, or remove it";

impl Desk {
    pub(super) fn look_at_defaults(&mut self, complete: bool) -> Seen {
        let own = self.own_file(DEFAULTS, complete);
        self.defaults_awaited = self.defaults.is_none() && matches!(own, Own::NotNow(Seen::Busy(_)));
        match own {
            Own::NotNow(seen) => return seen,
            Own::Unchanged => {}
            Own::Refused(reason, message) => self.refuse_defaults(reason, &message),
            Own::New(content) => {
                let text = OwnedText { file: DEFAULTS.to_string(), text: content.bytes };
                match parse::defaults_fault(&text) {
                    Some(message) => {
                        let message = self.without_quotes(&self.path_of(DEFAULTS), message);
                        self.refuse_defaults(Reason::ConfigInvalid, &message);
                    }
                    None => {
                        self.problems.remove(DEFAULTS);
                        let kept = self.defaults_file.kept;
                        self.defaults_file.kept = self.last_good.keep(DEFAULTS, kept, Accepted::of_own(&text.text));
                        self.set_defaults(Some(text));
                    }
                }
            }
        }
        Seen::Done
    }

    /// What is there cannot be used. The last good version stays, also that of an earlier controller;
    /// without any nothing begins that the defaults might have held back.
    pub(super) fn refuse_defaults(&mut self, reason: Reason, message: &str) {
        self.defaults_awaited = false;
        if self.defaults.is_none() && self.defaults_lacking.is_none() {
            let good = self.last_good.take(DEFAULTS).map(|(good, kept)| {
                self.defaults_file.kept = kept;
                OwnedText { file: DEFAULTS.to_string(), text: good.main.into_bytes() }
            });
            match good.filter(|good| parse::defaults_fault(good).is_none()) {
                Some(good) => self.set_defaults(Some(good)),
                None => self.defaults_lacking = Some(NO_DEFAULTS),
            }
        }
        let so =
            self.defaults_lacking.map_or("the last good version stays", |_| "nothing that is new or changed starts");
        self.note_problem(DEFAULTS, reason, format!("{message}\n{so}"));
    }

    fn set_defaults(&mut self, text: Option<OwnedText>) {
        if self.defaults_lacking.take().is_none() && self.defaults == text {
            return;
        }
        self.defaults = text;
        self.read_all_again();
    }

    /// The file is gone for good; false where it was not known.
    pub(super) fn own_file_gone(&mut self, file: &str) -> bool {
        let own = match file {
            DEFAULTS => &mut self.defaults_file,
            SETTINGS => &mut self.settings_file,
            _ => return false,
        };
        let OwnFile { there, kept, .. } = std::mem::take(own);
        if there {
            self.named.remove(file);
            self.problems.remove(file);
            self.last_good.drop(file, kept);
            match file {
                DEFAULTS => self.set_defaults(None),
                _ => self.tell_settings(None),
            }
        }
        there
    }

    pub(super) fn look_at_settings(&mut self, complete: bool) -> Seen {
        match self.own_file(SETTINGS, complete) {
            Own::NotNow(seen) => return seen,
            Own::Unchanged => {}
            Own::Refused(reason, message) => self.refuse_settings(reason, &message),
            Own::New(content) => self.tell_settings(Some(&content.bytes)),
        }
        Seen::Done
    }

    fn tell_settings(&mut self, text: Option<&[u8]>) {
        let Some(tell) = self.on_settings.as_mut() else { return };
        match tell(text) {
            Ok(()) => {
                self.problems.remove(SETTINGS);
                self.settings_text = None;
                if let Some(text) = text {
                    let kept = self.settings_file.kept;
                    self.settings_file.kept = self.last_good.keep(SETTINGS, kept, Accepted::of_own(text));
                }
            }
            Err(message) => {
                let message = self.without_quotes(&self.path_of(SETTINGS), message);
                self.refuse_settings(Reason::ConfigInvalid, &message);
            }
        }
    }

    /// The last good version is in force already: whoever began this thread had to know it before.
    fn refuse_settings(&mut self, reason: Reason, message: &str) {
        let kept = self.settings_file.kept;
        // It may be younger than what the database has: a killed controller's last words are lost.
        if let Some(text) = self.settings_text.take() {
            self.settings_file.kept = self.last_good.keep(SETTINGS, kept, Accepted::of_own(&text));
        } else if let Some((_, kept)) = self.last_good.take(SETTINGS) {
            self.settings_file.kept = kept;
        }
        self.note_problem(SETTINGS, reason, format!("{message}\nthe last good version stays"));
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

    fn own_file(&mut self, file: &str, complete: bool) -> Own {
        let path = self.path_of(file);
        let own = match file {
            DEFAULTS => &mut self.defaults_file,
            _ => &mut self.settings_file,
        };
        if own.stamp.is_some() && disk::stat(&path).ok() == own.stamp {
            return Own::Unchanged;
        }
        let read = read(&path, &self.surroundings, complete);
        match &read {
            Own::New(content) => {
                (own.there, own.stamp) = (true, Some(content.stamp));
                self.named.put(file, vec![File { path, identity: Some(content.stamp.identity()) }]);
            }
            Own::Refused(..) => (own.there, own.stamp) = (true, None),
            Own::Unchanged | Own::NotNow(_) => {}
        }
        read
    }
}

fn read(path: &Path, surroundings: &Surroundings, complete: bool) -> Own {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let (reason, message) = match disk::read(path, disk::MANIFEST_MAX, complete) {
        Ok(content) => match surroundings.judge(path, &content.stamp, None) {
            Some(finding) if finding.refused => (Reason::UntrustedFile, finding.message),
            Some(_) | None => return Own::New(content),
        },
        Err(Unread::Absent) => return Own::NotNow(Seen::Absent),
        Err(Unread::Busy) => return Own::NotNow(Seen::Busy(path.to_path_buf())),
        Err(Unread::NotAFile(kind)) => (Reason::NotARegularFile, format!("{file} is {kind}")),
        Err(Unread::TooLarge(size)) => (Reason::TooLarge, format!("{file} has {size} bytes, at most 65536 are read")),
        Err(Unread::Failed(error)) => (Reason::Unreadable, format!("{file} cannot be read: {error}")),
    };
    Own::Refused(reason, message)
}

/// The text of `_plugd.yaml` for those who begin; None where there is none.
pub(in super::super) fn settings_text(dir: &Path, surroundings: &Surroundings) -> Result<Option<Vec<u8>>, String> {
    let path = dir.join(SETTINGS);
    let until = Instant::now() + WRITTEN_MAX;
    loop {
        match read(&path, surroundings, false) {
            Own::New(content) => return Ok(Some(content.bytes)),
            Own::Unchanged | Own::NotNow(Seen::Absent | Seen::Done | Seen::Later(_)) => return Ok(None),
            Own::Refused(_, message) => return Err(message),
            Own::NotNow(Seen::Busy(_)) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Own::NotNow(Seen::Busy(_)) => return Err(format!("{SETTINGS} is held open for writing")),
        }
    }
}
