//! The built binary from outside: a directory, real processes, and what the status files say.
#![expect(clippy::disallowed_methods, reason = "these tests touch the world")]

#[path = "../faults/inject.rs"]
#[expect(dead_code, reason = "shared with the faults, which use all of it")]
mod inject;
mod world;

mod demand;
mod directory;
mod extras;
mod grounds;
mod hardship;
mod hung;
mod interrupted;
mod jobs;
mod judged;
mod last_good;
mod limits;
mod managed;
mod many;
mod older_mesh;
mod places;
mod privileges;
mod probes;
mod random;
mod restart;
mod secrets;
mod signals;
#[path = "../faults/soak.rs"]
mod soak;
mod socket;
mod stop;
mod strangers;
mod supervisor;
mod takeover;
mod tampering;
mod upgrade;
