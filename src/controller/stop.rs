//! A life that ends: hook, signal, grace, KILL, until nothing is left of its tree.

use std::time::Duration;

use super::Controller;
use super::blob::{Blob, Ending};
use super::decide::Want;
use super::drive::{Step, blob};
use super::explain;
use super::input::Hook;
use super::life::*;
use super::plan::{Action, Plan, Target};
use super::service::{Id, Service};
use crate::model::reason::Reason;
use crate::model::time::Now;

/// After a hook that used up the grace the signal still gets this much.
const GRACE_AFTER_HOOK: Duration = Duration::from_secs(2);
/// A tree that KILL has not emptied for this long is told.
const STUCK_AFTER: Duration = Duration::from_secs(10);
impl Controller {
    pub(super) fn begin_stop(&mut self, service: &mut Service, at: usize, cause: Cause, now: Now) -> Step {
        let instance = &mut service.instances[at];
        let Life::Running(running) = std::mem::replace(&mut instance.life, Life::Idle) else {
            return Step::Until(None);
        };
        // That one that was asleep is woken is no recovery, nor is what was to be replaced ready again.
        let goes_down = match cause {
            Cause::Replaced => false,
            Cause::Unwanted
            | Cause::Ended
            | Cause::Told
            | Cause::CheckFailed(_)
            | Cause::Mismatched(_)
            | Cause::DependencyLost(_) => !service.is_asleep(),
        };
        service.troubled |= goes_down;
        let stopping = Stopping::of(*running, cause, now.mono);
        service.instances[at].life = Life::Stopping(Box::new(stopping));
        self.retally(service);
        Step::Again
    }

