//! A log of one's own (`logs.path`) with root's rights, or with less.
//!
//! A directory on the way that belongs to somebody else can lead elsewhere at any moment: its owner swaps it
//! for a link. So what is done there is done with that owner's rights: he gains nothing that he had not.
//! Only root has something to lose; for everybody else this does nothing. CVE-2016-1247 is such a log.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::layout::Place;
use crate::edge::process::raw;

/// Links that are followed on the way; the kernel's own limit (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Somebody's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hands {
    uid: u32,
    gid: u32,
}

/// What is done at the place of a log: opened, renamed, removed.
pub(super) fn with<T>(place: &Place, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let stranger = place.own && rustix::process::geteuid().is_root();
    match stranger.then(|| on_the_way(&place.base)).flatten() {
        Some(hands) => raw::with_rights_of(hands.uid, hands.gid, None, act)?,
        None => act(),
    }
}

/// The owner of the first thing on the way to a file that is not root's. What comes before it only root can
/// change, so the answer stays true. What is not there yet is made by whoever is found.
fn on_the_way(path: &Path) -> Option<Hands> {
    let mut left: VecDeque<OsString> = names(path.parent()?);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        let meta = std::fs::symlink_metadata(&at).ok()?;
        if meta.uid() != 0 {
            return Some(Hands { uid: meta.uid(), gid: meta.gid() });
        }
        if meta.is_symlink() {
            links += 1;
            let target = std::fs::read_link(&at).ok().filter(|_| links <= LINKS_MAX)?;
            at = if target.is_absolute() { PathBuf::from("/") } else { at.parent()?.to_path_buf() };
            names(&target).into_iter().rev().for_each(|name| left.push_front(name));
        }
    }
    None
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    /// `app` and what is in it is 4321's, and a log below it leads into a directory of root's.
    #[test]
    fn a_swapped_directory_gives_its_owner_no_rights_of_roots() {
        if !rustix::process::geteuid().is_root() {
            // Nothing to lose: see above.
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        // tempfile makes it 0700: the other user must come through.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        let [app, secret] = ["app", "secret"].map(|name| dir.path().join(name));
        for folder in [&app, &secret] {
            std::fs::create_dir(folder).expect("made");
        }
        chown(&app, Some(4321), Some(4321)).expect("root may");
        let log = |path: PathBuf| Place { base: path, index: dir.path().join(".idx"), own: true };
        let write = |place: &Place| with(place, || std::fs::write(&place.base, "x"));

        let honest = log(app.join("app.log"));
        write(&honest).expect("its own directory");
        assert_eq!(std::fs::metadata(&honest.base).expect("there").uid(), 4321);

        symlink(&secret, app.join("log")).expect("made");
        let swapped = log(app.join("log/app.log"));
        assert_eq!(write(&swapped).expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        assert!(!secret.join("app.log").exists());

        // Links of root's are root's word, and leave it its rights.
        symlink(&secret, dir.path().join("link")).expect("made");
        let linked = log(dir.path().join("link/app.log"));
        write(&linked).expect("root's way");
        assert_eq!(std::fs::metadata(secret.join("app.log")).expect("there").uid(), 0);
        assert_eq!(on_the_way(&dir.path().join("app/../link/x.log")), Some(Hands { uid: 4321, gid: 4321 }));
        symlink("round", dir.path().join("round")).expect("made");
        assert_eq!(on_the_way(&dir.path().join("round/x.log")), None, "opening it fails by itself");
    }
}
