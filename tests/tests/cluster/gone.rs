//! Nodes that are gone: what their queues answer meanwhile, and what is there when they are back.

use black_box::{Closed, Cluster, Method, Value, until};

use super::{CANCEL, CONSUME_OK, Client, DECLARE_OK, DELETE_OK, GET_OK, PURGE_OK, agreed, count};
use crate::methods::{DURABLE, EXCLUSIVE, NO_ACK, PASSIVE, consume, declare, delete, get};

fn purge(queue: &str) -> Method {
    Method::new(50, 30).short(0).text(queue).octet(0)
}

/// Reads on until the broker has cancelled these consumers, in any order.
#[track_caller]
fn cancelled(client: &mut Client, tags: &[&str]) {
    let mut found: Vec<String> = tags
        .iter()
        .map(|_| {
            let cancel = client.0.expect(CANCEL);
            let length = usize::from(cancel.payload[4]);
            String::from_utf8(cancel.payload[5..5 + length].to_vec()).unwrap()
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, tags);
}

fn not_found(text: &str) -> Closed {
    Closed::Channel(404, format!("NOT_FOUND - {text}"))
}

#[test]
fn queues_of_a_killed_node_answer_at_once_that_it_is_down() {
    let mut cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]);
    owner.declare("kept", DURABLE);
    owner.declare("deleted meanwhile", DURABLE);
    owner.declare("transient", 0);
    owner.declare("exclusive", EXCLUSIVE);
    let mut publishers: Vec<Client> = cluster.iter().take(2).map(|node| Client::of(node).confirms()).collect();
    for (place, publisher) in publishers.iter_mut().enumerate() {
        for n in 0..5 {
            assert!(publisher.publish("kept", &format!("{place}/{n}")));
        }
    }
    cluster[2].kill();
    cluster.wait_for_running(2);

    let home = cluster[2].name();
    let down = |queue: &str| {
        not_found(&format!("home node '{home}' of durable queue '{queue}' in vhost '/' is down or inaccessible"))
    };
    for (place, publisher) in publishers.iter_mut().enumerate() {
        let mut client = Client::of(&cluster[place]);
        let asked = [
            (declare("kept", DURABLE, &[]), DECLARE_OK),
            (declare("kept", PASSIVE, &[]), DECLARE_OK),
            (get("kept"), GET_OK),
            (consume("kept", "", 0), CONSUME_OK),
            (purge("kept"), PURGE_OK),
        ];
        for (method, answer) in asked {
            assert_eq!(client.ask(&method, answer).unwrap_err(), down("kept"), "{method:?}");
        }
        for queue in ["transient", "exclusive"] {
            let answer = client.ask(&declare(queue, PASSIVE, &[]), DECLARE_OK);
            assert_eq!(answer.unwrap_err(), not_found(&format!("no queue '{queue}' in vhost '/'")));
        }
        assert!(!publisher.publish("kept", "into the void"));
    }
    let path = "/api/queues?columns=name,state,node";
    let shown = agreed(&cluster, path, |queues| count(queues) == 2);
    for queue in shown.as_array().unwrap() {
        assert_eq!(queue["state"], "down");
        assert_eq!(queue["node"], home);
    }
    Client::of(&cluster[0]).ask(&delete("deleted meanwhile", 0), DELETE_OK).unwrap();
    agreed(&cluster, path, |queues| count(queues) == 1);

    cluster[2].resume();
    cluster.wait_for_running(3);
    agreed(&cluster, path, |queues| count(queues) == 1 && queues[0]["state"] == "running");
    let mut bodies = Vec::new();
    let mut client = Client::of(&cluster[1]);
    while let Some(body) = client.get("kept") {
        bodies.push(body);
    }
    let expected: Vec<String> = (0..2).flat_map(|place| (0..5).map(move |n| format!("{place}/{n}"))).collect();
    assert_eq!(bodies, expected);
    assert!(publishers[0].publish("kept", "again"));
}

