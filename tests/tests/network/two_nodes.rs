//! Two nodes, of which one has the only vote.

use super::load::Load;
use super::{mirrored, wait_for_mirrors, wait_for_pause};

/// Node 0 began the cluster and has the vote.
#[test]
fn the_learner_pauses_when_it_loses_sight_of_the_voter() {
    let cluster = mirrored(2, "pause_minority");
    let load = Load::start(&cluster);
    cluster.network().isolate(1);
    wait_for_pause(&cluster[1]);
    load.wait_for_confirms(0);
    cluster.network().heal();
    (0..2).for_each(|place| load.wait_for_confirms(place));
    wait_for_mirrors(&cluster);
    load.finish(&cluster[1]);
}

#[test]
fn either_of_two_nodes_goes_on_when_the_other_is_killed() {
    let mut cluster = mirrored(2, "ignore");
    let load = Load::start(&cluster);
    for killed in [0, 1] {
        cluster[killed].kill();
        load.wait_for_confirms(1 - killed);
        cluster[killed].resume();
        wait_for_mirrors(&cluster);
        load.wait_for_confirms(killed);
    }
    load.finish(&cluster[0]);
}
