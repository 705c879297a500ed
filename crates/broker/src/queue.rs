//! A queue: the machine that keeps messages and hands them to consumers.
//!
//! ```text
//!             publish                 settle                    ack
//!   publisher -------> ready ----------------------> unacked ---------> gone
//!                        ^  \                         |   |
//!                        |   \ expired, over limit    |   | rejected
//!                        +----\-----------------------+   |
//!                     requeued \                          |
//!                               +--> leaving (dead letter) <-+ ---------> gone
//! ```
//!
//! [`Queue::handle`] takes events in and only changes state; [`Queue::settle`] is called once after a
//! batch of events and does what follows from it: expiry, deliveries, limits, one batch for the log,
//! one report for each publisher. The work per message is therefore moving it between these states.
//!
//! Invariants:
//! * a message is in exactly one of ready, unacked and leaving, or it is gone;
//! * its place is its sequence, given once: requeueing restores the original position;
//! * a confirm leaves after the log holds the message, where it is persistent and the queue durable;
//! * a message that leaves for the dead-letter exchange is kept until its targets hold it;
//! * `redelivered` is false only if no client can have seen the message (see `horizon`).

mod consumers;
mod elsewhere;
mod event;
mod horizon;
mod intake;
mod leaving;
mod ready;
mod settings;
mod settle;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use stdx::Time;
use store::{QueueKey, Seq};

pub use consumers::delivery_cost;
pub use elsewhere::Session;
pub use event::{
    ChannelEvent, ChannelKey, Consume, ConsumeError, ConsumerKey, DeadLetter, DeleteError, Delivery, Load,
    Publish, Publisher, QueueEffects, QueueEvent, QueueReply, Question, Reason,
};
pub use settings::{Overflow, Settings};

use crate::id::QueueId;
use crate::metadata;
use crate::mutant::{Mutant, breaks};
use crate::status::{ConsumerStatus, Counters, QueueStatus};
use crate::window::Window;
use consumers::Consumers;
use horizon::Horizon;
use intake::Intake;
use ready::{Entry, NEVER, Ready};

/// The two clocks a queue needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub time: Time,
    /// Milliseconds since 1970: message expiry survives restarts.
    pub unix_millis: u64,
    /// Bytes of ready messages that this queue may keep in memory.
    pub budget_bytes: u64,
}

/// What a restart found of one priority level.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    pub level: u8,
    pub messages: u64,
    pub bytes: u64,
    pub first: Seq,
    pub next: Seq,
}

/// An unacked message and who holds it.
#[derive(Debug)]
struct Unacked {
    entry: Entry,
    /// `None` for `basic.get`.
    consumer: Option<ConsumerKey>,
    channel: ChannelKey,
}

/// Numbers of a publisher, in runs.
type Report = (Publisher, Vec<(u64, u64)>);

/// See the file's head.
#[derive(Debug)]
pub struct Queue {
    id: QueueId,
    durable: bool,
    /// Mirrored: all messages go into the batch, whatever their delivery mode.
    replicated: bool,
    auto_delete: bool,
    settings: Arc<Settings>,
    /// One per priority, lowest first; an ordinary queue has one.
    levels: Vec<Ready>,
    unacked: Window<Unacked>,
    unacked_bytes: u64,
    consumers: Consumers,
    /// The epoch of this leader's first view.
    led_since: u64,
    next_seq: u64,
    horizon: Horizon,
    leaving: leaving::Leaving,
    /// The last ticket given, and the publishes that wait for each.
    ticket: u64,
    waiting: std::collections::VecDeque<(u64, Vec<Report>)>,
    elsewhere: elsewhere::Elsewhere,
    /// Reports of this round.
    safe_now: Vec<Report>,
    safe_when_stored: Vec<Report>,
    refused: Vec<(Publisher, Vec<u64>)>,
    removed: Vec<Vec<(Seq, Seq)>>,
    passing: Option<Passing>,
    /// Among the reports of this round are some of messages that came earlier.
    reports_earlier: bool,
    /// Messages or limits came since the limits were last enforced.
    limits_due: bool,
    /// Consumers whose channels hear of their cancel when the queue has deleted itself.
    farewells: Vec<ConsumerKey>,
    /// Nobody is known to consume any more; whoever does asks again before this.
    abandoned_at: Option<Time>,
    /// Until then the single active consumer waits for what the one before it may give back.
    follower_waits_until: Option<Time>,
    /// Channels that gave room in this round.
    resumed: Vec<ChannelKey>,
    had_consumer: bool,
    deleting: bool,
    last_used: Time,
    last_active_millis: u64,
    persistent: u64,
    persistent_bytes: u64,
    counters: Counters,
    intake: Intake,
    /// Since when (milliseconds since 1970) deliveries wait for the note of the horizon: what is alive
    /// then does not expire while it waits.
    held_since: Option<u64>,
}

