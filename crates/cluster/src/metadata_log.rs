//! The door to the replicated log of metadata: commands in, one answer each, the same everywhere.
//!
//! A node proposes a command as opaque bytes. The log puts all commands of the cluster in one order
//! and hands each to every node's [`StateMachine`] exactly once per life of that machine. The
//! answer of the proposing node's machine is the answer to the proposal.
//!
//! What a log promises, and what its users may rely on:
//! - an answered proposal is durable: it survives the crash of any minority of voters, and of all
//!   of them at once if their disks survive;
//! - machines apply the same commands in the same order, so the same index means the same state;
//! - [`ProposeError::NotLeader`], [`ProposeError::NoLeader`] and [`ProposeError::TooLarge`] mean
//!   that the command was not and never will be applied; [`ProposeError::Unknown`] means that nobody can tell yet.
//!
//! Nothing here waits: an engine answers through the function handed to
//! [`MetadataLog::propose`], the simulator's model may do so late, or never while no majority is
//! reachable.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The largest command a log takes, in bytes. Whoever has more to say says it in several commands.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

/// A voter or learner of the metadata log. A number is never given to a second node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A node of the cluster as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its number in the log.
    pub id: NodeId,
    /// Where its peers reach it, in words the log does not read.
    pub address: String,
}

/// A snapshot that is yet to be written: holds a frozen view of the state, may take its time, and
/// runs beside further applying.
pub type PendingSnapshot = Box<dyn FnOnce() -> Bytes + Send>;

/// What the log's commands mean. Deterministic: same commands, same state, same answers, same
/// snapshot bytes.
pub trait StateMachine: Send + 'static {
    /// Applies `commands`, whose indices in the log are `index`, `index + 1` and so on, and returns
    /// one answer for each, in order. Indices rise from call to call but may leave gaps.
    fn apply(&mut self, index: u64, commands: &[Bytes]) -> Vec<Bytes>;

    /// Freezes the present state cheaply; the returned function turns it into bytes.
    fn snapshot(&self) -> PendingSnapshot;

    /// Replaces the whole state by that of `snapshot`. On an error the state is what it was.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;
}

/// Why a state machine does not accept a snapshot, for instance one of a later version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

/// Why a proposal has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none does. The command was not applied.
    #[error("this node does not lead the metadata log; leader: {}", leader_text(.leader.as_ref()))]
    NotLeader {
        /// Who leads as far as this node knows.
        leader: Option<Member>,
    },
    /// Nobody led who could be reached, for as long as this node waits. The command was not applied.
    #[error(
        "no leader of the metadata log for {:.1} s: too few of its voters can be reached; nothing was changed",
        waited.as_secs_f64()
    )]
    NoLeader {
        /// How long this node has waited.
        waited: std::time::Duration,
    },
    /// The command is larger than [`COMMAND_BYTES_MAX`]. It was not applied.
    #[error("metadata command of {size} bytes is over the limit of {COMMAND_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Leadership was lost while the command was under way, or its outcome was too long in coming:
    /// it may or may not take effect.
    #[error("leadership changed under way; whether the command takes effect is unknown")]
    Unknown,
    /// The log on this node has stopped, on request or because its disk failed. The command may or
    /// may not take effect after a restart.
    #[error("the metadata log has stopped: {reason}")]
    Stopped {
        /// What happened, and what to do where that can be said.
        reason: String,
    },
}

fn leader_text(leader: Option<&Member>) -> String {
    leader.map_or_else(
        || "none".to_owned(),
        |leader| format!("{} ({})", leader.id, leader.address),
    )
}

/// What an operator may see of the log on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// The term this node is in.
    pub term: u64,
    /// Who leads as far as this node knows.
    pub leader: Option<NodeId>,
    /// Index of the last entry in this node's log; 0 while there is none.
    pub last_index: u64,
    /// Term of the last entry in this node's log; 0 while there is none.
    pub last_term: u64,
    /// Which history the log belongs to; none while an empty node waits to be called.
    pub generation: Option<u64>,
    /// Index of the last entry this node's state machine has seen; 0 while there is none.
    pub applied: u64,
    /// Index of the last entry inside the newest snapshot; 0 while there is none.
    pub snapshot: u64,
    /// The learner without which the leader answers nothing, as set on this node.
    pub synchronous: Option<NodeId>,
    /// Whether this node leads and its synchronous learner does not hold all that was answered.
    pub lagging: bool,
    /// Who votes, in order of their numbers.
    pub voters: Vec<Member>,
    /// Who follows without a vote, in order of their numbers.
    pub learners: Vec<Member>,
    /// Why the log on this node has stopped, if it has.
    pub stopped: Option<String>,
}

/// Receives the outcome of a proposal, once. It must be quick: it runs on the log's own time.
pub type Answer = Box<dyn FnOnce(Result<Bytes, ProposeError>) + Send>;

/// The replicated log as seen by one node: the engine in production, a model in simulations.
pub trait MetadataLog {
    /// Proposes `command`. `answer` is called once the command is durable and applied here, or has
    /// failed.
    fn propose(&self, command: Bytes, answer: Answer);

    /// The state of the log on this node.
    fn status(&self) -> Status;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_leader_and_the_limit() {
        let leader = Some(Member {
            id: NodeId(7),
            address: "warren@b".to_owned(),
        });
        assert_eq!(
            ProposeError::NotLeader { leader }.to_string(),
            "this node does not lead the metadata log; leader: 7 (warren@b)"
        );
        assert_eq!(
            ProposeError::NotLeader { leader: None }.to_string(),
            "this node does not lead the metadata log; leader: none"
        );
        assert_eq!(
            ProposeError::TooLarge { size: 5_000_000 }.to_string(),
            "metadata command of 5000000 bytes is over the limit of 4194304"
        );
    }
}
