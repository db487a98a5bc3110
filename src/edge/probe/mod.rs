//! One check each: exec, httpGet, tcpSocket, and the passive kinds.
//!
//! A check is a future that ends with one [`Verdict`](crate::controller::Verdict), within its
//! timeout whatever the other side does. When to check, and what a verdict means, is the brain's
//! to decide. Exec checks are run by the keeper; only their judgement is here. Log lines are seen
//! by the pump.

pub mod context;
mod diag;
pub mod exec;
pub mod fd;
pub mod http;
pub mod listener;
pub mod notification;
pub mod notify;
pub mod sockets;
pub mod tcp;

pub use context::{LifeContext, Place};
pub use sockets::{Listener, Sockets};
