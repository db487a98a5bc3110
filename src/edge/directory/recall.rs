//! What the watched files of each service were, for the controller that comes after.
//!
//! A file that is away, or that somebody writes to just then, counts as what it was (see [`super::watched`]): only who
//! saw it knows. So that is noted, one small file for a service in the run directory, before anything is started or
//! restarted by it. It is about processes that run: a node that begins with none begins without it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::watched::{FILES_MAX, Hash};
use crate::edge::noted::{WATCHED, put};
use crate::model::name::Name;

/// The longest paths that there are, and their content as decimal numbers.
const BYTES_MAX: u64 = FILES_MAX as u64 * (4096 + 200);

/// Without a place nothing is noted, and the next controller begins with what is there.
#[derive(Debug, Default)]
pub(super) struct Recall {
    folder: Option<PathBuf>,
}

/// The patterns, and what was found by them.
pub(super) type Noted = (Vec<String>, BTreeMap<PathBuf, Hash>);

impl Recall {
    pub fn at(run: Option<&Path>) -> Recall {
        Recall { folder: run.map(|run| run.join(WATCHED)) }
    }

    /// Anything else than what was noted (another plugd wrote it, a disk was full) is nothing.
    pub fn of(&self, service: &Name) -> Option<Noted> {
        let mut text = Vec::new();
        File::open(self.file(service)?).ok()?.take(BYTES_MAX).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn note(&self, service: &Name, patterns: &[String], files: &BTreeMap<PathBuf, Hash>) {
        let Some(file) = self.file(service) else { return };
        let written =
            serde_json::to_vec(&(patterns, files)).map_err(io::Error::from).and_then(|text| put(&file, &text));
        if let Err(error) = written {
            tracing::debug!(%error, "what the watched files of {service} are is not known to the next controller");
        }
    }

    pub fn forget(&self, service: &Name) {
        // Not there where nothing could be noted.
        let _ = self.file(service).map(std::fs::remove_file);
    }

    fn file(&self, service: &Name) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(service.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_later_and_what_cannot_be_read_is_nothing() {
        let run = tempfile::tempdir().expect("a temp folder");
        let web = Name::parse("web").expect("a name");
        let (patterns, files) = (vec!["*.toml".to_string()], BTreeMap::from([(PathBuf::from("/a b"), [7; 32])]));
        let recall = Recall::at(Some(run.path()));
        assert_eq!(recall.of(&web), None);
        recall.note(&web, &patterns, &files);
        assert_eq!(Recall::at(Some(run.path())).of(&web), Some((patterns.clone(), files.clone())));
        std::fs::write(run.path().join(WATCHED).join("web"), "[[\"*\"], {").expect("written");
        assert_eq!(recall.of(&web), None);
        recall.note(&web, &patterns, &files);
        recall.forget(&web);
        assert_eq!(recall.of(&web), None);
        recall.note(&web, &patterns, &files);
        crate::edge::noted::forget_all(run.path());
        assert_eq!(recall.of(&web), None);
        Recall::at(None).note(&web, &patterns, &files);
        Recall::at(None).forget(&web);
    }
}
