//! What the controller may ask.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::launch::{Launch, Role};
use super::program::{Keeper, Note};
use super::reapers::Told;
use super::reexec::STATE;
use super::sys;
use super::table::Entry;
use super::wire::{BLOB_MAX, FDS_MAX, Fault, Field, Id, KEY_MAX, LARGE_MAX, Request, Spawn, Stage, flag};

/// Descriptors kept free: a packet's, the pipes and pidfd of a spawn, a file of proc, and the state of a
/// re-exec, with room to spare.
const RESERVE: u64 = 64;
/// The controller exits right after it has said that the keeper may leave.
const LEAVE_MAX: i32 = 1_000;

fn refusal(errno: i32) -> Fault {
    Fault { stage: Stage::Request, errno }
}

impl Keeper {
    /// One packet. `truncated`: some of its descriptors found no room.
    pub fn answer(&mut self, packet: &[u8], fds: Vec<OwnedFd>, truncated: bool) {
        let request = match Request::decode(packet) {
            Ok(request) => request,
            Err(error) => return sys::say(&format!("the controller sent a {error}; passing over it")),
        };
        match request {
            Request::Ready { state } => self.ready(state),
            Request::Spawn { spawn } => self.spawn_or_say_why(&spawn, fds, truncated),
            Request::SpawnLarge { id } => self.spawn_large(id, fds, truncated),
            Request::SetBlob { id, blob } => {
                let number = self.table.number_of(id).filter(|_| blob.len() <= BLOB_MAX);
                if let Some(entry) = number.and_then(|number| self.table.get_mut(number)) {
                    entry.blob = blob.into();
                }
            }
            Request::Forget { id } => {
                let number = self.table.number_of(id);
                let ended = |number: &u64| self.table.get(*number).is_some_and(|entry| entry.exit.is_some());
                let _forgotten = number.filter(ended).map(|number| self.table.remove(number));
            }
            Request::Abandon { id } => self.abandon(id),
            Request::List => self.tell(Note::Entries { from: 0 }),
            Request::Deposit { key } => {
                let fd = fds.into_iter().next().filter(|fd| self.has_room(fd) && key.len() <= KEY_MAX);
                let _replaced = fd.map(|fd| self.deposits.insert(key.into(), fd));
            }
            Request::Withdraw { key } => drop(self.deposits.remove(key)),
            // An upgrade that refuses to run ends nothing: it is a start that failed.
            Request::Leave { .. } if self.minder.is_trial() => self.minder.kill(),
            Request::Leave { code } => {
                // Who watches the keeper (systemd) kills what it finds beside it after that.
                let _gone = self.minder.process.as_ref().map(|(_, fd)| sys::is_readable(fd.as_fd(), LEAVE_MAX));
                std::process::exit(code)
            }
            Request::Upgrade { path } => self.minder.try_out(path.into()),
            Request::Reexec { path } => self.reexec_or_say_why(path),
            Request::Hello { protocol: _ } | Request::Pong => {} // that something came is what counts
        }
    }

    fn abandon(&mut self, id: Id<'_>) {
        let Some(number) = self.table.number_of(id) else { return };
        // It may have executed and the news wait to be read: then this is too late, and nothing is done.
        self.executed_by_now(number);
        self.hear_reaper_by_now(number);
        let waits = |entry: &&Entry| entry.verdict.is_some() && entry.exit.is_none();
        if let Some(entry) = self.table.get(number).filter(waits) {
            // It is our child, or its reaper's, and was not reaped: the number is its own. It leads no group of
            // others yet, but is in its reaper's until it is known.
            let pid = if self.is_unborn(number) { -entry.pid } else { entry.pid };
            let _gone_already = sys::kill(pid, libc::SIGKILL);
        }
    }

