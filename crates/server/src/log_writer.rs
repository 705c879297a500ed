//! The thread that uses the store: appends what queues hand over, syncs, reads back, keeps house.
//!
//! Group commit without a timer: whatever has gathered while one sync ran is in the next one. Queues
//! that asked are told when their batch is on stable storage. A failed write or sync stops the node:
//! nothing that was not synced is ever reported as safe.
//!
//! Where nothing else is at hand, a queue with a small batch takes the thread's turn and syncs itself
//! ([`LogWriter::commit`]): waking the thread and being woken by it takes as long as a sync.

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
use store::{Batch, Disk, Limits, QueueKey, Seq, Store, StoreError};

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

/// A batch up to this size may be written by whoever hands it over.
const HERE_BYTES: usize = 16 << 10;
/// If syncs have taken no longer than this of late: it stands still meanwhile, and so does what runs after it.
const HERE_NANOS: u64 = 300_000;

#[derive(Default)]
struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    /// Whose turn it is to use the store; nothing once it is closed. Jobs are taken by whoever has the turn, so
    /// that they are done in order.
    turn: Mutex<Option<Box<dyn Turn>>>,
    /// The thread has something to do besides jobs.
    called: AtomicBool,
    /// Bytes written in turns of others than the thread, for which it has not kept house yet.
    unkept: AtomicUsize,
    waiting_bytes: AtomicUsize,
    room: tokio::sync::Notify,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    /// How long a sync takes of late, in nanoseconds.
    pace: AtomicU64,
    written: AtomicU64,
    /// Since when there is no room for what has to be written.
    starved_since: Mutex<Option<Instant>>,
    /// It was told to stop: room is not waited for any more.
    stopping: AtomicBool,
}

impl Shared {
    /// The thread has something to do besides jobs.
    fn call(&self) {
        self.called.store(true, Ordering::Relaxed);
        // It looks with the lock held, and would sleep through a call between a look and its sleep.
        drop(self.jobs.lock());
        self.arrived.notify_one();
    }

    /// Waits for work, if there is time for it.
    fn wait(&self, next: &Next) {
        let Next::Wait(longest) = next else { return };
        let mut jobs = self.jobs.lock();
        while jobs.is_empty() && !self.called.swap(false, Ordering::Relaxed) {
            match longest {
                None => self.arrived.wait(&mut jobs),
                Some(longest) => {
                    self.arrived.wait_for(&mut jobs, *longest);
                    return;
                }
            }
        }
    }

    fn lacks_room(&self) {
        self.starved_since.lock().get_or_insert_with(|| {
            tracing::warn!("no room on the disk: waiting for space before anything more is confirmed");
            Instant::now()
        });
    }

    /// All that had come is written.
    fn has_room(&self) {
        if self.starved_since.lock().take().is_some() {
            tracing::warn!("there is room on the disk again");
        }
    }
}

/// Uses the store. It is one for all kinds of disks.
trait Turn: Send {
    /// Does these jobs and syncs if somebody waits for it; then keeps house.
    fn work(&mut self, shared: &Shared, jobs: VecDeque<Job>, kept: usize) -> Result<Next, StoreError>;
    /// Writes and syncs one batch. Gives it back where the disk is full; a failure is told in the thread's next turn.
    fn commit(&mut self, shared: &Shared, batch: Batch, report: Reported) -> Option<(Batch, Reported)>;
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}

type Reported = (Arc<Mailbox<QueueMail>>, Receipt);

