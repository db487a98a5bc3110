//! An action, handed to its edge.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::facts::{notify_key, pattern, ready_key};
use super::live::{Live, probe_in};
use super::masks::Given;
use super::{Leave, Node, helpers};
use crate::controller::{Action, Input, ProbeSlot, Target};
use crate::edge::probe::{self, LifeContext, past};
use crate::edge::store::Checked;
use crate::keeper::Id;
use crate::model::manifest::instance_port;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::reason::Reason;
use crate::model::spec::{Check, Spec};
use crate::model::time::Now;

/// Of what the views changed in this turn.
#[derive(Default)]
pub(super) struct News {
    services: BTreeSet<Name>,
    node: bool,
}

impl Node {
    pub(super) fn apply(&mut self, action: Action, now: Now) {
        match action {
            Action::Spawn { life, spec, wrapper, blob } => {
                let spec = self.settle_private(&life, spec);
                self.prepare_spawn(life, spec, wrapper, blob);
            }
            Action::CallOff { life } => self.call_off(life),
            Action::SetBlob { life, blob } => self.keeper.set_blob(&Id::from(&life), &blob),
            Action::Signal { life, signal, to } => self.signal(&life, signal, to),
            Action::Survey { life } => self.survey(life),
            Action::Forget { life } => self.forget(life),
            Action::Try { name, spec, wrapper, digest } => self.prepare_try(name, spec, wrapper, digest),
            Action::RunHook { life, hook, spec, wrapper, limit } => {
                self.run_hook(life, hook, spec, wrapper.as_deref(), limit);
            }
            Action::CancelHooks { life } => self.end_helpers_of(&life),
            Action::Probe { life, probe, spec } => self.probe(life, probe, spec),
            Action::Judge { life, spec } => self.judge(life, spec),
            Action::Resize { life, spec } => {
                let missed = self.limits.resize(&life, &spec, now.mono);
                self.tell_of(&spec.name, Reason::LimitsNotApplied, missed);
                self.guard_memory(&life, &spec.resources, false);
            }
            Action::AwaitPort(port) => self.await_port(port),
            Action::Announce(name) => drop(self.news.services.insert(name)),
            Action::Retire(name) => {
                self.news.services.remove(&name);
                self.masks.forget(&name);
                self.publisher.retire(&name);
                self.close_door(&name);
                self.forget_try(&name);
                if let Some(spec) = self.specs.remove(name.as_str()) {
                    // Also of a start that was called off while it was prepared.
                    let instances = (0..spec.replicas).map(|index| Instance { service: name.clone(), index });
                    instances.for_each(|instance| self.remove_group(&instance));
                }
                self.told.retain(|(of, _)| *of != name);
                self.chatter.forget(name.as_str());
                self.samples.forget(&name, now);
                self.store.forget(name);
            }
            Action::AnnounceNode => self.news.node = true,
            Action::Remember(name, memory) => self.store.remember(name, *memory),
            Action::Record(event) => {
                let Some(event) = self.chatter.admit(event, now.mono) else { return };
                helpers::log_event(&event);
                self.publisher.record(&event);
                self.store.record(event);
            }
            Action::NoteExit(name, exit) => {
                if let Some(exit) = self.samples.exit(&name, *exit, now) {
                    self.store.exit(name, exit);
                }
            }
            Action::NoteMiss(name) => self.samples.checked(&name, Checked::Failed),
            Action::Exit(code) => self.leaving = Some(Leave::Node(code)),
        }
    }

    /// What changed in this turn is told once, behind the actions.
    pub(super) fn tell_news(&mut self, now: Now) {
        let News { services, node } = std::mem::take(&mut self.news);
        for name in services {
            if let Some(view) = self.controller.view(&name) {
                self.observed(&view, now);
                self.lead_callers(&view);
                self.place_logs(&name);
                self.publisher.announce(view, now);
            }
        }
        self.drop_given_up();
        if node {
            self.publisher.node(self.controller.node());
        }
    }

    /// One that becomes one of several, or the only one, goes on writing where its status says now.
    fn place_logs(&mut self, name: &Name) {
        let several = self.controller.has_several(name);
        let moved = self.lives_of(name).filter(|(_, live)| live.several != several);
        for (life, logs) in moved.map(|(life, live)| (life.clone(), live.spec.logs.clone())).collect::<Vec<_>>() {
            self.lives.get_mut(&life).into_iter().for_each(|live| live.several = several);
            self.pump.update(life, logs, several);
        }
    }

    fn signal(&mut self, life: &LifeId, signal: i32, to: Target) {
        // Every signal of the brain asks for an end. What runs beside it ends with it: a check that hangs would
        // be there until its timeout, long after the service is said to be stopped.
        self.end_helpers_of(life);
        let Some(tree) = self.tree_of(life) else { return };
        if let Err(error) = self.trees.signal_end(&tree, signal, to) {
            tracing::warn!(%life, signal, %error, "the signal could not be sent");
        }
    }

    pub(super) fn lives_of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = (&'a LifeId, &'a Live)> {
        let first = LifeId { instance: Instance { service: name.clone(), index: 0 }, life: 0 };
        self.lives.range(first..).take_while(move |(life, _)| life.instance.service == *name)
    }

    fn remove_group(&self, instance: &Instance) {
        if let Some(root) = self.cgroups.as_ref().filter(|_| !self.comes_again(instance)) {
            // One that is in use stays.
            let _ = root.group(instance).remove();
        }
    }

