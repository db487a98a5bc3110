//! The keeper for real: each scenario runs a keeper of its own, whose controller is this binary again.
//!
//! No test harness but a list, because a keeper must be a process with one thread: this binary is, by its
//! first argument, the keeper, its controller (which plays the scenario and leaves with 0), or the list.
//! A controller that panics leaves with 99; a keeper that does not end in time is killed and a failure.

#![expect(clippy::disallowed_methods, reason = "these are real processes and files")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugd::keeper::{self, Event, How, Id, Link, SpawnRequest, Stage, Start, Stdin, Welcome};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group};

/// Longer than any scenario takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scenario {
    name: &'static str,
    play: fn(&mut World) -> Played<'_>,
    /// What the test does from outside while the keeper runs.
    beside: fn(&mut Child, &Path),
    answer_limit: Duration,
    open_files: Option<u64>,
    /// The controller is a file of the scenario's own folder, `controller`.
    own_program: bool,
    code: i32,
}

type Played<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

macro_rules! scenario {
    ($name:ident) => {
        Scenario {
            name: stringify!($name),
            play: |world| Box::pin($name(world)),
            beside: |_, _| (),
            answer_limit: Duration::from_secs(60),
            open_files: None,
            own_program: false,
            code: 0,
        }
    };
}

fn scenarios() -> Vec<Scenario> {
    // Who answers must have time for it, and a successor to begin, on a busy machine.
    let short = Duration::from_secs(2);
    vec![
        scenario!(a_process_is_spawned_and_its_output_and_end_are_told),
        scenario!(the_stage_and_errno_of_a_failed_spawn_are_told),
        scenario!(a_second_life_is_refused_while_anything_of_the_first_is_left),
        scenario!(what_has_ended_of_a_former_life_refuses_no_next_one),
        scenario!(a_child_that_hangs_before_its_exec_can_be_given_up_and_no_other),
        scenario!(a_populated_or_frozen_cgroup_refuses_a_life),
        scenario!(a_process_goes_through_every_entrance_before_it_is_executed),
        scenario!(everything_asked_for_is_what_the_process_gets),
        scenario!(a_start_time_is_what_proc_tells),
        scenario!(blobs_are_kept_replaced_and_bounded),
        scenario!(an_environment_of_any_size_arrives),
        scenario!(a_killed_controller_finds_lives_logs_and_deposits_again),
        scenario!(the_keeper_executes_itself_under_load_and_loses_nothing),
        scenario!(a_thousand_spawns_with_orphans_leave_no_zombie),
        scenario!(children_killed_on_their_way_to_exec_leave_no_descriptor),
        scenario!(below_a_reaper_a_life_ends_as_any_other_and_what_it_leaves_is_the_reaper_s),
        scenario!(a_life_below_a_reaper_outlives_the_controller_the_keeper_s_program_and_the_reaper),
        scenario!(a_controller_that_does_not_read_for_a_while_misses_nothing),
        Scenario { answer_limit: short, ..scenario!(a_hung_controller_is_killed_and_another_started) },
        Scenario {
            beside: place_controller,
            own_program: true,
            ..scenario!(a_missing_controller_is_tried_until_it_is_there)
        },
        scenario!(an_upgrade_that_is_ready_takes_the_keeper_along),
        Scenario { answer_limit: short, ..scenario!(an_upgrade_that_does_not_come_up_is_taken_back) },
        Scenario {
            beside: stop_without_controller,
            own_program: true,
            answer_limit: short,
            code: 128 + 15,
            ..scenario!(without_a_controller_the_keeper_stops_everything_itself)
        },
        Scenario {
            beside: stop_without_readiness,
            // A sixth of it is longer than any pause between two controllers.
            answer_limit: Duration::from_secs(12),
            code: 128 + 15,
            ..scenario!(a_controller_that_never_gets_ready_holds_up_no_stop)
        },
        Scenario { beside: send_signals, ..scenario!(signals_become_events) },
        Scenario { open_files: Some(128), ..scenario!(at_the_limit_of_descriptors_a_spawn_is_refused) },
        scenario!(the_rate_of_spawns),
        Scenario { beside: kill_the_keeper, code: -9, ..scenario!(the_controller_dies_with_its_keeper) },
    ]
}

// ── the world of a scenario ──

struct World {
    keeper: Link,
    welcome: Welcome,
    dir: PathBuf,
    pids: Vec<i32>,
}

struct Alive {
    pid: i32,
    start_time: u64,
    log: fs::File,
    stderr: Option<fs::File>,
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn id(key: &str) -> Id {
    Id::new(key, 1)
}

fn program(key: &str, argv: &[&str]) -> SpawnRequest {
    SpawnRequest::new(id(key), text(argv.first().expect("a program")), argv.iter().map(|word| text(word)).collect())
}

fn shell(key: &str, script: &str) -> SpawnRequest {
    SpawnRequest { env: vec![text("PATH=/usr/bin:/bin")], ..program(key, &["/bin/sh", "-c", script]) }
}

fn all_of(mut log: fs::File) -> String {
    let mut content = String::new();
    log.read_to_string(&mut content).expect("a log is readable");
    content
}

impl World {
    async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.keeper.next()).await.expect("an event in time").expect("a link")
    }

    async fn until<T>(&mut self, mut found: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(it) = found(self.event().await) {
                return it;
            }
        }
    }

    async fn spawn(&mut self, request: SpawnRequest) -> Alive {
        match self.try_spawn(request).await {
            Ok(alive) => alive,
            Err(why) => panic!("the spawn failed: {why:?}"),
        }
    }

    async fn try_spawn(&mut self, request: SpawnRequest) -> Result<Alive, (Stage, i32)> {
        let wanted = request.id.clone();
        self.keeper.spawn(request).expect("sent");
        let spawned = self
            .until(|event| match event {
                Event::Spawned { id, pid, start_time, log, log_stderr, .. } if id == wanted => {
                    Some(Ok(Alive { pid, start_time, log: log.into(), stderr: log_stderr.map(Into::into) }))
                }
                Event::SpawnFailed { id, stage, errno } if id == wanted => Some(Err((stage, errno))),
                _ => None,
            })
            .await;
        self.pids.extend(spawned.as_ref().map(|alive| alive.pid).ok());
        spawned
    }

    async fn end_of(&mut self, wanted: &Id) -> How {
        self.until(|event| match event {
            Event::Exited { id, exit } if id == *wanted => Some(exit.how),
            _ => None,
        })
        .await
    }

    async fn list(&mut self) -> (BTreeMap<Id, keeper::Entry>, Vec<(Box<[u8]>, OwnedFd)>) {
        self.keeper.list();
        let (mut entries, mut deposits) = (BTreeMap::new(), Vec::new());
        self.until(|event| match event {
            Event::Entry(entry) => {
                entries.insert(entry.id.clone(), entry);
                None
            }
            Event::Deposited { key, fd } => {
                deposits.push((key, fd));
                None
            }
            Event::Listed => Some(()),
            _ => None,
        })
        .await;
        (entries, deposits)
    }

    fn die(&self) -> ! {
        kill_process(rustix::process::getpid(), Signal::KILL).expect("may kill itself");
        unreachable!("it was killed")
    }

    fn generation(&self) -> u32 {
        self.welcome.controllers_started
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl World {
    /// Before the keeper leaves, for the controller goes with it.
    fn end_all(&self) {
        for pid in self.pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _gone_already = kill_process_group(pid, Signal::KILL);
        }
    }
}

