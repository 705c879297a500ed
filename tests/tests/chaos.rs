//! Nodes are killed, frozen, stopped and started again while publishers and consumers are at work; the
//! [`Ledger`] judges.
//!
//! A run takes `WARREN_CHAOS_SECONDS` (a minute if that is not set) and draws what happens from
//! `WARREN_CHAOS_SEED`, which it prints. The same faults come again with
//!
//! ```text
//! WARREN_CHAOS_SEED=... cargo test --package black-box chaos -- --nocapture
//! ```
//!
//! With `WARREN_CHAOS_MODE` set to a mode of `cluster_partition_handling` the nodes run in a network of their
//! own, on small disks of their own. They are also cut off, split in pairs, or heard one way only, and their
//! disks get full. A node that ends for want of room is started again, as whatever watches over it would.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use black_box::{Cluster, Id, Ledger, Sees};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// Half of the queues have one consumer, which sees their order; the others have two.
const QUEUES: usize = 4;
const PUBLISHERS: usize = 4;
const CONSUMERS: usize = QUEUES * 3 / 2;
/// Messages of one publisher without a confirm.
const WINDOW: usize = 32;
/// Between two messages of one publisher.
const PACE: Duration = Duration::from_millis(2);
/// After the last fault everything works again within this time.
const HEALED: Duration = Duration::from_secs(15);
/// A question is answered, if only by a refusal.
const ANSWER: Duration = Duration::from_secs(20);
/// What the consumer before held of a queue has come back after this time.
const SETTLED: Duration = Duration::from_secs(20);
/// For a broker that does not answer a client.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of each node's disk.
const MEBIBYTES: u32 = 256;
/// Files of the message log are so small that a full disk is felt within seconds, and no alarm has publishers wait.
const FILES: &str = "msg_store_file_size_limit = 64KiB\ndisk_free_limit.absolute = 0\n";

/// Numbers from a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn millis(&mut self, least: usize, below: usize) -> Duration {
        Duration::from_millis((least + self.below(below - least)) as u64)
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    Stop,
    Freeze,
    /// Cut off from all others.
    Isolate,
    /// From the next node, both ways.
    Split,
    /// The next node does not hear it.
    Mute,
    /// Its disk has no room.
    Fill,
}

/// What happens to which nodes, and how long until they go on.
struct Fault {
    kind: Kind,
    nodes: Vec<usize>,
    holds: Duration,
    /// Whether everything has to be well before the next.
    heals: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} nodes {:?} for {:?}", self.kind, self.nodes, self.holds)
    }
}

impl Fault {
    fn draw(draw: &mut Draw, has_network: bool) -> Fault {
        use Kind::{Fill, Freeze, Isolate, Kill, Mute, Split, Stop};
        let kinds = [Kill, Kill, Stop, Freeze, Isolate, Isolate, Split, Mute, Fill, Fill];
        let kind = kinds[draw.below(if has_network { 10 } else { 4 })];
        let first = draw.below(3);
        let nodes = match (kind, draw.below(10)) {
            (Kind::Kill | Kind::Fill, 0) => vec![0, 1, 2],
            (Kind::Kill | Kind::Freeze | Kind::Fill, 1 | 2) => vec![first, (first + 1) % 3],
            _ => vec![first],
        };
        let holds = match kind {
            // Short enough to go unnoticed, or long enough to be taken for dead.
            Kind::Freeze => draw.millis(200, 8000),
            Kind::Kill | Kind::Stop => draw.millis(0, 4000),
            // Long enough for either side to go on by itself.
            Kind::Isolate | Kind::Split | Kind::Mute => draw.millis(200, 14_000),
            // Long enough for the node to end, so that others can lead.
            Kind::Fill => draw.millis(200, 25_000),
        };
        // What ends for want of room may do so a moment after there is some, and nothing else should strike it then.
        let heals = draw.below(4) != 0 || matches!(kind, Kind::Fill);
        Fault { kind, nodes, holds, heals }
    }

