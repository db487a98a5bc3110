//! The log path with real pipes: kills, rotation, full disks, hostile files, followers.
#![expect(clippy::disallowed_methods, reason = "tests touch the world")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plugd::edge::named::{self, Named};
use plugd::edge::output::off_limits::OffLimits;
use plugd::edge::output::{Follow, Line, LogFiles, Pump, PumpEvent, Query, Settings, Stream, Tee};
use plugd::model::name::{Instance, LifeId, Name};
use plugd::model::spec::{Logs, OnStall};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

const MIB: u64 = 1 << 20;
/// Long enough for a loaded machine; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn logs(max_size: u64, max_files: u32) -> Logs {
    Logs {
        max_size,
        max_files,
        max_age: None,
        path: None,
        tee: false,
        on_stall: OnStall::Discard,
        rate_limit: None,
        json: false,
    }
}

fn life(number: u64) -> LifeId {
    LifeId { instance: Instance { service: name(), index: 0 }, life: number }
}

fn name() -> Name {
    Name::parse("web").expect("valid")
}

/// A pump, the place of its files, and what it told.
struct World {
    dir: TempDir,
    pump: Pump,
    events: Receiver<PumpEvent>,
}

impl World {
    fn new() -> World {
        World::with(tempfile::tempdir().expect("a folder"), None)
    }

    fn with(dir: TempDir, tee: Option<Tee>) -> World {
        let (sender, events) = tokio::sync::mpsc::channel(64);
        let settings =
            Settings { dir: Some(dir.path().to_path_buf()), total: Some(1 << 30), tee, ..Settings::default() };
        World { pump: Pump::start(settings, sender).expect("a thread"), dir, events }
    }

    fn attach(&self, number: u64, logs: Logs) -> File {
        let (fd, writer) = pipe();
        let stream = Stream { life: life(number), fd, stderr: None, logs, several: false, log_line: None };
        self.pump.attach(stream);
        writer
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("web.log")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the log is there")
    }

    fn event(&mut self) -> PumpEvent {
        within(PATIENCE, || self.events.try_recv().ok())
    }

    fn drained(&mut self, number: u64) -> Vec<String> {
        self.pump.finish(life(number));
        loop {
            if let PumpEvent::Drained { lines, .. } = self.event() {
                return lines;
            }
        }
    }

    fn read(&self, query: &Query) -> Vec<String> {
        texts(LogFiles::of(self.dir.path(), &name(), None, None).read(query).expect("readable"))
    }
}

fn texts(lines: impl IntoIterator<Item = Line>) -> Vec<String> {
    lines.into_iter().map(|line| String::from_utf8(line.bytes).expect("text")).collect()
}

fn pipe() -> (OwnedFd, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("descriptors");
    (reader, writer.into())
}

/// Waits for a state, never for a moment.
fn within<T>(limit: Duration, mut state: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(Instant::now() < end, "the awaited state did not come within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The log's files, oldest first.
fn files(base: &Path) -> Vec<PathBuf> {
    let rotated = (1..).map(|number| PathBuf::from(format!("{}.{number}", base.display())));
    let mut files: Vec<PathBuf> = rotated.take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(base.to_path_buf());
    files
}

/// Lines 0..count stand in the files once and in order, and none is split over two.
fn assert_whole(base: &Path, count: u64) {
    let mut next = 0_u64;
    for path in files(base) {
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
        for line in text.lines() {
            assert_eq!(line, numbered(next).trim_end(), "in {}", path.display());
            next += 1;
        }
    }
    assert_eq!(next, count);
}

fn numbered(number: u64) -> String {
    format!("line {number:08} of the service\n")
}

/// The pump in a process of its own, which the tests below kill: it is this binary again, with the
/// read end of the pipe as its stdin.
#[test]
fn no_line_is_dated_before_its_process_was_there() {
    let world = World::new();
    // They come while logs are opened: many in one turn of the pump.
    let attached: Vec<(u32, Timestamp)> = (0..200)
        .map(|index| {
            let (fd, mut writer) = pipe();
            let since = Timestamp::now();
            writer.write_all(b"hello\n").expect("room");
            let life = LifeId { instance: Instance { service: name(), index }, life: 1 };
            let logs = logs(MIB, 2);
            world.pump.attach(Stream { life, fd, stderr: None, logs, several: true, log_line: None });
            // As long as the pump needs for one.
            fs::write(world.dir.path().join("pace"), "").expect("written");
            (index, since)
        })
        .collect();
    for (index, since) in attached {
        let line = within(PATIENCE, || {
            let files = LogFiles::of(world.dir.path(), &name(), None, Some(index));
            files.last_lines(1).ok().and_then(|mut lines| lines.pop())
        });
        assert!(line.time.expect("dated").as_microsecond() >= since.as_microsecond(), "{index}");
    }
}

#[test]
fn no_line_is_dated_before_its_life_where_that_follows_at_once_on_another() {
    let world = World::new();
    let mut first = world.attach(1, logs(MIB, 2));
    first.write_all(b"first\n").expect("room");
    let last = |text: &[u8]| {
        let files = LogFiles::of(world.dir.path(), &name(), None, None);
        files.last_lines(1).ok().and_then(|mut lines| lines.pop()).filter(|line| line.bytes == text)
    };
    within(PATIENCE, || last(b"first"));
    let since = Timestamp::now();
    let mut second = world.attach(2, logs(MIB, 2));
    second.write_all(b"second\n").expect("room");
    let last = within(PATIENCE, || last(b"second"));
    assert!(last.time.expect("dated").as_microsecond() >= since.as_microsecond());
}

#[test]
fn who_says_nothing_has_no_file_and_what_was_said_before_is_still_its_last_output() {
    let mut world = World::new();
    let writer = world.attach(1, logs(MIB, 3));
    assert_eq!(world.drained(1), Vec::<String>::new());
    drop(writer);
    assert_eq!(world.drained(1), Vec::<String>::new());
    assert!(!world.path().exists(), "a file was made for nothing");
    // The next controller has the same life to look after, which goes on in silence.
    let mut writer = world.attach(2, logs(MIB, 3));
    writeln!(writer, "said before").expect("written");
    assert_eq!(world.drained(2), ["said before"]);
    let World { dir, pump, .. } = world;
    drop(pump);
    let mut world = World::with(dir, None);
    let _writer = world.attach(2, logs(MIB, 3));
    assert_eq!(world.drained(2), ["said before"]);
    let _writer = world.attach(3, logs(MIB, 3));
    assert_eq!(world.drained(3), Vec::<String>::new());
}

#[test]
fn a_pump_that_another_test_kills() {
    let Ok(dir) = std::env::var("PLUGD_TEST_PUMP_DIR") else { return };
    let ends = std::env::var("PLUGD_TEST_PUMP_ENDS").is_ok();
    let (sender, mut events) = tokio::sync::mpsc::channel(8);
    let settings = Settings { dir: Some(dir.into()), total: Some(1 << 40), ..Settings::default() };
    let pump = Pump::start(settings, sender).expect("a thread");
    let fd = rustix::io::dup(std::io::stdin()).expect("stdin is the pipe");
    pump.attach(Stream { life: life(1), fd, stderr: None, logs: logs(MIB, 1000), several: false, log_line: None });
    if ends {
        pump.finish(life(1));
        assert!(matches!(events.blocking_recv(), Some(PumpEvent::Drained { .. })));
        pump.shutdown();
    } else {
        loop {
            std::thread::park();
        }
    }
}

fn pump_process(pipe: &OwnedFd, dir: &Path, ends: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "a_pump_that_another_test_kills"]).env("PLUGD_TEST_PUMP_DIR", dir);
    if ends {
        command.env("PLUGD_TEST_PUMP_ENDS", "1");
    }
    command.stdin(Stdio::from(pipe.try_clone().expect("a descriptor"))).stdout(Stdio::null());
    command.spawn().expect("a process")
}

