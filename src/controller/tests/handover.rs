//! What a new controller knows of the old one's lives and of what people said.

use std::sync::Arc;
use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::reason::{Reason, Status};
use crate::model::spec::{Check, Probe, Readiness, Spec};

/// The blob and the memory that the keeper and the disk hold after these actions.
fn held(actions: &[Action], blob: &mut Vec<u8>, memory: &mut Option<Memory>) {
    for action in actions {
        match action {
            Action::Spawn { blob: new, .. } | Action::SetBlob { blob: new, .. } => blob.clone_from(new),
            Action::Remember(_, new) => *memory = Some(Memory::clone(new)),
            _ => {}
        }
    }
}

#[test]
fn what_speaks_by_itself_has_spoken_and_need_not_say_it_twice() {
    let mut web = spec("web");
    web.readiness = Readiness::Probe(Probe { check: Check::Notify, ..tcp(1) });
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::new();
    held(&world.declare(web.clone()), &mut blob, &mut memory);
    held(&world.spawned("web", 1), &mut blob, &mut memory);
    let said = Notification { ready: true, ..Notification::default() };
    held(&world.notify("web", 1, said), &mut blob, &mut memory);

    let mut next = World::unread(config(), world.now);
    let adopted =
        Adopted { life: life("web", 1), pid: 101, pre_stop: false, age: Duration::from_secs(3), exit: None, blob };
    next.tell(Input::Adopted(adopted));
    next.declare(web);
    assert_eq!(next.status("web").0, Status::Healthy);
}

#[test]
fn that_a_service_runs_as_root_is_told_once_and_not_by_every_controller() {
    let warned = |actions: &[Action]| {
        actions.iter().any(|action| matches!(action, Action::Record(event) if event.reason == Reason::RunsAsRoot))
    };
    let warning = Config { warn_root: true, ..config() };
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::with(warning.clone());
    let actions = world.declare(spec("web"));
    assert!(warned(&actions));
    held(&actions, &mut blob, &mut memory);
    held(&world.spawned("web", 1), &mut blob, &mut memory);

    let mut next = World::unread(warning, world.now);
    let adopted =
        Adopted { life: life("web", 1), pid: 101, pre_stop: false, age: Duration::from_secs(3), exit: None, blob };
    next.tell(Input::Adopted(adopted));
    assert!(!warned(&next.declare(spec("web"))));
    assert!(warned(&next.declare(spec("other"))));
}

#[test]
fn an_end_that_the_last_controller_asked_for_is_no_crash_under_the_next() {
    let next = |order: Option<Order>| {
        let (mut blob, mut memory) = (Vec::new(), None);
        let mut world = World::new();
        held(&world.declare(spec("web")), &mut blob, &mut memory);
        held(&world.spawned("web", 1), &mut blob, &mut memory);
        held(&world.sleep(Duration::from_secs(60)), &mut blob, &mut memory);
        if let Some(order) = order {
            held(&world.order("web", order), &mut blob, &mut memory);
        }
        let (age, exit) = (Duration::from_secs(60), Some(Exit::signal(15)));
        let mut next = World::unread(config(), world.now);
        next.tell(Input::Remembered(name("web"), Box::new(memory.expect("it was declared"))));
        next.tell(Input::Adopted(Adopted { life: life("web", 1), pid: 101, pre_stop: false, age, exit, blob }));
        next.declare(spec("web"));
        let actions = next.tell(Input::Surveyed { life: life("web", 1), left: vec![] });
        (spawns(&actions, "web", 2), next.view("web").restarts)
    };
    assert_eq!(next(Some(Order::Restart)), (true, 0), "at once, and not counted");
    assert_eq!(next(None), (true, 1), "a crash is counted");
}

