//! Output of services: from their pipes to files, and back to readers.
//!
//! One thread, the pump, moves bytes from each service's pipe to its log file by splice(2): they
//! never enter user memory on their way, so a killed controller loses none and doubles none. The
//! files hold exactly what the service wrote; when it was written, where a life began and what had
//! to be dropped stands in a small index beside them. Reading back needs no controller.
//!
//! In reading order: [`layout`] names the files, `pump` is what the runtime talks to, `engine`
//! is a thread (`lanes` says which one writes where), `flow` moves the bytes of one pipe, `file` and `rotate` keep one file, `budget`
//! keeps all of them together within a limit, [`off_limits`] says which files none may be, `index` remembers times, `look` reads along for the
//! `logLine` probe, `tee` copies to plugd's own stdout, `escape` makes bytes safe to show,
//! [`read`] and `follow` read back.

mod budget;
mod chain;
mod engine;
pub mod escape;
mod file;
mod flow;
mod follow;
mod hands;
mod index;
mod lanes;
pub mod layout;
mod look;
mod loss;
pub mod off_limits;
mod pipe;
mod pump;
pub mod read;
mod rotate;
mod scratch;
mod table;
mod tee;

pub use follow::Follow;
pub use pump::{Counted, Pump, PumpError, PumpEvent, Settings, Stream, Tee};
pub use read::{Line, LogFiles, Query};
