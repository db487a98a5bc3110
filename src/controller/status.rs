//! The words for people: status, reason, why and what comes next, in one table.
//!
//! Computed from facts and nothing else: `healthy` needs a check that passed, a live pid needs a
//! process that the keeper told of.

use jiff::Timestamp;

use super::explain;
use super::input::{ExitMemory, Resolved, RunMemory};
use super::life::*;
use super::service::{Gate, Instance, Service};
use super::vitals;
use crate::model::manifest::no_stdio_mcp;
use crate::model::reason::{Reason, Status};
use crate::model::spec::Check;
use crate::model::view::RunResult;
use crate::policy::score::Band;
use crate::policy::update;

/// What is said of a service or of one instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub status: Status,
    pub reason: Option<Reason>,
    pub why: Vec<String>,
    pub next: Option<String>,
    pub retry_at: Option<Timestamp>,
}

impl Word {
    fn plain(status: Status) -> Word {
        Word { status, reason: None, why: Vec::new(), next: None, retry_at: None }
    }

    fn of(status: Status, reason: Reason, why: impl Into<String>) -> Word {
        let why = why.into().lines().map(String::from).collect();
        Word { reason: Some(reason), why, ..Word::plain(status) }
    }

    fn next(self, next: impl Into<String>) -> Word {
        Word { next: Some(next.into()), ..self }
    }
}

/// A score may say worse of what serves, never better.
fn by_score(service: &Service, word: Word) -> Word {
    let status = match (word.status, service.health.band()) {
        (Status::Healthy, Band::Degraded) => Status::Degraded,
        (Status::Healthy | Status::Degraded, Band::Unhealthy) => Status::Unhealthy,
        (_, Band::Healthy | Band::Degraded | Band::Unhealthy) => return word,
    };
    let next = match service.health.is_held() {
        true if service.health.band() == Band::Degraded => "healthy when its score has stayed above 70 for 30 s",
        true => "better when its score has stayed above 30 for 30 s",
        false => "better when its checks pass, and restarts are 10 min past",
    };
    let missed = service.instances.iter().find_map(vitals::missed);
    let next = match missed {
        Some(missed) => format!("{}; {next}", explain::outcome_of(&missed)),
        None => next.into(),
    };
    // A better word has to be earned: until then it is said as what it was.
    let low = if service.health.is_held() { "its score was low a moment ago" } else { "its score is low" };
    let mut whys = vitals::why(service).into_iter();
    let mut why = word.why;
    why.push(whys.next().map_or_else(|| low.into(), |first| format!("{low}: {first}")));
    why.extend(whys);
    Word { status, reason: Some(vitals::word_of(service)), why, next: Some(next), retry_at: word.retry_at }
}

/// What has to come for plugd to listen on a port that it cannot listen on.
fn when_listened(shut: Reason) -> &'static str {
    match shut {
        Reason::AddressInUse => "listens as soon as the port is free",
        Reason::PermissionDenied => {
            "listens as soon as plugd may: ports below 1024 ask for CAP_NET_BIND_SERVICE; others do not"
        }
        Reason::ResourceExhausted => "a port for it is looked for again when its manifest is saved",
        _ => "listens as soon as that is over",
    }
}

/// What nobody can call does not serve, however well it is.
fn by_door(service: &Service, word: Word) -> Word {
    let serves = match word.status {
        Status::Healthy | Status::Running | Status::Degraded => true,
        Status::Waiting => word.reason == Some(Reason::OnDemand),
        Status::Starting
        | Status::Unhealthy
        | Status::Stopping
        | Status::Stopped
        | Status::Skipped
        | Status::Failed
        | Status::Completed => false,
    };
    match service.shut().filter(|_| serves) {
        Some((reason, why)) => Word::of(Status::Unhealthy, reason, why).next(when_listened(reason)),
        None => word,
    }
}

const EDITED_SINCE: &str = "it was edited since; the edit waits for the start";

/// The whole service.
pub(super) fn of_service(service: &Service, ending: bool, ends_for: Option<&str>) -> Word {
    let mut word = by_door(service, by_score(service, of_all(service, ending)));
    if let (Some(Reason::ControllerStopped), Some(why), Some(first)) = (word.reason, ends_for, word.why.first_mut()) {
        *first = format!("plugd ended by itself: {why}");
    }
    word
}

