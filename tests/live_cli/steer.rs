//! start, stop, restart, scale, signal, exec.

use std::time::{Duration, Instant};

use crate::ask::{STAYS, begin_hearing, code_of, ends, logs};
use crate::world::{World, environment};

#[test]
fn stop_stays_stopped_and_start_undoes_it() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    ends(&world, 0, &["stop", "web"]);
    // That is what the verb waited for.
    assert!(!crate::world::lives(pid));
    world.wait_status("web", "stopped (StoppedByOperator)");
    ends(&world, 0, &["stop", "web", "--wait"]);
    let (_, told) = ends(&world, 3, &["exec", "web", "--", "true"]);
    assert!(told.contains("web is stopped (StoppedByOperator)"), "{told}");
    ends(&world, 0, &["start", "web", "--wait"]);
    world.wait_status("web", "running");
}

#[test]
fn a_stop_that_takes_longer_than_one_waits_goes_on_and_what_waits_for_nothing_returns() {
    let world = World::running();
    let deaf = "script: \"trap '' TERM; echo deaf; while :; do sleep 0.1; done\"\nstop: {gracePeriod: 5s}\n";
    world.put("slow.yaml", deaf);
    world.wait("it to be deaf", |world| logs(world, &["slow"]).contains("deaf"));
    world.wait_status("slow", "running");
    ends(&world, 0, &["stop", "slow", "--no-wait"]);
    world.wait_status("slow", "stopping");
    let (_, told) = ends(&world, 124, &["stop", "slow", "--timeout", "100ms"]);
    assert!(told.contains("slow is stopping") && told.contains("plugd status slow"), "{told}");
    world.wait_status("slow", "stopped (StoppedByOperator)");
}

#[test]
fn names_of_kubernetes_and_of_instances_are_understood_or_told() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    for words in [&["status", "deploy/web"][..], &["get", "services/web"], &["restart", "pod", "web", "--wait"]] {
        ends(&world, 0, words);
    }
    ends(&world, 0, &["wait", "--for=condition=Ready", "service/web", "--timeout", "5s"]);
    ends(&world, 0, &["wait", "deploy/web", "--timeout", "5s"]);
    for words in [
        &["exec", "deploy/web", "--", "true"][..],
        &["scale", "deploy/web=1"],
        &["history", "deploy/web"],
        &["logs", "pod/web"],
        &["signal", "CONT", "pod/web"],
    ] {
        ends(&world, 0, words);
    }
    let (told, _) = ends(&world, 0, &["events", "deploy/web"]);
    assert!(told.lines().count() > 0 && told.lines().all(|line| line.contains("  web  ")), "{told}");
    let mut edit = std::process::Command::new(env!("CARGO_BIN_EXE_plugd"));
    edit.args(["edit", "service/web", "--dir"]).arg(world.dir()).env("EDITOR", "true").env_remove("VISUAL");
    let edited = edit.output().expect("started");
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    let (table, _) = ends(&world, 0, &["status"]);
    assert!(table.starts_with("NAME") && table.contains("web"), "{table}");
    let (_, told) = ends(&world, 4, &["restart", "web/0"]);
    assert!(told.contains("web/0 is one instance") && told.contains("write web"), "{told}");
    let (_, told) = ends(&world, 4, &["restart", "all"]);
    assert!(told.contains("--all"), "{told}");
    ends(&world, 0, &["stop", "svc/web"]);
    ends(&world, 0, &["rm", "pod/web"]);
    assert!(!world.path("web.yaml").exists());
}

#[test]
fn stop_all_waits_for_no_service_that_cannot_run() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("broken.yaml", "comand: true\n");
    world.put("missing.yaml", "wrapper: nowhere.sh\n");
    world.wait_status("web", "running");
    world.wait_status("broken", "failed");
    world.wait_status("missing", "skipped");
    ends(&world, 0, &["stop", "--all", "--wait", "--timeout", "10s"]);
}

#[test]
fn restart_makes_a_new_process_and_counts_no_restart() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let before = world.pid("web");
    ends(&world, 0, &["restart", "web", "--wait"]);
    world.wait("a new pid", |world| world.pid("web").is_some_and(|pid| Some(pid) != before));
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"));
}

