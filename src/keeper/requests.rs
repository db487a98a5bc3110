//! What the controller may ask.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::launch::{self, Fault, LISTEN_PID, Launch, Role};
use super::program::{Keeper, Note};
use super::sys;
use super::table::Entry;
use super::wire::{BLOB_MAX, FDS_MAX, Id, KEY_MAX, LARGE_MAX, Request, Spawn, Stage, flag};

/// Descriptors kept free: a packet's, the pipes and pidfd of a spawn, a file of proc, and the state of a
/// re-exec, with room to spare.
const RESERVE: u64 = 64;

type Answer<T> = Result<T, Fault>;

fn refusal(errno: i32) -> Fault {
    Fault { stage: Stage::Request, errno }
}

impl Keeper {
    /// One packet. `truncated`: some of its descriptors found no room.
    pub fn answer(&mut self, packet: &[u8], fds: Vec<OwnedFd>, truncated: bool) {
        match Request::decode(packet) {
            Ok(Some(Request::Hello { grace_ms, protocol: _ })) => {
                self.minder.away_since = None;
                self.grace = grace_ms.map_or(self.grace, |millis| millis.saturating_mul(1_000_000));
            }
            Ok(Some(Request::Spawn(spawn))) => self.spawn_or_say_why(&spawn, fds, truncated),
            Ok(Some(Request::SpawnLarge(id))) => self.spawn_large(id, fds, truncated),
            Ok(Some(Request::SetBlob(id, blob))) => {
                let number = self.table.number_of(id).filter(|_| blob.len() <= BLOB_MAX);
                if let Some(entry) = number.and_then(|number| self.table.get_mut(number)) {
                    entry.blob = blob.into();
                }
            }
            Ok(Some(Request::Forget(id))) => self.forget(id),
            Ok(Some(Request::Abandon(id))) => self.abandon(id),
            Ok(Some(Request::List)) => self.tell(Note::Entries(0)),
            Ok(Some(Request::Deposit(key))) => {
                if let Some(fd) = fds.into_iter().next().filter(|fd| self.has_room(fd)) {
                    self.deposits.insert(key.into(), fd);
                }
            }
            Ok(Some(Request::Withdraw(key))) => drop(self.deposits.remove(key)),
            Ok(Some(Request::Leave(code))) => std::process::exit(code),
            Ok(Some(Request::Upgrade(path))) => self.minder.path = path.into(),
            Ok(Some(Request::Reexec(path))) => {
                let errno = self.reexec(path);
                self.tell(Note::Reexecuted(errno));
            }
            Ok(Some(Request::Pong)) => {} // that something came is what counts
            Ok(None) => sys::say("the controller asks for something unknown; passing over it"),
            Err(error) => sys::say(&format!("the controller sent a {error}; passing over it")),
        }
    }

    fn abandon(&mut self, id: Id<'_>) {
        let Some(number) = self.table.number_of(id) else { return };
        // It may have executed and the news wait to be read: then this is too late, and nothing is done.
        self.executed_by_now(number);
        let unborn = |entry: &&Entry| entry.verdict.is_some() && entry.exit.is_none();
        if let Some(entry) = self.table.get(number).filter(unborn) {
            // It is our child and was not reaped: the number is its own. It leads no group of others yet.
            let _gone_already = sys::kill(entry.pid, libc::SIGKILL);
        }
    }

    fn forget(&mut self, id: Id<'_>) {
        let Some(number) = self.table.number_of(id) else { return };
        if self.table.get(number).is_some_and(|entry| entry.exit.is_some()) {
            self.table.remove(number);
        }
    }

    fn spawn_large(&mut self, id: Id<'_>, mut fds: Vec<OwnedFd>, truncated: bool) {
        let failed = |errno| Note::Failed { key: id.key.into(), life: id.life, fault: refusal(errno) };
        if fds.is_empty() {
            return self.tell(failed(if truncated { libc::EMFILE } else { libc::EINVAL }));
        }
        let memory = fds.remove(0);
        match sys::read_sealed(memory.as_fd(), LARGE_MAX) {
            Err(error) => self.tell(failed(sys::errno(&error))),
            Ok(content) => match Request::decode(&content) {
                Ok(Some(Request::Spawn(spawn))) if spawn.id == id => self.spawn_or_say_why(&spawn, fds, truncated),
                Ok(_) | Err(_) => self.tell(failed(libc::EINVAL)),
            },
        }
    }

    fn spawn_or_say_why(&mut self, spawn: &Spawn<'_>, fds: Vec<OwnedFd>, truncated: bool) {
        if let Err(fault) = self.spawn(spawn, fds, truncated) {
            self.tell(Note::Failed { key: spawn.id.key.into(), life: spawn.id.life, fault });
        }
    }

