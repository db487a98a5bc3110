//! Edits that cannot be carried out leave the good version in force and say why.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::Name;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Check, Digest, Probe, Readiness, RestartPolicy, Spec};
use crate::model::text::Cause;

const SECOND: Duration = Duration::from_secs(1);

/// The same service with another program and this dependency.
fn edited(service: &str, dependency: &str) -> Spec {
    let mut edited = spec(service);
    edited.process.args = vec!["--new".into()];
    edited.depends_on = vec![needs(dependency)];
    edited
}

/// What was said of blocked updates, in order.
fn blocked(actions: &[Action]) -> Vec<String> {
    let events = actions.iter().filter_map(|action| match action {
        Action::Record(event) if event.reason == Reason::UpdateBlocked => Some(event.message.clone()),
        _ => None,
    });
    events.collect()
}

/// What is told of the first problem for programs, which read no sentences.
fn cause(world: &World) -> Option<(Reason, Vec<Name>)> {
    let cause = world.view("web").problems[0].cause.clone()?;
    Some((cause.reason, cause.services))
}

/// Whose limits are to be set anew, by the number of processes that stands there.
fn resized(actions: &[Action]) -> Vec<Option<u64>> {
    let resized = actions.iter().filter_map(|action| match action {
        Action::Resize { spec, .. } => Some(spec.resources.limits.pids),
        _ => None,
    });
    resized.collect()
}

fn limited(pids: u64) -> Spec {
    let mut limited = spec("web");
    limited.process.counted = true;
    limited.resources.limits.pids = Some(pids);
    limited
}

#[test]
fn other_limits_are_the_kernels_to_take_and_what_runs_of_another_version_keeps_its_own() {
    let mut world = World::running(limited(10));
    assert!(resized(&world.decide()).is_empty(), "it began with them");

    let actions = world.declare(limited(20));
    assert_eq!(resized(&actions), [Some(20)]);
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    assert!(resized(&world.declare(limited(20))).is_empty(), "nothing new");

    // A version that waits to take the place of the one that runs.
    let edit = Spec { resources: limited(30).resources, ..edited("web", "dbb") };
    let mut process = edit.process.clone();
    process.counted = true;
    let actions = try_well(&mut world, Spec { process, ..edit });
    assert!(resized(&actions).is_empty(), "{actions:?}");
    assert_eq!(world.view("web").manifest.in_force, Some(2));
}

#[test]
fn an_edit_of_limits_while_its_process_is_being_made_is_not_lost() {
    let mut world = World::new();
    world.declare(limited(10));
    world.declare(limited(20));
    assert_eq!(resized(&world.spawned("web", 1)), [Some(20)]);
}

#[test]
fn a_misspelt_dependency_in_an_edit_leaves_the_good_version_running_until_it_is_mended() {
    let mut world = World::running(spec("web"));
    world.declare(spec("db"));
    world.spawned("db", 1);

    let actions = try_well(&mut world, edited("web", "dbb"));

    assert!(!signals(&actions, "web", 15), "{actions:?}");
    let view = world.view("web");
    assert_eq!((view.status, view.problems[0].reason), (Status::Running, Reason::UpdateBlocked));
    assert!(view.problems[0].message.contains("no service dbb (did you mean db?)"), "{:?}", view.problems);
    assert_eq!(cause(&world), Some((Reason::DependencyNotReady, vec![name("dbb")])));
    assert_eq!((view.manifest.generation, view.manifest.in_force), (2, Some(1)));
    assert_eq!(blocked(&actions).len(), 1, "{actions:?}");
    assert!(blocked(&world.sleep(Duration::from_secs(60))).is_empty(), "it is told once");

    let actions = try_well(&mut world, edited("web", "db"));
    assert!(signals(&actions, "web", 15), "{actions:?}");
    assert!(spawns(&world.gone("web", 1, Exit::signal(15)), "web", 2));
    world.spawned("web", 2);
    let view = world.view("web");
    assert_eq!((view.manifest.generation, view.manifest.in_force, view.problems.len()), (3, None, 0));
}

