//! What must hold of any service: dropped, killed, edited and removed, with a question it answers.

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;

use crate::world::{World, free_port, kill, lives};

/// A manifest with a port in it, and how to ask the service for something real.
pub struct Story<'a> {
    pub name: &'a str,
    pub text: &'a str,
    /// The port as it is written in the manifest; free ones take its place.
    pub literal: u16,
    pub answers: &'a dyn Fn(u16) -> Result<(), String>,
}

impl Story<'_> {
    pub fn play(&self, world: &World) {
        let (first, second) = (free_port(), free_port());
        let manifest = format!("{}.yaml", self.name);

        world.put(&manifest, &self.on(first));
        world.wait_status(self.name, "healthy");
        self.ask(world, first);
        let main = world.pid(self.name).expect("a pid");
        let tree = tree(main);

        kill(main, 9);
        world.wait("a new process that is healthy", |world| {
            world.pid(self.name).is_some_and(|pid| pid != main) && world.status(self.name) == "healthy"
        });
        self.ask(world, first);
        assert_eq!(world.field(self.name, "restarts").as_deref(), Some("1"));
        assert!(world.field(self.name, "lastExit").is_some_and(|exit| exit.contains("SIGKILL")));
        let left: Vec<_> = tree.into_iter().filter(|&pid| lives(pid)).collect();
        assert!(left.is_empty(), "the next life began while {left:?} of the last one lived");

        // From here on every status that names the new generation is one of the new process.
        world.put(&manifest, &self.on(second));
        world.wait("the edited version to be healthy", |world| {
            world.field(self.name, "manifest").is_some_and(|text| text.contains("generation: 2"))
                && world.status(self.name) == "healthy"
        });
        self.ask(world, second);
        assert_eq!(world.field(self.name, "address"), Some(format!("127.0.0.1:{second}")));
        assert_eq!(world.field(self.name, "restarts").as_deref(), Some("1"), "an edit is no restart");
        assert!(is_free(first), "the old port is still taken");

        world.remove(&manifest);
        world.wait("the status file to go", |world| world.status_file(self.name).is_none());
        assert!(is_free(second), "the port is still taken");
        let controller = world.controller_pid().expect("a controller");
        // The keeper is the parent of every orphan: what is left of a service is below it.
        let left: Vec<_> = tree_below(world.node_pid()).into_iter().filter(|&pid| pid != controller).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    fn on(&self, port: u16) -> String {
        let text = self.text.replace(&format!("port: {}", self.literal), &format!("port: {port}"));
        assert_ne!(text, self.text, "the manifest names its port");
        text
    }

    /// Healthy means that it answers: at once, not after another try.
    fn ask(&self, world: &World, port: u16) {
        if let Err(said) = (self.answers)(port) {
            let status = world.status_file(self.name).unwrap_or_default();
            panic!("{} does not answer: {said}\n--- status\n{status}\n--- plugd\n{}", self.name, world.log());
        }
    }
}

/// A file of `examples/`.
pub fn example(path: &str) -> String {
    let path = format!("{}/examples/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// A process and all its descendants.
pub fn tree(pid: i32) -> Vec<i32> {
    let mut all = tree_below(pid);
    all.push(pid);
    all
}

/// All descendants that are no zombies.
pub fn tree_below(root: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, parent(pid)?)))
        .collect();
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for &(pid, parent) in &parents {
            if known.contains(&parent) && known.insert(pid) {
                found.push(pid);
            }
        }
        if found.len() == before {
            return found.into_iter().filter(|&pid| lives(pid)).collect();
        }
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
