//! Consumers of a channel: consume, cancel, get, and deliveries on their way to the client.

use std::collections::VecDeque;
use std::sync::Arc;

use amqp::method::basic;
use amqp::{ChannelError, ConnectionError, Deliver, Error, Properties, ShortStr, Value};
use stdx::Lookup;
use store::Seq;

use super::declare::AfterReply;
use super::rights::no_queue;
use super::{Channel, Held, NO_CONSUMER, Scope, Waiting, text, trace};
use crate::id::QueueId;
use crate::message::Message;
use crate::metadata::Tables;
use crate::permission::{Resource, Right};
use crate::queue::{Consume, ConsumeError, ConsumerKey, Delivery, QueueEvent, delivery_cost};
use crate::reply_to;

/// Credit goes back to the queue in pieces of this size.
const CREDIT_STEP: u64 = 128 * 1024;

#[derive(Debug)]
pub(super) struct Consumer {
    tag: Arc<[u8]>,
    queue: QueueId,
    no_ack: bool,
    credit: u64,
    /// The per-consumer limit it was started with.
    prefetch: u16,
    /// What to ask for when the queue has moved; `None` until the queue has accepted the consumer.
    ask: Option<Box<Consume>>,
    /// The queue has moved before its answer was here: another leader may have given it.
    moved: bool,
}

/// Consumers by number and by tag.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_number: VecDeque<Option<Consumer>>,
    /// The number of the first in `by_number`: numbers are not used twice, and those before it are gone.
    base: u32,
    by_tag: Lookup<Vec<u8>, u32>,
    count: usize,
    /// The tag of the direct reply-to consumer.
    reply: Option<Vec<u8>>,
    drawn: u64,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.count + usize::from(self.reply.is_some())
    }

    pub(super) fn has_reply_consumer(&self) -> bool {
        self.reply.is_some()
    }

    fn add(&mut self, tag: Vec<u8>, consumer: Consumer) -> u32 {
        let number = self.base + self.by_number.len() as u32;
        self.by_number.push_back(Some(consumer));
        self.by_tag.insert(tag, number);
        self.count += 1;
        number
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> Option<&mut Consumer> {
        self.by_number.get_mut(number.checked_sub(self.base)? as usize)?.as_mut()
    }

    fn remove(&mut self, number: u32) -> Option<Consumer> {
        let place = number.checked_sub(self.base)? as usize;
        let consumer = self.by_number.get_mut(place)?.take()?;
        self.by_tag.remove(&consumer.tag[..]);
        self.count -= 1;
        while let Some(None) = self.by_number.front() {
            self.by_number.pop_front();
            self.base += 1;
        }
        Some(consumer)
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &Consumer)> {
        let places = (self.base..).zip(&self.by_number);
        places.filter_map(|(number, consumer)| Some((number, consumer.as_ref()?)))
    }

    fn has_tag(&self, tag: &[u8]) -> bool {
        self.by_tag.contains_key(tag) || self.reply.as_deref() == Some(tag)
    }
}

impl Channel {
    /// Queues that may delete themselves when the channel consumes no more.
    pub(crate) fn auto_delete_queues<'a>(&'a self, tables: &'a Tables) -> impl Iterator<Item = QueueId> + 'a {
        let queues = self.consumers.numbered().map(|(_, consumer)| consumer.queue);
        queues.filter(|queue| tables.queues.get(queue).is_some_and(|record| record.auto_delete))
    }

