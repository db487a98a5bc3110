//! The asking side of the local socket, as the command line uses it.
//!
//! Each request is a connection of its own: on a unix socket that costs microseconds, and no state
//! is left behind when the controller is replaced. The peer is checked at each one.

mod frames;
mod stream;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::socket::{self, Allowed};
use super::wire::{Accepted, Place, Problem, Register, Registered, Removed, Scale, Signal};
use crate::controller::Order;
use crate::edge::directory;
use crate::edge::places::Silent;
use crate::model::name::Name;
use crate::model::view::Snapshot;
pub use stream::{Events, Follow, Watch};

/// An answer beyond this is no answer of plugd's: 10,000 services of 6 KiB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// The server gives up on the loop after 10 s and says so; a little later we stop waiting for it.
pub const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Speaks to one controller.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    allowed: Allowed,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No controller runs there, or not any more.
    #[error("no controller answers at {}", socket.display())]
    NotReachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// This user may not open the socket.
    #[error("{} may not be opened by this user", socket.display())]
    Forbidden {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What listens there is not plugd of anybody trusted.
    #[error("{} is held by uid {uid}, which is neither root, this user nor the owner of the directory", socket.display())]
    Untrusted { socket: PathBuf, uid: u32 },
    /// The controller understood and said no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The connection broke within an answer.
    #[error("the controller's answer broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what this version understands.
    #[error("the controller's answer to {path} is not understood")]
    NotUnderstood {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the controller has not answered {path} within {} s", ANSWER_WAIT.as_secs())]
    Late { path: String },
    /// The server dropped this stream, and why.
    #[error("the controller ended the stream: {0}")]
    Dropped(String),
}

pub type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// Checks that somebody trusted (root or this user) listens at `socket`.
    pub async fn connect(socket: &Path) -> Result<Client> {
        Self::connect_as(socket, Allowed::with_owner_of(None)).await
    }

    /// As [`Client::connect`]; the owner of the watched directory `dir` is trusted too.
    pub async fn connect_in(socket: &Path, dir: &Path) -> Result<Client> {
        Self::connect_as(socket, Allowed::with_owner_of(Some(dir))).await
    }

    async fn connect_as(socket: &Path, allowed: Allowed) -> Result<Client> {
        let client = Client { socket: socket.to_path_buf(), allowed };
        client.open().await?;
        Ok(client)
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`, its JSON body.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body =
            serde_json::to_vec(body).map_err(|source| ClientError::NotUnderstood { path: path.to_string(), source })?;
        self.ask(Method::POST, path, body.into()).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    pub async fn snapshot(&self) -> Result<Snapshot> {
        self.get("/v1/snapshot").await
    }

    /// Returns when the order is taken up; what comes of it shows in the status. With why it will not be
    /// remembered, where that is so.
    pub async fn order(&self, name: &Name, order: Order) -> Result<Option<String>> {
        let path = |verb: &str| format!("/v1/services/{name}/{verb}");
        let accepted: Accepted = match order {
            Order::Start => self.post(&path("start"), &()).await?,
            Order::Resume => self.post(&path("resume"), &()).await?,
            Order::Stop => self.post(&path("stop"), &()).await?,
            Order::Restart => self.post(&path("restart"), &()).await?,
            Order::Scale(replicas) => self.post(&path("scale"), &Scale { replicas }).await?,
        };
        Ok(accepted.warning)
    }

    /// `signal` is a name (`HUP`, `SIGHUP`) or a number; without an instance, every one gets it.
    pub async fn signal(&self, name: &Name, instance: Option<u32>, signal: &str) -> Result<()> {
        let body = Signal { signal: signal.to_string(), instance };
        let _: Accepted = self.post(&format!("/v1/services/{name}/signal"), &body).await?;
        Ok(())
    }

    /// Writes the manifest into the watched directory.
    pub async fn register(&self, register: &Register) -> Result<Registered> {
        self.post("/v1/services", register).await
    }

    /// Removes the manifest from the watched directory.
    pub async fn remove(&self, name: &Name) -> Result<Removed> {
        self.delete(&format!("/v1/services/{name}")).await
    }

    pub async fn rescan(&self) -> Result<()> {
        let _: Accepted = self.post("/v1/rescan", &()).await?;
        Ok(())
    }

    /// Lets go what a lost directory held.
    pub async fn confirm_missing(&self) -> Result<()> {
        let _: Accepted = self.post("/v1/confirm-missing", &()).await?;
        Ok(())
    }

    /// The whole state, then every change of it.
    pub async fn watch(&self) -> Result<Watch> {
        Ok(Watch::new(self.stream("/v1/watch").await?))
    }

    /// What is remembered of events, then every new one.
    pub async fn events(&self) -> Result<Events> {
        Ok(Events::new(self.stream("/v1/events").await?))
    }

    /// A body as it comes, for logs.
    pub async fn follow(&self, path: &str) -> Result<Follow> {
        Ok(Follow::new(self.stream(path).await?))
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            self.read(path, response).await
        };
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Late { path: path.to_string() }),
        }
    }

    async fn stream(&self, path: &str) -> Result<Incoming> {
        let response = match tokio::time::timeout(ANSWER_WAIT, self.send(Method::GET, path, Bytes::new())).await {
            Ok(response) => response?,
            Err(_) => return Err(ClientError::Late { path: path.to_string() }),
        };
        if response.status().is_success() { Ok(response.into_body()) } else { Err(refusal(response).await) }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str, response: Response<Incoming>) -> Result<T> {
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(ClientError::Broken)?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|source| ClientError::NotUnderstood { path: path.to_string(), source })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream = self.open().await?;
        let broken = |error: hyper::Error| ClientError::Broken(error.into());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the answer, or when its body is dropped.
        tokio::spawn(async move { connection.await.ok() });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "plugd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(error.into()))?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn open(&self) -> Result<tokio::net::UnixStream> {
        let socket = || self.socket.clone();
        let stream = socket::connect(&self.socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket: socket(), source },
            _ => ClientError::NotReachable { socket: socket(), source },
        })?;
        let peer = stream.peer_cred().map_err(|source| ClientError::NotReachable { socket: socket(), source })?;
        match self.allowed.contains(peer.uid()) {
            true => Ok(stream),
            false => Err(ClientError::Untrusted { socket: socket(), uid: peer.uid() }),
        }
    }
}

/// The directory of the node at `socket`, where that is known and is not `dir`. Blocks.
pub fn of_another(socket: &Path, dir: &Path) -> std::result::Result<Option<PathBuf>, Silent> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Ok(None) };
    let place: Result<Place> =
        runtime.block_on(async { Client::connect_in(socket, dir).await?.get("/v1/node?form=place").await });
    let place = match place {
        Ok(place) => place,
        Err(ClientError::Late { .. }) => return Err(Silent),
        Err(_) => return Ok(None),
    };
    let (here, there) = (directory::identity(dir), place.identity);
    Ok(there.zip(here).is_some_and(|(there, here)| there != here).then_some(place.directory))
}

/// What the server said no with; an answer that is not plugd's is told by its number.
async fn refusal(response: Response<Incoming>) -> ClientError {
    let status: StatusCode = response.status();
    let body = match Limited::new(response.into_body(), 64 * 1024).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return ClientError::Broken(error),
    };
    ClientError::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        error: "NotUnderstood".to_string(),
        status: status.as_u16(),
        message: format!("the controller answered {status}"),
        next: "look at the controller's own log".to_string(),
    }))
}
