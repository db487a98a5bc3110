//! plugd: a kubelet for plain processes.

#[cfg(not(target_os = "linux"))]
compile_error!("plugd runs on Linux only (5.4 or later): it is built on pidfds, splice and inotify");

pub mod api;
pub mod cli;
pub mod controller;
pub mod edge;
pub mod keeper;
pub mod model;
pub mod policy;
pub mod runtime;
