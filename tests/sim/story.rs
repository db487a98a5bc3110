//! The story of a world: what happens to it, the calm after, and its end.

use std::time::Duration;

use plugd::controller::*;
use plugd::model::reason::Reason;
use plugd::policy::random::Random;

use crate::lie::Lie;
use crate::manifest::{File, service_name};
use crate::stimulus::{Act, SERVICES, Stimulus};
use crate::world::{Event, World};

/// After the last fault: a stuck stop, graces, then the cap of the ladder once. What depends on each
/// other follows within 2 s.
const CONVERGES_IN: Duration = Duration::from_secs(180);
/// It stays so.
const STAYS: Duration = Duration::from_secs(120);
/// A restart counts for ten minutes, and a better word has to last.
const FORGETS_IN: Duration = Duration::from_secs(700);
/// Six levels, each with its hook, its grace and KILL.
const ENDS_IN: Duration = Duration::from_secs(150);

impl World {
    pub fn play(&mut self, stimuli: &[Stimulus]) -> Result<(), String> {
        self.decide()?;
        for (at, stimulus) in stimuli.iter().enumerate() {
            if let Some(after) = stimulus.after {
                self.run_until(self.now.mono + after)?;
            }
            self.together = stimuli.get(at + 1).is_some_and(|next| next.after.is_none());
            self.act(&stimulus.act)?;
            if !std::mem::take(&mut self.together) {
                self.decide()?;
            }
        }
        self.together = false;
        self.decide()?;
        if self.seed % 4 != 2 {
            self.converge()?;
        }
        self.end()
    }

