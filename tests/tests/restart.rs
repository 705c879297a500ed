//! What a restart keeps, and what it does not.

use std::collections::VecDeque;

use black_box::{Closed, Node, Wire};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{confirm, connect, drain, publish, publish_persistent, queue, soon};
use crate::methods::{DECLARE_OK, DURABLE, PASSIVE, bind, confirm_select, declare, exchange};

async fn fill(node: &Node) {
    let (_connection, channel) = connect(node).await;
    confirm(&channel).await;
    queue(&channel, "durable", true, FieldTable::default()).await;
    queue(&channel, "transient", false, FieldTable::default()).await;
    for n in 0..100 {
        let body = format!("kept {n}");
        publish_persistent(&channel, "", "durable", body.as_bytes()).await;
        publish(&channel, "", "durable", b"not persistent").await;
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

/// One note of what a publisher was told: its number and the message's.
type Confirmed = (usize, u64);

const PUBLISHERS: usize = 3;

/// Publishes until the broker is gone, and tells of each confirm.
async fn publish_until_the_end(node_uri: String, round: usize, publisher: usize, told: UnboundedSender<Confirmed>) {
    const WINDOW: usize = 32;
    let Ok(connection) = Connection::connect(&node_uri, ConnectionProperties::default()).await else { return };
    let Ok(channel) = connection.create_channel().await else { return };
    let Ok(()) = channel.confirm_select(ConfirmSelectOptions::default()).await else { return };
    let mut window: VecDeque<(u64, PublisherConfirm)> = VecDeque::new();
    for number in 0_u64.. {
        let body = format!("{round}/{publisher}/{number}");
        let published = channel
            .basic_publish(
                "".into(),
                "load".into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                BasicProperties::default().with_delivery_mode(2),
            )
            .await;
        let Ok(waiting) = published else { return };
        window.push_back((number, waiting));
        if window.len() < WINDOW {
            continue;
        }
        let Some((number, waiting)) = window.pop_front() else { return };
        match waiting.await {
            Ok(Confirmation::Ack(None)) if told.send((publisher, number)).is_ok() => {}
            Ok(other) => panic!("publisher {publisher}, message {number}: {other:?}"),
            Err(_) => return,
        }
    }
}

/// What must be in the queue after a round, and in which order.
fn check_round(round: usize, bodies: &[String], confirmed: &[Confirmed]) {
    let mut found: Vec<Vec<u64>> = vec![Vec::new(); PUBLISHERS];
    for body in bodies {
        let parts: Vec<usize> = body.split('/').map(|part| part.parse().unwrap()).collect();
        assert_eq!(parts[0], round, "a message of an earlier round came back: {body}");
        found[parts[1]].push(parts[2] as u64);
    }
    for (publisher, numbers) in found.iter().enumerate() {
        assert!(numbers.is_sorted_by(|a, b| a < b), "round {round}, publisher {publisher}: {numbers:?}");
    }
    let lost: Vec<&Confirmed> =
        confirmed.iter().filter(|(publisher, number)| found[*publisher].binary_search(number).is_err()).collect();
    assert!(lost.is_empty(), "round {round}: {} of {} confirmed messages are lost: {lost:?}", lost.len(), confirmed.len());
}

/// `kill -9` while publishers are busy, again and again on the same data. `WARREN_ROUNDS` says how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let rounds = std::env::var("WARREN_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    let mut node = Node::start();
    {
        let (_connection, channel) = connect(&node).await;
        queue(&channel, "load", true, FieldTable::default()).await;
    }
    for round in 0..rounds {
        let (told, mut hears) = unbounded_channel();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| tokio::spawn(publish_until_the_end(node.uri(""), round, publisher, told.clone())))
            .collect();
        drop(told);
        let mut confirmed = Vec::new();
        // Each round ends at another moment.
        let enough = 100 + round * 379 % 1500;
        while confirmed.len() < enough {
            confirmed.push(soon(hears.recv()).await.expect("publishers go on"));
        }
        node.kill();
        while let Some(more) = hears.recv().await {
            confirmed.push(more);
        }
        for publisher in publishers {
            publisher.await.unwrap();
        }
        node.resume();
        let (_connection, channel) = connect(&node).await;
        check_round(round, &drain(&channel, "load").await, &confirmed);
        // Taken is taken: a confirm behind the acks makes them durable too.
        confirm(&channel).await;
        publish_persistent(&channel, "", "load", b"last").await;
        assert_eq!(drain(&channel, "load").await, ["last"]);
        channel.queue_purge("load".into(), QueuePurgeOptions::default()).await.unwrap();
    }
}

