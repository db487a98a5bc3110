//! The directory edge with real files and real inotify.
//!
//! What must happen is waited for with a deadline; what must not happen is proved by a later event:
//! a sentinel file is dropped, and nothing else may have been said before its declaration arrives.
#![expect(clippy::disallowed_methods, reason = "a test of the edge touches the world")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugd::controller::{Declaration, Input, Rejection, Resolved};
use plugd::edge::directory::{Config, Directory, load};
use plugd::edge::store::Store;
use plugd::model::reason::Reason;
use plugd::model::settings::Settings;
use plugd::model::view::FileProblem;
use tokio::sync::mpsc;

/// Longer than anything here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    root: tempfile::TempDir,
    inputs: mpsc::Receiver<Input>,
    directory: Directory,
    runtime: tokio::runtime::Runtime,
    sentinels: usize,
}

impl World {
    /// A directory that is watched, with what `prepare` put into it already declared or not.
    fn with(prepare: impl FnOnce(&Path)) -> World {
        World::start(Store::none(), prepare)
    }

    fn start(store: Store, prepare: impl FnOnce(&Path)) -> World {
        let root = tempfile::tempdir().expect("a temporary folder");
        let dir = root.path().join("services.d");
        fs::create_dir(&dir).expect("made");
        prepare(&dir);
        World::on(root, store)
    }

    fn on(root: tempfile::TempDir, store: Store) -> World {
        let (to, inputs) = mpsc::channel(1024);
        let config = Config {
            dir: root.path().join("services.d"),
            settings: Settings::default(),
            settings_text: None,
            store,
            run: Some(root.path().join("run")),
            on_settings: None,
            before: None,
            named: Default::default(),
            on_accepted: None,
            on_status: None,
            on_tick: None,
        };
        let directory = Directory::start(config, to).expect("started");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        World { root, inputs, directory, runtime, sentinels: 0 }
    }

    /// An empty directory, scanned.
    fn empty() -> World {
        let mut world = World::with(|_| {});
        assert!(world.until_scanned().is_empty());
        world
    }

