//! The words of plugd: names, manifests as written, specs as meant, statuses as told.
//!
//! Floor 0. No I/O, no clock, no randomness: everything here is a value, a parser of a value,
//! or a printer of one.

pub mod capability;
pub mod cron;
pub mod digest;
pub mod duration;
pub mod expand;
pub mod glob;
pub mod history;
pub mod log_names;
pub mod manifest;
pub mod name;
pub mod quantity;
pub mod ready;
pub mod reason;
pub mod register;
pub mod settings;
pub mod signal;
pub mod spec;
pub mod text;
pub mod time;
pub mod view;
pub mod words;
pub mod yaml;
pub mod zone;
