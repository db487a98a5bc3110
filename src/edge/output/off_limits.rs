//! Files that no log may be: what plugd reads or keeps itself. A log is appended to, rotated and removed.

use std::path::{Path, PathBuf};

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
        let within = |dir: &Option<PathBuf>| dir.as_ref().and_then(|dir| path.strip_prefix(dir).ok());
        if let Some(rest) = within(&self.services).filter(|rest| directory::is_its_own(rest)) {
            let is_status = rest.extension().is_some_and(|ending| ending == "status");
            return Some(if is_status { "plugd writes a status there" } else { "plugd reads that file as a manifest" });
        }
        let kept = within(&self.logs).is_none() && self.own.iter().any(|dir| path.starts_with(dir));
        kept.then_some("plugd keeps its own files there")
    }
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
            ("/etc/other/db.yaml", true),
            ("/var/lib/plugd/state.db", false),
            ("/run/plugd/lives", false),
            ("/var/lib/plugd/logs/mine.log", true),
            ("/var/log/web.log", true),
        ] {
            assert_eq!(limits.why(Path::new(path)).is_none(), may, "{path}");
        }
        assert_eq!(OffLimits::default().why(Path::new("/etc/services.d/db.yaml")), None);
    }
}
