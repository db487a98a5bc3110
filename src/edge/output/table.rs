//! All pipes and files of the pump, and what the runtime asks of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rustix::event::epoll;

use super::budget;
use super::engine::ENOUGH;
use super::file::{Began, LogFile};
use super::flow::{Step, Target, advance, why};
use super::layout::{Place, Side};
use super::look::{Look, last_lines, last_of};
use super::loss::{Cause, Rate};
use super::off_limits::OffLimits;
use super::pipe::{Kit, Pipe};
use super::pump::{Counts, PumpEvent, Stream};
use super::tee::Label;
use crate::model::name::LifeId;
use crate::model::spec::Logs;

/// What a turn may move: as much as the largest pipe that an unprivileged service can make holds
/// (`fs.pipe-max-size`). A grandchild that never stops writing must not hold an exit back, nor a loud
/// service the others.
const MOST: u64 = 1 << 20;
/// Steps of one turn: a file of the least size is rotated after at most a few of them.
const STEPS_MAX: usize = 4096;
/// To these a pipe is grown whose service fills it: fewer changes of the running task per byte. The
/// last is what `fs.pipe-max-size` allows to everybody.
const PIPE_SIZES: [(u64, usize); 2] = [(48 * 1024, 256 * 1024), (192 * 1024, 1024 * 1024)];

/// How far a turn goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// What is there; a little is left for later.
    Share,
    /// Until there is nothing.
    Empty,
}

type Outbox = VecDeque<PumpEvent>;

#[derive(Debug)]
pub(super) struct Table {
    pub epoll: OwnedFd,
    pub kit: Kit,
    dir: Option<PathBuf>,
    off_limits: Arc<OffLimits>,
    counts: Counts,
    pipes: BTreeMap<u64, Box<Pipe>>,
    lives: HashMap<LifeId, Vec<u64>>,
    targets: Vec<Option<Target>>,
    by_path: HashMap<PathBuf, usize>,
    next_token: u64,
    /// Pipes that wait or lose something; few, so that the others cost nothing.
    troubled: BTreeSet<u64>,
}

/// When the file of a pipe is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Now,
    FirstByte,
}

/// A file that somebody named is there as soon as the service is, for whoever follows it.
fn opening(logs: &Logs) -> Opening {
    if logs.path.is_some() { Opening::Now } else { Opening::FirstByte }
}

impl Table {
    pub(super) fn new(
        epoll: OwnedFd,
        dir: Option<PathBuf>,
        off_limits: Arc<OffLimits>,
        kit: Kit,
        counts: Counts,
    ) -> Table {
        Table {
            epoll,
            kit,
            dir,
            off_limits,
            counts,
            pipes: BTreeMap::new(),
            lives: HashMap::new(),
            targets: Vec::new(),
            by_path: HashMap::new(),
            next_token: 1,
            troubled: BTreeSet::new(),
        }
    }

