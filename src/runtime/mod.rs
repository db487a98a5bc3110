//! The loop: drains facts, stamps `now` once, decides, hands actions to the edges. Floor 7.
//!
//! `boot` builds a [`Node`] out of the edges and the brain; [`Node::run`] is the loop that owns all
//! state. A task does one piece of I/O (one probe, one connection) and ends by sending one fact.
//! Edges that may block have a thread of their own: the directory, the status files, the database,
//! the logs, the walks over /proc.
//!
//! - `absence`  whether the loop was away: a machine that slept, a turn that took long
//! - `alarm`    when the loop wakes by itself
//! - `apply`    an action, handed to its edge
//! - `attend`   the wait for one helper
//! - `boot`     from a task to a running node; `front` becomes its keeper, `layers` are its settings
//! - `chatter`  how much one service may say
//! - `claims`   whether the port of an edit is to be had
//! - `crash`    a panic anywhere ends the controller, and the keeper starts the next
//! - `doors`    the ports of services that run on demand
//! - `facts`    what the keeper and the pump say, as inputs
//! - `helpers`  exec probes and hooks: short processes beside a life
//! - `listen`   the API's TCP port
//! - `live`     what the loop holds of one life: its tree, its probes, its passive checks
//! - `lives_copy` the second table of lives, for when the run directory is taken away
//! - `managed`  what systemd is told of the node
//! - `masks`    what is secret, kept out of what is quoted
//! - `memory`   texts that the keeper holds for the next controller
//! - `observe`  what is seen of services, for the memory
//! - `preparing` what is on its way from an action to the keeper
//! - `publish`  snapshot, status files, the start-up report
//! - `requests` what people ask by the socket
//! - `rundir`   socket and table of lives, made again where someone takes them away
//! - `single`   `run FILE` and `run -- CMD`
//! - `spawn`    a prepared process, asked of the keeper
//! - `strays`   the table of lives, and what a killed keeper left
//! - `trials`   who waits for what was refused to be tried again
//! - `voice`    what the controller says on stderr
#![expect(clippy::disallowed_methods, reason = "the loop stamps the clock, once a turn")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::context::Request;
use crate::controller::{Controller, Input};
use crate::edge::directory::Directory;
use crate::edge::output::{Pump, PumpEvent};
use crate::edge::probe::Sockets;
use crate::edge::process::cgroup::CgroupRoot;
use crate::edge::process::limits::Limits;
use crate::edge::process::tree::Trees;
use crate::edge::store::{Samples, Store};
use crate::keeper::{Event as KeeperEvent, Id, Link};
use crate::model::name::{LifeId, Name};
use crate::model::reason::Reason;
use crate::model::settings::Settings;
use crate::model::spec::Spec;
use crate::model::time::Now;
use crate::model::view::FileProblem;

mod absence;
mod alarm;
mod apply;
mod attend;
pub mod boot;
mod chatter;
mod claims;
mod crash;
mod doors;
mod facts;
pub mod front;
mod helpers;
mod layers;
mod listen;
mod live;
mod lives_copy;
mod managed;
mod masks;
mod memory;
mod observe;
mod preparing;
mod publish;
mod requests;
mod rundir;
mod single;
mod spawn;
pub(crate) mod strays;
mod trials;
mod voice;

use absence::Absence;
use chatter::Chatter;
use helpers::Helpers;
use live::{Adoptee, Live, Pending};
use publish::Publisher;
use strays::LivesTable;

/// Facts that may wait for the loop: a burst of 1,000 manifests and as many exits. What does not
/// fit waits with its sender.
const INPUTS_MAX: usize = 4096;
/// How long the log files and the database may take at the end; a disk that hangs is left behind.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// So long after the first scan its starts are over on most machines.
const TRIM_AFTER: Duration = Duration::from_secs(2);
/// Turns that one wake-up may take before the edges are looked at again.
const TURNS_MAX: usize = 64;