fn of_all(service: &Service, ending: bool) -> Word {
    let desired = service.desired() as usize;
    let occupied = service.is_occupied();
    if ending && !occupied {
        return of_gate(service);
    }
    if service.schedule().is_some() && (occupied || service.is_armed() || service.runs().next().is_some()) {
        return of_runs(service);
    }
    if service.waits_for_demand() {
        return asleep(service);
    }
    let wanted = match service.gate_of_next() {
        Gate::Disabled
        | Gate::StoppedByOperator
        | Gate::DependencyLost(_)
        | Gate::Gone
        | Gate::External(_)
        | Gate::NeedsUser => false,
        // What ran to its end did so, whatever became of its wrapper.
        Gate::Missing => service.instances.iter().any(|instance| instance.life.is_finished()),
        Gate::NeverValid => service.declared.is_some(),
        Gate::Open | Gate::Unknown | Gate::Waiting(_) | Gate::Cycle | Gate::ShuttingDown => true,
    };
    if !wanted && !occupied {
        return of_gate(service);
    }
    if let (Gate::Gone, Some(instance)) =
        (&service.gate, service.instances.iter().find(|instance| instance.life.is_occupied()))
    {
        return of_instance(service, instance);
    }
    if desired == 0 && !occupied {
        return of_none(service);
    }
    let wanted = &service.instances[..service.instances.len().min(desired)];
    let ready = wanted.iter().filter(|instance| instance.life.is_ready()).count();
    if wanted.is_empty() {
        return match service.instances.iter().find(|instance| instance.life.is_occupied()) {
            Some(instance) => of_instance(service, instance),
            None => of_gate(service),
        };
    }
    let completed = wanted.iter().filter(|instance| instance.life.is_completed()).count();
    if ready > 0 && ready + completed < desired {
        return degraded(service, wanted, ready);
    }
    // Who left while nobody was there is missed by nobody.
    let stands = |instance: &&Instance| service.activation().is_none() || !instance.life.is_completed();
    let worst = wanted
        .iter()
        .filter(stands)
        .map(|instance| of_instance(service, instance))
        .min_by_key(|word| urgency(word.status));
    not_before_all(service, worst.unwrap_or_else(|| of_gate(service)))
}

/// No instance is wanted: by its manifest, or by hand.
fn of_none(service: &Service) -> Word {
    let name = &service.name;
    match service.rules().map_or(1, |rules| rules.replicas) {
        0 => Word::of(Status::Stopped, Reason::Disabled, "its manifest says `replicas: 0`")
            .next(format!("starts when its manifest says more; now with `plugd scale {name}=1`")),
        says => Word::of(
            Status::Stopped,
            Reason::StoppedByOperator,
            format!("scaled to 0 by hand; its manifest says {says}"),
        )
        .next(format!("starts with `plugd scale {name}={says}`")),
    }
}

/// One that is not wanted any more is on its way out: stopped is when nothing is left.
fn not_before_all(service: &Service, worst: Word) -> Word {
    let sleeps = worst.reason == Some(Reason::OnDemand);
    let at_rest = sleeps || matches!(worst.status, Status::Stopped | Status::Completed);
    match service.instances.iter().find(|instance| instance.life.is_occupied()).filter(|_| at_rest) {
        Some(instance) => of_instance(service, instance),
        None => worst,
    }
}

/// A service that runs by the clock: what goes on, else what comes next.
fn of_runs(service: &Service) -> Word {
    let open = service.instances.iter().filter(|instance| instance.run.is_some() || instance.life.is_occupied());
    let worst = open.map(|instance| of_instance(service, instance)).min_by_key(|word| urgency(word.status));
    worst.map_or_else(|| between_runs(service), |worst| not_before_all(service, worst))
}

