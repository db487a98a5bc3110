//! httpGet over TLS, and what the manifest expects of an answer.

use std::io::Cursor;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;

/// Its certificate ran out in 2020, is of version 1, for another name, and signed by nobody.
const EXPIRED: &[u8] = include_bytes!("expired.pem");

/// A server that answers one request a connection under TLS, in these versions of it.
fn tls_server(versions: &[&'static rustls::SupportedProtocolVersion], answer: &'static [u8]) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_reader(Cursor::new(EXPIRED)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_reader(Cursor::new(EXPIRED)).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a usable key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("known versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key))));
    let config = Arc::new(config);
    server(move |stream| {
        let Ok(connection) = rustls::ServerConnection::new(config.clone()) else { return };
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        let _ = stream.write_all(answer);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

async fn asked(get: Get, timeout: Duration) -> Verdict {
    http(Arc::new(LifeContext::new(None, vec![])), Arc::new(Sockets::new()), get, timeout).await
}

async fn over_tls(port: u16) -> Verdict {
    let mut verdict = asked(Get { https: true, ..plain(port, "/live") }, TIMEOUT).await;
    verdict.message = verdict.message.replace(&port.to_string(), "PORT");
    verdict
}

#[tokio::test]
async fn a_certificate_is_not_looked_at_in_either_version_of_tls() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let verdict = over_tls(tls_server(&[version], b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!((verdict.passed, verdict.message.as_str()), (true, "https 127.0.0.1:PORT/live passed (200)"));
    }
    let verdict = over_tls(tls_server(rustls::ALL_VERSIONS, b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!((verdict.passed, verdict.message.as_str()), (false, "https 127.0.0.1:PORT/live answered 503"));
}

#[tokio::test]
async fn what_is_no_tls_fails_at_once_and_is_told_as_that() {
    let begun = Instant::now();
    for (said, told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "did not get through the TLS handshake: "),
        (b"", "closed the connection in the TLS handshake"),
        // An alert: handshake_failure.
        (b"\x15\x03\x03\x00\x02\x02\x28", "did not get through the TLS handshake: "),
    ] {
        let port = server(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(said);
        });
        let verdict = over_tls(port).await;
        assert!(
            !verdict.passed && verdict.message.starts_with(&format!("https 127.0.0.1:PORT/live {told}")),
            "{verdict:?}"
        );
    }
    assert!(begun.elapsed() < TIMEOUT);
}

#[tokio::test]
async fn a_handshake_that_floods_or_hangs_ends_at_the_cap_or_the_deadline() {
    // Warning alerts without end.
    let flood = server(|mut stream| {
        let record = [0x15, 3, 3, 0, 2, 1, 100];
        while stream.write_all(&record.repeat(500)).is_ok() {}
    });
    let verdict = over_tls(flood).await;
    assert!(!verdict.passed && !verdict.message.contains("did not answer within"), "{verdict:?}");

    let silent = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let verdict = asked(Get { https: true, ..plain(silent, "/") }, Duration::from_millis(200)).await;
    assert!(verdict.message.ends_with("did not answer within 200ms"), "{verdict:?}");
}

#[tokio::test]
async fn an_answer_must_be_what_is_expected() {
    let port = server(|mut stream| {
        head(&mut stream);
        let _ =
            stream.write_all(b"HTTP/1.1 302 Found\r\ncontent-length: 28\r\n\r\n{\"state\":\"up\",\"token\":\"abc\"}\n");
    });
    let get = |statuses: &[u16], body: Option<&str>| Get {
        expect_status: statuses.to_vec(),
        expect_body: body.map(str::to_string),
        ..plain(port, "/")
    };
    for (get, passed, told) in [
        (get(&[], Some("\"state\": ?\"up\"")), true, "passed (302)"),
        // The last line of a text ends with a newline.
        (get(&[], Some("^.*}$")), true, "passed (302)"),
        (get(&[200, 302], None), true, "passed (302)"),
        (get(&[200, 204], None), false, "answered 302 and not 200 or 204"),
        (get(&[], Some("down")), false, "answered 302, but its body does not match `expectBody`"),
    ] {
        let verdict = asked(get, TIMEOUT).await;
        assert_eq!(verdict.passed, passed, "{verdict:?}");
        assert!(verdict.message.ends_with(told), "{verdict:?}");
        assert!(!verdict.message.contains("abc"), "what it said is not repeated");
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed_to_another_host_nor_round_in_circles() {
    let elsewhere = TcpListener::bind("127.0.0.9:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let there = elsewhere.local_addr().expect("bound");
    let asked_times = async |location: String| {
        let (count, counted) = std::sync::mpsc::channel();
        let port = server(move |mut stream| {
            head(&mut stream);
            let _ = count.send(());
            let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        });
        let verdict = asked(plain(port, "/"), TIMEOUT).await;
        (verdict, counted.try_iter().count())
    };
    let (verdict, times) = asked_times(format!("http://{there}/")).await;
    assert!(verdict.passed && times == 1, "{times}: {verdict:?}");
    let (verdict, times) = asked_times("/".into()).await;
    assert!(!verdict.passed && times == 11, "{times}: {verdict:?}");
    assert!(verdict.message.ends_with("/ redirects more than 10 times"), "{verdict:?}");
    let nobody = elsewhere.accept().expect_err("nobody came");
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn what_a_redirect_at_the_same_place_leads_to_is_what_counts() {
    let port = server(|mut stream| {
        let answer = match head(&mut stream) {
            asked if asked.starts_with("GET /sick ") => "503 Service Unavailable\r\n",
            asked if asked.starts_with("GET /well?at=1 ") => "200 OK\r\n",
            asked if asked.starts_with("GET /ill ") => "301 Moved Permanently\r\nlocation: sick\r\n",
            _ => "307 Temporary Redirect\r\nlocation: /well?at=1\r\n",
        };
        let _ = stream.write_all(format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n").as_bytes());
    });
    let verdict = asked(plain(port, "/health"), TIMEOUT).await;
    assert!(verdict.passed && verdict.message.ends_with("/well passed (200)"), "{verdict:?}");
    let verdict = asked(plain(port, "/ill"), TIMEOUT).await;
    assert!(!verdict.passed && verdict.message.ends_with("/sick answered 503"), "{verdict:?}");
    // Who expects the redirect itself gets it.
    let verdict = asked(Get { expect_status: vec![301], ..plain(port, "/ill") }, TIMEOUT).await;
    assert!(verdict.passed && verdict.message.ends_with("/ill passed (301)"), "{verdict:?}");
}

#[tokio::test]
async fn an_answer_that_ends_in_the_middle_of_its_body_is_none() {
    for head_of_answer in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let port = server(move |mut stream| {
            head(&mut stream);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head_of_answer}").as_bytes());
        });
        let verdict = asked(Get { expect_body: Some("half".into()), ..plain(port, "/") }, TIMEOUT).await;
        assert!(!verdict.passed && verdict.message.ends_with("in the middle of its body"), "{verdict:?}");
    }
}

#[tokio::test]
async fn http_0_9_is_no_answer_and_a_flood_of_early_ones_ends_at_the_cap() {
    let bare = server(|mut stream| {
        // Whoever closes with something unread resets the connection, and the answer is lost.
        head(&mut stream);
        drop(stream.write_all(b"hello, this is a page\n"));
    });
    let verdict = asked(plain(bare, "/"), TIMEOUT).await;
    assert!(verdict.message.ends_with("did not answer in HTTP/1"), "{verdict:?}");
    let early = server(|mut stream| {
        head(&mut stream);
        while stream.write_all(&b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100)).is_ok() {}
    });
    let verdict = asked(plain(early, "/"), TIMEOUT).await;
    assert!(!verdict.passed && verdict.message.contains("sent more than"), "{verdict:?}");
}
