//! A few words for lapin, the Rust client, that tests of several subjects use.

use black_box::Node;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// A connection with one channel.
pub(crate) async fn connect(node: &Node) -> (Connection, Channel) {
    let connection = Connection::connect(&node.uri(""), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub(crate) async fn confirm(channel: &Channel) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
}

pub(crate) async fn queue(channel: &Channel, name: &str, durable: bool, arguments: FieldTable) -> lapin::Queue {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await.unwrap()
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
    let confirmation = published.await.unwrap();
    assert!(!matches!(confirmation, Confirmation::Nack(_)), "{confirmation:?}");
}

/// Gets and acks everything that is ready.
pub(crate) async fn drain(channel: &Channel, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
        bodies.push(String::from_utf8(message.delivery.data).unwrap());
    }
    bodies
}
