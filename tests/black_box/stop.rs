//! Stops reach the whole tree, and end in time.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::world::{World, kill, lives};

/// Words before the program: it finds no cgroup that it may write.
const WITHOUT_CGROUPS: [&str; 6] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"", "sh"];

fn pids_in(world: &World, file: &str) -> Vec<i32> {
    std::fs::read_to_string(world.root().join(file))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn children_that_ignore_term_or_left_the_session_are_gone_when_the_service_is() {
    let world = World::running();
    let file = world.root().join("pids");
    world.put(
        "evil.yaml",
        &format!(
            concat!(
                "stop: {{gracePeriod: 300ms}}\n",
                "script: |\n",
                "  sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' &\n",
                "  setsid sh -c 'echo $$ >> {0}; exec sleep 3600' &\n",
                "  (setsid sh -c 'echo $$ >> {0}; trap \"\" TERM HUP; while :; do sleep 1; done' &) \n",
                "  echo $$ >> {0}\n",
                "  while :; do sleep 1; done\n"
            ),
            file.display()
        ),
    );
    world.wait_status("evil", "running");
    world.wait("all four to have said their pids", |world| pids_in(world, "pids").len() == 4);

    world.remove("evil.yaml");
    world.wait("the service to go", |world| world.status_file("evil").is_none());

    for pid in pids_in(&world, "pids") {
        assert!(!lives(pid), "{pid} was left behind");
    }
}

/// Living processes that were started with this word.
fn started_with(word: &Path) -> Vec<i32> {
    let word = word.as_os_str().as_bytes();
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word)
    };
    plugd::edge::process::stat::pids().into_iter().filter(has).filter(|pid| lives(*pid)).collect()
}

#[test]
fn with_kill_scope_tree_what_leaves_session_parents_and_environment_behind_is_gone_when_the_service_is() {
    let mut world = World::empty();
    if rustix::process::geteuid().is_root() {
        // Without cgroups, which do this for every service.
        world.under = WITHOUT_CGROUPS.map(String::from).into();
    }
    let (daemon, hopper) = (world.root().join("daemon"), world.root().join("hopper"));
    std::fs::write(&daemon, "trap '' TERM HUP\nwhile :; do sleep 0.1; done\n").expect("written");
    let again = format!("sleep 0.01\nsetsid env -i PATH=/usr/bin:/bin sh {} &\n", hopper.display());
    std::fs::write(&hopper, again).expect("written");
    world.put(
        "evil.yaml",
        &format!(
            concat!(
                "stop: {{gracePeriod: 300ms, killScope: Tree}}\n",
                "script: |\n",
                "  for file in {} {}; do (setsid env -i PATH=/usr/bin:/bin sh $file &); done\n",
                "  while :; do sleep 1; done\n"
            ),
            daemon.display(),
            hopper.display()
        ),
    );
    world.run(&[]);
    world.wait_status("evil", "running");
    world.wait("both to have got away", |_| [&daemon, &hopper].iter().all(|file| started_with(file).len() == 1));
    let scope = world.field("evil", "killScope").expect("it is told");
    assert!(scope == "tree" || scope == "cgroup" && !rustix::process::geteuid().is_root(), "{scope}");
    // The next controller knows what belongs to it as well.
    kill(world.controller_pid().expect("a controller"), 9);
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");

    world.remove("evil.yaml");
    world.wait("the service to go", |world| world.status_file("evil").is_none());

    // Nothing comes after what has ended, so one look is enough.
    assert_eq!((started_with(&daemon), started_with(&hopper)), (Vec::new(), Vec::new()));
}

#[test]
fn one_that_ignores_term_is_killed_at_its_grace_and_named_meanwhile() {
    let world = World::running();
    world.put(
        "deaf.yaml",
        "script: |\n  trap '' TERM; echo > set; while :; do sleep 0.05; done\nstop: {gracePeriod: 2s}\n",
    );
    world.wait("it to be deaf", |world| world.root().join("set").exists());
    world.wait_status("deaf", "running");
    let pid = world.pid("deaf").expect("a pid");

    let asked = Instant::now();
    world.remove("deaf.yaml");
    world.wait_status("deaf", "stopping");
    world.wait("the status to name who holds it up", |world| {
        world.status_file("deaf").is_some_and(|text| text.contains(&format!("{pid}")))
    });
    world.wait("the end", |world| world.status_file("deaf").is_none());

    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(1_990), "the grace is kept: {took:?}");
    // The tenth of a second is the next test's: the rest is for a machine that others use, too.
    assert!(took <= Duration::from_secs(8), "and not overdone: {took:?}");
    assert!(!lives(pid));
}

