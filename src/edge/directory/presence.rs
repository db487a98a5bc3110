//! What it means when the directory is missing, replaced or suddenly empty. Pure.
//!
//! No directory is not an empty directory: a volume that went away, a mount that covers the path
//! and a failed disk must stop nothing. Wishes are told by events or by a directory that holds at
//! least one manifest.

use std::time::Duration;

use crate::edge::Identity;

/// The same directory found empty without a single delete event is held for this long.
pub(super) const EMPTIED_HOLD: Duration = Duration::from_secs(30);
/// What a replacement lacks, or one that came back, is stopped when it has been quiet for this long.
pub(super) const REPLACED_QUIET: Duration = Duration::from_secs(2);

/// What the path showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// Missing or unreadable, and why.
    Nothing(String),
    /// A directory; whether it holds a manifest is only asked where it matters.
    There(Identity),
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Our directory, as before.
    Same,
    /// It is to be read and watched: the first, a replacement, or the one that came back.
    /// `doubt`: how long absences in it are doubted.
    Accept { found: bool, doubt: Option<Duration> },
    /// From now on everything is held.
    Lost(String),
    /// Still lost.
    Held,
}

#[derive(Debug, Default)]
pub(super) struct Presence {
    accepted: Option<Identity>,
    /// What the controller before this one had accepted last.
    before: Option<Identity>,
    lost: Option<String>,
}

impl Presence {
    pub fn after(before: Option<Identity>) -> Presence {
        Presence { before, ..Presence::default() }
    }

    /// `holds_manifest` looks into the directory at the path; asked only of one that is not ours or comes back.
    pub fn look(&mut self, sight: Sight, holds_manifest: impl FnOnce() -> bool) -> Verdict {
        match sight {
            Sight::Nothing(why) => self.lose(why),
            Sight::There(identity) => match self.accepted {
                Some(ours) if ours == identity => {
                    if self.lost.take().is_none() {
                        return Verdict::Same;
                    }
                    // What is missing in it was deleted meanwhile, unless all of it is missing.
                    let doubt = if holds_manifest() { REPLACED_QUIET } else { EMPTIED_HOLD };
                    Verdict::Accept { found: true, doubt: Some(doubt) }
                }
                // Nothing was ever held: an empty directory is a fine start.
                None if self.before.is_none_or(|before| before == identity) => self.accept(identity, None),
                None | Some(_) => {
                    if holds_manifest() {
                        self.accept(identity, Some(REPLACED_QUIET))
                    } else {
                        self.lose("another directory is at its place, and it holds no manifest".to_string())
                    }
                }
            },
        }
    }

    /// `plugd rm --missing`: what is at the path now counts, even nothing.
    pub fn confirm(&mut self, sight: Sight) -> Verdict {
        match sight {
            Sight::Nothing(_) => Verdict::Held,
            Sight::There(identity) => self.accept(identity, Some(Duration::ZERO)),
        }
    }

    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// What cannot be accepted after all (it is locked by another controller).
    pub fn refuse(&mut self, before: Option<Identity>, why: String) -> Verdict {
        self.accepted = before.or(self.accepted);
        self.lose(why)
    }

    pub fn accepted(&self) -> Option<Identity> {
        self.accepted
    }

    fn accept(&mut self, identity: Identity, doubt: Option<Duration>) -> Verdict {
        self.accepted = Some(identity);
        Verdict::Accept { found: self.lost.take().is_some(), doubt }
    }

    fn lose(&mut self, why: String) -> Verdict {
        if self.lost.as_ref() == Some(&why) {
            return Verdict::Held;
        }
        self.lost = Some(why.clone());
        Verdict::Lost(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Sight = Sight::There((1, 2));
    const OTHER: Sight = Sight::There((1, 3));

    fn started() -> Presence {
        let mut presence = Presence::default();
        assert_eq!(presence.look(OURS, || false), Verdict::Accept { found: false, doubt: None });
        presence
    }

    #[test]
    fn a_missing_directory_is_held_until_it_is_back() {
        let mut presence = started();
        let gone = || Sight::Nothing("it is gone".into());
        assert_eq!(presence.look(gone(), || false), Verdict::Lost("it is gone".into()));
        assert_eq!(presence.look(gone(), || false), Verdict::Held);
        assert_eq!(presence.look(OURS, || false), Verdict::Accept { found: true, doubt: Some(EMPTIED_HOLD) });
        assert_eq!(presence.look(OURS, || false), Verdict::Same);
    }

    #[test]
    fn what_was_deleted_while_it_could_not_be_read_is_an_ordinary_change() {
        let mut presence = started();
        presence.look(Sight::Nothing("it cannot be read".into()), || false);
        assert_eq!(presence.look(OURS, || true), Verdict::Accept { found: true, doubt: Some(REPLACED_QUIET) });
    }

    #[test]
    fn an_empty_replacement_is_held_until_a_manifest_appears() {
        let mut presence = started();
        assert!(matches!(presence.look(OTHER, || false), Verdict::Lost(_)));
        assert_eq!(presence.look(OTHER, || false), Verdict::Held);
        assert_eq!(presence.look(OTHER, || true), Verdict::Accept { found: true, doubt: Some(REPLACED_QUIET) });
    }

    #[test]
    fn a_replacement_with_a_manifest_is_an_ordinary_change() {
        let mut presence = started();
        assert_eq!(presence.look(OTHER, || true), Verdict::Accept { found: false, doubt: Some(REPLACED_QUIET) });
    }

    #[test]
    fn the_next_controller_holds_what_the_one_before_held() {
        let next = || Presence::after(Some((1, 2)));
        assert_eq!(next().look(OURS, || false), Verdict::Accept { found: false, doubt: None });
        assert_eq!(next().look(OTHER, || true), Verdict::Accept { found: false, doubt: Some(REPLACED_QUIET) });
        let mut presence = next();
        assert!(matches!(presence.look(OTHER, || false), Verdict::Lost(_)));
        assert_eq!(presence.look(OURS, || true), Verdict::Accept { found: true, doubt: None });
    }

    #[test]
    fn a_person_may_confirm_an_empty_replacement() {
        let mut presence = started();
        presence.look(OTHER, || false);
        assert_eq!(presence.confirm(OTHER), Verdict::Accept { found: true, doubt: Some(Duration::ZERO) });
        assert_eq!(presence.look(OTHER, || false), Verdict::Same);
    }
}
