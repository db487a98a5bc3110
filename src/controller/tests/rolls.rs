//! A new version is brought out instance by instance.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::manifest::instance_port;
use crate::model::name::{Instance, LifeId};
use crate::model::spec::{Readiness, Spec};

fn on(port: u16, replicas: u32) -> Spec {
    let mut web = spec("web");
    web.process.port = Some(port);
    web.replicas = replicas;
    web
}

/// Carries out what is asked for, one after the other; gives who began, in order. Nobody may begin on the port of
/// another that is still there.
fn play(world: &mut World, mut actions: Vec<Action>, held: &mut BTreeMap<LifeId, u16>) -> Vec<u32> {
    let mut began = Vec::new();
    while !actions.is_empty() {
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Try { name, digest, .. } => {
                    actions.extend(world.tell(Input::Tried { name, digest, result: Ok(()) }));
                }
                Action::Spawn { life, spec, .. } => {
                    let port = instance_port(&spec.process, life.instance.index).expect("a port");
                    let by: Vec<&LifeId> = held.iter().filter(|(_, one)| **one == port).map(|(life, _)| life).collect();
                    assert!(by.is_empty(), "{life} begins on port {port} of {by:?}");
                    held.insert(life.clone(), port);
                    began.push(life.instance.index);
                    let pid = 100 + i32::try_from(began.len()).expect("a few");
                    actions.extend(world.tell(Input::Spawned { life, pid, start_time: 7 }));
                }
                Action::Signal { life, .. } => {
                    held.remove(&life);
                    actions.extend(world.tell(Input::Exited { life: life.clone(), exit: Exit::signal(15) }));
                    actions.extend(world.tell(Input::Surveyed { life, left: vec![] }));
                }
                _ => {}
            }
        }
    }
    began
}

#[test]
fn ports_that_move_up_or_down_are_left_before_they_are_taken() {
    for (to, order) in [(81, [2, 1, 0]), (79, [0, 1, 2]), (82, [1, 2, 0]), (90, [0, 1, 2])] {
        let (mut world, mut held) = (World::new(), BTreeMap::new());
        let actions = world.declare(on(80, 3));
        play(&mut world, actions, &mut held);

        let actions = world.declare(on(to, 3));
        assert_eq!(play(&mut world, actions, &mut held), order, "to {to}");
        let view = world.view("web");
        assert_eq!((view.ready, view.problems.len()), (3, 0));
        assert_eq!(held.values().copied().collect::<Vec<_>>(), [to, to + 1, to + 2]);
    }
}

#[test]
fn one_that_is_new_or_down_waits_for_the_port_that_another_is_to_leave() {
    // A second one is wanted, on the port of the first.
    let (mut world, mut held) = (World::new(), BTreeMap::new());
    let actions = world.declare(on(80, 1));
    play(&mut world, actions, &mut held);
    let actions = world.declare(on(79, 2));
    assert_eq!(play(&mut world, actions, &mut held), [0, 1]);
    assert_eq!(world.view("web").ready, 2);

    // The first is down; its next port is that of the second.
    let (mut world, mut held) = (World::new(), BTreeMap::new());
    let actions = world.declare(on(80, 2));
    play(&mut world, actions, &mut held);
    world.crash("web", 1, 1);
    world.spawned("web", 2);
    world.crash("web", 2, 1);
    held.remove(&life("web", 1));
    let actions = world.declare(on(81, 2));
    assert_eq!(play(&mut world, actions, &mut held), [1, 0]);
    assert_eq!(world.view("web").ready, 2);
}

fn of(index: u32, life: u64) -> LifeId {
    LifeId { instance: Instance { service: name("web"), index }, life }
}

/// The instances that are told to end.
fn told_to_end(actions: &[Action]) -> Vec<u32> {
    let ended = actions.iter().filter_map(|action| match action {
        Action::Signal { life, .. } => Some(life.instance.index),
        _ => None,
    });
    ended.collect()
}

