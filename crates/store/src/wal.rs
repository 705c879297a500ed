//! The write-ahead log: what is appended is gathered here and leaves in one write and one sync.
//!
//! Files are numbered without gaps; the one being written is the `tail`. Files with higher numbers
//! are spares, made ready ahead of use. Invariants:
//! - a file is begun (its header written) only after the file before it is synced to its end;
//! - `durable` moves only after a sync of the file that holds the bytes before it;
//! - `pending` holds exactly the envelopes from `durable` to `end`, except that a marker is
//!   neither.

pub(crate) mod format;
mod scan;

use std::collections::VecDeque;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::files::Files;
use crate::index::FileId;
use crate::types::{Mutant, Position};

pub(crate) use scan::{TailState, corrupt, open_error, read_header, rewrite, scan_file, scan_tail};

use format::{ENVELOPE_BYTES, FILE_HEADER_BYTES, padded};

/// Folder of the log.
pub(crate) const DIRECTORY: &str = "wal";

/// Emptied buffers kept for later batches, and the largest that is kept.
const BUFFERS_KEPT: usize = 8;
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// An envelope that is not durable.
#[derive(Debug)]
struct Chunk {
    at: Position,
    header: [u8; ENVELOPE_BYTES],
    body: Vec<u8>,
}

impl Chunk {
    fn len(&self) -> usize {
        ENVELOPE_BYTES + padded(self.body.len())
    }

    fn end(&self) -> Position {
        Position::new(self.at.file(), self.at.offset() + self.len() as u32)
    }
}

/// The end of the log, where it grows.
#[derive(Debug)]
pub(crate) struct Wal {
    /// Size a new log file gets.
    file_bytes: u64,
    /// Lowest file that recovery needs.
    pub(crate) first: u32,
    /// Where the next envelope goes.
    end: Position,
    /// Everything before it survives a crash.
    durable: Position,
    /// The file whose header was written last.
    begun: Option<u32>,
    /// Highest file number that exists on disk; at least the tail's if that is begun.
    pub(crate) ready: u32,
    pending: VecDeque<Chunk>,
    pending_bytes: u64,
    /// True if a record after `durable` tells recovery that everything before it was synced.
    marked: bool,
    /// Bytes of the next spare that are filled, if one is being made.
    filled: Option<u64>,
    buffers: Vec<Vec<u8>>,
}

impl Wal {
    /// A log that ended at `previous` and goes on in the file `tail`; files up to `ready` exist.
    pub(crate) fn new(first: u32, tail: u32, ready: u32, previous: Position, size: u64) -> Wal {
        Wal {
            file_bytes: size,
            first,
            end: Position::new(tail, FILE_HEADER_BYTES as u32),
            durable: previous,
            begun: None,
            ready,
            pending: VecDeque::new(),
            pending_bytes: 0,
            marked: true,
            filled: None,
            buffers: Vec::new(),
        }
    }

    /// Number of the file the next envelope goes to.
    pub(crate) fn tail(&self) -> u32 {
        self.end.file()
    }

    /// Where the last envelope appended ends.
    pub(crate) fn appended(&self) -> Position {
        self.pending.back().map_or(self.durable, Chunk::end)
    }

