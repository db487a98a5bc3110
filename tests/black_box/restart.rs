//! Crashes, back-off, dependencies, updates, jobs.

use crate::world::{World, free_port, free_ports, kill, lives};

#[test]
fn a_killed_service_is_restarted_at_once_and_counted() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");

    kill(pid, 9);

    world.wait("a new process", |world| world.pid("web").is_some_and(|new| new != pid));
    world.wait_status("web", "running");
    assert_eq!(world.field("web", "restarts").as_deref(), Some("1"));
    let exit = world.field("web", "lastExit").expect("the last exit");
    assert!(exit.contains("137"), "{exit}");
}

#[test]
fn a_crash_loop_is_told_with_its_output_and_ends_at_an_edit() {
    let world = World::running();
    world.put(
        "mailer.yaml",
        "script: |\n  echo 'bind: address already in use' >&2; exit 1\nrestart: {backoff: {initial: 10ms, max: 50ms}}\n",
    );

    world.wait_status("mailer", "unhealthy (CrashLoopBackOff)");
    // It begins again soon: one text must say all of it.
    world.wait("the output, the cause and what comes next", |world| {
        let status = world.status_file("mailer").unwrap_or_default();
        ["bind: address already in use", "# why:", "# next:"].iter().all(|words| status.contains(words))
    });

    world.put("mailer.yaml", "command: sleep 3600\n");
    world.wait_status("mailer", "running");
}

#[test]
fn a_dependent_starts_after_ready_not_after_spawn() {
    let world = World::running();
    let flag = world.root().join("flag");
    world.put("app.yaml", "command: sleep 3600\ndependsOn: [db]\n");
    world.wait_status("app", "waiting (DependencyNotReady)");

    world.put(
        "db.yaml",
        &format!("command: sleep 3600\nreadinessProbe: {{exec: {{command: [test, -e, '{}']}}}}\n", flag.display()),
    );
    world.wait_status("db", "starting");
    assert_eq!(world.status("app"), "waiting (DependencyNotReady)");

    std::fs::write(&flag, "").expect("written");
    world.wait_status("db", "healthy");
    world.wait_status("app", "running");
}

#[test]
fn a_dependency_that_is_lost_with_the_controller_is_lost_for_the_next_one_and_the_one_after_it() {
    let world = World::running();
    let flag = world.root().join("flag");
    std::fs::write(&flag, "").expect("written");
    let check = format!("{{exec: {{command: [test, -e, '{}']}}, period: 1s, failureThreshold: 1}}", flag.display());
    world.put("db.yaml", &format!("command: sleep 3600\nreadinessProbe: {check}\n"));
    for (file, on_loss) in [("again.yaml", "Restart"), ("stops.yaml", "Stop")] {
        world.put(file, &format!("command: sleep 3600\ndependsOn: [{{name: db, onLoss: {on_loss}}}]\n"));
    }
    world.wait_status("again", "running");
    world.wait_status("stops", "running");
    let pid = world.pid("again");

    std::fs::remove_file(&flag).expect("removed");
    kill(world.controller_pid().expect("a controller"), 9);
    world.wait_status("again", "waiting (DependencyNotReady)");
    world.wait_status("stops", "stopped (DependencyLost)");
    let told = |world: &World| world.ask(&["events", "stops"]).matches("db is not ready any more").count();
    world.wait("the event", |world| told(world) == 1);

    crate::last_good::wait_kept(&world, "\"dependency_lost\":\"db\"");
    let second = world.controller_pid();
    kill(second.expect("a controller"), 9);
    world.wait("a third controller", |world| world.controller_pid().is_some_and(|pid| Some(pid) != second));
    std::fs::write(&flag, "").expect("written");
    world.wait_status("again", "running");
    assert_ne!(world.pid("again"), pid);
    assert_eq!(world.status("stops"), "stopped (DependencyLost)");
    assert_eq!(told(&world), 1);
}

#[test]
fn a_cycle_is_named_and_the_rest_runs() {
    let world = World::running();
    world.put("a.yaml", "command: sleep 3600\ndependsOn: [b]\n");
    world.put("b.yaml", "command: sleep 3600\ndependsOn: [a]\n");
    world.put("c.yaml", "command: sleep 3600\n");

    world.wait_status("a", "failed (DependencyCycle)");
    world.wait_status("b", "failed (DependencyCycle)");
    world.wait_status("c", "running");
    for (name, path) in [("a", "a → b → a"), ("b", "b → a → b")] {
        let status = world.status_file(name).expect("a status");
        assert!(status.contains(&format!("depends on itself: {path}")), "{name}: {status}");
    }
}

#[test]
fn an_edit_to_a_program_that_does_not_exist_leaves_the_old_one() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    world.put("web.yaml", "command: /no/such/program\n");

    world.wait("the update to be blocked", |world| {
        world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked"))
    });
    assert_eq!(world.pid("web"), pid);
}

