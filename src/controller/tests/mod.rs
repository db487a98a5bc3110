//! Rules as sentences: a world, an event, what is now true.

mod checks;
mod demand;
mod edits;
mod ends;
mod handover;
mod heirs;
mod in_force;
mod jobs;
mod kept;
mod node;
mod outage;
mod rolls;
mod score;
mod takeover;
mod told;
mod world;

use std::sync::Arc;
use std::time::Duration;

use self::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::Spec;
use crate::model::text::Report;
use crate::model::view::Serving;

#[test]
fn a_declared_service_is_spawned_and_runs() {
    let mut world = World::new();
    let actions = world.declare(spec("web"));
    assert!(spawns(&actions, "web", 1));
    world.spawned("web", 1);
    assert_eq!(world.status("web"), (Status::Running, None));
    assert!(world.view("web").process_running);
}

#[test]
fn a_second_decision_without_news_is_empty() {
    let mut world = World::new();
    world.declare(spec("web"));
    assert!(world.decide().is_empty());
    world.spawned("web", 1);
    assert!(world.decide().is_empty());
}

#[test]
fn the_first_crash_is_answered_at_once_and_the_second_after_a_second() {
    let mut world = World::running(spec("web"));
    let actions = world.crash("web", 1, 1);
    assert!(spawns(&actions, "web", 2), "{actions:?}");
    world.spawned("web", 2);
    let actions = world.crash("web", 2, 1);
    assert!(!spawns(&actions, "web", 3));
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    assert!(world.sleep(Duration::from_millis(799)).is_empty());
    assert!(spawns(&world.sleep(Duration::from_millis(201)), "web", 3));
    assert_eq!(world.view("web").restarts, 2);
}

#[test]
fn a_withdrawn_service_is_told_to_stop_and_retired_when_nothing_is_left() {
    let mut world = World::running(spec("web"));
    let actions = world.tell(Input::Withdrawn(name("web")));
    assert!(signals(&actions, "web", 15));
    assert_eq!(world.status("web").0, Status::Stopping);
    world.tell(Input::Exited { life: life("web", 1), exit: Exit::signal(15) });
    let actions = world.tell(Input::Surveyed { life: life("web", 1), left: vec![] });
    assert!(actions.contains(&Action::Forget { life: life("web", 1) }));
    assert!(actions.contains(&Action::Retire(name("web"))));
    assert!(world.controller.view(&name("web")).is_none());
}

#[test]
fn the_node_stops_in_order_and_leaves_with_0() {
    let mut world = World::running(spec("db"));
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    world.spawned("web", 1);
    let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(signals(&actions, "web", 15) && !signals(&actions, "db", 15), "dependents first");
    let actions = world.gone("web", 1, Exit::signal(15));
    assert!(signals(&actions, "db", 15));
    let actions = world.gone("db", 1, Exit::signal(15));
    assert!(actions.contains(&Action::Exit(0)));
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::ControllerStopped)));
}

#[test]
fn what_was_deleted_and_is_still_ending_goes_before_what_it_needs() {
    let mut world = World::running(spec("db"));
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    world.spawned("web", 1);
    assert!(signals(&world.tell(Input::Withdrawn(name("web"))), "web", 15));
    let actions = world.tell(Input::Shutdown(Shutdown::Ordered));
    assert!(!signals(&actions, "db", 15), "{actions:?}");
    assert!(signals(&world.gone("web", 1, Exit::signal(15)), "db", 15));
}

#[test]
fn five_failed_starts_in_a_row_are_a_crash_loop_with_its_reason_and_its_next_try() {
    let mut world = World::running(spec("mailer"));
    for number in 1..=5 {
        world.crash("mailer", number, 1);
        if number < 5 {
            world.sleep(Duration::from_secs(9));
            world.spawned("mailer", number + 1);
        }
    }
    assert_eq!(world.status("mailer"), (Status::Unhealthy, Some(Reason::CrashLoopBackOff)));
    let view = world.view("mailer");
    assert!(view.why[0].contains("5 times running"), "{:?}", view.why);
    assert!(view.next.as_ref().is_some_and(|next| next.contains("plugd start mailer")), "{:?}", view.next);
    assert!(view.retry_at.is_some());
}

