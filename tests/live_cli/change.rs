//! add, rm, edit: they only change files, and wait for what comes of it.

use std::process::Command;
use std::time::Duration;

use crate::ask::{STAYS, begin, code_of, ends, err, out};
use crate::world::World;

#[test]
fn add_puts_a_command_or_a_file_in_place_and_tells_what_came_of_it() {
    let world = World::running();
    assert_eq!(ends(&world, 0, &["add", "web", "--wait", "--", "sleep", "1000"]).0, "web  running\n");
    let (_, told) = ends(&world, 1, &["add", "web", "--", "sleep", "2000"]);
    assert!(told.contains("web is declared already, by web.yaml") && told.contains("--replace"), "{told}");
    let before = world.pid("web");
    ends(&world, 0, &["add", "web", "--replace", "--wait", "--", "sleep", "2000"]);
    world.wait("the new version", |world| world.pid("web").is_some_and(|pid| Some(pid) != before));
    let file = world.root().join("db.yaml");
    std::fs::write(&file, STAYS).expect("written");
    assert_eq!(ends(&world, 0, &["add", &file.display().to_string(), "--wait"]).0, "db  running\n");
    ends(&world, 2, &["add", "bad name", "--", "true"]);
    ends(&world, 1, &["add", "nowhere.yaml"]);
}

#[test]
fn add_refuses_a_wrong_manifest_with_a_caret_and_writes_nothing() {
    let world = World::running();
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "comand: sleep 1000\n").expect("written");
    let (_, told) = ends(&world, 5, &["add", &file.display().to_string()]);
    assert!(told.contains("1 | comand: sleep 1000\n  | ^^^^^^\n"), "{told}");
    assert!(told.contains("did you mean `command`?"), "{told}");
    assert!(!world.path("web.yaml").exists());
}

#[test]
fn who_writes_an_edit_that_is_blocked_is_told_at_once_and_what_to_mend() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let file = world.root().join("web.yaml");
    let add = |text: &str| {
        std::fs::write(&file, text).expect("written");
        ends(&world, 0, &["add", &file.display().to_string()])
    };
    let behind = "plugd: web is running, but by the version before: what web.yaml says now is not in force: \
                  the new version would not start";
    let (said, told) = add("command: sleep 2000\ndependsOn: [nobody]\n");
    assert_eq!(said, "web  running\n");
    assert!(told.starts_with(behind) && told.contains("there is no service nobody"), "{told}");
    assert!(told.ends_with("; mend web.yaml\n") && told.lines().count() == 1, "{told}");
    assert_eq!(add(STAYS).1, "", "it is in force again");

    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let number = port.local_addr().expect("bound").port();
    add(&format!("{STAYS}port: 1\n"));
    world.wait_status("web", "starting");
    let (_, told) = add(&format!("{STAYS}port: {number}\n"));
    assert!(told.contains("what web.yaml says now is not in force") && told.contains("AddressInUse"), "{told}");
    assert!(told.ends_with("; free the port, or mend web.yaml\n"), "{told}");
    add(STAYS);
    world.wait_status("web", "running");

    let edited = edit_with(&world, "sed -i s/sleep/no-such-program/", world.root());
    assert_eq!(edited.status.code(), Some(0));
    let told = err(&edited);
    assert!(told.starts_with(behind) && told.contains("no-such-program"), "{told}");
    let edited = edit_with(&world, "sed -i s/no-such-program/sleep/", world.root());
    assert_eq!((edited.status.code(), err(&edited).as_str()), (Some(0), ""));
}

#[test]
fn what_was_wrong_in_a_drop_in_that_is_mended_by_now_is_nobody_s_answer() {
    let world = World::running();
    let file = world.root().join("web.yaml");
    std::fs::write(&file, STAYS).expect("written");
    let add = ["add", &file.display().to_string(), "--wait"];
    ends(&world, 0, &add);
    for round in 0..10 {
        world.put("web.yaml.d/10.yaml", "comand: true\n");
        ends(&world, 1, &["wait", "web"]);
        let (_, told) = ends(&world, 5, &add);
        assert!(told.contains("web.yaml.d/10.yaml:1:1: unknown field `comand`"), "{told}");
        world.put("web.yaml.d/10.yaml", &format!("env: {{ROUND: \"{round}\"}}\n"));
        ends(&world, 0, &add);
    }
}

