//! A node whose disk has no room left, and gets room again. Publishers are not told to wait before that: the disk
//! may get full faster than anybody looks.

use black_box::{Cluster, Value, until};

use super::load::Load;
use super::{QUEUE, asked, leader, mirror_all, wait_for_mirrors};
use crate::cluster::Client;
use crate::methods::{DECLARE_OK, DURABLE, ack, consume, declare, qos};

/// Small files, so that the log needs another one soon.
const SETTINGS: &str = "cluster_partition_handling = pause_minority\n\
    msg_store_file_size_limit = 64KiB\n\
    disk_free_limit.absolute = 0\n";
/// Of each node's disk.
const MEBIBYTES: u32 = 64;

#[test]
fn a_node_whose_disk_is_full_harms_nobody_and_goes_on_when_there_is_room() {
    let mut cluster = Cluster::on_disks(3, MEBIBYTES, SETTINGS);
    mirror_all(&cluster);
    let load = Load::start(&cluster);
    for was_leader in [false, true] {
        let led = leader(&cluster, &[0, 1, 2]);
        let full = if was_leader { led } else { (led + 1) % 3 };
        let others = [(full + 1) % 3, (full + 2) % 3];
        cluster[full].disk().fill();
        cluster[full].wait_for_line("no room on the disk");
        // They do without it. Of a burst that comes at once, the first may have been on its way already.
        (0..10).for_each(|_| others.into_iter().for_each(|place| load.wait_for_confirms(place)));
        assert_ne!(leader(&cluster, &others), full);
        cluster[full].disk().make_room();
        if let Some(said) = cluster[full].launch_if_ended() {
            // That its mirror is given up is metadata, for which there may be no room either.
            let gives_way = was_leader && said.contains("the node stops, so that others lead its queues");
            assert!(gives_way || said.contains("the metadata log has stopped"), "{said}");
        }
        (0..3).for_each(|place| load.wait_for_confirms(place));
        wait_for_mirrors(&cluster);
    }
    load.finish(&cluster[0]);
}

/// It would be a leader that hears of no other, and everybody would take it for alive.
#[test]
fn a_node_that_cannot_write_metadata_ends_and_the_others_go_on() {
    let mut cluster = Cluster::on_disks(3, MEBIBYTES, SETTINGS);
    mirror_all(&cluster);
    let load = Load::start(&cluster);
    let mut client = Client::of(&cluster[1]);
    cluster[0].disk().fill();
    // Metadata have some room of their own: small ones would outlast the patience of the queues.
    let note: &str = ".".repeat(100_000).leak();
    let mut number = 0;
    until("a node without room for metadata ends", || {
        let queue = format!("another-{number}");
        client.ask(&declare(&queue, DURABLE, &[("x-note", Value::Text(note))]), DECLARE_OK).unwrap();
        number += 1;
        cluster[0].has_ended().then_some(())
    });
    let said = cluster[0].wait_for_failure();
    assert!(said.contains("cannot write metadata file") && said.contains("No space left on device"), "{said}");
    [1, 2].into_iter().for_each(|place| load.wait_for_confirms(place));
    cluster[0].disk().make_room();
    cluster[0].launch();
    (0..3).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[0]);
}

/// What it cannot write was promised to nobody.
#[test]
fn a_node_whose_disk_is_full_can_be_stopped() {
    let mut cluster = Cluster::on_disks(3, MEBIBYTES, SETTINGS);
    mirror_all(&cluster);
    let load = Load::start(&cluster);
    cluster[1].disk().fill();
    cluster[1].wait_for_line("no room on the disk");
    cluster[1].terminate();
    let said = cluster[1].wait_for_failure();
    // The metadata log may notice first.
    assert!(said.contains("no room on the disk; the node stops") || said.contains("the metadata log has stopped"), "{said}");
    [0, 2].into_iter().for_each(|place| load.wait_for_confirms(place));
    cluster[1].disk().make_room();
    cluster[1].launch();
    (0..3).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[1]);
}

/// Nobody could do better than the leader, so it waits; or whoever cannot write down that mirrors are given up ends.
#[test]
fn nodes_whose_disks_are_all_full_go_on_when_there_is_room() {
    let mut cluster = Cluster::on_disks(3, MEBIBYTES, SETTINGS);
    mirror_all(&cluster);
    let load = Load::start(&cluster);
    (0..3).for_each(|place| cluster[place].disk().fill());
    (0..3).for_each(|place| cluster[place].wait_for_line("no room on the disk"));
    until("the mirrors are given up, or a node ends", || {
        let queue = asked(&cluster[0], &format!("/api/queues/%2F/{QUEUE}?columns=synchronised_slave_nodes"));
        let alone = queue.is_some_and(|queue| queue["synchronised_slave_nodes"].as_array().is_some_and(Vec::is_empty));
        (alone || (0..3).any(|place| cluster[place].has_ended())).then_some(())
    });
    (0..3).for_each(|place| cluster[place].disk().make_room());
    until("all nodes run", || {
        (0..3).for_each(|place| drop(cluster[place].launch_if_ended()));
        let runs = |place| asked(&cluster[place], "/api/nodes?columns=running").map(|nodes| nodes.to_string());
        (0..3).all(|place| runs(place).is_some_and(|nodes| nodes.matches("true").count() == 3)).then_some(())
    });
    (0..3).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[2]);
}

/// What consumers take and acknowledge makes room, and is at hand in memory.
#[test]
fn consumers_go_on_where_a_full_disk_holds_publishers() {
    let mut cluster = Cluster::on_disks(1, 4 * MEBIBYTES, SETTINGS);
    let mut consumer = Client::of(&cluster[0]);
    consumer.declare("q", DURABLE);
    consumer.ask(&qos(0, 1), (60, 11)).unwrap();
    consumer.ask(&consume("q", "tag", 0), (60, 21)).unwrap();
    // More than may wait for the disk, and than a queue takes in before it does.
    let messages = 1000;
    let body = |n: u64| format!("{n} {}", ".".repeat(100_000));
    let mut publisher = Client::of(&cluster[0]);
    publisher.0.publish("", "q", 0x1000, &[2], body(1).as_bytes());
    let mut got = |tag: u64| {
        consumer.0.expect((60, 60));
        assert_eq!(consumer.body(), body(tag));
        consumer.0.method(1, &ack(tag));
    };
    got(1);
    cluster[0].disk().fill();
    std::thread::scope(|scope| {
        scope.spawn(|| (2..=messages).for_each(|n| publisher.0.publish("", "q", 0x1000, &[2], body(n).as_bytes())));
        cluster[0].wait_for_line("no room on the disk");
        (2..=200).for_each(&mut got);
        cluster[0].disk().make_room();
        (201..=messages).for_each(&mut got);
    });
}
