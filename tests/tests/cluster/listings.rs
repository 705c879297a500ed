//! Listings, names, limits and orders are the cluster's: it does not matter which node is asked.

use black_box::{Closed, Cluster, Method, Node, Wire, http, until};
use serde_json::json;

use super::{CONSUME_OK, Client, agreed, api, count};
use crate::methods::{DURABLE, consume};

/// What a command prints on all nodes.
#[track_caller]
fn printed(cluster: &Cluster, arguments: &[&str], is_right: impl Fn(&str) -> bool) -> String {
    // What a node thinks of the others is its own.
    let common = |output: String| -> String {
        output.lines().filter(|line| !line.contains(", incarnation: ")).flat_map(|line| [line, "\n"]).collect()
    };
    until(&format!("all nodes print the same for {arguments:?}"), || {
        let mut outputs = cluster.iter().map(|node| common(node.ctl(arguments).success()));
        let first = outputs.next()?;
        (is_right(&first) && outputs.all(|output| output == first)).then_some(first)
    })
}

#[test]
fn listings_are_the_same_from_every_node() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<Client> = cluster.iter().map(|node| Client::of(node).confirms()).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        client.declare(&format!("queue {place}"), DURABLE);
        assert!(client.publish("queue 0", "x"));
    }
    clients[1].ask(&consume("queue 2", "reader", 0), CONSUME_OK).unwrap();
    let queues = agreed(
        &cluster,
        "/api/queues?columns=name,vhost,node,state,durable,messages,messages_ready,consumers",
        |queues| count(queues) == 3 && queues[0]["messages"] == 3 && queues[2]["consumers"] == 1,
    );
    for (place, node) in cluster.iter().enumerate() {
        assert_eq!(queues[place]["node"], node.name());
        assert_eq!(queues[place]["state"], "running");
    }
    let right = |list: &serde_json::Value| count(list) == 3;
    let connections = agreed(&cluster, "/api/connections?columns=name,node,user,vhost,state,channels", right);
    for node in cluster.iter() {
        assert!(connections.as_array().unwrap().iter().any(|connection| connection["node"] == node.name()));
    }
    agreed(&cluster, "/api/channels?columns=name,node,number,user,confirm,consumer_count", right);
    let consumers = agreed(&cluster, "/api/consumers", |list| count(list) == 1);
    assert_eq!(consumers[0]["queue"]["name"], "queue 2");
    assert_eq!(consumers[0]["channel_details"]["node"], cluster[1].name());
    let nodes = agreed(&cluster, "/api/nodes?columns=name,type,running,being_drained,processors,partitions", right);
    assert!(nodes.as_array().unwrap().iter().all(|node| node["running"] == true));
    for columns in ["object_totals", "cluster_name", "listeners", "queue_totals.messages"] {
        agreed(&cluster, &format!("/api/overview?columns={columns}"), |_| true);
    }
    let totals = api(&cluster[2], "/api/overview");
    assert_eq!(totals["object_totals"]["connections"], 3);
    assert_eq!(totals["churn_rates"]["queue_created"], 3);

    let lines = |count: usize| move |output: &str| output.lines().filter(|line| !line.is_empty()).count() == count;
    printed(&cluster, &["list_queues", "name", "messages", "consumers", "state"], lines(4));
    printed(&cluster, &["list_connections", "name", "user", "state", "channels"], lines(4));
    printed(&cluster, &["list_channels", "name", "number", "consumer_count"], lines(4));
    printed(&cluster, &["list_consumers"], lines(2));
    let status = printed(&cluster, &["cluster_status"], |_| true);
    for node in cluster.iter() {
        assert!(status.contains(&format!("{}: RabbitMQ", node.name())), "{status}");
    }
}

/// The server properties of `connection.start`, as bytes.
fn properties(node: &Node) -> String {
    let mut wire = Wire::connect(node.amqp());
    wire.send(b"AMQP\x00\x00\x09\x01");
    String::from_utf8_lossy(&wire.expect((10, 10)).payload).into_owned()
}

