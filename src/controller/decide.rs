//! One decision: visit what is dirty, compare, and say what is to be done.
//!
//! A visit looks at one service and what others say of it (standings); its cost does not depend on
//! how many services there are. A visit that changes a service's own standing marks those who
//! depend on it, so a decision ends when nothing changes any more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Controller;
use super::input::Resolved;
use super::life::Life;
use super::plan::{Action, Plan};
use super::service::{Gate, Id, Needs, Service};
use crate::model::manifest::nearest;
use crate::model::name::{LifeId, Name};
use crate::model::spec::{Condition, Dependency, OnLoss, RestartPolicy, Spec};
use crate::model::time::Now;
use crate::policy::depends::{Standing, allows, holds};

/// A misspelt dependency is held against so many names: in the loop nothing may take long.
const NEAREST_AMONG: usize = 1_000;

/// What is wanted of one instance now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing is known yet: touch nothing, start nothing.
    Hold,
    /// It must not run.
    Stop,
    /// What runs goes on; nothing starts.
    Keep,
    Run,
    /// It runs an old version and its turn has come.
    Replace,
}

/// Moves a service to another moment of those at which each is due once.
pub(super) fn enter(all: &mut BTreeSet<(Duration, Id)>, own: &mut Option<Duration>, next: Option<Duration>, id: Id) {
    if *own == next {
        return;
    }
    if let Some(old) = std::mem::replace(own, next) {
        all.remove(&(old, id));
    }
    all.extend(next.map(|new| (new, id)));
}

