//! What was accepted of each file, kept in `state.db`.
//!
//! A bad edit never stops a running service: the last good version stays. In a running controller it
//! stands in the file's record; here is its text, for the controller that comes after. It is the
//! text and not the spec, so that a new version of plugd reads it as it reads every manifest.
//!
//! So with `_defaults.yaml` and `_plugd.yaml`, whose last good versions stay just as well: a user or a limit
//! that they set must not be lost by a typo.
//!
//! Only what the first scan refuses is read from here; nothing waits for the disk, and without a
//! database there is no last good version, as before the first one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::desk::SETTINGS;
use super::disk::Content;
use super::parse::{Context, OwnedText};
use crate::edge::store::Store;
use crate::model::digest;
use crate::model::spec::Digest;

/// A manifest with its defaults and drop-ins that is longer is not kept: four full files.
const ONE_MAX: usize = 256 * 1024;
/// All of them together: 10,000 services of 6 KiB.
const ALL_MAX: usize = 64 * 1024 * 1024;
/// Comment lines of a script in which its manifest may stand.
const HEAD_MAX: usize = 16 * 1024;

/// All that took part in what a file meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    /// Of the whole file, as it is told.
    pub sha: String,
    pub main: String,
    /// Of a script, of which the head alone is kept: what it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    defaults: Option<Piece>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drop_ins: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    file: String,
    text: String,
}

impl Accepted {
    /// None where something is no text: such a manifest was not accepted.
    pub fn of_manifest(sha: &str, content: &Content, context: &Context) -> Option<Accepted> {
        let main = std::str::from_utf8(&content.bytes).ok()?.to_string();
        Accepted::with(sha, main, context)
    }

    /// Of a script only the head is kept: its first lines while they are comments.
    pub fn of_script(sha: &str, head: &[u8], context: &Context, content: Option<Digest>) -> Option<Accepted> {
        let comment = |line: &&[u8]| line.starts_with(b"#") || line.iter().all(u8::is_ascii_whitespace);
        let lines = head.split_inclusive(|byte| *byte == b'\n').take_while(comment);
        let length = lines.map(<[u8]>::len).sum::<usize>().min(HEAD_MAX);
        // What has no such line is a program: its first bytes say so.
        let head = if length == 0 { head.get(..4)? } else { &head[..length] };
        let accepted = Accepted::with(sha, std::str::from_utf8(head).ok()?.to_string(), context)?;
        Some(Accepted { content, ..accepted })
    }

    /// Of one of plugd's own files.
    pub fn of_own(text: &[u8]) -> Option<Accepted> {
        Accepted::with(&digest::short(text), std::str::from_utf8(text).ok()?.to_string(), &Context::default())
    }

    fn with(sha: &str, main: String, context: &Context) -> Option<Accepted> {
        let defaults = match &context.defaults {
            Some(defaults) => Some(Piece::of(defaults)?),
            None => None,
        };
        let drop_ins = context.drop_ins.iter().map(Piece::of).collect::<Option<Vec<_>>>()?;
        Some(Accepted { sha: sha.to_string(), main, content: None, defaults, drop_ins })
    }

    pub fn context(&self) -> Context {
        Context {
            defaults: self.defaults.as_ref().map(Piece::owned),
            drop_ins: self.drop_ins.iter().map(Piece::owned).collect(),
            ..Context::default()
        }
    }
}

impl Piece {
    fn of(text: &OwnedText) -> Option<Piece> {
        let OwnedText { file, text } = text;
        Some(Piece { file: file.clone(), text: std::str::from_utf8(text).ok()?.to_string() })
    }

    fn owned(&self) -> OwnedText {
        OwnedText { file: self.file.clone(), text: self.text.clone().into_bytes() }
    }
}

/// The text of `_plugd.yaml` that an earlier run accepted, as its memory at `database` has it.
pub fn settings_before(database: &Path) -> Option<Vec<u8>> {
    let accepted: Accepted = serde_json::from_str(&Store::accepted_at(database, SETTINGS)?).ok()?;
    Some(accepted.main.into_bytes())
}

/// The accepted texts of all files. How many bytes are kept of each stands in its record.
#[derive(Debug)]
pub(super) struct LastGood {
    store: Store,
    /// As the last controller left them, until the first scan is over.
    recorded: BTreeMap<String, String>,
    /// What was taken last.
    taken: Option<(String, String)>,
    all: usize,
}

