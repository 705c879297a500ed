//! The consumers of a queue and whose turn it is.
//!
//! Consumers that can take a message stand in line, one line a priority; the first of the highest line
//! is served and goes to the back. One that is out of credit leaves the line until credit returns.
//! With a single active consumer only that one ever stands in line. Where it was cancelled while it held messages the
//! next one waits a moment before it does: they come back first if its channel closes, as most clients have it. Consumers of a channel that was at its
//! global limit come back in the order in which they were last served.
//! Invariant: a consumer is in a line exactly when `in_line` says so, and then it can take a message.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use amqp::Table;
use stdx::Lookup;

use crate::message::Message;
use crate::queue::event::{ChannelKey, Consume, ConsumerKey, Delivery};

/// Bytes of deliveries that may be on their way to one consumer's socket.
const CREDIT_BYTES: i64 = 1 << 20;

/// What a delivery takes of a consumer's credit, in bytes. The channel gives the same back.
#[must_use]
#[inline]
pub fn delivery_cost(delivery: &Delivery) -> u64 {
    cost(&delivery.message)
}

#[inline]
pub(crate) fn cost(message: &Message) -> u64 {
    message.body_bytes() as u64 + 64
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub key: ConsumerKey,
    pub tag: Arc<[u8]>,
    pub no_ack: bool,
    pub exclusive: bool,
    pub prefetch: u32,
    /// See [`Consume::limited`].
    limited: bool,
    pub priority: i64,
    pub arguments: Table,
    /// Messages that the queue holds for it.
    pub unacked: u32,
    /// When it was last served, in deliveries of this queue to limited consumers.
    served: u64,
    credit_bytes: i64,
    /// Its channel is at its global limit.
    paused: bool,
    /// Behind the single active consumer.
    waiting: bool,
    in_line: bool,
    /// Deliveries of the present round.
    pub outgoing: Vec<Delivery>,
}

impl Consumer {
    fn can_take(&self) -> bool {
        !self.paused
            && !self.waiting
            && self.credit_bytes > 0
            && (self.no_ack || self.prefetch == 0 || self.unacked < self.prefetch)
    }

    /// Whether the queue keeps what it delivers to it.
    pub(crate) fn holds(&self) -> bool {
        !self.no_ack || self.limited
    }

