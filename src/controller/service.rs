//! One service and its instances, as the brain keeps them, and the table of all of them.
//!
//! Services live in slots with small numbers, so that one change among 10,000 costs a lookup and
//! the visit of one slot. What others need to know of a service ([`Standing`]) lies beside the
//! slots: it can be read while a service is being worked on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::agenda::{Place, Run};
use super::churn::Churn;
use super::demand::Call;
use super::heirs::Heir;
use super::input::{Declaration, ExitMemory, Memory, Rejection, Scaled, Told};
use super::life::{Life, Made, Print};
use super::vitals::{Health, Vitals};
use crate::model::name::{Instance as InstanceName, LifeId, Name};
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Condition, Dependency, Digest, Spec};
use crate::model::view::{Problem, ServiceView};
use crate::policy::backoff::Ladder;
use crate::policy::depends::Standing;
use crate::policy::restart::Recent;

pub(super) type Id = u32;

#[derive(Debug)]
pub(super) struct Service {
    pub name: Name,
    /// The last good declaration; none before the first, and again once withdrawn.
    pub declared: Option<Declaration>,
    pub rejected: Option<(Rejection, Timestamp)>,
    /// Withdrawn while the directory is lost: carried out when it is found or the loss confirmed.
    pub missing: bool,
    /// Of the accepted spec.
    pub digest: Option<Digest>,
    pub generation: u64,
    pub restarts: u64,
    /// `plugd stop`.
    pub stopped: bool,
    pub scaled: Option<Scaled>,
    pub instances: Vec<Instance>,
    pub agenda: Place,
    pub call: Call,
    /// It waits for what it depends on, and wakes what sleeps of that.
    pub calls: bool,
    /// The highest life of each instance that was there once; numbers are never used again.
    pub lives: Vec<u64>,
    /// No life of this service is numbered lower or equal: late news of a namesake is no news of it.
    pub life_floor: u64,
    pub trial: Option<Trial>,
    /// The version that ran when an edit came, until that is carried out: what runs again if it ends.
    pub kept: Option<Arc<Made>>,
    /// The same of an earlier controller, until its manifest is read.
    pub before: Option<Arc<Made>>,
    /// What that one depends on and the declared one does not.
    pub kept_needs: Vec<Name>,
    pub gate: Gate,
    /// Whether the version before may start, where the gate is closed to the declared one alone.
    pub kept_gate: Option<Gate>,
    pub cycle: Option<Cycle>,
    /// Which dependencies held; for `onLoss`.
    pub seen_ready: Vec<(Name, Condition)>,
    /// It was begun by an earlier controller, when what it depends on held, and so it is looked at after the scan.
    pub begun_before: bool,
    /// `onLoss: Stop` happened: the dependency that went.
    pub bereft: Option<String>,
    pub churn: Churn,
    /// It failed, or was down after it had been up: becoming ready is news to others.
    pub troubled: bool,
    pub health: Health,
    pub edge_problems: BTreeMap<Reason, String>,
    /// As told last, with their times.
    pub problems: Vec<Problem>,
    /// Since when an edit has been blocked, and which generation that is.
    pub blocked: Option<(u64, Timestamp)>,
    pub word: (Status, Option<Reason>),
    pub since: Timestamp,
    pub view: Option<Arc<ServiceView>>,
    /// What was wrong with it when the node began to end.
    pub before_the_end: Option<String>,
    pub remembered: Option<Memory>,
    /// That memory is gone: it is to be said again.
    pub forgotten: bool,
    /// What a controller before this one told last, until that is told again, or something else is true.
    pub recalled: Option<Told>,
    pub deadline: Option<Duration>,
    /// When a check of it is due next.
    pub question: Option<Duration>,
    /// As counted in the node's `ports_had`.
    pub port_had: Option<u16>,
    /// Whose port it waits for.
    pub heir: Option<Heir>,
    pub unready_since: Option<Duration>,
    /// What it adds to the node's counts.
    pub share: super::node::Share,
    pub stop_level: u32,
    /// Instances counted in the node's `starting`, and in its `asked`.
    pub starting: u32,
    pub asked: u32,
    pub dirty: bool,
    pub queued: bool,
    /// Something that can be seen may have changed.
    pub touched: bool,
    pub warned_root: bool,
    /// Ends whose last words have not come, oldest first.
    pub unheard: VecDeque<ExitMemory>,
    /// The present visit changed something.
    pub moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unasked {
    OfItself,
    /// With what it needs: that says nothing of how well it is.
    NeedLost,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub index: u32,
    pub life: Life,
    /// The highest life that was ever used.
    pub number: u64,
    /// The keeper holds an entry of this ended life, for whoever comes after us.
    pub held: Option<u64>,
    /// Ended lives whose entries are of no use any more.
    pub spare: Vec<u64>,
    /// The run that it carries out, where a schedule says when it runs.
    pub run: Option<Run>,
    /// The run of its last life, told as over.
    pub told: Option<i64>,
    pub ladder: Ladder,
    pub recent: Recent,
    pub last_exit: Option<ExitMemory>,
    pub restarts: u64,
    /// The next life is one that nobody asked for: why the one before ended.
    pub unasked: Option<Unasked>,
    /// `plugd restart`.
    pub must_restart: bool,
    /// Edited or ordered while its last life ended: that end counts for nothing.
    pub fresh: bool,
    pub cut_at: Option<Duration>,
    pub last_try: Option<Duration>,
    /// Ends with 0 within 10 s, in a row.
    pub quick_zeroes: u32,
    /// It ended with 0 at once and left others of its tree running.
    pub forked: bool,
    pub oom_killed: bool,
    /// Of its last life, as in [`super::input::Exit`].
    pub pids_met: Option<u64>,
    /// What the edge says of the log of its present life.
    pub log_problems: BTreeMap<Reason, String>,
    /// What a check said when it last ended: the port was somebody else's.
    pub blamed: Option<(Reason, String)>,
    /// Why its last try came to no process.
    pub refused: Option<Refusal>,
    pub vitals: Vitals,
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub reason: Reason,
    pub message: String,
    /// When it was told last.
    pub told: Duration,
}

/// Whether anything may start, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Adopted or remembered, and the first scan is not complete.
    Unknown,
    /// The manifest is gone.
    Gone,
    /// There never was a valid manifest (in this controller's time).
    NeverValid,
    Disabled,
    StoppedByOperator,
    /// `onLoss: Stop`: until it is started or edited.
    DependencyLost(String),
    External(String),
    /// `--require-user`.
    NeedsUser,
    Missing,
    /// These do not hold yet.
    Waiting(Needs),
    Cycle,
    ShuttingDown,
}

