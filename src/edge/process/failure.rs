//! What the errno of a spawn means, in words.

use std::path::Path;

use super::prepare::{Unpreparable, fault};
use crate::keeper::Stage;
use crate::model::reason::Reason;

/// `interpreter`: that of the program's `#!` line, as it was when it was prepared.
pub fn explain_failure(program: &Path, interpreter: Option<&str>, stage: Stage, errno: i32) -> Unpreparable {
    let error = std::io::Error::from_raw_os_error(errno);
    let shown = program.display();
    match (stage, errno) {
        (_, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC) => {
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
        (Stage::WorkingDir, _) => {
            fault(Reason::WorkingDirNotFound, format!("the working directory cannot be entered: {error}"))
        }
        (Stage::Groups | Stage::Gid | Stage::Uid, _) => {
            fault(Reason::PermissionDenied, format!("its user cannot be taken on: {error}; is plugd root?"))
        }
        (Stage::OomScore, libc::EACCES | libc::EPERM) => fault(
            Reason::PermissionDenied,
            "its oomScoreAdj is below plugd's own, which needs CAP_SYS_RESOURCE; write a higher one",
        ),
        (Stage::Capabilities, libc::EPERM) => {
            fault(Reason::PermissionDenied, "its capabilities cannot be set: plugd does not have what is asked for")
        }
        (Stage::Nice, libc::EACCES | libc::EPERM) => fault(
            Reason::PermissionDenied,
            "its nice is below plugd's own, which needs CAP_SYS_NICE; write a higher one",
        ),
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
