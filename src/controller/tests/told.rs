//! What is told while an edit waits, is blocked, or would not start at a call.

use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Activation, Dependency, Digest, OnLoss, Pass, RestartPolicy, Spec};
use crate::model::view::Problem;

fn on(service: &str, other: &str) -> Spec {
    Spec { depends_on: vec![needs(other)], ..spec(service) }
}

fn blocked(world: &World) -> Problem {
    world.view("web").problem(Reason::UpdateBlocked).expect("it is blocked").clone()
}

fn warnings(actions: &[Action]) -> usize {
    let is_one = |action: &&Action| matches!(action, Action::Record(event) if event.reason == Reason::UpdateBlocked);
    actions.iter().filter(is_one).count()
}

fn tried(actions: &[Action]) -> Option<Digest> {
    actions.iter().rev().find_map(|action| match action {
        Action::Try { digest, .. } => Some(*digest),
        _ => None,
    })
}

#[test]
fn what_the_version_before_waits_for_is_told_and_what_the_edit_lacks_beside_it() {
    let mut world = World::new();
    world.declare(spec("db"));
    world.spawned("db", 1);
    world.declare(on("web", "db"));
    world.spawned("web", 1);
    let actions = world.declare(on("web", "nosuch"));
    assert_eq!(warnings(&actions), 1);
    assert!(blocked(&world).message.contains("the one before runs on"), "{}", blocked(&world).message);

    world.order("db", Order::Stop);
    let mut actions = world.gone("db", 1, Exit::signal(15));
    actions.extend(world.crash("web", 1, 1));
    actions.extend(world.sleep(Duration::from_secs(10)));
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Waiting, Some(Reason::DependencyNotReady)));
    assert_eq!((view.why.clone(), view.depends_on.clone()), (vec!["db is not ready".to_string()], vec![name("db")]));
    let told = blocked(&world);
    assert!(told.message.contains("there is no service nosuch; the one before stays in force"), "{}", told.message);
    assert!(told.cause.expect("a cause").starts_again);
    assert_eq!(warnings(&actions), 0, "nothing new blocks it: {actions:?}");

    world.order("db", Order::Start);
    world.spawned("db", 2);
    world.spawned("web", 2);
    assert_eq!(world.status("web").0, Status::Running);
    assert!(blocked(&world).message.contains("the one before runs on"), "{}", blocked(&world).message);
}

#[test]
fn who_was_meant_by_the_version_before_is_told_as_soon_as_there_is_one() {
    let mut world = World::new();
    world.declare(spec("cache"));
    world.spawned("cache", 1);
    world.declare(on("web", "cache"));
    world.spawned("web", 1);
    // The edit waits for somebody who is known.
    world.declare(spec("db"));
    world.order("db", Order::Stop);
    world.declare(on("web", "db"));
    world.tell(Input::Withdrawn(name("cache")));
    world.gone("cache", 1, Exit::signal(15));
    world.crash("web", 1, 1);
    world.sleep(Duration::from_secs(10));
    assert_eq!(world.view("web").why, ["there is no service cache"]);
    world.declare(spec("cachee"));
    assert_eq!(world.view("web").why, ["there is no service cache (did you mean cachee?)"]);
}

#[test]
fn what_runs_and_would_not_start_again_says_so_to_programs_too() {
    let mut world = World::new();
    world.declare(spec("db"));
    world.spawned("db", 1);
    let mut web = on("web", "db");
    web.depends_on[0].on_loss = OnLoss::Ignore;
    world.declare(web);
    world.spawned("web", 1);
    world.tell(Input::Withdrawn(name("db")));
    world.gone("db", 1, Exit::signal(15));

    let view = world.view("web");
    let cause = view.problem(Reason::DependencyNotReady).and_then(|problem| problem.cause.clone()).expect("a cause");
    assert_eq!((cause.starts_again, cause.services), (false, vec![name("db")]));
    assert_eq!(cause.message, "there is no service db");
}

#[test]
fn the_next_controller_tells_since_when_an_edit_has_been_blocked() {
    let mut world = World::running(spec("web"));
    let mut memory = Memory::default();
    let mut keep = |actions: &[Action]| {
        for action in actions {
            if let Action::Remember(_, new) = action {
                memory = Memory::clone(new);
            }
        }
    };
    keep(&world.declare(on("web", "nosuch")));
    let since = blocked(&world).since;
    keep(&world.sleep(Duration::from_secs(60)));

    let take_over = |edit: Spec| {
        let mut next = World::unread(config(), world.now);
        let (life, age) = (life("web", 1), Duration::from_secs(61));
        next.tell(Input::Remembered(name("web"), Box::new(memory.clone())));
        next.tell(Input::Adopted(Adopted { life, pid: 101, pre_stop: false, age, exit: None, blob: Vec::new() }));
        next.declare(edit);
        next.tell(Input::Scanned);
        blocked(&next).since
    };
    assert_eq!(take_over(on("web", "nosuch")), since);
    assert_eq!(take_over(on("web", "another")), world.now.wall, "that is another edit");
}

