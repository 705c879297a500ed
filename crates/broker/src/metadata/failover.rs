//! What becomes of queues when a node goes, comes back, or is given up; and single steps of one view.
//!
//! A node that goes is one command, however many queues stood there. Each of them is looked at once,
//! found through [`super::seating::Seating`].

use std::sync::Arc;

use cluster::metadata_log::NodeId;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Outcome, Refusal};
use super::mirroring::Mirroring;
use super::queue::describe;
use super::tables::Queue;
use super::view::{Bereaved, View, ViewChange, ViewStatus, remove};
use crate::id::{ConnectionId, Name, QueueId};
use crate::mutant::{Mutant, breaks};

/// How many queues a refusal names.
const NAMED_MAX: usize = 100;

/// How a life of a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    Stopped,
    Crashed,
    /// Nobody had noticed that it was gone when its next life began.
    Returning,
}

impl Metadata {
    pub(super) fn change_view(
        &mut self,
        id: QueueId,
        epoch: u64,
        change: ViewChange,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let queue = self.tables.queues.get(&id).ok_or(Refusal::QueueGone(id))?;
        if queue.view.epoch != epoch && !breaks(Mutant::ChangeAnyView) {
            let epoch = queue.view.epoch;
            return Err(Refusal::StaleView { epoch });
        }
        if queue.exclusive.is_some() && matches!(change, ViewChange::AddMirror(_)) {
            return Err(Refusal::Invalid(
                "exclusive queues are not mirrored".to_owned(),
            ));
        }
        if let ViewChange::AddMirror(node) = change
            && self
                .tables
                .nodes
                .get(node)
                .is_some_and(|node| !node.holds_queues())
        {
            return Err(Refusal::Invalid("a witness holds no queues".to_owned()));
        }
        let next = queue
            .view
            .changed(change, |node| self.tables.nodes.is_up(node));
        let next = next.map_err(|why| {
            let queue = describe(&queue.vhost, &queue.name);
            Refusal::Invalid(format!("the view of {queue} stays: {why}"))
        })?;
        let (queue, epoch) = (Arc::clone(queue), next.epoch);
        self.set_view(&queue, next, changes);
        Ok(Outcome::Viewed { epoch })
    }

    /// A node went: exclusive queues of its clients end, and every queue that stood there moves on.
    pub(super) fn queues_leave(&mut self, node: NodeId, how: Leaving, changes: &mut Vec<Change>) {
        self.end_exclusive_queues(node, changes);
        for queue in self.queues_at(node) {
            let promotes = |mirroring: &Mirroring| match how {
                Leaving::Stopped => {
                    mirroring.promotes_uncleanly(true) || breaks(Mutant::PromoteAtStop)
                }
                Leaving::Crashed => mirroring.promotes_uncleanly(false),
                // It is here again and holds everything, except what ends with its life.
                Leaving::Returning => mirroring.promotes_uncleanly(false) && !queue.durable,
            };
            let then = Bereaved {
                promotes: queue.mirroring.as_deref().is_some_and(promotes),
                durable: queue.durable,
            };
            match queue.view.without(node, then) {
                None => self.remove_queue(&queue, changes),
                Some(next) if next.epoch == queue.view.epoch => {}
                Some(next) => self.set_view(&queue, next, changes),
            }
        }
    }

    /// A node is back: stopped queues that it holds completely run again.
    pub(super) fn queues_return(&mut self, node: NodeId, changes: &mut Vec<Change>) {
        for queue in self.queues_at(node) {
            let next = queue
                .view
                .with(node, |other| self.tables.nodes.is_up(other));
            if let Some(next) = next {
                self.set_view(&queue, next, changes);
            }
        }
    }

    /// A node is given up with everything on it. Queues that had their last copy in sync there are
    /// taken up by the next best copy, at once or when its node comes back; without one they end.
    pub(super) fn queues_are_lost(&mut self, node: NodeId, changes: &mut Vec<Change>) {
        for queue in self.queues_at(node) {
            match self.given_up(&queue.view, node) {
                Some(next) => self.set_view(&queue, next, changes),
                None => self.remove_queue(&queue, changes),
            }
        }
    }

