//! Small notes for the controller that comes after: one folder of the run directory for each kind of them.
//!
//! They are about processes that run: a node that begins with none begins without them, and a machine that loses its
//! power loses the processes, too.

use std::io;
use std::path::Path;

use super::places::made;

/// What the watched files of each service were.
pub(super) const WATCHED: &str = "watched";
/// What was found of the ports of each life.
pub(super) const PORTS: &str = "ports";

/// Whole or not at all, also where the run directory was taken away.
pub(super) fn put(file: &Path, text: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // No name of a service begins so.
    let new = folder.join(format!(".{}.new", name.display()));
    if let Err(error) = std::fs::write(&new, text) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        made(folder)?;
        std::fs::write(&new, text)?;
    }
    std::fs::rename(new, file)
}

/// A node begins: whatever lies there is of another one.
pub fn forget_all(run: &Path) {
    for kind in [WATCHED, PORTS] {
        // Nearly always it is not there.
        let _ = std::fs::remove_dir_all(run.join(kind));
    }
}
