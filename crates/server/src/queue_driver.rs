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
use broker::metadata::{self, Command, ViewChange};
use broker::mirror::{Effects as ReplicaEffects, Leader};
use broker::queue::{
    ChannelEvent, ChannelKey, ConsumerKey, DeadLetter, Now, Publish, Publisher, Queue, QueueEffects, QueueEvent, QueueReply,
};
use broker::status::Counters;
use broker::{ConnectionId, QueueId};
use cluster::metadata_log::NodeId;
use stdx::Time;

use crate::clock;
use crate::follow::{forget_copy, level_max};
use crate::log_writer::{Job, Receipt};
use crate::mailbox::{Closed, Mailbox};
use crate::mirrors::{self, Mail};
use crate::node::{ConnectionHandle, ConnectionMail, Node, ProposeFailure, QueueHandle, QueueMail};

/// Starts the task of a queue that this node leads. What came in for the replica before it is in its mailbox first.
pub(crate) fn start(
    node: &Arc<Node>,
    queue: Queue,
    record: Arc<metadata::Queue>,
    mirror: Option<Leader>,
    came: impl IntoIterator<Item = QueueMail>,
) {
    start_after(node, queue, record, mirror, came, false);
}

/// Starts the task of a queue from what the store of this node has, whoever has led it before: with mirrors it
/// serves when no node that is down holds a lease of this one any more. It may have led while this one came up.
pub(crate) fn start_from_store(node: &Arc<Node>, queue: Queue, record: Arc<metadata::Queue>) {
    start_after(node, queue, record, None, [], true);
}

fn start_after(
    node: &Arc<Node>,
    queue: Queue,
    record: Arc<metadata::Queue>,
    mirror: Option<Leader>,
    came: impl IntoIterator<Item = QueueMail>,
    waits_for_leases: bool,
) {
    let mailbox = Arc::new(Mailbox::new());
    for mail in came {
        let _ = mailbox.push(mail, 0);
    }
    let handle = Arc::new(QueueHandle::of_queue(Arc::clone(&mailbox), node.peers.next_life()));
    let (id, mirrored) = (record.id, record.view.mirrored);
    node.leading.write().insert(id, Arc::clone(&handle));
    let driver = Driver {
        node: Arc::clone(node),
        queue,
        record,
        mailbox,
        handle,
        fx: QueueEffects::default(),
        connections: HashMap::new(),
        leaving: HashMap::new(),
        deleted: false,
        stopping: Vec::new(),
        held_back: VecDeque::new(),
        holds_letters: false,
        mirror,
        replica: ReplicaEffects::default(),
        complete: None,
        handing_over: None,
        hands_over_after: Time::START,
        waits_for_leases,
        stepped_down: None,
        stands_still: false,
        unsettled: false,
        told: (0, 0),
    };
    node.run(Box::new(driver).run());
    node.refresh_door(id, mirrored);
}

/// The queue stands still, to be led by another seat.
struct HandOver {
    to: NodeId,
    /// Until when that is waited for.
    until: Time,
    /// In the view of this epoch.
    proposed: Option<u64>,
}

struct Driver {
    node: Arc<Node>,
    queue: Queue,
    record: Arc<metadata::Queue>,
    mailbox: Arc<Mailbox<QueueMail>>,
    /// The queue as others see it.
    handle: Arc<QueueHandle>,
    fx: QueueEffects,
    /// Connections that have been spoken to.
    connections: HashMap<ConnectionId, Arc<ConnectionHandle>>,
    /// Dead letters by number: targets that have not answered.
    leaving: HashMap<u64, usize>,
    deleted: bool,
    stopping: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Mail that waits for consumers to take what lies ready, in order.
    held_back: VecDeque<QueueMail>,
    /// Dead letters of other queues are among it.
    holds_letters: bool,
    /// Of a mirrored queue: the ring and the feeds.
    mirror: Option<Leader>,
    replica: ReplicaEffects,
    /// Batches up to this ticket have become complete.
    complete: Option<u64>,
    /// To whom the queue should go, and until when that is waited for.
    handing_over: Option<HandOver>,
    /// A hand-over that came to nothing is not tried again before.
    hands_over_after: Time,
    /// Another node may have led before, and serve still.
    waits_for_leases: bool,
    /// Another node leads; what its view says.
    stepped_down: Option<Arc<metadata::Queue>>,
    /// It did not serve when it was looked at last.
    stands_still: bool,
    /// Something has happened while the queue did not serve: what follows from it is to be done when it does.
    unsettled: bool,
    /// Reads and writes of the disk that the node's sums have.
    told: (u64, u64),
}

