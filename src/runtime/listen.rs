//! The TCP port of the API (`listen`): bound before the node is told, served once it is there.

use std::net::{SocketAddr, TcpListener};

use crate::api;
use crate::api::token::Token;
use crate::edge::places::Places;
use crate::model::reason::Reason;
use crate::model::view::FileProblem;

/// Bound, and nobody answers yet.
pub(super) struct Ear {
    pub at: SocketAddr,
    pub token: Token,
    listener: TcpListener,
}

impl Ear {
    /// None where none is wanted.
    pub(super) fn open(at: Option<SocketAddr>, places: &Places) -> Result<Option<Ear>, FileProblem> {
        let Some(at) = at else { return Ok(None) };
        let not = |reason, why: String| FileProblem {
            file: "listen".into(),
            reason,
            message: format!("the API does not listen on {at}: {why}"),
        };
        let dir = places.state.as_ref().or(places.run.as_ref());
        let dir =
            dir.ok_or_else(|| not(Reason::Error, "there is no place for its token; give a --state-dir".into()))?;
        let token = Token::of(dir)
            .map_err(|error| not(Reason::Error, format!("its token cannot be kept in {}: {error}", dir.display())))?;
        // With SO_REUSEADDR: what its predecessor served a moment ago is in nobody's way.
        let listener = TcpListener::bind(at).and_then(|bound| bound.set_nonblocking(true).map(|()| bound));
        match listener {
            Ok(listener) => Ok(Some(Ear { at, token, listener })),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let next = "free it or name another, and start plugd again";
                Err(not(Reason::AddressInUse, format!("another program has that port; {next}")))
            }
            Err(error) => Err(not(Reason::Error, error.to_string())),
        }
    }

    /// Within the loop's runtime.
    pub(super) fn serve(self, context: api::context::Context) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        tracing::info!("the API listens on http://{}; its token is in {}", self.at, self.token.file.display());
        tokio::task::spawn_local(api::server::serve_tcp(listener, context, self.token));
        Ok(())
    }
}
