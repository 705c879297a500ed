//! Messages of `x-delayed-message` exchanges that wait for their time.
//!
//! One machine a node. A message enters with the moment it is due; it is written to the log like any
//! persistent message, so that it survives restarts and its publisher's confirm means the same. When
//! it is due it is routed by the exchange's own kind, and it leaves the log when its queues hold it.
//! If the exchange or every route is gone by then, it is dropped, as RabbitMQ's plugin does.
//!
//! Invariant: a message is either waiting, or leaving and not yet reported held by all its targets.

use std::collections::BTreeMap;

use amqp::PropertiesView;
use stdx::Time;
use store::{Batch, QueueKey, Seq};

use crate::id::{Name, QueueId};
use crate::message::Message;
use crate::queue::Publisher;

/// Under this id the delays take part in what queues say to each other. No queue has it.
pub const DELAY_ID: QueueId = QueueId(0);
/// Where the store keeps them.
pub const DELAY_KEY: QueueKey = QueueKey(0);
/// The longest delay, as RabbitMQ's plugin has it: 2^32 - 1 milliseconds.
const DELAY_MILLIS_MAX: i64 = 4_294_967_295;

/// A message that must wait.
#[derive(Clone, Debug)]
pub struct Delayed {
    pub vhost: Name,
    /// Milliseconds since 1970.
    pub due: u64,
    pub message: Message,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Delays {
    next_seq: u64,
    waiting: BTreeMap<(u64, Seq), Delayed>,
    ticket: u64,
    /// Publishes whose confirm waits for the log: ticket, who, number.
    unreported: Vec<(u64, Publisher, u64)>,
}

impl Delays {
    /// Starts with what a restart found.
    #[must_use]
    pub fn new(next: Seq, found: impl IntoIterator<Item = (Seq, Delayed)>) -> Delays {
        let waiting = found.into_iter().map(|(seq, delayed)| ((delayed.due, seq), delayed)).collect();
        Delays { next_seq: next.0.max(1), waiting, ticket: 0, unreported: Vec::new() }
    }

    /// Takes a message in; its batch is reported under [`Delays::ticket`].
    pub fn take(&mut self, delayed: Delayed, from: Publisher, number: u64, batch: &mut Batch) {
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        let vhost = delayed.vhost.as_bytes();
        let length = [u8::try_from(vhost.len()).unwrap_or(u8::MAX)];
        let pieces: [&[u8]; 4] = [&delayed.due.to_be_bytes(), &length, vhost, delayed.message.as_bytes()];
        batch.enqueue(DELAY_KEY, seq, &pieces);
        self.waiting.insert((delayed.due, seq), delayed);
        if number != 0 {
            self.unreported.push((self.ticket + 1, from, number));
        }
    }

    /// The ticket for what was taken since the last one.
    pub fn ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// Batches up to `ticket` are on stable storage: whose publishes are safe.
    pub fn stored(&mut self, ticket: u64) -> Vec<(Publisher, u64)> {
        let (safe, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unreported).into_iter().partition(|(waits, ..)| *waits <= ticket);
        self.unreported = rest;
        safe.into_iter().map(|(_, from, number)| (from, number)).collect()
    }

    /// Takes out what is due.
    pub fn due(&mut self, unix_millis: u64) -> Vec<(Seq, Delayed)> {
        let rest = self.waiting.split_off(&(unix_millis + 1, Seq(0)));
        let due = std::mem::replace(&mut self.waiting, rest);
        due.into_iter().map(|((_, seq), delayed)| (seq, delayed)).collect()
    }

    /// When the next message is due, given the present on both clocks.
    #[must_use]
    pub fn deadline(&self, now: Time, unix_millis: u64) -> Option<Time> {
        let ((due, _), _) = self.waiting.first_key_value()?;
        Some(now + std::time::Duration::from_millis(due.saturating_sub(unix_millis).max(1)))
    }

    /// How many wait in a virtual host for an exchange.
    #[must_use]
    pub fn waiting_for(&self, vhost: &str, exchange: &str) -> usize {
        let of = |d: &&Delayed| &*d.vhost == vhost && d.message.exchange() == exchange.as_bytes();
        self.waiting.values().filter(of).count()
    }
}

/// Reads back what the store kept.
#[must_use]
pub fn read_back(bytes: &[u8]) -> Option<Delayed> {
    let (due, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (vhost, message) = rest.split_at_checked(usize::from(*length))?;
    let vhost = std::str::from_utf8(vhost).ok()?.into();
    Some(Delayed { vhost, due: u64::from_be_bytes(*due), message: Message::from_bytes(message).ok()? })
}

/// The header `x-delay` in milliseconds; none when the message may go at once.
#[must_use]
pub fn delay_millis(view: &PropertiesView<'_>) -> Option<u64> {
    let delay = view.headers()?.get("x-delay")?;
    let millis = match &delay {
        amqp::Value::LongStr(text) => std::str::from_utf8(text).ok()?.trim().parse().ok()?,
        number => number.as_i64()?,
    };
    (0 < millis && millis <= DELAY_MILLIS_MAX).then_some(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed(due: u64, body: &[u8]) -> Delayed {
        let message = Message::new(b"later", b"key", &[0, 0], body).expect("short names");
        Delayed { vhost: "/".into(), due, message }
    }

    #[test]
    fn messages_leave_when_due_in_order_of_their_time() {
        let mut delays = Delays::new(Seq(1), []);
        let mut batch = Batch::new();
        let from = Publisher::Queue(QueueId(9));
        delays.take(delayed(300, b"c"), from, 1, &mut batch);
        delays.take(delayed(100, b"a"), from, 2, &mut batch);
        delays.take(delayed(200, b"b"), from, 0, &mut batch);
        assert_eq!(batch.enqueues(), 3);
        let ticket = delays.ticket();
        assert!(delays.stored(ticket - 1).is_empty());
        assert_eq!(delays.stored(ticket), vec![(from, 1), (from, 2)]);
        assert!(delays.due(99).is_empty());
        let bodies: Vec<_> = delays.due(200).iter().map(|(_, d)| d.message.body().to_vec()).collect();
        assert_eq!(bodies, vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(delays.waiting_for("/", "later"), 1);
        assert_eq!(delays.deadline(Time::START, 200), Some(Time::from_millis(100)));
    }

    #[test]
    fn what_the_store_kept_reads_back() {
        let original = delayed(77, b"body");
        let mut bytes = 77u64.to_be_bytes().to_vec();
        bytes.push(1);
        bytes.push(b'/');
        bytes.extend_from_slice(original.message.as_bytes());
        let back = read_back(&bytes).expect("whole");
        assert_eq!((back.due, &*back.vhost, back.message.body()), (77, "/", &b"body"[..]));
        assert!(read_back(&bytes[..12]).is_none());
    }
}
