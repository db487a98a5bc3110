//! history and the report over all: what is remembered, with a controller and without one.

use crate::ask::{CRASHES, STAYS, ends};
use crate::world::{World, free_port, kill};

fn history(world: &World, words: &[&str]) -> serde_json::Value {
    let words = [&["history", "-o", "json"], words].concat();
    serde_json::from_str(&ends(world, 0, &words).0).expect("json")
}

#[test]
fn the_past_of_a_service_is_there_at_once_and_outlives_everything() {
    let mut world = World::running();
    let port = free_port();
    let server = format!("command: python3 -m http.server $(PORT) --bind 127.0.0.1\nport: {port}\n");
    world.put("web.yaml", &format!("{server}readinessProbe: {{tcpSocket: {{port: {port}}}, period: 50ms}}\n"));
    world.put("mailer.yaml", CRASHES);
    world.wait_status("web", "healthy");
    world.wait("checks, and three restarts", |world| {
        let web = history(world, &["web"]);
        let mailer = history(world, &["mailer"]);
        web["total"]["probes"]["ok"].as_u64() > Some(3) && mailer["total"]["restarts"].as_u64() >= Some(3)
    });
    let web = history(&world, &["web"]);
    assert!(web["total"]["upMs"].as_u64() > Some(0) && web["stepSecs"] == 60, "{web}");
    assert!(web["total"]["latency"]["meanMicros"].as_f64() > Some(0.0), "{web}");
    let mailer = history(&world, &["mailer", "--since", "7d"]);
    assert_eq!((&mailer["stepSecs"], &mailer["exits"][0]["code"]), (&3600.into(), &3.into()), "{mailer}");
    let (said, _) = ends(&world, 0, &["history", "mailer"]);
    assert!(said.contains("last exits") && said.contains("code 3") && said.contains("availability"), "{said}");

    // Each end has its last words, however soon the next one followed.
    world.put("brief.yaml", &CRASHES.replace("restart: {", "restart: {limit: {max: 12}, "));
    world.wait_status("brief", "failed");
    world.wait("all last words", |world| {
        let brief = history(world, &["brief"]);
        let ends = brief["exits"].as_array().expect("a list");
        ends.len() > 12 && ends.iter().all(|end| end["output"][1] == "bind: address already in use")
    });
    ends(&world, 0, &["rm", "brief"]);

    // What was written before the controller was killed is told by the next one.
    let before = history(&world, &["web"])["total"]["probes"]["ok"].as_u64();
    let controller = world.controller_pid().expect("a pid");
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    assert!(history(&world, &["web"])["total"]["probes"]["ok"].as_u64() >= before);
    // No restart is lost with the minute that nobody had written.
    ends(&world, 0, &["stop", "mailer", "--wait"]);
    world.wait("every restart", |world| {
        let counted = history(world, &["mailer"])["total"]["restarts"].as_u64();
        let told = world.field("mailer", "restarts").and_then(|count| count.parse().ok());
        counted.is_some() && counted == told
    });

    // At rest the memory is read where it lies, and that is said.
    assert_eq!(world.stop().code(), Some(0));
    let (said, told) = ends(&world, 0, &["history", "mailer"]);
    assert!(said.contains("code 3") && told.contains("no controller runs"), "{said}{told}");
    assert!(history(&world, &["web"])["total"]["probes"]["ok"].as_u64() >= before);
    ends(&world, 4, &["history", "never-was"]);

    // A new node of the same directory goes on from there.
    world.run(&[]);
    world.wait_status("web", "healthy");
    assert!(history(&world, &["web"])["total"]["probes"]["ok"].as_u64() > before);
}

#[test]
fn a_run_that_goes_on_is_running_in_its_history() {
    let world = World::running();
    world.put("nightly.yaml", "command: sleep 1000\nschedule: '@yearly'\n");
    world.wait_status("nightly", "waiting (NextRun)");
    ends(&world, 0, &["start", "nightly"]);
    world.wait_status("nightly", "running");
    let runs = history(&world, &["nightly"])["runs"].clone();
    assert_eq!(runs[0]["result"], "running", "{runs}");
}

