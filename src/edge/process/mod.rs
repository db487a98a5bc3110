//! Preparing processes, their trees, and the helpers that run beside them.

pub mod environment;
pub mod prepare;
