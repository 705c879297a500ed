//! A few words for lapin, the Rust client, that tests of several subjects use.

use std::time::Duration;

use black_box::Node;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// What a broker must answer within, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer, or a failed test: lapin itself waits for ever.
pub(crate) async fn soon<F: Future>(answer: F) -> F::Output {
    tokio::time::timeout(PATIENCE, answer).await.expect("the broker answers")
}

/// A connection with one channel.
pub(crate) async fn connect(node: &Node) -> (Connection, Channel) {
    let connection = soon(Connection::connect(&node.uri(""), ConnectionProperties::default())).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub(crate) async fn confirm(channel: &Channel) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
}

pub(crate) async fn queue(channel: &Channel, name: &str, durable: bool, arguments: FieldTable) -> lapin::Queue {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    soon(channel.queue_declare(name.into(), options, arguments)).await.unwrap()
}

/// Publishes and waits for the confirm, if the channel has them.
pub(crate) async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) {
    publish_with(channel, exchange, key, body, BasicProperties::default()).await;
}

pub(crate) async fn publish_persistent(channel: &Channel, exchange: &str, key: &str, body: &[u8]) {
    publish_with(channel, exchange, key, body, BasicProperties::default().with_delivery_mode(2)).await;
}

pub(crate) async fn publish_with(channel: &Channel, exchange: &str, key: &str, body: &[u8], with: BasicProperties) {
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(exchange.into(), key.into(), options, body, with).await.unwrap();
    let confirmation = soon(published).await.unwrap();
    assert!(!matches!(confirmation, Confirmation::Nack(_)), "{confirmation:?}");
}

/// Gets and acks everything that is ready.
pub(crate) async fn drain(channel: &Channel, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = soon(channel.basic_get(queue.into(), options)).await.unwrap() {
        bodies.push(String::from_utf8(message.delivery.data).unwrap());
    }
    bodies
}
