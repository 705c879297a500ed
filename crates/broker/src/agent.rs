//! An agent stands for a queue on a node that does not lead it, or may stop leading it.
//!
//! Channels, desks and dead-lettering queues of the node speak to the agent as they would to the queue.
//!
//! ```text
//!            Attached(place) <------- leader known and reachable ------ Waiting
//!                 |  ^                                                   ^  |
//!                 |  +---- leader known and reachable ---- Down          |  | nobody leads, or the home
//!                 +---- link lost, leader gone, other leader ------------+  v node is down
//!                                                                          Down
//! ```
//!
//! * Publishes are numbered in the agent's own session and kept until the leader reports them. Whatever
//!   is unreported when a leader is found is sent to it, in order; what was sent before is flagged.
//! * Questions are kept until they are answered, and asked again.
//! * A channel that ends while there is no leader is told to the next one: it may have heard a question that
//!   nobody answered.
//! * Settling goes to the leader of the day, and is kept while there is none. Who leads next may know nothing of
//!   this node's channels: then only acknowledgements mean something to it. It may also be one that was taken for
//!   none in between, and waits for what was given back. Credit and turns are void: consumers ask again.
//! * The queue is deleted: who consumes is cancelled. A leader that is there does that; if there is none, channels
//!   are told to ask again, and find no queue.
//! * Down: questions are answered with [`QueueReply::Down`], publishes are refused, at once. Consumers that asked to be
//!   cancelled rather than moved are; the others wait for a leader, and are cancelled after [`CONSUMER_PATIENCE`].
//!
//! Invariants: a publish is reported to its publisher exactly once; two publishes of one publisher reach
//! the queue in their order; what is kept is bounded by what publishers may send before they must wait
//! ([`AgentEffects::released`] tells what they may send again).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stdx::Time;
use store::Seq;

use crate::id::{ConnectionId, QueueId};
use crate::message::Message;
use crate::mutant::{Mutant, breaks};
use crate::queue::{ChannelEvent, ChannelKey, Publish, Publisher, Question, QueueEvent, QueueReply};
use crate::window::Window;

/// Where the queue's leader is, as far as this node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It can be spoken to. `life` differs for each leader and for each link to it: with another life
    /// nothing of before is known there.
    Attached { life: u64 },
    /// There is none, or it cannot be reached; there will be one, or the verdict that it is down.
    Waiting,
    /// Its node is down and nobody may take its place.
    Down,
}

/// What an agent hears.
#[derive(Debug)]
pub enum AgentEvent {
    /// From a partner on this node, meant for the queue.
    Queue(QueueEvent),
    /// The leader's report on publishes of this session.
    Report(ChannelEvent),
    /// The leader's answer to this question of the channel is on its way to it; `None`: to whatever it has asked.
    Answered(ChannelKey, Option<Question>),
    /// What is known of the leader, whenever it may have changed.
    Leader(Place),
    Tick,
}

/// What an agent asks for.
#[derive(Debug, Default)]
pub struct AgentEffects {
    /// For the leader, in order.
    pub to_leader: Vec<QueueEvent>,
    /// For connections of this node, in order.
    pub to_connections: Vec<(ConnectionId, ChannelEvent)>,
    /// For queues of this node that dead-lettered here.
    pub to_queues: Vec<(QueueId, QueueEvent)>,
    /// Bytes of publishes that are reported: publishers may send as much again.
    pub released: usize,
}

/// A publish without a report.
#[derive(Debug)]
struct Kept {
    from: Publisher,
    number: u64,
    message: Message,
    since: Time,
}

