//! One check each: exec, httpGet, tcpSocket, grpc, mcp, and the passive kinds.
//!
//! A check is a future that ends with one [`Verdict`], within its
//! timeout whatever the other side does. When to check, and what a verdict means, is the brain's
//! to decide. Exec checks are run by the keeper; only their judgement is here. Log lines are seen
//! by the pump.

pub mod context;
mod diag;
mod eager;
mod exchange;
pub mod exec;
pub mod fd;
pub mod grpc;
pub mod http;
mod line;
pub mod listener;
pub mod mcp;
pub mod names;
pub mod neighbours;
pub mod notification;
pub mod notify;
pub mod past;
mod redirect;
pub mod sockets;
pub mod tcp;

use std::sync::Arc;

pub use context::{LifeContext, Place};
pub use past::Past;
pub use sockets::{Listener, Sockets};

use listener::Found;

use crate::controller::Verdict;
use crate::model::spec::{Check, Probe};

/// Who else holds the port that an instance was to have: `port 2525 is held by pid 977 (postfix)`.
pub async fn holder_of_port(ctx: Arc<LifeContext>, sockets: Arc<Sockets>) -> Option<String> {
    match listener::find(&ctx, &sockets, ctx.instance_port?).await {
        Found::Taken(message) => Some(message),
        Found::Open { .. } | Found::Closed => None,
    }
}

/// Run one check of a probe now. `None`: its kind is not checked from here (exec goes through the
/// keeper, the passive kinds speak by themselves), or its port is not known. (Those that speak a protocol are large: they
/// are not to be the size of all.)
pub async fn check(ctx: Arc<LifeContext>, sockets: Arc<Sockets>, probe: &Probe) -> Option<Verdict> {
    match &probe.check {
        Check::TcpSocket { host, port } => {
            let place = Place::of(host.as_deref(), port, &ctx)?;
            Some(tcp::tcp(ctx, sockets, place, probe.timeout).await)
        }
        Check::HttpGet { host, port, path, headers, https, expect_status, expect_body } => {
            let place = Place::of(host.as_deref(), port, &ctx)?;
            let get = http::Get {
                place,
                path: path.clone(),
                headers: headers.clone(),
                https: *https,
                expect_status: expect_status.clone(),
                expect_body: expect_body.clone(),
            };
            Some(Box::pin(http::http(ctx, sockets, get, probe.timeout)).await)
        }
        Check::Grpc { port, service } => {
            let place = Place::of(None, port, &ctx)?;
            Some(Box::pin(grpc::grpc(ctx, sockets, place, service, probe.timeout)).await)
        }
        Check::Mcp { port, path } => {
            let place = Place::of(None, port, &ctx)?;
            Some(Box::pin(mcp::mcp(ctx, sockets, place, path, probe.timeout)).await)
        }
        Check::Exec { .. } | Check::Notify | Check::Fd(_) | Check::LogLine(_) | Check::Later(_) => None,
    }
}
