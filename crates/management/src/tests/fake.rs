//! A node in memory: the real metadata and the real routing, and queues that are lists.

mod host;
mod node;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use amqp::{PropertiesView, Table};
use broker::exchange::{Routing, route};
use broker::metadata::{Command, Metadata, Outcome, Refusal};
use broker::status::{ChannelStatus, ConnectionStatus, ConsumerStatus, Counters, QueueStatus};
use broker::{ConnectionId, Name, QueueId, user};

use crate::host::{AppState, HostFailure, LastKnown};
use crate::node::{
    AuthAttempts, Certificate, Churn, ClusterFacts, ConnectionReport, ExchangeCounters, Fetched,
    Listener, Member, MirrorReport, NodeStatus, Publish, QueueReport, Settle, Verdict,
};

pub(super) const NODE: &str = "warren@here";
/// 2026-11-20T23:31:51.464 UTC
pub(super) const NOW: u64 = 1_795_217_511_464;

pub(super) struct Fake(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) metadata: Metadata,
    index: u64,
    pub(super) now: u64,
    contents: BTreeMap<QueueId, Contents>,
    exchanges: BTreeMap<(Name, Name), ExchangeCounters>,
    vhosts: BTreeMap<Name, Counters>,
    pub(super) connections: Vec<ConnectionReport>,
    pub(super) nodes: Vec<NodeStatus>,
    pub(super) certificates: Vec<Certificate>,
    /// Calls of methods that only the operator causes.
    pub(super) log: Vec<String>,
    pub(super) unavailable: bool,
    pub(super) cluster: ClusterFacts,
    /// What the process and the cluster answer to every change.
    pub(super) refusal: Option<HostFailure>,
    pub(super) app: Option<AppState>,
    pub(super) last_known: LastKnown,
    /// What queues' leaders know of their mirrors, by queue.
    pub(super) mirrors: BTreeMap<Name, Vec<MirrorReport>>,
}

#[derive(Default)]
struct Contents {
    ready: VecDeque<(Publish, bool)>,
    counters: Counters,
    consumers: Vec<ConsumerStatus>,
}

