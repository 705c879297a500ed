//! In one term of a queue one node delivers and confirms; and nobody does any more once a later term has.

use std::collections::BTreeMap;

use broker::QueueId;
use cluster::metadata_log::NodeId;

/// The last term in which a queue was served, and by whom.
#[derive(Debug, Default)]
pub struct OneQueueLeaderPerEpoch {
    last: BTreeMap<QueueId, (u64, NodeId)>,
    pub(super) failure: Option<String>,
}

impl OneQueueLeaderPerEpoch {
    /// A node that leads since this epoch delivers or confirms.
    pub fn serves(&mut self, queue: QueueId, since: u64, node: NodeId) {
        let last = self.last.entry(queue).or_insert((since, node));
        if since < last.0 || (since == last.0 && node != last.1) {
            let what = format!("one queue leader per epoch: {node} serves {queue:?} in term {since}, after {} in {}", last.1, last.0);
            self.failure.get_or_insert(what);
        }
        *last = (*last).max((since, node));
    }
}
