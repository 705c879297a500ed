//! Packets survive the way there, and nothing that comes makes trouble.

use std::sync::Arc;

use amqp::Table;
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use stdx::Rng;
use store::Seq;

use super::*;
use crate::metadata::tests::Fixture;
use crate::metadata::{self, View, ViewChange};
use crate::mutant::{Mutant, breaking};

fn message(rng: &mut Rng) -> Message {
    let body = vec![7; rng.below(200) as usize];
    Message::new(b"exchange", b"key", &[0x10, 0, 2], &body).expect("it is a message")
}

fn channel(rng: &mut Rng) -> ChannelKey {
    let connection = ConnectionId::of(NodeId(rng.below(9)), rng.below(70_000), rng.below(1 << 33));
    ChannelKey { connection, number: rng.below(65_536) as u16, life: rng.below(1 << 32) as u32 }
}

fn consumer(rng: &mut Rng) -> ConsumerKey {
    ConsumerKey { channel: channel(rng), number: rng.below(1 << 32) as u32 }
}

fn seqs(rng: &mut Rng) -> Vec<Seq> {
    (0..rng.below(5)).map(|_| Seq(rng.next())).collect()
}

fn delivery(rng: &mut Rng) -> Delivery {
    let message = message(rng);
    Delivery { message, seq: Seq(rng.next()), consumer: 3, redelivered: rng.one_in(2), held: rng.one_in(2), count: rng.below(9) as u32 }
}

fn event_for_queue(rng: &mut Rng) -> QueueEvent {
    match rng.below(14) {
        0 => {
            let messages = (0..rng.below(5)).map(|number| Publish { message: message(rng), number }).collect();
            QueueEvent::Session { session: ConnectionId(rng.next()), settled: rng.next(), follows: rng.next(), again: rng.one_in(2), messages }
        }
        1 => QueueEvent::Consume(Box::new(Consume {
            consumer: consumer(rng),
            tag: Arc::from(&b"tag"[..]),
            no_ack: rng.one_in(2),
            exclusive: rng.one_in(2),
            again: rng.one_in(2),
            limited: rng.one_in(2),
            prefetch: rng.below(1 << 32) as u32,
            priority: rng.next().cast_signed(),
            arguments: Table::new().with("x-priority", 5_i64).with("x-cancel-on-ha-failover", true),
        })),
        2 => QueueEvent::Cancel { consumer: consumer(rng), reply: rng.one_in(2) },
        3 => QueueEvent::Get { channel: channel(rng), no_ack: rng.one_in(2) },
        4 => {
            let runs = seqs(rng).iter().map(|seq| (Seq(seq.0 >> 1), Seq((seq.0 >> 1) + 5))).collect();
            QueueEvent::Ack { channel: channel(rng), runs }
        }
        5 => QueueEvent::Reject { channel: channel(rng), seqs: seqs(rng), requeue: rng.one_in(2) },
        6 => QueueEvent::Surplus { channel: channel(rng), seqs: seqs(rng) },
        7 => QueueEvent::Resume { channel: channel(rng) },
        8 => QueueEvent::Prefetch { consumer: consumer(rng), prefetch: 7, limited: rng.one_in(2) },
        9 => QueueEvent::Credit { consumer: consumer(rng), bytes: rng.next() },
        10 => QueueEvent::ChannelClosed { channel: channel(rng), seqs: seqs(rng) },
        11 => QueueEvent::Inspect { channel: channel(rng) },
        12 => QueueEvent::Purge { channel: channel(rng) },
        _ => QueueEvent::Delete { channel: channel(rng), if_unused: rng.one_in(2), if_empty: rng.one_in(2) },
    }
}

fn reply(rng: &mut Rng) -> QueueReply {
    match rng.below(11) {
        0 => QueueReply::Got(None),
        1 => QueueReply::Got(Some((Box::new(delivery(rng)), rng.next()))),
        2 => QueueReply::Consuming(Ok(())),
        3 => QueueReply::Consuming(Err(ConsumeError::ExclusiveUse)),
        4 => QueueReply::Cancelled(9),
        5 => QueueReply::Inspected { messages: rng.next(), consumers: 4 },
        6 => QueueReply::Purged { messages: rng.next() },
        7 => QueueReply::Deletable(Ok(rng.next())),
        8 => QueueReply::Deletable(Err(DeleteError::InUse)),
        9 => QueueReply::Gone,
        _ => QueueReply::Down,
    }
}

