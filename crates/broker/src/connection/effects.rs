//! What a connection asks of its driver.
//!
//! Publishes to one queue are gathered into one event as long as nothing else goes to that queue in
//! between, so that a queue hears everything in the order in which the client said it.

use stdx::Lookup;

use crate::delay::Delayed;
use crate::id::QueueId;
use crate::message::Message;
use crate::metadata::Command;
use crate::queue::{ChannelKey, Publish, Publisher, QueueEvent};
use crate::traffic::Traffic;

/// What a driver may be asked for.
#[derive(Debug, Default)]
pub struct ConnectionEffects {
    pub to_queues: Vec<(QueueId, QueueEvent)>,
    /// To a channel of any connection (direct reply-to), with the proof that its name was genuine.
    pub to_connections: Vec<(ChannelKey, u64, Message)>,
    /// Messages that must wait, with their publisher and its number.
    pub delays: Vec<(Delayed, Publisher, u64)>,
    /// At most one: its answer comes back by [`Connection::proposed`].
    pub propose: Option<Command>,
    /// Commands whose answer nobody waits for.
    pub propose_and_forget: Vec<Command>,
    /// Things worth a log line.
    pub notes: Vec<Note>,
    /// What the node counts.
    pub channels_opened: u64,
    pub channels_closed: u64,
    pub queues_declared: u64,
    /// What channels that are closed have counted and not told; there is some only where `channels_closed` says so.
    pub traffic: Traffic,
    open_publishes: Lookup<QueueId, usize>,
}

/// Things worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Authenticated,
    LoginRefused { user: String, reason: &'static str },
    /// The connection is being closed for a fault of the peer.
    Faulted(String),
    ChannelFaulted { channel: u16, text: String },
}

impl ConnectionEffects {
    /// Adds a publish to the batch that goes to a queue.
    #[inline]
    pub(crate) fn publish(&mut self, queue: QueueId, from: Publisher, publish: Publish) {
        if let Some(at) = self.open_publishes.get(&queue).copied()
            && let Some((_, QueueEvent::Publish { from: open, messages })) = self.to_queues.get_mut(at)
            && *open == from
        {
            messages.push(publish);
            return;
        }
        self.open_publishes.insert(queue, self.to_queues.len());
        self.to_queues.push((queue, QueueEvent::Publish { from, messages: vec![publish] }));
    }

    /// Adds any other event; publishes that follow start a new batch behind it.
    pub(crate) fn tell(&mut self, queue: QueueId, event: QueueEvent) {
        self.open_publishes.remove(&queue);
        if let QueueEvent::Ack { channel, runs } = &event
            && let Some((last, QueueEvent::Ack { channel: same, runs: open })) = self.to_queues.last_mut()
            && *last == queue
            && same == channel
        {
            open.extend_from_slice(runs);
            return;
        }
        self.to_queues.push((queue, event));
    }

    /// Called by the driver when it has taken the effects.
    pub fn taken(&mut self) {
        self.open_publishes.clear();
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_queues.is_empty()
            && self.to_connections.is_empty()
            && self.delays.is_empty()
            && self.propose.is_none()
            && self.propose_and_forget.is_empty()
            && self.notes.is_empty()
            && self.channels_opened + self.channels_closed + self.queues_declared == 0
    }
}
