//! `plugd check`: what is wrong in the files, then what would happen; runs nothing.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{CheckArgs, Global};
use super::company::{self, Company};
use super::fault::{Code, Fault};
use super::forecast::{self, Declared, Forecast, Running};
use super::look::Look;
use super::node::Node;
use super::told::DEFAULTS;
use super::{Session, effective, fault, foresee, node};
use crate::controller::{Change, Declaration, Resolved, Source, Watched, change};
use crate::edge::directory;
use crate::edge::named;
use crate::edge::output::off_limits::OffLimits;
use crate::edge::store::Store;
use crate::model::digest;
use crate::model::manifest::{self, Diagnostic, Reading, Severity, Text};
use crate::model::settings::{self, Settings};
use crate::model::spec::{Digest, EnvValue, Program, Spec};

/// The settings of the node, in its directory.
const SETTINGS: &str = "_plugd.yaml";

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
    let answer = look_at(args, session)?;
    // Last, because who writes into the pipe may need a moment.
    if args.files.is_empty() && stdin_holds_text() {
        super::say("what stands on stdin was not read; `plugd check -` checks it");
    }
    Ok(answer)
}

/// A job of CI has an empty pipe there, or nothing.
fn stdin_holds_text() -> bool {
    let stdin = std::io::stdin();
    !stdin.is_terminal() && rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0)
}

fn look_at(args: &CheckArgs, session: &Session) -> Result<(Code, Forecast), Fault> {
    let node = match open_node(args, session) {
        Ok(node) => Some(node),
        Err(fault) => {
            if !fault.is_unreachable() {
                super::say(&format!("{fault}; what runs is not known"));
            }
            None
        }
    };
    let dir = match (args.files.as_slice(), &node) {
        ([one], _) if one.is_dir() => Some(one.clone()),
        ([], Some(node)) => Some(node.dir()?),
        ([], None) => Some(node::directory(&session.global)?),
        _ => None,
    };
    let mut findings = Findings { width: session.look.width, ..Findings::default() };
    let settings = settings(args, dir.as_deref(), &mut findings, &session.look);
    let mut found = match &dir {
        Some(dir) => {
            let told = node.as_ref().and_then(|node| node.get("/v1/node").ok());
            let memory = memory(dir, told.as_ref(), args, session);
            read_directory(dir, &settings, memory, &mut findings, session)?
        }
        None => read_files(args, node.as_ref(), &mut findings, session),
    };
    let told = node.as_ref().and_then(|node| node.get("/v1/node").ok());
    let place = |which| node::place(which, told.as_ref(), &session.global);
    let services = dir.clone().or_else(|| node.as_ref().and_then(|node| node.dir().ok()));
    let off_limits = OffLimits {
        services: services.and_then(|dir| std::path::absolute(dir).ok()),
        own: place("state").into_iter().chain(place("run")).collect(),
        logs: place("logs"),
        named: found.named.clone(),
    };
    for found in foresee::logs::look(&found.declared, &off_limits, told.as_ref()) {
        match found {
            // A single file may be meant for another machine.
            foresee::logs::Found::Wrong(told) if dir.is_some() => findings.error(told),
            foresee::logs::Found::Wrong(told) | foresee::logs::Found::Doubtful(told) => findings.warning(told),
        }
    }
    foresee::ports::shared(&found.declared).into_iter().for_each(|told| findings.warning(told));
    let obstacles = foresee::obstacles(&found.declared, told.as_ref());
    foresee::hooks(&found.declared, &obstacles, told.as_ref()).into_iter().for_each(|told| findings.warning(told));
    let running = match &node {
        Some(node) => match running(node, &mut found, dir.as_deref()) {
            // It was about to end.
            Err(fault) if fault.is_unreachable() => Running::default(),
            answer => answer?,
        },
        None => Running::default(),
    };
    match dir {
        Some(_) => found.obstacles = obstacles,
        // A single file may be meant for another machine.
        None => {
            for (name, (reason, why)) in obstacles {
                findings.warning(format!("{name} would not start on this machine: {reason}: {why}"));
            }
        }
    }
    let plan = forecast::forecast(&found, &running, dir.is_some(), settings.shutdown_timeout);
    if let (Some(dir), Some(Ok(of))) = (&dir, node.as_ref().map(Node::dir))
        && directory::identity(dir) != directory::identity(&of)
    {
        super::say(&format!("{} is compared with the node of {}, as if it lay there", dir.display(), of.display()));
    }
    let mut out = session.out();
    if args.output == "json" {
        let errors: Vec<&str> = findings.errors.iter().map(String::as_str).collect();
        let warnings: Vec<&String> = findings.warnings.iter().chain(&plan.warnings).collect();
        let object = json!({"errors": errors, "warnings": warnings, "plan": &plan, "controller": node.is_some()});
        writeln!(out, "{}", super::json(&object))?;
    } else {
        // Of single files that are all wrong there is nothing to plan.
        let planned = dir.is_some() || !found.declared.is_empty();
        match planned {
            true => out.write_all(findings.text.as_bytes())?,
            false => writeln!(out, "{}", findings.text.trim_end())?,
        }
        for warning in &plan.warnings {
            write!(out, "{}", shown("warning", warning, session.look.width))?;
        }
        if planned {
            if node.is_none() {
                super::say("no controller answers; this is what a new one would do");
            }
            if let (Some(dir), true) = (&dir, found.is_empty() && findings.text.is_empty()) {
                super::say(&format!("{} holds no manifest; `plugd init` writes an example", dir.display()));
            }
            out.write_all(forecast::text(&plan, session.look.width).as_bytes())?;
        }
    }
    out.flush()?;
    let wrong = !findings.errors.is_empty() || !plan.fail.is_empty();
    Ok((if wrong { Code::InvalidManifest } else { Code::Done }, plan))
}

