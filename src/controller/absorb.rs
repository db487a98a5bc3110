//! Facts are taken in: each input times each state of a life.
//!
//! Nothing is decided here. A fact of a life that is not the present one is news from the past and
//! is dropped; a doubled one finds the state already changed and is dropped too.

use std::time::Duration;

use jiff::Timestamp;

use super::Controller;
use super::checks::{Checks, Past};
use super::input::*;
use super::life::*;
use super::present::exit_view;
use super::service::{Gate, Id, Service};
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::Check;
use crate::model::text::harmless::strip;
use crate::model::time::Now;

/// After an end that nobody asked for, what is left of the tree has this long at most.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(5);
/// `EXTEND_TIMEOUT_USEC` moves the end of a grace by at most this much in all: a service must not
/// be able to refuse its stop for ever.
const EXTENSION_MAX: Duration = Duration::from_secs(600);
/// Ends of a service that wait for their last words: as many as its history keeps.
const UNHEARD_MAX: usize = 20;
/// Of `lastExit.output`.
const OUTPUT_MAX: usize = 2048;

impl Controller {
    /// Takes one fact in. What follows from it comes with the next [`decide`](Self::decide).
    pub fn absorb(&mut self, input: Input, now: Now) {
        match input {
            Input::Remembered(name, memory) => {
                let id = self.table.enter(&name, now.wall);
                let last_exit = memory.last_exit.clone();
                if let Some(service) = self.table.get_mut(id) {
                    service.warned_root |= memory.warned_root && self.config.takes_over;
                    service.call.awake |= memory.awake && self.config.takes_over;
                    service.call.used = now.mono;
                    super::adopt::remember(service, *memory);
                }
                // Who remembered it may have been gone before it had written that down.
                self.exits.extend(last_exit.map(|exit| (name, exit_view(&exit))));
                self.mark(id);
            }
            Input::Adopted(adopted) => self.adopt(adopted, now),
            Input::Declared(declaration) => self.declared(declaration, now),
            Input::Rejected(rejection) => self.rejected(rejection, now),
            Input::Withdrawn(name) => {
                if let Some(id) = self.table.id(&name) {
                    self.withdrawn(id, now);
                }
            }
            Input::Scanned => {
                self.scanned = true;
                self.mark_all();
            }
            Input::DirectoryLost(why) => {
                if self.lost.is_none() {
                    let message = format!("the directory is lost: {why}; everything is held as it is");
                    self.record_node(Reason::DirectoryLost, true, message, now);
                }
                self.lost = Some(why);
                self.mark_all();
            }
            Input::DirectoryFound => {
                if self.lost.take().is_some() {
                    self.record_node(Reason::Recovered, false, "the directory is there again".into(), now);
                }
                self.let_missing_go(now, false);
                self.mark_all();
            }
            Input::ConfirmMissing => self.let_missing_go(now, true),
            Input::TryAgain => self.try_again(now),
            Input::Memory(why) => {
                self.node_touched |= self.memory != why;
                self.memory = why;
            }
            Input::MemoryLost(what) => {
                self.record_node(Reason::MemoryLost, true, what.clone(), now);
                self.memory_lost = Some(what);
                for id in self.table.ids().collect::<Vec<_>>() {
                    self.table.get_mut(id).into_iter().for_each(|service| service.forgotten = true);
                }
                self.mark_all();
            }
            Input::Rules(rules) => {
                let Rules { shutdown_timeout, exit_on_required, max_starting, require_user } = rules;
                let config = &mut self.config;
                (config.shutdown_timeout, config.exit_on_required) = (shutdown_timeout, exit_on_required);
                (config.max_starting, config.require_user) = (max_starting, require_user);
                self.mark_all();
            }
            Input::NodeProblems(problems) => {
                self.node_touched |= self.own_problems != problems;
                self.own_problems = problems;
            }
            Input::FileProblems(problems) => {
                self.node_touched |= self.file_problems != problems;
                self.file_problems = problems;
            }
            Input::Spawned { life, pid, start_time: _ } => {
                self.of_life(&life, |controller, service, at| {
                    controller.spawned(service, at, pid, now);
                });
            }
            Input::Mismatched { life, why } => {
                self.of_life(&life, |controller, service, at| controller.mismatched(service, at, why, now));
            }
            Input::SpawnFailed { life, reason, message } => {
                self.of_life(&life, |_, service, at| match &mut service.instances[at].life {
                    Life::Starting(starting) if starting.refused.is_none() => {
                        starting.refused = Some((reason, message));
                    }
                    Life::Starting(_)
                    | Life::Idle
                    | Life::Preparing(_)
                    | Life::Running(_)
                    | Life::Stopping(_)
                    | Life::BackOff(_)
                    | Life::Finished(_) => {}
                });
            }
            Input::CalledOff(life) => self.of_life(&life, |controller, service, at| controller.called_off(service, at)),
            Input::HeldUp { life, why } => {
                self.of_life(&life, |controller, service, at| controller.held_up(service, at, why, now));
            }
            Input::Exited { life, exit } => {
                self.of_life(&life, |controller, service, at| controller.exited(service, at, exit, now));
            }
            Input::Surveyed { life, left } => {
                self.of_life(&life, |_, service, at| match &mut service.instances[at].life {
                    Life::Stopping(stopping) => {
                        service.touched |= stopping.left.as_ref() != Some(&left);
                        stopping.left = Some(left);
                        stopping.survey.again(now.mono);
                    }
                    Life::Idle
                    | Life::Preparing(_)
                    | Life::Starting(_)
                    | Life::Running(_)
                    | Life::BackOff(_)
                    | Life::Finished(_) => {}
                });
            }
            Input::Output { life, lines } => self.output(&life, lines),
            Input::Tried { name, digest, result } => {
                if let Some(id) = self.table.id(&name) {
                    if let Some(service) = self.table.get_mut(id)
                        && let Some(trial) = service.trial.as_mut().filter(|trial| trial.key == digest)
                    {
                        trial.result = Some(result);
                        service.touched = true;
                    }
                    self.mark(id);
                }
            }
            Input::HookEnded { life, hook, result } => {
                self.of_life(&life, |controller, service, at| match &mut service.instances[at].life {
                    Life::Preparing(preparing) if preparing.hook == hook => preparing.ended = Some(result),
                    Life::Stopping(stopping) if hook == Hook::PreStop => {
                        let failed = match (std::mem::replace(&mut stopping.hook, Drain::Over), result) {
                            (Drain::Over, _) | (Drain::Runs | Drain::Late(_), Ok(())) => None,
                            // It was killed when the process had ended that it was for.
                            (Drain::Runs, Err(_)) if stopping.exit.is_some() => None,
                            (Drain::Runs, Err((_, said))) => Some(said),
                            (Drain::Late(limit), Err((_, said))) => Some(super::stop::late(limit, &said)),
                        };
                        if let Phase::PreStop { asked: true, done } = &mut stopping.phase {
                            *done = true;
                        }
                        if let Some(said) = failed {
                            controller.drain_failed(service, at, &said, now);
                        }
                    }
                    Life::Preparing(_)
                    | Life::Stopping(_)
                    | Life::Idle
                    | Life::Starting(_)
                    | Life::Running(_)
                    | Life::BackOff(_)
                    | Life::Finished(_) => {}
                });
            }
            Input::Verdict { life, probe, verdict } => self.answered(&life, probe, verdict, now),
            Input::LogLine { life, pattern } => {
                self.of_life(&life, |controller, service, at| controller.log_line(service, at, &pattern, now));
            }
            Input::Notified { life, message } => {
                self.of_life(&life, |controller, service, at| controller.notified(service, at, &message, now));
            }
            Input::Awoke => self.forgive(now),
            Input::LostProcess { life } => {
                self.of_life(&life, |controller, service, at| controller.lost_process(service, at, now));
            }
            Input::PortFree(port) => self.port_free(port, now),
            Input::PortHeld { life, message } => {
                let id = self.table.id(&life.instance.service);
                self.of_life(&life, |controller, service, at| controller.port_held(id, service, at, message));
            }
            Input::Problem { name, reason, message } => {
                if let Some(id) = self.table.id(&name) {
                    if let Some(service) = self.table.get_mut(id) {
                        service.touched = true;
                        match message {
                            Some(message) => service.edge_problems.insert(reason, message),
                            None => service.edge_problems.remove(&reason),
                        };
                    }
                    self.mark(id);
                }
            }
            Input::LogProblem { life, reason, message } => self.of_life(&life, |_, service, at| {
                let problems = &mut service.instances[at].log_problems;
                match message {
                    Some(message) => problems.insert(reason, message),
                    None => problems.remove(&reason),
                };
                service.touched = true;
            }),
            Input::Demand { name, demand, sent_away } => {
                if let Some(id) = self.table.id(&name) {
                    self.demanded(id, demand, sent_away, now);
                }
            }
            Input::Door { name, listens } => {
                if let Some(id) = self.table.id(&name) {
                    self.listened(id, listens);
                }
            }
            Input::PrivatePort { name, port } => {
                if let Some(declaration) =
                    self.table.id(&name).and_then(|id| self.table.get_mut(id)).and_then(|it| it.declared.as_mut())
                {
                    std::sync::Arc::make_mut(&mut declaration.spec).process.private_port = Some(port);
                }
            }
            Input::Order { name, order } => {
                if let Some(id) = self.table.id(&name) {
                    self.ordered(id, order);
                }
            }
            Input::Shutdown(kind) => self.shut_down(kind, now),
        }
    }

