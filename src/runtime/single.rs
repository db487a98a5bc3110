//! `plugd run FILE` and `plugd run -- CMD`: one service, whose exit code is ours; nothing is watched.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::boot::{Refusal, refusal};
use crate::controller::{Declaration, Resolved, Source, Watched};
use crate::edge::directory;
use crate::edge::places::Places;
use crate::edge::zones;
use crate::model::digest;
use crate::model::manifest::{self, Document, Reading, Refused, Text};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::settings::Settings;
use crate::model::spec::{Program, Spec};

/// There a service is a command like any other: it runs once, unless its manifest says otherwise.
const DEFAULTS: &str = "restart: Never\n";
/// The manifest is wrong (as everywhere on the command line).
const INVALID: u8 = 5;

/// State lies only where `--state-dir` (or one of its kind) says.
pub fn places(settings: &Settings) -> Places {
    let below = |name: &str| settings.state_dir.as_ref().map(|dir| dir.join(name));
    let made = |dir: Option<std::path::PathBuf>| dir.filter(|dir| std::fs::create_dir_all(dir).is_ok());
    Places {
        key: format!("run-{}", std::process::id()),
        state: made(settings.state_dir.clone()),
        logs: made(settings.log_dir.clone().or_else(|| below("logs"))),
        run: made(settings.run_dir.clone().or_else(|| below("run"))),
        warnings: Vec::new(),
    }
}

pub fn text_of(file: &Path) -> Result<Vec<u8>, Refusal> {
    let shown = file.display();
    directory::read_named(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refusal(78, no_file(file)),
        _ => refusal(78, format!("{shown} cannot be read: {error}")),
    })
}

/// Nothing lies at the path of a manifest or a program.
pub fn no_file(file: &Path) -> String {
    let shown = file.display();
    format!("there is no file {shown}; name a manifest, or write a command as `plugd run -- CMD`")
}

/// `bytes`: what the file held when it was read first.
pub fn of_file(file: &Path, bytes: &[u8], name: Option<Name>, settings: &Settings) -> Result<Declaration, Refusal> {
    let shown = file.display().to_string();
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let stem = name.as_ref().map_or(stem.as_str(), Name::as_str);
    let mut spec = read(&shown, bytes, stem, &dir, |reading| manifest::read_named(reading, &path));
    if let Err(refused) = &mut spec
        && !manifest::is_manifest(&path)
        && !bytes.starts_with(b"#!")
    {
        let hint = format!("write `plugd run -- INTERPRETER {shown}`, or begin it with `#!/bin/sh`");
        refused.message.push_str(&format!("if {shown} is meant as a program: {hint}"));
    }
    let spec = spec?;
    let program = directory::resolve_one(&spec, &dir, settings);
    Ok(Declaration {
        spec,
        source: Source { file: shown, sha256: digest::short(bytes) },
        program,
        watched: Watched::default(),
        problems: Vec::new(),
    })
}

/// Nothing is watched: what lacks its program would wait for it for ever. The code is a shell's.
pub fn startable(declaration: Declaration) -> Result<Declaration, Refusal> {
    let (spec, file) = (&declaration.spec, &declaration.source.file);
    let alone = |what: &str| Err(refusal(78, format!("{file} {what}: there is nothing to run here")));
    if let Some(need) = spec.depends_on.iter().find(|need| !need.optional) {
        let needs = format!("{file} depends on {}, and nothing else runs here", need.name);
        return Err(refusal(78, format!("{needs}: put both into a directory and run that, `plugd run services.d`")));
    }
    if !spec.enabled {
        return alone("says `enabled: false`");
    }
    if spec.replicas == 0 {
        return alone("says `replicas: 0`");
    }
    if let Some(what) = crate::controller::nothing_to_run(spec) {
        return alone(&format!("is not run ({what})"));
    }
    // A program that is named itself is nobody's wrapper.
    let is_itself = |path: &Path| std::path::absolute(file).is_ok_and(|file| file == path);
    let named = |message: &str| match &spec.process.program {
        Program::Wrapper(own) if is_itself(&own.path) => message.trim_start_matches("wrapper ").to_string(),
        Program::Wrapper(_) | Program::Command(_) | Program::Script(_) | Program::External(_) => message.to_string(),
    };
    match &declaration.program {
        Resolved::Missing { reason: Reason::WrapperNotFound, message, .. } => Err(refusal(127, named(message))),
        Resolved::Missing { message, .. } => Err(refusal(126, named(message))),
        Resolved::Found { .. } => Ok(declaration),
    }
}

pub fn of_command(command: &[OsString], name: Option<Name>) -> Result<Declaration, Refusal> {
    let words: Vec<String> = command
        .iter()
        // Executed untouched: `$$(` stands for `$(`.
        .map(|word| word.to_string_lossy().replace("$(", "$$("))
        .collect();
    let program = Path::new(&command[0]).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name =
        name.or_else(|| Name::parse(&program).or_else(|error| Name::parse(&error.hint.unwrap_or_default())).ok());
    let name = name.unwrap_or_else(|| Name::parse("main").expect("a valid name"));
    let text = serde_json::json!({ "command": words }).to_string();
    let spec = read("command line", text.as_bytes(), name.as_str(), Path::new("/"), manifest::read)?;
    let source = Source { file: "command line".into(), sha256: digest::short(text.as_bytes()) };
    let program = Resolved::Found { wrapper: None, content: Default::default() };
    Ok(Declaration { spec, source, program, watched: Watched::default(), problems: Vec::new() })
}

fn read(
    file: &str,
    text: &[u8],
    stem: &str,
    dir: &Path,
    by: impl FnOnce(&Reading<'_>) -> Result<Vec<Document>, Refused>,
) -> Result<Arc<Spec>, Refusal> {
    let reading = Reading {
        main: Text { file, text },
        stem,
        dir,
        defaults: Some(Text { file: "defaults of `plugd run FILE`", text: DEFAULTS.as_bytes() }),
        drop_ins: Vec::new(),
    };
    let mut documents = by(&reading).map_err(|refused| {
        let texts = [Text { file, text }];
        refusal(INVALID, manifest::render(&refused.diagnostics, &texts, false, 80))
    })?;
    match (documents.pop(), documents.is_empty()) {
        (Some(mut document), true) => {
            zones::of_this_machine(&mut document.spec);
            Ok(Arc::new(document.spec))
        }
        _ => Err(refusal(INVALID, format!("{file} holds several services; `plugd run DIR` runs many"))),
    }
}
