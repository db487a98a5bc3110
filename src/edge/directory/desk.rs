//! What each file declares, and what was told of it.
//!
//! The desk looks at one file at a time, keeps what is in force of it, and puts into its out tray
//! what the brain does not know yet. It never waits: what is not ready is looked at again when the
//! thread says so.
//!
//! - `entries`   the names in the directory
//! - `manifests` one manifest: read, accepted, refused (`scripts` beside the desk reads the others)
//! - `drop_ins`  what is read together with a manifest
//! - `own`       `_defaults.yaml` and `_plugd.yaml`
//! - `depends`   wrappers, env files, watched files, targets of links
//! - `absence`   files that are away
//! - `record`    what is in force of one file
//! - `told`      what the brain knows of each name

mod absence;
mod depends;
mod drop_ins;
mod entries;
mod manifests;
mod own;
mod record;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::OnSettings;
use super::accepted::LastGood;
use super::disk::Stamp;
use super::names::{Candidate, candidate};
use super::owners::Owners;
use super::parse::{OwnedText, Refusal};
use super::recall::Recall;
use super::resolve::Resolver;
use super::trust::Surroundings;
use crate::controller::Input;
use crate::edge::named::Named;
use crate::edge::store::Store;
use crate::model::settings::{Discovery, Settings};
use crate::model::view::FileProblem;
pub use drop_ins::DROP_INS_MAX;
use own::OwnFile;
pub(super) use own::{DEFAULTS, SETTINGS, settings_text};
use record::Record;
use told::Told;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Done,
    /// Somebody writes this file (the one looked at, or one that it needs).
    Busy(PathBuf),
    Absent,
    /// A script that waits for a manifest to claim it.
    Later(Duration),
}

pub(super) struct Desk {
    pub dir: PathBuf,
    settings: Settings,
    surroundings: Surroundings,
    store: Store,
    on_settings: Option<OnSettings>,
    resolver: Resolver,
    owners: Owners,
    pub records: BTreeMap<String, Box<Record>>,
    /// It is no controller's: see [`load`](super::load).
    pub looks_once: bool,
    told: BTreeMap<String, Box<Told>>,
    conflicts: BTreeMap<String, Vec<FileProblem>>,
    problems: BTreeMap<String, FileProblem>,
    problems_told: Vec<FileProblem>,
    pub defaults: Option<OwnedText>,
    /// Somebody writes the first ones: what is to be read with them waits.
    defaults_awaited: bool,
    /// Why a manifest is refused that would have been read with them.
    defaults_lacking: Option<&'static str>,
    defaults_file: OwnFile,
    settings_file: OwnFile,
    /// What the settings in force were read from, until the file is looked at.
    settings_text: Option<Vec<u8>>,
    last_good: LastGood,
    /// Stems with a `STEM.yaml.d/`, and what was in it.
    drop_ins: BTreeMap<String, Vec<Stamp>>,
    /// Files that declare, by each path that they depend on.
    pub users: BTreeMap<PathBuf, BTreeSet<String>>,
    /// All files that are named, for those who must keep off.
    pub named: Arc<Named>,
    /// Folders of which all names are told.
    listened: BTreeSet<PathBuf>,
    /// Files whose dependencies were looked at in this round.
    pub refreshed: BTreeSet<String>,
    pub scripts: super::scripts::Scripts,
    /// Names whose recorded owner has not been read yet; settled at the end of the first scan.
    held: BTreeSet<String>,
    scanning: bool,
    pub outbox: Vec<Input>,
    /// Files to be looked at again because of what they are read with.
    pub again: BTreeSet<String>,
    /// The paths to be watched are no longer the same.
    pub watch_changed: bool,
}

impl Desk {
    pub fn new(
        dir: PathBuf,
        (settings, settings_text): (Settings, Option<Vec<u8>>),
        surroundings: Surroundings,
        (store, recall): (Store, Recall),
        on_settings: Option<OnSettings>,
        named: Arc<Named>,
    ) -> Desk {
        let loaded = store.load();
        Desk {
            resolver: Resolver::new(dir.clone(), settings.wrappers.clone(), surroundings, recall),
            owners: Owners::new(&loaded.owners),
            scripts: super::scripts::Scripts::new(loaded.claims),
            dir,
            settings,
            surroundings,
            last_good: LastGood::new(store.clone()),
            store,
            on_settings,
            records: BTreeMap::new(),
            looks_once: false,
            told: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            problems: BTreeMap::new(),
            problems_told: Vec::new(),
            defaults: None,
            defaults_awaited: false,
            defaults_lacking: None,
            defaults_file: OwnFile::default(),
            settings_file: OwnFile::default(),
            settings_text,
            drop_ins: BTreeMap::new(),
            users: BTreeMap::new(),
            named,
            listened: BTreeSet::new(),
            refreshed: BTreeSet::new(),
            held: BTreeSet::new(),
            scanning: true,
            outbox: Vec::new(),
            again: BTreeSet::new(),
            watch_changed: true,
        }
    }

    /// Looks at one file and notes what it declares now.
    pub fn look(&mut self, file: &str, complete: bool, now: Duration) -> Seen {
        let name = Path::new(file).file_name().unwrap_or_default();
        match candidate(name) {
            Candidate::Manifest { stem } if !file.contains('/') => self.look_at_manifest(file, &stem, complete, now),
            Candidate::Script { stem } => self.look_at_script(file, &stem, complete, now),
            Candidate::Defaults => self.look_at_defaults(complete),
            Candidate::Settings => self.look_at_settings(complete),
            Candidate::Manifest { .. }
            | Candidate::DropIns { .. }
            | Candidate::Wrappers
            | Candidate::Mcp
            | Candidate::Misnamed { .. }
            | Candidate::Refused { .. }
            | Candidate::Skipped
            | Candidate::Other => Seen::Done,
        }
    }

    /// All files are to be read again, by the thread.
    pub fn read_all_again(&mut self) {
        for (file, record) in &mut self.records {
            record.stale = true;
            self.again.insert(file.clone());
        }
    }

    pub fn set_settings(&mut self, settings: Settings) {
        self.surroundings.trust = settings.trust;
        self.resolver.surroundings = self.surroundings;
        self.resolver.further.clone_from(&settings.wrappers);
        let again = (self.settings.trust, &self.settings.wrappers, self.settings.discovery)
            != (settings.trust, &settings.wrappers, settings.discovery);
        self.settings = settings;
        if again {
            self.read_all_again();
        }
    }

    pub fn discovery(&self) -> Discovery {
        self.settings.discovery
    }

    /// The files that were refused.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.records.iter().filter_map(|(file, record)| Some((file.as_str(), record.refused.as_ref()?)))
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }
}
