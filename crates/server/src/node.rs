//! What all tasks of a node share: frozen tables, registries of queues and connections, the ways to
//! the log and to consensus. Nothing here is on the path of a single message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use broker::connection::{Limits, OpenCounts};
use broker::message::Message;
use broker::metadata::{Command, Outcome, Refusal, Tables, decode_answer};
use broker::packet::Packet;
use broker::queue::{ChannelEvent, ChannelKey, QueueEvent, Question};
use broker::status::ConnectionStatus;
use broker::{ConnectionId, Name, QueueId};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use consensus::{Consensus, ProposeError, Status};
use management::node::QueueReport;
use parking_lot::RwLock;
use tokio::sync::{Notify, oneshot, watch};

use crate::alarms::Resources;
use crate::config::Config;
use crate::identity::Identity;
use crate::log_writer::LogWriter;
use crate::mailbox::Mailbox;
use crate::metadata::Follow;
use crate::mirrors::Mail;
use crate::partition::Met;
use crate::peers::{Peer, Peers};
use crate::provision;
use crate::seen::Sights;
use crate::traffic::Sums;
use crate::watch::Reach;

/// As in `sysexits.h`: what the process ends with when its disk fails it.
pub(crate) const BROKEN: i32 = 70;

/// What a queue's task hears.
pub(crate) enum QueueMail {
    Event(QueueEvent),
    /// For the delays only.
    Delay(crate::delay_driver::Entry),
    Report(oneshot::Sender<QueueReport>),
    /// The definition or the view changed.
    Record(Arc<broker::metadata::Queue>),
    /// For agents: the leader answered a question of this channel.
    Answered(ChannelKey, Option<Question>),
    /// For agents: where the leader is may have changed.
    Recheck,
    /// For agents: this node does not lead the queue, it says, to what this attempt has sent.
    NotLeader(NodeId, u64),
    /// From another replica of the queue.
    Mirror(Mail),
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
    /// Adds to the node's sums what was not added yet, and answers then.
    Traffic(oneshot::Sender<()>),
    /// Closed for this reason, when what goes with the connection is gone.
    Close(String),
    /// The same at once: the node cannot go on serving.
    CloseNow(String),
    /// The alarm state changed.
    Alarm(Option<Arc<str>>),
}

/// A queue as others see it: the queue itself, or its agent.
pub(crate) struct QueueHandle {
    pub mailbox: Arc<Mailbox<QueueMail>>,
    /// It is no longer the way to the queue: look again.
    pub retired: AtomicBool,
    pub is_agent: bool,
    /// Another for each driver that ever led here.
    pub life: u64,
    /// How many it has, of a queue that is led here.
    pub messages: AtomicU64,
}

impl QueueHandle {
    pub(crate) fn of_queue(mailbox: Arc<Mailbox<QueueMail>>, life: u64) -> QueueHandle {
        QueueHandle { mailbox, retired: AtomicBool::new(false), is_agent: false, life, messages: AtomicU64::new(0) }
    }

