//! What nodes have to do, for strategies of placement that look at it.
//!
//! Every node tells the others each second, with where its side of the cluster stands
//! ([`crate::wire::Standing`]). What is older than [`STALE`] is not known: the node is cut off, or hangs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::metadata::Load;
use cluster::metadata_log::NodeId;
use stdx::Time;

use crate::clock;
use crate::node::Node;
use crate::partition::Met;

/// Others tell each second; what they told so long ago is not known any more.
const STALE: Duration = Duration::from_secs(5);

/// What this node has to do.
pub(crate) fn own(node: &Node) -> Load {
    let leading = node.leading.read();
    Load {
        messages: leading.values().map(|queue| queue.messages.load(Ordering::Relaxed)).sum(),
        connections: node.connections.read().len() as u64,
    }
}

/// What a node has to do, as far as this one knows.
pub(crate) fn of(node: &Node, member: NodeId) -> Option<Load> {
    if member == node.id() {
        return Some(own(node));
    }
    told(node.met.lock().get(&member)?, clock::awake())
}

fn told(met: &Met, now: Time) -> Option<Load> {
    let load = Load { messages: met.standing.messages?, connections: met.standing.connections };
    (now.since(met.at) < STALE).then_some(load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Standing;

    #[test]
    fn what_was_told_long_ago_is_not_known() {
        let at = Time::from_nanos(1);
        let standing = |messages| Standing { connections: 2, messages, ..Standing::default() };
        let met = Met { standing: standing(Some(7)), at };
        let load = Some(Load { messages: 7, connections: 2 });
        assert_eq!(told(&met, at), load);
        assert_eq!(told(&met, at + (STALE - Duration::from_millis(1))), load);
        assert_eq!(told(&met, at + STALE), None);
        // A node of an earlier version does not say.
        assert_eq!(told(&Met { standing: standing(None), at }, at), None);
    }
}
