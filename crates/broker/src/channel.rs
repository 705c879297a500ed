//! A channel: the dialogue of one client thread with the broker.
//!
//! The channel checks rights, routes publishes, counts confirms, maps delivery tags to (queue,
//! sequence) and back, and answers methods. What a queue or the metadata must decide is asked; the
//! channel then waits, and its connection consumes no more bytes until the answer is here.
//!
//! Invariants:
//! * every confirm answers one publish, once: a number leaves `unconfirmed` exactly once;
//! * delivery tags rise by one; a tag is settled once;
//! * a refused method has no effect.

mod confirm;
mod consume;
mod declare;
mod limit;
pub mod post;
mod publish;
mod rights;
mod settle;
mod trace;
mod transaction;

use amqp::method::{access, basic, channel as wire, confirm as confirm_wire, tx as tx_wire};
use amqp::{Assembly, ChannelError, ConnectionError, Error, Frame, Method, PropertiesView, Step};
use stdx::{Lookup, Time};
use store::Seq;

use crate::connection::{ConnectionEffects, Context, Limits, Peer};
use crate::id::{ConnectionId, Name, QueueId};
use crate::message::Message;
use crate::metadata::{Outcome, Refusal};
use crate::queue::{ChannelEvent, ChannelKey, QueueEvent, QueueReply};
use crate::status::{ChannelStatus, Counters};
use crate::traffic::Traffic;
use crate::window::Window;
pub(crate) use publish::Incoming;

/// What a channel borrows of its connection during a call.
pub(crate) struct Scope<'a> {
    pub context: &'a Context,
    pub limits: &'a Limits,
    pub connection: ConnectionId,
    pub peer: &'a Peer,
    pub user: &'a Name,
    pub vhost: &'a Name,
    pub out: &'a mut Vec<u8>,
    pub fx: &'a mut ConnectionEffects,
    pub frame_max: u32,
    pub secret: u64,
    /// No permission is asked for.
    pub trusted: bool,
    pub owns_exclusive: &'a mut bool,
    /// The client wants to hear of consumers that the broker cancels.
    pub cancel_notify: bool,
}

impl Scope<'_> {
    fn send(&mut self, channel: u16, method: impl Into<Method>) {
        amqp::write_method(self.out, channel, &method.into());
    }
}

/// What the channel waits for.
#[derive(Debug)]
enum Waiting {
    /// A commit.
    Commit(declare::AfterCommit),
    /// A queue's answer.
    Queue(QueueId, declare::AfterReply),
    /// All publishes of a transaction.
    Transaction { refused: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Confirm,
    Transaction,
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug)]
struct Held {
    queue: QueueId,
    seq: Seq,
    /// The channel's number for the consumer; [`NO_CONSUMER`] for `basic.get`.
    consumer: u32,
    at: Time,
}

const NO_CONSUMER: u32 = u32::MAX;

/// See the file's head.
#[derive(Debug)]
pub struct Channel {
    pub(crate) key: ChannelKey,
    pub(crate) assembly: Assembly,
    mode: Mode,
    waiting: Option<Waiting>,
    ended: bool,
    /// The number of the last publish that wants a report.
    published: u64,
    unconfirmed: Window<u32>,
    reports: confirm::Reports,
    routes: publish::RouteCache,
    transaction: transaction::Transaction,
    consumers: consume::Table,
    /// Consumers that the queue being deleted has cancelled: the client hears so after its delete-ok.
    cancelled: Vec<u32>,
    next_tag: u64,
    unacked: Window<Held>,
    prefetch: u16,
    global_prefetch: u16,
    /// Deliveries to consumers that are not settled for good: what the global limit counts.
    limited: usize,
    turns: limit::Turns,
    traced: trace::Traced,
    /// Queues that hold something for this channel and must hear of its end.
    known: Lookup<QueueId, ()>,
    known_list: Vec<QueueId>,
    last_queue: Option<Name>,
    /// Queues that were given a name.
    queues_named: u64,
    counters: Counters,
    /// The counters as they were told last.
    told: Counters,
    last_active: Time,
    idle_since_millis: u64,
}

