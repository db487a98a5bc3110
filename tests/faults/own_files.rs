//! What lies in the way of the files that plugd writes beside the manifests.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::guard;
use crate::inject::{is_root, tool, try_tool, until};
use crate::world::{PATIENCE, World, kill};

#[test]
fn row_39_a_status_that_is_a_link_to_a_system_file_leaves_that_file_alone() {
    let mut world = World::empty();
    let target = world.root().join("passwd");
    fs::write(&target, "root:x:0:0\n").expect("written");
    symlink(&target, world.path("web.status")).expect("linked");
    symlink(&target, world.path("_controller.status")).expect("linked");
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.run(&[]);
    world.wait_status("web", "running");
    assert_eq!(fs::read_to_string(&target).expect("readable"), "root:x:0:0\n");
    for name in ["web.status", "_controller.status"] {
        let told = format!("{name} was a link");
        let warned = |world: &World| world.log().lines().filter(|line| line.contains(&told)).count();
        world.wait("the link to be replaced and told", |world| !world.path(name).is_symlink() && warned(world) > 0);
        assert_eq!(warned(&world), 1, "{}", world.log());
    }
}

#[test]
fn row_40_a_pipe_or_a_file_that_cannot_be_changed_in_a_status_s_place() {
    let mut world = World::empty();
    tool(&["mkfifo", &world.path("pipe.status").display().to_string()]);
    fs::write(world.path("fixed.status"), "status: healthy\n").expect("written");
    let fixed = world.path("fixed.status").display().to_string();
    let immutable = is_root() && try_tool(&["chattr", "+i", &fixed]);
    for name in ["pipe", "fixed"] {
        world.put(&format!("{name}.yaml"), &guard::stays(&world, name));
    }
    world.run(&[]);
    // Not read before it is a file: who opens a pipe without a writer waits.
    world.wait("the pipe to be replaced", |world| {
        fs::symlink_metadata(world.path("pipe.status")).is_ok_and(|meta| !meta.file_type().is_fifo())
    });
    world.wait_status("pipe", "running");
    if immutable {
        // Taken back before anything can fail, else nobody can remove the folder.
        let deadline = Instant::now() + PATIENCE;
        let mut seen = (String::new(), String::new());
        let told = |seen: &(String, String)| seen.0.contains("StatusNotWritten") && seen.1.contains("status: running");
        while !told(&seen) && Instant::now() < deadline {
            let object = world.plugd(&["get", "fixed", "-o", "yaml"]).stdout;
            let aside = fs::read_to_string(world.state().join("status/fixed.status")).unwrap_or_default();
            seen = (String::from_utf8_lossy(&object).into_owned(), aside);
        }
        tool(&["chattr", "-i", &fixed]);
        assert!(told(&seen), "{seen:?}");
    }
    world.wait_status("fixed", "running");
}

#[test]
fn row_41_what_is_planted_for_our_temporary_files_leads_nowhere() {
    let mut world = World::empty();
    let victim = world.root().join("victim");
    fs::create_dir(&victim).expect("made");
    fs::write(victim.join("precious"), "as it was").expect("written");
    symlink(&victim, world.path(".plugd")).expect("linked");
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.spawn(&[]);
    world.wait("the service to run", |world| guard::starts(world, "web").len() == 1);
    world.wait("its status, here or in the state directory", |world| {
        world.status("web") == "running" || world.state().join("status/web.status").exists()
    });
    let left: Vec<_> = fs::read_dir(&victim).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["precious"], "something was written through the link");
    assert_eq!(fs::read_to_string(victim.join("precious")).expect("readable"), "as it was");
}

#[test]
fn row_41_what_is_planted_among_our_temporary_files_is_never_written_to() {
    type Plant = fn(&Path, &Path);
    let kinds: [Plant; 4] = [
        |victim, at| symlink(victim, at).expect("linked"),
        |_, at| tool(&["mkfifo", &at.display().to_string()]),
        |_, at| fs::create_dir(at).expect("made"),
        |victim, at| fs::hard_link(victim, at).expect("linked"),
    ];
    for (number, plant) in kinds.iter().enumerate() {
        let mut world = World::empty();
        let (victim, shop) = (world.root().join("victim"), world.path(".plugd"));
        fs::write(&victim, "as it was").expect("written");
        // What lies there before it begins goes, or stays and is in nobody's way.
        fs::create_dir(&shop).expect("made");
        kinds.iter().enumerate().for_each(|(n, plant)| plant(&victim, &shop.join(format!("{n:016x}"))));
        world.put("web.yaml", &(guard::stays(&world, "web") + "restart: {backoff: {initial: 10ms, max: 10ms}}\n"));
        world.run(&[]);
        let next_life = || {
            let before = guard::starts(&world, "web");
            before.last().into_iter().for_each(|pid| kill(*pid, 9));
            world.wait("the next life in its status", |world| {
                let starts = guard::starts(world, "web");
                starts.len() > before.len() && world.pid("web") == starts.last().copied()
            });
        };
        let sheet = || {
            let files = fs::read_dir(&shop).expect("there").flatten();
            let mut files = files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
            let was_status =
                |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains("controller: {pid: "));
            files.find_map(|entry| Some(entry.path()).filter(was_status))
        };
        // While it runs, in the place of the sheet that the next status would be written on. One that is planted is the
        // last: from then on each status is a new file.
        until("a sheet", || {
            next_life();
            sheet().is_some_and(|sheet| fs::remove_file(&sheet).map(|()| plant(&victim, &sheet)).is_ok())
        });
        (0..3).for_each(|_| next_life());
        assert_eq!(fs::read_to_string(&victim).expect("readable"), "as it was", "{number}");
        assert!(fs::symlink_metadata(world.path("web.status")).expect("there").is_file(), "{number}");
        guard::assert_calm(&world);
    }
}

#[test]
fn row_41_a_folder_for_temporary_files_that_others_may_write_is_closed_or_not_used() {
    let mut world = World::empty();
    fs::create_dir(world.path(".plugd")).expect("made");
    fs::set_permissions(world.path(".plugd"), fs::Permissions::from_mode(0o777)).expect("chmod");
    world.put("web.yaml", &guard::stays(&world, "web"));
    world.spawn(&[]);
    world.wait_status("web", "running");
    let mode = fs::metadata(world.path(".plugd")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}
