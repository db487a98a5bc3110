//! From a spec to what execve(2) takes: program, arguments, environment, user, directory.
//!
//! Everything that can be wrong before a process exists is found here, with its own reason, so that
//! an edit can be tried while the old process still runs. Nothing is started here.
//!
//! Each of these paths may lie on a file system that answers nothing, and a directory service may be
//! as silent: what is looked at is said before the look (`progress`), and the loop never does this
//! itself (`preparer`).

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroup::CgroupRoot;
use super::environment::Environment;
use super::failure::not_entered;
use super::identity::Identity;
use super::pin::Pin;
use super::privileges::{Granted, Own};
use super::program::{can_hang, find, interpreter};
use super::progress::{Progress, Sight};
use super::raw;
use super::variables::variables;
use crate::model::expand::{TOTAL_MAX, TooLong};
use crate::model::manifest::instance_port;
use crate::model::name::LifeId;
use crate::model::reason::Reason;
use crate::model::spec::{self, Program, Spec};
use crate::model::text::clip;

/// What is the same for all services of this node.
#[derive(Debug, Clone)]
pub struct Ground {
    /// plugd's own environment, less what is plugd's own business.
    pub inherited: Arc<Vec<(OsString, OsString)>>,
    /// The directory that plugd was started in.
    pub working_dir: PathBuf,
    pub uid: u32,
    /// Where the groups of lives are made.
    pub cgroups: Option<CgroupRoot>,
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
    /// None: plugd's own.
    pub capabilities: Option<Granted>,
    /// The program is a wrapper whose content is pinned.
    pub pin: Option<Pin>,
    /// The program or its directory lies on a filesystem that can hang: no vfork.
    pub may_hang: bool,
    /// The group in which it begins.
    pub cgroup: Option<OwnedFd>,
    /// Of its `#!` line.
    pub interpreter: Option<String>,
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
    progress: &Progress,
) -> Result<Prepared, Unpreparable> {
    let base = Base::of(ground, spec, life, progress)?;
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
    let mut room = TOTAL_MAX;
    for word in &mut argv[literal..] {
        *word = base.expanded(word, &mut room)?;
    }
    let mut prepared = base.finish(ground, argv, progress)?;
    if let Program::Wrapper(spec::Wrapper { sha256: Some(pinned), .. }) = &process.program {
        let path = PathBuf::from(OsStr::from_bytes(prepared.program.as_bytes()));
        progress.at(Sight::Program(path.clone()));
        prepared.pin = Some(Pin::take(&path, pinned)?);
    }
    // What is only tried is of no life.
    if let Some(root) = ground.cgroups.as_ref().filter(|_| life.life > 0) {
        let made = root.create(&life.instance);
        let made = made.inspect_err(|error| tracing::warn!(%life, %error, "no cgroup can be made"));
        prepared.cgroup = made.ok();
    }
    Ok(prepared)
}

/// A command that runs beside a life, in the same surroundings: an exec probe or a hook. Its number stands
/// beside the name of the life, so that what it leaves behind is found with that, and it is told from that.
pub fn helper(
    ground: &Ground,
    spec: &Spec,
    life: &LifeId,
    command: &[String],
    number: u64,
    progress: &Progress,
) -> Result<Prepared, Unpreparable> {
    let mut base = Base::of(ground, spec, life, progress)?;
    base.environment.set("PLUGD_HELPER".into(), number.to_string().into());
    let mut room = TOTAL_MAX;
    let argv = command.iter().map(|word| base.expanded(word, &mut room)).collect::<Result<_, _>>()?;
    base.finish(ground, argv, progress)
}

/// All but the program: user, directory, environment.
struct Base {
    environment: Environment,
    working_dir: PathBuf,
    identity: Option<Identity>,
    capabilities: Option<Granted>,
}

/// Whose rights a look is made with: of the user and the capabilities that the process will have, where plugd can
/// take them on.
pub(super) struct Eyes<'a> {
    user: Option<&'a Identity>,
    capabilities: Option<Granted>,
}

