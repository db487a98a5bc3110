//! The TCP port of the API (`listen`), where `_plugd.yaml` has it now.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use tokio::task::AbortHandle;

use super::Node;
use crate::api;
use crate::api::token::Token;
use crate::controller::{Input, Rules};
use crate::edge::places::Places;
use crate::model::reason::Reason;
use crate::model::settings::Settings;
use crate::model::view::FileProblem;

pub(super) struct Listening {
    context: api::context::Context,
    /// Where its token is kept.
    dir: Option<PathBuf>,
    at: Option<SocketAddr>,
    /// Accepts connections, which are tasks of their own.
    task: Option<AbortHandle>,
    pub problem: Option<FileProblem>,
}

impl Listening {
    pub fn new(context: api::context::Context, places: &Places) -> Listening {
        let dir = places.state.clone().or_else(|| places.run.clone());
        Listening { context, dir, at: None, task: None, problem: None }
    }

    /// From now on there and nowhere else; the file of the token, where it listens.
    pub fn listen(&mut self, at: Option<SocketAddr>) -> Option<PathBuf> {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        (self.at, self.problem) = (at, None);
        match self.open(at?) {
            Ok(token) => Some(token),
            Err(problem) => {
                tracing::warn!("{}", problem.message);
                self.problem = Some(problem);
                None
            }
        }
    }

    fn open(&mut self, at: SocketAddr) -> Result<PathBuf, FileProblem> {
        let not = |reason, why: String| FileProblem {
            file: "listen".into(),
            reason,
            message: format!("the API does not listen on {at}: {why}"),
        };
        let dir = self.dir.as_ref();
        let dir =
            dir.ok_or_else(|| not(Reason::Error, "there is no place for its token; give a --state-dir".into()))?;
        let token = Token::of(dir)
            .map_err(|error| not(Reason::Error, format!("its token cannot be kept in {}: {error}", dir.display())))?;
        // With SO_REUSEADDR: what its predecessor served a moment ago is in nobody's way.
        let bound = TcpListener::bind(at).and_then(|bound| bound.set_nonblocking(true).map(|()| bound));
        let listener = match bound.and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let next = "free it and start plugd again, or name another";
                return Err(not(Reason::AddressInUse, format!("another program has that port; {next}")));
            }
            Err(error) => return Err(not(Reason::Error, error.to_string())),
        };
        let file = token.file.clone();
        tracing::info!("the API listens on http://{at}; its token is in {}", file.display());
        let served = tokio::task::spawn_local(api::server::serve_tcp(listener, self.context.clone(), token));
        self.task = Some(served.abort_handle());
        Ok(file)
    }
}

impl Node {
    /// The API listens there from now on, where it does not yet.
    pub(super) fn serve_at(&mut self, at: Option<SocketAddr>) {
        if let Some(listening) = self.listening.as_mut().filter(|listening| listening.at != at) {
            let token = listening.listen(at);
            self.publisher.listens(at.filter(|_| token.is_some()), token);
        }
    }

    /// The settings were edited: what can be is in force from now on, and of the rest it is told when it will be.
    pub(super) fn on_settings(&mut self, settings: Settings) {
        self.queue.push_back(Input::Rules(Rules::of(&settings)));
        self.serve_at(settings.listen);
        self.tell_own_problems(&settings);
        if let Some(directory) = &self.directory {
            directory.settings(settings);
        }
    }

    pub(super) fn tell_own_problems(&mut self, settings: &Settings) {
        let begun = &self.begun;
        let later: Vec<&str> = [
            ("tee", begun.tee != settings.tee),
            ("logsTotal", begun.logs_total != settings.logs_total),
            ("stateDir", begun.state_dir != settings.state_dir),
            ("logDir", begun.log_dir != settings.log_dir),
            ("runDir", begun.run_dir != settings.run_dir),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect();
        let waits = (!later.is_empty()).then(|| FileProblem {
            file: "_plugd.yaml".into(),
            reason: Reason::UpdateBlocked,
            message: format!("{} as it is now holds when plugd is started again", later.join(", ")),
        });
        let unheard = self.listening.as_ref().and_then(|listening| listening.problem.clone());
        let all = self.unlogged.clone().into_iter().chain(waits).chain(unheard);
        self.queue.push_back(Input::NodeProblems(all.collect()));
    }
}
