//! The brain: facts in, actions out.
//!
//! `absorb` takes one [`Input`] and only notes it; `decide(now)` compares what is desired with what
//! is observed and returns a [`Plan`]. No clock, no disk, no process, no randomness: `now` and
//! random bits arrive as arguments, so that a simulator can play millions of steps.
//!
//! Floor 2. Inputs are news that something may have changed, never orders: doubled, late and
//! reordered ones must not matter. A second `decide` without a new fact returns an empty plan.
//!
//! Read on in `life.rs` (what a life is), `absorb.rs` and `declare.rs` (what facts do to it),
//! `decide.rs` and `drive.rs` (what follows), `status.rs` (the words for people).

mod absorb;
mod adopt;
mod agenda;
pub(crate) mod blob;
mod blocked;
mod called_off;
mod checks;
mod churn;
mod decide;
mod declare;
mod demand;
mod drive;
mod dryrun;
mod end;
mod explain;
mod graph;
mod heirs;
mod input;
mod job;
mod kept;
mod life;
mod node;
mod plan;
mod present;
mod routine;
mod runs;
mod service;
mod shutdown;
mod standing;
mod status;
mod stop;
mod turns;
mod vitals;
mod waits;

#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use demand::{SHUT, is_listened_for};
pub use dryrun::{Change, change, nothing_to_run};
pub use heirs::MISSED;
pub use input::*;
pub use plan::*;

use self::service::{Id, Service, Table};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::time::Now;
use crate::model::view::{Event, ExitView, FileProblem, NodeView, ServiceView};
use crate::policy::random::Random;

/// Instances of one service at most; a scale beyond it is cut. What one host can sensibly hold.
pub const INSTANCES_MAX: u32 = 1_000;

/// What the brain is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many starts may be asked for and not answered.
    pub asked_max: u32,
    pub max_starting: Option<u32>,
    pub shutdown_timeout: Option<Duration>,
    /// On by default as PID 1 (5 min).
    pub exit_on_required: Option<Duration>,
    /// Root refuses services without `user:`.
    pub require_user: bool,
    /// plugd is root and not in a container: `RunsAsRoot` is told once a service.
    pub warn_root: bool,
    /// `plugd run FILE` or `-- CMD`: the exit code of the only service is ours.
    pub single: bool,
    pub pid1: bool,
    pub started: Now,
    /// A controller of this keeper has written to the memory: what is remembered it has told, and begun.
    pub takes_over: bool,
    pub seed: u64,
    /// Told in each status: where logs lie, none where none are kept.
    pub log_dir: Option<PathBuf>,
    /// Told in each status: `cgroup` or `session`, how far a stop reaches.
    pub kill_scope: Option<&'static str>,
}

/// The owner of all state.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    table: Table,
    dirty: VecDeque<Id>,
    deadlines: BTreeSet<(Duration, Id)>,
    /// When a check of which service is due.
    questions: BTreeSet<(Duration, Id)>,
    /// Services that wait for room in the keeper's queue.
    queue: VecDeque<Id>,
    /// Whose turn it is.
    serving: Option<Id>,
    /// Spawns asked for and not answered, less those that are held up.
    asked: u32,
    starting: u32,
    /// Something ended and does not come again, since room was last told of.
    room: bool,
    /// Services with an instance in back-off.
    backing_off: BTreeSet<Id>,
    /// Who waits for which port.
    ports: BTreeMap<u16, BTreeSet<Id>>,
    /// Which service has a process at which port.
    ports_had: BTreeMap<u16, BTreeSet<Id>>,
    /// Services that wait until another has left their port.
    heirs: BTreeSet<Id>,
    /// Ports to be told of, in this decision's plan.
    port_asks: Vec<u16>,
    edges_changed: Vec<Id>,
    /// Services that depend on a name which nobody bears: told with the nearest name that somebody does.
    puzzled: BTreeSet<Id>,
    /// The table's turnover when they were told.
    turnover: u64,
    /// Became ready after having been in trouble: waits may end.
    recovered: Vec<Id>,
    clocks: job::Clocks,
    random: Random,
    events: Vec<Event>,
    /// To be told with the next decision.
    exits: Vec<(Name, ExitView)>,
    misses: Vec<Name>,
    /// It is to end in order, once the manifests of what runs were read: then at latest.
    ends_unread: Option<Duration>,
    scanned: bool,
    lost: Option<String>,
    file_problems: Vec<FileProblem>,
    own_problems: Vec<FileProblem>,
    /// Why the memory cannot be used.
    memory: Option<String>,
    /// What became of the one before, until the next start.
    memory_lost: Option<String>,
    node: node::Node,
    node_touched: bool,
    ending: Option<shutdown::Ending>,
}

