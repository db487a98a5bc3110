//! The oracle: looks at /proc, at ports and at `*.status` 20 times a second and believes nothing.
//!
//! It knows no code of plugd, only what is promised to those who read the files: while the pid in
//! `_controller.status` lives, no file disagrees with the processes for longer than 200 ms, and no
//! file is ever torn. Whose process it is tells its environment (`PLUGD_INSTANCE`), not plugd; a server
//! that writes a title over its environment is known by that. Where all have checks, nobody may be called
//! healthy for longer than a check needs to notice that he stands still or has closed his port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(50);
/// How long a status file may be behind (behaviour.md, section 4).
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// How long a start may take before its status says why it does. The kernel alone can take a tenth of it for a fork that
/// others hold up.
const HELD_UP: Duration = Duration::from_secs(2);

/// What processes do not tell of themselves.
#[derive(Default)]
pub struct Known {
    /// Services, each with words of the title that its process writes over its environment.
    pub titles: Vec<(&'static str, String)>,
    /// All have checks, and each notices within this that its service stands still or has closed its port.
    pub noticed_within: Option<Duration>,
    /// What plugd writes with is made to fail: so much later a file may be.
    pub late: Duration,
}

pub struct Oracle {
    over: Arc<AtomicBool>,
    transitions: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Oracle {
    /// Watches a directory; services in it must have no hooks.
    pub fn watch(dir: &Path) -> Oracle {
        Oracle::watch_known(dir, Known::default())
    }

    pub fn watch_known(dir: &Path, known: Known) -> Oracle {
        let over = Arc::new(AtomicBool::new(false));
        let transitions = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(AtomicUsize::new(0));
        let mut eye = Eye::new(dir, known, transitions.clone());
        let (stop, count) = (over.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                eye.look();
                count.store(eye.lies.len(), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
            eye.lies
        });
        Oracle { over, transitions, seen, thread }
    }

    /// Processes that came or went so far.
    pub fn transitions(&self) -> usize {
        self.transitions.load(Ordering::Relaxed)
    }

    /// Lies so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends the watch, for what it has seen.
    pub fn lies(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the oracle does not panic")
    }

    /// Ends the watch: there was no lie.
    pub fn assert_no_lie(self) {
        let transitions = self.transitions();
        let lies = self.lies();
        eprintln!("    {transitions} transitions, {} lies", lies.len());
        assert!(lies.is_empty(), "{} lies in {transitions} transitions:\n{}", lies.len(), lies.join("\n"));
    }
}

/// What one file claims.
#[derive(Debug, Default)]
struct Claim {
    status: String,
    running: bool,
    pid: Option<i32>,
    port: Option<u16>,
}

/// What is not as a file claims, and how long that may be so.
type Disagreement = (String, Duration);

struct Eye {
    dir: PathBuf,
    known: Known,
    transitions: Arc<AtomicUsize>,
    /// Processes by instance, of the last look.
    before: BTreeSet<(String, i32)>,
    /// Disagreements that are not old enough yet, and what was excused of their age.
    open: BTreeMap<String, (Instant, Duration)>,
    controller: i32,
    /// How long each thread of plugd has waited for a processor in its life.
    waited: BTreeMap<PathBuf, u64>,
    last: Instant,
    lies: Vec<String>,
}

impl Eye {
    fn new(dir: &Path, known: Known, transitions: Arc<AtomicUsize>) -> Eye {
        Eye {
            dir: dir.to_path_buf(),
            known,
            transitions,
            before: BTreeSet::new(),
            open: BTreeMap::new(),
            controller: 0,
            waited: BTreeMap::new(),
            last: Instant::now(),
            lies: Vec::new(),
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        // What it did not look at may have been right meanwhile.
        let late = (now - self.last).saturating_sub(LOOK + LOOK / 2);
        self.last = now;

        // Whole they are at any time, whoever lives.
        let (claims, torn) = read_all(&self.dir);
        self.lies.extend(torn);
        let controller = number_after(&read(&self.dir.join("_controller.status")), "controller: {pid: ");
        let Some(controller) = controller.filter(|pid| state(*pid).is_some_and(|state| state != 'Z')) else {
            // A dead controller's files are known to be old.
            self.open.clear();
            return;
        };
        if controller != self.controller {
            self.controller = controller;
            self.open.clear();
        }
        let late = late + self.queued(controller);
        self.open.values_mut().for_each(|(_, excused)| *excused += late);
        let (processes, listening) = (self.processes(controller), listening());
        let now_there: BTreeSet<(String, i32)> =
            processes.iter().flat_map(|(name, pids)| pids.iter().map(move |pid| (name.clone(), *pid))).collect();
        let changes = now_there.symmetric_difference(&self.before).count();
        self.transitions.fetch_add(changes, Ordering::Relaxed);
        self.before = now_there;

        let mut found: BTreeMap<String, Duration> = BTreeMap::new();
        for (name, claim) in &claims {
            let pids = processes.get(name).cloned().unwrap_or_default();
            found.extend(disagreement(name, claim, &pids, &listening, self.known.noticed_within));
        }
        for (name, pids) in processes.iter().filter(|(name, _)| !claims.contains_key(*name)) {
            found.insert(format!("{name} has processes {pids:?} and no status file"), BEHIND_MAX);
        }
        self.open.retain(|what, _| found.contains_key(what));
        for (what, behind_max) in found {
            let (since, excused) = *self.open.entry(what.clone()).or_insert((now, Duration::ZERO));
            let age = (now - since).saturating_sub(excused);
            if age > behind_max + self.known.late {
                self.lies.push(format!("for {age:?} (excused {excused:?}): {what}"));
                // Told once; it counts again when it begins anew.
                self.open.insert(what, (now + Duration::from_secs(3600), Duration::ZERO));
            }
        }
    }

    /// How long plugd's threads, and its children that have not executed their program yet, have stood in the queue
    /// for a processor since the last look, as the kernel counts it: on the way to a file they wait one after
    /// another. Where nobody else computes it is nothing.
    fn queued(&mut self, controller: i32) -> Duration {
        let keeper = parent(controller);
        let begun = keeper.map(children).unwrap_or_default().into_iter().filter(|pid| variables(*pid).is_none());
        let who: BTreeSet<i32> = keeper.into_iter().chain([controller]).chain(begun).collect();
        let tasks = |pid: i32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let waited = |task: fs::DirEntry| {
            let text = read(&task.path().join("schedstat"));
            Some((task.path(), text.split(' ').nth(1)?.parse().ok()?))
        };
        let now: BTreeMap<PathBuf, u64> = who.into_iter().flat_map(tasks).filter_map(waited).collect();
        let since = |(task, nanos): (&PathBuf, &u64)| {
            // One that has begun since then has waited since then.
            nanos.saturating_sub(self.waited.get(task).copied().unwrap_or_default())
        };
        let nanos = now.iter().map(since).sum();
        self.waited = now;
        Duration::from_nanos(nanos)
    }

    /// The children of the controller's parent, by the instance that their environment names.
    fn processes(&self, controller: i32) -> BTreeMap<String, Vec<i32>> {
        let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let Some(keeper) = parent(controller) else { return found };
        for pid in children(keeper) {
            if pid == controller || state(pid).is_none_or(|state| state == 'Z') {
                continue;
            }
            if let Some(name) = self.whose(pid) {
                found.entry(name).or_default().push(pid);
            }
        }
        found
    }

    fn whose(&self, pid: i32) -> Option<String> {
        let told = variables(pid);
        // An exec probe runs beside the service and is none of its processes.
        if told.as_ref().is_some_and(|told| told.is_helper) {
            return None;
        }
        let by_title = || {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let title = String::from_utf8_lossy(&title).into_owned();
            let known = self.known.titles.iter().find(|(_, words)| title.contains(words))?;
            Some(known.0.to_string())
        };
        told.map(|told| told.instance).or_else(by_title)
    }
}

/// What the status files of a directory claim, and those that are torn.
fn read_all(dir: &Path) -> (BTreeMap<String, Claim>, Vec<String>) {
    let (mut claims, mut torn) = (BTreeMap::new(), Vec::new());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".status").filter(|stem| !stem.starts_with('_')) else { continue };
        // Removed since it was listed.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        match claim(stem, &text) {
            Some(claim) => drop(claims.insert(stem.to_string(), claim)),
            None => torn.push(format!("{name} is torn:\n{text}")),
        }
    }
    (claims, torn)
}

