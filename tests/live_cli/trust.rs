//! check, diff, wait, explain, schema, init, doctor, completion, man, version, help: and who may ask.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::ask::{CRASHES, STAYS, begin, code_of, ends, err};
use crate::terminal::shown;
use crate::world::{World, environment};

#[test]
fn check_tells_errors_first_then_the_plan_and_changes_nothing() {
    let mut world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.stop();
    world.put("db.yaml", STAYS);
    world.put("off.yaml", "command: true\nenabled: false\n");
    world.put("files.yaml", "wrapper: files.sh\n");
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(said.contains("would start 2"), "{said}");
    world.run(&[]);
    world.wait_status("web", "running");
    world.put("broken.yaml", "comand: true\n");
    let (said, _) = ends(&world, 5, &["check"]);
    assert!(said.starts_with("error: broken.yaml:1:1: unknown field `comand`\n"), "{said}");
    assert!(said.contains("skip     files  WrapperNotFound"), "{said}");
    assert!(said.contains("skip     off  enabled: false"), "{said}");
}

#[test]
fn diff_tells_with_its_code_whether_anything_would_change() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    ends(&world, 0, &["diff"]);
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "command: sleep 2000\n").expect("written");
    let (said, _) = ends(&world, 1, &["diff", &file.display().to_string()]);
    assert!(said.contains("restart 1") && said.contains("command changed"), "what changed, by its field: {said}");
    assert!(!said.contains("apiVersion"), "{said}");
}

#[test]
fn wait_knows_ready_deleted_paths_and_the_time() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("mailer.yaml", CRASHES);
    world.wait_status("web", "running");
    ends(&world, 0, &["wait", "web"]);
    ends(&world, 0, &["wait", "web", "--for=jsonpath={.status}=running"]);
    ends(&world, 0, &["wait", "web", "--for=running"]);
    ends(&world, 0, &["wait", "web/0", "--for=running"]);
    ends(&world, 0, &["wait", "web", "--for=condition=Available"]);
    ends(&world, 0, &["wait", "web", "--for=condition=Registered=false"]);
    ends(&world, 0, &["wait", "web/0"]);
    ends(&world, 124, &["wait", "web/0", "--for=deleted", "--timeout", "50ms"]);
    ends(&world, 0, &["wait", "web/7", "--for=deleted"]);
    let (_, told) = ends(&world, 4, &["wait", "web/7", "--timeout", "50ms"]);
    assert!(told.contains("web has no instance 7"), "{told}");
    ends(&world, 0, &["wait", "never-was", "--for=deleted"]);
    let (_, told) = ends(&world, 124, &["wait", "--timeout", "200ms", "--for=jsonpath={.restarts}=77", "web"]);
    assert!(told.contains("waited 200ms: "), "{told}");
    ends(&world, 4, &["wait", "never-was", "--timeout", "50ms"]);
    ends(&world, 2, &["wait", "--for=deleted"]);
    ends(&world, 2, &["wait", "web", "--for=splendid"]);
    world.remove("mailer.yaml");
    ends(&world, 0, &["wait"]);
    world.put("db.yaml", "command: sleep 1000\nrequired: true\nreadinessProbe: {exec: {command: ['false']}}\n");
    world.wait_status("db", "starting");
    let (_, told) = ends(&world, 124, &["wait", "--timeout", "100ms"]);
    assert!(told.contains("db is starting") && told.contains("`plugd status db` tells "), "{told}");
    ends(&world, 3, &["wait", "db", "--timeout", "0s"]);
}

