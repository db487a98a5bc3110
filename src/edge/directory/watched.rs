//! The files that a service asks to be watched (`watchFiles`), and what stands for their content.
//!
//! Patterns are followed folder by folder, within bounds; whatever is found counts by its path and its
//! bytes. A file that goes away is no change: a volume that is unmounted, an editor between two renames and
//! a cleaned checkout must restart nothing. What it was is kept until it is back, another file changes, or
//! the patterns do, also by the next controller (see [`super::recall`]). Only what is written by name is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::disk;
use super::names;
use super::recall::{Noted, Recall};
use crate::model::glob::{self, Part, Pattern};
use crate::model::name::Name;

/// Files of one service; each is asked for its time at each look.
pub(super) const FILES_MAX: usize = 500;
/// Folders of one service; each is a watch of inotify.
const FOLDERS_MAX: usize = 100;
/// Names in one folder that are compared.
const NAMES_MAX: usize = 10_000;
/// Folders within folders that `**` stands for.
const DEPTH_MAX: usize = 16;
/// Bytes of one service's files, as many as of a wrapper. Where there are more, time, size and inode stand
/// for the content of all that are not small.
pub(super) const BYTES_MAX: u64 = 64 * 1024 * 1024;
pub(super) const SMALL: u64 = 64 * 1024;

/// What the patterns of a service lead to now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// In order, each once.
    pub files: Vec<PathBuf>,
    /// Of which every name matters.
    pub folders: Vec<PathBuf>,
    /// Not all was looked at.
    pub cut: bool,
}

/// A file's content, or what stands for it.
pub(super) type Hash = [u8; 32];

/// What is remembered of one service.
#[derive(Debug)]
pub(super) struct Watched {
    written: Vec<String>,
    patterns: Vec<Pattern>,
    files: BTreeMap<PathBuf, Hash>,
    changes: u64,
    /// The paths that the last change was of.
    edited: Vec<PathBuf>,
}

impl Watched {
    /// The patterns were validated with the manifest.
    pub fn new(written: &[String]) -> Watched {
        let patterns = written.iter().filter_map(|text| glob::parse(text)).collect();
        Watched { written: written.to_vec(), patterns, files: BTreeMap::new(), changes: 0, edited: Vec::new() }
    }

    /// As an earlier controller knew it, where the patterns are the same.
    pub fn recalled(written: &[String], (patterns, files): Noted) -> Option<Watched> {
        (patterns == written).then(|| Watched { files, ..Watched::new(written) })
    }

    pub fn is_of(&self, written: &[String]) -> bool {
        self.written == written
    }

    pub fn find(&self, dir: &Path) -> Found {
        let mut search = Search::default();
        for pattern in &self.patterns {
            let place = glob::place(dir, pattern);
            match pattern.rest.as_slice() {
                [] => search.literal(place),
                rest => {
                    search.been.clear();
                    search.folder(&place, rest, 0);
                }
            }
        }
        let mut found = search.found;
        found.files.sort();
        found.files.dedup();
        found.cut |= found.files.len() > FILES_MAX;
        found.files.truncate(FILES_MAX);
        found.folders.sort();
        found.folders.dedup();
        found
    }

    /// What stands for the content of a file.
    pub fn known(&self, path: &Path) -> Option<Hash> {
        self.files.get(path).copied()
    }

    /// Takes up what the files are now; whether that is a change.
    pub fn take(&mut self, now: &BTreeMap<PathBuf, Hash>) -> bool {
        let changed = now.iter().filter(|(path, hash)| self.files.get(*path) != Some(hash));
        let changed: Vec<PathBuf> = changed.map(|(path, _)| path.clone()).collect();
        if changed.is_empty() {
            return false;
        }
        self.files.clone_from(now);
        self.changes += 1;
        self.edited = changed;
        true
    }

    /// How many there were, and the paths of the last one.
    pub fn last_change(&self) -> (u64, &[PathBuf]) {
        (self.changes, &self.edited)
    }

    /// Which of those that stand for the content are not there now.
    pub fn away<'w>(&'w self, now: &'w BTreeMap<PathBuf, Hash>) -> impl Iterator<Item = &'w Path> {
        self.files.keys().filter(|path| !now.contains_key(*path)).map(PathBuf::as_path)
    }

