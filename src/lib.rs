//! plugd: a kubelet for plain processes. Drop a manifest into a watched directory and the service
//! runs; edit it and the new version runs; delete it and it is gone, with every process it forked.
//!
//! # Theory of operation
//!
//! `plugd run` is one binary in two processes. The [`keeper`] is tiny and the parent of everything:
//! it spawns what it is asked to, reaps, and holds the descriptors that must not be lost. The
//! controller is its child and decides: *facts in, actions out, one owner of state, one way for every
//! manifest to travel.* It may die at any moment; a new one asks the keeper what there is and goes on.
//!
//! The controller is built in floors, and a file uses only what lies below it:
//!
//! | floor | module | |
//! |---|---|---|
//! | 0 | [`model`] | the words: name, manifest, spec, digest, status. No I/O, no clock |
//! | 1 | [`policy`] | pure judges: back-off, restart, dependencies, probes, updates |
//! | 2 | [`controller`] | the brain: facts are absorbed, `decide(now)` gives a plan |
//! | 3 | [`keeper`] | the keeper program, its protocol, and the client half |
//! | 4 | [`edge`] | the world: directory, processes, output, probes, files, database |
//! | 6 | [`api`] | the local socket |
//! | 7 | [`runtime`] | the loop that joins them |
//! | 8 | [`cli`], [`embed`] | the command line, and plugd as a library |
//!
//! Follow one manifest: `edge::directory` reads `web.yaml` and sends `Input::Declared`; `runtime`
//! absorbs it and asks `controller` to decide; the plan says `Action::Spawn`; `edge::process` prepares
//! program, environment and user; the keeper spawns and answers; `Input::Spawned` comes back, the
//! brain announces, and `edge::files` writes `web.status` beside the manifest.

// Elsewhere the modules are left out, so that this is the one error.
#[cfg(not(target_os = "linux"))]
compile_error!("plugd runs on Linux only (5.4 or later): it is built on pidfds, splice and inotify");
#[cfg(all(target_os = "linux", not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("plugd runs on x86_64 and aarch64 only: on other processors it has never been run");

// The samples of tests are one file for this crate and for `tests/`, where it has this name.
#[cfg(test)]
extern crate self as plugd;

#[cfg(target_os = "linux")]
pub mod api;
#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
pub mod controller;
#[cfg(target_os = "linux")]
pub mod edge;
#[cfg(target_os = "linux")]
pub mod embed;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(target_os = "linux")]
pub mod keeper;
#[cfg(target_os = "linux")]
pub mod model;
#[cfg(target_os = "linux")]
pub mod policy;
#[cfg(target_os = "linux")]
pub mod runtime;

#[cfg(target_os = "linux")]
pub use embed::Plugd;
