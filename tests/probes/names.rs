//! Hosts by name: never on the loop, kept for a moment, one lookup at a time.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use plugd::edge::probe::names::Names;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 5));

fn asking(resolver: impl Fn(&str) -> std::io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Arc<Sockets> {
    Arc::new(Sockets::asking(Names::by(resolver)))
}

async fn reach(sockets: &Arc<Sockets>, host: &str, port: u16, timeout: Duration) -> Verdict {
    let place = Place::Host(host.into(), port);
    tcp(Arc::new(LifeContext::default()), sockets.clone(), place, timeout).await
}

#[tokio::test]
async fn a_hundred_checks_of_one_name_are_one_lookup() {
    let (_listener, port) = listener("127.0.0.5:0");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let sockets = asking(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        Ok(vec![HERE])
    });
    let checks: Vec<_> = (0..100)
        .map(|_| {
            let sockets = sockets.clone();
            tokio::spawn(async move { reach(&sockets, "db.test", port, TIMEOUT).await })
        })
        .collect();
    for check in checks {
        let verdict = check.await.expect("no panic");
        assert_eq!((verdict.passed, verdict.message), (true, format!("tcp db.test:{port} passed")));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_resolver_that_hangs_costs_a_check_its_own_deadline_and_the_loop_nothing() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let sockets = asking(move |host| {
        if host == "fine.test" {
            return Ok(vec![HERE]);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(30));
        Ok(vec![HERE])
    });
    let begun = Instant::now();
    for _ in 0..3 {
        let verdict = reach(&sockets, "slow.test", 80, Duration::from_millis(100)).await;
        assert!(verdict.message.ends_with("slow.test:80 did not answer within 100ms"), "{verdict:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "nobody asks a second time while the first is asked");
    let (_listener, port) = listener("127.0.0.5:0");
    assert!(reach(&sockets, "fine.test", port, TIMEOUT).await.passed, "others are found meanwhile");
    for n in 0..30 {
        let _ = reach(&sockets, &format!("slow{n}.test"), 80, Duration::from_millis(1)).await;
    }
    let verdict = reach(&sockets, "one-more.test", 80, TIMEOUT).await;
    assert!(verdict.message.contains("the resolver is busy with 16 other names"), "{verdict:?}");
    assert!(count.load(Ordering::SeqCst) <= 16, "threads are bounded");
    assert!(begun.elapsed() < TIMEOUT);
}

#[tokio::test]
async fn a_name_that_is_not_found_is_told_and_asked_again_soon() {
    let known = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answers = known.clone();
    let sockets = asking(move |_| match answers.load(Ordering::SeqCst) {
        true => Ok(vec![HERE]),
        false => Err(std::io::Error::other("failed to lookup address information: Name or service not known")),
    });
    let (_listener, port) = listener("127.0.0.5:0");
    let verdict = reach(&sockets, "new.test", port, TIMEOUT).await;
    assert_eq!(verdict.message, "tcp new.test cannot be looked up: Name or service not known");
    known.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    while !reach(&sockets, "new.test", port, TIMEOUT).await.passed {
        assert!(begun.elapsed() < TIMEOUT, "it is never asked for again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_changes_is_taken_up_within_seconds() {
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = turn.clone();
    let names = Names::by(move |_| {
        let turn = turns.fetch_add(1, Ordering::SeqCst) as u8;
        Ok(vec![IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 1, turn))])
    });
    let first = names.of("moves.test").await.expect("found");
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(names.of("moves.test").await.expect("kept"), first);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_ne!(names.of("moves.test").await.expect("asked again"), first);
}

#[tokio::test(start_paused = true)]
async fn while_others_hold_every_place_what_was_found_last_is_used_and_the_rest_was_not_asked() {
    let (over, hangs) = std::sync::mpsc::channel::<()>();
    let hangs = std::sync::Mutex::new(hangs);
    let names = Names::by(move |host| {
        if host != "fine.test" {
            let _ = hangs.lock().map(|hangs| hangs.recv());
        }
        Ok(vec![HERE])
    });
    let found = names.of("fine.test").await.expect("found");
    for n in 0..16 {
        let asked = tokio::time::timeout(Duration::from_millis(1), names.of(&format!("slow{n}.test"))).await;
        assert!(asked.is_err(), "it hangs");
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(names.of("fine.test").await.expect("as before"), found);
    let unknown = names.of("new.test").await.expect_err("there is no place");
    assert!(unknown.unasked && unknown.why.contains("busy with 16 other names"), "{unknown:?}");
    drop(over);
}

#[tokio::test]
async fn of_a_thousand_addresses_the_first_few_are_tried_and_none_is_none() {
    let (_listener, port) = listener("127.0.0.5:0");
    // Two that refuse, then the one that listens, then a thousand more.
    let many: Vec<IpAddr> = (6..8_u8)
        .map(|last| IpAddr::from([127, 0, 0, last]))
        .chain([HERE])
        .chain((0..1000).map(|n: u16| IpAddr::from([127, 9, n.to_be_bytes()[0], n.to_be_bytes()[1]])))
        .collect();
    let sockets = asking(move |host| Ok(if host == "many.test" { many.clone() } else { Vec::new() }));
    assert!(reach(&sockets, "many.test", port, TIMEOUT).await.passed);
    let verdict = reach(&sockets, "none.test", port, TIMEOUT).await;
    assert_eq!(verdict.message, "tcp none.test has no address");
}

#[tokio::test]
async fn a_literal_address_is_never_looked_up() {
    let sockets = asking(|host| panic!("{host} was looked up"));
    let (_listener, port) = listener("127.0.0.5:0");
    assert!(reach(&sockets, "127.0.0.5", port, TIMEOUT).await.passed);
    let (_listener, port) = listener("[::1]:0");
    assert!(reach(&sockets, "::1", port, TIMEOUT).await.passed);
}