#[test]
fn a_million_lines_survive_rotations_and_a_pump_that_is_killed_again_and_again() {
    const LINES: u64 = 1_000_000;
    let dir = tempfile::tempdir().expect("a folder");
    let base = dir.path().join("web.log");
    let (fd, mut writer) = pipe();
    let service = std::thread::spawn(move || {
        let mut batch = Vec::new();
        for number in 0..LINES {
            batch.extend_from_slice(numbered(number).as_bytes());
            // Odd sizes, so that writes end within lines as stdio's do.
            if batch.len() > 3000 {
                writer.write_all(&batch).expect("somebody holds the pipe");
                batch.clear();
            }
        }
        writer.write_all(&batch).expect("somebody holds the pipe");
    });
    let mut kills = 0;
    while !service.is_finished() {
        let mut pump = pump_process(&fd, dir.path(), false);
        let before = written(&base);
        // Killed when it has moved something, at an offset that is another each time.
        let target = before + 300_000 + kills * 77_777 % 900_000;
        within(PATIENCE, || (service.is_finished() || written(&base) > target).then_some(()));
        pump.kill().expect("it runs");
        pump.wait().expect("it ends");
        kills += 1;
    }
    service.join().expect("all was written");
    assert!(pump_process(&fd, dir.path(), true).wait().expect("it ends").success());
    assert!(kills >= 10, "only {kills} kills");
    assert_whole(&base, LINES);
    let read = LogFiles::of(dir.path(), &name(), None, None).read(&Query::default()).expect("readable");
    assert_eq!(read.count() as u64, LINES);
}

/// Bytes in all files of a log: grows only.
fn written(base: &Path) -> u64 {
    files(base).iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum()
}

