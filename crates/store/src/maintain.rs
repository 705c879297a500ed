//! The work behind the log: copying what is still live out of its oldest files, checkpoints, giving
//! up files, and filling spares.
//!
//! Each call does one bounded step. The order of the steps is what keeps messages: copies are
//! synced before the checkpoint that names them, the checkpoint is durable before anything it does
//! not name is given up, and nothing is copied from a file that may still grow.

use std::collections::BTreeSet;

use crate::Store;
use crate::checkpoint::{self, Checkpoint};
use crate::copy::Copy;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::index::FileId;

/// A segment is copied once less than one part in this many of it is live.
const SPARSE: u64 = 4;

/// A segment below one part in this many of a full one is small; so many of them are joined.
const SMALL: u64 = 4;

impl<D: Disk> Store<D> {
    /// Does one step of the work that keeps the log and the disk small, touching about
    /// `budget_bytes`. True if there is more to do. Nothing depends on it but room: without it
    /// `append` refuses one day. `DiskFull` says that room is missing; the next call tries again,
    /// and until one succeeds `append` takes only removals, for which the log has room left.
    pub fn maintain(&mut self, budget_bytes: u64) -> Result<bool, StoreError> {
        self.files.check()?;
        let outcome = self.maintain_step(budget_bytes);
        match outcome {
            Ok(false) => self.full &= self.wal.lacks_file(),
            Err(StoreError::DiskFull) => self.full = true,
            _ => {}
        }
        outcome
    }

    fn maintain_step(&mut self, budget_bytes: u64) -> Result<bool, StoreError> {
        if let Some(job) = self.job.take() {
            return self.step(job, budget_bytes);
        }
        self.survey()?;
        if self.stale {
            return self.write_checkpoint().map(|()| true);
        }
        if self.excess_logs() > 0 {
            // Nothing may be copied from a file that is still written.
            self.sync()?;
        }
        if let Some(job) = self.plan() {
            return self.step(job, budget_bytes);
        }
        if self.wal.spares() < self.options.spare_files {
            self.wal.fill_spare(budget_bytes, &mut self.files)?;
            return Ok(true);
        }
        self.wal.mark(&mut self.files)?;
        Ok(false)
    }

