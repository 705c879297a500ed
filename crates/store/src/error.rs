//! How the store refuses. A failed write or sync is kept and given to every later caller: after it
//! nothing is known about the file, and no sync is ever tried again and called good.

use std::io;
use std::sync::Arc;

/// Why the store did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A write, sync or change of names failed. The store does nothing more until it is opened
    /// anew.
    #[error("the store stopped after a failed disk operation on {file}: {error}")]
    Poisoned {
        /// What the operation was about.
        file: String,
        /// The first failure.
        error: Arc<io::Error>,
    },
    /// The disk has no room for a new log file or segment. Nothing promised is lost; try again when
    /// there is room.
    #[error("no room on the disk")]
    DiskFull,
    /// The log has reached its hard limit; call `maintain` until it says there is nothing to do,
    /// then try again.
    #[error("the log is full until it has been checkpointed")]
    LogFull,
    /// The batch does not fit in a log file whatever its state.
    #[error("a batch may not exceed 2 GiB: {0} bytes")]
    BatchTooLarge(u64),
    /// A file could not be read.
    #[error("cannot read {file} at offset {offset}: {error}")]
    Read {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What the disk said.
        error: Arc<io::Error>,
    },
    /// Bytes that were synced have changed. The message is not served.
    #[error("corrupt record in {file} at offset {offset}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where the bad record starts.
        offset: u64,
    },
}

/// Why the store could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot use {file}: {error}")]
    Disk {
        /// The file or folder.
        file: String,
        /// What the disk said.
        error: Arc<io::Error>,
    },
    /// Bytes that were synced have changed, so promised messages may be gone.
    #[error("corrupt record in {file} at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where the bad record starts.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A file that the checkpoint or a later log file names is gone.
    #[error("missing file {file}")]
    Missing {
        /// The file.
        file: String,
    },
    /// The file was written by a version with another format.
    #[error("unknown format {version} of {file}")]
    Version {
        /// The file.
        file: String,
        /// The version it claims.
        version: u32,
    },
}
