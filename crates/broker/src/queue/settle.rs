//! What follows from a batch of events: expiry, deliveries, limits, reports.

use std::time::Duration;

use bytes::Bytes;
use stdx::Time;
use store::{QueueKey, Seq};

use crate::message::Message;
use crate::metadata::Command;
use crate::queue::event::{ChannelEvent, Load, Publisher, QueueEffects, QueueEvent, Reason};
use crate::queue::ready::{Entry, NEVER};
use crate::queue::{Now, Overflow, Queue, STORED_BYTES_MIN, key_owner, level_key, push_seq};

/// Messages and bytes of one read of the store.
const LOAD_MESSAGES: usize = 4096;
const LOAD_BYTES: usize = 1 << 20;
/// What a queue may read at once, however little memory there is for it.
const LOAD_BYTES_MIN: u64 = 4 << 10;
/// A deadline that is missed by more was one of a queue that did not serve.
const LATE: Duration = Duration::from_secs(2);
/// Below this many messages in the head, the next read is asked for.
const LOW_WATER: usize = 2048;

impl Queue {
    /// Called once after a batch of events.
    pub fn settle(&mut self, now: Now, out: &mut QueueEffects) {
        self.expire(now, false);
        if self.follower_waits_until.is_some_and(|until| now.time >= until) {
            self.follower_waits_until = None;
            self.consumers.line_up_follower();
        }
        self.serve_waiting_gets(now, out);
        self.deliver_ready(now, out);
        self.expire(now, true);
        self.enforce_limits();
        self.page_in(now, out);
        let backlog = self.levels.iter().any(|level| level.paged.messages > 0);
        self.intake.settled(now.time, self.consumers.anyone_in_line() && self.front_is_on_disk(), backlog);
        self.flush_outgoing(out);
        self.tell_resumed(out);
        self.send_dead_letters(out);
        self.let_pass(out);
        self.write_removals(out);
        self.give_ticket(out);
        self.report(out);
        if let Some(expires) = self.settings.expires
            && self.consumers.is_empty()
            && !self.deleting
            && now.time.since(self.last_used) >= expires
        {
            self.propose_delete(out);
        }
        if let Some(at) = self.abandoned_at
            && now.time >= at
        {
            // Long past, it did not serve meanwhile: who has asked again may be in the next round.
            let is_late = now.time.since(at) > LATE;
            self.abandoned_at = is_late.then_some(now.time + LATE);
            if !is_late && self.consumers.is_empty() && !self.deleting {
                self.propose_delete(out);
            }
        }
    }

    /// Deliveries, once the note that they begin is in the log.
    pub(super) fn deliver_ready(&mut self, now: Now, out: &mut QueueEffects) {
        if !self.consumers.anyone_in_line() || self.ready_len() == 0 {
            self.held_since = None;
        } else if self.horizon.may_deliver(self.id, &mut out.batch) {
            let ready = self.ready_memory();
            self.dispatch(now);
            self.intake.taken(now.time, ready - self.ready_memory());
            self.held_since = None;
        } else {
            self.held_since.get_or_insert(now.unix_millis);
        }
    }

    /// The moment by which expiry judges. With a consumer ready, the wait for the log costs no
    /// message its life.
    fn judged_at(&self, now: Now) -> u64 {
        self.held_since.unwrap_or(now.unix_millis).min(now.unix_millis)
    }

    /// What publishes of this round lead to, before somebody asks what there is.
    pub(super) fn settle_ready(&mut self, now: Now, out: &mut QueueEffects) {
        self.deliver_ready(now, out);
        self.expire(now, true);
        self.enforce_limits();
    }

    pub(super) fn propose_delete(&mut self, out: &mut QueueEffects) {
        self.deleting = true;
        out.proposals.push(Command::DeleteQueue { vhost: "".into(), name: "".into(), only: Some(self.id) });
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.levels.iter().rev().find(|l| l.len() > 0).and_then(|l| l.front())
    }

    /// The next message exists but is not in memory.
    pub(super) fn front_is_on_disk(&self) -> bool {
        self.ready_len() > 0 && self.front().is_none()
    }

    pub(super) fn pop_front(&mut self) -> Option<(usize, Entry)> {
        let level = self.levels.iter().rposition(|l| l.len() > 0)?;
        self.levels[level].pop().map(|entry| (level, entry))
    }

