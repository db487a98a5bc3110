//! The past in numbers on a real disk: minutes and hours that add up, and that are bounded.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use plugd::controller::Memory;
use plugd::edge::store::{EXITS_OF_ONE, Minute, News, Question, Store};
use plugd::model::history::{Bucket, History};
use plugd::model::name::Name;
use plugd::model::view::ExitView;

use super::{event, name};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// Midnight, so that hours and minutes of a test are easy to read.
const DAY: &str = "2026-11-23T00:00:00Z";

fn minute(number: i64, seen: &[(Name, Bucket)]) -> Minute {
    Minute { at: at(DAY).as_second() / 60 + number, buckets: seen.to_vec(), ..Minute::default() }
}

fn up(restarts: u64) -> Bucket {
    let mut bucket = Bucket { up_ms: 60_000, probes_ok: 6, restarts, ..Bucket::default() };
    bucket.answered_in(Duration::from_micros(200));
    bucket.scored(100);
    bucket
}

/// Written before the next: only an hour of minutes waits for the disk.
fn write(store: &Store, minute: Minute) {
    store.minute(minute);
    store.settled().blocking_recv().expect("written");
}

fn recall(store: &Store, service: &str, since: &str, until: &str) -> History {
    let question = Question { service: service.into(), since: at(since), until: at(until) };
    store.recall(question).blocking_recv().expect("answered")
}

fn exit(n: i64) -> ExitView {
    let at = Timestamp::from_microsecond(n).expect("in range");
    ExitView {
        code: Some(3),
        signal: None,
        reason: None,
        by: None,
        at,
        ran_for: Duration::from_millis(200),
        output: vec!["bye".into()],
    }
}

#[test]
fn a_day_is_told_in_minutes_and_more_in_hours() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    for n in 0..180 {
        write(&store, minute(n, &[(name("web"), up(1)), (name("db"), up(0))]));
    }
    store.close();
    let store = Store::open(&path);
    let day = recall(&store, "web", DAY, "2026-11-24T00:00:00Z");
    assert_eq!((day.step_secs, day.points.len(), day.total.restarts), (60, 180, 180));
    assert_eq!(day.points[179].at, at("2026-11-23T02:59:00Z"));
    assert_eq!(day.points[0].seen, up(1));
    let month = recall(&store, "web", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!((month.step_secs, month.points.len()), (3_600, 3));
    assert_eq!(month.total, day.total, "nothing is lost on the way");
    let part = recall(&store, "db", "2026-11-23T01:00:30Z", "2026-11-23T01:02:10Z");
    assert_eq!(part.points.len(), 3, "the minute of the first moment and that of the last");
    assert!(recall(&store, "nobody", DAY, "2026-11-24T00:00:00Z").is_empty());
    store.close();
}

#[test]
fn a_minute_that_is_written_twice_adds_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    for _ in 0..2 {
        // A new controller goes on in the same minute.
        let store = Store::open(&path);
        store.minute(minute(0, &[(name("web"), Bucket { up_ms: 20_000, ..Bucket::default() })]));
        recall(&store, "web", DAY, "2026-11-23T01:00:00Z");
        store.minute(minute(0, &[(name("web"), Bucket { up_ms: 10_000, ..Bucket::default() })]));
        store.close();
    }
    let store = Store::open(&path);
    let seen = recall(&store, "web", DAY, "2026-11-23T01:00:00Z");
    assert_eq!((seen.points.len(), seen.total.up_ms), (1, 60_000));
    store.close();
}

#[test]
fn what_was_written_survives_a_writer_that_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    store.minute(minute(0, &[(name("web"), up(2))]));
    store.exit(name("web"), exit(5));
    store.settled().blocking_recv().expect("written");
    // Not closed: the file and its journal are what a SIGKILL leaves.
    let copy = dir.path().join("copy.db");
    for ending in ["", "-wal"] {
        std::fs::copy(format!("{}{ending}", path.display()), format!("{}{ending}", copy.display())).expect("copied");
    }
    let after = Store::open(&copy);
    let seen = recall(&after, "web", "1970-01-01T00:00:00Z", "2026-11-24T00:00:00Z");
    assert_eq!((seen.total.restarts, seen.exits.len()), (2, 1));
    after.close();
    store.close();
}

#[test]
fn only_a_day_of_minutes_and_90_days_of_hours_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    let web = [(name("web"), up(0))];
    for n in 0..1500 {
        write(&store, minute(n, &web));
    }
    // One minute of each hour from here.
    for hour in 25..2300 {
        write(&store, minute(hour * 60, &web));
    }
    let count = |table: &str| -> i64 {
        let db = rusqlite::Connection::open(&path).expect("open");
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted")
    };
    assert!(count("minute") <= 1440 && count("minute") > 1400, "{}", count("minute"));
    assert!(count("hour") <= 2160 && count("hour") > 2100, "{}", count("hour"));
    store.close();
}

