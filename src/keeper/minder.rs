//! The controller's own life, as the keeper sees it: started, answering, silent, ended, upgraded.
//!
//! It is dead when its pidfd says so, never when its socket closes: only then are all its threads gone.
//! The first restarts come at once, then with a growing delay of at most a second, for ever: while there
//! is no controller services block as soon as their pipes are full.
//!
//! An upgrade is a trial: the new program must say that it is ready, within 10 s and three starts, or the
//! keeper goes back to its own, which `/proc/self/exe` names whatever became of the file.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::event::epoll::EventFlags;

use super::launch::{Desk, Launch, Role};
use super::sys;
use super::wire::field::{Field, Read, record};
use super::wire::{How, Spawn, Stage};

const RESTARTS_AT_ONCE: u32 = 3;
const DELAY_FIRST: u64 = 50_000_000;
const DELAY_MAX: u64 = 1_000_000_000;
/// A controller that was ready and lived this long was no failed start.
const GOOD_LIFE: u64 = 10_000_000_000;
/// A silent controller is pinged so many times before it is killed.
const PINGS: u32 = 6;

record! {
    #[derive(Debug, Default)]
    pub struct Minder {
        /// The keeper's own program.
        pub path: CString,
        pub args: Vec<CString>,
        pub answer_limit: u64,
        /// The program of an upgrade: first on trial, then in use if the keeper could not execute it.
        pub next: Option<CString>,
        pub on_trial: bool,
        /// The last trial was lost.
        pub taken_back: bool,
        pub process: Option<(i32, OwnedFd)>,
        pub socket: Option<OwnedFd>,
        pub started: u32,
        pub last_end: Option<How>,
        /// When the last one was started.
        pub started_at: u64,
        /// Starts that failed, one after another.
        pub failures: u32,
        pub restart_at: Option<u64>,
        /// Since when no controller has been there that was ready.
        pub away_since: Option<u64>,
        pub ping_at: u64,
        pub ping_open: bool,
        pub silent: u32,
    }
}

/// What a look at the clock says.
#[derive(Debug, PartialEq, Eq)]
pub enum Tick {
    Nothing,
    Ping,
    /// It has answered nothing for too long.
    Hung,
}

impl Minder {
    pub fn new(path: CString, args: Vec<CString>, answer_limit: u64, now: u64) -> Minder {
        let (restart_at, away_since) = (Some(now), Some(now));
        Minder { path, args, answer_limit, started_at: now, restart_at, away_since, ..Minder::default() }
    }

    fn program(&self) -> &CStr {
        self.next.as_ref().unwrap_or(&self.path)
    }

    /// Starts a controller; a failure is what an immediate end is.
    pub fn start(&mut self, desk: &Desk, now: u64) {
        self.restart_at = None;
        self.started_at = now;
        self.started = self.started.saturating_add(1);
        self.ping_at = now + self.ping_every();
        self.heard();
        if let Err((stage, error)) = self.try_start(desk) {
            if self.failures == 0 || self.failures.is_power_of_two() {
                let (path, start) = (self.program(), self.started);
                sys::say(&format!(
                    "cannot start the controller {path:?} ({stage:?}, start {start}): {error}; trying on"
                ));
            }
            self.ended(How::Code(127), now);
        }
    }

    fn try_start(&mut self, desk: &Desk) -> Result<(), (Stage, std::io::Error)> {
        let pair = sys::packet_pair().map_err(|error| (Stage::Pipe, error))?;
        let mut env = Vec::new();
        for (name, value) in std::env::vars_os() {
            env.extend(CString::new([name.into_vec(), b"=".into(), value.into_vec()].concat()));
        }
        let what = Spawn {
            program: self.program(),
            argv: self.args.iter().map(|text| text.as_c_str()).collect(),
            env: env.iter().map(|text| text.as_c_str()).collect(),
            ..Spawn::default()
        };
        let role = Role::Controller { keeper: std::process::id().cast_signed() };
        let mut launch = Launch::new(&what, role, desk.stdio.each_ref().map(|fd| fd.as_raw_fd()));
        launch.extra.push((pair.1.as_raw_fd(), 3));
        let child = launch.start(desk, false).map_err(|error| (Stage::Clone, error))?;
        if let Some(fault) = launch.fault {
            let _reaped = sys::reap(child.pid, true);
            return Err((fault.stage, std::io::Error::from_raw_os_error(fault.errno)));
        }
        self.process = Some((child.pid, child.pidfd));
        self.socket = Some(pair.0);
        Ok(())
    }