// ── scenarios ──

async fn a_process_is_spawned_and_its_output_and_end_are_told(world: &mut World) {
    let first = world.spawn(shell("a/0", "echo out; echo err >&2; exit 7")).await;
    assert!(first.pid > 0 && first.start_time > 0);
    assert_eq!(world.end_of(&id("a/0")).await, How::Code(7));
    assert_eq!(all_of(first.log), "out\nerr\n");

    let apart = SpawnRequest { separate_stderr: true, ..shell("b/0", "echo out; echo err >&2; kill -9 $$") };
    let second = world.spawn(apart).await;
    assert_eq!(world.end_of(&id("b/0")).await, How::Signal(9));
    assert_eq!(all_of(second.log), "out\n");
    assert_eq!(all_of(second.stderr.expect("its own pipe")), "err\n");

    let (entries, _) = world.list().await;
    assert_eq!(entries.get(&id("a/0")).and_then(|entry| entry.exit).map(|exit| exit.how), Some(How::Code(7)));
    assert_eq!(entries.len(), 2);
    world.keeper.forget(&id("a/0"));
    world.keeper.forget(&id("b/0"));
    assert!(world.list().await.0.is_empty());
}

async fn the_stage_and_errno_of_a_failed_spawn_are_told(world: &mut World) {
    let plain_file = world.path("plain");
    fs::write(&plain_file, "not a program").expect("written");
    let mut cases = vec![
        (program("x/0", &["/nonexistent/program"]), Stage::Exec, libc::ENOENT),
        (program("x/0", &[plain_file.to_str().expect("a path")]), Stage::Exec, libc::EACCES),
        (SpawnRequest { working_dir: Some(text("/nonexistent")), ..shell("x/0", "") }, Stage::WorkingDir, libc::ENOENT),
        (SpawnRequest { limits: vec![(7, 10, 5)], ..shell("x/0", "") }, Stage::Limits, libc::EINVAL),
        (SpawnRequest { oom_score_adj: Some(5000), ..shell("x/0", "") }, Stage::OomScore, libc::EINVAL),
    ];
    let null = Arc::new(OwnedFd::from(fs::File::open("/dev/null").expect("/dev/null")));
    let twice = vec![(Arc::clone(&null), 5), (null, 5)];
    cases.push((SpawnRequest { extra_fds: twice, ..shell("x/0", "") }, Stage::Request, libc::EINVAL));
    for (request, stage, errno) in cases {
        for plain_fork in [false, true] {
            let request = SpawnRequest { plain_fork, ..request.clone() };
            assert_eq!(world.try_spawn(request).await.err(), Some((stage, errno)), "plain: {plain_fork}");
        }
    }
    assert!(world.list().await.0.is_empty(), "nothing is left of a spawn that failed");
    for plain_fork in [false, true] {
        world.spawn(SpawnRequest { plain_fork, ..shell("x/0", "exit 3") }).await;
        assert_eq!(world.end_of(&id("x/0")).await, How::Code(3));
        world.keeper.forget(&id("x/0"));
    }
}

async fn a_second_life_is_refused_while_anything_of_the_first_is_left(world: &mut World) {
    let life = |number| SpawnRequest { id: Id::new("a/0", number), ..shell("a/0", "sleep 30 & read x") };
    let (read, write) = std::io::pipe().expect("a pipe");
    let stdin = Stdin::Fd(Arc::new(OwnedFd::from(read)));
    let first = world.spawn(SpawnRequest { stdin, ..life(1) }).await;
    assert_eq!(world.try_spawn(life(1)).await.err(), Some((Stage::Request, libc::EEXIST)));
    assert_eq!(world.try_spawn(life(2)).await.err(), Some((Stage::Request, libc::EBUSY)));

    drop(write); // the shell ends, its sleep does not
    world.end_of(&Id::new("a/0", 1)).await;
    assert_eq!(world.try_spawn(life(1)).await.err(), Some((Stage::Request, libc::EEXIST)));
    assert_eq!(world.try_spawn(life(2)).await.err(), Some((Stage::Request, libc::EBUSY)));

    kill_process_group(Pid::from_raw(first.pid).expect("a pid"), Signal::KILL).expect("its group is there");
    // The sleep is the keeper's orphan: it is gone when the keeper has reaped it.
    while let Err(why) = world.try_spawn(life(2)).await {
        assert_eq!(why, (Stage::Request, libc::EBUSY));
    }
    world.spawn(shell("b/0", "exit 0")).await; // another instance is not concerned
}

/// The next life may come before the keeper's look for orphans does, which is at most every 20 ms.
async fn what_has_ended_of_a_former_life_refuses_no_next_one(world: &mut World) {
    for round in 0..20 {
        let key = format!("a{round}/0");
        let life = |number| SpawnRequest { id: Id::new(&key, number), ..shell(&key, "sleep 30 & echo $!; wait") };
        let first = world.spawn(life(1)).await;
        let mut line = [0; 32];
        let length = (&first.log).read(&mut line).expect("the number of its sleep");
        let sleep = std::str::from_utf8(&line[..length]).expect("digits").trim().to_owned();
        kill_process_group(Pid::from_raw(first.pid).expect("a pid"), Signal::KILL).expect("its group is there");
        world.end_of(&Id::new(&key, 1)).await;
        let has_ended = || match fs::read_to_string(format!("/proc/{sleep}/stat")) {
            Ok(stat) => stat.contains(") Z"),
            Err(_) => true,
        };
        while !has_ended() {}
        assert_eq!(world.try_spawn(life(2)).await.err(), None, "round {round}");
    }
}