#[test]
fn bytes_and_names_are_bounded_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    Store::open(&path).close();
    let mut db = rusqlite::Connection::open(&path).expect("open");
    let change = db.transaction().expect("begun");
    for n in 0..40 {
        change.execute("INSERT INTO hour (at, data) VALUES (?1, zeroblob(1048576))", [n]).expect("written");
    }
    for n in 0..40_050 {
        let name = format!("gone-{n}");
        change.execute("INSERT INTO series (name) VALUES (?1)", [name]).expect("written");
    }
    change.commit().expect("written");
    let store = Store::open(&path);
    write(&store, minute(0, &[(name("web"), up(1))]));
    store.close();
    let count = |table: &str| -> i64 {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted")
    };
    assert_eq!(count("hour"), 32, "32 MiB, the newest among them");
    // What lies in the blobs of nothing is number 0, which is no service.
    assert_eq!(count("series"), 1, "those that no hour knows are dropped");
    let store = Store::open(&path);
    assert_eq!(recall(&store, "web", DAY, "2026-11-24T00:00:00Z").total.restarts, 1);
    store.close();
}

#[test]
fn the_history_of_a_thousand_services_stays_small() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    let all: Vec<(Name, Bucket)> = (0..1000).map(|n| (name(&format!("service-{n}")), up(0))).collect();
    for n in 0..120 {
        write(&store, minute(n, &all));
    }
    store.close();
    let bytes = std::fs::metadata(&path).expect("there").len();
    // 120 minutes and 2 hours, some 20 bytes each: a day would be 29 MiB.
    assert!(bytes < 4 << 20, "{bytes} bytes");
    let seen = Store::open(&path);
    assert_eq!(recall(&seen, "service-999", DAY, "2026-11-24T00:00:00Z").points.len(), 120);
    seen.close();
}

#[test]
fn the_last_exits_are_kept_once_each_and_only_so_many() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    for n in 0..100 {
        store.exit(name("web"), exit(n));
        store.exit(name("web"), exit(n));
        if n % 7 == 0 {
            store.settled().blocking_recv().expect("written");
        }
    }
    store.exit(name("db"), exit(3));
    let epoch = "1970-01-01T00:00:00Z";
    let web = recall(&store, "web", epoch, DAY).exits;
    assert_eq!(web.len(), EXITS_OF_ONE);
    assert_eq!((web[0].at.as_microsecond(), web.last().expect("some").at.as_microsecond()), (80, 99));
    assert_eq!(recall(&store, "db", epoch, DAY).exits, [exit(3)]);
    store.close();
}

#[test]
fn the_exits_of_one_that_is_loud_push_out_nobody_elses() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("state.db"));
    let exits = |service: &str| recall(&store, service, "1970-01-01T00:00:00Z", DAY).exits.len();
    store.exit(name("calm"), exit(1));
    for n in 0..6_000 {
        store.exit(name("loud"), exit(n));
        if n % 20 == 19 {
            store.settled().blocking_recv().expect("written");
        }
    }
    write(&store, minute(0, &[(name("calm"), up(0))]));
    assert_eq!((exits("calm"), exits("loud")), (1, EXITS_OF_ONE));
    // Of all together no more than 5,000.
    for service in 0..260 {
        (0..20).for_each(|n| store.exit(name(&format!("s{service}")), exit(n)));
        store.settled().blocking_recv().expect("written");
    }
    write(&store, minute(1, &[(name("calm"), up(0))]));
    assert_eq!((exits("calm"), exits("loud"), exits("s0"), exits("s259")), (0, 0, 0, EXITS_OF_ONE));
    assert_eq!((9..12).map(|n| exits(&format!("s{n}"))).collect::<Vec<_>>(), [0, 20, 20]);
    store.close();
}

#[test]
fn the_last_output_of_an_exit_may_come_later_and_never_gets_less() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("state.db"));
    let silent = ExitView { output: Vec::new(), ..exit(1) };
    for told in [&silent, &exit(1), &silent] {
        store.exit(name("web"), told.clone());
        store.settled().blocking_recv().expect("written");
    }
    assert_eq!(recall(&store, "web", "1970-01-01T00:00:00Z", DAY).exits, [exit(1)]);
    store.close();
}