fn server(port: u16) -> String {
    format!("command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n")
}

#[test]
fn an_edit_to_a_port_that_somebody_else_holds_leaves_the_old_one_until_it_is_free() {
    let world = World::running();
    world.put("web.yaml", &server(free_port()));
    world.wait_status("web", "healthy");
    let pid = world.pid("web");
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = held.local_addr().expect("bound").port();

    world.put("web.yaml", &server(port));
    let told = format!("port {port} is held by pid {} ", std::process::id());
    world.wait("the block", |world| {
        world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked") && text.contains(&told))
    });
    assert_eq!((world.pid("web"), world.status("web").starts_with("healthy")), (pid, true));

    drop(held);
    world.wait("the new version", |world| {
        world.pid("web").is_some_and(|new| Some(new) != pid) && world.status("web") == "healthy"
    });
}

#[test]
fn a_port_counts_as_held_by_the_address_on_which_the_service_listens() {
    let world = World::running();
    let server =
        |address: &str, port: u16| format!("command: python3 -m http.server --bind {address} {port}\nport: {port}\n");
    world.put("one.yaml", &server("127.0.0.1", free_port()));
    world.put("all.yaml", &server("0.0.0.0", free_port()));
    world.wait_status("one", "healthy");
    world.wait_status("all", "healthy");
    let port = free_port();
    let _held = std::net::TcpListener::bind(("127.0.0.2", port)).expect("a socket");

    world.put("all.yaml", &server("0.0.0.0", port));
    world.wait("the block", |world| {
        world.status_file("all").is_some_and(|text| text.contains("UpdateBlocked") && text.contains(&port.to_string()))
    });
    assert!(world.status("all").starts_with("healthy"));
    world.put("one.yaml", &server("127.0.0.1", port));
    world.wait("the new version", |world| world.field("one", "address") == Some(format!("127.0.0.1:{port}")));
    world.wait_status("one", "healthy");
}

#[test]
fn a_port_is_not_left_by_a_service_whose_own_edit_is_blocked() {
    let world = World::running();
    let (one, two) = (free_port(), free_port());
    world.put("a.yaml", &server(one));
    world.put("b.yaml", &server(two));
    world.wait_status("a", "healthy");
    world.wait_status("b", "healthy");
    let pid = world.pid("a");
    let is_blocked = |world: &World, name: &str, told: &str| {
        world.status_file(name).is_some_and(|text| text.contains("UpdateBlocked") && text.contains(told))
    };
    world.put("b.yaml", &format!("{}dependsOn: [nosuch]\n", server(free_port())));
    world.wait("the block", |world| is_blocked(world, "b", "nosuch"));

    world.put("a.yaml", &server(two));
    world.wait("the other block", |world| is_blocked(world, "a", "is held by the service b"));
    assert_eq!((world.pid("a"), world.status("a").as_str()), (pid, "healthy"));
}

#[test]
fn two_services_of_which_one_depends_on_the_other_may_change_ports() {
    let world = World::running();
    let (one, two) = (free_port(), free_port());
    let put = |first: u16, second: u16| {
        world.put("db.yaml", &server(first));
        world.put("web.yaml", &format!("{}dependsOn: [db]\n", server(second)));
    };
    put(one, two);
    world.wait_status("web", "healthy");
    put(two, one);
    let serves = |name: &str, port: u16| {
        world.status_file(name).is_some_and(|text| {
            text.contains("ready: 1/1") && text.contains(&format!(":{port} passed")) && !text.contains("UpdateBlocked")
        })
    };
    world.wait("both to have changed", |_| serves("db", two) && serves("web", one));
}

#[test]
fn two_services_may_change_ports() {
    let world = World::running();
    let (one, two) = (free_port(), free_port());
    let put = |first: u16, second: u16| {
        world.put("a.yaml", &server(first));
        world.put("b.yaml", &server(second));
    };
    put(one, two);
    world.wait_status("a", "healthy");
    world.wait_status("b", "healthy");
    let before = (world.pid("a"), world.pid("b"));
    let begun = std::time::Instant::now();
    put(two, one);
    world.wait("both on the port of the other", |world| {
        let (a, b) = (world.pid("a"), world.pid("b"));
        let on = |name: &str, port: u16| {
            world.field(name, "ready").as_deref() == Some("1/1")
                && world.status_file(name).is_some_and(|text| text.contains(&format!("127.0.0.1:{port}")))
        };
        a != before.0 && b != before.1 && on("a", two) && on("b", one)
    });
    // An edit that is tried again by the clock waits for 5 s, before its two servers start.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}\n{}", begun.elapsed(), world.log());
}

