//! The owner-of-the-socket rule: a local port counts only if the right one listens on it.
//!
//! Right is a socket of the life's own tree, one that the keeper handed over, or one that appeared
//! after the spawn (docker-proxy, a daemon elsewhere), which is then named. A socket that listened
//! already when the life was spawned and is not its own is a stranger's or an older instance's: the
//! port is in use, however well it answers. So it is where the holder is another service of this node,
//! whenever it came; and where callers are passed on, also where it is another user's.

use std::net::SocketAddr;
use std::sync::Arc;

use super::context::{Known, LifeContext};
use super::sockets::{Holder, Listener, Sockets, held_by};
use crate::edge::process::stat;

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
    if let Some(known) = ctx.known(port) {
        return Found::Open { addr: known.addr, note: known.note };
    }
    let listeners = sockets.listeners(port);
    let Some(first) = listeners.first() else { return Found::Closed };
    let Some(tree) = &ctx.tree else { return open(ctx, port, first, None) };
    if let Some(held) = listeners.iter().find(|one| ctx.held.contains(&one.inode)) {
        return open(ctx, port, held, None);
    }
    // Its own first, among those that are found without looking at every process there is.
    let inodes: Vec<u64> = listeners.iter().map(|one| one.inode).collect();
    let own = held_by(&tree.family(), &inodes);
    if let Some(own) = listeners.iter().find(|one| Some(one.inode) == own) {
        return open(ctx, port, own, None);
    }
    let mut newcomer = None;
    let mut stranger = None;
    let mut neighbours = None;
    for listener in &listeners {
        let holder = sockets.holder(listener.inode).await;
        if holder.as_ref().is_some_and(|holder| tree.contains(holder.pid)) {
            return open(ctx, port, listener, None);
        }
        let neighbour = holder.as_ref().and_then(|holder| sockets.neighbours.owner(holder.pid, &tree.life));
        if let (Some(neighbour), Some(holder)) = (neighbour, &holder) {
            neighbours.get_or_insert(match neighbour.service == tree.life.instance.service {
                true => format!("port {port} is held by {neighbour}, {holder}; the command ignores $(PORT)"),
                false => format!("port {port} is held by the service {}, {holder}", neighbour.service),
            });
            continue;
        }
        let was_there = match (&ctx.listened_at_spawn, &holder) {
            (Some(inodes), _) => inodes.contains(&listener.inode),
            // Not known any more: a process older than the life is taken for one that was there.
            (None, Some(holder)) => holder.start_time < tree.start_time,
            (None, None) => false,
        };
        let place = if was_there || (ctx.passed_on && is_foreign(listener.uid, tree.pid)) {
            &mut stranger
        } else {
            &mut newcomer
        };
        place.get_or_insert((listener, holder));
    }
    match (newcomer, neighbours, stranger) {
        (Some((listener, holder)), _, _) => open(ctx, port, listener, Some(note(listener, holder))),
        (None, Some(message), _) => Found::Taken(message),
        (None, None, Some((listener, holder))) => Found::Taken(taken(port, listener, holder)),
        (None, None, None) => Found::Closed,
    }
}

/// Whether the user is neither root, nor ours, nor the service's: nobody to pass callers on to.
fn is_foreign(uid: u32, service: i32) -> bool {
    uid != 0 && uid != rustix::process::geteuid().as_raw() && !stat::uids(service).contains(&uid)
}

fn open(ctx: &LifeContext, port: u16, listener: &Listener, note: Option<String>) -> Found {
    let addr = listener.reach(port);
    ctx.remember(port, Some(Known { inode: listener.inode, addr, note: note.clone() }));
    Found::Open { addr, note }
}

fn note(listener: &Listener, holder: Option<Holder>) -> String {
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
