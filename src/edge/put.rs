//! Putting a manifest into the directory: the one way in which plugd itself writes there.
//!
//! The text is complete before it is seen: a file with a random name that nobody can plant is
//! written beside, flushed, and renamed. Its name begins with a dot, so it is never taken for a
//! manifest. Owner and mode are those that a shell's `>` would leave: a file that is replaced keeps
//! its own, a new one is the writer's, less the umask.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;

use super::places::random;

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Replace,
    /// It stays; the error is `AlreadyExists`.
    Keep,
}

/// A new manifest's mode before the umask: what all may write is refused by the rule of trust, so it
/// is not made.
const MODE: Mode = Mode::from_raw_mode(0o664);

/// Writes `text` to `DIR/FILE`, whole or not at all.
pub fn put(dir: &Path, file: &str, text: &[u8], existing: Existing) -> io::Result<()> {
    if file.is_empty() || file.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file"));
    }
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, folder, Mode::empty())?;
    let temporary = format!(".plugd-{}.tmp", random());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = rustix::fs::statat(&dir, file, AtFlags::SYMLINK_NOFOLLOW).ok();
    // What replaces a private file is private from its first moment.
    let mode = if there.is_some() { Mode::RUSR | Mode::WUSR } else { MODE };
    let out = File::from(rustix::fs::openat(&dir, &temporary, flags, mode)?);
    let written = fill(out, there.as_ref(), text).and_then(|()| rename(&dir, &temporary, file, existing));
    if written.is_err() {
        // Gone already where the rename was carried out.
        rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty()).ok();
    }
    written
}

fn fill(mut out: File, there: Option<&Stat>, text: &[u8]) -> io::Result<()> {
    out.write_all(text)?;
    if let Some(there) = there {
        resemble(&out, there);
    }
    // What was answered with "done" survives a power cut.
    out.sync_all()
}

/// Takes owner, group and mode of the file that is replaced, as far as that is allowed.
fn resemble(out: impl AsFd, there: &Stat) {
    if !rustix::fs::FileType::from_raw_mode(there.st_mode).is_file() {
        return;
    }
    let (owner, group) = (Uid::from_raw(there.st_uid), Gid::from_raw(there.st_gid));
    // Only root may give a file away; the group alone may be ours to give.
    if rustix::fs::fchown(&out, Some(owner), Some(group)).is_err() {
        rustix::fs::fchown(&out, None, Some(group)).ok();
    }
    rustix::fs::fchmod(&out, Mode::from_raw_mode(there.st_mode & 0o777)).ok();
}

fn rename(dir: &OwnedFd, temporary: &str, file: &str, existing: Existing) -> io::Result<()> {
    match existing {
        Existing::Replace => rustix::fs::renameat(dir, temporary, dir, file)?,
        Existing::Keep => match rustix::fs::renameat_with(dir, temporary, dir, file, RenameFlags::NOREPLACE) {
            // A filesystem without the flag (NFS, some FUSE): a link refuses what exists, too.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(dir, temporary, dir, file, AtFlags::empty())?;
                rustix::fs::unlinkat(dir, temporary, AtFlags::empty())?;
            }
            other => other?,
        },
    }
    // The name, too. Where a directory cannot be flushed (some FUSE) the file is in place all the same.
    rustix::fs::fsync(dir).ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(dir).expect("listed").flatten().map(|entry| entry.file_name()).collect()
    }

    #[test]
    fn a_manifest_is_put_in_place_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a temp folder");
        put(dir.path(), "web.yaml", b"command: true\n", Existing::Keep).expect("written");
        put(dir.path(), "web.yaml", b"command: false\n", Existing::Replace).expect("replaced");
        let refused = put(dir.path(), "web.yaml", b"command: x\n", Existing::Keep).expect_err("it is there");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(dir.path()), ["web.yaml"]);
        assert_eq!(std::fs::read(dir.path().join("web.yaml")).expect("read"), b"command: false\n");
    }

    #[test]
    fn a_new_file_is_for_nobody_else_to_write_and_a_replaced_one_keeps_owner_and_mode() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let path = dir.path().join("web.yaml");
        put(dir.path(), "web.yaml", b"command: true\n", Existing::Keep).expect("written");
        let new = std::fs::metadata(&path).expect("there");
        assert_eq!((new.mode() & 0o002, new.mode() & 0o600), (0, 0o600));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), Some(1234)).expect("chown");
        }
        let before = std::fs::metadata(&path).expect("there");
        put(dir.path(), "web.yaml", b"command: false\n", Existing::Replace).expect("replaced");
        let after = std::fs::metadata(&path).expect("there");
        assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    }

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_is_untouched() {
        let dir = tempfile::tempdir().expect("a temp folder");
        let target = dir.path().join("precious");
        std::fs::write(&target, "precious").expect("written");
        std::os::unix::fs::symlink(&target, dir.path().join("web.yaml")).expect("linked");
        put(dir.path(), "web.yaml", b"command: true\n", Existing::Replace).expect("replaced");
        assert_eq!(std::fs::read(&target).expect("read"), b"precious");
        let meta = std::fs::symlink_metadata(dir.path().join("web.yaml")).expect("there");
        assert!(meta.is_file());
    }

    #[test]
    fn only_names_of_the_directory_itself_are_written() {
        let dir = tempfile::tempdir().expect("a temp folder");
        for name in ["", "../web.yaml", "a/b.yaml"] {
            put(dir.path(), name, b"x", Existing::Replace).expect_err(name);
        }
        assert!(names(dir.path()).is_empty());
    }
}
