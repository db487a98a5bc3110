//! The controller may die, a second one may come, the node may be one command.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::soak::times;
use crate::world::{World, command, kill, lives};

#[test]
fn fifty_services_and_twenty_kills_of_the_controller_lose_nothing() {
    const SERVICES: usize = 50;
    const LINES: usize = 2000;
    let world = World::running();
    for n in 0..SERVICES {
        world.put(
            &format!("s{n:02}.yaml"),
            &format!(
                "script: |\n  i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo \"line $i\"; [ $((i % 50)) = 0 ] && sleep 0.05; done; exit {}\nrestart: Never\n",
                n % 7
            ),
        );
    }
    for n in 0..SERVICES {
        world.wait(&format!("s{n:02} to be known"), |world| world.status_file(&format!("s{n:02}")).is_some());
    }
    let mut pids = BTreeMap::new();

    for round in 0..times(20) {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        world.wait(&format!("a new controller after kill {round}"), |world| {
            world.controller_pid().is_some_and(|pid| pid != controller)
        });
        for n in 0..SERVICES {
            let name = format!("s{n:02}");
            if let Some(pid) = world.pid(&name).filter(|pid| lives(*pid)) {
                let first = *pids.entry(name.clone()).or_insert(pid);
                assert_eq!(first, pid, "{name} keeps its process");
            }
        }
    }

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
        world.wait(&format!("all lines of {name}"), |_| {
            std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() >= LINES)
        });
        let text = std::fs::read_to_string(&log).expect("a log");
        let want: String = (1..=LINES).map(|i| format!("line {i}\n")).collect();
        assert!(text == want, "{name}: its log holds every line once and in order");
    }
}

#[test]
fn a_manifest_changed_or_deleted_while_the_controller_is_down_is_reconciled() {
    let world = World::running();
    world.put("kept.yaml", "command: sleep 3600\n");
    world.put("gone.yaml", "command: sleep 3600\n");
    world.wait_status("kept", "running");
    world.wait_status("gone", "running");
    let (kept, gone) = (world.pid("kept"), world.pid("gone").expect("a pid"));
    let controller = world.controller_pid().expect("a controller");

    // Stopped, so that it cannot see what happens before it dies.
    kill(controller, 19);
    world.remove("gone.yaml");
    kill(controller, 9);

    world.wait("the deleted one to be stopped", |_| !lives(gone));
    world.wait("its status to go", |world| world.status_file("gone").is_none());
    assert_eq!(world.pid("kept"), kept);
}

#[test]
fn a_second_controller_on_one_directory_ends_with_73_and_names_the_first() {
    let world = World::running();

    let second = command(env!("CARGO_BIN_EXE_plugd"))
        .arg("run")
        .arg("--state-dir")
        .arg(world.root().join("other"))
        .arg(world.dir())
        .stdin(Stdio::null())
        .output()
        .expect("started");

    assert_eq!(second.status.code(), Some(73));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        said.contains(&world.node_pid().to_string())
            || said.contains(&world.controller_pid().expect("one").to_string()),
        "{said}"
    );
}

#[test]
fn one_file_that_is_gone_runs_on_under_the_next_controllers() {
    let world = World::empty();
    let text =
        "command: [sh, -c, 'trap \"exit 7\" USR1; echo $$ > pid; while :; do sleep 0.05; done']\nworkingDir: .\n";
    for name in ["job.yaml", "job"] {
        std::fs::write(world.root().join(name), text).expect("written");
        let mut node = command(env!("CARGO_BIN_EXE_plugd"))
            .args(["run", name])
            .current_dir(world.root())
            .stdin(Stdio::null())
            .spawn()
            .expect("started");
        let number = || std::fs::read_to_string(world.root().join("pid")).ok()?.trim().parse::<i32>().ok();
        world.wait("the service to run", |_| number().is_some());
        std::fs::remove_file(world.root().join(name)).expect("it was there");
        // The second one has to tell the third, too.
        for _ in 0..2 {
            let first = controller_of(node.id()).expect("a controller");
            kill(first, 9);
            world.wait("another one", |_| controller_of(node.id()).is_some_and(|next| next != first));
        }
        let service = number().expect("a pid");
        assert!(lives(service), "{name}");
        kill(service, 10);
        world.wait("the end", |_| !lives(node.id() as i32));
        let status = node.wait().expect("its end");
        assert_eq!(status.code(), Some(7), "{name}: its end is told by who never saw the file");
        std::fs::remove_file(world.root().join("pid")).expect("removed");
    }
}

/// The child of a keeper that is its controller.
fn controller_of(keeper: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    let is_it = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.contains("\0controller\0"))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_it)
}

