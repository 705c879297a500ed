//! Random lives of a queue beside a list that does the same by brute force.
//!
//! After every round: what was delivered is what the list has first, counts and bytes agree, nothing
//! persistent is confirmed before the log holds it. At the end all is acked and the store is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use stdx::Rng;
use store::Seq;

use super::fixture::{Answer, message, number};
use super::*;
use crate::queue::{ChannelKey, ConsumerKey, Delivery, Publish, Publisher, QueueEvent, QueueReply, Reason, Settings};

/// Place in the queue: highest level first, then in order of publish.
type Place = (u8, u64);

#[derive(Clone, Debug)]
struct Item {
    place: Place,
    bytes: u64,
    persistent: bool,
    expires_at: u64,
    seen: bool,
}

struct Model {
    f: Fixture,
    rng: Rng,
    durable: bool,
    levels: u8,
    published: u64,
    ready: BTreeMap<Place, Item>,
    /// By channel and sequence.
    unacked: BTreeMap<(ChannelKey, Seq), Item>,
    /// Dead letters that no target holds yet.
    leaving: BTreeMap<u64, Item>,
    /// Ticket that a persistent message waits for.
    tickets: BTreeMap<u64, u64>,
    stored: u64,
    confirmed: u64,
    consumers: BTreeMap<u16, bool>,
    gets: BTreeMap<u16, bool>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut rng = Rng::new(seed);
        let durable = !rng.one_in(3);
        let levels = if rng.one_in(2) { 1 } else { 3 };
        let settings = Settings {
            priority_max: (levels > 1).then_some(levels - 1),
            message_ttl: rng.one_in(4).then_some(Duration::from_millis(40)),
            lazy: rng.one_in(5),
            ..dead_letters_to("dlx")
        };
        let mut f = Fixture::with(settings, durable);
        f.now.budget_bytes = [0, 500, 2000, 1 << 20][rng.below(4) as usize];
        Model {
            f,
            rng,
            durable,
            levels,
            published: 0,
            ready: BTreeMap::new(),
            unacked: BTreeMap::new(),
            leaving: BTreeMap::new(),
            tickets: BTreeMap::new(),
            stored: 0,
            confirmed: 0,
            consumers: BTreeMap::new(),
            gets: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        let key = channel(self.rng.below(3) as u16);
        match self.rng.below(21) {
            0..6 => self.publish(),
            6..9 => self.answer(),
            9..12 => self.settle(true, false),
            12 => self.settle(false, true),
            13 => self.settle(false, false),
            14 => self.consume_or_cancel(key.number),
            15 => self.get(key.number),
            16 if self.rng.one_in(3) => self.close(key),
            17 if self.rng.one_in(6) => self.purge(),
            18 => {
                let millis = self.rng.below(12);
                self.f.pass(millis);
                self.round(vec![QueueEvent::Tick]);
            }
            19 => self.send_back_or_resume(),
            _ => self.targets_hold_some(),
        }
    }

    fn publish(&mut self) {
        let mut messages = Vec::new();
        for _ in 0..=self.rng.below(8) {
            self.published += 1;
            let n = self.published;
            let priority = self.rng.below(5) as u8;
            let is_persistent = self.rng.one_in(2);
            let expiration = self.rng.one_in(6).then(|| self.rng.below(30));
            let padding = self.rng.below(200) as usize;
            let message = message(n, priority, is_persistent, expiration, padding);
            let of_queue = self.f.record.settings.message_ttl.map(|ttl| ttl.as_millis() as u64);
            let ttl = expiration.into_iter().chain(of_queue).min();
            let item = Item {
                place: (u8::MAX - priority.min(self.levels - 1), n),
                bytes: message.body_bytes() as u64,
                persistent: is_persistent && self.durable,
                expires_at: ttl.map_or(u64::MAX, |ttl| self.f.now.unix_millis + ttl),
                seen: false,
            };
            self.ready.insert(item.place, item);
            messages.push(Publish { message, number: n });
        }
        let numbers: Vec<u64> = messages.iter().map(|publish| publish.number).collect();
        let from = Publisher::Channel(channel(99));
        // The report of this round is looked at once the ticket is known.
        self.run(vec![QueueEvent::Publish { from, messages }]);
        for n in numbers {
            self.tickets.insert(n, self.f.ticket.unwrap_or(0));
        }
        self.check();
    }

    fn answer(&mut self) {
        if let Some(Answer::Stored(ticket)) = self.f.answers.front() {
            self.stored = *ticket;
        }
        self.f.answer();
        self.check();
    }