    /// Which of those that are away somebody has to miss: written by name, or in a folder that is and that is away,
    /// too. What only a pattern has found may be deleted on purpose.
    pub fn missed<'w>(&'w self, dir: &Path, now: &'w BTreeMap<PathBuf, Hash>) -> Vec<&'w Path> {
        let places: Vec<PathBuf> = self.patterns.iter().map(|pattern| glob::place(dir, pattern)).collect();
        let is_missed = |path: &&Path| {
            let mut over = places.iter().filter(|place| path.starts_with(place));
            over.any(|place| place == path || disk::stat(place).is_err())
        };
        self.away(now).filter(is_missed).collect()
    }

    pub fn note(&self, service: &Name, recall: &Recall) {
        recall.note(service, &self.written, &self.files);
    }

    /// Nothing where there are no files: then it says nothing of its own.
    pub fn digest(&self, to: &mut Vec<u8>) {
        if !self.files.is_empty() {
            to.extend_from_slice(b"watchFiles\0");
        }
        for (path, hash) in &self.files {
            to.extend_from_slice(path.as_os_str().as_bytes());
            to.push(0);
            to.extend_from_slice(hash);
        }
    }
}

#[derive(Debug, Default)]
struct Search {
    found: Found,
    /// Folders that were looked through, with how many parts were left of the pattern at hand: two `**` lead to one
    /// in many ways.
    been: BTreeSet<(PathBuf, usize)>,
}

impl Search {
    /// A path as it stands: a file, or a folder with all its files.
    fn literal(&mut self, path: PathBuf) {
        match disk::stat(&path) {
            Ok(stamp) if stamp.is_dir() => {
                for name in self.names(&path) {
                    let inner = path.join(&name);
                    if is_meant(&name) && disk::stat(&inner).is_ok_and(|stamp| stamp.is_file()) {
                        self.found.files.push(inner);
                    }
                }
            }
            Ok(stamp) if !stamp.is_file() => {}
            // What is not there yet, or does not answer, is watched all the same.
            Ok(_) | Err(_) => {
                // A link may lead through another one beside it, which is swapped (a ConfigMap's `..data`).
                let is_link = disk::lstat(&path).is_ok_and(|stamp| stamp.is_link());
                self.found.folders.extend(path.parent().filter(|_| is_link).map(Path::to_path_buf));
                self.found.files.push(path);
            }
        }
    }

    fn folder(&mut self, folder: &Path, parts: &[Part], depth: usize) {
        let Some((part, rest)) = parts.split_first() else { return };
        if !self.been.insert((folder.to_path_buf(), parts.len())) {
            return;
        }
        match part {
            Part::Name(matcher) => {
                for name in self.names(folder) {
                    let meant = |text: &&str| matcher.takes(text) && !names::is_litter(text);
                    let Some(path) = name.to_str().filter(meant).map(|text| folder.join(text)) else { continue };
                    match (disk::stat(&path), rest) {
                        (Ok(stamp), []) if stamp.is_file() => self.found.files.push(path),
                        (Ok(stamp), [_, ..]) if stamp.is_dir() => self.folder(&path, rest, depth),
                        (Ok(_) | Err(_), _) => {}
                    }
                }
            }
            Part::Folders => {
                match rest {
                    [] => self.literal(folder.to_path_buf()),
                    rest => self.folder(folder, rest, depth),
                }
                self.found.cut |= depth >= DEPTH_MAX;
                // A link could lead in a circle.
                let is_folder = |path: &Path| disk::lstat(path).is_ok_and(|stamp| stamp.is_dir());
                for name in self.names(folder).iter().filter(|name| depth < DEPTH_MAX && is_meant(name)) {
                    let path = folder.join(name);
                    if is_folder(&path) {
                        self.folder(&path, parts, depth + 1);
                    }
                }
            }
        }
    }

