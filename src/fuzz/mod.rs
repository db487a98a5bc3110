//! Every border at which bytes of strangers come in, as a function that takes any bytes: it reads them as
//! plugd does and asserts what must hold whatever they are. Not part of the library's promise.
//!
//! `fuzz/` has a target for each line of the table (cargo-fuzz), `fuzz/corpus/NAME/` what they found worth
//! keeping, and `tests/corpora.rs` runs all of it, and mutations of it, in every test run. What has been
//! found once is a file of the corpus for ever.

mod http;
mod manifest;
mod memory;
mod packets;
mod shown;
mod words;

/// One border.
#[derive(Debug, Clone, Copy)]
pub struct Border {
    /// Of the target and of its corpus.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub feed: fn(&[u8]),
}

const fn border(name: &'static str, feed: fn(&[u8])) -> Border {
    Border { name, feed }
}

/// All of them.
pub const BORDERS: &[Border] = &[
    border("manifest", manifest::manifest),
    border("settings", manifest::settings),
    border("script", manifest::script),
    border("names", words::names),
    border("numbers", words::numbers),
    border("command", words::command),
    border("variables", words::variables),
    border("schedule", words::schedule),
    border("text", shown::text),
    border("status", shown::status),
    border("keeper", packets::keeper),
    border("notify", packets::notify),
    border("past", memory::past),
    border("blob", memory::blob),
    border("memory", memory::memory),
    border("lives", memory::lives),
    border("http", http::http),
];

/// Feeds one border, by its name.
pub fn feed(name: &str, bytes: &[u8]) {
    let border = BORDERS.iter().find(|border| border.name == name);
    (border.unwrap_or_else(|| panic!("no border is named {name}")).feed)(bytes);
}
