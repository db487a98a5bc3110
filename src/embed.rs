//! plugd as a library: a node from inside another program.

#![expect(clippy::disallowed_methods, reason = "the embedding program asks for a process of ours")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::api::client::{self, Client, ClientError};
use crate::api::wire::Register;
use crate::edge::places::{self, FindError};
use crate::model::name::Name;
use crate::model::text::Report;
use crate::model::view::ServiceView;

/// How long a node may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(10);
/// How long services may take to stop: the default grace and as much again.
const STOP_MAX: Duration = Duration::from_secs(60);

/// A node that serves one directory: the one that runs already, or one that was started for this.
///
/// Everything goes the one way that every manifest goes: `register` writes a file into the directory,
/// so `ls` never lies.
///
/// ```no_run
/// # fn main() -> Result<(), plugd::embed::EmbedError> {
/// let node = plugd::Plugd::open("services.d")?;
/// node.register("web", "command: python3 -m http.server 8080\n")?;
/// println!("{}", node.status("web")?.status);
/// println!("{} % healthy", node.health()?.summary.percentage_healthy);
/// node.shutdown()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Plugd {
    socket: PathBuf,
    /// The node, where it was started by us.
    child: Option<Child>,
}

#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("start {} run", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("reach the controller of {}: it does not answer", .0.display())]
    Silent(PathBuf),
    #[error("ask the controller")]
    Ask(#[from] ClientError),
    #[error("make an event loop")]
    Loop(#[source] std::io::Error),
    #[error("register {0:?}")]
    Name(#[from] crate::model::name::InvalidName),
    #[error("end the node: it did not stop within 60 s")]
    Stuck,
}

impl Plugd {
    /// The node of `dir`: the one that runs, else `plugd run DIR` is started (the program that
    /// `PLUGD_BIN` names, else `plugd` of the PATH).
    pub fn open(dir: impl AsRef<Path>) -> Result<Plugd, EmbedError> {
        let dir = std::path::absolute(&dir).unwrap_or_else(|_| dir.as_ref().to_path_buf());
        if let Some(socket) = answering(&dir) {
            return Ok(Plugd { socket, child: None });
        }
        let program = std::env::var_os("PLUGD_BIN").map_or_else(|| PathBuf::from("plugd"), PathBuf::from);
        let mut child = Command::new(&program)
            .arg("run")
            .arg("--no-tee")
            .arg(&dir)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|source| EmbedError::Start { program, source })?;
        let until = Instant::now() + START_MAX;
        loop {
            if let Some(socket) = answering(&dir) {
                return Ok(Plugd { socket, child: Some(child) });
            }
            if Instant::now() > until || !matches!(child.try_wait(), Ok(None)) {
                return Err(EmbedError::Silent(dir));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Has the manifest of a service written into the directory, over the one that declares it now, else as
    /// `NAME.yaml`; returns when the file is there.
    pub fn register(&self, name: &str, manifest: &str) -> Result<(), EmbedError> {
        let name = Name::parse(name)?.to_string();
        let register = Register { name, manifest: manifest.into(), replace: true };
        self.ask(async |client| client.register(&register).await).map(|_| ())
    }

    /// What is known of a service now.
    pub fn status(&self, name: &str) -> Result<ServiceView, EmbedError> {
        let name = Name::parse(name)?;
        self.ask(async |client| client.get(&format!("/v1/services/{name}?form=view")).await)
    }

    /// The report over all services.
    pub fn health(&self) -> Result<Report, EmbedError> {
        self.ask(async |client| client.get("/v1/health").await)
    }

    /// Stops all services in order and ends the node, if it was started by [`Plugd::open`]; a node
    /// that ran before goes on.
    pub fn shutdown(mut self) -> Result<(), EmbedError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(EmbedError::Stuck)
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Result<T, EmbedError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(EmbedError::Loop)?;
        runtime.block_on(async {
            let client = Client::connect(&self.socket).await?;
            Ok(question(client).await?)
        })
    }
}

/// The socket of the directory's controller, if one listens.
fn answering(dir: &Path) -> Option<PathBuf> {
    let socket = match places::find(Some(dir), None, None, &places::Who::now(), &client::of_another) {
        Ok(found) => found.socket,
        Err(FindError::Silent { socket, .. }) => socket,
        Err(_) => return None,
    };
    places::connect(&socket).ok().map(|_| socket)
}
