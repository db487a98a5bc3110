//! The answering side of the local socket, and of a TCP port: who is let in, how many, and for how long.
//!
//! 256 connections at most, and a quarter of the descriptors: statuses are written whoever calls. The
//! last 16 are a reserved lane: one short request each, no stream, so that the command line gets through
//! however many followers there are. A client that sends its headers slowly is closed after 5 s (which
//! also ends idle ones), one that does not read after 30 s. One descriptor is kept back: when there is no other,
//! whoever calls is let in by it, told that (503) and let go.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::context::Context;
use super::patient::Patient;
use super::refusal;
use super::routes::{self, App, Lane};
use super::socket::Allowed;
use super::token::Token;
use crate::edge::quarter_of_descriptors;

const CONNECTIONS_MAX: usize = 256;
const RESERVED: usize = 16;
/// Beside those of the socket.
const TCP_MAX: usize = 64;
/// From the accept, or from the last answer, to the end of the next header.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// The same in the reserved lane, and of who is turned away: 16 idlers give way within half a second.
const HEADER_WAIT_RESERVED: Duration = Duration::from_millis(500);
/// Headers, in bytes, and what hyper holds of an answer that is not read; our own headers are below 1 KiB.
const BUFFER: usize = 64 * 1024;
/// After a failed accept (descriptors used up) the next try; within it one caller is told so.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the task is dropped. Connections are tasks of their own.
pub async fn serve(listener: UnixListener, ctx: Context) {
    let allowed = Allowed::with_owner_of(Some(&ctx.dir));
    let ctx = Arc::new(ctx);
    let general = routes::router(App { ctx: Arc::clone(&ctx), lane: Lane::General }, None);
    let reserved = routes::router(App { ctx, lane: Lane::Reserved }, None);
    let seats = [
        Arc::new(Semaphore::new(general_seats(getrlimit(Resource::Nofile).current))),
        Arc::new(Semaphore::new(RESERVED)),
    ];
    let mut reserve = None;
    loop {
        if reserve.is_none() {
            // Where there is none the next turn tries again.
            reserve = listener.as_fd().try_clone_to_owned().ok();
        }
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again in 100 ms");
                drop(reserve.take());
                turn_away(&listener).await;
                continue;
            }
        };
        // The seat is chosen after the accept: one kept ready from before could be a reserved one
        // while general ones are free again. Without a seat, who comes next waits in the backlog.
        let (seat, router, lane) = tokio::select! {
            biased;
            Ok(seat) = Arc::clone(&seats[0]).acquire_owned() => (seat, &general, Lane::General),
            Ok(seat) = Arc::clone(&seats[1]).acquire_owned() => (seat, &reserved, Lane::Reserved),
            else => return,
        };
        admit(stream, seat, router.clone(), lane, &allowed);
    }
}

/// The same for who comes over TCP and knows the token. They have seats of their own: nobody out there keeps the command
/// line out.
pub async fn serve_tcp(listener: TcpListener, ctx: Context, token: Token) {
    let app = App { ctx: Arc::new(ctx), lane: Lane::General };
    let router = routes::router(app, Some(Arc::new(token)));
    let seats = Arc::new(Semaphore::new(TCP_MAX));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection over TCP can be accepted; trying again in 100 ms");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, router, Lane::General).await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            drop(seat);
        });
    }
}

/// Where no descriptor is left: lets who comes next in by the one that was kept for this, says so, and lets him go, so
/// that nobody waits for an answer until there is room.
async fn turn_away(listener: &UnixListener) {
    let begun = Instant::now();
    // Nobody may be there: the kernel looks for a descriptor before it looks who waits. Or somebody else took it.
    if let Ok(Ok((mut caller, _))) = timeout(ACCEPT_PAUSE, listener.accept()).await {
        // What is wanted does not matter; unread it would tear the connection before the answer is read.
        let _said = timeout(HEADER_WAIT_RESERVED, caller.read(&mut [0; 4096])).await;
        let _answered = timeout(ACCEPT_PAUSE, caller.write_all(refusal::no_descriptor().as_bytes())).await;
    }
    sleep_until(begun + ACCEPT_PAUSE).await;
}

fn general_seats(descriptors: Option<u64>) -> usize {
    quarter_of_descriptors(descriptors, CONNECTIONS_MAX).max(2 * RESERVED) - RESERVED
}

fn admit(stream: UnixStream, seat: OwnedSemaphorePermit, router: Router, lane: Lane, allowed: &Allowed) {
    let Ok(peer) = stream.peer_cred() else { return };
    if !allowed.contains(peer.uid()) {
        tracing::warn!(uid = peer.uid(), pid = peer.pid(), "a connection of a stranger is refused");
        return;
    }
    tokio::spawn(async move {
        if let Err(error) = converse(stream, router, lane).await {
            tracing::debug!(uid = peer.uid(), pid = peer.pid(), %error, "a connection ended early");
        }
        drop(seat);
    });
}

async fn converse<S>(stream: S, router: Router, lane: Lane) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(BUFFER);
    match lane {
        Lane::General => http.header_read_timeout(HEADER_WAIT),
        Lane::Reserved => http.header_read_timeout(HEADER_WAIT_RESERVED).keep_alive(false),
    };
    http.serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(router)).await
}

/// One conversation in the general lane, whoever it is with: for `fuzz`.
pub(crate) async fn answer<S>(stream: S, ctx: Context)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let router = routes::router(App { ctx: Arc::new(ctx), lane: Lane::General }, None);
    // What it ends with is the peer's.
    let _ = converse(stream, router, Lane::General).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_most_of_the_descriptors_to_others() {
        let seats = [None, Some(1 << 20), Some(1024), Some(512), Some(128), Some(10)].map(general_seats);
        assert_eq!(seats, [240, 240, 240, 112, 16, 16]);
    }
}
