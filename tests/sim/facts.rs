//! What the controller was told and what it did, kept a second time: slowly, plainly, and without
//! looking at the brain. The laws compare the brain's plans with this.
//!
//! A fact is only held against the brain where it is certain. A failed check that the brain may
//! forgive (the loop was late, the answer was) leaves `ready` possible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plugd::controller::*;
use plugd::model::name::{Instance, LifeId, Name};
use plugd::model::reason::Reason;
use plugd::model::spec::*;

use crate::checks::Slots;
use crate::ladder::{End, Rungs};

#[derive(Default)]
pub struct Facts {
    pub wishes: BTreeMap<Name, Wish>,
    pub lives: BTreeMap<LifeId, Life>,
    pub rungs: BTreeMap<Instance, Rungs>,
    /// Of these it was told that somebody else has their ports.
    pub shut: BTreeSet<Name>,
    /// Jobs that ran to their end, with what they were made from.
    pub completed: BTreeMap<Instance, Digest>,
    /// Jobs of which an older version ran to its end: they are done where that one was still in force.
    pub perhaps_done: BTreeSet<Instance>,
    /// Jobs by the clock of which a run has completed.
    pub succeeded: BTreeSet<Name>,
    /// Whose file was deleted.
    pub gone: BTreeSet<Name>,
    /// Whose file is refused, and of those who have none any more while the directory is lost.
    pub refused: BTreeSet<Name>,
    refused_missing: BTreeSet<Name>,
    /// The last edit of each that was tried in vain.
    unfit: BTreeMap<Name, Digest>,
    pub scanned: bool,
    pub lost: bool,
    pub shutdown: Option<(Shutdown, Duration)>,
    /// Who became ready in this turn: that cuts waits that begin in it, too.
    turn_news: BTreeSet<Name>,
    /// The loop was late until then.
    pub late_until: Duration,
    /// Said to an earlier controller, or before the manifest was read.
    pub said: BTreeMap<Name, Said>,
    /// Of services that run on demand.
    pub calls: BTreeMap<Name, Call>,
    /// Required and not ready, since when.
    pub unready: BTreeMap<Name, Duration>,
    /// What was in force, or may have been, when this controller began.
    pub inherited: BTreeMap<Name, (Vec<Arc<Spec>>, Option<u32>)>,
    /// Which version was tried last, by which key.
    pub tries: BTreeMap<Name, (Digest, Digest)>,
}

/// Who wants a service that runs on demand, as far as this controller was told.
#[derive(Default)]
pub struct Call {
    pub demand: Demand,
    /// Somebody has wanted it since it fell asleep last.
    pub wanted: bool,
    /// When somebody did for certain.
    pub used: Duration,
}

impl Call {
    pub fn is_made(&self) -> bool {
        self.demand != Demand::default()
    }
}

/// What outlives a controller.
#[derive(Default, Clone, Copy)]
pub struct Said {
    pub stopped: bool,
    bereft: bool,
    scaled: Option<u32>,
    /// The `replicas` of which that was said.
    over: Option<u32>,
    restarts: u32,
    digest: Option<Digest>,
}

/// What is wished of a service, as this controller was told.
pub struct Wish {
    pub spec: Arc<Spec>,
    /// Versions before it, one of which may be in force until this one has been carried out.
    pub perhaps: Vec<Arc<Spec>>,
    /// `plugd scale`, said of one of those.
    pub perhaps_scaled: Option<u32>,
    pub found: bool,
    pub stopped: bool,
    pub scaled: Option<u32>,
    /// Withdrawn while the directory was lost.
    pub missing: bool,
    /// `onLoss: Stop` may have struck.
    pub bereft: bool,
    /// Times `plugd restart` was said.
    pub restarts: u32,
    pub spoiled: bool,
}

impl Wish {
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Spec>> + '_ {
        self.perhaps.iter().chain([&self.spec])
    }

    fn wanted(&self) -> impl Iterator<Item = u32> + '_ {
        let wanted = self.versions().map(|spec| match &spec.schedule {
            // Runs side by side have an instance each.
            Some(_) => 10,
            None => self.scaled.unwrap_or(spec.replicas),
        });
        wanted.chain(self.perhaps_scaled)
    }

    /// As many as are wanted at most, whichever version is in force.
    pub fn most(&self) -> u32 {
        self.wanted().max().unwrap_or(0)
    }

    /// As many as are wanted for certain.
    pub fn least(&self) -> u32 {
        self.wanted().min().unwrap_or(0)
    }

    pub fn needs(&self) -> impl Iterator<Item = &Dependency> + '_ {
        self.versions().flat_map(|spec| &spec.depends_on)
    }
}

/// One life, as it was told.
#[derive(Default)]
pub struct Life {
    /// By which it is checked; none: adopted, its manifest not read.
    pub spec: Option<Arc<Spec>>,
    /// By which it is checked as the keeper has it.
    pub own: Option<Arc<Spec>>,
    /// By which an earlier controller checked it.
    pub was: Option<Arc<Spec>>,
    pub print: Digest,
    /// While it was being made nobody wanted it any more.
    pub called_off: bool,
    pub spawned: Option<Duration>,
    pub exited: Option<Exit>,
    /// Its end was told to this controller, and counted.
    pub judged: bool,
    /// Nothing of it is left.
    pub empty: bool,
    /// We began to end it.
    pub stopping: Option<Duration>,
    pub killed: Option<Duration>,
    pub asked_for: bool,
    pub unasked_for: bool,
    pub slots: Slots,
    pub ready_since: Option<Duration>,
    pub steady: bool,
    pub lasted: bool,
    /// `plugd restart`s that it has seen at its start.
    pub restarts: u32,
    /// From before this controller.
    pub inherited: bool,
    /// What it needs (`onLoss`) held, and then did not.
    pub lost_need: bool,
    pub needs_held: bool,
    /// Not to be run again after an end with 0, as it was when it began.
    pub is_job: bool,
    /// When it was spawned, whoever was told.
    pub born: Duration,
    /// What it needs was lost when we began to end it.
    pub for_its_need: bool,
    /// It carries out a run, by a schedule that has been in force since it began.
    pub is_run: bool,
    /// The keeper holds that it was ready when it was told last.
    pub carried: bool,
}

