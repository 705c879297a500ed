//! Clients, each with one connection and one channel: it publishes with confirms, and consumes with
//! acknowledgements. The channel is played here; what it does is what `broker::channel` does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use broker::message::Message;
use broker::queue::{
    ChannelEvent, ChannelKey, Consume, ConsumerKey, Delivery, Publish, Publisher, QueueEvent, QueueReply, delivery_cost,
};
use broker::{ConnectionId, QueueId};
use cluster::metadata_log::NodeId;
use stdx::{Rng, Time};
use store::Seq;

use super::node::{Actor, Mail, TaskId, gone, left_behind};
use super::plan::Plan;
use super::world::{Event, World};
use crate::invariant::Id;

/// What outlives connections.
pub(super) struct Client {
    pub(super) node: Option<NodeId>,
    publishes: bool,
    consumes: bool,
}

impl Client {
    pub(super) fn draw(rng: &mut Rng, _plan: &Plan) -> Client {
        let publishes = !rng.one_in(3);
        Client { node: None, publishes, consumes: !publishes || !rng.one_in(3) }
    }
}

#[derive(Debug)]
struct Consumer {
    queue: QueueId,
    number: u32,
    stage: Stage,
    /// Bytes that it has taken and the queue has not heard of.
    credit: u64,
}

/// What has become of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none; when it is asked for.
    Absent { asks_at: Time },
    /// The queue is asked; whether it has moved before its answer was here.
    Asked { moved: bool },
    Accepted,
    /// The queue is asked to cancel it.
    Leaving,
}

/// See the file's head.
pub(super) struct ConnectionDriver {
    node: NodeId,
    task: TaskId,
    id: ConnectionId,
    client: usize,
    key: ChannelKey,
    consumer: Option<Consumer>,
    publishes_to: Option<QueueId>,
    session: u32,
    published: u64,
    unconfirmed: BTreeSet<u64>,
    unacked: VecDeque<(QueueId, Seq, Id)>,
    /// Queues that must hear of the channel's end.
    known: BTreeMap<QueueId, ()>,
    acts_at: Time,
}

/// A refused consumer asks again after this time.
const CONSUME_AGAIN: Duration = Duration::from_millis(300);
/// Credit goes back to the queue in pieces of this size.
const CREDIT_STEP: u64 = 128 * 1024;

impl World {
    /// A client without a connection looks for a node that takes it.
    pub(super) fn client_connects(&mut self, number: usize) {
        if self.clients[number].node.is_some() {
            return;
        }
        let open: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.sleeps_until.is_none_or(|until| until <= self.now))
            .filter(|(_, node)| node.process.as_ref().is_some_and(|process| process.registered && process.stopping.is_none()))
            .map(|(id, _)| *id)
            .collect();
        let queues: Vec<QueueId> = self.queues.iter().copied().collect();
        if open.is_empty() || queues.is_empty() {
            let wait = self.between(50_000, 300_000);
            return self.after(wait, Event::Client(number));
        }
        let node = open[self.rng.below(open.len() as u64) as usize];
        let (task, id) = (self.new_task(), self.new_connection(node));
        let client = &self.clients[number];
        // Every queue has somebody who consumes, come what may.
        let consumes = client.consumes || number < queues.len();
        let home = queues[number % queues.len()];
        let other = queues[self.rng.below(queues.len() as u64) as usize];
        let publishes_to = client.publishes.then_some(if self.rng.one_in(2) { home } else { other });
        self.clients[number].node = Some(node);
        self.next_session += 1;
        let now = self.clock(node);
        let driver = ConnectionDriver {
            node,
            task,
            id,
            client: number,
            key: ChannelKey { connection: id, number: 1, life: 1 },
            consumer: consumes.then_some(Consumer { queue: home, number: 0, stage: Stage::Absent { asks_at: now }, credit: 0 }),
            publishes_to,
            session: self.next_session,
            published: 0,
            unconfirmed: BTreeSet::new(),
            unacked: VecDeque::new(),
            known: BTreeMap::new(),
            acts_at: now,
        };
        self.process(node).connections.insert(id, task);
        self.tell(|| format!("client {number} is connected to {node}, session {}, {:?}", self.next_session, driver.consumer));
        self.spawn(node, task, Actor::Connection(Box::new(driver)));
    }

    /// A node is gone, and with it the connections of its clients.
    pub(super) fn clients_lose(&mut self, node: NodeId) {
        for number in 0..self.clients.len() {
            if self.clients[number].node == Some(node) {
                self.client_is_gone(number);
            }
        }
    }

    fn client_is_gone(&mut self, number: usize) {
        self.clients[number].node = None;
        let wait = self.between(10_000, 500_000);
        self.after(wait, Event::Client(number));
    }
}

