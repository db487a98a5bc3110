//! Memory on a real disk: written behind, read back, moved aside when it cannot be used.
#![expect(clippy::disallowed_methods, reason = "a test of the edge touches the world")]

#[path = "store/history.rs"]
mod history;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use plugd::controller::Memory;
use plugd::edge::files::StatusFiles;
use plugd::edge::places::{self, Places, Who};
use plugd::edge::store::{EVENTS_FLOOR, EVENTS_MAX, EVENTS_OF_ONE, Loaded, Store};
use plugd::model::name::Name;
use plugd::model::reason::Reason;
use plugd::model::settings::Settings;
use plugd::model::view::Event;

fn name(text: &str) -> Name {
    Name::parse(text).expect("valid")
}

fn event(n: i64, service: &str) -> Event {
    Event {
        at: Timestamp::from_microsecond(n).expect("in range"),
        service: Some(service.into()),
        instance: None,
        reason: Reason::Exited,
        warning: false,
        message: format!("event {n}"),
    }
}

fn reopened(path: &Path) -> Loaded {
    let store = Store::open(path);
    let loaded = store.load();
    store.close();
    loaded
}

#[test]
fn a_look_at_the_memory_of_a_node_that_runs_sees_it_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    assert_eq!(Store::look(&path).load().owners.len(), 0);
    assert!(!path.exists(), "a look makes nothing");
    let store = Store::open(&path);
    store.owner(name("web"), "z.yaml".into());
    store.settled().blocking_recv().expect("written");
    let look = Store::look(&path);
    look.owner(name("web"), "other.yaml".into());
    assert_eq!(look.load().owners.get("web").map(String::as_str), Some("z.yaml"));
    store.close();
    assert_eq!(Store::look(&path).load().owners.get("web").map(String::as_str), Some("z.yaml"), "at rest, too");
    assert_eq!(reopened(&path).owners.get("web").map(String::as_str), Some("z.yaml"));
}

#[test]
fn what_is_remembered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open(&path);
    assert_eq!(store.trouble(), None);
    let memory = Memory { generation: 7, stopped_by_operator: true, lives: vec![3, 4], ..Memory::default() };
    store.remember(name("web"), Memory::default());
    store.remember(name("web"), memory.clone());
    store.remember(name("gone"), memory.clone());
    store.owner(name("web"), "web.yaml".into());
    store.owner(name("gone"), "gone.yaml".into());
    store.claim("web.sh".into(), "1:2:3".into());
    store.claim("old.sh".into(), "1:2:3".into());
    store.forget(name("gone"));
    store.unclaim("old.sh".into());
    store.close();
    let loaded = reopened(&path);
    assert_eq!(loaded.memories, [(name("web"), memory)]);
    assert_eq!(loaded.owners.get("web").map(String::as_str), Some("web.yaml"));
    assert_eq!(loaded.claims.len(), 1);
}

#[test]
fn a_stop_by_the_operator_holds_in_its_era_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let store = Store::open_in(&path, "boot 1");
    let dependency_lost = Some("db".to_string());
    let memory = Memory { stopped_by_operator: true, dependency_lost, generation: 2, ..Memory::default() };
    store.remember(name("web"), memory);
    store.close();
    for (era, holds) in [("boot 1", true), ("boot 2", false)] {
        let store = Store::open_in(&path, era);
        let memory = store.load().memories.remove(0).1;
        assert_eq!((memory.stopped_by_operator, memory.generation), (holds, 2), "{era}");
        assert_eq!(memory.dependency_lost.is_some(), holds, "{era}");
        store.close();
    }
}

#[test]
fn events_are_answered_newest_last_also_before_they_are_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("state.db"));
    for n in 0..10 {
        store.record(event(n, if n % 2 == 0 { "even" } else { "odd" }));
    }
    let ask = |since: Option<i64>, service, limit| {
        let since = since.map(|n| Timestamp::from_microsecond(n).expect("in range"));
        let events = store.events(since, service, limit).blocking_recv().expect("answered");
        events.into_iter().map(|event| event.at.as_microsecond()).collect::<Vec<_>>()
    };
    assert_eq!(ask(None, None, 3), [7, 8, 9]);
    assert_eq!(ask(Some(4), Some("even"), 100), [4, 6, 8]);
    store.close();
}

