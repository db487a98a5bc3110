//! SIGKILL of the controller at the calls of a scripted life, and at random under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Stage, is_root};
use crate::oracle::{self, Oracle};
use crate::reads::Dice;
use crate::soak::times;
use crate::world::{World, kill, lives};

/// A node that is played the same life again and again, each time with another fault in it.
pub struct Play {
    pub world: World,
    stage: Stage,
    case: usize,
}

/// Kills of every push, 300 in all: at the calls of a life, and at random under load.
const INJECTED: usize = 100;
const AT_RANDOM: usize = 200;

/// They must never notice anything.
const STANDING: usize = 4;

impl Play {
    pub fn begin() -> Play {
        let mut world = World::empty();
        let stage = Stage::set(&mut world);
        for n in 0..STANDING {
            guard::put(&world, &format!("standing{n}"));
        }
        Play { world, stage, case: 0 }
    }

    /// A controller with this fault from its first call on: it adopts, hears of a new service, of its
    /// crash, of an edit and of its end, and is asked. Gives whether it died of the fault.
    pub fn act(&mut self, faults: &str) -> bool {
        self.act_within(Duration::from_secs(10), faults)
    }

    /// 5 s is the bar for one fault; the rest is for a machine that others use, too.
    pub fn act_within(&mut self, bar: Duration, faults: &str) -> bool {
        self.case += 1;
        let (world, case) = (&self.world, self.case);
        let name = format!("life{case}");
        let file = format!("{name}.yaml");
        let version = |version: usize| {
            guard::script(world, &name, &format!("exec sleep 86400.{version}"))
                + "restart: {backoff: {initial: 10ms, max: 20ms}}\n"
        };
        let pause = || std::thread::sleep(Duration::from_millis(25));
        self.stage.begin(world, faults);
        world.put(&file, &version(1));
        pause();
        pause();
        if let Some(pid) = guard::starts(world, &name).last() {
            kill(*pid, 9);
        }
        pause();
        world.put(&file, &version(2));
        pause();
        drop(world.plugd(&["get", "-o", "name"]));
        if case > 1 {
            let _ = fs::remove_file(world.path(&format!("life{}.yaml", case - 1)));
        }
        pause();
        let quiet = Instant::now();
        // What must be true in the end, whoever died on the way.
        self.await_within(faults, "the newest version", || {
            oracle::assert_whole(&world.dir());
            let newest = guard::starts(world, &name).last().copied().unwrap_or_default();
            lives(newest)
                && fs::read_to_string(format!("/proc/{newest}/cmdline")).is_ok_and(|line| line.contains("86400.2"))
                && world.pid(&name) == Some(newest)
                && world.status(&name) == "running"
        });
        self.await_within(faults, "the end of the one before", || {
            world.status_file(&format!("life{}", case - 1)).is_none()
        });
        let took = quiet.elapsed();
        assert!(took < bar, "{took:?} with {faults}\n{}", self.last_words());
        for n in 0..STANDING {
            let starts = guard::starts(world, &format!("standing{n}"));
            assert!(
                starts.len() == 1 && lives(starts[0]),
                "standing{n} with {faults}: {starts:?}\n{}",
                self.last_words()
            );
        }
        guard::assert_single(world);
        // One whose writing failed is written again.
        self.await_within(faults, "a status of each", || oracle::assert_whole(&world.dir()) > STANDING);
        self.trace().contains("killed by SIGKILL")
    }

    /// What strace has said of the last life.
    pub fn trace(&self) -> String {
        fs::read_to_string(self.stage.trace()).unwrap_or_default()
    }

    /// Tells what the node said until the patience was over, not until it began.
    fn await_within(&self, faults: &str, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain for {what} with {faults}\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn last_words(&self) -> String {
        let log = self.world.log();
        let lines: Vec<_> = log.lines().rev().take(25).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// How often each call is made by the thread that makes it most, in a life without faults.
    pub fn calls(&mut self) -> BTreeMap<String, usize> {
        self.act("-e trace=all");
        let text = self.trace();
        let mut count: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let call = rest.trim_start().split('(').next().unwrap_or_default();
            let is_call = !call.is_empty() && call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_call && call.starts_with(|c: char| c.is_ascii_lowercase()) {
                *count.entry((thread.to_string(), call.to_string())).or_default() += 1;
            }
        }
        let mut most = BTreeMap::new();
        for ((_, call), times) in count {
            let entry: &mut usize = most.entry(call).or_default();
            *entry = times.max(*entry);
        }
        most
    }
}

/// All of them, again and again, in an order that is spread evenly over all wherever it is broken off: each step
/// is the golden part of the whole.
pub fn drawn<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let golden = (all.len() as f64 * 0.618) as usize;
    // With nothing in common with their number, so that none is left out.
    let step = (golden.max(1)..).find(|step| divisor(*step, all.len()) == 1).expect("at the latest one prime");
    (0..).map(move |n: usize| &all[n * step % all.len()])
}