impl Channel {
    pub(crate) fn new(key: ChannelKey, message_bytes_max: u64, now: Time) -> Channel {
        Channel {
            key,
            assembly: Assembly::new(message_bytes_max),
            mode: Mode::Plain,
            waiting: None,
            ended: false,
            published: 0,
            unconfirmed: Window::default(),
            reports: confirm::Reports::default(),
            routes: publish::RouteCache::default(),
            transaction: transaction::Transaction::default(),
            consumers: consume::Table::default(),
            cancelled: Vec::new(),
            next_tag: 1,
            unacked: Window::default(),
            prefetch: 0,
            global_prefetch: 0,
            limited: 0,
            turns: limit::Turns::default(),
            traced: trace::Traced::default(),
            known: Lookup::new(),
            known_list: Vec::new(),
            last_queue: None,
            queues_named: 0,
            counters: Counters::default(),
            told: Counters::default(),
            last_active: now,
            idle_since_millis: 0,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Since when the oldest delivery has been unacked.
    pub(crate) fn oldest_delivery(&self) -> Option<Time> {
        self.unacked.first().map(|(_, held)| held.at)
    }

    /// Takes a frame of this channel.
    pub(crate) fn frame(&mut self, scope: &mut Scope<'_>, frame: &Frame<'_>) -> Result<(), Error> {
        self.last_active = scope.context.now;
        self.idle_since_millis = scope.context.unix_millis;
        if self.assembly.is_idle() && self.quick(scope, frame)? {
            return Ok(());
        }
        match self.assembly.push(frame)? {
            Step::Pending => Ok(()),
            Step::Method(method) => {
                let id = method.id();
                self.method(scope, method).map_err(|error| error.at(id))
            }
            Step::Content(content) => {
                let Method::BasicPublish(publish) = &content.method else {
                    return Err(ConnectionError::command_invalid("unimplemented method").at(content.method.id()).into());
                };
                let view = PropertiesView::parse(content.properties())?;
                let incoming = Incoming {
                    publish: amqp::Publish {
                        exchange: publish.exchange.as_bytes(),
                        routing_key: publish.routing_key.as_bytes(),
                        mandatory: publish.mandatory,
                        immediate: publish.immediate,
                    },
                    view: &view,
                    properties: content.properties(),
                    body: content.body(),
                    wire: None,
                };
                self.publish(scope, &incoming).map_err(|error| error.at((60, 40)))
            }
            Step::Oversized { method, body_size } => Err(Error::from(ChannelError::precondition_failed(format_args!(
                "message size {body_size} is larger than configured max size {}",
                scope.limits.message_bytes_max
            )))
            .at(method.id())),
        }
    }

    /// Acks come by the thousand: read them without building a method.
    fn quick(&mut self, scope: &mut Scope<'_>, frame: &Frame<'_>) -> Result<bool, Error> {
        if frame.kind != amqp::FrameKind::Method {
            return Ok(false);
        }
        if let Some(ack) = amqp::Ack::peek(frame.payload)? {
            self.ack(scope, ack.delivery_tag, ack.multiple).map_err(|error| error.at((60, 80)))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn method(&mut self, scope: &mut Scope<'_>, method: Method) -> Result<(), Error> {
        match method {
            Method::ChannelOpen(_) => Err(ConnectionError::channel_error("second 'channel.open' seen").into()),
            Method::ChannelClose(_) => {
                self.ended = true;
                Ok(())
            }
            Method::ChannelCloseOk(_) | Method::ChannelFlowOk(_) => Ok(()),
            Method::ChannelFlow(flow) if flow.active => {
                scope.send(self.key.number, wire::FlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow(_) => Err(ConnectionError::not_implemented("active=false").into()),
            Method::AccessRequest(_) => {
                scope.send(self.key.number, access::RequestOk { ticket: 1 });
                Ok(())
            }
            Method::ExchangeDeclare(m) => self.exchange_declare(scope, m),
            Method::ExchangeDelete(m) => self.exchange_delete(scope, m),
            Method::ExchangeBind(m) => self.exchange_bind(scope, m),
            Method::ExchangeUnbind(m) => self.exchange_unbind(scope, m),
            Method::QueueDeclare(m) => self.queue_declare(scope, m),
            Method::QueueBind(m) => self.queue_bind(scope, m),
            Method::QueueUnbind(m) => self.queue_unbind(scope, m),
            Method::QueuePurge(m) => self.queue_purge(scope, m),
            Method::QueueDelete(m) => self.queue_delete(scope, m),
            Method::ConfirmSelect(m) => self.confirm_select(scope, m.no_wait),
            other => self.basic_method(scope, other),
        }
    }

    fn basic_method(&mut self, scope: &mut Scope<'_>, method: Method) -> Result<(), Error> {
        match method {
            Method::BasicQos(m) => self.qos(scope, &m),
            Method::BasicConsume(m) => self.consume(scope, m),
            Method::BasicCancel(m) => self.cancel(scope, &m),
            Method::BasicGet(m) => self.get(scope, &m),
            Method::BasicAck(m) => self.ack(scope, m.delivery_tag, m.multiple),
            Method::BasicNack(m) => self.nack(scope, m.delivery_tag, m.multiple, m.requeue),
            Method::BasicReject(m) => self.nack(scope, m.delivery_tag, false, m.requeue),
            Method::BasicRecover(m) => self.recover(scope, m.requeue, true),
            Method::BasicRecoverAsync(m) => self.recover(scope, m.requeue, false),
            Method::TxSelect(_) => {
                if self.mode == Mode::Confirm {
                    return Err(ChannelError::precondition_failed("cannot switch from confirm to tx mode").into());
                }
                self.mode = Mode::Transaction;
                scope.send(self.key.number, tx_wire::SelectOk {});
                Ok(())
            }
            Method::TxCommit(_) => self.tx_commit(scope),
            Method::TxRollback(_) => self.tx_rollback(scope),
            Method::BasicCancelOk(_) => Ok(()),
            _ => Err(ConnectionError::command_invalid("unimplemented method").into()),
        }
    }

    fn confirm_select(&mut self, scope: &mut Scope<'_>, no_wait: bool) -> Result<(), Error> {
        if self.mode == Mode::Transaction {
            return Err(ChannelError::precondition_failed("cannot switch from tx to confirm mode").into());
        }
        self.mode = Mode::Confirm;
        if !no_wait {
            scope.send(self.key.number, confirm_wire::SelectOk {});
        }
        Ok(())
    }

    /// The answer to a proposed command.
    pub(crate) fn proposed(&mut self, scope: &mut Scope<'_>, answer: Result<Outcome, Refusal>) -> Result<(), Error> {
        match self.waiting.take() {
            Some(Waiting::Commit(after)) => {
                let method = after.method;
                self.committed(scope, after, answer).map_err(|error| error.at(method))?;
                for number in std::mem::take(&mut self.cancelled) {
                    self.say_cancelled(scope, number);
                }
                Ok(())
            }
            other => {
                self.waiting = other;
                Ok(())
            }
        }
    }

    /// An event from a queue.
    pub(crate) fn event(&mut self, scope: &mut Scope<'_>, event: ChannelEvent) -> Result<(), Error> {
        match event {
            ChannelEvent::Deliver { queue, items, .. } => {
                self.deliver(scope, queue, items);
                Ok(())
            }
            ChannelEvent::Confirmed { runs, .. } => {
                for (first, last) in runs {
                    for number in first..=last {
                        self.safe(number);
                    }
                }
                self.transaction_progress(scope)
            }
            ChannelEvent::Rejected { numbers, .. } => {
                for number in numbers {
                    self.rejected(number);
                }
                self.transaction_progress(scope)
            }
            ChannelEvent::ConsumerCancelled { number, .. } => {
                self.consumer_cancelled(scope, number);
                Ok(())
            }
            ChannelEvent::Replied { queue, reply, .. } => self.replied(scope, queue, reply),
            ChannelEvent::Resubscribed { number, accepted, .. } => {
                self.resubscribed(scope, number, accepted);
                Ok(())
            }
            ChannelEvent::QueueMoved { queue, .. } => {
                self.queue_moved(scope, queue);
                Ok(())
            }
            ChannelEvent::QueueDown { queue, for_good, .. } => {
                self.queue_down(scope, queue, for_good);
                Ok(())
            }
            ChannelEvent::Resumed { queue, .. } => {
                self.resumed(scope, queue);
                Ok(())
            }
        }
    }

    fn replied(&mut self, scope: &mut Scope<'_>, from: QueueId, reply: QueueReply) -> Result<(), Error> {
        match self.waiting.take() {
            Some(Waiting::Queue(queue, after)) if queue == from && after.takes(&reply) => {
                let method = after.method();
                self.answered(scope, queue, after, reply).map_err(|error| error.at(method))
            }
            other => {
                self.waiting = other;
                // A question that was asked twice, as its leader changed, is answered twice.
                if let QueueReply::Got(Some((delivery, _))) = reply {
                    let seqs = vec![delivery.seq];
                    scope.fx.tell(from, QueueEvent::Reject { channel: self.key, seqs, requeue: true });
                }
                Ok(())
            }
        }
    }

    /// The queue whose answer it waits for.
    #[cfg(test)]
    pub(crate) fn asks(&self) -> Option<QueueId> {
        match self.waiting {
            Some(Waiting::Queue(queue, _)) => Some(queue),
            _ => None,
        }
    }

    /// Adds what it has counted since it told that last.
    pub(crate) fn tell_traffic(&mut self, traffic: &mut Traffic) {
        self.routes.tell(&mut traffic.exchanges);
        if self.counters != self.told {
            traffic.messages += &self.counters.since(&self.told);
            self.told = self.counters.clone();
        }
    }

    /// Everything held goes back to the queues; they forget the channel.
    pub(crate) fn close(&mut self, fx: &mut ConnectionEffects) {
        self.tell_traffic(&mut fx.traffic);
        let mut held: Vec<(QueueId, Seq)> = Vec::with_capacity(self.unacked.len());
        self.unacked.drain(|_, h| held.push((h.queue, h.seq)));
        held.sort_unstable();
        for queue in std::mem::take(&mut self.known_list) {
            let first = held.partition_point(|(q, _)| *q < queue);
            let end = held.partition_point(|(q, _)| *q <= queue);
            let seqs = held[first..end].iter().map(|(_, seq)| *seq).collect();
            fx.tell(queue, QueueEvent::ChannelClosed { channel: self.key, seqs });
        }
    }

    /// Notes a queue that must hear of the channel's end.
    fn knows(&mut self, queue: QueueId) {
        if self.known.insert(queue, ()).is_none() {
            self.known_list.push(queue);
        }
    }

    pub(crate) fn status(&self) -> ChannelStatus {
        ChannelStatus {
            number: self.key.number,
            state: "running",
            confirm: self.mode == Mode::Confirm,
            transactional: self.mode == Mode::Transaction,
            consumers: self.consumers.len() as u32,
            messages_unacked: self.unacked.len() as u64,
            messages_unconfirmed: self.unconfirmed.len() as u64,
            messages_uncommitted: self.transaction.publishes() as u64,
            acks_uncommitted: self.transaction.acks() as u64,
            prefetch_count: u32::from(self.prefetch),
            global_prefetch_count: u32::from(self.global_prefetch),
            counters: self.counters.clone(),
            idle_since: (self.idle_since_millis > 0).then_some(self.idle_since_millis),
        }
    }

    fn qos(&mut self, scope: &mut Scope<'_>, m: &basic::Qos) -> Result<(), Error> {
        if m.prefetch_size != 0 {
            return Err(ConnectionError::not_implemented(format_args!("prefetch_size!=0 ({})", m.prefetch_size)).into());
        }
        if m.global {
            self.global_prefetch = m.prefetch_count;
            self.tell_prefetch(scope);
            self.give_turns(scope);
        } else {
            self.prefetch = m.prefetch_count;
        }
        scope.send(self.key.number, basic::QosOk {});
        Ok(())
    }

    /// A message that came by direct reply-to.
    pub(crate) fn direct_reply(&mut self, scope: &mut Scope<'_>, key: ChannelKey, message: &Message) {
        if key == self.key {
            self.deliver_direct_reply(scope, message);
        }
    }
}

/// The name of a vhost's exchange or queue, as text for errors.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
