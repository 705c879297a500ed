//! The handle the rest of the node holds on the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cluster::metadata_log::{Answer, Member, MetadataLog, NodeId, ProposeError, Status};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, RaftError};
use openraft::{ChangeMembers, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Options;
use crate::log::{Closer, LogStore};
use crate::network::Links;
use crate::receive::IncomingSnapshot;
use crate::synchronous::Synchronous;
use crate::types::{LogId, Peer, Raft, Types};

/// A running metadata log. Clones are handles on the same one.
#[derive(Clone)]
pub struct Consensus {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) node: NodeId,
    pub(crate) options: Options,
    pub(crate) links: Links,
    pub(crate) log: LogStore,
    /// Index of the last entry the state machine has seen.
    pub(crate) applied: watch::Receiver<u64>,
    /// Who leads as far as this node knows.
    pub(crate) leader: watch::Sender<Option<NodeId>>,
    pub(crate) synchronous: Arc<Synchronous>,
    /// Held by whoever changes the membership.
    pub(crate) arranging: tokio::sync::Mutex<()>,
    pub(crate) incoming: Mutex<Option<IncomingSnapshot>>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) closer: Mutex<Option<Closer>>,
    pub(crate) attendants: Mutex<Vec<JoinHandle<()>>>,
}

/// Why the set of voters and learners was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The change could not be written, or nobody can tell whether it was.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The change makes no sense, or comes while another is under way.
    #[error("membership of the metadata log was not changed: {0}")]
    Refused(String),
    /// These nodes do not reply or have not caught up. What did not depend on them is done; what
    /// did is not, and is done by the next call when they are there.
    #[error("nodes have not caught up with the metadata log: {}", numbers(.0))]
    Behind(Vec<NodeId>),
}

fn numbers(nodes: &[NodeId]) -> String {
    let numbers: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    numbers.join(", ")
}

impl Consensus {
    /// Sorts out a failed write; what only changes of membership meet is handed back.
    pub(crate) fn write_error(
        &self,
        error: RaftError<Types, ClientWriteError<Types>>,
    ) -> Result<ProposeError, ClientWriteError<Types>> {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Ok(not_leader(to)),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                Ok(ProposeError::Unknown)
            }
            RaftError::APIError(error) => Err(error),
            RaftError::Fatal(fatal) => Ok(self.stopped_by(&fatal)),
        }
    }

    pub(crate) fn stopped_by(&self, fatal: &Fatal<Types>) -> ProposeError {
        let reason = match (self.inner.log.failure(), fatal) {
            (Some(failure), _) => failure,
            (None, Fatal::Stopped) => "it was told to".to_owned(),
            (None, Fatal::Panicked) => "its engine panicked; start the node again".to_owned(),
            (None, Fatal::StorageError(error)) => error.to_string(),
        };
        ProposeError::Stopped { reason }
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner.raft.is_leader()
    }

    /// Who leads as far as this node knows, and every change of that.
    #[must_use]
    pub fn leader_changes(&self) -> watch::Receiver<Option<NodeId>> {
        self.inner.leader.subscribe()
    }

    /// Which history this node's log belongs to; none while no leader has called an empty node.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.inner.log.generation()
    }

    /// From now on, while this node leads, answers a proposal only when `learner` has it on its disk
    /// too, unless that is lagging: see `Status`. To be told to every node that may lead.
    pub fn set_synchronous(&self, learner: Option<NodeId>) {
        self.inner.synchronous.set(learner);
    }

    /// The state of the log on this node.
    #[must_use]
    pub fn metrics(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let (voting, learning): (Vec<_>, Vec<_>) = membership
            .nodes()
            .map(|(&id, peer)| peer.to_member(id))
            .partition(|member| voters.contains(&member.id.0));
        let index = |id: Option<&LogId>| id.map_or(0, |id| id.index);
        let stopped = metrics.running_state.as_ref().err();
        let (synchronous, lagging) = self.inner.synchronous.status();
        let (last_term, last_index) = self.inner.log.last();
        Status {
            node: self.inner.node,
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_index,
            last_term,
            generation: self.inner.log.generation(),
            applied: index(metrics.last_applied.as_ref()),
            snapshot: index(metrics.snapshot.as_ref()),
            synchronous,
            lagging: lagging && metrics.state == ServerState::Leader,
            voters: voting,
            learners: learning,
            stopped: stopped.map(|fatal| self.stopped_by(fatal).to_string()),
        }
    }

    /// Waits until the log on this node has stopped, and says why.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return self.stopped_by(fatal).to_string();
            }
            if metrics.changed().await.is_err() {
                return self.stopped_by(&Fatal::Stopped).to_string();
            }
        }
    }

    /// Waits until the log on this node can keep no promise any more, and says why; `None` if it was only told
    /// to stop.
    pub async fn failed(&self) -> Option<String> {
        let why = self.stopped().await;
        let told = matches!(
            self.inner.raft.metrics().borrow_watched().running_state,
            Ok(()) | Err(Fatal::Stopped)
        );
        (!told || self.inner.log.failure().is_some()).then_some(why)
    }

    /// Has `member` follow the log without a vote; returns once it has caught up. Leader only.
    pub async fn add_learner(&self, member: Member) -> Result<(), ChangeError> {
        let peer = Peer {
            address: member.address,
        };
        let added = self.inner.raft.add_learner(member.id.0, peer, true).await;
        added.map(drop).map_err(|error| self.change_error(error))
    }

    /// Replaces the set of voters. New ones must be learners; those left out become learners.
    /// Leader only.
    pub async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let voters: BTreeSet<u64> = voters.into_iter().map(|id| id.0).collect();
        let change = ChangeMembers::ReplaceAllVoters(voters);
        let changed = self.inner.raft.change_membership(change, true).await;
        changed.map(drop).map_err(|error| self.change_error(error))
    }

    /// Drops a learner from the log for good: its number is never used again. Leader only.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), ChangeError> {
        self.inner.links.let_go(node.0);
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        let changed = self.inner.raft.change_membership(change, false).await;
        changed.map(drop).map_err(|error| self.change_error(error))
    }

    fn change_error(&self, error: RaftError<Types, ClientWriteError<Types>>) -> ChangeError {
        match self.write_error(error) {
            Ok(error) => ChangeError::Propose(error),
            Err(error) => ChangeError::Refused(error.to_string()),
        }
    }

    /// Stops taking part, writes what is queued and closes the files. Later calls do nothing.
    pub async fn shutdown(&self) {
        for attendant in std::mem::take(&mut *self.inner.attendants.lock()) {
            attendant.abort();
        }
        if self.inner.raft.shutdown().await.is_err() {
            tracing::error!("the metadata log's engine panicked");
        }
        let closer = self.inner.closer.lock().take();
        if let Some(mut closer) = closer {
            let closed = tokio::task::spawn_blocking(move || closer.close()).await;
            if closed.is_err() {
                tracing::error!(file = %self.inner.log.path().display(), "closing panicked");
            }
        }
    }
}

pub(crate) fn not_leader(to: ForwardToLeader<Types>) -> ProposeError {
    let leader = to
        .leader_id
        .map(|id| to.leader_node.unwrap_or_default().to_member(id));
    ProposeError::NotLeader { leader }
}

impl MetadataLog for Consensus {
    fn propose(&self, command: Bytes, answer: Answer) {
        let consensus = self.clone();
        self.inner
            .runtime
            .spawn(async move { answer(consensus.propose(command).await) });
    }

    fn status(&self) -> Status {
        self.metrics()
    }
}
