//! What the keeper holds for the brain, of one life: at most 1 KiB, opaque to the keeper.
//!
//! One byte of version, then JSON with short keys: a few hundred bytes, readable by whoever debugs
//! a keeper, and a later version may add fields. A blob that cannot be read is no error: the life
//! is adopted with defaults (and, as its print differs, replaced when it is declared).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agenda::Run;
use super::input::{Exit, ExitMemory, exit_of};
use super::life::{Cause, Made, Phase, Print, Stopping};
use crate::model::digest::{self, hex};
use crate::model::spec::{Digest, Probe, Readiness, Spec};
use crate::model::view::is_false;

const VERSION: u8 = 1;
/// The keeper refuses more.
pub(super) const BLOB_MAX: usize = 1024;

/// Nothing counts so far; a number from outside that is higher is cut, so that there is always room for one more.
pub(super) const COUNT_MAX: u64 = u64::MAX / 2;
pub(super) const STEPS_MAX: u32 = u32::MAX / 2;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Blob {
    /// Hex of both digests.
    #[serde(rename = "p")]
    pub process: String,
    #[serde(rename = "c")]
    pub content: String,
    /// Of the manifest's bytes.
    #[serde(rename = "m", default)]
    pub source: u64,
    #[serde(rename = "g", default)]
    pub generation: u64,
    /// Of this instance, and of the whole service.
    #[serde(rename = "r", default)]
    pub restarts: u64,
    #[serde(rename = "R", default)]
    pub service_restarts: u64,
    #[serde(rename = "s", default)]
    pub step: u32,
    #[serde(rename = "f", default)]
    pub failed_starts: u32,
    /// Microseconds since the epoch.
    #[serde(rename = "w", default)]
    pub spawned: i64,
    /// The age, in ms, at which it became ready.
    #[serde(rename = "a", default)]
    pub ready_age: Option<u64>,
    /// We are stopping it: its end is no crash.
    #[serde(rename = "x", default)]
    pub stopping: bool,
    #[serde(rename = "k", default)]
    pub signal: i32,
    /// Milliseconds.
    #[serde(rename = "t", default)]
    pub grace: u64,
    /// The last restarts that count against its score, microseconds since the epoch; three at most.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<i64>,
    /// Of which run, where a schedule says when it runs.
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Mark>,
    /// How the life before ended.
    #[serde(
        rename = "e",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::kept::if_it_can_be_read"
    )]
    pub earlier: Option<Earlier>,
    /// How its checks stand.
    #[serde(rename = "v", default, skip_serializing_if = "Marks::is_none")]
    pub marks: Marks,
    /// A stop that is under way.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Left out where it would not fit.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Own>,
}

/// The run that a life carries out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(rename = "i")]
    pub id: i64,
    /// Seconds since the epoch; none: by hand.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<i64>,
    /// When its first process was spawned, microseconds since the epoch; none: it is this one.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
}

impl Mark {
    pub fn of(run: &Run) -> Mark {
        Mark {
            id: run.id,
            scheduled: run.scheduled.map(Timestamp::as_second),
            began: run.began.map(|(wall, _)| wall.as_microsecond()),
        }
    }
}

/// How a life ended: while the store has not written it, the blob of the next one has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Earlier {
    #[serde(rename = "l")]
    pub life: u64,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(rename = "o", default, skip_serializing_if = "is_false")]
    oom_killed: bool,
    /// Microseconds since the epoch.
    #[serde(rename = "t")]
    pub at: i64,
    /// Milliseconds.
    #[serde(rename = "f")]
    pub ran_for: u64,
}

impl Earlier {
    pub fn of(exit: &ExitMemory) -> Earlier {
        let ran_for = u64::try_from(exit.ran_for.as_millis()).unwrap_or(u64::MAX);
        let &ExitMemory { life, code, signal, oom_killed, at, .. } = exit;
        Earlier { life, code, signal, oom_killed, at, ran_for }
    }

    pub fn exit(&self) -> Exit {
        Exit { oom_killed: self.oom_killed, ..exit_of(self.code, self.signal) }
    }
}

