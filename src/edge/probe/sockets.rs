//! The TCP listeners of this machine, and who holds them.
//!
//! Asking who listens is cheap and done inline. Asking which process holds a socket means looking
//! at every descriptor of every process: that is done off the loop, one scan at a time for all who
//! ask, and only on the way to a message for a person.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::diag;
use super::names::Names;
use super::neighbours::Neighbours;
use crate::edge::process::stat::{self, Stat};

/// How often a wait for a port looks, as the ladder of restarts needs no finer one.
const FREE_PERIOD: Duration = Duration::from_millis(500);
/// A holder that was not found is looked for again after this long.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// Remembered holders; each is a port that is in somebody's way.
const HOLDERS_MAX: usize = 1024;
/// Descriptors of one process that are looked at inline, about 1 ms.
const INLINE_FDS_MAX: usize = 1024;

/// One listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub inode: u64,
    pub addr: IpAddr,
    /// The interface that it is bound to, 0 for any; link-local addresses need it.
    pub scope: u32,
    pub uid: u32,
}

impl Listener {
    /// Whether it keeps a server off that binds this address: the same, or one of the two stands for all. That of IPv6
    /// stands for those of IPv4, too; nobody tells whether it was bound without them.
    pub fn is_in_the_way(&self, of: IpAddr) -> bool {
        let (held, meant) = (self.addr.to_canonical(), of.to_canonical());
        let is_all = |addr: IpAddr| addr.is_unspecified();
        let same_family = held.is_ipv4() == meant.is_ipv4();
        let both = [held, meant].into_iter().any(|addr| addr.is_ipv6() && is_all(addr));
        held == meant || both || (same_family && (is_all(held) || is_all(meant)))
    }

    /// Bound to the same interface, if both are bound to one.
    pub fn is_beside(&self, other: &Listener) -> bool {
        self.scope == other.scope || self.scope == 0 || other.scope == 0
    }

    /// Where to connect to reach it from this machine.
    pub fn reach(&self, port: u16) -> SocketAddr {
        match self.addr.to_canonical() {
            IpAddr::V4(addr) if addr.is_unspecified() => (Ipv4Addr::LOCALHOST, port).into(),
            IpAddr::V4(addr) => (addr, port).into(),
            IpAddr::V6(addr) if addr.is_unspecified() => (Ipv6Addr::LOCALHOST, port).into(),
            IpAddr::V6(addr) => SocketAddrV6::new(addr, port, 0, self.scope).into(),
        }
    }
}

/// The socket that takes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taker {
    pub inode: u64,
    /// So many have not been accepted yet.
    pub waiting: u32,
}

/// The process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub command: String,
    pub start_time: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.command)
    }
}

/// One for the whole controller.
#[derive(Debug)]
pub struct Sockets {
    /// Netlink and the next sequence number; none where it is refused.
    diag: Mutex<Option<(OwnedFd, u32)>>,
    holders: Mutex<Holders>,
    /// Who scans.
    scan: tokio::sync::Mutex<()>,
    /// Whose sockets are not everybody's.
    pub neighbours: Neighbours,
    /// Hosts that are not this machine.
    pub names: Names,
    /// Where checks that are under way call from.
    checks: Mutex<HashSet<u16>>,
}

/// A check is under way.
#[derive(Debug)]
pub(super) struct Calling {
    sockets: Arc<Sockets>,
    from: Option<u16>,
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let Some(from) = self.from {
            self.sockets.checks.lock().unwrap_or_else(PoisonError::into_inner).remove(&from);
        }
    }
}

#[derive(Debug, Default)]
struct Holders {
    known: HashMap<u64, (Option<Holder>, Instant)>,
    wanted: HashSet<u64>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets::new()
    }
}

impl Sockets {
    pub fn new() -> Sockets {
        let diag = diag::open().ok().map(|socket| (socket, 1));
        Sockets { diag: Mutex::new(diag), ..Sockets::without_netlink() }
    }

    /// Hosts are looked up by these.
    pub fn asking(names: Names) -> Sockets {
        Sockets { names, ..Sockets::new() }
    }

    /// Whether the kernel answers on netlink here; for the doctor.
    pub fn answers() -> bool {
        diag::open().and_then(|socket| diag::listeners(&socket, 1, 1)).is_ok()
    }

    /// Whether the kernel tells by whom a connection is taken.
    pub fn tell(&self) -> bool {
        self.diag.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// As where netlink is refused.
    pub fn without_netlink() -> Sockets {
        Sockets {
            diag: Mutex::new(None),
            holders: Mutex::default(),
            scan: tokio::sync::Mutex::new(()),
            neighbours: Neighbours::default(),
            names: Names::default(),
            checks: Mutex::default(),
        }
    }

    /// Who listens on a port now, on any address. The runtime takes the inodes just before a spawn.
    pub fn listeners(&self, port: u16) -> Vec<Listener> {
        let mut diag = self.diag.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((socket, sequence)) = diag.as_mut() {
            *sequence = sequence.wrapping_add(2);
            match diag::listeners(socket, port, *sequence) {
                Ok(found) => return found,
                Err(error) => {
                    tracing::info!(%error, "sock_diag does not answer; /proc/net/tcp is read from now on");
                    *diag = None;
                }
            }
        }
        drop(diag);
        diag::from_proc(port)
    }

    /// The socket that takes a connection to `addr` now (`Some(None)`: nobody does); none where the kernel does not
    /// tell. Of several that share it each is told at times, as each is chosen for some callers.
    pub fn taker_at(&self, addr: SocketAddr) -> Option<Option<Taker>> {
        let mut diag = self.diag.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, sequence) = diag.as_mut()?;
        *sequence = sequence.wrapping_add(2);
        diag::listener_at(socket, addr, *sequence).ok()
    }