    fn strike(&self, cluster: &mut Cluster) {
        start_what_ended(cluster);
        for place in &self.nodes {
            match self.kind {
                Kind::Kill => cluster[*place].kill(),
                Kind::Stop => cluster[*place].stop(),
                Kind::Freeze => cluster[*place].freeze(true),
                Kind::Isolate => cluster.network().isolate(*place),
                Kind::Split => cluster.network().split(*place, (place + 1) % 3),
                Kind::Mute => cluster.network().cut(*place, (place + 1) % 3),
                Kind::Fill => cluster[*place].disk().fill(),
            }
        }
        std::thread::park_timeout(self.holds / 2);
        if matches!(self.kind, Kind::Fill) {
            // There is no room for its start either.
            start_what_ended(cluster);
        }
        std::thread::park_timeout(self.holds / 2);
        for place in &self.nodes {
            match self.kind {
                Kind::Kill | Kind::Stop => cluster[*place].launch(),
                Kind::Freeze => cluster[*place].freeze(false),
                Kind::Isolate | Kind::Split | Kind::Mute => cluster.network().heal(),
                Kind::Fill => {
                    let said = cluster[*place].said();
                    let latest = said.rsplit("there is room on the disk again").next();
                    if latest.is_some_and(|latest| latest.contains("no room on the disk")) {
                        println!("          node {place} could confirm nothing");
                    }
                    cluster[*place].disk().make_room();
                }
            }
        }
    }
}

/// Starts nodes again that have ended by themselves, which they do for want of room on their disks only.
fn start_what_ended(cluster: &mut Cluster) {
    for place in 0..3 {
        if let Some(said) = cluster[place].launch_if_ended() {
            let wanted = said.contains("No space left on device") || said.contains("no room on the disk");
            assert!(wanted, "node {place} has ended; it said:\n{said}");
            println!("          node {place} had ended for want of room");
        }
    }
}

/// What all who take part share.
struct World {
    uris: Vec<String>,
    /// Where the nodes answer over HTTP.
    apis: Vec<SocketAddr>,
    /// How things stood when something was wrong for the first time.
    evidence: parking_lot::Mutex<Option<String>>,
    ledger: parking_lot::Mutex<Ledger>,
    stop_publishing: AtomicBool,
    /// Of each publisher: messages begun, and the last of them that was confirmed.
    begun: Vec<AtomicU64>,
    done: Vec<AtomicU64>,
    /// What each publisher and each consumer waits for.
    publishers: Vec<parking_lot::Mutex<String>>,
    consumers: Vec<parking_lot::Mutex<&'static str>>,
}

impl World {
    fn delivered(self: &Arc<World>, id: Id, redelivered: bool, sees: Sees) {
        let mut ledger = self.ledger.lock();
        let before = ledger.violations().len();
        ledger.delivered(id, redelivered, sees);
        if before == 0 && !ledger.violations().is_empty() {
            let world = Arc::clone(self);
            tokio::task::spawn_blocking(move || *world.evidence.lock() = Some(standing(&world)));
        }
    }

    fn publisher(&self, publisher: usize, waits_for: impl Into<String>) {
        *self.publishers[publisher].lock() = waits_for.into();
    }

    fn consumer(&self, consumer: usize, waits_for: &'static str) {
        *self.consumers[consumer].lock() = waits_for;
    }
}

