//! A node: what outlives its process, its process, and what the tasks of that share.
//!
//! The counterpart of the server's `node`, `follow`, `mirrors`, `watch` and `duties`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use broker::metadata::{Change, Command, Metadata, Queue as Record, Tables, ViewChange};
use broker::mirror::{Care, Effects, Packet as ReplicaPacket, Report, Runs};
use broker::queue::{ChannelEvent, ChannelKey, ConsumerKey, Now, Publisher, QueueEvent, QueueReply, Question};
use broker::{ConnectionId, QueueId};
use bytes::Bytes;
use cluster::membership::{self, Membership, PeerState};
use cluster::metadata_log::NodeId;
use stdx::{Rng, Time};
use store::Seq;

use super::agent_driver::AgentDriver;
use super::client::ConnectionDriver;
use super::log_writer::{Found, Job, LogWriter, Receipt};
use super::metadata_log::Asked;
use super::mirror_driver::{MirrorDriver, Start};
use super::network::{Line, Packet};
use super::plan::Plan;
use super::queue_driver::{QueueDriver, gone_from_here};
use super::world::{NodeEvent, World};
use crate::disk::SimulatedDisk;

/// A task of some process; its mailbox has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(pub(super) u64);

/// What tasks hear.
#[derive(Debug)]
pub(super) enum Mail {
    Event(QueueEvent),
    Channel(ChannelEvent),
    Record(Arc<Record>),
    Answered(ChannelKey, Option<Question>),
    Recheck,
    NotLeader(NodeId, u64),
    Mirror(ReplicaMail),
    Stop,
    /// The connection is closed by the node.
    Close,
}

/// What replicas hear beside.
#[derive(Debug)]
pub(super) enum ReplicaMail {
    Packet(NodeId, ReplicaPacket),
    Stored(Report),
    Surveyed { node: NodeId, feed: u64, held: Vec<(u8, Runs)>, note: Option<(Seq, Bytes)> },
    Loaded { node: NodeId, feed: u64, level: u8, messages: Vec<(Seq, Bytes)> },
    Reconnected(NodeId),
    Refused(u64, ViewChange),
    HandOver(NodeId),
    StepDown(Arc<Record>),
}

pub(super) enum Actor {
    Queue(Box<QueueDriver>),
    Mirror(Box<MirrorDriver>),
    Agent(Box<AgentDriver>),
    Connection(Box<ConnectionDriver>),
}

/// An open mailbox, and who reads it.
#[derive(Default)]
pub(super) struct Task {
    actor: Option<Actor>,
    mail: VecDeque<Mail>,
    wakes_at: Option<Time>,
}

/// A queue as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) task: TaskId,
    pub(super) is_agent: bool,
    pub(super) life: u64,
}

/// What goes on when the store has answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    LeadFromStore(QueueId),
    FollowAll,
    Lead(TaskId),
    Stopped,
}

/// How far an orderly stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    HandingOver,
    Closing,
    Queues,
    Settling,
    Farewell,
    Done,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    incarnation: Option<u64>,
    pub(super) certain: bool,
    since: Time,
}

/// One life of a node.
pub(super) struct Process {
    pub(super) metadata: Metadata,
    pub(super) tables: Arc<Tables>,
    pub(super) membership: Membership,
    pub(super) gone: BTreeMap<NodeId, Verdict>,
    pub(super) lines: BTreeMap<NodeId, Line>,
    pub(super) line_lives: BTreeMap<NodeId, u64>,
    pub(super) lives: u64,
    pub(super) leading: BTreeMap<QueueId, Handle>,
    pub(super) mirroring: BTreeMap<QueueId, Handle>,
    pub(super) doors: BTreeMap<QueueId, Handle>,
    pub(super) retired: BTreeSet<TaskId>,
    pub(super) connections: BTreeMap<ConnectionId, TaskId>,
    pub(super) desks: BTreeMap<ConnectionId, TaskId>,
    pub(super) connections_made: u64,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) log: LogWriter,
    /// What waits for an entry of the metadata log to be applied here.
    pub(super) waiting: BTreeMap<u64, Vec<Asked>>,
    pub(super) registered: bool,
    pub(super) stopping: Option<Stopping>,
    pub(super) stop_until: Time,
    pub(super) asked_to_yield_at: Option<Time>,
    pub(super) stops_left: usize,
    /// When it is down it starts again at once: the cluster has gone on without it.
    pub(super) restarts: bool,
    pub(super) applying: bool,
}