impl Life {
    pub fn runs(&self) -> bool {
        self.spawned.is_some() && self.exited.is_none()
    }

    fn ready(&self) -> bool {
        self.runs() && self.stopping.is_none() && self.spec.as_ref().is_some_and(|spec| self.slots.ready(spec))
    }
}

impl Facts {
    pub fn hear(&mut self, input: &Input, now: Duration) {
        match input {
            Input::Declared(declaration) => self.declared(declaration, now),
            Input::Rejected(rejection) => {
                self.gone.remove(&rejection.name);
                self.refused.insert(rejection.name.clone());
                self.refused_missing.remove(&rejection.name);
                if let Some(wish) = self.wishes.get_mut(&rejection.name) {
                    wish.spoiled = true;
                    wish.missing = false;
                } else {
                    self.said.entry(rejection.name.clone()).or_default();
                    // What ended is of no known manifest: its end is not counted.
                    let mine = self.rungs.iter_mut().filter(|(of, _)| of.service == rejection.name);
                    mine.for_each(|(_, rungs)| rungs.forget_step());
                }
            }
            Input::Withdrawn(name) => self.withdrawn(name),
            Input::Scanned => self.scanned = true,
            Input::DirectoryLost(_) => self.lost = true,
            Input::DirectoryFound => {
                self.lost = false;
                let mut missing: Vec<Name> = self.names(|wish| wish.missing);
                missing.extend(std::mem::take(&mut self.refused_missing));
                missing.iter().for_each(|name| self.withdrawn(name));
            }
            Input::ConfirmMissing => {
                let lost = std::mem::take(&mut self.lost);
                let gone: Vec<Name> = self.names(|wish| wish.missing || lost);
                gone.iter().for_each(|name| self.withdrawn(name));
                if lost {
                    let refused: Vec<Name> = self.refused.iter().cloned().collect();
                    refused.iter().for_each(|name| self.withdrawn(name));
                }
                self.lost = lost;
                self.scanned = true;
            }
            Input::Order { name, order } => {
                match order {
                    Order::Start | Order::Restart => self.call(name).wanted = true,
                    Order::Stop => self.call(name).wanted = false,
                    Order::Resume | Order::Scale(_) => {}
                }
                self.ordered(name, *order);
            }
            Input::Demand { name, demand, .. } => {
                let call = self.call(name);
                (call.demand, call.used) = (*demand, now);
                call.wanted |= call.is_made();
            }
            Input::Shutdown(kind) => {
                let began = self.shutdown.map_or(now, |(_, began)| began);
                let kind = if self.shutdown.is_some() { Shutdown::Now } else { *kind };
                self.shutdown = Some((kind, began));
            }
            Input::Spawned { life, .. } => {
                if let Some(known) = self.lives.get_mut(life)
                    && known.spawned.is_none()
                    && known.exited.is_none()
                {
                    known.spawned = Some(now);
                    if let Some(spec) = known.spec.clone() {
                        known.slots = Slots::begin(&spec, now);
                    }
                }
            }
            Input::SpawnFailed { life, reason, .. } => {
                let open = self.lives.get(life).is_some_and(|known| known.spawned.is_none() && known.exited.is_none());
                if open {
                    self.lives.remove(life);
                    self.end(life, if *reason == Reason::ResourceExhausted { End::NoRoom } else { End::NeverRan }, now);
                }
            }
            Input::CalledOff(life) => {
                if self.lives.get(life).is_some_and(|known| known.spawned.is_none() && known.exited.is_none()) {
                    self.lives.remove(life);
                }
            }
            Input::HookEnded { life, hook: Hook::Selfcheck | Hook::PreStart, result: Err(_) } => {
                let print = self.wishes.get(&life.instance.service).map(|wish| wish.spec.process_digest);
                if !self.lives.contains_key(life) && self.is_last_try(life, print) {
                    self.end(life, End::NeverRan, now);
                }
            }
            Input::Exited { life, exit } => self.exited(life, *exit, now),
            Input::Surveyed { life, left } => {
                if let Some(known) = self.lives.get_mut(life)
                    && known.exited.is_some()
                    && left.is_empty()
                    && !known.empty
                {
                    known.empty = true;
                    if let Some(rungs) = self.rungs.get_mut(&life.instance) {
                        rungs.emptied(now);
                    }
                    self.rungs.values_mut().for_each(Rungs::room);
                    if self.is_perhaps_done(&life.instance) {
                        self.spread(&BTreeSet::from([life.instance.service.clone()]));
                    }
                }
            }
            Input::Verdict { life, probe, verdict } => self.verdict(life, *probe, verdict.passed, now),
            Input::LogLine { life, pattern } => {
                let judged = self.lives.get(life).and_then(|known| known.spec.clone());
                if let Some(spec) = judged.filter(|spec| spec.log_line() == Some(pattern)) {
                    let said = |probe: Option<&Probe>| probe.is_some_and(|p| matches!(p.check, Check::LogLine(_)));
                    let startup = said(spec.startup_probe.as_ref()).then_some(ProbeSlot::Startup);
                    let readiness = said(spec.readiness.probe()).then_some(ProbeSlot::Readiness);
                    for probe in startup.into_iter().chain(readiness) {
                        self.verdict(life, probe, true, now);
                    }
                }
            }
            Input::Notified { life, message } => {
                if let Some(known) = self.lives.get_mut(life).filter(|known| known.runs() && known.stopping.is_none())
                    && let Some(spec) = known.spec.clone()
                {
                    known.slots.notified(&spec, message, now);
                }
            }
            // Whatever is asked within the longest period of this world may be forgiven.
            Input::Awoke => self.late_until = self.late_until.max(now + Duration::from_secs(10)),
            // A version before that waited on the ladder waits no more.
            Input::Tried { name, digest, result: Ok(()) } => {
                let tried = self.tries.get(name).filter(|(key, _)| key == digest).map(|(_, spec)| *spec);
                // What it waits for may be lost again before the answer comes.
                let waits = self.wishes.get(name).is_some_and(|wish| {
                    !wish.spec.depends_on.iter().all(|need| self.holds(need.condition, &need.name))
                });
                let is_held_back = self.is_cyclic(name) || waits;
                if let Some(wish) = self.wishes.get_mut(name).filter(|wish| tried == Some(wish.spec.digest))
                    && !is_held_back
                {
                    wish.perhaps.clear();
                }
                self.rungs.iter_mut().filter(|(of, _)| of.service == *name).for_each(|(_, rungs)| rungs.let_go());
            }
            Input::Tried { name, digest, result: Err(_) } => drop(self.unfit.insert(name.clone(), *digest)),
            Input::PortFree(_) => self.rungs.values_mut().for_each(Rungs::excuse),
            Input::Remembered(..)
            | Input::Adopted(_)
            | Input::FileProblems(_)
            | Input::Rules(_)
            | Input::NodeProblems(_)
            | Input::TryAgain
            | Input::HeldUp { .. }
            | Input::Mismatched { .. }
            | Input::Memory(_)
            | Input::MemoryLost(_)
            | Input::HookEnded { .. }
            | Input::Output { .. }
            | Input::Door { .. }
            | Input::PrivatePort { .. }
            | Input::PortHeld { .. }
            | Input::LostProcess { .. }
            | Input::LogProblem { .. } => {}
            Input::Problem { name, reason, message } if SHUT.contains(reason) => {
                match message {
                    Some(_) => drop(self.shut.insert(name.clone())),
                    // Who waits for it may hear that it is back.
                    None if self.shut.remove(name) => self.spread(&BTreeSet::from([name.clone()])),
                    None => {}
                }
            }
            Input::Problem { .. } => {}
        }
        self.look(now);
    }

