//! Comparing the store with the model: after each crash, at random reads, and at the end.

use store::{Limits, OpenError, QueueKey, Recovery, Seq, Store, StoreError};

use super::model::{Held, Model, difference};
use super::{Life, Unsynced};

const EVERYTHING: Limits = Limits {
    messages: usize::MAX,
    bytes: usize::MAX,
};

impl Life {
    pub(super) fn try_open(&mut self) -> Result<Recovery, OpenError> {
        let (store, recovery) = Store::open(self.disk.clone(), self.options)?;
        self.store = Some(store);
        Ok(recovery)
    }

    /// Opens the store, which must hold what a number of the batches made, none durable left out.
    pub(super) fn open(&mut self) -> Result<(), String> {
        let recovery = self
            .try_open()
            .map_err(|error| format!("open fails: {error}"))?;
        self.report.torn_tails += recovery.notes.len() as u64;
        for note in &recovery.notes {
            self.tell(|| note.to_string());
        }
        let held = self
            .held(&recovery)?
            .map_err(|error| format!("read fails: {error}"))?;
        let unsynced = std::mem::take(&mut self.unsynced);
        let count = self.match_prefix(&held, &unsynced)?;
        self.report.batches_lost += u64::from(count < unsynced.len());
        self.tell(|| format!("holds {count} of {} unsynced batches", unsynced.len()));
        for batch in unsynced.into_iter().take(count) {
            self.keep(batch);
        }
        for (key, queue) in &mut self.durable.queues {
            queue.next = held.get(key).map_or(queue.next, |(next, _)| *next);
        }
        self.shown = self.durable.clone();
        Ok(())
    }

    /// Counts a batch as durable.
    pub(super) fn keep(&mut self, batch: Unsynced) {
        self.durable.apply_all(&batch.changes);
        self.history.push(batch.changes);
    }

    /// How many of the unsynced batches explain what the store holds; the most, if several do.
    fn match_prefix(&self, held: &Held, unsynced: &[Unsynced]) -> Result<usize, String> {
        let mut model = self.durable.clone();
        let mut first = difference(held, &model, self.seq_max);
        let mut found = first.is_none().then_some(0);
        for (n, batch) in unsynced.iter().enumerate() {
            model.apply_all(&batch.changes);
            let differs = difference(held, &model, self.seq_max);
            if differs.is_none() {
                found = Some(n + 1);
            }
            first = first.or(differs);
        }
        let why = || {
            let why = first.unwrap_or_default();
            format!(
                "no number of {} unsynced batches explains the contents: {why}",
                unsynced.len()
            )
        };
        found.ok_or_else(why)
    }

