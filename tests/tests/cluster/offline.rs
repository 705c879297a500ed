//! Nobody runs, and the node that stopped last will not come back: another gives it up and starts.

use black_box::{Cluster, Output};

use super::{Client, agreed, api, count};
use crate::methods::DURABLE;

const ALL: &str = r#"{"pattern":"^mirrored","definition":{"ha-mode":"all","ha-sync-mode":"automatic"}}"#;

#[track_caller]
fn refused(output: &Output, text: &str) {
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(text), "{text:?} awaited: {said}");
}

/// Three nodes with a queue `mirrored` on all of them that the last one leads and that holds `first`, a queue
/// `alone` on the last, and `here` on the second.
fn cluster() -> Cluster {
    let cluster = Cluster::start(3);
    cluster[0].put("/api/policies/%2F/all", ALL);
    let mut last = Client::of(&cluster[2]).confirms();
    last.declare("mirrored", DURABLE);
    last.declare("alone", DURABLE);
    agreed(&cluster, "/api/queues/%2F/mirrored?columns=synchronised_slave_nodes", |queue| {
        count(&queue["synchronised_slave_nodes"]) == 2
    });
    assert!(last.publish("mirrored", "first") && last.publish("alone", "lost"));
    let mut second = Client::of(&cluster[1]).confirms();
    second.declare("here", DURABLE);
    assert!(second.publish("here", "kept"));
    cluster
}

#[track_caller]
fn holds(cluster: &Cluster, place: usize, queue: &str, bodies: &[&str]) {
    let mut client = Client::of(&cluster[place]);
    let found: Vec<String> = std::iter::from_fn(|| client.get(queue)).collect();
    assert_eq!(found, bodies, "in {queue}");
}

#[test]
fn a_node_starts_without_the_one_that_stopped_last_and_its_mirrors_lead() {
    let mut cluster = cluster();
    let gone = cluster[2].name().to_owned();
    cluster[0].stop();
    assert!(Client::of(&cluster[2]).confirms().publish("mirrored", "second"));
    cluster[1].stop();
    cluster[2].stop();

    // No process runs: the tool acts as the node, in its folder.
    let forget = |place: usize, node: &str| cluster[place].ctl(&["forget_cluster_node", "--offline", node]);
    refused(&forget(1, "warren@stranger"), "{:not_a_cluster_node,");
    refused(&cluster[1].ctl(&["forget_cluster_node", &gone]), "unable to perform an operation on node");
    let _ = forget(1, &gone).success();
    refused(&forget(1, &gone), "{:not_a_cluster_node,");
    cluster[1].resume();

    let nodes = api(&cluster[1], "/api/nodes?columns=name");
    assert!(count(&nodes) == 2 && !nodes.to_string().contains(&gone), "{nodes}");
    let queues = api(&cluster[1], "/api/queues?columns=name");
    assert!(count(&queues) == 2 && !queues.to_string().contains("alone"), "{queues}");
    cluster[0].resume();
    agreed(&cluster, "/api/queues/%2F/mirrored?columns=messages,synchronised_slave_nodes", |queue| {
        count(&queue["synchronised_slave_nodes"]) == 1 && queue["messages"] == 2
    });
    holds(&cluster, 0, "mirrored", &["first", "second"]);
    holds(&cluster, 0, "here", &["kept"]);

    // With what it knows it does not come in again.
    cluster[2].launch();
    let said = cluster[2].wait_for_failure();
    assert!(said.contains("inconsistent_cluster"), "{said}");
}

#[test]
fn a_node_that_waits_for_a_dead_one_goes_on_when_it_is_told_to_forget_it() {
    let mut cluster = cluster();
    let gone = cluster[2].name().to_owned();
    let forget = |cluster: &Cluster, place: usize| cluster[place].ctl(&["forget_cluster_node", "--offline", &gone]);
    refused(&forget(&cluster, 1), "{:online_node_offline_flag,");
    let _ = cluster[0].ctl(&["stop_app"]).success();
    refused(&forget(&cluster, 0), "{:removing_node_from_offline_node,");
    cluster[0].stop();
    cluster[1].stop();
    cluster[2].kill();

    cluster[1].launch();
    cluster[1].wait_for_line("not in service yet");
    let _ = forget(&cluster, 1).success();
    cluster[1].wait_for_line("stop with");
    holds(&cluster, 1, "mirrored", &["first"]);
    holds(&cluster, 1, "here", &["kept"]);
}

/// Most voters are linked with it by then, and none of them is in its generation.
#[test]
fn a_node_that_waits_comes_back_into_a_generation_that_is_founded_meanwhile() {
    let mut cluster = cluster();
    let _ = cluster[2].ctl(&["stop_app"]).success();
    cluster[1].kill();
    cluster[0].kill();
    cluster[1].launch();
    cluster[1].wait_for_line("not in service yet");
    for command in ["force_boot", "start_app"] {
        let _ = cluster[2].ctl(&[command]).success();
    }
    cluster[1].wait_for_line("stop with");
    cluster.wait_for_running(2);
    holds(&cluster, 2, "mirrored", &["first"]);
    holds(&cluster, 2, "here", &["kept"]);
    cluster[0].launch();
    cluster[0].wait_for_line("stop with");
    cluster.wait_for_running(3);
}
