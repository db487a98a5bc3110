//! What the errno of a spawn means, in words.

use std::path::Path;

use super::prepare::{Unpreparable, fault};
use crate::keeper::Stage;
use crate::model::reason::Reason;

/// What was asked for, as it was when it was prepared.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub program: &'a Path,
    /// That of the program's `#!` line.
    pub interpreter: Option<&'a str>,
    pub working_dir: &'a Path,
    /// A manifest wrote it; else it is where plugd was started.
    pub dir_is_written: bool,
    /// None: plugd's own.
    pub user: Option<&'a str>,
}

pub const NICE_REFUSED: &str = "its nice is below plugd's own, which needs CAP_SYS_NICE; write a higher one";
pub const PORT_REFUSED: &str =
    "plugd may not listen on its port, which needs CAP_NET_BIND_SERVICE; write a port from 1024 on";
pub const OOM_SCORE_REFUSED: &str =
    "its oomScoreAdj is below plugd's own, which needs CAP_SYS_RESOURCE; write a higher one";

/// There was no room for a process, which is no fault of the one that was asked for.
pub fn is_want_of_room(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC)
}

pub fn explain_failure(asked: &Asked<'_>, stage: Stage, errno: i32) -> Unpreparable {
    let Asked { program, interpreter, .. } = *asked;
    let error = std::io::Error::from_raw_os_error(errno);
    let shown = program.display();
    match (stage, errno) {
        _ if is_want_of_room(errno) => {
            fault(Reason::ResourceExhausted, format!("no process can be made for {shown}: {error}"))
        }
        (Stage::Exec, libc::ENOENT) => match interpreter {
            Some(interpreter) => fault(
                Reason::BadInterpreter,
                format!("{shown} asks for the interpreter {interpreter}, which does not exist"),
            ),
            None => fault(Reason::ProgramNotFound, format!("there is no program {shown}")),
        },
        (Stage::Exec, libc::EACCES) => {
            fault(Reason::PermissionDenied, format!("{shown} may not be executed by its user: {error}"))
        }
        (Stage::Exec, libc::ENOEXEC) => fault(
            Reason::ExecFormat,
            format!("{shown} is neither a program of this machine nor a script that begins with #!"),
        ),
        (Stage::Exec, libc::ETXTBSY) => fault(Reason::Error, format!("{shown} is being written: {error}")),
        (Stage::Exec, _) => fault(Reason::Error, format!("{shown} cannot be executed: {error}")),
        (Stage::WorkingDir, _) => not_entered(asked.working_dir, asked.dir_is_written, asked.user, errno),
        (Stage::Groups | Stage::Gid | Stage::Uid, _) => {
            let user = asked.user.unwrap_or("its user");
            fault(
                Reason::PermissionDenied,
                format!("{user} cannot be taken on as its user: {error}; run plugd as root, or remove `user`"),
            )
        }
        (Stage::OomScore, libc::EACCES | libc::EPERM) => fault(Reason::PermissionDenied, OOM_SCORE_REFUSED),
        (Stage::Capabilities, libc::EPERM) => {
            fault(Reason::PermissionDenied, "its capabilities cannot be set: plugd does not have what is asked for")
        }
        (Stage::Nice, libc::EACCES | libc::EPERM) => fault(Reason::PermissionDenied, NICE_REFUSED),
        (
            Stage::Request
            | Stage::Pipe
            | Stage::Clone
            | Stage::Cgroup
            | Stage::Session
            | Stage::OomScore
            | Stage::Limits
            | Stage::Nice
            | Stage::NoNewPrivs
            | Stage::Capabilities
            | Stage::Descriptors,
            _,
        ) => fault(Reason::Error, format!("{shown} cannot be started (step {stage:?}): {error}")),
    }
}

/// Of a working directory, looked at from here or by the child itself.
pub fn not_entered(dir: &Path, is_written: bool, user: Option<&str>, errno: i32) -> Unpreparable {
    let error = std::io::Error::from_raw_os_error(errno);
    let dir = dir.display();
    let by = user.map(|user| format!(" by {user}")).unwrap_or_default();
    let remedy = match (is_written, errno) {
        (false, _) => "it is where plugd was started; write `workingDir: /`, or another that is open to it",
        (true, libc::EACCES) => "let its user enter it and all above it, or correct `workingDir`",
        (true, _) => "make it, or correct `workingDir`",
    };
    let reason = if errno == libc::EACCES { Reason::PermissionDenied } else { Reason::WorkingDirNotFound };
    fault(reason, format!("working directory {dir} cannot be entered{by}: {error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(user: Option<&'a str>, dir_is_written: bool) -> Asked<'a> {
        let (program, working_dir) = (Path::new("/bin/web"), Path::new("/root"));
        Asked { program, interpreter: None, working_dir, dir_is_written, user }
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_named_with_the_user_and_the_remedy() {
        let fault = explain_failure(&asked(Some("www-data"), false), Stage::WorkingDir, libc::EACCES);
        assert_eq!(fault.reason, Reason::PermissionDenied, "it is there");
        assert_eq!(
            fault.message,
            "working directory /root cannot be entered by www-data: Permission denied (os error 13); it is where plugd \
             was started; write `workingDir: /`, or another that is open to it"
        );
        let fault = explain_failure(&asked(None, true), Stage::WorkingDir, libc::ENOENT);
        assert_eq!(fault.reason, Reason::WorkingDirNotFound);
        assert!(fault.message.starts_with("working directory /root cannot be entered: "), "{}", fault.message);
        assert!(fault.message.ends_with("; make it, or correct `workingDir`"), "{}", fault.message);
    }

    #[test]
    fn a_user_that_cannot_be_taken_on_is_named() {
        let fault = explain_failure(&asked(Some("uid 1000"), false), Stage::Uid, libc::EPERM);
        assert!(fault.message.starts_with("uid 1000 cannot be taken on as its user: "), "{}", fault.message);
    }
}
