//! postgresql, redis and nginx made sick and healed: standing still, with a full disk, letting nobody in.
//!
//! Each keeps its process through all of it. What its status says follows from its own probe alone, that of
//! its neighbours does not change, and the oracle looks on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::inject::{Disk, is_root};
use crate::oracle::{Known, Oracle};
use crate::story::{example, tree};
use crate::system::{answer, nginx, open_world, postgres};
use crate::world::{World, free_port, kill, lives};

const STOP: i32 = 19;
const CONT: i32 = 18;
const HUP: i32 = 1;

/// The pace of every probe here. The timeout leaves a program room to start on a machine that is busy.
const PACE: &str = "period: 300ms, timeout: 2s, failureThreshold: 2";
/// Two periods and two timeouts.
const NOTICED: Duration = Duration::from_millis(4_600);

/// Services that are healthy, each with its port, and their oracle.
struct Ward {
    world: World,
    oracle: Oracle,
    patients: Vec<(&'static str, u16, i32)>,
}

impl Ward {
    /// Takes in services by their manifests, whose probes go at the pace of this file.
    fn admit(world: World, services: Vec<(&'static str, u16, String)>) -> Ward {
        let title = |(name, port, _): &(&'static str, u16, String)| match *name {
            "redis" => Some((*name, format!("redis-server 127.0.0.1:{port}"))),
            "nginx" => Some((*name, format!("nginx: master process nginx -c {}", world.root().display()))),
            _ => None,
        };
        let titles = services.iter().filter_map(title).collect();
        let oracle =
            Oracle::watch_known(&world.dir(), Known { titles, noticed_within: Some(NOTICED), ..Known::default() });
        for (name, _, text) in &services {
            world.put(&format!("{name}.yaml"), text);
        }
        let mut patients = Vec::new();
        for (name, port, _) in services {
            world.wait_status(name, "healthy");
            patients.push((name, port, world.pid(name).expect("a pid")));
        }
        Ward { world, oracle, patients }
    }

    fn pid(&self, name: &str) -> i32 {
        self.patients.iter().find(|patient| patient.0 == name).expect("it was admitted").2
    }

    /// It serves nobody, and that is told with the words of its check; its process and its neighbours go on.
    fn is_sick(&self, name: &str, said: &str) {
        self.world.wait_status(name, "unhealthy (ProbeFailed)");
        let text = self.world.status_file(name).expect("a status");
        assert!(text.contains(said), "{said:?} is not told:\n{text}");
        assert_eq!(self.world.field(name, "ready").as_deref(), Some("0/1"), "{text}");
        assert_eq!(self.world.field(name, "available").as_deref(), Some("false"), "{text}");
        assert_eq!(self.world.field(name, "processRunning").as_deref(), Some("true"), "{text}");
        self.assert_nobody_else_suffers(name);
    }

    fn is_healed(&self, name: &str) {
        self.world.wait_status(name, "healthy");
        let text = self.world.status_file(name).expect("a status");
        assert!(!text.contains("ProbeFailed"), "what is over is still told:\n{text}");
        assert_eq!(self.world.field(name, "ready").as_deref(), Some("1/1"), "{text}");
        self.assert_nobody_else_suffers(name);
    }

    fn assert_nobody_else_suffers(&self, sick: &str) {
        for (name, _, pid) in &self.patients {
            assert_eq!(self.world.pid(name), Some(*pid), "{name} has another process\n{}", self.world.log());
            assert_eq!(self.world.field(name, "restarts").as_deref(), Some("0"), "{}", self.world.log());
            assert!(lives(*pid), "{name} was ended");
            if *name != sick {
                assert_eq!(self.world.status(name), "healthy", "{name}, while {sick} is sick or healed");
            }
        }
    }

    /// Nothing that was said in all this time was untrue.
    fn discharge(self) {
        self.assert_nobody_else_suffers("nobody");
        self.oracle.assert_no_lie();
    }
}

/// A manifest of `examples/` on another port, with another probe in place of its own.
fn manifest(text: &str, literal: u16, port: u16, probe: &str, other: &str) -> String {
    assert!(text.contains(probe), "the example has another probe:\n{text}");
    let text = text.replace(&format!("port: {literal}"), &format!("port: {port}")).replace(probe, other);
    assert!(text.contains(&format!("port: {port}")), "the example names its port:\n{text}");
    text
}

fn a_database(world: &World, data: &Path) -> (&'static str, u16, String) {
    let (port, text) = (free_port(), postgres(world, data));
    ("postgres", port, manifest(&text, 5432, port, "timeout: 5s", PACE))
}

/// The example asks for its life; here the same question decides only whether it serves. With `-e` an error
/// that the server answers is one of the client, too.
fn a_cache() -> (&'static str, u16, String) {
    let port = free_port();
    let text = example("redis/redis.yaml").replace("--save", "--bind 127.0.0.1 --save");
    let asked = "livenessProbe: {exec: {command: [redis-cli, -e, -p, $(PORT), ping]}}";
    let serves = format!("readinessProbe: {{exec: {{command: [redis-cli, -e, -p, $(PORT), ping]}}, {PACE}}}");
    ("redis", port, manifest(&text, 6379, port, asked, &serves))
}

fn a_web_server(world: &World) -> (&'static str, u16, String) {
    let port = free_port();
    let text = nginx(world, &world.root().join("nginx"));
    ("nginx", port, manifest(&text, 8080, port, "{path: /}", &format!("{{path: /}}, {PACE}")))
}

#[test]
fn a_real_service_that_stands_still_is_unhealthy_until_it_goes_on_and_keeps_its_process() {
    let world = open_world();
    let services = vec![a_database(&world, &world.root().join("data")), a_cache(), a_web_server(&world)];
    let ward = Ward::admit(world, services);

    for name in ["postgres", "redis", "nginx"] {
        // The whole of it: the workers of nginx serve without their master.
        let tree = tree(ward.pid(name));
        tree.iter().for_each(|pid| kill(*pid, STOP));
        ward.is_sick(name, "its check fails");
        tree.iter().for_each(|pid| kill(*pid, CONT));
        ward.is_healed(name);
    }

    ward.discharge();
}

#[test]
fn a_redis_whose_life_is_asked_for_is_restarted_when_it_stands_still() {
    let world = open_world();
    let port = free_port();
    let text = example("redis/redis.yaml").replace("--save", "--bind 127.0.0.1 --save");
    // It may take its time to start, on a busy machine.
    let starts = "startupProbe: {tcpSocket: {}, period: 100ms, failureThreshold: 1000}\n";
    let text = manifest(&text, 6379, port, "ping]}", &format!("ping]}}, {PACE}")) + starts;
    let titles = vec![("redis", format!("redis-server 127.0.0.1:{port}"))];
    let oracle = Oracle::watch_known(&world.dir(), Known { titles, noticed_within: Some(NOTICED), ..Known::default() });
    world.put("redis.yaml", &text);
    world.wait_status("redis", "healthy");
    let first = world.pid("redis").expect("a pid");

    kill(first, STOP);

    world.wait("another process that is healthy", |world| {
        world.pid("redis").is_some_and(|pid| pid != first) && world.status("redis") == "healthy"
    });
    assert!(!lives(first), "the one that stood still is still there");
    assert_eq!(world.field("redis", "restarts").as_deref(), Some("1"));
    assert!(world.log().contains("ProbeFailed"), "{}", world.log());
    oracle.assert_no_lie();
}

#[test]
fn a_database_whose_disk_is_full_is_unhealthy_until_there_is_room_and_keeps_its_process() {
    if !is_root() {
        return;
    }
    let world = open_world();
    let disk = Disk::small(&world.root().join("disk"), "size=128m");
    let (name, port, text) = a_database(&world, &world.root().join("disk/data"));
    // More than the free rest of a page each time, so that the table has to grow.
    let write = "create table if not exists marks (mark text); alter table marks alter mark set storage external; \
                 insert into marks values (repeat('mark ', 5000))";
    world.put_script(
        "write.sh",
        &format!("#!/bin/sh\nexec psql -h 127.0.0.1 -p \"$PORT\" -U postgres -d postgres -v ON_ERROR_STOP=1 -qc \"{write}\"\n"),
    );
    let asked = "[pg_isready, --quiet, --host, 127.0.0.1, --port, $(PORT)]";
    let writes = format!("[{}]", world.path("write.sh").display());
    assert!(text.contains(asked), "the example asks otherwise:\n{text}");
    let ward = Ward::admit(world, vec![(name, port, text.replace(asked, &writes))]);

    disk.fill();
    ward.is_sick("postgres", "disk space");
    // It still answers those who only read.
    let read = ["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-d", "postgres", "-qtAc"];
    let count = answer(Command::new("psql").args(read).arg("select count(*) > 0 from marks"));
    assert_eq!(count.as_deref().map(str::trim), Ok("t"));
    disk.unfill();
    ward.is_healed("postgres");

    ward.discharge();
}

#[test]
fn a_redis_that_lets_nobody_in_is_unhealthy_until_it_does() {
    let ward = Ward::admit(open_world(), vec![a_cache()]);
    // The only client that it will let in.
    let mut held = Client::of(ward.patients[0].1);

    held.ask("CONFIG SET maxclients 1");
    ward.is_sick("redis", "max number of clients reached");
    held.ask("CONFIG SET maxclients 100");
    ward.is_healed("redis");

    ward.discharge();
}

/// A connection to redis that stays.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(port: u16) -> Client {
        Client(BufReader::new(TcpStream::connect(("127.0.0.1", port)).expect("it lets us in")))
    }

    fn ask(&mut self, words: &str) {
        write!(self.0.get_mut(), "{words}\r\n").expect("said");
        let mut said = String::new();
        self.0.read_line(&mut said).expect("answered");
        assert_eq!(said, "+OK\r\n", "{words}");
    }
}

#[test]
fn an_nginx_that_leaves_its_port_is_unhealthy_until_it_returns() {
    let world = open_world();
    let services = vec![a_web_server(&world), a_cache()];
    let ward = Ward::admit(world, services);
    let (port, other) = (ward.patients[0].1, free_port());
    let listen = |from: u16, to: u16| {
        let path = ward.world.root().join("nginx/nginx.conf");
        let text = fs::read_to_string(&path).expect("the wrapper has written it");
        let (from, to) = (format!("listen 127.0.0.1:{from};"), format!("listen 127.0.0.1:{to};"));
        assert!(text.contains(&from), "{text}");
        fs::write(&path, text.replace(&from, &to)).expect("written");
        kill(ward.pid("nginx"), HUP);
    };

    listen(port, other);
    ward.is_sick("nginx", &port.to_string());
    listen(other, port);
    ward.is_healed("nginx");

    ward.discharge();
}
