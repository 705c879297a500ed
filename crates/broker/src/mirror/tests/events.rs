//! What happens in the world, one thing at a time.

use std::collections::{BTreeSet, VecDeque};

use cluster::metadata_log::NodeId;
use store::{Batch, Seq};

use super::super::operation::Sessions;
use super::super::{Effects, Packet};
use super::publishers::{Taking, Written};
use super::world::{Loaded, Proposal, PUBLISHERS, QUEUE, Role, World, id};
use crate::id::ConnectionId;
use crate::metadata::ViewChange;
use crate::queue::level_key;

impl World {
    fn any_node(&mut self) -> NodeId {
        id(1 + self.rng.below(self.setup.nodes))
    }

    /// One thing happens; when calm, only what heals.
    pub(super) fn step(&mut self, calm: bool) {
        self.let_time_pass(calm);
        let (a, b) = (self.any_node(), self.any_node());
        match self.rng.below(if calm { 34 } else { 44 }) {
            0..14 => self.deliver(a, b),
            14..18 if !calm => self.write(a),
            18..22 => self.sync(a),
            22..25 if calm || !self.setup.slow_stores || self.rng.one_in(12) => self.answer(),
            25..28 => self.propose(),
            28..31 => self.see_some_view(a),
            31..33 => self.tick(a),
            33 => self.recover(a, b),
            34 if self.rng.one_in(8) => {
                let node = if self.rng.one_in(2) { self.view().leader() } else { a };
                self.kill(node);
            }
            35 => self.start(a),
            36 if a != b && self.rng.one_in(3) => self.lose_link(a, b),
            37 if self.rng.one_in(2) => self.ask_for_change(a),
            38 if self.rng.one_in(10) => self.declare_dead(a),
            39 if self.rng.one_in(8) => self.node(a).stalled = true,
            40..42 => self.node(a).stalled = false,
            42 => self.synchronize(a),
            _ => {}
        }
    }