impl LastGood {
    pub fn new(store: Store) -> LastGood {
        let recorded = store.take_accepted();
        let all = recorded.values().map(String::len).sum();
        LastGood { store, recorded, taken: None, all }
    }

    /// The version that was in force of a file which the first scan refuses, and its size as it is kept.
    pub fn take(&mut self, file: &str) -> Option<(Accepted, usize)> {
        let text = self.recorded.remove(file)?;
        // Of another version of plugd, or broken: then there is none.
        let accepted = serde_json::from_str(&text).ok();
        if accepted.is_none() {
            self.all -= text.len();
        }
        let length = text.len();
        self.taken = Some((file.to_string(), text));
        accepted.map(|accepted| (accepted, length))
    }

    /// `file` was accepted, `None` as something that is not kept; `before` bytes were kept of it.
    /// Returns how many are kept now.
    pub fn keep(&mut self, file: &str, before: usize, accepted: Option<Accepted>) -> usize {
        let recorded = self.recorded.remove(file);
        self.all -= recorded.as_ref().map_or(before, String::len);
        let text = accepted.and_then(|accepted| serde_json::to_string(&accepted).ok());
        match text.filter(|text| text.len() <= ONE_MAX && self.all + text.len() <= ALL_MAX) {
            Some(text) => {
                let length = text.len();
                self.all += length;
                if recorded.as_ref() != Some(&text) {
                    self.store.accept(file.to_string(), text);
                }
                length
            }
            None => {
                self.store.unaccept(file.to_string());
                0
            }
        }
    }

    /// The file that was taken has another name now; returns how many bytes are kept of it.
    pub fn rename(&mut self, before: &str, file: &str, kept: usize) -> usize {
        match self.taken.take() {
            Some((name, text)) if name == before => {
                self.store.unaccept(before.to_string());
                self.store.accept(file.to_string(), text);
                kept
            }
            Some(_) | None => {
                self.drop(before, kept);
                0
            }
        }
    }

    /// The file has another name now; so much was kept under that and goes, and so much of it is kept.
    pub fn follow(&mut self, before: &str, file: &str, (gone, kept): (usize, usize)) -> usize {
        self.all -= gone;
        self.store.follow(before.to_string(), file.to_string());
        kept
    }

    /// The file is gone, of which so much was kept.
    pub fn drop(&mut self, file: &str, kept: usize) {
        self.all -= self.recorded.remove(file).map_or(kept, |text| text.len());
        self.store.unaccept(file.to_string());
    }

    /// The first scan is over: what is kept of files that it did not find goes.
    pub fn scanned(&mut self) {
        self.taken = None;
        for (file, text) in std::mem::take(&mut self.recorded) {
            self.all -= text.len();
            self.store.unaccept(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(file: &str, text: &[u8]) -> OwnedText {
        OwnedText { file: file.into(), text: text.to_vec() }
    }

    #[test]
    fn what_took_part_is_read_back_as_it_was() {
        let context = Context {
            defaults: Some(text("_defaults.yaml", b"env: {A: b}\n")),
            drop_ins: vec![text("web.yaml.d/10.yaml", b"port: 80\n")],
            ..Context::default()
        };
        let accepted = Accepted::with("abc", "command: web\n".into(), &context).expect("text");
        let json = serde_json::to_string(&accepted).expect("plain");
        let back: Accepted = serde_json::from_str(&json).expect("read back");
        assert_eq!(back, accepted);
        assert_eq!((back.context().defaults, back.context().drop_ins), (context.defaults, context.drop_ins));
    }

    #[test]
    fn of_a_script_its_head_is_kept_and_of_a_program_its_first_bytes() {
        let none = Context::default();
        let script = Accepted::of_script("abc", b"#!/bin/sh\n# plugd: port: 80\nexec web\n", &none, None);
        assert_eq!(script.expect("text").main, "#!/bin/sh\n# plugd: port: 80\n");
        let program = Accepted::of_script("abc", b"\x7fELF\x02\x01\xff\xff", &none, None);
        assert_eq!(program.expect("text").main, "\x7fELF");
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_ends_what_was_kept_before() {
        let mut kept = LastGood::new(Store::none());
        let of = |length: usize| Accepted::with("abc", "x".repeat(length), &Context::default());
        let length = kept.keep("web.yaml", 0, of(100));
        assert!(length > 100 && kept.all == length);
        assert_eq!(kept.keep("web.yaml", length, of(ONE_MAX)), 0);
        assert_eq!(kept.all, 0);
    }
}
