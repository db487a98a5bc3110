//! While an edit cannot be carried out the version before is the service: it runs again when it ends, and it is
//! what `plugd restart` restarts.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::name::{Instance, LifeId};
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Dependency, Digest, OnLoss, Readiness, RestartPolicy, Spec};

fn new(service: &str) -> Spec {
    let mut new = spec(service);
    new.process.args = vec!["--new".into()];
    new
}

/// The key of the last edit that is to be tried.
fn tried(actions: &[Action]) -> Option<Digest> {
    actions.iter().rev().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    })
}

fn answer(world: &mut World, digest: Digest, result: Result<(), (Reason, String)>) -> Vec<Action> {
    world.tell(Input::Tried { name: name("web"), digest, result })
}

fn nosuch() -> Result<(), (Reason, String)> {
    Err((Reason::ProgramNotFound, "no program nosuch".into()))
}

/// The edit comes and would not start.
fn block(world: &mut World, spec: Spec) -> Digest {
    let digest = tried(&world.declare(spec)).expect("it is tried");
    answer(world, digest, nosuch());
    digest
}

/// What is spawned, by its arguments.
fn spawned(actions: &[Action]) -> Vec<Vec<String>> {
    let specs = actions.iter().filter_map(|action| match action {
        Action::Spawn { spec, .. } => Some(spec.process.args.clone()),
        _ => None,
    });
    specs.collect()
}

const OLD: [Vec<String>; 1] = [Vec::new()];

fn only_new() -> [Vec<String>; 1] {
    [vec!["--new".into()]]
}

fn is_blocked(world: &World) -> bool {
    world.view("web").problems.iter().any(|problem| problem.reason == Reason::UpdateBlocked)
}

#[test]
fn it_runs_again_when_it_ends_until_the_edit_can_be_carried_out() {
    let mut world = World::running(spec("web"));
    let digest = block(&mut world, new("web"));

    let mut actions = world.crash("web", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(2)));
    assert_eq!(spawned(&actions), OLD);
    world.spawned("web", 2);
    let view = world.view("web");
    assert_eq!((view.manifest.generation, view.manifest.in_force, view.restarts), (2, Some(1), 1));
    assert!(is_blocked(&world), "{:?}", view.problems);

    assert!(signals(&answer(&mut world, digest, Ok(())), "web", 15));
    assert_eq!(spawned(&world.gone("web", 2, Exit::signal(15))), only_new());
    world.spawned("web", 3);
    assert_eq!(world.view("web").manifest.in_force, None);
}

#[test]
fn its_crash_loop_is_one_and_ends_with_an_edit_that_can_be_carried_out() {
    let mut world = World::running(spec("web"));
    let digest = block(&mut world, new("web"));
    for life in 1..=3 {
        world.crash("web", life, 1);
        world.sleep(Duration::from_secs(5));
        world.spawned("web", life + 1);
    }
    world.crash("web", 4, 1);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::BackOff)));
    assert!(is_blocked(&world));
    assert_eq!(world.view("web").manifest.in_force, Some(1));

    assert_eq!(spawned(&answer(&mut world, digest, Ok(()))), only_new(), "nothing is waited for any more");
}

#[test]
fn a_restart_is_of_the_version_in_force() {
    let mut world = World::running(spec("web"));
    block(&mut world, new("web"));

    let digest = tried(&world.order("web", Order::Restart)).expect("it may have been cured");
    assert!(signals(&answer(&mut world, digest, nosuch()), "web", 15));
    assert_eq!(spawned(&world.gone("web", 1, Exit::signal(15))), OLD);
    world.spawned("web", 2);
    assert!(is_blocked(&world));
    assert!(!signals(&world.sleep(Duration::from_secs(60)), "web", 15), "once");
}

#[test]
fn a_restart_takes_the_edit_that_has_been_cured() {
    let mut world = World::running(spec("web"));
    block(&mut world, new("web"));

    let digest = tried(&world.order("web", Order::Restart)).expect("it may have been cured");
    assert!(signals(&answer(&mut world, digest, Ok(())), "web", 15));
    assert_eq!(spawned(&world.gone("web", 1, Exit::signal(15))), only_new());
}

