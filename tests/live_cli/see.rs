//! get, status, events: each state as a person meets it.

use std::time::Duration;

use crate::ask::{CRASHES, STAYS, begin, ends, out};
use crate::terminal::shown;
use crate::world::{World, free_port};

#[test]
fn get_shows_every_state_with_its_reason() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &format!("command: python3 -m http.server $(PORT) --bind 127.0.0.1\nport: {port}\n"));
    // Never ready, not even for the moment in which an unchecked process is.
    world.put("mailer.yaml", &format!("{CRASHES}readinessProbe: {{exec: {{command: ['false']}}}}\n"));
    world.put("broken.yaml", "comand: sleep 100\nport: eighty\n");
    world.put("files.yaml", "wrapper: files.sh\n");
    world.put("migrate.yaml", "command: echo migrated\nrestart: Never\n");
    world.put("off.yaml", "command: sleep 1000\nenabled: false\n");
    world.put("waits.yaml", "command: sleep 1000\ndependsOn: [mailer, nobody]\n");
    world.put(
        "three.yaml",
        "command: [sh, -c, '[ $PLUGD_INSTANCE != three/1 ] || exit 3; exec sleep 1000']\nreplicas: 3\n",
    );
    for (name, status) in [
        ("web", "healthy"),
        ("mailer", "unhealthy (CrashLoopBackOff)"),
        ("broken", "failed (ConfigInvalid)"),
        ("files", "skipped (WrapperNotFound)"),
        ("migrate", "completed"),
        ("off", "stopped (Disabled)"),
        ("waits", "waiting (DependencyNotReady)"),
        ("three", "degraded (InstanceDown)"),
    ] {
        world.wait_status(name, status.split(" (CrashLoop").next().expect("a word"));
    }
    // Now and then one of the three is tried again.
    let table = std::cell::RefCell::new(String::new());
    world.wait("a look between two lives", |world| {
        table.replace(ends(world, 0, &["get"]).0);
        table.borrow().lines().any(|line| line.starts_with("three") && line.contains("2/3"))
    });
    let table = table.into_inner();
    for (name, ready, status) in [
        ("broken", "0/1", "failed (ConfigInvalid)"),
        ("files", "0/1", "skipped (WrapperNotFound)"),
        ("migrate", "0/1", "completed"),
        ("off", "0/1", "stopped (Disabled)"),
        ("three", "2/3", "degraded (InstanceDown)"),
        ("waits", "0/1", "waiting (DependencyNotReady)"),
        ("web", "1/1", "healthy"),
    ] {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{table}"));
        assert!(line.contains(ready) && line.contains(status), "{line}");
    }
    assert!(!table.contains("\\n"), "one sentence of several is shown, not their escaped sum:\n{table}");

    let codes = [("web", 0), ("migrate", 0), ("three", 0), ("broken", 3), ("files", 3), ("off", 3), ("waits", 3)];
    for (name, code) in codes {
        ends(&world, code, &["status", name]);
    }
    let (said, _) = ends(&world, 3, &["status", "waits"]);
    assert!(said.contains("nobody: no manifest declares it"), "{said}");
    assert!(said.contains("  cause        mailer is "), "the chain of causes: {said}");
    let (said, _) = ends(&world, 3, &["status", "broken"]);
    assert!(said.contains("did you mean `command`?\n"), "{said}");
    assert!(said.contains("it never was valid"), "{said}");
    assert!(!said.contains("is in force"), "{said}");
}

#[test]
fn a_crash_loop_is_told_cause_first() {
    let world = World::running();
    world.put("mailer.yaml", CRASHES);
    world.wait("five ends", |world| {
        world.field("mailer", "restarts").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 5)
    });
    let said = std::cell::RefCell::new(String::new());
    world.wait("a look between two lives", |world| {
        let output = world.plugd(&["status", "mailer"]);
        said.replace(out(&output));
        output.status.code() == Some(3) && said.borrow().contains("times running: \"bind")
    });
    let said = said.into_inner();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("mailer  unhealthy (CrashLoopBackOff)  0/1 ready"), "{said}");
    assert!(lines[1].starts_with("  why") && lines[1].contains("exits with 3"), "{said}");
    assert!(lines[1].contains("bind: address already in use"), "{said}");
    assert!(lines[2].starts_with("  next") && lines[2].contains("`plugd start mailer`"), "{said}");
    assert!(said.contains("\nlast output\n  connecting\n"), "{said}");
}