#[test]
fn the_files_hold_exactly_what_was_written_and_only_their_owner_and_group_read_them() {
    let mut world = World::new();
    let mut service = world.attach(1, logs(MIB, 5));
    service.write_all(b"one\n\x1b[31m\xff\0two").expect("room");
    let last = world.drained(1);
    assert_eq!(fs::read(world.path()).expect("it is there"), b"one\n\x1b[31m\xff\0two");
    assert_eq!(last, ["one", "\u{fffd}two"]);
    assert_eq!(fs::metadata(world.path()).expect("it is there").permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_grandchild_that_holds_the_pipe_holds_nothing_up() {
    let mut world = World::new();
    let mut service = world.attach(1, logs(MIB, 5));
    let mut grandchild = service.try_clone().expect("a descriptor");
    service.write_all(b"bye\n").expect("room");
    drop(service);
    assert_eq!(world.drained(1), ["bye"]);
    grandchild.write_all(b"still here\n").expect("the pipe is held");
    within(PATIENCE, || world.text().contains("still here").then_some(()));
    grandchild.write_all(b"and here\n").expect("the pipe is held");
    world.pump.close(life(1));
    world.pump.shutdown();
    assert_eq!(world.text(), "bye\nstill here\nand here\n");
}

#[test]
fn what_an_ended_life_left_stands_before_what_the_next_one_writes() {
    let world = World::new();
    for number in 1..=50 {
        let mut service = world.attach(number, logs(MIB, 5));
        write!(service, "{number} first\n{number} last\n").expect("room");
    }
    world.pump.shutdown();
    let expected: String = (1..=50).map(|number| format!("{number} first\n{number} last\n")).collect();
    assert_eq!(world.text(), expected);
}

#[test]
fn lines_of_any_length_are_rotated_at_their_ends_and_only_endless_ones_are_cut() {
    let mut world = World::new();
    let mut service = world.attach(1, logs(64 * 1024, 100));
    let long = "y".repeat(100_000);
    for number in 0..3000_usize {
        writeln!(service, "{number} {}", "x".repeat(number % 200)).expect("room");
    }
    writeln!(service, "{long}").expect("room");
    service.write_all(&vec![b'z'; 300_000]).expect("room");
    service.write_all(b"\nend\n").expect("room");
    world.drained(1);
    let mut cut = 0;
    for path in files(&world.path()) {
        let bytes = fs::read(&path).expect("readable");
        assert!(bytes.len() <= 2 * 64 * 1024, "{} has {}", path.display(), bytes.len());
        cut += usize::from(bytes.last().is_some_and(|last| *last == b'z'));
    }
    assert_eq!(cut, 2, "300,000 bytes without an end are cut at each 131,072");
    let lines: Vec<Line> =
        LogFiles::of(world.dir.path(), &name(), None, None).read(&Query::default()).expect("readable").collect();
    assert_eq!(lines.len(), 3003);
    assert_eq!((lines[3000].bytes.len() as u64 + lines[3000].left_out, lines[3000].bytes.len()), (100_000, 65536));
    assert_eq!(lines[3001].bytes.len() as u64 + lines[3001].left_out, 300_000);
    assert_eq!(lines[3002].bytes, b"end");
}

#[test]
fn only_so_many_files_are_kept() {
    let mut world = World::new();
    let mut service = world.attach(1, logs(64 * 1024, 3));
    for number in 0..30_000 {
        service.write_all(numbered(number).as_bytes()).expect("room");
    }
    world.drained(1);
    assert_eq!(files(&world.path()).len(), 3);
    let indexes = fs::read_dir(world.dir.path().join(".idx")).expect("it is there").count();
    assert_eq!(indexes, 3, "the index of a removed file goes with it");
    assert!(world.text().ends_with(&numbered(29_999)));
}

#[test]
fn a_log_that_cannot_be_rotated_ends_at_twice_its_size_and_says_what_is_lost() {
    let mut world = World::new();
    // Not empty, so that no rename takes its place.
    fs::create_dir_all(world.dir.path().join("web.log.1/x")).expect("made");
    let max = 64 * 1024;
    let mut writer = world.attach(1, logs(max, 2));
    let write = std::thread::spawn(move || {
        for number in 0..20_000 {
            writer.write_all(numbered(number).as_bytes()).expect("the service is never blocked");
        }
        writer
    });
    let why = within(PATIENCE, || match world.events.try_recv().ok()? {
        PumpEvent::Dropped { why, .. } => Some(why),
        _ => None,
    });
    assert!(why.contains("web.log") && why.contains("cannot be rotated"), "{why}");
    let mut writer = write.join().expect("written");
    assert!(fs::metadata(world.path()).expect("there").len() <= 2 * max);

    fs::remove_dir_all(world.dir.path().join("web.log.1")).expect("removed");
    within(PATIENCE, || {
        writer.write_all(b"a last word\n").expect("written");
        let size = fs::metadata(world.path()).ok()?.len();
        (size < max && world.path().with_extension("log.1").is_file()).then_some(())
    });
}

#[test]
fn all_logs_together_stay_within_their_total() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sender, _events) = tokio::sync::mpsc::channel(64);
    let settings = Settings { dir: Some(dir.path().into()), total: Some(MIB), ..Settings::default() };
    let pump = Pump::start(settings, sender).expect("a thread");
    for service in ["a", "b", "c"] {
        let (fd, mut writer) = pipe();
        let instance = Instance { service: Name::parse(service).expect("valid"), index: 0 };
        let life = LifeId { instance, life: 1 };
        let stream = Stream { life, fd, stderr: None, logs: logs(MIB, 9), several: false, log_line: None };
        pump.attach(stream);
        for number in 0..60_000 {
            writer.write_all(numbered(number).as_bytes()).expect("room");
        }
    }
    pump.shutdown();
    let sizes = fs::read_dir(dir.path()).expect("it is there").flatten().map(|entry| entry.metadata().expect("stat"));
    let sum: u64 = sizes.filter(|meta| meta.is_file()).map(|meta| meta.len()).sum();
    assert!(sum <= MIB, "{sum}");
    for service in ["a", "b", "c"] {
        assert!(dir.path().join(format!("{service}.log")).exists());
    }
}

#[test]
fn logs_of_others_in_the_same_directory_are_neither_counted_nor_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("apt")).expect("made");
    let others = ["auth.log", "dpkg.log.1", "mail.err", "apt/history.log", "apt/term.log.1"];
    for other in others {
        fs::write(dir.path().join(other), vec![b'x'; MIB as usize]).expect("room");
    }
    // One of plugd's was removed by hand, and its inode came to be another's.
    let inode = fs::metadata(dir.path().join("auth.log")).expect("there").ino();
    fs::create_dir(dir.path().join(".idx")).expect("made");
    let stale = File::create(dir.path().join(format!(".idx/{inode}"))).expect("made");
    stale.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).expect("dated");
    let write = |service: &str, total: u64| {
        let (sender, _events) = tokio::sync::mpsc::channel(64);
        let settings = Settings { dir: Some(dir.path().into()), total: Some(total), ..Settings::default() };
        let pump = Pump::start(settings, sender).expect("a thread");
        let (fd, mut writer) = pipe();
        let instance = Instance { service: Name::parse(service).expect("valid"), index: 0 };
        let life = LifeId { instance, life: 1 };
        pump.attach(Stream { life, fd, stderr: None, logs: logs(MIB, 9), several: false, log_line: None });
        for number in 0..60_000 {
            writer.write_all(numbered(number).as_bytes()).expect("room");
        }
        pump.shutdown();
    };
    write("a", MIB);
    assert!(fs::metadata(dir.path().join("a.log")).expect("there").len() > 0);
    write("z", MIB / 4);
    let left = |name: &str| fs::metadata(dir.path().join(name)).map_or(0, |meta| meta.len());
    assert_eq!(left("a.log"), 0, "of a service that is gone");
    assert!(left("z.log") > 0);
    assert_eq!(others.map(left), [MIB; 5]);
}

