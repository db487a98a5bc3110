//! The floor under the events: how often to look when nothing is heard.

use std::path::Path;
use std::time::Duration;

use rustix::fs::FsWord;

/// Looks at the directory's identity: one statx, all that idles.
const TICK: Duration = Duration::from_secs(5);
/// Where no event can be had, everything is looked at this often.
const POLL: Duration = Duration::from_secs(1);

/// What kind of filesystem the directory is on (`linux/magic.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Local,
    /// A write to a lower or upper directory makes no event.
    Overlay,
    /// Others change it unheard; an absence may be a server's hiccup.
    Remote,
}

#[derive(Debug, Default)]
pub(super) struct Floor {
    kind: Kind,
    /// inotify works.
    pub healthy: bool,
    /// The last compare found no manifest at all.
    pub emptied: bool,
    tick_at: Duration,
    compare_at: Duration,
}

impl Floor {
    /// A directory was accepted.
    pub fn settle(&mut self, dir: &Path, now: Duration) {
        self.kind = rustix::fs::statfs(dir).map(|found| kind(found.f_type)).unwrap_or_default();
        self.healthy = true;
        self.compared(now);
    }

    fn compare_every(&self) -> Duration {
        match (self.kind, self.healthy) {
            (Kind::Remote, _) | (_, false) => POLL,
            (Kind::Overlay, true) => Duration::from_secs(5),
            (Kind::Local, true) => Duration::from_secs(60),
        }
    }

    pub fn absence_grace(&self) -> Duration {
        match self.kind {
            Kind::Local | Kind::Overlay => Duration::from_secs(1),
            Kind::Remote => Duration::from_secs(10),
        }
    }

    pub fn compared(&mut self, now: Duration) {
        self.compare_at = now + self.compare_every();
    }

    pub fn compare_is_due(&self, now: Duration) -> bool {
        now >= self.compare_at
    }

    pub fn tick_is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.tick_at;
        if due {
            self.tick_at = now + if self.compare_every() == POLL { POLL } else { TICK };
        }
        due
    }

    /// The directory has just been lost, perhaps for a moment: an error of a read is often over at once.
    pub fn look_soon(&mut self, now: Duration) {
        self.tick_at = self.tick_at.min(now + POLL);
    }

    /// The compare rides on the tick, so that one wake-up does for both.
    pub fn next(&self) -> Duration {
        self.tick_at
    }
}

fn kind(magic: FsWord) -> Kind {
    const OVERLAY: u32 = 0x794c_7630;
    match magic as u32 {
        OVERLAY => Kind::Overlay,
        _ if crate::edge::is_remote(magic) => Kind::Remote,
        _ => Kind::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_is_compared_every_minute_an_overlay_every_tick_a_remote_one_every_second() {
        for (kind, healthy, secs) in
            [(Kind::Local, true, 60), (Kind::Overlay, true, 5), (Kind::Remote, true, 1), (Kind::Local, false, 1)]
        {
            let mut floor = Floor { kind, healthy, ..Floor::default() };
            floor.compared(Duration::ZERO);
            assert!(!floor.compare_is_due(Duration::from_secs(secs) - Duration::from_millis(1)));
            assert!(floor.compare_is_due(Duration::from_secs(secs)));
        }
    }

    #[test]
    fn an_idle_local_directory_wakes_us_once_in_five_seconds() {
        let mut floor = Floor { healthy: true, ..Floor::default() };
        let mut wakes = 0;
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(100) {
            wakes += u32::from(floor.tick_is_due(now));
            now = floor.next();
        }
        assert_eq!(wakes, 20);
    }

    #[test]
    fn filesystems_are_known_by_their_magic() {
        assert_eq!(kind(0x794c_7630), Kind::Overlay);
        assert_eq!(kind(0x6969), Kind::Remote);
        assert_eq!(kind(0xef53), Kind::Local);
    }
}