    /// The next controller is this program, and has to prove itself. The end of the one before it is none of
    /// its failures; where that came before its word was read, it has been counted already.
    pub fn try_out(&mut self, path: CString) {
        self.next = Some(path);
        (self.on_trial, self.taken_back) = (true, false);
        self.failures = u32::from(self.process.is_none());
    }

    /// The present controller is the new program: the one before it has made room.
    pub fn is_trial(&self) -> bool {
        self.on_trial && self.failures > 0
    }

    fn take_back(&mut self, why: &str) {
        sys::say(&format!("the upgrade to {:?} {why}; going back to the program before it", self.program()));
        self.next = None;
        (self.on_trial, self.taken_back) = (false, true);
        self.failures = 0;
    }

    /// Notes the end and when the next one is due.
    pub fn ended(&mut self, how: How, now: u64) {
        let good = self.away_since.is_none() && now.saturating_sub(self.started_at) >= GOOD_LIFE;
        self.failures = if good { 1 } else { self.failures.saturating_add(1) };
        if self.on_trial && self.failures > RESTARTS_AT_ONCE {
            self.take_back("ended three times before it was ready");
        }
        let over = self.failures.checked_sub(RESTARTS_AT_ONCE + 1);
        let delay = over.map_or(0, |over| DELAY_MAX.min(DELAY_FIRST << over.min(5)));
        self.process = None;
        self.last_end = Some(how);
        self.away_since.get_or_insert(now);
        self.restart_at = Some(now + delay);
    }

    /// Anything that it sends shows that it turns.
    pub fn heard(&mut self) {
        (self.ping_open, self.silent) = (false, 0);
    }

    /// It closed its socket: it is about to end, and is helped if it does not.
    pub fn hung_up(&mut self, now: u64) {
        (self.ping_open, self.silent, self.ping_at) = (true, PINGS, now + DELAY_MAX);
    }

    /// Between two pings; also how long a TERM waits for a controller that is away, and an upgrade may take
    /// until it is ready. 10 s of 60.
    pub fn ping_every(&self) -> u64 {
        (self.answer_limit / u64::from(PINGS)).max(1)
    }

    /// Counts its silence in the keeper's own running time: a tick that is very late means that the keeper
    /// was paused itself, and the count begins anew.
    pub fn tick(&mut self, now: u64) -> Tick {
        if self.process.is_none() || now < self.ping_at {
            return Tick::Nothing;
        }
        // The first tick of a life comes when an upgrade should be ready.
        if self.is_trial() {
            self.take_back("is not ready in time");
            return Tick::Hung;
        }
        let paused = now - self.ping_at > self.ping_every();
        self.ping_at = now + self.ping_every();
        if !self.ping_open {
            self.ping_open = true;
            return Tick::Ping;
        }
        self.silent = if paused { 0 } else { self.silent + 1 };
        if self.silent >= PINGS {
            self.silent = 0;
            return Tick::Hung;
        }
        Tick::Nothing
    }

    pub fn kill(&self) {
        if let Some((pid, _)) = &self.process {
            let _gone_already = sys::kill(*pid, libc::SIGKILL);
        }
    }

    pub fn is(&self, pid: i32) -> bool {
        self.process.as_ref().is_some_and(|(own, _)| *own == pid)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.restart_at.or_else(|| self.process.as_ref().map(|_| self.ping_at))
    }

