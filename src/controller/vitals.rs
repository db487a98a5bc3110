//! How well a service is: what was observed of each instance, the score, and the word that follows.
//!
//! The judgement is `policy/score.rs`; here is what it is told, and what it changes.

use std::time::Duration;

use super::checks::{Missed, readiness_of};
use super::life::*;
use super::service::{Gate, Instance, Service};
use super::{Controller, explain};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::{Check, Spec};
use crate::model::time::Now;
use crate::model::view::{InstanceVitals, LessView, ScoreView, Serving, VitalsView};
use crate::policy::availability::Availability;
use crate::policy::pace;
use crate::policy::restart::End;
use crate::policy::score::{self, Band, Less, Observed, RESTART_COUNTS, RESTARTS_COUNTED, Said};

/// Of one instance.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// The last restarts that nobody asked for, oldest first, on both clocks: the second is for a later
    /// controller.
    restarts: Vec<(Duration, i64)>,
    slow: bool,
    /// What is taken from its score; none where there is none.
    less: Option<Vec<Less>>,
}

/// Of a service.
#[derive(Debug, Default)]
pub(super) struct Health {
    said: Said,
    points: Option<u8>,
    /// Instances that were ready when it was weighed last.
    ready: usize,
    serving: Serving,
    availability: Availability,
}

impl Vitals {
    pub fn restarted(&mut self, now: Now) {
        self.restarts.push((now.mono, now.wall.as_microsecond()));
        let over = self.restarts.len().saturating_sub(RESTARTS_COUNTED);
        self.restarts.drain(..over);
    }

    /// An edit, or a start by hand: what was before is of no account.
    pub fn begin_anew(&mut self) {
        self.restarts.clear();
    }

    /// For the keeper's blob: microseconds since the epoch.
    pub fn restarts(&self) -> Vec<i64> {
        self.restarts.iter().map(|(_, wall)| *wall).collect()
    }

    /// Taken up from an earlier controller. A clock that was set meanwhile may shorten or lengthen what is
    /// left of the ten minutes, never beyond them.
    pub fn remember(&mut self, restarts: &[i64], now: Now) {
        let present = now.wall.as_microsecond();
        let age = |wall: i64| Duration::from_micros(u64::try_from(present.saturating_sub(wall)).unwrap_or(0));
        let kept = restarts.iter().rev().take(RESTARTS_COUNTED).rev().filter(|wall| age(**wall) < RESTART_COUNTS);
        self.restarts = kept.map(|wall| (now.mono.saturating_sub(age(*wall)), *wall)).collect();
    }

    fn recent(&self, now: Duration) -> u32 {
        let counts = self.restarts.iter().filter(|(at, _)| now < *at + RESTART_COUNTS).count();
        u32::try_from(counts).unwrap_or(u32::MAX)
    }

    /// When the next restart is forgotten.
    fn next_change(&self, now: Duration) -> Option<Duration> {
        self.restarts.iter().map(|(at, _)| *at + RESTART_COUNTS).filter(|at| *at > now).min()
    }

    pub fn is_slow(&self) -> bool {
        self.slow
    }

    pub fn score(&self) -> Option<ScoreView> {
        let less = self.less.as_ref()?;
        let steps = less.iter().map(|one| LessView { points: one.points(), why: one.why() }).collect();
        Some(ScoreView { points: score::points(less), less: steps })
    }

    /// What is against it, in words; empty where nothing is.
    fn complaint(&self, missed: Option<&Missed<'_>>) -> String {
        let why = |less: &Less| match (less, missed) {
            (Less::Checks { .. }, Some(missed)) => explain::missed(missed),
            (Less::Checks { .. }, None)
            | (Less::Dead | Less::Restarts { .. } | Less::Errors { .. } | Less::Slow { .. }, _) => less.why(),
        };
        let whys: Vec<String> = self.less.iter().flatten().map(why).collect();
        whys.join(", ")
    }
}

impl Health {
    pub fn band(&self) -> Band {
        self.said.band()
    }

    pub fn points(&self) -> Option<u8> {
        self.points
    }

    pub fn serving(&self) -> Serving {
        self.serving
    }

    /// The score is better than what is said of it: it has to last.
    pub fn is_held(&self) -> bool {
        self.said.earned_at().is_some()
    }

    pub fn begin_anew(&mut self) {
        self.said = Said::default();
    }
}

