//! Consumers whose queue is led elsewhere from one moment to the next.

use amqp::{Table, Value};

use super::*;
use crate::queue::ConsumerKey;

/// A client that consumes from `q` with the tag `a`, and its consumer.
fn consuming(arguments: Table) -> (Client, QueueId, ConsumerKey) {
    let (mut client, q) = declared("q");
    client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("a"), arguments, ..Default::default() });
    let told = client.told();
    let [(_, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
    let consumer = ask.consumer;
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.said();
    (client, q, consumer)
}

fn moves(client: &mut Client, queue: QueueId) {
    let channel = crate::queue::ChannelKey { number: 0, life: 0, ..client.key(1) };
    client.event(ChannelEvent::QueueMoved { channel, queue });
}

/// It was told to end this consumer, and what else it was told.
#[track_caller]
fn ends(told: Vec<(QueueId, QueueEvent)>, queue: QueueId, ended: ConsumerKey) -> Vec<QueueEvent> {
    let mut told = told.into_iter();
    match told.next() {
        Some((of, QueueEvent::Cancel { consumer, reply: false })) if of == queue && consumer == ended => {}
        other => panic!("{other:?}"),
    }
    told.map(|(_, event)| event).collect()
}

#[test]
fn a_consumer_whose_queue_moved_before_the_answer_came_asks_again() {
    let (mut client, q) = declared("q");
    client.send(1, basic::Consume { queue: short("q"), ..Default::default() });
    client.told();
    moves(&mut client, q);
    assert!(client.told().is_empty(), "its agent asks again for it");
    client.reply(1, QueueReply::Consuming(Ok(())));
    let told = client.told();
    let [(queue, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
    assert!(*queue == q && ask.again);
}

/// The next leader hears of the cancellation first: what came behind it would stay.
#[test]
fn a_consumer_that_is_being_cancelled_does_not_ask_again() {
    let (mut client, q, consumer) = consuming(Table::new());
    client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("b"), ..Default::default() });
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.send(1, basic::Cancel { consumer_tag: short("a"), no_wait: false });
    client.said();
    client.told();
    moves(&mut client, q);
    let told = client.told();
    let [(_, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
    assert_eq!(&ask.tag[..], b"b");
    client.reply(1, QueueReply::Cancelled(consumer.number));
    client.expect(1, basic::CancelOk { consumer_tag: short("a") });
}

/// The leader of before and the next one may both have been asked.
#[test]
fn an_answer_to_a_cancel_that_comes_twice_ends_no_other_consumer() {
    let (mut client, q, first) = consuming(Table::new());
    client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("b"), ..Default::default() });
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.said();
    client.send(1, basic::Cancel { consumer_tag: short("a"), no_wait: false });
    client.reply(1, QueueReply::Cancelled(first.number));
    client.expect(1, basic::CancelOk { consumer_tag: short("a") });
    client.send(1, basic::Cancel { consumer_tag: short("b"), no_wait: false });
    client.reply(1, QueueReply::Cancelled(first.number));
    delivers(&mut client, q, first.number + 1, 5);
    let said = client.said();
    assert!(!said.is_empty() && !said.iter().any(|(_, method)| matches!(method, amqp::Method::BasicCancelOk(_))), "{said:?}");
}

#[test]
fn a_consumer_that_was_cancelled_before_it_was_taken_back_ends_at_the_queue_too() {
    let (mut client, q, consumer) = consuming(Table::new());
    moves(&mut client, q);
    client.send(1, basic::Cancel { consumer_tag: short("a"), no_wait: true });
    client.reply(1, QueueReply::Cancelled(consumer.number));
    client.told();
    client.event(ChannelEvent::Resubscribed { channel: consumer.channel, number: consumer.number, accepted: true });
    assert_eq!(ends(client.told(), q, consumer).len(), 0);
}

/// Its leader may be the one of before, seen again.
#[test]
fn a_consumer_that_wants_no_other_leader_ends_at_the_queue_too() {
    let (mut client, q, consumer) = consuming(Table::new().with("x-cancel-on-ha-failover", Value::Bool(true)));
    moves(&mut client, q);
    client.expect(1, basic::Cancel { consumer_tag: short("a"), no_wait: true });
    assert_eq!(ends(client.told(), q, consumer).len(), 0);
}

/// Others wait for a leader, until that counts as for good.
#[test]
fn a_consumer_whose_queue_is_down_is_cancelled_if_it_wants_that_or_has_waited() {
    let wants = || Table::new().with("x-cancel-on-ha-failover", Value::Bool(true));
    for (arguments, for_good, cancelled) in
        [(wants(), false, true), (Table::new(), false, false), (Table::new(), true, true)]
    {
        let (mut client, q, consumer) = consuming(arguments);
        let channel = crate::queue::ChannelKey { number: 0, life: 0, ..client.key(1) };
        client.event(ChannelEvent::QueueDown { channel, queue: q, for_good });
        if cancelled {
            client.expect(1, basic::Cancel { consumer_tag: short("a"), no_wait: true });
            assert_eq!(ends(client.told(), q, consumer).len(), 0);
        } else {
            assert!(client.said().is_empty() && client.told().is_empty());
        }
    }
}

#[test]
fn what_is_delivered_to_a_consumer_that_is_no_more_goes_back_unseen() {
    let (mut client, q, consumer) = consuming(Table::new());
    client.send(1, basic::Cancel { consumer_tag: short("a"), no_wait: true });
    client.reply(1, QueueReply::Cancelled(consumer.number));
    client.told();
    delivers(&mut client, q, consumer.number, 5);
    let rest = ends(client.told(), q, consumer);
    let [QueueEvent::Surplus { seqs, .. }, QueueEvent::Resume { .. }] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(seqs[..], [Seq(5)]);
    assert_eq!(client.said(), []);
}

/// A limit that was set later holds at every later leader.
#[test]
fn a_consumer_asks_again_under_the_limit_of_the_day() {
    let (mut client, q, _) = consuming(Table::new());
    client.send(1, basic::Qos { prefetch_count: 3, global: true, ..Default::default() });
    client.told();
    moves(&mut client, q);
    let told = client.told();
    let [(_, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
    assert!(ask.limited && ask.prefetch == 3, "{ask:?}");
}

/// Where nobody leads the queue that it deletes, the agent tells of the end as of a leader that is lost.
#[test]
fn who_deletes_a_queue_hears_delete_ok_first_though_its_consumer_wants_no_other_leader() {
    let (mut client, q, _) = consuming(Table::new().with("x-cancel-on-ha-failover", Value::Bool(true)));
    client.send(1, queue::Delete { queue: short("q"), ..Default::default() });
    client.reply(1, QueueReply::Down);
    moves(&mut client, q);
    assert_eq!(client.said(), []);
    client.commit();
    let cancel = basic::Cancel { consumer_tag: short("a"), no_wait: true };
    let expected: [(u16, Method); 2] = [(1, queue::DeleteOk { message_count: 0 }.into()), (1, cancel.into())];
    assert_eq!(client.said(), expected);
}
