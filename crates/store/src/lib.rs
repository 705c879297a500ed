//! The message store: how bytes survive a crash.
//!
//! One write-ahead log (`wal`) takes the changes of all queues of a node. `append` gathers them in
//! memory, `sync` makes all that has gathered durable with one write and one sync. When the log has
//! grown to a few files, `maintain` copies what is still live in the oldest into a segment, writes
//! a checkpoint and uses the file again. A message that is consumed while young is written once.
//! Only the index stays in memory, one to four bytes a message and none of its payload.
//!
//! ```text
//!  append ──> pending ──sync──> wal/7 ── wal/6 ── wal/5 ── wal/4 ──> used again as wal/8
//!                                                            │ maintain copies what is live
//!                                                            v
//!                       checkpoint/12 ── names ──> segment/3  segment/2  segment/1
//! ```
//!
//! What the store promises to who holds a position not above the one `sync` returned:
//!
//! 1. A message that was enqueued and not removed by then is read again after any crash, bytes and
//!    order unchanged. If synced bytes were damaged since, `open` or `read` fails and names the file;
//!    only damage to the very last records may pass for a torn tail, which `open` reports too.
//! 2. A message that was removed by then never comes back.
//! 3. A sequence handed out by then lies below `next` until its queue is forgotten.
//! 4. Nothing is ever read that was not enqueued.
//!
//! The order of disk work that keeps them. The simulator checks the promises under a disk that
//! drops, tears and reorders whatever this order does not forbid, and with each rule broken:
//!
//! - F1. `sync` returns a position only after the bytes before it were written and synced.
//! - F2. A log file is begun only after the one before it was synced to its end, which its header
//!   names; so only the newest file may end in a torn record.
//! - F3. A record counts only where it was written for: its header names its file and offset, so
//!   that an earlier use of the file is never mistaken for this one.
//! - F4. A record says how far the log was durable before it; bad bytes below that are damage.
//! - F5. After a restart the log goes on in a new file, and never behind what was left unfinished.
//! - F6. A segment and its name are synced before the checkpoint that names it is written.
//! - F7. A checkpoint is synced before it gets its name, and its name is synced before any log file
//!   or segment that it does not name is used again or removed.
//! - F8. A name in the log's folder is synced before the file is written under it.
//! - F9. After a failed write or sync nothing is written, synced or promised until `open`.
//! - F10. `open` writes the end of the log once more before it syncs it, unless later records prove
//!   it durable: after a failed sync a system may show bytes that it will never write.

mod batch;
mod change;
mod checkpoint;
mod codec;
mod copy;
mod disk;
mod error;
mod files;
mod index;
mod maintain;
mod open;
mod read;
mod segment;
#[cfg(test)]
mod tests;
mod types;
mod wal;

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};

use batch::MESSAGE_BYTES;
use copy::Copy;
use files::Files;
use index::{FileId, Index};
use segment::SegmentInfo;
use wal::Wal;

pub use batch::{Batch, Mark};
pub use disk::Disk;
pub use error::{OpenError, StoreError};
#[cfg(feature = "mutants")]
pub use types::Mutant;
pub use types::{Limits, Note, Options, Position, QueueCounts, QueueKey, Recovery, Seq, Usage};

/// Largest batch; offsets in a file have 32 bits.
const BATCH_BYTES_MAX: usize = 2 << 30;

/// Smallest size of a log file or segment.
const FILE_BYTES_MIN: u64 = 1 << 10;

/// Largest size of a log file or segment that may be asked for.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The messages of one node.
pub struct Store<D: Disk> {
    files: Files<D>,
    options: Options,
    index: Index,
    wal: Wal,
    /// First log file whose messages are not in segments; the next checkpoint will name it.
    first_wal: u32,
    segments: BTreeMap<u32, SegmentInfo>,
    next_segment: u32,
    /// Transient files and their lengths; the newest takes what is paged out.
    transient: BTreeMap<u32, u64>,
    next_transient: u32,
    /// Number of the checkpoint on disk.
    checkpoint: u32,
    /// True if the checkpoint on disk keeps files that are not needed.
    stale: bool,
    /// True if no segment was worth copying when last looked at.
    surveyed: bool,
    job: Option<Copy>,
    /// True from when there was no room until `maintain` finds nothing lacking.
    full: bool,
}

impl<D: Disk> Store<D> {
    /// Opens the store on a disk of its own, making it if the disk is empty.
    pub fn open(disk: D, mut options: Options) -> Result<(Store<D>, Recovery), OpenError> {
        options.wal_file_bytes = options.wal_file_bytes.clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        options.segment_bytes = options.segment_bytes.clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        options.wal_files_max = options.wal_files_max.max(options.wal_files_kept + 2);
        let opened = open::open(disk, &options)?;
        let store = Store {
            files: opened.files,
            options,
            index: opened.index,
            first_wal: opened.wal.first,
            wal: opened.wal,
            segments: opened.segments,
            next_segment: opened.next_segment,
            transient: BTreeMap::new(),
            next_transient: 1,
            checkpoint: opened.checkpoint,
            stale: false,
            surveyed: false,
            job: None,
            full: false,
        };
        let recovery = Recovery {
            queues: store.queues().collect(),
            notes: opened.notes,
        };
        Ok((store, recovery))
    }

