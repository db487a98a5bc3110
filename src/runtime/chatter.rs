//! How much one service may say: a crash loop without a delay would fill logs and history otherwise.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::view::Event;

/// A whole life is three events: this is ten lives at once.
const BURST: f64 = 30.0;
/// Events a second after that: a service that restarts each second is still told in full.
const RATE: f64 = 5.0;
/// Services that are remembered as busy; the others have all their room anyway.
const BUSY_MAX: usize = 10_000;

#[derive(Debug)]
struct Room {
    left: f64,
    at: Duration,
    unsaid: u64,
}

/// Lets events through, or counts them.
#[derive(Debug, Default)]
pub struct Chatter {
    rooms: HashMap<String, Room>,
}

impl Chatter {
    /// The event as it is to be told; none where its service has said enough for now.
    pub fn admit(&mut self, mut event: Event, now: Duration) -> Option<Event> {
        let Some(service) = &event.service else { return Some(event) };
        if self.rooms.len() >= BUSY_MAX {
            self.rooms.retain(|_, room| room.left + (now.saturating_sub(room.at)).as_secs_f64() * RATE < BURST);
        }
        let room = self.rooms.entry(service.clone()).or_insert(Room { left: BURST, at: now, unsaid: 0 });
        room.left = (room.left + now.saturating_sub(room.at).as_secs_f64() * RATE).min(BURST);
        room.at = now;
        if room.left < 1.0 {
            room.unsaid += 1;
            return None;
        }
        room.left -= 1.0;
        if room.unsaid > 0 {
            event.message.push_str(&format!(" ({} events before this one were not told)", room.unsaid));
            room.unsaid = 0;
        }
        Some(event)
    }

    pub fn forget(&mut self, service: &str) {
        self.rooms.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reason::Reason;

    fn event() -> Event {
        Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            service: Some("web".into()),
            instance: None,
            reason: Reason::Exited,
            warning: false,
            message: "web exited".into(),
        }
    }

    #[test]
    fn a_flood_of_events_is_cut_and_the_next_one_says_how_many_were_not_told() {
        let mut chatter = Chatter::default();
        let told = (0..1000).filter_map(|_| chatter.admit(event(), Duration::from_secs(1))).count();
        assert_eq!(told, BURST as usize);
        let later = chatter.admit(event(), Duration::from_secs(2)).expect("room again");
        assert!(later.message.ends_with("(970 events before this one were not told)"), "{}", later.message);
    }
}