#[test]
fn who_has_waited_in_vain_is_told_what_it_waits_for() {
    let world = World::running();
    world.put("db.yaml", "command: sleep 1000\nreadinessProbe: {exec: {command: ['false']}}\n");
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.wait_status("web", "waiting");
    let waits = |words: &[&str]| ends(&world, 124, &[&["wait", "--timeout", "300ms"], words].concat()).1;
    let (said, _) = ends(&world, 3, &["status", "web"]);
    assert!(said.contains("  depends on   db\n"), "{said}");
    let told = waits(&["web"]);
    let so = "plugd: waited 300ms: web is waiting (DependencyNotReady): db is not ready";
    assert!(told.starts_with(so) && told.ends_with("; `plugd status web` tells more\n"), "{told}");
    let told = waits(&[]);
    assert!(told.contains(", web is waiting (DependencyNotReady); db: "), "{told}");
    let (_, told) = ends(&world, 124, &["restart", "web", "--wait", "--timeout", "300ms"]);
    assert!(told.starts_with(so), "{told}");

    // What runs is the version before, and the edit waits for somebody who is known.
    world.put("old.yaml", STAYS);
    world.wait_status("old", "running");
    world.put("old.yaml", "command: sleep 2000\ndependsOn: [db]\n");
    world.wait("the edit to be known", |world| {
        world.field("old", "manifest").is_some_and(|manifest| manifest.contains("generation: 2"))
    });
    let told = waits(&["old"]);
    let so = "plugd: waited 300ms: old's files are not in force yet: the new version waits: db is not ready; the one before runs on";
    assert!(told.starts_with(so), "{told}");
    world.put("db.yaml", "command: sleep 1000\nenabled: false\n");
    world.remove("web.yaml");
    world.wait_status("web", "absent");
    world.wait_status("db", "stopped (Disabled)");
    let told = waits(&["--all"]);
    assert!(
        told.starts_with("plugd: waited 300ms: old's files are not in force yet: the new version waits: db is not"),
        "{told}"
    );
    ends(&world, 0, &["wait", "--timeout", "300ms"]);
    // A health check of what serves does not stand for as long as the edit waits.
    let began = std::time::Instant::now();
    ends(&world, 0, &["wait", "--timeout", "1m"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    let (said, _) = ends(&world, 0, &["status", "old"]);
    assert!(!said.contains("  depends on   "), "what is in force depends on nobody: {said}");
}

#[test]
fn who_waits_for_long_is_told_what_for_and_a_health_check_only_how_it_ended() {
    let world = World::running();
    world.put("db.yaml", "command: sleep 1000\nreadinessProbe: {exec: {command: ['false']}}\n");
    world.wait_status("db", "starting");
    let (_, told) = ends(&world, 124, &["wait", "db", "--timeout", "700ms"]);
    assert!(told.lines().count() == 1, "{told}");
    assert!(told.contains("waited 700ms: db is starting"), "{told}");
    let seen = shown(&world, 80, &[], "$plugd wait db --timeout 1500ms");
    assert_eq!(seen.matches("waiting: db is starting").count(), 1, "the same is not told twice: {seen}");
}

#[test]
fn check_knows_who_owns_a_name_and_what_is_withheld() {
    let mut world = World::running();
    world.put("z-first.yaml", "name: web\ncommand: sleep 1000\n");
    world.put_script("clock", "#!/bin/sh\nexec sleep 1000\n");
    world.put("tick.yaml", "wrapper: clock\n");
    world.wait_status("web", "running");
    world.wait_status("tick", "running");
    world.remove("tick.yaml");
    world.wait_status("tick", "absent");
    // By name it would be the first.
    world.put("a-second.yaml", "name: web\ncommand: sleep 2000\n");
    world.wait("the conflict", |world| ends(world, 0, &["get"]).0.contains("a-second.yaml"));
    // The memory is 200 ms behind the facts.
    let knows = |world: &World| {
        let said = ends(world, 5, &["check"]).0;
        said.contains(
            "a-second.yaml: NameConflict: a-second.yaml and z-first.yaml both declare web; z-first.yaml keeps it",
        ) && said.contains("warning: clock starts again when it is written again")
    };
    world.wait("check to know it while the node runs", knows);
    world.stop();
    assert!(knows(&world), "and of one that is stopped: {}", ends(&world, 5, &["check"]).0);
}

#[test]
fn a_directory_that_is_not_the_node_s_is_compared_with_it_and_that_is_said() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let other = world.root().join("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::write(other.join("new.yaml"), STAYS).expect("written");
    let (said, told) = ends(&world, 0, &["check", &other.display().to_string()]);
    assert!(said.contains("stop     web  no manifest declares it"), "{said}");
    let of = world.dir();
    let (other, of) = (other.display(), of.display());
    assert_eq!(told, format!("plugd: {other} is compared with the node of {of}, as if it lay there\n"));
    assert_eq!(ends(&world, 0, &["check", &of.to_string()]).1, "");
    assert_eq!(ends(&world, 0, &["check"]).1, "");
}

#[test]
fn check_says_that_an_update_is_blocked() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.put("web.yaml", "command: no-such-program\n");
    world.wait("the update to be blocked", |world| {
        world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"))
    });
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(said.contains("unchanged 0; blocked 1\n"), "{said}");
    assert!(said.contains("  blocked  web  the new version would not start"), "{said}");
    ends(&world, 1, &["diff"]);
}

#[test]
fn a_program_that_ends_at_once_is_nothing_to_wait_for() {
    let world = World::running();
    for service in ["a", "b", "c"] {
        world.put(&format!("{service}.yaml"), "command: \"false\"\n");
        let (_, told) = ends(&world, 124, &["wait", service, "--timeout", "1s"]);
        assert!(told.contains(&format!("{service} is ")), "{told}");
    }
    ends(&world, 124, &["add", "--wait", "--timeout", "1s", "d", "--", "false"]);
    let patience = ["start", "a", "--wait", "--timeout", "1s"];
    ends(&world, 124, &patience);
    world.put("web.yaml", STAYS);
    ends(&world, 0, &["wait", "web"]);
}

#[test]
fn a_job_that_failed_for_good_is_not_waited_for() {
    let world = World::running();
    world.put("job.yaml", "command: [sh, -c, 'exit 7']\nrestart: Never\n");
    let (_, told) = ends(&world, 1, &["wait", "job"]);
    assert!(told.contains("job is failed (Error) and does not run again by itself: exited with 7"), "{told}");
    // What was written a moment ago may do better.
    for round in 0..5 {
        world.put("job.yaml", &format!("command: sleep 0.{round}\nrestart: Never\n"));
        ends(&world, 0, &["wait", "job"]);
        world.put("job.yaml", "command: [sh, -c, 'exit 7']\nrestart: Never\n");
        ends(&world, 1, &["wait", "job"]);
    }
}

#[test]
fn wait_returns_with_the_fact() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    // The middle of several, for a machine may be busy once; the bar is a person's patience.
    let mut took: Vec<Duration> = (0..5)
        .map(|_| {
            ends(&world, 0, &["stop", "web", "--wait"]);
            let mut waiting = begin(&world, &["wait", "web", "--timeout", "20s"]);
            ends(&world, 0, &["start", "web", "--wait"]);
            let fact = Instant::now();
            assert_eq!(code_of(&mut waiting.0), Some(0));
            fact.elapsed()
        })
        .collect();
    took.sort();
    assert!(took[2] < Duration::from_millis(500), "{took:?}");
}