impl Gate {
    /// Whether it may be called to begin: what it still waits for is waited for then.
    pub fn lets_begin(&self) -> bool {
        match self {
            Gate::Open | Gate::Waiting(_) => true,
            Gate::Unknown
            | Gate::Gone
            | Gate::NeverValid
            | Gate::Disabled
            | Gate::StoppedByOperator
            | Gate::DependencyLost(_)
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Cycle
            | Gate::ShuttingDown => false,
        }
    }

    /// Whether what runs is to end, and nothing of it is to start again.
    pub fn ends_all(&self) -> bool {
        match self {
            Gate::Gone | Gate::Disabled | Gate::StoppedByOperator | Gate::DependencyLost(_) => true,
            Gate::Open
            | Gate::Unknown
            | Gate::NeverValid
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Waiting(_)
            | Gate::Cycle
            | Gate::ShuttingDown => false,
        }
    }

    /// Whether it is closed to the declared version alone: one before that may run.
    pub fn is_of_the_version(&self) -> bool {
        match self {
            Gate::NeedsUser | Gate::Missing | Gate::Waiting(_) | Gate::Cycle => true,
            Gate::Open
            | Gate::Unknown
            | Gate::Gone
            | Gate::NeverValid
            | Gate::Disabled
            | Gate::StoppedByOperator
            | Gate::DependencyLost(_)
            | Gate::External(_)
            | Gate::ShuttingDown => false,
        }
    }
}

/// What a start waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    /// One sentence each.
    pub said: Vec<String>,
    /// Of whom.
    pub names: Vec<Name>,
    /// No file declares one of them: probably a slip of the pen.
    pub unknown: bool,
}

/// `Action::Try`, asked and answered.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub key: Digest,
    pub asked_at: Duration,
    pub result: Option<Result<(), (Reason, String)>>,
}

