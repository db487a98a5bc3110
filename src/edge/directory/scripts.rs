//! Discovery: an executable in the directory is a service by being there, unless a manifest claims it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::desk::{Desk, Seen};
use super::disk::{self, Stamp, Unread};
use super::names::{Candidate, candidate};
use super::parse::{self, Refusal};
use crate::model::digest;
use crate::model::manifest;
use crate::model::reason::Reason;
use crate::model::settings::Discovery;

/// A newly seen script waits this long for a manifest: a `cp -r` may bring it later.
const CLAIM_WAIT: Duration = Duration::from_millis(300);
/// What some editors of Windows put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A script's head, in which its manifest may stand.
const HEAD_MAX: usize = 16 * 1024;
/// Larger programs are read by the resolver only.
const SCRIPT_MAX: u64 = 64 * 1024 * 1024;

/// What is known of scripts beside what they declare.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// Scripts that are there, and when they were first seen.
    seen: BTreeMap<String, Duration>,
    /// What each claimed script was when a manifest claimed it last; outlives the manifest.
    claims: BTreeMap<String, String>,
    /// What was looked at last, and found to be no service.
    idle: BTreeMap<String, Stamp>,
}

impl Scripts {
    pub fn new(claims: BTreeMap<String, String>) -> Scripts {
        Scripts { claims, ..Scripts::default() }
    }

    pub fn gone(&mut self, file: &str) {
        self.seen.remove(file);
        self.idle.remove(file);
    }

    pub fn is_seen(&self, file: &str) -> bool {
        self.seen.contains_key(file)
    }

    /// All that are there.
    pub fn files(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }
}

impl Desk {
    pub(super) fn look_at_script(&mut self, file: &str, stem: &str, complete: bool, now: Duration) -> Seen {
        let path = self.path_of(file);
        let stamp = match disk::stat(&path) {
            Ok(stamp) => stamp,
            // What does not answer is what it was.
            Err(rustix::io::Errno::TIMEDOUT) => return Seen::Done,
            Err(rustix::io::Errno::NOENT) if disk::lstat(&path).is_err() => return Seen::Absent,
            Err(error) if self.records.contains_key(file) || self.was_service(file) => {
                let message = format!("{file} leads nowhere ({error}); mend it, or delete it to stop the service");
                return self.refuse(file, None, Refusal::of_service(stem, Reason::WrapperNotFound, message), "");
            }
            Err(_) => return self.not_a_service(file),
        };
        let by_name = file.ends_with(".sh");
        if !stamp.is_file() || (!by_name && !stamp.is_executable()) || self.discovery() == Discovery::Off {
            return self.not_a_service(file);
        }
        if self.records.get(file).is_some_and(|record| record.is_of(&stamp)) && !self.is_claimed(file, stem) {
            return Seen::Done;
        }
        let first_seen = *self.scripts.seen.entry(file.to_string()).or_insert(now);
        if self.is_claimed(file, stem) {
            self.claim(file, &stamp);
            self.take_back(file);
            return self.not_a_service(file);
        }
        if self.scripts.claims.get(file) == Some(&stamp.written()) {
            let seen = self.not_a_service(file);
            self.tell_withheld(file);
            return seen;
        }
        if self.scripts.idle.get(file) == Some(&stamp) && !self.records.contains_key(file) {
            return Seen::Done;
        }
        let at = first_seen + CLAIM_WAIT;
        if !self.looks_once
            && now < at
            && !is_old(&stamp)
            && !self.records.contains_key(file)
            && !self.was_service(file)
        {
            return Seen::Later(at);
        }
        if self.scripts.claims.remove(file).is_some() {
            self.store().unclaim(file.to_string());
        }
        self.read_script(file, stem, stamp, complete)
    }

    fn read_script(&mut self, file: &str, stem: &str, stamp: Stamp, complete: bool) -> Seen {
        let path = self.path_of(file);
        let content = match disk::read(&path, SCRIPT_MAX, complete) {
            Ok(content) => content,
            Err(Unread::Busy) => return Seen::Busy(path),
            Err(Unread::Absent) => return Seen::Absent,
            Err(unread) if unread.is_silent() => return Seen::Done,
            Err(Unread::NotAFile(_) | Unread::TooLarge(_) | Unread::Failed(_)) => return self.not_a_service(file),
        };
        let head = &content.bytes[..content.bytes.len().min(HEAD_MAX)];
        let program = manifest::is_program(head);
        let library = file.contains('/');
        // An edit that spoils its first line, or empties it, is no wish that it stops.
        if !program && (self.records.contains_key(file) || self.was_service(file)) {
            let refusal = Refusal::of_service(stem, Reason::ExecFormat, no_program(file, head));
            return self.refuse(file, Some(stamp), refusal, &digest::short(&content.bytes));
        }
        let wanted = !library || self.discovery() == Discovery::All || manifest::has_block(head);
        if !wanted || !program {
            self.scripts.idle.insert(file.to_string(), stamp);
            let seen = self.not_a_service(file);
            if file.ends_with(".sh") && !library {
                self.note_problem(file, Reason::ExecFormat, no_program(file, head));
            }
            return seen;
        }
        if let Some(finding) = self.surroundings().judge(&path, &stamp, None).filter(|finding| finding.refused) {
            let refusal = Refusal::of_service(stem, Reason::UntrustedFile, finding.message);
            return self.refuse(file, Some(stamp), refusal, &digest::short(&content.bytes));
        }
        let context = match self.script_context() {
            Ok(context) => context,
            Err(busy) => return Seen::Busy(busy),
        };
        match parse::script(file, stem, &self.dir, head, &context) {
            Ok(Some(parsed)) => self.discovered(file, (head, &context), parsed, content.stamp, complete),
            Ok(None) => self.not_a_service(file),
            Err(refusal) => self.refuse(file, Some(stamp), refusal, &digest::short(&content.bytes)),
        }
    }

