//! A node from start to stop: configuration, store, metadata, queues, listeners; and back.
//!
//! ```text
//! config -> store opened -> links and metadata log -> registered and up -> queues started -> listeners open
//! stop: handed over -> clients closed (320) -> queues write what restarts need -> log synced -> down
//! ```
//! Nothing is served before everything that survived is in place. A member of a cluster is up when the
//! cluster says so; until then it waits, and says for what.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amqp::{ShortStr, Table, Value};
use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use broker::connection::{Limits, Stamps};
use broker::delay::{DELAY_KEY, Delayed, Delays, read_back};
use broker::metadata::{Command, Tables, UserSpec, VhostSpec};
use broker::queue::{horizon_key, key_owner, level_key};
use broker::{Name, QueueId};
use consensus::Consensus;
use management::host::{AppState, HostFailure};
use store::{Limits as ReadLimits, QueueCounts, Recovery, Seq, Store};
use tokio::sync::oneshot;

use crate::clock;
use crate::config::Config;
use crate::delay_driver;
use crate::disk::FileDisk;
use crate::follow::follow_all;
use crate::host::{ProcessHost, address_of};
use crate::identity::Identity;
use crate::log_writer::{Job, LogWriter};
use crate::metadata::Machine;
use crate::node::{ConnectionMail, Node, Parts, QueueMail};
use crate::peers::Peers;
use crate::provision;
use crate::raft_network::OverLinks;

/// What the store holds beside queues that start from it.
pub(crate) struct Survived {
    /// Queues of which something is there.
    queues: BTreeSet<(QueueId, Option<u8>)>,
    delayed: Vec<(Seq, Delayed)>,
    next_delayed: Seq,
}

/// Opens the message log and looks at what survived.
pub(crate) fn open_store(config: &Config) -> Result<(Store<FileDisk>, Survived)> {
    let dir = config.data_dir.join("messages");
    let disk = FileDisk::new(&dir);
    let size = config.resources.msg_store_file_size_limit;
    let options = store::Options { wal_file_bytes: size, segment_bytes: size, ..store::Options::default() };
    let (mut store, recovery) = Store::open(disk, options)
        .with_context(|| format!("the message log in {} cannot be opened", dir.display()))?;
    for note in &recovery.notes {
        tracing::warn!("message log: {note}");
    }
    let survived = survey(&mut store, &recovery)?;
    Ok((store, survived))
}

