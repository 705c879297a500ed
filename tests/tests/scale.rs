//! Many of everything.

use black_box::{Node, Wire};

use crate::methods::{DECLARE_OK, PASSIVE, declare, get};

#[test]
fn a_thousand_connections() {
    let node = Node::start();
    let mut wires: Vec<Wire> = (0..1000).map(|_| Wire::open(node.amqp())).collect();
    wires[0].method(1, &declare("shared", 0, &[]));
    wires[0].expect(DECLARE_OK);
    for wire in &mut wires {
        wire.publish("", "shared", 0, &[], b"x");
    }
    // Each takes one message; a channel's own publish stands before its own question.
    for (n, wire) in wires.iter_mut().enumerate() {
        wire.method(1, &get("shared"));
        let answer = wire.next().expect("an answer").method();
        assert_eq!(answer, Some((60, 71)), "connection {n}");
    }
}

#[test]
fn two_thousand_queues() {
    let mut node = Node::start();
    let mut wire = Wire::open(node.amqp());
    for n in 0..2000 {
        wire.method(1, &declare(&format!("queue-{n}"), 2, &[]));
    }
    for _ in 0..2000 {
        wire.expect(DECLARE_OK);
    }
    node.kill();
    node.resume();
    let mut wire = Wire::open(node.amqp());
    for n in 0..2000 {
        wire.method(1, &declare(&format!("queue-{n}"), PASSIVE, &[]));
        wire.expect(DECLARE_OK);
    }
}
