//! How lives end, and what is said of it.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::{Instance, LifeId};
use crate::model::reason::{Reason, Status};
use crate::model::spec::{OnLoss, Program, Readiness, RestartLimit, RestartPolicy, Strategy, Update};
use crate::model::text::Report;

const SECOND: Duration = Duration::from_secs(1);

fn has_problem(world: &World, service: &str, reason: Reason) -> bool {
    world.view(service).problems.iter().any(|problem| problem.reason == reason)
}

#[test]
fn a_restart_limit_makes_it_final_and_says_so() {
    let mut web = spec("web");
    web.restart.limit = Some(RestartLimit { max: 2, within: 60 * SECOND });
    let mut world = World::running(web);
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    world.sleep(SECOND);
    world.spawned("web", 3);
    world.crash("web", 3, 1);
    assert_eq!(world.status("web"), (Status::Failed, Some(Reason::RestartLimit)));
    assert!(!spawns(&world.sleep(600 * SECOND), "web", 4));
    assert!(spawns(&world.order("web", Order::Start), "web", 4));
    world.spawned("web", 4);
    assert_eq!(world.view("web").restarts, 2, "the last was asked for");
}

#[test]
fn two_ends_with_0_at_once_are_told_with_a_hint_that_goes_when_it_lasts() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 0);
    assert!(!has_problem(&world, "web", Reason::EndsAtOnce));
    world.spawned("web", 2);
    world.crash("web", 2, 0);
    assert!(has_problem(&world, "web", Reason::EndsAtOnce));
    world.sleep(SECOND);
    world.spawned("web", 3);
    world.sleep(10_300 * SECOND / 1_000);
    assert!(!has_problem(&world, "web", Reason::EndsAtOnce));
}

#[test]
fn one_of_several_that_finds_its_port_in_use_is_told_to_take_the_one_that_it_is_given() {
    let why_of_the_second = |command: &str| {
        let mut web = spec("web");
        web.replicas = 2;
        web.process.port = Some(8080);
        web.process.program = Program::Command(vec!["server".into(), command.into()]);
        web.readiness = Readiness::AtExec;
        let mut world = World::running(web);
        // The first restart is at once, the next one waits.
        for number in [1, 2] {
            let second = LifeId { instance: Instance { index: 1, ..life("web", 1).instance }, life: number };
            world.tell(Input::Spawned { life: second.clone(), pid: 200 + number as i32, start_time: 7 });
            world.tell(Input::Exited { life: second.clone(), exit: Exit::code(1) });
            let lines = vec!["OSError: [Errno 98] Address already in use".into()];
            world.tell(Input::Output { life: second.clone(), lines });
            world.tell(Input::Surveyed { life: second, left: vec![] });
        }
        assert_eq!(world.status("web"), (Status::Degraded, Some(Reason::InstanceDown)));
        world.view("web").why.join("\n")
    };
    let why = why_of_the_second("8080");
    assert!(why.contains("in use\"; another instance may hold that port: hand it $(PORT), which is 8081"), "{why}");
    let why = why_of_the_second("$(PORT)");
    assert!(why.contains("in use") && !why.contains("another instance"), "{why}");
}

#[test]
fn one_that_leaves_the_foreground_and_a_child_behind_has_forked() {
    let mut world = World::running(spec("web"));
    world.tell(Input::Exited { life: life("web", 1), exit: Exit::code(0) });
    let left = vec![Leftover { pid: 7, command: "daemon".into(), held: None }];
    let actions = world.tell(Input::Surveyed { life: life("web", 1), left });
    assert!(signals(&actions, "web", 15), "what it left is ended before the next life");
    world.tell(Input::Surveyed { life: life("web", 1), left: vec![] });
    assert!(has_problem(&world, "web", Reason::Forked));
}

