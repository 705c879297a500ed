//! What is gone when a client hears that its channel or its connection is closed.

use super::*;
use crate::metadata::tests::{declare, durable};
use crate::metadata::QueueSpec;

/// A queue that deletes itself, with a consumer on this channel.
fn consumes(client: &mut Client, channel: u16, name: &str) -> QueueId {
    client.world.done(declare(QueueSpec { auto_delete: true, ..durable(name) }));
    let id = client.world.id(name);
    client.send(channel, basic::Consume { queue: short(name), consumer_tag: short(name), ..Default::default() });
    client.reply(channel, QueueReply::Consuming(Ok(())));
    client.told();
    client.said();
    id
}

/// Who waits for the answers of which queues, each of which has heard first that the channel is closed.
#[track_caller]
fn asked(client: &mut Client) -> Vec<(ChannelKey, QueueId)> {
    let told = client.told();
    let ask = |(at, (queue, event)): (usize, &(QueueId, QueueEvent))| match event {
        QueueEvent::Cancel { consumer, reply: true } => {
            let closed = |(of, event): &(QueueId, QueueEvent)| of == queue && matches!(event, QueueEvent::ChannelClosed { .. });
            assert!(told[..at].iter().any(closed), "{told:?}");
            Some((consumer.channel, *queue))
        }
        _ => None,
    };
    told.iter().enumerate().filter_map(ask).collect()
}

fn gone(client: &mut Client, (channel, queue): (ChannelKey, QueueId)) {
    client.event(ChannelEvent::Replied { channel, queue, reply: QueueReply::Cancelled(0) });
    client.bytes(&[]);
}

fn close_of_channel() -> channel::Close {
    channel::Close { reply_code: 200, reply_text: short(""), class_id: 0, method_id: 0 }
}

fn operator_closes(client: &mut Client) {
    let context = client.context();
    client.connection.close(&context, "enough", &mut client.fx);
}

#[test]
fn auto_delete_queues_are_gone_when_the_client_hears_channel_close_ok() {
    let mut client = open_connection();
    client.send(2, channel::Open {});
    let q = consumes(&mut client, 1, "q");
    client.send(1, close_of_channel());
    let asked = asked(&mut client);
    assert_eq!(asked.iter().map(|(_, queue)| *queue).collect::<Vec<_>>(), [q]);
    // What was sent behind the close waits, of other channels too.
    client.send(1, channel::Open {});
    client.send(2, basic::Qos::default());
    assert_eq!(client.said(), []);
    gone(&mut client, asked[0]);
    let expected: [(u16, Method); 3] =
        [(1, channel::CloseOk {}.into()), (1, channel::OpenOk {}.into()), (2, basic::QosOk {}.into())];
    assert_eq!(client.said(), expected);
}

#[test]
fn auto_delete_queues_are_gone_when_the_client_hears_of_a_fault_of_its_channel() {
    let mut client = open_connection();
    consumes(&mut client, 1, "q");
    client.send(1, basic::Ack { delivery_tag: 9, multiple: false });
    client.send(1, basic::Qos::default());
    assert_eq!(client.said(), []);
    let asked = asked(&mut client);
    gone(&mut client, asked[0]);
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 9");
    client.send(1, channel::CloseOk {});
    client.send(1, channel::Open {});
    client.expect(1, channel::OpenOk {});
}

#[test]
fn auto_delete_and_exclusive_queues_are_gone_when_the_client_hears_connection_close_ok() {
    let mut client = open_connection();
    client.send(2, channel::Open {});
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
    client.commit();
    let queues = [consumes(&mut client, 1, "a"), consumes(&mut client, 2, "b")];
    client.send(0, connection::Close::default());
    let asked = asked(&mut client);
    assert_eq!(asked.iter().map(|(_, queue)| *queue).collect::<Vec<_>>(), queues);
    gone(&mut client, asked[1]);
    client.commit();
    assert_eq!(client.said(), []);
    gone(&mut client, asked[0]);
    client.expect(0, connection::CloseOk {});
    assert!(client.connection.is_closed() && client.connection.has_left());
}

#[test]
fn auto_delete_and_exclusive_queues_are_gone_when_a_client_hears_of_a_hard_error() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
    client.commit();
    consumes(&mut client, 1, "q");
    client.send(0, basic::Qos::default());
    let asked = asked(&mut client);
    gone(&mut client, asked[0]);
    assert_eq!(client.said(), []);
    client.commit();
    assert!(client.world.vhost().queues.get("mine").is_none());
    client.expect_close(504, "CHANNEL_ERROR - unexpected method in connection state running");
    client.send(0, connection::CloseOk {});
    assert!(client.connection.is_closed() && client.fx.propose_and_forget.is_empty());
}

#[test]
fn exclusive_queues_are_gone_when_a_client_hears_that_an_operator_closed_it() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
    client.commit();
    operator_closes(&mut client);
    // The client closes at the same time, and an operator once more.
    client.send(0, connection::Close::default());
    operator_closes(&mut client);
    assert_eq!(client.said(), []);
    client.commit();
    let said = client.said();
    assert!(matches!(said[..], [(0, Method::ConnectionClose(_)), (0, Method::ConnectionCloseOk(_))]), "{said:?}");
    assert!(client.connection.is_closed());
}

#[test]
fn a_queue_that_is_being_declared_goes_with_the_connection_that_is_closed_meanwhile() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, ..Default::default() });
    operator_closes(&mut client);
    client.commit();
    assert!(client.world.vhost().queues.get("mine").is_some());
    assert_eq!(client.said(), []);
    client.commit();
    assert!(client.world.vhost().queues.get("mine").is_none());
    client.expect_close(320, "CONNECTION_FORCED - enough");
}