#[test]
fn replace_may_be_said_of_a_file_too() {
    let world = World::running();
    let file = world.root().join("web.yaml");
    std::fs::write(&file, STAYS).expect("written");
    let file = file.display().to_string();
    for _ in 0..2 {
        assert_eq!(ends(&world, 0, &["add", "--wait", "--replace", &file]).0, "web  running\n");
    }
    let (_, told) = ends(&world, 2, &["add", "--replace", "web"]);
    assert!(told.contains("write `plugd add NAME -- CMD`"), "{told}");
}

#[test]
fn rm_returns_when_the_service_is_gone() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    ends(&world, 0, &["rm", "web"]);
    assert!(!crate::world::lives(pid) && !world.path("web.yaml").exists());
    ends(&world, 4, &["get", "web"]);
}

#[test]
fn rm_missing_lets_go_what_a_lost_directory_held() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let pid = world.pid("web").expect("a pid");
    let away = world.root().join("away");
    std::fs::rename(world.dir(), &away).expect("moved away");
    std::fs::create_dir(world.dir()).expect("an empty one in its place");
    // The directory that the flags name is another now; the state directory tells which node is meant.
    world.wait("the loss to be known", |world| {
        out(&world.plugd(&["get", "--summary", "-o", "json"])).contains("\"running\": 1")
            && world.plugd(&["wait", "--timeout", "0s"]).status.code() != Some(0)
    });
    assert!(crate::world::lives(pid), "it is held");
    ends(&world, 0, &["rm", "--missing"]);
    world.wait("its end", |_| !crate::world::lives(pid));
}

#[test]
fn edit_takes_up_what_is_valid_and_keeps_what_is_not() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let edit = |editor: &str| {
        Command::new(env!("CARGO_BIN_EXE_plugd"))
            .arg("--dir")
            .arg(world.dir())
            .args(["edit", "web"])
            .env("PLUGD_STATE_DIR", world.state())
            .env_remove("VISUAL")
            .env("EDITOR", editor)
            .env("TMPDIR", world.root())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("plugd can be started")
    };
    let before = world.pid("web");
    assert_eq!(edit("sed -i s/1000/2000/").status.code(), Some(0));
    world.wait("the edit", |world| world.pid("web").is_some_and(|pid| Some(pid) != before));
    let wrong = edit("sed -i s/command/comand/");
    assert_eq!(wrong.status.code(), Some(5), "{}", err(&wrong));
    assert!(err(&wrong).contains("what you wrote is kept in"), "{}", err(&wrong));
    assert_eq!(edit("false").status.code(), Some(1));
    assert_eq!(edit("true").status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(world.path("web.yaml")).expect("there"), "command: sleep 2000\n");
}

/// Writes a script that is used as an editor.
fn editor(world: &World, text: &str) -> String {
    let path = world.root().join("editor.sh");
    std::fs::write(&path, text).expect("written");
    format!("sh {}", path.display())
}

fn edit_with(world: &World, editor: &str, temporary: &std::path::Path) -> std::process::Output {
    edit_of(world, "web", editor, temporary)
}

fn edit_of(world: &World, name: &str, editor: &str, temporary: &std::path::Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_plugd"))
        .arg("--dir")
        .arg(world.dir())
        .args(["edit", name])
        .env("PLUGD_STATE_DIR", world.state())
        .env_remove("VISUAL")
        .env("EDITOR", editor)
        .env("TMPDIR", temporary)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("plugd can be started")
}

#[test]
fn what_somebody_else_changed_or_removed_meanwhile_is_not_undone_by_an_edit() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let file = world.path("web.yaml");
    let shown = file.display();

    let changed = format!("echo 'labels: {{mine: \"yes\"}}' >> \"$1\"; echo 'command: sleep 7777' > {shown}\n");
    let refused = edit_with(&world, &editor(&world, &changed), world.root());
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    assert!(
        err(&refused).contains("changed by somebody else") && err(&refused).contains("kept in"),
        "{}",
        err(&refused)
    );
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "command: sleep 7777\n");

    let removed = format!("echo 'labels: {{mine: \"yes\"}}' >> \"$1\"; rm {shown}\n");
    let refused = edit_with(&world, &editor(&world, &removed), world.root());
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    assert!(err(&refused).contains("was removed"), "{}", err(&refused));
    assert!(!file.exists());
}