/// The greatest that divides both.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[test]
fn row_01_a_controller_killed_at_any_call_of_its_life_loses_and_doubles_nothing() {
    if !is_root() {
        return;
    }
    let mut play = Play::begin();
    let calls = play.calls();
    let places: Vec<(String, usize)> =
        calls.iter().flat_map(|(call, most)| (1..=*most).map(move |nth| (call.clone(), nth))).collect();
    assert!(places.len() > 300, "a life of more than a few calls: {calls:?}");
    let (wanted, mut lives, mut died) = (times(INJECTED), 0, 0);
    for (call, nth) in drawn(&places) {
        if died == wanted {
            break;
        }
        // A life is never quite like the one that was counted: some do not come to that call so often.
        assert!(lives < 2 * wanted, "only {died} of {lives} controllers died of it");
        lives += 1;
        let faults = format!("-e trace={call} -e inject={call}:signal=KILL:when={nth}");
        died += usize::from(play.act(&faults));
    }
    eprintln!("    {died} controllers killed at {} places, in {lives} lives", places.len());
    guard::assert_calm(&play.world);
}

/// So many nodes share the kills at random: the keeper of each waits up to a second before it starts another
/// controller, once several have ended soon after each other.
const NODES: usize = 6;

#[test]
fn row_01_controllers_killed_at_random_under_load_lose_and_double_nothing() {
    let each = times(AT_RANDOM).div_ceil(NODES);
    let killed: usize = std::thread::scope(|scope| {
        let nodes: Vec<_> = (0..NODES).map(|node| scope.spawn(move || kill_at_random(node as u64, each))).collect();
        nodes.into_iter().map(|node| node.join().expect("a node that kept its promises")).sum()
    });
    eprintln!("    {killed} controllers killed, of {NODES} nodes");
    assert!(killed >= times(AT_RANDOM), "only {killed}");
}

/// Kills so many controllers of one node while services crash and are edited; gives how many lived until then.
fn kill_at_random(seed: u64, wanted: usize) -> usize {
    let world = World::running();
    for n in 0..STANDING {
        guard::put(&world, &format!("standing{n}"));
    }
    let quick = "restart: {backoff: {initial: 50ms, max: 150ms}}\n";
    world.put("crash.yaml", &(guard::script(&world, "crash", "sleep 0.1; exit 1") + quick));
    let oracle = Oracle::watch(&world.dir());
    let (mut dice, mut killed) = (Dice(seed + 1), BTreeSet::new());
    for round in 0..wanted {
        let name = format!("edited{}", dice.below(3));
        let edit =
            || world.put(&format!("{name}.yaml"), &guard::script(&world, &name, &format!("exec sleep 86400.{round}")));
        // Sometimes the next one finds the edit, sometimes it hears of it.
        let found = dice.below(2) == 0;
        if found {
            edit();
        }
        world.wait("another controller", |world| world.controller_pid().is_some_and(lives));
        if !found {
            edit();
        }
        std::thread::sleep(Duration::from_micros(dice.below(60_000) as u64));
        let controller = world.controller_pid().filter(|pid| lives(*pid)).expect("nobody else ends it");
        kill(controller, 9);
        killed.insert(controller);
        world.wait("its end", |_| !lives(controller));
    }
    world.wait("a controller that stays", |world| world.controller_pid().is_some_and(lives));
    guard::put(&world, "sentinel");
    for n in 0..STANDING {
        let starts = guard::starts(&world, &format!("standing{n}"));
        assert!(starts.len() == 1 && lives(starts[0]), "standing{n}: {starts:?}");
    }
    for name in (0..3).map(|n| format!("edited{n}")) {
        if world.path(&format!("{name}.yaml")).exists() {
            world.wait_status(&name, "running");
        }
    }
    oracle.assert_no_lie();
    guard::assert_single(&world);
    guard::assert_calm(&world);
    killed.len()
}
