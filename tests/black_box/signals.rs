//! How a service ends by each signal, and how the node does by its third.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, kill, lives};

/// What these do by default is nothing, or to stop or go on.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

#[test]
fn the_end_by_each_signal_is_told_as_128_and_its_number_and_only_a_code_that_is_listed_is_no_failure() {
    let world = World::running();
    let text = "restart: {policy: OnFailure, backoff: {initial: 0ms, max: 0ms}}\ncommand: sleep 86400\n";
    let name = |signal: i32| format!("s{signal}");
    let mut pids = vec![0];
    for signal in 1..=31 {
        world.put(&format!("{}.yaml", name(signal)), text);
    }
    world.put("asked.yaml", "restart: {policy: OnFailure, successExitCodes: [143]}\ncommand: sleep 86400\n");
    for signal in 1..=31 {
        world.wait_status(&name(signal), "running");
        pids.push(world.pid(&name(signal)).expect("a pid"));
    }
    world.wait_status("asked", "running");

    for signal in 1..=31 {
        kill(pids[signal as usize], signal);
    }
    kill(world.pid("asked").expect("a pid"), libc::SIGTERM);

    for signal in (1..=31).filter(|signal| !HARMLESS.contains(signal)) {
        let (name, pid) = (name(signal), pids[signal as usize]);
        world.wait(&format!("{name} to run again"), |world| {
            world.status(&name) == "running" && world.pid(&name).is_some_and(|next| next != pid)
        });
        let exit = world.field(&name, "lastExit").expect("it is told");
        assert!(exit.contains(&format!("code: {}", 128 + signal)), "{name}: {exit}");
        assert!(exit.contains("signal: SIG"), "{name}: {exit}");
        assert_eq!(world.field(&name, "restarts").as_deref(), Some("1"), "{name}");
    }
    // What was asked for by a code that is listed has run to its end.
    world.wait_status("asked", "completed");
    assert!(world.field("asked", "lastExit").is_some_and(|exit| exit.contains("code: 143")));
    assert!(world.pid("asked").is_none());
    for signal in HARMLESS {
        let (name, pid) = (name(signal), pids[signal as usize]);
        assert_eq!((world.status(&name), world.pid(&name)), ("running".into(), Some(pid)), "signal {signal}");
        assert!(lives(pid) && world.field(&name, "restarts").as_deref() == Some("0"), "signal {signal}");
    }
}

/// Traced by somebody who does not look: it hears no TERM, and after KILL nobody can reap it.
struct Held(std::process::Child);

impl Held {
    fn hold(pid: i32) -> Held {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
        let held = Held(strace.spawn().expect("strace is installed by test.sh"));
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        let deadline = Instant::now() + crate::world::PATIENCE;
        while !traced() {
            assert!(Instant::now() < deadline, "{pid} is never traced");
            std::thread::sleep(Duration::from_millis(2));
        }
        kill(held.0.id() as i32, libc::SIGSTOP);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_term_cuts_every_grace_and_a_third_leaves_what_cannot_be_ended() {
    let mut world = World::running();
    for name in ["stuck", "deaf"] {
        let told = world.root().join(name);
        world.put(
            &format!("{name}.yaml"),
            &format!("stop: {{gracePeriod: 1h}}\nscript: |\n  trap 'touch {0}.told' TERM; touch {0}\n  while :; do sleep 0.02 || :; done\n", told.display()),
        );
        world.wait("its trap to be set", |_| told.exists());
        world.wait_status(name, "running");
    }
    let (stuck, deaf) = (world.pid("stuck").expect("a pid"), world.pid("deaf").expect("a pid"));
    let held = Held::hold(stuck);

    world.signal_node(libc::SIGTERM);
    world.wait("the first to be heard", |world| world.root().join("deaf.told").exists());
    world.wait_status("deaf", "stopping");
    assert!(lives(deaf), "it has an hour");
    // Two within a tenth of a second are one wish: an init tells the process, and then its group.
    let apart = || std::thread::sleep(Duration::from_millis(150));
    apart();

    world.signal_node(libc::SIGTERM);
    world.wait("the second to end what can be", |_| !lives(deaf));
    world.wait("the end of what can be to be told", |world| world.status("deaf").starts_with("stopped"));
    assert!(world.status("stuck").starts_with("stopping"), "nobody could reap it: {}", world.status("stuck"));
    assert!(lives(world.node_pid()), "what is left is waited for");

    apart();
    let asked = Instant::now();
    world.signal_node(libc::SIGTERM);
    assert_eq!(world.wait_end().code(), Some(128 + libc::SIGTERM));
    // It would have given up by itself 10 s after it began.
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    drop(held);
}
