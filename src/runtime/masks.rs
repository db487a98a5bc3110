//! What services were given in secret does not stand in a status that everybody may read.
//!
//! A service may print its password, and a check may repeat it. The log holds exactly what was written, and
//! only its owner and group read that; what is quoted of it in `why`, `check` and `lastExit` goes through here
//! before the brain hears it. Known are the values of `env: {NAME: {file: …}}` and `{fromEnv: …}`, as they were
//! when something of the service was prepared last, and before. A controller that takes over a service has to read
//! them first: until then what the service says is held. Where they do not come, or are others than those that the
//! process was given, what it says is covered as a whole.

use std::collections::{HashMap, HashSet, VecDeque};

use jiff::Timestamp;

use crate::controller::Input;
use crate::model::name::{LifeId, Name};
use crate::model::text::secret::{LENGTH_MIN, MASK, covered};

/// Of one service: several variables, each changed some times.
const SECRETS_MAX: usize = 64;
/// Of one service, said while its secrets are read: the oldest go first.
const HELD_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Masks {
    /// The latest last.
    secrets: HashMap<Name, Vec<Secret>>,
    /// From when on all is known that a service was given; `MAX` where its process was given what is not known.
    known_since: HashMap<Name, Timestamp>,
    unread: HashMap<Name, Unread>,
    /// Processes that were given what is not known.
    veiled: HashSet<LifeId>,
}

#[derive(Debug)]
struct Secret {
    value: String,
    /// Output is quoted line by line.
    lines: Vec<String>,
}

/// A service whose secrets are being read.
#[derive(Debug)]
struct Unread {
    /// Answers that are to come.
    awaited: usize,
    /// Not all of them can be read.
    failed: bool,
    /// What it has said meanwhile; none: that is not waited for any more.
    held: Option<VecDeque<Input>>,
    /// Who was given them.
    lives: Vec<LifeId>,
}

impl Masks {
    /// The files that they come from are as they are since then.
    pub fn learn(&mut self, name: &Name, values: Vec<String>, since: Option<Timestamp>) {
        if values.is_empty() {
            return;
        }
        self.known_since.entry(name.clone()).or_insert(since.unwrap_or(Timestamp::MIN));
        let known = self.secrets.entry(name.clone()).or_default();
        // Those of before go first, never one of these.
        known.retain(|secret| !values.contains(&secret.value));
        let room = SECRETS_MAX.saturating_sub(values.len());
        known.drain(..known.len().saturating_sub(room));
        known.extend(values.into_iter().map(Secret::of));
    }

    pub fn forget(&mut self, name: &Name) {
        self.secrets.remove(name);
        self.known_since.remove(name);
        self.unread.remove(name);
        self.veiled.retain(|life| life.instance.service != *name);
    }

    /// Whether its secrets were read, or are being read, or cannot be.
    pub fn knows(&self, name: &Name) -> bool {
        self.known_since.contains_key(name) || self.unread.contains_key(name)
    }

    /// They are being read, and not given up.
    pub fn reads(&self, name: &Name) -> bool {
        self.unread.get(name).is_some_and(|unread| unread.held.is_some())
    }

    /// Secrets of it are to be read, which this process was given.
    pub fn expect(&mut self, name: &Name, life: Option<LifeId>) {
        let nothing = || Unread { awaited: 0, failed: false, held: Some(VecDeque::new()), lives: Vec::new() };
        let unread = self.unread.entry(name.clone()).or_insert_with(nothing);
        unread.awaited += 1;
        unread.lives.extend(life);
    }

    /// They were read and are as they were given, since then; or they are not known. What was held and is to be told
    /// now, in its order.
    pub fn answered(&mut self, name: &Name, known_since: Option<Timestamp>) -> VecDeque<Input> {
        let Some(unread) = self.unread.get_mut(name) else { return VecDeque::new() };
        unread.awaited = unread.awaited.saturating_sub(1);
        unread.failed |= known_since.is_none();
        if unread.failed {
            let held = self.give_up(name);
            self.unread.retain(|of, unread| of != name || unread.awaited > 0);
            return held;
        }
        if unread.awaited > 0 {
            return VecDeque::new();
        }
        let unread = self.unread.remove(name);
        unread.iter().flat_map(|unread| &unread.lives).for_each(|life| drop(self.veiled.remove(life)));
        self.known_since.insert(name.clone(), known_since.unwrap_or(Timestamp::MIN));
        unread.and_then(|unread| unread.held).unwrap_or_default()
    }

    /// They do not come in time: what was held, to be covered as a whole, as what comes from now on until they do.
    pub fn give_up(&mut self, name: &Name) -> VecDeque<Input> {
        let Some(unread) = self.unread.get_mut(name) else { return VecDeque::new() };
        self.veiled.extend(unread.lives.iter().cloned());
        self.known_since.insert(name.clone(), Timestamp::MAX);
        unread.held.take().unwrap_or_default()
    }

    /// Another process of it was prepared: what that may tell is known.
    pub fn begins_anew(&mut self, name: &Name, now: Timestamp) {
        self.known_since
            .get_mut(name)
            .into_iter()
            .filter(|since| **since == Timestamp::MAX)
            .for_each(|since| *since = now);
    }

