//! Replicas of one queue in a small world: links that are slow and break, nodes that die and come back,
//! views that change by compare-and-set, stores that sync late. Everything comes from a seed.
//!
//! Checked after every event: what was completed is stored by every seat of the newest view that has
//! installed it, and by whoever leads; at the end, when nothing more is broken, everything completes and
//! all copies are equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::{Rng, Time};
use store::{Batch, Seq};

use super::operation::Sessions;
use super::*;
use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::queue::level_key;

const QUEUE: QueueId = QueueId(7);
const NODES: u64 = 3;

enum Role {
    Leads(Box<Leader>),
    Follows(Box<Follower>),
    Nothing,
}

/// One node: its replica, and what its store holds.
struct Node {
    up: bool,
    role: Role,
    /// How many views of the log it has seen.
    seen: usize,
    live: BTreeSet<u64>,
    /// Appended and not synced, with the report that is due. The set has it at once, as a store does.
    unsynced: VecDeque<Report>,
    feeds: u64,
}

struct World {
    rng: Rng,
    now: Time,
    nodes: BTreeMap<NodeId, Node>,
    views: Vec<View>,
    links: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    proposals: VecDeque<(NodeId, u64, ViewChange)>,
    surveys: VecDeque<(NodeId, NodeId, u64, Vec<u64>)>,
    loads: VecDeque<(NodeId, NodeId, u64, Seq)>,
    next: u64,
    ticket: u64,
    /// What each ticket wrote, until it is complete.
    written: BTreeMap<u64, Vec<u64>>,
    /// Complete and not removed.
    complete: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    trace: Vec<String>,
}