#[test]
fn scale_makes_instances_and_takes_them_away() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    ends(&world, 0, &["scale", "web=3", "--wait"]);
    assert_eq!(ends(&world, 0, &["get", "web", "-o", "jsonpath={.instances[*].name}"]).0, "web/0 web/1 web/2\n");
    let (_, told) = ends(&world, 4, &["status", "web/7"]);
    assert!(told.contains("web has no instance 7; it has web/0, web/1, web/2"), "{told}");
    ends(&world, 0, &["scale", "web=0", "--wait"]);
    let (said, _) = ends(&world, 3, &["status", "web"]);
    assert!(said.contains("`plugd scale web=1`"), "{said}");
    let (_, told) = ends(&world, 2, &["scale", "web", "3"]);
    assert!(told.contains("web=3"), "the form is told: {told}");
}

#[test]
fn a_signal_reaches_the_instance_that_is_named() {
    let world = World::running();
    world.put(
        "web.yaml",
        "command: [sh, -c, 'trap \"echo hangup of $PLUGD_INSTANCE\" HUP; echo up; while :; do sleep 0.02; done']\nreplicas: 2\n",
    );
    world.wait("both to be up", |world| logs(world, &["web"]).matches("up").count() == 2);
    ends(&world, 0, &["signal", "HUP", "web/1"]);
    world.wait("the trap", |world| logs(world, &["web"]).contains("hangup of web/1"));
    assert!(!ends(&world, 0, &["logs", "web"]).0.contains("hangup of web/0"));
}

#[test]
fn exec_has_the_environment_of_the_service_and_hands_the_code_on() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 1000\nenv: {COLOUR: green}\nworkingDir: /\n");
    world.wait_status("web", "running");
    let (said, _) = ends(&world, 9, &["exec", "web", "--", "sh", "-c", "echo $COLOUR $PLUGD_SERVICE $PWD; exit 9"]);
    assert_eq!(said, "green web /\n");
    ends(&world, 127, &["exec", "web", "--", "no-such-program"]);
}

#[test]
fn exec_goes_into_a_service_that_has_another_user_and_capabilities() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else may become another user
    }
    let world = World::running();
    let capabilities = "capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}";
    let who = format!("user: '65534'\nsecurityContext: {{umask: '0027', nice: 4, oomScoreAdj: 77, {capabilities}}}\n");
    world.put("low.yaml", &format!("command: sleep 1000\nworkingDir: /usr\n{who}"));
    world.put("roots.yaml", "command: sleep 1000\nsecurityContext: {capabilities: {drop: [ALL], add: [KILL]}}\n");
    world.wait_status("low", "running");
    world.wait_status("roots", "running");
    let (said, _) = ends(&world, 0, &["exec", "low", "--", "/bin/sh", "-c", "id -u; pwd; nice"]);
    assert_eq!(said, "65534\n/usr\n4\n");
    for name in ["low", "roots"] {
        // Who it is and what it may do, as the kernel has it.
        let of = |text: &str| -> Vec<String> {
            let words = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Umask", "oom"];
            text.lines().filter(|line| words.iter().any(|word| line.starts_with(word))).map(String::from).collect()
        };
        let script = "cat /proc/$1/status; echo oom $(cat /proc/$1/oom_score_adj)";
        let pid = world.pid(name).expect("a pid").to_string();
        let shell = |pid: &str| ["exec", name, "--", "/bin/sh", "-c", script, "sh", pid].map(String::from);
        let told = |pid: &str| ends(&world, 0, &shell(pid).each_ref().map(String::as_str)).0;
        assert_eq!(of(&told("self")), of(&told(&pid)), "{name}");
    }
}

#[test]
fn a_name_with_a_slip_is_answered_with_the_nearest_one() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("orders.yaml", STAYS);
    world.wait_status("orders", "running");
    world.wait_status("web", "running");
    for (typed, meant) in [("wbe", "web"), ("order", "orders"), ("Orders", "orders")] {
        for verb in ["get", "status", "start", "stop", "restart", "logs", "rm", "events", "edit"] {
            let (_, told) = ends(&world, 4, &[verb, typed]);
            assert!(told.contains(&format!("did you mean {meant}?")), "{verb} {typed}: {told}");
        }
    }
    let (_, told) = ends(&world, 4, &["stop", "something-else"]);
    assert!(!told.contains("did you mean"), "{told}");
    // One wrong name among several: nothing is ordered.
    ends(&world, 4, &["stop", "web", "ordres"]);
    assert_eq!(world.status("web"), "running");
}

