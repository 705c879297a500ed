//! What a node's store holds, and how much of it a crash leaves: batches are appended in order and synced
//! later, and of those that are not synced a crash keeps the first few.

use std::collections::{BTreeMap, VecDeque};

use store::{Batch, Seq};

use super::super::{Report, Runs};
use crate::queue::key_owner;

/// A message's place, and which message it is: no two messages of a life have the same number.
type Contents = BTreeMap<(u8, u64), u64>;

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// With everything that was appended.
    pub(super) live: Contents,
    /// What a crash leaves at least.
    pub(super) synced: Contents,
    unsynced: VecDeque<(Change, Report)>,
}

#[derive(Debug)]
struct Change {
    messages: Vec<((u8, u64), u64)>,
    removals: Vec<(u8, u64, u64)>,
}

impl Change {
    fn apply(&self, to: &mut Contents) {
        to.extend(self.messages.iter().copied());
        for (level, first, last) in &self.removals {
            let gone: Vec<_> = to.range((*level, *first)..=(*level, *last)).map(|(place, _)| *place).collect();
            for place in gone {
                to.remove(&place);
            }
        }
    }
}

impl Disk {
    /// `uid` tells which message a batch has at a place: its payload.
    pub(super) fn append(&mut self, batch: &Batch, report: Report, uid: impl Fn(u8, u64) -> u64) {
        let level = |key| key_owner(key).1.expect("replicas write levels only");
        let messages = batch.messages().map(|(key, seq)| ((level(key), seq.0), uid(level(key), seq.0)));
        let mut removals = Vec::new();
        batch.removals(|key, first, last| removals.push((level(key), first.0, last.0)));
        let change = Change { messages: messages.collect(), removals };
        change.apply(&mut self.live);
        self.unsynced.push_back((change, report));
    }

    /// Makes the first few batches durable.
    pub(super) fn sync(&mut self, count: usize) -> Vec<Report> {
        let count = count.min(self.unsynced.len());
        let done = self.unsynced.drain(..count).map(|(change, report)| {
            change.apply(&mut self.synced);
            report
        });
        done.collect()
    }

    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The node dies, and this many of the batches that were not synced are there all the same.
    pub(super) fn crash(&mut self, kept: usize) {
        self.sync(kept);
        self.unsynced.clear();
        self.live = self.synced.clone();
    }

    /// The sequences by level, as a survey of the store gives them.
    pub(super) fn survey(&self, levels: u8) -> Vec<(u8, Runs)> {
        let of = |level| self.live.range((level, 0)..=(level, u64::MAX)).map(|((_, seq), _)| (Seq(*seq), Seq(*seq)));
        (0..levels).map(|level| (level, Runs::new(of(level)))).collect()
    }

    /// The sequence after the last that is there.
    pub(super) fn next(&self) -> u64 {
        self.live.keys().map(|(_, seq)| seq + 1).max().unwrap_or(1)
    }
}
