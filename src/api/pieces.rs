//! A body that a task writes piece by piece: lists of any length, and streams.
//!
//! At most 16 pieces wait. A client that takes none for 10 s is dropped: its body ends with a notice
//! (which it sees if it ever reads on), and `patient` closes the connection behind it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait for the client, of at most about 64 KiB each: 1 MiB a stream.
const WAITING: usize = 16;
/// A long answer is cut here, so that the loop gets its turn in between.
const PIECE: usize = 64 * 1024;
/// A reader that is alive takes something within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The half that the connection reads.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    notice: oneshot::Receiver<Bytes>,
}

/// The half that a task writes.
#[derive(Debug)]
pub(super) struct Pipe {
    pieces: mpsc::Sender<Bytes>,
    notice: Option<(oneshot::Sender<Bytes>, Bytes)>,
    buffer: Vec<u8>,
    /// The client was slower than we were since this was last asked.
    waited: bool,
}

/// The client is gone, or was dropped.
#[derive(Debug)]
pub(super) struct Gone;

pub(super) type Sent = Result<(), Gone>;

/// `notice` is the last thing that a dropped client is told.
pub(super) fn pipe(notice: impl Into<Bytes>) -> (Pipe, axum::body::Body) {
    let (pieces, received) = mpsc::channel(WAITING);
    let (told, hears) = oneshot::channel();
    let pipe = Pipe { pieces, notice: Some((told, notice.into())), buffer: Vec::new(), waited: false };
    (pipe, axum::body::Body::new(Pieces { pieces: received, notice: hears }))
}

impl Pipe {
    /// Text that goes out with the next flush, or before when enough has gathered.
    pub(super) async fn write(&mut self, text: &str) -> Sent {
        self.buffer.extend_from_slice(text.as_bytes());
        self.flush_if_full().await
    }

    pub(super) async fn write_json(&mut self, value: &(impl Serialize + Sync)) -> Sent {
        serde_json::to_writer(&mut self.buffer, value).expect("our own types are JSON");
        self.flush_if_full().await
    }

    async fn flush_if_full(&mut self) -> Sent {
        if self.buffer.len() < PIECE {
            return Ok(());
        }
        self.flush().await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Sent {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.buffer));
        let piece = match self.pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Gone),
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        self.waited = true;
        match self.pieces.send_timeout(piece, PATIENCE).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                tracing::info!("a client of a stream is dropped: it read nothing for 10 s");
                if let Some((told, notice)) = self.notice.take() {
                    // Refused only where the connection is gone too.
                    told.send(notice).ok();
                }
                Err(Gone)
            }
        }
    }

    /// Whether the client kept us waiting since the last call.
    pub(super) fn take_waited(&mut self) -> bool {
        std::mem::take(&mut self.waited)
    }

    /// Until the client hangs up.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pieces.poll_recv(cx).map(|piece| {
            let piece = piece.or_else(|| self.notice.try_recv().ok());
            piece.map(|piece| Ok(Frame::data(piece)))
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_dropped_with_a_notice() {
        let (mut pipe, body) = pipe("too slow");
        for _ in 0..WAITING {
            pipe.write("x").await.expect("room");
            pipe.flush().await.expect("room");
        }
        assert!(!pipe.take_waited());
        pipe.write("y").await.expect("buffered");
        pipe.flush().await.expect_err("nobody reads");
        assert!(pipe.take_waited());
        drop(pipe);
        let text = body.collect().await.expect("infallible").to_bytes();
        assert_eq!(text, format!("{}too slow", "x".repeat(WAITING)));
    }

    #[tokio::test]
    async fn a_reader_that_hangs_up_is_noticed() {
        let (mut pipe, body) = pipe("");
        drop(body);
        pipe.closed().await;
        pipe.write("x").await.expect("buffered");
        pipe.flush().await.expect_err("gone");
    }
}
