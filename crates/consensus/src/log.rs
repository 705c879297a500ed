//! The log of entries and this node's vote: memory in front, a journal and one redb file behind.
//!
//! Writes are queued in memory, where they are readable at once, and carried to disk by one
//! thread: whatever has gathered while the last batch was under way becomes the next batch, so
//! any number of concurrent proposals share one fsync. A single writer keeps the order of calls.
//! Batches go to the journal, and from there to the database many at a time ([`file`]).
//!
//! Invariants:
//! - the log is `first ..= last` without holes, in memory and on disk;
//! - `recent` is a contiguous tail of the log; an entry leaves it only once the database holds it;
//! - a completion is reported only after the batch that carries the write is on disk;
//! - after the first failed commit nothing is written and every later write fails: a sync that
//!   failed once says nothing about what is on disk, so it is never retried.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use openraft::EntryPayload;
use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::oneshot;

use crate::StartError;
use crate::panics::unless_panicked;
use crate::types::{Entry, LogId, Types, Vote};

mod engine;
pub(crate) mod file;
pub(crate) mod journal;
mod writer;

use file::{LogFile, Stored};
use journal::Change;

/// Entries the database already holds stay in memory up to this many bytes, for followers that are a
/// little behind.
const RECENT_BYTES: usize = 256 << 10;

/// Entries sent to a follower in one packet have at most about this many bytes.
const SEND_BYTES: usize = 1 << 20;

/// What an entry counts for beside the bytes of its command.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The engine's handle on the log, and its readers'. Clones share one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// None once closed.
    file: RwLock<Option<LogFile>>,
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the first entry, or of the next to come.
    first: u64,
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Every entry below this index is on disk.
    durable_next: u64,
    /// The database holds every entry below this index.
    stored_next: u64,
    /// Counts truncations: an append from before the latest says nothing about `durable_next`.
    truncations: u64,
    /// Which history the log belongs to; none while nobody has told this node.
    generation: Option<u64>,
    /// The log was empty when it joined its generation, and has not been level with it since.
    newcomer: bool,
    queue: Vec<Write>,
    closing: bool,
    failure: Option<String>,
    damage: Option<String>,
}

/// One write on its way to the file.
enum Write {
    Append {
        entries: Vec<Change>,
        truncations: u64,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    TruncateAfter {
        index: Option<u64>,
        done: Done,
    },
    Purge {
        upto: LogId,
    },
    /// An empty log joins a generation.
    Generation(u64),
    /// The log has caught up with its generation.
    Level,
}

type Done = oneshot::Sender<io::Result<()>>;

/// Ends the writer thread, after it has written what is queued.
pub(crate) struct Closer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LogStore {
    /// Takes over an opened file and starts its writer thread.
    pub(crate) fn new(path: PathBuf, file: LogFile, stored: Stored) -> io::Result<(Self, Closer)> {
        let durable_next = next_index(stored.last.as_ref());
        let shared = Arc::new(Shared {
            path,
            file: RwLock::new(Some(file)),
            state: Mutex::new(State {
                vote: stored.vote,
                committed: stored.committed,
                purged: stored.purged,
                last: stored.last,
                first: next_index(stored.purged.as_ref()),
                recent: VecDeque::new(),
                recent_bytes: 0,
                durable_next,
                stored_next: durable_next,
                truncations: 0,
                generation: stored.generation,
                newcomer: stored.newcomer,
                queue: Vec::new(),
                closing: false,
                failure: None,
                damage: None,
            }),
            wake: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("metadata-log".to_owned())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared)
            })?;
        Ok((
            LogStore {
                shared: shared.clone(),
            },
            Closer {
                shared,
                thread: Some(thread),
            },
        ))
    }

    /// The file behind the log.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Why writing has ended for good, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    /// What was found damaged on reading, if anything was.
    pub(crate) fn damage(&self) -> Option<String> {
        self.shared.state.lock().damage.clone()
    }

    /// Which history this log belongs to, if anybody has said so.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.shared.state.lock().generation
    }

    /// Whether the log never held an entry.
    pub(crate) fn is_blank(&self) -> bool {
        self.shared.state.lock().last.is_none()
    }

    /// Makes the log one of `generation` if it is of none. On disk with the next write that is
    /// waited for, so before anything this generation's leader has sent.
    pub(crate) fn adopt(&self, generation: u64) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.check_open(&self.shared.path)?;
        if state.generation.is_none() {
            state.generation = Some(generation);
            state.newcomer = true;
            state.queue.push(Write::Generation(generation));
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Whether the log was empty when it joined its generation and has not been level with a leader's
    /// since. The memberships a newcomer reads on its way are of the past: one of them may name this
    /// node as the only voter, from a life it has forgotten. So it must not stand for election.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.shared.state.lock().newcomer
    }

    /// Ends the time as a newcomer if the log has come to `committed`, which a leader has named and
    /// taken this node's log to agree with. True if it was ended now.
    pub(crate) fn came_level(&self, committed: Option<&LogId>) -> bool {
        let mut state = self.shared.state.lock();
        if !state.newcomer || committed.is_none() || state.last.as_ref() < committed {
            return false;
        }
        state.newcomer = false;
        // Lost in a crash it is found out again.
        state.queue.push(Write::Level);
        self.shared.wake.notify_one();
        true
    }

    /// Term and index of the last entry.
    pub(crate) fn last(&self) -> (u64, u64) {
        let state = self.shared.state.lock();
        state.last.map_or((0, 0), |last| (last.leader_id.term, last.index))
    }

    async fn write(&self, make: impl FnOnce(Done) -> Write) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.shared.enqueue(make(done))?;
        match outcome.await {
            Ok(result) => result,
            Err(_) => Err(self.shared.closed_error()),
        }
    }
}