#[test]
fn a_killed_keeper_leaves_nothing_behind_after_the_next_run() {
    let mut world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let controller = world.controller_pid().expect("a controller");

    kill(world.node_pid(), 9);
    world.wait_end();
    world.wait("the controller to go with it", |_| !lives(controller));
    world.run(&[]);

    world.wait("a process of its own", |world| world.pid("web").is_some_and(|new| new != pid && lives(new)));
    assert!(!lives(pid), "the old process is emptied first");
    world.wait("the loss of the keeper to be told", |world| world.log().contains("KeeperLost"));
}

#[test]
fn run_of_one_command_hands_on_its_exit_code() {
    let temp = tempfile::tempdir().expect("a temp folder");
    for (script, want) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let status = command(env!("CARGO_BIN_EXE_plugd"))
            .arg("run")
            .arg("--state-dir")
            .arg(temp.path())
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::null())
            .status()
            .expect("started");
        assert_eq!(status.code(), Some(want), "{script}");
    }
}

#[test]
fn a_directory_that_does_not_exist_is_answered_with_the_mkdir() {
    let temp = tempfile::tempdir().expect("a temp folder");
    let output =
        command(env!("CARGO_BIN_EXE_plugd")).arg("run").arg(temp.path().join("nowhere")).output().expect("started");
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mkdir"), "{output:?}");
}

#[test]
fn a_hot_upgrade_of_the_controller_keeps_every_process() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let (pid, controller) = (world.pid("web"), world.controller_pid().expect("a controller"));

    world.signal_node(12);

    world.wait("another controller", |world| world.controller_pid().is_some_and(|new| new != controller));
    world.wait_status("web", "running");
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn under_a_proc_of_another_pid_namespace_it_refuses_and_says_what_to_do() {
    let world = World::empty();
    let ended = command("unshare")
        .args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_plugd"), "run", "--no-tee"])
        .arg(world.dir())
        .stdin(Stdio::null())
        .output()
        .expect("unshare");
    assert_eq!(ended.status.code(), Some(78));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("/proc is of another pid namespace") && said.contains("--mount-proc"), "{said}");
}

#[test]
fn as_pid_1_it_reaps_strangers_and_ends_in_time() {
    let temp = tempfile::tempdir().expect("a temp folder");
    let dir = temp.path().join("services.d");
    std::fs::create_dir(&dir).expect("made");
    std::fs::write(
        dir.join("orphans.yaml"),
        "script: |\n  i=0; while [ $i -lt 200 ]; do i=$((i+1)); (sh -c 'sleep 0.01 & exit 0' &); done; echo made; exec sleep 3600\nreadinessProbe: {logLine: made}\n",
    )
    .expect("written");
    std::fs::write(dir.join("deaf.yaml"), "script: |\n  trap '' TERM; while :; do sleep 1; done\n").expect("written");
    let mut node = command("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_plugd"))
        .arg("run")
        .arg("--no-tee")
        .arg("--state-dir")
        .arg(temp.path().join("state"))
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare");
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    let ready = |name: &str| {
        std::fs::read_to_string(dir.join(format!("{name}.status")))
            .is_ok_and(|text| text.contains("status: healthy") || text.contains("status: running"))
    };
    while !(ready("orphans") && ready("deaf")) {
        assert!(std::time::Instant::now() < deadline, "the services never came up");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let init = child_of(node.id()).expect("the first process of the namespace");
    while zombies_below(init) > 0 {
        assert!(std::time::Instant::now() < deadline, "zombies stay");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }

    let asked = std::time::Instant::now();
    kill(init, 15);
    let status = node.wait().expect("waitable");

    // 8 s is the budget, docker kills after 10. The rest is for a machine that others use, too: its grace would be 30 s.
    assert!(asked.elapsed() < std::time::Duration::from_secs(15), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0));
}

fn children() -> Vec<(i32, i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let state = fields.next().unwrap_or_default().to_string();
        let parent = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        found.push((pid, parent, state));
    }
    found
}

fn child_of(parent: u32) -> Option<i32> {
    children().into_iter().find(|(_, above, _)| *above == parent as i32).map(|(pid, ..)| pid)
}

fn zombies_below(parent: i32) -> usize {
    children().into_iter().filter(|(_, above, state)| *above == parent && state == "Z").count()
}

#[test]
fn two_directories_cannot_share_one_state_directory() {
    let world = World::running();
    let other = world.root().join("other.d");
    std::fs::create_dir(&other).expect("made");

    let second = command(env!("CARGO_BIN_EXE_plugd"))
        .arg("run")
        .arg("--state-dir")
        .arg(world.state())
        .arg(&other)
        .stdin(Stdio::null())
        .output()
        .expect("started");

    assert_eq!(second.status.code(), Some(73));
    assert!(String::from_utf8_lossy(&second.stderr).contains("--state-dir of its own"), "{second:?}");
    assert!(lives(world.controller_pid().expect("the first goes on")));
}

