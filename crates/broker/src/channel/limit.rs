//! The global limit of a channel (`basic.qos` with `global`): how many deliveries to all its consumers
//! together may be unsettled.
//!
//! Queues deliver without asking. What comes above the limit goes back unseen, and the queue then waits in
//! line. A place that becomes free is kept for the first in line, so that each queue has its turn:
//!
//! ```text
//!              refused              room: Resume            Resumed
//!   delivers ----------> in line -------------------> turn ---------> delivers
//!                           ^          refused again    |
//!                           +---------------------------+
//! ```
//!
//! A queue answers each `Resume` with `Resumed`, also when it has nothing left or is gone, so that no place
//! stays reserved. Deliveries without acknowledgement take no place, but wait as long as there is none.
//! What a transaction settles keeps its place until the commit; messages from `basic.get` never have one.

use std::collections::VecDeque;

use store::Seq;

use super::{Channel, NO_CONSUMER, Scope};
use crate::id::QueueId;
use crate::queue::QueueEvent;

/// Queues that were sent something back.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: VecDeque<QueueId>,
    /// Queues that have been given room and have not answered; a place is reserved for each.
    given: Vec<QueueId>,
}

impl Channel {
    /// How many deliveries may be unsettled when one of this queue is taken.
    pub(super) fn room_for(&self, queue: QueueId) -> usize {
        if self.global_prefetch == 0 {
            return usize::MAX;
        }
        let others = self.turns.given.iter().filter(|given| **given != queue).count();
        usize::from(self.global_prefetch).saturating_sub(others)
    }

    /// Deliveries above the limit go back, unseen.
    pub(super) fn send_back(&mut self, scope: &mut Scope<'_>, queue: QueueId, seqs: Vec<Seq>) {
        scope.fx.tell(queue, QueueEvent::Surplus { channel: self.key, seqs });
        if !self.turns.line.contains(&queue) {
            self.turns.line.push_back(queue);
        }
        self.give_turns(scope);
    }

    /// A delivery is settled for good.
    #[inline]
    pub(super) fn uncount(&mut self, consumer: u32) {
        self.limited -= usize::from(consumer != NO_CONSUMER);
    }

    /// Queues in line may deliver again, as far as there is room.
    pub(super) fn give_turns(&mut self, scope: &mut Scope<'_>) {
        let limit = usize::from(self.global_prefetch);
        while limit == 0 || self.limited + self.turns.given.len() < limit {
            let Some(queue) = self.turns.line.pop_front() else { return };
            if limit > 0 && !self.turns.given.contains(&queue) {
                self.turns.given.push(queue);
            }
            scope.fx.tell(queue, QueueEvent::Resume { channel: self.key });
        }
    }

    /// The queue has had its turn.
    pub(super) fn resumed(&mut self, scope: &mut Scope<'_>, queue: QueueId) {
        self.turns.given.retain(|given| *given != queue);
        self.give_turns(scope);
    }
}
