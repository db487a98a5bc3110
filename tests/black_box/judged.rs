//! A process is judged by the version that it runs, also when its file says something else by now.

use crate::world::World;

/// Prints its line once a file of this name lies in the world's folder.
fn waits_and_prints(world: &World, mark: &str, line: &str) -> String {
    let mark = world.root().join(mark);
    format!("while ! test -e '{}'; do sleep 0.02; done; echo {line}; exec sleep 3600", mark.display())
}

#[test]
fn the_line_of_the_version_that_runs_makes_it_ready_while_its_update_is_blocked() {
    let world = World::running();
    let script = waits_and_prints(&world, "go", "old and ready");
    world.put("web.yaml", &format!("script: |\n  {script}\nreadinessProbe: {{logLine: '^old'}}\n"));
    world.wait_status("web", "starting");
    world.wait("a process", |world| world.pid("web").is_some());
    let pid = world.pid("web");

    world.put("web.yaml", "command: sleep 3601\nreadinessProbe: {logLine: '^new'}\ndependsOn: [missing]\n");
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));
    std::fs::write(world.root().join("go"), "").expect("written");

    world.wait("it to be ready", |world| world.field("web", "ready").as_deref() == Some("1/1"));
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn a_misspelt_pattern_is_corrected_without_a_new_process_wherever_its_line_stands() {
    let world = World::running();
    world.put_script("wrappers/later.sh", &format!("#!/bin/sh\n{}\n", waits_and_prints(&world, "go", "ready")));
    world.put("said.yaml", "script: echo ready; exec sleep 3600\nreadinessProbe: {logLine: '^redy'}\n");
    let later = format!("command: {}\n", world.path("wrappers/later.sh").display());
    world.put("later.yaml", &format!("{later}readinessProbe: {{logLine: '^redy'}}\n"));
    world.wait("both to run", |world| world.pid("said").is_some() && world.pid("later").is_some());
    world.wait("the line", |world| world.ask(&["logs", "said"]).contains("ready"));
    let pids = (world.pid("said"), world.pid("later"));

    world.put("said.yaml", "script: echo ready; exec sleep 3600\nreadinessProbe: {logLine: '^ready'}\n");
    world.put("later.yaml", &format!("{later}readinessProbe: {{logLine: '^ready'}}\n"));
    world.wait_status("said", "healthy");
    assert_eq!(world.field("later", "status").as_deref(), Some("starting"));
    std::fs::write(world.root().join("go"), "").expect("written");
    world.wait_status("later", "healthy");
    assert_eq!((world.pid("said"), world.pid("later")), pids);
}