    /// Takes the changes of a batch, which is empty afterwards. They are read at once, and durable
    /// once `sync` has returned a position not below the one returned here. A batch that is refused
    /// is left as it was. A batch that only removes is taken even when the log or the disk is full.
    pub fn append(&mut self, batch: &mut Batch) -> Result<Position, StoreError> {
        self.files.check()?;
        if batch.is_empty() {
            return Ok(self.wal.appended());
        }
        if batch.len_bytes() > BATCH_BYTES_MAX {
            return Err(StoreError::BatchTooLarge(batch.len_bytes() as u64));
        }
        if batch.enqueues() > 0 {
            let files = self.wal.tail() - self.wal.first + 1;
            if self.full {
                return Err(StoreError::DiskFull);
            }
            if files >= self.options.wal_files_max && self.wal.would_rotate(batch.len_bytes()) {
                return Err(StoreError::LogFull);
            }
        }
        let at = self.wal.next_body(batch.len_bytes());
        let applied = self
            .index
            .apply(batch.bytes(), FileId::Wal(at.file()), at.offset());
        applied.expect("a batch encodes what it was given");
        let (bytes, checksum) = batch.parts();
        let position = self.wal.append(bytes, checksum);
        batch.clear();
        Ok(position)
    }

    /// Writes and syncs everything appended so far and returns its position. `DiskFull` loses
    /// nothing: what was appended waits for the next call.
    pub fn sync(&mut self) -> Result<Position, StoreError> {
        self.files.check()?;
        let outcome = self.wal.sync(&mut self.files);
        self.full |= matches!(outcome, Err(StoreError::DiskFull));
        outcome
    }

    /// Everything appended before this position survives a crash.
    pub fn durable(&self) -> Position {
        self.wal.durable()
    }

    /// Live messages of a queue from `from` on, by rising sequence. Appended messages are seen
    /// before they are synced.
    pub fn read(
        &mut self,
        queue: QueueKey,
        from: Seq,
        limits: Limits,
    ) -> Result<Vec<(Seq, Bytes)>, StoreError> {
        self.files.check()?;
        let Some(found) = self.index.queues.get(&queue) else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (file, entry) in found.live_from(from.0) {
            bytes += entry.size as usize;
            let enough = entries.len() >= limits.messages || bytes > limits.bytes;
            if enough && !entries.is_empty() {
                break;
            }
            entries.push((file, entry));
        }
        let records = read::records(queue, &entries, &self.wal, &mut self.files)?;
        let messages = entries.iter().zip(records).map(|((_, entry), mut record)| {
            record.advance(MESSAGE_BYTES);
            (Seq(entry.seq), record)
        });
        Ok(messages.collect())
    }

    /// Applies a batch without the log: its messages go to a transient file, which no restart
    /// survives, and its removals are not written down, so they are for transient messages.
    pub fn page_out(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        self.files.check()?;
        let len = batch.len_bytes() as u64;
        if batch.len_bytes() > BATCH_BYTES_MAX {
            return Err(StoreError::BatchTooLarge(len));
        }
        let (mut number, mut base) = self.transient_end();
        if batch.enqueues() > 0 {
            if base > 0 && base + len > self.options.segment_bytes {
                (number, base) = (self.next_transient, 0);
            }
            let id = FileId::Transient(number);
            if !self.transient.contains_key(&number) {
                self.files.create(id)?;
                self.transient.insert(number, 0);
                self.next_transient = number + 1;
            }
            self.files.write(id, base, &[batch.bytes()])?;
            self.transient.insert(number, base + len);
        }
        let applied = self
            .index
            .apply(batch.bytes(), FileId::Transient(number), base as u32);
        applied.expect("a batch encodes what it was given");
        batch.clear();
        Ok(())
    }

    /// The transient file that is being written and where it ends.
    fn transient_end(&self) -> (u32, u64) {
        let last = self.transient.last_key_value();
        let open = last.filter(|(number, _)| **number + 1 == self.next_transient);
        open.map_or((self.next_transient, 0), |(number, len)| (*number, *len))
    }

    /// What is stored for a queue.
    pub fn live(&self, queue: QueueKey) -> QueueCounts {
        self.index.counts(queue)
    }

    /// The sequences of a queue's live messages, as runs with both ends included. Looks at each of them.
    pub fn live_runs(&self, queue: QueueKey) -> Vec<(Seq, Seq)> {
        let mut runs: Vec<(Seq, Seq)> = Vec::new();
        let Some(found) = self.index.queues.get(&queue) else {
            return runs;
        };
        for (_, entry) in found.live_from(0) {
            match runs.last_mut() {
                Some((_, last)) if last.0 + 1 == entry.seq => last.0 = entry.seq,
                _ => runs.push((Seq(entry.seq), Seq(entry.seq))),
            }
        }
        runs
    }

    /// Every queue the store knows, by rising key; also those without a live message.
    pub fn queues(&self) -> impl Iterator<Item = (QueueKey, QueueCounts)> + '_ {
        self.index
            .queues
            .iter()
            .map(|(key, queue)| (*key, queue.counts()))
    }

    /// What the store takes of disk and memory. Looks at every queue.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            wal_files: self.wal.tail() - self.wal.first + 1,
            spare_files: self.wal.spares(),
            segment_files: self.segments.len() as u32,
            segment_bytes: self.segments.values().map(|info| info.len).sum(),
            transient_bytes: self.transient.values().sum(),
            index_bytes: self.index.memory(),
            unsynced_bytes: self.wal.pending_bytes(),
            ..Usage::default()
        };
        usage.wal_bytes =
            u64::from(usage.wal_files + usage.spare_files) * self.options.wal_file_bytes;
        for queue in self.index.queues.values() {
            usage.messages += queue.live.messages;
            usage.message_bytes += queue.live.bytes;
        }
        usage
    }

    /// Ends the store well: everything appended is durable, and damage to the end of the log would
    /// be told from a crash.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.sync()?;
        self.wal.mark(&mut self.files)?;
        self.wal.sync_mark(&mut self.files)
    }
}