    pub(crate) fn is_active(&self) -> bool {
        !self.waiting
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<usize>,
    by_key: Lookup<ConsumerKey, usize>,
    /// Slots in order of registration.
    registered: Vec<usize>,
    lines: BTreeMap<Reverse<i64>, VecDeque<usize>>,
    single_active: bool,
    /// The single active consumer, which does not stand in line yet.
    follows: Option<usize>,
    /// Slots with outgoing deliveries.
    dirty: Vec<usize>,
    /// Unacked messages of a channel that no present consumer holds: from `basic.get`, or from
    /// consumers that were cancelled.
    others: Lookup<ChannelKey, u32>,
    /// Deliveries to limited consumers so far.
    served: u64,
}

impl Consumers {
    pub(crate) fn new(single_active: bool) -> Consumers {
        Consumers { single_active, ..Consumers::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.registered.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.registered.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.registered.iter().filter_map(|slot| self.slots[*slot].as_ref())
    }

    pub(crate) fn contains(&self, key: ConsumerKey) -> bool {
        self.by_key.contains_key(&key)
    }

    pub(crate) fn has_exclusive(&self) -> bool {
        // An exclusive consumer is the only one.
        self.iter().next().is_some_and(|c| c.exclusive)
    }

    pub(crate) fn single_active(&self) -> Option<&Consumer> {
        if self.single_active { self.iter().find(|c| !c.waiting) } else { None }
    }

    pub(crate) fn add(&mut self, ask: Consume) {
        let waiting = self.single_active && !self.is_empty();
        let consumer = Consumer {
            key: ask.consumer,
            tag: ask.tag,
            no_ack: ask.no_ack,
            exclusive: ask.exclusive,
            prefetch: ask.prefetch,
            limited: ask.limited,
            priority: ask.priority,
            arguments: ask.arguments,
            unacked: 0,
            served: 0,
            credit_bytes: CREDIT_BYTES,
            paused: false,
            waiting,
            in_line: false,
            outgoing: Vec::new(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_key.insert(consumer.key, slot);
        self.slots[slot] = Some(consumer);
        self.registered.push(slot);
        self.line_up(slot);
    }

    pub(crate) fn remove(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let removed = self.remove_one(key);
        self.line_up_follower();
        removed
    }

    /// Removes one whose channel stays. Whether another is active now and has to wait: see the file's head.
    pub(crate) fn cancel(&mut self, key: ConsumerKey) -> Option<bool> {
        let waits = self.follows.is_some();
        let removed = self.remove_one(key)?;
        if removed.unacked == 0 && !waits {
            self.line_up_follower();
        }
        Some(self.follows.is_some())
    }

    /// The active consumer has waited for what came before it.
    pub(crate) fn line_up_follower(&mut self) {
        if let Some(slot) = self.follows.take() {
            self.line_up(slot);
        }
    }

    fn remove_one(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let slot = self.by_key.remove(&key)?;
        let consumer = self.slots[slot].take()?;
        self.follows.take_if(|follower| *follower == slot);
        self.registered.retain(|s| *s != slot);
        if consumer.in_line && let Some(line) = self.lines.get_mut(&Reverse(consumer.priority)) {
            line.retain(|s| *s != slot);
            if line.is_empty() {
                self.lines.remove(&Reverse(consumer.priority));
            }
        }
        self.dirty.retain(|s| *s != slot);
        self.free.push(slot);
        if consumer.unacked > 0 {
            *self.others.get_or_insert_with(key.channel, || 0) += consumer.unacked;
        }
        if self.single_active && !consumer.waiting {
            self.activate_next();
        }
        Some(consumer)
    }

    /// Removes all consumers of a channel.
    pub(crate) fn remove_channel(&mut self, channel: ChannelKey) -> usize {
        let keys: Vec<ConsumerKey> = self.iter().filter(|c| c.key.channel == channel).map(|c| c.key).collect();
        for key in &keys {
            self.remove(*key);
        }
        keys.len()
    }

    /// Highest priority first, then longest registered.
    fn activate_next(&mut self) {
        let next = self.registered.iter().enumerate().max_by_key(|(place, slot)| {
            (self.slots[**slot].as_ref().map_or(i64::MIN, |c| c.priority), Reverse(*place))
        });
        let next = next.map(|(_, slot)| *slot);
        if let Some(slot) = next {
            if let Some(consumer) = &mut self.slots[slot] {
                consumer.waiting = false;
            }
            self.follows = Some(slot);
        }
    }

    fn line_up(&mut self, slot: usize) {
        if let Some(consumer) = &mut self.slots[slot]
            && !consumer.in_line
            && consumer.can_take()
        {
            consumer.in_line = true;
            self.lines.entry(Reverse(consumer.priority)).or_default().push_back(slot);
        }
    }

    /// Whether anybody can take a message.
    pub(crate) fn anyone_in_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The next in line.
    pub(crate) fn next(&self) -> Option<&Consumer> {
        let slot = *self.lines.first_key_value()?.1.front()?;
        self.slots[slot].as_ref()
    }

    /// Gives a message to the next in line. Call only when somebody is.
    pub(crate) fn take(&mut self, make: impl FnOnce(&Consumer) -> Delivery) -> ConsumerKey {
        let mut line = self.lines.first_entry().expect("the caller saw somebody in line");
        let slot = line.get_mut().pop_front().expect("a line that exists is not empty");
        let consumer = self.slots[slot].as_mut().expect("a slot in line is filled");
        let delivery = make(consumer);
        consumer.credit_bytes -= delivery_cost(&delivery) as i64;
        if consumer.holds() {
            consumer.unacked += 1;
        }
        if consumer.limited {
            self.served += 1;
            consumer.served = self.served;
        }
        if consumer.outgoing.is_empty() {
            self.dirty.push(slot);
        }
        consumer.outgoing.push(delivery);
        if consumer.can_take() {
            line.get_mut().push_back(slot);
        } else {
            consumer.in_line = false;
            if line.get().is_empty() {
                line.remove();
            }
        }
        consumer.key
    }

    /// Hands over the deliveries of this round, one batch a consumer.
    pub(crate) fn drain_outgoing(&mut self, mut each: impl FnMut(ConsumerKey, Vec<Delivery>)) {
        for slot in std::mem::take(&mut self.dirty) {
            if let Some(consumer) = &mut self.slots[slot] {
                each(consumer.key, std::mem::take(&mut consumer.outgoing));
            }
        }
    }

    fn change(&mut self, key: ConsumerKey, change: impl FnOnce(&mut Consumer)) {
        if let Some(slot) = self.by_key.get(&key).copied() {
            if let Some(consumer) = &mut self.slots[slot] {
                change(consumer);
            }
            self.leave_or_join(slot);
        }
    }

    fn leave_or_join(&mut self, slot: usize) {
        let Some(consumer) = &mut self.slots[slot] else { return };
        if consumer.in_line && !consumer.can_take() {
            consumer.in_line = false;
            let priority = Reverse(consumer.priority);
            if let Some(line) = self.lines.get_mut(&priority) {
                line.retain(|s| *s != slot);
                if line.is_empty() {
                    self.lines.remove(&priority);
                }
            }
        } else {
            self.line_up(slot);
        }
    }

    pub(crate) fn credit(&mut self, key: ConsumerKey, bytes: u64) {
        self.change(key, |c| c.credit_bytes = (c.credit_bytes + bytes as i64).min(CREDIT_BYTES));
    }

    /// One of its messages was acked, rejected or returned.
    pub(crate) fn settled(&mut self, key: ConsumerKey) {
        if self.by_key.contains_key(&key) {
            self.change(key, |c| c.unacked = c.unacked.saturating_sub(1));
        } else {
            self.settled_other(key.channel);
        }
    }

    /// A channel holds a message without a consumer.
    pub(crate) fn got(&mut self, channel: ChannelKey) {
        *self.others.get_or_insert_with(channel, || 0) += 1;
    }

    /// A channel holds one message less that belongs to no present consumer.
    pub(crate) fn settled_other(&mut self, channel: ChannelKey) {
        if let Some(count) = self.others.get_mut(&channel) {
            *count -= 1;
            if *count == 0 {
                self.others.remove(&channel);
            }
        }
    }

    /// Whether a channel holds messages that belong to no present consumer.
    pub(crate) fn has_others(&self, channel: ChannelKey) -> bool {
        self.others.contains_key(&channel)
    }

    pub(crate) fn set_prefetch(&mut self, key: ConsumerKey, prefetch: u32, limited: bool) {
        self.change(key, |c| {
            c.prefetch = prefetch;
            c.limited = limited;
        });
    }

    /// It asks as if it were new, since its node lost sight of this queue: credit and a turn that were given
    /// meanwhile have not come, and the channel has begun to count anew. What is on its way to it comes on
    /// top of the whole credit, as it does where another node begins to lead: what waits for its socket is
    /// larger by a whole credit at most each time that it asks, until it is given back, of which only what
    /// fits into the whole counts.
    pub(crate) fn renew(&mut self, key: ConsumerKey, prefetch: u32, limited: bool) {
        self.change(key, |c| {
            c.credit_bytes = CREDIT_BYTES;
            c.paused = false;
            c.prefetch = prefetch;
            c.limited = limited;
        });
    }

    /// A delivery came back unseen. Who got nothing at all has not had its turn.
    pub(crate) fn sent_back(&mut self, key: ConsumerKey, bytes: u64) {
        self.credit(key, bytes);
        self.change(key, |c| {
            if c.unacked == 0 {
                c.served = 0;
            }
        });
    }

    pub(crate) fn pause(&mut self, channel: ChannelKey, paused: bool) {
        let of_channel = self.iter().filter(|c| c.key.channel == channel);
        let mut found: Vec<(u64, ConsumerKey)> = of_channel.map(|c| (c.served, c.key)).collect();
        found.sort_by_key(|(served, _)| *served);
        for (_, key) in found {
            self.change(key, |c| c.paused = paused);
        }
    }
}
