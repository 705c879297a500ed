//! The log's redb file: two tables, read once at the start, written one transaction at a time.
//!
//! A commit is redb's one-phase commit: one fsync, the file valid at any moment of a crash by its
//! checksums. Its alternatives (two phases, quick repair) cost a second fsync per commit and save
//! milliseconds of a start after a crash, as long as the log is kept short by snapshots.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::Path;

use openraft::EntryPayload;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, TableDefinition, WriteTransaction,
};

use crate::StartError;
use crate::format::{self, EntryRecord, FormatError, Position, VoteRecord};
use crate::types::{Entry, LogId, Membership, Vote};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const NODE: &str = "node";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const GENERATION: &str = "generation";
/// Whether the log has yet to be brought level with that of its generation's leader.
const NEWCOMER: &str = "newcomer";
/// The entry a refounded log goes on with: its founder, alone.
const FOUNDED: &str = "founded";

/// Pages redb may keep in memory. The tail of the log is kept in memory by [`super::LogStore`].
const CACHE_BYTES: usize = 2 << 20;

/// An opened file.
pub(crate) struct LogFile {
    database: Database,
}

/// What the file held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) generation: Option<u64>,
    /// The log was empty when it joined its generation, and has not been level with it since.
    pub(crate) newcomer: bool,
    /// Where the log was founded anew, and by whom; none in a cluster's first generation and at
    /// those who joined later.
    pub(crate) founded: Option<(LogId, Membership)>,
}

/// Writes that become durable together.
pub(crate) struct Batch {
    transaction: WriteTransaction,
}

impl LogFile {
    /// Opens or creates the file of node `node` at `path`.
    pub(crate) fn open(path: &Path, node: u64) -> Result<(Self, Stored), StartError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| StartError::File {
                path: path.to_owned(),
                source,
            })?;
        let backend = redb::backends::FileBackend::new(file)
            .map_err(|error| StartError::from_redb(path, error.into()))?;
        let opened = Self::open_with(backend, path, node)?;
        sync_folder_of(path).map_err(|source| StartError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok(opened)
    }

    /// Opens or creates the file of node `node` on any storage; `path` is for messages.
    pub(crate) fn open_with(
        backend: impl StorageBackend,
        path: &Path,
        node: u64,
    ) -> Result<(Self, Stored), StartError> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| StartError::from_redb(path, error.into()))?;
        let file = LogFile { database };
        let found = file
            .claim(node)
            .map_err(|error| StartError::from_redb(path, error))?;
        let found: u64 = format::decode(&found)
            .map_err(|error| StartError::unreadable(path, "node number", &error))?;
        if found != node {
            return Err(StartError::ForeignNode {
                path: path.to_owned(),
                found,
                node,
            });
        }
        let stored = file.read_stored(path)?;
        Ok((file, stored))
    }

    /// Writes `node` into a new file; returns what an older one says.
    fn claim(&self, node: u64) -> Result<Vec<u8>, redb::Error> {
        let tables = self.begin_read()?.list_tables()?.count();
        if tables > 0 {
            let transaction = self.begin_read()?;
            let meta = transaction.open_table(META)?;
            return Ok(meta
                .get(NODE)?
                .map_or_else(Vec::new, |found| found.value().to_vec()));
        }
        let own = format::encode(&node);
        let batch = self.begin_write()?;
        batch.put(NODE, &own)?;
        batch.transaction.open_table(LOG)?;
        batch.commit()?;
        Ok(own)
    }

    fn read_stored(&self, path: &Path) -> Result<Stored, StartError> {
        let redb = |error: redb::Error| StartError::from_redb(path, error);
        let transaction = self.begin_read().map_err(redb)?;
        let meta = transaction
            .open_table(META)
            .map_err(|error| redb(error.into()))?;
        let position = |key| -> Result<Option<LogId>, StartError> {
            let found = meta.get(key).map_err(|error| redb(error.into()))?;
            let found = found
                .map(|found| format::decode::<Position>(found.value()))
                .transpose();
            let found = found.map_err(|error| StartError::unreadable(path, key, &error))?;
            Ok(found.map(LogId::from))
        };
        let purged = position(PURGED)?;
        let committed = position(COMMITTED)?;
        let vote = meta.get(VOTE).map_err(|error| redb(error.into()))?;
        let vote = vote
            .map(|found| format::decode::<VoteRecord>(found.value()))
            .transpose();
        let vote = vote.map_err(|error| StartError::unreadable(path, VOTE, &error))?;
        let generation = meta.get(GENERATION).map_err(|error| redb(error.into()))?;
        let generation = generation
            .map(|found| format::decode::<u64>(found.value()))
            .transpose();
        let generation =
            generation.map_err(|error| StartError::unreadable(path, GENERATION, &error))?;
        let newcomer = meta.get(NEWCOMER).map_err(|error| redb(error.into()))?;
        let newcomer = newcomer
            .map(|found| format::decode::<bool>(found.value()))
            .transpose();
        let newcomer = newcomer.map_err(|error| StartError::unreadable(path, NEWCOMER, &error))?;
        let founded = meta.get(FOUNDED).map_err(|error| redb(error.into()))?;
        let founded = founded
            .map(|found| format::decode::<EntryRecord>(found.value())?.into_entry())
            .transpose();
        let founded = founded.map_err(|error| StartError::unreadable(path, FOUNDED, &error))?;
        let founded = founded.and_then(|entry| match entry.payload {
            EntryPayload::Membership(membership) => Some((entry.log_id, membership)),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        });
        let last = read_last(&transaction, purged.as_ref())
            .map_err(redb)?
            .map_err(|what| StartError::damaged(path, what))?;
        Ok(Stored {
            vote: vote.map(Vote::from),
            committed,
            purged,
            last: last.or(purged),
            generation,
            newcomer: newcomer.unwrap_or(false),
            founded,
        })
    }

    /// A frozen view of the file.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.database.begin_read()?)
    }

    /// Starts the next batch; there is one at a time.
    pub(crate) fn begin_write(&self) -> Result<Batch, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(Batch { transaction })
    }
}