#[test]
fn an_edit_needs_no_place_for_temporary_files_but_the_directory_itself() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let done = edit_with(&world, "sed -i s/1000/2000/", &world.root().join("nowhere"));
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(std::fs::read_to_string(world.path("web.yaml")).expect("there"), "command: sleep 2000\n");
    let left: Vec<_> =
        std::fs::read_dir(world.dir()).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("edit")), "{left:?}");
}

#[test]
fn a_discovered_script_is_edited_as_a_script_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::running();
    world.put_script("plain.sh", "#!/bin/sh\nexec sleep 1000\n");
    world.put_script("headed.sh", "#!/bin/sh\n# plugd: restart: Never\nexec sleep 1000\n");
    for name in ["plain", "headed"] {
        world.wait_status(name, "running");
        let file = world.path(&format!("{name}.sh"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).expect("chmod");
        world.wait("the status of the mode", |world| world.status(name) == "running");
        let before = world.pid(name);
        let edited = edit_of(&world, name, "sed -i s/1000/2000/", world.root());
        assert_eq!((edited.status.code(), err(&edited).as_str()), (Some(0), ""), "{name}");
        assert!(std::fs::read_to_string(&file).expect("there").ends_with("exec sleep 2000\n"));
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o750);
        world.wait("the edit", |world| world.pid(name).is_some_and(|pid| Some(pid) != before));
    }
    let refused = edit_of(&world, "headed", "sed -i s/restart:/restrt:/", world.root());
    assert_eq!(refused.status.code(), Some(5));
    assert!(err(&refused).contains("headed.sh:2:10: unknown field `restrt`"), "{}", err(&refused));
    let refused = edit_of(&world, "plain", "sed -i 1d", world.root());
    assert_eq!(refused.status.code(), Some(5));
    assert!(err(&refused).contains("plain.sh begins neither with `#!` nor as a program"), "{}", err(&refused));
    assert!(std::fs::read_to_string(world.path("plain.sh")).expect("there").starts_with("#!/bin/sh\n"));
}

#[test]
fn a_script_of_a_library_is_edited_where_it_lies() {
    let world = World::running();
    std::fs::create_dir(world.path("wrappers")).expect("made");
    world.put_script("wrappers/clock.sh", "#!/bin/sh\n# plugd: restart: Never\nexec sleep 1000\n");
    world.wait_status("clock", "running");
    let edited = edit_of(&world, "clock", "sed -i s/1000/2000/", world.root());
    assert_eq!((edited.status.code(), err(&edited).as_str()), (Some(0), ""));
    assert!(std::fs::read_to_string(world.path("wrappers/clock.sh")).expect("there").ends_with("exec sleep 2000\n"));
}

#[test]
fn a_text_is_valid_with_what_lies_beside_it() {
    let world = World::running();
    std::fs::create_dir(world.path("web.yaml.d")).expect("made");
    world.put("web.yaml.d/10.yaml", STAYS);
    world.put("web.yaml", "labels: {is: \"1000\"}\n");
    world.wait_status("web", "running");
    let edited = edit_with(&world, "sed -i s/1000/2000/", world.root());
    assert_eq!((edited.status.code(), err(&edited).as_str()), (Some(0), ""));
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "labels: {is: \"3000\"}\n").expect("written");
    ends(&world, 0, &["add", "--wait", &file.display().to_string()]);
    world.remove("web.yaml.d/10.yaml");
    let refused = edit_with(&world, "sed -i s/3000/4000/", world.root());
    assert!(refused.status.code() == Some(5) && err(&refused).contains("nothing to run"), "{}", err(&refused));
}

