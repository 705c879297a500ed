//! A batch of changes, encoded by the queue's own thread so that the log thread only writes.
//!
//! The encoding is the body of a log envelope (`docs/formats/log.md`). Enqueues of one queue with
//! rising sequences that follow each other share one group header, so that a small message costs 8
//! bytes beside its payload. Invariant: the bytes of a batch always decode to exactly the calls
//! made, in their order.

use crate::change::Change;
use crate::types::{QueueKey, Seq};

pub(crate) const KIND_ENQUEUE: u8 = 1;
pub(crate) const KIND_REMOVE: u8 = 2;
pub(crate) const KIND_FORGET: u8 = 3;

/// Bytes before each payload: its length and its checksum.
pub(crate) const MESSAGE_BYTES: usize = 4 + 4;

/// The group of enqueues that the next one may join.
#[derive(Clone, Copy, Debug)]
struct OpenGroup {
    queue: QueueKey,
    next: u64,
    count: u32,
    /// Where the count stands in the bytes.
    count_at: usize,
}

/// Changes that become durable together or, after a crash, not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    group: Option<OpenGroup>,
    enqueues: u64,
    /// Changes that are no messages.
    others: u64,
    first: Option<Seq>,
    checksum: Option<u32>,
}

/// A place in a batch to go back to, see [`Batch::retract`].
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    enqueues: u64,
    others: u64,
    first: Option<Seq>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a message whose payload is the pieces one after the other.
    pub fn enqueue(&mut self, queue: QueueKey, seq: Seq, payload: &[&[u8]]) {
        self.checksum = None;
        self.enqueues += 1;
        self.first.get_or_insert(seq);
        self.join_group(queue, seq);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; MESSAGE_BYTES]);
        for piece in payload {
            self.bytes.extend_from_slice(piece);
        }
        let payload_at = start + MESSAGE_BYTES;
        let len = u32::try_from(self.bytes.len() - payload_at).expect("a payload is below 4 GiB");
        let checksum = message_checksum(queue, seq, &self.bytes[payload_at..]);
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.bytes[start + 4..payload_at].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Counts the message into the open group, or opens one.
    fn join_group(&mut self, queue: QueueKey, seq: Seq) {
        if let Some(group) = &mut self.group
            && group.queue == queue
            && group.next == seq.0
        {
            group.next = seq.0.wrapping_add(1);
            group.count += 1;
            self.bytes[group.count_at..group.count_at + 4]
                .copy_from_slice(&group.count.to_le_bytes());
            return;
        }
        self.bytes.push(KIND_ENQUEUE);
        self.bytes.extend_from_slice(&queue.0.to_le_bytes());
        self.bytes.extend_from_slice(&seq.0.to_le_bytes());
        let count_at = self.bytes.len();
        self.bytes.extend_from_slice(&1_u32.to_le_bytes());
        self.group = Some(OpenGroup {
            queue,
            next: seq.0.wrapping_add(1),
            count: 1,
            count_at,
        });
    }

    /// Removes the messages whose sequences lie in the runs; both ends of a run belong to it. A
    /// sequence without a message is no mistake.
    pub fn remove(&mut self, queue: QueueKey, runs: &[(Seq, Seq)]) {
        if runs.is_empty() {
            return;
        }
        self.checksum = None;
        self.group = None;
        self.others += 1;
        self.bytes.push(KIND_REMOVE);
        self.bytes.extend_from_slice(&queue.0.to_le_bytes());
        let count = u32::try_from(runs.len()).expect("fewer than 2^32 runs in a batch");
        self.bytes.extend_from_slice(&count.to_le_bytes());
        for (first, last) in runs {
            self.bytes.extend_from_slice(&first.0.to_le_bytes());
            self.bytes.extend_from_slice(&last.0.to_le_bytes());
        }
    }

    /// Removes a queue with everything stored for it. Its key may be used anew afterwards.
    pub fn forget(&mut self, queue: QueueKey) {
        self.checksum = None;
        self.group = None;
        self.others += 1;
        self.bytes.push(KIND_FORGET);
        self.bytes.extend_from_slice(&queue.0.to_le_bytes());
    }

    /// The place behind what was added so far.
    pub fn mark(&mut self) -> Mark {
        self.group = None;
        Mark { bytes: self.bytes.len(), enqueues: self.enqueues, others: self.others, first: self.first }
    }

    /// Takes back what was added since `mark`, if that is `messages` messages and nothing else; otherwise
    /// nothing is changed, and the answer false.
    pub fn retract(&mut self, mark: Mark, messages: u64) -> bool {
        if self.enqueues != mark.enqueues + messages || self.others != mark.others {
            return false;
        }
        self.checksum = None;
        self.group = None;
        self.bytes.truncate(mark.bytes);
        self.enqueues = mark.enqueues;
        self.first = mark.first;
        true
    }

    /// True if nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes this batch will take in the log.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of `enqueue` calls.
    #[must_use]
    pub fn enqueues(&self) -> u64 {
        self.enqueues
    }

    /// The sequence of the first message added.
    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.first
    }

    /// Makes the batch empty and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.group = None;
        self.enqueues = 0;
        self.others = 0;
        self.first = None;
        self.checksum = None;
    }

    /// Computes the checksum now, on the caller's thread; `append` does it otherwise.
    pub fn seal(&mut self) {
        if self.checksum.is_none() {
            self.checksum = Some(crc32fast::hash(&self.bytes));
        }
        self.group = None;
    }

    /// The batch that has these bytes, as [`Batch::as_bytes`] gave them on this node or another. `None`:
    /// they are no batch, or a message in it was damaged on the way.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Batch> {
        let mut batch = Batch { bytes: bytes.to_vec(), ..Batch::default() };
        let mut intact = true;
        let walked = crate::change::walk(bytes, |change, sizes| {
            if let Change::Enqueue { queue, first, count, offset } = change {
                batch.enqueues += u64::from(count);
                batch.first.get_or_insert(first);
                let mut at = offset;
                for (seq, size) in (first.0..).zip(sizes) {
                    let end = at + MESSAGE_BYTES + size as usize;
                    let record = &bytes[at..end];
                    let stored = u32::from_le_bytes([record[4], record[5], record[6], record[7]]);
                    intact &= stored == message_checksum(queue, Seq(seq), &record[MESSAGE_BYTES..]);
                    at = end;
                }
            }
        });
        (walked.is_ok() && intact).then_some(batch)
    }

    /// The encoded changes, for another node to store the same.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Calls `each` with the queue and the ends of each run that this batch removes, in order.
    pub fn removals(&self, mut each: impl FnMut(QueueKey, Seq, Seq)) {
        let walked = crate::change::walk(&self.bytes, |change, _| {
            if let Change::Remove { queue, first, last } = change {
                each(queue, first, last);
            }
        });
        walked.expect("a batch encodes what it was given");
    }

    /// The messages that this batch stores, in order.
    pub fn messages(&self) -> impl Iterator<Item = (QueueKey, Seq)> {
        let mut found = Vec::new();
        let walked = crate::change::walk(&self.bytes, |change, _| {
            if let Change::Enqueue { queue, first, count, .. } = change {
                found.extend((first.0..first.0 + u64::from(count)).map(|seq| (queue, Seq(seq))));
            }
        });
        walked.expect("a batch encodes what it was given");
        found.into_iter()
    }

    /// The encoded changes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded changes to be taken, and their checksum.
    pub(crate) fn parts(&mut self) -> (&mut Vec<u8>, u32) {
        self.seal();
        (&mut self.bytes, self.checksum.expect("sealed"))
    }
}

/// Checksum of one message, over its payload and its place, so that a record found elsewhere does
/// not pass.
pub(crate) fn message_checksum(queue: QueueKey, seq: Seq, payload: &[u8]) -> u32 {
    let place = (queue.0 ^ seq.0.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    crc32fast::hash(payload) ^ (place >> 32) as u32
}
