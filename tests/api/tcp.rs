//! The same over TCP, to who knows the token.

use std::net::SocketAddr;

use plugd::api::server;
use plugd::api::token::Token;
use plugd::api::{ROUTES, Role};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::world::{World, read_to_end, split, view};

struct Tcp {
    world: World,
    at: SocketAddr,
    token: String,
    server: JoinHandle<()>,
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Tcp {
    async fn new() -> Tcp {
        let world = World::new([view("web")]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("bound");
        let token = Token::of(world.dir.path()).expect("a place");
        let text = std::fs::read_to_string(&token.file).expect("a token").trim().to_string();
        let server = tokio::spawn(server::serve_tcp(listener, world.ctx.clone(), token));
        Tcp { world, at, token: text, server }
    }

    /// Status and whole answer.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.at).await.expect("it listens");
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok();
        let answer = read_to_end(&mut stream).await;
        (split(&answer).0, answer)
    }

    fn with_token(&self) -> String {
        format!("host: {}\r\nauthorization: Bearer {}\r\n", self.at, self.token)
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_told_but_that_it_lives_and_is_ready() {
    let mut tcp = Tcp::new().await;
    let mut requests = tcp.world.requests.take().expect("asked by nobody");
    let (own, token) = (format!("host: {}\r\n", tcp.at), tcp.token.clone());
    let wrong = [
        String::new(),
        "authorization: Bearer\r\n".into(),
        "authorization: Bearer \r\n".into(),
        format!("authorization: Basic {token}\r\n"),
        format!("authorization: Bearer {}\r\n", &token[1..]),
        format!("authorization: Bearer {token}0\r\n"),
        format!("authorization: Bearer x\r\nauthorization: Bearer {token}\r\n"),
        format!("x-token: {token}\r\n"),
    ];
    for route in ROUTES {
        let path = route.path.replace("{name}", "web");
        for given in &wrong {
            let (status, answer) = tcp.ask(route.method, &path, &format!("{own}{given}")).await;
            match route.role {
                Role::Anybody => {
                    assert_eq!(status, 200, "{path}: {answer}");
                    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
                }
                Role::View | Role::Operate | Role::Admin => {
                    assert_eq!(status, 401, "{} {path} with {given:?}: {answer}", route.method);
                    assert!(!answer.contains("web"), "{answer}");
                }
            }
        }
    }
    for path in [format!("/v1/services?token={token}"), "/livez/../v1/services".into(), "/nothing".into()] {
        let (status, answer) = tcp.ask("GET", &path, &own).await;
        assert_eq!(status, 401, "{path}: {answer}");
    }
    assert!(requests.try_recv().is_err(), "nothing reached the loop");
}

#[tokio::test]
async fn with_the_token_all_is_as_on_the_socket_and_a_page_of_another_site_gets_nothing() {
    let tcp = Tcp::new().await;
    let known = tcp.with_token();
    let (status, answer) = tcp.ask("GET", "/v1/services/web?form=view", &known).await;
    assert!(status == 200 && answer.contains("\"web\""), "{answer}");
    assert_eq!(tcp.ask("GET", "/v1/services/none", &known).await.0, 404);
    assert_eq!(tcp.ask("GET", "/v1/services", &known.replace("Bearer", "bearer")).await.0, 200);
    for route in ROUTES {
        let path = route.path.replace("{name}", "web");
        for (headers, because) in [
            (known.replace(&tcp.at.to_string(), "evil.example"), "a name that was made to point here"),
            (format!("{known}origin: http://evil.example\r\n"), "another page"),
            (format!("{known}sec-fetch-site: cross-site\r\n"), "a fetch across sites"),
        ] {
            let (status, answer) = tcp.ask(route.method, &path, &headers).await;
            assert_eq!(status, 403, "{because}: {} {path}: {answer}", route.method);
        }
    }
}

#[tokio::test]
async fn who_holds_every_connection_out_there_keeps_nobody_from_the_socket() {
    let tcp = Tcp::new().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(tcp.at).await.expect("the backlog takes it"));
    }
    let (status, _) = tcp.world.ask("GET", "/v1/services", "").await;
    assert_eq!(status, 200);
}
