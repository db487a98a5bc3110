//! What is secret does not stand in what is shown.

use std::cmp::Reverse;

/// What a secret is replaced by.
pub const MASK: &str = "***";
/// A shorter one would blot out words that are none.
pub const LENGTH_MIN: usize = 4;

/// The text without these. The longest first: one may be a part of another.
pub fn covered<'s>(text: &str, secrets: impl Iterator<Item = &'s String>) -> String {
    let mut found: Vec<&String> =
        secrets.filter(|secret| secret.len() >= LENGTH_MIN && text.contains(secret.as_str())).collect();
    found.sort_by_key(|secret| Reverse(secret.len()));
    found.into_iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), MASK))
}
