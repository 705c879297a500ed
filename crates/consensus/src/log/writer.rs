//! The one thread that writes the log's file: takes everything that is queued, writes it in order
//! in one transaction, and reports each write once the transaction is on disk.

use std::io;

use super::{Shared, Write};
use crate::panics::unless_panicked;
use crate::types::LogId;

/// Runs until the log is closed and its queue is empty.
pub(super) fn run(shared: &Shared) {
    let mut committed_on_disk: Option<LogId> = None;
    loop {
        let (writes, committed, closing) = {
            let mut state = shared.state.lock();
            while state.queue.is_empty() && !state.closing {
                shared.wake.wait(&mut state);
            }
            (
                std::mem::take(&mut state.queue),
                state.committed,
                state.closing,
            )
        };
        let stale = committed != committed_on_disk;
        if !writes.is_empty() || (closing && stale) {
            // A statement of its own: in the `match` the lock would be held during the commit.
            let failure = shared.state.lock().failure.clone();
            let result = match failure {
                Some(failure) => Err(failure),
                None => commit(shared, &writes, committed.filter(|_| stale)),
            };
            committed_on_disk = committed;
            report(shared, writes, result);
        }
        if closing {
            return;
        }
    }
}

fn commit(shared: &Shared, writes: &[Write], committed: Option<LogId>) -> Result<(), String> {
    let transaction = || -> Result<(), redb::Error> {
        let file = shared.file.read();
        let mut batch = file
            .as_ref()
            .ok_or(redb::Error::DatabaseClosed)?
            .begin_write()?;
        for write in writes {
            match write {
                Write::Append { records, .. } => batch.append(records)?,
                Write::Vote { vote, .. } => batch.set_vote(vote)?,
                Write::TruncateAfter { index, .. } => batch.truncate_after(*index)?,
                Write::Purge { upto } => batch.purge(upto)?,
                Write::Generation(generation) => {
                    batch.set_generation(*generation)?;
                    batch.set_newcomer(true)?;
                }
                Write::Level => batch.set_newcomer(false)?,
            }
        }
        if let Some(committed) = &committed {
            batch.set_committed(committed)?;
        }
        batch.commit()
    };
    let result = unless_panicked(transaction);
    let result = result.and_then(|result| result.map_err(|error| error.to_string()));
    result.map_err(|error| {
        format!(
            "cannot write metadata file {}: {error}; see to the disk (space, health, mount) and \
             start the node again: everything it has answered is kept",
            shared.path.display()
        )
    })
}

fn report(shared: &Shared, writes: Vec<Write>, result: Result<(), String>) {
    let outcome = {
        let mut state = shared.state.lock();
        match result {
            Ok(()) => {
                let appended = writes.iter().rev().find_map(|write| match write {
                    Write::Append {
                        records,
                        truncations,
                        ..
                    } if *truncations == state.truncations => {
                        records.last().map(|(index, _)| index + 1)
                    }
                    Write::Append { .. }
                    | Write::Vote { .. }
                    | Write::TruncateAfter { .. }
                    | Write::Purge { .. }
                    | Write::Generation(_)
                    | Write::Level => None,
                });
                if let Some(next) = appended {
                    state.durable_next = state.durable_next.max(next);
                    state.trim_recent();
                }
                Ok(())
            }
            Err(failure) => {
                if state.failure.is_none() {
                    tracing::error!("{failure}");
                    state.failure = Some(failure.clone());
                }
                Err(state.failure.clone().unwrap_or(failure))
            }
        }
    };
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
