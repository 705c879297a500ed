//! The engine's type parameters, chosen once: opaque commands in, opaque answers out, numbered
//! nodes with an address. Nothing outside this crate sees these names.

use bytes::Bytes;
use cluster::metadata_log::{Member, NodeId};

openraft::declare_raft_types!(
    /// openraft's name for "all of the above".
    pub(crate) Types:
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = openraft::impls::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;

/// A command of the state machine, which the log does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The state machine's answer; empty for entries that are the engine's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Bytes);

/// What the membership of the log records of each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: String,
}

impl Peer {
    pub(crate) fn to_member(&self, id: u64) -> Member {
        Member {
            id: NodeId(id),
            address: self.address.clone(),
        }
    }
}
