//! The replica that follows: it stores what comes, and can take over.
//!
//! ```text
//!            Wants --> steps --> Welcome
//!   Outside --------------------------------> Member --view without it--> Outside
//!      ^  \__ in the queue's first view ______/  |
//!      |                                         +--view led by it, the dead are gone--> (a leader)
//!      +--- link lost, leader changed, a step missing: it asks again
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use cluster::ring::{Effect, Handover, Member, MemberId};
use stdx::Time;

use super::effects::{Effects, PutBack, Report};
use super::operation::{self, Sessions};
use super::packet::Packet;
use super::runs::Runs;
use super::{ask_left, member_of, node_of, open_ring_packet, right_on, ring_packet, ring_view};
use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::mutant::{Mutant, breaks};

/// A leader from which nothing came for so long is asked again; each time it is given longer, since a
/// link that is slow is not made faster by asking.
const ASK_AGAIN: Duration = Duration::from_secs(3);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(120);
/// An eviction of which nothing is heard is proposed again after this time.
const EVICT_AGAIN: Duration = Duration::from_secs(2);

/// What the leader feeds.
#[derive(Debug)]
struct Feed {
    id: u64,
    leader: NodeId,
    /// The number of the next step.
    next: u64,
    stored: u64,
    heard: Time,
    welcome: Option<Welcome>,
}

#[derive(Debug)]
struct Welcome {
    after: u64,
    sessions: Sessions,
    handover: Handover,
}

/// What a member of the ring was handed over: it counts as stored when the feed's steps before it are.
#[derive(Debug)]
struct Handed {
    feed: u64,
    leader: NodeId,
    after: u64,
    held: Vec<(MemberId, u64)>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Follower {
    queue: QueueId,
    me: NodeId,
    view: View,
    /// Other nodes that have led since this replica began.
    leaders_before: BTreeSet<NodeId>,
    ring: Option<Member>,
    seat: MemberId,
    feed: Option<Feed>,
    feeds: u64,
    /// What only this node's old copy has is being put back: nobody is asked for a feed meanwhile.
    puts_back: bool,
    /// The store is asked what it holds, for this feed.
    surveying: Option<u64>,
    /// How long the leader is given this time.
    patience: Duration,
    sessions: Sessions,
    handed: Option<Handed>,
    /// The feed that made this replica a member, and who sent it: told again when the link was lost.
    joined_by: Option<(NodeId, u64)>,
    /// When other seats are asked to go again.
    evict_after: Time,
    /// The leader's seat of late, and its last publication that is stored.
    stored: (u64, u64),
    /// The left neighbour is not asked to send everything again before.
    asks_left_after: Time,
}

impl Follower {
    /// A replica of a queue. `is_new`: the queue was created with this view, and nothing is stored.
    /// `first_feed` is above what an earlier follower on this node has used.
    #[must_use]
    pub fn new(now: Time, queue: QueueId, me: NodeId, view: &View, is_new: bool, first_feed: u64, out: &mut Effects) -> Follower {
        let mut follower = Follower {
            queue,
            me,
            view: View { epoch: 0, ..view.clone() },
            leaders_before: BTreeSet::new(),
            ring: None,
            seat: MemberId(0),
            feed: None,
            feeds: first_feed,
            puts_back: false,
            surveying: None,
            patience: ASK_AGAIN,
            sessions: Sessions::new(),
            handed: None,
            joined_by: None,
            evict_after: Time::START,
            stored: (0, 0),
            asks_left_after: Time::START,
        };
        if is_new && let Some(seat) = member_of(view, me) {
            follower.seat = seat;
            follower.ring = Some(Member::new(seat, ring_view(view)));
        }
        follower.view_changed(now, view, out);
        follower
    }

    /// A leader that leads no longer and keeps its place in the ring.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "what a leader leaves, and what any follower begins with")]
    pub fn after_leading(
        now: Time,
        queue: QueueId,
        me: NodeId,
        view: &View,
        ring: Option<Member>,
        sessions: Sessions,
        first_feed: u64,
        out: &mut Effects,
    ) -> Follower {
        let mut follower = Follower::new(now, queue, me, &View { epoch: 0, seats: Vec::new(), catching_up: Vec::new(), ..view.clone() }, false, first_feed, out);
        follower.sessions = sessions;
        follower.seat = member_of(view, me).unwrap_or_default();
        follower.ring = ring;
        follower.view_changed(now, view, out);
        out.to_peers.extend(follower.ring.as_ref().and_then(ask_left));
        follower
    }

