//! lapin, the Rust client: what a program does with a broker.

use black_box::Node;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, BasicRejectOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Consumer, ExchangeKind};

use crate::client::{confirm, connect, drain, publish, publish_with, queue, soon};

/// `x-…` arguments.
fn arguments(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn get(channel: &Channel, queue: &str) -> Delivery {
    let message = soon(channel.basic_get(queue.into(), BasicGetOptions::default())).await.unwrap();
    message.expect("a message is ready").delivery
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Consumer {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    let delivery = soon(consumer.next()).await;
    delivery.expect("the consumer goes on").unwrap()
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str, with: FieldTable) {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, with).await.unwrap();
}

#[tokio::test]
async fn declare_publish_get_ack() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    let declared = queue(&channel, "orders", true, FieldTable::default()).await;
    assert_eq!((declared.name().as_str(), declared.message_count(), declared.consumer_count()), ("orders", 0, 0));
    let properties = BasicProperties::default().with_content_type("text/plain".into()).with_message_id("7".into());
    publish_with(&channel, "", "orders", b"one", properties.clone()).await;
    publish(&channel, "", "orders", b"two").await;
    let first = get(&channel, "orders").await;
    assert_eq!((&first.data[..], &first.properties, first.redelivered), (&b"one"[..], &properties, false));
    assert!(first.ack(BasicAckOptions::default()).await.unwrap());
    assert_eq!(drain(&channel, "orders").await, ["two"]);
}

#[tokio::test]
async fn confirms_in_a_window() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    confirm(&channel).await;
    queue(&channel, "safe", true, FieldTable::default()).await;
    let mut waiting = Vec::new();
    for n in 0..500 {
        let body = n.to_string();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish("".into(), "safe".into(), options, body.as_bytes(), properties).await;
        waiting.push(published.unwrap());
    }
    for confirm in waiting {
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
    }
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(drain(&channel, "safe").await, expected);
}

#[tokio::test]
async fn mandatory_messages_come_back() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    confirm(&channel).await;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default();
    let published = channel.basic_publish("amq.direct".into(), "nowhere".into(), options, b"x", properties).await;
    let returned = published.unwrap().await.unwrap().take_message().expect("it comes back");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.delivery.routing_key.as_str(), &returned.delivery.data[..]), ("nowhere", &b"x"[..]));
}

#[tokio::test]
async fn consumers_share_and_prefetch_limits() {
    let node = Node::start();
    let (connection, channel) = connect(&node).await;
    queue(&channel, "work", false, FieldTable::default()).await;
    let other = connection.create_channel().await.unwrap();
    for consumer in [&channel, &other] {
        consumer.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    }
    let (mut left, mut right) = (consume(&channel, "work", false).await, consume(&other, "work", false).await);
    for n in 0..4 {
        publish(&channel, "", "work", n.to_string().as_bytes()).await;
    }
    let (a, b) = (next(&mut left).await, next(&mut right).await);
    assert_eq!((&a.data[..], &b.data[..]), (&b"0"[..], &b"1"[..]));
    // Who acks is served; the other waits.
    b.ack(BasicAckOptions::default()).await.unwrap();
    let c = next(&mut right).await;
    assert_eq!(c.data, b"2");
    c.ack(BasicAckOptions::default()).await.unwrap();
    assert_eq!(next(&mut right).await.data, b"3");
}

#[tokio::test]
async fn requeued_messages_take_their_place() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    queue(&channel, "order", false, FieldTable::default()).await;
    for n in 0..4 {
        publish(&channel, "", "order", n.to_string().as_bytes()).await;
    }
    let held = [get(&channel, "order").await, get(&channel, "order").await, get(&channel, "order").await];
    held[2].nack(BasicNackOptions { requeue: true, multiple: false }).await.unwrap();
    held[1].nack(BasicNackOptions { requeue: false, multiple: false }).await.unwrap();
    held[0].reject(BasicRejectOptions { requeue: true }).await.unwrap();
    for (body, redelivered) in [("0", true), ("2", true), ("3", false)] {
        let message = get(&channel, "order").await;
        assert_eq!((&message.data[..], message.redelivered), (body.as_bytes(), redelivered));
    }
}

#[tokio::test]
async fn transactions() {
    let node = Node::start();
    let (connection, channel) = connect(&node).await;
    let other = connection.create_channel().await.unwrap();
    queue(&channel, "tx", false, FieldTable::default()).await;
    channel.tx_select().await.unwrap();
    publish(&channel, "", "tx", b"dropped").await;
    channel.tx_rollback().await.unwrap();
    publish(&channel, "", "tx", b"kept").await;
    assert!(drain(&other, "tx").await.is_empty());
    channel.tx_commit().await.unwrap();
    assert_eq!(drain(&other, "tx").await, ["kept"]);
}

