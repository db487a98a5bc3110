//! Reading logs back; sync, and without a controller.

use std::path::Path;

use jiff::Timestamp;

use super::layout::Side;
use crate::model::name::Name;

/// What of the logs is wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only the last lines of what the rest of the query leaves.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    /// The life before the present one.
    pub previous: bool,
    pub grep: Option<regex::Regex>,
}

/// One line of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub instance: u32,
    pub side: Side,
    /// When it was written, to the second or better; unknown without an index.
    pub time: Option<Timestamp>,
    /// Without its newline; at most 64 KiB, raw: show it through [`super::escape`].
    pub bytes: Vec<u8>,
    /// Bytes of this line beyond the 64 KiB.
    pub left_out: u64,
    /// Bytes that were dropped before this line.
    pub dropped: u64,
}

/// The log files of one service.
#[derive(Debug, Clone)]
pub struct LogFiles {}

impl LogFiles {
    /// `dir` is the log directory, `own` the service's `logs.path`; no `instance` means all.
    pub fn of(_dir: &Path, _service: &Name, _own: Option<&Path>, _instance: Option<u32>) -> LogFiles {
        LogFiles {}
    }

    /// All lines that match, oldest first, several instances merged by time.
    pub fn read(&self, _query: &Query) -> std::io::Result<Box<dyn Iterator<Item = Line> + Send>> {
        Ok(Box::new(std::iter::empty()))
    }

    /// The lines that match, then everything new; see [`super::Follow`].
    pub fn follow(self, _query: &Query) -> std::io::Result<super::Follow> {
        Ok(super::Follow {})
    }
}
