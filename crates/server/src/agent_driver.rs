//! The task of one agent: a queue as it is used from a node that does not lead it, or may not always.
//!
//! The mailbox is the queue's as far as this node's connections know. Bytes of publishes count in it until
//! the leader has reported them, so a publisher waits for its own queue.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use broker::{ConnectionId, QueueId};
use broker::agent::{Agent, AgentEffects, AgentEvent, Place};
use broker::queue::QueueEvent;
use cluster::metadata_log::NodeId;
use stdx::Time;

use crate::clock;
use crate::mailbox::Mailbox;
use crate::node::{ConnectionHandle, ConnectionMail, Node, QueueHandle, QueueMail};
use crate::peers::Peer;
use crate::queue_driver::{gone, send, size_of_event};

/// A leader that said it is none is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A publish that has no report for so long is spoken of.
const LONG: Duration = Duration::from_secs(5);

/// A leader that has not cancelled the consumers of a deleted queue by then does not any more: it is gone, or its
/// link broke.
const FAREWELL: Duration = Duration::from_secs(2);

/// Starts an agent; its handle is what the node's connections use as the queue.
pub(crate) fn start(node: &Arc<Node>, id: QueueId) -> Arc<QueueHandle> {
    start_with(node, id, Agent::new)
}

/// Starts an agent for messages that were in a queue before: all are flagged.
pub(crate) fn start_for_return(node: &Arc<Node>, id: QueueId) -> Arc<QueueHandle> {
    start_with(node, id, Agent::for_return)
}

fn start_with(node: &Arc<Node>, id: QueueId, make: fn(QueueId, ConnectionId) -> Agent) -> Arc<QueueHandle> {
    let mailbox = Arc::new(Mailbox::new());
    let reports = Arc::new(Mailbox::new());
    let session = node.next_connection();
    node.desks.write().insert(session, Arc::new(ConnectionHandle::new(Arc::clone(&reports))));
    let handle = Arc::new(QueueHandle::of_agent(Arc::clone(&mailbox)));
    let driver = Driver {
        node: Arc::clone(node),
        id,
        agent: make(id, session).with_patience(node.config.cluster.publish_failover_timeout),
        mailbox,
        reports,
        fx: AgentEffects::default(),
        leader: Leader::Nobody,
        refusals: 1,
        ask_again: false,
        spoken_of: 0,
    };
    node.run(Box::new(driver).run());
    handle
}

/// Whom the agent speaks to.
enum Leader {
    Here(Arc<QueueHandle>),
    There(Arc<Peer>),
    Nobody,
}

struct Driver {
    node: Arc<Node>,
    id: QueueId,
    agent: Agent,
    mailbox: Arc<Mailbox<QueueMail>>,
    reports: Arc<Mailbox<ConnectionMail>>,
    fx: AgentEffects,
    leader: Leader,
    /// How often somebody said that he does not lead, from 1: each time is another life of the leader, and what
    /// is sent to it carries the number.
    refusals: u64,
    ask_again: bool,
    /// The last publish that had no report for long.
    spoken_of: u64,
}

impl Driver {
    async fn run(mut self: Box<Self>) {
        let (mut mails, mut reports) = (Vec::new(), Vec::new());
        self.look_for_leader();
        self.obey();
        loop {
            self.wait(&mut mails, &mut reports).await;
            let now = clock::now();
            for report in reports.drain(..) {
                if let ConnectionMail::Channel(event) = report {
                    self.agent.handle(now, AgentEvent::Report(event), &mut self.fx);
                }
            }
            if std::mem::take(&mut self.ask_again) {
                self.look_for_leader();
            }
            let mut deleted = false;
            for mail in mails.drain(..) {
                match mail {
                    QueueMail::Event(event) => self.agent.handle(now, AgentEvent::Queue(event), &mut self.fx),
                    QueueMail::Answered(channel, question) => {
                    self.agent.handle(now, AgentEvent::Answered(channel, question), &mut self.fx);
                }
                    QueueMail::Record(_) | QueueMail::Recheck => self.look_for_leader(),
                    QueueMail::NotLeader(from, attempt) => self.not_leader(from, attempt),
                    QueueMail::Deleted => deleted = true,
                    QueueMail::Stop(done) => drop(done.send(())),
                    QueueMail::Report(_) | QueueMail::Delay(_) | QueueMail::Mirror(_) => {}
                }
            }
            if deleted {
                return self.end().await;
            }
            self.agent.handle(now, AgentEvent::Tick, &mut self.fx);
            self.obey();
            self.speak_of_what_waits(now);
            if let Leader::There(peer) = &self.leader
                && peer.is_crowded()
            {
                let peer = Arc::clone(peer);
                let _ = tokio::time::timeout(Duration::from_millis(200), peer.room()).await;
            }
        }
    }

