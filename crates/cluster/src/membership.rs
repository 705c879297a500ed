//! Who is alive, as this node sees it, and who may count on it.
//!
//! ```text
//!             answered                     1 s without an answer
//!  Awaited ------------> Reachable <------------------------------> Suspected
//!     |                   ^     |               answered                |
//!     |          answered |     | another life, or                      | 3 s without
//!     | 3 s               |     v refused                               v an answer
//!     '-------------> Unreachable, Dead <-------------------------------'
//! ```
//!
//! Every pair of nodes asks each other ten times a second (`Ping`) and answers (`Pong`). Only an
//! answer says that a peer is there: it has gone both ways. So a link that works in one direction
//! alone is noticed at both ends, though one of them still hears the other ask.
//!
//! A verdict is one node's, and of one moment. `Unreachable` is a suspicion: the peer may be cut off
//! or asleep and believe the same of us. It is *certain* only when the life in question has ended: a
//! later life of the same node says hello, or its host refuses a connection to where that life was
//! listening. (A firewall that refuses in a host's name makes this wrong: it must drop.)
//!
//! *Silence counts from a question*: a peer is silent from the first ping after its last answer. What
//! this node did not ask, nobody owes an answer to. When its own tick comes very late it was asleep
//! itself, and forgets what it asked before: everybody has a fresh round before any is suspected.
//!
//! *Leases*: an answer may grant the asker a lease. The asker counts it from when it sent its ping,
//! and a hundredth less; the granter from when it answered, which is later. So as long as clocks run
//! equally fast to a hundredth, and count the time that a machine sleeps, the asker's lease is over
//! when the granter's is, however long packets travel. Three more rules make that hold:
//! - a life that begins takes for granted to everybody what an earlier life may have granted;
//! - no round is used twice, so that an answer to an earlier life is never taken for ours;
//! - a grant outlives the peer's place in the list of peers.
//!
//! And one makes it end: a peer whose answers are missing is granted nothing, even while it asks.

mod packet;
mod settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use stdx::Time;

use crate::link::Incarnation;
use crate::metadata_log::NodeId;

pub use packet::{Packet, PacketError};
pub use settings::{Mutant, Settings};

/// What membership hears. The driver hands over what has come before it ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Who should be there: the other nodes of the cluster. Replaces the list before it.
    Peers(Vec<NodeId>),
    /// The link to a peer is up and its hello was agreed to.
    Connected {
        /// Who.
        peer: NodeId,
        /// Which life of it, from the hello.
        incarnation: Incarnation,
    },
    /// The link to a peer is gone and no other has taken its place: of a link that replaces another
    /// only the beginning is told.
    Disconnected {
        /// Who.
        peer: NodeId,
        /// A connection to where it listened was refused since.
        refused: bool,
    },
    /// A live host refused a connection to where the peer listens: not a timeout, not "no route".
    Refused {
        /// Who was not there.
        peer: NodeId,
    },
    /// A packet of membership came over the link of that peer.
    Heartbeat(NodeId, Packet),
}

/// What membership asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a packet over the link of that peer, on the lane Control.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        packet: Packet,
    },
    /// Note that the peer answers: for the first time, or again after it was unreachable.
    Reachable {
        /// Who.
        peer: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// Note that a reachable peer has been silent for a while.
    Suspected {
        /// Who.
        peer: NodeId,
    },
    /// Note that a suspected peer answers.
    Unsuspected {
        /// Who.
        peer: NodeId,
    },
    /// Note that the peer does not answer, or has died. May come a second time for one life: once
    /// as a suspicion, once for certain.
    Unreachable {
        /// Who.
        peer: NodeId,
        /// Which life of it; none when this node has not met it since its own start.
        incarnation: Option<Incarnation>,
        /// That life has ended. Otherwise it may go on somewhere.
        certain: bool,
    },
}

/// What this node thinks of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerState {
    /// Not in the list of peers.
    #[default]
    Unknown,
    /// In the list, has not answered, and there was time to wait for it.
    Awaited,
    /// Answers.
    Reachable,
    /// Answered, and has been silent for a while.
    Suspected,
    /// Does not answer.
    Unreachable,
    /// The life that was known has ended.
    Dead,
}

/// What an operator may see of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: NodeId,
    /// Its latest life that is known.
    pub incarnation: Option<Incarnation>,
    /// What this node thinks of it.
    pub state: PeerState,
    /// The link to it is up.
    pub connected: bool,
    /// Since when an answer is missing.
    pub silent_since: Option<Time>,
    /// See [`Membership::lease_until`].
    pub lease_until: Option<Time>,
    /// See [`Membership::granted_until`].
    pub granted_until: Time,
    /// See [`Membership::withhold`].
    pub withheld: bool,
    /// See [`Membership::heard_by`].
    pub hears: BTreeSet<NodeId>,
}

