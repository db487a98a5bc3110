//! What a change of controllers leaves as it was: who is ready, a stop that is under way, what was told.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::last_good::{is_told, replace_controller, write_down};
use crate::world::{World, kill};

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(String::from).collect()
}

#[test]
fn a_stop_that_is_under_way_goes_on_under_the_next_controller() {
    let world = World::running();
    let (said, go, deaf) = (world.root().join("said"), world.root().join("go"), world.root().join("deaf"));
    // Its hook waits for us, so it runs as long as we want.
    world.put(
        "drained.yaml",
        &format!(
            "script: |\n  trap 'echo term >> {0}; exit 0' TERM; echo set >> {0}; while :; do sleep 0.02; done\n\
             lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo pre >> {0}; while ! test -e {1}; do sleep 0.02; done; echo predone >> {0}']}}}}}}\n\
             stop: {{gracePeriod: 60s}}\n",
            said.display(),
            go.display()
        ),
    );
    world.put(
        "deaf.yaml",
        &format!(
            "script: |\n  trap 'echo term >> {0}' TERM; echo set >> {0}; while :; do sleep 0.02 || :; done\nstop: {{gracePeriod: 10s}}\n",
            deaf.display()
        ),
    );
    world.wait("both to be set", |_| lines(&said) == ["set"] && lines(&deaf) == ["set"]);
    ["drained", "deaf"].iter().for_each(|name| world.wait_status(name, "running"));
    let pids = ["drained", "deaf"].map(|name| world.pid(name).expect("a pid"));
    world.remove("drained.yaml");
    world.remove("deaf.yaml");
    let asked = Instant::now();
    world.wait("hook and signal", |_| lines(&said) == ["set", "pre"] && lines(&deaf) == ["set", "term"]);

    // Half of the grace is over when the other controller comes.
    world.wait("half of the grace", |_| asked.elapsed() >= Duration::from_secs(5));
    replace_controller(&world);
    world.wait("the next to tell of them", |world| is_told(world, "drained") && is_told(world, "deaf"));
    assert!(world.status("drained").starts_with("stopping") && world.status("deaf").starts_with("stopping"));
    assert_eq!(lines(&said), ["set", "pre"], "its hook is waited for");

    world.wait("the deaf one to be killed", |world| world.status_file("deaf").is_none());
    assert!(asked.elapsed() >= Duration::from_secs(10), "it had its grace");
    assert!(asked.elapsed() < Duration::from_secs(15), "and no second one: {:?}", asked.elapsed());
    assert_eq!(lines(&deaf), ["set", "term"], "nor a second signal");
    fs::write(&go, "").expect("written");
    world.wait("the end of the other", |world| world.status_file("drained").is_none());
    assert_eq!(lines(&said), ["set", "pre", "predone", "term"]);
    assert!(pids.iter().all(|&pid| !crate::world::lives(pid)));
}

#[test]
fn what_was_ready_is_never_told_otherwise_by_the_next_controller() {
    let world = World::running();
    let (run, ok) = (world.root().join("run"), world.root().join("ok"));
    // A check that answers at once the first time, and then not before we let it.
    fs::write(&ok, "").expect("written");
    world.put(
        "slow.yaml",
        &format!(
            "command: sleep 3600\nreadinessProbe: {{exec: {{command: [sh, -c, 'echo >> {}; while ! test -e {}; do sleep 0.02; done']}}, \
             period: 1s, timeout: 50s}}\n",
            run.display(),
            ok.display()
        ),
    );
    world.put("failed.yaml", "command: sh -c 'exit 5'\nrestart: Never\n");
    world.wait_status("slow", "healthy");
    world.wait_status("failed", "failed");
    let (pid, since) = (world.pid("slow"), world.field("slow", "since"));
    write_down(&world);
    fs::remove_file(&ok).expect("removed");
    let checks = lines(&run).len();
    world.wait("a check that hangs", |_| lines(&run).len() > checks);

    for _ in 0..2 {
        let checks = lines(&run).len();
        replace_controller(&world);
        world.wait("the next to tell of it", |world| is_told(world, "slow") && is_told(world, "failed"));
        assert_eq!(world.status("slow"), "healthy");
        assert_eq!((world.pid("slow"), world.field("slow", "since")), (pid, since.clone()));
        world.ask(&["wait", "slow", "--timeout", "5s"]);
        world.wait("it to be looked at anew", |_| lines(&run).len() > checks);
        assert_eq!(world.status("slow"), "healthy");
        let told = world.ask(&["events"]);
        assert!(!told.contains("failed: [slow") && !told.contains("not ready"), "{told}");
    }
    world.wait("what the first controller told to be told on", |world| {
        world.ask(&["events", "failed"]).contains("Exited")
    });
    let events = world.ask(&["events", "failed"]);
    assert_eq!((events.matches("exited with 5").count(), events.matches("RunsAsRoot").count()), (1, 1), "{events}");
    assert_eq!(world.status("failed"), "failed (Error)");

    // It is what it is as soon as its check says so.
    fs::write(&ok, "").expect("written");
    kill(pid.expect("a pid"), 9);
    world.wait("its restart", |world| world.pid("slow").is_some_and(|new| Some(new) != pid));
    world.wait_status("slow", "healthy");
}

#[test]
fn a_memory_that_is_taken_away_between_two_controllers_is_told_as_lost() {
    let world = World::running();
    write_down(&world);
    let controller = world.controller_pid().expect("a controller");
    // It would make the file again.
    kill(controller, 19);
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        fs::remove_file(world.state().join(file)).expect("removed");
    }
    kill(controller, 9);
    world.wait("that to be told", |world| {
        world.status_file("_controller").is_some_and(|text| text.contains("type: MemoryLost"))
    });
    // Words for stderr are written a moment behind.
    world.wait("the words of it", |world| world.log().contains("was taken away"));
}