#[test]
fn a_file_that_is_truncated_deleted_moved_or_replaced_by_a_link_is_taken_up_again() {
    let world = World::new();
    let mut service = world.attach(1, logs(MIB, 5));
    let mut say = |text: &str| {
        service.write_all(text.as_bytes()).expect("room");
        within(PATIENCE, || fs::read_to_string(world.path()).is_ok_and(|have| have.ends_with(text)).then_some(()));
    };
    say("first\n");
    File::options().write(true).open(world.path()).expect("it is there").set_len(0).expect("truncated");
    say("after truncation\n");
    assert_eq!(world.text(), "after truncation\n", "without a hole");
    fs::remove_file(world.path()).expect("it is there");
    say("after removal\n");
    assert_eq!(world.text(), "after removal\n");

    let moved = world.dir.path().join("web.log-by-hand");
    fs::rename(world.path(), &moved).expect("it is there");
    world.pump.reopen();
    say("after a move\n");
    assert_eq!(fs::read_to_string(&moved).expect("it is there"), "after removal\n");

    let victim = world.dir.path().join("victim");
    fs::write(&victim, "untouched").expect("room");
    fs::remove_file(world.path()).expect("it is there");
    std::os::unix::fs::symlink(&victim, world.path()).expect("linked");
    say("after a link\n");
    assert!(fs::symlink_metadata(world.path()).expect("it is there").is_file());
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "untouched");
}

/// A small tmpfs; none where this user may not mount.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: mounting a tmpfs is not permitted here");
        }
        mounted.then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_blocks_no_service_drops_and_counts_and_recovers_alone() {
    let Some(disk) = SmallDisk::mount("size=256k") else { return };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 128 * 1024]).expect("room");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let settings = Settings { dir: Some(disk.0.path().into()), total: Some(1 << 30), ..Settings::default() };
    let pump = Pump::start(settings, sender).expect("a thread");
    let mut world = World { dir: tempfile::tempdir().expect("a folder"), pump, events };
    let mut service = world.attach(1, logs(MIB, 5));
    let mut sent = 0;
    let start = Instant::now();
    for number in 0..40_000 {
        let line = numbered(number);
        service.write_all(line.as_bytes()).expect("the pipe is held");
        sent += line.len() as u64;
    }
    // Until there is room again it would be held up for ever.
    assert!(start.elapsed() < PATIENCE, "the service was held up for {:?}", start.elapsed());
    let PumpEvent::Dropped { why, .. } = world.event() else { panic!("a loss is told first") };
    assert!(why.contains("no space left"), "{why}");
    fs::remove_file(&ballast).expect("it is there");
    loop {
        match world.event() {
            PumpEvent::Recovered { .. } => break,
            PumpEvent::Dropped { .. }
            | PumpEvent::Drained { .. }
            | PumpEvent::LogLine { .. }
            | PumpEvent::Unopened { .. }
            | PumpEvent::Opened { .. }
            | PumpEvent::Closed { .. } => {}
        }
    }
    service.write_all(b"after\n").expect("the pipe is held");
    world.drained(1);
    let log = disk.0.path().join("web.log");
    let stored = fs::metadata(&log).expect("it is there").len();
    let (_, bytes, dropped) = world.pump.counted().remove(0);
    assert_eq!((bytes, bytes + dropped), (stored, sent + 6), "every byte is stored or counted");
    let lines: Vec<Line> =
        LogFiles::of(disk.0.path(), &name(), None, None).read(&Query::default()).expect("readable").collect();
    let last = lines.last().expect("a line");
    assert_eq!(last.bytes, b"after");
    assert_eq!(lines.iter().map(|line| line.dropped).sum::<u64>(), dropped, "the index says where and how much");
    world.pump.shutdown();
}

#[test]
fn with_block_a_full_disk_holds_the_service_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount("size=128k") else { return };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 96 * 1024]).expect("room");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let settings = Settings { dir: Some(disk.0.path().into()), total: Some(1 << 30), ..Settings::default() };
    let pump = Pump::start(settings, sender).expect("a thread");
    let mut world = World { dir: tempfile::tempdir().expect("a folder"), pump, events };
    let mut service = world.attach(1, Logs { on_stall: OnStall::Block, ..logs(MIB, 5) });
    for number in 0..2000 {
        service.write_all(numbered(number).as_bytes()).expect("the pipe is held");
    }
    fs::remove_file(&ballast).expect("it is there");
    let log = disk.0.path().join("web.log");
    let size = numbered(0).len() as u64 * 2000;
    within(PATIENCE, || fs::metadata(&log).is_ok_and(|meta| meta.len() == size).then_some(()));
    world.drained(1);
    assert_whole(&log, 2000);
    world.pump.shutdown();
}

#[test]
fn a_rate_limit_drops_whole_lines_and_counts_them() {
    let mut world = World::new();
    let mut service = world.attach(1, Logs { rate_limit: Some(10_000), ..logs(MIB, 5) });
    let start = Instant::now();
    for number in 0..10_000 {
        service.write_all(numbered(number).as_bytes()).expect("the pipe is held");
    }
    let PumpEvent::Dropped { why, .. } = world.event() else { panic!("a loss is told") };
    assert!(why.contains("rateLimit"), "{why}");
    world.drained(1);
    let text = world.text();
    // What it may write in this time, and what it has saved up before.
    let most = 60_000 + 10_000 * start.elapsed().as_secs() as usize;
    assert!(text.len() < most, "{} of {most}", text.len());
    assert!(text.lines().all(|line| line.len() + 1 == numbered(0).len()), "no line is torn");
    let (_, bytes, dropped) = world.pump.counted().remove(0);
    assert_eq!(bytes as usize, text.len());
    assert_eq!((bytes + dropped) as usize, numbered(0).len() * 10_000);
}

