//! Disks that are full, read-only, broken or frozen: services do not notice, and the truth comes back.

use std::fs;
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::{Disk, Tracer, is_root, until};
use crate::world::{World, kill, lives};

/// A node whose watched directory is a small disk of its own, with one service.
fn on_a_small_disk(options: &str) -> Option<(World, Disk)> {
    if !is_root() {
        return None;
    }
    let mut world = World::empty();
    // Of a mode that a watched directory may have: a new tmpfs is open to everybody.
    let disk = Disk::small(&world.dir(), &format!("{options},mode=755"));
    // The stage of `put` must be on the same disk.
    fs::write(world.path("web.yaml"), guard::stays(&world, "web")).expect("written");
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait("its start", |world| guard::starts(world, "web").len() == 1);
    Some((world, disk))
}

/// Kills the service while its status cannot be written; gives the log's lines about that.
fn a_status_that_cannot_be_written(world: &World, block: impl FnOnce(), free: impl FnOnce()) {
    let old = world.status_file("web").expect("a status");
    let pid = world.pid("web").expect("a pid");
    // The sheet of the last status would do for the next one, on a full disk too: it is taken away.
    let sheets = || fs::read_dir(world.path(".plugd")).expect("there").flatten();
    until("the sheets to be taken away", || {
        // One that is in use has become the node's own status by now.
        sheets().for_each(|entry| drop(fs::remove_file(entry.path())));
        sheets().next().is_none()
    });
    block();
    kill(pid, 9);
    until("the service to be restarted all the same", || guard::starts(world, "web").len() == 2);
    world.wait("the condition in the full object", |world| {
        world.ask(&["get", "web", "-o", "yaml"]).contains("StatusNotWritten")
    });
    let now = world.status_file("web").expect("the old file is there");
    assert_eq!(now, old, "the old status stays whole");
    free();
    let new = guard::starts(world, "web")[1];
    until("the true status once there is room", || world.pid("web") == Some(new));
    world.wait("the condition to go", |world| !world.ask(&["get", "web", "-o", "yaml"]).contains("StatusNotWritten"));
    assert!(lives(new));
    assert_eq!(guard::starts(world, "web").len(), 2);
    guard::assert_calm(world);
}

#[test]
fn row_05_a_full_disk_keeps_the_old_status_whole_and_is_told_once() {
    let Some((world, disk)) = on_a_small_disk("size=64k") else { return };
    a_status_that_cannot_be_written(&world, || disk.fill(), || disk.unfill());
    let told =
        world.log().lines().filter(|line| line.contains("web.status") || line.contains("StatusNotWritten")).count();
    assert!((1..=3).contains(&told), "said {told} times:\n{}", world.log());
}

#[test]
fn row_07_a_disk_without_inodes_is_a_full_disk() {
    let Some((world, _disk)) = on_a_small_disk("nr_inodes=12") else { return };
    let taken = || {
        for n in 0.. {
            if fs::write(world.path(&format!(".ballast{n}")), "").is_err() {
                break;
            }
        }
    };
    let free = || {
        for n in 0..12 {
            let _ = fs::remove_file(world.path(&format!(".ballast{n}")));
        }
    };
    a_status_that_cannot_be_written(&world, taken, free);
}

#[test]
fn row_08_errors_of_quota_and_of_the_disk_are_a_full_disk_at_every_call() {
    if !is_root() {
        return;
    }
    let world = World::running();
    guard::put(&world, "steady");
    let mut starts = 1;
    world.put("web.yaml", &(guard::stays(&world, "web") + "restart: {backoff: {initial: 20ms, max: 50ms}}\n"));
    world.wait_status("web", "running");
    world.wait("its start", |world| guard::starts(world, "web").len() == 1);
    for errno in ["EDQUOT", "EIO"] {
        for call in ["openat", "renameat,renameat2,rename", "fsync,fdatasync", "pwrite64", "ftruncate", "fchmod,fchown"]
        {
            let pid = world.pid("web").expect("a pid");
            {
                let calls = format!("inject={call}:error={errno}");
                let controller = world.controller_pid().expect("a controller");
                let _broken = Tracer::attach(controller, &["-e", &calls]);
                kill(pid, 9);
                // Where the controller cannot even open what a start needs, it tries again when it can.
                std::thread::sleep(Duration::from_millis(300));
            }
            // With its start noted: what is killed before has started, too, and said nothing.
            world.wait(&format!("the truth after {errno} of {call}"), |world| {
                let said = guard::starts(world, "web").last().copied();
                let is_new = |new: &i32| *new != pid && lives(*new) && said == Some(*new);
                world.pid("web").is_some_and(|new| is_new(&new)) && world.status("web") == "running"
            });
            starts += 1;
        }
    }
    let noted = guard::starts(&world, "web").len();
    assert!(noted >= starts, "each kill is answered: {noted} starts of {starts}");
    assert_eq!(guard::starts(&world, "steady").len(), 1);
    guard::assert_single(&world);
    guard::assert_calm(&world);
}

