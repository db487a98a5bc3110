//! Manifests: text in, a [`Spec`] or diagnostics with places and remedies out.
//!
//! The trip of a manifest: `yaml` makes one span tree of each text; `merge` lays the defaults under
//! it and the drop-ins over it; `decode` reads it by the table of fields and notes every mistake;
//! `assemble` makes the spec and `rules` checks what fields mean together. The table (`fields` says
//! how a field is described, `table` lists them) is also the source of the JSON Schema and of
//! `plugd explain`.
//!
//! Nothing here touches the disk: texts come in, and files that a manifest names are only named.

use std::collections::BTreeMap;
use std::path::Path;

use super::name::Name;
use super::spec::{Pass, Spec};

mod assemble;
mod command;
mod context;
mod decode;
mod diagnostic;
mod envelope;
mod explain;
mod fields;
mod given;
mod guess;
mod merge;
pub mod print;
mod probes;
mod rules;
mod schema;
mod script;
mod settings;
mod table;

pub use assemble::{assumed, assumed_process, takes_given_port};
pub use diagnostic::{Diagnostic, Severity, nearest, render, shown};
pub use explain::{explain, field_names, setting_names};
pub use guess::{names, wrapper_mentions};
pub use schema::schema;
pub use script::{from_script, has_block, is_manifest, is_program, read_named};
pub(super) use settings::{Values, read as read_settings, value as read_setting};

/// What there is to say of MCP servers until they can be run.
macro_rules! no_stdio_mcp {
    () => {
        "an MCP server on stdin cannot be run by this version yet"
    };
}
pub(crate) use no_stdio_mcp;

/// A text and the name under which a person knows its file.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    pub file: &'a str,
    pub text: &'a [u8],
}

/// One manifest and all that takes part in what it means.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    pub main: Text<'a>,
    /// The file's name without its ending: the name of a service that writes none.
    pub stem: &'a str,
    /// The manifest's directory, absolute; paths in it are relative to this.
    pub dir: &'a Path,
    /// `_defaults.yaml`.
    pub defaults: Option<Text<'a>>,
    /// `NAME.yaml.d/*.yaml`, in lexical order.
    pub drop_ins: Vec<Text<'a>>,
}

/// One valid service.
#[derive(Debug, Clone)]
pub struct Document {
    pub spec: Spec,
    pub warnings: Vec<Diagnostic>,
    /// Which file each written value came from, by its path: `restart.backoff.max`.
    pub origins: BTreeMap<String, String>,
}

/// A file that makes no service.
#[derive(Debug, Clone)]
pub struct Refused {
    /// As far as it could be read, else from the stem; none where neither is a name.
    pub name: Option<Name>,
    pub required: bool,
    /// At least one error; warnings too.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a manifest: one service, or several in the Kubernetes form. All or nothing.
pub fn read(reading: &Reading<'_>) -> Result<Vec<Document>, Refused> {
    envelope::read(reading, None)
}

/// What is wrong with a `_defaults.yaml` by itself.
pub fn check_defaults(defaults: Text<'_>) -> Vec<Diagnostic> {
    envelope::check_defaults(defaults)
}

/// The port that one instance listens on: `port + index`, or as many above the private port that it was given.
/// Instances that are handed one listening socket share its port.
pub fn instance_port(process: &super::spec::Process, index: u32) -> Option<u16> {
    if process.on_demand == Some(Pass::Socket) {
        return process.port;
    }
    process.private_port.or(process.port)?.checked_add(u16::try_from(index).ok()?)
}