/// What a wrapper or an env file says is as much a part of the service as its manifest.
#[test]
fn wait_answers_for_the_files_that_lie_there_now() {
    let world = World::running();
    let write = |number: u32| {
        world.put_script("wrappers/own.sh", &format!("#!/bin/sh\n# {number}\nexec sleep 1000\n"));
    };
    write(0);
    world.put("web.yaml", "wrapper: own.sh\n");
    world.put("x.env", "N=0\n");
    world.put("env.yaml", "command: sleep 1000\nenvFrom: [x.env]\n");
    world.wait_status("web", "running");
    world.wait_status("env", "running");
    let pid = |name: &str| ends(&world, 0, &["get", name, "-o", "jsonpath={.status.instances[0].pid}"]).0;
    for number in 1..=8 {
        let before = (pid("web"), pid("env"));
        write(number);
        world.put("x.env", &format!("N={number}\n"));
        ends(&world, 0, &["wait", "web", "env"]);
        let now = (pid("web"), pid("env"));
        assert!(before.0 != now.0 && before.1 != now.1, "round {number}: {before:?}, {now:?}");
    }
    let begun = Instant::now();
    ends(&world, 0, &["wait", "web", "env"]);
    // The files that lie there are waited for up to 2 s.
    assert!(begun.elapsed() < Duration::from_secs(2), "what is in force is not waited for: {:?}", begun.elapsed());
}

