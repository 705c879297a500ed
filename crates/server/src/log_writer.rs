//! The thread that owns the store: appends what queues hand over, syncs, reads back, keeps house.
//!
//! Group commit without a timer: whatever has gathered while one sync ran is in the next one. Queues
//! that asked are told when their batch is on stable storage. A failed write or sync stops the node:
//! nothing that was not synced is ever reported as safe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use broker::QueueId;
use broker::mirror::{Report, Runs};
use broker::queue::{Load, QueueEvent, Recovered, horizon_key, key_owner, level_key};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use parking_lot::{Condvar, Mutex};
use store::{Batch, Disk, Limits, QueueKey, Seq, Store, StoreError, Usage};

use crate::mailbox::Mailbox;
use crate::mirrors::Mail;
use crate::node::QueueMail;

/// What the store holds of one queue.
pub(crate) struct Found {
    pub queue: QueueId,
    pub levels: Vec<Recovered>,
    pub horizon: Option<(Seq, Bytes)>,
}

/// What a batch comes back as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Receipt {
    Ticket(u64),
    Mirror(Report),
}

/// Work for the store.
pub(crate) enum Job {
    /// For the log; the receipt is sent when it is on stable storage.
    Append { batch: Batch, report: Option<(Arc<Mailbox<QueueMail>>, Receipt)> },
    Transient(Batch),
    Load { load: Load, to: Arc<Mailbox<QueueMail>> },
    /// The same for the feed of a mirror.
    LoadForFeed { load: Load, node: NodeId, feed: u64, to: Arc<Mailbox<QueueMail>> },
    /// Which sequences of a queue there are, for the feed of a mirror.
    Sequences { queue: QueueId, level_max: u8, node: NodeId, feed: u64, to: Arc<Mailbox<QueueMail>> },
    /// Messages as they are stored.
    Read { key: QueueKey, from: Seq, messages: usize, to: tokio::sync::oneshot::Sender<Vec<(Seq, Bytes)>> },
    /// What there is of some queues.
    Survey { queues: Vec<(QueueId, u8)>, to: tokio::sync::oneshot::Sender<Vec<Found>> },
    /// Everything before it is on stable storage when the sender hears.
    Barrier(tokio::sync::oneshot::Sender<()>),
    Stop,
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Append { batch, .. } | Job::Transient(batch) => batch.len_bytes(),
            Job::Load { .. }
            | Job::LoadForFeed { .. }
            | Job::Sequences { .. }
            | Job::Read { .. }
            | Job::Survey { .. }
            | Job::Barrier(_)
            | Job::Stop => 0,
        }
    }
}

/// Above this many bytes waiting for the store, queues wait before they take more.
const HIGH_WATER: usize = 64 << 20;
/// Without anybody waiting, what was appended is synced after this time.
const LAZY_SYNC: Duration = Duration::from_millis(200);
/// Or when this much has gathered.
const LAZY_SYNC_BYTES: usize = 4 << 20;
/// Housekeeping between syncs touches about this much: twice what has come since the last time, so that it
/// keeps up, and no more than that, since whoever waits for the next sync waits for it.
const MAINTAIN_BYTES: std::ops::RangeInclusive<u64> = 256 << 10..=4 << 20;

/// Bytes of one read for a node that comes back.
const READ_BYTES: usize = 4 << 20;

/// How often the store is asked what it takes of the disk: it looks at every queue.
const SURVEY: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    waiting_bytes: AtomicUsize,
    room: tokio::sync::Notify,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    written: AtomicU64,
    usage: Mutex<Usage>,
    /// Since when there is no room for what has to be written.
    starved_since: Mutex<Option<Instant>>,
    /// It was told to stop: room is not waited for any more.
    stopping: AtomicBool,
}

/// The way to the store.
#[derive(Clone)]
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
}