    fn converge(&mut self) -> Result<(), String> {
        self.calm = true;
        self.find_directory()?;
        for name in self.held.clone() {
            self.hold(name, false)?;
        }
        for hook in self.hooks.keys().cloned().collect::<Vec<_>>() {
            let number = self.hooks[&hook].number;
            self.later(Duration::ZERO, Event::HookEnds(hook.0, hook.1, number, Ok(())));
        }
        for service in 0..SERVICES {
            if let Some(file) = self.files.get_mut(&service) {
                file.wrapper = true;
                let declaration = file.declared();
                if !file.spoiled {
                    self.tell(Input::Declared(declaration))?;
                }
            }
        }
        // Of every second service somebody is connected, and of the others nobody.
        for service in 0..SERVICES {
            let demand =
                Demand { waiting: false, connected: (self.seed + u64::from(service)).is_multiple_of(2), block: None };
            self.act(&Act::Call(service, demand))?;
        }
        let now = self.now.mono;
        let lives: Vec<_> = self.entries.keys().cloned().collect();
        for life in lives {
            if let Some(entry) = self.entries.get_mut(&life) {
                entry.hung = None;
                entry.takes = Duration::from_millis(1);
                entry.ready_after = Some(now - entry.spawned);
            }
            // After it has been told of.
            self.later(Duration::from_millis(5), Event::Says(life));
        }
        self.run_until(self.now.mono + CONVERGES_IN)?;
        if self.left.is_some() || self.controller.node().shutting_down {
            return Ok(());
        }
        crate::converged::converged(self)?;
        let deeds = self.deeds;
        self.run_until(self.now.mono + STAYS)?;
        // Jobs run on, and may be what others wait for.
        if self.left.is_none() && self.deeds != deeds && !self.controller.node().shutting_down {
            return Err("law 6: a world that has converged does not rest".into());
        }
        if self.seed.is_multiple_of(8) && self.left.is_none() && !self.controller.node().shutting_down {
            self.run_until(self.now.mono + FORGETS_IN)?;
            if self.left.is_none() && !self.controller.node().shutting_down {
                return crate::converged::forgotten(self);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if self.left.is_none() {
            self.ending = true;
            if self.lie == Some(Lie::NobodyNeedsAnybody) {
                self.declare_all()?;
            }
            let own = self.ending_since.is_some();
            let began = self.now.mono;
            self.tell(Input::Shutdown(Shutdown::Ordered))?;
            let impatient = self.seed % 4 == 1;
            let mut limit = self.config.shutdown_timeout.map_or(ENDS_IN, |budget| budget + Duration::from_secs(1));
            if impatient {
                let wait = Duration::from_millis(crate::manifest::draw(self.seed, 5, 5) % 4_000);
                self.run_until(self.now.mono + wait)?;
                self.tell(Input::Shutdown(Shutdown::Now))?;
                // What KILL does not end in 10 s is left behind.
                limit = limit.min(wait + Duration::from_secs(11));
            }
            self.run_until(began + limit)?;
            if self.left.is_none() {
                return Err(format!("law 6: the node was told to stop and is there {limit:?} later"));
            }
            if !own && self.left != Some(0) {
                return Err(format!("law of the required: told to stop, the node leaves with {:?}", self.left));
            }
        }
        Ok(())
    }

    pub fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Write(service, salt) => {
                let label = self.files.get(service).map_or(0, |file| file.label);
                self.write(*service, File::drawn(self.seed, *service, *salt, label))
            }
            Act::Relabel(service) => {
                let Some(old) = self.files.get(service) else { return Ok(()) };
                self.write(*service, File::drawn(self.seed, *service, old.salt, old.label + 1))
            }
            Act::Rewrite(service) => {
                let Some(file) = self.files.get(service).cloned() else { return Ok(()) };
                self.write(*service, file)
            }
            Act::Remove(service) => {
                if self.files.remove(service).is_none() {
                    return Ok(());
                }
                self.tell(Input::Withdrawn(service_name(*service)))
            }
            Act::Spoil(service) => {
                let Some(file) = self.files.get_mut(service).filter(|_| !self.lost) else { return Ok(()) };
                file.spoiled = true;
                let rejection = file.rejection();
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
                if let Some(life) = self.someone(*service) {
                    self.later(Duration::ZERO, Event::MainEnds(life, Exit::signal(9)));
                }
                Ok(())
            }
            Act::Hang(service) => {
                let now = self.now.mono;
                let life = self.someone(*service);
                if let Some(entry) = life.and_then(|life| self.entries.get_mut(&life)) {
                    entry.hung = Some(now);
                }
                Ok(())
            }
            Act::Flap(service) => {
                let life = self.someone(*service);
                if let Some(entry) = life.and_then(|life| self.entries.get_mut(&life)) {
                    entry.flaps = !entry.flaps;
                }
                Ok(())
            }
            Act::Slow(service) => {
                let life = self.someone(*service);
                if let Some(entry) = life.and_then(|life| self.entries.get_mut(&life)) {
                    entry.takes = Duration::from_millis(900);
                }
                Ok(())
            }
            Act::SaysStopping(service) => {
                if let Some(life) = self.someone(*service) {
                    let message = Notification { stopping: true, ..Notification::default() };
                    self.later(Duration::from_secs(3), Event::MainEnds(life.clone(), Exit::code(0)));
                    self.answer(Input::Notified { life, message });
                }
                Ok(())
            }
            Act::PortFree(service) => self.tell(Input::PortFree(1_000 + u16::from(*service))),
            Act::Trouble(service, there) => self.tell(Input::Problem {
                name: service_name(*service),
                reason: Reason::LogsDropped,
                message: there.then(|| "bytes are lost".into()),
            }),
            Act::Call(service, demand) => {
                let name = service_name(*service);
                // Nobody calls where nobody listens.
                if !self.doors.contains(&name) {
                    return Ok(());
                }
                self.demand.insert(name.clone(), *demand);
                self.tell(Input::Demand { name, demand: *demand, sent_away: u32::from(demand.waiting) })
            }
            Act::Hold(service, is_held) => self.hold(service_name(*service), *is_held),
            Act::ControllerDies => {
                // What it was told is decided in the turn that it was told in.
                self.decide()?;
                self.new_controller();
                if self.lost {
                    return self.tell(Input::DirectoryLost("gone".into()));
                }
                self.declare_all()
            }
            Act::DirectoryLost => {
                self.lost = true;
                self.tell(Input::DirectoryLost("gone".into()))
            }
            Act::DirectoryFound => self.find_directory(),
            Act::ConfirmMissing => {
                if !self.lost {
                    return Ok(());
                }
                self.scanned = true;
                self.tell(Input::ConfirmMissing)
            }
            Act::Late(span) => {
                self.together = false;
                self.decide()?;
                self.be_late(*span)
            }
            Act::Sleep(span) => {
                let wall = jiff::SignedDuration::try_from(*span).unwrap_or_default();
                self.now.wall = self.now.wall.checked_add(wall).unwrap_or(self.now.wall);
                self.tell(Input::Awoke)
            }
            Act::SetClock(by) => {
                let by = jiff::SignedDuration::from_secs(*by);
                self.now.wall = self.now.wall.checked_add(by).unwrap_or(self.now.wall);
                self.decide()
            }
            Act::Nothing => Ok(()),
        }
    }