#[test]
fn only_so_many_events_are_kept_and_one_that_is_loud_pushes_out_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("state.db"));
    let events = |service: Option<&str>| {
        let events = store.events(None, service, usize::MAX).blocking_recv().expect("answered");
        events.into_iter().map(|event| event.at.as_microsecond()).collect::<Vec<_>>()
    };
    store.record(event(0, "calm"));
    let (loud, many) = (EVENTS_OF_ONE as i64 + 500, EVENTS_MAX as i64 + 300);
    for n in 1..=loud {
        store.record(event(n, "loud"));
        if n % 1000 == 0 {
            assert_eq!(events(Some("calm")), [0]);
        }
    }
    assert_eq!(events(Some("calm")), [0]);
    assert_eq!(events(Some("loud")), Vec::from_iter(loud - EVENTS_OF_ONE as i64 + 1..=loud));
    for n in 1..=many {
        store.record(event(loud + n, &format!("s{}", n % 50)));
        if n % 1000 == 0 {
            events(None);
        }
    }
    let kept = events(None);
    assert!(kept.len() == EVENTS_MAX && kept.is_sorted(), "{}", kept.len());
    // What the others say pushes out nobody's last words.
    assert_eq!(events(Some("calm")), [0]);
    assert_eq!(events(Some("loud")), Vec::from_iter(loud - EVENTS_FLOOR as i64 + 1..=loud));
    store.close();
    // But there is an end to it, however many have a floor.
    let path = dir.path().join("many.db");
    let store = Store::open(&path);
    for n in 0..3 * EVENTS_MAX as i64 {
        store.record(event(n, &format!("s{n}")));
        if n % 1000 == 0 {
            store.events(None, None, 1).blocking_recv().expect("answered");
        }
    }
    store.close();
    let db = rusqlite::Connection::open(&path).expect("open");
    let count: i64 = db.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).expect("counted");
    let most = 2 * EVENTS_MAX as i64;
    assert!((most..most + 1_000).contains(&count), "{count}");
}

#[test]
fn a_database_that_cannot_be_used_is_moved_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state.db");
    let newer = |path: &Path| {
        let db = rusqlite::Connection::open(path).expect("open");
        db.execute_batch("PRAGMA application_id = 1886156135; PRAGMA user_version = 99; CREATE TABLE x (y)")
            .expect("made");
    };
    let foreign = |path: &Path| {
        let db = rusqlite::Connection::open(path).expect("open");
        db.execute_batch("CREATE TABLE memory (name TEXT)").expect("made");
    };
    let torn = |path: &Path| std::fs::write(path, b"SQLite format 3\0 and then nothing of use").expect("written");
    let makers: [&dyn Fn(&Path); 3] = [&torn, &newer, &foreign];
    for (n, make) in makers.into_iter().enumerate() {
        make(&path);
        let store = Store::open(&path);
        assert!(
            store.trouble().expect("said").contains(&format!("state.db.broken-{}", n + 1)),
            "{:?}",
            store.trouble()
        );
        store.remember(name("web"), Memory { generation: 1, ..Memory::default() });
        store.close();
        assert_eq!(reopened(&path).memories.len(), 1);
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn without_a_place_to_write_it_runs_without_memory_and_says_so() {
    let store = Store::open(Path::new("/proc/nowhere/state.db"));
    assert!(store.trouble().expect("said").starts_with("running without memory"), "{:?}", store.trouble());
    store.remember(name("web"), Memory::default());
    store.record(event(1, "web"));
    assert_eq!(store.events(None, None, 10).blocking_recv().expect("answered").len(), 1);
    store.close();
}

type Troubles = std::sync::mpsc::Receiver<(Option<String>, Option<String>)>;

fn status_files(dir: &Path, fallback: Option<PathBuf>) -> (StatusFiles, Troubles) {
    let (said, heard) = std::sync::mpsc::channel();
    let on_trouble = move |name: Option<&Name>, message: Option<String>| {
        said.send((name.map(Name::to_string), message)).ok();
    };
    (StatusFiles::start(dir, None, fallback, Box::new(on_trouble)).expect("started"), heard)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).expect("readable")
}