/// How the checks of a running life stand, as far as no new check can find it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    /// Its startup probe has passed.
    #[serde(rename = "s", default, skip_serializing_if = "is_false")]
    pub started: bool,
    /// It was ready once.
    #[serde(rename = "o", default, skip_serializing_if = "is_false")]
    pub once: bool,
    /// `STOPPING=1` was said.
    #[serde(rename = "l", default, skip_serializing_if = "is_false")]
    pub leaving: bool,
    /// Failed checks in a row.
    #[serde(rename = "r", default)]
    pub readiness: u32,
    #[serde(rename = "v", default)]
    pub liveness: u32,
    /// Its liveness probe has passed.
    #[serde(rename = "p", default, skip_serializing_if = "is_false")]
    pub alive: bool,
    /// What it says once, by itself, it has said, and nothing was said since.
    #[serde(rename = "h", default, skip_serializing_if = "is_false")]
    pub heard: bool,
}

impl Marks {
    fn is_none(&self) -> bool {
        *self == Marks::default()
    }
}

/// How far a stop has come. Ages of the process, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ending {
    #[serde(rename = "c")]
    cause: Kind,
    /// Which check, and what it said; which dependency.
    #[serde(rename = "w", default, skip_serializing_if = "String::is_empty")]
    why: String,
    #[serde(rename = "b")]
    began: u64,
    /// When KILL is due.
    #[serde(rename = "k")]
    kill: u64,
    /// The signal was sent; before that its preStop hook runs.
    #[serde(rename = "s", default, skip_serializing_if = "is_false")]
    pub signalled: bool,
    /// What it left was told to end.
    #[serde(rename = "l", default, skip_serializing_if = "is_false")]
    pub lingers: bool,
}

/// A [`Cause`], less what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "u")]
    Unwanted,
    #[serde(rename = "r")]
    Replaced,
    /// The same, by `plugd restart`.
    #[serde(rename = "o")]
    Ordered,
    #[serde(rename = "c")]
    CheckFailed,
    #[serde(rename = "m")]
    Mismatched,
    #[serde(rename = "d")]
    DependencyLost,
}

/// What a check said takes this many bytes of the blob at most.
const WHY_MAX: usize = 160;

impl Ending {
    /// None: it ends by itself, or is told as over already.
    pub fn of(stopping: &Stopping, ordered: bool) -> Option<Ending> {
        let (cause, why) = match &stopping.cause {
            Cause::Unwanted => (Kind::Unwanted, ""),
            Cause::Replaced if ordered => (Kind::Ordered, ""),
            Cause::Replaced => (Kind::Replaced, ""),
            Cause::CheckFailed(why) => (Kind::CheckFailed, why.as_str()),
            Cause::Mismatched(why) => (Kind::Mismatched, why.as_str()),
            Cause::DependencyLost(dependency) => (Kind::DependencyLost, dependency.as_str()),
            Cause::Ended | Cause::Told => return None,
        };
        let age = |at: Duration| u64::try_from(at.saturating_sub(stopping.spawned).as_millis()).unwrap_or(u64::MAX);
        Some(Ending {
            cause,
            why: why[..why.floor_char_boundary(WHY_MAX)].into(),
            began: age(stopping.began),
            kill: age(stopping.kill_at),
            signalled: match stopping.phase {
                Phase::PreStop { .. } => false,
                Phase::Signalled | Phase::Lingering { .. } | Phase::Killing { .. } => true,
            },
            lingers: match stopping.phase {
                Phase::PreStop { .. } | Phase::Signalled => false,
                Phase::Lingering { told } => told,
                Phase::Killing { .. } => true,
            },
        })
    }

    pub fn cause(&self) -> Cause {
        let why = self.why.clone();
        match self.cause {
            Kind::Unwanted => Cause::Unwanted,
            Kind::Replaced | Kind::Ordered => Cause::Replaced,
            Kind::CheckFailed => Cause::CheckFailed(why),
            Kind::Mismatched => Cause::Mismatched(why),
            Kind::DependencyLost => Cause::DependencyLost(why),
        }
    }

    pub fn is_ordered(&self) -> bool {
        self.cause == Kind::Ordered
    }

    /// Nobody is to start it again for its end.
    pub fn is_asked_for(&self) -> bool {
        match self.cause {
            Kind::Unwanted | Kind::Replaced | Kind::Ordered => true,
            Kind::CheckFailed | Kind::Mismatched | Kind::DependencyLost => false,
        }
    }

