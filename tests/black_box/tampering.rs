//! What others do to the files of plugd: status files, the run directory, the whole directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::world::{World, command, kill, lives};

#[test]
fn a_status_file_that_is_deleted_or_overwritten_is_written_again() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let before = world.status_file("web").expect("a status");
    let stage = world.root().join("stage");
    let ways: [(&str, &dyn Fn()); 4] = [
        ("deleted", &|| fs::remove_file(world.path("web.status")).expect("removed")),
        ("written to", &|| fs::write(world.path("web.status"), "status: healthy\n").expect("written")),
        ("replaced", &|| {
            fs::write(&stage, "status: healthy\n").expect("written");
            fs::rename(&stage, world.path("web.status")).expect("renamed");
        }),
        ("moved away", &|| fs::rename(world.path("web.status"), &stage).expect("renamed")),
    ];
    for (way, tamper) in ways {
        tamper();
        let asked = Instant::now();
        world.wait(&format!("the status that was {way}"), |world| {
            world.status_file("web").is_some_and(|text| text.lines().next() == before.lines().next())
        });
        assert!(asked.elapsed() < Duration::from_secs(15), "{way}: {:?}", asked.elapsed());
    }
    fs::remove_file(world.path("_controller.status")).expect("removed");
    world.wait("the node's own status", |world| world.node_status().is_some());
}

#[test]
fn a_run_directory_that_is_taken_away_is_made_again() {
    let mut world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let run = world.state().join("run");

    fs::remove_dir_all(&run).expect("removed");

    let asked = Instant::now();
    let table = |run: &std::path::Path| fs::read_to_string(run.join("lives")).unwrap_or_default();
    let has = |name: &str, pid: i32| {
        table(&run).lines().any(|line| line.starts_with(name) && line.contains(&format!(" {pid} ")))
    };
    world.wait("the table of lives", |_| has("web", pid));
    // Each 5 s it looks for it.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let controller = world.controller_pid().expect("a controller");
    world.wait("the controller in it", |_| has("controller ", controller));
    world.wait("an answer", |world| String::from_utf8_lossy(&world.plugd(&["get"]).stdout).contains("web"));

    // A second node must still be kept out, and a new controller must be found and know the table.
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    world.wait("its answer", |world| world.plugd(&["get"]).status.success());
    assert!(has("web", pid));

    // The keeper is killed: the next run knows what it left.
    world.kill_keeper();
    world.run(&[]);
    world.wait("another process", |world| world.pid("web").is_some_and(|new| new != pid));
    assert!(!lives(pid));
}

#[test]
fn a_replaced_directory_is_not_left_with_statuses_of_another_time() {
    let world = World::running();
    for name in ["kept", "gone"] {
        world.put(&format!("{name}.yaml"), "command: sleep 3600\n");
        world.wait_status(name, "running");
    }
    let (aside, staged) = (world.root().join("aside"), world.root().join("staged"));
    fs::create_dir(&staged).expect("made");
    fs::copy(world.path("kept.yaml"), staged.join("kept.yaml")).expect("copied");
    for ghost in ["ghost", "gone"] {
        fs::write(staged.join(format!("{ghost}.status")), "status: healthy\n").expect("written");
    }

    fs::rename(world.dir(), &aside).expect("moved away");
    fs::rename(&staged, world.dir()).expect("moved in");

    world.wait("the old statuses to go", |world| {
        world.status_file("ghost").is_none() && world.status_file("gone").is_none()
    });
    world.wait_status("kept", "running");
    world.wait("those in the old directory to go", |_| {
        let mut left = fs::read_dir(&aside).expect("readable").flatten();
        !left.any(|entry| entry.file_name().to_string_lossy().ends_with(".status"))
    });
}