#[test]
fn what_may_not_be_the_pinned_one_is_killed_at_once_and_told() {
    let mut web = spec("web");
    web.lifecycle.pre_stop = Some(vec!["drain".into()]);
    let mut world = World::running(web);
    let why = "w.sh was changed while it was being started".to_string();
    let actions = world.tell(Input::Mismatched { life: life("web", 1), why });
    assert!(signals(&actions, "web", 9) && !signals(&actions, "web", 15), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::RunHook { .. })), "its hooks are not its own");
    // It is tried again, and prepared anew.
    let actions = world.gone("web", 1, Exit::signal(9));
    assert!(spawns(&actions, "web", 2), "{actions:?}");
    let told = |action: &Action| matches!(action, Action::Record(event) if event.reason == Reason::DigestMismatch);
    assert!(actions.iter().any(told));
    let (reason, message) = (Reason::DigestMismatch, "w.sh is not the one that is pinned".to_string());
    world.tell(Input::SpawnFailed { life: life("web", 2), reason, message });
    assert_eq!(world.status("web"), (Status::Skipped, Some(Reason::DigestMismatch)));
    // Of a life that is over it is no news.
    let late = world.tell(Input::Mismatched { life: life("web", 1), why: "late".into() });
    assert!(!signals(&late, "web", 9));
}

#[test]
fn what_kill_does_not_end_is_named_and_holds_up_only_itself() {
    let mut web = spec("web");
    web.stop.grace_period = SECOND;
    let mut world = World::running(web);
    world.declare(spec("other"));
    world.spawned("other", 1);
    world.tell(Input::Withdrawn(name("web")));
    assert!(signals(&world.sleep(SECOND), "web", 9));
    let child = Leftover { pid: 100, command: "sh".into(), held: None };
    let held = Leftover { pid: 101, command: "dd".into(), held: Some("io_schedule".into()) };
    world.tell(Input::Surveyed { life: life("web", 1), left: vec![child, held] });
    let named = |world: &World, words: &str| world.view("web").why.iter().any(|why| why.contains(words));
    assert!(!named(&world, "io_schedule"), "a disk may be slow for a moment");
    world.sleep(10 * SECOND);
    assert_eq!(world.status("web"), (Status::Stopping, Some(Reason::StuckKilling)));
    assert!(
        named(&world, "pid 101 (dd) has not ended: it waits in the kernel (io_schedule)"),
        "{:?}",
        world.view("web").why
    );
    assert!(!spawns(&world.declare(spec("web")), "web", 2), "no second start beside it");
    assert_eq!(world.status("other").0, Status::Running);
}

#[test]
fn a_pre_stop_hook_is_ended_when_the_process_is_gone_before_it() {
    let mut web = spec("web");
    web.lifecycle.pre_stop = Some(vec!["drain".into()]);
    let mut world = World::running(web);
    let actions = world.tell(Input::Withdrawn(name("web")));
    assert!(actions.iter().any(|action| matches!(action, Action::RunHook { hook: Hook::PreStop, .. })));
    let actions = world.tell(Input::Exited { life: life("web", 1), exit: Exit::code(0) });
    assert!(actions.contains(&Action::CancelHooks { life: life("web", 1) }), "{actions:?}");
}

#[test]
fn what_runs_out_of_memory_while_its_pre_stop_hook_runs_was_not_ended_by_plugd() {
    let mut web = spec("web");
    web.lifecycle.pre_stop = Some(vec!["drain".into()]);
    let oom = Exit { oom_killed: true, ..Exit::signal(9) };
    for (drained, reason) in [(false, Some(Reason::OomKilled)), (true, None)] {
        let mut world = World::running(web.clone());
        world.order("web", Order::Stop);
        if drained {
            world.tell(Input::HookEnded { life: life("web", 1), hook: Hook::PreStop, result: Ok(()) });
        }
        world.gone("web", 1, oom);
        assert_eq!(world.view("web").last_exit.as_ref().map(|exit| exit.reason), Some(reason), "{drained}");
    }
}

#[test]
fn a_hook_that_uses_up_the_grace_leaves_the_signal_two_seconds() {
    let mut web = spec("web");
    web.lifecycle.pre_stop = Some(vec!["drain".into()]);
    web.stop.grace_period = 10 * SECOND;
    let mut world = World::running(web);
    world.tell(Input::Withdrawn(name("web")));
    assert!(!signals(&world.sleep(9 * SECOND), "web", 15), "the hook has not ended");
    let actions = world.sleep(SECOND + 2 * SECOND - Duration::from_millis(1));
    assert!(signals(&actions, "web", 15) && !signals(&actions, "web", 9), "{actions:?}");
    assert!(signals(&world.sleep(Duration::from_millis(1)), "web", 9));
}

