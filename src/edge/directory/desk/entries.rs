//! The names in the directory: which are candidates, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::super::disk::{self, Stamp};
use super::super::names::{Candidate, candidate};
use super::super::parse;
use super::Desk;
use super::drop_ins::stamps;
use super::own::{DEFAULTS, SETTINGS};
use crate::edge::named::File;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::Discovery;
use crate::model::text::clip;

impl Desk {
    /// The key of a file in the directory: its name, or `wrappers/NAME`.
    pub fn file_of(&self, path: &Path) -> Option<String> {
        let rest = path.strip_prefix(&self.dir).ok()?.to_str()?;
        let library = rest.strip_prefix("wrappers/").is_some_and(|name| !name.contains('/'));
        (!rest.is_empty() && (library || !rest.contains('/'))).then(|| rest.to_string())
    }

    pub fn path_of(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Names of all candidates that are there now, in order: settings and defaults, manifests,
    /// scripts. An error is not an empty directory.
    pub fn entries(&mut self) -> std::io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name()));
        let names: Vec<OsString> = names.collect::<std::io::Result<_>>()?;
        Ok(self.sorted_out(names))
    }

    /// The same as if these files were all that is there, with what counts for each: their drop-ins, the defaults and
    /// the settings. The directory is not listed.
    pub fn entries_of(&mut self, files: &BTreeSet<&str>) -> Vec<String> {
        let drop_ins = files.iter().filter_map(|file| match candidate(OsStr::new(file)) {
            Candidate::Manifest { stem } => Some(format!("{stem}.yaml.d")),
            _ => None,
        });
        let (library, own): (Vec<&str>, Vec<&str>) = files.iter().partition(|file| file.contains('/'));
        let own = own.into_iter().chain([DEFAULTS, SETTINGS]).map(str::to_string);
        let there: Vec<OsString> = own
            .chain(drop_ins)
            .filter(|name| std::fs::symlink_metadata(self.dir.join(name)).is_ok())
            .map(OsString::from)
            .collect();
        let mut sorted = self.sorted_out(there);
        sorted.extend(library.into_iter().map(str::to_string));
        sorted
    }

    fn sorted_out(&mut self, names: Vec<OsString>) -> Vec<String> {
        let (mut first, mut manifests, mut scripts) = (Vec::new(), Vec::new(), Vec::new());
        let mut drop_ins = BTreeMap::new();
        // What is told of a name alone is told anew below.
        let looked_at = |file: &str| {
            let name = Path::new(file).file_name().unwrap_or_default();
            matches!(
                candidate(name),
                Candidate::Manifest { .. } | Candidate::Script { .. } | Candidate::Defaults | Candidate::Settings
            )
        };
        self.problems.retain(|file, problem| {
            looked_at(file) && (problem.reason != Reason::NameInvalid || self.records.contains_key(file))
        });
        for os_name in names {
            let path = self.dir.join(&os_name);
            let name = os_name.to_string_lossy().into_owned();
            match candidate(&os_name) {
                Candidate::Manifest { .. } => manifests.push(name),
                Candidate::Script { .. } => scripts.push(name),
                Candidate::Defaults | Candidate::Settings => first.push(name),
                Candidate::DropIns { stem } if disk::stat(&path).is_ok_and(|found| found.is_dir()) => {
                    drop_ins.insert(stem, stamps(&path));
                }
                Candidate::DropIns { .. } => {
                    let message = format!("{name} is no directory; drop-ins are files in a directory of that name");
                    self.note_problem(&name, Reason::NotARegularFile, message);
                }
                Candidate::Wrappers => {
                    for name in disk::list(&path).unwrap_or_default() {
                        if let Candidate::Script { .. } = candidate(&name) {
                            scripts.push(format!("wrappers/{}", name.to_string_lossy()));
                        }
                    }
                }
                Candidate::Mcp => {
                    let message = format!("mcp/: servers by place are not supported yet; {}", parse::NO_STDIO_MCP);
                    self.note_problem("mcp", Reason::NotYetSupported, message);
                }
                Candidate::Refused { why } => {
                    let shown = clip(&name, 255);
                    self.note_problem(&shown, Reason::NameInvalid, format!("{shown}: {why}"));
                }
                Candidate::Misnamed { stem } => {
                    let runs = disk::stat(&path).is_ok_and(|found| found.is_executable());
                    if let (true, Err(error)) = (runs && self.discovery() != Discovery::Off, Name::parse(&stem)) {
                        let shown = clip(&name, 255);
                        self.note_problem(&shown, Reason::NameInvalid, format!("{shown}: {error}"));
                    }
                }
                Candidate::Skipped => tracing::debug!(name, "not a manifest: skipped"),
                Candidate::Other => {}
            }
        }
        let stems: BTreeSet<&String> = self.drop_ins.keys().chain(drop_ins.keys()).collect();
        for stem in stems.into_iter().filter(|stem| self.drop_ins.get(*stem) != drop_ins.get(*stem)) {
            for ending in ["yaml", "yml", "json"] {
                if let Some(record) = self.records.get_mut(&format!("{stem}.{ending}")) {
                    record.stale = true;
                }
            }
        }
        self.watch_changed |= !self.drop_ins.keys().eq(drop_ins.keys());
        for (stem, stamps) in &drop_ins {
            // Their names are kept from all logs with their folder.
            let of = |stamp: &Stamp| File { path: PathBuf::new(), identity: Some(stamp.identity()) };
            self.named.put(&format!("{stem}.yaml.d"), stamps.iter().map(of).collect());
        }
        self.drop_ins.keys().filter(|stem| !drop_ins.contains_key(*stem)).for_each(|stem| {
            self.named.remove(&format!("{stem}.yaml.d"));
        });
        self.drop_ins = drop_ins;
        for files in [&mut first, &mut manifests, &mut scripts] {
            files.sort();
        }
        // `_defaults.yaml` sorts before `_plugd.yaml`, and both are read before what they change.
        first.into_iter().chain(manifests).chain(scripts).collect()
    }

    /// Whether anything is known of the file.
    pub fn knows(&self, file: &str) -> bool {
        let own = (file == DEFAULTS && self.defaults_file.there) || (file == SETTINGS && self.settings_file.there);
        own || self.records.contains_key(file) || self.scripts.is_seen(file)
    }

    /// Whether it has been read, and what it declares is told.
    pub fn has_read(&self, file: &str) -> bool {
        self.records.contains_key(file) || (self.knows(file) && !self.scripts.is_seen(file))
    }

    pub fn known_files(&self) -> BTreeSet<String> {
        let own = [(DEFAULTS, self.defaults_file.there), (SETTINGS, self.settings_file.there)];
        let own = own.into_iter().filter(|(_, there)| *there).map(|(file, _)| file.to_string());
        self.records.keys().cloned().chain(self.scripts.files()).chain(own).collect()
    }

    /// The directories of which every name matters.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let drop_ins = self.drop_ins.keys().map(|stem| self.dir.join(format!("{stem}.yaml.d")));
        [self.dir.clone(), self.dir.join("wrappers")].into_iter().chain(drop_ins)
    }
}
