//! What services were given in secret does not stand in a status that everybody may read.
//!
//! A service may print its password, and a check may repeat it. The log holds exactly what was written, and
//! only its owner and group read that; what is quoted of it in `why`, `check` and `lastExit` goes through here
//! before the brain hears it. Known are the values of `env: {NAME: {file: …}}`, as they were when something of
//! the service was prepared last, and before.

use std::collections::{BTreeSet, HashMap};

use crate::controller::Input;
use crate::model::name::Name;

/// What a secret is replaced by.
const MASK: &str = "***";
/// A shorter one would blot out words that are none.
const LENGTH_MIN: usize = 4;
/// Of one service: several variables, each changed some times.
const SECRETS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Masks {
    secrets: HashMap<Name, BTreeSet<String>>,
}

impl Masks {
    pub fn learn(&mut self, name: &Name, secrets: Vec<String>) {
        // Output is quoted line by line.
        let lines = secrets.iter().flat_map(|secret| secret.lines()).map(str::trim);
        let long: Vec<&str> = lines.filter(|line| line.len() >= LENGTH_MIN).collect();
        if long.is_empty() {
            return;
        }
        let known = self.secrets.entry(name.clone()).or_default();
        known.extend(long.into_iter().take(SECRETS_MAX).map(String::from));
        while known.len() > SECRETS_MAX {
            known.pop_first();
        }
    }

    pub fn forget(&mut self, name: &Name) {
        self.secrets.remove(name);
    }

    /// The fact, without what is to be hidden in its words.
    pub fn hide(&self, mut input: Input) -> Input {
        match &mut input {
            Input::Output { life, lines } => lines.iter_mut().for_each(|line| self.cover(&life.instance.service, line)),
            Input::Verdict { life, verdict, .. } => self.cover(&life.instance.service, &mut verdict.message),
            Input::HookEnded { life, result: Err((_, why)), .. } => self.cover(&life.instance.service, why),
            Input::Notified { life, message } => {
                message.status.iter_mut().for_each(|status| self.cover(&life.instance.service, status));
            }
            // Whoever made these had no word of the service's own.
            _ => {}
        }
        input
    }

    fn cover(&self, name: &Name, text: &mut String) {
        // The longest first: one may be a part of another.
        let mut found: Vec<&String> =
            self.secrets.get(name).into_iter().flatten().filter(|secret| text.contains(secret.as_str())).collect();
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in found {
            *text = text.replace(secret.as_str(), MASK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ProbeSlot, Verdict};
    use crate::model::name::{Instance, LifeId};

    #[test]
    fn what_a_service_repeats_of_its_secrets_is_covered_and_of_others_not() {
        let name = |text: &str| Name::parse(text).expect("valid");
        let life = |text: &str| LifeId { instance: Instance { service: name(text), index: 0 }, life: 1 };
        let mut masks = Masks::default();
        masks.learn(&name("db"), vec!["s3cret".into(), "s3cret-and-more\nsecond line".into(), "abc".into()]);
        let output = |service: &str| Input::Output {
            life: life(service),
            lines: vec!["postgres://app:s3cret-and-more@db".into(), "s3cret abc".into(), "second line".into()],
        };
        let Input::Output { lines, .. } = masks.hide(output("db")) else { unreachable!("as it was given") };
        assert_eq!(lines, ["postgres://app:***@db", "*** abc", "***"]);
        let Input::Output { lines, .. } = masks.hide(output("web")) else { unreachable!("as it was given") };
        assert_eq!(lines[1], "s3cret abc");

        let verdict =
            Verdict { passed: false, message: "exec: no s3cret".into(), reason: None, took: Default::default() };
        let Input::Verdict { verdict, .. } =
            masks.hide(Input::Verdict { life: life("db"), probe: ProbeSlot::Liveness, verdict })
        else {
            unreachable!("as it was given")
        };
        assert_eq!(verdict.message, "exec: no ***");
        masks.forget(&name("db"));
        let Input::Output { lines, .. } = masks.hide(output("db")) else { unreachable!("as it was given") };
        assert_eq!(lines[1], "s3cret abc");
    }
}
