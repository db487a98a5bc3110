//! Settings of the node itself: `_plugd.yaml`, `PLUGD_…`, flags.

use std::path::PathBuf;
use std::time::Duration;

/// The settings in force: flags over environment over `_plugd.yaml` over these defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Further directories in which wrappers are searched.
    pub wrappers: Vec<PathBuf>,
    pub discovery: Discovery,
    pub trust: Trust,
    /// One budget for the ordered stop of all services.
    pub shutdown_timeout: Option<Duration>,
    /// A required service not ready for this long ends the node.
    pub exit_on_required: Option<Duration>,
    /// Services that may be starting at one time.
    pub max_starting: Option<u32>,
    /// Refuse services without `user:` when plugd is root.
    pub require_user: bool,
    /// All logs together, in bytes; none is computed from the filesystem.
    pub logs_total: Option<u64>,
    /// Copy services' output to plugd's stdout.
    pub tee: bool,
    pub state_dir: Option<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Executable scripts directly in the directory are services.
    On,
    /// Those in `wrappers/` too.
    All,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Auto,
    Strict,
    Any,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            wrappers: Vec::new(),
            discovery: Discovery::On,
            trust: Trust::Auto,
            shutdown_timeout: None,
            exit_on_required: None,
            max_starting: None,
            require_user: false,
            logs_total: None,
            tee: true,
            state_dir: None,
            log_dir: None,
            run_dir: None,
        }
    }
}
