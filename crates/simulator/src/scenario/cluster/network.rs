//! Connections between nodes: packets come in order or not at all, late, and a direction that is cut
//! swallows nothing: what was sent waits there until it is mended or an end gives up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use broker::QueueId;
use bytes::Bytes;
use cluster::link::Incarnation;
use cluster::membership;
use cluster::metadata_log::NodeId;
use stdx::Time;

use super::node::Mail;
use super::node::ReplicaMail;
use super::world::{Event, NodeEvent, World};

/// One connection between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line(pub(super) u64);

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// The other end has taken the connection.
    Hello { incarnation: u64, receiver: u64 },
    Heartbeat(membership::Packet),
    Broker(Vec<u8>),
    Replica(QueueId, Vec<u8>),
    /// The other end has hung up.
    End,
}

#[derive(Debug, Default)]
struct Pipe {
    packets: VecDeque<Packet>,
    /// No packet comes out before the one in front of it.
    free_at: Time,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Network {
    next: u64,
    pipes: BTreeMap<(Line, NodeId), Pipe>,
    /// Lines that are broken, whether or not their ends know it.
    broken: BTreeSet<Line>,
    /// Directions in which nothing gets through.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    /// Directions that are slow: how many microseconds at least.
    pub(super) slow: BTreeMap<(NodeId, NodeId), u64>,
}

/// Between two calls that failed.
const CALL_AGAIN: Duration = Duration::from_millis(100);

impl Network {
    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }
}

