//! The world, one file or folder per kind of contact. Floor 4.
#![expect(clippy::disallowed_methods, reason = "the edge is where the world is touched")]

pub mod directory;
pub mod files;
pub mod output;
pub mod places;
pub mod probe;
pub mod process;
pub mod store;