impl Kept {
    /// A dead letter stays in its queue until it can be taken: it is not refused for want of a leader.
    fn is_refusable(&self) -> bool {
        !matches!(self.from, Publisher::Queue(_))
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Agent {
    queue: QueueId,
    session: ConnectionId,
    place: Place,
    /// Since when there is no leader to be spoken to.
    leaderless: Option<Time>,
    /// The life that this agent last spoke to.
    life: Option<u64>,
    /// How long a publish waits for a leader before it is refused.
    patience: Duration,
    /// Everything is flagged: it was in a queue before.
    returns: bool,
    last: u64,
    /// Numbers up to this one were sent to some leader.
    sent: u64,
    /// The last number that the present leader was sent; 0 before the first.
    chain: u64,
    /// By number in this session.
    kept: Window<Kept>,
    kept_bytes: usize,
    questions: BTreeMap<ChannelKey, (Time, QueueEvent)>,
    /// What was settled, and waits for a leader.
    settled: Vec<QueueEvent>,
    /// Sequences, and runs of them, in it.
    settled_held: usize,
    /// Connections that may have consumers here.
    consuming: BTreeSet<ConnectionId>,
    /// Channels that ended while there was no leader, with what they held. The next one may be one that has
    /// heard of them.
    ended: Vec<(ChannelKey, Vec<Seq>)>,
}

/// How long a publish waits for a leader before it is refused, unless an agent is told otherwise.
pub const PUBLISH_PATIENCE: Duration = Duration::from_secs(60);
/// How long a question waits for a leader.
pub const QUESTION_PATIENCE: Duration = Duration::from_secs(15);
/// How long a consumer waits for a leader before it is cancelled, as RabbitMQ's channels do.
pub const CONSUMER_PATIENCE: Duration = Duration::from_secs(60);
/// What is settled and kept while there is no leader, in runs. Without the rest messages come again, flagged.
const SETTLED_MAX: usize = 100_000;
/// Ended channels that the next leader is told of. Of others it hears when the link to it breaks.
const ENDED_MAX: usize = 100_000;

impl Agent {
    /// An agent whose reports come to `session`, a connection id of its own.
    #[must_use]
    pub fn new(queue: QueueId, session: ConnectionId) -> Agent {
        Agent {
            queue,
            session,
            place: Place::Waiting,
            leaderless: None,
            life: None,
            patience: PUBLISH_PATIENCE,
            returns: false,
            last: 0,
            sent: 0,
            chain: 0,
            kept: Window::default(),
            kept_bytes: 0,
            questions: BTreeMap::new(),
            settled: Vec::new(),
            settled_held: 0,
            consuming: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    /// An agent for messages that a client may have seen in another life of the queue.
    #[must_use]
    pub fn for_return(queue: QueueId, session: ConnectionId) -> Agent {
        Agent { returns: true, ..Agent::new(queue, session) }
    }

    /// The same with another patience (`publish_failover_timeout`).
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Agent {
        Agent { patience, ..self }
    }

    /// Bytes of publishes without a report.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Where reports for this agent go.
    #[must_use]
    pub fn session(&self) -> ConnectionId {
        self.session
    }

    /// The only way in.
    pub fn handle(&mut self, now: Time, event: AgentEvent, out: &mut AgentEffects) {
        match event {
            AgentEvent::Queue(event) => self.take(now, event, out),
            AgentEvent::Report(ChannelEvent::Confirmed { runs, .. }) => self.confirmed(&runs, out),
            AgentEvent::Report(ChannelEvent::Rejected { numbers, .. }) => {
                for number in numbers {
                    self.reported(number, false, out);
                }
            }
            AgentEvent::Report(_) => {}
            AgentEvent::Answered(channel, question) => self.answered(channel, question),
            AgentEvent::Leader(place) => self.leader(now, place, out),
            AgentEvent::Tick => self.lose_patience(now, out),
        }
    }

    /// The oldest publish without a report: its number, and since when.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, Time)> {
        self.kept.first().map(|(number, kept)| (number, kept.since))
    }

    /// What it waits for, for those who look for a fault.
    #[must_use]
    pub fn describe(&self) -> String {
        let numbers = (self.kept.first_key(), self.last, self.sent, self.chain);
        format!("{:?} at {:?}, numbers {numbers:?}, questions {:?}", self.session, self.place, self.questions.keys())
    }

    /// When to call [`Agent::handle`] with a tick if nothing else happens first.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if matches!(self.place, Place::Attached { .. }) {
            return None;
        }
        let publish = self.kept.first().filter(|(_, kept)| kept.is_refusable());
        let publish = publish.map(|(_, kept)| kept.since + self.patience);
        let question = self.questions.values().map(|(since, _)| *since + QUESTION_PATIENCE).min();
        let consumers = self.leaderless.filter(|_| !self.consuming.is_empty()).map(|since| since + CONSUMER_PATIENCE);
        publish.into_iter().chain(question).chain(consumers).min()
    }

    fn take(&mut self, now: Time, event: QueueEvent, out: &mut AgentEffects) {
        match event {
            QueueEvent::Publish { from, messages } => self.publish(now, from, messages, out),
            QueueEvent::Consume(ask) => {
                self.consuming.insert(ask.consumer.channel.connection);
                if ask.again {
                    self.pass(QueueEvent::Consume(ask), out);
                } else {
                    self.ask(now, ask.consumer.channel, QueueEvent::Consume(ask), out);
                }
            }
            QueueEvent::Cancel { consumer, reply: true } => {
                self.ask(now, consumer.channel, QueueEvent::Cancel { consumer, reply: true }, out);
            }
            QueueEvent::Get { channel, .. }
            | QueueEvent::Inspect { channel }
            | QueueEvent::Purge { channel }
            | QueueEvent::Delete { channel, .. } => self.ask(now, channel, event, out),
            QueueEvent::Ack { ref runs, .. } | QueueEvent::Taken { ref runs, .. } => self.settle(runs.len(), event, out),
            QueueEvent::Reject { ref seqs, .. } | QueueEvent::Surplus { ref seqs, .. } => self.settle(seqs.len(), event, out),
            QueueEvent::Cancel { .. } => self.settle(1, event, out),
            QueueEvent::ChannelClosed { channel, seqs } => {
                self.questions.remove(&channel);
                match self.place {
                    Place::Attached { .. } => out.to_leader.push(QueueEvent::ChannelClosed { channel, seqs }),
                    Place::Waiting if self.ended.len() < ENDED_MAX => self.ended.push((channel, seqs)),
                    Place::Waiting | Place::Down => {}
                }
            }
            QueueEvent::Resume { channel } if !matches!(self.place, Place::Attached { .. }) => {
                let resumed = ChannelEvent::Resumed { queue: self.queue, channel };
                out.to_connections.push((channel.connection, resumed));
            }
            QueueEvent::Resume { .. } | QueueEvent::Prefetch { .. } | QueueEvent::Credit { .. } => self.pass(event, out),
            // Between a queue and its own node.
            QueueEvent::Session { .. }
            | QueueEvent::Stored { .. }
            | QueueEvent::Loaded { .. }
            | QueueEvent::DeadLettered { .. }
            | QueueEvent::Settings(_)
            | QueueEvent::NodeLost { .. }
            | QueueEvent::Tick
            | QueueEvent::Stop => {}
        }
    }

    /// Passes on what means something to the present leader only.
    fn pass(&self, event: QueueEvent, out: &mut AgentEffects) {
        if matches!(self.place, Place::Attached { .. }) {
            out.to_leader.push(event);
        }
    }

    fn publish(&mut self, now: Time, from: Publisher, messages: Vec<Publish>, out: &mut AgentEffects) {
        let waits = matches!(from, Publisher::Queue(_));
        if self.place == Place::Down && !waits {
            for publish in messages {
                out.released += publish.message.memory_bytes();
                self.tell_publisher(from, publish.number, breaks(Mutant::ConfirmWhileDown), out);
            }
            return;
        }
        let attached = matches!(self.place, Place::Attached { .. });
        let mut sent = Vec::with_capacity(if attached { messages.len() } else { 0 });
        for Publish { message, number } in messages {
            self.last += 1;
            self.kept_bytes += message.memory_bytes();
            if attached {
                sent.push(Publish { message: message.clone(), number: self.last });
            }
            self.kept.insert(self.last, Kept { from, number, message, since: now });
        }
        if attached {
            self.sent = self.last;
            self.send(sent, false, out);
        }
    }

    /// Everything below the oldest without a report is settled here.
    fn send(&mut self, messages: Vec<Publish>, again: bool, out: &mut AgentEffects) {
        let settled = self.kept.first_key().unwrap_or(self.last + 1) - 1;
        let again = again || self.returns;
        let last = messages.last().map_or(self.chain, |publish| publish.number);
        let follows = std::mem::replace(&mut self.chain, last);
        out.to_leader.push(QueueEvent::Session { session: self.session, settled, follows, again, messages });
    }

    fn ask(&mut self, now: Time, channel: ChannelKey, event: QueueEvent, out: &mut AgentEffects) {
        match self.place {
            Place::Down => self.answer(channel, QueueReply::Down, out),
            Place::Waiting => drop(self.questions.insert(channel, (now, event))),
            Place::Attached { .. } => {
                self.questions.insert(channel, (now, event.clone()));
                out.to_leader.push(event);
            }
        }
    }

    /// A late answer to an earlier question says nothing of the present one, which may have been lost.
    fn answered(&mut self, channel: ChannelKey, question: Option<Question>) {
        let is_answered = |asked: &QueueEvent| question.is_none() || asked.question() == question;
        if self.questions.get(&channel).is_some_and(|(_, asked)| is_answered(asked)) {
            self.questions.remove(&channel);
        }
    }

    fn answer(&self, channel: ChannelKey, reply: QueueReply, out: &mut AgentEffects) {
        out.to_connections.push((channel.connection, ChannelEvent::Replied { channel, queue: self.queue, reply }));
    }

    fn settle(&mut self, held: usize, event: QueueEvent, out: &mut AgentEffects) {
        if matches!(self.place, Place::Attached { .. }) {
            out.to_leader.push(event);
        } else if self.settled_held + held <= SETTLED_MAX {
            self.settled_held += held;
            self.settled.push(event);
        }
    }

    fn confirmed(&mut self, runs: &[(u64, u64)], out: &mut AgentEffects) {
        for (first, last) in runs {
            for number in *first..=(*last).min(self.last) {
                self.reported(number, true, out);
            }
        }
    }

    fn reported(&mut self, number: u64, taken: bool, out: &mut AgentEffects) {
        let Some(kept) = self.kept.remove(number) else { return };
        let bytes = kept.message.memory_bytes();
        self.kept_bytes -= bytes;
        if taken || !breaks(Mutant::KeepRoom) {
            out.released += bytes;
        }
        self.tell_publisher(kept.from, kept.number, taken, out);
    }

    /// Reports, gathered into runs where they follow each other.
    fn tell_publisher(&self, from: Publisher, number: u64, taken: bool, out: &mut AgentEffects) {
        if number == 0 {
            return;
        }
        match from {
            Publisher::Channel(channel) => match (taken, out.to_connections.last_mut()) {
                (true, Some((_, ChannelEvent::Confirmed { channel: same, runs }))) if *same == channel => {
                    match runs.last_mut() {
                        Some((_, last)) if *last + 1 == number => *last = number,
                        _ => runs.push((number, number)),
                    }
                }
                (true, _) => {
                    let event = ChannelEvent::Confirmed { channel, runs: vec![(number, number)] };
                    out.to_connections.push((channel.connection, event));
                }
                (false, Some((_, ChannelEvent::Rejected { channel: same, numbers }))) if *same == channel => {
                    numbers.push(number);
                }
                (false, _) => {
                    let event = ChannelEvent::Rejected { channel, numbers: vec![number] };
                    out.to_connections.push((channel.connection, event));
                }
            },
            Publisher::Queue(queue) => out.to_queues.push((queue, QueueEvent::DeadLettered { numbers: vec![number] })),
            Publisher::Agent(_) => {}
        }
    }

    fn leader(&mut self, now: Time, place: Place, out: &mut AgentEffects) {
        let before = std::mem::replace(&mut self.place, place);
        match place {
            Place::Attached { life } => {
                self.leaderless = None;
                if before != place {
                    self.attach(life, out);
                }
            }
            Place::Waiting => drop(self.leaderless.get_or_insert(now)),
            Place::Down => {
                self.leaderless.get_or_insert(now);
                self.give_up(out);
                if before != place {
                    self.tell_down(false, out);
                }
            }
        }
    }

    fn tell_down(&self, for_good: bool, out: &mut AgentEffects) {
        for connection in &self.consuming {
            let channel = ChannelKey { connection: *connection, number: 0, life: 0 };
            out.to_connections.push((*connection, ChannelEvent::QueueDown { channel, queue: self.queue, for_good }));
        }
    }

    /// Somebody leads who knows nothing of this node but what its sessions tell.
    fn attach(&mut self, life: u64, out: &mut AgentEffects) {
        self.life = Some(life);
        self.chain = 0;
        // Who waits for an answer consumes from this leader on, and must hear of the next one.
        let asks = |(channel, (_, question)): (&ChannelKey, &(Time, QueueEvent))| {
            matches!(question, QueueEvent::Consume(_)).then_some(channel.connection)
        };
        let asking = self.questions.iter().filter_map(asks).collect();
        self.tell_moved(asking, out);
        for (channel, seqs) in self.ended.drain(..) {
            out.to_leader.push(QueueEvent::ChannelClosed { channel, seqs });
        }
        let publish = |(number, kept): (u64, &Kept)| Publish { message: kept.message.clone(), number };
        let mut unreported: Vec<Publish> = self.kept.iter().map(publish).collect();
        unreported.sort_unstable_by_key(|publish| publish.number);
        let fresh = unreported.split_off(unreported.partition_point(|publish| publish.number <= self.sent));
        for (messages, again) in [(unreported, true), (fresh, false)] {
            if !messages.is_empty() {
                self.send(messages, again, out);
            }
        }
        self.sent = self.last;
        self.settled_held = 0;
        out.to_leader.append(&mut self.settled);
        out.to_leader.extend(self.questions.values().map(|(_, event)| event.clone()));
    }

    /// Whoever consumes is to ask again; others may have consumers from here on.
    fn tell_moved(&mut self, consuming: BTreeSet<ConnectionId>, out: &mut AgentEffects) {
        for connection in std::mem::replace(&mut self.consuming, consuming) {
            let channel = ChannelKey { connection, number: 0, life: 0 };
            out.to_connections.push((connection, ChannelEvent::QueueMoved { channel, queue: self.queue }));
        }
    }

    /// Nobody leads and nobody will soon.
    fn give_up(&mut self, out: &mut AgentEffects) {
        self.refuse_all(out);
        self.ended.clear();
        self.settled.clear();
        self.settled_held = 0;
        for channel in std::mem::take(&mut self.questions).into_keys() {
            self.answer(channel, QueueReply::Down, out);
        }
    }

    fn refuse_all(&mut self, out: &mut AgentEffects) {
        let refusable = self.kept.iter().filter(|(_, kept)| kept.is_refusable());
        let mut numbers: Vec<u64> = refusable.map(|(number, _)| number).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.reported(number, false, out);
        }
    }

