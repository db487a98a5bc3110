//! A life is over and nothing of it is left: what follows.

use std::time::Duration;

use super::Controller;
use super::decide::Want;
use super::input::ExitHow;
use super::life::*;
use super::service::{Gate, Id, Instance, Refusal, Service, Unasked};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::RestartPolicy;
use crate::model::time::Now;
use crate::policy::backoff;
use crate::policy::restart::{self, End, Next};

/// An end with 0 within this is one that ends at once.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);

/// The same refusal within this is no news.
const TOLD_ONCE: Duration = Duration::from_secs(1);

/// The states that an end leads to, told to `drive`.
pub(super) type Again = super::drive::Step;

impl Controller {
    /// Nothing is left of a stopping life.
    pub(super) fn ended(&mut self, id: Id, service: &mut Service, at: usize, want: Want, now: Now) -> Again {
        let known = matches!(&service.instances[at].life, Life::Stopping(stopping) if stopping.known);
        let told = self.events.len();
        let again = self.follow_end(id, service, at, want, now);
        if known {
            self.events.truncate(told);
        }
        if let Some(exit) = &mut service.instances[at].last_exit {
            exit.told = true;
        }
        again
    }

    fn follow_end(&mut self, id: Id, service: &mut Service, at: usize, want: Want, now: Now) -> Again {
        let name = service.instance_name(at);
        let spec = service.rules().cloned();
        let current = service.next().map(|made| made.print);
        let ending = service.gate == Gate::ShuttingDown;
        let in_row = service.churn.is_row();
        let instance = &mut service.instances[at];
        // How a run came out counts also at the end of the node.
        let gone = service.gate == Gate::Gone || (ending && instance.run.is_none());
        let Life::Stopping(stopping) = std::mem::replace(&mut instance.life, Life::Idle) else {
            return Again::Until(None);
        };
        instance.held = Some(instance.number);
        instance.must_restart = false;
        let exit = stopping.exit.expect("an empty tree without an exit is not the end");
        let said = super::explain::ended(&exit, instance.last_exit.as_ref().map(|exit| exit.ran_for));
        // The next start is of another version: this end says nothing about it.
        let outdated = current.is_some_and(|print| print != stopping.made.print) && !in_row;
        // A run is over whatever was edited or asked for meanwhile.
        let fresh = (std::mem::take(&mut instance.fresh) || outdated) && instance.run.is_none();
        let unwanted = want == Want::Stop;
        self.room |= unwanted;
        let spec = match (&stopping.cause, spec) {
            (Cause::Told, _) => return Again::Again,
            (Cause::Unwanted | Cause::Replaced, _) | (_, None) => None,
            (Cause::Ended | Cause::CheckFailed(_) | Cause::Mismatched(_) | Cause::DependencyLost(_), Some(spec)) => {
                Some(spec)
            }
        };
        let Some(spec) = spec else {
            // What is on disk is not valid, and a run is over all the same: it is told when that is.
            if instance.run.is_some() && stopping.cause == Cause::Ended {
                let outcome = match exit.status() {
                    0 => Outcome::Completed,
                    _ => Outcome::Failed(why_failed(instance.oom_killed), said.clone()),
                };
                instance.life = Life::Finished(Finished { print: stopping.made.print, outcome });
            }
            let by = service.instances[at].last_exit.as_ref().and_then(|exit| exit.by.as_ref());
            let by = by.map_or(String::new(), |by| format!(" ({by})"));
            self.record(service, at, Reason::Stopped, false, format!("{name} is stopped{by}; it {said}"), now);
            return Again::Again;
        };
        let was_troubled = std::mem::replace(&mut service.troubled, true);
        let ready_for = stopping.carried.unwrap_or_default();
        let lasted = stopping.lasted || (stopping.carried.is_some() && ready_for >= spec.min_ready);
        let steady = stopping.steady || (stopping.carried.is_some() && ready_for >= spec.restart.backoff.reset_after);
        let end = match stopping.cause {
            Cause::Ended => End::Status(exit.status()),
            Cause::CheckFailed(_)
            | Cause::Mismatched(_)
            | Cause::DependencyLost(_)
            | Cause::Unwanted
            | Cause::Replaced
            | Cause::Told => End::KilledByUs,
        };
        // It left before anybody could be let in: a start that failed, whatever its code.
        let hollow = service.activation().is_some() && !stopping.was_ready;
        let left = service.is_left_alone() && !exit.left_callers && !hollow;
        let waited_for = service.is_waited_for() || (service.activation().is_some() && exit.left_callers);
        let instance = &mut service.instances[at];
        // Who leaves while nobody is there does what it is meant to do.
        let quick = exit.how == ExitHow::Code(0)
            && end != End::KilledByUs
            && !left
            && instance.last_exit.as_ref().is_some_and(|last| last.ran_for < AT_ONCE);
        instance.quick_zeroes = if quick { instance.quick_zeroes.saturating_add(1) } else { 0 };
        instance.forked = quick && matches!(stopping.phase, Phase::Lingering { told: true } | Phase::Killing { .. });

        if let Cause::DependencyLost(dependency) = &stopping.cause {
            self.record(
                service,
                at,
                Reason::DependencyLost,
                true,
                format!("{name} was stopped: {dependency} is not ready any more"),
                now,
            );
            let instance = &mut service.instances[at];
            if fresh || gone || unwanted {
                return Again::Again;
            }
            instance.unasked = Some(Unasked::NeedLost);
            // It waits for nothing but that, unless what it needs comes and goes.
            if lasted {
                instance.ladder.rest(lasted, steady);
            } else {
                let step = instance.ladder.climb();
                let message = format!("{dependency} was not ready any more, before {name} had lasted");
                self.wait(id, service, at, step, Setback::NeedLost, message, stopping.made.print, now);
            }
            return Again::Again;
        }

        if let Cause::Mismatched(why) = &stopping.cause {
            let why = why.clone();
            if !(fresh || gone || unwanted) {
                let missing = Setback::Missing(Reason::DigestMismatch);
                self.set_back(id, service, at, missing, why, stopping.made.print, now);
            }
            return Again::Again;
        }

        let came_to = if hollow { End::KilledByUs } else { end };
        let (next, well) = match restart::next(&spec.restart, came_to) {
            // Somebody waits at its door, and whatever the policy says that one is to be let in.
            next @ (Next::Completed | Next::Failed) if waited_for => (Next::Again, next == Next::Completed),
            // So is who depends on it, and waits for it to be ready. (What completed is what was waited for.)
            Next::Failed if service.activation().is_some() && self.is_called_for(service) => (Next::Again, false),
            // As many as are wanted serve for as long as somebody is there.
            Next::Completed if service.is_in_use() => (Next::Again, false),
            // Nobody is there, and it left: it sleeps until somebody is.
            Next::Again if end.is_success(&spec.restart) && left => (Next::Completed, false),
            next => (next, false),
        };
        self.room |= next != Next::Again;
        let warning = next != Next::Completed;
        let told = match end {
            End::Status(_) => super::explain::and_holder(format!("{name} {said}"), &service.instances[at]),
            End::KilledByUs => format!("{name} {said}"),
        };
        self.record(service, at, Reason::Exited, warning, told, now);
        if fresh || gone {
            return Again::Again;
        }
        if super::drive::says_missing(&stopping.made, exit.status()) && !lasted && stopping.cause == Cause::Ended {
            let message = format!("its wrapper {said}: something that it needs is missing");
            self.set_back(
                id,
                service,
                at,
                Setback::Missing(Reason::DependencyMissing),
                message,
                stopping.made.print,
                now,
            );
            return Again::Again;
        }
        let made_from = stopping.made.print;
        let print = current.filter(|_| in_row).unwrap_or(made_from);
        let on_demand = service.activation().is_some();
        let checked = super::decide::is_checked(&spec);
        let served = stopping.carried.is_some() && (checked || end.is_success(&spec.restart));
        let instance = &mut service.instances[at];
        if well {
            // Not at once: a program that only ends would spin.
            instance.ladder.reset();
            instance.ladder.climb();
        }
        // What ended it: a check, or itself.
        let message = match stopping.cause {
            Cause::CheckFailed(why) => why,
            Cause::Ended
            | Cause::Mismatched(_)
            | Cause::Told
            | Cause::Unwanted
            | Cause::Replaced
            | Cause::DependencyLost(_) => said,
        };
        match next {
            Next::Completed => {
                instance.ladder.reset();
                instance.life = Life::Finished(Finished { print: made_from, outcome: Outcome::Completed });
                // Who is called next begins again, and has nothing to recover from.
                if on_demand {
                    service.troubled = was_troubled;
                } else {
                    self.record(service, at, Reason::Completed, false, format!("{name} ran to its end"), now);
                }
            }
            Next::Failed => {
                let outcome = Outcome::Failed(why_failed(instance.oom_killed), message);
                instance.life = Life::Finished(Finished { print: made_from, outcome });
                if on_demand {
                    instance.ladder.ended(lasted || served, steady);
                }
            }
            Next::Again => {
                let step = match well {
                    true => instance.ladder.climb(),
                    // What was called and came up did not fail to start.
                    false => instance.ladder.ended(lasted || (on_demand && served), steady),
                };
                let limit = spec.restart.limit.clone();
                if let Some(limit) = limit
                    && instance.recent.exceeded(&limit, now.mono)
                {
                    let within = super::explain::span(limit.within);
                    let times = super::explain::times(limit.max);
                    let last = match end {
                        End::Status(_) => format!("it {message}"),
                        End::KilledByUs => message,
                    };
                    let message = format!("it ended more than {times} within {within}; {last}");
                    let outcome = Outcome::Failed(Reason::RestartLimit, message);
                    instance.life = Life::Finished(Finished { print: made_from, outcome });
                    return Again::Again;
                }
                instance.unasked = Some(Unasked::OfItself);
                if unwanted {
                    return Again::Again;
                }
                self.wait(id, service, at, step, Setback::Ended, message, print, now);
            }
        }
        Again::Again
    }

