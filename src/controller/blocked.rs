//! Why an edit is not in force while a version before it is the service; and why what runs would not start again.

use super::explain;
use super::input::Resolved;
use super::service::{Gate, Service};
use super::status;
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::view::BlockView;

/// A problem that is told of a service.
#[derive(Debug)]
pub(super) struct Found {
    pub reason: Reason,
    pub message: String,
    /// Of `UpdateBlocked`.
    pub cause: Option<BlockView>,
}

impl Found {
    pub fn of(reason: Reason, message: String) -> Found {
        Found { reason, message, cause: None }
    }

    /// What is declared cannot take the place of the version before.
    fn blocked(service: &Service, reason: Reason, why: &str, services: &[Name]) -> Found {
        let message = format!("the new version would not start ({reason}): {why}; {}", goes_on(service));
        let cause = Some(BlockView { reason, services: services.to_vec() });
        Found { reason: Reason::UpdateBlocked, message, cause }
    }

    fn and(self, what: &str) -> Found {
        Found { message: format!("{}; {what}", self.message), ..self }
    }
}

/// What becomes of the version before.
fn goes_on(service: &Service) -> &'static str {
    match service.kept {
        Some(_) => "the one before runs on",
        // It runs by the clock or on demand, or this controller has not read it.
        None => "the one before runs on, but would not start again",
    }
}

pub(super) fn runs(service: &Service) -> bool {
    service.instances.iter().any(|instance| instance.life.pid().is_some())
}

/// It was tried, and would not start.
pub(super) fn tried(service: &Service) -> Option<Found> {
    // Of one that is overtaken nobody has to mend anything.
    let trial = service.trial.as_ref().filter(|_| !service.is_overtaken())?;
    let (reason, message) = trial.result.as_ref()?.as_ref().err()?;
    let every = explain::span(super::turns::TRY_AGAIN);
    Some(Found::blocked(service, *reason, message, &[]).and(&format!("the new one is tried every {every}")))
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
        (_, Some(cycle)) if outdated => Some(blocked(Reason::DependencyCycle, &status::cycle(service), &cycle.path)),
        (Gate::Waiting(needs), _) if outdated && needs.unknown => {
            let blocked = blocked(Reason::DependencyNotReady, &needs.said.join("; "), &needs.names);
            Some(blocked.and("the new one takes over once there is"))
        }
        (Gate::Waiting(needs), _) if outdated => {
            let what = needs.said.join("; ");
            let message = format!("the new version waits: {what}; {}", goes_on(service));
            Some(Found::of(Reason::DependencyNotReady, message))
        }
        (Gate::Waiting(needs), _) if needs.unknown => {
            let what = needs.said.join("; ");
            let message = format!("{what}; it runs on, but would not start again");
            Some(Found::of(Reason::DependencyNotReady, message))
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
