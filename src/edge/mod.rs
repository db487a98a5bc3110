//! The world, one file or folder per kind of contact. Floor 4.
#![expect(clippy::disallowed_methods, reason = "the edge is where the world is touched")]

mod afar;
pub mod directory;
pub mod doors;
pub mod files;
mod lease;
pub mod manager;
mod mounts;
pub mod named;
pub mod noted;
pub mod output;
pub mod places;
pub mod probe;
pub mod process;
pub mod put;
pub mod stderr;
pub mod store;
pub mod zones;

/// Device and inode: what a file is, whatever its name.
pub type Identity = (u64, u64);

pub(crate) fn identity(file: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (file.dev(), file.ino())
}

/// Whether a filesystem of this type (`f_type` of statfs(2)) asks a server that may never answer.
pub(crate) fn is_remote(magic: rustix::fs::FsWord) -> bool {
    const REMOTE: [u32; 8] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB 2
        0x6573_5546, // FUSE, virtiofs
        0x0102_1997, // 9p
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
    ];
    REMOTE.contains(&(magic as u32))
}

/// How far a thread stands back whose work is owed within 200 ms (status files): with 40 busy processes on two
/// processors a status came within 105 ms, and within 420 ms at [`FAR`]; the start of 1,000 services is 8 % slower at 0.
pub(crate) const A_LITTLE: i32 = 4;
/// And one whose work is owed some day (the database).
pub(crate) const FAR: i32 = 10;

/// Lets the calling thread stand back behind the loop when processors are scarce.
pub(crate) fn stand_back(by: i32) {
    // On Linux the priority is the thread's own (setpriority(2), "C library/kernel differences").
    // Where it cannot be set, the thread works as any other.
    let _ = rustix::process::setpriority_process(None, by);
}

/// Writes all of it to what others may have made non-blocking: its description is shared with them.
pub(crate) fn write_whole(to: &mut (impl std::io::Write + std::os::fd::AsFd), mut bytes: &[u8]) -> std::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use std::io::ErrorKind;
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&*to, PollFlags::OUT)], None);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Descriptors that the keeper needs for an instance: its pidfd and its output's pipe.
const FDS_PER_INSTANCE: u64 = 2;
/// What it keeps back for the way of a start (64), and what it has open itself.
const FDS_OF_KEEPER: u64 = 64 + 20;

/// How many instances fit under a hard limit of descriptors, more or less: there is a socket for some, too.
pub(crate) fn instances_that_fit(hard: u64) -> u64 {
    hard.saturating_sub(FDS_OF_KEEPER) / FDS_PER_INSTANCE
}

/// A quarter of all descriptors (none: of any number), at most `most`: what one kind of caller may take, so that the
/// rest is left to everything else.
pub(crate) fn quarter_of_descriptors(all: Option<u64>, most: usize) -> usize {
    usize::try_from(all.unwrap_or(u64::MAX) / 4).unwrap_or(most).min(most)
}
