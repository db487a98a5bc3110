//! Fake processes under a fake keeper: what a life does is drawn from the seed and its number.

use std::time::Duration;

use plugd::controller::*;
use plugd::model::name::LifeId;
use plugd::model::reason::Reason;
use plugd::model::spec::*;

use crate::manifest::draw;
use crate::world::{Event, World};

/// A life in the keeper's table.
pub struct Entry {
    pub pid: i32,
    pub spawned: Duration,
    pub main: bool,
    pub children: u8,
    pub stubborn: bool,
    pub ready_after: Option<Duration>,
    /// It answers nothing from then on.
    pub hung: Option<Duration>,
    /// Every second check of it fails.
    pub flaps: bool,
    /// How long a check of it takes.
    pub takes: Duration,
    checked: u32,
    pub exit: Option<Exit>,
    pub ended: Duration,
    pub blob: Vec<u8>,
    /// The controller was told of its exit.
    pub told: bool,
    /// What it was made from.
    pub print: Digest,
    pub spec: std::sync::Arc<Spec>,
    /// What it may use now.
    pub resources: Resources,
    /// The keeper holds that it is being stopped.
    pub doomed: bool,
}

impl Entry {
    pub fn left(&self) -> Vec<Leftover> {
        let main = self.main.then(|| Leftover { pid: self.pid, command: "main".into(), held: None });
        let children = (0..i32::from(self.children)).map(|n| Leftover { pid: -n, command: "child".into(), held: None });
        main.into_iter().chain(children).collect()
    }

    pub fn lives(&self) -> bool {
        self.main || self.children > 0
    }

    fn answers(&self, now: Duration) -> bool {
        self.main
            && self.ready_after.is_some_and(|after| now >= self.spawned + after)
            && self.hung.is_none_or(|hung| now < hung)
    }
}

/// A hook that runs beside a life.
pub struct HookRun {
    pub number: u64,
}

/// A spawn on its way to the keeper.
pub struct Preparation {
    spec: std::sync::Arc<Spec>,
    blob: Vec<u8>,
    /// That it is held up may be told from then on.
    told: Duration,
}

