//! A process is judged by the version that it runs, also when its file says something else by now.

use crate::world::{World, free_port, kill};

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
    world.wait("the pattern to be told", |world| {
        let status = std::fs::read_to_string(world.path("said.status")).unwrap_or_default();
        status.contains("no line of its output matches `^redy` yet")
    });

    world.put("said.yaml", "script: echo ready; exec sleep 3600\nreadinessProbe: {logLine: '^ready'}\n");
    world.put("later.yaml", &format!("{later}readinessProbe: {{logLine: '^ready'}}\n"));
    world.wait_status("said", "healthy");
    assert_eq!(world.field("later", "status").as_deref(), Some("starting"));
    std::fs::write(world.root().join("go"), "").expect("written");
    world.wait_status("later", "healthy");
    assert_eq!((world.pid("said"), world.pid("later")), pids);
}

#[test]
fn an_edit_to_one_on_demand_that_waits_changes_no_port_of_what_runs_for_the_next_controller_either() {
    let world = World::running();
    let port = free_port();
    let check = "httpGet: {path: /}, period: 100ms";
    let web = format!(
        "command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n\
         startupProbe: {{{check}, failureThreshold: 1000}}\nlivenessProbe: {{{check}}}\n"
    );
    world.put("web.yaml", &web);
    world.wait_status("web", "healthy");
    let pid = world.pid("web");
    world.put("web.yaml", &format!("{web}activation: {{onDemand: true}}\ndependsOn: [nobody]\n"));
    let is_told = |world: &World| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"));
    world.wait("the block", is_told);

    let before = world.controller_pid().expect("a controller");
    kill(before, 9);
    world.wait("the block to be told by the new controller", |world| {
        let written = world.field("web", "controller").unwrap_or_default();
        let next = world.controller_pid().filter(|pid| *pid != before);
        is_told(world) && next.is_some_and(|pid| written.contains(&pid.to_string()))
    });
    world.wait("it to be found healthy by its own port", |world| {
        world.field("web", "ready").as_deref() == Some("1/1") && world.status("web") == "healthy"
    });
    assert_eq!(world.pid("web"), pid);
}
