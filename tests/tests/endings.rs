//! What is gone when a client hears that its channel or its connection is closed: whoever comes then, under the
//! same names, finds nothing of it.

use black_box::{Closed, Cluster, Method, Node, http, until};

use crate::cluster::{Client, api};
use crate::methods::{AUTO_DELETE, DECLARE_OK, EXCLUSIVE, PASSIVE, ack, consume, declare};

const CONSUME_OK: (u16, u16) = (60, 21);
const CANCEL_OK: (u16, u16) = (60, 31);
const DELIVER: (u16, u16) = (60, 60);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const CHANNEL_CLOSE_OK: (u16, u16) = (20, 41);
const CONNECTION_CLOSE_OK: (u16, u16) = (10, 51);
/// What was missed before was missed nearly always; a few rounds leave nothing to luck.
const ROUNDS: usize = 10;

fn close_channel() -> Method {
    Method::new(20, 40).short(200).text("").short(0).short(0)
}

fn close_connection() -> Method {
    Method::new(10, 50).short(200).text("").short(0).short(0)
}

/// A client that consumes from a queue which goes with its consumer.
#[track_caller]
fn consumer(node: &Node, queue: &str) -> Client {
    let mut client = Client::of(node);
    client.ask(&declare(queue, AUTO_DELETE, &[]), DECLARE_OK).unwrap();
    client.ask(&consume(queue, "tag", 0), CONSUME_OK).unwrap();
    client
}

#[track_caller]
fn owner(node: &Node, queue: &str) -> Client {
    let mut client = Client::of(node);
    client.ask(&declare(queue, EXCLUSIVE, &[]), DECLARE_OK).unwrap();
    client
}

#[track_caller]
fn is_gone(other: &mut Client, queue: &str) {
    match other.ask(&declare(queue, PASSIVE, &[]), DECLARE_OK) {
        Err(Closed::Channel(404, _)) => {}
        found => panic!("'{queue}' is still there: {found:?}"),
    }
}

/// A fault of the channel: a delivery that there never was.
fn soft_error() -> Method {
    ack(99)
}

/// A fault of the connection: a second `channel.open`.
fn hard_error() -> Method {
    Method::new(20, 10).text("")
}

#[test]
fn auto_delete_queues_are_gone_when_their_channel_or_connection_is_closed() {
    let node = Node::start();
    let mut other = Client::of(&node);
    for _ in 0..ROUNDS {
        let mut client = consumer(&node, "q");
        client.ask(&close_channel(), CHANNEL_CLOSE_OK).unwrap();
        is_gone(&mut other, "q");
        let mut client = consumer(&node, "q");
        client.0.method(0, &close_connection());
        client.0.expect(CONNECTION_CLOSE_OK);
        is_gone(&mut other, "q");
    }
}

#[test]
fn auto_delete_queues_are_gone_when_the_broker_closes_for_a_fault() {
    let node = Node::start();
    let mut other = Client::of(&node);
    for _ in 0..ROUNDS {
        let mut client = consumer(&node, "q");
        client.0.method(1, &soft_error());
        assert!(matches!(client.0.closed(), Closed::Channel(406, _)));
        is_gone(&mut other, "q");
        let mut client = consumer(&node, "q");
        client.0.method(1, &hard_error());
        assert!(matches!(client.0.closed(), Closed::Connection(504, _)));
        is_gone(&mut other, "q");
    }
}

#[test]
fn exclusive_queues_are_gone_when_the_broker_closes_for_a_fault_or_an_operator() {
    let node = Node::start();
    let mut other = Client::of(&node);
    for _ in 0..ROUNDS {
        let mut client = owner(&node, "mine");
        client.0.method(1, &hard_error());
        assert!(matches!(client.0.closed(), Closed::Connection(504, _)));
        is_gone(&mut other, "mine");
    }
    let mut client = owner(&node, "mine");
    let _ = node.ctl(&["close_all_connections", "enough"]).success();
    assert!(matches!(client.0.closed(), Closed::Connection(320, _)));
    other = Client::of(&node);
    is_gone(&mut other, "mine");
    let of_other = api(&node, "/api/connections?columns=name");
    let of_other = of_other[0]["name"].as_str().expect("it is listed").to_owned();
    for _ in 0..ROUNDS {
        let mut client = owner(&node, "mine");
        let name = until("the client is listed", || {
            let listed = api(&node, "/api/connections?columns=name");
            let names = listed.as_array()?.iter().filter_map(|entry| entry["name"].as_str());
            names.map(str::to_owned).find(|name| *name != of_other)
        });
        let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
        assert_eq!(http(node.http(), "DELETE", &path, "").0, 204);
        assert!(matches!(client.0.closed(), Closed::Connection(320, _)));
        is_gone(&mut other, "mine");
    }
}