/// What outlives processes.
pub(super) struct Node {
    pub(super) incarnation: u64,
    pub(super) disk: SimulatedDisk,
    /// Entries of the metadata log on its disk.
    pub(super) known: usize,
    pub(super) process: Option<Process>,
    pub(super) sleeps_until: Option<Time>,
    /// Everything takes so many times longer.
    pub(super) slowness: u32,
    pub(super) slow_disk: u32,
    /// Its clock: what it showed at the beginning, and by how many thousandths it is fast.
    pub(super) clock_offset: Duration,
    pub(super) clock_drift: i64,
    /// Its host answers nothing.
    pub(super) is_silent: bool,
}

impl Node {
    pub(super) fn new(_id: NodeId, rng: &mut Rng, plan: &Plan) -> Node {
        Node {
            incarnation: 0,
            disk: SimulatedDisk::new(rng.next()),
            known: plan.nodes as usize + 2,
            process: None,
            sleeps_until: None,
            slowness: 1,
            slow_disk: 1,
            clock_offset: Duration::from_millis(rng.below(100_000)),
            clock_drift: rng.below(9) as i64 - 4,
            is_silent: false,
        }
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Time) -> Time {
        let nanos = now.as_nanos() as i64;
        Time::from_nanos((nanos + nanos / 1000 * self.clock_drift) as u64) + self.clock_offset
    }

    /// How long it is until its clock shows this, at least.
    fn until(&self, now: Time, at: Time) -> Duration {
        let left = at.since(self.clock(now)).as_nanos() as u64;
        Duration::from_nanos(left + left / 200 + 1000)
    }
}

impl Process {
    pub(super) fn replicas(&self) -> Vec<TaskId> {
        self.leading.values().chain(self.mirroring.values()).map(|handle| handle.task).collect()
    }

    pub(super) fn record(&self, queue: QueueId) -> Option<Arc<Record>> {
        self.tables.queues.get(&queue).map(Arc::clone)
    }

    pub(super) fn is_reachable(&self, node: NodeId) -> bool {
        matches!(self.membership.state(node), PeerState::Reachable | PeerState::Suspected)
    }

    pub(super) fn partner(&self, connection: ConnectionId) -> Option<TaskId> {
        self.connections.get(&connection).or_else(|| self.desks.get(&connection)).copied()
    }

    pub(super) fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.tasks.values().filter_map(|task| task.actor.as_ref())
    }
}

pub(super) fn leads(me: NodeId, record: &Record) -> bool {
    record.leader() == me && record.view.is_running()
}

/// So long queues are given to write what a start needs.
pub(super) const QUEUES_END: Duration = Duration::from_secs(10);
pub(super) const FOLLOW_STOP: Duration = Duration::from_millis(5);
/// A node that somebody in reach still hears is given so long.
const PARTIAL_PATIENCE: Duration = Duration::from_secs(10);

