//! Runs: each has an instance from its call to its end.
//!
//! By the schedule's policy a run takes a free instance, the place of the one before, or none. In it lives a
//! life like any other: hooks, checks, the ladder. A failed one is tried again (`restart: OnFailure`) at most
//! until the next is due; and what is over is told and kept.

use std::time::Duration;

use jiff::Timestamp;

use super::Controller;
use super::agenda::Run;
use super::explain;
use super::input::RunMemory;
use super::job::{Standing, until};
use super::life::{Life, Outcome};
use super::service::Service;
use crate::model::reason::Reason;
use crate::model::spec::{Concurrency, Schedule};
use crate::model::time::Now;
use crate::model::view::RunResult;

/// Runs of one service at a time, with `Allow`: a job that hangs must not fill the machine.
const RUNS_MAX: usize = 10;

impl Controller {
    /// A run begins, waits for its place, or is skipped, as the policy says.
    pub(super) fn call(&mut self, service: &mut Service, schedule: &Schedule, scheduled: Option<Timestamp>, now: Now) {
        if let Some(older) = service.agenda.waiting.take() {
            self.tell_unbegun(service, &older, "the next one is due", now);
        }
        self.give_way(service, now);
        let open = service.instances.iter().filter(|instance| instance.run.is_some()).count();
        let skipped = match schedule.concurrency_policy {
            Concurrency::Forbid if open > 0 => Some("the one before is still going on".to_string()),
            Concurrency::Allow if open >= RUNS_MAX => Some(format!("{open} are going on, and more are not allowed")),
            Concurrency::Forbid | Concurrency::Allow | Concurrency::Replace => None,
        };
        if let Some(why) = skipped {
            let message = format!("{} is skipped: {why}", called(scheduled));
            return self.tell(service, Reason::SkippedRun, message, now);
        }
        let id = service.agenda.new_id(now);
        service.agenda.waiting = Some(Run { id, scheduled, began: None, given_up: None });
    }

    /// What has not begun, or failed and waits to be tried again, is over when the next one is due.
    pub(super) fn give_way(&mut self, service: &mut Service, now: Now) {
        for at in 0..service.instances.len() {
            let instance = &mut service.instances[at];
            let Some(run) = &instance.run else { continue };
            let why = match &instance.life {
                Life::Idle => None,
                Life::BackOff(wait) => Some(wait.message.clone()),
                Life::Preparing(_) | Life::Starting(_) | Life::Running(_) | Life::Stopping(_) | Life::Finished(_) => {
                    continue;
                }
            };
            let tried = run.began.is_some() || why.is_some();
            if tried {
                let why = why.unwrap_or_else(|| "it was to be tried again when the next one was due".into());
                let of = called(run.scheduled);
                let message = format!("{of} has failed and is not tried again, for the next one is due: {why}");
                self.tell(service, Reason::FailedRun, message, now);
                self.close(service, at, RunResult::Failed, Some(why), now);
            } else if let Some(run) = instance.run.take() {
                self.tell_unbegun(service, &run, "the next one is due", now);
            }
            service.instances[at].life = Life::Idle;
        }
    }

    /// What may not begin so late any more is missed; gives the moment when the next may not.
    pub(super) fn expire(&mut self, service: &mut Service, schedule: &Schedule, now: Now) -> Option<Duration> {
        let deadline = schedule.starting_deadline?;
        let mut soonest: Option<Duration> = None;
        let mut over = |run: &Run| {
            let latest = run.scheduled.filter(|_| run.began.is_none())?.checked_add(deadline).ok()?;
            if latest <= now.wall {
                return Some(());
            }
            soonest = soonest.into_iter().chain([until(latest, now)]).min();
            None
        };
        let mut expired: Vec<Run> = Vec::new();
        for instance in &mut service.instances {
            let waits = match &instance.life {
                Life::Idle => true,
                Life::Preparing(_)
                | Life::Starting(_)
                | Life::Running(_)
                | Life::Stopping(_)
                | Life::BackOff(_)
                | Life::Finished(_) => false,
            };
            if waits && instance.run.as_ref().and_then(&mut over).is_some() {
                expired.extend(instance.run.take());
            }
        }
        if service.agenda.waiting.as_ref().and_then(&mut over).is_some() {
            expired.extend(service.agenda.waiting.take());
        }
        for run in expired {
            let why = format!("it could not begin within {}", explain::span(deadline));
            self.tell_unbegun(service, &run, &why, now);
        }
        soonest
    }

    /// Runs whose instance has come to an end.
    pub(super) fn close_runs(&mut self, service: &mut Service, schedule: &Schedule, standing: &Standing, now: Now) {
        for at in 0..service.instances.len() {
            let instance = &mut service.instances[at];
            let Some(run) = &mut instance.run else {
                // Of a time before its schedule.
                if let Life::Finished(_) = instance.life {
                    instance.life = Life::Idle;
                }
                continue;
            };
            if run.began.is_none() {
                run.began = match &instance.life {
                    Life::Running(running) => Some((running.spawned_wall, running.spawned)),
                    Life::Stopping(stopping) => Some((stopping.spawned_wall, stopping.spawned)),
                    Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => None,
                };
                service.touched |= run.began.is_some();
            }
            let (began, given_up) = (run.began.is_some(), run.given_up);
            if let (Life::Idle, true, Some(result)) = (&instance.life, began, given_up) {
                self.close(service, at, result, None, now);
                continue;
            }
            match (&instance.life, standing) {
                (Life::Finished(finished), _) => {
                    let (result, why) = match &finished.outcome {
                        Outcome::Completed => (RunResult::Completed, None),
                        Outcome::Failed(_, why) => (RunResult::Failed, Some(why.clone())),
                    };
                    self.close(service, at, result, why, now);
                }
                (Life::Idle, Standing::Paused | Standing::Ending) if began => {
                    self.close(service, at, RunResult::Stopped, None, now);
                }
                // The next run of plugd takes up what has not begun.
                (Life::Idle, Standing::Paused) => service.instances[at].run = None,
                (Life::Idle, Standing::Awake) if given_up == Some(RunResult::Stopped) => {
                    service.instances[at].run = None
                }
                (Life::Idle, Standing::Awake) if given_up.is_some() => {
                    if let Some(run) = instance.run.take() {
                        self.tell_unbegun(service, &run, "the next one is due", now);
                    }
                }
                (Life::Idle, Standing::Awake | Standing::Ending | Standing::Unread)
                | (
                    Life::Preparing(_) | Life::Starting(_) | Life::Running(_) | Life::Stopping(_) | Life::BackOff(_),
                    _,
                ) => {}
            }
        }
        service.touched |= service.agenda.keep(schedule.history_limit);
    }