    /// It did not come to a process: the next try waits. It is no restart, which is a life after another.
    #[expect(clippy::too_many_arguments, reason = "each is one word of the sentence")]
    pub(super) fn set_back(
        &mut self,
        id: Id,
        service: &mut Service,
        at: usize,
        kind: Setback,
        message: String,
        print: Print,
        now: Now,
    ) {
        let Some(spec) = service.rules().cloned() else {
            service.instances[at].life = Life::Idle;
            return;
        };
        service.troubled = true;
        let name = service.instance_name(at);
        let never = spec.restart.policy == RestartPolicy::Never && !service.is_waited_for();
        let instance = &mut service.instances[at];
        let (reason, step, last) = match kind {
            // The only service of a container is what was asked for: nobody will bring it later.
            Setback::Missing(reason) => {
                let once = self.config.single && spec.restart.policy == RestartPolicy::Never;
                (reason, instance.ladder.climb(), once && reason != Reason::ResourceExhausted)
            }
            Setback::NotSpawned(reason) => {
                let step = instance.ladder.ended(false, false);
                (reason, step, never)
            }
            Setback::Ended | Setback::HookFailed | Setback::NeedLost => {
                let step = instance.ladder.ended(false, false);
                (Reason::Error, step, never)
            }
        };
        if last {
            let outcome = Outcome::Failed(reason, message.clone());
            instance.life = Life::Finished(Finished { print, outcome });
        } else {
            self.wait(id, service, at, step, kind, message.clone(), print, now);
        }
        if is_news(&mut service.instances[at], reason, &message, now.mono) {
            self.record(service, at, reason, true, format!("{name} did not start: {message}"), now);
        }
        self.retally(service);
    }