fn id(number: u64) -> NodeId {
    NodeId(number)
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let first = if rng.one_in(2) { vec![id(1), id(2), id(3)] } else { vec![id(1)] };
        let view = View::new(first, true);
        let node = || Node { up: true, role: Role::Nothing, seen: 0, live: BTreeSet::new(), unsynced: VecDeque::new(), feeds: 1 };
        let mut world = World {
            rng,
            now: Time::START,
            nodes: (1..=NODES).map(|n| (id(n), node())).collect(),
            views: vec![view],
            links: BTreeMap::new(),
            proposals: VecDeque::new(),
            surveys: VecDeque::new(),
            loads: VecDeque::new(),
            next: 1,
            ticket: 0,
            written: BTreeMap::new(),
            complete: BTreeSet::new(),
            removed: BTreeSet::new(),
            trace: Vec::new(),
        };
        for node in 1..=NODES {
            world.see_views(id(node), true);
        }
        world
    }

    fn view(&self) -> &View {
        self.views.last().expect("there is a first view")
    }

    /// The node installs what it has not seen of the log of views.
    fn see_views(&mut self, node: NodeId, is_new: bool) {
        let newest = self.view().clone();
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&node) else { return };
        state.seen = self.views.len();
        let mut out = Effects::default();
        let role = std::mem::replace(&mut state.role, Role::Nothing);
        let leads = newest.leader() == node;
        state.role = match role {
            // Who led before somebody else did takes over like everybody else.
            Role::Leads(mut leader) if leads && leader.view().led_since == newest.led_since => {
                leader.view_changed(&newest, &mut out);
                Role::Leads(leader)
            }
            Role::Leads(leader) => {
                let (ring, sessions) = leader.step_down();
                state.feeds += 1_000_000;
                if newest.is_member(node) {
                    let follower =
                        Follower::after_leading(now, QUEUE, node, &newest, ring, sessions, state.feeds, &mut out);
                    Role::Follows(Box::new(follower))
                } else {
                    Role::Nothing
                }
            }
            Role::Follows(mut follower) if newest.is_member(node) => {
                follower.view_changed(now, &newest, &mut out);
                Role::Follows(follower)
            }
            Role::Follows(_) => Role::Nothing,
            Role::Nothing if leads && is_new && newest.seats.len() == 1 => {
                Role::Leads(Box::new(Leader::found(QUEUE, node, &newest, Sessions::new(), Care { automatic: true, ..Care::default() })))
            }
            Role::Nothing if leads && is_new => {
                Role::Leads(Box::new(Leader::found(QUEUE, node, &newest, Sessions::new(), Care { automatic: true, ..Care::default() })))
            }
            Role::Nothing if newest.is_member(node) => {
                state.feeds += 1_000_000;
                Role::Follows(Box::new(Follower::new(now, QUEUE, node, &newest, is_new, state.feeds, &mut out)))
            }
            Role::Nothing => Role::Nothing,
        };
        self.obey(node, out);
        self.maybe_lead(node);
    }

    fn maybe_lead(&mut self, node: NodeId) {
        let newest = self.view().clone();
        let Some(state) = self.nodes.get_mut(&node) else { return };
        let Role::Follows(follower) = &state.role else { return };
        if !follower.can_lead() || newest.leader() != node || follower.view().epoch != newest.epoch {
            return;
        }
        let Role::Follows(follower) = std::mem::replace(&mut state.role, Role::Nothing) else { return };
        let view = follower.view().clone();
        let (ring, sessions) = follower.take_over();
        let care = Care { automatic: true, ..Care::default() };
        let leader = match ring {
            Some(ring) => Leader::succeed(QUEUE, node, &view, ring, sessions, care),
            None => Leader::found(QUEUE, node, &newest, sessions, care),
        };
        let mut out = Effects::default();
        leader.begin(&mut out);
        state.role = Role::Leads(Box::new(leader));
        self.obey(node, out);
        // A new leader gives sequences of its own.
        self.next = self.next.max(newest.led_since << 40);
        self.written.clear();
        let holds = self.nodes[&node].live.clone();
        for seq in &self.complete {
            assert!(holds.contains(seq), "{node} leads without {seq}\n{}", self.trace.join("\n"));
        }
    }

    fn obey(&mut self, node: NodeId, out: Effects) {
        let epoch = match &self.nodes[&node].role {
            Role::Leads(leader) => leader.view().epoch,
            Role::Follows(follower) => follower.view().epoch,
            Role::Nothing => 0,
        };
        for (batch, report) in out.store {
            self.append(node, &batch, report);
        }
        for (to, packet) in out.to_peers {
            if self.rng.one_in(400) {
                self.break_link(node, to);
            }
            self.links.entry((node, to)).or_default().push_back(packet);
        }
        for (from, feed) in out.survey {
            let held = self.nodes[&node].live.iter().copied().collect();
            self.surveys.push_back((node, from, feed, held));
        }
        for (from, feed, load) in out.loads {
            self.loads.push_back((node, from, feed, load.from));
        }
        for change in &out.proposals {
            self.trace.push(format!("{node} proposes {change:?} at {epoch}"));
        }
        self.proposals.extend(out.proposals.into_iter().map(|change| (node, epoch, change)));
        assert!(out.complaints.is_empty(), "{:?}\n{}", out.complaints, self.trace.join("\n"));
        if let Some(ticket) = out.complete {
            self.trace.push(format!("{node} completes {ticket} at {epoch}"));
            let later = self.written.split_off(&(ticket + 1));
            let done = std::mem::replace(&mut self.written, later);
            let done = done.into_values().flatten().filter(|seq| !self.removed.contains(seq));
            self.complete.extend(done);
            self.check();
        }
    }

    fn append(&mut self, node: NodeId, batch: &Batch, report: Report) {
        let state = self.nodes.get_mut(&node).expect("it is a node");
        batch.removals(|_, first, last| {
            let gone: Vec<u64> = state.live.range(first.0..=last.0).copied().collect();
            for seq in gone {
                state.live.remove(&seq);
            }
        });
        for seq in sequences(batch) {
            state.live.insert(seq);
        }
        state.unsynced.push_back(report);
    }

    fn break_link(&mut self, a: NodeId, b: NodeId) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
        for (one, other) in [(a, b), (b, a)] {
            let now = self.now;
            let Some(state) = self.nodes.get_mut(&one).filter(|state| state.up) else { continue };
            let mut out = Effects::default();
            match &mut state.role {
                Role::Leads(leader) => leader.reconnected(other, &mut out),
                Role::Follows(follower) => follower.reconnected(now, other, &mut out),
                Role::Nothing => {}
            }
            self.obey(one, out);
        }
    }

    /// Every seat that knows the newest view has what is complete.
    fn check(&self) {
        let view = self.view();
        for seat in &view.seats {
            let state = &self.nodes[&seat.node];
            let missing: Vec<_> = self.complete.iter().filter(|seq| !state.live.contains(seq)).collect();
            assert!(missing.is_empty(), "seat {} lacks {missing:?} in {view:?}\n{}", seat.node, self.trace.join("\n"));
        }
    }

    fn write(&mut self) {
        let newest = self.view().clone();
        let leader = newest.leader();
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&leader).filter(|state| state.up) else { return };
        let Role::Leads(replica) = &mut state.role else { return };
        if replica.view().led_since != newest.led_since {
            // It has handed over, and stands still until it hears what came of that.
            return;
        }
        let mut batch = Batch::new();
        let key = level_key(QUEUE, 0);
        let mut fresh = Vec::new();
        for _ in 0..self.rng.below(3) {
            batch.enqueue(key, Seq(self.next), &[b"payload"]);
            fresh.push(self.next);
            self.next += 1;
        }
        if self.rng.one_in(2) {
            let first = self.complete.iter().next().copied();
            if let Some(seq) = first {
                batch.remove(key, &[(Seq(seq), Seq(seq))]);
                self.complete.remove(&seq);
                self.removed.insert(seq);
            }
        }
        self.ticket += 1;
        self.written.insert(self.ticket, fresh);
        let mut out = Effects::default();
        let report = replica.write(now, &batch, Sessions::new(), Some(self.ticket), &mut out);
        self.append(leader, &batch, report);
        self.obey(leader, out);
    }

    fn propose(&mut self) {
        let Some((from, epoch, change)) = self.proposals.pop_front() else { return };
        let up: BTreeSet<NodeId> = self.nodes.iter().filter(|(_, n)| n.up).map(|(id, _)| *id).collect();
        if self.view().epoch == epoch
            && let Ok(next) = self.view().after(change, |node| up.contains(&node))
        {
            self.trace.push(format!("view {} by {change:?}: {:?} + {:?}", next.epoch, next.seats, next.catching_up));
            self.views.push(next);
        } else if let Role::Leads(leader) = &mut self.nodes.get_mut(&from).expect("it is a node").role {
            leader.refused(self.now, change);
        }
    }

    fn kill(&mut self, node: NodeId) {
        let up = self.nodes.values().filter(|state| state.up).count();
        if up < 2 || !self.nodes[&node].up {
            return;
        }
        self.trace.push(format!("{node} dies"));
        let state = self.nodes.get_mut(&node).expect("it is a node");
        state.up = false;
        state.role = Role::Nothing;
        // What was not synced may be lost; here it stays, which a follower must bear as well.
        state.unsynced.clear();
        self.links.retain(|(a, b), _| *a != node && *b != node);
        self.surveys.retain(|(at, ..)| *at != node);
        self.loads.retain(|(at, ..)| *at != node);
        if let Some(next) = self.view().after_loss(node) {
            self.trace.push(format!("view {} without {node}: {:?} + {:?}", next.epoch, next.seats, next.catching_up));
            self.views.push(next);
        }
    }

    fn start(&mut self, node: NodeId) {
        if self.nodes[&node].up {
            return;
        }
        self.trace.push(format!("{node} starts"));
        self.nodes.get_mut(&node).expect("it is a node").up = true;
        let mut next = self.view().clone();
        if !next.is_running() {
            next = next.after_return(node, |_| true).unwrap_or(next);
        }
        if next.epoch > self.view().epoch {
            self.views.push(next);
        }
        self.want_mirror(node);
        self.see_views(node, false);
    }

    fn want_mirror(&mut self, node: NodeId) {
        if !self.view().is_member(node) && self.nodes[&node].up {
            let epoch = self.view().epoch;
            self.proposals.push_back((node, epoch, ViewChange::AddMirror(node)));
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId) {
        let Some(packet) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&to).filter(|state| state.up) else { return };
        let mut out = Effects::default();
        match &mut state.role {
            Role::Leads(leader) => leader.receive(now, from, packet, &mut out),
            Role::Follows(follower) => follower.receive(now, from, packet, &mut out),
            Role::Nothing => {
                if let Packet::Wants { feed, .. } = packet {
                    out.to_peers.push((from, Packet::Stale { feed }));
                }
            }
        }
        self.obey(to, out);
        self.maybe_lead(to);
    }

    fn sync(&mut self, node: NodeId) {
        let reports: Vec<Report> = self.nodes.get_mut(&node).map(|state| state.unsynced.drain(..).collect()).unwrap_or_default();
        for report in reports {
            let mut out = Effects::default();
            match &mut self.nodes.get_mut(&node).expect("it is a node").role {
                Role::Leads(leader) => leader.stored(report, &mut out),
                Role::Follows(follower) => follower.stored(report, &mut out),
                Role::Nothing => {}
            }
            self.obey(node, out);
        }
    }

    fn answer(&mut self) {
        let now = self.now;
        if let Some((node, from, feed, held)) = self.surveys.pop_front() {
            let runs = vec![(0, Runs::new(held.into_iter().map(|seq| (Seq(seq), Seq(seq)))))];
            let mut out = Effects::default();
            match &mut self.nodes.get_mut(&node).expect("it is a node").role {
                Role::Leads(leader) => leader.surveyed(now, from, feed, runs, &mut out),
                Role::Follows(follower) => follower.surveyed(now, feed, runs, &mut out),
                Role::Nothing => {}
            }
            self.obey(node, out);
        }
        if let Some((node, from, feed, first)) = self.loads.pop_front() {
            let live = self.nodes[&node].live.range(first.0..).take(3).copied();
            let messages: Vec<(Seq, Bytes)> = live.map(|seq| (Seq(seq), Bytes::from_static(b"payload"))).collect();
            let mut out = Effects::default();
            if let Role::Leads(leader) = &mut self.nodes.get_mut(&node).expect("it is a node").role {
                leader.loaded(now, from, feed, 0, &messages, &mut out);
            }
            self.obey(node, out);
        }
    }

    fn tick(&mut self, node: NodeId) {
        let now = self.now;
        let mut out = Effects::default();
        match &mut self.nodes.get_mut(&node).expect("it is a node").role {
            Role::Leads(leader) => leader.tick(now, &mut out),
            Role::Follows(follower) => follower.tick(now, &mut out),
            Role::Nothing => {}
        }
        self.obey(node, out);
        self.maybe_lead(node);
    }

    fn any_node(&mut self) -> NodeId {
        id(1 + self.rng.below(NODES))
    }

    fn step(&mut self, calm: bool) {
        self.now = self.now + std::time::Duration::from_millis(self.rng.below(20));
        let (a, b) = (self.any_node(), self.any_node());
        match self.rng.below(if calm { 34 } else { 40 }) {
            0..14 => self.deliver(a, b),
            14..18 => self.write_unless(calm),
            18..22 => self.sync(a),
            22..25 => self.answer(),
            25..28 => self.propose(),
            28..31 if self.nodes[&a].up => self.see_views(a, false),
            31..33 if self.nodes[&a].up => self.tick(a),
            33 => self.want_mirror(a),
            34 if self.rng.one_in(4) => self.kill(a),
            35 => self.start(a),
            36 if a != b && self.rng.one_in(4) => self.break_link(a, b),
            37 if self.rng.one_in(3) => {
                let epoch = self.view().epoch;
                if self.rng.one_in(2) {
                    self.proposals.push_back((a, epoch, ViewChange::Evict(a)));
                } else if self.is_at_rest() {
                    self.proposals.push_back((a, epoch, ViewChange::Transfer(a)));
                }
            }
            _ => {}
        }
    }

    /// A leader hands over only when all it wrote is complete, and writes nothing until it knows the
    /// outcome.
    fn is_at_rest(&self) -> bool {
        let leader = &self.nodes[&self.view().leader()];
        matches!(&leader.role, Role::Leads(leader) if leader.is_quiet() && leader.view().epoch == self.view().epoch)
    }

    fn write_unless(&mut self, calm: bool) {
        let handing_over = self.proposals.iter().any(|(_, _, change)| matches!(change, ViewChange::Transfer(_)));
        if !calm && !handing_over {
            self.write();
        }
    }
}

