//! What the broker adds to messages: copies for the firehose, and stamps in their headers.

use amqp::{Properties, Table, Value};

use super::*;
use crate::connection::Stamps;
use crate::connection::tests::{limits, open_limited};
use crate::metadata::Destination;
use crate::queue::{Delivery, Publish};

/// What each queue was sent.
fn sent(client: &mut Client) -> Vec<(QueueId, Publish)> {
    let publishes = client.told().into_iter().flat_map(|(queue, event)| match event {
        QueueEvent::Publish { messages, .. } => messages.into_iter().map(|publish| (queue, publish)).collect(),
        _ => Vec::new(),
    });
    publishes.collect()
}

fn headers(message: &Message) -> Table {
    Properties::decode(message.properties()).expect("well-formed").headers.unwrap_or_default()
}

/// A client with a queue `q`, and a queue that takes all copies of the firehose.
fn traced() -> (Client, QueueId, QueueId) {
    let (mut client, q) = declared("q");
    let copies = client.world.queue("copies");
    client.world.done(Command::Bind {
        vhost: "/".into(),
        source: "amq.rabbitmq.trace".into(),
        destination: Destination::Queue("copies".into()),
        routing_key: b"#".to_vec(),
        arguments: Table::new(),
    });
    (client, q, copies)
}

fn set_tracing(client: &mut Client, on: bool) {
    client.world.done(Command::SetTracing { vhost: "/".into(), on });
}

#[test]
fn the_firehose_copies_publishes_while_it_is_on() {
    let (mut client, q, copies) = traced();
    let properties = Properties { content_type: Some(short("text/plain")), priority: Some(3), ..Properties::default() };
    client.publish(1, "", "q", &properties, b"one");
    assert_eq!(sent(&mut client).len(), 1);
    set_tracing(&mut client, true);
    for _ in 0..2 {
        client.publish(1, "", "q", &properties, b"two");
        let sent = sent(&mut client);
        let [(first, copy), (second, message)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((*first, *second), (copies, q));
        assert_eq!((copy.message.exchange(), copy.message.routing_key()), (&b"amq.rabbitmq.trace"[..], &b"publish."[..]));
        assert_eq!((copy.message.body(), message.message.body()), (&b"two"[..], &b"two"[..]));
        let found = headers(&copy.message);
        let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!((text("exchange_name"), text("node"), text("vhost")), (String::new(), "warren@a".into(), "/".into()));
        assert_eq!((text("user"), text("connection")), ("alice".into(), "127.0.0.1:50000 -> 127.0.0.1:5672".into()));
        assert_eq!(found.get("channel"), Some(&Value::I32(1)));
        let list = |name: &str| Value::Array(vec![Value::LongStr(name.as_bytes().to_vec())]);
        assert_eq!((found.get("routing_keys"), found.get("routed_queues")), (Some(&list("q")), Some(&list("q"))));
        let of_message = found.get("properties").and_then(Value::as_table).expect("a table");
        assert_eq!(of_message.get("content_type").and_then(Value::as_str), Some("text/plain"));
        assert_eq!(of_message.get("priority"), Some(&Value::I32(3)));
    }
    set_tracing(&mut client, false);
    client.publish(1, "", "q", &properties, b"three");
    assert_eq!(sent(&mut client).len(), 1);
}

#[test]
fn the_firehose_copies_deliveries_but_not_its_own() {
    let (mut client, q, copies) = traced();
    set_tracing(&mut client, true);
    client.send(1, basic::Consume { queue: short("q"), no_ack: true, ..Default::default() });
    client.reply(1, QueueReply::Consuming(Ok(())));
    client.told();
    let plain = Properties::default().to_bytes();
    let channel = client.key(1);
    let deliver = |client: &mut Client, exchange: &str| {
        let message = Message::new(exchange.as_bytes(), b"k", &plain, b"x").expect("small");
        let items = vec![Delivery { message, seq: Seq(1), consumer: 0, redelivered: true, held: false, count: 0 }];
        client.event(ChannelEvent::Deliver { queue: q, channel, since: 1, items });
        sent(client)
    };
    let found = deliver(&mut client, "amq.topic");
    let [(queue, copy)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*queue, copy.message.routing_key()), (copies, &b"deliver.q"[..]));
    assert_eq!(headers(&copy.message).get("redelivered"), Some(&Value::I32(1)));
    assert_eq!(headers(&copy.message).get("exchange_name").and_then(Value::as_str), Some("amq.topic"));
    assert!(deliver(&mut client, "amq.rabbitmq.trace").is_empty());
}

#[test]
fn each_message_is_stamped_if_the_configuration_says_so() {
    let stamps = Stamps { timestamp: Some(false), routing_node: Some(true) };
    let mut client = open_limited(Limits { stamps, ..limits() });
    client.world.queue("q");
    let before = Table::new().with("timestamp_in_ms", 7i64).with("x-routed-by", "somebody");
    let own = Properties { headers: Some(before), timestamp: Some(9), ..Properties::default() };
    for (properties, stamped_at) in [(Properties::default(), (0, 0)), (own, (7, 9)), (Properties::default(), (0, 0))] {
        client.publish(1, "", "q", &properties, b"x");
        let sent = sent(&mut client);
        let [(_, publish)] = &sent[..] else { panic!("{sent:?}") };
        let found = headers(&publish.message);
        assert_eq!(found.get("x-routed-by").and_then(Value::as_str), Some("warren@a"));
        let millis = found.get("timestamp_in_ms").and_then(Value::as_i64);
        assert_eq!((millis, publish.message.view().timestamp()), (Some(stamped_at.0), Some(stamped_at.1)));
    }
}