/// The pid after this one: the files tell it a moment after the verbs.
fn next_pid(world: &World, before: i32) -> i32 {
    world.wait("the next process to be told", |world| world.pid("web").is_some_and(|pid| pid != before));
    world.pid("web").expect("a pid")
}

#[test]
fn a_restart_of_a_service_whose_edit_is_blocked_is_of_the_version_that_runs_and_says_so() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    world.put("web.yaml", "command: no-such-program\n");
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));

    let (_, told) = ends(&world, 0, &["restart", "web", "--wait"]);

    assert!(told.contains("web is of the version before") && told.contains("mend web.yaml"), "{told}");
    assert!(!crate::world::lives(pid));
    let new = next_pid(&world, pid);
    environment(new);
    let command = std::fs::read_to_string(format!("/proc/{new}/cmdline")).expect("it lives");
    assert_eq!(command, "sleep\u{0}1000\u{0}");

    world.put("web.yaml", "wrapper: nowhere.sh\n");
    let (_, told) = ends(&world, 1, &["wait", "web", "--timeout", "20s"]);
    assert!(told.contains("by the version before") && told.contains("WrapperNotFound"), "{told}");
    world.put("web.yaml", "comand: sleep 2000\n");
    world.wait("the refusal", |world| world.status_file("web").is_some_and(|text| text.contains("ConfigInvalid")));
    let (said, _) = ends(&world, 0, &["status", "web"]);
    assert!(said.contains("generation 3; ") && said.contains(", 1 is in force"), "{said}");
    assert!(!said.contains("UpdateBlocked"), "it stands in no file any more: {said}");
    let (_, told) = ends(&world, 0, &["restart", "web", "--wait"]);
    assert!(told.contains("web is of the version before") && told.contains("unknown field `comand`"), "{told}");
    assert!(told.ends_with("; mend web.yaml\n"), "{told}");
    let new = next_pid(&world, new);
    crate::world::kill(new, 9);
    world.wait("its restart", |world| world.pid("web").is_some_and(|pid| pid != new));
    world.wait_status("web", "running");
}

#[test]
fn an_edit_of_nothing_but_depends_on_is_blocked_and_taken_up_without_a_restart_once_it_can_be() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let first = world.pid("web").expect("a pid");
    world.put("web.yaml", &format!("{STAYS}dependsOn: [databsae]\n"));
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));
    let (_, told) = ends(&world, 1, &["wait", "web", "--timeout", "20s"]);
    assert!(told.contains("by the version before") && told.contains("there is no service databsae"), "{told}");

    crate::world::kill(first, 9);
    world.wait("its restart", |world| world.pid("web").is_some_and(|pid| pid != first));
    let second = world.pid("web").expect("a pid");
    let (_, told) = ends(&world, 0, &["restart", "web", "--wait"]);
    assert!(told.contains("web is of the version before") && told.contains("mend web.yaml"), "{told}");
    assert!(!crate::world::lives(second));
    let third = next_pid(&world, second);

    world.put("databsae.yaml", STAYS);
    world.wait("the edit", |world| world.status_file("web").is_some_and(|text| !text.contains("UpdateBlocked")));
    ends(&world, 0, &["wait", "web", "--timeout", "20s"]);
    assert_eq!(world.pid("web"), Some(third));
}

#[test]
fn one_that_is_restarted_has_no_new_version() {
    let world = World::running();
    let slow = |word: &str| {
        format!("script: \"trap '' TERM; echo {word}; while :; do sleep 0.1; done\"\nstop: {{gracePeriod: 3s}}\n")
    };
    let is_deaf = |lives: usize| {
        world.wait("it to be deaf", |world| logs(world, &["slow"]).matches("one").count() == lives);
        world.wait_status("slow", "running");
    };
    world.put("slow.yaml", &slow("one"));
    is_deaf(1);
    ends(&world, 0, &["restart", "slow"]);
    world.wait_status("slow", "stopping");
    let (said, _) = ends(&world, 3, &["status", "slow"]);
    assert!(said.contains("it is being restarted") && !said.contains("version"), "{said}");
    is_deaf(2);
    // An edit brings one.
    world.put("slow.yaml", &slow("two"));
    world.wait_status("slow", "stopping");
    let (said, _) = ends(&world, 3, &["status", "slow"]);
    assert!(said.contains("the old version is being stopped"), "{said}");
}

