//! What the users of the store do to it, drawn from the seed.

use stdx::Rng;
use store::{Batch, QueueKey, Seq, StoreError};

use super::model::{Change, Message, ModelQueue};
use super::{Life, Unsynced};

/// What kind of users they are: drawn once a life, so that lives differ more than steps do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) queues: u64,
    pub(super) steps: u64,
    /// No faults but restarts.
    pub(super) calm: bool,
    /// The machine goes down every few operations.
    pub(super) fragile: bool,
    /// The life ends with flipped bits.
    pub(super) flips: bool,
    /// Every batch is one message of one length, so that records of one life stand where those of
    /// another did.
    uniform: bool,
    /// Payload bytes of most messages.
    len_max: u64,
    /// One message in so many is large.
    large_one_in: u64,
    /// Most messages enqueued in a row.
    burst_max: u64,
    /// Of ten changes, how many are removals.
    removals: u64,
    /// One removal in so many forgets the queue.
    forget_one_in: u64,
    /// One enqueue in so many takes a sequence out of order.
    disorder_one_in: u64,
    /// Weights of the steps.
    append: u64,
    sync: u64,
    maintain: u64,
    page_out: u64,
}

impl Habits {
    pub(super) fn new(rng: &mut Rng) -> Habits {
        let uniform = rng.one_in(6);
        Habits {
            queues: 1 + rng.below(5),
            steps: 20 + rng.below(150),
            calm: rng.one_in(6),
            fragile: rng.one_in(if uniform { 2 } else { 6 }),
            flips: rng.one_in(4),
            uniform,
            len_max: 1 + (1 << rng.below(10)),
            large_one_in: 5 + rng.below(100),
            burst_max: 1 << rng.below(8),
            removals: rng.below(if uniform { 2 } else { 9 }),
            forget_one_in: 2 + rng.below(60),
            disorder_one_in: if rng.one_in(3) { 3 } else { 200 },
            append: 2 + rng.below(10),
            sync: 1 + rng.below(8),
            maintain: if uniform || rng.one_in(4) {
                rng.below(4)
            } else {
                6 + rng.below(30)
            },
            page_out: if rng.one_in(3) { 3 } else { 0 },
        }
    }
}

impl Life {
    /// Does one random thing.
    pub(super) fn act(&mut self) -> Result<(), String> {
        let habits = self.habits;
        let mut draw = self
            .rng
            .below(habits.append + habits.sync + habits.maintain + habits.page_out + 2);
        for (weight, step) in [
            (
                habits.append,
                Life::append as fn(&mut Life) -> Result<(), String>,
            ),
            (habits.sync, Life::sync),
            (habits.maintain, Life::maintain),
            (habits.page_out, Life::page_out),
        ] {
            if draw < weight {
                return step(self);
            }
            draw -= weight;
        }
        self.check_read()
    }

    fn append(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        let mut changes = Vec::new();
        let draws = if self.habits.uniform {
            1
        } else {
            1 + self.rng.below(4)
        };
        for _ in 0..draws {
            changes.extend(self.draw_changes(false));
        }
        changes.iter().for_each(|change| encode(change, &mut batch));
        let only_removes = batch.enqueues() == 0;
        match self.store().append(&mut batch) {
            Ok(position) => {
                self.tell(|| format!("append {changes:?} -> {position}"));
                if !batch.is_empty() {
                    return Err("an appended batch is not empty".to_owned());
                }
                let last = self.unsynced.last().map(|batch| batch.position);
                if last.is_some_and(|last| last >= position) {
                    return Err(format!("{position} follows {last:?}"));
                }
                self.shown.apply_all(&changes);
                self.unsynced.push(Unsynced { position, changes });
                Ok(())
            }
            Err(error @ (StoreError::LogFull | StoreError::DiskFull)) if only_removes => {
                Err(format!("a removal is refused: {error}"))
            }
            Err(error) => self.refused("append", &error),
        }
    }