/// What the thread does after its turn.
enum Next {
    /// There is more housekeeping.
    GoOn,
    /// Until something comes, or something has lain unsynced for long enough.
    Wait(Option<Duration>),
    Stop,
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
        let worker = Worker {
            store,
            reports: Vec::new(),
            barriers: Vec::new(),
            dirty_since: None,
            unsynced: 0,
            failure: None,
        };
        *shared.turn.lock() = Some(Box::new(worker));
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            let ended = run(&shared);
            *shared.turn.lock() = None;
            if let Err(error) = ended {
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

    /// Writes a batch that somebody waits for. A small one is written and synced before this returns, if nothing
    /// else is at hand and the disk is quick: two changes of threads take as long as a sync. So whoever calls must
    /// have told others before what they should hear meanwhile.
    pub(crate) fn commit(&self, batch: Batch, report: Reported) {
        let shared = &*self.shared;
        let is_small = batch.len_bytes() <= HERE_BYTES && shared.pace.load(Ordering::Relaxed) <= HERE_NANOS;
        if is_small
            && let Some(mut turn) = shared.turn.try_lock()
            && let Some(worker) = turn.as_mut()
            && shared.jobs.lock().is_empty()
        {
            let bytes = batch.len_bytes();
            if let Some((batch, report)) = worker.commit(shared, batch, report) {
                shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
                shared.jobs.lock().push_front(Job::Append { batch, report: Some(report) });
                shared.arrived.notify_one();
            }
            return;
        }
        self.submit(Job::Append { batch, report: Some(report) });
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
}

/// The thread's life.
fn run(shared: &Shared) -> Result<(), StoreError> {
    let mut next = Next::GoOn;
    loop {
        shared.wait(&next);
        let mut turn = shared.turn.lock();
        let Some(worker) = turn.as_mut() else { return Ok(()) };
        let jobs = std::mem::take(&mut *shared.jobs.lock());
        let kept = shared.unkept.swap(0, Ordering::Relaxed);
        next = worker.work(shared, jobs, kept)?;
        if matches!(next, Next::Stop) {
            return turn.take().map_or(Ok(()), |worker| worker.close());
        }
    }
}

struct Worker<D: Disk> {
    store: Store<D>,
    reports: Vec<Reported>,
    barriers: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Since when something appended is unsynced.
    dirty_since: Option<Instant>,
    unsynced: usize,
    /// Of a turn that was not the thread's.
    failure: Option<StoreError>,
}

impl<D: Disk<File: Send> + Send> Turn for Worker<D> {
    fn work(&mut self, shared: &Shared, jobs: VecDeque<Job>, kept: usize) -> Result<Next, StoreError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut stop = false;
        let taken: usize = jobs.iter().map(Job::bytes).sum();
        for job in jobs {
            stop |= matches!(job, Job::Stop);
            self.obey(shared, job)?;
        }
        if taken > 0 {
            shared.waiting_bytes.fetch_sub(taken, Ordering::Relaxed);
            shared.room.notify_waiters();
        }
        let late =
            self.dirty_since.is_some_and(|since| since.elapsed() >= LAZY_SYNC) || self.unsynced >= LAZY_SYNC_BYTES;
        if stop || late || !self.reports.is_empty() || !self.barriers.is_empty() {
            self.sync(shared)?;
        }
        if stop {
            return Ok(Next::Stop);
        }
        shared.has_room();
        if self.keep_house((taken + kept) as u64)? {
            return Ok(Next::GoOn);
        }
        let left = self.dirty_since.map(|since| LAZY_SYNC.saturating_sub(since.elapsed()));
        Ok(Next::Wait(left.map(|left| left.max(Duration::from_millis(1)))))
    }

    fn commit(&mut self, shared: &Shared, mut batch: Batch, report: Reported) -> Option<(Batch, Reported)> {
        if self.failure.is_some() {
            return None;
        }
        let bytes = batch.len_bytes();
        match self.store.append(&mut batch) {
            Ok(_) => {}
            Err(error) if is_full(&error) => return Some((batch, report)),
            Err(error) => {
                self.failure = Some(error);
                shared.call();
                return None;
            }
        }
        shared.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.dirty_since.get_or_insert_with(Instant::now);
        self.reports.push(report);
        match self.sync_once(shared) {
            Ok(()) => {
                let kept = shared.unkept.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if kept as u64 >= *MAINTAIN_BYTES.start() {
                    shared.call();
                }
            }
            // The thread waits for room.
            Err(error) if is_full(&error) => shared.call(),
            Err(error) => {
                self.failure = Some(error);
                shared.call();
            }
        }
        None
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.store.close()
    }
}

impl<D: Disk> Worker<D> {
    fn obey(&mut self, shared: &Shared, job: Job) -> Result<(), StoreError> {
        match job {
            Job::Append { mut batch, report } => {
                shared.written.fetch_add(batch.len_bytes() as u64, Ordering::Relaxed);
                self.unsynced += batch.len_bytes();
                self.append(shared, &mut batch)?;
                self.dirty_since.get_or_insert_with(Instant::now);
                self.reports.extend(report);
            }
            Job::Transient(mut batch) => self.page_out(shared, &mut batch)?,
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
    fn append(&mut self, shared: &Shared, batch: &mut Batch) -> Result<(), StoreError> {
        loop {
            match self.store.append(batch) {
                Ok(_) => return Ok(()),
                Err(error) if is_full(&error) => self.wait_for_room(shared)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn page_out(&mut self, shared: &Shared, batch: &mut Batch) -> Result<(), StoreError> {
        loop {
            match self.store.page_out(batch) {
                Ok(()) => return Ok(()),
                Err(error) if is_full(&error) => self.wait_for_room(shared)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_room(&mut self, shared: &Shared) -> Result<(), StoreError> {
        match self.store.sync() {
            Ok(_) => {}
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
        match self.store.maintain(u64::MAX) {
            Ok(_) => Ok(()),
            Err(error) if is_full(&error) && shared.stopping.load(Ordering::Relaxed) => Err(error),
            Err(error) if is_full(&error) => {
                shared.lacks_room();
                std::thread::sleep(Duration::from_millis(200));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn sync(&mut self, shared: &Shared) -> Result<(), StoreError> {
        loop {
            match self.sync_once(shared) {
                Err(error) if is_full(&error) => self.wait_for_room(shared)?,
                done => return done,
            }
        }
    }

    /// Makes everything durable and says so; where the disk is full, neither.
    fn sync_once(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let begin = Instant::now();
        self.store.sync()?;
        self.dirty_since = None;
        self.unsynced = 0;
        let nanos = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        shared.syncs.fetch_add(1, Ordering::Relaxed);
        shared.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        // Only whoever has the turn writes it.
        let pace = shared.pace.load(Ordering::Relaxed);
        shared.pace.store(pace - pace / 8 + nanos / 8, Ordering::Relaxed);
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
        match self.store.maintain(bytes) {
            Err(error) if is_full(&error) => Ok(false),
            more => more,
        }
    }
}

/// Nothing was lost and nothing promised: there is just no room.
fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::DiskFull | StoreError::LogFull)
}

#[cfg(test)]
mod tests;
