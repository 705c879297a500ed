//! Two nodes with queues and a witness, where one of the two hears the witness, or is heard by it, and not both.

use black_box::{Cluster, Network, until};
use serde_json::Value as Json;

use super::load::Load;
use super::{leader, mirror_on, wait_for_copies, wait_for_pause};

/// Its place.
const WITNESS: usize = 2;

fn with_witness() -> Cluster {
    let cluster = Cluster::with_witness("cluster_partition_handling = pause_minority\n");
    until("all three vote", || {
        let shown = cluster[0].ctl(&["cluster_status", "--formatter", "json"]).success();
        let shown: Json = serde_json::from_str(&shown).ok()?;
        let votes = shown["members"].as_array()?.iter().filter(|member| member["role"] == "voter").count();
        (votes == 3).then_some(())
    });
    mirror_on(&cluster, 2);
    cluster
}

/// Of two nodes that lose sight of each other the one goes on that has the witness both ways: whether it led the
/// queue or not.
fn one_side_goes_on(cut: impl Fn(&Network, usize)) {
    let cluster = with_witness();
    let load = Load::start(&cluster);
    for was_leader in [true, false] {
        let led = leader(&cluster, &[0, 1, WITNESS]);
        let alone = if was_leader { led } else { 1 - led };
        cluster.network().split(0, 1);
        cut(cluster.network(), alone);
        wait_for_pause(&cluster[alone]);
        let side = [1 - alone, WITNESS];
        (0..10).for_each(|_| side.into_iter().for_each(|place| load.wait_for_confirms(place)));
        assert_eq!(leader(&cluster, &side), 1 - alone);
        // It did not come back meanwhile.
        wait_for_pause(&cluster[alone]);
        cluster.network().heal();
        (0..3).for_each(|place| load.wait_for_confirms(place));
        wait_for_copies(&cluster, 2);
    }
    load.finish(&cluster[0]);
}

#[test]
fn a_node_that_only_hears_the_witness_pauses_and_the_other_goes_on() {
    one_side_goes_on(|network, alone| network.cut(alone, WITNESS));
}

#[test]
fn a_node_that_only_the_witness_hears_pauses_and_the_other_goes_on() {
    one_side_goes_on(|network, alone| network.cut(WITNESS, alone));
}

/// The two see each other, and need no witness.
#[test]
fn a_witness_that_one_node_does_not_hear_harms_nobody() {
    let cluster = with_witness();
    let load = Load::start(&cluster);
    for (from, to) in [(WITNESS, 0), (0, WITNESS), (WITNESS, 1), (1, WITNESS)] {
        cluster.network().cut(from, to);
        // It does not come to rest before one of the two is taken for down.
        (0..10).for_each(|_| [0, 1].into_iter().for_each(|place| load.wait_for_confirms(place)));
        cluster.network().heal();
        (0..3).for_each(|place| load.wait_for_confirms(place));
        wait_for_copies(&cluster, 2);
    }
    load.finish(&cluster[1]);
}
