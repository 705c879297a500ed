//! Nodes join, leave, are forgotten and come again; wrong use is refused in RabbitMQ's words.

use std::time::Duration;

use black_box::{Cluster, Node, Output, run, until};

use super::{Client, agreed, count};
use crate::methods::DURABLE;

#[track_caller]
fn refused(output: &Output, code: i32, text: &str) {
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{text:?} awaited: {said}");
}

fn members(cluster: &Cluster, running: usize, all: usize) {
    agreed(cluster, "/api/nodes?columns=name,running", |nodes| {
        let up = nodes.as_array().unwrap().iter().filter(|node| node["running"] == true);
        count(nodes) == all && up.count() == running
    });
}

#[test]
fn what_a_node_had_is_gone_when_it_joins() {
    let cluster = Cluster::apart(2, "");
    for (place, node) in cluster.iter().enumerate() {
        let mut client = Client::of(node).confirms();
        client.declare(&format!("queue {place}"), DURABLE);
        assert!(client.publish(&format!("queue {place}"), "x"));
        node.put(&format!("/api/vhosts/vhost{place}"), "{}");
    }
    let mut client = Client::of(&cluster[1]);
    let _ = cluster[1].ctl(&["join_cluster", cluster[0].name()]).success();
    let black_box::Closed::Connection(320, _) = client.0.closed() else { panic!("the client stays") };
    members(&cluster, 2, 2);
    let queues = agreed(&cluster, "/api/queues?columns=name,messages", |queues| count(queues) == 1);
    assert_eq!(queues[0]["name"], "queue 0");
    let vhosts = agreed(&cluster, "/api/vhosts?columns=name", |vhosts| count(vhosts) == 2);
    assert!(vhosts.to_string().contains("vhost0"), "{vhosts}");
    let again = cluster[1].ctl(&["join_cluster", cluster[0].name()]).success();
    assert!(again.contains("The node is already a member of this cluster"), "{again}");
}

#[test]
fn a_stopped_node_joins_and_waits_to_be_started() {
    let cluster = Cluster::apart(2, "");
    let _ = cluster[1].ctl(&["stop_app"]).success();
    let _ = cluster[1].ctl(&["join_cluster", cluster[0].name()]).success();
    until("the new member is listed", || {
        let nodes = super::api(&cluster[0], "/api/nodes?columns=name,running");
        (count(&nodes) == 2).then_some(())
    });
    let status = cluster[1].ctl(&["cluster_status"]).success();
    assert!(status.contains(cluster[0].name()), "{status}");
    let _ = cluster[1].ctl(&["start_app"]).success();
    members(&cluster, 2, 2);
}

#[test]
fn nodes_are_waited_for() {
    let cluster = Cluster::apart(3, "");
    let first = &cluster[0];
    refused(&first.ctl(&["await_online_nodes", "2", "--timeout", "1"]), 70, "Not enough nodes joined");
    let mut wait = first.command(&["ctl", "-n", first.name(), "await_online_nodes", "3"]);
    let waiting = std::thread::spawn(move || run(&mut wait, Duration::from_secs(60)).success());
    for node in cluster.iter().skip(1) {
        let _ = node.ctl(&["join_cluster", first.name()]).success();
    }
    let _ = waiting.join().unwrap();
    members(&cluster, 3, 3);
}

fn reset(node: &Node) {
    let _ = node.ctl(&["stop_app"]).success();
    let _ = node.ctl(&["reset"]).success();
    let _ = node.ctl(&["start_app"]).success();
}

#[test]
fn a_node_that_may_not_leave_goes_on_and_one_that_leaves_begins_anew() {
    let cluster = Cluster::start(2);
    let mut client = Client::of(&cluster[0]).confirms();
    client.declare("q", DURABLE);
    assert!(client.publish("q", "x"));
    refused(&cluster[0].ctl(&["leave_cluster"]), 69, "clients are connected to this node");
    refused(&cluster[0].ctl(&["leave_cluster", "--drain"]), 69, "the last copy in sync of queue 'q'");
    members(&cluster, 2, 2);
    assert_eq!(Client::of(&cluster[0]).get("q").as_deref(), Some("x"));
    let _ = cluster[0].ctl(&["leave_cluster", "--force"]).success();
    for node in cluster.iter() {
        until("each is alone", || (count(&super::api(node, "/api/nodes?columns=name")) == 1).then_some(()));
        assert_eq!(count(&super::api(node, "/api/queues?columns=name")), 0);
    }
    Client::of(&cluster[0]).declare("another", DURABLE);
}

