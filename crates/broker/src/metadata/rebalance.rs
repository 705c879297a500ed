//! Spreading queue leaders evenly over the nodes, by handing over to mirrors that are in sync.
//!
//! No node should lead more than its share: the mirrored queues divided by the nodes that take queues,
//! rounded up. Whoever leads more gives away its smallest queues first, each to the mirror whose node
//! leads the fewest. A queue without a mirror in sync elsewhere stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::metadata_log::NodeId;

use super::reconcile::Step;
use super::tables::{Queue, Tables};
use super::view::ViewChange;
use crate::id::QueueId;
use crate::permission::Pattern;

/// The queues to be looked at: those whose virtual host and name match.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    pub vhost: Option<&'a Pattern>,
    pub queue: Option<&'a Pattern>,
}

/// A queue leader that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub step: Step,
    pub from: NodeId,
    pub to: NodeId,
}

impl Scope<'_> {
    fn has(&self, queue: &Queue) -> bool {
        let matches = |pattern: Option<&Pattern>, name: &str| {
            pattern.is_none_or(|pattern| pattern.source.is_empty() || pattern.is_match(name))
        };
        let is_mirrored = queue.mirroring.is_some() && queue.view.is_running();
        is_mirrored && matches(self.vhost, &queue.vhost) && matches(self.queue, &queue.name)
    }
}

impl Tables {
    /// The moves that spread the leaders of these queues evenly. `messages` says how many messages a
    /// queue has.
    #[must_use]
    pub fn rebalance(&self, scope: Scope<'_>, messages: impl Fn(QueueId) -> u64) -> Vec<Move> {
        let takers: Vec<NodeId> = self
            .nodes
            .up_for_queues()
            .filter(|node| !node.draining)
            .map(|node| node.id)
            .collect();
        let mut led: BTreeMap<NodeId, Vec<&Arc<Queue>>> = BTreeMap::new();
        for vhost in self.vhosts.values() {
            for queue in vhost.queues.values().filter(|queue| scope.has(queue)) {
                led.entry(queue.leader()).or_default().push(queue);
            }
        }
        let all: usize = led.values().map(Vec::len).sum();
        if takers.is_empty() {
            return Vec::new();
        }
        let share = all.div_ceil(takers.len());
        let mut counts: BTreeMap<NodeId, usize> = led
            .iter()
            .map(|(node, queues)| (*node, queues.len()))
            .collect();
        let mut moves = Vec::new();
        for (from, mut queues) in led {
            queues.sort_by_key(|queue| (messages(queue.id), queue.id));
            for queue in queues {
                if counts[&from] <= share {
                    break;
                }
                let Some(to) = self.taker(queue, &takers, &counts, share) else {
                    continue;
                };
                *counts.entry(from).or_default() -= 1;
                *counts.entry(to).or_default() += 1;
                let step = Step {
                    queue: queue.id,
                    epoch: queue.view.epoch,
                    change: ViewChange::Transfer(to),
                };
                moves.push(Move { step, from, to });
            }
        }
        moves
    }

    /// The mirror that should lead a queue: in sync, wanted there by the policy, on the node that leads
    /// the fewest.
    fn taker(
        &self,
        queue: &Queue,
        takers: &[NodeId],
        counts: &BTreeMap<NodeId, usize>,
        share: usize,
    ) -> Option<NodeId> {
        let count = |node: &NodeId| counts.get(node).copied().unwrap_or_default();
        let wanted = self.desired(queue, 0).mirrors;
        let mirrors = queue.view.mirrors();
        mirrors
            .filter(|node| takers.contains(node) && wanted.contains(node))
            .filter(|node| count(node) < share)
            .min_by_key(|node| (count(node), *node))
    }
}
