//! fd: the service writes a newline to a descriptor that it was given, as s6 has it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

/// Read at once; what comes before the newline is of no interest.
const CHUNK: usize = 512;

/// Why a service will never be ready this way.
#[derive(Debug, thiserror::Error)]
pub enum FdError {
    /// Every writer closed it without a newline.
    #[error("the descriptor was closed before a newline came")]
    Closed,
    #[error("failed to read the descriptor")]
    Read(#[from] io::Error),
}

/// Ends when a newline has come. Within a runtime. The pipe is closed then: later writes of the
/// service meet EPIPE, as s6's do.
pub async fn newline(pipe: OwnedFd) -> Result<(), FdError> {
    let pipe = Receiver::from_owned_fd(pipe)?;
    let mut bytes = [0; CHUNK];
    loop {
        pipe.readable().await?;
        match pipe.try_read(&mut bytes) {
            Ok(0) => return Err(FdError::Closed),
            Ok(length) if bytes[..length].contains(&b'\n') => return Ok(()),
            // A flood without a newline costs its share of the loop and no memory.
            Ok(_) => tokio::task::yield_now().await,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_newline_makes_ready_and_what_comes_before_it_does_not() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let waiting = tokio::spawn(newline(reader.into()));
        writer.write_all(b"loading").expect("written");
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        writer.write_all(b"...\nmore").expect("written");
        waiting.await.expect("no panic").expect("ready");
    }

    #[tokio::test]
    async fn a_descriptor_closed_without_a_newline_is_told() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(writer);
        assert!(matches!(newline(reader.into()).await, Err(FdError::Closed)));
    }
}
