//! Output of services: from their pipes to files, and back to readers.

mod engine;
pub mod escape;
mod follow;
mod index;
pub mod layout;
mod pump;
pub mod read;
mod scratch;

pub use follow::Follow;
pub use pump::{Counted, Pump, PumpError, PumpEvent, Settings, Stream, Tee};
pub use read::{Line, LogFiles, Query};
