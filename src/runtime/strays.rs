//! The table of lives, and what a killed keeper left behind.
//!
//! `lives` in the run directory (a tmpfs) has one line a process, written by the child itself after
//! the fork and before exec, so that there is no moment without it:
//!
//! ```text
//! orders/0#3 15 30000 BOOT-ID PID-NAMESPACE KEEPER PID START-TIME
//! ```
//!
//! The controller's own line ends with the directory that it serves.
//!
//! A second table in the state directory, a moment behind, serves where the run directory was taken away
//! (see [`copy`](super::lives_copy)).
//!
//! A keeper that was killed leaves its services; the next run ends them before it starts anything,
//! because two copies of one instance must never run. Nothing is adopted across a keeper's death.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::lives_copy::Copy;
use crate::edge::places::Places;
use crate::edge::process::cgroup::{CgroupRoot, Group, LEAF};
use crate::edge::process::stat::{self, Stat};
use crate::edge::process::tree::Tree;
use crate::model::name::LifeId;
use crate::model::spec::Spec;

/// The longest that a stray may take to end by itself.
const GRACE_MAX: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);
const LIVES: &str = "lives";
/// A table is written anew at a fraction of this.
const TABLE_MAX: u64 = 16 << 20;
/// Parents of parents that are looked at.
const GENERATIONS_MAX: usize = 64;
/// A table of more lines than this is written anew: 10,000 lives of 100 bytes are 1 MiB of tmpfs.
pub(super) const LINES_MAX: usize = 10_000;

/// The file, open for appending; none where no run directory can be written.
#[derive(Debug)]
pub struct LivesTable {
    file: Option<(Arc<OwnedFd>, PathBuf)>,
    copy: Option<Copy>,
    /// And of which keeper its lines are.
    place: String,
    /// The directory that the node serves, for those who meet the table elsewhere.
    dir: String,
    lines: usize,
    /// When it is written anew; later each time that this fails.
    lines_max: usize,
    /// It was not there.
    pub fresh: bool,
    /// Asked for with the table before this one: their lines are not in it.
    expected: HashSet<LifeId>,
}

impl LivesTable {
    pub fn open(places: &Places, dir: &Path, keeper: String) -> LivesTable {
        let copy = places
            .state
            .as_ref()
            .map(|state| Copy::start(state.join(LIVES), places.run.as_ref().map(|run| run.join(LIVES))));
        let place = format!("{} {keeper}", place());
        let mut table = LivesTable {
            file: None,
            copy,
            place,
            dir: dir.display().to_string().replace('\n', "?"),
            lines: 0,
            lines_max: LINES_MAX,
            fresh: false,
            expected: HashSet::new(),
        };
        if let Some(run) = &places.run {
            table.renew(run);
        }
        table
    }

    /// Begins anew in a run directory that was made again.
    pub fn renew(&mut self, run: &Path) {
        let path = run.join(LIVES);
        self.fresh = path.symlink_metadata().is_err();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(&path);
        let file = file.inspect_err(|error| tracing::warn!(%error, "the table of lives cannot be written")).ok();
        self.file = file.map(|file| (Arc::new(OwnedFd::from(file)), path));
        self.lines = 0;
    }

    /// The descriptor and the beginning of the line that the child completes with pid and start time.
    pub fn line(&mut self, life: &LifeId, spec: &Spec) -> Option<(Arc<OwnedFd>, Vec<u8>)> {
        let (file, _) = self.file.as_ref()?;
        self.lines += 1;
        let grace = spec.stop.grace_period.as_millis();
        Some((file.clone(), format!("{life} {} {grace} {}", spec.stop.signal, self.place).into_bytes()))
    }

    /// Writes the line of the controller itself, which is there already.
    pub fn note_controller(&self) {
        // It is never ended gently: it dies with its keeper anyway.
        self.write("controller 9 0", std::process::id() as i32, &format!(" {}", self.dir));
    }

