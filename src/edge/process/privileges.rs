//! Which capabilities a process begins with (`securityContext.capabilities`), as sets that the keeper sets.
//!
//! As with Kubernetes: what plugd has, less what is dropped, and what is added. Whoever is not root has none
//! of them by his user, so what is added for him is put into the ambient set, which an exec hands on.
//! Nothing can be added that plugd does not have itself.
//!
//! To take away for good is to shrink the bounding set, which needs CAP_SETPCAP. Where plugd lacks that, it is
//! no_new_privs which sees to it that no program gives back what was dropped.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::prepare::{Unpreparable, fault};
use crate::model::capability::{SETPCAP, Set};
use crate::model::reason::Reason;
use crate::model::spec::Capabilities;

/// What plugd itself has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    pub permitted: Set,
    pub bounding: Set,
    pub ambient: Set,
}

/// What a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Every bit that may stay; all of them where none is to be dropped.
    pub bounding: Set,
    /// Permitted and effective until the exec.
    pub kept: Set,
    pub ambient: Set,
    /// Instead of a smaller bounding set.
    pub no_new_privs: bool,
}

impl Own {
    /// As /proc tells it; nothing where that tells nothing.
    pub fn now() -> Own {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let set = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).map(Set).unwrap_or_default()
        };
        Own { permitted: set("CapPrm:"), bounding: set("CapBnd:"), ambient: set("CapAmb:") }
    }

    /// For a process that is root or not, and of another user than plugd or not.
    pub fn grant(&self, wanted: &Capabilities, root: bool, other_user: bool) -> Result<Granted, Unpreparable> {
        // `ALL` is all that there are to be had.
        let add = if wanted.add == Set::EVERY { self.permitted.without(wanted.drop) } else { wanted.add };
        let lacking = add.without(self.permitted);
        if !lacking.is_empty() {
            let names = lacking.names().join(", ");
            return Err(fault(
                Reason::PermissionDenied,
                format!(
                    "it cannot be given {names}, which plugd does not have itself: run plugd as root, or give it the capability (AmbientCapabilities= of its systemd unit, --cap-add of its container)"
                ),
            ));
        }
        let bounding = self.bounding.without(wanted.drop).with(add);
        let shrinks = bounding != self.bounding;
        let may_shrink = !self.permitted.common(SETPCAP).is_empty();
        let ambient = match (root, other_user) {
            (true, _) => Set::default(),
            (false, true) => add,
            (false, false) => self.ambient.without(wanted.drop).with(add),
        };
        Ok(Granted {
            bounding: if may_shrink { bounding } else { Set::EVERY },
            kept: if root { self.permitted.without(wanted.drop).with(add) } else { ambient },
            ambient,
            no_new_privs: shrinks && !may_shrink,
        })
    }
}

impl Granted {
    /// Does something while no other capabilities are in force, on this thread alone.
    pub fn in_force<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        /// Takes the old ones back, also where `act` panics.
        struct Back(CapabilitySets);
        impl Drop for Back {
            fn drop(&mut self) {
                // What is permitted is left as it was, so that this cannot be refused.
                let _ = set_capabilities(None, self.0);
            }
        }
        let own = capabilities(None)?;
        let kept = CapabilitySet::from_bits_retain(self.kept.0);
        set_capabilities(None, CapabilitySets { effective: own.permitted & kept, ..own })?;
        let _back = Back(own);
        Ok(act())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability::parse;

    fn set(names: &[&str]) -> Set {
        names.iter().map(|name| parse(name).expect("a name").1).fold(Set::default(), Set::with)
    }

    fn wanted(drop: &[&str], add: &[&str]) -> Capabilities {
        Capabilities { drop: set(drop), add: set(add) }
    }

    fn root() -> Own {
        let all = set(&["CHOWN", "KILL", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW"]);
        Own { permitted: all, bounding: all, ambient: Set::default() }
    }

    #[test]
    fn an_added_one_reaches_another_user_by_the_ambient_set() {
        let granted = root().grant(&wanted(&["ALL"], &["NET_BIND_SERVICE"]), false, true).expect("granted");
        let one = set(&["NET_BIND_SERVICE"]);
        assert_eq!(granted, Granted { bounding: one, kept: one, ambient: one, no_new_privs: false });
        let granted = root().grant(&wanted(&[], &["NET_RAW"]), false, true).expect("granted");
        assert_eq!((granted.bounding, granted.ambient), (root().bounding, set(&["NET_RAW"])));
    }

    #[test]
    fn root_keeps_what_is_not_dropped() {
        let granted = root().grant(&wanted(&["NET_RAW", "KILL"], &[]), true, false).expect("granted");
        let rest = set(&["CHOWN", "SETPCAP", "NET_BIND_SERVICE"]);
        assert_eq!(granted, Granted { bounding: rest, kept: rest, ambient: Set::default(), no_new_privs: false });
        let granted = root().grant(&wanted(&["ALL"], &[]), true, false).expect("granted");
        assert_eq!((granted.bounding, granted.kept), (Set::default(), Set::default()));
        let granted = root().grant(&wanted(&["KILL"], &["ALL"]), true, false).expect("granted");
        assert_eq!(granted.kept, root().permitted.without(set(&["KILL"])));
    }

    #[test]
    fn an_ordinary_user_drops_by_no_new_privs_and_hands_on_what_is_ambient() {
        let own = Own { bounding: root().bounding, ..Own::default() };
        let granted = own.grant(&wanted(&["ALL"], &[]), false, false).expect("granted");
        assert_eq!(
            granted,
            Granted { bounding: Set::EVERY, kept: Set::default(), ambient: Set::default(), no_new_privs: true }
        );
        let two = set(&["NET_RAW", "NET_BIND_SERVICE"]);
        let own = Own { permitted: two, bounding: root().bounding, ambient: two };
        let granted = own.grant(&wanted(&["NET_RAW"], &[]), false, false).expect("granted");
        assert_eq!((granted.ambient, granted.no_new_privs), (set(&["NET_BIND_SERVICE"]), true));
        let granted = own.grant(&wanted(&["ALL"], &["NET_RAW"]), false, false).expect("granted");
        assert_eq!(granted.ambient, set(&["NET_RAW"]));
    }

    #[test]
    fn what_plugd_does_not_have_is_named() {
        let fault =
            Own::default().grant(&wanted(&[], &["NET_BIND_SERVICE", "CHOWN"]), false, false).expect_err("refused");
        assert_eq!(fault.reason, Reason::PermissionDenied);
        assert!(fault.message.contains("CHOWN, NET_BIND_SERVICE"), "{}", fault.message);
    }

    #[test]
    fn this_process_has_a_bounding_set() {
        assert!(!Own::now().bounding.is_empty());
    }
}
