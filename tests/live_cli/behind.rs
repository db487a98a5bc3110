//! What is told where an edit is not in force: it waits, it is blocked, it is refused.

use std::time::{Duration, Instant};

use crate::ask::{STAYS, begin, code_of, ends};
use crate::world::{World, free_port};

fn is_blocked(world: &World) -> bool {
    world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"))
}

#[test]
fn who_adds_an_edit_that_waits_is_told_what_for() {
    let world = World::running();
    world.put("db.yaml", "command: sleep 1000\nreadinessProbe: {exec: {command: ['false']}}\n");
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.wait_status("db", "starting");
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "command: sleep 2000\ndependsOn: [db]\n").expect("written");
    let add = ["add", &file.display().to_string()];

    let (said, told) = ends(&world, 0, &add);
    assert_eq!(said, "web  running\n");
    assert_eq!(told, "plugd: web: the new version waits: db is not ready; the one before runs on\n");
    let patience = [&add[..], &["--wait", "--timeout", "1500ms"]].concat();
    let (_, told) = ends(&world, 124, &patience);
    let so = "plugd: waited 1.5s: web's files are not in force yet: the new version waits: db is not";
    assert!(told.starts_with(so), "{told}");
}

#[test]
fn a_manifest_that_never_was_valid_is_nothing_to_wait_for() {
    let world = World::running();
    let why = "bad.yaml:1:1: unknown field `comand`";
    for (round, words) in [&["wait", "bad"][..], &["wait", "--all"]].into_iter().cycle().take(6).enumerate() {
        world.put("bad.yaml", "comand: true\n");
        let begun = Instant::now();
        let (_, told) = ends(&world, 1, words);
        let so = format!("plugd: bad is failed: what bad.yaml says now is not in force: {why}");
        assert!(told.starts_with(&so) && told.ends_with("; mend bad.yaml\n"), "round {round}: {told}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        // What was written a moment ago counts.
        world.put("bad.yaml", STAYS);
        ends(&world, 0, words);
        world.remove("bad.yaml");
        world.wait_status("bad", "absent");
    }
    world.put("_defaults.yaml", "comand: true\n");
    world.put("web.yaml", STAYS);
    world.wait_status("web", "failed");
    let (_, told) = ends(&world, 1, &["wait", "web"]);
    assert!(told.contains("what _defaults.yaml says now is not in force") && told.ends_with("; mend _defaults.yaml\n"));
    // Who mends it while somebody waits is in time.
    let mut waits = begin(&world, &["wait", "web"]);
    world.remove("_defaults.yaml");
    assert!(matches!(code_of(&mut waits.0), Some(0 | 1)));
    ends(&world, 0, &["wait", "web"]);
}

#[test]
fn what_was_blocked_and_is_removed_fails_nobody_who_waits_for_all() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.wait_status("db", "running");
    for _ in 0..6 {
        world.put("web.yaml", STAYS);
        ends(&world, 0, &["wait", "web"]);
        world.put("web.yaml", "command: sleep 2000\ndependsOn: [nobody]\n");
        ends(&world, 1, &["wait", "--all"]);
        world.remove("web.yaml");
        assert_eq!(ends(&world, 0, &["wait", "--all"]).1, "");
        world.wait_status("web", "absent");
    }
    world.put("web.yaml", STAYS);
    ends(&world, 0, &["wait", "web"]);
    world.remove("web.yaml");
    let (_, told) = ends(&world, 4, &["wait", "web"]);
    assert!(told.contains("no service is named web"), "{told}");
}

#[test]
fn settings_that_are_refused_fail_who_waits_for_all_and_nobody_else() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    for _ in 0..3 {
        world.put("_plugd.yaml", "maxStarting: [\n");
        let (_, told) = ends(&world, 1, &["wait", "--all"]);
        let so = "plugd: what _plugd.yaml says now is not in force: _plugd.yaml:";
        assert!(told.starts_with(so) && told.ends_with("; mend _plugd.yaml\n"), "{told}");
        assert!(ends(&world, 0, &["wait"]).1.starts_with(so));
        assert_eq!(ends(&world, 0, &["wait", "web"]).1, "");
        world.remove("_plugd.yaml");
        assert_eq!(ends(&world, 0, &["wait", "--all"]).1, "");
    }
}

#[test]
fn who_waits_for_a_service_on_demand_is_told_that_a_call_would_not_start_it() {
    let world = World::running();
    let on_demand = format!("port: {}\nactivation: {{onDemand: true}}\n", free_port());
    for round in 0..4 {
        world.put("web.yaml", &format!("command: sleep 1000\n{on_demand}"));
        for words in [&["wait", "web"][..], &["wait", "--all"]] {
            assert_eq!(ends(&world, 0, words).1, "", "round {round}");
        }
        if round == 2 {
            world.remove("web.yaml");
            world.wait_status("web", "absent");
        }
        world.put("web.yaml", &format!("command: no-such-program\n{on_demand}"));
        let (_, told) = ends(&world, 1, &["wait", "web"]);
        let so = "plugd: web is waiting, but a call would not start it: no program \"no-such-program\"";
        assert!(told.starts_with(so) && told.ends_with("; mend web.yaml\n"), "round {round}: {told}");
        world.put("web.yaml", &format!("command: sleep 1000\n{on_demand}"));
        ends(&world, 0, &["wait", "--all"]);
        for (text, why) in [("command: no-such-program\n", "a call would not start it"), ("comand: true\n", "`comand`")]
        {
            world.put("web.yaml", &format!("{text}{on_demand}"));
            let (_, told) = ends(&world, 1, &["wait", "--all"]);
            assert!(told.contains(why) && told.ends_with("; mend web.yaml\n"), "round {round}: {told}");
        }
    }
    let file = world.root().join("web.yaml");
    std::fs::write(&file, format!("command: no-such-program\n{on_demand}")).expect("written");
    let (_, told) = ends(&world, 0, &["add", &file.display().to_string()]);
    assert!(told.contains("web is waiting, but a call would not start it"), "{told}");
    let (_, told) = ends(&world, 0, &["restart", "web"]);
    assert!(told.contains("web: a call would not start it"), "{told}");
    let on_demand = format!("port: {}\nactivation: {{onDemand: true}}\n", free_port());
    world.put("app.yaml", &format!("command: sleep 1000\ndependsOn: [nobody]\n{on_demand}"));
    let (_, told) = ends(&world, 1, &["wait", "app"]);
    assert!(told.contains("a call would not start it: there is no service nobody"), "{told}");
}

