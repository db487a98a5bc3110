//! The grammar of the command line, as types.
//!
//! Nothing here does anything: a [`Cli`] is what a person asked for. The two help screens are in
//! [`help`](super::help), because clap has no groups of subcommands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod change;
mod run;
mod see;
mod steer;
mod trust;
pub mod values;

pub use change::{AddArgs, EditArgs, InitArgs, RmArgs};
pub use run::{Given, RunArgs, RunFlags, RunWhat, SettingsFlags};
pub use see::{EventsArgs, GetArgs, GetOutput, HistoryArgs, LogsArgs, LogsOutput, StatusArgs, TopArgs};
pub use steer::{ExecArgs, OrderArgs, ScaleArgs, SignalArgs, StartArgs, StopArgs};
pub use trust::{CheckArgs, CompletionArgs, ExplainArgs, HelpArgs, VersionArgs, WaitArgs, WaitFor};

/// A kubelet for plain processes.
#[derive(Debug, Parser)]
#[command(
    name = "plugd",
    override_help = super::help::short(),
    version,
    disable_help_subcommand = true,
    arg_required_else_help = false,
    infer_subcommands = false,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What every verb understands: which node is meant, and how to print.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The watched directory that tells which node is meant
    #[arg(long, global = true, value_name = "DIR", env = "PLUGD_DIR", hide_env = true, help_heading = "Everywhere")]
    pub dir: Option<PathBuf>,
    /// One place for memory, logs and run files
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PLUGD_STATE_DIR",
        hide_env = true,
        help_heading = "Everywhere"
    )]
    pub state_dir: Option<PathBuf>,
    /// Where the socket and the table of lives are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PLUGD_RUN_DIR",
        hide_env = true,
        help_heading = "Everywhere"
    )]
    pub run_dir: Option<PathBuf>,
    /// When to colour [auto, always, never]
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Everywhere"
    )]
    pub color: ColorChoice,
    /// No word where all went well
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set; CLICOLOR_FORCE colours everywhere.
    #[default]
    Auto,
    Always,
    Never,
}

/// The verbs, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the services of a directory, one manifest, or one command
    Run(Box<RunFlags>),

    /// List the services and why they are not well
    #[command(visible_aliases = ["ps", "ls", "list"])]
    Get(GetArgs),
    /// Tell all about a service: the cause and the next step first
    #[command(visible_aliases = ["why", "describe"])]
    Status(StatusArgs),
    /// Show what services wrote
    Logs(LogsArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Watch the services on a whole terminal, and steer them
    Top(TopArgs),
    /// Show a service's past: availability, score, latency, restarts, exits
    History(HistoryArgs),

    /// Start services, or run a job now; clears back-off, `stop` and `scale` to 0
    Start(StartArgs),
    /// Stop services until `plugd start`; returns when nothing of them is left
    Stop(StopArgs),
    /// Restart services
    Restart(OrderArgs),
    /// Set the number of instances, until an edit of `replicas` is in force
    Scale(ScaleArgs),
    /// Send a signal to a service's processes
    Signal(SignalArgs),
    /// Run a command in a service's environment
    Exec(ExecArgs),

    /// Write a manifest into the directory and wait until it is accepted
    #[command(visible_aliases = ["apply", "register"])]
    Add(AddArgs),
    /// Remove a service's manifest and wait until it is gone
    #[command(visible_aliases = ["delete", "deregister"])]
    Rm(RmArgs),
    /// Edit a service's manifest, checked before it is put in place
    Edit(EditArgs),
    /// Make a services.d with an example
    Init(InitArgs),

    /// Find errors and show what would change; runs nothing
    #[command(visible_alias = "validate")]
    Check(CheckArgs),
    /// Like check, and exit with 1 if anything would change
    #[command(hide = true)]
    Diff(CheckArgs),
    /// Wait until services are ready, gone, or as asked
    Wait(WaitArgs),
    /// Explain a field of the manifest
    Explain(ExplainArgs),
    /// Print the manifest's JSON Schema
    Schema,
    /// Look at this machine: what plugd can and cannot do here
    Doctor(VersionArgs),
    /// Print completions for a shell
    Completion(CompletionArgs),
    /// Print the manual page
    Man,
    /// Print the version
    Version(VersionArgs),
    /// Show this help, all of it, or that of a verb
    Help(HelpArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(words: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from([&["plugd", "run"], words].concat()).expect("valid");
        match cli.verb {
            Some(Verb::Run(flags)) => flags.decide(&cli.global),
            _ => unreachable!("run was asked for"),
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_directory_a_file_or_a_command() {
        assert_eq!(run(&[]).what, RunWhat::DefaultDirectory);
        assert_eq!(run(&["/nowhere/services.d"]).what, RunWhat::Directory("/nowhere/services.d".into()));
        assert_eq!(run(&["/nowhere/web.yaml"]).what, RunWhat::File("/nowhere/web.yaml".into()));
        assert_eq!(run(&["--", "sleep", "-5"]).what, RunWhat::Command(vec!["sleep".into(), "-5".into()]));
        assert_eq!(run(&["--dir", "/d"]).what, RunWhat::Directory("/d".into()));
    }

    #[test]
    fn flags_win_over_the_settings_file() {
        let given = run(&["--exit-on-required", "--no-tee", "--trust=any", "/d"]).given;
        let file = crate::model::settings::Settings { max_starting: Some(4), ..Default::default() };
        let settings = given.over(file);
        assert_eq!(settings.exit_on_required, Some(std::time::Duration::from_secs(300)));
        assert_eq!(
            (settings.tee, settings.trust, settings.max_starting),
            (false, crate::model::settings::Trust::Any, Some(4))
        );
        assert_eq!(run(&["--exit-on-required=off"]).given.exit_on_required, Some(values::ExitOnRequired::Off));
    }
}
