//! Services that are handed the listening socket (`activation.pass: Socket`) and let their callers in themselves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::demand::{call, refused, two_hundred_first_calls};
use crate::soak::times;
use crate::world::{PATIENCE, World, free_port, kill, lives};

/// Answers each word with its version and the word; some words have a meaning.
const SERVER: &str = r#"
import os, socket, threading
who = ' '.join([str(os.getpid())] + [os.environ.get(name, '-') for name in ('LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'PORT')])
def serve(connection):
    while True:
        try: word = connection.recv(65536)
        except OSError: break
        if not word: break
        if word == b'die': os._exit(3)
        if word == b'leave': os._exit(0)
        connection.sendall(who.encode() if word == b'who' else b'VERSION said ' + word)
    connection.close()
server = socket.socket(fileno=3)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"#;

/// The same in the other of the two ways in which servers accept: it makes the socket non-blocking.
const LOOP: &str = r#"
import asyncio, socket
async def serve(reader, writer):
    while word := await reader.read(65536):
        writer.write(b'VERSION said ' + word)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sock=socket.socket(fileno=3))
    await server.serve_forever()
asyncio.run(main())
"#;

fn manifest_of(server: &str, port: u16, version: &str, more: &str) -> String {
    let server = server.replace("VERSION", version).replace('\n', "\n      ");
    format!(
        "command:\n  - python3\n  - -c\n  - |\n      {server}\nport: {port}\nactivation: {{onDemand: true, pass: Socket{more}}}\n"
    )
}

pub fn manifest(port: u16, version: &str, more: &str) -> String {
    manifest_of(SERVER, port, version, more)
}

fn asked(port: u16, word: &str) -> String {
    call(port, word).expect("answered")
}

/// One word on a connection that stays open.
fn echo(stream: &mut TcpStream, word: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// A caller who never stops, until all is over: how many calls were answered. Nobody may be refused.
fn calling(port: u16, over: &Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let over = over.clone();
    std::thread::spawn(move || {
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            match call(port, "x") {
                Ok(answer) => answered += usize::from(answer.ends_with(" said x")),
                // Let in by a process that was told to end, and not refused.
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::ConnectionRefused, "after {answered} calls");
                }
            }
        }
        answered
    })
}

#[test]
fn the_first_call_starts_it_with_the_socket_and_idleness_stops_it() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ", idleStop: 1s"));
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(world.pid("web"), None);

    assert_eq!(asked(port, "hello"), "one said hello");
    let who = asked(port, "who");
    let pid = who.split(' ').next().unwrap_or_default();
    assert_eq!(who, format!("{pid} {pid} 1 web {port}"), "LISTEN_PID is its own pid, PORT the public one");
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(asked(port, "again"), "one said again");
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"));

    // An open connection is use, however silent.
    let mut open = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("let in");
    assert_eq!(echo(&mut open, "a word").expect("answered"), "one said a word");
    world.wait("its process to be told", |world| world.pid("web").is_some());
    let pid = world.pid("web").expect("it runs");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert!(lives(pid), "stopped under an open connection");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(echo(&mut open, "another").expect("answered"), "one said another");
    drop(open);
    world.wait_status("web", "waiting (OnDemand)");

    world.remove("web.yaml");
    world.wait("the port to be closed", |_| refused(port));
}