// Tasks and their mail.
impl World {
    pub(super) fn process(&mut self, node: NodeId) -> &mut Process {
        self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()).expect("its process runs")
    }

    pub(super) fn clock(&self, node: NodeId) -> Time {
        self.nodes[&node].clock(self.now)
    }

    pub(super) fn moment(&self, node: NodeId) -> Now {
        let unix_millis = 1_700_000_000_000 + self.now.as_millis();
        Now { time: self.clock(node), unix_millis, budget_bytes: self.plan.budget }
    }

    pub(super) fn spawn(&mut self, node: NodeId, task: TaskId, actor: Actor) {
        self.process(node).tasks.insert(task, Task { actor: Some(actor), ..Task::default() });
        let turn = self.turn(node);
        self.wake_within(node, task, turn);
    }

    /// Gives the mail back if nobody reads that mailbox any more.
    pub(super) fn push(&mut self, node: NodeId, task: TaskId, mail: Mail) -> Result<(), Mail> {
        let Some(open) = self.process(node).tasks.get_mut(&task) else { return Err(mail) };
        open.mail.push_back(mail);
        let turn = self.turn(node);
        self.wake_within(node, task, turn);
        Ok(())
    }

    fn wake_within(&mut self, node: NodeId, task: TaskId, wait: Duration) {
        let at = self.now + wait;
        let Some(open) = self.process(node).tasks.get_mut(&task) else { return };
        if open.wakes_at.is_none_or(|before| before > at) {
            open.wakes_at = Some(at);
            self.in_node(node, wait, NodeEvent::Wake(task));
        }
    }

    /// The mailbox takes no more; what lies in it.
    pub(super) fn close(&mut self, node: NodeId, task: TaskId) -> Vec<Mail> {
        self.process(node).tasks.remove(&task).map_or_else(Vec::new, |open| open.mail.into())
    }

    pub(super) fn wake(&mut self, node: NodeId, task: TaskId) {
        let now = self.now;
        let Some(open) = self.process(node).tasks.get_mut(&task) else { return };
        if open.wakes_at.is_none_or(|at| at > now) {
            return;
        }
        open.wakes_at = None;
        let Some(mut actor) = open.actor.take() else { return };
        let mut mail: Vec<Mail> = Vec::new();
        if !matches!(&actor, Actor::Mirror(mirror) if mirror.is_waiting()) {
            mail = std::mem::take(&mut open.mail).into();
        }
        let deadline = match &mut actor {
            Actor::Queue(driver) => driver.run(self, mail),
            Actor::Mirror(driver) => driver.run(self, mail),
            Actor::Agent(driver) => driver.run(self, mail),
            Actor::Connection(driver) => driver.run(self, mail),
        };
        self.put_to_rest(node, task, actor, deadline);
    }

    pub(super) fn put_to_rest(&mut self, node: NodeId, task: TaskId, actor: Actor, deadline: Option<Time>) {
        let Some(open) = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()?.tasks.get_mut(&task)) else { return };
        open.actor = Some(actor);
        if let Some(at) = deadline {
            let wait = self.nodes[&node].until(self.now, at);
            self.wake_within(node, task, wait);
        }
    }

    pub(super) fn take_actor(&mut self, node: NodeId, task: TaskId) -> Option<Actor> {
        self.process(node).tasks.get_mut(&task)?.actor.take()
    }

    pub(super) fn new_connection(&mut self, node: NodeId) -> ConnectionId {
        let incarnation = self.nodes[&node].incarnation;
        let process = self.process(node);
        process.connections_made += 1;
        ConnectionId::of(node, incarnation, process.connections_made)
    }
}

// Doors, and what is told to whom.
impl World {
    /// The way to a queue from here.
    pub(super) fn queue(&mut self, node: NodeId, queue: QueueId) -> Option<Handle> {
        let process = self.process(node);
        if let Some(door) = process.doors.get(&queue) {
            return Some(*door);
        }
        let record = process.record(queue)?;
        let door = match process.leading.get(&queue) {
            Some(handle) if !record.view.mirrored => *handle,
            _ => AgentDriver::start(self, node, queue),
        };
        self.process(node).doors.insert(queue, door);
        Some(door)
    }

    /// Who used the queue directly goes through an agent from now on, if it needs one.
    pub(super) fn refresh_door(&mut self, node: NodeId, queue: QueueId, needs_agent: bool) {
        let process = self.process(node);
        match process.doors.get(&queue).copied() {
            Some(door) if door.is_agent => drop(self.push(node, door.task, Mail::Recheck)),
            Some(door) if needs_agent => {
                process.retired.insert(door.task);
                process.doors.remove(&queue);
            }
            _ => {}
        }
    }

