//! The log as the engine calls it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::journal::Change;
use super::{LogStore, SEND_BYTES, Write, next_index, weight};
use crate::types::{Entry, LogId, Types, Vote};

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.shared.read(start, end)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // What a peer is sent at once, at least one entry. Asked for in small steps, so that no
        // more is read than is sent.
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = start;
        while next < end && bytes < SEND_BYTES {
            let step = self.shared.read(next, end.min(next + 64))?;
            if step.is_empty() {
                break;
            }
            for entry in step {
                next = entry.log_id.index + 1;
                bytes += weight(&entry);
                entries.push(entry);
                if bytes >= SEND_BYTES {
                    break;
                }
            }
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.write(|done| Write::Vote { vote, done }).await?;
        self.shared.state.lock().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Travels with the next commit. It may be old after a crash, which costs nothing but a
        // later start: it is a lower bound.
        self.shared.state.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let changes = entries.iter().map(Change::append).collect();
        let mut state = self.shared.state.lock();
        state.check_open(&self.shared.path)?;
        for entry in entries {
            let (index, next) = (entry.log_id.index, next_index(state.last.as_ref()));
            if state.last.is_none() {
                state.first = index;
            }
            assert!(
                state.last.is_none() || index == next,
                "entry {index} does not follow the last entry of the log, {next} would"
            );
            state.last = Some(entry.log_id());
            state.push_recent(entry);
        }
        let truncations = state.truncations;
        state.queue.push(Write::Append {
            entries: changes,
            truncations,
            done,
        });
        self.shared.wake.notify_one();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let index = last_log_id.map(|id| id.index);
        {
            let mut state = self.shared.state.lock();
            let keep = next_index(last_log_id.as_ref());
            if next_index(state.last.as_ref()) <= keep {
                return Ok(());
            }
            while state
                .recent
                .back()
                .is_some_and(|entry| entry.log_id.index >= keep)
            {
                state.pop_recent(false);
            }
            state.durable_next = state.durable_next.min(keep);
            state.stored_next = state.stored_next.min(keep);
            state.truncations += 1;
            state.last = last_log_id.or(state.purged);
        }
        self.write(|done| Write::TruncateAfter { index, done })
            .await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            if state
                .purged
                .is_some_and(|purged| purged.index >= upto.index)
            {
                return Ok(());
            }
            while state
                .recent
                .front()
                .is_some_and(|entry| entry.log_id.index <= upto.index)
            {
                state.pop_recent(true);
            }
            state.purged = Some(upto);
            state.first = upto.index + 1;
            if state.last.is_none_or(|last| last.index < upto.index) {
                state.last = Some(upto);
                state.durable_next = upto.index + 1;
                state.stored_next = upto.index + 1;
            }
        }
        // Nobody waits: a purge lost in a crash is asked for again after the restart.
        self.shared.enqueue(Write::Purge { upto })
    }
}
