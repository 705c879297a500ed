//! What `message_stats` count: what clients publish and take, each once, for good.

use black_box::{Cluster, Method, Node, http, until};
use serde_json::{Value as Json, json};

use crate::cluster::{Client, api};
use crate::methods::{DECLARE_OK, EXCLUSIVE, NO_ACK, bind, consume, declare, exchange};

const EXCHANGE_OK: (u16, u16) = (40, 11);
const BIND_OK: (u16, u16) = (50, 21);
const CONSUME_OK: (u16, u16) = (60, 21);
const DELIVER: (u16, u16) = (60, 60);
const RETURN: (u16, u16) = (60, 50);
const CLOSE_OK: (u16, u16) = (10, 51);

/// A client with so many exclusive queues bound to the fanout exchange `news`.
#[track_caller]
fn reader(node: &Node, queues: usize) -> Client {
    let mut client = Client::of(node);
    client.ask(&exchange("news", "fanout", 0, &[]), EXCHANGE_OK).unwrap();
    for number in 0..queues {
        let name = format!("reader {number}");
        client.ask(&declare(&name, EXCLUSIVE, &[]), DECLARE_OK).unwrap();
        client.ask(&bind(&name, "news", ""), BIND_OK).unwrap();
    }
    client
}

/// Publishes, and waits for what comes back.
#[track_caller]
fn publish(client: &mut Client, exchange: &str, key: &str, count: usize, mandatory: bool) {
    let method = Method::new(60, 40).short(0).text(exchange).text(key).octet(u8::from(mandatory));
    for _ in 0..count {
        client.0.method(1, &method);
        client.0.frame(2, 1, Method::new(60, 0).long_long(1).short(0).bytes());
        client.0.frame(3, 1, b"x");
    }
    if mandatory {
        (0..count).for_each(|_| drop(client.0.expect(RETURN)));
    }
}

#[track_caller]
fn close(mut client: Client) {
    client.0.method(0, &Method::new(10, 50).short(200).text("").short(0).short(0));
    client.0.expect(CLOSE_OK);
}

/// Some numbers of an object's `message_stats`, 0 for what is not there.
fn numbers<const N: usize>(object: &Json, names: [&str; N]) -> [u64; N] {
    names.map(|name| object["message_stats"][name].as_u64().unwrap_or(0))
}

#[track_caller]
fn shows<const N: usize>(node: &Node, path: &str, names: [&str; N], wanted: [u64; N]) {
    until(&format!("{path} counts {wanted:?} as {names:?}"), || {
        (numbers(&api(node, path), names) == wanted).then_some(())
    });
}

#[test]
fn a_publish_counts_once_however_many_queues_take_it_and_stays_when_they_go() {
    let node = Node::start();
    let readers = reader(&node, 5);
    let mut publisher = Client::of(&node).confirms();
    publish(&mut publisher, "news", "", 100, false);
    let all = ["publish", "confirm"];
    shows(&node, "/api/overview", all, [100, 100]);
    shows(&node, "/api/vhosts/%2f", all, [100, 100]);
    shows(&node, "/api/exchanges/%2f/news", ["publish_in", "publish_out"], [100, 500]);
    close(readers);
    assert_eq!(api(&node, "/api/queues"), json!([]));
    for path in ["/api/overview", "/api/vhosts/%2f"] {
        assert_eq!(numbers(&api(&node, path), all), [100, 100], "{path} after the queues have gone");
    }
    close(publisher);
    for path in ["/api/overview", "/api/vhosts/%2f"] {
        assert_eq!(numbers(&api(&node, path), all), [100, 100], "{path} after the publisher has gone");
    }
    let exchanges = api(&node, "/api/exchanges/%2f");
    let news = exchanges.as_array().unwrap().iter().find(|exchange| exchange["name"] == "news").unwrap();
    assert_eq!(numbers(news, ["publish_in", "publish_out"]), [100, 500]);
}

#[test]
fn what_no_queue_takes_counts_as_dropped_or_returned() {
    let node = Node::start();
    let mut publisher = Client::of(&node).confirms();
    publish(&mut publisher, "amq.direct", "nowhere", 50, false);
    publish(&mut publisher, "amq.direct", "nowhere", 20, true);
    let names = ["publish", "confirm", "drop_unroutable", "return_unroutable"];
    for path in ["/api/overview", "/api/vhosts/%2f"] {
        shows(&node, path, names, [70, 70, 50, 20]);
    }
    shows(&node, "/api/exchanges/%2f/amq.direct", ["publish_in", "publish_out"], [70, 0]);
}

#[test]
fn virtual_hosts_have_counters_and_bytes_of_their_own() {
    let node = Node::start();
    node.put("/api/vhosts/other", "{}");
    node.put("/api/permissions/other/guest", r#"{"configure":".*","write":".*","read":".*"}"#);
    let mut client = Client::of_user(&node, "guest", "other");
    client.declare("q", 0);
    for body in ["one", "two"] {
        client.0.publish("", "q", 0, &[], body.as_bytes());
    }
    client.ask(&consume("q", "tag", NO_ACK), CONSUME_OK).unwrap();
    (0..2).for_each(|_| drop(client.0.expect(DELIVER)));
    let names = ["publish", "deliver_no_ack", "deliver_get"];
    shows(&node, "/api/vhosts/other", names, [2, 2, 2]);
    shows(&node, "/api/overview", names, [2, 2, 2]);
    close(client);
    let octets = |vhost: &str| {
        let shown = api(&node, &format!("/api/vhosts/{vhost}"));
        ["recv_oct", "send_oct"].map(|name| shown[name].as_u64().unwrap())
    };
    assert!(octets("other").iter().all(|bytes| *bytes > 100), "{:?}", octets("other"));
    assert_eq!(octets("%2f"), [0, 0]);
    assert!(api(&node, "/api/vhosts/%2f").get("message_stats").is_none());
}

#[test]
fn what_goes_over_http_counts_too() {
    let node = Node::start();
    Client::of(&node).declare("q", 0);
    for key in ["q", "nowhere"] {
        let message = json!({"properties": {}, "routing_key": key, "payload": "x", "payload_encoding": "string"});
        let (status, body) = http(node.http(), "POST", "/api/exchanges/%2f/amq.default/publish", &message.to_string());
        assert_eq!(status, 200, "{body}");
    }
    let get = r#"{"count":5,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let (status, body) = http(node.http(), "POST", "/api/queues/%2f/q/get", get);
    assert_eq!(status, 200, "{body}");
    let names = ["publish", "confirm", "return_unroutable", "get_no_ack", "get_empty", "deliver_get"];
    shows(&node, "/api/overview", names, [2, 2, 1, 1, 1, 1]);
}

#[test]
fn all_nodes_show_the_sums_of_all() {
    let cluster = Cluster::start(2);
    let readers = reader(&cluster[0], 3);
    for node in cluster.iter() {
        publish(&mut Client::of(node), "news", "", 10, false);
    }
    for node in cluster.iter() {
        shows(node, "/api/overview", ["publish"], [20]);
        shows(node, "/api/vhosts/%2f", ["publish"], [20]);
        shows(node, "/api/exchanges/%2f/news", ["publish_in", "publish_out"], [20, 60]);
    }
    close(readers);
}