#[test]
fn rm_ends_what_an_invalid_second_file_of_its_name_goes_on_for() {
    let world = World::running();
    world.put("h.yaml", STAYS);
    world.wait_status("h", "running");
    world.put("h.json", "{\"comand\": \"sleep 1003\"}\n");
    world.wait("the second file to be told", |world| {
        world.status_file("h").is_some_and(|text| text.contains("NameConflict"))
    });
    let pid = world.pid("h").expect("a pid");
    let (_, told) = ends(&world, 1, &["rm", "h"]);
    assert!(
        told.starts_with("plugd: h.yaml is removed; h.json has the name h too, and is the one that counts now: it is")
            && told.contains("unknown field `comand`")
            && told.ends_with("; `plugd rm h` removes h.json as well\n"),
        "{told}"
    );
    assert!(!world.path("h.yaml").exists() && crate::world::lives(pid), "a bad file ends nothing");
    world.wait("its status to name the one that counts", |world| {
        world
            .status_file("h")
            .is_some_and(|text| text.contains("manifest: {file: h.json") && !text.contains("NameConflict"))
    });
    ends(&world, 0, &["rm", "h"]);
    assert!(!world.path("h.json").exists() && !crate::world::lives(pid));
    ends(&world, 4, &["get", "h"]);
}

#[test]
fn add_without_a_controller_says_that_the_file_waits() {
    let world = World::empty();
    let (_, told) = ends(&world, 6, &["add", "web", "--", "sleep", "1000"]);
    assert!(told.contains("is written and waits for a controller"), "{told}");
    assert!(world.path("web.yaml").exists());
}

#[test]
fn the_file_that_declares_a_service_is_the_one_that_is_replaced_and_a_script_is_nobodys_to_remove() {
    let world = World::running();
    world.put("web.yml", STAYS);
    world.put_script("clock.sh", "#!/bin/sh\nexec sleep 1000\n");
    world.wait_status("web", "running");
    world.wait_status("clock", "running");
    let (_, told) = ends(&world, 1, &["add", "web", "--", "sleep", "2000"]);
    assert!(told.contains("web is declared already, by web.yml"), "{told}");
    ends(&world, 0, &["add", "web", "--replace", "--wait", "--", "sleep", "2000"]);
    assert!(world.path("web.yml").exists() && !world.path("web.yaml").exists());
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "command: sleep 3000\n").expect("written");
    ends(&world, 0, &["add", &file.display().to_string(), "--wait"]);
    let text = std::fs::read_to_string(world.path("web.yml")).expect("there");
    assert!(text.contains("3000") && !world.path("web.yaml").exists(), "{text}");

    // A file that says another name is what it is, and declares nobody else's service.
    world.put("other.yaml", "name: shop\ncommand: sleep 1000\n");
    world.wait_status("shop", "running");
    let named = world.root().join("shop.yaml");
    std::fs::write(&named, "name: till\ncommand: sleep 1000\n").expect("written");
    ends(&world, 0, &["add", &named.display().to_string(), "--wait"]);
    assert!(world.path("shop.yaml").exists());
    world.wait_status("shop", "running");
    world.wait_status("till", "running");
    // What would make another service of its file is not written there.
    let (_, told) = ends(&world, 1, &["add", "shop", "--replace", "--", "sleep", "7"]);
    assert!(told.contains("other.yaml") && told.contains("without `name: shop`"), "{told}");
    let named = world.root().join("again/shop.yaml");
    std::fs::create_dir(world.root().join("again")).expect("made");
    std::fs::write(&named, "command: sleep 1001\n").expect("written");
    ends(&world, 1, &["add", &named.display().to_string()]);
    std::fs::write(&named, "name: shop\ncommand: sleep 1001\n").expect("written");
    ends(&world, 0, &["add", &named.display().to_string(), "--wait"]);
    assert_eq!(std::fs::read(world.path("other.yaml")).expect("there"), std::fs::read(&named).expect("there"));
    // Nor does a new name take a file in which others are declared.
    let (_, told) = ends(&world, 1, &["add", "other", "--replace", "--", "sleep", "7"]);
    assert!(told.contains("other.yaml declares shop too"), "{told}");

    let (_, told) = ends(&world, 1, &["rm", "clock"]);
    assert!(told.contains("clock.sh") && told.contains("`plugd stop clock`"), "{told}");
    assert!(world.path("clock.sh").exists());
}

