//! Views: which nodes hold a queue, and who of them leads it.
//!
//! An unmirrored queue is a view with one seat. The seats are the in-sync list, leader first, then in
//! the order in which they became in sync; together they are the ring. Everything here computes the
//! next view from one view, so that every node finds the same.
//!
//! Without anybody in sync alive, a mirror that lacks something may be promoted where the policy wants
//! that. It begins a new lineage, and every other copy is an old one then: it may hold confirmed
//! messages that this lineage never had, and has to be merged before its node is in sync.
//!
//! Invariants: the epoch rises with every change; there is always a seat, the last one is remembered
//! when its node goes (the queue is then stopped); a node has at most one place among seats and
//! catching up; nodes in `old` and `recoverable` hold a copy that nobody may delete, and are in no
//! other list except that one of `old` may be catching up.

use cluster::metadata_log::NodeId;
use serde::{Deserialize, Serialize};

use crate::mutant::{Mutant, breaks};

/// Who holds a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Rises by one with every change of the view.
    pub epoch: u64,
    /// The members in sync; the queue leader first.
    pub seats: Vec<Seat>,
    /// Mirrors that do not hold everything yet, oldest first.
    pub catching_up: Vec<NodeId>,
    pub status: ViewStatus,
    /// The epoch since which this leader leads without a break.
    pub led_since: u64,
    /// Rises with every unclean promotion.
    pub lineage: u64,
    /// Nodes whose copy may hold confirmed messages that this lineage never had.
    pub old: Vec<NodeId>,
    /// Nodes that went down with a copy, the first to go first.
    pub recoverable: Vec<NodeId>,
    /// Whether the queue runs as a mirrored one, with or without mirrors.
    pub mirrored: bool,
}

/// A place in the in-sync list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    pub node: NodeId,
    /// The epoch since which the node sits there.
    pub since: u64,
}

/// Whether a queue is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewStatus {
    Running,
    /// Nobody alive holds everything: the seats say who did.
    Stopped,
}

/// One step from a view to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewChange {
    /// A mirror more, which has to catch up.
    AddMirror(NodeId),
    /// It has caught up and takes the last seat.
    InSync(NodeId),
    /// A mirror does not keep up: it has to catch up again.
    Evict(NodeId),
    /// A mirror less.
    DropMirror(NodeId),
    /// The leader hands over to a mirror in sync, and sits last from then on.
    Transfer(NodeId),
    /// A mirror takes over without the leader's help: one in sync, or (`unclean`) one that is not, when
    /// nobody in sync is alive.
    Promote { node: NodeId, unclean: bool },
    /// The old copy of this node holds nothing more that is missed.
    Merged(NodeId),
    /// The queue is not served until somebody takes over.
    Stop,
}

/// What a queue does when the node of its last seat goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bereaved {
    /// A mirror that is not in sync takes over.
    pub(super) promotes: bool,
    /// There is something to come back for.
    pub(super) durable: bool,
}

impl Seat {
    /// The number of this member of the ring. No seat ever has that of another.
    #[must_use]
    pub const fn member(self) -> u64 {
        self.since << 16 | self.node.0 & 0xFFFF
    }
}

