//! The task of one queue: its mailbox in, its effects out. Dull on purpose.
//!
//! ```text
//! mailbox --events--> Queue::handle .. Queue::settle --effects--> connections, log, other queues
//! ```
//!
//! The driver also routes dead letters (the tables are here) and counts the targets of each.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::dead_letter::dead_letter;
use broker::metadata::{self, Command};
use broker::queue::{ChannelEvent, ChannelKey, DeadLetter, Now, Publish, Publisher, Queue, QueueEffects, QueueEvent, QueueReply};
use broker::{ConnectionId, QueueId};

use crate::clock;
use crate::log_writer::Job;
use crate::mailbox::{Closed, Mailbox};
use crate::node::{ConnectionHandle, ConnectionMail, Node, ProposeFailure, QueueHandle, QueueMail};

/// Starts the task of a queue.
pub(crate) fn start(node: &Arc<Node>, queue: Queue, record: Arc<metadata::Queue>) {
    let mailbox = Arc::new(Mailbox::new());
    let handle = Arc::new(QueueHandle { mailbox: Arc::clone(&mailbox) });
    node.queues.write().insert(record.id, handle);
    let driver = Driver {
        node: Arc::clone(node),
        queue,
        record,
        mailbox,
        fx: QueueEffects::default(),
        connections: HashMap::new(),
        leaving: HashMap::new(),
        deleted: false,
        stopping: Vec::new(),
        held_back: VecDeque::new(),
    };
    tokio::spawn(driver.run());
}

struct Driver {
    node: Arc<Node>,
    queue: Queue,
    record: Arc<metadata::Queue>,
    mailbox: Arc<Mailbox<QueueMail>>,
    fx: QueueEffects,
    /// Connections that have been spoken to.
    connections: HashMap<ConnectionId, Arc<ConnectionHandle>>,
    /// Dead letters by number: targets that have not answered.
    leaving: HashMap<u64, usize>,
    deleted: bool,
    stopping: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Mail that waits for consumers to take what lies ready, in order.
    held_back: VecDeque<QueueMail>,
}

/// A congested queue looks again after this time, even if nothing came.
const CONGESTION: std::time::Duration = std::time::Duration::from_millis(5);

impl Driver {
    async fn run(mut self) {
        let mut mails = Vec::new();
        let settings = &self.record.settings;
        if settings.message_ttl.is_some() || settings.dead_letter_exchange.is_some() {
            // What a restart found may expire, though nobody comes to ask for it.
            let now = self.now();
            self.queue.settle(now, &mut self.fx);
            self.obey(now);
        }
        loop {
            self.wait(&mut mails).await;
            let now = self.now();
            for mail in mails.drain(..) {
                if may_overtake(&mail) {
                    self.take(now, mail);
                } else {
                    self.held_back.push_back(mail);
                }
            }
            self.take_in_order(now);
            if self.deleted {
                self.end();
                return;
            }
            self.queue.settle(now, &mut self.fx);
            self.obey(now);
            if self.node.log.is_crowded() {
                let log = self.node.log.clone();
                log.room().await;
            }
            for done in self.stopping.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Takes what came in order, unless the queue is congested: then publishers wait, since what is
    /// held back still counts in the mailbox.
    fn take_in_order(&mut self, now: Now) {
        let mut done = 0;
        while let Some(mail) = self.held_back.pop_front() {
            let bytes = match &mail {
                QueueMail::Event(event @ QueueEvent::Publish { .. }) => {
                    if self.queue.is_congested(now) {
                        self.held_back.push_front(mail);
                        break;
                    }
                    size_of_event(event)
                }
                QueueMail::Event(event) => size_of_event(event),
                _ => 0,
            };
            done += bytes;
            self.take(now, mail);
        }
        self.mailbox.release(done);
    }

    fn now(&self) -> Now {
        Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: self.node.queue_budget() }
    }

    async fn wait(&mut self, mails: &mut Vec<QueueMail>) {
        let take = poll_fn(|cx| self.mailbox.poll_take(cx, mails));
        let now = Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: 0 };
        let mut deadline = self.queue.deadline(now);
        if !self.held_back.is_empty() {
            let soon = now.time + CONGESTION;
            deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
        }
        match deadline {
            None => take.await,
            Some(at) => {
                let _ = tokio::time::timeout_at(clock::instant(at), take).await;
            }
        }
    }

