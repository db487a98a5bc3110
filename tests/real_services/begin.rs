//! The section "Begin" of README.md, played word for word, in a copy of what it is played in.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::shipped::copy;
use crate::world::{PATIENCE, World, command, copy as copy_program};

/// The commands of each block of the section, without their comments.
fn blocks() -> Vec<Vec<String>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let section = readme.split("\n## Begin\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let command = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_string();
    blocks.map(|block| block.lines().map(command).collect()).collect()
}

/// The words of a shell, in the folder of the project.
fn shell(world: &World, line: &str) -> Command {
    let mut command = command("sh");
    let path = format!("{}:{}", world.root().join("bin").display(), std::env::var("PATH").expect("a PATH"));
    command.args(["-c", line]).current_dir(world.root()).env("PATH", path).env("PLUGD_STATE_DIR", world.state());
    command.stdin(Stdio::null());
    command
}

fn say(world: &World, line: &str) -> String {
    let output = shell(world, line).output().expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A command that goes on until it is interrupted, as by ^C.
struct Goes(Child);

impl Goes {
    fn interrupt(&mut self) -> std::process::ExitStatus {
        let group = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process_group(group, rustix::process::Signal::INT).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("waitable") {
                return status;
            }
            assert!(Instant::now() < deadline, "^C does not end it");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Goes {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let group = rustix::process::Pid::from_child(&self.0);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::QUIT);
            let _ = self.0.wait();
        }
    }
}

#[test]
fn the_commands_of_the_readme_s_beginning_do_what_they_say() {
    let blocks = blocks();
    let [run, looks] = &blocks[..] else { panic!("two blocks, a terminal each: {blocks:?}") };
    let ([run], [get, status, logs, cat]) = (&run[..], &looks[..]) else { panic!("{blocks:?}") };
    let world = World::empty();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("services.d"), &world.dir());
    // The program is built already: where cargo would put it, and a cargo that only runs it.
    fs::create_dir_all(world.root().join("target/release")).expect("made");
    symlink(env!("CARGO_BIN_EXE_plugd"), world.root().join("target/release/plugd")).expect("linked");
    fs::create_dir(world.root().join("bin")).expect("made");
    let cargo = world.root().join("cargo");
    fs::write(
        &cargo,
        "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 99\nshift 3\nexec target/release/plugd \"$@\"\n",
    )
    .expect("written");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("chmod");
    copy_program(&cargo, &world.root().join("bin/cargo"));

    let said = fs::File::create(world.root().join("plugd.log")).expect("created");
    let mut first = shell(&world, &format!("exec {run}"));
    first.stdout(said.try_clone().expect("a second handle")).stderr(said);
    let mut node = Goes(first.spawn().expect("sh"));
    for (name, status) in [
        ("hello", "running"),
        ("web", "healthy"),
        ("clock", "running"),
        ("minutely", "waiting (NextRun)"),
        ("files-mcp", "skipped (WrapperNotFound)"),
    ] {
        world.wait_status(name, status);
    }
    world.wait("flaky to back off", |world| world.status("flaky").starts_with("unhealthy"));

    let all = say(&world, get);
    for name in ["hello", "web", "clock", "flaky", "minutely", "files-mcp"] {
        assert!(all.lines().any(|line| line.contains(name)), "{name} in\n{all}");
    }
    world.wait("the causal chain", |world| {
        // The code tells how the service is.
        let told = shell(world, status).output().expect("sh").stdout;
        let told = String::from_utf8(told).expect("UTF-8");
        told.contains("exits with 1") && told.contains("flaky: cannot reach its database")
    });
    let mut follow = Goes(shell(&world, &format!("exec {logs}")).stdout(Stdio::piped()).spawn().expect("sh"));
    let lines = BufReader::new(follow.0.stdout.take().expect("a pipe")).lines();
    let heard: Vec<String> = lines.take(1).map(|line| line.expect("a line")).collect();
    assert!(heard[0].contains("hello from hello"), "{heard:?}");
    follow.interrupt();
    let file = say(&world, cat);
    assert!(file.starts_with("# hello  running"), "{file}");

    assert_eq!(node.interrupt().code(), Some(0), "{}", world.log());
    assert_eq!(world.status("hello"), "stopped (ControllerStopped)");
}
