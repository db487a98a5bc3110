//! The binary: the two entry points that the keeper uses, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before clap, so that the keeper never pays for a grammar it does not use.
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(|word| word.to_str()) {
        Some("controller") => plugd::cli::run::controller(),
        Some("keeper-resume") => match words.next().and_then(|word| word.to_str().and_then(|word| word.parse().ok())) {
            Some(fd) => plugd::cli::run::keeper_resume(fd),
            None => ExitCode::from(2),
        },
        _ => plugd::cli::main(),
    }
}
