//! What was there before us: memory from the disk, lives from the keeper.
//!
//! A new controller goes on honestly: restart counts and ladders continue, a process that runs keeps
//! running, what was ready is ready until its checks say otherwise, and a stop goes on where it was.
//! The keeper's table is the truth; memory fills in what the keeper did not see.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Controller;
use super::absorb::{LINGER_MAX, note_exit};
use super::agenda::Place;
use super::blob::{Blob, COUNT_MAX, Earlier, Ending, STEPS_MAX, unhex};
use super::checks::Checks;
use super::input::{Adopted, Exit, Memory, Scaled};
use super::life::*;
use super::present::exit_view;
use super::service::{Gate, Id, Instance, Service, Unasked};
use crate::model::reason::Reason;
use crate::model::time::Now;

/// A controller that is killed is followed by another within a second; one that comes up slowly has some more.
const UNTOLD_MAX: Duration = Duration::from_secs(10);

impl Controller {
    pub(super) fn adopt(&mut self, adopted: Adopted, now: Now) {
        let (name, index) = (adopted.life.instance.service.clone(), adopted.life.instance.index);
        self.take_up(adopted, now);
        let service = self.table.id(&name).and_then(|id| self.table.get(id));
        let instance = service.and_then(|service| service.instances.get(index as usize));
        let exit = instance.and_then(|instance| instance.last_exit.as_ref()).map(exit_view);
        self.exits.extend(exit.map(|exit| (name, exit)));
    }

