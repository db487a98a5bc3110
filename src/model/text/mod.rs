//! What people read: status files, the start-up report, ages and indicators.
//!
//! Pure printing. Text from services, files and peers is hostile until it went through `harmless`
//! (and `yaml`, where it stands in YAML): nothing printed here carries a control character or leaves
//! the YAML that holds it.

pub mod harmless;
mod node;
pub mod record;
mod report;
#[cfg(test)]
pub(crate) mod samples;
pub mod secret;
mod service;
mod telling;
mod word;
pub mod yaml;

pub use harmless::{clean, clip};
pub use node::{ControllerInfo, NodeFile, Places, node_file};
pub use report::{Cause, Report, Summary, start_report};
pub use service::{ControllerLine, status_file, strip_written};
pub use telling::telling;
pub use word::{Charset, age, indicator, seconds, since, span};