    pub(super) fn consume(&mut self, scope: &mut Scope<'_>, m: basic::Consume) -> Result<(), Error> {
        if self.consumers.has_tag(m.consumer_tag.as_bytes()) {
            let tag = text(m.consumer_tag.as_bytes());
            return Err(ConnectionError::not_allowed(format_args!("attempt to reuse consumer tag '{tag}'")).into());
        }
        if let Some(max) = scope.limits.consumers_per_channel_max
            && self.consumers.len() >= max as usize
        {
            return Err(ConnectionError::not_allowed(format_args!("reached maximum ({max}) of consumers per channel")).into());
        }
        let tag = if m.consumer_tag.as_bytes().is_empty() {
            self.consumers.drawn += 1;
            let drawn = crate::names::drawn("amq.ctag-", scope.secret, self.key, self.consumers.drawn);
            drawn.into_bytes()
        } else {
            m.consumer_tag.as_bytes().to_vec()
        };
        if m.queue.as_bytes() == reply_to::NAME {
            return self.consume_replies(scope, &m, tag);
        }
        let name = self.queue_name(&m.queue)?;
        scope.may(Right::Read, Resource::Queue(&name))?;
        let queue = scope.queue(&name)?;
        let priority = match m.arguments.get("x-priority") {
            None => 0,
            Some(value) => value.as_i64().ok_or_else(|| {
                Error::from(ChannelError::precondition_failed(format_args!(
                    "invalid arg 'x-priority' for queue '{name}' in vhost '{}': \"expected integer, got {}\"",
                    scope.vhost,
                    value.type_name()
                )))
            })?,
        };
        let shared: Arc<[u8]> = Arc::from(&tag[..]);
        let consumer = Consumer { tag: Arc::clone(&shared), queue: queue.id, no_ack: m.no_ack, credit: 0, prefetch: self.prefetch, ask: None, moved: false };
        let number = self.consumers.add(tag, consumer);
        self.knows(queue.id);
        let ask = Consume {
            consumer: ConsumerKey { channel: self.key, number },
            tag: shared,
            no_ack: m.no_ack,
            exclusive: m.exclusive,
            prefetch: smaller_limit(self.prefetch, self.global_prefetch),
            limited: self.global_prefetch > 0,
            priority,
            arguments: m.arguments,
            again: false,
        };
        let again = Box::new(Consume { again: true, ..ask.clone() });
        scope.fx.tell(queue.id, QueueEvent::Consume(Box::new(ask)));
        let after = AfterReply::Consume { number, name, no_wait: m.no_wait, again };
        self.waiting = Some(Waiting::Queue(queue.id, after));
        Ok(())
    }

    /// The channel's global limit has changed: no queue need send more than it allows.
    pub(super) fn tell_prefetch(&self, scope: &mut Scope<'_>) {
        for (number, consumer) in self.consumers.numbered() {
            let key = ConsumerKey { channel: self.key, number };
            let prefetch = smaller_limit(consumer.prefetch, self.global_prefetch);
            let limited = self.global_prefetch > 0;
            scope.fx.tell(consumer.queue, QueueEvent::Prefetch { consumer: key, prefetch, limited });
        }
    }

    fn consume_replies(&mut self, scope: &mut Scope<'_>, m: &basic::Consume, tag: Vec<u8>) -> Result<(), Error> {
        if !m.no_ack {
            return Err(ChannelError::precondition_failed("reply consumer cannot acknowledge").into());
        }
        if self.consumers.reply.is_some() {
            return Err(ChannelError::precondition_failed("reply consumer already set").into());
        }
        let consumer_tag = ShortStr::try_from(&tag[..]).unwrap_or_default();
        self.consumers.reply = Some(tag);
        if !m.no_wait {
            scope.send(self.key.number, basic::ConsumeOk { consumer_tag });
        }
        Ok(())
    }

    pub(super) fn consuming(
        &mut self,
        scope: &mut Scope<'_>,
        number: u32,
        name: &str,
        no_wait: bool,
        again: Box<Consume>,
        verdict: Option<Result<(), ConsumeError>>,
    ) -> Result<(), Error> {
        match verdict {
            Some(Ok(())) => {
                if let Some(consumer) = self.consumers.get_mut(number) {
                    if consumer.moved {
                        scope.fx.tell(consumer.queue, QueueEvent::Consume(again.clone()));
                    }
                    consumer.ask = Some(again);
                    if !no_wait {
                        let consumer_tag = ShortStr::try_from(&consumer.tag[..]).unwrap_or_default();
                        scope.send(self.key.number, basic::ConsumeOk { consumer_tag });
                    }
                }
                Ok(())
            }
            Some(Err(ConsumeError::ExclusiveUse)) => {
                self.consumers.remove(number);
                let text = format!("queue '{name}' in vhost '{}' in exclusive use", scope.vhost);
                Err(ChannelError::access_refused(text).into())
            }
            None => {
                self.consumers.remove(number);
                Err(no_queue(name, scope.vhost))
            }
        }
    }