fn seen(pattern: &regex::Regex) -> PumpEvent {
    PumpEvent::LogLine { life: life(1), pattern: pattern.to_string() }
}

#[test]
fn another_pattern_is_looked_for_in_what_was_said_and_in_what_comes() {
    let mut world = World::new();
    let regex = |text: &str| regex::Regex::new(text).expect("valid");
    let (misspelt, right, later) = (regex("redy"), regex("^ready"), regex("later"));
    let (fd, mut service) = pipe();
    let log_line = Some(misspelt);
    world.pump.attach(Stream { life: life(1), fd, stderr: None, logs: logs(MIB, 5), several: false, log_line });
    service.write_all(b"starting\nready\n").expect("room");
    assert_eq!(world.drained(1), ["starting", "ready"]);

    world.pump.look_for(life(1), Some(right.clone()));
    assert_eq!(world.event(), seen(&right));

    world.pump.look_for(life(1), Some(later.clone()));
    service.write_all(b"later\n").expect("room");
    assert_eq!(world.event(), seen(&later));

    world.pump.look_for(life(1), None);
    service.write_all(b"later\n").expect("room");
    assert_eq!(world.drained(1).last().map(String::as_str), Some("later"));
}

#[test]
fn the_line_that_a_probe_waits_for_is_told_once_even_when_it_was_written_before() {
    let mut world = World::new();
    let pattern = regex::Regex::new("ready on port \\d+").expect("valid");
    let (fd, mut service) = pipe();
    let keeper = fd.try_clone().expect("a descriptor");
    let stream = |fd| Stream {
        life: life(1),
        fd,
        stderr: None,
        logs: logs(MIB, 5),
        several: false,
        log_line: Some(pattern.clone()),
    };
    world.pump.attach(stream(fd));
    service.write_all(b"starting\nready on po").expect("room");
    service.write_all(b"rt 80\nready on port 81\n").expect("room");
    assert_eq!(world.event(), seen(&pattern));
    assert_eq!(world.drained(1).last().map(String::as_str), Some("ready on port 81"));
    world.pump.shutdown();

    // A new controller takes the life over and must learn it too.
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let settings = Settings { dir: Some(world.dir.path().into()), total: None, ..Settings::default() };
    let mut next = World { pump: Pump::start(settings, sender).expect("a thread"), events, dir: world.dir };
    next.pump.attach(stream(keeper));
    assert_eq!(next.event(), seen(&pattern));
}

#[test]
fn reading_gives_the_tail_the_time_the_life_before_and_what_matches() {
    let mut world = World::new();
    for number in 1..=3 {
        let mut service = world.attach(number, logs(64 * 1024, 50));
        for line in 0..5000 {
            writeln!(service, "life {number} line {line}").expect("room");
        }
        world.drained(number);
        world.pump.close(life(number));
    }
    world.pump.shutdown();
    assert!(files(&world.path()).len() > 2, "over several files");
    let query = Query::default();
    assert_eq!(world.read(&query).len(), 15_000);
    assert_eq!(world.read(&Query { tail: Some(2), ..query.clone() }), ["life 3 line 4998", "life 3 line 4999"]);
    assert_eq!(world.read(&Query { tail: Some(0), ..query.clone() }), Vec::<String>::new());
    assert_eq!(world.read(&Query { tail: Some(99_999), ..query.clone() }).len(), 15_000);
    let previous = world.read(&Query { previous: true, ..query.clone() });
    assert_eq!((previous.len(), previous[0].as_str()), (5000, "life 2 line 0"));
    assert_eq!(previous[4999], "life 2 line 4999");
    let grep = regex::Regex::new("line 77$").expect("valid");
    let found = world.read(&Query { grep: Some(grep), tail: Some(2), ..query.clone() });
    assert_eq!(found, ["life 2 line 77", "life 3 line 77"]);
    let now = jiff::Timestamp::now();
    let later = Query { since: Some(now + jiff::SignedDuration::from_secs(60)), ..query.clone() };
    assert_eq!(world.read(&later), Vec::<String>::new());
    let earlier = Query { since: Some(now - jiff::SignedDuration::from_secs(60)), ..query };
    assert_eq!(world.read(&earlier).len(), 15_000);
}

#[test]
fn a_missing_or_damaged_index_is_made_anew_and_costs_only_times() {
    let mut world = World::new();
    let mut service = world.attach(1, logs(MIB, 5));
    service.write_all(b"before\n").expect("room");
    world.drained(1);
    world.pump.shutdown();
    let index = world.dir.path().join(".idx").join(fs::metadata(world.path()).expect("stat").ino().to_string());
    for damage in [None, Some(&b"\xff\xff\xff\xff\xff\xff\xff\xff12345678torn"[..]), Some(b"")] {
        match damage {
            None => fs::remove_file(&index).expect("it is there"),
            Some(bytes) => fs::write(&index, bytes).expect("room"),
        }
        assert!(world.read(&Query::default()).contains(&"before".to_string()));
        let (sender, events) = tokio::sync::mpsc::channel(64);
        let settings = Settings { dir: Some(world.dir.path().into()), total: None, ..Settings::default() };
        world.pump = Pump::start(settings, sender).expect("a thread");
        world.events = events;
        let mut service = world.attach(2, logs(MIB, 5));
        service.write_all(b"after\n").expect("room");
        world.drained(2);
        world.pump.shutdown();
        let lines: Vec<Line> =
            LogFiles::of(world.dir.path(), &name(), None, None).read(&Query::default()).expect("readable").collect();
        assert!(lines.iter().all(|line| line.time.is_some()), "{damage:?}");
        assert_eq!(lines.last().expect("a line").bytes, b"after");
        assert_eq!(world.read(&Query { previous: true, ..Query::default() })[0], "before");
    }
}