    /// The inodes of [`Sockets::listeners`].
    pub fn inodes(&self, port: u16) -> Vec<u64> {
        self.listeners(port).iter().map(|listener| listener.inode).collect()
    }

    pub fn free(&self, port: u16) -> bool {
        self.listeners(port).is_empty()
    }

    /// Whether a process has a connection that came to this port, and not from a check; blocks.
    pub fn is_connected(&self, port: u16) -> bool {
        let own = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        diag::connected(port, &own).unwrap_or_else(|_refused| diag::connected_in_proc(port, &own))
    }

    /// A check has called from there, until what is given back is dropped.
    pub(super) fn calling(self: &Arc<Self>, from: io::Result<SocketAddr>) -> Calling {
        let from = from.ok().map(|from| from.port());
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).extend(from);
        Calling { sockets: self.clone(), from }
    }

    #[cfg(test)]
    pub(super) fn is_calling(&self, from: u16) -> bool {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).contains(&from)
    }

    /// Ends once nobody listens on the port.
    pub async fn freed(&self, port: u16) {
        while !self.free(port) {
            tokio::time::sleep(FREE_PERIOD).await;
        }
    }

    /// The process that holds a socket, if it can be seen (another user's cannot, without root).
    pub async fn holder(self: &Arc<Self>, inode: u64) -> Option<Holder> {
        if let Some(known) = self.remembered(inode) {
            return known;
        }
        self.locked().wanted.insert(inode);
        let _turn = self.scan.lock().await;
        // The scan before ours may have looked for it too.
        if let Some(known) = self.remembered(inode) {
            return known;
        }
        let wanted = std::mem::take(&mut self.locked().wanted);
        let asked = wanted.clone();
        let found = tokio::task::spawn_blocking(move || scan(&asked)).await.unwrap_or_default();
        let mut holders = self.locked();
        if holders.known.len() > HOLDERS_MAX {
            holders.known.clear();
        }
        let now = Instant::now();
        holders.known.extend(wanted.into_iter().map(|inode| (inode, (found.get(&inode).cloned(), now))));
        found.get(&inode).cloned()
    }

    fn remembered(&self, inode: u64) -> Option<Option<Holder>> {
        match self.locked().known.get(&inode)? {
            (Some(holder), _) => {
                let same = Stat::of(holder.pid).is_some_and(|stat| stat.start_time == holder.start_time);
                (same && holds(holder.pid, &[inode], usize::MAX)).then(|| Some(holder.clone()))
            }
            (None, since) => (since.elapsed() < UNKNOWN_FOR).then_some(None),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ports on which these processes listen; blocks.
pub(super) fn ports_of(pids: &[i32]) -> Vec<u16> {
    let inodes: Vec<u64> = pids.iter().flat_map(|pid| sockets_of(*pid, INLINE_FDS_MAX)).collect();
    if inodes.is_empty() { Vec::new() } else { diag::ports_of(&inodes) }
}

/// Those of `inodes` that these processes hold.
pub(super) fn held_by(pids: &[i32], inodes: &[u64]) -> Vec<u64> {
    let mut held = Vec::new();
    for inode in pids.iter().flat_map(|pid| sockets_of(*pid, INLINE_FDS_MAX)) {
        if inodes.contains(&inode) && !held.contains(&inode) {
            held.push(inode);
        }
        if held.len() == inodes.len() {
            break;
        }
    }
    held
}

fn holds(pid: i32, inodes: &[u64], fds_max: usize) -> bool {
    sockets_of(pid, fds_max).any(|inode| inodes.contains(&inode))
}

/// The sockets among a process's descriptors.
fn sockets_of(pid: i32, fds_max: usize) -> impl Iterator<Item = u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.take(fds_max).filter_map(|entry| {
        let target = rustix::fs::readlink(entry.path(), Vec::new()).ok()?;
        target.to_str().ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

/// One look at every process. Of several that share a socket the oldest is named: the others are
/// its children.
fn scan(wanted: &HashSet<u64>) -> HashMap<u64, Holder> {
    let mut found: HashMap<u64, Holder> = HashMap::new();
    for pid in stat::pids() {
        for inode in sockets_of(pid, usize::MAX).filter(|inode| wanted.contains(inode)) {
            let Some(stat) = Stat::of(pid) else { break };
            let older = found.get(&inode).is_none_or(|one| stat.start_time < one.start_time);
            if older {
                found.insert(inode, Holder { pid, command: stat.command, start_time: stat.start_time });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_in_the_way_of_who_binds_what_it_has() {
        let in_the_way = |held: &str, meant: &str| {
            let addr = held.parse().expect("an address");
            Listener { inode: 1, addr, scope: 0, uid: 0 }.is_in_the_way(meant.parse().expect("an address"))
        };
        for (held, meant, is) in [
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.2", "127.0.0.1", false),
            ("127.0.0.2", "0.0.0.0", true),
            ("127.0.0.2", "::", true),
            ("127.0.0.2", "127.0.0.2", true),
            ("192.0.2.7", "127.0.0.1", false),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("::1", "127.0.0.1", false),
            ("::1", "0.0.0.0", false),
            ("::1", "::", true),
            ("0.0.0.0", "::1", false),
        ] {
            assert_eq!(in_the_way(held, meant), is, "{held} is held, {meant} is meant");
        }
    }
}
