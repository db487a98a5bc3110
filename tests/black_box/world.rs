//! A world for black-box tests: a directory of its own, the built binary, and questions about both.
//!
//! Nothing here sleeps and hopes: a test waits for a state, with a deadline that says what was awaited
//! and what was there instead.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    temp: tempfile::TempDir,
    node: Option<Child>,
    /// What is executed as plugd.
    pub program: PathBuf,
    /// What the node's own environment has besides.
    pub env: Vec<(&'static str, String)>,
    /// Words before the program: `unshare`, `setpriv` and the like, as long as they execute it in place.
    pub under: Vec<String>,
}

/// Copies a program that will be executed, by a process of its own: a file that this one had open for
/// writing could be so still in a child of another test, and would not be executed (ETXTBSY).
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-p").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is not written", to.display());
}

impl World {
    /// An empty `services.d`, nothing runs.
    pub fn empty() -> World {
        let temp = tempfile::Builder::new().prefix("plugd-test-").tempdir().expect("a temp folder");
        fs::create_dir(temp.path().join("services.d")).expect("services.d");
        World { temp, node: None, program: env!("CARGO_BIN_EXE_plugd").into(), env: Vec::new(), under: Vec::new() }
    }

    /// A copy of the program at `path`.
    pub fn copy_program(path: &Path) {
        copy(Path::new(env!("CARGO_BIN_EXE_plugd")), path);
    }

    /// An empty directory and a node that watches it.
    pub fn running() -> World {
        let mut world = World::empty();
        world.run(&[]);
        world
    }

    pub fn root(&self) -> &Path {
        self.temp.path()
    }

    pub fn dir(&self) -> PathBuf {
        self.root().join("services.d")
    }

    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Starts `plugd run` on the directory and waits until its controller has written its status.
    pub fn run(&mut self, flags: &[&str]) {
        // What the node before has left is of another controller.
        let before = self.controller_pid();
        self.spawn(flags);
        self.wait("the controller to say that it is there", |world| {
            world.controller_pid().is_some_and(|pid| Some(pid) != before)
        });
    }

    pub fn spawn(&mut self, flags: &[&str]) {
        let log = fs::File::create(self.root().join("plugd.log")).expect("a log file");
        self.spawn_saying(flags, log);
    }

    /// As [`World::spawn`], with standard output and error somewhere else.
    pub fn spawn_saying(&mut self, flags: &[&str], log: fs::File) {
        assert!(self.node.is_none(), "a node runs already");
        let mut words = self.under.iter().map(PathBuf::from).chain([self.program.clone()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).arg("run").args(flags).arg("--no-tee").arg("--state-dir").arg(self.state()).arg(self.dir());
        command.current_dir(self.root()).stdin(Stdio::null()).envs(self.env.iter().cloned());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.node = Some(command.spawn().expect("plugd can be started"));
    }

    /// What `plugd run` printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root().join("plugd.log")).unwrap_or_default()
    }