    fn take_up(&mut self, adopted: Adopted, now: Now) {
        let id = self.table.enter(&adopted.life.instance.service, now.wall);
        let Some(service) = self.table.get_mut(id) else { return };
        let blob = Blob::decode(&adopted.blob).unwrap_or_default();
        service.restarts = service.restarts.max(blob.service_restarts);
        let spawned = now.mono.saturating_sub(adopted.age);
        let spawned_wall = Timestamp::from_microsecond(blob.spawned).unwrap_or(now.wall);
        let claim = blob.run.as_ref().map(|mark| service.agenda.claim(mark, (spawned_wall, spawned)));
        if adopted.exit.is_none() && !blob.stopping && blob.ending.is_none() {
            // It runs because somebody wanted it.
            (service.call.awake, service.call.used) = (true, now.mono);
        }
        let is_last = service.lives.get(adopted.life.instance.index as usize) == Some(&adopted.life.life);
        let memory = service.remembered.as_ref().filter(|_| is_last && !matches!(claim, Some(Err(_))));
        let is_spent = memory.is_some_and(|memory| memory.spent.contains(&adopted.life.instance.index));
        let has_memory = service.remembered.is_some();
        let instance = service.instance(adopted.life.instance.index);
        // Memory that knows a later life than the keeper was written after this one ended.
        let memory_is_newer = instance.number > adopted.life.life;
        // The keeper may still hold the ended life before the present one.
        if instance.life.is_occupied() {
            if adopted.life.life < instance.number {
                if let Some(exit) = adopted.exit {
                    note_end(instance, &adopted, exit, spawned_wall);
                    instance.spare.push(adopted.life.life);
                }
                return;
            }
            if adopted.life.life == instance.number {
                return;
            }
            instance.spare.push(instance.number);
            instance.held = None;
        }
        let untold = blob.earlier.is_some_and(|earlier| note_earlier(instance, &earlier, adopted.life.life))
            && !hush_old(instance, has_memory, now);
        match &claim {
            Some(Ok(run)) => instance.run = Some(run.clone()),
            Some(Err(told)) => (instance.run, instance.told) = (None, Some(*told)),
            None => instance.run = None,
        }
        instance.number = instance.number.max(adopted.life.life);
        instance.restarts = instance.restarts.max(blob.restarts);
        instance.vitals.remember(&blob.restarted, now);
        let before = instance.held.replace(adopted.life.life).filter(|&life| life != adopted.life.life);
        instance.spare.extend(before);
        if memory_is_newer {
            // It ended and was dealt with; the next try is due, its ladder as memory has it.
            instance.unasked = Some(Unasked::OfItself);
        } else {
            instance.ladder.step = blob.step;
            instance.ladder.failed_starts = blob.failed_starts;
            instance.ladder.recalled = false;
        }
        let made = Arc::new(Made {
            print: blob.print(),
            generation: blob.generation,
            own: blob.own.clone(),
            spec: None,
            wrapper: None,
            signal: if blob.signal > 0 { blob.signal } else { TERM },
            grace: blob.grace(),
        });
        let carried = blob.ready_age.map(Duration::from_millis);
        match adopted.exit {
            None => {
                // What runs is the present life, whatever memory says.
                instance.number = adopted.life.life;
                instance.held = None;
                let running = Running {
                    made,
                    pid: adopted.pid,
                    spawned,
                    spawned_wall,
                    checks: Checks::default(),
                    ready_since: None,
                    was_ready: carried.is_some() || blob.marks.once,
                    lasted: false,
                    steady: false,
                    port_late: false,
                    says: None,
                    give_up: None,
                    carried,
                    marks: blob.marks,
                    untold: false,
                    rejudged: false,
                    resized: false,
                };
                instance.must_restart |= blob.ending.as_ref().is_some_and(Ending::is_ordered);
                instance.life = match &blob.ending {
                    Some(ending) => Life::Stopping(Box::new(Stopping::resumed(running, ending, adopted.pre_stop, now))),
                    // As a controller told it that knew no more.
                    None if blob.stopping => Life::Stopping(Box::new(Stopping::of(running, Cause::Unwanted, now.mono))),
                    None => Life::Running(Box::new(running)),
                };
            }
            Some(exit) if !memory_is_newer => {
                let asked = blob.stopping || blob.ending.is_some();
                let exit = if asked { exit.asked_for() } else { exit };
                let known = note_end(instance, &adopted, exit, spawned_wall) || hush_old(instance, has_memory, now);
                instance.oom_killed = exit.oom_killed;
                instance.pids_met = exit.pids_met;
                if is_spent {
                    instance.recent.spend();
                }
                let cause = match &claim {
                    Some(Err(_)) => Cause::Told,
                    Some(Ok(_)) | None if blob.stopping => Cause::Unwanted,
                    Some(Ok(_)) | None => blob.ending.as_ref().map_or(Cause::Ended, Ending::cause),
                };
                let ordered = blob.ending.as_ref().is_some_and(Ending::is_ordered);
                if let Some(seen) = instance.last_exit.as_mut().filter(|seen| seen.by.is_none()) {
                    let asked = blob.ending.as_ref().map_or(cause.clone(), Ending::cause);
                    seen.by = super::explain::asked_by(&asked, &Gate::Unknown, ordered, "plugd");
                }
                // What it left has as long as it would have had; since when it is over, its age does not tell.
                let since =
                    jiff::SignedDuration::from_micros(now.wall.as_microsecond() - spawned_wall.as_microsecond());
                let born = now.mono.saturating_sub(since.unsigned_abs());
                let rest = blob.ending.as_ref().map(|ending| ending.times(born).1.min(now.mono + made.grace));
                instance.life = Life::Stopping(Box::new(Stopping {
                    kill_at: rest.unwrap_or(now.mono + made.grace.min(LINGER_MAX)),
                    made,
                    pid: Some(adopted.pid),
                    spawned,
                    spawned_wall,
                    cause,
                    phase: Phase::Lingering { told: blob.ending.as_ref().is_some_and(|ending| ending.lingers) },
                    began: now.mono,
                    hook: if adopted.pre_stop { Drain::Runs } else { Drain::Over },
                    exit: Some(exit),
                    known,
                    left: None,
                    survey: Survey::at(Some(now.mono)),
                    lasted: false,
                    steady: false,
                    was_ready: carried.is_some() || blob.marks.once,
                    stuck: false,
                    carried: carried.map(|age| adopted.age.saturating_sub(age)),
                }));
            }
            Some(exit) => drop(note_end(instance, &adopted, exit, spawned_wall)),
        }
        service.troubled |= blob.marks.once && blob.ready_age.is_none();
        service.count_life(adopted.life.instance.index as usize);
        self.mark(id);
        if untold {
            self.tell_earlier_end(id, adopted.life.instance.index as usize, now);
        }
    }

    /// It ended and another life began, and the controller that saw it was gone before anybody had written it down.
    fn tell_earlier_end(&mut self, id: Id, at: usize, now: Now) {
        let Some(mut service) = self.table.take(id) else { return };
        let exit = service.instances[at].last_exit.as_mut().map(|exit| {
            exit.told = true;
            exit.exit()
        });
        if let Some(exit) = exit {
            let said = super::explain::ended(&exit, service.instances[at].last_exit.as_ref().map(|exit| exit.ran_for));
            let then = if service.instances[at].life.running().is_some() { "; it runs again" } else { "" };
            let message = format!("{} {said}{then}", service.instance_name(at));
            self.record(&service, at, Reason::Exited, true, message, now);
        }
        self.table.put(id, service);
    }
}