fn drains_told(actions: &[Action]) -> Vec<String> {
    let of = |action: &Action| match action {
        Action::Record(event) if event.reason == Reason::FailedPreStopHook => Some(event.message.clone()),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn a_pre_stop_hook_that_fails_is_told_and_the_stop_goes_on() {
    let stopping = || {
        let mut web = spec("web");
        web.lifecycle.pre_stop = Some(vec!["drain".into()]);
        web.stop.grace_period = 10 * SECOND;
        let mut world = World::running(web);
        world.order("web", Order::Stop);
        world
    };
    let ended = |result| Input::HookEnded { life: life("web", 1), hook: Hook::PreStop, result };
    let failed = |why: &str| ended(Err((Reason::Error, why.to_string())));

    let mut world = stopping();
    let actions = world.tell(failed("exited with 3: no such route"));
    assert_eq!(drains_told(&actions), ["the preStop hook of web exited with 3: no such route"]);
    assert!(signals(&actions, "web", 15), "{actions:?}");

    let mut world = stopping();
    assert!(drains_told(&world.tell(ended(Ok(())))).is_empty());

    // It ended by itself meanwhile: that its hook was killed for it is no failure.
    let mut world = stopping();
    let mut actions = world.tell(Input::Exited { life: life("web", 1), exit: Exit::code(0) });
    actions.extend(world.tell(failed("was killed by signal 9")));
    assert!(drains_told(&actions).is_empty(), "{actions:?}");

    // Its limit is the grace, and whoever comes first tells it.
    for why in ["did not end within 10s: waiting", "was killed by signal 9: waiting"] {
        let mut world = stopping();
        let mut actions = world.sleep(10 * SECOND);
        actions.extend(world.tell(failed(why)));
        actions.extend(world.tell(Input::Exited { life: life("web", 1), exit: Exit::signal(15) }));
        assert_eq!(drains_told(&actions), ["the preStop hook of web did not end within 10 s: waiting"]);
    }
    let mut world = stopping();
    let mut actions = world.sleep(10 * SECOND);
    actions.extend(world.tell(Input::Exited { life: life("web", 1), exit: Exit::signal(15) }));
    actions.extend(world.tell(failed("was killed by signal 9")));
    assert_eq!(drains_told(&actions), ["the preStop hook of web did not end within 10 s"]);
}

#[test]
fn a_service_puts_its_end_off_for_ten_minutes_and_no_longer() {
    let mut web = spec("web");
    web.stop.grace_period = 10 * SECOND;
    let mut world = World::running(web);
    world.tell(Input::Withdrawn(name("web")));
    let later = || Notification { extend_timeout: Some(3_600 * SECOND), ..Notification::default() };
    world.notify("web", 1, later());
    assert!(!signals(&world.sleep(605 * SECOND), "web", 9), "it asked for it");
    world.notify("web", 1, later());
    assert!(signals(&world.sleep(5 * SECOND), "web", 9));
}

#[test]
fn restarts_are_told_until_a_withdrawn_service_is_gone_and_begin_anew_with_a_new_one() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.tell(Input::Withdrawn(name("web")));
    assert_eq!((world.status("web").0, world.view("web").restarts), (Status::Stopping, 1));
    world.declare(spec("web"));
    assert_eq!(world.view("web").restarts, 0);
}

#[test]
fn what_never_ran_has_no_log_and_nothing_to_kill_and_no_user_to_warn_of() {
    let mut world = World::with(Config {
        kill_scope: Some("cgroup"),
        log_dir: Some("/var/log".into()),
        warn_root: true,
        ..config()
    });
    let mut off = spec("web");
    off.enabled = false;
    let warned = |actions: &[Action]| {
        actions.iter().any(|action| matches!(action, Action::Record(event) if event.reason == Reason::RunsAsRoot))
    };
    assert!(!warned(&world.declare(off)));
    assert_eq!((world.view("web").kill_scope.clone(), world.view("web").log.clone()), (None, None));
    assert!(warned(&world.declare(spec("web"))));
    assert_eq!(world.view("web").log.as_deref(), Some("/var/log/web.log"));
}

#[test]
fn the_last_exit_says_who_asked_for_it() {
    let by = |world: &World| world.view("web").last_exit.clone().expect("an exit").by;
    let mut web = spec("web");
    web.liveness_probe = Some(crate::model::spec::Probe { failure_threshold: 2, ..tcp(80) });
    let mut world = World::running(web.clone());
    world.crash("web", 1, 1);
    assert_eq!(by(&world), None);
    world.spawned("web", 2);
    for _ in 0..2 {
        world.verdict("web", 2, ProbeSlot::Liveness, false);
    }
    world.gone("web", 2, Exit::signal(15));
    assert_eq!(by(&world).as_deref(), Some("the liveness probe failed 2 times in a row: tcp 127.0.0.1:80 refused"));
    world.order("web", Order::Start);
    world.spawned("web", 3);
    assert!(by(&world).is_some(), "it stands while the next life runs");
    world.order("web", Order::Restart);
    world.gone("web", 3, Exit::signal(15));
    assert_eq!(by(&world).as_deref(), Some("plugd restart"));
    world.spawned("web", 4);
    web.process.args = vec!["--new".into()];
    let actions = world.declare(web);
    let Some(Action::Try { digest, .. }) = actions.iter().find(|a| matches!(a, Action::Try { .. })) else {
        panic!("no try in {actions:?}")
    };
    world.tell(Input::Tried { name: name("web"), digest: *digest, result: Ok(()) });
    world.gone("web", 4, Exit::signal(15));
    assert_eq!(by(&world).as_deref(), Some("an edit"));
    world.spawned("web", 5);
    world.order("web", Order::Stop);
    world.gone("web", 5, Exit::signal(15));
    assert_eq!(by(&world).as_deref(), Some("plugd stop"));
}

#[test]
fn the_last_exit_says_that_memory_ran_out_also_to_the_next_controller() {
    let reason = |world: &World| world.view("web").last_exit.clone().expect("an exit").reason;
    let mut world = World::running(spec("web"));
    let actions = world.gone("web", 1, Exit { oom_killed: true, ..Exit::signal(9) });
    assert_eq!(reason(&world), Some(Reason::OomKilled));
    let blob = actions.iter().find_map(|action| match action {
        Action::Spawn { blob, .. } => Some(blob.clone()),
        _ => None,
    });
    let memory = actions.iter().rev().find_map(|action| match action {
        Action::Remember(_, memory) => Some(memory.clone()),
        _ => None,
    });
    for memory in [memory, None] {
        let mut next = World::unread(config(), world.now);
        if let Some(memory) = memory {
            let text = serde_json::to_string(&memory).expect("plain data");
            next.tell(Input::Remembered(name("web"), serde_json::from_str(&text).expect("the same")));
        }
        let (age, blob) = (SECOND, blob.clone().expect("the second is at once"));
        let second = Adopted { life: life("web", 2), pid: 102, pre_stop: false, age, exit: None, blob };
        next.tell(Input::Adopted(second));
        next.declare(spec("web"));
        assert_eq!(reason(&next), Some(Reason::OomKilled));
    }

    world.spawned("web", 2);
    world.gone("web", 2, Exit::signal(9));
    assert_eq!(reason(&world), None, "somebody else killed it");
}

#[test]
fn a_child_that_ran_out_of_memory_long_ago_is_not_why_it_ends_when_it_is_told_to() {
    let counted = Exit { oom_killed: true, pids_met: Some(8), ..Exit::signal(15) };
    let mut web = spec("web");
    web.resources.limits.memory = Some(32 * 1024 * 1024);
    let mut world = World::running(web);
    let told = world.tell(Input::LostProcess { life: life("web", 1) });
    let message =
        "a process of web ran out of memory (its limit is 32Mi) and was killed by the kernel; the others go on";
    assert!(told.iter().any(|action| matches!(action, Action::Record(event) if event.message == message)), "{told:?}");
    let blobs = |actions: &[Action]| {
        let blob = |action: &Action| match action {
            Action::SetBlob { blob, .. } => Some(blob.clone()),
            _ => None,
        };
        actions.iter().filter_map(blob).next_back()
    };
    let blob = blobs(&world.order("web", Order::Stop)).expect("what the next controller reads");
    world.gone("web", 1, counted);
    // As who stops it sees it, and as the next controller does.
    let mut next = World::unread(config(), world.now);
    let life = life("web", 1);
    next.tell(Input::Adopted(Adopted { life, pid: 101, pre_stop: false, age: SECOND, exit: Some(counted), blob }));
    next.declare(spec("web"));
    for world in [world, next] {
        let view = world.view("web");
        let exit = view.last_exit.as_ref().expect("an exit");
        assert_eq!((exit.signal.as_deref(), exit.reason), (Some("SIGTERM"), None));
        assert!(view.problem(Reason::OomKilled).is_none() && view.problems.is_empty(), "{:?}", view.problems);
    }
}

#[test]
fn what_a_wrapper_lacks_is_told_in_its_own_words() {
    let mut web = spec("web");
    web.process.program = crate::model::spec::Program::Wrapper(crate::model::spec::Wrapper {
        path: "/w/web.sh".into(),
        sha256: None,
        port_arg: false,
    });
    let mut world = World::running(web);
    // The second try is at once.
    world.gone("web", 1, Exit::code(127));
    world.spawned("web", 2);
    world.tell(Input::Exited { life: life("web", 2), exit: Exit::code(127) });
    let said = "/usr/bin/env: 'nodee': No such file or directory";
    world.tell(Input::Output { life: life("web", 2), lines: vec![said.into(), String::new()] });
    world.tell(Input::Surveyed { life: life("web", 2), left: vec![] });
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Skipped, Some(Reason::DependencyMissing)));
    assert!(view.why[0].ends_with(&format!("is missing: {said:?}")), "{:?}", view.why);
    assert_eq!(view.problems[0].message, view.why[0]);
}