impl Shared {
    fn enqueue(&self, write: Write) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_open(&self.path)?;
        state.queue.push(write);
        self.wake.notify_one();
        Ok(())
    }

    fn closed_error(&self) -> io::Error {
        let state = self.state.lock();
        state
            .check_open(&self.path)
            .err()
            .unwrap_or_else(|| closed(&self.path))
    }

    /// The entries from `start` up to, not including, `end`.
    fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut recent = Vec::new();
        let (start, from_file, transaction) = {
            let state = self.state.lock();
            let start = start.max(state.first);
            let end = end.min(next_index(state.last.as_ref()));
            if start >= end {
                return Ok(Vec::new());
            }
            let recent_start = state.recent_start();
            if end > recent_start {
                let skip = start.saturating_sub(recent_start) as usize;
                let upto = (end - recent_start) as usize;
                recent.extend(state.recent.range(skip..upto).cloned());
            }
            // The view of the file is taken under the lock: what is purged or cut off later is
            // still in it.
            let from_file = end.min(recent_start);
            let transaction = (start < from_file).then(|| self.begin_read());
            (start, from_file, transaction)
        };
        let transaction = transaction.transpose().map_err(|error| match error {
            Some(error) => self.read_error(&error),
            None => closed(&self.path),
        })?;
        let mut entries = Vec::with_capacity(recent.len());
        if let Some(transaction) = transaction {
            let read = || file::read_entries(&transaction, start..from_file, &mut entries);
            unless_panicked(read)
                .map_err(|what| self.read_error(&format!("reading it {what}")))?
                .map_err(|error| self.read_error(&error))?;
        }
        entries.append(&mut recent);
        Ok(entries)
    }

    /// A frozen view of the file, unless that fails or, with no error, the file is closed.
    fn begin_read(&self) -> Result<redb::ReadTransaction, Option<redb::Error>> {
        self.file
            .read()
            .as_ref()
            .ok_or(None)?
            .begin_read()
            .map_err(Some)
    }

    /// What cannot be read back is damage. It is kept for whoever asks why the engine gave up.
    fn read_error(&self, error: &dyn std::fmt::Display) -> io::Error {
        let what = error.to_string();
        let text = StartError::damaged(&self.path, &what).to_string();
        self.state.lock().damage.get_or_insert(what);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl State {
    fn check_open(&self, path: &Path) -> io::Result<()> {
        match &self.failure {
            Some(failure) => Err(io::Error::other(failure.clone())),
            None if self.closing => Err(closed(path)),
            None => Ok(()),
        }
    }

    /// The index of the first entry in `recent`, or the next to come.
    fn recent_start(&self) -> u64 {
        self.recent
            .front()
            .map_or(next_index(self.last.as_ref()), |entry| entry.log_id.index)
    }

    fn push_recent(&mut self, entry: Entry) {
        self.recent_bytes += weight(&entry);
        self.recent.push_back(entry);
    }

    fn pop_recent(&mut self, front: bool) {
        let popped = if front {
            self.recent.pop_front()
        } else {
            self.recent.pop_back()
        };
        if let Some(entry) = popped {
            self.recent_bytes -= weight(&entry);
        }
    }

    /// Lets go of entries the database holds, oldest first, until the rest is small.
    fn trim_recent(&mut self) {
        while self.recent_bytes > RECENT_BYTES
            && self
                .recent
                .front()
                .is_some_and(|entry| entry.log_id.index < self.stored_next)
        {
            self.pop_recent(true);
        }
        if self.recent.is_empty() {
            self.recent.shrink_to(64);
        }
    }
}

fn closed(path: &Path) -> io::Error {
    io::Error::other(format!("metadata file {} is closed", path.display()))
}

pub(crate) fn next_index(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

/// The bytes an entry takes in memory, about.
fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.payload {
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}

impl Closer {
    /// Writes what is queued, syncs, and closes the file. Blocks.
    pub(crate) fn close(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let file = self.shared.path.display();
            tracing::error!(%file, "the metadata log's writer panicked");
        }
        *self.shared.file.write() = None;
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
pub(crate) mod tests;