    /// The metadata has a later view.
    pub fn view_changed(&mut self, now: Time, view: &View, out: &mut Effects) {
        if view.epoch <= self.view.epoch {
            return;
        }
        let led_before = (self.view.leader(), self.view.led_since);
        let had_seat = self.view.is_in_sync(self.me);
        let copy_before = (self.view.lineage, self.has_old_copy());
        self.view = view.clone();
        self.leaders_before.insert(view.leader());
        if copy_before != (view.lineage, self.has_old_copy()) {
            self.puts_back = false;
            self.feed = None;
        }
        match member_of(view, self.me) {
            Some(seat) if self.ring.is_some() && seat == self.seat => self.install(false, out),
            Some(seat) => {
                self.ring = None;
                self.seat = seat;
            }
            None => self.ring = None,
        }
        let leader_changed = led_before != (view.leader(), view.led_since);
        if leader_changed || (had_seat && !view.is_in_sync(self.me)) {
            self.feed = None;
        }
        self.seek_feed(now, out);
        self.take_place(out);
        self.evict_after = now;
        self.seek_solitude(now, out);
    }

    /// Brings the ring to the view. `joins`: this replica is a member from here on.
    fn install(&mut self, joins: bool, out: &mut Effects) {
        let Some(ring) = &mut self.ring else { return };
        let mut effects = Vec::new();
        ring.install(ring_view(&self.view), &mut effects);
        // Whoever has come to be the left neighbour may have said all before this replica could hear it.
        let is_unheard = ring.is_unheard() && (joins || !breaks(Mutant::AskOneNeighbour));
        self.obey(effects, out);
        if is_unheard {
            out.to_peers.extend(self.ring.as_ref().and_then(ask_left));
        }
    }

    /// Its turn to lead has come before it was made a member of the ring: it has all that is complete, and
    /// founds another ring. Who is left of the old one has to catch up with that.
    fn seek_solitude(&mut self, now: Time, out: &mut Effects) {
        let is_due = self.ring.is_none() && self.view.leader() == self.me && self.view.is_running();
        if is_due && now >= self.evict_after && !breaks(Mutant::StayWithoutRing) {
            self.evict_after = now + EVICT_AGAIN;
            let next = self.view.mirrors().next();
            out.proposals.extend(next.map(|node| (self.view.epoch, ViewChange::Evict(node))));
        }
    }

    /// Asks the leader for a copy, if this replica needs one and nobody sends it.
    fn seek_feed(&mut self, now: Time, out: &mut Effects) {
        let leader = self.view.leader();
        let is_mirror = self.view.is_member(self.me) && leader != self.me && self.view.is_running();
        if self.ring.is_some() || !is_mirror || self.feed.is_some() || self.surveying.is_some() || self.puts_back {
            return;
        }
        self.feeds += 1;
        self.surveying = Some(self.feeds);
        let _ = now;
        out.survey.push((self.me, self.feeds));
    }

    /// Whether this node's copy may hold what the queue's lineage never had. Nothing is removed from it.
    fn has_old_copy(&self) -> bool {
        self.view.old.contains(&self.me)
    }

    /// What this node's store holds of the queue.
    pub fn surveyed(&mut self, now: Time, id: u64, holds: Vec<(u8, Runs)>, out: &mut Effects) {
        if self.surveying != Some(id) {
            return;
        }
        self.surveying = None;
        let leader = self.view.leader();
        if self.ring.is_some() || leader == self.me || !self.view.is_member(self.me) {
            return;
        }
        self.feed = Some(Feed { id, leader, next: 1, stored: 0, heard: now, welcome: None });
        out.to_peers.push((leader, Packet::Wants { feed: id, epoch: self.view.epoch, holds }));
    }