async fn a_child_that_hangs_before_its_exec_can_be_given_up_and_no_other(world: &mut World) {
    // One that runs is not touched.
    world.spawn(SpawnRequest { plain_fork: true, ..shell("good/0", "exec sleep 1000") }).await;
    world.keeper.abandon(&id("good/0"));

    let dead = world.path("dead");
    fs::create_dir(&dead).expect("a mount point");
    let server = match fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(server) => server,
        Err(error) => return eprintln!("    /dev/fuse cannot be opened ({error}): not shown"),
    };
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "dead"]).arg(&dead);
    let mounted = mount.stdin(Stdio::from(server.try_clone().expect("a copy"))).output().expect("mount(8)");
    if !mounted.status.success() {
        return eprintln!("    no file system that hangs can be mounted here: not shown");
    }
    let into = text(dead.to_str().expect("a path"));
    let hangs = SpawnRequest { plain_fork: true, working_dir: Some(into), ..shell("hung/0", "exit 0") };
    world.keeper.spawn(hangs).expect("sent");
    // The keeper goes on meanwhile.
    world.spawn(shell("other/0", "exit 0")).await;
    assert_eq!(world.end_of(&id("other/0")).await, How::Code(0));
    world.keeper.abandon(&id("hung/0"));
    assert_eq!(world.end_of(&id("hung/0")).await, How::Signal(9));
    drop(server);
    assert!(Command::new("umount").args(["-i", "-l"]).arg(&dead).status().expect("umount(8)").success());
    assert!(world.list().await.0.get(&id("good/0")).is_some_and(|entry| entry.exit.is_none()));
}

async fn a_populated_or_frozen_cgroup_refuses_a_life(world: &mut World) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let root = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [_, at, "cgroup2", ..] => Some(PathBuf::from(at)),
        _ => None,
    });
    let group = root.map(|root| root.join(format!("plugd-keeper-test-{}", std::process::id())));
    let Some(group) = group.filter(|group| fs::create_dir(group).is_ok()) else {
        return println!("NOT SHOWN, no cgroup v2 can be written here: a_populated_or_frozen_cgroup_refuses_a_life");
    };
    let directory = Arc::new(OwnedFd::from(fs::File::open(&group).expect("a directory")));
    let life = |key: &str, number, plain_fork| SpawnRequest {
        id: Id::new(key, number),
        cgroup: Some(Arc::clone(&directory)),
        plain_fork,
        ..shell(key, "setsid sleep 30 & exit 0")
    };
    for (number, plain_fork) in [(1, false), (2, true)] {
        world.spawn(life("a/0", number, plain_fork)).await;
        world.end_of(&Id::new("a/0", number)).await;
        assert_eq!(world.try_spawn(life("a/0", 9, false)).await.err(), Some((Stage::Request, libc::EBUSY)));
        let helper = SpawnRequest { joins_cgroup: true, ..life("helper", number, false) };
        world.spawn(helper).await;
        fs::write(group.join("cgroup.kill"), "1").expect("killed");
        while fs::read_to_string(group.join("cgroup.events")).expect("events").contains("populated 1") {
            tokio::task::yield_now().await;
        }
    }
    fs::write(group.join("cgroup.freeze"), "1").expect("frozen");
    assert_eq!(world.try_spawn(life("a/0", 9, false)).await.err(), Some((Stage::Request, libc::EBUSY)));
    fs::remove_dir(&group).expect("it is empty");
}

async fn a_process_goes_through_every_entrance_before_it_is_executed(world: &mut World) {
    // An entrance is a file `cgroup.procs`; what is written there can be seen in any other.
    for (number, plain_fork) in [(1, false), (2, true)] {
        let path = |n: usize| world.dir.join(format!("entrance{number}-{n}"));
        let paths = [path(0), path(1), path(2)];
        let entrances = paths.iter().map(|path| Arc::new(OwnedFd::from(fs::File::create(path).expect("a file"))));
        let script = format!(
            "cat {0} {1} {2}; echo; ls /proc/self/fd",
            paths[0].display(),
            paths[1].display(),
            paths[2].display()
        );
        let request = SpawnRequest { entrances: entrances.collect(), plain_fork, ..shell("through/0", &script) };
        let alive = world.spawn(SpawnRequest { id: Id::new("through/0", number), ..request }).await;
        assert_eq!(all_of(alive.log).split_whitespace().collect::<Vec<_>>(), ["000", "0", "1", "2", "3"]);
        world.end_of(&Id::new("through/0", number)).await;

        let closed = Arc::new(OwnedFd::from(fs::File::open(&paths[0]).expect("a file")));
        let request = SpawnRequest { entrances: vec![closed], plain_fork, ..shell("closed/0", "true") };
        assert_eq!(world.try_spawn(request).await.err(), Some((Stage::Cgroup, libc::EBADF)));
    }
}

async fn everything_asked_for_is_what_the_process_gets(world: &mut World) {
    let script = "pwd; umask; nice; ulimit -c; echo pid=$LISTEN_PID self=$$; echo $GREETING; cat <&5; cat <&3; cat; \
        for f in /proc/self/fd/*; do echo fd ${f##*/}; done; \
        grep -E '^(SigBlk|SigIgn|SigCgt|NoNewPrivs|Uid|Gid|Groups|NSsid|NSpgid|NSpid):' /proc/self/status";
    let lives = world.path("lives");
    let file = |content: &str| {
        let (read, mut write) = std::io::pipe().expect("a pipe");
        write.write_all(content.as_bytes()).expect("written");
        Arc::new(OwnedFd::from(read))
    };
    let table = fs::OpenOptions::new().append(true).create(true).open(&lives).expect("a file");
    let table = Arc::new(OwnedFd::from(table));
    let root = rustix::process::geteuid().is_root();
    for plain_fork in [false, true] {
        let key = format!("all/{}", u8::from(plain_fork));
        let request = SpawnRequest {
            env: vec![text("PATH=/usr/bin:/bin"), text("GREETING=hello there"), text("LISTEN_PID=1")],
            working_dir: Some(text("/usr")),
            umask: Some(0o027),
            nice: Some(5),
            oom_score_adj: Some(321),
            limits: vec![(4, 0, 0)], // RLIMIT_CORE
            no_new_privs: true,
            listen_pid: true,
            identity: root.then(|| keeper::Identity { uid: 65534, gid: 65533, groups: vec![7, 8] }),
            stdin: Stdin::Fd(file("on zero\n")),
            // Numbers that other descriptors of the keeper have, in an order that would overwrite.
            extra_fds: vec![(file("on five\n"), 5), (file("on three\n"), 3), (file(""), 4)],
            life_line: Some((Arc::clone(&table), format!("{key} 1").into_bytes())),
            plain_fork,
            ..shell(&key, script)
        };
        let alive = world.spawn(request).await;
        assert_eq!(world.end_of(&id(&key)).await, How::Code(0));
        let output = all_of(alive.log);
        let has = |wanted: &str| assert!(output.lines().any(|line| line == wanted), "{wanted:?} in {output}");
        let pid = alive.pid;
        ["/usr", "0027", "5", "0", "hello there", "on zero", "on three", "on five"].iter().for_each(|line| has(line));
        has(&format!("pid={pid} self={pid}"));
        ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "NoNewPrivs:\t1"].iter().for_each(|line| has(line));
        if root {
            has("Uid:\t65534\t65534\t65534\t65534");
            has("Gid:\t65533\t65533\t65533\t65533");
            has("Groups:\t7 8 ");
        }
        let session = output.lines().find_map(|line| line.strip_prefix("NSsid:\t")).expect("a session");
        assert_eq!(session, pid.to_string());
        // 0 to 5 were given; one more is the shell's or ls's own look at the directory.
        let open: BTreeSet<_> = output.lines().filter_map(|line| line.strip_prefix("fd ")).collect();
        assert!(["0", "1", "2", "3", "4", "5"].iter().all(|number| open.contains(number)), "{open:?}");
        assert!(open.len() <= 7, "{open:?}");
        let line = format!("{key} 1 {pid} {}", alive.start_time);
        assert!(fs::read_to_string(&lives).expect("the table").lines().any(|found| found == line), "{line}");
    }
}

