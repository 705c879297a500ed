//! A cluster with mirrored queues as its users try it out: two nodes or three, consumers on both sides,
//! and a node that goes, by a stop or by `kill -9`.
//!
//! ```text
//! exchange "cluster", direct              consumers
//!   key first  -> Q1 (led by node 0)      C1 on node 0
//!   key common -> Q2 (led by node 0)      C2 on node 0
//!   key second -> Q3 (led by node 1)      C3 on node 1, C4 on node 0
//!   key common -> Q4 (led by node 1)      C5 on node 1
//! ```

mod settings;
mod unclean;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use black_box::{Closed, Cluster, Frame, Method, Node, Value, until};
use serde_json::Value as Json;

use crate::cluster::{Client, agreed, api};
use crate::methods::{DECLARE_OK, DURABLE, NO_ACK, ack, bind, declare, delete, exchange, qos};

const USER: &str = "api_management";
const VHOST: &str = "cluster";
const EXCHANGE: &str = "cluster";
const Q1: &str = "clusterRabbit1Queue1";
const Q2: &str = "clusterRabbit1Queue2";
const Q3: &str = "clusterRabbit2Queue1";
const Q4: &str = "clusterRabbit2Queue2";
const FIRST: &str = "clusterRabbit1key";
const SECOND: &str = "clusterRabbit2key";
const COMMON: &str = "clusterRabbitCommonKey";

const DELIVER: (u16, u16) = (60, 60);
const CANCEL: (u16, u16) = (60, 30);
const ACK: (u16, u16) = (60, 80);
const NACK: (u16, u16) = (60, 120);

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

impl End {
    fn of(self, node: &mut Node) {
        match self {
            End::Stop => node.stop(),
            End::Kill => node.kill(),
        }
    }
}

/// A message as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    tag: u64,
    redelivered: bool,
    body: String,
}

/// Reads what stands behind the consumer tag of a delivery.
fn opened(deliver: &Frame, body: String) -> Got {
    let rest = &deliver.payload[5 + usize::from(deliver.payload[4])..];
    let tag = u64::from_be_bytes(*rest.first_chunk().expect("a delivery tag"));
    Got { tag, redelivered: rest[8] != 0, body }
}

impl Client {
    /// The next delivery.
    #[track_caller]
    fn got(&mut self) -> Got {
        let deliver = self.0.expect(DELIVER);
        let body = self.body();
        opened(&deliver, body)
    }

    /// The next delivery, acknowledged.
    #[track_caller]
    fn taken(&mut self) -> Got {
        let got = self.got();
        self.0.method(1, &ack(got.tag));
        got
    }

    #[track_caller]
    fn consume_with(&mut self, queue: &str, bits: u8, arguments: &[(&str, Value)]) {
        let method = Method::new(60, 20).short(0).text(queue).text("").octet(bits).table(arguments);
        self.ask(&method, (60, 21)).unwrap();
    }

    /// Publishes through the exchange and waits for the confirm.
    #[track_caller]
    fn send(&mut self, key: &str, body: &str) -> bool {
        self.0.publish(EXCHANGE, key, 0x1000, &[2], body.as_bytes());
        loop {
            match self.0.next().expect("the connection stays").method() {
                Some(ACK) => return true,
                Some(NACK) => return false,
                _ => {}
            }
        }
    }
}

fn client(node: &Node) -> Client {
    Client::of_user(node, USER, VHOST)
}

fn consumer(node: &Node, queue: &str) -> Client {
    let mut client = client(node);
    client.consume_with(queue, 0, &[]);
    client
}

fn publisher(node: &Node) -> Client {
    client(node).confirms()
}

/// Which node leads each queue, and who mirrors it in sync.
fn placed(queues: &Json) -> BTreeMap<&str, (&str, Vec<&str>)> {
    let placed = queues.as_array().into_iter().flatten().filter_map(|queue| {
        let synchronised = queue["synchronised_slave_nodes"].as_array()?;
        let mut mirrors: Vec<&str> = synchronised.iter().filter_map(Json::as_str).collect();
        mirrors.sort_unstable();
        Some((queue["name"].as_str()?, (queue["node"].as_str()?, mirrors)))
    });
    placed.collect()
}

