//! Every answer that is no: a word, a sentence, and what to do next.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use serde::de::DeserializeOwned;

use super::context::OrderError;
use super::wire::Problem;
use crate::model::text::clip;

/// The largest body that is read: a manifest has at most 64 KiB, an argv at most a few more.
pub(super) const BODY_MAX: usize = 1024 * 1024;
/// The whole body, from the end of the header.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// What is repeated of a peer's own words, in bytes.
const ECHO_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct Refusal(Problem);

impl Refusal {
    pub(super) fn new(status: StatusCode, error: &str, message: impl Into<String>, next: impl Into<String>) -> Refusal {
        let (error, message, next) = (error.to_string(), message.into(), next.into());
        Refusal(Problem { error, status: status.as_u16(), message, next })
    }

    pub(super) fn bad_request(message: impl Into<String>, next: impl Into<String>) -> Refusal {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message, next)
    }

    pub(super) fn conflict(message: impl Into<String>, next: impl Into<String>) -> Refusal {
        Self::new(StatusCode::CONFLICT, "Conflict", message, next)
    }

    pub(super) fn no_such_service(name: &str) -> Refusal {
        let message = format!("no service is named {}", echo(name));
        Self::new(StatusCode::NOT_FOUND, "NoSuchService", message, "GET /v1/services (`plugd get`) lists them")
    }

    pub(super) fn no_such_route(path: &str) -> Refusal {
        let message = format!("there is nothing at {}", echo(path));
        Self::new(StatusCode::NOT_FOUND, "NoSuchRoute", message, "GET /v1/openapi.json lists what there is")
    }

    pub(super) fn unavailable(error: &str, message: impl Into<String>) -> Refusal {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, message, "try again in a second")
    }
}

/// The whole answer to somebody whom no connection could be made for.
pub(super) fn no_descriptor() -> String {
    let Refusal(problem) = Refusal::unavailable("NoDescriptors", "the controller has no file descriptor left");
    let body = serde_json::to_string(&problem).expect("plain words");
    let length = body.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A peer's words within our sentence: one line, visible, short.
pub(super) fn echo(text: &str) -> String {
    format!("`{}`", clip(text, ECHO_MAX))
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Refusal {
        let message = error.to_string();
        match error {
            OrderError::NoSuchService(name) => Refusal::no_such_service(&name),
            OrderError::NoSuchInstance(_) => Refusal::new(
                StatusCode::NOT_FOUND,
                "NoSuchInstance",
                message,
                "GET /v1/services/{name} lists its instances",
            ),
            OrderError::NotRunning(_) => Refusal::new(
                StatusCode::CONFLICT,
                "NotRunning",
                message,
                "`plugd status` says why, `plugd start` starts it",
            ),
            OrderError::Refused(_) => {
                Refusal::new(StatusCode::CONFLICT, "Refused", message, "`plugd status` shows what holds now")
            }
            OrderError::ShuttingDown => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ShuttingDown",
                message,
                "start it again with `plugd run`",
            ),
            OrderError::Failed(_) => Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Failed",
                message,
                "the controller's own output says more",
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [("content-type", "application/problem+json")], body).into_response()
    }
}

/// A JSON body of type `T`, bounded in size and time.
pub(super) struct Json<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = Limited::new(request.into_body(), BODY_MAX).collect();
        let body = match tokio::time::timeout(BODY_WAIT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() || too_long(error.as_ref()) => {
                let message = "the body is larger than 1 MiB";
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message, "send a smaller one"));
            }
            Ok(Err(error)) => {
                return Err(Refusal::bad_request(format!("the body broke off: {error}"), "send it again"));
            }
            Err(_) => {
                let message = "the body did not arrive within 10 s";
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "Late", message, "send it again"));
            }
        };
        serde_json::from_slice(&body).map(Json).map_err(|error| {
            let message = format!("the body is not understood: {}", clip(&error.to_string(), 2 * ECHO_MAX));
            Refusal::bad_request(message, "GET /v1/openapi.json shows its form")
        })
    }
}

fn too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}