#[test]
fn plugd_start_ends_a_wait_at_once_and_resets_the_ladder() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    assert!(spawns(&world.order("web", Order::Start), "web", 3));
    world.spawned("web", 3);
    assert!(spawns(&world.crash("web", 3, 1), "web", 4), "the first rung again: no delay");
}

#[test]
fn a_dependent_starts_when_what_it_needs_is_ready_and_not_when_it_is_spawned() {
    let mut world = World::new();
    let mut web = spec("web");
    web.depends_on = vec![needs("db")];
    world.declare(web);
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::DependencyNotReady)));
    let mut db = spec("db");
    db.readiness = crate::model::spec::Readiness::ImpliedPort(tcp(5432));
    world.declare(db);
    assert!(!spawns(&world.spawned("db", 1), "web", 1));
    assert_eq!(probes(&world.sleep(Duration::from_millis(5)), ProbeSlot::Readiness), 1, "first 5 ms after the spawn");
    assert!(spawns(&world.verdict("db", 1, ProbeSlot::Readiness, true), "web", 1));
    assert_eq!(world.status("db"), (Status::Healthy, None));
}

#[test]
fn a_cycle_is_failed_with_its_whole_path_and_the_rest_runs() {
    let mut world = World::new();
    for (service, other) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let mut spec = spec(service);
        spec.depends_on = vec![needs(other)];
        world.declare(spec);
    }
    assert!(spawns(&world.declare(spec("d")), "d", 1));
    assert_eq!(world.status("b"), (Status::Failed, Some(Reason::DependencyCycle)));
    assert!(world.view("b").why[0].contains("b → c → a → b"), "{:?}", world.view("b").why);
    let mut cured = spec("c");
    cured.labels.insert("cured".into(), "yes".into());
    let actions = world.declare(cured);
    assert!(spawns(&actions, "c", 1), "{actions:?}");
}

#[test]
fn a_bad_edit_never_stops_a_running_service() {
    let mut world = World::running(spec("web"));
    let actions = world.refuse("web", "web.yaml:3:1: unknown field");
    assert!(!signals(&actions, "web", 15));
    let view = world.view("web");
    assert_eq!((view.status, view.problems[0].reason), (Status::Running, Reason::ConfigInvalid));
    let rejected = view.manifest.rejected.as_ref().expect("it is told");
    assert_eq!((rejected.sha256.as_str(), rejected.file.as_deref()), ("41c0", Some("web.yaml")));
    assert_eq!(rejected.reason, Some(Reason::ConfigInvalid));
}

#[test]
fn a_refused_file_that_has_the_name_alone_is_the_one_that_counts() {
    let mut world = World::running(spec("web"));
    let mut declared = declare(spec("web"));
    declared.problems = vec![(Reason::NameConflict, "web.json and web.yaml both declare web".into())];
    world.tell(Input::Declared(declared));
    let is_told = |world: &World| world.view("web").problem(Reason::NameConflict).is_some();
    assert!(is_told(&world));
    let refused = |file: &str| Rejection {
        name: name("web"),
        source: Source { file: file.into(), sha256: "41c0".into() },
        reason: Reason::ConfigInvalid,
        message: format!("{file}:1:2: unknown field"),
        file: file.into(),
        required: false,
    };
    world.tell(Input::Rejected(refused("web.yaml")));
    assert!(is_told(&world), "both are there");
    world.tell(Input::Rejected(refused("web.json")));
    let view = world.view("web");
    assert_eq!((view.manifest.file.as_str(), view.status), ("web.json", Status::Running));
    assert!(!is_told(&world), "the other is gone");
}

