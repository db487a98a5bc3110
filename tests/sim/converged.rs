//! Laws 6 and 7: after all faults the world is as desired, is told so, and stays so.

use plugd::model::name::{Instance, Name};
use plugd::model::reason::{Reason, Status};
use plugd::model::text::{ControllerLine, status_file};
use plugd::model::view::{RunResult, RunView, ServiceView};

use crate::manifest::service_name;
use crate::world::World;

/// What a run leaves behind is ended within this.
const LINGERS: std::time::Duration = std::time::Duration::from_secs(10);

pub fn converged(world: &World) -> Result<(), String> {
    for &service in world.files.keys() {
        let name = service_name(service);
        let Some(view) = world.controller.view(&name) else {
            return Err(format!("law 6: {name} is in the directory and unknown"));
        };
        text(&view)?;
        of_service(world, &view)?;
    }
    for (life, entry) in &world.entries {
        let known = world.files.keys().any(|&service| service_name(service) == life.instance.service);
        if !known {
            let what = if entry.lives() { "lives" } else { "is kept by the keeper" };
            return Err(format!("law 6: {life} {what} and its manifest is gone"));
        }
        let just_now = entry.spec.schedule.is_some() && world.now.mono.saturating_sub(entry.ended) < LINGERS;
        if entry.exit.is_some() && entry.lives() && !just_now {
            return Err(format!("law 6: {life} ended and {:?} of it are left", entry.left()));
        }
        let newer = world.entries.keys().any(|other| other.instance == life.instance && other.life > life.life);
        if newer {
            return Err(format!("law 6: the keeper still holds {life}, of which nobody will ask"));
        }
    }
    let job = |name: &Name| world.facts.wishes.get(name).is_some_and(|wish| wish.spec.schedule.is_some());
    match world.hooks.keys().find(|(life, _)| !job(&life.instance.service)) {
        Some((life, hook)) => Err(format!("law 6: the {hook:?} hook of {life} runs on")),
        None => Ok(()),
    }
}

fn of_service(world: &World, view: &ServiceView) -> Result<(), String> {
    let name = &view.service;
    let Some(wish) = world.facts.wishes.get(name) else {
        // Never valid in this controller's time: what runs goes on, nothing is begun.
        return Ok(());
    };
    let spec = &wish.spec;
    if spec.schedule.is_some() {
        // What it depends on may keep an edit from making a job of it.
        let daemon = wish.perhaps.iter().any(|spec| spec.schedule.is_none());
        return if daemon && view.schedule.is_none() { Ok(()) } else { of_job(world, view) };
    }
    let optional = spec.depends_on.iter().any(|dependency| dependency.optional);
    let known = world.entries.keys().filter(|life| life.instance.service == *name).map(|life| life.instance.index);
    let most = known.max().map_or(0, |most| most + 1).max(wish.most());
    for index in 0..most {
        let instance = Instance { service: name.clone(), index };
        let alive = world.entries.iter().find(|(life, entry)| life.instance == instance && entry.main);
        let over = world.facts.rungs.get(&instance).is_some_and(crate::ladder::Rungs::is_finished)
            || world.facts.is_perhaps_done(&instance);
        let unwanted = !spec.enabled || wish.stopped || index >= wish.most();
        match alive {
            Some((life, _)) if unwanted => {
                return Err(format!("law 6: {life} lives and {} are wanted", wish.most()));
            }
            Some((life, entry)) if wish.found && entry.print != spec.process_digest && !world.facts.is_cyclic(name) => {
                // A roll stops at a version that does not get ready.
                let gated = view.ready < view.desired
                    || !world.facts.should_run(&instance)
                    || optional
                    || world.facts.is_overtaken(name)
                    || !world.surely_held(&instance);
                if !gated {
                    return Err(format!("law 6: {life} is of an old version"));
                }
            }
            Some((life, _))
                if world.facts.should_run(&instance) && world.surely_held(&instance) && is_behind(world, life) =>
            {
                return Err(format!("law 6: {life} is judged by a version before an edit"));
            }
            Some((life, entry))
                if !is_behind(world, life)
                    && entry.print == spec.process_digest
                    && entry.resources != spec.resources =>
            {
                return Err(format!("law 6: {life} has limits of before an edit"));
            }
            None if world.facts.should_run(&instance)
                && world.surely_held(&instance)
                && !over
                && !world.is_over(&instance)
                && !(optional && view.status == Status::Waiting) =>
            {
                return Err(format!(
                    "law 6: {instance} should run long after all faults and is {} ({:?}): {:?}",
                    view.status, view.reason, view.why
                ));
            }
            Some(_) | None => {}
        }
    }
    let alive = || world.entries.iter().find(|(life, entry)| life.instance.service == *name && entry.main);
    let needed = world.facts.wishes.values().any(|other| other.needs().any(|need| need.name == *name));
    if let (false, true, Some((life, _))) = (needed, world.facts.is_idle(name, world.now.mono), alive()) {
        return Err(format!("law of demand: {life} lives and nobody has been connected for long"));
    }
    let sleeps = |need: &Name| {
        // Also where its last start failed: whoever needs it calls it.
        let failed = |view: &ServiceView| view.why.first().is_some_and(|why| why.starts_with("its last start failed"));
        world.views.get(need).is_some_and(|view| view.reason == Some(Reason::OnDemand) || failed(view))
    };
    if (view.status, view.reason) == (Status::Waiting, Some(Reason::DependencyNotReady))
        && let Some(need) = spec.depends_on.iter().find(|need| !need.optional && sleeps(&need.name))
    {
        return Err(format!("law of demand: {name} waits for {}, which sleeps", need.name));
    }
    if !(wish.least()..=wish.most()).contains(&view.desired) {
        return Err(format!("law 6: {} of {name} are wanted and {} are told to be", wish.most(), view.desired));
    }
    let off = !spec.enabled || wish.stopped || view.desired == 0;
    let expected: &[Status] = if !wish.found && view.ready == 0 {
        &[Status::Skipped, Status::Failed, Status::Stopped, Status::Completed, Status::Degraded]
    } else if off || (wish.bereft && view.reason == Some(Reason::DependencyLost)) {
        &[Status::Stopped]
    } else if view.ready > 0 && view.ready == view.desired {
        &[Status::Healthy, Status::Running]
    } else if view.ready > 0 {
        &[Status::Healthy, Status::Running, Status::Degraded, Status::Failed]
    } else {
        &[Status::Waiting, Status::Failed, Status::Degraded, Status::Completed, Status::Skipped, Status::Stopped]
    };
    // What runs of an older version, and cannot be replaced, is checked as that one was.
    let outdated = world
        .entries
        .iter()
        .any(|(life, entry)| life.instance.service == *name && entry.main && entry.print != spec.process_digest);
    // A job, and what a limit or a gate keeps down, are told with their reasons.
    if !expected.contains(&view.status) && !outdated && !is_remembered(view) {
        return Err(format!(
            "law 6: {name} is {} ({:?}) long after all faults: {:?}",
            view.status, view.reason, view.why
        ));
    }
    let alive = world.facts.ready_lives(name).filter(|life| life.instance.index < view.desired).count();
    if alive != view.ready as usize {
        return Err(format!("law 7: {alive} of {name} are ready, {} are told", view.ready));
    }
    Ok(())
}