impl World {
    /// Sends over the present connection to a node, if there is one.
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, packet: Packet) -> bool {
        let Some(line) = self.nodes[&from].process.as_ref().and_then(|process| process.lines.get(&to).copied()) else {
            return false;
        };
        self.send_on(line, from, to, packet);
        true
    }

    fn send_on(&mut self, line: Line, from: NodeId, to: NodeId, packet: Packet) {
        if self.network.broken.contains(&line) {
            return;
        }
        let least = self.network.slow.get(&(from, to)).copied().unwrap_or(30);
        let mut wait = self.between(least, 2 * least + 200);
        if self.plan.jitter && self.rng.one_in(40) {
            wait += self.between(0, 30_000);
        }
        let now = self.now;
        let pipe = self.network.pipes.entry((line, from)).or_default();
        pipe.packets.push_back(packet);
        pipe.free_at = pipe.free_at.max(now + wait);
        let at = pipe.free_at;
        if !self.network.cut.contains(&(from, to)) {
            self.at(at, Event::Arrive { from, to, line });
        }
    }

    pub(super) fn arrive(&mut self, from: NodeId, to: NodeId, line: Line) {
        if self.network.cut.contains(&(from, to)) {
            // It comes out when that is mended.
            return;
        }
        let Some(packet) = self.network.pipes.get_mut(&(line, from)).and_then(|pipe| pipe.packets.pop_front()) else { return };
        if self.nodes[&to].process.is_none() {
            if !self.nodes[&to].is_silent && !matches!(packet, Packet::End) {
                self.end_line(line, to, from);
            }
            return;
        }
        let present = self.process(to).lines.get(&from).copied();
        match packet {
            Packet::Hello { incarnation, receiver } => {
                if (self.nodes[&from].incarnation, self.nodes[&to].incarnation) == (incarnation, receiver) {
                    self.install(to, from, line, incarnation);
                }
            }
            Packet::End => self.hung_up(to, from, line),
            // As a host does for a connection that it does not know.
            _ if present != Some(line) => self.end_line(line, to, from),
            Packet::Heartbeat(packet) => self.tell_membership(to, membership::Event::Heartbeat(from, packet)),
            Packet::Broker(bytes) => match broker::packet::Packet::decode(&Bytes::from(bytes)) {
                Ok(packet) => self.take_packet(to, from, packet),
                Err(error) => self.checks.fail(format!("{to} cannot read a packet of {from}: {error}")),
            },
            Packet::Replica(queue, bytes) => match broker::mirror::Packet::decode(bytes.into()) {
                Some(packet) => self.take_replica_packet(to, from, queue, packet),
                None => self.checks.fail(format!("{to} cannot read a replica's packet of {from}")),
            },
        }
    }

    /// A node calls those that it has no connection to: the lower number calls, the other one knocks.
    pub(super) fn call_peers(&mut self, node: NodeId) {
        self.in_node(node, CALL_AGAIN, NodeEvent::Call);
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|peer| *peer != node).collect();
        for peer in peers {
            if self.process(node).lines.contains_key(&peer) || self.network.is_cut(node, peer) {
                continue;
            }
            if self.nodes[&peer].is_silent {
                continue;
            }
            if self.nodes[&peer].process.is_none() {
                self.tell_membership(node, membership::Event::Refused { peer });
            } else if node < peer && self.nodes[&peer].sleeps_until.is_none_or(|until| until <= self.now) {
                self.network.next += 1;
                let line = Line(self.network.next);
                let (mine, theirs) = (self.nodes[&node].incarnation, self.nodes[&peer].incarnation);
                self.send_on(line, node, peer, Packet::Hello { incarnation: mine, receiver: theirs });
                self.send_on(line, peer, node, Packet::Hello { incarnation: theirs, receiver: mine });
            }
        }
    }

    /// A connection is made: one that was there before is over.
    fn install(&mut self, node: NodeId, peer: NodeId, line: Line, incarnation: u64) {
        if let Some(before) = self.process(node).lines.get(&peer).copied() {
            self.lose_line(node, peer, before, false);
        }
        let process = self.process(node);
        process.lives += 1;
        let life = process.lives;
        process.lines.insert(peer, line);
        process.line_lives.insert(peer, life);
        self.tell(|| format!("{node} is linked with {peer}"));
        self.tell_membership(node, membership::Event::Connected { peer, incarnation: Incarnation(incarnation) });
        let replicas = self.process(node).replicas();
        for task in replicas {
            let _ = self.push(node, task, Mail::Mirror(ReplicaMail::Reconnected(peer)));
        }
        self.recheck_agents(node);
    }

    /// A connection is over: everybody hears it, once.
    fn lose_line(&mut self, node: NodeId, peer: NodeId, line: Line, tell: bool) {
        let process = self.process(node);
        if process.lines.get(&peer) != Some(&line) {
            return;
        }
        process.lines.remove(&peer);
        process.line_lives.remove(&peer);
        let leading: Vec<_> = process.leading.values().map(|handle| handle.task).collect();
        for task in leading {
            let _ = self.push(node, task, Mail::Event(broker::queue::QueueEvent::NodeLost { node: peer }));
        }
        self.recheck_agents(node);
        self.coverage.links_lost += 1;
        if tell {
            self.tell_membership(node, membership::Event::Disconnected { peer, refused: false });
        }
    }

    pub(super) fn hung_up(&mut self, node: NodeId, peer: NodeId, line: Line) {
        if self.process(node).lines.get(&peer) == Some(&line) {
            self.tell(|| format!("{node} has lost its link with {peer}"));
            self.lose_line(node, peer, line, true);
        }
    }

    /// One end hangs up: the other one reads what is on its way, and then hears it.
    pub(super) fn hang_up(&mut self, node: NodeId, peer: NodeId) {
        let Some(line) = self.nodes[&node].process.as_ref().and_then(|process| process.lines.get(&peer).copied()) else {
            return;
        };
        self.send_on(line, node, peer, Packet::End);
        self.network.pipes.remove(&(line, peer));
        if self.nodes[&node].process.is_some() {
            self.hung_up(node, peer, line);
        }
    }

    /// The connection breaks at both ends, with what is on its way.
    pub(super) fn break_line(&mut self, a: NodeId, b: NodeId) {
        let lines = [(a, b), (b, a)].map(|(one, other)| {
            let process = self.nodes[&one].process.as_ref()?;
            Some((one, other, *process.lines.get(&other)?))
        });
        for (one, other, line) in lines.into_iter().flatten() {
            self.network.broken.insert(line);
            self.network.pipes.remove(&(line, one));
            self.network.pipes.remove(&(line, other));
            let wait = self.between(0, 20_000);
            self.in_node(one, wait, NodeEvent::HungUp { peer: other, line });
        }
    }

    /// Nothing gets through in this direction any more.
    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.network.cut.insert((from, to));
    }

    /// What was cut is whole again: what waits there comes out.
    pub(super) fn mend(&mut self, from: NodeId, to: NodeId) {
        if !self.network.cut.remove(&(from, to)) {
            return;
        }
        self.tell(|| format!("{from} reaches {to} again"));
        let waiting: Vec<(Line, usize)> = self
            .network
            .pipes
            .iter()
            .filter(|((_, sender), pipe)| *sender == from && !pipe.packets.is_empty())
            .map(|((line, _), pipe)| (*line, pipe.packets.len()))
            .collect();
        for (line, count) in waiting {
            let is_between = [(from, to), (to, from)].into_iter().any(|(a, b)| {
                self.nodes[&a].process.as_ref().is_some_and(|process| process.lines.get(&b) == Some(&line))
            });
            if !is_between {
                continue;
            }
            let mut at = self.now;
            for _ in 0..count {
                at = at + self.between(10, 200);
                self.at(at, Event::Arrive { from, to, line });
            }
            if let Some(pipe) = self.network.pipes.get_mut(&(line, from)) {
                pipe.free_at = pipe.free_at.max(at);
            }
        }
    }

    /// Whether two nodes can talk at this moment.
    pub(super) fn is_path(&self, a: NodeId, b: NodeId) -> bool {
        let awake = |node: NodeId| {
            let state = &self.nodes[&node];
            state.process.is_some() && state.sleeps_until.is_none_or(|until| until <= self.now)
        };
        let linked = |a: NodeId, b: NodeId| {
            self.nodes[&a].process.as_ref().is_some_and(|process| process.lines.contains_key(&b))
        };
        awake(a) && awake(b) && (a == b || !self.network.is_cut(a, b) && linked(a, b) && linked(b, a))
    }
}

impl World {
    /// A process has died, and its host tells the other end of its connection, behind what was on its way.
    pub(super) fn end_line(&mut self, line: Line, node: NodeId, peer: NodeId) {
        self.send_on(line, node, peer, Packet::End);
    }
}
