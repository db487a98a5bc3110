//! The product's main job on real services, and every claim of what ships beside the program.
//!
//! postgresql, redis and nginx come from the system; `./test.sh` installs them.
#![expect(clippy::disallowed_methods, reason = "these tests touch the world")]

#[path = "../black_box/world.rs"]
#[expect(dead_code, reason = "shared with the black-box tests, which use all of it")]
mod world;

#[path = "../faults/inject.rs"]
#[expect(dead_code, reason = "shared with the faults, which use all of it")]
mod inject;
#[path = "../faults/oracle.rs"]
#[expect(dead_code, reason = "shared with the faults, which use all of it")]
mod oracle;

mod begin;
mod configmap;
mod container;
mod embedded;
mod outage;
mod shipped;
mod sick;
mod story;
mod system;