#[tokio::test]
async fn routing_by_topic_headers_and_fanout() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    for name in ["topic", "headers", "fanout"] {
        queue(&channel, name, false, FieldTable::default()).await;
    }
    bind(&channel, "topic", "amq.topic", "a.*.#", FieldTable::default()).await;
    let wanted = arguments(&[("x-match", text("all")), ("n", AMQPValue::LongInt(1))]);
    bind(&channel, "headers", "amq.headers", "", wanted).await;
    bind(&channel, "fanout", "amq.fanout", "", FieldTable::default()).await;
    for key in ["a", "a.b", "a.b.c", "b.a.c"] {
        publish(&channel, "amq.topic", key, key.as_bytes()).await;
    }
    for n in 0..3 {
        let properties = BasicProperties::default().with_headers(arguments(&[("n", AMQPValue::LongInt(n))]));
        publish_with(&channel, "amq.headers", "", n.to_string().as_bytes(), properties).await;
    }
    publish(&channel, "amq.fanout", "any", b"all").await;
    assert_eq!(drain(&channel, "topic").await, ["a.b", "a.b.c"]);
    assert_eq!(drain(&channel, "headers").await, ["1"]);
    assert_eq!(drain(&channel, "fanout").await, ["all"]);
}

#[tokio::test]
async fn exchanges_lead_to_exchanges_and_have_alternates() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    let declare = |name: &'static str, kind, with| {
        channel.exchange_declare(name.into(), kind, ExchangeDeclareOptions::default(), with)
    };
    declare("rest", ExchangeKind::Fanout, FieldTable::default()).await.unwrap();
    declare("in", ExchangeKind::Direct, arguments(&[("alternate-exchange", text("rest"))])).await.unwrap();
    declare("out", ExchangeKind::Fanout, FieldTable::default()).await.unwrap();
    let options = ExchangeBindOptions::default();
    channel.exchange_bind("out".into(), "in".into(), "key".into(), options, FieldTable::default()).await.unwrap();
    for (name, exchange) in [("through", "out"), ("left", "rest")] {
        queue(&channel, name, false, FieldTable::default()).await;
        bind(&channel, name, exchange, "", FieldTable::default()).await;
    }
    publish(&channel, "in", "key", b"1").await;
    publish(&channel, "in", "other", b"2").await;
    assert_eq!(drain(&channel, "through").await, ["1"]);
    assert_eq!(drain(&channel, "left").await, ["2"]);
}

#[tokio::test]
async fn dead_letters_carry_their_history() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    queue(&channel, "dead", false, FieldTable::default()).await;
    let with = arguments(&[
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
        ("x-message-ttl", AMQPValue::LongInt(10)),
    ]);
    queue(&channel, "short", false, with).await;
    publish(&channel, "", "short", b"x").await;
    let mut consumer = consume(&channel, "dead", true).await;
    let message = next(&mut consumer).await;
    let headers = message.properties.headers().clone().expect("headers");
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { panic!("{headers:?}") };
    let [AMQPValue::FieldTable(death)] = deaths.as_slice() else { panic!("{deaths:?}") };
    let entry = |name: &str| death.inner().get(name).cloned();
    assert_eq!(entry("reason"), Some(text("expired")));
    assert_eq!(entry("queue"), Some(text("short")));
    assert_eq!(entry("count"), Some(AMQPValue::LongLongInt(1)));
}

#[tokio::test]
async fn priorities_come_first() {
    let node = Node::start();
    let (_connection, channel) = connect(&node).await;
    queue(&channel, "levels", false, arguments(&[("x-max-priority", AMQPValue::LongInt(10))])).await;
    for priority in [1, 9, 5] {
        let properties = BasicProperties::default().with_priority(priority);
        publish_with(&channel, "", "levels", priority.to_string().as_bytes(), properties).await;
    }
    assert_eq!(drain(&channel, "levels").await, ["9", "5", "1"]);
}

#[tokio::test]
async fn single_active_consumer_hands_over() {
    let node = Node::start();
    let (connection, channel) = connect(&node).await;
    queue(&channel, "one", false, arguments(&[("x-single-active-consumer", AMQPValue::Boolean(true))])).await;
    let other = connection.create_channel().await.unwrap();
    let mut first = consume(&channel, "one", true).await;
    let mut second = consume(&other, "one", true).await;
    publish(&channel, "", "one", b"1").await;
    assert_eq!(next(&mut first).await.data, b"1");
    channel.basic_cancel(first.tag(), BasicCancelOptions::default()).await.unwrap();
    publish(&channel, "", "one", b"2").await;
    assert_eq!(next(&mut second).await.data, b"2");
}

#[tokio::test]
async fn exclusive_queues_go_with_their_connection() {
    let node = Node::start();
    let (connection, channel) = connect(&node).await;
    let (_other, elsewhere) = connect(&node).await;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("mine".into(), options, FieldTable::default()).await.unwrap();
    let refused = elsewhere.queue_declare("mine".into(), options, FieldTable::default()).await.unwrap_err();
    assert!(refused.to_string().contains("RESOURCE_LOCKED"), "{refused}");
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test]
async fn replies_come_directly() {
    let node = Node::start();
    let (_connection, client) = connect(&node).await;
    let (_other, server) = connect(&node).await;
    queue(&server, "questions", false, FieldTable::default()).await;
    let mut replies = consume(&client, "amq.rabbitmq.reply-to", true).await;
    let mut questions = consume(&server, "questions", true).await;
    let properties = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    publish_with(&client, "", "questions", b"?", properties).await;
    let question = next(&mut questions).await;
    let to = question.properties.reply_to().clone().expect("a way back");
    publish(&server, "", to.as_str(), b"!").await;
    assert_eq!(next(&mut replies).await.data, b"!");
}
