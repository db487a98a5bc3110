//! Streams that end only when the controller or the reader does.

use hyper::body::{Bytes, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::frames::{Frame, Frames, chunk};
use super::{ClientError, Result};
use crate::api::wire::{EventsEvent, List, WatchEvent};
use crate::model::name::Name;

/// `/v1/watch`. Dropping it ends the connection.
#[derive(Debug)]
pub struct Watch(Frames);

/// `/v1/events`. Dropping it ends the connection.
#[derive(Debug)]
pub struct Events(Frames);

/// A body as it comes.
#[derive(Debug)]
pub struct Follow(Incoming);

#[derive(Deserialize)]
struct Service {
    service: Name,
}

#[derive(Deserialize)]
struct Notice {
    message: String,
}

impl Watch {
    pub(super) fn new(body: Incoming) -> Watch {
        Watch(Frames::new(body))
    }

    /// The next change; none when the controller ended. Safe to cancel. A stream that lagged goes
    /// on with a fresh [`WatchEvent::Snapshot`].
    pub async fn next(&mut self) -> Result<Option<WatchEvent>> {
        while let Some(frame) = self.0.next().await? {
            return Ok(Some(match frame.event.as_str() {
                "snapshot" => WatchEvent::Snapshot(parse(&frame, "/v1/watch")?),
                "changed" => WatchEvent::Changed(parse(&frame, "/v1/watch")?),
                "removed" => WatchEvent::Removed(parse::<Service>(&frame, "/v1/watch")?.service),
                "node" => WatchEvent::Node(parse(&frame, "/v1/watch")?),
                "dropped" => return Err(dropped(&frame)),
                // `lagged`, and what later versions may add.
                _ => continue,
            }));
        }
        Ok(None)
    }
}

impl Events {
    pub(super) fn new(body: Incoming) -> Events {
        Events(Frames::new(body))
    }

    /// The next event; none when the controller ended. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<EventsEvent>> {
        while let Some(frame) = self.0.next().await? {
            return Ok(Some(match frame.event.as_str() {
                "snapshot" => EventsEvent::History(parse::<List<_>>(&frame, "/v1/events")?.items),
                "event" => EventsEvent::Happened(parse(&frame, "/v1/events")?),
                "dropped" => return Err(dropped(&frame)),
                _ => continue,
            }));
        }
        Ok(None)
    }
}

impl Follow {
    pub(super) fn new(body: Incoming) -> Follow {
        Follow(body)
    }

    /// The next bytes; none at the end. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        chunk(&mut self.0).await
    }
}

fn parse<T: DeserializeOwned>(frame: &Frame, path: &str) -> Result<T> {
    serde_json::from_str(&frame.data).map_err(|source| ClientError::NotUnderstood { path: path.to_string(), source })
}

fn dropped(frame: &Frame) -> ClientError {
    ClientError::Dropped(parse::<Notice>(frame, "").map_or_else(|_| "no reason given".to_string(), |said| said.message))
}
