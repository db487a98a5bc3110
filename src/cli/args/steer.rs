//! Arguments of the verbs that steer: start, stop, restart, scale, signal, exec.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::values;

#[derive(Debug, Clone, Args)]
pub struct OrderArgs {
    #[arg(value_name = "NAME", required_unless_present = "all", value_parser = values::service())]
    pub names: Vec<String>,
    /// Every service
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Wait until it is done
    #[arg(short, long)]
    pub wait: bool,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub order: OrderArgs,
    /// Run no job now: the schedule of one that was stopped goes on. (Services start as ever)
    #[arg(long, conflicts_with = "wait")]
    pub no_run: bool,
}

/// An order that has been carried out when nothing is left.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    #[arg(value_name = "NAME", required_unless_present = "all", value_parser = values::service())]
    pub names: Vec<String>,
    /// Every service
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Do not wait until nothing of them is left
    #[arg(long)]
    pub no_wait: bool,
    /// As without it: for whoever says so
    #[arg(short, long, hide = true, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Give up waiting after this time; they go on being stopped (default: the longest grace and 15s)
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Services and how many instances each is to have: orders=3
    #[arg(value_name = "NAME=N", required = true, value_parser = values::scale)]
    pub scales: Vec<(String, u32)>,
    /// Wait until all instances are ready
    #[arg(short, long)]
    pub wait: bool,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct SignalArgs {
    /// HUP, SIGUSR1, 10 …
    #[arg(value_name = "SIGNAL", value_parser = values::signal)]
    pub signal: i32,
    /// Services, or instances as orders/1
    #[arg(value_name = "NAME", required = true, value_parser = values::service())]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(override_usage = "plugd exec NAME -- CMD…")]
pub struct ExecArgs {
    /// A service, or an instance as orders/1
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub name: String,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
