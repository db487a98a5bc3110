//! A new version is brought out: tried first, then instance by instance (policy/update.rs).
//!
//! Nothing is stopped before the new spec has been tried as far as it can be without running it, nor
//! while what the new version depends on is missing (a slip of the pen would stop a good version);
//! and a roll goes on only while enough instances are ready: so it stops by itself at a version that
//! never gets ready.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Controller;
use super::decide::Want;
use super::life::{Life, Made};
use super::plan::{Action, Plan};
use super::service::{Instance, Service, Trial};
use crate::model::manifest::instance_port;
use crate::model::spec::Spec;
use crate::model::time::Now;
use crate::policy::update;

/// A refused update is tried again this often: the missing program may have been installed.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A try that was not answered for this long is asked again.
const TRY_LOST: Duration = Duration::from_secs(30);
/// While an edit is tried the old version is told, at most this long: a status file is true within 200 ms.
const UNTOLD_MAX: Duration = Duration::from_millis(100);
/// Nor is the old version started again, at most this long: the answer takes a moment, usually.
const UNDECIDED_MAX: Duration = Duration::from_secs(1);

/// Asks for the trial of what is declared, where that is due; whether it was found good.
fn try_out(service: &mut Service, made: &Made, now: Now, plan: &mut Plan) -> bool {
    let key = made.print.mixed();
    let due = match &service.trial {
        None => true,
        Some(trial) if trial.key != key => true,
        Some(Trial { result: None, asked_at, .. }) => now.mono >= *asked_at + TRY_LOST,
        Some(Trial { result: Some(Ok(())), .. }) => false,
        Some(Trial { result: Some(Err(_)), asked_at, .. }) => now.mono >= *asked_at + TRY_AGAIN,
    };
    if due {
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
    service.trial.as_ref().is_some_and(|trial| trial.result == Some(Ok(())))
}

/// Whose next port another instance, of an older version, still has, where an edit moves the ports up or down: such a
/// one has its turn when that has moved on. Otherwise each would wait for the other.
fn come_later(service: &Service) -> BTreeSet<usize> {
    // One alone is in nobody's way; it is asked at each look at each service.
    if service.instances.len() < 2 {
        return BTreeSet::new();
    }
    let next = service.next();
    let Some((next, spec)) = next.as_ref().and_then(|next| Some((next, next.spec.as_ref()?))) else {
        return BTreeSet::new();
    };
    // On demand plugd listens itself.
    let port = |spec: &Spec, index| instance_port(&spec.process, index).filter(|_| spec.process.on_demand.is_none());
    let held = |one: &Instance| {
        let made = one.life.process_of().filter(|made| made.print != next.print)?;
        Some((port(made.spec.as_ref()?, one.index)?, one.index))
    };
    let held: BTreeMap<u16, u32> = service.instances.iter().filter_map(held).collect();
    let by_other = |one: &Instance| {
        port(spec, one.index).and_then(|port| held.get(&port)).is_some_and(|holder| *holder != one.index)
    };
    service.instances.iter().enumerate().filter(|(_, one)| by_other(one)).map(|(at, _)| at).collect()
}

impl Controller {
    /// Who of the outdated is replaced now.
    pub(super) fn give_turns(
        &mut self,
        service: &mut Service,
        desired: usize,
        wants: &mut [Want],
        now: Now,
        plan: &mut Plan,
    ) {
        if self.ending.is_some() {
            return;
        }
        let later = come_later(service);
        for &at in &later {
            if wants[at] == Want::Run && !service.instances[at].life.is_running() {
                wants[at] = Want::Keep;
            }
        }
        let made = service.made();
        let outdated =
            |instance: &Instance| made.as_ref().is_some_and(|made| instance.life.runs_other_than(&made.print));
        let edited = service.is_outdated();
        let ordered = service.instances.iter().any(|instance| instance.must_restart);
        if !edited || made.is_none() {
            service.touched |= service.trial.take().is_some();
        }
        if !edited && !ordered {
            return;
        }
        let mut proven = true;
        let held = service.is_held_back() || made.is_none();
        if let Some(made) = made.as_ref().filter(|_| edited) {
            // Held back by what it waits for or would go round in: tried when that is no more.
            let is_same_process = service.kept.as_ref().is_some_and(|kept| kept.print == made.print);
            let is_due = service.churn.held(now).is_none();
            proven = !held && is_due && (is_same_process || try_out(service, made, now, plan));
            if proven && service.let_go() {
                // What waits on the ladder waits on where it is the same that is tried again.
                let waits = |one: &&mut Instance| !is_same_process && matches!(one.life, Life::BackOff(_));
                service.instances.iter_mut().filter(waits).for_each(Instance::begin_anew);
                service.take_up(now);
                // How many are wanted, and whether at all, the new version says: that is looked at next.
                wants.fill(Want::Keep);
                service.moved = true;
                return;
            }
        }
        // `plugd restart` is of the version before where that is what can be started.
        let restarts_kept = service.kept.is_some() && (held || service.has_failed_trial());
        let Some(spec) = service.spec() else { return };
        let plan = update::plan(spec, service.desired());
        // What ran to its end is not missed; nor is what cannot begin before others have moved on.
        // One that has failed is ready for good only when it has lasted: it may be gone in a moment.
        let stays =
            |one: &Instance| one.ladder.failed_starts == 0 || one.life.running().is_some_and(|running| running.lasted);
        let serves = |one: &Instance| (one.life.is_ready() && stays(one)) || one.life.is_completed();
        let missed = |(at, instance): &(usize, &Instance)| !serves(instance) && !later.contains(at);
        let down = service.instances.iter().enumerate().take(desired).filter(missed).count();
        let down = u32::try_from(down).unwrap_or(u32::MAX);
        let mut turns = update::may_stop(plan, down);
        for (at, instance) in service.instances.iter().enumerate().take(desired) {
            let ordered = instance.must_restart && (restarts_kept || !outdated(instance));
            let old = (proven && outdated(instance)) || ordered;
            if !old || !instance.life.is_running() {
                continue;
            }
            // One that serves nobody costs nothing.
            if !instance.life.is_ready() {
                wants[at] = Want::Replace;
            } else if turns > 0 && (ordered || plan == update::Plan::Recreate || !later.contains(&at)) {
                turns -= 1;
                wants[at] = Want::Replace;
            }
        }
    }

    /// What was refused is due now, not only after a while.
    pub(super) fn try_again(&mut self, now: Now) {
        for id in self.table.ids().collect::<Vec<_>>() {
            let Some(service) = self.table.get_mut(id).filter(|service| service.has_failed_trial()) else { continue };
            if let Some(trial) = &mut service.trial {
                trial.asked_at = now.mono.saturating_sub(TRY_AGAIN);
            }
            self.mark(id);
        }
    }

    /// Whether a call would start it is looked at before there is one.
    pub(super) fn try_asleep(&self, service: &mut Service, general: Want, now: Now, plan: &mut Plan) {
        let is_open =
            general == Want::Run && self.ending.is_none() && !service.is_occupied() && !service.is_held_back();
        match service.made().filter(|_| is_open) {
            Some(made) => drop(try_out(service, &made, now, plan)),
            None => service.call_off_update(),
        }
    }

    /// An edit that is being tried: in a moment its old process is stopped, or it is blocked. Told before
    /// that, the status would give the new generation and the health of the old process.
    pub(super) fn is_trying(&self, service: &Service, now: Now) -> bool {
        service.trial.as_ref().is_some_and(|trial| trial.result.is_none() && now.mono < trial.asked_at + UNTOLD_MAX)
    }

    /// Until when nothing starts, because it is not known yet which version is to be started.
    pub(super) fn undecided(&self, service: &Service, now: Now) -> Option<Duration> {
        let trial = service.trial.as_ref().filter(|trial| trial.result.is_none())?;
        let until = trial.asked_at + UNDECIDED_MAX;
        (service.kept.is_some() && !service.is_held_back() && now.mono < until).then_some(until)
    }

    pub(super) fn trial_deadline(&self, service: &Service, now: Now) -> Option<Duration> {
        let trial = service.trial.as_ref()?;
        if self.ending.is_some() || service.is_held_back() {
            return None;
        }
        match &trial.result {
            None if self.is_trying(service, now) => Some(trial.asked_at + UNTOLD_MAX),
            None => Some(trial.asked_at + TRY_LOST),
            Some(Ok(())) => None,
            Some(Err(_)) => Some(trial.asked_at + TRY_AGAIN),
        }
    }
}