impl ConnectionDriver {
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn run(&mut self, world: &mut World, mail: Vec<Mail>) -> Option<Time> {
        let mut closes = false;
        for mail in mail {
            match mail {
                Mail::Channel(event) => self.hear(world, event),
                Mail::Close => closes = true,
                _ => {}
            }
        }
        let now = world.clock(self.node);
        if now >= self.acts_at {
            closes |= world.stormy && world.rng.one_in(400);
            let pace = world.plan.pace;
            self.acts_at = now + world.between(pace / 2, pace * 2);
            if !closes {
                self.act(world, now);
            }
        }
        if closes {
            self.close(world);
            return None;
        }
        Some(self.acts_at)
    }

    fn tell_queue(&mut self, world: &mut World, queue: QueueId, event: QueueEvent) {
        self.known.insert(queue, ());
        match world.queue(self.node, queue) {
            None => gone(world, self.node, queue, event),
            Some(handle) => {
                if let Err(Mail::Event(event)) = world.push(self.node, handle.task, Mail::Event(event)) {
                    left_behind(world, self.node, queue, event);
                }
            }
        }
    }

    fn act(&mut self, world: &mut World, now: Time) {
        match self.consumer.as_ref().map(|consumer| consumer.stage) {
            Some(Stage::Absent { asks_at }) if now >= asks_at => self.ask(world, false),
            Some(Stage::Accepted) if world.plan.cancels_one_in > 0 && world.stormy && world.rng.one_in(world.plan.cancels_one_in) => {
                self.cancel(world);
            }
            _ => {}
        }
        if let Some(queue) = self.publishes_to.filter(|_| world.busy && world.coverage.published < world.plan.messages) {
            self.publish(world, queue);
        }
        let is_lazy = world.plan.lazy_consumers && world.stormy && !world.rng.one_in(30);
        if !self.unacked.is_empty() && !is_lazy {
            self.settle(world);
        }
    }

    fn ask(&mut self, world: &mut World, again: bool) {
        let key = self.key;
        let Some(consumer) = &mut self.consumer else { return };
        consumer.credit = 0;
        if !again {
            consumer.stage = Stage::Asked { moved: false };
            consumer.number += 1;
        }
        let (queue, number) = (consumer.queue, consumer.number);
        let ask = Consume {
            consumer: ConsumerKey { channel: key, number },
            tag: Arc::from(&b"consumer"[..]),
            no_ack: false,
            exclusive: false,
            prefetch: world.plan.prefetch as u32,
            limited: false,
            priority: 0,
            arguments: amqp::Table::new(),
            again,
        };
        self.tell_queue(world, queue, QueueEvent::Consume(Box::new(ask)));
    }

    fn cancel(&mut self, world: &mut World) {
        let Some(consumer) = &mut self.consumer else { return };
        consumer.stage = Stage::Leaving;
        let (queue, key) = (consumer.queue, ConsumerKey { channel: self.key, number: consumer.number });
        self.tell_queue(world, queue, QueueEvent::Cancel { consumer: key, reply: true });
    }

    /// A queue may have a consumer of which the channel knows nothing any more.
    fn end_at(&mut self, world: &mut World, queue: QueueId, number: u32) {
        let consumer = ConsumerKey { channel: self.key, number };
        self.tell_queue(world, queue, QueueEvent::Cancel { consumer, reply: false });
    }

    fn has_consumer(&self, number: u32) -> bool {
        let is_it = |consumer: &Consumer| consumer.number == number && !matches!(consumer.stage, Stage::Absent { .. });
        self.consumer.as_ref().is_some_and(is_it)
    }