/// It ends long before a check could look.
#[test]
fn who_holds_the_port_of_one_that_fails_is_told_everywhere() {
    let world = World::running();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = stranger.local_addr().expect("an address").port();
    world.put("web.yaml", &format!("command: \"false\"\nport: {port}\nreadinessProbe: none\n"));
    let holder = format!("port {port} is held by pid {} (", std::process::id());
    world.wait("two ends", |world| {
        world.field("web", "restarts").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n >= 2)
    });
    for verb in [&["get", "web"][..], &["status", "web"], &["events", "web"]] {
        world.wait(&format!("plugd {verb:?} to name it"), |world| out(&world.plugd(verb)).contains(&holder));
    }
    let said = out(&world.plugd(&["events", "web"]));
    assert!(said.contains("web exited with 1 after ") && said.contains(&format!("s; {holder}")), "{said}");
}

#[test]
fn a_file_that_makes_no_service_has_a_row_and_a_status() {
    let world = World::running();
    world.put("a file.yaml", "command: sleep 1\n");
    world.wait("the problem", |world| ends(world, 0, &["get"]).0.contains("a file.yaml"));
    let (said, _) = ends(&world, 3, &["status", "a file.yaml"]);
    assert!(said.contains("makes no service") && said.contains("why"), "{said}");
}

#[test]
fn every_output_format_of_get_is_what_its_name_says() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 1000\nlabels: {tier: front}\ncapabilities: [search]\n");
    world.put("db.yaml", STAYS);
    world.wait_status("web", "running");
    world.wait_status("db", "running");
    ends(&world, 0, &["wait", "web", "db", "--timeout", "10s"]);
    assert_eq!(ends(&world, 0, &["get", "-o", "name"]).0, "db\nweb\n");
    assert_eq!(ends(&world, 0, &["get", "-o", "name", "-l", "tier=front"]).0, "web\n");
    assert_eq!(ends(&world, 0, &["get", "-o", "name", "--capability", "search"]).0, "web\n");
    assert_eq!(ends(&world, 0, &["get", "pods", "-o", "jsonpath={.items[*].name}"]).0, "db web\n");
    assert_eq!(ends(&world, 0, &["get", "web", "-o", "jsonpath={.status.phase}"]).0, "Running\n");
    let list: serde_json::Value = serde_json::from_str(&ends(&world, 0, &["get", "-o", "json"]).0).expect("json");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    let object: serde_yaml::Value =
        serde_yaml::from_str(&ends(&world, 0, &["get", "web", "-o", "yaml"]).0).expect("yaml");
    assert_eq!(object["kind"], "Service");
    let json: serde_json::Value =
        serde_json::from_str(&ends(&world, 0, &["get", "web", "-o", "json"]).0).expect("json");
    // All but what is as of the moment in which somebody asks.
    let steady = |mut object: serde_json::Value| {
        object["status"].as_object_mut().expect("a status").remove("vitals").expect("vitals");
        object
    };
    let of_list = |mut list: serde_json::Value| {
        let items = list["items"].as_array_mut().expect("items");
        items.iter_mut().for_each(|item| *item = steady(item.take()));
        list
    };
    let (list, json) = (of_list(list), steady(json));
    assert_eq!(steady(serde_json::to_value(&object).expect("plain")), json, "one object, printed in two ways");
    assert_eq!((&list["kind"], &list["items"][1]), (&"List".into(), &json), "and a list is one of the same");
    let yaml: serde_yaml::Value = serde_yaml::from_str(&ends(&world, 0, &["get", "-o", "yaml"]).0).expect("yaml");
    assert_eq!(of_list(serde_json::to_value(&yaml).expect("plain")), list);
    let few: serde_json::Value =
        serde_json::from_str(&ends(&world, 0, &["get", "-l", "tier=back", "-o", "json"]).0).expect("json");
    assert_eq!(few["items"], serde_json::json!([]));
    assert_eq!(object["spec"]["command"][0], "sleep", "the spec itself, not an envelope in an envelope");
    let (effective, _) = ends(&world, 0, &["get", "web", "-o", "yaml", "--effective"]);
    assert!(effective.contains("# web.yaml"), "{effective}");
    let (wide, _) = ends(&world, 0, &["get", "-o", "wide"]);
    assert!(wide.contains(&world.pid("web").expect("a pid").to_string()) && wide.contains("web.yaml"), "{wide}");
    let (summary, _) = ends(&world, 0, &["get", "--summary"]);
    assert!(summary.starts_with("2 services: 2 running; 100 % healthy\nstarted:  db, web\n"), "{summary}");
    ends(&world, 2, &["get", "-o", "splendid"]);
    ends(&world, 1, &["get", "web", "-o", "jsonpath={.nothing}"]);
}

