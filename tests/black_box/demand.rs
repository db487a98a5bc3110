//! Services that the first connection starts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::last_good::{is_told, replace_controller, write_down};
use crate::soak::times;
use crate::world::{PATIENCE, World, free_port, kill, lives};

/// Answers each connection with its version, all of what it was sent, and how often it was started.
const SERVER: &str = r#"
import os, socket, threading
def serve(connection):
    said = b''
    while True:
        part = connection.recv(65536)
        if not part: break
        said += part
    connection.sendall(b'VERSION said ' + said)
    connection.close()
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])), backlog=1024)
print('listening', flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"#;

pub fn manifest(port: u16, version: &str, activation: &str) -> String {
    let server = SERVER.replace("VERSION", version).replace('\n', "\n      ");
    format!(
        "command:\n  - python3\n  - -c\n  - |\n      {server}\nport: {port}\nactivation: {{onDemand: true{activation}}}\n"
    )
}

/// What the service answers; the connection was made, whatever became of it.
pub fn call(port: u16, words: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(words.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Calls a service all the while: how often it was answered, and how many connections broke. Nobody is ever refused.
pub fn caller(port: u16, over: &Arc<AtomicBool>) -> JoinHandle<(usize, usize)> {
    let over = Arc::clone(over);
    std::thread::spawn(move || {
        let (mut answered, mut broken) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            match call(port, "hello") {
                Ok(answer) if answer == "one said hello" => answered += 1,
                // Let in by a controller that was killed: begun, not refused.
                Ok(_) => broken += 1,
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::ConnectionRefused, "after {answered} calls");
                    broken += 1;
                }
            }
        }
        (answered, broken)
    })
}

pub fn refused(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn the_first_call_starts_it_idleness_stops_it_and_the_next_call_starts_it_again() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ", idleStop: 1s"));
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(world.field("web", "available").as_deref(), Some("true"));
    assert_eq!(world.pid("web"), None);

    assert_eq!(call(port, "hello").expect("answered"), "one said hello");
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(call(port, "again").expect("answered"), "one said again");
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"));
    let over_six = TcpStream::connect((Ipv6Addr::LOCALHOST, port));
    assert!(over_six.is_ok() || TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err(), "IPv6 where there is any");

    // An open connection is use, however silent.
    let open = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("let in");
    world.wait_status("web", "healthy");
    let pid = world.pid("web").expect("it runs");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert!(lives(pid), "stopped under an open connection");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(open);
    drop(over_six);
    world.wait_status("web", "waiting (OnDemand)");

    // Gone with its file: an honest no.
    world.remove("web.yaml");
    world.wait("the port to be closed", |_| refused(port));
}

