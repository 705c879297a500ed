//! What a client sees of its channel: codes, texts, and who hears what.

mod counted;
mod declared;
mod incoming;
mod moved;
mod post;

use amqp::Properties;
use amqp::method::{basic, confirm, exchange, queue, tx};

use super::*;
use crate::connection::tests::{Client, open_connection, publish_method, short};
use crate::metadata::Command;

fn declared(name: &str) -> (Client, QueueId) {
    let mut client = open_connection();
    let id = client.world.queue(name);
    (client, id)
}

#[test]
fn channel_errors_have_rabbitmqs_codes_and_texts() {
    let cases: Vec<(Method, u16, &str)> = vec![
        (
            queue::Declare { passive: true, ..Default::default() }.into(),
            404,
            "NOT_FOUND - no queue '' in vhost '/'",
        ),
        (basic::Get::default().into(), 404, "NOT_FOUND - no previously declared queue"),
        (
            queue::Declare { queue: short("amq.foo"), ..Default::default() }.into(),
            403,
            "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'",
        ),
        (
            exchange::Declare { exchange: short("amq.foo"), kind: short("direct"), ..Default::default() }.into(),
            403,
            "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'",
        ),
        (
            exchange::Delete { exchange: short("amq.direct"), ..Default::default() }.into(),
            403,
            "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
        ),
        (
            queue::Bind { queue: short("no"), exchange: short("nosuch"), ..Default::default() }.into(),
            404,
            "NOT_FOUND - no exchange 'nosuch' in vhost '/'",
        ),
        (
            queue::Bind { queue: short("no"), ..Default::default() }.into(),
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            basic::Ack { delivery_tag: 99, multiple: true }.into(),
            406,
            "PRECONDITION_FAILED - unknown delivery tag 99",
        ),
        (tx::Commit {}.into(), 406, "PRECONDITION_FAILED - channel is not transactional"),
        (
            basic::Consume { queue: short("amq.rabbitmq.reply-to"), ..Default::default() }.into(),
            406,
            "PRECONDITION_FAILED - reply consumer cannot acknowledge",
        ),
    ];
    for (method, code, text) in cases {
        let mut client = open_connection();
        let id = method.id();
        client.send(1, method);
        match &client.said()[..] {
            [(1, Method::ChannelClose(close))] => {
                assert_eq!((close.reply_code, &*close.reply_text.to_str_lossy()), (code, text));
                assert_eq!((close.class_id, close.method_id), id, "{text}");
            }
            said => panic!("{said:?} instead of {text}"),
        }
        assert!(client.fx.propose.is_none() && client.told().is_empty(), "an effect after {text}");
    }
}

#[test]
fn an_unknown_exchange_type_comes_before_permissions() {
    let mut client = open_connection();
    client.world.done(Command::ClearPermission { vhost: "/".into(), user: "alice".into() });
    client.send(1, exchange::Declare { exchange: short("x"), kind: short("zz"), ..Default::default() });
    client.expect_close(503, "COMMAND_INVALID - unknown exchange type 'zz'");
}

#[test]
fn a_consumer_tag_is_compared_before_the_queue_is_looked_for() {
    let (mut client, id) = declared("q");
    client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("a"), ..Default::default() });
    assert_eq!(client.told()[0].0, id);
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.expect(1, basic::ConsumeOk { consumer_tag: short("a") });
    client.send(1, basic::Consume { queue: short("nosuch"), consumer_tag: short("a"), ..Default::default() });
    client.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'");
}

#[test]
fn queues_named_by_the_server_in_one_moment_have_different_names() {
    let mut client = open_connection();
    for _ in 0..3 {
        client.send(1, queue::Declare { no_wait: true, ..Default::default() });
        client.commit();
    }
    assert_eq!(client.world.vhost().queues.size(), 3);
}

#[test]
fn a_consumer_tag_is_free_again_after_cancel_without_an_answer() {
    let (mut client, _) = declared("q");
    for _ in 0..100 {
        client.told();
        client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("a"), ..Default::default() });
        let told = client.told();
        let [(_, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
        client.reply(1, QueueReply::Consuming(Ok(())));
        client.send(1, basic::Cancel { consumer_tag: short("a"), no_wait: true });
        client.reply(1, QueueReply::Cancelled(ask.consumer.number));
    }
    assert_eq!(client.said().len(), 100);
}