/// Everything that the loop owns.
pub struct Node {
    controller: Controller,
    /// What it began with.
    begun: Settings,
    /// That no place for log files can be written.
    unlogged: Option<FileProblem>,
    listening: Option<listen::Listening>,
    keeper: Link,
    pump: Pump,
    trees: Rc<Trees>,
    sockets: Arc<Sockets>,
    cgroups: Option<CgroupRoot>,
    limits: Limits,
    /// What was said of services and not taken back: by [`Node::tell_of`].
    told: HashSet<(Name, Reason)>,
    /// Which node this is, as its processes are told by `PLUGD_NODE`.
    key: Arc<str>,
    table: LivesTable,
    preparing: preparing::Preparing,
    trials: trials::Trials,
    directory: Option<Directory>,
    store: Store,
    samples: Samples,
    publisher: Publisher,
    managed: managed::Managed,
    run: rundir::RunDir,
    helpers: Helpers,
    chatter: Chatter,
    masks: masks::Masks,

    lives: BTreeMap<LifeId, Live>,
    pending: HashMap<LifeId, Pending>,
    /// What each service's manifest declares.
    specs: HashMap<Name, Arc<Spec>>,
    /// Lives of the keeper's list whose spec is not known yet.
    adoptees: HashMap<Name, Vec<Adoptee>>,
    /// Descriptors that an earlier controller left with the keeper, by key.
    deposits: HashMap<Vec<u8>, OwnedFd>,
    held: doors::Held,
    /// Lives that are let go as soon as the pump has closed them.
    closing: HashSet<LifeId>,
    /// Ports whose becoming free is awaited.
    awaited_ports: HashSet<u16>,
    /// Edits whose ports are looked at, or held by somebody.
    claimants: BTreeMap<Name, claims::Claimant>,
    /// The first scan is complete: status files of services that are no more may go.
    sweep_due: bool,
    /// When the start is behind us, and with it what only the start needed.
    trim_at: Option<Instant>,

    news: apply::News,
    /// Facts of this turn that the loop itself made.
    queue: VecDeque<Input>,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    pump_events: mpsc::Receiver<PumpEvent>,
    requests: mpsc::Receiver<Request>,
    notices: mpsc::UnboundedSender<Notice>,
    noticed: mpsc::UnboundedReceiver<Notice>,

    signals: Signals,
    absence: Absence,
    alarm: alarm::Alarm,
    /// Set once the node has decided to leave.
    leaving: Option<Leave>,
    executable: PathBuf,
}

/// Why the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// The node is over; the keeper ends with this code.
    Node(i32),
    /// Makes room for a new controller: the keeper starts it, no service notices.
    Successor,
    /// This controller cannot go on (the keeper is gone, or a descriptor was lost on the way).
    Lost,
}

/// News for the loop itself, not for the brain.
pub(crate) enum Notice {
    /// A helper is over: the keeper may drop it.
    HelperDone(Id),
    /// `_plugd.yaml` was read or edited: what it makes of the settings, and its text.
    Settings { settings: Box<Settings>, text: Option<Vec<u8>> },
    /// A directory was accepted at the path: the first, or one that replaced it.
    Accepted(Option<OwnedFd>),
    /// A status file is not what was written last: of a service, or the node's own.
    StatusLost(Option<Name>),
    /// The memory holds something of this run of the node.
    Remembered,
    /// Socket or table of lives are gone.
    RunLost,
    /// The keeper was stopped (SIGSTOP): nothing is reaped or started.
    KeeperStopped(i32),
    /// What SIGHUP asked for was done.
    Reloaded,
}

/// What the signals so far have led to.
#[derive(Debug, Default)]
struct Signals {
    stops: u32,
    last_stop: Option<Duration>,
    had_terminal: bool,
}

