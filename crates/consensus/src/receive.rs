//! The receiving end of the network: what peers ask, answered by the engine.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;

use crate::consensus::Consensus;
use crate::rpc::{self, Request, Response};
use crate::snapshot::SnapshotBody;
use crate::types::{LogId, SnapshotMeta, Vote};

/// A snapshot of which a peer has sent some chunks.
pub(crate) struct IncomingSnapshot {
    vote: Vote,
    meta: SnapshotMeta,
    body: Vec<u8>,
}

impl Consensus {
    /// Takes a request another node's [`Network`] has delivered here and returns the reply.
    pub async fn receive(&self, request: &[u8]) -> Bytes {
        let response = match Request::decode(request) {
            Ok((generation, request)) => match self.admit(generation, &request) {
                Ok(()) => self.answer(request).await,
                Err(why) => Err(why),
            },
            Err(error) => Err(format!("the request cannot be read: {error}")),
        };
        response.unwrap_or_else(Response::Refused).encode()
    }

    /// Whether a request about the log of `generation` concerns this node. One without a log
    /// becomes a member of the first cluster whose leader calls it, and says nothing before: what
    /// it says in an election would be the word of somebody who has forgotten what he knew.
    fn admit(&self, generation: u64, request: &Request) -> Result<(), String> {
        let log = &self.inner.log;
        let calls = matches!(request, Request::Append { .. } | Request::Snapshot { .. });
        let own = match log.generation() {
            Some(own) => own,
            None if calls => {
                log.adopt(generation).map_err(|error| error.to_string())?;
                generation
            }
            None => return Err("this node has not joined a cluster yet".to_owned()),
        };
        if own != generation {
            return Err(format!(
                "the metadata log here is of generation {own:016x}, the request is about that of \
                 generation {generation:016x}; the two are never mixed: a node changes over by \
                 forgetting its log and joining"
            ));
        }
        if log.is_blank() && !calls {
            return Err("this node has not joined its cluster yet".to_owned());
        }
        Ok(())
    }

    async fn answer(&self, request: Request) -> Result<Response, String> {
        let raft = &self.inner.raft;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match request {
            Request::Append {
                vote,
                previous,
                committed,
                entries,
            } => {
                let level = committed.map(LogId::from);
                let request = rpc::append_request(vote, previous, committed, entries)
                    .map_err(|error| text(&error))?;
                let result = raft
                    .append_entries(request)
                    .await
                    .map_err(|error| text(&error))?;
                if result.is_success() && self.inner.log.came_level(level.as_ref()) {
                    raft.runtime_config().elect(true);
                }
                Ok(Response::Append((&result).into()))
            }
            Request::Vote(question) => {
                let result = raft
                    .vote(question.into())
                    .await
                    .map_err(|error| text(&error))?;
                Ok(Response::Vote((&result).into()))
            }
            Request::PreVote(question) => {
                let result = raft
                    .pre_vote(question.into())
                    .await
                    .map_err(|error| text(&error))?;
                Ok(Response::Vote((&result).into()))
            }
            Request::Snapshot {
                vote,
                snapshot,
                offset,
                last,
                chunk,
            } => {
                let meta = SnapshotMeta::try_from(snapshot).map_err(|error| text(&error))?;
                self.receive_snapshot(vote.into(), meta, offset, last, &chunk)
                    .await
            }
            Request::Transfer { from, to, last } => {
                let last = last.map(LogId::from);
                let request = openraft::raft::TransferLeaderRequest::new(from.into(), to, last);
                let result = raft.handle_transfer_leader(request).await;
                Ok(Response::Transfer(
                    (&result.map_err(|error| text(&error))?).into(),
                ))
            }
            relayed @ (Request::Propose(_) | Request::ReadIndex | Request::Arrange(_)) => {
                self.lead_for_peer(&relayed).await
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
                *incoming = Some(IncomingSnapshot {
                    vote,
                    meta: meta.clone(),
                    body: Vec::new(),
                });
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
        let snapshot = openraft::storage::Snapshot {
            meta: complete.meta,
            snapshot: body,
        };
        let result = self
            .inner
            .raft
            .install_full_snapshot(complete.vote, snapshot)
            .await;
        let result = result.map_err(|error| error.to_string())?;
        Ok(Response::Snapshot((&result.vote).into()))
    }
}
