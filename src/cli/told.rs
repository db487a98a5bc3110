//! Before a verb answers: that the controller has taken in what the directory holds, and that the
//! status files tell what was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::effective;
use crate::controller::{Declaration, Resolved};
use crate::edge::directory;
use crate::edge::store::Store;
use crate::model::digest::{self, comparable};
use crate::model::manifest::Text;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings;
use crate::model::text::clean;
use crate::model::view::{FileProblem, ServiceView, Snapshot};

/// The largest manifest there is, and one byte that makes a larger one differ.
const MANIFEST_MAX: u64 = 64 * 1024 + 1;
/// A status file is written a few milliseconds behind the fact. Where it cannot be written at all
/// (a full disk) the answer is not held back for longer.
const FILES_MAX: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What all manifests of a directory have in common.
pub const DEFAULTS: &str = "_defaults.yaml";
/// What the node itself is told.
pub const SETTINGS: &str = "_plugd.yaml";

/// The manifest's own bytes are neither in force nor refused yet.
pub fn is_unread(dir: &Path, view: &ServiceView) -> bool {
    let mut text = Vec::new();
    let read =
        File::open(dir.join(&view.manifest.file)).and_then(|file| file.take(MANIFEST_MAX).read_to_end(&mut text));
    if read.is_err() || (view.manifest.sha256.is_empty() && view.manifest.rejected.is_none()) {
        return false;
    }
    let now = digest::short(&text);
    let refused = view.manifest.rejected.as_ref().is_some_and(|rejected| rejected.sha256 == now);
    now != view.manifest.sha256 && !refused
}

/// What a directory said of some services when it was looked at: with defaults, drop-ins, wrappers, env files and
/// watched files.
#[derive(Debug, Default)]
pub struct Lying {
    dir: PathBuf,
    services: BTreeMap<Name, Lies>,
    /// `_defaults.yaml` is refused, and what is new or changed with it.
    defaults_refused: bool,
    /// `_plugd.yaml` is; none where it does not matter.
    settings_refused: Option<bool>,
}

#[derive(Debug)]
enum Lies {
    Declared(Declaration),
    Refused,
}

/// How far a controller has taken in what lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// It is in force, refused or blocked, or there is nothing to compare with.
    Done,
    /// Perhaps not, but that only the controller knows: what a file counts as that was taken away or is held open,
    /// whom its flags trust, which zone its clock has.
    Doubtful,
    NotYet,
}

impl Lying {
    /// Of the files that declare these services. Read as the controller reads them.
    pub fn of<'a>(dir: &Path, views: impl Iterator<Item = &'a Arc<ServiceView>>) -> Lying {
        let files: BTreeSet<&str> = views.map(|view| view.manifest.file.as_str()).collect();
        Lying::read(dir, Some(&files))
    }

    /// Of all files, those too of which no service is known yet.
    pub fn of_all(dir: &Path) -> Lying {
        let text = std::fs::read(dir.join(SETTINGS)).unwrap_or_default();
        let refused = settings::read(Text { file: SETTINGS, text: &text }).is_err();
        Lying { settings_refused: Some(refused), ..Lying::read(dir, None) }
    }

    fn read(dir: &Path, only: Option<&BTreeSet<&str>>) -> Lying {
        // What does not answer is told as a problem.
        let loaded = directory::load_some(dir, &effective::written(dir), Store::none(), only).unwrap_or_default();
        let refused = loaded.invalid.into_iter().filter_map(|invalid| Some((invalid.rejection?.name, Lies::Refused)));
        let declared = loaded.declarations.into_iter().map(|one| (one.spec.name.clone(), Lies::Declared(one)));
        Lying {
            dir: dir.to_path_buf(),
            services: declared.chain(refused).collect(),
            defaults_refused: loaded.problems.iter().any(|problem| problem.file == DEFAULTS),
            settings_refused: None,
        }
    }

    pub fn intake<'a>(&self, known: &Snapshot, views: impl Iterator<Item = &'a Arc<ServiceView>>) -> Intake {
        let of = |view: &Arc<ServiceView>| match self.services.get(&view.service) {
            _ if !known.node.alone && self.is_gone(view) => Intake::NotYet,
            Some(lies) => lies.intake(view),
            None => Intake::Done,
        };
        // A script that was claimed once, or a name that two files want, may have none for good.
        let is_new = self.services.keys().any(|name| !known.services.contains_key(name));
        let new = is_new.then_some(Intake::Doubtful);
        let is_refused = |file| refused_own(known, file).is_some();
        let settings = self.settings_refused.is_none_or(|refused| refused == is_refused(SETTINGS));
        match (self.defaults_refused, is_refused(DEFAULTS)) {
            (true, true) if settings => Intake::Done,
            (false, false) if settings => views.map(of).chain(new).max().unwrap_or(Intake::Done),
            _ => Intake::Doubtful,
        }
    }

    /// Its manifest was removed: the service goes too, in a moment.
    fn is_gone(&self, view: &ServiceView) -> bool {
        let found = std::fs::symlink_metadata(self.dir.join(&view.manifest.file));
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }
}