    pub(super) fn attach(&mut self, stream: Stream, outbox: &mut Outbox) {
        if self.lives.contains_key(&stream.life) {
            return;
        }
        let Stream { life, fd, stderr, logs, several, log_line } = stream;
        self.lives.insert(life.clone(), Vec::new());
        let sides = [Some((Side::Out, fd)), stderr.map(|fd| (Side::Err, fd))];
        for (side, fd) in sides.into_iter().flatten() {
            // A pattern is looked for in what the file already holds of this life.
            let when = if log_line.is_some() { Opening::Now } else { opening(&logs) };
            let target = self.enter(&life, several, &logs, side, when, outbox);
            self.add_pipe(&life, side, fd, target, &logs, several, log_line.as_ref(), outbox);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a pipe's parts, named once, in one place")]
    fn add_pipe(
        &mut self,
        life: &LifeId,
        side: Side,
        fd: OwnedFd,
        target: Option<usize>,
        logs: &Logs,
        several: bool,
        log_line: Option<&regex::Regex>,
        outbox: &mut Outbox,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        // Its other reader is the keeper, which never reads; splice and tee are told not to block
        // anyway. The flag matters where there is no file and the pipe is read.
        if let Ok(flags) = rustix::fs::fcntl_getfl(&fd) {
            let _ = rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK);
        }
        let label = self.label(life, several, side);
        let counted = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = { counted }.entry(life.instance.clone()).or_default().clone();
        let mut pipe = Box::new(Pipe {
            life: life.clone(),
            side,
            fd: Some(fd),
            target,
            several,
            logs: logs.clone(),
            label,
            look: None,
            matched: false,
            counted,
            grown: 0,
            rate: logs.rate_limit.map(|limit| Rate::new(limit, self.kit.now.mono)),
            loss: None,
            paused_until: None,
            unopened: false,
            last: Vec::new(),
        });
        let target = target.and_then(|target| self.targets[target].as_ref());
        begin_look(&mut pipe, log_line, target, &mut self.kit.buffer);
        tell_unopened(&mut pipe, target, outbox);
        arm(&self.epoll, token, &pipe);
        self.pipes.insert(token, pipe);
        self.lives.entry(life.clone()).or_default().push(token);
        self.turn(token, Turn::Share, outbox);
    }

    /// Under which name it is copied.
    fn label(&self, life: &LifeId, several: bool, side: Side) -> Arc<Label> {
        let is_one_of_several = several || life.instance.index > 0;
        let text = if is_one_of_several { life.instance.to_string() } else { life.instance.service.to_string() };
        let label = Arc::new(Label { text, err: side == Side::Err });
        self.kit.copier.iter().for_each(|copier| copier.meet(&label));
        label
    }

    /// The file of one output; what other pipes still hold for it is moved first.
    fn enter(
        &mut self,
        life: &LifeId,
        several: bool,
        logs: &Logs,
        side: Side,
        when: Opening,
        outbox: &mut Outbox,
    ) -> Option<usize> {
        let dir = self.dir.as_deref()?;
        let place = Place::of(dir, &life.instance, several, logs.path.as_deref(), side);
        let number = match self.by_path.get(&place.base) {
            Some(number) => {
                let number = *number;
                self.drain_older(number, u64::MAX, outbox);
                number
            }
            None => {
                self.kit.budget.enter(&place, logs.max_size, logs.max_files);
                let target = Target {
                    file: LogFile::new(place.clone(), self.off_limits.clone(), self.kit.now),
                    unopened: None,
                    trouble: None,
                    pipes: 0,
                    max_size: logs.max_size,
                };
                let free = self.targets.iter().position(Option::is_none).unwrap_or(self.targets.len());
                if free == self.targets.len() {
                    self.targets.push(None);
                }
                self.targets[free] = Some(target);
                self.by_path.insert(place.base, free);
                free
            }
        };
        if let Some(target) = &mut self.targets[number] {
            target.pipes += 1;
            match when {
                Opening::Now => {
                    let ready = target.file.ready(&mut self.kit.index, self.kit.now);
                    target.unopened = ready.err().map(|error| why(target, &error));
                }
                Opening::FirstByte => {}
            }
            target.file.begin_life(life.life, &mut self.kit.index, self.kit.now);
        }
        Some(number)
    }

    fn leave(&mut self, number: usize) {
        let Some(target) = &mut self.targets[number] else { return };
        target.pipes -= 1;
        if target.pipes > 0 {
            return;
        }
        let rest = target.file.index().cloned().zip(std::fs::symlink_metadata(&target.file.place.base).ok());
        let rest = rest.map(|(index, meta)| budget::old_file(&meta, index));
        self.kit.budget.leave(&target.file.place, target.max_size, rest);
        self.by_path.remove(&target.file.place.base);
        self.targets[number] = None;
    }

    pub(super) fn update(&mut self, life: &LifeId, logs: &Logs, several: bool, outbox: &mut Outbox) {
        for token in self.lives.get(life).cloned().unwrap_or_default() {
            self.turn(token, Turn::Empty, outbox);
            let Some(pipe) = self.pipes.get_mut(&token) else { continue };
            if pipe.logs.rate_limit != logs.rate_limit {
                pipe.rate = logs.rate_limit.map(|limit| Rate::new(limit, self.kit.now.mono));
            }
            let before = std::mem::replace(&mut pipe.logs, logs.clone());
            let was_several = std::mem::replace(&mut pipe.several, several);
            let (side, target) = (pipe.side, pipe.target);
            if was_several != several {
                let label = self.label(life, several, side);
                if let Some(pipe) = self.pipes.get_mut(&token) {
                    let before = std::mem::replace(&mut pipe.label, label);
                    self.kit.copier.iter_mut().for_each(|copier| copier.end(&before));
                }
            }
            if before.path != logs.path || was_several != several {
                let entered = self.enter(life, several, logs, side, opening(logs), outbox);
                target.into_iter().for_each(|target| self.leave(target));
                if let Some(pipe) = self.pipes.get_mut(&token) {
                    pipe.target = entered;
                    pipe.look.iter_mut().for_each(Look::rewind);
                    tell_unopened(pipe, entered.and_then(|target| self.targets[target].as_ref()), outbox);
                }
            } else if let Some(target) = target.and_then(|target| self.targets[target].as_mut()) {
                self.kit.budget.resize(target.max_size, logs.max_size);
                target.max_size = logs.max_size;
            }
        }
    }

    /// Looks for another line, from where the life begins in its file.
    pub(super) fn look_for(&mut self, life: &LifeId, pattern: Option<&regex::Regex>, outbox: &mut Outbox) {
        let tokens = self.lives.get(life).cloned().unwrap_or_default();
        // What is in the pipes now is in the file then.
        for token in &tokens {
            self.turn(*token, Turn::Empty, outbox);
        }
        for token in &tokens {
            let Some(pipe) = self.pipes.get_mut(token) else { continue };
            let mut target = pipe.target.and_then(|target| self.targets[target].as_mut());
            if let (Some(target), Some(_)) = (&mut target, pattern) {
                // A controller before us may have stored what this life said.
                target.file.look_up(&mut self.kit.index, self.kit.now);
            }
            begin_look(pipe, pattern, target.as_deref(), &mut self.kit.buffer);
        }
        tokens.into_iter().for_each(|token| self.tell(token, outbox));
    }

    /// Lets go of a life whose logs go where another thread writes; what is in its pipes now still goes
    /// where they went. None where a pipe has ended: nothing more comes of it.
    pub(super) fn hand_over(
        &mut self,
        life: &LifeId,
        logs: &Logs,
        several: bool,
        outbox: &mut Outbox,
    ) -> Option<Stream> {
        let tokens = self.lives.get(life)?.clone();
        if tokens.iter().any(|token| self.pipes.get(token).is_none_or(|pipe| pipe.fd.is_none())) {
            return None;
        }
        self.lives.remove(life);
        let (mut out, mut stderr, mut log_line) = (None, None, None);
        for token in tokens {
            self.turn(token, Turn::Empty, outbox);
            self.troubled.remove(&token);
            let Some(mut pipe) = self.pipes.remove(&token) else { continue };
            disarm(&self.epoll, &pipe);
            if pipe.loss.is_some() {
                outbox.push_back(PumpEvent::Recovered { life: life.clone() });
            }
            if pipe.unopened {
                outbox.push_back(PumpEvent::Opened { life: life.clone() });
            }
            log_line = log_line.or_else(|| pipe.look.as_ref().and_then(Look::pattern));
            pipe.target.into_iter().for_each(|target| self.leave(target));
            match pipe.side {
                Side::Out => out = pipe.fd.take(),
                Side::Err => stderr = pipe.fd.take(),
            }
        }
        let (life, logs) = (life.clone(), logs.clone());
        // Ended while it was emptied: there is nothing to move, and who closes it is answered.
        let fd = match out {
            Some(fd) => fd,
            None => rustix::pipe::pipe().ok()?.0,
        };
        Some(Stream { life, fd, stderr, logs, several, log_line })
    }

    pub(super) fn finish(&mut self, life: &LifeId, outbox: &mut Outbox) {
        let tokens = self.lives.get(life).cloned().unwrap_or_default();
        let mut last = Vec::new();
        for token in tokens {
            self.turn(token, Turn::Empty, outbox);
            let Some(pipe) = self.pipes.get(&token) else { continue };
            match pipe.target.and_then(|target| self.targets[target].as_mut()) {
                Some(target) => {
                    // A controller before us may have stored what this life said.
                    target.file.look_up(&mut self.kit.index, self.kit.now);
                    last.append(&mut last_of(&target.file));
                }
                None => last.extend_from_slice(&pipe.last),
            }
        }
        outbox.push_back(PumpEvent::Drained { life: life.clone(), lines: last_lines(&last) });
    }

    pub(super) fn close(&mut self, life: &LifeId, outbox: &mut Outbox) {
        for token in self.lives.remove(life).unwrap_or_default() {
            self.turn(token, Turn::Empty, outbox);
            self.troubled.remove(&token);
            let Some(pipe) = self.pipes.remove(&token) else { continue };
            if let Some(fd) = &pipe.fd
                && pipe.paused_until.is_none()
            {
                let _ = epoll::delete(&self.epoll, fd);
            }
            if pipe.loss.is_some() {
                outbox.push_back(PumpEvent::Recovered { life: life.clone() });
            }
            if pipe.unopened {
                outbox.push_back(PumpEvent::Opened { life: life.clone() });
            }
            if let Some(copier) = &mut self.kit.copier {
                copier.end(&pipe.label);
            }
            pipe.target.into_iter().for_each(|target| self.leave(target));
        }
        outbox.push_back(PumpEvent::Closed { life: life.clone() });
    }

    pub(super) fn close_all(&mut self, outbox: &mut Outbox) {
        let lives: Vec<LifeId> = self.lives.keys().cloned().collect();
        lives.iter().for_each(|life| self.close(life, outbox));
    }

    pub(super) fn reopen(&mut self) {
        for target in self.targets.iter_mut().flatten() {
            let _ = target.file.compare_name(&mut self.kit.index, self.kit.now);
        }
    }

    /// A pipe has something: the bytes moved. Older pipes of the same file come first.
    pub(super) fn serve(&mut self, token: u64, outbox: &mut Outbox) -> u64 {
        let Some(pipe) = self.pipes.get(&token) else { return 0 };
        if let Some(number) = pipe.target
            && self.targets[number].as_ref().is_some_and(|target| target.pipes > 1)
        {
            self.drain_older(number, token, outbox);
        }
        self.turn(token, Turn::Share, outbox)
    }

    fn drain_older(&mut self, number: usize, than: u64, outbox: &mut Outbox) {
        let older = self.pipes.range(..than).filter(|(_, pipe)| pipe.target == Some(number) && pipe.fd.is_some());
        let older: Vec<u64> = older.map(|(token, _)| *token).collect();
        for token in older {
            self.turn(token, Turn::Empty, outbox);
        }
    }

    fn turn(&mut self, token: u64, turn: Turn, outbox: &mut Outbox) -> u64 {
        let Some(pipe) = self.pipes.get_mut(&token) else { return 0 };
        let mut target = pipe.target.and_then(|number| self.targets[number].as_mut());
        let mut sum = 0;
        for _ in 0..STEPS_MAX {
            match advance(pipe, target.as_deref_mut(), &mut self.kit) {
                Step::Moved(bytes) => {
                    sum += bytes;
                    // The pipe was nearly empty: asking again at once would be one call a line.
                    if turn == Turn::Share && (1..ENOUGH).contains(&bytes) && pipe.loss.is_none() {
                        break;
                    }
                }
                Step::Recovered => outbox.push_back(PumpEvent::Recovered { life: pipe.life.clone() }),
                Step::Empty => break,
                Step::Ended => {
                    disarm(&self.epoll, pipe);
                    pipe.fd = None;
                    break;
                }
                Step::Wait(until) => {
                    disarm(&self.epoll, pipe);
                    pipe.paused_until = Some(until);
                    break;
                }
            }
            if sum >= MOST {
                break;
            }
        }
        if let Some((full, size)) = PIPE_SIZES.get(pipe.grown)
            && sum >= *full
        {
            pipe.grown += 1;
            // Refused where `fs.pipe-user-pages-soft` is used up: it is only slower then.
            let _ = pipe.fd.as_ref().map(|fd| rustix::pipe::fcntl_setpipe_size(fd, *size));
        }
        if pipe.unopened && target.is_some_and(|target| target.file.is_open()) {
            pipe.unopened = false;
            outbox.push_back(PumpEvent::Opened { life: pipe.life.clone() });
        }
        match pipe.paused_until.is_some() || pipe.loss.is_some() {
            true => drop(self.troubled.insert(token)),
            false => drop(self.troubled.remove(&token)),
        }
        self.tell(token, outbox);
        sum
    }

    fn tell(&mut self, token: u64, outbox: &mut Outbox) {
        let Some(pipe) = self.pipes.get_mut(&token) else { return };
        if let Some(loss) = &mut pipe.loss
            && loss.has_news(self.kit.now.mono)
        {
            if pipe.unopened && loss.cause == Cause::Disk {
                // One fault, one problem: that it is lost takes the place of that it would be.
                pipe.unopened = false;
                loss.why = remedied(std::mem::take(&mut loss.why), &pipe.logs);
                outbox.push_back(PumpEvent::Opened { life: pipe.life.clone() });
            }
            let (bytes, why) = (loss.bytes, loss.why.clone());
            outbox.push_back(PumpEvent::Dropped { life: pipe.life.clone(), bytes, why });
        }
        if pipe.matched {
            let life = pipe.life.clone();
            let pattern = pipe.look.as_ref().map(|look| look.source().to_owned()).unwrap_or_default();
            for token in self.lives.get(&life).into_iter().flatten() {
                if let Some(pipe) = self.pipes.get_mut(token) {
                    (pipe.matched, pipe.look) = (false, None);
                }
            }
            outbox.push_back(PumpEvent::LogLine { life, pattern });
        }
    }

    /// Tries again what had to wait, and looks whether a loss is over.
    pub(super) fn resume(&mut self, outbox: &mut Outbox) {
        let now = self.kit.now.mono;
        if !self.loses() && self.next_resume().is_none_or(|at| at > now) {
            return;
        }
        for token in self.troubled.clone() {
            let due = |pipe: &&mut Box<Pipe>| pipe.paused_until.is_some_and(|at| at <= now) || pipe.loss.is_some();
            let Some(pipe) = self.pipes.get_mut(&token).filter(due) else { continue };
            if pipe.paused_until.take_if(|at| *at <= now).is_some() {
                arm(&self.epoll, token, pipe);
            }
            self.turn(token, Turn::Share, outbox);
        }
    }

    pub(super) fn next_resume(&self) -> Option<Instant> {
        self.troubled().filter_map(|pipe| pipe.paused_until).min()
    }

    pub(super) fn loses(&self) -> bool {
        self.troubled().any(|pipe| pipe.loss.is_some())
    }

    fn troubled(&self) -> impl Iterator<Item = &Pipe> {
        self.troubled.iter().filter_map(|token| self.pipes.get(token).map(|pipe| &**pipe))
    }

    pub(super) fn enforce(&mut self) {
        let current = self.targets.iter().flatten().map(|target| target.file.size()).sum();
        self.kit.budget.enforce(current, &mut self.kit.index);
    }

    pub(super) fn expire(&mut self) {
        let now = self.kit.now.micros / 1_000_000;
        for pipe in self.pipes.values() {
            let target = pipe.target.and_then(|number| self.targets[number].as_ref());
            if let (Some(age), Some(target)) = (pipe.logs.max_age, target) {
                self.kit.budget.expire(&target.file.place, age, now, &mut self.kit.index);
            }
        }
    }
}

/// Says of a file that was to be open by now that it is not; takes back what was said of another one.
fn tell_unopened(pipe: &mut Pipe, target: Option<&Target>, outbox: &mut Outbox) {
    let why = target.filter(|target| !target.file.is_open()).and_then(|target| target.unopened.clone());
    let why = why.map(|why| remedied(why, &pipe.logs));
    let before = std::mem::replace(&mut pipe.unopened, why.is_some());
    match why {
        Some(why) => outbox.push_back(PumpEvent::Unopened { life: pipe.life.clone(), why }),
        None if before => outbox.push_back(PumpEvent::Opened { life: pipe.life.clone() }),
        None => {}
    }
}

/// The usual place is nobody's to correct in a manifest.
fn remedied(why: String, logs: &Logs) -> String {
    if logs.path.is_some() { format!("{why}; correct `logs.path`") } else { why }
}

/// Looks for a line in what the file holds of the life; what comes is looked at as it comes.
fn begin_look(pipe: &mut Pipe, pattern: Option<&regex::Regex>, target: Option<&Target>, buffer: &mut [u8]) {
    let from = match target.map(|target| target.file.began) {
        Some(Began::Here(offset)) => offset,
        Some(Began::Before(_) | Began::Older) | None => 0,
    };
    pipe.look = pattern.and_then(|pattern| Look::new(pattern, from));
    pipe.matched = match (&mut pipe.look, target) {
        (Some(look), Some(target)) => look.advance(&target.file, buffer),
        (Some(_), None) | (None, _) => false,
    };
}

fn arm(epoll: &OwnedFd, token: u64, pipe: &Pipe) {
    if let Some(fd) = &pipe.fd
        && let Err(error) = epoll::add(epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
    {
        tracing::error!(life = %pipe.life, %error, "the output of a service cannot be watched");
    }
}

fn disarm(epoll: &OwnedFd, pipe: &Pipe) {
    if let Some(fd) = &pipe.fd
        && pipe.paused_until.is_none()
    {
        let _ = epoll::delete(epoll, fd);
    }
}
