//! Nodes that stop and start in every order, and one that sleeps.

use super::load::Load;
use super::{QUEUE, leader, mirrored, wait_for_mirrors, wait_for_running};
use crate::cluster::Client;

#[test]
fn three_nodes_stop_in_every_order_and_start_in_another() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut cluster = mirrored(3, "pause_minority");
    for (round, stopped) in ORDERS.into_iter().enumerate() {
        let body = format!("round {round}");
        assert!(Client::of(&cluster[round % 3]).confirms().publish(QUEUE, &body));
        for place in stopped {
            cluster[place].stop();
        }
        let started = ORDERS[(round + 2) % ORDERS.len()];
        for place in started {
            cluster[place].launch();
        }
        for place in started {
            cluster[place].wait_for_line("stop with");
        }
        wait_for_mirrors(&cluster);
        let mut client = Client::of(&cluster[(round + 1) % 3]);
        assert_eq!(client.get(QUEUE), Some(body));
    }
}

#[test]
fn a_leader_that_sleeps_is_replaced_and_comes_back() {
    let cluster = mirrored(3, "pause_minority");
    let load = Load::start(&cluster);
    cluster[0].sleep();
    for place in [1, 2] {
        wait_for_running(&cluster[place], 2);
        load.wait_for_confirms(place);
    }
    assert_ne!(leader(&cluster, &[1, 2]), 0);
    cluster[0].wake();
    (0..3).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[0]);
}