    pub(super) fn recheck_agents(&mut self, node: NodeId) {
        let agents: Vec<TaskId> = self.process(node).doors.values().filter(|door| door.is_agent).map(|door| door.task).collect();
        for agent in agents {
            let _ = self.push(node, agent, Mail::Recheck);
        }
    }

    /// Hands an event to a channel or an agent, wherever it is.
    pub(super) fn tell_channel(&mut self, node: NodeId, event: ChannelEvent) {
        let connection = event.channel().connection;
        if connection.node() != node {
            let mut bytes = Vec::new();
            broker::packet::encode_to_channel(&mut bytes, &event);
            self.send(node, connection.node(), Packet::Broker(bytes));
            return;
        }
        if let ChannelEvent::Replied { channel, queue, reply } = &event
            && let Some(door) = self.process(node).doors.get(queue).copied()
            && door.is_agent
        {
            let _ = self.push(node, door.task, Mail::Answered(*channel, reply.question()));
        }
        if let Some(task) = self.process(node).partner(connection) {
            let _ = self.push(node, task, Mail::Channel(event));
        }
    }

    pub(super) fn take_packet(&mut self, node: NodeId, from: NodeId, packet: broker::packet::Packet) {
        use broker::packet::Packet as Broker;
        match packet {
            Broker::ToQueue { queue, attempt, event } => match self.process(node).leading.get(&queue).copied() {
                Some(handle) => drop(self.push(node, handle.task, Mail::Event(event))),
                None => {
                    let mut bytes = Vec::new();
                    Broker::NotLeader { queue, attempt }.encode(&mut bytes);
                    self.send(node, from, Packet::Broker(bytes));
                }
            },
            Broker::ToChannel { event } => {
                let is_overtaken = broker::packet::is_overtaken(&self.process(node).tables, from, &event);
                if event.channel().connection.node() == node && !is_overtaken {
                    self.tell_channel(node, event);
                }
            }
            Broker::NotLeader { queue, attempt } => {
                if let Some(door) = self.process(node).doors.get(&queue).copied() {
                    let _ = self.push(node, door.task, Mail::NotLeader(from, attempt));
                }
            }
            Broker::DirectReply { .. } => {}
        }
    }

    pub(super) fn take_replica_packet(&mut self, node: NodeId, from: NodeId, queue: QueueId, packet: ReplicaPacket) {
        let process = self.process(node);
        let replica = process.leading.get(&queue).or_else(|| process.mirroring.get(&queue)).copied();
        match (replica, packet) {
            (Some(replica), ReplicaPacket::Yield { to }) => {
                let _ = self.push(node, replica.task, Mail::Mirror(ReplicaMail::HandOver(NodeId(to))));
            }
            (Some(_), ReplicaPacket::Synchronize { .. }) => {}
            (Some(replica), packet) => {
                let _ = self.push(node, replica.task, Mail::Mirror(ReplicaMail::Packet(from, packet)));
            }
            (None, ReplicaPacket::Wants { feed, .. }) => self.send_replica(node, from, queue, &ReplicaPacket::Stale { feed }),
            (None, _) => {}
        }
    }