    fn take(&mut self, now: Now, mail: QueueMail) {
        match mail {
            QueueMail::Event(QueueEvent::DeadLettered { numbers }) => {
                let numbers = self.settled_letters(numbers);
                if !numbers.is_empty() {
                    self.queue.handle(now, QueueEvent::DeadLettered { numbers }, &mut self.fx);
                }
            }
            QueueMail::Event(event) if self.deleted => gone(&self.node, self.record.id, event),
            QueueMail::Event(event) => self.queue.handle(now, event, &mut self.fx),
            QueueMail::Status(reply) => {
                let _ = reply.send(self.queue.status());
            }
            QueueMail::Record(record) => {
                let settings = Arc::clone(&record.settings);
                self.record = record;
                self.queue.handle(now, QueueEvent::Settings(settings), &mut self.fx);
            }
            QueueMail::Delay(_) => {}
            QueueMail::Deleted => {
                self.queue.flush_and_end(&mut self.fx);
                self.deleted = true;
                self.obey(now);
            }
            QueueMail::Stop(done) => {
                if !self.deleted {
                    self.queue.handle(now, QueueEvent::Stop, &mut self.fx);
                }
                self.stopping.push(done);
            }
        }
    }

    fn end(&mut self) {
        let now = self.now();
        self.obey(now);
        for mail in std::mem::take(&mut self.held_back).into_iter().chain(self.mailbox.close()) {
            if let QueueMail::Event(event) = mail {
                gone(&self.node, self.record.id, event);
            }
        }
    }

    /// Counts down the targets of dead letters; gives those that are done.
    fn settled_letters(&mut self, numbers: Vec<u64>) -> Vec<u64> {
        let leaving = &mut self.leaving;
        let done = numbers.into_iter().filter(|number| match leaving.get_mut(number) {
            Some(left) if *left > 1 => {
                *left -= 1;
                false
            }
            Some(_) => leaving.remove(number).is_some(),
            None => false,
        });
        done.collect()
    }

    /// Does what the queue asks, until it asks for nothing more.
    fn obey(&mut self, now: Now) {
        for _ in 0..16 {
            if self.fx.is_empty() {
                return;
            }
            let letters = std::mem::take(&mut self.fx.dead_letters);
            self.hand_over();
            if letters.is_empty() {
                return;
            }
            let homeless = self.send_letters(letters);
            if homeless.is_empty() {
                return;
            }
            self.queue.handle(now, QueueEvent::DeadLettered { numbers: homeless }, &mut self.fx);
            self.queue.settle(now, &mut self.fx);
        }
        // What is left is served in the next round.
        let _ = self.mailbox.push(QueueMail::Event(QueueEvent::Tick), 0);
    }

    fn hand_over(&mut self) {
        // Before the log's batch, which may remove what is paged out here.
        if !self.fx.transient.is_empty() {
            self.node.log.submit(Job::Transient(std::mem::take(&mut self.fx.transient)));
        }
        if !self.fx.batch.is_empty() || self.fx.ticket.is_some() {
            let mut batch = std::mem::take(&mut self.fx.batch);
            batch.seal();
            let report = self.fx.ticket.take().map(|ticket| (Arc::clone(&self.mailbox), ticket));
            self.node.log.submit(Job::Append { batch, report });
        }
        for load in self.fx.loads.drain(..) {
            self.node.log.submit(Job::Load { load, to: Arc::clone(&self.mailbox) });
        }
        for (connection, event) in std::mem::take(&mut self.fx.to_connections) {
            self.tell_connection(connection, event);
        }
        for (queue, event) in self.fx.to_queues.drain(..) {
            send(&self.node, queue, event);
        }
        for command in std::mem::take(&mut self.fx.proposals) {
            let node = Arc::clone(&self.node);
            tokio::spawn(propose(node, self.record.id, command));
        }
    }

