//! In one term of a queue one node delivers and confirms, and nobody delivers any more once a later term has.
//! Of what every copy has stored a former leader may still say so.

use std::collections::BTreeMap;

use broker::QueueId;
use cluster::metadata_log::NodeId;

/// Who served a queue in which term, and the last in which messages were delivered.
#[derive(Debug, Default)]
pub struct OneQueueLeaderPerEpoch {
    leaders: BTreeMap<(QueueId, u64), NodeId>,
    delivered: BTreeMap<QueueId, u64>,
    pub(super) failure: Option<String>,
}

impl OneQueueLeaderPerEpoch {
    /// A node that leads since this epoch confirms.
    pub fn confirms(&mut self, queue: QueueId, since: u64, node: NodeId) {
        let leader = *self.leaders.entry((queue, since)).or_insert(node);
        if leader != node {
            self.fail(format!("{node} and {leader} serve {queue:?} in term {since}"));
        }
    }

    /// It delivers.
    pub fn delivers(&mut self, queue: QueueId, since: u64, node: NodeId) {
        self.confirms(queue, since, node);
        let last = self.delivered.entry(queue).or_insert(since);
        let before = std::mem::replace(last, since.max(*last));
        if since < before {
            self.fail(format!("{node} delivers of {queue:?} in term {since}, after somebody has in term {before}"));
        }
    }

    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(format!("one queue leader per epoch: {what}"));
    }
}
