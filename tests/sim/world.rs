//! A world of fake processes under a fake keeper, with virtual time.
//!
//! What a process does is drawn from the seed and its life, so that leaving out a stimulus does not
//! change the others. Answers take a moment, come out of order, sometimes twice and sometimes never.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plugd::controller::*;
use plugd::model::name::{Instance, LifeId, Name};
use plugd::model::reason::{Reason, Status};
use plugd::model::spec::{Condition, RestartPolicy};
use plugd::model::time::Now;
use plugd::model::view::ServiceView;
use plugd::policy::random::Random;

use crate::clock::Clock;
use crate::facts::{Facts, Wish};
use crate::laws;
use crate::lie::Lie;
use crate::manifest::{File, service_name};
use crate::process::{Entry, HookRun, Preparation};
use crate::stimulus::SERVICES;

pub struct World {
    pub seed: u64,
    pub now: Now,
    pub controller: Controller,
    pub config: Config,
    pub files: BTreeMap<u8, File>,
    pub entries: BTreeMap<LifeId, Entry>,
    pub hooks: BTreeMap<(LifeId, Hook), HookRun>,
    /// Asked for, and not asked of the keeper yet.
    pub preparing: BTreeMap<LifeId, Preparation>,
    pub memory: BTreeMap<Name, Memory>,
    /// As they were announced.
    pub views: BTreeMap<Name, Arc<ServiceView>>,
    events: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    pub payload: Vec<Option<Event>>,
    sequence: u64,
    pub random: Random,
    pub facts: Facts,
    pub clock: Clock,
    pub lie: Option<Lie>,
    /// Lives of which a check has passed.
    pub passed: BTreeSet<LifeId>,
    /// Who is at the doors.
    pub demand: BTreeMap<Name, Demand>,
    /// Plugd listens for these.
    pub doors: BTreeSet<Name>,
    /// Somebody else has their ports.
    pub held: BTreeSet<Name>,
    /// Of these that is in the way.
    barred: BTreeSet<Name>,
    /// What the controller is to hear of that.
    turned: Vec<Input>,
    /// Withdrawn since it was told last: its counts may begin anew.
    pub renewed: BTreeSet<Name>,
    pub steps: u64,
    pub next_pid: i32,
    pub next_hook: u64,
    /// No more faults: what starts now works.
    pub calm: bool,
    /// The node stops: from outside, and since when by itself too.
    pub ending: bool,
    pub ending_since: Option<Duration>,
    /// It did so before the decision at hand: in the one in which it begins, others may be told to end as well.
    pub was_ending: bool,
    pub unready_at_end: BTreeMap<Name, Duration>,
    pub left: Option<i32>,
    pub lost: bool,
    pub scanned: bool,
    /// What comes is absorbed and not decided on.
    pub together: bool,
    /// What came while the loop was late.
    deaf: Option<Vec<Input>>,
    /// Instances whose wait is over, and since when nothing else holds them up.
    pub free_since: BTreeMap<Instance, Duration>,
    /// Spawns and signals so far.
    pub deeds: u64,
    trace: bool,
}

pub enum Event {
    Tell(Input),
    MainEnds(LifeId, Exit),
    ChildrenEnd(LifeId),
    Survey(LifeId),
    Says(LifeId),
    Prepared(LifeId),
    HeldUp(LifeId),
    Barred(Name),
    HookEnds(LifeId, Hook, u64, Result<(), (Reason, String)>),
}

fn barred(name: &Name, is_barred: bool) -> Input {
    let message = is_barred.then(|| "its port is held by pid 7".into());
    Input::Problem { name: name.clone(), reason: Reason::AddressInUse, message }
}

fn config(seed: u64, started: Now) -> Config {
    let contained = seed % 5 == 1;
    Config {
        asked_max: 4,
        max_starting: seed.is_multiple_of(7).then_some(2),
        shutdown_timeout: seed.is_multiple_of(3).then_some(Duration::from_secs(8)),
        exit_on_required: contained.then_some(Duration::from_secs(60)),
        require_user: false,
        warn_root: seed.is_multiple_of(2),
        single: false,
        pid1: contained,
        started,
        seed,
        log_dir: None,
        kill_scope: None,
        takes_over: false,
    }
}