fn noted(actions: &[Action]) -> Vec<(Option<i32>, Vec<String>, i64)> {
    let exits = actions.iter().filter_map(|action| match action {
        Action::NoteExit(_, exit) => Some((exit.code, exit.output.clone(), exit.at.as_microsecond())),
        _ => None,
    });
    exits.collect()
}

#[test]
fn the_last_words_of_a_life_are_noted_with_its_end_however_many_have_ended_since() {
    let mut world = World::running(spec("web"));
    let mut told = Vec::new();
    for number in 1..4 {
        let exit = noted(&world.crash("web", number, number as i32)).remove(0);
        assert_eq!((exit.0, exit.1.len()), (Some(number as i32), 0));
        told.push(exit.2);
        world.sleep(20 * SECOND);
        world.spawned("web", number + 1);
    }
    for (number, at) in (1..).zip(told) {
        let lines = vec![format!("bye {number}")];
        let actions = world.tell(Input::Output { life: life("web", number), lines: lines.clone() });
        assert_eq!(noted(&actions), [(Some(number as i32), lines.clone(), at)]);
        assert!(
            noted(&world.tell(Input::Output { life: life("web", 9), lines })).is_empty(),
            "of no end that is known"
        );
    }
    // Shown is the last end, with its own words.
    let shown = world.view("web").last_exit.clone().expect("an end");
    assert_eq!((shown.code, shown.output), (Some(3), vec!["bye 3".into()]));
}