/// The node of the directory that is named, or in which the first file lies, wherever this is asked; else the
/// one that flags and place name: what is named may be meant for it.
fn open_node(args: &CheckArgs, session: &Session) -> Result<Node, Fault> {
    let named = args.files.first().filter(|_| session.global.dir.is_none());
    let dir = named.and_then(|file| if file.is_dir() { Some(file.as_path()) } else { file.parent() });
    if let Some(dir) = dir {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match Node::open(&Global { dir: Some(dir.to_path_buf()), ..session.global.clone() }) {
            Err(fault) if fault.is_unreachable() => {}
            Err(Fault::NoDirectory(_) | Fault::OfAnother { .. }) => {}
            answer => return answer,
        }
    }
    session.node()
}

/// Flags over `_plugd.yaml` over the defaults.
fn settings(args: &CheckArgs, dir: Option<&Path>, findings: &mut Findings, look: &Look) -> Settings {
    let text = dir.and_then(|dir| std::fs::read(dir.join(SETTINGS)).ok()).unwrap_or_default();
    let text = Text { file: SETTINGS, text: &text };
    let below = match settings::read(text) {
        Ok(written) => written.settle(Settings::default()),
        Err(diagnostics) => {
            findings.diagnostics(&diagnostics, &[text], look);
            Settings::default()
        }
    };
    over(args, below)
}

fn over(args: &CheckArgs, below: Settings) -> Settings {
    let mut given = args.settings.given();
    given.shutdown_timeout = args.shutdown_timeout;
    given.over(below)
}

/// What is wrong, one line each, and the same drawn with excerpts.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    text: String,
    /// Columns to keep to; none in a pipe.
    width: Option<usize>,
}

/// One finding, gone on beneath itself where it is too long.
fn shown(word: &str, line: &str, width: Option<usize>) -> String {
    let line = format!("{word}: {}", crate::model::text::clean(line));
    forecast::folded(&line, 2, width) + "\n"
}

impl Findings {
    fn error(&mut self, line: String) {
        self.text.push_str(&shown("error", line.lines().next().unwrap_or_default(), self.width));
        self.errors.push(line);
    }

    fn warning(&mut self, line: String) {
        self.text.push_str(&shown("warning", &line, self.width));
        self.warnings.push(line);
    }