fn answer(world: &mut World, life: &LifeId, passed: bool) -> Vec<Action> {
    let mut actions = world.until_asked_of(life, ProbeSlot::Readiness);
    let verdict = Verdict { passed, message: "it answered".into(), reason: None, took: Duration::ZERO };
    actions.extend(world.tell(Input::Verdict { life: life.clone(), probe: ProbeSlot::Readiness, verdict }));
    actions
}

#[test]
fn who_comes_in_the_middle_of_a_roll_takes_nobody_down_that_has_not_been_heard_yet() {
    let version = |arg: &str| {
        let mut web = Spec { replicas: 3, readiness: Readiness::Probe(tcp(80)), ..spec("web") };
        web.process.args = vec![arg.into()];
        web
    };
    let mut blobs: BTreeMap<LifeId, Vec<u8>> = BTreeMap::new();
    let mut memory = None;
    let mut world = World::new();
    let mut note = |actions: &[Action]| {
        for action in actions {
            match action {
                Action::Spawn { life, blob, .. } | Action::SetBlob { life, blob } => {
                    blobs.insert(life.clone(), blob.clone());
                }
                Action::Remember(_, new) => memory = Some(Memory::clone(new)),
                _ => {}
            }
        }
    };
    note(&world.declare(version("old")));
    for index in 0..3 {
        note(&world.tell(Input::Spawned { life: of(index, 1), pid: 100, start_time: 7 }));
        note(&answer(&mut world, &of(index, 1), true));
    }
    let actions = try_well(&mut world, version("new"));
    note(&actions);
    assert_eq!(told_to_end(&actions), [0], "one at a time");
    note(&world.tell(Input::Exited { life: of(0, 1), exit: Exit::signal(15) }));
    note(&world.tell(Input::Surveyed { life: of(0, 1), left: vec![] }));
    note(&world.tell(Input::Spawned { life: of(0, 2), pid: 101, start_time: 7 }));

    let mut next = World::unread(config(), world.now);
    next.tell(Input::Remembered(name("web"), Box::new(memory.expect("it was declared"))));
    for (life, blob) in blobs.into_iter().filter(|(life, _)| *life != of(0, 1)) {
        let adopted = Adopted { life, pid: 101, pre_stop: false, age: Duration::from_secs(9), exit: None, blob };
        next.tell(Input::Adopted(adopted));
    }
    let mut actions = try_well(&mut next, version("new"));
    actions.extend(next.tell(Input::Scanned));
    assert!(told_to_end(&actions).is_empty(), "{actions:?}");
    for index in [1, 2] {
        let actions = answer(&mut next, &of(index, 1), true);
        assert!(told_to_end(&actions).is_empty(), "the new one is not ready: {index}: {actions:?}");
    }
    assert_eq!(told_to_end(&answer(&mut next, &of(0, 2), true)), [1], "it goes on");
}

#[test]
fn a_version_that_ends_at_once_takes_no_more_with_it_than_may_be_down() {
    let version = |arg: &str| {
        let mut web = Spec { replicas: 4, ..spec("web") };
        web.process.args = vec![arg.into()];
        web
    };
    let mut world = World::new();
    world.declare(version("old"));
    for index in 0..4 {
        world.tell(Input::Spawned { life: of(index, 1), pid: 100, start_time: 7 });
    }
    // Each start is ready for as long as it lives.
    let mut actions = try_well(&mut world, version("new"));
    let mut ended = 0;
    for _ in 0..40 {
        while !actions.is_empty() {
            for action in std::mem::take(&mut actions) {
                let (life, exit) = match action {
                    Action::Signal { life, signal: 15, .. } => {
                        ended += 1;
                        (life, Exit::signal(15))
                    }
                    Action::Spawn { life, .. } => {
                        actions.extend(world.tell(Input::Spawned { life: life.clone(), pid: 101, start_time: 7 }));
                        (life, Exit::code(1))
                    }
                    _ => continue,
                };
                actions.extend(world.tell(Input::Exited { life: life.clone(), exit }));
                actions.extend(world.tell(Input::Surveyed { life, left: vec![] }));
            }
        }
        actions.extend(world.sleep(Duration::from_millis(500)));
    }
    assert!(ended <= 2, "{ended} of four were ended for a version that does not run");
}
