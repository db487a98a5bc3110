//! What plugd tells of itself: help, completions, the manual page, its version, this machine.

use std::io::Write as _;

use serde_json::json;

use super::args::{CompletionArgs, HelpArgs, VersionArgs};
use super::fault::{Code, Fault};
use super::{Session, doctor, grammar, help};

pub fn help(args: &HelpArgs, session: &Session) -> Result<Code, Fault> {
    let text = match (&args.verb, args.all) {
        (None, false) => help::short(),
        (None, true) => help::all(),
        (Some(verb), _) => {
            let mut grammar = grammar();
            // Only a built grammar has the flags of all verbs in its subcommands.
            grammar.build();
            match grammar.find_subcommand_mut(verb) {
                Some(found) => found.render_help().to_string(),
                None => return Err(Fault::usage(format!("there is no verb {verb}"), "`plugd help --all` lists them")),
            }
        }
    };
    let mut out = session.out();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Code::Done)
}

pub fn completion(args: &CompletionArgs, session: &Session) -> Result<Code, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar(), "plugd", &mut script);
    let mut out = session.out();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Code::Done)
}

pub fn man(session: &Session) -> Result<Code, Fault> {
    let mut page = Vec::new();
    clap_mangen::Man::new(grammar().override_help(None)).render(&mut page)?;
    let mut out = session.out();
    out.write_all(&page)?;
    out.flush()?;
    Ok(Code::Done)
}

pub fn version(args: &VersionArgs, session: &Session) -> Result<Code, Fault> {
    let mut out = session.out();
    if args.output == "json" {
        let object =
            json!({"version": env!("CARGO_PKG_VERSION"), "os": std::env::consts::OS, "arch": std::env::consts::ARCH});
        writeln!(out, "{}", super::json(&object))?;
    } else {
        writeln!(out, "plugd {}", env!("CARGO_PKG_VERSION"))?;
    }
    out.flush()?;
    Ok(Code::Done)
}

pub fn doctor(args: &VersionArgs, session: &Session) -> Result<Code, Fault> {
    let findings = doctor::report();
    let mut out = session.out();
    if args.output == "json" {
        doctor::print_json(&mut out, &findings)?;
    } else {
        doctor::print_table(&mut out, &findings, &session.look)?;
    }
    out.flush()?;
    Ok(Code::Done)
}
