//! Names of hosts, looked up off the loop.
//!
//! The C library's resolver blocks for as long as a dead name server likes. So each lookup has a
//! thread of its own, one for all who ask for the same name, and a check waits for it only as long as
//! its own deadline allows. getaddrinfo(3) tells no TTL: an answer is kept for less time than any
//! zone in use asks for, which saves the storm of a thousand checks and is never out of date for long.
//! A literal address is no name and never comes here.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long an answer is used.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// The same for a failure: a name that was just entered should be found soon.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Lookups at a time. A resolver that hangs holds this many threads and no more.
const LOOKUPS_MAX: usize = 16;
/// Names that are remembered; beyond it those that are out of date go, then all.
const NAMES_MAX: usize = 1024;
/// Of a thousand addresses the first few are enough to see whether somebody answers.
const ADDRESSES_MAX: usize = 8;

type Resolver = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;
type Answer = Result<Arc<[IpAddr]>, Unknown>;

/// The end of a sentence about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub why: String,
    /// It was not asked for: there was no place. That says nothing of the host.
    pub unasked: bool,
}

impl Unknown {
    fn because(why: String) -> Unknown {
        Unknown { why, unasked: false }
    }
}

/// One for the whole controller.
pub struct Names {
    resolver: Arc<Resolver>,
    known: Mutex<HashMap<String, Known>>,
}

enum Known {
    Asked(watch::Receiver<Option<Answer>>),
    Answered(Answer, Instant),
}

impl Default for Names {
    fn default() -> Names {
        Names::by(|host| Ok((host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect()))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    /// Ask this instead of the system; it may block.
    pub fn by(resolver: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Names {
        Names { resolver: Arc::new(resolver), known: Mutex::default() }
    }

    /// The addresses of a host, at least one.
    pub async fn of(&self, host: &str) -> Answer {
        let mut asked = match self.look(host)? {
            Known::Answered(answer, _) => return answer,
            Known::Asked(asked) => asked,
        };
        let answer = match asked.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().expect("waited for"),
            Err(_) => Err(Unknown::because("cannot be looked up".to_string())),
        };
        let until = Instant::now() + if answer.is_ok() { KNOWN_FOR } else { UNKNOWN_FOR };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Known::Asked(_)) = known.get(host) {
            known.insert(host.to_string(), Known::Answered(answer.clone(), until));
        }
        answer
    }

    /// What is known, or being asked for now.
    fn look(&self, host: &str) -> Result<Known, Unknown> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(host) {
            Some(Known::Answered(answer, until)) if now < *until => {
                return Ok(Known::Answered(answer.clone(), *until));
            }
            // Nobody may have waited for its end: what it says is still the news of that moment.
            Some(Known::Asked(asked)) => return Ok(Known::Asked(asked.clone())),
            Some(Known::Answered(..)) | None => {}
        }
        let runs = |one: &Known| match one {
            Known::Asked(asked) => asked.borrow().is_none() && asked.has_changed().is_ok(),
            Known::Answered(..) => false,
        };
        if known.values().filter(|one| runs(one)).count() >= LOOKUPS_MAX {
            // Better what was true a moment ago than nothing.
            if let Some(Known::Answered(answer @ Ok(_), until)) = known.get(host) {
                return Ok(Known::Answered(answer.clone(), *until));
            }
            let why = format!("cannot be looked up: the resolver is busy with {LOOKUPS_MAX} other names");
            return Err(Unknown { why, unasked: true });
        }
        if known.len() >= NAMES_MAX {
            known.retain(|_, one| runs(one));
        }
        let (tell, asked) = watch::channel(None);
        let (resolver, name) = (self.resolver.clone(), host.to_string());
        let lookup = move || {
            let answer = resolver(&name).map_err(|error| told(&error)).and_then(|addresses| {
                let few: Arc<[IpAddr]> = addresses.into_iter().take(ADDRESSES_MAX).collect();
                if few.is_empty() { Err("has no address".to_string()) } else { Ok(few) }
            });
            let answer = answer.map_err(Unknown::because);
            // Nobody waits any more: then nobody needs it.
            let _ = tell.send(Some(answer));
        };
        // Not the runtime's own threads: its end would wait for a lookup that hangs.
        let begun = std::thread::Builder::new().name("names".into()).spawn(lookup);
        begun.map_err(|error| Unknown { why: format!("cannot be looked up: {error}"), unasked: true })?;
        known.insert(host.to_string(), Known::Asked(asked.clone()));
        Ok(Known::Asked(asked))
    }
}

/// `failed to lookup address information: Name or service not known`, without its beginning.
fn told(error: &io::Error) -> String {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    format!("cannot be looked up: {why}")
}
