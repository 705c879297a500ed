//! Starting the log, and the handle the rest of the node holds on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cluster::metadata_log::{
    Answer, COMMAND_BYTES_MAX, Member, MetadataLog, NodeId, ProposeError, StateMachine, Status,
};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::raft::ReadPolicy;
use openraft::{ChangeMembers, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::log::{Closer, LogStore, file::LogFile};
use crate::machine::{Growth, Machine};
use crate::network::{Links, Network};
use crate::rpc::{self, Request, Response};
use crate::snapshot::{SnapshotBody, SnapshotStore};
use crate::types::{Command, Membership, Peer, Raft, SnapshotMeta, Types, Vote};
use crate::{Options, StartError};

const LOG_FILE: &str = "metadata.redb";
const SNAPSHOT_FILE: &str = "metadata.snapshot";

/// Entries kept behind a snapshot, for followers that are a little late.
const KEPT_BEHIND_SNAPSHOT: u64 = 1_000;

/// A running metadata log. Clones are handles on the same one.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    node: NodeId,
    log: LogStore,
    incoming: Mutex<Option<IncomingSnapshot>>,
    runtime: tokio::runtime::Handle,
    closer: Mutex<Option<Closer>>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// A snapshot of which a peer has sent some chunks.
struct IncomingSnapshot {
    vote: Vote,
    meta: SnapshotMeta,
    body: Vec<u8>,
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
}

/// Opens or creates the log in `options.data_dir`, brings `state_machine` to where the log ends, and
/// starts taking part. A lone voter is its own leader when this returns, and `state_machine` has
/// seen every command; among several voters it has seen those known to be committed.
pub async fn start<N: Network>(
    options: Options,
    state_machine: impl StateMachine,
    network: N,
) -> Result<Consensus, StartError> {
    let config = Arc::new(config(&options)?);
    let growth = Arc::new(Growth::new(options.snapshot_entries, options.snapshot_bytes));
    let opened = open(options.clone(), Box::new(state_machine), growth.clone()).await?;
    let node = options.node_id;
    let links = Links::new(network, node.0);
    let log = opened.log.clone();
    let engine = |what: String| match log.damage() {
        Some(damage) => StartError::damaged(log.path(), damage),
        None => StartError::Engine { path: options.data_dir.clone(), what },
    };
    let raft = Raft::new(node.0, config, links, log.clone(), opened.machine).await;
    let raft = raft.map_err(|error| engine(error.to_string()))?;
    let supervisor = tokio::spawn(supervise(raft.clone(), node, growth));
    let consensus = Consensus {
        inner: Arc::new(Inner {
            raft,
            node,
            log: opened.log,
            incoming: Mutex::new(None),
            runtime: tokio::runtime::Handle::current(),
            closer: Mutex::new(Some(opened.closer)),
            supervisor: Mutex::new(Some(supervisor)),
        }),
    };
    match consensus.take_office(&options).await {
        Ok(()) => Ok(consensus),
        Err(what) => {
            let what = consensus.inner.log.failure().unwrap_or(what);
            consensus.shutdown().await;
            Err(engine(what))
        }
    }
}

fn config(options: &Options) -> Result<openraft::Config, StartError> {
    if options.election_timeout < options.heartbeat * 3 || options.heartbeat.as_millis() < 5 {
        return Err(StartError::Options(
            "the heartbeat is at least 5 ms, and the election timeout at least three of them"
                .to_owned(),
        ));
    }
    let millis = |duration: std::time::Duration| duration.as_millis() as u64;
    openraft::Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_timeout),
        election_timeout_max: millis(options.election_timeout) * 2,
        // When a snapshot is due, `Growth` decides.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT.min(options.snapshot_entries / 10),
        replication_lag_threshold: KEPT_BEHIND_SNAPSHOT.max(options.snapshot_entries) * 2,
        install_snapshot_timeout: 60_000,
        enable_pre_vote: Some(true),
        // A leader that restarts stands for election like anybody else: only winning proves that
        // it has everything the cluster has committed.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Options(error.to_string()))
}

struct Opened {
    log: LogStore,
    closer: Closer,
    machine: Machine,
}

/// Reads what is on disk, away from the runtime's threads.
async fn open(
    options: Options,
    state_machine: Box<dyn StateMachine>,
    growth: Arc<Growth>,
) -> Result<Opened, StartError> {
    let path = options.data_dir.join(LOG_FILE);
    let opening = tokio::task::spawn_blocking(move || open_files(&options, state_machine, growth));
    match opening.await {
        Ok(result) => result,
        // redb asserts what it expects of its pages; a page that breaks the assertion is damage.
        Err(panic) => Err(StartError::damaged(&path, format!("reading it failed ({panic})"))),
    }
}