#[test]
fn who_waits_for_a_stop_or_a_removal_asks_the_next_controller_when_one_is_killed() {
    let world = World::running();
    const SLOW: &str = "script: 'trap \"\" TERM; echo up; while :; do sleep 0.1; done'\nstop: {gracePeriod: 2s}\n";
    for (name, order, told) in [("a", "stop", "a is stopped (StoppedByOperator)"), ("b", "rm", "b: stopped and gone")] {
        world.put(&format!("{name}.yaml"), SLOW);
        world.wait("the trap", |world| crate::ask::logs(world, &[name]).contains("up"));
        let mut waits = crate::ask::begin_hearing(&world, &[order, name]);
        world.wait_status(name, "stopping");
        let before = world.controller_pid().expect("a controller");
        crate::world::kill(before, 9);
        let code = crate::ask::code_of(&mut waits.0);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut waits.0.stderr.take().expect("a pipe"), &mut said).expect("text");
        assert_eq!(code, Some(0), "{order}: {said}");
        // The files tell it a moment after the verbs.
        world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != before));
        world.wait("its end to be told", |world| {
            let is = world.status(name);
            told.contains(&is) || is == "absent"
        });
    }
}

#[test]
fn the_schedule_of_a_job_that_was_stopped_goes_on_without_a_run() {
    let world = World::running();
    let ran = world.root().join("ran");
    world.put("tidy.yaml", &format!("schedule: '@yearly'\nscript: touch {}\n", ran.display()));
    world.put("web.yaml", STAYS);
    world.wait_status("tidy", "waiting (NextRun)");
    world.wait_status("web", "running");
    ends(&world, 0, &["stop", "tidy"]);
    let (said, _) = ends(&world, 3, &["status", "tidy"]);
    assert!(said.contains("`plugd start tidy --no-run`"), "{said}");
    ends(&world, 0, &["start", "tidy", "--no-run"]);
    world.wait_status("tidy", "waiting (NextRun)");
    assert!(!ran.exists());
    let (_, told) = ends(&world, 1, &["start", "web", "--no-run"]);
    assert!(told.contains("web runs by no schedule"), "{told}");
    // After a maintenance: services start, and no job runs for it.
    ends(&world, 0, &["stop", "--all"]);
    ends(&world, 0, &["start", "--all", "--no-run"]);
    world.wait_status("web", "running");
    world.wait_status("tidy", "waiting (NextRun)");
    ends(&world, 0, &["stop", "web", "tidy"]);
    ends(&world, 0, &["start", "web", "tidy", "--no-run"]);
    world.wait_status("web", "running");
    world.wait_status("tidy", "waiting (NextRun)");
    assert!(!ran.exists());
}

#[test]
fn nobody_waits_for_a_job_that_failed_for_good_to_complete() {
    let world = World::running();
    world.put("job.yaml", "command: [sh, -c, 'echo no such table >&2; exit 4']\nrestart: Never\n");
    world.wait_status("job", "failed");
    for what in ["completed", "running", "healthy"] {
        let (_, told) = ends(&world, 1, &["wait", &format!("--for={what}"), "job"]);
        assert!(told.contains("job is failed (Error) and does not run again by itself"), "{told}");
    }
    ends(&world, 0, &["wait", "--for=failed", "job"]);
}

