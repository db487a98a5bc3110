//! The threads of the pump: one for the log directory, and one for each other place of logs.
//!
//! A splice into a file on a file system that answers nothing does not come back. `logs.path` may name
//! such a place, so what goes to the same directory elsewhere has a thread of its own, begun with its
//! first service: a place that hangs holds up those that named it. An edit of `logs.path` moves a life
//! from one thread to another; what is asked of it afterwards follows it, in order.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::engine::Engine;
use super::off_limits::OffLimits;
use super::pump::{Bell, Command, Counts, PumpEvent, Settings};
use super::tee::Copier;
use crate::model::name::LifeId;
use crate::model::spec::Logs;

/// Threads for places of services' own; further places share one.
const OWN_MAX: usize = 32;

/// A directory outside of the log directory; none is the log directory.
pub(super) type Home = Option<PathBuf>;

#[derive(Debug)]
pub(super) struct Lanes {
    dir: Option<PathBuf>,
    total: Option<u64>,
    pub off_limits: Arc<OffLimits>,
    events: tokio::sync::mpsc::Sender<PumpEvent>,
    pub counts: Counts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<Home, Lane>,
    threads: BTreeMap<Home, JoinHandle<()>>,
    /// Lives that were not attached to the first.
    homes: HashMap<LifeId, Home>,
    /// For the threads that are still to come.
    copier: Option<Copier>,
    closed: bool,
}

/// A way to one thread.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    commands: Sender<Command>,
    wake: Arc<Bell>,
}

impl Lane {
    pub(super) fn send(&self, command: Command) {
        // Both fail only when the thread is gone, after `shutdown`: there is nothing left to do then.
        if self.commands.send(command).is_ok() {
            self.wake.ring();
        }
    }
}

impl Lanes {
    pub(super) fn start(
        settings: Settings,
        events: tokio::sync::mpsc::Sender<PumpEvent>,
    ) -> std::io::Result<Arc<Lanes>> {
        let copier = settings.tee.map(Copier::start).transpose()?;
        let next = copier.as_ref().map(Copier::another);
        let lanes = Arc::new(Lanes {
            dir: settings.dir,
            total: settings.total,
            off_limits: Arc::new(settings.off_limits),
            events,
            counts: Counts::default(),
            state: Mutex::new(State { copier: next, ..State::default() }),
        });
        lanes.begin(&mut lanes.lock(), None, copier)?;
        Ok(lanes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, state: &mut State, home: Home, copier: Option<Copier>) -> std::io::Result<Lane> {
        let (commands, inbox) = channel();
        let wake = Arc::new(Bell::new()?);
        let engine = Engine::new(self, home.clone(), copier, inbox, wake.clone())?;
        let thread = std::thread::Builder::new().name("pump".into()).spawn(move || engine.run())?;
        let lane = Lane { commands, wake };
        state.threads.insert(home.clone(), thread);
        state.lanes.insert(home, lane.clone());
        Ok(lane)
    }

    /// Where the logs of a service go.
    pub(super) fn home_of(&self, logs: &Logs) -> Home {
        let own = logs.path.as_ref()?.parent()?.to_path_buf();
        if self.dir.as_ref() == Some(&own) {
            return None;
        }
        let state = self.lock();
        let room = state.lanes.len() <= OWN_MAX || state.lanes.contains_key(&Some(own.clone()));
        Some(if room { own } else { PathBuf::new() })
    }

    /// The lane of a place, begun if it is the first that goes there.
    pub(super) fn to(self: &Arc<Self>, home: &Home) -> Option<Lane> {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get(home) {
            return Some(lane.clone());
        }
        if state.closed {
            return None;
        }
        let copier = state.copier.as_ref().map(Copier::another);
        match self.begin(&mut state, home.clone(), copier) {
            Ok(lane) => Some(lane),
            Err(error) => {
                tracing::warn!(%error, "no thread can be started for logs elsewhere; they share that of all others");
                state.lanes.get(&None).cloned()
            }
        }
    }

    pub(super) fn attach(self: &Arc<Self>, stream: super::pump::Stream) {
        let home = self.home_of(&stream.logs);
        if home.is_some() {
            self.lock().homes.insert(stream.life.clone(), home.clone());
        }
        if let Some(lane) = self.to(&home) {
            lane.send(Command::Attach(Box::new(stream)));
        }
    }

    /// To the thread that the life was attached to; it hands on what it gave away.
    pub(super) fn tell(self: &Arc<Self>, life: &LifeId, command: Command) {
        let mut state = self.lock();
        let home = match &command {
            Command::Close(_) => state.homes.remove(life),
            Command::Attach(_)
            | Command::Update(..)
            | Command::LookFor(..)
            | Command::Finish(_)
            | Command::Reopen
            | Command::Shutdown => state.homes.get(life).cloned(),
        };
        let lane = state.lanes.get(&home.flatten()).cloned();
        drop(state);
        if let Some(lane) = lane {
            lane.send(command);
        }
    }

    pub(super) fn reopen(&self) {
        self.lock().lanes.values().for_each(|lane| lane.send(Command::Reopen));
    }

    /// All are told first, so that each works on while another one hangs.
    pub(super) fn shutdown(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.copier = None;
        std::mem::take(&mut state.lanes).into_values().for_each(|lane| lane.send(Command::Shutdown));
        // The log directory's comes first.
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        // They say nothing when they end: a panic of one would have been ours.
        threads.into_values().for_each(|thread| drop(thread.join()));
    }

    pub(super) fn dir(&self) -> Option<PathBuf> {
        self.dir.clone()
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(super) fn events(&self) -> tokio::sync::mpsc::Sender<PumpEvent> {
        self.events.clone()
    }
}
