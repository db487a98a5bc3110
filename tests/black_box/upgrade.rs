//! `kill -USR2` of `plugd run`: controller and keeper become what lies where the program lay.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::demand::{self, call, caller};
use crate::soak::times;
use crate::socket;
use crate::world::{World, copy, free_port, kill, lives};

const USR2: i32 = 12;
const OWN: &str = env!("CARGO_BIN_EXE_plugd");

/// A world whose plugd is a file of its own, which may be replaced.
fn replaceable() -> World {
    let mut world = World::empty();
    world.program = world.root().join("plugd");
    place(&world, Path::new(OWN));
    world
}

/// Puts a program where the node's lies, as package managers do: a new file under the old name.
fn place(world: &World, program: &Path) {
    let stage = world.root().join("plugd.new");
    if fs::hard_link(program, &stage).is_err() {
        copy(program, &stage);
    }
    fs::rename(&stage, &world.program).expect("renamed");
}

/// The file that a process executes.
fn program_of(pid: i32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/exe")).ok()?.ino())
}

/// Asks for the upgrade and waits until both processes are what lies there now.
fn upgrade(world: &World) {
    let before = world.controller_pid();
    world.signal_node(USR2);
    let wanted = fs::metadata(&world.program).expect("it is there").ino();
    world.wait("the keeper to be the new program", |world| program_of(world.node_pid()) == Some(wanted));
    world.wait("a new controller", |world| {
        let pid = world.controller_pid();
        pid != before && pid.and_then(program_of) == Some(wanted)
    });
}

/// Two programs to upgrade to, in turns.
fn two_copies(world: &World) -> [PathBuf; 2] {
    ["one", "two"].map(|name| {
        let copy = world.root().join(name);
        World::copy_program(&copy);
        copy
    })
}

#[test]
fn twenty_upgrades_refuse_nobody_and_who_accepts_himself_answers_every_call() {
    let mut world = replaceable();
    let copies = two_copies(&world);
    world.run(&[]);
    let (door, handed) = (free_port(), free_port());
    world.put("door.yaml", &demand::manifest(door, "one", ""));
    world.put("handed.yaml", &socket::manifest(handed, "one", ""));
    for name in ["door", "handed"] {
        world.wait_status(name, "waiting (OnDemand)");
    }
    let over = Arc::new(AtomicBool::new(false));
    let callers = [door, handed].map(|port| caller(port, &over));
    let awake = || {
        world.wait_status("door", "healthy");
        world.wait_status("handed", "running");
        ["door", "handed"].map(|name| world.pid(name))
    };
    let pids = awake();
    for round in 0..times(20) {
        place(&world, &copies[round % 2]);
        upgrade(&world);
    }
    over.store(true, Ordering::Relaxed);
    let [through, himself] = callers.map(|caller| caller.join().expect("nobody was refused"));
    eprintln!("    answered and broken: {through:?} through the door, {himself:?} by one that accepts himself");
    assert!(through.0 > 0 && himself.0 > 0);
    // What the door had let in ends with the controller that copied it.
    assert!(through.1 <= times(20), "at most the one that was open: {through:?}");
    assert_eq!(himself.1, 0, "no connection broke");
    assert_eq!(awake(), pids, "both keep their processes");
    assert_eq!(call(door, "last").expect("answered"), "one said last");
}

#[test]
fn twenty_upgrades_under_load_restart_nothing_and_lose_no_line_and_no_exit() {
    const SERVICES: usize = 50;
    const LINES: usize = 2000;
    let mut world = replaceable();
    let copies = two_copies(&world);
    world.run(&[]);
    world.put("stays.yaml", "command: sleep 3600\n");
    for n in 0..SERVICES {
        world.put(
            &format!("s{n:02}.yaml"),
            &format!(
                "script: |\n  i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo \"line $i\"; [ $((i % 50)) = 0 ] && sleep 0.1; done; exit {}\nrestart: Never\n",
                n % 7
            ),
        );
    }
    world.wait_status("stays", "running");
    for n in 0..SERVICES {
        world.wait(&format!("s{n:02} to be known"), |world| world.status_file(&format!("s{n:02}")).is_some());
    }
    let stays = world.pid("stays");
    let mut pids = BTreeMap::new();

    for round in 0..times(20) {
        place(&world, &copies[round % 2]);
        upgrade(&world);
        for n in 0..SERVICES {
            let name = format!("s{n:02}");
            if let Some(pid) = world.pid(&name).filter(|pid| lives(*pid)) {
                let first = *pids.entry(name.clone()).or_insert(pid);
                assert_eq!(first, pid, "{name} keeps its process");
            }
        }
    }

    assert_eq!(pids.len(), SERVICES, "all were seen running between two upgrades");
    assert_eq!(world.pid("stays"), stays);
    for n in 0..SERVICES {
        let name = format!("s{n:02}");
        match n % 7 {
            0 => world.wait_status(&name, "completed"),
            code => {
                world.wait_status(&name, "failed (Error)");
                let exit = world.field(&name, "lastExit").expect("an exit");
                assert!(exit.contains(&format!("code: {code}")), "{name}: {exit}");
            }
        }
        let log = world.state().join("logs").join(format!("{name}.log"));
        let want: String = (1..=LINES).map(|i| format!("line {i}\n")).collect();
        world.wait(&format!("all lines of {name}"), |_| {
            fs::read_to_string(&log).is_ok_and(|text| text.len() >= want.len())
        });
        assert!(fs::read_to_string(&log).expect("a log") == want, "{name}: every line once and in order");
    }
    let name = fs::read_to_string(format!("/proc/{}/comm", world.node_pid())).expect("a name");
    assert_eq!(name.trim(), "plugd");
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
    assert!(!lives(stays.expect("a pid")));
}

