//! One decision: visit what is dirty, compare, and say what is to be done.
//!
//! A visit looks at one service and what others say of it (standings); its cost does not depend on
//! how many services there are. A visit that changes a service's own standing marks those who
//! depend on it, so a decision ends when nothing changes any more.

use std::time::Duration;

use super::Controller;
use super::input::Resolved;
use super::life::{Life, Phase};
use super::plan::{Action, Plan};
use super::service::{Gate, Id, Service, Trial};
use crate::model::name::LifeId;
use crate::model::spec::{Condition, OnLoss, Program};
use crate::model::time::Now;
use crate::policy::depends::{Standing, allows, holds};
use crate::policy::update;

/// A refused update is tried again this often: the missing program may have been installed.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// A try that was not answered for this long is asked again.
const TRY_LOST: Duration = Duration::from_secs(30);
/// While an edit is tried the old version is told, at most this long: a status file is true within 200 ms.
const UNTOLD_MAX: Duration = Duration::from_millis(100);

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

impl Controller {
    /// Compares what is desired with what is observed. With no new fact and no deadline passed it
    /// returns an empty plan.
    pub fn decide(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
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
                self.visit(id, now, &mut plan);
                if !self.edges_changed.is_empty() {
                    self.settle_cycles();
                }
            }
            self.spread_recovery(now);
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
        plan.actions.extend(self.events.drain(..).map(Action::Record));
        plan
    }

    pub(super) fn has_room(&self) -> bool {
        self.asked < self.config.cores.max(1) * 2 && self.config.max_starting.is_none_or(|most| self.starting < most)
    }

    /// Whether `id` may start an instance now; if not, it is called when there is room.
    pub(super) fn admitted(&mut self, id: Id, service: &mut Service) -> bool {
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
        service.dirty = false;
        let gate = self.gate(id, &service);
        if service.gate != gate {
            service.gate = gate;
            service.touched = true;
        }
        self.watch_dependencies(&mut service, now);
        let wants = self.wants(&mut service, now, plan);
        let mut deadline: Option<Duration> = None;
        let mut wake = |at: Option<Duration>| deadline = deadline.into_iter().chain(at).min();
        for (at, want) in wants.into_iter().enumerate() {
            wake(self.drive(id, &mut service, at, want, now, plan));
            if let Some(life) = service.instances[at].spare.take() {
                let instance = service.life_id(at).instance;
                plan.actions.push(Action::Forget { life: LifeId { instance, life } });
            }
        }
        wake(self.trial_deadline(&service, now));
        self.retire_spare(&mut service, plan);

        if service.gate == Gate::Gone && !service.is_occupied() {
            self.remove(id, service, plan);
            return;
        }
        self.retally(&mut service);
        wake(self.requirement(&mut service, now));
        self.present(id, &mut service, now, plan);
        let standing = self.standing(&service);
        let news = self.table.standing(id) != standing;
        let ready_news = standing.ready && !self.table.standing(id).ready;
        self.table.set_standing(id, standing);
        if ready_news && service.troubled {
            self.recovered.push(id);
        }
        if ready_news {
            service.troubled = false;
        }
        if let Some(old) = service.deadline
            && Some(old) != deadline
        {
            self.deadlines.remove(&(old, id));
        }
        if let Some(new) = deadline
            && service.deadline != deadline
        {
            self.deadlines.insert((new, id));
        }
        service.deadline = deadline;
        let name = service.name.clone();
        self.table.put(id, service);
        if news {
            self.tell_dependents(&name, ready_news, now);
        }
    }

    fn tell_dependents(&mut self, name: &crate::model::name::Name, ready: bool, now: Now) {
        for dependent in self.table.dependents(name).collect::<Vec<_>>() {
            if ready {
                self.cut_wait(dependent, now, false);
            }
            self.mark(dependent);
        }
    }

    fn remove(&mut self, id: Id, mut service: Box<Service>, plan: &mut Plan) {
        for at in 0..service.instances.len() {
            self.forget(&mut service, at, plan);
        }
        if let Some(old) = service.deadline {
            self.deadlines.remove(&(old, id));
        }
        self.backing_off.remove(&id);
        service.instances.clear();
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

    pub(super) fn forget(&self, service: &mut Service, at: usize, plan: &mut Plan) {
        let index = service.instances[at].index;
        if let Some(life) = service.instances[at].held.take() {
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
            // The number of its last life must not be used again while the keeper may remember it;
            // it is kept in memory's `lives` only as long as the instance exists.
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
        if let Program::External(address) = &spec.process.program {
            return Gate::External(address.clone());
        }
        if spec.process.stdio_mcp {
            return Gate::External("an stdio MCP server is started by its first call".into());
        }
        if self.config.require_user && spec.process.user.is_none() {
            return Gate::NeedsUser;
        }
        match &declaration.program {
            Resolved::Missing { .. } => return Gate::Missing,
            Resolved::Found { .. } => {}
        }
        let cyclic = service.cycle.is_some();
        let mut missing = Vec::new();
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
                missing.push(super::explain::waits_for(dependency, &standing));
            }
        }
        match (missing.is_empty(), cyclic) {
            (true, true | false) => Gate::Open,
            (false, true) => Gate::Cycle,
            (false, false) => Gate::Waiting(missing),
        }
    }

    /// `onLoss`: what held and holds no more.
    fn watch_dependencies(&mut self, service: &mut Service, now: Now) {
        let Some(spec) = service.spec().cloned() else { return };
        if self.ending.is_some() {
            return;
        }
        for (at, dependency) in spec.depends_on.iter().enumerate() {
            let holds = holds(dependency.condition, &self.table.standing_of(&dependency.name));
            let Some(seen) = service.seen_ready.get(at).copied() else { continue };
            let cares = match (dependency.on_loss, dependency.condition) {
                (OnLoss::Ignore, _) | (_, Condition::Completed) => false,
                (OnLoss::Restart | OnLoss::Stop, Condition::Started | Condition::Ready) => true,
            };
            let lost = seen && !holds && cares;
            let mut pending = false;
            if lost {
                for index in 0..service.instances.len() {
                    pending |= self.dependency_lost(service, index, dependency.name.as_str(), now);
                }
            }
            service.seen_ready[at] = holds || (lost && pending);
        }
    }

    /// What is wanted of each instance; new ones are entered, an update's turn is given.
    fn wants(&mut self, service: &mut Service, now: Now, plan: &mut Plan) -> Vec<Want> {
        let general = match &service.gate {
            Gate::Unknown => Want::Hold,
            Gate::Gone | Gate::Disabled | Gate::StoppedByOperator => Want::Stop,
            Gate::External(_) | Gate::NeedsUser | Gate::Missing | Gate::Waiting(_) | Gate::Cycle | Gate::NeverValid => {
                Want::Keep
            }
            Gate::ShuttingDown if self.may_stop_now(service) => Want::Stop,
            Gate::ShuttingDown => Want::Keep,
            Gate::Open => Want::Run,
        };
        let desired = service.desired() as usize;
        if general == Want::Run || general == Want::Keep {
            if service.instances.len() < desired && service.declared.is_some() && self.ending.is_none() {
                service.touched = true;
                service.instance(u32::try_from(desired - 1).unwrap_or(0));
            }
        }
        let mut wants: Vec<Want> = Vec::with_capacity(service.instances.len());
        for at in 0..service.instances.len() {
            let spare = at >= desired && general != Want::Hold && service.declared.is_some();
            wants.push(if spare && self.ending.is_none() { Want::Stop } else { general });
        }
        if general == Want::Run || general == Want::Keep {
            self.give_turns(service, desired, &mut wants, now, plan);
        }
        wants
    }

    /// Who of the outdated is replaced now.
    fn give_turns(&mut self, service: &mut Service, desired: usize, wants: &mut [Want], now: Now, plan: &mut Plan) {
        let Some(made) = service.made() else { return };
        if self.ending.is_some() {
            return;
        }
        let outdated = |instance: &super::service::Instance| match &instance.life {
            Life::Running(running) => running.made.print != made.print,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => false,
        };
        let edited = service.instances.iter().any(outdated);
        let ordered = service.instances.iter().any(|instance| instance.must_restart);
        if !edited && !ordered {
            if service.trial.take().is_some() {
                service.touched = true;
            }
            return;
        }
        let mut proven = true;
        if edited {
            let key = made.print.mixed();
            let due = match &service.trial {
                None => true,
                Some(trial) if trial.key != key => true,
                Some(Trial { result: None, asked_at, .. }) => now.mono >= *asked_at + TRY_LOST,
                Some(Trial { result: Some(Ok(())), .. }) => false,
                Some(Trial { result: Some(Err(_)), asked_at, .. }) => now.mono >= *asked_at + TRY_AGAIN,
            };
            if due && service.gate != Gate::Cycle {
                let result = match service.trial.take() {
                    Some(trial) if trial.key == key => trial.result,
                    Some(_) | None => None,
                };
                service.trial = Some(Trial { key, asked_at: now.mono, result });
                plan.actions.push(Action::Try {
                    name: service.name.clone(),
                    spec: made.spec.clone().expect("made from a declaration"),
                    wrapper: made.wrapper.clone(),
                    digest: key,
                });
            }
            proven = service.gate != Gate::Cycle
                && service.trial.as_ref().is_some_and(|trial| trial.key == key && trial.result == Some(Ok(())));
        }
        let Some(spec) = service.spec() else { return };
        let plan = update::plan(spec, service.desired());
        let down = service.instances.iter().take(desired).filter(|instance| !instance.life.is_ready()).count();
        let down = u32::try_from(down).unwrap_or(u32::MAX);
        let mut turns = update::may_stop(plan, down);
        for (at, instance) in service.instances.iter().enumerate().take(desired) {
            let old = (proven && outdated(instance)) || (instance.must_restart && !outdated(instance));
            let running = match &instance.life {
                Life::Running(_) => true,
                Life::Idle
                | Life::Preparing(_)
                | Life::Starting(_)
                | Life::Stopping(_)
                | Life::BackOff(_)
                | Life::Finished(_) => false,
            };
            if !old || !running {
                continue;
            }
            // One that serves nobody costs nothing.
            if !instance.life.is_ready() {
                wants[at] = Want::Replace;
            } else if turns > 0 {
                turns -= 1;
                wants[at] = Want::Replace;
            }
        }
    }

    /// An edit that is being tried: in a moment its old process is stopped, or it is blocked. Told before
    /// that, the status would give the new generation and the health of the old process.
    pub(super) fn is_trying(&self, service: &Service, now: Now) -> bool {
        service.trial.as_ref().is_some_and(|trial| trial.result.is_none() && now.mono < trial.asked_at + UNTOLD_MAX)
    }

    fn trial_deadline(&self, service: &Service, now: Now) -> Option<Duration> {
        let trial = service.trial.as_ref()?;
        if self.ending.is_some() || service.gate == Gate::Cycle {
            return None;
        }
        match &trial.result {
            None if self.is_trying(service, now) => Some(trial.asked_at + UNTOLD_MAX),
            None => Some(trial.asked_at + TRY_LOST),
            Some(Ok(())) => None,
            Some(Err(_)) => Some(trial.asked_at + TRY_AGAIN),
        }
    }

    /// What those who depend on it may know.
    fn standing(&self, service: &Service) -> Standing {
        let desired = service.desired() as usize;
        let wanted = || service.instances.iter().take(desired.max(1));
        let completed = |instance: &super::service::Instance| match &instance.life {
            Life::Finished(finished) => finished.outcome == super::life::Outcome::Completed,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_) => false,
        };
        let started = |instance: &super::service::Instance| match &instance.life {
            Life::Running(_) => true,
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => false,
        };
        Standing {
            known: service.declared.is_some() || service.rejected.is_some(),
            started: wanted().any(started),
            ready: wanted().any(|instance| instance.life.is_ready()),
            completed: !service.instances.is_empty() && wanted().all(completed),
            coming: self.is_coming(service),
        }
    }

    /// On its way to a first verdict.
    pub(super) fn is_coming(&self, service: &Service) -> bool {
        let on_its_way = |instance: &super::service::Instance| match &instance.life {
            Life::Idle => matches!(service.gate, Gate::Open | Gate::Unknown | Gate::Waiting(_)),
            Life::Preparing(_) | Life::Starting(_) => true,
            Life::Running(running) => {
                !running.was_ready && instance.ladder.failed_starts == 0 && running.checks.failing.is_none()
            }
            Life::Stopping(stopping) => match stopping.phase {
                Phase::Lingering { .. } => instance.ladder.failed_starts == 0,
                Phase::PreStop { .. } | Phase::Signalled | Phase::Killing { .. } => false,
            },
            Life::BackOff(_) | Life::Finished(_) => false,
        };
        match &service.gate {
            Gate::Unknown => true,
            Gate::Open => {
                service.instances.iter().any(|i| on_its_way(i) && i.ladder.failed_starts == 0)
                    && !service.instances.iter().any(|i| i.life.is_ready())
            }
            // Waiting for something that has had its verdict is a verdict too.
            Gate::Waiting(_) => {
                let fresh = service.instances.iter().all(|i| i.ladder.failed_starts == 0);
                fresh
                    && service.spec().is_some_and(|spec| {
                        spec.depends_on
                            .iter()
                            .map(|dependency| (dependency, self.table.standing_of(&dependency.name)))
                            .filter(|(dependency, standing)| !allows(dependency, standing, self.scanned))
                            .all(|(_, standing)| if standing.known { standing.coming } else { !self.scanned })
                    })
            }
            Gate::Gone
            | Gate::NeverValid
            | Gate::Disabled
            | Gate::StoppedByOperator
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Cycle
            | Gate::ShuttingDown => false,
        }
    }
}