#[derive(Debug, Default)]
struct Peer {
    state: PeerState,
    connected: bool,
    /// The latest that said hello.
    life: Option<Incarnation>,
    silent_since: Option<Time>,
    /// Pings whose answers would count, with when they were sent, oldest first.
    asked: VecDeque<(u64, Time)>,
    /// When the last ping was sent.
    asked_at: Option<Time>,
    lease_until: Option<Time>,
    /// When it asked last, and whom it said it hears.
    heard_at: Option<Time>,
    hears: BTreeSet<NodeId>,
}

impl Peer {
    fn is_expected(&self) -> bool {
        self.state != PeerState::Unknown
    }

    /// When the ping of this round was sent; forgets it and all before it.
    fn answered(&mut self, round: u64) -> Option<Time> {
        let place = self.asked.iter().position(|(asked, _)| *asked == round)?;
        self.asked.drain(..=place).next_back().map(|(_, at)| at)
    }
}

/// All peers, as one node sees them.
#[derive(Debug)]
pub struct Membership {
    me: NodeId,
    settings: Settings,
    started: Time,
    /// When the next tick is due.
    due: Time,
    next_round: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// Until when leases last that this life has granted, whoever is a peer by now.
    granted: BTreeMap<NodeId, Time>,
    withheld: BTreeSet<NodeId>,
}

impl Membership {
    /// The membership of a node that has just started its life `incarnation`.
    #[must_use]
    pub fn new(me: NodeId, incarnation: Incarnation, settings: Settings, now: Time) -> Membership {
        // A life of 2^32 rounds is 13 years of heartbeats.
        let first_round = if settings.breaks(Mutant::ReuseRounds) {
            0
        } else {
            incarnation.0 << 32
        };
        Membership {
            me,
            settings,
            started: now,
            due: now + settings.heartbeat,
            next_round: first_round,
            peers: BTreeMap::new(),
            granted: BTreeMap::new(),
            withheld: BTreeSet::new(),
        }
    }