    /// The same of a life; one that an earlier controller started may not have its spec yet.
    pub fn note_life(&mut self, life: &LifeId, spec: Option<&Spec>, pid: i32) {
        let (signal, grace) =
            spec.map_or((libc::SIGTERM, GRACE_MAX), |spec| (spec.stop.signal, spec.stop.grace_period));
        self.write(&format!("{life} {signal} {}", grace.as_millis()), pid, "");
        self.lines += 1;
    }

    /// The lines of these lives go where an older table was.
    pub fn expect(&mut self, lives: Vec<LifeId>) {
        self.expected = lives.into_iter().collect();
    }

    /// A life is there: its line is written if the child itself could not.
    pub fn spawned(&mut self, life: &LifeId, spec: &Spec, tree: &Tree) {
        if self.expected.remove(life) {
            self.note_life(life, Some(spec), tree.pid);
        } else if let Some(copy) = &self.copy {
            let (signal, grace) = (spec.stop.signal, spec.stop.grace_period.as_millis());
            copy.write(format!("{life} {signal} {grace} {} {} {}\n", self.place, tree.pid, tree.start_time));
        }
    }

    fn write(&self, head: &str, pid: i32, more: &str) {
        let start = start_time(pid).unwrap_or_default();
        let line = format!("{head} {} {pid} {start}{more}\n", self.place);
        if let Some((file, _)) = &self.file
            && let Err(error) = rustix::io::write(file, line.as_bytes())
        {
            tracing::warn!(%error, "the table of lives cannot be written");
        }
        if let Some(copy) = &self.copy {
            copy.write(line);
        }
    }

    /// The node ends in order: nothing of it is left.
    pub fn clear(&mut self) {
        if let Some((_, path)) = self.file.take() {
            let _ = std::fs::remove_file(path);
        }
        if let Some(copy) = self.copy.take() {
            copy.clear();
        }
    }

    /// Whether it is time to write the table anew (when no spawn is under way).
    pub fn is_long(&self) -> bool {
        self.lines > self.lines_max
    }

    pub fn compact(&mut self) {
        let Some((_, path)) = &self.file else { return };
        match shortened(path) {
            Ok(file) => {
                self.file = Some((Arc::new(OwnedFd::from(file)), path.clone()));
                (self.lines, self.lines_max) = (0, LINES_MAX);
            }
            Err(error) => {
                self.lines_max = self.lines * 2;
                tracing::warn!(%error, "the table of lives cannot be shortened");
            }
        }
    }
}

/// The table with only the lines of processes that are still there.
pub(super) fn shortened(path: &Path) -> io::Result<std::fs::File> {
    let alive: String = strays(path).iter().map(|stray| format!("{}\n", stray.line)).collect();
    let stage = path.with_extension("new");
    // What a killed one left there is not of now.
    let _ = std::fs::remove_file(&stage);
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&stage)?;
    file.write_all(alive.as_bytes())?;
    std::fs::rename(&stage, path)?;
    Ok(file)
}

/// A process of an earlier run that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stray {
    name: String,
    signal: i32,
    grace: Duration,
    /// Of which keeper, as [`identity`] names it.
    keeper: String,
    pid: i32,
    start: u64,
    /// The directory of the node; the controller's line has it.
    dir: Option<String>,
    line: String,
}

/// How a keeper is named in the table: pid and start time. None where /proc does not tell: with a
/// wrong name everything that it runs would be taken for another's, and ended.
pub fn identity(pid: i32) -> Option<String> {
    Some(format!("{pid}.{}", start_time(pid)?))
}

/// A keeper that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    pub pid: i32,
    /// The directory that it serves, where its table tells.
    pub dir: Option<String>,
    /// Where its table lies.
    pub place: PathBuf,
}

