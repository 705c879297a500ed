//! A node from start to stop: configuration, store, metadata, queues, listeners; and back.
//!
//! ```text
//! config -> store opened (what survived) -> metadata replayed -> queues started -> listeners open
//! stop: listeners closed -> clients closed (320) -> queues write what restarts need -> log synced
//! ```
//! Nothing is served before everything that survived is in place.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amqp::{ShortStr, Table, Value};
use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use broker::connection::{Limits, Stamps};
use broker::delay::{DELAY_KEY, Delayed, Delays, read_back};
use broker::metadata::{Command, Tables, UserSpec, VhostSpec};
use broker::queue::{Now, Queue, Recovered, key_owner, level_key};
use broker::{Name, QueueId};
use consensus::{Consensus, NodeId};
use store::{Limits as ReadLimits, QueueCounts, Recovery, Seq, Store};
use tokio::sync::oneshot;

use crate::clock;
use crate::config::Config;
use crate::delay_driver;
use crate::disk::FileDisk;
use crate::log_writer::{Job, LogWriter};
use crate::metadata::{Follow, Machine};
use crate::node::{ConnectionMail, Node, QueueMail};
use crate::provision;
use crate::queue_driver;

/// What the log holds of each queue at start.
pub(crate) struct Survived {
    levels: HashMap<QueueId, Vec<(u8, QueueCounts)>>,
    horizons: HashMap<QueueId, (Seq, Vec<u8>)>,
    delayed: Vec<(Seq, Delayed)>,
    next_delayed: Seq,
}

/// Opens the message log and looks at what survived.
pub(crate) fn open_store(config: &Config) -> Result<(Store<FileDisk>, Survived)> {
    let dir = config.data_dir.join("messages");
    let disk = FileDisk::new(&dir);
    let (mut store, recovery) = Store::open(disk, store::Options::default())
        .with_context(|| format!("the message log in {} cannot be opened", dir.display()))?;
    for note in &recovery.notes {
        tracing::warn!("message log: {note}");
    }
    let survived = survey(&mut store, &recovery)?;
    Ok((store, survived))
}

fn survey(store: &mut Store<FileDisk>, recovery: &Recovery) -> Result<Survived> {
    let mut survived = Survived { levels: HashMap::new(), horizons: HashMap::new(), delayed: Vec::new(), next_delayed: Seq(1) };
    for (key, counts) in &recovery.queues {
        if *key == DELAY_KEY {
            survived.next_delayed = counts.next;
            survived.delayed = read_delayed(store, counts)?;
            continue;
        }
        let (queue, level) = key_owner(*key);
        match level {
            Some(level) => survived.levels.entry(queue).or_default().push((level, *counts)),
            None => {
                let Some(first) = counts.first else { continue };
                let limits = ReadLimits { messages: 16, bytes: 4096 };
                if let Some((seq, bytes)) = store.read(*key, first, limits)?.pop() {
                    survived.horizons.insert(queue, (seq, bytes.to_vec()));
                }
            }
        }
    }
    Ok(survived)
}

fn read_delayed(store: &mut Store<FileDisk>, counts: &QueueCounts) -> Result<Vec<(Seq, Delayed)>> {
    let mut found = Vec::new();
    let mut from = counts.first;
    while let Some(first) = from {
        let messages = store.read(DELAY_KEY, first, ReadLimits { messages: 10_000, bytes: 16 << 20 })?;
        from = messages.last().map(|(seq, _)| Seq(seq.0 + 1));
        found.extend(messages.iter().filter_map(|(seq, bytes)| Some((*seq, read_back(bytes)?))));
    }
    Ok(found)
}

/// Starts consensus, replays the metadata and starts the queues.
pub(crate) async fn start_node(config: Config, log: LogWriter, survived: Survived) -> Result<Arc<Node>> {
    let name: Name = config.node_name.to_string().into();
    let latest = Arc::new(ArcSwap::from_pointee(Tables::default()));
    let follow: Arc<OnceLock<Follow>> = Arc::new(OnceLock::new());
    let machine = Machine::new(Arc::clone(&latest), Arc::clone(&follow));
    let options = consensus::Options::new(config.data_dir.join("metadata"), NodeId(1), name.to_string());
    let consensus = consensus::start(options, machine, consensus::Alone).await.context("the metadata cannot be opened")?;
    let limits = connection_limits(&config, &name);
    let node = Arc::new(Node::new(Arc::clone(&name), config, limits, log, Arc::clone(&latest)));
    let _ = node.consensus.set(consensus);
    prepare(&node).await?;
    start_queues(&node, &survived);
    delay_driver::start(&node, Delays::new(survived.next_delayed, survived.delayed));
    let weak = Arc::downgrade(&node);
    let runtime = tokio::runtime::Handle::current();
    let _ = follow.set(Box::new(move |_, changes| {
        if let Some(node) = weak.upgrade() {
            let _guard = runtime.enter();
            queue_driver::follow(&node, changes);
        }
    }));
    Ok(node)
}

