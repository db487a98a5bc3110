//! Secrets from files: passed whole or not at all, and told to nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{World, kill};

fn secret(world: &World, text: &[u8]) -> String {
    let path = world.root().join("secret");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    path.display().to_string()
}

/// What `plugd status` shows of its last lines.
fn shown(world: &World, name: &str) -> String {
    let told = String::from_utf8_lossy(&world.plugd(&["status", name]).stdout).into_owned();
    assert!(!told.contains("s3cr3t"), "{told}");
    told.split_once("\nlast output\n").map(|(_, lines)| lines.to_string()).unwrap_or_default()
}

fn another_controller(world: &World, name: &str) {
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("another controller", |world| {
        let written = world.field(name, "controller").unwrap_or_default();
        world.controller_pid().is_some_and(|pid| pid != controller && written.contains(&pid.to_string()))
    });
}

#[test]
fn a_secret_that_a_service_prints_stands_in_its_log_and_in_no_status() {
    let world = World::running();
    let secret = secret(&world, b"s3cr3t-PASSWORD\n");
    let prints =
        "script: 'while [ ! -e go ]; do sleep 0.05; done; echo \"cannot connect to postgres://app:$PW@db\"; exit 1'";
    world.put(
        "db.yaml",
        &format!(
            "env: {{PW: {{file: {secret}}}}}\nworkingDir: {}\n{prints}\nrestart: {{backoff: {{initial: 30s}}}}\n",
            world.root().display()
        ),
    );
    world.wait("the process", |world| world.pid("db").is_some());
    // Its successor has not passed the secret on, and knows it all the same.
    another_controller(&world, "db");
    fs::write(world.root().join("go"), "").expect("written");

    world.wait("its last words", |world| world.status_file("db").is_some_and(|text| text.contains("postgres://app:")));
    let told = world.status_file("db").expect("there");
    assert!(told.contains("postgres://app:***@db") && !told.contains("s3cr3t"), "{told}");
    let object = world.plugd(&["status", "db", "-o", "json"]).stdout;
    let object = String::from_utf8_lossy(&object).into_owned();
    assert!(object.contains("postgres://app:***@db") && !object.contains("s3cr3t"), "{object}");
    world.wait("the log to hold what was written", |world| world.ask(&["logs", "db"]).contains("s3cr3t-PASSWORD"));
}

#[test]
fn what_was_told_covered_stays_so_under_the_next_controller_and_is_told_once() {
    let world = World::running();
    let secret = secret(&world, b"s3cr3t-PASSWORD\n");
    let says = "script: 'echo \"cannot log in with $PW at $THERE\"; exit 3'\n";
    let env = format!("env: {{PW: {{file: {secret}}}, THERE: {{fromEnv: PATH}}}}\n");
    let ends = ["restart: Never\n", "restart: {backoff: {initial: 60s}}\n"];
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        world.put(&format!("{name}.yaml"), &format!("{says}{env}{}", ends[n % 2]));
    }
    let is_covered = |text: &str| text.contains("cannot log in with *** at ***");
    let comes_to_rest = |world: &World, at: usize| {
        world.wait_status(&names[at], ["failed (Error)", "unhealthy (BackOff)"][at % 2]);
        world.wait("its last words", |world| world.status_file(&names[at]).is_some_and(|text| is_covered(&text)));
    };
    (0..names.len()).for_each(|at| comes_to_rest(&world, at));
    // It answers when all that is to be remembered is written.
    world.ask(&["history", &names[0]]);
    crate::last_good::wait_kept(&world, "cannot log in with ***");
    for _ in 0..3 {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
        for name in &names {
            world.wait("its last words to be told again", |world| {
                let text = world.status_file(name).unwrap_or_default();
                assert!(!text.contains("s3cr3t"), "{text}");
                let ours =
                    world.controller_pid().is_some_and(|pid| text.contains(&format!("controller: {{pid: {pid},")));
                ours && is_covered(&text)
            });
        }
    }
    for (at, name) in names.iter().enumerate() {
        let told = world.ask(&["history", name, "-o", "json"]);
        assert!(is_covered(&told) && !told.contains("s3cr3t"), "{told}");
        // The second start is at once; an end of before it may not have been written yet.
        let most = [1, 2][at % 2];
        assert!((1..=most).contains(&told.matches("cannot log in").count()), "{told}");
    }
}

#[test]
fn a_secret_that_no_environment_can_hold_is_no_start_without_it() {
    let world = World::running();
    let secret = secret(&world, b"s3\0cret\n");
    world.put("db.yaml", &format!("env: {{PW: {{file: {secret}}}}}\ncommand: sleep 3600\n"));
    world.wait_status("db", "unhealthy");
    let told = world.status_file("db").expect("there");
    assert!(told.contains("SecretNotFound") && told.contains("NUL"), "{told}");
}

#[test]
fn the_last_output_under_a_status_is_covered_as_the_status_is() {
    let world = World::running();
    let secret = secret(&world, b"s3cr3t-PASSWORD\n");
    world.put("db.yaml", &format!("env: {{PW: {{file: {secret}}}}}\nscript: 'echo \"pw=$PW\"; sleep 3600'\n"));
    world.wait("the log", |world| world.ask(&["logs", "db"]).contains("pw=s3cr3t-PASSWORD"));
    assert_eq!(shown(&world, "db"), "  pw=***\n");
}

