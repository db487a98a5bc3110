//! What the brain knows of each name, and what it is told next: only what is news.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::super::disk;
use super::super::names::{Candidate, candidate};
use super::super::parse::Refusal;
use super::Desk;
use super::own::DEFAULTS;
use crate::controller::{Declaration, Input, Rejection, Resolved, Source, Watched};
use crate::edge::lease;
use crate::edge::named::File;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::Spec;
use crate::model::view::FileProblem;

/// Problems of files that are told; a directory with more has one problem.
const PROBLEMS_MAX: usize = 200;

/// What the brain knows of a name: the version in force, and that what is in the file now is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub name: Name,
    pub good: Option<Good>,
    pub refused: Option<Box<Bad>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Good {
    pub spec: Arc<Spec>,
    pub source: Source,
    pub program: Resolved,
    pub watched: Watched,
    pub problems: Vec<(Reason, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    pub source: Source,
    pub reason: Reason,
    pub message: String,
    pub file: String,
    pub required: bool,
}

impl Desk {
    /// A file that is held open for writing too long. `looked`: the one that is not taken in for its sake.
    pub fn still_writing(&mut self, path: &Path, looked: &Path) {
        let of = self.file_of(looked);
        let user = || self.users.get(path)?.first().cloned();
        let Some(file) = self.file_of(path).or_else(user).or_else(|| of.clone()) else { return };
        let who = lease::writer_of(path).map(|pid| format!(" by pid {pid}")).unwrap_or_default();
        // If it is a log of ours, by whichever name, that lets go of it.
        let identity = disk::stat(path).ok().map(|there| there.identity());
        self.named.add(&file, File { path: path.to_path_buf(), identity });
        let shown = path.strip_prefix(&self.dir).unwrap_or(path).display();
        let message = format!("{shown} is held open for writing{who}; it is read when that ends");
        if file == DEFAULTS && self.defaults_awaited {
            self.refuse_defaults(Reason::StillWriting, &message);
            return;
        }
        if self.problems.get(&file).is_none_or(|problem| problem.reason != Reason::StillWriting) {
            self.note_problem(&file, Reason::StillWriting, message.clone());
        }
        // After a restart nothing is in force of it: what it declared runs on, it is not withdrawn.
        let is_service = |file: &String| {
            let kind = candidate(file.as_ref());
            matches!(kind, Candidate::Manifest { .. } | Candidate::Script { .. }) && !self.records.contains_key(file)
        };
        if let Some(file) = of.filter(|file| self.scanning && is_service(file)) {
            let stem = self.owners.recorded_of(&file).into_iter().next();
            let stem = stem.or_else(|| file.rsplit_once('.').map(|(stem, _)| stem.to_string())).unwrap_or_default();
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            let is_drop_in = matches!(candidate(folder), Candidate::DropIns { .. });
            let wrong = Some(shown.to_string()).filter(|_| is_drop_in);
            let refusal = Refusal { file: wrong, ..Refusal::of_service(&stem, Reason::StillWriting, message) };
            self.refuse(&file, None, refusal, "");
            self.keep(&file, |record| record.stamp = None);
        }
    }

    pub fn not_writing(&mut self, path: &Path) {
        if let Some(file) = self.file_of(path).or_else(|| self.users.get(path)?.first().cloned()) {
            self.problems.retain(|name, problem| *name != file || problem.reason != Reason::StillWriting);
        }
    }

    /// The first scan is over: what waited for a recorded owner is settled.
    pub fn scanned(&mut self) {
        self.scanning = false;
        let held = std::mem::take(&mut self.held);
        self.settle_all(held);
        self.last_good.scanned();
    }

    pub fn is_scanning(&self) -> bool {
        self.scanning
    }

    /// The first scan finds a file that was a service in the last run.
    pub fn was_service(&self, file: &str) -> bool {
        self.scanning && !self.owners.recorded_of(file).is_empty()
    }

    pub fn settle_all(&mut self, keys: BTreeSet<String>) {
        for key in keys {
            self.settle(&key);
        }
    }

    /// Tells what the name is now, if that is news.
    pub(super) fn settle(&mut self, key: &str) {
        if self.scanning && self.owners.awaits_recorded(key) {
            self.held.insert(key.to_string());
            return;
        }
        let ownership = self.owners.settle(key);
        let before = self.told.get(key);
        let Some((file, name)) = ownership.owner else {
            self.conflicts.remove(key);
            if let Some(told) = self.told.remove(key) {
                self.store.disown(told.name.clone());
                self.outbox.push(Input::Withdrawn(told.name));
            }
            return;
        };
        let conflicts: Vec<FileProblem> = ownership
            .others
            .iter()
            .map(|(other, theirs)| FileProblem {
                file: other.clone(),
                reason: Reason::NameConflict,
                message: conflict(&name, &file, theirs, other),
            })
            .collect();
        let Some(record) = self.records.get(&file) else { return };
        let told = Told { good: record.good(&file, &name, &conflicts), refused: record.bad(&file), name };
        if conflicts.is_empty() {
            self.conflicts.remove(key);
        } else {
            self.conflicts.insert(key.to_string(), conflicts);
        }
        if (told.good.is_none() && told.refused.is_none()) || before.is_some_and(|before| **before == told) {
            return;
        }
        if before.is_none_or(|before| before.file() != told.file()) {
            self.store.owner(told.name.clone(), file);
        }
        if let Some(before) = before.filter(|before| before.name != told.name) {
            self.outbox.push(Input::Withdrawn(before.name.clone()));
        }
        self.outbox.extend(told.inputs(before.filter(|before| before.name == told.name).map(|before| &**before)));
        self.told.insert(key.to_string(), Box::new(told));
    }

    /// Puts the list of file problems into the out tray, if it changed.
    pub fn tell_problems(&mut self) {
        let all = self.problems.values().chain(self.conflicts.values().flatten());
        let mut problems: Vec<FileProblem> = all.take(PROBLEMS_MAX).cloned().collect();
        problems.sort_by(|a, b| a.file.cmp(&b.file));
        if problems != self.problems_told {
            self.problems_told.clone_from(&problems);
            self.outbox.push(Input::FileProblems(problems));
        }
    }

    pub fn problems(&self) -> &[FileProblem] {
        &self.problems_told
    }

    pub fn problem_of(&self, file: &str) -> Option<&FileProblem> {
        self.problems.get(file)
    }

    pub fn drop_problem(&mut self, file: &str) {
        self.problems.remove(file);
    }

    pub fn note_problem(&mut self, file: &str, reason: Reason, message: String) {
        self.problems.insert(file.to_string(), FileProblem { file: file.to_string(), reason, message });
    }
}

impl Told {
    /// What the brain is to be told, which knows `before` of this name. The refusal comes after what
    /// stays in force: a declaration takes an earlier refusal back.
    fn inputs(&self, before: Option<&Told>) -> Vec<Input> {
        let mut inputs = Vec::new();
        let taken_back = self.refused.is_none() && before.is_some_and(|before| before.refused.is_some());
        let good = self
            .good
            .as_ref()
            .filter(|good| taken_back || before.and_then(|before| before.good.as_ref()) != Some(*good));
        if let Some(Good { spec, source, program, watched, problems }) = good.cloned() {
            inputs.push(Input::Declared(Declaration { spec, source, program, watched, problems }));
        }
        let known = inputs.is_empty() && before.is_some_and(|before| before.refused == self.refused);
        if let Some(bad) = self.refused.as_ref().filter(|_| !known) {
            let Bad { source, reason, message, file, required } = (**bad).clone();
            let name = self.name.clone();
            inputs.push(Input::Rejected(Rejection { name, source, reason, message, file, required }));
        }
        inputs
    }

    fn file(&self) -> Option<&str> {
        let source = self.good.as_ref().map(|good| &good.source).or(self.refused.as_ref().map(|bad| &bad.source));
        source.map(|source| source.file.as_str())
    }
}

fn conflict(name: &Name, owner: &str, theirs: &Name, other: &str) -> String {
    if name == theirs {
        format!("{other} and {owner} both declare {name}; {owner} keeps it, rename the other")
    } else {
        format!("{other} declares {theirs}, which differs from {name} of {owner} only in case; rename it")
    }
}