/// Nothing of it runs, and the first connection starts it.
fn asleep(service: &Service) -> Word {
    let name = &service.name;
    let port = service.spec().and_then(|spec| spec.process.port).unwrap_or(0);
    let listens = match service.awaits_door() {
        true => format!("plugd is about to listen on port {port} for it"),
        false => format!("plugd listens on port {port} for it"),
    };
    let first = service.instances.first();
    let wait = first.and_then(|instance| match &instance.life {
        Life::BackOff(wait) => Some((wait, instance)),
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Running(_)
        | Life::Stopping(_)
        | Life::Finished(_) => None,
    });
    let waits = wait.map(|(wait, instance)| explain::and_last_words(wait.message.clone(), instance));
    let failed = service.failed_last();
    let ended = failed.and_then(|instance| {
        let exit = instance.last_exit.as_ref()?;
        Some(explain::keeps_ending(exit, instance, 1))
    });
    match (failed, waits.or(ended)) {
        (Some(instance), Some(why)) => {
            let reason = if instance.oom_killed { Reason::OomKilled } else { Reason::Error };
            let mut word = Word::of(Status::Failed, reason, format!("its last start failed: {why}"));
            word.why.push(listens);
            let when = match wait {
                Some((wait, _)) => format!("a connection from {} on", explain::moment(wait.until_wall)),
                None => "the next connection".into(),
            };
            word.next(format!("tried again at {when}; at once with `plugd start {name}`"))
        }
        (_, why) => {
            let mut word = Word::of(Status::Waiting, Reason::OnDemand, listens);
            word.why.extend(why.map(|why| format!("when it ran last: {why}")));
            word.next(format!("starts at the first connection; at once with `plugd start {name}`"))
        }
    }
}

fn between_runs(service: &Service) -> Word {
    let (Some(schedule), agenda) = (service.schedule(), &service.agenda) else { return of_gate(service) };
    let next = agenda.next().map(|next| explain::moment_in(next, &schedule.time_zone));
    let name = &service.name;
    let comes = match &next {
        Some(next) => format!("runs at {next}; at once with `plugd start {name}`"),
        None => format!("its schedule has no further time; runs with `plugd start {name}`"),
    };
    let last = agenda.over.back();
    let mut word = match agenda.failure() {
        Some(why) => {
            let of = last.map_or(String::new(), |last| format!(", {},", of_run(last)));
            let is_its = last.is_some_and(|last| last.result == Some(RunResult::Failed));
            let why = match service.instances.first().filter(|_| is_its) {
                Some(instance) => explain::and_last_words(why.into(), instance),
                None => why.into(),
            };
            let oom = service.instances.first().is_some_and(|instance| is_its && instance.oom_killed);
            let reason = if oom { Reason::OomKilled } else { Reason::Error };
            Word::of(Status::Failed, reason, format!("its last run{of} failed: {why}"))
        }
        None => {
            let why = next.map_or("its schedule has no further time".into(), |next| format!("next run at {next}"));
            let mut word = Word::of(Status::Waiting, Reason::NextRun, why);
            word.why.extend(last.map(last_run));
            word
        }
    };
    if let Some(until) = agenda.done_until() {
        let until = explain::moment(until);
        word.why.push(format!("the clock was set back: what is scheduled until {until} has been dealt with"));
    }
    word.next(comes)
}

fn of_run(run: &RunMemory) -> String {
    run.view().scheduled.map_or("by hand".into(), |at| format!("of {}", explain::moment(at)))
}

/// `the last run, of 2026-11-23T03:00:00Z, completed after 12 s`.
fn last_run(run: &RunMemory) -> String {
    let view = run.view();
    let what = match view.result {
        RunResult::Stopped | RunResult::Replaced => format!("was {}", view.result.word()),
        RunResult::Unknown => "was cut off with plugd".into(),
        RunResult::Waiting | RunResult::Running | RunResult::Completed | RunResult::Failed => view.result.word().into(),
    };
    let after = run.took.map_or(String::new(), |took| format!(" after {}", explain::span(took)));
    format!("the last run, {}, {what}{after}", of_run(run))
}

/// Trouble first.
fn urgency(status: Status) -> u8 {
    match status {
        Status::Failed => 0,
        Status::Unhealthy => 1,
        Status::Stopping => 2,
        Status::Starting => 3,
        Status::Waiting => 4,
        Status::Skipped => 5,
        Status::Degraded => 6,
        Status::Stopped => 7,
        Status::Running => 8,
        Status::Healthy => 9,
        Status::Completed => 10,
    }
}