    pub(crate) fn of_agent(mailbox: Arc<Mailbox<QueueMail>>) -> QueueHandle {
        QueueHandle { mailbox, retired: AtomicBool::new(false), is_agent: true, life: 0, messages: AtomicU64::new(0) }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
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

/// Why no clients are let in; each reason ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shut {
    /// An operator has closed the ports.
    pub by_operator: bool,
    /// The node has sent its clients away by itself, until more nodes of the cluster are in reach.
    pub by_pause: bool,
}

impl Shut {
    pub(crate) fn is_shut(self) -> bool {
        self.by_operator || self.by_pause
    }
}

/// See the file's head.
pub(crate) struct Node {
    pub name: Name,
    pub identity: Identity,
    pub config: Arc<Config>,
    pub peers: Arc<Peers>,
    /// What membership says of the others.
    pub reach: Reach,
    pub limits: Arc<Limits>,
    pub tables: Arc<ArcSwap<Tables>>,
    pub log: LogWriter,
    consensus: RwLock<Option<Consensus>>,
    /// What follows from applied commands; the engine of the day calls it.
    pub follow: Arc<std::sync::OnceLock<Follow>>,
    /// Of the metadata log that this node is in.
    pub generation: AtomicU64,
    /// One change of the log's engine at a time.
    pub switching: tokio::sync::Mutex<()>,
    /// Where the sides of the peers stand, as they said last.
    pub met: parking_lot::Mutex<BTreeMap<NodeId, Met>>,
    /// Peers whose metadata log is another one.
    pub partitioned: parking_lot::Mutex<Vec<NodeId>>,
    /// An operator wants this side to stay.
    pub heal: AtomicBool,
    /// The generation to which this node was told to give way.
    pub give_way_to: AtomicU64,
    /// What connections use as a queue: the queue, or its agent.
    pub doors: RwLock<HashMap<QueueId, Arc<QueueHandle>>>,
    /// The queues of which this node holds a copy that it does not lead.
    pub mirroring: RwLock<HashMap<QueueId, Arc<QueueHandle>>>,
    /// The queues that this node leads.
    pub leading: RwLock<HashMap<QueueId, Arc<QueueHandle>>>,
    pub connections: RwLock<HashMap<ConnectionId, Arc<ConnectionHandle>>>,
    /// Partners of queues that are no client connections.
    pub desks: RwLock<HashMap<ConnectionId, Arc<ConnectionHandle>>>,
    pub resources: Resources,
    /// Thresholds changed: measure at once.
    pub recheck: Notify,
    pub listeners: RwLock<Vec<management::node::Listener>>,
    /// Why the ports for clients are closed, if they are.
    pub shut: watch::Sender<Shut>,
    /// TLS of listeners, for certificates and their renewal.
    pub tls: RwLock<Vec<(management::node::Listener, Arc<crate::tls::Tls>)>>,
    pub alarm: watch::Sender<Option<Arc<str>>>,
    /// True once the node begins to stop.
    stopping: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    /// Its ports for clients are open.
    pub is_open: AtomicBool,
    pub counters: NodeCounters,
    pub traffic: Sums,
    pub memory_budget: AtomicU64,
    pub retired_agents: AtomicU64,
    /// Held while what follows from metadata is done.
    pub following: parking_lot::Mutex<()>,
    /// The cluster has noted this life of the node. Before that its tables may be of an earlier life.
    pub registered: AtomicBool,
    /// What the node's side of a partition took is being put back: until then no copy here follows a leader,
    /// who would have it remove what is not put back yet.
    pub puts_back: AtomicBool,
    /// Copies for which that goes on when the node serves already.
    pub put_back_later: RwLock<BTreeSet<QueueId>>,
    /// Counts up whenever metadata has changed.
    pub changes: watch::Sender<u64>,
    /// Counts up whenever nodes, or which nodes hold a queue, have changed, or should.
    pub rearrangements: watch::Sender<u64>,
    /// How far the other nodes have come.
    pub sights: Sights,
    next_connection: AtomicU32,
    myself: Weak<Node>,
}

/// What a node is made of.
pub(crate) struct Parts {
    pub identity: Identity,
    pub config: Arc<Config>,
    pub limits: Limits,
    pub log: LogWriter,
    pub tables: Arc<ArcSwap<Tables>>,
    pub peers: Arc<Peers>,
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
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeFailure {
    #[error("refused: {0:?}")]
    Refused(Refusal),
    #[error("{0}")]
    Unavailable(String),
}

fn outcome(answer: Result<Bytes, ProposeError>) -> Result<Outcome, ProposeFailure> {
    let answer = answer.map_err(|error| ProposeFailure::Unavailable(error.to_string()))?;
    match decode_answer(&answer) {
        Ok(answer) => answer.map_err(ProposeFailure::Refused),
        Err(error) => Err(ProposeFailure::Unavailable(error.to_string())),
    }
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Arc<Node> {
        let Parts { identity, config, limits, log, tables, peers } = parts;
        let generation = identity.generation;
        Arc::new_cyclic(|myself| Node {
            name: identity.name.as_str().into(),
            identity,
            config,
            peers,
            reach: Reach::default(),
            limits: Arc::new(limits),
            tables,
            log,
            consensus: RwLock::new(None),
            follow: Arc::default(),
            generation: AtomicU64::new(generation),
            switching: tokio::sync::Mutex::new(()),
            met: parking_lot::Mutex::default(),
            partitioned: parking_lot::Mutex::default(),
            heal: AtomicBool::new(false),
            give_way_to: AtomicU64::new(0),
            doors: RwLock::new(HashMap::new()),
            leading: RwLock::new(HashMap::new()),
            mirroring: RwLock::new(HashMap::new()),
            connections: RwLock::new(HashMap::new()),
            desks: RwLock::new(HashMap::new()),
            resources: Resources::default(),
            recheck: Notify::new(),
            listeners: RwLock::new(Vec::new()),
            shut: watch::Sender::new(Shut::default()),
            tls: RwLock::new(Vec::new()),
            alarm: watch::Sender::new(None),
            stopping: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            is_open: AtomicBool::new(false),
            counters: NodeCounters::default(),
            traffic: Sums::default(),
            memory_budget: AtomicU64::new(256 << 20),
            retired_agents: AtomicU64::new(0),
            following: parking_lot::Mutex::new(()),
            registered: AtomicBool::new(false),
            puts_back: AtomicBool::new(true),
            put_back_later: RwLock::default(),
            changes: watch::Sender::new(0),
            rearrangements: watch::Sender::new(0),
            sights: Sights::default(),
            next_connection: AtomicU32::new(1),
            myself: Weak::clone(myself),
        })
    }

    /// The metadata log, once it has started.
    pub(crate) fn consensus(&self) -> Option<Consensus> {
        self.consensus.read().clone()
    }

    /// A node whose metadata log fails hears nothing of its queues any more, and to others it looks alive: it
    /// ends.
    pub(crate) fn set_consensus(&self, log: Consensus) {
        *self.consensus.write() = Some(log.clone());
        tokio::spawn(async move {
            if let Some(why) = log.failed().await {
                tracing::error!("{why}; the node stops, because it could not keep its promises");
                std::process::exit(BROKEN);
            }
        });
    }

    /// Its number in the metadata log.
    pub(crate) fn id(&self) -> NodeId {
        self.identity.id()
    }

    /// A connection id that no other life of this node has used: exclusive queues name their owner.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        let count = self.next_connection.fetch_add(1, Ordering::Relaxed);
        ConnectionId::of(self.id(), self.identity.incarnation, u64::from(count))
    }

