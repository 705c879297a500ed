//! Two nodes with queues and a witness, which has a vote on metadata and no queues.

use std::time::{Duration, Instant};

use black_box::{Cluster, Node, Value, http, until};
use serde_json::Value as Json;

use super::{CONSUME_OK, Client, DECLARE_OK, agreed, api, count};
use crate::methods::{DURABLE, EXCLUSIVE, NO_ACK, consume, declare};

const WITNESS: usize = 0;
/// From the death of a node until everything goes on: with what a busy machine may add.
const SECONDS: Duration = Duration::from_secs(10);
const STRICT: &str = "cluster_partition_handling = pause_minority\n";

/// Starts the witness, which is the first of a list, and then two others, which find each other by it.
#[track_caller]
fn with_witness(settings: &str) -> Cluster {
    let soon = "cluster_formation.discovery_retry_interval = 100\n";
    let mut cluster = Cluster::listed(3, &format!("{soon}{settings}"));
    let at = cluster[WITNESS].node_port();
    for place in 0..3 {
        cluster[place].configure(&format!("metadata_witness = {at}\n"));
        cluster[place].launch();
    }
    for place in 0..3 {
        cluster[place].wait_for_line("stop with");
    }
    cluster.wait_for_running(3);
    wait_for_votes(&cluster);
    cluster
}

