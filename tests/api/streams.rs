//! `/v1/watch` and `/v1/events`: order, and readers that are slow.

use std::sync::Arc;
use std::time::Duration;

use plugd::api::wire::{EventsEvent, WatchEvent};
use plugd::model::reason::Status;
use tokio::io::AsyncWriteExt;

use crate::world::{World, name, read_to_end, split, view};

#[tokio::test]
async fn a_watch_begins_with_everything_and_goes_on_with_what_changes() {
    let world = World::new([view("web"), view("db")]);
    let mut watch = world.client().await.watch().await.expect("a stream");
    let Ok(Some(WatchEvent::Snapshot(first))) = watch.next().await else { panic!("no snapshot") };
    assert_eq!((first.sequence, first.services.len()), (1, 2));

    let mut stopped = view("web");
    stopped.status = Status::Stopped;
    world.publish(|snapshot| {
        snapshot.services.insert(name("web"), Arc::new(stopped.clone()));
        snapshot.services.remove("db");
        snapshot.node.shutting_down = true;
    });
    assert!(matches!(watch.next().await, Ok(Some(WatchEvent::Removed(gone))) if gone == name("db")));
    assert!(matches!(watch.next().await, Ok(Some(WatchEvent::Changed(now))) if *now == stopped));
    assert!(matches!(watch.next().await, Ok(Some(WatchEvent::Node(node))) if node.shutting_down));

    world.publish(|snapshot| drop(snapshot.services.insert(name("new"), view("new").into())));
    assert!(matches!(watch.next().await, Ok(Some(WatchEvent::Changed(now))) if now.service == name("new")));
}

#[tokio::test]
async fn frames_carry_the_sequence_number_of_their_snapshot() {
    let world = World::new([view("web")]);
    let mut stream = world.connect().await;
    stream.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: plugd\r\n\r\n").await.expect("written");
    let mut watch = world.client().await.watch().await.expect("a stream");
    watch.next().await.expect("a snapshot");
    let sequence = world.publish(|snapshot| drop(snapshot.services.insert(name("db"), view("db").into())));
    watch.next().await.expect("a change");
    let mut text = String::new();
    while !text.contains("event: changed\nid: 2\n") {
        stream.readable().await.expect("open");
        let mut buffer = [0; 8192];
        if let Ok(count) = stream.try_read(&mut buffer) {
            assert_ne!(count, 0, "closed after {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
    assert_eq!(sequence, 2);
    assert!(text.contains("event: snapshot\nid: 1\n"), "{text}");
}

#[tokio::test]
async fn a_watch_ends_with_the_controller() {
    let mut world = World::new([view("web")]);
    let mut watch = world.client().await.watch().await.expect("a stream");
    watch.next().await.expect("a snapshot");
    world.changed = tokio::sync::watch::channel(0).0;
    assert!(matches!(watch.next().await, Ok(None)));
}

/// A view so large that a few dozen of them fill every buffer on the way.
fn large(round: usize) -> plugd::model::view::ServiceView {
    let mut large = view("web");
    large.why = vec!["x".repeat(100_000), round.to_string()];
    large
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_told_that_it_lagged_and_gets_a_fresh_snapshot() {
    let world = World::new([view("web")]);
    let mut stream = world.connect().await;
    stream.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\n\r\n").await.expect("written");
    for round in 0..100 {
        world.publish(|snapshot| drop(snapshot.services.insert(name("web"), large(round).into())));
        // Virtual time: the server gets its turn, nobody waits.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server_ends = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        // The stream ends with the controller, so that the reader sees all that was sent.
        drop(world);
    };
    let (answer, ()) = tokio::join!(read_to_end(&mut stream), server_ends);
    let (_, text) = split(&answer);
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let lagged = events.iter().position(|event| *event == "lagged").expect("told");
    assert_eq!(events[lagged + 1], "snapshot");
    let last = text.rfind("event: snapshot\n").expect("there");
    assert!(text[last..].contains("\"99\"") || text[last..].contains("event: changed"), "the last state is known");
    assert!(!events.contains(&"dropped"));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_reads_nothing_is_dropped_with_a_notice() {
    let world = World::new([view("web")]);
    let mut stream = world.connect().await;
    stream.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: plugd\r\nconnection: close\r\n\r\n").await.expect("written");
    for round in 0..100 {
        world.publish(|snapshot| drop(snapshot.services.insert(name("web"), large(round).into())));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (_, text) = split(&read_to_end(&mut stream).await);
    let tail = &text[text.floor_char_boundary(text.len().saturating_sub(200))..];
    assert!(tail.contains("event: dropped\n"), "{tail}");
}

#[tokio::test]
async fn events_begin_with_the_history_and_none_is_missed_or_doubled() {
    let world = World::new([]);
    let old = world.happens("old");
    let mut events = world.client().await.events().await.expect("a stream");
    assert!(matches!(events.next().await, Ok(Some(EventsEvent::History(items))) if items == [old.clone()]));
    let [one, two] = [world.happens("one"), world.happens("two")];
    for event in [&one, &two] {
        assert!(matches!(events.next().await, Ok(Some(EventsEvent::Happened(got))) if got == *event));
    }
    let list: plugd::api::wire::List<plugd::model::view::Event> =
        world.client().await.get("/v1/events?follow=false").await.expect("a list");
    assert_eq!(list.items, [old, one, two]);
}

#[tokio::test]
async fn a_burst_of_events_beyond_the_channel_is_made_good_by_the_history() {
    let world = World::new([]);
    let mut events = world.client().await.events().await.expect("a stream");
    events.next().await.expect("an empty history");
    // The channel holds 8, and the server gets no turn in between.
    let all: Vec<_> = (0..50).map(|i| world.happens(&i.to_string())).collect();
    assert!(matches!(events.next().await, Ok(Some(EventsEvent::History(items))) if items == all));
}