impl Lies {
    fn intake(&self, view: &ServiceView) -> Intake {
        let told = &view.manifest;
        let declared = match (self, &told.rejected) {
            (Lies::Declared(declared), None) => declared,
            (Lies::Refused, Some(_)) => return Intake::Done,
            (Lies::Declared(_), Some(_)) | (Lies::Refused, None) => return Intake::Doubtful,
        };
        let is_meant = told.digest.is_some_and(|digest| match comparable(digest, declared.spec.digest) {
            true => digest == declared.spec.digest,
            false => told.sha256 == declared.source.sha256,
        });
        // What is missing is told as a problem.
        let has_content = match (&declared.program, told.declares) {
            (Resolved::Found { content, .. }, Some(declares)) => *content == declares.content,
            (Resolved::Found { .. } | Resolved::Missing { .. }, _) => true,
        };
        let is_blocked = view.problem(Reason::UpdateBlocked).is_some();
        match is_meant {
            true if has_content || is_blocked => Intake::Done,
            true => Intake::Doubtful,
            false if declared.spec.schedule.is_some() => Intake::Doubtful,
            false => Intake::NotYet,
        }
    }
}

/// Why `_defaults.yaml` or `_plugd.yaml` is not in force.
pub fn refused_own<'k>(known: &'k Snapshot, file: &str) -> Option<&'k FileProblem> {
    known.node.problems.iter().find(|problem| problem.file == file)
}

/// Waits until each name's status file begins with its status word; none: until there is no file.
pub fn files_tell<'a>(dir: &Path, services: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
    if !dir.join("_controller.status").is_file() {
        return; // they lie elsewhere, or nowhere
    }
    let until = Instant::now() + FILES_MAX;
    for (name, word) in services {
        let path = dir.join(format!("{name}.status"));
        while word_in(&path).as_deref() != word && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// `healthy` of `# site  healthy  1/1 ready …`.
fn word_in(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(4096)).read_line(&mut line).ok()?;
    Some(line.split_whitespace().nth(2)?.to_string())
}

/// The services that a file declares, as they are known.
pub fn of_file(known: &Snapshot, file: &str) -> Vec<Arc<ServiceView>> {
    known.services.values().filter(|view| view.manifest.file == file).cloned().collect()
}

/// What is seen of the services then is as it was observed; what is meant by them is not known.
pub fn lost_directory(known: &Snapshot) -> Option<String> {
    let why = known.node.directory_lost.as_ref()?;
    Some(format!(
        "the directory is lost (DirectoryLost): {}; what runs goes on, edits are not seen until it is back",
        clean(why)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_status_file_is_the_third() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let path = dir.path().join("site.status");
        assert_eq!(word_in(&path), None);
        std::fs::write(&path, "# site  healthy  1/1 ready\nservice: site\n").expect("written");
        assert_eq!(word_in(&path).as_deref(), Some("healthy"));
    }
}
