//! Signals to plugd itself, many and at the wrong time.

use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Disk, is_root, until};
use crate::world::{World, kill, lives};

#[test]
fn row_78_a_storm_of_harmless_signals_loses_nothing() {
    let mut world = World::running();
    guard::put(&world, "web");
    let controller = world.controller_pid().expect("a controller");
    for round in 0..300 {
        for signal in [1, 10, 13, 17, 28, 14, 18] {
            kill(world.node_pid(), signal);
            // The controller hears none of those that people send.
            if signal != 17 && signal != 14 {
                kill(controller, signal);
            }
        }
        if round % 100 == 0 {
            guard::put(&world, &format!("during{round}"));
        }
    }
    for name in ["web", "during0", "during200"] {
        assert_eq!(guard::starts(&world, name).len(), 1);
        assert_eq!(world.status(name), "running");
    }
    assert_eq!(world.controller_pid(), Some(controller));
    assert!(world.stop().success());
}

#[test]
fn row_78_a_second_term_cuts_the_grace() {
    let deaf = |world: &World| guard::deaf(world, "deaf", "sleep 0.05") + "stop: {gracePeriod: 60s}\n";
    let mut world = World::running();
    world.put("deaf.yaml", &deaf(&world));
    world.wait("it to be deaf", |world| guard::starts(world, "deaf").len() == 1);
    world.wait_status("deaf", "running");
    let pid = world.pid("deaf").expect("a pid");
    world.signal_node(15);
    world.wait_status("deaf", "stopping");
    // What comes within a tenth of a second is an echo of the first.
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    world.signal_node(15);
    let status = world.wait_end();
    assert!(asked.elapsed() < Duration::from_secs(30), "half of its grace: {:?}", asked.elapsed());
    assert!(!lives(pid) && status.code() == Some(0), "{status}");
    guard::assert_single(&world);
}

#[test]
fn row_78_a_third_term_leaves_at_once_what_nothing_ends() {
    if !is_root() {
        return;
    }
    let mut world = World::running();
    let frozen = world.root().join("frozen");
    let Some(mut disk) = Disk::ext4(&frozen, &world.root().join("image")) else { return };
    let write = format!("while :; do echo x > {}/file; done", frozen.display());
    world.put("deep.yaml", &(guard::script(&world, "deep", &write) + "stop: {gracePeriod: 60s}\n"));
    world.wait("it to write there", |_| fs::metadata(frozen.join("file")).is_ok_and(|meta| meta.len() > 0));
    world.wait_status("deep", "running");
    let pid = world.pid("deep").expect("a pid");
    disk.freeze();
    until("it to sleep where nobody wakes it", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") D "))
    });
    world.signal_node(15);
    world.wait_status("deep", "stopping");
    let asked = Instant::now();
    for _ in 0..2 {
        // What comes within a tenth of a second is an echo of the one before.
        std::thread::sleep(Duration::from_millis(200));
        world.signal_node(15);
    }
    let status = world.wait_end();
    let (code, took) = (status.code(), asked.elapsed());
    assert!(code == Some(128 + 15) && took < Duration::from_secs(30), "{status} after {took:?}\n{}", world.log());
    assert!(lives(pid), "what is asleep there cannot have ended");
    disk.thaw();
    until("the KILL to reach it", || !lives(pid));
    guard::assert_single(&world);
}

#[test]
fn row_78_a_flood_of_ends_beside_a_term_loses_no_exit() {
    let mut world = World::running();
    const JOBS: usize = 30;
    // Whether it ends by itself or is told to, it ends with its own number.
    for n in 0..JOBS {
        let up = world.root().join(format!("up{n}"));
        let text = format!("trap 'exit {n}' TERM; touch {}; sleep 0.{} & wait; exit {n}", up.display(), 100 + n * 10);
        world.put(&format!("j{n}.yaml"), &format!("script: |\n  {text}\nrestart: Never\n"));
    }
    world.wait("all of them", |world| (0..JOBS).all(|n| world.root().join(format!("up{n}")).exists()));
    let status = world.stop();
    assert_eq!(status.code(), Some(0));
    for n in 0..JOBS {
        let name = format!("j{n}");
        let text = world.status_file(&name).expect("a status");
        let exit = world.field(&name, "lastExit").unwrap_or_default();
        assert!(exit.lines().any(|line| line == format!("code: {n}")), "{name}:\n{text}");
        let word = world.status(&name);
        let is_over = ["completed", "failed", "stopped"].iter().any(|over| word.starts_with(over));
        assert!(is_over, "{text}");
    }
}
