//! A thread of the pump: one epoll over all pipes, and a nap where that saves work.
//!
//! A wake-up that moved little is followed by a short nap, in which the pipes collect: a service that
//! writes line by line then costs a move per nap and not one per line. The nap adapts: halved when a
//! pipe came near its capacity meanwhile, doubled when little came. It ends at once when a command
//! arrives, so an exit is never late, and it follows a move, so the first output of a quiet service
//! is never late either.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::budget::Budget;
use super::index;
use super::lanes::{Home, Lane, Lanes};
use super::pipe::{Kit, Moment};
use super::pump::{Bell, Command, PumpEvent};
use super::scratch::{LOOK_MAX, Scratch};
use super::table::Table;
use super::tee::Copier;
use crate::model::name::LifeId;
use crate::model::spec::Logs;

/// The token of the eventfd; pipes count from 1.
pub(super) const WAKE: u64 = 0;

/// A wake-up that moved this much needs no nap: half of a default pipe.
pub(super) const ENOUGH: u64 = 32 * 1024;
/// A nap that let this much come was too long: half of a grown pipe.
const TOO_MUCH: u64 = 128 * 1024;
const NAP_MIN: Duration = Duration::from_micros(50);
const NAP_START: Duration = Duration::from_millis(1);
const NAP_MAX: Duration = Duration::from_millis(5);

/// While something is being lost: how often it is looked whether that is over.
const LOSS_TICK: Duration = Duration::from_secs(1);
/// How often a receiver that is full is tried again.
const OUTBOX_TICK: Duration = Duration::from_millis(10);
/// How often old files are looked at for `maxAge` and `logs.total`.
const SWEEP: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Engine {
    table: Table,
    lanes: Weak<Lanes>,
    home: Home,
    /// Lives that went to another thread.
    moved: HashMap<LifeId, Lane>,
    events: Sender<PumpEvent>,
    outbox: VecDeque<PumpEvent>,
    inbox: Receiver<Command>,
    wake: Arc<Bell>,
    nap: Duration,
    napped: bool,
    swept: Instant,
}