impl View {
    /// The first view of a queue: all of its copies are empty, so all are in sync. Leader first.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = NodeId>, mirrored: bool) -> View {
        View {
            epoch: 1,
            seats: nodes
                .into_iter()
                .map(|node| Seat { node, since: 1 })
                .collect(),
            catching_up: Vec::new(),
            status: ViewStatus::Running,
            led_since: 1,
            lineage: 0,
            old: Vec::new(),
            recoverable: Vec::new(),
            mirrored,
        }
    }

    /// The node of the queue leader; of a stopped queue the one that led it.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.seats.first().map_or(NodeId(0), |seat| seat.node)
    }

    /// The mirrors in sync.
    pub fn mirrors(&self) -> impl Iterator<Item = NodeId> {
        self.seats.iter().skip(1).map(|seat| seat.node)
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == ViewStatus::Running
    }

    #[must_use]
    pub fn is_in_sync(&self, node: NodeId) -> bool {
        self.seats.iter().any(|seat| seat.node == node)
    }

    /// Whether the node that leads is the first to do so.
    #[must_use]
    pub fn is_first_term(&self) -> bool {
        self.led_since == 1
    }

    /// Whether who leads took over without being in sync.
    #[must_use]
    pub fn is_unclean_term(&self) -> bool {
        !self.is_first_term() && self.seats.first().is_some_and(|seat| seat.since == self.led_since)
    }

    /// Whether nobody else has led between the two views.
    #[must_use]
    pub fn is_same_term(&self, other: &View) -> bool {
        self.led_since == other.led_since || breaks(Mutant::LeadThroughOthersTerm)
    }

    /// Whether the node is a member, in sync or not.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_in_sync(node) || self.catching_up.contains(&node)
    }

    /// Whether a copy on this node must stay.
    #[must_use]
    pub fn holds(&self, node: NodeId) -> bool {
        self.holders().any(|holder| holder == node)
    }

    /// Every node that holds a copy which must stay, each once.
    pub(super) fn holders(&self) -> impl Iterator<Item = NodeId> {
        let members = self.seats.iter().map(|seat| seat.node);
        let members = members.chain(self.catching_up.iter().copied());
        let beside = self.old.iter().chain(&self.recoverable).copied();
        members.chain(beside.filter(|node| !self.is_member(*node)))
    }

    /// As [`ViewChange`] has it, for those who play the metadata log.
    #[cfg(test)]
    pub(crate) fn after(&self, change: ViewChange, is_up: impl Fn(NodeId) -> bool) -> Result<View, &'static str> {
        self.changed(change, is_up)
    }

    /// The view without a node that died; `None` if nothing follows.
    #[cfg(test)]
    pub(crate) fn after_loss(&self, node: NodeId) -> Option<View> {
        self.without(node, Bereaved { promotes: false, durable: true }).filter(|next| next.epoch > self.epoch)
    }

    /// The view after a node has come back.
    #[cfg(test)]
    pub(crate) fn after_return(&self, node: NodeId, is_up: impl Fn(NodeId) -> bool) -> Option<View> {
        self.with(node, is_up)
    }

    /// The next view, after a change that somebody has asked for.
    pub(super) fn changed(
        &self,
        change: ViewChange,
        is_up: impl Fn(NodeId) -> bool,
    ) -> Result<View, &'static str> {
        let mut next = self.next();
        match change {
            ViewChange::AddMirror(node) => next.add_mirror(node, is_up(node))?,
            ViewChange::InSync(node) => next.in_sync(node, is_up(node))?,
            ViewChange::Evict(node) => next.evict(node)?,
            ViewChange::DropMirror(node) => next.drop_mirror(node)?,
            ViewChange::Transfer(node) => next.transfer(node, is_up(node))?,
            ViewChange::Promote { node, .. } if !is_up(node) => return Err("the node is down"),
            ViewChange::Promote {
                node,
                unclean: false,
            } => {
                if !next.take_seat(node, is_up) {
                    return Err("the node is not in sync");
                }
            }
            ViewChange::Promote {
                node,
                unclean: true,
            } => {
                if self.is_running() || self.seats.iter().any(|seat| is_up(seat.node)) {
                    return Err("a node in sync is alive");
                }
                if !self.holders().any(|holder| holder == node) {
                    return Err("the node has no copy");
                }
                next.promote_uncleanly(node);
            }
            ViewChange::Merged(node) => {
                if !remove(&mut next.old, node) {
                    return Err("the node has no old copy");
                }
            }
            ViewChange::Stop if !next.is_running() => return Err("the queue is stopped"),
            ViewChange::Stop => next.status = ViewStatus::Stopped,
        }
        Ok(next)
    }

    /// The same view one epoch later.
    pub(super) fn next(&self) -> View {
        View {
            epoch: self.epoch + 1,
            ..self.clone()
        }
    }

    fn add_mirror(&mut self, node: NodeId, is_up: bool) -> Result<(), &'static str> {
        match () {
            () if !self.is_running() => return Err("the queue is stopped"),
            () if !is_up => return Err("the node is down"),
            () if self.is_member(node) => return Err("the node is a member already"),
            () => {}
        }
        remove(&mut self.recoverable, node);
        self.catching_up.push(node);
        self.mirrored = true;
        Ok(())
    }

    fn in_sync(&mut self, node: NodeId, is_up: bool) -> Result<(), &'static str> {
        match () {
            () if !self.is_running() => return Err("the queue is stopped"),
            () if !is_up => return Err("the node is down"),
            () if self.old.contains(&node) => return Err("the old copy of the node is not merged"),
            () if !remove(&mut self.catching_up, node) => {
                return Err("the node is not catching up");
            }
            () => {}
        }
        let since = self.epoch;
        self.seats.push(Seat { node, since });
        Ok(())
    }

    fn evict(&mut self, node: NodeId) -> Result<(), &'static str> {
        match self.seats.iter().position(|seat| seat.node == node) {
            None => Err("the node is not in sync"),
            Some(0) => Err("the node leads the queue"),
            Some(_) if !self.is_running() => Err("the queue is stopped"),
            Some(at) => {
                self.seats.remove(at);
                self.catching_up.push(node);
                Ok(())
            }
        }
    }

    fn drop_mirror(&mut self, node: NodeId) -> Result<(), &'static str> {
        match self.seats.iter().position(|seat| seat.node == node) {
            Some(0) => Err("the node leads the queue"),
            Some(at) => {
                self.seats.remove(at);
                Ok(())
            }
            None if remove(&mut self.catching_up, node) || remove(&mut self.recoverable, node) => {
                Ok(())
            }
            None => Err("the node is no mirror"),
        }
    }

    fn transfer(&mut self, node: NodeId, is_up: bool) -> Result<(), &'static str> {
        if breaks(Mutant::TransferToCatchingUp) && is_up && remove(&mut self.catching_up, node) {
            let since = self.epoch;
            self.seats.push(Seat { node, since });
        }
        match self.seats.iter().position(|seat| seat.node == node) {
            None => Err("the node is not in sync"),
            Some(0) => Err("the node leads the queue"),
            Some(_) if !self.is_running() => Err("the queue is stopped"),
            Some(_) if !is_up => Err("the node is down"),
            Some(at) => {
                let seat = self.seats.remove(at);
                let former = std::mem::replace(&mut self.seats[0], seat);
                self.seats.push(former);
                self.led_since = self.epoch;
                Ok(())
            }
        }
    }

    /// A node of the in-sync list leads from here on. The others of the list have to show what they
    /// hold: those that are up catch up. False if the node is not in the list.
    fn take_seat(&mut self, node: NodeId, is_up: impl Fn(NodeId) -> bool) -> bool {
        if !self.is_in_sync(node) {
            return false;
        }
        let since = self.epoch;
        let former = std::mem::replace(&mut self.seats, vec![Seat { node, since }]);
        let others = former.iter().map(|seat| seat.node);
        for other in others.filter(|other| *other != node) {
            if is_up(other) {
                self.catching_up.push(other);
            } else {
                self.remember(other);
            }
        }
        self.status = ViewStatus::Running;
        self.led_since = since;
        true
    }

    /// A node that does not hold everything leads from here on. What anybody else holds beyond that is
    /// not forgotten: former seats, mirrors that were nearer to being in sync, nodes that went down.
    pub(super) fn promote_uncleanly(&mut self, node: NodeId) {
        self.old = self.holders().filter(|other| *other != node).collect();
        let since = self.epoch;
        self.seats = vec![Seat { node, since }];
        remove(&mut self.catching_up, node);
        self.recoverable.clear();
        self.lineage += 1;
        self.led_since = since;
        self.status = ViewStatus::Running;
    }

    /// The next view, after a node has gone. `None` ends the queue; a view of the same epoch says that
    /// the node did not count.
    pub(super) fn without(&self, node: NodeId, then: Bereaved) -> Option<View> {
        let mut next = self.next();
        if remove(&mut next.catching_up, node) {
            next.remember(node);
            return Some(next);
        }
        let seat = self.seats.iter().position(|seat| seat.node == node);
        // Nothing was taken since the queue was stopped: who sat then holds everything.
        let Some(at) = seat.filter(|_| self.is_running()) else {
            return Some(self.clone());
        };
        if self.seats.len() > 1 {
            next.seats.remove(at);
            if at == 0 {
                next.led_since = next.epoch;
            }
            next.remember(node);
            if at == 0 && breaks(Mutant::PromoteCatchingUp) && !next.catching_up.is_empty() {
                let since = next.epoch;
                next.seats.insert(0, Seat { node: next.catching_up.remove(0), since });
            }
            return Some(next);
        }
        match self.catching_up.first() {
            Some(first) if then.promotes => next.promote_uncleanly(*first),
            _ if then.durable && !breaks(Mutant::EndUnsynced) => next.status = ViewStatus::Stopped,
            _ => return None,
        }
        Some(next)
    }

    /// The next view, after a node has come back: a stopped queue whose list has it runs again.
    pub(super) fn with(&self, node: NodeId, is_up: impl Fn(NodeId) -> bool) -> Option<View> {
        if self.is_running() || breaks(Mutant::StayStopped) {
            return None;
        }
        let mut next = self.next();
        if breaks(Mutant::PromoteWhoeverReturns) {
            next.promote_uncleanly(node);
            return Some(next);
        }
        next.take_seat(node, is_up).then_some(next)
    }

    /// Keeps in mind that a node went down with a copy.
    fn remember(&mut self, node: NodeId) {
        if !self.old.contains(&node) && !self.recoverable.contains(&node) {
            self.recoverable.push(node);
        }
    }
}

/// Removes a node from a list; whether it was there.
pub(super) fn remove(nodes: &mut Vec<NodeId>, node: NodeId) -> bool {
    match nodes.iter().position(|other| *other == node) {
        Some(at) => {
            nodes.remove(at);
            true
        }
        None => false,
    }
}