#[test]
fn the_log_of_a_deleted_service_is_shown_and_a_problem_has_lines() {
    let world = World::running();
    world.put("web.yaml", "script: |\n  echo here I was\n  exec sleep 3600\n");
    world.wait_status("web", "running");
    world.wait("its first line", |world| world.ask(&["logs", "web"]).contains("here I was"));
    world.put("web.yaml", "comand: one\nreplica: two\n");
    world.wait("the rejection", |world| world.status_file("web").is_some_and(|text| text.contains("rejected")));
    let status = world.status_file("web").expect("a status");
    let value: serde_yaml::Value = serde_yaml::from_str(&status).expect("YAML");
    let message = value["problems"][0]["message"].as_str().expect("a message");
    assert!(message.lines().count() >= 2 && !message.contains("\\n"), "{status}");

    world.remove("web.yaml");
    world.wait("the service to go", |world| world.status_file("web").is_none());
    assert!(world.ask(&["logs", "web"]).contains("here I was"));
    assert_eq!(world.plugd(&["logs", "never"]).status.code(), Some(4));
}

#[test]
fn what_is_not_taken_is_listed_with_its_reason() {
    let world = World::running();
    world.put("lib.sh", "helper() { :; }\n");
    world.put("_odd.yaml", "command: one\n");
    world.put("windows.sh", "\u{feff}#!/bin/sh\nexec sleep 3600\n");
    world.put("li\nne.yaml", "command: one\n");
    world.wait("both to be told", |world| {
        world.node_status().is_some_and(|text| text.contains("lib.sh") && text.contains("_odd.yaml"))
    });
    let table = world.ask(&["get"]);
    assert!(table.contains("skipped (ExecFormat)") && table.contains("failed (NameInvalid)"), "{table}");
    let one = world.plugd(&["status", "lib.sh"]);
    let one = String::from_utf8_lossy(&one.stdout).into_owned();
    assert!(one.contains("begins neither"), "{one}");
    world.wait("the others to be told", |world| {
        world.node_status().is_some_and(|text| text.contains("windows.sh") && text.contains("ne.yaml"))
    });
    let table = world.ask(&["get"]);
    assert!(table.contains("windows.sh begins with a byte order mark"), "{table}");
    assert!(table.contains(r"li\nne.yaml:1:1: "), "{table}");
    let check = world.plugd(&["check"]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.contains("lib.sh begins neither") && check.contains("_odd.yaml"), "{check}");
}

#[test]
fn a_second_node_is_refused_where_both_directories_of_a_living_one_were_replaced() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let web = world.pid("web").expect("a pid");
    let copy = world.state().join("lives");
    world.wait("the second table", |_| fs::read_to_string(&copy).is_ok_and(|text| text.contains(&format!(" {web} "))));
    let controller = world.controller_pid().expect("a controller");
    // Stopped, so that it cannot lock the new ones first.
    kill(controller, 19);
    for (dir, aside) in [(world.dir(), "dir.aside"), (world.state().join("run"), "run.aside")] {
        fs::rename(&dir, world.root().join(aside)).expect("moved away");
        fs::create_dir(&dir).expect("made");
    }

    let second = command(env!("CARGO_BIN_EXE_plugd"))
        .arg("run")
        .arg("--state-dir")
        .arg(world.state())
        .arg(world.dir())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("started");

    kill(controller, 18);
    assert_eq!(second.status.code(), Some(73), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("pid {}", world.node_pid())) && said.contains("was replaced"), "{said}");
    assert!(lives(web) && lives(controller));
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_or_told() {
    let mut world = World::empty();
    world.put("web.yaml", "command: sleep 1000\n");
    // What the directory itself says of trust is of the hand that is not trusted.
    world.put("_plugd.yaml", "trust: any\n");
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o777)).expect("chmod");
    world.spawn(&["--trust", "strict"]);
    assert_eq!(world.wait_end().code(), Some(78));
    let said = world.log();
    let remedy = format!("run `chmod o-w {}`", world.dir().display());
    assert!(said.contains("everybody may write to") && said.contains(&remedy), "{said}");
    assert_eq!(world.status("web"), "absent");

    world.run(&["--trust", "any"]);
    world.wait_status("web", "running");
    world.wait("the remedy", |world| world.log().contains(&remedy));
    assert!(world.stop().success());

    // A volume of a container is often open to all: there it is told and used.
    world.under = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"].map(String::from).into();
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait("the remedy", |world| world.log().contains(&remedy));
}

