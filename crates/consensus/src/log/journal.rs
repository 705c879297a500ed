//! The journal in front of the log's redb file: what has been written since the file was last brought up to
//! date, one record for each batch, in a file that keeps its size.
//!
//! A batch costs one write into room that is there already, and one sync. The file is brought up to date when
//! the journal is full ([`super::file`]): with one transaction that carries everything in the journal and
//! names the *round* the journal begins with it. A record counts only in its own round, so that a round's
//! records become part of the file and are void in the same step.
//!
//! Invariants:
//! - record n+1 is written only after record n is synced: where a record is bad and a later one of its round is
//!   whole, synced bytes have changed. That is damage; without such a proof the bad one was never promised;
//! - behind the last record stands, once there was time for it, an empty one (the *mark*) that proves it;
//! - after a failed write or sync nothing more is written, in this file or the other.
//!
//! `docs/formats/metadata.md` is the specification.

use std::io;

use bytes::Bytes;
use redb::StorageBackend;
use serde::{Deserialize, Serialize};

use crate::format::{self, EntryRecord, Position, VoteRecord};
use crate::types::Entry;

/// Bytes of a journal that is made. Read back from its length, so that it may change.
pub(crate) const JOURNAL_BYTES: usize = 512 << 10;
/// No program has made a smaller one.
const BYTES_MIN: usize = 512 << 10;

const MAGIC: [u8; 4] = *b"wjr1";

/// Magic, length, round, sequence, checksum of all that and the body.
const HEADER_BYTES: usize = 4 + 4 + 8 + 8 + 4;

/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// One write, as the journal and the file take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// An encoded entry at its index.
    Append { index: u64, entry: Bytes },
    /// The vote given or won.
    Vote(VoteRecord),
    /// All entries after the index go, or all.
    TruncateAfter(Option<u64>),
    /// All entries up to and with this one go.
    Purge(Position),
    /// The history the log is of.
    Generation(u64),
    /// Whether the log has yet to be brought level.
    Newcomer(bool),
    /// Entries up to this one are known to be committed.
    Committed(Position),
    /// The encoded membership entry a refounded log goes on with.
    Founded(Bytes),
}

impl Change {
    /// Puts `entry` at its index.
    pub(crate) fn append(entry: &Entry) -> Self {
        Change::Append {
            index: entry.log_id.index,
            entry: format::encode(&EntryRecord::from(entry)).into(),
        }
    }
}

/// An open journal in a round.
#[derive(Debug)]
pub(crate) struct Journal {
    storage: Box<dyn StorageBackend>,
    capacity: usize,
    round: u64,
    /// How many records the round has.
    sequence: u64,
    /// Where the next one goes.
    end: usize,
    /// A mark stands at `end`, or there is no record to prove.
    marked: bool,
    /// The next record, or the mark, while it is made.
    buffer: Vec<u8>,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

impl Journal {
    /// Makes the journal's room anew. It is in no round yet.
    pub(crate) fn create(storage: Box<dyn StorageBackend>) -> io::Result<Self> {
        // Written, not only reserved, whatever a start before has left: a first write into reserved room costs a
        // journalling file system as much as growing the file, and may find no room.
        storage.set_len(JOURNAL_BYTES as u64)?;
        storage.write(0, &vec![0; JOURNAL_BYTES])?;
        storage.sync_data()?;
        Ok(Self::of(storage, JOURNAL_BYTES))
    }

    fn of(storage: Box<dyn StorageBackend>, capacity: usize) -> Self {
        Journal {
            storage,
            capacity,
            round: 0,
            sequence: 0,
            end: 0,
            marked: true,
            buffer: Vec::new(),
        }
    }

    /// Reads the changes of `round` back, in order, from a journal that was made before.
    pub(crate) fn recover(
        storage: Box<dyn StorageBackend>,
        round: u64,
    ) -> Result<(Self, Vec<Change>), JournalError> {
        let length = storage.len()? as usize;
        if length < BYTES_MIN {
            let what = format!("it has {length} bytes of {BYTES_MIN} at least, and the log needs what it held");
            return Err(JournalError::Damaged(what));
        }
        let mut journal = Self::of(storage, length);
        journal.round = round;
        let mut bytes = vec![0; journal.capacity];
        journal.storage.read(0, &mut bytes)?;
        let (changes, sequence, end) = read(&bytes, round)?;
        (journal.sequence, journal.end) = (sequence, end);
        let later = (journal.end..bytes.len()).step_by(ALIGNMENT);
        for at in later {
            let whole = header(&bytes[at..])
                .filter(|header| header.round == round && header.sequence > journal.sequence)
                .and_then(|header| record(&bytes[at..], round, header.sequence));
            if whole.is_some() {
                return Err(changed(journal.end));
            }
        }
        Ok((journal, changes))
    }