    fn close(&mut self, service: &mut Service, at: usize, result: RunResult, why: Option<String>, now: Now) {
        let instance = &mut service.instances[at];
        let Some(run) = instance.run.take() else { return };
        if let Life::Finished(_) = instance.life {
            instance.life = Life::Idle;
        }
        let exit = instance.last_exit.as_ref().filter(|_| run.began.is_some());
        let code = exit.and_then(|exit| exit.code.or(exit.signal.map(|signal| 128 + signal)));
        let agenda = &mut service.agenda;
        match result {
            RunResult::Completed => {
                agenda.last_success = Some(now.wall);
                agenda.failed = None;
            }
            RunResult::Failed => agenda.failed.clone_from(&why),
            RunResult::Waiting | RunResult::Running | RunResult::Stopped | RunResult::Replaced | RunResult::Unknown => {
            }
        }
        // Of one that came to no process the keeper holds nothing.
        if run.began.is_some() {
            instance.told = Some(run.id);
        }
        let limit = service.declared.as_ref().and_then(|declared| declared.spec.schedule.as_ref());
        let limit = limit.map_or(0, |schedule| schedule.history_limit);
        let over = RunMemory {
            id: run.id,
            scheduled: run.scheduled.map(Timestamp::as_second),
            began: run.began.map(|(wall, _)| wall.as_microsecond()),
            result: Some(result),
            code,
            took: run.began.map(|(_, mono)| now.mono.saturating_sub(mono)),
        };
        agenda.note_over(over, limit);
        service.touched = true;
    }

    /// It came to nothing.
    fn tell_unbegun(&mut self, service: &mut Service, run: &Run, why: &str, now: Now) {
        let message = format!("{} was missed: {why}", called(run.scheduled));
        self.tell(service, Reason::MissedRun, message, now);
    }

    /// What an earlier controller left open and no life has claimed.
    pub(super) fn take_up_found(&mut self, service: &mut Service, now: Now) {
        for found in std::mem::take(&mut service.agenda.found) {
            let scheduled = found.scheduled.and_then(|at| Timestamp::from_second(at).ok());
            if found.began.is_some() {
                let limit = service.schedule().map_or(0, |schedule| schedule.history_limit);
                service.agenda.note_over(RunMemory { result: Some(RunResult::Unknown), ..found }, limit);
                let message = format!("{}: plugd was ended with it; nobody knows how it ended", called(scheduled));
                self.tell(service, Reason::MissedRun, message, now);
                continue;
            }
            let run = Run { id: found.id, scheduled, began: None, given_up: None };
            if let Some(older) = service.agenda.waiting.replace(run) {
                self.tell_unbegun(service, &older, "the next one is due", now);
            }
        }
    }
}

/// `plugd start`: what runs already does so, and what is open begins as soon as it can.
pub(super) fn may_run_by_hand(service: &Service, schedule: &Schedule) -> bool {
    let beside = schedule.concurrency_policy == Concurrency::Allow
        && service.agenda.waiting.is_none()
        && service.instances.iter().all(|instance| instance.run.is_none() || instance.life.is_occupied());
    service.runs().next().is_none() || beside
}

/// The run that waits takes its place.
pub(super) fn seat(service: &mut Service, schedule: &Schedule) {
    if service.agenda.waiting.is_none() {
        return;
    }
    let places = match schedule.concurrency_policy {
        Concurrency::Allow => RUNS_MAX,
        Concurrency::Forbid | Concurrency::Replace => 1,
    };
    let runs = || service.instances.iter().any(|instance| instance.run.is_some());
    if places == 1 && runs() {
        let replace = schedule.concurrency_policy == Concurrency::Replace;
        for run in service.instances.iter_mut().filter_map(|instance| instance.run.as_mut()) {
            if replace {
                run.given_up.get_or_insert(RunResult::Replaced);
            }
        }
        return;
    }
    let is_free = |at: &usize| {
        service.instances.get(*at).is_none_or(|instance| instance.run.is_none() && !instance.life.is_occupied())
    };
    let Some(at) = (0..places).find(is_free) else { return };
    let run = service.agenda.waiting.take();
    let instance = service.instance(u32::try_from(at).unwrap_or(0));
    instance.life = Life::Idle;
    instance.begin_anew();
    instance.run = run;
    service.touched = true;
}

/// `the run of 2026-11-23T03:00:00Z`.
fn called(scheduled: Option<Timestamp>) -> String {
    match scheduled {
        Some(at) => format!("the run of {}", explain::moment(at)),
        None => "the run by hand".into(),
    }
}