    /// The names in a folder, in order. It is watched, also where it is not there yet.
    fn names(&mut self, folder: &Path) -> Vec<OsString> {
        if !self.found.folders.iter().any(|known| known == folder) {
            if self.found.folders.len() >= FOLDERS_MAX {
                self.found.cut = true;
                return Vec::new();
            }
            self.found.folders.push(folder.to_path_buf());
        }
        // Once too much was found, looking on finds nothing that counts.
        if self.found.files.len() > FILES_MAX {
            return Vec::new();
        }
        let mut names = disk::list(folder).unwrap_or_default();
        self.found.cut |= names.len() > NAMES_MAX;
        names.sort();
        names.truncate(NAMES_MAX);
        names
    }
}

/// What a `*` would take.
fn is_meant(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| !name.starts_with('.') && !names::is_litter(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temp folder");
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, file).expect("written");
        }
        dir
    }

    fn found(dir: &Path, patterns: &[&str]) -> Found {
        let written: Vec<String> = patterns.iter().map(|text| text.to_string()).collect();
        let mut found = Watched::new(&written).find(dir);
        let below = |path: &mut PathBuf| *path = path.strip_prefix(dir).expect("below").to_path_buf();
        found.files.iter_mut().chain(&mut found.folders).for_each(below);
        found
    }

    fn names(found: &Found) -> Vec<&str> {
        found.files.iter().map(|path| path.to_str().expect("text")).collect()
    }

    #[test]
    fn patterns_lead_to_files_and_tell_the_folders_in_which_more_may_come() {
        let dir =
            folder(&["a.toml", "c/a.toml", "c/b.yaml", "c/.hidden.toml", "c/a.toml~", "c/d/x.toml", "c/d/e/y.toml"]);
        let of = |patterns: &[&str]| found(dir.path(), patterns);
        assert_eq!(names(&of(&["c/*.toml"])), ["c/a.toml"]);
        assert_eq!(of(&["c/*.toml"]).folders, [Path::new("c")]);
        assert_eq!(names(&of(&["c"])), ["c/a.toml", "c/b.yaml"], "of a folder its files");
        assert_eq!(names(&of(&["c/**/*.toml"])), ["c/a.toml", "c/d/e/y.toml", "c/d/x.toml"]);
        assert_eq!(names(&of(&["c/**"])), ["c/a.toml", "c/b.yaml", "c/d/e/y.toml", "c/d/x.toml"]);
        assert_eq!(names(&of(&["*/*.toml", "a.toml", "./a.toml"])), ["a.toml", "c/a.toml"], "each once");
        assert_eq!(names(&of(&["c/.hidden.toml", "c/.h*"])), ["c/.hidden.toml"]);
        let later = of(&["gone.toml", "later/*.toml"]);
        assert_eq!((names(&later), later.folders.as_slice()), (vec!["gone.toml"], [PathBuf::from("later")].as_slice()));
    }

    #[test]
    fn links_are_followed_to_files_and_lead_no_search_in_a_circle() {
        let dir = folder(&["real/a.toml"]);
        std::os::unix::fs::symlink("real", dir.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("..", dir.path().join("real/up")).expect("linked");
        std::os::unix::fs::symlink("a.toml", dir.path().join("real/b.toml")).expect("linked");
        assert_eq!(names(&found(dir.path(), &["**/*.toml"])), ["real/a.toml", "real/b.toml"]);
        assert_eq!(names(&found(dir.path(), &["link/*.toml"])), ["link/a.toml", "link/b.toml"]);
        assert_eq!(found(dir.path(), &["real/b.toml"]).folders, [Path::new("real")]);
    }

    #[test]
    fn many_patterns_of_folders_look_into_each_folder_once() {
        let dir = tempfile::tempdir().expect("a temp folder");
        for n in 0..15 {
            std::fs::create_dir_all(dir.path().join(format!("{n}/a/b/c"))).expect("made");
        }
        std::fs::write(dir.path().join("7/a/b/c/x.toml"), "").expect("written");
        let written = [["**", "*"].repeat(12).join("/") + "/**/*.toml", "**/".repeat(12) + "*.toml"];
        let begun = std::time::Instant::now();
        assert!(names(&found(dir.path(), &[&written[0]])).is_empty(), "it asks for twelve folders");
        assert_eq!(names(&found(dir.path(), &[&written[1]])), ["7/a/b/c/x.toml"]);
        assert!(begun.elapsed().as_secs() < 20, "each way was gone: {:?}", begun.elapsed());
    }

    #[test]
    fn a_search_is_bounded_and_says_so() {
        let dir = tempfile::tempdir().expect("a temp folder");
        for n in 0..FILES_MAX + 10 {
            std::fs::write(dir.path().join(format!("{n:04}.x")), "").expect("written");
        }
        let many = found(dir.path(), &["*.x"]);
        assert_eq!((many.files.len(), many.cut), (FILES_MAX, true));
        assert_eq!(names(&many)[0], "0000.x");
        let dir = tempfile::tempdir().expect("a temp folder");
        for n in 0..FOLDERS_MAX + 10 {
            std::fs::create_dir(dir.path().join(format!("{n:04}"))).expect("made");
        }
        let wide = found(dir.path(), &["**/*.x"]);
        assert_eq!((wide.folders.len(), wide.cut), (FOLDERS_MAX, true));
        let deep = tempfile::tempdir().expect("a temp folder");
        std::fs::create_dir_all(deep.path().join("d/".repeat(DEPTH_MAX + 3))).expect("made");
        assert!(found(deep.path(), &["**/*.x"]).cut);
    }

    #[test]
    fn what_goes_away_changes_nothing_until_something_else_does() {
        let file = |name: &str, byte: u8| (PathBuf::from(name), [byte; 32]);
        let digest = |watched: &Watched| {
            let mut bytes = Vec::new();
            watched.digest(&mut bytes);
            bytes
        };
        let mut watched = Watched::new(&["*".into()]);
        assert!(digest(&watched).is_empty());
        let (one, two) = (BTreeMap::from([file("a", 1)]), BTreeMap::from([file("a", 1), file("b", 2)]));
        assert!(watched.take(&two));
        let both = digest(&watched);
        for (now, away) in [(&one, vec!["b"]), (&BTreeMap::new(), vec!["a", "b"]), (&two, vec![])] {
            assert!(!watched.take(now));
            assert_eq!(watched.away(now).collect::<Vec<_>>(), away.iter().map(Path::new).collect::<Vec<_>>());
            assert_eq!(digest(&watched), both);
        }
        let edited = BTreeMap::from([file("a", 3)]);
        assert_eq!(watched.last_change(), (1, [PathBuf::from("a"), PathBuf::from("b")].as_slice()));
        assert!(watched.take(&edited));
        assert_eq!(watched.last_change(), (2, [PathBuf::from("a")].as_slice()), "what went away was not edited");
        assert_eq!(watched.away(&edited).count(), 0, "what was away is none of it any more");
        assert_ne!(digest(&watched), both);
        assert!(watched.take(&BTreeMap::from([file("a", 3), file("b", 2)])), "a new file is a change");
    }

    #[test]
    fn what_is_written_by_name_is_missed_and_what_a_pattern_has_found_only_with_its_folder() {
        let dir = folder(&["conf/a.toml", "conf/deep/b.toml", "key"]);
        let mut watched = Watched::new(&["conf/**/*.toml".into(), "key".into()]);
        let files = |names: &[&str]| names.iter().map(|name| (dir.path().join(name), [0; 32])).collect();
        let all: BTreeMap<PathBuf, Hash> = files(&["conf/a.toml", "conf/deep/b.toml", "key"]);
        watched.take(&all);
        let missed = |watched: &Watched, now: &[&str]| {
            let below = |path: &&Path| path.strip_prefix(dir.path()).expect("below").display().to_string();
            watched.missed(dir.path(), &files(now)).iter().map(below).collect::<Vec<_>>()
        };
        assert!(missed(&watched, &["conf/a.toml", "key"]).is_empty(), "it may be deleted");
        assert_eq!(missed(&watched, &["conf/a.toml"]), ["key"]);
        std::fs::remove_dir_all(dir.path().join("conf")).expect("removed");
        assert_eq!(missed(&watched, &[]), ["conf/a.toml", "conf/deep/b.toml", "key"]);
    }
}