    pub fn call(&mut self, name: &Name) -> &mut Call {
        self.calls.entry(name.clone()).or_default()
    }

    /// Somebody else listens where it is called.
    pub fn is_shut(&self, name: &Name) -> bool {
        self.shut.contains(name) && self.wishes.get(name).is_some_and(|wish| wish.spec.activation.is_some())
    }

    /// An edit that would not start, and stands in no file any more.
    pub fn is_overtaken(&self, name: &Name) -> bool {
        let tried = self.tries.get(name).is_some_and(|(key, _)| self.unfit.get(name) == Some(key));
        tried && self.wishes.get(name).is_some_and(|wish| wish.spoiled)
    }

    /// Nobody is at its door, and it runs on demand.
    pub fn is_uncalled(&self, name: &Name) -> bool {
        self.wishes.get(name).is_some_and(|wish| wish.spec.activation.is_some())
            && !self.calls.get(name).is_some_and(Call::is_made)
    }

    /// Somebody may want it: it was called, or one that depends on it may be wanted and wait for it.
    pub fn may_be_wanted(&self, name: &Name) -> bool {
        let mut seen = BTreeSet::from([name.clone()]);
        let mut open = vec![name.clone()];
        while let Some(at) = open.pop() {
            let on_demand = self.wishes.get(&at).is_some_and(|wish| wish.spec.activation.is_some());
            if !on_demand || self.calls.get(&at).is_some_and(|call| call.wanted) {
                return true;
            }
            let dependents = self.names(|wish| wish.needs().any(|need| need.name == at));
            open.extend(dependents.into_iter().filter(|dependent| seen.insert(dependent.clone())));
        }
        false
    }

    /// Nobody has been connected for as long as its manifest says.
    pub fn is_idle(&self, name: &Name, now: Duration) -> bool {
        let idle_stop = self.wishes.get(name).and_then(|wish| wish.spec.activation.as_ref()?.idle_stop);
        let used = self.calls.get(name).map_or(Duration::ZERO, |call| call.used);
        self.is_uncalled(name) && idle_stop.is_some_and(|idle_stop| now >= used + idle_stop)
    }

    fn verdict(&mut self, life: &LifeId, probe: ProbeSlot, passed: bool, now: Duration) {
        let late_until = self.late_until;
        let mut back = false;
        if let Some(known) = self.lives.get_mut(life).filter(|known| known.runs() && known.stopping.is_none())
            && let Some(spec) = known.spec.clone()
        {
            known.slots.verdict(&spec, probe, passed, now, late_until);
            back = passed && known.slots.is_news(&spec, probe);
        }
        // It may have been out, and is back.
        if back {
            self.spread(&BTreeSet::from([life.instance.service.clone()]));
        }
    }

    /// The brain has looked at everything.
    pub fn decided(&mut self) {
        self.turn_news.clear();
        if self.scanned && !self.lost {
            // No file of it was found: what was said of it goes with it.
            let (wishes, refused) = (&self.wishes, &self.refused);
            let (gone, kept) = (&mut self.gone, |name: &Name| wishes.contains_key(name) || refused.contains(name));
            self.said.retain(|name, _| kept(name) || !gone.insert(name.clone()));
        }
    }

