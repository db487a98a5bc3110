//! Specs for tests and the simulator: one call makes a service, a few more make it special.

use std::sync::Arc;
use std::time::Duration;

use super::input::{Declaration, Resolved, Source, Watched};
use crate::model::cron::Cron;
use crate::model::manifest::assumed;
use crate::model::name::{Instance, LifeId, Name};
use crate::model::spec::*;
use crate::model::zone::Zone;

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a test's name is valid")
}

/// The life `number` of the first instance.
pub fn life(service: &str, number: u64) -> LifeId {
    LifeId { instance: Instance { service: name(service), index: 0 }, life: number }
}

/// A service that runs `sleep` and is ready at exec.
pub fn spec(service: &str) -> Spec {
    let mut spec = assumed(name(service));
    spec.process.program = Program::Command(vec!["sleep".into(), "infinity".into()]);
    stamp(&mut spec);
    spec
}

/// A tcp check of a local port, with Kubernetes' numbers.
pub fn tcp(port: u16) -> Probe {
    Probe {
        check: Check::TcpSocket { host: None, port: ProbePort::Number(port) },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// `dependsOn: [other]`.
pub fn needs(other: &str) -> Dependency {
    Dependency { name: name(other), condition: Condition::Ready, optional: false, on_loss: OnLoss::Ignore }
}

/// A job that runs by the clock, in UTC.
pub fn job(service: &str, cron: &str) -> Spec {
    let mut spec = spec(service);
    spec.restart.policy = RestartPolicy::Never;
    spec.schedule = Some(Schedule {
        cron: Cron::parse(cron).expect("a test's schedule is valid"),
        time_zone: Zone::utc(),
        concurrency_policy: Concurrency::Forbid,
        starting_deadline: None,
        history_limit: 3,
    });
    spec
}

/// Gives the digests that a manifest of this meaning would have, as far as tests care.
pub fn stamp(spec: &mut Spec) {
    spec.digest = digest_of(&format!("{spec:?}").replace(&format!("{:?}", spec.digest), ""));
    spec.process_digest = digest_of(&format!("{:?}", spec.process));
}

fn digest_of(text: &str) -> Digest {
    let mut state = 0xcbf2_9ce4_8422_2325_u128;
    for byte in text.bytes() {
        state = (state ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let mut bytes = state.to_le_bytes();
    bytes[..2].fill(0); // the mark of one encoding
    Digest(bytes)
}

/// As the directory would declare it.
pub fn declare(mut spec: Spec) -> Declaration {
    spec.digest = Digest::default();
    spec.process_digest = Digest::default();
    stamp(&mut spec);
    Declaration {
        source: Source {
            file: format!("{}.yaml", spec.name),
            sha256: crate::model::digest::hex(spec.digest)[..16].into(),
        },
        spec: Arc::new(spec),
        program: Resolved::Found { wrapper: None, content: Digest::default() },
        watched: Watched::default(),
        problems: Vec::new(),
    }
}
