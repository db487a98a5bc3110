//! `plugd check`: what is wrong in the files, then what would happen; runs nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::CheckArgs;
use super::fault::{Code, Fault};
use super::forecast::{self, Declared, Forecast, Running};
use super::look::Look;
use super::node::Node;
use super::put::hash;
use super::{Session, node};
use crate::controller::{Declaration, Input, Resolved, Source};
use crate::edge::directory;
use crate::model::manifest::{self, Reading, Severity, Text};
use crate::model::settings::Settings;
use crate::model::spec::Digest;

/// A manifest is at most 64 KiB; what is larger is refused by its size.
const MANIFEST_MAX: u64 = 64 * 1024;

pub fn check(args: &CheckArgs, session: &Session) -> Result<Code, Fault> {
    Ok(look(args, session)?.0)
}

/// As [`check`], and exit 1 where anything would change.
pub fn diff(args: &CheckArgs, session: &Session) -> Result<Code, Fault> {
    Ok(match look(args, session)? {
        (Code::Done, plan) if plan.differs() => Code::No,
        (code, _) => code,
    })
}

fn look(args: &CheckArgs, session: &Session) -> Result<(Code, Forecast), Fault> {
    let node = session.node().ok();
    let settings = settings(args);
    let dir = match (args.files.as_slice(), &node) {
        ([one], _) if one.is_dir() => Some(one.clone()),
        ([], Some(node)) => Some(node.dir()?),
        ([], None) => Some(node::directory(&session.global)?),
        _ => None,
    };
    let (found, findings) = match &dir {
        Some(dir) => read_directory(dir, &settings, session)?,
        None => read_files(&args.files, session)?,
    };
    let running = match &node {
        Some(node) => running(node, &found)?,
        None => Running::default(),
    };
    let plan = forecast::forecast(&found, &running, dir.is_some(), settings.shutdown_timeout);
    let mut out = session.out();
    if args.output == "json" {
        let errors: Vec<&str> = findings.errors.iter().map(String::as_str).collect();
        let warnings: Vec<&String> = findings.warnings.iter().chain(&plan.warnings).collect();
        let object = json!({"errors": errors, "warnings": warnings, "plan": &plan, "controller": node.is_some()});
        writeln!(out, "{}", super::json(&object))?;
    } else {
        out.write_all(findings.text.as_bytes())?;
        for warning in &plan.warnings {
            writeln!(out, "warning: {}", crate::model::text::yaml::clean(warning))?;
        }
        if node.is_none() {
            super::say("no controller answers; this is what a new one would do");
        }
        out.write_all(forecast::text(&plan).as_bytes())?;
    }
    out.flush()?;
    let wrong = !findings.errors.is_empty() || !plan.fail.is_empty();
    Ok((if wrong { Code::InvalidManifest } else { Code::Done }, plan))
}

fn settings(args: &CheckArgs) -> Settings {
    let mut given = args.settings.given();
    given.shutdown_timeout = args.shutdown_timeout;
    given.over(Settings::default())
}

/// What is wrong, one line each, and the same drawn with excerpts.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    text: String,
}

impl Findings {
    fn error(&mut self, line: String) {
        self.text.push_str(&format!(
            "error: {}\n",
            crate::model::text::yaml::clean(line.lines().next().unwrap_or_default())
        ));
        self.errors.push(line);
    }

    fn diagnostics(&mut self, diagnostics: &[manifest::Diagnostic], text: Text<'_>, look: &Look) {
        if diagnostics.is_empty() {
            return;
        }
        for diagnostic in diagnostics {
            match diagnostic.severity {
                Severity::Error => self.errors.push(diagnostic.one_line()),
                Severity::Warning => self.warnings.push(diagnostic.one_line()),
            }
        }
        self.text.push_str(&manifest::render(diagnostics, &[text], look.color, look.width.unwrap_or(WIDTH)));
        self.text.push('\n');
    }
}

/// Columns of an excerpt in a pipe.
const WIDTH: usize = 100;

