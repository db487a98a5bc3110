//! Signals to plugd itself, many and at the wrong time.

use std::time::{Duration, Instant};

use crate::guard;
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
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(!lives(pid) && status.code() == Some(0), "{status}");
    guard::assert_single(&world);
}

#[test]
fn row_78_a_flood_of_ends_beside_a_term_loses_no_exit() {
    let mut world = World::running();
    for n in 0..30 {
        world.put(&format!("j{n}.yaml"), &format!("script: |\n  sleep 0.3; exit {n}\nrestart: Never\n"));
    }
    for n in 0..30 {
        world.wait(&format!("j{n}"), |world| world.status_file(&format!("j{n}")).is_some());
    }
    std::thread::sleep(Duration::from_millis(250));
    let status = world.stop();
    assert_eq!(status.code(), Some(0));
    for n in 0..30 {
        let text = world.status_file(&format!("j{n}")).expect("a status");
        let word = world.status(&format!("j{n}"));
        assert!(!word.contains("running") && !word.contains("starting"), "{text}");
    }
}