#[test]
fn one_that_ends_and_leaves_its_caller_waiting_is_waited_out_on_the_ladder() {
    let world = World::running();
    let port = free_port();
    let cured = world.root().join("cured");
    let sick = format!("if not __import__('os').path.exists('{}'): raise SystemExit(0)\n", cured.display());
    world.put("web.yaml", &manifest_of(&format!("{sick}{SERVER}"), port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    let caller = std::thread::spawn(move || call(port, "patient"));
    world.wait("that it ends at once to be told", |world| {
        world.status_file("web").is_some_and(|text| text.contains("EndsAtOnce"))
    });
    let restarts: u32 = world.field("web", "restarts").expect("told").parse().expect("a number");
    assert!(restarts < 10, "{restarts} restarts: the ladder is climbed, however long he waits");
    std::fs::write(&cured, "").expect("written");
    assert_eq!(caller.join().expect("a thread").expect("answered"), "one said patient");
}

#[test]
fn who_was_let_in_for_nothing_is_answered_once_the_socket_itself_is_handed_over() {
    let world = World::running();
    let port = free_port();
    // It says that it is ready, and does not listen.
    let deaf = "script: echo ready; exec sleep 1000\nreadinessProbe: {logLine: ready}\n";
    let on_demand = format!("port: {port}\nactivation: {{onDemand: true}}\n");
    world.put("web.yaml", &format!("{deaf}{on_demand}"));
    world.wait_status("web", "waiting (OnDemand)");
    let caller = std::thread::spawn(move || call(port, "patient"));
    world.wait_status("web", "healthy");
    world.put("web.yaml", &manifest(port, "two", ""));
    assert_eq!(caller.join().expect("a thread").expect("answered"), "two said patient");
}

#[test]
fn two_hundred_first_calls_at_once_are_all_answered() {
    let port = free_port();
    two_hundred_first_calls(port, &manifest(port, "one", ""));
}

#[test]
fn an_open_connection_outlives_twenty_controllers() {
    let world = World::running();
    let port = free_port();
    // Idle for longer than each controller lives, and connected all along.
    world.put("web.yaml", &manifest(port, "one", ", idleStop: 1s"));
    world.wait_status("web", "waiting (OnDemand)");
    let mut open = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("let in");
    assert_eq!(echo(&mut open, "first").expect("answered"), "one said first");
    world.wait("its process to be told", |world| world.pid("web").is_some());
    let pid = world.pid("web");
    for round in 0..times(20) {
        let controller = world.controller_pid().expect("a controller");
        kill(controller, 9);
        assert_eq!(echo(&mut open, &format!("kill {round}")).expect("answered"), format!("one said kill {round}"));
        assert_eq!(asked(port, "new"), "one said new", "while there is no controller");
        world.wait(&format!("a new controller after kill {round}"), |world| {
            world.controller_pid().is_some_and(|pid| pid != controller)
        });
    }
    world.wait("the last controller to know it", |world| world.pid("web").is_some());
    assert_eq!(echo(&mut open, "last").expect("answered"), "one said last");
    assert_eq!(world.pid("web"), pid, "the same process all along");
    drop(open);
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(asked(port, "x"), "one said x");
}

#[test]
fn after_a_crash_the_next_process_gets_the_socket_with_all_who_wait() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    let first = asked(port, "who");
    let mut killer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("let in");
    assert_eq!(echo(&mut killer, "die").unwrap_or_default(), "");
    // At once: it waits for the next process.
    let second = asked(port, "who");
    assert_ne!(first, second);
    let pid = second.split(' ').next().unwrap_or_default();
    assert_eq!(second, format!("{pid} {pid} 1 web {port}"));
    world.wait("the restart to be counted", |world| world.field("web", "restarts").as_deref() == Some("1"));
}

#[test]
fn edits_under_load_refuse_nobody_whatever_way_each_version_accepts() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2).map(|_| calling(port, &over)).collect();
    let versions = [
        ("two", manifest(port, "two", "")),
        ("three", manifest_of(LOOP, port, "three", "")),
        ("four", manifest(port, "four", "")),
        ("five", crate::demand::manifest(port, "five", "")),
        ("six", manifest(port, "six", "")),
    ];
    for (version, text) in versions {
        world.put("web.yaml", &text);
        let deadline = Instant::now() + PATIENCE;
        while call(port, "x").ok() != Some(format!("{version} said x")) {
            assert!(Instant::now() < deadline, "version {version} never answered");
        }
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.join().expect("nobody was refused") > 0);
    }
    assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "none of them fell");
}

#[test]
fn a_service_that_listened_itself_is_handed_the_socket_after_an_edit() {
    let world = World::running();
    let port = free_port();
    let own = SERVER.replace("socket.socket(fileno=3)", &format!("socket.create_server(('', {port}))"));
    let direct = manifest_of(&own, port, "one", "");
    let direct = direct.split("activation:").next().expect("without it");
    world.put("web.yaml", direct);
    world.wait_status("web", "healthy");
    assert_eq!(asked(port, "x"), "one said x");
    world.put("web.yaml", &manifest(port, "two", ""));
    let deadline = Instant::now() + PATIENCE;
    while call(port, "x").ok().as_deref() != Some("two said x") {
        assert!(Instant::now() < deadline, "the new version never answered");
    }
    world.put("web.yaml", direct);
    let deadline = Instant::now() + PATIENCE;
    while call(port, "x").ok().as_deref() != Some("one said x") {
        assert!(Instant::now() < deadline, "the old version never answered again");
    }
}

#[test]
fn replicas_share_the_one_socket() {
    let world = World::running();
    let port = free_port();
    let text = manifest(port, "one", "").replace("port:", "replicas: 2\nport:");
    world.put("web.yaml", &text.replace(&format!("port: {port}"), &format!("ports: [{{name: http, port: {port}}}]")));
    world.wait_status("web", "waiting (OnDemand)");
    // Each holds one connection, so that the other is the one that is free.
    let mut seen = std::collections::BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 2 {
        assert!(Instant::now() < deadline, "only {seen:?} answered");
        let who = asked(port, "who");
        let pid = who.split(' ').next().unwrap_or_default().to_owned();
        assert_eq!(who, format!("{pid} {pid} 1 http {port}"));
        seen.insert(pid);
    }
}