/// So are its drop-ins and the defaults.
#[test]
fn wait_answers_for_the_drop_ins_and_defaults_that_lie_there_now() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = || ends(&world, 0, &["get", "web", "-o", "jsonpath={.status.instances[0].pid}"]).0;
    let mut before = pid();
    let mut restarted = |what: &str| {
        ends(&world, 0, &["wait", "web"]);
        let now = pid();
        assert_ne!(before, now, "{what}");
        before = now;
    };
    std::fs::create_dir(world.path("web.yaml.d")).expect("made");
    for round in 0..4 {
        world.put("web.yaml.d/10.yaml", &format!("env: {{ROUND: \"{round}\"}}\n"));
        restarted("a drop-in was written");
        world.put("_defaults.yaml", &format!("env: {{DEFAULT: \"{round}\"}}\n"));
        restarted("the defaults were written");
        world.remove("web.yaml.d/10.yaml");
        restarted("a drop-in was removed");
        world.remove("_defaults.yaml");
        restarted("the defaults were removed");
    }
    for file in ["web.yaml.d/10.yaml", "_defaults.yaml"] {
        world.put(file, "comand: true\n");
        let (_, told) = ends(&world, 1, &["wait", "web"]);
        let why = format!("{file}:1:1: unknown field `comand`");
        assert!(told.contains(&format!("what {file} says now is not in force: {why}")), "{told}");
        // Of the defaults it may be the first version.
        let whose = if file == "_defaults.yaml" { "" } else { "by the version before: " };
        assert!(told.contains(&format!("web is running, but {whose}what {file}")), "{told}");
        world.remove(file);
        ends(&world, 0, &["wait", "web"]);
    }
}

#[test]
fn add_wait_answers_for_what_was_added() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let edit = world.root().join("web.yaml");
    std::fs::write(&edit, "command: sleep 2000\ndependsOn: [nobody]\n").expect("written");
    let (_, told) = ends(&world, 1, &["add", &edit.display().to_string(), "--wait"]);
    assert!(told.contains("web is running, but by the version before"), "{told}");
}

#[test]
fn a_blocked_edit_fails_who_waits_for_all_and_no_health_check() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    world.wait_status("db", "running");
    world.put("web.yaml", "command: sleep 2000\ndependsOn: [nobody]\n");
    for health in [&["wait"][..], &["wait", "--timeout", "1s"]] {
        let (_, told) = ends(&world, 0, health);
        assert!(told.contains("web is running, but by the version before: what web.yaml says"), "{told}");
        assert!(told.contains("there is no service nobody") && told.contains("; mend web.yaml"), "{told}");
    }
    let (_, told) = ends(&world, 1, &["wait", "--all"]);
    assert!(told.contains("there is no service nobody") && told.contains("; mend web.yaml"), "{told}");

    world.put("web.yaml", "command: sleep 2000\n");
    world.put("new.yaml", STAYS);
    assert_eq!(ends(&world, 0, &["wait", "--all"]).1, "");
    world.wait_status("new", "running");
    world.wait_status("web", "running");
    let pid: String = ends(&world, 0, &["get", "web", "-o", "jsonpath={.status.instances[0].pid}"]).0;
    environment(pid.trim().parse().expect("a pid"));
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
    assert_eq!(command.expect("it lives"), "sleep\u{0}2000\u{0}");
}