#[test]
fn an_exclusive_queue_that_goes_with_its_consumer_is_declared_anew_on_the_next_channel() {
    let node = Node::start();
    let mut client = Client::of(&node);
    for _ in 0..ROUNDS {
        client.ask(&declare("mine", EXCLUSIVE | AUTO_DELETE, &[]), DECLARE_OK).unwrap();
        client.ask(&consume("mine", "", 0), CONSUME_OK).unwrap();
        // All in one: the next life of the channel's number waits for the end of the one before.
        client.0.method(1, &close_channel());
        client.0.method(1, &Method::new(20, 10).text(""));
        client.0.expect(CHANNEL_CLOSE_OK);
        client.0.expect(CHANNEL_OPEN_OK);
        is_gone(&mut client, "mine");
    }
}

/// The others of a shared queue get what was not acknowledged, in its place, and what was published before the end.
#[test]
fn what_a_consumer_leaves_behind_goes_to_the_others_in_order() {
    let node = Node::start();
    let mut leaving = Client::of(&node);
    leaving.ask(&declare("shared", AUTO_DELETE, &[]), DECLARE_OK).unwrap();
    for n in 0..5 {
        leaving.0.publish("", "shared", 0, &[], n.to_string().as_bytes());
    }
    leaving.ask(&consume("shared", "", 0), CONSUME_OK).unwrap();
    for _ in 0..5 {
        leaving.0.expect(DELIVER);
    }
    leaving.0.method(1, &ack(2));
    let mut staying = Client::of(&node);
    staying.ask(&consume("shared", "", 0), CONSUME_OK).unwrap();
    leaving.0.method(1, &close_channel());
    leaving.0.expect(CHANNEL_CLOSE_OK);
    let mut bodies = Vec::new();
    for _ in 0..4 {
        staying.0.expect(DELIVER);
        bodies.push(staying.body());
    }
    assert_eq!(bodies, ["0", "2", "3", "4"]);
}

/// All queues are asked at once: one after another they would take longer than anybody waits.
#[test]
fn a_connection_with_many_consumers_closes_in_one_wait() {
    let node = Node::start();
    let mut client = Client::of(&node);
    for n in 0..300 {
        client.0.method(1, &declare(&format!("q{n}"), AUTO_DELETE, &[]));
        client.0.method(1, &consume(&format!("q{n}"), "", 0));
    }
    for _ in 0..300 {
        client.0.expect(CONSUME_OK);
    }
    client.0.method(0, &close_connection());
    client.0.expect(CONNECTION_CLOSE_OK);
    assert_eq!(api(&node, "/api/queues?columns=name"), serde_json::json!([]));
}

/// At a node whose tables lag behind those of the node that led the queue.
#[test]
fn a_queue_that_deleted_itself_elsewhere_is_declared_anew_at_any_node() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = cluster.iter().map(Client::of).collect();
    for round in 0..ROUNDS * 5 {
        let (first, second) = (round % 3, (round + 1) % 3);
        let queue = format!("q{round}");
        clients[first].ask(&declare(&queue, AUTO_DELETE, &[]), DECLARE_OK).unwrap();
        clients[second].ask(&declare(&queue, AUTO_DELETE, &[]), DECLARE_OK).unwrap();
        clients[first].ask(&consume(&queue, "tag", 0), CONSUME_OK).unwrap();
        clients[first].ask(&Method::new(60, 30).text("tag").octet(0), CANCEL_OK).unwrap();
        clients[second].ask(&declare(&queue, AUTO_DELETE, &[]), DECLARE_OK).unwrap();
        clients[second].ask(&consume(&queue, "tag", 0), CONSUME_OK).unwrap();
        clients[second].ask(&Method::new(60, 30).text("tag").octet(0), CANCEL_OK).unwrap();
        is_gone(&mut clients[second], &queue);
    }
}
