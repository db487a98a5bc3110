//! The command line. Floor 8.

pub mod doctor;
