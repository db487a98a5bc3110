//! The world, one file or folder per kind of contact. Floor 4.
#![expect(clippy::disallowed_methods, reason = "the edge is where the world is touched")]

pub mod directory;
pub mod files;
pub mod output;
pub mod places;
pub mod probe;
pub mod process;
pub mod put;
pub mod store;

/// Lets the calling thread stand back behind the loop when processors are scarce: what it does
/// (status files, the database) is owed soon, not at once.
pub(crate) fn stand_back() {
    // On Linux the priority is the thread's own (setpriority(2), "C library/kernel differences").
    // Where it cannot be set, the thread works as any other.
    let _ = rustix::process::setpriority_process(None, 10);
}