    /// Acks, requeues or rejects some of what a channel holds.
    fn settle(&mut self, acks: bool, requeues: bool) {
        let Some((channel, _)) = self.any_unacked() else { return };
        let mut seqs: Vec<Seq> = self.unacked.keys().filter(|(c, _)| *c == channel).map(|(_, seq)| *seq).collect();
        let keep = self.rng.below(seqs.len() as u64) as usize;
        for i in (1..seqs.len()).rev() {
            seqs.swap(i, self.rng.below(i as u64 + 1) as usize);
        }
        seqs.truncate(keep + 1);
        for seq in &seqs {
            let mut item = self.unacked.remove(&(channel, *seq)).expect("listed above");
            if requeues {
                item.seen = true;
            }
            if !acks {
                // A rejected one is taken from here when its letter is seen.
                self.ready.insert(item.place, item);
            }
        }
        if acks {
            // What another channel holds is not this one's to ack.
            let runs = seqs.iter().map(|seq| (*seq, *seq)).collect();
            self.round(vec![QueueEvent::Ack { channel, runs }]);
        } else {
            self.round(vec![QueueEvent::Reject { channel, seqs, requeue: requeues }]);
        }
    }

    fn any_unacked(&mut self) -> Option<(ChannelKey, Seq)> {
        let at = self.rng.below(self.unacked.len() as u64) as usize;
        self.unacked.keys().nth(at).copied()
    }

    fn consume_or_cancel(&mut self, n: u16) {
        if self.consumers.remove(&n).is_some() {
            let consumer = ConsumerKey { channel: channel(n), number: 0 };
            self.round(vec![QueueEvent::Cancel { consumer, reply: false }]);
        } else {
            let no_ack = self.rng.one_in(6);
            let prefetch = self.rng.below(8) as u32;
            self.consumers.insert(n, no_ack);
            let ask = self.f.ask(n, prefetch, no_ack);
            self.round(vec![ask]);
        }
    }

    fn get(&mut self, n: u16) {
        if self.gets.contains_key(&n) {
            return;
        }
        let no_ack = self.rng.one_in(4);
        self.gets.insert(n, no_ack);
        self.round(vec![QueueEvent::Get { channel: channel(n), no_ack }]);
    }

    fn close(&mut self, channel: ChannelKey) {
        self.consumers.remove(&channel.number);
        self.gets.remove(&channel.number);
        let mine: Vec<Seq> = self.unacked.keys().filter(|(c, _)| *c == channel).map(|(_, seq)| *seq).collect();
        for seq in &mine {
            let mut item = self.unacked.remove(&(channel, *seq)).expect("listed above");
            item.seen = true;
            self.ready.insert(item.place, item);
        }
        // The channel knows of some only: others were on their way.
        let known = self.rng.below(mine.len() as u64 + 1) as usize;
        let seqs = mine[..known].to_vec();
        self.round(vec![QueueEvent::ChannelClosed { channel, seqs }]);
    }

    fn purge(&mut self) {
        let count = self.ready.len() as u64;
        self.ready.clear();
        self.run(vec![QueueEvent::Purge { channel: channel(50) }]);
        let purged = |(_, reply): &(_, QueueReply)| match reply {
            QueueReply::Purged { messages } => Some(*messages),
            _ => None,
        };
        assert_eq!(self.f.replies.iter().find_map(purged), Some(count));
        self.check();
    }

    /// A channel at its global limit sends some back unseen, and asks for more later.
    fn send_back_or_resume(&mut self) {
        let Some((channel, seq)) = self.any_unacked() else { return };
        if self.rng.one_in(3) && self.consumers.contains_key(&channel.number) {
            let item = self.unacked.remove(&(channel, seq)).expect("listed");
            self.ready.insert(item.place, item);
            self.round(vec![QueueEvent::Surplus { channel, seqs: vec![seq] }]);
        }
        self.round(vec![QueueEvent::Resume { channel }]);
    }

    fn targets_hold_some(&mut self) {
        let numbers: Vec<u64> = self.leaving.keys().copied().filter(|_| self.rng.one_in(2)).collect();
        for number in &numbers {
            self.leaving.remove(number);
        }
        self.round(vec![QueueEvent::DeadLettered { numbers }]);
    }

    fn run(&mut self, events: Vec<QueueEvent>) {
        self.f.round(events);
    }

    fn round(&mut self, events: Vec<QueueEvent>) {
        self.run(events);
        self.check();
    }