fn degraded(service: &Service, wanted: &[Instance], ready: usize) -> Word {
    let mut why = vec![format!("{ready} of {} instances are ready", service.desired())];
    let mut retry_at = None;
    let mut next = None;
    for instance in wanted.iter().filter(|instance| !instance.life.is_ready()).take(5) {
        let word = of_instance(service, instance);
        let first = word.why.into_iter().next().unwrap_or_else(|| word.status.to_string());
        why.push(format!("{}/{}: {first}", service.name, instance.index));
        retry_at = retry_at.into_iter().chain(word.retry_at).min();
        next = next.or(word.next);
    }
    let reason = if is_roll_stuck(service) { Reason::RollStuck } else { Reason::InstanceDown };
    let next = next.or(Some("healthy again when all its instances are ready".into()));
    Word { status: Status::Degraded, reason: Some(reason), why, next, retry_at }
}

/// A new version does not get ready while instances of the old one still run.
pub(super) fn is_roll_stuck(service: &Service) -> bool {
    let (Some(made), Some(spec)) = (service.made(), service.spec()) else { return false };
    if update::plan(spec, service.desired()) == update::Plan::Recreate {
        return false;
    }
    let old = |instance: &Instance| match &instance.life {
        Life::Running(running) => running.made.print != made.print,
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Stopping(_)
        | Life::BackOff(_)
        | Life::Finished(_) => false,
    };
    let stuck = |instance: &Instance| match &instance.life {
        Life::Running(running) => {
            running.made.print == made.print && running.ready_since.is_none() && running.port_late
        }
        Life::BackOff(wait) => wait.print == made.print && instance.ladder.failed_starts >= 2,
        Life::Finished(_) => true,
        Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::Stopping(_) => false,
    };
    service.instances.iter().any(old) && service.instances.iter().any(stuck)
}

/// `skipped` where it is optional, `failed` where it is required.
fn cannot(service: &Service, reason: Reason, why: impl Into<String>) -> Word {
    let status = if service.required() { Status::Failed } else { Status::Skipped };
    Word::of(status, reason, why)
}

/// Nothing of it runs: what stands in the way.
fn of_gate(service: &Service) -> Word {
    let name = &service.name;
    match service.gate_of_next() {
        Gate::Open if let Some(heir) = &service.heir => {
            let (port, of) = (heir.port, &heir.of);
            let so = if heir.leaves { ", which is being stopped" } else { "" };
            let why = format!("port {port} is still that of {of}{so}");
            Word::of(Status::Waiting, Reason::AddressInUse, why).next("starts as soon as that has left it")
        }
        Gate::Open => Word::of(Status::Waiting, Reason::StartLimit, "waits for its turn to start")
            .next("starts as soon as others have started"),
        Gate::Unknown => {
            Word { why: vec!["its manifest has not been read yet".into()], ..Word::plain(Status::Waiting) }
        }
        Gate::Gone => Word { why: vec!["its manifest is gone".into()], ..Word::plain(Status::Stopped) },
        Gate::NeverValid => {
            let (reason, why) = match &service.rejected {
                Some((rejection, _)) => (rejection.reason, rejection.message.clone()),
                None => (Reason::ConfigInvalid, "its manifest is not valid".into()),
            };
            let word = match reason {
                Reason::MissingVariable => cannot(service, reason, why),
                other => Word::of(Status::Failed, other, why),
            };
            word.next(starts_when(service, "starts by itself when the file is valid"))
        }
        Gate::Disabled => Word::of(Status::Stopped, Reason::Disabled, "its manifest says `enabled: false`")
            .next(starts_when(service, "starts when that is removed")),
        Gate::StoppedByOperator => {
            let stopped = service.view.as_ref().filter(|view| view.reason == Some(Reason::StoppedByOperator));
            let edited = stopped.is_some_and(|view| {
                view.manifest.generation < service.generation || view.why.iter().any(|why| why == EDITED_SINCE)
            });
            let next = match service.schedule() {
                Some(_) => format!(
                    "its schedule goes on with `plugd start {name} --no-run`; runs at once with `plugd start {name}`"
                ),
                None => format!("starts with `plugd start {name}`"),
            };
            let mut word = Word::of(Status::Stopped, Reason::StoppedByOperator, "it was stopped with `plugd stop`");
            word.next = Some(next);
            if edited {
                word.why.push(EDITED_SINCE.into());
            }
            word
        }
        Gate::DependencyLost(dependency) => {
            Word::of(Status::Stopped, Reason::DependencyLost, format!("{dependency} was not ready any more"))
                .next(format!("starts after an edit or with `plugd start {name}`"))
        }
        Gate::External(what) => {
            Word::of(Status::Skipped, Reason::NotYetSupported, format!("nothing to run here: {what}"))
                .next("needs a later version of plugd")
        }
        Gate::NeedsUser => {
            Word::of(Status::Failed, Reason::RunsAsRoot, "it names no `user:` and --require-user is set")
                .next("starts by itself when its manifest names a user")
        }
        Gate::Missing => match service.declared.as_ref().map(|declaration| &declaration.program) {
            Some(Resolved::Missing { reason, message, .. }) => {
                let next = match reason {
                    Reason::NotExecutable => "starts by itself when it is executable",
                    Reason::WrapperNotFound => "starts by itself when one of them appears",
                    _ => "starts by itself when that is mended",
                };
                cannot(service, *reason, message.clone()).next(next)
            }
            Some(Resolved::Found { .. }) | None => Word::plain(Status::Waiting),
        },
        Gate::Waiting(for_what) => Word {
            why: for_what.said.clone(),
            ..Word::of(Status::Waiting, Reason::DependencyNotReady, "").next("starts by itself when that has changed")
        },
        Gate::Cycle => Word::of(Status::Failed, Reason::DependencyCycle, cycle(service))
            .next("starts by itself when one of these dependencies is removed"),
        Gate::ShuttingDown => {
            let word = Word::of(Status::Stopped, Reason::ControllerStopped, "plugd was stopped");
            let mut word = word.next("starts with the next `plugd run`");
            word.why.extend(service.before_the_end.clone());
            word
        }
    }
}

