//! Who dies: controller, keeper, both, the machine; and what the next one finds.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::guard;
use crate::inject::{OldGroup, Stage, Tracer, is_root, until};
use crate::kills::{Play, drawn};
use crate::soak::times;
use crate::world::{World, command, kill, lives};

#[test]
fn row_03_both_killed_and_a_service_that_ends_meanwhile_is_started_once() {
    let mut world = World::running();
    guard::put(&world, "web");
    guard::put(&world, "stays");
    let pid = world.pid("web").expect("a pid");

    world.kill_keeper();
    kill(pid, 9);
    until("its end", || !lives(pid));
    world.run(&[]);

    world.wait("both to run again", |world| {
        ["web", "stays"].iter().all(|name| guard::starts(world, name).len() == 2 && world.status(name) == "running")
    });
    guard::assert_single(&world);
    // Nobody saw how it ended, so nobody may claim to know.
    let exit = world.field("web", "lastExit").unwrap_or_default();
    assert_eq!(exit, "", "of an end that nobody saw");
    world.wait("the loss of the keeper to be told", |world| world.log().contains("reason=KeeperLost"));
}

#[test]
fn the_place_on_the_ladder_and_the_last_exit_outlive_keeper_and_controller() {
    let mut world = World::empty();
    let stay = world.root().join("stay");
    let text = format!("[ -e {} ] && exec sleep 86400; echo the last word; exit 7", stay.display());
    let text = guard::script(&world, "web", &text) + "restart: {backoff: {initial: 10ms, max: 3s}}\n";
    world.put("web.yaml", &text);
    world.run(&[]);
    for killed in [false, true] {
        let _ = fs::remove_file(&stay);
        world.wait_status("web", "unhealthy (CrashLoopBackOff)");
        let tries = guard::starts(&world, "web").len();
        // What a try leaves is remembered before the next but one begins.
        world.wait("several tries more", |world| guard::starts(world, "web").len() >= tries.max(6) + 3);
        let last = *guard::starts(&world, "web").last().expect("several");
        until("the last of them to end", || !lives(last));
        // The next waits for a second or more.
        world.wait_status("web", "unhealthy (CrashLoopBackOff)");
        match killed {
            false => assert!(world.stop().success()),
            true => world.kill_keeper(),
        }
        // Whatever began until now has ended as all before it.
        fs::write(&stay, "").expect("written");
        world.run(&[]);
        world.wait_status("web", "running");
        let exit = world.field("web", "lastExit").expect("its last exit");
        assert!(exit.lines().any(|line| line == "code: 7") && exit.contains("the last word"), "{exit}");
        let begun = |world: &World| world.log().lines().filter(|line| line.contains("reason=Spawned")).count();
        world.wait("its start to be told", |world| begun(world) > 0);
        assert_eq!(begun(&world), 1, "{}", world.log());
        // A new ladder calls it a crash loop after its fifth end, and starts it at once; this is the first of this run.
        kill(world.pid("web").expect("a pid"), 9);
        world.wait_status("web", "unhealthy (CrashLoopBackOff)");
    }
}

#[test]
fn row_04_after_a_reboot_the_numbers_of_an_old_table_mean_nobody() {
    let stranger = |same_boot: bool| {
        let mut world = World::empty();
        let mut bystander = command("sleep").arg("86400").spawn().expect("started");
        let pid = bystander.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let start = stat.rsplit_once(") ").expect("a name").1.split(' ').nth(19).expect("a start time").to_string();
        let boot = match same_boot {
            true => fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id").trim().to_string(),
            false => "11111111-2222-3333-4444-555555555555".into(),
        };
        let namespace = fs::read_link("/proc/self/ns/pid").expect("a namespace");
        let run = world.state().join("run");
        fs::create_dir_all(&run).expect("made");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).expect("chmod");
        let line = format!("web/0#1 15 200 {boot} {} 1.1 {pid} {start}\n", namespace.display());
        fs::write(run.join("lives"), line).expect("written");
        world.put("web.yaml", &guard::stays(&world, "web"));
        world.run(&[]);
        world.wait_status("web", "running");
        let spared = bystander.try_wait().expect("waitable").is_none();
        let _ = bystander.kill();
        let _ = bystander.wait();
        world.wait("its one start", |world| guard::starts(world, "web").len() == 1);
        spared
    };
    assert!(stranger(false), "a process of this boot was taken for one of the boot before");
    assert!(!stranger(true), "the table of this boot is believed, else the first half shows nothing");
}