    /// When it began, and when KILL is due, of a process that was spawned then.
    pub fn times(&self, spawned: Duration) -> (Duration, Duration) {
        let at = |age| spawned.saturating_add(Duration::from_millis(age));
        (at(self.began), at(self.kill))
    }
}

/// By what the version is checked that a process runs: a later controller that finds another version
/// declared judges the process by its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Own {
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    readiness: Option<Probe>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    startup: Option<Probe>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    liveness: Option<Probe>,
    /// plugd listened for it.
    #[serde(rename = "d", default, skip_serializing_if = "is_false")]
    on_demand: bool,
    /// What is run before it is told to end.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pre_stop: Option<Vec<String>>,
    /// Of all this, where it would not fit and is left out.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl Own {
    fn of(spec: &Spec) -> Own {
        Own {
            port: spec.process.port,
            readiness: spec.readiness.probe().cloned(),
            startup: spec.startup_probe.clone(),
            liveness: spec.liveness_probe.clone(),
            on_demand: spec.process.on_demand.is_some(),
            pre_stop: spec.lifecycle.pre_stop.clone(),
            digest: None,
        }
    }

    /// What is left where it does not fit.
    fn shortened(&self) -> Own {
        let checks = Own { pre_stop: None, ..self.clone() };
        let text = serde_json::to_vec(&checks).expect("numbers and strings always serialize");
        Own { digest: self.digest.clone().or_else(|| Some(digest::short(&text))), ..Own::default() }
    }

    /// It is checked as this spec says.
    pub fn is_of(&self, spec: &Spec) -> bool {
        let checks = Own { pre_stop: None, ..Own::of(spec) };
        match &self.digest {
            Some(_) => self.digest == checks.shortened().digest,
            None => Own { pre_stop: None, ..self.clone() } == checks,
        }
    }

    /// What it was checked by did not fit, so nothing checks it.
    pub fn judges_nothing(&self) -> bool {
        self.digest.is_some()
    }

    /// The declared spec with the checks and the port of the version that runs.
    pub fn checks_in(&self, declared: &Spec) -> Spec {
        let mut spec = declared.clone();
        spec.process.port = self.port;
        if !self.on_demand {
            (spec.process.on_demand, spec.process.private_port) = (None, None);
        }
        spec.readiness = self.readiness.clone().map_or(Readiness::AtExec, Readiness::Probe);
        spec.startup_probe.clone_from(&self.startup);
        spec.liveness_probe.clone_from(&self.liveness);
        spec.lifecycle.pre_stop.clone_from(&self.pre_stop);
        spec
    }
}

impl Blob {
    pub fn of(made: &Made) -> Blob {
        Blob {
            process: hex(made.print.process),
            content: hex(made.print.content),
            source: made.print.source,
            signal: made.signal,
            grace: u64::try_from(made.grace.as_millis()).unwrap_or(u64::MAX),
            generation: made.generation,
            own: made.spec.as_deref().map(Own::of).or_else(|| made.own.clone()),
            ..Blob::default()
        }
    }

    pub fn print(&self) -> Print {
        Print { process: unhex(&self.process), content: unhex(&self.content), source: self.source }
    }

    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace)
    }

    pub fn encode(&self) -> Vec<u8> {
        let bytes = self.written();
        if bytes.len() <= BLOB_MAX {
            return bytes;
        }
        let own = self.own.as_ref().map(Own::shortened);
        let bytes = Blob { own, ..self.clone() }.written();
        debug_assert!(bytes.len() <= BLOB_MAX);
        bytes
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("numbers and strings always serialize");
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Blob> {
        match bytes.split_first() {
            Some((&VERSION, rest)) if rest.len() < BLOB_MAX => {
                serde_json::from_slice(rest).ok().map(|blob: Blob| blob.bounded())
            }
            Some(_) | None => None,
        }
    }

    fn bounded(mut self) -> Blob {
        for count in [&mut self.generation, &mut self.restarts, &mut self.service_restarts] {
            *count = (*count).min(COUNT_MAX);
        }
        for count in [&mut self.step, &mut self.failed_starts] {
            *count = (*count).min(STEPS_MAX);
        }
        self
    }
}

