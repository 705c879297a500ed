//! Nodes with empty folders that start at the same time find each other, and are one cluster.

use std::net::TcpStream;

use black_box::{Cluster, until};

use super::{agreed, count};

/// Soon enough for tests, with as much patience as there is by default.
const SOON: &str = "cluster_formation.discovery_retry_interval = 100\ncluster_formation.discovery_retry_limit = 600\n";

/// Starts the nodes in this order, each as soon as the process before it answers or at once.
fn start(cluster: &mut Cluster, order: &[usize], one_after_another: bool) {
    for place in order {
        cluster[*place].launch();
        let at = cluster[*place].node_port();
        if one_after_another {
            until("the process answers", || TcpStream::connect(at).ok());
        }
    }
}

#[track_caller]
fn is_one(cluster: &mut Cluster, nodes: usize) {
    for place in 0..nodes {
        if cluster[place].is_up() {
            cluster[place].wait_for_line("stop with");
        }
    }
    agreed(cluster, "/api/nodes?columns=name,running", |list| {
        count(list) == nodes && list.as_array().unwrap().iter().all(|node| node["running"] == true)
    });
}

#[test]
fn nodes_that_start_together_are_one_cluster() {
    let mut cluster = Cluster::listed(3, SOON);
    start(&mut cluster, &[0, 1, 2], false);
    is_one(&mut cluster, 3);
}

#[test]
fn the_first_of_the_list_may_start_last() {
    for one_after_another in [true, false] {
        let mut cluster = Cluster::listed(3, SOON);
        start(&mut cluster, &[1, 2, 0], one_after_another);
        is_one(&mut cluster, 3);
    }
}

#[test]
fn a_node_that_never_starts_keeps_nobody_waiting() {
    let mut cluster = Cluster::listed(3, SOON);
    start(&mut cluster, &[2, 1], false);
    for place in [1, 2] {
        cluster[place].wait_for_line("stop with");
    }
    cluster.wait_for_running(2);
    // It comes, and is taken in.
    cluster[0].launch();
    cluster[0].wait_for_line("stop with");
    agreed(&cluster, "/api/nodes?columns=name", |list| count(list) == 3);
}
