//! Every verb of the command line against a node that runs: what it does, what it says, how it ends.
#![expect(clippy::disallowed_methods, reason = "these tests touch the world")]

#[expect(dead_code, reason = "each suite uses its part of the world")]
#[path = "../black_box/world.rs"]
mod world;

mod ask;
mod behind;
mod change;
mod logs;
mod past;
mod readme;
mod run;
mod see;
mod steer;
mod terminal;
mod top;
mod trust;