    fn lose_patience(&mut self, now: Time, out: &mut AgentEffects) {
        if matches!(self.place, Place::Attached { .. }) {
            return;
        }
        let old: Vec<u64> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.is_refusable() && now.since(kept.since) >= self.patience)
            .map(|(number, _)| number)
            .collect();
        for number in old {
            self.reported(number, false, out);
        }
        let due = |since: &Time| now.since(*since) >= QUESTION_PATIENCE;
        let late: Vec<ChannelKey> =
            self.questions.iter().filter(|(_, (since, _))| due(since)).map(|(channel, _)| *channel).collect();
        for channel in late {
            self.questions.remove(&channel);
            self.answer(channel, QueueReply::Down, out);
        }
        if self.leaderless.is_some_and(|since| now.since(since) >= CONSUMER_PATIENCE) && !self.consuming.is_empty() {
            self.tell_down(true, out);
            self.consuming.clear();
        }
    }

    /// The queue was deleted: as [`gone`](crate::queue) has it, publishes count as done. A leader that is there
    /// cancels its consumers itself, behind what it has delivered; otherwise they hear of it from here.
    pub fn end(&mut self, out: &mut AgentEffects) {
        let mut numbers: Vec<u64> = self.kept.iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.reported(number, true, out);
        }
        for channel in std::mem::take(&mut self.questions).into_keys() {
            self.answer(channel, QueueReply::Gone, out);
        }
        if !matches!(self.place, Place::Attached { .. }) {
            self.end_consumers(out);
        }
    }

    /// Whether the leader of a queue that was deleted has still to cancel consumers, as far as can be told.
    #[must_use]
    pub fn has_consumers(&self) -> bool {
        !self.consuming.is_empty()
    }

    /// Channels ask again for the consumers that they still have here, and are told that there is no queue.
    pub fn end_consumers(&mut self, out: &mut AgentEffects) {
        self.tell_moved(BTreeSet::new(), out);
    }
}

#[cfg(test)]
mod tests;
