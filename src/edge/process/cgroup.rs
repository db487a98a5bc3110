//! One cgroup (v2) per instance: the surest answer to "what belongs to it".
//!
//! The groups lie below the one that plugd itself is in, as `plugd-KEY/NAME.INDEX`, and are used
//! again by the instance's next life. They are for finding, killing and knowing empty, which works also
//! where nothing is delegated; controllers are switched on when the first service has `resources`
//! (`limits`). Nothing is kept open: 9,000 services would be 9,000 descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::model::name::Instance;

/// Groups that a service may have made inside its own are followed this deep, and this many.
const DEPTH_MAX: usize = 8;
const GROUPS_MAX: usize = 1024;
/// `cgroup.events` is two short lines.
const EVENTS_MAX: usize = 256;

/// Why there is no place for our groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup v2 is mounted")]
    NotMounted,
    #[error("plugd's own cgroup lies outside of what is mounted at {}", .0.display())]
    Outside(PathBuf),
    #[error("cannot make {}: {source}", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
}

/// Where controllers are switched on, plugd's own processes move in here: a group with processes of its
/// own may not share them out. No instance's group is called so.
pub const LEAF: &str = "plugd";

/// The folder of this node's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRoot {
    path: PathBuf,
    /// The same, as /proc/PID/cgroup tells it.
    told: PathBuf,
    /// The group around it is the first that is to be seen from here: a container's.
    whole: bool,
}

