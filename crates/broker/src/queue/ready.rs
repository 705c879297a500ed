//! The ready messages of one priority level, in order, of which the middle may be on disk.
//!
//! ```text
//! returned (any sequence, in memory) | head (in memory) | paged (only counted here; the store has them)
//! ```
//!
//! A message enters at the end: the head while nothing is paged and memory allows, else the paged part.
//! The head is filled again from the store before it runs dry.
//! Invariants: every head sequence is below `paged.next`; a paged message is in the store; `returned`
//! holds only messages that were taken out before.

use std::collections::{BTreeMap, VecDeque};

use store::Seq;

use crate::message::Message;

/// Never expires.
pub(crate) const NEVER: u64 = u64::MAX;

/// A message in its queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub seq: Seq,
    pub message: Message,
    /// Milliseconds since 1970.
    pub expires_at: u64,
    /// Times it came back from a consumer.
    pub returns: u32,
    pub redelivered: bool,
    /// The store has it and must be told when it goes.
    pub stored: bool,
}

/// The part that only the store holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paged {
    pub messages: u64,
    /// Body bytes; an estimate for messages that a restart found.
    pub bytes: u64,
    /// Of the messages, those of a durable queue that are persistent.
    pub persistent: u64,
    /// No paged message is before this.
    pub next: u64,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    returned: BTreeMap<Seq, Entry>,
    head: VecDeque<Entry>,
    pub paged: Paged,
    /// A read is under way.
    pub loading: bool,
    /// Body bytes of returned, head and paged.
    bytes: u64,
    /// Bytes of memory of returned and head.
    memory: u64,
}

impl Ready {
    pub(crate) fn len(&self) -> u64 {
        (self.returned.len() + self.head.len()) as u64 + self.paged.messages
    }

    pub(crate) fn in_memory(&self) -> u64 {
        (self.returned.len() + self.head.len()) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether a new message belongs on disk, given what the level may keep in memory.
    pub(crate) fn must_page(&self, budget_bytes: u64) -> bool {
        self.paged.messages > 0 || self.memory >= budget_bytes
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry.message.body_bytes() as u64;
        self.memory += entry.message.memory_bytes() as u64;
        self.head.push_back(entry);
    }

    /// Counts a message that the caller gave to the store.
    pub(crate) fn push_paged(&mut self, seq: Seq, body_bytes: u64, persistent: bool) {
        if self.paged.messages == 0 {
            self.paged.next = seq.0;
        }
        self.paged.messages += 1;
        self.paged.persistent += u64::from(persistent);
        self.paged.bytes += body_bytes;
        self.bytes += body_bytes;
    }

    /// What a restart found in the store.
    pub(crate) fn recover(&mut self, messages: u64, bytes: u64, first: Seq) {
        self.paged = Paged { messages, bytes, persistent: messages, next: first.0 };
        self.bytes += bytes;
    }

    /// Puts a message back where it was.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.bytes += entry.message.body_bytes() as u64;
        self.memory += entry.message.memory_bytes() as u64;
        self.returned.insert(entry.seq, entry);
    }

    /// Takes in what the store read. Fewer messages than `limit` means that there are no more.
    pub(crate) fn loaded(&mut self, entries: Vec<Entry>, limit: usize) {
        let stale = !entries.is_empty() && entries.iter().all(|e| e.seq.0 < self.paged.next);
        if stale {
            // The answer to a read from before a purge; the answer to the present one follows.
            return;
        }
        self.loading = false;
        let complete = entries.len() < limit;
        let count = entries.len() as u64;
        let estimate = if complete || count >= self.paged.messages {
            self.paged.bytes
        } else {
            self.paged.bytes * count / self.paged.messages
        };
        self.bytes -= estimate;
        self.paged.bytes -= estimate;
        if complete {
            self.paged.messages = 0;
        }
        for entry in entries {
            self.paged.next = entry.seq.0 + 1;
            self.paged.persistent = self.paged.persistent.saturating_sub(u64::from(entry.message.is_persistent()));
            self.push(entry);
        }
        self.paged.messages = self.paged.messages.saturating_sub(count);
    }

    /// Whether the head should be filled from the store.
    pub(crate) fn wants_load(&self, low_water: usize) -> bool {
        !self.loading && self.paged.messages > 0 && self.head.len() < low_water
    }

    /// The next message, if it is in memory.
    pub(crate) fn front(&self) -> Option<&Entry> {
        let returned = self.returned.first_key_value();
        match (returned, self.head.front()) {
            (Some((seq, entry)), Some(head)) => Some(if *seq < head.seq { entry } else { head }),
            (Some((seq, entry)), None) => {
                (self.paged.messages == 0 || seq.0 < self.paged.next).then_some(entry)
            }
            (None, head) => head,
        }
    }

    /// Takes the next message out.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = if self.returned.is_empty() {
            self.head.pop_front()
        } else {
            let seq = self.front()?.seq;
            match self.returned.remove(&seq) {
                Some(entry) => Some(entry),
                None => self.head.pop_front(),
            }
        }?;
        self.bytes -= entry.message.body_bytes() as u64;
        self.memory -= entry.message.memory_bytes() as u64;
        Some(entry)
    }

    /// Empties the level; gives what was in memory and how many were only in the store.
    pub(crate) fn clear(&mut self) -> (Vec<Entry>, Paged) {
        let mut entries: Vec<Entry> = std::mem::take(&mut self.returned).into_values().collect();
        entries.extend(std::mem::take(&mut self.head));
        let paged = std::mem::take(&mut self.paged);
        self.bytes = 0;
        self.memory = 0;
        self.loading = false;
        (entries, paged)
    }
}
