//! The ten laws, and those of faults.md, checked against the world's truth and against what the
//! controller was told (`facts.rs`). Law 5 is checked in `world.rs` after every decision, law 8 (no
//! panic) in `main.rs`, law 6 in `converged.rs`.
//!
//! What is not held against the brain, and why:
//! - law 2: an optional dependency only orders; when it is `on its way` only the brain can say.
//! - law 3: after a second order to stop all go at once; at the budget's end a dependent that was
//!   killed and does not die is passed over.
//! - law 4: a new controller knows nothing of a try that came to no process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plugd::controller::*;
use plugd::model::name::{LifeId, Name};
use plugd::model::reason::{Reason, Status};
use plugd::model::spec::{Concurrency, Digest, Spec};
use plugd::model::view::ServiceView;

use crate::facts::Life;
use crate::ladder::Rungs;
use crate::world::World;

/// What is left of a level's time when KILL has been sent.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What a plan may contain, action by action; each is noted as it is judged.
pub fn action(world: &mut World, action: &Action) -> Result<(), String> {
    match action {
        Action::Spawn { life, spec, .. } => {
            alone(world, life)?;
            wanted(world, life, spec)?;
            needs_hold(world, life, spec)?;
            if spec.schedule.is_none() {
                patient(world, life, spec.process_digest)?;
            }
            begin(world, life, spec);
        }
        Action::RunHook { life, hook: Hook::Selfcheck | Hook::PreStart, spec, .. } => {
            world.facts.completed.remove(&life.instance);
            alone(world, life)?;
            needs_hold(world, life, spec)?;
            if spec.schedule.is_none() {
                patient(world, life, spec.process_digest)?;
            }
        }
        Action::RunHook { life, hook: Hook::PreStop, .. } => end(world, life, false)?,
        Action::Signal { life, signal, to: _ } => end(world, life, *signal == 9)?,
        Action::Probe { life, probe, .. } => {
            let now = world.now.mono;
            if let Some(known) = world.facts.lives.get_mut(life) {
                if known.stopping.is_some() || known.exited.is_some() {
                    return Err(format!("law of checks: {life} is asked by its {probe:?} probe while it ends"));
                }
                known.slots.asked(*probe, now);
            }
        }
        Action::Judge { life, spec } => judged(world, life, spec)?,
        Action::Resize { life, spec } => {
            let runs = world.entries.get(life).is_none_or(|entry| entry.print == spec.process_digest);
            if !runs {
                return Err(format!("{life} gets the limits of another version"));
            }
        }
        Action::Forget { life } => {
            world.facts.lives.remove(life);
            world.facts.rungs.values_mut().for_each(Rungs::room);
        }
        Action::Retire(name) => {
            let name = name.clone();
            world.facts.said.remove(&name);
            world.facts.gone.remove(&name);
            world.facts.calls.remove(&name);
            world.facts.rungs.retain(|of, _| of.service != name);
            world.facts.rungs.values_mut().for_each(Rungs::room);
            world.facts.lives.retain(|of, _| of.instance.service != name);
        }
        Action::Exit(code) => left(world, *code)?,
        Action::SetBlob { life, .. } => {
            if let Some(known) = world.facts.lives.get_mut(life) {
                known.own = known.spec.clone().or(known.own.take());
            }
        }
        Action::Try { name, spec, digest, .. } => {
            world.facts.tries.insert(name.clone(), (*digest, spec.digest));
        }
        Action::Record(event) => {
            if let (Reason::IdleStopped, Some(name)) = (event.reason, &event.service) {
                world.facts.call(&testing::name(name)).wanted = false;
            }
        }
        Action::CallOff { life } => {
            world.facts.lives.get_mut(life).into_iter().for_each(|known| known.called_off = true);
        }
        Action::CancelHooks { .. }
        | Action::Survey { .. }
        | Action::AwaitPort(_)
        | Action::Announce(_)
        | Action::AnnounceNode
        | Action::NoteExit(..)
        | Action::NoteMiss(_)
        | Action::Remember(..) => {}
    }
    Ok(())
}

/// Law 4's other half: a wait that is over is over.
pub fn waits(world: &mut World) -> Result<(), String> {
    let now = world.now.mono;
    if world.crowded() || world.controller.node().shutting_down {
        return Ok(());
    }
    let overdue =
        world.facts.rungs.iter().filter_map(|(instance, rungs)| Some((instance.clone(), rungs.overdue(now)?)));
    for (instance, late) in overdue.collect::<Vec<_>>() {
        if !world.is_held_up(&instance) {
            // Since when nothing but the keeper's queue stands in its way.
            let since = *world.free_since.entry(instance.clone()).or_insert(now);
            if now > since + Duration::from_secs(3) {
                let why = world.controller.view(&instance.service).map(|view| view.why.clone());
                return Err(format!("law 4: {instance} waits {late:?} longer than promised: {why:?}"));
            }
        } else {
            world.free_since.remove(&instance);
        }
    }
    Ok(())
}