impl CgroupRoot {
    /// `key` tells the nodes of one machine apart; letters, digits and `-`.
    pub fn find(key: &str) -> Result<CgroupRoot, CgroupError> {
        let (own, told) = own_place()?;
        let name = format!("plugd-{key}");
        // A controller before this one may have moved the keeper, and with it us, into the leaf.
        let leaf = Path::new(&name).join(LEAF);
        let above = if told.ends_with(&leaf) { 2 } else { 0 };
        let base = own.ancestors().nth(above).unwrap_or(&own);
        let whole = told.ancestors().nth(above) == Some(Path::new("/"));
        let told_base = told.ancestors().nth(above).unwrap_or(&told);
        sweep(base);
        let (path, told) = (base.join(&name), told_base.join(&name));
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CgroupError::NotWritable { path, source }),
            Ok(()) => {}
        }
        // A folder of somebody else's, or a filesystem that makes folders and means nothing by it.
        let probe = path.join("cgroup.procs");
        rustix::fs::access(&probe, rustix::fs::Access::WRITE_OK)
            .map_err(|source| CgroupError::NotWritable { path: probe, source: source.into() })?;
        Ok(CgroupRoot { path, told, whole })
    }

    /// That of an earlier run, which may have been elsewhere, by a process of it that is still there.
    pub fn around(pid: i32, key: &str) -> Option<CgroupRoot> {
        let place = path_of(&pid.to_string(), "")?;
        let name = format!("plugd-{key}");
        let told = place.ancestors().find(|above| above.file_name().is_some_and(|one| *one == *name))?;
        let path = within(&mount("").ok()?, told).ok()?;
        Some(CgroupRoot { path, told: told.into(), whole: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// `NAME.INDEX` within the root; no file of the kernel's ends in a number.
    pub fn group(&self, instance: &Instance) -> Group {
        let name = format!("{}.{}", instance.service, instance.index);
        Group { path: self.path.join(&name), told: Some(self.told.join(name)) }
    }

    /// A new group, of which the counts begin at 0.
    pub(super) fn renew(&self, instance: &Instance) -> io::Result<()> {
        let path = self.group(instance).path;
        // One that is still in use stays, and the keeper starts no life in it.
        remove_below(&path);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// The group, made if it is not there, as clone3(2) wants it.
    pub fn create(&self, instance: &Instance) -> io::Result<OwnedFd> {
        let group = self.group(instance);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rustix::fs::open(&group.path, flags, Mode::empty());
        match open() {
            // Of its first life.
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(&group.path)?;
                Ok(open()?)
            }
            // Shared out by a life before, which may have been of another mind than the next.
            Ok(folder) if is_shared_out(&folder) => {
                self.renew(instance)?;
                Ok(open()?)
            }
            opened => Ok(opened?),
        }
    }

    /// Remove the root at the end; groups that are still in use stay.
    pub fn remove(&self) {
        remove_each_below(&self.path);
    }
}

/// One instance's group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    path: PathBuf,
    /// The same, as /proc/PID/cgroup tells it; unknown of those that only have to be emptied.
    told: Option<PathBuf>,
}

impl Group {
    pub fn at(path: PathBuf) -> Group {
        Group { path, told: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether any process is left in it or below. A group that is gone is empty.
    pub fn populated(&self) -> bool {
        let mut events = [0; EVENTS_MAX];
        let file = rustix::fs::open(self.path.join("cgroup.events"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let length = file.and_then(|file| rustix::io::read(file, &mut events)).unwrap_or(0);
        events[..length].split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
    }

    /// Every process in it and below, zombies excepted (the kernel leaves them out).
    pub fn procs(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for folder in self.folders() {
            let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            // 0 stands for a process of another pid namespace: not ours to name.
            pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0));
        }
        pids
    }

    /// SIGKILL to all at once, also to what is being forked (Linux 5.14).
    pub fn kill(&self) -> io::Result<()> {
        match std::fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => Ok(()),
            result => result,
        }
    }

    /// Whether the process is in this group or below, by what /proc says of it now.
    pub fn contains(&self, pid: i32) -> bool {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        let path = text.lines().find_map(|line| line.strip_prefix("0::"));
        // Whole: anybody who may make groups can make one of the same name elsewhere.
        self.told.as_ref().zip(path).is_some_and(|(told, path)| Path::new(path).starts_with(told))
    }

    /// The instance is retired: remove its group, and groups that it made within.
    pub fn remove(&self) -> io::Result<()> {
        remove_below(&self.path);
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn folders(&self) -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(&self.path).max_depth(DEPTH_MAX).follow_links(false);
        let folders = walk.into_iter().filter_entry(|entry| entry.file_type().is_dir()).flatten();
        folders.take(GROUPS_MAX).map(|entry| entry.into_path()).collect()
    }
}

/// There are groups below it, or there were: no process may be in a group that gives controllers to others.
fn is_shared_out(folder: &OwnedFd) -> bool {
    let with_none_below = |stat: rustix::fs::Stat| stat.st_nlink <= 2;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let given = rustix::fs::openat(folder, "cgroup.subtree_control", flags, Mode::empty());
    let given = given.and_then(|file| rustix::io::read(file, &mut [0; 1])).unwrap_or(0);
    given > 0 || !rustix::fs::fstat(folder).is_ok_and(with_none_below)
}

/// Remove a folder and those below, deepest first; files of the kernel's go with them.
pub(super) fn remove_below(path: &Path) {
    let walk = walkdir::WalkDir::new(path).min_depth(1).max_depth(DEPTH_MAX).contents_first(true);
    for entry in walk.into_iter().flatten().filter(|entry| entry.file_type().is_dir()).take(GROUPS_MAX) {
        // One that is still in use stays; whoever asks again later finds it empty.
        let _ = std::fs::remove_dir(entry.path());
    }
    let _ = std::fs::remove_dir(path);
}

/// Remove a folder of instances' groups, however many there are, and of each what [`remove_below`] removes.
pub(super) fn remove_each_below(path: &Path) {
    let groups = std::fs::read_dir(path).into_iter().flatten().flatten();
    let groups = groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.for_each(|group| remove_below(&group.path()));
    let _ = std::fs::remove_dir(path);
}

/// Before the pid in the name of a group: of `plugd run FILE` and `plugd run -- CMD`, and of `plugd doctor`.
const SHORT_LIVED: [&str; 2] = ["plugd-run-", "plugd-doctor-"];

/// Removes what runs of one service left that were killed, and doctors: groups with the number of a pid that is
/// gone. The kernel keeps those in which a process is, and nothing is ended here.
pub(super) fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let after = |prefix: &&str| name.to_str()?.strip_prefix(*prefix)?.parse::<u32>().ok();
        let Some(pid) = SHORT_LIVED.iter().find_map(after) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !Path::new("/proc").join(pid.to_string()).exists() {
            remove_each_below(&entry.path());
        }
    }
}

/// The folder of the group that this process is in.
pub fn own_group() -> Result<PathBuf, CgroupError> {
    own_place().map(|(folder, _)| folder)
}