fn sequences(batch: &Batch) -> Vec<u64> {
    batch.messages().map(|(_, seq)| seq.0).collect()
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.step(false);
    }
    for node in 1..=NODES {
        world.start(id(node));
    }
    for _ in 0..20 {
        for _ in 0..1500 {
            world.step(true);
        }
        for node in 1..=NODES {
            world.see_views(id(node), false);
            world.tick(id(node));
        }
        if world.view().seats.len() == NODES as usize && world.written.is_empty() {
            break;
        }
    }
    let view = world.view().clone();
    let trace = world.trace.join("\n") + "\n" + &world.dump();
    assert_eq!(view.seats.len(), NODES as usize, "not all are in sync: {view:?}\n{trace}");
    assert!(world.written.is_empty(), "not all is complete: {:?} in {view:?}\n{trace}", world.written);
    let first = &world.nodes[&view.leader()].live;
    for (node, state) in &world.nodes {
        assert_eq!(&state.live, first, "{node} differs from the leader\n{trace}");
    }
}

#[test]
fn nothing_complete_is_lost_and_all_copies_become_equal() {
    let from = std::env::var("WARREN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let seeds = std::env::var("WARREN_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    for seed in from..from + seeds {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}
impl World {
    /// For a failing seed: what everybody waits for.
    fn dump(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.nodes {
            let role = match &node.role {
                Role::Leads(leader) => format!("leads {}", leader.describe()),
                Role::Follows(follower) => format!("follows {}", follower.describe()),
                Role::Nothing => "nothing".to_owned(),
            };
            text.push_str(&format!("{id}: {role}\n"));
        }
        text
    }
}