#[test]
fn what_is_counted_is_known_to_the_next_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    store.counted(name("web"), 3);
    store.counted(name("db"), 0);
    store.minute(Minute { counts: vec![(name("web"), 5)], ..minute(0, &[(name("web"), up(2))]) });
    store.close();
    let counted = super::reopened(&path).counted;
    assert_eq!(counted, [("db".to_string(), 0), ("web".to_string(), 5)].into());
}

#[test]
fn a_reader_beside_the_writer_sees_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let question = Question { service: "web".into(), since: at("1970-01-01T00:00:00Z"), until: at(DAY) };
    assert!(Store::recall_from(&path, &question).is_err(), "there is no database yet");
    assert!(!path.exists(), "and none is made");
    let store = Store::open(&path);
    store.exit(name("web"), exit(1));
    store.record(event(2, "web"));
    let told = store.recall(question.clone()).blocking_recv().expect("answered");
    assert_eq!((told.exits.len(), told.events.len()), (1, 1));
    assert_eq!(Store::recall_from(&path, &question).expect("readable"), told);
    store.close();
    assert_eq!(Store::recall_from(&path, &question).expect("readable at rest"), told);
}

#[test]
fn a_memory_of_an_older_plugd_is_read_and_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    Store::open(&path).close();
    let db = rusqlite::Connection::open(&path).expect("open");
    db.execute_batch("DROP TABLE minute; DROP TABLE hour; DROP TABLE series; DROP TABLE exit").expect("dropped");
    drop(db);
    let question = Question { service: "web".into(), since: at(DAY), until: at("2026-11-24T00:00:00Z") };
    assert!(Store::recall_from(&path, &question).expect("readable").is_empty());
    let store = Store::open(&path);
    assert_eq!(store.trouble(), None);
    store.minute(minute(0, &[(name("web"), up(0))]));
    assert_eq!(store.recall(question).blocking_recv().expect("answered").points.len(), 1);
    store.close();
}

#[test]
fn a_database_that_is_torn_in_the_middle_is_put_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    for n in 0..500 {
        store.remember(name(&format!("service-{n}")), Memory::default());
    }
    store.close();
    let mut bytes = std::fs::read(&path).expect("there");
    // The first page tells what tables there are, and is whole.
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).expect("written");
    let store = Store::open(&path);
    assert!(store.trouble().expect("said").contains("state.db.broken-1"), "{:?}", store.trouble());
    store.remember(name("web"), Memory { generation: 1, ..Memory::default() });
    store.close();
    assert_eq!(super::reopened(&path).memories.len(), 1);
}

#[test]
fn a_memory_that_was_emptied_or_taken_away_is_told_of_and_one_that_never_was_is_not() {
    for (is_empty, goes_on, wanted) in [
        (true, false, Some("state.db was empty")),
        (false, true, Some("state.db was taken away")),
        (false, false, None),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("state.db");
        if is_empty {
            std::fs::write(&path, "").expect("written");
        }
        let (tell, told) = std::sync::mpsc::channel();
        let store = Store::open_telling(&path, goes_on, Box::new(move |news| drop(tell.send(news))));
        store.close();
        let said: Vec<String> = told
            .iter()
            .filter_map(|news| match news {
                News::BegunAnew(what) => Some(what),
                News::Trouble(_) | News::Written => None,
            })
            .collect();
        assert_eq!(said.len(), usize::from(wanted.is_some()), "{said:?}");
        assert!(said.iter().all(|said| said.contains(wanted.unwrap_or_default())), "{said:?}");
    }
}

#[test]
fn that_there_is_something_to_lose_is_told_with_the_first_that_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    // An empty one is made, too; one that is there is left as it is until there is something to say.
    for orders in [1, 0, 2] {
        let (tell, told) = std::sync::mpsc::channel();
        let store =
            Store::open_telling(&dir.path().join("state.db"), false, Box::new(move |news| drop(tell.send(news))));
        for order in 0..orders {
            store.remember(name("web"), Memory { generation: order, ..Memory::default() });
            assert_eq!(store.settled().blocking_recv(), Ok(true));
        }
        store.close();
        assert_eq!(told.iter().collect::<Vec<_>>(), vec![News::Written; usize::from(orders > 0)]);
    }
}

#[test]
fn without_memory_the_events_at_hand_are_told_and_nothing_fails() {
    let store = Store::open(Path::new("/proc/nowhere/state.db"));
    store.minute(minute(0, &[(name("web"), up(0))]));
    store.record(event(1, "web"));
    let told = recall(&store, "web", "1970-01-01T00:00:00Z", DAY);
    assert_eq!((told.points.len(), told.events.len()), (0, 1));
    store.close();
    let nobody = Question { service: "web".into(), since: at(DAY), until: at(DAY) };
    assert!(Store::none().recall(nobody).blocking_recv().is_err());
}