#[derive(Debug, Clone)]
pub(super) struct Cycle {
    pub members: BTreeSet<Id>,
    pub path: Vec<Name>,
    /// What is declared of it leads into it: without that it is what runs that does, and an edit may end it.
    pub is_declared: bool,
}

impl Service {
    pub fn new(name: Name, at: Timestamp) -> Service {
        Service {
            name,
            declared: None,
            rejected: None,
            missing: false,
            digest: None,
            generation: 0,
            restarts: 0,
            stopped: false,
            scaled: None,
            instances: Vec::new(),
            agenda: Place::default(),
            call: Call::default(),
            calls: false,
            lives: Vec::new(),
            life_floor: 0,
            trial: None,
            kept: None,
            before: None,
            kept_needs: Vec::new(),
            gate: Gate::Unknown,
            kept_gate: None,
            cycle: None,
            seen_ready: Vec::new(),
            begun_before: false,
            bereft: None,
            churn: Churn::default(),
            troubled: false,
            health: Health::default(),
            edge_problems: BTreeMap::new(),
            problems: Vec::new(),
            blocked: None,
            word: (Status::Waiting, None),
            since: at,
            view: None,
            before_the_end: None,
            remembered: None,
            forgotten: false,
            recalled: None,
            deadline: None,
            question: None,
            port_had: None,
            heir: None,
            unready_since: None,
            share: super::node::Share::default(),
            stop_level: 0,
            starting: 0,
            asked: 0,
            dirty: false,
            queued: false,
            touched: true,
            warned_root: false,
            unheard: VecDeque::new(),
            moved: false,
        }
    }

    pub fn spec(&self) -> Option<&Arc<Spec>> {
        self.declared.as_ref().map(|declaration| &declaration.spec)
    }

    /// What it depends on, by the version in force and by an edit that waits.
    pub fn all_needs(&self) -> impl Iterator<Item = &Dependency> {
        self.kept_spec().into_iter().chain(self.spec()).flat_map(|spec| &spec.depends_on)
    }

    /// What is declared goes round in a circle, not what runs.
    pub fn closes_a_circle(&self) -> bool {
        self.cycle.as_ref().is_some_and(|cycle| cycle.is_declared)
    }

    /// Instances that are wanted while it runs.
    pub fn desired(&self) -> u32 {
        if self.schedule().is_some() {
            let last = self.instances.iter().rev().find(|instance| instance.run.is_some());
            return last.map_or(1, |last| last.index + 1);
        }
        let known = u32::try_from(self.instances.len()).unwrap_or(u32::MAX).max(1);
        self.scaled.map_or_else(|| self.rules().map_or(known, |spec| spec.replicas), |scaled| scaled.to)
    }

    /// Each of its instances has a log of its own: several are wanted when it runs, or are there.
    pub fn has_several(&self) -> bool {
        let wanted = match self.desired() {
            0 => self.rules().map_or(0, |spec| spec.replicas),
            wanted => wanted,
        };
        wanted > 1 || self.instances.len() > 1
    }

    pub fn required(&self) -> bool {
        match (self.rules(), &self.rejected) {
            (Some(rules), _) => rules.required,
            (None, Some((rejection, _))) => rejection.required,
            (None, None) => false,
        }
    }

    /// What a start is made from now: an edit is nothing before it has been tried. None where nothing can be
    /// started.
    pub fn next(&self) -> Option<Arc<Made>> {
        self.kept.clone().or_else(|| self.made().map(Arc::new))
    }

    /// Whether that may start.
    pub fn gate_of_next(&self) -> &Gate {
        self.kept_gate.as_ref().filter(|_| self.kept.is_some()).unwrap_or(&self.gate)
    }

    /// What is declared, by its digests; none where it cannot be started.
    pub fn print(&self) -> Option<Print> {
        use super::input::Resolved;
        let declaration = self.declared.as_ref()?;
        match &declaration.program {
            Resolved::Found { content, .. } => Some(Print {
                process: declaration.spec.process_digest,
                content: *content,
                source: u64::from_str_radix(&declaration.source.sha256, 16).unwrap_or(0),
            }),
            Resolved::Missing { .. } => None,
        }
    }

