//! Digests of meaning: a reordered, commented or differently spelt manifest has the same one.
//!
//! What is hashed is the spec as JSON, less all that says what is assumed anyway, with sorted keys,
//! behind the version of this encoding. So a later plugd that knows one more field, at its default,
//! computes what this one did and restarts nothing.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::name::Name;
use super::spec::{Digest, Process, Spec};

/// Changes only together with the encoding: it restarts every service of every user.
const VERSION: &str = "plugd spec 1\n";
/// The part of a spec of which a change restarts what runs.
const PROCESS: &str = "process";
/// Bytes of a digest that say its version.
const MARK: usize = 2;

/// Both digests of a spec; those that it holds are not looked at.
pub fn of(spec: &Spec) -> (Digest, Digest) {
    let mut spec = spec.clone();
    sort(&mut spec.process);
    spec.depends_on.sort_by(|a, b| a.name.cmp(&b.name));
    spec.capabilities.sort();
    spec.watch_files.sort();
    spec.restart.success_exit_codes.sort_unstable();
    // A list of what this version cannot do yet, and no part of what the file means.
    spec.not_yet_supported.clear();
    static ASSUMED: LazyLock<Value> = LazyLock::new(assumed);
    // Of a service without a name: the name is always told.
    let whole = difference(json(&spec), &ASSUMED).unwrap_or_default();
    let process = whole.get(PROCESS).cloned().unwrap_or_default();
    (hash(whole), hash(process))
}

fn assumed() -> Value {
    let name = Name::parse("x").expect("a name");
    let mut assumed = json(&super::manifest::assumed(name));
    if let Some(map) = assumed.as_object_mut() {
        map.insert("name".into(), Value::Null);
    }
    assumed
}

/// Orders that mean nothing.
fn sort(process: &mut Process) {
    process.env.sort_by(|a, b| a.0.cmp(&b.0));
    if let super::spec::InheritEnv::Only(names) = &mut process.inherit_env {
        names.sort();
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("a spec has string keys and no hand-written Serialize")
}

/// What of `value` is not also in `assumed`; objects are compared key by key.
fn difference(value: Value, assumed: &Value) -> Option<Value> {
    match (value, assumed) {
        (value, assumed) if value == *assumed => None,
        (Value::Object(value), Value::Object(assumed)) => {
            let own = value.into_iter().filter_map(|(key, inner)| {
                let rest = difference(inner, assumed.get(&key).unwrap_or(&Value::Null))?;
                Some((key, rest))
            });
            Some(Value::Object(own.collect::<Map<_, _>>()))
        }
        (value, _) => Some(value),
    }
}

/// Begins with a mark of the encoding's version: see [`comparable`].
fn hash(mut value: Value) -> Digest {
    value.sort_all_objects();
    let mut hasher = Sha256::new();
    hasher.update(VERSION);
    hasher.update(value.to_string());
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize()[..16]);
    digest[..MARK].copy_from_slice(&Sha256::digest(VERSION)[..MARK]);
    Digest(digest)
}

/// Whether both are of one encoding. Where a plugd of another one made the other, the two differ
/// whatever they mean.
pub fn comparable(one: Digest, other: Digest) -> bool {
    one.0[..MARK] == other.0[..MARK]
}

/// How the bytes of a manifest are named wherever they are told (`manifest.sha256`): the first 16 hex
/// digits of their sha256.
pub fn short(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes)[..8])
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(*self))
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        number.map(|number| Digest(number.to_be_bytes())).ok_or_else(|| serde::de::Error::custom("32 hex digits"))
    }
}

/// Lower-case hex, 32 digits.
pub fn hex(digest: Digest) -> String {
    digits(&digest.0)
}

/// Lower-case hex, two digits a byte.
pub fn digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest;

    /// A plugd that computes others restarts every service of every user.
    #[test]
    fn a_digest_stays_what_it_was() {
        let mut spec = manifest::assumed(Name::parse("web").expect("a name"));
        spec.replicas = 3;
        spec.process.args = vec!["--verbose".into()];
        let (whole, process) = of(&spec);
        assert_eq!(hex(whole), "4272dad73efa27ce7d6ce7bcb14a8088");
        assert_eq!(hex(process), "4272f08722b95b56c949afae4c8d1e6d");
    }
}
