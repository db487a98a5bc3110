//! Limits by cgroup v2: the instance's own group, with its controllers switched on.
//!
//! A group may share its controllers out only if no process is in itself (cgroups(7), "no internal
//! processes"; the first group of a machine may), so plugd moves itself into `plugd-KEY/plugd` first. It
//! moves others only where the whole is its own: as PID 1, or in a container that has its cgroups to
//! itself. Elsewhere who is in plugd's group stays there, and there are no limits.

use std::io;
use std::path::Path;

use super::Controller;
use crate::edge::process::cgroup::{CgroupRoot, LEAF};
use crate::edge::process::stat;

/// By controller: had, or why not.
pub(super) type Had = [Result<(), String>; 3];

/// Looks, and a new process may come to be there, so often.
const PASSES: usize = 20;
/// Strangers that are named.
const NAMED: usize = 3;

/// What could be had, without changing anything.
pub(super) fn look(root: &CgroupRoot, keeper: i32) -> Had {
    let base = base(root);
    let offered = words(base, "cgroup.controllers");
    let shared = words(base, "cgroup.subtree_control");
    let crowd = if is_first(base) { None } else { crowd(root, base, keeper) };
    Controller::ALL.map(|controller| {
        let has = |words: &[String]| words.iter().any(|word| word == controller.word());
        match &crowd {
            _ if has(&shared) => Ok(()),
            _ if !has(&offered) => Err(format!("{} is not given the {} controller", base.display(), controller.word())),
            Some(crowd) => Err(crowd.clone()),
            None => Ok(()),
        }
    })
}

/// Switches on what can be had, for all groups of the root.
pub(super) fn enable(root: &CgroupRoot, keeper: i32) -> Had {
    let base = base(root);
    let mut had = look(root, keeper);
    let shared = words(base, "cgroup.subtree_control");
    let is_missing = |controller: Controller| !shared.iter().any(|word| word == controller.word());
    let room = match is_first(base) || !Controller::ALL.into_iter().any(is_missing) || had.iter().all(Result::is_err) {
        true => Ok(()),
        false => make_room(root, base, keeper),
    };
    for (controller, had) in Controller::ALL.into_iter().zip(&mut had).filter(|(_, had)| had.is_ok()) {
        let on = |group: &Path| {
            let switched = write(group, "cgroup.subtree_control", &format!("+{}", controller.word()));
            switched.map_err(|error| format!("the {} controller of {}: {error}", controller.word(), group.display()))
        };
        let shared = match is_missing(controller) {
            true => room.clone().and_then(|()| on(base)),
            false => Ok(()),
        };
        *had = shared.and_then(|()| on(root.path()));
    }
    // What is promised to instances is promised to all of them together, or it would be to none.
    if had[Controller::Memory as usize].is_ok() {
        let _only_a_request = write(root.path(), "memory.low", "max");
    }
    had
}

/// Whether a controller before this one has switched memory on.
pub(super) fn counts_memory(root: &CgroupRoot) -> bool {
    words(root.path(), "cgroup.subtree_control").iter().any(|word| word == Controller::Memory.word())
}

/// Takes back what `enable` did, at an ordered end: nothing of plugd's is left behind.
pub(super) fn disable(root: &CgroupRoot, keeper: i32) {
    let base = base(root);
    let leaf = root.path().join(LEAF);
    let all: String = Controller::ALL.map(|controller| format!("-{} ", controller.word())).concat();
    for group in [Some(root.path()), leaf.exists().then_some(base)].into_iter().flatten() {
        let _it_stays = write(group, "cgroup.subtree_control", all.trim_end());
    }
    // Who was there before us goes back as well.
    for pid in procs(&leaf).into_iter().filter(|pid| may_move(*pid, root, keeper)) {
        let _it_stays = write(base, "cgroup.procs", &pid.to_string());
    }
}

/// The group that plugd was started in.
fn base(root: &CgroupRoot) -> &Path {
    root.path().parent().unwrap_or(root.path())
}

/// The first group of the machine, which has no such file.
fn is_first(base: &Path) -> bool {
    !base.join("cgroup.type").exists()
}

/// Whoever is in the group came there by us: it is a container's, or we are its first process.
fn is_ours(root: &CgroupRoot, keeper: i32) -> bool {
    root.is_whole() || keeper == 1
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// Whether it may be moved. Who writes 0, which stands for a process of another namespace, moves himself.
fn may_move(pid: i32, root: &CgroupRoot, keeper: i32) -> bool {
    pid > 0 && (is_ours(root, keeper) || [keeper, own_pid()].contains(&pid))
}

/// Why the group cannot be emptied, if it cannot.
fn crowd(root: &CgroupRoot, base: &Path, keeper: i32) -> Option<String> {
    let strangers: Vec<i32> = procs(base).into_iter().filter(|pid| !may_move(*pid, root, keeper)).collect();
    let named: Vec<String> = strangers
        .iter()
        .take(NAMED)
        .map(|pid| format!("pid {pid} ({})", stat::command(*pid).unwrap_or_else(|| "of another namespace".into())))
        .collect();
    let more = if strangers.len() > NAMED { " and others" } else { "" };
    (!strangers.is_empty()).then(|| {
        let (base, named) = (base.display(), named.join(", "));
        let verb = if strangers.len() == 1 { "shares" } else { "share" };
        format!(
            "{named}{more} {verb} plugd's own cgroup {base}: start plugd in one of its own, as its systemd unit does, \
             or by `systemd-run --scope -p Delegate=yes plugd run DIR` (--user for an ordinary user)"
        )
    })
}

fn make_room(root: &CgroupRoot, base: &Path, keeper: i32) -> Result<(), String> {
    let leaf = root.path().join(LEAF);
    let failed = |error: io::Error| format!("plugd cannot move into {}: {error}", leaf.display());
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    for _ in 0..PASSES {
        let found = procs(base);
        if found.is_empty() {
            return Ok(());
        }
        for pid in found.into_iter().filter(|pid| may_move(*pid, root, keeper)) {
            match write(&leaf, "cgroup.procs", &pid.to_string()) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Err(crowd(root, base, keeper).unwrap_or_else(|| format!("{} does not get empty", base.display())))
}

/// 0 stands for a process of a pid namespace that is not ours.
fn procs(group: &Path) -> Vec<i32> {
    words(group, "cgroup.procs").iter().filter_map(|pid| pid.parse().ok()).collect()
}

fn words(group: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_string).collect()
}

/// As [`write`], but no limit of memory ends who uses more: the kernel takes back what need not be there, and where that
/// is not enough it is an error, as with cgroup v1.
pub(super) fn put(group: &Path, file: &str, value: &str) -> io::Result<()> {
    let limit = value.parse::<u64>().ok().filter(|_| file == "memory.max");
    if let Some(limit) = limit.filter(|limit| in_use(group) > *limit) {
        let _it_may_not_help = write(group, "memory.high", value);
        let used = in_use(group);
        let _it_was_so = write(group, "memory.high", "max");
        if used > limit {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
    }
    write(group, file, value)
}

/// Bytes of memory; of a group that is gone none.
fn in_use(group: &Path) -> u64 {
    words(group, "memory.current").first().and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Never makes a file: the kernel has it or not.
pub(super) fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).open(group.join(file))?.write_all(value.as_bytes())
}