    async fn wait(&mut self, mails: &mut Vec<QueueMail>, reports: &mut Vec<ConnectionMail>) {
        let take = poll_fn(|cx| {
            let mail = self.mailbox.poll_take(cx, mails);
            let report = self.reports.poll_take(cx, reports);
            if mail.is_ready() || report.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut deadline = self.agent.deadline();
        if self.ask_again {
            let soon = clock::now() + ASK_AGAIN;
            deadline = Some(deadline.map_or(soon, |at| at.min(soon)));
        }
        if let Some((_, since)) = self.agent.oldest().filter(|(number, _)| *number > self.spoken_of) {
            deadline = Some(deadline.map_or(since + LONG, |at| at.min(since + LONG)));
        }
        match deadline {
            None => take.await,
            Some(at) => {
                let at = clock::instant(at).max(tokio::time::Instant::now() + Duration::from_millis(1));
                let _ = tokio::time::timeout_at(at, take).await;
            }
        }
    }

    fn speak_of_what_waits(&mut self, now: Time) {
        let Some((number, since)) = self.agent.oldest() else { return };
        if number > self.spoken_of && now.since(since) >= LONG {
            self.spoken_of = number;
            let queue = self.node.tables.load().queues.get(&self.id).map(|record| Arc::clone(&record.name));
            tracing::info!("publishes to queue {queue:?} wait for their leader's report: {}", self.agent.describe());
        }
    }

    /// Where the tables and the links say that the leader is.
    fn look_for_leader(&mut self) {
        let (leader, place) = self.find();
        self.leader = leader;
        self.agent.handle(clock::now(), AgentEvent::Leader(place), &mut self.fx);
    }

    fn find(&self) -> (Leader, Place) {
        let tables = self.node.tables.load();
        let Some(record) = tables.queues.get(&self.id) else { return (Leader::Nobody, Place::Waiting) };
        if !record.view.is_running() {
            return (Leader::Nobody, Place::Down);
        }
        let home = record.leader();
        if home == self.node.id() {
            return match self.node.leading(self.id) {
                Some(handle) => {
                    let life = handle.life;
                    (Leader::Here(handle), Place::Attached { life: life << 8 | self.refusals & 0xFF })
                }
                None => (Leader::Nobody, Place::Waiting),
            };
        }
        let peer = self.node.peers.get(home);
        match peer.and_then(|peer| Some((peer.life()?, peer))) {
            Some((life, peer)) => {
                // Another turn of the same node at the lead, over the same link, is another life.
                let life = life.wrapping_mul(0x9E37_79B9).wrapping_add(record.view.led_since) << 8;
                (Leader::There(peer), Place::Attached { life: life | self.refusals & 0xFF })
            }
            None if !tables.nodes.is_up(home) => (Leader::Nobody, Place::Down),
            None => (Leader::Nobody, Place::Waiting),
        }
    }

    /// Whom we took for the leader does not lead: the tables here or there are not the newest. An answer to
    /// what an earlier attempt sent is no news; 0 says that it does not lead any more.
    fn not_leader(&mut self, from: NodeId, attempt: u64) {
        let asked = match &self.leader {
            Leader::There(peer) => peer.id,
            Leader::Here(_) => self.node.id(),
            Leader::Nobody => return,
        };
        if asked == from && (attempt == 0 || attempt == self.refusals) {
            self.refusals += 1;
            self.leader = Leader::Nobody;
            self.agent.handle(clock::now(), AgentEvent::Leader(Place::Waiting), &mut self.fx);
            self.ask_again = true;
        }
    }

    fn obey(&mut self) {
        let mut refused = false;
        for event in std::mem::take(&mut self.fx.to_leader) {
            refused |= !self.tell_leader(event);
        }
        for (connection, event) in self.fx.to_connections.drain(..) {
            if let Some(handle) = self.node.connection(connection) {
                let _ = handle.mailbox.push(ConnectionMail::Channel(event), 0);
            }
        }
        for (queue, event) in self.fx.to_queues.drain(..) {
            if let Some(handle) = self.node.leading(queue) {
                let _ = handle.mailbox.push(QueueMail::Event(event), 0);
            } else {
                send(&self.node, queue, event);
            }
        }
        self.mailbox.release(std::mem::take(&mut self.fx.released));
        if refused {
            self.not_leader(self.node.id(), 0);
        }
    }

    fn tell_leader(&self, event: QueueEvent) -> bool {
        match &self.leader {
            Leader::Here(handle) => {
                let bytes = size_of_event(&event);
                handle.mailbox.push(QueueMail::Event(event), bytes).is_ok()
            }
            Leader::There(peer) => {
                let mut packet = Vec::new();
                broker::packet::encode_to_queue(&mut packet, self.id, self.refusals, &event);
                // Without a link the agent hears that it is lost, and sends again.
                peer.send(crate::peers::EVENTS, packet);
                true
            }
            Leader::Nobody => true,
        }
    }

    async fn end(mut self: Box<Self>) {
        self.agent.end(&mut self.fx);
        self.fx.to_leader.clear();
        self.obey();
        for mail in self.mailbox.close() {
            if let QueueMail::Event(event) = mail {
                gone(&self.node, self.id, event);
            }
        }
        self.node.desks.write().remove(&self.agent.session());
        self.node.retired_agents.fetch_add(1, Ordering::Relaxed);
        if self.agent.has_consumers() {
            tokio::time::sleep(FAREWELL).await;
            self.agent.end_consumers(&mut self.fx);
            self.obey();
        }
    }
}