#[test]
fn an_invalid_text_over_a_blocked_edit_leaves_nothing_of_that_edit() {
    let mut world = World::running(spec("web"));
    block(&mut world, new("web"));
    world.refuse("web", "web.yaml:1:1: unknown field `comand`");

    let view = world.view("web");
    assert_eq!(view.problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(), [Reason::ConfigInvalid]);
    assert_eq!(view.manifest.in_force, Some(1));
    assert_eq!(tried(&world.sleep(Duration::from_secs(60))), None, "it stands in no file any more");
    assert_eq!(spawned(&world.crash("web", 1, 1)), OLD);
    world.spawned("web", 2);

    assert_eq!(tried(&world.declare(spec("web"))), None, "the first text again: it runs");
    let view = world.view("web");
    assert_eq!((view.problems.len(), view.manifest.in_force), (0, None));
}

#[test]
fn neither_a_dependency_nor_a_wrapper_that_the_edit_lacks_keeps_it_from_running_again() {
    let mut waits = new("web");
    waits.depends_on = vec![needs("dbb")];
    let mut lacks = declare(new("web"));
    lacks.program =
        Resolved::Missing { reason: Reason::WrapperNotFound, message: "no web.sh".into(), tried: Vec::new() };
    for edit in [declare(waits), lacks] {
        let mut world = World::running(spec("web"));
        world.tell(Input::Declared(edit));
        assert_eq!(spawned(&world.crash("web", 1, 1)), OLD);
        world.spawned("web", 2);
        assert!(signals(&world.order("web", Order::Restart), "web", 15));
        assert_eq!(spawned(&world.gone("web", 2, Exit::signal(15))), OLD);
        world.spawned("web", 3);
        assert_eq!(world.view("web").manifest.in_force, Some(1));
        assert!(!world.view("web").problems.is_empty());
    }
}

#[test]
fn what_was_stopped_starts_as_what_it_was_unless_the_edit_has_been_cured() {
    for (cured, starts) in [(Ok(()), only_new()), (nosuch(), OLD)] {
        let mut world = World::running(spec("web"));
        block(&mut world, new("web"));
        world.order("web", Order::Stop);
        world.gone("web", 1, Exit::signal(15));
        let actions = world.order("web", Order::Start);
        assert!(spawned(&actions).is_empty(), "it is tried first: {actions:?}");
        let digest = tried(&actions).expect("it is tried");
        assert_eq!(spawned(&answer(&mut world, digest, cured)), starts);
    }
}

#[test]
fn a_good_version_on_its_way_is_what_is_kept_when_the_next_one_is_blocked() {
    let mut world = World::running(spec("web"));
    let digest = tried(&world.declare(new("web"))).expect("it is tried");
    assert!(signals(&answer(&mut world, digest, Ok(())), "web", 15));
    let mut third = spec("web");
    third.process.args = vec!["--third".into()];
    third.depends_on = vec![needs("nosuch")];
    world.declare(third);

    assert_eq!(spawned(&world.gone("web", 1, Exit::signal(15))), only_new());
    world.spawned("web", 2);
    let view = world.view("web");
    assert_eq!((view.status, view.manifest.generation, view.manifest.in_force), (Status::Running, 3, Some(2)));
    assert!(is_blocked(&world));
}

#[test]
fn what_only_the_edit_depends_on_ends_nothing_when_it_is_lost() {
    let mut world = World::running(spec("web"));
    world.declare(spec("db"));
    world.spawned("db", 1);
    let mut edit = new("web");
    let mut need = needs("db");
    need.on_loss = OnLoss::Stop;
    edit.depends_on = vec![need];
    block(&mut world, edit);

    let actions = world.order("db", Order::Stop);
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    world.gone("db", 1, Exit::signal(15));
    assert_eq!(world.status("web").0, Status::Running);
    assert_eq!(spawned(&world.crash("web", 1, 1)), OLD);
}

#[test]
fn an_edit_that_waits_is_carried_out_also_where_the_version_before_has_lost_its_dependency_for_good() {
    let to = |other: &str, mut spec: Spec| {
        spec.depends_on = vec![Dependency { on_loss: OnLoss::Stop, ..needs(other) }];
        spec
    };
    let mut world = World::running(spec("db"));
    world.declare(to("db", spec("web")));
    world.spawned("web", 1);
    world.declare(to("pg", spec("web")));
    assert!(is_blocked(&world));
    // What it was edited away from goes; a moment later what it needs now is there.
    let actions = [world.tell(Input::Withdrawn(name("db"))), world.gone("db", 1, Exit::signal(15))].concat();
    assert!(signals(&actions, "web", 15), "{actions:?}");
    world.gone("web", 1, Exit::signal(15));
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::DependencyNotReady)));
    // Numbers are not used again, whoever had them.
    let begun = world.declare(spec("pg"));
    let life = begun.iter().find_map(|action| match action {
        Action::Spawn { life, .. } => Some(life.life),
        _ => None,
    });
    let actions = [world.spawned("pg", life.expect("it starts")), world.sleep(Duration::from_secs(3))].concat();
    assert!(spawns(&actions, "web", 2), "{actions:?} {:?}", world.view("web").why);
}