/// Ten messages of which a consumer has seen five; gives the redelivered flags after `end` and a start.
async fn flags_after(end: fn(&mut Node)) -> Vec<bool> {
    let mut node = Node::start();
    let (_connection, channel) = connect(&node).await;
    confirm(&channel).await;
    queue(&channel, "seen", true, FieldTable::default()).await;
    for n in 0..10 {
        publish_persistent(&channel, "", "seen", format!("{n}").as_bytes()).await;
    }
    channel.basic_qos(5, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume("seen".into(), "c".into(), options, FieldTable::default()).await.unwrap();
    for _ in 0..5 {
        assert!(!soon(consumer.next()).await.unwrap().unwrap().redelivered);
    }
    end(&mut node);
    node.resume();
    let (_connection, channel) = connect(&node).await;
    let mut flags = Vec::new();
    while let Some(message) = soon(channel.basic_get("seen".into(), BasicGetOptions::default())).await.unwrap() {
        assert_eq!(message.delivery.data, format!("{}", flags.len()).as_bytes());
        flags.push(message.delivery.redelivered);
    }
    assert_eq!(flags.len(), 10);
    flags
}

#[tokio::test]
async fn what_was_seen_is_not_fresh_after_a_kill() {
    let flags = flags_after(Node::kill).await;
    assert_eq!(flags[..5], [true; 5], "{flags:?}");
}

#[tokio::test]
async fn what_was_seen_is_not_fresh_after_a_stop_and_the_rest_is() {
    let flags = flags_after(Node::stop).await;
    assert_eq!(flags, [true, true, true, true, true, false, false, false, false, false]);
}

/// Definitions of all kinds outlive a kill; what is transient does not.
#[test]
fn definitions_are_kept() {
    let mut node = Node::start();
    node.put("/api/vhosts/demo", r#"{"description": "kept"}"#);
    node.put("/api/users/alice", r#"{"password": "secret", "tags": "monitoring"}"#);
    node.put("/api/permissions/demo/alice", r#"{"configure": ".*", "write": ".*", "read": ".*"}"#);
    node.put("/api/policies/demo/short", r#"{"pattern": "^q", "definition": {"max-length": 2}, "apply-to": "queues"}"#);
    let mut wire = Wire::open_as(node.amqp(), "alice", "secret", "demo").unwrap();
    wire.method(1, &exchange("x", "topic", DURABLE, &[]));
    wire.method(1, &exchange("gone", "topic", 0, &[]));
    wire.method(1, &declare("q", DURABLE, &[]));
    wire.method(1, &bind("q", "x", "a.#"));
    wire.expect((50, 21));
    node.kill();
    node.resume();
    let mut wire = Wire::open_as(node.amqp(), "alice", "secret", "demo").unwrap();
    wire.method(1, &confirm_select());
    for _ in 0..3 {
        wire.publish("x", "a.b", 0, &[], b"routed");
    }
    let mut confirmed = 0;
    while confirmed < 3 {
        confirmed = wire.expect((60, 80)).payload[11];
    }
    wire.method(1, &declare("q", PASSIVE, &[]));
    let answer = wire.expect(DECLARE_OK).payload;
    assert_eq!(answer[answer.len() - 8..][..4], [0, 0, 0, 2], "three were routed, the policy keeps two");
    wire.method(1, &exchange("gone", "topic", PASSIVE, &[]));
    assert!(matches!(wire.closed(), Closed::Channel(404, _)));
}