#[test]
fn of_several_instances_that_end_in_one_turn_each_end_is_noted_with_its_own_words() {
    let mut web = spec("web");
    web.replicas = 2;
    let mut world = World::running(web.clone());
    let second = LifeId { instance: Instance { index: 1, ..life("web", 1).instance }, life: 1 };
    world.tell(Input::Spawned { life: second.clone(), pid: 200, start_time: 7 });
    for life in [life("web", 1), second.clone()] {
        world.controller.absorb(Input::Exited { life, exit: Exit::code(1) }, world.now);
    }
    let ends = noted(&world.decide());
    assert!(ends.len() == 2 && ends[0].2 != ends[1].2, "{ends:?}");
    // One of them is let go before its words come.
    for left in [life("web", 1), second.clone()] {
        world.tell(Input::Surveyed { life: left, left: vec![] });
    }
    world.order("web", Order::Stop);
    web.replicas = 1;
    world.declare(web);
    let actions = world.tell(Input::Output { life: second, lines: vec!["bye".into()] });
    assert_eq!(noted(&actions), [(Some(1), vec!["bye".to_string()], ends[1].2)]);
}

#[test]
fn the_triple_says_of_one_that_lives_again_after_a_failed_start_what_its_status_says() {
    let mut world = World::running(spec("web"));
    assert_eq!(world.controller.report().started, [name("web")]);
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    assert_eq!(world.status("web").0, Status::Running);
    let report = world.controller.report();
    assert_eq!((report.started, Report::told(&report.failed)), (vec![name("web")], vec![]));
    assert!(world.view("web").unproven, "it has proved nothing yet");
    world.crash("web", 2, 1);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    let report = world.controller.report();
    assert_eq!((report.started, Report::told(&report.failed)), (vec![], vec![("web", "BackOff")]));
    world.sleep(SECOND);
    world.spawned("web", 3);
    world.sleep(11 * SECOND);
    assert!(!world.view("web").unproven);
}

