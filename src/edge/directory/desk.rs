//! What each file declares, and what was told of it.
//!
//! The desk looks at one file at a time, keeps what is in force of it, and puts into its out tray
//! what the brain does not know yet. It never waits: what is not ready is looked at again when the
//! thread says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::OnSettings;
use super::disk::{self, Stamp, Unread};
use super::lease;
use super::names::{Candidate, candidate};
use super::parse::{self, Context, OwnedText, Parsed, Refusal};
use super::register::{self, Kind, Register};
use super::resolve::{Resolution, Resolver};
use super::trust::{Finding, Surroundings};
use crate::controller::{Declaration, Input, Rejection, Resolved, Source};
use crate::edge::store::Store;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::{Discovery, Settings};
use crate::model::spec::Spec;
use crate::model::text::clip;
use crate::model::view::FileProblem;

/// Problems of files that are told; a directory with more has one problem.
const PROBLEMS_MAX: usize = 200;
/// A drop-in directory with more is not meant.
const DROP_INS_MAX: usize = 64;

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

#[derive(Debug)]
pub(super) struct Record {
    kind: Kind,
    stamp: Option<Stamp>,
    sha: String,
    trust: Option<Finding>,
    services: Vec<Service>,
    pub refused: Option<Refusal>,
    /// Scripts that it names.
    mentions: Box<[String]>,
    /// Read it again though it has not changed: something that it is read with has.
    stale: bool,
    links: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
struct Service {
    spec: Arc<Spec>,
    warnings: Vec<(Reason, String)>,
    resolution: Resolution,
}

#[derive(Debug, Clone, PartialEq)]
struct Told {
    name: Name,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Declared { spec: Arc<Spec>, source: Source, program: Resolved, problems: Vec<(Reason, String)> },
    Rejected { source: Source, reason: Reason, message: String },
}

pub(super) struct Desk {
    pub dir: PathBuf,
    settings: Settings,
    surroundings: Surroundings,
    store: Store,
    on_settings: Option<OnSettings>,
    resolver: Resolver,
    register: Register,
    pub records: BTreeMap<String, Box<Record>>,
    told: BTreeMap<String, Box<Told>>,
    conflicts: BTreeMap<String, Vec<FileProblem>>,
    problems: BTreeMap<String, FileProblem>,
    problems_told: Vec<FileProblem>,
    pub defaults: Option<OwnedText>,
    defaults_stamp: Option<Stamp>,
    settings_stamp: Option<Stamp>,
    /// Stems with a `STEM.yaml.d/`, and what was in it.
    drop_ins: BTreeMap<String, Vec<Stamp>>,
    /// Files that declare, by each path that they depend on.
    pub users: BTreeMap<PathBuf, BTreeSet<String>>,
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
        settings: Settings,
        surroundings: Surroundings,
        store: Store,
        on_settings: Option<OnSettings>,
    ) -> Desk {
        let loaded = store.load();
        Desk {
            resolver: Resolver::new(dir.clone(), settings.wrappers.clone(), surroundings),
            register: Register::new(&loaded.owners),
            scripts: super::scripts::Scripts::new(loaded.claims),
            dir,
            settings,
            surroundings,
            store,
            on_settings,
            records: BTreeMap::new(),
            told: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            problems: BTreeMap::new(),
            problems_told: Vec::new(),
            defaults: None,
            defaults_stamp: None,
            settings_stamp: None,
            drop_ins: BTreeMap::new(),
            users: BTreeMap::new(),
            held: BTreeSet::new(),
            scanning: true,
            outbox: Vec::new(),
            again: BTreeSet::new(),
            watch_changed: true,
        }
    }