impl<'a> Eyes<'a> {
    fn of(ground: &Ground, user: Option<&'a Identity>, capabilities: Option<Granted>) -> Eyes<'a> {
        Eyes { user: user.filter(|_| ground.uid == 0), capabilities }
    }

    pub fn look<T>(&self, look: impl Fn() -> T) -> T {
        let granted = || match self.capabilities {
            Some(granted) => granted.in_force(&look),
            None => Ok(look()),
        };
        let seen = match self.user {
            Some(Identity { uid, gid, groups, .. }) => {
                raw::with_rights_of(*uid, *gid, Some(groups), granted).and_then(|seen| seen)
            }
            None => granted(),
        };
        // Where a sandbox refuses that, the exec itself tells.
        seen.unwrap_or_else(|_| look())
    }

    pub fn user(&self) -> Option<String> {
        self.user.map(ToString::to_string)
    }
}

impl Base {
    fn expanded(&self, word: &str, room: &mut usize) -> Result<String, Unpreparable> {
        let said = |error| fault(Reason::Error, format!("the argument {} cannot be used: {error}", clip(word, 60)));
        let expanded = self.environment.expand(word).map_err(said)?;
        *room = room.checked_sub(expanded.len()).ok_or(TooLong).map_err(said)?;
        Ok(expanded)
    }

    fn of(ground: &Ground, spec: &Spec, life: &LifeId, progress: &Progress) -> Result<Base, Unpreparable> {
        let process = &spec.process;
        let own = ground.uid.to_string();
        let identity = match (&process.user, &process.group) {
            (None, None) => None,
            (user, group) => {
                let user = user.as_deref().unwrap_or(&own);
                progress.at(Sight::User(user.to_string()));
                let found = Identity::resolve(user, group.as_deref());
                let found = found.map_err(|error| fault(Reason::UserNotFound, error.to_string()))?;
                Some(found).filter(|found| !is_already(found, ground.uid))
            }
        };
        let working_dir = process.working_dir.clone().unwrap_or_else(|| ground.working_dir.clone());
        progress.at(Sight::WorkingDir(working_dir.clone()));
        let uid = identity.as_ref().map_or(ground.uid, |identity| identity.uid);
        let grant = |wanted| Own::now().grant(wanted, uid == 0, uid != ground.uid);
        let capabilities = process.capabilities.as_ref().map(grant).transpose()?;
        let eyes = Eyes::of(ground, identity.as_ref(), capabilities);
        let inside = working_dir.join(".");
        let look = || working_dir.metadata().and_then(|meta| if meta.is_dir() { inside.metadata() } else { Ok(meta) });
        match eyes.look(look) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(fault(
                    Reason::WorkingDirNotFound,
                    format!("working directory {} is not a directory", working_dir.display()),
                ));
            }
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                let user = eyes.user();
                return Err(not_entered(&working_dir, process.working_dir.is_some(), user.as_deref(), libc::EACCES));
            }
            Err(error) => {
                return Err(fault(
                    Reason::WorkingDirNotFound,
                    format!("working directory {} cannot be used: {error}", working_dir.display()),
                ));
            }
        }
        let environment = variables(ground, spec, life, identity.as_ref(), progress)?;
        Ok(Base { environment, working_dir, identity, capabilities })
    }

    fn finish(self, ground: &Ground, argv: Vec<String>, progress: &Progress) -> Result<Prepared, Unpreparable> {
        let first = argv.first().filter(|word| !word.is_empty());
        let Some(first) = first else {
            return Err(fault(Reason::ProgramNotFound, "the command is empty"));
        };
        let eyes = Eyes::of(ground, self.identity.as_ref(), self.capabilities);
        let path = find(first, &self.environment, &self.working_dir, &eyes, progress)
            .map_err(|error| fault(error.reason, self.environment.without_secrets(&error.message)))?;
        let interpreter = interpreter(&path);
        let mut may_hang = [&path, &self.working_dir].into_iter().any(|path| can_hang(path));
        if let Some(interpreter) = &interpreter {
            progress.at(Sight::Interpreter(interpreter.into()));
            may_hang = may_hang || can_hang(Path::new(interpreter));
        }
        let argv = argv.iter().map(|word| c_string(word.as_bytes(), "an argument")).collect::<Result<_, _>>()?;
        Ok(Prepared {
            program: c_string(path.as_os_str().as_bytes(), "the program's path")?,
            argv,
            environment: self.environment,
            working_dir: self.working_dir,
            identity: self.identity,
            capabilities: self.capabilities,
            pin: None,
            cgroup: None,
            may_hang,
            interpreter,
        })
    }
}

/// An ordinary user may not even set what it has already; with it come the groups that plugd has.
fn is_already(wanted: &Identity, uid: u32) -> bool {
    uid != 0 && wanted.uid == uid && wanted.gid == rustix::process::getegid().as_raw()
}

pub fn c_string(bytes: &[u8], what: &str) -> Result<CString, Unpreparable> {
    CString::new(bytes).map_err(|_| fault(Reason::Error, format!("{what} holds a NUL byte")))
}
