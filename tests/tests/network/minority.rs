//! With `pause_minority` whoever is cut off serves nobody, and the others go on.

use super::load::Load;
use super::{leader, mirrored, wait_for_mirrors, wait_for_pause};
use crate::cluster::Client;
use crate::methods::DURABLE;

#[test]
fn a_node_that_is_cut_off_pauses_and_the_others_go_on() {
    let cluster = mirrored(3, "pause_minority");
    let load = Load::start(&cluster);
    for was_leader in [true, false] {
        let led = leader(&cluster, &[0, 1, 2]);
        let alone = if was_leader { led } else { (led + 1) % 3 };
        cluster.network().isolate(alone);
        wait_for_pause(&cluster[alone]);
        let others = [(alone + 1) % 3, (alone + 2) % 3];
        others.into_iter().for_each(|place| load.wait_for_confirms(place));
        assert_ne!(leader(&cluster, &others), alone);
        cluster.network().heal();
        (0..3).for_each(|place| load.wait_for_confirms(place));
        wait_for_mirrors(&cluster);
    }
    load.finish(&cluster[0]);
}

/// Nobody takes its queues over, and nobody answers what it proposes for them.
#[test]
fn a_node_that_is_cut_off_can_be_stopped() {
    let mut cluster = mirrored(3, "pause_minority");
    let mut client = Client::of(&cluster[1]);
    (0..8).for_each(|n| client.declare(&format!("led-here-{n}"), DURABLE));
    cluster.network().isolate(1);
    cluster[1].stop();
    cluster.network().heal();
    cluster[1].launch();
    wait_for_mirrors(&cluster);
}
