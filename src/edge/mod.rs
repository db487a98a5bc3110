//! The world, one file or folder per kind of contact. Floor 4.
#![expect(clippy::disallowed_methods, reason = "the edge is where the world is touched")]

mod afar;
pub mod directory;
pub mod doors;
pub mod files;
mod lease;
pub mod manager;
mod mounts;
pub mod output;
pub mod places;
pub mod probe;
pub mod process;
pub mod put;
pub mod stderr;
pub mod store;
pub mod zones;

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

/// Lets the calling thread stand back behind the loop when processors are scarce: what it does
/// (status files, the database) is owed soon, not at once.
pub(crate) fn stand_back() {
    // On Linux the priority is the thread's own (setpriority(2), "C library/kernel differences").
    // Where it cannot be set, the thread works as any other.
    let _ = rustix::process::setpriority_process(None, 10);
}
