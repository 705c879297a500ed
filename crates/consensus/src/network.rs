//! How the engine speaks to other nodes: requests and replies as opaque bytes, carried by whoever
//! implements [`Network`]. A link that is down, slow or answers nonsense is "unreachable"; the
//! engine then tries again by itself, at growing distances.

use std::future::Future;
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

use crate::rpc::{Request, Response};
use crate::snapshot::SnapshotBody;
use crate::types::{Peer, SnapshotMeta, Types, Vote};

/// Bytes of a snapshot in one request.
const CHUNK_BYTES: usize = 1 << 20;

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

/// Makes a link for each peer the engine wants to talk to.
pub(crate) struct Links<N> {
    network: Arc<N>,
    node: u64,
}

impl<N: Network> Links<N> {
    pub(crate) fn new(network: N, node: u64) -> Self {
        Links {
            network: Arc::new(network),
            node,
        }
    }
}

/// The engine's way to one peer.
pub(crate) struct Link<N> {
    network: Arc<N>,
    node: u64,
    peer: Member,
}

impl<N: Network> RaftNetworkFactory<Types> for Links<N> {
    type Network = Link<N>;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Link<N> {
        let peer = peer.to_member(target);
        Link {
            network: self.network.clone(),
            node: self.node,
            peer,
        }
    }
}

type RpcError = RPCError<Types>;

impl<N: Network> Link<N> {
    async fn call(
        &self,
        request: &Request,
        kind: RPCTypes,
        limit: Duration,
    ) -> Result<Response, RpcError> {
        let reply = self.network.call(&self.peer, request.encode());
        let reply = match tokio::time::timeout(limit, reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(Unreachable::new(&error).into()),
            Err(_) => {
                let (id, target) = (self.node, self.peer.id.0);
                return Err(Timeout {
                    action: kind,
                    id,
                    target,
                    timeout: limit,
                }
                .into());
            }
        };
        match Response::decode(&reply) {
            Ok(Response::Refused(why)) => Err(unreachable(why)),
            Ok(response) => Ok(response),
            Err(error) => Err(unreachable(format!("its reply cannot be read: {error}"))),
        }
    }

    fn confused(&self) -> RpcError {
        NetworkError::from_string(format!("{} answered another question", self.peer.address)).into()
    }
}

fn unreachable(why: String) -> RpcError {
    Unreachable::from_string(why).into()
}

impl<N: Network> RaftNetworkV2<Types> for Link<N> {
    type SnapshotData = SnapshotBody;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let request = Request::append(&request);
        match self
            .call(&request, RPCTypes::AppendEntries, option.soft_ttl())
            .await?
        {
            Response::Append(result) => Ok(result.into()),
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

impl<N: Network> Link<N> {
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
