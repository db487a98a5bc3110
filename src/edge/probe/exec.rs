//! exec: a judgement of what a helper command did. The keeper runs it, in a session of its own,
//! and ends it as a tree at the timeout.

use std::time::Duration;

use crate::controller::{Exit, ExitHow, Verdict};
use crate::model::reason::Reason;
use crate::model::text::harmless::strip;
use crate::model::text::telling;

/// Of a helper's output this much is kept; the rest is read and dropped.
pub const OUTPUT_MAX: usize = 4096;
/// Of its last line this much is shown, in characters.
const SHOWN_MAX: usize = 200;

/// How a helper ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Exited(Exit),
    /// Killed at its timeout.
    TimedOut(Duration),
    /// It could not be started: why.
    NotStarted(Reason, String),
}

/// Output of which only the end is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(OUTPUT_MAX)..];
        let over = (self.bytes.len() + chunk.len()).saturating_sub(OUTPUT_MAX);
        self.bytes.drain(..over);
        self.bytes.extend_from_slice(chunk);
    }

    /// The line that tells most, fit for a terminal.
    pub fn telling(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().collect();
        Some(strip(telling(&lines)?).chars().take(SHOWN_MAX).collect())
    }
}

/// `exec pg_isready passed`, `exec pg_isready exited with 2: no response`.
pub fn judge(command: &[String], ended: &Ended, output: &Tail, took: Duration) -> Verdict {
    // The program alone: arguments may hold what a secret became.
    let program = command.first().map_or("", String::as_str);
    let program = program.rsplit('/').next().unwrap_or(program);
    let last = output.telling().map(|line| format!(": {line}")).unwrap_or_default();
    let (passed, message) = match ended {
        Ended::Exited(Exit { how: ExitHow::Code(0), .. }) => (true, format!("exec {program} passed")),
        Ended::Exited(Exit { how: ExitHow::Code(code), .. }) => {
            (false, format!("exec {program} exited with {code}{last}"))
        }
        Ended::Exited(Exit { how: ExitHow::Signal(signal), .. }) => {
            (false, format!("exec {program} was killed by signal {signal}{last}"))
        }
        Ended::TimedOut(timeout) => (false, format!("exec {program} did not end within {timeout:?}{last}")),
        Ended::NotStarted(_, why) => (false, format!("exec {program} could not be started: {why}")),
    };
    Verdict { passed, message, reason: None, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ended: Ended, output: &[u8]) -> Verdict {
        let mut tail = Tail::default();
        tail.push(output);
        judge(&["/usr/bin/pg_isready".into(), "-h".into()], &ended, &tail, Duration::ZERO)
    }

    #[test]
    fn each_end_has_its_words() {
        let passed = judged(Ended::Exited(Exit::code(0)), b"accepting\n");
        assert!(passed.passed);
        assert_eq!(passed.message, "exec pg_isready passed");
        let message = |ended, output| judged(ended, output).message;
        assert_eq!(
            message(Ended::Exited(Exit::code(2)), b"first\nno\x1b response\n\n"),
            "exec pg_isready exited with 2: no response"
        );
        assert_eq!(message(Ended::Exited(Exit::signal(9)), b""), "exec pg_isready was killed by signal 9");
        assert_eq!(message(Ended::TimedOut(Duration::from_secs(1)), b""), "exec pg_isready did not end within 1s");
    }

    #[test]
    fn a_gibibyte_of_output_keeps_its_last_4_kib() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 10_000]);
        }
        tail.push(b"\nthe end");
        assert_eq!(tail.bytes.len(), OUTPUT_MAX);
        assert_eq!(tail.telling().as_deref(), Some("the end"));
    }
}
