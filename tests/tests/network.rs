//! Nodes that lose sight of each other, in a network of their own: whatever is cut, killed or frozen,
//! nothing that was confirmed is lost, and all is well again by itself.
//!
//! In every test a durable queue is mirrored on all nodes, and publishers with confirms are at work.

mod disk_full;
mod links;
mod load;
mod minority;
mod open_modes;
mod restarts;
mod two_nodes;
mod witness;

use std::net::TcpStream;

use black_box::{Cluster, Node, try_http, until};
use serde_json::Value as Json;

use crate::cluster::Client;
use crate::methods::DURABLE;

const QUEUE: &str = "q";
const POLICY: &str = r#"{"ha-mode":"all","ha-sync-mode":"automatic","ha-promote-on-failure":"when-synced"}"#;

/// A cluster in a network, with a queue that node 0 leads and all others mirror, in sync.
fn mirrored(nodes: usize, partition_handling: &str) -> Cluster {
    let cluster = Cluster::in_network(nodes, &format!("cluster_partition_handling = {partition_handling}\n"));
    mirror_all(&cluster);
    cluster
}

/// Declares the queue, that node 0 leads and all others mirror, in sync.
fn mirror_all(cluster: &Cluster) {
    mirror_on(cluster, cluster.iter().count());
}

/// The same where so many nodes hold queues.
fn mirror_on(cluster: &Cluster, nodes: usize) {
    let _ = cluster[0].ctl(&["set_policy", "ha-all", "^", POLICY]).success();
    Client::of(&cluster[0]).declare(QUEUE, DURABLE);
    wait_for_copies(cluster, nodes);
}

/// What a node that may be starting, or paused, answers.
fn asked(node: &Node, path: &str) -> Option<Json> {
    let (status, body) = try_http(node.http(), "GET", path, "").ok()?;
    if status == 200 { serde_json::from_str(&body).ok() } else { None }
}

/// Waits until these nodes agree on one leader of the queue, and gives its place.
#[track_caller]
fn leader(cluster: &Cluster, places: &[usize]) -> usize {
    until(&format!("nodes {places:?} agree on a leader"), || {
        let path = format!("/api/queues/%2F/{QUEUE}?columns=node,state");
        let mut answers = places.iter().map(|place| asked(&cluster[*place], &path));
        let first = answers.next()??;
        if first["state"] != "running" || answers.any(|answer| answer.as_ref() != Some(&first)) {
            return None;
        }
        cluster.iter().position(|node| first["node"] == *node.name())
    })
}

/// Waits until all nodes say that the queue runs, and is mirrored in sync by all others.
#[track_caller]
fn wait_for_mirrors(cluster: &Cluster) {
    wait_for_copies(cluster, cluster.iter().count());
}

/// Waits until all nodes say that the queue runs, with so many copies in sync.
#[track_caller]
fn wait_for_copies(cluster: &Cluster, copies: usize) {
    let path = format!("/api/queues/%2F/{QUEUE}?columns=state,synchronised_slave_nodes");
    for node in cluster.iter() {
        until(&format!("{} says that all are in sync", node.name()), || {
            let queue = asked(node, &path)?;
            let mirrors = queue["synchronised_slave_nodes"].as_array()?.len();
            (queue["state"] == "running" && mirrors + 1 == copies).then_some(())
        });
    }
}

/// Waits until a node takes no clients any more.
#[track_caller]
fn wait_for_pause(node: &Node) {
    until(&format!("{} lets nobody in", node.name()), || TcpStream::connect(node.amqp()).is_err().then_some(()));
}

/// Waits until a node says that so many nodes run.
#[track_caller]
fn wait_for_running(node: &Node, count: usize) {
    until(&format!("{} says that {count} nodes run", node.name()), || {
        let nodes = asked(node, "/api/nodes?columns=running")?;
        (nodes.to_string().matches("true").count() == count).then_some(())
    });
}