const QUEUES: &str = "/api/queues/cluster?columns=name,node,synchronised_slave_nodes,state";

/// Waits until all running nodes say that each of these queues is led by its node and mirrored, in sync,
/// by all others that run.
#[track_caller]
fn wait_for_mirrors(cluster: &Cluster, leaders: &[(&str, usize)]) {
    agreed(cluster, QUEUES, |queues| {
        let placed = placed(queues);
        leaders.iter().all(|(queue, leader)| {
            let others = cluster.iter().filter(|node| node.is_up() && node.name() != cluster[*leader].name());
            let mut mirrors: Vec<&str> = others.map(Node::name).collect();
            mirrors.sort_unstable();
            placed.get(queue) == Some(&(cluster[*leader].name(), mirrors))
        })
    });
}

/// Waits until all running nodes agree on one leader of a queue among those that run, and gives its place.
#[track_caller]
fn leader_of(cluster: &Cluster, queue: &str) -> usize {
    leader_in(cluster, &format!("/api/queues/cluster/{queue}?columns=node,state"))
}

/// The same for the queue that this path shows.
#[track_caller]
fn leader_in(cluster: &Cluster, path: &str) -> usize {
    let running = |name: &Json| cluster.iter().position(|node| node.is_up() && *name == *node.name());
    let shown = agreed(cluster, path, |queue| running(&queue["node"]).is_some() && queue["state"] == "running");
    running(&shown["node"]).expect("looked at above")
}

