//! What an instance may use (`resources`), set where this machine can set it.
//!
//! Each of the controllers cpu, memory and pids is taken where it is to be had: of cgroup v2 (`unified`),
//! else of cgroup v1 (`legacy`), else not at all. What cannot be applied is said and never keeps a service
//! from starting. Open files are a limit of each process (setrlimit(2)) and always there; for memory and
//! processes there is no such way out: RLIMIT_AS counts addresses and not memory, RLIMIT_NPROC all
//! processes of a user.
//!
//! Nothing is looked for or switched on before the first service has `resources`.

mod legacy;
mod squeezed;
mod unified;
mod values;
mod whole;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::cgroup::{CgroupError, CgroupRoot};
use crate::model::name::{LifeId, Name};
use crate::model::quantity::show_bytes;
use crate::model::spec::{Process, Resources, Spec};
use squeezed::Squeezed;
use values::Setting;
use whole::Whole;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

    fn word(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// Where a controller is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Home {
    Unified,
    /// The folder of this node's groups in its hierarchy.
    Legacy(PathBuf),
    /// Why not.
    Nowhere(String),
}

/// The limits of all lives.
#[derive(Debug)]
pub struct Limits {
    /// The folder of the groups of cgroup v2, or why there is none.
    root: Result<CgroupRoot, String>,
    key: String,
    keeper: i32,
    /// By controller; none before the first service that has `resources`.
    homes: Option<[Home; 3]>,
    /// Memory is counted in the groups of cgroup v2, perhaps since a controller before this one.
    counts: bool,
    /// The folders of groups of cgroup v1 that are there.
    legacy: Vec<PathBuf>,
    squeezed: Squeezed,
}

/// The groups of a life that is about to begin.
#[derive(Debug, Default)]
pub struct Begun {
    /// Its group of cgroup v2, where that was to be made anew; none where it could not be made.
    pub group: Option<Option<OwnedFd>>,
    /// What its process writes to, to be in them.
    pub entrances: Vec<Arc<OwnedFd>>,
    /// What could not be applied, and why.
    pub missed: Option<String>,
}

/// What could not be applied.
#[derive(Debug, PartialEq, Eq)]
struct Missed {
    what: String,
    why: String,
    /// More memory is in use: it comes into force once there is room.
    waits: bool,
}

impl Missed {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Missed {
        Missed { what: what.into(), why: why.into(), waits: false }
    }
}

impl Limits {
    pub fn new(root: Result<CgroupRoot, CgroupError>, key: String, keeper: i32) -> Limits {
        let root = root.map_err(|error| why(&error));
        let counts = root.as_ref().is_ok_and(unified::counts_memory);
        // What an earlier controller made; our own come with the first service that has `resources`.
        let places = Controller::ALL.into_iter().filter_map(|controller| legacy::place(controller, &key));
        let legacy = places.filter(|place| place.is_dir()).collect();
        Limits { root, key, keeper, homes: None, counts, legacy, squeezed: Squeezed::default() }
    }

    /// Makes the groups of a life and sets its limits, before there is a process of it.
    pub fn begin(&mut self, life: &LifeId, spec: &Spec) -> Begun {
        let mut missed = Vec::from_iter(files_missed(&spec.process));
        let mut begun = Begun::default();
        let homes = spec.process.counted.then(|| self.homes());
        // Where memory is counted it is counted for all, from 0 for each life.
        let anew = self.counts || homes.as_ref().is_some_and(|homes| homes.contains(&Home::Unified));
        if let Ok(root) = self.root.as_ref()
            && anew
        {
            let made = root.renew(&life.instance).and_then(|()| root.create(&life.instance));
            let made = made.inspect_err(|error| tracing::warn!(%life, %error, "its cgroup cannot be made"));
            begun.group = Some(made.ok());
        }
        if let Some(homes) = homes {
            for folder in folders(&homes) {
                let made = legacy::begin(folder, life).and_then(|group| legacy::entrance(&group));
                match made {
                    Ok(entrance) => begun.entrances.push(Arc::new(entrance)),
                    Err(error) => tracing::warn!(%life, %error, "its cgroup in {} cannot be made", folder.display()),
                }
            }
            missed.extend(self.set(&homes, life, &spec.resources, true));
        }
        begun.missed = told(missed).or_else(|| self.squeezed.words(&life.instance.service));
        begun
    }

