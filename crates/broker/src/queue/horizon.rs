//! Honest `redelivered` across restarts: which messages a client may have seen in an earlier life.
//!
//! A durable queue writes one note to the log before it delivers anything for the first time, and
//! waits for it: after a crash, a queue with that note flags everything it recovers. A stop in good
//! order replaces the note by the highest sequence delivered: what lies beyond it is fresh.
//!
//! ```text
//! Untold --first delivery--> Writing(ticket) --stored--> Told
//! ```

use store::{Batch, Seq};

use crate::id::QueueId;
use crate::mutant::{Mutant, breaks};
use crate::queue::event::ChannelKey;
use crate::queue::{HORIZON_KEY, KEYS_PER_QUEUE};
use store::QueueKey;

#[derive(Debug, PartialEq, Eq)]
enum State {
    Untold,
    /// The note is in a batch that has no ticket yet.
    Batched,
    Writing(u64),
    Told,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Horizon {
    state: State,
    /// Sequence of the note in the store, if there is one.
    note: u64,
    /// Everything up to here may have been seen in an earlier life.
    seen: u64,
    /// The highest sequence delivered in this life.
    delivered: u64,
    /// `basic.get`s that wait for the note or for the disk.
    waiting: Vec<(ChannelKey, bool)>,
}

impl Horizon {
    pub(crate) fn new(durable: bool, stored: Option<(Seq, &[u8])>) -> Horizon {
        let (note, seen) = match stored {
            None => (0, 0),
            Some((seq, bytes)) => {
                let seen = bytes.try_into().map(u64::from_be_bytes).unwrap_or(u64::MAX);
                (seq.0, seen)
            }
        };
        // A note of "everything" still holds: no new one is needed.
        let state = if durable && seen != u64::MAX { State::Untold } else { State::Told };
        Horizon { state, note, seen, delivered: seen, waiting: Vec::new() }
    }

    fn key(id: QueueId) -> QueueKey {
        QueueKey(id.0 * KEYS_PER_QUEUE + HORIZON_KEY)
    }

    fn write(&mut self, id: QueueId, value: u64, batch: &mut Batch) {
        let key = Horizon::key(id);
        if self.note > 0 {
            batch.remove(key, &[(Seq(self.note), Seq(self.note))]);
        }
        self.note += 1;
        batch.enqueue(key, Seq(self.note), &[&value.to_be_bytes()]);
    }

    /// The queue was deleted.
    pub(crate) fn forget(&self, id: QueueId, batch: &mut Batch) {
        if self.note > 0 {
            batch.forget(Horizon::key(id));
        }
    }

    /// Whether messages may go out; if not, the note is put into `batch`.
    pub(crate) fn may_deliver(&mut self, id: QueueId, batch: &mut Batch) -> bool {
        if self.state == State::Untold {
            self.write(id, u64::MAX, batch);
            self.state = State::Batched;
        }
        self.state == State::Told
    }

    /// The batch of this round got a ticket.
    pub(crate) fn ticket(&mut self, ticket: u64) {
        if self.state == State::Batched {
            self.state = State::Writing(ticket);
        }
    }

    /// Whether this round's batch must be reported.
    pub(crate) fn wants_ticket(&self) -> bool {
        self.state == State::Batched
    }

    pub(crate) fn stored(&mut self, ticket: u64) {
        if let State::Writing(mine) = self.state
            && mine <= ticket
        {
            self.state = State::Told;
        }
    }

    pub(crate) fn may_have_been_seen(&self, seq: Seq) -> bool {
        seq.0 <= self.seen && self.seen != u64::MAX
    }

    /// What a restart found is flagged when the crash left us ignorant.
    pub(crate) fn ignorant(&self) -> bool {
        self.seen == u64::MAX
    }

    /// The first sequence of which an orderly stop said that nobody saw it.
    pub(crate) fn first_unseen(&self) -> u64 {
        if self.ignorant() { 0 } else { self.seen + 1 }
    }

    /// Everything below `first_new` is of an earlier life that may have delivered it.
    pub(crate) fn bound(&mut self, first_new: u64) {
        if self.ignorant() {
            self.seen = first_new.saturating_sub(1);
            self.delivered = self.seen;
        }
    }

    /// Everything below `first_new` may have been delivered by somebody whose note is not here.
    pub(crate) fn inherit(&mut self, first_new: u64) {
        if !self.ignorant() {
            self.seen = self.seen.max(first_new.saturating_sub(1));
            self.delivered = self.delivered.max(self.seen);
        }
    }

    #[inline]
    pub(crate) fn delivered(&mut self, seq: Seq) {
        self.delivered = self.delivered.max(seq.0);
    }

    /// A message may be the second of two, of which one was delivered somewhere: it is flagged after a restart too.
    pub(crate) fn doubt(&mut self, id: QueueId, seq: Seq, batch: &mut Batch) {
        if !breaks(Mutant::ForgetDoubts) {
            let _ = self.may_deliver(id, batch);
            self.delivered(seq);
        }
    }

    /// Whether this life or an earlier one may have handed the message out.
    pub(crate) fn was_delivered(&self, seq: Seq) -> bool {
        seq.0 <= self.delivered
    }

    pub(crate) fn waiting_channels(&self) -> impl Iterator<Item = ChannelKey> + '_ {
        self.waiting.iter().map(|(channel, _)| *channel)
    }

    pub(crate) fn later(&mut self, channel: ChannelKey, no_ack: bool) {
        self.waiting.push((channel, no_ack));
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<(ChannelKey, bool)> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn forget_channel(&mut self, channel: ChannelKey) {
        self.waiting.retain(|(waiting, _)| *waiting != channel);
    }

    /// A stop in good order: what lies beyond the highest delivered sequence is fresh.
    pub(crate) fn stop(&mut self, id: QueueId, batch: &mut Batch) {
        if self.note > 0 {
            let delivered = self.delivered;
            self.write(id, delivered, batch);
            self.state = State::Untold;
        }
    }
}