    /// Whether a change of this path touches a service that is declared.
    pub fn is_declared(&self, path: &Path) -> bool {
        let of = |file: &str| self.records.get(file).is_some_and(|record| !record.services.is_empty());
        self.users.get(path).is_some_and(|files| {
            files
                .iter()
                .any(|file| self.records.get(file).is_some_and(|record| record.services.iter().any(Service::is_found)))
        }) || self.file_of(path).is_some_and(|file| of(&file))
    }

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
        let (mut first, mut manifests, mut scripts) = (Vec::new(), Vec::new(), Vec::new());
        let mut drop_ins = BTreeMap::new();
        self.problems
            .retain(|_, problem| problem.reason != Reason::NameInvalid || self.records.contains_key(&problem.file));
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let os_name = entry.file_name();
            let name = os_name.to_string_lossy().into_owned();
            match candidate(&os_name) {
                Candidate::Manifest { .. } => manifests.push(name),
                Candidate::Script { .. } => scripts.push(name),
                Candidate::Defaults | Candidate::Settings => first.push(name),
                Candidate::DropIns { stem } => drop_ins.extend(stamps(&entry.path()).map(|stamps| (stem, stamps))),
                Candidate::Wrappers => {
                    for entry in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                        if let Candidate::Script { .. } = candidate(&entry.file_name()) {
                            scripts.push(format!("wrappers/{}", entry.file_name().to_string_lossy()));
                        }
                    }
                }
                Candidate::Mcp => {
                    let message = "mcp/: servers by place are not supported yet; write a manifest with `mcp: stdio`";
                    self.note_problem("mcp", Reason::NotYetSupported, message.to_string());
                }
                Candidate::Refused { why } => {
                    let shown = clip(&name, 255);
                    self.note_problem(&shown, Reason::NameInvalid, format!("{shown}: {why}"));
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
        self.drop_ins = drop_ins;
        for files in [&mut first, &mut manifests, &mut scripts] {
            files.sort();
        }
        // `_defaults.yaml` sorts before `_plugd.yaml`, and both are read before what they change.
        Ok(first.into_iter().chain(manifests).chain(scripts).collect())
    }

    /// Looks at one file and notes what it declares now.
    pub fn look(&mut self, file: &str, complete: bool, now: Duration) -> Seen {
        let name = Path::new(file).file_name().unwrap_or_default();
        match candidate(name) {
            Candidate::Manifest { stem } if !file.contains('/') => self.look_at_manifest(file, &stem, complete),
            Candidate::Script { stem } => self.look_at_script(file, &stem, complete, now),
            Candidate::Defaults => self.look_at_defaults(complete),
            Candidate::Settings => self.look_at_settings(complete),
            Candidate::Manifest { .. }
            | Candidate::DropIns { .. }
            | Candidate::Wrappers
            | Candidate::Mcp
            | Candidate::Refused { .. }
            | Candidate::Skipped
            | Candidate::Other => Seen::Done,
        }
    }

    fn look_at_manifest(&mut self, file: &str, stem: &str, complete: bool) -> Seen {
        let path = self.path_of(file);
        let before = self.records.get(file).filter(|record| !record.stale);
        if before.is_some_and(|record| record.stamp.is_some() && disk::stat(&path).ok() == record.stamp) {
            self.here_again(file);
            return Seen::Done;
        }
        let content = match disk::read(&path, disk::MANIFEST_MAX, complete) {
            Ok(content) => content,
            Err(Unread::Absent) => return Seen::Absent,
            Err(Unread::Busy) => return Seen::Busy(path),
            Err(Unread::NotAFile(kind)) => {
                let message = format!("{file} is {kind}, not a regular file; it is not opened");
                return self.refuse(file, None, Refusal::of_file(Reason::NotARegularFile, message), "");
            }
            Err(Unread::TooLarge(size)) => {
                let message = format!("{file} has {size} bytes; a manifest has at most 65536");
                return self.refuse(file, None, Refusal::of_file(Reason::TooLarge, message), "");
            }
            Err(Unread::Failed(error)) => {
                let message = format!("{file} cannot be read: {error}");
                return self.refuse(file, None, Refusal::of_service(stem, Reason::Unreadable, message), "");
            }
        };
        // open(2) shows a file that it creates a moment before it counts its writer.
        let newborn = content.bytes.is_empty() && !complete && !disk::is_quiet(&content.stamp);
        if newborn && !self.records.contains_key(file) {
            return Seen::Busy(path);
        }
        let sha = parse::sha(&content.bytes);
        let links = disk::hops(&path);
        let trust = self.surroundings.judge(&path, &content.stamp, None);
        if let Some(record) = self.records.get_mut(file)
            && !record.stale
            && record.stamp.is_some()
            && (record.sha == sha && record.trust == trust && record.links == links)
        {
            record.stamp = Some(content.stamp);
            self.here_again(file);
            return Seen::Done;
        }
        if let Some(finding) = trust.as_ref().filter(|finding| finding.refused) {
            let refusal = Refusal::of_service(stem, Reason::UntrustedFile, finding.message.clone());
            let seen = self.refuse(file, Some(content.stamp), refusal, &sha);
            self.keep(file, |record| (record.trust, record.links) = (trust, links));
            return seen;
        }
        let context = match self.context(stem) {
            Ok(context) => context,
            Err(busy) => return Seen::Busy(busy),
        };
        let (parsed, mentions) = parse::manifest(file, stem, &self.dir, &content, &context);
        match parsed {
            Err(refusal) => {
                let seen = self.refuse(file, Some(content.stamp), refusal, &sha);
                self.keep(file, |record| (record.trust, record.links, record.mentions) = (trust, links, mentions));
                self.claims_changed(file);
                seen
            }
            Ok(parsed) => {
                let mut services = Vec::with_capacity(parsed.len());
                for Parsed { spec, mut warnings } in parsed {
                    warnings.extend(trust.iter().map(|finding| (Reason::UntrustedFile, finding.message.clone())));
                    match self.resolver.resolve(&spec, complete) {
                        Ok(resolution) => services.push(Service { spec, warnings, resolution }),
                        Err(busy) => return Seen::Busy(busy.0),
                    }
                }
                let kind = Kind::Manifest;
                let stamp = Some(content.stamp);
                let record = Record { kind, stamp, sha, trust, services, refused: None, mentions, stale: false, links };
                self.accept(file, record);
                self.claims_changed(file);
                Seen::Done
            }
        }
    }

