//! What must hold in every life of a cluster, one file for each.

mod acked_stays_gone;
mod confirmed_is_kept;
mod metadata_agrees;
mod no_phantom;
mod no_unflagged_duplicate;
mod one_queue_leader_per_epoch;
mod order_per_publisher;

use std::collections::BTreeMap;

use broker::metadata::Tables;
use broker::{ConnectionId, QueueId};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use store::Seq;

use metadata_agrees::MetadataAgrees;
use one_queue_leader_per_epoch::OneQueueLeaderPerEpoch;
use order_per_publisher::OrderPerPublisher;

/// A message: the so-many'th of one session of a publisher. It is the beginning of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The session.
    pub session: u32,
    /// From 1.
    pub number: u32,
}

impl Id {
    /// What a body begins with.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        (u64::from(self.session) << 32 | u64::from(self.number)).to_le_bytes()
    }

    /// Reads a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Id> {
        let id = u64::from_le_bytes(*body.first_chunk()?);
        Some(Id { session: (id >> 32) as u32, number: id as u32 })
    }
}

/// What is known of one message of one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    confirmed: bool,
    /// How often a client got it.
    seen: u32,
    /// A client has acknowledged it.
    acked: bool,
    /// Who got it last.
    consumer: Option<ConnectionId>,
}

/// Everything that clients know, and the first rule that was broken.
#[derive(Debug, Default)]
pub struct Checks {
    messages: BTreeMap<(QueueId, Id), Message>,
    /// Of messages that are confirmed, those that nobody has acknowledged.
    kept: BTreeMap<QueueId, std::collections::BTreeSet<Id>>,
    order: OrderPerPublisher,
    /// Who served which queue when.
    pub leaders: OneQueueLeaderPerEpoch,
    metadata: MetadataAgrees,
    /// Everything is acknowledged, and stays so.
    all_gone: bool,
    failure: Option<String>,
}

impl Checks {
    /// The first rule that was broken.
    #[must_use]
    pub fn failure(&self) -> Option<&String> {
        self.failure.as_ref().or(self.leaders.failure.as_ref())
    }

    /// A rule is broken.
    pub fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail(what);
        }
    }

    /// Somebody publishes.
    pub fn published(&mut self, queue: QueueId, id: Id) {
        self.messages.entry((queue, id)).or_default();
    }

    /// The publisher hears that it may forget the message.
    pub fn confirmed(&mut self, queue: QueueId, id: Id) {
        let message = self.messages.entry((queue, id)).or_default();
        message.confirmed = true;
        if !message.acked {
            self.kept.entry(queue).or_default().insert(id);
        }
    }

    /// A client gets a message.
    pub fn delivered(&mut self, queue: QueueId, consumer: ConnectionId, id: Id, seq: Seq, redelivered: bool) {
        let Some(message) = self.messages.get_mut(&(queue, id)) else {
            return self.fail(no_phantom::complaint(queue, id));
        };
        let before = *message;
        message.seen += 1;
        message.consumer = Some(consumer);
        self.judge(acked_stays_gone::check(self.all_gone, queue, id));
        self.judge(no_unflagged_duplicate::check(&before, queue, consumer, id, seq, redelivered));
        if !redelivered {
            let verdict = self.order.fresh(queue, consumer, id);
            self.judge(verdict);
        }
    }

    /// A leader says of a message that nobody has seen it.
    pub fn sent_as_fresh(&mut self, node: NodeId, queue: QueueId, id: Id) {
        let seen = self.messages.get(&(queue, id)).map_or(0, |message| message.seen);
        self.judge(no_unflagged_duplicate::check_sent(seen, node, queue, id));
    }

    /// A client acknowledges a message.
    pub fn acked(&mut self, queue: QueueId, id: Id) {
        if let Some(message) = self.messages.get_mut(&(queue, id)) {
            message.acked = true;
        }
        if let Some(kept) = self.kept.get_mut(&queue) {
            kept.remove(&id);
        }
    }

    /// From now on no message may come.
    pub fn nothing_may_come(&mut self) {
        self.all_gone = true;
    }

    /// The store of a seat holds this of a queue.
    pub fn seat_holds(&mut self, node: NodeId, queue: QueueId, contents: &[(Seq, Bytes)]) {
        if let Some(kept) = self.kept.get(&queue) {
            let verdict = confirmed_is_kept::check_seat(node, queue, kept, contents);
            self.judge(verdict);
        }
    }

    /// Whether every confirmed message has come to somebody, who acknowledged it.
    #[must_use]
    pub fn all_kept_came(&self) -> bool {
        self.kept.values().all(std::collections::BTreeSet::is_empty)
    }

    /// The confirmed messages that nobody has acknowledged.
    #[must_use]
    pub fn not_kept(&self) -> String {
        confirmed_is_kept::missing(&self.kept, &self.messages)
    }

    /// A node has applied so many entries of the metadata log.
    pub fn agree(&mut self, applied: usize, tables: &Tables) {
        let verdict = self.metadata.agree(applied, tables);
        self.judge(verdict);
    }
}
