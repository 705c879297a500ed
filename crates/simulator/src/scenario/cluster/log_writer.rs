//! The task that owns a node's store: the counterpart of the server's thread of that name. The store is the
//! real one, on a disk that loses what was not synced.

use std::collections::VecDeque;
use std::time::Duration;

use broker::QueueId;
use broker::mirror::{Report, Runs};
use broker::queue::{Load, QueueEvent, Recovered, horizon_key, key_owner, level_key};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::Time;
use store::{Batch, Limits, Options, QueueKey, Seq, Store, StoreError};

use super::node::{Mail, ReplicaMail, TaskId, Then};
use super::world::{NodeEvent, World};
use crate::disk::SimulatedDisk;

/// What the store holds of one queue.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) queue: QueueId,
    pub(super) level: Recovered,
    pub(super) horizon: Option<(Seq, Bytes)>,
}

/// What a batch comes back as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receipt {
    Ticket(u64),
    Mirror(Report),
}

/// Work for the store.
#[derive(Debug)]
pub(super) enum Job {
    Append { batch: Batch, report: Option<(TaskId, Receipt)> },
    Transient(Batch),
    Load { load: Load, to: TaskId },
    LoadForFeed { load: Load, node: NodeId, feed: u64, to: TaskId },
    Sequences { queue: QueueId, node: NodeId, feed: u64, to: TaskId },
    Survey { queues: Vec<QueueId>, then: Then },
    Barrier(Then),
}

/// See the file's head.
pub(super) struct LogWriter {
    store: Store<SimulatedDisk>,
    jobs: VecDeque<Job>,
    reports: Vec<(TaskId, Receipt)>,
    barriers: Vec<Then>,
    dirty_since: Option<Time>,
    /// A sync is under way, or a look at the jobs is due.
    is_busy: bool,
    at_start: Vec<QueueKey>,
}

const LAZY_SYNC: Duration = Duration::from_millis(200);

impl LogWriter {
    pub(super) fn open(disk: SimulatedDisk) -> Result<LogWriter, String> {
        let options = Options { wal_file_bytes: 32 << 10, wal_files_kept: 2, wal_files_max: 64, spare_files: 1, segment_bytes: 16 << 10, ..Options::default() };
        let (store, recovery) = Store::open(disk, options).map_err(|error| error.to_string())?;
        let at_start = recovery.queues.iter().map(|(key, _)| *key).collect();
        Ok(LogWriter {
            store,
            jobs: VecDeque::new(),
            reports: Vec::new(),
            barriers: Vec::new(),
            dirty_since: None,
            is_busy: false,
            at_start,
        })
    }