#[test]
fn a_try_that_came_to_no_process_is_no_restart() {
    let mut world = World::new();
    world.declare(spec("web"));
    let fails = |world: &mut World, number: u64| {
        let (reason, message) = (Reason::WorkingDirNotFound, "working directory /nowhere cannot be used".into());
        world.tell(Input::SpawnFailed { life: life("web", number), reason, message });
        world.sleep(Duration::from_secs(60));
    };
    fails(&mut world, 1);
    fails(&mut world, 2);
    world.spawned("web", 3);
    assert_eq!(world.view("web").restarts, 0);
    world.crash("web", 3, 1);
    world.sleep(Duration::from_secs(60));
    fails(&mut world, 4);
    world.spawned("web", 5);
    assert_eq!((world.view("web").restarts, world.view("web").instances[0].restarts), (1, 1));
}

#[test]
fn an_instance_that_is_on_its_way_out_keeps_its_service_from_being_stopped() {
    let mut web = spec("web");
    web.replicas = 2;
    let mut world = World::running(web);
    let second = crate::model::name::LifeId {
        instance: crate::model::name::Instance { service: name("web"), index: 1 },
        life: 1,
    };
    world.tell(Input::Spawned { life: second.clone(), pid: 200, start_time: 7 });
    world.order("web", Order::Scale(1));
    world.order("web", Order::Stop);
    world.gone("web", 1, Exit::signal(15));
    assert_eq!(world.status("web").0, Status::Stopping);
    world.tell(Input::Exited { life: second.clone(), exit: Exit::signal(15) });
    world.tell(Input::Surveyed { life: second, left: vec![] });
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::StoppedByOperator)));
}

#[test]
fn a_job_that_completes_is_not_lost_to_those_who_needed_it() {
    let mut world = World::new();
    let mut job = spec("migrate");
    job.restart.policy = RestartPolicy::Never;
    world.declare(job);
    let mut web = spec("web");
    web.depends_on = vec![crate::model::spec::Dependency { on_loss: OnLoss::Restart, ..needs("migrate") }];
    world.declare(web);
    assert!(spawns(&world.spawned("migrate", 1), "web", 1));
    world.spawned("web", 1);
    let actions = world.crash("migrate", 1, 0);
    assert!(!signals(&actions, "web", 15), "{actions:?}");
}

