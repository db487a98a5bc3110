//! The ten laws, checked against the world's truth. Law 5 is checked in `world.rs` after every
//! decision, law 8 (no panic) in `main.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plugd::controller::*;
use plugd::model::name::{Instance, LifeId, Name};
use plugd::model::reason::Status;
use plugd::model::spec::{Condition, Digest, RestartPolicy};
use plugd::model::view::ServiceView;
use plugd::policy::depends::{Standing, holds};

use crate::world::{World, service_name};

/// What the laws remember of the past.
#[derive(Default)]
pub struct Laws {
    /// Lives of which a check has passed.
    passed: BTreeSet<LifeId>,
    /// Tries of an instance in a row, and the last.
    tries: BTreeMap<Instance, (u32, Duration)>,
    /// Ran to their end; that they were told to stop since does not undo it.
    pub completed: BTreeMap<Name, Digest>,
}

impl Laws {
    pub fn hear(&mut self, input: &Input) {
        match input {
            Input::Verdict { life, verdict, .. } if verdict.passed => {
                self.passed.insert(life.clone());
            }
            Input::Declared(declaration) => {
                self.anew(&declaration.spec.name);
                let digest = declaration.spec.process_digest;
                self.completed.retain(|name, of| *name != declaration.spec.name || *of == digest);
            }
            Input::Withdrawn(name) => {
                self.anew(name);
                self.completed.remove(name);
            }
            Input::Order { name, .. } => self.anew(name),
            _ => {}
        }
    }

    fn anew(&mut self, name: &Name) {
        self.tries.retain(|instance, _| instance.service != *name);
    }
}