/// A version runs, its edit would not start, and another controller comes.
fn taken_over_while_blocked(spec: &Spec, edit: &Spec) -> World {
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::new();
    held(&world.declare(spec.clone()), &mut blob, &mut memory);
    held(&world.spawned("web", 1), &mut blob, &mut memory);
    held(&world.sleep(Duration::from_secs(60)), &mut blob, &mut memory);
    held(&world.declare(edit.clone()), &mut blob, &mut memory);
    held(&refuse(&mut world), &mut blob, &mut memory);
    // As it is written down and read.
    let memory = serde_json::to_string(&memory.expect("it was declared")).expect("plain");
    let mut memory: Memory = serde_json::from_str(&memory).expect("read back");
    if let Some(kept) = &mut memory.kept {
        let mut spec = (*kept.spec).clone();
        stamp(&mut spec);
        kept.spec = Arc::new(spec);
    }

    let mut next = World::unread(config(), world.now);
    next.tell(Input::Remembered(name("web"), Box::new(memory)));
    let age = Duration::from_secs(60);
    next.tell(Input::Adopted(Adopted { life: life("web", 1), pid: 101, pre_stop: false, age, exit: None, blob }));
    let mut actions = next.declare(edit.clone());
    actions.extend(next.tell(Input::Scanned));
    actions.extend(refuse(&mut next));
    actions.extend(next.sleep(Duration::from_secs(60)));
    assert!(!signals(&actions, "web", 15), "{actions:?}");
    next
}

/// What is tried would not start, if anything is tried.
fn refuse(world: &mut World) -> Vec<Action> {
    let actions = world.decide();
    let key = world.controller.table.by_name(&name("web")).and_then(|web| web.trial.as_ref()).map(|trial| trial.key);
    let result = Err((Reason::ProgramNotFound, "no program nosuch".to_string()));
    let tried = key.map(|digest| Input::Tried { name: name("web"), digest, result });
    actions.into_iter().chain(tried.into_iter().flat_map(|tried| world.tell(tried))).collect()
}

#[test]
fn a_version_that_is_kept_goes_on_under_the_next_controller_as_it_was() {
    let old = spec("web");
    let mut new = spec("web");
    new.process.args = vec!["--new".into()];
    let mut waits = old.clone();
    waits.depends_on = vec![needs("nobody")];
    let none = Spec { replicas: 0, ..new.clone() };
    let nightly = Spec { process: new.process.clone(), ..job("web", "0 0 * * *") };
    for edit in [new, waits, none, nightly] {
        let mut next = taken_over_while_blocked(&old, &edit);
        let view = next.view("web");
        assert_eq!((view.status, view.manifest.generation, view.manifest.in_force), (Status::Running, 2, Some(1)));
        assert!(view.problems.iter().any(|problem| problem.reason == Reason::UpdateBlocked), "{:?}", view.problems);

        let mut actions = next.crash("web", 1, 1);
        actions.extend(next.sleep(Duration::from_secs(2)));
        let again = actions.iter().find_map(|action| match action {
            Action::Spawn { spec, .. } => Some(spec.process.args.clone()),
            _ => None,
        });
        assert_eq!(again, Some(Vec::new()), "the version before runs again");
    }
}

#[test]
fn a_version_that_is_kept_and_does_not_run_starts_again_under_the_next_controller() {
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::new();
    held(&world.declare(spec("web")), &mut blob, &mut memory);
    held(&world.spawned("web", 1), &mut blob, &mut memory);
    let mut edit = spec("web");
    edit.depends_on = vec![needs("nobody")];
    held(&world.declare(edit.clone()), &mut blob, &mut memory);
    held(&world.order("web", Order::Stop), &mut blob, &mut memory);
    held(&world.gone("web", 1, Exit::signal(15)), &mut blob, &mut memory);

    let mut next = World::unread(config(), world.now);
    next.tell(Input::Remembered(name("web"), Box::new(memory.expect("it was declared"))));
    next.declare(edit);
    next.tell(Input::Scanned);
    assert_eq!(next.status("web").1, Some(Reason::StoppedByOperator));
    assert!(spawns(&next.order("web", Order::Start), "web", 2), "{:?}", next.view("web").why);
}

