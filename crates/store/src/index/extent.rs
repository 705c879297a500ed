//! The messages of one queue in one file, by rising sequence and rising offset.
//!
//! Invariant: `live` is exactly the sum over the live entries of the blocks. Blocks without a live
//! message are dropped once they are the greater part, so memory follows the live messages.

use super::block::{BLOCK_MESSAGES, Block};
use super::{Entry, FileId, Live};
use crate::codec::Decoder;

#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) file: FileId,
    pub(crate) live: Live,
    /// True while every message the file holds of this queue is here and live.
    whole: bool,
    /// Where the last record ends.
    end: u32,
    dead_blocks: u32,
    /// Invariant: never empty.
    blocks: Vec<Block>,
}

impl Extent {
    pub(crate) fn new(file: FileId, entry: Entry) -> Extent {
        let blocks = vec![Block::new(entry)];
        let live = Live {
            messages: 1,
            bytes: u64::from(entry.size),
        };
        Extent {
            file,
            live,
            whole: true,
            end: entry.end(),
            dead_blocks: 0,
            blocks,
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.blocks[0].first_seq
    }

    pub(crate) fn last(&self) -> u64 {
        self.blocks[self.blocks.len() - 1].last_seq
    }

    /// True if the entry may be pushed.
    pub(crate) fn takes(&self, file: FileId, entry: &Entry) -> bool {
        self.file == file && entry.seq > self.last() && entry.offset >= self.end
    }

    /// Adds an entry that `takes` allows.
    pub(crate) fn push(&mut self, entry: Entry) {
        let last = self.blocks.len() - 1;
        if self.blocks[last].is_full() {
            self.blocks.push(Block::new(entry));
        } else {
            if self.blocks[last].live == 0 {
                self.dead_blocks -= 1;
            }
            self.blocks[last].push(entry, self.end);
        }
        self.end = entry.end();
        self.live.add(Live {
            messages: 1,
            bytes: u64::from(entry.size),
        });
    }

    /// True while every message the file holds of this queue is here and live.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The same, if the file may hold more messages of this queue than will be pushed here.
    pub(crate) fn partial(file: FileId, entry: Entry) -> Extent {
        Extent {
            whole: false,
            ..Extent::new(file, entry)
        }
    }

    /// Marks the messages from `first` to `last` dead and says how many were live.
    pub(crate) fn remove(&mut self, first: u64, last: u64) -> Live {
        let start = self.blocks.partition_point(|block| block.last_seq < first);
        let mut gone = Live::default();
        for block in &mut self.blocks[start..] {
            if block.first_seq > last {
                break;
            }
            if block.live != 0 {
                gone.add(block.remove(first, last));
                self.dead_blocks += u32::from(block.live == 0);
            }
        }
        self.live.subtract(gone);
        self.whole &= gone.messages == 0;
        if self.live.messages > 0 && self.dead_blocks as usize > self.blocks.len() / 2 {
            self.drop_dead_blocks();
        }
        gone
    }

    fn drop_dead_blocks(&mut self) {
        self.blocks.retain(|block| block.live != 0);
        self.blocks.shrink_to(self.blocks.len() * 2);
        self.dead_blocks = 0;
        // The next push counts its gap from the end of what is now the last entry.
        let last = self.blocks.last().and_then(|block| block.entries().last());
        self.end = last.expect("a live extent has a block").0.end();
    }

    /// Marks everything dead that lies in none of the runs, which are sorted.
    pub(crate) fn keep_runs(&mut self, runs: &[(u64, u64)]) {
        self.whole = false;
        let mut next = Some(0);
        for (first, last) in runs {
            if let (Some(next), Some(before)) = (next, first.checked_sub(1))
                && next <= before
            {
                self.remove(next, before);
            }
            next = last.checked_add(1);
        }
        if let Some(next) = next {
            self.remove(next, u64::MAX);
        }
    }

    /// The parts before and behind a sequence that is not live here; each only if it has a live message.
    pub(crate) fn split(mut self, seq: u64) -> [Option<Extent>; 2] {
        let place = self.blocks.partition_point(|block| block.last_seq < seq);
        let mut behind = self.blocks.split_off(place);
        if behind.first().is_some_and(|block| block.first_seq <= seq) {
            // The block in which it falls is written anew, for both parts.
            let block = behind.remove(0);
            let live = || block.entries().filter(|(_, live)| *live).map(|(entry, _)| entry);
            self.blocks.extend(Block::of(live().filter(|entry| entry.seq < seq)));
            behind.splice(0..0, Block::of(live().filter(|entry| entry.seq > seq)));
        }
        self.blocks.shrink_to(self.blocks.len() * 2);
        // The shorter part is counted, the other has the rest.
        let mut live_before = self.live;
        let mut live_behind = self.live;
        if self.blocks.len() < behind.len() {
            live_before = live_in(&self.blocks);
            live_behind.subtract(live_before);
        } else {
            live_behind = live_in(&behind);
            live_before.subtract(live_behind);
        }
        [(self.blocks, live_before), (behind, live_behind)].map(|(blocks, live)| Extent::part(self.file, blocks, live))
    }

    /// Some of the blocks of an extent.
    fn part(file: FileId, blocks: Vec<Block>, live: Live) -> Option<Extent> {
        let end = blocks.last()?.entries().last()?.0.end();
        let dead_blocks = blocks.iter().filter(|block| block.live == 0).count() as u32;
        let extent = Extent { file, live, whole: false, end, dead_blocks, blocks };
        (live.messages > 0).then_some(extent)
    }

    /// Live entries with a sequence of at least `from`.
    pub(crate) fn live_from(&self, from: u64) -> impl Iterator<Item = Entry> + '_ {
        let start = self.blocks.partition_point(|block| block.last_seq < from);
        self.blocks[start..]
            .iter()
            .filter(|block| block.live != 0)
            .flat_map(Block::entries)
            .filter(move |(entry, live)| *live && entry.seq >= from)
            .map(|(entry, _)| entry)
    }