#[test]
fn a_status_is_written_beside_its_manifest_with_the_manifests_mode() {
    let dir = tempfile::tempdir().expect("a folder");
    let manifest = dir.path().join("web.yaml");
    std::fs::write(&manifest, "x").expect("written");
    std::fs::set_permissions(&manifest, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    std::fs::write(dir.path().join("left.status"), "old").expect("written");
    let (files, _) = status_files(dir.path(), None);
    files.announce(&name("web"), "status: healthy\n".to_string(), Some(manifest));
    files.node("node: x\n".into());
    files.keep_only(vec![name("web")]);
    files.flush();
    assert_eq!(read(dir.path().join("web.status")), "status: healthy\n");
    let mode = std::fs::metadata(dir.path().join("web.status")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(dir.path().join("_controller.status").exists() && !dir.path().join("left.status").exists());
    assert_eq!(std::fs::read_dir(dir.path().join(".plugd")).expect("there").count(), 0);
    files.remove(&name("web"));
    files.flush();
    assert!(!dir.path().join("web.status").exists());
}

#[test]
fn many_changes_are_few_writes_and_the_last_one_stands() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (files, _) = status_files(dir.path(), None);
    let mut inodes = std::collections::BTreeSet::new();
    let start = std::time::Instant::now();
    for n in 0..2000 {
        files.announce(&name("web"), format!("n: {n}\n"), None);
        inodes.extend(std::fs::metadata(dir.path().join("web.status")).ok().map(|found| found.ino()));
        std::thread::park_timeout(Duration::from_micros(100));
    }
    files.flush();
    let most = start.elapsed().as_millis() as usize / 100 + 3;
    assert!(inodes.len() <= most, "{} writes in {:?}", inodes.len(), start.elapsed());
    assert_eq!(read(dir.path().join("web.status")), "n: 1999\n");
}

/// Writes `text` as the status of web and waits until it stands there.
fn say(files: &StatusFiles, dir: &Path, text: &str) {
    files.announce(&name("web"), text.to_string(), Some(dir.join("web.yaml")));
    files.flush();
    assert_eq!(read(dir.join("web.status")), text);
}

#[test]
fn a_sheet_is_used_again_unless_somebody_still_reads_it_or_has_a_link_to_it() {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (dir, status) = (dir.path(), dir.path().join("web.status"));
    std::fs::write(dir.join("web.yaml"), "x").expect("written");
    let (files, _) = status_files(dir, None);
    let inode = || std::fs::metadata(&status).expect("there").ino();
    say(&files, dir, "a: much longer text than the others\n");
    let first = inode();
    say(&files, dir, "b\n");
    say(&files, dir, "c\n");
    assert_eq!(inode(), first, "its sheet was not used again");
    // Both sheets stay whole for who has them: this one is the status now, the other comes next.
    let mut reader = std::fs::File::open(&status).expect("opened");
    std::fs::hard_link(dir.join("web.status"), dir.join("link")).expect("linked");
    for text in ["d\n", "e\n", "f\n", "g\n"] {
        say(&files, dir, text);
        assert_ne!(inode(), first);
    }
    let mut seen = String::new();
    reader.read_to_string(&mut seen).expect("read");
    assert_eq!((seen.as_str(), read(dir.join("link")).as_str()), ("c\n", "c\n"));
    // What takes its place is not ours to use.
    std::fs::remove_file(&status).expect("removed");
    std::fs::write(&status, "mine").expect("written");
    std::fs::hard_link(&status, dir.join("mine")).expect("linked");
    say(&files, dir, "h\n");
    say(&files, dir, "i\n");
    assert_eq!(read(dir.join("mine")), "mine");
    drop(files);
    assert_eq!(std::fs::read_dir(dir.join(".plugd")).expect("there").count(), 0, "a spare was left");
}

#[test]
fn a_status_that_is_a_link_is_replaced_and_its_target_untouched() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("target"), "precious").expect("written");
    std::os::unix::fs::symlink("target", dir.path().join("web.status")).expect("linked");
    let (files, _) = status_files(dir.path(), None);
    files.announce(&name("web"), "status: healthy\n".to_string(), None);
    files.flush();
    assert_eq!(read(dir.path().join("target")), "precious");
    assert!(!dir.path().join("web.status").is_symlink());
}

#[test]
fn where_a_directory_is_in_the_way_the_status_goes_elsewhere_and_that_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let watched = dir.path().join("services.d");
    std::fs::create_dir_all(watched.join("web.status/full")).expect("made");
    let fallback = dir.path().join("state/status");
    let (files, troubles) = status_files(&watched, Some(fallback.clone()));
    files.announce(&name("web"), "status: healthy\n".to_string(), None);
    files.flush();
    assert_eq!(read(fallback.join("web.status")), "status: healthy\n");
    let (who, what) = troubles.recv().expect("said");
    assert_eq!(who.as_deref(), Some("web"));
    assert!(what.expect("a message").contains("a directory of that name is in the way"));
    std::fs::remove_dir_all(watched.join("web.status")).expect("removed");
    let (_, what) = troubles.recv_timeout(Duration::from_secs(10)).expect("tried again by itself");
    assert_eq!(what, None);
    assert_eq!(read(watched.join("web.status")), "status: healthy\n");
}

#[test]
fn a_directory_that_cannot_be_written_sends_all_statuses_to_the_state_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let fallback = dir.path().join("status");
    // Nothing can be made in /proc: what a read-only mount is for root.
    let (files, troubles) = status_files(Path::new("/proc/self"), Some(fallback.clone()));
    assert_eq!(files.place(), fallback);
    files.announce(&name("web"), "status: healthy\n".to_string(), None);
    files.flush();
    assert_eq!(read(fallback.join("web.status")), "status: healthy\n");
    assert!(troubles.try_recv().is_err(), "that was said once, at the start");
}

