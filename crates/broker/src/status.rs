//! What an operator may see of the data path, as plain data. Listings, the HTTP API and metrics read it.
//!
//! Counters only rise during the life of the object; rates are made by whoever samples them. Nodes send
//! each other these as they stand, so a change of a field is a new version of their listings.

pub mod word;

use std::net::SocketAddr;
use std::sync::Arc;

use amqp::Table;
use serde::{Deserialize, Serialize};
use word::Word;

use crate::id::{ConnectionId, Name, QueueId};

/// Message counters of an object, in messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub publish: u64,
    pub confirm: u64,
    pub return_unroutable: u64,
    pub drop_unroutable: u64,
    pub deliver: u64,
    pub deliver_no_ack: u64,
    pub get: u64,
    pub get_no_ack: u64,
    pub get_empty: u64,
    pub redeliver: u64,
    pub ack: u64,
    pub disk_reads: u64,
    pub disk_writes: u64,
}

impl std::ops::AddAssign<&Counters> for Counters {
    fn add_assign(&mut self, more: &Counters) {
        self.publish += more.publish;
        self.confirm += more.confirm;
        self.return_unroutable += more.return_unroutable;
        self.drop_unroutable += more.drop_unroutable;
        self.deliver += more.deliver;
        self.deliver_no_ack += more.deliver_no_ack;
        self.get += more.get;
        self.get_no_ack += more.get_no_ack;
        self.get_empty += more.get_empty;
        self.redeliver += more.redeliver;
        self.ack += more.ack;
        self.disk_reads += more.disk_reads;
        self.disk_writes += more.disk_writes;
    }
}

impl Counters {
    /// What was added since these were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Counters) -> Counters {
        Counters {
            publish: self.publish - earlier.publish,
            confirm: self.confirm - earlier.confirm,
            return_unroutable: self.return_unroutable - earlier.return_unroutable,
            drop_unroutable: self.drop_unroutable - earlier.drop_unroutable,
            deliver: self.deliver - earlier.deliver,
            deliver_no_ack: self.deliver_no_ack - earlier.deliver_no_ack,
            get: self.get - earlier.get,
            get_no_ack: self.get_no_ack - earlier.get_no_ack,
            get_empty: self.get_empty - earlier.get_empty,
            redeliver: self.redeliver - earlier.redeliver,
            ack: self.ack - earlier.ack,
            disk_reads: self.disk_reads - earlier.disk_reads,
            disk_writes: self.disk_writes - earlier.disk_writes,
        }
    }
}

/// A queue's contents and consumers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueueStatus {
    pub id: Option<QueueId>,
    pub messages_ready: u64,
    pub messages_unacked: u64,
    pub bytes_ready: u64,
    pub bytes_unacked: u64,
    /// Ready or unacked and marked persistent.
    pub messages_persistent: u64,
    pub bytes_persistent: u64,
    /// Held in memory (the rest is paged out).
    pub messages_ram: u64,
    pub messages_unacked_ram: u64,
    pub bytes_ram: u64,
    /// Estimated bytes of memory the queue takes.
    pub memory: u64,
    pub consumers: Vec<ConsumerStatus>,
    /// Share of time in which consumers could take a message at once, 0 to 1.
    pub consumer_capacity: f64,
    /// `timestamp` property of the message at the head, in seconds.
    pub head_message_timestamp: Option<u64>,
    /// Milliseconds since 1970 of the last activity, when idle.
    pub idle_since: Option<u64>,
    pub single_active_consumer_tag: Option<Vec<u8>>,
    pub exclusive_consumer_tag: Option<Vec<u8>>,
    pub counters: Counters,
    /// Ready messages per priority, lowest first; empty for an ordinary queue.
    pub priority_lengths: Vec<u64>,
}

/// A consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsumerStatus {
    pub connection: ConnectionId,
    pub channel: u16,
    pub tag: Vec<u8>,
    pub ack_required: bool,
    pub exclusive: bool,
    pub prefetch_count: u32,
    pub priority: i64,
    pub arguments: Table,
    /// False for those waiting behind a single active consumer.
    pub active: bool,
    /// `up`, `single_active` or `waiting`.
    #[serde(with = "word")]
    pub activity: Word,
}

/// A client connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionStatus {
    pub id: ConnectionId,
    /// `peer -> host`, as RabbitMQ names connections.
    pub name: Arc<str>,
    pub peer: SocketAddr,
    pub host: SocketAddr,
    pub vhost: Name,
    pub user: Name,
    #[serde(with = "word")]
    pub state: Word,
    #[serde(with = "word")]
    pub auth_mechanism: Word,
    pub client_properties: Arc<Table>,
    pub channels: Vec<ChannelStatus>,
    pub channel_max: u16,
    pub frame_max: u32,
    /// Negotiated heartbeat in seconds; 0 is off.
    pub heartbeat: u16,
    /// Milliseconds since 1970.
    pub connected_at: u64,
    pub received_bytes: u64,
    pub received_reads: u64,
    pub sent_bytes: u64,
    pub sent_writes: u64,
    pub send_pending_bytes: u64,
    pub tls: Option<Arc<TlsStatus>>,
}

/// The encrypted part of a connection, as listings show it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TlsStatus {
    pub protocol: String,
    pub key_exchange: String,
    pub cipher: String,
    pub hash: String,
    pub peer_cert_subject: Option<String>,
    pub peer_cert_issuer: Option<String>,
    pub peer_cert_validity: Option<String>,
}

/// A channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatus {
    pub number: u16,
    #[serde(with = "word")]
    pub state: Word,
    pub confirm: bool,
    pub transactional: bool,
    pub consumers: u32,
    pub messages_unacked: u64,
    pub messages_unconfirmed: u64,
    pub messages_uncommitted: u64,
    pub acks_uncommitted: u64,
    pub prefetch_count: u32,
    pub global_prefetch_count: u32,
    pub counters: Counters,
    /// Milliseconds since 1970 of the last activity, when idle.
    pub idle_since: Option<u64>,
}
