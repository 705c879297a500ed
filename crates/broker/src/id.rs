//! Identities. Numbers are types, so that a queue is never mistaken for a connection.

use std::sync::Arc;

use cluster::metadata_log::NodeId;
use serde::{Deserialize, Serialize};

/// A name of a virtual host, exchange, queue, user or policy: UTF-8, at most 255 bytes, shared.
pub type Name = Arc<str>;

/// One life of one queue. A queue deleted and declared again has another id; ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub u64);

/// A client connection, unique in the cluster: the node's number in the upper 16 bits, the lower 16
/// bits of its incarnation in the next, a count in the lower half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The `count`-th connection of one life of a node. Node and incarnation keep 16 bits each, the
    /// count 32.
    #[must_use]
    pub const fn of(node: NodeId, incarnation: u64, count: u64) -> ConnectionId {
        let life = (node.0 & 0xFFFF) << 48 | (incarnation & 0xFFFF) << 32;
        ConnectionId(life | count & 0xFFFF_FFFF)
    }

    /// The node that the client is connected to.
    #[must_use]
    pub const fn node(self) -> NodeId {
        NodeId(self.0 >> 48)
    }

    /// The last 16 bits of the number of that node's life.
    #[must_use]
    pub const fn incarnation(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Whether the connection belongs to this life of this node.
    #[must_use]
    pub const fn is_of(self, node: NodeId, incarnation: u64) -> bool {
        self.0 >> 32 == ConnectionId::of(node, incarnation, 0).0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_knows_its_node_and_life() {
        let id = ConnectionId::of(NodeId(3), 0x1_0002, 7);
        assert_eq!(id, ConnectionId(0x0003_0002_0000_0007));
        assert_eq!((id.node(), id.incarnation()), (NodeId(3), 2));
        assert!(id.is_of(NodeId(3), 2) && id.is_of(NodeId(3), 0x1_0002));
        assert!(!id.is_of(NodeId(3), 3) && !id.is_of(NodeId(4), 2));
    }
}
