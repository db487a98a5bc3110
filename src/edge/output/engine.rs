//! The pump's thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::mpsc::Sender;

use super::pump::{Command, Counts, PumpEvent, Settings};

#[derive(Debug)]
pub(super) struct Engine {
    inbox: Receiver<Command>,
}

impl Engine {
    pub(super) fn new(
        _settings: Settings,
        _events: Sender<PumpEvent>,
        inbox: Receiver<Command>,
        _wake: Arc<OwnedFd>,
        _counts: Counts,
    ) -> std::io::Result<Engine> {
        Ok(Engine { inbox })
    }

    pub(super) fn run(self) {
        for command in self.inbox {
            if matches!(command, Command::Shutdown) {
                break;
            }
        }
    }
}