fn gather(follow: &mut Follow, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    within(PATIENCE, || {
        lines.extend(texts(follow.poll().expect("readable")));
        (lines.len() >= count).then_some(())
    });
    lines
}

#[test]
fn a_follower_sees_every_line_once_over_rotations() {
    let world = World::new();
    let mut service = world.attach(1, logs(64 * 1024, 1000));
    service.write_all(b"old 1\nold 2\nold 3\n").expect("room");
    within(PATIENCE, || fs::metadata(world.path()).is_ok_and(|meta| meta.len() == 18).then_some(()));
    let logs = LogFiles::of(world.dir.path(), &name(), None, None);
    let mut follow = logs.follow(&Query { tail: Some(2), ..Query::default() }).expect("readable");
    let writer = std::thread::spawn(move || {
        for number in 0..100_000 {
            service.write_all(numbered(number).as_bytes()).expect("room");
        }
    });
    let lines = gather(&mut follow, 100_002);
    writer.join().expect("all was written");
    assert_eq!(lines[..2], ["old 2", "old 3"]);
    for (number, line) in lines[2..].iter().enumerate() {
        assert_eq!(*line, numbered(number as u64).trim_end());
    }
    assert_eq!(lines.len(), 100_002);
    assert!(files(&world.path()).len() > 10);
}

#[test]
fn a_follower_goes_on_after_truncation_and_removal() {
    let world = World::new();
    let mut service = world.attach(1, logs(MIB, 5));
    service.write_all(b"one\n").expect("room");
    let logs = LogFiles::of(world.dir.path(), &name(), None, None);
    let mut follow = within(PATIENCE, || {
        fs::metadata(world.path()).is_ok_and(|meta| meta.len() == 4).then(|| logs.clone().follow(&Query::default()))
    })
    .expect("readable");
    assert_eq!(gather(&mut follow, 1), ["one"]);
    File::options().write(true).open(world.path()).expect("it is there").set_len(0).expect("truncated");
    assert_eq!(follow.poll().expect("readable"), []);
    service.write_all(b"two\n").expect("room");
    assert_eq!(gather(&mut follow, 1), ["two"]);
    fs::remove_file(world.path()).expect("it is there");
    service.write_all(b"three\n").expect("room");
    assert_eq!(gather(&mut follow, 1), ["three"]);
}

#[test]
fn several_instances_have_files_of_their_own_and_are_read_as_one() {
    let world = World::new();
    for index in 0..3 {
        let (fd, mut writer) = pipe();
        let life = LifeId { instance: Instance { service: name(), index }, life: 1 };
        let stream = Stream { life, fd, stderr: None, logs: logs(MIB, 5), several: true, log_line: None };
        world.pump.attach(stream);
        writeln!(writer, "from {index}").expect("room");
    }
    world.pump.shutdown();
    assert!(world.dir.path().join("web/2.log").exists());
    assert_eq!(world.read(&Query::default()), ["from 0", "from 1", "from 2"]);
    let second = LogFiles::of(world.dir.path(), &name(), None, Some(1));
    assert_eq!(texts(second.read(&Query::default()).expect("readable")), ["from 1"]);
}

#[test]
fn separate_stderr_and_a_path_of_ones_own_are_honoured() {
    let mut world = World::new();
    let own = world.dir.path().join("elsewhere/own.log");
    let ((fd, mut out), (stderr, mut err)) = (pipe(), pipe());
    let logs = Logs { path: Some(own.clone()), ..logs(MIB, 5) };
    let stream = Stream { life: life(1), fd, stderr: Some(stderr), logs, several: false, log_line: None };
    world.pump.attach(stream);
    out.write_all(b"to out\n").expect("room");
    err.write_all(b"to err\n").expect("room");
    assert_eq!(world.drained(1), ["to out", "to err"]);
    assert_eq!(fs::read_to_string(&own).expect("it is there"), "to out\n");
    assert_eq!(fs::read_to_string(own.with_extension("err")).expect("it is there"), "to err\n");
    let read = LogFiles::of(world.dir.path(), &name(), Some(&own), None).read(&Query::default()).expect("readable");
    assert_eq!(read.count(), 2);
}

#[test]
fn a_path_that_cannot_be_opened_is_told_at_once_and_taken_back_with_the_first_line_that_is_kept() {
    let mut world = World::new();
    let place = world.dir.path().join("elsewhere");
    fs::write(&place, "in the way").expect("written");
    let own = place.join("own.log");
    let mut service = world.attach(1, Logs { path: Some(own.clone()), ..logs(MIB, 5) });
    let PumpEvent::Unopened { why, .. } = world.event() else { panic!("it is told before a byte is written") };
    assert!(why.starts_with(&format!("{}: Not a directory", own.display())), "{why}");
    fs::remove_file(&place).expect("removed");
    service.write_all(b"hello\n").expect("room");
    assert_eq!(world.event(), PumpEvent::Opened { life: life(1) });
    assert_eq!(fs::read_to_string(&own).expect("it is there"), "hello\n");

    // A life that goes takes with it what was told of it.
    fs::remove_dir_all(&place).expect("removed");
    let elsewhere = world.dir.path().join("web.log/own.log");
    fs::write(world.path(), "in the way").expect("written");
    world.pump.update(life(1), Logs { path: Some(elsewhere), ..logs(MIB, 5) }, false);
    assert!(matches!(world.event(), PumpEvent::Unopened { .. }));
    world.pump.close(life(1));
    assert_eq!(world.event(), PumpEvent::Opened { life: life(1) });
    assert_eq!(world.event(), PumpEvent::Closed { life: life(1) });
}