    /// Writes `changes` and syncs them; `false` and nothing done if they do not fit.
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        self.buffer = postcard::to_extend(&changes, buffer)
            .expect("our structs have no form postcard refuses, and memory does not run out by half");
        let length = padded(self.buffer.len());
        // Room for the mark is left.
        if self.end + length + padded(HEADER_BYTES) > self.capacity {
            self.buffer = Vec::new();
            return Ok(false);
        }
        self.write_record()?;
        self.storage.sync_data()?;
        self.end += length;
        self.sequence += 1;
        self.marked = false;
        Ok(true)
    }

    /// Writes the mark, unless it is there. Not synced: it is a proof for when it has come to the disk.
    pub(crate) fn mark(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.marked, true) {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.write_record()
    }

    /// All changes of the round so far, read back from the file.
    pub(crate) fn changes(&self) -> Result<Vec<Change>, JournalError> {
        let mut bytes = vec![0; self.end];
        self.storage.read(0, &mut bytes)?;
        let (changes, sequence, end) = read(&bytes, self.round)?;
        if sequence < self.sequence {
            return Err(changed(end));
        }
        Ok(changes)
    }

    /// Begins `round`, which the file names from now on.
    pub(crate) fn begin(&mut self, round: u64) {
        self.round = round;
        self.sequence = 0;
        self.end = 0;
        self.marked = true;
    }

    /// Writes `buffer`, whose header is still empty, at the end.
    fn write_record(&mut self) -> io::Result<()> {
        let body_bytes = (self.buffer.len() - HEADER_BYTES) as u32;
        self.buffer[..4].copy_from_slice(&MAGIC);
        self.buffer[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&self.round.to_le_bytes());
        self.buffer[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        let checksum = checksum(&self.buffer);
        self.buffer[24..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.storage.write(self.end as u64, &self.buffer)
    }
}

/// The changes of `round` from the beginning of `bytes` to the first record that is not whole, or to the mark: how
/// many records those were, and where they end.
fn read(bytes: &[u8], round: u64) -> Result<(Vec<Change>, u64, usize), JournalError> {
    let (mut changes, mut sequence, mut at) = (Vec::new(), 0, 0);
    while let Some(body) = bytes.get(at..).and_then(|rest| record(rest, round, sequence)) {
        if body.is_empty() {
            // The mark. What would prove that a record stood in its place has its sequence behind it.
            break;
        }
        let mut read: Vec<Change> = postcard::from_bytes(body)
            .map_err(|error| JournalError::Damaged(format!("its record at {at} makes no sense: {error}")))?;
        changes.append(&mut read);
        at += padded(HEADER_BYTES + body.len());
        sequence += 1;
    }
    Ok((changes, sequence, at))
}

fn changed(at: usize) -> JournalError {
    JournalError::Damaged(format!("its record at {at} has changed"))
}

struct Header {
    round: u64,
    sequence: u64,
    body_bytes: usize,
    checksum: u32,
}

/// What stands at the beginning of `bytes`, if it looks like a record's header.
fn header(bytes: &[u8]) -> Option<Header> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (body_bytes, rest) = rest.split_first_chunk()?;
    let (round, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (checksum, _) = rest.split_first_chunk()?;
    Some(Header {
        round: u64::from_le_bytes(*round),
        sequence: u64::from_le_bytes(*sequence),
        body_bytes: u32::from_le_bytes(*body_bytes) as usize,
        checksum: u32::from_le_bytes(*checksum),
    })
}

/// The body of the record at the beginning of `bytes`, if it is whole and this one.
fn record(bytes: &[u8], round: u64, sequence: u64) -> Option<&[u8]> {
    let header = header(bytes)?;
    let whole = bytes.get(..HEADER_BYTES.checked_add(header.body_bytes)?)?;
    let good = header.round == round && header.sequence == sequence && header.checksum == checksum(whole);
    good.then(|| &whole[HEADER_BYTES..])
}

/// CRC-32 of a record without its own checksum.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..HEADER_BYTES - 4]);
    hasher.update(&record[HEADER_BYTES..]);
    hasher.finalize()
}

const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests;