    fn step(&mut self, mut job: Copy, budget_bytes: u64) -> Result<bool, StoreError> {
        let outcome = job.step(budget_bytes, &self.index, &self.wal, &mut self.files);
        if job.is_transient() {
            // Meanwhile `page_out` may have taken numbers too.
            self.next_transient = self.next_transient.max(job.next_number());
        } else {
            self.next_segment = job.next_number();
        }
        match outcome {
            Ok(true) => self.install(job)?,
            Ok(false) => self.job = Some(job),
            Err(error @ StoreError::Poisoned { .. }) => return Err(error),
            Err(error) => {
                job.abandon(&mut self.files)?;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Points the index at finished copies.
    fn install(&mut self, job: Copy) -> Result<(), StoreError> {
        let victims = job.victims.clone();
        let transient = job.is_transient();
        for info in job.finish(&mut self.index) {
            if transient {
                self.transient.insert(info.number, info.len);
            } else {
                self.segments.insert(info.number, info);
            }
        }
        for victim in victims {
            match victim {
                FileId::Wal(number) => self.first_wal = self.first_wal.max(number + 1),
                FileId::Transient(number) => {
                    self.transient.remove(&number);
                    self.files.remove(victim)?;
                }
                _ => {}
            }
        }
        self.stale |= !transient;
        self.index.live.unsurveyed = u64::MAX;
        Ok(())
    }

    /// Looks for files without a live message, once enough has been removed to make it worthwhile.
    fn survey(&mut self) -> Result<(), StoreError> {
        if self.index.live.unsurveyed < self.options.segment_bytes / 8 {
            return Ok(());
        }
        self.index.live.unsurveyed = 0;
        self.surveyed = false;
        let dead = |number: &u32| self.index.live.get(FileId::Segment(*number)).messages == 0;
        self.stale |= self.segments.keys().any(dead);
        let dead = |number: &u32| self.index.live.get(FileId::Transient(*number)).messages == 0;
        let dead: Vec<u32> = self.transient.keys().copied().filter(dead).collect();
        for number in dead {
            self.transient.remove(&number);
            self.files.remove(FileId::Transient(number))?;
        }
        Ok(())
    }

    /// Makes the present state the one recovery starts from, then gives up what it does not need.
    fn write_checkpoint(&mut self) -> Result<(), StoreError> {
        // It tells of removals, which must be in the log before the messages can be gone.
        self.sync()?;
        let dead = |number: u32| self.index.live.get(FileId::Segment(number)).messages == 0;
        let dead: Vec<u32> = self
            .segments
            .keys()
            .copied()
            .filter(|one| dead(*one))
            .collect();
        let listed = self
            .segments
            .values()
            .filter(|info| !dead.contains(&info.number));
        let listed = listed.copied().collect();
        let state = Checkpoint::of(&self.index, self.first_wal, self.wal.durable(), listed);
        if let Err(error) = checkpoint::write(state, self.checkpoint + 1, &mut self.files) {
            // A spare is worth less than the room a checkpoint sets free.
            if matches!(error, StoreError::DiskFull) {
                self.wal.drop_spare(&mut self.files)?;
            }
            return Err(error);
        }
        self.files.remove(FileId::Checkpoint(self.checkpoint))?;
        self.checkpoint += 1;
        self.stale = false;
        for number in dead {
            self.segments.remove(&number);
            self.files.remove(FileId::Segment(number))?;
        }
        for number in self.wal.first..self.first_wal {
            let keep = self.wal.spares() < self.options.spare_files;
            self.wal.recycle(number, keep, &mut self.files)?;
        }
        self.wal.first = self.first_wal;
        Ok(())
    }

    /// Full log files beyond those that are kept.
    fn excess_logs(&self) -> u32 {
        let full = self.wal.tail() - self.first_wal;
        full.saturating_sub(self.options.wal_files_kept)
    }

    /// What to copy next, if anything.
    fn plan(&mut self) -> Option<Copy> {
        let logs = self.first_wal..self.first_wal + self.excess_logs();
        if logs.is_empty() && self.surveyed {
            return None;
        }
        let mut victims: BTreeSet<FileId> = logs.map(FileId::Wal).collect();
        self.sparse_segments(&mut victims);
        if victims.is_empty() {
            self.surveyed = true;
            return self.plan_transient();
        }
        let (number, bytes) = (self.next_segment, self.options.segment_bytes);
        Some(Copy::plan(victims, &self.index, number, bytes))
    }

    /// Adds the segments that are mostly dead, and small ones if there are several.
    fn sparse_segments(&self, victims: &mut BTreeSet<FileId>) {
        let mut small = Vec::new();
        let mut room = self.options.segment_bytes;
        for info in self.segments.values() {
            let id = FileId::Segment(info.number);
            let live = self.index.live.get(id).record_bytes();
            if live > 0 && live <= room {
                if live * SPARSE < info.record_bytes {
                    victims.insert(id);
                    room -= live;
                } else if info.record_bytes * SMALL < self.options.segment_bytes {
                    small.push(id);
                    room -= live;
                }
            }
        }
        if small.len() as u64 >= SMALL {
            victims.extend(small);
        }
    }

    /// Plans to copy the transient files that are mostly dead.
    fn plan_transient(&mut self) -> Option<Copy> {
        let mut victims = BTreeSet::new();
        let mut room = self.options.segment_bytes;
        for (number, len) in &self.transient {
            let id = FileId::Transient(*number);
            let live = self.index.live.get(id).record_bytes();
            let closed = *number + 1 != self.next_transient;
            if closed && live > 0 && live * SPARSE < *len && live <= room {
                victims.insert(id);
                room -= live;
            }
        }
        let (number, bytes) = (self.next_transient, self.options.segment_bytes);
        (!victims.is_empty()).then(|| Copy::plan(victims, &self.index, number, bytes))
    }
}
