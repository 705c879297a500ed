//! The log's redb file: two tables, read once at the start, written one transaction at a time; and the
//! [`Journal`] in front of it, which takes most batches.
//!
//! A batch that the journal has room for is durable there. One that it has none for is committed here, together
//! with all that the journal holds, and the journal begins a new round. So does every start, and an orderly end
//! leaves a file that is complete without a journal.
//!
//! A commit is redb's one-phase commit: one fsync, the file valid at any moment of a crash by its
//! checksums. Its alternatives (two phases, quick repair) cost a second fsync per commit and save
//! milliseconds of a start after a crash, as long as the log is kept short by snapshots.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};

use openraft::EntryPayload;
use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, TableDefinition, WriteTransaction,
};

use super::journal::{Change, Journal, JournalError};
use crate::StartError;
use crate::format::{self, EntryRecord, FormatError, Position, VoteRecord};
use crate::generation;
use crate::types::{Entry, LogId, Membership, Vote};

/// The journal stands beside the file under this name.
pub(crate) const JOURNAL_FILE: &str = "metadata.journal";

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
/// The journal's round; missing where the file is complete without one.
const ROUND: &str = "round";

/// Pages redb may keep in memory. The tail of the log is kept in memory by [`super::LogStore`].
const CACHE_BYTES: usize = 2 << 20;

/// An opened file.
pub(crate) struct LogFile {
    database: Database,
    /// Used by one writer; readers see what is in the database.
    journal: Mutex<Journal>,
}

/// Where a batch has become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// In the journal: the database does not show it yet.
    Journal,
    /// In the database, with everything before it.
    Database,
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

impl LogFile {
    /// Opens or creates the file of node `node` at `path`.
    pub(crate) fn open(path: &Path, node: u64) -> Result<(Self, Stored), StartError> {
        let database = backend(path)?;
        // Whose database is open elsewhere, his journal is left alone as well.
        let journal = || backend(&journal_of(path));
        Self::open_with(database, journal, path, node)
    }

    /// Opens or creates the file of node `node` on any storage; `path` is for messages.
    pub(crate) fn open_with<S: StorageBackend>(
        storage: S,
        journal: impl FnOnce() -> Result<S, StartError>,
        path: &Path,
        node: u64,
    ) -> Result<(Self, Stored), StartError> {
        let redb = |error: redb::Error| StartError::from_redb(path, error);
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(storage)
            .map_err(|error| redb(error.into()))?;
        let found = claim(&database, node).map_err(redb)?;
        let found: u64 = format::decode(&found)
            .map_err(|error| StartError::unreadable(path, "node number", &error))?;
        if found != node {
            return Err(StartError::ForeignNode {
                path: path.to_owned(),
                found,
                node,
            });
        }
        let storage = Box::new(journal()?);
        let round = read_round(&database).map_err(redb)?;
        let round = round.map(|found| format::decode::<u64>(&found)).transpose();
        let round = round.map_err(|error| StartError::unreadable(path, ROUND, &error))?;
        let (journal, changes) = match round {
            Some(round) => Journal::recover(storage, round).map_err(|error| unusable(path, error))?,
            None => {
                let journal = Journal::create(storage).map_err(|error| unusable(path, error.into()))?;
                (journal, Vec::new())
            }
        };
        let file = LogFile {
            database,
            journal: Mutex::new(journal),
        };
        // What was not promised ends here, and what was is in the database, where redb looks after it.
        let begun = file.commit_all(&mut file.journal.lock(), &changes);
        begun.map_err(redb)?;
        let stored = file.read_stored(path)?;
        Ok((file, stored))
    }