/// Where the memory is gone nobody knows whether an end was told. One that is old was: no controller is away for so
/// long. Whether it is.
fn hush_old(instance: &mut Instance, has_memory: bool, now: Now) -> bool {
    let Some(exit) = instance.last_exit.as_mut().filter(|_| !has_memory) else { return false };
    let age = now.wall.as_microsecond().saturating_sub(exit.at);
    let is_old = u128::try_from(age).is_ok_and(|age| age > UNTOLD_MAX.as_micros());
    exit.told |= is_old;
    is_old
}

/// The end of a life that the keeper holds; whether it was told.
fn note_end(instance: &mut Instance, adopted: &Adopted, exit: Exit, spawned: Timestamp) -> bool {
    if let Some(known) = instance.last_exit.as_ref().filter(|known| known.life >= adopted.life.life) {
        return known.told || known.life > adopted.life.life;
    }
    let ended = jiff::SignedDuration::try_from(adopted.age).unwrap_or_default();
    note_exit(instance, exit, spawned.checked_add(ended).unwrap_or(spawned), adopted.age, adopted.life.life);
    false
}

/// The end of the life before, as the next one's blob has it: whether nobody else knows of it.
fn note_earlier(instance: &mut Instance, earlier: &Earlier, life: u64) -> bool {
    let before = life.saturating_sub(1).min(earlier.life);
    if instance.last_exit.as_ref().is_some_and(|known| known.life >= before) {
        return false;
    }
    let at = Timestamp::from_microsecond(earlier.at).unwrap_or_default();
    note_exit(instance, earlier.exit(), at, Duration::from_millis(earlier.ran_for), before);
    true
}

impl Stopping {
    /// A stop goes on where an earlier controller left it: what was sent is not sent twice, and the grace ends
    /// when it would have ended.
    fn resumed(running: Running, ending: &Ending, pre_stop: bool, now: Now) -> Stopping {
        let (began, kill_at) = ending.times(running.spawned);
        let (phase, survey) = match ending.signalled {
            true => (Phase::Signalled, Survey::after_signal(now.mono)),
            false => (Phase::PreStop { asked: true, done: !pre_stop }, Survey::at(None)),
        };
        let carried = running.carried.map(|age| began.saturating_sub(running.spawned).saturating_sub(age));
        Stopping {
            began,
            kill_at: kill_at.min(now.mono + running.made.grace),
            phase,
            survey,
            hook: match (pre_stop, ending.signalled) {
                (false, _) => Drain::Over,
                (true, false) => Drain::Runs,
                (true, true) => Drain::Late(running.made.grace),
            },
            carried,
            ..Stopping::of(running, ending.cause(), now.mono)
        }
    }
}

/// Numbers of the disk are cut to what can be (see [`COUNT_MAX`]).
pub(super) fn remember(service: &mut Service, mut memory: Memory) {
    memory.lives.truncate(super::INSTANCES_MAX as usize);
    memory.lives.iter_mut().for_each(|life| *life = (*life).min(COUNT_MAX));
    service.generation = memory.generation.min(COUNT_MAX);
    service.digest = (memory.digest.len() == 32).then(|| unhex(&memory.digest));
    service.restarts = service.restarts.max(memory.restarts.min(COUNT_MAX));
    service.stopped = memory.stopped_by_operator;
    service.bereft.clone_from(&memory.dependency_lost);
    service.scaled = memory.scaled.map(|scaled| Scaled { to: scaled.to.min(super::INSTANCES_MAX), ..scaled });
    for (index, &life) in (0..).zip(&memory.lives) {
        let instance = service.instance(index);
        instance.number = instance.number.max(life);
        instance.ladder.step = memory.step.min(STEPS_MAX);
        instance.ladder.failed_starts = memory.failed_starts.min(STEPS_MAX);
        instance.ladder.recalled = true;
    }
    if let Some(exit) = &memory.last_exit
        && let Some(instance) = service.instances.get_mut(exit.index as usize)
    {
        instance.last_exit = Some(exit.clone());
    }
    service.agenda = Place::of_memory(memory.schedule.as_deref());
    service.before = memory.kept.as_deref().map(Made::of_memory).map(Arc::new);
    service.lives.clone_from(&memory.lives);
    service.remembered = Some(memory);
}
