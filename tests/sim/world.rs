//! A world of fake processes under a fake keeper, with virtual time.
//!
//! What a process does is drawn from the seed and its life, so that leaving out a stimulus does not
//! change the others. Answers take a moment, come out of order, and sometimes twice.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use jiff::Timestamp;
use plugd::controller::testing::{declare, name, needs, spec, tcp};
use plugd::controller::*;
use plugd::model::name::{LifeId, Name};
use plugd::model::reason::Reason;
use plugd::model::spec::*;
use plugd::model::time::Now;
use plugd::policy::random::Random;

use crate::laws::Laws;
use crate::stimulus::{Act, SERVICES, Stimulus};

pub struct World {
    seed: u64,
    pub now: Now,
    pub controller: Controller,
    pub files: BTreeMap<u8, File>,
    pub entries: BTreeMap<LifeId, Entry>,
    pub memory: BTreeMap<Name, Memory>,
    pub views: BTreeMap<Name, std::sync::Arc<plugd::model::view::ServiceView>>,
    events: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    payload: Vec<Option<Event>>,
    sequence: u64,
    random: Random,
    pub laws: Laws,
    pub steps: u64,
    next_pid: i32,
    /// No more faults: what starts now works.
    pub calm: bool,
    pub left: Option<i32>,
    pub lost: bool,
    pub scanned: bool,
    trace: bool,
    pub ending: bool,
}

/// A manifest in the directory.
#[derive(Clone)]
pub struct File {
    pub declaration: Declaration,
    pub spoiled: bool,
    pub wrapper: bool,
    pub salt: u32,
    pub label: u32,
}

/// A life in the keeper's table.
pub struct Entry {
    pub pid: i32,
    pub spawned: Duration,
    pub main: bool,
    pub children: u8,
    pub stubborn: bool,
    pub ready_after: Option<Duration>,
    pub exit: Option<Exit>,
    pub ended: Duration,
    pub blob: Vec<u8>,
    /// The controller was told of its exit.
    pub told: bool,
}

enum Event {
    Tell(Input),
    MainEnds(LifeId, Exit),
    ChildrenEnd(LifeId),
    Survey(LifeId),
}