/// What a plan may contain.
pub fn plan(world: &mut World, plan: &Plan, spoiled: Option<&Name>) -> Result<(), String> {
    let mut news: BTreeSet<&Name> = BTreeSet::new();
    for action in &plan.actions {
        match action {
            Action::Announce(name) => drop(news.insert(name)),
            Action::Spawn { life, spec, .. } => {
                one_life(world, life)?;
                needs_hold(world, life, spec, &news)?;
                patient(world, life)?;
            }
            Action::Signal { life, signal, to: Target::Group } => {
                if world.scanned && spoiled == Some(&life.instance.service) {
                    return Err(format!("law 10: a bad edit stops {life}"));
                }
                world.laws.tries.remove(&life.instance);
                if world.ending && *signal != 9 {
                    in_order(world, &life.instance.service)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Law 1.
fn one_life(world: &World, life: &LifeId) -> Result<(), String> {
    let other = world
        .entries
        .iter()
        .find(|(other, entry)| other.instance == life.instance && (entry.main || entry.children > 0));
    match other {
        Some((other, _)) => Err(format!("law 1: {life} was spawned while {other} lived")),
        None => Ok(()),
    }
}

/// Law 2, by what was told before or after this decision.
fn needs_hold(
    world: &World,
    life: &LifeId,
    spec: &plugd::model::spec::Spec,
    news: &BTreeSet<&Name>,
) -> Result<(), String> {
    for dependency in spec.depends_on.iter().filter(|dependency| !dependency.optional) {
        let after = world.controller.view(&dependency.name, world.now);
        let before = world.views.get(&dependency.name).cloned();
        let lives = world
            .entries
            .iter()
            .any(|(life, entry)| life.instance.service == dependency.name && (entry.main || !entry.told));
        let done = world.laws.completed.contains_key(&dependency.name)
            || (dependency.condition == Condition::Started && lives)
            || is_job(world, &dependency.name);
        let fine =
            done || [before, after].into_iter().flatten().any(|view| holds(dependency.condition, &standing(&view)));
        // What came and went within one decision was there when the spawn was decided.
        if !fine && !news.contains(&dependency.name) {
            let view = world.controller.view(&dependency.name, world.now);
            let view = view.map(|view| format!("{} {:?} {:?}", view.status, view.reason, view.why));
            return Err(format!("law 2: {life} was spawned before {} was there: {view:?}", dependency.name));
        }
    }
    Ok(())
}

/// A job that ended may be told `stopped`, and has completed all the same.
fn is_job(world: &World, name: &Name) -> bool {
    let index = name.as_str().as_bytes()[1] - b'0';
    let file = world.files.get(&index);
    let stopped = world.controller.view(name, world.now).is_some_and(|view| view.status == Status::Stopped);
    stopped && file.is_some_and(|file| file.declaration.spec.restart.policy != RestartPolicy::Always)
}

fn standing(view: &ServiceView) -> Standing {
    Standing {
        known: true,
        started: view.process_running,
        ready: view.ready > 0,
        completed: view.status == Status::Completed,
        coming: false,
    }
}

/// Law 4: the first try and its repeat are free, then at most one in 0.8 s.
fn patient(world: &mut World, life: &LifeId) -> Result<(), String> {
    let now = world.now.mono;
    let (tries, last) = world.laws.tries.get(&life.instance).copied().unwrap_or((0, Duration::ZERO));
    if tries >= 2 && now - last < Duration::from_millis(800) {
        return Err(format!("law 4: {life} is tried again after {:?}", now - last));
    }
    world.laws.tries.insert(life.instance.clone(), (tries + 1, now));
    Ok(())
}

/// Law 3.
fn in_order(world: &World, name: &Name) -> Result<(), String> {
    let living = world.living();
    for (&service, file) in &world.files {
        let needs = file.declaration.spec.depends_on.iter().any(|dependency| dependency.name == *name);
        let dependent = service_name(service);
        let cyclic = is_cyclic(world, service);
        if needs && !cyclic && living.contains(&dependent) && !file.spoiled && world.ending_is_patient() {
            return Err(format!("law 3: {name} is stopped before {dependent}"));
        }
    }
    Ok(())
}

impl World {
    /// Without a budget nobody is passed over.
    fn ending_is_patient(&self) -> bool {
        self.controller.node().shutting_down && self.calm && self.shutdown_is_unbounded()
    }
}

fn is_cyclic(world: &World, service: u8) -> bool {
    let mut at = service_name(service);
    for _ in 0..10 {
        let index = at.as_str().as_bytes()[1] - b'0';
        let Some(next) = world.files.get(&index).and_then(|file| file.declaration.spec.depends_on.first()) else {
            return false;
        };
        at = next.name.clone();
    }
    true
}

/// Law 9: what is told was observed.
pub fn told(world: &mut World, view: &ServiceView) -> Result<(), String> {
    let name = &view.service;
    match view.status {
        Status::Completed => {
            let index = name.as_str().as_bytes()[1] - b'0';
            if let Some(file) = world.files.get(&index) {
                world.laws.completed.insert(name.clone(), file.declaration.spec.process_digest);
            }
        }
        Status::Starting | Status::Running | Status::Healthy | Status::Unhealthy => {
            world.laws.completed.remove(name);
        }
        _ => {}
    }
    let world = &*world;
    let living = |entry: &crate::world::Entry| entry.main || !entry.told;
    let lives = || world.entries.iter().filter(|(life, _)| life.instance.service == *name);
    if view.process_running && !lives().any(|(_, entry)| living(entry)) {
        return Err(format!("law 9: {name} is told to run and does not"));
    }
    if view.status == Status::Healthy && !lives().any(|(life, _)| world.laws.passed.contains(life)) {
        return Err(format!("law 9: {name} is told healthy without a check"));
    }
    for pid in view.instances.iter().filter_map(|instance| instance.pid) {
        if !lives().any(|(_, entry)| entry.pid == pid && living(entry)) {
            return Err(format!("law 9: {name} is told to run as {pid} and does not"));
        }
    }
    let word = matches!(view.status, Status::Healthy | Status::Running | Status::Completed);
    if !word && (view.why.is_empty() || view.next.is_none()) && view.status != Status::Stopping {
        return Err(format!("law 9: {name} is {} and nobody says why or what comes next", view.status));
    }
    Ok(())
}

/// Laws 6 and 7: all is as desired, and told so.
pub fn converged(world: &World) -> Result<(), String> {
    for (&service, file) in &world.files {
        let name = service_name(service);
        let Some(view) = world.controller.view(&name, world.now) else {
            return Err(format!("law 6: {name} is in the directory and unknown"));
        };
        if world.views.get(&name).map(|told| &**told) != Some(&*view) {
            return Err(format!("law 7: what was told of {name} is not what is so"));
        }
        let spec = &file.declaration.spec;
        let alive = world.entries.iter().filter(|(life, entry)| life.instance.service == name && entry.main).count();
        if file.spoiled {
            continue;
        }
        match view.status {
            Status::Healthy | Status::Running => {
                let jobs = spec.restart.policy != RestartPolicy::Always;
                if alive != view.ready as usize || (view.ready != view.desired && !jobs) {
                    return Err(format!("law 7: {name} has {alive} processes, {} are told", view.ready));
                }
            }
            Status::Failed | Status::Degraded if spec.restart.policy == RestartPolicy::Never => {}
            Status::Completed if spec.restart.policy != RestartPolicy::Always => {}
            Status::Stopped if view.reason.is_some() && alive == 0 => {}
            Status::Waiting | Status::Failed | Status::Degraded if !spec.depends_on.is_empty() => {
                let unmet = spec.depends_on.iter().any(|dependency| {
                    let other = world.controller.view(&dependency.name, world.now);
                    !other.is_some_and(|view| holds(dependency.condition, &standing(&view)))
                        || dependency.condition == Condition::Completed
                });
                if !unmet {
                    let needs: Vec<_> = spec
                        .depends_on
                        .iter()
                        .filter_map(|dependency| world.controller.view(&dependency.name, world.now))
                        .map(|view| {
                            format!("{} is {} {:?} {:?}", view.service, view.status, view.reason, view.instances)
                        })
                        .collect();
                    return Err(format!("law 6: {name} waits for nothing: {:?}; {needs:?}", view.why));
                }
            }
            other => {
                return Err(format!(
                    "law 6: {name} is {other} ({:?}) long after all faults: {:?}",
                    view.reason, view.why
                ));
            }
        }
    }
    for name in world.living() {
        let index = name.as_str().as_bytes()[1] - b'0';
        if !world.files.contains_key(&index) {
            return Err(format!("law 6: {name} is gone from the directory and lives"));
        }
    }
    Ok(())
}