#[test]
fn row_10_a_state_directory_that_takes_nothing_more_costs_memory_and_nothing_else() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let state = Disk::small(&world.state(), "size=1m");
    world.run(&[]);
    guard::put(&world, "web");
    state.fill();
    guard::put(&world, "second");
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller && lives(pid)));
    guard::put(&world, "third");
    // And then it is gone altogether, while others still hold it open.
    drop(state);
    kill(world.controller_pid().expect("a controller"), 9);
    guard::put(&world, "fourth");
    for name in ["web", "second", "third", "fourth"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name}");
        assert_eq!(world.status(name), "running");
    }
    guard::assert_calm(&world);
}

#[test]
fn row_10_a_state_directory_that_never_could_be_written_is_told_and_services_run() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let state = Disk::small(&world.state(), "size=1m");
    state.remount("ro");
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.spawn(&[]);
    world.wait_status("web", "running");
    let told = |world: &World| world.log().contains("without memory") || world.log().contains("Read-only");
    world.wait("that to be told", told);
    world.wait("the node's own status", |world| world.controller_pid().is_some());
    kill(world.controller_pid().expect("a controller"), 9);
    guard::put(&world, "second");
    assert_eq!(guard::starts(&world, "web").len(), 1);
    assert!(world.stop().success());
}

#[test]
fn row_10_a_memory_that_never_could_be_made_was_not_taken_away() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let state = Disk::small(&world.state(), "size=1m");
    state.fill();
    world.spawn(&[]);
    guard::put(&world, "web");
    kill(world.controller_pid().expect("a controller"), 9);
    guard::put(&world, "second");
    assert_eq!(guard::starts(&world, "web").len(), 1);
    assert!(!world.log().contains("was taken away"), "{}", world.log());
    assert!(world.stop().success());
}

#[test]
fn row_10_what_was_remembered_holds_on_a_disk_that_takes_nothing_more() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let state = Disk::small(&world.state(), "size=2m");
    world.run(&[]);
    guard::put(&world, "web");
    guard::put(&world, "late");
    assert!(String::from_utf8_lossy(&world.plugd(&["stop", "web"]).stderr).is_empty());
    let holds = |world: &World, how: &str| {
        // The last of the alphabet: the others have been decided on.
        guard::put(world, &format!("z-{how}"));
        assert_eq!(world.status("web"), "stopped (StoppedByOperator)", "{how}");
        assert_eq!(guard::starts(world, "web").len(), 1, "{how}");
    };
    state.fill();
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller && lives(pid)));
    holds(&world, "killed");
    let told = world.plugd(&["stop", "late"]);
    assert!(told.status.success());
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("not remembered"), "{told}");
    assert!(world.stop().success());
    world.run(&[]);
    holds(&world, "full");
    assert!(world.stop().success());
    // The last of the node's processes goes a moment after its keeper.
    until("nobody to write there", || state.try_remount("ro"));
    world.run(&[]);
    holds(&world, "read-only");
    assert!(world.stop().success());
    state.remount("rw");
    state.unfill();
    world.run(&[]);
    holds(&world, "healed");
}

#[test]
fn row_11_a_frozen_disk_under_the_status_files_holds_up_no_decision() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let image = world.root().join("image");
    let Some(mut disk) = Disk::ext4(&world.dir(), &image) else { return };
    fs::write(world.path("web.yaml"), guard::stays(&world, "web")).expect("written");
    fs::write(world.path("other.yaml"), guard::stays(&world, "other")).expect("written");
    world.run(&[]);
    for name in ["web", "other"] {
        world.wait_status(name, "running");
        world.wait("its start", |world| guard::starts(world, name).len() == 1);
    }
    disk.freeze();
    // The first blocks the writer, the second must be answered nevertheless.
    for name in ["web", "other"] {
        let before = guard::starts(&world, name);
        kill(*before.last().expect("one"), 9);
        until("the restart while the disk is frozen", || guard::starts(&world, name).len() == before.len() + 1);
    }
    let asked = Instant::now();
    let table = world.ask(&["get"]);
    // The disk is frozen for as long as nobody thaws it.
    assert!(table.contains("web") && asked.elapsed() < Duration::from_secs(15), "{:?}: {table}", asked.elapsed());
    disk.thaw();
    for name in ["web", "other"] {
        let now = *guard::starts(&world, name).last().expect("one");
        until("the true status after the thaw", || world.pid(name) == Some(now));
    }
    assert!(world.stop().success());
}
