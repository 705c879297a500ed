//! Publishers at work while things break, and what becomes of their messages.
//!
//! Each publisher stays with its node: if that closes the connection, or does not answer, it comes again
//! until it is let in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use black_box::{Cluster, Id, Ledger, Node, Sees, until};
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{QUEUE, asked};

/// Messages of one publisher without a confirm.
const WINDOW: usize = 16;
/// Between two messages of one publisher, and between two attempts to connect.
const PACE: Duration = Duration::from_millis(5);
/// For a connection to be opened.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than anything needs, on a busy machine too.
const END: Duration = Duration::from_secs(60);

/// See the file's head.
pub(super) struct Load {
    runtime: Runtime,
    world: Arc<World>,
    publishers: Vec<JoinHandle<()>>,
}

struct World {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    /// Of each publisher: messages begun, and the last of them that was confirmed.
    begun: Vec<AtomicU64>,
    confirmed: Vec<AtomicU64>,
}

impl Load {
    /// Publishers on all nodes; the messages of each are confirmed already.
    #[track_caller]
    pub(super) fn start(cluster: &Cluster) -> Load {
        let counters = || cluster.iter().map(|_| AtomicU64::new(0)).collect();
        let world = World {
            ledger: Mutex::default(),
            stop: AtomicBool::new(false),
            begun: counters(),
            confirmed: counters(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Arc::new(world);
        let publisher = |(place, node): (usize, &Node)| {
            runtime.spawn(publish(Arc::clone(&world), place, node.uri("heartbeat=10")))
        };
        let publishers = cluster.iter().enumerate().map(publisher).collect();
        let load = Load { runtime, world, publishers };
        (0..cluster.iter().count()).for_each(|place| load.wait_for_confirms(place));
        load
    }

    /// Waits until the publisher of a node has a confirm for a message that it begins after now.
    #[track_caller]
    pub(super) fn wait_for_confirms(&self, place: usize) {
        let begun = self.world.begun[place].load(Ordering::Relaxed);
        until(&format!("the publisher of node {place} gets confirms"), || {
            (self.world.confirmed[place].load(Ordering::Relaxed) > begun).then_some(())
        });
    }

    /// Ends the publishers, takes all messages from a node, and judges.
    #[track_caller]
    pub(super) fn finish(self, node: &Node) {
        self.world.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(async {
            for publisher in self.publishers {
                tokio::time::timeout(END, publisher).await.expect("publishers end").unwrap();
            }
            let took = tokio::time::timeout(END, take_all(&self.world, node)).await;
            took.unwrap_or_else(|_| {
                let missing = self.world.ledger.lock().missing();
                panic!("{} confirmed messages are lost: {:?}", missing.len(), &missing[..missing.len().min(20)])
            })
            .expect("the consumer's connection stays");
        });
        let ledger = self.world.ledger.lock();
        let wrong = ledger.violations();
        assert!(wrong.is_empty(), "{} wrongs, first {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
        let (confirmed, came, again) = ledger.counts();
        println!("{confirmed} messages confirmed, {came} came, {again} came again");
    }
}

async fn open(uri: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn publish(world: Arc<World>, publisher: usize, uri: String) {
    let mut session = 0;
    while !world.stop.load(Ordering::Relaxed) {
        if let Ok(Ok((connection, channel))) = tokio::time::timeout(PATIENCE, open(&uri)).await {
            // Whatever ends it, the next session goes on.
            drop(publish_on(&world, publisher, session, &channel).await);
            session += 1;
            drop(tokio::time::timeout(PATIENCE, connection.close(200, "done".into())).await);
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn publish_on(world: &World, publisher: usize, session: u32, channel: &Channel) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(2);
    let mut waiting: VecDeque<(Id, u64, PublisherConfirm)> = VecDeque::new();
    for number in 0.. {
        let stop = world.stop.load(Ordering::Relaxed);
        while waiting.len() >= WINDOW || stop {
            let Some((id, begun, sent)) = waiting.pop_front() else { return Ok(()) };
            if matches!(sent.await?, Confirmation::Ack(_)) {
                world.ledger.lock().confirmed(id);
                world.confirmed[publisher].store(begun, Ordering::Relaxed);
            }
        }
        let id = Id { publisher: publisher as u32, session, number };
        world.ledger.lock().published(id);
        let begun = world.begun[publisher].fetch_add(1, Ordering::Relaxed) + 1;
        let (options, body) = (BasicPublishOptions::default(), id.body());
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties.clone());
        waiting.push_back((id, begun, sent.await?));
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// Consumes until nothing is owed, and nothing is left.
async fn take_all(world: &World, node: &Node) -> lapin::Result<()> {
    let (_connection, channel) = open(&node.uri("heartbeat=10")).await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    loop {
        match tokio::time::timeout(Duration::from_millis(200), consumer.next()).await {
            Ok(Some(delivery)) => {
                let delivery = delivery?;
                let id = Id::parse(&delivery.data).expect("a body of ours");
                // What a side that gave way had is put back at the tail.
                world.ledger.lock().delivered(id, delivery.redelivered, Sees::Part);
                delivery.ack(BasicAckOptions::default()).await?;
            }
            Ok(None) => return Err(lapin::ErrorKind::IOError(Arc::new(std::io::ErrorKind::UnexpectedEof.into())).into()),
            Err(_) => {
                let queue = asked(node, &format!("/api/queues/%2F/{QUEUE}?columns=messages"));
                if world.ledger.lock().missing().is_empty() && queue.is_some_and(|queue| queue["messages"] == 0) {
                    return Ok(());
                }
            }
        }
    }
}
