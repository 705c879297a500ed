//! The replica that leads: the ring's publisher, and the source of every feed.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use cluster::ring::{Effect, Member, MemberId};
use stdx::Time;
use store::{Batch, Seq};

use super::effects::{Effects, Report};
use super::feed::Feed;
use super::operation::{self, Sessions};
use super::packet::Packet;
use super::runs::Runs;
use super::{ask_left, member_of, node_of, open_ring_packet, right_on, ring_packet, ring_view};
use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::mutant::{Mutant, breaks};

/// Feeds and overdue batches are looked at so often.
const TICK: Duration = Duration::from_millis(200);
/// Mirrors that are late are asked so often how far they are.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A queue that has written something within this time is in use.
const IN_USE: Duration = Duration::from_secs(1);

/// How mirrors of a queue are treated; from policies and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Care {
    /// Mirrors get the backlog without being told to (`ha-sync-mode: automatic`).
    pub automatic: bool,
    /// Messages in one part of the backlog (`ha-sync-batch-size`).
    pub batch_messages: usize,
    /// A mirror that has not stored a batch for so long loses its seat.
    pub patience: Duration,
    /// Bytes of the backlog that one mirror gets in a second, at most (`mirroring_sync_max_throughput`).
    pub backlog_per_second: Option<NonZeroU64>,
    /// What the leader has stored is reported before mirrors have it (`ha-ack-mode: async`): it is lost with
    /// the leader.
    pub reports_alone: bool,
}

impl Default for Care {
    fn default() -> Care {
        Care {
            automatic: false,
            batch_messages: 4096,
            patience: Duration::from_secs(10),
            backlog_per_second: None,
            reports_alone: false,
        }
    }
}

/// What one mirror still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub node: NodeId,
    /// `None` while that is not known.
    pub messages_left: Option<u64>,
    pub messages_sent: u64,
    /// `full`, `incremental` or `event`.
    pub strategy: &'static str,
    pub active: bool,
}

/// A publication that is not complete.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u64,
    since: Time,
    /// The first message in it.
    first: Option<Seq>,
}

/// The oldest publication is overdue, and mirrors are asked whether they have stored it.
#[derive(Debug)]
struct Probe {
    number: u64,
    since: Time,
    asked: Time,
    /// What they have stored.
    answers: BTreeMap<NodeId, u64>,
    /// When a seat was to go for the last time. Who was behind it gets as long as it did.
    evicted: Option<Time>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Leader {
    queue: QueueId,
    me: NodeId,
    seat: MemberId,
    view: View,
    ring: Member,
    care: Care,
    sessions: Sessions,
    /// Publications with the queue's tickets, in order.
    tickets: VecDeque<(u64, u64)>,
    /// Publications that are not complete, in order.
    pending: VecDeque<Pending>,
    /// What the ring has completed.
    ring_completed: u64,
    completed: u64,
    /// What this node has stored.
    stored: u64,
    feeds: BTreeMap<NodeId, Feed>,
    /// What the store held when this node began to lead. An old copy need not put back what has gone since.
    began_with: Vec<(u8, Runs)>,
    /// Old copies whose nodes have said what they hold, by node, with the attempt.
    old_copies: BTreeMap<NodeId, (u64, Vec<(u8, Runs)>)>,
    /// Mirrors are asked how far they are.
    probe: Option<Probe>,
    /// When the queue has written something.
    written_at: Option<Time>,
    /// This node is out of the view, or the ring has ended for it.
    deposed: bool,
}

impl Leader {
    /// Leads a queue whose ring begins with this view.
    ///
    /// # Panics
    /// When `me` does not lead the view.
    #[must_use]
    pub fn found(queue: QueueId, me: NodeId, view: &View, sessions: Sessions, care: Care) -> Leader {
        let seat = member_of(view, me).expect("who leads has a seat");
        Leader::with(queue, me, view, Member::new(seat, ring_view(view)), sessions, care)
    }

