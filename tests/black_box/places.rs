//! Where a node keeps what is its own, and which node a client speaks to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::world::{World, command};

fn plugd(world: &World, dir: &Path, words: &[&str]) -> Output {
    let mut asked = command(env!("CARGO_BIN_EXE_plugd"));
    asked.arg("--dir").arg(dir).args(words).env("PLUGD_STATE_DIR", world.state()).current_dir(world.root());
    asked.stdin(Stdio::null()).output().expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn second_node(dir: &Path, flags: &[&str]) -> Output {
    let mut limited = command("timeout");
    limited.args(["30", env!("CARGO_BIN_EXE_plugd"), "run"]).args(flags).arg(dir);
    limited.stdin(Stdio::null()).output().expect("started")
}

#[test]
fn a_copy_of_a_directory_does_not_steer_the_services_of_the_original() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let copy = world.root().join("staging");
    // Not plugd's own folder in there: what it writes comes and goes.
    let script = "mkdir \"$1\" && cp \"$0\"/*.yaml \"$0\"/*.status \"$1\"";
    let copied = command("sh").args(["-c", script]).arg(world.dir()).arg(&copy).status().expect("sh");
    assert!(copied.success() && copy.join("_controller.status").exists());
    let pid = world.pid("web");

    for words in [&["stop", "web"][..], &["get"], &["rm", "web"], &["logs", "web"]] {
        let refused = plugd(&world, &copy, words);
        let told = said(&refused);
        // A file that is removed from a directory which nobody runs is removed.
        assert!(words[0] == "logs" || refused.status.code() == Some(6), "{words:?}: {:?} {told}", refused.status);
        let node = world.dir();
        assert!(words[0] != "stop" || told.contains(&format!("is the node of {}", node.display())), "{told}");
    }

    assert_eq!((world.status("web").as_str(), world.pid("web")), ("running", pid));
    assert!(world.path("web.yaml").exists());
    // By another path it is the same directory.
    let link = world.root().join("link");
    std::os::unix::fs::symlink(world.dir(), &link).expect("linked");
    assert_eq!(plugd(&world, &link, &["get", "web"]).status.code(), Some(0));
}

#[test]
fn a_directory_of_many_is_no_run_directory_and_stays_as_it_is() {
    let mut world = World::empty();
    let shared = world.root().join("shared");
    fs::create_dir(&shared).expect("made");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("chmod");
    world.run(&["--run-dir", &shared.display().to_string()]);
    let mode = fs::metadata(&shared).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o1777, "{mode:o}");
    world.wait("the reason", |world| world.log().contains("others may write to"));
    assert_eq!(fs::read_dir(&shared).expect("listed").count(), 0);
}

#[test]
fn two_nodes_do_not_write_into_one_log_directory() {
    let mut world = World::empty();
    let logs = world.root().join("logs");
    world.run(&["--log-dir", &logs.display().to_string()]);
    let other = world.root().join("other.d");
    fs::create_dir(&other).expect("made");

    let state = world.root().join("other-state");
    let (state, logs) = (state.display().to_string(), logs.display().to_string());
    let second = second_node(&other, &["--state-dir", &state, "--log-dir", &logs]);

    assert_eq!(second.status.code(), Some(73), "{}", said(&second));
    assert!(said(&second).contains("is the log directory of another plugd"), "{}", said(&second));
}

#[test]
fn a_state_directory_of_another_node_is_told_as_that_and_nobody_is_to_be_killed() {
    let world = World::running();
    let other = world.root().join("other.d");
    fs::create_dir(&other).expect("made");
    world.wait("the table of lives", |world| world.state().join("lives").exists());

    let run = world.root().join("other-run").display().to_string();
    let second = second_node(&other, &["--state-dir", &world.state().display().to_string(), "--run-dir", &run]);

    let told = said(&second);
    assert_eq!(second.status.code(), Some(73), "{told}");
    // Whichever of its places is met first.
    assert!(!told.contains("kill ") && told.contains("of its own"), "{told}");
}

#[test]
fn the_state_directory_of_a_living_node_names_that_node() {
    let world = World::running();
    let other = world.root().join("other.d");
    fs::create_dir(&other).expect("made");
    world.wait("the table of lives", |world| world.state().join("lives").exists());

    let [run, logs] = ["other-run", "other-logs"].map(|name| world.root().join(name).display().to_string());
    let state = world.state().display().to_string();
    let second = second_node(&other, &["--state-dir", &state, "--run-dir", &run, "--log-dir", &logs]);

    let told = said(&second);
    assert_eq!(second.status.code(), Some(73), "{told}");
    let of = format!("belongs to the node of {}", world.dir().display());
    assert!(told.contains(&of) && !told.contains("kill "), "{told}");

    // As while one controller of it is gone and the next has not written its line yet.
    fs::remove_file(world.state().join("lives")).expect("removed");
    let second = second_node(&other, &["--state-dir", &state, "--run-dir", &run, "--log-dir", &logs]);
    let told = said(&second);
    assert_eq!(second.status.code(), Some(73), "{told}");
    assert!(told.contains("is the state directory of another plugd"), "{told}");
}

#[test]
fn after_an_upgrade_the_places_of_a_node_are_its_own_as_before() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let controller = world.controller_pid();
    world.signal_node(12);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| Some(pid) != controller));
    world.wait("the keeper to be anew", |world| world.log().contains("the keeper was executed anew"));

    // Whoever comes next is kept out by the lock, also where no table tells whose it is.
    for place in [world.state(), world.state().join("logs")] {
        let folder = fs::File::open(&place).expect("a folder");
        let taken = rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert_eq!(taken, Err(rustix::io::Errno::WOULDBLOCK), "{}", place.display());
    }
}

#[test]
fn roots_places_that_are_closed_to_a_user_are_not_the_users_node() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::empty();
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::chown(world.dir(), Some(4321), Some(4321)).expect("chown");
    // Reached by every user, wherever it was built.
    let program = world.root().join("plugd");
    World::copy_program(&program);
    let script = r#"mount -t tmpfs none /run && mkdir -m 700 /run/plugd &&
        exec setpriv --reuid 4321 --regid 4321 --clear-groups "$0" --dir "$1" get"#;
    let asked = command("unshare").args(["--mount", "sh", "-euc", script]).arg(&program).arg(world.dir()).output();
    let asked = asked.expect("unshare");
    assert_eq!(asked.status.code(), Some(6), "{}", said(&asked));
    assert!(said(&asked).contains("no controller answers"), "{}", said(&asked));
}
