//! Messages published over HTTP meet the rules of those that clients publish; those taken over HTTP are not lost with
//! who took them.

use std::io::Write;
use std::net::TcpStream;

use black_box::{Method, Node, Value, Wire, http};
use serde_json::{Value as Json, json};

use crate::methods::{DECLARE_OK, NO_ACK, PASSIVE, consume, declare, exchange, get};

const GET_OK: (u16, u16) = (60, 71);
const DELIVER: (u16, u16) = (60, 60);

/// Publishes and gives status and body.
#[track_caller]
fn publish(node: &Node, exchange: &str, key: &str, properties: Json) -> (u16, Json) {
    let body = json!({"routing_key": key, "properties": properties, "payload": "x", "payload_encoding": "string"});
    let path = format!("/api/exchanges/%2F/{exchange}/publish");
    let (status, body) = http(node.http(), "POST", &path, &body.to_string());
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// What is in a queue, taken out.
#[track_caller]
fn contents(node: &Node, queue: &str) -> Vec<Json> {
    let body = r#"{"count": 10, "ackmode": "ack_requeue_false", "encoding": "auto"}"#;
    let (status, body) = http(node.http(), "POST", &format!("/api/queues/%2F/{queue}/get"), body);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("a list")
}

fn refused(reason: &str) -> (u16, Json) {
    (400, json!({"error": "bad_request", "reason": reason}))
}

fn routed(yes: bool) -> (u16, Json) {
    (200, json!({"routed": yes}))
}

#[test]
fn cc_and_bcc_of_a_message_by_http_route_it_and_bcc_stays_here() {
    let node = Node::start();
    for queue in ["to", "cc", "bcc"] {
        node.put(&format!("/api/queues/%2F/{queue}"), "{}");
    }
    let headers = json!({"headers": {"CC": ["cc"], "BCC": ["bcc"]}});
    assert_eq!(publish(&node, "amq.default", "to", headers), routed(true));
    for queue in ["to", "cc", "bcc"] {
        let found = contents(&node, queue);
        assert_eq!(found.len(), 1, "{queue}");
        assert_eq!(found[0]["properties"], json!({"headers": {"CC": ["cc"]}}), "{queue}");
    }
    let headers = json!({"headers": {"CC": ["cc"]}});
    assert_eq!(publish(&node, "amq.default", "nowhere", headers), routed(true));
    assert_eq!(publish(&node, "amq.default", "nowhere", json!({})), routed(false));
}

#[test]
fn what_a_channel_refuses_is_refused_by_http_in_the_same_words() {
    let node = Node::start();
    node.put("/api/queues/%2F/q", "{}");
    for (properties, reason) in [
        (json!({"expiration": "zz"}), "406 PRECONDITION_FAILED - invalid expiration 'zz': no_integer"),
        (json!({"expiration": "-1"}), "406 PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1}"),
        (
            json!({"headers": {"CC": "x"}}),
            "406 PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
        ),
        (
            json!({"reply_to": "amq.rabbitmq.reply-to"}),
            "406 PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
    ] {
        assert_eq!(publish(&node, "amq.default", "q", properties), refused(reason));
    }
    let long = "k".repeat(256);
    assert_eq!(publish(&node, "amq.default", &long, json!({})), refused("the routing key is longer than 255 bytes"));
    assert_eq!(contents(&node, "q"), Vec::<Json>::new());
}

#[test]
fn a_full_queue_that_rejects_refuses_a_message_by_http() {
    let node = Node::start();
    node.put("/api/queues/%2F/full", r#"{"arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}"#);
    assert_eq!(publish(&node, "amq.default", "full", json!({})), routed(true));
    let reason = "rejected Unable to publish message. Check queue limits.";
    assert_eq!(publish(&node, "amq.default", "full", json!({})), refused(reason));
}

#[test]
fn a_message_by_http_waits_at_a_delayed_exchange() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    let kind = [("x-delayed-type", Value::Text("direct"))];
    wire.method(1, &exchange("later", "x-delayed-message", 0, &kind));
    wire.expect((40, 11));
    wire.method(1, &declare("q", 0, &[]));
    wire.expect(DECLARE_OK);
    node.put("/api/queues/%2F/q", "{}");
    let (status, body) = http(node.http(), "POST", "/api/bindings/%2F/e/later/q/q", r#"{"routing_key": "k"}"#);
    assert_eq!(status, 201, "{body}");
    let hour = json!({"headers": {"x-delay": 3_600_000}});
    assert_eq!(publish(&node, "later", "k", hour), routed(true));
    assert_eq!(publish(&node, "later", "k", json!({"message_id": "at once"})), routed(true));
    let found = contents(&node, "q");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["properties"]["message_id"], "at once");
}

#[test]
fn a_reply_by_http_reaches_the_client_that_asked() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &declare("requests", 0, &[]));
    wire.expect(DECLARE_OK);
    wire.method(1, &consume("amq.rabbitmq.reply-to", "replies", NO_ACK));
    wire.expect((60, 21));
    let reply_to = Method::new(0, 0).text("amq.rabbitmq.reply-to").bytes()[4..].to_vec();
    wire.publish("", "requests", 1 << 9, &reply_to, b"question");
    // The get is answered behind the publish, so it is there.
    wire.method(1, &get("requests"));
    wire.expect(GET_OK);
    let header = wire.next().expect("a header");
    let token = String::from_utf8_lossy(&header.payload[15..]).into_owned();
    assert!(token.starts_with("amq.rabbitmq.reply-to."), "{token}");
    assert_eq!(publish(&node, "amq.default", &token, json!({})), routed(true));
    wire.expect(DELIVER);
    wire.next().expect("a header");
    assert_eq!(wire.next().expect("a body").payload, b"x");
}

#[test]
fn what_a_client_that_hung_up_was_to_get_goes_to_others() {
    const COUNT: usize = 5000;
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &declare("q", 0, &[]));
    wire.expect(DECLARE_OK);
    for _ in 0..COUNT {
        wire.publish("", "q", 0, &[], b"x");
    }
    // The get is answered behind the publishes, so they are there.
    wire.method(1, &get("q"));
    wire.expect(GET_OK);
    let body = format!(r#"{{"count": {COUNT}, "ackmode": "ack_requeue_true", "encoding": "auto"}}"#);
    let mut client = TcpStream::connect(node.http()).expect("the API listens");
    let request = format!(
        "POST /api/queues/%2F/q/get HTTP/1.1\r\nhost: x\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).expect("the API reads");
    client.set_nonblocking(true).expect("a socket");
    // It hangs up when the get has begun, if it is not over by then.
    while client.peek(&mut [0]).is_err() {
        wire.method(1, &declare("q", PASSIVE, &[]));
        let answer = wire.expect(DECLARE_OK);
        let ready = answer.payload[6..].first_chunk().map(|count| u32::from_be_bytes(*count));
        if ready.expect("a count") < COUNT as u32 - 1 {
            break;
        }
    }
    drop(client);
    wire.method(1, &consume("q", "c", NO_ACK));
    wire.expect((60, 21));
    // One came by the get above.
    for _ in 1..COUNT {
        wire.expect(DELIVER);
    }
}