/// What was stopped by hand, too, stays so.
fn starts_when(service: &Service, what: &str) -> String {
    match service.stopped {
        true => format!("{what}, and with `plugd start {}`: it was stopped by hand, too", service.name),
        false => what.into(),
    }
}

/// `depends on itself: a → b → a`.
pub(super) fn cycle(service: &Service) -> String {
    let path = service.cycle.as_ref().map(|cycle| cycle.path.iter().map(|n| n.as_str()).collect::<Vec<_>>());
    format!("depends on itself: {}", path.unwrap_or_default().join(" → "))
}

/// One instance.
pub(super) fn of_instance(service: &Service, instance: &Instance) -> Word {
    match &instance.life {
        Life::Idle if instance.run.is_none() && service.keeps_schedule() => between_runs(service),
        Life::Idle if service.waits_for_demand() => asleep(service),
        Life::Idle => of_gate(service),
        Life::Preparing(Preparing { held_up: Some(why), .. }) | Life::Starting(Starting { held_up: Some(why), .. }) => {
            Word::of(Status::Starting, Reason::NotAnswering, why.clone()).next("starts by itself when that answers")
        }
        Life::Preparing(preparing) => {
            let hook = match preparing.hook {
                super::input::Hook::Selfcheck => "its --selfcheck runs",
                super::input::Hook::PreStart | super::input::Hook::PreStop => "its preStart hook runs",
            };
            Word {
                why: vec![hook.into()],
                next: Some("starts when that has ended well".into()),
                ..Word::plain(Status::Starting)
            }
        }
        Life::Starting(_) => Word {
            why: vec!["its process is being made".into()],
            next: Some("a moment".into()),
            ..Word::plain(Status::Starting)
        },
        Life::Running(running) => of_running(service, running),
        Life::Stopping(stopping) => of_stopping(service, stopping),
        Life::BackOff(wait) if wait.kind == Setback::NeedLost && matches!(service.gate, Gate::Waiting(_)) => {
            of_gate(service)
        }
        Life::BackOff(wait) => of_wait(service, instance, wait),
        Life::Finished(finished) => match &finished.outcome {
            Outcome::Completed if service.activation().is_some() => {
                Word::of(Status::Waiting, Reason::OnDemand, "it ended well, and nobody waited")
                    .next("starts with the next connection, or when all have ended and somebody calls")
            }
            Outcome::Completed => Word::plain(Status::Completed),
            Outcome::Failed(reason, why) => Word::of(
                Status::Failed,
                *reason,
                explain::and_past_holder(explain::and_last_words(why.clone(), instance), instance),
            )
            .next(format!("runs again after an edit or `plugd start {}`", service.name)),
        },
    }
}

