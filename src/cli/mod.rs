//! The command line: reads what a person wants, asks the controller or the files, prints.
//!
//! Nothing here decides about services. A verb is a file with one public function that takes its
//! arguments and a [`Session`], and returns an exit code or a fault; what it prints is made by pure
//! functions over views, so that tests need no controller. Data goes to stdout, all else to stderr.
//! Floor 8.
#![expect(clippy::disallowed_methods, reason = "the command line reads the world on a person's behalf")]

use std::ffi::OsString;
use std::io::{BufWriter, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, FromArgMatches};
use jiff::Timestamp;
use serde::Serialize;

pub mod args;
pub mod fault;
pub mod look;
pub mod mistake;
pub mod node;
pub mod progress;
pub mod row;
pub mod select;

pub mod help;
pub mod run;

pub mod get;
pub mod jsonpath;
pub mod last;
pub mod status;
pub mod table;
pub mod top;

pub mod events;
mod gone;
pub mod history;
pub mod logs;
pub mod spark;

pub mod exec;
mod own_run;
pub mod steer;

pub mod add;
mod behind;
mod company;
pub mod edit;
pub mod effective;
pub mod init;
pub mod rm;

pub mod check;
pub mod doctor;
pub mod explain;
pub mod forecast;
mod foresee;
pub mod shell;
mod told;
pub mod wait;

use args::{Cli, Global, Verb};
use fault::{Code, Fault};
use look::Look;
use node::Node;

/// What every verb has: the flags of all verbs, and how to print.
#[derive(Debug)]
pub struct Session {
    pub global: Global,
    pub look: Look,
}

impl Session {
    pub fn node(&self) -> Result<Node, Fault> {
        Node::open(&self.global)
    }

    pub fn out(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::new(std::io::stdout().lock())
    }

    /// What was done, for a person who looks on: scripts have the exit code.
    pub fn done(&self, text: &str) {
        let Some(width) = look::width_of_stderr().filter(|_| !self.global.quiet) else { return };
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "{}", look::wrap(text, width.saturating_sub(2)).join("\n  "));
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return grammar_fault(&error),
    };
    let session = Session { look: Look::of_stdout(cli.global.color), global: cli.global };
    let code = match cli.verb {
        None => {
            eprint!("{}", help::short());
            Code::Usage
        }
        Some(Verb::Run(flags)) => return run::run(flags.decide(&session.global)),
        Some(verb) => dispatch(verb, &session).unwrap_or_else(|fault| tell(&fault)),
    };
    ExitCode::from(code.number())
}

fn dispatch(verb: Verb, session: &Session) -> Result<Code, Fault> {
    if let Some(file) = session.global.dir.as_deref().filter(|dir| dir.is_file()) {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let what = format!("--dir names a directory, and {} is a file", file.display());
        return Err(Fault::usage(what, format!("write --dir {}", folder.display())));
    }
    match verb {
        Verb::Run(_) => Ok(Code::Usage),
        Verb::Get(args) => get::get(&args, session),
        Verb::Status(args) => status::status(&args, session),
        Verb::Logs(args) => logs::logs(&args, session),
        Verb::Events(args) => events::events(&args, session),
        Verb::Top(args) => top::top(&args, session),
        Verb::History(args) => history::history(&args, session),
        Verb::Start(args) => steer::start(&args, session),
        Verb::Stop(args) => steer::stop(&args, session),
        Verb::Restart(args) => steer::restart(&args, session),
        Verb::Scale(args) => steer::scale(&args, session),
        Verb::Signal(args) => steer::signal(&args, session),
        Verb::Exec(args) => exec::exec(&args, session),
        Verb::Add(args) => add::add(&args, session),
        Verb::Rm(args) => rm::rm(&args, session),
        Verb::Edit(args) => edit::edit(&args, session),
        Verb::Init(args) => init::init(&args, session),
        Verb::Check(args) => check::check(&args, session),
        Verb::Diff(args) => check::diff(&args, session),
        Verb::Wait(args) => wait::wait(&args, session),
        Verb::Explain(args) => explain::explain(&args, session),
        Verb::Schema => explain::schema(session),
        Verb::Doctor(args) => shell::doctor(&args, session),
        Verb::Completion(args) => shell::completion(&args, session),
        Verb::Man => shell::man(session),
        Verb::Version(args) => shell::version(&args, session),
        Verb::Help(args) => shell::help(&args, session),
    }
}

/// Says on stderr what happened and what to do next; a closed stdout is nothing to speak of.
fn tell(fault: &Fault) -> Code {
    match fault {
        Fault::Pipe => {}
        fault => say(&fault.to_string()),
    }
    fault.code()
}

/// A line on stderr; a stderr that nobody reads is no reason to fail.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let (first, rest) = text.split_once('\n').map_or((text, None), |(first, rest)| (first, Some(rest)));
    // Only the sentence: an excerpt beneath it is drawn to its width already.
    let lines = look::wrap(&format!("plugd: {first}"), look::width_of_stderr().unwrap_or(usize::MAX).saturating_sub(2));
    let _ = writeln!(stderr, "{}", lines.join("\n  "));
    if let Some(rest) = rest {
        let _ = writeln!(stderr, "{rest}");
    }
}

/// clap's message in our form; help and version are no faults.
fn grammar_fault(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(told) = mistake::sentence(error, &words) {
        say(&told);
        return ExitCode::from(Code::Usage.number());
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let _ = write!(std::io::stderr(), "plugd: {text}");
    ExitCode::from(Code::Usage.number())
}

/// The grammar; a variable of the environment that is empty counts as one that is not set.
pub fn grammar() -> clap::Command {
    without_empty_variables(Cli::command())
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Reads words as the command line; the first is the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&grammar().try_get_matches_from(words)?)
}

fn json(value: &impl Serialize) -> String {
    // Views hold only strings, numbers and maps with string keys, which always can be written.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// What is left until a deadline; nothing where it has passed.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
