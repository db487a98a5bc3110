//! `plugd wait`: returns as soon as the fact is there, by the watch stream, never by polling.

use std::time::Instant;

use super::args::{WaitArgs, WaitFor};
use super::fault::{Code, Fault};
use super::jsonpath::JsonPath;
use super::node::Node;
use super::ready::{self, Who};
use super::{Session, get, row, select};
use crate::model::name::Instance;
use crate::model::view::{ServiceView, Snapshot};

/// Services named in a message about who is not ready.
const NAMED_MAX: usize = 5;

pub fn wait(args: &WaitArgs, session: &Session) -> Result<Code, Fault> {
    let deadline = Instant::now() + args.timeout;
    let node = Node::open_until(&session.global, deadline)?;
    let path = match &args.what {
        WaitFor::JsonPath(path, _) => {
            Some(JsonPath::parse(path).map_err(|error| Fault::usage(error.to_string(), "see `plugd wait --help`"))?)
        }
        WaitFor::Ready | WaitFor::Deleted => None,
    };
    if args.names.is_empty() && args.what != WaitFor::Ready {
        return Err(Fault::usage("--for=deleted and --for=jsonpath need names", "name the services that are meant"));
    }
    let mut watching = node.watch()?;
    let done = watching.until(Some(deadline), |known| {
        let done = match (&args.what, &path) {
            (WaitFor::Ready, _) => is_ready(known, &args.names, args.all),
            (WaitFor::Deleted, _) => args.names.iter().all(|name| !known.services.contains_key(name.as_str())),
            (WaitFor::JsonPath(_, value), Some(path)) => args.names.iter().all(|name| {
                known.services.get(name.as_str()).is_some_and(|view| {
                    let found = found(path, view, &node);
                    match value {
                        Some(value) => found.as_ref() == Some(value),
                        None => found.is_some(),
                    }
                })
            }),
            (WaitFor::JsonPath(..), None) => false,
        };
        Ok(done.then_some(()))
    })?;
    match (done, watching.known()) {
        (Some(()), _) => Ok(Code::Done),
        (None, Some(known)) => Err(late(args, known)),
        (None, None) => Err(Fault::Unreachable { node: "this machine".into(), detail: String::new() }),
    }
}

fn found(path: &JsonPath, view: &ServiceView, node: &Node) -> Option<String> {
    if path.wants_object() {
        path.render(&node.get(&format!("/v1/services/{}?form=object", view.service)).ok()?)
    } else {
        path.render(&get::item(view))
    }
}

/// Named ones, or the whole node by its rule.
pub fn is_ready(known: &Snapshot, names: &[String], all: bool) -> bool {
    if names.is_empty() {
        let who = if all { Who::All } else { Who::Required };
        return ready::missing(known, who).is_some_and(|missing| missing.is_empty());
    }
    names.iter().all(|name| match Instance::parse(name) {
        None => known.services.get(name.as_str()).is_some_and(|view| ready::is_ready(view)),
        Some(one) => known
            .services
            .get(&one.service)
            .is_some_and(|view| view.instances.iter().any(|instance| instance.name == *name && instance.ready)),
    })
}

/// The time is up: who is missing, and why. Asked to look once (`--timeout 0`), that is no timeout.
fn late(args: &WaitArgs, known: &Snapshot) -> Fault {
    if args.what != WaitFor::Deleted
        && let Some(fault) = args
            .names
            .iter()
            .filter(|name| Instance::parse(name).is_none())
            .find_map(|name| select::find(known, name).err())
    {
        return fault;
    }
    let views: Vec<_> = if args.names.is_empty() {
        ready::missing(known, if args.all { Who::All } else { Who::Required }).unwrap_or_default()
    } else {
        known
            .services
            .values()
            .filter(|view| args.names.iter().any(|name| name == view.service.as_str()))
            .cloned()
            .collect()
    };
    let not_yet: Vec<_> = views.iter().filter(|view| args.what != WaitFor::Ready || !ready::is_ready(view)).collect();
    let mut said: Vec<String> = not_yet
        .iter()
        .take(NAMED_MAX)
        .map(|view| format!("{} is {}", view.service, row::word(view.status, view.reason)))
        .collect();
    if not_yet.len() > NAMED_MAX {
        said.push(format!("{} more", not_yet.len() - NAMED_MAX));
    }
    let what = if said.is_empty() { "the node is not ready".to_string() } else { said.join(", ") };
    match not_yet.first() {
        Some(view) if args.timeout.is_zero() => {
            Fault::NotReady { service: view.service.to_string(), status: row::word(view.status, view.reason) }
        }
        Some(view) => {
            Fault::TimedOut { what, after: args.timeout, next: format!("`plugd status {}` tells why", view.service) }
        }
        None => Fault::TimedOut { what, after: args.timeout, next: "`plugd get` tells why".into() },
    }
}