    /// Whether this replica can lead now: the view says so, and all that a former leader left is here.
    #[must_use]
    pub fn can_lead(&self) -> bool {
        if self.view.leader() != self.me || !self.view.is_running() {
            return false;
        }
        if breaks(Mutant::LeadBeforeGathering) {
            return true;
        }
        let Some(ring) = &self.ring else { return self.view.seats.len() == 1 };
        // What it was handed is stored first: whoever leads speaks for it.
        ring.view().version == self.view.epoch && ring.has_gathered() && self.handed.is_none()
    }

    /// Who may still take itself for the leader: before this replica leads, each is dead or holds no lease of
    /// this node any more. A leader that was declared down before it served stands for none of those before it.
    pub fn leaders_before(&self) -> impl Iterator<Item = NodeId> {
        self.leaders_before.iter().copied().filter(|node| *node != self.me)
    }

    /// The ring and the sessions, for the leader that this replica becomes.
    #[must_use]
    pub fn take_over(self) -> (Option<Member>, Sessions) {
        let sessions = if breaks(Mutant::ForgetSessions) { Sessions::new() } else { self.sessions };
        (self.ring, sessions)
    }

    /// The link to a node is there again.
    pub fn reconnected(&mut self, now: Time, node: NodeId, out: &mut Effects) {
        if self.ring.is_none() && self.feed.as_ref().is_some_and(|feed| feed.leader == node) {
            self.feed = None;
        }
        if let Some((leader, feed)) = self.joined_by.filter(|(leader, _)| *leader == node) {
            out.to_peers.push((leader, Packet::Has { feed, number: u64::MAX }));
        }
        self.relink(node, out);
        // Its left neighbour may have been asked before it could be reached.
        if let Some(ring) = self.ring.as_ref().filter(|ring| ring.is_unheard()) {
            out.to_peers.extend(ask_left(ring).filter(|(left, _)| *left == node));
        }
        self.seek_feed(now, out);
    }

    fn relink(&mut self, node: NodeId, out: &mut Effects) {
        if let Some(ring) = &mut self.ring
            && let Some(member) = right_on(ring, &self.view, node)
            && !breaks(Mutant::NoRelinkAfterLoss)
        {
            let mut effects = Vec::new();
            ring.reconnected(member, &mut effects);
            self.obey(effects, out);
        }
    }

    /// A packet from the replica on another node.
    pub fn receive(&mut self, now: Time, from: NodeId, packet: Packet, out: &mut Effects) {
        match packet {
            Packet::Ring(bytes) => {
                if let (Some(ring), Some((member, packet))) = (&mut self.ring, open_ring_packet(&bytes)) {
                    let mut effects = Vec::new();
                    ring.receive(member, packet, &mut effects);
                    self.obey(effects, out);
                }
            }
            Packet::Relink => self.relink(from, out),
            Packet::Step { feed, number, operation } => self.step(now, feed, number, &operation, out),
            Packet::Welcome { feed, after, sessions, handover } => {
                let Ok(handover) = Handover::decode(handover) else { return };
                if let Some(found) = self.feed.as_mut().filter(|found| found.id == feed) {
                    found.heard = now;
                    found.welcome = Some(Welcome { after, sessions, handover });
                    self.take_place(out);
                }
            }
            Packet::Stale { feed } => {
                if self.feed.as_ref().is_some_and(|found| found.id == feed) {
                    self.feed = None;
                    // Not at once: the views of the two are not the same yet.
                }
            }
            Packet::Missed { feed, runs } => {
                if self.has_old_copy() && self.feed.take_if(|found| found.id == feed).is_some() {
                    self.puts_back = true;
                    out.put_back = Some(PutBack { lineage: self.view.lineage, runs });
                }
            }
            Packet::Probe { number } => self.probed(now, from, number, out),
            Packet::Wants { feed, .. } => {
                // A seat that was never made a member of the ring, by a leader that is gone. This replica
                // cannot lead before the ring is whole, and the ring is not whole without that seat.
                if self.view.leader() == self.me && self.view.is_in_sync(from) && !breaks(Mutant::KeepEmptySeats) {
                    out.proposals.push((self.view.epoch, ViewChange::Evict(from)));
                }
                out.to_peers.push((from, Packet::Stale { feed }));
            }
            Packet::Has { .. } | Packet::Progress { .. } | Packet::Synchronize { .. } | Packet::Yield { .. } => {}
        }
    }