fn status(node: &Node) -> Json {
    let shown = node.ctl(&["cluster_status", "--formatter", "json"]).success();
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// Waits until all three vote.
#[track_caller]
fn wait_for_votes(cluster: &Cluster) {
    for node in cluster.iter().filter(|node| node.is_up()) {
        until(&format!("{} says that all three vote", node.name()), || {
            let members = status(node)["members"].clone();
            let votes = members.as_array()?.iter().filter(|member| member["role"] == "voter").count();
            (votes == 3).then_some(())
        });
    }
}

#[track_caller]
fn place(client: &mut Client, queue: &str, bits: u8, arguments: &[(&str, Value)]) {
    client.ask(&declare(queue, bits, arguments), DECLARE_OK).unwrap();
}

#[track_caller]
fn set_policy(node: &Node, pattern: &str, definition: &str) {
    let _ = node.ctl(&["set_policy", pattern, pattern, definition]).success();
}

/// All nodes agree that so many queues run, none of which is led or mirrored by the witness.
#[track_caller]
fn none_is_at_the_witness(cluster: &Cluster, queues: usize) {
    let path = "/api/queues?columns=name,node,state,slave_nodes,synchronised_slave_nodes";
    let shown = agreed(cluster, path, |list| {
        count(list) == queues && list.as_array().unwrap().iter().all(|queue| queue["state"] == "running")
    });
    assert!(!shown.to_string().contains(cluster[WITNESS].name()), "{shown}");
}

#[test]
fn a_witness_is_shown_as_one() {
    let cluster = with_witness("");
    let name = cluster[WITNESS].name();
    for node in cluster.iter() {
        let shown = status(node);
        assert_eq!(shown["witness_nodes"], serde_json::json!([name]));
        assert_eq!(count(&shown["disk_nodes"]), 2);
        assert_eq!(count(&shown["running_nodes"]), 3);
        let members = shown["members"].as_array().unwrap();
        let witness = members.iter().find(|member| member["node"] == name).unwrap();
        assert_eq!((&witness["type"], &witness["role"]), (&Json::from("witness"), &Json::from("voter")));
        let text = node.ctl(&["cluster_status"]).success();
        let under_witnesses = text.lines().skip_while(|line| !line.contains("Witness Nodes")).nth(2);
        assert_eq!(under_witnesses, Some(name), "{text}");
        assert!(text.lines().any(|line| line.contains(name) && line.contains("role: voter, witness")), "{text}");
    }
    let nodes = agreed(&cluster, "/api/nodes?columns=name,type,running", |list| count(list) == 3);
    for node in nodes.as_array().unwrap() {
        assert_eq!(node["type"], if node["name"] == name { "witness" } else { "disc" });
    }
}

#[test]
fn a_witness_never_gets_a_queue() {
    let cluster = with_witness("");
    let (witness, name) = (&cluster[WITNESS], cluster[WITNESS].name());
    set_policy(witness, "^all", r#"{"ha-mode":"all"}"#);
    set_policy(witness, "^three", r#"{"ha-mode":"exactly","ha-params":3}"#);
    set_policy(witness, "^named", &format!(r#"{{"ha-mode":"nodes","ha-params":["{name}","{}"]}}"#, cluster[1].name()));
    set_policy(witness, "^alone", &format!(r#"{{"ha-mode":"nodes","ha-params":["{name}"]}}"#));
    let mut clients = [Client::of(witness), Client::of(&cluster[2])];
    let mut queues = 0;
    for strategy in ["client-local", "min-masters", "random", "round-robin", "min-messages", "min-connections"] {
        for kind in ["plain", "all", "three", "named", "alone"] {
            for (client, asked) in clients.iter_mut().zip(["witness", "other"]) {
                let locator = [("x-queue-master-locator", Value::Text(strategy))];
                place(client, &format!("{kind}-{strategy}-{asked}"), DURABLE, &locator);
                queues += 1;
            }
        }
    }
    place(&mut clients[0], "exclusive", EXCLUSIVE, &[]);
    none_is_at_the_witness(&cluster, queues + 1);
    // Policies that come later, and leaders that are spread anew.
    set_policy(witness, "^(plain|alone)", r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#);
    let path = "/api/queues?columns=name,node,synchronised_slave_nodes";
    agreed(&cluster, path, |list| {
        let mirrored = |queue: &&Json| count(&queue["synchronised_slave_nodes"]) == 1;
        list.as_array().unwrap().iter().filter(mirrored).count() >= queues / 5 * 4
    });
    let (status, body) = http(witness.http(), "POST", "/api/rebalance/queues", "{}");
    assert_eq!(status, 204, "{body}");
    none_is_at_the_witness(&cluster, queues + 1);
    // Its clients use queues as those of any node do.
    let mut client = Client::of(witness).confirms();
    assert!(client.publish("all-random-other", "through the witness"));
    assert_eq!(Client::of(&cluster[2]).get("all-random-other").as_deref(), Some("through the witness"));
}

/// Kills one of the two nodes with queues. What clients of the other do goes on within seconds.
#[track_caller]
fn lose(cluster: &mut Cluster, dies: usize, stays: usize) {
    let queue = format!("led-by-{dies}");
    Client::of(&cluster[dies]).declare(&queue, DURABLE);
    agreed(cluster, &format!("/api/queues/%2f/{queue}?columns=node,synchronised_slave_nodes"), |queue| {
        queue["node"] == cluster[dies].name() && count(&queue["synchronised_slave_nodes"]) == 1
    });
    let mut publisher = Client::of(&cluster[stays]).confirms();
    let mut consumer = Client::of(&cluster[stays]);
    consumer.ask(&consume(&queue, "", NO_ACK), CONSUME_OK).unwrap();
    assert!(publisher.publish(&queue, "before"));
    assert_eq!(consumer.delivery(), "before");
    cluster[dies].kill();
    let died = Instant::now();
    assert!(publisher.publish(&queue, "after"));
    assert_eq!(consumer.delivery(), "after");
    for place in [stays, WITNESS] {
        Client::of(&cluster[place]).declare(&format!("{queue}-declared-on-{place}"), DURABLE);
    }
    assert!(died.elapsed() < SECONDS, "it took {:?}", died.elapsed());
    let path = format!("/api/queues/%2f/{queue}-declared-on-{WITNESS}?columns=node");
    agreed(cluster, &path, |queue| queue["node"] == cluster[stays].name());
    assert_eq!(status(&cluster[stays])["metadata"]["quorum"], true);
}

#[test]
fn either_node_may_die_and_the_other_goes_on() {
    let mut cluster = with_witness(STRICT);
    set_policy(&cluster[1], "^", r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#);
    lose(&mut cluster, 1, 2);
    cluster[1].resume();
    cluster.wait_for_running(3);
    agreed(&cluster, "/api/queues?columns=name,synchronised_slave_nodes", |list| {
        count(list) == 3 && list.as_array().unwrap().iter().all(|q| count(&q["synchronised_slave_nodes"]) == 1)
    });
    lose(&mut cluster, 2, 1);
    cluster[2].resume();
    cluster.wait_for_running(3);
    // Nobody needs the witness while both are there.
    cluster[WITNESS].kill();
    for place in [1, 2] {
        Client::of(&cluster[place]).declare(&format!("without-witness-{place}"), DURABLE);
    }
    cluster[WITNESS].resume();
    cluster.wait_for_running(3);
    none_is_at_the_witness(&cluster, 8);
}

#[test]
fn a_witness_alone_waits_for_the_others() {
    let mut cluster = with_witness("cluster_partition_handling = ignore\n");
    Client::of(&cluster[1]).declare("q", DURABLE);
    let before = status(&cluster[WITNESS])["metadata"]["generation"].clone();
    for place in [1, 2] {
        cluster[place].kill();
    }
    until("the witness has lost both", || {
        let shown = status(&cluster[WITNESS]);
        let down = shown["members"].as_array()?.iter().filter(|member| member["state"] == "down").count();
        (down == 2 && shown["metadata"]["quorum"] == false).then_some(())
    });
    for place in [1, 2] {
        cluster[place].launch();
    }
    for place in [1, 2] {
        cluster[place].wait_for_line("stop with");
    }
    cluster.wait_for_running(3);
    for node in cluster.iter() {
        assert_eq!(status(node)["metadata"]["generation"], before);
    }
    assert!(Client::of(&cluster[WITNESS]).confirms().publish("q", "kept"));
}

#[test]
fn what_a_witness_knows_outlives_both_nodes() {
    let mut cluster = with_witness(STRICT);
    let _ = cluster[1].ctl(&["add_user", "orders", "secret"]).success();
    Client::of(&cluster[1]).declare("lost", DURABLE);
    for place in [1, 2] {
        cluster[place].kill();
    }
    let witness = &cluster[WITNESS];
    for command in ["stop_app", "force_boot", "start_app"] {
        let _ = witness.ctl(&[command]).success();
    }
    let new = Node::start();
    let _ = new.ctl(&["join_cluster", witness.name()]).success();
    for place in [1, 2] {
        let _ = witness.ctl(&["forget_cluster_node", "--force", cluster[place].name()]).success();
    }
    until("the new node has the only vote", || {
        let members = status(&new)["members"].clone();
        let votes = members.as_array()?.iter().filter(|member| member["role"] == "voter");
        let votes: Vec<&Json> = votes.map(|member| &member["node"]).collect();
        (votes == [new.name()]).then_some(())
    });
    assert!(new.ctl(&["list_users"]).success().contains("orders"));
    let mut client = Client::of(witness).confirms();
    client.declare("lost", DURABLE);
    assert!(client.publish("lost", "anew"));
    assert_eq!(Client::of(&new).get("lost").as_deref(), Some("anew"));
}

#[test]
fn two_nodes_ask_the_witness_in() {
    let mut witness = Node::prepared("");
    let setting = format!("metadata_witness = {}\n", witness.node_port());
    let cluster = Cluster::configured(2, &setting);
    witness.configure(&setting);
    witness.resume();
    cluster.wait_for_running(3);
    wait_for_votes(&cluster);
    assert_eq!(status(&cluster[0])["witness_nodes"], serde_json::json!([witness.name()]));
}

#[test]
fn a_witness_waits_to_be_told_whom_to_join() {
    let cluster = Cluster::start(1);
    let mut witness = Node::prepared("");
    witness.configure(&format!("metadata_witness = {}\n", witness.node_port()));
    witness.launch();
    until("it says what it waits for", || {
        let output = witness.ctl(&["list_queues"]);
        format!("{}{}", output.stdout, output.stderr).contains("a witness waits for two nodes").then_some(())
    });
    let _ = witness.ctl(&["join_cluster", cluster[0].name()]).success();
    witness.wait_for_line("stop with");
    let nodes = api(&witness, "/api/nodes?columns=name,type");
    assert_eq!(nodes.as_array().unwrap().iter().filter(|node| node["type"] == "witness").count(), 1);
    // One other node and a witness: the other has the only vote.
    until("the other has the only vote", || {
        let members = status(&cluster[0])["members"].clone();
        let role = |kind: &str| members.as_array()?.iter().find(|m| m["type"] == kind)?["role"].as_str().map(str::to_owned);
        (role("disc")? == "voter" && role("witness")?.contains("learner")).then_some(())
    });
    let refused = witness.ctl(&["join_cluster", "--ram", cluster[0].name()]);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("this node is a witness"), "{refused:?}");
}

#[test]
fn a_node_with_queues_does_not_become_a_witness() {
    let mut node = Node::start();
    node.stop();
    node.configure(&format!("metadata_witness = {}\n", node.node_port()));
    node.launch();
    let said = node.wait_for_failure();
    assert!(said.contains("is that of a node with queues"), "{said}");
}