/// One fault is one problem: that it is lost takes the place of that it would be.
#[test]
fn a_path_that_cannot_be_opened_and_loses_something_is_told_of_once() {
    let mut world = World::new();
    fs::write(world.dir.path().join("place"), "in the way").expect("written");
    let own = world.dir.path().join("place/own.log");
    let mut service = world.attach(1, Logs { path: Some(own.clone()), ..logs(MIB, 5) });
    assert!(matches!(world.event(), PumpEvent::Unopened { .. }));
    service.write_all(b"hello\n").expect("room");
    assert_eq!(world.event(), PumpEvent::Opened { life: life(1) });
    let PumpEvent::Dropped { bytes: 6, why, .. } = world.event() else { panic!("six bytes are lost") };
    assert!(why.starts_with(&format!("{}: ", own.display())) && why.ends_with("; correct `logs.path`"), "{why}");
    world.pump.close(life(1));
    assert_eq!(world.event(), PumpEvent::Recovered { life: life(1) });
    assert_eq!(world.event(), PumpEvent::Closed { life: life(1) });
}

#[test]
fn what_plugd_reads_itself_is_never_written_as_a_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let services = dir.path().join("services.d");
    fs::create_dir(&services).expect("made");
    let manifest = services.join("db.yaml");
    fs::write(&manifest, "command: sleep 1000\n").expect("written");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let off_limits = OffLimits { services: Some(services), ..OffLimits::default() };
    let settings = Settings { dir: Some(dir.path().join("logs")), off_limits, ..Settings::default() };
    let mut world = World { pump: Pump::start(settings, sender).expect("a thread"), dir, events };
    let mut service = world.attach(1, Logs { path: Some(manifest.clone()), ..logs(MIB, 5) });
    let PumpEvent::Unopened { why, .. } = world.event() else { panic!("it is told before a byte is written") };
    assert!(why.ends_with("db.yaml: plugd reads that file or starts it; correct `logs.path`"), "{why}");
    service.write_all(b"hello\n").expect("room");
    assert_eq!(world.event(), PumpEvent::Opened { life: life(1) });
    assert!(matches!(world.event(), PumpEvent::Dropped { bytes: 6, .. }));
    assert_eq!(fs::read_to_string(&manifest).expect("it is there"), "command: sleep 1000\n");
}

/// A pump that knows what manifests name.
fn world_with(named: &Arc<Named>) -> World {
    let dir = tempfile::tempdir().expect("a folder");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let off_limits = OffLimits { named: named.clone(), ..OffLimits::default() };
    let settings = Settings { dir: Some(dir.path().join("logs")), off_limits, ..Settings::default() };
    World { pump: Pump::start(settings, sender).expect("a thread"), dir, events }
}

fn file(path: &Path) -> named::File {
    let there = fs::metadata(path).ok();
    named::File { path: path.to_path_buf(), identity: there.map(|there| (there.dev(), there.ino())) }
}

#[test]
fn no_log_is_a_program_or_what_a_manifest_names_by_whichever_way_it_leads_there() {
    let named = Arc::new(Named::default());
    let mut world = world_with(&named);
    let root = world.dir.path().to_path_buf();
    fs::create_dir(root.join("real")).expect("made");
    std::os::unix::fs::symlink("real", root.join("link")).expect("made");
    let env = root.join("real/app.env");
    fs::write(&env, "A=1\n").expect("written");
    fs::hard_link(&env, root.join("second")).expect("made");
    named.put("db.yaml", vec![file(&env), file(&root.join("real/later.env")), file(&root.join("real/run.1"))]);
    let program = root.join("job");
    fs::write(&program, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("changed");

    let led = "plugd reads that file or starts it (db.yaml leads there); correct `logs.path`";
    for (number, (path, told)) in (1..).zip([
        ("real/app.env", led),
        ("link/app.env", led),
        ("second", led),
        ("link/later.env", led),
        // Its first rotation would take that name.
        ("real/run", led),
        ("job", "it is a program; correct `logs.path`"),
    ]) {
        let mut service = world.attach(number, Logs { path: Some(root.join(path)), ..logs(MIB, 5) });
        let PumpEvent::Unopened { why, .. } = world.event() else {
            panic!("{path} is told of before a byte is written")
        };
        assert!(why.ends_with(told), "{path}: {why}");
        service.write_all(b"hello\n").expect("room");
        assert_eq!(world.event(), PumpEvent::Opened { life: life(number) });
        assert!(matches!(world.event(), PumpEvent::Dropped { bytes: 6, .. }), "{path}");
    }
    assert_eq!(fs::read_to_string(&env).expect("there"), "A=1\n");
    assert_eq!(fs::read_to_string(&program).expect("there"), "#!/bin/sh\n");
    assert!(!root.join("real/later.env").exists() && !root.join("real/run").exists());
}

#[test]
fn no_log_is_what_plugd_keeps_by_another_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let (state, logs_dir) = (dir.path().join("state"), dir.path().join("state/logs"));
    fs::create_dir_all(&logs_dir).expect("made");
    fs::create_dir(state.join("run")).expect("made");
    let off_limits = OffLimits { own: vec![state.clone()], logs: Some(logs_dir.clone()), ..OffLimits::default() };
    let settings = Settings { dir: Some(logs_dir.clone()), off_limits, ..Settings::default() };
    let mut world = World { pump: Pump::start(settings, sender).expect("a thread"), dir, events };
    for (number, (of, may)) in (1..).zip([("state.db", false), ("run/lives", false), ("logs/old.log", true)]) {
        fs::write(state.join(of), "kept\n").expect("written");
        let second = world.dir.path().join(format!("second.{number}.log"));
        fs::hard_link(state.join(of), &second).expect("made");
        let mut service = world.attach(number, Logs { path: Some(second), ..logs(MIB, 5) });
        if !may {
            let PumpEvent::Unopened { why, .. } = world.event() else {
                panic!("{of} is told before a byte is written")
            };
            let told = format!("plugd keeps that file as {}; correct `logs.path`", state.join(of).display());
            assert!(why.ends_with(&told), "{why}");
        }
        service.write_all(b"hello\n").expect("room");
        if !may {
            assert_eq!(world.event(), PumpEvent::Opened { life: life(number) });
            assert!(matches!(world.event(), PumpEvent::Dropped { bytes: 6, .. }), "{of}");
            assert_eq!(fs::read_to_string(state.join(of)).expect("there"), "kept\n");
        } else {
            assert_eq!(world.drained(number), ["hello"]);
        }
    }
}

