//! A mirror that lacks messages takes over, and the node that has them comes back.

use std::collections::BTreeMap;

use black_box::{Cluster, Node, until};
use serde_json::Value as Json;

use super::End;
use crate::cluster::{Client, agreed, api};
use crate::methods::DURABLE;

const PATH: &str = "/api/queues/%2F/q?columns=node,state,slave_nodes,synchronised_slave_nodes,recoverable_slaves";

fn set_policy(node: &Node, synchronise: &str) {
    let policy = format!(
        r#"{{"ha-mode":"all","ha-sync-mode":"{synchronise}","ha-promote-on-failure":"always","ha-promote-on-shutdown":"always"}}"#
    );
    let _ = node.ctl(&["set_policy", "always", "^", &policy]).success();
}

fn count(list: &Json) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Publishes messages and waits for the confirm of each.
#[track_caller]
fn publish(node: &Node, what: &str, count: usize) -> Vec<String> {
    let mut publisher = Client::of(node).confirms();
    let bodies: Vec<String> = (0..count).map(|n| format!("{what} {n}")).collect();
    for body in &bodies {
        assert!(publisher.publish("q", body), "{body} is not confirmed");
    }
    bodies
}

/// All running nodes say that another node leads than this one.
#[track_caller]
fn taken_over(cluster: &Cluster, from: usize) -> Json {
    let gone = cluster[from].name().to_owned();
    agreed(cluster, PATH, |queue| queue["state"] == "running" && queue["node"].is_string() && queue["node"] != *gone)
}

#[track_caller]
fn wait_for_mirrors_in_sync(cluster: &Cluster, mirrors: usize) {
    agreed(cluster, PATH, |queue| queue["state"] == "running" && count(&queue["synchronised_slave_nodes"]) == mirrors);
}

/// Takes all there is; each message with how often it came, and no second copy of it as a new one.
#[track_caller]
fn take_all(node: &Node, confirmed: &[String]) {
    let mut consumer = Client::of(node);
    consumer.consume_with("q", 0, &[]);
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    while !confirmed.iter().all(|body| came.contains_key(body)) {
        let got = consumer.taken();
        let times = came.entry(got.body.clone()).or_default();
        *times += 1;
        assert!(*times == 1 || got.redelivered, "{} came twice as a new one", got.body);
    }
}

/// A queue with messages that only its leader has, which goes; what was confirmed by then and after.
fn lose_the_only_whole_copy(cluster: &mut Cluster, end: End) -> Vec<String> {
    Client::of(&cluster[1]).declare("q", DURABLE);
    let mut confirmed = publish(&cluster[0], "before there were mirrors", 30);
    set_policy(&cluster[0], "manual");
    let mirrors = cluster.iter().count() - 1;
    agreed(cluster, PATH, |queue| count(&queue["slave_nodes"]) == mirrors && count(&queue["synchronised_slave_nodes"]) == 0);
    confirmed.extend(publish(&cluster[0], "with mirrors out of sync", 10));
    end.of(&mut cluster[1]);
    taken_over(cluster, 1);
    confirmed.extend(publish(&cluster[0], "after the promotion", 10));
    confirmed
}

fn come_back(nodes: usize, end: End) {
    let mut cluster = Cluster::start(nodes);
    let mut confirmed = lose_the_only_whole_copy(&mut cluster, end);
    // Who is left comes in sync without the node that is gone.
    set_policy(&cluster[0], "automatic");
    wait_for_mirrors_in_sync(&cluster, nodes - 2);
    cluster[1].resume();
    wait_for_mirrors_in_sync(&cluster, nodes - 1);
    confirmed.extend(publish(&cluster[1], "when all are back", 10));
    take_all(&cluster[0], &confirmed);
    until("the queue is empty", || (api(&cluster[1], "/api/queues/%2F/q?columns=messages")["messages"] == 0).then_some(()));
}

#[test]
fn what_only_the_killed_leader_had_comes_back_with_it() {
    come_back(3, End::Kill);
}

#[test]
fn what_only_the_stopped_leader_had_comes_back_with_it() {
    come_back(2, End::Stop);
}

/// The queue is taken over once more, by a mirror that got its copy after the messages were put back.
#[test]
fn what_was_put_back_is_as_safe_as_any_message() {
    let mut cluster = Cluster::start(3);
    let confirmed = lose_the_only_whole_copy(&mut cluster, End::Kill);
    set_policy(&cluster[0], "automatic");
    cluster[1].resume();
    wait_for_mirrors_in_sync(&cluster, 2);
    let leader = super::leader_in(&cluster, "/api/queues/%2F/q?columns=node,state");
    cluster[leader].kill();
    let next = taken_over(&cluster, leader);
    let place = cluster.iter().position(|node| next["node"] == *node.name()).expect("one of them");
    take_all(&cluster[place], &confirmed);
}

#[test]
fn with_fewer_copies_in_sync_than_the_policy_wants_nothing_is_taken() {
    let mut cluster = Cluster::start(2);
    let policy = r#"{"ha-mode":"all","ha-sync-mode":"automatic","ha-min-in-sync":2}"#;
    let _ = cluster[0].ctl(&["set_policy", "two", "^", policy]).success();
    Client::of(&cluster[0]).declare("q", DURABLE);
    wait_for_mirrors_in_sync(&cluster, 1);
    let mut publisher = Client::of(&cluster[0]).confirms();
    assert!(publisher.publish("q", "two copies"));
    cluster[1].kill();
    wait_for_mirrors_in_sync(&cluster, 0);
    assert!(!publisher.publish("q", "one copy"));
    cluster[1].resume();
    wait_for_mirrors_in_sync(&cluster, 1);
    assert!(publisher.publish("q", "two copies again"));
    take_all(&cluster[1], &["two copies".to_owned(), "two copies again".to_owned()]);
}