#[test]
fn a_dependency_on_itself_or_a_new_cycle_in_an_edit_leaves_the_good_version_running() {
    let mut world = World::running(spec("web"));
    let mut api = spec("api");
    api.depends_on = vec![needs("web")];
    world.declare(api);
    world.spawned("api", 1);

    for (dependency, path) in [("web", "web → web"), ("api", "web → api → web")] {
        let actions = try_well(&mut world, edited("web", dependency));
        assert!(!signals(&actions, "web", 15), "{actions:?}");
        let view = world.view("web");
        assert_eq!((view.status, view.problems[0].reason), (Status::Running, Reason::UpdateBlocked));
        assert!(view.problems[0].message.contains(path), "{:?}", view.problems);
        let names = path.split(" → ").map(name).collect();
        assert_eq!(cause(&world), Some((Reason::DependencyCycle, names)));
        assert_eq!(view.manifest.in_force, Some(1));
    }
}

#[test]
fn what_runs_says_that_it_would_not_start_again_where_what_it_depends_on_is_gone() {
    let mut world = World::new();
    for one in ["db", "dba"] {
        world.declare(spec(one));
        world.spawned(one, 1);
    }
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    world.spawned("web", 1);

    world.tell(Input::Withdrawn(name("db")));
    let actions = world.gone("db", 1, Exit::signal(15));

    let view = world.view("web");
    assert_eq!((view.status, view.problems[0].reason), (Status::Running, Reason::DependencyNotReady));
    assert!(view.problems[0].message.contains("did you mean dba?"), "{:?}", view.problems);
    assert!(actions.iter().any(
        |action| matches!(action, Action::Record(event) if event.warning && event.reason == Reason::DependencyNotReady)
    ));
}

#[test]
fn an_edit_whose_dependency_is_coming_waits_for_it_with_the_old_version_running() {
    let mut world = World::running(spec("web"));
    let mut db = spec("db");
    db.readiness = Readiness::ImpliedPort(tcp(5432));
    world.declare(db);
    world.spawned("db", 1);

    let actions = try_well(&mut world, edited("web", "db"));

    assert!(!signals(&actions, "web", 15), "{actions:?}");
    assert_eq!(world.view("web").problems[0].reason, Reason::DependencyNotReady);
    let actions = world.verdict("db", 1, ProbeSlot::Readiness, true);
    let digest = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    let digest = digest.expect("now it is tried");
    assert!(signals(&world.tell(Input::Tried { name: name("web"), digest, result: Ok(()) }), "web", 15));
}

#[test]
fn a_blocked_update_is_an_event_with_the_reason_and_the_version_before_stays_in_force() {
    let mut world = World::running(spec("web"));
    let mut new = spec("web");
    new.process.args = vec!["--new".into()];
    let actions = world.declare(new);
    let Some(Action::Try { digest, .. }) = actions.iter().find(|a| matches!(a, Action::Try { .. })) else {
        panic!("no try in {actions:?}")
    };
    let no = Err((Reason::ProgramNotFound, "no such program".into()));
    let actions = world.tell(Input::Tried { name: name("web"), digest: *digest, result: no });
    assert!(blocked(&actions)[0].contains("ProgramNotFound"), "{actions:?}");
    assert_eq!(cause(&world), Some((Reason::ProgramNotFound, Vec::new())));
    let manifest = &world.view("web").manifest;
    assert_eq!((manifest.generation, manifest.in_force), (2, Some(1)));
}