    /// Changes of one queue that fit what it holds.
    fn draw_changes(&mut self, transient: bool) -> Vec<Change> {
        let queue = self.rng.below(self.habits.queues);
        if self.rng.below(10) < self.habits.removals {
            return vec![self.draw_removal(queue, transient)];
        }
        let mut seq = self.shown.queues.get(&queue).map_or(0, |queue| queue.next);
        if self.rng.one_in(self.habits.disorder_one_in) {
            seq = self.rng.below(seq + 20);
        } else if self.rng.one_in(30) {
            seq += self.rng.below(5);
        }
        let burst_max = if self.habits.uniform {
            1
        } else {
            self.habits.burst_max
        };
        let count = 1 + self.rng.below(burst_max);
        (seq..seq + count)
            .map(|seq| self.draw_enqueue(queue, seq, transient))
            .collect()
    }

    fn draw_enqueue(&mut self, queue: u64, seq: u64, transient: bool) -> Change {
        let mut len = self.rng.below(self.habits.len_max);
        if self.habits.uniform {
            len = self.habits.len_max;
        } else if self.rng.one_in(self.habits.large_one_in) {
            len = self.rng.below(3 * self.options.wal_file_bytes);
        }
        let message = Message {
            id: self.next_id,
            len: len as u32,
            transient,
        };
        self.next_id += 1;
        self.seq_max = self.seq_max.max(seq);
        Change::Enqueue {
            queue,
            seq,
            message,
        }
    }

    fn draw_removal(&mut self, queue: u64, transient: bool) -> Change {
        let habits = self.habits;
        let rng = &mut self.rng;
        let empty = ModelQueue::default();
        let model = self.shown.queues.get(&queue).unwrap_or(&empty);
        if !transient && rng.one_in(habits.forget_one_in) {
            return Change::Forget { queue };
        }
        let head = model.messages.keys().next().copied().unwrap_or(0);
        let (first, last) = match rng.below(8) {
            0 => (0, model.next),
            1 | 2 => {
                let seq = rng.below(model.next + 1);
                (seq, seq)
            }
            3 => {
                let seq = rng.below(model.next + 1);
                (seq, seq + rng.below(10))
            }
            _ => (head, head + rng.below(8)),
        };
        Change::Remove { queue, first, last }
    }

    fn sync(&mut self) -> Result<(), String> {
        let outcome = self.store().sync();
        self.tell(|| format!("sync -> {outcome:?}"));
        self.believe();
        match outcome {
            Ok(position) if !self.unsynced.is_empty() => {
                Err(format!("sync returns {position} and leaves batches out"))
            }
            Ok(_) => Ok(()),
            Err(error) => self.refused("sync", &error),
        }
    }

    /// Takes the store at its word as to what is durable.
    fn believe(&mut self) {
        let durable = self.store().durable();
        let count = self
            .unsynced
            .partition_point(|batch| batch.position <= durable);
        let known: Vec<Unsynced> = self.unsynced.drain(..count).collect();
        known.into_iter().for_each(|batch| self.keep(batch));
    }