#[test]
fn who_waits_for_a_job_by_its_name_waits_for_its_end_and_its_result() {
    let world = World::running();
    let good = world.root().join("good");
    let script = format!("script: sleep 0.4; echo done; test -e {}\n", good.display());
    world.put("plain.yaml", &format!("{script}restart: Never\n"));
    world.put("cron.yaml", &format!("{script}schedule: '@yearly'\n"));
    let begun = Instant::now();
    ends(&world, 1, &["wait", "plain"]);
    ends(&world, 0, &["wait", "cron"]);
    for order in [&["start", "cron", "--wait"][..], &["start", "plain", "--wait"], &["restart", "plain", "--wait"]] {
        let (_, told) = ends(&world, 1, order);
        assert!(told.contains(" is failed (Error)") && told.contains("exited with 1"), "{told}");
    }
    assert!(begun.elapsed() > Duration::from_millis(1600), "each ran to its end");
    std::fs::write(&good, "").expect("written");
    ends(&world, 0, &["start", "plain", "--wait"]);
    assert_eq!(world.field("plain", "status").as_deref(), Some("completed"));
    ends(&world, 0, &["start", "cron", "--wait"]);
    let path = "jsonpath={.status.schedule.runs[*].result}";
    assert_eq!(ends(&world, 0, &["get", "cron", "-o", path]).0, "failed completed\n");
    ends(&world, 0, &["start", "cron"]);
    world.wait_status("cron", "running");
    assert_eq!(ends(&world, 0, &["start", "cron"]).1, "plugd: cron runs already; no other run is begun\n");
    ends(&world, 0, &["wait", "cron"]);
    assert_eq!(ends(&world, 0, &["get", "cron", "-o", path]).0, "failed completed completed\n");
    // The node is ready while it runs, and one that takes long is no fault.
    world.put("long.yaml", "command: sleep 1000\nrestart: Never\nrequired: true\n");
    world.wait_status("long", "running");
    ends(&world, 0, &["wait"]);
    ends(&world, 0, &["wait", "--all"]);
    ends(&world, 0, &["wait", "--for=running", "long"]);
    let (_, told) = ends(&world, 124, &["wait", "long", "--timeout", "300ms"]);
    assert!(told.contains("long is running, a job that has not ended"), "{told}");
    assert!(told.contains("it goes on; --timeout waits longer, `plugd wait --for=running long` not for its"), "{told}");
    // One that is removed meanwhile has not done what was asked for.
    let before = world.pid("long");
    let mut waiting = begin_hearing(&world, &["restart", "long", "--wait"]);
    world.wait("another process", |world| world.pid("long").is_some_and(|pid| Some(pid) != before));
    world.remove("long.yaml");
    assert_eq!(code_of(&mut waiting.0), Some(1));
    // A server that is never restarted is one all the same.
    let port = crate::world::free_port();
    let serves = format!("command: [python3, -m, http.server, '{port}']\nrestart: Never\nport: {port}\n");
    world.put("server.yaml", &serves);
    ends(&world, 0, &["wait", "server"]);
}

#[test]
fn a_stop_that_somebody_else_takes_back_ends_and_says_so() {
    let world = World::running();
    let slow = "command: [sh, -c, 'trap \"sleep 1; exit 0\" TERM; while :; do sleep 0.02; done']\n";
    world.put("web.yaml", slow);
    world.put("quick.yaml", STAYS);
    world.wait_status("web", "running");
    world.wait_status("quick", "running");
    let mut stopping = begin_hearing(&world, &["stop", "web"]);
    world.wait_status("web", "stopping");
    ends(&world, 0, &["start", "web"]);
    assert_eq!(code_of(&mut stopping.0), Some(1));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stopping.0.stderr.take().expect("a pipe"), &mut told).expect("text");
    assert!(told.contains("web was told to start again meanwhile"), "{told}");
    world.wait_status("web", "running");
    // What is stopped already, and what ends as ever, is no such case.
    ends(&world, 0, &["stop", "quick"]);
    ends(&world, 0, &["stop", "quick", "web"]);
}

#[test]
fn a_start_that_fails_for_good_is_not_waited_for() {
    let world = World::running();
    world.put("job.yaml", "command: [sh, -c, 'echo no such table >&2; exit 4']\nrestart: Never\n");
    world.wait_status("job", "failed");
    for order in ["start", "restart"] {
        let (_, told) = ends(&world, 1, &[order, "job", "--wait"]);
        assert!(told.contains("job is failed (Error) and does not run again by itself"), "{told}");
    }
    // One of several is enough, and what comes again by itself is waited for.
    world.put("loop.yaml", crate::ask::CRASHES);
    ends(&world, 1, &["start", "loop", "job", "--wait"]);
    ends(&world, 124, &["start", "loop", "--wait", "--timeout", "1s"]);
}

