//! postgresql, redis, nginx and a one-liner, from their first start to their last trace.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::story::{Story, example};
use crate::world::{World, free_port};

#[test]
fn postgres_answers_queries_through_its_whole_life() {
    let world = open_world();
    let data = world.root().join("data");
    let text = postgres(&world, &data);
    let marks = |port: u16| {
        let count = answer(
            Command::new("psql").args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", owner(&data)]).args([
                "-d",
                "postgres",
                "-qtAc",
                "create table if not exists marks (at timestamptz); insert into marks values (now()); \
             select count(*) > 0 from marks",
            ]),
        )?;
        if count.trim() == "t" { Ok(()) } else { Err(format!("psql said {count:?}")) }
    };

    Story { name: "postgres", text: &text, literal: 5432, answers: &marks }.play(&world);
}

/// The example with its data elsewhere, and its wrapper beside it.
pub fn postgres(world: &World, data: &Path) -> String {
    world.put_script("postgres.sh", &example("postgres/postgres.sh"));
    let text = format!("{}env: {{PGDATA: {}}}\n", example("postgres/postgres.yaml"), data.display());
    if !rustix::process::getuid().is_root() {
        return text.replace("user: postgres\n", "");
    }
    // The data directory is made by initdb, as the user that the manifest names.
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o1777)).expect("chmod");
    text
}

/// The superuser that initdb made.
pub fn owner(data: &Path) -> &'static str {
    let uid = fs::metadata(data).map(|meta| meta.uid()).unwrap_or_default();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_string())
    });
    name.unwrap_or_else(|| "postgres".into()).leak()
}

#[test]
fn redis_answers_through_its_whole_life() {
    let world = open_world();
    let ping = |port: u16| {
        let said = answer(Command::new("redis-cli").args(["-p", &port.to_string(), "ping"]))?;
        if said.trim() == "PONG" { Ok(()) } else { Err(format!("redis-cli said {said:?}")) }
    };

    Story { name: "redis", text: &example("redis/redis.yaml"), literal: 6379, answers: &ping }.play(&world);
}

#[test]
fn nginx_answers_through_its_whole_life() {
    let world = open_world();
    let text = nginx(&world, &world.root().join("nginx"));

    Story { name: "nginx", text: &text, literal: 8080, answers: &|port| page(port, "it works") }.play(&world);
}

/// The example with all that it writes elsewhere, and its wrapper beside it.
pub fn nginx(world: &World, root: &Path) -> String {
    world.put_script("nginx.sh", &example("nginx/nginx.sh"));
    format!("{}env: {{NGINX_ROOT: {}}}\n", example("nginx/nginx.yaml"), root.display())
}

#[test]
fn one_line_makes_a_web_server_that_is_ready_when_its_port_is_open() {
    let world = open_world();
    fs::write(world.root().join("index.html"), "from one line\n").expect("written");
    let text = "{command: python3 -m http.server --bind 127.0.0.1 $(PORT), port: 8080}\n";

    let story = Story { name: "web", text, literal: 8080, answers: &|port| page(port, "from one line") };
    story.play(&world);
}

#[test]
fn a_service_whose_port_belongs_to_a_stranger_names_it_and_takes_over_when_it_leaves() {
    let world = open_world();
    let port = free_port();
    let stranger = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a socket");
    fs::write(world.root().join("index.html"), "ours\n").expect("written");
    world.put("web.yaml", &format!("command: python3 -m http.server --bind 127.0.0.1 {port}\nport: {port}\n"));

    let us = format!("pid {}", std::process::id());
    world.wait("the stranger to be named", |world| {
        world.status_file("web").is_some_and(|text| text.contains("AddressInUse") && text.contains(&us))
    });

    drop(stranger);
    world.wait_status("web", "healthy");
    page(port, "ours").expect("it serves");
}

/// A node whose folder the users of services can enter.
pub fn open_world() -> World {
    let world = World::running();
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o755)).expect("chmod");
    world
}

pub fn page(port: u16, wanted: &str) -> Result<(), String> {
    let text = answer(Command::new("curl").args(["-sS", "--max-time", "5", &format!("http://127.0.0.1:{port}/")]))?;
    if text.contains(wanted) { Ok(()) } else { Err(format!("the page is {text:?}")) }
}

pub fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