#[test]
fn one_whose_last_start_failed_is_told_as_that_until_a_call_is_answered() {
    let world = World::running();
    let (port, broken) = (free_port(), world.root().join("broken"));
    let program = world.root().join("server.py");
    std::fs::write(&program, SERVER.replace("VERSION", "one")).expect("written");
    let text = format!(
        "script: |\n  if test -e {}; then echo no such table >&2; exit 3; fi\n  exec python3 {}\nport: {port}\n\
         activation: {{onDemand: true, idleStop: 1s, holdRequests: 1s}}\n",
        broken.display(),
        program.display(),
    );
    world.put("web.yaml", &text);
    world.wait_status("web", "waiting (OnDemand)");
    std::fs::write(&broken, "").expect("written");
    call(port, "hello").expect_err("nobody answers");
    world.wait_status("web", "failed (Error)");
    let file = world.status_file("web").expect("a status");
    assert!(file.contains("its last start failed: exited with 3") && file.contains("no such table"), "{file}");
    assert!(file.contains("tried again at a connection from "), "{file}");
    assert_eq!(world.field("web", "available").as_deref(), Some("false"));
    let asked = world.plugd(&["wait", "web"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(!refused(port), "the next call is another try");
    // The next controller tells the same.
    kill(world.controller_pid().expect("a pid"), 9);
    world.wait_status("web", "failed (Error)");

    std::fs::remove_file(&broken).expect("removed");
    // It is held no longer than was asked for, and the ladder may be longer.
    world.wait("a call to be answered", |_| call(port, "again").is_ok_and(|said| said == "one said again"));
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(world.field("web", "available").as_deref(), Some("true"));
}

#[test]
fn two_hundred_first_calls_at_once_are_all_answered() {
    let port = free_port();
    two_hundred_first_calls(port, &manifest(port, "one", ""));
}

/// Of a service that answers each with `one said` and what it was sent.
pub fn two_hundred_first_calls(port: u16, manifest: &str) {
    let world = World::running();
    world.put("web.yaml", manifest);
    world.wait_status("web", "waiting (OnDemand)");
    let calls: Vec<_> = (0..200).map(|n| std::thread::spawn(move || call(port, &format!("{n}")))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.join().expect("a thread").expect("answered"), format!("one said {n}"));
    }
}

#[test]
fn twenty_kills_of_the_controller_refuse_nobody() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4).map(|_| caller(port, &over)).collect();
    for round in 0..times(20) {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        world.wait(&format!("a new controller after kill {round}"), |world| {
            world.controller_pid().is_some_and(|pid| pid != controller)
        });
    }
    world.wait_status("web", "healthy");
    assert_eq!(call(port, "last").expect("answered"), "one said last");
    over.store(true, Ordering::Relaxed);
    let (answered, broken) = callers
        .into_iter()
        .map(|caller| caller.join().expect("nobody was refused"))
        .fold((0, 0), |(answered, broken), (more, lost)| (answered + more, broken + lost));
    assert!(answered > 0, "{broken} calls broke");
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "the same process all along");
}

#[test]
fn an_edit_under_load_refuses_nobody_and_the_new_version_answers() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(call(port, "x").expect("answered"), "one said x");
    world.put("web.yaml", &manifest(port, "two", ""));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call(port, "x") {
            Ok(answer) if answer == "two said x" => break,
            Ok(_) => {}
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::ConnectionRefused),
        }
        assert!(Instant::now() < deadline, "the new version never answered");
    }
}

#[test]
fn stopped_by_hand_its_port_is_closed_and_start_opens_it() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    world.ask(&["stop", "web"]);
    world.wait("the port to be closed", |_| refused(port));
    world.ask(&["start", "web"]);
    world.wait_status("web", "healthy");
    assert_eq!(call(port, "x").expect("answered"), "one said x");
}

#[test]
fn who_waits_too_long_is_sent_away_and_it_is_said() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &format!("script: exit 3\nport: {port}\nactivation: {{onDemand: true, holdRequests: 1s}}\n"));
    world.wait_status("web", "waiting (OnDemand)");
    let since = Instant::now();
    // Closed, with a reset or without.
    assert_eq!(call(port, "x").unwrap_or_default(), "");
    assert!(since.elapsed() >= Duration::from_millis(900), "it was held");
    world.wait("the event", |world| world.ask(&["events"]).contains("HoldExpired"));
}

/// Somebody else listens where callers of `web` come to.
fn held_port_of_web(world: &World) -> (TcpListener, u16) {
    let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = held.local_addr().expect("bound").port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "unhealthy (AddressInUse)");
    (held, port)
}

#[test]
fn a_port_that_somebody_holds_is_said_with_his_name_and_taken_when_it_is_free() {
    let world = World::running();
    let (held, port) = held_port_of_web(&world);
    world.wait("the holder", |world| {
        world.status_file("web").is_some_and(|text| text.contains(&format!("pid {}", std::process::id())))
    });
    drop(held);
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(call(port, "x").expect("answered"), "one said x");

    // Two of one port: the second says so.
    world.put("other.yaml", &manifest(port, "two", ""));
    world.wait_status("other", "unhealthy (AddressInUse)");
    world.wait("whose it is", |world| {
        world.status_file("other").is_some_and(|text| text.contains("the service web already"))
    });
}

