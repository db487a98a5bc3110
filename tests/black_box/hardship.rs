//! What holds others up must not hold plugd up.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::world::{World, kill};

/// A pipe that takes nothing more: its reader, and its writer.
fn full_pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
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
    for round in 0..20 {
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