impl Controller {
    /// Takes the score of a service; gives the moment at which it changes by itself.
    pub(super) fn weigh(&mut self, service: &mut Service, now: Now) -> Option<Duration> {
        let paces = || service.instances.iter().filter_map(|instance| Some(checks_of(instance)?.pace));
        let middle = if service.instances.len() > 1 { pace::middle(paces()) } else { None };
        let checked = service.rules().is_some_and(|spec| has_checks(spec));
        let wanted = service.desired() as usize;
        let meant = is_meant(service);
        let rules = service.rules().filter(|spec| spec.activation.is_some()).cloned();
        let mut deadline: Option<Duration> = None;
        let mut touched = false;
        for (at, instance) in service.instances.iter_mut().enumerate() {
            let slow =
                checks_of(instance).is_some_and(|checks| pace::is_slow(checks.pace, middle, instance.vitals.slow));
            touched |= slow != instance.vitals.slow;
            instance.vitals.slow = slow;
            let weighed =
                checked && meant && at < wanted && !rules.as_ref().is_some_and(|rules| has_left(instance, rules));
            let observed = weighed.then(|| observed(instance, now.mono)).flatten();
            let less = observed.map(|observed| score::subtraction(&observed));
            touched |= less != instance.vitals.less;
            instance.vitals.less = less;
            deadline = deadline.into_iter().chain(instance.vitals.next_change(now.mono)).min();
        }
        let points = score::mean(service.instances.iter().filter_map(|i| i.vitals.less.as_deref().map(score::points)));
        let ready = service.instances.iter().take(wanted).filter(|instance| instance.life.is_ready()).count();
        let job = service.rules().is_some_and(|spec| super::decide::runs_to_end(spec));
        let (serves, asleep) = (service.serves(ready), service.would_answer());
        // Nobody calls a job: how often it runs says nothing of how well it is. Who calls one that sleeps is answered,
        // or should be.
        let aside = job || (!serves && service.awaits_door()) || !(meant || service.is_to_be_called());
        let (before, was_ready) = (service.health.said, service.health.ready);
        let health = &mut service.health;
        (health.points, health.ready) = (points, ready);
        let serving = match (asleep, aside, serves) {
            (true, _, _) | (false, false, true) => Serving::Up,
            (false, true, _) => Serving::Aside,
            (false, false, false) => Serving::Down,
        };
        touched |= std::mem::replace(&mut health.serving, serving) != serving;
        health.availability.follow(serving, now.mono);
        if ready > was_ready || points.is_none() {
            // Becoming ready is a step of its own, which its check has earned.
            health.said = Said::anew(points);
        } else {
            health.said.follow(points, now.mono);
        }
        let said = health.said;
        touched |= said != before;
        service.touched |= touched;
        // While nothing of it is ready, other news say so.
        if said.band() != before.band() && ready > 0 && ready <= was_ready {
            self.tell_band(service, said.band(), before.band(), now);
        }
        deadline.into_iter().chain(said.earned_at()).min()
    }

    fn tell_band(&mut self, service: &Service, is: Band, was: Band, now: Now) {
        let name = &service.name;
        let points = service.health.points.unwrap_or_default();
        let (reason, message) = match is {
            Band::Healthy => (Reason::Recovered, format!("{name} is healthy again: its score is {points}")),
            Band::Degraded if is > was => (Reason::Recovered, format!("{name} is better: its score is {points}")),
            Band::Degraded => (word_of(service), format!("{name} is degraded: {}", why(service).join("; "))),
            Band::Unhealthy => (word_of(service), format!("{name} is unhealthy: {}", why(service).join("; "))),
        };
        self.events.push(super::event_of(service, reason, is < was, message, now));
    }

    /// What wobbles, as of now: told when it is asked for, never announced.
    pub fn vitals(&self, name: &Name, now: Now) -> Option<VitalsView> {
        let service = self.table.by_name(name)?;
        let instance = |at: usize| {
            let checks = checks_of(&service.instances[at]);
            InstanceVitals {
                name: service.instance_name(at),
                consecutive_failures: checks.map_or(0, |checks| checks.failures()),
                response_ms: checks.and_then(|checks| Some(rounded(checks.pace.mean()?.as_secs_f64() * 1e3))),
            }
        };
        let availability = &service.health.availability;
        let ratio = availability.ratio(now.mono);
        Some(VitalsView {
            // Cut, so that 100 means all.
            availability_percent: ratio.map(|share| (share * 10_000.0).floor() / 100.0),
            availability_since: ratio.and(availability.since()).map(|since| now.wall_at(since)),
            instances: (0..service.instances.len()).map(instance).collect(),
        })
    }
}

