//! From a spec to what execve(2) takes: program, arguments, environment, user, directory.
//!
//! Everything that can be wrong before a process exists is found here, with its own reason, so that
//! an edit can be tried while the old process still runs. Nothing is started here.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access, statfs};

use super::environment::{Environment, read_env_file, read_small};
use super::identity::Identity;
use crate::keeper::Stage;
use crate::model::expand::expand;
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::{EnvValue, InheritEnv, Process, Program, Spec};

/// What is the same for all services of this node.
#[derive(Debug, Clone)]
pub struct Ground {
    /// plugd's own environment, less what is plugd's own business.
    pub inherited: Arc<Vec<(OsString, OsString)>>,
    /// The directory that plugd was started in.
    pub working_dir: PathBuf,
    pub uid: u32,
    /// Which node a process belongs to: `PLUGD_NODE`, by which strays of a killed keeper are found.
    pub node: String,
}

/// A process that can be spawned.
#[derive(Debug)]
pub struct Prepared {
    pub program: CString,
    pub argv: Vec<CString>,
    pub environment: Environment,
    pub working_dir: PathBuf,
    /// None: plugd's own user.
    pub identity: Option<Identity>,
    /// The program or its directory lies on a filesystem that can hang: no vfork.
    pub may_hang: bool,
}

/// Why a process cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unpreparable {
    pub reason: Reason,
    pub message: String,
}

pub fn fault(reason: Reason, message: impl Into<String>) -> Unpreparable {
    Unpreparable { reason, message: message.into() }
}

/// The main process of a life.
pub fn main_process(
    ground: &Ground,
    spec: &Spec,
    life: &LifeId,
    wrapper: Option<&Path>,
) -> Result<Prepared, Unpreparable> {
    let base = Base::of(ground, spec, life)?;
    let process = &spec.process;
    let mut argv: Vec<String> = match &process.program {
        Program::Command(command) => command.clone(),
        Program::Wrapper(written) => {
            let path = wrapper.unwrap_or(&written.path);
            let mut argv = vec![path.to_string_lossy().into_owned()];
            if let (true, Some(port)) = (written.port_arg, instance_port(process, life.instance.index)) {
                argv.extend(["--port".to_string(), port.to_string()]);
            }
            argv
        }
        Program::Script(text) => {
            vec!["sh".into(), "-euc".into(), text.clone(), spec.name.to_string()]
        }
        Program::External(address) => {
            return Err(fault(Reason::NotYetSupported, format!("{address} is not run by plugd")));
        }
    };
    let literal = match &process.program {
        // A script is handed untouched to sh, whose own syntax `$(…)` is.
        Program::Script(_) => argv.len(),
        // A path is a path.
        Program::Wrapper(_) => 1,
        Program::Command(_) | Program::External(_) => 0,
    };
    argv.extend(process.args.iter().cloned());
    for word in &mut argv[literal..] {
        *word = base.environment.expand(word);
    }
    base.finish(argv)
}

/// A command that runs beside a life, in the same surroundings: an exec probe or a hook. `life` is
/// its own: with the number of the life that it runs beside it would be taken for a part of that.
pub fn helper(ground: &Ground, spec: &Spec, life: &LifeId, command: &[String]) -> Result<Prepared, Unpreparable> {
    let base = Base::of(ground, spec, life)?;
    let argv = command.iter().map(|word| base.environment.expand(word)).collect();
    base.finish(argv)
}

/// All but the program: user, directory, environment.
struct Base {
    environment: Environment,
    working_dir: PathBuf,
    identity: Option<Identity>,
}