    /// Proposes a change of metadata and waits until it is applied here.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, ProposeFailure> {
        let Some(consensus) = self.consensus() else {
            return Err(ProposeFailure::Unavailable("the node is starting".to_owned()));
        };
        let (command, asked) = provision::complete(self, command).map_err(ProposeFailure::Refused)?;
        let repeatable = command.is_repeatable();
        let command = Bytes::from(command.encode());
        let answer = if repeatable { consensus.propose_idempotent(command).await } else { consensus.propose(command).await };
        outcome(answer).and_then(|outcome| asked.answer(outcome).map_err(ProposeFailure::Refused))
    }

    /// Has a command committed that follows from what this node sees as the leader of the metadata log.
    pub(crate) async fn propose_as_leader(&self, command: &Command) -> Result<Outcome, ProposeFailure> {
        let Some(consensus) = self.consensus() else {
            return Err(ProposeFailure::Unavailable("the node is starting".to_owned()));
        };
        outcome(consensus.propose_here(Bytes::from(command.encode())).await)
    }

    /// Whether a member answers, so far as is known; this node itself does.
    pub(crate) fn in_reach(&self, member: NodeId) -> bool {
        member == self.id() || self.reach.is_reachable(member)
    }

    /// Whether most voters of the metadata log are in reach.
    pub(crate) fn reaches_quorum(&self, log: &Status) -> bool {
        let there = log.voters.iter().filter(|voter| self.in_reach(voter.id)).count();
        there * 2 > log.voters.len()
    }