    fn publish(&mut self, world: &mut World, queue: QueueId) {
        let count = 1 + world.rng.below(world.plan.burst);
        let mut messages = Vec::new();
        for _ in 0..count {
            if self.unconfirmed.len() as u64 >= world.plan.window {
                break;
            }
            self.published += 1;
            let id = Id { session: self.session, number: self.published as u32 };
            let mut body = id.bytes().to_vec();
            body.resize(8 + world.rng.below(world.plan.body_max) as usize, b'.');
            // The one property is delivery-mode, persistent.
            let message = Message::new(b"", b"queue", &[0x10, 0, 2], &body).expect("it is a message");
            world.checks.published(queue, id);
            self.unconfirmed.insert(self.published);
            messages.push(Publish { message, number: self.published });
        }
        if !messages.is_empty() {
            world.coverage.published += messages.len() as u64;
            let from = Publisher::Channel(self.key);
            self.tell_queue(world, queue, QueueEvent::Publish { from, messages });
        }
    }

    /// Acknowledges some of what it holds, or gives it back.
    fn settle(&mut self, world: &mut World) {
        let count = 1 + world.rng.below(self.unacked.len() as u64);
        let mut acked: BTreeMap<QueueId, Vec<(Seq, Seq)>> = BTreeMap::new();
        for _ in 0..count {
            let at = if world.rng.one_in(10) { world.rng.below(self.unacked.len() as u64) as usize } else { 0 };
            let Some((queue, seq, id)) = self.unacked.remove(at) else { break };
            if world.plan.requeues_one_in > 0 && world.stormy && world.rng.one_in(world.plan.requeues_one_in) {
                let event = QueueEvent::Reject { channel: self.key, seqs: vec![seq], requeue: true };
                self.tell_queue(world, queue, event);
                continue;
            }
            world.checks.acked(queue, id);
            acked.entry(queue).or_default().push((seq, seq));
        }
        for (queue, mut runs) in acked {
            runs.sort_unstable();
            self.tell_queue(world, queue, QueueEvent::Ack { channel: self.key, runs });
        }
    }

    fn hear(&mut self, world: &mut World, event: ChannelEvent) {
        match event {
            ChannelEvent::Deliver { queue, items, .. } => self.deliver(world, queue, items),
            ChannelEvent::Confirmed { runs, .. } => {
                let Some(queue) = self.publishes_to else { return };
                for number in runs.into_iter().flat_map(|(first, last)| first..=last) {
                    if self.unconfirmed.remove(&number) {
                        world.checks.confirmed(queue, Id { session: self.session, number: number as u32 });
                        world.coverage.confirmed += 1;
                    }
                }
            }
            ChannelEvent::Rejected { numbers, .. } => {
                if world.breaks(super::Mutant::ConfirmRefused) {
                    let runs = numbers.into_iter().map(|number| (number, number)).collect();
                    return self.hear(world, ChannelEvent::Confirmed { channel: self.key, runs });
                }
                for number in numbers {
                    world.coverage.refused += u64::from(self.unconfirmed.remove(&number));
                }
            }
            ChannelEvent::Replied { reply, .. } => self.answered(world, &reply),
            ChannelEvent::ConsumerCancelled { number, .. } | ChannelEvent::Resubscribed { number, accepted: false, .. } => {
                let asks_at = world.clock(self.node) + CONSUME_AGAIN;
                let Some(consumer) = self.consumer.as_mut().filter(|consumer| consumer.number == number) else { return };
                if consumer.stage != Stage::Leaving {
                    consumer.stage = Stage::Absent { asks_at };
                }
            }
            ChannelEvent::QueueMoved { queue, .. } => {
                let Some(consumer) = self.consumer.as_mut().filter(|consumer| consumer.queue == queue) else { return };
                match &mut consumer.stage {
                    Stage::Accepted => self.ask(world, true),
                    Stage::Leaving if world.breaks(super::Mutant::LeaveGhosts) => self.ask(world, true),
                    Stage::Asked { moved } => *moved = true,
                    Stage::Leaving | Stage::Absent { .. } => {}
                }
            }
            ChannelEvent::QueueDown { queue, for_good: true, .. } => {
                let asks_at = world.clock(self.node) + CONSUME_AGAIN;
                let Some(consumer) = self.consumer.as_mut().filter(|consumer| consumer.queue == queue) else { return };
                if consumer.stage == Stage::Accepted {
                    consumer.stage = Stage::Absent { asks_at };
                    let number = consumer.number;
                    self.end_at(world, queue, number);
                }
            }
            ChannelEvent::QueueDown { .. } => {}
            ChannelEvent::Resubscribed { number, .. }
                if !self.has_consumer(number) && !world.breaks(super::Mutant::LeaveGhosts) =>
            {
                for queue in self.known.keys().copied().collect::<Vec<_>>() {
                    self.end_at(world, queue, number);
                }
            }
            ChannelEvent::Resubscribed { .. } | ChannelEvent::Resumed { .. } => {}
        }
    }