/// The directory as a controller would read it.
fn read_directory(dir: &Path, settings: &Settings, session: &Session) -> Result<(Declared, Findings), Fault> {
    let inputs = directory::load(dir, settings).map_err(|error| Fault::path("read", dir, error))?;
    let mut found = Declared::default();
    for input in inputs {
        match input {
            Input::Declared(declaration) => found.declared.push(declaration),
            Input::Rejected(rejection) => found.rejected.push(rejection),
            Input::FileProblems(problems) => found.problems = problems,
            // The rest is said by a directory that is watched, or not by a directory at all.
            _ => {}
        }
    }
    let mut findings = Findings::default();
    for rejection in &found.rejected {
        // The excerpt is drawn from the text; a file that is refused for another reason has none.
        let drawn = lint(&dir.join(&rejection.source.file), &rejection.source.file, dir, &mut findings, &session.look);
        if !matches!(drawn, Ok(Some(_))) || findings.errors.is_empty() {
            findings.error(rejection.message.clone());
        }
    }
    for problem in &found.problems {
        findings.error(format!("{}: {}: {}", problem.file, problem.reason, problem.message));
    }
    Ok((found, findings))
}

/// Single files: what each declares, as far as text alone tells.
fn read_files(files: &[PathBuf], session: &Session) -> Result<(Declared, Findings), Fault> {
    let mut found = Declared::default();
    let mut findings = Findings::default();
    for path in files {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let dir = absolute.parent().unwrap_or(Path::new("/"));
        let shown = path.display().to_string();
        let declared = lint(path, &shown, dir, &mut findings, &session.look)
            .map_err(|error| Fault::path("read", path.clone(), error))?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for mut declaration in declared.unwrap_or_default() {
            declaration.source.file.clone_from(&file);
            found.declared.push(declaration);
        }
    }
    Ok((found, findings))
}

/// Reads one manifest and notes what is wrong; none where it is invalid.
fn lint(
    path: &Path,
    shown: &str,
    dir: &Path,
    findings: &mut Findings,
    look: &Look,
) -> std::io::Result<Option<Vec<Declaration>>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MANIFEST_MAX + 1).read_to_end(&mut text)?;
    let main = Text { file: shown, text: &text };
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let reading = Reading { main, stem, dir, defaults: None, drop_ins: Vec::new() };
    match manifest::read(&reading) {
        Ok(documents) => {
            let source = Source { file: shown.into(), sha256: hash(&text) };
            let mut declared = Vec::new();
            for document in documents {
                findings.diagnostics(&document.warnings, main, look);
                declared.push(Declaration {
                    spec: Arc::new(document.spec),
                    source: source.clone(),
                    // Not looked for: a single file may lie anywhere.
                    program: Resolved::Found { wrapper: None, content: Digest::default() },
                    problems: Vec::new(),
                });
            }
            Ok(Some(declared))
        }
        Err(refused) => {
            findings.diagnostics(&refused.diagnostics, main, look);
            Ok(None)
        }
    }
}

/// Says no, with excerpts, to a text that is no valid manifest; before it is written anywhere.
pub fn refuse_invalid(file: &str, text: &[u8], dir: &Path, session: &Session) -> Result<(), Fault> {
    let main = Text { file, text };
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let reading = Reading { main, stem, dir, defaults: None, drop_ins: Vec::new() };
    match manifest::read(&reading) {
        Ok(_) => Ok(()),
        Err(refused) => {
            let look = &session.look;
            let drawn = manifest::render(&refused.diagnostics, &[main], look.color, look.width.unwrap_or(WIDTH));
            Err(Fault::Invalid(format!("{file} is invalid and is not put in place\n{}", drawn.trim_end())))
        }
    }
}

/// What the node runs of the declared ones.
fn running(node: &Node, found: &Declared) -> Result<Running, Fault> {
    let snapshot = node.snapshot()?;
    let mut running = Running::default();
    for one in &found.declared {
        let name = &one.spec.name;
        // Only where the file differs does it matter what changed.
        if snapshot.services.get(name).is_some_and(|view| view.manifest.sha256 != one.source.sha256) {
            let object = node.get(&format!("/v1/services/{name}?form=object")).ok();
            let spec = object.and_then(|object: Value| object.get("spec").cloned());
            running.specs.extend(spec.map(|spec| (name.clone(), spec)));
        }
    }
    running.snapshot = Some(snapshot);
    Ok(running)
}