fn of_running(service: &Service, running: &Running) -> Word {
    let said = running.checks.said.as_ref();
    if running.ready_since.is_some() {
        if running.checks.is_doubtful() {
            let message = said.map(|said| said.message.clone()).unwrap_or_default();
            return Word::of(Status::Degraded, Reason::ProbeFailed, format!("its check has never passed: {message}"))
                .next("healthy when its check passes; restarted when that has failed too often");
        }
        return match running.checks.is_checked() {
            true => Word::plain(Status::Healthy),
            false => Word::plain(Status::Running),
        };
    }
    let awaited = running.made.spec.as_ref().and_then(|spec| running.checks.awaited(spec));
    let silent = || awaited.map_or_else(|| "it is not checked yet".into(), Check::not_said);
    let message = said.map_or_else(silent, |said| said.message.clone());
    if let Some(said) = said.filter(|said| !said.passed && said.reason == Some(Reason::AddressInUse)) {
        return Word::of(Status::Unhealthy, Reason::AddressInUse, said.message.clone())
            .next("becomes ready when that port is its own");
    }
    let passes = running.made.spec.as_ref().and_then(|spec| running.checks.passes(spec));
    if let Some(failing) = &running.checks.failing {
        return match passes {
            Some(passes) => Word::of(Status::Unhealthy, Reason::ProbeFailed, explain::passed(passes))
                .next("becomes ready when it has passed as often"),
            None => Word::of(Status::Unhealthy, Reason::ProbeFailed, format!("its check fails: {failing}"))
                .next("becomes ready when its check passes again"),
        };
    }
    if running.made.spec.is_none() && service.gate == Gate::NeverValid {
        // What is on disk is not valid: it goes on, and nothing checks it.
        return Word::plain(Status::Running);
    }
    if running.made.spec.is_none() {
        return Word { why: vec!["its manifest has not been read yet".into()], ..Word::plain(Status::Starting) }
            .next("its checks begin when it is read");
    }
    // One that answers, however badly, is open.
    let is_closed = said.is_some_and(|said| said.reason == Some(Reason::PortNotOpen));
    if running.port_late && is_closed && super::waits::port_of_made(running).is_some() {
        let port = super::waits::port_of_made(running).unwrap_or_default();
        return Word::of(
            Status::Starting,
            Reason::PortNotOpen,
            format!("port {port} is not open since it was started: {message}"),
        )
        .next(concat!("if it serves no port, write `readinessProbe: none`; ", no_stdio_mcp!()));
    }
    let message = passes.map_or(message, explain::passed);
    // Its own word, by `STATUS=`.
    let message = match &running.says {
        Some(says) if !says.is_empty() => format!("{message}; it says: {says}"),
        Some(_) | None => message,
    };
    Word::of(Status::Starting, Reason::ProbeNotPassed, message)
        .next(format!("{} is ready when its check passes", service.name))
}

