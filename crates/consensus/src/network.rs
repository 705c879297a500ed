//! How the engine speaks to other nodes: requests and replies as opaque bytes, carried by whoever
//! implements [`Network`]. A link that is down, slow or answers nonsense is "unreachable"; the
//! engine then tries again by itself, at growing distances.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::Member;
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use parking_lot::Mutex;

use crate::log::LogStore;
use crate::rpc::{Request, Response};
use crate::snapshot::SnapshotBody;
use crate::types::{Peer, SnapshotMeta, Types, Vote};

/// Bytes of a snapshot in one request.
const CHUNK_BYTES: usize = 1 << 20;

/// How long a peer may take to write some entries.
const ENTRIES_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one chunk of a snapshot may take.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries requests to peers. A peer hands what arrives to [`crate::Consensus::receive`] and sends
/// back what that returns.
pub trait Network: Send + Sync + 'static {
    /// Delivers `request` to `peer` and returns its reply. The future may be dropped at any time;
    /// the request may then have been delivered or not.
    fn call(
        &self,
        peer: &Member,
        request: Bytes,
    ) -> impl Future<Output = Result<Bytes, UnreachableError>> + Send;

    /// Whether there is a link to `peer` at the moment. What is not sent for want of one is
    /// certainly not done; a call that fails may have been.
    fn is_linked(&self, peer: &Member) -> bool {
        let _ = peer;
        true
    }
}

/// Why a peer did not reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreachableError(pub String);

/// The network of a node that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Network for Alone {
    async fn call(&self, peer: &Member, _request: Bytes) -> Result<Bytes, UnreachableError> {
        Err(UnreachableError(format!(
            "this node has no link to {}",
            peer.address
        )))
    }
}

/// A [`Network`] whose type nobody needs to know.
trait Carrier: Send + Sync {
    fn carry<'a>(&'a self, peer: &'a Member, request: Bytes) -> Carried<'a>;
    fn reaches(&self, peer: &Member) -> bool;
}

type Carried<'a> = Pin<Box<dyn Future<Output = Result<Bytes, UnreachableError>> + Send + 'a>>;

impl<N: Network> Carrier for N {
    fn carry<'a>(&'a self, peer: &'a Member, request: Bytes) -> Carried<'a> {
        Box::pin(self.call(peer, request))
    }

    fn reaches(&self, peer: &Member) -> bool {
        self.is_linked(peer)
    }
}

/// This node's ways to its peers. Clones are the same ways.
#[derive(Clone)]
pub(crate) struct Links {
    carrier: Arc<dyn Carrier>,
    node: u64,
    log: LogStore,
    /// What each peer has said to hold of the log of the present leader, which is this node.
    held: Arc<Mutex<BTreeMap<u64, Held>>>,
}

#[derive(Clone, Copy)]
struct Held {
    leader: Vote,
    upto: u64,
}

impl Links {
    pub(crate) fn new(network: impl Network, node: u64, log: LogStore) -> Self {
        Links {
            carrier: Arc::new(network),
            node,
            log,
            held: Arc::default(),
        }
    }

    /// Asks `peer`. What it replies is an answer, its refusal and anything unreadable an error.
    pub(crate) async fn ask(
        &self,
        peer: &Member,
        request: &Request,
    ) -> Result<Response, UnreachableError> {
        let generation = self.log.generation();
        let generation = generation
            .ok_or_else(|| UnreachableError("this node has not joined a cluster yet".to_owned()))?;
        let reply = self.carrier.carry(peer, request.encode(generation)).await?;
        match Response::decode(&reply) {
            Ok(Response::Refused(why)) => Err(UnreachableError(why)),
            Ok(response) => Ok(response),
            Err(error) => Err(UnreachableError(format!(
                "its reply cannot be read: {error}"
            ))),
        }
    }

    pub(crate) fn reach(&self, peer: &Member) -> bool {
        self.carrier.reaches(peer)
    }

    /// Expects nothing of `peer` any more: it is no member.
    pub(crate) fn let_go(&self, peer: u64) {
        self.held.lock().remove(&peer);
    }