#[test]
fn nothing_starts_while_it_is_not_known_which_version_it_will_be() {
    let mut world = World::running(spec("web"));
    let mut more = new("web");
    more.replicas = 2;
    let actions = world.declare(more);
    assert!(spawned(&actions).is_empty(), "{actions:?}");
    let digest = tried(&actions).expect("it is tried");
    assert!(spawned(&world.crash("web", 1, 1)).is_empty());
    assert_eq!(spawned(&answer(&mut world, digest, Ok(()))).len(), 2);

    // A look that does not answer is not waited for longer than a moment.
    let mut world = World::running(spec("web"));
    world.declare(new("web"));
    assert!(spawned(&world.crash("web", 1, 1)).is_empty());
    assert_eq!(spawned(&world.sleep(Duration::from_secs(2))), OLD);
}

#[test]
fn a_job_that_is_done_is_done_until_the_edit_can_be_carried_out() {
    let once = |mut spec: Spec| {
        spec.restart.policy = RestartPolicy::OnFailure;
        spec
    };
    let mut world = World::running(once(spec("web")));
    let digest = block(&mut world, once(new("web")));
    world.crash("web", 1, 0);
    assert_eq!(world.status("web").0, Status::Completed);
    assert_eq!(spawned(&answer(&mut world, digest, Ok(()))), only_new());
}

#[test]
fn what_is_switched_off_and_made_a_job_is_told_as_that_whatever_was_kept() {
    let once = |mut spec: Spec| {
        spec.restart.policy = RestartPolicy::OnFailure;
        spec
    };
    let mut world = World::running(once(spec("web")));
    block(&mut world, once(new("web")));
    world.crash("web", 1, 0);
    assert_eq!(world.status("web").0, Status::Completed);
    let mut off = job("web", "0 3 * * *");
    off.enabled = false;
    world.declare(off);
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::Disabled)));
    world.controller.doubt();
    assert!(world.decide().is_empty(), "a second look finds nothing else");
}

#[test]
fn a_wrapper_that_only_the_edit_lacks_blocks_it_and_one_that_was_taken_away_does_not() {
    let missing = |mut declaration: Declaration| {
        let message = "no web.sh".to_string();
        declaration.program = Resolved::Missing { reason: Reason::WrapperNotFound, message, tried: Vec::new() };
        declaration
    };
    let mut world = World::running(spec("web"));
    world.tell(Input::Declared(missing(declare(new("web")))));
    let view = world.view("web");
    assert_eq!((view.problems[0].reason, view.manifest.in_force), (Reason::UpdateBlocked, Some(1)));

    let mut world = World::running(spec("web"));
    world.tell(Input::Declared(missing(declare(spec("web")))));
    assert_eq!(world.view("web").problems[0].reason, Reason::WrapperNotFound);
}

/// The same process, and a dependency more.
fn only_depends_on(other: &str) -> Spec {
    Spec { depends_on: vec![needs(other)], ..spec("web") }
}

#[test]
fn an_edit_of_nothing_but_a_dependency_that_is_not_there_is_blocked_as_well() {
    let mut world = World::running(spec("web"));
    let mut edit = only_depends_on("dbb");
    edit.readiness = Readiness::Probe(tcp(80));
    let actions = world.declare(edit);
    assert!(!actions.iter().any(|action| matches!(action, Action::Judge { .. })), "none of it: {actions:?}");
    assert!(is_blocked(&world), "{:?}", world.view("web").problems);
    assert_eq!(world.view("web").manifest.in_force, Some(1));

    assert_eq!(spawned(&world.crash("web", 1, 1)), OLD);
    world.spawned("web", 2);
    assert!(signals(&world.order("web", Order::Restart), "web", 15));
    assert_eq!(spawned(&world.gone("web", 2, Exit::signal(15))), OLD);
    world.spawned("web", 3);
    assert_eq!(world.status("web").0, Status::Running);
    assert!(is_blocked(&world));

    // Another slip of the pen on top of it, and back.
    world.declare(only_depends_on("bd"));
    assert_eq!(spawned(&world.crash("web", 3, 1)), OLD);
    world.spawned("web", 4);
    world.declare(only_depends_on("dbb"));
    assert_eq!(world.view("web").manifest.in_force, Some(1));

    // There it is: nothing is restarted for it.
    let mut actions = world.declare(spec("dbb"));
    actions.extend(world.spawned("dbb", 1));
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    let view = world.view("web");
    assert_eq!((view.problems.len(), view.manifest.in_force, view.status), (0, None, Status::Running));
}

