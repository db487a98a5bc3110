//! Descriptors and processes that run out: refused as a result, told, and made good.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::guard;
use crate::inject::{Tracer, is_root, tool, until};
use crate::world::{PATIENCE, World, kill, lives};

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count())
}

/// Asks for every change; what is answered first, and the connection that it comes on.
fn watch(world: &World) -> (UnixStream, String) {
    let mut caller = UnixStream::connect(world.state().join("run/plugd.sock")).expect("there is room to wait in");
    caller.set_read_timeout(Some(PATIENCE)).expect("set");
    caller.write_all(b"GET /v1/watch HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("said");
    let mut answer = [0; 4096];
    let length = caller.read(&mut answer).expect("an answer");
    (caller, String::from_utf8_lossy(&answer[..length]).into_owned())
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
    // Everything that wants a descriptor at once: clients, new services, ends. Who watches stays, until there is none left
    // for whoever comes next, and he is told so at once.
    let mut clients = Vec::new();
    until("a caller to be told that there is no descriptor", || {
        let (caller, answer) = watch(&world);
        clients.push(caller);
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("NoDescriptors")
    });
    let told = world.plugd(&["get"]);
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("no file descriptor left"), "{told}");
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
fn row_14_of_more_clients_than_seats_none_keeps_one_and_services_do_not_notice() {
    let world = World::running();
    guard::put(&world, "web");
    let socket = world.state().join("run/plugd.sock");
    let mut clients: Vec<_> = (0..600).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    guard::put(&world, "second");
    // A lane of its own is kept for the command line: those who say nothing there give way within half a second.
    let asked = Instant::now();
    world.wait("an answer beside them", |world| world.plugd(&["get"]).status.success());
    eprintln!("    answered after {:?}", asked.elapsed());
    // Whoever has sent no question in time is cut off, in whichever lane.
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        assert_eq!(client.read_to_end(&mut Vec::new()).expect("its end"), 0, "an answer without a question");
    }
    drop(clients);
    world.wait("an answer", |world| world.plugd(&["get"]).status.success());
    assert_eq!(guard::starts(&world, "web").len(), 1);
}

#[test]
fn row_14_what_finds_no_descriptor_waits_for_room_and_the_rest_runs() {
    let mut world = World::empty();
    world.under = ["prlimit", "--nofile=160:160"].map(String::from).to_vec();
    for number in 0..100 {
        world.put(&format!("s{number:03}.yaml"), "command: sleep 86400\n");
    }
    world.run(&[]);
    let of = |world: &World, word: &str| {
        let is_so = |number: &usize| world.status(&format!("s{number:03}")) == word;
        (0..100).filter(is_so).collect::<Vec<_>>()
    };
    let all = |world: &World| (of(world, "running"), of(world, "unhealthy (ResourceExhausted)"));
    world.wait("each to run or to say what it lacks", |world| {
        let (run, lack) = all(world);
        run.len() + lack.len() == 100 && !lack.is_empty()
    });
    let (run, lack) = all(&world);
    assert!(run.len() >= lack.len() / 2, "{run:?} run");
    // Those that run go: all others find room, however long their own waits were.
    run.iter().for_each(|number| world.remove(&format!("s{number:03}.yaml")));
    world.wait("the others to be told of the room", |world| of(world, "running").len() >= lack.len().min(run.len()));
    guard::assert_single(&world);
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
        // The reason stays also while it is tried again; between two tries the next one's time is told with it.
        world.wait("the reason and the time of the next try", |world| {
            world.status_file("late").is_some_and(|text| text.contains("ResourceExhausted") && text.contains("retryAt"))
        });
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
    // Of the process, and of the whole machine (row 14).
    for errno in ["EMFILE", "ENFILE"] {
        let name = format!("late-{}", errno.to_lowercase());
        {
            let calls = "clone3,clone,pipe2,socketpair,socket,memfd_create,epoll_ctl,accept4,openat,pidfd_open";
            let _refused = Tracer::attach(controller, &["-e", &format!("inject={calls}:error={errno}")]);
            world.put(&format!("{name}.yaml"), &guard::stays(&world, &name));
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        world.wait_status(&name, "running");
        world.wait("its first line", |world| !guard::starts(world, &name).is_empty());
        for name in ["calm", &name] {
            assert_eq!(guard::starts(&world, name).len(), 1, "{name}");
        }
    }
    guard::assert_calm(&world);
}

#[test]
fn row_17_services_go_before_plugd_when_memory_runs_out() {
    let world = World::running();
    let score = |pid: i32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
        text.trim().parse().expect("a number")
    };
    let own = score(world.controller_pid().expect("a controller"));
    assert_eq!(score(world.node_pid()), own);
    let higher = (own + 300).min(1000);
    world.put("usual.yaml", "command: sleep 86400\n");
    world.put("first.yaml", &format!("command: sleep 86400\nsecurityContext: {{oomScoreAdj: {higher}}}\n"));
    world.wait_status("usual", "running");
    world.wait_status("first", "running");
    assert_eq!(score(world.pid("usual").expect("a pid")), (own + 100).min(1000));
    assert_eq!(score(world.pid("first").expect("a pid")), higher);
}