impl World {
    pub fn new(seed: u64, lie: Option<Lie>) -> World {
        let now = Now {
            mono: Duration::from_secs(1_000),
            wall: Timestamp::from_second(1_795_000_000).expect("this century"),
        };
        let config = config(seed, now);
        let mut world = World {
            seed,
            now,
            controller: Controller::new(config.clone()),
            config,
            files: BTreeMap::new(),
            entries: BTreeMap::new(),
            hooks: BTreeMap::new(),
            preparing: BTreeMap::new(),
            memory: BTreeMap::new(),
            views: BTreeMap::new(),
            events: BinaryHeap::new(),
            payload: Vec::new(),
            sequence: 0,
            random: Random::seeded(seed),
            facts: Facts::default(),
            clock: Clock::default(),
            lie,
            passed: BTreeSet::new(),
            demand: BTreeMap::new(),
            doors: BTreeSet::new(),
            // In some worlds all ports are somebody's at first.
            held: (0..SERVICES).filter(|_| seed.is_multiple_of(3)).map(service_name).collect(),
            barred: BTreeSet::new(),
            turned: Vec::new(),
            renewed: BTreeSet::new(),
            steps: 0,
            next_pid: 100,
            next_hook: 0,
            calm: false,
            ending: false,
            ending_since: None,
            was_ending: false,
            unready_at_end: BTreeMap::new(),
            left: None,
            lost: false,
            scanned: true,
            together: false,
            deaf: None,
            free_since: BTreeMap::new(),
            deeds: 0,
            trace: crate::TRACE.load(std::sync::atomic::Ordering::Relaxed),
        };
        world.absorb(Input::Scanned);
        world
    }

    /// Runs until nothing is left to do before `end`.
    pub fn run_until(&mut self, end: Duration) -> Result<(), String> {
        while self.left.is_none() {
            let event = self.events.peek().map(|Reverse((at, _, _))| *at);
            let deadline = self.controller.next_deadline().filter(|_| self.deaf.is_none());
            let Some(next) = event.into_iter().chain(deadline).min().filter(|&at| at <= end) else { break };
            self.move_to(next.max(self.now.mono));
            if event == Some(next) {
                let Some(Reverse((_, _, slot))) = self.events.pop() else { break };
                if let Some(event) = self.payload[slot].take() {
                    self.happen(event)?;
                }
            } else {
                self.decide()?;
            }
        }
        self.move_to(end);
        Ok(())
    }

    /// The loop stands still for so long: what came meanwhile is one turn.
    pub fn be_late(&mut self, span: Duration) -> Result<(), String> {
        self.deaf = Some(Vec::new());
        self.run_until(self.now.mono + span)?;
        self.facts.late_until = self.facts.late_until.max(self.now.mono);
        for input in self.deaf.take().unwrap_or_default() {
            self.absorb(input);
        }
        self.decide()
    }

    pub fn move_to(&mut self, mono: Duration) {
        self.now = Now { wall: self.now.wall_at(mono), mono };
    }

    pub fn later(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.payload.push(Some(event));
        self.events.push(Reverse((self.now.mono + delay, self.sequence, self.payload.len() - 1)));
    }