    /// Finds the service of a life; does nothing if the life is not the present one.
    fn of_life(&mut self, life: &LifeId, note: impl FnOnce(&mut Controller, &mut Service, usize)) {
        let Some(id) = self.table.id(&life.instance.service) else { return };
        let Some(mut service) = self.table.take(id) else { return };
        let at = life.instance.index as usize;
        if service.instances.get(at).is_some_and(|instance| instance.number == life.life) {
            note(self, &mut service, at);
            self.retally(&mut service);
        }
        self.table.put(id, service);
        self.mark(id);
    }

    fn spawned(&mut self, service: &mut Service, at: usize, pid: i32, now: Now) {
        let name = service.instance_name(at);
        let present = service.next();
        let life = &mut service.instances[at].life;
        match life {
            Life::Starting(starting) if starting.refused.is_none() => {
                // Edited meanwhile in what needs no new process: that is in force.
                let made = match present {
                    Some(present) if present.print == starting.made.print => present,
                    Some(_) | None => starting.made.clone(),
                };
                let untold = made.generation != starting.made.generation;
                let rejudged = made.spec != starting.made.spec;
                let resized = rejudged && made.is_resized(starting.made.spec.as_deref());
                let checks = made
                    .spec
                    .as_ref()
                    .map(|spec| Checks::begin(spec, now.mono, now.mono, Past::Unready))
                    .unwrap_or_default();
                *life = Life::Running(Box::new(Running {
                    made,
                    pid,
                    spawned: now.mono,
                    spawned_wall: now.wall,
                    checks,
                    ready_since: None,
                    was_ready: false,
                    lasted: false,
                    steady: false,
                    port_late: false,
                    says: None,
                    give_up: None,
                    carried: None,
                    marks: Default::default(),
                    untold,
                    rejudged,
                    resized,
                }));
                service.touched = true;
                let instance = &mut service.instances[at];
                instance.refused = None;
                let held = instance.held.take();
                instance.spare.extend(held);
                self.record(service, at, Reason::Spawned, false, format!("{name} runs as pid {pid}"), now);
            }
            Life::Starting(_)
            | Life::Idle
            | Life::Preparing(_)
            | Life::Running(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_) => {}
        }
    }