    /// A life that ends: hook, signal, grace, KILL, until nothing is left.
    pub(super) fn stop_on(
        &mut self,
        id: Id,
        service: &mut Service,
        at: usize,
        want: Want,
        now: Now,
        plan: &mut Plan,
    ) -> Step {
        let life = service.life_id(at);
        let cut = self.grace_now(service);
        let Life::Stopping(stopping) = &mut service.instances[at].life else { return Step::Until(None) };
        if let Some(latest) = cut.filter(|latest| *latest < stopping.kill_at) {
            stopping.kill_at = latest;
            service.touched = true;
        }
        let kill_at = stopping.kill_at;
        // What it was to prepare is over: it must not run on beside the next life.
        if stopping.exit.is_some() {
            match std::mem::replace(&mut stopping.hook, Drain::Over) {
                Drain::Over => {}
                Drain::Runs => plan.actions.push(Action::CancelHooks { life: life.clone() }),
                Drain::Late(limit) => {
                    plan.actions.push(Action::CancelHooks { life: life.clone() });
                    self.drain_failed(service, at, &late(limit, ""), now);
                }
            }
        }
        let Life::Stopping(stopping) = &mut service.instances[at].life else { return Step::Until(None) };
        if stopping.exit.is_some() && stopping.left.as_ref().is_some_and(Vec::is_empty) {
            return self.ended(id, service, at, want, now);
        }
        let mut deadline = None;
        let mut wake = |at: Option<Duration>| deadline = deadline.into_iter().chain(at).min();
        match &mut stopping.phase {
            Phase::PreStop { asked: asked @ false, done: false } if now.mono < kill_at => {
                *asked = true;
                stopping.hook = Drain::Runs;
                let run = Action::RunHook {
                    life,
                    hook: Hook::PreStop,
                    spec: stopping.made.spec.clone().expect("a hook stands in a spec"),
                    wrapper: stopping.made.wrapper.clone(),
                    limit: kill_at - now.mono,
                };
                tell_keeper(service, at, plan);
                plan.actions.push(run);
                return Step::Again;
            }
            Phase::PreStop { asked: _, done } => {
                let over = now.mono >= kill_at;
                if !*done && !over {
                    return Step::Until(Some(kill_at));
                }
                if over {
                    // The hook used up the grace.
                    if stopping.hook == Drain::Runs {
                        stopping.hook = Drain::Late(now.mono.saturating_sub(stopping.began));
                    }
                    stopping.kill_at = now.mono + stopping.made.grace.min(GRACE_AFTER_HOOK);
                }
                if over && cut.is_some_and(|latest| latest <= now.mono) {
                    stopping.phase = Phase::Signalled;
                    return Step::Again;
                }
                plan.actions.push(Action::Signal { life, signal: stopping.made.signal, to: Target::Group });
                stopping.phase = Phase::Signalled;
                stopping.survey = Survey::after_signal(now.mono);
                // After the signal: a controller that is killed between the two has it sent again, never left out.
                tell_keeper(service, at, plan);
                return Step::Again;
            }
            // What is over may have left nothing: that is looked at first, also where its time has long been over.
            Phase::Lingering { .. } if stopping.left.is_none() && stopping.survey.is_open(now.mono) => {}
            Phase::Signalled | Phase::Lingering { .. } if now.mono >= kill_at => {
                plan.actions.push(Action::Signal { life, signal: KILL, to: Target::Tree });
                // Told with what the last look found.
                self.killed(service, at, now);
                if let Life::Stopping(stopping) = &mut service.instances[at].life {
                    stopping.phase = Phase::Killing { since: now.mono };
                    stopping.left = None;
                    stopping.survey = Survey::at(Some(now.mono + SURVEY_GAP));
                }
                return Step::Again;
            }
            Phase::Signalled => wake(Some(kill_at)),
            Phase::Lingering { told } => {
                if !*told && stopping.left.as_ref().is_some_and(|left| !left.is_empty()) {
                    *told = true;
                    let signal = match stopping.cause {
                        Cause::Ended | Cause::Told => TERM,
                        Cause::Unwanted
                        | Cause::Replaced
                        | Cause::CheckFailed(_)
                        | Cause::Mismatched(_)
                        | Cause::DependencyLost(_) => stopping.made.signal,
                    };
                    plan.actions.push(Action::Signal { life, signal, to: Target::Tree });
                    stopping.survey = Survey::at(Some(now.mono + SURVEY_GAP));
                    tell_keeper(service, at, plan);
                    return Step::Again;
                }
                wake(Some(kill_at));
            }
            Phase::Killing { since } => {
                if !stopping.stuck && now.mono >= *since + STUCK_AFTER {
                    stopping.stuck = true;
                    return Step::Again;
                }
                if !stopping.stuck {
                    wake(Some(*since + STUCK_AFTER));
                }
            }
        }
        match (stopping.survey.asked, stopping.survey.due) {
            (Some(asked), _) if now.mono < asked + SURVEY_LOST => wake(Some(asked + SURVEY_LOST)),
            (Some(_), _) => {
                stopping.survey.asked = Some(now.mono);
                plan.actions.push(Action::Survey { life });
                wake(Some(now.mono + SURVEY_LOST));
            }
            (None, Some(due)) if due <= now.mono => {
                stopping.survey.due = None;
                stopping.survey.asked = Some(now.mono);
                plan.actions.push(Action::Survey { life });
                wake(Some(now.mono + SURVEY_LOST));
            }
            (None, due) => wake(due),
        }
        Step::Until(deadline)
    }

    /// The stop goes on all the same.
    pub(super) fn drain_failed(&mut self, service: &Service, at: usize, said: &str, now: Now) {
        let message = format!("the preStop hook of {} {said}", service.instance_name(at));
        self.record(service, at, Reason::FailedPreStopHook, true, message, now);
    }
}

/// Whether its own limit or our signal ended it is chance; its last line stands behind either.
pub(super) fn late(limit: Duration, said: &str) -> String {
    let line = said.split_once(": ").map(|(_, line)| format!(": {line}")).unwrap_or_default();
    format!("did not end within {}{line}", explain::span(limit))
}

/// How far the stop has come, for a later controller.
fn tell_keeper(service: &Service, at: usize, plan: &mut Plan) {
    let Life::Stopping(stopping) = &service.instances[at].life else { return };
    let Some(ending) = Ending::of(stopping, service.instances[at].must_restart) else { return };
    let age = stopping.carried.map(|ready| stopping.began.saturating_sub(stopping.spawned).saturating_sub(ready));
    let stopping = Blob {
        stopping: ending.is_asked_for(),
        ending: Some(ending),
        ..blob(service, at, &stopping.made, stopping.spawned_wall, age)
    };
    plan.actions.push(Action::SetBlob { life: service.life_id(at), blob: stopping.encode() });
}