/// The keeper of these places that runs, whatever became of the directories that it locked.
pub fn living_keeper(places: &Places) -> Option<Living> {
    let here = place();
    tables(places).into_iter().find_map(|table| {
        let text = read(&table)?;
        let lines: Vec<Stray> = text.lines().filter_map(|line| parse(line, &here)).collect();
        let keepers: HashSet<&str> = lines.iter().map(|line| line.keeper.as_str()).collect();
        let lives = |keeper: &&str| {
            let pid = keeper.split_once('.').and_then(|(pid, _)| pid.parse().ok());
            pid.and_then(identity).is_some_and(|there| there == **keeper)
        };
        let keeper = keepers.into_iter().find(lives)?;
        let dir = lines.iter().rev().filter(|line| line.keeper == keeper).find_map(|line| line.dir.clone());
        let pid = keeper.split_once('.')?.0.parse().ok()?;
        Some(Living { pid, dir, place: table.parent()?.to_path_buf() })
    })
}

/// Where lines may be: run directory, state directory.
fn tables(places: &Places) -> Vec<PathBuf> {
    [&places.run, &places.state].into_iter().flatten().map(|dir| dir.join(LIVES)).collect()
}

/// Processes that a keeper left which is not this one.
fn left_behind(places: &Places, own: &str) -> Vec<Stray> {
    let mut found: Vec<Stray> = Vec::new();
    for stray in tables(places).iter().flat_map(|table| strays(table)).filter(|stray| stray.keeper != own) {
        if !found.iter().any(|known| (known.pid, known.start) == (stray.pid, stray.start)) {
            found.push(stray);
        }
    }
    found
}

/// Whether processes of another keeper of this directory are still there.
pub fn left_by_another(places: &Places, own: &str) -> bool {
    !left_behind(places, own).is_empty()
}