    /// The leader waits for this publication.
    fn probed(&mut self, now: Time, leader: NodeId, number: u64, out: &mut Effects) {
        let publisher = member_of(&self.view, leader).unwrap_or_default();
        let stored = if self.stored.0 == publisher.0 { self.stored.1 } else { 0 };
        out.to_peers.push((leader, Packet::Progress { number: stored }));
        let Some(ring) = self.ring.as_ref().filter(|_| now >= self.asks_left_after) else { return };
        self.asks_left_after = now + ASK_AGAIN;
        out.waits.push(format!("its leader waits for this node: {}", self.describe()));
        // What was lost on the way, though no link broke, would be waited for without an end. Where only the own disk
        // is late, nothing was.
        let received = ring.held().iter().any(|(of, received)| *of == publisher && *received >= number);
        if (stored >= number || !received) && !breaks(Mutant::WaitForWhatIsLost) {
            out.to_peers.extend(ask_left(ring));
        }
    }

    fn step(&mut self, now: Time, id: u64, number: u64, operation: &Bytes, out: &mut Effects) {
        if self.has_old_copy() {
            return;
        }
        let Some(feed) = self.feed.as_mut().filter(|feed| feed.id == id) else { return };
        feed.heard = now;
        let decoded = operation::decode(operation).filter(|_| number == feed.next || breaks(Mutant::IgnoreLostSteps));
        let Some((batch, sessions)) = decoded else {
            // A step is missing: everything is asked for anew.
            self.feed = None;
            self.seek_feed(now, out);
            return;
        };
        feed.next = number + 1;
        if breaks(Mutant::HasBeforeStored) {
            out.to_peers.push((feed.leader, Packet::Has { feed: id, number }));
        }
        self.patience = ASK_AGAIN;
        if number == 1 && !breaks(Mutant::KeepStaleSessions) {
            // What goes with this step is no more, and neither is what was known of its publishers.
            self.sessions.clear();
        }
        self.sessions.extend(sessions);
        out.store.push((batch, Report::Step { feed: id, number }));
    }

    /// Becomes a member of the ring, when it has its seat and all steps before it.
    fn take_place(&mut self, out: &mut Effects) {
        if self.ring.is_some() {
            return;
        }
        let Some(seat) = member_of(&self.view, self.me) else { return };
        let Some(feed) = &mut self.feed else { return };
        // Where the view here is older than the leader's, this may be another seat than the one meant.
        let is_complete = |welcome: &Welcome| feed.next > welcome.after && welcome.handover.seats(seat);
        let ready = feed.welcome.as_ref().is_some_and(is_complete);
        let Some(Welcome { after, sessions, handover }) = feed.welcome.take_if(|_| ready) else { return };
        if !handover.view().members.contains(&seat) {
            // It was meant for a seat that this replica has lost since, or will hear of.
            out.complaints.push("a mirror was welcomed to a seat that is not its own");
            self.feed = None;
            return;
        }
        self.sessions = sessions;
        self.seat = seat;
        let member = Member::join(seat, handover);
        self.handed = Some(Handed { feed: feed.id, leader: feed.leader, after, held: member.held() });
        let stored = feed.stored;
        self.feed = None;
        self.ring = Some(member);
        self.install(true, out);
        self.steps_stored(stored, out);
    }

    /// A batch is stored.
    pub fn stored(&mut self, report: Report, out: &mut Effects) {
        match report {
            Report::Ring { publisher, number } => {
                self.note_stored(publisher, number);
                if let Some(ring) = &mut self.ring {
                    let mut effects = Vec::new();
                    ring.stored(MemberId(publisher), number, &mut effects);
                    self.obey(effects, out);
                }
            }
            Report::Step { feed: id, number } => {
                if let Some(feed) = self.feed.as_mut().filter(|feed| feed.id == id) {
                    feed.stored = number;
                    out.to_peers.push((feed.leader, Packet::Has { feed: id, number }));
                } else if let Some(handed) = self.handed.as_ref().filter(|handed| handed.feed == id) {
                    out.to_peers.push((handed.leader, Packet::Has { feed: id, number }));
                    self.steps_stored(number, out);
                }
            }
        }
    }