/// What this round has put into the batch: it may be gone before the round ends.
#[derive(Clone, Copy, Debug)]
struct Passing {
    first: Seq,
    /// The batch before that.
    mark: store::Mark,
    stored: u64,
    gone: u64,
}

/// How many keys of the store one queue owns: its levels, and its horizon.
const KEYS_PER_QUEUE: u64 = 512;
const HORIZON_KEY: u64 = 256;
/// A leader gives so many sequences, before those of the next begin.
pub const EPOCH_SHIFT: u32 = 36;
/// Consumers who lost sight of their queue have asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// So long a single active consumer waits for what one that was cancelled holds. Its channel closes at once, or not soon.
const FOLLOWER: Duration = Duration::from_secs(1);
/// A stored message is at least so much longer than its body.
pub(crate) const STORED_BYTES_MIN: u64 = 41;

/// The store's key of one priority level of a queue.
#[must_use]
pub fn level_key(id: QueueId, level: u8) -> QueueKey {
    QueueKey(id.0 * KEYS_PER_QUEUE + u64::from(level))
}

/// The store's key of the note that deliveries have begun.
#[must_use]
pub fn horizon_key(id: QueueId) -> QueueKey {
    QueueKey(id.0 * KEYS_PER_QUEUE + HORIZON_KEY)
}

/// The first sequence of who leads since this epoch and finds `next` to be free in its store. A sequence is
/// never given by two leaders (docs/decisions/0004).
#[must_use]
pub(crate) fn first_sequence(led_since: u64, next: u64) -> u64 {
    if led_since > 1 && !breaks(Mutant::SequencesOfAllLeaders) { next.max(led_since << EPOCH_SHIFT) } else { next }
}

/// Whose key this is: the queue and the level; `None` as level is the horizon.
#[must_use]
pub fn key_owner(key: QueueKey) -> (QueueId, Option<u8>) {
    let place = key.0 % KEYS_PER_QUEUE;
    (QueueId(key.0 / KEYS_PER_QUEUE), u8::try_from(place).ok())
}

impl Queue {
    /// A new queue, or one that a restart found: `recovered` by level and the stored horizon.
    #[must_use]
    pub fn new(record: &metadata::Queue, recovered: &[Recovered], horizon: Option<(Seq, &[u8])>, now: Now) -> Queue {
        let levels = record.settings.priority_max.map_or(1, |max| usize::from(max) + 1);
        let mut queue = Queue {
            id: record.id,
            durable: record.durable,
            replicated: record.view.mirrored,
            auto_delete: record.auto_delete,
            settings: Arc::clone(&record.settings),
            levels: (0..levels).map(|_| Ready::default()).collect(),
            unacked: Window::default(),
            unacked_bytes: 0,
            consumers: Consumers::new(record.settings.single_active_consumer),
            led_since: record.view.led_since,
            next_seq: 1,
            horizon: Horizon::new(record.durable || record.view.mirrored, horizon),
            leaving: leaving::Leaving::default(),
            ticket: 0,
            waiting: std::collections::VecDeque::new(),
            elsewhere: elsewhere::Elsewhere::default(),
            safe_now: Vec::new(),
            safe_when_stored: Vec::new(),
            refused: Vec::new(),
            removed: vec![Vec::new(); levels],
            passing: None,
            reports_earlier: false,
            limits_due: true,
            farewells: Vec::new(),
            abandoned_at: None,
            follower_waits_until: None,
            resumed: Vec::new(),
            had_consumer: false,
            deleting: false,
            last_used: now.time,
            last_active_millis: now.unix_millis,
            persistent: 0,
            persistent_bytes: 0,
            counters: Counters::default(),
            intake: Intake::default(),
            held_since: None,
        };
        for found in recovered {
            queue.next_seq = queue.next_seq.max(found.next.0);
            if let Some(level) = queue.levels.get_mut(usize::from(found.level)) {
                // What the store counts beside bodies is no body.
                let bytes = found.bytes.saturating_sub(found.messages * STORED_BYTES_MIN);
                level.recover(found.messages, bytes, found.first, found.next);
                queue.persistent += found.messages;
                queue.persistent_bytes += bytes;
            }
        }
        queue.next_seq = first_sequence(record.view.led_since, queue.next_seq);
        // Transient messages took sequences too: what comes must not look like what they were.
        queue.next_seq = queue.next_seq.max(queue.horizon.first_unseen());
        queue.horizon.bound(queue.next_seq);
        if record.view.mirrored && record.view.led_since > 1 && !breaks(Mutant::TakeForFresh) {
            // A note of the horizon does not come with what a mirror is fed: another leader may have
            // delivered everything here.
            queue.horizon.inherit(queue.next_seq);
        }
        queue
    }

