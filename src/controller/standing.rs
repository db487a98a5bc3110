//! What others may know of a service: whether it is started, ready, completed, or still coming.

use super::Controller;
use super::life::{Life, Phase};
use super::service::{Gate, Service};
use crate::policy::depends::{Standing, allows};

impl Controller {
    /// What those who depend on it may know.
    pub(super) fn standing(&self, service: &Service) -> Standing {
        let desired = service.desired() as usize;
        let wanted = || service.instances.iter().take(desired);
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
            completed: wanted().next().is_some() && wanted().all(completed),
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
            | Gate::DependencyLost(_)
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Cycle
            | Gate::ShuttingDown => false,
        }
    }
}