    pub(crate) fn durable(&self) -> Position {
        self.durable
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// True if an envelope of this many body bytes would go to a new file.
    pub(crate) fn would_rotate(&self, body_bytes: usize) -> bool {
        let len = (ENVELOPE_BYTES + padded(body_bytes)) as u64;
        let at = u64::from(self.end.offset());
        at > FILE_HEADER_BYTES as u64 && at + len > self.file_bytes
    }

    /// Where the body of the next envelope starts, if it has this many bytes.
    pub(crate) fn next_body(&self, body_bytes: usize) -> Position {
        let at = self.next_envelope(body_bytes);
        Position::new(at.file(), at.offset() + ENVELOPE_BYTES as u32)
    }

    fn next_envelope(&self, body_bytes: usize) -> Position {
        if self.would_rotate(body_bytes) {
            Position::new(self.tail() + 1, FILE_HEADER_BYTES as u32)
        } else {
            self.end
        }
    }

    /// Puts the body at the end of the log, in memory. `body` is left empty, with the memory of
    /// another. Returns where the envelope ends.
    pub(crate) fn append(&mut self, body: &mut Vec<u8>, checksum: u32) -> Position {
        let at = self.next_envelope(body.len());
        let header = format::envelope_header(at, self.durable, body.len() as u32, checksum);
        let body = std::mem::replace(body, self.buffers.pop().unwrap_or_default());
        let chunk = Chunk { at, header, body };
        self.end = chunk.end();
        self.pending_bytes += chunk.len() as u64;
        self.pending.push_back(chunk);
        self.end
    }

    /// The bytes from `offset` of file `file` on, if they are still only in memory.
    pub(crate) fn pending_at(&self, file: u32, offset: u32, len: usize) -> Option<&[u8]> {
        let at = Position::new(file, offset);
        let next = self.pending.partition_point(|chunk| chunk.at <= at);
        let chunk = self.pending.get(next.checked_sub(1)?)?;
        let start = (at.get() - chunk.at.get()) as usize;
        chunk
            .body
            .get(start.checked_sub(ENVELOPE_BYTES)?..)?
            .get(..len)
    }

    /// Writes and syncs everything pending.
    pub(crate) fn sync<D: Disk>(&mut self, files: &mut Files<D>) -> Result<Position, StoreError> {
        while let Some(chunk) = self.pending.front() {
            let file = chunk.at.file();
            self.sync_file(file, files)?;
        }
        Ok(self.durable)
    }

    /// Writes and syncs what is pending for one file.
    fn sync_file<D: Disk>(&mut self, file: u32, files: &mut Files<D>) -> Result<(), StoreError> {
        let count = self
            .pending
            .partition_point(|chunk| chunk.at.file() <= file);
        let end = self.pending[count - 1].end();
        let mut offset = u64::from(self.pending[0].at.offset());
        let begins = self.begun != Some(file);
        if begins {
            self.make_ready(file, u64::from(end.offset()), files)?;
            offset = 0;
        }
        let header = format::file_header(file, self.durable);
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(3 * count + 1);
        if begins {
            pieces.push(&header);
        }
        for chunk in self.pending.range(..count) {
            pieces.push(&chunk.header);
            pieces.push(&chunk.body);
            pieces.push(&[0; 8][..padded(chunk.body.len()) - chunk.body.len()]);
        }
        let id = FileId::Wal(file);
        files.write(id, offset, &pieces)?;
        let early = files.mutant(Mutant::BeginEarly) && self.pending.len() > count;
        if !files.mutant(Mutant::ConfirmBeforeSync) && !early {
            files.sync(id)?;
        }
        self.begun = Some(file);
        self.durable = end;
        self.marked = false;
        for chunk in self.pending.drain(..count) {
            self.pending_bytes -= chunk.len() as u64;
            keep_buffer(&mut self.buffers, chunk.body);
        }
        Ok(())
    }

    /// Sees to it that a file exists under this number and has room for `len` bytes.
    fn make_ready<D: Disk>(
        &mut self,
        file: u32,
        len: u64,
        files: &mut Files<D>,
    ) -> Result<(), StoreError> {
        while self.ready < file {
            self.fill_spare(u64::MAX, files)?;
        }
        let id = FileId::Wal(file);
        let len = len.max(self.file_bytes);
        if files.len(id)? < len {
            files.preallocate(id, len)?;
        }
        Ok(())
    }

    /// Fills a spare file with zeros, up to `budget` bytes; true once it is ready.
    pub(crate) fn fill_spare<D: Disk>(
        &mut self,
        budget: u64,
        files: &mut Files<D>,
    ) -> Result<bool, StoreError> {
        let done = match self.filled {
            Some(done) => done,
            None => {
                files.create(FileId::Spare)?;
                0
            }
        };
        let len = done.saturating_add(budget.max(1)).min(self.file_bytes);
        self.filled = Some(len);
        if let Err(error) = files.preallocate(FileId::Spare, len) {
            // The room is better left to those who fill the disk for a reason.
            self.filled = None;
            files.remove(FileId::Spare)?;
            return Err(error);
        }
        files.sync(FileId::Spare)?;
        if len < self.file_bytes {
            return Ok(false);
        }
        files.rename(FileId::Spare, FileId::Wal(self.ready + 1))?;
        files.sync_directory(DIRECTORY)?;
        self.ready += 1;
        self.filled = None;
        Ok(true)
    }

    /// Files ready to be begun.
    pub(crate) fn spares(&self) -> u32 {
        let begun = self
            .begun
            .map_or(self.tail() - 1, |begun| begun.max(self.tail() - 1));
        self.ready.saturating_sub(begun)
    }

    /// True if something pending waits for a file that is not there.
    pub(crate) fn lacks_file(&self) -> bool {
        self.pending
            .back()
            .is_some_and(|chunk| chunk.at.file() > self.ready)
    }

    /// Gives up a spare, if there is one.
    pub(crate) fn drop_spare<D: Disk>(&mut self, files: &mut Files<D>) -> Result<(), StoreError> {
        if self.spares() > 0 {
            files.remove(FileId::Wal(self.ready))?;
            files.sync_directory(DIRECTORY)?;
            self.ready -= 1;
        }
        Ok(())
    }

    /// Goes on in a file that was written before.
    pub(crate) fn continue_at(&mut self, end: Position) {
        self.end = end;
        self.begun = Some(end.file());
    }

    /// Makes a file that recovery no longer needs the next spare, or removes it.
    pub(crate) fn recycle<D: Disk>(
        &mut self,
        file: u32,
        keep: bool,
        files: &mut Files<D>,
    ) -> Result<(), StoreError> {
        let id = FileId::Wal(file);
        if keep && files.len(id)? == self.file_bytes {
            files.rename(id, FileId::Wal(self.ready + 1))?;
            files.sync_directory(DIRECTORY)?;
            self.ready += 1;
            return Ok(());
        }
        files.remove(id)?;
        files.sync_directory(DIRECTORY)
    }

    /// Syncs what `mark` wrote.
    pub(crate) fn sync_mark<D: Disk>(&self, files: &mut Files<D>) -> Result<(), StoreError> {
        self.begun
            .map_or(Ok(()), |file| files.sync(FileId::Wal(file)))
    }

    /// Writes, without a sync, a record that tells recovery how far the log is durable. Without it
    /// damage to the last envelope looks like an envelope that was never finished.
    pub(crate) fn mark<D: Disk>(&mut self, files: &mut Files<D>) -> Result<(), StoreError> {
        let wanted = !self.marked && self.pending.is_empty() && self.begun == Some(self.tail());
        if !wanted || self.would_rotate(0) {
            return Ok(());
        }
        let header = format::envelope_header(self.end, self.durable, 0, 0);
        files.write(
            FileId::Wal(self.tail()),
            u64::from(self.end.offset()),
            &[&header],
        )?;
        self.end = Position::new(self.tail(), self.end.offset() + header.len() as u32);
        self.marked = true;
        Ok(())
    }
}

fn keep_buffer(buffers: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if buffers.len() < BUFFERS_KEPT && buffer.capacity() <= BUFFER_BYTES_KEPT {
        buffer.clear();
        buffers.push(buffer);
    }
}