#[test]
fn one_command_s_output_reaches_a_reader_whole_and_untouched() {
    let output = command(env!("CARGO_BIN_EXE_plugd"))
        .args(["run", "--", "sh", "-c", "seq 1 300000; printf 'a\\033b\\tc'"])
        .stdin(Stdio::null())
        .output()
        .expect("started");

    assert_eq!(output.status.code(), Some(0));
    let mut want: Vec<u8> = (1..=300_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    want.extend_from_slice(b"a\x1bb\tc");
    assert!(output.stdout == want, "{} bytes of {}", output.stdout.len(), want.len());
}

#[test]
fn one_command_that_cannot_be_executed_ends_as_in_a_shell() {
    for (program, code) in [("/etc/passwd", 126), ("/tmp", 126), ("no-such-program-anywhere", 127)] {
        let status = command(env!("CARGO_BIN_EXE_plugd"))
            .args(["run", "--", program])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("started");
        assert_eq!(status.code(), Some(code), "{program}");
    }
}

#[test]
fn a_required_crash_loop_without_a_check_ends_the_node_with_its_code() {
    let mut world = World::empty();
    // It lives for some turns of the loop: so it is running, and unchecked, between two ends.
    world.put(
        "must.yaml",
        "script: sleep 0.1; exit 7\nrequired: true\nrestart: {backoff: {initial: 50ms, max: 100ms}}\n",
    );
    world.spawn(&["--exit-on-required=1s"]);
    assert_eq!(world.wait_end().code(), Some(7), "{}", world.log());
}

/// A node without cgroups, on `services.d` and `state` below a folder.
fn run_without_cgroups(root: &std::path::Path) -> std::process::Child {
    let shell = format!(
        "mount -t tmpfs none /sys/fs/cgroup && exec {} run --no-tee --state-dir {} {}",
        env!("CARGO_BIN_EXE_plugd"),
        root.join("state").display(),
        root.join("services.d").display()
    );
    command("unshare")
        .args(["--mount", "sh", "-c", &shell])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare")
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + crate::world::PATIENCE * 2;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The lines of a file that are pids.
fn pids_in(file: &std::path::Path) -> Vec<i32> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn without_cgroups_a_killed_keeper_s_escaped_children_are_ended_by_the_next_run() {
    let temp = tempfile::tempdir().expect("a temp folder");
    let dir = temp.path().join("services.d");
    std::fs::create_dir(&dir).expect("made");
    let pids = temp.path().join("pids");
    std::fs::write(
        dir.join("evil.yaml"),
        format!(
            "script: |\n  setsid sh -c 'echo $$ >> {0}; exec sleep 3600' &\n  echo $$ >> {0}; while :; do sleep 1; done\n",
            pids.display()
        ),
    )
    .expect("written");

    let mut first = run_without_cgroups(temp.path());
    wait("the first two", || pids_in(&pids).len() == 2);
    let old = pids_in(&pids);
    kill(first.id() as i32, 9);
    first.wait().expect("waitable");
    let mut second = run_without_cgroups(temp.path());
    wait("the second two", || pids_in(&pids).len() == 4);

    for pid in &old {
        assert!(!lives(*pid), "{pid} of the killed keeper lives beside its successor");
    }
    kill(second.id() as i32, 3);
    second.wait().expect("waitable");
}

#[test]
fn without_cgroups_and_run_directory_a_process_that_names_no_node_is_still_known_to_the_next_run() {
    let temp = tempfile::tempdir().expect("a temp folder");
    let (dir, state) = (temp.path().join("services.d"), temp.path().join("state"));
    std::fs::create_dir(&dir).expect("made");
    let pids = temp.path().join("pids");
    let script = format!("echo $$ >> {}; exec sleep 3600", pids.display());
    std::fs::write(dir.join("bare.yaml"), format!("command: [env, -i, sh, -c, \"{script}\"]\n")).expect("written");

    let mut first = run_without_cgroups(temp.path());
    wait("the first", || pids_in(&pids).len() == 1);
    let old = pids_in(&pids);
    let copy = state.join("lives");
    wait("the second table", || {
        std::fs::read_to_string(&copy).is_ok_and(|text| text.contains(&format!(" {} ", old[0])))
    });
    kill(first.id() as i32, 9);
    first.wait().expect("waitable");
    std::fs::remove_dir_all(state.join("run")).expect("removed");
    let mut second = run_without_cgroups(temp.path());
    wait("the second", || pids_in(&pids).len() == 2);

    assert!(!lives(old[0]), "{} of the killed keeper lives beside its successor", old[0]);
    kill(second.id() as i32, 3);
    second.wait().expect("waitable");
}
