//! Jobs by the clock, of the built program. No scheduled time is waited for here but in the last test of
//! `real_services/shipped.rs`: the schedules of these are a year away, and what was missed is put into the
//! memory.

use std::fs;

use crate::world::{World, lives};

/// Once a year: it does not come due by itself while a test runs.
const YEARLY: &str = "schedule: \"0 0 1 1 *\"\n";

fn lines(world: &World, name: &str) -> usize {
    fs::read_to_string(world.root().join(name)).unwrap_or_default().lines().count()
}

fn runs(world: &World, name: &str) -> Vec<serde_json::Value> {
    let told = world.plugd(&["status", name, "-o", "json"]).stdout;
    let object: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
    object.pointer("/status/schedule/runs").and_then(|runs| runs.as_array().cloned()).unwrap_or_default()
}

#[test]
fn start_runs_a_job_now_and_its_runs_are_told_also_by_the_next_node() {
    let mut world = World::running();
    let ran = world.root().join("ran");
    world.put("tidy.yaml", &format!("{YEARLY}script: echo ran >> {}\n", ran.display()));
    world.wait_status("tidy", "waiting (NextRun)");
    let text = world.status_file("tidy").expect("a status");
    assert!(text.contains("# why:  next run at ") && text.contains("-01-01T00:00:00Z"), "{text}");
    assert!(world.ask(&["get"]).contains("next run at "), "{}", world.ask(&["get"]));
    assert!(world.ask(&["wait", "tidy"]).is_empty(), "a job that waits for its next run is ready");
    let object: serde_json::Value = serde_json::from_str(&world.ask(&["get", "tidy", "-o", "json"])).expect("JSON");
    let ready = &object["status"]["conditions"][0];
    assert_eq!((&ready["type"], &ready["reason"]), (&"Ready".into(), &"NextRun".into()), "{ready}");

    world.ask(&["start", "tidy", "--wait"]);
    world.wait("its run to be over", |world| runs(world, "tidy").iter().any(|run| run["result"] == "completed"));
    world.wait_status("tidy", "waiting (NextRun)");
    assert_eq!(lines(&world, "ran"), 1);
    assert!(world.ask(&["status", "tidy"]).contains("by hand"));

    // Neither repeated nor forgotten.
    let controller = world.controller_pid().expect("a controller");
    crate::world::kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    world.wait("its runs", |world| runs(world, "tidy").len() == 1);
    assert!(world.stop().success());
    let history = String::from_utf8(world.plugd(&["history", "tidy"]).stdout).expect("UTF-8");
    assert!(history.contains("last runs") && history.contains("completed, code 0"), "{history}");
    world.run(&[]);
    world.wait_status("tidy", "waiting (NextRun)");
    world.wait("its runs under the next node", |world| runs(world, "tidy").len() == 1);
    assert_eq!(lines(&world, "ran"), 1);
}

#[test]
fn what_was_missed_while_plugd_was_down_runs_once_and_is_said() {
    let mut world = World::running();
    let ran = world.root().join("ran");
    let job = |more: &str| format!("{YEARLY}{more}script: echo ran >> {}\n", ran.display());
    world.put("tidy.yaml", &job(""));
    world.put("late.yaml", &job("").replace("\"0 0 1 1 *\"", "{cron: \"0 0 1 1 *\", startingDeadline: 1h}"));
    world.wait_status("tidy", "waiting (NextRun)");
    world.wait_status("late", "waiting (NextRun)");
    assert!(world.stop().success());

    // As if plugd had been stopped three years ago.
    let db = rusqlite::Connection::open(world.state().join("state.db")).expect("the memory");
    let long_ago = "UPDATE memory SET json = json_set(json, '$.schedule.dealt', json('[[1600000000,1600000000]]'))";
    assert_eq!(db.execute(long_ago, []).expect("written"), 2);
    drop(db);
    world.run(&[]);

    world.wait("the last of them to be made up for", |world| lines(world, "ran") == 1);
    world.wait_status("tidy", "waiting (NextRun)");
    for told in ["runs from 2021-01-01T00:00:00Z on were missed; that of ", "a run may be 60 min late"] {
        world.wait(told, |world| world.ask(&["events"]).contains(told));
    }
    assert_eq!(lines(&world, "ran"), 1, "and the one with a deadline does not run");
}

#[test]
fn stop_ends_a_run_whole_and_suspends_the_job() {
    let world = World::running();
    world.put("slow.yaml", &format!("{YEARLY}script: sleep 1000 & wait\n"));
    world.wait_status("slow", "waiting (NextRun)");
    world.ask(&["start", "slow"]);
    world.wait_status("slow", "running");
    let pid = world.pid("slow").expect("a pid");

    world.ask(&["stop", "slow", "--wait"]);

    assert!(!lives(pid));
    world.wait_status("slow", "stopped (StoppedByOperator)");
    assert_eq!(runs(&world, "slow")[0]["result"], "stopped");
    let refused = world.plugd(&["scale", "slow=3"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("concurrencyPolicy: Allow"), "{said}");
}

/// Of a job without a schedule: once per run of plugd and version.
#[test]
fn a_job_runs_again_when_it_is_started_edited_or_plugd_runs_anew_and_not_for_a_controller_s_death() {
    let mut world = World::running();
    let ran = world.root().join("ran");
    let job = |word: &str| format!("restart: Never\nscript: echo {word} >> {}\n", ran.display());
    let has_run = |world: &World, times: usize| {
        world.wait("another run", |world| lines(world, "ran") == times);
        world.wait_status("migrate", "completed");
    };
    world.put("migrate.yaml", &job("one"));
    has_run(&world, 1);

    let controller = world.controller_pid().expect("a controller");
    crate::world::kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    // What is declared after it has been decided on after it.
    world.put(
        "later.yaml",
        &format!("restart: Never\nscript: echo later >> {}\n", world.root().join("later").display()),
    );
    world.wait_status("later", "completed");
    has_run(&world, 1);

    world.ask(&["start", "migrate"]);
    has_run(&world, 2);
    world.put("migrate.yaml", &job("two"));
    has_run(&world, 3);
    assert!(world.stop().success());
    world.run(&[]);
    has_run(&world, 4);
}