    /// What a queue answers to the question that is open; others are answered twice.
    fn answered(&mut self, world: &mut World, reply: &QueueReply) {
        let asks_at = world.clock(self.node) + CONSUME_AGAIN;
        let Some(consumer) = &mut self.consumer else { return };
        match (consumer.stage, reply) {
            (Stage::Asked { moved }, QueueReply::Consuming(Ok(()))) => {
                consumer.stage = Stage::Accepted;
                if moved {
                    self.ask(world, true);
                }
            }
            (Stage::Asked { .. }, QueueReply::Consuming(Err(_)) | QueueReply::Gone | QueueReply::Down)
            | (Stage::Leaving, QueueReply::Cancelled(_) | QueueReply::Gone | QueueReply::Down) => {
                world.coverage.cancels += u64::from(consumer.stage == Stage::Leaving);
                consumer.stage = Stage::Absent { asks_at };
            }
            _ => {}
        }
    }

    /// What is for a consumer that is no more goes back.
    fn deliver(&mut self, world: &mut World, queue: QueueId, items: Vec<Delivery>) {
        let (mut unknown, mut seqs): (BTreeSet<u32>, Vec<Seq>) = (BTreeSet::new(), Vec::new());
        for delivery in items {
            if self.has_consumer(delivery.consumer) {
                self.take(world, queue, &delivery);
            } else {
                unknown.insert(delivery.consumer);
                seqs.push(delivery.seq);
            }
        }
        if unknown.is_empty() || world.breaks(super::Mutant::LeaveGhosts) {
            return;
        }
        for number in unknown {
            self.end_at(world, queue, number);
        }
        self.tell_queue(world, queue, QueueEvent::Surplus { channel: self.key, seqs });
        self.tell_queue(world, queue, QueueEvent::Resume { channel: self.key });
    }

    fn take(&mut self, world: &mut World, queue: QueueId, delivery: &Delivery) {
        let Some(id) = Id::of(delivery.message.body()) else {
            return world.checks.fail("a delivery has no body".to_owned());
        };
        world.coverage.delivered += 1;
        world.coverage.redelivered += u64::from(delivery.redelivered);
        let (client, node, seq) = (self.client, self.node, delivery.seq);
        world.tell(|| format!("client {client} at {node} gets {id:?} as {seq:?}, again: {}", delivery.redelivered));
        world.checks.delivered(queue, self.id, id, seq, delivery.redelivered);
        self.unacked.push_back((queue, delivery.seq, id));
        if let Some(consumer) = &mut self.consumer {
            consumer.credit += delivery_cost(delivery);
            if consumer.credit >= CREDIT_STEP {
                let bytes = std::mem::take(&mut consumer.credit);
                let consumer = ConsumerKey { channel: self.key, number: consumer.number };
                self.tell_queue(world, queue, QueueEvent::Credit { consumer, bytes });
            }
        }
    }

    /// What the channel held goes back.
    fn close(&mut self, world: &mut World) {
        let held = std::mem::take(&mut self.unacked);
        for queue in std::mem::take(&mut self.known).into_keys() {
            let seqs = held.iter().filter(|(of, ..)| *of == queue).map(|(_, seq, _)| *seq).collect();
            self.tell_queue(world, queue, QueueEvent::ChannelClosed { channel: self.key, seqs });
        }
        world.process(self.node).connections.remove(&self.id);
        world.close(self.node, self.task);
        world.client_is_gone(self.client);
    }
}
