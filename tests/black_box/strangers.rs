//! Other users of the machine, and what they are not given.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::world::{World, command};

/// Nobody has this uid.
const UID: u32 = 54_322;

#[test]
fn a_stranger_at_an_open_socket_is_not_answered() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can act as another user
    }
    let mut world = World::running();
    let socket = world.state().join("run/plugd.sock");
    // Somebody has opened all doors before it: who asks is looked at, not only the mode.
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("opened");
    };
    open(&socket, 0o666);
    for folder in socket.ancestors().skip(1).take_while(|folder| folder.starts_with(world.root())) {
        open(folder, 0o755);
    }
    let ask = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
               s.sendall(b'GET /livez HTTP/1.1\\r\\nHost: plugd\\r\\nConnection: close\\r\\n\\r\\n')\n\
               print(s.recv(12))";
    let said = |uid: u32| {
        let output = command("python3").args(["-c", ask]).arg(&socket).uid(uid).gid(uid).output().expect("python3");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(said(0).contains("200"), "{}", world.log());
    let stranger = said(UID);
    assert!(!stranger.contains("HTTP"), "{stranger}");
    assert!(world.stop().success());
}