async fn a_start_time_is_what_proc_tells(world: &mut World) {
    // Over all parts of a tick: each start takes some of it.
    for number in 0..150 {
        let key = format!("a/{number}");
        let alive = world.spawn(shell(&key, "exec sleep 30")).await;
        let stat = fs::read_to_string(format!("/proc/{}/stat", alive.pid)).expect("it runs");
        let told = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(20)).expect("field 22");
        assert_eq!(alive.start_time.to_string(), told, "{key}");
        kill_process_group(Pid::from_raw(alive.pid).expect("a pid"), Signal::KILL).expect("it is there");
        assert_eq!(world.end_of(&id(&key)).await, How::Signal(9));
    }
}

async fn blobs_are_kept_replaced_and_bounded(world: &mut World) {
    let with = |blob: Vec<u8>| SpawnRequest { blob, ..shell("a/0", "exec sleep 30") };
    assert_eq!(world.try_spawn(with(vec![1; 1025])).await.err(), Some((Stage::Request, libc::EMSGSIZE)));
    world.spawn(with(vec![1; 1024])).await;
    let blob = |entries: BTreeMap<Id, keeper::Entry>| entries.into_values().next().expect("an entry").blob;
    assert_eq!(blob(world.list().await.0), vec![1; 1024]);
    world.keeper.set_blob(&id("a/0"), b"another");
    assert_eq!(blob(world.list().await.0), b"another");
    world.keeper.set_blob(&id("a/0"), &[2; 1025]);
    world.keeper.set_blob(&id("nobody/0"), b"nothing");
    assert_eq!(blob(world.list().await.0), b"another", "one that is too long changes nothing");
    let long_key = SpawnRequest { id: Id::new("k".repeat(129), 1), ..shell("x", "") };
    assert!(world.keeper.spawn(long_key).is_err());
}

async fn an_environment_of_any_size_arrives(world: &mut World) {
    for (key, size) in [("a/0", 30_000), ("b/0", 100_000), ("c/0", 120_000)] {
        let variables = (0..8).map(|number| text(&format!("V{number}={}", "x".repeat(size))));
        let mut request = shell(key, "echo ${#V0} ${#V7}");
        request.env.extend(variables);
        let alive = world.spawn(request).await;
        world.end_of(&id(key)).await;
        assert_eq!(all_of(alive.log), format!("{size} {size}\n"));
    }
    let mut request = shell("d/0", "");
    request.env.push(text(&format!("TOO_LONG={}", "x".repeat(200_000))));
    assert_eq!(world.try_spawn(request).await.err(), Some((Stage::Exec, libc::E2BIG)));
}

