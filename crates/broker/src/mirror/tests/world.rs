//! Replicas of one queue in a small world, played from a seed: links that are slow, break and heal one
//! way at a time; nodes that die with what they had not synced, stop taking packets, or are declared dead
//! while they live; views that change by compare-and-set and are seen late; answers that come late;
//! publishers that keep what is not reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::{Rng, Time};
use store::Seq;

use super::super::operation::Sessions;
use super::super::{Care, Effects, Follower, Leader, Packet, Runs};
use super::disk::Disk;
use super::publishers::{Publisher, Taking};
use crate::id::QueueId;
use crate::metadata::{View, ViewChange};
use crate::queue::first_sequence;

pub(super) const QUEUE: QueueId = QueueId(7);
pub(super) const PUBLISHERS: u64 = 3;

pub(super) enum Role {
    Leads(Box<Leader>),
    Follows(Box<Follower>),
    Nothing,
}

/// One node: its replica, and what its store holds.
pub(super) struct Node {
    pub(super) up: bool,
    pub(super) role: Role,
    /// How many views of the log it has seen.
    pub(super) seen: usize,
    pub(super) disk: Disk,
    pub(super) feeds: u64,
    /// Of a leader: its queue.
    pub(super) taking: Taking,
    /// It has proposed another leader and stands still until it knows the outcome.
    pub(super) handing_over: bool,
    /// It takes no packets and its disk does nothing.
    pub(super) stalled: bool,
}

/// What this life is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) nodes: u64,
    pub(super) levels: u8,
    pub(super) steps: u64,
    care: Care,
    /// Time sometimes passes without anything happening.
    leaps: bool,
    /// Surveys and reads take long.
    pub(super) slow_stores: bool,
}

impl Setup {
    fn draw(rng: &mut Rng) -> Setup {
        let nodes = [2, 3, 3, 3, 3, 4, 5, 5][rng.below(8) as usize];
        let care = Care {
            automatic: !rng.one_in(4),
            batch_messages: 1 + rng.below(4) as usize,
            patience: Duration::from_secs(1 + rng.below(9)),
            ..Care::default()
        };
        Setup { nodes, levels: 1 + rng.below(3) as u8, steps: 300 * nodes, care, leaps: rng.one_in(2), slow_stores: rng.one_in(3) }
    }
}

/// What happened, so that a test can tell whether it has met anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    pub(super) kills: u64,
    pub(super) batches_lost: u64,
    pub(super) takeovers: u64,
    pub(super) seats_taken: u64,
    pub(super) evictions: u64,
    pub(super) transfers: u64,
    pub(super) false_deaths: u64,
    pub(super) links_lost: u64,
    pub(super) sent_again: u64,
    pub(super) refused: u64,
    pub(super) removals_complete: u64,
    pub(super) late_refusals: u64,
}

impl Coverage {
    fn all(&mut self) -> [&mut u64; 12] {
        [
            &mut self.kills,
            &mut self.batches_lost,
            &mut self.takeovers,
            &mut self.seats_taken,
            &mut self.evictions,
            &mut self.transfers,
            &mut self.false_deaths,
            &mut self.links_lost,
            &mut self.sent_again,
            &mut self.refused,
            &mut self.removals_complete,
            &mut self.late_refusals,
        ]
    }

    pub(super) fn add(&mut self, mut other: Coverage) {
        for (mine, theirs) in self.all().into_iter().zip(other.all()) {
            *mine += *theirs;
        }
    }

    pub(super) fn all_above(mut self, least: u64) -> bool {
        self.all().iter().all(|count| **count > least)
    }
}

/// A change of the view on its way to the log, or its refusal on the way back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposal {
    pub(super) from: NodeId,
    pub(super) epoch: u64,
    pub(super) change: ViewChange,
}

/// Messages read for a feed.
pub(super) struct Loaded {
    pub(super) at: NodeId,
    pub(super) node: NodeId,
    pub(super) feed: u64,
    pub(super) level: u8,
    pub(super) messages: Vec<(Seq, Bytes)>,
}

/// What the store of a node holds, for whom that was asked, and the feed.
type Survey = (NodeId, NodeId, u64, Vec<(u8, Runs)>);

