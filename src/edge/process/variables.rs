//! What a process finds in its environment: inherited, plugd's own, from files, and as written.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::environment::{Environment, read_env_file, read_small_of};
use super::identity::Identity;
use super::prepare::{Ground, Unpreparable, fault};
use super::progress::{Progress, Sight};
use crate::model::expand::{TOTAL_MAX, TooLong};
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::{EnvValue, InheritEnv, Process, Spec};

pub(super) fn variables(
    ground: &Ground,
    spec: &Spec,
    life: &LifeId,
    identity: Option<&Identity>,
    progress: &Progress,
) -> Result<Environment, Unpreparable> {
    let process = &spec.process;
    let mut environment = Environment::default();
    for (name, value) in ground.inherited.iter() {
        if inherits(process, name, identity.is_some_and(|identity| identity.uid != ground.uid)) {
            environment.set(name.clone(), value.clone());
        }
    }
    if let Some(identity) = identity.filter(|identity| identity.uid != ground.uid) {
        identity.env().into_iter().for_each(|(name, value)| environment.set(name.into(), value.into()));
    }
    environment.set("PLUGD_SERVICE".into(), spec.name.as_str().into());
    // With the life, the cookie by which a stray is recognised: always in the long form.
    environment.set("PLUGD_INSTANCE".into(), life.instance.to_string().into());
    environment.set("PLUGD_NODE".into(), ground.node.clone().into());
    environment.set("PLUGD_LIFE".into(), life.life.to_string().into());
    environment.set("MCP_SERVICE_NAME".into(), spec.name.as_str().into());
    if let Some(port) = instance_port(process, life.instance.index) {
        environment.set("PORT".into(), port.to_string().into());
        environment.set("MCP_SERVICE_PORT".into(), port.to_string().into());
        environment.name_for_expansion("instance.port", port.to_string());
    }
    environment.name_for_expansion("instance.index", life.instance.index.to_string());
    for file in &process.env_from {
        progress.at(Sight::EnvFile(file.file.clone()));
        match read_env_file(&file.file) {
            Ok(variables) => variables.into_iter().for_each(|(name, value)| environment.set(name, value)),
            Err(error) if file.optional && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(fault(
                    Reason::EnvFileNotFound,
                    format!("env file {} cannot be read: {error}", file.file.display()),
                ));
            }
        }
    }
    let mut room = TOTAL_MAX;
    for (name, value) in &process.env {
        let value: OsString = match value {
            EnvValue::Literal(text) if text.contains('\0') => {
                return Err(fault(Reason::Error, format!("the value of {name} holds a NUL byte; no environment can")));
            }
            EnvValue::Literal(text) => environment
                .expand(text)
                .map_err(|error| fault(Reason::Error, format!("the value of {name} cannot be used: {error}")))?
                .into(),
            EnvValue::File(path) => {
                progress.at(Sight::Secret(path.clone()));
                let (secret, exposed) = read_secret(path).map_err(|error| {
                    fault(
                        Reason::SecretNotFound,
                        format!("{name} is to come from {}, which cannot be used: {error}", path.display()),
                    )
                })?;
                environment.set_secret(name.into(), secret);
                if exposed {
                    let path = path.display();
                    environment.exposed =
                        Some(format!("every user may read {path}, of which {name} is made; `chmod o-r {path}`"));
                }
                continue;
            }
            EnvValue::FromEnv(source) => {
                let known = ground.inherited.iter().find(|(known, _)| known.as_bytes() == source.as_bytes());
                let (_, value) = known.ok_or_else(|| {
                    fault(
                        Reason::MissingVariable,
                        format!("{name} is to come from {source}, which is not in plugd's environment"),
                    )
                })?;
                environment.set_secret(name.into(), value.clone());
                continue;
            }
        };
        room = room
            .checked_sub(value.len())
            .ok_or_else(|| fault(Reason::Error, format!("the value of {name} cannot be used: {TooLong}")))?;
        environment.set(name.into(), value);
    }
    Ok(environment)
}

/// A short list for stdio MCP servers, as their own SDKs do it: what a program needs, no secrets.
const MCP_ENVIRONMENT: [&str; 8] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TMPDIR"];

fn inherits(process: &Process, name: &OsString, user_differs: bool) -> bool {
    let bytes = name.as_bytes();
    if user_differs && bytes.starts_with(b"LD_") {
        return false;
    }
    if process.stdio_mcp {
        return MCP_ENVIRONMENT.iter().any(|known| known.as_bytes() == bytes);
    }
    match &process.inherit_env {
        InheritEnv::All => true,
        InheritEnv::None => false,
        InheritEnv::Only(names) => names.iter().any(|known| known.as_bytes() == bytes),
    }
}

/// A secret is small: what is larger is a mistake, and would not fit an environment anyway.
const SECRET_MAX: u64 = 64 * 1024;

/// And whether every user may read it.
fn read_secret(path: &Path) -> std::io::Result<(OsString, bool)> {
    let (mut bytes, meta) = read_small_of(path, SECRET_MAX)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.contains(&0) {
        return Err(std::io::Error::other("it holds a NUL byte, which no environment can"));
    }
    let exposed = meta.mode() & 0o004 != 0 && everybody_comes_to(path);
    Ok((OsString::from_vec(bytes), exposed))
}

/// Whether each folder on the way lets others through; what a link leads to lies elsewhere.
fn everybody_comes_to(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().skip(1).all(|folder| folder.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_heeds_is_not_handed_to_another_user() {
        let process = crate::model::manifest::assumed_process();
        let inherited = |name: &str, user_differs| inherits(&process, &OsString::from(name), user_differs);
        assert!(inherited("LD_PRELOAD", false) && inherited("LANG", true));
        assert!(!inherited("LD_PRELOAD", true) && !inherited("LD_LIBRARY_PATH", true));
    }

    #[test]
    fn a_secret_that_cannot_be_passed_whole_is_none() {
        let temp = tempfile::tempdir().expect("a temp folder");
        let path = temp.path().join("secret");
        std::fs::write(&path, "s3cret\n").expect("written");
        assert_eq!(read_secret(&path).expect("read").0, "s3cret");
        std::fs::write(&path, "s3\0cret\n").expect("written");
        assert!(read_secret(&path).expect_err("refused").to_string().contains("NUL"));
    }

    #[test]
    fn a_secret_is_exposed_where_every_user_may_read_it_and_comes_to_it() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().expect("a temp folder");
        let path = temp.path().join("secret");
        std::fs::write(&path, "s3cret\n").expect("written");
        let exposed = |folder: u32, file: u32| {
            let chmod = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
            chmod(temp.path(), folder).and_then(|()| chmod(&path, file)).expect("chmod");
            read_secret(&path).expect("read").1
        };
        assert!(exposed(0o755, 0o644));
        assert!(!exposed(0o755, 0o640));
        assert!(!exposed(0o700, 0o644), "nobody else comes to it");
    }
}