#[test]
fn a_dependency_that_is_lost_in_the_same_turn_is_not_counted_on() {
    let mut world = World::running(spec("db"));
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    let now = world.now;
    world.controller.absorb(Input::Declared(declare(web)), now);
    let actions = world.tell(Input::Exited { life: life("db", 1), exit: Exit::code(1) });
    assert!(!spawns(&actions, "web", 1), "{actions:?}");
}

#[test]
fn an_instance_that_ran_to_its_end_does_not_hold_up_a_roll() {
    let mut work = spec("work");
    work.replicas = 2;
    work.restart.policy = RestartPolicy::OnFailure;
    work.update = Some(Update { strategy: Some(Strategy::Rolling), max_surge: None, max_unavailable: Some(1) });
    let mut world = World::running(work.clone());
    let mut second = life("work", 1);
    second.instance.index = 1;
    world.tell(Input::Spawned { life: second.clone(), pid: 200, start_time: 7 });
    world.crash("work", 1, 0);
    work.process.args = vec!["--new".into()];
    let actions = world.declare(work);
    let key = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    let digest = key.expect("the new version is tried");
    let actions = world.tell(Input::Tried { name: name("work"), digest, result: Ok(()) });
    // The one that had completed runs the new version to its end.
    assert!(spawns(&actions, "work", 2) && signals(&actions, "work", 15), "{actions:?}");
}

#[test]
fn each_edit_begins_the_ladder_anew() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    let mut edited = spec("web");
    edited.labels.insert("tier".into(), "front".into());
    assert!(spawns(&world.declare(edited), "web", 3), "a wait ends at once by an edit");
}

#[test]
fn a_port_probe_that_passes_late_is_told_from_sixty_seconds_on() {
    let mut web = spec("web");
    web.readiness = Readiness::ImpliedPort(tcp(80));
    let mut world = World::running(web);
    let fails = |world: &mut World, reason: Option<Reason>| {
        let verdict = Verdict { passed: false, message: "so".into(), reason, took: SECOND / 1000 };
        world.until_asked("web", 1, ProbeSlot::Readiness);
        world.tell(Input::Verdict { life: life("web", 1), probe: ProbeSlot::Readiness, verdict });
    };
    for _ in 0..100 {
        fails(&mut world, Some(Reason::PortNotOpen));
    }
    world.sleep(60 * SECOND);
    assert_eq!(world.status("web"), (Status::Starting, Some(Reason::PortNotOpen)));
    assert!(world.view("web").problems.is_empty(), "it is told once");
    fails(&mut world, None);
    assert_eq!(world.status("web"), (Status::Starting, Some(Reason::ProbeNotPassed)), "it answers: 404");
}

#[test]
fn a_start_that_was_refused_keeps_its_reason_while_it_is_tried_again_and_is_told_once_in_a_second() {
    let mut world = World::new();
    world.declare(spec("web"));
    let refuse = |world: &mut World, number: u64| {
        let (reason, message) = (Reason::WorkingDirNotFound, "working directory /nowhere cannot be used".into());
        let actions = world.tell(Input::SpawnFailed { life: life("web", number), reason, message });
        let told = |action: &&Action| matches!(action, Action::Record(event) if event.reason == reason);
        actions.iter().filter(told).count()
    };
    assert_eq!(refuse(&mut world, 1), 1);
    assert_eq!(world.status("web").0, Status::Starting, "the second try is at once");
    assert!(has_problem(&world, "web", Reason::WorkingDirNotFound));
    assert_eq!(Report::told(&world.controller.report().failed), [("web", "WorkingDirNotFound")]);
    assert_eq!(refuse(&mut world, 2), 0, "word for word the same");
    world.sleep(2 * SECOND);
    assert_eq!(refuse(&mut world, 3), 1);
    world.sleep(2 * SECOND);
    world.spawned("web", 4);
    assert!(!has_problem(&world, "web", Reason::WorkingDirNotFound));
    world.crash("web", 4, 1);
    world.sleep(60 * SECOND);
    assert!(!has_problem(&world, "web", Reason::WorkingDirNotFound), "what came to a process is not refused");
}