    fn given_up(&self, view: &View, node: NodeId) -> Option<View> {
        let mut next = view.next();
        remove(&mut next.old, node);
        remove(&mut next.recoverable, node);
        remove(&mut next.catching_up, node);
        if !next.is_in_sync(node) {
            return Some(next);
        }
        if next.seats.len() > 1 {
            next.seats.retain(|seat| seat.node != node);
            return Some(next);
        }
        let up = |nodes: &[NodeId]| {
            let mut nodes = nodes.iter().copied();
            nodes.find(|other| self.tables.nodes.is_up(*other))
        };
        let heir = next.catching_up.first().copied();
        let heir = heir.or_else(|| up(&next.recoverable));
        let heir = heir.or_else(|| next.recoverable.first().copied());
        let heir = heir
            .or_else(|| up(&next.old))
            .or_else(|| next.old.first().copied())?;
        next.promote_uncleanly(heir);
        remove(&mut next.old, node);
        if !self.tables.nodes.is_up(heir) {
            next.status = ViewStatus::Stopped;
        }
        Some(next)
    }

    /// Refuses if a node has the last copy in sync of some queue.
    pub(super) fn refuse_last_copies(&self, node: NodeId) -> Result<(), Refusal> {
        let queues = self.queues_at(node);
        let last = queues
            .iter()
            .filter(|queue| queue.view.leader() == node && queue.view.seats.len() == 1);
        let names: Vec<String> = last.map(|q| describe(&q.vhost, &q.name)).collect();
        match names.len() as u64 {
            0 => Ok(()),
            total => Err(Refusal::LastCopies {
                queues: names.into_iter().take(NAMED_MAX).collect(),
                total,
            }),
        }
    }

    /// The queues of which a node holds a copy. Taken out of the tables, to be changed one by one.
    fn queues_at(&self, node: NodeId) -> Vec<Arc<Queue>> {
        let tables = &self.tables;
        let ids = tables.seating.queues(node);
        ids.filter_map(|id| tables.queues.get(&id).map(Arc::clone))
            .collect()
    }

    /// Exclusive queues end with the node that their owner was connected to, wherever they stand.
    fn end_exclusive_queues(&mut self, node: NodeId, changes: &mut Vec<Change>) {
        if breaks(Mutant::KeepExclusive) {
            return;
        }
        let first = (ConnectionId::of(node, 0, 0), QueueId(0));
        let last = ConnectionId::of(node, u64::MAX, u64::MAX);
        let owned = self.exclusive.range(first..=(last, QueueId(u64::MAX)));
        let owned: Vec<QueueId> = owned.map(|(_, queue)| *queue).collect();
        for id in owned {
            if let Some(queue) = self.tables.queues.get(&id).map(Arc::clone) {
                self.remove_queue(&queue, changes);
            }
        }
    }

    /// Replaces the view of a queue, here and wherever it is kept in mind.
    pub(super) fn set_view(&mut self, queue: &Queue, mut view: View, changes: &mut Vec<Change>) {
        view.mirrored = is_mirrored(queue, &view);
        let next = queue.with_view(view);
        self.tables_mut()
            .seating
            .replace(queue.id, &queue.view, &next.view);
        let next = Arc::new(next);
        let (vhost, queues) = self.vhost_and_queues_mut(&queue.vhost);
        let name = Name::clone(&queue.name);
        vhost.queues.insert_mut(name, Arc::clone(&next));
        queues.insert_mut(queue.id, next);
        changes.push(Change::ViewChanged(queue.id));
    }
}

/// Whether a queue runs as a mirrored one: while a policy asks for it, and until its mirrors are gone.
pub(super) fn is_mirrored(queue: &Queue, view: &View) -> bool {
    queue.mirroring.is_some() || view.seats.len() > 1 || !view.catching_up.is_empty()
}