/// A queue that waits for leases looks again after this time.
const LEASES: std::time::Duration = std::time::Duration::from_millis(20);
/// So long a queue stands still for another node to take it, and so long it serves before it does so again.
const HAND_OVER: std::time::Duration = std::time::Duration::from_secs(5);
/// A congested queue looks again after this time, even if nothing came.
const CONGESTION: std::time::Duration = std::time::Duration::from_millis(5);
/// One that waits for the store, which wakes it.
const ROOM: std::time::Duration = std::time::Duration::from_millis(100);

impl Driver {
    async fn run(mut self: Box<Self>) {
        let mut mails = Vec::new();
        self.count_copies();
        self.become_mirrored();
        if let Some(mirror) = &self.mirror {
            mirror.begin(&mut self.replica);
        }
        let settings = &self.record.settings;
        if self.mirror.is_some() || settings.message_ttl.is_some() || settings.dead_letter_exchange.is_some() {
            // What a restart found may expire, though nobody comes to ask for it.
            let now = self.now();
            if self.serves() {
                self.queue.settle(now, &mut self.fx);
            } else {
                self.unsettled = true;
            }
            self.obey(now);
        }
        loop {
            self.handle.messages.store(self.queue.messages(), Ordering::Relaxed);
            self.wait(&mut mails).await;
            let now = self.now();
            let serves = self.serves();
            self.stands_still = !serves;
            if serves && std::mem::take(&mut self.holds_letters) {
                self.take_out(now, is_letter);
            }
            for mail in mails.drain(..) {
                if may_overtake(&mail, serves) {
                    self.unsettled |= !serves && matches!(mail, QueueMail::Event(_));
                    self.take_counted(now, mail);
                } else {
                    self.holds_letters |= is_letter(&mail);
                    self.held_back.push_back(mail);
                }
            }
            if serves {
                self.take_in_order(now);
            } else {
                // The end waits for nothing that a queue which does not serve could wait for: it came in its place
                // behind publishes when the queue still served.
                self.take_out(now, |mail| matches!(mail, QueueMail::Deleted | QueueMail::Stop(_)));
            }
            if self.deleted {
                self.end();
                return;
            }
            if let Some(record) = self.stepped_down.take() {
                self.step_down(&record);
                return;
            }
            if serves {
                // Before a hand-over: what was settled here is written while this node leads.
                self.queue.settle(now, &mut self.fx);
                self.unsettled = false;
            }
            self.tick_mirror(now);
            self.obey(now);
            for done in self.stopping.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// Whether this node may deliver, answer and take: no other leader can be at work.
    fn serves(&mut self) -> bool {
        let Some(mirror) = &self.mirror else { return true };
        if let Some(HandOver { until, proposed, .. }) = self.handing_over {
            let now = clock::now();
            if proposed.is_some() || now < until {
                return false;
            }
            self.handing_over = None;
            self.hands_over_after = now + HAND_OVER;
        }
        if self.waits_for_leases {
            let tables = self.node.tables.load();
            let others = tables.nodes.iter().map(|member| member.id).filter(|node| *node != self.node.id());
            self.waits_for_leases = !mirrors::serve_no_more(&self.node, others);
        }
        !self.waits_for_leases
            && !mirror.is_deposed()
            && self.node.reach.holds_leases(mirror.possible_successors())
    }

    /// The view says that the queue is mirrored: from here on everything goes round a ring.
    fn become_mirrored(&mut self) {
        if !self.record.view.mirrored || self.mirror.is_some() {
            return;
        }
        self.queue.replicate(true, &mut self.fx);
        let care = mirrors::care(&self.node, &self.record);
        let sessions = self.queue.sessions().clone();
        self.mirror = Some(Leader::found(self.record.id, self.node.id(), &self.record.view, sessions, care));
    }

    /// Compares the copies in sync with what the policy wants at least.
    fn count_copies(&mut self) {
        let wanted = self.record.mirroring.as_deref().map_or(1, |mirroring| mirroring.min_in_sync);
        self.queue.set_short_of_copies((self.record.view.seats.len() as u64) < wanted);
    }

    fn record_changed(&mut self, now: Now, record: Arc<metadata::Queue>) {
        if self.mirror.as_ref().is_some_and(|mirror| !record.view.is_same_term(mirror.view())) {
            // Somebody else has led meanwhile: this node takes over like everybody else.
            self.stepped_down = Some(record);
            return;
        }
        if record.view.led_since != self.record.view.led_since {
            self.queue.begin_term(record.view.led_since);
        }
        let settings = Arc::clone(&record.settings);
        let changed = !Arc::ptr_eq(&settings, &self.record.settings);
        self.record = record;
        self.count_copies();
        if changed {
            self.queue.handle(now, QueueEvent::Settings(settings), &mut self.fx);
            self.unsettled = true;
        }
        self.become_mirrored();
        if let Some(mirror) = &mut self.mirror {
            mirror.set_care(mirrors::care(&self.node, &self.record));
            mirror.view_changed(&self.record.view, &mut self.replica);
            // What was proposed for an earlier view cannot happen any more.
            if let Some(HandOver { to, proposed, .. }) = &mut self.handing_over {
                *proposed = proposed.filter(|epoch| *epoch >= self.record.view.epoch);
                if !self.record.view.is_in_sync(*to) {
                    self.handing_over = None;
                }
            }
        }
    }

    fn take_from_replica(&mut self, now: Now, mail: Mail) {
        let Some(mirror) = &mut self.mirror else {
            match mail {
                Mail::StepDown(record) => self.stepped_down = Some(record),
                Mail::Synchronize(_, done) => drop(done.send(false)),
                _ => {}
            }
            return;
        };
        let (time, fx) = (now.time, &mut self.replica);
        match mail {
            Mail::Packet(from, packet) => mirror.receive(time, from, packet, fx),
            Mail::Stored(report) => mirror.stored(report, fx),
            Mail::Surveyed { node, feed, held, note } => mirror.surveyed(time, node, feed, held, note, fx),
            Mail::Loaded { node, feed, level, messages } => mirror.loaded(time, node, feed, level, &messages, fx),
            Mail::Reconnected(node) => mirror.reconnected(node, fx),
            Mail::Refused(epoch, ViewChange::Transfer(_)) => {
                // One of an earlier view says nothing of a later one, which may still happen.
                self.handing_over.take_if(|handing_over| handing_over.proposed == Some(epoch));
            }
            Mail::Refused(epoch, change) => mirror.refused(time, epoch, change),
            Mail::Synchronize(start, done) => drop(done.send(mirror.synchronize(time, start, fx))),
            Mail::FirstIncomplete(reply) => {
                let first = mirror.first_incomplete().or(self.fx.batch.first());
                let _ = reply.send(first.unwrap_or(self.queue.next_seq()));
            }
            Mail::HandOver(to) if !self.waits_for_leases && mirror.view().is_in_sync(to) && to != mirror.node() => {
                if self.handing_over.is_none() && time >= self.hands_over_after {
                    self.handing_over = Some(HandOver { to, until: time + HAND_OVER, proposed: None });
                }
            }
            Mail::HandOver(_) => {}
            Mail::StepDown(record) => self.stepped_down = Some(record),
        }
    }

    fn tick_mirror(&mut self, now: Now) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.tick(now.time, &mut self.replica);
        if let Some(HandOver { to, proposed, .. }) = &mut self.handing_over
            && proposed.is_none()
            && mirror.is_quiet()
            && self.fx.is_empty()
        {
            let epoch = mirror.view().epoch;
            *proposed = Some(epoch);
            self.replica.proposals.push((epoch, ViewChange::Transfer(*to)));
        }
    }

    /// Another node leads: consumers of this node ask there, and the ring goes to a follower.
    fn step_down(mut self, record: &Arc<metadata::Queue>) {
        if record.view.is_running() && record.leader() != self.node.id() {
            let tables = self.node.tables.load();
            let leader = tables.leader_name(record);
            tracing::info!("queue '{}' in vhost '{}' is led by node {leader} now", record.name, record.vhost);
        }
        self.tell_disk(&self.queue.status().counters);
        self.queue.leave_to_successor(&mut self.fx);
        self.fx.batch = store::Batch::new();
        self.fx.ticket = None;
        self.mirror_effects();
        for (connection, event) in std::mem::take(&mut self.fx.to_connections) {
            self.tell_connection(connection, event);
        }
        let _order = self.node.following.lock();
        // Whoever comes from here on finds an agent.
        self.node.refresh_door(self.record.id, true);
        let rest: Vec<QueueMail> = std::mem::take(&mut self.held_back).into_iter().chain(self.mailbox.close()).collect();
        let mut for_follower = Vec::new();
        for mail in rest {
            match mail {
                QueueMail::Event(event) => gone_from_here(&self.node, self.record.id, event),
                QueueMail::Stop(done) => drop(done.send(())),
                QueueMail::Mirror(Mail::Packet(..) | Mail::Reconnected(_)) => for_follower.push(mail),
                _ => {}
            }
        }
        for done in self.stopping.drain(..) {
            let _ = done.send(());
        }
        self.node.leading.write().remove(&self.record.id);
        self.node.mirroring.write().remove(&self.record.id);
        let newest = self.node.tables.load().queues.get(&self.record.id).map(Arc::clone);
        let Some(newest) = newest else {
            return forget_copy(&self.node, self.record.id, level_max(&self.record));
        };
        if newest.leader() == self.node.id() {
            // An agent that heard of this node's next term first has sent everything already, to this driver,
            // and would wait for its reports.
            let mut packet = Vec::new();
            broker::packet::Packet::NotLeader { queue: self.record.id, attempt: 0 }.encode(&mut packet);
            for peer in self.node.peers.all() {
                peer.send(crate::peers::EVENTS, packet.clone());
            }
        }
        let (ring, sessions) = self.mirror.take().map_or_else(Default::default, Leader::step_down);
        if newest.view.is_member(self.node.id()) && newest.view.is_running() {
            let start = crate::mirror_driver::Start::AfterLeading { ring, sessions };
            crate::mirror_driver::start(&self.node, &newest, start, for_follower);
        } else if !newest.view.holds(self.node.id()) {
            forget_copy(&self.node, self.record.id, level_max(&self.record));
        }
        self.node.refresh_door(self.record.id, true);
    }

    /// Takes what came in order, unless the queue is congested or the store behind: then publishers wait, since
    /// what is held back still counts in the mailbox.
    fn take_in_order(&mut self, now: Now) {
        let mut done = 0;
        while let Some(mail) = self.held_back.pop_front() {
            let is_publish = matches!(&mail, QueueMail::Event(QueueEvent::Publish { .. } | QueueEvent::Session { .. }));
            if is_publish && (self.queue.is_congested(now) || self.node.log.is_crowded()) {
                self.held_back.push_front(mail);
                break;
            }
            done += size_of_mail(&mail);
            self.take(now, mail);
        }
        self.mailbox.release(done);
    }

    /// Takes mail of one kind out of what is held back.
    fn take_out(&mut self, now: Now, is_wanted: impl Fn(&QueueMail) -> bool) {
        let mut at = 0;
        while let Some(mail) = self.held_back.get(at) {
            if !is_wanted(mail) {
                at += 1;
            } else if let Some(mail) = self.held_back.remove(at) {
                self.take_counted(now, mail);
            }
        }
    }

    /// Takes mail that still counts in the mailbox.
    fn take_counted(&mut self, now: Now, mail: QueueMail) {
        let bytes = size_of_mail(&mail);
        self.take(now, mail);
        self.mailbox.release(bytes);
    }

    fn now(&self) -> Now {
        Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: self.node.queue_budget() }
    }

