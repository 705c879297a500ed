//! The task of one queue, as the server's driver of that name has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use broker::QueueId;
use broker::metadata::{Queue as Record, ViewChange};
use broker::mirror::operation::Sessions;
use broker::mirror::{Effects, Leader};
use broker::queue::{ChannelEvent, Now, Publisher, Queue, QueueEffects, QueueEvent, QueueReply};
use cluster::metadata_log::NodeId;
use stdx::Time;

use super::log_writer::{Found, Job, Receipt};
use super::mirror_driver::{MirrorDriver, Start};
use super::network::Packet;
use super::node::{Actor, Handle, Mail, ReplicaMail, TaskId, asker, gone, refuse_rest};
use super::world::World;
use crate::invariant::Id;

/// The queue stands still, to be led by another seat.
#[derive(Clone, Copy, Debug)]
struct HandOver {
    to: NodeId,
    until: Time,
    /// In the view of this epoch.
    proposed: Option<u64>,
}

/// See the file's head.
pub(super) struct QueueDriver {
    node: NodeId,
    task: TaskId,
    pub(super) queue: Queue,
    record: Arc<Record>,
    fx: QueueEffects,
    stopping: usize,
    held_back: VecDeque<Mail>,
    pub(super) mirror: Option<Leader>,
    replica: Effects,
    complete: Option<u64>,
    handing_over: Option<HandOver>,
    /// A hand-over that came to nothing is not tried again before.
    hands_over_after: Time,
    /// Another node may have led before, and serve still.
    waits_for_leases: bool,
    stepped_down: Option<Arc<Record>>,
    unsettled: bool,
    is_new: bool,
}

const LEASES: Duration = Duration::from_millis(20);
const HAND_OVER: Duration = Duration::from_secs(5);
const CONGESTION: Duration = Duration::from_millis(5);

impl QueueDriver {
    pub(super) fn start(world: &mut World, node: NodeId, queue: Queue, record: Arc<Record>, mirror: Option<Leader>) {
        QueueDriver::start_after(world, node, queue, record, mirror, false);
    }

    fn start_after(
        world: &mut World,
        node: NodeId,
        queue: Queue,
        record: Arc<Record>,
        mirror: Option<Leader>,
        waits_for_leases: bool,
    ) {
        let task = world.new_task();
        let process = world.process(node);
        process.lives += 1;
        let handle = Handle { task, is_agent: false, life: process.lives };
        let (id, mirrored) = (record.id, record.view.mirrored);
        let other = process.leading.insert(id, handle);
        if other.is_some() || process.mirroring.contains_key(&id) {
            world.checks.fail(format!("{node} has two replicas of {id:?}"));
        }
        world.tell(|| format!("{node} leads {id:?} since {}, {:?}", record.view.led_since, queue.status().messages_ready));
        let driver = QueueDriver {
            node,
            task,
            queue,
            record,
            fx: QueueEffects::default(),
            stopping: 0,
            held_back: VecDeque::new(),
            mirror,
            replica: Effects::default(),
            complete: None,
            handing_over: None,
            hands_over_after: Time::START,
            waits_for_leases,
            stepped_down: None,
            unsettled: false,
            is_new: true,
        };
        world.spawn(node, task, Actor::Queue(Box::new(driver)));
        world.refresh_door(node, id, mirrored);
    }

    /// Starts a queue on what the store holds of it.
    pub(super) fn start_found(world: &mut World, node: NodeId, record: &Arc<Record>, found: &Found) {
        let queue = queue_of(world.moment(node), record, found);
        QueueDriver::start_after(world, node, queue, Arc::clone(record), None, true);
    }

    /// Starts a mirrored queue that another node led before.
    pub(super) fn start_leader(
        world: &mut World,
        node: NodeId,
        record: &Arc<Record>,
        found: &Found,
        leader: Leader,
        sessions: Sessions,
    ) {
        let mut queue = queue_of(world.moment(node), record, found);
        queue.succeed(sessions);
        QueueDriver::start(world, node, queue, Arc::clone(record), Some(leader));
    }

