//! One look at a directory without watching it: for `plugd check`, and for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::desk::{Desk, Seen};
use super::parse::OwnedText;
use super::recall::Recall;
use super::resolve::{Busy, Resolution, Resolver};
use super::surroundings;
use crate::controller::{Declaration, Input, Rejection, Resolved};
use crate::edge::named::Named;
use crate::edge::store::Store;
use crate::model::manifest::Diagnostic;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::Settings;
use crate::model::spec::Spec;
use crate::model::view::FileProblem;

/// When no script waits for a claim any more; added to, so not the largest there is.
const LONG_AFTER: Duration = Duration::from_secs(1 << 32);

/// Everything that a directory declares now.
#[derive(Debug, Default)]
pub struct Loaded {
    pub declarations: Vec<Declaration>,
    /// From which file and line each value of a declaration came.
    pub origins: BTreeMap<Name, BTreeMap<String, String>>,
    /// Files that declare nothing, with all that is wrong in them.
    pub invalid: Vec<Invalid>,
    /// Files that make no service.
    pub problems: Vec<FileProblem>,
    /// Scripts that a manifest claimed which is gone: they start again when they are written again.
    pub withheld: Vec<String>,
    /// All files that are read or started.
    pub named: Arc<Named>,
}

#[derive(Debug)]
pub struct Invalid {
    pub file: String,
    /// None where not even a name can be read from it.
    pub rejection: Option<Rejection>,
    pub diagnostics: Vec<Diagnostic>,
    /// What was read (the file, defaults, drop-ins), to show excerpts from.
    pub sources: Vec<OwnedText>,
}

/// Reads the whole directory once. `store` is read for owners and claims; nothing is written to it
/// when it is [`Store::none`].
pub fn load(dir: &Path, settings: &Settings, store: Store) -> io::Result<Loaded> {
    load_some(dir, settings, store, None)
}

/// As [`load`], of these manifests and scripts alone, if there are any given; what other files say of the same services
/// is not seen.
pub fn load_some(dir: &Path, settings: &Settings, store: Store, only: Option<&BTreeSet<&str>>) -> io::Result<Loaded> {
    let dir = std::path::absolute(dir)?;
    let mut desk = Desk::new(
        dir.clone(),
        (settings.clone(), None),
        surroundings(&dir, settings),
        (store, Recall::default()),
        None,
        Arc::default(),
    );
    desk.looks_once = true;
    let files = match only {
        Some(only) => desk.entries_of(only),
        None => desk.entries()?,
    };
    for file in files {
        // Far in the future no script waits for a claim any more.
        match desk.look(&file, true, LONG_AFTER) {
            Seen::Done | Seen::Absent | Seen::Later(_) => {}
            Seen::Busy(held) => desk.still_writing(&held, &desk.path_of(&file)),
        }
    }
    desk.scanned();
    desk.tell_problems();
    let (withheld, problems) =
        desk.problems().iter().cloned().partition::<Vec<_>, _>(|problem| problem.reason == Reason::Withdrawn);
    let withheld = withheld.into_iter().map(|problem| problem.file).collect();
    let mut loaded = Loaded { problems, withheld, ..Loaded::default() };
    let mut rejections: Vec<Rejection> = Vec::new();
    for input in std::mem::take(&mut desk.outbox) {
        match input {
            Input::Declared(declaration) => {
                replace(&mut loaded.declarations, declaration, |declaration| &declaration.spec.name);
            }
            Input::Rejected(rejection) => replace(&mut rejections, rejection, |rejection| &rejection.name),
            Input::Withdrawn(name) => {
                loaded.declarations.retain(|declaration| declaration.spec.name != name);
                rejections.retain(|rejection| rejection.name != name);
            }
            _ => {}
        }
    }
    for (file, refusal) in desk.refusals() {
        loaded.invalid.push(Invalid {
            file: file.to_string(),
            rejection: rejections.iter().find(|rejection| rejection.source.file == file).cloned(),
            diagnostics: refusal.diagnostics.clone(),
            sources: refusal.sources.clone(),
        });
    }
    for declaration in &loaded.declarations {
        let record = desk.records.get(&declaration.source.file);
        let service =
            record.and_then(|record| record.services.iter().find(|one| one.spec.name == declaration.spec.name));
        let origins = service.and_then(|service| service.origins.clone()).unwrap_or_default();
        loaded.origins.insert(declaration.spec.name.clone(), origins);
    }
    loaded.named = desk.named;
    Ok(loaded)
}

fn replace<T>(list: &mut Vec<T>, item: T, name: impl Fn(&T) -> &Name) {
    match list.iter().position(|other| name(other) == name(&item)) {
        Some(at) => list[at] = item,
        None => list.push(item),
    }
}

/// The wrapper and the env files of one spec, for `plugd run FILE`.
pub fn resolve_one(spec: &Spec, dir: &Path, settings: &Settings) -> Resolved {
    let surroundings = surroundings(dir, settings);
    let mut resolver = Resolver::new(dir.to_path_buf(), settings.wrappers.clone(), surroundings, Recall::default());
    match resolver.resolve(spec, true) {
        Ok(resolution) => resolution.resolved,
        Err(Busy(path)) => Resolution::busy(path).resolved,
    }
}
