//! One queue, its store, and everybody it talks to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use amqp::{Properties, ShortStr, Table};
use stdx::Time;
use store::{Limits, Options, Seq, Store};

use super::disk::MemoryDisk;
use crate::id::{ConnectionId, QueueId};
use crate::message::Message;
use cluster::metadata_log::NodeId;

use crate::metadata::{self, Command, View};
use crate::queue::{
    ChannelEvent, ChannelKey, Consume, ConsumerKey, DeadLetter, Delivery, Now, Publish, Publisher, Queue,
    QueueEffects, QueueEvent, QueueReply, Recovered, Settings, key_owner,
};

pub(super) const QUEUE: QueueId = QueueId(7);

pub(super) fn channel(number: u16) -> ChannelKey {
    ChannelKey { connection: ConnectionId(1), number, life: 0 }
}

pub(super) fn message(number: u64, priority: u8, persistent: bool, expiration: Option<u64>, padding: usize) -> Message {
    let mut properties = Properties { priority: Some(priority), ..Properties::default() };
    properties.delivery_mode = Some(if persistent { 2 } else { 1 });
    properties.expiration = expiration.map(|millis| ShortStr::truncated(&millis.to_string()));
    let mut body = number.to_be_bytes().to_vec();
    body.resize(8 + padding, b'.');
    Message::new(b"", b"q", &properties.to_bytes(), &body).expect("short names")
}

pub(super) fn persistent(number: u64) -> Message {
    message(number, 0, true, None, 0)
}

pub(super) fn transient(number: u64) -> Message {
    message(number, 0, false, None, 0)
}

/// The number that a message was made with.
pub(super) fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.body()[..8].try_into().expect("eight bytes"))
}

pub(super) fn body(deliveries: &[(ConsumerKey, Delivery)]) -> Vec<u64> {
    deliveries.iter().map(|(_, delivery)| number(&delivery.message)).collect()
}

pub(super) fn dead_letters_to(exchange: &str) -> Settings {
    Settings { dead_letter_exchange: Some(exchange.into()), ..Settings::default() }
}

/// What the store will answer, in its order.
pub(super) enum Answer {
    Stored(u64),
    Loaded(QueueEvent),
}

pub(super) struct Fixture {
    pub(super) queue: Queue,
    pub(super) record: metadata::Queue,
    pub(super) store: Store<MemoryDisk>,
    disk: MemoryDisk,
    pub(super) now: Now,
    pub(super) answers: VecDeque<Answer>,
    /// The ticket of the last round, if it had one.
    pub(super) ticket: Option<u64>,
    pub(super) deliveries: Vec<(ConsumerKey, Delivery)>,
    pub(super) replies: Vec<(ChannelKey, QueueReply)>,
    pub(super) confirmed: Vec<u64>,
    pub(super) rejected: Vec<u64>,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) proposals: Vec<Command>,
}

fn open(disk: &MemoryDisk) -> (Store<MemoryDisk>, store::Recovery) {
    let options = Options { wal_file_bytes: 64 << 10, segment_bytes: 64 << 10, ..Options::default() };
    Store::open(disk.clone(), options).expect("a disk in memory opens")
}

impl Fixture {
    pub(super) fn new(settings: Settings) -> Fixture {
        Fixture::with(settings, true)
    }

    pub(super) fn with(settings: Settings, durable: bool) -> Fixture {
        let record = metadata::Queue {
            id: QUEUE,
            vhost: "/".into(),
            name: "q".into(),
            durable,
            auto_delete: false,
            exclusive: None,
            arguments: Arc::default(),
            policy: None,
            operator_policy: None,
            effective_policy: Arc::default(),
            settings: Arc::new(settings),
            mirroring: None,
            view: View::new([NodeId(1)], false),
        };
        let disk = MemoryDisk::default();
        let now = Now { time: Time::from_millis(1), unix_millis: 1_000_000, budget_bytes: 1 << 20 };
        Fixture {
            queue: Queue::new(&record, &[], None, now),
            record,
            store: open(&disk).0,
            disk,
            now,
            answers: VecDeque::new(),
            ticket: None,
            deliveries: Vec::new(),
            replies: Vec::new(),
            confirmed: Vec::new(),
            rejected: Vec::new(),
            letters: Vec::new(),
            proposals: Vec::new(),
        }
    }

    /// One round: all events, then what follows from them. Reads are done, but not answered.
    pub(super) fn round(&mut self, events: Vec<QueueEvent>) {
        let mut fx = QueueEffects::default();
        for event in events {
            self.queue.handle(self.now, event, &mut fx);
        }
        self.queue.settle(self.now, &mut fx);
        self.ticket = fx.ticket;
        if fx.is_empty() {
            return;
        }
        self.store.page_out(&mut fx.transient).expect("memory has room");
        while let Err(store::StoreError::LogFull) = self.store.append(&mut fx.batch) {
            self.store.maintain(u64::MAX).expect("memory works");
        }
        self.answers.extend(fx.ticket.map(Answer::Stored));
        for load in fx.loads {
            let limits = Limits { messages: load.messages, bytes: load.bytes };
            let messages = self.store.read(load.key, load.from, limits).expect("memory reads");
            self.answers.push_back(Answer::Loaded(QueueEvent::Loaded { key: load.key, from: load.from, messages }));
        }
        for (_, event) in fx.to_connections {
            match event {
                ChannelEvent::Deliver { channel, items, .. } => {
                    let key = |d: &Delivery| ConsumerKey { channel, number: d.consumer };
                    self.deliveries.extend(items.into_iter().map(|d| (key(&d), d)));
                }
                ChannelEvent::Confirmed { runs, .. } => self.confirmed.extend(runs.iter().flat_map(|(a, b)| *a..=*b)),
                ChannelEvent::Rejected { numbers, .. } => self.rejected.extend(numbers),
                ChannelEvent::Replied { channel, reply, .. } => self.replies.push((channel, reply)),
                ChannelEvent::ConsumerCancelled { .. }
                | ChannelEvent::Resumed { .. }
                | ChannelEvent::Resubscribed { .. }
                | ChannelEvent::QueueMoved { .. }
                | ChannelEvent::QueueDown { .. } => {}
            }
        }
        self.letters.extend(fx.dead_letters);
        self.proposals.extend(fx.proposals);
    }