    pub(super) fn run(&mut self, world: &mut World, mail: Vec<Mail>) -> Option<Time> {
        let now = world.moment(self.node);
        if std::mem::take(&mut self.is_new) {
            self.become_mirrored(world);
            if let Some(mirror) = &self.mirror {
                mirror.begin(&mut self.replica);
                if self.serves(world) {
                    self.queue.settle(now, &mut self.fx);
                } else {
                    self.unsettled = true;
                }
                self.obey(world, now);
            }
        }
        let serves = self.serves(world);
        for mail in mail {
            if may_overtake(&mail, serves) {
                self.unsettled |= !serves && matches!(mail, Mail::Event(_));
                self.take(world, now, mail);
            } else {
                self.held_back.push_back(mail);
            }
        }
        if serves {
            self.take_in_order(world, now);
        } else {
            self.take_ends(world, now);
        }
        if let Some(record) = self.stepped_down.take() {
            self.step_down(world, &record);
            return None;
        }
        if serves {
            self.queue.settle(now, &mut self.fx);
            self.unsettled = false;
        }
        self.tick_mirror(now);
        self.obey(world, now);
        let process = world.process(self.node);
        process.stops_left = process.stops_left.saturating_sub(std::mem::take(&mut self.stopping));
        self.deadline(now)
    }

    fn deadline(&self, now: Now) -> Option<Time> {
        let mut deadline = self.queue.deadline(now);
        if !self.held_back.is_empty() || self.unsettled {
            let soon = now.time + if self.mirror.is_some() { LEASES } else { CONGESTION };
            deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
        }
        let mirror = self.mirror.as_ref().and_then(|mirror| mirror.deadline(now.time));
        deadline.into_iter().chain(mirror).min()
    }

    /// Whether this node may deliver, answer and take: no other leader can be at work.
    fn serves(&mut self, world: &World) -> bool {
        let Some(mirror) = &self.mirror else { return true };
        if let Some(HandOver { until, proposed, .. }) = self.handing_over {
            let now = world.clock(self.node);
            if proposed.is_some() || now < until {
                return false;
            }
            self.handing_over = None;
            self.hands_over_after = now + HAND_OVER;
        }
        if self.waits_for_leases {
            let members = world.nodes[&self.node].process.iter().flat_map(|process| process.tables.nodes.iter());
            let others = members.map(|member| member.id).filter(|node| *node != self.node);
            self.waits_for_leases = !world.serve_no_more(self.node, others);
        }
        let others = mirror.possible_successors();
        !self.waits_for_leases
            && !mirror.is_deposed()
            && (world.holds_leases(self.node, others) || world.breaks(super::Mutant::ServeWithoutLeases))
    }

    fn become_mirrored(&mut self, world: &World) {
        if !self.record.view.mirrored || self.mirror.is_some() {
            return;
        }
        self.queue.replicate(true, &mut self.fx);
        let care = world.care(&self.record);
        let sessions = self.queue.sessions().clone();
        self.mirror = Some(Leader::found(self.record.id, self.node, &self.record.view, sessions, care));
    }

