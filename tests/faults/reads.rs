//! Two readers of the status files under fire: the oracle, and one that does nothing but read.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::guard;
use crate::oracle::{Known, Oracle};
use crate::soak::times;
use crate::world::{World, free_port, kill, lives};

const QUICK: &str = "restart: {backoff: {initial: 20ms, max: 60ms, jitter: 0}}\n";

/// The same numbers each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX constants; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// However the reader ends, the other thread ends with it.
struct EndWith<'a>(&'a AtomicBool);

impl Drop for EndWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is never seen is no proof: here the files do not say what is.
#[test]
fn the_oracle_sees_what_is_not_so() {
    let world = World::running();
    let port = free_port();
    let serve = format!("command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n");
    world.put("port.yaml", &(serve + "readinessProbe: {tcpSocket: {}, period: 1h}\n"));
    guard::put(&world, "web");
    world.wait_status("port", "healthy");
    let known = Known { noticed_within: Some(Duration::from_millis(100)), ..Known::default() };
    let oracle = Oracle::watch_known(&world.dir(), known);
    let (controller, served) = (world.controller_pid().expect("a controller"), world.pid("port").expect("a pid"));
    // A controller that stands still says nothing of the end of one service; a check that is not made
    // says nothing of the other.
    [controller, served].into_iter().for_each(|pid| kill(pid, 19));
    kill(world.pid("web").expect("a pid"), 9);
    world.wait("both lies to be seen", |_| oracle.seen() >= 2);
    [controller, served].into_iter().for_each(|pid| kill(pid, 18));
    let lies = oracle.lies().join("\n");
    assert!(lies.contains("web claims pid ") && lies.contains("port claims to be healthy"), "{lies}");
}

#[test]
fn two_thousand_transitions_and_no_lie() {
    let world = World::running();
    let names: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
    let port = free_port();
    let serve = guard::script(&world, "port", &format!("exec python3 -m http.server --bind 127.0.0.1 {port}"));
    world.put("port.yaml", &(serve + &format!("port: {port}\n") + QUICK));
    for name in &names {
        world.put(&format!("{name}.yaml"), &(guard::stays(&world, name) + QUICK));
    }
    names.iter().for_each(|name| world.wait_status(name, "running"));
    world.wait_status("port", "healthy");

    let oracle = Oracle::watch(&world.dir());
    let mut dice = Dice(1);
    let wanted = times(2_000);
    let mut next_kill = Instant::now() + Duration::from_secs(1);
    let deadline = Instant::now() + Duration::from_secs(120) * times(1) as u32;
    let mut edits = 0;
    while oracle.transitions() < wanted {
        assert!(Instant::now() < deadline, "only {} transitions", oracle.transitions());
        let name = &names[dice.below(names.len())];
        match dice.below(20) {
            0 => {
                edits += 1;
                world.put(
                    &format!("{name}.yaml"),
                    &(guard::script(&world, name, &format!("exec sleep 86400.{edits}")) + QUICK),
                );
            }
            1 => {
                let _ = fs::remove_file(world.path(&format!("{name}.yaml")));
            }
            2 | 3 => world.put(&format!("{name}.yaml"), &(guard::stays(&world, name) + QUICK)),
            4 => {
                let port = guard::starts(&world, "port");
                kill(*port.last().expect("one"), 9);
            }
            _ => {
                if let Some(pid) = guard::starts(&world, name).last().filter(|pid| lives(**pid)) {
                    kill(*pid, [9, 15][dice.below(2)]);
                }
            }
        }
        if Instant::now() > next_kill {
            world.controller_pid().into_iter().for_each(|pid| kill(pid, 9));
            next_kill = Instant::now() + Duration::from_millis(1500);
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    oracle.assert_no_lie();
    guard::assert_single(&world);
    guard::assert_calm(&world);
}

#[test]
fn a_hundred_thousand_reads_and_no_torn_status() {
    let world = World::running();
    for n in 0..8 {
        world.put(&format!("s{n}.yaml"), &(guard::stays(&world, &format!("s{n}")) + QUICK));
    }
    (0..8).for_each(|n| world.wait_status(&format!("s{n}"), "running"));
    let (over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let wanted = times(100_000);
    std::thread::scope(|scope| {
        let _end = EndWith(&over);
        scope.spawn(|| {
            let mut dice = Dice(2);
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                if let Some(pid) = guard::starts(&world, &format!("s{}", dice.below(8))).last() {
                    kill(*pid, 9);
                }
                if round % 200 == 0 {
                    world.controller_pid().into_iter().for_each(|pid| kill(pid, 9));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let names: Vec<String> = (0..8).map(|n| format!("s{n}")).chain(["_controller".into()]).collect();
        let mut last: Vec<String> = vec![String::new(); names.len()];
        let (mut versions, began) = (0, Instant::now());
        while reads.load(Ordering::Relaxed) < wanted || versions < 500 {
            assert!(began.elapsed() < Duration::from_secs(120) * times(1) as u32, "only {versions} versions");
            for (name, last) in names.iter().zip(&mut last) {
                reads.fetch_add(1, Ordering::Relaxed);
                let Some(text) = world.status_file(name) else { continue };
                let tail = if name == "_controller" { "\nheartbeat: " } else { "\ncontroller: {pid: " };
                let last_line =
                    text.trim_end_matches('\n').rsplit_once('\n').map_or("", |(head, _)| &text[head.len()..]);
                let whole = text.starts_with("# ") && text.ends_with('\n') && last_line.starts_with(tail);
                assert!(whole, "{name} is torn:\n{text}");
                if text == *last {
                    continue;
                }
                // Each version is parsed once; what is equal is as good.
                versions += 1;
                let value: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML at any moment");
                if name != "_controller" {
                    let keys: Vec<_> = value.as_mapping().expect("a mapping").keys().take(2).cloned().collect();
                    assert_eq!(keys, ["service", "status"], "{text}");
                    for key in ["available", "processRunning", "meshRegistration", "since", "manifest", "controller"] {
                        assert!(value.get(key).is_some(), "{key} is missing:\n{text}");
                    }
                }
                *last = text;
            }
        }
        over.store(true, Ordering::Relaxed);
        eprintln!("    {} reads of {versions} versions", reads.load(Ordering::Relaxed));
    });
    guard::assert_single(&world);
}
