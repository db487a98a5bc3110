//! Packets between keeper and controller, and the datagrams of services.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use crate::edge::probe::notification;
use crate::keeper::program::Note;
use crate::keeper::wire::{Field, Notice, Request, Spawn};
use crate::model::text::harmless::is_hostile;

/// Characters of a status text, and the longest time that a service may ask for.
const STATUS_MAX: usize = 256;
const EXTEND_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Each message of the protocol, and what of a state has no descriptors.
pub fn keeper(bytes: &[u8]) {
    same_again::<Request<'_>>(bytes);
    same_again::<Notice<'_>>(bytes);
    same_again::<Spawn<'_>>(bytes);
    same_again::<VecDeque<Note>>(bytes);
}

/// What can be read is written as at most the same bytes, and is the same when it is read again.
fn same_again<'a, T: Field<'a> + Debug>(bytes: &'a [u8]) {
    if let Ok(value) = T::decode(bytes) {
        let written = value.encode();
        assert_eq!(bytes.get(..written.len()), Some(written.as_slice()), "{value:?}");
    }
}

pub fn notify(bytes: &[u8]) {
    let Some(message) = notification::parse(bytes) else { return };
    let status = message.status.unwrap_or_default();
    assert!(status.chars().count() <= STATUS_MAX && !status.chars().any(is_hostile), "{status:?}");
    assert!(message.extend_timeout.is_none_or(|longer| longer <= EXTEND_MAX));
}
