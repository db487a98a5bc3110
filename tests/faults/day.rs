//! A day in the life, much faster: fifty services, some that never stop crashing, many whose checks fail and pass
//! again, one that runs by the clock and one that runs when it is called, people who edit and ask. What plugd holds
//! does not grow.
//!
//! It is weighed at rest, after the first quarter (caches and rings are full by then) and after the last: with the
//! same services in the same state it has the same descriptors and threads and, but for less than a MiB, the same
//! memory.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::guard;
use crate::oracle::{Known, Oracle};
use crate::reads::Dice;
use crate::soak::times;
use crate::world::{PATIENCE, World, free_port};

const EDITED: usize = 28;
const CRASHING: usize = 5;
const PROBED: usize = 15;
/// Seconds of a quarter of the day: three minutes in all.
const QUARTER: usize = 45;
/// How long nobody calls before the one that is called is stopped.
const IDLE: Duration = Duration::from_secs(1);

/// What a server that comes and goes is open and closed.
const OPEN: Duration = Duration::from_millis(1_000);
const CLOSED: Duration = Duration::from_millis(2_000);
/// Two periods of its check, and what a busy machine takes for them: less than it is closed.
const NOTICED: Duration = Duration::from_millis(1_000);

/// What a process holds.
#[derive(Debug)]
struct Held {
    kib: u64,
    /// What they lead to, without numbers.
    descriptors: Vec<String>,
    /// Their names.
    threads: Vec<String>,
    /// Threads of the pool for looks that may block: one that nobody has needed for ten seconds ends.
    pooled: usize,
}

const POOL: &str = "tokio-rt-worker";
/// Each failing check may look which port its service has instead, all at once; a few are for those who ask.
const POOLED_MAX: usize = PROBED + 2;

fn held(pid: i32) -> Held {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let memory = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number");
    let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("it lives").flatten();
    // One that ends just now has no name any more.
    let name = |task: fs::DirEntry| Some(fs::read_to_string(task.path().join("comm")).ok()?.trim().to_string());
    let mut threads: Vec<String> = entries("task").filter_map(name).collect();
    threads.sort();
    let all = threads.len();
    threads.retain(|name| name != POOL);
    // One that is closed just now leads nowhere any more.
    let target = |descriptor: fs::DirEntry| Some(fs::read_link(descriptor.path()).ok()?.to_string_lossy().into_owned());
    let kind = |target: String| target.replace(|letter: char| letter.is_ascii_digit(), "");
    let mut descriptors: Vec<String> = entries("fd").filter_map(target).map(kind).collect();
    descriptors.sort();
    Held { kib, descriptors, pooled: all - threads.len(), threads }
}

/// What it holds between two checks: the least of many looks.
fn at_rest(pid: i32) -> Held {
    let (began, mut least) = (Instant::now(), held(pid));
    while began.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(3));
        let now = held(pid);
        least.kib = least.kib.min(now.kib);
        if now.descriptors.len() < least.descriptors.len() {
            least.descriptors = now.descriptors;
        }
        least.pooled = least.pooled.min(now.pooled);
        if now.threads.len() < least.threads.len() {
            least.threads = now.threads;
        }
    }
    least
}

/// A server that opens its port and closes it again, for ever; while it is open it answers every call.
fn comes_and_goes(world: &World, name: &str, n: usize) -> String {
    let port = free_port();
    let (open, closed) = (OPEN.as_secs_f32(), CLOSED.as_secs_f32());
    let server = world.root().join("comes-and-goes.py");
    let text = format!(
        "import socket, sys, time\n\
         while True:\n\
         \x20 with socket.socket() as door:\n\
         \x20   door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         \x20   door.bind(('127.0.0.1', int(sys.argv[1])))\n\
         \x20   door.listen(64)\n\
         \x20   over = time.monotonic() + {open}\n\
         \x20   while (left := over - time.monotonic()) > 0:\n\
         \x20     door.settimeout(left)\n\
         \x20     try:\n\
         \x20       with door.accept()[0] as caller:\n\
         \x20         caller.settimeout(0.1)\n\
         \x20         if caller.recv(4096):\n\
         \x20           caller.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n')\n\
         \x20     except OSError:\n\
         \x20       pass\n\
         \x20 time.sleep({closed})\n"
    );
    fs::write(&server, text).expect("written");
    let check = if n.is_multiple_of(2) { "tcpSocket: {}" } else { "httpGet: {path: /}" };
    guard::script(world, name, &format!("exec python3 {} {port}", server.display()))
        + &format!("port: {port}\nreadinessProbe: {{{check}, period: 100ms, failureThreshold: 2}}\n")
}

