//! Files that no log may be: what plugd reads, starts or keeps itself. A log is appended to, rotated and removed.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::edge::directory;
use crate::edge::named::Named;
use crate::edge::{Identity, identity};

/// How the files begin that the kernel starts: scripts and ELF (execve(2)).
const PROGRAMS: [&[u8]; 2] = [b"#!", b"\x7fELF"];

/// plugd's own files lie in its directories and one folder below.
const OWN_DEPTH: usize = 1;
/// There are some twenty; of a directory that is not plugd's alone no more are looked at.
const OWN_MAX: usize = 10_000;

#[derive(Debug, Clone, Default)]
pub struct OffLimits {
    /// The directory of the manifests.
    pub services: Option<PathBuf>,
    /// Where state, socket and tables lie.
    pub own: Vec<PathBuf>,
    /// The log directory, which may lie in one of them.
    pub logs: Option<PathBuf>,
    /// What manifests name, wherever it lies.
    pub named: Arc<Named>,
}

impl OffLimits {
    /// Why a log may not lie there; none: it may.
    pub fn why(&self, path: &Path) -> Option<String> {
        self.why_place(path).or_else(|| {
            let there = path.symlink_metadata().ok()?;
            self.why_file(&there).or_else(|| is_program(path, &there).then(|| "it is a program".into()))
        })
    }

    /// By the path alone, as it is written and as it leads.
    pub(super) fn why_place(&self, path: &Path) -> Option<String> {
        let (plain, led) = (&plain(path), &resolved(path));
        let within = |dir: &Path| {
            let written = plain.strip_prefix(dir).ok().map(Path::to_path_buf);
            written.or_else(|| led.strip_prefix(real_dir(dir)).ok().map(Path::to_path_buf))
        };
        let is_executable =
            || path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        let in_services = self.services.as_deref().and_then(within);
        if let Some(rest) = in_services.filter(|rest| directory::is_its_own(rest, is_executable)) {
            let is_status = rest.extension().is_some_and(|ending| ending == "status");
            return Some(
                if is_status { "plugd writes a status there" } else { "plugd reads that file or starts it" }.into(),
            );
        }
        let in_logs = self.logs.as_deref().and_then(within).is_some();
        if !in_logs && self.own.iter().any(|dir| within(dir).is_some()) {
            return Some("plugd keeps its own files there".into());
        }
        self.named.by_path([plain, led]).map(|by| named_by(&by))
    }

    /// By what it is, whatever its path.
    pub(super) fn why_file(&self, file: &Metadata) -> Option<String> {
        let of = identity(file);
        if let Some(by) = self.named.by_identity(of) {
            return Some(named_by(&by));
        }
        // Few files have a second name, and then plugd's own are few.
        let is_linked = file.is_file() && file.nlink() > 1;
        let own = self.own.iter().filter(|_| is_linked).find_map(|dir| self.name_in(dir, of, OWN_DEPTH));
        own.map(|own| format!("plugd keeps that file as {}", own.display()))
    }

    /// The name that a file has in a directory of plugd's own, other than as a log.
    fn name_in(&self, dir: &Path, file: Identity, depth: usize) -> Option<PathBuf> {
        let entries = std::fs::read_dir(dir).ok()?.flatten().filter(|one| self.logs.as_deref() != Some(&one.path()));
        entries.take(OWN_MAX).find_map(|one| {
            let there = one.metadata().ok()?;
            match there.is_dir() {
                true if depth > 0 => self.name_in(&one.path(), file, depth - 1),
                true => None,
                false => (identity(&there) == file).then(|| one.path()),
            }
        })
    }
}

fn named_by(by: &str) -> String {
    format!("plugd reads that file or starts it ({by} leads there)")
}

/// Whether the kernel would start it.
fn is_program(path: &Path, there: &Metadata) -> bool {
    if !there.is_file() || there.permissions().mode() & 0o111 == 0 {
        return false;
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return false };
    PROGRAMS.iter().any(|magic| {
        let mut head = vec![0; magic.len()];
        file.read_exact_at(&mut head, 0).is_ok() && head == *magic
    })
}

/// Where a file lies: without the links on the way to it.
fn resolved(path: &Path) -> PathBuf {
    let split = path.parent().zip(path.file_name());
    split.map_or_else(|| plain(path), |(dir, name)| real_dir(dir).join(name))
}

/// As far as it is there.
fn real_dir(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
    let real = there.and_then(|(there, real)| Some(real.join(dir.strip_prefix(there).ok()?)));
    plain(real.as_deref().unwrap_or(dir))
}

/// Without `.` and `..`, as the path reads.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_kept_out_of_what_plugd_reads_and_keeps() {
        let limits = OffLimits {
            services: Some("/etc/services.d".into()),
            own: vec!["/var/lib/plugd".into(), "/run/plugd".into()],
            logs: Some("/var/lib/plugd/logs".into()),
            ..OffLimits::default()
        };
        for (path, may) in [
            ("/etc/services.d/db.yaml", false),
            ("/etc/services.d/db.json", false),
            ("/etc/services.d/_defaults.yaml", false),
            ("/etc/services.d/job.sh", false),
            ("/etc/services.d/web.status", false),
            ("/etc/services.d/_controller.status", false),
            ("/etc/services.d/.plugd/x", false),
            ("/etc/services.d/web.yaml.d/10.yaml", false),
            ("/etc/services.d/web.log", true),
            ("/etc/services.d/logs/web.yaml", true),
            ("/etc/services.d/weblog", true),
            ("/etc/services.d/wrappers/w.sh", false),
            ("/etc/services.d/wrappers/w", false),
            ("/etc/services.d/../services.d/./db.yaml", false),
            ("/etc/other/../services.d/web.log", true),
            ("/var/log/../lib/plugd/state.db", false),
            ("/etc/other/db.yaml", true),
            ("/var/lib/plugd/state.db", false),
            ("/run/plugd/lives", false),
            ("/var/lib/plugd/logs/mine.log", true),
            ("/var/log/web.log", true),
        ] {
            assert_eq!(limits.why(Path::new(path)).is_none(), may, "{path}");
        }
        let dir = std::env::temp_dir().join(format!("plugd-off-limits-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("made");
        let limits = OffLimits { services: Some(dir.clone()), ..OffLimits::default() };
        let job = dir.join("job");
        std::fs::write(&job, "").expect("written");
        assert_eq!(limits.why(&job), None);
        std::fs::set_permissions(&job, std::fs::Permissions::from_mode(0o755)).expect("changed");
        assert_eq!(limits.why(&job).as_deref(), Some("plugd reads that file or starts it"));
        let link = std::env::temp_dir().join(format!("plugd-off-limits-{}-link", std::process::id()));
        std::os::unix::fs::symlink(&dir, &link).expect("made");
        let limits = OffLimits { services: Some(link.clone()), own: vec![link.join("own")], ..OffLimits::default() };
        for (path, may) in [("db.yaml", false), ("own/state.db", false), ("own/../web.log", true), ("web.log", true)] {
            assert_eq!(limits.why(&dir.join(path)).is_none(), may, "{path}");
        }
        std::fs::remove_file(&link).expect("removed");
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(OffLimits::default().why(Path::new("/etc/services.d/db.yaml")), None);
    }
}