#[test]
fn a_secret_in_the_name_of_a_program_is_told_to_nobody() {
    let world = World::running();
    let secret = secret(&world, b"s3cr3t-PASSWORD\n");
    world.put("db.yaml", &format!("env: {{PW: {{file: {secret}}}}}\ncommand: [/opt/$(PW)/x]\n"));
    world.wait("the cause", |world| world.status_file("db").is_some_and(|text| text.contains("there is no program")));
    let told = world.status_file("db").expect("there");
    assert!(told.contains("there is no program /opt/***/x") && !told.contains("s3cr3t"), "{told}");
    let foretold = world.plugd(&["check"]);
    let foretold = String::from_utf8_lossy(&foretold.stdout).into_owned();
    assert!(foretold.contains("/opt/***/x") && !foretold.contains("s3cr3t"), "{foretold}");
    assert!(!world.log().contains("s3cr3t"), "{}", world.log());
}

#[test]
fn what_was_printed_before_plugd_began_is_not_shown_where_its_secrets_are_not_known() {
    let mut world = World::running();
    let secret = secret(&world, b"s3cr3t-PASSWORD\n");
    world.put(
        "job.yaml",
        &format!("env: {{PW: {{file: {secret}}}}}\nscript: 'echo \"pw=$PW\"; exit 3'\nrestart: Never\n"),
    );
    world.wait_status("job", "failed");
    assert_eq!(shown(&world, "job"), "  pw=***\n");
    world.ask(&["history", "job"]);
    world.stop();
    fs::write(&secret, "another\n").expect("written");
    world.run(&[]);
    // With the next node it runs once more, and says what it is given then.
    world.wait("its second run", |world| shown(world, "job").ends_with("\n  pw=***\n"));
    let told = shown(&world, "job");
    assert!(told.contains("`plugd logs job` shows it as it was written"), "{told}");
    assert!(world.ask(&["logs", "job"]).contains("pw=s3cr3t-PASSWORD"));
}

#[test]
fn what_a_process_was_given_is_known_for_as_long_as_it_runs_whatever_becomes_of_the_file() {
    let world = World::running();
    let path = secret(&world, b"s3cr3t-PASSWORD\n");
    let says = "script: 'echo \"pw=$PW\"; while [ ! -e go ]; do sleep 0.05; done; echo \"late $PW\"; exec sleep 3600'";
    world.put(
        "db.yaml",
        &format!(
            "replicas: 2\nworkingDir: {}\nenv: {{PW: {{file: {path}}}}}\n{says}\n\
             readinessProbe: {{exec: {{command: [sh, -c, 'echo no $PW; exit 1']}}, period: 1s}}\n",
            world.root().display()
        ),
    );
    world.wait("what both say", |world| world.ask(&["logs", "db"]).matches("pw=s3cr3t-PASSWORD").count() == 2);
    // It is made anew, and then it is gone.
    secret(&world, b"another-PASSWORD\n");
    another_controller(&world, "db");
    assert_eq!(shown(&world, "db").matches("pw=***").count(), 2);
    fs::remove_file(&path).expect("removed");
    another_controller(&world, "db");
    assert_eq!(shown(&world, "db").matches("pw=***").count(), 2);
    fs::write(world.root().join("go"), "").expect("written");
    world.wait("what both say", |world| shown(world, "db").matches("late ***").count() == 2);
    secret(&world, b"another-PASSWORD\n");
    world.ask(&["restart", "db"]);
    world.wait("the last words of the ones before", |world| {
        let text = world.status_file("db").expect("there");
        assert!(!text.contains("s3cr3t") && !text.contains("another"), "{text}");
        text.contains("by: plugd restart") && text.contains("late ***")
    });
    world.wait("what the next ones say", |world| {
        let told = shown(world, "db");
        assert!(!told.contains("another"), "{told}");
        told.matches("***").count() >= 6
    });
}

#[test]
fn a_secret_in_a_record_is_covered_as_it_is_told() {
    let world = World::running();
    let secret = secret(&world, "s3\"cr3\\t-p\u{e4}ss".as_bytes());
    let code = "import json, os, sys; print(json.dumps({\"level\": \"fatal\", \"msg\": \"no login\", \"pw\": os.environ[\"PW\"]})); sys.exit(3)";
    let command = serde_json::to_string(&["python3", "-c", code]).expect("printable");
    let rest = format!("command: {command}\nenv: {{PW: {{file: {secret}}}}}\nrestart: Never\n");
    for (name, format, told) in [("json", "json", "FATAL no login pw=***"), ("text", "text", "\"pw\": \"***\"")] {
        world.put(&format!("{name}.yaml"), &format!("{rest}logs: {{format: {format}}}\n"));
        world.wait("its last words", |world| world.status_file(name).is_some_and(|text| text.contains("no login")));
        let status = world.plugd(&["status", name, "-o", "json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("json");
        let why = status["status"]["why"][0].as_str().unwrap_or_default().replace("\\\"", "\"");
        assert!(why.contains(told), "{why}");
        let shown = String::from_utf8_lossy(&world.plugd(&["status", name]).stdout).into_owned();
        assert!(shown.contains("last output") && shown.contains("***"), "{shown}");
        for text in [shown, world.status_file(name).expect("there"), status.to_string()] {
            assert!(!text.contains("cr3") && !text.contains("p\u{e4}ss") && !text.contains("u00e4ss"), "{text}");
        }
    }
}