#[test]
fn what_a_blocked_edit_says_of_checks_is_in_force_with_the_rest_of_it() {
    let mut world = World::running(spec("web"));
    let mut edit = only_depends_on("db");
    edit.readiness = Readiness::Probe(tcp(80));
    world.declare(edit);
    world.declare(spec("db"));
    assert_eq!(world.status("web").0, Status::Running);
    let actions = world.spawned("db", 1);
    assert!(actions.iter().any(|action| matches!(action, Action::Judge { .. })), "{actions:?}");
    world.verdict("web", 1, ProbeSlot::Readiness, true);
    assert_eq!(world.status("web").0, Status::Healthy);
}

#[test]
fn an_edit_that_would_go_round_in_a_circle_ends_nothing_for_good() {
    let mut world = World::running(spec("web"));
    let mut app = spec("app");
    app.depends_on = vec![needs("web")];
    world.declare(app);
    world.spawned("app", 1);
    world.declare(only_depends_on("app"));

    let mut actions = world.crash("web", 1, 1);
    actions.extend(world.crash("app", 1, 1));
    actions.extend(world.spawned("web", 2));
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert_eq!(spawned(&actions).len(), 2, "{actions:?}");
    world.spawned("app", 2);
    assert_eq!((world.status("web").0, world.status("app").0), (Status::Running, Status::Running));
}

#[test]
fn while_an_edit_is_blocked_the_version_before_depends_on_what_it_depended_on() {
    let mut world = World::new();
    for one in ["db", "cache"] {
        world.declare(spec(one));
        world.spawned(one, 1);
    }
    let on = |names: &[&str]| Spec {
        depends_on: names.iter().map(|one| Dependency { on_loss: OnLoss::Stop, ..needs(one) }).collect(),
        ..spec("web")
    };
    world.declare(on(&["db"]));
    world.spawned("web", 1);
    world.declare(on(&["nosuch", "cache"]));
    assert!(is_blocked(&world));

    assert!(!signals(&world.order("cache", Order::Stop), "web", 15));
    assert!(signals(&world.order("db", Order::Stop), "web", 15));
}

#[test]
fn neither_replicas_nor_required_of_a_blocked_edit_are_in_force() {
    for replicas in [0, 3] {
        let mut world = World::running(spec("web"));
        let mut edit = new("web");
        (edit.replicas, edit.required) = (replicas, true);
        let digest = block(&mut world, edit);
        let view = world.view("web");
        assert_eq!((view.status, view.desired, view.required), (Status::Running, 1, false));
        assert!(is_blocked(&world));

        answer(&mut world, digest, Ok(()));
        assert_eq!((world.view("web").desired, world.view("web").required), (replicas, true));
    }
}

#[test]
fn an_edit_that_makes_a_job_of_it_is_tried_before_it_ends_what_runs() {
    let mut world = World::running(spec("web"));
    let edit = Spec { process: new("web").process, ..job("web", "*/10 * * * *") };
    block(&mut world, edit);
    let view = world.view("web");
    assert_eq!((view.status, view.schedule.is_none(), view.manifest.in_force), (Status::Running, true, Some(1)));
    assert!(is_blocked(&world), "{:?}", view.problems);
    assert_eq!(spawned(&world.crash("web", 1, 1)), OLD);
    world.spawned("web", 2);

    let digest = tried(&world.sleep(Duration::from_secs(6))).expect("it is tried again");
    assert!(signals(&answer(&mut world, digest, Ok(())), "web", 15));
    assert!(spawned(&world.gone("web", 2, Exit::signal(15))).is_empty());
    assert_eq!(world.status("web"), (Status::Waiting, Some(Reason::NextRun)));
}

#[test]
fn what_is_being_started_again_when_the_edit_comes_is_kept_as_well() {
    let mut world = World::running(spec("web"));
    world.crash("web", 1, 1);
    world.sleep(Duration::from_secs(2));
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    assert_eq!(world.status("web").1, Some(Reason::BackOff));
    world.declare(only_depends_on("dbb"));
    assert!(is_blocked(&world), "{:?}", world.view("web").problems);
    world.spawned("web", 3);
    assert_eq!(world.status("web").0, Status::Running);

    // It has ended, and something of it is left.
    let mut world = World::running(spec("web"));
    world.tell(Input::Exited { life: life("web", 1), exit: Exit::code(1) });
    world.declare(only_depends_on("dbb"));
    let mut actions = world.tell(Input::Surveyed { life: life("web", 1), left: vec![] });
    actions.extend(world.sleep(Duration::from_secs(2)));
    assert_eq!(spawned(&actions), OLD);
}