    /// Maximal runs of consecutive live sequences, both ends included.
    pub(crate) fn live_runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for entry in self.live_from(0) {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(entry.seq) => *last = entry.seq,
                _ => runs.push((entry.seq, entry.seq)),
            }
        }
        runs
    }

    pub(crate) fn memory(&self) -> u64 {
        let spare = self.blocks.capacity() - self.blocks.len();
        let blocks: u64 = self.blocks.iter().map(Block::memory).sum();
        blocks + (size_of::<Extent>() + spare * size_of::<Block>()) as u64
    }

    /// Writes the extent as a segment's footer keeps it: every message, as if all were live.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.first_seq.to_le_bytes());
            out.extend_from_slice(&block.last_seq.to_le_bytes());
            out.extend_from_slice(&block.first_offset.to_le_bytes());
            out.push(block.count as u8);
            let len = u16::try_from(block.data.len()).expect("64 entries of at most 20 bytes");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&block.data);
        }
    }

    /// Reads what `encode` wrote; `None` if it is malformed.
    pub(crate) fn decode(decoder: &mut Decoder<'_>, file: FileId) -> Option<Extent> {
        let count = decoder.u32()? as usize;
        let mut blocks: Vec<Block> = Vec::with_capacity(count.min(1 << 16));
        let mut live = Live::default();
        let mut end = 0;
        for _ in 0..count {
            let first_seq = decoder.u64()?;
            let last_seq = decoder.u64()?;
            let first_offset = decoder.u32()?;
            let count = u32::from(decoder.u8()?);
            let len = decoder.take(2)?;
            let data = decoder
                .take(usize::from(u16::from_le_bytes([len[0], len[1]])))?
                .to_vec();
            let mask = u64::MAX.checked_shr(BLOCK_MESSAGES.checked_sub(count)?)?;
            let block = Block {
                first_seq,
                last_seq,
                first_offset,
                count,
                live: mask,
                data,
            };
            let mut seen = 0;
            let mut last = first_seq;
            for (entry, _) in block.entries() {
                seen += 1;
                last = entry.seq;
                end = entry.end();
                live.add(Live {
                    messages: 1,
                    bytes: u64::from(entry.size),
                });
            }
            let ordered = blocks
                .last()
                .is_none_or(|before| before.last_seq < first_seq);
            if seen != count || last != last_seq || !ordered {
                return None;
            }
            blocks.push(block);
        }
        blocks.shrink_to_fit();
        let extent = Extent {
            file,
            live,
            whole: true,
            end,
            dead_blocks: 0,
            blocks,
        };
        (!extent.blocks.is_empty()).then_some(extent)
    }
}

fn live_in(blocks: &[Block]) -> Live {
    let mut sum = Live::default();
    for (entry, _) in blocks.iter().flat_map(Block::entries).filter(|(_, live)| *live) {
        sum.add(Live { messages: 1, bytes: u64::from(entry.size) });
    }
    sum
}
