//! The bytes of one simulated file: as programs see them, and as a power loss would leave them.

use stdx::Rng;

/// A write that no sync has covered.
#[derive(Clone, Debug)]
struct Unsynced {
    offset: usize,
    bytes: Vec<u8>,
}

/// One file. Invariant: `seen` is what every write made of it; `synced` is what survives for sure.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedFile {
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

fn put(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

impl SimulatedFile {
    pub(super) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        put(&mut self.seen, offset as usize, &bytes);
        self.unsynced.push(Unsynced {
            offset: offset as usize,
            bytes,
        });
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let from = self.seen.len().min(offset as usize);
        let count = buffer.len().min(self.seen.len() - from);
        buffer[..count].copy_from_slice(&self.seen[from..from + count]);
        count
    }

    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            put(&mut self.synced, write.offset, &write.bytes);
        }
    }

    /// What a failed sync leaves: the writes it was about count as written, whether they were or
    /// not.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let writes = std::mem::take(&mut self.unsynced);
        keep_some(&mut self.synced, writes, rng);
    }

    /// What a power loss leaves.
    pub(super) fn lose(&mut self, rng: &mut Rng) {
        let writes = std::mem::take(&mut self.unsynced);
        keep_some(&mut self.synced, writes, rng);
        self.seen = self.synced.clone();
    }

    /// Flips one bit of what was synced, of a byte that is not zero if one is found soon.
    pub(super) fn flip_bit(&mut self, rng: &mut Rng) -> Option<u64> {
        let mut offset = rng.below(self.synced.len() as u64) as usize;
        for _ in 0..16 {
            if self.synced.get(offset).is_some_and(|byte| *byte != 0) {
                break;
            }
            offset = rng.below(self.synced.len() as u64) as usize;
        }
        let bit = 1 << rng.below(8);
        *self.synced.get_mut(offset)? ^= bit;
        if let Some(byte) = self.seen.get_mut(offset) {
            *byte ^= bit;
        }
        Some(offset as u64)
    }
}

/// Applies all, nothing or a part of each write.
fn keep_some(target: &mut Vec<u8>, writes: Vec<Unsynced>, rng: &mut Rng) {
    let habit = rng.below(4);
    for write in writes {
        match if habit == 3 { rng.below(3) } else { habit } {
            0 => {}
            1 => put(target, write.offset, &write.bytes),
            _ => tear(target, &write, rng),
        }
    }
}

/// Keeps the start of a write, its end, its middle, or all but its middle.
fn tear(target: &mut Vec<u8>, write: &Unsynced, rng: &mut Rng) {
    let len = write.bytes.len() as u64;
    let (a, b) = (rng.below(len + 1), rng.below(len + 1));
    let (first, second) = (a.min(b) as usize, a.max(b) as usize);
    let mut keep = |from: usize, to: usize| {
        if from < to {
            put(target, write.offset + from, &write.bytes[from..to]);
        }
    };
    match rng.below(4) {
        0 => keep(0, first),
        1 => keep(second, len as usize),
        2 => keep(first, second),
        _ => {
            keep(0, first);
            keep(second, len as usize);
        }
    }
}