#[test]
fn a_new_version_is_tried_before_the_old_one_stops_and_blocked_if_it_could_not_start() {
    let mut world = World::running(spec("web"));
    let mut edited = spec("web");
    edited.process.args = vec!["--new".into()];
    let actions = world.declare(edited);
    let Some(Action::Try { digest, .. }) = actions.iter().find(|a| matches!(a, Action::Try { .. })) else {
        panic!("no try in {actions:?}")
    };
    assert!(!signals(&actions, "web", 15));
    let no = Err((Reason::ProgramNotFound, "no such program".into()));
    let actions = world.tell(Input::Tried { name: name("web"), digest: *digest, result: no });
    assert!(!signals(&actions, "web", 15));
    assert_eq!(world.view("web").problems[0].reason, Reason::UpdateBlocked);
    // Who asks does not wait for the next try; until it is answered the last answer is told.
    let again = world.tell(Input::TryAgain);
    assert!(again.iter().any(|action| matches!(action, Action::Try { .. })), "{again:?}");
    assert_eq!(world.view("web").problems[0].reason, Reason::UpdateBlocked);
    assert!(!world.tell(Input::Awoke).iter().any(|action| matches!(action, Action::Try { .. })), "once");
    let actions = world.tell(Input::Tried { name: name("web"), digest: *digest, result: Ok(()) });
    assert!(signals(&actions, "web", 15));
    assert!(spawns(&world.gone("web", 1, Exit::signal(15)), "web", 2));
    world.spawned("web", 2);
    assert_eq!(world.view("web").restarts, 0, "an edit is no restart");
    assert_eq!(world.view("web").manifest.generation, 2);
}

#[test]
fn an_edit_of_labels_keeps_the_process() {
    let mut world = World::running(spec("web"));
    let mut edited = spec("web");
    edited.labels.insert("tier".into(), "front".into());
    let actions = world.declare(edited);
    assert!(!actions.iter().any(|action| matches!(action, Action::Try { .. } | Action::Signal { .. })), "{actions:?}");
    assert_eq!(world.view("web").labels["tier"], "front");
}

#[test]
fn a_service_that_ignores_term_is_killed_at_its_grace_and_named() {
    let mut stubborn = spec("web");
    stubborn.stop.grace_period = Duration::from_secs(3);
    let mut world = World::running(stubborn);
    world.tell(Input::Withdrawn(name("web")));
    let left = vec![Leftover { pid: 101, command: "sleep infinity".into(), held: None }];
    world.sleep(Duration::from_secs(1));
    world.tell(Input::Surveyed { life: life("web", 1), left });
    assert!(world.view("web").why[1].contains("pid 101 (sleep infinity)"), "{:?}", world.view("web").why);
    assert!(!signals(&world.sleep(Duration::from_millis(1_990)), "web", 9));
    assert!(signals(&world.sleep(Duration::from_millis(10)), "web", 9));
}

#[test]
fn what_a_crash_leaves_behind_ends_before_the_next_life_begins() {
    let mut world = World::running(spec("web"));
    world.tell(Input::Exited { life: life("web", 1), exit: Exit::code(1) });
    let left = vec![Leftover { pid: 7, command: "child".into(), held: None }];
    let actions = world.tell(Input::Surveyed { life: life("web", 1), left: left.clone() });
    assert!(signals(&actions, "web", 15) && !spawns(&actions, "web", 2));
    let actions = world.sleep(Duration::from_secs(5));
    assert!(signals(&actions, "web", 9), "min(grace, 5 s)");
    assert!(spawns(&world.tell(Input::Surveyed { life: life("web", 1), left: vec![] }), "web", 2));
}

