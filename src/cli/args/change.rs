//! Arguments of the verbs that write in the directory: add, rm, edit, init.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values;
use crate::model::name::Name;

#[derive(Debug, Clone, Args)]
#[command(override_usage = "plugd add [OPTIONS] FILE\n       plugd add [OPTIONS] NAME -- CMD…")]
pub struct AddArgs {
    /// A manifest (`-` reads it from stdin), or the name of a service to be made of CMD
    #[arg(value_name = "FILE | NAME")]
    pub target: OsString,
    /// The command that the service runs
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Name of the file in the directory (default: that of FILE)
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub name: Option<Name>,
    /// With CMD: the port it listens on
    #[arg(long, value_name = "PORT", requires = "command", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// With CMD: the node is not ready without it
    #[arg(long, requires = "command")]
    pub required: bool,
    /// Put it in the place of a manifest that is already there, as FILE always is
    #[arg(long)]
    pub replace: bool,
    /// Wait until it is ready, too
    #[arg(short, long)]
    pub wait: bool,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct RmArgs {
    #[arg(value_name = "NAME", required_unless_present = "missing", value_parser = values::service())]
    pub names: Vec<String>,
    /// Let go what a lost directory holds (DirectoryLost)
    #[arg(long, conflicts_with = "names")]
    pub missing: bool,
    /// Do not ask where others depend on it
    #[arg(short, long)]
    pub yes: bool,
    /// Do not wait until the services are gone
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct EditArgs {
    #[arg(value_name = "NAME", value_parser = values::service())]
    pub name: String,
}

#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// The directory to make
    #[arg(value_name = "DIR", default_value = "services.d")]
    pub target: PathBuf,
}