async fn a_killed_controller_finds_lives_logs_and_deposits_again(world: &mut World) {
    let lives = ["runs/0", "ended/0", "ends-meanwhile/0"].map(id);
    if world.generation() == 1 {
        let trigger = world.path("trigger");
        let meanwhile = format!("until [ -e {} ]; do sleep 0.01; done; echo late; exit 5", trigger.display());
        let requests = [
            shell("runs/0", "echo early; exec sleep 30"),
            shell("ended/0", "exit 4"),
            shell("ends-meanwhile/0", &meanwhile),
        ];
        let mut pids = String::new();
        for (number, request) in requests.into_iter().enumerate() {
            let request = SpawnRequest { blob: vec![number as u8; 9], separate_stderr: number == 0, ..request };
            pids += &format!("{} ", world.spawn(request).await.pid);
            if number == 1 {
                // Told while the next spawn is waited for it would be missed.
                world.end_of(&lives[1]).await;
            }
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        world.keeper.deposit(b"withdrawn", Arc::new(listener.try_clone().expect("a copy").into()));
        world.keeper.withdraw(b"withdrawn");
        world.keeper.deposit(b"listener", Arc::new(listener.into()));
        world.keeper.flush().await.expect("sent");
        fs::write(world.path("pids"), pids).expect("written");
        fs::write(trigger, "").expect("written");
        world.die();
    }
    assert_eq!(world.welcome.last_end, Some(How::Signal(9)));
    loop {
        let (entries, deposits) = world.list().await;
        assert_eq!(entries.keys().collect::<BTreeSet<_>>(), lives.iter().collect());
        let pids: Vec<_> = lives.iter().map(|life| entries[life].pid.to_string()).collect();
        assert_eq!(fs::read_to_string(world.path("pids")).expect("written").trim(), pids.join(" "));
        let [(key, listener)] = deposits.as_slice() else { panic!("{deposits:?}") };
        assert_eq!(&**key, b"listener");

        let runs = &entries[&lives[0]];
        assert!(runs.exit.is_none() && runs.log_stderr.is_some());
        assert_eq!(runs.blob, [0; 9]);
        assert!(entries[&lives[1]].exit.is_some_and(|exit| exit.how == How::Code(4)));
        world.pids = entries.values().filter(|entry| entry.exit.is_none()).map(|entry| entry.pid).collect();
        let Some(exit) = entries[&lives[2]].exit else { continue };
        assert_eq!(exit.how, How::Code(5));
        let listener = std::net::TcpListener::from(listener.try_clone().expect("a copy"));
        std::net::TcpStream::connect(listener.local_addr().expect("its port")).expect("it listens");
        let log = entries.into_iter().find(|(life, _)| *life == lives[2]).expect("an entry").1.log;
        return assert_eq!(all_of(log.into()), "late\n", "what was written without a controller is in the pipe");
    }
}

async fn the_keeper_executes_itself_under_load_and_loses_nothing(world: &mut World) {
    const LIVES: u64 = 300;
    let itself = CString::new(std::env::current_exe().expect("its path").into_os_string().into_vec()).expect("no NUL");
    let (mut asked, mut open, mut spawned, mut reexecuted) = (0, 0, BTreeSet::new(), 0);
    let mut exits = BTreeMap::new();
    let pid = world.welcome.keeper_pid;
    while exits.len() < LIVES as usize {
        while asked < LIVES && open < 32 {
            let request = SpawnRequest {
                id: Id::new(format!("s{asked}/0"), asked),
                plain_fork: asked % 5 == 0,
                reaper: asked % 7 == 0,
                ..shell("", &format!("exit {}", asked % 200))
            };
            world.keeper.spawn(request).expect("sent");
            if asked % 12 == 0 {
                world.keeper.reexec(&itself);
            }
            asked += 1;
            open += 1;
        }
        match world.event().await {
            Event::Spawned { id, .. } => assert!(spawned.insert(id.clone()), "{id} twice"),
            Event::Exited { id, exit } => {
                open -= 1;
                assert!(spawned.contains(&id), "{id} ended before it was spawned");
                world.keeper.forget(&id);
                assert!(exits.insert(id.life, exit.how).is_none(), "{id} ended twice");
            }
            Event::Reexecuted(result) => {
                result.expect("it can execute itself");
                reexecuted += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((spawned.len(), reexecuted), (LIVES as usize, LIVES as usize / 12));
    for (life, how) in exits {
        assert_eq!(how, How::Code(i32::try_from(life % 200).expect("small")));
    }
    assert_eq!(rustix::process::getppid(), Pid::from_raw(pid), "it is the same process");
    assert!(world.list().await.0.is_empty());
    world.keeper.reexec(c"/nonexistent");
    let refused = world.until(|event| if let Event::Reexecuted(result) = event { Some(result) } else { None }).await;
    assert_eq!(refused, Err(libc::ENOENT));
    world.spawn(shell("after/0", "exit 0")).await;
    let keeper_fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    assert!(keeper_fds < 20, "{keeper_fds} descriptors: some leaked");
}

async fn a_thousand_spawns_with_orphans_leave_no_zombie(world: &mut World) {
    let (mut asked, mut ended) = (0, 0);
    while ended < 1000 {
        while asked < 1000 && asked - ended < 32 {
            let script = "setsid sh -c 'sleep 0.01; exit 9' & exit 3";
            world
                .keeper
                .spawn(SpawnRequest { id: Id::new(format!("o{asked}/0"), 1), ..shell("", script) })
                .expect("sent");
            asked += 1;
        }
        if let Event::Exited { id, exit } = world.event().await {
            assert_eq!(exit.how, How::Code(3));
            world.keeper.forget(&id);
            ended += 1;
        }
    }
    // The controller is the only child in the end: levels, not moments.
    let keeper = world.welcome.keeper_pid;
    let children = || fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("its children");
    let deadline = Instant::now() + PATIENCE;
    while children().split_ascii_whitespace().count() > 1 {
        assert!(Instant::now() < deadline, "left: {}", children());
        tokio::task::yield_now().await;
    }
}

/// The process to which the orphans of a life fall.
fn reaper_of(entries: &BTreeMap<Id, keeper::Entry>, key: &str) -> Option<i32> {
    entries.get(&id(key)).expect("an entry").reaper.map(|reaper| reaper.pid)
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

async fn until_so(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn below_a_reaper_a_life_ends_as_any_other_and_what_it_leaves_is_the_reaper_s(world: &mut World) {
    let below = |request| SpawnRequest { reaper: true, ..request };
    for (script, how) in [("exit 7", How::Code(7)), ("kill -9 $$", How::Signal(9))] {
        let alive = world.spawn(below(shell("a/0", &format!("echo $$; {script}")))).await;
        assert_eq!(world.end_of(&id("a/0")).await, how);
        assert_eq!(all_of(alive.log), format!("{}\n", alive.pid), "the life is the process, not its reaper");
        world.keeper.forget(&id("a/0"));
    }
    let failed = world.try_spawn(below(program("a/0", &["/nonexistent/program"]))).await;
    assert_eq!(failed.err(), Some((Stage::Exec, libc::ENOENT)));

    // A daemon that leaves session, parents and environment behind.
    let file = world.path("daemon");
    let daemon =
        format!("(setsid env -i /bin/sh -c 'echo $$ > {}; exec sleep 1000' &); read x; exit 0", file.display());
    let (read, write) = std::io::pipe().expect("a pipe");
    let stdin = Stdin::Fd(Arc::new(OwnedFd::from(read)));
    let alive = world.spawn(below(SpawnRequest { stdin, ..shell("a/0", &daemon) })).await;
    let reaper = reaper_of(&world.list().await.0, "a/0").expect("a reaper");
    assert_eq!(parent_of(alive.pid), Some(reaper));
    wait_for(&file);
    let pid = || fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok();
    until_so("the daemon falls to the reaper", async || pid().and_then(parent_of) == Some(reaper)).await;
    drop(write);
    assert_eq!(world.end_of(&id("a/0")).await, How::Code(0));
    assert_eq!(reaper_of(&world.list().await.0, "a/0"), Some(reaper), "until nothing is left");
    kill_process(pid().and_then(Pid::from_raw).expect("a pid"), Signal::KILL).expect("it runs");
    until_so("the reaper goes with the last", async || reaper_of(&world.list().await.0, "a/0").is_none()).await;
}

async fn a_life_below_a_reaper_outlives_the_controller_the_keeper_s_program_and_the_reaper(world: &mut World) {
    let asks = |key: &str| SpawnRequest { reaper: true, ..shell(key, "read x; exit 7") };
    if world.generation() == 1 {
        for key in ["a/0", "b/0"] {
            let (read, write) = std::io::pipe().expect("a pipe");
            world.keeper.deposit(key.as_bytes(), Arc::new(OwnedFd::from(write)));
            world.spawn(SpawnRequest { stdin: Stdin::Fd(Arc::new(OwnedFd::from(read))), ..asks(key) }).await;
        }
        world.keeper.flush().await.expect("sent");
        world.list().await;
        world.die();
    }
    world.keeper.reexec(c"/proc/self/exe");
    world.until(|event| matches!(event, Event::Reexecuted(Ok(()))).then_some(())).await;
    let (entries, deposits) = world.list().await;
    let (first, second) = (reaper_of(&entries, "a/0"), reaper_of(&entries, "b/0"));
    assert!(first.is_some() && second.is_some() && first != second);

    // One is killed: its child falls to the keeper, which reaps it itself.
    kill_process(second.and_then(Pid::from_raw).expect("a pid"), Signal::KILL).expect("it runs");
    let main = entries.get(&id("b/0")).expect("an entry").pid;
    let keeper = world.welcome.keeper_pid;
    until_so("the life falls to the keeper", async || parent_of(main) == Some(keeper)).await;
    drop(deposits);
    for key in ["a/0", "b/0"] {
        world.keeper.withdraw(key.as_bytes());
        assert_eq!(world.end_of(&id(key)).await, How::Code(7));
    }
}

async fn children_killed_on_their_way_to_exec_leave_no_descriptor(world: &mut World) {
    const LIVES: u64 = 1000;
    let keeper = world.welcome.keeper_pid;
    let own = std::process::id().to_string();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let killer = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("children");
                for pid in children.split_ascii_whitespace().filter(|pid| *pid != own) {
                    let _gone = Pid::from_raw(pid.parse().expect("a pid")).map(|pid| kill_process(pid, Signal::KILL));
                }
            }
        }
    });
    let lives = fs::OpenOptions::new().append(true).create(true).open(world.path("lives")).expect("a file");
    let lives = Arc::new(OwnedFd::from(lives));
    let (mut asked, mut over_with) = (0, 0);
    while over_with < LIVES {
        while asked < LIVES && asked - over_with < 16 {
            let request = SpawnRequest {
                id: Id::new(format!("k{asked}/0"), 1),
                oom_score_adj: Some(1),
                life_line: Some((Arc::clone(&lives), b"k".to_vec())),
                reaper: asked % 3 == 0,
                ..program("", &["/bin/true"])
            };
            world.keeper.spawn(request).expect("sent");
            asked += 1;
        }
        match world.event().await {
            Event::Exited { id, .. } => {
                world.keeper.forget(&id);
                over_with += 1;
            }
            Event::SpawnFailed { .. } => over_with += 1,
            _ => {}
        }
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    killer.join().expect("it only killed");
    world.spawn(shell("after/0", "exit 0")).await;
    let keeper_fds = fs::read_dir(format!("/proc/{keeper}/fd")).expect("its descriptors").count();
    assert!(keeper_fds < 20, "{keeper_fds} descriptors: some leaked");
}

async fn a_controller_that_does_not_read_for_a_while_misses_nothing(world: &mut World) {
    const LIVES: u64 = 3000;
    // All are asked for before anything is read: the socket fills, the client's queue and the keeper's too.
    for life in 0..LIVES {
        let request = SpawnRequest { id: Id::new(format!("s{life}/0"), 1), ..program("", &["/nonexistent"]) };
        let request =
            if life % 10 == 0 { SpawnRequest { id: request.id, ..program("", &["/bin/true"]) } } else { request };
        world.keeper.spawn(request).expect("queued");
    }
    world.keeper.list();
    let (mut failed, mut ended, mut listed) = (0, 0, false);
    while failed + ended < LIVES || !listed {
        match world.event().await {
            Event::SpawnFailed { stage, errno, .. } => {
                assert_eq!((stage, errno), (Stage::Exec, libc::ENOENT));
                failed += 1;
            }
            Event::Exited { .. } => ended += 1,
            Event::Listed => listed = true,
            _ => {}
        }
    }
    assert_eq!((failed, ended), (LIVES - LIVES / 10, LIVES / 10));
}

async fn a_hung_controller_is_killed_and_another_started(world: &mut World) {
    if world.generation() == 1 {
        world.spawn(shell("a/0", "exec sleep 30")).await;
        std::thread::sleep(PATIENCE * 10); // it hangs: nothing is read, no ping answered
    }
    assert_eq!((world.generation(), world.welcome.last_end), (2, Some(How::Signal(9))));
    let (entries, _) = world.list().await;
    world.pids = entries.values().map(|entry| entry.pid).collect();
    assert!(entries[&id("a/0")].exit.is_none(), "the service was not touched");
    // One that answers lives on: twice the limit, counted by a service's end.
    world.spawn(shell("b/0", "sleep 4.1")).await;
    world.end_of(&id("b/0")).await;
}

async fn a_missing_controller_is_tried_until_it_is_there(world: &mut World) {
    assert!(world.generation() > 4, "{}", world.generation());
    assert_eq!(world.welcome.last_end, Some(How::Code(127)));
    // It is told of what was sent while there was none.
    let mut missing = BTreeSet::from([libc::SIGUSR1, libc::SIGUSR2]);
    while !missing.is_empty() {
        if let Event::Signal(signal) = world.event().await {
            missing.remove(&signal);
        }
    }
}

/// Waits until it was tried five times, of which the keeper tells four, sends it signals, and then puts one
/// there.
fn place_controller(keeper: &mut Child, dir: &Path) {
    let said = || fs::read_to_string(dir.join("stderr")).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while said().matches("cannot start the controller").count() < 4 {
        assert!(Instant::now() < deadline, "it is not tried: {}", said());
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(keeper, Signal::USR1);
    signal(keeper, Signal::USR2);
    place(dir);
}

fn place(dir: &Path) {
    let itself = std::env::current_exe().expect("its path");
    fs::copy(itself, dir.join("new")).expect("copied");
    fs::rename(dir.join("new"), dir.join("controller")).expect("renamed");
}

async fn an_upgrade_that_is_ready_takes_the_keeper_along(world: &mut World) {
    let keeper = world.welcome.keeper_pid;
    let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).expect("its program");
    let new = world.path("new");
    if world.generation() == 1 {
        world.spawn(shell("a/0", "exec sleep 30")).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        world.keeper.deposit(b"listener", Arc::new(listener.into()));
        fs::copy(program(keeper), &new).expect("copied");
        world.keeper.upgrade(&CString::new(new.into_os_string().into_vec()).expect("no NUL"));
        world.keeper.flush().await.expect("sent");
        // As a controller that tidies up: its end of the socket goes first.
        #[expect(unsafe_code, reason = "the link has no other name for it")]
        // SAFETY: 3 is the socket, which the link holds open.
        let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(3) };
        rustix::net::shutdown(socket, rustix::net::Shutdown::Both).expect("shut");
        std::thread::sleep(Duration::from_millis(50));
        std::process::exit(0);
    }
    assert_eq!((world.generation(), world.welcome.taken_back), (2, false));
    assert_eq!(world.welcome.last_end, Some(How::Code(0)), "the old one had time to leave");
    assert_eq!(program(std::process::id().cast_signed()), new);
    assert_ne!(program(keeper), new, "not before it is ready");
    world.keeper.ready();
    let taken = world.until(|event| if let Event::Reexecuted(result) = event { Some(result) } else { None }).await;
    assert_eq!((taken, program(keeper)), (Ok(()), new));
    let (entries, deposits) = world.list().await;
    assert!(entries[&id("a/0")].exit.is_none() && deposits.len() == 1);
    world.pids = entries.values().map(|entry| entry.pid).collect();
    world.spawn(shell("b/0", "exit 3")).await;
    assert_eq!(world.end_of(&id("b/0")).await, How::Code(3));
}

async fn an_upgrade_that_does_not_come_up_is_taken_back(world: &mut World) {
    // Is not there; ends at once; ends late; never gets ready; refuses.
    let bad = ["", "#!/bin/sh\nexit 3\n", "#!/bin/sh\nsleep 0.1\n", "#!/bin/sh\nexec sleep 1000\n", "itself"];
    let rounds = world.path("rounds");
    let program = fs::read_link("/proc/self/exe").expect("its path");
    if program == world.path("bad4") {
        world.keeper.leave(7);
        world.keeper.flush().await.expect("sent");
        std::future::pending::<()>().await;
    }
    if world.generation() == 1 {
        world.spawn(shell("a/0", "exec sleep 60")).await;
        fs::write(&rounds, "").expect("written");
    } else {
        assert!(world.welcome.taken_back);
    }
    let round = fs::read_to_string(&rounds).expect("written").len();
    let (entries, _) = world.list().await;
    world.pids = entries.values().map(|entry| entry.pid).collect();
    assert!(entries[&id("a/0")].exit.is_none(), "the service was not touched");
    let Some(text) = bad.get(round) else { return };
    fs::write(&rounds, "x".repeat(round + 1)).expect("written");
    let path = world.path(&format!("bad{round}"));
    if *text == "itself" {
        fs::copy(&program, &path).expect("copied");
    } else if !text.is_empty() {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    world.keeper.upgrade(&CString::new(path.into_os_string().into_vec()).expect("no NUL"));
    world.keeper.flush().await.expect("sent");
    std::process::exit(0);
}

async fn without_a_controller_the_keeper_stops_everything_itself(world: &mut World) {
    let log = |word: &str| format!("trap 'echo {word} >> {}; exit 0' TERM; ", world.path("order").display());
    let polite = format!("{} echo > {}/ready; while :; do sleep 0.01; done", log("polite"), world.dir.display());
    // A stopped process hears nothing until it goes on.
    let stopped = format!("{} kill -STOP $$; while :; do sleep 0.01; done", log("stopped"));
    let stubborn = "trap '' TERM; while :; do sleep 0.01; done".to_string();
    let first = format!("{} echo > {}/first; while :; do sleep 0.01; done", log("first"), world.dir.display());
    let mut pids = String::new();
    let all = [("first/0", first), ("stopped/0", stopped), ("stubborn/0", stubborn), ("polite/0", polite)];
    for (key, script) in all {
        let reaper = key == "stubborn/0" || key == "polite/0";
        let request = SpawnRequest { stop_grace: Duration::from_millis(400), reaper, ..shell(key, &script) };
        pids += &format!("{} ", world.spawn(request).await.pid);
    }
    fs::write(world.path("pids"), &pids).expect("written");
    fs::remove_file(world.path("controller")).expect("it was there");
    let is_stopped = || {
        let pid = pids.split_ascii_whitespace().nth(1).expect("the second of them");
        fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives").contains(") T ")
    };
    while !world.path("first").exists() || !world.path("ready").exists() || !is_stopped() {
        tokio::task::yield_now().await;
    }
    fs::write(world.path("gone"), "").expect("written");
    world.die();
}

fn stop_without_controller(keeper: &mut Child, dir: &Path) {
    place(dir);
    wait_for(&dir.join("gone"));
    signal(keeper, Signal::TERM);
    keeper.wait().expect("its end");
    let pids = fs::read_to_string(dir.join("pids")).expect("written");
    for pid in pids.split_ascii_whitespace() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is left");
    }
    let order = fs::read_to_string(dir.join("order")).expect("written");
    assert_eq!(order.split_ascii_whitespace().collect::<BTreeSet<_>>(), BTreeSet::from(["first", "polite", "stopped"]));
}

async fn a_controller_that_never_gets_ready_holds_up_no_stop(world: &mut World) {
    match world.generation() {
        1 => {
            let script = format!(
                "trap 'echo polite > {0}/order; exit 0' TERM; echo > {0}/ready; while :; do sleep 0.01; done",
                world.dir.display()
            );
            let request = SpawnRequest { stop_grace: Duration::from_secs(8), ..shell("a/0", &script) };
            fs::write(world.path("pids"), world.spawn(request).await.pid.to_string()).expect("written");
            wait_for(&world.path("ready"));
        }
        // Whoever comes next has been told of the stop.
        4 => fs::write(world.path("gone"), "").expect("written"),
        _ => {}
    }
    world.die();
}

fn stop_without_readiness(keeper: &mut Child, dir: &Path) {
    wait_for(&dir.join("gone"));
    signal(keeper, Signal::TERM);
    keeper.wait().expect("its end");
    let pid = fs::read_to_string(dir.join("pids")).expect("written");
    assert!(!Path::new("/proc").join(&pid).exists(), "{pid} is left");
    assert_eq!(fs::read_to_string(dir.join("order")).expect("its last word"), "polite\n");
}

async fn signals_become_events(world: &mut World) {
    const SENT: [i32; 6] = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    if world.generation() == 1 {
        fs::write(world.path("ready"), world.welcome.keeper_pid.to_string()).expect("written");
        let mut missing = BTreeSet::from(SENT);
        while !missing.is_empty() {
            if let Event::Signal(signal) = world.event().await {
                missing.remove(&signal);
            }
        }
        world.die();
    }
    assert!(world.welcome.stop_heard.is_some(), "a new controller learns that it is to stop");
}

fn send_signals(keeper: &mut Child, dir: &Path) {
    wait_for(&dir.join("ready"));
    for name in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::INT, Signal::QUIT, Signal::TERM] {
        signal(keeper, name);
    }
}

