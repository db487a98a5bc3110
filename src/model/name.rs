//! Names of services, instances and lives.
//!
//! A service `orders` has instances `orders/0`, `orders/1`; each instance has lives that count up
//! for ever. Two lives of one instance never exist at the same time.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name of a service, in bytes: a DNS label's 63, so that every name can become one.
pub const NAME_MAX: usize = 63;

/// The valid name of a service: `[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?`, at most 63 bytes,
/// not ending in `.status`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// Why a text is no name, with the nearest valid one where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid name: {why}{}", hint.as_ref().map(|name| format!("; try {name:?}")).unwrap_or_default())]
pub struct InvalidName {
    pub text: String,
    pub why: &'static str,
    pub hint: Option<String>,
}

impl Name {
    pub fn parse(text: &str) -> Result<Name, InvalidName> {
        match Self::fault(text) {
            None => Ok(Name(text.into())),
            Some(why) => Err(InvalidName { text: text.into(), why, hint: Self::nearest(text) }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of its logs where it has several instances: its name. Where that can be a log of another
    /// service (`x.log`, `y.log.1`), it has an end that no name has.
    pub fn log_folder(&self) -> String {
        let text = self.as_str();
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let unnumbered = text.rsplit_once('.').filter(|(_, end)| number(end)).map_or(text, |(stem, _)| stem);
        let is_log = [".log", ".err"].iter().any(|end| text.ends_with(end) || unnumbered.ends_with(end));
        if is_log { format!("{text}-") } else { text.to_string() }
    }

    fn fault(text: &str) -> Option<&'static str> {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            Some("it is empty")
        } else if bytes.len() > NAME_MAX {
            Some("it is longer than 63 characters")
        } else if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b)) {
            Some("only letters, digits, '.', '_' and '-' are allowed")
        } else if !edge(bytes.first()) || !edge(bytes.last()) {
            Some("it must begin and end with a letter or a digit")
        } else if text.ends_with(".status") {
            Some("names that end in .status are status files")
        } else {
            None
        }
    }

    fn nearest(text: &str) -> Option<String> {
        let mapped: String =
            text.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let mapped = mapped.trim_end_matches(".status");
        let cut: String = mapped.chars().take(NAME_MAX).collect();
        let trimmed = cut.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        Self::fault(trimmed).is_none().then(|| trimmed.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// One instance of a service, `orders/0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    pub service: Name,
    pub index: u32,
}

impl Instance {
    /// The inverse of `Display`: `orders/0`.
    pub fn parse(text: &str) -> Option<Instance> {
        let (service, index) = text.rsplit_once('/')?;
        Some(Instance { service: Name::parse(service).ok()?, index: index.parse().ok()? })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.index)
    }
}

/// One life of an instance: the identity under which the keeper knows a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LifeId {
    pub instance: Instance,
    pub life: u64,
}

impl fmt::Display for LifeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.instance, self.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_and_wrong_ones_come_with_a_hint() {
        for good in ["a", "web", "web_api", "a.b-c", "9lives", &"x".repeat(63)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for (bad, hint) in [
            ("", None),
            ("-rf", Some("rf")),
            ("web api", Some("web-api")),
            ("../etc", Some("etc")),
            ("x.status", Some("x")),
            ("…", None),
        ] {
            assert_eq!(Name::parse(bad).expect_err(bad).hint.as_deref(), hint, "{bad}");
        }
    }

    #[test]
    fn instances_are_written_and_read_back() {
        let instance = Instance { service: Name::parse("orders").expect("valid"), index: 3 };
        assert_eq!(instance.to_string(), "orders/3");
        assert_eq!(Instance::parse("orders/3"), Some(instance));
        assert_eq!(Instance::parse("orders"), None);
    }
}