#[test]
fn who_waits_is_told_the_drop_in_that_blocks_it() {
    let world = World::running();
    world.put("web.yml", STAYS);
    world.wait_status("web", "running");
    std::fs::create_dir(world.path("web.yaml.d")).expect("made");
    for (drop_in, why) in [
        ("dependsOn: [nobody]\n", "there is no service nobody"),
        ("command: no-such-program\n", "no-such-program"),
        ("comand: true\n", "unknown field `comand`"),
    ] {
        world.put("web.yaml.d/10.yaml", drop_in);
        let (_, told) = ends(&world, 1, &["wait", "web"]);
        assert!(told.contains("what web.yaml.d/10.yaml says now is not in force") && told.contains(why), "{told}");
        assert!(told.ends_with("; mend web.yaml.d/10.yaml\n"), "{told}");
    }
    world.put("web.yaml.d/10.yaml", "dependsOn: [nobody]\n");
    let (_, told) = ends(&world, 1, &["wait", "web"]);
    assert!(told.contains("there is no service nobody"), "{told}");
    let (_, told) = ends(&world, 0, &["restart", "web"]);
    assert!(told.ends_with("; mend web.yaml.d/10.yaml\n"), "{told}");
}

#[test]
fn another_user_is_told_that_it_may_not() {
    let world = World::running();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    // The directory may be seen by all, the program too; the socket may not.
    let program = world.root().join("plugd");
    World::copy_program(&program);
    std::fs::set_permissions(world.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut command = Command::new(&program);
    command.arg("--dir").arg(world.dir()).arg("get").env("PLUGD_STATE_DIR", world.state());
    let output = command.uid(54_321).gid(54_321).output().expect("plugd can be started");
    assert_eq!(output.status.code(), Some(7), "{}", err(&output));
    assert!(err(&output).contains("permission denied; run it as the owner"), "{}", err(&output));
}

#[test]
fn what_needs_no_node_works_without_one() {
    let world = World::empty();
    assert!(ends(&world, 0, &["explain", "port"]).0.starts_with("port\n"));
    let settings = ends(&world, 0, &["explain", "settings"]).0;
    for setting in plugd::model::manifest::setting_names() {
        assert!(settings.contains(&format!("\n  {setting} ")), "{setting}: {settings}");
        assert!(ends(&world, 0, &["explain", setting]).0.starts_with(&format!("{setting}\n")));
    }
    assert!(ends(&world, 1, &["explain", "lisen"]).1.contains("(did you mean listen?)"));
    let (_, told) = ends(&world, 1, &["explain", "prot"]);
    assert!(told.contains("did you mean port?"), "{told}");
    let (_, told) = ends(&world, 1, &["explain", "readinessProbe.htpGet"]);
    assert!(told.contains("did you mean readinessProbe.httpGet?"), "{told}");
    let schema: serde_json::Value = serde_json::from_str(&ends(&world, 0, &["schema"]).0).expect("json");
    assert!(schema["properties"]["command"].is_object() || schema["$defs"].is_object());
    let there = world.root().join("fresh");
    let (said, _) = ends(&world, 0, &["init", &there.display().to_string()]);
    assert!(said.contains("hello.yaml") && there.join("hello.yaml").exists(), "{said}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(ends(&world, 0, &["completion", shell]).0.contains("plugd"));
    }
    ends(&world, 2, &["completion", "abacus"]);
    assert!(ends(&world, 0, &["man"]).0.contains(".TH plugd 1"));
    assert!(ends(&world, 0, &["version"]).0.starts_with("plugd "));
    assert!(ends(&world, 0, &["doctor"]).0.contains("Linux"));
    for words in [&["get"][..], &["status", "web"], &["stop", "web"], &["wait", "--timeout", "50ms"]] {
        ends(&world, 6, words);
    }
    ends(&world, 2, &["splendid"]);
    ends(&world, 2, &["get", "--splendid"]);
    ends(&world, 2, &["stop"]);
}

#[test]
fn help_fits_eighty_columns() {
    let world = World::empty();
    for words in [&["--help"][..], &["help", "--all"]] {
        let (said, _) = ends(&world, 0, words);
        assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    }
    assert!(ends(&world, 0, &["--help"]).0.lines().count() <= 24, "one screen");
}

#[test]
fn check_foretells_what_a_start_would_be_refused_for_and_what_to_do() {
    let world = World::empty();
    world.put("fine.yaml", STAYS);
    world.put("program.yaml", "command: no-such-program\n");
    world.put("place.yaml", "command: sleep 1\nworkingDir: /nowhere/at/all\n");
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(said.contains("would start 1,") && said.contains("; would not start 2\n"), "{said}");
    assert!(said.contains("  cannot   program  ProgramNotFound: no program \"no-such-program\""), "{said}");
    assert!(said.contains("install it, or correct `command`"), "{said}");
    assert!(said.contains("  cannot   place  WorkingDirNotFound"), "{said}");

    world.put("user.yaml", "command: sleep 1\nuser: nobody-of-that-name\nrequired: true\n");
    world.put("env.yaml", "command: sleep 1\nenvFrom: [none.env]\nrequired: true\n");
    let (said, _) = ends(&world, 5, &["check"]);
    assert!(said.contains("  fail     user  UserNotFound"), "{said}");
    assert!(said.contains("  fail     env  EnvFileNotFound"), "{said}");

    let alone = world.path("program.yaml").display().to_string();
    let (said, _) = ends(&world, 0, &["check", &alone]);
    assert!(said.contains("warning: program would not start on this machine: ProgramNotFound"), "{said}");
}

#[test]
fn check_warns_of_one_log_that_several_services_write() {
    let world = World::empty();
    world.put("_defaults.yaml", "logs: {path: ../all.log}\n");
    world.put("db.yaml", "command: sleep 1\nlogs: {path: ../db.log}\n");
    world.put("api.yaml", STAYS);
    world.put("web.yaml", STAYS);
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(
        said.contains("warning: api and web write one log, ") && said.contains("/all.log: their lines mix"),
        "{said}"
    );
    assert_eq!(said.matches("their lines mix").count(), 1, "{said}");
    world.put("_defaults.yaml", "restart: Always\n");
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(!said.contains("their lines mix"), "{said}");
}

#[test]
fn check_warns_of_one_port_that_several_services_have() {
    let world = World::empty();
    world.put("api.yaml", "command: sleep 1\nport: 8081\n");
    world.put("web.yaml", "command: sleep 1\nport: 8080\nreplicas: 3\n");
    world.put("off.yaml", "command: sleep 1\nport: 8081\nenabled: false\n");
    world.put("db.yaml", "command: sleep 1\nport: 5432\n");
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(said.contains("warning: api and web have port 8081: whichever starts first holds it"), "{said}");
    assert_eq!(said.matches("have port").count(), 1, "{said}");
    world.put("web.yaml", "command: sleep 1\nport: 8080\n");
    let (said, _) = ends(&world, 0, &["check"]);
    assert!(!said.contains("have port"), "{said}");
}

#[test]
fn who_brings_mcp_servers_on_stdin_is_told_at_once_that_they_cannot_be_run_yet() {
    let world = World::empty();
    world.put("mcp/time.sh", "#!/bin/sh\n");
    world.put("servers.json", "{\"mcpServers\": {\"time\": {\"command\": \"mcp-server-time\"}}}\n");
    world.put_script("clock.sh", "#!/bin/sh\n# plugd: mcp: stdio\n");
    let (said, _) = ends(&world, 5, &["check"]);
    let told = said.lines().find(|line| line.contains("clock") && line.contains("NotYetSupported"));
    let told = told.unwrap_or_else(|| panic!("clock in\n{said}"));
    assert!(told.contains("nothing to run here: an MCP server on stdin cannot be run by this version yet"), "{told}");
    for who in ["mcp/: ", "servers.json: "] {
        let told = said.lines().find(|line| line.contains(who) && line.contains("not supported yet"));
        let told = told.unwrap_or_else(|| panic!("{who} in\n{said}"));
        assert!(told.contains("on stdin cannot be run by this version yet"), "{told}");
        assert!(!told.contains("mcp: stdio") && told.contains("`command` and `port`"), "{told}");
    }
}