    fn tell_connection(&mut self, id: ConnectionId, event: ChannelEvent) {
        if !self.connections.contains_key(&id) {
            let Some(handle) = self.node.connection(id) else { return };
            if self.connections.len() > 1024 {
                self.connections.clear();
            }
            self.connections.insert(id, handle);
        }
        let Some(handle) = self.connections.get(&id) else { return };
        // A connection that has ended told the queue so, or will: its channels give back what they held.
        if handle.mailbox.push(ConnectionMail::Channel(event), 0).is_err() {
            self.connections.remove(&id);
        }
    }

    /// Routes dead letters; gives the numbers of those that nobody takes.
    fn send_letters(&mut self, letters: Vec<DeadLetter>) -> Vec<u64> {
        let tables = self.node.tables.load_full();
        let mut homeless = Vec::new();
        let seconds = clock::unix_millis() / 1000;
        let mut batches: Vec<(QueueId, Vec<Publish>)> = Vec::new();
        for letter in letters {
            let random = if letter.number % 64 == 0 { clock::random() } else { letter.number };
            let (targets, message) = dead_letter(&tables, &self.record, &letter, seconds, random);
            let Some(message) = message.filter(|_| !targets.is_empty()) else {
                homeless.push(letter.number);
                continue;
            };
            self.leaving.insert(letter.number, targets.len());
            for target in targets {
                let publish = Publish { message: message.clone(), number: letter.number };
                match batches.iter_mut().find(|(queue, _)| *queue == target) {
                    Some((_, messages)) => messages.push(publish),
                    None => batches.push((target, vec![publish])),
                }
            }
        }
        let from = Publisher::Queue(self.record.id);
        for (target, messages) in batches {
            send(&self.node, target, QueueEvent::Publish { from, messages });
        }
        homeless
    }
}

