//! Whose message it is, where several consumers of a queue come and go.

use black_box::{Method, Node, Value, Wire};

use crate::methods::{DECLARE_OK, NO_ACK, declare};

/// The consumers that were sent something before the broker said `until`.
fn served(wire: &mut Wire, until: (u16, u16)) -> Vec<String> {
    let mut tags = Vec::new();
    loop {
        let frame = wire.next().expect("the connection stays open");
        match frame.method() {
            Some(method) if method == until => return tags,
            Some((60, 60)) => {
                let length = usize::from(frame.payload[4]);
                tags.push(String::from_utf8_lossy(&frame.payload[5..5 + length]).into_owned());
            }
            _ => {}
        }
    }
}

/// The client says it all at once, so that the broker may deal with it all at once.
#[test]
fn what_was_published_before_a_cancel_is_for_who_consumed_then() {
    let node = Node::start();
    let mut wire = Wire::open(node.amqp());
    for round in 0..50 {
        let queue = format!("queue-{round}");
        wire.method(1, &declare(&queue, 0, &[]));
        wire.expect(DECLARE_OK);
        let consumers = [("high", 1), ("middle", 0), ("low", -1)];
        for (tag, priority) in consumers {
            let arguments = [("x-priority", Value::Int(priority))];
            let consume = Method::new(60, 20).short(0).text(&queue).text(tag).octet(NO_ACK).table(&arguments);
            wire.method(1, &consume);
            wire.expect((60, 21));
        }
        for (tag, _) in consumers {
            for _ in 0..10 {
                wire.publish("", &queue, 0, &[], b"x");
            }
            wire.method(1, &Method::new(60, 30).text(tag).octet(0));
        }
        for (tag, _) in consumers {
            assert_eq!(served(&mut wire, (60, 31)), vec![tag.to_owned(); 10]);
        }
    }
}