#[test]
fn a_check_sees_a_script_that_was_written_just_now() {
    let world = World::empty();
    world.put_script("web.sh", "#!/bin/nosuch\n# plugd: required: true\nexec sleep 3600\n");
    let check = world.plugd(&["check", &world.dir().display().to_string()]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("BadInterpreter") && check.status.code() == Some(5), "{said}");
}

/// A log is appended to: the program would be another one at its next start.
#[test]
fn no_log_is_written_into_what_is_read_or_started_wherever_it_lies() {
    let mut world = World::empty();
    let root = world.root().to_path_buf();
    fs::rename(world.dir(), root.join("real.d")).expect("moved");
    std::os::unix::fs::symlink(root.join("real.d"), world.dir()).expect("made");
    let stage = |name: &str, text: &str| {
        fs::write(root.join(name), text).expect("written");
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    let script = "#!/bin/sh\necho up\nexec sleep 1000\n";
    stage("wrapper", script);
    stage("program", script);
    stage("linked.yaml", "command: sleep 1000\n");
    stage("app.env", "A=1\n");
    std::os::unix::fs::symlink(root.join("linked.yaml"), world.path("linked.yaml")).expect("made");
    let says = "command: [sh, -c, 'echo up; exec sleep 1000']\n";
    let put = |name: &str, runs: &str, log: &str| {
        world.put(&format!("{name}.yaml"), &format!("{runs}logs: {{path: {}}}\n", root.join(log).display()));
    };
    put("a-wrapped", &format!("wrapper: {}\n", root.join("wrapper").display()), "wrapper");
    put("b-command", &format!("command: {}\n", root.join("program").display()), "program");
    put("c-manifest", says, "real.d/c-manifest.yaml");
    put("d-linked", says, "linked.yaml");
    put("e-env", says, "app.env");
    world.put("z.yaml", &format!("command: sleep 1000\nenvFrom: [{}]\n", root.join("app.env").display()));
    let written = [
        ("a-wrapped", "wrapper"),
        ("b-command", "program"),
        ("c-manifest", "real.d/c-manifest.yaml"),
        ("d-linked", "linked.yaml"),
        ("e-env", "app.env"),
    ];
    let texts = || written.map(|(_, file)| fs::read_to_string(root.join(file)).expect("there"));
    let before = texts();

    let said = world.plugd(&["check"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for (name, _) in written {
        let told = said.lines().find(|line| line.starts_with(&format!("error: {name}: ")));
        assert!(told.is_some_and(|told| told.contains("is none for a log")), "{name}: {said}");
    }

    world.run(&[]);
    for (name, _) in written {
        world.wait("the trouble to be told", |world| {
            world.status_file(name).is_some_and(|text| text.contains("LogNotWritten"))
        });
        world.wait_status(name, "running");
    }
    // The next start is of the same program, which nobody holds open.
    world.ask(&["restart", "a-wrapped", "b-command"]);
    world.wait_status("a-wrapped", "running");
    world.wait_status("b-command", "running");
    assert_eq!(texts(), before);
}

#[test]
fn a_log_that_becomes_a_wrapper_by_a_second_name_is_let_go_and_started() {
    let world = World::running();
    let (log, wrapper) = (world.root().join("app.log"), world.root().join("wrapper"));
    let says =
        r"command: [sh, -c, 'printf %s\\n \#!/bin/sh ''exec sleep 1000''; while :; do sleep 0.2; echo more; done']";
    world.put("app.yaml", &format!("{says}\nlogs: {{path: {}}}\n", log.display()));
    world.wait("its output", |_| fs::read_to_string(&log).is_ok_and(|text| text.contains("exec sleep 1000\n")));
    fs::set_permissions(&log, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::hard_link(&log, &wrapper).expect("made");

    world.put("web.yaml", &format!("wrapper: {}\n", wrapper.display()));
    world.wait_status("web", "running");
    world.wait("the trouble to be told", |world| {
        world.status_file("app").is_some_and(|text| text.contains("web.yaml leads there"))
    });
}