#[test]
fn without_a_controller_too_a_file_of_several_services_is_nobody_s_alone() {
    let mut world = World::running();
    let one = |name: &str| {
        format!("apiVersion: plugd/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{command: sleep 1000}}\n")
    };
    world.put("two.yaml", &format!("{}---\n{}", one("a"), one("b")));
    world.put("web.yml", STAYS);
    for name in ["a", "b", "web"] {
        world.wait_status(name, "running");
    }
    assert_eq!(world.stop().code(), Some(0));
    let (_, told) = ends(&world, 1, &["rm", "a"]);
    assert!(told.contains("two.yaml declares b too"), "{told}");
    let (_, told) = ends(&world, 1, &["add", "a", "--replace", "--", "sleep", "7"]);
    assert!(told.contains("two.yaml declares b too"), "{told}");
    ends(&world, 1, &["add", "web", "--", "sleep", "7"]);
    assert!(world.path("two.yaml").exists() && !world.path("web.yaml").exists() && !world.path("a.yaml").exists());
}

#[test]
fn a_wait_begun_before_the_manifest_ends_with_it() {
    let world = World::running();
    let mut waiting = begin(&world, &["wait", "web", "--timeout", "20s"]);
    world.put("web.yaml", STAYS);
    assert_eq!(code_of(&mut waiting.0), Some(0));
    let mut waiting = begin(&world, &["wait", "web", "--for=deleted", "--timeout", "20s"]);
    world.remove("web.yaml");
    assert_eq!(code_of(&mut waiting.0), Some(0));
}

#[test]
fn a_wait_for_a_name_that_no_file_declares_ends_soon_and_says_what_was_meant() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let begun = std::time::Instant::now();
    let (_, told) = ends(&world, 4, &["wait", "wbe", "--timeout", "60s"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(told.contains("no service is named wbe (did you mean web?)"), "{told}");
    assert!(told.contains("`plugd wait --for=created wbe` waits for it"), "{told}");
    let (_, told) = ends(&world, 4, &["get", "events"]);
    assert!(told.contains("no service is named events; `plugd events` is a verb by itself"), "{told}");
    let (_, told) = ends(&world, 1, &["explain", "Deployment"]);
    assert!(told.contains("there is no kind Deployment; all are services"), "{told}");
    let mut waiting = begin(&world, &["wait", "api", "--for=created", "--timeout", "20s"]);
    world.put("api.yaml", STAYS);
    assert_eq!(code_of(&mut waiting.0), Some(0));
}

#[test]
fn rm_names_who_depends_on_what_goes_and_never_stops_a_script() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.put("cache.yaml", "command: sleep 1000\ndependsOn: [{name: db, optional: true}]\n");
    world.wait_status("web", "running");
    world.wait_status("cache", "running");
    let (_, told) = ends(&world, 0, &["rm", "db"]);
    assert!(told.contains("web depends on db and cannot start again without"), "{told}");
    assert!(!told.contains("cache"), "an optional one only orders: {told}");
    assert_eq!(world.status("web"), "running");
    assert_eq!(ends(&world, 0, &["rm", "web", "--yes"]), (String::new(), String::new()));
}

#[test]
fn a_misspelt_dependency_in_an_edit_is_blocked_foretold_and_told_as_an_event() {
    let world = World::running();
    world.put("db.yaml", STAYS);
    world.put("web.yaml", "command: sleep 1000\ndependsOn: [db]\n");
    world.wait_status("web", "running");
    let pid = world.pid("web");
    let file = world.root().join("web.yaml");
    std::fs::write(&file, "command: sleep 2000\ndependsOn: [dbb]\n").expect("written");
    let (said, _) = ends(&world, 0, &["check", &file.display().to_string()]);
    assert!(said.contains("blocked  web  DependencyNotReady: there is no service dbb (did you mean db?)"), "{said}");
    world.put("web.yaml", "command: sleep 2000\ndependsOn: [dbb]\n");
    world.wait("the block", |world| world.status_file("web").is_some_and(|text| text.contains("UpdateBlocked")));
    assert_eq!((world.pid("web"), world.status("web").as_str()), (pid, "running"));
    let object = ends(&world, 0, &["get", "web", "-o", "json"]).0;
    let object: serde_json::Value = serde_json::from_str(&object).expect("JSON");
    assert_eq!((&object["metadata"]["generation"], &object["status"]["observedGeneration"]), (&2.into(), &1.into()));
    let (said, _) = ends(&world, 0, &["events", "web"]);
    assert!(said.contains("UpdateBlocked") && said.contains("did you mean db?"), "{said}");
    let (_, told) = ends(&world, 1, &["wait", "web"]);
    assert!(told.contains("is not in force"), "{told}");
}

