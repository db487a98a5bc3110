//! Shutdown without a controller: its stop signal to every group in reverse order of their starts, one
//! common grace, KILL until no child is left, exit.
//!
//! It knows no dependencies, hooks or graces of single services beyond the longest of them: it is what
//! is left when the part that knows is gone. A controller that hangs is killed first.

use super::program::Keeper;
use super::sys;

/// Between two looks while killing: a kill takes effect within microseconds, a fork bomb forks on.
const LOOK_EVERY: u64 = 20_000_000;
/// After so long of killing, what is left sleeps in the kernel and will not end for us.
const KILLING_MAX: u64 = 10_000_000_000;

#[derive(Debug)]
pub struct Farewell {
    kill_at: u64,
    next_look: u64,
}

impl Farewell {
    pub fn next_look(&self) -> u64 {
        self.next_look
    }
}

impl Keeper {
    pub fn begin_farewell(&mut self, why: &str, now: u64) {
        if self.farewell.is_some() {
            return;
        }
        sys::say(&format!("stopping every service: {why}"));
        self.minder.kill();
        self.minder.restart_at = None;
        let mut grace = 0;
        for entry in self.table.entries.values_mut().rev().filter_map(|entry| entry.lives().then_some(entry)) {
            grace = grace.max(entry.stop_grace_ms.saturating_mul(1_000_000));
            let _gone_already = sys::kill(-entry.pid, entry.stop_signal);
            let _gone_already = sys::kill(-entry.pid, libc::SIGCONT); // a stopped process hears nothing else
        }
        let kill_at = now.saturating_add(grace.min(self.grace));
        self.farewell = Some(Farewell { kill_at, next_look: kill_at });
    }

    /// Called whenever something ended and when a look is due; ends the keeper when no child is left.
    pub fn go_on_with_farewell(&mut self, now: u64) {
        let code = 128 + self.stop_heard.unwrap_or(libc::SIGTERM);
        let nobody_left = loop {
            match self.reap(-1) {
                Ok(true) => {}
                Ok(false) => break false,
                Err(_) => break true,
            }
        };
        let Some(farewell) = &mut self.farewell else { return };
        let late = now.saturating_sub(farewell.kill_at) > KILLING_MAX;
        if late && !nobody_left {
            sys::say(&format!("leaving {} processes that cannot be killed", sys::children().len()));
        }
        if late || nobody_left {
            std::process::exit(code);
        }
        if now < farewell.next_look {
            return;
        }
        farewell.next_look = now + LOOK_EVERY;
        let lives = self.table.entries.values_mut().rev().filter_map(|entry| entry.lives().then_some(-entry.pid));
        for pid in lives.chain(sys::children()) {
            let _gone_already = sys::kill(pid, libc::SIGKILL);
        }
    }
}
