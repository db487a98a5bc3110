//! Fifty services lose their postgresql for a minute, for real: all are ready within seconds of its return.

use std::time::{Duration, Instant};

use crate::system::{open_world, owner, postgres};
use crate::world::{World, free_port};

const APPS: usize = 50;
const OUTAGE: Duration = Duration::from_secs(60);
/// The promise, and what fifty clients and as many sessions take to start on a small machine that does something else
/// too. Who waited out its own ladder would be back after half a minute.
const BACK_IN: Duration = Duration::from_secs(5);
const OWN_START: Duration = Duration::from_secs(7);

fn ready(world: &World) -> usize {
    (0..APPS).filter(|n| world.field(&format!("app-{n}"), "ready").as_deref() == Some("1/1")).count()
}

fn restarts(world: &World) -> u64 {
    let of = |n| world.field(&format!("app-{n}"), "restarts").and_then(|text| text.parse::<u64>().ok());
    (0..APPS).filter_map(of).sum()
}

#[test]
fn fifty_services_that_lose_one_database_are_back_within_seconds_of_it() {
    let world = open_world();
    let (port, data) = (free_port(), world.root().join("data"));
    world.put("db.yaml", &postgres(&world, &data).replace("port: 5432", &format!("port: {port}")));
    world.wait_status("db", "healthy");
    // Ends as soon as its session does, and where there is none.
    let client = format!("psql, -w, -h, 127.0.0.1, -p, '{port}', -U, {}, -d, postgres", owner(&data));
    let queries = "-Atc, \"select 'connected'\", -c, 'select pg_sleep(86400)'";
    for n in 0..APPS {
        let text = format!("command: [{client}, {queries}]\nreadinessProbe: {{logLine: connected}}\n");
        world.put(&format!("app-{n}.yaml"), &text);
    }
    world.wait("all to be ready", |world| ready(world) == APPS);

    world.ask(&["stop", "db"]);
    world.wait("all to notice", |world| ready(world) == 0);
    let (before, gone) = (restarts(&world), Instant::now());
    while gone.elapsed() < OUTAGE {
        assert_eq!(ready(&world), 0, "nobody is ready without it");
        std::thread::sleep(Duration::from_millis(500));
    }
    let tries = restarts(&world) - before;
    assert!(tries <= 9 * APPS as u64, "{tries} tries of {APPS} in {OUTAGE:?}");

    world.ask(&["start", "db"]);
    world.wait_status("db", "healthy");
    let back = Instant::now();
    world.wait("all to be back", |world| ready(world) == APPS);
    let took = back.elapsed();
    println!("{APPS} services were back {took:?} after their database; {tries} tries meanwhile");
    assert!(took <= BACK_IN + OWN_START, "{took:?}");
}
