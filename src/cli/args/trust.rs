//! Arguments of the verbs that answer a question: check, wait, explain, completion, version, help.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::SettingsFlags;
use super::values;
use crate::cli::jsonpath::JsonPath;
use crate::model::reason::Status;

#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Manifests, a directory of them, or - for stdin; without one the node's directory
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub settings: SettingsFlags,
    /// The node's budget to stop all, which chains of graces are held against
    #[arg(long, value_name = "TIME", env = "PLUGD_SHUTDOWN_TIMEOUT", hide_env_values = true, value_parser = values::duration)]
    pub shutdown_timeout: Option<Duration>,
    /// text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    pub output: String,
}

#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Services; without one every required one, else every one that should run
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub names: Vec<String>,
    /// ready, created, deleted, a status word such as completed, condition=Available, or
    /// jsonpath={.restarts}=0
    #[arg(long = "for", value_name = "WHAT", default_value = "ready", value_parser = values::wait_for)]
    pub what: WaitFor,
    /// Give up after this time, with exit code 124
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
    /// Not only the required ones, and each as its files are now: exit code 1 where an edit is not in force
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitFor {
    Ready,
    /// It is known, whatever its status.
    Created,
    Deleted,
    /// The status is this word.
    Status(Status),
    /// A condition of the full object, by its name, is or is not.
    Condition(&'static str, bool),
    /// A path, and the text it is to have; none: it is to be there.
    JsonPath(JsonPath, Option<String>),
}

#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// A field, as `readinessProbe.httpGet`; without one the first page
    #[arg(value_name = "FIELD", default_value = "")]
    pub field: String,
}

#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Clone, Args)]
pub struct VersionArgs {
    /// text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text", hide_default_value = true, value_parser = ["text", "json"])]
    pub output: String,
}

#[derive(Debug, Clone, Args)]
pub struct HelpArgs {
    /// Every verb
    #[arg(long)]
    pub all: bool,
    /// The verb to explain
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
}