    /// Other numbers for a life that runs. What could not be applied, of it or of another one of its service.
    pub fn resize(&mut self, life: &LifeId, spec: &Arc<Spec>, now: Duration) -> Option<String> {
        let mut missed = Vec::from_iter(files_missed(&spec.process));
        if spec.process.counted {
            let homes = self.homes();
            missed.extend(self.set(&homes, life, &spec.resources, false));
        }
        let waits = missed.iter().any(|missed| missed.waits);
        let words = told(missed);
        match words.clone().filter(|_| waits) {
            Some(words) => self.squeezed.enter(life, spec, words, now),
            None => {
                self.squeezed.leave(life);
            }
        }
        words.or_else(|| self.squeezed.words(&life.instance.service))
    }

    /// When to call [`Limits::try_again`] next; none where nothing waits.
    pub fn next_try(&self) -> Option<Duration> {
        self.squeezed.next_look()
    }

    /// What did not fit into a lowered limit may have shrunk: what is said of such services from now on.
    pub fn try_again(&mut self, now: Duration) -> Vec<(Name, Option<String>)> {
        let mut news = Vec::new();
        for (life, spec) in self.squeezed.take_due(now) {
            let home = self.homes()[Controller::Memory as usize].clone();
            let fits = |limit| self.group(&home, &life).is_some_and(|group| squeezed::has_room(&group, limit));
            if spec.resources.limits.memory.is_none_or(fits) {
                let before = self.squeezed.words(&spec.name);
                let after = self.resize(&life, &spec, now);
                if before != after {
                    news.push((spec.name.clone(), after));
                }
            }
        }
        news
    }

    /// Whether the kernel killed a process of this life for want of memory; false where nobody counts.
    pub fn oom_killed(&self, life: &LifeId) -> bool {
        let unified = self.root.as_ref().ok().filter(|_| self.counts);
        let unified = unified.map(|root| root.group(&life.instance).path().join("memory.events"));
        let legacy = self.legacy.iter().map(|folder| legacy::group(folder, life).join("memory.oom_control"));
        unified.into_iter().chain(legacy).any(|file| counted(&file, "oom_kill") > 0)
    }

    /// What has to be watched over where memory runs out: none where the kernel does all that is to be done. `new`: its
    /// life has just begun, and each kill counts.
    pub fn whole(&self, life: &LifeId, resources: &Resources, new: bool) -> Option<Whole> {
        let Resources { limits, requests: _, single_process_oom_kill } = resources;
        limits.memory?;
        let legacy = self.legacy.iter().map(|folder| (legacy::group(folder, life), whole::CONTROL));
        let unified = self.root.as_ref().ok().filter(|_| self.counts && *single_process_oom_kill);
        let unified = unified.map(|root| (root.group(&life.instance).path().to_path_buf(), whole::EVENTS));
        let (group, counts) = legacy.chain(unified).find(|(group, counts)| group.join(counts).exists())?;
        Some(Whole::new(group, counts, new))
    }

    /// The limit of processes at which the kernel refused this life one; none where it did not, or nobody counts.
    pub fn pids_met(&self, life: &LifeId) -> Option<u64> {
        let unified = self.root.iter().map(|root| root.group(&life.instance).path().to_path_buf());
        let legacy = self.legacy.iter().map(|folder| legacy::group(folder, life));
        unified.chain(legacy).find_map(|group| pids_met(&group))
    }

    /// Nothing of the life is left, or it never began. Whether with it what was said of its service is over.
    pub fn end(&mut self, life: &LifeId) -> bool {
        self.legacy.iter().for_each(|folder| legacy::end(folder, life));
        self.squeezed.leave(life)
    }

