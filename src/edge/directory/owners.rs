//! Who owns a name. Pure.
//!
//! The first file that declares a name keeps it while it exists; after a restart that is the
//! recorded owner, else the first in lexical order. Names that differ only in case are one. A
//! manifest takes a name over from a discovered script without a conflict.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::name::Name;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Manifest,
    Script,
}

/// Who has a name now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    pub owner: Option<(String, Name)>,
    /// The files that declare it in vain, with their spelling of it.
    pub others: Vec<(String, Name)>,
}

#[derive(Debug, Default)]
pub(super) struct Owners {
    names: HashMap<String, Entry>,
    files: HashMap<String, Box<[String]>>,
    /// Files that are gone for the moment (an editor between rename and create).
    absent: BTreeSet<String>,
    recorded: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Entry {
    /// In their order; nearly always one.
    declared: Vec<(Kind, String, Name)>,
    owner: Option<String>,
}

/// Names equal but for case are one name.
pub(super) fn key(name: &Name) -> String {
    name.as_str().to_ascii_lowercase()
}

impl Owners {
    /// `recorded`: the owner of each name as of the last run.
    pub fn new(recorded: &BTreeMap<Name, String>) -> Owners {
        let recorded = recorded.iter().map(|(name, file)| (key(name), file.clone())).collect();
        Owners { recorded, ..Owners::default() }
    }

    /// The names that `file` declares from now on. Returns the keys whose ownership is to be settled.
    pub fn declare(&mut self, file: &str, kind: Kind, names: impl IntoIterator<Item = Name>) -> BTreeSet<String> {
        let mut touched = self.keys_of(file);
        self.files.remove(file);
        for key in &touched {
            if let Some(entry) = self.names.get_mut(key) {
                entry.declared.retain(|(_, other, _)| other != file);
            }
        }
        let mut declared = BTreeSet::new();
        for name in names {
            let key = key(&name);
            let entry = self.names.entry(key.clone()).or_default();
            // One file that spells a name in two ways declares it once, as it is spelt last.
            entry.declared.retain(|(_, other, _)| other != file);
            let place = entry.declared.partition_point(|(other, by, _)| (*other, by.as_str()) < (kind, file));
            entry.declared.reserve_exact(1);
            entry.declared.insert(place, (kind, file.to_string(), name));
            declared.insert(key);
        }
        touched.extend(declared.iter().cloned());
        if !declared.is_empty() {
            self.files.insert(file.to_string(), declared.into_iter().collect());
        }
        touched
    }

    fn keys_of(&self, file: &str) -> BTreeSet<String> {
        self.files.get(file).into_iter().flatten().cloned().collect()
    }

    /// The file is not there right now: another one of its name takes over at once (a rename that
    /// keeps `name:`), but nothing is withdrawn yet. Returns the keys to be settled.
    pub fn miss(&mut self, file: &str, absent: bool) -> BTreeSet<String> {
        let changed = if absent { self.absent.insert(file.to_string()) } else { self.absent.remove(file) };
        if changed { self.keys_of(file) } else { BTreeSet::new() }
    }

    /// Settles who owns the name now, and remembers it.
    pub fn settle(&mut self, key: &str) -> Ownership {
        let Some(entry) = self.names.get_mut(key) else { return Ownership::default() };
        let here = |file: &String| !self.absent.contains(file);
        let any_here = entry.declared.iter().any(|(_, file, _)| here(file));
        let best_kind =
            entry.declared.iter().filter(|(_, file, _)| here(file) || !any_here).map(|(kind, ..)| *kind).min();
        let fits = |file: &String| {
            (here(file) || !any_here)
                && entry.declared.iter().any(|(kind, other, _)| other == file && Some(*kind) == best_kind)
        };
        let keeps = entry.owner.take().filter(fits);
        let recorded = || self.recorded.get(key).cloned().filter(fits);
        let first = || entry.declared.iter().map(|(_, file, _)| file).find(|file| fits(file)).cloned();
        let owner = keeps.or_else(recorded).or_else(first);
        entry.owner.clone_from(&owner);
        let mut ownership = Ownership::default();
        for (kind, file, name) in &entry.declared {
            if Some(file) == owner.as_ref() {
                ownership.owner = Some((file.clone(), name.clone()));
            } else if Some(*kind) == best_kind && here(file) {
                ownership.others.push((file.clone(), name.clone()));
            }
        }
        if entry.declared.is_empty() {
            self.names.remove(key);
        }
        // The record speaks for the start only: from now on the owner itself is remembered.
        self.recorded.remove(key);
        ownership
    }

