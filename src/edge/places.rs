//! Where state, logs and run files lie.