impl LogWriter {
    /// Starts the thread. `failed` is called once, from it, when the store can no longer keep promises.
    pub(crate) fn start<D: Disk<File: Send> + Send + 'static>(
        store: Store<D>,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<(LogWriter, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let writer = LogWriter { shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            let worker = Worker { store, shared, reports: Vec::new(), barriers: Vec::new(), dirty_since: None, unsynced: 0, surveyed: Instant::now() };
            if let Err(error) = worker.run() {
                failed(error.to_string());
            }
        })?;
        Ok((writer, thread))
    }

    pub(crate) fn submit(&self, job: Job) {
        let bytes = job.bytes();
        if matches!(job, Job::Stop) {
            self.shared.stopping.store(true, Ordering::Relaxed);
        }
        self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut jobs = self.shared.jobs.lock();
        jobs.push_back(job);
        let wake = jobs.len() == 1;
        drop(jobs);
        if wake {
            self.shared.arrived.notify_one();
        }
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.shared.waiting_bytes.load(Ordering::Relaxed) > HIGH_WATER
    }

    /// Waits until the store has caught up.
    pub(crate) async fn room(&self) {
        while self.is_crowded() {
            let notified = self.shared.room.notified();
            if self.is_crowded() {
                let _ = tokio::time::timeout(Duration::from_millis(50), notified).await;
            }
        }
    }

    /// Returns when all that was submitted is durable and reported.
    pub(crate) async fn settled(&self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.submit(Job::Barrier(done));
        let _ = wait.await;
    }

    /// What the store holds of queues, each with its highest level. Empty when the store has stopped.
    pub(crate) async fn survey(&self, queues: Vec<(QueueId, u8)>) -> Vec<Found> {
        let (to, found) = tokio::sync::oneshot::channel();
        self.submit(Job::Survey { queues, to });
        found.await.unwrap_or_default()
    }

    /// Some messages from `from` on, as they are stored. Empty when there are none, or the store has stopped.
    pub(crate) async fn read(&self, key: QueueKey, from: Seq, messages: usize) -> Vec<(Seq, Bytes)> {
        let (to, found) = tokio::sync::oneshot::channel();
        self.submit(Job::Read { key, from, messages, to });
        found.await.unwrap_or_default()
    }

    /// Syncs done, nanoseconds spent in them, bytes handed over.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        let s = &self.shared;
        (s.syncs.load(Ordering::Relaxed), s.sync_nanos.load(Ordering::Relaxed), s.written.load(Ordering::Relaxed))
    }

    /// How long it has waited for room on the disk by now.
    pub(crate) fn starved_for(&self) -> Option<Duration> {
        self.shared.starved_since.lock().map(|since| since.elapsed())
    }

    /// What the store takes of the disk.
    pub(crate) fn usage(&self) -> Usage {
        *self.shared.usage.lock()
    }
}

struct Worker<D: Disk> {
    store: Store<D>,
    shared: Arc<Shared>,
    reports: Vec<(Arc<Mailbox<QueueMail>>, Receipt)>,
    barriers: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Since when something appended is unsynced.
    dirty_since: Option<Instant>,
    unsynced: usize,
    surveyed: Instant,
}

impl<D: Disk> Worker<D> {
    fn run(mut self) -> Result<(), StoreError> {
        let mut idle = false;
        loop {
            let jobs = self.wait(idle);
            let mut stop = false;
            let taken: usize = jobs.iter().map(Job::bytes).sum();
            for job in jobs {
                stop |= matches!(job, Job::Stop);
                self.obey(job)?;
            }
            if taken > 0 {
                self.shared.waiting_bytes.fetch_sub(taken, Ordering::Relaxed);
                self.shared.room.notify_waiters();
            }
            let late = self.dirty_since.is_some_and(|since| since.elapsed() >= LAZY_SYNC)
                || self.unsynced >= LAZY_SYNC_BYTES;
            if stop || late || !self.reports.is_empty() || !self.barriers.is_empty() {
                self.sync()?;
            }
            if stop {
                return self.store.close();
            }
            self.has_room();
            idle = !self.keep_house(taken as u64)?;
        }
    }

    /// Waits for work; with unsynced bytes or housekeeping at hand not longer than needed.
    fn wait(&self, idle: bool) -> VecDeque<Job> {
        let mut jobs = self.shared.jobs.lock();
        if jobs.is_empty() && idle {
            match self.dirty_since {
                Some(since) => {
                    let left = LAZY_SYNC.saturating_sub(since.elapsed());
                    self.shared.arrived.wait_for(&mut jobs, left.max(Duration::from_millis(1)));
                }
                None => {
                    while jobs.is_empty() {
                        self.shared.arrived.wait(&mut jobs);
                    }
                }
            }
        }
        std::mem::take(&mut *jobs)
    }

