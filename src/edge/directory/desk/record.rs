//! What is in force of one file, and what was refused of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::disk::Stamp;
use super::super::owners::Kind;
use super::super::parse::Refusal;
use super::super::resolve::Resolution;
use super::super::trust::Finding;
use super::told::{Bad, Good};
use crate::controller::{Resolved, Source};
use crate::model::name::Name;
use crate::model::reason::Reason;
use crate::model::spec::Spec;
use crate::model::view::FileProblem;

#[derive(Debug)]
pub struct Record {
    pub kind: Kind,
    pub stamp: Option<Stamp>,
    pub sha: String,
    /// Of what is in force, where the file was refused since.
    pub good_sha: Option<String>,
    /// Bytes of its last good version in `state.db`.
    pub kept: usize,
    pub trust: Option<Finding>,
    pub services: Vec<Service>,
    pub refused: Option<Refusal>,
    /// Scripts that it names.
    pub mentions: Box<[String]>,
    /// Read it again though it has not changed: something that it is read with has.
    pub stale: bool,
    pub links: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Service {
    pub spec: Arc<Spec>,
    pub warnings: Vec<(Reason, String)>,
    pub resolution: Resolution,
    /// From which file and line each value came; kept where the desk looks once, to print it.
    pub origins: Option<BTreeMap<String, String>>,
}

impl Service {
    pub fn is_found(&self) -> bool {
        matches!(self.resolution.resolved, Resolved::Found { .. })
    }
}

impl Record {
    pub fn new(kind: Kind, stamp: Option<Stamp>, sha: String) -> Record {
        Record {
            kind,
            stamp,
            sha,
            good_sha: None,
            kept: 0,
            trust: None,
            services: Vec::new(),
            refused: None,
            mentions: Box::default(),
            stale: false,
            links: Vec::new(),
        }
    }

    pub fn dependencies(&self) -> impl Iterator<Item = &PathBuf> {
        self.links.iter().chain(self.services.iter().flat_map(|service| &service.resolution.watched))
    }

    pub fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.services.iter().flat_map(|service| &service.resolution.folders)
    }

    pub fn mentions(&self) -> &[String] {
        &self.mentions
    }

    /// Whether it was read when the file was this.
    pub fn is_of(&self, stamp: &Stamp) -> bool {
        !self.stale && self.stamp.as_ref() == Some(stamp)
    }

    /// The version in force of this name.
    pub fn good(&self, file: &str, name: &Name, conflicts: &[FileProblem]) -> Option<Good> {
        let service = self.services.iter().find(|service| service.spec.name == *name)?;
        let sha256 = self.good_sha.as_ref().filter(|_| self.refused.is_some()).unwrap_or(&self.sha).clone();
        let warnings = service.warnings.iter().chain(&service.resolution.warnings).cloned();
        let problems = warnings.chain(conflicts.iter().map(|problem| (problem.reason, problem.message.clone())));
        Some(Good {
            spec: service.spec.clone(),
            source: Source { file: file.to_string(), sha256 },
            program: service.resolution.resolved.clone(),
            watched: service.resolution.of_watched.clone(),
            problems: problems.collect(),
        })
    }

    /// Why what is in the file now is not in force.
    pub fn bad(&self, file: &str) -> Option<Box<Bad>> {
        let Refusal { reason, message, required, file: wrong, .. } = self.refused.as_ref()?;
        let source = Source { file: file.to_string(), sha256: self.sha.clone() };
        let file = wrong.clone().unwrap_or_else(|| file.to_string());
        Some(Box::new(Bad { source, reason: *reason, message: message.clone(), file, required: *required }))
    }
}
