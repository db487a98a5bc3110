//! The local socket: HTTP/1.1, JSON and SSE. Floor 6.
//!
//! `server` answers on `plugd.sock` (and, where `listen` says so, on a TCP port to who knows the `token`),
//! `client` asks there; both speak the words of `wire`. The server owns no state: it prints what the loop
//! has put on its `board` and hands every wish to the loop as a [`Request`](context::Request). Names from a URL are looked up in the table, never joined to a path.

pub mod board;
pub mod client;
pub mod context;
mod guard;
mod history;
mod logs;
mod node;
mod object;
mod openapi;
mod patient;
mod pieces;
mod refusal;
mod register;
mod routes;
pub mod server;
mod services;
pub mod socket;
mod stream;
pub mod token;
pub mod wire;

pub use routes::{ROUTES, Role, Route};
