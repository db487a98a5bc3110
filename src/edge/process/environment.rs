//! The environment of a process: ordered, last setting wins, `$(NAME)` looked up in it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::model::expand::{TooLong, expand};
use crate::model::text::secret::covered;

/// Variables by name, and the words that only `$(…)` knows (`instance.port`).
#[derive(Default, Clone)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    words: Vec<(&'static str, String)>,
    /// Values that must not be told to everybody.
    secrets: Vec<String>,
    /// That a file of these can be read by everybody.
    pub exposed: Option<String>,
}

/// The values may be secrets: only the names are shown.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    pub fn set(&mut self, name: OsString, value: OsString) {
        self.variables.insert(name, value);
    }

    /// A value that came from a file of its own, or from plugd's environment by name.
    pub fn set_secret(&mut self, name: OsString, value: OsString) {
        self.secrets.push(value.to_string_lossy().into_owned());
        self.set(name, value);
    }

    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// A text about this process, without what is secret in it.
    pub fn without_secrets(&self, text: &str) -> String {
        covered(text, self.secrets.iter())
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    pub fn name_for_expansion(&mut self, word: &'static str, value: String) {
        self.words.push((word, value));
    }

    /// What `$(name)` stands for.
    pub fn lookup(&self, name: &str) -> Option<String> {
        match self.words.iter().find(|(word, _)| *word == name) {
            Some((_, value)) => Some(value.clone()),
            None => self.get(name).map(|value| value.to_string_lossy().into_owned()),
        }
    }

    pub fn expand(&self, text: &str) -> Result<String, TooLong> {
        expand(text, |name| self.lookup(name))
    }

    /// `NAME=value`, as execve(2) takes them; whoever sets one has seen to it that none holds a NUL byte.
    pub fn to_c_strings(&self) -> Vec<CString> {
        self.variables
            .iter()
            .filter_map(|(name, value)| {
                let mut line = Vec::with_capacity(name.len() + value.len() + 2);
                line.extend_from_slice(name.as_bytes());
                line.push(b'=');
                line.extend_from_slice(value.as_bytes());
                CString::new(line).ok()
            })
            .collect()
    }
}

/// Variables that are plugd's own business and mean nothing, or something wrong, to a service.
const OWN: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "MAINPID",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "CREDENTIALS_DIRECTORY",
    "SYSTEMD_EXEC_PID",
];

/// plugd's environment as services may inherit it.
pub fn inheritable() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            let bytes = name.as_bytes();
            !bytes.starts_with(b"PLUGD_")
                && !bytes.starts_with(b"LISTEN_")
                && !OWN.iter().any(|own| own.as_bytes() == bytes)
        })
        .collect()
}

/// Room for an environment: execve(2) refuses more than this in one string anyway (MAX_ARG_STRLEN).
const ENV_FILE_MAX: u64 = 128 * 1024;

/// `NAME=value` lines; `#` begins a comment line, `export ` is allowed, one pair of quotes is taken off.
pub fn read_env_file(path: &Path) -> io::Result<Vec<(OsString, OsString)>> {
    parse_env_file(&read_small(path, ENV_FILE_MAX)?)
}

/// A regular file of at most `max` bytes. Never waits: a FIFO or a terminal is refused by what it
/// is, not found out by reading it.
pub fn read_small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    Ok(read_small_of(path, max)?.0)
}

/// The same, with what the file is.
pub fn read_small_of(path: &Path, max: u64) -> io::Result<(Vec<u8>, Metadata)> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("it is larger than {} KiB", max / 1024)));
    }
    Ok((bytes, meta))
}

fn parse_env_file(bytes: &[u8]) -> io::Result<Vec<(OsString, OsString)>> {
    let mut variables = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").map_or(line, <[u8]>::trim_ascii);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) {
            return Err(io::Error::other(format!("line {} holds a NUL byte", number + 1)));
        }
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
            return Err(io::Error::other(format!("line {} is not NAME=value", number + 1)));
        };
        let (name, value) = (line[..equals].trim_ascii(), line[equals + 1..].trim_ascii());
        if name.is_empty() || name.contains(&b' ') {
            return Err(io::Error::other(format!("line {} is not NAME=value", number + 1)));
        }
        let value = match value {
            [quote @ (b'"' | b'\''), inner @ .., last] if quote == last => inner,
            plain => plain,
        };
        variables.push((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_gives_its_variables_in_order() {
        let text = b"# comment\nA=1\nexport B = two words \nC=\"quoted\"\nD='it''s'\n\nE=\n";
        let read: Vec<_> = parse_env_file(text)
            .expect("valid")
            .into_iter()
            .map(|(name, value)| (name.into_string().expect("utf-8"), value.into_string().expect("utf-8")))
            .collect();
        let want = [("A", "1"), ("B", "two words"), ("C", "quoted"), ("D", "it''s"), ("E", "")];
        assert_eq!(read, want.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[test]
    fn an_env_file_line_without_a_value_is_refused_with_its_number() {
        let error = parse_env_file(b"A=1\nnonsense\n").expect_err("refused");
        assert_eq!(error.to_string(), "line 2 is not NAME=value");
    }

    #[test]
    fn an_env_file_line_that_cannot_be_passed_is_refused_and_not_left_out() {
        let error = parse_env_file(b"A=1\nB=x\0y\n").expect_err("refused");
        assert_eq!(error.to_string(), "line 2 holds a NUL byte");
        assert!(parse_env_file(b"# a \0 in a comment\nA=1\n").is_ok());
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let temp = tempfile::tempdir().expect("a temp folder");
        let fifo = temp.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("made");
        let error = read_small(&fifo, 10).expect_err("refused");
        assert_eq!(error.to_string(), "it is not a regular file");
    }

    #[test]
    fn values_never_show_in_debug_output() {
        let mut environment = Environment::default();
        environment.set("TOKEN".into(), "s3cret".into());
        assert_eq!(format!("{environment:?}"), "[\"TOKEN\"]");
    }
}
