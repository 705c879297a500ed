//! What the broker answers to bytes that no client library sends.

use std::time::{Duration, Instant};

use black_box::{Closed, Method, Node, Wire};

use crate::methods::{DECLARE_OK, confirm_select, declare};

const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const START: (u16, u16) = (10, 10);

#[test]
fn a_wrong_header_is_answered_with_the_right_one() {
    let node = Node::start();
    for header in [&b"AMQP\x00\x01\x00\x00"[..], b"AMQP\x01\x01\x00\x0a", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut wire = Wire::connect(node.amqp());
        wire.send(header);
        assert_eq!(wire.rest(), HEADER, "{header:?}");
    }
}

#[test]
fn a_large_frame_before_login_ends_the_connection_without_a_word() {
    let node = Node::start();
    let mut wire = Wire::connect(node.amqp());
    wire.send(HEADER);
    wire.expect(START);
    wire.frame(1, 0, &vec![b'x'; 1 << 20]);
    assert_eq!(wire.rest(), b"");
}

#[test]
fn before_login_time_is_limited() {
    let node = Node::configured("handshake_timeout = 500\n");
    let started = Instant::now();
    let mut silent = Wire::connect(node.amqp());
    let mut slow = Wire::connect(node.amqp());
    slow.send(HEADER);
    slow.expect(START);
    slow.send(&[1, 0, 0]);
    assert_eq!(silent.rest(), b"");
    assert_eq!(slow.rest(), b"");
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(450), "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    // Who has logged in is not meant.
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &declare("", 0, &[]));
    wire.expect(DECLARE_OK);
}

#[test]
fn a_frame_that_does_not_end_is_an_error() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.send(&[1, 0, 1, 0, 0, 0, 4, 0, 20, 0, 10, 0]);
    let closed = wire.closed();
    assert!(matches!(&closed, Closed::Connection(501, text) if text.starts_with("FRAME_ERROR - ")), "{closed:?}");
}

#[test]
fn frames_are_no_larger_than_agreed() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.frame(3, 1, &vec![b'x'; 200_000]);
    let closed = wire.closed();
    assert!(matches!(&closed, Closed::Connection(501, text) if text.starts_with("FRAME_ERROR - ")), "{closed:?}");
}

#[test]
fn arguments_must_be_whole() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &Method::new(50, 10).short(0).octet(200));
    let closed = wire.closed();
    assert!(matches!(&closed, Closed::Connection(502, text) if text.starts_with("SYNTAX_ERROR")), "{closed:?}");
}

#[test]
fn a_body_comes_after_its_header() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.frame(3, 1, b"body");
    let closed = wire.closed();
    assert!(matches!(&closed, Closed::Connection(505, text) if text.starts_with("UNEXPECTED_FRAME - ")), "{closed:?}");
}

#[test]
fn a_channel_is_opened_first() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.method(7, &declare("q", 0, &[]));
    let expected = "CHANNEL_ERROR - expected 'channel.open'".to_owned();
    assert_eq!(wire.closed(), Closed::Connection(504, expected));
}

#[test]
fn a_channel_is_opened_once() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &Method::new(20, 10).text(""));
    let expected = "CHANNEL_ERROR - second 'channel.open' seen".to_owned();
    assert_eq!(wire.closed(), Closed::Connection(504, expected));
}

#[test]
fn methods_behind_a_declaration_wait_their_turn() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    for round in 0..20 {
        wire.method(1, &declare(&format!("new-{round}"), 0, &[]));
        wire.method(1, &confirm_select());
        wire.expect(DECLARE_OK);
        wire.expect((85, 11));
    }
}

/// Logs in with a heartbeat of one second.
fn beating(node: &Node) -> Wire {
    let mut wire = Wire::connect(node.amqp());
    wire.send(HEADER);
    wire.expect(START);
    wire.start_ok("guest", "guest");
    wire.expect((10, 30));
    wire.method(0, &Method::new(10, 31).short(2047).long(131_072).short(1));
    wire.method(0, &Method::new(10, 40).text("/").text("").octet(0));
    wire.expect((10, 41));
    wire
}

#[test]
fn heartbeats_come_and_are_missed() {
    const HEARTBEAT: u8 = 8;
    let node = Node::start();
    let mut wire = beating(&node);
    // As long as we beat, so does the broker, and the connection lives.
    for _ in 0..6 {
        wire.frame(HEARTBEAT, 0, b"");
        let frame = wire.next_of_any_kind().expect("the connection lives");
        assert_eq!((frame.kind, frame.channel, &frame.payload[..]), (HEARTBEAT, 0, &b""[..]));
    }
    // When we stop, the broker gives up.
    let silent = Instant::now();
    wire.rest();
    assert!(silent.elapsed() < Duration::from_secs(10), "{:?}", silent.elapsed());
}

#[test]
fn a_stop_is_told() {
    let mut node = Node::start();
    let mut wire = Wire::open(node.amqp());
    node.terminate();
    let expected = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'".to_owned();
    assert_eq!(wire.closed(), Closed::Connection(320, expected));
    assert!(node.wait_for_end().success());
}