/// The edge tells what takes longer.
const HELD_UP: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// Mostly at once, sometimes after a moment, and now and then a path of it does not answer for a while.
    pub fn prepare(&mut self, life: LifeId, spec: std::sync::Arc<Spec>, blob: Vec<u8>) -> Result<(), String> {
        let index = u64::from(spec.name.as_str().as_bytes()[1] - b'0');
        let draw = draw(self.seed, index << 8 | 0x70, life.life << 8 | u64::from(life.instance.index));
        let takes = match draw % 16 {
            0 if !self.calm => Duration::from_millis(draw / 16 % 12_000),
            1..4 => Duration::from_micros(draw / 16 % 5_000),
            _ => return self.spawn(life, spec, blob),
        };
        if takes > HELD_UP {
            self.later(HELD_UP, Event::HeldUp(life.clone()));
        }
        self.later(takes, Event::Prepared(life.clone()));
        self.preparing.insert(life, Preparation { spec, blob, told: self.now.mono + HELD_UP });
        Ok(())
    }

    pub fn prepared(&mut self, life: LifeId) -> Result<(), String> {
        let Some(Preparation { spec, blob, told }) = self.preparing.remove(&life) else { return Ok(()) };
        if told <= self.now.mono {
            self.tell(Input::HeldUp { life: life.clone(), why: None })?;
        }
        self.spawn(life, spec, blob)
    }

    pub fn spawn(&mut self, life: LifeId, spec: std::sync::Arc<Spec>, blob: Vec<u8>) -> Result<(), String> {
        if self.entries.contains_key(&life) {
            return Err(format!("law 1: {life} was spawned twice"));
        }
        let salt: u64 = spec.process.args.first().and_then(|salt| salt.parse().ok()).unwrap_or(0);
        let index = u64::from(spec.name.as_str().as_bytes()[1] - b'0');
        let draw = draw(self.seed, index << 32 | salt, life.life << 8 | u64::from(life.instance.index));
        if !self.calm && draw.is_multiple_of(11) {
            let reason = if draw.is_multiple_of(2) { Reason::ProgramNotFound } else { Reason::ResourceExhausted };
            self.answer(Input::SpawnFailed { life, reason, message: "no".into() });
            return Ok(());
        }
        self.next_pid += 1;
        let (pid, spawned) = (self.next_pid, self.now.mono);
        let ready_after = match draw / 11 % 8 {
            0 if !self.calm => None,
            other => Some(Duration::from_millis(other * other * 20)),
        };
        let entry = Entry {
            pid,
            spawned,
            main: true,
            children: if (draw / 88).is_multiple_of(4) { 2 } else { 0 },
            stubborn: (draw / 352).is_multiple_of(5),
            ready_after,
            hung: None,
            flaps: false,
            takes: Duration::from_millis(draw % 7),
            checked: 0,
            exit: None,
            ended: spawned,
            blob,
            told: false,
            print: spec.process_digest,
            spec: spec.clone(),
            resources: spec.resources.clone(),
            doomed: false,
        };
        self.entries.insert(life.clone(), entry);
        self.answer(Input::Spawned { life: life.clone(), pid, start_time: 1 });
        // One of several comes again and again while somebody is connected to another.
        let several = self.facts.wishes.get(&life.instance.service).is_some_and(|wish| wish.most() > 1);
        let stays = self.calm && several && spec.activation.is_some();
        let job = spec.restart.policy == RestartPolicy::Never && !stays;
        let dies = if job { Some(0) } else { Some(draw / 1760 % 6).filter(|_| !self.calm) };
        let after = Duration::from_millis(draw / 10560 % 4_000);
        // One on demand that leaves before it was ready has failed to start: that is a fault like others.
        let at_least = ready_after.filter(|_| self.calm && spec.activation.is_some()).map(|ready| ready * 2 + SECOND);
        let after = at_least.map_or(after, |least| after.max(least));
        let (dies, after) = match (&spec.schedule, draw / 7 % 8) {
            (None, _) => (dies, after),
            // Runs: most are short and end well, some go on beyond the next time, some fail.
            (Some(_), 0..4) => (Some(0), after),
            (Some(_), 4) => (Some(0), after * 50),
            (Some(_), 5) if !self.calm => (Some(1), after * 50),
            (Some(_), 6) if !self.calm => (None, after),
            (Some(_), _) => (Some(0), after * 5),
        };
        match dies {
            Some(0) => self.later(after, Event::MainEnds(life.clone(), Exit::code(0))),
            Some(1) => self.later(after / 100, Event::MainEnds(life.clone(), Exit::code(1))),
            Some(2) => self.later(after, Event::MainEnds(life.clone(), Exit::code(127))),
            Some(3) => self.later(after * 20, Event::MainEnds(life.clone(), Exit::signal(11))),
            _ => {}
        }
        if let Some(after) = ready_after {
            // It is told of before it can say anything.
            self.later(after + Duration::from_millis(3), Event::Says(life));
        }
        Ok(())
    }

    /// What a life says by itself: that it is ready, and then that it lives.
    pub fn says(&mut self, life: LifeId) {
        let now = self.now.mono;
        let Some(entry) = self.entries.get(&life).filter(|entry| entry.main) else { return };
        if !entry.answers(now) {
            return;
        }
        let spec = entry.spec.clone();
        let first = entry.ready_after.is_some_and(|after| now < entry.spawned + after + Duration::from_secs(1));
        let is = |probe: Option<&Probe>, check: &Check| probe.is_some_and(|probe| probe.check == *check);
        if first && is(spec.readiness.probe(), &Check::Fd(3)) {
            let verdict = Verdict { passed: true, message: "a newline".into(), reason: None, took: Duration::ZERO };
            self.answer(Input::Verdict { life: life.clone(), probe: ProbeSlot::Readiness, verdict });
        }
        if is(spec.readiness.probe(), &Check::Notify) {
            let watchdog = is(spec.liveness_probe.as_ref(), &Check::Notify);
            let message = Notification { ready: true, watchdog, ..Notification::default() };
            self.answer(Input::Notified { life: life.clone(), message });
            self.later(Duration::from_secs(7), Event::Says(life));
        }
    }

    pub fn signal(&mut self, life: &LifeId, signal: i32, to: Target) {
        let kill = signal == 9;
        if kill && to == Target::Tree {
            self.end_hooks(life);
        }
        let delay = Duration::from_micros(200 + self.random.below(3_000));
        let Some(entry) = self.entries.get_mut(life) else { return };
        let obeys = kill || !entry.stubborn;
        let main = entry.main;
        if obeys && main {
            self.later(delay, Event::MainEnds(life.clone(), Exit::signal(signal)));
        }
        if obeys && to == Target::Tree {
            self.later(delay, Event::ChildrenEnd(life.clone()));
        }
    }

    pub fn run_hook(&mut self, life: LifeId, hook: Hook, limit: Duration) {
        let draw = draw(self.seed, life.life << 8 | u64::from(life.instance.index), hook as u64);
        let good = self.calm || !draw.is_multiple_of(4);
        let result = if good { Ok(()) } else { Err((Reason::Error, "no".into())) };
        let hangs = !self.calm && (draw / 4).is_multiple_of(8);
        let asks = Duration::from_millis(draw / 32 % 3_000);
        let takes = if hangs { limit } else { asks.min(limit) };
        self.next_hook += 1;
        let number = self.next_hook;
        self.hooks.insert((life.clone(), hook), HookRun { number });
        self.later(takes, Event::HookEnds(life, hook, number, result));
    }

    /// As the edge does: whatever runs beside this life is killed.
    pub fn end_hooks(&mut self, life: &LifeId) {
        if self.lie != Some(crate::lie::Lie::HooksRunOn) {
            self.hooks.retain(|(of, _), _| of != life);
        }
    }

    pub fn probe(&mut self, life: LifeId, probe: ProbeSlot) {
        let now = self.now.mono;
        let calm = self.calm;
        let (mut passed, mut took) = (false, Duration::ZERO);
        if let Some(entry) = self.entries.get_mut(&life) {
            entry.checked += 1;
            passed = entry.answers(now) && (calm || !entry.flaps || entry.checked.is_multiple_of(2));
            took = entry.takes;
        }
        let flaky = !self.calm && self.random.below(20) == 0;
        let reason = (!passed && self.seed.is_multiple_of(5)).then_some(Reason::AddressInUse);
        let message = if passed { "tcp passed" } else { "tcp refused" };
        let verdict = Verdict { passed: passed && !flaky, message: message.into(), reason, took };
        let input = Input::Verdict { life, probe, verdict };
        match self.random.below(40) {
            // Lost on the way, or long after its timeout.
            0 if !self.calm => {}
            1 if !self.calm => {
                let late = Duration::from_millis(self.random.below(20_000));
                self.later(late, Event::Tell(input));
            }
            _ => self.answer(input),
        }
    }
}