    pub(super) fn cancel(&mut self, scope: &mut Scope<'_>, m: &basic::Cancel) -> Result<(), Error> {
        let tag = m.consumer_tag.as_bytes();
        if self.consumers.reply.as_deref() == Some(tag) {
            self.consumers.reply = None;
        } else if let Some(number) = self.consumers.by_tag.get(tag).copied() {
            let Some(consumer) = self.consumers.get_mut(number) else { return Ok(()) };
            let queue = consumer.queue;
            let key = ConsumerKey { channel: self.key, number };
            scope.fx.tell(queue, QueueEvent::Cancel { consumer: key, reply: true });
            let after = AfterReply::Cancel { number, tag: m.consumer_tag.clone(), no_wait: m.no_wait };
            self.waiting = Some(Waiting::Queue(queue, after));
            return Ok(());
        }
        // An unknown tag is no error.
        if !m.no_wait {
            scope.send(self.key.number, basic::CancelOk { consumer_tag: m.consumer_tag.clone() });
        }
        Ok(())
    }

    pub(super) fn cancelled(&mut self, scope: &mut Scope<'_>, number: u32, tag: ShortStr, no_wait: bool) {
        self.consumers.remove(number);
        if !no_wait {
            scope.send(self.key.number, basic::CancelOk { consumer_tag: tag });
        }
    }

    pub(super) fn forget_consumer(&mut self, number: u32) {
        self.consumers.remove(number);
    }

    /// The queue was deleted under the consumer, or takes it no more.
    pub(super) fn consumer_cancelled(&mut self, scope: &mut Scope<'_>, number: u32) {
        match &self.waiting {
            Some(Waiting::Commit(after)) if after.deletes_queue() => self.cancelled.push(number),
            _ => self.say_cancelled(scope, number),
        }
    }

    pub(super) fn say_cancelled(&mut self, scope: &mut Scope<'_>, number: u32) {
        if let Some(consumer) = self.consumers.remove(number)
            && scope.cancel_notify
        {
            let consumer_tag = ShortStr::try_from(&consumer.tag[..]).unwrap_or_default();
            scope.send(self.key.number, basic::Cancel { consumer_tag, no_wait: true });
        }
    }

    /// The queue has another leader, or its leader lost sight of this node: consumers ask again, or are
    /// cancelled if they asked for that (RabbitMQ, "Highly Available Queues", consumer cancellation).
    pub(crate) fn queue_moved(&mut self, scope: &mut Scope<'_>, queue: QueueId) {
        let numbers: Vec<u32> = self.staying(queue).map(|(number, _)| number).collect();
        for number in numbers {
            let Some(consumer) = self.consumers.get_mut(number) else { continue };
            let Some(ask) = &consumer.ask else {
                consumer.moved = true;
                continue;
            };
            if is_cancelled_on_failover(ask) {
                self.consumer_cancelled(scope, number);
                self.end_at(scope, queue, number);
                continue;
            }
            consumer.credit = 0;
            let mut ask = ask.clone();
            ask.prefetch = smaller_limit(consumer.prefetch, self.global_prefetch);
            ask.limited = self.global_prefetch > 0;
            scope.fx.tell(queue, QueueEvent::Consume(ask));
        }
        // The new leader knows nothing of a turn that the old one had.
        self.resumed(scope, queue);
    }

    /// The consumers of a queue, without the one that waits for the answer to its cancellation: the next leader is asked
    /// for that again, if this one has not given it.
    fn staying(&self, queue: QueueId) -> impl Iterator<Item = (u32, &Consumer)> {
        let leaving = match &self.waiting {
            Some(Waiting::Queue(of, AfterReply::Cancel { number, .. })) if *of == queue => Some(*number),
            _ => None,
        };
        self.consumers.numbered().filter(move |(number, consumer)| consumer.queue == queue && Some(*number) != leaving)
    }

