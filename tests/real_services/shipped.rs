//! The `services.d` that ships: what its comments claim is so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::system::page;
use crate::world::{World, free_port, lives};

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("services.d ships").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                // `fs::copy` keeps the mode: wrappers stay executable. What a node has written here is no part of it.
                if entry.path().extension().is_none_or(|ending| ending != "status") {
                    fs::copy(entry.path(), target).expect("copied");
                }
            }
        }
    }
}

fn shipped() -> World {
    let mut world = World::empty();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("services.d"), &world.dir());
    world.run(&[]);
    world
}

fn log(world: &World, name: &str) -> String {
    fs::read_to_string(world.state().join(format!("logs/{name}.log"))).unwrap_or_default()
}

#[test]
fn hello_says_hello_until_it_is_told_to_stop() {
    let world = shipped();
    world.wait_status("hello", "running");
    world.wait("its first word", |world| log(world, "hello").contains("hello from hello\n"));
    let pid = world.pid("hello").expect("a pid");

    world.ask(&["stop", "hello"]);

    world.wait_status("hello", "stopped (StoppedByOperator)");
    assert!(!lives(pid));
}

#[test]
fn web_starts_only_when_hello_is_ready_and_is_ready_by_its_own_log() {
    let mut world = World::empty();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("services.d"), &world.dir());
    fs::remove_file(world.path("hello.yaml")).expect("removed");
    world.run(&[]);
    world.wait_status("web", "waiting (DependencyNotReady)");

    let hello = format!("{}/services.d/hello.yaml", env!("CARGO_MANIFEST_DIR"));
    world.put("hello.yaml", &fs::read_to_string(hello).expect("it ships"));

    world.wait_status("web", "starting");
    world.wait_status("web", "healthy");
    world.wait("its log to hold the line", |world| log(world, "web").contains("web is ready"));
    assert_eq!(world.field("web", "check").as_deref(), Some("its log line came"));
}

#[test]
fn flaky_backs_off_into_a_crash_loop_until_its_script_is_mended() {
    let world = shipped();
    // It runs again now and then: one text must say all of it.
    world.wait("a back-off that tells its end, its words and the remedy", |world| {
        let text = world.status_file("flaky").unwrap_or_default();
        let said = ["reason: BackOff", "retryAt:", "\"flaky: cannot reach its database\"", "at once after an edit"];
        said.iter().all(|words| text.contains(words))
    });
    world.wait("`plugd status flaky` to tell the same", |world| {
        let said = String::from_utf8(world.plugd(&["status", "flaky"]).stdout).expect("UTF-8");
        said.contains("exits with 1 after ") && said.contains("tries again at")
    });

    world.put("flaky.yaml", "script: |\n  exec sleep 3600\n");

    world.wait_status("flaky", "running");
}

#[test]
fn clock_runs_by_its_wrapper_and_ends_with_its_whole_tree() {
    let world = shipped();
    world.wait_status("clock", "running");
    world.wait("its first line", |world| log(world, "clock").starts_with("clock begins\n"));
    let pid = world.pid("clock").expect("a pid");
    world.wait("its sleep", |_| !crate::story::tree_below(pid).is_empty());
    let tree = crate::story::tree(pid);

    world.remove("clock.yaml");

    world.wait("its status to go", |world| world.status_file("clock").is_none());
    assert!(tree.into_iter().all(|pid| !lives(pid)));
}

#[test]
fn files_mcp_is_skipped_affects_nobody_and_starts_as_soon_as_its_wrapper_appears() {
    let world = shipped();
    world.wait_status("files-mcp", "skipped (WrapperNotFound)");
    world.wait_status("web", "healthy");
    world.wait_status("clock", "running");

    // As a person would: the file first, then the bit.
    let wrapper = world.path("files.sh");
    fs::write(&wrapper, "#!/bin/sh\nexec sleep 3600\n").expect("written");
    world.wait_status("files-mcp", "skipped (NotExecutable)");
    let text = world.status_file("files-mcp").expect("a status");
    assert!(text.contains("chmod"), "{text}");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");

    world.wait_status("files-mcp", "running");
    assert!(!world.log().contains("its manifest was edited"), "{}", world.log());
}

#[test]
fn the_example_on_demand_serves_whoever_calls_and_runs_only_then() {
    let world = World::running();
    fs::write(world.root().join("index.html"), "by demand\n").expect("written");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/on-demand/files.yaml"));
    let port = free_port();
    let literal = text.expect("it ships").replace("port: 8000\n", &format!("port: {port}\n"));
    assert!(literal.contains(&format!("port: {port}")), "{literal}");
    world.put("files.yaml", &literal);
    world.wait_status("files", "waiting (OnDemand)");
    assert_eq!(world.pid("files"), None);

    page(port, "by demand").expect("the first who calls is served");

    world.wait_status("files", "healthy");
    assert!(world.pid("files").is_some_and(lives));
    page(port, "by demand").expect("and the next");
}

/// The one test that waits for the clock: a minute at most.
#[test]
fn minutely_runs_when_its_minute_comes_and_waits_for_the_next() {
    let world = shipped();
    world.wait_status("minutely", "waiting (NextRun)");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60) + crate::world::PATIENCE;
    while !log(&world, "minutely").contains("minutely ran at ") {
        assert!(std::time::Instant::now() < deadline, "{}", world.status_file("minutely").unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.wait("its run to be told", |world| {
        world.field("minutely", "schedule").is_some_and(|schedule| schedule.contains("result: completed"))
    });
    world.wait_status("minutely", "waiting (NextRun)");
}