#[test]
fn one_that_ends_with_0_at_once_is_told_the_remedy_while_it_waits_too() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 0);
    world.spawned("web", 2);
    world.crash("web", 2, 0);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    let why = world.view("web").why[0].clone();
    assert!(why.contains("exits with 0") && why.contains("2 times running"), "{why}");
    assert!(why.contains("`restart: Never`") && why.contains("stdin is /dev/null"), "{why}");

    let mut script = declare(spec("job"));
    script.source.file = "job.sh".into();
    world.tell(Input::Declared(script));
    for life in 1..=2 {
        world.spawned("job", life);
        world.crash("job", life, 0);
    }
    let why = world.view("job").why[0].clone();
    assert!(why.contains("`# plugd: restart: Never`"), "{why}");
}

#[test]
fn what_finds_no_room_is_no_crash_loop_and_waits_no_longer_when_somebody_goes() {
    let mut world = World::running(spec("calm"));
    world.declare(spec("late"));
    for number in 1..=7 {
        let message = "no pipe can be made".to_string();
        let refusal = Input::SpawnFailed { life: life("late", number), reason: Reason::ResourceExhausted, message };
        let again = world.tell(refusal);
        // The first try again is at once.
        assert!(
            number == 7 || spawns(&again, "late", number + 1) || spawns(&world.sleep(61 * SECOND), "late", number + 1)
        );
    }
    assert_eq!(world.status("late"), (Status::Unhealthy, Some(Reason::ResourceExhausted)));
    world.tell(Input::Withdrawn(name("calm")));
    world.gone("calm", 1, Exit::signal(15));
    assert!(spawns(&world.sleep(2 * SECOND), "late", 8), "the ladder stands at a minute");
}

#[test]
fn one_that_fails_while_its_port_is_held_says_by_whom() {
    let mut web = spec("web");
    web.process.port = Some(2525);
    let mut world = World::running(web);
    let holder = "port 2525 is held by pid 977 (postfix)";
    // The second try is at once.
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    assert!(!world.view("web").why[0].contains("2525"), "nobody has looked yet");
    let asks = world.tell(Input::PortHeld { life: life("web", 2), message: holder.into() });
    assert!(asks.iter().any(|action| matches!(action, Action::AwaitPort(2525))), "{asks:?}");
    assert_eq!(world.view("web").why, [format!("exits with 1 after 0 s, 2 times running; {holder}")]);
    assert_eq!(world.view("web").problems[0].message, holder);

    // It ends before anybody can look: what was said stands, and the log has it, too.
    world.sleep(SECOND);
    world.spawned("web", 3);
    let told = world.crash("web", 3, 1);
    let said = format!("web exited with 1 after 0 s; {holder}");
    assert!(told.iter().any(|action| matches!(action, Action::Record(event) if event.message == said)), "{told:?}");
    assert!(world.view("web").why[0].ends_with(&format!("3 times running; {holder}")), "{:?}", world.view("web").why);

    world.tell(Input::PortFree(2525));
    assert!(!world.view("web").why[0].contains("2525"), "{:?}", world.view("web").why);
    // News of a life that is over does not come back.
    world.sleep(3 * SECOND);
    world.spawned("web", 4);
    world.tell(Input::PortHeld { life: life("web", 3), message: holder.into() });
    world.crash("web", 4, 1);
    assert!(!world.view("web").why[0].contains("2525"), "{:?}", world.view("web").why);
}

#[test]
fn a_job_that_failed_while_its_port_was_held_says_by_whom() {
    let mut job = spec("job");
    job.process.port = Some(2525);
    job.restart.policy = crate::model::spec::RestartPolicy::Never;
    let mut world = World::running(job);
    world.crash("job", 1, 1);
    let holder = "port 2525 is held by the service web, pid 977 (postfix)";
    world.tell(Input::PortHeld { life: life("job", 1), message: holder.into() });
    assert_eq!(world.status("job"), (Status::Failed, Some(Reason::Error)));
    let said = "exited with 1 after 0 s; port 2525 was held by the service web, pid 977 (postfix)";
    assert_eq!(world.view("job").why, [said]);
    assert!(world.view("job").problems.is_empty(), "nobody tells it when that is no longer so");
}