    /// Nobody leads the queue: see [`ChannelEvent::QueueDown`]. One that waits for its first answer, or for the end, has
    /// that from its agent.
    pub(crate) fn queue_down(&mut self, scope: &mut Scope<'_>, queue: QueueId, for_good: bool) {
        let goes = |ask: &Consume| for_good || is_cancelled_on_failover(ask);
        let gone = self.staying(queue).filter(|(_, consumer)| consumer.ask.as_deref().is_some_and(goes));
        let numbers: Vec<u32> = gone.map(|(number, _)| number).collect();
        for number in numbers {
            self.consumer_cancelled(scope, number);
            self.end_at(scope, queue, number);
        }
    }

    /// The verdict on a consumer that asked again.
    pub(super) fn resubscribed(&mut self, scope: &mut Scope<'_>, number: u32, accepted: bool) {
        if !accepted {
            self.consumer_cancelled(scope, number);
        } else if self.consumers.get_mut(number).is_none() {
            // Cancelled meanwhile. No other consumer of the channel has this number, whatever its queue.
            for queue in &self.known_list {
                self.end_at(scope, *queue, number);
            }
        }
    }

    /// A queue may have a consumer of which the channel knows nothing any more.
    fn end_at(&self, scope: &mut Scope<'_>, queue: QueueId, number: u32) {
        let consumer = ConsumerKey { channel: self.key, number };
        scope.fx.tell(queue, QueueEvent::Cancel { consumer, reply: false });
    }

    pub(super) fn get(&mut self, scope: &mut Scope<'_>, m: &basic::Get) -> Result<(), Error> {
        let name = self.queue_name(&m.queue)?;
        scope.may(Right::Read, Resource::Queue(&name))?;
        let queue = scope.queue(&name)?;
        self.knows(queue.id);
        scope.fx.tell(queue.id, QueueEvent::Get { channel: self.key, no_ack: m.no_ack });
        self.waiting = Some(Waiting::Queue(queue.id, AfterReply::Get { name, no_ack: m.no_ack }));
        Ok(())
    }