    /// Compares what the queue did with what the list says.
    fn check(&mut self) {
        for letter in std::mem::take(&mut self.f.letters) {
            let n = number(&letter.message);
            let place = *self.ready.keys().find(|(_, at)| *at == n).expect("a dead letter was ready");
            let item = self.ready.remove(&place).expect("just found");
            if letter.reason == Reason::Expired {
                assert!(item.expires_at <= self.f.now.unix_millis, "{n} expired early");
            }
            self.leaving.insert(letter.number, item);
        }
        self.check_deliveries();
        for n in std::mem::take(&mut self.f.confirmed) {
            let ticket = self.tickets.remove(&n).expect("confirmed once");
            assert!(ticket <= self.stored || !self.is_persistent(n), "{n} was confirmed before it was stored");
            self.confirmed += 1;
        }
        let status = self.f.queue.status();
        assert_eq!(status.messages_ready, self.ready.len() as u64);
        assert_eq!(status.bytes_ready, self.ready.values().map(|item| item.bytes).sum::<u64>());
        assert_eq!(status.messages_unacked, self.unacked.len() as u64);
        assert_eq!(status.bytes_unacked, self.unacked.values().map(|item| item.bytes).sum::<u64>());
        let all = || self.ready.values().chain(self.unacked.values()).chain(self.leaving.values());
        assert_eq!(status.messages_persistent, all().filter(|item| item.persistent).count() as u64);
        let bytes = all().filter(|item| item.persistent).map(|item| item.bytes).sum::<u64>();
        assert_eq!(status.bytes_persistent, bytes);
    }

    /// A number whose message may be gone already counts as transient.
    fn is_persistent(&self, n: u64) -> bool {
        let mut all = self.ready.values().chain(self.unacked.values()).chain(self.leaving.values());
        all.any(|item| item.place.1 == n && item.persistent)
    }

    fn check_deliveries(&mut self) {
        let mut found: Vec<(ChannelKey, Delivery, bool)> = Vec::new();
        let mut last: BTreeMap<ConsumerKey, Place> = BTreeMap::new();
        for (key, delivery) in self.f.delivered() {
            let no_ack = self.consumers[&key.channel.number];
            let place = self.place(&delivery);
            assert!(last.insert(key, place).is_none_or(|before| before < place), "order broken for a consumer");
            found.push((key.channel, delivery, no_ack));
        }
        for (channel, reply) in std::mem::take(&mut self.f.replies) {
            match reply {
                QueueReply::Got(None) => {
                    self.gets.remove(&channel.number).expect("asked");
                }
                QueueReply::Got(Some((delivery, _))) => {
                    let no_ack = self.gets.remove(&channel.number).expect("asked");
                    found.push((channel, *delivery, no_ack));
                }
                QueueReply::Consuming(outcome) => outcome.expect("nobody is exclusive"),
                _ => {}
            }
        }
        found.sort_by_key(|(_, delivery, _)| self.place(delivery));
        for (channel, delivery, no_ack) in found {
            let (place, item) = self.ready.pop_first().expect("what is delivered was ready");
            assert_eq!(place, self.place(&delivery), "not the first message was delivered");
            assert_eq!(delivery.redelivered, item.seen, "redelivered of {place:?}");
            assert_eq!(delivery.message.body_bytes() as u64, item.bytes);
            if !no_ack {
                self.unacked.insert((channel, delivery.seq), item);
            }
        }
    }

    fn place(&self, delivery: &Delivery) -> Place {
        (u8::MAX - delivery.message.priority().min(self.levels - 1), number(&delivery.message))
    }

    /// Everything is delivered, acked and held by dead-letter targets.
    fn finish(&mut self) {
        for n in 0..3 {
            self.close(channel(n));
        }
        self.consumers.insert(60, false);
        let ask = self.f.ask(60, 0, false);
        self.round(vec![ask]);
        for _ in 0..100_000 {
            while !self.f.answers.is_empty() {
                self.answer();
            }
            while let Some((channel, seq)) = self.unacked.keys().next().copied() {
                self.unacked.remove(&(channel, seq));
                self.round(vec![QueueEvent::Ack { channel, runs: vec![(seq, seq)] }]);
            }
            self.targets_hold_some();
            if self.ready.is_empty() && self.leaving.is_empty() && self.f.answers.is_empty() && self.unacked.is_empty() {
                break;
            }
        }
        assert!(self.ready.is_empty(), "{} messages are stuck", self.ready.len());
        assert_eq!(self.confirmed, self.published);
        assert_eq!(self.f.stored(), 0, "the store keeps messages that are gone");
        assert!(self.gets.is_empty(), "a get was not answered");
    }
}

#[test]
fn a_queue_does_what_a_list_does() {
    for seed in 0..200 {
        let outcome = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..120 {
                model.step();
            }
            model.finish();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
