//! Copies what is live in some files into new segments, a little at a time, so that the old files
//! can be given up.
//!
//! The victims are closed: nothing is added to them, messages in them only die. So what is live in
//! them at the end is a part of what was copied, and `finish` keeps exactly that part. Until the
//! next checkpoint is durable the copies count for nothing and the victims stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::files::Files;
use crate::index::{Entry, Extent, FileId, Index, Live, Queue};
use crate::read;
use crate::segment::{self, SegmentInfo, SegmentWriter};
use crate::types::{Mutant, QueueKey};
use crate::wal::Wal;

/// Messages looked up at once.
const BATCH_MESSAGES: usize = 16 << 10;

/// A copy under way.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) victims: BTreeSet<FileId>,
    /// Whether the victims, and so the new files, hold transient messages.
    transient: bool,
    /// Queues with messages in the victims, those done first.
    queues: Vec<QueueKey>,
    done: usize,
    /// Where to go on in the queue being copied; `None` after the highest sequence there is.
    from: Option<u64>,
    writer: Option<SegmentWriter>,
    finished: Vec<(SegmentInfo, Vec<(QueueKey, Extent)>)>,
    next_number: u32,
    segment_bytes: u64,
}

impl Copy {
    /// Plans to copy the live messages of `victims` into files numbered from `next_number` on.
    pub(crate) fn plan(
        victims: BTreeSet<FileId>,
        index: &Index,
        next_number: u32,
        segment_bytes: u64,
    ) -> Copy {
        let transient = victims
            .iter()
            .any(|file| matches!(file, FileId::Transient(_)));
        let has = |queue: &Queue| queue.extents().iter().any(|one| victims.contains(&one.file));
        let queues = index
            .queues
            .iter()
            .filter(|(_, queue)| has(queue));
        let queues = queues.map(|(key, _)| *key).collect();
        Copy {
            victims,
            transient,
            queues,
            done: 0,
            from: Some(0),
            writer: None,
            finished: Vec::new(),
            next_number,
            segment_bytes,
        }
    }

    /// Numbers from here on are unused.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.transient
    }

    /// Copies about `budget` bytes; true once everything is copied and synced.
    pub(crate) fn step<D: Disk>(
        &mut self,
        budget: u64,
        index: &Index,
        wal: &Wal,
        files: &mut Files<D>,
    ) -> Result<bool, StoreError> {
        let mut left = budget.max(1);
        while left > 0 && self.done < self.queues.len() {
            let key = self.queues[self.done];
            let entries = self.entries(key, left, index);
            let Some((_, last)) = entries.last() else {
                self.done += 1;
                self.from = Some(0);
                continue;
            };
            self.from = last.seq.checked_add(1);
            let records = read::records(key, &entries, wal, files)?;
            for ((_, entry), record) in entries.iter().zip(&records) {
                self.write(key, entry.seq, record, files)?;
                left = left.saturating_sub(record.len() as u64);
            }
        }
        if self.done < self.queues.len() {
            if let Some(writer) = &mut self.writer {
                writer.settle(files)?;
            }
            return Ok(false);
        }
        self.close(files)?;
        if !self.transient && !self.finished.is_empty() {
            files.sync_directory(segment::DIRECTORY)?;
        }
        Ok(true)
    }

    /// The next live messages of a queue in the victims.
    fn entries(&self, key: QueueKey, budget: u64, index: &Index) -> Vec<(FileId, Entry)> {
        let mut entries = Vec::new();
        let (Some(queue), Some(from)) = (index.queues.get(&key), self.from) else {
            return entries;
        };
        let mut bytes = 0;
        let victims = queue
            .extents()
            .iter()
            .filter(|one| self.victims.contains(&one.file));
        for extent in victims.filter(|extent| extent.last() >= from) {
            for entry in extent.live_from(from) {
                bytes += u64::from(entry.end() - entry.offset);
                entries.push((extent.file, entry));
                if bytes >= budget || entries.len() >= BATCH_MESSAGES {
                    return entries;
                }
            }
        }
        entries
    }

    fn write<D: Disk>(
        &mut self,
        key: QueueKey,
        seq: u64,
        record: &[u8],
        files: &mut Files<D>,
    ) -> Result<(), StoreError> {
        if let Some(writer) = &self.writer
            && writer.record_bytes() + record.len() as u64 > self.segment_bytes
        {
            self.close(files)?;
        }
        if self.writer.is_none() {
            let id = self.id(self.next_number);
            self.writer = Some(SegmentWriter::create(id, files)?);
            self.next_number += 1;
        }
        let writer = self.writer.as_mut().expect("made above");
        writer.push(key, seq, record, files)
    }

    fn id(&self, number: u32) -> FileId {
        if self.transient {
            FileId::Transient(number)
        } else {
            FileId::Segment(number)
        }
    }

    /// Ends the file being written.
    fn close<D: Disk>(&mut self, files: &mut Files<D>) -> Result<(), StoreError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let sync = !self.transient && !files.mutant(Mutant::RecycleBeforeSegmentSync);
        let info = writer.finish(sync, files)?;
        let extents = std::mem::take(&mut writer.extents);
        self.writer = None;
        self.finished.push((info, extents));
        Ok(())
    }

    /// Removes what was written. Called when there is no room to go on.
    pub(crate) fn abandon<D: Disk>(self, files: &mut Files<D>) -> Result<(), StoreError> {
        let finished = self.finished.iter().map(|(info, _)| self.id(info.number));
        for id in finished.chain(self.writer.as_ref().map(SegmentWriter::id)) {
            files.remove(id)?;
        }
        Ok(())
    }

    /// Points the index at the copies and says which files they are.
    pub(crate) fn finish(self, index: &mut Index) -> Vec<SegmentInfo> {
        let mut infos = Vec::new();
        let mut copies: BTreeMap<QueueKey, Vec<Extent>> = BTreeMap::new();
        for (info, extents) in self.finished {
            infos.push(info);
            for (key, extent) in extents {
                copies.entry(key).or_default().push(extent);
            }
        }
        for key in self.queues {
            let Some(queue) = index.queues.get_mut(&key) else {
                continue;
            };
            let taken = queue.take(|file| self.victims.contains(&file));
            let mut live = Live::default();
            for extent in &taken {
                live.add(extent.live);
                index.live.subtract(extent.file, extent.live);
            }
            let mut copied = copies.remove(&key).unwrap_or_default();
            drop_dead(&mut copied, &taken, live);
            for extent in copied {
                index.live.add(extent.file, extent.live);
                queue.insert(extent);
            }
        }
        infos
    }
}

/// Marks those copies dead whose original died since it was copied.
fn drop_dead(copied: &mut [Extent], originals: &[Extent], live: Live) {
    let total = |copied: &[Extent]| copied.iter().map(|one| one.live.messages).sum::<u64>();
    if total(copied) != live.messages {
        let mut runs: Vec<(u64, u64)> = originals.iter().flat_map(Extent::live_runs).collect();
        runs.sort_unstable();
        copied.iter_mut().for_each(|extent| extent.keep_runs(&runs));
    }
    assert_eq!(
        total(copied),
        live.messages,
        "a live message was not copied"
    );
}