/// Calls the one that runs when it is called; whoever calls is answered, whatever that takes.
fn call(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("let in");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"GET /nothing HTTP/1.0\r\n\r\n").expect("said");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("404"), "{answer:?}");
}

struct Day {
    world: World,
    /// Of the one that runs when it is called.
    door: u16,
    /// When it was called last.
    called: Instant,
    dice: Dice,
    acts: usize,
}

impl Day {
    /// People edit, ask, restart and mistype.
    fn goes_on(&mut self, length: Duration) {
        let (world, began) = (&self.world, Instant::now());
        while began.elapsed() < length {
            self.acts += 1;
            // Long enough for it to be stopped in between.
            if self.called.elapsed() > 5 * IDLE {
                call(self.door);
                self.called = Instant::now();
            }
            let name = format!("s{}", self.dice.below(EDITED));
            match self.dice.below(6) {
                0 => drop(world.plugd(&["get"])),
                1 => drop(world.plugd(&["status", &name])),
                2 => drop(world.plugd(&["restart", &name])),
                3 => world.put(&format!("{name}.yaml"), "comand: [wrong\n"),
                _ => {
                    let text = guard::script(world, &name, &format!("exec sleep 86400.{}", self.acts));
                    world.put(&format!("{name}.yaml"), &text);
                }
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Nothing crashes for a while, and everything else is as it was in the beginning; then it is weighed.
    fn rests(&self, who: [i32; 2]) -> [Held; 2] {
        let crashing = || (0..CRASHING).map(|n| format!("crash{n}"));
        crashing().for_each(|name| self.world.remove(&format!("{name}.yaml")));
        for name in crashing() {
            self.world.wait(&format!("{name} to go"), |world| world.status_file(&name).is_none());
        }
        // What runs is what lies there: a word alone may be of the version before, which is about to be replaced.
        let runs = |world: &World, name: &str| {
            let line = world.pid(name).and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
            line.is_some_and(|line| line == b"sleep\x0086400\0")
                && world.status(name) == "running"
                && !world.status_file(name).is_some_and(|text| text.contains("problems:"))
        };
        for name in (0..EDITED).map(|n| format!("s{n}")) {
            self.world.put(&format!("{name}.yaml"), &guard::stays(&self.world, &name));
            self.world.wait(&format!("{name} to run"), |world| runs(world, &name));
        }
        self.world.wait_status("called", "waiting (OnDemand)");
        let held = who.map(at_rest);
        self.crash();
        held
    }

    /// Has the services that never stop crashing begin.
    fn crash(&self) {
        for name in (0..CRASHING).map(|n| format!("crash{n}")) {
            let quick = "restart: {backoff: {initial: 20ms, max: 600ms}}\n";
            let text = guard::script(&self.world, &name, "echo gone; exit 1") + quick;
            self.world.put(&format!("{name}.yaml"), &text);
        }
    }

    /// How often this was said of a service.
    fn told(&self, name: &str, reason: &str) -> usize {
        let (of, why) = (format!("service=\"{name}\""), format!("reason={reason}"));
        self.world.log().lines().filter(|line| line.contains(&of) && line.contains(&why)).count()
    }
}

#[test]
fn a_day_in_the_life_leaves_memory_descriptors_and_threads_as_they_were() {
    let world = World::running();
    for n in 0..EDITED {
        guard::put(&world, &format!("s{n}"));
    }
    let probed: Vec<String> = (0..PROBED).map(|n| format!("probed{n}")).collect();
    for (n, name) in probed.iter().enumerate() {
        world.put(&format!("{name}.yaml"), &comes_and_goes(&world, name, n));
    }
    // Each minute is as often as the clock can.
    world.put("clock.yaml", &(guard::script(&world, "clock", "exit 0") + "schedule: '* * * * *'\n"));
    // What is kept of the last run is there from the beginning, wherever in its minute the day begins.
    world.wait_status("clock", "waiting (NextRun)");
    world.ask(&["start", "clock"]);
    world.wait("its first run", |world| {
        world.status_file("clock").is_some_and(|text| text.contains("lastExit: {code: 0"))
    });
    let door = free_port();
    let serves = guard::script(&world, "called", "exec python3 -m http.server --bind 127.0.0.1 $PORT");
    let on_demand = format!("port: {door}\nactivation: {{onDemand: true, idleStop: {}s}}\n", IDLE.as_secs());
    world.put("called.yaml", &(serves + &on_demand));
    world.wait_status("called", "waiting (OnDemand)");
    let who = [world.controller_pid().expect("a controller"), world.node_pid()];
    let oracle = Oracle::watch_known(&world.dir(), Known { noticed_within: Some(NOTICED), ..Known::default() });
    let quarter = Duration::from_secs(times(QUARTER) as u64);
    let mut day = Day { world, door, called: Instant::now(), dice: Dice(6), acts: 0 };

    day.crash();
    day.goes_on(quarter);
    let morning = day.rests(who);
    day.goes_on(3 * quarter);
    let evening = day.rests(who);

    assert_eq!(day.world.controller_pid(), Some(who[0]), "no controller had to be replaced\n{}", day.world.log());
    let told = |held: &Held| {
        format!(
            "{} KiB, {} descriptors, {}+{} threads",
            held.kib,
            held.descriptors.len(),
            held.threads.len(),
            held.pooled
        )
    };
    for (which, at) in [("controller", 0), ("keeper", 1)] {
        eprintln!("    {} acts; {which} {} -> {}", day.acts, told(&morning[at]), told(&evening[at]));
    }
    for (before, after) in morning.iter().zip(&evening) {
        assert_eq!(after.threads, before.threads);
        assert_eq!(after.descriptors, before.descriptors);
        assert!(after.pooled <= POOLED_MAX, "{after:?}");
        assert!(after.kib.saturating_sub(before.kib) < 1024, "{before:?} -> {after:?}");
    }
    // At least half of the times that its port was opened and closed; on a busy machine a turn takes longer.
    let turns = (4 * quarter).div_duration_f32(OPEN + CLOSED) as usize / 2;
    for name in &probed {
        let (failed, healed) = (day.told(name, "NotReady"), day.told(name, "Recovered"));
        eprintln!("    {name} failed {failed} times and healed {healed} times");
        assert!(failed >= turns && healed >= turns, "{name}: {failed}, {healed} of {turns}\n{}", day.world.log());
        assert_eq!(day.world.field(name, "restarts").as_deref(), Some("0"));
        assert_eq!(guard::starts(&day.world, name).len(), 1, "no check here is one of its life");
    }
    let (runs, wakings) = (guard::starts(&day.world, "clock").len(), guard::starts(&day.world, "called").len());
    eprintln!("    {runs} runs by the clock, called awake {wakings} times");
    // A minute that has begun may not end within the day; it is called each five times its patience.
    let day_long = 4 * quarter;
    assert!(runs > (day_long.as_secs() / 60) as usize, "{runs} runs\n{}", day.world.log());
    assert!(wakings >= day_long.div_duration_f32(10 * IDLE) as usize, "{wakings} wakings\n{}", day.world.log());
    oracle.assert_no_lie();
    guard::assert_single(&day.world);
    guard::assert_calm(&day.world);
}
