//! Where requests that come from no AMQP channel deal with queues: publish, get, purge, delete.
//!
//! The desk is registered as a connection, each request is a channel of its own, and a task hands
//! the answers out. So queues know one kind of partner only.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use broker::channel::post::{Fate, Post, Posting};
use broker::connection::{ConnectionEffects, Context};
use broker::message::Message;
use broker::queue::{ChannelEvent, ChannelKey, Publish, Publisher, QueueEvent, QueueReply};
use broker::traffic::Traffic;
use broker::{ConnectionId, QueueId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock;
use crate::mailbox::Mailbox;
use crate::node::{ConnectionHandle, ConnectionMail, Node};
use crate::queue_driver::send;
use crate::traffic::Octets;

/// How long a queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who waits at the desk.
enum Waiter {
    /// For the answer to a question.
    Reply(oneshot::Sender<QueueReply>),
    /// For what becomes of a message.
    Fate(Box<Post>, oneshot::Sender<(Fate, Traffic)>),
}

/// What a request for messages brought.
pub(crate) enum Found {
    Messages(Vec<(broker::queue::Delivery, u64)>),
    /// Nobody leads the queue, and nobody will soon.
    Down,
    /// No answer.
    Nothing,
}

type Waiting = Arc<Mutex<HashMap<u32, Waiter>>>;

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
        tokio::spawn(hand_out(Arc::downgrade(node), mailbox, Arc::clone(&waiting)));
        Desk { id, next: AtomicU32::new(1), waiting }
    }

    fn key(&self) -> ChannelKey {
        ChannelKey { connection: self.id, number: 1, life: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    async fn ask(&self, node: &Node, queue: QueueId, channel: ChannelKey, event: QueueEvent) -> Option<QueueReply> {
        let (answer, wait) = oneshot::channel();
        self.waiting.lock().insert(channel.life, Waiter::Reply(answer));
        send(node, queue, event);
        self.wait(channel, wait).await
    }

    async fn wait<T>(&self, channel: ChannelKey, mut wait: oneshot::Receiver<T>) -> Option<T> {
        let answer = tokio::time::timeout(PATIENCE, &mut wait).await;
        self.waiting.lock().remove(&channel.life);
        // It may have come in the last moment: then nobody else has it.
        answer.map_or_else(|_| wait.try_recv().ok(), Result::ok)
    }

    /// Publishes as a client would; answers what became of the message, or `None` when nobody can tell.
    pub(crate) async fn publish(&self, node: &Node, posting: &Posting<'_>) -> Result<Option<Fate>, amqp::Error> {
        let channel = self.key();
        let tables = node.tables.load_full();
        let context = Context { now: clock::now(), unix_millis: clock::unix_millis(), tables };
        let mut fx = ConnectionEffects::default();
        let post = Post::publish(channel, &context, &node.limits, clock::random(), posting, &mut fx)?;
        let (answer, wait) = oneshot::channel();
        match post.fate() {
            Some(fate) => drop(answer.send((fate, post.counted()))),
            None => drop(self.waiting.lock().insert(channel.life, Waiter::Fate(Box::new(post), answer))),
        }
        for (queue, event) in fx.to_queues {
            send(node, queue, event);
        }
        for (channel, proof, message) in fx.to_connections {
            node.reply_directly(channel, proof, message);
        }
        for entry in fx.delays {
            node.delay(entry);
        }
        let Some((fate, traffic)) = self.wait(channel, wait).await else { return Ok(None) };
        node.traffic.add(posting.vhost, traffic, Octets::default());
        Ok(Some(fate))
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
        self.ask(node, queue, channel, make(channel)).await
    }

    /// Takes up to `count` messages and settles them all by `settle` once they are all here. Not to be dropped half way:
    /// what has come by then would stay taken.
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
                Some(QueueReply::Got(Some((delivery, left)))) => found.push((*delivery, left)),
                Some(QueueReply::Got(None)) => break,
                answer => {
                    let seqs = found.iter().map(|(delivery, _)| delivery.seq).collect();
                    send(node, queue, QueueEvent::ChannelClosed { channel, seqs });
                    let is_down = matches!(answer, Some(QueueReply::Down));
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

async fn hand_out(node: Weak<Node>, mailbox: Arc<Mailbox<ConnectionMail>>, waiting: Waiting) {
    let mut mails = Vec::new();
    loop {
        poll_fn(|cx| mailbox.poll_take(cx, &mut mails)).await;
        for mail in mails.drain(..) {
            let ConnectionMail::Channel(event) = mail else { continue };
            let mut waiting = waiting.lock();
            let Some(waiter) = waiting.remove(&event.channel().life) else {
                put_back(&node, event);
                continue;
            };
            match (waiter, event) {
                (Waiter::Reply(answer), ChannelEvent::Replied { reply, .. }) => drop(answer.send(reply)),
                (Waiter::Fate(mut post, answer), event) => {
                    post.hear(&event);
                    match post.fate() {
                        Some(fate) => drop(answer.send((fate, post.counted()))),
                        None => drop(waiting.insert(event.channel().life, Waiter::Fate(post, answer))),
                    }
                }
                (waiter, event) => drop(waiting.insert(event.channel().life, waiter)),
            }
        }
    }
}

/// A message that comes when nobody waits for it any more goes back to its queue.
fn put_back(node: &Weak<Node>, event: ChannelEvent) {
    let ChannelEvent::Replied { channel, queue, reply: QueueReply::Got(Some((delivery, _))), .. } = event else { return };
    if let Some(node) = node.upgrade() {
        send(&node, queue, QueueEvent::ChannelClosed { channel, seqs: vec![delivery.seq] });
    }
}
