//! Linux capabilities by their names, as Kubernetes writes them: `NET_BIND_SERVICE`, `ALL`.

use serde::{Serialize, Serializer};

/// By their numbers, capabilities(7).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
const ALL: &str = "ALL";
/// CAP_SETPCAP.
pub const SETPCAP: Set = Set(1 << 8);
/// CAP_NET_BIND_SERVICE.
pub const NET_BIND_SERVICE: Set = Set(1 << 10);
/// CAP_SYS_NICE.
pub const SYS_NICE: Set = Set(1 << 23);
/// CAP_SYS_RESOURCE.
pub const SYS_RESOURCE: Set = Set(1 << 24);

/// A set, a bit for each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

impl Set {
    pub const EVERY: Set = Set(u64::MAX);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn with(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub fn common(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub fn names(self) -> Vec<&'static str> {
        if self == Set::EVERY {
            return vec![ALL];
        }
        (0..).zip(NAMES).filter(|(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| name).collect()
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.names().serialize(serializer)
    }
}

/// In any case, with or without `CAP_`; canonical: the name and what it stands for.
pub fn parse(text: &str) -> Option<(&'static str, Set)> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == ALL {
        return Some((ALL, Set::EVERY));
    }
    let number = NAMES.iter().position(|known| *known == name)?;
    Some((NAMES[number], Set(1 << number)))
}

/// Every name that may be written.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain([ALL])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_every_spelling_and_shown_in_one() {
        for spelt in ["NET_BIND_SERVICE", "net_bind_service", "CAP_NET_BIND_SERVICE", "cap_Net_Bind_Service"] {
            assert_eq!(parse(spelt), Some(("NET_BIND_SERVICE", Set(1 << 10))), "{spelt}");
        }
        assert_eq!(parse("all").map(|(_, set)| set.names()), Some(vec!["ALL"]));
        assert_eq!(parse("CHECKPOINT_RESTORE").map(|(_, set)| set.0), Some(1 << 40));
        for wrong in ["", "CAP_", "NET", "CAP_CAP_CHOWN", "NET_BIND_SERVICE "] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for name in names() {
            assert_eq!(parse(name).map(|(name, set)| (name, set.names())), Some((name, vec![name])));
        }
    }
}
