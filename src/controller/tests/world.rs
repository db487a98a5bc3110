//! A small world for the rules: one controller and a clock that only moves when it is told to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::{LifeId, Name};
use crate::model::reason::{Reason, Status};
use crate::model::spec::Spec;
use crate::model::time::Now;
use crate::model::view::ServiceView;

pub struct World {
    pub controller: Controller,
    pub now: Now,
    /// Checks that were asked for and not answered.
    asked: BTreeSet<(LifeId, ProbeSlot)>,
    /// What plugd listens for, of whatever has a door.
    doors: BTreeSet<Name>,
    /// Doors open no more by themselves.
    pub doors_stay: bool,
}

pub fn config() -> Config {
    Config {
        asked_max: 4,
        max_starting: None,
        shutdown_timeout: None,
        exit_on_required: None,
        require_user: false,
        warn_root: false,
        takes_over: false,
        single: false,
        pid1: false,
        started: start(),
        seed: 1,
        log_dir: None,
        kill_scope: None,
    }
}

pub fn start() -> Now {
    Now {
        mono: Duration::from_secs(1_000),
        wall: Timestamp::from_second(1_795_000_000).expect("a moment of this century"),
    }
}

impl World {
    pub fn new() -> World {
        World::with(config())
    }

    pub fn with(config: Config) -> World {
        let mut world = World::unread(config, start());
        world.tell(Input::Scanned);
        world
    }

    /// A controller that has just been started and has read nothing.
    pub fn unread(config: Config, now: Now) -> World {
        World {
            controller: Controller::new(config),
            now,
            asked: BTreeSet::new(),
            doors: BTreeSet::new(),
            doors_stay: false,
        }
    }

    /// A world in which this service runs its first life.
    pub fn running(spec: Spec) -> World {
        let mut world = World::new();
        let name = spec.name.to_string();
        world.declare(spec);
        world.spawned(&name, 1);
        world
    }

    pub fn decide(&mut self) -> Vec<Action> {
        let mut actions = self.controller.decide(self.now).actions;
        for action in &actions {
            if let Action::Probe { life, probe, .. } = action {
                self.asked.insert((life.clone(), *probe));
            }
        }
        let doors = self.turned_doors(&actions);
        if !doors.is_empty() {
            doors.into_iter().for_each(|door| self.controller.absorb(door, self.now));
            actions.extend(self.decide());
        }
        actions
    }

    /// As the edge opens and shuts them.
    fn turned_doors(&mut self, actions: &[Action]) -> Vec<Input> {
        let mut told = Vec::new();
        for action in actions.iter().filter(|_| !self.doors_stay) {
            let Action::Announce(name) = action else { continue };
            let listens = self.controller.view(name).is_some_and(|view| is_listened_for(&view));
            let turned = if listens { self.doors.insert(name.clone()) } else { self.doors.remove(name) };
            told.extend(turned.then(|| Input::Door { name: name.clone(), listens }));
        }
        told
    }

    pub fn tell(&mut self, input: Input) -> Vec<Action> {
        self.controller.absorb(input, self.now);
        self.decide()
    }

    pub fn declare(&mut self, spec: Spec) -> Vec<Action> {
        self.tell(Input::Declared(declare(spec)))
    }

    /// What its file says now is no manifest.
    pub fn refuse(&mut self, service: &str, message: &str) -> Vec<Action> {
        let file = format!("{service}.yaml");
        self.tell(Input::Rejected(Rejection {
            name: name(service),
            source: Source { file: file.clone(), sha256: "41c0".into() },
            reason: Reason::ConfigInvalid,
            message: message.into(),
            file,
            required: false,
        }))
    }

    pub fn spawned(&mut self, service: &str, number: u64) -> Vec<Action> {
        self.tell(Input::Spawned { life: life(service, number), pid: 100 + number as i32, start_time: 7 })
    }

    /// It exits and nothing is left of it.
    pub fn gone(&mut self, service: &str, number: u64, exit: Exit) -> Vec<Action> {
        let mut actions = self.tell(Input::Exited { life: life(service, number), exit });
        actions.extend(self.tell(Input::Surveyed { life: life(service, number), left: vec![] }));
        actions
    }

    pub fn crash(&mut self, service: &str, number: u64, code: i32) -> Vec<Action> {
        self.gone(service, number, Exit::code(code))
    }