    fn spawn(&mut self, spawn: &Spawn<'_>, fds: Vec<OwnedFd>, truncated: bool) -> Answer<()> {
        let given = Given::sort(spawn, &fds, truncated).map_err(refusal)?;
        let mut tree_known_empty = false;
        if let Some(cgroup) = given.cgroup {
            let state = CgroupState::read(cgroup).map_err(|errno| Fault { stage: Stage::Cgroup, errno })?;
            // A child that is frozen at once would stop the keeper with it.
            if state.frozen || state.populated && !spawn.has(flag::JOINS_CGROUP) {
                return Err(refusal(libc::EBUSY));
            }
            tree_known_empty = true;
        }
        self.table.refuse(spawn.id, tree_known_empty).map_err(refusal)?;

        let new_pipe = || sys::pipe().map_err(|error| Fault { stage: Stage::Pipe, errno: sys::errno(&error) });
        let (log, out) = new_pipe()?;
        let separate = spawn.has(flag::SEPARATE_STDERR).then(new_pipe).transpose()?;
        let err = separate.as_ref().map_or(&out, |(_, err)| err);
        if !self.has_room(err) {
            return Err(refusal(libc::EMFILE));
        }

        let mut listen_pid = spawn.has(flag::LISTEN_PID).then(|| Box::new([0u8; 32]));
        let mut launch = Launch {
            role: Role::Service,
            program: spawn.program,
            argv: null_ended(spawn.argv.iter().map(|text| text.as_ptr())),
            env: environment(spawn, listen_pid.as_deref_mut()),
            listen_pid,
            working_dir: spawn.working_dir,
            stdio: [given.stdin.map_or(self.null.as_raw_fd(), |fd| fd.as_raw_fd()), out.as_raw_fd(), err.as_raw_fd()],
            extra: given.extra,
            cgroup: given.cgroup,
            life_line: given.life_line.map(|file| (file, spawn.life_line)),
            open_files: Some(self.open_files),
            limits: &spawn.limits,
            oom_score_adj: spawn.oom_score_adj,
            umask: spawn.umask,
            nice: spawn.nice,
            identity: spawn.identity.as_ref(),
            no_new_privs: spawn.has(flag::NO_NEW_PRIVS),
            report: -1,
            moves_itself: false,
            shares_descriptors: false,
            began: false,
            fault: None,
            start_time: 0,
        };
        // Once it has another user's credentials, that user's processes may stop it before its exec, and a
        // keeper that shares its memory with it.
        let plain = spawn.has(flag::PLAIN_FORK) || launch.identity.is_some_and(|who| who.uid != sys::user());
        let child = launch::start(&mut launch, &self.stack, plain)
            .map_err(|error| Fault { stage: Stage::Clone, errno: sys::errno(&error) })?;
        if let Some(fault) = launch.fault {
            // It has left our memory, so it is as good as ended: this waits for microseconds.
            let _reaped = sys::reap(child.pid, true);
            return Err(fault);
        }
        let known = Some(launch.start_time).filter(|time| *time != 0);
        let executed = child.verdict.is_none();
        let number = self.table.insert(Entry {
            key: spawn.id.key.into(),
            life: spawn.id.life,
            pid: child.pid,
            start_time: known.unwrap_or_else(|| sys::start_time(child.pid)),
            spawned_at: sys::now(),
            pidfd: Some(child.pidfd),
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
        if executed {
            self.tell(Note::Spawned(number));
        }
        Ok(())
    }

    /// The lowest free number was taken, so it says how many are in use.
    fn has_room(&self, newest: &OwnedFd) -> bool {
        let room_below = self.open_files.rlim_max.saturating_sub(RESERVE);
        u64::try_from(newest.as_raw_fd()).is_ok_and(|number| number < room_below)
    }
}

impl Spawn<'_> {
    fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }
}

fn null_ended<T>(pointers: impl Iterator<Item = *const T>) -> Vec<*const T> {
    pointers.chain([std::ptr::null()]).collect()
}

/// The environment as execve takes it; the child writes its pid into `listen_pid`, which replaces any other.
fn environment(spawn: &Spawn<'_>, listen_pid: Option<&mut [u8; 32]>) -> Vec<*const libc::c_char> {
    let Some(slot) = listen_pid else {
        return null_ended(spawn.env.iter().map(|text| text.as_ptr()));
    };
    for (to, from) in slot.iter_mut().zip(LISTEN_PID) {
        *to = *from;
    }
    let others = spawn.env.iter().filter(|text| !text.to_bytes().starts_with(LISTEN_PID));
    null_ended(others.map(|text| text.as_ptr()).chain([slot.as_mut_ptr().cast_const().cast()]))
}

/// The descriptors of a request by their use.
struct Given<'a> {
    cgroup: Option<BorrowedFd<'a>>,
    life_line: Option<BorrowedFd<'a>>,
    stdin: Option<BorrowedFd<'a>>,
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
        let mut extra: Vec<_> = rest.map(|fd| fd.as_raw_fd()).zip(spawn.targets.iter().copied()).collect();
        extra.sort_by_key(|(_, number)| *number);
        let twice = extra.windows(2).any(|pair| matches!(pair, [(_, a), (_, b)] if a == b));
        let too_low = extra.first().is_some_and(|(_, number)| *number < 3);
        let (Ok(cgroup), Ok(life_line), Ok(stdin)) = own else {
            return Err(if truncated { libc::EMFILE } else { libc::EINVAL });
        };
        let used = [cgroup, life_line, stdin].into_iter().flatten().count() + extra.len();
        if truncated || fds.len() > FDS_MAX {
            Err(libc::EMFILE)
        } else if twice || too_low || extra.len() != spawn.targets.len() || used != fds.len() || spawn.argv.is_empty() {
            Err(libc::EINVAL)
        } else {
            Ok(Given { cgroup, life_line, stdin, extra })
        }
    }
}

/// What cgroup.events says.
struct CgroupState {
    populated: bool,
    frozen: bool,
}

impl CgroupState {
    fn read(cgroup: BorrowedFd<'_>) -> Result<CgroupState, i32> {
        let mut text = [0; 256];
        let length = sys::open_at(Some(cgroup), c"cgroup.events")
            .and_then(|file| sys::read(file.as_fd(), &mut text))
            .map_err(|error| sys::errno(&error))?;
        let says =
            |line: &[u8]| text.get(..length).unwrap_or(&[]).split(|byte| *byte == b'\n').any(|found| found == line);
        Ok(CgroupState { populated: says(b"populated 1"), frozen: says(b"frozen 1") })
    }
}
