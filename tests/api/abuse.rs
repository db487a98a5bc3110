//! Peers that are strange, slow, large or many.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use plugd::api::client::{Client, ClientError};
use plugd::model::view::ServiceView;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::world::{World, read_to_end, split, view};

/// A user that exists nowhere, and is not the overflow uid.
const STRANGER: u32 = 64_123;

#[tokio::test]
async fn names_of_a_url_are_keys_and_nothing_else() {
    let world = World::new([view("web")]);
    std::fs::write(world.dir.path().join("secret"), "precious").expect("written");
    for name in [
        "..",
        "%2e%2e",
        "%2e%2e%2fsecret",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "web%00",
        "web%2f0",
        "web%0a",
        "%1b[2J",
        "%ff%fe",
        "WEB",
        "web.yaml",
        "_controller",
        "%e2%80%ae",
        "web%20",
        "{name}",
        "*",
        "%",
        "%zz",
    ] {
        for suffix in ["", "/logs", "/start", "/signal"] {
            let method = if suffix.is_empty() || suffix == "/logs" { "GET" } else { "POST" };
            let answer = world
                .raw(
                    format!(
                        "{method} /v1/services/{name}{suffix} HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\n\r\n"
                    )
                    .as_bytes(),
                )
                .await;
            let (status, body) = split(&answer);
            assert!([400, 404].contains(&status), "{name}{suffix}: {status} {body}");
            assert!(!body.contains("precious"), "{name}");
            assert!(!body.chars().any(|c| c.is_control()), "{name}: {body:?}");
        }
        assert!([400, 404].contains(&world.ask("DELETE", &format!("/v1/services/{name}"), "").await.0), "{name}");
    }
    for path in
        ["/", "//", "/v1", "/v1/", "//v1/services", "/v1//services", "/v1/services/", "/v1/services/web/", "/metrics"]
    {
        assert_eq!(world.ask("GET", path, "").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_and_an_unknown_path_say_what_next() {
    let world = World::new([view("web")]);
    for (method, path, expected) in [
        ("PUT", "/v1/services", 405),
        ("GET", "/v1/services/web/stop", 405),
        ("BREW", "/livez", 405),
        ("GET", "/coffee", 404),
    ] {
        let (status, answer) = world.ask(method, path, "").await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(answer["next"].as_str().is_some_and(|next| next.contains("openapi")), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_that_trickles_is_cut_off_after_5_s() {
    let world = World::new([view("web")]);
    let start = Instant::now();
    let mut stream = world.connect().await;
    let trickle = async {
        let (mut reader, mut writer) = stream.split();
        let write = async {
            writer.write_all(b"GET /livez HTTP/1.1\r\n").await.expect("open");
            while writer.write_all(b"x: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async {
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer).await.ok();
        };
        tokio::join!(write, read);
    };
    trickle.await;
    let took = start.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(8)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_5_s_also_after_an_answer() {
    let world = World::new([view("web")]);
    for first in ["", "GET /livez HTTP/1.1\r\nhost: plugd\r\n\r\n"] {
        let start = Instant::now();
        let mut stream = world.connect().await;
        stream.write_all(first.as_bytes()).await.expect("open");
        read_to_end(&mut stream).await;
        assert!(start.elapsed() < Duration::from_secs(6), "{first:?}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_bounded_in_size_and_in_time() {
    let world = World::new([view("web")]);
    let large = " ".repeat(1024 * 1024 + 1);
    let (status, answer) = world.ask("POST", "/v1/services", &large).await;
    assert_eq!((status, &answer["error"]), (413, &"TooLarge".into()));

    let head = b"POST /v1/services HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\ncontent-length: 10\r\n\r\n{";
    let (status, _) = split(&world.raw(head).await);
    assert_eq!(status, 408);
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let world = World::new([view("web")]);
    let answer = world.raw(format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000)).as_bytes()).await;
    assert!([0, 431].contains(&split(&answer).0), "{}", split(&answer).0);
    let answer = world.raw(format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000)).as_bytes()).await;
    assert_eq!(split(&answer).0, 431);
    assert_eq!(world.ask("GET", "/livez", "").await.0, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_another() {
    let world = World::new([view("web")]);
    let one = "GET /livez HTTP/1.1\r\nhost: plugd\r\n\r\n";
    let last = "GET /livez HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\n\r\n";
    let answer = world.raw(format!("{}{last}", one.repeat(500)).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 501);
}

#[tokio::test]
async fn a_lane_stays_open_for_short_requests_when_every_other_seat_is_taken() {
    let world = World::new([view("web")]);
    let client = world.client().await;
    let mut followers = Vec::new();
    // 240 seats, and the client's first connection may not have given its own back yet.
    while followers.len() < 239 {
        followers.push(client.watch().await.expect("a seat"));
    }
    let mut refused = None;
    for _ in 0..3 {
        match client.watch().await {
            Ok(follower) => followers.push(follower),
            Err(error) => refused = Some(error),
        }
    }
    assert!(matches!(refused, Some(ClientError::Refused(problem)) if problem.error == "TooManyStreams"));
    client.get::<ServiceView>("/v1/services/web?form=view").await.expect("answered");

    // Idlers in the reserved lane give way within half a second.
    let mut idlers = Vec::new();
    for _ in 0..30 {
        idlers.push(world.connect().await);
    }
    client.get::<ServiceView>("/v1/services/web?form=view").await.expect("answered");
    drop(followers);
    // The server notices hang-ups in its own time.
    while client.watch().await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_backlog_is_waited_for() {
    let world = World::new([view("web")]);
    // The server gets no turn while these come, so they fill the backlog; a connect that blocks would
    // wait for ever.
    let connect = || {
        let kind = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        let socket =
            rustix::net::socket_with(kind.0, kind.1, rustix::net::SocketFlags::NONBLOCK, None).expect("a socket");
        let address = rustix::net::SocketAddrUnix::new(&world.socket).expect("short");
        rustix::net::connect(&socket, &address).map(|()| socket)
    };
    let flood: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
    assert_eq!(connect().err(), Some(rustix::io::Errno::AGAIN));
    let client = Client::connect(&world.socket);
    let (client, ()) = tokio::join!(client, async { drop(flood) });
    client.expect("connected").get::<ServiceView>("/v1/services/web?form=view").await.expect("answered");
}

#[tokio::test]
async fn a_stranger_is_not_answered() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can play another user
    }
    let world = World::new([view("web")]);
    // Even where the modes would let it in.
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    std::fs::set_permissions(&world.socket, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let socket = world.socket.clone();
    let answer = tokio::task::spawn_blocking(move || {
        as_stranger(move || {
            use std::io::{Read, Write};
            let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the modes let it in");
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: plugd\r\n\r\n").ok();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            answer
        })
    });
    assert_eq!(answer.await.expect("ran"), b"");
    assert_eq!(world.ask("GET", "/livez", "").await.0, 200);
}

#[tokio::test]
async fn a_client_does_not_speak_to_a_strangers_socket() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can play another user
    }
    let dir = tempfile::tempdir().expect("a temp folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    let path = dir.path().join("plugd.sock");
    let bound = path.clone();
    let _listener = as_stranger(move || std::os::unix::net::UnixListener::bind(bound).expect("bound"));
    let refused = Client::connect(&path).await.expect_err("a stranger");
    assert!(matches!(refused, ClientError::Untrusted { uid: STRANGER, .. }), "{refused:?}");

    let theirs = tempfile::tempdir().expect("a temp folder");
    std::os::unix::fs::chown(theirs.path(), Some(STRANGER), None).expect("root may");
    Client::connect_in(&path, theirs.path()).await.expect("the owner of the directory is trusted");
}

/// On a thread that is somebody else: credentials belong to threads.
fn as_stranger<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let uid = rustix::process::Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
        work()
    });
    thread.join().expect("no panic")
}

/// Everything that a page of another site can make a browser send.
const HOSTILE: &[(&str, &str)] = &[
    ("a foreign host", "host: evil.example\r\n"),
    ("a rebound name", "host: 127.0.0.1.nip.io\r\n"),
    ("two hosts", "host: plugd\r\nhost: plugd\r\n"),
    ("a foreign origin", "host: localhost:8080\r\norigin: http://evil.example\r\n"),
    ("another port's origin", "host: localhost:8080\r\norigin: http://localhost:3000\r\n"),
    ("no origin of its own", "host: plugd\r\norigin: null\r\n"),
    ("a fetch across sites", "host: plugd\r\nsec-fetch-site: cross-site\r\n"),
    ("a fetch within a site", "host: plugd\r\nsec-fetch-site: same-site\r\n"),
    ("a form", "host: plugd\r\ncontent-type: application/x-www-form-urlencoded\r\n"),
    ("a form with files", "host: plugd\r\ncontent-type: multipart/form-data; boundary=x\r\n"),
    ("text", "host: plugd\r\ncontent-type: text/plain\r\n"),
    ("a web socket", "host: plugd\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"),
];

#[tokio::test]
async fn what_another_site_makes_a_browser_send_is_forbidden_on_every_route() {
    let mut world = World::new([view("web")]);
    std::fs::write(world.services_d().join("web.yaml"), "command: [sleep]").expect("written");
    let mut requests = world.requests.take().expect("asked by nobody");
    let routes = plugd::api::ROUTES.iter().map(|route| (route.method, route.path));
    for (method, path) in routes.chain([("GET", "/nothing/here"), ("PATCH", "/v1/services")]) {
        let path = path.replace("{name}", "web");
        for (what, headers) in HOSTILE {
            let body = r#"{"name": "x", "manifest": "command: x", "replicas": 1, "signal": "HUP"}"#;
            let length = body.len();
            let answer = world
                .raw(format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
                .await;
            assert_eq!(split(&answer).0, 403, "{what}: {method} {path}: {answer}");
        }
        let absolute =
            format!("{method} http://evil.example{path} HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\n\r\n");
        assert_eq!(split(&world.raw(absolute.as_bytes()).await).0, 403, "an absolute target: {method} {path}");
    }
    assert!(requests.try_recv().is_err(), "nothing reached the loop");
    assert!(world.services_d().join("web.yaml").exists(), "nothing was removed");
    assert!(!world.services_d().join("x.yaml").exists(), "nothing was written");
}

#[tokio::test]
async fn what_a_program_or_our_own_page_sends_is_let_in() {
    let world = World::new([view("web")]);
    for headers in [
        "host: localhost\r\n",
        "host: 127.0.0.1:8080\r\n",
        "host: [::1]:8080\r\n",
        "host: plugd\r\ncontent-type: application/json; charset=utf-8\r\n",
        "host: localhost:8080\r\norigin: http://localhost:8080\r\nsec-fetch-site: same-origin\r\n",
        "host: localhost:8080\r\nsec-fetch-site: none\r\n",
    ] {
        let answer = world.raw(format!("GET /livez HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(split(&answer).0, 200, "{headers}: {answer}");
    }
    let answer = world.raw(b"GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(split(&answer).0, 200, "HTTP/1.0 has no host: {answer}");
}
