//! The task of a replica that follows, as the server's driver of that name has it.

use std::sync::Arc;
use std::time::Duration;

use broker::metadata::Queue as Record;
use broker::mirror::operation::Sessions;
use broker::mirror::{Effects, Follower, Leader};
use broker::queue::{QueueEvent, horizon_key, level_key};
use cluster::metadata_log::NodeId;
use cluster::ring::Member;
use stdx::Time;
use store::Batch;

use super::log_writer::{Found, Job};
use super::node::{Actor, Handle, Mail, ReplicaMail, TaskId, Then, leads, refuse_rest};
use super::queue_driver::{QueueDriver, gone_from_here};
use super::world::World;

/// How a follower begins.
pub(super) enum Start {
    Fresh,
    AfterLeading { ring: Option<Member>, sessions: Sessions },
}

/// See the file's head.
pub(super) struct MirrorDriver {
    node: NodeId,
    task: TaskId,
    record: Arc<Record>,
    pub(super) follower: Follower,
    fx: Effects,
    /// It takes over: what the store holds of it, once that is known.
    takes_over: Option<Option<Found>>,
}

impl MirrorDriver {
    pub(super) fn start(world: &mut World, node: NodeId, record: &Arc<Record>, start: Start, came: Vec<Mail>) {
        let task = world.new_task();
        let now = world.clock(node);
        let process = world.process(node);
        process.lives += 2;
        let (life, first_feed) = (process.lives - 1, process.lives << 20);
        let other = process.mirroring.insert(record.id, Handle { task, is_agent: false, life });
        if other.is_some() || process.leading.contains_key(&record.id) {
            world.checks.fail(format!("{node} has two replicas of {:?}", record.id));
        }
        let view = &record.view;
        let mut fx = Effects::default();
        let follower = match start {
            Start::Fresh => {
                let is_new = view.seats.iter().any(|seat| seat.node == node && seat.since == 1);
                Follower::new(now, record.id, node, view, is_new, first_feed, &mut fx)
            }
            Start::AfterLeading { ring, sessions } => {
                Follower::after_leading(now, record.id, node, view, ring, sessions, first_feed, &mut fx)
            }
        };
        let driver = MirrorDriver { node, task, record: Arc::clone(record), follower, fx, takes_over: None };
        world.spawn(node, task, Actor::Mirror(Box::new(driver)));
        for mail in came {
            let _ = world.push(node, task, mail);
        }
    }

    /// Whether it takes over and hears nothing until that is done.
    pub(super) fn is_waiting(&self) -> bool {
        self.takes_over.is_some()
    }

    pub(super) fn run(&mut self, world: &mut World, mail: Vec<Mail>) -> Option<Time> {
        if self.is_waiting() {
            return None;
        }
        let now = world.clock(self.node);
        self.obey(world);
        let mut end = None;
        for mail in mail {
            // Its end looks at what has become of the queue after the record that ended it.
            if end.is_none() || !matches!(mail, Mail::Record(_)) {
                end = self.take(world, now, mail).or(end);
            }
        }
        if let Some(forget) = end {
            self.end(world, forget);
            return None;
        }
        self.follower.tick(now, &mut self.fx);
        self.obey(world);
        if self.follower.can_lead() && self.may_lead(world) {
            self.takes_over = Some(None);
            world.submit(self.node, Job::Survey { queues: vec![self.record.id], then: Then::Lead(self.task) });
            return None;
        }
        let soon = (self.record.view.leader() == self.node).then(|| now + Duration::from_millis(20));
        self.follower.deadline(now).into_iter().chain(soon).min()
    }

    /// Whether it ends, and forgets its copy.
    fn take(&mut self, world: &mut World, now: Time, mail: Mail) -> Option<bool> {
        let fx = &mut self.fx;
        match mail {
            Mail::Record(record) => return self.record_changed(now, record),
            Mail::Mirror(mail) => match mail {
                ReplicaMail::Packet(from, packet) => self.follower.receive(now, from, packet, fx),
                ReplicaMail::Stored(report) => self.follower.stored(report, fx),
                ReplicaMail::Surveyed { feed, held, .. } => self.follower.surveyed(now, feed, held, fx),
                ReplicaMail::Reconnected(node) => self.follower.reconnected(now, node, fx),
                ReplicaMail::Loaded { .. } | ReplicaMail::Refused(..) | ReplicaMail::HandOver(_) | ReplicaMail::StepDown(_) => {}
            },
            Mail::Event(QueueEvent::NodeLost { .. }) | Mail::Recheck => {}
            Mail::Event(event) => gone_from_here(world, self.node, self.record.id, event),
            Mail::Stop => refuse_rest(world, self.node, self.record.id, [Mail::Stop]),
            Mail::Channel(_) | Mail::Answered(..) | Mail::NotLeader(..) | Mail::Close => {}
        }
        None
    }

    fn record_changed(&mut self, now: Time, record: Arc<Record>) -> Option<bool> {
        self.record = record;
        let view = &self.record.view;
        if !view.is_member(self.node) {
            return Some(!view.holds(self.node));
        }
        if !view.is_running() {
            return Some(false);
        }
        self.follower.view_changed(now, view, &mut self.fx);
        None
    }

    fn obey(&mut self, world: &mut World) {
        world.obey_replica(self.node, &self.record, self.task, &mut self.fx);
    }

    fn may_lead(&self, world: &World) -> bool {
        world.serve_no_more(self.node, self.follower.leaders_before())
    }

    /// The store has said what it holds.
    pub(super) fn surveyed(&mut self, world: &mut World, mut found: Vec<Found>) {
        self.takes_over = Some(found.pop());
        world.submit(self.node, Job::Barrier(Then::Lead(self.task)));
    }

    /// It is this node's turn: the queue starts from the store.
    pub(super) fn lead(self, world: &mut World) {
        let MirrorDriver { node, task, record, follower, takes_over, .. } = self;
        let (ring, sessions) = follower.take_over();
        let process = world.process(node);
        process.mirroring.remove(&record.id);
        let newest = process.record(record.id);
        let rest = world.close(node, task);
        let (Some(found), Some(newest)) = (takes_over.flatten(), newest) else { return };
        if !leads(node, &newest) {
            world.view_changed(node, &newest);
            return;
        }
        world.coverage.takeovers += 1;
        let care = world.care(&newest);
        let leader = match ring {
            Some(ring) => Leader::succeed(newest.id, node, &record.view, ring, sessions.clone(), care),
            None => Leader::found(newest.id, node, &newest.view, sessions.clone(), care),
        };
        QueueDriver::start_leader(world, node, &newest, &found, leader, sessions);
        if let Some(queue) = world.process(node).leading.get(&newest.id).copied() {
            let _ = world.push(node, queue.task, Mail::Record(Arc::clone(&newest)));
            for mail in rest.into_iter().filter(|mail| matches!(mail, Mail::Mirror(_) | Mail::Stop)) {
                let _ = world.push(node, queue.task, mail);
            }
        }
    }

    fn end(&mut self, world: &mut World, forget: bool) {
        let (node, id) = (self.node, self.record.id);
        world.process(node).mirroring.remove(&id);
        world.close(node, self.task);
        if forget {
            let mut batch = Batch::new();
            batch.forget(level_key(id, 0));
            batch.forget(horizon_key(id));
            world.submit(node, Job::Append { batch, report: None });
        }
        if let Some(newest) = world.process(node).record(id)
            && newest.view.epoch > self.record.view.epoch
        {
            world.view_changed(node, &newest);
        }
    }
}