#[test]
fn row_17_a_controller_that_runs_out_of_memory_is_one_that_was_killed() {
    if !is_root() {
        return;
    }
    let Some(group) = OldGroup::make("memory", "plugd-row-17") else { return };
    let world = World::running();
    guard::put(&world, "web");
    let controller = world.controller_pid().expect("a controller");

    group.set("memory.limit_in_bytes", "131072");
    group.set("cgroup.procs", &controller.to_string());
    // Whatever it reads now wants memory that it does not get.
    for n in 0..50 {
        let padding = "x".repeat(20_000);
        world.put(&format!("more{n}.yaml"), &format!("command: sleep 86400\nenabled: false\nenv: {{P: {padding}}}\n"));
    }
    until("the controller to be killed", || !lives(controller));

    // The next one is a child of the keeper, outside of that group.
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller && lives(pid)));
    world.wait("all it had to read", |world| world.status("more49").starts_with("stopped"));
    assert_eq!(guard::starts(&world, "web").len(), 1);
}

#[test]
fn row_56_the_lock_outlives_a_killed_controller_and_goes_with_the_keeper() {
    let mut world = World::running();
    let controller = world.controller_pid().expect("a controller");
    let second = || {
        let mut other = command(env!("CARGO_BIN_EXE_plugd"));
        other.arg("run").arg("--state-dir").arg(world.root().join("other")).arg(world.dir());
        other.stdin(Stdio::null()).output().expect("started")
    };
    kill(controller, 9);
    let refused = second();
    assert_eq!(refused.status.code(), Some(73), "{}", String::from_utf8_lossy(&refused.stderr));
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));

    world.kill_keeper();
    world.run(&[]);
    world.wait("a controller that lives", |world| world.controller_pid().is_some_and(lives));
}

/// With all of its threads.
fn stands_still(pid: i32) -> bool {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    tasks.all(|task| fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") T ")))
}

/// The controller that goes cannot write over what is done here, and the next one finds it.
fn between_two_controllers(world: &World, done: impl FnOnce()) {
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 19);
    until("it to stand still", || stands_still(controller));
    done();
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller && lives(pid)));
}

#[test]
fn row_57_a_state_that_is_another_user_s_is_not_believed() {
    if !is_root() {
        return;
    }
    let world = World::running();
    guard::put(&world, "web");
    guard::put(&world, "told");
    world.ask(&["stop", "told"]);
    // Ours is believed, else the second half shows nothing.
    between_two_controllers(&world, || {});
    world.wait_status("web", "running");
    assert_eq!(world.status("told"), "stopped (StoppedByOperator)");
    let state = world.state().join("state.db");
    between_two_controllers(&world, || std::os::unix::fs::chown(&state, Some(1000), Some(1000)).expect("given away"));
    world.wait("what it said to be unknown", |world| guard::starts(world, "told").len() == 2);
    world.wait_status("told", "running");
    assert_eq!(guard::starts(&world, "web").len(), 1);
    use std::os::unix::fs::MetadataExt;
    let owner = |name: &str| fs::metadata(world.state().join(name)).map(|meta| meta.uid()).ok();
    world.wait("a new one", |_| owner("state.db") == Some(0));
    assert_eq!(owner("state.db.broken-1"), Some(1000), "what was there is kept for whoever wants to know");
    world.wait("that to be said", |world| world.log().contains("state.db.broken-1"));
    guard::assert_single(&world);
}

#[test]
fn row_57_a_state_that_cannot_be_read_is_moved_aside_and_the_living_stay() {
    let world = World::running();
    guard::put(&world, "web");
    let damages = ["", "garbage that is no database", "SQLite format 3\0 and then nothing"];
    for (round, damage) in damages.into_iter().enumerate() {
        between_two_controllers(&world, || {
            for suffix in ["-wal", "-shm"] {
                let _ = fs::remove_file(world.state().join(format!("state.db{suffix}")));
            }
            fs::write(world.state().join("state.db"), damage).expect("written");
        });
        world.wait_status("web", "running");
        world.ask(&["stop", "web"]);
        world.ask(&["start", "web"]);
        world.wait("the start that was asked for", |world| guard::starts(world, "web").len() == round + 2);
        world.wait_status("web", "running");
    }
    let moved = fs::read_dir(world.state()).expect("readable").flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("state.db")
            && fs::read(entry.path()).is_ok_and(|b| b.starts_with(b"garbage"))
    });
    assert!(moved, "what was there is kept for whoever wants to know");
    guard::assert_calm(&world);
}

#[test]
fn row_59_a_controller_that_crashes_in_any_way_is_replaced_and_nothing_else_happens() {
    let world = World::running();
    guard::put(&world, "web");
    // ABRT is what a panic of the brain would be at worst.
    for signal in [6, 4, 8] {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, signal);
        world.wait("another controller", |world| {
            world.controller_pid().is_some_and(|pid| pid != controller && lives(pid))
        });
        world.wait_status("web", "running");
    }
    assert_eq!(guard::starts(&world, "web").len(), 1);
    guard::assert_single(&world);
}

