//! Routine checks: asked when they are due, and answered as ever, without a visit to the whole service.
//!
//! A thousand services that are well are asked a hundred times a second, and all that follows is the moment of the
//! next question. Whatever else an answer changes leads to a visit, which asks what is due as well.

use std::time::Duration;

use super::Controller;
use super::checks::Finding;
use super::decide::enter;
use super::input::{ProbeSlot, Verdict};
use super::life::*;
use super::plan::{Action, Plan};
use super::service::{Id, Service};
use crate::model::name::LifeId;
use crate::model::time::Now;
use crate::policy::pace;

impl Controller {
    /// Takes in what a check found.
    pub(super) fn answered(&mut self, life: &LifeId, probe: ProbeSlot, verdict: Verdict, now: Now) {
        let Some(id) = self.table.id(&life.instance.service) else { return };
        let Some(mut service) = self.table.take(id) else { return };
        let at = life.instance.index as usize;
        let present = service.instances.get(at).is_some_and(|instance| instance.number == life.life);
        let news = present && self.verdict(&mut service, at, probe, verdict, now);
        if present && !news {
            self.ask_at(id, &mut service);
        }
        self.table.put(id, service);
        if news {
            self.mark(id);
        }
    }

    /// Whether anything but the moment of its next check follows from it.
    pub(super) fn verdict(
        &mut self,
        service: &mut Service,
        at: usize,
        probe: ProbeSlot,
        verdict: Verdict,
        now: Now,
    ) -> bool {
        let Life::Running(running) = &mut service.instances[at].life else { return false };
        let Some(spec) = running.made.spec.clone() else { return false };
        let before = running.checks.outline(&spec);
        let failures = running.checks.failures_of(probe);
        let finding = running.checks.answer(&spec, probe, verdict, running.spawned, now.mono, &mut self.random);
        // How often a service was asked until it had started tells nothing of how it is.
        if probe != ProbeSlot::Startup && running.checks.failures_of(probe) > failures {
            self.misses.push(service.name.clone());
        }
        let told = running.checks.outline(&spec) != before;
        let kept = running.marks != running.stands(&spec);
        service.touched |= told;
        let turned = match finding {
            Finding::Nothing => false,
            Finding::Turned => true,
            Finding::GiveUp(why) => {
                running.give_up = Some(why);
                true
            }
        };
        told || kept || turned || compares(service)
    }

    /// Those of the present moment, of services that are as they were.
    pub(super) fn ask_what_is_due(&mut self, now: Now, plan: &mut Plan) {
        while let Some(&(at, id)) = self.questions.first() {
            if at > now.mono {
                break;
            }
            self.questions.pop_first();
            let Some(mut service) = self.table.take(id) else { continue };
            service.question = None;
            for at in 0..service.instances.len() {
                let life = service.life_id(at);
                let Life::Running(running) = &mut service.instances[at].life else { continue };
                ask(running, &life, now, plan);
            }
            self.ask_at(id, &mut service);
            self.table.put(id, service);
        }
    }

    /// Enters the moment at which a check of the service is due next.
    pub(super) fn ask_at(&mut self, id: Id, service: &mut Service) {
        let next = next_question(service);
        enter(&mut self.questions, &mut service.question, next, id);
    }
}

/// Asks what is due of a running life.
pub(super) fn ask(running: &mut Running, life: &LifeId, now: Now, plan: &mut Plan) {
    let Some(spec) = running.made.spec.clone() else { return };
    running.checks.take_due(&spec, now.mono, |probe| {
        plan.actions.push(Action::Probe { life: life.clone(), probe, spec: spec.clone() });
    });
}

fn next_question(service: &Service) -> Option<Duration> {
    let of = |running: &Running| running.checks.next_question(running.made.spec.as_ref()?);
    service.instances.iter().filter_map(|instance| of(instance.life.running()?)).min()
}

/// How fast one of several answers is held against the others.
fn compares(service: &Service) -> bool {
    let running = service.instances.iter().filter_map(|instance| instance.life.running());
    service.instances.len() > 1
        && (service.instances.iter().any(|instance| instance.vitals.is_slow())
            || running.map(|running| running.checks.pace).any(pace::is_felt))
}