    fn maintain(&mut self) -> Result<(), String> {
        let budget = 1 << self.rng.below(14);
        let outcome = self.store().maintain(budget);
        self.tell(|| format!("maintain {budget} -> {outcome:?}"));
        self.believe();
        let segments = self.store().usage().segment_files;
        self.report.segments = self.report.segments.max(u64::from(segments));
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => self.refused("maintain", &error),
        }
    }

    fn page_out(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        let mut changes = Vec::new();
        for change in self.draw_changes(true) {
            // What is not logged may only concern what is not logged.
            let lasting = match &change {
                Change::Enqueue { queue, seq, .. } => self.lasts(*queue, *seq, *seq),
                Change::Remove { queue, first, last } => self.lasts(*queue, *first, *last),
                Change::Forget { .. } => true,
            };
            if !lasting {
                encode(&change, &mut batch);
                changes.push(change);
            }
        }
        match self.store().page_out(&mut batch) {
            Ok(()) => {
                self.tell(|| format!("page out {changes:?}"));
                self.shown.apply_all(&changes);
                Ok(())
            }
            Err(error) => self.refused("page out", &error),
        }
    }

    /// True if a message in the range is not transient.
    fn lasts(&self, queue: u64, first: u64, last: u64) -> bool {
        let Some(queue) = self.shown.queues.get(&queue) else {
            return false;
        };
        queue
            .messages
            .range(first..=last)
            .any(|(_, message)| !message.transient)
    }

    /// Judges a refusal: only what the faults explain is good.
    pub(super) fn refused(&mut self, call: &str, error: &StoreError) -> Result<(), String> {
        self.tell(|| format!("{call} refused: {error}"));
        if self.disk.is_down() {
            return Ok(());
        }
        let faults = self.faults;
        match error {
            StoreError::LogFull => {
                self.report.log_full += 1;
                Ok(())
            }
            StoreError::DiskFull if faults.capacity > 0 => {
                self.report.disk_full += 1;
                if self.rng.one_in(4) {
                    self.tell(|| "there is room again".to_owned());
                    self.faults.capacity = 0;
                    self.disk.set_faults(self.faults);
                    return self.heal();
                }
                Ok(())
            }
            StoreError::Read { .. } if faults.read_error > 0 => Ok(()),
            // A log file filled up on a full disk fails for good; so does any failed write or sync.
            StoreError::Poisoned { .. } if faults.write_error + faults.sync_error > 0 => {
                self.poisoned()
            }
            error => Err(format!("{call} fails: {error}")),
        }
    }

    /// Once there is room, the store needs nothing but to be used.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.sync()?;
        for _ in 0..10_000 {
            let outcome = self.store().maintain(4096);
            self.believe();
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return self.refused("maintain", &error),
            }
        }
        Err("maintain never ends".to_owned())
    }

    /// A poisoned store does nothing more.
    fn poisoned(&mut self) -> Result<(), String> {
        self.report.poisoned += 1;
        let mut batch = Batch::new();
        batch.enqueue(QueueKey(0), Seq(self.seq_max + 1), &[b"late"]);
        let stays = |error: Option<StoreError>| matches!(error, Some(StoreError::Poisoned { .. }));
        let store = self.store();
        if !stays(store.append(&mut batch).err())
            || !stays(store.sync().err())
            || !stays(store.maintain(1).err())
            || !stays(store.page_out(&mut batch).err())
        {
            return Err("a poisoned store goes on".to_owned());
        }
        self.crash()?;
        self.draw_faults();
        Ok(())
    }

    /// Removes every message.
    pub(super) fn empty(&mut self) -> Result<(), String> {
        let mut batch = Batch::new();
        let queues: Vec<u64> = self.shown.queues.keys().copied().collect();
        let changes: Vec<Change> = queues
            .iter()
            .map(|queue| Change::Remove {
                queue: *queue,
                first: 0,
                last: u64::MAX,
            })
            .collect();
        changes.iter().for_each(|change| encode(change, &mut batch));
        let position = self
            .store()
            .append(&mut batch)
            .map_err(|error| format!("append: {error}"))?;
        self.shown.apply_all(&changes);
        self.unsynced.push(Unsynced { position, changes });
        self.sync()
    }
}

fn encode(change: &Change, batch: &mut Batch) {
    match change {
        Change::Enqueue {
            queue,
            seq,
            message,
        } => {
            let payload = message.payload();
            let (head, tail) = payload.split_at(payload.len() / 3);
            batch.enqueue(QueueKey(*queue), Seq(*seq), &[head, tail]);
        }
        Change::Remove { queue, first, last } => {
            batch.remove(QueueKey(*queue), &[(Seq(*first), Seq(*last))]);
        }
        Change::Forget { queue } => batch.forget(QueueKey(*queue)),
    }
}