#[test]
fn what_sleeps_is_tried_before_somebody_calls_it() {
    let mut web = spec("web");
    (web.process.port, web.process.on_demand) = (Some(8080), Some(Pass::Proxy));
    web.activation = Some(Activation { idle_stop: None, hold_requests: Duration::from_secs(30) });
    let mut world = World::new();
    let digest = tried(&world.declare(web.clone())).expect("it is tried");
    assert!(world.view("web").pending);
    world.tell(Input::Tried { name: name("web"), digest, result: Ok(()) });
    assert_eq!((world.view("web").problems.len(), world.view("web").pending), (0, false));
    assert_eq!(tried(&world.sleep(Duration::from_secs(60))), None);

    web.process.args = vec!["--new".into()];
    let digest = tried(&world.declare(web.clone())).expect("it is tried");
    let result = Err((Reason::ProgramNotFound, "no program nosuch".to_string()));
    world.tell(Input::Tried { name: name("web"), digest, result });
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Waiting, Some(Reason::OnDemand)));
    let problem = view.problem(Reason::ProgramNotFound).expect("it is told");
    assert_eq!(problem.message, "a call would not start it: no program nosuch");
    assert!(problem.cause.is_some());

    let digest = tried(&world.sleep(Duration::from_secs(6))).expect("it is tried again");
    world.tell(Input::Tried { name: name("web"), digest, result: Ok(()) });
    assert_eq!(world.view("web").problems.len(), 0);

    web.depends_on = vec![needs("nosuch")];
    world.declare(web);
    let view = world.view("web");
    assert_eq!((view.status, view.problems[0].reason), (Status::Waiting, Reason::DependencyNotReady));
    assert_eq!(view.problems[0].message, "a call would not start it: there is no service nosuch");
}

#[test]
fn what_was_stopped_by_hand_and_by_its_file_is_not_promised_to_start_by_either_alone() {
    let off = Spec { enabled: false, ..spec("web") };
    let mut world = World::running(spec("web"));
    world.order("web", Order::Stop);
    world.gone("web", 1, Exit::signal(15));
    world.declare(off.clone());
    let view = world.view("web");
    assert_eq!((view.status, view.reason), (Status::Stopped, Some(Reason::Disabled)));
    let next = "starts when that is removed, and with `plugd start web`: it was stopped by hand, too";
    assert_eq!(view.next.as_deref(), Some(next));
    world.declare(spec("web"));
    assert_eq!(world.status("web"), (Status::Stopped, Some(Reason::StoppedByOperator)));

    let mut world = World::new();
    world.declare(off);
    assert_eq!(world.view("web").next.as_deref(), Some("starts when that is removed"));
}

#[test]
fn what_failed_for_good_is_told_with_its_last_words_also_where_they_come_later() {
    let mut spec = spec("web");
    spec.restart.policy = RestartPolicy::Never;
    let mut world = World::running(spec);
    world.crash("web", 1, 3);
    assert!(world.view("web").why[0].starts_with("exited with 3 after "), "{:?}", world.view("web").why);
    world.tell(Input::Output { life: life("web", 1), lines: vec!["cannot open config".into()] });
    let view = world.view("web");
    assert_eq!(view.status, Status::Failed);
    assert!(view.why[0].ends_with(": \"cannot open config\""), "{:?}", view.why);
}

#[test]
fn what_stops_with_its_dependency_tells_which_one_that_was() {
    let mut world = World::new();
    for one in ["base", "other"] {
        world.declare(spec(one));
        world.spawned(one, 1);
    }
    let stops = |other: &str| Dependency { on_loss: OnLoss::Stop, ..needs(other) };
    world.declare(Spec { depends_on: vec![stops("other"), stops("base")], ..spec("dep") });
    world.spawned("dep", 1);
    assert_eq!(world.view("dep").lost, None);

    let mut actions = world.crash("base", 1, 1);
    actions.extend(world.gone("dep", 1, Exit::signal(15)));
    actions.extend(world.crash("other", 1, 1));
    let of = |action: &Action| match action {
        Action::Record(event) if event.reason == Reason::DependencyLost => Some(event.message.clone()),
        _ => None,
    };
    let told: Vec<String> = actions.iter().filter_map(of).collect();
    assert_eq!(told, ["dep is being stopped: base is not ready any more"]);
    assert_eq!(world.status("dep"), (Status::Stopped, Some(Reason::DependencyLost)));
    assert_eq!(world.view("dep").lost, Some(name("base")));

    world.order("dep", Order::Start);
    assert_eq!(world.view("dep").lost, None);
}
