//! At a terminal (`script` makes one): tables, colours, ^C, and a terminal that is closed.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::ask::{STAYS, code_of, ends};
use crate::world::{World, lives};

/// A command line in a terminal of so many columns; what it showed comes back.
pub fn shown(world: &World, columns: u16, environment: &[(&str, &str)], line: &str) -> String {
    let line = format!("stty cols {columns}; {line}");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(world.root()).stdin(Stdio::null());
    command.env("TERM", "xterm").env("LANG", "C.UTF-8").env("PLUGD_STATE_DIR", world.state());
    command.env("PLUGD_DIR", world.dir()).env("plugd", env!("CARGO_BIN_EXE_plugd"));
    command.env_remove("NO_COLOR").env_remove("LC_ALL").env_remove("COLUMNS").envs(environment.iter().copied());
    let output = command.output().expect("script is there");
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// `plugd run` in a terminal whose keyboard is a pipe; the terminal is closed with it.
pub struct Terminal(pub Child);

impl Terminal {
    fn open(world: &World) -> Terminal {
        let mut command = Command::new("script");
        command.args(["-qefc", "exec $plugd run --state-dir $PLUGD_STATE_DIR $PLUGD_DIR"]);
        command.arg(world.root().join("screen")).current_dir(world.root());
        command.env("PLUGD_STATE_DIR", world.state()).env("PLUGD_DIR", world.dir()).env("NO_COLOR", "1");
        command.env("plugd", env!("CARGO_BIN_EXE_plugd")).env("TERM", "xterm").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Terminal(command.spawn().expect("script is there"))
    }

    pub fn press_control_c(&mut self) {
        self.0.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("typed");
    }

    /// The code of the node, which `script` hands on.
    pub fn code(&mut self) -> Option<i32> {
        code_of(&mut self.0)
    }

    fn close(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}

pub fn screen(world: &World) -> String {
    String::from_utf8_lossy(&std::fs::read(world.root().join("screen")).unwrap_or_default()).replace('\r', "")
}

#[test]
fn a_narrow_terminal_has_the_causes_beneath_their_rows() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.put("files.yaml", "wrapper: files.sh\n");
    world.wait_status("web", "running");
    world.wait_status("files", "skipped");
    let narrow = shown(&world, 60, &[("NO_COLOR", "1")], "$plugd get");
    let lines: Vec<&str> = narrow.lines().collect();
    assert!(lines[0].starts_with("NAME") && !lines[0].contains("WHY"), "{narrow}");
    assert!(lines[1].starts_with("files  0/1    ↷ skipped (WrapperNotFound)"), "{narrow}");
    assert!(lines[2].starts_with("  wrapper files.sh is in none of"), "{narrow}");
    assert!(lines.iter().all(|line| line.chars().count() <= 60), "{narrow}");
    let wide = shown(&world, 200, &[("NO_COLOR", "1")], "$plugd get");
    assert!(wide.lines().next().is_some_and(|head| head.ends_with("WHY")), "{wide}");
    assert_eq!(wide.lines().count(), 3, "{wide}");
    let status = shown(&world, 60, &[("NO_COLOR", "1")], "$plugd status files");
    assert!(status.lines().filter(|line| !line.contains('/')).all(|line| line.chars().count() <= 60), "{status}");
}

#[test]
fn colours_and_signs_go_where_they_are_not_wanted_or_not_possible() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    assert!(shown(&world, 80, &[], "$plugd get").contains("\x1b[32m✔ running\x1b[0m"));
    assert!(!shown(&world, 80, &[("NO_COLOR", "1")], "$plugd get").contains('\x1b'));
    assert!(!shown(&world, 80, &[("TERM", "dumb")], "$plugd get").contains('\x1b'));
    assert!(shown(&world, 80, &[("LANG", "C")], "$plugd get").is_ascii());
    assert!(!shown(&world, 80, &[], "$plugd get | cat").contains('\x1b'));
    assert!(shown(&world, 80, &[], "$plugd get --color always | cat").contains('\x1b'));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let world = World::running();
    for name in ["a", "b", "c"] {
        world.put(&format!("{name}.yaml"), STAYS);
        world.wait_status(name, "running");
    }
    let script = "set -o pipefail; $plugd get | head -1; echo code $?; $plugd get >/dev/full; echo code $?";
    let said = shown(&world, 80, &[], &format!("bash -c '{script}'"));
    assert!(said.contains("NAME") && said.contains("code 0"), "{said}");
    assert!(said.contains("failed to write to stdout: No space left") && said.contains("code 1"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn one_press_of_control_c_is_one_wish() {
    let world = World::empty();
    world.put(
        "stub.yaml",
        "command: [sh, -c, 'trap \"\" TERM; echo deaf; while :; do sleep 0.05; done']\nstop: {gracePeriod: 3s}\n",
    );
    let mut terminal = Terminal::open(&world);
    world.wait("its output", |world| screen(world).contains("stub | deaf"));
    terminal.press_control_c();
    world.wait_status("stub", "stopping");
    let code = terminal.code();
    let screen = screen(&world);
    assert_eq!(code, Some(0), "an ordered stop\n{screen}");
    assert!(screen.contains("its grace is 3 s"), "it had its grace\n{screen}");
    assert_eq!(world.status("stub"), "stopped (ControllerStopped)");
    assert!(!screen.contains("reason="), "a person is told in sentences\n{screen}");
}

#[test]
fn an_ended_service_does_not_silence_the_others() {
    let world = World::empty();
    world.put("job.yaml", "command: [sh, -c, 'echo done']\nrestart: Never\n");
    world.put("clock.yaml", "command: [sh, -c, 'while :; do echo tick; sleep 0.05; done']\n");
    let mut terminal = Terminal::open(&world);
    world.wait_status("job", "completed");
    let before = screen(&world).matches("| tick").count();
    world.wait("more ticks", |world| screen(world).matches("| tick").count() > before + 5);
    assert!(!screen(&world).contains("not shown here"));
    terminal.press_control_c();
    assert_eq!(terminal.code(), Some(0));
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_terminal_that_is_closed_ends_the_node_in_order() {
    let mut world = World::empty();
    world.put("web.yaml", STAYS);
    let mut terminal = Terminal::open(&world);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    // Its own status comes after those of the services.
    world.wait("the controller to say that it is there", |world| world.controller_pid().is_some());
    let controller = world.controller_pid().expect("a pid");
    let keeper = parent(controller).expect("it lives");
    terminal.close();
    world.wait("the end of all", |_| [pid, controller, keeper].into_iter().all(|pid| !lives(pid)));
    world.wait("the last word", |world| world.status("web") == "stopped (ControllerStopped)");
    // Nobody holds the directory any more.
    ends(&world, 6, &["get"]);
    world.run(&[]);
    world.wait_status("web", "running");
}

#[test]
fn a_person_is_told_in_one_line_what_a_verb_did_and_a_script_is_not() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.wait_status("web", "running");
    let at_80 = |line: &str| shown(&world, 80, &[], line);
    assert!(
        at_80("$plugd stop web")
            .ends_with("web is stopped (StoppedByOperator); it stays stopped until `plugd start web`\n")
    );
    let told = "web: told to stop; it stays stopped until `plugd start web`\n";
    assert_eq!(at_80("$plugd stop --no-wait web"), told);
    assert_eq!(at_80("$plugd start web --wait 2>&1 | cat"), "");
    assert!(at_80("$plugd restart web --wait").ends_with("web is running\n"));
    assert_eq!(ends(&world, 0, &["restart", "web"]), (String::new(), String::new()));
    assert_eq!(at_80("$plugd --quiet scale web=1"), "");
    assert!(at_80("$plugd signal CONT web").contains("CONT is sent to web"));
    // A terminal that has not been told its size is one all the same.
    assert_eq!(shown(&world, 0, &[], "stty rows 0; $plugd restart web"), at_80("$plugd restart web"));
    assert!(shown(&world, 0, &[], "$plugd signal CONT web").contains("CONT is sent to web"));
    // Nobody answers: `script` has no input.
    let asked = at_80("$plugd rm db");
    assert!(asked.contains("remove it all the same? [y/N]") && asked.contains("nothing was removed"), "{asked}");
    assert!(at_80("$plugd rm --yes db").ends_with("db: stopped and gone\n"));
}

#[test]
fn what_check_tells_keeps_to_the_terminal_and_is_whole_in_a_pipe() {
    let world = World::empty();
    world.put("a.yaml", "command: [sh, -c, 'a-rather-long-program-of-which-nobody-knows --with words --and more']\ndependsOn: [nothing-of-this-name]\n");
    world.put("b.yaml", "command: /usr/local/lib/a/rather/long/path/to/a/program-that-is-not-there\n");
    world.put("c.yaml", "wrapper: wrapper-that-is-not-there.sh\nstop: {gracePeriod: 1h}\n");
    let at_80 = shown(&world, 80, &[], "$plugd check --shutdown-timeout 8s 2>/dev/null");
    assert!(at_80.contains("warning: ") && at_80.contains("\n  cannot   b  "), "{at_80}");
    for line in at_80.lines().filter(|line| line.split(' ').all(|word| word.len() < 60)) {
        assert!(line.chars().count() <= 80, "{line}\n{at_80}");
    }
    let (piped, _) = ends(&world, 0, &["check", "--shutdown-timeout", "8s"]);
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    assert_eq!(words(&piped), words(&at_80), "the same, but for its lines");
    assert!(piped.lines().any(|line| line.len() > 100), "{piped}");
}