#[test]
fn a_log_that_a_manifest_comes_to_name_is_let_go() {
    let named = Arc::new(Named::default());
    let mut world = world_with(&named);
    let path = world.dir.path().join("app.log");
    let mut service = world.attach(1, Logs { path: Some(path.clone()), ..logs(MIB, 5) });
    service.write_all(b"mine\n").expect("room");
    assert_eq!(world.drained(1), ["mine"]);

    named.put("db.yaml", vec![file(&path)]);

    service.write_all(b"lost\n").expect("room");
    let PumpEvent::Dropped { bytes: 5, why, .. } = world.event() else { panic!("it is not written") };
    assert!(why.contains("db.yaml leads there"), "{why}");
    assert_eq!(fs::read_to_string(&path).expect("there"), "mine\n");

    named.remove("db.yaml");
    let end = PumpEvent::Recovered { life: life(1) };
    within(PATIENCE, || (world.event() == end).then_some(()));
    service.write_all(b"again\n").expect("room");
    assert_eq!(world.drained(1).last().map(String::as_str), Some("again"));
}

/// At the start of a controller services run before all manifests are read.
#[test]
fn a_file_with_others_bytes_is_no_log_before_it_is_known_what_is_named() {
    let named = Arc::new(Named::unread());
    let mut world = world_with(&named);
    let path = world.dir.path().join("app.env");
    fs::write(&path, "A=1\n").expect("written");
    let mut service = world.attach(1, Logs { path: Some(path.clone()), ..logs(MIB, 5) });
    service.write_all(b"hello\n").expect("room");
    named.put("db.yaml", vec![file(&path)]);
    named.was_read();
    let PumpEvent::Unopened { why, .. } = world.event() else { panic!("it is told") };
    assert!(why.contains("db.yaml leads there"), "{why}");
    assert_eq!(fs::read_to_string(&path).expect("there"), "A=1\n");
}

#[test]
fn the_copy_on_stdout_is_prefixed_escaped_and_never_holds_a_service_up() {
    let (reader, stdout) = pipe();
    let flags = rustix::fs::fcntl_getfl(&stdout).expect("flags");
    let tee = Tee { to: stdout.try_clone().expect("a descriptor").into(), colour: false, prefix: true, whole: false };
    let mut world = World::with(tempfile::tempdir().expect("a folder"), Some(tee));
    let mut service = world.attach(1, Logs { tee: true, ..logs(100 * MIB, 5) });
    service.write_all(b"hello\n{\"json\": true}\n\x1b[2Jhostile\n").expect("room");
    let mut shown = [0; 1024];
    let expected = "web | hello\n{\"json\": true}\nweb | \\x1b[2Jhostile\n";
    let mut text = String::new();
    while text.len() < expected.len() {
        let count = rustix::io::read(&reader, &mut shown).expect("readable");
        text.push_str(std::str::from_utf8(&shown[..count]).expect("text"));
    }
    assert_eq!(text, expected);
    // Nobody reads stdout any more: the file gets everything nevertheless.
    for number in 0..200_000 {
        service.write_all(numbered(number).as_bytes()).expect("room");
    }
    world.drained(1);
    assert!(world.text().ends_with(&numbered(199_999)));
    assert_eq!(rustix::fs::fcntl_getfl(&stdout).expect("flags"), flags, "its flags are others' too");
}

#[test]
fn without_a_place_for_logs_services_go_on_and_their_last_words_are_known() {
    let (sender, events) = tokio::sync::mpsc::channel(64);
    let pump = Pump::start(Settings::default(), sender).expect("a thread");
    let mut world = World { dir: tempfile::tempdir().expect("a folder"), pump, events };
    let mut service = world.attach(1, logs(MIB, 5));
    for number in 0..50_000 {
        service.write_all(numbered(number).as_bytes()).expect("room");
    }
    assert_eq!(world.drained(1).last().map(String::as_str), Some(numbered(49_999).trim_end()));
}

/// Not a test of speed: it prints what `performance.md` asks for. 200 MB of 100-byte lines in blocks
/// of 4 KiB, rotated at 10 MB.
#[test]
fn the_throughput_of_the_log_path_is_measured_where_it_is_asked_for() {
    if std::env::var_os("PLUGD_MEASURE_LOGS").is_none() {
        return;
    }
    const TOTAL: usize = 200_000_000;
    let line = format!("{}\n", "x".repeat(99));
    let block: Vec<u8> = line.bytes().cycle().take(4096 * 25).collect();
    for _ in 0..5 {
        let mut world = World::new();
        let mut service = world.attach(1, logs(10_000_000, 30));
        let start = Instant::now();
        let mut sent = 0;
        'all: loop {
            for block in block.chunks(4096) {
                service.write_all(block).expect("room");
                sent += block.len();
                if sent >= TOTAL {
                    break 'all;
                }
            }
        }
        let wrote = start.elapsed();
        world.drained(1);
        let took = start.elapsed();
        let sizes: u64 = files(&world.path()).iter().map(|path| fs::metadata(path).expect("stat").len()).sum();
        assert_eq!(sizes, sent as u64);
        println!(
            "{:.0} MB/s stored, {:.0} MB/s written by the service, {} files",
            sent as f64 / took.as_secs_f64() / 1e6,
            sent as f64 / wrote.as_secs_f64() / 1e6,
            files(&world.path()).len()
        );
    }
}