#[test]
fn replicas_move_to_ports_that_they_have_among_them_already() {
    let world = World::running();
    let port = free_ports(4);
    let put = |port: u16, replicas: u32| {
        let serve = "command: python3 -m http.server --bind 127.0.0.1 $(PORT)";
        world.put("web.yaml", &format!("{serve}\nport: {port}\nreplicas: {replicas}\n"));
    };
    let serves = |port: u16, replicas: u32| {
        let ready = format!("{replicas}/{replicas}");
        world.wait(&format!("{replicas} on {port} and above"), |world| {
            let text = world.status_file("web").unwrap_or_default();
            let on = |index| text.contains(&format!("port: {}, ready: true", port as u32 + index));
            world.field("web", "ready").as_deref() == Some(&ready) && (0..replicas).all(on) && !text.contains("inForce")
        });
        assert_eq!(world.field("web", "restarts").as_deref(), Some("0"), "nobody is in the way of another");
    };
    for (from, replicas) in [(port + 1, 2), (port + 2, 2), (port + 1, 2), (port, 3), (port + 1, 3), (port + 2, 2)] {
        put(from, replicas);
        serves(from, replicas);
    }
}

#[test]
fn an_edit_of_probes_labels_or_back_off_keeps_the_pid() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 3600\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");

    world.put("web.yaml", "command: sleep 3600\nreadinessProbe: {exec: {command: ['true']}}\nlabels: {a: b}\n");

    world.wait_status("web", "healthy");
    assert_eq!(world.pid("web"), pid);
}

#[test]
fn a_job_runs_once_to_its_end() {
    let world = World::running();
    let mark = world.root().join("mark");
    world.put("job.yaml", &format!("script: echo ran >> '{}'\nrestart: Never\n", mark.display()));
    world.wait_status("job", "completed");

    kill(world.controller_pid().expect("a controller"), 9);
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");
    world.wait_status("job", "completed");
    assert_eq!(std::fs::read_to_string(&mark).expect("written"), "ran\n", "not again after a controller's death");

    world.ask(&["start", "job"]);
    world.wait("the second run", |_| std::fs::read_to_string(&mark).is_ok_and(|text| text == "ran\nran\n"));
}

#[test]
fn a_job_that_fails_is_failed() {
    let world = World::running();
    world.put("job.yaml", "command: sh -c 'exit 7'\nrestart: Never\n");
    world.wait_status("job", "failed (Error)");
    assert!(world.field("job", "lastExit").expect("an exit").contains('7'));
}

#[test]
fn different_faults_of_a_start_have_different_reasons() {
    let world = World::running();
    world.put("program.yaml", "command: /no/such/program\n");
    world.put("dir.yaml", "command: sleep 1\nworkingDir: /no/such/dir\n");
    world.put("user.yaml", "command: sleep 1\nuser: nobody-of-that-name\n");
    world.put_script("shebang.sh", "#!/no/such/interpreter\n");
    for (name, reason) in [
        ("program", "ProgramNotFound"),
        ("dir", "WorkingDirNotFound"),
        ("user", "UserNotFound"),
        ("shebang", "BadInterpreter"),
    ] {
        world.wait(&format!("{name} to say {reason}"), |world| {
            world.status_file(name).is_some_and(|text| text.contains(reason))
        });
    }
}

#[test]
fn a_port_that_a_stranger_holds_is_told_with_the_stranger() {
    let world = World::running();
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = stranger.local_addr().expect("an address").port();

    world.put("web.yaml", &format!("command: sleep 3600\nport: {port}\n"));

    world.wait("the stranger to be named", |world| {
        world
            .status_file("web")
            .is_some_and(|text| text.contains("AddressInUse") && text.contains(&format!("pid {}", std::process::id())))
    });
    assert_ne!(world.status("web"), "healthy");
}

#[test]
fn a_port_of_its_own_makes_a_service_healthy() {
    let world = World::running();
    let port = free_port();
    world.put("web.yaml", &format!("command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n"));

    world.wait_status("web", "healthy");
    assert_eq!(world.field("web", "address"), Some(format!("127.0.0.1:{port}")));
    assert!(world.field("web", "check").expect("a check").contains("passed"));
}

#[test]
fn a_failing_liveness_probe_restarts_the_service() {
    let world = World::running();
    let flag = world.root().join("sick");
    world.put(
        "svc.yaml",
        &format!(
            "command: sleep 3600\nlivenessProbe: {{exec: {{command: [test, '!', -e, '{}']}}, period: 50ms, failureThreshold: 2}}\n",
            flag.display()
        ),
    );
    world.wait_status("svc", "healthy");
    let pid = world.pid("svc").expect("a pid");

    std::fs::write(&flag, "").expect("written");
    world.wait("the process to be ended", |_| !lives(pid));
    std::fs::remove_file(&flag).expect("removed");

    world.wait("a new process", |world| world.pid("svc").is_some_and(|new| new != pid));
    world.wait_status("svc", "healthy");
}