fn open_files(
    options: &Options,
    mut state_machine: Box<dyn StateMachine>,
    growth: Arc<Growth>,
) -> Result<Opened, StartError> {
    let folder = &options.data_dir;
    let cannot = |path: &Path, source| StartError::File { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| cannot(folder, source))?;
    let (log_path, snapshot_path) = (folder.join(LOG_FILE), folder.join(SNAPSHOT_FILE));
    let (snapshots, state) = SnapshotStore::open(&snapshot_path)?;
    let snapshot_upto = snapshots.current().and_then(|current| current.meta.last_log_id);
    if snapshot_upto.is_some() && !log_path.exists() {
        return Err(StartError::damaged(&log_path, "it is missing beside its snapshot"));
    }
    let (file, stored) = LogFile::open(&log_path, options.node_id.0)?;
    if stored.purged > snapshot_upto {
        let index = stored.purged.map_or(0, |purged| purged.index);
        let what = format!("the log needs a snapshot up to entry {index}, and it is missing or older");
        return Err(StartError::damaged(&snapshot_path, what));
    }
    if let Some(state) = state {
        state_machine.restore(&state).map_err(|error| StartError::Version {
            path: snapshot_path.clone(),
            what: error.to_string(),
        })?;
    }
    let (log, closer) =
        LogStore::new(log_path.clone(), file, stored).map_err(|source| cannot(&log_path, source))?;
    let machine = Machine::new(state_machine, Arc::new(snapshots), growth);
    Ok(Opened { log, closer, machine })
}

/// Rings for snapshots when they are due, and stops the clock of a voter that is alone: it has
/// nobody to send heartbeats to and nobody to hear from.
async fn supervise(raft: Raft, node: NodeId, growth: Arc<Growth>) {
    let mut server = raft.server_metrics();
    loop {
        let alone = {
            let server = server.borrow_watched();
            server.state == ServerState::Leader && is_alone(server.membership_config.membership(), node)
        };
        raft.runtime_config().tick(!alone);
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            () = growth.snapshot_due.notified() => {
                if raft.trigger().snapshot().await.is_err() { return }
            }
        }
    }
}

fn is_alone(membership: &Membership, node: NodeId) -> bool {
    membership.nodes().all(|(&id, _)| id == node.0) && membership.voter_ids().count() == 1
}

impl Consensus {
    /// Founds the cluster if asked to, and has a lone voter elect itself and catch up.
    async fn take_office(&self, options: &Options) -> Result<(), String> {
        let raft = &self.inner.raft;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let founded = raft.is_initialized().await.map_err(|error| text(&error))?;
        if !founded {
            if !options.found_cluster {
                return Ok(());
            }
            let me = Peer { address: options.address.clone() };
            let members = BTreeMap::from([(options.node_id.0, me)]);
            raft.initialize(members).await.map_err(|error| text(&error))?;
        }
        let node = self.inner.node;
        let sole_voter = raft
            .with_raft_state(move |state| {
                let membership = state.membership_state.effective().membership();
                membership.voter_ids().eq([node.0])
            })
            .await
            .map_err(|error| text(&error))?;
        if !sole_voter {
            return Ok(());
        }
        if founded {
            raft.trigger().elect(false).await.map_err(|error| text(&error))?;
        }
        raft.wait_for_recovery(None).await.map_err(|error| text(&error))?;
        Ok(())
    }