    /// Who is ready now, and what follows from it.
    pub fn look(&mut self, now: Duration) {
        let mut news: BTreeSet<Name> = BTreeSet::new();
        for (life, known) in &mut self.lives {
            let ready = known.ready();
            match (ready, known.ready_since) {
                (true, None) => {
                    known.ready_since = Some(now);
                    known.carried = true;
                    news.insert(life.instance.service.clone());
                }
                (false, Some(_)) if !ready => {
                    known.count_readiness(now);
                    known.ready_since = None;
                    known.carried &= known.stopping.is_some() || known.exited.is_some();
                }
                (true, Some(_)) | (false, _) => {}
            }
            known.count_readiness(now);
        }
        self.spread(&news);
        let bereft: Vec<Name> = self
            .wishes
            .iter()
            .filter(|(_, wish)| wish.needs().any(|d| d.on_loss == OnLoss::Stop && !self.holds(d.condition, &d.name)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in bereft {
            // A run that has come no further than its hook leaves no trace here.
            let job = self.wishes.get(&name).is_some_and(|wish| wish.spec.schedule.is_some());
            if (job || self.rungs.keys().any(|instance| instance.service == name))
                && let Some(wish) = self.wishes.get_mut(&name)
            {
                wish.bereft = true;
            }
        }
        self.follow_needs();
        self.follow_required(now);
        // Who was called by one that is gone since has been called.
        for name in self.names(|wish| wish.spec.activation.is_some()) {
            if self.may_be_wanted(&name) {
                self.call(&name).wanted = true;
            }
        }
    }

    /// These became ready, or ran to their end: waits may be cut.
    fn spread(&mut self, news: &BTreeSet<Name>) {
        self.turn_news.extend(news.iter().cloned());
        for (instance, rungs) in &mut self.rungs {
            let needs = self.wishes.get(&instance.service).map(|wish| &wish.spec.depends_on);
            for name in news.iter().filter(|name| **name != instance.service) {
                let needed = needs.is_some_and(|needs| needs.iter().any(|dependency| dependency.name == *name));
                if needed { rungs.excuse() } else { rungs.neighbour_recovered() }
            }
        }
    }

    fn follow_needs(&mut self) {
        let cares = |d: &&Dependency| d.on_loss != OnLoss::Ignore;
        for name in self.names(|wish| wish.needs().any(|d| cares(&d))) {
            let versions: Vec<Arc<Spec>> = self.wishes[&name].versions().cloned().collect();
            let doubtful =
                |known: &Life| known.ready() && !known.spec.as_ref().is_some_and(|spec| known.slots.surely_ready(spec));
            for needs in versions.iter().map(|spec| &spec.depends_on) {
                let held = needs.iter().filter(cares).all(|d| self.holds(d.condition, &d.name));
                let surely = !self.lives.iter().any(|(life, known)| {
                    needs.iter().any(|need| need.name == life.instance.service) && doubtful(known)
                });
                for (_, known) in self.lives.iter_mut().filter(|(life, _)| life.instance.service == name) {
                    known.lost_need |= known.needs_held && !(held && surely);
                    known.needs_held |= held;
                }
            }
        }
    }

    fn follow_required(&mut self, now: Duration) {
        let unready: BTreeSet<Name> = self
            .names(|wish| wish.versions().all(|spec| spec.required))
            .into_iter()
            .filter(|name| self.is_owed(name))
            .collect();
        self.unready.retain(|name, _| unready.contains(name));
        for name in unready {
            self.unready.entry(name).or_insert(now);
        }
    }

    /// Required, meant to run, and neither ready nor completed.
    fn is_owed(&self, name: &Name) -> bool {
        let wish = &self.wishes[name];
        // A job waits for its next run, whatever became of the last.
        let job = wish.spec.schedule.is_some();
        // Nobody is owed what nobody calls.
        let job = job || (self.is_uncalled(name) && !self.is_shut(name));
        let at_rest = job || !wish.spec.enabled || wish.stopped || wish.bereft || wish.least() == 0;
        let fine = (0..wish.most()).any(|index| {
            let instance = Instance { service: name.clone(), index };
            let ready = || self.ready_lives(name).any(|life| life.instance == instance);
            self.is_perhaps_done(&instance) || (!self.is_shut(name) && ready())
        });
        !at_rest && !fine
    }

    fn names(&self, which: impl Fn(&Wish) -> bool) -> Vec<Name> {
        self.wishes.iter().filter(|(_, wish)| which(wish)).map(|(name, _)| name.clone()).collect()
    }

    fn declared(&mut self, declaration: &Declaration, now: Duration) {
        let spec = declaration.spec.clone();
        let name = spec.name.clone();
        let new = self.gone.remove(&name);
        self.refused.remove(&name);
        self.refused_missing.remove(&name);
        let found = matches!(declaration.program, Resolved::Found { .. });
        let old = self.wishes.remove(&name);
        let before = old.as_ref().map(|wish| (wish.spec.process_digest, wish.found, wish.spec.digest));
        let same = before.is_some_and(|(print, was, _)| print == spec.process_digest && was == found);
        let mut moved = before.is_some_and(|(_, _, digest)| digest != spec.digest);
        let was_job = old.as_ref().is_some_and(|wish| wish.spec.schedule.is_some());
        let occupied = self.lives.iter().any(|(life, known)| life.instance.service == name && !known.empty);
        if new || old.as_ref().is_some_and(|wish| wish.spec.activation.is_none()) {
            // What is on its way to run, a hook before it included, goes on.
            self.call(&name).wanted = true;
            if occupied {
                self.call(&name).used = now;
            }
        }
        let same_scale = old.as_ref().is_some_and(|wish| wish.spec.replicas == spec.replicas);
        // A life that outlives its manifest keeps what it was ordered: a new order is one more.
        let ordered = self.lives.iter().filter(|(life, _)| life.instance.service == name).map(|(_, one)| one.restarts);
        let ordered = ordered.max().unwrap_or(0);
        let mut wish = Wish {
            found,
            stopped: old.as_ref().is_some_and(|wish| wish.stopped),
            scaled: old.as_ref().and_then(|wish| wish.scaled).filter(|_| same_scale),
            missing: false,
            bereft: old.as_ref().is_some_and(|wish| wish.bereft),
            restarts: old.as_ref().map_or(ordered, |wish| wish.restarts),
            spoiled: false,
            perhaps_scaled: old.as_ref().and_then(|wish| wish.scaled.or(wish.perhaps_scaled)),
            perhaps: old.as_ref().map_or(Vec::new(), |wish| wish.versions().cloned().collect()),
            spec: spec.clone(),
        };
        if let (None, Some((versions, scaled))) = (&old, self.inherited.remove(&name)) {
            (wish.perhaps, wish.perhaps_scaled) = (versions, scaled);
        }
        if let (None, Some(said)) = (&old, self.said.remove(&name)) {
            let scaled = said.scaled.filter(|_| said.over.is_none_or(|over| over == spec.replicas));
            (wish.stopped, wish.scaled, wish.restarts) = (said.stopped, scaled, said.restarts);
            wish.bereft = said.bereft;
            moved = said.digest.is_some_and(|digest| digest != spec.digest);
        }
        let edited = moved || new || (!same && before.is_some());
        wish.bereft &= !edited;
        self.wishes.insert(name.clone(), wish);
        if edited && (!same || new) {
            self.anew(&name, now);
            // A job that is just ending is to be done anew.
            let lives = &self.lives;
            self.completed.retain(|of, _| {
                of.service != name
                    || before.is_none()
                    || !lives.iter().any(|(life, known)| life.instance == *of && !known.empty)
            });
        } else if edited {
            self.anew_gently(&name);
        }
        if new {
            // Whether its ladder was begun anew with it depends on when it was seen to be gone.
            self.rungs.iter_mut().filter(|(of, _)| of.service == name).for_each(|(_, rungs)| rungs.doubt());
        }
        if spec.schedule.is_none() || new {
            self.end_schedule(&name);
        }
        if self.succeeded.contains(&name) {
            // That it has is known with its manifest.
            self.spread(&BTreeSet::from([name.clone()]));
        }
        match (was_job, spec.schedule.is_some()) {
            (true, false) => {
                let mine = self.rungs.iter_mut().filter(|(of, _)| of.service == name);
                mine.for_each(|(_, rungs)| rungs.let_go());
            }
            (_, true) => {
                let done: Vec<Instance> = self.completed.keys().filter(|of| of.service == name).cloned().collect();
                self.completed.retain(|of, _| of.service != name);
                self.perhaps_done.extend(done);
            }
            (false, false) => {}
        }
        let always = spec.restart.policy == RestartPolicy::Always;
        let kept = |print: &Digest| !always && (!found || *print == spec.process_digest);
        let over = |(of, print): (&Instance, &Digest)| (of.service == name && !kept(print)).then(|| of.clone());
        let perhaps: Vec<Instance> = self.completed.iter().filter_map(over).collect();
        self.completed.retain(|of, _| !perhaps.contains(of));
        self.perhaps_done.extend(perhaps);
        for (_, life) in self.lives.iter_mut().filter(|(life, _)| life.instance.service == name) {
            if life.print == spec.process_digest {
                // With what it depends on it may wait to be taken up, until that is told (`Action::Judge`).
                let old = life.spec.clone().or_else(|| life.was.take());
                if old.as_ref().is_none_or(|old| old.depends_on == spec.depends_on) {
                    life.take_up(&spec, now);
                } else if let Some(old) = old.filter(|_| life.spec.is_none()) {
                    life.take_up(&old, now);
                }
            } else if life.spec.is_none() {
                // Another version is declared than runs: it is judged by its own checks.
                let own = life.own.as_ref();
                let judged = Spec {
                    readiness: own.map_or(Readiness::AtExec, |own| own.readiness.clone()),
                    startup_probe: own.and_then(|own| own.startup_probe.clone()),
                    liveness_probe: own.and_then(|own| own.liveness_probe.clone()),
                    ..(*spec).clone()
                };
                life.slots = Slots::handed_over(&life.slots, &judged, now, life.carried, true);
                life.spec = Some(Arc::new(judged));
            }
        }
    }

    fn withdrawn(&mut self, name: &Name) {
        if self.lost {
            if let Some(wish) = self.wishes.get_mut(name) {
                wish.missing = true;
            }
            if self.refused.contains(name) {
                self.refused_missing.insert(name.clone());
            }
            return;
        }
        if self.wishes.remove(name).is_some() || self.refused.remove(name) {
            self.gone.insert(name.clone());
        }
        self.said.remove(name);
        self.call(name).wanted = false;
        self.completed.retain(|of, _| of.service != *name);
        self.end_schedule(name);
        self.anew(name, Duration::ZERO);
    }

    /// It keeps no schedule any more: what runs is no run.
    fn end_schedule(&mut self, name: &Name) {
        self.succeeded.remove(name);
        self.lives
            .iter_mut()
            .filter(|(life, _)| life.instance.service == *name)
            .for_each(|(_, life)| life.is_run = false);
    }

    fn ordered(&mut self, name: &Name, order: Order) {
        let Some(wish) = self.wishes.get_mut(name) else {
            return self.ordered_unread(name, order);
        };
        match order {
            Order::Stop => wish.stopped = true,
            Order::Resume if wish.spec.schedule.is_none() => {}
            Order::Resume => (wish.stopped, wish.bereft) = (false, false),
            Order::Scale(_) if wish.spec.schedule.is_some() => {}
            Order::Scale(count) => {
                (wish.scaled, wish.perhaps_scaled) = (Some(count), None);
                // With fewer wanted, all that are may have completed.
                self.spread(&BTreeSet::from([name.clone()]));
                self.completed.retain(|of, _| of.service != *name || of.index < count.max(1));
                for (instance, rungs) in self.rungs.iter_mut().filter(|(of, _)| of.service == *name) {
                    // What is let go begins anew when it is wanted again.
                    if instance.index < count.max(1) { rungs.excuse() } else { rungs.let_go() }
                }
            }
            Order::Start | Order::Restart => {
                wish.stopped = false;
                wish.bereft = false;
                wish.scaled = wish.scaled.filter(|to| *to > 0);
                wish.perhaps_scaled = wish.perhaps_scaled.filter(|to| *to > 0);
                wish.restarts += u32::from(order == Order::Restart);
                self.completed.retain(|of, _| of.service != *name);
                self.anew(name, Duration::ZERO);
            }
        }
    }

    /// Known from the keeper or the disk, its manifest not read.
    fn ordered_unread(&mut self, name: &Name, order: Order) {
        if !self.said.contains_key(name) && !self.lives.keys().any(|life| life.instance.service == *name) {
            return;
        }
        // A service that is going takes what is said of it with it.
        let gone = self.gone.contains(name);
        let mut nothing = Said::default();
        let said = if gone { &mut nothing } else { self.said.entry(name.clone()).or_default() };
        match order {
            Order::Stop => said.stopped = true,
            Order::Resume => {}
            // Which `replicas` that is of, nobody has read.
            Order::Scale(count) => (said.scaled, said.over) = (Some(count), None),
            Order::Start | Order::Restart => {
                (said.stopped, said.bereft) = (false, false);
                said.scaled = said.scaled.filter(|to| *to > 0);
                said.restarts += u32::from(order == Order::Restart);
                self.completed.retain(|of, _| of.service != *name);
                self.anew(name, Duration::ZERO);
                self.rungs.iter_mut().filter(|(of, _)| of.service == *name).for_each(|(_, rungs)| rungs.doubt());
            }
        }
    }

    /// New, edited, or started by hand.
    fn anew(&mut self, name: &Name, _now: Duration) {
        for (instance, rungs) in self.rungs.iter_mut().filter(|(of, _)| of.service == *name) {
            let ending = self.lives.iter().any(|(life, known)| {
                let last = life.instance == *instance && life.life == rungs.number && !known.empty;
                last && (known.stopping.is_some() || known.exited.is_some())
            });
            rungs.anew(ending);
        }
    }

    /// Edited in what needs no new process: what is just ending ends as what it was, and counts.
    fn anew_gently(&mut self, name: &Name) {
        for (instance, rungs) in self.rungs.iter_mut().filter(|(of, _)| of.service == *name) {
            let ending = self.lives.iter().any(|(life, known)| {
                life.instance == *instance && life.life == rungs.number && !known.empty && known.exited.is_some()
            });
            rungs.anew(false);
            if ending {
                rungs.doubt();
            }
        }
    }

    fn exited(&mut self, life: &LifeId, exit: Exit, now: Duration) {
        let Some(known) = self.lives.get_mut(life) else { return };
        if known.exited.is_some() {
            return;
        }
        known.count_readiness(now);
        // As the brain may see it, which has its age from the keeper.
        known.steady |= known.inherited && now - known.born >= Duration::from_secs(59);
        known.exited = Some(exit);
        known.judged = true;
        known.ready_since = None;
        let end = match (known.stopping.is_some(), known.asked_for, known.unasked_for) {
            (false, _, _) => End::ByItself(exit),
            // How long it waits depends on whether it had lasted.
            (true, false, true) if known.for_its_need => End::Unclear,
            (true, false, true) => End::ByOurChecks,
            (true, true, false) => End::AskedFor,
            (true, _, _) => End::Unclear,
        };
        self.end(life, end, now);
    }

    fn end(&mut self, life: &LifeId, end: End, now: Duration) {
        let Some(wish) = self.wishes.get(&life.instance.service) else {
            if let Some(rungs) = self.rungs.get_mut(&life.instance) {
                rungs.forget_step();
            }
            if let (End::ByItself(exit), Some(known)) = (end, self.lives.get(life))
                && exit.status() == 0
                && known.is_run
            {
                self.succeeded.insert(life.instance.service.clone());
            } else if let (End::ByItself(exit), Some(known)) = (end, self.lives.get(life))
                && exit.status() == 0
                && known.is_job
            {
                self.completed.insert(life.instance.clone(), known.print);
            }
            return;
        };
        if wish.spec.schedule.is_some() {
            // Its ladder is of one run and is not followed here.
            let run = self.lives.get(life).is_some_and(|known| known.is_run);
            if matches!(end, End::ByItself(exit) if exit.status() == 0) {
                if run {
                    self.succeeded.insert(life.instance.service.clone());
                } else {
                    // Of the version before, which may have been in force.
                    self.perhaps_done.insert(life.instance.clone());
                }
                self.spread(&BTreeSet::from([life.instance.service.clone()]));
            }
            return;
        }
        let known = self.lives.get(life);
        // Whether what ran of an older version goes on the ladder depends on whether the edit is held up.
        let outdated = known.is_some_and(|known| known.print != wish.spec.process_digest);
        let (steady, inherited) = known.map_or((false, false), |known| (known.steady, known.inherited));
        let Some(rungs) = self.rungs.get_mut(&life.instance) else { return };
        let fresh = rungs.is_fresh();
        let finished = rungs.ended(&wish.spec, end, outdated, steady, inherited, now);
        if !self.turn_news.is_empty() {
            rungs.excuse();
        }
        if outdated && let Some(known) = known {
            rungs.let_go();
            let ends = |spec: &Spec| spec.restart.policy != RestartPolicy::Always;
            // The version before may have been kept over a change of controllers.
            let job = known.is_job || known.spec.as_deref().is_some_and(ends) || ends(&wish.spec);
            if job && matches!(end, End::ByItself(exit) if exit.status() == 0) {
                self.perhaps_done.insert(life.instance.clone());
                self.spread(&BTreeSet::from([life.instance.service.clone()]));
            }
            return;
        }
        let by_call = wish.spec.activation.is_some();
        if by_call && !fresh && !outdated && matches!(end, End::ByItself(exit) if exit.status() == 0) {
            // Until it sleeps, which is when nobody is connected.
            self.perhaps_done.insert(life.instance.clone());
            self.spread(&BTreeSet::from([life.instance.service.clone()]));
            return;
        }
        if finished
            && !fresh
            && !outdated
            && let Some(known) = known
        {
            let job = wish.spec.restart.policy != RestartPolicy::Always;
            let success = job && matches!(end, End::ByItself(exit) if exit.status() == 0);
            if success {
                self.completed.insert(life.instance.clone(), known.print);
                self.spread(&BTreeSet::from([life.instance.service.clone()]));
            }
        }
    }

    /// A new controller: what the keeper holds is all that it knows.
    pub fn inherit<'a>(&mut self, held: impl Iterator<Item = (&'a LifeId, &'a crate::process::Entry)>, now: Duration) {
        let old = std::mem::take(self);
        let mut ran_out = Vec::new();
        let mut succeeded = old.succeeded.clone();
        for (life, entry) in held {
            let is_run = entry.spec.schedule.is_some() && old.lives.get(life).is_none_or(|before| before.is_run);
            if entry.exit == Some(Exit::code(0)) && !entry.doomed && is_run {
                succeeded.insert(life.instance.service.clone());
            } else if entry.exit == Some(Exit::code(0)) {
                ran_out.push((life.instance.clone(), entry.print));
            }
            let before = old.lives.get(life);
            let was_ready = before.is_some_and(|before| before.carried);
            // The keeper holds that its end has begun.
            let begun = before.filter(|_| String::from_utf8_lossy(&entry.blob).contains("\"d\":{"));
            let known = Life {
                print: entry.print,
                spawned: Some(now),
                exited: entry.exit,
                stopping: begun.map(|before| before.stopping.unwrap_or(now)),
                asked_for: entry.doomed || begun.is_some_and(|before| before.asked_for),
                unasked_for: begun.is_some_and(|before| before.unasked_for),
                for_its_need: begun.is_some_and(|before| before.for_its_need),
                slots: before.map(|before| before.held()).unwrap_or_default(),
                own: before.and_then(|before| before.own.clone()),
                was: before.and_then(|before| before.spec.clone()),
                restarts: before.map_or(0, |before| before.restarts),
                inherited: true,
                needs_held: true,
                // Long enough for the new one to see it steady.
                lasted: entry.exit.is_some() && entry.ended - entry.spawned >= Duration::from_secs(59),
                born: entry.spawned,
                is_job: entry.spec.restart.policy != RestartPolicy::Always,
                carried: was_ready,
                is_run,
                ..Life::default()
            };
            self.lives.insert(life.clone(), known);
            if entry.exit.is_none() {
                let call = self.call(&life.instance.service);
                (call.wanted, call.used) = (true, now);
            }
        }
        // Who was wanted still is, and who slept sleeps.
        for (name, call) in &old.calls {
            let inherited = self.call(name);
            inherited.wanted |= call.wanted;
            inherited.used = now;
        }
        self.rungs = old.rungs;
        for (instance, rungs) in &mut self.rungs {
            let known = |life: &&LifeId| life.instance == *instance;
            let untold = |life: &LifeId, known: &Life| {
                life.instance == *instance
                    && known.exited.is_some()
                    && (known.lasted || old.lives.get(life).is_none_or(|before| !before.judged))
            };
            if self.lives.iter().any(|(life, known)| untold(life, known)) {
                rungs.forget_step();
            }
            rungs.inherit(self.lives.keys().filter(known).map(|life| life.life).max());
        }
        self.succeeded = succeeded;
        self.completed = old.completed;
        // As the keeper has it, it ran to its end, whatever was ordered since.
        self.completed.extend(ran_out);
        self.shutdown = old.shutdown;
        self.late_until = old.late_until;
        // What people said outlives a controller.
        self.said = old.said;
        self.inherited = old.inherited;
        for (name, wish) in &old.wishes {
            let scaled = wish.scaled.or(wish.perhaps_scaled);
            self.inherited.insert(name.clone(), (wish.versions().cloned().collect(), scaled));
        }
        self.said.extend(old.wishes.into_iter().map(|(name, wish)| {
            let digest = Some(wish.spec.digest);
            let over = Some(wish.spec.replicas);
            let Wish { stopped, bereft, scaled, restarts, .. } = wish;
            (name, Said { stopped, bereft, scaled, over, restarts, digest })
        }));
    }

    fn is_last_try(&self, life: &LifeId, print: Option<Digest>) -> bool {
        self.rungs.get(&life.instance).is_some_and(|rungs| rungs.number == life.life && Some(rungs.print) == print)
    }

    pub fn ready_lives(&self, name: &Name) -> impl Iterator<Item = &LifeId> + '_ {
        let lives = self.lives.iter().filter(move |(_, known)| known.ready());
        let name = name.clone();
        lives.map(|(life, _)| life).filter(move |life| life.instance.service == name)
    }