    /// Takes over a ring in which this node was a mirror.
    ///
    /// # Panics
    /// When `me` has no seat in the view.
    #[must_use]
    pub fn succeed(queue: QueueId, me: NodeId, view: &View, ring: Member, sessions: Sessions, care: Care) -> Leader {
        Leader::with(queue, me, view, ring, sessions, care)
    }

    fn with(queue: QueueId, me: NodeId, view: &View, ring: Member, sessions: Sessions, care: Care) -> Leader {
        let seat = member_of(view, me).expect("who leads has a seat");
        Leader {
            queue,
            me,
            seat,
            view: view.clone(),
            ring_completed: ring.completed(),
            completed: ring.completed(),
            stored: ring.completed(),
            ring,
            care,
            sessions,
            tickets: VecDeque::new(),
            pending: VecDeque::new(),
            feeds: BTreeMap::new(),
            began_with: Vec::new(),
            old_copies: BTreeMap::new(),
            probe: None,
            written_at: None,
            deposed: false,
        }
    }

    /// Begins: what the left neighbour sent before there was anybody to hear it is sent again.
    pub fn begin(&self, out: &mut Effects) {
        out.to_peers.extend(ask_left(&self.ring));
        if !self.view.old.is_empty() {
            out.survey.push((self.me, 0));
        }
    }

    /// Whether this node leads no longer, as far as the ring knows.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.deposed
    }