    /// Puts a valid record in force.
    pub(super) fn accept(&mut self, file: &str, record: Record) {
        self.problems.remove(file);
        let names: Vec<Name> = record.services.iter().map(|service| service.spec.name.clone()).collect();
        let mut touched = self.register.miss(file, false);
        touched.extend(self.register.declare(file, record.kind, names));
        self.unlink(file);
        self.records.insert(file.to_string(), Box::new(record));
        self.link(file);
        self.settle_all(touched);
    }

    /// Refuses what is in the file now; what was in force of it stays.
    pub(super) fn refuse(&mut self, file: &str, stamp: Option<Stamp>, refusal: Refusal, sha: &str) -> Seen {
        let mut touched = self.register.miss(file, false);
        let stamp = stamp.or_else(|| disk::stat(&self.path_of(file)).ok());
        let record = self.records.entry(file.to_string()).or_insert_with(|| {
            Box::new(Record {
                kind: Kind::Manifest,
                stamp,
                sha: String::new(),
                trust: None,
                services: Vec::new(),
                refused: None,
                mentions: Box::default(),
                stale: false,
                links: Vec::new(),
            })
        });
        (record.stamp, record.sha, record.stale) = (stamp, sha.to_string(), false);
        let in_force = record.services.iter().map(|service| service.spec.name.clone());
        let names: Vec<Name> =
            if record.services.is_empty() { refusal.name.iter().cloned().collect() } else { in_force.collect() };
        let (kind, of_file) = (record.kind, refusal.name.is_none());
        let (reason, message) = (refusal.reason, refusal.message.clone());
        record.refused = Some(refusal);
        if of_file {
            self.note_problem(file, reason, message);
        } else {
            self.problems.remove(file);
        }
        touched.extend(self.register.declare(file, kind, names));
        self.settle_all(touched);
        Seen::Done
    }

    /// The file was away for a moment and is back.
    fn here_again(&mut self, file: &str) {
        let touched = self.register.miss(file, false);
        self.settle_all(touched);
    }

    /// The file is away; another one of its name may take over, but nothing is withdrawn yet.
    pub fn missing(&mut self, file: &str) {
        let touched = self.register.miss(file, true);
        self.settle_all(touched);
    }

