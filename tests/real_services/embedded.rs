//! plugd as a library: `examples/embed.rs`, and each call of `plugd::Plugd`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use plugd::Plugd;

use crate::world::{PATIENCE, World, command, lives};

#[path = "../../examples/embed.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod example;

/// The library finds its program by PLUGD_BIN, which only a new process can be given: this runs one
/// test of this file again, in a process that has it.
fn again(test: &str, world: &World) -> std::process::Output {
    let mut command = command(std::env::current_exe().expect("this test").to_str().expect("UTF-8"));
    command.args(["--exact", "--nocapture", test]);
    command.env("PLUGD_BIN", env!("CARGO_BIN_EXE_plugd")).env("EMBED_DIR", world.dir());
    command.env("PLUGD_STATE_DIR", world.state()).stdin(Stdio::null());
    let output = command.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    output
}

fn embed_dir() -> Option<String> {
    std::env::var("EMBED_DIR").ok()
}

#[test]
fn the_example_starts_a_node_and_ends_it() {
    let Some(dir) = embed_dir() else {
        let world = World::empty();
        let output = again("embedded::the_example_starts_a_node_and_ends_it", &world);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("embedded is running") && said.contains("100 % healthy"), "{said}");
        assert!(world.path("embedded.yaml").exists(), "the manifest is a file like any other");
        assert_eq!(world.status("embedded"), "stopped (ControllerStopped)");
        return;
    };
    example::run(&dir).expect("the example works");
}

#[test]
fn a_program_registers_asks_and_shuts_down() {
    let Some(dir) = embed_dir() else {
        again("embedded::a_program_registers_asks_and_shuts_down", &World::empty());
        return;
    };
    let node = Plugd::open(&dir).expect("a node");
    node.register("db", "script: |\n  exec sleep 3600\n").expect("registered");
    let pid = wait(|| node.status("db").ok()?.instances.first()?.pid);
    assert!(lives(pid));
    node.register("../evil", "command: sleep 1\n").expect_err("no name of a service");

    let second = Plugd::open(&dir).expect("the node that runs");
    assert_eq!(second.health().expect("a report").summary.percentage_healthy.round(), 100.0);
    second.shutdown().expect("nothing to end");
    assert!(lives(pid), "a node that ran before goes on");

    node.shutdown().expect("ended");
    assert!(!lives(pid));
}

#[test]
fn a_node_that_runs_already_is_used_and_left_alone() {
    let world = World::running();
    let node = Plugd::open(world.dir()).expect("the node that runs");
    node.register("db", "command: sleep 3600\n").expect("registered");
    wait(|| node.status("db").ok()?.process_running.then_some(()));
    node.shutdown().expect("nothing to end");
    world.wait_status("db", "running");
    assert!(lives(world.node_pid()));
}

fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}
