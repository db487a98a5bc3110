//! One database is gone for ten minutes: who needs it comes back with it, and hammers nobody meanwhile.
//!
//! A small world in virtual time: each app dies soon after its start while the database is away, and is
//! ready a moment after it when it is there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::Probe;
use crate::model::spec::{OnLoss, Readiness, Spec};

const APPS: usize = 50;
const OUTAGE: Duration = Duration::from_secs(600);
/// How long an app takes to notice that the database is away, and to be ready where it is there.
const NOTICES: Duration = Duration::from_millis(120);
const READY: Duration = Duration::from_millis(80);

struct Outage {
    world: World,
    db_there: bool,
    /// The lives of the apps that run, and since when.
    running: BTreeMap<String, (u64, Duration)>,
    /// When each was tried.
    tries: BTreeMap<String, Vec<Duration>>,
    ready: BTreeMap<String, Duration>,
}

fn app(n: usize, dependency: Option<OnLoss>) -> Spec {
    let mut app = spec(&format!("app-{n}"));
    app.readiness = Readiness::Probe(tcp(9000 + n as u16));
    if let Some(on_loss) = dependency {
        app.depends_on = vec![crate::model::spec::Dependency { on_loss, ..needs("db") }];
    }
    app
}

impl Outage {
    fn new(seed: u64, dependency: Option<OnLoss>) -> Outage {
        let mut world = World::with(Config { seed, ..config() });
        let mut db = spec("db");
        db.readiness = Readiness::ImpliedPort(tcp(5432));
        world.declare(db);
        world.spawned("db", 1);
        let db_up = world.verdict("db", 1, ProbeSlot::Readiness, true);
        let (running, tries, ready) = Default::default();
        let mut outage = Outage { world, db_there: true, running, tries, ready };
        outage.take_up(db_up);
        for n in 0..APPS {
            let actions = outage.world.declare(app(n, dependency));
            outage.take_up(actions);
        }
        outage.play(Duration::from_secs(30));
        assert_eq!(outage.ready.len(), APPS, "all are up before it begins");
        outage
    }

    /// What the plan asks for is done at once.
    fn take_up(&mut self, actions: Vec<Action>) {
        let mut open = actions;
        while let Some(action) = open.pop() {
            match action {
                Action::Spawn { life, .. } if life.instance.service.as_str() != "db" => {
                    let name = life.instance.service.to_string();
                    let now = self.world.now.mono;
                    self.tries.entry(name.clone()).or_default().push(now);
                    self.running.insert(name.clone(), (life.life, now));
                    open.extend(self.world.spawned(&name, life.life));
                }
                Action::Signal { life, signal, .. } if life.instance.service.as_str() != "db" => {
                    let name = life.instance.service.to_string();
                    if self.running.get(&name).is_some_and(|(number, _)| *number == life.life) {
                        self.running.remove(&name);
                        self.ready.remove(&name);
                        open.extend(self.world.gone(&name, life.life, Exit::signal(signal)));
                    }
                }
                Action::Probe { life, probe, .. } => {
                    let name = life.instance.service.to_string();
                    let passed = match self.running.get(&name) {
                        Some((_, since)) => self.db_there && self.world.now.mono >= *since + READY,
                        None => name == "db" && self.db_there,
                    };
                    if passed && name != "db" {
                        self.ready.entry(name.clone()).or_insert(self.world.now.mono);
                    }
                    open.extend(self.world.answer(&name, life.life, probe, passed));
                }
                _ => {}
            }
        }
    }

    fn play(&mut self, span: Duration) {
        let end = self.world.now.mono + span;
        while self.world.now.mono < end {
            let actions = self.world.sleep(Duration::from_millis(5));
            self.take_up(actions);
            let now = self.world.now.mono;
            let dying: Vec<(String, u64)> = self
                .running
                .iter()
                .filter(|(_, (_, since))| !self.db_there && now >= *since + NOTICES)
                .map(|(name, (number, _))| (name.clone(), *number))
                .collect();
            for (name, number) in dying {
                self.running.remove(&name);
                self.ready.remove(&name);
                let actions = self.world.crash(&name, number, 1);
                self.take_up(actions);
            }
        }
    }

    /// The database ends, is away for the time, and comes back; gives how long each app took after it.
    fn strike(&mut self) -> Vec<Duration> {
        self.db_there = false;
        self.world.order("db", Order::Stop);
        let actions = self.world.gone("db", 1, Exit::signal(15));
        self.take_up(actions);
        self.play(OUTAGE);
        assert!(self.ready.is_empty(), "nobody is ready without it");
        self.db_there = true;
        let actions = self.world.order("db", Order::Start);
        self.take_up(actions);
        let actions = self.world.spawned("db", 2);
        self.take_up(actions);
        let actions = self.world.verdict("db", 2, ProbeSlot::Readiness, true);
        let back = self.world.now.mono;
        self.take_up(actions);
        self.play(Duration::from_secs(8));
        self.ready.values().map(|at| at.saturating_sub(back)).collect()
    }