    async fn wait(&mut self, mails: &mut Vec<QueueMail>) {
        let take = poll_fn(|cx| self.mailbox.poll_take(cx, mails));
        let now = Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: 0 };
        let mut deadline = self.queue.deadline(now);
        if self.stands_still {
            // What is due waits until the queue serves, which is looked for from time to time.
            deadline = deadline.map(|at| at.max(now.time + LEASES));
        }
        let held_by_store = !self.held_back.is_empty() && self.node.log.is_crowded();
        if !self.held_back.is_empty() || self.unsettled {
            let wait = if held_by_store { ROOM } else if self.mirror.is_some() { LEASES } else { CONGESTION };
            let soon = now.time + wait;
            deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
        }
        if let Some(at) = self.mirror.as_ref().and_then(|mirror| mirror.deadline(now.time)) {
            deadline = Some(deadline.map_or(at, |first| first.min(at)));
        }
        let take = async {
            match deadline {
                None => take.await,
                Some(at) => {
                    let _ = tokio::time::timeout_at(clock::instant(at), take).await;
                }
            }
        };
        if held_by_store {
            tokio::select! {
                () = take => {}
                () = self.node.log.room() => {}
            }
        } else {
            take.await;
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
            QueueMail::Report(reply) => {
                let progress: Vec<_> = self.mirror.iter().flat_map(Leader::progress).collect();
                let tables = self.node.tables.load();
                let status = self.queue.status();
                self.tell_disk(&status.counters);
                let _ = reply.send(crate::listing::queue_report(&tables, &self.record.view, status, &progress));
            }
            QueueMail::Record(record) => self.record_changed(now, record),
            QueueMail::Mirror(mail) => self.take_from_replica(now, mail),
            QueueMail::Delay(_) | QueueMail::Answered(..) | QueueMail::Recheck | QueueMail::NotLeader(..) => {}
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

    /// Adds to the node's sums what they do not have yet.
    fn tell_disk(&mut self, counters: &Counters) {
        let (reads, writes) = std::mem::replace(&mut self.told, (counters.disk_reads, counters.disk_writes));
        self.node.traffic.add_disk(counters.disk_reads - reads, counters.disk_writes - writes);
    }

    fn end(&mut self) {
        let now = self.now();
        self.obey(now);
        self.tell_disk(&self.queue.status().counters);
        for mail in std::mem::take(&mut self.held_back).into_iter().chain(self.mailbox.close()) {
            if let QueueMail::Event(event) = mail {
                gone(&self.node, self.record.id, event);
            }
        }
        self.node.mirroring.write().remove(&self.record.id);
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
            if self.waits_for_leases
                && let Some(mirror) = &mut self.mirror
            {
                mirror.take_back_seats(now.time, &mut self.replica);
            }
            self.mirror_effects();
            if let Some(ticket) = self.complete.take() {
                self.queue.handle(now, QueueEvent::Stored { ticket }, &mut self.fx);
                // What is complete may be told whoever leads; only a leader delivers.
                if self.serves() {
                    self.queue.settle(now, &mut self.fx);
                } else {
                    self.queue.report(&mut self.fx);
                    self.unsettled = true;
                }
            }
            if self.fx.is_empty() && self.replica.is_empty() {
                return;
            }
            let letters = std::mem::take(&mut self.fx.dead_letters);
            // First: who has an answer of this queue finds the letters where they went, as in RabbitMQ.
            let homeless = self.send_letters(letters);
            self.hand_over(now);
            if homeless.is_empty() {
                if self.replica.is_empty() {
                    return;
                }
                continue;
            }
            self.queue.handle(now, QueueEvent::DeadLettered { numbers: homeless }, &mut self.fx);
            self.queue.settle(now, &mut self.fx);
        }
        // What is left is served in the next round.
        let _ = self.mailbox.push(QueueMail::Event(QueueEvent::Tick), 0);
    }