    /// Has `command` committed and applied, and returns this node's answer to it. Dropping the
    /// future does not take the proposal back.
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { size: command.len() });
        }
        match self.inner.raft.client_write(Command(command)).await {
            Ok(response) => Ok(response.data.0),
            Err(error) => Err(self.write_error(error).unwrap_or_else(|error| {
                ProposeError::Stopped { reason: error.to_string() }
            })),
        }
    }

    /// Sorts out a failed write; what only changes of membership meet is handed back.
    fn write_error(
        &self,
        error: RaftError<Types, ClientWriteError<Types>>,
    ) -> Result<ProposeError, ClientWriteError<Types>> {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Ok(not_leader(to)),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Ok(ProposeError::Unknown),
            RaftError::APIError(error) => Err(error),
            RaftError::Fatal(fatal) => Ok(self.stopped_by(&fatal)),
        }
    }

    fn stopped_by(&self, fatal: &Fatal<Types>) -> ProposeError {
        let reason = match (self.inner.log.failure(), fatal) {
            (Some(failure), _) => failure,
            (None, Fatal::Stopped) => "it was told to".to_owned(),
            (None, Fatal::Panicked) => "its engine panicked; start the node again".to_owned(),
            (None, Fatal::StorageError(error)) => error.to_string(),
        };
        ProposeError::Stopped { reason }
    }

    /// Returns once the state machine has seen every command that was answered anywhere before the
    /// call: a read of the state after it is linearizable. Only the leader can tell.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(not_leader(to))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(fatal)) => Err(self.stopped_by(&fatal)),
        }
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner.raft.is_leader()
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
        let index = |id: Option<&crate::types::LogId>| id.map_or(0, |id| id.index);
        let stopped = metrics.running_state.as_ref().err();
        Status {
            node: self.inner.node,
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_index: metrics.last_log_index.unwrap_or(0),
            applied: index(metrics.last_applied.as_ref()),
            snapshot: index(metrics.snapshot.as_ref()),
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

    /// Takes a request another node's [`Network`] has delivered here and returns the reply.
    pub async fn receive(&self, request: &[u8]) -> Bytes {
        let response = match Request::decode(request) {
            Ok(request) => self.answer(request).await,
            Err(error) => Err(format!("the request cannot be read: {error}")),
        };
        response.unwrap_or_else(Response::Refused).encode()
    }

    async fn answer(&self, request: Request) -> Result<Response, String> {
        let raft = &self.inner.raft;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match request {
            Request::Append { vote, previous, committed, entries } => {
                let request = rpc::append_request(vote, previous, committed, entries)
                    .map_err(|error| text(&error))?;
                let result = raft.append_entries(request).await.map_err(|error| text(&error))?;
                Ok(Response::Append((&result).into()))
            }
            Request::Vote(question) => {
                let result = raft.vote(question.into()).await.map_err(|error| text(&error))?;
                Ok(Response::Vote((&result).into()))
            }
            Request::PreVote(question) => {
                let result = raft.pre_vote(question.into()).await.map_err(|error| text(&error))?;
                Ok(Response::Vote((&result).into()))
            }
            Request::Snapshot { vote, snapshot, offset, last, chunk } => {
                let meta = SnapshotMeta::try_from(snapshot).map_err(|error| text(&error))?;
                self.receive_snapshot(vote.into(), meta, offset, last, &chunk).await
            }
            Request::Transfer { from, to, last } => {
                let last = last.map(crate::types::LogId::from);
                let request = openraft::raft::TransferLeaderRequest::new(from.into(), to, last);
                let result = raft.handle_transfer_leader(request).await;
                Ok(Response::Transfer((&result.map_err(|error| text(&error))?).into()))
            }
        }
    }

    async fn receive_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        offset: u64,
        last: bool,
        chunk: &[u8],
    ) -> Result<Response, String> {
        let complete = {
            let mut incoming = self.inner.incoming.lock();
            if offset == 0 {
                *incoming = Some(IncomingSnapshot { vote, meta: meta.clone(), body: Vec::new() });
            }
            let snapshot = incoming
                .as_mut()
                .filter(|snapshot| {
                    let same = snapshot.vote == vote && snapshot.meta == meta;
                    same && snapshot.body.len() as u64 == offset
                })
                .ok_or("a chunk of a snapshot came out of order; send it again from its start")?;
            snapshot.body.extend_from_slice(chunk);
            if last { incoming.take() } else { None }
        };
        let Some(complete) = complete else {
            let vote = self.inner.raft.metrics().borrow_watched().vote;
            return Ok(Response::Snapshot((&vote).into()));
        };
        let body = SnapshotBody::Memory(complete.body.into());
        let snapshot = openraft::storage::Snapshot { meta: complete.meta, snapshot: body };
        let result = self.inner.raft.install_full_snapshot(complete.vote, snapshot).await;
        let result = result.map_err(|error| error.to_string())?;
        Ok(Response::Snapshot((&result.vote).into()))
    }

    /// Has `member` follow the log without a vote; returns once it has caught up. Leader only.
    pub async fn add_learner(&self, member: Member) -> Result<(), ChangeError> {
        let peer = Peer { address: member.address };
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

    /// Asks the voter `to` to lead instead of this node; returns before that has happened.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), ProposeError> {
        let asked = self.inner.raft.trigger().transfer_leader(to.0).await;
        asked.map_err(|fatal| self.stopped_by(&fatal))
    }

    /// Stops taking part, writes what is queued and closes the files. Later calls do nothing.
    pub async fn shutdown(&self) {
        if let Some(supervisor) = self.inner.supervisor.lock().take() {
            supervisor.abort();
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

fn not_leader(to: ForwardToLeader<Types>) -> ProposeError {
    let leader = to.leader_id.map(|id| to.leader_node.unwrap_or_default().to_member(id));
    ProposeError::NotLeader { leader }
}

impl MetadataLog for Consensus {
    fn propose(&self, command: Bytes, answer: Answer) {
        let consensus = self.clone();
        self.inner.runtime.spawn(async move { answer(consensus.propose(command).await) });
    }

    fn status(&self) -> Status {
        self.metrics()
    }
}
