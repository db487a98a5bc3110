//! What lies in the way of the files that plugd writes beside the manifests.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::time::Instant;

use crate::guard;
use crate::inject::{is_root, tool, try_tool};
use crate::world::{PATIENCE, World};

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