    /// The only way in. Changes state; what follows is done by [`Queue::settle`].
    pub fn handle(&mut self, now: Now, event: QueueEvent, out: &mut QueueEffects) {
        if self.follower_waits_until.is_some() && changes_what_is_ready(&event) {
            // What this event gives back is ready before anything is handed out again.
            self.follower_waits_until = None;
            self.consumers.line_up_follower();
        }
        match event {
            QueueEvent::Publish { from, messages } => self.publish(now, from, messages, out),
            QueueEvent::Session { session, settled, follows, again, messages } => {
                if self.has_heard(session, follows) {
                    self.publish_of_session(now, session, settled, again, messages, out);
                }
            }
            QueueEvent::NodeLost { node } => self.node_lost(now, node, out),
            QueueEvent::Consume(ask) => self.consume(now, *ask, out),
            QueueEvent::Cancel { consumer, reply } => self.cancel(now, consumer, reply, out),
            QueueEvent::Get { channel, no_ack } => self.get(now, channel, no_ack, out),
            QueueEvent::Ack { channel, runs } => self.ack(now, channel, &runs),
            QueueEvent::Reject { channel, seqs, requeue } => self.reject(now, channel, &seqs, requeue),
            QueueEvent::Surplus { channel, seqs } => self.surplus(channel, &seqs),
            QueueEvent::Resume { channel } => {
                self.consumers.pause(channel, false);
                self.resumed.push(channel);
            }
            QueueEvent::Taken { channel, runs } => {
                self.drop_held(channel, &runs);
            }
            QueueEvent::Credit { consumer, bytes } => self.consumers.credit(consumer, bytes),
            QueueEvent::ChannelClosed { channel, seqs } => self.channel_closed(now, channel, &seqs, out),
            QueueEvent::Inspect { channel } => {
                self.settle_ready(now, out);
                self.last_used = now.time;
                let reply =
                    QueueReply::Inspected { messages: self.ready_len(), consumers: self.consumers.len() as u32 };
                self.reply_to(channel, reply, out);
            }
            QueueEvent::Purge { channel } => {
                self.settle_ready(now, out);
                let messages = self.purge();
                self.reply_to(channel, QueueReply::Purged { messages }, out);
            }
            QueueEvent::Delete { channel, if_unused, if_empty } => {
                self.settle_ready(now, out);
                let verdict = if if_unused && !self.consumers.is_empty() {
                    Err(DeleteError::InUse)
                } else if if_empty && self.ready_len() > 0 {
                    Err(DeleteError::NotEmpty)
                } else {
                    Ok(self.ready_len())
                };
                self.reply_to(channel, QueueReply::Deletable(verdict), out);
            }
            QueueEvent::Stored { ticket } => self.stored(ticket),
            QueueEvent::Loaded { key, from, messages } => self.loaded(key, from, messages),
            QueueEvent::DeadLettered { numbers } => self.dead_lettered(&numbers),
            QueueEvent::Prefetch { consumer, prefetch, limited } => {
                self.consumers.set_prefetch(consumer, prefetch, limited);
            }
            QueueEvent::Settings(settings) => {
                self.limits_due = true;
                if settings.expires != self.settings.expires {
                    // A new lease begins now, however long nobody came.
                    self.last_used = now.time;
                }
                self.settings = settings;
            }
            QueueEvent::Tick => {}
            QueueEvent::Stop => self.horizon.stop(self.id, &mut out.batch),
        }
    }

