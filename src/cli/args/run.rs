//! `plugd run`: what to run, and every key of `_plugd.yaml` as a flag.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{self, ExitOnRequired};
use super::{ColorChoice, Global};
use crate::model::name::Name;
use crate::model::settings::{Discovery, Settings, Trust};

/// `run` as clap reads it.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "plugd run [OPTIONS] [DIR | FILE | -- CMD…]")]
pub struct RunFlags {
    /// A directory of manifests (default ./services.d, else /etc/plugd/services.d), or one manifest
    #[arg(value_name = "DIR | FILE", conflicts_with = "command")]
    pub target: Option<PathBuf>,
    /// One command to run as the only service; its exit code becomes plugd's
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Name of the one service (default: the file's stem, the program's base name)
    #[arg(long, value_name = "NAME", env = "PLUGD_NAME", hide_env_values = true, value_parser = values::name)]
    pub name: Option<Name>,
    #[command(flatten)]
    pub settings: SettingsFlags,
    /// Where the log files are written
    #[arg(long, value_name = "DIR", env = "PLUGD_LOG_DIR", hide_env_values = true)]
    pub log_dir: Option<PathBuf>,
    /// Stop all services within this time, then kill (as PID 1: 8s, in a Pod 25s)
    #[arg(long, value_name = "TIME", env = "PLUGD_SHUTDOWN_TIMEOUT", hide_env_values = true, value_parser = values::duration)]
    pub shutdown_timeout: Option<Duration>,
    /// End when a required service is not ready for that long; `off` never (default as PID 1)
    #[arg(
        long,
        value_name = "TIME",
        env = "PLUGD_EXIT_ON_REQUIRED", hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5m",
        value_parser = values::exit_on_required
    )]
    pub exit_on_required: Option<ExitOnRequired>,
    /// At most this many services may be starting at one time
    #[arg(long, value_name = "N", env = "PLUGD_MAX_STARTING", hide_env_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_starting: Option<u32>,
    /// Refuse services without `user:` when plugd is root
    #[arg(long, env = "PLUGD_REQUIRE_USER", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub require_user: bool,
    /// All logs together take at most this much, as 512Mi
    #[arg(long, value_name = "SIZE", env = "PLUGD_LOGS_TOTAL", hide_env_values = true, value_parser = values::bytes)]
    pub logs_total: Option<u64>,
    /// Do not copy the services' output to stdout
    #[arg(long, env = "PLUGD_NO_TEE", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub no_tee: bool,
    /// The API listens there too, as 127.0.0.1:7666, for who sends its token
    #[arg(long, value_name = "ADDRESS", env = "PLUGD_LISTEN", hide_env_values = true, value_parser = values::listen)]
    pub listen: Option<SocketAddr>,
}

/// The settings that decide what a directory means; `check` takes them too.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingsFlags {
    /// A further directory in which wrappers are searched; may be repeated
    #[arg(long, value_name = "DIR", env = "PLUGD_WRAPPERS", hide_env_values = true, value_delimiter = ':')]
    pub wrappers: Vec<PathBuf>,
    /// Are executable scripts services by themselves [on, all, off]
    #[arg(long, value_name = "WHICH", env = "PLUGD_DISCOVERY", hide_env_values = true, value_parser = values::discovery)]
    pub discovery: Option<Discovery>,
    /// Whose files are accepted [auto, strict, any]
    #[arg(long, value_name = "WHOSE", env = "PLUGD_TRUST", hide_env_values = true, value_parser = values::trust)]
    pub trust: Option<Trust>,
}

/// What `plugd run` was asked for, decided.
#[derive(Debug, Clone)]
pub struct RunArgs {
    pub what: RunWhat,
    /// Only for one service: `--name`.
    pub name: Option<Name>,
    pub given: Given,
    pub color: ColorChoice,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunWhat {
    /// No directory was named: `./services.d`, else `/etc/plugd/services.d`, else say how to begin.
    DefaultDirectory,
    /// This one; if it does not exist: exit 78 with the `mkdir` line.
    Directory(PathBuf),
    /// One manifest, its exit code is ours.
    File(PathBuf),
    /// One command, executed untouched, its exit code is ours. Never empty.
    Command(Vec<OsString>),
}

/// The settings that flags or the environment gave; what is none comes from `_plugd.yaml`, else
/// from the defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    pub wrappers: Vec<PathBuf>,
    pub discovery: Option<Discovery>,
    pub trust: Option<Trust>,
    pub shutdown_timeout: Option<Duration>,
    pub exit_on_required: Option<ExitOnRequired>,
    pub max_starting: Option<u32>,
    pub require_user: bool,
    pub logs_total: Option<u64>,
    pub no_tee: bool,
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub log_dir: Option<PathBuf>,
    pub run_dir: Option<PathBuf>,
}

impl Given {
    /// These settings over those of `_plugd.yaml` (or the defaults).
    pub fn over(self, below: Settings) -> Settings {
        Settings {
            wrappers: if self.wrappers.is_empty() { below.wrappers } else { self.wrappers },
            discovery: self.discovery.unwrap_or(below.discovery),
            trust: self.trust.unwrap_or(below.trust),
            shutdown_timeout: self.shutdown_timeout.or(below.shutdown_timeout),
            exit_on_required: match self.exit_on_required {
                Some(ExitOnRequired::After(limit)) => Some(limit),
                Some(ExitOnRequired::Off) => None,
                None => below.exit_on_required,
            },
            max_starting: self.max_starting.or(below.max_starting),
            require_user: self.require_user || below.require_user,
            logs_total: self.logs_total.or(below.logs_total),
            tee: below.tee && !self.no_tee,
            listen: self.listen.or(below.listen),
            state_dir: self.state_dir.or(below.state_dir),
            log_dir: self.log_dir.or(below.log_dir),
            run_dir: self.run_dir.or(below.run_dir),
        }
    }
}

impl SettingsFlags {
    pub fn given(&self) -> Given {
        Given { wrappers: self.wrappers.clone(), discovery: self.discovery, trust: self.trust, ..Given::default() }
    }
}

impl RunFlags {
    /// Decides what is meant; `--dir` counts where no target is written.
    pub fn decide(self, global: &Global) -> RunArgs {
        let what = if !self.command.is_empty() {
            RunWhat::Command(self.command)
        } else {
            match self.target {
                Some(path) if looks_like_a_file(&path) => RunWhat::File(path),
                Some(path) => RunWhat::Directory(path),
                None => global.dir.clone().map_or(RunWhat::DefaultDirectory, RunWhat::Directory),
            }
        };
        let given = Given {
            shutdown_timeout: self.shutdown_timeout,
            exit_on_required: self.exit_on_required,
            max_starting: self.max_starting,
            require_user: self.require_user,
            logs_total: self.logs_total,
            no_tee: self.no_tee,
            listen: self.listen,
            state_dir: global.state_dir.clone(),
            log_dir: self.log_dir,
            run_dir: global.run_dir.clone(),
            ..self.settings.given()
        };
        RunArgs { what, name: self.name, given, color: global.color }
    }
}

/// What exists is what it is; of what does not, the ending tells what was meant.
fn looks_like_a_file(path: &std::path::Path) -> bool {
    match path.metadata() {
        Ok(meta) => !meta.is_dir(),
        Err(_) => matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json" | "sh")),
    }
}