    pub(super) fn stored_at_start(&self) -> &[QueueKey] {
        &self.at_start
    }

    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        for job in std::mem::take(&mut self.jobs) {
            if let Job::Append { mut batch, .. } = job {
                self.append(&mut batch)?;
            }
        }
        self.store.sync().map(drop)
    }

    /// Everything that is stored of one queue, as those who check want it.
    pub(super) fn contents(&mut self, queue: QueueId) -> Vec<(Seq, Bytes)> {
        let limits = Limits { messages: usize::MAX, bytes: usize::MAX };
        self.store.read(level_key(queue, 0), Seq(0), limits).unwrap_or_default()
    }

    /// Appends; when the log is full, makes room first.
    fn append(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        loop {
            match self.store.append(batch) {
                Ok(_) => return Ok(()),
                Err(StoreError::LogFull) => {
                    self.store.sync()?;
                    self.store.maintain(u64::MAX)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn note(&mut self, queue: QueueId) -> Result<Option<(Seq, Bytes)>, StoreError> {
        let Some(first) = self.store.live(horizon_key(queue)).first else { return Ok(None) };
        let limits = Limits { messages: 16, bytes: 4096 };
        Ok(self.store.read(horizon_key(queue), first, limits)?.pop())
    }

    fn survey(&mut self, queue: QueueId) -> Result<Found, StoreError> {
        let counts = self.store.live(level_key(queue, 0));
        let level = Recovered {
            level: 0,
            messages: counts.messages,
            bytes: counts.bytes,
            first: counts.first.unwrap_or(counts.next),
            next: counts.next,
        };
        Ok(Found { queue, level, horizon: self.note(queue)? })
    }
}

impl World {
    pub(super) fn submit(&mut self, node: NodeId, job: Job) {
        let log = &mut self.process(node).log;
        log.jobs.push_back(job);
        if !std::mem::replace(&mut log.is_busy, true) {
            let turn = self.turn(node);
            self.in_node(node, turn, NodeEvent::LogWork);
        }
    }

    pub(super) fn log_work(&mut self, node: NodeId) {
        let jobs = std::mem::take(&mut self.process(node).log.jobs);
        for job in jobs {
            if let Err(error) = self.log_obeys(node, job) {
                return self.checks.fail(format!("the store of {node} fails: {error}"));
            }
        }
        if self.breaks(super::Mutant::ReportUnsynced) {
            self.report(node);
        }
        let now = self.now;
        let log = &mut self.process(node).log;
        let late = log.dirty_since.is_some_and(|since| now.since(since) >= LAZY_SYNC);
        if late || !log.reports.is_empty() || !log.barriers.is_empty() {
            let most = if self.rng.one_in(30) { 30_000 } else { 1500 };
            let wait = self.between(100, most) * self.nodes[&node].slow_disk;
            self.in_node(node, wait, NodeEvent::LogSynced);
            return;
        }
        log.is_busy = false;
        if log.dirty_since.is_some() {
            log.is_busy = true;
            self.in_node(node, LAZY_SYNC / 20, NodeEvent::LogWork);
        }
    }

    fn log_obeys(&mut self, node: NodeId, job: Job) -> Result<(), StoreError> {
        let now = self.now;
        let log = &mut self.process(node).log;
        match job {
            Job::Append { mut batch, report } => {
                log.append(&mut batch)?;
                log.dirty_since.get_or_insert(now);
                log.reports.extend(report);
            }
            Job::Transient(mut batch) => log.store.page_out(&mut batch)?,
            Job::Load { load, to } => {
                let limits = Limits { messages: load.messages, bytes: load.bytes };
                let messages = log.store.read(load.key, load.from, limits)?;
                let _ = self.push(node, to, Mail::Event(QueueEvent::Loaded { key: load.key, from: load.from, messages }));
            }
            Job::LoadForFeed { load, node: of, feed, to } => {
                let limits = Limits { messages: load.messages, bytes: load.bytes };
                let messages = log.store.read(load.key, load.from, limits)?;
                let level = key_owner(load.key).1.unwrap_or(0);
                let _ = self.push(node, to, Mail::Mirror(ReplicaMail::Loaded { node: of, feed, level, messages }));
            }
            Job::Sequences { queue, node: of, feed, to } => {
                let held = vec![(0, Runs::new(log.store.live_runs(level_key(queue, 0))))];
                let note = log.note(queue)?;
                let _ = self.push(node, to, Mail::Mirror(ReplicaMail::Surveyed { node: of, feed, held, note }));
            }
            Job::Survey { queues, then } => {
                let found: Result<Vec<Found>, StoreError> = queues.into_iter().map(|queue| log.survey(queue)).collect();
                let found = found?;
                let turn = self.turn(node);
                self.in_node(node, turn, NodeEvent::Found(then, found));
            }
            Job::Barrier(then) => log.barriers.push(then),
        }
        Ok(())
    }

    pub(super) fn log_synced(&mut self, node: NodeId) {
        let log = &mut self.process(node).log;
        let done = log.store.sync().map(drop).and_then(|()| log.store.maintain(64 << 10).map(drop));
        log.dirty_since = None;
        let barriers = std::mem::take(&mut log.barriers);
        if let Err(error) = done {
            return self.checks.fail(format!("the store of {node} fails: {error}"));
        }
        self.report(node);
        for then in barriers {
            let turn = self.turn(node);
            self.in_node(node, turn, NodeEvent::Settled(then));
        }
        let turn = self.turn(node);
        self.in_node(node, turn, NodeEvent::LogWork);
    }

    /// Tells who waits for it what is stored.
    fn report(&mut self, node: NodeId) {
        for (task, receipt) in std::mem::take(&mut self.process(node).log.reports) {
            let mail = match receipt {
                Receipt::Ticket(ticket) => Mail::Event(QueueEvent::Stored { ticket }),
                Receipt::Mirror(report) => Mail::Mirror(ReplicaMail::Stored(report)),
            };
            let _ = self.push(node, task, mail);
        }
    }
}
