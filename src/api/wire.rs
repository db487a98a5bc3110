//! The JSON bodies that server and client share, beside the views of `model/view.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::name::Name;
use crate::model::text::{ControllerInfo, Places, Report};
use crate::model::view::{Event, NodeView, ServiceView, Snapshot};

/// The answer of every list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    pub items: Vec<T>,
}

/// `GET /v1/health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    #[serde(flatten)]
    pub report: Report,
    pub services: Vec<Arc<ServiceView>>,
}

/// `GET /v1/node`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub directory: PathBuf,
    pub controller: ControllerInfo,
    pub places: Places,
    /// What `/readyz` answers.
    pub ready: bool,
    #[serde(flatten)]
    pub view: NodeView,
    #[serde(flatten)]
    pub report: Report,
}

/// `GET /v1/node?form=place`: which directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub directory: PathBuf,
    /// Device and inode of what is there now; absent where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<(u64, u64)>,
}

/// `POST /v1/services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Register {
    pub name: String,
    /// The text of the manifest, written as it stands.
    pub manifest: String,
    #[serde(default)]
    pub replace: bool,
}

/// What was written; the status names the same hash once the file is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub service: Name,
    pub file: String,
    /// First 16 hex digits.
    pub sha256: String,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub service: Name,
    pub file: String,
}

/// `POST /v1/services/{name}/scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub replicas: u32,
}

/// `POST /v1/services/{name}/signal`: a name (`HUP`, `SIGHUP`) or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    pub signal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
}

/// The last lines of a service, as its status may show them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    pub lines: Vec<String>,
    /// So many are not shown: they may hold a secret that was another one then.
    #[serde(default)]
    pub covered: usize,
}

/// Taken up; what comes of it shows in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub accepted: bool,
    /// What the person should know all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The body of every answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One CamelCase word.
    pub error: String,
    pub status: u16,
    pub message: String,
    /// What to do now.
    pub next: String,
}

/// One frame of `/v1/watch`. The name of the variant is the name of the SSE event.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The first frame, and again after the stream lagged: forget what was known before.
    Snapshot(Snapshot),
    Changed(Box<ServiceView>),
    Removed(Name),
    Node(NodeView),
}

/// One frame of `/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsEvent {
    /// What the controller remembers, oldest first: the first frame, and again after a lag.
    History(Vec<Event>),
    Happened(Event),
}
