//! Looks at what lies outside of the directory: by a second thread, with a time limit.
//!
//! For the directory's thread and for the one that writes status files beside manifests.
//!
//! A manifest names wrappers and env files anywhere, and may itself be a link. Behind each of these may
//! be a file system that answers nothing; the directory's thread must not wait for it, or no other file
//! would be seen any more. So it asks a hand of its own, and leaves that behind where no answer comes: a
//! fresh one does the next look, and what is known to be silent is not asked again before its hand is
//! back. What lies in the directory itself is looked at directly: without it there is nothing to do.
//!
//! A context of the thread and not an argument, because every look at a path goes this way (`disk`) and
//! the same looks are made without it (by `plugd check`, which a person can end).

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use super::mounts::remote_mount;

/// What has not answered by then is called silent. A slow disk is found out later to have answered.
const LIMIT: Duration = Duration::from_millis(250);
/// Hands that may be out; beyond that nothing outside is looked at.
const HANDS_MAX: usize = 8;

type Look = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
struct Afar {
    near: PathBuf,
    hand: Option<Sender<Look>>,
    silent: Vec<Silent>,
    /// Something that was silent has answered.
    answered: bool,
}

#[derive(Debug)]
struct Silent {
    path: PathBuf,
    /// The remote file system that it lies on, which is silent as a whole.
    mount: Option<PathBuf>,
    back: Arc<AtomicBool>,
}

thread_local! {
    static AFAR: RefCell<Option<Afar>> = const { RefCell::new(None) };
}

/// From now on this thread looks with care at what does not lie in `near`.
pub(in crate::edge) fn begin(near: &Path) {
    let afar = Afar { near: near.to_path_buf(), hand: None, silent: Vec::new(), answered: false };
    AFAR.with_borrow_mut(|place| *place = Some(afar));
}

/// Whether something that was silent has answered since this was asked last.
pub(in crate::edge) fn has_answered() -> bool {
    AFAR.with_borrow_mut(|afar| {
        afar.as_mut().is_some_and(|afar| {
            afar.hear();
            std::mem::take(&mut afar.answered)
        })
    })
}

/// What a look at `path` finds; none where it does not answer.
pub(in crate::edge) fn look<T: Send + 'static>(
    path: &Path,
    look: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    // A look may look further: nothing is borrowed while this thread looks itself.
    match AFAR.with_borrow(|afar| afar.as_ref().is_some_and(|afar| afar.leads_away(path))) {
        true => AFAR.with_borrow_mut(|afar| afar.as_mut()?.ask(path, look)),
        false => Some(look(path)),
    }
}

impl Afar {
    /// Links in the directory may lead anywhere. Asks nothing outside of it.
    fn leads_away(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.near) else { return true };
        let mut at = self.near.clone();
        for part in rest.components() {
            if !matches!(part, Component::Normal(_)) {
                return true;
            }
            at.push(part);
            match at.symlink_metadata() {
                Ok(found) if found.is_symlink() => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn hear(&mut self) {
        let before = self.silent.len();
        self.silent.retain(|silent| !silent.back.load(Ordering::Acquire));
        self.answered |= self.silent.len() < before;
    }

    fn is_silent(&self, path: &Path) -> bool {
        let on = |mount: &PathBuf| path.starts_with(mount);
        self.silent.len() >= HANDS_MAX
            || self.silent.iter().any(|silent| path.starts_with(&silent.path) || silent.mount.as_ref().is_some_and(on))
    }

    fn ask<T: Send + 'static>(&mut self, path: &Path, look: impl FnOnce(&Path) -> T + Send + 'static) -> Option<T> {
        self.hear();
        if self.is_silent(path) {
            return None;
        }
        let (reply, answer) = sync_channel(1);
        let back = Arc::new(AtomicBool::new(false));
        let (named, done) = (path.to_path_buf(), back.clone());
        self.give(Box::new(move || {
            // Nobody waits any more: that it came back is all that is left to say.
            reply.send(look(&named)).ok();
            done.store(true, Ordering::Release);
        }));
        match answer.recv_timeout(LIMIT) {
            Ok(found) => return Some(found),
            // No thread: that says nothing of the path.
            Err(RecvTimeoutError::Disconnected) => {
                self.hand = None;
                return None;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        tracing::warn!("{} does not answer; the rest goes on without it", path.display());
        // It ends when it is back: nobody gives it anything more.
        self.hand = None;
        self.silent.push(Silent { path: path.to_path_buf(), mount: remote_mount(path), back });
        None
    }

    fn give(&mut self, look: Look) {
        let hand = self.hand.get_or_insert_with(|| {
            let (to, from) = channel::<Look>();
            let work = move || from.into_iter().for_each(|look| look());
            if let Err(error) = std::thread::Builder::new().name("afar".into()).spawn(work) {
                tracing::warn!(%error, "no thread can be started to look outside of the directory");
            }
            to
        });
        // Where there is no thread the look is dropped with its reply: no answer.
        hand.send(look).ok();
    }
}
