//! The owner-of-the-socket rule: a local port counts only if the right one listens on it.
//!
//! Right is a socket of the life's own tree, one that the keeper handed over, or one that appeared
//! after the spawn (docker-proxy, a daemon elsewhere), which is then named. A socket that listened
//! already when the life was spawned and is not its own is a stranger's or an older instance's: the
//! port is in use, however well it answers. So it is where the holder is another service of this node,
//! whenever it came; where callers are passed on, also where it is another user's; and where the life has listened
//! there itself before. Several may listen on one port (SO_REUSEPORT): its own counts if a check reaches that and no
//! other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::{Known, LifeContext};
use super::neighbours::Neighbour;
use super::sockets::{Holder, Listener, Sockets, held_by};
use crate::edge::process::stat;
use crate::edge::process::tree::Tree;

/// What stands between a caller and the socket, a rule of a firewall say, is found so late.
/// (No minute of the history is to be without a time.)
const CONNECT_EVERY: Duration = Duration::from_secs(45);

/// A socket may be handed to another process and closed by the one that made it: who holds it is looked at so often.
/// (For a thousand services that is three looks a second.)
const HELD_FOR: Duration = Duration::from_secs(300);

/// Who listens on a local port, judged for one life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Connect here.
    Open { addr: SocketAddr, note: Option<String> },
    /// Nobody listens.
    Closed,
    /// Somebody else does: `port 2525 is held by pid 977 (postfix)`.
    Taken(String),
}

/// Look, or remember what was found at the last look.
pub async fn find(ctx: &LifeContext, sockets: &Arc<Sockets>, port: u16) -> Found {
    let aged = match ctx.known(port) {
        Some(known) if is_fresh(&known) => match sockets.taker_at(known.addr) {
            // It closed its socket, or somebody has come between it and those who call.
            Some(now) if now.is_none_or(|now| !known.inodes.contains(&now.inode)) => {
                ctx.remember(port, None);
                None
            }
            Some(_) | None => return Found::Open { addr: known.addr, note: known.note },
        },
        aged => aged,
    };
    let listeners = sockets.listeners(port);
    let Some(first) = listeners.first() else { return Found::Closed };
    let Some(tree) = &ctx.tree else { return open(ctx, port, first, &listeners, None) };
    let own = own(ctx, tree, sockets, &listeners).await;
    let mut hidden = None;
    for listener in listeners.iter().filter(|one| own.contains(&one.inode)) {
        match rival(tree, sockets, port, listener, &own, &listeners).await {
            None => return open(ctx, port, listener, &listeners, None),
            Some(why) => _ = hidden.get_or_insert(why),
        }
    }
    if let Some(why) = hidden {
        return Found::Taken(why);
    }
    let mut newcomers = Vec::new();
    let mut stranger = None;
    let mut neighbours = None;
    for listener in &listeners {
        let holder = sockets.holder(listener.inode).await;
        // Whose it is cannot be seen any more (a process that made itself undumpable): it is what it was.
        if let Some(known) = aged.iter().find(|known| holder.is_none() && known.inodes.contains(&listener.inode)) {
            return open(ctx, port, listener, &listeners, known.note.clone());
        }
        let neighbour = holder.as_ref().and_then(|holder| sockets.neighbours.owner(holder.pid, &tree.life));
        if let (Some(neighbour), Some(holder)) = (neighbour, &holder) {
            let Neighbour { instance, port: given } = &neighbour;
            neighbours.get_or_insert(match instance.service == tree.life.instance.service {
                true if *given == Some(port) => {
                    format!("port {port} is held by {instance}, {holder}, to which it was given")
                }
                true => format!("port {port} is held by {instance}, {holder}; the command ignores $(PORT)"),
                false => format!("port {port} is held by the service {}, {holder}", instance.service),
            });
            continue;
        }
        let was_there = ctx.past.listened_at_spawn(listener.inode);
        let replaces = ctx.past.has_owned(port) || (ctx.passed_on && is_foreign(listener.uid, tree.pid));
        match was_there || replaces {
            true => _ = stranger.get_or_insert((listener, holder)),
            false => newcomers.push((listener, holder)),
        }
    }
    let is_new = |one: &Listener| newcomers.iter().any(|(new, _)| new.inode == one.inode);
    let newcomer = newcomers.iter().find(|(new, _)| reached(new, &listeners).all(is_new));
    match (newcomer, neighbours, stranger) {
        (Some((listener, holder)), _, _) => {
            open(ctx, port, listener, &listeners, Some(note(listener, holder.as_ref())))
        }
        (None, Some(message), _) => Found::Taken(message),
        (None, None, Some((listener, holder))) => Found::Taken(taken(port, listener, holder)),
        (None, None, None) => Found::Closed,
    }
}

