//! `plugd run`: becomes the keeper, which starts the controller.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::{self, RunArgs, RunWhat};
use super::look::Look;
use crate::edge::places;
use crate::keeper;
use crate::runtime::boot::{self, Refusal, Task, What};
use crate::runtime::front;

/// Runs the node until it ends; the code is the node's.
pub fn run(args: RunArgs) -> ExitCode {
    let Some(task) = task(args) else { return begin() };
    // The controller reads the same words again: nothing else has to be handed over.
    let mut words: Vec<OsString> = vec!["plugd".into(), "controller".into()];
    words.extend(std::env::args_os().skip(1));
    refused(front::become_keeper(&task, words))
}

/// `plugd controller …`: the keeper's child, with the keeper's socket on descriptor 3.
pub fn controller() -> ExitCode {
    let words = std::iter::once("plugd".into()).chain(std::env::args_os().skip(2));
    let cli = match super::parse(words) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Some(args::Verb::Run(flags)) = cli.verb else { return ExitCode::from(2) };
    let Some(task) = task(flags.decide(&cli.global)) else { return begin() };
    match boot::controller(task) {
        Ok(code) => ExitCode::from(code.clamp(0, 255) as u8),
        Err(refusal) => refused(refusal),
    }
}

/// `plugd keeper-resume FD`: a new keeper that takes over the table behind the descriptor.
pub fn keeper_resume(fd: i32) -> ExitCode {
    keeper::resume(fd)
}

fn task(args: RunArgs) -> Option<Task> {
    let what = match args.what {
        RunWhat::DefaultDirectory => What::Directory(places::default_dir()?),
        RunWhat::Directory(dir) => What::Directory(dir),
        RunWhat::File(file) => What::File(file),
        RunWhat::Command(command) => What::Command(command),
    };
    let given = args.given;
    let colour = Look::of_stdout(args.color).color;
    Some(Task { what, name: args.name, layer: Arc::new(move |below| given.clone().over(below)), colour })
}

fn refused(refusal: Refusal) -> ExitCode {
    super::say(&refusal.to_string());
    ExitCode::from(refusal.code)
}

/// Nothing was named and nothing is there.
fn begin() -> ExitCode {
    eprintln!("plugd: there is no ./services.d and no /etc/plugd/services.d; begin with");
    eprintln!("  plugd init services.d      # a directory with a commented example");
    eprintln!("  plugd run services.d       # runs what is in it; every change is taken up at once");
    ExitCode::from(78)
}
