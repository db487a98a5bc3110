//! Checks against real sockets: who holds a port, and what an odd server makes of a check.

#![expect(clippy::disallowed_methods, reason = "a test's services are its children, and it takes the time")]

#[path = "probes/doors.rs"]
mod doors;
#[path = "probes/grpc.rs"]
mod grpc;
#[path = "probes/https.rs"]
mod https;
#[path = "probes/mcp.rs"]
mod mcp;
#[path = "probes/names.rs"]
mod names;

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugd::controller::Verdict;
use plugd::edge::probe::http::{Get, http};
use plugd::edge::probe::notify::NotifySocket;
use plugd::edge::probe::tcp::tcp;
use plugd::edge::probe::{LifeContext, Past, Place, Sockets};
use plugd::edge::process::stat::Stat;
use plugd::edge::process::tree::{Scope, Tree};
use plugd::model::name::{Instance, LifeId};
use plugd::model::reason::Reason;

/// Long enough for a loaded machine; a check that meets it has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

fn tree_of(pid: u32) -> Tree {
    let instance = Instance::parse("web/0").expect("a valid name");
    let start_time = Stat::of(pid as i32).expect("it runs").start_time;
    Tree { life: LifeId { instance, life: 1 }, node: "node".into(), pid: pid as i32, start_time, scope: Scope::Session }
}

/// A child in its own session that holds `listener` as its stdin and sleeps.
struct Service(Child);

impl Service {
    fn holding(listener: Option<TcpListener>) -> Service {
        let stdin = listener.map_or_else(Stdio::null, |listener| Stdio::from(std::os::fd::OwnedFd::from(listener)));
        let service = Service(Command::new("setsid").args(["sleep", "600"]).stdin(stdin).spawn().expect("setsid runs"));
        let begun = Instant::now();
        while Stat::of(service.0.id() as i32).is_none_or(|stat| stat.command != "sleep") {
            assert!(begun.elapsed() < TIMEOUT, "setsid does not come to its exec");
            std::thread::sleep(Duration::from_millis(1));
        }
        service
    }

