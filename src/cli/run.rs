//! `plugd run`: becomes the keeper, which starts the controller.

use std::process::ExitCode;

use super::args::RunArgs;

/// Runs the node until it ends; the code is the node's.
pub fn run(args: RunArgs) -> ExitCode {
    eprintln!("plugd: run is not wired yet: {:?}", args.what);
    ExitCode::FAILURE
}

/// `plugd controller …`: the keeper's child, with the keeper's socket on descriptor 3.
pub fn controller() -> ExitCode {
    eprintln!("plugd: the controller is started by `plugd run` only");
    ExitCode::FAILURE
}

/// `plugd keeper-resume FD`: a new keeper that takes over the table behind the descriptor.
pub fn keeper_resume(fd: i32) -> ExitCode {
    eprintln!("plugd: no table to resume on descriptor {fd}");
    ExitCode::FAILURE
}