/// Who holds it was looked at not long ago.
fn is_fresh(known: &Known) -> bool {
    known.found.elapsed() < HELD_FOR
}

/// What a connection would find out, told by the kernel: the socket that was connected to a moment ago listens, and
/// whoever came was accepted. The service need not accept, and log, somebody who says nothing.
pub(super) fn still_takes(ctx: &LifeContext, sockets: &Sockets, port: u16) -> Option<Known> {
    let is_fresh = |known: &Known| {
        known.found.elapsed() < HELD_FOR && known.connected.is_some_and(|at| at.elapsed() < CONNECT_EVERY)
    };
    let known = ctx.known(port).filter(is_fresh)?;
    let taker = sockets.taker_at(known.addr)??;
    if !known.inodes.contains(&taker.inode) {
        // Somebody has come between: who that is is asked now, for the next look may find the old one again.
        ctx.remember(port, None);
        return None;
    }
    // Of a server that hangs each connection is one more that waits, until there is no room.
    (taker.waiting == 0).then_some(known)
}

/// Those of its own, found without looking at every process there is where that is possible.
async fn own(ctx: &LifeContext, tree: &Tree, sockets: &Arc<Sockets>, listeners: &[Listener]) -> Vec<u64> {
    let inodes: Vec<u64> = listeners.iter().map(|one| one.inode).collect();
    let mut own: Vec<u64> = inodes.iter().copied().filter(|inode| ctx.held.contains(inode)).collect();
    own.extend(held_by(&tree.family(), &inodes));
    if own.is_empty() {
        for inode in inodes {
            let holder = sockets.holder(inode).await;
            own.extend(holder.filter(|holder| tree.contains(holder.pid)).map(|_| inode));
        }
    }
    own
}

/// Who answers, or may answer, in the place of its own listener. Another instance of the service may: they share the
/// port as they do the work.
async fn rival(
    tree: &Tree,
    sockets: &Arc<Sockets>,
    port: u16,
    listener: &Listener,
    own: &[u64],
    listeners: &[Listener],
) -> Option<String> {
    for other in reached(listener, listeners).filter(|other| !own.contains(&other.inode)) {
        let holder = sockets.holder(other.inode).await;
        let neighbour = holder.as_ref().and_then(|holder| sockets.neighbours.owner(holder.pid, &tree.life));
        let is_of_it = holder.as_ref().is_some_and(|holder| tree.contains(holder.pid));
        if is_of_it || neighbour.as_ref().is_some_and(|one| one.instance.service == tree.life.instance.service) {
            continue;
        }
        let who = match (neighbour, holder) {
            (Some(neighbour), Some(holder)) => format!("the service {}, {holder}", neighbour.instance.service),
            (None, Some(holder)) => holder.to_string(),
            (_, None) => format!("a process of uid {} that cannot be seen", other.uid),
        };
        return Some(match other.addr == listener.addr {
            true => format!("port {port} is shared with {who}: which of the two answers cannot be told"),
            false => format!("port {port} is held by {who}, on {} alone", other.reach(port).ip()),
        });
    }
    None
}

/// Those among which the kernel chooses who takes a connection that is meant for `listener`: who has the very address
/// goes before who has all, and of equals (SO_REUSEPORT) it may be any.
fn reached<'a>(listener: &Listener, listeners: &'a [Listener]) -> impl Iterator<Item = &'a Listener> {
    let to = listener.reach(0);
    let meant = *listener;
    let is_exact = move |one: &Listener| one.addr.to_canonical() == to.ip() && one.is_beside(&meant);
    let exact = listeners.iter().any(is_exact);
    listeners.iter().filter(move |one| if exact { is_exact(one) } else { one.addr == meant.addr })
}

/// Whether the user is neither root, nor ours, nor the service's: nobody to pass callers on to.
fn is_foreign(uid: u32, service: i32) -> bool {
    uid != 0 && uid != rustix::process::geteuid().as_raw() && !stat::uids(service).contains(&uid)
}

fn open(ctx: &LifeContext, port: u16, listener: &Listener, listeners: &[Listener], note: Option<String>) -> Found {
    let addr = listener.reach(port);
    let inodes = reached(listener, listeners).map(|one| one.inode).collect();
    ctx.remember(port, Some(Known { inodes, addr, note: note.clone(), found: Instant::now(), connected: None }));
    Found::Open { addr, note }
}

fn note(listener: &Listener, holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("held by {} pid {}", holder.command, holder.pid),
        None => format!("held by a process of uid {}", listener.uid),
    }
}

fn taken(port: u16, listener: &Listener, holder: Option<Holder>) -> String {
    match holder {
        Some(holder) => format!("port {port} is held by {holder}"),
        None => format!("port {port} is held by a process of uid {} that cannot be seen", listener.uid),
    }
}