/// Where a limit cannot be kept, its service runs and that is said.
fn assert_said(world: &World, controller: &str, limit: &str) -> bool {
    if world.limited_by(controller).is_some() {
        return false;
    }
    world.put("limited.yaml", &format!("command: sleep 86400\nresources: {{limits: {{{limit}}}}}\n"));
    world.wait("the limit to be told of", |world| {
        let status = world.status_file("limited").unwrap_or_default();
        status.contains("LimitsNotApplied") && status.contains(&format!("limits.{}", limit.replace(':', "")))
    });
    world.wait_status("limited", "running");
    true
}

/// Takes all the memory that there is: a last line without an end.
const EATS: &str = "tail /dev/zero";

#[test]
fn row_18_a_service_that_runs_out_of_memory_is_told_and_others_do_not_notice() {
    let world = World::running();
    guard::put(&world, "calm");
    let limit = "resources: {limits: {memory: 32Mi}}\nrestart: {backoff: {initial: 50ms, max: 50ms}}\n";
    if assert_said(&world, "memory", "memory: 32Mi") {
        return;
    }
    world.put("hungry.yaml", &format!("command: {EATS}\n{limit}"));
    world.wait("the want of memory to be told of", |world| {
        world.status_file("hungry").is_some_and(|text| text.contains("OOMKilled") && text.contains("its limit is 32Mi"))
    });
    // Restarted by policy, and each end is one of that kind.
    world.wait("several lives", |world| world.field("hungry", "restarts").is_some_and(|count| count != "0"));
    world.wait("that to be an event", |world| {
        world.ask(&["events", "hungry"]).contains("was killed by SIGKILL (out of memory)")
    });
    let exit = world.field("hungry", "lastExit").expect("an exit");
    assert!(exit.contains("reason: OOMKilled"), "{exit}");
    assert!(world.ask(&["history", "hungry"]).contains("SIGKILL (out of memory)"));
    assert_eq!(guard::starts(&world, "calm").len(), 1);

    // One that could do with what it has is not blamed for what was before it.
    world.put("hungry.yaml", "command: sleep 86400\nminReady: 0s\nresources: {limits: {memory: 64Mi}}\n");
    world.wait_status("hungry", "running");
    // Where the edit came between two lives its last exit stays what it was.
    let blames = |text: &str| text.lines().any(|line| line.contains("OOMKilled") && !line.starts_with("lastExit:"));
    world.wait("nothing to be wrong", |world| world.status_file("hungry").is_some_and(|text| !blames(&text)));
}

#[test]
fn row_18_an_end_for_want_of_memory_that_no_controller_saw_is_told_by_the_next() {
    let world = World::running();
    if assert_said(&world, "memory", "memory: 32Mi") {
        return;
    }
    let go = world.root().join("go");
    world.put(
        "hungry.yaml",
        &format!(
            "script: while [ ! -e {} ]; do sleep 0.01; done; exec {EATS}\nrestart: Never\nresources: {{limits: {{memory: 32Mi}}}}\n",
            go.display()
        ),
    );
    world.wait_status("hungry", "running");
    let (pid, controller) = (world.pid("hungry").expect("a pid"), world.controller_pid().expect("a controller"));
    kill(controller, 19);
    fs::write(&go, "").expect("written");
    until("its end", || !lives(pid));
    kill(controller, 9);
    world.wait_status("hungry", "failed");
    let status = world.status_file("hungry").expect("a status");
    assert!(status.contains("OOMKilled") && status.contains("SIGKILL"), "{status}");
}