#[test]
fn get_watch_prints_a_line_for_each_change() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let mut watching = begin(&world, &["get", "-w", "--no-headers"]);
    let mut lines = watching.lines();
    let first = lines.next().expect("a line");
    assert!(first.starts_with("web") && first.contains("running"), "{first}");
    ends(&world, 0, &["stop", "web"]);
    let stopped = lines.find(|line| line.contains("stopped (StoppedByOperator)"));
    assert!(stopped.is_some());
}

#[test]
fn the_age_is_that_of_the_process() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.put("gate", "");
    world.put(
        "late.yaml",
        &format!(
            "command: sleep 1000\nreadinessProbe: {{exec: {{command: [test, '!', -e, {}]}}, period: 100ms}}\n",
            world.path("gate").display()
        ),
    );
    world.wait_status("late", "starting");
    std::thread::sleep(Duration::from_millis(1100));
    world.remove("gate");
    world.wait_status("late", "healthy");
    let (table, _) = ends(&world, 0, &["get", "late", "--no-headers"]);
    let age = table.split_whitespace().nth(4).expect("an age");
    assert_ne!(age, "0s", "it got ready just now and is a second old: {table}");
}

#[test]
fn events_and_the_past_keep_to_the_width_of_a_terminal() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.put("web.yaml", "command: sleep 2000\ndependsOn: [some-other-service-that-nobody-declares]\n");
    world.wait("the block", |world| ends(world, 0, &["events", "web"]).0.contains("UpdateBlocked"));
    let whole = ends(&world, 0, &["events", "web"]).0;
    assert!(
        whole.lines().any(|line| line.len() > 80 && line.contains("  ! UpdateBlocked  the new version")),
        "{whole}"
    );
    for verb in ["events", "history web"] {
        let seen = shown(&world, 80, &[("NO_COLOR", "1")], &format!("$plugd {verb}"));
        assert!(seen.lines().all(|line| line.chars().count() <= 80), "{seen}");
    }
    let seen = shown(&world, 80, &[("NO_COLOR", "1")], "$plugd events web");
    assert!(seen.contains("  web  ! UpdateBlocked\n  the new version would not start"), "{seen}");
    // Nothing is lost, only folded.
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(words(&seen), words(&ends(&world, 0, &["events", "web"]).0));
}

#[test]
fn events_tell_what_happened_and_go_on_with_w() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.wait("both to be events", |world| {
        let said = ends(world, 0, &["events", "web"]).0;
        said.contains("Declared") && said.contains("web runs as pid")
    });
    let mut watching = begin(&world, &["events", "-w", "-o", "json", "db"]);
    let mut lines = watching.lines();
    world.put("db.yaml", STAYS);
    let spawned = lines.find(|line| line.contains("\"Spawned\"")).expect("it is told");
    let event: serde_json::Value = serde_json::from_str(&spawned).expect("json");
    assert_eq!(event["service"], "db");
    // Of one that is gone there is history.
    ends(&world, 0, &["rm", "web"]);
    assert!(ends(&world, 0, &["events", "web"]).0.contains("Withdrawn"));
    ends(&world, 4, &["events", "never-was"]);
}

#[test]
fn status_without_a_controller_tells_what_plugd_last_wrote() {
    let mut world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.stop();
    let (said, told) = ends(&world, 6, &["status", "web"]);
    assert!(told.contains("plugd does not run for") && told.contains("this is what it last wrote:"), "{told}");
    assert!(said.contains("# web  stopped (ControllerStopped)") && said.contains("service: web"), "{said}");
    let (said, _) = ends(&world, 6, &["status", "nobody"]);
    assert!(said.is_empty(), "{said}");
}