    fn never_more_than_one_try_a_second(&self) {
        for (name, tries) in &self.tries {
            let hasty = tries.windows(2).skip(1).find(|pair| pair[1] - pair[0] < Duration::from_millis(800));
            assert_eq!(hasty, None, "{name} hammers");
        }
    }
}

#[test]
fn fifty_that_crash_without_their_database_are_ready_five_seconds_after_it_at_latest() {
    for seed in 1..=3 {
        let mut outage = Outage::new(seed, None);
        let mut took = outage.strike();
        took.sort_unstable();
        assert_eq!(took.len(), APPS, "all are back");
        assert!(took[APPS - 1] <= Duration::from_secs(5), "{took:?}");
        outage.never_more_than_one_try_a_second();
        // Back-off: two minutes of tries every minute, not ten.
        let most = outage.tries.values().map(Vec::len).max().unwrap_or(0);
        assert!(most <= 24, "{most} tries of one app in {OUTAGE:?}");
    }
}

#[test]
fn storms_are_spread_and_do_not_fall_on_what_has_just_come_back() {
    let mut outage = Outage::new(7, None);
    let took = outage.strike();
    let at_once = took.iter().filter(|took| **took < Duration::from_millis(200) + READY).count();
    assert!(at_once <= APPS / 4, "{at_once} of {APPS} in the first 200 ms");
}

#[test]
fn those_that_restart_with_their_database_wait_for_it_and_are_back_with_it() {
    let mut outage = Outage::new(1, Some(OnLoss::Restart));
    let before: usize = outage.tries.values().map(Vec::len).sum();
    let took = outage.strike();
    assert_eq!(took.len(), APPS);
    assert!(took.iter().all(|took| *took <= Duration::from_secs(5)), "{took:?}");
    let after: usize = outage.tries.values().map(Vec::len).sum();
    assert!(after - before <= APPS * 3, "waiting costs no tries: {}", after - before);
}

#[test]
fn those_that_stop_with_their_database_stay_stopped_and_say_what_to_do() {
    let mut outage = Outage::new(1, Some(OnLoss::Stop));
    assert_eq!(outage.strike(), []);
    let view = outage.world.view("app-7");
    assert_eq!((view.status, view.score), (Status::Stopped, None));
    assert!(view.next.as_ref().is_some_and(|next| next.contains("plugd start app-7")), "{:?}", view.next);
}

#[test]
fn one_that_restarts_with_what_it_needs_waits_for_that_and_for_nothing_else_however_often_it_is_lost() {
    let mut world = World::new();
    let mut db = spec("db");
    db.readiness = crate::model::spec::Readiness::Probe(tcp(80));
    world.declare(db);
    world.spawned("db", 1);
    world.verdict("db", 1, ProbeSlot::Readiness, true);
    let app = spec("app");
    let needs = crate::model::spec::Dependency { on_loss: OnLoss::Restart, ..needs("db") };
    world.declare(Spec { depends_on: vec![needs], ..app });
    world.spawned("app", 1);
    for number in 1..6 {
        while world.view("db").ready == 1 {
            world.verdict("db", 1, ProbeSlot::Readiness, false);
        }
        world.gone("app", number, Exit::signal(15));
        assert_eq!(world.status("app"), (Status::Waiting, Some(Reason::DependencyNotReady)));
        assert!(world.view("app").retry_at.is_none());
        let mut actions = Vec::new();
        while world.view("db").ready == 0 {
            actions.extend(world.verdict("db", 1, ProbeSlot::Readiness, true));
        }
        assert!(spawns(&actions, "app", number + 1), "{actions:?}");
        world.spawned("app", number + 1);
        assert_eq!(world.view("app").restarts, number, "which is told");
    }
}

#[test]
fn one_that_restarts_with_what_comes_and_goes_waits_longer_each_time() {
    let mut world = World::new();
    let mut db = spec("db");
    let flaps = Probe { period: Duration::from_secs(1), failure_threshold: 1, ..tcp(80) };
    db.readiness = crate::model::spec::Readiness::Probe(flaps);
    world.declare(db);
    world.spawned("db", 1);
    world.verdict("db", 1, ProbeSlot::Readiness, true);
    let needs = crate::model::spec::Dependency { on_loss: OnLoss::Restart, ..needs("db") };
    world.declare(Spec { depends_on: vec![needs], ..spec("app") });
    world.spawned("app", 1);
    let (mut number, mut is_up) = (1, true);
    let begun = world.now.mono;
    while world.now.mono < begun + Duration::from_secs(60) {
        is_up = !is_up;
        let mut actions = world.verdict("db", 1, ProbeSlot::Readiness, is_up);
        if signals(&actions, "app", 15) {
            actions.extend(world.gone("app", number, Exit::signal(15)));
            let view = world.view("app");
            assert_eq!((view.status, view.reason), (Status::Waiting, Some(Reason::DependencyNotReady)));
            assert!(view.retry_at.is_none(), "it waits for db");
        }
        if spawns(&actions, "app", number + 1) {
            number += 1;
            world.spawned("app", number);
        }
    }
    assert!((4..=9).contains(&number), "{number} lives in a minute");
}