#[test]
fn row_18_where_memory_runs_out_the_whole_instance_ends_unless_one_process_is_asked_for() {
    let world = World::running();
    if assert_said(&world, "memory", "memory: 32Mi") {
        return;
    }
    let survived = |name: &str| world.root().join(format!("{name}-survived"));
    for (name, single) in [("whole", false), ("single", true)] {
        world.put(
            &format!("{name}.yaml"),
            &format!(
                "script: {EATS} || touch {}; exec sleep 86400\nrestart: Never\nresources: {{limits: {{memory: 32Mi}}, singleProcessOOMKill: {single}}}\n",
                survived(name).display()
            ),
        );
    }
    world.wait("the other processes to go on", |_| survived("single").exists());
    world.wait_status("single", "running");
    // It goes on, which is told, and its end is of who asks for it.
    let told =
        "a process of single ran out of memory (its limit is 32Mi) and was killed by the kernel; the others go on";
    world.wait("the word of it", |world| world.ask(&["events", "single"]).contains(told));
    world.ask(&["stop", "single"]);
    let status = world.status_file("single").expect("a status");
    assert!(status.contains("plugd stop") && !status.contains("OOMKilled"), "{status}");
    world.wait_status("whole", "failed");
    let status = world.status_file("whole").expect("a status");
    assert!(status.contains("OOMKilled") && status.contains("SIGKILL"), "{status}");
    if world.limited_by("memory").as_deref() == Some("cgroup v2") {
        assert!(!survived("whole").exists(), "all at once");
    }

    // The next controller takes over from the one that listened, and so does an edit.
    let go = world.root().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done; {EATS} || true; exec sleep 86400", go.display());
    let later = |single: bool| {
        format!(
            "script: {script}\nrestart: Never\nresources: {{limits: {{memory: 32Mi}}, singleProcessOOMKill: {single}}}\n"
        )
    };
    world.put("edited.yaml", &later(true));
    world.put("later.yaml", &later(false));
    world.wait_status("edited", "running");
    world.wait_status("later", "running");
    let pid = world.pid("edited");
    world.put("edited.yaml", &later(false));
    world.wait("the edit to be in force", |world| {
        world.status_file("edited").is_some_and(|text| text.contains("generation: 2"))
    });
    assert_eq!(world.pid("edited"), pid, "it needs no new process");
    let controller = world.controller_pid().expect("a controller");
    kill(controller, 9);
    world.wait("the next controller", |world| world.controller_pid().is_some_and(|pid| pid != controller));
    world.wait("it to have taken up", |world| world.plugd(&["get", "later"]).status.success());
    fs::write(&go, "").expect("written");
    for name in ["edited", "later"] {
        world.wait_status(name, "failed");
        assert!(world.status_file(name).expect("a status").contains("OOMKilled"));
    }
}

#[test]
fn row_25_a_service_that_ends_because_it_may_not_fork_is_told_with_the_limit_that_it_met() {
    let world = World::running();
    if assert_said(&world, "pids", "pids: 3") {
        return;
    }
    world.put(
        "many.yaml",
        "script: 'for n in 1 2 3 4; do sleep 86400 & done; wait'\nrestart: Never\nresources: {limits: {pids: 3}}\n",
    );
    world.wait_status("many", "failed");
    let (status, events) = (world.status_file("many").expect("a status"), world.ask(&["events", "many"]));
    assert!(status.contains("; it met its limit of 3 processes"), "{status}");
    assert!(events.contains("; it met its limit of 3 processes"), "{events}");
    // One that ends of something else is not told so.
    world.put("few.yaml", "script: 'sleep 0; exit 3'\nrestart: Never\nresources: {limits: {pids: 3}}\n");
    world.wait_status("few", "failed");
    assert!(!world.status_file("few").expect("a status").contains("it met"));
}

#[test]
fn row_25_a_fork_bomb_stays_within_its_limit_and_others_do_not_notice() {
    let world = World::running();
    guard::put(&world, "calm");
    let limit = "resources: {limits: {pids: 60}}\nstop: {gracePeriod: 200ms}\n";
    if assert_said(&world, "pids", "pids: 60") {
        return;
    }
    // The main process forks nothing more: a shell that cannot ends.
    let bomb = "script: |\n  bomb() { while :; do (trap '' TERM; bomb) & sleep 0.01; done; }\n  bomb 2>/dev/null &\n  exec sleep 3600\n";
    world.put("bomb.yaml", &format!("{bomb}{limit}"));
    world.wait_status("bomb", "running");
    let pid = world.pid("bomb").expect("a pid");
    let session = || -> BTreeSet<String> {
        let of =
            |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3)?.parse::<i32>().ok());
        let stats = fs::read_dir("/proc").expect("listed").flatten();
        let told = stats.filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), of(stat)?))
        });
        told.filter(|(_, of)| *of == pid).map(|(number, _)| number).collect()
    };
    until("the bomb to fill its limit", || session().len() >= 40);
    // It forks on, in vain; others start and answer.
    for n in 0..5 {
        guard::put(&world, &format!("other{n}"));
        // Some come and go during one look: those of both were there at once, between the two.
        let (first, second) = (session(), session());
        let at_once = first.intersection(&second).count();
        assert!(at_once <= 60, "{at_once}");
    }
    world.remove("bomb.yaml");
    world.wait("its end", |world| world.status_file("bomb").is_none());
    until("the last of it to be reaped", || session().is_empty());
    assert_eq!(guard::starts(&world, "calm").len(), 1);
}
