//! Which services are meant: names, instances, labels, capabilities.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use super::row::nearest;
use crate::model::name::{Instance, Name};
use crate::model::view::{ServiceView, Snapshot};

/// Words that people of Kubernetes write after `get`; they mean all, unless a service has that name.
const KINDS: &[&str] =
    &["pod", "pods", "po", "service", "services", "svc", "deploy", "deployment", "deployments", "job", "jobs", "all"];

/// `Deployment`, `pods`.
pub fn is_kind(word: &str) -> bool {
    KINDS.contains(&word.to_ascii_lowercase().as_str())
}

/// One term of `-l`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Term {
    /// `k=v`, `k==v`, `k!=v`, `k`, `!k`.
    pub fn parse(text: &str) -> Term {
        if let Some((key, value)) = text.split_once("!=") {
            Term::IsNot(key.into(), value.into())
        } else if let Some((key, value)) = text.split_once('=') {
            Term::Is(key.into(), value.trim_start_matches('=').into())
        } else if let Some(key) = text.strip_prefix('!') {
            Term::HasNot(key.into())
        } else {
            Term::Has(text.into())
        }
    }

    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        }
    }
}

/// What `get` is asked to show.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Empty: all.
    pub names: Vec<String>,
    pub terms: Vec<Term>,
    pub capability: Option<String>,
}

impl Selection {
    pub fn new(names: &[String], selector: &[String], capability: Option<&str>) -> Selection {
        Selection {
            names: names.to_vec(),
            terms: selector.iter().map(|text| Term::parse(text.trim())).collect(),
            capability: capability.map(Into::into),
        }
    }

    /// Takes a leading `pods` away where no service has that name.
    pub fn without_kind(mut self, snapshot: &Snapshot) -> Selection {
        let is_kind = |name: &String| KINDS.contains(&name.as_str()) && !snapshot.services.contains_key(name.as_str());
        if self.names.first().is_some_and(is_kind) {
            self.names.remove(0);
        }
        self
    }

    /// Nothing narrows it: files that make no service are shown, too.
    pub fn is_all(&self) -> bool {
        self.names.is_empty() && self.terms.is_empty() && self.capability.is_none()
    }

    pub fn holds(&self, view: &ServiceView) -> bool {
        (self.names.is_empty() || self.names.iter().any(|name| name == view.service.as_str()))
            && self.terms.iter().all(|term| term.holds(&view.labels))
            && self.capability.as_ref().is_none_or(|wanted| view.capabilities.contains(wanted))
    }

    /// The views that are meant; a name that is not known is a fault.
    pub fn pick(&self, snapshot: &Snapshot) -> Result<Vec<Arc<ServiceView>>, Fault> {
        for name in &self.names {
            find(snapshot, name)?;
        }
        Ok(snapshot.services.values().filter(|view| self.holds(view)).cloned().collect())
    }
}

/// `deploy/web`, as people of Kubernetes write, is web: the one cut for all verbs, made where their words are read.
/// With a number it is an instance of a service that bears the kind's name.
pub fn bare(text: String) -> String {
    match text.split_once('/') {
        Some((kind, name)) if KINDS.contains(&kind) && !name.bytes().all(|byte| byte.is_ascii_digit()) => name.into(),
        Some(_) | None => text,
    }
}

/// `pod web` is web; unless a service bears the kind's name.
pub fn plain(snapshot: &Snapshot, names: &[String]) -> Vec<String> {
    let is_kind = |word: &str| KINDS.contains(&word) && !snapshot.services.contains_key(word);
    match names {
        [kind, rest @ ..] if !rest.is_empty() && is_kind(kind) => rest.to_vec(),
        names => names.to_vec(),
    }
}

/// The service of that name.
pub fn find<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Arc<ServiceView>, Fault> {
    snapshot.services.get(name).ok_or_else(|| not_found(snapshot, name))
}

fn not_found(snapshot: &Snapshot, name: &str) -> Fault {
    let instance = Instance::parse(name).filter(|known| snapshot.services.contains_key(&known.service));
    match instance {
        Some(Instance { service, .. }) => Fault::Missing {
            what: format!("{name} is one instance, and this verb takes whole services"),
            next: format!("write {service}; `plugd status {name}` and `plugd logs {name}` tell of the one"),
        },
        None if name == "all" => Fault::Missing {
            what: "no service is named all".into(),
            next: "where all can be meant, `--all` or no name at all means it".into(),
        },
        None if super::grammar().find_subcommand(name).is_some_and(|verb| !verb.is_hide_set()) => Fault::Missing {
            what: format!("no service is named {name}"),
            next: format!("`plugd {name}` is a verb by itself; `plugd get` lists the services"),
        },
        None => Fault::NoSuchService { name: name.into(), nearest: nearest(name, snapshot.services.keys()) },
    }
}

/// A service or one of its instances: `orders`, `orders/1`.
pub fn find_instance<'s>(snapshot: &'s Snapshot, text: &str) -> Result<(&'s Arc<ServiceView>, Option<u32>), Fault> {
    let Some(instance) = Instance::parse(text) else { return Ok((find(snapshot, text)?, None)) };
    let view = find(snapshot, instance.service.as_str())?;
    if instance.index >= 1 && view.instances.iter().all(|known| known.name != text) {
        let names: Vec<&str> = view.instances.iter().map(|known| known.name.as_str()).collect();
        return Err(Fault::Missing {
            what: format!("{} has no instance {}", view.service, instance.index),
            next: format!("it has {}", if names.is_empty() { "none now".into() } else { names.join(", ") }),
        });
    }
    Ok((view, Some(instance.index)))
}

/// The names of an order: those written, or all.
pub fn names(snapshot: &Snapshot, names: &[String], all: bool) -> Result<Vec<Name>, Fault> {
    if all {
        return Ok(snapshot.services.keys().cloned().collect());
    }
    plain(snapshot, names).iter().map(|name| find(snapshot, name).map(|view| view.service.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_before_a_name_is_cut_off_and_an_instance_is_not() {
        for (written, meant) in [
            ("deploy/web", "web"),
            ("pod/web/1", "web/1"),
            ("svc/9lives", "9lives"),
            ("job/0", "job/0"),
            ("web/1", "web/1"),
            ("web", "web"),
            ("deploy/", "deploy/"),
        ] {
            assert_eq!(bare(written.into()), meant);
        }
    }

    #[test]
    fn labels_are_matched_as_kubectl_does() {
        let labels = BTreeMap::from([("app".to_string(), "shop".to_string())]);
        for (term, holds) in [
            ("app=shop", true),
            ("app==shop", true),
            ("app!=shop", false),
            ("app", true),
            ("!app", false),
            ("tier", false),
        ] {
            assert_eq!(Term::parse(term).holds(&labels), holds, "{term}");
        }
    }
}
