//! Questions to a command that ran: its code, and what it said where.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, World};

/// Runs for as long as it is let.
pub const STAYS: &str = "command: sleep 1000\n";
/// Ends with 3, again and again; slow enough to be seen as running.
pub const CRASHES: &str = "command: [sh, -c, 'echo connecting; echo \"bind: address already in use\" >&2; exit 3']\n\
                           restart: {backoff: {initial: 10ms, max: 20ms}}\n";

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The verb ends with this code; what it said comes back, stdout first.
pub fn ends(world: &World, code: i32, words: &[&str]) -> (String, String) {
    let output = world.plugd(words);
    let (said, told) = (out(&output), err(&output));
    assert_eq!(output.status.code(), Some(code), "plugd {words:?}\n--- stdout\n{said}\n--- stderr\n{told}");
    (said, told)
}

/// What the logs hold by now; nothing where the service is not known yet.
pub fn logs(world: &World, names: &[&str]) -> String {
    out(&world.plugd(&[&["logs"], names].concat()))
}

/// A verb that goes on beside the test, and at the latest ends with it.
pub struct Beside(pub Child);

impl Beside {
    /// The lines that it prints, as they come.
    pub fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn begin(world: &World, words: &[&str]) -> Beside {
    begin_with(world, words, Stdio::null())
}

/// As [`begin`], with what it says on stderr kept.
pub fn begin_hearing(world: &World, words: &[&str]) -> Beside {
    begin_with(world, words, Stdio::piped())
}

fn begin_with(world: &World, words: &[&str], stderr: Stdio) -> Beside {
    let child = Command::new(env!("CARGO_BIN_EXE_plugd"))
        .arg("--dir")
        .arg(world.dir())
        .args(words)
        .env("PLUGD_STATE_DIR", world.state())
        .current_dir(world.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn();
    Beside(child.expect("plugd can be started"))
}

/// Its code, within the patience of a test.
pub fn code_of(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("waitable") {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