/// Each status file is whole, whoever was killed while it was written. Gives how many there are.
pub fn assert_whole(dir: &Path) -> usize {
    let (claims, torn) = read_all(dir);
    assert!(torn.is_empty(), "{}", torn.join("\n"));
    claims.len()
}

/// Reads what it needs of a file; none where the file is not whole.
fn claim(stem: &str, text: &str) -> Option<Claim> {
    let mut lines = text.lines();
    let whole = text.ends_with("}\n") && lines.next_back()?.starts_with("controller: {pid: ");
    let key = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let right = text.starts_with(&format!("# {stem} ")) && key("service") == Some(stem);
    let running = match key("processRunning")? {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    let port = key("address").and_then(|address| address.rsplit_once(':')?.1.parse().ok());
    let pid = key("pid").and_then(|pid| pid.parse().ok());
    (whole && right).then_some(Claim { status: key("status")?.to_string(), running, pid, port })
}

fn disagreement(
    name: &str,
    claim: &Claim,
    pids: &[i32],
    listening: &BTreeSet<u16>,
    noticed_within: Option<Duration>,
) -> Option<Disagreement> {
    let Claim { status, running, pid, port } = claim;
    let up = matches!(status.as_str(), "starting" | "running" | "healthy");
    let at_once = |what: String| Some((what, BEHIND_MAX));
    if let Some(pid) = pid
        && !pids.contains(pid)
    {
        return at_once(format!("{name} claims pid {pid}, and its processes are {pids:?}"));
    }
    // Of one that is stopping the first process may have ended, and what it left is being ended.
    let leaves = status == "stopping" && !running;
    if *running == pids.is_empty() && !leaves {
        return at_once(format!("{name} claims processRunning: {running}, and its processes are {pids:?}"));
    }
    if up && pids.is_empty() {
        // The keeper is being asked: with no process claimed that is so until the status has to tell what holds it up.
        let asked = status == "starting" && !running && pid.is_none();
        let behind_max = if asked { HELD_UP } else { BEHIND_MAX };
        return Some((format!("{name} claims to be {status} and has no process"), behind_max));
    }
    if matches!(status.as_str(), "completed" | "stopped" | "failed" | "skipped" | "waiting") && !pids.is_empty() {
        return at_once(format!("{name} claims to be {status}, and its processes are {pids:?}"));
    }
    if status != "healthy" {
        return None;
    }
    // What no process tells by its end is known when a check has noticed it.
    let when_noticed = BEHIND_MAX + noticed_within.unwrap_or_default();
    if let Some(pid) = pid
        && noticed_within.is_some()
        && state(*pid) == Some('T')
    {
        return Some((format!("{name} claims to be healthy, and its process {pid} stands still"), when_noticed));
    }
    match port {
        Some(port) if !listening.contains(port) => {
            Some((format!("{name} claims to be healthy, and nobody listens on {port}"), when_noticed))
        }
        _ => None,
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = read(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// What a process's environment says of it.
struct Told {
    instance: String,
    is_helper: bool,
}

/// None where it has not executed its program yet, or has written something else over it.
fn variables(pid: i32) -> Option<Told> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |key: &str| environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(key.as_bytes()));
    let instance = String::from_utf8_lossy(value("PLUGD_INSTANCE=")?).trim_end_matches("/0").to_string();
    Some(Told { instance, is_helper: value("PLUGD_HELPER=").is_some() })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number_after(text: &str, word: &str) -> Option<i32> {
    let rest = text.split_once(word)?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What stands behind the name in /proc/PID/stat.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_string).collect())
}

fn state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Ports that somebody listens on, of both families.
fn listening() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in read(Path::new(table)).lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            if let (Some((_, port)), Some("0A")) = (local.and_then(|local| local.rsplit_once(':')), state) {
                ports.extend(u16::from_str_radix(port, 16));
            }
        }
    }
    ports
}