    /// Deliveries as long as somebody is in line and messages are in memory.
    fn dispatch(&mut self, now: Now) {
        let judged_at = self.judged_at(now);
        while let Some((no_ack, holds)) = self.consumers.next().map(|c| (c.no_ack, c.holds())) {
            let Some((level, mut entry)) = self.pop_front() else { break };
            if entry.expires_at < judged_at {
                self.leave(entry, Reason::Expired);
                continue;
            }
            let delivery = self.delivery(&mut entry, 0);
            let consumer = self.consumers.take(|c| {
                let mut delivery = delivery;
                delivery.consumer = c.key.number;
                delivery.held = holds;
                delivery
            });
            if no_ack {
                self.counters.deliver_no_ack += 1;
            } else {
                self.counters.deliver += 1;
            }
            if holds {
                self.hold(entry, Some(consumer), consumer.channel);
            } else {
                self.gone(level, &entry);
            }
            self.last_active_millis = now.unix_millis;
        }
    }

    /// Takes expired messages from the heads. `due_now` also takes those whose time is this very
    /// moment: a time to live of 0 means "deliver at once or never".
    pub(super) fn expire(&mut self, now: Now, due_now: bool) {
        let judged_at = self.judged_at(now);
        let due_now = due_now && self.held_since.is_none();
        for level in (0..self.levels.len()).rev() {
            while let Some(front) = self.levels[level].front() {
                // What came back has had its moment, if its time to live was none.
                let due = due_now || front.returns > 0;
                let expired = front.expires_at < judged_at || (due && front.expires_at == judged_at);
                if !expired || self.leaving.is_full() {
                    break;
                }
                if let Some(entry) = self.levels[level].pop() {
                    self.leave(entry, Reason::Expired);
                }
            }
        }
    }

    pub(super) fn expiry_deadline(&self, now: Now) -> Option<Time> {
        if self.leaving.is_full() || self.held_since.is_some() {
            // What expiry waits for wakes the queue.
            return None;
        }
        let heads = self.levels.iter().filter_map(|l| l.front());
        let first = heads.map(|e| e.expires_at).filter(|at| *at != NEVER).min()?;
        Some(now.time + Duration::from_millis(first.saturating_sub(now.unix_millis)))
    }

    /// Drops from the head what is over the limits. The head is of the highest priority, as RabbitMQ has it.
    fn enforce_limits(&mut self) {
        // Publishes, returned messages and new limits push messages out; nothing else need look.
        if !std::mem::take(&mut self.limits_due) || self.settings.overflow != Overflow::DropHead {
            return;
        }
        let (length, bytes) = (self.settings.length_max, self.settings.length_max_bytes);
        if length.is_none() && bytes.is_none() {
            return;
        }
        while length.is_some_and(|max| self.ready_len() > max) || bytes.is_some_and(|max| self.ready_bytes() > max) {
            let Some(level) = self.levels.iter().rposition(|l| l.len() > 0) else { break };
            let Some(entry) = self.levels[level].pop() else {
                self.limits_due = true;
                break;
            };
            self.leave(entry, Reason::MaxLength);
        }
    }

    pub(super) fn page_in(&mut self, now: Now, out: &mut QueueEffects) {
        let share = (now.budget_bytes / self.levels.len() as u64 / 4).max(LOAD_BYTES_MIN);
        for (level, ready) in self.levels.iter_mut().enumerate() {
            if ready.wants_load(LOW_WATER, share) {
                ready.loading = Some(ready.paged.next);
                out.loads.push(Load {
                    key: level_key(self.id, level as u8),
                    from: Seq(ready.paged.next),
                    messages: LOAD_MESSAGES,
                    bytes: LOAD_BYTES.min(share as usize),
                });
            }
        }
    }

    pub(super) fn loaded(&mut self, key: QueueKey, from: Seq, messages: Vec<(Seq, Bytes)>) {
        let (_, Some(level)) = key_owner(key) else { return };
        let Some(ready) = self.levels.get_mut(usize::from(level)) else { return };
        if ready.loading != Some(from.0) {
            // Purged while the read was under way.
            return;
        }
        self.counters.disk_reads += messages.len() as u64;
        self.intake.loaded(messages.iter().map(|(_, bytes)| bytes.len() as u64).sum());
        let end = messages.last().map_or(from, |(seq, _)| *seq);
        let mut entries = Vec::with_capacity(messages.len());
        let (mut unreadable, mut last) = (0, from);
        for (seq, bytes) in messages {
            match stored_entry(seq, &bytes) {
                Some(entry) => entries.push((entry, (bytes.len() as u64).saturating_sub(STORED_BYTES_MIN))),
                // Bytes that no message was made of: they cannot be delivered and must not be met again.
                None => {
                    push_seq(&mut self.removed[usize::from(level)], seq);
                    unreadable += 1;
                    last = seq;
                }
            }
        }
        ready.skip(unreadable, last);
        let missing = ready.loaded(entries, unreadable > 0);
        self.forget_persistent(missing.persistent, missing.persistent_bytes);
        self.drop_acked(usize::from(level), end);
    }

