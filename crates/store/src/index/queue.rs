//! The extents of one queue, and changes to them.
//!
//! Sequences normally rise, so that the last extent takes the next message. They need not: a mirror
//! that is being synchronized stores new messages before old ones, and of a queue with persistent and
//! transient messages each kind has files of its own, so that the one falls between the other. A message
//! within an extent of another file splits it, at the cost of one block. Longer extents that overlap are
//! taken apart (`merge`), which costs as much as they are long.

use std::collections::VecDeque;

use super::{Entry, Extent, FileId, Live, LiveByFile};
use crate::types::{QueueCounts, Seq};

/// What is stored for one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// One above the highest sequence enqueued.
    pub(crate) next: u64,
    pub(crate) live: Live,
    extents: VecDeque<Extent>,
}

impl Queue {
    /// A queue without messages whose next sequence is known.
    pub(crate) fn with_next(next: u64) -> Queue {
        Queue {
            next,
            ..Queue::default()
        }
    }

    /// Stores a message. One with the same sequence is replaced.
    pub(crate) fn enqueue(&mut self, file: FileId, entry: Entry, live: &mut LiveByFile) {
        let added = Live {
            messages: 1,
            bytes: u64::from(entry.size),
        };
        if let Some(extent) = self.extents.back_mut()
            && extent.takes(file, &entry)
        {
            extent.push(entry);
            self.live.add(added);
        } else {
            self.remove(entry.seq, entry.seq, live);
            // An extent may begin or end with a dead entry of this sequence; then they are merged.
            let before = self
                .extents
                .partition_point(|extent| extent.first() <= entry.seq);
            match before.checked_sub(1).map(|n| &mut self.extents[n]) {
                Some(extent) if extent.takes(file, &entry) => {
                    extent.push(entry);
                    self.live.add(added);
                }
                _ => self.insert(Extent::new(file, entry)),
            }
        }
        live.add(file, added);
        self.next = self.next.max(entry.seq.saturating_add(1));
    }

    /// Adds an extent none of whose live sequences is live here already. The caller counts its
    /// file.
    pub(crate) fn insert(&mut self, extent: Extent) {
        if extent.live.messages == 0 {
            return;
        }
        self.live.add(extent.live);
        let start = self
            .extents
            .partition_point(|other| other.last() < extent.first());
        let end = self
            .extents
            .partition_point(|other| other.first() <= extent.last());
        if start >= end {
            self.extents.insert(start, extent);
            return;
        }
        if extent.first() == extent.last()
            && let Some(other) = self.extents.remove(start)
        {
            let [before, after] = other.split(extent.first());
            for part in [after, Some(extent), before].into_iter().flatten() {
                self.extents.insert(start, part);
            }
            return;
        }
        let mut overlapping: Vec<Extent> = self.extents.drain(start..end).collect();
        overlapping.push(extent);
        for (place, part) in (start..).zip(merge(&overlapping)) {
            self.extents.insert(place, part);
        }
    }

    /// Removes the messages from `first` to `last`.
    pub(crate) fn remove(&mut self, first: u64, last: u64, live: &mut LiveByFile) {
        let start = self.extents.partition_point(|extent| extent.last() < first);
        // Those that end up empty lie side by side: only at its ends does a range leave something.
        let mut emptied = start..start;
        for (place, extent) in (start..).zip(self.extents.range_mut(start..)) {
            if extent.first() > last {
                break;
            }
            let gone = if first <= extent.first() && extent.last() <= last {
                std::mem::take(&mut extent.live)
            } else {
                extent.remove(first, last)
            };
            self.live.subtract(gone);
            live.subtract(extent.file, gone);
            if extent.live.messages == 0 {
                emptied = if emptied.is_empty() { place..place + 1 } else { emptied.start..place + 1 };
            }
        }
        if !emptied.is_empty() {
            self.extents.drain(emptied);
        }
    }

    /// Takes out the extents that `wanted` names by their file. The caller counts the files.
    pub(crate) fn take(&mut self, wanted: impl Fn(FileId) -> bool) -> Vec<Extent> {
        let (taken, kept): (Vec<Extent>, Vec<Extent>) = std::mem::take(&mut self.extents)
            .into_iter()
            .partition(|extent| wanted(extent.file));
        self.extents = kept.into();
        for extent in &taken {
            self.live.subtract(extent.live);
        }
        taken
    }

    pub(crate) fn extents(&self) -> &VecDeque<Extent> {
        &self.extents
    }

    /// Live entries from `from` on by rising sequence, each with its file.
    pub(crate) fn live_from(&self, from: u64) -> impl Iterator<Item = (FileId, Entry)> + '_ {
        let start = self.extents.partition_point(|extent| extent.last() < from);
        self.extents
            .range(start..)
            .flat_map(move |extent| extent.live_from(from).map(|entry| (extent.file, entry)))
    }

    pub(crate) fn counts(&self) -> QueueCounts {
        QueueCounts {
            first: self.live_from(0).next().map(|(_, entry)| Seq(entry.seq)),
            next: Seq(self.next),
            messages: self.live.messages,
            bytes: self.live.bytes,
        }
    }

    pub(crate) fn memory(&self) -> u64 {
        let spare = (self.extents.capacity() - self.extents.len()) * size_of::<Extent>();
        self.extents.iter().map(Extent::memory).sum::<u64>() + spare as u64
    }
}

/// Builds extents that do not overlap from extents that do. Dead entries are left out.
fn merge(extents: &[Extent]) -> Vec<Extent> {
    let mut entries: Vec<(FileId, Entry)> = extents
        .iter()
        .flat_map(|extent| extent.live_from(0).map(|entry| (extent.file, entry)))
        .collect();
    entries.sort_by_key(|(_, entry)| entry.seq);
    let mut merged: Vec<Extent> = Vec::new();
    for (file, entry) in entries {
        match merged.last_mut() {
            Some(extent) if extent.takes(file, &entry) => extent.push(entry),
            _ => merged.push(Extent::partial(file, entry)),
        }
    }
    merged
}