    /// The way to a queue from here; `None` when there is no such queue.
    pub(crate) fn queue(&self, id: QueueId) -> Option<Arc<QueueHandle>> {
        if let Some(door) = self.doors.read().get(&id) {
            return Some(Arc::clone(door));
        }
        self.tables.load().queues.get(&id)?;
        self.open_door(id)
    }

    /// The queue's own driver, if it is led here.
    pub(crate) fn leading(&self, id: QueueId) -> Option<Arc<QueueHandle>> {
        self.leading.read().get(&id).map(Arc::clone)
    }

    fn open_door(&self, id: QueueId) -> Option<Arc<QueueHandle>> {
        let node = self.myself.upgrade()?;
        let mut doors = self.doors.write();
        if let Some(door) = doors.get(&id) {
            return Some(Arc::clone(door));
        }
        let mirrored = self.tables.load().queues.get(&id).is_some_and(|record| record.view.mirrored);
        let door = match self.leading(id) {
            Some(queue) if !mirrored => queue,
            _ => crate::agent_driver::start(&node, id),
        };
        doors.insert(id, Arc::clone(&door));
        Some(door)
    }

    /// The queue may have moved, or may move from now on: who used it directly goes through an agent.
    pub(crate) fn refresh_door(&self, id: QueueId, needs_agent: bool) {
        let mut doors = self.doors.write();
        match doors.get(&id) {
            Some(door) if door.is_agent => drop(door.mailbox.push(QueueMail::Recheck, 0)),
            Some(door) if needs_agent => {
                door.retired.store(true, Ordering::Release);
                doors.remove(&id);
            }
            _ => {}
        }
    }

    /// A link is there: agents look for their leaders.
    pub(crate) fn link_changed(&self, peer: NodeId) {
        // One replica takes the place of another with this lock held: the next one hears it.
        let _order = self.following.lock();
        for replica in self.leading.read().values().chain(self.mirroring.read().values()) {
            let _ = replica.mailbox.push(QueueMail::Mirror(Mail::Reconnected(peer)), 0);
        }
        self.recheck_agents();
    }

    /// A link broke: what the peer's channels held comes back, and agents look for their leaders.
    pub(crate) fn link_lost(&self, peer: NodeId) {
        for handle in self.leading.read().values() {
            let _ = handle.mailbox.push(QueueMail::Event(QueueEvent::NodeLost { node: peer }), 0);
        }
        self.recheck_agents();
    }

    pub(crate) fn recheck_agents(&self) {
        for door in self.doors.read().values().filter(|door| door.is_agent) {
            let _ = door.mailbox.push(QueueMail::Recheck, 0);
        }
    }

    /// Hands an event to a channel, a desk or an agent, wherever it is. False when it is gone.
    pub(crate) fn tell_channel(&self, event: ChannelEvent) -> bool {
        let connection = event.channel().connection;
        if connection.node() != self.id() {
            let Some(peer) = self.peers.get(connection.node()) else { return false };
            let mut packet = Vec::new();
            broker::packet::encode_to_channel(&mut packet, &event);
            return peer.send(crate::peers::EVENTS, packet);
        }
        // The agent first: were the leader lost in between, it would ask again what is answered.
        if let ChannelEvent::Replied { channel, queue, reply } = &event
            && let Some(door) = self.doors.read().get(queue)
            && door.is_agent
        {
            let _ = door.mailbox.push(QueueMail::Answered(*channel, reply.question()), 0);
        }
        self.connection(connection).is_some_and(|handle| handle.mailbox.push(ConnectionMail::Channel(event), 0).is_ok())
    }