    fn record_changed(&mut self, world: &World, now: Now, record: Arc<Record>) {
        if self.mirror.as_ref().is_some_and(|mirror| !record.view.is_same_term(mirror.view())) {
            self.stepped_down = Some(record);
            return;
        }
        if record.view.led_since != self.record.view.led_since {
            self.queue.begin_term(record.view.led_since);
        }
        let settings = Arc::clone(&record.settings);
        let changed = !Arc::ptr_eq(&settings, &self.record.settings);
        self.record = record;
        if changed {
            self.queue.handle(now, QueueEvent::Settings(settings), &mut self.fx);
            self.unsettled = true;
        }
        self.become_mirrored(world);
        if let Some(mirror) = &mut self.mirror {
            mirror.set_care(world.care(&self.record));
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

    fn take_from_replica(&mut self, now: Now, mail: ReplicaMail) {
        let Some(mirror) = &mut self.mirror else {
            if let ReplicaMail::StepDown(record) = mail {
                self.stepped_down = Some(record);
            }
            return;
        };
        let (time, fx) = (now.time, &mut self.replica);
        match mail {
            ReplicaMail::Packet(from, packet) => mirror.receive(time, from, packet, fx),
            ReplicaMail::Stored(report) => mirror.stored(report, fx),
            ReplicaMail::Surveyed { node, feed, held, note } => mirror.surveyed(time, node, feed, held, note, fx),
            ReplicaMail::Loaded { node, feed, level, messages } => mirror.loaded(time, node, feed, level, &messages, fx),
            ReplicaMail::Reconnected(node) => mirror.reconnected(node, fx),
            ReplicaMail::Refused(epoch, ViewChange::Transfer(_)) => {
                // One of an earlier view says nothing of a later one, which may still happen.
                self.handing_over.take_if(|handing_over| handing_over.proposed == Some(epoch));
            }
            ReplicaMail::Refused(epoch, change) => mirror.refused(time, epoch, change),
            ReplicaMail::HandOver(to) if !self.waits_for_leases && mirror.view().is_in_sync(to) && to != mirror.node() => {
                if self.handing_over.is_none() && time >= self.hands_over_after {
                    self.handing_over = Some(HandOver { to, until: time + HAND_OVER, proposed: None });
                }
            }
            ReplicaMail::HandOver(_) => {}
            ReplicaMail::StepDown(record) => self.stepped_down = Some(record),
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
    fn step_down(&mut self, world: &mut World, record: &Arc<Record>) {
        let (node, id) = (self.node, self.record.id);
        // Whoever comes from here on finds an agent.
        world.refresh_door(node, id, true);
        world.tell(|| format!("{node} leads {id:?} no longer, {:?} does", record.view.leader()));
        world.coverage.step_downs += 1;
        self.queue.leave_to_successor(&mut self.fx);
        self.fx.batch = store::Batch::new();
        self.fx.ticket = None;
        self.mirror_effects(world);
        for (_, event) in std::mem::take(&mut self.fx.to_connections) {
            world.tell_channel(node, event);
        }
        let rest: Vec<Mail> = std::mem::take(&mut self.held_back).into_iter().chain(world.close(node, self.task)).collect();
        let is_for_follower = |mail: &Mail| matches!(mail, Mail::Mirror(ReplicaMail::Packet(..) | ReplicaMail::Reconnected(_)));
        let (for_follower, rest): (Vec<Mail>, Vec<Mail>) = rest.into_iter().partition(is_for_follower);
        refuse_rest(world, node, id, rest);
        let process = world.process(node);
        process.stops_left = process.stops_left.saturating_sub(std::mem::take(&mut self.stopping));
        process.leading.remove(&id);
        if process.mirroring.get(&id).is_some_and(|handle| handle.task == self.task) {
            process.mirroring.remove(&id);
        }
        let Some(newest) = process.record(id) else { return };
        if newest.leader() == node {
            // An agent that heard of this node's next term first has sent everything already, to this driver.
            let mut bytes = Vec::new();
            broker::packet::Packet::NotLeader { queue: id, attempt: 0 }.encode(&mut bytes);
            let peers: Vec<NodeId> = process.lines.keys().copied().collect();
            for peer in peers {
                world.send(node, peer, Packet::Broker(bytes.clone()));
            }
        }
        let (ring, sessions) = self.mirror.take().map_or_else(Default::default, Leader::step_down);
        if newest.view.is_member(node) && newest.view.is_running() {
            MirrorDriver::start(world, node, &newest, Start::AfterLeading { ring, sessions }, for_follower);
        }
        world.refresh_door(node, id, true);
    }

    fn take_in_order(&mut self, world: &mut World, now: Now) {
        while let Some(mail) = self.held_back.pop_front() {
            if matches!(&mail, Mail::Event(QueueEvent::Publish { .. } | QueueEvent::Session { .. })) && self.queue.is_congested(now) {
                self.held_back.push_front(mail);
                break;
            }
            self.take(world, now, mail);
        }
    }

    /// The end waits for nothing that a queue which does not serve could wait for.
    fn take_ends(&mut self, world: &mut World, now: Now) {
        while let Some(at) = self.held_back.iter().position(|mail| matches!(mail, Mail::Stop)) {
            if let Some(mail) = self.held_back.remove(at) {
                self.take(world, now, mail);
            }
        }
    }

    fn take(&mut self, world: &mut World, now: Now, mail: Mail) {
        match mail {
            Mail::Event(event) => self.queue.handle(now, event, &mut self.fx),
            Mail::Record(record) => self.record_changed(world, now, record),
            Mail::Mirror(mail) => self.take_from_replica(now, mail),
            Mail::Stop => {
                self.queue.handle(now, QueueEvent::Stop, &mut self.fx);
                self.stopping += 1;
            }
            Mail::Channel(_) | Mail::Answered(..) | Mail::Recheck | Mail::NotLeader(..) | Mail::Close => {}
        }
    }

    /// Does what the queue asks, until it asks for nothing more.
    fn obey(&mut self, world: &mut World, now: Now) {
        for _ in 0..16 {
            if self.waits_for_leases
                && let Some(mirror) = &mut self.mirror
            {
                mirror.take_back_seats(now.time, &mut self.replica);
            }
            self.mirror_effects(world);
            if let Some(ticket) = self.complete.take() {
                self.queue.handle(now, QueueEvent::Stored { ticket }, &mut self.fx);
                if self.serves(world) || world.breaks(super::Mutant::SettleWithoutServing) {
                    self.queue.settle(now, &mut self.fx);
                } else {
                    self.queue.report(&mut self.fx);
                    self.unsettled = true;
                }
            }
            if self.fx.is_empty() && self.replica.is_empty() {
                return;
            }
            self.hand_over(world, now);
            if self.replica.is_empty() {
                return;
            }
        }
        let _ = world.push(self.node, self.task, Mail::Event(QueueEvent::Tick));
    }

    fn mirror_effects(&mut self, world: &mut World) {
        if self.mirror.is_none() {
            return;
        }
        self.complete = self.complete.max(self.replica.complete.take());
        world.obey_replica(self.node, &self.record, self.task, &mut self.replica);
    }

    fn hand_over(&mut self, world: &mut World, now: Now) {
        let (node, task) = (self.node, self.task);
        if !self.fx.transient.is_empty() {
            world.submit(node, Job::Transient(std::mem::take(&mut self.fx.transient)));
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
            let report = receipt.map(|receipt| (task, receipt));
            world.submit(node, Job::Append { batch, report });
        }
        for load in self.fx.loads.drain(..) {
            world.submit(node, Job::Load { load, to: task });
        }
        let events = std::mem::take(&mut self.fx.to_connections);
        for (_, event) in events {
            let since = self.record.view.led_since;
            match &event {
                ChannelEvent::Deliver { queue, .. } if self.mirror.is_some() => world.checks.leaders.delivers(*queue, since, node),
                ChannelEvent::Confirmed { .. } if self.mirror.is_some() => world.checks.leaders.confirms(self.record.id, since, node),
                _ => {}
            }
            if let ChannelEvent::Deliver { queue, items, .. } = &event {
                for delivery in items.iter().filter(|delivery| !delivery.redelivered) {
                    if let Some(id) = Id::of(delivery.message.body()) {
                        world.checks.sent_as_fresh(node, *queue, id);
                    }
                }
            }
            world.tell_channel(node, event);
        }
    }
}

fn queue_of(now: Now, record: &Record, found: &Found) -> Queue {
    let horizon = found.horizon.as_ref().map(|(seq, bytes)| (*seq, &bytes[..]));
    let levels: Vec<_> = Some(found.level).into_iter().filter(|level| level.messages > 0 || level.next.0 > 1).collect();
    Queue::new(record, &levels, horizon, now)
}

fn may_overtake(mail: &Mail, serves: bool) -> bool {
    match mail {
        Mail::Event(event) => match event {
            QueueEvent::Stored { .. } | QueueEvent::Loaded { .. } | QueueEvent::DeadLettered { .. } | QueueEvent::Tick => true,
            QueueEvent::Credit { .. } | QueueEvent::Ack { .. } | QueueEvent::Taken { .. } => serves,
            _ => false,
        },
        Mail::Record(_) | Mail::Mirror(_) | Mail::Answered(..) | Mail::Recheck | Mail::NotLeader(..) => true,
        Mail::Stop => !serves,
        Mail::Channel(_) | Mail::Close => true,
    }
}

/// The queue is led elsewhere now. Agents notice by themselves; who used the queue directly is told.
pub(super) fn gone_from_here(world: &mut World, node: NodeId, queue: QueueId, event: QueueEvent) {
    match event {
        QueueEvent::Publish { from: Publisher::Channel(channel), messages } => {
            let numbers: Vec<u64> = messages.iter().map(|publish| publish.number).filter(|number| *number != 0).collect();
            if !numbers.is_empty() {
                world.tell_channel(node, ChannelEvent::Rejected { channel, numbers });
            }
        }
        QueueEvent::Session { session, .. } => {
            if session.node() == node {
                world.refresh_door(node, queue, true);
            } else {
                let mut bytes = Vec::new();
                broker::packet::Packet::NotLeader { queue, attempt: 0 }.encode(&mut bytes);
                world.send(node, session.node(), Packet::Broker(bytes));
            }
        }
        QueueEvent::Ack { .. } => match world.queue(node, queue) {
            None => gone(world, node, queue, event),
            Some(handle) => drop(world.push(node, handle.task, Mail::Event(event))),
        },
        other => {
            if let Some(channel) = asker(&other)
                && channel.connection.node() == node
                && world.process(node).doors.get(&queue).is_none_or(|door| !door.is_agent)
            {
                world.tell_channel(node, ChannelEvent::Replied { channel, queue, reply: QueueReply::Down });
            }
        }
    }
}
