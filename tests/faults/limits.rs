//! Descriptors and processes that run out: refused as a result, told, and made good.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;

use crate::guard;
use crate::inject::{Tracer, is_root, tool, until};
use crate::world::{World, kill, lives};

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count())
}

#[test]
fn row_14_a_controller_without_descriptors_kills_nobody_and_recovers() {
    let world = World::running();
    for n in 0..5 {
        guard::put(&world, &format!("s{n}"));
    }
    let controller = world.controller_pid().expect("a controller");
    let highest = fs::read_dir(format!("/proc/{controller}/fd"))
        .expect("it lives")
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<usize>().ok())
        .max()
        .expect("some");
    let limit = |soft: usize| tool(&["prlimit", "--pid", &controller.to_string(), &format!("--nofile={soft}:")]);
    limit(highest + 3);
    // Everything that wants a descriptor at once: clients, new services, ends.
    let socket = world.state().join("run/plugd.sock");
    let clients: Vec<_> = (0..40).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    for n in 0..5 {
        world.put(&format!("late{n}.yaml"), &guard::stays(&world, &format!("late{n}")));
    }
    kill(guard::starts(&world, "s0")[0], 9);
    std::thread::sleep(std::time::Duration::from_secs(2));
    for n in 1..5 {
        assert!(lives(guard::starts(&world, &format!("s{n}"))[0]), "s{n} was ended");
    }
    drop(clients);
    // One that lost a descriptor on its way from the keeper makes room for another.
    if lives(controller) {
        limit(4096);
    }
    for name in ["s0", "late0", "late4"] {
        world.wait_status(name, "running");
    }
    world.wait("an answer", |world| world.plugd(&["get"]).status.success());
    let controller = world.controller_pid().expect("a controller");
    until("the descriptors to be given back", || descriptors(controller) < highest + 40);
    guard::assert_single(&world);
    guard::assert_calm(&world);
}

#[test]
fn row_14_more_clients_than_seats_are_answered_or_refused_and_services_do_not_notice() {
    let world = World::running();
    guard::put(&world, "web");
    let socket = world.state().join("run/plugd.sock");
    let mut clients: Vec<_> = (0..600).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    guard::put(&world, "second");
    // Whoever gets an answer without a question is told to go away.
    for client in &mut clients {
        client.set_nonblocking(true).expect("set");
        let mut answer = [0; 64];
        if let Ok(length @ 1..) = client.read(&mut answer) {
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            assert!(text.starts_with("HTTP/1.1 503") || text.starts_with("HTTP/1.1 408"), "{text}");
        }
    }
    drop(clients);
    world.wait("an answer", |world| world.plugd(&["get"]).status.success());
    assert_eq!(guard::starts(&world, "web").len(), 1);
}

#[test]
fn row_15_a_fork_that_is_refused_is_a_reason_and_is_tried_again() {
    if !is_root() {
        return;
    }
    let world = World::running();
    guard::put(&world, "calm");
    let keeper = world.node_pid();
    {
        let _refused = Tracer::attach(keeper, &["-e", "inject=clone3,clone,fork,vfork:error=EAGAIN"]);
        world.put("late.yaml", &guard::stays(&world, "late"));
        world.wait("the reason", |world| {
            world.status_file("late").is_some_and(|text| text.contains("ResourceExhausted"))
        });
        let status = world.status_file("late").expect("a status");
        assert!(status.contains("retryAt"), "{status}");
        assert_eq!(world.status("calm"), "running");
    }
    world.wait_status("late", "running");
    world.wait("its first line", |world| !guard::starts(world, "late").is_empty());
    assert_eq!(guard::starts(&world, "late").len(), 1);
    assert_eq!(guard::starts(&world, "calm").len(), 1);
    guard::assert_single(&world);
}

#[test]
fn row_15_a_thread_or_a_pipe_that_is_refused_ends_nothing() {
    if !is_root() {
        return;
    }
    let world = World::running();
    guard::put(&world, "calm");
    let controller = world.controller_pid().expect("a controller");
    {
        let fault = "inject=clone3,clone,pipe2,socketpair,socket,memfd_create,epoll_ctl:error=EMFILE";
        let _refused = Tracer::attach(controller, &["-e", fault]);
        world.put("late.yaml", &guard::stays(&world, "late"));
        std::thread::sleep(std::time::Duration::from_millis(700));
    }
    world.wait_status("late", "running");
    world.wait("its first line", |world| !guard::starts(world, "late").is_empty());
    for name in ["calm", "late"] {
        assert_eq!(guard::starts(&world, name).len(), 1, "{name}");
    }
    guard::assert_calm(&world);
}