impl Batch {
    fn put(&self, key: &str, value: &[u8]) -> Result<(), redb::Error> {
        self.transaction.open_table(META)?.insert(key, value)?;
        Ok(())
    }

    /// Adds encoded entries at their indices.
    pub(crate) fn append(&mut self, records: &[(u64, Vec<u8>)]) -> Result<(), redb::Error> {
        let mut log = self.transaction.open_table(LOG)?;
        for (index, record) in records {
            log.insert(index, record.as_slice())?;
        }
        Ok(())
    }

    /// Replaces the vote.
    pub(crate) fn set_vote(&mut self, vote: &Vote) -> Result<(), redb::Error> {
        self.put(VOTE, &format::encode(&VoteRecord::from(vote)))
    }

    /// Replaces the generation the log is of.
    pub(crate) fn set_generation(&mut self, generation: u64) -> Result<(), redb::Error> {
        self.put(GENERATION, &format::encode(&generation))
    }

    /// Replaces whether the log has yet to be brought level.
    pub(crate) fn set_newcomer(&mut self, newcomer: bool) -> Result<(), redb::Error> {
        self.put(NEWCOMER, &format::encode(&newcomer))
    }

    /// Remembers the encoded membership entry a refounded log goes on with.
    pub(crate) fn set_founded(&mut self, record: &[u8]) -> Result<(), redb::Error> {
        self.put(FOUNDED, record)
    }

    /// Replaces the position up to which entries are known to be committed.
    pub(crate) fn set_committed(&mut self, committed: &LogId) -> Result<(), redb::Error> {
        self.put(COMMITTED, &format::encode(&Position::from(committed)))
    }

    /// Drops all entries after `index`, or all.
    pub(crate) fn truncate_after(&mut self, index: Option<u64>) -> Result<(), redb::Error> {
        let start = index.map_or(0, |index| index + 1);
        self.transaction
            .open_table(LOG)?
            .retain_in(start.., |_, _| false)?;
        Ok(())
    }

    /// Drops all entries up to and with `upto`, and remembers that they were there.
    pub(crate) fn purge(&mut self, upto: &LogId) -> Result<(), redb::Error> {
        self.put(PURGED, &format::encode(&Position::from(upto)))?;
        self.transaction
            .open_table(LOG)?
            .retain_in(..=upto.index, |_, _| false)?;
        Ok(())
    }

    /// Makes the batch durable.
    pub(crate) fn commit(self) -> Result<(), redb::Error> {
        Ok(self.transaction.commit()?)
    }
}

/// Appends the entries of `range` that the file holds to `entries`.
pub(crate) fn read_entries(
    transaction: &ReadTransaction,
    range: Range<u64>,
    entries: &mut Vec<Entry>,
) -> Result<(), ReadError> {
    let log = transaction.open_table(LOG).map_err(redb::Error::from)?;
    let mut expected = range.start;
    for row in log.range(range.clone()).map_err(redb::Error::from)? {
        let (index, record) = row.map_err(redb::Error::from)?;
        let index = index.value();
        if index != expected {
            return Err(ReadError::Hole(expected));
        }
        expected += 1;
        entries.push(
            decode_entry(index, record.value()).map_err(|error| ReadError::Entry(index, error))?,
        );
    }
    if expected == range.end {
        Ok(())
    } else {
        Err(ReadError::Hole(expected))
    }
}

/// Why entries could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error("entry {0} is missing")]
    Hole(u64),
    #[error("entry {0} cannot be read: {1}")]
    Entry(u64, FormatError),
}

fn decode_entry(index: u64, record: &[u8]) -> Result<Entry, FormatError> {
    let entry = format::decode::<EntryRecord>(record)?.into_entry()?;
    if entry.log_id.index != index {
        return Err(FormatError::Content(format!(
            "it is entry {}",
            entry.log_id.index
        )));
    }
    Ok(entry)
}

/// The last entry's position, after a look at whether the log is whole.
fn read_last(
    transaction: &ReadTransaction,
    purged: Option<&LogId>,
) -> Result<Result<Option<LogId>, String>, redb::Error> {
    let log = transaction.open_table(LOG)?;
    let (Some(first), Some(last)) = (log.first()?, log.last()?) else {
        return Ok(Ok(None));
    };
    let (first, last_index) = (first.0.value(), last.0.value());
    let expected = super::next_index(purged);
    if first != expected {
        return Ok(Err(format!(
            "its log starts with entry {first}, not {expected}"
        )));
    }
    if log.len()? != last_index - first + 1 {
        return Ok(Err(format!(
            "entries between {first} and {last_index} are missing"
        )));
    }
    Ok(match decode_entry(last_index, last.1.value()) {
        Ok(entry) => Ok(Some(entry.log_id)),
        Err(error) => Err(format!("entry {last_index} cannot be read: {error}")),
    })
}

/// Makes the name of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