    /// Whether a condition on a service may hold, as far as it was told.
    pub fn holds(&self, condition: Condition, name: &Name) -> bool {
        self.holds_by(condition, name, |instance| self.completed.contains_key(instance))
    }

    /// As [`Facts::holds`], as far as is known.
    pub fn may_hold(&self, condition: Condition, name: &Name) -> bool {
        self.holds_by(condition, name, |instance| self.is_perhaps_done(instance))
    }

    pub fn is_perhaps_done(&self, instance: &Instance) -> bool {
        self.completed.contains_key(instance) || self.perhaps_done.contains(instance)
    }

    fn holds_by(&self, condition: Condition, name: &Name, is_done: impl Fn(&Instance) -> bool) -> bool {
        let wish = self.wishes.get(name);
        let most = wish.map_or(u32::MAX, Wish::most);
        let mine = |life: &LifeId| life.instance.service == *name && life.instance.index < most;
        let started = || self.lives.iter().any(|(life, known)| mine(life) && known.runs() && known.stopping.is_none());
        let ready = || !self.is_shut(name) && self.ready_lives(name).any(mine);
        let is_job = |spec: &Arc<Spec>| spec.schedule.is_some();
        let any = |which: &dyn Fn(&Arc<Spec>) -> bool| wish.is_some_and(|wish| wish.versions().any(which));
        let is_all_done = |wanted: u32| {
            (1..=1_000).contains(&wanted)
                && (0..wanted).all(|index| is_done(&Instance { service: name.clone(), index }))
        };
        let completed = || {
            (any(&is_job) && self.succeeded.contains(name))
                || (any(&|spec| !is_job(spec)) && wish.into_iter().flat_map(Wish::wanted).any(is_all_done))
        };
        match condition {
            Condition::Started => started() || completed(),
            Condition::Ready => ready() || completed(),
            Condition::Completed => completed(),
        }
    }

