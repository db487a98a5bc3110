//! A wrapper whose content is pinned (`sha256`), looked at before and after it is executed.
//!
//! It is executed by its path, because a script asks for its own (`dirname $0`), so what is executed is what
//! lies there in that moment. It is hashed when the start is prepared, and once the exec is over the file at
//! the path must still be that one, with that content: another device, inode, size or time of change means
//! that something else may have run. What can be swapped there and back unseen is a folder above, by whoever may write there.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::prepare::{Unpreparable, fault};
use crate::model::digest::digits;
use crate::model::reason::Reason;

/// What was found to be the pinned one.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    hash: String,
    mark: Mark,
}

/// Which version of which file. The time of change is the kernel's alone to set, and as coarse as its ticks.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    dev: u64,
    ino: u64,
    size: u64,
    ctime: (i64, i64),
}

impl Mark {
    fn of(found: &std::fs::Metadata) -> Mark {
        Mark { dev: found.dev(), ino: found.ino(), size: found.size(), ctime: (found.ctime(), found.ctime_nsec()) }
    }
}

impl Pin {
    pub fn take(path: &Path, pinned: &str) -> Result<Pin, Unpreparable> {
        let shown = path.display();
        let unreadable = |error: io::Error| {
            fault(Reason::PermissionDenied, format!("{shown} is pinned and cannot be read: {error}"))
        };
        let (hash, mark) = hashed(path).map_err(unreadable)?;
        let Some(mark) = mark.filter(|_| hash == pinned) else {
            let message =
                format!("{shown} is not the one that is pinned: its sha256 is {hash}, the manifest says {pinned}");
            return Err(fault(Reason::DigestMismatch, message));
        };
        Ok(Pin { path: path.to_path_buf(), hash, mark })
    }

    /// What is wrong after the exec, if something is.
    pub fn broken(&self) -> Option<String> {
        let same = |(hash, mark): (String, Option<Mark>)| hash == self.hash && mark.as_ref() == Some(&self.mark);
        let same = hashed(&self.path).is_ok_and(same);
        (!same).then(|| format!("{} was changed while it was being started; what ran is killed", self.path.display()))
    }
}

/// No mark where it changed meanwhile.
fn hashed(path: &Path) -> io::Result<(String, Option<Mark>)> {
    // What may be executed may still be a FIFO, whose open would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let before = Mark::of(&file.metadata()?);
    let mut hasher = Sha256::new();
    let mut part = [0; 64 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => break,
            length => hasher.update(&part[..length]),
        }
    }
    let hash = digits(&hasher.finalize());
    Ok((hash, Some(before).filter(|before| file.metadata().is_ok_and(|after| Mark::of(&after) == *before))))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn hash(text: &str) -> String {
        digits(&Sha256::digest(text))
    }

    #[test]
    fn every_change_of_the_file_at_the_path_breaks_the_pin() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let (path, other) = (dir.path().join("w"), dir.path().join("other"));
        type Change = fn(&Path, &Path);
        let changes: [(&str, Change); 5] = [
            ("written", |path, _| std::fs::write(path, "good").expect("written")),
            ("replaced by its like", |path, other| {
                std::fs::write(other, "good").expect("written");
                std::fs::rename(other, path).expect("renamed");
            }),
            ("away and back", |path, other| {
                std::fs::rename(path, other).expect("renamed");
                std::fs::rename(other, path).expect("renamed");
            }),
            ("another mode", |path, _| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
            }),
            ("gone", |path, _| std::fs::remove_file(path).expect("removed")),
        ];
        for (what, change) in changes {
            std::fs::write(&path, "good").expect("written");
            let pin = Pin::take(&path, &hash("good")).expect("it is the pinned one");
            assert_eq!(pin.broken(), None, "{what}");
            // Within one tick a file may change twice and look the same.
            let deadline = Instant::now() + Duration::from_secs(5);
            let told = loop {
                change(&path, &other);
                match pin.broken() {
                    None if Instant::now() < deadline => {}
                    told => break told,
                }
            };
            assert!(told.is_some_and(|why| why.contains("was changed")), "{what}");
        }
    }

    #[test]
    fn another_content_is_told_with_both_hashes() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let path = dir.path().join("w");
        std::fs::write(&path, "evil").expect("written");
        let refused = Pin::take(&path, &hash("good")).expect_err("it is another");
        assert_eq!(refused.reason, Reason::DigestMismatch);
        assert!(refused.message.contains(&hash("evil")) && refused.message.contains(&hash("good")));
    }
}