    /// The only way in. Adds what must happen to `out`. `now` was read after the event had come and
    /// before anything of `out` is done.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Effect>) {
        self.notice_own_sleep(now);
        match event {
            Event::Tick => self.tick(now, out),
            Event::Peers(peers) => self.expect(now, &peers),
            Event::Connected { peer, incarnation } => self.connect(now, peer, incarnation, out),
            Event::Disconnected { peer, refused } => {
                self.disconnect(now, peer);
                if refused {
                    self.refuse(peer, out);
                }
            }
            Event::Refused { peer } => self.refuse(peer, out),
            Event::Heartbeat(from, Packet::Ping { round, hears }) => {
                self.answer(now, from, round, hears, out);
            }
            Event::Heartbeat(from, Packet::Pong { round, lease }) => {
                self.learn(now, from, round, lease, out);
            }
        }
    }

    /// When to call [`Membership::handle`] with [`Event::Tick`] if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.due
    }

    /// Until when this node holds a lease of `peer`. Whoever relies on it compares it with a clock
    /// that counts sleep, at the moment of acting. None if there never was one.
    #[must_use]
    pub fn lease_until(&self, peer: NodeId) -> Option<Time> {
        self.peers.get(&peer)?.lease_until
    }

    /// From when on `peer` certainly holds no lease of this node: a successor waits it out. In the
    /// first moments of a life that is so for all nodes, as an earlier life may have granted one.
    #[must_use]
    pub fn granted_until(&self, peer: NodeId) -> Time {
        let granted = self.granted.get(&peer).copied().unwrap_or(self.started);
        if self.settings.breaks(Mutant::ForgetEarlierGrants) {
            return granted;
        }
        granted.max(self.started + self.settings.lease)
    }

    /// Grants `peer` nothing until told otherwise: it was declared down, or this node has no quorum.
    /// What was granted before lasts as long as it lasts. Outlives changes of the list of peers.
    pub fn withhold(&mut self, peer: NodeId, withheld: bool) {
        if withheld {
            self.withheld.insert(peer);
        } else {
            self.withheld.remove(&peer);
        }
    }

    /// What this node thinks of `peer`.
    #[must_use]
    pub fn state(&self, peer: NodeId) -> PeerState {
        self.peers
            .get(&peer)
            .map(|peer| peer.state)
            .unwrap_or_default()
    }

    /// The latest life of `peer` that is known here.
    #[must_use]
    pub fn incarnation(&self, peer: NodeId) -> Option<Incarnation> {
        self.peers.get(&peer)?.life
    }

    /// Whose answers reach `peer`, as it last said; nobody's if it has said nothing of late. Says
    /// whether a peer that is silent here is cut off from this node alone.
    #[must_use]
    pub fn heard_by(&self, peer: NodeId) -> BTreeSet<NodeId> {
        self.peers
            .get(&peer)
            .map(|peer| peer.hears.clone())
            .unwrap_or_default()
    }

    /// What an operator may see, of all peers in order.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        let expected = self.peers.iter().filter(|(_, peer)| peer.is_expected());
        let status = expected.map(|(id, peer)| PeerStatus {
            peer: *id,
            incarnation: peer.life,
            state: peer.state,
            connected: peer.connected,
            silent_since: peer.silent_since,
            lease_until: peer.lease_until,
            granted_until: self.granted_until(*id),
            withheld: self.withheld.contains(id),
            hears: peer.hears.clone(),
        });
        status.collect()
    }

    /// Whatever was asked before this node slept has no claim to an answer.
    fn notice_own_sleep(&mut self, now: Time) {
        if now.since(self.due) < self.settings.suspect_after / 2
            || self.settings.breaks(Mutant::CountOwnSleep)
        {
            return;
        }
        self.due = now;
        for peer in self.peers.values_mut() {
            if peer.silent_since.is_some() {
                peer.silent_since = Some(now);
            }
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        if now < self.due {
            return;
        }
        self.due = now + self.settings.heartbeat;
        self.granted.retain(|_, until| *until > now);
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in &ids {
            self.judge(now, *id, out);
        }
        let hears = self.hears();
        for id in ids {
            let peer = &self.peers[&id];
            let pause = peer.asked_at.map_or(Duration::MAX, |at| now.since(at));
            let is_turn = match peer.state {
                PeerState::Unknown => false,
                PeerState::Awaited | PeerState::Reachable | PeerState::Suspected => true,
                // Often enough to notice that the link has healed.
                PeerState::Unreachable | PeerState::Dead => {
                    pause >= self.settings.suspect_after && !self.settings.breaks(Mutant::GiveUp)
                }
            };
            if is_turn {
                self.ask(now, id, hears.clone(), out);
            }
        }
    }

    /// Passes a verdict on a peer that has been silent for too long.
    fn judge(&mut self, now: Time, id: NodeId, out: &mut Vec<Effect>) {
        let Settings {
            suspect_after,
            failure_timeout,
            ..
        } = self.settings;
        let peer = self.peers.get_mut(&id).expect("one of the peers");
        if peer
            .heard_at
            .is_some_and(|at| now.since(at) >= suspect_after)
        {
            peer.hears.clear();
        }
        let silence = peer
            .silent_since
            .map_or(Duration::ZERO, |since| now.since(since));
        if peer.state == PeerState::Reachable && silence >= suspect_after {
            peer.state = PeerState::Suspected;
            out.push(Effect::Suspected { peer: id });
        }
        let is_open = matches!(peer.state, PeerState::Awaited | PeerState::Suspected);
        if is_open && silence >= failure_timeout {
            peer.state = PeerState::Unreachable;
            out.push(Effect::Unreachable {
                peer: id,
                incarnation: peer.life,
                certain: false,
            });
        }
    }

    /// The peers whose answers reach this node.
    fn hears(&self) -> BTreeSet<NodeId> {
        let reachable = |peer: &Peer| peer.state == PeerState::Reachable;
        self.peers
            .iter()
            .filter(|(_, peer)| reachable(peer))
            .map(|(id, _)| *id)
            .collect()
    }

    fn ask(&mut self, now: Time, id: NodeId, hears: BTreeSet<NodeId>, out: &mut Vec<Effect>) {
        let memory = self.settings.memory();
        let peer = self.peers.get_mut(&id).expect("one of the peers");
        if !peer.connected {
            return;
        }
        let round = self.next_round;
        self.next_round += 1;
        if !self.settings.breaks(Mutant::OldAnswersCount) {
            peer.asked.retain(|(_, at)| now.since(*at) < memory);
        }
        peer.asked.push_back((round, now));
        peer.asked_at = Some(now);
        peer.silent_since.get_or_insert(now);
        out.push(Effect::Send {
            to: id,
            packet: Packet::Ping { round, hears },
        });
    }

    fn expect(&mut self, now: Time, expected: &[NodeId]) {
        for (id, peer) in &mut self.peers {
            if !expected.contains(id) {
                // The link may still be up; whoever is there is answered and granted nothing.
                *peer = Peer {
                    connected: peer.connected,
                    life: peer.life,
                    ..Peer::default()
                };
                if self.settings.breaks(Mutant::ForgetGrantOfRemoved) {
                    self.granted.remove(id);
                }
            }
        }
        for id in expected.iter().filter(|id| **id != self.me) {
            let peer = self.peers.entry(*id).or_default();
            if !peer.is_expected() {
                peer.state = PeerState::Awaited;
                peer.silent_since = Some(now);
            }
        }
        self.peers
            .retain(|_, peer| peer.is_expected() || peer.connected);
    }

    fn connect(&mut self, now: Time, id: NodeId, incarnation: Incarnation, out: &mut Vec<Effect>) {
        let is_blind = self.settings.breaks(Mutant::IgnoreIncarnation);
        let peer = self.peers.entry(id).or_default();
        if let Some(life) = peer.life.filter(|life| *life != incarnation && !is_blind) {
            if incarnation < life {
                // A life that has ended: nothing it says counts.
                self.disconnect(now, id);
                return;
            }
            if peer.is_expected() {
                if peer.state != PeerState::Dead {
                    let incarnation = Some(life);
                    out.push(Effect::Unreachable {
                        peer: id,
                        incarnation,
                        certain: true,
                    });
                }
                let silent_since = Some(now);
                *peer = Peer {
                    state: PeerState::Awaited,
                    silent_since,
                    ..Peer::default()
                };
            }
        }
        peer.life = Some(incarnation);
        peer.connected = true;
        match peer.state {
            PeerState::Unknown => return,
            PeerState::Dead => peer.state = PeerState::Unreachable,
            PeerState::Awaited
            | PeerState::Reachable
            | PeerState::Suspected
            | PeerState::Unreachable => {}
        }
        let hears = self.hears();
        self.ask(now, id, hears, out);
    }

    fn disconnect(&mut self, now: Time, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.connected = false;
        // Without a link no ping is sent, and yet an answer is missing.
        peer.silent_since.get_or_insert(now);
        if !peer.is_expected() {
            self.peers.remove(&id);
        }
    }

    fn refuse(&mut self, id: NodeId, out: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let is_linked = peer.connected && !self.settings.breaks(Mutant::RefusedThoughConnected);
        if is_linked || !peer.is_expected() || peer.state == PeerState::Dead {
            return;
        }
        // A peer that was never met may live at another address.
        if let Some(life) = peer.life {
            peer.state = PeerState::Dead;
            peer.hears.clear();
            out.push(Effect::Unreachable {
                peer: id,
                incarnation: Some(life),
                certain: true,
            });
        }
    }

    /// A peer asks.
    fn answer(
        &mut self,
        now: Time,
        from: NodeId,
        round: u64,
        hears: BTreeSet<NodeId>,
        out: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.connected) else {
            return;
        };
        peer.heard_at = Some(now);
        peer.hears = hears;
        let mut lease = Duration::ZERO;
        let may_count_on_us =
            peer.state == PeerState::Reachable || self.settings.breaks(Mutant::GrantWhoeverAsks);
        if self.settings.breaks(Mutant::AskingIsAnswering) && peer.silent_since.is_some() {
            peer.silent_since = Some(now);
        }
        if may_count_on_us && !self.withheld.contains(&from) {
            lease = self.settings.lease;
            self.granted.insert(from, now + lease);
        }
        out.push(Effect::Send {
            to: from,
            packet: Packet::Pong { round, lease },
        });
    }

    /// A peer has answered.
    fn learn(
        &mut self,
        now: Time,
        from: NodeId,
        round: u64,
        lease: Duration,
        out: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.connected) else {
            return;
        };
        let Some(asked_at) = peer.answered(round) else {
            return;
        };
        let is_old = now.since(asked_at) >= self.settings.memory();
        if is_old && !self.settings.breaks(Mutant::OldAnswersCount) {
            return;
        }
        let incarnation = peer.life.expect("set when the link came up");
        if !lease.is_zero() {
            let is_broken = self.settings.breaks(Mutant::LeaseFromAnswer);
            let counted_from = if is_broken { now } else { asked_at };
            let until = counted_from + self.settings.counted(lease);
            peer.lease_until = peer.lease_until.max(Some(until));
        }
        peer.silent_since = None;
        match peer.state {
            PeerState::Reachable | PeerState::Unknown => {}
            PeerState::Suspected => {
                peer.state = PeerState::Reachable;
                out.push(Effect::Unsuspected { peer: from });
            }
            PeerState::Awaited | PeerState::Unreachable | PeerState::Dead => {
                peer.state = PeerState::Reachable;
                out.push(Effect::Reachable {
                    peer: from,
                    incarnation,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