/// To three places, as far as anybody looks.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// `Slow` where that is among the causes, else that its score is low.
pub(super) fn word_of(service: &Service) -> Reason {
    let slow = service.instances.iter().any(|instance| instance.vitals.slow);
    if slow { Reason::Slow } else { Reason::LowScore }
}

/// What is held against it, an instance a line, where anything still is; no number that wobbles.
pub(super) fn why(service: &Service) -> Vec<String> {
    let several = service.instances.len() > 1;
    let complaints = service.instances.iter().enumerate().filter_map(|(at, instance)| {
        let complaint = instance.vitals.complaint(missed(instance).as_ref());
        match (complaint.is_empty(), several) {
            (true, _) => None,
            (false, true) => Some(format!("{}: {complaint}", service.instance_name(at))),
            (false, false) => Some(complaint),
        }
    });
    complaints.take(5).collect()
}

/// The probe of a running instance that fails.
pub(super) fn missed(instance: &Instance) -> Option<Missed<'_>> {
    checks_of(instance)?.missed(instance.life.spec()?)
}

fn checks_of(instance: &Instance) -> Option<&super::checks::Checks> {
    instance.life.running().map(|running| &running.checks)
}

/// What is known of an instance; none where nothing has been judged yet, or nothing is expected.
fn observed(instance: &Instance, now: Duration) -> Option<Observed> {
    let of = |lives: bool, failures: u32| Observed {
        lives,
        failures,
        restarts: instance.vitals.recent(now),
        // Nobody counts requests before there is a mesh.
        errors: 0.0,
        slow: instance.vitals.slow,
    };
    match &instance.life {
        Life::Running(running) if running.was_ready && running.checks.is_checked() => {
            Some(of(true, running.checks.failures()))
        }
        Life::Stopping(stopping) => match stopping.cause {
            Cause::Ended => Some(of(false, 0)),
            Cause::Unwanted
            | Cause::Replaced
            | Cause::Told
            | Cause::CheckFailed(_)
            | Cause::Mismatched(_)
            | Cause::DependencyLost(_) => None,
        },
        Life::BackOff(wait) => match wait.kind {
            Setback::Ended | Setback::NotSpawned(_) | Setback::HookFailed => Some(of(false, 0)),
            // It cannot run here: that is no sign of how well it is.
            Setback::Missing(_) | Setback::NeedLost => None,
        },
        Life::Finished(finished) => match finished.outcome {
            Outcome::Failed(..) => Some(of(false, 0)),
            Outcome::Completed => None,
        },
        Life::Idle | Life::Preparing(_) | Life::Starting(_) | Life::Running(_) => None,
    }
}

/// It runs on demand and has ended well by itself: so do servers that leave when they are idle.
fn has_left(instance: &Instance, rules: &Spec) -> bool {
    let well = |status: i32| End::Status(status).is_success(&rules.restart);
    match &instance.life {
        Life::Stopping(stopping) if stopping.cause == Cause::Ended => {
            stopping.exit.as_ref().is_some_and(|exit| well(exit.status()))
        }
        Life::BackOff(wait) if wait.kind == Setback::Ended && instance.ladder.failed_starts == 0 => {
            instance.last_exit.as_ref().is_some_and(|last| well(last.exit().status()))
        }
        Life::Idle
        | Life::Preparing(_)
        | Life::Starting(_)
        | Life::Running(_)
        | Life::Stopping(_)
        | Life::BackOff(_)
        | Life::Finished(_) => false,
    }
}

fn has_checks(spec: &Spec) -> bool {
    let counts = |check: &Check| !matches!(check, Check::Later(_));
    let written = [spec.startup_probe.as_ref(), spec.liveness_probe.as_ref()];
    readiness_of(spec).is_some() || written.into_iter().flatten().any(|probe| counts(&probe.check))
}

/// Whether it is expected to serve now.
fn is_meant(service: &Service) -> bool {
    let over = |instance: &Instance| instance.life.is_completed();
    match service.gate {
        _ if service.schedule().is_some() && service.runs().next().is_none() => false,
        _ if service.is_asleep() => false,
        Gate::Open | Gate::Waiting(_) | Gate::Cycle | Gate::NeverValid => {
            service.desired() > 0 && (service.instances.is_empty() || !service.instances.iter().all(over))
        }
        // What runs goes on, whatever became of its wrapper.
        Gate::Missing => service.is_occupied() || service.required(),
        // Nobody asked for that it is lost.
        Gate::NeedsUser | Gate::DependencyLost(_) => true,
        Gate::Unknown
        | Gate::Gone
        | Gate::Disabled
        | Gate::StoppedByOperator
        | Gate::External(_)
        | Gate::ShuttingDown => false,
    }
}
