//! Preparing processes, their trees, and the helpers that run beside them.

pub mod cgroup;
pub mod environment;
pub mod failure;
pub mod identity;
pub mod limits;
pub mod pin;
pub mod prepare;
pub mod preparer;
pub mod privileges;
mod program;
pub mod progress;
mod queue;
pub(crate) mod raw;
pub mod stat;
pub mod tree;
pub mod usage;
mod variables;
pub mod walk;
