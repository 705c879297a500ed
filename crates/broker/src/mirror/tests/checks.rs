//! What must hold: after every event, when somebody begins to lead, and when all has healed.

use super::world::{Role, World};
use crate::id::ConnectionId;
use cluster::metadata_log::NodeId;

impl World {
    pub(super) fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            panic!("{}\n{}\n{}", what(), self.trace.join("\n"), self.dump());
        }
    }

    /// For a failing seed: what everybody waits for.
    fn dump(&self) -> String {
        let describe = |(id, node): (&NodeId, &super::world::Node)| match &node.role {
            Role::Leads(leader) => format!("{id}: leads {}\n", leader.describe()),
            Role::Follows(follower) => format!("{id}: follows {}\n", follower.describe()),
            Role::Nothing => format!("{id}: nothing, up: {}\n", node.up),
        };
        let nodes: String = self.nodes.iter().map(describe).collect();
        format!("{nodes}cut: {:?}", self.cut)
    }

    /// A leader says that its batches up to this one are complete.
    pub(super) fn completed(&mut self, node: NodeId, ticket: u64) {
        let epoch = self.epoch_of(node);
        self.tell(format!("{node} completes {ticket} at {epoch}"));
        let taking = &mut self.node(node).taking;
        let later = taking.written.split_off(&(ticket + 1));
        let done = std::mem::replace(&mut taking.written, later);
        for written in done.into_values() {
            self.complete.extend(written.messages.iter().filter(|uid| !self.removing.contains(uid)));
            self.coverage.removals_complete += written.removed.len() as u64;
            self.gone.extend(written.removed);
            for (from, number) in written.reports {
                self.report(from, number);
                // What an earlier leader wrote is complete with what is written behind it.
                let live = &self.nodes[&node].disk.live;
                let is_here = |uid: &u64| live.get(&self.messages[uid].0) == Some(uid);
                let mut copies = self.copies((from, number));
                let copy = copies.find(|uid| is_here(uid) || self.removing.contains(uid));
                drop(copies);
                self.expect(copy.is_some(), || format!("{node} confirms {number} of {from}, which is nowhere"));
                self.complete.extend(copy.filter(|uid| !self.removing.contains(uid)));
            }
        }
        self.check_seats();
    }

    /// The messages that were made of a publish.
    fn copies(&self, publish: (u64, u64)) -> impl Iterator<Item = u64> {
        self.messages.iter().filter(move |(_, (_, of))| *of == publish).map(|(uid, _)| *uid)
    }

    /// Every seat of the newest view has what is complete, whatever crash comes next, and nothing whose
    /// removal is complete.
    pub(super) fn check_seats(&self) {
        let view = self.view();
        for seat in &view.seats {
            let disk = &self.nodes[&seat.node].disk;
            for uid in &self.complete {
                let place = self.messages[uid].0;
                let there = disk.live.get(&place) == Some(uid) && disk.synced.get(&place) == Some(uid);
                self.expect(there, || format!("seat {} lacks {place:?} in {view:?}", seat.node));
            }
            for uid in &self.gone {
                let place = self.messages[uid].0;
                let back = disk.live.contains_key(&place) || disk.synced.contains_key(&place);
                self.expect(!back, || format!("seat {} has {place:?} again in {view:?}", seat.node));
            }
        }
    }

    /// Who leads knows of every publish what its data shows, so nothing is taken twice or never.
    pub(super) fn check_new_leader(&self, node: NodeId) {
        let state = &self.nodes[&node];
        let is_here = |uid: &u64| state.disk.live.get(&self.messages[uid].0) == Some(uid);
        for uid in &self.complete {
            self.expect(is_here(uid), || format!("{node} leads without {:?}", self.messages[uid]));
        }
        for (id, publisher) in &self.publishers {
            let session = state.taking.sessions.get(&ConnectionId(*id)).cloned().unwrap_or_default();
            for number in &publisher.unreported {
                if self.amnesia.get(id).is_some_and(|last| number <= last) {
                    continue;
                }
                let is_known = *number <= session.last;
                let is_refused = session.refused.contains(number);
                let is_here = self.copies((*id, *number)).any(|uid| is_here(&uid));
                let was_here = self.copies((*id, *number)).any(|uid| self.removing.contains(&uid));
                let is_gone = self.copies((*id, *number)).any(|uid| self.gone.contains(&uid));
                let wrong = match (is_known, is_refused) {
                    (true, true) => is_here,
                    (true, false) => !is_here && !was_here,
                    (false, _) => is_here || is_gone,
                };
                self.expect(!wrong, || format!("{node} leads with {session:?}, and {number} of {id} is here: {is_here}"));
            }
        }
    }

    /// All nodes are in sync and have done what there is to do.
    pub(super) fn is_whole(&self) -> bool {
        let idle = |node: &super::world::Node| node.seen == self.views.len() && node.disk.unsynced() == 0;
        let leader = &self.nodes[&self.view().leader()];
        self.view().seats.len() as u64 == self.setup.nodes
            && matches!(leader.role, Role::Leads(_))
            && self.nodes.values().all(|node| idle(node) && node.taking.written.is_empty())
            && self.proposals.is_empty()
            && self.kept_bytes() == 0
    }

    /// What rings keep to send it again.
    fn kept_bytes(&self) -> usize {
        let of = |node: &super::world::Node| match &node.role {
            Role::Leads(leader) => leader.pending_bytes(),
            Role::Follows(follower) => follower.pending_bytes(),
            Role::Nothing => 0,
        };
        self.nodes.values().map(of).sum()
    }

    pub(super) fn check_healed(&self) {
        let view = self.view();
        self.expect(view.seats.len() as u64 == self.setup.nodes, || format!("not all are in sync: {view:?}"));
        self.expect(self.is_whole(), || format!("not all is done in {view:?}, {} bytes are kept", self.kept_bytes()));
        let first = &self.nodes[&view.leader()].disk.live;
        for (node, state) in &self.nodes {
            let (more, less): (Vec<_>, Vec<_>) = (
                state.disk.live.keys().filter(|place| !first.contains_key(place)).collect(),
                first.keys().filter(|place| !state.disk.live.contains_key(place)).collect(),
            );
            self.expect(more.is_empty() && less.is_empty(), || format!("{node} has {more:?} and lacks {less:?}"));
        }
    }
}