#[test]
fn one_that_is_gone_has_a_past_and_one_that_never_was_has_none() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    ends(&world, 0, &["rm", "web"]);
    let (said, _) = ends(&world, 0, &["history", "web"]);
    assert!(said.contains("Withdrawn"), "{said}");
    let (_, told) = ends(&world, 4, &["history", "never-was"]);
    assert!(told.contains("no service is named never-was"), "{told}");
    ends(&world, 2, &["history"]);
    ends(&world, 2, &["history", "web", "--since", "yesterday"]);
    ends(&world, 2, &["history", "not a name"]);
}

#[test]
fn a_memory_that_is_broken_stops_nothing_and_is_kept_aside() {
    let mut world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    ends(&world, 0, &["stop", "web"]);
    let (said, _) = ends(&world, 0, &["history", "web"]);
    assert!(said.contains("(plugd stop)"), "{said}");
    assert_eq!(world.stop().code(), Some(0));
    let state = world.state().join("state.db");
    for journal in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{journal}", state.display()));
    }
    std::fs::write(&state, "no database").expect("written");
    ends(&world, 1, &["history", "web"]);
    world.run(&[]);
    world.wait_status("web", "running");
    world.wait("that to be told", |world| world.log().contains("state.db.broken-1"));
    ends(&world, 0, &["history", "web"]);
    let told = |world: &World| {
        let told = world.status_file("_controller").is_some_and(|text| text.contains("type: MemoryLost"));
        told && ends(world, 0, &["events"]).0.contains("MemoryLost")
    };
    world.wait("what is forgotten to be told", told);
    assert!(world.status_file("_controller").expect("it is there").contains("(stop, scale) is forgotten"));

    // Until the next start.
    assert_eq!(world.stop().code(), Some(0));
    world.run(&[]);
    world.wait_status("web", "running");
    assert!(!world.status_file("_controller").expect("it is there").contains("MemoryLost"));
}

#[test]
fn the_report_over_all_is_the_same_as_data_everywhere() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("files.yaml", "wrapper: files.sh\n");
    world.put("bad.yaml", "wrapper: bad.sh\nrequired: true\n");
    for (name, status) in [("web", "running"), ("files", "skipped"), ("bad", "failed")] {
        world.wait_status(name, status);
    }
    let report: serde_json::Value =
        serde_json::from_str(&ends(&world, 0, &["get", "--summary", "-o", "json"]).0).expect("json");
    assert_eq!((&report["summary"]["total"], &report["summary"]["running"]), (&3.into(), &1.into()));
    assert_eq!(report["summary"]["percentageHealthy"], 33.33);
    assert_eq!(report["started"], serde_json::json!(["web"]));
    assert_eq!(report["failed"], serde_json::json!([{"name": "bad", "reason": "WrapperNotFound"}]));
    assert_eq!(report["skipped"], serde_json::json!([{"name": "files", "reason": "WrapperNotFound"}]));
    let names: Vec<_> = report["services"].as_array().expect("a list").iter().map(|view| &view["service"]).collect();
    assert_eq!(names, ["bad", "files", "web"]);
    let (told, _) = ends(&world, 0, &["get", "--summary"]);
    assert!(told.contains("3 services: 1 failed, 1 skipped, 1 running; 33.33 % healthy"), "{told}");
}

#[test]
fn the_summary_counts_files_that_make_no_service_and_no_job_has_an_availability() {
    let world = World::running();
    world.put("job.yaml", "command: [sh, -c, 'exit 0']\nrestart: Never\n");
    world.put("web.yaml", STAYS);
    world.put("claude.json", "{\"mcpServers\": {}}");
    world.put("my server.yaml", STAYS);
    world.wait_status("job", "completed");
    world.wait_status("web", "running");
    world.wait("both files", |world| {
        let said = ends(world, 0, &["get", "--summary"]).0;
        said.contains("2 services and 2 files that make none: 2 failed, ")
            && said.contains("claude.json (NotYetSupported)")
    });
    let said = ends(&world, 0, &["status", "job"]).0;
    assert!(!said.contains("availability"), "{said}");
    let past = history(&world, &["job"]);
    assert!(past["total"]["upMs"] == 0 && past["total"]["downMs"] == 0, "{past}");
    let said = ends(&world, 0, &["status", "web"]).0;
    assert!(said.contains("availability"), "{said}");
}