/// It runs the declared process, and what it depends on, or how it is checked, has not been taken up.
fn is_behind(world: &World, life: &plugd::model::name::LifeId) -> bool {
    let spec = &world.facts.wishes[&life.instance.service].spec;
    let known = world.facts.lives.get(life).filter(|known| known.print == spec.process_digest);
    known.and_then(|known| known.spec.as_ref()).is_some_and(|own| own.depends_on != spec.depends_on)
}

/// A job by the clock has a next run, and what runs of it is the run that is told.
fn of_job(world: &World, view: &ServiceView) -> Result<(), String> {
    let name = &view.service;
    let wish = &world.facts.wishes[name];
    let told = view.schedule.as_ref().ok_or(format!("law 6: {name} runs by the clock and does not say so"))?;
    let open = |run: &&RunView| matches!(run.result, RunResult::Waiting | RunResult::Running);
    let open = told.runs.iter().filter(open).count();
    let lives = world.entries.iter().filter(|(life, entry)| life.instance.service == *name && entry.lives()).count();
    let off = !wish.spec.enabled || wish.stopped;
    if off && lives > 0 {
        return Err(format!("law 6: {name} is off and {lives} of it live"));
    }
    if off || wish.bereft {
        return Ok(());
    }
    if told.next_run.is_none_or(|next| next <= world.now.wall) {
        return Err(format!("law 6: {name} was to run next at {:?} and it is {}", told.next_run, world.now.wall));
    }
    if lives > open {
        return Err(format!("law 6: {lives} of {name} live and {open} runs are told"));
    }
    match view.status {
        Status::Waiting if open == 0 && view.reason == Some(Reason::NextRun) => Ok(()),
        // What it depends on, or what the last run came to.
        Status::Waiting | Status::Failed | Status::Skipped => Ok(()),
        _ if open > 0 => Ok(()),
        other => Err(format!("law 6: {name} is {other} ({:?}) and no run of it is open", view.reason)),
    }
}

/// It serves, and what it did in the last ten minutes is still held against it, and nothing else.
fn is_remembered(view: &ServiceView) -> bool {
    let restarts_alone = |instance: &plugd::model::view::InstanceView| {
        instance.score.iter().flat_map(|score| &score.less).all(|less| less.why.contains("restart"))
    };
    let ready = || view.instances.iter().filter(|instance| instance.ready);
    match (view.status, view.reason) {
        (Status::Degraded, Some(Reason::LowScore)) => ready().all(restarts_alone),
        // One of three: a third of its score.
        (Status::Unhealthy, Some(Reason::LowScore)) => view.ready < view.desired && ready().all(restarts_alone),
        _ => false,
    }
}

/// Ten minutes later nothing is held against what serves.
pub fn forgotten(world: &World) -> Result<(), String> {
    for view in world.views.values().filter(|view| world.is_to_rest(&view.service)) {
        let whole = view.ready > 0 && view.ready == view.desired;
        if whole && (view.reason == Some(Reason::LowScore) || view.score.is_some_and(|score| score < 100)) {
            return Err(format!("law 6: {} has a score of {:?} long after all faults", view.service, view.score));
        }
    }
    Ok(())
}

/// Law 7: what `cat` shows is what is so.
pub fn text(view: &ServiceView) -> Result<(), String> {
    let line = ControllerLine { pid: 1, version: "0".into(), written: view.since };
    let text = status_file(view, &line);
    let read: serde_yaml::Value = serde_yaml::from_str(&text)
        .map_err(|error| format!("law 7: the status of {} is no YAML: {error}", view.service))?;
    let word = |key: &str| read.get(key).and_then(|value| value.as_str().map(str::to_string));
    let number = |key: &str| read.get(key).and_then(serde_yaml::Value::as_u64);
    let same = word("status").as_deref() == Some(view.status.as_str())
        && word("reason").as_deref() == view.reason.map(Reason::as_str)
        && (view.status == Status::Skipped || number("restarts") == Some(view.restarts));
    if same { Ok(()) } else { Err(format!("law 7: the text of {} is not its view:\n{text}", view.service)) }
}
