//! Up to 64 messages of an extent, delta-encoded: one to four bytes each, and one bit for being
//! live.
//!
//! Each entry is a varint of its size, shifted left twice; bit 1 says that a varint follows with
//! what its sequence skips, bit 0 the same of its offset. The first entry has neither: its place is
//! in the block itself. A backlog of equal messages in a row thus costs one or two bytes a message.

use super::{Entry, Live};
use crate::batch::MESSAGE_BYTES;
use crate::codec::{Decoder, put_varint};

/// Messages in a full block.
pub(crate) const BLOCK_MESSAGES: u32 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) first_offset: u32,
    pub(super) count: u32,
    /// Bit n says that entry n is live.
    pub(super) live: u64,
    pub(super) data: Vec<u8>,
}

impl Block {
    pub(super) fn new(entry: Entry) -> Block {
        let mut data = Vec::with_capacity(4);
        put_varint(&mut data, u64::from(entry.size) << 2);
        Block {
            first_seq: entry.seq,
            last_seq: entry.seq,
            first_offset: entry.offset,
            count: 1,
            live: 1,
            data,
        }
    }

    /// A block of at most 64 entries by rising sequence and offset; none without any.
    pub(super) fn of(mut entries: impl Iterator<Item = Entry>) -> Option<Block> {
        let first = entries.next()?;
        let mut end = first.end();
        let mut block = Block::new(first);
        for entry in entries {
            block.push(entry, end);
            end = entry.end();
        }
        Some(block)
    }

    /// Adds an entry behind the last, which ends at `end`.
    pub(super) fn push(&mut self, entry: Entry, end: u32) {
        let skipped = entry.seq - self.last_seq - 1;
        let gap = entry.offset - end;
        let flags = u64::from(skipped > 0) << 1 | u64::from(gap > 0);
        put_varint(&mut self.data, u64::from(entry.size) << 2 | flags);
        if skipped > 0 {
            put_varint(&mut self.data, skipped);
        }
        if gap > 0 {
            put_varint(&mut self.data, u64::from(gap));
        }
        self.live |= 1 << self.count;
        self.count += 1;
        self.last_seq = entry.seq;
        if self.count == BLOCK_MESSAGES {
            self.data.shrink_to_fit();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == BLOCK_MESSAGES
    }

    /// All entries, dead ones too, each with whether it is live. Ends early if the data is
    /// malformed.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries {
            decoder: Decoder::new(&self.data),
            next: 0,
            count: self.count,
            live: self.live,
            seq: self.first_seq,
            offset: self.first_offset,
        }
    }

    /// Marks the messages from `first` to `last` dead and says how many were live.
    pub(super) fn remove(&mut self, first: u64, last: u64) -> Live {
        let mut gone = Live::default();
        if self.live == 0 || first > self.last_seq || last < self.first_seq {
            return gone;
        }
        let mut mask = self.live;
        for (n, (entry, live)) in self.entries().enumerate() {
            if entry.seq > last {
                break;
            }
            if live && entry.seq >= first {
                mask &= !(1 << n);
                gone.add(Live {
                    messages: 1,
                    bytes: u64::from(entry.size),
                });
            }
        }
        self.live = mask;
        gone
    }

    pub(super) fn memory(&self) -> u64 {
        (size_of::<Block>() + self.data.capacity()) as u64
    }
}

pub(super) struct Entries<'a> {
    decoder: Decoder<'a>,
    next: u32,
    count: u32,
    live: u64,
    seq: u64,
    offset: u32,
}

impl Iterator for Entries<'_> {
    type Item = (Entry, bool);

    fn next(&mut self) -> Option<(Entry, bool)> {
        if self.next == self.count {
            return None;
        }
        let token = self.decoder.varint()?;
        if token & 2 != 0 {
            self.seq = self.seq.checked_add(self.decoder.varint()?)?;
        }
        if token & 1 != 0 {
            let gap = u32::try_from(self.decoder.varint()?).ok()?;
            self.offset = self.offset.checked_add(gap)?;
        }
        let size = u32::try_from(token >> 2).ok()?;
        let entry = Entry {
            seq: self.seq,
            offset: self.offset,
            size,
        };
        let live = self.live >> self.next & 1 == 1;
        self.next += 1;
        self.offset = self
            .offset
            .checked_add(MESSAGE_BYTES as u32)?
            .checked_add(size)?;
        self.seq = self.seq.wrapping_add(1);
        Some((entry, live))
    }
}