/// Level and sequence of a message.
type Place = (u8, u64);

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) rng: Rng,
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) views: Vec<View>,
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Packet>>,
    /// Directions in which nothing gets through until the sender notices.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    pub(super) proposals: VecDeque<Proposal>,
    pub(super) refusals: Vec<Proposal>,
    pub(super) surveys: VecDeque<Survey>,
    pub(super) loads: VecDeque<Loaded>,
    /// Dead nodes of which the log does not know yet.
    pub(super) obituaries: Vec<NodeId>,
    /// Nodes that the log takes for dead though they live.
    pub(super) outcasts: BTreeSet<NodeId>,
    pub(super) publishers: BTreeMap<u64, Publisher>,
    pub(super) lives: u64,
    /// Anything may still happen.
    pub(super) stormy: bool,
    /// Every message: where it is, and its publisher's number.
    pub(super) messages: BTreeMap<u64, (Place, (u64, u64))>,
    pub(super) places: BTreeMap<Place, u64>,
    /// Complete, and nobody has begun to remove it.
    pub(super) complete: BTreeSet<u64>,
    /// Somebody has begun to remove it.
    pub(super) removing: BTreeSet<u64>,
    /// Its removal is complete.
    pub(super) gone: BTreeSet<u64>,
    /// Numbers of publishers up to which sessions were lost with all who knew them.
    pub(super) amnesia: BTreeMap<u64, u64>,
    pub(super) coverage: Coverage,
    pub(super) trace: Vec<String>,
}