#[test]
fn an_application_that_is_stopped_leaves_nothing_behind() {
    let cluster = Cluster::configured(2, "log.console.level = debug\n");
    let _ = cluster[0].ctl(&["set_policy", "ha", "^", r#"{"ha-mode":"all"}"#]).success();
    let (mut leader, mut follower) = (Client::of(&cluster[0]).confirms(), Client::of(&cluster[1]).confirms());
    for name in ["first", "second"] {
        leader.declare(name, DURABLE);
        assert!(leader.publish(name, "x") && follower.publish(name, "y"));
    }
    for node in [&cluster[0], &cluster[1]] {
        let _ = node.ctl(&["stop_app"]).success();
        let free = format!("what the application of node {} held is free", node.name());
        until(&format!("{} holds nothing", node.name()), || node.said().contains(&free).then_some(()));
        let _ = node.ctl(&["start_app"]).success();
    }
}

#[test]
fn a_node_is_reset_and_joins_again() {
    let cluster = Cluster::start(3);
    Client::of(&cluster[2]).declare("goes with its node", DURABLE);
    Client::of(&cluster[0]).declare("stays", DURABLE);
    reset(&cluster[2]);
    for node in [&cluster[0], &cluster[1]] {
        until("the node has left", || {
            (count(&super::api(node, "/api/nodes?columns=name")) == 2).then_some(())
        });
        let queues = super::api(node, "/api/queues?columns=name");
        assert!(!queues.to_string().contains("goes with its node"), "{queues}");
    }
    assert_eq!(count(&super::api(&cluster[2], "/api/nodes?columns=name")), 1);
    assert_eq!(count(&super::api(&cluster[2], "/api/queues?columns=name")), 0);
    let _ = cluster[2].ctl(&["join_cluster", cluster[1].name()]).success();
    members(&cluster, 3, 3);
    agreed(&cluster, "/api/queues?columns=name,state", |queues| count(queues) == 1);
    assert!(Client::of(&cluster[2]).confirms().publish("stays", "x"));
}

#[test]
fn a_node_is_forgotten_and_joins_again() {
    let mut cluster = Cluster::start(3);
    let name = cluster[2].name().to_owned();
    refused(&cluster[0].ctl(&["forget_cluster_node", &name]), 69, "must be stopped with");
    cluster[2].kill();
    cluster.wait_for_running(2);
    let _ = cluster[1].ctl(&["forget_cluster_node", &name]).success();
    members(&cluster, 2, 2);
    refused(&cluster[0].ctl(&["forget_cluster_node", &name]), 69, "{:not_a_cluster_node,");

    // With what it knows it does not come in again.
    cluster[2].launch();
    let said = cluster[2].wait_for_failure();
    assert!(said.contains("inconsistent_cluster"), "{said}");
    std::fs::remove_dir_all(cluster[2].data()).unwrap();
    cluster[2].resume();
    let _ = cluster[2].ctl(&["join_cluster", cluster[0].name()]).success();
    members(&cluster, 3, 3);
}

#[test]
fn a_node_with_the_last_copy_is_forgotten_by_force_only() {
    let cluster = Cluster::start(2);
    Client::of(&cluster[1]).declare("only there", DURABLE);
    let _ = cluster[1].ctl(&["stop_app"]).success();
    let forget = |more: &[&str]| cluster[0].ctl(&[&["forget_cluster_node", cluster[1].name()], more].concat());
    refused(&forget(&[]), 69, "the last copy in sync of queue 'only there' in vhost '/'");
    let _ = forget(&["--force"]).success();
    assert_eq!(count(&super::api(&cluster[0], "/api/queues")), 0);
    refused(&cluster[1].ctl(&["start_app"]), 70, "inconsistent_cluster");
    let _ = cluster[1].ctl(&["reset"]).success();
    let _ = cluster[1].ctl(&["start_app"]).success();
    assert_eq!(count(&super::api(&cluster[1], "/api/nodes")), 1);
}

#[test]
fn wrong_use_is_refused_in_rabbitmqs_words() {
    let cluster = Cluster::start(2);
    let (first, second) = (&cluster[0], &cluster[1]);
    refused(&first.ctl(&["join_cluster", first.name()]), 70, "cannot cluster node with itself");
    let gone = format!("gone@{}:1", first.amqp().ip());
    refused(&first.ctl(&["join_cluster", &gone]), 69, "unable to perform an operation on node");
    for command in [&["reset"][..], &["force_reset"], &["change_cluster_node_type", "ram"], &["force_boot"]] {
        refused(&first.ctl(command), 64, "to be stopped on the target node");
    }
    refused(&first.ctl(&["forget_cluster_node", second.name()]), 69, "must be stopped with");
    refused(&first.ctl(&["forget_cluster_node", &gone]), 69, "{:not_a_cluster_node,");
    let offline = first.ctl(&["forget_cluster_node", "--offline", second.name()]);
    refused(&offline, 69, "{:online_node_offline_flag,");
    let _ = second.ctl(&["stop_app"]).success();
    refused(&second.ctl(&["forget_cluster_node", first.name()]), 69, "{:offline_node_no_offline_flag,");
    refused(&second.ctl(&["set_cluster_name", "x"]), 64, "to be running on the target node");
    // The others still count a node that was reset by force.
    let _ = second.ctl(&["force_reset"]).success();
    refused(&second.ctl(&["join_cluster", first.name()]), 69, "{:inconsistent_cluster, 'node");
    let _ = first.ctl(&["forget_cluster_node", second.name()]).success();
    let _ = second.ctl(&["change_cluster_node_type", "disc"]);
    let _ = second.ctl(&["join_cluster", first.name()]).success();
    let _ = second.ctl(&["start_app"]).success();
    members(&cluster, 2, 2);
}
