//! Shutdown without a controller: its stop signal to every group in reverse order of their starts, one
//! common grace, KILL until no child is left, exit.
//!
//! It knows no dependencies, hooks or graces of single services beyond the longest of them: it is what
//! is left when the part that knows is gone. A controller that hangs is killed first.

use super::program::Keeper;
use super::sys;
use super::table::Entry;

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
        sys::say(&format!("stopping {} services: {why}", self.table.iter().filter(|(_, e)| e.exit.is_none()).count()));
        self.minder.kill();
        self.minder.restart_at = None;
        let mut grace = 0;
        for entry in self.table.iter_mut().rev() {
            if entry.lives() {
                signal(entry, entry.stop_signal);
                signal(entry, libc::SIGCONT); // a stopped process hears nothing else
                grace = grace.max(entry.stop_grace_ms.saturating_mul(1_000_000));
            }
        }
        let kill_at = now.saturating_add(grace.min(self.grace));
        self.farewell = Some(Farewell { kill_at, next_look: kill_at });
    }

    /// Called whenever something ended and when a look is due; ends the keeper when no child is left.
    pub fn go_on_with_farewell(&mut self, now: u64) {
        let Some(farewell) = &mut self.farewell else { return };
        let code = 128 + self.stop_heard.unwrap_or(libc::SIGTERM);
        if sys::peek_ended().is_err() {
            std::process::exit(code);
        }
        if now < farewell.next_look {
            return;
        }
        if now.saturating_sub(farewell.kill_at) > KILLING_MAX {
            sys::say(&format!("leaving {} processes that cannot be killed", sys::children().len()));
            std::process::exit(code);
        }
        farewell.next_look = now + LOOK_EVERY;
        for entry in self.table.iter_mut().rev() {
            if entry.lives() {
                signal(entry, libc::SIGKILL);
            }
        }
        for pid in sys::children() {
            let _gone_already = sys::kill(pid, libc::SIGKILL);
        }
    }
}

fn signal(entry: &Entry, signal: i32) {
    let _gone_already = sys::kill(-entry.pid, signal);
}