impl Node {
    /// Runs until everything is stopped or the keeper asks for a successor.
    pub async fn run(mut self) -> i32 {
        if self.directory.is_none() {
            self.run.watch(&self.notices);
        }
        loop {
            let deadline = self.next_wake();
            tokio::select! {
                biased;
                event = self.keeper.next() => self.on_keeper_result(event),
                Some(input) = self.inputs.recv() => self.note(input),
                Some(done) = self.preparing.answers.recv() => self.preparing.done.push_back(done),
                Some(event) = self.pump_events.recv() => self.on_pump(event),
                Some(request) = self.requests.recv() => self.on_request(request),
                Some(notice) = self.noticed.recv() => self.on_notice(notice),
                () = self.alarm.ring(deadline) => {}
            }
            let began = Instant::now();
            if self.absence.on_wake(deadline.map(|due| began.saturating_duration_since(due))) {
                // Before the failures that came of it.
                self.queue.push_front(Input::Awoke);
            }
            self.drain();
            self.turn();
            if absence::is_long(began.elapsed()) {
                self.queue.push_back(Input::Awoke);
            }
            if let Some(leave) = self.leaving {
                return self.last_words(leave).await;
            }
            // Tasks get their turn even while there is always news: connections, probes, helpers.
            tokio::task::yield_now().await;
        }
    }

    /// Whatever else has arrived by now belongs to the same turn.
    fn drain(&mut self) {
        // A keeper that is gone says so again and again.
        while self.leaving.is_none() {
            match self.keeper.try_next() {
                Ok(Some(event)) => self.on_keeper(event),
                Ok(None) => break,
                Err(error) => {
                    self.on_keeper_result(Err(error));
                    break;
                }
            }
        }
        while let Ok(input) = self.inputs.try_recv() {
            self.note(input);
        }
        while let Ok(done) = self.preparing.answers.try_recv() {
            self.preparing.done.push_back(done);
        }
        while let Ok(event) = self.pump_events.try_recv() {
            self.on_pump(event);
        }
        // A storm of exits must not keep people waiting: the select asks the keeper first.
        while let Ok(request) = self.requests.try_recv() {
            self.on_request(request);
        }
        while let Ok(notice) = self.noticed.try_recv() {
            self.on_notice(notice);
        }
    }

    /// Absorb, decide, apply, until nothing new comes of it.
    fn turn(&mut self) {
        self.look_after_preparations();
        for _ in 0..TURNS_MAX {
            let now = self.now();
            while let Some(mut input) = self.queue.pop_front() {
                self.masks.hide(&mut input);
                self.observe(&input);
                if let Input::Tried { name, .. } = &input {
                    self.trials.answered(name);
                }
                self.controller.absorb(input, now);
            }
            let plan = self.controller.decide(now);
            let idle = plan.actions.is_empty();
            for action in plan.actions {
                self.apply(action, now);
            }
            self.take_prepared();
            if idle && self.queue.is_empty() {
                break;
            }
        }
        self.preparing.hand_over();
        self.tell_news(self.now());
        self.publish_what_is_due();
        self.trials.end_turn();
    }