impl Fake {
    pub(super) fn new() -> Fake {
        let mut state = State {
            now: NOW,
            nodes: vec![node_status(NODE)],
            cluster: ClusterFacts {
                members: vec![member(NODE, Verdict::Own)],
                has_quorum: true,
                ..ClusterFacts::default()
            },
            ..State::default()
        };
        state.apply(Command::NodeStarted { node: NODE.into() });
        state.apply(Command::PutVhost(broker::metadata::VhostSpec {
            name: "/".into(),
            description: Some("Default virtual host".to_owned()),
            ..Default::default()
        }));
        let fake = Fake(Mutex::new(state));
        fake.add_user("guest", &["administrator"]);
        fake.grant("guest", "/", ".*");
        fake
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A user whose password is its name.
    pub(super) fn add_user(&self, name: &str, tags: &[&str]) {
        let hashing = user::Hashing::Sha256;
        self.state()
            .apply(Command::PutUser(broker::metadata::UserSpec {
                name: name.into(),
                password_hash: hashing.hash([1, 2, 3, 4], name.as_bytes()),
                hashing_algorithm: hashing.name().into(),
                tags: tags.iter().map(|tag| Name::from(*tag)).collect(),
                create_only: false,
            }));
    }

    /// The same pattern for all three rights.
    pub(super) fn grant(&self, user: &str, vhost: &str, pattern: &str) {
        let pattern = || pattern.to_owned();
        self.state().apply(Command::SetPermission {
            vhost: vhost.into(),
            user: user.into(),
            configure: pattern(),
            write: pattern(),
            read: pattern(),
        });
    }

    pub(super) fn put_vhost(&self, name: &str) {
        let spec = broker::metadata::VhostSpec {
            name: name.into(),
            ..Default::default()
        };
        self.state().apply(Command::PutVhost(spec));
    }

    /// A plain queue.
    pub(super) fn declare(&self, vhost: &str, name: &str) {
        let spec = queue_spec(name, None);
        self.state().apply(Command::DeclareQueue {
            vhost: vhost.into(),
            spec,
        });
    }

    /// Declares an exclusive queue of a connection.
    pub(super) fn declare_exclusive(&self, name: &str, connection: u64) {
        let spec = queue_spec(name, Some(ConnectionId(connection)));
        self.state().apply(Command::DeclareQueue {
            vhost: "/".into(),
            spec,
        });
    }

    pub(super) fn declare_exchange(&self, vhost: &str, name: &str, kind: &str) {
        let spec = broker::metadata::ExchangeSpec {
            name: name.into(),
            kind: kind.into(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        self.state().apply(Command::DeclareExchange {
            vhost: vhost.into(),
            spec,
        });
    }

    /// Binds a queue.
    pub(super) fn bind(&self, vhost: &str, source: &str, queue: &str, routing_key: &str) {
        self.state().apply(Command::Bind {
            vhost: vhost.into(),
            source: source.into(),
            destination: broker::metadata::Destination::Queue(queue.into()),
            routing_key: routing_key.as_bytes().to_vec(),
            arguments: Table::new(),
        });
    }

    /// A connection of `user` to `/` with one channel.
    pub(super) fn connect(&self, id: u64, user: &str) -> Arc<str> {
        let name: Arc<str> = format!("127.0.0.1:{} -> 127.0.0.1:5672", 50_000 + id).into();
        let capabilities = Table::new().with("basic.nack", true);
        let properties = Table::new()
            .with("capabilities", capabilities)
            .with("connection_name", format!("app-{id}"));
        let channel = ChannelStatus {
            number: 1,
            state: "running",
            confirm: true,
            consumers: 1,
            prefetch_count: 20,
            messages_unacked: 1,
            counters: Counters {
                publish: 7,
                confirm: 7,
                deliver: 2,
                ack: 1,
                ..Default::default()
            },
            idle_since: Some(NOW),
            ..Default::default()
        };
        let status = ConnectionStatus {
            id: ConnectionId(id),
            name: Arc::clone(&name),
            peer: ([127, 0, 0, 1], 50_000 + u16::try_from(id).unwrap()).into(),
            host: ([127, 0, 0, 1], 5672).into(),
            vhost: "/".into(),
            user: user.into(),
            state: "running",
            auth_mechanism: "PLAIN",
            client_properties: Arc::new(properties),
            channels: vec![channel],
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
            connected_at: NOW,
            received_bytes: 6458,
            received_reads: 265,
            sent_bytes: 25_780,
            sent_writes: 284,
            send_pending_bytes: 0,
            tls: None,
        };
        self.state().connections.push(ConnectionReport {
            node: NODE.into(),
            status,
        });
        name
    }

    /// Notes a call that changes something, and answers as the test wants it.
    pub(super) fn change<E: From<HostFailure>>(&self, call: String) -> Result<(), E> {
        let mut state = self.state();
        state.log.push(call);
        Ok(state.refuse()?)
    }

    /// A consumer of a queue in `/` on channel 1 of a connection.
    pub(super) fn consume(&self, queue: &str, connection: u64) {
        let mut state = self.state();
        let queue = state.metadata.tables().queue("/", queue).unwrap().id;
        state
            .contents
            .entry(queue)
            .or_default()
            .consumers
            .push(ConsumerStatus {
                connection: ConnectionId(connection),
                channel: 1,
                tag: b"ctag".to_vec(),
                ack_required: true,
                exclusive: false,
                prefetch_count: 20,
                priority: 3,
                arguments: Table::new().with("x-priority", 3i64),
                active: true,
                activity: "up",
            });
    }
}

fn queue_spec(name: &str, owner: Option<ConnectionId>) -> broker::metadata::QueueSpec {
    broker::metadata::QueueSpec {
        name: name.into(),
        durable: false,
        auto_delete: false,
        exclusive: owner.is_some(),
        connection: owner,
        arguments: Table::new(),
        node: NODE.into(),
    }
}

impl State {
    pub(super) fn apply(&mut self, command: Command) -> Outcome {
        self.try_apply(&command)
            .expect("the test's own commands are good")
    }

    fn try_apply(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        self.index += 1;
        self.metadata.apply(self.index, command).0
    }

    /// Another node of the cluster, which runs and votes.
    pub(super) fn add_node(&mut self, name: &str) {
        self.apply(Command::NodeStarted { node: name.into() });
        self.nodes.push(node_status(name));
        self.cluster.members.push(member(name, Verdict::Alive));
    }

    /// The process of a node ends.
    pub(super) fn stop_node(&mut self, name: &str) {
        for node in self.nodes.iter_mut().filter(|it| *it.name == *name) {
            node.running = false;
        }
        for member in self
            .cluster
            .members
            .iter_mut()
            .filter(|it| *it.name == *name)
        {
            member.running = false;
            member.verdict = Verdict::Down;
        }
    }

    pub(super) fn refuse(&self) -> Result<(), HostFailure> {
        self.refusal.clone().map_or(Ok(()), Err)
    }

    /// Differs after any change that a request could make.
    pub(super) fn fingerprint(&self) -> (u64, u64, usize, usize) {
        let messages = self
            .contents
            .values()
            .map(|it| it.ready.len() as u64 + it.counters.get);
        let revision = self.metadata.tables().revision;
        (
            revision,
            messages.sum(),
            self.connections.len(),
            self.log.len(),
        )
    }

    fn report(&self, queue: QueueId) -> QueueReport {
        let empty = Contents::default();
        let contents = self.contents.get(&queue).unwrap_or(&empty);
        let messages_ready = contents.ready.len() as u64;
        let bytes_ready = contents
            .ready
            .iter()
            .map(|(it, _)| it.payload.len() as u64)
            .sum();
        let status = QueueStatus {
            id: Some(queue),
            messages_ready,
            bytes_ready,
            messages_ram: messages_ready,
            bytes_ram: bytes_ready,
            memory: 1000,
            consumers: contents.consumers.clone(),
            counters: contents.counters.clone(),
            idle_since: Some(NOW),
            priority_lengths: self.priority_lengths(queue, messages_ready),
            ..QueueStatus::default()
        };
        let tables = self.metadata.tables();
        let found = tables.queues.get(&queue);
        let mirrors = found.and_then(|it| self.mirrors.get(&it.name));
        QueueReport {
            queue: Some(queue),
            state: "running",
            status,
            mirrors: mirrors.cloned().unwrap_or_default(),
            ..QueueReport::default()
        }
    }

    /// All messages have priority 0.
    fn priority_lengths(&self, queue: QueueId, ready: u64) -> Vec<u64> {
        let tables = self.metadata.tables();
        let max = tables
            .queues
            .get(&queue)
            .and_then(|queue| queue.settings.priority_max);
        max.map_or_else(Vec::new, |max| {
            let mut lengths = vec![0; usize::from(max) + 1];
            lengths[0] = ready;
            lengths
        })
    }

    fn publish(&mut self, message: Publish) -> bool {
        let tables = self.metadata.tables();
        let vhost = tables.vhosts.get(&message.vhost).unwrap();
        let exchange = vhost.exchanges.get(&message.exchange).unwrap();
        let bytes = message.properties.to_bytes();
        let properties = PropertiesView::parse(&bytes).unwrap();
        let keys: &[&[u8]] = &[&message.routing_key];
        let mut queues = Vec::new();
        let routing = Routing {
            keys,
            properties: &properties,
            random: 0,
        };
        route(&tables, vhost, exchange, &routing, &mut queues);
        self.vhosts
            .entry(message.vhost.clone())
            .or_default()
            .publish += 1;
        let key = (message.vhost.clone(), message.exchange.clone());
        let counters = self
            .exchanges
            .entry(key.clone())
            .or_insert_with(|| ExchangeCounters {
                vhost: key.0,
                exchange: key.1,
                ..ExchangeCounters::default()
            });
        counters.publish_in += 1;
        counters.publish_out += queues.len() as u64;
        for queue in &queues {
            let contents = self.contents.entry(queue.id).or_default();
            contents.ready.push_back((message.clone(), false));
            contents.counters.publish += 1;
        }
        !queues.is_empty()
    }

    fn get(&mut self, queue: QueueId, count: u32, settle: Settle) -> Vec<Fetched> {
        let contents = self.contents.entry(queue).or_default();
        let count = contents.ready.len().min(count as usize);
        let taken: Vec<_> = contents.ready.drain(..count).collect();
        contents.counters.get += count as u64;
        if let Some((message, _)) = taken.first() {
            let vhost = self.vhosts.entry(message.vhost.clone()).or_default();
            vhost.get += count as u64;
        }
        let left = contents.ready.len() as u64;
        if settle == Settle::Requeue {
            for (message, _) in taken.iter().rev() {
                contents.ready.push_front((message.clone(), true));
            }
        }
        let fetched = |(place, (message, redelivered)): (usize, &(Publish, bool))| Fetched {
            redelivered: *redelivered,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            properties: message.properties.clone(),
            payload: message.payload.clone(),
            message_count: left + (count - 1 - place) as u64,
        };
        taken.iter().enumerate().map(fetched).collect()
    }
}

/// A running voter.
pub(super) fn member(name: &str, verdict: Verdict) -> Member {
    Member {
        name: name.into(),
        running: true,
        verdict,
        ..Member::default()
    }
}

pub(super) fn node_status(name: &str) -> NodeStatus {
    let listener = |protocol, port| Listener {
        protocol,
        interface: "::".to_owned(),
        port,
        backlog: 128,
    };
    NodeStatus {
        name: name.into(),
        running: true,
        in_service: true,
        version: "0.1.0".to_owned(),
        uptime: Duration::from_secs(76),
        os_pid: 29_290,
        memory_used: 1_000_000,
        memory_limit: 10_000_000,
        memory_total: 25_000_000,
        memory_shares: vec![("queue_procs", 300_000), ("binary", 100_000)],
        memory_watermark: Some(0.4),
        disk_free: 80_000_000,
        disk_free_limit: 50_000_000,
        fds_used: 56,
        fds_total: 20_000,
        sockets_used: 8,
        sockets_total: 17_910,
        tasks: 578,
        processors: 2,
        listeners: vec![
            listener("amqp", 5672),
            listener("http", 15_672),
            listener("http/prometheus", 15_692),
            listener("clustering", 25_672),
        ],
        data_dir: "/var/lib/warren/warren@here".to_owned(),
        log_files: vec!["<stdout>".to_owned()],
        config_files: vec!["/etc/rabbitmq/rabbitmq.conf".to_owned()],
        churn: Churn {
            connections_created: 13,
            ..Churn::default()
        },
        auth_attempts: vec![AuthAttempts {
            protocol: "http",
            succeeded: 231,
            failed: 2,
        }],
        ..NodeStatus::default()
    }
}
