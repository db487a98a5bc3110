//! plugd under a service manager: what systemd is told of the node, and when.
//!
//! `READY=1` comes with the start-up report, so that what is ordered after plugd finds the services there;
//! it comes whatever became of them. `WATCHDOG=1` comes from the loop and from nowhere else: a loop that
//! stands still says nothing. The keeper is the main process over all upgrades and says nothing itself.

use std::time::{Duration, Instant};

use super::{Node, Notice};
use crate::edge::manager::Manager;
use crate::model::text::Report;
use crate::model::view::Snapshot;

/// A status text is told so often at most.
const STATUS_MIN: Duration = Duration::from_secs(1);
/// Names of failed services in the status text.
const NAMED_MAX: usize = 5;

/// What the manager knows already.
pub(super) struct Managed {
    manager: Option<Manager>,
    main: i32,
    ready: bool,
    stopping: bool,
    status: String,
    told: Option<Instant>,
    /// Of the board, when the status text was made.
    seen: Option<u64>,
    beat: Option<Instant>,
}

impl Managed {
    pub fn new(manager: Option<Manager>, main: i32) -> Managed {
        let beat = manager.as_ref().and_then(|manager| manager.watchdog).map(|_| Instant::now());
        Managed { manager, main, ready: false, stopping: false, status: String::new(), told: None, seen: None, beat }
    }

    fn say(&self, lines: &[String]) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.say(lines))
    }

    /// When something is owed to the manager. `published`: how often the board was.
    pub fn next_due(&self, published: u64) -> Option<Instant> {
        self.manager.as_ref()?;
        let news = (self.seen != Some(published)).then(|| self.told.map_or_else(Instant::now, |at| at + STATUS_MIN));
        news.into_iter().chain(self.beat).min()
    }

    fn beat(&mut self, now: Instant) {
        let Some(watchdog) = self.manager.as_ref().and_then(|manager| manager.watchdog) else { return };
        if self.beat.is_some_and(|at| now >= at) {
            self.say(&["WATCHDOG=1".into()]);
            self.beat = Some(now + watchdog / 2);
        }
    }

    /// Tells what has changed. A word that is not heard is said again.
    fn tell(&mut self, shown: &Snapshot, now: Instant) {
        let mut lines = Vec::new();
        let (ready, stopping) = (shown.node.settled, shown.node.shutting_down);
        if ready && !self.ready && !stopping {
            lines.push("READY=1".to_string());
            lines.push(format!("MAINPID={}", self.main));
        }
        if stopping && !self.stopping {
            lines.push("STOPPING=1".to_string());
        }
        // Before anything is known a sum would say that nothing runs.
        let unread = !ready && !stopping && shown.services.is_empty();
        let status = if unread { self.status.clone() } else { status(shown) };
        if status != self.status {
            lines.push(format!("STATUS={status}"));
        }
        self.told = Some(now);
        if lines.is_empty() || self.say(&lines) {
            (self.ready, self.stopping, self.status) = (self.ready || ready, self.stopping || stopping, status);
        }
    }
}

/// `12 of 13 services are up; failed: db (BackOff)`.
fn status(shown: &Snapshot) -> String {
    let report = Report::of(shown);
    let meant = report.summary.total - report.skipped.len();
    let noun = if meant == 1 { "service is" } else { "services are" };
    let up = format!("{} of {meant} {noun} up", report.started.len());
    if shown.node.shutting_down {
        return format!("stopping; {up}");
    }
    if let Some(why) = &shown.node.directory_lost {
        return format!("{up}; the directory is lost: {why}");
    }
    if !shown.node.settled {
        return format!("starting; {up}");
    }
    let failed: Vec<String> =
        report.failed.iter().take(NAMED_MAX).map(|one| format!("{} ({})", one.name, one.reason)).collect();
    let more = if report.failed.len() > NAMED_MAX { ", …" } else { "" };
    if failed.is_empty() { up } else { format!("{up}; failed: {}{more}", failed.join(", ")) }
}

impl Node {
    /// After each turn: the loop has shown that it turns.
    pub(super) fn tell_manager(&mut self) {
        if self.managed.manager.is_none() {
            return;
        }
        let now = Instant::now();
        self.managed.beat(now);
        let published = *self.publisher.changed.borrow();
        if self.managed.seen == Some(published) {
            return;
        }
        let managed = &mut self.managed;
        self.publisher.board.look(|shown| {
            // Somebody waits for these two; sums may wait.
            let awaited = (shown.node.settled && !managed.ready) || (shown.node.shutting_down && !managed.stopping);
            if awaited || managed.told.is_none_or(|at| now >= at + STATUS_MIN) {
                managed.seen = Some(published);
                managed.tell(shown, now);
            }
        });
    }

    /// The end is near, however little time was left to tell of it.
    pub(super) fn tell_manager_the_end(&mut self) {
        if !std::mem::replace(&mut self.managed.stopping, true) {
            self.managed.say(&["STOPPING=1".into()]);
        }
    }

    /// The directory is being looked at anew, because somebody wished it.
    pub(super) fn reload(&mut self) {
        let Some(directory) = &self.directory else { return };
        let done = directory.rescan();
        if self.managed.manager.is_none() {
            return;
        }
        let now = super::monotonic();
        self.managed.say(&["RELOADING=1".into(), format!("MONOTONIC_USEC={}", now.as_micros())]);
        let notices = self.notices.clone();
        tokio::task::spawn_local(async move {
            // A sender that was dropped says the same: nobody looks any more.
            let _ = done.await;
            // The loop is gone: nobody is left to be told.
            let _ = notices.send(Notice::Reloaded);
        });
    }

    pub(super) fn reloaded(&mut self) {
        // Before it was ready at all, that word is still to come.
        if self.managed.ready {
            self.managed.say(&["READY=1".into()]);
        }
    }
}
