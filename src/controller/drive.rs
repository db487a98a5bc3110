//! One instance is driven: each state of its life times what is wanted of it.
//!
//! Each step gives the next state or says when to look again. Steps are repeated until nothing
//! changes, so that an exit, an empty survey and the next spawn are one decision.

use std::sync::Arc;
use std::time::Duration;

use super::Controller;
use super::blob::{Blob, Earlier, Mark};
use super::decide::Want;
use super::input::Hook;
use super::life::*;
use super::plan::{Action, Plan};
use super::service::{Id, Service, Unasked};
use crate::model::reason::Reason;
use crate::model::spec::Program;
use crate::model::time::Now;

/// `--selfcheck` must answer within this (behaviour.md, section 2).
const SELFCHECK_LIMIT: Duration = Duration::from_secs(10);
/// A preStart hook may migrate a database, but not for ever.
const PRE_START_LIMIT: Duration = Duration::from_secs(300);
/// A port that is not open this long after the spawn is told.
const PORT_LATE: Duration = Duration::from_secs(60);

/// Milestones of a life meet on a grid, so that what was started together is one wake-up: who had
/// trouble and is over it may be told so this much later.
const MILESTONES: Duration = Duration::from_millis(250);

/// What a step did.
pub(super) enum Step {
    /// The state changed: look again at once.
    Again,
    /// Nothing more to do until then (or until news).
    Until(Option<Duration>),
}

impl Controller {
    /// Drives one instance as far as it goes now; gives the moment to look again.
    pub(super) fn drive(
        &mut self,
        id: Id,
        service: &mut Service,
        at: usize,
        want: Want,
        now: Now,
        plan: &mut Plan,
    ) -> Option<Duration> {
        loop {
            match self.step(id, service, at, want, now, plan) {
                Step::Again => service.moved = true,
                Step::Until(deadline) => return deadline,
            }
        }
    }

    fn step(&mut self, id: Id, service: &mut Service, at: usize, want: Want, now: Now, plan: &mut Plan) -> Step {
        match (&service.instances[at].life, want) {
            (_, Want::Hold) => Step::Until(None),
            (Life::Idle, Want::Run | Want::Replace) => self.start(id, service, at, now, plan),
            (Life::Idle, Want::Stop | Want::Keep) => Step::Until(None),
            (Life::Preparing(_), Want::Run | Want::Keep | Want::Replace) => {
                self.prepared(id, service, at, want, now, plan)
            }
            (Life::Preparing(_), Want::Stop) => self.cancel(service, at, plan),
            (Life::Starting(starting), _) if starting.refused.is_some() => self.not_spawned(id, service, at, now),
            (Life::Starting(_), Want::Run | Want::Keep | Want::Replace | Want::Stop) => {
                super::called_off::call_off(service, at, want, plan)
            }
            (Life::Running(_), Want::Stop) => self.begin_stop(service, at, Cause::Unwanted, now),
            (Life::Running(_), Want::Replace) => self.begin_stop(service, at, Cause::Replaced, now),
            (Life::Running(_), Want::Run | Want::Keep) => self.tend(service, at, now, plan),
            (Life::Stopping(_), _) => self.stop_on(id, service, at, want, now, plan),
            (Life::BackOff(_), Want::Stop) => {
                self.leave_back_off(id, service, at);
                Step::Again
            }
            (Life::BackOff(wait), Want::Run | Want::Keep | Want::Replace) => {
                let until = wait.until;
                if until > now.mono {
                    return Step::Until(Some(until));
                }
                self.leave_back_off(id, service, at);
                Step::Again
            }
            // A run that is over is told first.
            (Life::Finished(_), _) if service.instances[at].run.is_some() => Step::Until(None),
            (Life::Finished(finished), Want::Run)
                if service.next().is_some_and(|made| made.print != finished.print) =>
            {
                if service.churn.is_row() {
                    // What it did it would most likely do again.
                    if finished.outcome == Outcome::Completed {
                        return Step::Until(None);
                    }
                    if let Some(until) = service.churn.held(now) {
                        return Step::Until(Some(until));
                    }
                } else {
                    service.instances[at].begin_anew();
                }
                service.instances[at].life = Life::Idle;
                Step::Again
            }
            (Life::Finished(_), Want::Run | Want::Keep | Want::Replace | Want::Stop) => Step::Until(None),
        }
    }

