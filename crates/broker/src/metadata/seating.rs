//! Which queues concern which node, kept beside the queues so that nobody has to look through all.
//!
//! Invariants: a pair is here exactly while the queue's view names the node as holding a copy; a
//! node's number of queue leaders is that of the views that it leads, stopped ones included.

use cluster::metadata_log::NodeId;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::view::View;
use crate::id::QueueId;

/// The queues by node.
#[derive(Clone, Debug, Default)]
pub struct Seating {
    pairs: RedBlackTreeSetSync<(NodeId, QueueId)>,
    leaders: RedBlackTreeMapSync<NodeId, u64>,
}

impl Seating {
    /// How many queues a node leads.
    #[must_use]
    pub fn leaders(&self, node: NodeId) -> u64 {
        self.leaders.get(&node).copied().unwrap_or_default()
    }

    /// The queues of which a node holds a copy, by id.
    pub fn queues(&self, node: NodeId) -> impl Iterator<Item = QueueId> + use<'_> {
        let range = (node, QueueId(0))..=(node, QueueId(u64::MAX));
        self.pairs.range(range).map(|(_, queue)| *queue)
    }

    pub(super) fn add(&mut self, queue: QueueId, view: &View) {
        for node in view.holders() {
            self.pairs.insert_mut((node, queue));
        }
        self.count(view.leader(), 1);
    }

    pub(super) fn remove(&mut self, queue: QueueId, view: &View) {
        for node in view.holders() {
            self.pairs.remove_mut(&(node, queue));
        }
        self.count(view.leader(), -1);
    }

    pub(super) fn replace(&mut self, queue: QueueId, old: &View, new: &View) {
        for node in old.holders() {
            if !new.holders().any(|holder| holder == node) {
                self.pairs.remove_mut(&(node, queue));
            }
        }
        for node in new.holders() {
            if !old.holders().any(|holder| holder == node) {
                self.pairs.insert_mut((node, queue));
            }
        }
        if old.leader() != new.leader() {
            self.count(old.leader(), -1);
            self.count(new.leader(), 1);
        }
    }

    fn count(&mut self, node: NodeId, by: i64) {
        match self.leaders(node).saturating_add_signed(by) {
            0 => {
                self.leaders.remove_mut(&node);
            }
            count => self.leaders.insert_mut(node, count),
        }
    }

    /// For tests: all pairs.
    #[cfg(test)]
    pub(super) fn pairs(&self) -> Vec<(NodeId, QueueId)> {
        self.pairs.iter().copied().collect()
    }

    /// For tests: the numbers of queue leaders that are not zero.
    #[cfg(test)]
    pub(super) fn counts(&self) -> Vec<(NodeId, u64)> {
        let counts = self.leaders.iter();
        counts.map(|(node, count)| (*node, *count)).collect()
    }
}
