//! Checks of a whole node: what a hostile one leaves behind, and a controller that was away.

use std::time::{Duration, Instant};

use crate::soak::times;
use crate::world::{PATIENCE, World, free_port, kill, lives};

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

/// As hostile as the fault says, each of them: two children that hear nothing, one in a session of its own, a gibibyte
/// if it is let, and no end of its own before that.
#[test]
fn ten_thousand_checks_that_flood_fork_and_hear_nothing_leave_no_process_and_no_descriptor() {
    let world = World::running();
    const SERVICES: usize = 20;
    let (keeper, controller) = (world.node_pid(), world.controller_pid().expect("a controller"));
    let before = (open(keeper), open(controller));
    // A length that no other sleeper of this machine has.
    let mark = format!("31{}.25", std::process::id());
    world.put_script(
        "wrappers/flood.sh",
        &format!(
            "#!/bin/sh\ntrap '' TERM INT HUP\nprintf x >> {}\nsleep {mark} &\nsetsid sleep {mark} &\n\
             exec head -c 1073741824 /dev/zero\n",
            world.root().join("count").display()
        ),
    );
    let script = world.path("wrappers/flood.sh");
    let probe = format!(
        "{{exec: {{command: [{}]}}, period: 20ms, timeout: 100ms, failureThreshold: 1000000}}",
        script.display()
    );
    for n in 0..SERVICES {
        world.put(&format!("s{n}.yaml"), &format!("command: sleep 3600\nlivenessProbe: {probe}\n"));
    }
    // A few each time that it waits: thousands of them take longer than its patience.
    for goal in (100..=times(ROUNDS)).step_by(100) {
        world.wait("the next hundred", |world| rounds(world) >= goal);
    }
    for n in 0..SERVICES {
        let name = format!("s{n}");
        assert_eq!(world.field(&name, "restarts").as_deref(), Some("0"));
        let told = world.status_file(&name).unwrap_or_default();
        assert!(told.len() < 16 * 1024, "{} bytes", told.len());
    }
    for n in 0..SERVICES {
        world.remove(&format!("s{n}.yaml"));
    }
    world.wait("the services to go", |world| (0..SERVICES).all(|n| world.status_file(&format!("s{n}")).is_none()));
    world.wait("all that the checks left to go", |_| marked(&mark) == 0);
    world.wait("no child but the controller", |_| children(keeper) == 1);
    // A thread of a pool may still hold what it was asked about last.
    const FEW: usize = 5;
    let now = || (open(keeper), open(controller));
    let is_as_before = |(of_keeper, of_controller)| of_keeper <= before.0 + FEW && of_controller <= before.1 + FEW;
    let mut left = now();
    // Of thousands a busy machine lets go a part only within its patience.
    while !is_as_before(left) {
        world.wait(&format!("fewer descriptors than {left:?}, as before: {before:?}"), |_| {
            now().0 + now().1 < left.0 + left.1 || is_as_before(now())
        });
        left = now();
    }
}