#[test]
fn a_file_is_checked_with_its_drop_ins_and_the_defaults_and_so_is_each_of_them() {
    let world = World::running();
    world.put("_defaults.yaml", "env: {FROM: defaults}\n");
    world.put("web.yaml", STAYS);
    std::fs::create_dir(world.dir().join("web.yaml.d")).expect("made");
    world.put("web.yaml.d/10.yaml", "env: {I: \"1\"}\n");
    world.wait_status("web", "running");
    ends(&world, 0, &["wait", "web"]);
    let at = |file: &str| world.dir().join(file).display().to_string();
    let says = |code: i32, file: &str, words: &str| {
        let (said, _) = ends(&world, code, &["check", &at(file)]);
        assert!(said.contains(words), "{file}: {said}");
    };
    for file in ["web.yaml", "web.yaml.d/10.yaml"] {
        says(0, file, "unchanged 1");
    }
    let (_, told) = ends(&world, 0, &["check", &at("_defaults.yaml")]);
    assert!(told.contains("is part of every manifest beside it"), "{told}");
    world.put("web.yaml.d/10.yaml", "env: {I: \"1\"}\ncomand: true\n");
    for file in ["web.yaml", "web.yaml.d/10.yaml"] {
        says(5, file, "web.yaml.d/10.yaml:2:1: unknown field `comand`");
    }
    world.put("_defaults.yaml", "envv: {}\n");
    says(5, "_defaults.yaml", "unknown field `envv`");
    says(5, "web.yaml", "unknown field `envv`");
}

/// The line of the plan that names `web`.
fn foretold(world: &World, path: &std::path::Path) -> String {
    let (said, _) = ends(world, 0, &["check", &path.display().to_string()]);
    said.lines().find(|line| line.contains(" web ")).unwrap_or(&said).to_string()
}

#[test]
fn what_check_says_of_an_edit_is_what_becomes_of_the_process() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 1000\n");
    world.wait_status("web", "running");
    let file = world.root().join("web.yaml");
    let mut text = "command: sleep 1000\n".to_string();
    for (edit, word) in [
        ("labels: {team: data}", "apply"),
        ("logs: {separate: true}", "restart"),
        ("startupProbe: {exec: {command: ['true']}}", "apply"),
        ("env: {NEW: \"1\"}", "restart"),
    ] {
        text.push_str(&format!("{edit}\n"));
        std::fs::write(&file, &text).expect("written");
        let (before, line) = (world.pid("web"), foretold(&world, &file));
        assert!(line.trim_start().starts_with(word), "{edit}: {line}");
        world.put("web.yaml", &text);
        world.wait("the edit", |world| foretold(world, &file).starts_with("would start 0, restart 0, apply live 0"));
        if word == "restart" {
            world.wait("another process", |world| world.pid("web").is_some_and(|pid| Some(pid) != before));
            world.wait_status("web", "running");
        } else {
            let told: serde_json::Value =
                serde_json::from_str(&ends(&world, 0, &["get", "web", "-o", "json"]).0).expect("JSON");
            assert_eq!(told["status"]["instances"][0]["pid"].as_i64(), before.map(i64::from), "{edit}: {told}");
            assert_ne!(told["status"]["status"], "stopping", "{edit}");
        }
    }
}

#[test]
fn check_of_a_whole_directory_sees_defaults_drop_ins_and_wrappers() {
    let world = World::running();
    world.put_script("w.sh", "#!/bin/sh\nexec sleep 1000\n");
    world.put("w.yaml", "wrapper: w.sh\nworkingDir: .\n");
    world.put("web.yaml", "command: sleep 1000\n");
    world.wait_status("web", "running");
    world.wait_status("w", "running");
    let new = world.root().join("new");
    std::fs::create_dir(&new).expect("made");
    let put = |file: &str, text: &str| std::fs::write(new.join(file), text).expect("written");
    for file in ["w.sh", "w.yaml", "web.yaml"] {
        std::fs::copy(world.path(file), new.join(file)).expect("copied");
    }
    let check = || ends(&world, 0, &["check", &new.display().to_string()]).0;
    assert!(check().contains("restart 0, apply live 0, skip 0, stop 0; unchanged 2"), "{}", check());
    put("w.sh", "#!/bin/sh\n# edited\nexec sleep 1000\n");
    assert!(check().contains("restart 1,") && check().contains("  restart  w  "), "{}", check());
    std::fs::create_dir(new.join("web.yaml.d")).expect("made");
    put("web.yaml.d/10.yaml", "args: [\"7\"]\n");
    assert!(check().contains("restart 2,"), "{}", check());
    std::fs::copy(world.path("w.sh"), new.join("w.sh")).expect("copied");
    std::fs::remove_dir_all(new.join("web.yaml.d")).expect("removed");
    put("_defaults.yaml", "env: {X: \"1\"}\n");
    assert!(check().contains("restart 2,"), "{}", check());
}