    /// An answer: after a moment, and now and then once more.
    pub fn answer(&mut self, input: Input) {
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
            // Unless that was overtaken.
            Event::Barred(name) if self.barred.contains(&name) => self.tell(barred(&name, true)),
            Event::Barred(_) => Ok(()),
            Event::Survey(life) => {
                let left = self.entries.get(&life).map(Entry::left).unwrap_or_default();
                self.tell(Input::Surveyed { life, left })
            }
            Event::Says(life) => {
                self.says(life);
                Ok(())
            }
            // The loop takes up what is prepared: not while it stands still.
            Event::Prepared(life) if self.deaf.is_some() => {
                self.later(Duration::from_millis(50), Event::Prepared(life));
                Ok(())
            }
            Event::Prepared(life) => self.prepared(life),
            Event::HeldUp(life) => match self.preparing.contains_key(&life) {
                true => self.tell(Input::HeldUp { life, why: Some("its working directory does not answer".into()) }),
                false => Ok(()),
            },
            Event::HookEnds(life, hook, number, result) => {
                let ours = self.hooks.get(&(life.clone(), hook)).is_some_and(|run| run.number == number);
                if ours {
                    self.hooks.remove(&(life.clone(), hook));
                    return self.tell(Input::HookEnded { life, hook, result });
                }
                Ok(())
            }
        }
    }

    pub fn tell(&mut self, input: Input) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        if let Some(waiting) = &mut self.deaf {
            waiting.push(input);
            return Ok(());
        }
        self.absorb(input);
        if self.together { Ok(()) } else { self.decide() }
    }

    pub fn absorb(&mut self, input: Input) {
        match &input {
            Input::Exited { life, .. } => {
                if let Some(entry) = self.entries.get_mut(life) {
                    entry.told = true;
                }
            }
            Input::Verdict { life, verdict, .. } if verdict.passed => drop(self.passed.insert(life.clone())),
            Input::Notified { life, message } if message.ready => drop(self.passed.insert(life.clone())),
            Input::Withdrawn(name) => {
                self.renewed.insert(name.clone());
            }
            Input::ConfirmMissing => self.renewed.extend(self.views.keys().cloned()),
            Input::Declared(declaration) => {
                let name = &declaration.spec.name;
                if self.facts.gone.contains(name) {
                    self.clock.forget(name);
                }
                if self.facts.scanned && !self.facts.wishes.contains_key(name) {
                    self.renewed.insert(name.clone());
                }
            }
            _ => {}
        }
        self.facts.hear(&input, self.now.mono);
        if self.trace {
            eprintln!("{:?} {input:?}", self.now.mono);
        }
        let told = match self.lie {
            Some(Lie::DeafToEdits) if self.calm && matches!(input, Input::Declared(_)) => return,
            Some(lie) => lie.told(input, self.ending),
            None => input,
        };
        self.controller.absorb(told, self.now);
    }

    pub fn decide(&mut self) -> Result<(), String> {
        if self.deaf.is_some() || self.left.is_some() {
            return Ok(());
        }
        self.steps += 1;
        let mut plan = self.controller.decide(self.now);
        if self.lie == Some(Lie::AsksOn) {
            plan.actions = plan.actions.into_iter().flat_map(asked_on).collect();
        }
        self.was_ending = self.ending_since.is_some();
        if self.trace {
            for action in &plan.actions {
                eprintln!("    {action:?}");
            }
        }
        if self.ending_since.is_none() && self.controller.node().shutting_down {
            self.ending_since = Some(self.now.mono);
            self.unready_at_end = self.facts.unready.clone();
        }
        self.clock.hear(&plan.actions)?;
        for action in plan.actions {
            laws::action(self, &action)?;
            self.carry_out(action)?;
        }
        let turned = std::mem::take(&mut self.turned);
        if !turned.is_empty() && self.left.is_none() {
            turned.into_iter().for_each(|door| self.absorb(door));
            return self.decide();
        }
        crate::clock::passed(self)?;
        self.facts.decided();
        laws::waits(self)?;
        if self.left.is_some() {
            return Ok(());
        }
        if self.lie == Some(Lie::NeverQuiet) && self.steps > 30 {
            self.controller.absorb(Input::FileProblems(vec![file_problem(self.steps)]), self.now);
        }
        self.controller.doubt();
        let again = self.controller.decide(self.now);
        if !again.actions.is_empty() {
            for action in &again.actions {
                if let Action::Announce(name) = action {
                    let (was, is) = (self.views.get(name), self.controller.view(name));
                    let (was, is) = (format!("{was:?}"), format!("{is:?}"));
                    // From where they differ on.
                    let at = was.bytes().zip(is.bytes()).take_while(|(a, b)| a == b).count().saturating_sub(40);
                    let from = |text: &str| text.chars().skip(at).take(200).collect::<String>();
                    return Err(format!("law 7: {name} was told …{}… and it is …{}…", from(&was), from(&is)));
                }
            }
            return Err(format!("law 5: a second decision was not empty: {:?}", again.actions));
        }
        if self.controller.next_deadline().is_some_and(|at| at <= self.now.mono) {
            return Err("law 5: a deadline in the past stands".into());
        }
        let views = self.controller.views();
        let same =
            |(name, view): (&Name, &Arc<ServiceView>)| self.views.get(name).is_some_and(|told| Arc::ptr_eq(told, view));
        if views.len() != self.views.len() || !views.iter().all(same) {
            return Err(format!("law 7: not all was told: {:?} of {:?}", self.views.keys(), views.keys()));
        }
        laws::required(self)
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Spawn { life, spec, blob, .. } => {
                self.deeds += u64::from(self.is_to_rest(&life.instance.service));
                self.prepare(life, spec, blob)?;
            }
            Action::CallOff { life } => {
                // What the keeper was asked for comes first.
                if self.preparing.remove(&life).is_some() {
                    self.answer(Input::CalledOff(life));
                }
            }
            Action::SetBlob { life, blob } => {
                if let Some(entry) = self.entries.get_mut(&life) {
                    entry.doomed |= String::from_utf8_lossy(&blob).contains("\"x\":true");
                    entry.blob = blob;
                }
            }
            Action::Signal { life, signal, to } => {
                self.deeds += u64::from(self.is_to_rest(&life.instance.service));
                self.signal(&life, signal, to);
            }
            Action::CancelHooks { life } => self.end_hooks(&life),
            Action::Survey { life } => {
                let delay = Duration::from_micros(self.random.below(2_000));
                self.later(delay, Event::Survey(life));
            }
            Action::Forget { life } => {
                self.end_hooks(&life);
                if self.entries.remove(&life).is_some_and(|entry| entry.lives()) {
                    return Err(format!("law 1: {life} was forgotten while something of it lived"));
                }
            }
            Action::Try { name, digest, .. } => {
                let draw = crate::manifest::draw(self.seed, digest.0[0].into(), digest.0[1].into());
                let good = self.calm || !draw.is_multiple_of(4);
                let result = if good { Ok(()) } else { Err((Reason::ProgramNotFound, "no such program".into())) };
                self.answer(Input::Tried { name, digest, result });
            }
            Action::RunHook { life, hook, limit, .. } => {
                self.deeds += u64::from(self.is_to_rest(&life.instance.service));
                self.run_hook(life, hook, limit);
            }
            Action::Probe { life, probe, .. } => self.probe(life, probe),
            // Nobody here prints lines that are looked for; that it is the right spec is a law.
            Action::Judge { .. } => {}
            Action::Resize { life, spec } => {
                if let Some(entry) = self.entries.get_mut(&life) {
                    entry.resources = spec.resources.clone();
                }
            }
            Action::AwaitPort(port) => {
                let delay = Duration::from_millis(self.random.below(20_000));
                self.later(delay, Event::Tell(Input::PortFree(port)));
            }
            Action::Announce(name) => {
                if self.lie == Some(Lie::Unannounced) && self.steps > 30 {
                    return Ok(());
                }
                if let Some(view) = self.controller.view(&name) {
                    laws::told(self, &view)?;
                    if self.steps.is_multiple_of(64) {
                        crate::converged::text(&view)?;
                    }
                    self.turn_door(&view);
                    self.views.insert(name, view);
                }
            }
            Action::Retire(name) => {
                self.doors.remove(&name);
                self.barred.remove(&name);
                self.facts.shut.remove(&name);
                self.memory.remove(&name);
                self.views.remove(&name);
                self.demand.remove(&name);
                self.renewed.remove(&name);
                if self.entries.iter().any(|(life, entry)| life.instance.service == name && entry.lives()) {
                    return Err(format!("law 1: {name} was retired while something of it lived"));
                }
            }
            Action::Remember(name, memory) => drop(self.memory.insert(name, *memory)),
            Action::Exit(code) => self.left = Some(code),
            Action::AnnounceNode | Action::NoteExit(..) | Action::NoteMiss(_) | Action::Record(_) => {
                assert!(self.lie != Some(Lie::Panics) || self.steps < 30, "planted");
            }
        }
        Ok(())
    }

    /// The edge listens for who is meant to run on demand, and says so in the same turn; that somebody else has the port
    /// is found out a moment later.
    fn turn_door(&mut self, view: &ServiceView) {
        let name = &view.service;
        let has_door = self.facts.wishes.get(name).is_some_and(|wish| wish.spec.activation.is_some());
        let door = |listens| Input::Door { name: name.clone(), listens };
        match (has_door && is_listened_for(view), self.doors.contains(name)) {
            (true, false) if self.held.contains(name) => {
                if self.barred.insert(name.clone()) {
                    let delay = Duration::from_micros(crate::manifest::draw(self.seed, self.steps, 9) % 20_000);
                    self.later(delay, Event::Barred(name.clone()));
                }
            }
            (true, false) => self.open_door(name),
            (false, true) => {
                self.doors.remove(name);
                self.demand.remove(name);
                let nobody = Input::Demand { name: name.clone(), demand: Demand::default(), sent_away: 0 };
                self.turned.extend([nobody, door(false)]);
            }
            (false, false) if self.barred.remove(name) => self.turned.push(barred(name, false)),
            (true, true) | (false, false) => {}
        }
    }

    fn open_door(&mut self, name: &Name) {
        self.doors.insert(name.clone());
        self.turned.push(Input::Door { name: name.clone(), listens: true });
        if self.barred.remove(name) {
            self.turned.push(barred(name, false));
        }
    }

    /// Somebody else takes the port of a service, if nobody has it, or gives it up.
    pub fn hold(&mut self, name: Name, is_held: bool) -> Result<(), String> {
        if is_held {
            self.held.extend((!self.doors.contains(&name)).then_some(name));
            return Ok(());
        }
        if self.held.remove(&name) && self.barred.contains(&name) {
            self.open_door(&name);
            for turned in std::mem::take(&mut self.turned) {
                self.tell(turned)?;
            }
        }
        Ok(())
    }

    /// That it is listened for has been said to the controller.
    pub fn is_heard_to_listen(&self, name: &Name) -> bool {
        let unsaid = |door: &Input| matches!(door, Input::Door { name: of, .. } if of == name);
        self.doors.contains(name) && !self.turned.iter().any(unsaid)
    }

    /// A new controller, with what the keeper and the disk hold.
    pub fn new_controller(&mut self) {
        // What was on its way to the old one is lost, or comes late to the new one; what a service says
        // by itself waits in its socket.
        for slot in &mut self.payload {
            let on_its_way = match slot {
                Some(Event::Tell(Input::Notified { .. })) => false,
                Some(Event::Tell(Input::Verdict { verdict, .. })) => verdict.message != "a newline",
                Some(Event::Tell(_) | Event::Survey(_)) => true,
                Some(_) | None => false,
            };
            if on_its_way && self.random.below(4) != 0 {
                *slot = None;
            }
        }
        // The helpers of the old one are ended by the new one, but for those of a stop.
        self.hooks.retain(|(_, hook), _| *hook == Hook::PreStop);
        self.preparing.clear();
        (self.config.started, self.config.takes_over) = (self.now, true);
        // What the old one had decided for itself the new one finds out anew.
        self.ending_since = None;
        self.unready_at_end.clear();
        self.controller = Controller::new(self.config.clone());
        self.views.clear();
        self.doors.clear();
        self.barred.clear();
        self.turned.clear();
        self.facts.inherit(self.entries.iter(), self.now.mono);
        // What had passed before counts where the keeper was told of it.
        let lives = &self.facts.lives;
        self.passed.retain(|life| lives.get(life).is_some_and(|known| known.carried));
        for (name, mut memory) in self.memory.clone() {
            if self.lie == Some(Lie::ForgetsRuns) {
                memory.schedule = None;
            }
            memory.awake |= self.lie == Some(Lie::WakesAll);
            self.controller.absorb(Input::Remembered(name, Box::new(memory)), self.now);
        }
        for (life, entry) in &mut self.entries {
            entry.told = entry.exit.is_some();
            let until = if entry.main { self.now.mono } else { entry.ended };
            let adopted = Adopted {
                life: life.clone(),
                pid: entry.pid,
                pre_stop: self.hooks.contains_key(&(life.clone(), Hook::PreStop)),
                age: until - entry.spawned,
                exit: entry.exit,
                blob: entry.blob.clone(),
            };
            let adopted = match self.lie {
                Some(Lie::ForgetsRuns) => Adopted { blob: crate::clock::without_run(&adopted.blob), ..adopted },
                Some(_) | None => adopted,
            };
            self.controller.absorb(Input::Adopted(adopted), self.now);
        }
        self.scanned = false;
    }

    /// What it needs holds for certain: what was told of that has been compared with the facts.
    pub fn surely_held(&self, instance: &Instance) -> bool {
        let needs = self.facts.wishes.get(&instance.service).map(|wish| &wish.spec.depends_on);
        needs.into_iter().flatten().all(|need| {
            let told = self.views.get(&need.name);
            told.is_some_and(|view| match need.condition {
                Condition::Started | Condition::Ready => view.ready > 0 || has_completed(view),
                Condition::Completed => has_completed(view),
            })
        })
    }

    /// Something else than its wait keeps an instance from being tried.
    pub fn is_held_up(&self, instance: &Instance) -> bool {
        let occupied = self.facts.lives.iter().any(|(life, known)| life.instance == *instance && !known.empty);
        let hooked = self.hooks.keys().any(|(life, _)| life.instance == *instance);
        let wish = self.facts.wishes.get(&instance.service);
        let optional = wish.is_some_and(|wish| wish.spec.depends_on.iter().any(|need| need.optional));
        let job = wish.is_some_and(|wish| wish.spec.schedule.is_some());
        let runs = !job && self.facts.should_run(instance) && self.surely_held(instance);
        // The version before runs in its stead, and waits for what that one depends on.
        let other =
            |wish: &Wish| self.facts.rungs.get(instance).is_some_and(|one| one.print != wish.spec.process_digest);
        occupied || hooked || optional || !self.facts.scanned || !runs || wish.is_some_and(other)
    }

    /// No job by the clock, nothing that waits for one, and nothing that one wakes.
    pub fn is_to_rest(&self, name: &Name) -> bool {
        let job = |name: &Name| self.facts.wishes.get(name).is_some_and(|wish| wish.spec.schedule.is_some());
        let on_demand = |name: &Name| self.facts.wishes.get(name).is_some_and(|wish| wish.spec.activation.is_some());
        let woken = |name: &Name| {
            on_demand(name)
                && self.facts.wishes.keys().any(|other| job(other) && self.facts.may_need(other).contains(name))
        };
        let needs = self.facts.may_need(name);
        !job(name) && !woken(name) && !needs.iter().any(|need| job(need) || woken(need))
    }

    pub fn budgeted(&self) -> bool {
        self.config.shutdown_timeout.is_some()
    }

    pub fn crowded(&self) -> bool {
        self.config.max_starting.is_some()
    }

    pub fn patience(&self) -> Option<Duration> {
        self.config.exit_on_required
    }

    /// It ended for good in an earlier controller's time.
    pub fn is_over(&self, instance: &Instance) -> bool {
        self.entries.iter().any(|(life, entry)| {
            life.instance == *instance
                && entry.exit.is_some()
                && (entry.spec.restart.policy != RestartPolicy::Always || entry.spec.restart.limit.is_some())
        })
    }
}

/// A job that ran to its end, or of which a run by the clock did.
fn has_completed(view: &ServiceView) -> bool {
    match &view.schedule {
        Some(schedule) => schedule.last_success.is_some(),
        None => view.status == Status::Completed,
    }
}

fn file_problem(number: u64) -> plugd::model::view::FileProblem {
    plugd::model::view::FileProblem { file: "x".into(), reason: Reason::NameConflict, message: number.to_string() }
}

/// A signal, and a check behind it.
fn asked_on(action: Action) -> Vec<Action> {
    let Action::Signal { life, .. } = &action else { return vec![action] };
    let spec = Arc::new(testing::spec(life.instance.service.as_str()));
    let asked = Action::Probe { life: life.clone(), probe: ProbeSlot::Liveness, spec };
    vec![action, asked]
}