    /// Takes note of a reply; one that takes back what the peer has said before is an error. A log
    /// that has lost its end must not count as what it was, and the engine takes it for a bug.
    fn compare(
        &self,
        peer: u64,
        request: &AppendEntriesRequest<Types>,
        reply: &AppendEntriesResponse<Types>,
    ) -> Result<(), RpcError> {
        let previous = request.prev_log_id.map(|id| id.index);
        let upto = match reply {
            AppendEntriesResponse::Success => {
                let last = request.entries.last().map(|entry| entry.log_id.index);
                last.or(previous)
            }
            AppendEntriesResponse::PartialSuccess(upto) => upto.map(|id| id.index),
            AppendEntriesResponse::Conflict => {
                let held = self.held.lock().get(&peer).copied();
                let held = held.filter(|held| held.leader == request.vote);
                return match held {
                    Some(held) if previous.is_some_and(|previous| previous <= held.upto) => {
                        Err(unreachable(format!(
                            "its log has lost entries up to {}, which it held; have it leave the \
                             cluster and join again",
                            held.upto
                        )))
                    }
                    Some(_) | None => Ok(()),
                };
            }
            AppendEntriesResponse::HigherVote(_) => None,
        };
        if let Some(upto) = upto {
            let leader = request.vote;
            let mut held = self.held.lock();
            let entry = held.entry(peer).or_insert(Held { leader, upto });
            if entry.leader == leader {
                entry.upto = entry.upto.max(upto);
            } else {
                *entry = Held { leader, upto };
            }
        }
        Ok(())
    }
}

/// The engine's way to one peer.
pub(crate) struct Link {
    links: Links,
    peer: Member,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Link {
        Link {
            links: self.clone(),
            peer: peer.to_member(target),
        }
    }
}

type RpcError = RPCError<Types>;

impl Link {
    async fn call(
        &self,
        request: &Request,
        kind: RPCTypes,
        limit: Duration,
    ) -> Result<Response, RpcError> {
        match tokio::time::timeout(limit, self.links.ask(&self.peer, request)).await {
            Ok(reply) => reply.map_err(|error| Unreachable::new(&error).into()),
            Err(_) => {
                let (id, target) = (self.links.node, self.peer.id.0);
                Err(Timeout {
                    action: kind,
                    id,
                    target,
                    timeout: limit,
                }
                .into())
            }
        }
    }

    fn confused(&self) -> RpcError {
        NetworkError::from_string(format!("{} answered another question", self.peer.address)).into()
    }
}

fn unreachable(why: String) -> RpcError {
    Unreachable::from_string(why).into()
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotBody;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        // Entries wait for the peer's disk; what is empty only shows that the leader lives.
        let limit = if request.entries.is_empty() {
            option.soft_ttl()
        } else {
            ENTRIES_TIMEOUT
        };
        let packet = Request::append(&request);
        match self.call(&packet, RPCTypes::AppendEntries, limit).await? {
            Response::Append(result) => {
                let reply = result.into();
                self.links.compare(self.peer.id.0, &request, &reply)?;
                Ok(reply)
            }
            _ => Err(self.confused()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let request = Request::Vote((&request).into());
        match self
            .call(&request, RPCTypes::Vote, option.soft_ttl())
            .await?
        {
            Response::Vote(reply) => Ok(reply.into()),
            _ => Err(self.confused()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let request = Request::PreVote((&request).into());
        match self
            .call(&request, RPCTypes::Vote, option.soft_ttl())
            .await?
        {
            Response::Vote(reply) => Ok(reply.into()),
            _ => Err(self.confused()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, SnapshotBody>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let (meta, body) = (snapshot.meta, snapshot.snapshot);
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, &meta, body) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let request = Request::transfer(&request);
        match self
            .call(&request, RPCTypes::TransferLeader, option.soft_ttl())
            .await?
        {
            Response::Transfer(result) => Ok(result.into()),
            _ => Err(self.confused()),
        }
    }
}

impl Link {
    async fn send_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
        body: SnapshotBody,
    ) -> Result<SnapshotResponse<Types>, RpcError> {
        let body = crate::machine::blocking(move || body.read()).await;
        let body = body.map_err(|error| NetworkError::new(&error))?;
        let mut offset = 0;
        loop {
            let end = body.len().min(offset + CHUNK_BYTES);
            let chunk = body.slice(offset..end);
            let request = Request::snapshot(&vote, meta, offset as u64, end == body.len(), chunk);
            let reply = match self
                .call(&request, RPCTypes::InstallSnapshot, CHUNK_TIMEOUT)
                .await?
            {
                Response::Snapshot(reply) => Vote::from(reply),
                _ => return Err(self.confused()),
            };
            // A peer that has seen a later leader says so; the engine steps down on it.
            if end == body.len() || reply > vote {
                return Ok(SnapshotResponse::new(reply));
            }
            offset = end;
        }
    }
}