/// This program with another version of the digests in it.
fn with_other_digests(world: &World) -> PathBuf {
    let mut bytes = fs::read(OWN).expect("the program");
    let version = b"plugd spec 1\n";
    let found: Vec<usize> =
        bytes.windows(version.len()).enumerate().filter(|(_, part)| part == version).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "the version stands somewhere");
    for at in found {
        bytes[at + version.len() - 2] = b'2';
    }
    let (written, path) = (world.root().join("written"), world.root().join("other"));
    fs::write(&written, bytes).expect("written");
    fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).expect("chmod");
    copy(&written, &path);
    path
}

#[test]
fn a_build_with_another_version_of_the_digests_restarts_nothing_and_still_sees_an_edit() {
    let mut world = replaceable();
    world.run(&[]);
    world.put("web.yaml", "command: sleep 3600\n");
    world.put("job.yaml", "script: echo ran\nrestart: Never\n");
    world.put("edited.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    world.wait_status("edited", "running");
    world.wait_status("job", "completed");
    let (web, edited) = (world.pid("web"), world.pid("edited").expect("a pid"));
    let generation = world.field("web", "generation");
    let log = world.state().join("logs/job.log");

    place(&world, &with_other_digests(&world));
    let controller = world.controller_pid().expect("a controller");
    // Stopped, so that the edit is its successor's to find.
    world.signal_node(USR2);
    world.wait("the first controller to go", |_| !lives(controller));
    world.put("edited.yaml", "command: sleep 3601\n");
    let wanted = fs::metadata(&world.program).expect("it is there").ino();
    world.wait("the keeper to be the new program", |world| program_of(world.node_pid()) == Some(wanted));
    world.wait("the edit to be taken up", |world| world.pid("edited").is_some_and(|pid| pid != edited && lives(pid)));
    world.wait("a settled node", |world| world.node_status().is_some_and(|text| text.contains("started:")));

    // And once more by the same build, to which its own digests have been handed over.
    upgrade(&world);
    world.wait_status("web", "running");
    world.wait_status("job", "completed");
    assert_eq!((world.pid("web"), world.field("web", "restarts")), (web, Some("0".into())));
    assert_eq!(world.field("web", "generation"), generation);
    assert_eq!(fs::read_to_string(&log).expect("a log"), "ran\n", "the job ran once");
    assert!(!lives(edited));
}

#[test]
fn an_upgrade_that_cannot_run_is_taken_back_and_a_later_good_one_is_taken() {
    let mut world = replaceable();
    world.run(&[]);
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let web = world.pid("web");
    let controller = world.controller_pid();

    let broken = world.root().join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).expect("chmod");
    place(&world, &broken);
    world.signal_node(USR2);

    world.wait("the program from before it", |world| world.log().contains("the upgrade did not come up"));
    world.wait("a controller again", |world| {
        world.controller_pid().is_some_and(|pid| Some(pid) != controller && lives(pid))
    });
    world.wait_status("web", "running");
    assert_eq!(world.pid("web"), web);

    place(&world, Path::new(OWN));
    upgrade(&world);
    assert_eq!(world.pid("web"), web);
}

#[test]
fn an_upgrade_to_nothing_is_refused_before_anything_ends() {
    let mut world = replaceable();
    world.run(&[]);
    let controller = world.controller_pid();
    fs::remove_file(&world.program).expect("removed");

    world.signal_node(USR2);

    world.wait("the refusal", |world| world.log().contains("SIGUSR2: no upgrade"));
    assert_eq!(world.controller_pid(), controller);
    assert!(controller.is_some_and(lives));
    // The keeper's own file is gone as well, and its program is not.
    kill(controller.expect("a pid"), 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| Some(pid) != controller));
}
