//! What a restart keeps, and what it does not.

use black_box::Node;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::client::{connect, confirm, drain, queue};

async fn fill(node: &Node) {
    let (_connection, channel) = connect(node).await;
    confirm(&channel).await;
    queue(&channel, "durable", true, FieldTable::default()).await;
    queue(&channel, "transient", false, FieldTable::default()).await;
    for n in 0..100 {
        let body = format!("kept {n}");
        crate::client::publish_persistent(&channel, "", "durable", body.as_bytes()).await;
        crate::client::publish(&channel, "", "durable", b"not persistent").await;
    }
}

async fn check(node: &Node) {
    let (connection, channel) = connect(node).await;
    let bodies = drain(&channel, "durable").await;
    let expected: Vec<String> = (0..100).map(|n| format!("kept {n}")).collect();
    assert_eq!(bodies, expected);
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let error = channel.queue_declare("transient".into(), options, FieldTable::default()).await.unwrap_err();
    assert!(error.to_string().contains("NOT_FOUND - no queue 'transient' in vhost '/'"), "{error}");
    let channel = connection.create_channel().await.unwrap();
    assert!(channel.basic_get("durable".into(), BasicGetOptions::default()).await.unwrap().is_none());
}

#[tokio::test]
async fn stopped_and_started() {
    let mut node = Node::start();
    fill(&node).await;
    node.stop();
    node.resume();
    check(&node).await;
}

#[tokio::test]
async fn killed_and_started() {
    let mut node = Node::start();
    fill(&node).await;
    node.kill();
    node.resume();
    check(&node).await;
}
