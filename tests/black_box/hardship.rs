//! What holds others up must not hold plugd up.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::soak::times;
use crate::world::{World, kill};

/// A pipe that takes nothing more: its reader, and its writer.
fn full_pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let (reader, writer) = (File::from(reader), File::from(writer));
    // A second description of the same pipe, so that the writer itself keeps blocking.
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut other = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).expect("the pipe");
    while other.write(&[b'x'; 4096]).is_ok() {}
    (reader, writer)
}

#[test]
fn a_terminal_that_takes_no_words_holds_nothing_up() {
    let mut world = World::empty();
    let (reader, writer) = full_pipe();
    world.spawn_saying(&[], writer);
    world.put("web.yaml", "command: sleep 3600\nrestart: {backoff: {initial: 10ms}}\n");
    world.wait_status("web", "running");
    for _ in 0..3 {
        let pid = world.pid("web").expect("a pid");
        kill(pid, libc::SIGKILL);
        world.wait("another process", |world| {
            world.status("web") == "running" && world.pid("web").is_some_and(|now| now != pid)
        });
    }
    assert!(world.stop().success());
    drop(reader);
}

/// Nobody else has this uid.
const UID: u32 = 54_321;

fn let_go_on() {
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = pid
            && entry.metadata().is_ok_and(|meta| meta.uid() == UID)
        {
            kill(pid, libc::SIGCONT);
        }
    }
}

#[test]
fn a_service_that_stops_whatever_has_its_user_cannot_stop_the_keeper() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can name another user either
    }
    let mut world = World::running();
    // kill(2) with -1 reaches all processes of that user but the caller.
    let evil = "script: |\n  while :; do kill -STOP -1 || :; done 2>/dev/null\n";
    world.put("evil.yaml", &format!("user: \"{UID}\"\nworkingDir: /\n{evil}"));
    world.wait_status("evil", "running");
    // They start again and again until they are caught between their new user and their program. Three:
    // fewer than may be starting at one time.
    for victim in 0..3 {
        let loops = "restart: {backoff: {initial: 5ms, max: 5ms, jitter: 0}}\ncommand: /bin/true\n";
        world.put(&format!("victim{victim}.yaml"), &format!("user: \"{UID}\"\nworkingDir: /\n{loops}"));
    }
    for round in 0..times(20) {
        let name = format!("late{round}");
        world.put(&format!("{name}.yaml"), "command: sleep 3600\n");
        world.wait_status(&name, "running");
        world.remove(&format!("{name}.yaml"));
        world.wait("it to go", |world| world.status_file(&name).is_none());
    }
    world.remove("evil.yaml");
    world.wait("the end of the evil", |world| world.status_file("evil").is_none());
    let_go_on();
    assert!(world.stop().success());
}

/// plugd in the foreground of a terminal that is closed when the file appears; whoever is in front of it is told by
/// the kernel and by the shell.
const TERMINAL: &str = r#"
import os, pty, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
signal.signal(signal.SIGQUIT, lambda *_: os.kill(pid, signal.SIGQUIT))
while not os.path.exists(sys.argv[1]):
    time.sleep(0.005)
os.close(terminal)
for _ in range(3):
    time.sleep(0.02)
    os.kill(pid, signal.SIGHUP)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_terminal_that_is_closed_ends_everything_in_order_however_often_that_is_said() {
    let mut world = World::empty();
    let closed = world.root().join("closed");
    world.under = ["python3", "-c", TERMINAL, &closed.display().to_string()].map(String::from).to_vec();
    world.run(&[]);
    let ends = "trap 'sleep 0.5; echo flushed; exit 0' TERM\n  touch there\n  while :; do sleep 0.05; done";
    let dir = world.root().display().to_string();
    world.put("slow.yaml", &format!("workingDir: {dir}\nscript: |\n  {ends}\nstop: {{gracePeriod: 60s}}\n"));
    world.wait("its trap to be set", |world| world.root().join("there").exists());
    std::fs::write(&closed, "").expect("written");
    assert!(world.wait_end().success());
    let status = world.status_file("slow").expect("the last word");
    assert!(status.contains("lastExit: {code: 0,"), "{status}");
    let said = std::fs::read_to_string(world.state().join("logs/slow.log")).expect("its log");
    assert!(said.ends_with("flushed\n"), "{said}");
}

#[test]
fn a_user_who_is_plugds_own_is_taken_on_without_being_root() {
    if !rustix::process::geteuid().is_root() {
        return; // the other tests run so then
    }
    let mut world = World::empty();
    let program = world.root().join("plugd");
    World::copy_program(&program);
    world.program = program;
    world.under = ["setpriv", "--reuid=54329", "--regid=54330", "--clear-groups"].map(String::from).to_vec();
    for path in [world.root().to_path_buf(), world.dir()] {
        std::os::unix::fs::chown(&path, Some(54_329), Some(54_330)).expect("chown");
    }
    world.put("own.yaml", "command: sleep 3600\nuser: \"54329:54330\"\n");
    world.put("other.yaml", "command: sleep 3600\nuser: \"54331\"\n");
    world.run(&[]);
    world.wait_status("own", "running");
    world.wait_status("other", "unhealthy (BackOff)");
    assert!(world.stop().success());
}
