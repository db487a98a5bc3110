//! The command line. Floor 8.