fn of_stopping(service: &Service, stopping: &Stopping) -> Word {
    let why = match &stopping.cause {
        Cause::Unwanted => match &service.gate {
            Gate::Gone => "its manifest is gone; it is being stopped".to_string(),
            Gate::StoppedByOperator => "it is being stopped by `plugd stop`".into(),
            Gate::Disabled => "its manifest says `enabled: false`; it is being stopped".into(),
            Gate::ShuttingDown => "plugd is being stopped, and it with it".into(),
            Gate::DependencyLost(lost) => format!("{lost}, which it needs, was lost; it is being stopped"),
            Gate::Open
            | Gate::Unknown
            | Gate::NeverValid
            | Gate::External(_)
            | Gate::NeedsUser
            | Gate::Missing
            | Gate::Waiting(_)
            | Gate::Cycle => "it is being stopped".into(),
        },
        Cause::Replaced if comes_again(service, stopping) => "it is being restarted".into(),
        Cause::Replaced => "the old version is being stopped".into(),
        Cause::Ended | Cause::Told => match &stopping.exit {
            Some(exit) => format!("it {}; what it left is being ended", explain::ended(exit, None)),
            None => "it is ending".into(),
        },
        Cause::CheckFailed(why) | Cause::Mismatched(why) => why.clone(),
        Cause::DependencyLost(dependency) => format!("{dependency} is not ready any more"),
    };
    let mut word = Word { why: vec![why], ..Word::plain(Status::Stopping) };
    let named = stopping.left.as_ref().is_some_and(|left| !left.is_empty());
    let hook = stopping.phase == Phase::PreStop { asked: true, done: false };
    if hook {
        word.why.push("its preStop hook runs".into());
    } else if named {
        word.why.push(explain::culprit(stopping));
    }
    if stopping.stuck {
        word.reason = Some(Reason::StuckKilling);
    }
    word.next = Some(match stopping.phase {
        Phase::PreStop { .. } | Phase::Signalled | Phase::Lingering { .. } => {
            let then = match &stopping.cause {
                Cause::Replaced if comes_again(service, stopping) => "starts again when it has ended",
                Cause::Replaced => "the new version starts when it has ended",
                Cause::Unwanted
                | Cause::Ended
                | Cause::Told
                | Cause::CheckFailed(_)
                | Cause::Mismatched(_)
                | Cause::DependencyLost(_) => "done when nothing of it is left",
            };
            let grace = explain::span(stopping.kill_at.saturating_sub(stopping.began));
            format!("{then}; killed {grace} after it was told to stop")
        }
        Phase::Killing { .. } => "KILL was sent; it waits until nothing is left".into(),
    });
    word
}

/// What is stopped to make room is the version that starts next.
fn comes_again(service: &Service, stopping: &Stopping) -> bool {
    let next = service.kept.as_ref().map(|kept| kept.print).or_else(|| service.print());
    next.is_some_and(|print| print == stopping.made.print)
}

fn of_wait(service: &Service, instance: &Instance, wait: &BackOff) -> Word {
    let at = explain::moment(wait.until_wall);
    // A run that is tried again has failed when the next one is due.
    let next_run = instance.run.as_ref().and(service.agenda.next()).filter(|next| *next <= wait.until_wall);
    let next = match next_run {
        Some(at) => format!("has failed at {}, when its next run begins", explain::moment(at)),
        None => format!("tries again at {at}; at once after an edit or `plugd start {}`", service.name),
    };
    let word = match wait.kind {
        // What is missing is no file of its own, and there may be room in a moment.
        Setback::Missing(reason @ Reason::ResourceExhausted) => {
            Word::of(Status::Unhealthy, reason, explain::missing(wait, instance))
        }
        Setback::Missing(reason) => cannot(service, reason, explain::missing(wait, instance)),
        Setback::Ended | Setback::NotSpawned(_) | Setback::HookFailed | Setback::NeedLost => {
            let after = service.rules().map_or(5, |spec| spec.restart.crash_loop_after);
            let reason = if instance.ladder.is_crash_loop(after) { Reason::CrashLoopBackOff } else { Reason::BackOff };
            let why = match (&wait.kind, &instance.last_exit) {
                (Setback::Ended, Some(exit))
                    if wait.message.starts_with("exited") || wait.message.starts_with("was killed") =>
                {
                    let ending = explain::keeps_ending(exit, instance, instance.ladder.failed_starts);
                    match (instance.ends_at_once(), port_remedy(service, instance, exit)) {
                        (true, _) => format!("{ending}; {}", explain::ends_at_once(service)),
                        (false, Some(remedy)) => format!("{ending}; {remedy}"),
                        (false, None) => explain::and_holder(ending, instance),
                    }
                }
                (
                    Setback::Ended
                    | Setback::HookFailed
                    | Setback::NotSpawned(_)
                    | Setback::Missing(_)
                    | Setback::NeedLost,
                    _,
                ) => wait.message.clone(),
            };
            Word::of(Status::Unhealthy, reason, why)
        }
    };
    Word { retry_at: Some(wait.until_wall).filter(|_| next_run.is_none()), ..word.next(next) }
}

/// Of one whose sibling runs: what it lacks may be a port of its own.
fn port_remedy(service: &Service, instance: &Instance, exit: &ExitMemory) -> Option<String> {
    let has_sibling = service.instances.iter().any(|one| one.index != instance.index && one.life.pid().is_some());
    let process = service.rules().map(|spec| &spec.process).filter(|_| has_sibling)?;
    explain::port_remedy(process, instance.index, exit)
}