    /// It serves. Where it is an upgrade the keeper follows it, by the very file that runs.
    fn ready(&mut self, state: u32) {
        self.minder.away_since = None;
        self.minder.taken_back = false; // it has been told
        let Some((pid, _)) = self.minder.process.as_ref().filter(|_| self.minder.on_trial) else { return };
        let path = std::ffi::CString::new(format!("/proc/{pid}/exe")).unwrap_or_default();
        self.minder.on_trial = false;
        if state < STATE {
            sys::say("the new controller is older than the keeper, which goes on as it is");
            return self.tell(Note::Reexecuted { errno: libc::EPROTONOSUPPORT });
        }
        let next = self.minder.next.take();
        self.reexec_or_say_why(&path);
        self.minder.next = next; // it could not: the controller's program stays another one than the keeper's
    }

    fn reexec_or_say_why(&mut self, path: &CStr) {
        let errno = self.reexec(path);
        self.tell(Note::Reexecuted { errno });
    }

    fn spawn_large(&mut self, id: Id<'_>, mut fds: Vec<OwnedFd>, truncated: bool) {
        if fds.is_empty() {
            return self.fail(id, refusal(if truncated { libc::EMFILE } else { libc::EINVAL }));
        }
        match sys::read_sealed(fds.remove(0), LARGE_MAX) {
            Err(error) => self.fail(id, refusal(sys::errno(&error))),
            Ok(mut content) => {
                match Request::decode(&content) {
                    Ok(Request::Spawn { spawn }) if spawn.id == id => self.spawn_or_say_why(&spawn, fds, truncated),
                    Ok(_) | Err(_) => self.fail(id, refusal(libc::EINVAL)),
                }
                content.fill(0); // secrets, too
                std::hint::black_box(&content);
            }
        }
    }

    fn spawn_or_say_why(&mut self, spawn: &Spawn<'_>, fds: Vec<OwnedFd>, truncated: bool) {
        if let Err(fault) = self.spawn(spawn, fds, truncated) {
            self.fail(spawn.id, fault);
        }
    }

    fn fail(&mut self, id: Id<'_>, fault: Fault) {
        self.tell(Note::Failed { key: id.key.into(), life: id.life, fault });
    }

    fn spawn(&mut self, spawn: &Spawn<'_>, fds: Vec<OwnedFd>, truncated: bool) -> Result<(), Fault> {
        let failed = |stage| move |error| Fault { stage, errno: sys::errno(&error) };
        let given = Given::sort(spawn, &fds, truncated).map_err(refusal)?;
        if let Some(cgroup) = given.cgroup {
            let events = cgroup_events(cgroup).map_err(failed(Stage::Cgroup))?;
            let says = |line: &[u8]| events.split(|byte| *byte == b'\n').any(|found| found == line);
            // A child that is frozen at once would stop the keeper with it.
            if says(b"frozen 1") || says(b"populated 1") && !spawn.has(flag::JOINS_CGROUP) {
                return Err(refusal(libc::EBUSY));
            }
        }
        self.table.refuse(spawn.id, given.cgroup.is_some()).map_err(refusal)?;

        let (log, out) = sys::pipe().map_err(failed(Stage::Pipe))?;
        let separate = spawn.has(flag::SEPARATE_STDERR).then(sys::pipe).transpose().map_err(failed(Stage::Pipe))?;
        let err = separate.as_ref().map_or(&out, |(_, err)| err);
        if !self.has_room(err) {
            return Err(refusal(libc::EMFILE));
        }
        // The keeper's own 0 is /dev/null.
        let stdio = [given.stdin.map_or(0, |fd| fd.as_raw_fd()), out.as_raw_fd(), err.as_raw_fd()];
        let mut launch = Launch::new(spawn, Role::Service, stdio);
        (launch.extra, launch.cgroup, launch.entrances) = (given.extra, given.cgroup, given.entrances);
        launch.life_line = given.life_line.map(|fd| fd.as_raw_fd());
        launch.open_files = Some(self.open_files);
        // Once it has another user's credentials, that user's processes may stop it before its exec, and a
        // keeper that shares its memory with it.
        let stranger = spawn.identity.as_ref().is_some_and(|who| who.uid != rustix::process::geteuid().as_raw());
        let plain = stranger || spawn.has(flag::PLAIN_FORK);
        let child = launch.start(&self.desk, plain).map_err(failed(Stage::Clone))?;
        if let Some(fault) = launch.fault {
            // It has left our memory, so it is as good as ended: this waits for microseconds.
            let _reaped = sys::reap(child.pid, true);
            return Err(fault);
        }
        let known = Some(launch.start_time).filter(|time| *time != 0);
        let executed = child.verdict.is_none();
        let reaper = child.told.map(|told| Told { pid: child.pid, start_time: sys::start_time(child.pid), told });
        let number = self.table.insert(Entry {
            key: spawn.id.key.into(),
            life: spawn.id.life,
            pid: child.pid,
            start_time: known.unwrap_or_else(|| sys::start_time(child.pid)),
            spawned_at: sys::now(),
            // Of a reaper it says nothing of the service.
            pidfd: reaper.is_none().then_some(child.pidfd),
            log,
            log_stderr: separate.map(|(log, _)| log),
            verdict: child.verdict,
            fault: None,
            blob: spawn.blob.into(),
            exit: None,
            group_gone: false,
            stop_signal: spawn.stop_signal,
            stop_grace_ms: spawn.stop_grace_ms,
        });
        if let Some(entry) = self.table.get(number) {
            self.watch(number, entry);
        }
        reaper.into_iter().for_each(|reaper| self.enter_reaper(number, reaper));
        if executed {
            self.tell(Note::Spawned { number });
        }
        Ok(())
    }

