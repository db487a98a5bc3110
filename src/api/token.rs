//! What a caller over TCP must know: 256 random bits in a file that its user alone may read.
#![expect(clippy::disallowed_methods, reason = "the token lies on the disk")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

/// The name of the file.
const FILE: &str = "token";
const BITS: usize = 256;
/// As hexadecimal digits.
const LENGTH: usize = BITS / 4;

/// Only what it hashes to is kept, and compared: how long that takes tells nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    hash: [u8; 32],
    pub file: PathBuf,
}

impl Token {
    /// The one that lies in `dir`, else a new one: what others may read or have written is no secret.
    pub fn of(dir: &Path) -> io::Result<Token> {
        let file = dir.join(FILE);
        let folder = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let text = match lying(&folder) {
            Some(text) => text,
            None => made(&folder)?,
        };
        Ok(Token { hash: hash(&text), file })
    }

    pub(super) fn is(&self, text: &str) -> bool {
        hash(text) == self.hash
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn lying(folder: &OwnedFd) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, FILE, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return None;
    }
    let mut text = String::new();
    File::from(file).take(LENGTH as u64 + 2).read_to_string(&mut text).ok()?;
    let text = text.trim_end();
    (text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_string())
}

fn made(folder: &OwnedFd) -> io::Result<String> {
    let mut bits = [0; BITS / 8];
    File::open("/dev/urandom")?.read_exact(&mut bits)?;
    let text: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = format!(".{FILE}.new");
    // What a writer that was killed left.
    let _ = rustix::fs::unlinkat(folder, &new, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut out = File::from(rustix::fs::openat(folder, &new, flags, Mode::RUSR | Mode::WUSR)?);
    writeln!(out, "{text}")?;
    rustix::fs::renameat(folder, &new, folder, FILE)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn written(dir: &Path) -> String {
        std::fs::read_to_string(dir.join(FILE)).expect("a file").trim_end().to_string()
    }

    #[test]
    fn a_token_stays_and_no_two_are_alike() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let token = Token::of(one.path()).expect("writable");
        let text = written(one.path());
        assert!(token.is(&text) && !token.is("") && !token.is(&text[1..]));
        assert_eq!(Token::of(one.path()).expect("readable"), token);
        Token::of(other.path()).expect("writable");
        assert_ne!(written(other.path()), text);
        assert_eq!(std::fs::metadata(&token.file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_others_may_read_or_have_planted_is_no_secret() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, known) = (dir.path().join(FILE), "a".repeat(LENGTH));
        let elsewhere = dir.path().join("elsewhere");
        std::fs::write(&elsewhere, &known).expect("written");
        std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o600)).expect("ours");
        symlink(&elsewhere, &file).expect("a link");
        assert!(!Token::of(dir.path()).expect("writable").is(&known), "a link");
        for (text, mode) in [(known.as_str(), 0o644), ("", 0o600), ("aa\n", 0o600), (&"z".repeat(LENGTH), 0o600)] {
            std::fs::write(&file, text).expect("written");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("ours");
            assert!(!Token::of(dir.path()).expect("writable").is(text), "{text:?} of mode {mode:o}");
            assert_eq!(written(dir.path()).len(), LENGTH);
        }
        assert_eq!(std::fs::read_to_string(&elsewhere).expect("there"), known, "nothing was written through it");
    }
}