#[test]
fn three_replicas_are_three_processes_with_ports_of_their_own() {
    let world = World::running();
    world.put("many.yaml", "command: sleep 3600\nreplicas: 3\nenv: {N: $(instance.index)}\n");
    world.wait_status("many", "running");
    world.wait("three instances", |world| world.field("many", "ready").as_deref() == Some("3/3"));

    world.ask(&["scale", "many=1"]);
    world.wait("one instance", |world| world.field("many", "ready").as_deref() == Some("1/1"));
}

#[test]
fn an_order_right_after_a_write_is_about_what_was_written() {
    let world = World::running();
    let says = |version: u32, then: &str| format!("command: [sh, -c, 'echo v{version} begins; {then}']\n");
    let write = |name: &str, text: &str| {
        // As `cp` does: into the file that is there.
        std::fs::write(world.path(name), text).expect("written");
    };
    let begun = |name: &str| -> Vec<String> {
        let said = world.ask(&["logs", name]);
        said.lines()
            .filter(|line| line.ends_with(" begins"))
            .map(|line| line.trim_end_matches(" begins").into())
            .collect()
    };
    let (job, night, stays) = ("exit 0", "schedule: \"0 3 1 1 *\"\n", "exec sleep 3600");
    let all = |version| {
        let run = says(version, job);
        [
            ("mig", format!("{run}restart: Never\n")),
            ("bk", format!("{run}{night}")),
            ("db", says(version, stays)),
            ("web", says(version, stays)),
        ]
    };
    for (name, text) in all(1) {
        world.put(&format!("{name}.yaml"), &text);
    }
    world.wait("the first versions", |_| ["mig", "db", "web"].iter().all(|name| begun(name) == ["v1"]));
    world.wait_status("mig", "completed");
    world.ask(&["start", "bk"]);
    world.wait("the first run", |_| begun("bk") == ["v1"]);
    world.wait_status("bk", "waiting");
    let mut wanted = vec!["v1".to_string()];
    for version in 2..6 {
        world.ask(&["stop", "db"]);
        wanted.push(format!("v{version}"));
        for (name, text) in all(version) {
            write(&format!("{name}.yaml"), &text);
            world.ask(&[if name == "web" { "restart" } else { "start" }, name]);
        }
        for name in ["mig", "bk", "db", "web"] {
            world.wait("the version that was written", |_| begun(name).last() == wanted.last());
        }
        world.wait_status("mig", "completed");
        world.wait_status("bk", "waiting");
        for name in ["mig", "bk", "db", "web"] {
            let begun = begun(name);
            assert!(begun.iter().all(|version| wanted.contains(version)), "{begun:?}");
            let mut once = begun.clone();
            once.dedup();
            assert_eq!(once, wanted, "{name} begins with no version that was replaced: {begun:?}");
            // An edit starts a job and a service by itself, and the order may come after that.
            let most = wanted.len() + if name == "bk" { 0 } else { usize::try_from(version).expect("few") };
            assert!(begun.len() <= most, "{name}: {begun:?}");
        }
    }
}

#[test]
fn who_comes_after_a_service_that_is_stopped_waits_for_its_port_and_fails_never() {
    let world = World::running();
    let port = crate::world::free_port();
    // It has its port to its last moment, two seconds after the signal, and ends where it is taken.
    let code = "import signal, socket, sys, time\n\
                signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), sys.exit(0)))\n\
                server = socket.create_server((\"127.0.0.1\", int(sys.argv[1])))\n\
                while True: server.accept()[0].close()\n";
    let command = serde_json::to_string(&["python3", "-c", code, &port.to_string()]).expect("printable");
    world.put("one.yaml", &format!("command: {command}\nport: {port}\n"));
    world.wait_status("one", "healthy");
    let names = ["one", "two", "three"];
    for pair in names.windows(2) {
        let file = |name: &str| world.dir().join(format!("{name}.yaml"));
        // As a rename on a machine that is busy: that one name is gone is seen first.
        let text = std::fs::read_to_string(file(pair[0])).expect("there");
        std::fs::remove_file(file(pair[0])).expect("removed");
        world.wait_status(pair[0], "stopping");
        world.put(&format!("{}.yaml", pair[1]), &text);
        world.wait_status(pair[1], "waiting (AddressInUse)");
        world.wait_status(pair[1], "healthy");
        assert_eq!(world.field(pair[1], "restarts").as_deref(), Some("0"), "{}", world.log());
        world.wait("the old status file to go", |world| world.status_file(pair[0]).is_none());
    }
    assert!(!world.log().contains("reason=Exited"), "{}", world.log());
}
