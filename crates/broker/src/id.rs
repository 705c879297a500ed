//! Identities. Numbers are types, so that a queue is never mistaken for a connection.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name of a virtual host, exchange, queue, user or policy: UTF-8, at most 255 bytes, shared.
pub type Name = Arc<str>;

/// One life of one queue. A queue deleted and declared again has another id; ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub u64);

/// A client connection, unique in the cluster: the node's number and incarnation in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);