impl Base {
    fn of(ground: &Ground, spec: &Spec, life: &LifeId) -> Result<Base, Unpreparable> {
        let process = &spec.process;
        let own = ground.uid.to_string();
        let identity = match (&process.user, &process.group) {
            (None, None) => None,
            (user, group) => Some(
                Identity::resolve(user.as_deref().unwrap_or(&own), group.as_deref())
                    .map_err(|error| fault(Reason::UserNotFound, error.to_string()))?,
            ),
        };
        let working_dir = process.working_dir.clone().unwrap_or_else(|| ground.working_dir.clone());
        match working_dir.metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(fault(
                    Reason::WorkingDirNotFound,
                    format!("working directory {} is not a directory", working_dir.display()),
                ));
            }
            Err(error) => {
                return Err(fault(
                    Reason::WorkingDirNotFound,
                    format!("working directory {} cannot be used: {error}", working_dir.display()),
                ));
            }
        }
        let environment = environment(ground, spec, life, identity.as_ref())?;
        Ok(Base { environment, working_dir, identity })
    }

    fn finish(self, argv: Vec<String>) -> Result<Prepared, Unpreparable> {
        let first = argv.first().filter(|word| !word.is_empty());
        let Some(first) = first else {
            return Err(fault(Reason::ProgramNotFound, "the command is empty"));
        };
        let path = find_program(first, &self.environment, &self.working_dir)?;
        let may_hang = [&path, &self.working_dir].into_iter().any(|path| can_hang(path))
            || interpreter(&path).is_some_and(|interpreter| can_hang(Path::new(&interpreter)));
        let argv = argv.iter().map(|word| c_string(word.as_bytes(), "an argument")).collect::<Result<_, _>>()?;
        Ok(Prepared {
            program: c_string(path.as_os_str().as_bytes(), "the program's path")?,
            argv,
            environment: self.environment,
            working_dir: self.working_dir,
            identity: self.identity,
            may_hang,
        })
    }
}

pub fn c_string(bytes: &[u8], what: &str) -> Result<CString, Unpreparable> {
    CString::new(bytes).map_err(|_| fault(Reason::Error, format!("{what} holds a NUL byte")))
}

fn environment(
    ground: &Ground,
    spec: &Spec,
    life: &LifeId,
    identity: Option<&Identity>,
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
    for (name, value) in &process.env {
        let value: OsString = match value {
            EnvValue::Literal(text) => expand(text, |name| environment.lookup(name)).into(),
            EnvValue::File(path) => read_secret(path).map_err(|error| {
                fault(
                    Reason::SecretNotFound,
                    format!("{name} is to come from {}, which cannot be read: {error}", path.display()),
                )
            })?,
            EnvValue::FromEnv(source) => ground
                .inherited
                .iter()
                .find(|(known, _)| known.as_bytes() == source.as_bytes())
                .map(|(_, value)| value.clone())
                .ok_or_else(|| {
                    fault(
                        Reason::MissingVariable,
                        format!("{name} is to come from {source}, which is not in plugd's environment"),
                    )
                })?,
        };
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

fn read_secret(path: &Path) -> std::io::Result<OsString> {
    let mut bytes = read_small(path, SECRET_MAX)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(OsString::from_vec(bytes))
}

/// As execvp(3) looks, but in the service's own PATH and from its own directory.
fn find_program(first: &str, environment: &Environment, working_dir: &Path) -> Result<PathBuf, Unpreparable> {
    if first.contains('/') {
        let path = working_dir.join(first);
        return executable(&path).map(|()| path);
    }
    let search = environment.get("PATH").map(|path| path.to_os_string()).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for directory in std::env::split_paths(&search) {
        let path = working_dir.join(directory).join(first);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.reason == Reason::NotExecutable => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let tried = search.to_string_lossy().replace(':', ", ");
        fault(Reason::ProgramNotFound, format!("no program {first:?} in the service's PATH ({tried})"))
    }))
}

/// What execvp(3) uses where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

fn executable(path: &Path) -> Result<(), Unpreparable> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => {
            Err(fault(Reason::NotExecutable, format!("{} is a directory, not a program", path.display())))
        }
        Ok(_) => access(path, Access::EXEC_OK).map_err(|_| {
            let path = path.display();
            fault(Reason::NotExecutable, format!("{path} is not executable; `chmod +x {path}` makes it so"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(fault(Reason::PermissionDenied, format!("{} cannot be reached: {error}", path.display())))
        }
        Err(_) => Err(fault(Reason::ProgramNotFound, format!("there is no program {}", path.display()))),
    }
}

/// It lies on a filesystem whose server may never answer.
fn can_hang(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| crate::edge::is_remote(fs.f_type))
}

/// What the errno of a spawn means, in words.
pub fn explain_failure(program: &Path, stage: Stage, errno: i32) -> Unpreparable {
    let error = std::io::Error::from_raw_os_error(errno);
    let shown = program.display();
    match (stage, errno) {
        (_, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC) => {
            fault(Reason::ResourceExhausted, format!("no process can be made for {shown}: {error}"))
        }
        (Stage::Exec, libc::ENOENT) => match interpreter(program) {
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
            | Stage::Descriptors,
            _,
        ) => fault(Reason::Error, format!("{shown} cannot be started (step {stage:?}): {error}")),
    }
}

/// The interpreter that a `#!` line names, if there is one.
fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    // BINPRM_BUF_SIZE: the kernel looks no further either.
    std::fs::File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_string)
}