#[test]
fn kill_comes_at_the_end_of_the_grace_give_or_take_a_tenth_of_a_second() {
    let world = World::running();
    let (names, grace) = (["a", "b", "c", "d", "e"], Duration::from_millis(700));
    for name in names {
        let told = world.root().join(format!("{name}.told"));
        // It notes the moment itself and at once: it waits for nobody, and needs no other program for it.
        let deaf =
            format!("trap ': > {0}' TERM; : > {0}.set; while :; do sleep 1000 & wait || :; done", told.display());
        world.put(&format!("{name}.yaml"), &format!("script: {deaf:?}\nstop: {{gracePeriod: 700ms}}\n"));
        world.wait("its trap to be set", |world| world.root().join(format!("{name}.told.set")).exists());
        world.wait_status(name, "running");
    }
    // The middle of several, for a machine may be busy once.
    let mut took: Vec<Duration> = Vec::new();
    for name in names {
        let pid = world.pid(name).expect("a pid");
        world.remove(&format!("{name}.yaml"));
        let told = world.root().join(format!("{name}.told"));
        world.wait("TERM", |_| told.exists());
        let since = std::fs::metadata(&told).and_then(|meta| meta.modified()).expect("a time");
        while lives(pid) {
            std::thread::sleep(Duration::from_millis(2));
        }
        took.push(since.elapsed().expect("it is past"));
    }
    took.sort();
    let apart = took[2].abs_diff(grace);
    assert!(apart <= Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_hold_up_the_end() {
    let world = World::running();
    world.put("job.yaml", "script: |\n  setsid sleep 3600 & echo done\nrestart: Never\nstop: {gracePeriod: 100ms}\n");
    world.wait_status("job", "completed");
}

#[test]
fn stopped_stays_stopped_until_started_even_over_a_controller_s_death() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");

    world.ask(&["stop", "web"]);
    world.wait_status("web", "stopped (StoppedByOperator)");
    crate::world::kill(world.controller_pid().expect("a controller"), 9);
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");
    world.wait_status("web", "stopped (StoppedByOperator)");

    world.ask(&["start", "web"]);
    world.wait_status("web", "running");
}

#[test]
fn term_stops_everything_and_the_status_files_say_so() {
    let mut world = World::running();
    world.put("a.yaml", "command: sleep 3600\n");
    world.put("b.yaml", "command: sleep 3600\ndependsOn: [a]\n");
    world.wait_status("b", "running");
    let pids = [world.pid("a").expect("a pid"), world.pid("b").expect("a pid")];

    let status = world.stop();

    assert_eq!(status.code(), Some(0));
    assert!(pids.iter().all(|pid| !lives(*pid)));
    assert_eq!(world.status("a"), "stopped (ControllerStopped)");
    assert_eq!(world.status("b"), "stopped (ControllerStopped)");
}

#[test]
fn a_hundred_services_stop_as_fast_as_the_slowest() {
    let mut world = World::empty();
    for n in 0..100 {
        world.put(&format!("s{n}.yaml"), "command: sleep 3600\n");
    }
    world.put("slow.yaml", "script: |\n  trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done\n");
    world.run(&[]);
    world.wait_status("slow", "running");
    for n in 0..100 {
        world.wait_status(&format!("s{n}"), "running");
    }

    let asked = Instant::now();
    world.stop();

    // The grace of each is 30 s.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
fn dependents_stop_before_what_they_depend_on() {
    let mut world = World::empty();
    let order = world.root().join("order");
    for (name, depends) in [("db", "[]"), ("app", "[db]"), ("front", "[app]")] {
        world.put(
            &format!("{name}.yaml"),
            &format!(
                "dependsOn: {depends}\nscript: |\n  trap 'echo {name} >> {order}; exit 0' TERM; echo > {order}-{name}; \
                 while :; do sleep 0.02; done\n",
                order = order.display()
            ),
        );
    }
    world.run(&[]);
    world.wait_status("front", "running");
    let is_set = |name: &str| world.root().join(format!("order-{name}")).exists();
    world.wait("the handlers to be set", |_| ["db", "app", "front"].into_iter().all(is_set));

    world.stop();

    assert_eq!(std::fs::read_to_string(&order).expect("written"), "front\napp\ndb\n");
}

#[test]
fn a_service_that_is_stopped_by_sigstop_hears_of_its_end() {
    let world = World::running();
    world.put(
        "asleep.yaml",
        "script: |\n  trap 'echo heard > heard; exit 0' TERM\n  echo > set\n  while :; do sleep 0.05; done\n",
    );
    world.wait("its handler to be set", |world| world.root().join("set").exists());
    world.wait_status("asleep", "running");
    let pid = world.pid("asleep").expect("a pid");
    kill(pid, libc::SIGSTOP);

    let asked = Instant::now();
    world.remove("asleep.yaml");
    world.wait("the end", |world| world.status_file("asleep").is_none());

    assert!(asked.elapsed() < Duration::from_secs(20), "it was killed at the end of its grace of 30 s");
    assert!(world.root().join("heard").exists(), "its handler did not run");
}

/// What a main process leaves behind is asked to end before it is killed, however its tree is known.
#[test]
fn what_a_leader_leaves_hears_the_signal_before_the_kill() {
    for under in [&[][..], &WITHOUT_CGROUPS] {
        let mut world = World::empty();
        world.under = under.iter().map(|word| word.to_string()).collect();
        world.run(&[]);
        let (said, pids) = (world.root().join("said"), world.root().join("pids"));
        std::fs::write(&pids, "").expect("written");
        world.put_script(
            "wrappers/worker.sh",
            &format!(
                "#!/bin/sh\ntrap 'echo $$ >> {}; exit 0' TERM\necho $$ >> {}\nwhile :; do sleep 0.05; done\n",
                said.display(),
                pids.display()
            ),
        );
        let worker = world.path("wrappers/worker.sh");
        // Its leader ends by itself, once; then it is stopped with a child in a session of its own.
        world.put(
            "crew.yaml",
            &format!(
                "script: |\n  echo >> {1}.runs; all=$(($(wc -l < {1}.runs) * 2))\n  {0} & setsid {0} &\n  while [ $(wc -l < {1}) -lt $all ]; do sleep 0.02; done\n  [ $all -gt 2 ] || exit 1\n  wait\n",
                worker.display(),
                pids.display()
            ),
        );
        // Who is told twice may say it twice: the group is told, and then whatever is left.
        let heard = |world: &World| {
            let said = std::fs::read_to_string(world.root().join("said")).unwrap_or_default();
            said.lines().collect::<std::collections::BTreeSet<_>>().len()
        };
        world.wait("both to hear that their leader is gone, and two new ones", |world| {
            heard(world) == 2 && pids_in(world, "pids").len() == 4
        });
        world.ask(&["stop", "--wait", "crew"]);
        world.wait_status("crew", "stopped (StoppedByOperator)");
        assert_eq!(heard(&world), 4, "{under:?}");
        assert!(pids_in(&world, "pids").into_iter().all(|pid| !lives(pid)));
        assert!(world.stop().success());
    }
}

/// Without a cgroup nothing but the environment tells whose they are.
#[test]
fn what_hooks_and_probes_leave_in_a_session_of_their_own_goes_with_the_service() {
    let mut world = World::empty();
    world.under = WITHOUT_CGROUPS.map(String::from).into();
    world.run(&[]);
    let pids = world.root().join("pids");
    std::fs::write(&pids, "").expect("written");
    // It ends when what it leaves is there.
    let leave = |count: u32| {
        let pids = pids.display();
        format!(
            "setsid sh -c \"echo \\$\\$ >> {pids}; exec sleep 3600\" & while [ $(wc -l < {pids}) -lt {count} ]; do sleep 0.02; done"
        )
    };
    world.put(
        "web.yaml",
        &format!(
            "command: sleep 3600\nlifecycle: {{preStart: {{exec: {{command: [sh, -c, '{}']}}}}}}\nreadinessProbe: {{exec: {{command: [sh, -c, '{}']}}, period: 1h}}\n",
            leave(1),
            leave(2)
        ),
    );
    world.wait_status("web", "healthy");
    let all = || -> Vec<i32> {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    world.wait("both to run", |_| all().len() >= 2);
    // What a hook left goes with the hook; what a probe left, at the latest with the service.
    world.remove("web.yaml");
    world.wait("the end", |world| world.status_file("web").is_none());
    world.wait("nothing to be left", |_| all().into_iter().all(|pid| !lives(pid)));
}
