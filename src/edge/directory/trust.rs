//! Whom a file is trusted to: refused is what a third party can change.
//!
//! The owner of the named directory is trusted (whoever owns it can replace every file in it), and
//! root, ourselves and, for a service's own wrapper and env files, its `user:`.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::disk::Stamp;
use crate::edge::afar;
use crate::model::settings::Trust;

/// What of us and our surroundings decides. Gathered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Surroundings {
    pub uid: u32,
    /// Not the machine's first pid namespace.
    pub container: bool,
    pub dir_owner: u32,
    pub trust: Trust,
}

/// What was found, as a sentence with the command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub message: String,
    pub refused: bool,
}

/// The inode number of the machine's first pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

pub fn in_container() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|space| space.as_os_str() != FIRST_PID_NAMESPACE)
}

/// Nobody can write to a file on a read-only mount.
pub(super) fn is_read_only(path: &Path) -> bool {
    let look =
        |path: &Path| rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    afar::look(path, look).unwrap_or(false)
}

impl Surroundings {
    /// `user`: the uid of the service that the file belongs to, where it is its wrapper or env file.
    pub fn judge(&self, path: &Path, stamp: &Stamp, user: Option<u32>) -> Option<Finding> {
        let strict = self.trust == Trust::Strict;
        let trusted =
            |uid: u32| uid == 0 || uid == self.uid || (!strict && (uid == self.dir_owner || Some(uid) == user));
        let shown = path.display();
        let world = stamp.mode & 0o002 != 0;
        let group = stamp.mode & 0o020 != 0 && stamp.gid != 0 && stamp.gid != stamp.uid;
        let message = if !trusted(stamp.uid) {
            let owner = stamp.uid;
            format!("{shown} belongs to uid {owner}, who may change it; run `chown {} {shown}`", self.uid)
        } else if world {
            format!("everybody may write to {shown}; run `chmod o-w {shown}`")
        } else if group {
            format!("group {} may write to {shown}; run `chmod g-w {shown}`", stamp.gid)
        } else {
            return None;
        };
        if is_read_only(path) {
            return None;
        }
        let only_world = trusted(stamp.uid) && world && !group;
        let refused = match self.trust {
            Trust::Any => false,
            Trust::Strict => true,
            Trust::Auto => self.uid == 0 && !(self.container && only_world),
        };
        Some(Finding { message, refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(uid: u32, gid: u32, mode: u32) -> Stamp {
        Stamp { dev: 1, ino: 1, mtime: 0, ctime: 0, size: 0, mode: libc::S_IFREG | mode, uid, gid }
    }

    fn refused(surroundings: Surroundings, stamp: Stamp) -> Option<bool> {
        surroundings.judge(Path::new("/x.yaml"), &stamp, Some(70)).map(|finding| finding.refused)
    }

    #[test]
    fn a_file_is_refused_only_if_a_third_party_can_write_it() {
        let host = Surroundings { uid: 0, container: false, dir_owner: 1000, trust: Trust::Auto };
        let container = Surroundings { container: true, ..host };
        for (file, on_host, in_container) in [
            (stamp(0, 0, 0o644), None, None),
            (stamp(1000, 1000, 0o664), None, None),
            (stamp(0, 0, 0o664), None, None),
            (stamp(70, 70, 0o600), None, None),
            (stamp(1001, 1001, 0o644), Some(true), Some(true)),
            (stamp(0, 100, 0o664), Some(true), Some(true)),
            (stamp(0, 0, 0o666), Some(true), Some(false)),
        ] {
            assert_eq!(refused(host, file), on_host, "{file:?}");
            assert_eq!(refused(container, file), in_container, "{file:?}");
        }
    }

    #[test]
    fn who_is_not_root_is_warned_strict_refuses_and_any_accepts() {
        let base = Surroundings { uid: 1000, container: false, dir_owner: 1000, trust: Trust::Auto };
        assert_eq!(refused(base, stamp(1001, 1001, 0o644)), Some(false));
        assert_eq!(refused(Surroundings { trust: Trust::Strict, ..base }, stamp(1001, 1001, 0o644)), Some(true));
        let root = Surroundings { uid: 0, trust: Trust::Strict, ..base };
        assert_eq!(refused(root, stamp(1000, 1000, 0o644)), Some(true), "the owner of the directory too");
        assert_eq!(refused(Surroundings { trust: Trust::Any, ..root }, stamp(1001, 1001, 0o666)), Some(false));
    }

    #[test]
    fn the_finding_names_the_command_that_helps() {
        let host = Surroundings { uid: 0, container: false, dir_owner: 0, trust: Trust::Auto };
        let finding = host.judge(Path::new("/d/x.yaml"), &stamp(0, 0, 0o666), None).expect("found");
        assert_eq!(finding.message, "everybody may write to /d/x.yaml; run `chmod o-w /d/x.yaml`");
    }
}
