//! A ConfigMap as `services.d`: the swap of `examples/configmap/layout.sh` is one edit.

use std::process::Command;

use crate::world::World;

fn lay_out(world: &World, text: &str) {
    let script = format!("{}/examples/configmap/layout.sh", env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("sh").arg(script).arg(world.dir()).arg(text).status().expect("sh");
    assert!(status.success());
}

#[test]
fn a_swap_of_the_data_directory_reaches_the_service_once() {
    let mut world = World::empty();
    lay_out(&world, "first");
    world.run(&[]);
    world.wait_status("hello", "running");
    let log = world.state().join("logs/hello.log");
    let pid = world.pid("hello").expect("a pid");
    // What is replaced before it has said a word never says it.
    world.wait("its first words", |_| std::fs::read_to_string(&log).is_ok_and(|text| text == "first\n"));

    lay_out(&world, "second");

    world.wait("the second version", |world| {
        world.pid("hello").is_some_and(|new| new != pid) && world.status("hello") == "running"
    });
    world.wait("its words", |_| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("second")));
    // What comes after is seen after: had the swap been taken for more than one edit, it would show.
    lay_out(&world, "third");
    world.wait("the third version", |_| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("third")));
    assert_eq!(std::fs::read_to_string(&log).expect("a log"), "first\nsecond\nthird\n");
    world.wait("generation 3 to be told", |world| {
        world.field("hello", "manifest").is_some_and(|manifest| manifest.contains("generation: 3"))
    });
    assert_eq!(world.field("hello", "restarts").as_deref(), Some("0"));
}

#[test]
fn a_swap_that_changes_nothing_restarts_nothing() {
    let mut world = World::empty();
    lay_out(&world, "same");
    world.run(&[]);
    world.wait_status("hello", "running");
    let pid = world.pid("hello");

    lay_out(&world, "same");
    world.put("sentinel.yaml", "command: sleep 3600\n");
    world.wait_status("sentinel", "running");

    assert_eq!(world.pid("hello"), pid);
}