#[test]
fn renamed_it_refuses_nobody_and_is_no_conflict_with_itself() {
    let world = World::running();
    let port = free_port();
    world.put("a.yaml", &manifest(port, "one", ""));
    world.wait_status("a", "waiting (OnDemand)");
    // Asleep, then while it runs: from a to b and back.
    for [from, to] in [["a", "b"], ["b", "a"]] {
        std::fs::rename(world.path(&format!("{from}.yaml")), world.path(&format!("{to}.yaml"))).expect("renamed");
        let conflict = || world.status_file(to).is_some_and(|text| text.contains("AddressInUse"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = call(port, "x");
            let kind = answer.as_ref().map_err(std::io::Error::kind);
            assert_ne!(kind.err(), Some(std::io::ErrorKind::ConnectionRefused), "from {from} to {to}");
            assert!(!conflict(), "from {from} to {to}: {:?}", world.status_file(to));
            if answer.is_ok_and(|answer| answer == "one said x") && world.status(to) == "healthy" {
                break;
            }
            assert!(Instant::now() < deadline, "{to} never answered");
        }
    }
}

#[test]
fn who_waits_for_a_port_of_ours_has_it_as_soon_as_it_is_given_up() {
    let world = World::running();
    let port = free_port();
    world.put("first.yaml", &manifest(port, "one", ""));
    world.wait_status("first", "waiting (OnDemand)");
    world.put("other.yaml", &manifest(port, "two", ""));
    world.wait_status("other", "unhealthy (AddressInUse)");
    world.ask(&["stop", "first"]);
    world.wait("the other one to have it", |world| {
        assert!(!refused(port), "it goes from one to the other");
        world.status("other") != "unhealthy (AddressInUse)"
    });
    assert_eq!(call(port, "x").expect("answered"), "two said x");
}

#[test]
fn a_crash_loop_is_waited_out_and_who_waited_is_answered() {
    let world = World::running();
    let port = free_port();
    let cured = world.root().join("cured");
    let sick = format!("x = 1\n      if not os.path.exists('{}'): raise SystemExit(3)\n      ", cured.display());
    let text = manifest(port, "one", ", holdRequests: 60s").replace("def serve", &format!("{sick}def serve"));
    world.put("web.yaml", &text);
    world.wait_status("web", "waiting (OnDemand)");
    let caller = std::thread::spawn(move || call(port, "patient"));
    world.wait("its crashes to be told", |world| {
        world.status("web").starts_with("unhealthy") && world.field("web", "restarts").is_some_and(|count| count != "0")
    });
    let restarts: u32 = world.field("web", "restarts").expect("told").parse().expect("a number");
    assert!(restarts < 10, "{restarts} restarts: the ladder is climbed, however many wait");
    std::fs::write(&cured, "").expect("written");
    assert_eq!(caller.join().expect("a thread").expect("answered"), "one said patient");
}

#[test]
fn what_crashes_after_it_was_called_is_told_so_and_tried_on_by_the_next_controller() {
    let world = World::running();
    let port = free_port();
    let text = format!(
        "script: exit 3\nport: {port}\nactivation: {{onDemand: true, holdRequests: 1s}}\n\
         restart: {{crashLoopAfter: 2, backoff: {{initial: 100ms, max: 300ms}}}}\n"
    );
    world.put("web.yaml", &text);
    world.wait_status("web", "waiting (OnDemand)");
    let words = "unhealthy (CrashLoopBackOff)";
    assert_eq!(call(port, "in vain").unwrap_or_default(), "", "it is sent away");
    world.wait_status("web", words);
    write_down(&world);
    let restarts = |world: &World| world.field("web", "restarts").and_then(|count| count.parse::<u32>().ok());
    let before = restarts(&world);
    replace_controller(&world);
    world.wait("the next one to try on and to tell it", |world| {
        assert!(!world.status("web").starts_with("failed"), "{}", world.status("web"));
        is_told(world, "web") && restarts(world) > before && world.status("web") == words
    });
}

#[test]
fn a_private_port_that_somebody_took_meanwhile_is_another_at_the_next_start() {
    let world = World::running();
    let port = free_port();
    let own = "' + os.environ['PORT'].encode() + b'";
    world.put("web.yaml", &manifest(port, own, ", idleStop: 1s"));
    world.wait_status("web", "waiting (OnDemand)");
    let private = |answer: String| answer.strip_suffix(" said x").and_then(|own| own.parse::<u16>().ok()).ok_or(answer);
    let first = private(call(port, "x").expect("answered")).expect("its port and what was said");
    assert_ne!(first, port);
    // Of before the call its status says the same.
    let taken = std::cell::OnceCell::new();
    world.wait("its port to be free while it sleeps", |world| {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok();
        world.status("web") == "waiting (OnDemand)" && bound.is_some_and(|bound| taken.set(bound).is_ok())
    });
    let second = private(call(port, "x").expect("answered")).expect("its port and what was said");
    assert_ne!(second, first);
}

#[test]
fn an_upgrade_refuses_nobody() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    let controller = world.controller_pid().expect("a controller");
    world.signal_node(12);
    while world.controller_pid().is_none_or(|pid| pid == controller) {
        assert!(!refused(port), "while the controller is replaced");
    }
    assert_eq!(call(port, "x").expect("answered"), "one said x");
}