/// A cluster with virtual host, user, policy, exchange and queues.
fn set_up(nodes: usize) -> Cluster {
    let cluster = Cluster::start(nodes);
    for command in [
        &["add_vhost", VHOST][..],
        &["add_user", USER, USER],
        &["set_user_tags", USER, "administrator"],
        &["set_permissions", "-p", VHOST, USER, ".*", ".*", ".*"],
        &["set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*"],
        &["set_policy", "-p", VHOST, "ha-all", "^", r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#],
    ] {
        let _ = cluster[0].ctl(command).success();
    }
    let mut clients = [client(&cluster[0]), client(&cluster[1])];
    clients[0].ask(&exchange(EXCHANGE, "direct", DURABLE, &[]), (40, 11)).unwrap();
    for (queue, place, key) in [(Q1, 0, FIRST), (Q2, 0, COMMON), (Q3, 1, SECOND), (Q4, 1, COMMON)] {
        clients[place].declare(queue, DURABLE);
        clients[place].ask(&bind(queue, EXCHANGE, key), (50, 21)).unwrap();
    }
    wait_for_mirrors(&cluster, &[(Q1, 0), (Q2, 0), (Q3, 1), (Q4, 1)]);
    cluster
}

/// Steps 2 to 6: everything works from both nodes.
fn use_from_both_nodes(cluster: &Cluster, consumers: &mut [Client]) {
    let [c1, c2, c3, c4, c5] = consumers else { panic!("five consumers") };
    let mut other = client(&cluster[1]);
    other.declare(Q1, DURABLE);
    other.ask(&bind(Q1, EXCHANGE, SECOND), (50, 21)).unwrap();
    let refused = other.ask(&declare(Q1, DURABLE, &[("x-max-length", Value::Int(5))]), DECLARE_OK);
    assert!(matches!(refused, Err(Closed::Channel(406, _))), "{refused:?}");
    let bindings = agreed(cluster, &format!("/api/queues/cluster/{Q1}/bindings"), |list| {
        list.as_array().is_some_and(|list| list.len() == 3)
    });
    assert!(bindings.to_string().contains(SECOND), "{bindings}");
    let unbind = Method::new(50, 50).short(0).text(Q1).text(EXCHANGE).text(SECOND).table(&[]);
    other.ask(&unbind, (50, 51)).unwrap();

    let (mut first, mut second) = (publisher(&cluster[0]), publisher(&cluster[1]));
    let fresh = |body: &str, got: &Got| assert!(!got.redelivered && got.body == body, "{body}: {got:?}");
    assert!(first.send(FIRST, "step 3"));
    fresh("step 3", &c1.taken());
    assert!(second.send(FIRST, "step 4"));
    fresh("step 4", &c1.taken());
    assert!(first.send(COMMON, "step 5"));
    fresh("step 5", &c2.taken());
    fresh("step 5", &c5.taken());
    for n in 0..6 {
        assert!(first.send(SECOND, &format!("step 6 {n}")));
    }
    let mut shared: Vec<Vec<String>> = [c3, c4].into_iter().map(|c| (0..3).map(|_| c.taken().body).collect()).collect();
    shared.sort();
    let every_second = |from: usize| (from..6).step_by(2).map(|n| format!("step 6 {n}")).collect::<Vec<_>>();
    assert_eq!(shared, [every_second(0), every_second(1)]);
}

/// Publishes one message after another, each when the one before is confirmed.
struct Stream {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
    task: JoinHandle<usize>,
}

impl Stream {
    fn start(node: &Node, key: &'static str) -> Stream {
        let mut publisher = publisher(node);
        let (stop, confirmed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&confirmed));
        let task = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                assert!(publisher.send(key, &n.to_string()), "message {n} is refused");
                count.store(n + 1, Ordering::Relaxed);
            }
            count.load(Ordering::Relaxed)
        });
        Stream { stop, confirmed, task }
    }

    #[track_caller]
    fn wait_for(&self, more: usize) {
        let enough = self.confirmed.load(Ordering::Relaxed) + more;
        until("more messages are confirmed", || {
            assert!(!self.task.is_finished(), "the publisher has failed");
            (self.confirmed.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// How many were confirmed.
    #[track_caller]
    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().expect("every message is confirmed")
    }
}

/// Takes messages until all of this count have come. Each comes unflagged once at most.
#[track_caller]
fn take_all(consumer: &mut Client, count: usize) {
    let mut seen = vec![false; count];
    let mut left = count;
    while left > 0 {
        let got = consumer.taken();
        let n: usize = got.body.parse().expect("a number");
        assert!(got.redelivered || !seen[n], "message {n} came twice as a new one");
        left -= usize::from(!std::mem::replace(&mut seen[n], true));
    }
}

/// Nothing is left in a queue, and nothing comes any more.
#[track_caller]
fn wait_for_empty(node: &Node, queue: &str) {
    until(&format!("{queue} is empty"), || {
        (api(node, &format!("/api/queues/cluster/{queue}?columns=messages"))["messages"] == 0).then_some(())
    });
}

/// Step 7: node 1 goes while messages flow, and comes back.
fn lose_and_regain(cluster: &mut Cluster, end: End, mut consumers: Vec<Client>) {
    let stream = Stream::start(&cluster[0], SECOND);
    stream.wait_for(20);
    end.of(&mut cluster[1]);
    let mut gone = [consumers.remove(4), consumers.remove(2)];
    for client in &mut gone {
        let closed = client.0.closed();
        match end {
            End::Stop => assert!(matches!(closed, Closed::Connection(320, _)), "{closed:?}"),
            End::Kill => assert_eq!(closed, Closed::Silently),
        }
    }
    let leaders = [Q1, Q2, Q3, Q4].map(|queue| (queue, leader_of(cluster, queue)));
    assert_eq!((leaders[0].1, leaders[1].1), (0, 0));
    stream.wait_for(20);
    let count = stream.finish();
    take_all(&mut consumers[2], count);
    wait_for_empty(&cluster[0], Q3);
    wait_for_mirrors(cluster, &leaders);

    cluster[1].resume();
    wait_for_mirrors(cluster, &leaders);
    assert!(publisher(&cluster[1]).send(SECOND, "after"));
    let got = consumers[2].taken();
    assert_eq!((got.body.as_str(), got.redelivered), ("after", false));
}

/// Step 8: node 1 leads Q3 again and goes while a consumer on node 0 holds a message.
fn lose_the_leader_of_a_held_message(cluster: &mut Cluster, end: End, prefetch: u16) {
    let mut other = client(&cluster[1]);
    other.ask(&delete(Q3, 0), (50, 41)).unwrap();
    other.declare(Q3, DURABLE);
    other.ask(&bind(Q3, EXCHANGE, SECOND), (50, 21)).unwrap();
    wait_for_mirrors(cluster, &[(Q3, 1)]);
    let mut c4 = client(&cluster[0]);
    c4.ask(&qos(0, prefetch), (60, 11)).unwrap();
    c4.consume_with(Q3, 0, &[]);
    assert!(publisher(&cluster[0]).send(SECOND, "held"));
    let first = c4.got();
    assert_eq!((first.body.as_str(), first.redelivered), ("held", false));
    end.of(&mut cluster[1]);
    let second = c4.got();
    assert_eq!((second.body.as_str(), second.redelivered), ("held", true));
    c4.0.method(1, &ack(first.tag));
    c4.0.method(1, &ack(second.tag));
    wait_for_empty(&cluster[0], Q3);
    // The channel is in order, and nothing came behind.
    assert!(publisher(&cluster[0]).send(SECOND, "next"));
    let next = c4.taken();
    assert_eq!((next.body.as_str(), next.redelivered), ("next", false));
    wait_for_empty(&cluster[0], Q3);
    cluster[1].resume();
    leader_of(cluster, Q3);
    wait_for_mirrors(cluster, &[(Q3, leader_of(cluster, Q3))]);
}

fn scenario(nodes: usize, end: End) {
    let mut cluster = set_up(nodes);
    let places = [(0, Q1), (0, Q2), (1, Q3), (0, Q3), (1, Q4)];
    let mut consumers: Vec<Client> = places.map(|(place, queue)| consumer(&cluster[place], queue)).into();
    use_from_both_nodes(&cluster, &mut consumers);
    lose_and_regain(&mut cluster, end, consumers);
    lose_the_leader_of_a_held_message(&mut cluster, end, 0);
}

#[test]
fn two_nodes_and_one_stops() {
    scenario(2, End::Stop);
}

#[test]
fn two_nodes_and_one_is_killed() {
    scenario(2, End::Kill);
}

#[test]
fn three_nodes_and_one_stops() {
    scenario(3, End::Stop);
}

#[test]
fn three_nodes_and_one_is_killed() {
    scenario(3, End::Kill);
}

/// The node that founded the cluster goes, and the other side sees what node 0 saw before.
fn lose_the_founder(nodes: usize, end: End) {
    let mut cluster = set_up(nodes);
    let mut c1 = consumer(&cluster[1], Q1);
    let stream = Stream::start(&cluster[1], FIRST);
    stream.wait_for(20);
    end.of(&mut cluster[0]);
    let leader = leader_of(&cluster, Q1);
    assert_ne!(leader, 0);
    stream.wait_for(20);
    let count = stream.finish();
    take_all(&mut c1, count);
    wait_for_empty(&cluster[1], Q1);
    client(&cluster[1]).declare("while the founder is gone", DURABLE);
    cluster[0].resume();
    wait_for_mirrors(&cluster, &[(Q1, leader), (Q3, 1)]);
}

#[test]
fn the_founder_of_two_nodes_stops() {
    lose_the_founder(2, End::Stop);
}

#[test]
fn the_founder_of_three_nodes_stops() {
    lose_the_founder(3, End::Stop);
}

#[test]
fn the_founder_of_three_nodes_is_killed() {
    lose_the_founder(3, End::Kill);
}

#[test]
fn prefetch_one_does_not_keep_the_second_copy_back() {
    let mut cluster = set_up(3);
    lose_the_leader_of_a_held_message(&mut cluster, End::Kill, 1);
    lose_the_leader_of_a_held_message(&mut cluster, End::Stop, 1);
}

#[test]
fn a_consumer_that_asked_for_it_is_cancelled_by_a_failover() {
    for end in [End::Stop, End::Kill] {
        let mut cluster = set_up(3);
        let mut told = client(&cluster[0]);
        told.consume_with(Q3, 0, &[("x-cancel-on-ha-failover", Value::Bool(true))]);
        let mut kept = consumer(&cluster[2], Q3);
        end.of(&mut cluster[1]);
        told.0.expect(CANCEL);
        assert!(publisher(&cluster[0]).send(SECOND, "x"));
        assert_eq!(kept.taken().body, "x");
        told.ask(&qos(0, 5), (60, 11)).unwrap();
        told.consume_with(Q3, 0, &[]);
    }
}

#[test]
fn a_consumer_that_is_cancelled_while_its_leader_goes_gets_nothing_of_the_next_one() {
    let mut cluster = set_up(3);
    let mut leaving: Vec<Client> = [0, 2].map(|place| client(&cluster[place])).into();
    for client in &mut leaving {
        let consume = Method::new(60, 20).short(0).text(Q3).text("leaving").octet(NO_ACK).table(&[]);
        client.ask(&consume, (60, 21)).unwrap();
    }
    // It answers nobody any more.
    cluster[1].freeze(true);
    for client in &mut leaving {
        client.0.method(1, &Method::new(60, 30).text("leaving").octet(0));
    }
    cluster[1].kill();
    for client in &mut leaving {
        client.0.expect((60, 31));
    }
    let mut publisher = publisher(&cluster[0]);
    for n in 0..5 {
        assert!(publisher.send(SECOND, &n.to_string()));
    }
    let mut reader = client(&cluster[2]);
    for n in 0..5 {
        assert_eq!(reader.get(Q3), Some(n.to_string()));
    }
}

#[test]
fn automatic_acknowledgement_gives_one_copy() {
    for end in [End::Stop, End::Kill] {
        let mut cluster = set_up(3);
        let mut c4 = client(&cluster[0]);
        c4.consume_with(Q3, NO_ACK, &[]);
        assert!(publisher(&cluster[0]).send(SECOND, "one"));
        assert_eq!(c4.got().body, "one");
        wait_for_empty(&cluster[2], Q3);
        end.of(&mut cluster[1]);
        leader_of(&cluster, Q3);
        assert!(publisher(&cluster[0]).send(SECOND, "two"));
        let got = c4.got();
        assert_eq!((got.body.as_str(), got.redelivered), ("two", false));
    }
}

#[test]
fn a_queue_that_sends_its_backlog_is_syncing() {
    // The mirror stands still for a while, and is waited for.
    let cluster = Cluster::configured(2, "failure_timeout = 60s\n");
    let mut publisher = Client::of(&cluster[0]).confirms();
    publisher.declare("backlog", DURABLE);
    let body = "x".repeat(100_000);
    for _ in 0..150 {
        assert!(publisher.publish("backlog", &body));
    }
    let policy = r#"{"ha-mode":"all","ha-sync-mode":"manual"}"#;
    let _ = cluster[0].ctl(&["set_policy", "ha", "^backlog", policy]).success();
    let path = "/api/queues/%2F/backlog";
    let detail = |left: u64, strategy: &str| {
        serde_json::json!([{
            "node": cluster[1].name(), "synchronised": false, "sync_messages_left": left,
            "sync_bytes_left": null, "sync_strategy": strategy,
        }])
    };
    let shown = agreed(&cluster, &format!("{path}?columns=state,mirror_details,sync_messages"), |queue| {
        queue["mirror_details"] == detail(150, "event")
    });
    assert_eq!(shown["state"], "running");

    cluster[1].sleep();
    let _ = cluster[0].ctl(&["sync_queue", "backlog"]).success();
    // More than the mirror is sent without an answer is left.
    let shown = until("some of the backlog is sent", || {
        let shown = api(&cluster[0], path);
        (shown["sync_messages"].as_u64()? > 0).then_some(shown)
    });
    let sent = shown["sync_messages"].as_u64().unwrap();
    assert!(sent < 150, "{shown}");
    assert_eq!(shown["state"], "syncing");
    assert_eq!(shown["mirror_details"], detail(150 - sent, "full"));
    let listed = cluster[0].ctl(&["list_queues", "--silent", "name", "state"]).success();
    assert!(listed.contains("{syncing,"), "{listed}");
    let _ = cluster[0].ctl(&["cancel_sync_queue", "backlog"]).success();
    assert_eq!(api(&cluster[0], path)["state"], "running");

    let _ = cluster[0].ctl(&["sync_queue", "backlog"]).success();
    assert_eq!(api(&cluster[0], path)["state"], "syncing");
    cluster[1].wake();
    let shown = agreed(&cluster, &format!("{path}?columns=state,mirror_details,synchronised_slave_nodes"), |queue| {
        queue["synchronised_slave_nodes"] == serde_json::json!([cluster[1].name()])
            && queue["mirror_details"][0]["sync_messages_left"] == 0
    });
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["mirror_details"][0]["synchronised"], true);
}
