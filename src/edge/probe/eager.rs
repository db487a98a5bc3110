//! A connection that is tried before it is waited for.
//!
//! A service of this machine has mostly answered by the time the others of the same moment have been asked: the loop's
//! poll never hears of the connection, nor its timers of the check's timeout (bench/feel.py probes: a sixth less of all
//! that an httpGet check costs).

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// So often the others have their turn before it is waited for.
const TRIES: u32 = 2;

#[derive(Debug)]
pub(super) struct Eager {
    /// Until it is waited for.
    tried: Option<TcpStream>,
    left: u32,
    waited: Option<tokio::net::TcpStream>,
}

impl Eager {
    /// Of a connection that does not block.
    pub fn new(stream: TcpStream) -> Eager {
        Eager { tried: Some(stream), left: TRIES, waited: None }
    }

    /// From now on the loop's poll tells.
    fn waited(&mut self) -> io::Result<Pin<&mut tokio::net::TcpStream>> {
        if let Some(stream) = self.tried.take() {
            // Whoever takes long may send in pieces, and would wait for the answer to each (`connect_here`).
            let _is_faster = rustix::net::sockopt::set_tcp_quickack(&stream, true);
            self.waited = Some(tokio::net::TcpStream::from_std(stream)?);
        }
        self.waited.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// None: it would have to be waited for.
fn now<T>(mut call: impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
    loop {
        return match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => Some(done),
        };
    }
}

impl AsyncRead for Eager {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(stream) = self.tried.as_mut() {
            if let Some(read) = now(|| stream.read(buf.initialize_unfilled())) {
                return Poll::Ready(read.map(|length| buf.advance(length)));
            }
            if self.left > 0 {
                self.left -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.waited()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Eager {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.tried.as_mut().and_then(|stream| now(|| stream.write(buf))) {
            return Poll::Ready(written);
        }
        self.waited()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A check is over with its answer, and what is dropped is closed: the kernel is asked once.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Ends with `check`, or with nothing after `limit`. What is over in a moment by itself needs no timer: it is polled
/// again as often as such a connection is tried.
pub(super) async fn within<T>(limit: Duration, check: impl Future<Output = T>) -> Option<T> {
    let begun = Instant::now();
    let mut check = pin!(check);
    for _ in 0..=TRIES {
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(check.as_mut().poll(cx))).await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    tokio::time::timeout_at(begun + limit, check).await.ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Eager, TcpStream) {
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(server.local_addr().expect("bound")).expect("connected");
        client.set_nonblocking(true).expect("not blocking");
        (Eager::new(client), server.accept().expect("accepted").0)
    }

    #[tokio::test]
    async fn an_answer_that_is_there_is_read_without_the_loop() {
        let (mut eager, mut server) = pair();
        eager.write_all(b"?").await.expect("asked");
        server.write_all(b"!").expect("answered");
        assert_eq!(eager.read_u8().await.expect("read"), b'!');
        assert!(eager.tried.is_some());
    }

    #[tokio::test]
    async fn one_that_comes_later_is_waited_for() {
        let (mut eager, mut server) = pair();
        let mut answer = [0; 1];
        let mut read = pin!(eager.read_exact(&mut answer));
        for _ in 0..=TRIES + 1 {
            assert!(poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_pending())).await);
        }
        server.write_all(b"!").expect("answered");
        read.await.expect("read");
        assert!(eager.tried.is_none());
        drop(server);
        assert_eq!(eager.read(&mut answer).await.expect("the end"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_from_the_beginning() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(within(second, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() >= second && begun.elapsed() < 2 * second);
        assert_eq!(within(second, tokio::time::sleep(second / 2)).await, Some(()));
        assert_eq!(within(Duration::ZERO, std::future::ready(7)).await, Some(7));
    }
}