/// Ends whatever an earlier keeper of this directory left, and says what it was.
pub fn empty(places: &Places, cgroups: Option<&CgroupRoot>, own: &str) -> Vec<String> {
    let node = places.key.as_str();
    let mut found = left_behind(places, own);
    // The old controller first: nothing may start a service while the old ones are being ended.
    found.sort_by_key(|stray| stray.name != "controller");
    let mut named: Vec<String> = Vec::new();
    for stray in found.iter().filter(|stray| stray.name == "controller") {
        signal(stray.pid, stray.start, libc::SIGKILL);
        wait_gone(std::slice::from_ref(stray), Duration::from_secs(5));
    }
    found.retain(|stray| stray.name != "controller");
    // Before they are ended: by them it is known where their groups are, if not where ours are.
    let mut elsewhere: Vec<CgroupRoot> = found.iter().filter_map(|stray| CgroupRoot::around(stray.pid, node)).collect();
    elsewhere.retain(|root| cgroups.is_none_or(|own| own.path() != root.path()));
    elsewhere.sort_by(|one, other| one.path().cmp(other.path()));
    elsewhere.dedup();
    for stray in &found {
        named.push(format!("{} (pid {})", stray.name, stray.pid));
        signal(stray.pid, stray.start, stray.signal);
    }
    // With a cgroup for each instance nobody escapes; without, what a life has forked is sought by
    // its session and by the node that its environment names.
    let sessions: Vec<i32> = found.iter().map(|stray| stray.pid).collect();
    let family = || match cgroups {
        Some(_) => Vec::new(),
        None => relatives(&sessions, node),
    };
    for (pid, _, name) in family() {
        if !found.iter().any(|stray| stray.pid == pid) {
            named.push(format!("{name} (pid {pid})"));
        }
    }
    let above = lineage(std::process::id() as i32);
    let mut groups: Vec<Group> = cgroups.into_iter().chain(&elsewhere).flat_map(populated).collect();
    groups.retain(|group| !group.procs().into_iter().any(|pid| is_kept(pid, &above)));
    if found.is_empty() {
        let name = |group: &Group| group.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        named.extend(groups.iter().map(name));
    }
    let grace = found.iter().map(|stray| stray.grace).max().unwrap_or(Duration::from_secs(1)).min(GRACE_MAX);
    let begun = Instant::now();
    let until = begun + grace;
    let pause = Duration::from_millis(if cgroups.is_some() { 2 } else { 20 });
    let mut rest_told = false;
    while Instant::now() < until
        && (found.iter().any(Stray::lives) || groups.iter().any(|group| group.populated()) || !family().is_empty())
    {
        // By the rule of a stop: the rest is asked once its main process is gone, which may end it itself.
        if !rest_told && !found.iter().any(Stray::lives) {
            rest_told = true;
            let in_groups = groups.iter().flat_map(Group::procs).filter_map(|pid| Some((pid, start_time(pid)?)));
            let rest = family().into_iter().map(|(pid, start, _)| (pid, start)).chain(in_groups);
            rest.for_each(|(pid, start)| signal(pid, start, libc::SIGTERM));
        }
        // Nobody waits for the grace of another.
        for stray in found.iter().filter(|stray| begun.elapsed() >= stray.grace) {
            signal(stray.pid, stray.start, libc::SIGKILL);
        }
        std::thread::sleep(pause);
    }
    for stray in &found {
        signal(stray.pid, stray.start, libc::SIGKILL);
    }
    for group in &groups {
        let _ = group.kill();
    }
    let until = Instant::now() + KILL_MAX;
    loop {
        let left = family();
        if left.is_empty() || Instant::now() > until {
            break;
        }
        left.iter().for_each(|(pid, start, _)| signal(*pid, *start, libc::SIGKILL));
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_gone(&found, KILL_MAX);
    elsewhere.iter().for_each(CgroupRoot::remove);
    for table in tables(places) {
        let _ = std::fs::remove_file(table);
    }
    named
}

/// Processes of the sessions, or whose environment names the node: pid, start time, command. One walk
/// over /proc, some 20 µs a process, and only where there are no cgroups.
fn relatives(sessions: &[i32], node: &str) -> Vec<(i32, u64, String)> {
    let above = lineage(std::process::id() as i32);
    let of = |pid: i32| {
        let stat = Stat::of(pid).filter(Stat::lives)?;
        let kin = sessions.contains(&stat.session) || stat::names_node(pid, node);
        (kin && !above.contains(&pid) && !is_kept(pid, &above)).then_some((pid, stat.start_time, stat.command))
    };
    stat::pids().into_iter().filter_map(of).collect()
}

/// A process, its parent, and so on up to the first of all.
fn lineage(pid: i32) -> Vec<i32> {
    std::iter::successors(Some(pid), |pid| Stat::of(*pid).map(|stat| stat.parent).filter(|parent| *parent > 0))
        .take(GENERATIONS_MAX)
        .collect()
}

/// Whether a keeper that lives looks after it, which is none of those above us: then it was not left, but
/// belongs to a node whose directory has the same path (in another mount namespace, say).
fn is_kept(pid: i32, above: &[i32]) -> bool {
    let mut ancestors = lineage(pid).into_iter().skip(1).filter(|ancestor| !above.contains(ancestor));
    ancestors.any(|ancestor| stat::command(ancestor).as_deref() == Some("plugd"))
}

/// Every group of this directory's in which somebody lives, less the one that we may be in ourselves.
fn populated(root: &CgroupRoot) -> Vec<Group> {
    let entries = std::fs::read_dir(root.path()).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != LEAF)
        .map(|entry| Group::at(entry.path()))
        .filter(Group::populated)
        .collect()
}

/// To the process that was meant, or to nobody: the pidfd is opened before the identity is compared.
fn signal(pid: i32, start: u64, signal: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if start_time(pid.as_raw_nonzero().get()) != Some(start) {
        return;
    }
    // Gone already is as good; real-time signals are the kernel's to check.
    let _ = crate::edge::process::raw::signal_process(held.as_fd(), signal);
}

fn start_time(pid: i32) -> Option<u64> {
    Stat::of(pid).filter(Stat::lives).map(|stat| stat.start_time)
}

