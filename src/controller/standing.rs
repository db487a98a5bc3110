//! What others may know of a service: whether it is started, ready, completed, or still coming.

use super::Controller;
use super::life::{Cause, Life, Phase};
use super::service::{Gate, Service};
use crate::policy::depends::{Standing, allows};
use crate::policy::restart::{self, End, Next};

impl Controller {
    /// What those who depend on it may know.
    pub(super) fn standing(&self, service: &Service) -> Standing {
        let desired = service.desired() as usize;
        let wanted = || service.instances.iter().take(desired);
        // A run that is not told yet is known to nobody.
        let completed = |instance: &super::service::Instance| instance.run.is_none() && instance.life.is_completed();
        let started = |instance: &super::service::Instance| instance.life.is_running();
        // A job that has just ended well is neither lost nor, while something of it is left, completed.
        let completing = |instance: &super::service::Instance| match &instance.life {
            Life::Stopping(stopping) => {
                let next = |exit: super::input::Exit| {
                    service.rules().map(|spec| restart::next(&spec.restart, End::Status(exit.status())))
                };
                // A run is what it is, whatever was edited meanwhile.
                let counts = match service.schedule() {
                    Some(_) => instance.run.is_some(),
                    None => !instance.fresh && service.next().is_none_or(|made| made.print == stopping.made.print),
                };
                stopping.cause == Cause::Ended && counts && stopping.exit.and_then(next) == Some(Next::Completed)
            }
            Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Running(_)
            | Life::BackOff(_)
            | Life::Finished(_) => false,
        };
        let unread = service.declared.is_none() && service.gate != Gate::Gone;
        if service.schedule().is_some() {
            // Once a run has completed, what needs it has what it needs.
            let done = service.agenda.has_succeeded();
            let held = done || wanted().any(completing);
            return Standing {
                known: true,
                started: held || wanted().any(started),
                ready: held || wanted().any(|instance| instance.life.is_ready()),
                completed: done,
                coming: self.is_coming(service),
                asleep: false,
                unread,
            };
        }
        // All that are wanted, also those that were not begun yet.
        let all = desired > 0 && wanted().count() == desired;
        let over = all && !service.call.left && wanted().all(|instance| completed(instance) || completing(instance));
        Standing {
            known: service.declared.is_some() || service.rejected.is_some(),
            started: over || wanted().any(started),
            // Who cannot be called serves nobody, however well it is.
            ready: over || (service.shut().is_none() && wanted().any(|instance| instance.life.is_ready())),
            completed: all && wanted().all(completed),
            coming: self.is_coming(service),
            asleep: service.is_asleep() || wakes(service),
            unread,
        }
    }

    /// On its way to a first verdict.
    pub(super) fn is_coming(&self, service: &Service) -> bool {
        let on_its_way = |instance: &super::service::Instance| match &instance.life {
            Life::Idle => {
                let called = service.schedule().is_none() || instance.run.is_some();
                called && matches!(service.gate_of_next(), Gate::Open | Gate::Unknown | Gate::Waiting(_))
            }
            // That nothing answers is a verdict: nobody knows when that ends.
            Life::Preparing(preparing) => preparing.held_up.is_none(),
            Life::Starting(starting) => starting.held_up.is_none(),
            Life::Running(running) => {
                !running.was_ready && !instance.ladder.has_failed() && running.checks.failing.is_none()
            }
            Life::Stopping(stopping) => match stopping.phase {
                Phase::Lingering { .. } => !instance.ladder.has_failed(),
                Phase::PreStop { .. } | Phase::Signalled | Phase::Killing { .. } => false,
            },
            Life::BackOff(_) | Life::Finished(_) => false,
        };
        match service.gate_of_next() {
            Gate::Unknown => true,
            Gate::Open | Gate::Waiting(_) if service.is_asleep() => false,
            Gate::Open => {
                service.instances.iter().any(|i| on_its_way(i) && !i.ladder.has_failed())
                    && !service.instances.iter().any(|i| i.life.is_ready())
            }
            // Waiting for something that has had its verdict is a verdict too.
            Gate::Waiting(_) if service.is_armed() => false,
            Gate::Waiting(_) => {
                let fresh = service.instances.iter().all(|i| !i.ladder.has_failed());
                fresh
                    && service.rules().is_some_and(|spec| {
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
            | Gate::DependencyLost(_)
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Cycle
            | Gate::ShuttingDown => false,
        }
    }
}

/// It runs on demand, was called, and is not ready yet, or it is about to sleep; that it sleeps is no loss, and this is
/// none.
fn wakes(service: &Service) -> bool {
    let on_its_way = |life: &Life| match life {
        Life::Idle | Life::Preparing(_) | Life::Starting(_) => true,
        Life::Running(running) => !running.was_ready && running.checks.failing.is_none(),
        // Of the sleep that is over, or about to begin: it leaves by itself, and nobody is there. (Nothing else of it runs:
        // who is told to be connected still was so to this one, and has gone before it.)
        Life::Stopping(stopping) => match (&stopping.cause, stopping.exit) {
            (Cause::Unwanted, _) => true,
            (Cause::Ended, Some(exit)) => {
                let well = service.rules().is_some_and(|spec| End::Status(exit.status()).is_success(&spec.restart));
                well && stopping.was_ready && !exit.left_callers && !service.call.demand.waiting
            }
            (Cause::Ended, None)
            | (
                Cause::Told | Cause::Replaced | Cause::CheckFailed(_) | Cause::Mismatched(_) | Cause::DependencyLost(_),
                _,
            ) => false,
        },
        // It has left before.
        Life::Finished(_) => life.is_completed(),
        Life::BackOff(_) => false,
    };
    let wanted = service.instances.iter().take(service.desired() as usize);
    let is_open = matches!(service.gate_of_next(), Gate::Open | Gate::Waiting(_));
    service.activation().is_some() && is_open && wanted.into_iter().all(|instance| on_its_way(&instance.life))
}