    /// The store's next answer arrives; false if there is none.
    pub(super) fn answer(&mut self) -> bool {
        match self.answers.pop_front() {
            None => false,
            Some(Answer::Stored(ticket)) => {
                self.store.sync().expect("memory syncs");
                self.round(vec![QueueEvent::Stored { ticket }]);
                true
            }
            Some(Answer::Loaded(event)) => {
                self.round(vec![event]);
                true
            }
        }
    }

    pub(super) fn answer_all(&mut self) {
        while self.answer() {}
    }

    pub(super) fn publish(&mut self, messages: impl IntoIterator<Item = Message>) {
        let publish = |message: Message| Publish { number: number(&message), message };
        let messages = messages.into_iter().map(publish).collect();
        let from = Publisher::Channel(channel(99));
        self.round(vec![QueueEvent::Publish { from, messages }]);
    }

    /// Publishes of a node that does not lead the queue, numbered as the messages are.
    pub(super) fn session(&mut self, again: bool, messages: impl IntoIterator<Item = Message>) {
        self.session_behind(0, again, messages);
    }

    /// The same, sent behind this number.
    pub(super) fn session_behind(&mut self, follows: u64, again: bool, messages: impl IntoIterator<Item = Message>) {
        let messages = messages.into_iter().map(|message| Publish { number: number(&message), message }).collect();
        self.round(vec![QueueEvent::Session { session: ConnectionId(2), settled: 0, follows, again, messages }]);
    }

    pub(super) fn ask(&self, number: u16, prefetch: u32, no_ack: bool) -> QueueEvent {
        QueueEvent::Consume(Box::new(Consume {
            consumer: ConsumerKey { channel: channel(number), number: 0 },
            tag: Arc::from(&b"tag"[..]),
            no_ack,
            exclusive: false,
            prefetch,
            limited: false,
            priority: 0,
            arguments: Table::new(),
            again: false,
        }))
    }

    pub(super) fn consume(&mut self, number: u16, prefetch: u32) {
        let ask = self.ask(number, prefetch, false);
        self.round(vec![ask]);
    }

    pub(super) fn get(&mut self, number: u16) {
        self.round(vec![QueueEvent::Get { channel: channel(number), no_ack: false }]);
    }

    pub(super) fn ack(&mut self, number: u16, seqs: &[Seq]) {
        let runs = seqs.iter().map(|seq| (*seq, *seq)).collect();
        self.round(vec![QueueEvent::Ack { channel: channel(number), runs }]);
    }

    pub(super) fn reject(&mut self, number: u16, seqs: &[Seq], requeue: bool) {
        self.round(vec![QueueEvent::Reject { channel: channel(number), seqs: seqs.to_vec(), requeue }]);
    }

    pub(super) fn cancel(&mut self, number: u16) {
        let consumer = ConsumerKey { channel: channel(number), number: 0 };
        self.round(vec![QueueEvent::Cancel { consumer, reply: true }]);
    }

    pub(super) fn close(&mut self, number: u16) {
        self.round(vec![QueueEvent::ChannelClosed { channel: channel(number), seqs: Vec::new() }]);
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now.time = self.now.time + Duration::from_millis(millis);
        self.now.unix_millis += millis;
    }

    pub(super) fn tick(&mut self) {
        self.round(vec![QueueEvent::Tick]);
    }

    /// Takes what was delivered so far.
    pub(super) fn delivered(&mut self) -> Vec<(ConsumerKey, Delivery)> {
        std::mem::take(&mut self.deliveries)
    }

    #[track_caller]
    pub(super) fn expect_deliveries(&mut self, numbers: &[u64]) -> Vec<Seq> {
        let delivered = self.delivered();
        assert_eq!(body(&delivered), numbers);
        delivered.iter().map(|(_, delivery)| delivery.seq).collect()
    }

    /// Messages of the queue that the store still has.
    pub(super) fn stored(&self) -> u64 {
        let mine = |key: &store::QueueKey| matches!(key_owner(*key), (QUEUE, Some(_)));
        self.store.queues().filter(|(key, _)| mine(key)).map(|(_, counts)| counts.messages).sum()
    }

    /// The node ends, in good order or not, and starts again on the same disk.
    pub(super) fn restart(&mut self, in_good_order: bool) {
        if in_good_order {
            self.round(vec![QueueEvent::Stop]);
        }
        self.store.sync().expect("memory syncs");
        let (mut store, recovery) = open(&self.disk);
        let mut levels = Vec::new();
        let mut horizon = None;
        for (key, counts) in recovery.queues {
            let everything = Limits { messages: 10, bytes: 1 << 20 };
            match key_owner(key) {
                (_, Some(level)) => levels.push(Recovered {
                    level,
                    messages: counts.messages,
                    bytes: counts.bytes,
                    first: counts.first.unwrap_or(counts.next),
                    next: counts.next,
                }),
                (_, None) => horizon = store.read(key, Seq(0), everything).expect("memory reads").pop(),
            }
        }
        let horizon = horizon.as_ref().map(|(seq, bytes)| (*seq, &bytes[..]));
        self.queue = Queue::new(&self.record, &levels, horizon, self.now);
        self.store = store;
        self.answers.clear();
    }
}
