//! What a preparation looks at in this moment: said before the look, read by whoever waits for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Something outside of plugd that may never answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    WorkingDir(PathBuf),
    Program(PathBuf),
    Interpreter(PathBuf),
    EnvFile(PathBuf),
    Secret(PathBuf),
    /// A name that is looked up; a directory service may stand behind it.
    User(String),
}

impl Sight {
    pub fn path(&self) -> Option<&Path> {
        match self {
            Sight::WorkingDir(path)
            | Sight::Program(path)
            | Sight::Interpreter(path)
            | Sight::EnvFile(path)
            | Sight::Secret(path) => Some(path),
            Sight::User(_) => None,
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sight::WorkingDir(path) => write!(f, "its working directory {}", path.display()),
            Sight::Program(path) => write!(f, "its program {}", path.display()),
            Sight::Interpreter(path) => write!(f, "its interpreter {}", path.display()),
            Sight::EnvFile(path) => write!(f, "its env file {}", path.display()),
            Sight::Secret(path) => write!(f, "the secret {}", path.display()),
            Sight::User(name) => write!(f, "the look-up of its user {name}"),
        }
    }
}

/// Shared by the thread that looks and the loop that wonders why it takes so long.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Option<Sight>>);

impl Progress {
    pub fn at(&self, sight: Sight) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sight);
    }

    pub fn sight(&self) -> Option<Sight> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