/// Whoever listens to a life is told the checks by which it is judged, and no others.
fn judged(world: &mut World, life: &LifeId, spec: &Arc<Spec>) -> Result<(), String> {
    let (now, wish) = (world.now.mono, world.facts.wishes.get(&life.instance.service));
    let is_declared = wish.is_some_and(|wish| wish.spec.digest == spec.digest);
    if let Some(known) = world.facts.lives.get_mut(life).filter(|known| known.print == spec.process_digest)
        && is_declared
    {
        known.take_up(spec, now);
    }
    // Whether a readiness was implied does not outlive the controller that read it.
    let checks =
        |spec: &Spec| (spec.startup_probe.clone(), spec.readiness.probe().cloned(), spec.liveness_probe.clone());
    match world.facts.lives.get(life).and_then(|known| known.spec.as_deref()) {
        Some(own) if checks(own) != checks(spec) => Err(format!("{life} is judged by the checks of another version")),
        Some(_) | None => Ok(()),
    }
}

/// Law 1: no other life of the instance has anything left, a hook included.
fn alone(world: &World, life: &LifeId) -> Result<(), String> {
    let others = world.entries.iter().filter(|(other, _)| other.instance == life.instance);
    if let Some((other, _)) = others.into_iter().find(|(_, entry)| entry.lives()) {
        return Err(format!("law 1: {life} begins while {other} lives"));
    }
    match world.hooks.keys().find(|(other, _)| other.instance == life.instance) {
        Some((other, hook)) => Err(format!("law 1: {life} begins while the {hook:?} hook of {other} runs")),
        None => Ok(()),
    }
}

/// Of demand: nothing begins that nobody wants.
fn wanted(world: &mut World, life: &LifeId, spec: &Spec) -> Result<(), String> {
    let name = &life.instance.service;
    if spec.activation.is_some() && !world.facts.may_be_wanted(name) {
        return Err(format!("law of demand: {life} begins and nobody has called it"));
    }
    world.facts.call(name).wanted = true;
    Ok(())
}

/// Law 2.
fn needs_hold(world: &World, life: &LifeId, spec: &Spec) -> Result<(), String> {
    for dependency in spec.depends_on.iter().filter(|dependency| !dependency.optional) {
        if !world.facts.may_hold(dependency.condition, &dependency.name) {
            let view = world.controller.view(&dependency.name);
            let view = view.map(|view| format!("{} {:?} {:?}", view.status, view.reason, view.why));
            let condition = dependency.condition;
            return Err(format!("law 2: {life} begins and {} is not {condition:?}: {view:?}", dependency.name));
        }
    }
    Ok(())
}

/// Law 4.
fn patient(world: &mut World, life: &LifeId, print: Digest) -> Result<(), String> {
    let (now, unlimited) = (world.now.mono, !world.crowded());
    let rungs = world.facts.rungs.entry(life.instance.clone()).or_default();
    if rungs.number > 0 && rungs.print != print {
        // An edit that waited is taken up, whatever the version before has tried meanwhile.
        rungs.begins_anew();
    }
    rungs.print = print;
    rungs.tries(life.life, now, unlimited).map_err(|what| format!("law 4: {life} {what}"))
}

fn begin(world: &mut World, life: &LifeId, spec: &Arc<Spec>) {
    let wish = world.facts.wishes.get_mut(&life.instance.service);
    let restarts = wish.as_ref().map_or(0, |wish| wish.restarts);
    if let Some(wish) = wish.filter(|wish| wish.spec.digest == spec.digest) {
        wish.perhaps.clear();
    }
    let known =
        Life { spec: Some(spec.clone()), print: spec.process_digest, restarts, needs_held: true, ..Life::default() };
    let known = Life { own: Some(spec.clone()), is_run: spec.schedule.is_some(), ..known };
    world.facts.completed.remove(&life.instance);
    world.facts.perhaps_done.remove(&life.instance);
    world.facts.lives.retain(|other, known| other.instance != life.instance || !known.empty);
    world.facts.lives.insert(life.clone(), known);
}