/// Proposes a queue's own deletion until it is accepted, refused or done by somebody else.
async fn propose(node: Arc<Node>, queue: QueueId, command: Command) {
    while node.queue(queue).is_some() && !node.is_stopping.load(Ordering::Acquire) {
        match node.propose(command.clone()).await {
            Err(ProposeFailure::Unavailable(error)) => {
                tracing::debug!(error, "a queue's own deletion is tried again");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Err(error @ ProposeFailure::Refused(_)) => {
                tracing::debug!(?error, "a queue's own deletion was not accepted");
                return;
            }
            Ok(_) => return,
        }
    }
}

/// Mail that need not wait for the publishes before it.
fn may_overtake(mail: &QueueMail) -> bool {
    match mail {
        QueueMail::Event(event) => matches!(
            event,
            QueueEvent::Credit { .. }
                | QueueEvent::Ack { .. }
                | QueueEvent::Taken { .. }
                | QueueEvent::Stored { .. }
                | QueueEvent::Loaded { .. }
                | QueueEvent::DeadLettered { .. }
                | QueueEvent::Tick
        ),
        QueueMail::Status(_) | QueueMail::Record(_) => true,
        QueueMail::Delay(_) | QueueMail::Deleted | QueueMail::Stop(_) => false,
    }
}

/// Sends an event to a queue; if the queue is gone, whoever waits is told.
pub(crate) fn send(node: &Node, queue: QueueId, event: QueueEvent) {
    match node.queue(queue) {
        None => gone(node, queue, event),
        Some(handle) => {
            let bytes = size_of_event(&event);
            if let Err(Closed(QueueMail::Event(event))) = handle.mailbox.push(QueueMail::Event(event), bytes) {
                gone(node, queue, event);
            }
        }
    }
}

/// Bytes that an event stands for in a mailbox.
pub(crate) fn size_of_event(event: &QueueEvent) -> usize {
    match event {
        QueueEvent::Publish { messages, .. } => messages.iter().map(|p| p.message.memory_bytes()).sum(),
        _ => 0,
    }
}

/// A queue that was deleted counts as done for publishes; questions are answered with "gone".
pub(crate) fn gone(node: &Node, queue: QueueId, event: QueueEvent) {
    let tell = |id: ConnectionId, event: ChannelEvent| {
        if let Some(handle) = node.connection(id) {
            let _ = handle.mailbox.push(ConnectionMail::Channel(event), 0);
        }
    };
    match event {
        QueueEvent::Publish { from, messages } => {
            let numbers: Vec<u64> = messages.iter().map(|p| p.number).filter(|n| *n != 0).collect();
            if numbers.is_empty() {
                return;
            }
            match from {
                Publisher::Channel(channel) => {
                    let runs = numbers.iter().map(|n| (*n, *n)).collect();
                    tell(channel.connection, ChannelEvent::Confirmed { channel, runs });
                }
                Publisher::Queue(source) if source != queue => {
                    send(node, source, QueueEvent::DeadLettered { numbers });
                }
                Publisher::Queue(_) => {}
            }
        }
        QueueEvent::Resume { channel } => tell(channel.connection, ChannelEvent::Resumed { queue, channel }),
        other => {
            if let Some(channel) = asker(&other) {
                tell(channel.connection, ChannelEvent::Replied { channel, reply: QueueReply::Gone });
            }
        }
    }
}

/// The channel that waits for an answer to this event, if one does.
fn asker(event: &QueueEvent) -> Option<ChannelKey> {
    match event {
        QueueEvent::Consume(ask) => Some(ask.consumer.channel),
        QueueEvent::Cancel { consumer, reply: true } => Some(consumer.channel),
        QueueEvent::Get { channel, .. }
        | QueueEvent::Inspect { channel }
        | QueueEvent::Purge { channel }
        | QueueEvent::Delete { channel, .. } => Some(*channel),
        _ => None,
    }
}

/// What follows from applied metadata: queues start, stop and hear of new settings.
pub(crate) fn follow(node: &Arc<Node>, changes: &[metadata::Change]) {
    let tables = node.tables.load_full();
    for change in changes {
        match change {
            metadata::Change::QueueCreated(id) => {
                let Some(record) = tables.queues.get(id) else { continue };
                node.counters.queues_created.fetch_add(1, Ordering::Relaxed);
                let now = Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: 0 };
                start(node, Queue::new(record, &[], None, now), Arc::clone(record));
            }
            metadata::Change::QueueDeleted(id) => {
                node.counters.queues_deleted.fetch_add(1, Ordering::Relaxed);
                let handle = node.queues.write().remove(id);
                if let Some(handle) = handle {
                    let _ = handle.mailbox.push(QueueMail::Deleted, 0);
                }
            }
            metadata::Change::QueueChanged(id) => {
                if let (Some(handle), Some(record)) = (node.queue(*id), tables.queues.get(id)) {
                    let _ = handle.mailbox.push(QueueMail::Record(Arc::clone(record)), 0);
                }
            }
            metadata::Change::VhostDeleted(name) => {
                close_where(node, |_, vhost| vhost == name, &format!("vhost '{name}' is deleted"));
            }
            metadata::Change::UserDeleted(name) => {
                close_where(node, |user, _| user == name, &format!("user '{name}' is deleted"));
            }
            metadata::Change::RightsChanged | metadata::Change::ExchangeDeleted { .. } => {}
        }
    }
}

fn close_where(node: &Node, which: impl Fn(&broker::Name, &broker::Name) -> bool, reason: &str) {
    for handle in node.connections.read().values() {
        if handle.identity.read().as_ref().is_some_and(|(user, vhost)| which(user, vhost)) {
            let _ = handle.mailbox.push(ConnectionMail::Close(reason.to_owned()), 0);
        }
    }
}
