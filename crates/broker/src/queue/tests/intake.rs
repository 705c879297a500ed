//! When a queue makes its publishers wait.

use std::time::Duration;

use stdx::Time;
use store::Seq;

use super::fixture::{Answer, Fixture, channel, message};
use crate::message::Message;
use crate::queue::intake::Intake;
use crate::queue::{ConsumerKey, Publish, Publisher, QueueEffects, QueueEvent, Settings};

/// As many kilobytes, not persistent.
fn kilobytes(count: u64) -> impl Iterator<Item = Message> {
    (1..=count).map(|number| message(number, 0, false, None, 1000))
}

fn large() -> Fixture {
    let mut f = Fixture::with(Settings::default(), false);
    f.now.budget_bytes = 32 << 20;
    f
}

/// Acknowledges all that consumer 1 got; how many that were.
fn work(f: &mut Fixture) -> usize {
    let seqs: Vec<Seq> = f.delivered().iter().map(|(_, delivery)| delivery.seq).collect();
    f.ack(1, &seqs);
    seqs.len()
}

#[test]
fn publishers_wait_where_consumers_with_a_prefetch_would_empty_the_queue_in_a_moment() {
    let mut f = large();
    f.publish(kilobytes(6000));
    f.pass(1);
    assert!(!f.queue.is_congested(f.now), "nobody is there");
    f.consume(1, 500);
    assert!(f.queue.is_congested(f.now), "6,000 are ready, and 500 were taken in no time");
    let mut worked = 0;
    while f.queue.is_congested(f.now) {
        f.pass(1);
        worked += work(&mut f);
    }
    assert!((900..=2500).contains(&worked), "{worked} taken before there is room again");
}

#[test]
fn nobody_waits_for_a_slow_consumer() {
    let mut f = large();
    f.consume(1, 1);
    f.publish(kilobytes(6000));
    for _ in 0..50 {
        f.pass(20);
        assert_eq!(work(&mut f), 1);
        assert!(!f.queue.is_congested(f.now));
    }
}

/// A node with very many queues has little memory for each.
#[test]
fn nobody_waits_for_a_slow_consumer_where_memory_is_scarce() {
    let mut f = large();
    f.now.budget_bytes = 128 << 10;
    f.consume(1, 20);
    for _ in 0..500 {
        f.pass(5);
        f.publish(kilobytes(20));
        let taken: Vec<Seq> = f.delivered().iter().map(|(_, delivery)| delivery.seq).collect();
        f.ack(1, &taken[..taken.len().min(1)]);
        f.answer_all();
        assert!(!f.queue.is_congested(f.now));
    }
}

/// Consumers have given back so much that the next read is far off.
#[test]
fn nobody_waits_for_a_read_that_is_not_asked_for() {
    let (mut intake, mut now) = (Intake::default(), Time::from_millis(1000));
    let is_closed = |intake: &Intake, now| intake.is_closed(now, 20 << 20, 32 << 20);
    intake.taken(now, 1000);
    intake.settled(now, true, true);
    intake.loaded(1000);
    assert!(!is_closed(&intake, now));
    intake.brought(600);
    intake.settled(now, false, true);
    assert!(is_closed(&intake, now), "the next read comes soon, where consumers waited for this one");
    for _ in 0..11 {
        now = now + Duration::from_millis(5);
        intake.taken(now, 1000);
        intake.settled(now, false, true);
    }
    assert!(!is_closed(&intake, now));
}

#[test]
fn a_consumer_that_pauses_lets_publishers_in_again() {
    let mut f = large();
    f.consume(1, 2000);
    f.publish(kilobytes(9000));
    work(&mut f);
    work(&mut f);
    assert!(f.queue.is_congested(f.now));
    f.pass(9);
    assert!(f.queue.is_congested(f.now));
    f.pass(1);
    assert!(!f.queue.is_congested(f.now), "its acknowledgements may lie behind what is published");
}

#[test]
fn publishers_get_half_of_what_consumers_wait_for_from_the_disk() {
    let mut f = large();
    f.now.budget_bytes = 1 << 20;
    f.publish(kilobytes(5000));
    f.answer_all();
    assert!(!f.queue.is_congested(f.now), "nobody waits for the disk");
    let ask = f.ask(1, 0, true);
    f.round(vec![ask]);
    let consumer = ConsumerKey { channel: channel(1), number: 0 };
    f.round(vec![QueueEvent::Credit { consumer, bytes: 1 << 20 }]);
    assert!(f.queue.is_congested(f.now), "a read is under way");
    let Some(Answer::Loaded(event)) = f.answers.pop_front() else { panic!("a read was asked for") };
    let QueueEvent::Loaded { messages, .. } = &event else { unreachable!("it is an answer of the store") };
    let loaded = messages.len();
    let mut fx = QueueEffects::default();
    f.queue.handle(f.now, event, &mut fx);
    let mut brought = 0;
    while !f.queue.is_congested(f.now) {
        let publish = Publish { message: message(9999, 0, false, None, 1000), number: 0 };
        let from = Publisher::Channel(channel(99));
        f.queue.handle(f.now, QueueEvent::Publish { from, messages: vec![publish] }, &mut fx);
        brought += 1;
    }
    assert!(loaded > 100 && brought > loaded * 2 / 5 && brought <= loaded / 2 + 1, "{brought} against {loaded}");
}