    pub(super) fn send_replica(&mut self, node: NodeId, to: NodeId, queue: QueueId, packet: &ReplicaPacket) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        self.send(node, to, Packet::Replica(queue, bytes));
    }

    /// Does what a replica asks, but for what only its driver can.
    pub(super) fn obey_replica(&mut self, node: NodeId, record: &Record, task: TaskId, fx: &mut Effects) {
        let queue = record.id;
        for (mut batch, report) in fx.store.drain(..) {
            batch.seal();
            self.submit(node, Job::Append { batch, report: Some((task, Receipt::Mirror(report))) });
        }
        for (to, packet) in fx.to_peers.drain(..) {
            self.send_replica(node, to, queue, &packet);
        }
        for (from, feed) in fx.survey.drain(..) {
            self.submit(node, Job::Sequences { queue, node: from, feed, to: task });
        }
        for (from, feed, load) in fx.loads.drain(..) {
            self.submit(node, Job::LoadForFeed { load, node: from, feed, to: task });
        }
        if let Some(put_back) = fx.put_back.take() {
            self.tell(|| format!("{node} should put back {put_back:?}"));
        }
        for complaint in fx.complaints.drain(..) {
            self.tell(|| format!("{node} complains about {queue:?}: {complaint}"));
            if complaint.contains("diverged") || complaint.contains("cannot be read") {
                self.checks.fail(format!("{node} complains about {queue:?}: {complaint}"));
            }
        }
        for waits in fx.waits.drain(..) {
            self.tell(|| format!("{node}, {queue:?}: {waits}"));
        }
        for (epoch, change) in fx.proposals.drain(..) {
            let command = Command::ChangeView { queue, epoch, change };
            self.propose(node, command, Asked::View { task, queue, epoch, change });
        }
    }
}

// What follows from the metadata.
impl World {
    pub(super) fn care(&self, record: &Record) -> Care {
        let mirroring = record.mirroring.as_deref();
        Care {
            automatic: mirroring.is_some_and(|mirroring| mirroring.sync_automatic),
            batch_messages: self.plan.batch_messages,
            patience: self.plan.replica_timeout,
            ..Care::default()
        }
    }

    /// One or more entries of the metadata log are applied.
    pub(super) fn apply(&mut self, node: NodeId) {
        self.process(node).applying = false;
        let reads = self.log.leader.is_some_and(|leader| self.is_path(node, leader));
        let state = self.nodes.get_mut(&node).expect("it is a node");
        let process = state.process.as_mut().expect("its process runs");
        let from = process.metadata.applied() as usize;
        let to = if reads { self.log.entries.len() } else { state.known };
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        for index in from..to {
            let (answer, mut more) = process.metadata.apply(index as u64 + 1, &self.log.entries[index]);
            changes.append(&mut more);
            let asked = process.waiting.remove(&(index as u64 + 1)).unwrap_or_default();
            answers.extend(asked.into_iter().map(|asked| (asked, answer.clone())));
        }
        if from >= to {
            return;
        }
        state.known = state.known.max(to);
        process.tables = process.metadata.tables();
        let tables = Arc::clone(&process.tables);
        self.checks.agree(to, &tables);
        self.follow(node, &changes);
        for (asked, answer) in answers {
            let turn = self.turn(node);
            let answer = answer.map_err(|_| super::metadata_log::Failure::Refused);
            self.in_node(node, turn, NodeEvent::Answer { asked, answer });
        }
    }

    /// The node hears that there is something to apply.
    pub(super) fn hear_of_entries(&mut self, node: NodeId) {
        if self.nodes[&node].process.as_ref().is_some_and(|process| !process.applying) {
            self.process(node).applying = true;
            let slow = self.rng.one_in(20);
            let wait = self.between(300, if slow { 300_000 } else { 5000 }) * self.nodes[&node].slowness;
            self.in_node(node, wait, NodeEvent::Apply);
        }
    }

    fn follow(&mut self, node: NodeId, changes: &[Change]) {
        let tables = Arc::clone(&self.process(node).tables);
        if changes.contains(&Change::NodesChanged) {
            self.grant_only_to_those_up(node);
        }
        let changes = if self.process(node).registered { changes } else { &[] };
        if changes.is_empty() {
            self.recheck_agents(node);
        }
        for change in changes {
            match change {
                Change::QueueCreated(id) => {
                    if let Some(record) = tables.queues.get(id).map(Arc::clone) {
                        if leads(node, &record) && record.view.is_first_term() && !self.process(node).leading.contains_key(id) {
                            let queue = broker::queue::Queue::new(&record, &[], None, self.moment(node));
                            QueueDriver::start(self, node, queue, Arc::clone(&record), None);
                        }
                        self.view_changed(node, &record);
                    }
                }
                Change::QueueChanged(id) | Change::ViewChanged(id) => {
                    if let Some(record) = tables.queues.get(id).map(Arc::clone) {
                        self.view_changed(node, &record);
                    }
                }
                Change::NodesChanged => self.recheck_agents(node),
                Change::QueueDeleted(_)
                | Change::VhostDeleted(_)
                | Change::UserDeleted(_)
                | Change::RightsChanged
                | Change::ExchangeDeleted { .. } => {}
            }
        }
    }