    fn lost_process(&mut self, service: &mut Service, at: usize, now: Now) {
        let Life::Running(running) = &service.instances[at].life else { return };
        let limit = super::explain::memory_limit(running.made.spec.as_deref());
        let name = service.instance_name(at);
        let message =
            format!("a process of {name} ran out of memory{limit} and was killed by the kernel; the others go on");
        self.record(service, at, Reason::OomKilled, true, message, now);
    }

    /// Killed at once: nothing of it is to be heard, and its hooks are not its own.
    fn mismatched(&mut self, service: &mut Service, at: usize, why: String, now: Now) {
        let life = &mut service.instances[at].life;
        match std::mem::replace(life, Life::Idle) {
            Life::Running(running) => {
                let cause = Cause::Mismatched(why.clone());
                let mut stopping = Stopping::of(*running, cause, now.mono);
                (stopping.phase, stopping.kill_at) = (Phase::Signalled, now.mono);
                *life = Life::Stopping(Box::new(stopping));
                service.touched = true;
                let name = service.instance_name(at);
                self.record(service, at, Reason::DigestMismatch, true, format!("{name} is ended: {why}"), now);
            }
            // It is ended or ending, and its next start is prepared anew. (One that starts has not been executed:
            // the look comes after `Spawned`, by the same way.)
            other @ (Life::Idle
            | Life::Preparing(_)
            | Life::Starting(_)
            | Life::Stopping(_)
            | Life::BackOff(_)
            | Life::Finished(_)) => *life = other,
        }
    }