fn config(seed: u64, started: Now) -> Config {
    Config {
        cores: 2,
        max_starting: seed.is_multiple_of(7).then_some(2),
        shutdown_timeout: seed.is_multiple_of(3).then_some(Duration::from_secs(8)),
        exit_on_required: None,
        require_user: false,
        warn_root: seed.is_multiple_of(2),
        single: false,
        pid1: false,
        started,
        seed,
        log_dir: None,
        kill_scope: None,
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let now = Now {
            mono: Duration::from_secs(1_000),
            wall: Timestamp::from_second(1_795_000_000).expect("this century"),
        };
        let mut world = World {
            seed,
            now,
            controller: Controller::new(config(seed, now)),
            files: BTreeMap::new(),
            entries: BTreeMap::new(),
            memory: BTreeMap::new(),
            views: BTreeMap::new(),
            events: BinaryHeap::new(),
            payload: Vec::new(),
            sequence: 0,
            random: Random::seeded(seed),
            laws: Laws::default(),
            steps: 0,
            next_pid: 100,
            calm: false,
            left: None,
            lost: false,
            scanned: true,
            trace: std::env::var_os("PLUGD_TRACE").is_some(),
            ending: false,
        };
        world.controller.absorb(Input::Scanned, now);
        world
    }

    pub fn play(&mut self, stimuli: &[Stimulus]) -> Result<(), String> {
        self.settle()?;
        for stimulus in stimuli {
            let at = self.now.mono + stimulus.after;
            self.run_until(at)?;
            self.act(&stimulus.act)?;
        }
        self.find_directory()?;
        for service in 0..SERVICES {
            if let Some(file) = self.files.get_mut(&service) {
                file.wrapper = true;
                let declaration = file.declared();
                if !file.spoiled {
                    self.tell(Input::Declared(declaration))?;
                }
            }
        }
        self.calm = true;
        for entry in self.entries.values_mut() {
            entry.ready_after = Some(Duration::ZERO);
        }
        // The cap of the ladder, a preStart, graces, and a stuck stop.
        self.run_until(self.now.mono + Duration::from_secs(600))?;
        crate::laws::converged(self)?;
        self.ending = true;
        self.tell(Input::Shutdown(Shutdown::Ordered))?;
        self.run_until(self.now.mono + Duration::from_secs(600))?;
        match self.left {
            Some(0) => Ok(()),
            other => Err(format!("law 6: the node was told to stop and left with {other:?}")),
        }
    }

    /// Runs until nothing is left to do before `end`.
    fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while self.left.is_none() {
            let event = self.events.peek().map(|Reverse((at, _, _))| *at);
            let deadline = self.controller.next_deadline();
            let Some(next) = event.into_iter().chain(deadline).min().filter(|&at| at <= end) else { break };
            self.move_to(next.max(self.now.mono));
            if event == Some(next) {
                let Some(Reverse((_, _, slot))) = self.events.pop() else { break };
                if let Some(event) = self.payload[slot].take() {
                    self.happen(event)?;
                }
            } else {
                self.settle()?;
            }
        }
        self.move_to(end);
        Ok(())
    }

    fn move_to(&mut self, mono: Duration) {
        self.now = Now { wall: self.now.wall_at(mono), mono };
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.payload.push(Some(event));
        self.events.push(Reverse((self.now.mono + delay, self.sequence, self.payload.len() - 1)));
    }

    /// An answer: after a moment, and now and then once more.
    fn answer(&mut self, input: Input) {
        let delay = Duration::from_micros(self.random.below(2_000));
        if self.random.below(30) == 0 {
            let again = delay + Duration::from_millis(self.random.below(100));
            self.later(again, Event::Tell(input.clone()));
        }
        self.later(delay, Event::Tell(input));
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tell(input) => self.tell(input),
            Event::MainEnds(life, exit) => {
                let now = self.now.mono;
                if let Some(entry) = self.entries.get_mut(&life).filter(|entry| entry.main) {
                    entry.main = false;
                    entry.exit = Some(exit);
                    entry.ended = now;
                    self.answer(Input::Exited { life: life.clone(), exit });
                    self.answer(Input::Output { life, lines: vec!["last words".into()] });
                }
                Ok(())
            }
            Event::ChildrenEnd(life) => {
                if let Some(entry) = self.entries.get_mut(&life) {
                    entry.children = 0;
                }
                Ok(())
            }
            Event::Survey(life) => {
                let left = self.entries.get(&life).map(Entry::left).unwrap_or_default();
                self.tell(Input::Surveyed { life, left })
            }
        }
    }

    pub fn tell(&mut self, input: Input) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        let spoiled = match &input {
            Input::Rejected(rejection) => Some(rejection.name.clone()),
            _ => None,
        };
        if let Input::Exited { life, .. } = &input
            && let Some(entry) = self.entries.get_mut(life)
        {
            entry.told = true;
        }
        self.laws.hear(&input);
        if self.trace {
            eprintln!("{:?} {input:?}", self.now.mono);
        }
        self.controller.absorb(input, self.now);
        self.decide(spoiled)
    }

    fn settle(&mut self) -> Result<(), String> {
        self.decide(None)
    }

    fn decide(&mut self, spoiled: Option<Name>) -> Result<(), String> {
        self.steps += 1;
        let plan = self.controller.decide(self.now);
        if self.trace {
            for action in &plan.actions {
                eprintln!("    {action:?}");
            }
        }
        crate::laws::plan(self, &plan, spoiled.as_ref())?;
        for action in plan.actions {
            self.carry_out(action)?;
        }
        if self.left.is_none() {
            self.controller.doubt();
            let again = self.controller.decide(self.now);
            if !again.actions.is_empty() {
                for action in &again.actions {
                    if let Action::Announce(name) = action {
                        let (was, is) = (self.views.get(name), self.controller.view(name, self.now));
                        return Err(format!("law 7: it was told\n{was:?}\nand it is\n{is:?}"));
                    }
                }
                return Err(format!("law 5: a second decision was not empty: {:?}", again.actions));
            }
            if let Some(at) = self.controller.next_deadline()
                && at <= self.now.mono
            {
                return Err("law 5: a deadline in the past stands".into());
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Spawn { life, spec, blob, .. } => self.spawn(life, &spec, blob)?,
            Action::SetBlob { life, blob } => {
                if let Some(entry) = self.entries.get_mut(&life) {
                    entry.blob = blob;
                }
            }
            Action::Signal { life, signal, to } => self.signal(&life, signal, to),
            Action::Survey { life } => {
                let delay = Duration::from_micros(50 + self.random.below(500));
                self.later(delay, Event::Survey(life));
            }
            Action::Forget { life } => {
                if let Some(entry) = self.entries.remove(&life)
                    && (entry.main || entry.children > 0)
                {
                    return Err(format!("law 1: {life} was forgotten while something of it lived"));
                }
            }
            Action::Try { name, digest, .. } => {
                let good = self.calm || !self.draw(digest.0[0].into(), digest.0[1].into()).is_multiple_of(4);
                let result = if good { Ok(()) } else { Err((Reason::ProgramNotFound, "no such program".into())) };
                self.answer(Input::Tried { name, digest, result });
            }
            Action::RunHook { life, hook, .. } => {
                let good = self.calm || !self.draw(life.life, hook as u64).is_multiple_of(4);
                let result = if good { Ok(()) } else { Err("no".into()) };
                let delay = Duration::from_millis(self.random.below(3_000));
                self.later(delay, Event::Tell(Input::HookEnded { life, hook, result }));
            }
            Action::Probe { life, probe, .. } => {
                let now = self.now.mono;
                let passed = self.entries.get(&life).is_some_and(|entry| {
                    entry.main && entry.ready_after.is_some_and(|after| now >= entry.spawned + after)
                });
                let flaky = !self.calm && self.random.below(20) == 0;
                let reason = (!passed && self.seed.is_multiple_of(5)).then_some(Reason::AddressInUse);
                let message = if passed { "tcp passed" } else { "tcp refused" };
                let verdict =
                    Verdict { passed: passed && !flaky, message: message.into(), reason, took: Duration::ZERO };
                self.answer(Input::Verdict { life, probe, verdict });
            }
            Action::AwaitPort(port) => {
                let delay = Duration::from_millis(self.random.below(20_000));
                self.later(delay, Event::Tell(Input::PortFree(port)));
            }
            Action::Announce(name) => {
                if let Some(view) = self.controller.view(&name, self.now) {
                    crate::laws::told(self, &view)?;
                    self.views.insert(name, view);
                }
            }
            Action::Retire(name) => {
                self.memory.remove(&name);
                self.views.remove(&name);
                if self.entries.iter().any(|(life, entry)| life.instance.service == name && !entry.left().is_empty()) {
                    return Err(format!("law 1: {name} was retired while something of it lived"));
                }
            }
            Action::Remember(name, memory) => drop(self.memory.insert(name, memory)),
            Action::Exit(code) => self.left = Some(code),
            Action::AnnounceNode | Action::Record(_) => {}
        }
        Ok(())
    }

    fn spawn(&mut self, life: LifeId, spec: &Spec, blob: Vec<u8>) -> Result<(), String> {
        if self.entries.contains_key(&life) {
            return Err(format!("law 1: {life} was spawned twice"));
        }
        let salt = u64::from(spec.process.digest_salt());
        let index = u64::from(spec.name.as_str().as_bytes()[1] - b'0');
        let draw = self.draw(index << 32 | salt, life.life << 8 | u64::from(life.instance.index));
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
            exit: None,
            ended: spawned,
            blob,
            told: false,
        };
        self.entries.insert(life.clone(), entry);
        self.answer(Input::Spawned { life: life.clone(), pid, start_time: 1 });
        let job = spec.restart.policy == RestartPolicy::Never;
        let dies = if job { Some(0) } else { Some(draw / 1760 % 6).filter(|_| !self.calm) };
        let after = Duration::from_millis(draw / 10560 % 4_000);
        match dies {
            Some(0) => self.later(after, Event::MainEnds(life, Exit::code(0))),
            Some(1) => self.later(after / 100, Event::MainEnds(life, Exit::code(1))),
            Some(2) => self.later(after, Event::MainEnds(life, Exit::code(127))),
            Some(3) => self.later(after * 20, Event::MainEnds(life, Exit::signal(11))),
            _ => {}
        }
        Ok(())
    }

    fn signal(&mut self, life: &LifeId, signal: i32, to: Target) {
        let delay = Duration::from_micros(200 + self.random.below(3_000));
        let Some(entry) = self.entries.get(life) else { return };
        let kill = signal == 9;
        let obeys = kill || !entry.stubborn;
        if obeys && entry.main {
            self.later(delay, Event::MainEnds(life.clone(), Exit::signal(signal)));
        }
        if obeys && to == Target::Tree {
            self.later(delay, Event::ChildrenEnd(life.clone()));
        }
    }

    pub fn draw(&self, a: u64, b: u64) -> u64 {
        let mut random = Random::seeded(self.seed ^ a.wrapping_mul(0x9e37) ^ b.rotate_left(32));
        random.bits();
        random.bits() >> 1
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Write(service, salt) => {
                let label = self.files.get(service).map_or(0, |file| file.label);
                let file = self.file(*service, *salt, label);
                self.write(*service, file)
            }
            Act::Relabel(service) => {
                let Some(old) = self.files.get(service) else { return Ok(()) };
                let file = self.file(*service, old.salt, old.label + 1);
                self.write(*service, file)
            }
            Act::Rewrite(service) => {
                let Some(file) = self.files.get(service).cloned() else { return Ok(()) };
                self.write(*service, file)
            }
            Act::Remove(service) => {
                if self.lost || self.files.remove(service).is_none() {
                    return Ok(());
                }
                self.tell(Input::Withdrawn(service_name(*service)))
            }
            Act::Spoil(service) => {
                if self.lost {
                    return Ok(());
                }
                let Some(file) = self.files.get_mut(service) else { return Ok(()) };
                file.spoiled = true;
                let rejection = Rejection {
                    name: service_name(*service),
                    source: Source { file: "x.yaml".into(), sha256: "00".into() },
                    reason: Reason::ConfigInvalid,
                    message: "x.yaml:1:1: no".into(),
                    required: false,
                };
                self.tell(Input::Rejected(rejection))
            }
            Act::WrapperGone(service) | Act::WrapperBack(service) => {
                let back = matches!(act, Act::WrapperBack(_));
                let Some(file) = self.files.get_mut(service).filter(|file| file.wrapper != back) else { return Ok(()) };
                file.wrapper = back;
                let file = file.clone();
                if file.spoiled { Ok(()) } else { self.write(*service, file) }
            }
            Act::Order(service, order) => self.tell(Input::Order { name: service_name(*service), order: *order }),
            Act::Kill(service) => {
                let name = service_name(*service);
                let alive = self.entries.iter().find(|(life, entry)| life.instance.service == name && entry.main);
                if let Some(life) = alive.map(|(life, _)| life.clone()) {
                    self.later(Duration::ZERO, Event::MainEnds(life, Exit::signal(9)));
                }
                Ok(())
            }
            Act::ControllerDies => self.new_controller(),
            Act::DirectoryLost => {
                self.lost = true;
                self.tell(Input::DirectoryLost("gone".into()))
            }
            Act::DirectoryFound => self.find_directory(),
            Act::Nothing => Ok(()),
        }
    }

    fn find_directory(&mut self) -> Result<(), String> {
        self.lost = false;
        self.tell(Input::DirectoryFound)?;
        if !self.scanned {
            self.declare_all()?;
        }
        Ok(())
    }

    fn write(&mut self, service: u8, mut file: File) -> Result<(), String> {
        if self.lost {
            return Ok(());
        }
        file.spoiled = false;
        let declaration = file.declared();
        self.files.insert(service, file);
        self.tell(Input::Declared(declaration))
    }

    fn file(&self, service: u8, salt: u32, label: u32) -> File {
        let draw = self.draw(u64::from(service) << 40 | u64::from(salt), 77);
        let mut spec = spec(service_name(service).as_str());
        spec.labels.insert("label".into(), label.to_string());
        spec.process.args = vec![salt.to_string()];
        spec.stop.grace_period = Duration::from_secs(draw % 10);
        match draw / 10 % 6 {
            0 | 1 => spec.readiness = Readiness::ImpliedPort(tcp(1_000 + u16::from(service))),
            2 => {
                spec.readiness = Readiness::Probe(tcp(1_000 + u16::from(service)));
                spec.startup_probe = Some(Probe { failure_threshold: 30, ..tcp(1) });
                spec.liveness_probe = Some(tcp(2));
            }
            _ => {}
        }
        spec.replicas = [1, 1, 1, 2, 3, 0][(draw / 60 % 6) as usize];
        if (draw / 360).is_multiple_of(8) {
            spec.restart.policy = RestartPolicy::Never;
        }
        if (draw / 2880).is_multiple_of(8) {
            spec.restart.policy = RestartPolicy::OnFailure;
        }
        if (draw / 23040).is_multiple_of(6) {
            spec.lifecycle.pre_start = Some(vec!["x".into()]);
        }
        if (draw / 138240).is_multiple_of(6) {
            spec.lifecycle.pre_stop = Some(vec!["x".into()]);
        }
        spec.enabled = !(draw / 829440).is_multiple_of(12);
        spec.required = (draw / 9953280).is_multiple_of(3);
        let other = (draw / 29859840 % u64::from(SERVICES)) as u8;
        let tie = draw / 179159040 % 10;
        if tie < 5 && other != service {
            let mut dependency = needs(service_name(other).as_str());
            dependency.optional = tie == 1;
            dependency.on_loss =
                [OnLoss::Ignore, OnLoss::Ignore, OnLoss::Restart, OnLoss::Stop, OnLoss::Ignore][tie as usize];
            if tie == 4 {
                dependency.condition = Condition::Started;
            }
            spec.depends_on.push(dependency);
        }
        File { declaration: declare(spec), spoiled: false, wrapper: true, salt, label }
    }

    fn new_controller(&mut self) -> Result<(), String> {
        // What was on its way to the old one is lost, or comes late to the new one.
        for slot in &mut self.payload {
            if let Some(Event::Tell(_) | Event::Survey(_)) = slot
                && self.random.below(4) != 0
            {
                *slot = None;
            }
        }
        self.seed_controller();
        for (name, memory) in self.memory.clone() {
            self.controller.absorb(Input::Remembered(name, memory), self.now);
        }
        let adopted: Vec<Adopted> = self
            .entries
            .iter_mut()
            .map(|(life, entry)| {
                entry.told = entry.exit.is_some();
                let until = if entry.main { self.now.mono } else { entry.ended };
                Adopted {
                    life: life.clone(),
                    pid: entry.pid,
                    start_time: 1,
                    age: until - entry.spawned,
                    exit: entry.exit,
                    blob: entry.blob.clone(),
                }
            })
            .collect();
        for adopted in adopted {
            self.controller.absorb(Input::Adopted(adopted), self.now);
        }
        let completed = std::mem::take(&mut self.laws.completed);
        self.laws = Laws::default();
        self.laws.completed = completed;
        self.scanned = false;
        if self.lost {
            self.controller.absorb(Input::DirectoryLost("gone".into()), self.now);
            self.settle()?;
            return Ok(());
        }
        self.declare_all()
    }

    fn seed_controller(&mut self) {
        self.controller = Controller::new(config(self.seed, self.now));
        self.views.clear();
    }

    fn declare_all(&mut self) -> Result<(), String> {
        self.settle()?;
        for (&service, file) in &self.files.clone() {
            if file.spoiled {
                self.act(&Act::Spoil(service))?;
            } else {
                self.tell(Input::Declared(file.declared()))?;
            }
        }
        self.scanned = true;
        self.tell(Input::Scanned)
    }

    pub fn shutdown_is_unbounded(&self) -> bool {
        config(self.seed, self.now).shutdown_timeout.is_none()
    }

    /// Names with a process that lives.
    pub fn living(&self) -> BTreeSet<Name> {
        self.entries
            .iter()
            .filter(|(_, entry)| !entry.left().is_empty())
            .map(|(life, _)| life.instance.service.clone())
            .collect()
    }
}

impl Entry {
    pub fn left(&self) -> Vec<Leftover> {
        let main = self.main.then(|| Leftover { pid: self.pid, command: "main".into() });
        let children = (0..i32::from(self.children)).map(|n| Leftover { pid: -n, command: "child".into() });
        main.into_iter().chain(children).collect()
    }
}

impl File {
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
}

/// The process revision of a test's spec.
trait Salted {
    fn digest_salt(&self) -> u32;
}

impl Salted for Process {
    fn digest_salt(&self) -> u32 {
        self.args.first().and_then(|salt| salt.parse().ok()).unwrap_or(0)
    }
}

pub fn service_name(service: u8) -> Name {
    name(&format!("s{service}"))
}