async fn open(uri: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// A channel of some node that answers; each is tried in turn.
async fn connect(world: &World, place: &mut usize) -> (Connection, Channel) {
    loop {
        *place += 1;
        let uri = &world.uris[*place % world.uris.len()];
        if let Ok(Ok(opened)) = tokio::time::timeout(PATIENCE, open(uri)).await {
            return opened;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn queue(n: usize) -> String {
    format!("chaos-{n}")
}

/// Publishes until told to stop; whatever is not confirmed is published anew.
async fn publish(world: Arc<World>, publisher: usize) {
    let mut place = publisher;
    let mut session = 0;
    while !world.stop_publishing.load(Ordering::Relaxed) {
        world.publisher(publisher, "a connection");
        let (connection, channel) = connect(&world, &mut place).await;
        if publish_on(&world, publisher, session, &channel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        session += 1;
        world.publisher(publisher, "close-ok");
        drop(tokio::time::timeout(PATIENCE, connection.close(200, "done".into())).await);
    }
}

async fn publish_on(world: &World, publisher: usize, session: u32, channel: &Channel) -> lapin::Result<()> {
    world.publisher(publisher, "select-ok");
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let key = queue(publisher % QUEUES);
    let mut waiting = std::collections::VecDeque::new();
    let mut number = 0;
    let properties = BasicProperties::default().with_delivery_mode(2);
    loop {
        let stop = world.stop_publishing.load(Ordering::Relaxed);
        if !stop {
            let id = Id { publisher: publisher as u32, session, number };
            number += 1;
            world.ledger.lock().published(id);
            let begun = world.begun[publisher].fetch_add(1, Ordering::Relaxed) + 1;
            let options = BasicPublishOptions::default();
            let body = id.body();
            world.publisher(publisher, format!("{id:?} to be sent"));
            let sent = channel.basic_publish("".into(), key.as_str().into(), options, body.as_bytes(), properties.clone());
            waiting.push_back((id, begun, sent.await?));
            tokio::time::sleep(PACE).await;
        }
        while waiting.len() >= WINDOW || stop {
            let Some((id, begun, sent)) = waiting.pop_front() else { return Ok(()) };
            world.publisher(publisher, format!("the confirm of {id:?}, {} more", waiting.len()));
            match sent.await? {
                Confirmation::Ack(_) => {
                    world.ledger.lock().confirmed(id);
                    world.done[publisher].store(begun, Ordering::Relaxed);
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => {}
            }
        }
    }
}

/// Consumes for ever.
async fn consume(world: Arc<World>, consumer: usize, alone: bool) {
    let mut place = consumer;
    loop {
        world.consumer(consumer, "a connection");
        let (connection, channel) = connect(&world, &mut place).await;
        if consume_on(&world, consumer, alone, &channel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What is left open would go on being a consumer.
        world.consumer(consumer, "close-ok");
        drop(tokio::time::timeout(PATIENCE, connection.close(200, "again".into())).await);
    }
}

async fn consume_on(world: &Arc<World>, consumer: usize, alone: bool, channel: &Channel) -> lapin::Result<()> {
    let since = Instant::now();
    let from = consumer % QUEUES;
    let waits_for = |what| world.consumer(consumer, what);
    waits_for("qos-ok");
    let Ok(set) = tokio::time::timeout(ANSWER, channel.basic_qos(100, BasicQosOptions::default())).await else {
        println!("          no answer to basic.qos within {ANSWER:?}, channel {:?}", channel.status());
        return Ok(());
    };
    set?;
    waits_for("consume-ok");
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue(from).as_str().into(), "".into(), options, FieldTable::default());
    let Ok(consumer) = tokio::time::timeout(ANSWER, consumer).await else {
        println!("          no answer to basic.consume on {} within {ANSWER:?}", queue(from));
        return Ok(());
    };
    let mut consumer = consumer?;
    loop {
        waits_for("a delivery");
        let Ok(next) = tokio::time::timeout(PATIENCE, consumer.next()).await else {
            if channel.status().connected() {
                continue;
            }
            // The library has lost the connection and not told the consumer.
            println!("          a consumer of {} waits on a dead channel", queue(from));
            return Ok(());
        };
        let Some(delivery) = next else { return Ok(()) };
        let delivery = delivery?;
        let id = Id::parse(&delivery.data).expect("a body of ours");
        let sees = match (alone, since.elapsed() < SETTLED) {
            (false, _) => Sees::Part,
            (true, true) => Sees::Order,
            (true, false) => Sees::WholeOrder,
        };
        world.delivered(id, delivery.redelivered, sees);
        waits_for("its ack to be sent");
        let Ok(sent) = tokio::time::timeout(ANSWER, delivery.ack(BasicAckOptions::default())).await else {
            println!("          an ack is not sent within {ANSWER:?}, channel {:?}", channel.status());
            return Ok(());
        };
        sent?;
    }
}

/// Waits until every publisher has a confirm for a message that it began after now.
fn wait_until_healed(cluster: &mut Cluster, world: &World, since: Instant, after: &str) {
    let begun: Vec<u64> = world.begun.iter().map(|begun| begun.load(Ordering::Relaxed)).collect();
    loop {
        start_what_ended(cluster);
        let behind: Vec<usize> =
            (0..PUBLISHERS).filter(|n| world.done[*n].load(Ordering::Relaxed) <= begun[*n]).collect();
        if behind.is_empty() {
            return;
        }
        let publishers = || world.publishers.iter().map(|publisher| publisher.lock().clone()).collect::<Vec<_>>();
        assert!(
            since.elapsed() < HEALED,
            "publishers {behind:?} get no confirms after: {after}\nthey wait for {:#?}\n{}",
            publishers(),
            standing(world)
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Three nodes; in a network if they are told how to handle partitions.
fn start(mode: Option<&str>) -> Cluster {
    let Some(mode) = mode else { return Cluster::configured(3, "cluster_partition_handling = pause_minority\n") };
    let mut cluster = Cluster::on_disks(3, MEBIBYTES, FILES);
    let mut settings = format!("cluster_partition_handling = {mode}\n");
    if mode == "pause_if_all_down" {
        let key = "cluster_partition_handling.pause_if_all_down";
        let (first, second) = (cluster[0].name(), cluster[1].name());
        settings += &format!("{key}.recover = autoheal\n{key}.nodes.1 = {first}\n{key}.nodes.2 = {second}\n");
    }
    for place in 0..3 {
        cluster[place].configure(&settings);
        cluster[place].stop();
        cluster[place].resume();
    }
    cluster.wait_for_running(3);
    cluster
}

/// Has the sides of a partition that has ended meet, wherever they wait to be told.
fn put_together(cluster: &mut Cluster) {
    black_box::until("all nodes are together", || {
        start_what_ended(cluster);
        let _ = cluster[0].ctl(&["heal_partition"]);
        let running = |node: &black_box::Node| {
            let asked = black_box::try_http(node.http(), "GET", "/api/nodes?columns=running", "");
            asked.is_ok_and(|(_, body)| body.matches("true").count() == 3)
        };
        cluster.iter().all(running).then_some(())
    });
}

#[test]
fn nothing_confirmed_is_lost_whatever_nodes_do() {
    let length = Duration::from_secs(number_from("WARREN_CHAOS_SECONDS").unwrap_or(60));
    let seed = number_from("WARREN_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ now_millis());
    println!("WARREN_CHAOS_SEED={seed}");
    let mut draw = Draw(seed);
    let mode = std::env::var("WARREN_CHAOS_MODE").ok();
    let mut cluster = start(mode.as_deref());
    let policy = r#"{"ha-mode":"all","ha-sync-mode":"automatic","ha-promote-on-failure":"when-synced","ha-promote-on-shutdown":"when-synced"}"#;
    let _ = cluster[0].ctl(&["set_policy", "chaos", "^chaos", policy]).success();
    let world = Arc::new(World {
        uris: cluster.iter().map(|node| node.uri("heartbeat=10")).collect(),
        apis: cluster.iter().map(black_box::Node::http).collect(),
        evidence: parking_lot::Mutex::default(),
        ledger: parking_lot::Mutex::default(),
        stop_publishing: AtomicBool::new(false),
        begun: (0..PUBLISHERS).map(|_| AtomicU64::new(0)).collect(),
        done: (0..PUBLISHERS).map(|_| AtomicU64::new(0)).collect(),
        publishers: (0..PUBLISHERS).map(|_| parking_lot::Mutex::default()).collect(),
        consumers: (0..CONSUMERS).map(|_| parking_lot::Mutex::new("its start")).collect(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for n in 0..QUEUES {
            let (connection, channel) = connect(&world, &mut n.clone()).await;
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue(n).as_str().into(), options, FieldTable::default()).await.unwrap();
            connection.close(200, "done".into()).await.unwrap();
        }
    });
    for n in 0..CONSUMERS {
        // What the sides of a partition took is put together in no order.
        let one_history = mode.as_deref().is_none_or(|mode| mode == "pause_minority");
        let alone = n % QUEUES >= QUEUES / 2 && one_history;
        runtime.spawn(consume(Arc::clone(&world), n, alone));
    }
    let publishers: Vec<_> = (0..PUBLISHERS).map(|n| runtime.spawn(publish(Arc::clone(&world), n))).collect();
    wait_until_healed(&mut cluster, &world, Instant::now(), "the start");

    let started = Instant::now();
    let mut faults = 0;
    while started.elapsed() < length {
        let fault = Fault::draw(&mut draw, mode.is_some());
        println!("{:6.1} s: {fault}", started.elapsed().as_secs_f64());
        fault.strike(&mut cluster);
        if mode.as_deref() == Some("ignore") {
            put_together(&mut cluster);
        }
        faults += 1;
        if fault.heals {
            let since = Instant::now();
            wait_until_healed(&mut cluster, &world, since, &fault.to_string());
            println!("          well again after {:.2} s", since.elapsed().as_secs_f64());
        }
        check(&world, seed);
        std::thread::park_timeout(draw.millis(0, 3000));
    }
    wait_until_healed(&mut cluster, &world, Instant::now(), "everything");
    world.stop_publishing.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for publisher in publishers {
            tokio::time::timeout(HEALED, publisher).await.expect("publishers end").unwrap();
        }
    });
    wait_for_all(&mut cluster, &world, seed);
    check(&world, seed);
    let (confirmed, seen, again) = world.ledger.lock().counts();
    println!("{faults} faults, {confirmed} messages confirmed, {seen} came, {again} came again");
    runtime.shutdown_background();
}

/// Everything that was confirmed comes out.
fn wait_for_all(cluster: &mut Cluster, world: &World, seed: u64) {
    let deadline = Instant::now() + HEALED * 2;
    loop {
        let missing = world.ledger.lock().missing();
        if missing.is_empty() {
            return;
        }
        let some = &missing[..missing.len().min(20)];
        if Instant::now() >= deadline {
            let (all, standing) = (missing.len(), standing(world));
            let consumers: Vec<&str> = world.consumers.iter().map(|consumer| *consumer.lock()).collect();
            let left = after_a_restart(cluster, world);
            panic!(
                "seed {seed}: {all} confirmed messages are lost, {left} also after a restart: {some:?}\n\
                 consumers wait for {consumers:?}\n{standing}"
            );
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// What is still missing after all nodes have started again: what is not is on their disks.
fn after_a_restart(cluster: &mut Cluster, world: &World) -> usize {
    for place in 0..cluster.iter().count() {
        cluster[place].kill();
        cluster[place].launch();
    }
    let started = Instant::now();
    loop {
        let left = world.ledger.lock().missing().len();
        if left == 0 || started.elapsed() >= HEALED * 2 {
            return left;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// What each node says of the queues.
fn standing(world: &World) -> String {
    let columns = "name,node,state,messages_ready,messages_unacknowledged,consumers,synchronised_slave_nodes";
    let paths = [
        &format!("/api/queues?columns={columns}"),
        "/api/channels?columns=name,consumer_count,state,messages_unacknowledged",
        "/api/consumers?columns=queue.name,channel_details.name",
    ];
    let mut text = String::new();
    for api in &world.apis {
        for path in paths {
            let answer = match black_box::try_http(*api, "GET", path, "") {
                Ok((_, answer)) => answer.replace("},{", "},\n  {"),
                Err(error) => error.to_string(),
            };
            text.push_str(&format!("{api}: {answer}\n"));
        }
    }
    text
}

fn check(world: &World, seed: u64) {
    let ledger = world.ledger.lock();
    let wrong = ledger.violations();
    let first = &wrong[..wrong.len().min(20)];
    let evidence = world.evidence.lock().take().unwrap_or_default();
    assert!(wrong.is_empty(), "seed {seed}: {} wrongs, first {first:#?}\n{evidence}", wrong.len());
}

fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}
