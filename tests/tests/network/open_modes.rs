//! With `autoheal` and `ignore` both sides of a partition go on, and what either confirmed is there when
//! they have met.

use black_box::{Cluster, until};

use super::load::Load;
use super::{asked, mirrored, wait_for_mirrors, wait_for_running};

/// Cuts a node off from the others until both sides have gone on.
fn part(cluster: &Cluster, load: &Load, alone: usize) {
    cluster.network().isolate(alone);
    let count = cluster.iter().count();
    for place in 0..count {
        wait_for_running(&cluster[place], if place == alone { 1 } else { count - 1 });
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
    part(&cluster, &load, 0);
    meet(&cluster, &load);
    load.finish(&cluster[0]);
}

/// What the dead said last of their side is no side to give way to.
#[test]
fn the_last_node_alive_goes_on_and_the_dead_come_back_to_it() {
    let mut cluster = mirrored(3, "autoheal");
    let load = Load::start(&cluster);
    (0..2).for_each(|place| cluster[place].kill());
    load.wait_for_confirms(2);
    // Until what the dead have said is forgotten.
    wait_for_running(&cluster[2], 1);
    load.wait_for_confirms(2);
    (0..2).for_each(|place| cluster[place].launch());
    meet(&cluster, &load);
    load.finish(&cluster[2]);
}

/// Of two sides one gives way, and the other ends before it has taken it in.
#[test]
fn a_node_that_gave_way_to_one_that_died_goes_on() {
    let mut cluster = mirrored(2, "autoheal");
    let load = Load::start(&cluster);
    part(&cluster, &load, 0);
    let gives_way = |place: &usize| cluster[*place].said().contains("this node gives way");
    let back = until("one side gives way", || (0..2).find(gives_way));
    cluster[1 - back].kill();
    load.wait_for_confirms(back);
    cluster[1 - back].launch();
    meet(&cluster, &load);
    load.finish(&cluster[back]);
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

/// Starting, it reaches nobody. When it does, most voters are linked with it, and none is in its generation.
#[test]
fn a_node_that_starts_unseen_comes_back_into_the_generation_of_the_others() {
    let mut cluster = mirrored(3, "ignore");
    let load = Load::start(&cluster);
    (0..2).for_each(|place| cluster[place].kill());
    cluster.network().isolate(0);
    cluster[0].launch();
    cluster[0].wait_for_line("not in service yet");
    wait_for_running(&cluster[2], 1);
    load.wait_for_confirms(2);
    cluster.network().heal();
    cluster[0].wait_for_line("stop with");
    wait_for_running(&cluster[2], 2);
    cluster[1].launch();
    meet(&cluster, &load);
    load.finish(&cluster[2]);
}

/// Each is told that the other side stays. One of the two goes on at once, and takes the other in.
#[test]
fn two_sides_that_give_way_to_each_other_are_put_together() {
    let cluster = mirrored(2, "ignore");
    let load = Load::start(&cluster);
    part(&cluster, &load, 0);
    for place in 0..2 {
        until("the partition is shown", || {
            let nodes = asked(&cluster[place], "/api/nodes?columns=partitions")?;
            nodes.to_string().contains(cluster[1 - place].name()).then_some(())
        });
    }
    for told in cluster.ctl_everywhere(&["heal_partition"]) {
        let _ = told.success();
    }
    meet(&cluster, &load);
    for node in cluster.iter() {
        assert!(!node.said().contains("does not take this node back in ("), "it waited until its patience was over");
    }
    load.finish(&cluster[0]);
}
