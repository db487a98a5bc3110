//! The command line. Floor 8.
#![expect(clippy::disallowed_methods, reason = "the command line reads the world on a person's behalf")]

use std::process::ExitCode;

use clap::Parser;

pub mod args;
pub mod run;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match cli.verb {
        Some(args::Verb::Run(flags)) => run::run(flags.decide(&cli.global)),
        _ => ExitCode::from(2),
    }
}
