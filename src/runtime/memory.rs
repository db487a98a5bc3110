//! Texts that the keeper holds for the next controller: in memory, by a descriptor.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

pub(super) fn hold(text: &[u8]) -> std::io::Result<OwnedFd> {
    let memory = File::from(rustix::fs::memfd_create("text", MemfdFlags::CLOEXEC)?);
    memory.write_all_at(text, 0)?;
    Ok(memory.into())
}

/// None: it cannot be read, or is more than that.
pub(super) fn held(fd: OwnedFd, max: usize) -> Option<Vec<u8>> {
    let file = File::from(fd);
    let length = usize::try_from(file.metadata().ok()?.len()).ok().filter(|length| *length <= max)?;
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, 0).ok()?;
    Some(text)
}