#[test]
fn check_of_a_directory_finds_its_node_from_anywhere() {
    let world = World::running();
    world.put("web.yaml", "command: sleep 1000\n");
    world.wait_status("web", "running");
    let elsewhere = tempfile::tempdir().expect("a folder");
    for named in [world.dir(), world.path("web.yaml")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_plugd"))
            .arg("check")
            .arg(&named)
            .current_dir(elsewhere.path())
            .env_remove("PLUGD_DIR")
            .output()
            .expect("plugd can be started");
        let (said, told) = (crate::ask::out(&output), crate::ask::err(&output));
        assert!(said.contains("would start 0,") && said.contains("unchanged 1"), "{}: {said}", named.display());
        assert_eq!(told, "", "{}", named.display());
    }
}

/// An edit that is told to end while this editor has the copy, which it names in `copy`; what it said.
fn edit_told_to_end(world: &World, script: &str) -> String {
    let script = format!("echo \"$1\" > {0}/copy.new\n{script}\nmv {0}/copy.new {0}/copy\nexec sleep 1000\n", {
        world.root().display()
    });
    let mut editing = Command::new(env!("CARGO_BIN_EXE_plugd"))
        .arg("--dir")
        .arg(world.dir())
        .args(["edit", "web"])
        .env("PLUGD_STATE_DIR", world.state())
        .env_remove("VISUAL")
        .env("EDITOR", editor(world, &script))
        .env("TMPDIR", world.root().join("nowhere"))
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("plugd can be started");
    world.wait("the editor", |world| world.root().join("copy").exists());
    crate::world::kill(editing.id() as i32, 15);
    assert_eq!(crate::ask::code_of(&mut editing), Some(1));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut editing.stderr.take().expect("a pipe"), &mut told).expect("text");
    told
}

/// The copy that the last edit gave its editor.
fn copy_of_the_edit(world: &World) -> std::path::PathBuf {
    let named = std::fs::read_to_string(world.root().join("copy")).expect("named");
    std::fs::remove_file(world.root().join("copy")).expect("removed");
    named.trim().into()
}

#[test]
fn an_edit_that_is_told_to_end_leaves_a_copy_only_of_what_was_written() {
    let world = World::running();
    world.put("web.yaml", STAYS);
    world.wait_status("web", "running");
    let told = edit_told_to_end(&world, "");
    let copy = copy_of_the_edit(&world);
    assert!(copy.starts_with(world.path(".plugd")) && !copy.parent().expect("a folder").exists(), "{copy:?}");
    assert!(told.contains("was told to end") && !told.contains("kept"), "{told}");

    let told = edit_told_to_end(&world, "echo 'labels: {mine: \"yes\"}' >> \"$1\"");
    let kept = copy_of_the_edit(&world);
    assert!(told.contains(&format!("what you wrote is kept in {}", kept.display())), "{told}");
    assert!(std::fs::read_to_string(&kept).expect("kept").ends_with("labels: {mine: \"yes\"}\n"));

    // A week later it goes with the next edit; what is younger stays.
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let young = world.path(".plugd/plugd-edit-0000000000000000");
    std::fs::create_dir(&young).expect("made");
    for path in [kept.as_path(), kept.parent().expect("a folder")] {
        std::fs::File::open(path).expect("there").set_modified(old).expect("dated");
    }
    let done = edit_with(&world, "true", &world.root().join("nowhere"));
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(!kept.exists() && young.exists());
}