#[test]
fn what_was_scaled_stays_so_until_a_later_edit_of_replicas_is_in_force() {
    let edit = || Spec { replicas: 2, ..new("web") };
    let desired = |world: &World| world.view("web").desired;
    let mut world = World::running(spec("web"));
    world.order("web", Order::Scale(3));
    let digest = block(&mut world, edit());
    assert_eq!(desired(&world), 3, "the edit is not in force");
    answer(&mut world, digest, Ok(()));
    assert_eq!(desired(&world), 2);

    let mut world = World::running(spec("web"));
    let digest = block(&mut world, edit());
    world.order("web", Order::Scale(3));
    assert_eq!(desired(&world), 3);
    answer(&mut world, digest, Ok(()));
    assert_eq!(desired(&world), 3, "that was said of the edit");

    for before in [true, false] {
        let mut world = World::running(spec("web"));
        let scale = |world: &mut World, now: bool| drop(now.then(|| world.order("web", Order::Scale(3))));
        scale(&mut world, before);
        block(&mut world, edit());
        scale(&mut world, !before);
        world.declare(spec("web"));
        assert_eq!(desired(&world), 3, "the edit was taken back");
        let why = world.view("web").why.clone();
        assert_eq!(why.last().map(String::as_str), Some("scaled to 3 by hand; its manifest says 1"));
        let digest = tried(&world.declare(edit())).expect("it is tried");
        answer(&mut world, digest, Ok(()));
        assert_eq!(desired(&world), 2, "it is in force after all");
        assert!(!world.view("web").why.concat().contains("by hand"));
    }
}

#[test]
fn what_no_instance_is_wanted_of_says_whether_its_manifest_or_somebody_said_so() {
    let mut world = World::new();
    let of = |replicas: u32| Spec { replicas, ..spec("web") };
    world.declare(of(0));
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::Disabled)));
    let view = world.view("web");
    assert_eq!(view.why, ["its manifest says `replicas: 0`"]);
    assert_eq!(view.next.as_deref(), Some("starts when its manifest says more; now with `plugd scale web=1`"));
    world.declare(of(3));
    let of_each = (0..3).map(|index| LifeId { instance: Instance { index, ..life("web", 1).instance }, life: 1 });
    for life in of_each.clone() {
        world.tell(Input::Spawned { life, pid: 100, start_time: 7 });
    }
    world.order("web", Order::Scale(0));
    for life in of_each {
        world.tell(Input::Exited { life: life.clone(), exit: Exit::signal(15) });
        world.tell(Input::Surveyed { life, left: vec![] });
    }
    let view = world.view("web");
    assert_eq!(view.reason, Some(Reason::StoppedByOperator), "{view:?}");
    assert_eq!(view.why, ["scaled to 0 by hand; its manifest says 3"]);
    assert_eq!(view.next.as_deref(), Some("starts with `plugd scale web=3`"));
}

#[test]
fn an_edit_that_will_make_a_job_of_it_is_not_scaled() {
    let mut world = World::running(spec("web"));
    let digest = block(&mut world, Spec { process: new("web").process, ..job("web", "*/10 * * * *") });
    world.order("web", Order::Scale(3));
    assert_eq!(world.view("web").desired, 1);
    world.declare(new("web"));
    answer(&mut world, digest, Ok(()));
    assert_eq!(world.view("web").desired, 1, "nor what comes after it");
}

#[test]
fn it_runs_again_only_when_what_it_depends_on_itself_is_ready() {
    let mut world = World::new();
    world.declare(spec("db"));
    world.spawned("db", 1);
    world.declare(only_depends_on("db"));
    world.spawned("web", 1);
    block(&mut world, new("web"));

    world.order("db", Order::Stop);
    world.gone("db", 1, Exit::signal(15));
    let mut actions = world.crash("web", 1, 1);
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawned(&actions).is_empty(), "{actions:?}");
    let mut actions = world.order("db", Order::Start);
    actions.extend(world.spawned("db", 2));
    actions.extend(world.sleep(Duration::from_secs(5)));
    assert!(spawns(&actions, "web", 2), "{actions:?}");
}
