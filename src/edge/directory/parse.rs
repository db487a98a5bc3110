//! From the bytes of one file to the services it declares, or to why it declares none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::desk::DEFAULTS;
use crate::model::manifest::{self, Diagnostic, Document, Reading, Refused, Severity, Text, no_stdio_mcp};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::{Program, Spec};

/// What surrounds a manifest: it is read together with these.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    pub defaults: Option<OwnedText>,
    pub drop_ins: Vec<OwnedText>,
    /// Drop-ins that take no part, and why.
    pub left_out: Vec<(Reason, String)>,
    /// Why nothing may be read without the defaults that should be there.
    pub lacking: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedText {
    pub file: String,
    pub text: Vec<u8>,
}

impl OwnedText {
    pub fn borrowed(&self) -> Text<'_> {
        Text { file: &self.file, text: &self.text }
    }
}

impl Context {
    /// What is valid, unless something is lacking that might have changed it.
    fn complete(&self, parsed: Vec<Parsed>) -> Result<Vec<Parsed>, Refusal> {
        let Some(lacking) = self.lacking else { return Ok(parsed) };
        let name = parsed.first().map(|parsed| parsed.spec.name.clone());
        let required = parsed.iter().any(|parsed| parsed.spec.required);
        let refusal = Refusal::of_file(Reason::ConfigInvalid, lacking.to_string());
        Err(Refusal { file: Some(DEFAULTS.to_string()), name, required, ..refusal })
    }
}

/// A valid document.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub spec: Arc<Spec>,
    /// From which file and line each value came.
    pub origins: BTreeMap<String, String>,
    pub warnings: Vec<(Reason, String)>,
}

/// Why a file declares nothing new.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub reason: Reason,
    pub message: String,
    /// The file that is wrong, where that is another one than was looked at.
    pub file: Option<String>,
    /// The name that is meant, where it can be used. None: the file makes no service.
    pub name: Option<Name>,
    pub required: bool,
    pub diagnostics: Vec<Diagnostic>,
    /// What was read, for excerpts.
    pub sources: Vec<OwnedText>,
}

impl Refusal {
    /// A file that makes no service at all: it stands among the node's problems.
    pub fn of_file(reason: Reason, message: String) -> Refusal {
        Refusal {
            reason,
            message,
            file: None,
            name: None,
            required: false,
            diagnostics: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// A manifest whose name can be used: it has a status of its own.
    pub fn of_service(stem: &str, reason: Reason, message: String) -> Refusal {
        Refusal { name: Name::parse(stem).ok(), ..Refusal::of_file(reason, message) }
    }
}

impl Refusal {
    /// Of a text that not everybody may read only places are told: a link can lead anywhere, and what
    /// is told of a manifest is told to more people than may read the file.
    pub fn without_quotes(mut self, target: &Path) -> Refusal {
        if self.diagnostics.is_empty() {
            return self;
        }
        for diagnostic in &mut self.diagnostics {
            diagnostic.message = "this is not as a manifest is written".to_string();
            diagnostic.remedy = None;
        }
        self.diagnostics.dedup_by_key(|diagnostic| (diagnostic.line, diagnostic.col));
        let target = target.display();
        self.message = format!(
            "{}\nit leads to {target}, which not everybody may read: nothing of it is quoted",
            lines(&self.diagnostics)
        );
        self.sources = Vec::new();
        self
    }
}

/// What there is to do with MCP servers.
pub(super) const NO_STDIO_MCP: &str = concat!(
    no_stdio_mcp!(),
    ", in whatever file it stands; for one that listens on a port write a manifest with `command` and `port`"
);

/// Reads a manifest. Also returns the file names of the scripts that it names, valid or not.
pub(super) fn manifest(
    file: &str,
    stem: &str,
    dir: &Path,
    bytes: &[u8],
    context: &Context,
) -> (Result<Vec<Parsed>, Refusal>, Box<[String]>) {
    if file.ends_with(".json") && is_mcp_servers(bytes) {
        let message = format!("{file}: `mcpServers` files are not supported yet; {NO_STDIO_MCP}");
        return (Err(Refusal::of_file(Reason::NotYetSupported, message)), Box::default());
    }
    let reading = reading(file, stem, dir, bytes, context);
    let base = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match manifest::read(&reading) {
        Ok(documents) => {
            let parsed: Vec<Parsed> = documents.into_iter().map(parsed).collect();
            let named = parsed.iter().filter_map(|parsed| match &parsed.spec.process.program {
                Program::Wrapper(wrapper) => base(&wrapper.path),
                Program::Command(words) => words.first().and_then(|word| base(Path::new(word))),
                Program::Script(_) | Program::External(_) => None,
            });
            let named = named.collect();
            (context.complete(parsed), named)
        }
        Err(refused) => {
            let named = manifest::wrapper_mentions(&reading).iter().filter_map(|path| base(path)).collect();
            (Err(refusal(file, bytes, context, refused)), named)
        }
    }
}

/// Reads the manifest in a script's head; `None`: it is no service by itself.
pub(super) fn script(
    file: &str,
    stem: &str,
    dir: &Path,
    head: &[u8],
    context: &Context,
) -> Result<Option<Parsed>, Refusal> {
    match manifest::from_script(&reading(file, stem, dir, head, context), &dir.join(file)) {
        Ok(None) => Ok(None),
        Ok(Some(document)) => Ok(context.complete(vec![parsed(document)])?.pop()),
        Err(refused) => Err(refusal(file, head, context, refused)),
    }
}

fn reading<'a>(file: &'a str, stem: &'a str, dir: &'a Path, text: &'a [u8], context: &'a Context) -> Reading<'a> {
    Reading {
        main: Text { file, text },
        stem,
        dir,
        defaults: context.defaults.as_ref().map(OwnedText::borrowed),
        drop_ins: context.drop_ins.iter().map(OwnedText::borrowed).collect(),
    }
}

