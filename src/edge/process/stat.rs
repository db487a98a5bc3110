//! What /proc tells of one process.
//!
//! Everything here is of one moment: a pid may be somebody else's a microsecond later. Who means to
//! act holds a pidfd first and compares the start time after.

use std::io::Read;

use crate::controller::Leftover;
use crate::model::text::clip;

/// A command as it is shown, in bytes: the kernel's own limit for a name is 16, and 64 for its own
/// threads. Arguments are never shown, they may carry secrets.
pub const COMMAND_MAX: usize = 64;
/// /proc/PID/stat is some 350 bytes; the name in it has at most 64.
const STAT_MAX: usize = 1024;
/// Of an environment this much is searched for the cookie.
const ENVIRON_MAX: u64 = 256 * 1024;

/// One process, from /proc/PID/stat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub command: String,
    state: u8,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    threads: i64,
    /// Clock ticks after boot; with the pid, the identity of a process within one boot.
    pub start_time: u64,
}

impl Stat {
    pub fn of(pid: i32) -> Option<Stat> {
        Stat::at(&format!("/proc/{pid}/stat"))
    }

    fn of_thread(pid: i32, thread: i32) -> Option<Stat> {
        Stat::at(&format!("/proc/{pid}/task/{thread}/stat"))
    }

    fn at(path: &str) -> Option<Stat> {
        let mut bytes = [0; STAT_MAX];
        let mut file = std::fs::File::open(path).ok()?;
        let length = file.read(&mut bytes).ok()?;
        Stat::parse(&bytes[..length])
    }

    /// The name stands in brackets and may itself hold brackets, blanks and newlines, so the
    /// numbers are counted from the last bracket on.
    pub fn parse(bytes: &[u8]) -> Option<Stat> {
        let open = bytes.iter().position(|b| *b == b'(')?;
        let close = bytes.iter().rposition(|b| *b == b')')?;
        let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
        let command = printable(bytes.get(open + 1..close)?);
        let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // Field 6 was the session; 20 is the number of threads, 22 the start time.
        let threads = fields.nth(13)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        Some(Stat { pid, command, state, parent, group, session, threads, start_time })
    }

    /// By SIGSTOP and its like; not by a tracer.
    pub fn is_stopped(&self) -> bool {
        self.state == b'T'
    }

    /// Still runs: no zombie that waits for its parent, unless other threads of it go on.
    pub fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x') || self.threads > 1
    }

    /// As what is left of a tree. Only of one that sleeps where no signal reaches it, itself or a thread that outlives the
    /// first one, the kernel is asked for the place.
    pub fn into_leftover(self) -> Leftover {
        let held = match self.state {
            b'D' => Some(waits_in(self.pid, self.pid)),
            b'Z' | b'X' | b'x' => threads(self.pid).into_iter().find_map(|thread| {
                Stat::of_thread(self.pid, thread).filter(|stat| stat.state == b'D').map(|_| waits_in(self.pid, thread))
            }),
            _ => None,
        };
        Leftover { pid: self.pid, command: self.command, held }
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The function of the kernel that it sleeps in; only root is told (proc(5)), and not on every kernel.
fn waits_in(pid: i32, thread: i32) -> String {
    let told = std::fs::read(format!("/proc/{pid}/task/{thread}/wchan")).unwrap_or_default();
    match &told[..] {
        b"" | b"0" => "uninterruptible".into(),
        place => printable(place),
    }
}

/// Every process there is now.
pub fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a process, fit for a terminal.
pub fn command(pid: i32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(printable(bytes.strip_suffix(b"\n").unwrap_or(&bytes)))
}

/// Direct children, where the kernel tells them (CONFIG_PROC_CHILDREN).
pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whom a process's environment says that it belongs to. Only a hint: a program may overwrite its
/// environment, and anybody may write one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub node: String,
    pub instance: String,
    pub life: u64,
    /// Of a helper beside the life: its number.
    pub helper: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cookie {
    Of(Mark),
    Absent,
    /// Not ours to read, or empty.
    Unread,
}

pub fn cookie(pid: i32) -> Cookie {
    let Some(bytes) = environ(pid).filter(|bytes| !bytes.is_empty()) else { return Cookie::Unread };
    let value = |name: &[u8]| {
        let entry = bytes.split(|b| *b == 0).find(|entry| entry.starts_with(name))?;
        std::str::from_utf8(&entry[name.len()..]).ok()
    };
    let number = |name: &[u8]| value(name).and_then(|text| text.parse().ok());
    let mark = || {
        Some(Mark {
            node: value(b"PLUGD_NODE=")?.to_string(),
            instance: value(b"PLUGD_INSTANCE=")?.to_string(),
            life: number(b"PLUGD_LIFE=")?,
            helper: number(b"PLUGD_HELPER="),
        })
    };
    mark().map_or(Cookie::Absent, Cookie::Of)
}

/// Whether a process's environment says that it belongs to this node.
pub fn names_node(pid: i32, node: &str) -> bool {
    let wanted = format!("PLUGD_NODE={node}");
    environ(pid).is_some_and(|bytes| bytes.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

/// As much of a process's environment as is looked at, where it may be read.
fn environ(pid: i32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRON_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The uids that a process has: real, effective, saved, of the filesystem.
pub fn uids(pid: i32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Text of a stranger, one line that a terminal may show, cut to [`COMMAND_MAX`].
pub fn printable(bytes: &[u8]) -> String {
    clip(&String::from_utf8_lossy(bytes), COMMAND_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_and_newlines_does_not_shift_the_numbers() {
        let line = b"77 (a) Z 1 (\n\x1b) S 4 5 6 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 991 1 1\n";
        let stat = Stat::parse(line).expect("a valid line");
        assert_eq!((stat.pid, stat.parent, stat.group, stat.session), (77, 4, 5, 6));
        assert_eq!((stat.threads, stat.start_time), (3, 991));
        assert_eq!(stat.command, "a) Z 1 (\\n\\x1b");
        assert!(stat.lives());
    }

    #[test]
    fn no_bytes_make_the_parser_fall() {
        for line in [&b""[..], b"(", b")(", b"1 () ", b"1 (x) S 1 2", b"x (x) S 1 2 3", b"\xff\xff(\xff)"] {
            assert_eq!(Stat::parse(line), None);
        }
    }

    #[test]
    fn this_process_finds_itself() {
        let own = std::process::id() as i32;
        let stat = Stat::of(own).expect("we are here");
        assert!(stat.lives() && stat.pid == own && stat.start_time > 0);
        assert!(pids().contains(&own));
    }

    #[test]
    fn names_are_cut_and_made_fit_for_a_terminal() {
        assert_eq!(printable(b"\x1b[31mred\n"), "\\x1b[31mred\\n");
        assert_eq!(printable(&[b'x'; 500]).len(), COMMAND_MAX);
        assert!(printable("ü".repeat(60).as_bytes()).len() <= COMMAND_MAX);
    }
}