#[test]
fn one_that_is_on_demand_plain_and_on_demand_again_is_called_as_before() {
    let world = World::running();
    let port = free_port();
    let lazy = manifest(port, "one", ", idleStop: 1h");
    let plain: String =
        lazy.lines().filter(|line| !line.starts_with("activation:")).map(|line| format!("{line}\n")).collect();
    world.put("web.yaml", &lazy);
    world.wait_status("web", "waiting (OnDemand)");
    for round in 0..5 {
        assert_eq!(call(port, "hello").expect("answered"), "one said hello");
        world.wait_status("web", "healthy");
        world.put("web.yaml", &plain);
        world.wait("it to listen itself", |world| {
            world.status("web") == "healthy"
                && world.status_file("web").is_some_and(|text| text.contains(&format!("check: tcp 127.0.0.1:{port} ")))
        });
        world.put("web.yaml", &lazy);
        world.wait("plugd to listen for it again", |world| {
            let text = world.status_file("web").unwrap_or_default();
            text.contains(&format!("generation: {}", 2 * round + 3))
                && !text.contains("AddressInUse")
                && call(port, "x").is_ok()
        });
        world.wait_status("web", "healthy");
    }
}

#[test]
fn what_cannot_be_called_is_never_reported_as_started() {
    let mut world = World::empty();
    let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    world.put("web.yaml", &manifest(held.local_addr().expect("bound").port(), "one", ""));
    world.put("mail.yaml", &manifest(free_port(), "two", ""));
    world.put("other.yaml", "command: sleep 3600\n");
    world.run(&[]);
    for reports in 1..=4 {
        let reports_of = |world: &World, what: &str| world.ask(&["events"]).matches(what).count();
        world.wait("the report", |world| reports_of(world, "StartupReport") == reports);
        let told = world.ask(&["events"]);
        assert_eq!(reports_of(&world, "failed: [web (AddressInUse)]"), reports, "{told}");
        assert_eq!(reports_of(&world, "started: [mail"), reports, "{told}");
        // Told once, and never taken back.
        assert_eq!(reports_of(&world, "web cannot be called"), 1, "{told}");
        // Orders are written before they are answered, and with them what was said before.
        world.ask(&["stop", "other"]);
        replace_controller(&world);
    }
}

#[test]
fn where_its_instances_listen_is_known_to_the_next_controller_also_while_the_port_is_held() {
    let world = World::running();
    let (held, port) = held_port_of_web(&world);
    world.ask(&["start", "web"]);
    let passes = |world: &World| world.status_file("web").is_some_and(|text| text.contains("passed"));
    world.wait("its check to pass", passes);
    let (pid, controller) = (world.pid("web"), world.controller_pid().expect("a controller"));
    kill(controller, 9);
    world.wait("another controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    drop(held);
    // Until its port is listened on it refuses.
    world.wait("an answer", |_| call(port, "x").is_ok_and(|said| said == "one said x"));
    assert_eq!(world.pid("web"), pid, "the process of before");
}
