//! What a node tells about itself, as plain data. Units are those of the parent module.

use std::time::Duration;

use amqp::Properties;
use broker::status::{ConnectionStatus, Counters, QueueStatus, word};
use broker::status::word::Word;
use broker::{Name, QueueId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::host::NodeKind;

/// A queue as its leader sees it. The definition is in the tables.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueueReport {
    pub queue: Option<QueueId>,
    /// `running`, `flow`, `syncing`, `down`, `stopped` or `crashed`. The API shows `idle` by itself.
    #[serde(with = "word")]
    pub state: Word,
    pub status: QueueStatus,
    /// Mirrors as the leader sees them. Which of them are in sync is in the tables.
    pub mirrors: Vec<MirrorReport>,
    /// Nodes that hold an old copy which could be taken up by hand.
    pub recoverable: Vec<Name>,
    /// While the state is `syncing`: how many messages the mirror that is furthest behind has.
    pub sync_messages: Option<u64>,
}

/// A mirror of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorReport {
    pub node: Name,
    /// Messages that it lacks; `None` when that is not known.
    pub sync_messages_left: Option<u64>,
    pub sync_bytes_left: Option<u64>,
    /// How it catches up or has caught up: `full`, `incremental` or `event`; empty when it does not.
    #[serde(with = "word")]
    pub sync_strategy: Word,
}

/// A connection and the node it is connected to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionReport {
    pub node: Name,
    pub status: ConnectionStatus,
}

/// A message that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub redelivered: bool,
    pub exchange: Name,
    pub routing_key: Vec<u8>,
    pub properties: Properties,
    pub payload: Bytes,
    /// Messages still ready behind this one when it was taken.
    pub message_count: u64,
}

/// A node of the cluster. Of a stopped node only `name`, `kind`, `running` and `being_drained` mean
/// something.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: Name,
    pub kind: NodeKind,
    pub running: bool,
    /// Accepts no clients because an operator drains it.
    pub being_drained: bool,
    /// Serves clients: booted and not stopping.
    pub in_service: bool,
    /// Warren's version.
    pub version: String,
    pub uptime: Duration,
    pub os_pid: u32,
    /// Resident bytes of the process.
    pub memory_used: u64,
    /// Where the memory alarm is raised.
    pub memory_limit: u64,
    pub memory_alarm: bool,
    /// Memory of the machine or container.
    pub memory_total: u64,
    /// Bytes held by the allocator, used or not; 0 when unknown.
    pub memory_allocated: u64,
    /// Known shares of the memory by RabbitMQ's category names (`queue_procs`, `connection_other`,
    /// `binary`, …). The rest is shown as `other_system`. Known of this node alone.
    #[serde(skip)]
    pub memory_shares: Vec<(&'static str, u64)>,
    /// The watermark as configured, when it is relative.
    pub memory_watermark: Option<f64>,
    pub disk_free: u64,
    pub disk_free_limit: u64,
    pub disk_free_alarm: bool,
    pub fds_used: u64,
    pub fds_total: u64,
    pub sockets_used: u64,
    pub sockets_total: u64,
    /// Running tasks; shown where RabbitMQ counts Erlang processes.
    pub tasks: u64,
    /// Tasks that wait for a processor.
    pub run_queue: u64,
    pub processors: u32,
    pub context_switches: u64,
    /// Peers that this node considers partitioned from it.
    pub partitions: Vec<Name>,
    pub listeners: Vec<Listener>,
    pub data_dir: String,
    pub log_files: Vec<String>,
    pub config_files: Vec<String>,
    pub disk: DiskCounters,
    pub churn: Churn,
    pub links: Vec<Link>,
    pub auth_attempts: Vec<AuthAttempts>,
    /// Connections this node accepts at most; `None` is unlimited.
    pub connection_limit: Option<u64>,
    /// Nodes the cluster is meant to have (`cluster_formation.target_cluster_size_hint`).
    pub cluster_size_target: Option<u64>,
}

/// A port on which the node listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// RabbitMQ's protocol name: `amqp`, `amqp/ssl`, `http`, `https`, `http/prometheus`, `clustering`.
    #[serde(with = "word")]
    pub protocol: Word,
    /// Where it is bound, `::` for all addresses.
    pub interface: String,
    pub port: u16,
    pub backlog: u32,
}

/// Work of the store since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    pub reads: u64,
    pub read_bytes: u64,
    pub read_time: Duration,
    pub writes: u64,
    pub write_bytes: u64,
    pub write_time: Duration,
    pub syncs: u64,
    pub sync_time: Duration,
}

/// What came and went since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Churn {
    pub connections_created: u64,
    pub connections_closed: u64,
    pub channels_created: u64,
    pub channels_closed: u64,
    /// Declarations that found or made a queue.
    pub queues_declared: u64,
    pub queues_created: u64,
    pub queues_deleted: u64,
}

/// A connection between this node and a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub peer: Name,
    pub peer_address: String,
    pub peer_port: u16,
    pub own_address: String,
    pub own_port: u16,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// Logins since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthAttempts {
    /// `amqp091` or `http`.
    #[serde(with = "word")]
    pub protocol: Word,
    pub succeeded: u64,
    pub failed: u64,
}

/// Counters of the cluster. They include what objects that are gone have counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    pub messages: Counters,
    pub churn: Churn,
    pub vhosts: Vec<VhostCounters>,
    /// Exchanges that had traffic.
    pub exchanges: Vec<ExchangeCounters>,
}

/// Counters of a virtual host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VhostCounters {
    pub vhost: Name,
    pub messages: Counters,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// Counters of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeCounters {
    pub vhost: Name,
    pub exchange: Name,
    /// Messages published to it.
    pub publish_in: u64,
    /// Messages it passed on to queues.
    pub publish_out: u64,
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The listener that shows it.
    pub listener: Listener,
    /// `certfile` or `cacertfile`.
    pub kind: &'static str,
    pub path: String,
    /// When it ends, milliseconds since 1970.
    pub not_after: u64,
}