impl Controller {
    /// Compares what is desired with what is observed. With no new fact and no deadline passed it
    /// returns an empty plan.
    pub fn decide(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
        // Before the service may be told as gone.
        plan.actions.extend(self.exits.drain(..).map(|(name, exit)| Action::NoteExit(name, Box::new(exit))));
        plan.actions.extend(self.misses.drain(..).map(Action::NoteMiss));
        self.compare_clocks(now);
        self.end_what_is_read(now);
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now.mono {
                break;
            }
            self.deadlines.pop_first();
            if let Some(service) = self.table.get_mut(id) {
                service.deadline = None;
            }
            self.mark(id);
        }
        loop {
            self.settle_cycles();
            while let Some(id) = self.dirty.pop_front() {
                if let Some(first) = self.unsettled_need(id) {
                    self.dirty.push_front(id);
                    self.dirty.push_front(first);
                    continue;
                }
                self.lower_needs(id);
                self.visit(id, now, &mut plan);
                if !self.edges_changed.is_empty() {
                    self.settle_cycles();
                }
            }
            self.spread_recovery(now);
            self.spread_room(now);
            self.puzzle_again();
            if !self.dirty.is_empty() {
                continue;
            }
            if self.has_room()
                && let Some(id) = self.queue.pop_front()
            {
                if let Some(service) = self.table.get_mut(id) {
                    service.queued = false;
                }
                self.serving = Some(id);
                self.visit(id, now, &mut plan);
                self.serving = None;
                continue;
            }
            if !self.decide_node(now, &mut plan) && self.dirty.is_empty() {
                break;
            }
        }
        self.ask_what_is_due(now, &mut plan);
        plan.actions.extend(self.port_asks.drain(..).map(Action::AwaitPort));
        plan.actions.extend(self.events.drain(..).map(Action::Record));
        plan
    }

    /// What `id` depends on and has not been looked at yet: its standing may be of the past. (In a
    /// cycle nobody is first.)
    fn unsettled_need(&self, id: Id) -> Option<Id> {
        let service = self.table.get(id).filter(|service| service.dirty && service.cycle.is_none())?;
        let needs = service.all_needs();
        let mut ids = needs.filter_map(|dependency| self.table.id(&dependency.name)).filter(|&other| other != id);
        ids.find(|&other| self.table.get(other).is_some_and(|other| other.dirty))
    }

    /// In a cycle nobody can be looked at first: what is lost already is at least not counted on.
    fn lower_needs(&mut self, id: Id) {
        let Some(service) = self.table.get(id).filter(|service| service.cycle.is_some()) else { return };
        let needs = service.all_needs();
        let ids: Vec<Id> = needs.filter_map(|dependency| self.table.id(&dependency.name)).collect();
        for other in ids {
            let Some(need) = self.table.get(other).filter(|need| need.dirty) else { continue };
            let (old, new, name) = (self.table.standing(other), self.standing(need), need.name.clone());
            let lowered = Standing {
                started: old.started && new.started,
                ready: old.ready && new.ready,
                completed: old.completed && new.completed,
                ..old
            };
            if lowered != old {
                self.table.set_standing(other, lowered);
                self.tell_dependents_gone(&name);
            }
        }
    }

    /// A name came or went: it may be the one that was meant.
    fn puzzle_again(&mut self) {
        if std::mem::replace(&mut self.turnover, self.table.turnover) != self.table.turnover {
            for id in self.puzzled.iter().copied().collect::<Vec<_>>() {
                self.mark(id);
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.asked < self.config.asked_max && self.config.max_starting.is_none_or(|most| self.starting < most)
    }

    /// Whether `id` may start an instance now; if not, it is called when there is room.
    pub(super) fn admitted(&mut self, id: Id, service: &mut Service) -> bool {
        if self.ends_unread.is_some() {
            return false;
        }
        if self.has_room() && (self.queue.is_empty() || self.serving == Some(id)) {
            return true;
        }
        if !service.queued {
            service.queued = true;
            self.queue.push_back(id);
        }
        false
    }

    fn visit(&mut self, id: Id, now: Now, plan: &mut Plan) {
        let Some(mut service) = self.table.take(id) else { return };
        let due = std::mem::take(&mut service.dirty) || self.serving == Some(id);
        if !due {
            // Already looked at, for somebody who depends on it.
            self.table.put(id, service);
            return;
        }
        let mut deadline: Option<Duration>;
        // An instance that moved may be what the others of its service waited for (a roll); and where all has ended
        // that is called, it may sleep.
        let mut over = false;
        loop {
            service.moved = false;
            deadline = self.pass(id, &mut service, now, plan);
            let was_over = std::mem::replace(&mut over, service.activation().is_some() && service.is_over());
            if !service.moved && was_over == over {
                break;
            }
            service.touched |= service.moved;
        }
        self.follow_kept(id, &mut service);
        let mut wake = |at: Option<Duration>| deadline = deadline.into_iter().chain(at).min();
        wake(self.trial_deadline(&service, now));
        wake(service.churn.held(now));
        self.clocks.keeps(id, service.schedule().is_some());
        self.retire_spare(&mut service, plan);

        if service.gate == Gate::Gone && !service.is_occupied() {
            self.remove(id, service, plan);
            return;
        }
        self.retally(&mut service);
        self.note_port(id, &mut service);
        self.requirement(&mut service, now);
        self.follow_door(&mut service, now);
        wake(self.weigh(&mut service, now));
        self.present(&mut service, now, plan);
        let standing = self.standing(&service);
        let news = self.table.standing(id) != standing;
        let ready_news = standing.ready && !self.table.standing(id).ready;
        self.table.set_standing(id, standing);
        // That a process was executed again is no recovery where nothing checks it.
        if ready_news && service.troubled && service.rules().is_some_and(|spec| is_checked(spec)) {
            self.recovered.push(id);
        }
        if ready_news {
            service.troubled = false;
        }
        enter(&mut self.deadlines, &mut service.deadline, deadline, id);
        self.ask_at(id, &mut service);
        let name = service.name.clone();
        self.table.put(id, service);
        if news {
            self.tell_dependents(&name, ready_news, now);
        }
    }

    /// Looks once at the gate and at each instance; gives the moment to look again.
    fn pass(&mut self, id: Id, service: &mut Service, now: Now, plan: &mut Plan) -> Option<Duration> {
        self.watch_dependencies(service, now);
        let gate = self.gate(id, service);
        if service.gate != gate {
            service.gate = gate;
            service.touched = true;
            if service.gate == Gate::Gone {
                service.forget_orders();
            }
        }
        let mut deadline = self.follow_schedule(service, now).into_iter().chain(self.follow_demand(service, now)).min();
        let wants = self.wants(id, service, now, plan);
        let is_puzzled = |gate: &Gate| matches!(gate, Gate::Waiting(Needs { unknown: true, .. }));
        match is_puzzled(&service.gate) || service.kept_gate.as_ref().is_some_and(is_puzzled) {
            true => self.puzzled.insert(id),
            false => self.puzzled.remove(&id),
        };
        for (at, want) in wants.into_iter().enumerate() {
            let wake = self.drive(id, service, at, want, now, plan);
            deadline = deadline.into_iter().chain(wake).min();
            for life in std::mem::take(&mut service.instances[at].spare) {
                let instance = service.life_id(at).instance;
                plan.actions.push(Action::Forget { life: LifeId { instance, life } });
            }
        }
        self.call_dependencies(service);
        deadline
    }

    fn tell_dependents(&mut self, name: &crate::model::name::Name, ready: bool, now: Now) {
        for dependent in self.table.dependents(name).collect::<Vec<_>>() {
            if ready {
                self.cut_wait(dependent, now, super::waits::News::Own);
            }
            self.mark(dependent);
        }
    }

    fn remove(&mut self, id: Id, mut service: Box<Service>, plan: &mut Plan) {
        for at in 0..service.instances.len() {
            self.forget(&mut service, at, plan);
        }
        enter(&mut self.deadlines, &mut service.deadline, None, id);
        enter(&mut self.questions, &mut service.question, None, id);
        self.backing_off.remove(&id);
        self.puzzled.remove(&id);
        self.clocks.keeps(id, false);
        self.leave_ports(id, &mut service);
        self.retally(&mut service);
        self.discount(&service);
        let name = service.name.clone();
        plan.actions.push(Action::Retire(name.clone()));
        self.table.drop_taken(id, &service);
        self.tell_dependents_gone(&name);
        self.node_touched = true;
    }

    fn tell_dependents_gone(&mut self, name: &crate::model::name::Name) {
        for dependent in self.table.dependents(name).collect::<Vec<_>>() {
            self.mark(dependent);
        }
    }

    pub(super) fn forget(&mut self, service: &mut Service, at: usize, plan: &mut Plan) {
        let index = service.instances[at].index;
        if let Some(life) = service.instances[at].held.take() {
            self.room = true;
            let instance = crate::model::name::Instance { service: service.name.clone(), index };
            plan.actions.push(Action::Forget { life: LifeId { instance, life } });
        }
    }

    /// Instances beyond the desired number that have ended are let go, from the end.
    fn retire_spare(&mut self, service: &mut Service, plan: &mut Plan) {
        if service.gate == Gate::Unknown || service.gate == Gate::NeverValid {
            return;
        }
        let desired = service.desired().max(1) as usize;
        while service.instances.len() > desired && service.instances.last().is_some_and(|last| !last.life.is_occupied())
        {
            let last = service.instances.len() - 1;
            self.forget(service, last, plan);
            // The number of its last life stays in the service's `lives`: it is never used again.
            service.instances.pop();
            service.touched = true;
        }
    }

    fn gate(&self, id: Id, service: &Service) -> Gate {
        if self.ending.is_some() {
            return Gate::ShuttingDown;
        }
        let Some(declaration) = &service.declared else {
            return match (&service.rejected, self.scanned && self.lost.is_none()) {
                (Some(_), _) if service.stopped && service.is_occupied() => Gate::StoppedByOperator,
                (Some(_), _) => Gate::NeverValid,
                (None, _) if service.gate == Gate::Gone => Gate::Gone,
                (None, true) => Gate::Gone,
                (None, false) => Gate::Unknown,
            };
        };
        let spec = &declaration.spec;
        if !spec.enabled {
            return Gate::Disabled;
        }
        if service.stopped {
            return Gate::StoppedByOperator;
        }
        if let Some(dependency) = &service.bereft {
            return Gate::DependencyLost(dependency.clone());
        }
        if let Some(what) = super::nothing_to_run(spec) {
            return Gate::External(what.into());
        }
        if self.config.require_user && spec.process.user.is_none() {
            return Gate::NeedsUser;
        }
        match &declaration.program {
            Resolved::Missing { .. } => return Gate::Missing,
            Resolved::Found { .. } => {}
        }
        let missing = self.needs(id, service, spec);
        match (missing.said.is_empty(), service.closes_a_circle()) {
            (true, true | false) => Gate::Open,
            (false, true) => Gate::Cycle,
            (false, false) => Gate::Waiting(missing),
        }
    }

    /// What does not hold of what a version of it depends on.
    pub(super) fn needs(&self, id: Id, service: &Service, spec: &Spec) -> Needs {
        let cyclic = service.cycle.is_some();
        let mut missing = Needs { said: Vec::new(), names: Vec::new(), unknown: false };
        for dependency in &spec.depends_on {
            let standing = match self.table.id(&dependency.name) {
                Some(other) if other == id => Standing { known: true, coming: true, ..Standing::default() },
                Some(other) => self.table.standing(other),
                None => Standing::default(),
            };
            let fine = if cyclic {
                holds(dependency.condition, &standing)
            } else {
                allows(dependency, &standing, self.scanned)
            };
            if !fine {
                missing.unknown |= !standing.known && self.scanned;
                missing.said.push(self.waits_for(&service.name, dependency, &standing));
                missing.names.push(dependency.name.clone());
            }
        }
        missing
    }

    /// One sentence; of a name that nobody bears with the one that was probably meant.
    fn waits_for(&self, who: &Name, dependency: &Dependency, standing: &Standing) -> String {
        let said = super::explain::waits_for(dependency, standing);
        let names = self.table.names();
        if standing.known || !self.scanned || names.len() > NEAREST_AMONG {
            return said;
        }
        let others = names.filter(|name| *name != who).map(|name| name.as_str());
        match nearest(dependency.name.as_str(), others) {
            Some(meant) => format!("{said} (did you mean {meant}?)"),
            None => said,
        }
    }

    /// `onLoss`: what held and holds no more.
    fn watch_dependencies(&mut self, service: &mut Service, now: Now) {
        let Some(spec) = service.rules().cloned() else { return };
        if self.ending.is_some() {
            return;
        }
        let before = std::mem::take(&mut service.seen_ready);
        let begun_before = self.scanned && std::mem::take(&mut service.begun_before) && service.cycle.is_none();
        for dependency in &spec.depends_on {
            let key = (dependency.name.clone(), dependency.condition);
            let seen = before.contains(&key) || (begun_before && !dependency.optional);
            let standing = self.table.standing_of(&dependency.name);
            let (holds, asleep) = (holds(dependency.condition, &standing), standing.asleep);
            let cares = match (dependency.on_loss, dependency.condition) {
                (OnLoss::Ignore, _) | (_, Condition::Completed) => false,
                (OnLoss::Restart | OnLoss::Stop, Condition::Started | Condition::Ready) => true,
            };
            let lost = seen && !holds && cares && !asleep && !standing.unread;
            let mut pending = false;
            let for_good = dependency.on_loss == OnLoss::Stop;
            if lost && for_good && service.is_occupied() && service.kept.is_none() {
                self.bereave(service, &dependency.name, now);
            } else if lost {
                // It was edited already: what has lost its dependency is the version before, which does not come again.
                service.touched |= for_good && service.let_go();
                for index in 0..service.instances.len() {
                    pending |= self.dependency_lost(service, index, dependency.name.as_str(), now);
                }
            }
            if holds || (seen && (asleep || standing.unread)) || (lost && pending) {
                service.seen_ready.push(key);
            }
        }
    }

    /// What is wanted of each instance; new ones are entered, an update's turn is given.
    fn wants(&mut self, id: Id, service: &mut Service, now: Now, plan: &mut Plan) -> Vec<Want> {
        let general = match &service.gate {
            Gate::Unknown => Want::Hold,
            Gate::Gone | Gate::Disabled | Gate::StoppedByOperator | Gate::DependencyLost(_) => Want::Stop,
            Gate::External(_) | Gate::NeedsUser | Gate::Missing | Gate::Waiting(_) | Gate::Cycle | Gate::NeverValid => {
                Want::Keep
            }
            Gate::ShuttingDown if self.may_stop_now(service) => Want::Stop,
            Gate::ShuttingDown => Want::Keep,
            Gate::Open => Want::Run,
        };
        let general = self.want_of_kept(id, service).unwrap_or(general);
        let desired = service.desired() as usize;
        if (general == Want::Run || general == Want::Keep)
            && service.instances.len() < desired
            && service.declared.is_some()
            && self.ending.is_none()
        {
            service.touched = true;
            service.instance(u32::try_from(desired - 1).unwrap_or(0));
        }
        let mut wants: Vec<Want> = Vec::with_capacity(service.instances.len());
        for at in 0..service.instances.len() {
            let spare = at >= desired && general != Want::Hold && service.declared.is_some();
            wants.push(if spare && self.ending.is_none() { Want::Stop } else { general });
        }
        if service.schedule().is_some() {
            service.call_off_update();
            by_schedule(service, general, &mut wants);
            return wants;
        }
        if service.is_asleep() {
            self.try_asleep(service, general, now, plan);
            asleep(service, general, &mut wants);
            return wants;
        }
        if (general != Want::Run && general != Want::Keep) || self.ending.is_some() || service.next().is_none() {
            // `plugd stop` ends no edit: what starts again is what was stopped, until the edit has been tried. And what
            // ends with the node ends as what it was.
            if service.gate == Gate::StoppedByOperator || self.ending.is_some() {
                service.touched |= service.trial.take().is_some();
            } else {
                service.call_off_update();
            }
        } else {
            self.give_turns(service, desired, &mut wants, now, plan);
        }
        wants
    }
}

/// Nobody wants it: what runs ends. A crash is waited out all the same, so that those who call again and again do
/// not make it start again and again.
fn asleep(service: &Service, general: Want, wants: &mut [Want]) {
    if general != Want::Run && general != Want::Keep {
        return;
    }
    for (want, instance) in wants.iter_mut().zip(&service.instances) {
        *want = match (*want, &instance.life) {
            (Want::Run | Want::Keep | Want::Replace, Life::BackOff(_) | Life::Finished(_) | Life::Stopping(_)) => {
                Want::Keep
            }
            (Want::Hold | Want::Stop, _)
            | (_, Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::Running(_)) => Want::Stop,
        };
    }
}

/// Only what carries out a run may run. An edit waits for the next one: a run that goes on is not ended
/// for it.
fn by_schedule(service: &Service, general: Want, wants: &mut [Want]) {
    if general != Want::Run && general != Want::Keep {
        return;
    }
    for (want, instance) in wants.iter_mut().zip(&service.instances) {
        let running = instance.life.is_running();
        *want = match &instance.run {
            Some(run) if run.given_up.is_some() => Want::Stop,
            Some(_) if instance.must_restart && running => Want::Replace,
            Some(_) => general,
            None => Want::Stop,
        };
    }
}

/// Whether `ready` is more than `executed`.
pub(super) fn is_checked(spec: &Spec) -> bool {
    spec.readiness.probe().is_some() || spec.startup_probe.is_some()
}

/// Its end is what it is for.
pub(super) fn runs_to_end(spec: &Spec) -> bool {
    spec.schedule.is_some() || (spec.restart.policy == RestartPolicy::Never && spec.activation.is_none())
}