    /// Removes what lives left that nobody knows any more.
    pub fn sweep<'a>(&self, known: impl Iterator<Item = &'a LifeId> + Clone) {
        self.legacy.iter().for_each(|folder| legacy::sweep(folder, known.clone()));
    }

    /// The node ends, and nothing of it is left.
    pub fn close(&self) {
        self.legacy.iter().for_each(|folder| super::cgroup::remove_each_below(folder));
        if let Ok(root) = &self.root {
            unified::disable(root, self.keeper);
            root.remove();
        }
    }

    /// What could be limited, and by what; or why not. Switches nothing on; what it makes to find out goes with
    /// `close`.
    pub fn prospects(&mut self) -> Vec<(&'static str, Result<&'static str, String>)> {
        let by = |home| match home {
            Home::Unified => Ok("cgroup v2"),
            Home::Legacy(_) => Ok("cgroup v1"),
            Home::Nowhere(why) => Err(why),
        };
        let homes = self.find(unified::look);
        self.know(&homes);
        Controller::ALL.map(Controller::word).into_iter().zip(homes.map(by)).collect()
    }

    /// What is missing is looked for again: whoever stood in the way may have gone.
    fn homes(&mut self) -> [Home; 3] {
        let complete = |homes: &[Home; 3]| !homes.iter().any(|home| matches!(home, Home::Nowhere(_)));
        if let Some(homes) = self.homes.as_ref().filter(|homes| complete(homes)) {
            return homes.clone();
        }
        let homes = self.find(unified::enable);
        self.counts |= homes[Controller::Memory as usize] == Home::Unified;
        self.know(&homes);
        self.homes = Some(homes.clone());
        homes
    }

    fn know(&mut self, homes: &[Home; 3]) {
        for folder in folders(homes) {
            if !self.legacy.iter().any(|known| known == folder) {
                self.legacy.push(folder.to_path_buf());
            }
        }
    }

    fn find(&self, unified: fn(&CgroupRoot, i32) -> unified::Had) -> [Home; 3] {
        let had = match &self.root {
            Ok(root) => unified(root, self.keeper),
            Err(why) => Controller::ALL.map(|_| Err(why.clone())),
        };
        let mut had = had.into_iter();
        Controller::ALL.map(|controller| match had.next() {
            Some(Ok(())) => Home::Unified,
            other => match legacy::folder(controller, &self.key) {
                Some(Ok(folder)) => Home::Legacy(folder),
                Some(Err(why)) => Home::Nowhere(why),
                None => Home::Nowhere(other.and_then(Result::err).unwrap_or_default()),
            },
        })
    }

    fn group(&self, home: &Home, life: &LifeId) -> Option<PathBuf> {
        match home {
            Home::Unified => self.root.as_ref().ok().map(|root| root.group(&life.instance).path().to_path_buf()),
            Home::Legacy(folder) => Some(legacy::group(folder, life)),
            Home::Nowhere(_) => None,
        }
    }

    /// Writes the files of a life's groups; those of a new one that are to be as they are anyway are left.
    fn set(&self, homes: &[Home; 3], life: &LifeId, resources: &Resources, new: bool) -> Vec<Missed> {
        let mut missed: Vec<Missed> = Vec::new();
        for (controller, what) in values::wanted(resources) {
            match &homes[controller as usize] {
                Home::Nowhere(why) => missed.push(Missed::new(what, why)),
                Home::Legacy(_) if what.starts_with("requests.memory") => {
                    missed.push(Missed::new(what, "cgroup v1 cannot keep memory for a service"));
                }
                Home::Unified | Home::Legacy(_) => {}
            }
        }
        let settings = values::unified(resources)
            .into_iter()
            .filter(|setting| homes[setting.controller as usize] == Home::Unified);
        let legacy = |setting: &Setting| matches!(homes[setting.controller as usize], Home::Legacy(_));
        let settings = settings.chain(values::legacy(resources).into_iter().filter(legacy));
        let mut waits = false;
        for setting in settings.filter(|setting| !new || setting.wanted.is_some()) {
            let Some(group) = self.group(&homes[setting.controller as usize], life) else { continue };
            if waits && setting.file == values::WITH_SWAP {
                legacy::keep_as_it_was(&group);
                continue;
            }
            let error = match unified::put(&group, setting.file, &setting.value) {
                Ok(()) => continue,
                Err(error) if setting.may_lack && error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => error,
            };
            if let Some(what) = setting.wanted {
                let busy = error.raw_os_error() == Some(libc::EBUSY) && setting.controller == Controller::Memory;
                if let Some(limit) = resources.limits.memory.filter(|_| busy) {
                    waits = true;
                    missed.push(squeezed(limit, life));
                    continue;
                }
                let file = group.join(setting.file);
                missed.push(Missed::new(what, format!("{} does not take {}: {error}", file.display(), setting.value)));
            }
        }
        missed
    }
}

