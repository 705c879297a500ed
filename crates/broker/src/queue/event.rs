//! What queues, channels and the node say to each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use amqp::Table;
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use store::{Batch, QueueKey, Seq};

use crate::id::{ConnectionId, QueueId};
use crate::message::Message;
use crate::metadata::Command;
use crate::queue::{Session, Settings};

/// One life of one channel: a number closed and opened again is another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    pub connection: ConnectionId,
    pub number: u16,
    pub life: u32,
}

/// A consumer: the `number`-th of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    pub channel: ChannelKey,
    pub number: u32,
}

/// Who published, and therefore who hears that a publish is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Publisher {
    Channel(ChannelKey),
    /// A queue that dead-letters.
    Queue(QueueId),
    /// A node's agent of this queue, which numbers what all publishers of its node send.
    Agent(ConnectionId),
}

impl Publisher {
    /// The name under which an agent's connection hears reports.
    #[must_use]
    pub fn agent_channel(session: ConnectionId) -> ChannelKey {
        ChannelKey { connection: session, number: 0, life: 0 }
    }
}

/// One publish on its way to one queue.
#[derive(Clone, Debug)]
pub struct Publish {
    pub message: Message,
    /// The publisher's number for it; 0 when it wants no report.
    pub number: u64,
}

/// A consumer as asked for.
#[derive(Clone, Debug)]
pub struct Consume {
    pub consumer: ConsumerKey,
    pub tag: Arc<[u8]>,
    pub no_ack: bool,
    pub exclusive: bool,
    /// Unacked messages it may hold; 0 is no limit.
    pub prefetch: u32,
    /// Its channel has a global limit: deliveries may come back, those without acknowledgement too.
    pub limited: bool,
    pub priority: i64,
    pub arguments: Table,
    /// The consumer was there before its queue moved: answered by `Resubscribed`.
    pub again: bool,
}

/// What a queue hears.
#[derive(Clone, Debug)]
pub enum QueueEvent {
    Publish { from: Publisher, messages: Vec<Publish> },
    /// Publishes of an agent, by rising numbers. What it has sent before is flagged `again`, since an
    /// earlier leader may have delivered it. Reports up to `settled` have reached the agent. It was sent
    /// behind the number `follows`, which a queue that was not the leader then has never had; 0 is the first
    /// that the agent sends to a leader.
    Session { session: ConnectionId, settled: u64, follows: u64, again: bool, messages: Vec<Publish> },
    Consume(Box<Consume>),
    Cancel { consumer: ConsumerKey, reply: bool },
    Get { channel: ChannelKey, no_ack: bool },
    /// Runs of sequences, ends included.
    Ack { channel: ChannelKey, runs: Vec<(Seq, Seq)> },
    Reject { channel: ChannelKey, seqs: Vec<Seq>, requeue: bool },
    /// Deliveries that no client has seen: the channel is at its global limit.
    Surplus { channel: ChannelKey, seqs: Vec<Seq> },
    /// The channel has room for this queue; `Resumed` answers, after what the queue then delivers.
    Resume { channel: ChannelKey },
    /// Deliveries without acknowledgement that the client was sent, and that were held until then.
    Taken { channel: ChannelKey, runs: Vec<(Seq, Seq)> },
    /// How many unacked messages a consumer may hold from now on (0 is no limit), and whether its
    /// channel has a global limit.
    Prefetch { consumer: ConsumerKey, prefetch: u32, limited: bool },
    /// Bytes of deliveries that left for the socket.
    Credit { consumer: ConsumerKey, bytes: u64 },
    /// The channel is gone; what it held comes back in `seqs`.
    ChannelClosed { channel: ChannelKey, seqs: Vec<Seq> },
    Inspect { channel: ChannelKey },
    Purge { channel: ChannelKey },
    Delete { channel: ChannelKey, if_unused: bool, if_empty: bool },
    /// Batches up to this ticket are on stable storage.
    Stored { ticket: u64 },
    /// What a [`Load`] found.
    Loaded { key: QueueKey, from: Seq, messages: Vec<(Seq, Bytes)> },
    /// Dead letters that their targets hold as safely as this queue did, or that nobody wanted.
    DeadLettered { numbers: Vec<u64> },
    Settings(Arc<Settings>),
    /// The link to a node broke: what its channels consumed and held comes back.
    NodeLost { node: NodeId },
    /// Time has passed.
    Tick,
    /// The node stops in good order: write down what restarts need.
    Stop,
}

/// One delivery on its way to a channel.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Message,
    pub seq: Seq,
    /// The channel's number for the consumer.
    pub consumer: u32,
    pub redelivered: bool,
    /// The queue keeps the message until it hears of it again.
    pub held: bool,
    /// Returns so far, for the `x-delivery-count` header; 0 where no limit asks for it.
    pub count: u32,
}

