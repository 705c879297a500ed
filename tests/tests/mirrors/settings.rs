//! Keys of policies and of the configuration that say how mirrors are made and leaders spread.

use std::collections::BTreeSet;

use black_box::{Cluster, until};
use serde_json::Value as Json;

use crate::cluster::{Client, agreed, api};
use crate::methods::DURABLE;

const COPIES: &str = "/api/queues/%2F/q?columns=node,state,synchronised_slave_nodes";

fn names(list: &Json) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

#[test]
fn queues_of_disc_copies_are_mirrored_by_a_policy() {
    let cluster = Cluster::configured(2, "cluster_nodes.disc_copies = q, a.b\n");
    let mut client = Client::of(&cluster[0]);
    for name in ["q", "a.b", "a-b", "quite another"] {
        client.declare(name, DURABLE);
    }
    let queues = agreed(&cluster, "/api/queues?columns=name,policy,synchronised_slave_nodes", |queues| {
        let mirrored = queues.as_array().into_iter().flatten();
        mirrored.filter(|queue| names(&queue["synchronised_slave_nodes"]).len() == 1).count() == 2
    });
    for queue in queues.as_array().unwrap() {
        let listed = queue["name"] == "q" || queue["name"] == "a.b";
        assert_eq!(queue["policy"] == "legacy-disc-copies", listed, "{queue}");
    }
    let _ = cluster[1].ctl(&["set_policy", "other", "^q$", r#"{"max-length":10}"#]).success();
    until("any other policy comes first", || {
        (api(&cluster[0], "/api/queues/%2F/q?columns=policy")["policy"] == "other").then_some(())
    });
}

#[test]
fn leaders_are_spread_by_a_timer() {
    let cluster = Cluster::configured(3, "cluster_rebalance = timer\ncluster_rebalance.interval = 1s\n");
    let _ = cluster[0].ctl(&["set_policy", "ha", "^", r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#]).success();
    let mut client = Client::of(&cluster[0]);
    for number in 0..6 {
        client.declare(&format!("q{number}"), DURABLE);
    }
    agreed(&cluster, "/api/queues?columns=name,node", |queues| {
        let queues = queues.as_array().into_iter().flatten();
        let leaders: Vec<&str> = queues.filter_map(|queue| queue["node"].as_str()).collect();
        let nodes: BTreeSet<&str> = leaders.iter().copied().collect();
        leaders.len() == 6 && nodes.len() == 3 && nodes.iter().all(|node| leaders.iter().filter(|n| *n == node).count() == 2)
    });
}

/// What is on the disk of the leader is confirmed, though no mirror stores anything.
#[test]
fn with_asynchronous_confirms_nobody_waits_for_mirrors() {
    let cluster = Cluster::configured(2, "replica_timeout = 60s\nfailure_timeout = 30s\n");
    let _ = cluster[0].ctl(&["set_policy", "ha", "^", r#"{"ha-mode":"all","ha-ack-mode":"async"}"#]).success();
    let mut publisher = Client::of(&cluster[0]).confirms();
    publisher.declare("q", DURABLE);
    agreed(&cluster, COPIES, |queue| names(&queue["synchronised_slave_nodes"]).len() == 1);
    assert!(publisher.publish("q", "before"));
    cluster[1].freeze(true);
    assert!(publisher.publish("q", "meanwhile"));
    cluster[1].freeze(false);
}

#[test]
fn the_place_of_a_lost_mirror_stays_free_for_it() {
    let mut cluster = Cluster::start(3);
    let policy = r#"{"ha-mode":"exactly","ha-params":2,"ha-sync-mode":"automatic","ha-replace-after":60000}"#;
    let _ = cluster[0].ctl(&["set_policy", "ha", "^", policy]).success();
    Client::of(&cluster[0]).declare("q", DURABLE);
    let queue = agreed(&cluster, COPIES, |queue| names(&queue["synchronised_slave_nodes"]).len() == 1);
    let mirror = names(&queue["synchronised_slave_nodes"])[0].to_owned();
    let place = cluster.iter().position(|node| node.name() == mirror).unwrap();
    cluster[place].kill();
    agreed(&cluster, COPIES, |queue| names(&queue["synchronised_slave_nodes"]).is_empty());
    cluster[place].launch();
    let queue = agreed(&cluster, COPIES, |queue| names(&queue["synchronised_slave_nodes"]).len() == 1);
    assert_eq!(names(&queue["synchronised_slave_nodes"]), [&mirror]);
}