    /// Takes a fact into this turn; the loop's own tables hear of it first.
    fn note(&mut self, mut input: Input) {
        if self.is_overtaken(&input) {
            return;
        }
        if let Input::Declared(declaration) = &mut input {
            self.enter_door(declaration);
            self.on_declared(declaration);
        }
        if let Input::Scanned = &input {
            self.on_scanned();
        }
        if let Input::Tried { name, result: Ok(()), .. } = &input {
            self.drop_claims(name);
            self.look_at_claims();
        }
        if let Input::PortFree(port) = &input {
            self.awaited_ports.remove(port);
            self.open_doors_of(*port);
        }
        self.queue.push_back(input);
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::HelperDone(id) => self.on_helper_done(&id),
            Notice::Settings { settings, text } => {
                layers::hold(&mut self.keeper, text.as_deref());
                self.on_settings(*settings);
            }
            Notice::Accepted(directory) => {
                layers::hold_directory(&mut self.keeper, directory);
                self.publisher.reopen(self.now());
            }
            Notice::StatusLost(name) => self.publisher.rewrite(name.as_ref(), self.now()),
            Notice::Remembered => layers::note_remembered(&mut self.keeper),
            Notice::RunLost => self.renew_run(),
            Notice::KeeperStopped(keeper) => self.continue_keeper(keeper),
            Notice::Reloaded => self.reloaded(),
        }
    }

    fn publish_what_is_due(&mut self) {
        if std::mem::take(&mut self.sweep_due) {
            self.publisher.sweep();
            self.trim_at = Some(Instant::now() + TRIM_AFTER);
        }
        if self.trim_at.take_if(|at| *at <= Instant::now()).is_some() {
            crate::keeper::memory::trim();
        }
        let now = self.now();
        self.publisher.serve(now);
        self.tell_manager();
        self.hand_over_samples_if_due(now);
        self.try_limits_again(now);
        if self.table.is_long() && self.pending.is_empty() {
            self.table.compact();
        }
    }

    /// Everything is said and written.
    async fn last_words(&mut self, leave: Leave) -> i32 {
        let code = match leave {
            Leave::Node(code) => {
                let now = self.now();
                self.tell_manager_the_end();
                self.publisher.last(now);
                // Before the keeper is gone: whoever asks then finds nobody, not somebody about to go.
                self.publisher.close_door();
                code
            }
            Leave::Successor => 0,
            // The keeper starts another, which lists what there is.
            Leave::Lost => 1,
        };
        self.hand_over_samples(self.now());
        self.close_files().await;
        if let Leave::Node(_) = leave {
            self.end_all_helpers().await;
            // A third signal leaves services behind: the next run finds them in the table.
            if self.lives.values().all(|live| live.ended) {
                self.table.clear();
                self.cgroups.iter().for_each(CgroupRoot::remove);
                self.limits.close();
            }
            // With the keeper we are gone.
            crate::edge::stderr::finish(boot::WORDS_MAX);
            self.keeper.leave(code);
        }
        // A keeper that cannot be written to any more is one that nothing need be told.
        let _ = tokio::time::timeout(CLOSE_MAX, self.keeper.flush()).await;
        crate::edge::stderr::finish(boot::WORDS_MAX);
        code
    }

    async fn close_files(&self) {
        let (pump, store) = (self.pump.clone(), self.store.clone());
        let (done, closed) = tokio::sync::oneshot::channel();
        let closing = std::thread::Builder::new().name("closing".into()).spawn(move || {
            pump.shutdown();
            store.close();
            // Nobody waits any more: then it took too long.
            done.send(()).ok();
        });
        if closing.is_ok() && tokio::time::timeout(CLOSE_MAX, closed).await.is_err() {
            tracing::warn!("the log files or the database do not close; leaving without them");
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let brain = self.controller.next_deadline().map(instant_at);
        let publisher = self.publisher.next_due();
        let preparation = self.next_preparation().map(Instant::from_std);
        let samples = self.samples.next_due().map(instant_at);
        let limits = self.limits.next_try().map(instant_at);
        let manager = self.managed.next_due(*self.publisher.changed.borrow()).map(Instant::from_std);
        match self.queue.is_empty() {
            false => Some(Instant::now()),
            true => [brain, publisher, preparation, samples, limits, manager, self.trim_at].into_iter().flatten().min(),
        }
    }

    fn now(&self) -> Now {
        Now { mono: monotonic(), wall: jiff::Timestamp::now() }
    }

    fn on_keeper_result(&mut self, event: std::io::Result<KeeperEvent>) {
        match event {
            Ok(event) => self.on_keeper(event),
            Err(error) => {
                // Without its keeper a controller is nobody: PDEATHSIG is on its way.
                tracing::error!(%error, "the keeper cannot be heard any more; leaving");
                self.leaving = Some(Leave::Lost);
            }
        }
    }
}

/// CLOCK_MONOTONIC, the clock that everything is decided on.
pub(crate) fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

fn instant_at(mono: Duration) -> Instant {
    Instant::now() + mono.saturating_sub(monotonic())
}