#[test]
fn the_effective_manifest_is_what_the_directory_makes_of_all_its_files() {
    let world = World::running();
    std::fs::create_dir(world.path("web.yaml.d")).expect("made");
    std::fs::write(world.path("web.yaml.d/10.yaml"), "args: [\"7\"]\n").expect("written");
    world.put("web.yml", "command: sleep 1000\n");
    world.put_script("s.sh", "#!/bin/sh\n# plugd: workingDir: /tmp\nexec sleep 1000\n");
    world.wait_status("web", "running");
    world.wait_status("s", "running");
    let effective = |name: &str| ends(&world, 0, &["get", name, "-o", "yaml", "--effective"]).0;
    let web = effective("web");
    assert!(web.contains("'7'") && web.contains("web.yaml.d/10.yaml") && web.contains("web.yml"), "{web}");
    let script = effective("s");
    assert!(script.contains("workingDir: /tmp") && script.contains("s.sh"), "{script}");
    // Refused since: the version before is what is in force.
    world.put("web.yml", "comand: sleep 1000\n");
    world.wait("the refusal", |world| world.status_file("web").is_some_and(|text| text.contains("rejected")));
    assert!(effective("web").contains("'7'"), "{}", effective("web"));
}

#[test]
fn readyz_and_wait_say_the_same() {
    let world = World::running();
    world.put(
        "half.yaml",
        "command: [sh, -c, '[ $PLUGD_INSTANCE = half/0 ] || exit 3; exec sleep 1000']\nreplicas: 2\nrequired: true\n",
    );
    world.wait_status("half", "degraded");
    let (told, _) = ends(&world, 124, &["wait", "--timeout", "1s"]);
    world.wait(&format!("the node's status to say the same: {told}"), |world| {
        world.node_status().is_some_and(|node| node.contains("ready: false"))
    });
}

#[test]
fn what_is_in_force_with_a_warning_is_valid() {
    let world = World::running();
    let text = "command: sleep 1003\nreplicas: 2\nschedule: \"0 3 * * *\"\nmcp: http\nport: 28399\n";
    world.put("w.yaml", text);
    world.wait_status("w", "waiting");
    let object: serde_json::Value =
        serde_json::from_str(&ends(&world, 0, &["get", "w", "-o", "json"]).0).expect("JSON");
    let conditions = object.pointer("/status/conditions").and_then(|all| all.as_array()).expect("conditions");
    let valid = conditions.iter().find(|one| one["type"] == "Valid").expect("Valid");
    assert_eq!(valid["status"], "True", "{valid}");
    let problems = world.field("w", "problems").expect("a warning");
    assert!(problems.contains("ConfigSuspicious") && !problems.contains("ConfigInvalid"), "{problems}");
    assert!(problems.contains("replicas") && problems.contains("mcp"), "each of them: {problems}");
    // What is refused is another matter.
    world.put("w.yaml", "comand: sleep 1\n");
    world.wait("a refusal", |world| {
        world.field("w", "problems").is_some_and(|told| told.contains("type: ConfigInvalid"))
    });
}

#[test]
fn what_does_not_run_is_no_news_to_the_next_controller() {
    let world = World::running();
    world.put("done.yaml", "command: \"true\"\nrestart: Never\n");
    world.put("failed.yaml", "command: \"false\"\nrestart: Never\n");
    let slowly = "{backoff: {initial: 600s, max: 600s}}";
    world.put("tries.yaml", &format!("command: \"false\"\nrestart: {slowly}\n"));
    world.put("wrong.yaml", "comand: true\n");
    world.put("stopped.yaml", STAYS);
    world.wait_status("stopped", "running");
    ends(&world, 0, &["stop", "stopped", "--wait"]);
    let words = [
        ("done", "completed"),
        ("failed", "failed (Error)"),
        ("tries", "unhealthy (BackOff)"),
        ("wrong", "failed (ConfigInvalid)"),
        ("stopped", "stopped (StoppedByOperator)"),
    ];
    for (name, word) in words {
        world.wait_status(name, word);
    }
    let since = |world: &World| words.map(|(name, word)| (name, word, world.field(name, "since")));
    let told = since(&world);
    for _ in 0..2 {
        // The times are told in seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let before = world.controller_pid().expect("a controller");
        crate::world::kill(before, 9);
        world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != before));
        for (name, word) in words {
            world.wait_status(name, word);
        }
        assert_eq!(since(&world), told);
    }
}

#[test]
fn what_runs_again_and_is_told_as_ready_ends_as_that() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    crate::world::kill(pid, 9);
    world.wait("the next life", |world| world.pid("web").is_some_and(|next| next != pid));
    world.wait_status("web", "running");
    let (said, _) = ends(&world, 0, &["status", "web"]);
    assert!(said.contains("running  1/1 ready") && said.contains("restarts     1"), "{said}");
}