    fn level_of(&self, message: &crate::message::Message) -> usize {
        usize::from(message.priority()).min(self.levels.len() - 1)
    }

    fn ready_len(&self) -> u64 {
        self.levels.iter().map(Ready::len).sum()
    }

    fn ready_bytes(&self) -> u64 {
        self.levels.iter().map(Ready::bytes).sum()
    }

    /// Bytes of memory of what is ready.
    fn ready_memory(&self) -> u64 {
        self.levels.iter().map(Ready::memory).sum()
    }

    fn publish(&mut self, now: Now, from: Publisher, messages: Vec<Publish>, out: &mut QueueEffects) {
        self.begin_publishes(now, messages.len());
        for publish in messages {
            if self.has_room(now, &publish, out) {
                self.enqueue(now, from, publish, false, out);
            } else {
                if breaks(Mutant::MirrorRefused) {
                    out.batch.enqueue(level_key(self.id, 0), Seq(self.next_seq), &[publish.message.as_bytes()]);
                }
                self.refuse(from, publish);
            }
        }
    }

    fn begin_publishes(&mut self, now: Now, count: usize) {
        self.counters.publish += count as u64;
        self.limits_due = true;
        self.last_active_millis = now.unix_millis;
    }

    /// Whether a publish may enter, where a full queue refuses: what is ready may leave first.
    fn has_room(&mut self, now: Now, publish: &Publish, out: &mut QueueEffects) -> bool {
        if self.elsewhere.is_short_of_copies() {
            return false;
        }
        if self.settings.overflow == Overflow::DropHead || !self.is_full(publish) {
            return true;
        }
        self.deliver_ready(now, out);
        !self.is_full(publish)
    }

    fn is_full(&self, publish: &Publish) -> bool {
        let bytes = publish.message.body_bytes() as u64;
        self.settings.length_max.is_some_and(|max| self.ready_len() >= max)
            || self.settings.length_max_bytes.is_some_and(|max| self.ready_bytes() + bytes > max)
    }

    fn refuse(&mut self, from: Publisher, publish: Publish) {
        if publish.number != 0 {
            match self.refused.last_mut() {
                Some((publisher, numbers)) if *publisher == from => numbers.push(publish.number),
                _ => self.refused.push((from, vec![publish.number])),
            }
        }
        let goes_on = self.settings.overflow == Overflow::RejectPublishDlx && !self.elsewhere.is_short_of_copies();
        if goes_on && self.settings.dead_letter_exchange.is_some() {
            self.leaving.refuse(publish.message);
        }
    }

    #[inline]
    fn enqueue(&mut self, now: Now, from: Publisher, publish: Publish, again: bool, out: &mut QueueEffects) {
        let Publish { message, number } = publish;
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let expires_at = self.expiry(now, &message);
        self.intake.brought(message.memory_bytes() as u64);
        let persistent = message.is_persistent() && self.durable;
        let stored = persistent || self.replicated;
        let level = if self.levels.len() == 1 { 0 } else { self.level_of(&message) };
        if persistent {
            self.persistent += 1;
            self.persistent_bytes += message.body_bytes() as u64;
            self.counters.disk_writes += 1;
        }
        if stored {
            let begin = || Passing { first: seq, mark: out.batch.mark(), stored: 0, gone: 0 };
            self.passing.get_or_insert_with(begin).stored += 1;
            out.batch.enqueue(
                level_key(self.id, level as u8),
                seq,
                &[&expires_at.to_be_bytes(), message.as_bytes()],
            );
            if again {
                self.horizon.doubt(self.id, seq, &mut out.batch);
            }
        }
        if number != 0 {
            let list = if stored { &mut self.safe_when_stored } else { &mut self.safe_now };
            push_run(list, from, number);
        }
        // A lazy queue keeps its backlog on disk; what somebody waits for is no backlog.
        let pages_at_once = self.settings.lazy && !self.consumers.anyone_in_line();
        let budget = if pages_at_once { 0 } else { self.level_budget(now) };
        if self.levels[level].must_page(budget) {
            self.levels[level].push_paged(seq, message.body_bytes() as u64, persistent);
            if again {
                self.levels[level].mark_seen(seq);
            }
            if !stored {
                out.transient.enqueue(
                    level_key(self.id, level as u8),
                    seq,
                    &[&expires_at.to_be_bytes(), message.as_bytes()],
                );
            }
        } else {
            let entry = Entry { seq, message, expires_at, returns: 0, redelivered: again, stored };
            self.levels[level].push(entry);
        }
    }