    fn exited(&mut self, service: &mut Service, at: usize, mut exit: Exit, now: Now) {
        let number = service.instances[at].number;
        let not_wanted = super::explain::not_wanted(service, at);
        let instance = &mut service.instances[at];
        let life = &mut instance.life;
        let mut ran_for = Duration::ZERO;
        let mut by = None;
        match life {
            Life::Running(running) => {
                match &running.checks.said {
                    Some(said) if !said.passed => instance.blamed = said.fault().map(|it| (it, said.message.clone())),
                    Some(_) => instance.blamed = None,
                    // It ended before a check could answer: what was said of the life before stands.
                    None if exit.status() != 0 => {}
                    None => instance.blamed = None,
                }
                ran_for = now.mono.saturating_sub(running.spawned);
                let made = running.made.clone();
                *life = Life::Stopping(Box::new(Stopping {
                    kill_at: now.mono + made.grace.min(LINGER_MAX),
                    made,
                    pid: Some(running.pid),
                    spawned: running.spawned,
                    spawned_wall: running.spawned_wall,
                    cause: Cause::Ended,
                    phase: Phase::Lingering { told: false },
                    began: now.mono,
                    hook: Drain::Over,
                    exit: Some(exit),
                    known: false,
                    left: None,
                    survey: Survey::at(Some(now.mono)),
                    lasted: running.lasted,
                    steady: running.steady,
                    was_ready: running.was_ready,
                    stuck: false,
                    carried: running.ready_since.map(|since| now.mono.saturating_sub(since)),
                }));
            }
            // Its birth was not told, or later: the keeper's word for its end is enough.
            Life::Starting(starting) if starting.refused.is_none() => {
                let made = starting.made.clone();
                *life = Life::Stopping(Box::new(Stopping {
                    kill_at: now.mono + made.grace.min(LINGER_MAX),
                    made,
                    pid: None,
                    spawned: now.mono,
                    spawned_wall: now.wall,
                    cause: Cause::Ended,
                    phase: Phase::Lingering { told: false },
                    began: now.mono,
                    hook: Drain::Over,
                    exit: Some(exit),
                    known: false,
                    left: None,
                    survey: Survey::at(Some(now.mono)),
                    lasted: false,
                    steady: false,
                    was_ready: false,
                    stuck: false,
                    carried: None,
                }));
                let held = service.instances[at].held.take();
                service.instances[at].spare.extend(held);
            }
            Life::Stopping(stopping) if stopping.exit.is_none() => {
                by = super::explain::asked_by(&stopping.cause, &service.gate, instance.must_restart, not_wanted);
                ran_for = now.mono.saturating_sub(stopping.spawned);
                match stopping.phase {
                    Phase::PreStop { .. } => {}
                    Phase::Signalled | Phase::Lingering { .. } | Phase::Killing { .. } => exit = exit.asked_for(),
                }
                stopping.exit = Some(exit);
                stopping.survey = Survey::at(Some(now.mono));
                stopping.left = None;
                match stopping.phase {
                    Phase::PreStop { .. } | Phase::Signalled => stopping.phase = Phase::Lingering { told: false },
                    Phase::Lingering { .. } | Phase::Killing { .. } => {}
                }
            }
            Life::Starting(_)
            | Life::Stopping(_)
            | Life::Idle
            | Life::Preparing(_)
            | Life::BackOff(_)
            | Life::Finished(_) => return,
        }
        service.touched = true;
        service.instances[at].oom_killed = exit.oom_killed;
        service.instances[at].pids_met = exit.pids_met;
        let when = no_others(service, now.wall);
        note_exit(&mut service.instances[at], exit, when, ran_for, number);
        if let Some(last) = &mut service.instances[at].last_exit {
            last.by = by;
            self.exits.push((service.name.clone(), exit_view(last)));
            if service.unheard.len() == UNHEARD_MAX {
                service.unheard.pop_front();
            }
            service.unheard.push_back(last.clone());
        }
    }

