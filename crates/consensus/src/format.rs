//! The bytes of entries, votes and membership on disk and between nodes. `docs/formats/metadata.md`
//! is the specification; the tests beside this file hold its examples.
//!
//! Every value stands in an envelope: one byte of version, four of CRC-32 over what follows, then
//! the value in postcard. The structs below are ours, so that a new version of the engine cannot
//! change the format by changing its own structs. They are never edited: a change is a new
//! version with structs of its own, and the old ones stay readable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{
    Command, Entry, LeaderId, LogId, Membership, Peer, SnapshotMeta, StoredMembership, Vote,
};

/// The version of every envelope this program writes to disk.
pub(crate) const VERSION: u8 = 1;

/// The version of every envelope this program sends to another node.
pub(crate) const PACKET_VERSION: u8 = 2;

const ENVELOPE_BYTES: usize = 5;

/// Why stored bytes were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("it was written in format {found}, this program reads format {read}")]
    Version { found: u8, read: u8 },
    #[error("its checksum does not match")]
    Checksum,
    #[error("it ends early")]
    Short,
    #[error("its content is not what its place asks for ({0})")]
    Content(String),
}

impl From<FormatError> for std::io::Error {
    fn from(error: FormatError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Puts `value` into an envelope for the disk.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_as(VERSION, value)
}

/// Takes a value out of its envelope from the disk.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    decode_as(VERSION, bytes)
}

/// Puts `value` into an envelope of `version`.
pub(crate) fn encode_as<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = postcard::to_extend(value, vec![version, 0, 0, 0, 0])
        .expect("our structs have no form postcard refuses, and memory does not run out by half");
    let checksum = crc32fast::hash(&bytes[ENVELOPE_BYTES..]);
    bytes[1..ENVELOPE_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Takes a value out of its envelope, which has to be of version `read`.
pub(crate) fn decode_as<T: DeserializeOwned>(read: u8, bytes: &[u8]) -> Result<T, FormatError> {
    let (&found, rest) = bytes.split_first().ok_or(FormatError::Short)?;
    if found != read {
        return Err(FormatError::Version { found, read });
    }
    let (checksum, body) = rest.split_first_chunk::<4>().ok_or(FormatError::Short)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(FormatError::Checksum);
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, surplus)) => Err(FormatError::Content(format!(
            "{} bytes too many",
            surplus.len()
        ))),
        Err(error) => Err(FormatError::Content(error.to_string())),
    }
}

/// Where an entry stands: the leader that wrote it, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    term: u64,
    node: u64,
    index: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    position: Position,
    payload: PayloadRecord,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PayloadRecord {
    Blank,
    Command(Bytes),
    Membership(MembershipRecord),
}

/// Who votes (two sets while one replaces the other), and every node's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembershipRecord {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, String>,
}

/// A vote given or won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRecord {
    term: u64,
    node: u64,
    won: bool,
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    last: Option<Position>,
    membership_at: Option<Position>,
    membership: MembershipRecord,
}

impl From<&LogId> for Position {
    fn from(id: &LogId) -> Self {
        Position {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<Position> for LogId {
    fn from(position: Position) -> Self {
        LogId::new(LeaderId::new(position.term, position.node), position.index)
    }
}

impl From<&Entry> for EntryRecord {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(command) => PayloadRecord::Command(command.0.clone()),
            EntryPayload::Membership(membership) => PayloadRecord::Membership(membership.into()),
        };
        EntryRecord {
            position: Position::from(&entry.log_id),
            payload,
        }
    }
}

impl EntryRecord {
    /// The engine's form of the entry.
    pub(crate) fn into_entry(self) -> Result<Entry, FormatError> {
        let payload = match self.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(command) => EntryPayload::Normal(Command(command)),
            PayloadRecord::Membership(membership) => {
                EntryPayload::Membership(membership.try_into()?)
            }
        };
        Ok(Entry::new(self.position.into(), payload))
    }
}

impl From<&Membership> for MembershipRecord {
    fn from(membership: &Membership) -> Self {
        MembershipRecord {
            voters: membership.get_joint_config().clone(),
            nodes: membership
                .nodes()
                .map(|(&id, peer)| (id, peer.address.clone()))
                .collect(),
        }
    }
}

impl TryFrom<MembershipRecord> for Membership {
    type Error = FormatError;

    fn try_from(record: MembershipRecord) -> Result<Self, FormatError> {
        if record.voters.is_empty() && record.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let nodes: BTreeMap<u64, Peer> = record
            .nodes
            .into_iter()
            .map(|(id, address)| (id, Peer { address }))
            .collect();
        Membership::new(record.voters, nodes)
            .map_err(|error| FormatError::Content(error.to_string()))
    }
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        VoteRecord {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            won: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Self {
        Vote {
            leader_id: LeaderId::new(record.term, record.node),
            committed: record.won,
        }
    }
}

impl From<&SnapshotMeta> for SnapshotRecord {
    fn from(meta: &SnapshotMeta) -> Self {
        SnapshotRecord {
            last: meta.last_log_id.as_ref().map(Position::from),
            membership_at: meta.last_membership.log_id().as_ref().map(Position::from),
            membership: meta.last_membership.membership().into(),
        }
    }
}

impl TryFrom<SnapshotRecord> for SnapshotMeta {
    type Error = FormatError;

    fn try_from(record: SnapshotRecord) -> Result<Self, FormatError> {
        Ok(SnapshotMeta {
            last_log_id: record.last.map(LogId::from),
            last_membership: StoredMembership::new(
                record.membership_at.map(LogId::from),
                record.membership.try_into()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests;