    /// The script declares nothing (any more).
    fn not_a_service(&mut self, file: &str) -> Seen {
        if self.records.contains_key(file) {
            let seen = self.scripts.seen.get(file).copied();
            self.gone(file);
            if let Some(seen) = seen {
                self.scripts.seen.insert(file.to_string(), seen);
            }
        }
        Seen::Done
    }

    /// Whether a manifest of its stem, or one that names it, is there.
    fn is_claimed(&self, file: &str, stem: &str) -> bool {
        let own = ["yaml", "yml", "json"].iter().any(|ending| self.records.contains_key(&format!("{stem}.{ending}")));
        let base = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        own || self.records.values().any(|record| record.mentions().iter().any(|mention| *mention == base))
    }

    fn claim(&mut self, file: &str, stamp: &Stamp) {
        let written = stamp.written();
        if self.scripts.claims.get(file) != Some(&written) {
            self.store().claim(file.to_string(), written.clone());
            self.scripts.claims.insert(file.to_string(), written);
        }
    }

    /// A manifest appeared or changed: its scripts may be claimed now.
    pub(super) fn claims_changed(&mut self, manifest: &str) {
        let mentions = self.records.get(manifest).map(|record| record.mentions().to_vec()).unwrap_or_default();
        for (file, stem) in self.scripts_of(manifest, &mentions) {
            if self.is_claimed(&file, &stem)
                && let Ok(stamp) = disk::stat(&self.path_of(&file))
            {
                self.claim(&file, &stamp);
                self.take_back(&file);
                self.not_a_service(&file);
            }
        }
    }

    /// A manifest is gone: what it claimed stays down until it is written again.
    pub(super) fn claims_dropped(&mut self, manifest: &str, mentions: &[String]) {
        for (file, stem) in self.scripts_of(manifest, mentions) {
            if let Ok(stamp) = disk::stat(&self.path_of(&file)) {
                self.claim(&file, &stamp);
                if !self.is_claimed(&file, &stem) {
                    self.tell_withheld(&file);
                }
            }
        }
    }

    /// A script that stays down is no fault, but nobody should have to guess why. Of a library that is
    /// what it is there for.
    fn tell_withheld(&mut self, file: &str) {
        if !file.contains('/') {
            let message = format!(
                "{file} is no service by itself: its manifest was deleted; it starts when it is written again \
                 (`touch {file}`) or when a manifest names it"
            );
            self.note_problem(file, Reason::Withdrawn, message);
        }
    }

    /// What was said of a script that is claimed now.
    fn take_back(&mut self, file: &str) {
        if let Some(problem) = self.problem_of(file)
            && !problem.is_fault()
        {
            self.drop_problem(file);
        }
    }

    /// The known scripts that a manifest of this name and these mentions claims.
    fn scripts_of(&self, manifest: &str, mentions: &[String]) -> Vec<(String, String)> {
        let of = match candidate(manifest.as_ref()) {
            Candidate::Manifest { stem } => Some(stem),
            _ => None,
        };
        let script = |file: &String| {
            let base = Path::new(file).file_name()?.to_string_lossy().into_owned();
            let Candidate::Script { stem } = candidate(base.as_ref()) else { return None };
            (of.as_ref() == Some(&stem) || mentions.contains(&base)).then(|| (file.clone(), stem))
        };
        self.scripts.seen.keys().filter_map(script).collect()
    }
}

/// Why the kernel would not execute it, and what to do.
pub fn no_program(file: &str, head: &[u8]) -> String {
    match head.strip_prefix(BYTE_ORDER_MARK).is_some_and(|rest| rest.starts_with(b"#!")) {
        true => format!(
            "{file} begins with a byte order mark, so the kernel does not see its `#!`; take the mark off: \
             `sed -i '1s/^\\xef\\xbb\\xbf//' {file}`"
        ),
        false => format!(
            "{file} begins neither with `#!` nor as a program, so it is no service; \
             write `#!/bin/sh` in its first line, or move it to wrappers/ where others include it"
        ),
    }
}

/// It was there before we looked: nobody is in the middle of a `cp -r`.
fn is_old(stamp: &Stamp) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as i128 - stamp.ctime > CLAIM_WAIT.as_nanos() as i128
}
