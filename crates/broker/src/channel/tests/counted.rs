//! What a channel counts, and tells once.

use amqp::{Properties, Table};

use super::*;
use crate::metadata::Destination;
use crate::traffic::{Passed, Traffic};

/// A client with so many queues bound to `amq.fanout`.
fn fanout(queues: usize) -> Client {
    let mut client = open_connection();
    for number in 0..queues {
        let name = format!("q{number}");
        client.world.queue(&name);
        client.world.done(Command::Bind {
            vhost: "/".into(),
            source: "amq.fanout".into(),
            destination: Destination::Queue(name.as_str().into()),
            routing_key: Vec::new(),
            arguments: Table::new(),
        });
    }
    client
}

fn publish(client: &mut Client, exchange: &str, key: &str) {
    client.publish(1, exchange, key, &Properties::default(), b"x");
    client.told();
}

/// What its channels count from here on; closes none.
fn told(client: &mut Client) -> Traffic {
    let mut traffic = Traffic::default();
    client.connection.tell_traffic(&mut traffic);
    traffic
}

fn passed(traffic: &Traffic) -> Vec<(&str, u64, u64)> {
    let passed = traffic.exchanges.iter();
    passed.map(|(name, it)| (std::str::from_utf8(name).unwrap(), it.publish_in, it.publish_out)).collect()
}

#[test]
fn a_publish_to_many_queues_counts_once_and_once_for_each_where_it_goes() {
    let mut client = fanout(5);
    for round in 0..100 {
        publish(&mut client, "amq.fanout", "");
        if round % 10 == 0 {
            publish(&mut client, "", "q1");
            publish(&mut client, "", &format!("q{}", round / 30));
        }
    }
    let traffic = told(&mut client);
    assert_eq!(traffic.messages, Counters { publish: 120, ..Counters::default() });
    assert_eq!(passed(&traffic), [("", 20, 20), ("amq.fanout", 100, 500)]);
    assert_eq!(told(&mut client), Traffic::default(), "told twice");
}

#[test]
fn counts_of_a_route_survive_a_change_of_the_tables() {
    let mut client = fanout(2);
    publish(&mut client, "amq.fanout", "");
    publish(&mut client, "amq.fanout", "");
    client.world.queue("another");
    publish(&mut client, "amq.fanout", "");
    assert_eq!(passed(&told(&mut client)), [("amq.fanout", 3, 6)]);
}

#[test]
fn what_no_queue_takes_is_counted_as_dropped_or_returned_and_confirmed() {
    let mut client = open_connection();
    client.send(1, confirm::Select { no_wait: true });
    for _ in 0..50 {
        publish(&mut client, "amq.direct", "nowhere");
    }
    for _ in 0..20 {
        let mut bytes = Vec::new();
        let method = basic::Publish { mandatory: true, ..crate::connection::tests::publish_method("amq.direct", "nowhere") };
        amqp::write_method(&mut bytes, 1, &method.into());
        amqp::write_content_header(&mut bytes, 1, 0, &Properties::default().to_bytes());
        client.bytes(&bytes);
    }
    let traffic = told(&mut client);
    let wanted =
        Counters { publish: 70, confirm: 70, drop_unroutable: 50, return_unroutable: 20, ..Counters::default() };
    assert_eq!(traffic.messages, wanted);
    assert_eq!(passed(&traffic), [("amq.direct", 70, 0)]);
}

#[test]
fn a_refused_publish_is_none() {
    let mut client = open_connection();
    publish(&mut client, "amq.direct", "nowhere");
    publish(&mut client, "nosuch", "");
    assert_eq!(client.fx.traffic.messages.publish, 1);
    assert_eq!(passed(&client.fx.traffic), [("amq.direct", 1, 0)]);
}

#[test]
fn a_channel_that_closes_leaves_what_it_has_not_told() {
    let mut client = fanout(3);
    publish(&mut client, "amq.fanout", "");
    assert_eq!(told(&mut client).messages.publish, 1);
    publish(&mut client, "amq.fanout", "");
    publish(&mut client, "amq.fanout", "");
    client.send(1, wire::Close::default());
    assert!(client.fx.channels_closed > 0, "the driver looks only then");
    assert_eq!(client.fx.traffic.messages.publish, 2);
    assert_eq!(passed(&client.fx.traffic), [("amq.fanout", 2, 6)]);
    client.send(1, wire::Open {});
    publish(&mut client, "amq.fanout", "");
    client.connection.ended(&mut client.fx);
    assert_eq!(client.fx.traffic.exchanges[&b"amq.fanout"[..]], Passed { publish_in: 3, publish_out: 9 });
}

#[test]
fn a_transaction_counts_when_it_commits() {
    let mut client = fanout(2);
    client.send(1, tx::Select {});
    for _ in 0..3 {
        publish(&mut client, "amq.fanout", "");
    }
    client.send(1, tx::Rollback {});
    publish(&mut client, "amq.fanout", "");
    publish(&mut client, "amq.fanout", "nobody looks at it");
    publish(&mut client, "amq.direct", "nowhere");
    assert_eq!(told(&mut client), Traffic::default(), "before the commit");
    client.send(1, tx::Commit {});
    let traffic = told(&mut client);
    assert_eq!(traffic.messages, Counters { publish: 3, drop_unroutable: 1, ..Counters::default() });
    assert_eq!(passed(&traffic), [("amq.direct", 1, 0), ("amq.fanout", 2, 4)]);
}