/// What a node does before it serves: transient things of its former lives go; an empty node gets
/// the default virtual host and user.
async fn prepare(node: &Arc<Node>) -> Result<()> {
    let is_new = node.tables.load().vhosts.is_empty() && node.tables.load().users.is_empty();
    let mut commands = vec![Command::NodeStarted { node: Arc::clone(&node.name) }];
    let access = &node.config.access;
    if is_new && node.config.definitions.sources.is_empty() {
        let hashing = provision::hashing(access);
        let salt = (clock::random() as u32).to_be_bytes();
        let (vhost, user): (Name, Name) = (access.default_vhost.as_str().into(), access.default_user.as_str().into());
        commands.push(Command::PutVhost(VhostSpec {
            name: Arc::clone(&vhost),
            description: Some("Default virtual host".to_owned()),
            ..VhostSpec::default()
        }));
        commands.push(Command::PutUser(UserSpec {
            name: Arc::clone(&user),
            password_hash: hashing.hash(salt, access.default_pass.as_bytes()),
            hashing_algorithm: hashing.name().into(),
            tags: access.default_user_tags.iter().map(|t| t.as_str().into()).collect(),
            create_only: false,
        }));
        let p = &access.default_permissions;
        commands.push(Command::SetPermission {
            vhost,
            user,
            configure: p.configure.clone(),
            write: p.write.clone(),
            read: p.read.clone(),
        });
    }
    if let Some(cluster_name) = &node.config.cluster.cluster_name {
        let value = Value::LongStr(cluster_name.clone().into_bytes());
        commands.push(Command::SetGlobalParameter { name: "cluster_name".into(), value });
    }
    match node.propose(Command::Batch(commands)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(anyhow::anyhow!("the node cannot write its metadata: {error:?}")),
    }
}

fn start_queues(node: &Arc<Node>, survived: &Survived) {
    let tables = node.tables.load_full();
    let now = Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: 0 };
    for (id, record) in tables.queues.iter() {
        let levels = survived.levels.get(id).map(Vec::as_slice).unwrap_or_default();
        let recovered: Vec<Recovered> = levels
            .iter()
            .map(|(level, counts)| Recovered {
                level: *level,
                messages: counts.messages,
                bytes: counts.bytes,
                first: counts.first.unwrap_or(counts.next),
                next: counts.next,
            })
            .collect();
        let horizon = survived.horizons.get(id).map(|(seq, bytes)| (*seq, bytes.as_slice()));
        queue_driver::start(node, Queue::new(record, &recovered, horizon, now), Arc::clone(record));
    }
    // What a queue left behind that was deleted just before a crash.
    let mut orphans = store::Batch::new();
    for (id, levels) in survived.levels.iter().filter(|(id, _)| tables.queues.get(id).is_none()) {
        for (level, _) in levels {
            orphans.forget(level_key(*id, *level));
        }
    }
    if !orphans.is_empty() {
        node.log.submit(Job::Append { batch: orphans, report: None });
    }
}

fn connection_limits(config: &Config, node: &Name) -> Limits {
    let limits = &config.limits;
    Limits {
        frame_max: limits.frame_max,
        initial_frame_max: limits.initial_frame_max,
        channel_max: limits.channel_max,
        heartbeat: u16::try_from(limits.heartbeat.as_secs()).unwrap_or(u16::MAX),
        handshake_timeout: config.network.handshake_timeout.unwrap_or(Duration::from_secs(u64::from(u32::MAX))),
        message_bytes_max: limits.max_message_size,
        consumers_per_channel_max: limits.consumer_max_per_channel.map(|max| u32::try_from(max).unwrap_or(u32::MAX)),
        consumer_timeout: limits.consumer_timeout,
        mechanisms: config.access.auth_mechanisms.iter().map(|m| m.name()).collect(),
        loopback_users: config.access.loopback_users.iter().cloned().collect(),
        anonymous: config.access.anonymous_login.clone(),
        channels_per_node_max: limits.channel_max_per_node,
        stamps: Stamps {
            timestamp: config.queues.set_header_timestamp,
            routing_node: config.queues.set_header_routing_node,
        },
        server_properties: server_properties(config),
        node: Arc::clone(node),
    }
}

/// What clients see of the server; the capabilities are those of RabbitMQ 3.13.
fn server_properties(config: &Config) -> Table {
    let name = ShortStr::truncated;
    let text = |s: &str| Value::LongStr(s.as_bytes().to_vec());
    let mut capabilities = Table::new();
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name(capability), Value::Bool(true));
    }
    let mut properties = Table::new();
    properties.insert(name("capabilities"), Value::Table(capabilities));
    let cluster_name = config.cluster.cluster_name.clone().unwrap_or_else(|| config.node_name.to_string());
    properties.insert(name("cluster_name"), text(&cluster_name));
    properties.insert(name("copyright"), text("Copyright the Warren authors"));
    properties.insert(name("information"), text("Licensed under the Apache License 2.0"));
    properties.insert(name("platform"), text("Rust"));
    // Clients switch on what they may use by these two (docs/decisions/0003-product-name.md).
    properties.insert(name("product"), text(&config.network.product_name));
    properties.insert(name("version"), text(&config.network.product_version));
    properties.insert(name("implementation"), text(management::PRODUCT_NAME));
    properties.insert(name("implementation_version"), text(env!("CARGO_PKG_VERSION")));
    properties
}

/// The orderly way down.
pub(crate) async fn stop_node(node: &Arc<Node>) {
    for handle in node.connections.read().values() {
        let reason = "broker forced connection closure with reason 'shutdown'".to_owned();
        let _ = handle.mailbox.push(ConnectionMail::Close(reason), 0);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !node.connections.read().is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut waiting = Vec::new();
    for handle in node.queues.read().values() {
        let (done, wait) = oneshot::channel();
        if handle.mailbox.push(QueueMail::Stop(done), 0).is_ok() {
            waiting.push(wait);
        }
    }
    for wait in waiting {
        let _ = wait.await;
    }
    let (done, wait) = oneshot::channel();
    node.log.submit(Job::Barrier(done));
    let _ = tokio::time::timeout(Duration::from_secs(60), wait).await;
    node.log.submit(Job::Stop);
    if let Some(consensus) = node.consensus.get() {
        Consensus::shutdown(consensus).await;
    }
}