#[test]
fn a_consumer_elsewhere_is_served_again_when_the_queue_is_back() {
    let mut cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]).confirms();
    owner.declare("kept", DURABLE);
    owner.declare("later", DURABLE);
    let mut consumer = Client::of(&cluster[0]);
    consumer.ask(&consume("kept", "reader", NO_ACK), CONSUME_OK).unwrap();
    assert!(Client::of(&cluster[1]).confirms().publish("kept", "before"));
    assert_eq!(consumer.delivery(), "before");
    // What is confirmed later is on disk later: the acknowledgement of "before" is there as well.
    assert!(owner.publish("later", "x"));
    cluster[2].kill();
    cluster.wait_for_running(2);
    cluster[2].resume();
    cluster.wait_for_running(3);
    assert!(Client::of(&cluster[1]).confirms().publish("kept", "after"));
    assert_eq!(consumer.delivery(), "after");
}

#[test]
fn a_node_that_was_taken_for_dead_begins_anew() {
    let cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]).confirms();
    owner.declare("kept", DURABLE);
    assert!(owner.publish("kept", "x"));
    cluster[2].sleep();
    let running = |count: usize| {
        until(&format!("{count} nodes run"), || {
            let nodes = super::api(&cluster[0], "/api/nodes?columns=running");
            (nodes.to_string().matches("true").count() == count).then_some(())
        });
    };
    running(2);
    let listed = super::api(&cluster[0], "/api/queues?columns=state");
    assert_eq!(listed[0]["state"], "down");
    cluster[2].wake();
    let Closed::Connection(320, _) = owner.0.closed() else { panic!("clients stay with a node that is down") };
    running(3);
    cluster.wait_for_running(3);
    let mut client = Client::of(&cluster[0]);
    until("the queue is led again", || client.ask(&declare("kept", PASSIVE, &[]), DECLARE_OK).ok());
    assert_eq!(client.get("kept").as_deref(), Some("x"));
}

#[test]
fn a_stopped_application_is_gone_and_comes_back() {
    let cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[1]).confirms();
    owner.declare("kept", DURABLE);
    owner.declare("transient", 0);
    assert!(owner.publish("kept", "x"));
    let _ = cluster[1].ctl(&["stop_app"]).success();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'".to_owned();
    assert_eq!(owner.0.closed(), Closed::Connection(320, text));
    for node in [&cluster[0], &cluster[2]] {
        until("the node is shown as stopped", || {
            let nodes = super::api(node, "/api/nodes?columns=name,running");
            let stopped = nodes.as_array()?.iter().find(|shown| shown["running"] == false)?;
            (stopped["name"] == cluster[1].name()).then_some(())
        });
        let listed = node.ctl(&["list_queues", "--no-table-headers", "name", "state"]).success();
        assert_eq!(listed.trim(), "kept\tdown");
    }
    let status = cluster[1].ctl(&["cluster_status"]).success();
    for node in cluster.iter() {
        assert!(status.contains(node.name()), "{status}");
    }
    let _ = cluster[1].ctl(&["start_app"]).success();
    cluster.wait_for_running(3);
    assert_eq!(Client::of(&cluster[0]).get("kept").as_deref(), Some("x"));
}

#[test]
fn two_nodes_stop_and_start_in_each_order() {
    let mut cluster = Cluster::start(2);
    for place in 0..2 {
        Client::of(&cluster[place]).declare(&format!("queue {place}"), DURABLE);
    }
    for (round, (stopped, started)) in [([0, 1], [0, 1]), ([0, 1], [1, 0]), ([1, 0], [0, 1]), ([1, 0], [1, 0])]
        .into_iter()
        .enumerate()
    {
        let mut publisher = Client::of(&cluster[round % 2]).confirms();
        for place in 0..2 {
            assert!(publisher.publish(&format!("queue {place}"), &round.to_string()));
        }
        for place in stopped {
            cluster[place].stop();
        }
        if started[0] == stopped[1] {
            // Who went last knows everything, and serves at once.
            cluster[started[0]].resume();
            Client::of(&cluster[started[0]]).declare(&format!("queue {}", started[0]), DURABLE);
            cluster[started[1]].resume();
        } else {
            for place in started {
                cluster[place].launch();
            }
            for place in started {
                cluster[place].wait_for_line("stop with");
            }
        }
        cluster.wait_for_running(2);
        let mut client = Client::of(&cluster[(round + 1) % 2]);
        for place in 0..2 {
            assert_eq!(client.get(&format!("queue {place}")), Some(round.to_string()));
        }
    }
}

