//! The injectors. Each ends with its value: a tracer lets go, a disk is thawed and unmounted, a limit
//! is lifted, whatever becomes of the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, World, copy, kill, lives};

/// Whether the injectors of this machine can be had; says what is not shown where they cannot.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("    not root: not shown");
    }
    root
}

/// Runs a tool of the system; it must succeed.
pub fn tool(words: &[&str]) {
    assert!(try_tool(words), "{words:?} failed");
}

pub fn try_tool(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// strace on a process that runs: its system calls fail, or are late, as long as this lives.
pub struct Tracer {
    child: Child,
}

impl Tracer {
    /// `faults` are arguments such as `-e inject=rename:error=EIO`; every thread is traced.
    pub fn attach(pid: i32, faults: &[&str]) -> Tracer {
        Tracer::begin(pid, &[&["-f"], faults].concat())
    }

    /// The same of a process that has one thread, and not of those that it makes.
    pub fn attach_alone(pid: i32, faults: &[&str]) -> Tracer {
        Tracer::begin(pid, faults)
    }

    fn begin(pid: i32, words: &[&str]) -> Tracer {
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("strace is installed by test.sh");
        until("every thread to be traced", || threads(pid).iter().all(|task| traced(task)));
        Tracer { child }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // TERM lets it detach; after KILL its tracees would go with nobody to let them go on.
        kill(self.child.id() as i32, 15);
        let _ = self.child.wait();
    }
}

/// Where the program of a process lies, or lay.
fn executable(pid: i32) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(exe.to_string_lossy().trim_end_matches(" (deleted)").to_string())
}

fn threads(pid: i32) -> Vec<PathBuf> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn traced(task: &Path) -> bool {
    fs::read_to_string(task.join("status"))
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")))
}

/// A filesystem of its own, mounted somewhere.
pub struct Disk {
    at: PathBuf,
    frozen: bool,
}

impl Disk {
    /// A tmpfs with these options, `size=64k` or `nr_inodes=20`.
    pub fn small(at: &Path, options: &str) -> Disk {
        fs::create_dir_all(at).expect("made");
        tool(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", &at.display().to_string()]);
        Disk { at: at.to_path_buf(), frozen: false }
    }

    /// An ext4 in a file, which can be frozen; none where the machine has no loop devices.
    pub fn ext4(at: &Path, image: &Path) -> Option<Disk> {
        fs::create_dir_all(at).expect("made");
        let file = fs::File::create(image).expect("created");
        file.set_len(16 << 20).expect("sparse");
        tool(&["mkfs.ext4", "-q", &image.display().to_string()]);
        let mounted = try_tool(&["mount", "-o", "loop", &image.display().to_string(), &at.display().to_string()]);
        if !mounted {
            eprintln!("    no loop device: not shown");
        }
        mounted.then(|| Disk { at: at.to_path_buf(), frozen: false })
    }

    pub fn remount(&self, option: &str) {
        tool(&["mount", "-o", &format!("remount,{option}"), &self.at.display().to_string()]);
    }

    pub fn try_remount(&self, option: &str) -> bool {
        try_tool(&["mount", "-o", &format!("remount,{option}"), &self.at.display().to_string()])
    }

    /// From here on whoever writes there sleeps and cannot be killed.
    pub fn freeze(&mut self) {
        tool(&["fsfreeze", "-f", &self.at.display().to_string()]);
        self.frozen = true;
    }

    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            tool(&["fsfreeze", "-u", &self.at.display().to_string()]);
        }
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.at.join("ballast")).expect("created");
        while ballast.write(&[b'x'; 1024]).is_ok_and(|wrote| wrote > 0) {}
    }

    pub fn unfill(&self) {
        fs::remove_file(self.at.join("ballast")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // Lazily: a process that still looks at it must not keep the test's folder.
        try_tool(&["umount", "--lazy", &self.at.display().to_string()]);
    }
}

/// A group of the first kind of cgroups, for `pids` and `memory`.
pub struct OldGroup {
    path: PathBuf,
}

impl OldGroup {
    pub fn make(controller: &str, name: &str) -> Option<OldGroup> {
        let path = Path::new("/sys/fs/cgroup").join(controller).join(format!("{name}-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("    no cgroup of the first kind ({controller}: {error}): not shown");
            return None;
        }
        Some(OldGroup { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn set(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).expect("the group takes it");
    }
}

impl Drop for OldGroup {
    fn drop(&mut self) {
        let root = self.path.parent().expect("the controller's root").join("cgroup.procs");
        for pid in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&root, pid);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// A node whose next controller can be started under strace from its first instruction: SIGUSR2 has the
/// keeper start what lies at the path of the present program, and a script is laid there.
pub struct Stage {
    folder: PathBuf,
    links: std::cell::Cell<usize>,
}

impl Stage {
    /// Starts the node of this world from a copy of its own.
    pub fn set(world: &mut World) -> Stage {
        let folder = world.root().join("bin");
        fs::create_dir(&folder).expect("made");
        let stage = Stage { folder, links: std::cell::Cell::new(0) };
        world.program = stage.link();
        world.run(&[]);
        stage
    }

    /// One more path of the program; that of the one which runs is about to be a script's.
    fn link(&self) -> PathBuf {
        self.links.set(self.links.get() + 1);
        let path = self.folder.join(format!("plugd{}", self.links.get()));
        let built = env!("CARGO_BIN_EXE_plugd");
        // Of another filesystem it has to be a copy.
        if fs::hard_link(built, &path).is_err() {
            copy(Path::new(built), &path);
        }
        path
    }

    /// Has the next controller started with these faults, once.
    pub fn begin(&self, world: &World, faults: &str) {
        let (folder, real) = (self.folder.display(), self.link().display().to_string());
        let script = format!(
            "#!/bin/sh\nif mv {folder}/faults {folder}/taken 2>/dev/null; then\n  exec strace -D -f -qq -o {folder}/trace $(cat {folder}/taken) {real} \"$@\"\nfi\nexec {real} \"$@\"\n"
        );
        let _ = fs::remove_file(self.trace());
        fs::write(self.folder.join("faults"), faults).expect("written");
        let mut told = None;
        until("the controller with its fault", || {
            // One that ends just now, of the fault that it was given before, hears nothing: its successor is told.
            let controller = world.controller_pid().filter(|pid| lives(*pid) && told != Some(*pid));
            if let Some((pid, exe)) = controller.and_then(|pid| Some((pid, executable(pid)?))) {
                let (written, fresh) = (self.folder.join("written"), self.folder.join("fresh"));
                fs::write(&written, &script).expect("written");
                copy(&written, &fresh);
                fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("chmod");
                fs::rename(&fresh, exe).expect("renamed");
                world.signal_node(12);
                told = Some(pid);
            }
            !self.folder.join("faults").exists()
        });
    }

    pub fn trace(&self) -> PathBuf {
        self.folder.join("trace")
    }
}
