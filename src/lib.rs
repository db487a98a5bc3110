//! plugd: a kubelet for plain processes.

pub mod controller;
pub mod model;
