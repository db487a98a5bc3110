//! Eight writers hammer the folder, each as another tool would; at the end what lies there runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guard;
use crate::inject::until;
use crate::oracle::Oracle;
use crate::reads::Dice;
use crate::soak::times;
use crate::world::{World, lives};

const WRITERS: usize = 8;
/// Services of each writer; two writers never share one, so that the last edit is known.
const EACH: usize = 3;
/// From the last edit on; 21 services may have been edited in the last moment. It takes less than a second where
/// nobody else computes; a manifest that nobody looks at any more would wait for ever.
const CONVERGED: Duration = Duration::from_secs(10);

fn version(world: &World, name: &str, edit: usize) -> String {
    guard::script(world, name, &format!("exec sleep 86400.{edit}"))
}

/// Writes the text slowly, in place: a prefix of it is a whole manifest, whose shell leaves a mark when
/// it comes to its end. The whole text ends by executing something else, which is no end of the shell.
pub fn in_pieces(world: &World, name: &str, text: &str) {
    let mark = world.root().join("acted-on-a-prefix").display().to_string();
    let mut file = fs::File::create(world.path(&format!("{name}.yaml"))).expect("created");
    writeln!(file, "script: |\n  trap 'echo {name} >> {mark}' EXIT").expect("written");
    file.flush().expect("flushed");
    std::thread::sleep(Duration::from_millis(15));
    let rest = text.strip_prefix("script: |\n").expect("a script");
    file.write_all(rest.as_bytes()).expect("written");
    std::thread::sleep(Duration::from_millis(5));
    file.write_all(b"labels: {written: whole}\n").expect("written");
}

/// Nothing of [`in_pieces`] was run before it was whole.
pub fn assert_nothing_of_a_prefix(world: &World) {
    let prefixes = fs::read_to_string(world.root().join("acted-on-a-prefix")).unwrap_or_default();
    assert!(prefixes.is_empty(), "a file that was still open was run:\n{prefixes}");
}

fn tool(world: &World, script: &str) {
    let done = Command::new("sh").arg("-c").arg(script).current_dir(world.dir()).stdin(Stdio::null()).status();
    assert!(done.expect("sh").success(), "{script}");
}

/// Saves as the given tool does.
fn save(world: &World, way: usize, name: &str, edit: usize, stage: &str) {
    let text = version(world, name, edit);
    let file = format!("{name}.yaml");
    let path = world.path(&file);
    match way {
        // vim with backupcopy=no: the old one becomes a backup, a new one is created.
        0 => {
            let backup = world.path(&format!("{file}~"));
            let _ = fs::write(world.path("4913"), "");
            let _ = fs::remove_file(world.path("4913"));
            let _ = fs::rename(&path, &backup);
            fs::write(&path, text).expect("written");
            let _ = fs::remove_file(&backup);
        }
        // sed -i, the real one.
        1 if path.exists() => {
            tool(world, &format!("sed -i 's/86400\\.[0-9]*/86400.{edit}/; s/sleep 86400$/sleep 86400.{edit}/' {file}"))
        }
        // mv over it.
        2 => {
            fs::write(world.root().join(stage), text).expect("written");
            fs::rename(world.root().join(stage), &path).expect("renamed");
        }
        // cat > it.
        3 => fs::write(&path, text).expect("written"),
        // cp --remove-destination.
        4 => {
            fs::write(world.root().join(stage), text).expect("written");
            tool(world, &format!("cp --remove-destination {}/{stage} {file}", world.root().display()));
        }
        // A writer that is slow and says half of it first.
        5 => in_pieces(world, name, &text),
        // rm, and again from nothing.
        6 => {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).expect("written");
        }
        _ => fs::write(&path, text).expect("written"),
    }
}

/// The swap of a ConfigMap: a new folder of a time, and `..data` renamed onto it.
fn swap(world: &World, names: &[String], edit: usize) {
    let folder = world.path(&format!("..time{edit}"));
    fs::create_dir(&folder).expect("made");
    for name in names {
        fs::write(folder.join(format!("{name}.yaml")), version(world, name, edit)).expect("written");
        let link = world.path(&format!("{name}.yaml"));
        if !link.is_symlink() {
            symlink(format!("..data/{name}.yaml"), &link).expect("linked");
        }
    }
    symlink(format!("..time{edit}"), world.path("..data_tmp")).expect("linked");
    let old = fs::read_link(world.path("..data")).ok();
    fs::rename(world.path("..data_tmp"), world.path("..data")).expect("renamed");
    old.into_iter().for_each(|old| drop(fs::remove_dir_all(world.dir().join(old))));
}

#[test]
fn row_53_eight_writers_and_a_thousand_edits_end_in_what_lies_there() {
    let world = World::running();
    let oracle = Oracle::watch(&world.dir());
    let edits = times(1_000) / WRITERS;
    let names = |writer: usize| -> Vec<String> { (0..EACH).map(|n| format!("w{writer}s{n}")).collect() };
    let last: Vec<(String, usize)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (world, names) = (&world, names(writer));
                scope.spawn(move || {
                    let mut dice = Dice(writer as u64);
                    let mut last = vec![0; EACH];
                    for edit in 1..=edits {
                        if writer == WRITERS - 1 {
                            swap(world, &names, edit);
                            last.fill(edit);
                        } else {
                            let n = dice.below(EACH);
                            save(world, writer, &names[n], edit, &format!("stage{writer}"));
                            last[n] = edit;
                        }
                        std::thread::sleep(Duration::from_millis(dice.below(40) as u64));
                    }
                    names.into_iter().zip(last).filter(|(_, edit)| *edit > 0).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });

    let quiet = Instant::now();
    let right = |(name, edit): &(String, usize)| {
        guard::starts(&world, name).last().is_some_and(|pid| {
            lives(*pid)
                && fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line == format!("sleep\x0086400.{edit}\0").into_bytes())
        })
    };
    until("every service to run what was written last", || last.iter().all(right));
    let took = quiet.elapsed();
    eprintln!("    {} services right {took:?} after the last of {} edits", last.len(), edits * WRITERS);
    assert!(took < CONVERGED, "{took:?}");
    last.iter().for_each(|(name, _)| world.wait_status(name, "running"));
    guard::assert_single(&world);
    assert_nothing_of_a_prefix(&world);
    oracle.assert_no_lie();
    guard::assert_calm(&world);
}
