//! How a new version is brought out.

use crate::model::spec::{Spec, Strategy};

/// The plan of an update: how many old instances may be down at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Stop all, then start.
    Recreate,
    /// One after the other; the next only when the one before is ready.
    Rolling { max_unavailable: u32 },
}

/// As it is written, or computed: Recreate for one instance and for every service that binds a
/// literal port of its own; Rolling for several instances without one.
///
/// `maxSurge` needs somebody who owns the front; until then it counts as 0.
pub fn plan(spec: &Spec, instances: u32) -> Plan {
    let rolling = || {
        let written = spec.update.as_ref().and_then(|update| update.max_unavailable);
        Plan::Rolling { max_unavailable: written.unwrap_or(1).max(1) }
    };
    match spec.update.as_ref().and_then(|update| update.strategy) {
        Some(Strategy::Recreate) => Plan::Recreate,
        Some(Strategy::Rolling) => rolling(),
        None if instances > 1 => rolling(),
        None => Plan::Recreate,
    }
}

/// For `plugd check`: the strategy and why.
pub fn explain(spec: &Spec) -> String {
    let written = spec.update.as_ref().is_some_and(|update| update.strategy.is_some());
    match plan(spec, spec.replicas) {
        Plan::Recreate if written => "Recreate (as written)".into(),
        Plan::Recreate => "Recreate (one instance: it stops, then the new one starts)".into(),
        Plan::Rolling { max_unavailable } if written => {
            format!("Rolling, {max_unavailable} at a time (as written)")
        }
        Plan::Rolling { max_unavailable } => {
            format!("Rolling, {max_unavailable} at a time ({} instances)", spec.replicas)
        }
    }
}

/// How many outdated instances may be stopped now. Those that serve nobody cost nothing.
pub fn may_stop(plan: Plan, unavailable: u32) -> u32 {
    match plan {
        Plan::Recreate => u32::MAX,
        Plan::Rolling { max_unavailable } => max_unavailable.saturating_sub(unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_stops_while_one_is_down() {
        let rolling = Plan::Rolling { max_unavailable: 1 };
        assert_eq!([0, 1, 2].map(|down| may_stop(rolling, down)), [1, 0, 0]);
        assert_eq!(may_stop(Plan::Recreate, 3), u32::MAX);
    }
}
