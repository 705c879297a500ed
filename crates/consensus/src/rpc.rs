//! What nodes ask each other and their answers as bytes, in the envelope of `format`: the engine's
//! questions, and those this crate relays to the leader. A request names the generation of the log
//! it is about.
//!
//! The variants stand in the order of their numbers on the wire: new ones go to the end.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use cluster::metadata_log::{Member, NodeId};

use crate::Role;
use crate::format::{
    self, EntryRecord, FormatError, PACKET_VERSION, Position, SnapshotRecord, VoteRecord,
};
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
    /// A command, for the leader.
    Propose(Bytes),
    /// Up to where a node must have applied the log for a linearizable read; for the leader.
    ReadIndex,
    /// The set of nodes wanted, for the leader.
    Arrange(Vec<SeatRecord>),
}

/// A node that shall be in the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeatRecord {
    node: u64,
    address: String,
    votes: bool,
}

/// A member as the log knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    node: u64,
    address: String,
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
    /// The command is entry `index`, and this is the leader's answer to it.
    Proposed {
        index: u64,
        answer: Bytes,
    },
    /// The peer does not lead, or cannot tell whether it still does; nothing was done.
    NotLeader(Option<MemberRecord>),
    /// Leadership was lost while it was under way; nobody can tell.
    Unknown,
    ReadIndex(u64),
    Arranged,
    /// These nodes are not where they shall be, for they have not caught up.
    Behind(Vec<u64>),
    /// The change of membership makes no sense.
    Senseless(String),
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

impl From<&(Member, Role)> for SeatRecord {
    fn from((member, role): &(Member, Role)) -> Self {
        SeatRecord {
            node: member.id.0,
            address: member.address.clone(),
            votes: *role == Role::Voter,
        }
    }
}

impl From<SeatRecord> for (Member, Role) {
    fn from(seat: SeatRecord) -> Self {
        let role = if seat.votes {
            Role::Voter
        } else {
            Role::Learner
        };
        let id = NodeId(seat.node);
        let address = seat.address;
        (Member { id, address }, role)
    }
}

impl From<Member> for MemberRecord {
    fn from(member: Member) -> Self {
        MemberRecord {
            node: member.id.0,
            address: member.address,
        }
    }
}

impl From<MemberRecord> for Member {
    fn from(record: MemberRecord) -> Self {
        Member {
            id: NodeId(record.node),
            address: record.address,
        }
    }
}

impl Request {
    pub(crate) fn encode(&self, generation: u64) -> Bytes {
        format::encode_as(PACKET_VERSION, &(generation, self)).into()
    }

    /// The request, and the generation of the log it is about.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, Self), FormatError> {
        format::decode_as(PACKET_VERSION, bytes)
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
        format::encode_as(PACKET_VERSION, self).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        format::decode_as(PACKET_VERSION, bytes)
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

#[cfg(test)]
mod tests;