    /// Everything the store returns, checked against its own counts. The inner error is a read that
    /// failed.
    fn held(&mut self, recovery: &Recovery) -> Result<Result<Held, StoreError>, String> {
        let mut held = Held::new();
        for (key, counts) in &recovery.queues {
            let limits = Limits {
                messages: 1 + self.rng.below(50) as usize,
                ..EVERYTHING
            };
            let mut messages: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut from = 0;
            loop {
                let page = match self.store().read(*key, Seq(from), limits) {
                    Ok(page) => page,
                    Err(error) => return Ok(Err(error)),
                };
                let Some((last, _)) = page.last() else { break };
                from = last.0 + 1;
                messages.extend(page.iter().map(|(seq, payload)| (seq.0, payload.to_vec())));
            }
            if !messages.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(format!("queue {}: out of order", key.0));
            }
            let bytes: u64 = messages
                .iter()
                .map(|(_, payload)| payload.len() as u64)
                .sum();
            let first = messages.first().map(|(seq, _)| Seq(*seq));
            if counts.messages != messages.len() as u64
                || counts.bytes != bytes
                || counts.first != first
            {
                return Err(format!(
                    "queue {}: {counts:?} but {} read",
                    key.0,
                    messages.len()
                ));
            }
            held.insert(key.0, (counts.next.0, messages));
        }
        Ok(Ok(held))
    }

    /// Everything the store holds now is what was appended and paged out.
    pub(super) fn check_all(&mut self) -> Result<(), String> {
        let queues = self.store().queues().collect();
        let now = Recovery {
            queues,
            notes: Vec::new(),
        };
        let held = self
            .held(&now)?
            .map_err(|error| format!("read fails: {error}"))?;
        difference(&held, &self.shown, self.seq_max).map_or(Ok(()), Err)
    }

    /// Reads some messages of a queue; they must be those the model has, in order.
    pub(super) fn check_read(&mut self) -> Result<(), String> {
        let queue = self.rng.below(self.habits.queues);
        let from = self.rng.below(self.seq_max + 2);
        let limits = Limits {
            messages: 1 + self.rng.below(20) as usize,
            bytes: self.rng.below(4000) as usize,
        };
        let page = match self.store().read(QueueKey(queue), Seq(from), limits) {
            Ok(page) => page,
            Err(error) => return self.refused("read", &error),
        };
        self.tell(|| format!("read queue {queue} from {from}: {} messages", page.len()));
        let Some(model) = self.shown.queues.get(&queue) else {
            return if page.is_empty() {
                Ok(())
            } else {
                Err(format!("queue {queue} is forgotten"))
            };
        };
        let mut expected = model.messages.range(from..);
        let mut bytes = 0;
        for (seq, payload) in &page {
            match expected.next() {
                Some((other, message)) if *other == seq.0 && message.payload() == **payload => {}
                other => return Err(format!("queue {queue}: read {seq:?} for {other:?}")),
            }
            bytes += payload.len();
        }
        let left = expected.next();
        let more = left.is_some_and(|(_, next)| {
            page.is_empty()
                || page.len() < limits.messages && bytes + next.len as usize <= limits.bytes
        });
        let many = page.len() > limits.messages || (page.len() > 1 && bytes > limits.bytes);
        if more || many {
            return Err(format!(
                "queue {queue}: {} messages for {limits:?}",
                page.len()
            ));
        }
        Ok(())
    }

    /// Flips bits, then opens and reads: the damage is named, or nothing has changed.
    pub(super) fn damage(&mut self) -> Result<(), String> {
        let sure = self.durable.clone();
        self.store = None;
        self.disk.restart(crate::disk::Crash::Process);
        let flipped = self.disk.flip_bits(4);
        self.tell(|| format!("flipped {flipped:?}"));
        let recovery = match self.try_open() {
            Ok(recovery) => recovery,
            Err(OpenError::Disk { file, error }) => return Err(format!("{file}: {error}")),
            Err(error) => {
                self.tell(|| error.to_string());
                self.report.damage_named += 1;
                return Ok(());
            }
        };
        let held = match self.held(&recovery)? {
            Ok(held) => held,
            Err(StoreError::Corrupt { file, .. }) => {
                let named = flipped.iter().any(|(other, _)| *other == file);
                self.report.damage_named += 1;
                return if named {
                    Ok(())
                } else {
                    Err(format!("{file} is blamed for {flipped:?}"))
                };
            }
            Err(error) => return Err(format!("read fails: {error}")),
        };
        if recovery.notes.is_empty() {
            self.report.damage_harmless += 1;
            return difference(&held, &sure, self.seq_max).map_or(Ok(()), Err);
        }
        // The end of the log was cut off, and said so. What is left must have been true once.
        self.report.damage_named += 1;
        let mut model = Model::default();
        for changes in &self.history {
            if difference(&held, &model, self.seq_max).is_none() {
                return Ok(());
            }
            model.apply_all(changes);
        }
        let differs = difference(&held, &model, self.seq_max);
        differs.map_or(Ok(()), |what| {
            Err(format!("the contents were never true: {what}"))
        })
    }
}