    /// Whether everything written is complete.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty()
    }

    /// The first message that some copy in sync may lack.
    #[must_use]
    pub fn first_incomplete(&self) -> Option<Seq> {
        self.pending.iter().find_map(|publication| publication.first)
    }

    /// The nodes that may lead after this one: those in sync, and those of whose seats nobody here knows whether
    /// they have them by now. This node serves with leases of them all.
    pub fn possible_successors(&self) -> impl Iterator<Item = NodeId> {
        let proposed = self.feeds.iter().filter(|(_, feed)| feed.is_proposed());
        self.view.mirrors().chain(proposed.map(|(node, _)| *node))
    }

    /// Gives the ring and the sessions to a follower on the same node.
    #[must_use]
    pub fn step_down(self) -> (Option<Member>, Sessions) {
        ((!self.deposed).then_some(self.ring), self.sessions)
    }

    pub fn set_care(&mut self, care: Care) {
        if care.automatic && !self.care.automatic {
            for feed in self.feeds.values_mut() {
                feed.sends_backlog = true;
            }
        }
        for feed in self.feeds.values_mut() {
            feed.set_care(care);
        }
        self.care = care;
    }

    /// A batch that the queue wrote, with the sessions it changed. Answers the report that must come
    /// back when this node has stored it.
    pub fn write(&mut self, now: Time, batch: &Batch, touched: Sessions, ticket: Option<u64>, out: &mut Effects) -> Report {
        let operation = operation::encode(batch.as_bytes(), &touched);
        self.sessions.extend(touched);
        self.written_at = Some(now);
        let mut effects = Vec::new();
        let number = self.ring.broadcast(operation.clone(), &mut effects);
        self.pending.push_back(Pending { number, since: now, first: batch.first() });
        if let Some(ticket) = ticket {
            self.tickets.push_back((number, ticket));
        }
        if !self.feeds.is_empty() {
            let mut removed: Vec<(u8, Seq, Seq)> = Vec::new();
            operation::removals(batch, |level, first, last| removed.push((level, first, last)));
            self.feeds.retain(|_, feed| feed.batch(&operation, number, &removed, out) || feed.joining);
        }
        self.obey(effects, out);
        Report::Ring { publisher: self.seat.0, number }
    }

    /// A batch is stored here.
    pub fn stored(&mut self, report: Report, out: &mut Effects) {
        if let Report::Ring { publisher, number } = report
            && !self.deposed
        {
            if breaks(Mutant::CompleteAlone) {
                self.ring_completed = self.ring_completed.max(number);
            }
            if publisher == self.seat.0 {
                self.stored = self.stored.max(number);
            }
            let mut effects = Vec::new();
            self.ring.stored(MemberId(publisher), number, &mut effects);
            self.obey(effects, out);
        }
    }

    /// The metadata has a later view. The caller sees to it that this node still leads.
    pub fn view_changed(&mut self, view: &View, out: &mut Effects) {
        if view.epoch <= self.view.epoch {
            return;
        }
        self.view = view.clone();
        let mut effects = Vec::new();
        self.ring.install(ring_view(view), &mut effects);
        self.obey(effects, out);
        if self.ring.is_unheard() && !breaks(Mutant::AskOneNeighbour) {
            out.to_peers.extend(ask_left(&self.ring));
        }
        let seated: Vec<NodeId> = view.seats.iter().map(|seat| seat.node).collect();
        // Who has lost its seat begins anew, and nothing waits for it.
        let catches_up = |node: &NodeId, feed: &Feed| view.catching_up.contains(node) && !feed.welcomed;
        self.feeds.retain(|node, feed| seated.contains(node) || catches_up(node, feed));
        for (node, feed) in &mut self.feeds {
            if !seated.contains(node) {
                // What was proposed for an earlier view cannot happen any more.
                feed.wait_no_more();
            }
        }
        for node in seated {
            if let Some(feed) = self.feeds.get_mut(&node) {
                // Nothing completes before it has all.
                feed.sends_backlog = true;
                if feed.joining {
                    self.welcome(node, out);
                }
            }
        }
        self.complete(out);
    }

    /// A mirror has its seat: it gets what makes it a member of the ring.
    fn welcome(&mut self, node: NodeId, out: &mut Effects) {
        let Some(feed) = self.feeds.get_mut(&node) else { return };
        if feed.welcomed || feed.messages_left() != Some(0) {
            return;
        }
        feed.welcomed = true;
        feed.joining = true;
        let mut handover = Vec::new();
        self.ring.handover().encode(&mut handover);
        let packet = Packet::Welcome {
            feed: feed.id,
            after: feed.last(),
            sessions: if breaks(Mutant::WelcomeWithoutSessions) { Sessions::new() } else { self.sessions.clone() },
            handover: handover.into(),
        };
        out.to_peers.push((node, packet));
    }

    /// The link to a node is there again.
    pub fn reconnected(&mut self, node: NodeId, out: &mut Effects) {
        // What was on its way to a mirror that catches up may be lost: it asks again.
        if self.feeds.get(&node).is_some_and(|feed| !feed.joining) {
            self.feeds.remove(&node);
        }
        self.relink(node, out);
        // Its left neighbour may have been asked before it could be reached.
        if self.ring.is_unheard() {
            out.to_peers.extend(ask_left(&self.ring).filter(|(left, _)| *left == node));
        }
    }

    fn relink(&mut self, node: NodeId, out: &mut Effects) {
        if let Some(member) = right_on(&self.ring, &self.view, node).filter(|_| !breaks(Mutant::NoRelinkAfterLoss)) {
            let mut effects = Vec::new();
            self.ring.reconnected(member, &mut effects);
            self.obey(effects, out);
        }
    }

    /// A packet from the replica on another node.
    pub fn receive(&mut self, now: Time, from: NodeId, packet: Packet, out: &mut Effects) {
        match packet {
            Packet::Ring(bytes) => {
                if let Some((member, packet)) = open_ring_packet(&bytes) {
                    let mut effects = Vec::new();
                    self.ring.receive(member, packet, &mut effects);
                    self.obey(effects, out);
                }
            }
            Packet::Relink => self.relink(from, out),
            Packet::Wants { feed, holds, .. } => self.wants(from, feed, holds, out),
            Packet::Has { feed, number } => match self.feeds.get_mut(&from).filter(|found| found.id == feed) {
                Some(found) => {
                    found.stored(number);
                    self.tick(now, out);
                }
                None => out.to_peers.push((from, Packet::Stale { feed })),
            },
            Packet::Progress { number } => {
                if let Some(probe) = &mut self.probe {
                    probe.answers.insert(from, number);
                }
            }
            Packet::Step { .. }
            | Packet::Welcome { .. }
            | Packet::Stale { .. }
            | Packet::Missed { .. }
            | Packet::Probe { .. }
            | Packet::Synchronize { .. }
            | Packet::Yield { .. } => {}
        }
    }

    fn wants(&mut self, from: NodeId, id: u64, holds: Vec<(u8, Runs)>, out: &mut Effects) {
        // A seat without a place in the ring yet is fed as well: it lost its feed, or its leader.
        let known = self.view.catching_up.contains(&from) || self.view.is_in_sync(from);
        if !known {
            out.to_peers.push((from, Packet::Stale { feed: id }));
            return;
        }
        if self.view.old.contains(&from) {
            self.old_copies.insert(from, (id, holds));
            out.survey.push((from, id));
            return;
        }
        let care = self.care;
        let mut feed = Feed::new(
            self.queue,
            from,
            id,
            holds,
            self.sessions.clone(),
            self.last_publication(),
            care,
        );
        if let Some(before) = self.feeds.get(&from).filter(|_| !breaks(Mutant::ForgetProposal)) {
            feed.follow_on(before);
        }
        feed.sends_backlog |= self.view.is_in_sync(from);
        self.feeds.insert(from, feed);
        out.survey.push((from, id));
    }

    fn last_publication(&self) -> u64 {
        self.pending.back().map_or(self.ring_completed, |last| last.number)
    }

    /// What the store held when the feed of this node began, and the note of the queue's deliveries.
    pub fn surveyed(
        &mut self,
        now: Time,
        node: NodeId,
        id: u64,
        live: Vec<(u8, Runs)>,
        note: Option<(Seq, Bytes)>,
        out: &mut Effects,
    ) {
        if node == self.me {
            self.began_with = live;
            return;
        }
        if self.old_copies.get(&node).is_some_and(|(found, _)| *found == id)
            && let Some((feed, holds)) = self.old_copies.remove(&node)
        {
            let runs = self.missed(&holds, &live);
            out.to_peers.push((node, Packet::Missed { feed, runs }));
            return;
        }
        let late = breaks(Mutant::SessionsAheadOfData).then(|| self.sessions.clone());
        if let Some(feed) = self.feeds.get_mut(&node).filter(|feed| feed.id == id) {
            feed.surveyed(live, note, late, out);
        }
        self.tick(now, out);
    }

    /// What of these this lineage never had, as far as is known here.
    fn missed(&self, holds: &[(u8, Runs)], live: &[(u8, Runs)]) -> Vec<(u8, Runs)> {
        let missed = holds.iter().map(|(level, held)| {
            let had = live.iter().chain(&self.began_with).filter(|(l, _)| l == level);
            (*level, had.fold(held.clone(), |left, (_, runs)| left.without(runs)))
        });
        missed.filter(|(_, runs)| !runs.is_empty()).collect()
    }

    /// Part of the backlog for the feed of this node.
    pub fn loaded(&mut self, now: Time, node: NodeId, id: u64, level: u8, messages: &[(Seq, Bytes)], out: &mut Effects) {
        if let Some(feed) = self.feeds.get_mut(&node).filter(|feed| feed.id == id) {
            feed.loaded(now, level, messages, out);
        }
        self.tick(now, out);
    }

    /// A proposal that this replica made when it had the view of this epoch was refused. With a later view
    /// that is no news, and what is proposed by then may still happen.
    pub fn refused(&mut self, now: Time, epoch: u64, change: ViewChange) {
        if let ViewChange::InSync(node) = change
            && (epoch == self.view.epoch || breaks(Mutant::HeedLateRefusals))
            && let Some(feed) = self.feeds.get_mut(&node)
        {
            feed.refused(now);
        }
    }

    /// Takes back the seats that are proposed in `out`, to be proposed again later. A leader that still waits for
    /// one before it gives none: who has a seat may lead next, and would not know whom to wait for.
    pub fn take_back_seats(&mut self, now: Time, out: &mut Effects) {
        let Effects { proposals, .. } = out;
        for (epoch, change) in proposals.extract_if(.., |(_, change)| matches!(change, ViewChange::InSync(_))) {
            self.refused(now, epoch, change);
        }
    }

    /// Starts or stops sending the backlog to mirrors that lack it. Whether there was one to start with, or to stop.
    pub fn synchronize(&mut self, now: Time, start: bool, out: &mut Effects) -> bool {
        let mut some = false;
        for (node, feed) in &mut self.feeds {
            some |= (start || feed.sends_backlog) && feed.messages_left().is_none_or(|left| left > 0);
            // Who has a seat is waited for, and gets what it lacks in any case.
            feed.sends_backlog = start || self.view.is_in_sync(*node);
        }
        self.tick(now, out);
        some
    }

    /// Time has passed, or something has changed that feeds wait for.
    pub fn tick(&mut self, now: Time, out: &mut Effects) {
        let (completed, epoch) = (self.completed, self.view.epoch);
        let in_use = self.written_at.is_some_and(|at| now.since(at) < IN_USE);
        let seated: Vec<NodeId> = self.view.mirrors().collect();
        let mut ready = Vec::new();
        for (node, feed) in &mut self.feeds {
            feed.completed(completed, out);
            if seated.contains(node) {
                // It has a seat already and comes back to its place when nothing is missing.
                feed.pump(now, epoch, u64::MAX, in_use, out);
                if feed.messages_left() == Some(0) && !feed.welcomed {
                    ready.push(*node);
                }
            } else {
                feed.pump(now, epoch, completed, in_use, out);
            }
        }
        for node in ready {
            self.welcome(node, out);
        }
        self.complete(out);
        self.feeds.retain(|_, feed| !feed.is_done());
        self.look_for_slow(now, out);
    }

    /// When to call [`Leader::tick`] if nothing happens before.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let overdue = self.pending.front().map(|oldest| (oldest.since + self.care.patience / 2).max(now + TICK));
        let feeds = self.feeds.values().map(|feed| {
            let rested = feed.rests_until().filter(|at| *at > now);
            rested.map_or(now + TICK, |at| at.min(now + TICK))
        });
        overdue.into_iter().chain(feeds).min()
    }

    /// A batch is overdue: whoever has not stored it is asked, and goes if it does not say otherwise. One goes at a
    /// time, the first of the ring that lacks it: those behind may lack it for its sake only.
    fn look_for_slow(&mut self, now: Time, out: &mut Effects) {
        let half = self.care.patience / 2;
        let overdue = self.pending.front().copied().filter(|oldest| now.since(oldest.since) >= half);
        let Some(Pending { number: oldest, .. }) = overdue else {
            self.probe = None;
            return;
        };
        if oldest <= self.ring_completed {
            // A mirror that was about to join has stopped: it joins later.
            let given_up = |feed: &&mut Feed| !feed.is_proposed() || breaks(Mutant::GiveUpProposed);
            self.feeds.values_mut().filter(given_up).for_each(Feed::wait_no_more);
            self.complete(out);
        }
        let Some(Pending { number: oldest, .. }) = self.pending.front().copied() else {
            self.probe = None;
            return;
        };
        let is_new = self.probe.as_ref().is_none_or(|probe| probe.number != oldest);
        if is_new {
            let what = if oldest <= self.ring_completed { "a mirror that comes" } else { "mirrors to store what it wrote" };
            if self.probe.is_none() {
                out.waits.push(format!("it waits for {what}: {}", self.describe()));
            }
            self.probe = Some(Probe { number: oldest, since: now, asked: now, answers: BTreeMap::new(), evicted: None });
            // What was lost on the way, though no link broke, would be waited for without an end.
            out.to_peers.extend(ask_left(&self.ring));
        }
        let Some(probe) = &mut self.probe else { return };
        if oldest <= self.ring_completed {
            return;
        }
        if is_new || now.since(probe.asked) >= ASK_AGAIN {
            probe.asked = now;
            out.to_peers.extend(self.view.mirrors().map(|node| (node, Packet::Probe { number: oldest })));
        }
        if now.since(probe.since) < half {
            return;
        }
        let lacks = |node: &NodeId| probe.answers.get(node).is_none_or(|has| *has < oldest);
        match self.view.mirrors().find(lacks) {
            Some(node) if probe.evicted.is_none_or(|at| now.since(at) >= half) => {
                probe.evicted = Some(now);
                out.waits.push(format!("{node} has not stored what this node wrote: its copy counts as out of sync"));
                out.proposals.push((self.view.epoch, ViewChange::Evict(node)));
            }
            // All have it, and nobody says so: the ring stands still, and is made anew without the first.
            None if now.since(probe.evicted.unwrap_or(probe.since)) >= self.care.patience => {
                probe.evicted = Some(now);
                out.waits.push(format!("what all mirrors have stored does not become complete: {}", self.describe()));
                out.proposals.extend(self.view.mirrors().next().map(|node| (self.view.epoch, ViewChange::Evict(node))));
            }
            _ => {}
        }
    }

    fn obey(&mut self, effects: Vec<Effect>, out: &mut Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, packet } => out.to_peers.push((node_of(to), ring_packet(self.seat, &packet))),
                Effect::Completed { up_to } => self.ring_completed = up_to,
                Effect::Stopped => self.deposed = true,
                Effect::Diverged => {
                    self.deposed = true;
                    out.complaints.push("the ring of a queue has diverged at its leader");
                }
                // What a former leader left is stored with the rest; nobody else publishes.
                Effect::Deliver { publisher, first, payloads } => {
                    let numbers = (first..).zip(&payloads);
                    for (number, payload) in numbers {
                        if let Some((batch, sessions)) = operation::decode(payload) {
                            self.sessions.extend(sessions);
                            out.store.push((batch, Report::Ring { publisher: publisher.0, number }));
                        }
                    }
                    out.complaints.push("a queue's leader was sent a batch by another");
                }
                Effect::Settled { .. } | Effect::Born(_) | Effect::Died(_) => {}
            }
        }
        self.complete(out);
    }

    /// Completes what every seat has stored, and every mirror that may have a seat.
    fn complete(&mut self, out: &mut Effects) {
        let joining = self.feeds.values().filter(|feed| feed.joining && !breaks(Mutant::CompleteWithoutJoining)).map(|feed| feed.has().unwrap_or(0));
        let completed = joining.fold(self.ring_completed, u64::min).max(self.completed);
        if self.deposed {
            return;
        }
        self.completed = completed;
        while self.pending.front().is_some_and(|oldest| oldest.number <= completed) {
            self.pending.pop_front();
        }
        let reported = if self.care.reports_alone { completed.max(self.stored) } else { completed };
        while let Some((_, ticket)) = self.tickets.front().copied().filter(|(number, _)| *number <= reported) {
            out.complete = Some(ticket);
            self.tickets.pop_front();
        }
    }

    /// What mirrors that catch up still lack.
    pub fn progress(&self) -> impl Iterator<Item = Progress> + '_ {
        self.feeds.iter().map(|(node, feed)| Progress {
            node: *node,
            messages_left: feed.messages_left(),
            messages_sent: feed.messages_sent,
            strategy: match (feed.sends_backlog, feed.held_something) {
                (false, _) => "event",
                (true, true) => "incremental",
                (true, false) => "full",
            },
            active: feed.sends_backlog && feed.messages_left().is_none_or(|left| left > 0),
        })
    }

    /// Bytes that the ring keeps for others.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.ring.pending_bytes() + self.ring.early_bytes()
    }

    /// The view that this replica acts by.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What it waits for, for those who look for a fault.
    #[must_use]
    pub fn describe(&self) -> String {
        let ring = (self.ring.view(), self.ring.held(), self.ring.is_unheard(), self.ring.early_bytes());
        let done = (self.stored, self.ring_completed, self.completed, self.deposed);
        let (oldest, count) = (self.pending.front(), self.pending.len());
        format!("epoch {} ring {ring:?} done {done:?} pending {count} from {oldest:?} feeds {:?}", self.view.epoch, self.feeds)
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.me
    }
}