    /// What one level may keep in memory.
    fn level_budget(&self, now: Now) -> u64 {
        now.budget_bytes / self.levels.len() as u64
    }

    /// The earlier of the queue's and the message's time to live, as a point in time.
    #[inline]
    fn expiry(&self, now: Now, message: &crate::message::Message) -> u64 {
        let of_queue = self.settings.message_ttl.map(|ttl| ttl.as_millis() as u64);
        let ttl = match (of_queue, message.expiration_millis()) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => match a.or(b) {
                Some(ttl) => ttl,
                None => return NEVER,
            },
        };
        now.unix_millis.saturating_add(ttl)
    }

    fn consume(&mut self, now: Now, ask: Consume, out: &mut QueueEffects) {
        if ask.again {
            return self.consume_again(now, ask, out);
        }
        // What was published before belongs to those who consumed before.
        self.deliver_ready(now, out);
        let channel = ask.consumer.channel;
        if self.consumers.contains(ask.consumer) {
            // An agent has asked twice, because it could not tell whether the first time was heard.
            self.reply_to(channel, QueueReply::Consuming(Ok(())), out);
            return;
        }
        let taken = self.consumers.has_exclusive()
            || (ask.exclusive && (!self.consumers.is_empty() || self.settings.single_active_consumer));
        if taken {
            self.reply_to(channel, QueueReply::Consuming(Err(ConsumeError::ExclusiveUse)), out);
            return;
        }
        self.last_used = now.time;
        self.had_consumer = true;
        self.consumers.add(ask);
        self.reply_to(channel, QueueReply::Consuming(Ok(())), out);
    }

    fn cancel(&mut self, now: Now, consumer: ConsumerKey, reply: bool, out: &mut QueueEffects) {
        // What was published before is still for this consumer, if it is its turn.
        self.deliver_ready(now, out);
        self.flush_outgoing(out);
        let cancelled = self.consumers.cancel(consumer);
        if let Some(another_waits) = cancelled {
            let until = self.follower_waits_until.unwrap_or(now.time + FOLLOWER);
            self.follower_waits_until = another_waits.then_some(until);
            self.last_used = now.time;
            self.after_consumers_left(out);
        } else if reply {
            // It had this one; others may be about to ask again.
            self.seems_abandoned(now);
        }
        if reply && self.deleting {
            // Who cancels the last consumer of an auto-delete queue finds the queue gone.
            self.farewells.push(consumer);
        } else if reply {
            self.reply_to(consumer.channel, QueueReply::Cancelled(consumer.number), out);
        }
    }

    fn after_consumers_left(&mut self, out: &mut QueueEffects) {
        if self.auto_delete && self.had_consumer && self.consumers.is_empty() && !self.deleting {
            self.propose_delete(out);
        }
    }

    /// The last consumer that was heard of is gone, and others may be about to ask again, who did while another
    /// leader was there, or over a link that broke.
    fn seems_abandoned(&mut self, now: Now) {
        if self.auto_delete && self.consumers.is_empty() && !self.deleting {
            self.abandoned_at = Some(now.time + ASK_AGAIN);
        }
    }

    fn get(&mut self, now: Now, channel: ChannelKey, no_ack: bool, out: &mut QueueEffects) {
        self.last_used = now.time;
        self.settle_ready(now, out);
        self.page_in(now, out);
        let is_empty = self.ready_len() == 0;
        if !is_empty && (self.front_is_on_disk() || !self.horizon.may_deliver(self.id, &mut out.batch)) {
            self.horizon.later(channel, no_ack);
            return;
        }
        let Some((level, mut entry)) = self.pop_front() else {
            self.counters.get_empty += 1;
            self.reply_to(channel, QueueReply::Got(None), out);
            return;
        };
        let delivery = self.delivery(&mut entry, 0);
        if no_ack {
            self.counters.get_no_ack += 1;
            self.gone(level, &entry);
        } else {
            self.counters.get += 1;
            self.hold(entry, None, channel);
        }
        let left = self.ready_len();
        self.reply_to(channel, QueueReply::Got(Some((Box::new(delivery), left))), out);
    }

    fn delivery(&mut self, entry: &mut Entry, consumer: u32) -> Delivery {
        let redelivered = entry.redelivered || self.horizon.may_have_been_seen(entry.seq);
        self.counters.redeliver += u64::from(redelivered);
        self.horizon.delivered(entry.seq);
        let count = if self.settings.delivery_limit.is_some() { entry.returns } else { 0 };
        Delivery { message: entry.message.clone(), seq: entry.seq, consumer, redelivered, held: false, count }
    }

    fn hold(&mut self, entry: Entry, consumer: Option<ConsumerKey>, channel: ChannelKey) {
        self.unacked_bytes += entry.message.body_bytes() as u64;
        if consumer.is_none() {
            self.consumers.got(channel);
        }
        self.unacked.insert(entry.seq.0, Unacked { entry, consumer, channel });
    }

    /// Takes an unacked message from `channel`; what another channel holds is not its to settle.
    fn release(&mut self, channel: ChannelKey, seq: Seq) -> Option<Entry> {
        if self.unacked.get_mut(seq.0)?.channel != channel {
            return None;
        }
        let held = self.unacked.remove(seq.0)?;
        self.unacked_bytes -= held.entry.message.body_bytes() as u64;
        match held.consumer {
            Some(consumer) => self.consumers.settled(consumer),
            None => self.consumers.settled_other(channel),
        }
        Some(held.entry)
    }

    /// A message has left for good.
    fn gone(&mut self, level: usize, entry: &Entry) {
        if self.durable && entry.message.is_persistent() {
            self.forget_persistent(1, entry.message.body_bytes() as u64);
        }
        if entry.stored {
            push_seq(&mut self.removed[level], entry.seq);
            if let Some(passing) = self.passing.as_mut().filter(|passing| passing.first <= entry.seq) {
                passing.gone += 1;
            }
        }
    }

    fn forget_persistent(&mut self, messages: u64, bytes: u64) {
        self.persistent = self.persistent.saturating_sub(messages);
        // Bytes that a restart found are an estimate: what is left of it goes with the last message.
        let left = self.persistent_bytes.saturating_sub(bytes);
        self.persistent_bytes = if self.persistent == 0 { 0 } else { left };
    }

    fn ack(&mut self, now: Now, channel: ChannelKey, runs: &[(Seq, Seq)]) {
        self.last_active_millis = now.unix_millis;
        self.counters.ack += self.drop_held(channel, runs);
    }

    /// What the channel held leaves for good; answers how many messages that were.
    fn drop_held(&mut self, channel: ChannelKey, runs: &[(Seq, Seq)]) -> u64 {
        let mut dropped = 0;
        for (first, last) in runs {
            for seq in first.0..=last.0 {
                let held = self.release(channel, Seq(seq)).or_else(|| self.late_ack(Seq(seq)));
                if let Some(entry) = held {
                    dropped += 1;
                    let level = self.level_of(&entry.message);
                    self.gone(level, &entry);
                }
            }
        }
        dropped
    }

    fn reject(&mut self, now: Now, channel: ChannelKey, seqs: &[Seq], requeue: bool) {
        self.last_active_millis = now.unix_millis;
        for seq in seqs {
            let Some(entry) = self.release(channel, *seq) else { continue };
            if requeue {
                self.requeue(entry);
            } else {
                self.leave(entry, Reason::Rejected);
            }
        }
    }

    /// Back to its place, one more return on its account.
    fn requeue(&mut self, mut entry: Entry) {
        entry.returns += 1;
        entry.redelivered = true;
        if self.settings.delivery_limit.is_some_and(|limit| entry.returns > limit) {
            self.leave(entry, Reason::DeliveryLimit);
        } else {
            let level = self.level_of(&entry.message);
            self.levels[level].put_back(entry);
            self.limits_due = true;
        }
    }

    fn surplus(&mut self, channel: ChannelKey, seqs: &[Seq]) {
        self.consumers.pause(channel, true);
        for seq in seqs {
            let key = self.unacked.get_mut(seq.0).and_then(|held| held.consumer);
            if let Some(entry) = self.release(channel, *seq) {
                if let Some(key) = key {
                    self.consumers.sent_back(key, consumers::cost(&entry.message));
                }
                let level = self.level_of(&entry.message);
                self.levels[level].put_back(entry);
            }
        }
    }

    fn channel_closed(&mut self, now: Now, channel: ChannelKey, seqs: &[Seq], out: &mut QueueEffects) {
        self.flush_outgoing(out);
        let left = self.consumers.remove_channel(channel);
        self.horizon.forget_channel(channel);
        for seq in seqs {
            if let Some(entry) = self.release(channel, *seq) {
                self.requeue(entry);
            }
        }
        // Deliveries that were on their way when the channel ended are not in its list.
        let stray: Vec<u64> = if self.consumers.has_others(channel) {
            self.unacked.iter().filter(|(_, held)| held.channel == channel).map(|(seq, _)| seq).collect()
        } else {
            Vec::new()
        };
        for seq in stray {
            if let Some(entry) = self.release(channel, Seq(seq)) {
                self.requeue(entry);
            }
        }
        if left > 0 {
            self.last_used = now.time;
            self.after_consumers_left(out);
        }
    }

    /// Drops what is ready.
    fn purge(&mut self) -> u64 {
        let messages = self.ready_len();
        for level in 0..self.levels.len() {
            let next = Seq(self.next_seq - 1);
            let (entries, paged) = self.levels[level].clear();
            for entry in &entries {
                self.gone(level, entry);
            }
            if paged.messages > 0 {
                self.forget_persistent(paged.persistent, paged.persistent_bytes);
                self.purge_paged(level, Seq(paged.next), next);
            }
        }
        messages
    }

    /// Removes a range of which unacked messages must stay.
    fn purge_paged(&mut self, level: usize, first: Seq, last: Seq) {
        // Everything from the first paged message on is ready: unacked and returned ones lie before it.
        if first <= last {
            self.removed[level].push((first, last));
        }
    }

    /// Whether publishes should wait a moment (see `intake`).
    #[must_use]
    pub fn is_congested(&self, now: Now) -> bool {
        self.intake.is_closed(now.time, self.ready_memory(), now.budget_bytes)
    }

    /// When to call `handle` with a tick if nothing else happens first.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Time> {
        let mut next = self.expiry_deadline(now);
        if let Some(expires) = self.settings.expires
            && self.consumers.is_empty()
            && !self.deleting
        {
            let at = self.last_used + expires;
            next = Some(next.map_or(at, |n| n.min(at)));
        }
        for at in self.abandoned_at.into_iter().chain(self.follower_waits_until) {
            next = Some(next.map_or(at, |n| n.min(at)));
        }
        next.map(|at| at.max(now.time + Duration::from_millis(1)))
    }

    /// The queue's name in events.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// The queue was deleted: consumers and waiting channels are told, the store forgets it.
    pub fn flush_and_end(&mut self, out: &mut QueueEffects) {
        self.flush_outgoing(out);
        self.tell_resumed(out);
        for level in 0..self.levels.len() {
            out.batch.forget(level_key(self.id, level as u8));
        }
        self.horizon.forget(self.id, &mut out.batch);
        for consumer in std::mem::take(&mut self.farewells) {
            self.reply_to(consumer.channel, QueueReply::Cancelled(consumer.number), out);
        }
        for consumer in self.consumers.iter() {
            let key = consumer.key;
            let event = ChannelEvent::ConsumerCancelled { channel: key.channel, number: key.number };
            out.to_connections.push((key.channel.connection, event));
        }
        for (channel, _) in self.horizon.take_waiting() {
            self.reply_to(channel, QueueReply::Gone, out);
        }
        for (_, reports) in std::mem::take(&mut self.waiting) {
            self.safe_now.extend(reports);
        }
        // A queue deleted meanwhile counts as done.
        self.safe_now.append(&mut self.safe_when_stored);
        self.report(out);
    }

    /// How many messages it has, delivered ones that are not acknowledged among them.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.ready_len() + self.unacked.len() as u64
    }

    /// What an operator may see, as plain data.
    #[must_use]
    pub fn status(&self) -> QueueStatus {
        let in_memory: u64 = self.levels.iter().map(Ready::in_memory).sum();
        let memory = self.ready_memory();
        QueueStatus {
            id: Some(self.id),
            messages_ready: self.ready_len(),
            messages_unacked: self.unacked.len() as u64,
            bytes_ready: self.ready_bytes(),
            bytes_unacked: self.unacked_bytes,
            messages_persistent: self.persistent,
            bytes_persistent: self.persistent_bytes,
            messages_ram: in_memory + self.unacked.len() as u64,
            messages_unacked_ram: self.unacked.len() as u64,
            bytes_ram: memory + self.unacked_bytes,
            memory: memory + self.unacked_bytes + 64 * self.unacked.len() as u64 + 2048,
            consumers: self.consumers.iter().map(|c| self.consumer_status(c)).collect(),
            consumer_capacity: f64::from(u8::from(
                !self.consumers.is_empty() && (self.consumers.anyone_in_line() || self.ready_len() == 0),
            )),
            head_message_timestamp: self.front().and_then(|e| e.message.view().timestamp()),
            idle_since: Some(self.last_active_millis),
            single_active_consumer_tag: self.consumers.single_active().map(|c| c.tag.to_vec()),
            exclusive_consumer_tag: self.consumers.iter().find(|c| c.exclusive).map(|c| c.tag.to_vec()),
            counters: self.counters.clone(),
            priority_lengths: if self.levels.len() > 1 {
                self.levels.iter().map(Ready::len).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn reply_to(&self, channel: ChannelKey, reply: QueueReply, out: &mut QueueEffects) {
        out.to_connections.push((channel.connection, ChannelEvent::Replied { channel, queue: self.id, reply }));
    }

    fn consumer_status(&self, c: &consumers::Consumer) -> ConsumerStatus {
        let activity = match (self.settings.single_active_consumer, c.is_active()) {
            (true, true) => "single_active",
            (true, false) => "waiting",
            (false, _) => "up",
        };
        ConsumerStatus {
            connection: c.key.channel.connection,
            channel: c.key.channel.number,
            tag: c.tag.to_vec(),
            ack_required: !c.no_ack,
            exclusive: c.exclusive,
            prefetch_count: c.prefetch,
            priority: c.priority,
            arguments: c.arguments.clone(),
            active: c.is_active(),
            activity,
        }
    }
}

/// Whether messages come, go or come back with it.
fn changes_what_is_ready(event: &QueueEvent) -> bool {
    matches!(
        event,
        QueueEvent::Publish { .. }
            | QueueEvent::Session { .. }
            | QueueEvent::Get { .. }
            | QueueEvent::Ack { .. }
            | QueueEvent::Reject { .. }
            | QueueEvent::ChannelClosed { .. }
            | QueueEvent::NodeLost { .. }
    )
}

/// Adds a number to a publisher's runs.
#[inline]
fn push_run(list: &mut Vec<(Publisher, Vec<(u64, u64)>)>, from: Publisher, number: u64) {
    let runs = match list.last_mut() {
        Some((publisher, runs)) if *publisher == from => runs,
        _ => {
            list.push((from, Vec::new()));
            &mut list.last_mut().expect("just pushed").1
        }
    };
    match runs.last_mut() {
        Some((_, last)) if *last + 1 == number => *last = number,
        _ => runs.push((number, number)),
    }
}

/// Adds a sequence to runs.
#[inline]
fn push_seq(runs: &mut Vec<(Seq, Seq)>, seq: Seq) {
    match runs.last_mut() {
        Some((_, last)) if last.0 + 1 == seq.0 => *last = seq,
        _ => runs.push((seq, seq)),
    }
}