#[test]
fn what_runs_of_an_older_version_is_checked_by_its_own_probes_under_a_new_controller_too() {
    let mut old = spec("web");
    old.readiness = Readiness::ImpliedPort(tcp(80));
    let mut world = World::new();
    let mut blob = Vec::new();
    let hold = |actions: &[Action], blob: &mut Vec<u8>| {
        for action in actions {
            if let Action::Spawn { blob: new, .. } | Action::SetBlob { blob: new, .. } = action {
                blob.clone_from(new);
            }
        }
    };
    hold(&world.declare(old.clone()), &mut blob);
    hold(&world.spawned("web", 1), &mut blob);
    hold(&world.verdict("web", 1, ProbeSlot::Readiness, true), &mut blob);
    // An edit of the probe alone is in force at once, and the keeper is told.
    old.readiness = Readiness::ImpliedPort(tcp(81));
    hold(&world.declare(old), &mut blob);
    let mut new = edited("web", "dbb");
    new.readiness = Readiness::ImpliedPort(tcp(99));

    let mut next = World::unread(config(), world.now);
    let adopted =
        Adopted { life: life("web", 1), pid: 101, pre_stop: false, age: Duration::from_secs(3), exit: None, blob };
    let memory = Memory { generation: 2, digest: "0".repeat(32), lives: vec![1], ..Memory::default() };
    next.tell(Input::Remembered(name("web"), Box::new(memory)));
    next.tell(Input::Adopted(adopted));
    let mut actions = next.declare(new);
    actions.extend(next.tell(Input::Scanned));
    actions.extend(next.until_asked("web", 1, ProbeSlot::Readiness));
    let asked = actions.iter().find_map(|action| match action {
        Action::Probe { spec, .. } => spec.readiness.probe().cloned(),
        _ => None,
    });
    assert_eq!(asked.map(|probe| probe.check), Some(tcp(81).check));
    next.answer("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(next.status("web").0, Status::Healthy);
    assert_eq!(next.view("web").manifest.in_force, Some(2));
}

#[test]
fn what_ends_the_node_is_told_in_the_last_status_of_the_service_and_of_the_node() {
    let limit = Some(Duration::from_secs(300));
    let mut world = World::with(Config { exit_on_required: limit, pid1: true, ..config() });
    let mut job = spec("migrate");
    job.required = true;
    job.restart.policy = crate::model::spec::RestartPolicy::Never;
    world.declare(job);
    world.declare(spec("web"));
    world.spawned("migrate", 1);
    world.spawned("web", 1);

    world.crash("migrate", 1, 3);
    world.gone("web", 1, Exit::signal(15));

    let view = world.view("migrate");
    assert_eq!((view.status, view.reason), (Status::Stopped, Some(Reason::ControllerStopped)));
    assert_eq!(view.why[0], "plugd ended by itself: migrate is required and has ended for good");
    assert!(view.why[1].contains("exited with 3") || view.why[1].contains("exits with 3"), "{:?}", view.why);
    assert_eq!(view.last_exit.as_ref().and_then(|exit| exit.code), Some(3));
    assert!(world.controller.node().ends_for.is_some_and(|why| why.contains("migrate")));
}

#[test]
fn what_has_had_no_verdict_is_pending_and_neither_started_nor_failed() {
    let mut world = World::new();
    let mut db = spec("db");
    db.readiness = Readiness::ImpliedPort(tcp(5432));
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(db);
    world.declare(web);
    world.spawned("db", 1);
    let names = |list: Vec<Cause>| -> Vec<String> { list.into_iter().map(|cause| cause.name.to_string()).collect() };
    let report = world.controller.report();
    assert_eq!((names(report.pending), names(report.failed)), (vec!["db".into(), "web".into()], vec![]));

    world.crash("db", 1, 1);

    let report = world.controller.report();
    assert_eq!((names(report.pending), names(report.failed)), (vec![], vec!["db".into(), "web".into()]));
}

/// Ready once it prints a line that matches.
fn prints(mut spec: Spec, pattern: &str) -> Spec {
    spec.readiness = Readiness::Probe(Probe { check: Check::LogLine(pattern.into()), ..tcp(1) });
    spec
}

fn line(pattern: &str) -> Input {
    Input::LogLine { life: life("web", 1), pattern: pattern.into() }
}

/// By what the edge was told to judge.
fn judged(actions: &[Action]) -> Vec<Option<String>> {
    let of = actions.iter().filter_map(|action| match action {
        Action::Judge { spec, .. } => Some(spec.log_line().map(str::to_owned)),
        _ => None,
    });
    of.collect()
}

#[test]
fn a_line_of_the_pattern_before_an_edit_passes_no_check_of_the_version_after_it() {
    let mut world = World::running(prints(spec("web"), "redy"));

    assert_eq!(judged(&world.declare(prints(spec("web"), "ready"))), [Some("ready".to_owned())]);
    world.tell(line("redy"));
    assert_eq!(world.status("web").0, Status::Starting);

    // The check that is in flight now has to answer for itself.
    let mut checked = spec("web");
    checked.readiness = Readiness::ImpliedPort(tcp(80));
    assert_eq!(judged(&world.declare(checked)), [None]);
    world.until_asked("web", 1, ProbeSlot::Readiness);
    world.tell(line("ready"));
    assert_eq!(world.status("web").0, Status::Starting);
    world.answer("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn while_an_update_is_blocked_the_line_of_the_version_that_runs_counts() {
    let mut world = World::running(prints(spec("web"), "old"));

    let actions = world.declare(prints(edited("web", "missing"), "new"));

    assert!(judged(&actions).is_empty(), "{actions:?}");
    world.tell(line("new"));
    assert_eq!(world.status("web").0, Status::Starting);
    world.tell(line("old"));
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn an_edit_of_watched_files_is_told_with_their_names_and_their_return_is_none() {
    let with = |content: u8, changes: u64, edited: &[&str], lacks: bool| {
        let program = Resolved::Found { wrapper: None, content: Digest([content; 16]) };
        let edited = edited.iter().map(|path| path.to_string()).collect();
        Input::Declared(Declaration { program, watched: Watched { changes, edited, lacks }, ..declare(spec("web")) })
    };
    let updated = |actions: Vec<Action>| -> Vec<String> {
        let events = actions.into_iter().filter_map(|action| match action {
            Action::Record(event) if event.reason == Reason::Updated => Some(event.message),
            _ => None,
        });
        events.collect()
    };
    let mut world = World::new();
    world.tell(with(0, 0, &[], false));
    world.spawned("web", 1);
    assert_eq!(updated(world.tell(with(1, 1, &["conf/x.toml"], false))), ["conf/x.toml was edited"]);
    assert!(updated(world.tell(with(1, 1, &["conf/x.toml"], true))).is_empty(), "it is away");
    assert!(updated(world.tell(with(1, 1, &["conf/x.toml"], false))).is_empty(), "it is back");
    let all = ["conf/x.toml", "conf/y.toml", "conf/z.toml"];
    assert_eq!(updated(world.tell(with(2, 2, &all, false))), ["conf/x.toml and 2 others were edited"]);
    let of_wrapper = updated(world.tell(with(3, 2, &all, false)));
    assert_eq!(of_wrapper, ["its wrapper or what else it is made of was edited"], "no watched file was");
}

#[test]
fn what_writes_the_files_that_it_has_watched_is_restarted_for_it_less_and_less_often() {
    let with = |content: u8| changed(spec("web"), content);
    // It writes a second after its start.
    let round = |world: &mut World, number: u64| {
        world.sleep(SECOND);
        let mut actions = world.tell(with(number as u8));
        let begun = world.now.mono;
        for _ in 0..100 {
            actions.extend(found_good(world, &actions.clone()));
            if signals(&actions, "web", 15) {
                world.gone("web", number, Exit::signal(15));
                world.spawned("web", number + 1);
                return world.now.mono - begun;
            }
            let at = world.controller.next_deadline().expect("something is due");
            actions = world.sleep(at - world.now.mono);
        }
        panic!("no restart")
    };
    let mut world = World::new();
    world.tell(with(0));
    world.spawned("web", 1);
    let waits: Vec<u64> = (1..=10).map(|number| round(&mut world, number).as_secs_f64().ceil() as u64).collect();
    assert_eq!(waits[..2], [0, 0], "somebody who saves twice");
    assert!(waits[2] == 1 && waits[3] == 2 && (49..=60).contains(&waits[9]), "{waits:?}");

    // Meanwhile it runs, and says why it is not restarted.
    world.sleep(SECOND);
    assert!(!signals(&world.tell(with(11)), "web", 15));
    let view = world.view("web");
    assert_eq!(view.status, Status::Running);
    let said = view.problem(Reason::ChangesItself).expect("a problem").message.clone();
    assert!(said.starts_with("data/x was edited, 11 times in a row within 10 s of its start or end: "), "{said}");
    // What else it writes meanwhile waits with that, and is no news.
    let actions = world.tell(with(12));
    assert!(!actions.iter().any(|action| matches!(action, Action::Record(_))), "{actions:?}");
    assert_eq!(world.view("web").problem(Reason::ChangesItself).map(|one| one.message.clone()), Some(said));
    // Somebody who asks for it gets it at once.
    let actions = world.order("web", Order::Restart);
    assert!(signals(&found_good(&mut world, &actions), "web", 15));
}

fn changed(spec: Spec, content: u8) -> Input {
    let program = Resolved::Found { wrapper: None, content: Digest([content; 16]) };
    let watched = Watched { changes: content.into(), edited: vec!["data/x".into()], lacks: false };
    Input::Declared(Declaration { program, watched, ..declare(spec) })
}

/// The edit is found good.
fn found_good(world: &mut World, actions: &[Action]) -> Vec<Action> {
    let tried = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    tried.map_or(Vec::new(), |digest| world.tell(Input::Tried { name: name("web"), digest, result: Ok(()) }))
}

/// A world in which the third edit in a row of its watched files waits.
fn held_back() -> World {
    let mut world = World::new();
    world.tell(changed(spec("web"), 0));
    world.spawned("web", 1);
    for number in 1..=3 {
        world.sleep(SECOND);
        let actions = world.tell(changed(spec("web"), number));
        if signals(&found_good(&mut world, &actions), "web", 15) {
            world.gone("web", number.into(), Exit::signal(15));
            world.spawned("web", u64::from(number) + 1);
        }
    }
    assert!(world.view("web").problem(Reason::ChangesItself).is_some());
    world
}

#[test]
fn an_edit_of_watched_files_long_after_a_start_ends_the_row_and_so_does_one_of_the_manifest() {
    for by_hand in [false, true] {
        let mut world = held_back();
        if by_hand {
            let mut edited = spec("web");
            edited.process.args = vec!["more".into()];
            let actions = world.tell(changed(edited, 3));
            assert!(signals(&found_good(&mut world, &actions), "web", 15), "at once");
            continue;
        }
        let actions = world.sleep(2 * SECOND);
        assert!(signals(&found_good(&mut world, &actions), "web", 15), "{actions:?}");
        world.gone("web", 3, Exit::signal(15));
        world.spawned("web", 4);
        world.sleep(Duration::from_secs(11));
        let actions = world.tell(changed(spec("web"), 9));
        assert!(signals(&found_good(&mut world, &actions), "web", 15), "at once");
        assert!(world.view("web").problem(Reason::ChangesItself).is_none());
    }
}

#[test]
fn what_writes_its_watched_files_and_ends_goes_on_its_ladder_and_a_job_is_not_run_for_ever() {
    // It writes at its start; the edit is seen before its end, or after it.
    for (policy, code, is_late) in [
        (RestartPolicy::Always, 1, false),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::OnFailure, 3, false),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 0, true),
    ] {
        let made = || {
            let mut web = spec("web");
            web.restart.policy = policy;
            web
        };
        let mut world = World::new();
        let mut actions = world.tell(changed(made(), 0));
        let begun = world.now.mono;
        let mut lives = 0;
        while world.now.mono < begun + Duration::from_secs(60) {
            if spawns(&actions, "web", lives + 1) {
                lives += 1;
                assert!(lives < 100, "{policy:?} {code} {is_late}");
                actions = world.spawned("web", lives);
                actions.extend(world.sleep(SECOND / 10));
                let edit = changed(made(), lives as u8);
                if !is_late {
                    actions.extend(world.tell(edit.clone()));
                }
                actions.extend(world.crash("web", lives, code));
                actions.extend(world.sleep(SECOND / 50));
                if is_late {
                    actions.extend(world.tell(edit));
                }
            } else {
                actions = world.sleep(SECOND / 10);
            }
        }
        let most = if policy == RestartPolicy::Never { 3 } else { 12 };
        assert!((2..=most).contains(&lives), "{policy:?} {code} {is_late}: {lives} lives in a minute");
        let view = world.view("web");
        match policy {
            RestartPolicy::Never => {
                assert_eq!(view.status, Status::Completed);
                let said = &view.problem(Reason::ChangesItself).expect("for as long as it has not run").message;
                assert!(said.ends_with("`plugd start web` runs it again"), "{said}");
                // Long after it a person's edit runs at once.
                let actions = world.tell(changed(made(), 99));
                assert!(spawns(&actions, "web", lives + 1), "{actions:?}");
            }
            _ => assert_eq!(view.reason, Some(Reason::CrashLoopBackOff), "{:?}", view.why),
        }
    }
}

#[test]
fn what_saves_its_watched_files_as_it_is_stopped_begins_no_new_row() {
    let mut world = World::new();
    world.tell(changed(spec("web"), 0));
    world.spawned("web", 1);
    let (mut content, mut number) = (0, 1);
    let begun = world.now.mono;
    while world.now.mono < begun + Duration::from_secs(120) {
        world.sleep(SECOND);
        content += 1;
        let mut actions = world.tell(changed(spec("web"), content));
        let mut stops = false;
        while !stops {
            actions.extend(found_good(&mut world, &actions.clone()));
            stops = signals(&actions, "web", 15);
            let at = world.controller.next_deadline().expect("something is due");
            if !stops {
                actions = world.sleep(at - world.now.mono);
            }
        }
        content += 1;
        world.tell(changed(spec("web"), content));
        world.gone("web", number, Exit::signal(15));
        number += 1;
        world.spawned("web", number);
    }
    assert!(number < 12, "{number} lives in two minutes");
}

#[test]
fn who_mends_a_crashing_script_again_and_again_does_not_wait_out_its_ladder() {
    let mut world = World::new();
    let mut lives = 0;
    // It crashes as soon as it is there.
    let mut crash_on = |world: &mut World, first: Vec<Action>, span: Duration| {
        let end = world.now.mono + span;
        let mut actions = first;
        loop {
            while spawns(&actions, "web", lives + 1) {
                lives += 1;
                world.spawned("web", lives);
                actions = world.crash("web", lives, 1);
            }
            if world.now.mono >= end {
                return lives;
            }
            actions = world.sleep(SECOND / 10);
        }
    };
    let first = world.tell(changed(spec("web"), 0));
    crash_on(&mut world, first, SECOND);
    for save in 1..=3 {
        let edit = world.tell(changed(spec("web"), save));
        crash_on(&mut world, edit, 3 * SECOND);
    }
    // By now it is one row, and the ladder is climbed to its end.
    let mut before = crash_on(&mut world, Vec::new(), Duration::from_secs(240));
    while crash_on(&mut world, Vec::new(), SECOND) == before {}
    before = crash_on(&mut world, Vec::new(), SECOND);
    assert_eq!(world.view("web").reason, Some(Reason::CrashLoopBackOff));
    let edit = world.tell(changed(spec("web"), 4));
    assert!(crash_on(&mut world, edit, 4 * SECOND) > before, "{:?}", world.view("web").next);
}

#[test]
fn a_job_that_fails_and_is_mended_again_and_again_is_tried_each_time() {
    let job = || {
        let mut web = spec("web");
        web.restart.policy = RestartPolicy::Never;
        web
    };
    let mut world = World::new();
    world.tell(changed(job(), 0));
    world.spawned("web", 1);
    world.crash("web", 1, 1);
    for save in 1..=6 {
        world.sleep(3 * SECOND);
        let mut actions = world.tell(changed(job(), save));
        actions.extend(world.sleep(Duration::from_secs(16)));
        assert!(spawns(&actions, "web", u64::from(save) + 1), "save {save}: {:?}", world.view("web").problems);
        world.spawned("web", u64::from(save) + 1);
        world.crash("web", u64::from(save) + 1, 1);
    }
}

#[test]
fn what_waited_and_runs_is_not_told_to_wait() {
    let mut world = held_back();
    // It ends by itself before its time: what runs next is the new one.
    let mut actions = world.crash("web", 3, 1);
    actions.extend(world.sleep(SECOND));
    assert!(spawns(&actions, "web", 4), "{actions:?}");
    world.spawned("web", 4);
    let problems = world.view("web").problems.clone();
    assert!(problems.iter().all(|problem| problem.reason != Reason::ChangesItself), "{problems:?}");
}
