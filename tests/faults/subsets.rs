//! Any subset of keeper, controller, state directory and run directory, killed or deleted at any moment.

use std::fs;
use std::time::Duration;

use crate::guard;
use crate::oracle::Oracle;
use crate::reads::Dice;
use crate::soak::times;
use crate::world::{World, kill, lives};

#[test]
fn whatever_is_killed_or_deleted_together_nothing_is_ever_there_twice() {
    let mut world = World::running();
    let oracle = Oracle::watch(&world.dir());
    let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
    names.iter().for_each(|name| guard::put(&world, name));
    // One that must be killed, one that leaves children, one that ends by itself.
    world.put("deaf.yaml", &(guard::deaf(&world, "deaf", "sleep 0.05") + "stop: {gracePeriod: 200ms}\n"));
    world.put("family.yaml", &guard::script(&world, "family", "(sleep 86400 & sleep 86400 & wait) & wait"));
    world.put(
        "loop.yaml",
        &(guard::script(&world, "loop", "sleep 0.1; exit 1") + "restart: {backoff: {initial: 20ms, max: 60ms}}\n"),
    );
    let mut dice = Dice(4);
    for draw in 0..times(50) {
        let subset = 1 + dice.below(15);
        let mut order = [0, 1, 2, 3];
        order.swap(0, dice.below(4));
        order.swap(1, 1 + dice.below(3));
        for what in order.into_iter().filter(|what| subset & (1 << what) != 0) {
            std::thread::sleep(Duration::from_micros(dice.below(30_000) as u64));
            match what {
                0 => world.kill_keeper(),
                1 => world.controller_pid().filter(|pid| lives(*pid)).into_iter().for_each(|pid| kill(pid, 9)),
                2 => {
                    // The run directory lies in it and is an item of its own.
                    for entry in fs::read_dir(world.state()).into_iter().flatten().flatten() {
                        if entry.file_name() != "run" {
                            let _ = fs::remove_dir_all(entry.path());
                            let _ = fs::remove_file(entry.path());
                        }
                    }
                }
                3 => {
                    let _ = fs::remove_dir_all(world.state().join("run"));
                }
                _ => unreachable!("four things"),
            }
            // Sometimes something starts in between.
            let name = &names[dice.below(4)];
            world.put(&format!("{name}.yaml"), &guard::script(&world, name, &format!("exec sleep 86400.{draw}")));
        }
        if subset & 1 != 0 {
            world.spawn(&[]);
        }
        world.wait("a controller that lives", |world| world.controller_pid().is_some_and(lives));
        for name in names.iter().map(String::as_str).chain(["deaf", "family"]) {
            world.wait(&format!("{name} after draw {draw} ({subset:04b})"), |world| {
                world.status(name) == "running"
                    && world.pid(name).is_some_and(|pid| lives(pid) && guard::starts(world, name).last() == Some(&pid))
            });
        }
        guard::assert_single(&world);
    }
    oracle.assert_no_lie();
    guard::assert_calm(&world);
    assert!(world.stop().success());
}