    /// Brings this node's part in a queue to what its view says.
    pub(super) fn view_changed(&mut self, node: NodeId, record: &Arc<Record>) {
        let id = record.id;
        let leads_here = leads(node, record);
        let breaks_one_replica = self.breaks(super::Mutant::FollowBeforeSteppingDown);
        let process = self.process(node);
        let (leading, mirroring) = (process.leading.get(&id).copied(), process.mirroring.get(&id).copied());
        match (leading, mirroring) {
            (Some(queue), _) if leads_here => drop(self.push(node, queue.task, Mail::Record(Arc::clone(record)))),
            (Some(queue), _) => {
                process.leading.remove(&id);
                if !breaks_one_replica {
                    process.mirroring.insert(id, queue);
                }
                let _ = self.push(node, queue.task, Mail::Mirror(ReplicaMail::StepDown(Arc::clone(record))));
            }
            (None, Some(mirror)) => drop(self.push(node, mirror.task, Mail::Record(Arc::clone(record)))),
            (None, None) if leads_here => {
                self.submit(node, Job::Survey { queues: vec![id], then: Then::LeadFromStore(id) });
            }
            (None, None) if record.view.is_member(node) && record.view.is_running() => {
                MirrorDriver::start(self, node, record, Start::Fresh, Vec::new());
            }
            (None, None) => {}
        }
        self.refresh_door(node, id, record.view.mirrored || !leads_here);
    }

    pub(super) fn follow_all(&mut self, node: NodeId) {
        let process = self.process(node);
        let here = process.tables.queues.values().filter(|record| leads(node, record));
        let mut missing: Vec<QueueId> = here.filter(|record| !process.leading.contains_key(&record.id)).map(|record| record.id).collect();
        missing.sort_unstable();
        self.submit(node, Job::Survey { queues: missing, then: Then::FollowAll });
    }

    /// The store has said what it holds.
    pub(super) fn surveyed(&mut self, node: NodeId, then: Then, found: Vec<Found>) {
        match then {
            Then::LeadFromStore(id) => {
                let process = self.process(node);
                if let (Some(found), Some(record)) = (found.first(), process.record(id))
                    && leads(node, &record)
                    && !process.leading.contains_key(&id)
                    && !process.mirroring.contains_key(&id)
                {
                    QueueDriver::start_found(self, node, &record, found);
                }
            }
            Then::FollowAll => {
                self.grant_only_to_those_up(node);
                for found in &found {
                    let process = self.process(node);
                    if let Some(record) = process.record(found.queue)
                        && leads(node, &record)
                        && !process.leading.contains_key(&record.id)
                        && !process.mirroring.contains_key(&record.id)
                    {
                        QueueDriver::start_found(self, node, &record, found);
                    }
                }
                let mut records: Vec<Arc<Record>> = self.process(node).tables.queues.values().map(Arc::clone).collect();
                records.sort_unstable_by_key(|record| record.id);
                for record in records {
                    self.view_changed(node, &record);
                }
                self.recheck_agents(node);
            }
            Then::Lead(task) => {
                if let Some(Actor::Mirror(mut driver)) = self.take_actor(node, task) {
                    driver.surveyed(self, found);
                    self.put_to_rest(node, task, Actor::Mirror(driver), None);
                }
            }
            Then::Stopped => {}
        }
    }