    fn obey(&mut self, job: Job) -> Result<(), StoreError> {
        match job {
            Job::Append { mut batch, report } => {
                self.shared.written.fetch_add(batch.len_bytes() as u64, Ordering::Relaxed);
                self.unsynced += batch.len_bytes();
                self.append(&mut batch)?;
                self.dirty_since.get_or_insert_with(Instant::now);
                self.reports.extend(report);
            }
            Job::Transient(mut batch) => self.page_out(&mut batch)?,
            Job::Load { load, to } => {
                let limits = Limits { messages: load.messages, bytes: load.bytes };
                let messages = self.store.read(load.key, load.from, limits)?;
                let event = QueueEvent::Loaded { key: load.key, from: load.from, messages };
                let _ = to.push(QueueMail::Event(event), 0);
            }
            Job::LoadForFeed { load, node, feed, to } => {
                let limits = Limits { messages: load.messages, bytes: load.bytes };
                let messages = self.store.read(load.key, load.from, limits)?;
                let level = key_owner(load.key).1.unwrap_or(0);
                let _ = to.push(QueueMail::Mirror(Mail::Loaded { node, feed, level, messages }), 0);
            }
            Job::Sequences { queue, level_max, node, feed, to } => {
                let of = |level| (level, Runs::new(self.store.live_runs(level_key(queue, level))));
                let mut held: Vec<(u8, Runs)> = (0..=level_max).map(of).collect();
                held.retain(|(level, runs)| *level == 0 || !runs.is_empty());
                let note = self.note(queue)?;
                let _ = to.push(QueueMail::Mirror(Mail::Surveyed { node, feed, held, note }), 0);
            }
            Job::Read { key, from, messages, to } => {
                let limits = Limits { messages, bytes: READ_BYTES };
                let _ = to.send(self.store.read(key, from, limits)?);
            }
            Job::Survey { queues, to } => {
                let found: Result<Vec<Found>, StoreError> =
                    queues.into_iter().map(|(queue, level_max)| self.survey(queue, level_max)).collect();
                let _ = to.send(found?);
            }
            Job::Barrier(done) => self.barriers.push(done),
            Job::Stop => {}
        }
        Ok(())
    }

    fn survey(&mut self, queue: QueueId, level_max: u8) -> Result<Found, StoreError> {
        let mut levels = Vec::new();
        for level in 0..=level_max {
            let counts = self.store.live(level_key(queue, level));
            levels.push(Recovered {
                level,
                messages: counts.messages,
                bytes: counts.bytes,
                first: counts.first.unwrap_or(counts.next),
                next: counts.next,
            });
        }
        Ok(Found { queue, levels, horizon: self.note(queue)? })
    }

    /// The note of a queue's deliveries.
    fn note(&mut self, queue: QueueId) -> Result<Option<(Seq, Bytes)>, StoreError> {
        let Some(first) = self.store.live(horizon_key(queue)).first else { return Ok(None) };
        let limits = Limits { messages: 16, bytes: 4096 };
        Ok(self.store.read(horizon_key(queue), first, limits)?.pop())
    }

    /// Appends; when the log is full, makes room first. A full disk is waited out: nothing was promised.
    fn append(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        loop {
            match self.store.append(batch) {
                Ok(_) => return Ok(()),
                Err(error) if is_full(&error) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn page_out(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        loop {
            match self.store.page_out(batch) {
                Ok(()) => return Ok(()),
                Err(error) if is_full(&error) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_room(&mut self) -> Result<(), StoreError> {
        match self.store.sync() {
            Ok(_) => {}
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
        match self.store.maintain(u64::MAX) {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) && self.shared.stopping.load(Ordering::Relaxed) => Err(error),
            Err(error) if is_full(&error) => {
                self.lacks_room();
                std::thread::sleep(Duration::from_millis(200));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn lacks_room(&self) {
        self.shared.starved_since.lock().get_or_insert_with(|| {
            tracing::warn!("no room on the disk: waiting for space before anything more is confirmed");
            Instant::now()
        });
    }

    /// All that had come is written.
    fn has_room(&self) {
        if self.shared.starved_since.lock().take().is_some() {
            tracing::warn!("there is room on the disk again");
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let begin = Instant::now();
        loop {
            match self.store.sync() {
                Ok(_) => break,
                Err(error) if is_full(&error) => self.wait_for_room()?,
                Err(error) => return Err(error),
            }
        }
        self.dirty_since = None;
        self.unsynced = 0;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        for (queue, receipt) in self.reports.drain(..) {
            let mail = match receipt {
                Receipt::Ticket(ticket) => QueueMail::Event(QueueEvent::Stored { ticket }),
                Receipt::Mirror(report) => QueueMail::Mirror(Mail::Stored(report)),
            };
            let _ = queue.push(mail, 0);
        }
        for barrier in self.barriers.drain(..) {
            let _ = barrier.send(());
        }
        Ok(())
    }

    /// One step of checkpointing after `taken` bytes have come; true if there is more.
    fn keep_house(&mut self, taken: u64) -> Result<bool, StoreError> {
        let bytes = taken.saturating_mul(2).clamp(*MAINTAIN_BYTES.start(), *MAINTAIN_BYTES.end());
        let more = match self.store.maintain(bytes) {
            Ok(more) => more,
            Err(error) if is_full(&error) => false,
            Err(error) => return Err(error),
        };
        if self.surveyed.elapsed() >= SURVEY {
            self.surveyed = Instant::now();
            *self.shared.usage.lock() = self.store.usage();
        }
        Ok(more)
    }
}

/// Nothing was lost and nothing promised: there is just no room.
fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::DiskFull | StoreError::LogFull)
}
