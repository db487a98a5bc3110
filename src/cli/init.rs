//! `plugd init`: a directory with one service that runs, commented, and the schema for editors.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::Session;
use super::args::InitArgs;
use super::fault::{Code, Fault};
use crate::model::manifest;

/// Begins with a dot, so that it is never taken for a manifest.
const SCHEMA: &str = ".service.schema.json";

/// What plugd itself writes there.
const IGNORED: &str = "*.status\n.plugd/\n";

const EXAMPLE: &str = "\
# yaml-language-server: $schema=.service.schema.json
#
# One file, one service: it runs as long as this file is here. Save it and the change is live,
# delete it and the service stops. `plugd explain` lists the fields, `plugd check` finds mistakes.

command: [sh, -c, 'while :; do date; sleep 10; done']

# port: 8080                  # ready when this port is open
# env: {LOG: info}
# dependsOn: [postgres]       # starts when that one is ready
# required: true              # the node is not ready without it
# restart: OnFailure          # Always (default), OnFailure, Never
# readinessProbe: /ready      # an HTTP path; or tcp, exec, notify, logLine
# stop: {gracePeriod: 30s}
";

pub fn init(args: &InitArgs, session: &Session) -> Result<Code, Fault> {
    let dir = &args.target;
    std::fs::create_dir_all(dir).map_err(|error| Fault::path("make", dir.clone(), error))?;
    let mut out = session.out();
    let schema = super::json(&manifest::schema());
    for (file, text) in [("hello.yaml", EXAMPLE), (SCHEMA, schema.as_str()), (".gitignore", IGNORED)] {
        let path = dir.join(file);
        let word = if write_new(&path, text)? { "wrote" } else { "kept" };
        writeln!(out, "{word} {}", path.display())?;
    }
    writeln!(out, "\nNext: `plugd run {}`, then `plugd get` in another terminal", dir.display())?;
    out.flush()?;
    Ok(Code::Done)
}

/// Writes a file that is not there yet; what is there stays as it is.
fn write_new(path: &Path, text: &str) -> Result<bool, Fault> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
    {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Fault::path("write", path, error)),
    }
}