#[test]
fn an_order_to_what_does_not_start_by_it_says_why_and_what_to_do() {
    let world = World::running();
    world.put("off.yaml", "command: sleep 1000\nenabled: false\n");
    world.put("bad.yaml", "comand: sleep 1000\n");
    world.put("web.yaml", STAYS);
    world.wait_status("off", "stopped");
    world.wait_status("bad", "failed");
    world.wait_status("web", "running");
    for words in
        [&["start", "off"][..], &["restart", "off"], &["start", "off", "--wait"], &["restart", "off", "--wait"]]
    {
        let (_, told) = ends(&world, 1, words);
        assert_eq!(told, "plugd: off does not start: its manifest says `enabled: false`; remove that from off.yaml\n");
    }
    ends(&world, 1, &["scale", "off=2"]);
    for words in [&["start", "bad"][..], &["restart", "bad"], &["scale", "bad=2", "--wait"]] {
        let (_, told) = ends(&world, 1, words);
        assert!(
            told.starts_with("plugd: bad is failed: what bad.yaml says now is not in force: bad.yaml:1:1"),
            "{told}"
        );
        assert!(told.ends_with("; mend bad.yaml\n"), "{told}");
    }
    // Whoever stops such a one is told what holds it; whoever starts it takes that back.
    let shown = crate::terminal::shown(&world, 200, &[("NO_COLOR", "1")], "$plugd stop off bad");
    assert!(
        shown.contains("off is stopped (Disabled)")
            && shown.contains("they stay stopped, also when their files let them run,"),
        "{shown}"
    );
    let shown = crate::terminal::shown(&world, 200, &[("NO_COLOR", "1")], "$plugd stop off");
    assert!(shown.contains("it stays stopped, also when its manifest lets it run, until `plugd start off`"), "{shown}");
    world.put("off.yaml", STAYS);
    world.wait_status("off", "stopped (StoppedByOperator)");
    world.put("off.yaml", "command: sleep 1000\nenabled: false\n");
    world.wait_status("off", "stopped (Disabled)");
    ends(&world, 1, &["start", "off"]);
    world.put("off.yaml", STAYS);
    world.wait_status("off", "running");

    world.put("none.yaml", "command: sleep 1000\nreplicas: 0\n");
    world.wait_status("none", "stopped");
    for order in ["start", "restart"] {
        let (_, told) = ends(&world, 1, &[order, "none"]);
        let so = "plugd: none does not start: its manifest says `replicas: 0`; `plugd scale none=1` gives it one\n";
        assert_eq!(told, so);
    }
    ends(&world, 0, &["scale", "none=1", "--wait"]);
    // What was scaled to nothing by hand is started by hand.
    ends(&world, 0, &["scale", "web=0", "--wait"]);
    ends(&world, 0, &["start", "web", "--wait"]);
    // All are those that can.
    world.put("off.yaml", "command: sleep 1000\nenabled: false\n");
    world.wait_status("off", "stopped");
    world.remove("bad.yaml");
    world.wait_status("bad", "absent");
    ends(&world, 0, &["restart", "--all", "--wait"]);
}

#[test]
fn who_waits_for_a_job_by_the_clock_is_told_how_its_last_run_went() {
    let world = World::running();
    let good = world.root().join("good");
    let command = format!("command: [sh, -c, 'sleep 0.6; test -e {}']\n", good.display());
    world.put("cron.yaml", &format!("schedule: '@yearly'\n{command}"));
    world.wait_status("cron", "waiting");
    ends(&world, 0, &["wait", "cron"]);
    ends(&world, 124, &["wait", "--for=completed", "cron", "--timeout", "100ms"]);
    ends(&world, 0, &["start", "cron"]);
    for words in [&["wait", "--for=completed", "cron"][..], &["wait", "cron"], &["wait", "--all"]] {
        let (_, told) = ends(&world, 1, words);
        assert!(told.contains("cron is failed (Error): its last run, by hand, failed: exited with 1"), "{told}");
        assert!(told.ends_with("; `plugd start cron` runs it now\n"), "{told}");
    }
    std::fs::write(&good, "").expect("written");
    ends(&world, 0, &["start", "cron"]);
    ends(&world, 0, &["wait", "--for=completed", "cron"]);
    let path = "jsonpath={.status.schedule.runs[*].result}";
    assert_eq!(ends(&world, 0, &["get", "cron", "-o", path]).0, "failed completed\n");
    ends(&world, 0, &["wait", "--for=completed", "cron"]);
    world.put("now.yaml", "schedule: '@yearly'\ncommand: 'false'\n");
    ends(&world, 0, &["wait", "now"]);
    let (_, told) = ends(&world, 1, &["start", "now", "--wait"]);
    assert!(told.contains("now is failed (Error): its last run, by hand, failed"), "{told}");
}