    /// Whether another life of the instance is there or under way.
    fn comes_again(&self, instance: &Instance) -> bool {
        let lives = self.lives_of(&instance.service).map(|(life, _)| life);
        let mut known = lives.chain(self.pending.keys()).chain(self.preparing.spawns());
        known.any(|life| life.instance == *instance)
    }

    fn tree_of(&self, life: &LifeId) -> Option<crate::edge::process::tree::Tree> {
        self.lives.get(life).map(|live| live.tree.clone()).or_else(|| {
            let adoptees = self.adoptees.get(life.instance.service.as_str())?;
            adoptees.iter().find(|adoptee| adoptee.life == *life).map(|adoptee| adoptee.tree.clone())
        })
    }

    fn survey(&mut self, life: LifeId) {
        match self.tree_of(&life) {
            None => self.queue.push_back(Input::Surveyed { life, left: Vec::new() }),
            Some(tree) => {
                // Otherwise the walker answers when it has looked.
                if let Some(left) = self.trees.survey(&tree) {
                    self.queue.push_back(Input::Surveyed { life, left });
                }
            }
        }
    }

    /// What is kept for a life is of no use without it.
    pub(super) fn withdraw(&mut self, life: &LifeId) {
        if self.limits.end(life) {
            self.tell_of(&life.instance.service, Reason::LimitsNotApplied, None);
        }
        self.remove_group(&life.instance);
        for key in [notify_key(life), ready_key(life), Given::key(life)] {
            self.keeper.withdraw(key.as_bytes());
        }
        past::forget(self.run.path(), life);
    }

    /// The life is over: its output is emptied once more, then the keeper may drop it.
    fn forget(&mut self, life: LifeId) {
        self.end_helpers_of(&life);
        let live = self.lives.remove(&life);
        self.withdraw(&life);
        self.sockets.neighbours.strike(&life);
        let Some(live) = live else {
            self.keeper.forget(&Id::from(&life));
            return;
        };
        self.trees.forget(&live.tree);
        self.closing.insert(life.clone());
        self.pump.close(life);
    }

    fn probe(&mut self, life: LifeId, slot: ProbeSlot, spec: Arc<Spec>) {
        let (Some(live), Some(probe)) = (self.lives.get(&life), probe_in(&spec, slot)) else { return };
        if let Check::Exec { command } = &probe.check {
            let (command, timeout) = (command.clone(), probe.timeout);
            self.run_exec_probe(life, slot, spec, command, timeout);
            return;
        }
        let (context, sockets) = (live.context.clone(), self.sockets.clone());
        let sender = self.sender.clone();
        tokio::task::spawn_local(async move {
            let Some(probe) = probe_in(&spec, slot) else { return };
            if let Some(verdict) = probe::check(context, sockets, probe).await {
                let _ = sender.send(Input::Verdict { life, probe: slot, verdict }).await;
            }
        });
    }

    /// The brain judges the life by another spec than before.
    fn judge(&mut self, life: LifeId, spec: Arc<Spec>) {
        let Some(live) = self.lives.get_mut(&life) else { return };
        let before = std::mem::replace(&mut live.spec, spec.clone());
        let several = live.several;
        if Arc::ptr_eq(&before, &spec) {
            return;
        }
        let port = |spec: &Spec| instance_port(&spec.process, life.instance.index);
        let adopted_by_another = port(&before) != port(&spec) && spec.process.on_demand.is_none();
        if adopted_by_another {
            // It listens where its own version says.
            let (tree, ended) = (live.tree.clone(), live.ended);
            let context = LifeContext::of(tree.clone(), live.context.past.clone());
            let context = self.describe(context, &life, &spec);
            self.sockets.neighbours.enter(&tree, context.instance_port);
            if let Some(live) = self.lives.get_mut(&life).filter(|_| !ended) {
                live.context = Arc::new(context);
            }
        }
        let probes =
            |spec: &Spec| [spec.startup_probe.clone(), spec.readiness.probe().cloned(), spec.liveness_probe.clone()];
        let looks = before.log_line().is_some() || spec.log_line().is_some();
        if looks && probes(&before) != probes(&spec) {
            // Also for the same pattern: its checks begin anew.
            self.pump.look_for(life.clone(), pattern(&spec));
        }
        if before.logs != spec.logs {
            self.pump.update(life, spec.logs.clone(), several);
        }
    }

    /// Limits that could not be lowered are, where there is room by now.
    pub(super) fn try_limits_again(&mut self, now: Now) {
        for (name, missed) in self.limits.try_again(now.mono) {
            self.tell_of(&name, Reason::LimitsNotApplied, missed);
        }
    }

    /// What is wrong with a service beside its lives; none takes it back.
    pub(super) fn tell_of(&mut self, name: &Name, reason: Reason, message: Option<String>) {
        let which = (name.clone(), reason);
        let is_news = match &message {
            Some(_) => {
                self.told.insert(which);
                true
            }
            None => self.told.remove(&which),
        };
        if is_news {
            self.queue.push_back(Input::Problem { name: name.clone(), reason, message });
        }
    }

    pub(super) fn await_port(&mut self, port: u16) {
        if !self.awaited_ports.insert(port) {
            return;
        }
        let (sockets, sender) = (self.sockets.clone(), self.sender.clone());
        tokio::task::spawn_local(async move {
            sockets.freed(port).await;
            let _ = sender.send(Input::PortFree(port)).await;
        });
    }
}