    /// Counts where the spec that judges the life asks for this very line: one of a pattern that was
    /// edited meanwhile says nothing of the check in its place.
    fn log_line(&mut self, service: &mut Service, at: usize, pattern: &str, now: Now) {
        let Life::Running(running) = &service.instances[at].life else { return };
        let Some(spec) = running.made.spec.clone().filter(|spec| spec.log_line() == Some(pattern)) else { return };
        for probe in super::checks::log_line_slots(&spec) {
            let message = Check::LINE_CAME.into();
            let verdict = Verdict { passed: true, message, reason: None, took: Duration::ZERO };
            self.verdict(service, at, probe, verdict, now);
        }
    }

    /// Everything that is checked begins a period in which failures do not count.
    fn forgive(&mut self, now: Now) {
        for id in self.table.ids().collect::<Vec<_>>() {
            let Some(service) = self.table.get_mut(id) else { continue };
            for instance in &mut service.instances {
                match &mut instance.life {
                    Life::Running(running) => {
                        if let Some(spec) = running.made.spec.clone() {
                            running.checks.forgive(&spec, now.mono);
                        }
                    }
                    Life::Idle
                    | Life::Preparing(_)
                    | Life::Starting(_)
                    | Life::Stopping(_)
                    | Life::BackOff(_)
                    | Life::Finished(_) => {}
                }
            }
            // Its deadlines have moved.
            self.mark(id);
        }
    }

    fn notified(&mut self, service: &mut Service, at: usize, message: &Notification, now: Now) {
        match &mut service.instances[at].life {
            Life::Running(running) => {
                let Some(spec) = running.made.spec.clone() else { return };
                running.checks.notified(&spec, message, running.spawned, now.mono, &mut self.random);
                if message.status.is_some() && running.says != message.status {
                    running.says = message.status.clone();
                }
                service.touched = true;
            }
            Life::Stopping(stopping) => {
                if let (Some(extension), Phase::PreStop { .. } | Phase::Signalled | Phase::Lingering { .. }) =
                    (message.extend_timeout, stopping.phase)
                {
                    let latest = stopping.began + stopping.made.grace + EXTENSION_MAX;
                    service.touched = true;
                    stopping.kill_at = stopping.kill_at.max((now.mono.saturating_add(extension)).min(latest));
                }
            }
            Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::BackOff(_) | Life::Finished(_) => {}
        }
    }

    fn output(&mut self, life: &LifeId, lines: Vec<String>) {
        let Some(id) = self.table.id(&life.instance.service) else { return };
        let Some(service) = self.table.get_mut(id) else { return };
        let is_of = |exit: &ExitMemory| (exit.index, exit.life) == (life.instance.index, life.life);
        let due = service.unheard.iter().position(is_of);
        let due = due.and_then(|at| service.unheard.remove(at));
        let instance = service.instances.get_mut(life.instance.index as usize);
        // Where another life has ended since, it is that one's end that is shown.
        let shown = instance.and_then(|instance| instance.last_exit.as_mut()).filter(|exit| is_of(exit));
        let words = last_words(lines);
        let told = match (shown, due) {
            (Some(exit), _) => {
                exit.output = words;
                let told = exit_view(exit);
                service.touched = true;
                Some(told)
            }
            (None, Some(exit)) => Some(exit_view(&ExitMemory { output: words, ..exit })),
            (None, None) => None,
        };
        self.exits
            .extend(told.filter(|exit| !exit.output.is_empty()).map(|exit| (life.instance.service.clone(), exit)));
        self.mark(id);
    }