    /// The file is gone for good.
    pub fn gone(&mut self, file: &str) {
        match candidate(Path::new(file).file_name().unwrap_or_default()) {
            Candidate::Defaults if self.defaults_stamp.take().is_some() => {
                self.problems.remove(file);
                self.set_defaults(None);
                return;
            }
            Candidate::Settings if self.settings_stamp.take().is_some() => {
                self.problems.remove(file);
                self.tell_settings(None);
                return;
            }
            _ => {}
        }
        self.problems.remove(file);
        self.unlink(file);
        let mentions = self.records.remove(file).map(|record| record.mentions);
        let mut touched = self.register.miss(file, false);
        touched.extend(self.register.declare(file, Kind::Manifest, []));
        self.settle_all(touched);
        self.scripts.gone(file);
        if let Some(mentions) = mentions {
            self.claims_dropped(file, &mentions);
        }
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
            let keys = names.map(|service| register::key(&service.spec.name)).collect();
            self.settle_all(keys);
        }
        seen
    }

    fn look_at_defaults(&mut self, complete: bool) -> Seen {
        let file = "_defaults.yaml";
        let path = self.path_of(file);
        match self.own_file(file, self.defaults_stamp, complete) {
            Err(seen) => seen,
            Ok(None) => Seen::Done,
            Ok(Some((bytes, stamp))) => {
                self.defaults_stamp = Some(stamp);
                let text = OwnedText { file: file.to_string(), text: bytes };
                match parse::defaults_fault(&text) {
                    Some(message) => {
                        self.note_problem(
                            file,
                            Reason::ConfigInvalid,
                            format!("{message}\nthe last good version stays"),
                        );
                    }
                    None => {
                        self.problems.remove(file);
                        self.set_defaults(Some(text));
                    }
                }
                tracing::debug!("read {}", path.display());
                Seen::Done
            }
        }
    }

    fn set_defaults(&mut self, text: Option<OwnedText>) {
        if self.defaults == text {
            return;
        }
        self.defaults = text;
        self.read_all_again();
    }

    fn look_at_settings(&mut self, complete: bool) -> Seen {
        match self.own_file("_plugd.yaml", self.settings_stamp, complete) {
            Err(seen) => seen,
            Ok(None) => Seen::Done,
            Ok(Some((bytes, stamp))) => {
                self.settings_stamp = Some(stamp);
                self.tell_settings(Some(&String::from_utf8_lossy(&bytes)));
                Seen::Done
            }
        }
    }

    fn tell_settings(&mut self, text: Option<&str>) {
        let file = "_plugd.yaml";
        let Some(tell) = self.on_settings.as_mut() else { return };
        match tell(text) {
            Ok(()) => {
                self.problems.remove(file);
            }
            Err(message) => {
                self.note_problem(file, Reason::ConfigInvalid, format!("{message}\nthe last good version stays"));
            }
        }
    }

    /// The bytes of one of our own files, if they are new.
    fn own_file(&mut self, file: &str, known: Option<Stamp>, complete: bool) -> Result<Option<(Vec<u8>, Stamp)>, Seen> {
        let path = self.path_of(file);
        if known.is_some() && disk::stat(&path).ok() == known {
            return Ok(None);
        }
        let (reason, message) = match disk::read(&path, disk::MANIFEST_MAX, complete) {
            Ok(content) => match self.surroundings.judge(&path, &content.stamp, None) {
                Some(finding) if finding.refused => (Reason::UntrustedFile, finding.message),
                Some(_) | None => return Ok(Some((content.bytes, content.stamp))),
            },
            Err(Unread::Absent) => return Err(Seen::Absent),
            Err(Unread::Busy) => return Err(Seen::Busy(path)),
            Err(Unread::NotAFile(kind)) => (Reason::NotARegularFile, format!("{file} is {kind}")),
            Err(Unread::TooLarge(size)) => {
                (Reason::TooLarge, format!("{file} has {size} bytes, at most 65536 are read"))
            }
            Err(Unread::Failed(error)) => (Reason::Unreadable, format!("{file} cannot be read: {error}")),
        };
        self.note_problem(file, reason, format!("{message}; the last good version stays"));
        Ok(None)
    }

    /// The drop-ins of a manifest, and the defaults.
    fn context(&self, stem: &str) -> Result<Context, PathBuf> {
        let mut context = Context { defaults: self.defaults.clone(), drop_ins: Vec::new() };
        if !self.drop_ins.contains_key(stem) {
            return Ok(context);
        }
        let folder = self.dir.join(format!("{stem}.yaml.d"));
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.retain(|name| matches!(candidate(name), Candidate::Manifest { .. }));
        names.sort();
        for name in names.into_iter().take(DROP_INS_MAX) {
            let path = folder.join(&name);
            match disk::read(&path, disk::MANIFEST_MAX, false) {
                Ok(content) => {
                    let trusted =
                        self.surroundings.judge(&path, &content.stamp, None).is_none_or(|found| !found.refused);
                    let file = format!("{stem}.yaml.d/{}", name.to_string_lossy());
                    match trusted {
                        true => context.drop_ins.push(OwnedText { file, text: content.bytes }),
                        false => tracing::warn!("{file} can be written by somebody else: it is left out"),
                    }
                }
                Err(Unread::Busy) => return Err(path),
                Err(Unread::Absent | Unread::NotAFile(_) | Unread::TooLarge(_) | Unread::Failed(_)) => {
                    tracing::warn!("{} cannot be read: it is left out", path.display());
                }
            }
        }
        Ok(context)
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

    /// The drop-ins of a manifest changed: it is to be read again.
    pub fn drop_in_changed(&mut self, stem: &str) -> Vec<String> {
        self.drop_ins.entry(stem.to_string()).or_default();
        let mut files = Vec::new();
        for ending in ["yaml", "yml", "json"] {
            let file = format!("{stem}.{ending}");
            if let Some(record) = self.records.get_mut(&file) {
                record.stale = true;
                files.push(file);
            }
        }
        files
    }

    /// A file that is held open for writing too long.
    pub fn still_writing(&mut self, path: &Path) {
        let Some(file) = self.file_of(path).or_else(|| self.users.get(path)?.first().cloned()) else { return };
        let who = lease::writer_of(path).map(|pid| format!(" by pid {pid}")).unwrap_or_default();
        let shown = path.strip_prefix(&self.dir).unwrap_or(path).display();
        let message = format!("{shown} is held open for writing{who}; it is read when that ends");
        if self.problems.get(&file).is_none_or(|problem| problem.reason != Reason::StillWriting) {
            self.note_problem(&file, Reason::StillWriting, message.clone());
        }
        // After a restart nothing is in force of it: what it declared runs on, it is not withdrawn.
        if self.scanning && !self.records.contains_key(&file) {
            let stem = self.register.recorded_of(&file).into_iter().next();
            let stem = stem.or_else(|| file.rsplit_once('.').map(|(stem, _)| stem.to_string())).unwrap_or_default();
            let refusal = Refusal::of_service(&stem, Reason::StillWriting, message);
            self.refuse(&file, None, refusal, "");
            self.keep(&file, |record| record.stamp = None);
        }
    }

    pub fn not_writing(&mut self, path: &Path) {
        if let Some(file) = self.file_of(path).or_else(|| self.users.get(path)?.first().cloned()) {
            self.problems.retain(|name, problem| *name != file || problem.reason != Reason::StillWriting);
        }
    }

    /// The files that were refused.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &Refusal)> {
        self.records.iter().filter_map(|(file, record)| Some((file.as_str(), record.refused.as_ref()?)))
    }

    /// Whether anything is known of the file.
    pub fn knows(&self, file: &str) -> bool {
        let own = (file == "_defaults.yaml" && self.defaults_stamp.is_some())
            || (file == "_plugd.yaml" && self.settings_stamp.is_some());
        own || self.records.contains_key(file) || self.scripts.is_seen(file)
    }

    pub fn known_files(&self) -> BTreeSet<String> {
        let own = [("_defaults.yaml", self.defaults_stamp), ("_plugd.yaml", self.settings_stamp)];
        let own = own.into_iter().filter(|(_, stamp)| stamp.is_some()).map(|(file, _)| file.to_string());
        self.records.keys().cloned().chain(self.scripts.files()).chain(own).collect()
    }

    /// The directories of which every name matters.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let drop_ins = self.drop_ins.keys().map(|stem| self.dir.join(format!("{stem}.yaml.d")));
        [self.dir.clone(), self.dir.join("wrappers")].into_iter().chain(drop_ins)
    }

    /// The first scan is over: what waited for a recorded owner is settled.
    pub fn scanned(&mut self) {
        self.scanning = false;
        let held = std::mem::take(&mut self.held);
        self.settle_all(held);
    }

    pub fn is_scanning(&self) -> bool {
        self.scanning
    }

    pub(super) fn settle_all(&mut self, keys: BTreeSet<String>) {
        for key in keys {
            self.settle(&key);
        }
    }

    /// Tells what the name is now, if that is news.
    fn settle(&mut self, key: &str) {
        if self.scanning && self.register.awaits_recorded(key) {
            self.held.insert(key.to_string());
            return;
        }
        let ownership = self.register.settle(key);
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
        let what = record.what(&file, &name, &conflicts);
        if conflicts.is_empty() {
            self.conflicts.remove(key);
        } else {
            self.conflicts.insert(key.to_string(), conflicts);
        }
        let Some((what, required)) = what else { return };
        let told = Told { name, what };
        if before.is_some_and(|before| **before == told) {
            return;
        }
        let source = |told: &Told| match &told.what {
            What::Declared { source, .. } | What::Rejected { source, .. } => source.file.clone(),
        };
        if before.is_none_or(|before| source(before) != source(&told)) {
            self.store.owner(told.name.clone(), file);
        }
        if let Some(before) = before.filter(|before| before.name != told.name) {
            self.outbox.push(Input::Withdrawn(before.name.clone()));
        }
        self.outbox.push(told.input(required));
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

    pub(super) fn note_problem(&mut self, file: &str, reason: Reason, message: String) {
        self.problems.insert(file.to_string(), FileProblem { file: file.to_string(), reason, message });
    }

    /// Everything that was told is withdrawn (`plugd rm --missing` with no directory).
    pub fn withdraw_all(&mut self) {
        let files: Vec<String> = self.records.keys().cloned().collect();
        for file in files {
            self.gone(&file);
        }
    }

    fn keep(&mut self, file: &str, change: impl FnOnce(&mut Record)) {
        self.unlink(file);
        if let Some(record) = self.records.get_mut(file) {
            change(record);
        }
        self.link(file);
    }

    /// Notes on which paths the file depends.
    fn link(&mut self, file: &str) {
        let Some(record) = self.records.get(file) else { return };
        for path in record.dependencies() {
            self.watch_changed |= !self.users.contains_key(path);
            self.users.entry(path.clone()).or_default().insert(file.to_string());
        }
    }

    fn unlink(&mut self, file: &str) {
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
        self.resolver.retain(|path| self.users.contains_key(path));
    }

    pub(super) fn discovered(&mut self, file: &str, parsed: Parsed, stamp: Stamp, complete: bool) -> Seen {
        let Parsed { spec, warnings } = parsed;
        let resolution = match self.resolver.resolve(&spec, complete) {
            Ok(resolution) => resolution,
            Err(busy) => return Seen::Busy(busy.0),
        };
        let record = Record {
            kind: Kind::Script,
            stamp: Some(stamp),
            sha: self.resolver.sha_of(&self.dir.join(file)),
            trust: None,
            services: vec![Service { spec, warnings, resolution }],
            refused: None,
            mentions: Box::default(),
            stale: false,
            links: disk::hops(&self.dir.join(file)),
        };
        self.accept(file, record);
        Seen::Done
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn script_context(&self) -> Context {
        Context { defaults: self.defaults.clone(), drop_ins: Vec::new() }
    }
}

impl Service {
    fn is_found(&self) -> bool {
        matches!(self.resolution.resolved, Resolved::Found { .. })
    }
}

impl Record {
    fn dependencies(&self) -> impl Iterator<Item = &PathBuf> {
        self.links.iter().chain(self.services.iter().flat_map(|service| &service.resolution.watched))
    }

    pub fn mentions(&self) -> &[String] {
        &self.mentions
    }

    /// Whether it was read when the file was this.
    pub fn is_of(&self, stamp: &Stamp) -> bool {
        !self.stale && self.stamp.as_ref() == Some(stamp)
    }

    /// What is to be told of this name, and whether a rejected one is required.
    fn what(&self, file: &str, name: &Name, conflicts: &[FileProblem]) -> Option<(What, bool)> {
        let source = Source { file: file.to_string(), sha256: self.sha.clone() };
        if let Some(refusal) = &self.refused {
            let Refusal { reason, message, .. } = refusal;
            return Some((What::Rejected { source, reason: *reason, message: message.clone() }, refusal.required));
        }
        let service = self.services.iter().find(|service| service.spec.name == *name)?;
        let warnings = service.warnings.iter().chain(&service.resolution.warnings).cloned();
        let problems =
            warnings.chain(conflicts.iter().map(|problem| (problem.reason, problem.message.clone()))).collect();
        let program = service.resolution.resolved.clone();
        Some((What::Declared { spec: service.spec.clone(), source, program, problems }, false))
    }
}

impl Told {
    fn input(&self, required: bool) -> Input {
        match self.what.clone() {
            What::Declared { spec, source, program, problems } => {
                Input::Declared(Declaration { spec, source, program, problems })
            }
            What::Rejected { source, reason, message } => {
                Input::Rejected(Rejection { name: self.name.clone(), source, reason, message, required })
            }
        }
    }
}

/// What is in a folder of drop-ins; none if it is no folder.
fn stamps(folder: &Path) -> Option<Vec<Stamp>> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().take(DROP_INS_MAX);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    Some(paths.iter().filter_map(|path| disk::stat(path).ok()).collect())
}

fn conflict(name: &Name, owner: &str, theirs: &Name, other: &str) -> String {
    if name == theirs {
        format!("{other} and {owner} both declare {name}; {owner} keeps it, rename the other")
    } else {
        format!("{other} declares {theirs}, which differs from {name} of {owner} only in case; rename it")
    }
}

fn keep_worst(a: Seen, b: Seen) -> Seen {
    if a == Seen::Done { b } else { a }
}
