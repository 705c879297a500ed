//! Why the metadata log could not start: what happened, which file, what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::FormatError;

/// Why [`crate::start`] gave up. Nothing was changed on disk beyond what an earlier start wrote.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or the folder cannot be used.
    #[error(
        "cannot use {path}: {source}; see that the folder exists, has space and belongs to the \
         user this node runs as", path = .path.display()
    )]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error(
        "metadata file {path} is in use by another process; stop that process, or give this node \
         a data folder of its own", path = .path.display()
    )]
    InUse {
        /// The file in use.
        path: PathBuf,
    },
    /// The file's content is not what was written.
    #[error(
        "metadata file {path} is damaged: {what}; put back a copy of its folder, or move the \
         folder away: the node then starts empty, fetches everything from its peers if it has \
         any, and otherwise needs its definitions imported again", path = .path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a program of a later version.
    #[error(
        "metadata file {path} was written by another version: {what}; start the version that \
         wrote it", path = .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The folder is another node's.
    #[error(
        "metadata file {path} belongs to node {found}, and this is node {node}; give each node its \
         own data folder", path = .path.display()
    )]
    ForeignNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who asked for it.
        node: u64,
    },
    /// The folder's log has another history than the one it was started for.
    #[error(
        "the metadata log in {path} is of generation {found:016x}, not {wanted:016x}; to join that \
         one, forget this log first", path = .path.display()
    )]
    Generation {
        /// The file.
        path: PathBuf,
        /// The generation it is of.
        found: u64,
        /// The generation asked for.
        wanted: u64,
    },
    /// There is no log to go on from.
    #[error("there is no metadata log in {path}", path = .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// An option makes no sense.
    #[error("metadata log options: {0}")]
    Options(String),
    /// The engine gave up.
    #[error("the metadata log in {path} did not start: {what}", path = .path.display())]
    Engine {
        /// The log's folder.
        path: PathBuf,
        /// What it said.
        what: String,
    },
}

impl StartError {
    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        StartError::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn unreadable(path: &Path, part: &str, error: &FormatError) -> Self {
        let what = format!("its {part} cannot be read: {error}");
        match error {
            FormatError::Version { .. } => StartError::Version {
                path: path.to_owned(),
                what,
            },
            FormatError::Checksum | FormatError::Short | FormatError::Content(_) => {
                StartError::damaged(path, what)
            }
        }
    }

    pub(crate) fn from_redb(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => StartError::InUse {
                path: path.to_owned(),
            },
            redb::Error::Io(source)
                if !matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                StartError::File {
                    path: path.to_owned(),
                    source,
                }
            }
            redb::Error::UpgradeRequired(version) => StartError::Version {
                path: path.to_owned(),
                what: format!("it has redb file format {version}"),
            },
            error => StartError::damaged(path, error.to_string()),
        }
    }
}