async fn at_the_limit_of_descriptors_a_spawn_is_refused(world: &mut World) {
    let mut running = 0;
    let refused = loop {
        match world.try_spawn(shell(&format!("s{running}/0"), "exec sleep 30")).await {
            Ok(_) => running += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(refused, (Stage::Request, libc::EMFILE));
    assert!((15..64).contains(&running), "{running}");
    assert_eq!(world.list().await.0.len(), running);
    let (one, pid) = (id("s0/0"), world.pids[0]);
    kill_process_group(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it runs");
    world.end_of(&one).await;
    world.keeper.forget(&one);
    world.spawn(shell("after/0", "exit 0")).await;
}

async fn the_controller_dies_with_its_keeper(world: &mut World) {
    fs::write(world.path("pid.new"), std::process::id().to_string()).expect("written");
    fs::rename(world.path("pid.new"), world.path("pid")).expect("renamed");
    std::thread::sleep(PATIENCE * 10); // deaf to the closed socket: only the kernel can end it
}

fn kill_the_keeper(keeper: &mut Child, dir: &Path) {
    wait_for(&dir.join("pid"));
    let pid = fs::read_to_string(dir.join("pid")).expect("written");
    signal(keeper, Signal::KILL);
    keeper.wait().expect("its end");
    let deadline = Instant::now() + PATIENCE;
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    while state().is_some_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the controller outlived its keeper");
    }
}

/// Not a test but a measurement: `keeper-HASH the_rate` with PROGRAM in the environment.
async fn the_rate_of_spawns(world: &mut World) {
    const LIVES: u64 = 20_000;
    let path = std::env::var("PROGRAM").expect("PROGRAM");
    let (mut asked, mut ended) = (0, 0);
    let begun = Instant::now();
    while ended < LIVES {
        while asked < LIVES && asked - ended < 64 {
            world
                .keeper
                .spawn(SpawnRequest { id: Id::new(format!("s{}/0", asked % 64), asked), ..program("", &[&path]) })
                .expect("sent");
            asked += 1;
        }
        let mut event = Some(world.event().await);
        while let Some(fact) = event {
            match fact {
                Event::Exited { id, .. } => {
                    ended += 1;
                    world.keeper.forget(&id);
                }
                Event::SpawnFailed { errno, .. } => {
                    assert_eq!(errno, libc::EBUSY);
                    ended += 1;
                }
                _ => {}
            }
            event = world.keeper.try_next().expect("a link");
        }
    }
    eprintln!("{:.0} spawns and ends a second", LIVES as f64 / begun.elapsed().as_secs_f64());
    for life in 0..1000 {
        let request = SpawnRequest {
            id: Id::new(format!("idle{life}/0"), 1),
            blob: vec![7; 200],
            ..program("", &["/bin/sleep", "60"])
        };
        world.spawn(request).await;
    }
    let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", world.welcome.keeper_pid)).expect("smaps");
    smaps
        .lines()
        .filter(|line| line.starts_with("Pss") || line.starts_with("Private"))
        .for_each(|line| eprintln!("{line}"));
    panic!("measured");
}

// ── the roles of this binary ──

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the keeper runs");
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn be_keeper(scenario: &Scenario, dir: OsString) -> ! {
    if let Some(number) = scenario.open_files {
        let limit = Rlimit { current: Some(number), maximum: Some(number) };
        rustix::process::setrlimit(Resource::Nofile, limit).expect("a lower limit");
    }
    let own = Path::new(&dir).join("controller");
    keeper::run(Start {
        controller: if scenario.own_program { own } else { std::env::current_exe().expect("its path") },
        args: vec!["keeper-test".into(), "controller".into(), scenario.name.into(), dir],
        lock: None,
        shutdown_grace: Duration::from_secs(8),
        answer_limit: scenario.answer_limit,
    })
}

fn be_controller(scenario: &Scenario, dir: PathBuf) -> ! {
    // The runtime is of this thread alone, as the controller's is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        #[expect(unsafe_code, reason = "the one descriptor that the keeper hands over by its number")]
        // SAFETY: the keeper put the socket there and nothing else in this process has taken it.
        let socket = unsafe { OwnedFd::from_raw_fd(3) };
        assert_eq!(socket.as_raw_fd(), 3);
        let mut keeper = Link::connect(socket).expect("a link");
        let Event::Welcome(welcome) = keeper.next().await.expect("a word") else { panic!("no welcome") };
        let mut world = World { keeper, welcome, dir, pids: Vec::new() };
        let played = std::panic::AssertUnwindSafe((scenario.play)(&mut world));
        let code = match tokio::time::timeout(PATIENCE, catch(played)).await {
            Ok(Ok(())) => 0,
            Ok(Err(())) | Err(_) => 99,
        };
        world.end_all();
        world.keeper.leave(code);
        world.keeper.flush().await.expect("sent");
        while !matches!(world.event().await, Event::Closed) {}
    });
    std::process::exit(0)
}