#[test]
fn what_is_kept_is_read_as_it_was_whatever_its_words_are() {
    for odd in
        ["\u{7f}", "\u{80}", "\u{85}", "\u{9f}", "\u{2028}", "\u{feff}", "\u{ffff}", "\u{1f600}", "\n \t\\\"'%&*"]
    {
        let mut spec = spec("web");
        spec.process.args = vec![odd.into()];
        let kept = KeptMemory {
            spec: Arc::new(spec),
            wrapper: None,
            content: crate::model::spec::Digest::default(),
            source: 1,
            generation: 1,
        };
        let memory = Memory { kept: Some(Box::new(kept)), ..Memory::default() };
        let back: Memory = serde_json::from_str(&serde_json::to_string(&memory).expect("plain")).expect("read");
        assert_eq!(back.kept.expect("kept").spec.process.args, [odd]);
    }
}

#[test]
fn what_an_earlier_plugd_kept_in_words_of_its_own_costs_nothing_else() {
    let memory = r#"{"generation":7,"digest":"","restarts":3,"step":0,"failed_starts":0,"stopped_by_operator":false,
        "scaled_to":null,"last_exit":null,"lives":[4],"kept":{"spec":{"kind":"Something"}}}"#;
    let memory: Memory = serde_json::from_str(memory).expect("read");
    assert_eq!((memory.generation, memory.restarts, memory.kept), (7, 3, None));
}

#[test]
fn what_was_said_before_the_manifest_was_read_outlives_the_controller_too() {
    let mut blob = Vec::new();
    let mut memory = None;
    let mut world = World::new();
    held(&world.declare(spec("web")), &mut blob, &mut memory);

    let mut second = World::unread(config(), world.now);
    second.tell(Input::Remembered(name("web"), Box::new(memory.clone().expect("it was declared"))));
    held(&second.order("web", Order::Stop), &mut blob, &mut memory);

    let mut third = World::unread(config(), world.now);
    third.tell(Input::Remembered(name("web"), Box::new(memory.expect("it was stopped"))));
    assert!(!spawns(&third.declare(spec("web")), "web", 1));
    assert_eq!(third.status("web"), (Status::Stopped, Some(Reason::StoppedByOperator)));
}

#[test]
fn a_service_that_is_going_takes_with_it_what_is_said_of_it() {
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::running(spec("web"));
    held(&world.tell(Input::Withdrawn(name("web"))), &mut blob, &mut memory);
    held(&world.order("web", Order::Stop), &mut blob, &mut memory);
    held(&world.gone("web", 1, Exit::signal(15)), &mut blob, &mut memory);

    let mut next = World::unread(config(), world.now);
    next.tell(Input::Remembered(name("web"), Box::new(memory.expect("it was withdrawn"))));
    assert!(spawns(&next.declare(spec("web")), "web", 2), "a new service of an old name is not stopped");
}

#[test]
fn a_number_of_a_life_is_never_used_again() {
    let memory = Memory { generation: 1, lives: vec![3, 9], ..Memory::default() };
    let mut world = World::unread(config(), start());
    world.tell(Input::Remembered(name("web"), Box::new(memory)));
    world.declare(spec("web"));
    world.tell(Input::Scanned);
    let actions = world.order("web", Order::Scale(2));
    let mut second = life("web", 10);
    second.instance.index = 1;
    assert!(
        actions.iter().any(|action| matches!(action, Action::Spawn { life, .. } if *life == second)),
        "{actions:?}"
    );
}

#[test]
fn a_directory_that_is_found_again_tells_what_is_gone() {
    let mut world = World::unread(config(), start());
    world.tell(Input::DirectoryLost("it is not there".into()));
    let adopted = Adopted {
        life: life("web", 1),
        pid: 101,
        pre_stop: false,
        age: Duration::from_secs(3),
        exit: None,
        blob: Vec::new(),
    };
    world.tell(Input::Adopted(adopted));
    assert!(!signals(&world.tell(Input::Scanned), "web", 15));
    assert!(signals(&world.tell(Input::DirectoryFound), "web", 15));
}