    /// The lowest free number was taken, so it says how many are in use.
    fn has_room(&self, newest: &OwnedFd) -> bool {
        let room_below = self.open_files.1.saturating_sub(RESERVE);
        u64::try_from(newest.as_raw_fd()).is_ok_and(|number| number < room_below)
    }
}

impl Spawn<'_> {
    fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }
}

/// The descriptors of a request by their use.
struct Given<'a> {
    cgroup: Option<BorrowedFd<'a>>,
    life_line: Option<BorrowedFd<'a>>,
    stdin: Option<BorrowedFd<'a>>,
    entrances: Vec<i32>,
    /// Sorted by the number wanted.
    extra: Vec<(i32, i32)>,
}

impl<'a> Given<'a> {
    fn sort(spawn: &Spawn<'_>, fds: &'a [OwnedFd], truncated: bool) -> Result<Given<'a>, i32> {
        if spawn.blob.len() > BLOB_MAX || spawn.id.key.is_empty() || spawn.id.key.len() > KEY_MAX {
            return Err(libc::EMSGSIZE);
        }
        let mut rest = fds.iter().map(AsFd::as_fd);
        let mut next = |bit| if spawn.has(bit) { rest.next().map(Some).ok_or(()) } else { Ok(None) };
        let own = (next(flag::CGROUP), next(flag::LIFE_LINE), next(flag::STDIN));
        let entrances: Vec<i32> = rest.by_ref().take(spawn.entrances.0 as usize).map(|fd| fd.as_raw_fd()).collect();
        let mut extra: Vec<_> = rest.map(|fd| fd.as_raw_fd()).zip(spawn.targets.iter().copied()).collect();
        extra.sort_by_key(|(_, number)| *number);
        let twice = extra.windows(2).any(|pair| matches!(pair, [(_, a), (_, b)] if a == b));
        let too_low = extra.first().is_some_and(|(_, number)| *number < 3);
        let (Ok(cgroup), Ok(life_line), Ok(stdin)) = own else {
            return Err(if truncated { libc::EMFILE } else { libc::EINVAL });
        };
        let used = [cgroup, life_line, stdin].into_iter().flatten().count() + entrances.len() + extra.len();
        let lacks = extra.len() != spawn.targets.len() || entrances.len() != spawn.entrances.0 as usize;
        if truncated || fds.len() > FDS_MAX {
            Err(libc::EMFILE)
        } else if twice || too_low || lacks || used != fds.len() || spawn.argv.is_empty() {
            Err(libc::EINVAL)
        } else {
            Ok(Given { cgroup, life_line, stdin, entrances, extra })
        }
    }
}

fn cgroup_events(cgroup: BorrowedFd<'_>) -> std::io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::openat(cgroup, c"cgroup.events", flags, rustix::fs::Mode::empty())?;
    let mut text = vec![0; 256];
    let length = rustix::io::read(&file, &mut text)?;
    text.truncate(length);
    Ok(text)
}
