//! What the keeper holds for the brain, of one life: at most 1 KiB, opaque to the keeper.
//!
//! One byte of version, then JSON with short keys: a few hundred bytes, readable by whoever debugs
//! a keeper, and a later version may add fields. A blob that cannot be read is no error: the life
//! is adopted with defaults (and, as its print differs, replaced when it is declared).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::life::{Made, Print};
use crate::model::digest::hex;
use crate::model::spec::Digest;

const VERSION: u8 = 1;
/// The keeper refuses more.
pub(super) const BLOB_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Blob {
    /// Hex of both digests.
    #[serde(rename = "p")]
    pub process: String,
    #[serde(rename = "c")]
    pub content: String,
    #[serde(rename = "g", default)]
    pub generation: u64,
    /// Of this instance, and of the whole service.
    #[serde(rename = "r", default)]
    pub restarts: u64,
    #[serde(rename = "R", default)]
    pub service_restarts: u64,
    #[serde(rename = "s", default)]
    pub step: u32,
    #[serde(rename = "f", default)]
    pub failed_starts: u32,
    /// Microseconds since the epoch.
    #[serde(rename = "w", default)]
    pub spawned: i64,
    /// The age, in ms, at which it became ready.
    #[serde(rename = "a", default)]
    pub ready_age: Option<u64>,
    /// We are stopping it: its end is no crash.
    #[serde(rename = "x", default)]
    pub stopping: bool,
    #[serde(rename = "k", default)]
    pub signal: i32,
    /// Milliseconds.
    #[serde(rename = "t", default)]
    pub grace: u64,
    /// Of the life before: code, signal, microseconds since the epoch.
    #[serde(rename = "e", default)]
    pub last_exit: Option<(Option<i32>, Option<i32>, i64)>,
    /// The last restarts that count against its score, microseconds since the epoch; three at most.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<i64>,
}

impl Blob {
    pub fn of(made: &Made) -> Blob {
        Blob {
            process: hex(made.print.process),
            content: hex(made.print.content),
            signal: made.signal,
            grace: u64::try_from(made.grace.as_millis()).unwrap_or(u64::MAX),
            ..Blob::default()
        }
    }

    pub fn print(&self) -> Print {
        Print { process: unhex(&self.process), content: unhex(&self.content) }
    }

    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("numbers and short strings always serialize");
        debug_assert!(bytes.len() <= BLOB_MAX);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Blob> {
        match bytes.split_first() {
            Some((&VERSION, rest)) if rest.len() < BLOB_MAX => serde_json::from_slice(rest).ok(),
            Some(_) | None => None,
        }
    }
}

pub(super) fn unhex(text: &str) -> Digest {
    let mut digest = Digest::default();
    if text.len() == 32 && text.is_ascii() {
        for (at, byte) in digest.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap_or(0);
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_back_and_stays_below_the_limit_whatever_it_holds() {
        let digest = Digest([0xab; 16]);
        let blob = Blob {
            process: hex(digest),
            content: hex(digest),
            generation: u64::MAX,
            restarts: u64::MAX,
            service_restarts: u64::MAX,
            step: u32::MAX,
            failed_starts: u32::MAX,
            spawned: i64::MIN,
            ready_age: Some(u64::MAX),
            stopping: true,
            signal: i32::MIN,
            grace: u64::MAX,
            last_exit: Some((Some(i32::MIN), Some(i32::MIN), i64::MIN)),
            restarted: vec![i64::MIN; crate::policy::score::RESTARTS_COUNTED],
        };
        let bytes = blob.encode();
        assert!(bytes.len() <= BLOB_MAX, "{}", bytes.len());
        assert_eq!(Blob::decode(&bytes), Some(blob));
        assert_eq!(unhex(&hex(digest)), digest);
    }

    #[test]
    fn a_blob_of_another_version_or_of_garbage_is_none() {
        for bytes in [&b""[..], b"\x02{}", b"\x01", b"\x01[", b"\xff\xff"] {
            assert_eq!(Blob::decode(bytes), None);
        }
    }
}