    /// Whether the service is in a cycle of dependencies.
    /// By one of the versions that may be in force.
    pub fn is_cyclic(&self, name: &Name) -> bool {
        self.may_need(name).contains(name)
    }

    /// All that it needs by what is declared, directly or not. Of what goes round in a circle a version before may be in
    /// force: it orders nothing for sure.
    pub fn needs(&self, name: &Name) -> BTreeSet<Name> {
        let counts = |wish: &Wish| wish.spec.name == *name || !self.is_cyclic(&wish.spec.name);
        self.all_needs(name, |wish| if counts(wish) { vec![&wish.spec] } else { Vec::new() })
    }

    /// The same by all versions that may be in force.
    pub fn may_need(&self, name: &Name) -> BTreeSet<Name> {
        self.all_needs(name, |wish| wish.versions().collect())
    }

    fn all_needs(&self, name: &Name, versions: impl Fn(&Wish) -> Vec<&Arc<Spec>>) -> BTreeSet<Name> {
        let mut seen = BTreeSet::new();
        let mut open = vec![name.clone()];
        while let Some(at) = open.pop() {
            let specs = self.wishes.get(&at).map(&versions).unwrap_or_default();
            for dependency in specs.into_iter().flat_map(|spec| &spec.depends_on) {
                if seen.insert(dependency.name.clone()) {
                    open.push(dependency.name.clone());
                }
            }
        }
        seen
    }