    /// All that was submitted is durable and reported.
    pub(super) fn settled(&mut self, node: NodeId, then: Then) {
        match then {
            Then::Lead(task) => {
                if let Some(Actor::Mirror(driver)) = self.take_actor(node, task) {
                    driver.lead(self);
                }
            }
            Then::Stopped => {
                let process = self.process(node);
                if process.stopping == Some(Stopping::Settling) {
                    process.stopping = Some(Stopping::Farewell);
                    self.say_goodbye(node);
                }
            }
            Then::LeadFromStore(_) | Then::FollowAll => {}
        }
    }
}

// Membership and duties.
impl World {
    pub(super) fn tell_membership(&mut self, node: NodeId, event: membership::Event) {
        let now = self.clock(node);
        let mut effects = Vec::new();
        self.process(node).membership.handle(now, event, &mut effects);
        for effect in effects {
            match effect {
                membership::Effect::Send { to, packet } => drop(self.send(node, to, Packet::Heartbeat(packet))),
                membership::Effect::Reachable { peer, .. } => drop(self.process(node).gone.remove(&peer)),
                membership::Effect::Suspected { .. } | membership::Effect::Unsuspected { .. } => {}
                membership::Effect::Unreachable { peer, incarnation, certain } => {
                    self.tell(|| format!("{node} finds {peer} gone, certain: {certain}"));
                    let incarnation = incarnation.map(|life| life.0);
                    self.process(node).gone.insert(peer, Verdict { incarnation, certain, since: now });
                    if incarnation.is_some() {
                        self.hang_up(node, peer);
                    }
                }
            }
        }
    }

    pub(super) fn membership_ticks(&mut self, node: NodeId) {
        self.tell_membership(node, membership::Event::Tick);
        let at = self.process(node).membership.deadline();
        let wait = self.nodes[&node].until(self.now, at);
        self.in_node(node, wait, NodeEvent::Membership);
    }

    pub(super) fn grant_only_to_those_up(&mut self, node: NodeId) {
        let process = self.process(node);
        for member in process.tables.nodes.iter() {
            process.membership.withhold(member.id, !member.is_up());
        }
    }

    pub(super) fn holds_leases(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) -> bool {
        let now = self.clock(node);
        let process = self.nodes[&node].process.as_ref().expect("its process runs");
        others.into_iter().all(|other| process.membership.lease_until(other).is_some_and(|until| now < until))
    }

    /// Whether no leader of before serves any more: it is dead, or its leases of this node are over. One that is
    /// up is in a later life, or has handed over.
    pub(super) fn serve_no_more(&self, node: NodeId, mut leaders: impl Iterator<Item = NodeId>) -> bool {
        if self.breaks(super::Mutant::LeadBeforeLeasesEnd) {
            return true;
        }
        let (now, knows_lives) = (self.clock(node), !self.breaks(super::Mutant::WaitForNextLife));
        let process = self.nodes[&node].process.as_ref().expect("its process runs");
        leaders.all(|old| {
            (knows_lives && process.tables.nodes.is_up(old))
                || process.gone.get(&old).is_some_and(|verdict| verdict.certain)
                || now >= process.membership.granted_until(old)
        })
    }

    /// Whether the log says that this life of the node is over; then it starts again.
    pub(super) fn leaves_a_life_that_is_over(&mut self, node: NodeId) -> bool {
        let incarnation = self.nodes[&node].incarnation;
        let process = self.process(node);
        let me = process.tables.nodes.get(node);
        let is_over = me.is_some_and(|me| !me.is_up() && me.incarnation >= incarnation);
        if !is_over || process.stopping.is_some() || self.breaks(super::Mutant::StayDeclaredDown) {
            return false;
        }
        self.tell(|| format!("{node} was declared down and lives: it starts again"));
        self.coverage.outcasts += 1;
        self.begin_to_stop(node, true);
        true
    }