/// What is wrong with `_defaults.yaml`, if it cannot be used.
pub(super) fn defaults_fault(defaults: &OwnedText) -> Option<String> {
    let mut errors = manifest::check_defaults(defaults.borrowed());
    errors.retain(|diagnostic| diagnostic.severity == Severity::Error);
    (!errors.is_empty()).then(|| lines(&errors))
}

fn parsed(document: Document) -> Parsed {
    // It is in force all the same; one problem of each kind is told.
    let warnings = match document.warnings.as_slice() {
        [] => Vec::new(),
        warnings => vec![(Reason::ConfigSuspicious, lines(warnings))],
    };
    let mut spec = document.spec;
    crate::edge::zones::of_this_machine(&mut spec);
    Parsed { spec: Arc::new(spec), origins: document.origins, warnings }
}

fn refusal(file: &str, bytes: &[u8], context: &Context, refused: Refused) -> Refusal {
    let own = OwnedText { file: file.to_string(), text: bytes.to_vec() };
    let sources = [own].into_iter().chain(context.defaults.clone()).chain(context.drop_ins.iter().cloned()).collect();
    Refusal {
        reason: if refused.name.is_none() { Reason::NameInvalid } else { Reason::ConfigInvalid },
        message: lines(&refused.diagnostics),
        file: refused.diagnostics.first().map(|first| first.file.clone()).filter(|wrong| wrong != file),
        name: refused.name,
        required: refused.required,
        diagnostics: refused.diagnostics,
        sources,
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    /// A status has room for three; `plugd check` shows all.
    const SHOWN: usize = 3;
    let mut lines: Vec<String> = diagnostics.iter().take(SHOWN).map(Diagnostic::one_line).collect();
    if diagnostics.len() > SHOWN {
        lines.push(format!("and {} more; `plugd check` shows them", diagnostics.len() - SHOWN));
    }
    lines.join("\n")
}

/// Top level `mcpServers` (Claude, Cursor) or `servers` (VS Code).
fn is_mcp_servers(bytes: &[u8]) -> bool {
    let top = serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(bytes);
    top.is_ok_and(|top| top.contains_key("mcpServers") || top.contains_key("servers"))
}