fn wait_gone(strays: &[Stray], limit: Duration) {
    let until = Instant::now() + limit;
    while strays.iter().any(Stray::lives) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Stray {
    fn lives(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }
}

/// The text of a table. One that others can write to, or have put there, might name anybody.
fn read(table: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(table).ok()?;
    let found = file.metadata().ok()?;
    let ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && found.nlink() == 1;
    if !ours || found.mode() & 0o022 != 0 {
        tracing::warn!("{} is not believed: others can write to it", table.display());
        return None;
    }
    let mut text = String::new();
    file.take(TABLE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn strays(table: &Path) -> Vec<Stray> {
    let place = place();
    let text = read(table).unwrap_or_default();
    text.lines().filter_map(|line| parse(line, &place)).filter(Stray::lives).collect()
}

/// Whom a line names, and with which signal that is ended: for `fuzz`.
pub(crate) fn read_line(line: &str, place: &str) -> Option<(i32, i32)> {
    parse(line, place).map(|stray| (stray.pid, stray.signal))
}

fn parse(line: &str, place: &str) -> Option<Stray> {
    let mut words = line.split(' ');
    let name = words.next()?.to_string();
    // 0 and below would mean groups and everybody, and 1 is nobody's service.
    let signal = words.next()?.parse().ok().filter(|signal| (1..=64).contains(signal))?;
    let grace = Duration::from_millis(words.next()?.parse().ok()?);
    // Another boot or another pid namespace: these numbers mean somebody else.
    if format!("{} {}", words.next()?, words.next()?) != place {
        return None;
    }
    let keeper = words.next()?.to_string();
    let pid = words.next()?.parse().ok().filter(|pid| *pid > 1)?;
    let start = words.next()?.parse().ok()?;
    let dir = Some(words.collect::<Vec<_>>().join(" ")).filter(|dir| !dir.is_empty());
    Some(Stray { name, signal, grace, keeper, pid, start, dir, line: line.to_string() })
}

/// Boot id and pid namespace: what a pid is relative to.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_another_boot_or_namespace_or_a_torn_one_names_nobody() {
        let here = "boot-a pid:[1]";
        let whole = "orders/0#3 15 30000 boot-a pid:[1] 7.55 412 9917";
        let stray = parse(whole, here).expect("a whole line");
        assert_eq!((stray.name.as_str(), stray.keeper.as_str()), ("orders/0#3", "7.55"));
        assert_eq!((stray.pid, stray.start, stray.dir), (412, 9917, None));
        let controller = parse("controller 9 0 boot-a pid:[1] 7.55 8 9000 /a b/services.d", here).expect("a line");
        assert_eq!((controller.start, controller.dir.as_deref()), (9000, Some("/a b/services.d")));
        assert_eq!(parse(whole, "boot-b pid:[1]"), None);
        assert_eq!(parse(whole, "boot-a pid:[2]"), None);
        for pid in ["1", "0", "-1", "-412"] {
            assert_eq!(parse(&whole.replace(" 412 ", &format!(" {pid} ")), here), None, "{pid}");
        }
        for signal in ["0", "65", "-9"] {
            assert_eq!(parse(&whole.replace(" 15 ", &format!(" {signal} ")), here), None, "{signal}");
        }
        for cut in 0..whole.len() - 5 {
            assert_eq!(parse(&whole[..cut], here), None, "{}", &whole[..cut]);
        }
    }

    #[test]
    fn a_table_that_others_can_write_to_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let table = folder.path().join("lives");
        std::fs::write(&table, "text").expect("written");
        let mode = |mode| std::fs::set_permissions(&table, std::fs::Permissions::from_mode(mode)).expect("set");
        mode(0o600);
        assert_eq!(read(&table).as_deref(), Some("text"));
        for others in [0o620, 0o602] {
            mode(others);
            assert_eq!(read(&table), None, "{others:o}");
        }
        mode(0o600);
        std::fs::hard_link(&table, folder.path().join("second")).expect("linked");
        assert_eq!(read(&table), None, "somebody else holds a name of it");
        std::os::unix::fs::symlink(&table, folder.path().join("link")).expect("linked");
        assert_eq!(read(&folder.path().join("link")), None);
    }
}
