//! What a decision costs: 10,000 specs taken in (at most 50 ms), one change among 10,000 (at most
//! 2 µs).

use std::time::Duration;

use divan::Bencher;
use jiff::Timestamp;
use plugd::controller::testing::{declare, life, name, spec, tcp};
use plugd::controller::*;
use plugd::model::reason::Reason;
use plugd::model::spec::Readiness;
use plugd::model::time::Now;

fn main() {
    divan::main();
}

fn now(micros: u64) -> Now {
    Now {
        mono: Duration::from_secs(1_000) + Duration::from_micros(micros),
        wall: Timestamp::from_microsecond(1_795_000_000_000_000 + i64::try_from(micros).unwrap_or(0))
            .expect("a moment"),
    }
}

fn controller() -> Controller {
    Controller::new(Config {
        asked_max: 20_000,
        max_starting: None,
        shutdown_timeout: None,
        exit_on_required: None,
        require_user: false,
        warn_root: false,
        takes_over: false,
        single: false,
        pid1: false,
        started: now(0),
        seed: 1,
        log_dir: None,
        kill_scope: None,
    })
}

fn declarations() -> Vec<Declaration> {
    (0..10_000)
        .map(|n| {
            let mut spec = spec(&format!("service-{n}"));
            spec.readiness = Readiness::ImpliedPort(tcp(80));
            declare(spec)
        })
        .collect()
}

#[divan::bench(sample_count = 10)]
fn ten_thousand_specs(bencher: Bencher) {
    bencher.with_inputs(declarations).bench_local_values(|declarations| {
        let mut controller = controller();
        for declaration in declarations {
            controller.absorb(Input::Declared(declaration), now(0));
        }
        controller.absorb(Input::Scanned, now(0));
        (controller.decide(now(0)), controller)
    });
}

#[divan::bench(sample_count = 1_000, sample_size = 100)]
fn one_change_among_ten_thousand(bencher: Bencher) {
    let mut controller = controller();
    for declaration in declarations() {
        controller.absorb(Input::Declared(declaration), now(0));
    }
    controller.absorb(Input::Scanned, now(0));
    controller.decide(now(0));
    for n in 0..10_000 {
        let life = life(&format!("service-{n}"), 1);
        controller.absorb(Input::Spawned { life, pid: n, start_time: 1 }, now(0));
    }
    controller.decide(now(0));
    let names: Vec<_> = (0..10_000).map(|n| name(&format!("service-{n}"))).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at += 1;
        // Something that is told: what the edge says of one service.
        let message = if at % 20_000 < 10_000 { "a".into() } else { "b".into() };
        let name = names[at % 10_000].clone();
        controller.absorb(Input::Problem { name, reason: Reason::LogsDropped, message: Some(message) }, now(1));
        controller.decide(now(1))
    });
}