    fn leave_back_off(&mut self, id: Id, service: &mut Service, at: usize) {
        service.instances[at].life = Life::Idle;
        self.note_back_off(id, service);
    }

    fn start(&mut self, id: Id, service: &mut Service, at: usize, now: Now, plan: &mut Plan) -> Step {
        let Some(made) = service.next() else { return Step::Until(None) };
        if let Some(until) = self.undecided(service, now) {
            return Step::Until(Some(until));
        }
        if let Some(until) = self.inherits(id, service, at, now) {
            return Step::Until(Some(until));
        }
        if !self.admitted(id, service) {
            return Step::Until(None);
        }
        let spec = made.spec.clone().expect("made from a declaration");
        let instance = &mut service.instances[at];
        instance.number += 1;
        instance.last_try = Some(now.mono);
        instance.must_restart = false;
        instance.fresh = false;
        if let Some(why) = instance.unasked.take() {
            instance.restarts += 1;
            service.restarts += 1;
            match why {
                Unasked::OfItself => instance.vitals.restarted(now),
                Unasked::NeedLost => {}
            }
        }
        service.count_life(at);
        let first = if spec.process.selfcheck {
            Some(Hook::Selfcheck)
        } else {
            spec.lifecycle.pre_start.as_ref().map(|_| Hook::PreStart)
        };
        match first {
            Some(hook) => self.run_hook(service, at, hook, made, plan),
            None => self.spawn(service, at, made, now, plan),
        }
        if !service.is_outdated() {
            service.churn.take_up();
        }
        self.retally(service);
        Step::Again
    }

    fn run_hook(&mut self, service: &mut Service, at: usize, hook: Hook, made: Arc<Made>, plan: &mut Plan) {
        plan.actions.push(Action::RunHook {
            life: service.life_id(at),
            hook,
            spec: made.spec.clone().expect("made from a declaration"),
            wrapper: made.wrapper.clone(),
            limit: match hook {
                Hook::Selfcheck => SELFCHECK_LIMIT,
                Hook::PreStart => PRE_START_LIMIT,
                Hook::PreStop => made.grace,
            },
        });
        service.instances[at].life = Life::Preparing(Preparing { hook, made, ended: None, held_up: None });
    }

    fn spawn(&mut self, service: &mut Service, at: usize, made: Arc<Made>, now: Now, plan: &mut Plan) {
        let blob = blob(service, at, &made, now.wall, None);
        plan.actions.push(Action::Spawn {
            life: service.life_id(at),
            spec: made.spec.clone().expect("made from a declaration"),
            wrapper: made.wrapper.clone(),
            blob: blob.encode(),
        });
        service.instances[at].last_try = Some(now.mono);
        service.instances[at].life = Life::Starting(Starting { made, refused: None, held_up: None, called_off: false });
    }

    fn prepared(&mut self, id: Id, service: &mut Service, at: usize, want: Want, now: Now, plan: &mut Plan) -> Step {
        let present = service.next();
        let Life::Preparing(preparing) = &service.instances[at].life else { return Step::Until(None) };
        // Of the same process, perhaps with other checks than when its hook began.
        let Some(made) = present.filter(|made| made.print == preparing.made.print) else {
            return self.cancel(service, at, plan);
        };
        match (&preparing.ended, preparing.hook) {
            (None, _) => Step::Until(None),
            // What it waits for was lost meanwhile: nothing starts before what it waits for.
            (Some(Ok(())), _) if want == Want::Keep => self.cancel(service, at, plan),
            (Some(Ok(())), Hook::Selfcheck) => {
                let spec = made.spec.as_ref().expect("made from a declaration");
                if spec.lifecycle.pre_start.is_some() {
                    self.run_hook(service, at, Hook::PreStart, made, plan);
                } else {
                    self.spawn(service, at, made, now, plan);
                }
                Step::Again
            }
            (Some(Ok(())), Hook::PreStart | Hook::PreStop) => {
                self.spawn(service, at, made, now, plan);
                Step::Again
            }
            (Some(Err((reason, said))), hook) => {
                let (kind, said) = match hook {
                    _ if *reason == Reason::ResourceExhausted => (Setback::Missing(*reason), said.clone()),
                    Hook::Selfcheck => (Setback::Missing(Reason::SelfcheckFailed), said.clone()),
                    Hook::PreStart | Hook::PreStop => {
                        (Setback::HookFailed, format!("its preStart hook failed: {said}"))
                    }
                };
                self.set_back(id, service, at, kind, said, made.print, now);
                Step::Again
            }
        }
    }

