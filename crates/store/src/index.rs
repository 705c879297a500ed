//! Where every message is, in few bytes each.
//!
//! A queue is a list of extents. An extent names the messages of one queue in one file, by rising
//! sequence and rising offset. Invariants:
//! - the sequence ranges of a queue's extents do not overlap, and the list is sorted;
//! - every extent has a live message;
//! - `live` counts, for every file, exactly the live messages that extents point at in it.

mod block;
mod extent;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::batch::MESSAGE_BYTES;
use crate::change::{self, Change, Malformed};
use crate::types::{QueueCounts, QueueKey};

pub(crate) use extent::Extent;
pub(crate) use queue::Queue;

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileId {
    /// A file of the write-ahead log.
    Wal(u32),
    /// A file that is being filled with zeros, to become a file of the log.
    Spare,
    /// A segment that survives a restart.
    Segment(u32),
    /// A file of paged-out transient messages.
    Transient(u32),
    /// The root of everything but the log.
    Checkpoint(u32),
    /// A checkpoint that is being written.
    NewCheckpoint,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileId::Wal(number) => write!(f, "wal/{number:08}.log"),
            FileId::Spare => write!(f, "wal/spare.tmp"),
            FileId::Segment(number) => write!(f, "segment/{number:08}.seg"),
            FileId::Transient(number) => write!(f, "transient/{number:08}.seg"),
            FileId::Checkpoint(number) => write!(f, "checkpoint/{number:08}.ckpt"),
            FileId::NewCheckpoint => write!(f, "checkpoint/new.tmp"),
        }
    }
}

/// One message: what the index knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// Where its record starts, the length and checksum included.
    pub(crate) offset: u32,
    /// Payload bytes.
    pub(crate) size: u32,
}

impl Entry {
    /// Where the record ends.
    pub(crate) fn end(&self) -> u32 {
        self.offset + MESSAGE_BYTES as u32 + self.size
    }
}

/// Live messages and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Live {
    pub(crate) fn add(&mut self, other: Live) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// Bytes of the records of these messages.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.bytes + self.messages * MESSAGE_BYTES as u64
    }

    pub(crate) fn subtract(&mut self, other: Live) {
        assert!(
            self.messages >= other.messages && self.bytes >= other.bytes,
            "counted twice"
        );
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

/// Live messages by the file they are in. A file without any has no entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveByFile {
    files: BTreeMap<FileId, Live>,
    /// Bytes removed from segments since somebody looked which of them may be given up.
    pub(crate) unsurveyed: u64,
}

impl LiveByFile {
    pub(crate) fn get(&self, file: FileId) -> Live {
        self.files.get(&file).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, file: FileId, live: Live) {
        if live.messages > 0 {
            self.files.entry(file).or_default().add(live);
        }
    }

    pub(crate) fn subtract(&mut self, file: FileId, live: Live) {
        if live.messages == 0 {
            return;
        }
        let left = self
            .files
            .get_mut(&file)
            .expect("a counted file has an entry");
        left.subtract(live);
        let empty = left.messages == 0;
        if empty {
            self.files.remove(&file);
        }
        if !matches!(file, FileId::Wal(_)) {
            let bytes = if empty { u64::MAX } else { live.record_bytes() };
            self.unsurveyed = self.unsurveyed.saturating_add(bytes);
        }
    }
}

/// All queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) queues: BTreeMap<QueueKey, Queue>,
    pub(crate) live: LiveByFile,
}

impl Index {
    /// Applies the changes in `body`, whose first byte lies at `base` of `file`.
    pub(crate) fn apply(&mut self, body: &[u8], file: FileId, base: u32) -> Result<(), Malformed> {
        change::walk(body, |change, sizes| match change {
            Change::Enqueue {
                queue,
                first,
                offset,
                ..
            } => {
                let queue = self.queues.entry(queue).or_default();
                let mut entry = Entry {
                    seq: first.0,
                    offset: base + offset as u32,
                    size: 0,
                };
                for size in sizes {
                    entry.size = size;
                    queue.enqueue(file, entry, &mut self.live);
                    entry.offset = entry.end();
                    entry.seq = entry.seq.wrapping_add(1);
                }
            }
            Change::Remove { queue, first, last } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.remove(first.0, last.0, &mut self.live);
                }
            }
            Change::Forget { queue } => {
                if let Some(mut queue) = self.queues.remove(&queue) {
                    queue.remove(0, u64::MAX, &mut self.live);
                }
            }
        })
    }

    pub(crate) fn counts(&self, key: QueueKey) -> QueueCounts {
        self.queues.get(&key).map(Queue::counts).unwrap_or_default()
    }

    /// Bytes of memory the index takes, allocator overhead left out.
    pub(crate) fn memory(&self) -> u64 {
        let node = size_of::<(QueueKey, Queue)>() as u64;
        self.queues
            .values()
            .map(|queue| node + queue.memory())
            .sum()
    }
}
