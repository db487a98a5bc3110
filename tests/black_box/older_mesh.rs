//! Seven tests that the older mesh listed and could not keep, by their names.

use crate::world::World;

const RUNS: &str = "command: sleep 3600\n";

#[test]
fn missing_wrapper() {
    let world = World::running();

    world.put("files.yaml", "wrapper: files.sh\n");
    world.put("needed.yaml", "wrapper: needed.sh\nrequired: true\n");

    world.wait_status("files", "skipped (WrapperNotFound)");
    world.wait_status("needed", "failed (WrapperNotFound)");
    let status = world.status_file("files").expect("a status file");
    assert!(status.contains("services.d/files.sh"), "the places tried are told:\n{status}");

    world.put_script("files.sh", "#!/bin/sh\nexec sleep 3600\n");
    world.wait_status("files", "running");
    assert_eq!(world.status("needed"), "failed (WrapperNotFound)", "one that appears changes no other");
}

#[test]
fn startup_goes_on() {
    let mut world = World::empty();
    world.put("a.yaml", RUNS);
    world.put("b.yaml", "wrapper: missing.sh\n");
    world.put("c.yaml", "comand: [sleep, '1']\n");
    world.put("d.yaml", "command: /no/such/program\n");
    world.put("e.yaml", RUNS);

    world.run(&[]);

    world.wait_status("a", "running");
    world.wait_status("b", "skipped (WrapperNotFound)");
    world.wait_status("c", "failed (ConfigInvalid)");
    world.wait_status("d", "unhealthy");
    world.wait_status("e", "running");
}

#[test]
fn partial_availability() {
    let world = World::running();
    world.put("up.yaml", RUNS);
    world.put("down.yaml", "command: sh -c 'exit 3'\n");
    world.put("waits.yaml", "command: sleep 3600\ndependsOn: [down-first]\n");

    world.wait_status("up", "running");
    world.wait_status("down", "unhealthy");
    world.wait_status("waits", "waiting (DependencyNotReady)");

    // What ends at once is tried again now and then.
    for (name, available) in [("up", "true"), ("down", "false"), ("waits", "false")] {
        world.wait(&format!("{name} to be available: {available}"), |world| {
            world.field(name, "available").as_deref() == Some(available)
        });
    }
}

#[test]
fn end_to_end_initialisation() {
    let mut world = World::empty();
    world.put(
        "base.yaml",
        "script: |\n  sleep 0.1; echo base is up; exec sleep 3600\nreadinessProbe: {logLine: 'is up'}\n",
    );
    world.put("app.yaml", "command: sleep 3600\ndependsOn: [base]\nrequired: true\n");
    world.put("absent.yaml", "wrapper: absent.sh\n");
    world.put("broken.yaml", "wrapper: broken.sh\nrequired: true\n");

    world.run(&[]);

    world.wait_status("base", "healthy");
    world.wait_status("app", "running");
    world.wait("the start-up report", |world| {
        let summary = String::from_utf8_lossy(&world.plugd(&["get", "--summary", "-o", "json"]).stdout).into_owned();
        let Ok(report) = serde_json::from_str::<serde_json::Value>(&summary) else { return false };
        report["started"] == serde_json::json!(["app", "base"])
            && report["failed"][0]["name"] == "broken"
            && report["failed"][0]["reason"] == "WrapperNotFound"
            && report["skipped"][0]["name"] == "absent"
    });
}

#[test]
fn health_check_and_recovery() {
    let world = World::running();
    let flag = world.root().join("well");
    std::fs::write(&flag, "").expect("written");
    world.put(
        "svc.yaml",
        &format!(
            "command: sleep 3600\nreadinessProbe: {{exec: {{command: [test, -e, '{}']}}, period: 100ms, failureThreshold: 2}}\n",
            flag.display()
        ),
    );
    world.wait_status("svc", "healthy");
    let pid = world.pid("svc").expect("a pid");

    std::fs::remove_file(&flag).expect("removed");
    world.wait_status("svc", "unhealthy (ProbeFailed)");
    assert_eq!(world.pid("svc"), Some(pid), "readiness takes out of use, it does not restart");

    std::fs::write(&flag, "").expect("written");
    world.wait_status("svc", "healthy");
    assert_eq!(world.pid("svc"), Some(pid));

    crate::world::kill(pid, 9);
    world.wait("a new process", |world| world.pid("svc").is_some_and(|new| new != pid));
    world.wait_status("svc", "healthy");
    assert_eq!(world.field("svc", "restarts").as_deref(), Some("1"));
}

#[test]
fn runtime_registration() {
    let world = World::running();

    world.ask(&["add", "late", "--", "sleep", "3600"]);
    world.wait_status("late", "running");
    let pid = world.pid("late").expect("a pid");

    world.ask(&["rm", "late"]);
    world.wait("the status file to go", |world| world.status_file("late").is_none());
    assert!(!crate::world::lives(pid), "the process is gone when the service is");
}

#[test]
fn status_report() {
    let world = World::running();
    world.put("one.yaml", RUNS);
    world.put("two.yaml", "wrapper: two.sh\n");
    world.wait_status("one", "running");
    world.wait_status("two", "skipped");

    let status = world.status_file("one").expect("a status file");
    let keys: Vec<&str> = status
        .lines()
        .filter(|line| !line.starts_with('#'))
        .take(5)
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(keys, ["service", "status", "available", "processRunning", "meshRegistration"], "{status}");
    assert!(crate::world::lives(world.pid("one").expect("a pid")), "what is reported was observed");

    let report: serde_json::Value =
        serde_json::from_str(&world.ask(&["get", "--summary", "-o", "json"])).expect("JSON");
    assert_eq!(report["summary"]["total"], 2);
    assert_eq!(report["summary"]["running"], 1);
    assert_eq!(report["summary"]["skipped"], 1);
}
