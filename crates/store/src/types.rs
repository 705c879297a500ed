//! The store's vocabulary: plain values that cross its border.

use std::fmt;

/// Which queue a message is stored for. The caller chooses it; one key is one queue until it is
/// forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey(pub u64);

/// Position of a message in its queue. The caller chooses it and uses each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A point in the write-ahead log. Later appends have greater positions, also across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub(crate) u64);

impl Position {
    pub(crate) const fn new(file: u32, offset: u32) -> Position {
        Position(((file as u64) << 32) | offset as u64)
    }

    /// Number of the log file.
    #[must_use]
    pub const fn file(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset in that file.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The position as one number that rises.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file(), self.offset())
    }
}

/// How much one read may return. At least one message comes back if there is one, whatever its
/// size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most messages.
    pub messages: usize,
    /// Most payload bytes.
    pub bytes: usize,
}

/// What is stored for one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Lowest sequence of a live message.
    pub first: Option<Seq>,
    /// One above the highest sequence ever enqueued since the queue was last forgotten.
    pub next: Seq,
    /// Live messages.
    pub messages: u64,
    /// Their payload bytes.
    pub bytes: u64,
}

/// What `open` found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Every queue the store knows, by rising key; also those without a live message.
    pub queues: Vec<(QueueKey, QueueCounts)>,
    /// What an operator should read, though nothing that was promised is lost.
    pub notes: Vec<Note>,
}

/// Something `open` met and dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The log ended in a record that was being written when the node stopped; it was never synced,
    /// and is dropped.
    TornTail {
        /// Name of the log file.
        file: String,
        /// Where the log ends.
        offset: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::TornTail { file, offset } => {
                write!(
                    f,
                    "dropped an unfinished record at the end of {file}, offset {offset}"
                )
            }
        }
    }
}

/// What the store takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Log files in use, the one being written included.
    pub wal_files: u32,
    /// Bytes of log and spare log files on disk.
    pub wal_bytes: u64,
    /// Log files that wait to be used.
    pub spare_files: u32,
    /// Segments on disk.
    pub segment_files: u32,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Bytes of paged-out transient messages on disk.
    pub transient_bytes: u64,
    /// Live messages of all queues.
    pub messages: u64,
    /// Their payload bytes.
    pub message_bytes: u64,
    /// Memory of the index, as counted by the store itself.
    pub index_bytes: u64,
    /// Bytes appended that no `sync` has covered.
    pub unsynced_bytes: u64,
}

/// Sizes and limits. The defaults suit a server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of a log file. Only files made from now on have it.
    pub wal_file_bytes: u64,
    /// Full log files kept before the oldest is copied into a segment.
    pub wal_files_kept: u32,
    /// Log files, the one being written included, at which `append` refuses until `maintain` has
    /// freed one.
    pub wal_files_max: u32,
    /// Log files kept ready, so that no append waits for a file to be filled with zeros.
    pub spare_files: u32,
    /// Payload bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// A mistake to make on purpose, so that the simulator can prove it would be found.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// A rule of the store broken on purpose. Only builds with the feature `mutants` can break one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "mutants"),
    expect(dead_code, unreachable_pub, reason = "no rule is broken in this build")
)]
pub enum Mutant {
    /// `sync` returns without having synced.
    ConfirmBeforeSync,
    /// A log file is begun before the one before it is synced, which then never is.
    BeginEarly,
    /// What is read at the end of the log is taken for durable after a sync alone.
    SkipRewrite,
    /// Checksums of records are not looked at.
    SkipChecksum,
    /// Folders are never synced.
    SkipDirectorySync,
    /// A log file is used anew before the segment that took over its messages is synced.
    RecycleBeforeSegmentSync,
    /// A checkpoint does not say which messages of the segments are removed.
    ForgetRemovals,
    /// A record in a log file is taken for what it says, though it stands in the wrong place.
    IgnorePosition,
    /// After a failed sync the store syncs again and believes the answer.
    RetrySync,
    /// After a torn tail the log goes on in the same file.
    ReuseTornFile,
    /// A torn record in the middle of the log ends recovery without a word.
    TruncateAnywhere,
    /// A checkpoint does not keep the next sequence of a queue that is empty.
    ForgetNextSeq,
}

impl Options {
    /// True if this mistake is to be made.
    pub(crate) fn breaks(&self, mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return self.mutant == Some(mutant);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = mutant;
            false
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            wal_file_bytes: 64 << 20,
            wal_files_kept: 4,
            wal_files_max: 12,
            spare_files: 1,
            segment_bytes: 64 << 20,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}