    pub(super) fn got(
        &mut self,
        scope: &mut Scope<'_>,
        queue: QueueId,
        no_ack: bool,
        found: Option<(Box<Delivery>, u64)>,
    ) {
        let Some((delivery, left)) = found else {
            self.counters.get_empty += 1;
            scope.send(self.key.number, basic::GetEmpty {});
            return;
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        if no_ack {
            self.counters.get_no_ack += 1;
        } else {
            self.counters.get += 1;
            let held = Held { queue, seq: delivery.seq, consumer: NO_CONSUMER, at: scope.context.now };
            self.unacked.insert(tag, held);
        }
        self.counters.redeliver += u64::from(delivery.redelivered);
        let message = with_count(&delivery);
        if self.is_traced(scope) {
            trace::delivery(scope, self.key, queue, &message, delivery.redelivered);
        }
        let name = |bytes: &[u8]| ShortStr::try_from(bytes).unwrap_or_default();
        scope.send(
            self.key.number,
            basic::GetOk {
                delivery_tag: tag,
                redelivered: delivery.redelivered,
                exchange: name(message.exchange()),
                routing_key: name(message.routing_key()),
                message_count: u32::try_from(left).unwrap_or(u32::MAX),
            },
        );
        message.write_content(scope.out, self.key.number, scope.frame_max);
    }

    /// Writes deliveries of one queue. What is for a consumer that is no more goes back, and the queue hears that it
    /// has no such consumer: what was taken for the answer to its cancellation may have been of an earlier one.
    pub(super) fn deliver(&mut self, scope: &mut Scope<'_>, queue: QueueId, items: Vec<Delivery>) {
        let room = self.room_for(queue);
        let is_traced = self.is_traced(scope);
        let (mut surplus, mut taken): (Vec<Seq>, Vec<(Seq, Seq)>) = (Vec::new(), Vec::new());
        let mut unknown: Vec<u32> = Vec::new();
        let now = scope.context.now;
        for delivery in items {
            let Some(consumer) = self.consumers.get_mut(delivery.consumer) else {
                if unknown.last() != Some(&delivery.consumer) {
                    unknown.push(delivery.consumer);
                }
                if delivery.held {
                    surplus.push(delivery.seq);
                }
                continue;
            };
            if delivery.held && self.limited >= room {
                surplus.push(delivery.seq);
                continue;
            }
            let tag = self.next_tag;
            self.next_tag += 1;
            if consumer.no_ack {
                self.counters.deliver_no_ack += 1;
                if delivery.held {
                    taken.push((delivery.seq, delivery.seq));
                }
            } else {
                self.counters.deliver += 1;
                self.limited += 1;
                self.unacked.insert(tag, Held { queue, seq: delivery.seq, consumer: delivery.consumer, at: now });
            }
            self.counters.redeliver += u64::from(delivery.redelivered);
            let counted = (delivery.count > 0).then(|| with_count(&delivery));
            let message = counted.as_ref().unwrap_or(&delivery.message);
            if is_traced {
                trace::delivery(scope, self.key, queue, message, delivery.redelivered);
            }
            write_delivery(scope, self.key.number, &consumer.tag, tag, delivery.redelivered, message);
            consumer.credit += delivery_cost(&delivery);
            if consumer.credit >= CREDIT_STEP {
                let consumer_key = ConsumerKey { channel: self.key, number: delivery.consumer };
                let bytes = std::mem::take(&mut consumer.credit);
                scope.fx.tell(queue, QueueEvent::Credit { consumer: consumer_key, bytes });
            }
        }
        if !taken.is_empty() {
            scope.fx.tell(queue, QueueEvent::Taken { channel: self.key, runs: taken });
        }
        for number in unknown {
            self.end_at(scope, queue, number);
        }
        if !surplus.is_empty() {
            self.send_back(scope, queue, surplus);
        }
    }

    pub(super) fn deliver_direct_reply(&mut self, scope: &mut Scope<'_>, message: &Message) {
        let Some(tag) = self.consumers.reply.clone() else { return };
        let delivery_tag = self.next_tag;
        self.next_tag += 1;
        write_delivery(scope, self.key.number, &tag, delivery_tag, false, message);
    }
}

/// Whether a consumer wants to be cancelled where its queue gets another leader, or has none (RabbitMQ, "Highly Available
/// Queues", consumer cancellation).
fn is_cancelled_on_failover(ask: &Consume) -> bool {
    ask.arguments.get("x-cancel-on-ha-failover").and_then(amqp::Value::as_bool) == Some(true)
}

/// The smaller of two limits that are set; 0 when none is.
fn smaller_limit(one: u16, other: u16) -> u32 {
    match (u32::from(one), u32::from(other)) {
        (0, limit) | (limit, 0) => limit,
        (a, b) => a.min(b),
    }
}

#[inline]
fn write_delivery(scope: &mut Scope<'_>, channel: u16, tag: &[u8], delivery_tag: u64, redelivered: bool, message: &Message) {
    let deliver = Deliver {
        consumer_tag: tag,
        delivery_tag,
        redelivered,
        exchange: message.exchange(),
        routing_key: message.routing_key(),
    };
    amqp::write_deliver(scope.out, channel, &deliver);
    message.write_content(scope.out, channel, scope.frame_max);
}

/// The message with its returns in `x-delivery-count`.
fn with_count(delivery: &Delivery) -> Message {
    let message = &delivery.message;
    if delivery.count == 0 {
        return message.clone();
    }
    let Ok(mut properties) = Properties::decode(message.properties()) else { return message.clone() };
    let headers = properties.headers.get_or_insert_with(amqp::Table::new);
    headers.insert(ShortStr::truncated("x-delivery-count"), Value::I64(i64::from(delivery.count)));
    message.with(message.exchange(), message.routing_key(), &properties.to_bytes()).unwrap_or_else(|| message.clone())
}