    /// An answer by direct reply-to, which is given once or lost.
    pub(crate) fn reply_directly(&self, channel: ChannelKey, proof: u64, message: Message) {
        if channel.connection.node() != self.id() {
            if let Some(peer) = self.peers.get(channel.connection.node()) {
                let mut packet = Vec::new();
                Packet::DirectReply { channel, proof, message }.encode(&mut packet);
                peer.send(crate::peers::EVENTS, packet);
            }
        } else if let Some(handle) = self.connection(channel.connection) {
            let _ = handle.mailbox.push(ConnectionMail::DirectReply { channel, proof, message }, 0);
        }
    }

    /// A message that has to wait for its time.
    pub(crate) fn delay(&self, entry: crate::delay_driver::Entry) {
        if let Some(delays) = self.queue(broker::delay::DELAY_ID) {
            let _ = delays.mailbox.push(QueueMail::Delay(entry), 0);
        }
    }

    /// A packet of a peer.
    pub(crate) fn take_packet(&self, peer: &Arc<Peer>, packet: Packet) {
        match packet {
            Packet::ToQueue { queue, attempt, event } => match self.leading(queue) {
                Some(handle) => {
                    let bytes = crate::queue_driver::size_of_event(&event);
                    let _ = handle.mailbox.push(QueueMail::Event(event), bytes);
                }
                None => {
                    let mut packet = Vec::new();
                    Packet::NotLeader { queue, attempt }.encode(&mut packet);
                    peer.send(crate::peers::EVENTS, packet);
                }
            },
            Packet::ToChannel { event } => {
                let is_overtaken = broker::packet::is_overtaken(&self.tables.load(), peer.id, &event);
                if event.channel().connection.node() == self.id() && !is_overtaken {
                    self.tell_channel(event);
                }
            }
            Packet::NotLeader { queue, attempt } => {
                if let Some(door) = self.doors.read().get(&queue) {
                    let _ = door.mailbox.push(QueueMail::NotLeader(peer.id, attempt), 0);
                }
            }
            Packet::DirectReply { channel, proof, message } if channel.connection.node() == self.id() => {
                self.reply_directly(channel, proof, message);
            }
            Packet::DirectReply { .. } => {}
        }
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<ConnectionHandle>> {
        let found = self.connections.read().get(&id).map(Arc::clone);
        found.or_else(|| self.desks.read().get(&id).map(Arc::clone))
    }

    /// Bytes of ready messages that one queue may keep in memory.
    pub(crate) fn queue_budget(&self) -> u64 {
        let queues = self.leading.read().len().max(1) as u64;
        (self.memory_budget.load(Ordering::Relaxed) / queues).clamp(64 << 10, 32 << 20)
    }

    /// The members that run, as the cluster has it, and that this node cannot speak to; and those that are in
    /// another generation.
    pub(crate) fn cut_off(&self) -> Vec<Name> {
        let tables = self.tables.load();
        let silent = |id: NodeId| self.reach.gone(id).is_some_and(|verdict| !verdict.certain);
        let partitioned = self.partitioned.lock();
        let others = tables.nodes.iter().filter(|member| {
            member.id != self.id() && (member.is_up() && silent(member.id) || partitioned.contains(&member.id))
        });
        let mut names: Vec<Name> = others.map(|member| Arc::clone(&member.name)).collect();
        names.sort();
        names
    }

    /// This node's counts for the limits that are checked when a connection opens.
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

    /// An operator closes the ports for clients, or opens them.
    pub(crate) fn shut_by_operator(&self, on: bool) {
        self.shut.send_modify(|shut| shut.by_operator = on);
    }

    /// Whether this node has sent its clients away for want of other nodes.
    pub(crate) fn is_paused(&self) -> bool {
        self.shut.borrow().by_pause
    }

    /// Begins an orderly stop.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Runs a task until this life of the node has ended, at the latest.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut ended = self.ended.subscribe();
        // In place it would take room twice more, in as many tasks as there are queues.
        let mut task = Box::pin(task);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = &mut task => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
    }

    /// Nothing of this life goes on. What is not told by now is not told any more.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the node begins to stop.
    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        tracing::debug!("what the application of node {} held is free", self.name);
    }
}
