//! Where new queues go when the strategy looks at what the nodes have to do.

use black_box::{Cluster, Node, Value, until};

use super::{Client, DECLARE_OK, DELETE_OK, agreed, api, count};
use crate::methods::{DURABLE, declare, delete};

/// Declares a queue; an empty strategy is none.
#[track_caller]
fn declared_with(client: &mut Client, queue: &str, strategy: &'static str) {
    let locator = [("x-queue-master-locator", Value::Text(strategy))];
    let locator = if strategy.is_empty() { &[][..] } else { &locator };
    client.ask(&declare(queue, DURABLE, locator), DECLARE_OK).unwrap();
}

fn leader(node: &Node, queue: &str) -> String {
    api(node, &format!("/api/queues/%2f/{queue}"))["node"].as_str().unwrap().to_owned()
}

/// Waits until the nodes know what the others have to do, so that a queue declared on `asked` goes where
/// it should.
#[track_caller]
fn until_placed(asked: &Node, strategy: &'static str, on: &Node) {
    let mut client = Client::of(asked);
    until(&format!("a queue by strategy '{strategy}', declared on {}, goes to {}", asked.name(), on.name()), || {
        declared_with(&mut client, "probe", strategy);
        let placed = leader(asked, "probe");
        client.ask(&delete("probe", 0), DELETE_OK).unwrap();
        (placed == on.name()).then_some(())
    });
}

#[test]
fn queues_go_to_the_node_with_the_fewest_messages_or_connections() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = cluster.iter().map(|node| Client::of(node).confirms()).collect();
    // By the number of queues it would never be the last node.
    for (place, messages) in [(0, 6), (1, 3), (2, 1)] {
        let queue = format!("of-{place}");
        clients[place].declare(&queue, DURABLE);
        for n in 0..messages {
            assert!(clients[place].publish(&queue, &n.to_string()));
        }
    }
    for n in 0..8 {
        clients[2].declare(&format!("empty-{n}"), DURABLE);
    }
    for asked in cluster.iter() {
        until_placed(asked, "min-messages", &cluster[2]);
    }
    declared_with(&mut clients[0], "by-messages", "min-messages");
    agreed(&cluster, "/api/queues/%2f/by-messages?columns=node", |queue| queue["node"] == cluster[2].name());
    // Messages come and go, and the node to choose with them.
    for n in 0..8 {
        assert!(clients[0].publish("of-2", &n.to_string()));
    }
    for n in 0..6 {
        assert_eq!(clients[0].get("of-0"), Some(n.to_string()));
    }
    until_placed(&cluster[1], "min-messages", &cluster[0]);
    // More clients everywhere but on the last node, which leads the most queues.
    clients.extend([0, 0, 0, 1, 1, 1].map(|place| Client::of(&cluster[place])));
    agreed(&cluster, "/api/connections?columns=node", |list| count(list) == 9);
    until_placed(&cluster[1], "min-connections", &cluster[2]);
    declared_with(&mut clients[0], "by-connections", "min-connections");
    agreed(&cluster, "/api/queues/%2f/by-connections?columns=node", |queue| queue["node"] == cluster[2].name());
}

#[test]
fn the_configured_strategy_looks_at_messages_too() {
    let cluster = Cluster::configured(2, "queue_master_locator = min-messages\n");
    let mut clients: Vec<Client> = cluster.iter().map(|node| Client::of(node).confirms()).collect();
    declared_with(&mut clients[0], "full", "client-local");
    assert!(clients[0].publish("full", "x"));
    for n in 0..3 {
        declared_with(&mut clients[1], &format!("empty-{n}"), "client-local");
    }
    until_placed(&cluster[0], "", &cluster[1]);
}