    /// The answer of a check, once it is asked for.
    pub fn verdict(&mut self, service: &str, number: u64, probe: ProbeSlot, passed: bool) -> Vec<Action> {
        let mut actions = self.until_asked(service, number, probe);
        actions.extend(self.answer(service, number, probe, passed));
        actions
    }

    /// An answer now, asked for or not.
    pub fn answer(&mut self, service: &str, number: u64, probe: ProbeSlot, passed: bool) -> Vec<Action> {
        let message = if passed { "tcp 127.0.0.1:80 passed" } else { "tcp 127.0.0.1:80 refused" };
        let verdict = Verdict { passed, message: message.into(), reason: None, took: Duration::ZERO };
        self.answer_with(service, number, probe, verdict)
    }

    pub fn answer_with(&mut self, service: &str, number: u64, probe: ProbeSlot, verdict: Verdict) -> Vec<Action> {
        self.asked.remove(&(life(service, number), probe));
        self.tell(Input::Verdict { life: life(service, number), probe, verdict })
    }

    /// Lets time pass until a check is asked for.
    pub fn until_asked(&mut self, service: &str, number: u64, probe: ProbeSlot) -> Vec<Action> {
        self.until_asked_of(&life(service, number), probe)
    }

    pub fn until_asked_of(&mut self, life: &LifeId, probe: ProbeSlot) -> Vec<Action> {
        let mut actions = Vec::new();
        while !self.asked.contains(&(life.clone(), probe)) {
            let at = self.controller.next_deadline().expect("a check that is due some time");
            self.move_to(at);
            actions.extend(self.decide());
        }
        actions
    }

    /// Whether a check that was asked for awaits its answer.
    pub fn is_asked(&self, service: &str, number: u64, probe: ProbeSlot) -> bool {
        self.asked.contains(&(life(service, number), probe))
    }

    /// The loop stands still: no deadline on the way is kept.
    pub fn be_late(&mut self, span: Duration) -> Vec<Action> {
        self.now = Now { wall: self.now.wall_at(self.now.mono + span), mono: self.now.mono + span };
        self.decide()
    }

    pub fn notify(&mut self, service: &str, number: u64, message: Notification) -> Vec<Action> {
        self.tell(Input::Notified { life: life(service, number), message })
    }

    /// How often somebody has to wake up for it within a span.
    pub fn wake_ups(&mut self, span: Duration) -> usize {
        let end = self.now.mono + span;
        let mut count = 0;
        while let Some(at) = self.controller.next_deadline().filter(|&at| at <= end) {
            self.move_to(at);
            self.decide();
            count += 1;
        }
        self.move_to(end);
        count
    }

    pub fn order(&mut self, service: &str, order: Order) -> Vec<Action> {
        self.tell(Input::Order { name: name(service), order })
    }

    /// Lets time pass; decides at each deadline on the way.
    pub fn sleep(&mut self, span: Duration) -> Vec<Action> {
        let end = self.now.mono + span;
        let mut actions = Vec::new();
        while let Some(at) = self.controller.next_deadline().filter(|&at| at <= end) {
            self.move_to(at);
            actions.extend(self.decide());
        }
        self.move_to(end);
        actions.extend(self.decide());
        actions
    }

    fn move_to(&mut self, mono: Duration) {
        assert!(mono >= self.now.mono, "a deadline in the past was left standing");
        self.now = Now { wall: self.now.wall_at(mono), mono };
    }

    pub fn view(&self, service: &str) -> Arc<ServiceView> {
        self.controller.view(&name(service)).expect("a view of a known service")
    }

    pub fn status(&self, service: &str) -> (Status, Option<Reason>) {
        let view = self.view(service);
        (view.status, view.reason)
    }
}

/// Carries out an edit: tried and found good.
pub fn try_well(world: &mut World, spec: Spec) -> Vec<Action> {
    let service = spec.name.to_string();
    let mut actions = world.declare(spec);
    let key = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    if let Some(digest) = key {
        actions.extend(world.tell(Input::Tried { name: name(&service), digest, result: Ok(()) }));
    }
    actions
}

pub fn spawns(actions: &[Action], service: &str, number: u64) -> bool {
    actions.iter().any(|action| matches!(action, Action::Spawn { life: of, .. } if *of == life(service, number)))
}

pub fn signals(actions: &[Action], service: &str, signal: i32) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Signal { life, signal: sent, .. } if life.instance.service == name(service) && *sent == signal)
    })
}

pub fn probes(actions: &[Action], slot: ProbeSlot) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Probe { probe, .. } if *probe == slot)).count()
}
