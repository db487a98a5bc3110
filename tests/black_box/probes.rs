//! Checks of a whole node: what a hostile one leaves behind, and a controller that was away.

use std::time::{Duration, Instant};

use crate::soak::times;
use crate::world::{World, free_port, kill, lives};

/// As the fault says: so many checks leave no process and no descriptor behind.
const ROUNDS: usize = 10_000;

/// Processes that have this word among their arguments.
fn marked(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let words = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
    entries.map(words).filter(|line| line.split(|byte| *byte == 0).any(|one| one == word.as_bytes())).count()
}

/// How often the check has run: each writes a byte.
fn rounds(world: &World) -> usize {
    std::fs::metadata(world.root().join("count")).map_or(0, |meta| meta.len() as usize)
}

fn open(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Children of the keeper, the dead that nobody has reaped among them.
fn children(pid: i32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().count()
}

#[test]
fn a_check_that_floods_forks_and_ignores_term_leaves_nothing_in_any_round() {
    let world = World::running();
    // A length that no other sleeper of this machine has.
    let mark = format!("31{}.25", std::process::id());
    // A gibibyte a round if it is let, two children that hear nothing, and no end.
    world.put_script(
        "wrappers/flood.sh",
        &format!(
            "#!/bin/sh\ntrap '' TERM INT HUP\nprintf x >> {}\nsleep {mark} &\nsetsid sleep {mark} &\n\
             exec head -c 1073741824 /dev/zero\n",
            world.root().join("count").display()
        ),
    );
    let script = world.path("wrappers/flood.sh");
    for service in ["one", "two"] {
        world.put(
            &format!("{service}.yaml"),
            &format!(
                "command: sleep 3600\nlivenessProbe: {{exec: {{command: [{}]}}, period: 20ms, timeout: 10ms, \
                 failureThreshold: 1000000}}\n",
                script.display()
            ),
        );
    }
    // A few each time that it waits: hundreds of them take longer than its patience.
    for goal in (20..=times(20)).step_by(20) {
        world.wait("the next twenty rounds", |world| rounds(world) >= goal);
    }
    let told = world.status_file("one").unwrap_or_default();
    assert!(told.len() < 16 * 1024, "{} bytes", told.len());
    world.remove("one.yaml");
    world.remove("two.yaml");
    world.wait("the services to go", |world| world.status_file("one").is_none() && world.status_file("two").is_none());
    world.wait("all that the checks left to go", |_| marked(&mark) == 0);
}

#[test]
fn ten_thousand_checks_leave_no_process_and_no_descriptor() {
    let world = World::running();
    const SERVICES: usize = 20;
    let check = format!("[sh, -c, 'printf x >> {}']", world.root().join("count").display());
    for n in 0..SERVICES {
        let probe = format!("livenessProbe: {{exec: {{command: {check}}}, period: 10ms, timeout: 20s}}");
        world.put(&format!("s{n}.yaml"), &format!("command: sleep 3600\n{probe}\n"));
    }
    let (keeper, controller) = (world.node_pid(), world.controller_pid().expect("a controller"));
    world.wait("the first of them", |world| rounds(world) >= 500);
    let before = (open(keeper), open(controller));
    for goal in (100..=times(ROUNDS)).step_by(100) {
        world.wait("the next hundred", |world| rounds(world) >= goal);
    }
    for n in 0..SERVICES {
        assert_eq!(world.field(&format!("s{n}"), "restarts").as_deref(), Some("0"));
    }
    // At any moment each service has at most one check that runs.
    world.wait("no more descriptors than there were", |_| {
        open(keeper) <= before.0 + 2 * SERVICES && open(controller) <= before.1 + 2 * SERVICES
    });
    world.wait("no more children than services and checks", |_| children(keeper) <= 2 * SERVICES + 2);
}

#[test]
fn a_controller_that_stood_still_restarts_nothing() {
    let mut world = World::empty();
    let probe = "{exec: {command: [sleep, '0.05']}, period: 200ms, timeout: 900ms, failureThreshold: 1}";
    world.put("web.yaml", &format!("command: sleep 3600\nlivenessProbe: {probe}\n"));
    world.run(&[]);
    world.wait_status("web", "healthy");
    let (service, controller) = (world.pid("web").expect("a pid"), world.controller_pid().expect("a controller"));
    // Longer than the check's timeout: what was asked for before has run out of time since.
    kill(controller, libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(2_500));
    kill(controller, libc::SIGCONT);
    // Several checks later.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(lives(service) && world.pid("web") == Some(service), "{}\n{}", world.status("web"), world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As the kernel has it, who binds the very address goes before who binds all.
#[test]
fn a_stranger_who_answers_in_the_place_of_a_service_does_not_keep_it_healthy() {
    let bind = |addr: &str, port: u16| {
        let code = format!(
            "import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); \
             s.bind(('{addr}', {port})); s.listen(); print('bound', flush=True); time.sleep(1000)"
        );
        serde_json::to_string(&["python3", "-c", &code]).expect("printable")
    };
    let world = World::running();
    let port = free_port();
    world.put(
        "web.yaml",
        &format!(
            "command: {}\nport: {port}\nreadinessProbe: {{tcpSocket: {{port: {port}}}, period: 50ms}}\n",
            bind("0.0.0.0", port)
        ),
    );
    world.wait_status("web", "healthy");
    let pid = world.pid("web").expect("a pid");

    world.put("other.yaml", &format!("command: {}\n", bind("127.0.0.1", port)));
    world.wait("who answers to be told", |world| {
        let told = world.status_file("web").unwrap_or_default();
        told.contains("AddressInUse") && told.contains(&format!("port {port} is held by the service other"))
    });
    world.remove("other.yaml");
    world.wait_status("web", "healthy");
    assert_eq!(world.pid("web"), Some(pid));
}