/// What a channel hears from queues.
#[derive(Clone, Debug)]
pub enum ChannelEvent {
    /// By who leads the queue since this epoch.
    Deliver { queue: QueueId, channel: ChannelKey, since: u64, items: Vec<Delivery> },
    /// Runs of publish numbers that are safe in this queue.
    Confirmed { channel: ChannelKey, runs: Vec<(u64, u64)> },
    /// Publish numbers that this queue refused.
    Rejected { channel: ChannelKey, numbers: Vec<u64> },
    Replied { channel: ChannelKey, queue: QueueId, reply: QueueReply },
    /// The queue has used the room that `Resume` gave it, as far as it could.
    Resumed { queue: QueueId, channel: ChannelKey },
    /// The queue was deleted under the consumer.
    ConsumerCancelled { channel: ChannelKey, number: u32 },
    /// Whether a consumer that asked again after its queue moved is a consumer again.
    Resubscribed { channel: ChannelKey, number: u32, accepted: bool },
    /// The queue is led elsewhere, or its leader has forgotten this node: every channel of the
    /// connection asks for its consumers again. `channel` names the connection alone.
    QueueMoved { channel: ChannelKey, queue: QueueId },
    /// Nobody leads the queue, and nobody may take over: consumers that ask for that in such a case are cancelled;
    /// all, when they have waited for so long that it counts as being `for_good`. `channel` names the connection alone.
    QueueDown { channel: ChannelKey, queue: QueueId, for_good: bool },
}

impl ChannelEvent {
    /// Whom it concerns.
    #[must_use]
    pub fn channel(&self) -> ChannelKey {
        match self {
            ChannelEvent::Deliver { channel, .. }
            | ChannelEvent::Confirmed { channel, .. }
            | ChannelEvent::Rejected { channel, .. }
            | ChannelEvent::Replied { channel, .. }
            | ChannelEvent::ConsumerCancelled { channel, .. }
            | ChannelEvent::Resumed { channel, .. }
            | ChannelEvent::Resubscribed { channel, .. }
            | ChannelEvent::QueueMoved { channel, .. }
            | ChannelEvent::QueueDown { channel, .. } => *channel,
        }
    }
}

/// Answers to questions that a channel waits for.
#[derive(Clone, Debug)]
pub enum QueueReply {
    /// A message and how many stay behind; `None` when the queue is empty.
    Got(Option<(Box<Delivery>, u64)>),
    Consuming(Result<(), ConsumeError>),
    /// Of this number.
    Cancelled(u32),
    Inspected { messages: u64, consumers: u32 },
    Purged { messages: u64 },
    /// The queue may be deleted, and how many ready messages go with it.
    Deletable(Result<u64, DeleteError>),
    /// The queue does not exist (any more).
    Gone,
    /// The node that holds the queue is down, and nobody may take its place.
    Down,
}

/// What is asked of a queue, one question of a channel at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Get,
    Consume,
    /// Of the consumer of this number.
    Cancel(u32),
    Inspect,
    Purge,
    Delete,
}

impl QueueReply {
    /// What it is the answer to; `None` if it answers anything. One may come twice, and late, where a question was
    /// asked of two leaders.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        match self {
            QueueReply::Got(_) => Some(Question::Get),
            QueueReply::Consuming(_) => Some(Question::Consume),
            QueueReply::Cancelled(number) => Some(Question::Cancel(*number)),
            QueueReply::Inspected { .. } => Some(Question::Inspect),
            QueueReply::Purged { .. } => Some(Question::Purge),
            QueueReply::Deletable(_) => Some(Question::Delete),
            QueueReply::Gone | QueueReply::Down => None,
        }
    }
}

impl QueueEvent {
    /// What it asks, if it is a question.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        match self {
            QueueEvent::Get { .. } => Some(Question::Get),
            QueueEvent::Consume(_) => Some(Question::Consume),
            QueueEvent::Cancel { consumer, reply: true } => Some(Question::Cancel(consumer.number)),
            QueueEvent::Inspect { .. } => Some(Question::Inspect),
            QueueEvent::Purge { .. } => Some(Question::Purge),
            QueueEvent::Delete { .. } => Some(Question::Delete),
            _ => None,
        }
    }
}

/// Why a consumer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeError {
    /// Another consumer is exclusive, or this one would be among others.
    ExclusiveUse,
}

/// Why a delete was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteError {
    InUse,
    NotEmpty,
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    /// The word in `x-death`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that leaves for the dead-letter exchange. The queue keeps it until `DeadLettered`.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub number: u64,
    pub message: Message,
    pub reason: Reason,
    /// Returns before, for `x-delivery-count`.
    pub count: u32,
}

/// Messages to be read back, in order, from `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub key: QueueKey,
    pub from: Seq,
    pub messages: usize,
    pub bytes: usize,
}

/// What a queue asks of the world.
#[derive(Debug, Default)]
pub struct QueueEffects {
    pub to_connections: Vec<(ConnectionId, ChannelEvent)>,
    pub to_queues: Vec<(QueueId, QueueEvent)>,
    /// For the log; reported as `Stored` when `ticket` is given.
    pub batch: Batch,
    pub ticket: Option<u64>,
    /// For transient files: messages that leave memory without a promise.
    pub transient: Batch,
    pub loads: Vec<Load>,
    pub dead_letters: Vec<DeadLetter>,
    /// Of a mirrored queue: the sessions that this round has changed.
    pub sessions: BTreeMap<ConnectionId, Session>,
    pub proposals: Vec<Command>,
}

impl QueueEffects {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tells_nobody() && self.batch.is_empty() && self.ticket.is_none() && self.transient.is_empty()
    }

    /// Whether only the store has something to do.
    #[must_use]
    pub fn tells_nobody(&self) -> bool {
        self.to_connections.is_empty()
            && self.to_queues.is_empty()
            && self.loads.is_empty()
            && self.dead_letters.is_empty()
            && self.proposals.is_empty()
    }
}