    /// A hook that nobody waits for any more is killed; its answer will be of an old life.
    fn cancel(&mut self, service: &mut Service, at: usize, plan: &mut Plan) -> Step {
        plan.actions.push(Action::CancelHooks { life: service.life_id(at) });
        let instance = &mut service.instances[at];
        // The cancelled try counts as none.
        instance.number += 1;
        instance.life = Life::Idle;
        service.count_life(at);
        self.retally(service);
        Step::Again
    }

    fn not_spawned(&mut self, id: Id, service: &mut Service, at: usize, now: Now) -> Step {
        let Life::Starting(starting) = &mut service.instances[at].life else { return Step::Until(None) };
        let print = starting.made.print;
        let (reason, message) = starting.refused.take().expect("only called with a refusal");
        let kind = match reason {
            Reason::WrapperNotFound
            | Reason::NotExecutable
            | Reason::DigestMismatch
            | Reason::UntrustedFile
            | Reason::DependencyMissing
            | Reason::MissingVariable
            | Reason::ResourceExhausted => Setback::Missing(reason),
            other => Setback::NotSpawned(other),
        };
        self.set_back(id, service, at, kind, message, print, now);
        Step::Again
    }

    /// A running life that may go on: its checks, its readiness, its milestones.
    fn tend(&mut self, service: &mut Service, at: usize, now: Now, plan: &mut Plan) -> Step {
        let life_id = service.life_id(at);
        let instance = &mut service.instances[at];
        let Life::Running(running) = &mut instance.life else { return Step::Until(None) };
        let Some(spec) = running.made.spec.clone() else { return Step::Until(None) };
        if std::mem::take(&mut running.rejudged) {
            plan.actions.push(Action::Judge { life: life_id.clone(), spec: spec.clone() });
        }
        if std::mem::take(&mut running.resized) {
            plan.actions.push(Action::Resize { life: life_id.clone(), spec: spec.clone() });
        }
        if let super::checks::Finding::GiveUp(why) = running.checks.silence(&spec, now.mono) {
            running.give_up = Some(why);
        }
        if let Some(why) = running.give_up.take() {
            self.events_of_check(service, at, &why, now);
            return self.begin_stop(service, at, Cause::CheckFailed(why), now);
        }
        super::routine::ask(running, &life_id, now, plan);
        if std::mem::take(&mut running.untold) {
            let age = running.ready_since.map(|since| since.saturating_sub(running.spawned));
            let (made, wall) = (running.made.clone(), running.spawned_wall);
            let blob = blob(service, at, &made, wall, age);
            plan.actions.push(Action::SetBlob { life: life_id, blob: blob.encode() });
            return Step::Again;
        }
        let ready = running.checks.is_ready(&spec);
        match (ready, running.ready_since) {
            (true, None) => {
                let since = running.carried.map_or(now.mono, |age| running.spawned + age);
                running.ready_since = Some(since);
                let goes_on = running.carried.take().is_some() && running.checks.is_carried();
                running.was_ready = true;
                running.port_late = false;
                if goes_on {
                    // An earlier controller has told it, and the keeper knows.
                    self.retally(service);
                    return Step::Again;
                }
                running.marks = running.stands(&spec);
                let age = since.saturating_sub(running.spawned);
                let (made, wall) = (running.made.clone(), running.spawned_wall);
                let blob = blob(service, at, &made, wall, Some(age));
                plan.actions.push(Action::SetBlob { life: life_id, blob: blob.encode() });
                let name = service.instance_name(at);
                let recovered = service.troubled && super::decide::is_checked(&spec);
                let reason = if recovered { Reason::Recovered } else { Reason::Ready };
                // Where nothing checks it, that it runs has been said.
                if super::decide::is_checked(&spec) {
                    self.record(service, at, reason, false, format!("{name} is ready"), now);
                }
                self.retally(service);
                return Step::Again;
            }
            (false, Some(since)) => {
                let ready_for = now.mono.saturating_sub(since);
                running.lasted |= ready_for >= spec.min_ready;
                running.steady |= ready_for >= spec.restart.backoff.reset_after;
                running.ready_since = None;
                running.marks = running.stands(&spec);
                service.troubled = true;
                let why = running.checks.failing.clone().unwrap_or_else(|| "it says that it is stopping".into());
                let (made, wall) = (running.made.clone(), running.spawned_wall);
                let blob = blob(service, at, &made, wall, None);
                plan.actions.push(Action::SetBlob { life: life_id, blob: blob.encode() });
                let name = service.instance_name(at);
                self.record(service, at, Reason::NotReady, true, format!("{name} is not ready any more: {why}"), now);
                return Step::Again;
            }
            (true, Some(_)) | (false, None) => {}
        }
        if running.marks != running.stands(&spec) {
            running.marks = running.stands(&spec);
            running.untold = true;
            return Step::Again;
        }
        let mut deadline = running.checks.deadline();
        let mut wake = |at: Duration| deadline = deadline.into_iter().chain([at]).min();
        if let Some(since) = running.ready_since {
            let ladder = &mut instance.ladder;
            let tainted =
                ladder.failed_starts > 0 || instance.oom_killed || instance.forked || instance.quick_zeroes > 0;
            if !running.lasted && tainted {
                let due = milestone(since + spec.min_ready);
                if now.mono >= due {
                    running.lasted = true;
                    ladder.failed_starts = 0;
                    instance.oom_killed = false;
                    instance.forked = false;
                    instance.quick_zeroes = 0;
                    return Step::Again;
                }
                wake(due);
            }
            if !running.steady && ladder.step > 0 {
                let due = milestone(since + spec.restart.backoff.reset_after);
                if now.mono >= due {
                    running.steady = true;
                    ladder.step = 0;
                    return Step::Again;
                }
                wake(due);
            }
        } else if !running.port_late && running.checks.is_checked() {
            let due = milestone(running.spawned + PORT_LATE);
            if now.mono >= due {
                running.port_late = true;
                return Step::Again;
            }
            wake(due);
        }
        Step::Until(deadline)
    }
}

