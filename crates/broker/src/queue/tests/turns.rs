//! Whose turn it is when consumers come, go, or are held back for their channel's global limit.

use store::Seq;

use super::fixture::number;
use super::*;
use crate::queue::{ConsumerKey, Publish, Publisher, QueueEvent, Settings};

fn publish(n: u64) -> QueueEvent {
    let from = Publisher::Channel(channel(99));
    QueueEvent::Publish { from, messages: vec![Publish { message: transient(n), number: n }] }
}

fn ask(f: &Fixture, consumer: ConsumerKey, prefetch: u32, no_ack: bool) -> QueueEvent {
    let QueueEvent::Consume(mut ask) = f.ask(consumer.channel.number, prefetch, no_ack) else { unreachable!() };
    ask.consumer = consumer;
    ask.limited = true;
    QueueEvent::Consume(ask)
}

fn consumer(channel_number: u16, number: u32) -> ConsumerKey {
    ConsumerKey { channel: channel(channel_number), number }
}

/// Who got which message.
fn shared_out(f: &mut Fixture) -> Vec<(u16, u64)> {
    f.delivered().iter().map(|(key, delivery)| (key.channel.number, number(&delivery.message))).collect()
}

#[test]
fn what_was_published_before_a_cancel_is_for_who_consumed_then() {
    let mut f = Fixture::with(Settings::default(), false);
    f.consume(1, 1);
    f.consume(2, 0);
    f.round(vec![publish(1), QueueEvent::Cancel { consumer: consumer(1, 0), reply: true }, publish(2)]);
    assert_eq!(shared_out(&mut f), [(1, 1), (2, 2)]);
}

#[test]
fn what_was_published_before_a_consumer_of_high_priority_came_is_not_for_it() {
    let mut f = Fixture::with(Settings::default(), false);
    f.consume(1, 0);
    let QueueEvent::Consume(mut high) = f.ask(2, 0, false) else { unreachable!() };
    high.priority = 1;
    f.round(vec![publish(1), QueueEvent::Consume(high), publish(2)]);
    let mut found = shared_out(&mut f);
    found.sort_unstable();
    assert_eq!(found, [(1, 1), (2, 2)]);
}

#[test]
fn deliveries_without_acknowledgement_can_come_back_while_the_channel_is_limited() {
    let mut f = Fixture::with(Settings::default(), true);
    let ask = ask(&f, consumer(1, 0), 1, true);
    f.round(vec![ask]);
    f.publish((1..=3).map(persistent));
    f.answer_all();
    let delivered = f.delivered();
    assert_eq!(body(&delivered), [1, 2, 3]);
    assert!(delivered.iter().all(|(_, delivery)| delivery.held));
    let seqs: Vec<Seq> = delivered.iter().map(|(_, delivery)| delivery.seq).collect();
    f.round(vec![
        QueueEvent::Taken { channel: channel(1), runs: vec![(seqs[0], seqs[0])] },
        QueueEvent::Surplus { channel: channel(1), seqs: seqs[1..].to_vec() },
    ]);
    assert_eq!((f.queue.status().messages_ready, f.queue.status().counters.ack), (2, 0));
    f.round(vec![QueueEvent::Resume { channel: channel(1) }]);
    let again = f.delivered();
    assert_eq!(body(&again), [2, 3]);
    assert!(again.iter().all(|(_, delivery)| !delivery.redelivered), "nobody has seen them");
    f.round(vec![QueueEvent::Taken { channel: channel(1), runs: vec![(seqs[1], seqs[2])] }]);
    f.answer_all();
    assert_eq!((f.queue.status().messages_unacked, f.stored()), (0, 0));
}

#[test]
fn the_consumers_of_a_limited_channel_take_turns() {
    let mut f = Fixture::with(Settings::default(), false);
    let asks = [ask(&f, consumer(1, 0), 1, false), ask(&f, consumer(1, 1), 1, false)];
    f.round(asks.into());
    f.publish((1..=10).map(transient));
    let mut served = Vec::new();
    for _ in 0..10 {
        let mut delivered = f.delivered().into_iter();
        let (key, first) = delivered.next().expect("one is delivered");
        served.push((key.number, number(&first.message)));
        let rest: Vec<Seq> = delivered.map(|(_, delivery)| delivery.seq).collect();
        f.round(vec![QueueEvent::Surplus { channel: channel(1), seqs: rest }]);
        f.round(vec![
            QueueEvent::Ack { channel: channel(1), runs: vec![(first.seq, first.seq)] },
            QueueEvent::Resume { channel: channel(1) },
        ]);
    }
    let expected: Vec<(u32, u64)> = (0..10).map(|n| ((n % 2) as u32, n + 1)).collect();
    assert_eq!(served, expected);
}

/// Another consumer gets what a channel had to send back for one that it does not know any more.
#[test]
fn what_came_to_a_consumer_that_is_no_more_goes_to_another_one_and_is_fresh() {
    let mut f = Fixture::with(Settings { delivery_limit: Some(0), ..Settings::default() }, false);
    f.consume(1, 0);
    f.publish((1..=2).map(transient));
    let seqs = f.expect_deliveries(&[1, 2]);
    f.consume(2, 0);
    f.round(vec![
        QueueEvent::Cancel { consumer: consumer(1, 0), reply: false },
        QueueEvent::Surplus { channel: channel(1), seqs },
        QueueEvent::Resume { channel: channel(1) },
    ]);
    let again = f.delivered();
    assert!(again.iter().all(|(key, delivery)| key.channel == channel(2) && !delivery.redelivered));
    assert_eq!((body(&again), f.queue.status().consumers.len()), (vec![1, 2], 1));
}
