//! A day in the life, a hundred times as fast: many services, some that never stop crashing, people
//! who edit and ask. What plugd holds does not grow.

use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::oracle::Oracle;
use crate::reads::Dice;
use crate::soak::times;
use crate::world::World;

/// Resident KiB, descriptors, threads.
fn held(pid: i32) -> (u64, usize, usize) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let memory = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let memory = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number");
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, |entries| entries.count());
    (memory, count("fd"), count("task"))
}

#[test]
fn a_day_in_the_life_leaves_memory_descriptors_and_threads_as_they_were() {
    let world = World::running();
    for n in 0..40 {
        guard::put(&world, &format!("s{n}"));
    }
    for n in 0..5 {
        let quick = "restart: {backoff: {initial: 20ms, max: 600ms}}\n";
        world.put(
            &format!("crash{n}.yaml"),
            &(guard::script(&world, &format!("crash{n}"), "echo gone; exit 1") + quick),
        );
        let checked = "livenessProbe: {tcpSocket: {port: 9}, period: 100ms, failureThreshold: 1000000}\n";
        world.put(&format!("probed{n}.yaml"), &(guard::stays(&world, &format!("probed{n}")) + checked));
    }
    let (keeper, controller) = (world.node_pid(), world.controller_pid().expect("a controller"));
    let oracle = Oracle::watch(&world.dir());
    let mut dice = Dice(6);
    let length = Duration::from_secs(40 * times(1) as u64);
    let (mut early, began, mut edits) = (None, Instant::now(), 0);
    while began.elapsed() < length {
        edits += 1;
        let name = format!("s{}", dice.below(40));
        match dice.below(6) {
            0 => drop(world.plugd(&["get"])),
            1 => drop(world.plugd(&["status", &name])),
            2 => drop(world.plugd(&["restart", &name])),
            3 => world.put(&format!("{name}.yaml"), "comand: [wrong\n"),
            _ => {
                world.put(&format!("{name}.yaml"), &guard::script(&world, &name, &format!("exec sleep 86400.{edits}")))
            }
        }
        std::thread::sleep(Duration::from_millis(30));
        // Caches and rings are full by then.
        if early.is_none() && began.elapsed() > length / 2 {
            early = Some((held(controller), held(keeper)));
        }
    }
    for n in 0..40 {
        world.put(&format!("s{n}.yaml"), &guard::stays(&world, &format!("s{n}")));
    }
    for n in 0..40 {
        let name = format!("s{n}");
        world.wait(&format!("{name} to run"), |world| {
            world.status(&name) == "running" && !world.status_file(&name).is_some_and(|text| text.contains("problems:"))
        });
    }
    let before = early.expect("half of the day is over");
    let settled = |before: (u64, usize, usize), pid: i32| {
        world.wait("descriptors and threads to be as they were", |_| {
            let now = held(pid);
            now.1 <= before.1 + 12 && now.2 <= before.2 + 6
        });
        held(pid).0.saturating_sub(before.0)
    };
    assert_eq!(world.controller_pid(), Some(controller), "no controller had to be replaced\n{}", world.log());
    let (grown, keeper_grown) = (settled(before.0, controller), settled(before.1, keeper));
    eprintln!("    {edits} acts; memory grew by {grown} KiB and {keeper_grown} KiB");
    // A leak of one act would be hundreds of KiB here; hours, with the soak, tell of less.
    assert!(grown < 2048 && keeper_grown < 512, "{grown} KiB, {keeper_grown} KiB");
    oracle.assert_no_lie();
    guard::assert_single(&world);
    guard::assert_calm(&world);
}