    /// Does what the ring and the feeds ask.
    fn mirror_effects(&mut self) {
        if self.mirror.is_none() {
            return;
        }
        self.complete = self.complete.max(self.replica.complete.take());
        mirrors::obey(&self.node, &self.record, &self.mailbox, &mut self.replica);
    }

    fn hand_over(&mut self, now: Now) {
        // Before the log's batch, which may remove what is paged out here.
        if !self.fx.transient.is_empty() {
            self.node.log.submit(Job::Transient(std::mem::take(&mut self.fx.transient)));
        }
        if !self.fx.batch.is_empty() || self.fx.ticket.is_some() {
            let mut batch = std::mem::take(&mut self.fx.batch);
            batch.seal();
            let ticket = self.fx.ticket.take();
            let receipt = match &mut self.mirror {
                None => ticket.map(Receipt::Ticket),
                Some(mirror) => {
                    let sessions = std::mem::take(&mut self.fx.sessions);
                    Some(Receipt::Mirror(mirror.write(now.time, &batch, sessions, ticket, &mut self.replica)))
                }
            };
            match receipt.map(|receipt| (Arc::clone(&self.mailbox), receipt)) {
                // Nobody else has something to do until it is durable.
                Some(report) if self.mirror.is_none() && self.fx.tells_nobody() => self.node.log.commit(batch, report),
                report => self.node.log.submit(Job::Append { batch, report }),
            }
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
            self.node.run(propose(node, self.record.id, command));
        }
    }

