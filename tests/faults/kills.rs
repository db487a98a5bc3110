//! SIGKILL of the controller at the calls of a scripted life, and at random under load.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Stage, is_root, times};
use crate::oracle::Oracle;
use crate::reads::Dice;
use crate::world::{World, kill, lives};

/// A node that is played the same life again and again, each time with another fault in it.
pub struct Play {
    pub world: World,
    stage: Stage,
    case: usize,
}

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
        fs::read_to_string(self.stage.trace()).is_ok_and(|text| text.contains("killed by SIGKILL"))
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
        let text = fs::read_to_string(self.stage.trace()).expect("a trace");
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

/// So many of the places, evenly spread over all of them.
pub fn spread<T: Clone>(all: &[T], wanted: usize) -> Vec<T> {
    let step = (all.len() as f64 / wanted as f64).max(1.0);
    (0..wanted.min(all.len())).map(|n| all[(n as f64 * step) as usize].clone()).collect()
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
    let mut died = 0;
    // The other 200 of the 300 of every push are at random, below.
    for (call, nth) in spread(&places, times(100)) {
        let faults = format!("-e trace={call} -e inject={call}:signal=KILL:when={nth}");
        died += usize::from(play.act(&faults));
    }
    eprintln!("    {} places, {died} deaths", places.len());
    assert!(died >= 30, "only {died} controllers died of it");
    guard::assert_calm(&play.world);
}

#[test]
fn row_01_controllers_killed_at_random_under_load_lose_and_double_nothing() {
    let world = World::running();
    for n in 0..20 {
        guard::put(&world, &format!("standing{n}"));
    }
    for n in 0..5 {
        let quick = "restart: {backoff: {initial: 10ms, max: 30ms}}\n";
        world.put(
            &format!("crash{n}.yaml"),
            &(guard::script(&world, &format!("crash{n}"), "sleep 0.05; exit 1") + quick),
        );
    }
    let oracle = Oracle::watch(&world.dir());
    let mut dice = Dice(3);
    for round in 0..times(200) {
        let name = format!("edited{}", dice.below(5));
        world.put(&format!("{name}.yaml"), &guard::script(&world, &name, &format!("exec sleep 86400.{round}")));
        std::thread::sleep(Duration::from_micros(dice.below(60_000) as u64));
        let controller = world.controller_pid().filter(|pid| lives(*pid));
        controller.into_iter().for_each(|pid| kill(pid, 9));
        if dice.below(4) == 0 {
            // Sometimes the next one is let live long enough to have written its name.
            world.wait("another controller", |world| world.controller_pid().is_some_and(lives));
        }
    }
    world.wait("a controller that stays", |world| world.controller_pid().is_some_and(lives));
    guard::put(&world, "sentinel");
    for n in 0..20 {
        let starts = guard::starts(&world, &format!("standing{n}"));
        assert!(starts.len() == 1 && lives(starts[0]), "standing{n}: {starts:?}");
    }
    for n in 0..5 {
        let name = format!("edited{n}");
        if world.path(&format!("{name}.yaml")).exists() {
            world.wait_status(&name, "running");
        }
    }
    oracle.assert_no_lie();
    guard::assert_single(&world);
    guard::assert_calm(&world);
}
