//! Where requests that come from no AMQP channel deal with queues: publish, get, purge, delete.
//!
//! The desk is registered as a connection, each request is a channel of its own, and a task hands
//! the answers out. So queues know one kind of partner only.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::message::Message;
use broker::queue::{ChannelEvent, ChannelKey, Publish, Publisher, QueueEvent, QueueReply};
use broker::{ConnectionId, QueueId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::mailbox::Mailbox;
use crate::node::{ConnectionHandle, ConnectionMail, Node};
use crate::queue_driver::send;

/// How long a queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(QueueReply),
    /// The publish is safe, or refused.
    Published(bool),
}

/// What a request for messages brought.
pub(crate) enum Found {
    Messages(Vec<(broker::queue::Delivery, u64)>),
    /// Nobody leads the queue, and nobody will soon.
    Down,
    /// No answer.
    Nothing,
}

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<Answer>>>>;

/// See the file's head.
pub(crate) struct Desk {
    id: ConnectionId,
    next: AtomicU32,
    waiting: Waiting,
}

impl Desk {
    /// Opens the desk of a node.
    pub(crate) fn open(node: &Arc<Node>) -> Desk {
        let id = node.next_connection();
        let mailbox = Arc::new(Mailbox::new());
        let handle = ConnectionHandle::new(Arc::clone(&mailbox));
        node.desks.write().insert(id, Arc::new(handle));
        let waiting: Waiting = Arc::default();
        tokio::spawn(hand_out(mailbox, Arc::clone(&waiting)));
        Desk { id, next: AtomicU32::new(1), waiting }
    }

    fn key(&self) -> ChannelKey {
        ChannelKey { connection: self.id, number: 1, life: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    async fn ask(&self, node: &Node, queue: QueueId, channel: ChannelKey, event: QueueEvent) -> Option<Answer> {
        let (answer, wait) = oneshot::channel();
        self.waiting.lock().insert(channel.life, answer);
        send(node, queue, event);
        let answer = tokio::time::timeout(PATIENCE, wait).await.ok().and_then(Result::ok);
        self.waiting.lock().remove(&channel.life);
        answer
    }

    /// Puts a message into a queue; answers whether it was taken, or `None` when nobody can tell.
    pub(crate) async fn publish(&self, node: &Node, queue: QueueId, message: Message) -> Option<bool> {
        let channel = self.key();
        let messages = vec![Publish { message, number: 1 }];
        let event = QueueEvent::Publish { from: Publisher::Channel(channel), messages };
        match self.ask(node, queue, channel, event).await? {
            Answer::Published(taken) => Some(taken),
            Answer::Reply(_) => None,
        }
    }

    /// Puts a message into a queue; nobody hears what became of it.
    pub(crate) fn send(&self, node: &Node, queue: QueueId, message: Message) {
        let messages = vec![Publish { message, number: 0 }];
        send(node, queue, QueueEvent::Publish { from: Publisher::Channel(self.key()), messages });
    }

    /// Asks a queue something; the channel is forgotten afterwards.
    pub(crate) async fn question(
        &self,
        node: &Node,
        queue: QueueId,
        make: impl FnOnce(ChannelKey) -> QueueEvent,
    ) -> Option<QueueReply> {
        let channel = self.key();
        match self.ask(node, queue, channel, make(channel)).await? {
            Answer::Reply(reply) => Some(reply),
            Answer::Published(_) => None,
        }
    }

    /// Takes up to `count` messages and settles them all by `settle` once they are all here.
    pub(crate) async fn get(
        &self,
        node: &Node,
        queue: QueueId,
        count: u32,
        settle: impl FnOnce(ChannelKey, Vec<store::Seq>) -> QueueEvent,
    ) -> Found {
        let channel = self.key();
        let mut found = Vec::new();
        for _ in 0..count {
            let event = QueueEvent::Get { channel, no_ack: false };
            match self.ask(node, queue, channel, event).await {
                Some(Answer::Reply(QueueReply::Got(Some((delivery, left))))) => found.push((*delivery, left)),
                Some(Answer::Reply(QueueReply::Got(None))) => break,
                answer => {
                    let seqs = found.iter().map(|(delivery, _)| delivery.seq).collect();
                    send(node, queue, QueueEvent::ChannelClosed { channel, seqs });
                    let is_down = matches!(answer, Some(Answer::Reply(QueueReply::Down)));
                    return if is_down { Found::Down } else { Found::Nothing };
                }
            }
        }
        let seqs = found.iter().map(|(delivery, _)| delivery.seq).collect();
        send(node, queue, settle(channel, seqs));
        send(node, queue, QueueEvent::ChannelClosed { channel, seqs: Vec::new() });
        Found::Messages(found)
    }
}

async fn hand_out(mailbox: Arc<Mailbox<ConnectionMail>>, waiting: Waiting) {
    let mut mails = Vec::new();
    loop {
        poll_fn(|cx| mailbox.poll_take(cx, &mut mails)).await;
        for mail in mails.drain(..) {
            let ConnectionMail::Channel(event) = mail else { continue };
            let (channel, answer) = match event {
                ChannelEvent::Replied { channel, reply, .. } => (channel, Answer::Reply(reply)),
                ChannelEvent::Confirmed { channel, .. } => (channel, Answer::Published(true)),
                ChannelEvent::Rejected { channel, .. } => (channel, Answer::Published(false)),
                ChannelEvent::Deliver { .. }
                | ChannelEvent::ConsumerCancelled { .. }
                | ChannelEvent::Resubscribed { .. }
                | ChannelEvent::Resumed { .. }
                | ChannelEvent::QueueMoved { .. }
                | ChannelEvent::QueueDown { .. } => continue,
            };
            if let Some(wait) = waiting.lock().remove(&channel.life) {
                let _ = wait.send(answer);
            }
        }
    }
}
