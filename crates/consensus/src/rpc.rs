//! The engine's questions to a peer and their answers as bytes, in the envelope of `format`.
//!
//! The variants stand in the order of their numbers on the wire: new ones go to the end.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use crate::format::{self, EntryRecord, FormatError, Position, SnapshotRecord, VoteRecord};
use crate::types::{LogId, SnapshotMeta, Types, Vote};

/// What a node asks of a peer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append {
        vote: VoteRecord,
        previous: Option<Position>,
        committed: Option<Position>,
        entries: Vec<EntryRecord>,
    },
    Vote(VoteQuestion),
    PreVote(VoteQuestion),
    /// Part of a snapshot; the part that is `last` has it installed.
    Snapshot {
        vote: VoteRecord,
        snapshot: SnapshotRecord,
        offset: u64,
        last: bool,
        chunk: Bytes,
    },
    Transfer {
        from: VoteRecord,
        to: u64,
        last: Option<Position>,
    },
}

/// A candidate's question.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteQuestion {
    vote: VoteRecord,
    last: Option<Position>,
    transfer: bool,
}

/// A peer's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendResult),
    Vote(VoteReply),
    Snapshot(VoteRecord),
    Transfer(TransferResult),
    /// The peer could not take the request, for instance because it is stopping.
    Refused(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AppendResult {
    Success,
    PartialSuccess(Option<Position>),
    Conflict,
    HigherVote(VoteRecord),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VoteReply {
    vote: VoteRecord,
    granted: bool,
    last: Option<Position>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TransferResult {
    Accepted,
    VoteChanged {
        expected: VoteRecord,
        actual: VoteRecord,
    },
    LogNotFlushed {
        expected: Option<Position>,
        actual: Option<Position>,
    },
}

fn position(id: Option<&LogId>) -> Option<Position> {
    id.map(Position::from)
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        format::encode(self).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        format::decode(bytes)
    }

    pub(crate) fn append(request: &AppendEntriesRequest<Types>) -> Self {
        Request::Append {
            vote: VoteRecord::from(&request.vote),
            previous: position(request.prev_log_id.as_ref()),
            committed: position(request.leader_commit.as_ref()),
            entries: request.entries.iter().map(EntryRecord::from).collect(),
        }
    }

    pub(crate) fn snapshot(
        vote: &Vote,
        meta: &SnapshotMeta,
        offset: u64,
        last: bool,
        chunk: Bytes,
    ) -> Self {
        let (vote, snapshot) = (VoteRecord::from(vote), SnapshotRecord::from(meta));
        Request::Snapshot {
            vote,
            snapshot,
            offset,
            last,
            chunk,
        }
    }

    pub(crate) fn transfer(request: &TransferLeaderRequest<Types>) -> Self {
        Request::Transfer {
            from: VoteRecord::from(request.from_leader()),
            to: *request.to_node_id(),
            last: position(request.last_log_id()),
        }
    }
}

/// The engine's form of [`Request::Append`].
pub(crate) fn append_request(
    vote: VoteRecord,
    previous: Option<Position>,
    committed: Option<Position>,
    entries: Vec<EntryRecord>,
) -> Result<AppendEntriesRequest<Types>, FormatError> {
    Ok(AppendEntriesRequest {
        vote: vote.into(),
        prev_log_id: previous.map(LogId::from),
        entries: entries
            .into_iter()
            .map(EntryRecord::into_entry)
            .collect::<Result<_, _>>()?,
        leader_commit: committed.map(LogId::from),
    })
}

impl Response {
    pub(crate) fn encode(&self) -> Bytes {
        format::encode(self).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        format::decode(bytes)
    }
}

impl From<&VoteRequest<Types>> for VoteQuestion {
    fn from(request: &VoteRequest<Types>) -> Self {
        VoteQuestion {
            vote: VoteRecord::from(&request.vote),
            last: position(request.last_log_id.as_ref()),
            transfer: request.leadership_transfer,
        }
    }
}

impl From<VoteQuestion> for VoteRequest<Types> {
    fn from(question: VoteQuestion) -> Self {
        VoteRequest {
            vote: question.vote.into(),
            last_log_id: question.last.map(LogId::from),
            leadership_transfer: question.transfer,
        }
    }
}

impl From<&VoteResponse<Types>> for VoteReply {
    fn from(response: &VoteResponse<Types>) -> Self {
        VoteReply {
            vote: VoteRecord::from(&response.vote),
            granted: response.vote_granted,
            last: position(response.last_log_id.as_ref()),
        }
    }
}

impl From<VoteReply> for VoteResponse<Types> {
    fn from(reply: VoteReply) -> Self {
        VoteResponse {
            vote: reply.vote.into(),
            vote_granted: reply.granted,
            last_log_id: reply.last.map(LogId::from),
        }
    }
}

impl From<&AppendEntriesResponse<Types>> for AppendResult {
    fn from(response: &AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => AppendResult::Success,
            AppendEntriesResponse::PartialSuccess(upto) => {
                AppendResult::PartialSuccess(position(upto.as_ref()))
            }
            AppendEntriesResponse::Conflict => AppendResult::Conflict,
            AppendEntriesResponse::HigherVote(vote) => {
                AppendResult::HigherVote(VoteRecord::from(vote))
            }
        }
    }
}

impl From<AppendResult> for AppendEntriesResponse<Types> {
    fn from(result: AppendResult) -> Self {
        match result {
            AppendResult::Success => AppendEntriesResponse::Success,
            AppendResult::PartialSuccess(upto) => {
                AppendEntriesResponse::PartialSuccess(upto.map(LogId::from))
            }
            AppendResult::Conflict => AppendEntriesResponse::Conflict,
            AppendResult::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        }
    }
}

type TransferOutcome = openraft::raft::TransferLeaderResponse<Types>;
type TransferError = openraft::raft::TransferLeaderError<Types>;

impl From<&TransferOutcome> for TransferResult {
    fn from(outcome: &TransferOutcome) -> Self {
        match outcome {
            Ok(()) => TransferResult::Accepted,
            Err(TransferError::VoteChanged { expected, actual }) => {
                let (expected, actual) = (VoteRecord::from(expected), VoteRecord::from(actual));
                TransferResult::VoteChanged { expected, actual }
            }
            Err(TransferError::LogNotFlushed { expected, actual }) => {
                let (expected, actual) = (position(expected.as_ref()), position(actual.as_ref()));
                TransferResult::LogNotFlushed { expected, actual }
            }
        }
    }
}

impl From<TransferResult> for TransferOutcome {
    fn from(result: TransferResult) -> Self {
        match result {
            TransferResult::Accepted => Ok(()),
            TransferResult::VoteChanged { expected, actual } => {
                let (expected, actual) = (expected.into(), actual.into());
                Err(TransferError::VoteChanged { expected, actual })
            }
            TransferResult::LogNotFlushed { expected, actual } => {
                let (expected, actual) = (expected.map(LogId::from), actual.map(LogId::from));
                Err(TransferError::LogNotFlushed { expected, actual })
            }
        }
    }
}
