//! With `autoheal` and `ignore` both sides of a partition go on, and what either confirmed is there when
//! they have met.

use black_box::{Cluster, until};

use super::load::Load;
use super::{asked, mirrored, wait_for_mirrors, wait_for_running};

/// Cuts a node off from the others until both sides have gone on.
fn part(cluster: &Cluster, load: &Load, alone: usize) {
    cluster.network().isolate(alone);
    for place in 0..3 {
        wait_for_running(&cluster[place], if place == alone { 1 } else { 2 });
        load.wait_for_confirms(place);
    }
    cluster.network().heal();
}

/// Waits until all nodes are together, and every publisher is served.
#[track_caller]
fn meet(cluster: &Cluster, load: &Load) {
    wait_for_mirrors(cluster);
    (0..cluster.iter().count()).for_each(|place| load.wait_for_confirms(place));
}

#[test]
fn sides_that_meet_are_put_together_by_themselves() {
    let cluster = mirrored(3, "autoheal");
    let load = Load::start(&cluster);
    part(&cluster, &load, 2);
    meet(&cluster, &load);
    load.finish(&cluster[0]);
}

/// What was on its way to the mirrors when the leader was cut off is confirmed by it alone.
#[test]
fn a_leader_that_was_cut_off_and_gives_way_brings_what_it_confirmed() {
    let cluster = mirrored(3, "autoheal");
    let load = Load::start(&cluster);
    part(&cluster, &load, 0);
    meet(&cluster, &load);
    load.finish(&cluster[1]);
}

#[test]
fn two_nodes_that_meet_are_put_together_by_themselves() {
    let cluster = mirrored(2, "autoheal");
    let load = Load::start(&cluster);
    cluster.network().isolate(0);
    for place in 0..2 {
        wait_for_running(&cluster[place], 1);
        load.wait_for_confirms(place);
    }
    cluster.network().heal();
    meet(&cluster, &load);
    load.finish(&cluster[0]);
}

/// Each of them founds the metadata log anew, and no two of these are taken for the same.
#[test]
fn nodes_of_which_none_sees_another_are_put_together_by_themselves() {
    let cluster = mirrored(3, "autoheal");
    let load = Load::start(&cluster);
    cluster.network().isolate(0);
    cluster.network().isolate(1);
    for place in 0..3 {
        wait_for_running(&cluster[place], 1);
        load.wait_for_confirms(place);
    }
    cluster.network().heal();
    meet(&cluster, &load);
    load.finish(&cluster[0]);
}

#[test]
fn sides_that_meet_go_on_until_they_are_told() {
    let cluster = mirrored(3, "ignore");
    let load = Load::start(&cluster);
    part(&cluster, &load, 2);
    until("the partition is shown", || {
        let nodes = asked(&cluster[1], "/api/nodes?columns=partitions")?;
        nodes.to_string().contains(cluster[2].name()).then_some(())
    });
    (0..3).for_each(|place| load.wait_for_confirms(place));
    let _ = cluster[1].ctl(&["heal_partition"]).success();
    meet(&cluster, &load);
    load.finish(&cluster[0]);
}
