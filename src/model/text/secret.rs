//! What is secret does not stand in what is shown.

use std::cmp::Reverse;

/// What a secret is replaced by.
pub const MASK: &str = "***";
/// A shorter one would blot out words that are none.
pub const LENGTH_MIN: usize = 4;

/// What is shorter is shown whole.
const CUT_FROM: usize = 150;

/// The text without these. The longest first: one may be a part of another.
pub fn covered<'s>(text: &str, secrets: impl Iterator<Item = &'s String> + Clone) -> String {
    let long = secrets.filter(|secret| secret.len() >= LENGTH_MIN);
    let mut found: Vec<&String> = long.clone().filter(|secret| text.contains(secret.as_str())).collect();
    found.sort_by_key(|secret| Reverse(secret.len()));
    let text = found.into_iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), MASK));
    if text.len() < CUT_FROM {
        return text;
    }
    // One that was cut may begin or end within one, or lie in it.
    if long.clone().any(|secret| secret.contains(&text)) {
        return MASK.into();
    }
    let (bytes, edge) = (text.as_bytes(), LENGTH_MIN);
    let (head, tail) = (&bytes[..edge], &bytes[bytes.len() - edge..]);
    let places = |secret: &'s String, part: &[u8]| {
        let part = part.to_vec();
        secret.as_bytes().windows(edge).enumerate().filter(move |(_, window)| *window == part).map(|(at, _)| at)
    };
    let first = long.clone().flat_map(|secret| {
        let rests = places(secret, head).map(move |at| &secret.as_bytes()[at..]);
        rests.filter(|rest| bytes.starts_with(rest)).map(<[u8]>::len)
    });
    let last = long.clone().flat_map(|secret| {
        let starts = places(secret, tail).map(move |at| &secret.as_bytes()[..at + edge]);
        starts.filter(|start| bytes.ends_with(start)).map(<[u8]>::len)
    });
    let (first, last) = (first.max(), last.max());
    let Some(inner) = text.get(first.unwrap_or(0)..text.len() - last.unwrap_or(0)) else { return MASK.into() };
    let mask = |part: Option<usize>| part.map_or("", |_| MASK);
    format!("{}{inner}{}", mask(first), mask(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_text_that_was_cut_no_half_of_a_secret_is_left() {
        let secrets = ["s3cr3t-PASSWORD".to_string(), "abc".to_string(), "später-ist-geheim".to_string()];
        let shown = |text: &str| covered(text, secrets.iter());
        let rest = "x".repeat(CUT_FROM);
        assert_eq!(shown(&format!("PASSWORD\" {rest}")), format!("***\" {rest}"));
        assert_eq!(shown(&format!("{rest} s3cr3t-PASS")), format!("{rest} ***"));
        assert_eq!(shown(&format!("{rest} sp\u{e4}te")), format!("{rest} ***"));
        assert_eq!(shown(&format!("RD {rest} s3c")), format!("RD {rest} s3c"), "nobody knows by three");
        assert_eq!(shown(&format!("s3cr3t-PASSWORD {rest}")), format!("*** {rest}"));
        let long = rest.clone() + &rest;
        assert_eq!(covered(&long[10..], [long.clone()].iter()), MASK);
        assert_eq!(shown("a PASSWORD is needed: s3cr3t"), "a PASSWORD is needed: s3cr3t", "it is whole");
    }
}
