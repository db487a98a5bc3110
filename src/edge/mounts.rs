//! Which file systems can hang as a whole, found without looking at any of them.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Names of file systems behind which a server stands, as mountinfo gives them; FUSE ones as `fuse.NAME`.
const REMOTE: [&str; 10] = ["nfs", "nfs4", "cifs", "smb3", "fuse", "fuseblk", "virtiofs", "9p", "ceph", "afs"];

/// The mount that a path lies on as it is written, if it is one that can hang as a whole. Looks at no path.
pub(crate) fn remote_mount(path: &Path) -> Option<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    mount_in(&table, path)
}

fn mount_in(table: &[u8], path: &Path) -> Option<PathBuf> {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.nth(4)?)));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some((point, String::from_utf8_lossy(kind).into_owned()))
    });
    // Of two at one place the later covers the earlier.
    let (point, kind) = mounts
        .filter(|(point, _)| path.starts_with(point))
        .reduce(|best, next| if next.0.as_os_str().len() >= best.0.as_os_str().len() { next } else { best })?;
    (REMOTE.contains(&kind.as_str()) || kind.starts_with("fuse.")).then_some(point)
}

/// `\040` is a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 21 0:40 / /mnt/dead\\040share rw shared:1 - nfs4 host:/x rw\n\
        31 21 0:41 / /home rw - xfs /dev/sdb rw\n\
        32 21 0:42 / /run/user rw - fuse.sshfs host: rw\n";

    #[test]
    fn only_a_mount_with_a_server_behind_it_hangs_as_a_whole() {
        let mount = |path: &str| mount_in(TABLE, Path::new(path));
        assert_eq!(mount("/mnt/dead share/a/b"), Some(PathBuf::from("/mnt/dead share")));
        assert_eq!(mount("/run/user/x"), Some(PathBuf::from("/run/user")));
        assert_eq!(mount("/home/me"), None);
        assert_eq!(mount("/mnt/other"), None);
    }
}
