//! A new version is brought out instance by instance.

use std::collections::BTreeMap;

use super::world::*;
use crate::controller::testing::*;
use crate::controller::*;
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::spec::Spec;

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