/// The same, and what /proc calls it.
fn own_place() -> Result<(PathBuf, PathBuf), CgroupError> {
    let own = path_of("self", "").ok_or(CgroupError::NotMounted)?;
    Ok((within(&mount("")?, &own)?, own))
}

/// The same in the hierarchy of a controller of cgroup v1.
pub(super) fn own_legacy_group(controller: &str) -> Result<PathBuf, CgroupError> {
    let own = path_of("self", controller).ok_or(CgroupError::NotMounted)?;
    within(&mount(controller)?, &own)
}

/// Root and mount point of the hierarchy of a controller, of cgroup v2 for none.
fn mount(controller: &str) -> Result<(PathBuf, PathBuf), CgroupError> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| mount_of(line, controller)).next_back().ok_or(CgroupError::NotMounted)
}

/// The path of a process's group in such a hierarchy.
fn path_of(pid: &str, controller: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == controller).then(|| path.into())
    })
}

fn within((root, point): &(PathBuf, PathBuf), own: &Path) -> Result<PathBuf, CgroupError> {
    let outside = || CgroupError::Outside(point.clone());
    let below = own.strip_prefix(root).map_err(|_| outside())?;
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(outside());
    }
    Ok(point.join(below))
}

/// Root and mount point of a line of mountinfo, proc_pid_mountinfo(5): of cgroup v2 for no controller,
/// else of the v1 hierarchy of that one.
fn mount_of(line: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut what = after.split(' ');
    let kind = what.next()?;
    let fits = match controller {
        "" => kind == "cgroup2",
        name => kind == "cgroup" && what.nth(1)?.split(',').any(|option| option == name),
    };
    let mut fields = before.split(' ').skip(3).filter(|_| fits);
    let unescaped = |text: &str| PathBuf::from(text.replace("\\040", " ").replace("\\134", "\\"));
    Some((unescaped(fields.next()?), unescaped(fields.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_of_cgroup_v2_or_of_the_controllers_that_it_names() {
        let line = "31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount_of(line, ""), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(mount_of(line, "memory"), None);
        let line = "33 31 0:30 /a\\040b /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(mount_of(line, "cpu"), Some(("/a b".into(), "/sys/fs/cgroup/cpu".into())));
        for controller in ["", "memory", "cpus"] {
            assert_eq!(mount_of(line, controller), None, "{controller:?}");
        }
        assert_eq!(mount_of("nonsense", ""), None);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().expect("a temp folder");
        // Above the largest pid there can be: PID_MAX_LIMIT is 4194304.
        let [gone, busy] = [4_194_305, 4_194_306].map(|pid| format!("plugd-run-{pid}"));
        let alive = format!("plugd-run-{}", std::process::id());
        let doctor = "plugd-doctor-4194305".to_string();
        for folder in [&gone, &doctor, &busy, &alive, "plugd-services.d-1f3a9c", "plugd-run-x", "other"] {
            std::fs::create_dir_all(parent.path().join(folder).join("web.0")).expect("a folder");
        }
        // What holds a process cannot be removed; here a file has the same effect.
        std::fs::write(parent.path().join(&busy).join("web.0/held"), "").expect("a file");
        sweep(parent.path());
        let left = |folder: &str| parent.path().join(folder).exists();
        assert!(!left(&gone) && !left(&doctor));
        for folder in [&busy, &alive, "plugd-services.d-1f3a9c", "plugd-run-x", "other"] {
            assert!(left(folder), "{folder}");
        }
    }

    #[test]
    fn of_a_node_that_ends_no_group_is_left_however_many_there_were() {
        let parent = tempfile::tempdir().expect("a temp folder");
        let node = parent.path().join("plugd-services.d-1f3a9c");
        std::fs::create_dir_all(node.join("web.0/its-own")).expect("a folder");
        for number in 1..=GROUPS_MAX {
            std::fs::create_dir(node.join(format!("web.{number}"))).expect("a folder");
        }
        remove_each_below(&node);
        assert!(!node.exists());
    }

    #[test]
    fn a_group_that_is_gone_is_empty_and_may_be_killed_and_removed() {
        let group = Group::at("/nonexistent/plugd-x/web.0".into());
        assert!(!group.populated() && group.procs().is_empty());
        group.kill().expect("nothing to kill");
        group.remove().expect("nothing to remove");
    }
}