#[test]
fn a_node_that_stops_waits_for_nothing_that_goes_with_a_connection() {
    for operator_was_first in [false, true] {
        let mut client = open_connection();
        client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
        client.commit();
        consumes(&mut client, 1, "q");
        if operator_was_first {
            operator_closes(&mut client);
        }
        let context = client.context();
        client.connection.close_now(&context, "enough", &mut client.fx);
        client.expect_close(320, "CONNECTION_FORCED - enough");
        assert_eq!(client.fx.propose_and_forget, [Command::ConnectionEnded { connection: ConnectionId(7) }]);
        assert!(operator_was_first || asked(&mut client).is_empty());
    }
}

#[test]
fn who_leaves_waits_for_a_limited_time() {
    for closes in [0, 1] {
        let mut client = open_connection();
        consumes(&mut client, 1, "q");
        match closes {
            0 => client.send(0, connection::Close::default()),
            channel => client.send(channel, close_of_channel()),
        }
        assert!(client.connection.deadline().is_some_and(|at| at <= client.now + CLOSE_WAIT));
        client.now = client.now + CLOSE_WAIT;
        let context = client.context();
        client.connection.tick(&context, &mut client.fx);
        assert_eq!(client.said().len(), 1);
        assert_eq!(client.connection.wants_bytes(), closes == 1);
        // An answer that comes late is of no interest.
        let late = asked(&mut client)[0];
        gone(&mut client, late);
        assert_eq!(client.said(), []);
    }
}

#[test]
fn the_answer_to_an_earlier_question_is_not_taken_for_one_to_who_leaves() {
    let mut client = open_connection();
    let q = consumes(&mut client, 1, "q");
    let channel = client.key(1);
    client.send(1, basic::Cancel { consumer_tag: short("q"), no_wait: false });
    client.told();
    operator_closes(&mut client);
    let asked = asked(&mut client);
    for reply in [QueueReply::Cancelled(0), QueueReply::Gone] {
        client.event(ChannelEvent::Replied { channel, queue: q, reply });
    }
    assert_eq!(client.said(), []);
    gone(&mut client, asked[0]);
    client.expect_close(320, "CONNECTION_FORCED - enough");
}

#[test]
fn channels_that_end_while_another_leaves_wait_together() {
    let mut client = open_connection();
    client.send(2, channel::Open {});
    let (a, b) = (consumes(&mut client, 1, "a"), consumes(&mut client, 2, "b"));
    for (channel, queue) in [(1, a), (2, b)] {
        let message = Message::new(b"", b"q", &Properties::default().to_bytes(), b"x").unwrap();
        let items = vec![crate::queue::Delivery { message, seq: store::Seq(1), consumer: 0, redelivered: false, held: true, count: 0 }];
        let channel = client.key(channel);
        client.event(ChannelEvent::Deliver { queue, channel, since: 1, items });
    }
    client.said();
    // Nobody acknowledges: the timeout of deliveries ends both.
    client.now = client.now + Duration::from_secs(1800);
    client.connection.excuse_silence(client.now);
    let context = client.context();
    client.connection.tick(&context, &mut client.fx);
    let asked = asked(&mut client);
    assert_eq!(asked.iter().map(|(_, queue)| *queue).collect::<Vec<_>>(), [a, b]);
    gone(&mut client, asked[0]);
    client.said();
    assert!(!client.connection.wants_bytes());
    operator_closes(&mut client);
    gone(&mut client, asked[1]);
    let said = client.said();
    let [(1, Method::ChannelClose(_)), (2, Method::ChannelClose(_)), (0, Method::ConnectionClose(_))] = &said[..] else {
        panic!("{said:?}")
    };
}

/// All in one write: each method takes effect before the next is read.
#[test]
fn a_consumer_of_which_nothing_was_said_counts_and_one_that_was_cancelled_does_not() {
    for cancels in [false, true] {
        let mut client = open_connection();
        client.world.done(declare(QueueSpec { auto_delete: true, ..durable("q") }));
        let mut bytes = Vec::new();
        let consume = basic::Consume { queue: short("q"), consumer_tag: short("a"), no_wait: true, ..Default::default() };
        amqp::write_method(&mut bytes, 1, &consume.into());
        if cancels {
            amqp::write_method(&mut bytes, 1, &basic::Cancel { consumer_tag: short("a"), no_wait: true }.into());
        }
        amqp::write_method(&mut bytes, 1, &close_of_channel().into());
        client.bytes(&bytes);
        client.reply(1, QueueReply::Consuming(Ok(())));
        client.bytes(&[]);
        if cancels {
            assert_eq!(client.said(), []);
            client.reply(1, QueueReply::Cancelled(0));
            client.bytes(&[]);
        } else {
            let asked = asked(&mut client);
            gone(&mut client, asked[0]);
        }
        client.expect(1, channel::CloseOk {});
    }
}

#[test]
fn who_consumes_from_no_auto_delete_queue_waits_for_nothing() {
    let mut client = open_connection();
    client.world.queue("q");
    client.send(1, basic::Consume { queue: short("q"), ..Default::default() });
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.said();
    client.send(1, close_of_channel());
    client.expect(1, channel::CloseOk {});
    client.send(0, connection::Close::default());
    client.expect(0, connection::CloseOk {});
}
