//! The claims of `examples/container/Dockerfile`, in a PID namespace of one's own.

use std::fs;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::story::tree_below;
use crate::world::{PATIENCE, World, command, kill};

/// plugd as PID 1. Ends with the test, whatever happens.
struct Container {
    world: World,
    unshare: Child,
}

impl Container {
    fn run(world: World, flags: &[&str]) -> Container {
        let log = fs::File::create(world.root().join("container.log")).expect("a log file");
        let mut command = command("unshare");
        if !rustix::process::getuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", env!("CARGO_BIN_EXE_plugd"), "run"]);
        command.args(flags).arg("--state-dir").arg(world.state()).arg(world.dir());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        Container { unshare: command.spawn().expect("unshare is part of util-linux"), world }
    }

    /// plugd's pid as it is seen from here.
    fn pid_1(&self) -> i32 {
        let below = tree_below(self.unshare.id() as i32);
        let is_first = |pid: &&i32| {
            fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")))
        };
        *below.iter().find(is_first).expect("PID 1 of the namespace")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.root().join("container.log")).unwrap_or_default()
    }

    fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.unshare.try_wait().expect("waitable") {
                return status;
            }
            assert!(Instant::now() < deadline, "the container does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

#[test]
fn a_required_service_that_cannot_come_back_ends_the_container_with_its_code() {
    let world = World::empty();
    world.put("db.yaml", "required: true\nscript: |\n  exit 7\n");
    world.put("web.yaml", "command: sleep 3600\n");
    let mut container = Container::run(world, &["--exit-on-required=1s"]);

    let status = container.wait_end();

    assert_eq!(status.code(), Some(7), "{}", container.log());
    assert_eq!(container.world.status("web"), "stopped (ControllerStopped)");
}

#[test]
fn an_optional_service_that_fails_ends_nothing() {
    let world = World::empty();
    world.put("db.yaml", "required: true\ncommand: sleep 3600\n");
    world.put("web.yaml", "restart: Never\nscript: |\n  exit 7\n");
    let mut container = Container::run(world, &["--exit-on-required=100ms"]);
    container.world.wait_status("web", "failed");
    container.world.wait_status("db", "running");

    kill(container.pid_1(), 15);

    assert_eq!(container.wait_end().code(), Some(0), "{}", container.log());
}

#[test]
fn every_orphan_is_reaped() {
    let world = World::empty();
    world.put("maker.yaml", "script: |\n  for i in 1 2 3 4 5 6 7 8; do (sleep 0 & ) ; done; exec sleep 3600\n");
    let mut container = Container::run(world, &[]);
    container.world.wait_status("maker", "running");
    let first = container.pid_1();
    let zombies = || {
        fs::read_to_string(format!("/proc/{first}/task/{first}/children"))
            .unwrap_or_default()
            .split_whitespace()
            .filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")))
            .count()
    };
    container.world.wait("the eight to be gone", |_| zombies() == 0 && tree_below(first).len() == 2);

    kill(first, 15);

    assert_eq!(container.wait_end().code(), Some(0));
}

#[test]
fn a_docker_stop_is_over_within_8_seconds_even_if_nobody_listens() {
    let world = World::empty();
    world.put("db.yaml", "script: |\n  trap '' TERM; while :; do sleep 0.1; done\n");
    world.put("web.yaml", "dependsOn: [db]\nscript: |\n  trap '' TERM; while :; do sleep 0.1; done\n");
    let mut container = Container::run(world, &[]);
    container.world.wait_status("web", "running");

    let asked = Instant::now();
    kill(container.pid_1(), 15);
    let status = container.wait_end();

    // Docker kills after 10 s; the rest is for a machine that others use, too: the grace of each would be 30 s.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{}", container.log());
    assert!(container.log().contains("db") && container.log().contains("web"), "{}", container.log());
}

#[test]
fn one_command_is_heard_alone() {
    let output = command(env!("CARGO_BIN_EXE_plugd"))
        .args(["run", "--", "sh", "-c", "echo out; echo err >&2"])
        .stdin(Stdio::null())
        .output()
        .expect("plugd can be started");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nerr\n", "both go one way, in their order");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