#[test]
fn a_new_controller_goes_on_where_the_old_one_was() {
    let mut world = World::running(spec("web"));
    let actions = world.crash("web", 1, 1);
    let blob = actions
        .iter()
        .find_map(|action| match action {
            Action::Spawn { blob, .. } => Some(blob.clone()),
            _ => None,
        })
        .expect("a second life");
    let mut next = World::unread(config(), world.now);
    let (life, age) = (life("web", 2), Duration::from_millis(300));
    next.tell(Input::Adopted(Adopted { life, pid: 102, pre_stop: false, age, exit: None, blob }));
    let actions = next.declare(spec("web"));
    next.tell(Input::Scanned);
    assert!(!spawns(&actions, "web", 3));
    assert_eq!(next.view("web").restarts, 1);
    assert_eq!(next.view("web").instances[0].pid, Some(102));
    next.crash("web", 2, 1);
    assert_eq!(next.status("web"), (Status::Unhealthy, Some(Reason::BackOff)), "the second rung: a second");
}

#[test]
fn a_job_runs_once_to_its_end() {
    let mut job = spec("migrate");
    job.restart.policy = crate::model::spec::RestartPolicy::Never;
    let mut world = World::running(job.clone());
    world.crash("migrate", 1, 0);
    assert_eq!(world.status("migrate"), (Status::Completed, None));
    assert!(!spawns(&world.declare(job), "migrate", 2), "the same bytes again");
    assert!(spawns(&world.order("migrate", Order::Start), "migrate", 2));
}

#[test]
fn a_missing_wrapper_is_skipped_and_starts_when_it_appears() {
    let mut world = World::new();
    let mut declaration = declare(spec("files"));
    let found = declaration.program.clone();
    declaration.program = Resolved::Missing {
        reason: Reason::WrapperNotFound,
        message: "wrapper files.sh is in none of the 3 places tried".into(),
        tried: vec!["services.d/files.sh".into()],
    };
    world.tell(Input::Declared(declaration.clone()));
    assert_eq!(world.status("files"), (Status::Skipped, Some(Reason::WrapperNotFound)));
    assert_eq!(Report::told(&world.controller.report().skipped), [("files", "WrapperNotFound")]);
    assert_eq!(world.view("files").serving, Serving::Aside, "nobody misses it");
    let mut required = declaration.clone();
    required.spec = Arc::new(Spec { required: true, ..(*declaration.spec).clone() });
    world.tell(Input::Declared(required));
    assert_eq!(world.view("files").serving, Serving::Down);
    declaration.program = found;
    assert!(spawns(&world.tell(Input::Declared(declaration)), "files", 1));
}

#[test]
fn a_required_service_that_ended_for_good_ends_the_node_with_its_code() {
    let limit = Some(Duration::from_secs(300));
    let mut world = World::with(Config { exit_on_required: limit, pid1: true, ..config() });
    let mut job = spec("migrate");
    job.required = true;
    job.restart.policy = crate::model::spec::RestartPolicy::Never;
    world.declare(job);
    world.declare(spec("web"));
    world.spawned("migrate", 1);
    world.spawned("web", 1);
    assert!(signals(&world.crash("migrate", 1, 3), "web", 15));
    assert!(world.gone("web", 1, Exit::signal(15)).contains(&Action::Exit(3)));
}

#[test]
fn the_only_service_of_a_container_gives_its_code() {
    let mut world = World::with(Config { single: true, ..config() });
    let mut only = spec("only");
    only.restart.policy = crate::model::spec::RestartPolicy::Never;
    world.declare(only);
    world.spawned("only", 1);
    assert!(world.gone("only", 1, Exit::signal(9)).contains(&Action::Exit(137)));
}

