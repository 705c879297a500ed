//! The ready messages of one priority level, in order, of which the middle may be on disk.
//!
//! ```text
//! returned (any sequence, in memory) | head (in memory) | paged (only counted here; the store has them)
//! ```
//!
//! A message enters at the end: the head while nothing is paged and memory allows, else the paged part.
//! The head is filled again from the store before it runs dry.
//! Invariants: every head sequence is below `paged.next`; a paged message is in the store; `returned`
//! holds only messages that were taken out before, so that no read of the store brings them again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// Of the messages, those of a durable queue that are persistent, and their bytes.
    pub persistent: u64,
    pub persistent_bytes: u64,
    /// No paged message is before this.
    pub next: u64,
    /// Before this a restart found them, and their bytes are counted as stored.
    pub recovered: u64,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    returned: BTreeMap<Seq, Entry>,
    head: VecDeque<Entry>,
    pub paged: Paged,
    /// Paged messages that a client may have seen; the store does not know.
    seen: BTreeSet<Seq>,
    /// A read is under way, from this sequence on.
    pub loading: Option<u64>,
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
        if persistent {
            self.paged.persistent += 1;
            self.paged.persistent_bytes += body_bytes;
        }
        self.paged.bytes += body_bytes;
        self.bytes += body_bytes;
    }

    /// A message that was just paged may have been seen by a client.
    pub(crate) fn mark_seen(&mut self, seq: Seq) {
        self.seen.insert(seq);
    }

    /// What a restart found in the store.
    pub(crate) fn recover(&mut self, messages: u64, bytes: u64, first: Seq, next: Seq) {
        self.paged =
            Paged { messages, bytes, persistent: messages, persistent_bytes: bytes, next: first.0, recovered: next.0 };
        self.bytes += bytes;
    }

    /// Puts a message back where it was.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.bytes += entry.message.body_bytes() as u64;
        self.memory += entry.message.memory_bytes() as u64;
        self.returned.insert(entry.seq, entry);
    }

    /// Passes over messages that cannot be read, of which `last` is the last.
    pub(crate) fn skip(&mut self, messages: u64, last: Seq) {
        if messages > 0 {
            self.paged.messages = self.paged.messages.saturating_sub(messages);
            self.paged.next = self.paged.next.max(last.0 + 1);
        }
    }

    /// Takes in what the store read, each with its stored length. An empty answer means that there is
    /// nothing, unless `more` says otherwise; gives what was counted and is not there.
    pub(crate) fn loaded(&mut self, entries: Vec<(Entry, u64)>, more: bool) -> Paged {
        self.loading = None;
        let found_nothing = entries.is_empty() && !more;
        for (mut entry, stored_bytes) in entries {
            entry.redelivered |= self.seen.remove(&entry.seq);
            let body_bytes = entry.message.body_bytes() as u64;
            let counted = if entry.seq.0 < self.paged.recovered { stored_bytes } else { body_bytes };
            let counted = counted.min(self.paged.bytes);
            self.bytes -= counted;
            self.paged.bytes -= counted;
            self.paged.messages = self.paged.messages.saturating_sub(1);
            if entry.message.is_persistent() {
                self.paged.persistent = self.paged.persistent.saturating_sub(1);
                self.paged.persistent_bytes = self.paged.persistent_bytes.saturating_sub(counted);
            }
            self.paged.next = self.paged.next.max(entry.seq.0 + 1);
            self.push(entry);
        }
        let mut missing = Paged::default();
        if found_nothing || self.paged.messages == 0 {
            missing = std::mem::take(&mut self.paged);
            self.paged.next = missing.next;
            self.seen.clear();
            self.bytes -= missing.bytes;
        }
        missing
    }

    /// Whether the head should be filled from the store.
    pub(crate) fn wants_load(&self, low_water: usize, low_bytes: u64) -> bool {
        let is_low = self.head.is_empty() || (self.head.len() < low_water && self.memory < low_bytes);
        self.loading.is_none() && self.paged.messages > 0 && is_low
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

    /// The messages in memory.
    pub(crate) fn in_memory_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.returned.values_mut().chain(&mut self.head)
    }

    /// Takes out the message of this sequence, if it is in memory.
    pub(crate) fn take(&mut self, seq: Seq) -> Option<Entry> {
        let entry = match self.returned.remove(&seq) {
            Some(entry) => entry,
            None => {
                let at = self.head.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
                self.head.remove(at)?
            }
        };
        self.bytes -= entry.message.body_bytes() as u64;
        self.memory -= entry.message.memory_bytes() as u64;
        Some(entry)
    }

    /// Empties the level; gives what was in memory and how many were only in the store.
    pub(crate) fn clear(&mut self) -> (Vec<Entry>, Paged) {
        let mut entries: Vec<Entry> = std::mem::take(&mut self.returned).into_values().collect();
        entries.extend(std::mem::take(&mut self.head));
        let paged = std::mem::take(&mut self.paged);
        self.seen.clear();
        self.bytes = 0;
        self.memory = 0;
        self.loading = None;
        (entries, paged)
    }
}