/// Laws 3 and 10: nothing that runs is ended without a cause, and dependents go first.
fn end(world: &mut World, life: &LifeId, kill: bool) -> Result<(), String> {
    let now = world.now.mono;
    let runs = world.entries.get(life).is_some_and(|entry| entry.main);
    let begun = world.facts.lives.get(life).is_some_and(|known| known.stopping.is_some() || known.exited.is_some());
    if runs && !begun {
        let (asked_for, unasked_for) = causes(world, life);
        if !asked_for && !unasked_for {
            let spoiled = world.facts.wishes.get(&life.instance.service).is_some_and(|wish| wish.spoiled);
            let after = if spoiled { " after a bad edit" } else { "" };
            return Err(format!("law 10: {life} is ended without a cause{after}"));
        }
        if let Some(known) = world.facts.lives.get_mut(life) {
            (known.asked_for, known.unasked_for) = (asked_for, unasked_for);
            known.for_its_need = known.lost_need;
        }
        // One that a check gives up on meanwhile does not wait for its turn.
        if !unasked_for {
            in_order(world, &life.instance.service)?;
        }
    }
    if let Some(known) = world.facts.lives.get_mut(life) {
        known.stopping.get_or_insert(now);
        if kill {
            known.killed.get_or_insert(now);
        }
    }
    world.facts.look(now);
    Ok(())
}

/// Why it may be ended: because somebody asked for it, because a check or a dependency failed.
fn causes(world: &World, life: &LifeId) -> (bool, bool) {
    let facts = &world.facts;
    let Some(known) = facts.lives.get(life) else { return (true, false) };
    let shutdown = facts.shutdown.is_some() || world.controller.node().shutting_down;
    let Some(wish) = facts.wishes.get(&life.instance.service) else {
        let name = &life.instance.service;
        let held = !facts.scanned || facts.lost || facts.refused.contains(name);
        let stopped = facts.said.get(name).is_some_and(|said| said.stopped);
        return (shutdown || !held || stopped || facts.gone.contains(name), false);
    };
    // An edit ends no run; the next one may, where the schedule says so.
    let (edited, replaced) = match &wish.spec.schedule {
        None => (wish.found && known.print != wish.spec.process_digest, false),
        Some(schedule) => (!known.is_run, schedule.concurrency_policy == Concurrency::Replace),
    };
    let asked = shutdown
        || !wish.spec.enabled
        || wish.stopped
        || wish.bereft
        || life.instance.index >= wish.least()
        || edited
        || replaced
        || facts.is_idle(&life.instance.service, world.now.mono)
        || known.restarts != wish.restarts
        || known.called_off;
    let spec = known.spec.as_ref();
    let gave_up = spec.is_some_and(|spec| known.slots.gave_up(spec, world.now.mono));
    // Both at once: nobody can say for which.
    (asked || (gave_up && known.lost_need), gave_up || known.lost_need)
}

/// Law 3: of those that need it nobody lives, or the budget is over for them.
fn in_order(world: &World, name: &Name) -> Result<(), String> {
    let ordered = match world.facts.shutdown {
        // A deleted file is carried out at once.
        _ if world.facts.gone.contains(name) => return Ok(()),
        Some((Shutdown::Now, _)) => return Ok(()),
        Some((Shutdown::Ordered, _)) => true,
        None => world.was_ending,
    };
    if !ordered {
        return Ok(());
    }
    let now = world.now.mono;
    for (life, entry) in world.entries.iter().filter(|(_, entry)| entry.lives()) {
        let dependent = &life.instance.service;
        // Of what runs, where this controller knows that.
        let known = world.facts.lives.get(life).filter(|known| !known.inherited);
        let runs_on = known.and_then(|known| known.spec.as_ref());
        let needs = world.facts.needs(dependent).contains(name)
            || runs_on.is_some_and(|spec| spec.depends_on.iter().any(|need| need.name == *name));
        if dependent == name || !needs || world.facts.may_need(name).contains(dependent) {
            continue;
        }
        // Who was not told to this controller to need it (its file is refused) may outlive it.
        let killed = world.facts.lives.get(life).and_then(|known| known.killed);
        let over = world.budgeted() && killed.is_some_and(|at| now >= at + LAST_WORDS);
        if !over && (entry.main || !world.facts.lives.get(life).is_some_and(|known| known.empty)) {
            return Err(format!("law 3: {name} is told to end before {life}, which needs it, is gone"));
        }
    }
    Ok(())
}

/// A node that leaves by itself has a reason, and what failed is in its code.
fn left(world: &World, code: i32) -> Result<(), String> {
    if let Some((life, hook)) =
        world.hooks.keys().find(|(life, _)| world.facts.shutdown.is_none() && !world.entries.contains_key(life))
    {
        return Err(format!("law 1: the node leaves while the {hook:?} hook of {life} runs"));
    }
    for (life, entry) in &world.entries {
        let killed = world.facts.lives.get(life).is_some_and(|known| known.killed.is_some());
        if entry.main && !killed {
            return Err(format!("law 3: the node leaves and {life} lives, which nobody has killed"));
        }
    }
    let told = world.facts.shutdown.is_some();
    if told && code == 0 {
        return Ok(());
    }
    let limit = world.patience().unwrap_or(Duration::MAX);
    let began = world.ending_since.unwrap_or(world.now.mono);
    let culprit =
        world.unready_at_end.iter().any(|(_, since)| began.saturating_sub(*since) + Duration::from_millis(1) >= limit);
    if code == 0 && culprit {
        let unready = &world.unready_at_end;
        return Err(format!("law of the required: the node leaves with 0 and these are not ready: {unready:?}"));
    }
    Ok(())
}