    /// One service `web`, declared and scanned.
    fn with_web() -> World {
        let mut world = World::with(|dir| fs::write(dir.join("web.yaml"), "command: one\n").expect("written"));
        assert_eq!(names(&world.until_scanned()), ["web"]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("services.d").join(name)
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Written elsewhere and renamed in: complete at birth.
    fn drop_in(&self, name: &str, text: &str) {
        let made = self.outside(&format!("made-{}", name.replace('/', "-")));
        fs::write(&made, text).expect("written");
        fs::rename(made, self.path(name)).expect("renamed");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn script(&self, name: &str, text: &str) {
        let made = self.outside("made-script");
        fs::write(&made, text).expect("written");
        fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).expect("made executable");
        fs::rename(made, self.path(name)).expect("renamed");
    }

    fn next(&mut self) -> Input {
        let next = async { tokio::time::timeout(DEADLINE, self.inputs.recv()).await };
        self.runtime.block_on(next).expect("an input before the deadline").expect("the thread lives")
    }

    /// The next input that is not a list of file problems.
    fn news(&mut self) -> Input {
        loop {
            match self.next() {
                Input::FileProblems(_) => {}
                input => return input,
            }
        }
    }

    fn until_scanned(&mut self) -> Vec<Input> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Input::Scanned => return before,
                input => before.push(input),
            }
        }
    }

    fn declared(&mut self) -> Declaration {
        match self.news() {
            Input::Declared(declaration) => declaration,
            other => panic!("not declared: {other:?}"),
        }
    }

    /// What an edit has come to. One that took longer than a file may be away, on a machine that is busy, may have been
    /// seen in its middle.
    fn edited(&mut self, took: Duration, is_last: impl Fn(&Declaration) -> bool) -> Declaration {
        loop {
            match self.news() {
                Input::Declared(declaration) if is_last(&declaration) => return declaration,
                other => assert!(took >= AWAY_MAX, "after {took:?}: {other:?}"),
            }
        }
    }

    fn rejected(&mut self) -> Rejection {
        match self.news() {
            Input::Rejected(rejection) => rejection,
            other => panic!("not rejected: {other:?}"),
        }
    }

    fn withdrawn(&mut self) -> String {
        match self.news() {
            Input::Withdrawn(name) => name.to_string(),
            other => panic!("not withdrawn: {other:?}"),
        }
    }

    fn problems(&mut self) -> Vec<FileProblem> {
        match self.next() {
            Input::FileProblems(problems) => problems,
            other => panic!("no problems: {other:?}"),
        }
    }

    /// Nothing was said since the last input: a sentinel that is dropped now is the next to be heard.
    /// `settled` is the longest time that a wrong reaction could take to show.
    fn silent_for(&mut self, settled: Duration) {
        let until = Instant::now() + settled;
        loop {
            self.sentinels += 1;
            let name = format!("sentinel-{}", self.sentinels);
            self.drop_in(&format!("{name}.yaml"), "command: sentinel\n");
            match self.next() {
                Input::Declared(declaration) if declaration.spec.name.as_str() == name => {}
                other => panic!("something was said: {other:?}"),
            }
            if Instant::now() >= until {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn names(inputs: &[Input]) -> Vec<String> {
    let name = |input: &Input| match input {
        Input::Declared(declaration) => Some(declaration.spec.name.to_string()),
        _ => None,
    };
    inputs.iter().filter_map(name).collect()
}

fn missing(declaration: &Declaration) -> Reason {
    match &declaration.program {
        Resolved::Missing { reason, .. } => *reason,
        found => panic!("found: {found:?}"),
    }
}

fn program(declaration: &Declaration) -> String {
    format!("{:?}", declaration.spec.process.program)
}

const SETTLED: Duration = Duration::from_millis(400);
/// The shortest of the times that the directory gives an edit between two of its steps.
const AWAY_MAX: Duration = Duration::from_millis(10);

#[test]
fn a_manifest_that_is_renamed_in_is_declared_within_milliseconds() {
    let mut world = World::empty();
    let mut best = Duration::MAX;
    for n in 0..20 {
        let made = world.outside("made");
        fs::write(&made, "command: one\n").expect("written");
        let to = world.path(&format!("x{n}.yaml"));
        let start = Instant::now();
        fs::rename(made, to).expect("renamed");
        let declaration = world.declared();
        best = best.min(start.elapsed());
        assert_eq!(declaration.source.file, format!("x{n}.yaml"));
        assert_eq!(declaration.source.sha256.len(), 16);
    }
    assert!(best < Duration::from_millis(10), "{best:?}");
    println!("best: {best:?}");
}

#[test]
fn a_manifest_kept_open_by_its_writer_is_nothing_until_the_close() {
    let mut world = World::empty();
    let mut file = fs::File::create(world.path("slow.yaml")).expect("made");
    file.write_all(b"command: one").expect("written");
    world.silent_for(SETTLED);
    file.write_all(b" two\n").expect("written");
    drop(file);
    assert!(program(&world.declared()).contains("two"));
    world.silent_for(SETTLED);
}

#[test]
fn a_file_held_open_for_two_seconds_is_named_with_its_writer() {
    let mut world = World::empty();
    let mut file = fs::File::create(world.path("slow.yaml")).expect("made");
    file.write_all(b"command: one\n").expect("written");
    let problems = world.problems();
    assert_eq!(problems[0].reason, Reason::StillWriting);
    assert!(problems[0].message.contains(&format!("by pid {}", std::process::id())), "{}", problems[0].message);
    drop(file);
    assert_eq!(world.declared().spec.name.as_str(), "slow");
}

#[test]
fn the_same_bytes_a_touch_and_a_chmod_are_no_news() {
    let mut world = World::with_web();
    world.write("web.yaml", "command: one\n");
    world.silent_for(SETTLED);
    world.drop_in("web.yaml", "command: one\n");
    world.silent_for(SETTLED);
    fs::set_permissions(world.path("web.yaml"), fs::Permissions::from_mode(0o600)).expect("chmod");
    world.silent_for(SETTLED);
}

/// What each editor or tool does to a file, as strace shows it.
#[test]
fn every_way_to_edit_is_exactly_one_change() {
    type Edit = fn(&World, &str);
    let edits: [(&str, Edit); 9] = [
        ("cat >", |world, text| world.write("web.yaml", text)),
        ("mv", |world, text| world.drop_in("web.yaml", text)),
        ("cp", |world, text| {
            let mut file =
                fs::OpenOptions::new().write(true).truncate(true).open(world.path("web.yaml")).expect("open");
            file.write_all(text.as_bytes()).expect("written");
        }),
        ("cp --remove-destination, git", |world, text| {
            fs::remove_file(world.path("web.yaml")).expect("unlinked");
            world.write("web.yaml", text);
        }),
        ("sed -i", |world, text| {
            world.write("sedAbC123", text);
            fs::rename(world.path("sedAbC123"), world.path("web.yaml")).expect("renamed");
        }),
        ("vim", |world, text| {
            world.write("4913", "");
            fs::remove_file(world.path("4913")).expect("unlinked");
            fs::rename(world.path("web.yaml"), world.path("web.yaml~")).expect("renamed");
            world.write("web.yaml", text);
            fs::remove_file(world.path("web.yaml~")).expect("unlinked");
        }),
        ("vim with a swap file", |world, text| {
            world.write(".web.yaml.swp", "x");
            world.write("web.yaml", text);
            fs::remove_file(world.path(".web.yaml.swp")).expect("unlinked");
        }),
        ("nano", |world, text| {
            let mut file = fs::File::create(world.path("web.yaml")).expect("open");
            for line in text.split_inclusive(' ') {
                file.write_all(line.as_bytes()).expect("written");
            }
        }),
        ("two opens", |world, text| {
            world.write("web.yaml", "command: half\n");
            world.write("web.yaml", text);
        }),
    ];
    let mut world = World::with_web();
    for (n, (tool, edit)) in edits.into_iter().enumerate() {
        println!("{tool}");
        let begun = Instant::now();
        edit(&world, &format!("command: edited {n}\n"));
        let took = begun.elapsed();
        world.edited(took, |declaration| program(declaration).contains(&format!("\"{n}\"")));
        world.silent_for(Duration::from_millis(150));
    }
}

#[test]
fn an_invalid_edit_is_rejected_once_and_mended_by_the_old_bytes() {
    let mut world = World::with_web();
    world.write("web.yaml", "garbage\n");
    let rejection = world.rejected();
    assert_eq!((rejection.name.as_str(), rejection.reason), ("web", Reason::ConfigInvalid));
    assert!(rejection.message.starts_with("web.yaml:1:"), "{}", rejection.message);
    world.silent_for(SETTLED);
    world.write("web.yaml", "command: one\n");
    assert_eq!(world.declared().spec.name.as_str(), "web");
}

/// A new thread on the same directory and database, and what it says until it has scanned.
fn restarted(world: World) -> (World, Vec<Input>) {
    let World { root, directory, .. } = world;
    drop(directory);
    let store = Store::open(&root.path().join("state.db"));
    let mut world = World::on(root, store);
    let said = world.until_scanned();
    (world, said)
}

/// One service `web`, declared and remembered.
fn remembered_web(text: &str) -> World {
    let root = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(root.path().join("services.d")).expect("made");
    fs::write(root.path().join("services.d/web.yaml"), text).expect("written");
    let store = Store::open(&root.path().join("state.db"));
    let mut world = World::on(root, store.clone());
    assert_eq!(names(&world.until_scanned()), ["web"]);
    store.close();
    world
}

#[test]
fn the_last_good_version_is_declared_again_by_the_next_thread_before_the_refusal() {
    let world = remembered_web("command: one\n");
    let good = world.path("web.yaml");
    let sha = load(good.parent().expect("a folder"), &Settings::default(), Store::none()).expect("loaded");
    let sha = sha.declarations[0].source.sha256.clone();
    for bad in ["garbage\n", "", "command: one\nprot: 80\n"] {
        world.write("web.yaml", bad);
    }
    let (world, said) = restarted(world);
    match &said[..] {
        [Input::Declared(good), Input::Rejected(bad)] => {
            assert_eq!((program(good).as_str(), &good.source.sha256), ("Command([\"one\"])", &sha));
            assert_eq!(bad.reason, Reason::ConfigInvalid);
            assert_ne!(bad.source.sha256, sha);
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(world.path("web.yaml")).expect("removed");
    fs::create_dir(world.path("web.yaml")).expect("made");
    let (_world, said) = restarted(world);
    assert_eq!(said.iter().filter(|input| matches!(input, Input::Declared(_))).count(), 1, "{said:?}");
}

#[test]
fn a_file_that_went_while_nobody_looked_takes_its_last_good_version_along() {
    let world = remembered_web("command: one\n");
    fs::remove_file(world.path("web.yaml")).expect("removed");
    let (world, said) = restarted(world);
    assert!(said.is_empty(), "{said:?}");
    // Its thread has told the database, which writes what it was told when it is closed.
    let store = Store::open(&world.outside("state.db"));
    let deadline = std::time::Instant::now() + DEADLINE;
    while !Store::open(&world.outside("state.db")).take_accepted().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the text is kept for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    store.close();
    world.write("web.yaml", "garbage\n");
    let (_world, said) = restarted(world);
    assert!(matches!(&said[..], [Input::Rejected(_)]), "{said:?}");
}

#[test]
fn the_last_good_version_of_a_script_is_the_head_it_had() {
    let root = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(root.path().join("services.d")).expect("made");
    let store = Store::open(&root.path().join("state.db"));
    let mut world = World::on(root, store.clone());
    assert!(world.until_scanned().is_empty());
    world.script("web.sh", "#!/bin/sh\n# plugd: port: 8080\nexec sleep 9\n");
    assert_eq!(world.declared().spec.process.port, Some(8080));
    store.close();
    world.script("web.sh", "#!/bin/sh\n# plugd: prot: 8080\nexec sleep 9\n");
    let (_world, said) = restarted(world);
    match &said[..] {
        [Input::Declared(good), Input::Rejected(_)] => assert_eq!(good.spec.process.port, Some(8080)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrapper_edited_under_a_refused_manifest_is_told() {
    let mut world = World::empty();
    world.script("run.sh", "#!/bin/sh\nexec sleep 1\n");
    world.drop_in("web.yaml", "wrapper: run.sh\n");
    while world.declared().spec.name.as_str() != "web" {}
    world.write("web.yaml", "garbage\n");
    world.rejected();
    world.script("run.sh", "#!/bin/sh\nexec sleep 2\n");
    assert_eq!(world.declared().spec.name.as_str(), "web");
    assert_eq!(world.rejected().name.as_str(), "web");
}

#[test]
fn a_script_that_stays_down_or_is_none_is_told_and_taken_back() {
    let mut world = World::empty();
    world.drop_in("lib.sh", "helper() { :; }\n");
    let told = world.problems();
    assert_eq!((told[0].file.as_str(), told[0].reason), ("lib.sh", Reason::ExecFormat));
    world.script("lib.sh", "#!/bin/sh\nexec sleep 9\n");
    assert_eq!(world.declared().spec.name.as_str(), "lib");
    assert!(world.problems().is_empty());

    world.drop_in("lib.yaml", "wrapper: lib.sh\n");
    assert_eq!(world.declared().source.file, "lib.yaml");
    fs::remove_file(world.path("lib.yaml")).expect("removed");
    assert_eq!(world.withdrawn(), "lib");
    let told = world.problems();
    assert_eq!((told[0].file.as_str(), told[0].reason), ("lib.sh", Reason::Withdrawn));
    world.script("lib.sh", "#!/bin/sh\nexec sleep 8\n");
    assert_eq!(world.declared().spec.name.as_str(), "lib");
    assert!(world.problems().is_empty());
}

#[test]
fn nothing_is_quoted_of_a_file_outside_that_others_may_not_read() {
    let mut world = World::empty();
    let secret = world.outside("shadow");
    fs::write(&secret, "root:$6$hunter2:19000:0:99999:7:::\nnobody: [x\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("chmod");
    symlink(&secret, world.path("web.yaml")).expect("linked");
    let rejection = world.rejected();
    if !rustix::process::geteuid().is_root() {
        return; // what is ours may be told to us
    }
    assert!(!rejection.message.contains("hunter2") && !rejection.message.contains("root"), "{}", rejection.message);
    assert!(rejection.message.starts_with("web.yaml:2:"), "{}", rejection.message);
    assert!(rejection.message.contains(&secret.display().to_string()), "{}", rejection.message);
    let loaded = load(&world.outside("services.d"), &Settings::default(), Store::none()).expect("loaded");
    assert!(loaded.invalid[0].sources.is_empty());
}

#[test]
fn a_drop_in_that_takes_no_part_is_told_with_the_service() {
    let mut world = World::empty();
    let drop_in = world.path("web.yaml.d/10.yaml");
    fs::create_dir(drop_in.parent().expect("a folder")).expect("made");
    fs::create_dir(&drop_in).expect("made");
    world.drop_in("web.yaml", "command: one\n");
    let declaration = world.declared();
    let told = declaration.problems.iter().find(|(reason, _)| *reason == Reason::NotARegularFile);
    assert!(told.is_some_and(|(_, message)| message.contains("web.yaml.d/10.yaml")), "{:?}", declaration.problems);
}

#[test]
fn a_file_truncated_to_nothing_is_invalid_and_not_deleted() {
    let mut world = World::with_web();
    world.write("web.yaml", "");
    assert_eq!(world.rejected().name.as_str(), "web");
    world.silent_for(SETTLED);
}

#[test]
fn an_unlinked_manifest_is_withdrawn_within_milliseconds() {
    let mut world = World::with_web();
    let start = Instant::now();
    fs::remove_file(world.path("web.yaml")).expect("unlinked");
    assert_eq!(world.withdrawn(), "web");
    assert!(start.elapsed() >= Duration::from_millis(10));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn all_manifests_removed_by_hand_are_withdrawn_at_once() {
    let mut world = World::with(|dir| {
        for name in ["a", "b", "c"] {
            fs::write(dir.join(format!("{name}.yaml")), "command: one\n").expect("written");
        }
    });
    assert_eq!(names(&world.until_scanned()), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        fs::remove_file(world.path(&format!("{name}.yaml"))).expect("unlinked");
    }
    let mut gone = [world.withdrawn(), world.withdrawn(), world.withdrawn()];
    gone.sort();
    assert_eq!(gone, ["a", "b", "c"]);
}

#[test]
fn renaming_a_manifest_that_keeps_its_name_only_moves_the_source() {
    let mut world = World::with(|dir| fs::write(dir.join("a.yaml"), "name: web\ncommand: one\n").expect("written"));
    assert_eq!(names(&world.until_scanned()), ["web"]);
    fs::rename(world.path("a.yaml"), world.path("b.yaml")).expect("renamed");
    let declaration = world.declared();
    assert_eq!((declaration.spec.name.as_str(), declaration.source.file.as_str()), ("web", "b.yaml"));
    assert!(declaration.problems.is_empty(), "{:?}", declaration.problems);
    world.silent_for(SETTLED);
}

#[test]
fn an_executable_whose_name_cannot_be_a_services_is_told() {
    let mut world = World::with(|dir| {
        for (file, mode) in [("my server.sh", 0o755), ("just notes", 0o644)] {
            fs::write(dir.join(file), "#!/bin/sh\nexec sleep 100\n").expect("written");
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).expect("chmod");
        }
    });
    let before = world.until_scanned();
    let problems = before.iter().rev().find_map(|input| match input {
        Input::FileProblems(problems) => Some(problems.clone()),
        _ => None,
    });
    let problems = problems.expect("told");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].file.as_str(), problems[0].reason), ("my server.sh", Reason::NameInvalid));
    assert!(problems[0].message.contains("try \"my-server\""), "{problems:?}");
}

#[test]
fn the_litter_of_editors_is_ignored() {
    let mut world = World::with(|dir| {
        let litter = ["x.yaml~", ".x.yaml.swp", "4913", "#x#", "x.yaml.bak", "x.yaml.orig", "sedAbC123", "x.status"];
        for name in litter {
            fs::write(dir.join(name), "command: one\n").expect("written");
        }
    });
    assert!(world.until_scanned().is_empty());
}

#[test]
fn status_files_wake_nobody() {
    let mut world = World::with_web();
    for n in 0..50 {
        world.write("made.status", &n.to_string());
        fs::rename(world.path("made.status"), world.path("web.status")).expect("renamed");
    }
    world.silent_for(SETTLED);
}

#[test]
fn the_first_owner_of_a_name_keeps_it_and_the_second_takes_over_when_it_goes() {
    let mut world = World::with(|dir| fs::write(dir.join("b.yaml"), "name: web\ncommand: one\n").expect("written"));
    assert_eq!(names(&world.until_scanned()), ["web"]);
    world.drop_in("a.yaml", "name: web\ncommand: two\n");
    let owner = world.declared();
    assert_eq!(owner.source.file, "b.yaml");
    assert_eq!(owner.problems[0].0, Reason::NameConflict);
    let problems = world.problems();
    assert_eq!((problems[0].file.as_str(), problems[0].reason), ("a.yaml", Reason::NameConflict));
    assert!(problems[0].message.contains("a.yaml") && problems[0].message.contains("b.yaml"));
    fs::remove_file(world.path("b.yaml")).expect("unlinked");
    let second = world.declared();
    assert_eq!((second.source.file.as_str(), second.problems.len()), ("a.yaml", 0));
    assert!(world.problems().is_empty());
}

#[test]
fn the_recorded_owner_has_the_name_after_a_restart() {
    let root = tempfile::tempdir().expect("a folder");
    let store = Store::open(&root.path().join("state.db"));
    store.owner(plugd::model::name::Name::parse("web").expect("valid"), "b.yaml".into());
    store.close();
    let mut world = World::start(Store::open(&root.path().join("state.db")), |dir| {
        fs::write(dir.join("a.yaml"), "name: web\ncommand: one\n").expect("written");
        fs::write(dir.join("b.yaml"), "name: web\ncommand: two\n").expect("written");
    });
    let first = world.until_scanned();
    let owner = first.iter().find_map(|input| match input {
        Input::Declared(declaration) => Some(declaration.source.file.clone()),
        _ => None,
    });
    assert_eq!(owner.as_deref(), Some("b.yaml"), "{first:?}");
}

#[test]
fn what_is_no_regular_file_or_too_large_is_not_opened_and_stands_among_the_problems() {
    let mut world = World::with(|dir| {
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("fifo.yaml"), rustix::fs::Mode::RUSR).expect("a fifo");
        let sparse = fs::File::create(dir.join("huge.yaml")).expect("made");
        sparse.set_len(10 << 30).expect("sparse");
        symlink("/dev/zero", dir.join("zero.yaml")).expect("linked");
        fs::create_dir(dir.join("folder.yaml")).expect("made");
        symlink("nowhere.yaml", dir.join("loop.yaml")).expect("linked");
    });
    let before = world.until_scanned();
    let problems = before.iter().rev().find_map(|input| match input {
        Input::FileProblems(problems) => Some(problems.clone()),
        _ => None,
    });
    let problems: Vec<(String, Reason)> =
        problems.expect("told").into_iter().map(|problem| (problem.file, problem.reason)).collect();
    assert_eq!(
        problems,
        [
            ("fifo.yaml".to_string(), Reason::NotARegularFile),
            ("folder.yaml".to_string(), Reason::NotARegularFile),
            ("huge.yaml".to_string(), Reason::TooLarge),
            ("zero.yaml".to_string(), Reason::NotARegularFile),
        ]
    );
    let dangling = before.iter().any(
        |input| matches!(input, Input::Rejected(rejection) if rejection.name.as_str() == "loop" && rejection.reason == Reason::Unreadable),
    );
    assert!(dangling, "{before:?}");
}

#[test]
fn a_link_that_dangles_is_not_a_delete() {
    let mut world = World::with(|_| {});
    world.until_scanned();
    let target = world.outside("target.yaml");
    fs::write(&target, "command: one\n").expect("written");
    symlink(&target, world.path("web.yaml")).expect("linked");
    assert_eq!(world.declared().spec.name.as_str(), "web");
    fs::remove_file(&target).expect("unlinked");
    assert_eq!(world.rejected().reason, Reason::Unreadable);
    world.silent_for(SETTLED);
}

#[test]
fn the_target_of_a_link_is_watched() {
    let mut world = World::empty();
    let elsewhere = world.outside("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::write(elsewhere.join("real.yaml"), "command: one\n").expect("written");
    symlink(elsewhere.join("real.yaml"), world.path("web.yaml")).expect("linked");
    assert!(program(&world.declared()).contains("one"));
    fs::write(elsewhere.join("real.yaml"), "command: two\n").expect("written");
    assert!(program(&world.declared()).contains("two"));
}

#[test]
fn a_configmap_swap_touches_only_the_data_link_and_is_seen() {
    let mut world = World::with(|dir| {
        fs::create_dir(dir.join("..v1")).expect("made");
        fs::write(dir.join("..v1/web.yaml"), "command: one\n").expect("written");
        symlink("..v1", dir.join("..data")).expect("linked");
        symlink("..data/web.yaml", dir.join("web.yaml")).expect("linked");
    });
    assert_eq!(names(&world.until_scanned()), ["web"]);
    fs::create_dir(world.path("..v2")).expect("made");
    world.write("..v2/web.yaml", "command: two\n");
    symlink("..v2", world.path("..data_tmp")).expect("linked");
    fs::rename(world.path("..data_tmp"), world.path("..data")).expect("swapped");
    fs::remove_dir_all(world.path("..v1")).expect("removed");
    assert!(program(&world.declared()).contains("two"));
    world.silent_for(SETTLED);
}

#[test]
fn a_directory_that_is_moved_away_is_lost_and_found_again() {
    let mut world = World::with_web();
    fs::rename(world.path(""), world.outside("away")).expect("moved");
    assert!(matches!(world.news(), Input::DirectoryLost(_)));
    fs::rename(world.outside("away"), world.path("")).expect("moved back");
    assert!(matches!(world.news(), Input::DirectoryFound));
    world.silent_for(SETTLED);
}

#[test]
fn an_empty_directory_in_its_place_is_held_until_a_manifest_appears() {
    let mut world = World::with_web();
    fs::rename(world.path(""), world.outside("away")).expect("moved");
    assert!(matches!(world.news(), Input::DirectoryLost(_)));
    fs::create_dir(world.path("")).expect("made");
    match world.news() {
        Input::DirectoryLost(why) => assert!(why.contains("no manifest"), "{why}"),
        other => panic!("{other:?}"),
    }
    world.drop_in("other.yaml", "command: one\n");
    // Only the poll sees it: nothing of what covers the path is watched.
    assert!(matches!(world.news(), Input::DirectoryFound));
    assert_eq!(world.declared().spec.name.as_str(), "other");
    assert_eq!(world.withdrawn(), "web");
}

#[test]
fn a_replaced_directory_with_manifests_is_an_ordinary_change() {
    let mut world = World::with(|_| {});
    world.until_scanned();
    drop(world);
    let root = tempfile::tempdir().expect("a folder");
    for (release, text) in [("v1", "command: one\n"), ("v2", "command: two\n")] {
        fs::create_dir(root.path().join(release)).expect("made");
        fs::write(root.path().join(release).join("web.yaml"), text).expect("written");
    }
    fs::write(root.path().join("v1/old.yaml"), "command: old\n").expect("written");
    symlink("v1", root.path().join("services.d")).expect("linked");
    let mut world = World::on(root, Store::none());
    assert_eq!(names(&world.until_scanned()), ["old", "web"]);
    symlink("v2", world.outside("next")).expect("linked");
    fs::rename(world.outside("next"), world.outside("services.d")).expect("swapped");
    assert!(program(&world.declared()).contains("two"));
    assert_eq!(world.withdrawn(), "old");
}

#[test]
fn a_lost_directory_is_let_go_when_a_person_says_so() {
    let mut world = World::with_web();
    fs::rename(world.path(""), world.outside("away")).expect("moved");
    assert!(matches!(world.news(), Input::DirectoryLost(_)));
    world.directory.confirm_missing();
    assert_eq!(world.withdrawn(), "web");
}

#[test]
fn a_wrapper_that_is_missing_is_told_with_the_places_and_found_when_it_appears() {
    let mut world = World::empty();
    fs::create_dir(world.path("wrappers")).expect("made");
    world.drop_in("files.yaml", "wrapper: files-server.sh\n");
    match world.declared().program {
        Resolved::Missing { reason, message, tried } => {
            assert_eq!(reason, Reason::WrapperNotFound);
            assert_eq!(message, "wrapper files-server.sh is in none of the 2 places tried");
            assert_eq!(tried, ["services.d/files-server.sh", "services.d/wrappers/files-server.sh"]);
        }
        found => panic!("{found:?}"),
    }
    world.script("wrappers/files-server.sh", "#!/bin/sh\n");
    let Resolved::Found { wrapper, content } = world.declared().program else { panic!("not found") };
    assert_eq!(wrapper, Some(world.path("wrappers/files-server.sh")));
    world.script("wrappers/files-server.sh", "#!/bin/sh\n# changed\n");
    let Resolved::Found { content: changed, .. } = world.declared().program else { panic!("not found") };
    assert_ne!(content, changed);
    fs::remove_file(world.path("wrappers/files-server.sh")).expect("unlinked");
    assert_eq!(missing(&world.declared()), Reason::WrapperNotFound);
}

#[test]
fn a_wrapper_is_found_though_its_directory_is_made_later() {
    let mut world = World::empty();
    let place = world.outside("opt/tools/run.sh");
    world.drop_in("web.yaml", &format!("wrapper: {}\n", place.display()));
    assert_eq!(missing(&world.declared()), Reason::WrapperNotFound);
    fs::create_dir_all(place.parent().expect("nested")).expect("made");
    fs::write(world.outside("made"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(world.outside("made"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::rename(world.outside("made"), &place).expect("renamed");
    assert!(matches!(world.declared().program, Resolved::Found { .. }));
}

#[test]
fn a_wrappers_folder_that_is_made_later_is_searched() {
    let mut world = World::empty();
    world.drop_in("web.yaml", "wrapper: run-web.sh\n");
    assert_eq!(missing(&world.declared()), Reason::WrapperNotFound);
    fs::create_dir(world.path("wrappers")).expect("made");
    world.silent_for(Duration::from_millis(50));
    world.script("wrappers/run-web.sh", "#!/bin/sh\n");
    assert!(matches!(world.declared().program, Resolved::Found { .. }));
}

#[test]
fn a_wrapper_that_cannot_run_says_why_and_what_helps() {
    let mut world = World::empty();
    for (text, mode, reason, part) in [
        ("#!/bin/sh\n", 0o644, Reason::NotExecutable, "chmod +x"),
        ("#!/no/such/sh\n", 0o755, Reason::BadInterpreter, "/no/such/sh"),
        ("#!/bin/sh\r\n", 0o755, Reason::BadInterpreter, "DOS line ends"),
        ("#!/bin/sh\n", 0o777, Reason::UntrustedFile, "chmod o-w"),
    ] {
        let program = world.outside("program");
        fs::write(&program, text).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("chmod");
        world.drop_in("web.yaml", &format!("wrapper: {}\n# {mode:o}\n", program.display()));
        match world.declared().program {
            Resolved::Missing { reason: said, message, .. } => {
                assert_eq!(said, reason, "{message}");
                assert!(message.contains(part), "{message}");
            }
            // In a container a world-writable file is a warning.
            Resolved::Found { .. } => assert_eq!(reason, Reason::UntrustedFile),
        }
        fs::remove_file(world.path("web.yaml")).expect("unlinked");
        assert_eq!(world.withdrawn(), "web");
    }
}

#[test]
fn an_env_file_is_part_of_the_content() {
    let mut world = World::empty();
    world.drop_in("web.yaml", "command: one\nenvFrom: [web.env]\n");
    let Resolved::Found { content: none, .. } = world.declared().program else { panic!("missing") };
    world.drop_in("web.env", "A=1\n");
    let Resolved::Found { content: one, .. } = world.declared().program else { panic!("missing") };
    world.write("web.env", "A=2\n");
    let Resolved::Found { content: two, .. } = world.declared().program else { panic!("missing") };
    assert!(none != one && one != two);
}

fn content(declaration: &Declaration) -> [u8; 16] {
    match &declaration.program {
        Resolved::Found { content, .. } => content.0,
        missing => panic!("{missing:?}"),
    }
}

/// A service that watches `config/*.toml`, in which `app.toml` lies.
fn watching() -> (World, [u8; 16]) {
    let mut world = World::with(|dir| {
        fs::create_dir(dir.join("config")).expect("made");
        fs::write(dir.join("config/app.toml"), "a = 1").expect("written");
        fs::write(dir.join("web.yaml"), "command: one\nwatchFiles: [config/*.toml]\n").expect("written");
    });
    let first = world.declared();
    assert!(world.until_scanned().is_empty());
    (world, content(&first))
}

#[test]
fn every_way_to_edit_a_watched_file_is_exactly_one_change() {
    type Edit = fn(&World, &str);
    let edits: [(&str, Edit); 5] = [
        ("cat >", |world, text| world.write("config/app.toml", text)),
        ("mv", |world, text| world.drop_in("config/app.toml", text)),
        ("git", |world, text| {
            fs::remove_file(world.path("config/app.toml")).expect("unlinked");
            world.write("config/app.toml", text);
        }),
        ("vim", |world, text| {
            fs::rename(world.path("config/app.toml"), world.path("config/app.toml~")).expect("renamed");
            world.write("config/app.toml", text);
            fs::remove_file(world.path("config/app.toml~")).expect("unlinked");
        }),
        ("another one", |world, text| world.write(&format!("config/{}.toml", text.len()), text)),
    ];
    let (mut world, mut before) = watching();
    for (n, (tool, edit)) in edits.into_iter().enumerate() {
        println!("{tool}");
        let begun = Instant::now();
        edit(&world, &"x".repeat(n + 10));
        let took = begun.elapsed();
        let after = world.edited(took, |declaration| content(declaration) != before);
        before = content(&after);
        let file = if tool == "another one" { "14.toml" } else { "app.toml" };
        assert_eq!(after.watched.edited, [format!("services.d/config/{file}")], "{tool}");
        world.silent_for(Duration::from_millis(150));
    }
    // What nobody watches is nothing, and what is as it was neither.
    world.write("config/app.json", "{}");
    world.write("config/.app.toml.swp", "x");
    fs::create_dir(world.path("config/dir.toml")).expect("made");
    world.write("config/app.toml", &"x".repeat(13));
    world.silent_for(Duration::from_millis(150));
}

#[test]
fn a_watched_file_that_is_away_changes_nothing_and_is_told_until_it_is_back() {
    let (mut world, before) = watching();
    fs::rename(world.path("config"), world.outside("away")).expect("moved");
    let away = world.declared();
    assert_eq!(content(&away), before);
    let (reason, message) = &away.problems[0];
    assert_eq!(*reason, Reason::WatchFileNotFound);
    assert_eq!(message, "services.d/config/app.toml is away; what runs goes on as if it were not");
    fs::rename(world.outside("away"), world.path("config")).expect("moved back");
    let back = world.declared();
    assert_eq!((content(&back), back.problems.len()), (before, 0));
    // It is heard again.
    world.write("config/app.toml", "a = 2");
    let edited = world.declared();
    assert_ne!(content(&edited), before);
    // Deleted by somebody who may: nobody wrote its name.
    fs::remove_file(world.path("config/app.toml")).expect("removed");
    let deleted = world.declared();
    assert_eq!((content(&deleted), deleted.problems.len()), (content(&edited), 0));
    assert!(deleted.watched.lacks);
}

#[test]
fn a_watched_file_that_somebody_writes_is_nothing_until_the_close() {
    let (mut world, before) = watching();
    let mut writer = fs::File::create(world.path("config/app.toml")).expect("open");
    writer.write_all(b"half").expect("written");
    world.silent_for(Duration::from_millis(150));
    writer.write_all(b" and half").expect("written");
    drop(writer);
    assert_ne!(content(&world.declared()), before);
    let mut new = fs::File::create(world.path("config/new.toml")).expect("open");
    new.write_all(b"half").expect("written");
    world.silent_for(Duration::from_millis(150));
    drop(new);
    world.declared();
    world.silent_for(Duration::from_millis(150));
}

#[test]
fn watched_folders_may_come_later_and_links_may_be_swapped() {
    let mut world = World::empty();
    let outside = world.outside("etc/app");
    let pattern = outside.join("**/*.conf").display().to_string();
    world.drop_in("web.yaml", &format!("command: one\nwatchFiles: ['{pattern}', mount/key]\n"));
    let none = content(&world.declared());
    assert_eq!(none, [0; 16], "missing ones are nothing");
    fs::create_dir_all(outside.join("conf.d/deep")).expect("made");
    world.silent_for(Duration::from_millis(150));
    fs::write(outside.join("conf.d/deep/a.conf"), "a").expect("written");
    let one = content(&world.declared());
    assert_ne!(one, none);

    // As a ConfigMap does it.
    for n in [1, 2] {
        fs::create_dir_all(world.path(&format!("mount/..{n}"))).expect("made");
        fs::write(world.path(&format!("mount/..{n}/key")), format!("{n}")).expect("written");
    }
    std::os::unix::fs::symlink("..1", world.path("mount/..data")).expect("linked");
    std::os::unix::fs::symlink("..data/key", world.path("mount/key")).expect("linked");
    let two = content(&world.declared());
    assert_ne!(two, one);
    std::os::unix::fs::symlink("..2", world.path("mount/..new")).expect("linked");
    fs::rename(world.path("mount/..new"), world.path("mount/..data")).expect("swapped");
    assert_ne!(content(&world.declared()), two);
}

#[test]
fn a_new_look_finds_the_same_content_of_watched_files_also_of_those_that_are_away_or_written() {
    let again = |world: World| {
        let (world, inputs) = restarted(world);
        let declared = inputs.into_iter().find_map(|input| match input {
            Input::Declared(declaration) => Some(declaration),
            _ => None,
        });
        (world, declared.expect("declared"))
    };
    let (world, before) = watching();
    let (world, declared) = again(world);
    assert_eq!(content(&declared), before);
    fs::rename(world.path("config"), world.outside("away")).expect("moved");
    let (world, declared) = again(world);
    assert_eq!((content(&declared), declared.problems[0].0), (before, Reason::WatchFileNotFound));
    fs::rename(world.outside("away"), world.path("config")).expect("moved back");
    let mut writer = fs::File::options().append(true).open(world.path("config/app.toml")).expect("open");
    writer.write_all(b"half").expect("written");
    let (mut world, declared) = again(world);
    assert_eq!((content(&declared), declared.problems.len()), (before, 0));
    drop(writer);
    let after = content(&world.declared());
    assert_ne!(after, before);
    // Other patterns are another question; and whoever begins anew begins with what is there.
    fs::rename(world.path("config"), world.outside("away")).expect("moved");
    assert_eq!(content(&world.declared()), after);
    let run = world.outside("run");
    let world = {
        plugd::edge::noted::forget_all(&run);
        again(world)
    };
    assert_eq!(content(&world.1), [0; 16]);
}

#[test]
fn an_executable_script_is_a_service_by_being_there() {
    let mut world = World::empty();
    world.script("hello.sh", "#!/bin/sh\n");
    let declaration = world.declared();
    assert_eq!((declaration.spec.name.as_str(), declaration.source.file.as_str()), ("hello", "hello.sh"));
    assert!(matches!(declaration.program, Resolved::Found { .. }));
    fs::remove_file(world.path("hello.sh")).expect("unlinked");
    assert_eq!(world.withdrawn(), "hello");
}

#[test]
fn a_script_without_the_x_bit_is_declared_with_the_chmod() {
    let mut world = World::empty();
    world.drop_in("hello.sh", "#!/bin/sh\n");
    let declaration = world.declared();
    assert_eq!(missing(&declaration), Reason::NotExecutable);
    fs::set_permissions(world.path("hello.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    assert!(matches!(world.declared().program, Resolved::Found { .. }));
}

#[test]
fn a_script_and_its_manifest_are_one_start_in_either_order() {
    let mut world = World::empty();
    world.script("one.sh", "#!/bin/sh\n");
    world.drop_in("one.yaml", "wrapper: one.sh\n");
    assert_eq!(world.declared().source.file, "one.yaml");
    world.silent_for(SETTLED);
    world.drop_in("two.yaml", "wrapper: two.sh\n");
    assert_eq!(missing(&world.declared()), Reason::WrapperNotFound);
    world.script("two.sh", "#!/bin/sh\n");
    let second = world.declared();
    assert_eq!(second.source.file, "two.yaml");
    assert!(matches!(second.program, Resolved::Found { .. }));
    world.silent_for(SETTLED);
}

#[test]
fn the_script_of_a_deleted_manifest_stays_down_until_it_is_written_again() {
    let mut world = World::with(|dir| {
        fs::write(dir.join("postgres.sh"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(dir.join("postgres.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(dir.join("postgres.yaml"), "wrapper: postgres.sh\n").expect("written");
    });
    assert_eq!(names(&world.until_scanned()), ["postgres"]);
    fs::remove_file(world.path("postgres.yaml")).expect("unlinked");
    assert_eq!(world.withdrawn(), "postgres");
    assert_eq!(world.problems()[0].reason, Reason::Withdrawn);
    drop(world.directory.rescan());
    world.silent_for(SETTLED);
    world.script("postgres.sh", "#!/bin/sh\n# new\n");
    assert_eq!(world.declared().source.file, "postgres.sh");
}

#[test]
fn defaults_and_drop_ins_reach_the_services_they_are_for() {
    let mut world = World::with(|dir| {
        for name in ["a", "b"] {
            fs::write(dir.join(format!("{name}.yaml")), "command: one\n").expect("written");
        }
    });
    assert_eq!(names(&world.until_scanned()), ["a", "b"]);
    world.drop_in("_defaults.yaml", "labels: {team: x}\n");
    let mut both = [world.declared().spec.name.to_string(), world.declared().spec.name.to_string()];
    both.sort();
    assert_eq!(both, ["a", "b"]);
    fs::create_dir(world.path("a.yaml.d")).expect("made");
    world.drop_in("a.yaml.d/10-more.yaml", "labels: {tier: y}\n");
    assert_eq!(world.declared().spec.name.as_str(), "a");
    world.silent_for(SETTLED);
}

#[test]
fn the_settings_file_is_told_at_the_start_and_at_each_change() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("services.d");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("_plugd.yaml"), "one").expect("written");
    let (said, heard) = std::sync::mpsc::channel();
    let (to, _inputs) = mpsc::channel(64);
    let on_settings = Box::new(move |text: Option<&[u8]>| {
        said.send(text.map(|text| String::from_utf8_lossy(text).into_owned())).expect("heard");
        Ok(())
    });
    let config = Config {
        dir: dir.clone(),
        settings: Settings::default(),
        settings_text: None,
        store: Store::none(),
        run: None,
        on_settings: Some(on_settings),
        before: None,
        named: Default::default(),
        on_accepted: None,
        on_status: None,
        on_tick: None,
    };
    let _directory = Directory::start(config, to).expect("started");
    assert_eq!(heard.recv_timeout(DEADLINE).expect("told").as_deref(), Some("one"));
    fs::write(dir.join("_plugd.yaml"), "two").expect("written");
    assert_eq!(heard.recv_timeout(DEADLINE).expect("told").as_deref(), Some("two"));
    fs::remove_file(dir.join("_plugd.yaml")).expect("unlinked");
    assert_eq!(heard.recv_timeout(DEADLINE).expect("told"), None);
}

#[test]
fn a_third_users_file_is_refused_with_the_command_that_helps() {
    let mut world = World::empty();
    let made = world.outside("made");
    fs::write(&made, "command: one\n").expect("written");
    if std::os::unix::fs::chown(&made, Some(4711), Some(4711)).is_err() {
        return; // only root can make such a file
    }
    fs::rename(made, world.path("web.yaml")).expect("renamed");
    let rejection = world.rejected();
    assert_eq!(rejection.reason, Reason::UntrustedFile);
    assert!(rejection.message.contains("run `chown 0 "), "{}", rejection.message);
    std::os::unix::fs::chown(world.path("web.yaml"), Some(0), Some(0)).expect("chown");
    assert_eq!(world.declared().spec.name.as_str(), "web");
}

#[test]
fn a_thousand_manifests_are_read_at_once_and_an_edit_among_them_is_seen() {
    let mut world = World::with(|dir| {
        for n in 0..1000 {
            fs::write(dir.join(format!("s{n:03}.yaml")), format!("command: run {n}\n")).expect("written");
        }
    });
    let start = Instant::now();
    assert_eq!(names(&world.until_scanned()).len(), 1000);
    println!("scanned in {:?}", start.elapsed());
    world.drop_in("s500.yaml", "command: edited\n");
    assert_eq!(world.declared().spec.name.as_str(), "s500");
    world.silent_for(SETTLED);
}

#[test]
fn a_flood_of_files_ends_in_the_right_state() {
    let mut world = World::empty();
    for n in 0..6000 {
        fs::write(world.path(&format!("f{n}.yaml")), "command: one\n").expect("written");
        fs::remove_file(world.path(&format!("f{n}.yaml"))).expect("unlinked");
    }
    world.write("last.yaml", "command: one\n");
    let mut alive = std::collections::BTreeSet::new();
    while !(alive.len() == 1 && alive.contains("last")) {
        match world.next() {
            Input::Declared(declaration) => {
                alive.insert(declaration.spec.name.to_string());
            }
            Input::Withdrawn(name) => {
                alive.remove(name.as_str());
            }
            Input::FileProblems(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_directory_is_loaded_without_watching() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = root.path().join("services.d");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("web.yaml"), "command: one\n").expect("written");
    fs::write(dir.join("bad.yaml"), "garbage\n").expect("written");
    fs::write(dir.join("twin.yaml"), "name: web\ncommand: two\n").expect("written");
    let loaded = load(&dir, &Settings::default(), Store::none()).expect("readable");
    assert_eq!(loaded.declarations.len(), 1);
    assert_eq!(loaded.invalid.len(), 1);
    assert_eq!(loaded.invalid[0].file, "bad.yaml");
    assert!(!loaded.invalid[0].diagnostics.is_empty());
    assert_eq!(loaded.problems[0].reason, Reason::NameConflict);
}
