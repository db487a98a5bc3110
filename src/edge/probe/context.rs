//! What the checks of one life share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};

use super::mcp::Era;
use super::past::Past;
use crate::edge::process::tree::Tree;
use crate::model::spec::ProbePort;

/// A compiled pattern in bytes: what a hundred words take, times ten.
const PATTERN_MAX: usize = 1024 * 1024;

/// One life, from its spawn to its end; kept by the runtime.
#[derive(Debug, Default)]
pub struct LifeContext {
    /// None where nothing runs here (`address:`): whoever listens counts.
    pub tree: Option<Tree>,
    pub past: Arc<Past>,
    /// Listening sockets that the keeper hands to it.
    pub held: Vec<u64>,
    /// `$(instance.port)`.
    pub instance_port: Option<u16>,
    /// plugd passes callers on to that port: what another user's process listens there never counts.
    pub passed_on: bool,
    /// What was found, by port; a life has one or two.
    known: Mutex<Vec<(u16, Known)>>,
    /// Since when nobody listens where it should, when that was looked into last, and what was found.
    closed: Mutex<Option<Closed>>,
    /// How its MCP server is spoken to, once that was found out.
    era: Mutex<Option<Era>>,
    /// The pattern of `expectBody`, made ready once; a life rarely has two.
    pattern: Mutex<Option<Regex>>,
}

#[derive(Debug, Clone)]
struct Closed {
    since: Instant,
    looked: Option<Instant>,
    elsewhere: Vec<u16>,
}

/// A start has this long before it is asked where it listens instead.
const CLOSED_FOR: Duration = Duration::from_secs(2);
/// And is asked again after this.
const ELSEWHERE_EVERY: Duration = Duration::from_secs(10);

/// A listener that was found to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Those among which the kernel chooses who takes a connection to `addr`: nearly always one.
    pub inodes: Vec<u64>,
    pub addr: SocketAddr,
    /// `held by docker-proxy pid 12`, where it is not of the life's own tree.
    pub note: Option<String>,
    /// When it was looked at who holds it.
    pub found: tokio::time::Instant,
    /// When a connection to it was made last.
    pub connected: Option<tokio::time::Instant>,
}

impl LifeContext {
    /// Of a life that was just spawned; `listened_at_spawn` was taken before.
    pub fn new(tree: Option<Tree>, listened_at_spawn: Vec<u64>) -> LifeContext {
        LifeContext { tree, past: Arc::new(Past::of(listened_at_spawn)), ..LifeContext::default() }
    }

    pub fn of(tree: Tree, past: Arc<Past>) -> LifeContext {
        LifeContext { tree: Some(tree), past, ..LifeContext::default() }
    }

    /// Hand over the sockets that the keeper holds for it.
    pub fn with_held(mut self, held: Vec<u64>) -> LifeContext {
        self.held = held;
        self
    }

    pub fn with_port(mut self, port: Option<u16>) -> LifeContext {
        self.instance_port = port;
        self
    }

    pub fn passed_on(mut self, passed_on: bool) -> LifeContext {
        self.passed_on = passed_on;
        self
    }

    /// Where its processes listen while nobody does on the port that was meant; looked for rarely, for it
    /// takes a look at all listeners there are.
    pub(super) async fn elsewhere(&self) -> Vec<u16> {
        let Some(tree) = &self.tree else { return Vec::new() };
        let now = Instant::now();
        let known = {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            let closed = closed.get_or_insert(Closed { since: now, looked: None, elsewhere: Vec::new() });
            let fresh = now.duration_since(closed.since) < CLOSED_FOR
                || closed.looked.is_some_and(|looked| now.duration_since(looked) < ELSEWHERE_EVERY);
            if !fresh {
                closed.looked = Some(now);
            }
            fresh.then(|| closed.elsewhere.clone())
        };
        if let Some(known) = known {
            return known;
        }
        let pids = tree.family();
        let found = tokio::task::spawn_blocking(move || super::sockets::ports_of(&pids)).await.unwrap_or_default();
        if let Some(closed) = self.closed.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            closed.elsewhere.clone_from(&found);
        }
        found
    }

    pub(super) fn era(&self) -> Option<Era> {
        self.era.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember_era(&self, era: Era) {
        *self.era.lock().unwrap_or_else(PoisonError::into_inner) = Some(era);
    }

    pub(super) fn forget_era(&self) {
        *self.era.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn pattern(&self, written: &str) -> Result<Regex, String> {
        let mut known = self.pattern.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = known.as_ref().filter(|pattern| pattern.as_str() == written) {
            return Ok(pattern.clone());
        }
        let made = RegexBuilder::new(written).multi_line(true).crlf(true).size_limit(PATTERN_MAX).build();
        let made = made.map_err(|_| "`expectBody` is too large a pattern".to_string())?;
        Ok(known.insert(made).clone())
    }

    pub(super) fn known(&self, port: u16) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(one, _)| *one == port).map(|(_, known)| known.clone())
    }

    /// A connection to what is known was made.
    pub(super) fn note_connected(&self, port: u16) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter_mut()
            .filter(|(one, _)| *one == port)
            .for_each(|(_, known)| known.connected = Some(tokio::time::Instant::now()));
    }

    /// Remember what was found, or forget it after a failure.
    pub(super) fn remember(&self, port: u16, found: Option<Known>) {
        let own = self.tree.is_some() && found.as_ref().is_some_and(|found| found.note.is_none());
        if own {
            self.past.owns(port);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(one, _)| *one != port);
        known.extend(found.map(|found| (port, found)));
    }
}

/// Where a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This machine: the owner of the socket must be right.
    Local(u16),
    /// As written; whoever answers counts.
    Host(String, u16),
}

impl Place {
    /// None: the instance has no port, which a valid spec does not allow.
    pub fn of(host: Option<&str>, port: &ProbePort, ctx: &LifeContext) -> Option<Place> {
        let port = match port {
            ProbePort::Number(port) => *port,
            ProbePort::Instance => ctx.instance_port?,
        };
        Some(match host {
            None => Place::Local(port),
            Some(host) if is_this_machine(host) => Place::Local(port),
            Some(host) => Place::Host(host.trim_start_matches('[').trim_end_matches(']').to_string(), port),
        })
    }
}

/// A written loopback address means the service itself, whichever address it listens on.
fn is_this_machine(host: &str) -> bool {
    let addr = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || addr.is_ok_and(|addr| addr.is_loopback() || addr.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_however_it_is_written() {
        let ctx = LifeContext::default().with_port(Some(4242));
        let place = |host| Place::of(host, &ProbePort::Number(80), &ctx);
        for host in [None, Some("localhost"), Some("LocalHost"), Some("127.0.0.1"), Some("[::1]"), Some("0.0.0.0")] {
            assert_eq!(place(host), Some(Place::Local(80)), "{host:?}");
        }
        assert_eq!(place(Some("db.example")), Some(Place::Host("db.example".into(), 80)));
        assert_eq!(place(Some("[2001:db8::1]")), Some(Place::Host("2001:db8::1".into(), 80)));
        assert_eq!(Place::of(None, &ProbePort::Instance, &ctx), Some(Place::Local(4242)));
        assert_eq!(Place::of(None, &ProbePort::Instance, &LifeContext::default()), None);
    }
}
