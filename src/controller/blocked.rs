//! Why an edit is not in force while a version before it is the service; and why what runs would not start again.

use super::explain;
use super::input::Resolved;
use super::service::{Gate, Needs, Service};
use super::status;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::view::{BlockView, Problem};

/// A problem that is told of a service.
#[derive(Debug)]
pub(super) struct Found {
    pub reason: Reason,
    pub message: String,
    pub cause: Option<BlockView>,
}

impl Found {
    pub fn of(reason: Reason, message: String) -> Found {
        Found { reason, message, cause: None }
    }

    /// What is declared cannot take the place of the version before.
    fn blocked(service: &Service, reason: Reason, why: &str, services: &[Name]) -> Found {
        let goes_on = goes_on(service).map(|so| format!("; {so}")).unwrap_or_default();
        let message = format!("the new version would not start ({reason}): {why}{goes_on}");
        Found { reason: Reason::UpdateBlocked, message, cause: Some(cause(service, reason, why, services)) }
    }

    /// It waits for others.
    fn waits(service: &Service, needs: &Needs, message: String) -> Found {
        let reason = Reason::DependencyNotReady;
        Found { reason, message, cause: Some(cause(service, reason, &needs.said.join("; "), &needs.names)) }
    }

    fn and(self, what: &str) -> Found {
        Found { message: format!("{}; {what}", self.message), ..self }
    }

    /// It was told before; what becomes of the version before may have changed since.
    pub fn is_known(&self, old: &Problem) -> bool {
        let is_same = match (&self.cause, &old.cause) {
            (Some(cause), Some(told)) => (&cause.message, cause.reason) == (&told.message, told.reason),
            (None, None) => self.message == old.message,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.reason == old.reason && is_same
    }
}

fn cause(service: &Service, reason: Reason, why: &str, services: &[Name]) -> BlockView {
    BlockView { reason, message: why.into(), services: services.to_vec(), starts_again: service.kept.is_some() }
}

/// What becomes of the version before.
fn goes_on(service: &Service) -> Option<&'static str> {
    match (&service.kept, runs(service)) {
        (Some(_), true) => Some("the one before runs on"),
        (Some(_), false) => Some("the one before stays in force"),
        // It runs by the clock or on demand, or this controller has not read it.
        (None, true) => Some("the one before runs on, but would not start again"),
        (None, false) => None,
    }
}

pub(super) fn runs(service: &Service) -> bool {
    service.instances.iter().any(|instance| instance.life.pid().is_some())
}

/// It was tried, and would not start.
pub(super) fn tried(service: &Service) -> Option<Found> {
    // Of one that is overtaken nobody has to mend anything.
    let (reason, message) = refused(service).filter(|_| !service.is_overtaken() && !service.waits_for_demand())?;
    let every = explain::span(super::turns::TRY_AGAIN);
    Some(Found::blocked(service, *reason, message, &[]).and(&format!("the new one is tried every {every}")))
}

fn refused(service: &Service) -> Option<&(Reason, String)> {
    service.trial.as_ref()?.result.as_ref()?.as_ref().err()
}

/// It sleeps, and who calls it would call in vain.
pub(super) fn asleep(service: &Service) -> Option<Found> {
    if !service.waits_for_demand() {
        return None;
    }
    let start = "a call would not start it";
    match (&service.gate, refused(service)) {
        (Gate::Waiting(needs), _) if needs.unknown => {
            Some(Found::waits(service, needs, format!("{start}: {}", needs.said.join("; "))))
        }
        (_, Some((reason, why))) => {
            let cause = Some(cause(service, *reason, why, &[]));
            Some(Found { reason: *reason, message: format!("{start}: {why}"), cause })
        }
        _ => None,
    }
}

/// What keeps a new version back while one before it runs; or what would keep the version that runs from
/// starting again.
pub(super) fn held_back(service: &Service) -> Option<Found> {
    let at_all = runs(service) || service.kept.is_some();
    if !at_all || !service.is_held_back() || service.is_overtaken() {
        return None;
    }
    let blocked = |reason, why: &str, services: &[Name]| Found::blocked(service, reason, why, services);
    let outdated = service.is_outdated();
    match (&service.gate, &service.cycle) {
        (Gate::NeedsUser, _) if outdated => {
            Some(blocked(Reason::RunsAsRoot, "it names no `user:` and --require-user is set", &[]))
        }
        (_, Some(cycle)) if outdated && cycle.is_declared => {
            Some(blocked(Reason::DependencyCycle, &status::cycle(service), &cycle.path))
        }
        (Gate::Waiting(needs), _) if outdated && needs.unknown => {
            let blocked = blocked(Reason::DependencyNotReady, &needs.said.join("; "), &needs.names);
            Some(blocked.and("the new one takes over once there is"))
        }
        (Gate::Waiting(needs), _) if outdated => {
            let goes_on = goes_on(service).map(|so| format!("; {so}")).unwrap_or_default();
            Some(Found::waits(service, needs, format!("the new version waits: {}{goes_on}", needs.said.join("; "))))
        }
        (Gate::Waiting(needs), _) if needs.unknown => {
            let what = needs.said.join("; ");
            Some(Found::waits(service, needs, format!("{what}; it runs on, but would not start again")))
        }
        _ => None,
    }
}

/// What is declared lacks its wrapper; where a version before it is there, that one goes on.
pub(super) fn lacks(service: &Service) -> Option<Found> {
    let declaration = service.declared.as_ref().filter(|_| !service.is_overtaken())?;
    let Resolved::Missing { reason, message, .. } = &declaration.program else { return None };
    let edited = |one: &super::service::Instance| {
        one.life.print().is_some_and(|print| print.process != declaration.spec.process_digest)
    };
    Some(match service.kept.is_some() || service.instances.iter().any(edited) {
        true => Found::blocked(service, *reason, message, &[]).and("the new one takes over once that is mended"),
        false => Found::of(*reason, message.clone()),
    })
}