#[test]
fn an_order_to_what_would_not_start_again_says_so() {
    let world = World::running();
    for name in ["db.yaml", "web.yaml"] {
        world.put(name, STAYS);
    }
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.wait_status("web", "running");
    world.remove("db.yaml");
    let gone = |world: &World| world.status_file("web").is_some_and(|text| text.contains("there is no service db"));
    world.wait("the loss", gone);
    let (_, told) = ends(&world, 0, &["start", "web"]);
    assert!(told.starts_with("plugd: web would not start again: there is no service db\n"), "{told}");
    let (_, told) = ends(&world, 0, &["restart", "web"]);
    let so = "plugd: web ends now, and does not start again until that is mended: there is no service db\n";
    assert!(told.starts_with(so), "{told}");
    world.wait_status("web", "waiting");
}

#[test]
fn what_the_version_before_waits_for_is_told_as_the_cause() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.wait_status("db", "running");
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [nobody]\n");
    world.wait("the block", is_blocked);
    ends(&world, 0, &["stop", "db"]);
    crate::world::kill(pid, 9);
    world.wait_status("web", "waiting");

    let (said, _) = ends(&world, 3, &["status", "web"]);
    assert!(said.contains("  why          db is not ready\n"), "{said}");
    assert!(said.contains("  cause        db is stopped (StoppedByOperator)"), "{said}");
    assert!(said.contains("  depends on   db\n") && said.contains("the one before stays in force"), "{said}");
    let (_, told) = ends(&world, 0, &["start", "web"]);
    assert!(told.contains("web is of the version before what web.yaml says now, and starts as that:"), "{told}");
    ends(&world, 0, &["start", "db"]);
    world.wait_status("web", "running");
    let path = "{.status.problems[0].cause.type} {.status.problems[0].cause.services[0]}";
    let (said, _) = ends(&world, 0, &["get", "web", "-o", &format!("jsonpath={path}")]);
    assert_eq!(said, "DependencyNotReady nobody\n");
}

#[test]
fn an_edit_that_is_not_in_force_is_told_of_what_does_not_run_too() {
    let world = World::running();
    let crash_loop = "restart: {backoff: {initial: 60s}, limit: {max: 9}}";
    for (name, restart, status) in [("web", crash_loop, "unhealthy"), ("job", "restart: Never", "failed")] {
        world.put(&format!("{name}.yaml"), &format!("command: sh -c 'exit 3'\n{restart}\n"));
        world.wait_status(name, status);
        world.put(&format!("{name}.yaml"), "command: sleep 1000\nprt: 5\n");
        for words in [&["wait", name][..], &["wait", "--all"]] {
            let (_, told) = ends(&world, 1, words);
            let so = format!("{name} is {status}, and that is the version before: what {name}.yaml says now");
            assert!(told.contains(&so) && told.contains("unknown field `prt`"), "{told}");
            assert!(told.ends_with(&format!("; mend {name}.yaml\n")), "{told}");
        }
        let shown = world.ask(&["get", name]);
        assert!(shown.contains("ConfigInvalid: "), "{shown}");
        world.put(&format!("{name}.yaml"), STAYS);
        ends(&world, 0, &["wait", name]);
    }
}

#[test]
fn what_was_put_in_place_since_is_tried_before_anybody_who_waits_is_answered() {
    let world = World::running();
    let program = world.root().join("prog");
    let wants_it = format!("command: [{}, '1000']\n", program.display());
    let crash_loop = "command: sh -c 'exit 3'\nrestart: {backoff: {initial: 60s}, limit: {max: 9}}\n";
    for (before, status) in [(STAYS, "running"), (crash_loop, "unhealthy")] {
        world.put("web.yaml", before);
        world.wait_status("web", status);
        world.put("web.yaml", &wants_it);
        world.wait("the block", is_blocked);
        let (_, told) = ends(&world, 1, &["wait", "web"]);
        assert!(told.contains("ProgramNotFound"), "{told}");
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("made");
        ends(&world, 0, &["wait", "web"]);
        world.wait("its process to be told", |world| {
            let command = world.pid("web").and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
            command.is_some_and(|command| command.starts_with(program.as_os_str().as_encoded_bytes()))
        });
        std::fs::remove_file(&program).expect("removed");
    }
    // An order is of the new version, too.
    world.put("web.yaml", STAYS);
    ends(&world, 0, &["wait", "web"]);
    world.put("web.yaml", &wants_it);
    world.wait("the block", is_blocked);
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("made");
    assert_eq!(ends(&world, 0, &["restart", "web", "--wait"]).1, "");
}
