//! What declarations depend on beside their own file: wrappers, env files, watched files, targets of links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::disk::{self, Stamp};
use super::super::owners;
use super::record::{Record, Service};
use super::{Desk, Seen};
use crate::edge::named::{self, File};
use crate::model::name::Name;

impl Desk {
    /// Whether a change of this path touches a service that is declared.
    pub fn is_declared(&self, path: &Path) -> bool {
        let of = |file: &str| self.records.get(file).is_some_and(|record| !record.services.is_empty());
        self.users.get(path).is_some_and(|files| {
            files
                .iter()
                .any(|file| self.records.get(file).is_some_and(|record| record.services.iter().any(Service::is_found)))
        }) || self.file_of(path).is_some_and(|file| of(&file))
    }

    /// Something that services depend on changed: a wrapper, an env file, a link's target.
    pub fn dependency(&mut self, path: &Path, complete: bool, now: Duration) -> Seen {
        let files: Vec<String> = self.users.get(path).into_iter().flatten().cloned().collect();
        let mut seen = Seen::Done;
        for file in files {
            let Some(record) = self.records.get(&file) else { continue };
            if self.dir.join(&file) == path {
                // A script is its own wrapper: the look at the file itself follows.
                continue;
            }
            if record.links.iter().any(|link| link == path) {
                seen = keep_worst(seen, self.look(&file, complete, now));
                continue;
            }
            // Many files that change at once are one look.
            if !self.refreshed.insert(file.clone()) {
                continue;
            }
            let mut services = record.services.clone();
            for service in &mut services {
                match self.resolver.resolve(&service.spec, complete) {
                    Ok(resolution) => service.resolution = resolution,
                    Err(busy) => return Seen::Busy(busy.0),
                }
            }
            self.unlink(&file);
            if let Some(record) = self.records.get_mut(&file) {
                record.services = services;
            }
            self.link(&file);
            let names = self.records.get(&file).into_iter().flat_map(|record| &record.services);
            let keys = names.map(|service| owners::key(&service.spec.name)).collect();
            self.settle_all(keys);
        }
        seen
    }

    /// Notes on which paths the file depends.
    pub(super) fn link(&mut self, file: &str) {
        let Some(record) = self.records.get(file) else { return };
        for path in record.dependencies() {
            self.watch_changed |= !self.users.contains_key(path);
            self.users.entry(path.clone()).or_default().insert(file.to_string());
        }
        self.watch_changed |= record.folders().any(|folder| !self.listened.contains(folder));
        self.named.put(file, self.named_by(file, record));
    }

    /// All files that it leads to, itself among them.
    fn named_by(&self, file: &str, record: &Record) -> Vec<File> {
        let own = File { path: self.path_of(file), identity: record.stamp.as_ref().map(Stamp::identity) };
        let found =
            record.dependencies().map(|path| File { path: path.clone(), identity: self.resolver.identity(path) });
        let others = record.services.iter().flat_map(|service| named::of_spec(&service.spec));
        let others = others.map(|path| File {
            path: path.to_path_buf(),
            identity: disk::stat(path).ok().as_ref().map(Stamp::identity),
        });
        [own].into_iter().chain(found).chain(others).collect()
    }

    /// Folders beside the directory of which every name matters to somebody.
    pub fn listened(&mut self) -> &BTreeSet<PathBuf> {
        self.listened = self.records.values().flat_map(|record| record.folders()).cloned().collect();
        &self.listened
    }

    pub fn is_listened(&self, folder: &Path) -> bool {
        self.listened.contains(folder)
    }

    /// For each file one path that it depends on, if there is any: a look at that is a look at all.
    pub fn dependencies(&self) -> BTreeSet<PathBuf> {
        let one = |file: &String| {
            let own = self.dir.join(file);
            let services = self.records.get(file).into_iter().flat_map(|record| &record.services);
            services.flat_map(|service| &service.resolution.watched).find(|path| **path != own).cloned()
        };
        self.records.keys().filter_map(one).collect()
    }

    pub(super) fn unlink(&mut self, file: &str) {
        let Some(record) = self.records.get(file) else { return };
        for path in record.dependencies() {
            if let Some(files) = self.users.get_mut(path) {
                files.remove(file);
                if files.is_empty() {
                    self.users.remove(path);
                }
            }
        }
    }

    /// Forgets contents of files that nobody names any more.
    pub fn tidy(&mut self) {
        let services = self.records.values().flat_map(|record| &record.services);
        let names: BTreeSet<&Name> = services.map(|service| &service.spec.name).collect();
        self.resolver.retain(|path| self.users.contains_key(path), |name| names.contains(name));
    }
}

fn keep_worst(a: Seen, b: Seen) -> Seen {
    if a == Seen::Done { b } else { a }
}