    fn context(&self, listened_at_spawn: Vec<u64>) -> Arc<LifeContext> {
        Arc::new(LifeContext::new(Some(tree_of(self.0.id())), listened_at_spawn))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listener(addr: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(addr).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Closes it for certain: a child of another test has it, too, until it comes to its exec.
fn close(listener: TcpListener) {
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    until_closed(port);
}

fn until_closed(port: u16) {
    let begun = Instant::now();
    while !Sockets::new().inodes(port).is_empty() {
        assert!(begun.elapsed() < TIMEOUT, "somebody listens on {port}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn check(ctx: &Arc<LifeContext>, port: u16) -> Verdict {
    tcp(ctx.clone(), Arc::new(Sockets::new()), Place::Local(port), TIMEOUT).await
}

#[tokio::test]
async fn a_port_that_nobody_holds_is_not_open() {
    let (gone, port) = listener("127.0.0.1:0");
    close(gone);
    let service = Service::holding(None);
    let verdict = check(&service.context(vec![]), port).await;
    assert_eq!((verdict.passed, verdict.reason), (false, Some(Reason::PortNotOpen)));
    assert_eq!(verdict.message, format!("tcp nothing listens on port {port}"));
    assert!(Sockets::new().free(port));
}

#[tokio::test]
async fn its_own_socket_counts_even_if_it_listened_before_the_spawn() {
    let (listener, port) = listener("127.0.0.1:0");
    let inodes = Sockets::new().inodes(port);
    let service = Service::holding(Some(listener));
    let verdict = check(&service.context(inodes), port).await;
    assert!(verdict.passed, "{verdict:?}");
    assert_eq!(verdict.message, format!("tcp 127.0.0.1:{port} passed"));
}

#[tokio::test]
async fn a_stranger_that_was_there_first_is_named_and_does_not_count() {
    let (listener, port) = listener("0.0.0.0:0");
    let stranger = Service::holding(Some(listener));
    let service = Service::holding(None);
    let sockets = Arc::new(Sockets::new());
    let ctx = service.context(sockets.inodes(port));
    for _ in 0..2 {
        let verdict = tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await;
        assert!(!verdict.passed);
        assert_eq!(verdict.reason, Some(Reason::AddressInUse));
        assert_eq!(verdict.message, format!("port {port} is held by pid {} (sleep)", stranger.0.id()));
    }
}

#[tokio::test]
async fn a_stranger_that_came_after_the_spawn_counts_and_is_named() {
    let service = Service::holding(None);
    let ctx = service.context(vec![]);
    let (listener, port) = listener("127.0.0.1:0");
    let later = Service::holding(Some(listener));
    let verdict = check(&ctx, port).await;
    assert!(verdict.passed, "{verdict:?}");
    assert_eq!(verdict.message, format!("tcp 127.0.0.1:{port} passed, held by sleep pid {}", later.0.id()));
}

#[tokio::test]
async fn what_was_connected_to_is_asked_of_the_kernel_until_it_goes_or_has_no_room() {
    let (listener, port) = listener("127.0.0.1:0");
    // Room for one that nobody has accepted.
    rustix::net::listen(&listener, 0).expect("a shorter queue");
    let service = Service::holding(Some(listener.try_clone().expect("a second descriptor")));
    let ctx = service.context(Vec::new());
    let first = check(&ctx, port).await;
    assert!(first.passed && first.took > Duration::ZERO, "{first:?}");
    drop(listener.accept().expect("the check's connection"));
    for _ in 0..3 {
        let again = check(&ctx, port).await;
        assert_eq!((again.passed, &again.message, again.took), (true, &first.message, Duration::ZERO));
    }
    listener.set_nonblocking(true).expect("a flag");
    let nobody = listener.accept().expect_err("nobody called again");
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    // But once a minute: what stands between a caller and the socket is found so.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    tokio::time::resume();
    assert!(check(&ctx, port).await.passed);
    drop(listener.accept().expect("the check's connection"));
    let _waits = TcpStream::connect(("127.0.0.1", port)).expect("there is room for one");
    let full = tcp(ctx.clone(), Arc::new(Sockets::new()), Place::Local(port), Duration::from_millis(300)).await;
    assert!(!full.passed && full.message.contains("did not answer"), "{full:?}");
    drop(listener.accept().expect("who waited"));
    assert!(check(&ctx, port).await.passed, "there is room again");
    drop(service);
    close(listener);
    let gone = check(&ctx, port).await;
    assert!(!gone.passed && gone.reason == Some(Reason::PortNotOpen), "{gone:?}");
}

#[tokio::test]
async fn a_stranger_that_takes_the_port_between_two_checks_does_not_count() {
    let (own, port) = listener("127.0.0.1:0");
    let service = Service::holding(Some(own));
    let ctx = Arc::new(LifeContext::new(Some(tree_of(service.0.id())), vec![]));
    let sockets = Arc::new(Sockets::new());
    assert!(tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await.passed);
    // The service's socket goes with it; its context is asked on, as of one that has only closed it.
    drop(service);
    until_closed(port);
    let again = TcpListener::bind(("127.0.0.1", port)).expect("free again");
    let stranger = Service::holding(Some(again));
    for _ in 0..2 {
        let verdict = tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await;
        assert_eq!((verdict.passed, verdict.reason), (false, Some(Reason::AddressInUse)), "{verdict:?}");
        assert_eq!(verdict.message, format!("port {port} is held by pid {} (sleep)", stranger.0.id()));
    }
}

#[tokio::test]
async fn a_socket_that_was_handed_to_a_stranger_is_found_when_its_holder_is_looked_at_again() {
    let (socket, port) = listener("127.0.0.1:0");
    let stranger = Service::holding(Some(socket.try_clone().expect("a second descriptor")));
    let service = Service::holding(Some(socket));
    let ctx = Arc::new(LifeContext::new(Some(tree_of(service.0.id())), vec![]));
    let sockets = Arc::new(Sockets::new());
    let check = || tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT);
    assert!(check().await.passed);
    // The service's half goes with it; its context is asked on, as of one that has only closed it.
    drop(service);
    assert!(check().await.passed, "it is the same socket");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    let verdict = check().await;
    assert_eq!((verdict.passed, verdict.reason), (false, Some(Reason::AddressInUse)), "{verdict:?}");
    assert_eq!(verdict.message, format!("port {port} is held by pid {} (sleep)", stranger.0.id()));
}

#[tokio::test]
async fn where_callers_are_passed_on_a_process_of_another_user_never_counts_whenever_it_came() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("    not root: not shown");
        return;
    }
    const NOBODY: &str = "65534";
    let service = Service::holding(None);
    let (gone, port) = listener("127.0.0.1:0");
    close(gone);
    let line = format!(
        "import os, socket; os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); kept = socket.create_server(('127.0.0.1', {port})); print('there', flush=True); input()"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut later = Service(command.spawn().expect("python runs"));
    let mut said = String::new();
    std::io::BufReader::new(later.0.stdout.as_mut().expect("piped")).read_line(&mut said).expect("it says so");
    let ctx = |passed_on| Arc::new(LifeContext::new(Some(tree_of(service.0.id())), vec![]).passed_on(passed_on));
    assert!(check(&ctx(false), port).await.passed);
    let verdict = check(&ctx(true), port).await;
    assert_eq!((verdict.passed, verdict.reason), (false, Some(Reason::AddressInUse)));
    assert_eq!(verdict.message, format!("port {port} is held by pid {} (python3)", later.0.id()));
}

#[tokio::test]
async fn a_socket_of_another_service_of_this_node_never_counts_whenever_it_came() {
    let service = Service::holding(None);
    let ctx = service.context(vec![]);
    let (listener, port) = listener("127.0.0.1:0");
    let other = Service::holding(Some(listener));
    let sockets = Arc::new(Sockets::new());
    let tree =
        Tree { life: LifeId { instance: Instance::parse("shop/0").expect("valid"), life: 4 }, ..tree_of(other.0.id()) };
    sockets.neighbours.enter(&tree, None);
    let verdict = tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await;
    assert_eq!((verdict.passed, verdict.reason), (false, Some(Reason::AddressInUse)));
    assert_eq!(verdict.message, format!("port {port} is held by the service shop, pid {} (sleep)", other.0.id()));
    sockets.neighbours.strike(&tree.life);
    assert!(tcp(ctx, sockets, Place::Local(port), TIMEOUT).await.passed, "it is nobody's now");
}

#[tokio::test]
async fn of_its_own_service_it_is_told_whether_the_holder_was_given_the_port() {
    let service = Service::holding(None);
    let (listener, port) = listener("127.0.0.1:0");
    let ctx = service.context(vec![]);
    let other = Service::holding(Some(listener));
    let instance = Instance { index: 7, ..ctx.tree.as_ref().expect("a tree").life.instance.clone() };
    let tree = Tree { life: LifeId { instance: instance.clone(), life: 4 }, ..tree_of(other.0.id()) };
    let held = format!("port {port} is held by {instance}, pid {} (sleep)", other.0.id());
    for (given, told) in [(port, ", to which it was given"), (port - 1, "; the command ignores $(PORT)")] {
        let sockets = Arc::new(Sockets::new());
        sockets.neighbours.enter(&tree, Some(given));
        let verdict = tcp(ctx.clone(), sockets, Place::Local(port), TIMEOUT).await;
        assert_eq!((verdict.reason, verdict.message), (Some(Reason::AddressInUse), format!("{held}{told}")));
    }
}

#[tokio::test]
async fn the_next_controller_knows_who_was_there_at_the_spawn_and_whose_the_port_was() {
    let run = tempfile::tempdir().expect("a temp folder");
    let sockets = Arc::new(Sockets::new());
    let (first, port) = listener("127.0.0.1:0");
    let older = Service::holding(Some(first));
    let younger = Service::holding(None);
    let tree = tree_of(younger.0.id());
    let there = |inodes| Past::begin(Some(run.path()), &tree.life, inodes);
    let next_of = |tree: &Tree| {
        let past = Past::recall(Some(run.path()), &tree.life);
        Arc::new(LifeContext::of(tree.clone(), Arc::new(past)))
    };
    let next = || next_of(&tree);
    // Not known: who was there before it may be its own, elsewhere.
    assert!(tcp(next(), sockets.clone(), Place::Local(port), TIMEOUT).await.passed);
    // An older process that began to listen later counts for this controller, and for the next one.
    there(vec![]);
    assert!(tcp(next(), sockets.clone(), Place::Local(port), TIMEOUT).await.passed);
    there(sockets.inodes(port));
    let held = format!("port {port} is held by pid {} (sleep)", older.0.id());
    let verdict = tcp(next(), sockets.clone(), Place::Local(port), TIMEOUT).await;
    assert_eq!((verdict.reason, &verdict.message), (Some(Reason::AddressInUse), &held));

    // Its own listened there, and a newer process has taken its place.
    drop(older);
    until_closed(port);
    let own = Service::holding(Some(TcpListener::bind(("127.0.0.1", port)).expect("free again")));
    let tree = tree_of(own.0.id());
    let next = || next_of(&tree);
    assert!(tcp(next(), sockets.clone(), Place::Local(port), TIMEOUT).await.passed);
    drop(own);
    until_closed(port);
    let newer = Service::holding(Some(TcpListener::bind(("127.0.0.1", port)).expect("free again")));
    let held = format!("port {port} is held by pid {} (sleep)", newer.0.id());
    let verdict = tcp(next(), sockets.clone(), Place::Local(port), TIMEOUT).await;
    assert_eq!((verdict.reason, &verdict.message), (Some(Reason::AddressInUse), &held));
}

/// A listener that shares its port with whoever else does.
fn shared(addr: &str, port: u16) -> (TcpListener, u16) {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    // Nobody else's: the children of the tests beside this one would listen there, too.
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
    sockopt::set_socket_reuseport(&socket, true).expect("allowed");
    rustix::net::bind(&socket, &std::net::SocketAddrV4::new(addr.parse().expect("an address"), port)).expect("bound");
    rustix::net::listen(&socket, 128).expect("listens");
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Checks until the kernel has told of both: it chooses by the caller's port.
async fn found_out(ctx: &Arc<LifeContext>, sockets: &Arc<Sockets>, port: u16) -> Verdict {
    let begun = Instant::now();
    loop {
        let verdict = tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await;
        if verdict.reason.is_some() {
            return verdict;
        }
        assert!(begun.elapsed() < TIMEOUT, "{verdict:?}");
    }
}

#[tokio::test]
async fn of_two_that_share_a_port_neither_is_known_by_an_answer_unless_they_are_of_one_service() {
    let (first, port) = shared("127.0.0.1", 0);
    let sockets = Arc::new(Sockets::new());
    let service = Service::holding(Some(first));
    let ctx = service.context(vec![]);
    assert!(tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await.passed);
    let other = Service::holding(Some(shared("127.0.0.1", port).0));
    let pid = other.0.id();
    assert_eq!(sockets.inodes(port).len(), 2);

    let verdict = found_out(&ctx, &sockets, port).await;
    let told = format!("port {port} is shared with pid {pid} (sleep): which of the two answers cannot be told");
    assert_eq!((verdict.reason, verdict.message), (Some(Reason::AddressInUse), told));
    let third = Service::holding(None);
    assert_eq!(check(&third.context(sockets.inodes(port)), port).await.reason, Some(Reason::AddressInUse));

    for (name, may) in [("shop/0", false), ("web/1", true)] {
        let tree = Tree { life: LifeId { instance: Instance::parse(name).expect("valid"), life: 4 }, ..tree_of(pid) };
        sockets.neighbours.enter(&tree, None);
        // Both, as often as the kernel may choose.
        for _ in 0..20 {
            let verdict = tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT).await;
            assert_eq!(verdict.passed, may, "{name}: {verdict:?}");
        }
        sockets.neighbours.strike(&tree.life);
    }
}

#[tokio::test]
async fn who_has_the_very_address_answers_in_the_place_of_who_has_all() {
    for (sockets, told_at_once) in [(Sockets::new(), true), (Sockets::without_netlink(), false)] {
        let sockets = Arc::new(sockets);
        let (all, port) = shared("0.0.0.0", 0);
        let service = Service::holding(Some(all));
        let ctx = service.context(vec![]);
        let look = || tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT);
        assert!(look().await.passed);
        let beside = Service::holding(Some(shared("127.0.0.2", port).0));
        assert!(look().await.passed, "callers of 127.0.0.1 come to it as before");
        let stranger = Service::holding(Some(shared("127.0.0.1", port).0));
        if told_at_once {
            let verdict = look().await;
            let told = format!("port {port} is held by pid {} (sleep), on 127.0.0.1 alone", stranger.0.id());
            assert_eq!((verdict.reason, verdict.message), (Some(Reason::AddressInUse), told));
        }
        // Also of a service that is looked at for the first time.
        let verdict = tcp(service.context(vec![]), sockets.clone(), Place::Local(port), TIMEOUT).await;
        assert_eq!(verdict.reason, Some(Reason::AddressInUse), "{verdict:?}");
        drop(stranger);
        assert!(look().await.passed, "its port is its own again");
        drop(beside);
    }
}

#[tokio::test]
async fn a_socket_that_the_keeper_hands_over_counts() {
    let (_listener, port) = listener("127.0.0.1:0");
    let inodes = Sockets::new().inodes(port);
    let service = Service::holding(None);
    let tree = tree_of(service.0.id());
    let ctx = Arc::new(LifeContext::new(Some(tree), inodes.clone()).with_held(inodes));
    assert!(check(&ctx, port).await.passed);
}

#[tokio::test]
async fn one_that_listens_on_another_port_is_told_which() {
    let (held, port) = listener("127.0.0.1:0");
    let (free, meant) = listener("127.0.0.1:0");
    close(free);
    let service = Service::holding(Some(held));
    let ctx = Arc::new(LifeContext::new(Some(tree_of(service.0.id())), vec![]).with_port(Some(meant)));
    let begun = Instant::now();
    let told = loop {
        let verdict = check(&ctx, meant).await;
        assert!(!verdict.passed && begun.elapsed() < Duration::from_secs(60), "{verdict:?}");
        if verdict.message.contains("its process") {
            break verdict.message;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let want = format!(
        "tcp nothing listens on port {meant}; its process listens on {port}: write `port: {port}`, or hand it $(PORT)"
    );
    assert_eq!(told, want);
}

#[tokio::test]
async fn any_address_is_reached_in_either_family() {
    for addr in ["0.0.0.0:0", "[::]:0", "[::1]:0", "127.0.0.3:0"] {
        let (listener, port) = listener(addr);
        let service = Service::holding(Some(listener));
        let netlink = check(&service.context(vec![]), port).await;
        assert!(netlink.passed, "{addr}: {netlink:?}");
        let sockets = Arc::new(Sockets::without_netlink());
        let table = tcp(service.context(vec![]), sockets, Place::Local(port), TIMEOUT).await;
        assert_eq!((table.passed, table.message), (true, netlink.message), "{addr}");
    }
}

#[tokio::test]
async fn what_was_remembered_is_looked_at_again_and_where_the_kernel_does_not_tell_after_a_failure() {
    for (sockets, first_word) in [
        (Sockets::new(), "tcp nothing listens on port PORT"),
        (Sockets::without_netlink(), "tcp 127.0.0.1:PORT refused the connection"),
    ] {
        let (first, port) = listener("127.0.0.1:0");
        let (ctx, sockets) = (Arc::new(LifeContext::new(None, vec![])), Arc::new(sockets));
        let look = || tcp(ctx.clone(), sockets.clone(), Place::Local(port), TIMEOUT);
        assert!(look().await.passed);
        close(first);
        assert_eq!(look().await.message, first_word.replace("PORT", &port.to_string()));
        let closed = look().await;
        assert_eq!(closed.message, format!("tcp nothing listens on port {port}"));
        assert_eq!(closed.reason, Some(Reason::PortNotOpen));
        let _second = TcpListener::bind(("127.0.0.9", port)).expect("the same port");
        assert!(look().await.passed);
    }
}

#[tokio::test]
async fn waiting_for_a_port_ends_when_it_is_free() {
    let (listener, port) = listener("127.0.0.1:0");
    let sockets = Arc::new(Sockets::new());
    let waiting = tokio::spawn({
        let sockets = sockets.clone();
        async move { sockets.freed(port).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(listener);
    tokio::time::timeout(TIMEOUT, waiting).await.expect("in time").expect("no panic");
}

/// A server that gives every connection to `serve`; it ends with the test.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let (listener, port) = listener("127.0.0.1:0");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    port
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn plain(port: u16, path: &str) -> Get {
    let (place, path) = (Place::Local(port), path.into());
    Get { place, path, headers: vec![], https: false, expect_status: vec![], expect_body: None }
}

async fn get(port: u16, path: &str, timeout: Duration) -> Verdict {
    let headers = vec![("X-Token".to_string(), "secret".to_string())];
    let get = Get { headers, ..plain(port, path) };
    http(Arc::new(LifeContext::new(None, vec![])), Arc::new(Sockets::new()), get, timeout).await
}

/// What a server that answers with these bytes and closes is judged.
async fn answered(bytes: &'static [u8]) -> Verdict {
    let port = server(move |mut stream| {
        head(&mut stream);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read(&mut [0; 16]);
    });
    let mut verdict = get(port, "/ready?full=1", TIMEOUT).await;
    verdict.message = verdict.message.replace(&port.to_string(), "PORT");
    verdict
}

#[tokio::test]
async fn statuses_from_200_to_399_pass_and_others_are_told() {
    for (bytes, passed, message) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], true, "http 127.0.0.1:PORT/ready passed (200)"),
        (b"HTTP/1.0 204 No\r\n\r\n", true, "http 127.0.0.1:PORT/ready passed (204)"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n",
            true,
            "http 127.0.0.1:PORT/ready passed (302)",
        ),
        (
            b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
            false,
            "http 127.0.0.1:PORT/ready answered 503",
        ),
        (b"HTTP/1.1 400 Bad\r\n\r\n", false, "http 127.0.0.1:PORT/ready answered 400"),
        (b"<html>it works</html>", false, "http 127.0.0.1:PORT/ready did not answer in HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", false, "http 127.0.0.1:PORT/ready did not answer in HTTP/1"),
        (b"", false, "http 127.0.0.1:PORT/ready closed the connection without an answer"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
            false,
            "http 127.0.0.1:PORT/ready answered 200, and closed the connection in the middle of its body",
        ),
    ] {
        let verdict = answered(bytes).await;
        assert_eq!((verdict.passed, verdict.message.as_str()), (passed, message));
    }
}

#[tokio::test]
async fn the_request_says_who_asks_and_carries_the_headers_written() {
    let (tell, told) = std::sync::mpsc::channel();
    let port = server(move |mut stream| {
        let _ = tell.send(head(&mut stream));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    assert!(get(port, "ready", TIMEOUT).await.passed);
    let head = told.recv().expect("a request").to_ascii_lowercase();
    assert!(head.starts_with("get /ready http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: localhost:{port}\r\n")), "{head}");
    assert!(head.contains("user-agent: plugd-probe/") && head.contains("x-token: secret"), "{head}");
}

#[tokio::test]
async fn floods_and_drips_end_at_the_cap_or_the_deadline() {
    let flood = |bytes: &'static [u8]| {
        server(move |mut stream| {
            head(&mut stream);
            while stream.write_all(bytes).is_ok() {}
        })
    };
    let begun = Instant::now();
    let early = get(flood(b"HTTP/1.1 100 Continue\r\n\r\n"), "/", TIMEOUT).await;
    assert!(!early.passed && early.message.contains("sent more than"), "{early:?}");
    let header =
        get(flood(b"HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"), "/", TIMEOUT).await;
    assert!(!header.passed && header.message.contains("sent more than"), "{header:?}");
    let endless = server(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert!(get(endless, "/", TIMEOUT).await.passed);
    assert!(begun.elapsed() < TIMEOUT, "caps, not deadlines, ended these");

    let drip = server(|mut stream| {
        head(&mut stream);
        for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let begun = Instant::now();
    let slow = get(drip, "/", Duration::from_millis(300)).await;
    // It drips for ever.
    assert!(!slow.passed && begun.elapsed() < TIMEOUT);
    assert!(slow.message.ends_with("did not answer within 300ms"), "{slow:?}");
}

#[tokio::test]
async fn descriptors_that_come_with_a_notification_are_closed_at_once() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let socket = NotifySocket::bind().expect("bound");
    let name = socket.env().trim_start_matches('@').to_string();
    let addr = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("an address");
    let sender = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    let (hears, held) = rustix::pipe::pipe().expect("a pipe");
    let copies: Vec<_> = (0..8).map(|_| held.try_clone().expect("a descriptor")).collect();
    let mut passed: Vec<_> = copies.iter().map(|copy| copy.as_fd()).collect();
    passed.push(held.as_fd());
    for count in [1, passed.len()] {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(9))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&passed[..count])));
        let words = [std::io::IoSlice::new(b"BARRIER=1")];
        rustix::net::sendmsg_addr(&sender, &addr, &words, &mut control, SendFlags::empty()).expect("sent");
    }
    drop((copies, held));
    sender.send_to_addr(b"STATUS=last", &abstract_addr(&name)).expect("sent");
    let tree = tree_of(std::process::id());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let last = tokio::select! {
        _ = socket.listen(&tree, move |message| drop(tell.send(message))) => None,
        last = tokio::time::timeout(TIMEOUT, told.recv()) => last.ok().flatten(),
    };
    assert_eq!(last.and_then(|message| message.status).as_deref(), Some("last"));
    let mut hung_up = [rustix::event::PollFd::new(&hears, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    assert_eq!(rustix::event::poll(&mut hung_up, Some(&now)).expect("polled"), 1, "somebody holds what was passed");
}

fn abstract_addr(name: &str) -> std::os::unix::net::SocketAddr {
    <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        .expect("an address")
}

#[tokio::test]
async fn notifications_of_the_tree_are_heard_and_those_of_strangers_are_not() {
    let service = Service::holding(None);
    let own = tree_of(std::process::id());
    let other = tree_of(service.0.id());
    for (tree, heard) in [(own, true), (other, false)] {
        let bound = NotifySocket::bind().expect("bound");
        let socket = NotifySocket::adopt(bound.share().expect("shared")).expect("the keeper's copy goes on");
        assert_eq!(socket.env(), bound.env());
        let addr = abstract_addr(socket.env().trim_start_matches('@'));
        let sender = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        assert!(sender.as_raw_fd() > 0);
        for text in [&b"\xff\xfe="[..], &[b'x'; 5000], b"READY=1\nSTATUS=up"] {
            sender.send_to_addr(text, &addr).expect("sent");
        }
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let listening = socket.listen(&tree, move |message| drop(tell.send(message)));
        let patience = if heard { TIMEOUT } else { Duration::from_millis(300) };
        let first = async { tokio::time::timeout(patience, told.recv()).await.ok().flatten() };
        let first = tokio::select! { _ = listening => None, first = first => first };
        assert_eq!(first.and_then(|message| message.status), heard.then(|| "up".to_string()));
    }
}