    /// Nothing stands in the way of an instance.
    pub fn should_run(&self, instance: &Instance) -> bool {
        self.shutdown.is_none()
            && self.wishes.get(&instance.service).is_some_and(|wish| {
                let held = wish.spec.depends_on.iter().all(|d| !d.optional && self.holds(d.condition, &d.name));
                wish.spec.enabled
                    && wish.found
                    && !wish.stopped
                    && !wish.bereft
                    && instance.index < wish.least()
                    && held
                    && !self.is_cyclic(&instance.service)
                    && !self.is_uncalled(&instance.service)
            })
    }
}

impl Life {
    /// How it stands as the keeper has it.
    fn held(&self) -> Slots {
        match &self.spec {
            Some(spec) => self.slots.held(spec),
            // The controller in between has not read its manifest.
            None => self.slots.clone(),
        }
    }

    pub fn take_up(&mut self, spec: &Arc<Spec>, now: Duration) {
        let checks = |spec: &Spec| (spec.readiness.clone(), spec.startup_probe.clone(), spec.liveness_probe.clone());
        if self.spec.as_ref().is_none_or(|old| checks(old) != checks(spec)) {
            let was_ready = self.ready_since.is_some() || self.slots.was_ready();
            let asked = |spec: &Spec| spec.readiness.probe().map(|probe| probe.check.clone());
            match &self.spec {
                None if self.inherited => {
                    let same = self.own.iter().all(|own| checks(own) == checks(spec));
                    self.slots = Slots::handed_over(&self.slots, spec, now, self.carried, same);
                }
                Some(old) if (&old.readiness, &old.startup_probe) == (&spec.readiness, &spec.startup_probe) => {
                    self.slots.relive(now);
                }
                Some(old) if self.slots.ready(old) && was_ready && asked(old) == asked(spec) => {
                    self.slots = Slots::begin(spec, now).resumed(true).go_on();
                }
                Some(_) | None => {
                    let begun = Slots::begin(spec, now).resumed(was_ready).for_spec(spec);
                    self.slots = begun.leaving(&self.slots);
                }
            }
        }
        self.spec = Some(spec.clone());
    }

    fn count_readiness(&mut self, now: Duration) {
        if let (Some(since), Some(spec)) = (self.ready_since, &self.spec) {
            self.steady |= now.saturating_sub(since) >= spec.restart.backoff.reset_after;
            self.lasted |= now.saturating_sub(since) >= spec.min_ready;
        }
    }
}