    fn tell_connection(&mut self, id: ConnectionId, event: ChannelEvent) {
        let is_plain = !matches!(event, ChannelEvent::Replied { .. });
        if id.node() != self.node.id() || !is_plain {
            self.node.tell_channel(event);
            return;
        }
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
        if letters.is_empty() {
            return Vec::new();
        }
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
    while node.leading(queue).is_some() && !node.is_stopping() {
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

/// Mail that need not wait for the publishes before it. A queue that does not serve takes only what
/// keeps it going.
fn may_overtake(mail: &QueueMail, serves: bool) -> bool {
    match mail {
        QueueMail::Event(event) => match event {
            QueueEvent::Stored { .. } | QueueEvent::Loaded { .. } | QueueEvent::DeadLettered { .. } | QueueEvent::Tick => true,
            QueueEvent::Credit { .. } | QueueEvent::Ack { .. } | QueueEvent::Taken { .. } => serves,
            // Nobody could tell the queue that they come from to wait.
            QueueEvent::Publish { from: Publisher::Queue(_), .. } => serves,
            _ => false,
        },
        QueueMail::Report(_) | QueueMail::Record(_) | QueueMail::Mirror(_) => true,
        QueueMail::Answered(..) | QueueMail::Recheck | QueueMail::NotLeader(..) => true,
        QueueMail::Deleted | QueueMail::Stop(_) => !serves,
        QueueMail::Delay(_) => false,
    }
}

/// The queue is led elsewhere now. Agents notice by themselves; who used the queue directly is told.
pub(crate) fn gone_from_here(node: &Node, queue: QueueId, event: QueueEvent) {
    match event {
        QueueEvent::Publish { from: Publisher::Channel(channel), messages } => {
            let numbers: Vec<u64> = messages.iter().map(|p| p.number).filter(|number| *number != 0).collect();
            if !numbers.is_empty() {
                node.tell_channel(ChannelEvent::Rejected { channel, numbers });
            }
        }
        // A dead letter stays in its own queue until it is taken, and an acknowledgement is honoured late.
        QueueEvent::Publish { from: Publisher::Queue(_), .. } | QueueEvent::Ack { .. } => send(node, queue, event),
        QueueEvent::Session { session, .. } => {
            // The agent is told, and sends again to whoever leads.
            if session.node() == node.id() {
                node.refresh_door(queue, true);
            } else if let Some(peer) = node.peers.get(session.node()) {
                let mut packet = Vec::new();
                broker::packet::Packet::NotLeader { queue, attempt: 0 }.encode(&mut packet);
                peer.send(crate::peers::EVENTS, packet);
            }
        }
        other => {
            if let Some(channel) = asker(&other)
                && channel.connection.node() == node.id()
                && node.doors.read().get(&queue).is_none_or(|door| !door.is_agent)
            {
                node.tell_channel(ChannelEvent::Replied { channel, queue, reply: QueueReply::Down });
            }
        }
    }
}

/// Sends an event to a queue; if the queue is gone, whoever waits is told.
pub(crate) fn send(node: &Node, queue: QueueId, event: QueueEvent) {
    match node.queue(queue) {
        None => gone(node, queue, event),
        Some(handle) => {
            let bytes = size_of_event(&event);
            if let Err(Closed(QueueMail::Event(event))) = handle.mailbox.push(QueueMail::Event(event), bytes) {
                left_behind(node, queue, event);
            }
        }
    }
}

/// The driver that an event was meant for has ended: the queue is deleted, or just now led by another node.
pub(crate) fn left_behind(node: &Node, queue: QueueId, event: QueueEvent) {
    if node.tables.load().queues.get(&queue).is_some() {
        gone_from_here(node, queue, event);
    } else {
        gone(node, queue, event);
    }
}

fn is_letter(mail: &QueueMail) -> bool {
    matches!(mail, QueueMail::Event(QueueEvent::Publish { from: Publisher::Queue(_), .. }))
}

fn size_of_mail(mail: &QueueMail) -> usize {
    match mail {
        QueueMail::Event(event) => size_of_event(event),
        _ => 0,
    }
}

/// Bytes that an event stands for in a mailbox.
pub(crate) fn size_of_event(event: &QueueEvent) -> usize {
    match event {
        QueueEvent::Publish { messages, .. } | QueueEvent::Session { messages, .. } => {
            messages.iter().map(|p| p.message.memory_bytes()).sum()
        }
        _ => 0,
    }
}

/// A queue that was deleted counts as done for publishes; questions are answered with "gone". A consumer that asks
/// again has none that waits for an answer: it is cancelled.
pub(crate) fn gone(node: &Node, queue: QueueId, event: QueueEvent) {
    match event {
        QueueEvent::Publish { from, messages } => {
            let numbers: Vec<u64> = messages.iter().map(|p| p.number).filter(|n| *n != 0).collect();
            if numbers.is_empty() {
                return;
            }
            match from {
                Publisher::Channel(channel) => {
                    let runs = numbers.iter().map(|n| (*n, *n)).collect();
                    node.tell_channel(ChannelEvent::Confirmed { channel, runs });
                }
                Publisher::Queue(source) if source != queue => {
                    send(node, source, QueueEvent::DeadLettered { numbers });
                }
                Publisher::Queue(_) | Publisher::Agent(_) => {}
            }
        }
        QueueEvent::Session { session, messages, .. } => {
            let runs = messages.iter().map(|p| (p.number, p.number)).collect();
            node.tell_channel(ChannelEvent::Confirmed { channel: Publisher::agent_channel(session), runs });
        }
        QueueEvent::Resume { channel } => drop(node.tell_channel(ChannelEvent::Resumed { queue, channel })),
        QueueEvent::Consume(ask) if ask.again => {
            let ConsumerKey { channel, number } = ask.consumer;
            node.tell_channel(ChannelEvent::ConsumerCancelled { channel, number });
        }
        other => {
            if let Some(channel) = asker(&other) {
                node.tell_channel(ChannelEvent::Replied { channel, queue, reply: QueueReply::Gone });
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