impl Engine {
    pub(super) fn new(
        lanes: &Arc<Lanes>,
        home: Home,
        copier: Option<Copier>,
        inbox: Receiver<Command>,
        wake: Arc<Bell>,
    ) -> std::io::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake.fd, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let now = Moment::now();
        let kit = Kit {
            scratch: Scratch::new()?,
            index: index::Writer::default(),
            // Old files are looked for in the log directory, by its own thread.
            budget: Budget::new(lanes.dir().filter(|_| home.is_none()), lanes.total()),
            copier,
            now,
            buffer: vec![0; LOOK_MAX],
        };
        let table = Table::new(epoll, lanes.dir(), lanes.off_limits.clone(), kit, lanes.counts.clone());
        Ok(Engine {
            table,
            lanes: Arc::downgrade(lanes),
            home,
            moved: HashMap::new(),
            events: lanes.events(),
            outbox: VecDeque::new(),
            inbox,
            wake,
            nap: NAP_START,
            napped: false,
            swept: now.mono,
        })
    }

    pub(super) fn run(mut self) {
        let mut ready = [MaybeUninit::uninit(); 256];
        loop {
            let before = Instant::now();
            let timeout = self.timeout(before).map(timespec);
            let tokens: Vec<u64> = match epoll::wait(&self.table.epoll, &mut ready[..], timeout.as_ref()) {
                Ok((events, _)) => events.iter().map(|event| event.data.u64()).collect(),
                Err(_) => Vec::new(),
            };
            self.table.kit.now = Moment::now();
            if self.table.kit.now.mono.duration_since(before) > NAP_MAX {
                self.nap = NAP_START;
            }
            if tokens.contains(&WAKE) {
                self.wake.answer();
            }
            let goes_on = self.obey();
            let mut moved = 0;
            for token in tokens.iter().filter(|token| **token != WAKE) {
                moved += self.table.serve(*token, &mut self.outbox);
            }
            self.table.resume(&mut self.outbox);
            self.sweep();
            self.deliver();
            if !goes_on {
                break;
            }
            if moved > 0 {
                self.rest(moved);
            }
        }
        if let Some(copier) = self.table.kit.copier.take() {
            copier.finish();
        }
    }

    /// Does what was asked; false at the shutdown.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Attach(stream)) => {
                    // It may have been spawned since this turn began, and has written nothing before that.
                    self.table.kit.now = Moment::now();
                    self.table.attach(*stream, &mut self.outbox);
                }
                Ok(Command::Update(life, logs, several)) => self.update(life, logs, several),
                Ok(Command::LookFor(life, pattern)) => match self.moved.get(&life) {
                    Some(lane) => lane.send(Command::LookFor(life, pattern)),
                    None => self.table.look_for(&life, pattern.as_ref(), &mut self.outbox),
                },
                Ok(Command::Finish(life)) => match self.moved.get(&life) {
                    Some(lane) => lane.send(Command::Finish(life)),
                    None => self.table.finish(&life, &mut self.outbox),
                },
                Ok(Command::Close(life)) => match self.moved.remove(&life) {
                    Some(lane) => lane.send(Command::Close(life)),
                    None => self.table.close(&life, &mut self.outbox),
                },
                Ok(Command::Reopen) => self.table.reopen(),
                Ok(Command::Shutdown) => {
                    self.table.close_all(&mut self.outbox);
                    return false;
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                // Every handle is gone: nobody can ask for anything any more.
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.table.close_all(&mut self.outbox);
                    return false;
                }
            }
        }
    }

    /// Edited: perhaps its logs go where another thread writes.
    fn update(&mut self, life: LifeId, logs: Logs, several: bool) {
        if let Some(lane) = self.moved.get(&life) {
            return lane.send(Command::Update(life, logs, several));
        }
        let lanes = self.lanes.upgrade();
        let away = lanes.map(|lanes| (lanes.home_of(&logs), lanes)).filter(|(home, _)| *home != self.home);
        let lane = away.and_then(|(home, lanes)| lanes.to(&home));
        if let Some(lane) = lane
            && let Some(stream) = self.table.hand_over(&life, &logs, several, &mut self.outbox)
        {
            // What is told of the old place comes before what the other thread tells of the new one.
            self.deliver();
            lane.send(Command::Attach(Box::new(stream)));
            self.moved.insert(life, lane);
            return;
        }
        self.table.update(&life, &logs, several, &mut self.outbox);
    }

    fn deliver(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    return;
                }
                Err(TrySendError::Closed(_)) => self.outbox.clear(),
            }
        }
    }

    fn sweep(&mut self) {
        let now = self.table.kit.now.mono;
        if self.table.kit.budget.grown || now.duration_since(self.swept) >= SWEEP {
            if now.duration_since(self.swept) >= SWEEP {
                self.table.expire();
            }
            self.swept = now;
            self.table.enforce();
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let paused = self.table.next_resume().map(|at| at.saturating_duration_since(now));
        let loss = self.table.loses().then_some(LOSS_TICK);
        let outbox = (!self.outbox.is_empty()).then_some(OUTBOX_TICK);
        let sweep = Some(SWEEP.saturating_sub(now.duration_since(self.swept)));
        [paused, loss, outbox, sweep].into_iter().flatten().min()
    }

    fn rest(&mut self, moved: u64) {
        // How long the last nap should have been shows in what came during it.
        if std::mem::take(&mut self.napped) {
            self.nap = match moved {
                TOO_MUCH.. => (self.nap / 2).max(NAP_MIN),
                ENOUGH..TOO_MUCH => self.nap,
                0..ENOUGH => (self.nap * 2).min(NAP_MAX),
            };
        }
        if moved < ENOUGH {
            let mut fds = [PollFd::new(&self.wake.fd, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&timespec(self.nap)));
            self.napped = true;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}
