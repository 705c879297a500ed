//! store

mod batch;
mod disk;
mod error;
mod types;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use batch::Batch;
pub use disk::Disk;
pub use error::{OpenError, StoreError};
pub use types::{Limits, Note, Options, Position, QueueCounts, QueueKey, Recovery, Seq, Usage};

/// The messages of one node.
pub struct Store<D: Disk> {
    disk: D,
    queues: BTreeMap<QueueKey, (u64, BTreeMap<Seq, Bytes>)>,
    next: u64,
    durable: Position,
}

impl<D: Disk> Store<D> {
    /// Opens the store in the disk's root, making it if the disk is empty.
    pub fn open(disk: D, _options: Options) -> Result<(Store<D>, Recovery), OpenError> {
        let store = Store {
            disk,
            queues: BTreeMap::new(),
            next: 0,
            durable: Position(0),
        };
        Ok((store, Recovery::default()))
    }

    /// Takes the changes of a batch, which is empty afterwards. They can be read at once and are durable once `sync`
    /// has returned a position not below the one returned here. A batch that is refused is left as it was.
    pub fn append(&mut self, batch: &mut Batch) -> Result<Position, StoreError> {
        self.next += batch.len_bytes() as u64;
        self.apply(batch);
        batch.clear();
        Ok(Position(self.next))
    }

    fn apply(&mut self, batch: &Batch) {
        let mut at = batch.bytes();
        while let [kind, rest @ ..] = at {
            let word = |n: usize| u64::from_le_bytes(rest[n..n + 8].try_into().expect("8 bytes"));
            let short = |b: &[u8]| u32::from_le_bytes(b[..4].try_into().expect("4 bytes"));
            let key = QueueKey(word(0));
            if *kind == batch::KIND_ENQUEUE {
                let (first, count) = (word(8), short(&rest[16..]));
                at = &rest[20..];
                for n in 0..u64::from(count) {
                    let end = 8 + short(at) as usize;
                    let queue = self.queues.entry(key).or_default();
                    queue.0 = queue.0.max(first + n + 1);
                    queue
                        .1
                        .insert(Seq(first + n), Bytes::copy_from_slice(&at[8..end]));
                    at = &at[end..];
                }
            } else if *kind == batch::KIND_REMOVE {
                let count = short(&rest[8..]) as usize;
                for n in 0..count {
                    let (first, last) = (word(12 + 16 * n), word(20 + 16 * n));
                    if let Some(queue) = self.queues.get_mut(&key) {
                        queue.1.retain(|seq, _| seq.0 < first || seq.0 > last);
                    }
                }
                at = &rest[12 + 16 * count..];
            } else {
                self.queues.remove(&key);
                at = &rest[8..];
            }
        }
    }

    /// Writes and syncs everything appended so far and returns its position.
    pub fn sync(&mut self) -> Result<Position, StoreError> {
        self.durable = Position(self.next);
        Ok(self.durable)
    }

    /// Everything before this position survives a crash.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Live messages of a queue from `from` on, by rising sequence. Appended messages are seen before they are synced.
    pub fn read(
        &mut self,
        queue: QueueKey,
        from: Seq,
        limits: Limits,
    ) -> Result<Vec<(Seq, Bytes)>, StoreError> {
        let mut bytes = 0;
        let mut out = Vec::new();
        let Some((_, messages)) = self.queues.get(&queue) else {
            return Ok(out);
        };
        for (seq, payload) in messages.range(from..) {
            bytes += payload.len();
            if out.len() >= limits.messages.max(1) || (!out.is_empty() && bytes > limits.bytes) {
                break;
            }
            out.push((*seq, payload.clone()));
        }
        Ok(out)
    }

    /// Applies a batch without the log: its messages go to transient files that no restart survives, its removals
    /// are not written down.
    pub fn page_out(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.apply(batch);
        batch.clear();
        Ok(())
    }

    /// What is stored for a queue.
    pub fn live(&self, queue: QueueKey) -> QueueCounts {
        let Some((next, messages)) = self.queues.get(&queue) else {
            return QueueCounts::default();
        };
        QueueCounts {
            first: messages.keys().next().copied(),
            next: Seq(*next),
            messages: messages.len() as u64,
            bytes: messages.values().map(|p| p.len() as u64).sum(),
        }
    }

    /// Every queue the store knows, by rising key.
    pub fn queues(&self) -> impl Iterator<Item = (QueueKey, QueueCounts)> + '_ {
        self.queues.keys().map(|key| (*key, self.live(*key)))
    }

    /// Does one step of the work that keeps the log short, touching about `budget_bytes`; true if there is more.
    pub fn maintain(&mut self, _budget_bytes: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// What the store takes of the disk.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Gives the disk back.
    pub fn into_disk(self) -> D {
        self.disk
    }
}