/// How much memory a process has.
fn resident_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// A check that says this and fails, in a world of its own; what is told of it.
fn told_of(world: &World, name: &str, says: &str) -> String {
    let command = serde_json::to_string(&["sh", "-c", says]).expect("printable");
    let probe = format!("{{exec: {{command: {command}}}, period: 1s, timeout: 100s, failureThreshold: 1000000}}");
    world.put(&format!("{name}.yaml"), &format!("command: sleep 3600\nreadinessProbe: {probe}\n"));
    // A gibibyte takes longer than a status.
    let deadline = Instant::now() + 6 * PATIENCE;
    loop {
        if let Some(said) = world.field(name, "check") {
            return said;
        }
        assert!(Instant::now() < deadline, "no answer of {name}\n{}", world.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_check_that_prints_a_gibibyte_is_read_to_its_end_and_4_kib_of_it_are_kept() {
    let world = World::running();
    let controller = world.controller_pid().expect("a controller");
    let before = resident_kib(controller);
    let whole = told_of(&world, "whole", "head -c 1073741824 /dev/zero; echo; echo the end; exit 3");
    assert_eq!(whole, "exec sh exited with 3: the end");
    let grown = resident_kib(controller).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB of memory for one check");
    // One line, and so many bytes behind it that tell nothing.
    let said_before =
        |blank: usize| format!("echo refused by the door; head -c {blank} /dev/zero | tr '\\0' '\\n'; exit 3");
    let line = "refused by the door\n".len();
    assert_eq!(told_of(&world, "kept", &said_before(4096 - line)), "exec sh exited with 3: refused by the door");
    assert_eq!(told_of(&world, "cut", &said_before(4096)), "exec sh exited with 3");
}

#[test]
fn a_check_that_prints_without_end_is_killed_at_its_timeout_with_all_that_it_began() {
    let world = World::running();
    let first = world.root().join("first");
    // Those after the first say nothing, so that what is told is of the first until they are through.
    let says = format!(
        "[ -e {0} ] && exec sleep 50; trap '' TERM; sleep 86400 & echo $$ $! > {0}.new; mv {0}.new {0}; exec yes",
        first.display()
    );
    let command = serde_json::to_string(&["sh", "-c", &says]).expect("printable");
    let probe = format!("{{exec: {{command: {command}}}, period: 1h, timeout: 2s}}");
    let before = Instant::now();
    world.put("web.yaml", &format!("command: sleep 3600\nreadinessProbe: {probe}\n"));
    world.wait("the check to print", |_| first.exists());
    let seen = Instant::now();
    let text = std::fs::read_to_string(&first).expect("readable");
    let pids: Vec<i32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| lives(*pid)), "{text}");
    world.wait("its end", |_| pids.iter().all(|pid| !lives(*pid)));
    // It began between the two; on a busy machine it ends a moment after its time.
    let (most, least) = (before.elapsed(), seen.elapsed());
    assert!(most >= Duration::from_secs(2), "killed after {most:?} at most");
    assert!(least < Duration::from_secs(12), "killed after {least:?} at least");
    world.wait("it to be told", |world| {
        world.field("web", "check").is_some_and(|told| told == "exec sh did not end within 2s: y")
    });
}

#[test]
fn a_controller_that_stood_still_restarts_nothing() {
    let mut world = World::empty();
    let probe = "{exec: {command: [sleep, '0.05']}, period: 200ms, timeout: 3s, failureThreshold: 1}";
    world.put("web.yaml", &format!("command: sleep 3600\nlivenessProbe: {probe}\n"));
    world.run(&[]);
    world.wait_status("web", "healthy");
    let (service, controller) = (world.pid("web").expect("a pid"), world.controller_pid().expect("a controller"));
    // Longer than the check's timeout: what was asked for before has run out of time since.
    kill(controller, libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(4_500));
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

/// Whatever a controller knew of a port, the next one is to know it: the child of a service listens, and goes.
#[test]
fn a_stranger_on_the_port_of_a_service_stays_one_for_the_next_controller() {
    let world = World::running();
    let port = free_port();
    let server = format!(
        "import os, socket, time; open('{}', 'w').write(str(os.getpid())); \
         kept = socket.create_server(('127.0.0.1', {port})); time.sleep(1000)",
        world.root().join("child").display()
    );
    world.put(
        "own.yaml",
        &format!(
            "script: |\n  python3 -c \"{server}\" || sleep 1000\nport: {port}\n\
             readinessProbe: {{tcpSocket: {{port: {port}}}, period: 200ms, failureThreshold: 1}}\n"
        ),
    );
    world.wait_status("own", "healthy");
    let child = std::fs::read_to_string(world.root().join("child")).expect("written");
    kill(child.parse().expect("a pid"), 9);
    let stranger = std::cell::OnceCell::new();
    world.wait("the port to be free", |_| {
        let bound = std::net::TcpListener::bind(("127.0.0.1", port)).ok();
        bound.is_some_and(|bound| stranger.set(bound).is_ok())
    });
    world.wait_status("own", "unhealthy (AddressInUse)");
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    // Whatever it carries on at first, none of its checks passes.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert_ne!(world.status("own"), "healthy");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.wait_status("own", "unhealthy (AddressInUse)");
}
