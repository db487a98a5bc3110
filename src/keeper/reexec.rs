//! The keeper replaces itself in place: same pid, same children, same descriptors, a new program.
//!
//! Everything that it knows goes into a memfd; the descriptors named there lose CLOEXEC and keep their
//! numbers. Signals that wait stay pending (they are blocked), exits stay with the kernel. If the exec
//! fails nothing has changed. A new program must read the states of all older ones, and says so before
//! (`Ready`): a keeper that cannot go on would end everything.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::launch::Desk;
use super::minder::Minder;
use super::program::Keeper;
use super::sys;
use super::wire::field::written_as;
use super::wire::{Added, Field, Malformed, Read};

/// Raised when the layout changes; fields are added at the end.
pub const STATE: u32 = 1;
/// 100,000 lives with full blobs.
const STATE_MAX: usize = 128 * 1024 * 1024;

written_as! {
    OwnedFd as RawFd: it => it.as_raw_fd(), |number| sys::adopt(number).ok_or(Malformed::Packet);
}

impl Keeper {
    /// Returns only if it could not, with the errno.
    pub fn reexec(&mut self, path: &CStr) -> i32 {
        if self.farewell.is_some() {
            return libc::EBUSY;
        }
        let state = match sys::sealed(&self.state()) {
            Ok(state) => state,
            Err(error) => return sys::errno(&error),
        };
        // What stands behind the number is for who looks at the list of processes.
        let number = CString::new(state.as_raw_fd().to_string()).unwrap_or_default();
        let own = [c"plugd".into(), c"keeper-resume".into(), number];
        let words: Vec<CString> = own.into_iter().chain(self.minder.args.iter().skip(2).cloned()).collect();
        let minder = &self.minder;
        let options = [self.lock.as_ref(), minder.socket.as_ref(), minder.process.as_ref().map(|(_, fd)| fd)];
        let lives = self.table.entries.values().flat_map(|entry| entry.descriptors());
        let reapers = self.reapers.values().map(|reaper| &reaper.told);
        let others = self.deposits.values().chain(reapers).chain(self.desk.stdio.first()).chain([&state]);
        let kept: Vec<&OwnedFd> = options.into_iter().flatten().chain(lives).chain(others).collect();
        kept.iter().for_each(|fd| sys::keep_over_exec(fd, true));
        let error = sys::execute(path, &words);
        kept.iter().for_each(|fd| sys::keep_over_exec(fd, false));
        sys::errno(&error)
    }

    fn state(&self) -> Vec<u8> {
        let mut to = STATE.encode();
        self.desk.stdio[0].as_raw_fd().write(&mut to);
        self.deaf_to_hup.write(&mut to);
        self.minder.write(&mut to);
        self.lock.write(&mut to);
        self.open_files.write(&mut to);
        self.table.write(&mut to);
        self.deposits.write(&mut to);
        self.outbox.write(&mut to);
        self.grace.write(&mut to);
        self.unheard.write(&mut to);
        self.stop_heard.write(&mut to);
        self.reapers.write(&mut to);
        to
    }

    /// The keeper that executed itself.
    pub fn from_state(state: RawFd) -> Result<Keeper, Box<dyn std::error::Error>> {
        let state = sys::read_sealed(sys::adopt(state).ok_or("no state was handed over")?, STATE_MAX)?;
        let mut from = state.as_slice();
        if u32::read(&mut from)? > STATE {
            return Err("the state is of a newer keeper".into());
        }
        let (stdin, deaf_to_hup, minder) =
            (OwnedFd::read(&mut from)?, bool::read(&mut from)?, Minder::read(&mut from)?);
        let mut keeper = Keeper::new(minder, Desk::new(Some(stdin))?, deaf_to_hup)?;
        keeper.lock = Field::read(&mut from)?;
        keeper.open_files = Field::read(&mut from)?;
        keeper.table = Field::read(&mut from)?;
        keeper.deposits = Field::read(&mut from)?;
        keeper.outbox = Field::read(&mut from)?;
        keeper.grace = Field::read(&mut from)?;
        keeper.unheard = Field::read(&mut from)?;
        keeper.stop_heard = Field::read(&mut from)?;
        keeper.reapers = Added::read(&mut from)?.0;
        Ok(keeper)
    }
}
