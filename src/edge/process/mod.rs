//! Preparing processes, their trees, and the helpers that run beside them.

pub mod cgroup;
pub mod identity;
pub(crate) mod raw;
pub mod stat;
pub mod tree;
pub mod walk;