#[test]
fn row_59_a_thread_that_panics_takes_the_controller_with_it_and_the_next_finds_everything() {
    let mut world = World::empty();
    let file = world.root().join("panic");
    world.env.push(("PLUGD_TEST_PANIC", file.display().to_string()));
    world.run(&[]);
    guard::put(&world, "web");
    let controller = world.controller_pid().expect("a controller");
    // The next controller panics in a thread of its own; the one after that does not.
    fs::write(&file, "").expect("written");
    kill(controller, 9);
    world
        .wait("the third controller", |world| !file.exists() && world.log().matches("; starting another").count() == 2);
    assert!(world.log().contains("a test asked for it"), "what happened is said: {}", world.log());
    assert!(world.log().contains("ended with signal 6"), "{}", world.log());
    world.wait("the third controller's word", |world| {
        world.controller_pid().is_some_and(|pid| pid != controller && lives(pid))
    });
    // Both are counted, and it is told as something that should not be.
    let told = "a new controller takes over (start 3)";
    world.wait("that to be an event", |world| world.ask(&["events"]).contains(told));
    assert!(world.log().lines().any(|line| line.contains("WARN") && line.contains(told)), "{}", world.log());
    guard::put(&world, "late");
    assert_eq!(guard::starts(&world, "web").len(), 1);
    guard::assert_single(&world);
}

#[test]
fn row_16_without_memory_the_keeper_stays_and_the_controller_may_come_again() {
    if !is_root() {
        return;
    }
    let mut world = World::empty();
    let stage = Stage::set(&mut world);
    guard::put(&world, "web");
    let keeper = world.node_pid();
    {
        let _none =
            Tracer::attach(keeper, &["-e", "inject=mmap,brk,clone3,clone,vfork,pipe2,memfd_create:error=ENOMEM"]);
        world.put("late.yaml", &guard::stays(&world, "late"));
        kill(world.controller_pid().expect("a controller"), 9);
        // Long enough for a few tries of both: it tries at once, and then each second at the latest.
        std::thread::sleep(Duration::from_millis(1500));
        assert!(lives(keeper), "the keeper has ended");
    }
    world.wait_status("late", "running");
    for (call, when) in [("mmap", 200), ("mmap", 220), ("pipe2", 1), ("clone3", 1), ("clone3", 3), ("mmap", 240)] {
        stage.begin(&world, &format!("-e inject={call}:error=ENOMEM:when={when}+3"));
        let name = format!("{call}-{when}");
        guard::put(&world, &name);
    }
    assert_eq!(guard::starts(&world, "web").len(), 1);
    guard::assert_single(&world);
}

/// What takes memory from the kernel.
const ALLOCATIONS: &[&str] =
    &["mmap", "brk", "mremap", "mprotect", "clone3", "clone", "vfork", "pipe2", "memfd_create", "socketpair"];
/// Places of every push, as many of the keeper's as of a controller's.
const PLACES: usize = 5;

#[test]
fn row_16_memory_that_is_refused_once_at_any_place_ends_no_service_and_no_keeper() {
    if !is_root() {
        return;
    }
    let mut play = Play::begin();
    let keeper = play.world.node_pid();
    let counted = play.calls();
    // Of a controller: one place of each, and the next one adopts where it ends of it.
    let made = |call: &&&str| counted.contains_key(**call);
    let places = ALLOCATIONS.iter().filter(made).flat_map(|call| (1..=counted[*call]).map(move |nth| (*call, nth)));
    let places: Vec<(&str, usize)> = places.collect();
    for (call, nth) in drawn(&places).take(times(PLACES)) {
        play.act(&format!("-e trace={call} -e inject={call}:error=ENOMEM:when={nth}"));
    }
    // Of the keeper, which may not end: the nth of all that it asks for while it starts a service, starts it again, and
    // starts the next controller.
    let world = &play.world;
    for nth in 1..=times(PLACES) {
        let _once =
            Tracer::attach_alone(keeper, &["-e", &format!("inject={}:error=ENOMEM:when={nth}", ALLOCATIONS.join(","))]);
        let name = format!("keeper{nth}");
        guard::put(world, &name);
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        kill(guard::starts(world, &name)[0], 9);
        world.wait("another life and another controller", |world| {
            guard::starts(world, &name).len() == 2
                && world.status(&name) == "running"
                && world.controller_pid().is_some_and(|pid| pid != controller && lives(pid))
        });
        world.remove(&format!("{name}.yaml"));
        world.wait("its end", |world| world.status_file(&name).is_none());
        assert!(lives(keeper), "the keeper has ended");
    }
    guard::assert_single(world);
    // How a controller ends of it does not matter.
    eprintln!("    {} of {} places of a controller, {0} of the keeper", times(PLACES), places.len());
}