    fn note_stored(&mut self, publisher: u64, number: u64) {
        if member_of(&self.view, self.view.leader()).is_some_and(|leader| leader.0 == publisher) {
            self.stored = (publisher, number);
        }
    }

    /// What the handover says is here is stored once the steps before it are.
    fn steps_stored(&mut self, number: u64, out: &mut Effects) {
        let is_due = |handed: &mut Handed| number >= handed.after || breaks(Mutant::HandoverIsStored);
        let Some(Handed { feed, leader, held, .. }) = self.handed.take_if(is_due) else { return };
        self.joined_by = Some((leader, feed));
        for (publisher, number) in held {
            if !breaks(Mutant::CountRingOnly) {
                self.note_stored(publisher.0, number);
            }
            let Some(ring) = &mut self.ring else { return };
            let mut effects = Vec::new();
            ring.stored(publisher, number, &mut effects);
            self.obey(effects, out);
        }
    }

    fn obey(&mut self, effects: Vec<Effect>, out: &mut Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => out.to_peers.push((node_of(to), ring_packet(self.seat, &packet))),
                Effect::Deliver { publisher, first, payloads } => {
                    for (number, payload) in (first..).zip(&payloads) {
                        let Some((batch, sessions)) = operation::decode(payload) else {
                            self.leave("a batch of the ring cannot be read", out);
                            return;
                        };
                        self.sessions.extend(sessions);
                        out.store.push((batch, Report::Ring { publisher: publisher.0, number }));
                    }
                }
                Effect::Stopped => self.ring = None,
                Effect::Diverged => self.leave("the ring of a queue has diverged at a mirror", out),
                Effect::Completed { .. } | Effect::Settled { .. } | Effect::Born(_) | Effect::Died(_) => {}
            }
        }
    }

    /// Something is wrong with what this mirror has: it gives its seat back and catches up.
    fn leave(&mut self, why: &'static str, out: &mut Effects) {
        out.complaints.push(why);
        out.proposals.push((self.view.epoch, ViewChange::Evict(self.me)));
        self.ring = None;
    }

    /// Time has passed: a feed that is silent is asked for again.
    pub fn tick(&mut self, now: Time, out: &mut Effects) {
        if let Some(feed) = &mut self.feed
            && self.ring.is_none()
            && now.since(feed.heard) >= self.patience
            && !breaks(Mutant::NeverAskAgain)
        {
            self.patience = (self.patience * 2).min(ASK_AGAIN_MAX);
            if feed.next == 1 {
                self.feed = None;
            } else {
                // Is the feed still there?
                feed.heard = now;
                out.to_peers.push((feed.leader, Packet::Has { feed: feed.id, number: feed.stored }));
            }
        }
        self.seek_feed(now, out);
        self.seek_solitude(now, out);
    }

    /// When to call [`Follower::tick`] if nothing happens before.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let needs = self.ring.is_none() && self.view.is_member(self.me) && self.view.is_running();
        needs.then(|| now + Duration::from_millis(500))
    }

    /// The number of the last feed, for a follower that comes after this one.
    #[must_use]
    pub fn feeds(&self) -> u64 {
        self.feeds
    }

    /// Bytes that the ring keeps for others.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| ring.pending_bytes() + ring.early_bytes())
    }

    /// The view that this replica acts by.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// What it waits for, for those who look for a fault.
    #[must_use]
    pub fn describe(&self) -> String {
        let ring = self.ring.as_ref().map(|ring| (ring.view().version, ring.held(), ring.early_bytes()));
        let (feed, handed, joined) = (&self.feed, &self.handed, &self.joined_by);
        format!("epoch {} ring {ring:?} feed {feed:?} handed {handed:?} joined {joined:?} surveying {:?}", self.view.epoch, self.surveying)
    }

    /// Whether it is a member of the ring.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.ring.is_some()
    }
}