fn survey(store: &mut Store<FileDisk>, recovery: &Recovery) -> Result<Survived> {
    let mut survived = Survived { queues: BTreeSet::new(), delayed: Vec::new(), next_delayed: Seq(1) };
    for (key, counts) in &recovery.queues {
        if *key == DELAY_KEY {
            survived.next_delayed = counts.next;
            survived.delayed = read_delayed(store, counts)?;
        } else {
            survived.queues.insert(key_owner(*key));
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

/// How often a node that cannot be up asks the others whether they know it.
const LOOK_FOR_CLUSTER: Duration = Duration::from_secs(1);
/// So many times they do not before it gives up: who has just joined may not be known to all.
const DISOWNED_MAX: u32 = 3;

/// Starts a node as far as others can find it: store, links and metadata log. It is not up yet.
pub(crate) async fn open_node(host: &ProcessHost, mut identity: Identity, log: LogWriter) -> Result<Arc<Node>> {
    let config = Arc::clone(&host.config);
    finish_change_over(&config.data_dir.join("metadata"), &mut identity)?;
    identity.incarnation += 1;
    identity.save(&config.data_dir)?;
    let name: Name = identity.name.as_str().into();
    let latest = Arc::new(ArcSwap::from_pointee(Tables::default()));
    let (peers, heard) = Peers::new(&identity, host.cookie.clone(), host.tls.clone());
    let limits = connection_limits(&config, &name);
    let node = Node::new(Parts {
        identity: identity.clone(),
        config: Arc::clone(&config),
        limits,
        log,
        tables: Arc::clone(&latest),
        peers: Arc::clone(&peers),
    });
    peers.serve(&node);
    node.run(crate::watch::run(Arc::clone(&node), heard));
    let machine = Machine::new(latest, Arc::clone(&node.follow));
    let options = crate::partition::log_options(&node, identity.generation, identity.founder);
    let consensus = consensus::start(options, machine, OverLinks(Arc::clone(&peers))).await;
    node.set_consensus(consensus.context("the metadata cannot be opened")?);
    let weak = Arc::downgrade(&node);
    let runtime = tokio::runtime::Handle::current();
    let _ = node.follow.set(Box::new(move |changes| {
        if let Some(node) = weak.upgrade() {
            let _guard = runtime.enter();
            match changes {
                Some(changes) => crate::follow::follow(&node, changes),
                None => drop(tokio::spawn(async move { follow_all(&node).await })),
            }
        }
    }));
    call_members(&node);
    Ok(node)
}

/// A change of generation that was cut short is finished: a log founded anew is the node's own, and one that
/// it was leaving goes.
fn finish_change_over(folder: &Path, identity: &mut Identity) -> Result<()> {
    match consensus::generation(folder, identity.id())? {
        Some(found) if found > identity.generation => {
            tracing::warn!("the metadata log was founded anew, as generation {found}, when this node was cut short");
            (identity.generation, identity.founder) = (found, true);
        }
        Some(found) if found < identity.generation => consensus::forget(folder)?,
        _ => {}
    }
    Ok(())
}

/// The members that the tables name, or those it was told of when it joined.
fn call_members(node: &Arc<Node>) {
    let tables = node.tables.load();
    let mut members: Vec<_> =
        tables.nodes.iter().map(|m| (m.id, Arc::clone(&m.name), m.address.clone())).collect();
    if !members.iter().any(|(id, ..)| *id == node.id()) {
        let contacts = node.identity.contacts.iter();
        members = contacts
            .map(|c| (cluster::metadata_log::NodeId(c.node), c.name.as_str().into(), c.address.clone()))
            .collect();
    }
    node.peers.arrange(&members);
}

/// Brings a node into service: the cluster notes that it is up, its queues start. Waits as long as it
/// takes, and says for what.
pub(crate) async fn bring_up(host: &ProcessHost, node: &Arc<Node>, survived: Survived) -> Result<()> {
    if crate::partition::gave_way_at_start(host, node).await? {
        // The order to start again is given.
        std::future::pending::<()>().await;
    }
    let gives_way = crate::partition::give_way_while_waiting(host, node);
    tokio::pin!(gives_way);
    let mut told = String::new();
    let (mut look_at, mut disowned) = (tokio::time::Instant::now() + LOOK_FOR_CLUSTER, 0);
    loop {
        let registered = tokio::select! {
            biased;
            registered = register(node) => registered,
            gave_way = &mut gives_way => {
                gave_way?;
                std::future::pending().await
            }
        };
        match registered {
            Ok(()) => break,
            // Before it could serve: nobody would take this life up any more.
            Err(_) if crate::partition::was_declared_down(node) => {
                crate::partition::start_again(host);
                std::future::pending::<()>().await;
            }
            Err(why) => {
                if tokio::time::Instant::now() >= look_at {
                    look_at += LOOK_FOR_CLUSTER;
                    let by = host.disowned_by().await;
                    disowned = if by.is_some() { disowned + 1 } else { 0 };
                    if let Some(dissident) = by.filter(|_| disowned >= DISOWNED_MAX) {
                        let failure = HostFailure::InconsistentCluster {
                            thinker: Arc::clone(&node.name),
                            dissident: dissident.into(),
                        };
                        return Err(anyhow::Error::from(failure)).context("reset the node, or give it an empty data folder");
                    }
                }
                if why != told {
                    tracing::info!("not in service yet: {why}");
                    host.set(AppState::Starting { why: why.clone() });
                    told = why;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    delay_driver::start(node, Delays::new(survived.next_delayed, survived.delayed));
    node.registered.store(true, Ordering::Release);
    crate::returning::put_back(node).await?;
    node.puts_back.store(false, Ordering::Release);
    follow_all(node).await;
    forget_orphans(node, &survived.queues);
    tokio::spawn(crate::duties::run(Arc::clone(node)));
    Ok(())
}

/// Has the cluster note that this life of the node is up.
async fn register(node: &Arc<Node>) -> Result<(), String> {
    let identity = &node.identity;
    let (id, incarnation) = (node.id(), identity.incarnation);
    let address = address_of(&node.config.node_name);
    let mut commands = Vec::new();
    let tables = node.tables.load_full();
    let is_new = tables.nodes.is_empty();
    if is_new {
        if !identity.founder {
            return Err("no member of the cluster has called this node yet".to_owned());
        }
        commands.push(Command::FoundCluster { id: identity.cluster, generation: identity.generation });
        let kind = identity.kind();
        let name = Arc::clone(&node.name);
        commands.push(Command::RegisterNode { name, address: address.clone(), kind, disk: identity.disk });
    } else if tables.cluster.generation < identity.generation {
        let (id, generation) = (tables.cluster.id, identity.generation);
        commands.push(Command::FoundCluster { id, generation });
    }
    commands.push(Command::NodeUp { node: id, incarnation, address });
    if is_new {
        commands.extend(first_commands(&node.config));
    }
    if tables.nodes.get(id).is_some_and(|me| me.draining) {
        // Its ports open: whoever drained it has started it again since.
        commands.push(Command::SetDraining { node: id, on: false });
    }
    if let Some(cluster_name) = &node.config.cluster.cluster_name {
        let value = Value::LongStr(cluster_name.clone().into_bytes());
        commands.push(Command::SetGlobalParameter { name: "cluster_name".into(), value });
    }
    let forgets = crate::host::forget::commands(&node.config.data_dir, &tables, identity.generation);
    let forgets = forgets.map_err(|error| format!("{error:#}"))?;
    let forgot = !forgets.is_empty();
    commands.extend(forgets);
    match node.propose(Command::Batch(commands)).await {
        Ok(_) if node.tables.load().nodes.get(id).is_some_and(|me| me.is_up() && me.incarnation == incarnation) => {
            if forgot {
                crate::host::forget::done(&node.config.data_dir, &tables, &node.tables.load());
            }
            Ok(())
        }
        Ok(answer) => Err(format!("the cluster did not take this node up: {answer:?}")),
        Err(error) => Err(format!("the metadata log does not answer: {error}")),
    }
}

/// What an empty cluster begins with: the default virtual host and user.
fn first_commands(config: &Config) -> Vec<Command> {
    let access = &config.access;
    if !config.definitions.sources.is_empty() {
        return Vec::new();
    }
    let hashing = provision::hashing(access);
    let salt = (clock::random() as u32).to_be_bytes();
    let (vhost, user): (Name, Name) = (access.default_vhost.as_str().into(), access.default_user.as_str().into());
    let p = &access.default_permissions;
    vec![
        Command::PutVhost(VhostSpec {
            name: Arc::clone(&vhost),
            description: Some("Default virtual host".to_owned()),
            ..VhostSpec::default()
        }),
        Command::PutUser(UserSpec {
            name: Arc::clone(&user),
            password_hash: hashing.hash(salt, access.default_pass.as_bytes()),
            hashing_algorithm: hashing.name().into(),
            tags: access.default_user_tags.iter().map(|t| t.as_str().into()).collect(),
            create_only: false,
        }),
        Command::SetPermission {
            vhost,
            user,
            configure: p.configure.clone(),
            write: p.write.clone(),
            read: p.read.clone(),
        },
    ]
}

/// Copies of queues that exist no more, or that the cluster says are not this node's, go. Metadata is the
/// newest here: the node is up.
fn forget_orphans(node: &Arc<Node>, stored: &BTreeSet<(QueueId, Option<u8>)>) {
    let tables = node.tables.load_full();
    let later = node.put_back_later.read().clone();
    let keeps = |id: &QueueId| {
        later.contains(id) || tables.queues.get(id).is_some_and(|record| record.view.holds(node.id()))
    };
    let mut orphans = store::Batch::new();
    for (id, level) in stored.iter().filter(|(id, _)| !keeps(id)) {
        orphans.forget(level.map_or_else(|| horizon_key(*id), |level| level_key(*id, level)));
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

/// What clients see of the server besides the cluster's name; the capabilities are those of RabbitMQ 3.13.
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

/// So long queues are given to write what a start needs, and the metadata log to end.
const QUEUES_END: Duration = Duration::from_secs(10);
/// So long clients are given to take their leave, once they are told that the node stops.
const CLIENTS_END: Duration = Duration::from_secs(2);
/// A node that stops does not wait longer for room on its disk: what it cannot write was promised to nobody.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// The orderly way down.
pub(crate) async fn stop_node(node: &Arc<Node>) {
    node.stop();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    // Of a node that comes back into another generation nobody takes leaderships or farewells.
    let gives_way = matches!(crate::returning::wants_back(&node.config.data_dir), Ok(Some(_)));
    let in_service = !gives_way && node.tables.load().nodes.get(node.id()).is_some_and(|me| me.is_up());
    if in_service && node.tables.load().nodes.len() > 1 {
        crate::mirrors::hand_over_all(node, deadline).await;
    }
    for handle in node.connections.read().values() {
        let reason = "broker forced connection closure with reason 'shutdown'".to_owned();
        let _ = handle.mailbox.push(ConnectionMail::CloseNow(reason), 0);
    }
    let deadline = tokio::time::Instant::now() + CLIENTS_END;
    while !node.connections.read().is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut waiting = Vec::new();
    for handle in node.leading.read().values() {
        let (done, wait) = oneshot::channel();
        if handle.mailbox.push(QueueMail::Stop(done), 0).is_ok() {
            waiting.push(wait);
        }
    }
    let ended = async {
        for wait in waiting {
            let _ = wait.await;
        }
    };
    if tokio::time::timeout(QUEUES_END, ended).await.is_err() {
        tracing::warn!("not all queues have noted where they stand: after the next start they flag what nobody has seen");
    }
    let starved = async {
        while node.log.starved_for().is_none_or(|starved| starved < ROOM_PATIENCE) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(Duration::from_secs(60), node.log.settled()) => {}
        () = starved => {}
    }
    if in_service {
        say_goodbye(node).await;
    }
    if let Some(consensus) = node.consensus()
        && tokio::time::timeout(QUEUES_END, Consensus::shutdown(&consensus)).await.is_err()
    {
        tracing::warn!("the metadata log does not end");
    }
    node.peers.close();
    node.log.submit(Job::Stop);
    node.end();
}

/// Others hear that this node is down, and that it meant to be. A lone voter hands its vote on.
async fn say_goodbye(node: &Arc<Node>) {
    let Some(consensus) = node.consensus() else { return };
    let tables = node.tables.load_full();
    let Some(me) = tables.nodes.get(node.id()) else { return };
    let others = tables.nodes.iter().filter(|other| other.id != me.id && other.is_up());
    let heir = others.filter(|other| node.reach.is_reachable(other.id)).min_by_key(|other| (!other.holds_queues(), other.id));
    if let Some(heir) = heir {
        let votes_alone = matches!(&consensus.metrics().voters[..], [only] if only.id == me.id);
        let handed = async {
            if votes_alone {
                consensus.hand_over(heir.id).await.map_err(|error| error.to_string())
            } else if consensus.is_leader() {
                consensus.transfer_leader(heir.id).await.map_err(|error| error.to_string())
            } else {
                Ok(())
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(3), handed).await {
            tracing::warn!("the metadata log was not handed over: {error}");
        }
    } else if tables.nodes.len() > 1 {
        // Nobody is there to hear it; the node finds itself up when it starts again, and says otherwise.
        return;
    }
    let down = Command::NodeDown { node: me.id, incarnation: me.incarnation, clean: true };
    let _ = tokio::time::timeout(Duration::from_secs(3), node.propose(down)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lone node's log, in generation 1.
    async fn log(folder: &Path) {
        let mut options = consensus::Options::new(folder.to_owned(), cluster::metadata_log::NodeId(1), "here".to_owned());
        options.found_cluster = true;
        options.generation = Some(1);
        let tables = Arc::new(ArcSwap::from_pointee(Tables::default()));
        let machine = Machine::new(tables, Default::default());
        let log = consensus::start(options, machine, consensus::Alone).await.expect("it starts");
        log.propose(Command::FoundCluster { id: 7, generation: 1 }.encode().into()).await.expect("it is alone");
        log.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_of_generation_that_was_cut_short_is_finished() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut identity = Identity::founder("warren@here", || 1 << 20);
        finish_change_over(folder.path(), &mut identity).expect("there is no log");
        log(folder.path()).await;
        finish_change_over(folder.path(), &mut identity).expect("nothing is to be done");
        assert_eq!((identity.generation, identity.founder), (1, true));

        // Founded anew, and not written down.
        identity.founder = false;
        consensus::refound(folder.path(), identity.id(), "here", Some(2)).expect("it is founded anew");
        finish_change_over(folder.path(), &mut identity).expect("the log is taken");
        assert_eq!((identity.generation, identity.founder), (2, true));

        // Written down as a member of the next one, and the old log not deleted.
        (identity.generation, identity.founder) = (3, false);
        finish_change_over(folder.path(), &mut identity).expect("the log is left");
        assert_eq!(consensus::generation(folder.path(), identity.id()).expect("reads"), None);
    }
}
