//! What services were given in secret does not stand in a status that everybody may read.
//!
//! A service may print its password, and a check may repeat it. The log holds exactly what was written, and
//! only its owner and group read that; what is quoted of it in `why`, `check` and `lastExit` goes through here
//! before the brain hears it. Known are the values of `env: {NAME: {file: …}}` and `{fromEnv: …}` as each process was
//! given them: the keeper holds them for as long as the process lives, so that the next controller knows them too.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory;
use crate::controller::Input;
use crate::edge::process::environment::Environment;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::text::secret::{LENGTH_MIN, covered};

/// Of one service: several variables, each changed some times.
const SECRETS_MAX: usize = 64;
/// All that an environment can hold, and as much for the quotes around it.
const GIVEN_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Masks {
    /// The latest last.
    secrets: HashMap<Name, Vec<Secret>>,
    /// Since when all is known that an instance was given: since its first process of which it is.
    known_since: HashMap<Instance, Timestamp>,
}

#[derive(Debug)]
struct Secret {
    value: String,
    /// Output is quoted line by line.
    lines: Vec<String>,
}

/// What one process was given in secret, as the keeper holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct Given {
    values: Vec<String>,
    /// That everybody may read a file of these.
    pub exposed: Option<String>,
}

impl Given {
    /// None: nothing of it is secret.
    pub fn of(environment: &Environment) -> Option<Given> {
        let values = environment.secrets().to_vec();
        (!values.is_empty()).then(|| Given { values, exposed: environment.exposed.clone() })
    }

    pub fn key(life: &LifeId) -> String {
        format!("secrets {life}")
    }

    pub fn share(&self) -> std::io::Result<OwnedFd> {
        memory::hold(&serde_json::to_vec(self)?)
    }

    pub fn adopt(fd: OwnedFd) -> Option<Given> {
        serde_json::from_slice(&memory::held(fd, GIVEN_MAX)?).ok()
    }
}

impl Masks {
    pub fn learn(&mut self, name: &Name, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let known = self.secrets.entry(name.clone()).or_default();
        // Those of before go first, never one of these.
        known.retain(|secret| !values.contains(&secret.value));
        let room = SECRETS_MAX.saturating_sub(values.len());
        known.drain(..known.len().saturating_sub(room));
        known.extend(values.iter().cloned().map(Secret::of));
    }

    /// A process that was given these, then.
    pub fn take_up(&mut self, instance: &Instance, given: &Given, spawned: Timestamp) {
        self.learn(&instance.service, &given.values);
        self.known_since.entry(instance.clone()).or_insert(spawned);
    }

    pub fn forget(&mut self, name: &Name) {
        self.secrets.remove(name);
        self.known_since.retain(|instance, _| instance.service != *name);
    }

    /// Takes what is to be hidden out of the words of a fact.
    pub fn hide(&self, input: &mut Input) {
        match input {
            Input::Output { life, lines } => lines.iter_mut().for_each(|line| self.cover(life, line)),
            Input::Verdict { life, verdict, .. } => self.cover(life, &mut verdict.message),
            Input::HookEnded { life, result: Err((_, why)), .. } => self.cover(life, why),
            Input::Notified { life, message } => message.status.iter_mut().for_each(|status| self.cover(life, status)),
            // Of what expanded to it: the path of the program.
            Input::SpawnFailed { life, message, .. } => self.cover(life, message),
            // Whoever made these had no word of the service's own.
            _ => {}
        }
    }

    fn cover(&self, life: &LifeId, text: &mut String) {
        *text = covered(text, self.lines_of(&life.instance.service));
    }

    /// A line of the log of an instance; none: it may hold what is not known. `declares`: its manifest names secrets.
    pub fn covered(
        &self,
        instance: &Instance,
        written: Option<Timestamp>,
        text: &str,
        declares: bool,
    ) -> Option<String> {
        if !declares && !self.secrets.contains_key(&instance.service) {
            return Some(text.into());
        }
        let since = self.known_since.get(instance)?;
        (written? >= *since).then(|| covered(text, self.lines_of(&instance.service)))
    }

    fn lines_of(&self, name: &Name) -> impl Iterator<Item = &String> + Clone {
        self.secrets.get(name).into_iter().flatten().flat_map(|secret| &secret.lines)
    }
}

impl Secret {
    fn of(value: String) -> Secret {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= LENGTH_MIN);
        Secret { lines: lines.flat_map(spelt).collect(), value }
    }
}

