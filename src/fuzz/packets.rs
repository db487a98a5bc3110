//! Packets between keeper and controller, and the datagrams of services.

use std::collections::VecDeque;
use std::time::Duration;

use crate::edge::probe::notification;
use crate::keeper::program::Note;
use crate::keeper::wire::{Field, Notice, Request, Spawn};
use crate::model::text::harmless::is_hostile;

/// Characters of a status text, and the longest time that a service may ask for.
const STATUS_MAX: usize = 256;
const EXTEND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What can be read is the same when it was written and is read again: the bytes may differ, for a later
/// version's fields are read as what they stand for when they are missing.
macro_rules! same_again {
    ($bytes:expr, $($kind:ty),*) => {$(
        if let Ok(value) = <$kind>::decode($bytes) {
            let written = value.encode();
            let again = <$kind>::decode(&written).expect("what was written is read");
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
            assert_eq!(again.encode(), written, "{value:?}");
        }
    )*};
}

/// Each message of the protocol, and what of a state has no descriptors.
pub fn keeper(bytes: &[u8]) {
    same_again!(bytes, Request<'_>, Notice<'_>, Spawn<'_>, VecDeque<Note>);
}

pub fn notify(bytes: &[u8]) {
    let Some(message) = notification::parse(bytes) else { return };
    let status = message.status.unwrap_or_default();
    assert!(status.chars().count() <= STATUS_MAX && !status.chars().any(is_hostile), "{status:?}");
    assert!(message.extend_timeout.is_none_or(|longer| longer <= EXTEND_MAX));
}