/// The queue hears of its end from the tables, which may be before the deleting channel has its answer:
/// always so where the queue is led elsewhere. Clients that read the cancellation first give up.
#[test]
fn who_deletes_a_queue_hears_delete_ok_before_its_own_consumers_are_cancelled() {
    let (mut client, _) = declared("q");
    client.send(1, basic::Consume { queue: short("q"), consumer_tag: short("a"), ..Default::default() });
    let told = client.told();
    let [(_, QueueEvent::Consume(ask))] = &told[..] else { panic!("{told:?}") };
    let number = ask.consumer.number;
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.said();
    client.send(1, queue::Delete { queue: short("q"), ..Default::default() });
    client.reply(1, QueueReply::Deletable(Ok(0)));
    let channel = client.key(1);
    client.event(ChannelEvent::ConsumerCancelled { channel, number });
    assert_eq!(client.said(), []);
    client.commit();
    let cancel = basic::Cancel { consumer_tag: short("a"), no_wait: true };
    let expected: [(u16, Method); 2] = [(1, queue::DeleteOk { message_count: 0 }.into()), (1, cancel.into())];
    assert_eq!(client.said(), expected);
}

#[test]
fn a_refused_publish_fails_the_commit_of_a_transaction() {
    let (mut client, id) = declared("q");
    client.send(1, tx::Select {});
    client.publish(1, "", "q", &Properties::default(), b"x");
    client.send(1, tx::Commit {});
    client.expect(1, tx::SelectOk {});
    let told = client.told();
    let [(queue, QueueEvent::Publish { messages, .. })] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*queue, id);
    let (channel, numbers) = (client.key(1), vec![messages[0].number]);
    client.event(ChannelEvent::Rejected { channel, numbers });
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - partial tx completion");
}

#[test]
fn a_return_comes_before_its_confirm() {
    let mut client = open_connection();
    client.send(1, confirm::Select { no_wait: true });
    let mut publish = publish_method("", "nobody");
    publish.mandatory = true;
    let mut bytes = Vec::new();
    amqp::write_method(&mut bytes, 1, &publish.into());
    amqp::write_content_header(&mut bytes, 1, 1, &Properties::default().to_bytes());
    amqp::write_body(&mut bytes, 1, b"x", 4096);
    client.bytes(&bytes);
    let said = client.said();
    assert!(matches!(&said[..], [(1, Method::BasicReturn(_)), (1, Method::BasicAck(_))]), "{said:?}");
}

#[test]
fn a_reply_to_without_a_reply_consumer_is_refused_before_other_properties() {
    let mut client = open_connection();
    let properties = Properties {
        reply_to: Some(short("amq.rabbitmq.reply-to")),
        expiration: Some(short("abc")),
        ..Properties::default()
    };
    client.publish(1, "", "q", &properties, b"x");
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - fast reply consumer does not exist");
}

/// A channel with a global limit of one, consuming from queues `a` and `b`.
fn limited_to_one(no_ack_on_b: bool) -> (Client, QueueId, QueueId) {
    let (mut client, a) = declared("a");
    let b = client.world.queue("b");
    client.send(1, basic::Qos { prefetch_count: 1, global: true, ..Default::default() });
    for (name, no_ack) in [("a", false), ("b", no_ack_on_b)] {
        client.send(1, basic::Consume { queue: short(name), no_ack, ..Default::default() });
        client.reply(1, QueueReply::Consuming(Ok(())));
    }
    client.said();
    client.told();
    (client, a, b)
}

/// The queue delivers one message to the channel's consumer of this number.
fn delivers(client: &mut Client, queue: QueueId, consumer: u32, seq: u64) {
    let message = Message::new(b"", b"q", &Properties::default().to_bytes(), b"x").expect("small");
    let items =
        vec![crate::queue::Delivery { message, seq: Seq(seq), consumer, redelivered: false, held: true, count: 0 }];
    let channel = client.key(1);
    client.event(ChannelEvent::Deliver { queue, channel, since: 1, items });
}

fn tags(client: &mut Client) -> Vec<u64> {
    let tag = |said: (u16, Method)| match said.1 {
        Method::BasicDeliver(deliver) => Some(deliver.delivery_tag),
        _ => None,
    };
    client.said().into_iter().filter_map(tag).collect()
}

fn heard(client: &mut Client) -> Vec<(QueueId, &'static str)> {
    let word = |event: &QueueEvent| match event {
        QueueEvent::Ack { .. } => "ack",
        QueueEvent::Taken { .. } => "taken",
        QueueEvent::Surplus { .. } => "surplus",
        QueueEvent::Resume { .. } => "resume",
        other => panic!("{other:?}"),
    };
    client.told().iter().map(|(queue, event)| (*queue, word(event))).collect()
}