#[test]
fn a_file_of_several_services_that_never_was_valid_is_nobody_s_alone_either() {
    let world = World::running();
    let one = |name: &str, word: &str| {
        format!("apiVersion: plugd/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{word}: sleep 1000}}\n")
    };
    let cases = [
        ("bare.yaml", "name: one\ncommand: sleep 1001\n---\nname: two\ncommand: sleep 1002\n".to_string(), "one"),
        ("typo.yaml", format!("{}---\n{}", one("three", "command"), one("four", "comand")), "three"),
        ("torn.yaml", format!("{}---\nmetadata:\n  name: six\n  spec: [\n", one("five", "command")), "six"),
    ];
    for (file, text, name) in &cases {
        world.put(file, text);
        world.wait_status(name, "failed");
        let (_, told) = ends(&world, 1, &["rm", name]);
        assert!(told.contains(&format!("{file} declares ")) && told.contains(" too"), "{told}");
        assert!(world.path(file).exists());
    }
    let (_, told) = ends(&world, 1, &["add", "one", "--replace", "--", "sleep", "3"]);
    assert!(told.contains("bare.yaml declares two too"), "{told}");
    assert_eq!(std::fs::read_to_string(world.path("bare.yaml")).expect("there"), cases[0].1);
    // All of it may go, and so may one that nobody can read.
    world.put("alone.yaml", "command: [\n");
    world.wait_status("alone", "failed");
    ends(&world, 0, &["rm", "alone"]);
    assert!(!world.path("alone.yaml").exists());
}

#[test]
fn a_wrapper_of_a_single_file_is_looked_for_where_the_file_lies() {
    let world = World::running();
    let (home, away) = (world.dir(), world.root().join("away"));
    std::fs::create_dir_all(away.join("wrappers")).expect("made");
    world.put_script("web.sh", "#!/bin/sh\nexec sleep 1000\n");
    world.put("web.yaml", "wrapper: web.sh\n");
    world.wait_status("web", "running");
    for (file, wrapper) in [("a.yaml", "a.sh"), ("b.yaml", "b.sh"), ("c.yaml", "web.sh"), ("d.yaml", "no.sh")] {
        std::fs::write(away.join(file), format!("wrapper: {wrapper}\n")).expect("written");
    }
    for script in ["a.sh", "wrappers/b.sh"] {
        std::fs::copy(home.join("web.sh"), away.join(script)).expect("copied");
    }
    let check = |dir: &std::path::Path, file: &str| {
        let (said, told) = ends(&world, 0, &["check", &dir.join(file).display().to_string()]);
        said + &told
    };
    let said = check(&home, "web.yaml");
    assert!(!said.contains("warning") && said.contains("unchanged 1"), "{said}");
    // The last is in the directory of the node, where it would be put.
    for file in ["a.yaml", "b.yaml", "c.yaml"] {
        let said = check(&away, file);
        assert!(!said.contains("warning") && said.contains("would start 1"), "{said}");
    }
    let said = check(&away, "d.yaml");
    assert!(said.contains("skip") && said.contains("WrapperNotFound") && !said.contains("ProgramNotFound"), "{said}");
}

#[test]
fn a_second_file_of_its_name_is_told_when_the_first_is_removed() {
    let world = World::running();
    world.put("x.yaml", "command: sleep 1001\n");
    world.wait_status("x", "running");
    world.put("x.json", "{\"command\": \"sleep 1002\"}");
    world.wait("the conflict", |world| world.node_status().is_some_and(|text| text.contains("NameConflict")));
    let (_, told) = ends(&world, 1, &["rm", "x"]);
    assert!(told.contains("x.yaml is removed; x.json declares x too, and is the one that counts now"), "{told}");
    assert!(told.contains("`plugd rm x` removes x.json as well"), "{told}");
    ends(&world, 0, &["rm", "x"]);
    assert!(!world.path("x.json").exists());
}

#[test]
fn a_script_s_head_is_checked_as_such_in_a_directory_too() {
    let world = World::empty();
    world.put_script("job.sh", "#!/bin/sh\n# plugd: labls: {a: b}\nexec sleep 1000\n");
    for words in [vec!["check".to_string()], vec!["check".into(), world.path("job.sh").display().to_string()]] {
        let (said, _) = ends(&world, 5, &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains("job.sh:2:10") && said.contains("did you mean `labels`?"), "{said}");
        assert!(!said.contains("write `command:"), "{said}");
    }
}
