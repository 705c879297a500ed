//! One link of three is cut, both ways or one: everybody still hears somebody.

use black_box::Network;

use super::load::Load;
use super::{leader, mirrored, wait_for_mirrors};

/// Whatever is cut between the leader and a mirror, the third node's clients are served, and when the link
/// is back all are.
fn cut_between_leader_and_mirror(cut: impl FnOnce(&Network, usize, usize)) {
    let cluster = mirrored(3, "pause_minority");
    let load = Load::start(&cluster);
    assert_eq!(leader(&cluster, &[0, 1, 2]), 0);
    cut(cluster.network(), 0, 1);
    load.wait_for_confirms(2);
    // It does not come to rest before one of the two is taken for down.
    (0..10).for_each(|_| load.wait_for_confirms(2));
    cluster.network().heal();
    (0..3).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[1]);
}

#[test]
fn two_nodes_that_do_not_hear_each_other_harm_nobody() {
    cut_between_leader_and_mirror(Network::split);
}

#[test]
fn a_leader_that_a_mirror_does_not_hear_harms_nobody() {
    cut_between_leader_and_mirror(Network::cut);
}

#[test]
fn a_leader_that_does_not_hear_a_mirror_harms_nobody() {
    cut_between_leader_and_mirror(|network, leader, mirror| network.cut(mirror, leader));
}