    /// The same, ready to be started.
    pub fn made(&self) -> Option<Made> {
        use super::input::Resolved;
        let declaration = self.declared.as_ref()?;
        match &declaration.program {
            Resolved::Found { wrapper, .. } => Some(Made {
                print: self.print()?,
                generation: self.generation,
                own: None,
                spec: Some(declaration.spec.clone()),
                wrapper: wrapper.clone(),
                signal: declaration.spec.stop.signal,
                grace: declaration.spec.stop.grace_period,
            }),
            Resolved::Missing { .. } => None,
        }
    }

    /// Another version than the declared one made what runs, or what runs again if it ends.
    pub fn is_outdated(&self) -> bool {
        if self.kept.is_some() {
            return true;
        }
        let Some(print) = self.print() else { return false };
        self.instances.iter().any(|instance| instance.life.runs_other_than(&print))
    }

    /// What all that runs was made from; none where nothing runs, or not all of it the same.
    pub fn runs_all(&self) -> Option<Print> {
        let mut prints = self.instances.iter().filter_map(|instance| instance.life.print());
        let first = prints.next()?;
        prints.all(|print| print == first).then_some(first)
    }

    pub fn has_failed_trial(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| matches!(trial.result, Some(Err(_))))
    }

    /// What is declared now and cannot take the place of what runs: the new version would not start.
    pub fn is_held_back(&self) -> bool {
        self.gate.is_of_the_version() || self.closes_a_circle() || self.is_overtaken()
    }

    pub fn instance(&mut self, index: u32) -> &mut Instance {
        let missing = (index as usize + 1).saturating_sub(self.instances.len());
        self.instances.reserve_exact(missing);
        while self.instances.len() <= index as usize {
            let next = u32::try_from(self.instances.len()).unwrap_or(u32::MAX);
            let mut instance = Instance::new(next);
            instance.number = self.lives.get(next as usize).copied().unwrap_or(0).max(self.life_floor);
            self.instances.push(instance);
        }
        &mut self.instances[index as usize]
    }

    /// Notes the number of an instance's present life.
    pub fn count_life(&mut self, at: usize) {
        if self.lives.len() <= at {
            self.lives.resize(at + 1, 0);
        }
        self.lives[at] = self.lives[at].max(self.instances[at].number);
        self.instances[at].log_problems.clear();
    }

    pub fn is_occupied(&self) -> bool {
        self.instances.iter().any(|instance| instance.life.is_occupied())
    }

    pub fn life_id(&self, index: usize) -> LifeId {
        let instance = &self.instances[index];
        LifeId { instance: InstanceName { service: self.name.clone(), index: instance.index }, life: instance.number }
    }

    /// `orders/0`; just `orders` where there is one.
    pub fn instance_name(&self, index: usize) -> String {
        if self.instances.len() <= 1 && self.desired() <= 1 {
            self.name.to_string()
        } else {
            format!("{}/{}", self.name, self.instances[index].index)
        }
    }

    /// What people said of it goes with its file.
    pub fn forget_orders(&mut self) {
        self.stopped = false;
        self.scaled = None;
        self.instances.iter_mut().for_each(|instance| instance.must_restart = false);
    }

    /// It begins anew: edited, or started by hand. Waits end, ladders go back, breakers close.
    pub fn begin_anew(&mut self) {
        self.bereft = None;
        self.health.begin_anew();
        for instance in &mut self.instances {
            instance.begin_anew();
        }
    }

    /// The same for an edit that needs no new process: what is just ending ends as what it was (a job
    /// has been done).
    pub fn begin_gently(&mut self) {
        self.bereft = None;
        self.health.begin_anew();
        for instance in &mut self.instances {
            let fresh = instance.fresh;
            instance.begin_anew();
            instance.fresh = fresh;
        }
    }
}

impl Instance {
    pub fn new(index: u32) -> Instance {
        Instance {
            index,
            life: Life::Idle,
            number: 0,
            held: None,
            spare: Vec::new(),
            run: None,
            told: None,
            ladder: Ladder::default(),
            recent: Recent::default(),
            last_exit: None,
            restarts: 0,
            unasked: None,
            must_restart: false,
            fresh: false,
            cut_at: None,
            last_try: None,
            quick_zeroes: 0,
            forked: false,
            oom_killed: false,
            pids_met: None,
            log_problems: BTreeMap::new(),
            blamed: None,
            refused: None,
            vitals: Vitals::default(),
        }
    }

