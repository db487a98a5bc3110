//! Limits by cgroup v1: in the hierarchy of each controller a group for each life.
//!
//! They lie below the group that plugd itself is in, as `plugd-KEY/NAME.INDEX.LIFE`. A child goes in by a
//! write of its own before it executes. What it counts begins at 0 with each life, whoever asks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags};

use super::Controller;
use crate::edge::process::cgroup::{self, CgroupError};
use crate::model::name::LifeId;

/// Where this node's groups would be; nothing is made.
pub(super) fn place(controller: Controller, key: &str) -> Option<PathBuf> {
    cgroup::own_legacy_group(controller.word()).ok().map(|own| own.join(format!("plugd-{key}")))
}

/// The folder of this node's groups: none where no hierarchy has this controller.
pub(super) fn folder(controller: Controller, key: &str) -> Option<Result<PathBuf, String>> {
    let own = match cgroup::own_legacy_group(controller.word()) {
        Ok(own) => own,
        Err(CgroupError::NotMounted) => return None,
        Err(error) => return Some(Err(super::why(&error))),
    };
    Some(made(&own, key).map_err(|error| super::why(&error)))
}

fn made(own: &Path, key: &str) -> Result<PathBuf, CgroupError> {
    cgroup::sweep(own);
    let path = own.join(format!("plugd-{key}"));
    let refused = |source| CgroupError::NotWritable { path: path.clone(), source };
    make(&path).map_err(refused)?;
    rustix::fs::access(&path, Access::WRITE_OK).map_err(|errno| refused(errno.into()))?;
    Ok(path)
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

pub(super) fn group(folder: &Path, life: &LifeId) -> PathBuf {
    folder.join(format!("{}.{}.{}", life.instance.service, life.instance.index, life.life))
}

/// Makes the group of a life.
pub(super) fn begin(folder: &Path, life: &LifeId) -> io::Result<PathBuf> {
    let group = group(folder, life);
    make(&group)?;
    Ok(group)
}

/// What a child writes to, to go in.
pub(super) fn entrance(group: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(group.join("cgroup.procs"), flags, Mode::empty())?)
}

/// Its limit of memory could not be lowered: that with swap, which was lifted before, is the same again.
pub(super) fn keep_as_it_was(group: &Path) {
    let limit = std::fs::read_to_string(group.join("memory.limit_in_bytes")).unwrap_or_default();
    // Where more is swapped out than that, it stays without a limit until there is room.
    let _it_may_not_fit = super::unified::write(group, super::values::WITH_SWAP, limit.trim_end());
}

/// The life is over; nothing is left in its group.
pub(super) fn end(folder: &Path, life: &LifeId) {
    cgroup::remove_below(&group(folder, life));
}

/// Removes what controllers left that are gone: groups of no life that is known. The kernel keeps those
/// in which a process is.
pub(super) fn sweep<'a>(folder: &Path, known: impl Iterator<Item = &'a LifeId>) {
    let known: Vec<PathBuf> = known.map(|life| group(folder, life)).collect();
    let groups = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let left = groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    left.filter(|path| !known.contains(path)).for_each(|path| cgroup::remove_below(&path));
}
