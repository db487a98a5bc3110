//! Services that guard themselves: a second copy finds the lock taken and says so, and every start
//! leaves a line. What plugd believes does not matter to them.

use std::fs;
use std::path::PathBuf;

use crate::world::World;

/// A script that takes the lock of `name`, notes its start, and then does `rest`.
pub fn script(world: &World, name: &str, rest: &str) -> String {
    let root = world.root().display();
    format!(
        "script: |\n  exec 9>>{root}/lock-{name}\n  flock -n 9 || echo \"{name} $$\" >> {root}/doubles\n  echo $$ >> {root}/starts-{name}\n  {rest}\n"
    )
}

/// One that stays.
pub fn stays(world: &World, name: &str) -> String {
    script(world, name, "exec sleep 86400")
}

/// One that does not hear TERM once it has noted its start, and does `body` for ever.
pub fn deaf(world: &World, name: &str, body: &str) -> String {
    let text = script(world, name, &format!("while :; do {body}; done"));
    text.replacen("  exec 9", "  trap '' TERM\n  exec 9", 1)
}

/// Puts one that stays and waits until it runs.
pub fn put(world: &World, name: &str) {
    world.put(&format!("{name}.yaml"), &stays(world, name));
    world.wait(&format!("{name} to run"), |world| world.status(name) == "running" && !starts(world, name).is_empty());
}

/// The pids of its starts so far.
pub fn starts(world: &World, name: &str) -> Vec<i32> {
    let text = fs::read_to_string(world.root().join(format!("starts-{name}"))).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Nobody has ever met a second copy of itself.
pub fn assert_single(world: &World) {
    let path: PathBuf = world.root().join("doubles");
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty(), "second copies:\n{text}\n--- plugd\n{}", world.log());
}

/// No part of plugd has panicked.
pub fn assert_calm(world: &World) {
    let log = world.log();
    assert!(!log.contains("panicked"), "{log}");
}
