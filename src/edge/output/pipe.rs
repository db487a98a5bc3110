//! One pipe that the pump empties, and what every move needs besides.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::budget::Budget;
use super::flow::Step;
use super::index;
use super::layout::Side;
use super::look::Look;
use super::loss::{Loss, Rate};
use super::pump::Counted;
use super::scratch::Scratch;
use super::tee::{Copier, Label};
use crate::model::name::LifeId;
use crate::model::spec::Logs;

/// One moment on both clocks, taken once a wake-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub mono: Instant,
    /// Microseconds since the epoch.
    pub micros: i64,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment { mono: Instant::now(), micros: jiff::Timestamp::now().as_microsecond() }
    }
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub life: LifeId,
    pub side: Side,
    /// None after end-of-file.
    pub fd: Option<OwnedFd>,
    /// The file it goes to; none where no log directory can be written.
    pub target: Option<usize>,
    pub logs: Logs,
    pub several: bool,
    pub label: Arc<Label>,
    pub look: Option<Look>,
    /// The probe's line was seen and not told yet.
    pub matched: bool,
    pub counted: Arc<Counted>,
    /// How often it was made larger.
    pub grown: usize,
    pub rate: Option<Rate>,
    pub loss: Option<Loss>,
    /// Not asked before this moment, because the disk takes no writes; out of epoll meanwhile.
    pub paused_until: Option<Instant>,
    /// That its file could not be opened was told and not taken back yet.
    pub unopened: bool,
    /// The last output where there is no file to read it from.
    pub last: Vec<u8>,
}

impl Pipe {
    /// What a step finds in an empty pipe; none where there are bytes.
    pub(super) fn nothing_yet(&self) -> Result<Option<Step>, Errno> {
        let Some(fd) = &self.fd else { return Ok(Some(Step::Ended)) };
        let mut look = [PollFd::new(fd, PollFlags::IN)];
        poll(&mut look, Some(&Timespec::default()))?;
        let found = look[0].revents();
        Ok(match (found.contains(PollFlags::IN), found.is_empty()) {
            (true, _) => None,
            (false, true) => Some(Step::Empty),
            (false, false) => Some(Step::Ended),
        })
    }

    pub(super) fn count(&self, bytes: u64) {
        self.counted.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, bytes: u64) {
        self.counted.dropped.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What all pipes share.
#[derive(Debug)]
pub(super) struct Kit {
    pub scratch: Scratch,
    pub index: index::Writer,
    pub budget: Budget,
    pub copier: Option<Copier>,
    pub now: Moment,
    pub buffer: Vec<u8>,
}