    /// Takes what is outgoing into effects.
    pub(super) fn flush_outgoing(&mut self, out: &mut QueueEffects) {
        let (queue, since) = (self.id, self.led_since);
        self.consumers.drain_outgoing(|key, items| {
            let event = ChannelEvent::Deliver { queue, channel: key.channel, since, items };
            out.to_connections.push((key.channel.connection, event));
        });
    }

    /// Channels hear that their queue has used the room it was given.
    pub(super) fn tell_resumed(&mut self, out: &mut QueueEffects) {
        for channel in self.resumed.drain(..) {
            let event = ChannelEvent::Resumed { queue: self.id, channel };
            out.to_connections.push((channel.connection, event));
        }
    }

    /// What came in this round and has left already, to consumers that acknowledge by themselves, is safe and
    /// need not be written; as in RabbitMQ. Copies of a mirrored queue are to hear of it.
    fn let_pass(&mut self, out: &mut QueueEffects) {
        let reports_earlier = std::mem::take(&mut self.reports_earlier);
        let Some(passing) = self.passing.take().filter(|passing| passing.gone == passing.stored) else { return };
        if self.replicated || reports_earlier || !out.batch.retract(passing.mark, passing.stored) {
            return;
        }
        self.safe_now.append(&mut self.safe_when_stored);
        for runs in &mut self.removed {
            runs.retain(|(first, _)| *first < passing.first);
            for (_, last) in runs {
                *last = (*last).min(Seq(passing.first.0 - 1));
            }
        }
    }

    fn write_removals(&mut self, out: &mut QueueEffects) {
        for (level, runs) in self.removed.iter_mut().enumerate() {
            if !runs.is_empty() {
                // A transient queue has nothing in the log that a removal could concern.
                let batch = if self.durable || self.replicated { &mut out.batch } else { &mut out.transient };
                batch.remove(level_key(self.id, level as u8), runs);
                runs.clear();
            }
        }
    }

    fn give_ticket(&mut self, out: &mut QueueEffects) {
        if self.safe_when_stored.is_empty() && !self.horizon.wants_ticket() {
            return;
        }
        self.ticket += 1;
        out.ticket = Some(self.ticket);
        self.horizon.ticket(self.ticket);
        self.waiting.push_back((self.ticket, std::mem::take(&mut self.safe_when_stored)));
    }

    pub(super) fn stored(&mut self, ticket: u64) {
        self.horizon.stored(ticket);
        if self.elsewhere.withholds(ticket) {
            return;
        }
        while self.waiting.front().is_some_and(|(waiting, _)| *waiting <= ticket) {
            if let Some((_, reports)) = self.waiting.pop_front() {
                self.safe_now.extend(reports);
            }
        }
    }

    fn serve_waiting_gets(&mut self, now: Now, out: &mut QueueEffects) {
        if self.horizon.has_waiting() && !self.front_is_on_disk() {
            for (channel, no_ack) in self.horizon.take_waiting() {
                self.handle(now, QueueEvent::Get { channel, no_ack }, out);
            }
        }
    }

    /// Tells publishers what is safe and what was refused.
    pub fn report(&mut self, out: &mut QueueEffects) {
        for (publisher, runs) in self.safe_now.drain(..) {
            match publisher {
                Publisher::Channel(channel) => {
                    self.counters.confirm += runs.iter().map(|(a, b)| b - a + 1).sum::<u64>();
                    let event = ChannelEvent::Confirmed { channel, runs };
                    out.to_connections.push((channel.connection, event));
                }
                Publisher::Queue(queue) => {
                    let numbers = runs.iter().flat_map(|(a, b)| *a..=*b).collect();
                    out.to_queues.push((queue, QueueEvent::DeadLettered { numbers }));
                }
                Publisher::Agent(session) => {
                    let channel = Publisher::agent_channel(session);
                    out.to_connections.push((session, ChannelEvent::Confirmed { channel, runs }));
                }
            }
        }
        for (publisher, numbers) in self.refused.drain(..) {
            match publisher {
                Publisher::Channel(channel) => {
                    let event = ChannelEvent::Rejected { channel, numbers };
                    out.to_connections.push((channel.connection, event));
                }
                Publisher::Queue(queue) => {
                    out.to_queues.push((queue, QueueEvent::DeadLettered { numbers }));
                }
                Publisher::Agent(session) => {
                    let channel = Publisher::agent_channel(session);
                    out.to_connections.push((session, ChannelEvent::Rejected { channel, numbers }));
                }
            }
        }
    }
}

/// Reads an entry back: eight bytes of expiry, then the message.
fn stored_entry(seq: Seq, bytes: &Bytes) -> Option<Entry> {
    let (expires_at, message) = bytes.split_at_checked(8)?;
    let expires_at = u64::from_be_bytes(expires_at.try_into().ok()?);
    let message = Message::from_bytes(message).ok()?;
    Some(Entry { seq, message, expires_at, returns: 0, redelivered: false, stored: true })
}