    fn let_missing_go(&mut self, now: Now, all: bool) {
        for id in self.table.ids().collect::<Vec<_>>() {
            let held = self.table.get(id).is_some_and(|service| service.missing);
            if held || (all && self.lost.is_some()) {
                let lost = self.lost.take();
                self.withdrawn(id, now);
                self.lost = lost;
            }
        }
        self.scanned |= all;
        self.mark_all();
    }

    /// What is true of the whole directory decides about each service.
    fn mark_all(&mut self) {
        self.node_touched = true;
        for id in self.table.ids().collect::<Vec<_>>() {
            self.mark(id);
        }
    }

    fn withdrawn(&mut self, id: Id, now: Now) {
        let lost = self.lost.is_some();
        let Some(service) = self.table.get_mut(id) else { return };
        if service.declared.is_none() && service.rejected.is_none() {
            self.mark(id);
            return;
        }
        if lost {
            service.missing = true;
            return;
        }
        service.missing = false;
        service.touched = true;
        service.rejected = None;
        service.forget_orders();
        service.forget_schedule();
        service.call_off_update();
        service.gate = Gate::Gone;
        service.begin_anew();
        let so = if service.is_occupied() { "; it is being stopped" } else { "" };
        for instance in &mut service.instances {
            match instance.life {
                Life::Finished(_) => instance.life = Life::Idle,
                Life::Idle
                | Life::Preparing(_)
                | Life::Starting(_)
                | Life::Running(_)
                | Life::Stopping(_)
                | Life::BackOff(_) => {}
            }
        }
        let kept_needs = std::mem::take(&mut service.kept_needs);
        let names = service.declared.take().map(|old| super::declare::dependency_names(&old.spec)).unwrap_or_default();
        self.table.unlink(id, &names);
        self.table.unlink(id, &kept_needs);
        self.edges_changed.push(id);
        self.record_of(id, Reason::Withdrawn, false, format!("its manifest is gone{so}"), now);
        self.mark(id);
    }
}

pub(super) fn note_exit(
    instance: &mut super::service::Instance,
    exit: Exit,
    at: Timestamp,
    ran_for: Duration,
    life: u64,
) {
    let (code, signal) = match exit.how {
        ExitHow::Code(code) => (Some(code), None),
        ExitHow::Signal(signal) => (None, Some(signal)),
    };
    let (at, index) = (at.as_microsecond(), instance.index);
    let oom_killed = exit.oom_killed;
    let exit =
        ExitMemory { code, signal, oom_killed, by: None, at, ran_for, output: Vec::new(), life, index, told: false };
    instance.last_exit = Some(exit);
}

/// By its moment an end is known: two that come in one turn are told apart.
fn no_others(service: &Service, at: Timestamp) -> Timestamp {
    let ends = || service.instances.iter().filter_map(|one| one.last_exit.as_ref()).map(|exit| exit.at);
    let moment = at.as_microsecond();
    match ends().any(|end| end == moment) {
        true => ends().max().and_then(|last| Timestamp::from_microsecond(last.max(moment) + 1).ok()).unwrap_or(at),
        false => at,
    }
}

/// The last lines, 2 KiB at most, colours and control characters stripped.
fn last_words(lines: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut room = OUTPUT_MAX;
    for line in lines.into_iter().rev() {
        let clean: String = strip(&line).chars().take(room).collect();
        if clean.len() > room {
            break;
        }
        room -= clean.len();
        kept.push(clean);
        if room == 0 {
            break;
        }
    }
    kept.reverse();
    kept
}