#[test]
fn one_of_several_that_left_comes_again_while_somebody_is_connected_also_without_idle_stop() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", "").replace("port:", "replicas: 2\nport:"));
    world.wait_status("web", "waiting (OnDemand)");
    // A connection to each, by its pid.
    let mut callers = std::collections::BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while callers.len() < 2 {
        assert!(Instant::now() < deadline, "only {callers:?} answered");
        let mut caller = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        let pid = echo(&mut caller, "who").expect("answered").split(' ').next().unwrap_or_default().to_owned();
        callers.insert(pid, caller);
    }
    // One that ends at once would be waited for.
    let since = Instant::now();
    world.wait("both to have served for a while", |_| since.elapsed() >= Duration::from_secs(10));
    let mut other = callers.first_entry().expect("two");
    assert_eq!(echo(other.get_mut(), "leave").unwrap_or_default(), "");
    let is_new = |who: &str| !callers.contains_key(who.split(' ').next().unwrap_or_default());
    world.wait("another in its place", |_| call(port, "who").is_ok_and(|who| !who.is_empty() && is_new(&who)));
}

#[test]
fn while_it_crashes_who_waits_too_long_is_sent_away_and_it_is_said() {
    let world = World::running();
    let port = free_port();
    let activation = "activation: {onDemand: true, pass: Socket, holdRequests: 500ms}";
    world.put("web.yaml", &format!("script: exit 3\nport: {port}\n{activation}\n"));
    world.wait_status("web", "waiting (OnDemand)");
    let since = Instant::now();
    assert_eq!(call(port, "x").unwrap_or_default(), "");
    assert!(since.elapsed() >= Duration::from_millis(450), "it was held");
    world.wait("the event", |world| world.ask(&["events"]).contains("HoldExpired"));
}

#[test]
fn stopped_by_hand_its_port_is_closed_and_start_hands_it_over_again() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &manifest(port, "one", ""));
    world.wait_status("web", "waiting (OnDemand)");
    assert_eq!(asked(port, "x"), "one said x");
    world.ask(&["stop", "web"]);
    world.wait("the port to be closed", |_| refused(port));
    world.ask(&["start", "web"]);
    world.wait("its process to be told", |world| world.pid("web").is_some());
    assert_eq!(asked(port, "x"), "one said x");
}

#[test]
fn a_written_check_asks_the_service_through_the_socket() {
    let world = World::running();
    let port = free_port();
    let slow = "import sys, time\n      time.sleep(2)\n      sys.argv = ['web']\n      import http.server\n      \
        server = http.server.ThreadingHTTPServer(('', 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)\n      \
        import socket\n      server.socket = socket.socket(fileno=3)\n      server.serve_forever()";
    world.put(
        "web.yaml",
        &format!(
            "command:\n  - python3\n  - -c\n  - |\n      {slow}\nport: {port}\nreadinessProbe: {{httpGet: {{path: /, port: {port}}}}}\n\
             activation: {{onDemand: true, pass: Socket}}\n"
        ),
    );
    world.wait_status("web", "waiting (OnDemand)");
    let caller = std::thread::spawn(move || call(port, "GET / HTTP/1.0\r\n\r\n"));
    world.wait("it to start", |world| world.status("web").starts_with("starting"));
    let answer = caller.join().expect("a thread").expect("answered");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    world.wait_status("web", "healthy");
}

#[test]
fn checks_that_call_through_the_socket_are_no_use_of_it() {
    let world = World::running();
    let port = free_port();
    // Each answer takes so long that some look falls on it.
    let web = "import http.server, socket, time
      class Slow(http.server.BaseHTTPRequestHandler):
          def do_GET(self):
              time.sleep(0.3)
              self.send_response(204)
              self.end_headers()
      server = http.server.ThreadingHTTPServer(('', 0), Slow, bind_and_activate=False)
      server.socket = socket.socket(fileno=3)
      server.serve_forever()";
    world.put(
        "web.yaml",
        &format!(
            "command:\n  - python3\n  - -c\n  - |\n      {web}\nport: {port}\n\
             livenessProbe: {{httpGet: {{path: /, port: {port}}}, period: 400ms, timeout: 10s}}\n\
             activation: {{onDemand: true, pass: Socket, idleStop: 5s}}\n"
        ),
    );
    world.wait_status("web", "waiting (OnDemand)");
    let answer = call(port, "GET / HTTP/1.0\r\n\r\n").expect("answered");
    assert!(answer.starts_with("HTTP/1.0 204"), "{answer}");
    world.wait("the check to pass", |world| {
        world.field("web", "check").is_some_and(|said| said.contains("passed (204)"))
    });
    world.wait_status("web", "waiting (OnDemand)");
}