    /// Who holds the port that its last life was to have.
    pub fn port_holder(&self) -> Option<&str> {
        let blamed = self.blamed.as_ref().filter(|(reason, _)| *reason == Reason::AddressInUse);
        blamed.map(|(_, message)| message.as_str())
    }

    /// It did so again: what it is meant to be is probably something else than a service.
    pub fn ends_at_once(&self) -> bool {
        self.quick_zeroes >= 2
    }

    pub fn begin_anew(&mut self) {
        self.ladder.reset();
        self.recent.clear();
        self.quick_zeroes = 0;
        self.forked = false;
        self.oom_killed = false;
        self.pids_met = None;
        self.blamed = None;
        self.refused = None;
        self.vitals.begin_anew();
        match &self.life {
            Life::BackOff(_) => {
                self.life = Life::Idle;
                self.unasked = None;
            }
            Life::Stopping(_) => self.fresh = true,
            Life::Idle => self.unasked = None,
            Life::Preparing(_) | Life::Starting(_) | Life::Running(_) | Life::Finished(_) => {}
        }
    }
}

/// All services, by number and by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: BTreeMap<Name, Id>,
    slots: Vec<Option<Box<Service>>>,
    standings: Vec<Standing>,
    free: Vec<Id>,
    /// The highest life of any service that was removed.
    life_floor: u64,
    /// Who names whom in `dependsOn`; also names that nobody bears.
    dependents: BTreeMap<Name, BTreeSet<Id>>,
    /// How often a name came or went.
    pub turnover: u64,
}

impl Table {
    pub fn id(&self, name: &Name) -> Option<Id> {
        self.names.get(name).copied()
    }

    pub fn get(&self, id: Id) -> Option<&Service> {
        self.slots.get(id as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Service> {
        self.slots.get_mut(id as usize)?.as_deref_mut()
    }

    pub fn by_name(&self, name: &Name) -> Option<&Service> {
        self.get(self.id(name)?)
    }

    pub fn enter(&mut self, name: &Name, at: Timestamp) -> Id {
        if let Some(id) = self.id(name) {
            return id;
        }
        self.turnover += 1;
        let mut service = Box::new(Service::new(name.clone(), at));
        service.life_floor = self.life_floor;
        let service = Some(service);
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = service;
                id
            }
            None => {
                self.slots.push(service);
                self.standings.push(Standing::default());
                Id::try_from(self.slots.len() - 1).expect("fewer than 2^32 services")
            }
        };
        self.names.insert(name.clone(), id);
        id
    }

    /// Lifts a service out, to be put back or dropped.
    pub fn take(&mut self, id: Id) -> Option<Box<Service>> {
        self.slots.get_mut(id as usize)?.take()
    }

    pub fn put(&mut self, id: Id, service: Box<Service>) {
        self.slots[id as usize] = Some(service);
    }

    /// Forgets a service that was taken.
    pub fn drop_taken(&mut self, id: Id, service: &Service) {
        self.turnover += 1;
        self.names.remove(&service.name);
        self.life_floor = service.lives.iter().copied().fold(self.life_floor, u64::max);
        self.standings[id as usize] = Standing::default();
        self.free.push(id);
    }

    pub fn standing(&self, id: Id) -> Standing {
        self.standings[id as usize]
    }

    pub fn set_standing(&mut self, id: Id, standing: Standing) {
        self.standings[id as usize] = standing;
    }

    pub fn standing_of(&self, name: &Name) -> Standing {
        self.id(name).map_or(Standing::default(), |id| self.standing(id))
    }

    pub fn dependents(&self, name: &Name) -> impl Iterator<Item = Id> + '_ {
        self.dependents.get(name).into_iter().flatten().copied()
    }

    pub fn link(&mut self, id: Id, names: &[Name]) {
        for name in names {
            self.dependents.entry(name.clone()).or_default().insert(id);
        }
    }

    pub fn unlink(&mut self, id: Id, names: &[Name]) {
        for name in names {
            if let Some(ids) = self.dependents.get_mut(name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.dependents.remove(name);
                }
            }
        }
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &Name> + '_ {
        self.names.keys()
    }

    pub fn ids(&self) -> impl Iterator<Item = Id> + '_ {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).map(|(id, _)| id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Service> + '_ {
        self.slots.iter().flatten().map(|service| &**service)
    }
}
