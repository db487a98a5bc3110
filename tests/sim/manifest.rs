//! The manifests of a world: what a file says is drawn from the seed, its service and its salt.

use std::time::Duration;

use plugd::controller::testing::{declare, name, needs, spec, tcp};
use plugd::controller::*;
use plugd::model::cron::Cron;
use plugd::model::name::Name;
use plugd::model::reason::Reason;
use plugd::model::spec::*;
use plugd::model::zone::Zone;
use plugd::policy::random::Random;

use crate::stimulus::SERVICES;

/// A manifest in the directory.
#[derive(Clone)]
pub struct File {
    pub declaration: Declaration,
    pub spoiled: bool,
    pub wrapper: bool,
    pub salt: u32,
    pub label: u32,
}

impl File {
    pub fn drawn(seed: u64, service: u8, salt: u32, label: u32) -> File {
        let mut dice = Dice(draw(seed, u64::from(service) << 40 | u64::from(salt), 77), seed);
        let mut spec = spec(service_name(service).as_str());
        spec.labels.insert("label".into(), label.to_string());
        spec.process.args = vec![salt.to_string()];
        spec.stop.grace_period = Duration::from_secs(dice.roll(10));
        let port = 1_000 + u16::from(service);
        match dice.roll(10) {
            0 | 1 => spec.readiness = Readiness::ImpliedPort(tcp(port)),
            2 => {
                spec.readiness = Readiness::Probe(tcp(port));
                spec.startup_probe = Some(Probe { failure_threshold: 30, ..tcp(1) });
                spec.liveness_probe = Some(tcp(2));
            }
            3 => spec.readiness = Readiness::Probe(passive(Check::Notify)),
            4 => {
                spec.readiness = Readiness::Probe(passive(Check::Notify));
                spec.liveness_probe = Some(passive(Check::Notify));
            }
            5 => spec.readiness = Readiness::Probe(passive(Check::Fd(3))),
            6 => {
                spec.readiness = Readiness::Probe(Probe { success_threshold: 2, failure_threshold: 1, ..tcp(port) });
            }
            7 => spec.liveness_probe = Some(tcp(2)),
            _ => {}
        }
        if label % 3 == 2
            && let Readiness::Probe(probe) | Readiness::ImpliedPort(probe) = &mut spec.readiness
        {
            probe.period = Duration::from_secs(4);
        }
        spec.replicas = [1, 1, 1, 2, 3, 0][dice.roll(6) as usize];
        spec.restart.policy = match dice.roll(16) {
            0 | 1 => RestartPolicy::Never,
            2 | 3 => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        };
        if dice.one_in(10) {
            spec.restart.limit = Some(RestartLimit { max: 3, within: Duration::from_secs(120) });
        }
        spec.lifecycle.pre_start = dice.one_in(6).then(|| vec!["x".into()]);
        spec.lifecycle.pre_stop = dice.one_in(6).then(|| vec!["x".into()]);
        spec.process.selfcheck = dice.one_in(9);
        spec.enabled = !dice.one_in(12);
        spec.required = dice.one_in(3);
        let other = dice.roll(u64::from(SERVICES)) as u8;
        let tie = dice.roll(10);
        if tie < 5 && other != service {
            let mut dependency = needs(service_name(other).as_str());
            dependency.optional = tie == 1;
            dependency.on_loss =
                [OnLoss::Ignore, OnLoss::Ignore, OnLoss::Restart, OnLoss::Stop, OnLoss::Ignore][tie as usize];
            if tie == 4 {
                dependency.condition = if dice.one_in(2) { Condition::Started } else { Condition::Completed };
            }
            spec.depends_on.push(dependency);
        }
        // The same process, edited in what it depends on.
        let other = draw(seed, u64::from(service), u64::from(label)) % u64::from(SERVICES);
        if label % 4 == 3 && other != u64::from(service) {
            spec.depends_on = vec![needs(service_name(other as u8).as_str())];
        }
        if dice.one_in(2) {
            spec.process.counted = true;
            spec.resources.limits.pids = Some(u64::from(label) + 10);
        }
        if dice.one_in(4) {
            schedule(&mut spec, &mut dice);
        } else if dice.one_in(3) {
            let idle_stop = [None, Some(Duration::from_secs(2)), Some(Duration::from_secs(40))];
            spec.process.port = Some(port);
            spec.process.on_demand = Some(Pass::Proxy);
            spec.activation = Some(Activation {
                idle_stop: idle_stop[dice.roll(3) as usize],
                hold_requests: Duration::from_secs(30),
            });
        }
        File { declaration: declare(spec), spoiled: false, wrapper: true, salt, label }
    }

    pub fn declared(&self) -> Declaration {
        let mut declaration = self.declaration.clone();
        if !self.wrapper {
            declaration.program = Resolved::Missing {
                reason: Reason::WrapperNotFound,
                message: "no wrapper".into(),
                tried: vec!["here".into()],
            };
        }
        declaration
    }

    pub fn rejection(&self) -> Rejection {
        Rejection {
            name: self.declaration.spec.name.clone(),
            source: Source { file: "x.yaml".into(), sha256: "00".into() },
            reason: Reason::ConfigInvalid,
            message: "x.yaml:1:1: no".into(),
            file: "x.yaml".into(),
            required: false,
        }
    }
}

/// It runs by the clock.
fn schedule(spec: &mut Spec, dice: &mut Dice) {
    let times = ["* * * * *", "* * * * *", "*/2 * * * *", "0,7,9 * * * *", "*/5 0-12 * * *", "30 2 * * *"];
    let zones = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"];
    spec.schedule = Some(Schedule {
        cron: Cron::parse(times[dice.roll(6) as usize]).expect("a schedule"),
        time_zone: Zone::find(zones[dice.roll(3) as usize]).expect("a zone"),
        concurrency_policy: [Concurrency::Forbid, Concurrency::Replace, Concurrency::Allow][dice.roll(3) as usize],
        starting_deadline: [None, Some(Duration::from_secs(40)), Some(Duration::from_secs(7_200))]
            [dice.roll(3) as usize],
        history_limit: [3, 3, 1, 0][dice.roll(4) as usize],
    });
    spec.replicas = 1;
    if spec.restart.policy == RestartPolicy::Always {
        spec.restart.policy = RestartPolicy::Never;
    }
}

fn passive(check: Check) -> Probe {
    Probe { check, ..tcp(1) }
}

pub fn service_name(service: u8) -> Name {
    name(&format!("s{service}"))
}

/// A number that leaving out a stimulus does not change.
pub fn draw(seed: u64, a: u64, b: u64) -> u64 {
    let mut random = Random::seeded(seed ^ a.wrapping_mul(0x9e37) ^ b.rotate_left(32));
    random.bits();
    random.bits() >> 1
}

struct Dice(u64, u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        let rolled = self.0 % sides;
        self.0 = draw(self.1, self.0, sides);
        rolled
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}