fn milestone(at: Duration) -> Duration {
    crate::policy::wake::gathered(at, MILESTONES)
}

/// A wrapper that exits with these says that something it needs is missing.
pub(super) fn says_missing(made: &Made, status: i32) -> bool {
    let wrapper = made.spec.as_ref().is_some_and(|spec| match &spec.process.program {
        Program::Wrapper(_) => true,
        Program::Command(_) | Program::Script(_) | Program::External(_) => false,
    });
    wrapper && (status == 126 || status == 127)
}

/// What a later controller needs to go on honestly.
pub(super) fn blob(
    service: &Service,
    at: usize,
    made: &Made,
    spawned: jiff::Timestamp,
    ready_age: Option<Duration>,
) -> Blob {
    let instance = &service.instances[at];
    Blob {
        restarts: instance.restarts,
        service_restarts: service.restarts,
        step: instance.ladder.step,
        failed_starts: instance.ladder.failed_starts,
        spawned: spawned.as_microsecond(),
        ready_age: ready_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        restarted: instance.vitals.restarts(),
        earlier: instance.last_exit.as_ref().map(Earlier::of),
        marks: instance.life.running().map(|running| running.marks).unwrap_or_default(),
        run: instance.run.as_ref().map(Mark::of),
        ..Blob::of(made)
    }
}