async fn catch(played: std::panic::AssertUnwindSafe<Played<'_>>) -> Result<(), ()> {
    let mut played = played.0;
    std::future::poll_fn(move |context| {
        let step = std::panic::AssertUnwindSafe(|| played.as_mut().poll(context));
        match std::panic::catch_unwind(step) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(())),
        }
    })
    .await
}

/// Runs one keeper to its end; Err says what was wrong.
fn run(scenario: &Scenario) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = Command::new(std::env::current_exe().expect("its path"))
        .args(["keeper".as_ref(), scenario.name.as_ref(), dir.path().as_os_str()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(dir.path().join("stderr")).expect("a file"))
        .spawn()
        .expect("a process");
    let beside = std::panic::AssertUnwindSafe(|| (scenario.beside)(&mut keeper, dir.path()));
    let beside = std::panic::catch_unwind(beside);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match keeper.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            None => {
                keeper.kill().expect("it runs");
                break keeper.wait().expect("its end");
            }
        }
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
    if code == scenario.code && beside.is_ok() {
        return Ok(());
    }
    let said = fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
    Err(format!("the keeper ended with {code}, not {}; it said:\n{said}", scenario.code))
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let role = args.next().unwrap_or_default();
    let mut scenario = || {
        let name = args.next().expect("a scenario");
        scenarios().into_iter().find(|scenario| name == scenario.name).expect("a known scenario")
    };
    match role.to_str() {
        Some("keeper-resume") => {
            let state = args.next().and_then(|number| number.to_str()?.parse().ok()).expect("a number");
            keeper::resume(state)
        }
        Some("keeper") => be_keeper(&scenario(), args.next().expect("a folder")),
        Some("controller") => be_controller(&scenario(), args.next().expect("a folder").into()),
        // As cargo test calls it: words are filters, flags of the usual harness are passed over.
        _ => {
            let filters: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
            let chosen = |scenario: &Scenario| {
                filters.is_empty() && scenario.name != "the_rate_of_spawns"
                    || filters.iter().any(|word| scenario.name.contains(word.as_str()))
            };
            let mut failed = 0;
            for scenario in scenarios().iter().filter(|scenario| chosen(scenario)) {
                let begun = Instant::now();
                match run(scenario) {
                    Ok(()) => println!("test {} ... ok ({} ms)", scenario.name, begun.elapsed().as_millis()),
                    Err(why) => {
                        failed += 1;
                        println!("test {} ... FAILED: {why}", scenario.name);
                    }
                }
            }
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