#[test]
fn fifty_services_that_lost_one_database_are_back_within_seconds() {
    let mut world = World::with(Config { asked_max: 128, ..config() });
    let mut db = spec("db");
    db.readiness = crate::model::spec::Readiness::ImpliedPort(tcp(5432));
    world.declare(db);
    world.spawned("db", 1);
    world.verdict("db", 1, ProbeSlot::Readiness, true);
    world.gone("db", 1, Exit::code(1));
    world.spawned("db", 2);
    let names: Vec<String> = (0..50).map(|n| format!("app-{n}")).collect();
    let mut lives = vec![0u64; 50];
    for app in &names {
        world.declare(spec(app));
    }
    for _ in 0..8 {
        for (n, app) in names.iter().enumerate() {
            lives[n] += 1;
            world.spawned(app, lives[n]);
            world.crash(app, lives[n], 1);
        }
        world.sleep(Duration::from_secs(60));
    }
    for (n, app) in names.iter().enumerate() {
        lives[n] += 1;
        world.spawned(app, lives[n]);
        world.crash(app, lives[n], 1);
    }
    world.verdict("db", 2, ProbeSlot::Readiness, true);
    let mut started = 0;
    for _ in 0..40 {
        let actions = world.sleep(Duration::from_millis(50));
        for (n, app) in names.iter().enumerate() {
            if spawns(&actions, app, lives[n] + 1) {
                started += 1;
                world.spawned(app, lives[n] + 1);
            }
        }
    }
    assert_eq!(started, 50);
}

#[test]
fn an_edit_is_told_when_it_was_tried_so_that_no_new_generation_has_an_old_process() {
    let mut old = spec("db");
    old.process.port = Some(5432);
    let mut world = World::running(old.clone());
    let mut new = old.clone();
    new.process.port = Some(55432);
    new.process.args = vec!["-p".into()];

    let actions = world.declare(new);
    let key = actions.iter().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    });
    assert_eq!(world.view("db").manifest.generation, 1);
    assert_eq!(world.view("db").address.as_deref(), Some("127.0.0.1:5432"));

    let digest = key.expect("the new version is tried first");
    world.tell(Input::Tried { name: name("db"), digest, result: Ok(()) });
    let view = world.view("db");
    assert_eq!((view.manifest.generation, view.status), (2, Status::Stopping));
    assert_eq!(view.address, None, "neither the old address nor the new one is served");
    assert_eq!(
        view.next.as_deref(),
        Some("the new version starts when it has ended; killed 30 s after it was told to stop")
    );
}

#[test]
fn an_edit_that_is_tried_for_long_is_told_with_the_address_of_the_process_that_runs() {
    let mut old = spec("db");
    old.process.port = Some(5432);
    let mut world = World::running(old.clone());
    let mut new = old.clone();
    new.process.port = Some(55432);
    world.declare(new);

    world.sleep(Duration::from_millis(100));

    let view = world.view("db");
    assert_eq!(view.manifest.generation, 2);
    assert_eq!(view.address.as_deref(), Some("127.0.0.1:5432"));
}

#[test]
fn a_service_whose_manifest_is_gone_says_so_and_names_it_until_it_has_ended() {
    let mut world = World::running(spec("web"));
    let file = world.view("web").manifest.file.clone();
    world.tell(Input::Withdrawn(name("web")));
    let view = world.view("web");
    assert_eq!(view.manifest.file, file);
    assert_eq!(view.why, ["its manifest is gone; it is being stopped"]);
}

#[test]
fn each_instance_is_told_with_its_own_port() {
    let mut web = spec("web");
    web.replicas = 2;
    web.process.port = Some(8080);
    let world = World::running(web);
    let ports: Vec<_> = world.view("web").instances.iter().map(|instance| instance.port).collect();
    assert_eq!(ports, [Some(8080), Some(8081)]);
}

#[test]
fn a_life_of_a_plugd_with_other_digests_is_kept_if_the_manifest_s_bytes_are_the_same() {
    use crate::controller::life::Print;
    use crate::model::spec::Digest;
    let ours = Print { process: Digest([1; 16]), content: Digest::default(), source: 7 };
    let of = |mark, source| Print { process: Digest([mark; 16]), content: Digest::default(), source };
    assert!(ours == of(1, 8), "the same meaning in other bytes");
    assert!(ours == of(2, 7), "another encoding of the same bytes");
    assert!(ours != of(2, 8), "an edit beside a new plugd");
    assert!(of(1, 0) != of(2, 0), "bytes that nobody knows are not the same");
}