fn event_for_channel(rng: &mut Rng) -> ChannelEvent {
    let channel = channel(rng);
    let queue = QueueId(rng.next());
    match rng.below(8) {
        0 => ChannelEvent::Deliver { queue, channel, since: rng.next(), items: (0..rng.below(4)).map(|_| delivery(rng)).collect() },
        1 => ChannelEvent::Confirmed { channel, runs: vec![(1, 5), (7, rng.next())] },
        2 => ChannelEvent::Rejected { channel, numbers: vec![1, rng.next()] },
        3 => ChannelEvent::Replied { channel, queue, reply: reply(rng) },
        4 => ChannelEvent::ConsumerCancelled { channel, number: 9 },
        5 => ChannelEvent::Resubscribed { channel, number: 9, accepted: rng.one_in(2) },
        6 => ChannelEvent::QueueDown { channel, queue, for_good: rng.one_in(2) },
        _ => ChannelEvent::QueueMoved { channel, queue },
    }
}

fn packet(rng: &mut Rng) -> Packet {
    match rng.below(4) {
        0 => Packet::NotLeader { queue: QueueId(rng.next()), attempt: rng.next() },
        1 => Packet::DirectReply { channel: channel(rng), proof: rng.next(), message: message(rng) },
        2 => Packet::ToChannel { event: event_for_channel(rng) },
        _ => Packet::ToQueue { queue: QueueId(rng.next()), attempt: rng.next(), event: event_for_queue(rng) },
    }
}

fn bytes_of(packet: &Packet) -> Bytes {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    bytes.into()
}

#[test]
fn what_comes_is_what_was_sent() {
    let mut rng = Rng::new(1);
    for _ in 0..5_000 {
        let sent = packet(&mut rng);
        let came = Packet::decode(&bytes_of(&sent)).expect("it is a packet");
        assert_eq!(format!("{came:?}"), format!("{sent:?}"));
    }
}

#[test]
fn damaged_packets_are_refused_or_read_and_never_panic() {
    let mut rng = Rng::new(2);
    for _ in 0..20_000 {
        let mut bytes = bytes_of(&packet(&mut rng)).to_vec();
        match rng.below(3) {
            0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
            1 => bytes.push(0),
            _ => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        let _ = Packet::decode(&bytes.into());
    }
}

#[test]
fn what_concerns_one_node_is_no_packet() {
    let mut bytes = Vec::new();
    encode_to_queue(&mut bytes, QueueId(1), 1, &QueueEvent::Tick);
    assert!(Packet::decode(&bytes.into()).is_err());
}

/// Node one led, then node three, then node one again; what it gave out at first was on its way all the time.
#[test]
fn what_a_leader_of_before_gave_out_is_overtaken_though_it_leads_again() {
    let (one, three) = (NodeId(1), NodeId(3));
    let mut fixture = Fixture::new();
    let id = fixture.queue("q");
    let queue = metadata::Queue::clone(fixture.tables().queues.get(&id).expect("declared"));
    let first = View::new([one, three], true);
    let away = first.after(ViewChange::Transfer(three), |_| true).expect("it is in sync");
    let back = away.after(ViewChange::Transfer(one), |_| true).expect("it is in sync");
    let play = || {
        let overtaken = |view: &View, from, given_out: &View| {
            let mut tables = Tables::default();
            tables.queues.insert_mut(queue.id, Arc::new(metadata::Queue { view: view.clone(), ..queue.clone() }));
            let channel = channel(&mut Rng::new(1));
            let event = ChannelEvent::Deliver { queue: queue.id, channel, since: given_out.led_since, items: Vec::new() };
            is_overtaken(&tables, from, &event)
        };
        overtaken(&away, one, &first)
            && overtaken(&back, one, &first)
            && overtaken(&back, three, &away)
            && !overtaken(&back, one, &back)
            && !overtaken(&first, one, &first)
    };
    assert!(play());
    assert!(!breaking(Mutant::HeedEarlierTerms, play));
}
