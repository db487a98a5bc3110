//! A stop and a restart by hand, wherever they fall: what was stopped never starts afterwards, and what
//! was restarted was not ended.

use std::fs;

use crate::world::{World, kill, lives};

fn lines(world: &World, file: &str) -> usize {
    fs::read_to_string(world.root().join(file)).unwrap_or_default().lines().count()
}

/// A clock for what must not happen: a crash loop with the same back-off, which has begun anew, starts so
/// often that what was stopped would have, too.
fn witness(world: &World) {
    let file = world.root().join("witness");
    let text = format!("script: echo >> {}; exit 1\nrestart: {{backoff: {BACKOFF}}}\n", file.display());
    world.put("witness.yaml", &text);
    world.wait("the witness to start five times", |world| lines(world, "witness") >= 5);
}

const BACKOFF: &str = "{initial: 200ms, max: 200ms}";

#[test]
fn what_is_stopped_during_its_back_off_never_starts_afterwards() {
    let world = World::running();
    let file = world.root().join("starts");
    world.put("loop.yaml", &format!("script: echo >> {}; exit 1\nrestart: {{backoff: {BACKOFF}}}\n", file.display()));
    world.wait("a back-off", |world| {
        world.status("loop").starts_with("unhealthy")
            && world.status_file("loop").unwrap_or_default().contains("retryAt:")
    });

    world.ask(&["stop", "loop"]);
    let starts = lines(&world, "starts");
    world.wait_status("loop", "stopped (StoppedByOperator)");

    witness(&world);
    assert_eq!(lines(&world, "starts"), starts);
    assert_eq!(world.status("loop"), "stopped (StoppedByOperator)");
}

#[test]
fn what_is_stopped_during_a_probe_or_a_hook_never_starts_afterwards_and_leaves_neither_behind() {
    let world = World::running();
    let at = world.root().display();
    let hangs = |file: &str| format!("{{exec: {{command: [sh, -c, 'echo $$ >> {at}/{file}; exec sleep 86400']}}");
    world.put(
        "probed.yaml",
        &format!(
            "script: echo $$ >> {at}/starts; exec sleep 86400\nrestart: {{backoff: {BACKOFF}}}\nreadinessProbe: {}, timeout: 1h}}\n",
            hangs("probe")
        ),
    );
    world.put(
        "hooked.yaml",
        &format!("script: echo $$ >> {at}/starts; exec sleep 86400\nlifecycle: {{preStart: {}}}}}\n", hangs("hook")),
    );
    world.wait("probe and hook to run", |world| lines(world, "probe") == 1 && lines(world, "hook") == 1);
    // Only what needs no hook; it may say so after its check.
    world.wait("the one start", |world| lines(world, "starts") == 1);

    world.ask(&["stop", "probed", "hooked"]);
    for name in ["probed", "hooked"] {
        world.wait_status(name, "stopped (StoppedByOperator)");
    }
    for file in ["probe", "hook", "starts"] {
        let pid = fs::read_to_string(world.root().join(file)).expect("written").trim().parse().expect("a pid");
        world.wait(&format!("the {file} to be gone"), |_| !lives(pid));
    }

    witness(&world);
    assert_eq!(["probe", "hook", "starts"].map(|file| lines(&world, file)), [1, 1, 1]);
}

#[test]
fn what_is_restarted_by_hand_is_not_taken_for_its_end() {
    let mut world = World::empty();
    let go = world.root().join("go");
    // By the end of either the node would end: at once, for a job that has failed.
    world.put("must.yaml", "command: sleep 86400\nrequired: true\nrestart: OnFailure\n");
    let job = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    world.put("job.yaml", &format!("script: {job}\nrequired: true\nrestart: Never\n"));
    world.run(&["--exit-on-required=1s"]);
    for name in ["must", "job"] {
        world.wait_status(name, "running");
        let pid = world.pid(name).expect("a pid");

        world.ask(&["restart", name]);

        world.wait("a new process", |world| {
            world.pid(name).is_some_and(|next| next != pid) && world.status(name) == "running"
        });
        assert!(!lives(pid));
        assert_eq!(world.field(name, "restarts").as_deref(), Some("0"), "{name} was asked for it");
    }
    // A later turn of the same loop would have told that the node ends.
    witness(&world);
    let told = world.node_status().expect("there");
    assert!(!told.contains("endsFor") && lives(world.node_pid()), "{told}");

    fs::write(&go, "").expect("written");
    world.wait_status("job", "completed");
    // The other way round: what ends by itself is an end.
    kill(world.pid("must").expect("a pid"), libc::SIGKILL);
    world.wait("it to run again", |world| world.field("must", "restarts").as_deref() == Some("1"));
    assert!(world.stop().success());
}

#[test]
fn a_dependency_that_comes_goes_and_comes_is_waited_for_by_who_is_late_and_lost_by_nobody() {
    let world = World::running();
    let flag = world.root().join("flag");
    let set =
        |up: bool| if up { fs::write(&flag, "").expect("written") } else { fs::remove_file(&flag).expect("removed") };
    let check = format!("{{exec: {{command: [test, -e, '{}']}}, period: 50ms, failureThreshold: 1}}", flag.display());
    set(true);
    world.put("db.yaml", &format!("command: sleep 86400\nreadinessProbe: {check}\n"));
    world.put("early.yaml", "command: sleep 86400\ndependsOn: [db]\n");
    world.wait_status("db", "healthy");
    world.wait_status("early", "running");
    let (db, early) = (world.pid("db"), world.pid("early"));

    set(false);
    world.wait_status("db", "unhealthy (ProbeFailed)");
    world.put("meanwhile.yaml", "command: sleep 86400\ndependsOn: [db]\n");
    world.wait_status("meanwhile", "waiting (DependencyNotReady)");

    set(true);
    world.wait("it to be ready again", |world| world.field("db", "ready").as_deref() == Some("1/1"));
    world.put("late.yaml", "command: sleep 86400\ndependsOn: [db]\n");
    for name in ["meanwhile", "late"] {
        world.wait_status(name, "running");
    }
    assert_eq!((world.pid("db"), world.pid("early")), (db, early), "neither was restarted for it");
}
