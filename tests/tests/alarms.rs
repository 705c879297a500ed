//! Alarms: publishers wait, everybody else goes on, nothing is lost, and it ends by itself.

use std::time::Duration;

use black_box::{Closed, Cluster, Node, Wire, run};

use crate::methods::{DECLARE_OK, PASSIVE, confirm_select, declare};

const BLOCKED: (u16, u16) = (10, 60);
const UNBLOCKED: (u16, u16) = (10, 61);
const ACK: (u16, u16) = (60, 80);

fn ready(node: &Node, queue: &str) -> u32 {
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &declare(queue, PASSIVE, &[]));
    let answer = wire.expect(DECLARE_OK).payload;
    let counts = &answer[answer.len() - 8..];
    u32::from_be_bytes([counts[0], counts[1], counts[2], counts[3]])
}

fn ctl(node: &Node, arguments: &[&str]) {
    let arguments: Vec<&str> = ["ctl", "-n", node.name()].iter().chain(arguments).copied().collect();
    let _ = run(&mut node.command(&arguments), Duration::from_secs(30)).success();
}

fn reason(payload: &[u8]) -> &str {
    std::str::from_utf8(&payload[5..5 + usize::from(payload[4])]).unwrap()
}

/// A publisher that met the alarm: one message is in, one waits outside.
fn blocked(node: &Node, why: &str) -> Wire {
    let mut wire = Wire::open(node.amqp());
    wire.method(1, &declare("waits", 0, &[]));
    wire.method(1, &confirm_select());
    wire.expect((85, 11));
    wire.publish("", "waits", 0, &[], b"first");
    let frame = wire.expect(BLOCKED);
    assert_eq!(reason(&frame.payload), why);
    wire.publish("", "waits", 0, &[], b"second");
    assert!(ready(node, "waits") <= 1);
    wire
}

#[test]
fn publishers_wait_for_memory() {
    let node = Node::configured("vm_memory_high_watermark.absolute = 1000000\n");
    let mut wire = blocked(&node, "low on memory");
    ctl(&node, &["set_vm_memory_high_watermark", "absolute", "100GB"]);
    wire.expect(UNBLOCKED);
    // The confirms of both, in one frame or two.
    let mut confirmed = 0;
    while confirmed < 2 {
        let payload = wire.expect(ACK).payload;
        confirmed = payload[11];
    }
    assert_eq!(ready(&node, "waits"), 2);
}

#[test]
fn publishers_wait_for_the_disk() {
    let node = Node::configured("disk_free_limit.absolute = 1000TB\n");
    let mut wire = blocked(&node, "low on disk");
    ctl(&node, &["set_disk_free_limit", "1MB"]);
    wire.expect(UNBLOCKED);
    wire.expect(ACK);
}

#[test]
fn a_blocked_connection_can_be_stopped() {
    let mut node = Node::configured("vm_memory_high_watermark.absolute = 1000000\n");
    let mut wire = blocked(&node, "low on memory");
    node.terminate();
    assert!(matches!(wire.closed(), Closed::Connection(320, _)));
    assert!(node.wait_for_end().success());
}

/// They may publish to queues of that node. It ends with the shortage, or with the node.
#[test]
fn publishers_of_all_nodes_wait_for_one() {
    let mut cluster = Cluster::start(2);
    for ends_with_node in [false, true] {
        let mut wire = Wire::open(cluster[0].amqp());
        wire.method(1, &declare("waits", 0, &[]));
        ctl(&cluster[1], &["set_disk_free_limit", "1000TB"]);
        wire.publish("", "waits", 0, &[], b"a message");
        assert_eq!(reason(&wire.expect(BLOCKED).payload), "low on disk");
        if ends_with_node {
            cluster[1].kill();
        } else {
            ctl(&cluster[1], &["set_disk_free_limit", "1MB"]);
        }
        wire.expect(UNBLOCKED);
    }
}
