//! `plugd top` in a real terminal: it shows and steers, and leaves the terminal as it was.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ask::{STAYS, ends};
use crate::terminal::{Terminal, screen, shown};
use crate::world::World;

/// `plugd top` in a terminal whose keyboard is a pipe; what was drawn is in `screen`.
fn top(world: &World, columns: u16, lines: u16) -> Terminal {
    let mut command = Command::new("script");
    let line = format!("stty cols {columns} rows {lines}; $plugd top; code=$?; stty -a; exit $code");
    command.args(["-qefc", &line]).arg(world.root().join("screen")).current_dir(world.root());
    command.env("PLUGD_STATE_DIR", world.state()).env("PLUGD_DIR", world.dir()).env_remove("COLUMNS");
    command.env("plugd", env!("CARGO_BIN_EXE_plugd")).env("TERM", "xterm").env("LANG", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    Terminal(command.spawn().expect("script is there"))
}

/// The words that were drawn: where the cursor jumps over a blank there is one.
fn drawn(world: &World) -> String {
    let screen = screen(world);
    let mut words = String::new();
    for (at, piece) in screen.split('\x1b').enumerate() {
        let text = if at == 0 {
            piece
        } else {
            piece.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, text)| text)
        };
        words.push(' ');
        words.push_str(text);
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The pid of the `plugd top` of this world.
fn pid_of_top(world: &World) -> i32 {
    let is_ours = |pid: &i32| {
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let here = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == world.root());
        here && read("cmdline").ends_with(b"plugd\0top\0")
    };
    let entries = std::fs::read_dir("/proc").expect("listed").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_ours).expect("plugd top runs")
}

#[test]
fn top_shows_and_steers_and_leaves_the_terminal_as_it_was() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("clock.yaml", "command: [sh, -c, 'while :; do echo tick; sleep 0.05; done']\n");
    world.wait_status("web", "running");
    world.wait_status("clock", "running");
    let mut terminal = top(&world, 100, 20);
    let keys = |terminal: &mut Terminal, text: &str| {
        terminal.0.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("typed");
    };
    world.wait("the list", |world| drawn(world).contains("web 1/1 ✔ running"));
    assert!(screen(&world).contains("\x1b[?1049h"), "a screen of its own");
    keys(&mut terminal, "l");
    world.wait("the log of clock", |world| screen(world).contains("tick"));
    keys(&mut terminal, "q/web\rsn");
    keys(&mut terminal, "sy");
    world.wait_status("web", "stopped (StoppedByOperator)");
    world.wait("the picture of it", |world| drawn(world).contains("stopped"));
    keys(&mut terminal, "q");
    assert_eq!(terminal.code(), Some(0), "{}", screen(&world));
    assert_as_it_was(&world);
}

/// Its own screen is left, the cursor is there, and what is typed is shown.
fn assert_as_it_was(world: &World) {
    let screen = screen(world);
    let after = screen.rsplit("\x1b[?1049l").next().expect("it left its screen");
    assert!(after.contains(" echo ") && after.contains(" icanon "), "{after}");
    assert!(screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l"), "{after}");
}

#[test]
fn top_says_that_it_is_stale_and_goes_on_with_the_next_controller() {
    let mut world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let mut terminal = top(&world, 100, 20);
    world.wait("the list", |world| drawn(world).contains("web 1/1 ✔ running"));
    assert_eq!(world.stop().code(), Some(0));
    world.wait("the alarm", |world| drawn(world).contains("STALE for"));
    world.run(&[]);
    world.wait("the next controller", |world| drawn(world).contains("a controller answers again"));
    terminal.press_control_c();
    assert_eq!(terminal.code(), Some(130));
}

#[test]
fn a_controller_that_hangs_is_told_as_that_with_what_helps() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let mut terminal = top(&world, 160, 20);
    world.wait("the list", |world| drawn(world).contains("web 1/1 ✔ running"));
    let controller = world.controller_pid().expect("a controller");
    let frozen = Instant::now();
    crate::world::kill(controller, 19);
    world.wait("the alarm", |world| drawn(world).contains("STALE for"));
    assert!(frozen.elapsed() < Duration::from_secs(10), "it is to be seen after 3 s: {:?}", frozen.elapsed());
    let said = drawn(&world);
    assert!(!said.contains("STALE for 0s") && said.contains(&format!("`kill -CONT {controller}`")), "{said}");
    let asked = Instant::now();
    let (_, told) = ends(&world, 6, &["get"]);
    assert!(asked.elapsed() < Duration::from_secs(25), "the limit that it names: {:?}", asked.elapsed());
    assert!(told.contains("has not answered within 15s; it is stopped: `kill -CONT"), "{told}");
    assert!(!told.contains("plugd run"), "{told}");
    crate::world::kill(controller, 18);
    world.wait("its answer", |world| drawn(world).contains("a controller answers again"));
    terminal.press_control_c();
    assert_eq!(terminal.code(), Some(130));
}

#[test]
fn a_signal_ends_top_and_the_terminal_is_as_it_was() {
    let world = World::running();
    let mut terminal = top(&world, 40, 10);
    world.wait("the empty list", |world| drawn(world).contains("there is no service yet"));
    crate::world::kill(pid_of_top(&world), 15);
    assert_eq!(terminal.code(), Some(143));
    assert_as_it_was(&world);
}

#[test]
fn top_wants_a_terminal_and_a_controller() {
    let mut world = World::running();
    let (_, told) = ends(&world, 2, &["top"]);
    assert!(told.contains("stdout is none") && told.contains("plugd get -w"), "{told}");
    assert_eq!(world.stop().code(), Some(0));
    let said = shown(&world, 80, &[], "$plugd top; echo code $?");
    assert!(said.contains("no controller answers") && said.contains("code 6"), "{said}");
    assert!(!said.contains("\x1b[?1049h"), "{said}");
}