    /// What a node does all the time, and the one that leads the metadata log for all.
    pub(super) fn duties(&mut self, node: NodeId) {
        let wait = self.between(180_000, 220_000);
        self.in_node(node, wait, NodeEvent::Duties);
        let tables = Arc::clone(&self.process(node).tables);
        if self.process(node).registered && self.leaves_a_life_that_is_over(node) {
            return;
        }
        self.hear_of_entries(node);
        if self.log.leader != Some(node) || !self.process(node).registered {
            return;
        }
        let now = self.clock(node);
        for member in tables.nodes.iter().filter(|member| member.id != node && member.is_up()) {
            let Some(verdict) = self.process(node).gone.get(&member.id).copied() else { continue };
            if verdict.incarnation.is_some_and(|seen| seen > member.incarnation) {
                continue;
            }
            let status = self.process(node).membership.status();
            let is_heard = status.iter().any(|peer| peer.hears.contains(&member.id));
            if !verdict.certain && is_heard && now.since(verdict.since) < PARTIAL_PATIENCE {
                continue;
            }
            let command = Command::NodeDown { node: member.id, incarnation: member.incarnation, clean: false };
            self.propose(node, command, Asked::Nothing);
        }
        let draw = self.rng.next();
        for step in tables.next_steps(None, draw) {
            match (step.change, tables.queues.get(&step.queue)) {
                (ViewChange::Transfer(to), Some(record)) => self.ask_to_yield(node, record, to),
                _ => self.propose(node, Command::from(step), Asked::Nothing),
            }
        }
    }

    pub(super) fn ask_to_yield(&mut self, node: NodeId, record: &Record, to: NodeId) {
        match self.process(node).leading.get(&record.id).copied() {
            Some(queue) => drop(self.push(node, queue.task, Mail::Mirror(ReplicaMail::HandOver(to)))),
            None => self.send_replica(node, record.leader(), record.id, &ReplicaPacket::Yield { to: to.0 }),
        }
    }
}

/// Tells whoever waits for an event that nobody will take.
pub(super) fn refuse_rest(world: &mut World, node: NodeId, queue: QueueId, rest: impl IntoIterator<Item = Mail>) {
    for mail in rest {
        match mail {
            Mail::Event(event) => gone_from_here(world, node, queue, event),
            Mail::Stop => {
                let process = world.process(node);
                process.stops_left = process.stops_left.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// The driver that an event was meant for has ended: the queue is deleted, or just now led by another node.
pub(super) fn left_behind(world: &mut World, node: NodeId, queue: QueueId, event: QueueEvent) {
    if world.process(node).record(queue).is_some() {
        gone_from_here(world, node, queue, event);
    } else {
        gone(world, node, queue, event);
    }
}

/// A queue that was deleted counts as done for publishes; questions are answered with "gone". A consumer that asks
/// again has none that waits for an answer: it is cancelled.
pub(super) fn gone(world: &mut World, node: NodeId, queue: QueueId, event: QueueEvent) {
    match event {
        QueueEvent::Publish { from: Publisher::Channel(channel), messages } => {
            let runs = messages.iter().filter(|publish| publish.number != 0).map(|publish| (publish.number, publish.number));
            world.tell_channel(node, ChannelEvent::Confirmed { channel, runs: runs.collect() });
        }
        QueueEvent::Session { session, messages, .. } => {
            let runs = messages.iter().map(|publish| (publish.number, publish.number)).collect();
            world.tell_channel(node, ChannelEvent::Confirmed { channel: Publisher::agent_channel(session), runs });
        }
        QueueEvent::Consume(ask) if ask.again => {
            let ConsumerKey { channel, number } = ask.consumer;
            world.tell_channel(node, ChannelEvent::ConsumerCancelled { channel, number });
        }
        other => {
            if let Some(channel) = asker(&other) {
                world.tell_channel(node, ChannelEvent::Replied { channel, queue, reply: QueueReply::Gone });
            }
        }
    }
}

/// The channel that waits for an answer to this event, if one does.
pub(super) fn asker(event: &QueueEvent) -> Option<ChannelKey> {
    match event {
        QueueEvent::Consume(ask) => Some(ask.consumer.channel),
        QueueEvent::Cancel { consumer, reply: true } => Some(consumer.channel),
        _ => None,
    }
}
