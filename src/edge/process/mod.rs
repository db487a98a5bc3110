//! Preparing processes, their trees, and the helpers that run beside them.