#[test]
fn a_status_is_as_old_under_the_next_controller_as_it_was() {
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::new();
    held(&world.declare(spec("web")), &mut blob, &mut memory);
    held(&world.spawned("web", 1), &mut blob, &mut memory);
    held(&world.sleep(Duration::from_secs(60)), &mut blob, &mut memory);
    let since = world.view("web").since;
    let memory = memory.expect("it was declared");

    let next = |age: u64, blob: &[u8]| {
        let (age, blob) = (Duration::from_secs(age), blob.to_vec());
        let adopted = Adopted { life: life("web", 1), pid: 101, pre_stop: false, age, exit: None, blob };
        let mut next = World::unread(config(), world.now);
        next.tell(Input::Remembered(name("web"), Box::new(memory.clone())));
        next.tell(Input::Adopted(adopted));
        next.declare(spec("web"));
        (next.status("web").0, next.view("web").since)
    };
    assert_eq!(next(60, &blob), (Status::Running, since));

    // What runs has begun after the last word that was written down.
    let mut later = World::new();
    later.sleep(Duration::from_secs(30));
    held(&later.declare(spec("web")), &mut blob, &mut None);
    held(&later.spawned("web", 1), &mut blob, &mut None);
    assert_eq!(next(30, &blob), (Status::Running, world.now.wall));

    // Its keeper was killed too: what runs then has just begun.
    let mut anew = World::unread(config(), world.now);
    anew.tell(Input::Remembered(name("web"), Box::new(memory.clone())));
    anew.declare(spec("web"));
    anew.tell(Input::Scanned);
    anew.tell(Input::Spawned { life: life("web", 2), pid: 102, start_time: 8 });
    assert_eq!((anew.status("web").0, anew.view("web").since), (Status::Running, world.now.wall));
}

#[test]
fn a_wait_is_as_old_under_the_next_controllers_as_it_was_and_the_next_wait_is_new() {
    let (mut blob, mut memory) = (Vec::new(), None);
    let mut world = World::new();
    let waiting = (Status::Unhealthy, Some(Reason::BackOff));
    let mut note = |actions: Vec<Action>| held(&actions, &mut blob, &mut memory);
    note(world.declare(spec("web")));
    note(world.spawned("web", 1));
    note(world.crash("web", 1, 1));
    note(world.spawned("web", 2));
    note(world.crash("web", 2, 1));
    let since = world.view("web").since;
    assert_eq!(world.status("web"), waiting);
    for _ in 0..2 {
        world.sleep(Duration::from_millis(100));
        let age = Duration::from_millis(1);
        let exit = Some(Exit::code(1));
        let adopted = Adopted { life: life("web", 2), pid: 102, pre_stop: false, age, exit, blob: blob.clone() };
        let mut next = World::unread(config(), world.now);
        next.tell(Input::Remembered(name("web"), Box::new(memory.clone().expect("it was declared"))));
        // It is killed before it has dealt with the end, or goes on.
        held(&next.tell(Input::Adopted(adopted)), &mut blob, &mut memory);
        held(&next.declare(spec("web")), &mut blob, &mut memory);
        held(&next.tell(Input::Scanned), &mut blob, &mut memory);
        assert_eq!(next.status("web").0, Status::Stopping, "what it left is looked for");
        world = next;
    }
    held(&world.tell(Input::Surveyed { life: life("web", 2), left: vec![] }), &mut blob, &mut memory);
    assert_eq!((world.status("web"), world.view("web").since), (waiting, since));
    world.sleep(Duration::from_secs(5));
    world.spawned("web", 3);
    world.crash("web", 3, 1);
    assert_eq!((world.status("web"), world.view("web").since), (waiting, world.now.wall));
}

#[test]
fn what_failed_in_a_run_before_is_on_its_way_until_this_run_has_tried_it() {
    let memory = Memory { generation: 1, lives: vec![7], step: 7, failed_starts: 7, ..Memory::default() };
    let mut world = World::unread(config(), start());
    world.tell(Input::Remembered(name("web"), Box::new(memory)));
    world.declare(spec("web"));
    world.tell(Input::Scanned);
    assert!(world.view("web").pending, "nothing was tried yet: {:?}", world.status("web"));
    let refusal = Input::SpawnFailed { life: life("web", 8), reason: Reason::PermissionDenied, message: "no".into() };
    world.tell(refusal);
    assert!(!world.view("web").pending);
    assert_eq!(world.status("web"), (Status::Unhealthy, Some(Reason::CrashLoopBackOff)), "what came before counts");
}