    #[expect(clippy::too_many_arguments, reason = "each is one word of the sentence")]
    fn wait(
        &mut self,
        id: Id,
        service: &mut Service,
        at: usize,
        step: u32,
        kind: Setback,
        message: String,
        print: Print,
        now: Now,
    ) {
        let Some(spec) = service.rules() else { return };
        let rule = &spec.restart.backoff;
        let delay = backoff::shortened(backoff::delay(rule, step), rule.jitter, self.random.unit());
        let instance = &mut service.instances[at];
        instance.life = Life::BackOff(BackOff {
            until: now.mono + delay,
            until_wall: now.wall_at(now.mono + delay),
            kind,
            message,
            print,
        });
        self.note_back_off(id, service);
        self.await_port(id, service, at);
    }

    /// `onLoss: Stop`: it ends, and stays so until somebody wants it again. The first that was lost is the one that
    /// is told.
    pub(super) fn bereave(&mut self, service: &mut Service, dependency: &Name, now: Now) {
        if service.bereft.is_some() {
            return;
        }
        service.bereft = Some(dependency.to_string());
        let message = format!("{} is being stopped: {dependency} is not ready any more", service.name);
        self.tell(service, Reason::DependencyLost, message, now);
    }

    /// `onLoss: Restart`: true if an instance is still on its way and must be looked at again.
    pub(super) fn dependency_lost(&mut self, service: &mut Service, at: usize, dependency: &str, now: Now) -> bool {
        let instance = &mut service.instances[at];
        match &mut instance.life {
            Life::Starting(_) => true,
            Life::Running(_) => {
                let Life::Running(running) = std::mem::replace(&mut instance.life, Life::Idle) else { return false };
                let stopping = Stopping::of(*running, Cause::DependencyLost(dependency.into()), now.mono);
                instance.life = Life::Stopping(Box::new(stopping));
                service.touched = true;
                service.troubled = true;
                false
            }
            Life::Idle | Life::Preparing(_) | Life::Stopping(_) | Life::BackOff(_) | Life::Finished(_) => false,
        }
    }

    pub(super) fn killed(&mut self, service: &mut Service, at: usize, now: Now) {
        let name = service.instance_name(at);
        let Life::Stopping(stopping) = &service.instances[at].life else { return };
        let grace = super::explain::span(stopping.made.grace);
        let who = super::explain::culprit(stopping);
        self.record(service, at, Reason::Killed, true, format!("{name} was killed: {who} (its grace is {grace})"), now);
    }

    pub(super) fn events_of_check(&mut self, service: &mut Service, at: usize, why: &str, now: Now) {
        let name = service.instance_name(at);
        self.record(service, at, Reason::ProbeFailed, true, format!("{name} is being restarted: {why}"), now);
    }
}

fn why_failed(oom_killed: bool) -> Reason {
    if oom_killed { Reason::OomKilled } else { Reason::Error }
}

/// A refusal that comes word for word again is told once in a while: the second try is at once.
fn is_news(instance: &mut Instance, reason: Reason, message: &str, now: Duration) -> bool {
    let same = |told: &Refusal| told.reason == reason && told.message == message && now < told.told + TOLD_ONCE;
    if instance.refused.as_ref().is_some_and(same) {
        return false;
    }
    instance.refused = Some(Refusal { reason, message: message.into(), told: now });
    true
}
