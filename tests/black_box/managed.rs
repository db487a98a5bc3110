//! plugd under a service manager: what arrives at NOTIFY_SOCKET.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, World, kill};

/// What a manager heard, a line each.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listening(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        Manager { socket, heard: Vec::new() }
    }

    fn hear(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let Ok(length) = self.socket.recv(&mut buffer) else { return false };
        let text = String::from_utf8_lossy(&buffer[..length]);
        self.heard.extend(text.lines().map(String::from));
        true
    }

    /// Hears on until this line has come, after so many others; says how many there are then, with it.
    fn until(&mut self, from: usize, holds: impl Fn(&str) -> bool, what: &str) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.heard[from..].iter().position(|line| holds(line)) {
                return from + at + 1;
            }
            assert!(Instant::now() < deadline, "waited for {what} after {from} lines; heard {:#?}", self.heard);
            self.hear();
        }
    }

    fn line(&mut self, from: usize, line: &str) -> usize {
        self.until(from, |heard| heard == line, line)
    }
}

#[test]
fn a_manager_hears_of_readiness_sums_a_reload_another_controller_and_the_end() {
    let mut world = World::empty();
    let path = world.root().join("notify");
    let mut manager = Manager::listening(UnixDatagram::bind(&path).expect("bound"));
    world.env.push(("NOTIFY_SOCKET", path.display().to_string()));
    // Tests that run under nohup hand on an ignored HUP, and plugd stays deaf to it.
    world.under = vec!["env".into(), "--default-signal=HUP".into()];
    world.put("web.yaml", "script: exec sleep 600\n");
    world.put("bad.yaml", "script: exit 3\nrestart: Never\n");
    world.put("sees.yaml", "script: test -z \"${NOTIFY_SOCKET-}${WATCHDOG_USEC-}\"\nrestart: Never\n");
    world.run(&[]);
    let keeper = world.node_pid();

    let ready = manager.line(0, "READY=1");
    manager.line(ready, &format!("MAINPID={keeper}"));
    let sums = manager.line(0, "STATUS=2 of 3 services are up; failed: bad (Error)");
    world.wait_status("sees", "completed");

    // A reload ends with READY, and what it found is there.
    world.put("more.yaml", "script: exec sleep 600\n");
    kill(keeper, libc::SIGHUP);
    let begun = manager.line(ready, "RELOADING=1");
    manager.until(begun, |line| line.starts_with("MONOTONIC_USEC="), "when it began");
    let reloaded = manager.line(begun, "READY=1");
    manager.line(sums, "STATUS=3 of 4 services are up; failed: bad (Error)");

    // Another controller is the same service: it says how things are, of the same main process.
    kill(world.controller_pid().expect("a controller"), libc::SIGKILL);
    let again = manager.line(reloaded, "READY=1");
    manager.line(again, &format!("MAINPID={keeper}"));
    assert!(!manager.heard.iter().any(|line| line == "STOPPING=1" || line == "WATCHDOG=1"), "{:#?}", manager.heard);

    world.stop();
    manager.line(again, "STOPPING=1");
}

#[test]
fn a_watchdog_is_fed_by_a_loop_that_turns_and_by_nobody_else() {
    let mut world = World::empty();
    let name = format!("plugd-test-watchdog-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let mut manager = Manager::listening(UnixDatagram::bind_addr(&address).expect("bound"));
    world.env.push(("NOTIFY_SOCKET", format!("@{name}")));
    world.env.push(("WATCHDOG_USEC", "400000".into()));
    world.run(&[]);
    let mut beat = 0;
    for _ in 0..3 {
        beat = manager.line(beat, "WATCHDOG=1");
    }

    let controller = world.controller_pid().expect("a controller");
    kill(controller, libc::SIGSTOP);
    world.wait("the controller to stand still", |_| {
        std::fs::read_to_string(format!("/proc/{controller}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    while manager.hear() {}
    let before = manager.heard.len();
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(1) {
        manager.hear();
    }
    assert_eq!(manager.heard.len(), before, "a loop that stands still says nothing: {:#?}", manager.heard);
    kill(controller, libc::SIGCONT);
    manager.line(before, "WATCHDOG=1");
}

#[test]
fn the_unit_of_the_examples_is_one_that_systemd_understands() {
    let unit = include_str!("../../examples/systemd/plugd.service");
    for needed in ["Type=notify", "NotifyAccess=all", "KillMode=mixed", "Delegate=yes"] {
        assert!(unit.lines().any(|line| line == needed), "{needed}");
    }
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if !analyze.exists() {
        eprintln!("systemd-analyze is not installed: its word on the unit is not asked for");
        return;
    }
    let temp = tempfile::tempdir().expect("a temp folder");
    let path = temp.path().join("plugd.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/plugd", env!("CARGO_BIN_EXE_plugd"))).expect("written");
    let verified = Command::new(analyze).args(["verify", "--man=no"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(!said.contains("plugd.service"), "{said}");
}
