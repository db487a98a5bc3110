//! Files that no log may be: what plugd reads or keeps itself. A log is appended to, rotated and removed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::edge::directory;

/// By path, as it is written: who leads around it by a link has meant it.
#[derive(Debug, Clone, Default)]
pub struct OffLimits {
    /// The directory of the manifests.
    pub services: Option<PathBuf>,
    /// Where state, socket and tables lie.
    pub own: Vec<PathBuf>,
    /// The log directory, which may lie in one of them.
    pub logs: Option<PathBuf>,
}

impl OffLimits {
    /// Why a log may not lie there; none: it may.
    pub fn why(&self, path: &Path) -> Option<&'static str> {
        let path = &plain(path);
        let within = |dir: &Option<PathBuf>| dir.as_ref().and_then(|dir| path.strip_prefix(dir).ok());
        let is_executable =
            || path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        if let Some(rest) = within(&self.services).filter(|rest| directory::is_its_own(rest, is_executable)) {
            let is_status = rest.extension().is_some_and(|ending| ending == "status");
            return Some(if is_status { "plugd writes a status there" } else { "plugd reads that file or starts it" });
        }
        let kept = within(&self.logs).is_none() && self.own.iter().any(|dir| path.starts_with(dir));
        kept.then_some("plugd keeps its own files there")
    }
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
        assert_eq!(limits.why(&job), Some("plugd reads that file or starts it"));
        std::fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(OffLimits::default().why(Path::new("/etc/services.d/db.yaml")), None);
    }
}