/// As it is, and as programs write it into JSON: quotes and backslashes, the slashes of PHP, the brackets of Go, what is
/// not ASCII in Python.
fn spelt(line: &str) -> Vec<String> {
    let quoted = line.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t");
    let of_go = quoted.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let unit = |unit: u16| match u8::try_from(unit).ok().filter(u8::is_ascii) {
        Some(byte) => char::from(byte).to_string(),
        None => format!("\\u{unit:04x}"),
    };
    let of_python: String = quoted.encode_utf16().map(unit).collect();
    let mut all = vec![line.to_string(), quoted.replace('/', "\\/"), of_go, of_python, quoted];
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ProbeSlot, Verdict};

    fn name(text: &str) -> Name {
        Name::parse(text).expect("valid")
    }

    fn life(text: &str) -> LifeId {
        LifeId { instance: Instance { service: name(text), index: 0 }, life: 1 }
    }

    fn said(masks: &Masks, service: &str, lines: &[&str]) -> Vec<String> {
        let lines = lines.iter().map(|line| line.to_string()).collect();
        let mut input = Input::Output { life: life(service), lines };
        masks.hide(&mut input);
        let Input::Output { lines, .. } = input else { unreachable!("as it was given") };
        lines
    }

    #[test]
    fn what_a_service_repeats_of_its_secrets_is_covered_and_of_others_not() {
        let mut masks = Masks::default();
        masks.learn(&name("db"), &["s3cret".into(), "s3cret-and-more\nsecond line".into(), "abc".into()]);
        let lines = ["postgres://app:s3cret-and-more@db", "s3cret abc", "second line"];
        assert_eq!(said(&masks, "db", &lines), ["postgres://app:***@db", "*** abc", "***"]);
        assert_eq!(said(&masks, "web", &lines), lines);

        let verdict =
            Verdict { passed: false, message: "exec: no s3cret".into(), reason: None, took: Default::default() };
        let mut verdict = Input::Verdict { life: life("db"), probe: ProbeSlot::Liveness, verdict };
        masks.hide(&mut verdict);
        let Input::Verdict { verdict, .. } = verdict else { unreachable!("as it was given") };
        assert_eq!(verdict.message, "exec: no ***");
        masks.forget(&name("db"));
        assert_eq!(said(&masks, "db", &lines), lines);
    }

    #[test]
    fn a_secret_is_known_in_json_too() {
        let mut masks = Masks::default();
        let secret = "pa\"ss\\w0rd/<p\u{e4}&\u{1f600}>";
        masks.learn(&name("db"), &[secret.into()]);
        for json in [
            serde_json::to_string(secret).expect("text"),
            r#""pa\"ss\\w0rd\/<pä&😀>""#.into(),
            r#""pa\"ss\\w0rd/\u003cpä\u0026😀\u003e""#.into(),
            r#""pa\"ss\\w0rd/<p\u00e4&\ud83d\ude00>""#.into(),
        ] {
            assert_eq!(said(&masks, "db", &[&format!("dsn={json}")]), ["dsn=\"***\""], "{json}");
        }
    }

    #[test]
    fn a_line_that_may_hold_what_is_not_known_is_not_shown() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut masks = Masks::default();
        let instance = life("db").instance;
        let line = |masks: &Masks, written, declares| masks.covered(&instance, written, "pw=s3cret", declares);
        assert_eq!(line(&masks, None, false).as_deref(), Some("pw=s3cret"), "it has no secrets");
        assert_eq!(line(&masks, Some(at(9)), true), None, "nothing of it has run");

        let given = Given { values: vec!["s3cret".into()], exposed: None };
        let given = Given::adopt(given.share().expect("shared")).expect("read again");
        masks.take_up(&instance, &given, at(10));
        masks.take_up(&instance, &given, at(20));
        for declares in [false, true] {
            assert_eq!(line(&masks, Some(at(10)), declares).as_deref(), Some("pw=***"));
            assert_eq!(line(&masks, Some(at(9)), declares), None, "of a process before");
            assert_eq!(line(&masks, None, declares), None);
        }
        let other = Instance { index: 1, ..instance.clone() };
        assert_eq!(masks.covered(&other, Some(at(30)), "pw", true), None);
        masks.forget(&name("db"));
        assert_eq!(line(&masks, Some(at(10)), true), None);
    }

    #[test]
    fn a_long_secret_leaves_out_no_other_and_the_oldest_are_forgotten_first() {
        let mut masks = Masks::default();
        let chain: Vec<String> = (0..500).map(|n| format!("certificate-{n}")).collect();
        for n in 0..SECRETS_MAX + 5 {
            masks.learn(&name("db"), &["000-token".into(), chain.join("\n"), format!("rotated-{n:03}")]);
        }
        assert_eq!(said(&masks, "db", &["000-token certificate-499"]), ["*** ***"]);
        assert_eq!(
            said(&masks, "db", &[&format!("rotated-{:03}", SECRETS_MAX + 4), "rotated-000"]),
            ["***", "rotated-000"]
        );
    }
}
