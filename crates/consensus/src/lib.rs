//! The metadata log of a node: `cluster::metadata_log` made real by openraft over a redb file.
//!
//! The only crate that knows either engine. [`start`] opens a folder, rebuilds the state machine
//! from snapshot and log, and returns once this node may serve; [`Consensus`] takes proposals.
//! A node alone is a cluster of one voter: same log, same code.
//!
//! Promises:
//! - a proposal is answered after its command is on disk at a majority of voters and applied here;
//!   every answered proposal is there after a crash;
//! - concurrent proposals share fsyncs; a lone voter's proposal waits for one;
//! - a lone voter at rest uses no timer and no CPU;
//! - after a disk error nothing more is answered: proposals fail with the file and the reason.

mod arrange;
mod consensus;
mod error;
mod format;
mod generation;
mod leading;
mod log;
mod machine;
mod network;
mod panics;
mod receive;
mod rpc;
mod snapshot;
mod start;
mod synchronous;
mod types;

use std::path::PathBuf;
use std::time::Duration;

pub use arrange::Role;
pub use cluster::metadata_log::{Member, NodeId, ProposeError, Status};
pub use consensus::{ChangeError, Consensus};
pub use error::StartError;
pub use generation::{Refounded, forget, generation, refound};
pub use network::{Alone, Network, UnreachableError};
pub use start::start;

/// How a node keeps its metadata log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the log's files; made if it is not there. One node's alone.
    pub data_dir: PathBuf,
    /// This node's number. The folder remembers it.
    pub node_id: NodeId,
    /// Where peers reach this node; the log stores it and does not read it.
    pub address: String,
    /// Whether an empty folder founds a cluster of this node alone. Otherwise the node waits for
    /// the leader of an existing cluster to call it.
    pub found_cluster: bool,
    /// Commands after which the next snapshot is taken and the log cut.
    pub snapshot_entries: u64,
    /// Bytes of commands after which the next snapshot is taken and the log cut.
    pub snapshot_bytes: u64,
    /// How often a leader with followers shows that it lives.
    pub heartbeat: Duration,
    /// Without a sign of the leader for this long, up to twice as long, a follower stands for
    /// election. At least three heartbeats.
    pub election_timeout: Duration,
    /// How long a proposal waits for a leader and for its outcome.
    pub propose_timeout: Duration,
    /// How long a change of membership may take, newcomers' catching up included.
    pub arrange_timeout: Duration,
    /// A synchronous learner without progress for this long is not waited for.
    pub lag_timeout: Duration,
    /// The generation of the log: of a founder, what it shall be, or else a random number; of a
    /// newcomer, the only one it joins, or else that of the first leader to call it.
    pub generation: Option<u64>,
}

impl Options {
    /// The usual options: found a cluster, snapshot each 10,000 commands or 16 MiB, heartbeat each
    /// 150 ms, elect after 500 to 1,000 ms of silence, wait 10 s for a leader, a minute for changes
    /// of membership, and 1 s for a synchronous learner.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, node_id: NodeId, address: impl Into<String>) -> Self {
        Options {
            data_dir: data_dir.into(),
            node_id,
            address: address.into(),
            found_cluster: true,
            snapshot_entries: 10_000,
            snapshot_bytes: 16 << 20,
            heartbeat: Duration::from_millis(150),
            election_timeout: Duration::from_millis(500),
            propose_timeout: Duration::from_secs(10),
            arrange_timeout: Duration::from_secs(60),
            lag_timeout: Duration::from_secs(1),
            generation: None,
        }
    }
}