    /// A main process of the service.
    fn someone(&self, service: u8) -> Option<plugd::model::name::LifeId> {
        let name = service_name(service);
        self.entries
            .iter()
            .find(|(life, entry)| life.instance.service == name && entry.main)
            .map(|(life, _)| life.clone())
    }

    fn find_directory(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.lost) && self.scanned {
            return Ok(());
        }
        self.tell(Input::DirectoryFound)?;
        self.declare_all()
    }

    fn write(&mut self, service: u8, mut file: File) -> Result<(), String> {
        if self.lost {
            return Ok(());
        }
        file.spoiled = false;
        let declaration = file.declared();
        self.files.insert(service, file);
        let name = service_name(service);
        if declaration.spec.activation.is_none() && self.demand.remove(&name).is_some() {
            self.tell(Input::Demand { name, demand: Demand::default(), sent_away: 0 })?;
        }
        self.tell(Input::Declared(declaration))
    }

    fn declare_all(&mut self) -> Result<(), String> {
        for (&service, file) in &self.files.clone() {
            if file.spoiled {
                self.act(&Act::Spoil(service))?;
            } else {
                self.tell(Input::Declared(file.declared()))?;
            }
        }
        // Its doors are found with their queues.
        for (name, demand) in self.demand.clone() {
            self.tell(Input::Demand { name, demand, sent_away: 0 })?;
        }
        self.scanned = true;
        self.tell(Input::Scanned)
    }
}

/// How one command in a container ends, and with which code.
pub fn play_single(seed: u64) -> Result<(), String> {
    let mut random = Random::seeded(seed);
    let mut world = World::new(seed, None);
    world.config.single = true;
    world.config.exit_on_required = None;
    world.config.pid1 = random.below(2) == 0;
    world.config.max_starting = None;
    world.controller = Controller::new(world.config.clone());
    world.controller.absorb(Input::Scanned, world.now);
    let mut file = File::drawn(seed, 0, random.below(1_000) as u32, 0);
    let spec = std::sync::Arc::make_mut(&mut file.declaration.spec);
    spec.restart.policy = plugd::model::spec::RestartPolicy::Never;
    (spec.replicas, spec.enabled, spec.schedule, spec.activation) = (1, true, None, None);
    spec.depends_on.clear();
    world.tell(Input::Declared(file.declaration))?;
    let stop = random.below(3) == 0;
    if stop {
        world.run_until(world.now.mono + Duration::from_millis(random.below(5_000)))?;
        world.tell(Input::Shutdown(Shutdown::Ordered))?;
    }
    world.run_until(world.now.mono + Duration::from_secs(1_000))?;
    let ended = world.entries.values().find_map(|entry| entry.exit);
    let ran = !world.entries.is_empty();
    match (world.left, ended) {
        (Some(code), Some(exit)) if code == exit.status() => Ok(()),
        (Some(code), None) if !ran && code != 0 => Ok(()),
        (left, exit) => Err(format!("law of the required: the command ended with {exit:?} and the node with {left:?}")),
    }
}
