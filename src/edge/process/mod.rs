//! Preparing processes, their trees, and the helpers that run beside them.

pub mod cgroup;
pub mod environment;
pub mod identity;
pub mod prepare;
pub(crate) mod raw;
pub mod stat;
pub mod tree;
pub mod usage;
pub mod walk;
