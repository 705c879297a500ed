//! What only the leader does, asked for on any node: proposals, read indices, changes of membership.
//!
//! A node that leads does it, another relays the question to the leader over the same network as
//! the engine, and one that knows no leader waits for one. What was certainly not done is tried
//! again until a deadline; what may have been done, only if doing it twice does no harm.

use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::{COMMAND_BYTES_MAX, Member, NodeId, ProposeError};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::time::Instant;

use crate::consensus::{Consensus, not_leader};
use crate::rpc::{Request, Response};
use crate::types::Command;

/// Between two tries, at first and at most; a new leader ends the pause.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How often something may be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Not again once it may have been done.
    Never,
    /// As often as it takes.
    Safe,
}

impl Consensus {
    /// Has `command` committed and applied, and returns the leader's answer to it once this node
    /// has applied it too. Works on any node, and waits for a leader up to the configured time.
    ///
    /// The command takes effect at most once: where leadership is lost under way the outcome is
    /// [`ProposeError::Unknown`]. Dropping the future does not take the proposal back.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ProposeError> {
        self.propose_as(command, Again::Never).await
    }

    /// As [`Consensus::propose`], for a command whose second application changes nothing more: it
    /// is proposed again where nobody can tell whether it has taken effect. The answer is that to
    /// the last time.
    pub async fn propose_idempotent(&self, command: Bytes) -> Result<Bytes, ProposeError> {
        self.propose_as(command, Again::Safe).await
    }

    /// As [`Consensus::propose`], but only while this node leads, and once: for what follows from what
    /// this node sees, which another leader may see otherwise.
    pub async fn propose_here(&self, command: Bytes) -> Result<Bytes, ProposeError> {
        let deadline = Instant::now() + self.inner.options.propose_timeout;
        let request = Request::Propose(command);
        match tokio::time::timeout_at(deadline, self.lead(&request)).await {
            Ok(Ok(Response::Proposed { index, answer })) => {
                self.has_applied(index, deadline).await?;
                Ok(answer)
            }
            Ok(Ok(Response::NotLeader(leader))) => Err(ProposeError::NotLeader {
                leader: leader.map(Member::from),
            }),
            Ok(Ok(Response::Unknown)) | Err(_) => Err(ProposeError::Unknown),
            Ok(Ok(other)) => Err(confused(&other)),
            Ok(Err(error)) => Err(error),
        }
    }

    async fn propose_as(&self, command: Bytes, again: Again) -> Result<Bytes, ProposeError> {
        let size = command.len();
        if size > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { size });
        }
        let deadline = Instant::now() + self.inner.options.propose_timeout;
        let request = Request::Propose(command);
        match self.by_leader(&request, again, deadline).await? {
            Response::Proposed { index, answer } => {
                self.has_applied(index, deadline).await?;
                Ok(answer)
            }
            other => Err(confused(&other)),
        }
    }

    /// Returns once the state machine of this node has seen every command that was answered
    /// anywhere before the call: a read of the state after it is linearizable. Works on any node.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + self.inner.options.propose_timeout;
        match self
            .by_leader(&Request::ReadIndex, Again::Safe, deadline)
            .await?
        {
            Response::ReadIndex(index) => self.has_applied(index, deadline).await,
            other => Err(confused(&other)),
        }
    }

    /// Waits until this node's state machine has applied entry `index`.
    async fn has_applied(&self, index: u64, deadline: Instant) -> Result<(), ProposeError> {
        let mut applied = self.inner.applied.clone();
        if *applied.borrow() >= index {
            return Ok(());
        }
        let reached = applied.wait_for(|&applied| applied >= index);
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.stop_reason().unwrap_or(ProposeError::Unknown)),
            Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Has whoever leads do what `request` says, and returns the outcome: neither "not leader" nor,
    /// where it is safe to ask again, "unknown".
    pub(crate) async fn by_leader(
        &self,
        request: &Request,
        again: Again,
        deadline: Instant,
    ) -> Result<Response, ProposeError> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut hint = None;
        let mut certain = true;
        loop {
            let mut leader_changes = self.inner.leader.subscribe();
            leader_changes.mark_unchanged();
            let leader = hint.take().or_else(|| self.known_leader());
            if let Some(leader) = leader {
                let attempt = self.ask_leader(&leader, request, again);
                match tokio::time::timeout_at(deadline, attempt).await {
                    Ok(Ok(Response::NotLeader(named))) => {
                        hint = named
                            .map(Member::from)
                            .filter(|named| named.id != leader.id);
                    }
                    Ok(Ok(Response::Unknown)) => {
                        if again == Again::Never {
                            return Err(ProposeError::Unknown);
                        }
                        certain = false;
                    }
                    Ok(outcome) => return outcome,
                    Err(_) => return Err(ProposeError::Unknown),
                }
            } else if let Some(stopped) = self.stop_reason() {
                return Err(stopped);
            }
            if Instant::now() + pause >= deadline {
                let waited = started.elapsed();
                return Err(if certain {
                    ProposeError::NoLeader { waited }
                } else {
                    ProposeError::Unknown
                });
            }
            tokio::select! {
                changed = leader_changes.changed() => if changed.is_ok() { hint = None },
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn ask_leader(
        &self,
        leader: &Member,
        request: &Request,
        again: Again,
    ) -> Result<Response, ProposeError> {
        if leader.id == self.inner.node {
            return self.lead(request).await;
        }
        if !self.inner.links.reach(leader) {
            return Ok(Response::NotLeader(None));
        }
        tokio::select! {
            reply = self.inner.links.ask(leader, request) => Ok(reply.unwrap_or_else(|error| {
                tracing::debug!(peer = %leader.address, %error, "the leader did not reply");
                Response::Unknown
            })),
            () = self.deposed(leader.id) => {
                if again == Again::Never {
                    // Its reply may still be on the way, and nothing else can tell.
                    tokio::time::sleep(self.inner.options.election_timeout).await;
                }
                Ok(Response::Unknown)
            }
        }
    }

    /// Waits until this node takes another for the leader, or none.
    async fn deposed(&self, leader: NodeId) {
        let mut changes = self.inner.leader.subscribe();
        changes.mark_unchanged();
        loop {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            if *changes.borrow_and_update() != Some(leader) {
                return;
            }
        }
    }

    /// Does what `request` asks of the leader, if this node leads. An error is the end of this log.
    pub(crate) async fn lead(&self, request: &Request) -> Result<Response, ProposeError> {
        match request {
            Request::Propose(command) => self.write(command.clone()).await,
            Request::ReadIndex => self.read_index().await,
            Request::Arrange(seats) => {
                let seats: Vec<_> = seats.iter().cloned().map(Into::into).collect();
                self.arrange_here(&seats, None).await
            }
            Request::Append { .. }
            | Request::Vote(_)
            | Request::PreVote(_)
            | Request::Snapshot { .. }
            | Request::Transfer { .. } => Ok(Response::Refused("nobody relays this".to_owned())),
        }
    }

    async fn write(&self, command: Bytes) -> Result<Response, ProposeError> {
        let written = match self.inner.raft.client_write(Command(command)).await {
            Ok(written) => written,
            Err(error) => {
                return match self.write_error(error) {
                    Ok(error) => as_response(error),
                    Err(error) => Err(ProposeError::Stopped {
                        reason: error.to_string(),
                    }),
                };
            }
        };
        if !self.inner.synchronous.holds(&written.log_id).await {
            return Ok(Response::Unknown);
        }
        Ok(Response::Proposed {
            index: written.log_id.index,
            answer: written.data.0,
        })
    }

    async fn read_index(&self) -> Result<Response, ProposeError> {
        let read = self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        match read {
            Ok((upto, _)) => Ok(Response::ReadIndex(upto.log_id().index)),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                as_response(not_leader(to))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Ok(Response::NotLeader(None))
            }
            Err(RaftError::Fatal(fatal)) => Err(self.stopped_by(&fatal)),
        }
    }

    /// Answers a question another node has relayed.
    pub(crate) async fn lead_for_peer(&self, request: &Request) -> Result<Response, String> {
        let (limit, late) = match request {
            Request::Arrange(_) => (self.inner.options.arrange_timeout, Response::Unknown),
            Request::ReadIndex => (
                self.inner.options.propose_timeout,
                Response::NotLeader(None),
            ),
            _ => (self.inner.options.propose_timeout, Response::Unknown),
        };
        match tokio::time::timeout(limit, self.lead(request)).await {
            Ok(Ok(response)) => Ok(response),
            // What was under way when this node stopped may be done by others.
            Ok(Err(_)) => Ok(Response::Unknown),
            Err(_) => Ok(late),
        }
    }

    /// Who leads as far as this node knows.
    pub(crate) fn known_leader(&self) -> Option<Member> {
        let server = self.inner.raft.server_metrics();
        let server = server.borrow_watched();
        let id = server.current_leader?;
        let peer = server.membership_config.membership().get_node(&id)?;
        Some(peer.to_member(id))
    }

    /// Why this log has stopped, if it has.
    fn stop_reason(&self) -> Option<ProposeError> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let fatal = metrics.running_state.as_ref().err()?;
        Some(self.stopped_by(fatal))
    }
}

/// The outcome of a write as a peer is told it.
pub(crate) fn as_response(error: ProposeError) -> Result<Response, ProposeError> {
    match error {
        ProposeError::NotLeader { leader } => Ok(Response::NotLeader(leader.map(Into::into))),
        ProposeError::Unknown => Ok(Response::Unknown),
        stopped @ (ProposeError::Stopped { .. }
        | ProposeError::TooLarge { .. }
        | ProposeError::NoLeader { .. }) => Err(stopped),
    }
}

/// A peer that answers another question is taken as one that has not answered.
pub(crate) fn confused(response: &Response) -> ProposeError {
    tracing::warn!(
        ?response,
        "a peer answered another question about the metadata log"
    );
    ProposeError::Unknown
}
