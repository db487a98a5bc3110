//! What becomes of an edit whose terminal is closed, or that is told to end: the editor is told, too, and
//! nothing that was not written stays behind.

use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::copy::Copy;

/// For what an editor still writes when it is told to end; one that asks back is left alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The editor that has the copy.
#[derive(Debug, Default)]
pub(super) struct Editor {
    /// None: 0.
    pid: AtomicI32,
    told: AtomicBool,
}

impl Editor {
    /// From now on a signal ends the edit in order.
    pub fn watched(copy: &Arc<Copy>) -> std::io::Result<Arc<Editor>> {
        let editor = Arc::new(Editor::default());
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let (watched, copy) = (editor.clone(), copy.clone());
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                watched.hear(signal, &copy);
            }
        })?;
        Ok(editor)
    }

    /// Runs it to its end.
    pub fn run(&self, command: &mut Command) -> std::io::Result<ExitStatus> {
        let mut child: Child = command.spawn()?;
        self.pid.store(child.id().cast_signed(), Ordering::SeqCst);
        let status = child.wait();
        self.pid.store(0, Ordering::SeqCst);
        status
    }

    /// The edit was told to end while the editor ran.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::SeqCst)
    }

    fn hear(&self, signal: i32, copy: &Copy) {
        if let Some(pid) = Pid::from_raw(self.pid.load(Ordering::SeqCst)) {
            // ^C is the editor's own.
            if signal == SIGINT {
                return;
            }
            self.told.store(true, Ordering::SeqCst);
            if ends(pid, signal) {
                // Who waits for it goes on from there.
                return;
            }
            copy.keep_for_an_editor();
        } else {
            copy.leave();
        }
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// Hands the signal on and waits for the end.
fn ends(pid: Pid, signal: i32) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = kill_process(pid, signal);
    }
    let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).is_ok_and(|ended| ended > 0)
}
