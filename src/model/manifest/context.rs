//! One reading under way: its texts, and what was found wrong in them.

use crate::model::yaml::{Fault, Place};

use super::Text;
use super::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity};

#[derive(Debug)]
pub struct Context<'a> {
    /// By the number that a place carries.
    pub files: Vec<Text<'a>>,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
}

impl<'a> Context<'a> {
    pub fn new(files: Vec<Text<'a>>) -> Context<'a> {
        Context { files, diagnostics: Vec::new(), errors: 0 }
    }

    pub fn error(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.errors += 1;
        self.note(Severity::Error, place, message.into(), remedy.into());
    }

    pub fn warning(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.note(Severity::Warning, place, message.into(), remedy.into());
    }

    pub fn fault(&mut self, fault: Fault) {
        self.error(&fault.place, fault.message, fault.remedy.unwrap_or_default());
    }

    /// Nothing more is kept: looking for remedies is time lost.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX
    }

    pub fn failed(&self) -> bool {
        self.errors > 0
    }

    /// What the source spells at a place.
    pub fn source(&self, place: &Place) -> &'a str {
        let bytes = self.files.get(place.file).and_then(|file| file.text.get(place.bytes.clone())).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    pub fn file(&self, place: &Place) -> &'a str {
        self.files.get(place.file).map_or("", |file| file.file)
    }

    /// In the order of the files, then of their lines.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        let order = |name: &str| self.files.iter().position(|file| file.file == name);
        self.diagnostics.sort_by_key(|diagnostic| (order(&diagnostic.file), diagnostic.bytes.start));
        if let (Some(last), true) = (self.diagnostics.last_mut(), self.errors > DIAGNOSTICS_MAX) {
            last.message.push_str(&format!(" (and {} more mistakes)", self.errors - DIAGNOSTICS_MAX));
        }
        self.diagnostics
    }

    fn note(&mut self, severity: Severity, place: &Place, message: String, remedy: String) {
        if self.is_full() {
            return;
        }
        self.diagnostics.push(Diagnostic {
            severity,
            file: self.file(place).to_owned(),
            line: place.line.max(1),
            col: place.col.max(1),
            bytes: place.bytes.clone(),
            message,
            remedy: Some(remedy).filter(|remedy| !remedy.is_empty()),
        });
    }
}