/// Law 9: what is told was observed.
pub fn told(world: &mut World, view: &ServiceView) -> Result<(), String> {
    let name = &view.service;
    let living = |entry: &crate::process::Entry| entry.main || !entry.told;
    let lives = || world.entries.iter().filter(|(life, _)| life.instance.service == *name);
    if view.process_running && !lives().any(|(_, entry)| living(entry)) {
        return Err(format!("law 9: {name} is told to run and does not"));
    }
    let ready: BTreeSet<&LifeId> = world.facts.ready_lives(name).collect();
    if view.ready as usize > ready.len() {
        return Err(format!("law 9: {name} is told ready {} times and is {} times", view.ready, ready.len()));
    }
    let asleep = view.reason == Some(Reason::OnDemand);
    let listens = world.is_heard_to_listen(name);
    let serves = view.ready > 0 && !world.facts.is_shut(name);
    if view.available != (serves || (asleep && listens)) {
        return Err(format!(
            "law 9: {name} is available or not, is ready {} times, is listened for: {listens}",
            view.ready
        ));
    }
    if asleep && lives().any(|(_, entry)| entry.lives()) {
        return Err(format!("law 9: {name} is told to wait for demand and something of it lives"));
    }
    // (Who is connected is so to nobody: nothing of it lives.)
    if asleep && world.facts.calls.get(name).is_some_and(|call| call.demand.waiting) {
        return Err(format!("law of demand: somebody is at the door of {name}, which is told to wait for demand"));
    }
    if matches!(view.status, Status::Healthy | Status::Running) && ready.is_empty() {
        // What was never valid goes on unchecked and is told `running`.
        let unread = !world.facts.wishes.contains_key(name) && view.status == Status::Running;
        if !unread {
            return Err(format!("law 9: {name} is told {} and is not ready", view.status));
        }
    }
    if view.status == Status::Healthy && !lives().any(|(life, _)| world.passed.contains(life)) {
        return Err(format!("law 9: {name} is told healthy without a check"));
    }
    if view.status == Status::Healthy && view.score.is_some_and(|score| score <= 70) {
        return Err(format!("law 9: {name} is told healthy with a score of {:?}", view.score));
    }
    for instance in &view.instances {
        let Some(score) = &instance.score else { continue };
        let told: i32 = 100 - score.less.iter().map(|less| i32::from(less.points)).sum::<i32>();
        if i32::from(score.points) != told.max(0) || (score.points > 0 && instance.pid.is_none()) {
            return Err(format!("law 9: {} is told a score of {score:?}", instance.name));
        }
    }
    for pid in view.instances.iter().filter_map(|instance| instance.pid) {
        if !lives().any(|(_, entry)| entry.pid == pid && living(entry)) {
            return Err(format!("law 9: {name} is told to run as {pid} and does not"));
        }
    }
    if matches!(view.status, Status::Stopped | Status::Completed)
        && let Some((life, _)) = lives().find(|(_, entry)| entry.lives())
    {
        return Err(format!("law 9: {name} is told {} and {life} lives", view.status));
    }
    let word = matches!(view.status, Status::Healthy | Status::Running | Status::Completed);
    if !word && (view.why.is_empty() || view.next.is_none()) && view.status != Status::Stopping {
        return Err(format!("law 9: {name} is {} and nobody says why or what comes next", view.status));
    }
    if let Some(before) = world.views.get(name) {
        if view.manifest.generation < before.manifest.generation {
            return Err(format!("law 9: the generation of {name} falls"));
        }
        if view.restarts < before.restarts && !world.renewed.remove(name) {
            return Err(format!("law 9: the restarts of {name} fall from {} to {}", before.restarts, view.restarts));
        }
    }
    Ok(())
}

/// The required: the node does not outlive its patience.
pub fn required(world: &World) -> Result<(), String> {
    let Some(limit) = world.patience() else { return Ok(()) };
    if world.controller.node().shutting_down || !world.facts.scanned || world.facts.lost {
        return Ok(());
    }
    match world.facts.unready.iter().find(|(_, since)| world.now.mono > **since + limit) {
        Some((name, _)) => Err(format!("law of the required: {name} is not ready for {limit:?} and the node goes on")),
        None => Ok(()),
    }
}