    /// What time and the log bring about by themselves.
    fn recover(&mut self, a: NodeId, b: NodeId) {
        match self.rng.below(4) {
            0 => self.want_mirror(a),
            1 => self.notice_link(a, b),
            2 => self.bury(),
            _ => self.take_back(a),
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId) {
        if self.nodes[&to].stalled || !self.nodes[&to].up {
            return;
        }
        let Some(packet) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let now = self.now;
        let mut out = Effects::default();
        match &mut self.node(to).role {
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
        if self.nodes[&node].stalled || !self.nodes[&node].up {
            return;
        }
        let waiting = self.nodes[&node].disk.unsynced();
        let count = if self.rng.one_in(2) { waiting } else { self.rng.below(waiting as u64 + 1) as usize };
        for report in self.node(node).disk.sync(count) {
            let mut out = Effects::default();
            match &mut self.node(node).role {
                Role::Leads(leader) => leader.stored(report, &mut out),
                Role::Follows(follower) => follower.stored(report, &mut out),
                Role::Nothing => {}
            }
            self.obey(node, out);
        }
        self.maybe_lead(node);
    }

    /// A store or the log answers.
    fn answer(&mut self) {
        let now = self.now;
        if let Some((node, from, feed, held)) = self.surveys.pop_front() {
            let mut out = Effects::default();
            match &mut self.node(node).role {
                Role::Leads(leader) => leader.surveyed(now, from, feed, held, None, &mut out),
                Role::Follows(follower) => follower.surveyed(now, feed, held, &mut out),
                Role::Nothing => {}
            }
            self.obey(node, out);
        }
        if let Some(Loaded { at, node, feed, level, messages }) = self.loads.pop_front() {
            let mut out = Effects::default();
            if let Role::Leads(leader) = &mut self.node(at).role {
                leader.loaded(now, node, feed, level, &messages, &mut out);
            }
            self.obey(at, out);
        }
        if !self.refusals.is_empty() {
            let at = self.rng.below(self.refusals.len() as u64) as usize;
            let refusal = self.refusals.swap_remove(at);
            self.refuse(refusal);
        }
    }

    fn refuse(&mut self, Proposal { from, epoch, change }: Proposal) {
        let now = self.now;
        let late = epoch != self.epoch_of(from);
        self.coverage.late_refusals += u64::from(late);
        let state = self.node(from);
        if let Role::Leads(leader) = &mut state.role {
            match change {
                ViewChange::Transfer(_) if !late => state.handing_over = false,
                change => leader.refused(now, epoch, change),
            }
        }
    }

    fn propose(&mut self) {
        let Some(proposal) = self.proposals.pop_front() else { return };
        let Proposal { from, epoch, change } = proposal;
        let up: BTreeSet<NodeId> = self.nodes.keys().copied().filter(|node| self.is_up(*node)).collect();
        let is_current = self.view().epoch == epoch || crate::mutant::breaks(crate::mutant::Mutant::ChangeAnyView);
        if is_current && let Ok(next) = self.view().after(change, |node| up.contains(&node)) {
            match change {
                ViewChange::InSync(_) => self.coverage.seats_taken += 1,
                ViewChange::Evict(_) => self.coverage.evictions += 1,
                ViewChange::Transfer(_) => self.coverage.transfers += 1,
                _ => {}
            }
            self.push_view(next, &format!("by {change:?} of {from}"));
            // The worst moment: the seat is taken, and nobody has made it a member of the ring.
            if matches!(change, ViewChange::InSync(_)) && self.stormy && self.rng.one_in(6) {
                self.kill(from);
            }
        } else {
            self.refusals.push(proposal);
        }
    }

    /// A node installs the newest view, or one of those before it.
    fn see_some_view(&mut self, node: NodeId) {
        let state = &self.nodes[&node];
        let unseen = (self.views.len() - state.seen) as u64;
        if !state.up || unseen == 0 {
            return;
        }
        let skipped = if self.rng.one_in(2) { unseen - 1 } else { self.rng.below(unseen) };
        let index = self.nodes[&node].seen + skipped as usize;
        self.see_view(node, index, false);
    }

    fn tick(&mut self, node: NodeId) {
        let now = self.now;
        let mut out = Effects::default();
        match &mut self.node(node).role {
            Role::Leads(leader) => leader.tick(now, &mut out),
            Role::Follows(follower) => follower.tick(now, &mut out),
            Role::Nothing => {}
        }
        self.obey(node, out);
        self.maybe_lead(node);
    }

    fn kill(&mut self, node: NodeId) {
        let up = self.nodes.values().filter(|state| state.up).count();
        if up < 2 || !self.nodes[&node].up {
            return;
        }
        self.coverage.kills += 1;
        let unsynced = self.nodes[&node].disk.unsynced() as u64;
        let kept = if self.rng.one_in(2) { 0 } else { self.rng.below(unsynced + 1) };
        self.coverage.batches_lost += unsynced - kept;
        self.tell(format!("{node} dies with {kept} of {unsynced}"));
        let state = self.node(node);
        state.up = false;
        state.role = Role::Nothing;
        state.handing_over = false;
        state.taking = Taking::default();
        state.disk.crash(kept as usize);
        self.links.retain(|(a, b), _| *a != node && *b != node);
        for other in 1..=self.setup.nodes {
            if id(other) != node {
                self.cut.insert((id(other), node));
                self.cut.insert((node, id(other)));
            }
        }
        self.surveys.retain(|(at, ..)| *at != node);
        self.loads.retain(|load| load.at != node);
        self.refusals.retain(|refusal| refusal.from != node);
        self.obituaries.push(node);
    }

    /// The log hears of a death.
    fn bury(&mut self) {
        let Some(node) = self.obituaries.pop() else { return };
        if let Some(next) = self.view().after_loss(node) {
            self.push_view(next, &format!("without {node}"));
        }
    }

    pub(super) fn start(&mut self, node: NodeId) {
        if self.nodes[&node].up {
            return;
        }
        // A node registers before it does anything, and by that its life before is over.
        while self.obituaries.contains(&node) {
            self.bury();
        }
        self.tell(format!("{node} starts"));
        let state = self.node(node);
        state.up = true;
        state.stalled = false;
        self.outcasts.insert(node);
        self.take_back(node);
        self.see_view(node, self.views.len() - 1, false);
    }

    /// The log takes a living node for dead.
    fn declare_dead(&mut self, node: NodeId) {
        if !self.is_up(node) {
            return;
        }
        self.coverage.false_deaths += 1;
        self.outcasts.insert(node);
        if let Some(next) = self.view().after_loss(node) {
            self.push_view(next, &format!("as if without {node}"));
        }
    }

    /// A node is registered anew.
    fn take_back(&mut self, node: NodeId) {
        if !self.nodes[&node].up || !self.outcasts.remove(&node) {
            return;
        }
        let up: BTreeSet<NodeId> = self.nodes.keys().copied().filter(|node| self.is_up(*node)).collect();
        if let Some(next) = self.view().after_return(node, |other| up.contains(&other)) {
            self.push_view(next, &format!("with {node}"));
        }
    }

    pub(super) fn want_mirror(&mut self, node: NodeId) {
        if !self.view().is_member(node) && self.is_up(node) {
            let epoch = self.view().epoch;
            self.proposals.push_back(Proposal { from: node, epoch, change: ViewChange::AddMirror(node) });
        }
    }

    fn lose_link(&mut self, a: NodeId, b: NodeId) {
        self.coverage.links_lost += 1;
        for (one, other) in [(a, b), (b, a)] {
            self.links.remove(&(one, other));
            self.cut.insert((one, other));
        }
    }

    /// A node notices that its link to another one was lost and is there again.
    pub(super) fn notice_link(&mut self, node: NodeId, other: NodeId) {
        if !self.nodes[&node].up || !self.nodes[&other].up || !self.cut.remove(&(node, other)) {
            return;
        }
        let now = self.now;
        let mut out = Effects::default();
        match &mut self.node(node).role {
            Role::Leads(leader) => leader.reconnected(other, &mut out),
            Role::Follows(follower) => follower.reconnected(now, other, &mut out),
            Role::Nothing => {}
        }
        self.obey(node, out);
    }

    /// Somebody wants another view: less mirrors, or another leader.
    fn ask_for_change(&mut self, node: NodeId) {
        let epoch = self.view().epoch;
        let leader = self.view().leader();
        match self.rng.below(4) {
            0 => self.proposals.push_back(Proposal { from: leader, epoch, change: ViewChange::Evict(node) }),
            1 => self.proposals.push_back(Proposal { from: leader, epoch, change: ViewChange::DropMirror(node) }),
            _ => {
                // A leader hands over when all it wrote is complete, and stands still from then on.
                let Some(node) = self.view().mirrors().next() else { return };
                let state = self.node(leader);
                if let Role::Leads(replica) = &state.role
                    && replica.is_quiet()
                    && !state.handing_over
                    && replica.view().is_in_sync(node)
                    && node != leader
                {
                    state.handing_over = true;
                    let epoch = replica.view().epoch;
                    self.proposals.push_back(Proposal { from: leader, epoch, change: ViewChange::Transfer(node) });
                }
            }
        }
    }

    pub(super) fn synchronize(&mut self, node: NodeId) {
        let now = self.now;
        let mut out = Effects::default();
        if let Role::Leads(leader) = &mut self.node(node).role {
            leader.synchronize(now, true, &mut out);
        }
        self.obey(node, out);
    }

    /// The queue of a leader works off a round: publishes of one agent, and removals.
    fn write(&mut self, node: NodeId) {
        let state = &self.nodes[&node];
        let Role::Leads(leader) = &state.role else { return };
        if state.handing_over || leader.is_deposed() {
            return;
        }
        let led_since = leader.view().led_since;
        let mut batch = Batch::new();
        let mut written = Written::default();
        let mut touched = Sessions::new();
        if self.rng.one_in(2) {
            self.publish(node, led_since, &mut batch, &mut written, &mut touched);
        }
        if self.rng.one_in(2) {
            self.remove_some(node, &mut batch, &mut written);
        }
        let now = self.now;
        let taking = &mut self.node(node).taking;
        taking.ticket += 1;
        let ticket = taking.ticket;
        let what = format!("{node} writes {ticket}: {written:?} {touched:?}");
        taking.written.insert(ticket, written);
        self.tell(what);
        let mut out = Effects::default();
        let Role::Leads(leader) = &mut self.node(node).role else { return };
        let report = leader.write(now, &batch, touched, Some(ticket), &mut out);
        self.append(node, &batch, report);
        self.obey(node, out);
    }

    fn publish(&mut self, node: NodeId, led_since: u64, batch: &mut Batch, written: &mut Written, touched: &mut Sessions) {
        let from = 1 + self.rng.below(PUBLISHERS);
        let publisher = self.publishers.get_mut(&from).expect("it is a publisher");
        // Views only rise where the publisher is.
        if publisher.led_since > led_since {
            return;
        }
        publisher.led_since = led_since;
        let life = self.nodes[&node].taking.life;
        let numbers = publisher.send(life);
        self.coverage.sent_again += numbers.len() as u64 - 1;
        let settled = publisher.settled();
        for number in numbers {
            let refuse = self.rng.one_in(8);
            let level = self.rng.below(u64::from(self.setup.levels)) as u8;
            let mut reports = Vec::new();
            let taking = &mut self.node(node).taking;
            if taking.takes(from, settled, number, refuse, &mut reports) {
                let place = (level, taking.next_seq);
                taking.next_seq += 1;
                let uid = self.messages.len() as u64 + 1;
                let before = self.places.insert(place, uid);
                self.expect(before.is_none(), || format!("{node} gives place {place:?} a second time"));
                self.messages.insert(uid, (place, (from, number)));
                batch.enqueue(level_key(QUEUE, level), Seq(place.1), &[&uid.to_le_bytes()]);
                written.messages.push(uid);
            }
            for (from, number, taken) in reports {
                if taken {
                    written.reports.push((from, number));
                } else {
                    // A refusal is told at once, if it is heard.
                    self.coverage.refused += 1;
                    self.report(from, number);
                }
            }
        }
        let known = &self.nodes[&node].taking.sessions;
        touched.insert(ConnectionId(from), known[&ConnectionId(from)].clone());
    }

    /// A report on its way to a publisher, whose link may be lost: then it sends everything unreported again.
    pub(super) fn report(&mut self, from: u64, number: u64) {
        let is_lost = self.stormy && self.rng.one_in(10);
        let publisher = self.publishers.get_mut(&from).expect("it is a publisher");
        if is_lost {
            publisher.knows = 0;
        } else {
            publisher.report(number);
        }
    }

    /// Consumers are done with the oldest, or with some one; or a range goes at once.
    fn remove_some(&mut self, node: NodeId, batch: &mut Batch, written: &mut Written) {
        let mut places: Vec<((u8, u64), u64)> = self.nodes[&node].disk.live.iter().map(|(p, uid)| (*p, *uid)).collect();
        places.extend(written.messages.iter().map(|uid| (self.messages[uid].0, *uid)));
        places.sort_unstable();
        if places.is_empty() {
            return;
        }
        let at = if self.rng.one_in(2) { 0 } else { self.rng.below(places.len() as u64) as usize };
        let ((level, first), _) = places[at];
        let last = if self.rng.one_in(8) { first + self.rng.below(6) } else { first };
        let hit = places.iter().filter(|((l, seq), _)| *l == level && (first..=last).contains(seq));
        for (_, uid) in hit {
            self.complete.remove(uid);
            self.removing.insert(*uid);
            written.removed.push(*uid);
        }
        batch.remove(level_key(QUEUE, level), &[(Seq(first), Seq(last))]);
    }

    /// Nothing is broken any more.
    pub(super) fn calm_down(&mut self) {
        self.stormy = false;
        self.tell("calm".to_owned());
        for node in 1..=self.setup.nodes {
            self.node(id(node)).stalled = false;
            self.start(id(node));
            self.take_back(id(node));
        }
    }

    /// What happens sooner or later by itself.
    pub(super) fn round(&mut self) {
        for node in 1..=self.setup.nodes {
            for other in 1..=self.setup.nodes {
                self.notice_link(id(node), id(other));
            }
            if self.nodes[&id(node)].seen < self.views.len() {
                self.see_view(id(node), self.views.len() - 1, false);
            }
            self.tick(id(node));
            self.want_mirror(id(node));
            self.synchronize(id(node));
        }
    }
}