    /// Writes a file as careful programs do: beside it, then renamed.
    pub fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        let stage = self.root().join("stage");
        fs::write(&stage, text).expect("written");
        fs::rename(&stage, &path).expect("renamed");
    }

    /// Writes an executable script.
    pub fn put_script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        let (written, stage) = (self.root().join("stage.text"), self.root().join("stage"));
        fs::write(&written, text).expect("written");
        copy(&written, &stage);
        fs::set_permissions(&stage, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::rename(&stage, &path).expect("renamed");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    /// The text of a status file, if there is one.
    pub fn status_file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(&format!("{name}.status"))).ok()
    }

    pub fn node_status(&self) -> Option<String> {
        fs::read_to_string(self.path("_controller.status")).ok()
    }

    /// A top-level value of a status file, as text.
    pub fn field(&self, name: &str, key: &str) -> Option<String> {
        let text = self.status_file(name)?;
        let value: serde_yaml::Value = serde_yaml::from_str(&text).expect("a status file is YAML at any time");
        match value.get(key)? {
            serde_yaml::Value::String(text) => Some(text.clone()),
            serde_yaml::Value::Null => None,
            other => Some(serde_yaml::to_string(other).expect("printable").trim().to_string()),
        }
    }

    /// `status`, with the reason in parentheses where there is one.
    pub fn status(&self, name: &str) -> String {
        match (self.field(name, "status"), self.field(name, "reason")) {
            (Some(status), Some(reason)) => format!("{status} ({reason})"),
            (Some(status), None) => status,
            (None, _) => "absent".into(),
        }
    }

    pub fn pid(&self, name: &str) -> Option<i32> {
        self.field(name, "pid")?.parse().ok()
    }

    /// Waits for a status, `healthy` or `skipped (WrapperNotFound)`; a status without a reason
    /// accepts every reason.
    pub fn wait_status(&self, name: &str, status: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.status(name);
            if now == status || now.split(' ').next() == Some(status) {
                return;
            }
            if Instant::now() > deadline {
                panic!(
                    "{name} should be {status} and is {now}\n--- status file\n{}\n--- plugd\n{}",
                    self.status_file(name).unwrap_or_default(),
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until something holds.
    pub fn wait(&self, what: &str, holds: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > deadline {
                let files: Vec<_> = fs::read_dir(self.dir())
                    .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
                    .unwrap_or_default();
                panic!("waited in vain for {what}\n--- files {files:?}\n--- plugd\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs another plugd command against this node.
    pub fn plugd(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_plugd"))
            .arg("--dir")
            .arg(self.dir())
            .args(words)
            .env("PLUGD_STATE_DIR", self.state())
            .current_dir(self.root())
            .stdin(Stdio::null())
            .output()
            .expect("plugd can be started")
    }

    /// The same, for its standard output; it must succeed.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.plugd(words);
        assert!(
            output.status.success(),
            "plugd {words:?} ended with {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// By what this controller (cpu, memory, pids) limits a service here, as `plugd doctor` says; none where
    /// it cannot.
    pub fn limited_by(&self, controller: &str) -> Option<String> {
        let mut words = self.under.iter().map(PathBuf::from).chain([self.program.clone()]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words).args(["doctor", "-o", "json"]).current_dir(self.root()).stdin(Stdio::null());
        let told = command.output().expect("plugd can be started").stdout;
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&told).expect("a list");
        let about = findings.iter().filter_map(|finding| finding["what"].as_str()?.strip_prefix("resources: "));
        let mut of_it = about.filter(|what| what.split([',', ' ']).any(|word| word == controller));
        let what = of_it.next().expect("each is told of").to_string();
        what.split_once(" limited by ").map(|(_, by)| by.to_string())
    }

    pub fn node_pid(&self) -> i32 {
        self.node.as_ref().expect("a node runs").id() as i32
    }

    /// The pid of the controller, as the node's status tells it.
    pub fn controller_pid(&self) -> Option<i32> {
        let text = self.node_status()?;
        let value: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
        Some(value.get("controller")?.get("pid")?.as_i64()? as i32)
    }

    pub fn signal_node(&self, signal: i32) {
        kill(self.node_pid(), signal);
    }

    /// The keeper is killed, and with it the controller; the services are left.
    pub fn kill_keeper(&mut self) {
        let mut node = self.node.take().expect("a node runs");
        node.kill().expect("killed");
        node.wait().expect("waited for");
    }

    /// TERM, and wait for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal_node(15);
        self.wait_end()
    }

    pub fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE * 2;
        let node = self.node.as_mut().expect("a node runs");
        loop {
            if let Some(status) = node.try_wait().expect("waitable") {
                self.node = None;
                return status;
            }
            assert!(Instant::now() < deadline, "plugd does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(mut node) = self.node.take() else { return };
        kill(node.id() as i32, 3);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(node.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // KILL of the keeper takes the controller with it; services in sessions of their own stay.
        let _ = node.kill();
        let _ = node.wait();
    }
}

pub fn kill(pid: i32, signal: i32) {
    let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A process that exists and is no zombie.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| rest.trim_start().to_string()))
        .is_some_and(|rest| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// The environment of a process. That a program was executed is known a moment before the kernel has it.
pub fn environment(pid: i32) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = fs::read(format!("/proc/{pid}/environ")).expect("it lives, and is ours to read");
        if !bytes.is_empty() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        assert!(Instant::now() < deadline, "{pid} has no environment");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A port that nobody listens on just now, and that no other test of this process is given.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many in a row. The kernel gives none of them away by itself: its own begin at 32768.
pub fn free_ports(count: u16) -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const LAST: u32 = 32_000;
    // Whoever runs beside this process begins elsewhere.
    let begin = std::process::id().wrapping_mul(7_919) % (LAST - FIRST);
    let is_free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    loop {
        let given = GIVEN.fetch_add(u32::from(count), Ordering::Relaxed);
        let first = (FIRST + (begin + given) % (LAST - FIRST)) as u16;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
}

/// A command in a process group of its own, so that a test's signals reach it alone.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.process_group(0);
    command
}