    /// The file that owned the name in the last run.
    pub fn recorded_owner(&self, name: &Name) -> Option<&str> {
        self.recorded.get(&key(name)).map(String::as_str)
    }

    /// The file that owns the name.
    pub fn owner(&self, name: &Name) -> Option<&str> {
        self.names.get(&key(name))?.owner.as_deref()
    }

    /// Whether the name has a recorded owner that has not declared anything yet.
    pub fn awaits_recorded(&self, key: &str) -> bool {
        self.recorded.get(key).is_some_and(|owner| !self.files.contains_key(owner))
    }

    /// The names, as they are spelt in the record, that `file` owned in the last run.
    pub fn recorded_of(&self, file: &str) -> Vec<String> {
        self.recorded.iter().filter(|(_, owner)| *owner == file).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("valid")
    }

    fn owner(owners: &mut Owners, key: &str) -> Option<String> {
        owners.settle(key).owner.map(|(file, _)| file)
    }

    #[test]
    fn the_first_owner_keeps_the_name_and_the_second_takes_over_when_it_goes() {
        let mut owners = Owners::default();
        owners.declare("b.yaml", Kind::Manifest, [name("web")]);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("b.yaml"));
        owners.declare("a.yaml", Kind::Manifest, [name("web")]);
        let both = owners.settle("web");
        assert_eq!(both.owner.expect("owned").0, "b.yaml");
        assert_eq!(both.others, [("a.yaml".to_string(), name("web"))]);
        assert_eq!(owners.declare("b.yaml", Kind::Manifest, []), BTreeSet::from(["web".to_string()]));
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("a.yaml"));
    }

    #[test]
    fn after_a_restart_the_recorded_owner_has_it_else_the_first_in_order() {
        let mut owners = Owners::new(&BTreeMap::from([(name("web"), "b.yaml".to_string())]));
        owners.declare("a.yaml", Kind::Manifest, [name("web")]);
        assert!(owners.awaits_recorded("web"));
        owners.declare("b.yaml", Kind::Manifest, [name("web")]);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("b.yaml"));
        let mut owners = Owners::default();
        owners.declare("b.yaml", Kind::Manifest, [name("web")]);
        owners.declare("a.yaml", Kind::Manifest, [name("web")]);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("a.yaml"));
    }

    #[test]
    fn names_that_differ_only_in_case_conflict() {
        let mut owners = Owners::default();
        owners.declare("a.yaml", Kind::Manifest, [name("Web")]);
        owners.declare("b.yaml", Kind::Manifest, [name("web")]);
        let settled = owners.settle("web");
        assert_eq!(settled.owner, Some(("a.yaml".into(), name("Web"))));
        assert_eq!(settled.others, [("b.yaml".into(), name("web"))]);
    }

    #[test]
    fn a_manifest_takes_over_from_a_script_without_a_conflict_and_gives_it_back() {
        let mut owners = Owners::default();
        owners.declare("web.sh", Kind::Script, [name("web")]);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("web.sh"));
        owners.declare("z.yaml", Kind::Manifest, [name("web")]);
        let settled = owners.settle("web");
        assert_eq!((settled.owner.expect("owned").0.as_str(), settled.others.len()), ("z.yaml", 0));
        owners.declare("z.yaml", Kind::Manifest, []);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("web.sh"));
    }

    #[test]
    fn a_renamed_manifest_hands_its_name_over_at_once_and_an_absence_alone_withdraws_nothing() {
        let mut owners = Owners::default();
        owners.declare("a.yaml", Kind::Manifest, [name("web")]);
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("a.yaml"));
        assert!(owners.miss("a.yaml", true).contains("web"));
        assert_eq!(owner(&mut owners, "web").as_deref(), Some("a.yaml"), "nobody else has it");
        owners.declare("b.yaml", Kind::Manifest, [name("web")]);
        let settled = owners.settle("web");
        assert_eq!((settled.owner.expect("owned").0.as_str(), settled.others.len()), ("b.yaml", 0));
    }
}
