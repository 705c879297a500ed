//! Agents in small: each publishes rising numbers, keeps what is not reported, and sends it again to
//! whoever leads next; and what a queue does with that.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::ConnectionId;
use crate::mirror::operation::Sessions;
use crate::queue::Session;

#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) last: u64,
    pub(super) unreported: BTreeSet<u64>,
    /// The term of the leader that it knows.
    pub(super) led_since: u64,
    /// The leader's life that has been sent everything unreported.
    pub(super) knows: u64,
}

impl Publisher {
    /// What goes to this life of a leader next: what it was not sent, and something new.
    pub(super) fn send(&mut self, life: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = Vec::new();
        if std::mem::replace(&mut self.knows, life) != life {
            numbers.extend(&self.unreported);
        }
        self.last += 1;
        self.unreported.insert(self.last);
        numbers.push(self.last);
        numbers
    }

    pub(super) fn settled(&self) -> u64 {
        self.unreported.first().map_or(self.last, |first| first - 1)
    }

    pub(super) fn report(&mut self, number: u64) {
        self.unreported.remove(&number);
    }
}

/// What a batch of the queue did, beside what is on disk.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) messages: Vec<u64>,
    pub(super) removed: Vec<u64>,
    /// Publishes that are safe when this is complete.
    pub(super) reports: Vec<(u64, u64)>,
}

/// A leader's queue, as far as publishers notice.
#[derive(Debug, Default)]
pub(super) struct Taking {
    pub(super) sessions: Sessions,
    pub(super) written: BTreeMap<u64, Written>,
    pub(super) next_seq: u64,
    pub(super) ticket: u64,
    /// Which leader this is; every one has a number of its own.
    pub(super) life: u64,
}

impl Taking {
    /// Whether a number is new here; `refuse` if it should not be taken. Reports say whether it was.
    pub(super) fn takes(&mut self, publisher: u64, settled: u64, number: u64, refuse: bool, reports: &mut Vec<(u64, u64, bool)>) -> bool {
        let session: &mut Session = self.sessions.entry(ConnectionId(publisher)).or_default();
        session.refused = session.refused.split_off(&(settled + 1));
        if number <= session.last {
            reports.push((publisher, number, !session.refused.contains(&number)));
            return false;
        }
        session.last = number;
        if refuse {
            session.refused.insert(number);
        }
        reports.push((publisher, number, !refuse));
        !refuse
    }
}
