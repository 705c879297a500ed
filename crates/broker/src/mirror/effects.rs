//! What replicas of a queue ask of their node.

use cluster::metadata_log::NodeId;
use store::Batch;

use super::packet::Packet;
use super::runs::Runs;
use crate::metadata::ViewChange;
use crate::queue::Load;

/// Comes back when the batch that it went with is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A publication of the ring: its publisher and number.
    Ring { publisher: u64, number: u64 },
    /// A step of a feed.
    Step { feed: u64, number: u64 },
}

/// Messages of an old copy that are to be put back, while the queue is of this lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    pub lineage: u64,
    pub runs: Vec<(u8, Runs)>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the same queue on other nodes.
    pub to_peers: Vec<(NodeId, Packet)>,
    /// For the log, in order.
    pub store: Vec<(Batch, Report)>,
    /// The queue's batches up to this ticket are complete.
    pub complete: Option<u64>,
    /// Which sequences does the store hold? For the feed of this node, or for the follower itself.
    pub survey: Vec<(NodeId, u64)>,
    /// Messages to be read for the feed of a node.
    pub loads: Vec<(NodeId, u64, Load)>,
    /// Changes of the view, each with the epoch of the view that it was judged by: with another view it may be wrong.
    pub proposals: Vec<(u64, ViewChange)>,
    /// What this node's old copy holds, by level, and the queue's lineage never had: it goes into the
    /// queue again, and when all of it is confirmed the copy is merged.
    pub put_back: Option<PutBack>,
    /// Something that should not happen, for the log.
    pub complaints: Vec<&'static str>,
    /// What is waited for, and has been for long; for the log.
    pub waits: Vec<String>,
}

impl Effects {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_peers.is_empty()
            && self.store.is_empty()
            && self.complete.is_none()
            && self.survey.is_empty()
            && self.loads.is_empty()
            && self.proposals.is_empty()
            && self.put_back.is_none()
            && self.complaints.is_empty()
            && self.waits.is_empty()
    }
}