    pub fn watch(&self, poll: &sys::Poll, tag: u64) {
        if self.process.as_ref().is_some_and(|(_, pidfd)| poll.add(pidfd, tag, EventFlags::IN).is_err()) {
            self.kill(); // cannot be heard; SIGCHLD will tell of its end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn minder() -> Minder {
        Minder::new(c"/x".into(), vec![], 60 * SECOND, 0)
    }

    #[test]
    fn the_first_restarts_come_at_once_and_later_ones_within_a_second() {
        let mut minder = minder();
        let mut delays = Vec::new();
        for _ in 0..10 {
            minder.ended(How::Code(1), SECOND);
            delays.push((minder.restart_at.unwrap_or(0) - SECOND) / 1_000_000);
        }
        assert_eq!(delays, [0, 0, 0, 50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_good_life_ends_the_count_of_failures() {
        let mut minder = minder();
        minder.failures = 9;
        minder.away_since = None;
        minder.started_at = SECOND;
        minder.ended(How::Signal(9), 100 * SECOND);
        assert_eq!(minder.restart_at, Some(100 * SECOND));
    }

    #[test]
    fn a_silent_controller_is_hung_after_its_limit_but_not_while_the_keeper_was_paused() {
        let mut minder = minder();
        // A process that is no child: only that there is one matters here.
        let (some, _) = sys::pipe().expect("a pipe");
        minder.process = Some((0, some));
        minder.ping_at = 10 * SECOND;
        assert_eq!(minder.tick(9 * SECOND), Tick::Nothing);
        assert_eq!(minder.tick(10 * SECOND), Tick::Ping);
        let ticks: Vec<_> = (2..=7).map(|n| minder.tick(n * 10 * SECOND)).collect();
        assert_eq!(ticks.iter().position(|tick| *tick == Tick::Hung), Some(5));

        minder.silent = 5;
        assert_eq!(minder.tick(500 * SECOND), Tick::Nothing, "it was paused with the keeper");
        assert_eq!(minder.silent, 0);
        minder.heard();
        assert_eq!(minder.tick(510 * SECOND), Tick::Ping);
    }

    #[test]
    fn an_upgrade_has_three_starts_and_ten_seconds_and_its_predecessor_s_end_does_not_count() {
        let mut minder = minder();
        minder.away_since = None;
        minder.process = Some((0, sys::pipe().expect("a pipe").0));
        minder.try_out(c"/new".into());
        for (end, program) in [(1, c"/new"), (2, c"/new"), (3, c"/new"), (4, c"/x")] {
            minder.ended(How::Code(0), end * SECOND);
            assert_eq!((minder.program(), minder.restart_at), (program, Some(end * SECOND)), "end {end}");
        }
        assert!(minder.taken_back);

        minder.process = Some((0, sys::pipe().expect("a pipe").0));
        minder.try_out(c"/new".into());
        assert!(!minder.taken_back);
        minder.ping_at = 10 * SECOND;
        assert_eq!(minder.tick(10 * SECOND), Tick::Ping, "the old one still makes room");
        minder.ended(How::Code(0), 10 * SECOND);
        minder.process = Some((0, sys::pipe().expect("a pipe").0));
        minder.ping_at = 20 * SECOND;
        assert_eq!(minder.tick(20 * SECOND), Tick::Hung);
        assert_eq!(minder.program(), c"/x");
    }
    #[test]
    fn an_upgrade_whose_predecessor_ended_before_its_word_was_read_is_on_trial_as_well() {
        let mut minder = minder();
        minder.process = Some((0, sys::pipe().expect("a pipe").0));
        minder.ended(How::Code(0), SECOND);
        minder.try_out(c"/new".into());
        minder.process = Some((0, sys::pipe().expect("a pipe").0));
        assert!(minder.is_trial());
        for end in 2..5 {
            minder.ended(How::Code(0), end * SECOND);
        }
        assert!(minder.taken_back, "after three starts");
    }
}
