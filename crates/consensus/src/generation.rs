//! Generations: a log founded anew from the state one node has.
//!
//! Nodes that have lost the quorum for good, or go on without it, take one node's log for the
//! beginning of a new one. Nothing of the old log's votes counts there: requests name the
//! generation they are about, and a node answers those of its own alone. So two histories can meet
//! on the network and are never mixed.
//!
//! What the new log begins with is *everything* in the old log of that node, not only what is known
//! to be committed. An entry may have been answered before this node heard so, and the synchronous
//! learner of two nodes never hears it of the last ones; to drop the tail would lose them. To keep
//! it makes true at most what somebody has proposed and has been told nothing else about than
//! [`crate::ProposeError::Unknown`].
//!
//! What it does not begin with is the old log's *membership*. A node that joins the new generation
//! receives the log from its beginning; with the old memberships in it, a founder of the cluster
//! would find itself the only voter half-way, elect itself and contradict what is committed. So
//! their entries become blank, and the snapshot's counts as the new one ([`Stored::founded`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;

use crate::StartError;
use crate::format::{self, EntryRecord};
use crate::log::file::{JOURNAL_FILE, LogFile, ReadError, Stored, read_entries, sync_folder_of};
use crate::log::journal::Change;
use crate::log::next_index;
use crate::snapshot::SnapshotStore;
use crate::start::{LOG_FILE, SNAPSHOT_FILE};
use crate::types::{Entry, LeaderId, LogId, Membership, Peer, Vote};

/// The name of a log that is being forgotten: what stands beside it goes as well.
const FORGOTTEN_FILE: &str = "metadata.forgotten";

/// A log that was founded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refounded {
    /// The generation of the new log; members are told it to join no other by mistake.
    pub generation: u64,
    /// The index of the last entry, which makes this node the only voter.
    pub index: u64,
}

/// A number no other log has.
pub(crate) fn random() -> io::Result<u64> {
    loop {
        let generation = getrandom::u64().map_err(io::Error::other)?;
        if generation != 0 {
            return Ok(generation);
        }
    }
}

/// Founds the log in `data_dir` anew, of which nobody may have a handle: with everything it holds,
/// a new generation, and `node` at `address` as its only voter and member. Blocks; one batch,
/// so that a crash leaves the old log or the new.
///
/// Of several nodes that go on together, the one whose `(last_term, last_index)` in
/// [`crate::Status`] is the greatest is to do it; the others [`forget`] theirs and join.
pub fn refound(
    data_dir: &Path,
    node: NodeId,
    address: &str,
    generation: Option<u64>,
) -> Result<Refounded, StartError> {
    let log_path = data_dir.join(LOG_FILE);
    let cannot = |source| StartError::File {
        path: log_path.clone(),
        source,
    };
    if !log_path.exists() {
        return Err(StartError::Empty {
            path: data_dir.to_owned(),
        });
    }
    let (file, stored) = LogFile::open(&log_path, node.0)?;
    let (snapshots, _) = SnapshotStore::open(&data_dir.join(SNAPSHOT_FILE))?;
    let snapshot = snapshots
        .current()
        .and_then(|current| current.meta.last_log_id);
    let Some(last) = stored.last.max(snapshot) else {
        return Err(StartError::Empty {
            path: data_dir.to_owned(),
        });
    };
    let voted = stored.vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    let generation = match generation {
        Some(generation) => generation,
        None => random().map_err(cannot)?,
    };
    let voters = vec![BTreeSet::from([node.0])];
    let me = Peer {
        address: address.to_owned(),
    };
    let membership = Membership::new(voters, BTreeMap::from([(node.0, me)]))
        .map_err(|error| StartError::Options(error.to_string()))?;
    let at = LogId::new(LeaderId::new(term, node.0), last.index + 1);
    let entry = Entry::new(at, EntryPayload::Membership(membership));
    let vote = Vote {
        leader_id: LeaderId::new(term, node.0),
        committed: false,
    };
    let record = Bytes::from(format::encode(&EntryRecord::from(&entry)));
    let blanks = blank_memberships(&file, &stored)
        .map_err(|error| StartError::damaged(&log_path, error.to_string()))?;
    let mut changes = blanks;
    if stored.last < snapshot {
        // The log ends before its snapshot: it goes on behind it.
        changes.extend([Change::TruncateAfter(None), Change::Purge((&last).into())]);
    }
    changes.extend([
        Change::Founded(record.clone()),
        Change::Append {
            index: at.index,
            entry: record,
        },
        Change::Vote((&vote).into()),
        Change::Committed((&at).into()),
        Change::Generation(generation),
        Change::Newcomer(false),
    ]);
    file.finish(&changes)
        .map_err(|error| error.at(&log_path))?;
    Ok(Refounded {
        generation,
        index: at.index,
    })
}

/// The generation of the log in `data_dir`, of which nobody may have a handle; `None` if there is no log, or
/// it has none yet. Brings the log up to date on the disk. Blocks.
pub fn generation(data_dir: &Path, node: NodeId) -> Result<Option<u64>, StartError> {
    let path = data_dir.join(LOG_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let (_, stored) = LogFile::open(&path, node.0)?;
    Ok(stored.generation)
}

/// Puts blank entries in place of the log's memberships.
fn blank_memberships(
    file: &LogFile,
    stored: &Stored,
) -> Result<Vec<Change>, ReadError> {
    let mut entries = Vec::new();
    let held = next_index(stored.purged.as_ref())..next_index(stored.last.as_ref());
    read_entries(&file.begin_read()?, held, &mut entries)?;
    let memberships = entries
        .into_iter()
        .filter(|entry| matches!(entry.payload, EntryPayload::Membership(_)));
    Ok(memberships
        .map(|entry| {
            let blank = Entry::new(entry.log_id, EntryPayload::Blank);
            Change::append(&blank)
        })
        .collect())
}

/// Deletes the log in `data_dir`, of which nobody may have a handle, so that the node joins a
/// cluster as an empty one. Blocks. After a crash the next start finishes it.
pub fn forget(data_dir: &Path) -> Result<(), StartError> {
    let (log, forgotten) = (data_dir.join(LOG_FILE), data_dir.join(FORGOTTEN_FILE));
    let cannot = |source| StartError::File {
        path: log.clone(),
        source,
    };
    if log.exists() {
        in_use(&log)?;
        fs::rename(&log, &forgotten).map_err(cannot)?;
        sync_folder_of(&log).map_err(cannot)?;
    }
    finish_forgetting(data_dir)
}

/// Deletes what a [`forget`] cut short has left.
pub(crate) fn finish_forgetting(data_dir: &Path) -> Result<(), StartError> {
    let forgotten = data_dir.join(FORGOTTEN_FILE);
    if !forgotten.exists() {
        return Ok(());
    }
    for path in [data_dir.join(SNAPSHOT_FILE), data_dir.join(JOURNAL_FILE), forgotten] {
        let gone = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| sync_folder_of(&path)),
        };
        gone.map_err(|source| StartError::File {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// An error if somebody has the file at `path` open as a log.
fn in_use(path: &Path) -> Result<(), StartError> {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.map_err(|source| StartError::File {
        path: path.to_owned(),
        source,
    })?;
    let backend = redb::backends::FileBackend::new(file)
        .map_err(|error| StartError::from_redb(path, error.into()))?;
    // Whatever else is wrong with the file does not keep it from being forgotten.
    match redb::Builder::new().create_with_backend(backend) {
        Err(error @ redb::DatabaseError::DatabaseAlreadyOpen) => {
            Err(StartError::from_redb(path, error.into()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
