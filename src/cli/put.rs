//! Writing a manifest into the directory: complete before it is seen, by a rename.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::fault::Fault;

/// Writes `text` to `DIR/FILE` by a temporary file beside it, whose name begins with a dot and so is
/// never taken for a manifest. Mode 0644 less the umask, as an editor would.
pub fn put(dir: &Path, file: &str, text: &[u8]) -> Result<(), Fault> {
    let temporary = dir.join(format!(".{file}.{}.tmp", std::process::id()));
    let target = dir.join(file);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text))
        .and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Fault::path("write", target, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_put_in_place_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("a temp folder");
        put(dir.path(), "web.yaml", b"command: true\n").expect("written");
        put(dir.path(), "web.yaml", b"command: false\n").expect("replaced");
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["web.yaml"]);
        assert_eq!(std::fs::read(dir.path().join("web.yaml")).expect("read"), b"command: false\n");
        assert_eq!(crate::model::digest::short(b"test"), "9f86d081884c7d65");
    }
}