    /// Makes `changes` durable together. After an error nothing more may be written.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<Committed, CommitError> {
        let mut journal = self.journal.lock();
        if journal.append(changes).map_err(JournalError::from)? {
            return Ok(Committed::Journal);
        }
        let mut all = journal.changes()?;
        all.extend_from_slice(changes);
        self.commit_all(&mut journal, &all)?;
        Ok(Committed::Database)
    }

    /// Uses a moment without writes to prove to the next start what has been written.
    pub(crate) fn rest(&self) -> Result<(), CommitError> {
        Ok(self.journal.lock().mark().map_err(JournalError::from)?)
    }

    /// Makes the last changes, and leaves a database that is complete. Nothing may be written afterwards.
    pub(crate) fn finish(&self, last: &[Change]) -> Result<(), CommitError> {
        let mut changes = self.journal.lock().changes()?;
        changes.extend_from_slice(last);
        let complete = || -> Result<(), redb::Error> {
            let transaction = begin_write(&self.database)?;
            make(&transaction, &changes)?;
            transaction.open_table(META)?.remove(ROUND)?;
            Ok(transaction.commit()?)
        };
        Ok(complete()?)
    }

    /// Commits `changes`, which are all that counts in the journal, and begins its next round.
    fn commit_all(&self, journal: &mut Journal, changes: &[Change]) -> Result<(), redb::Error> {
        let round = generation::random().map_err(redb::Error::Io)?;
        let transaction = begin_write(&self.database)?;
        make(&transaction, changes)?;
        put(&transaction, ROUND, &format::encode(&round))?;
        transaction.commit()?;
        journal.begin(round);
        Ok(())
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
}

/// Why a batch is not durable, or cannot be known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error("{0}")]
    Redb(#[from] redb::Error),
    #[error("its journal: {0}")]
    Journal(#[from] JournalError),
}

impl CommitError {
    /// The same for a start on the log's file at `path`.
    pub(crate) fn at(self, path: &Path) -> StartError {
        match self {
            CommitError::Redb(error) => StartError::from_redb(path, error),
            CommitError::Journal(error) => unusable(path, error),
        }
    }
}

/// The file at `path` as redb uses it, made if it is not there.
fn backend(path: &Path) -> Result<FileBackend, StartError> {
    let cannot = |source| StartError::File {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(cannot)?;
    // Its name has to be there before anything that is written to it counts.
    sync_folder_of(path).map_err(cannot)?;
    FileBackend::new(file).map_err(|error| StartError::from_redb(path, error.into()))
}

/// The journal of the log's file at `path`.
fn journal_of(path: &Path) -> PathBuf {
    path.with_file_name(JOURNAL_FILE)
}

fn unusable(path: &Path, error: JournalError) -> StartError {
    let path = journal_of(path);
    match error {
        JournalError::Io(source) => StartError::File { path, source },
        JournalError::Damaged(what) => StartError::damaged(&path, what),
    }
}

/// Writes `node` into a new database; returns what an older one says.
fn claim(database: &Database, node: u64) -> Result<Vec<u8>, redb::Error> {
    let read = database.begin_read()?;
    if read.list_tables()?.count() > 0 {
        let meta = read.open_table(META)?;
        return Ok(meta
            .get(NODE)?
            .map_or_else(Vec::new, |found| found.value().to_vec()));
    }
    drop(read);
    let own = format::encode(&node);
    let transaction = begin_write(database)?;
    put(&transaction, NODE, &own)?;
    transaction.open_table(LOG)?;
    transaction.commit()?;
    Ok(own)
}

fn read_round(database: &Database) -> Result<Option<Vec<u8>>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get(ROUND)?.map(|found| found.value().to_vec()))
}

/// Starts the next transaction; there is one at a time.
fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn put(transaction: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(key, value)?;
    Ok(())
}

/// Makes changes in their order.
fn make(transaction: &WriteTransaction, changes: &[Change]) -> Result<(), redb::Error> {
    let mut log = transaction.open_table(LOG)?;
    let mut meta = transaction.open_table(META)?;
    let mut set = |key, value: Vec<u8>| meta.insert(key, value.as_slice()).map(drop);
    for change in changes {
        match change {
            Change::Append { index, entry } => drop(log.insert(index, &entry[..])?),
            Change::Vote(vote) => set(VOTE, format::encode(vote))?,
            Change::TruncateAfter(index) => {
                let start = index.map_or(0, |index| index + 1);
                log.retain_in(start.., |_, _| false)?;
            }
            Change::Purge(upto) => {
                set(PURGED, format::encode(upto))?;
                log.retain_in(..=LogId::from(*upto).index, |_, _| false)?;
            }
            Change::Generation(generation) => set(GENERATION, format::encode(generation))?,
            Change::Newcomer(newcomer) => set(NEWCOMER, format::encode(newcomer))?,
            Change::Committed(upto) => set(COMMITTED, format::encode(upto))?,
            Change::Founded(entry) => set(FOUNDED, entry.to_vec())?,
        }
    }
    Ok(())
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
