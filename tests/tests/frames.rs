//! What the broker answers to bytes that no client library sends.

use black_box::{Node, Wire};

#[test]
fn a_wrong_header_is_answered_with_the_right_one() {
    let node = Node::start();
    for header in [&b"AMQP\x00\x01\x00\x00"[..], b"AMQP\x01\x01\x00\x0a", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut wire = Wire::connect(node.amqp());
        wire.send(header);
        assert_eq!(wire.rest(), b"AMQP\x00\x00\x09\x01", "{header:?}");
    }
}
