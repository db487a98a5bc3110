//! What services were given in secret does not stand in a status that everybody may read.
//!
//! A service may print its password, and a check may repeat it. The log holds exactly what was written, and
//! only its owner and group read that; what is quoted of it in `why`, `check` and `lastExit` goes through here
//! before the brain hears it. Known are the values of `env: {NAME: {file: …}}` and `{fromEnv: …}`, as they were
//! when something of the service was prepared last, and before. A controller that takes over a service has to read
//! them first: until then what the service says is held, and where they do not come it is covered as a whole.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::controller::Input;
use crate::model::name::Name;

/// What a secret is replaced by.
const MASK: &str = "***";
/// A shorter one would blot out words that are none.
const LENGTH_MIN: usize = 4;
/// Of one service: several variables, each changed some times.
const SECRETS_MAX: usize = 64;
/// Of one service, said while its secrets are read: the oldest go first.
const HELD_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Masks {
    secrets: HashMap<Name, BTreeSet<String>>,
    /// Services whose secrets are being read, with what they said since; none: it takes too long to wait for them.
    unread: HashMap<Name, Option<VecDeque<Input>>>,
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
        self.unread.remove(name);
    }

    /// Its secrets are to be read; whether that is not under way already.
    pub fn expect(&mut self, name: &Name) -> bool {
        match self.unread.contains_key(name) {
            true => false,
            false => self.unread.insert(name.clone(), Some(VecDeque::new())).is_none(),
        }
    }

    /// They were read: what was held, in its order.
    pub fn release(&mut self, name: &Name) -> VecDeque<Input> {
        self.unread.remove(name).flatten().unwrap_or_default()
    }

    /// They do not come in time, or not at all: what was held, to be covered as a whole, as what comes from now on
    /// until they are read.
    pub fn give_up(&mut self, name: &Name) -> VecDeque<Input> {
        self.unread.get_mut(name).and_then(Option::take).unwrap_or_default()
    }

    /// The fact, without what is to be hidden in its words; none while that is not known.
    pub fn hide(&mut self, mut input: Input) -> Option<Input> {
        let held = says(&input).and_then(|name| self.unread.get_mut(name)).and_then(Option::as_mut);
        if let Some(held) = held {
            if held.len() == HELD_MAX {
                held.pop_front();
            }
            held.push_back(input);
            return None;
        }
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
        Some(input)
    }

    fn cover(&self, name: &Name, text: &mut String) {
        if self.unread.contains_key(name) {
            *text = MASK.into();
            return;
        }
        // The longest first: one may be a part of another.
        let mut found: Vec<&String> =
            self.secrets.get(name).into_iter().flatten().filter(|secret| text.contains(secret.as_str())).collect();
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in found {
            *text = text.replace(secret.as_str(), MASK);
        }
    }
}

/// Whose own words are in it.
fn says(input: &Input) -> Option<&Name> {
    match input {
        Input::Output { life, .. }
        | Input::Verdict { life, .. }
        | Input::HookEnded { life, .. }
        | Input::Notified { life, .. } => Some(&life.instance.service),
        _ => None,
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
        let Some(Input::Output { lines, .. }) = masks.hide(output("db")) else { unreachable!("as it was given") };
        assert_eq!(lines, ["postgres://app:***@db", "*** abc", "***"]);
        let Some(Input::Output { lines, .. }) = masks.hide(output("web")) else { unreachable!("as it was given") };
        assert_eq!(lines[1], "s3cret abc");

        let verdict =
            Verdict { passed: false, message: "exec: no s3cret".into(), reason: None, took: Default::default() };
        let Some(Input::Verdict { verdict, .. }) =
            masks.hide(Input::Verdict { life: life("db"), probe: ProbeSlot::Liveness, verdict })
        else {
            unreachable!("as it was given")
        };
        assert_eq!(verdict.message, "exec: no ***");
        masks.forget(&name("db"));
        let Some(Input::Output { lines, .. }) = masks.hide(output("db")) else { unreachable!("as it was given") };
        assert_eq!(lines[1], "s3cret abc");
    }

    #[test]
    fn while_its_secrets_are_read_a_service_says_nothing_and_when_they_do_not_come_nothing_of_its_own() {
        let name = Name::parse("db").expect("valid");
        let life = LifeId { instance: Instance { service: name.clone(), index: 0 }, life: 1 };
        let output = |text: &str| Input::Output { life: life.clone(), lines: vec![text.into()] };
        let said = |input: Option<Input>| match input {
            Some(Input::Output { lines, .. }) => lines.concat(),
            other => unreachable!("as it was given: {other:?}"),
        };
        let mut masks = Masks::default();
        assert!(masks.expect(&name) && !masks.expect(&name));
        assert!(masks.hide(output("one s3cret")).is_none() && masks.hide(output("two")).is_none());
        masks.learn(&name, vec!["s3cret".into()]);
        let told: Vec<String> = masks.release(&name).into_iter().map(|input| said(masks.hide(input))).collect();
        assert_eq!(told, ["one ***", "two"]);

        assert!(masks.expect(&name));
        (0..=HELD_MAX).for_each(|n| assert!(masks.hide(output(&format!("held {n}"))).is_none()));
        let held = masks.give_up(&name);
        assert_eq!(held.len(), HELD_MAX);
        assert!(held.into_iter().all(|input| said(masks.hide(input)) == MASK));
        assert_eq!(said(masks.hide(output("later"))), MASK);
        assert!(masks.release(&name).is_empty());
        assert_eq!(said(masks.hide(output("later"))), "later");
    }
}