#[test]
fn the_cluster_has_one_name() {
    let cluster = Cluster::start(3);
    let first = cluster[0].name();
    for node in cluster.iter() {
        assert!(properties(node).contains(first));
    }
    agreed(&cluster, "/api/cluster-name", |name| name["name"] == first);
    let _ = cluster[1].ctl(&["set_cluster_name", "a hutch"]).success();
    agreed(&cluster, "/api/cluster-name", |name| name["name"] == "a hutch");
    for node in cluster.iter() {
        assert!(properties(node).contains("a hutch"));
    }
    let (status, _) = http(cluster[2].http(), "PUT", "/api/cluster-name", r#"{"name":"a burrow"}"#);
    assert_eq!(status, 204);
    agreed(&cluster, "/api/overview?columns=cluster_name", |overview| overview["cluster_name"] == "a burrow");
}

#[test]
fn a_connection_is_closed_through_another_node() {
    let cluster = Cluster::start(2);
    let mut client = Client::of(&cluster[0]);
    let path = "/api/connections?columns=name";
    let list = agreed(&cluster, path, |list| count(list) == 1);
    let name = list[0]["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E");
    let (status, _) = http(cluster[1].http(), "DELETE", &format!("/api/connections/{name}"), "");
    assert_eq!(status, 204);
    let expected = "CONNECTION_FORCED - Closed via management plugin".to_owned();
    assert_eq!(client.0.closed(), Closed::Connection(320, expected));
    agreed(&cluster, path, |list| count(list) == 0);
}

#[test]
fn limits_count_what_is_open_on_all_nodes() {
    let cluster = Cluster::start(3);
    let _ = cluster[2].ctl(&["set_vhost_limits", "-p", "/", r#"{"max-connections": 2}"#]).success();
    agreed(&cluster, "/api/vhost-limits", |limits| count(limits) == 1);
    let first = Client::of(&cluster[0]);
    let second = Client::of(&cluster[1]);
    let refused = Wire::open_as(cluster[2].amqp(), "guest", "guest", "/").unwrap_err();
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (2) is reached";
    assert_eq!(refused, Closed::Connection(530, text.to_owned()));
    drop(first);
    let third = until("there is room again", || Wire::open_as(cluster[2].amqp(), "guest", "guest", "/").ok());
    drop((second, third));

    let _ = cluster[0].ctl(&["clear_vhost_limits", "-p", "/"]).success();
    let _ = cluster[0].ctl(&["set_user_limits", "guest", r#"{"max-channels": 2}"#]).success();
    agreed(&cluster, "/api/user-limits", |limits| count(limits) == 1);
    agreed(&cluster, "/api/connections", |list| count(list) == 0);
    let _first = Client::of(&cluster[0]);
    let mut second = Client::of(&cluster[1]);
    agreed(&cluster, "/api/channels", |list| count(list) == 2);
    second.0.method(2, &Method::new(20, 10).text(""));
    let Closed::Connection(530, text) = second.0.closed() else { panic!("a third channel was opened") };
    assert!(text.contains("has reached the maximum allowed user limit of (2)"), "{text}");
}

#[test]
fn a_drained_node_takes_no_clients_until_it_is_revived() {
    let cluster = Cluster::start(2);
    let mut client = Client::of(&cluster[1]);
    let _ = cluster[1].ctl(&["drain"]).success();
    let Closed::Connection(320, _) = client.0.closed() else { panic!("the client stays") };
    assert!(std::net::TcpStream::connect(cluster[1].amqp()).is_err());
    agreed(&cluster, "/api/nodes?columns=being_drained,running", |nodes| {
        let drained = nodes.as_array().unwrap().iter().filter(|node| node["being_drained"] == true);
        drained.count() == 1
    });
    let _ = cluster[1].ctl(&["revive"]).success();
    agreed(&cluster, "/api/nodes?columns=being_drained", |nodes| {
        *nodes == json!([{"being_drained": false}, {"being_drained": false}])
    });
    let _back = until("the port is open again", || {
        std::net::TcpStream::connect(cluster[1].amqp()).ok()?;
        Some(Client::of(&cluster[1]))
    });
}