/// A number of a file of `name number` lines; 0 where there is none.
fn counted(file: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}

/// Before Linux 6.12, and by cgroup v1 still, pids.events counts also what a group above refused. Where the kernel
/// tells how many there were at most (pids.peak, since 6.7) that tells them apart.
fn pids_met(group: &Path) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("pids.max").filter(|_| counted(&group.join("pids.events"), "max") > 0)?;
    number("pids.peak").is_none_or(|peak| peak >= limit).then_some(limit)
}

fn squeezed(limit: u64, life: &LifeId) -> Missed {
    let service = &life.instance.service;
    let why = format!("it uses more than that; in force once it uses less, or at once by `plugd restart {service}`");
    Missed { waits: true, ..Missed::new(format!("limits.memory {}", show_bytes(limit)), why) }
}

/// The same words for what hinders all of them.
fn why(error: &CgroupError) -> String {
    match error {
        CgroupError::NotMounted => "no cgroups are mounted here".into(),
        CgroupError::Outside(_) => error.to_string(),
        CgroupError::NotWritable { path: _, source } => format!("no cgroup can be made here: {source}"),
    }
}

/// Each once: controllers may share a hierarchy.
fn folders(homes: &[Home; 3]) -> impl Iterator<Item = &Path> {
    let mut folders: Vec<&Path> = Vec::new();
    for home in homes {
        match home {
            Home::Legacy(folder) if !folders.contains(&folder.as_path()) => folders.push(folder),
            Home::Legacy(_) | Home::Unified | Home::Nowhere(_) => {}
        }
    }
    folders.into_iter()
}

/// The limit of open files: at most what plugd itself may have, which the kernel lets nobody exceed.
pub fn open_files(process: &Process) -> Option<(u32, u64, u64)> {
    let wanted = process.nofile?;
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let limit = wanted.min(most);
    Some((libc::RLIMIT_NOFILE as _, limit, limit))
}

/// Services go before plugd when the machine runs out of memory: theirs is this much more than ours.
const OOM_SCORE_ABOVE: i32 = 100;
/// OOM_SCORE_ADJ_MAX.
const OOM_SCORE_MAX: i32 = 1000;

/// How soon the kernel kills it for want of memory; none where it does not tell our own, which is asked once.
pub fn oom_score_adj(process: &Process) -> Option<i32> {
    static OWN: OnceLock<i32> = OnceLock::new();
    process.oom_score_adj.or_else(|| {
        let ask = || std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok();
        let own = OWN.get().copied().or_else(ask)?;
        Some(OWN.get_or_init(|| own).saturating_add(OOM_SCORE_ABOVE).min(OOM_SCORE_MAX))
    })
}

fn files_missed(process: &Process) -> Option<Missed> {
    let (wanted, (_, limit, _)) = (process.nofile?, open_files(process)?);
    (limit < wanted).then(|| {
        let why =
            format!("plugd itself may have {limit} open files, which is in force; raise its hard limit (LimitNOFILE=)");
        Missed::new(format!("limits.nofile {wanted}"), why)
    })
}

/// One sentence for each reason.
fn told(missed: Vec<Missed>) -> Option<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    // It says itself what helps.
    let helps = if missed.iter().all(|missed| missed.waits) { "" } else { "; `plugd doctor` tells what helps" };
    for Missed { what, why, waits: _ } in missed {
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, all)) if all.contains(&what) => {}
            Some((_, all)) => all.push(what),
            None => reasons.push((why, vec![what])),
        }
    }
    let sentence = |(why, what): (String, Vec<String>)| {
        let verb = if what.len() == 1 { "is" } else { "are" };
        format!("{} {verb} not applied: {why}", what.join(", "))
    };
    (!reasons.is_empty()).then(|| {
        let sentences: Vec<String> = reasons.into_iter().map(sentence).collect();
        format!("{}{helps}", sentences.join("; "))
    })
}