    /// The fact, without what is to be hidden in its words; none while that is not known.
    pub fn hide(&mut self, mut input: Input) -> Option<Input> {
        let held = says(&input).and_then(|name| self.unread.get_mut(name)).and_then(|unread| unread.held.as_mut());
        if let Some(held) = held {
            if held.len() == HELD_MAX {
                held.pop_front();
            }
            held.push_back(input);
            return None;
        }
        match &mut input {
            Input::Output { life, lines } => lines.iter_mut().for_each(|line| self.cover(life, line)),
            Input::Verdict { life, verdict, .. } => self.cover(life, &mut verdict.message),
            Input::HookEnded { life, result: Err((_, why)), .. } => self.cover(life, why),
            Input::Notified { life, message } => {
                message.status.iter_mut().for_each(|status| self.cover(life, status));
            }
            // Of what expanded to it: the path of the program.
            Input::SpawnFailed { life, message, .. } => self.cover_known(&life.instance.service, message),
            // Whoever made these had no word of the service's own.
            _ => {}
        }
        Some(input)
    }

    /// A word of a process's own.
    fn cover(&self, life: &LifeId, text: &mut String) {
        match self.veiled.contains(life) {
            true => *text = MASK.into(),
            false => self.cover_known(&life.instance.service, text),
        }
    }

    /// A line of its log: what it was given before all is known may stand in those of before.
    pub fn cover_line(&self, name: &Name, written: Option<Timestamp>, text: &mut String) {
        let is_known = |since: &Timestamp| written.is_some_and(|written| written >= *since);
        match self.known_since.get(name).is_none_or(is_known) {
            true => self.cover_known(name, text),
            false => *text = MASK.into(),
        }
    }

    fn cover_known(&self, name: &Name, text: &mut String) {
        let known = self.secrets.get(name).into_iter().flatten();
        *text = covered(text, known.flat_map(|secret| &secret.lines));
    }
}

impl Secret {
    fn of(value: String) -> Secret {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= LENGTH_MIN).map(String::from);
        Secret { lines: lines.collect(), value }
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
        masks.learn(&name("db"), vec!["s3cret".into(), "s3cret-and-more\nsecond line".into(), "abc".into()], None);
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
        let life = |life| LifeId { instance: Instance { service: name.clone(), index: 0 }, life };
        let output = |of, text: &str| Input::Output { life: life(of), lines: vec![text.into()] };
        let said = |input: Option<Input>| match input {
            Some(Input::Output { lines, .. }) => lines.concat(),
            other => unreachable!("as it was given: {other:?}"),
        };
        let line = |masks: &Masks, written: Option<Timestamp>| {
            let mut text = "a line".to_string();
            masks.cover_line(&name, written, &mut text);
            text
        };
        let (before, since) = (Timestamp::from_second(9).ok(), Timestamp::from_second(10).ok());
        let mut masks = Masks::default();
        (0..2).for_each(|_| masks.expect(&name, Some(life(1))));
        assert!(masks.reads(&name) && masks.hide(output(1, "one s3cret")).is_none());
        assert!(masks.hide(output(1, "two")).is_none());
        assert!(masks.answered(&name, since).is_empty(), "one of two");
        masks.learn(&name, vec!["s3cret".into()], since);
        let told: Vec<String> = masks.answered(&name, since).into_iter().map(|input| said(masks.hide(input))).collect();
        assert_eq!(told, ["one ***", "two"]);
        assert_eq!([before, since, None].map(|at| line(&masks, at)), [MASK, "a line", MASK]);

        masks.expect(&name, Some(life(1)));
        (0..=HELD_MAX).for_each(|n| assert!(masks.hide(output(1, &format!("held {n}"))).is_none()));
        let held = masks.give_up(&name);
        assert_eq!(held.len(), HELD_MAX);
        assert!(held.into_iter().all(|input| said(masks.hide(input)) == MASK));
        assert_eq!((said(masks.hide(output(1, "later"))).as_str(), line(&masks, since).as_str()), (MASK, MASK));
        assert!(masks.answered(&name, since).is_empty());
        assert_eq!((said(masks.hide(output(1, "later"))).as_str(), line(&masks, since).as_str()), ("later", "a line"));

        masks.expect(&name, Some(life(1)));
        assert!(masks.answered(&name, None).is_empty());
        assert_eq!(said(masks.hide(output(1, "unreadable"))), MASK);
        masks.learn(&name, vec!["another".into()], since);
        masks.begins_anew(&name, Timestamp::from_second(20).expect("a time"));
        assert_eq!(said(masks.hide(output(2, "of the next process"))), "of the next process");
        assert_eq!(said(masks.hide(output(1, "last words of the one before"))), MASK);
        assert_eq!(line(&masks, since), MASK, "the one before may have written it");
        assert_eq!(line(&masks, Timestamp::from_second(20).ok()), "a line");
        masks.forget(&name);
        assert!(!masks.knows(&name) && masks.veiled.is_empty());
    }

    #[test]
    fn a_long_secret_leaves_out_no_other_and_the_oldest_are_forgotten_first() {
        let name = Name::parse("db").expect("valid");
        let life = LifeId { instance: Instance { service: name.clone(), index: 0 }, life: 1 };
        let mut masks = Masks::default();
        let say = |masks: &mut Masks, text: &str| match masks
            .hide(Input::Output { life: life.clone(), lines: vec![text.into()] })
        {
            Some(Input::Output { lines, .. }) => lines.concat(),
            other => unreachable!("as it was given: {other:?}"),
        };
        let chain: Vec<String> = (0..500).map(|n| format!("certificate-{n}")).collect();
        for n in 0..SECRETS_MAX + 5 {
            let old = format!("rotated-{n:03}");
            masks.learn(&name, vec!["000-token".into(), chain.join("\n"), old], None);
        }
        assert_eq!(say(&mut masks, "000-token certificate-499"), "*** ***");
        assert_eq!(say(&mut masks, &format!("rotated-{:03}", SECRETS_MAX + 4)), MASK);
        assert_eq!(say(&mut masks, "rotated-000"), "rotated-000");
    }
}
