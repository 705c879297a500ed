//! The one thread that writes the log: takes everything that is queued, writes it in order as one batch, and
//! reports each write once the batch is on disk.

use std::io;

use super::file::{CommitError, Committed, LogFile};
use super::journal::Change;
use super::{Shared, Write};
use crate::panics::unless_panicked;
use crate::types::LogId;

/// Runs until the log is closed and its queue is empty.
pub(super) fn run(shared: &Shared) {
    let mut committed_on_disk: Option<LogId> = None;
    loop {
        let taken = {
            let mut state = shared.state.lock();
            let writes = std::mem::take(&mut state.queue);
            (!writes.is_empty()).then_some((writes, state.committed))
        };
        if let Some((writes, committed)) = taken {
            let stale = committed != committed_on_disk;
            let result = unless_failed(shared, |file| {
                let mut changes: Vec<Change> = writes.iter().flat_map(Write::changes).collect();
                changes.extend(committed.filter(|_| stale).map(|upto| Change::Committed((&upto).into())));
                file.commit(&changes)
            });
            committed_on_disk = committed;
            report(shared, writes, result);
            continue;
        }
        drop(unless_failed(shared, LogFile::rest));
        let mut state = shared.state.lock();
        while state.queue.is_empty() && !state.closing {
            shared.wake.wait(&mut state);
        }
        if state.queue.is_empty() {
            break;
        }
    }
    let committed = shared.state.lock().committed;
    drop(unless_failed(shared, |file| {
        let changes = committed.map(|upto| Change::Committed((&upto).into()));
        file.finish(changes.as_slice())
    }));
}

/// Does something with the file, unless something has failed before.
fn unless_failed<T>(
    shared: &Shared,
    work: impl FnOnce(&LogFile) -> Result<T, CommitError>,
) -> Result<T, String> {
    // A statement of its own: else the lock would be held meanwhile.
    let failure = shared.state.lock().failure.clone();
    if let Some(failure) = failure {
        return Err(failure);
    }
    let work = || {
        let file = shared.file.read();
        let file = file.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        work(file)
    };
    let result = unless_panicked(work);
    let result = result.and_then(|result| result.map_err(|error| error.to_string()));
    result.map_err(|error| {
        let failure = format!(
            "cannot write metadata file {}: {error}; see to the disk (space, health, mount) and \
             start the node again: everything it has answered is kept",
            shared.path.display()
        );
        tracing::error!("{failure}");
        shared.state.lock().failure = Some(failure.clone());
        failure
    })
}

fn report(shared: &Shared, writes: Vec<Write>, result: Result<Committed, String>) {
    let outcome = result.map(|committed| {
        let mut state = shared.state.lock();
        let appended = writes.iter().rev().find_map(|write| match write {
            Write::Append {
                entries, truncations, ..
            } if *truncations == state.truncations => entries.last(),
            Write::Append { .. }
            | Write::Vote { .. }
            | Write::TruncateAfter { .. }
            | Write::Purge { .. }
            | Write::Generation(_)
            | Write::Level => None,
        });
        if let Some(Change::Append { index, .. }) = appended {
            state.durable_next = state.durable_next.max(index + 1);
        }
        if committed == Committed::Database {
            state.stored_next = state.durable_next;
            state.trim_recent();
        }
    });
    for write in writes {
        let result = outcome.clone().map_err(io::Error::other);
        match write {
            Write::Append { done, .. } => done.io_completed(result),
            // Nobody waits any more where the engine was stopped.
            Write::Vote { done, .. } | Write::TruncateAfter { done, .. } => drop(done.send(result)),
            Write::Purge { .. } | Write::Generation(_) | Write::Level => {}
        }
    }
}

impl Write {
    /// What the log's file is told.
    fn changes(&self) -> Vec<Change> {
        match self {
            Write::Append { entries, .. } => entries.clone(),
            Write::Vote { vote, .. } => vec![Change::Vote(vote.into())],
            Write::TruncateAfter { index, .. } => vec![Change::TruncateAfter(*index)],
            Write::Purge { upto } => vec![Change::Purge(upto.into())],
            Write::Generation(generation) => {
                vec![Change::Generation(*generation), Change::Newcomer(true)]
            }
            Write::Level => vec![Change::Newcomer(false)],
        }
    }
}