pub(super) fn id(number: u64) -> NodeId {
    NodeId(number)
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let setup = Setup::draw(&mut rng);
        let founders = if rng.one_in(2) { setup.nodes } else { 1 + rng.below(setup.nodes) };
        let node = || Node {
            up: true,
            role: Role::Nothing,
            seen: 0,
            disk: Disk::default(),
            feeds: 1,
            taking: Taking::default(),
            handing_over: false,
            stalled: false,
        };
        let mut world = World {
            setup,
            rng,
            now: Time::START,
            nodes: (1..=setup.nodes).map(|n| (id(n), node())).collect(),
            views: vec![View::new((1..=founders).map(id), true)],
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            proposals: VecDeque::new(),
            refusals: Vec::new(),
            surveys: VecDeque::new(),
            loads: VecDeque::new(),
            obituaries: Vec::new(),
            outcasts: BTreeSet::new(),
            publishers: (1..=PUBLISHERS).map(|n| (n, Publisher::default())).collect(),
            lives: 0,
            stormy: true,
            messages: BTreeMap::new(),
            places: BTreeMap::new(),
            complete: BTreeSet::new(),
            removing: BTreeSet::new(),
            gone: BTreeSet::new(),
            amnesia: BTreeMap::new(),
            coverage: Coverage::default(),
            trace: vec![format!("{setup:?}")],
        };
        for node in 1..=setup.nodes {
            world.see_view(id(node), 0, true);
        }
        world
    }

    pub(super) fn view(&self) -> &View {
        self.views.last().expect("there is a first view")
    }

    pub(super) fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("it is a node")
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.nodes[&node].up && !self.outcasts.contains(&node)
    }

    pub(super) fn tell(&mut self, what: String) {
        self.trace.push(what);
    }

    pub(super) fn push_view(&mut self, view: View, why: &str) {
        self.tell(format!("view {} {why}: {:?} + {:?} {:?}", view.epoch, view.seats, view.catching_up, view.status));
        self.views.push(view);
        self.check_seats();
    }

    /// The node brings its part in the queue to what a view of the log says.
    pub(super) fn see_view(&mut self, node: NodeId, index: usize, is_new: bool) {
        let view = self.views[index].clone();
        let now = self.now;
        let care = self.setup.care;
        let state = self.node(node);
        state.seen = index + 1;
        let mut out = Effects::default();
        let role = std::mem::replace(&mut state.role, Role::Nothing);
        let leads = view.leader() == node && view.is_running();
        let takes_part = view.is_member(node) && view.is_running();
        match role {
            Role::Leads(mut leader) if leads && view.is_same_term(leader.view()) => {
                leader.view_changed(&view, &mut out);
                state.role = Role::Leads(leader);
            }
            // Who led before somebody else did takes over like everybody else.
            Role::Leads(leader) => {
                let (ring, sessions) = leader.step_down();
                state.feeds += 1_000_000;
                state.taking = Taking::default();
                state.handing_over = false;
                if takes_part {
                    let follower =
                        Follower::after_leading(now, QUEUE, node, &view, ring, sessions, state.feeds, &mut out);
                    state.role = Role::Follows(Box::new(follower));
                }
            }
            Role::Follows(mut follower) if takes_part => {
                follower.view_changed(now, &view, &mut out);
                state.role = Role::Follows(follower);
            }
            Role::Follows(_) => {}
            Role::Nothing if leads && (is_new || view.seats.len() == 1) => {
                let leader = Leader::found(QUEUE, node, &view, Sessions::new(), care);
                self.begin_to_lead(node, leader, Sessions::new(), true);
            }
            Role::Nothing if takes_part => {
                state.feeds += 1_000_000;
                let follower = Follower::new(now, QUEUE, node, &view, is_new, state.feeds, &mut out);
                state.role = Role::Follows(Box::new(follower));
            }
            Role::Nothing => {}
        }
        self.obey(node, out);
        self.maybe_lead(node);
    }

    /// A follower whose turn it is takes over, as soon as it can.
    pub(super) fn maybe_lead(&mut self, node: NodeId) {
        let care = self.setup.care;
        let state = self.node(node);
        if !matches!(&state.role, Role::Follows(follower) if follower.can_lead()) {
            return;
        }
        let Role::Follows(follower) = std::mem::replace(&mut state.role, Role::Nothing) else { return };
        let view = follower.view().clone();
        let (ring, sessions) = follower.take_over();
        let forgotten = ring.is_none() && sessions.is_empty();
        let leader = match ring {
            Some(ring) => {
                self.coverage.takeovers += 1;
                Leader::succeed(QUEUE, node, &view, ring, sessions.clone(), care)
            }
            None => Leader::found(QUEUE, node, &view, sessions.clone(), care),
        };
        self.begin_to_lead(node, leader, sessions, forgotten);
    }

    fn begin_to_lead(&mut self, node: NodeId, leader: Leader, sessions: Sessions, forgotten: bool) {
        let mut out = Effects::default();
        leader.begin(&mut out);
        let led_since = leader.view().led_since;
        self.lives += 1;
        let life = self.lives;
        let state = self.node(node);
        let next_seq = first_sequence(led_since, state.disk.next());
        state.taking = Taking { sessions, next_seq, life, ..Taking::default() };
        state.role = Role::Leads(Box::new(leader));
        state.handing_over = false;
        let known = &self.nodes[&node].taking.sessions;
        self.tell(format!("{node} leads since {led_since}, from {next_seq}, knows {known:?}"));
        if forgotten {
            self.amnesia = self.publishers.iter().map(|(id, publisher)| (*id, publisher.last)).collect();
        }
        self.obey(node, out);
        if led_since == self.view().led_since {
            self.check_new_leader(node);
        }
    }

    /// The epoch of the view by which the replica of a node acts.
    pub(super) fn epoch_of(&self, node: NodeId) -> u64 {
        match &self.nodes[&node].role {
            Role::Leads(leader) => leader.view().epoch,
            Role::Follows(follower) => follower.view().epoch,
            Role::Nothing => 0,
        }
    }

    pub(super) fn obey(&mut self, node: NodeId, out: Effects) {
        let levels = self.setup.levels;
        for (batch, report) in out.store {
            self.append(node, &batch, report);
        }
        for (to, packet) in out.to_peers {
            if !self.cut.contains(&(node, to)) && self.nodes.get(&to).is_some_and(|to| to.up) {
                self.links.entry((node, to)).or_default().push_back(packet);
            }
        }
        for (from, feed) in out.survey {
            let held = self.nodes[&node].disk.survey(levels);
            self.surveys.push_back((node, from, feed, held));
        }
        for (from, feed, load) in out.loads {
            let level = crate::queue::key_owner(load.key).1.expect("feeds read levels");
            let live = self.nodes[&node].disk.live.range((level, load.from.0)..=(level, u64::MAX));
            let read = live.take(load.messages).map(|((_, seq), _)| (Seq(*seq), Bytes::from_static(b"payload")));
            self.loads.push_back(Loaded { at: node, node: from, feed, level, messages: read.collect() });
        }
        for (epoch, change) in out.proposals {
            if let ViewChange::InSync(joining) = change
                && self.stormy
                && self.rng.one_in(8)
            {
                self.node(joining).stalled = true;
            }
            if self.proposals.len() < 200 {
                self.proposals.push_back(Proposal { from: node, epoch, change });
            }
        }
        self.expect(out.complaints.is_empty(), || format!("{node} complains: {:?}", out.complaints));
        if let Some(ticket) = out.complete {
            self.completed(node, ticket);
        }
    }

    pub(super) fn append(&mut self, node: NodeId, batch: &store::Batch, report: super::super::Report) {
        let places = &self.places;
        let state = self.nodes.get_mut(&node).expect("it is a node");
        state.disk.append(batch, report, |level, seq| places.get(&(level, seq)).copied().unwrap_or_default());
    }

    /// How long the steps of this life take.
    pub(super) fn let_time_pass(&mut self, calm: bool) {
        let mut millis = self.rng.below(20);
        if self.setup.leaps && !calm && self.rng.one_in(60) {
            millis += self.rng.below(3000);
        }
        self.now = self.now + Duration::from_millis(millis);
    }
}