impl Controller {
    pub fn new(config: Config) -> Controller {
        Controller {
            random: Random::seeded(config.seed),
            config,
            table: Table::default(),
            dirty: VecDeque::new(),
            deadlines: BTreeSet::new(),
            questions: BTreeSet::new(),
            queue: VecDeque::new(),
            serving: None,
            asked: 0,
            starting: 0,
            room: false,
            backing_off: BTreeSet::new(),
            ports: BTreeMap::new(),
            ports_had: BTreeMap::new(),
            heirs: BTreeSet::new(),
            port_asks: Vec::new(),
            clocks: job::Clocks::default(),
            edges_changed: Vec::new(),
            puzzled: BTreeSet::new(),
            turnover: 0,
            recovered: Vec::new(),
            events: Vec::new(),
            exits: Vec::new(),
            misses: Vec::new(),
            ends_unread: None,
            scanned: false,
            lost: None,
            file_problems: Vec::new(),
            own_problems: Vec::new(),
            memory: None,
            memory_lost: None,
            node: node::Node::default(),
            node_touched: true,
            ending: None,
        }
    }

    /// When `decide` wants to be called next, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Duration> {
        let services = self.deadlines.first().into_iter().chain(self.questions.first()).map(|&(at, _)| at);
        services.chain(self.node_deadline()).chain(self.clocks.deadline()).min()
    }

    /// What is told of a service, as of the last decision.
    pub fn view(&self, name: &Name) -> Option<Arc<ServiceView>> {
        self.table.by_name(name)?.view.clone()
    }

    /// Whether each instance of a service has a log of its own; as its view's `log` says.
    pub fn has_several(&self, name: &Name) -> bool {
        self.table.by_name(name).is_some_and(|service| service.has_several())
    }

    /// All services by name, as of the last decision.
    pub fn views(&self) -> BTreeMap<Name, Arc<ServiceView>> {
        self.table.iter().filter_map(|service| Some((service.name.clone(), service.view.clone()?))).collect()
    }

    pub fn node(&self) -> NodeView {
        self.node_view()
    }

    /// Looks at everything in the next decision, which must find nothing to do: the simulator asks for it after
    /// each step, nobody at run time.
    pub fn doubt(&mut self) {
        for id in self.table.ids().collect::<Vec<_>>() {
            if let Some(service) = self.table.get_mut(id) {
                service.touched = true;
            }
            self.mark(id);
        }
    }

    /// A service is to be looked at in the next decision.
    fn mark(&mut self, id: Id) {
        if let Some(service) = self.table.get_mut(id)
            && !service.dirty
        {
            service.dirty = true;
            self.dirty.push_back(id);
        }
    }

    fn record(&mut self, service: &Service, at: usize, reason: Reason, warning: bool, message: String, now: Now) {
        self.events.push(Event {
            at: now.wall,
            service: Some(service.name.to_string()),
            instance: Some(format!("{}/{}", service.name, service.instances[at].index)),
            reason,
            warning,
            message,
        });
    }

    fn record_node(&mut self, reason: Reason, warning: bool, message: String, now: Now) {
        self.events.push(Event { at: now.wall, service: None, instance: None, reason, warning, message });
    }

    fn record_of(&mut self, id: Id, reason: Reason, warning: bool, message: String, now: Now) {
        if let Some(service) = self.table.get(id) {
            self.events.push(event_of(service, reason, warning, message, now));
        }
    }
}

/// Of no instance in particular.
fn event_of(service: &Service, reason: Reason, warning: bool, message: String, now: Now) -> Event {
    Event { at: now.wall, service: Some(service.name.to_string()), instance: None, reason, warning, message }
}