#[test]
fn consumers_elsewhere_are_cancelled_when_their_queue_goes_with_its_node() {
    let mut cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]);
    owner.declare("transient", 0);
    owner.declare("another", 0);
    owner.declare("kept", DURABLE);
    let mut consumer = Client::of(&cluster[0]);
    for (queue, tag) in [("transient", "a"), ("transient", "b"), ("another", "c"), ("kept", "d")] {
        consumer.ask(&consume(queue, tag, NO_ACK), CONSUME_OK).unwrap();
    }
    let wants_that = [("x-cancel-on-ha-failover", Value::Bool(true))];
    let consume_kept = Method::new(60, 20).short(0).text("kept").text("e").octet(NO_ACK).table(&wants_that);
    consumer.ask(&consume_kept, CONSUME_OK).unwrap();
    cluster[2].kill();
    cancelled(&mut consumer, &["a", "b", "c", "e"]);
    // The name, and the tag, are free.
    consumer.declare("transient", 0);
    consumer.ask(&consume("transient", "a", NO_ACK), CONSUME_OK).unwrap();
    assert!(Client::of(&cluster[1]).confirms().publish("transient", "x"));
    assert_eq!(consumer.delivery(), "x");
    // The other one waits for its queue.
    cluster[2].resume();
    cluster.wait_for_running(3);
    assert!(Client::of(&cluster[1]).confirms().publish("kept", "y"));
    assert_eq!(consumer.delivery(), "y");
}

#[test]
fn consumers_are_cancelled_when_the_queue_of_a_node_that_is_down_is_deleted_or_forgotten() {
    let mut cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]);
    for queue in ["deleted", "deleted by its consumer", "forgotten"] {
        owner.declare(queue, DURABLE);
    }
    let mut consumer = Client::of(&cluster[0]);
    for queue in ["deleted", "deleted by its consumer", "forgotten"] {
        consumer.ask(&consume(queue, queue, 0), CONSUME_OK).unwrap();
    }
    cluster[2].kill();
    cluster.wait_for_running(2);
    Client::of(&cluster[1]).ask(&delete("deleted", 0), DELETE_OK).unwrap();
    cancelled(&mut consumer, &["deleted"]);
    consumer.ask(&delete("deleted by its consumer", 0), DELETE_OK).unwrap();
    cancelled(&mut consumer, &["deleted by its consumer"]);
    let name = cluster[2].name().to_owned();
    let _ = cluster[1].ctl(&["forget_cluster_node", "--force", &name]).success();
    cancelled(&mut consumer, &["forgotten"]);
}

/// Its links stand, and nobody tells anything over them.
#[test]
fn consumers_are_cancelled_when_their_queue_goes_with_a_node_that_has_stopped_moving() {
    let cluster = Cluster::start(3);
    Client::of(&cluster[2]).declare("transient", 0);
    let mut consumer = Client::of(&cluster[0]);
    consumer.ask(&consume("transient", "a", 0), CONSUME_OK).unwrap();
    cluster[2].freeze(true);
    cancelled(&mut consumer, &["a"]);
    cluster[2].freeze(false);
}

#[test]
fn what_was_delivered_comes_before_the_news_that_the_queue_is_deleted() {
    let cluster = Cluster::start(3);
    let mut owner = Client::of(&cluster[2]).confirms();
    for round in 0..10 {
        let queue = format!("queue {round}");
        owner.declare(&queue, 0);
        let mut consumer = Client::of(&cluster[round % 2]);
        consumer.ask(&consume(&queue, "a", NO_ACK), CONSUME_OK).unwrap();
        for n in 0..50 {
            assert!(owner.publish(&queue, &n.to_string()));
        }
        owner.ask(&delete(&queue, 0), DELETE_OK).unwrap();
        for n in 0..50 {
            assert_eq!(consumer.delivery(), n.to_string());
        }
        cancelled(&mut consumer, &["a"]);
    }
}