#[test]
fn the_queues_of_a_limited_channel_take_turns() {
    let (mut client, a, b) = limited_to_one(false);
    delivers(&mut client, a, 0, 1);
    delivers(&mut client, b, 1, 1);
    assert_eq!(tags(&mut client), [1]);
    assert_eq!(heard(&mut client), [(b, "surplus")]);
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false });
    assert_eq!(heard(&mut client), [(a, "ack"), (b, "resume")]);
    // The place that became free is kept for `b`, though `a` is faster.
    delivers(&mut client, a, 0, 2);
    assert_eq!(heard(&mut client), [(a, "surplus")]);
    delivers(&mut client, b, 1, 1);
    let channel = client.key(1);
    client.event(ChannelEvent::Resumed { queue: b, channel });
    assert_eq!((tags(&mut client), heard(&mut client)), (vec![2], vec![]));
    client.send(1, basic::Ack { delivery_tag: 2, multiple: false });
    assert_eq!(heard(&mut client), [(b, "ack"), (a, "resume")]);
    // Somebody else has emptied `a`: its place is free for the next.
    delivers(&mut client, b, 1, 2);
    assert_eq!(heard(&mut client), [(b, "surplus")]);
    client.event(ChannelEvent::Resumed { queue: a, channel });
    assert_eq!(heard(&mut client), [(b, "resume")]);
}

#[test]
fn deliveries_without_acknowledgement_wait_for_room_and_take_none() {
    let (mut client, a, b) = limited_to_one(true);
    delivers(&mut client, b, 1, 1);
    delivers(&mut client, b, 1, 2);
    assert_eq!((tags(&mut client), heard(&mut client)), (vec![1, 2], vec![(b, "taken"), (b, "taken")]));
    delivers(&mut client, a, 0, 1);
    delivers(&mut client, b, 1, 3);
    assert_eq!((tags(&mut client), heard(&mut client)), (vec![3], vec![(b, "surplus")]));
}

#[test]
fn what_a_transaction_settles_keeps_its_place_and_a_get_has_none() {
    let (mut client, a, b) = limited_to_one(false);
    client.send(1, tx::Select {});
    delivers(&mut client, a, 0, 1);
    delivers(&mut client, b, 1, 1);
    client.send(1, basic::Get { queue: short("a"), ..Default::default() });
    let message = Message::new(b"", b"a", &Properties::default().to_bytes(), b"x").expect("small");
    let got = crate::queue::Delivery { message, seq: Seq(2), consumer: 0, redelivered: false, held: false, count: 0 };
    client.reply(1, QueueReply::Got(Some((Box::new(got), 0))));
    client.told();
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false });
    assert_eq!(heard(&mut client), []);
    client.send(1, tx::Rollback {});
    client.send(1, basic::Ack { delivery_tag: 1, multiple: false });
    assert_eq!(heard(&mut client), []);
    client.send(1, tx::Commit {});
    assert_eq!(heard(&mut client), [(a, "ack"), (b, "resume")]);
    delivers(&mut client, b, 1, 1);
    delivers(&mut client, a, 0, 3);
    assert_eq!(heard(&mut client), [(a, "surplus")]);
    client.send(1, basic::Ack { delivery_tag: 2, multiple: false });
    client.send(1, tx::Commit {});
    assert_eq!(heard(&mut client), [(a, "ack")]);
}

#[test]
fn a_message_that_answers_a_question_twice_goes_back() {
    let (mut client, q) = declared("q");
    let got = |seq| {
        let message = Message::new(b"", b"q", &Properties::default().to_bytes(), b"x").expect("small");
        let got = crate::queue::Delivery { message, seq: Seq(seq), consumer: 0, redelivered: false, held: false, count: 0 };
        QueueReply::Got(Some((Box::new(got), 0)))
    };
    client.send(1, basic::Get { queue: short("q"), ..Default::default() });
    client.reply(1, got(1));
    client.told();
    let channel = client.key(1);
    client.event(ChannelEvent::Replied { channel, queue: q, reply: got(2) });
    let told = client.told();
    let [(queue, QueueEvent::Reject { seqs, requeue: true, .. })] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*queue, &seqs[..]), (q, &[Seq(2)][..]));
    // Another question that waits is not answered by it.
    client.send(1, basic::Consume { queue: short("q"), ..Default::default() });
    client.said();
    client.event(ChannelEvent::Replied { channel, queue: q, reply: got(3) });
    assert_eq!(client.said(), []);
    client.reply(1, QueueReply::Consuming(Ok(())));
    assert!(matches!(client.said()[..], [(1, Method::BasicConsumeOk(_))]));
}