    fn diagnostics(&mut self, diagnostics: &[manifest::Diagnostic], texts: &[Text<'_>], look: &Look) {
        if diagnostics.is_empty() {
            return;
        }
        for diagnostic in diagnostics {
            match diagnostic.severity {
                Severity::Error => self.errors.push(diagnostic.one_line()),
                Severity::Warning => self.warnings.push(diagnostic.one_line()),
            }
        }
        self.text.push_str(&manifest::render(diagnostics, texts, look.color, look.width.unwrap_or(WIDTH)));
        self.text.push('\n');
    }
}

/// Columns of an excerpt in a pipe.
const WIDTH: usize = 100;

/// Who owns which name, and which scripts are withheld, is remembered by the node of the directory.
fn memory(dir: &Path, told: Option<&Value>, args: &CheckArgs, session: &Session) -> Store {
    // A directory that was named may be another one than the node's.
    let mut global = session.global.clone();
    let told = told.filter(|_| args.files.is_empty());
    if !args.files.is_empty() {
        global.dir = Some(dir.to_path_buf());
    }
    node::memory(told, &global).map_or_else(Store::none, |path| Store::look(&path))
}

/// The directory as a controller would read it.
fn read_directory(
    dir: &Path,
    settings: &Settings,
    memory: Store,
    findings: &mut Findings,
    session: &Session,
) -> Result<Declared, Fault> {
    let loaded = directory::load(dir, settings, memory).map_err(|error| Fault::path("read", dir, error))?;
    let mut found = Declared {
        declared: loaded.declarations,
        problems: loaded.problems,
        named: loaded.named,
        ..Declared::default()
    };
    for invalid in loaded.invalid {
        let said = findings.errors.len();
        if let Some((main, rest)) = invalid.sources.split_first() {
            // Read once more for the excerpts: a directory tells what is wrong, a terminal shows where.
            let texts: Vec<Text<'_>> =
                invalid.sources.iter().map(|source| Text { file: &source.file, text: &source.text }).collect();
            let (defaults, drop_ins): (Vec<_>, Vec<_>) =
                texts[1..=rest.len()].iter().copied().partition(|text| text.file == DEFAULTS);
            let reading =
                Reading { main: texts[0], stem: stem(&main.file), dir, defaults: defaults.first().copied(), drop_ins };
            if let Err(refused) = manifest::read_named(&reading, &dir.join(&main.file)) {
                findings.diagnostics(&refused.diagnostics, &texts, &session.look);
            }
        }
        // Refused for another reason than its text: an owner, a size, a variable that is missing.
        if findings.errors.len() == said {
            let message = invalid.rejection.as_ref().map(|one| format!("{}: {}", one.source.file, one.message));
            findings.error(message.unwrap_or_else(|| format!("{} makes no service", invalid.file)));
        }
        found.rejected.extend(invalid.rejection);
    }
    // What was in force of a refused file goes on: that is told of the refusal.
    found.declared.retain(|one| found.rejected.iter().all(|refused| refused.name != one.spec.name));
    for problem in &found.problems {
        if !problem.is_fault() {
            findings.warning(problem.message.clone());
            continue;
        }
        let told = findings.errors.iter().any(|error| error.starts_with(&format!("{}:", problem.file)));
        if !told {
            findings.error(format!("{}: {}: {}", problem.file, problem.reason, problem.message));
        }
    }
    directory::bystanders(dir).into_iter().for_each(|told| findings.warning(told));
    for script in loaded.withheld {
        findings.warning(format!("{script} starts again when it is written again: its manifest was deleted"));
    }
    Ok(found)
}

/// Single files: what each would declare in the node's directory, as far as text alone tells.
fn read_files(args: &CheckArgs, node: Option<&Node>, findings: &mut Findings, session: &Session) -> Declared {
    let files = &args.files;
    let mut found = Declared::default();
    let home = node.and_then(|node| std::path::absolute(node.dir().ok()?).ok());
    let owners: Vec<Option<PathBuf>> = files.iter().map(|path| company::owner(path)).collect();
    for (path, owner) in files.iter().zip(&owners) {
        // A drop-in is what it makes of its manifest.
        let path = owner.as_ref().unwrap_or(path);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let dir = home.as_deref().or(absolute.parent()).unwrap_or(Path::new("/"));
        let shown = path.display().to_string();
        let declared = match lint(path, &shown, dir, findings, &session.look) {
            Ok(declared) => declared,
            // The others are looked at all the same.
            Err(error) => {
                findings.error(format!("{shown}: {}", fault::plain(&error)));
                None
            }
        };
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // What lies beside a file is what it would be put in place with.
        let beside = absolute.parent().filter(|_| shown != "-").unwrap_or(dir);
        let mut settings = over(args, effective::written(beside));
        if dir != beside {
            settings.wrappers.extend([dir.to_path_buf(), dir.join("wrappers")]);
        }
        for mut declaration in declared.unwrap_or_default() {
            if let Program::Wrapper(_) = declaration.spec.process.program {
                declaration.program = directory::resolve_one(&declaration.spec, beside, &settings);
            }
            named::of_declaration(&declaration).into_iter().for_each(|one| found.named.add(&file, one));
            declaration.source.file.clone_from(&file);
            found.declared.push(declaration);
        }
    }
    found
}

/// Reads one manifest, or the head of a program, and notes what is wrong; none where it is invalid.
fn lint(
    path: &Path,
    shown: &str,
    dir: &Path,
    findings: &mut Findings,
    look: &Look,
) -> std::io::Result<Option<Vec<Declaration>>> {
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    let text = directory::read_handed(path)?;
    let main = Text { file: shown, text: &text };
    if path.file_name().is_some_and(|name| name == DEFAULTS) {
        let wrong = manifest::check_defaults(main);
        if wrong.is_empty() {
            super::say(&format!(
                "{shown} is part of every manifest beside it; `plugd check` tells what becomes of them"
            ));
        }
        findings.diagnostics(&wrong, &[main], look);
        return Ok(Some(Vec::new()));
    }
    let stem = if shown == "-" { "stdin" } else { stem(shown) };
    let company = Company::of(dir, stem);
    let texts = company.texts(main);
    match manifest::read_named(&company.reading(main, stem, dir), &std::path::absolute(path)?) {
        Ok(documents) => {
            let source = Source { file: shown.into(), sha256: digest::short(&text) };
            let mut declared = Vec::new();
            for mut document in documents {
                findings.diagnostics(&document.warnings, &texts, look);
                crate::edge::zones::of_this_machine(&mut document.spec);
                declared.push(Declaration {
                    spec: Arc::new(document.spec),
                    source: source.clone(),
                    program: Resolved::Found { wrapper: None, content: Digest::default() },
                    watched: Watched::default(),
                    problems: Vec::new(),
                });
            }
            Ok(Some(declared))
        }
        Err(refused) => {
            findings.diagnostics(&refused.diagnostics, &texts, look);
            Ok(None)
        }
    }
}

/// Says no, with excerpts, to a text that is no valid manifest, and no script where the file is one; before it is
/// written anywhere. It is read with what lies beside it; what is wrong there is no fault of this text.
pub fn refuse_invalid(file: &str, text: &[u8], dir: &Path, session: &Session) -> Result<(), Fault> {
    let main = Text { file, text };
    let company = Company::of(dir, stem(file));
    let path = dir.join(file);
    if !manifest::is_manifest(&path) && !manifest::is_program(text) {
        let wrong = directory::no_program(file, text);
        return Err(Fault::Invalid(format!("{file} is invalid and is not put in place: {wrong}")));
    }
    let is_own = |one: &Diagnostic| one.file == file && one.severity == Severity::Error;
    match manifest::read_named(&company.reading(main, stem(file), dir), &path) {
        Ok(_) => Ok(()),
        Err(refused) if !refused.diagnostics.iter().any(is_own) => Ok(()),
        Err(refused) => {
            let (look, texts) = (&session.look, company.texts(main));
            let drawn = manifest::render(&refused.diagnostics, &texts, look.color, look.width.unwrap_or(WIDTH));
            Err(Fault::Invalid(format!("{file} is invalid and is not put in place\n{}", drawn.trim_end())))
        }
    }
}

/// The name of a service that writes none.
fn stem(file: &str) -> &str {
    Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// What the node runs of the declared ones. `dir`: all of them are what lies there, held against the
/// node as if it lay in its directory.
fn running(node: &Node, found: &mut Declared, dir: Option<&Path>) -> Result<Running, Fault> {
    let snapshot = node.snapshot()?;
    let mut running = Running::default();
    for one in &mut found.declared {
        if let Some(dir) = dir {
            one.spec = moved(&one.spec, &std::path::absolute(dir)?, &std::path::absolute(node.dir()?)?);
        }
        let Some(view) = snapshot.services.get(&one.spec.name) else { continue };
        let known = view.manifest.declares.or(view.manifest.runs);
        if let (None, Some(known), Resolved::Found { content, .. }) = (dir, known, &mut one.program) {
            // What lies beside a single file, and in its folders, is taken to be what it is now.
            *content = known.content;
        }
        // Only where it differs does it matter what changed.
        if change(one, view) != Change::Nothing {
            let object = node.object(&one.spec.name).ok();
            let spec = object.and_then(|object: Value| object.get("spec").cloned());
            running.specs.extend(spec.map(|spec| (one.spec.name.clone(), spec)));
        }
    }
    running.snapshot = Some(snapshot);
    Ok(running)
}

/// What the same manifest means in another directory.
fn moved(spec: &Arc<Spec>, from: &Path, to: &Path) -> Arc<Spec> {
    if from == to {
        return spec.clone();
    }
    let mut spec = Spec::clone(spec);
    let files = spec.process.env.iter_mut().filter_map(|(_, value)| match value {
        EnvValue::File(file) => Some(file),
        EnvValue::Literal(_) | EnvValue::FromEnv(_) => None,
    });
    let files = files.chain(spec.process.env_from.iter_mut().map(|from| &mut from.file));
    let wrapper = match &mut spec.process.program {
        Program::Wrapper(wrapper) => Some(&mut wrapper.path),
        Program::Command(_) | Program::Script(_) | Program::External(_) => None,
    };
    for path in files.chain(&mut spec.process.working_dir).chain(&mut spec.logs.path).chain(wrapper) {
        if let Ok(rest) = path.strip_prefix(from) {
            *path = to.iter().chain(rest).collect();
        }
    }
    (spec.digest, spec.process_digest) = digest::of(&spec);
    Arc::new(spec)
}