#[test]
fn while_the_path_is_lost_statuses_go_on_in_the_old_directory() {
    let dir = tempfile::tempdir().expect("a folder");
    let watched = dir.path().join("services.d");
    std::fs::create_dir(&watched).expect("made");
    let (files, _) = status_files(&watched, None);
    std::fs::rename(&watched, dir.path().join("moved")).expect("moved");
    std::fs::create_dir(&watched).expect("made");
    files.announce(&name("web"), "status: healthy\n".to_string(), None);
    files.flush();
    assert!(dir.path().join("moved/web.status").exists() && !watched.join("web.status").exists());
    files.reopen();
    files.announce(&name("web"), "status: healthy\n".to_string(), None);
    files.flush();
    assert!(watched.join("web.status").exists());
}

fn who(root: &Path, uid: u32) -> Who {
    Who { uid, state_home: Some(root.join("home")), runtime_dir: None, root: root.to_path_buf() }
}

#[test]
fn the_places_are_the_first_that_can_be_written_and_flags_move_them() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("services.d");
    std::fs::create_dir(&dir).expect("made");
    std::fs::create_dir(root.path().join("tmp")).expect("made");
    let uid = rustix::process::geteuid().as_raw();
    let mine = Places::choose(&dir, &Settings::default(), &who(root.path(), uid));
    let key = places::key(&dir);
    assert!(key.starts_with("services.d-") && key.len() == "services.d-".len() + 6, "{key}");
    let expected = if uid == 0 { root.path().join("var/lib/plugd") } else { root.path().join("home/plugd") };
    assert_eq!(mine.state, Some(expected.join(&key)));
    assert_eq!(mine.warnings, Vec::<String>::new());
    let settings = Settings { state_dir: Some(root.path().join("one")), ..Settings::default() };
    let one = Places::choose(&dir, &settings, &who(root.path(), uid));
    assert_eq!(one.database(), Some(root.path().join("one/state.db")));
    assert_eq!((one.logs, one.run), (Some(root.path().join("one/logs")), Some(root.path().join("one/run"))));
    let settings = Settings { state_dir: Some("/proc/nowhere".into()), ..Settings::default() };
    let none = Places::choose(&dir, &settings, &who(root.path(), uid));
    assert_eq!((none.state, none.run, none.warnings.len()), (None, None, 3));
}

#[tokio::test]
async fn a_client_finds_the_controller_of_a_directory_by_its_status_file_and_by_the_usual_places() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("services.d");
    std::fs::create_dir(&dir).expect("made");
    let uid = rustix::process::geteuid().as_raw();
    let me = who(root.path(), uid);
    assert!(places::find(Some(&dir), None, None, &me, &|_, _| Ok(None)).is_err());
    let run = Places::choose(&dir, &Settings::default(), &me).run.expect("a place");
    let usual = plugd::api::socket::bind(&run.join(places::SOCKET)).expect("bound");
    assert_eq!(
        places::find(Some(&dir), None, None, &me, &|_, _| Ok(None)).expect("found").socket,
        run.join(places::SOCKET)
    );
    // A path that is too long for a socket address, and the status file that names it.
    let deep = root.path().join("x".repeat(120));
    std::fs::create_dir(&deep).expect("made");
    let socket = deep.join(places::SOCKET);
    let _far = plugd::api::socket::bind(&socket).expect("bound");
    let text = format!("node: x\nplaces: {{state: /s, socket: \"{}\"}}\n", socket.display());
    std::fs::write(dir.join("_controller.status"), text).expect("written");
    assert_eq!(places::find(Some(&dir), None, None, &me, &|_, _| Ok(None)).expect("found").socket, socket);
    drop(usual);
}

#[test]
fn what_somebody_else_made_in_a_shared_place_is_neither_entered_nor_changed() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("services.d");
    std::fs::create_dir(&dir).expect("made");
    for shared in ["tmp", "dev/shm"] {
        std::fs::create_dir_all(root.path().join(shared)).expect("made");
    }
    let planted = root.path().join("tmp/plugd-4321");
    std::fs::create_dir(&planted).expect("made");
    if std::os::unix::fs::chown(&planted, Some(5555), Some(5555)).is_err() {
        return; // only root can give a directory away
    }
    let places = Places::choose(&dir, &Settings::default(), &who(root.path(), 4321));
    let expected = root.path().join("dev/shm/plugd-4321").join(&places.key);
    assert_eq!(places.run, Some(expected));
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(&planted).expect("there").uid(), 5555);
}