/// Whether what is read of these bytes is the same when it was written and read again (but for checks that do
/// not fit): for `fuzz`.
pub(crate) fn is_read_again(bytes: &[u8]) -> bool {
    Blob::decode(bytes).is_none_or(|blob| {
        let again = Blob::decode(&blob.encode());
        again.is_some_and(|again| again == blob || Blob { own: None, ..again } == Blob { own: None, ..blob })
    })
}

pub(super) fn unhex(text: &str) -> Digest {
    let mut digest = Digest::default();
    if text.len() == 32 && text.is_ascii() {
        for (at, byte) in digest.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap_or(0);
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_back_and_stays_below_the_limit_whatever_it_holds() {
        let digest = Digest([0xab; 16]);
        let blob = Blob {
            process: hex(digest),
            content: hex(digest),
            source: u64::MAX,
            generation: COUNT_MAX,
            restarts: COUNT_MAX,
            service_restarts: COUNT_MAX,
            step: STEPS_MAX,
            failed_starts: STEPS_MAX,
            spawned: i64::MIN,
            ready_age: Some(u64::MAX),
            stopping: true,
            signal: i32::MIN,
            grace: u64::MAX,
            restarted: vec![i64::MIN; crate::policy::score::RESTARTS_COUNTED],
            run: Some(Mark { id: i64::MIN, scheduled: Some(i64::MIN), began: Some(i64::MIN) }),
            earlier: Some(Earlier {
                life: u64::MAX,
                code: Some(i32::MIN),
                signal: Some(i32::MIN),
                oom_killed: true,
                at: i64::MIN,
                ran_for: u64::MAX,
            }),
            marks: Marks {
                started: true,
                once: true,
                leaving: true,
                readiness: u32::MAX,
                liveness: u32::MAX,
                alive: true,
                heard: true,
            },
            ending: Some(Ending {
                cause: Kind::CheckFailed,
                why: "\u{1}".repeat(WHY_MAX / 4),
                began: u64::MAX,
                kill: u64::MAX,
                signalled: true,
                lingers: true,
            }),
            own: None,
        };
        let bytes = blob.encode();
        assert!(bytes.len() <= BLOB_MAX, "{}", bytes.len());
        assert_eq!(Blob::decode(&bytes), Some(blob.clone()));
        let more = Blob { generation: u64::MAX, restarts: u64::MAX, step: u32::MAX, ..blob.clone() };
        assert_eq!(Blob::decode(&more.written()), Some(blob), "there is room for one more");
        assert_eq!(unhex(&hex(digest)), digest);
    }

    #[test]
    fn checks_that_fit_are_kept_and_others_are_left_out() {
        use crate::controller::testing::{spec, tcp};
        let mut web = spec("web");
        web.readiness = Readiness::ImpliedPort(tcp(80));
        web.liveness_probe = Some(tcp(81));
        let blob = Blob { own: Some(Own::of(&web)), ..Blob::default() };
        let back = Blob::decode(&blob.encode()).expect("read back");
        let judged = back.own.expect("it fits").checks_in(&spec("web"));
        assert_eq!((judged.readiness.probe(), judged.liveness_probe), (Some(&tcp(80)), Some(tcp(81))));

        let check = crate::model::spec::Check::Exec { command: vec!["x".repeat(2 * BLOB_MAX)] };
        web.liveness_probe = Some(Probe { check, ..tcp(1) });
        let blob = Blob { own: Some(Own::of(&web)), generation: 7, ..Blob::default() };
        let back = Blob::decode(&blob.encode()).expect("read back");
        assert_eq!(back.generation, 7);
        let own = back.own.expect("what is left of it");
        assert!(own.is_of(&web) && !own.is_of(&spec("web")), "it is known whether it is the same");
        assert_eq!(own.checks_in(&web).liveness_probe, None, "and nothing judges it");
    }

    #[test]
    fn a_blob_of_another_version_or_of_garbage_is_none() {
        for bytes in [&b""[..], b"\x02{}", b"\x01", b"\x01[", b"\xff\xff"] {
            assert_eq!(Blob::decode(bytes), None);
        }
    }
}
