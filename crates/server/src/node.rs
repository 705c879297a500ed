//! What all tasks of a node share: frozen tables, registries of queues and connections, the ways to
//! the log and to consensus. Nothing here is on the path of a single message.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use broker::connection::{Limits, OpenCounts};
use broker::message::Message;
use broker::metadata::{Command, Outcome, Refusal, Tables, decode_answer};
use broker::queue::{ChannelEvent, ChannelKey, QueueEvent};
use broker::status::{ConnectionStatus, QueueStatus};
use broker::{ConnectionId, Name, QueueId};
use bytes::Bytes;
use consensus::{Consensus, ProposeError};
use parking_lot::RwLock;
use tokio::sync::{Notify, oneshot, watch};

use crate::alarms::Resources;
use crate::config::Config;
use crate::log_writer::LogWriter;
use crate::mailbox::Mailbox;
use crate::provision;

/// What a queue's task hears.
pub(crate) enum QueueMail {
    Event(QueueEvent),
    /// For the delays only.
    Delay(crate::delay_driver::Entry),
    Status(oneshot::Sender<QueueStatus>),
    /// The definition changed (policies).
    Record(Arc<broker::metadata::Queue>),
    /// The queue is deleted.
    Deleted,
    /// The node stops; answer when everything is handed to the log.
    Stop(oneshot::Sender<()>),
}

/// What a connection's task hears.
pub(crate) enum ConnectionMail {
    Channel(ChannelEvent),
    DirectReply { channel: ChannelKey, proof: u64, message: Message },
    Status(oneshot::Sender<ConnectionStatus>),
    Close(String),
    /// The alarm state changed.
    Alarm(Option<Arc<str>>),
}

/// A queue as others see it.
pub(crate) struct QueueHandle {
    pub mailbox: Arc<Mailbox<QueueMail>>,
}

/// A connection as others see it.
pub(crate) struct ConnectionHandle {
    pub mailbox: Arc<Mailbox<ConnectionMail>>,
    pub identity: RwLock<Option<(Name, Name)>>,
    /// How many channels are open.
    pub channels: AtomicU64,
}

impl ConnectionHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox<ConnectionMail>>) -> ConnectionHandle {
        ConnectionHandle { mailbox, identity: RwLock::new(None), channels: AtomicU64::new(0) }
    }
}

/// See the file's head.
pub(crate) struct Node {
    pub name: Name,
    pub config: Config,
    pub limits: Arc<Limits>,
    pub tables: Arc<ArcSwap<Tables>>,
    pub log: LogWriter,
    pub consensus: std::sync::OnceLock<Consensus>,
    pub queues: RwLock<HashMap<QueueId, Arc<QueueHandle>>>,
    pub connections: RwLock<HashMap<ConnectionId, Arc<ConnectionHandle>>>,
    /// Partners of queues that are no client connections.
    pub desks: RwLock<HashMap<ConnectionId, Arc<ConnectionHandle>>>,
    pub resources: Resources,
    /// Thresholds changed: measure at once.
    pub recheck: Notify,
    pub listeners: RwLock<Vec<management::node::Listener>>,
    /// TLS of listeners, for certificates and their renewal.
    pub tls: RwLock<Vec<(management::node::Listener, Arc<crate::tls::Tls>)>>,
    pub alarm: watch::Sender<Option<Arc<str>>>,
    pub stopping: Notify,
    pub is_stopping: AtomicBool,
    pub counters: NodeCounters,
    pub memory_budget: AtomicU64,
    next_connection: AtomicU64,
    /// Which life of the node this is: part of connection ids.
    life: u64,
}

/// What came and went since the node started.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    pub connections_created: AtomicU64,
    pub connections_closed: AtomicU64,
    pub channels_created: AtomicU64,
    pub channels_closed: AtomicU64,
    pub queues_declared: AtomicU64,
    pub queues_created: AtomicU64,
    pub queues_deleted: AtomicU64,
    pub logins: AtomicU64,
    pub logins_failed: AtomicU64,
}

/// Why a command has no outcome.
#[derive(Debug)]
pub(crate) enum ProposeFailure {
    Refused(Refusal),
    Unavailable(String),
}

impl Node {
    pub(crate) fn new(name: Name, config: Config, limits: Limits, log: LogWriter, tables: Arc<ArcSwap<Tables>>) -> Node {
        Node {
            name,
            config,
            limits: Arc::new(limits),
            tables,
            log,
            consensus: std::sync::OnceLock::new(),
            queues: RwLock::new(HashMap::new()),
            connections: RwLock::new(HashMap::new()),
            desks: RwLock::new(HashMap::new()),
            resources: Resources::default(),
            recheck: Notify::new(),
            listeners: RwLock::new(Vec::new()),
            tls: RwLock::new(Vec::new()),
            alarm: watch::Sender::new(None),
            stopping: Notify::new(),
            is_stopping: AtomicBool::new(false),
            counters: NodeCounters::default(),
            memory_budget: AtomicU64::new(256 << 20),
            next_connection: AtomicU64::new(1),
            life: crate::clock::unix_millis() / 1000 & 0xFF_FFFF,
        }
    }

    /// A connection id that no other life of this node has used: exclusive queues name their owner.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        let count = self.next_connection.fetch_add(1, Ordering::Relaxed);
        ConnectionId((self.life << 40) | count)
    }

    /// Proposes a change of metadata and waits until it is applied here.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, ProposeFailure> {
        let Some(consensus) = self.consensus.get() else {
            return Err(ProposeFailure::Unavailable("the node is starting".to_owned()));
        };
        let (command, asked) = provision::complete(self, command).map_err(ProposeFailure::Refused)?;
        let answer = consensus.propose(Bytes::from(command.encode())).await;
        let answer = answer.map_err(|error: ProposeError| ProposeFailure::Unavailable(error.to_string()))?;
        match decode_answer(&answer) {
            Ok(Ok(outcome)) => asked.answer(outcome).map_err(ProposeFailure::Refused),
            Ok(Err(refusal)) => Err(ProposeFailure::Refused(refusal)),
            Err(error) => Err(ProposeFailure::Unavailable(error.to_string())),
        }
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<Arc<QueueHandle>> {
        self.queues.read().get(&id).map(Arc::clone)
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<ConnectionHandle>> {
        let found = self.connections.read().get(&id).map(Arc::clone);
        found.or_else(|| self.desks.read().get(&id).map(Arc::clone))
    }

    /// Bytes of ready messages that one queue may keep in memory.
    pub(crate) fn queue_budget(&self) -> u64 {
        let queues = self.queues.read().len().max(1) as u64;
        (self.memory_budget.load(Ordering::Relaxed) / queues).clamp(64 << 10, 32 << 20)
    }

    /// Counts for the limits that are checked when a connection opens.
    pub(crate) fn open_counts(&self, user: &str, vhost: Option<&str>) -> OpenCounts {
        let connections = self.connections.read();
        let mut counts = OpenCounts {
            of_node: connections.len() as u64,
            node_max: self.config.limits.connection_max,
            ..OpenCounts::default()
        };
        for handle in connections.values() {
            counts.node_channels += handle.channels.load(Ordering::Relaxed);
            if let Some((its_user, its_vhost)) = &*handle.identity.read() {
                let same_user = &**its_user == user;
                counts.of_user += u64::from(same_user);
                counts.user_channels += if same_user { handle.channels.load(Ordering::Relaxed) } else { 0 };
                counts.of_vhost += u64::from(vhost.is_some_and(|v| &**its_vhost == v));
            }
        }
        counts
    }

    /// Begins an orderly stop.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.stopping.notify_waiters();
    }
}
