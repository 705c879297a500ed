//! Replicas of queues on this node: who leads, who follows, and how one becomes the other.
//!
//! ```text
//!   leading[queue]   queue_driver: a queue, and for a mirrored one the leader of its ring
//!   mirroring[queue] mirror_driver: a follower; or a leader that steps down, until it follows
//! ```
//!
//! A queue has one replica on a node at most: two would write over each other's copy. [`view_changed`] brings both
//! to what a view says; it is called with the lock of [`crate::follow`] held.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::QueueId;
use broker::metadata::{Command, Queue as Record, SyncStrategy, ViewChange};
use broker::mirror::{Care, Effects, Packet, Report, Runs};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use store::Seq;
use tokio::sync::oneshot;
use management::host::HostFailure;
use management::node::Synchronized;

use crate::clock;
use crate::follow::{leads, level_max, start_found};
use crate::log_writer::{Job, Receipt};
use crate::mailbox::{Closed, Mailbox};
use crate::mirror_driver;
use crate::node::{Node, ProposeFailure, QueueMail};

/// A change of a view whose outcome nobody knows is proposed again after this time.
const PROPOSE_AGAIN: Duration = Duration::from_millis(50);

/// What replicas of a queue hear, beside what queues hear.
pub(crate) enum Mail {
    Packet(NodeId, Packet),
    /// A batch is stored here.
    Stored(Report),
    /// What this node's store holds, for the feed of a node.
    Surveyed { node: NodeId, feed: u64, held: Vec<(u8, Runs)>, note: Option<(Seq, Bytes)> },
    /// Part of the backlog, for the feed of a node.
    Loaded { node: NodeId, feed: u64, level: u8, messages: Vec<(Seq, Bytes)> },
    /// The link to a node is there again.
    Reconnected(NodeId),
    /// A change that this replica proposed at this epoch did not happen, or nobody knows.
    Refused(u64, ViewChange),
    /// Start or stop sending the backlog; whether there was one to send.
    Synchronize(bool, oneshot::Sender<bool>),
    /// Which is the first message that some copy in sync may lack?
    FirstIncomplete(oneshot::Sender<Seq>),
    /// Let another seat lead.
    HandOver(NodeId),
    /// The view has another leader.
    StepDown(Arc<Record>),
}

/// Brings this node's part in a queue to what its view says.
pub(crate) fn view_changed(node: &Arc<Node>, record: &Arc<Record>) {
    let id = record.id;
    let leads_here = leads(node.id(), record);
    let leading = node.leading(id);
    let mirroring = node.mirroring.read().get(&id).map(Arc::clone);
    let tell = || QueueMail::Record(Arc::clone(record));
    match (leading, mirroring) {
        (Some(queue), _) if leads_here => drop(queue.mailbox.push(tell(), 0)),
        (Some(queue), _) => {
            node.leading.write().remove(&id);
            node.mirroring.write().insert(id, Arc::clone(&queue));
            let _ = queue.mailbox.push(QueueMail::Mirror(Mail::StepDown(Arc::clone(record))), 0);
        }
        // It takes over by itself, when it holds everything; one that steps down looks at the newest view then.
        (None, Some(mirror)) => drop(mirror.mailbox.push(tell(), 0)),
        (None, None) if leads_here => lead_from_store(node, record),
        (None, None) if node.puts_back.load(Ordering::Acquire) || node.put_back_later.read().contains(&id) => {}
        (None, None) if record.view.is_member(node.id()) && record.view.is_running() => {
            mirror_driver::start(node, record, mirror_driver::Start::Fresh, []);
        }
        (None, None) => {}
    }
    node.refresh_door(id, record.view.mirrored || !leads_here);
}

/// Says that this node leads a queue of which it did not hold everything.
pub(crate) fn warn_of_unclean(node: &Node, record: &Record) {
    let tables = node.tables.load();
    let old: Vec<&str> = tables.node_names(&record.view.old).collect();
    let (name, vhost) = (&record.name, &record.vhost);
    let rest = if old.is_empty() {
        "what it lacked is lost".to_owned()
    } else {
        format!("what only the copies on {} have comes back with them", old.join(", "))
    };
    tracing::warn!("queue '{name}' in vhost '{vhost}' is led here, where its copy was not in sync: {rest}");
}

/// Leads a queue that this node holds alone, from what its store has.
fn lead_from_store(node: &Arc<Node>, record: &Arc<Record>) {
    let (node, record) = (Arc::clone(node), Arc::clone(record));
    tokio::spawn(async move {
        let found = node.log.survey(vec![(record.id, level_max(&record))]).await.pop();
        let _order = node.following.lock();
        let newest = node.tables.load().queues.get(&record.id).map(Arc::clone);
        if let (Some(found), Some(record)) = (found, newest)
            && leads(node.id(), &record)
            && node.leading(record.id).is_none()
            && !node.mirroring.read().contains_key(&record.id)
        {
            start_found(&node, &record, &found);
        }
    });
}

/// Starts or stops bringing the mirrors of a queue up to date.
pub(crate) async fn synchronize(node: &Arc<Node>, queue: QueueId, start: bool) -> Result<Synchronized, HostFailure> {
    let tables = node.tables.load_full();
    let Some(record) = tables.queues.get(&queue) else { return Err(HostFailure::NotMirrored) };
    if record.mirroring.is_none() {
        return if start { Err(HostFailure::NotMirrored) } else { Ok(Synchronized::NotSyncing) };
    }
    let Some(leader) = node.leading(queue) else {
        send(node, queue, record.leader(), &Packet::Synchronize { start });
        return Ok(Synchronized::Done);
    };
    let (done, wait) = oneshot::channel();
    let _ = leader.mailbox.push(QueueMail::Mirror(Mail::Synchronize(start, done)), 0);
    match wait.await {
        Ok(false) if !start => Ok(Synchronized::NotSyncing),
        _ => Ok(Synchronized::Done),
    }
}

/// How the mirrors of this queue are treated.
pub(crate) fn care(node: &Node, record: &Record) -> Care {
    let cluster = &node.config.cluster;
    let default_batch = cluster.mirroring_sync_batch_size;
    let mirroring = record.mirroring.as_deref();
    let batch = mirroring.and_then(|mirroring| mirroring.sync_batch_size).filter(|size| *size > 1);
    Care {
        automatic: mirroring.is_some_and(|mirroring| {
            mirroring.sync_automatic && mirroring.sync_strategy != SyncStrategy::Event
        }),
        batch_messages: batch.unwrap_or(u64::from(default_batch)).clamp(1, 1 << 16) as usize,
        patience: cluster.replica_timeout,
        backlog_per_second: NonZeroU64::new(cluster.mirroring_sync_max_throughput),
        reports_alone: mirroring.is_some_and(|mirroring| mirroring.ack_async),
    }
}

/// A packet between replicas.
pub(crate) fn take(node: &Arc<Node>, from: NodeId, queue: QueueId, body: Bytes) -> Result<(), String> {
    let packet = Packet::decode(body).ok_or("a packet between replicas of a queue cannot be read")?;
    let wants = if let Packet::Wants { feed, .. } = &packet { Some(*feed) } else { None };
    let mail = match packet {
        Packet::Yield { to } => Mail::HandOver(NodeId(to)),
        Packet::Synchronize { start } => Mail::Synchronize(start, oneshot::channel().0),
        packet => Mail::Packet(from, packet),
    };
    let replica = || node.leading(queue).or_else(|| node.mirroring.read().get(&queue).map(Arc::clone));
    let pushed = match replica() {
        Some(replica) => replica.mailbox.push(QueueMail::Mirror(mail), 0).map_err(|Closed(mail)| mail),
        None => Err(QueueMail::Mirror(mail)),
    };
    let Err(mail) = pushed else { return Ok(()) };
    // One replica takes the place of another with this lock held: what comes meanwhile is for the next.
    let _order = node.following.lock();
    match (replica(), wants) {
        (Some(replica), _) => drop(replica.mailbox.push(mail, 0)),
        // The tables here or there are not the newest: it asks again.
        (None, Some(feed)) => send(node, queue, from, &Packet::Stale { feed }),
        (None, None) => {}
    }
    Ok(())
}

/// Sends a packet to the replica of a queue on another node.
pub(crate) fn send(node: &Node, queue: QueueId, to: NodeId, packet: &Packet) {
    if let Some(peer) = node.peers.get(to) {
        let mut bytes = crate::wire::begin_replica(queue.0);
        packet.encode(&mut bytes);
        peer.send(crate::peers::EVENTS, bytes);
    }
}

/// Does what a replica asks, but for what only its driver can.
pub(crate) fn obey(node: &Arc<Node>, record: &Record, mailbox: &Arc<Mailbox<QueueMail>>, fx: &mut Effects) {
    for (mut batch, report) in fx.store.drain(..) {
        batch.seal();
        node.log.submit(Job::Append { batch, report: Some((Arc::clone(mailbox), Receipt::Mirror(report))) });
    }
    for (to, packet) in fx.to_peers.drain(..) {
        send(node, record.id, to, &packet);
    }
    for (from, feed) in fx.survey.drain(..) {
        let (queue, to) = (record.id, Arc::clone(mailbox));
        node.log.submit(Job::Sequences { queue, level_max: level_max(record), node: from, feed, to });
    }
    for (from, feed, load) in fx.loads.drain(..) {
        node.log.submit(Job::LoadForFeed { load, node: from, feed, to: Arc::clone(mailbox) });
    }
    if let Some(put_back) = fx.put_back.take() {
        node.run(crate::returning::merge(Arc::clone(node), record.id, put_back));
    }
    for complaint in fx.complaints.drain(..) {
        tracing::warn!("queue '{}' in vhost '{}': {complaint}", record.name, record.vhost);
    }
    for waits in fx.waits.drain(..) {
        tracing::info!("queue '{}' in vhost '{}': {waits}", record.name, record.vhost);
    }
    for (epoch, change) in fx.proposals.drain(..) {
        let (owner, mailbox, queue) = (Arc::clone(node), Arc::clone(mailbox), record.id);
        node.run(async move {
            let node = owner;
            let command = Command::ChangeView { queue, epoch, change };
            loop {
                match node.propose(command.clone()).await {
                    Ok(_) => return,
                    // Until the outcome is known a queue that is handed over stands still, and a mirror
                    // that may have its seat is waited for.
                    Err(ProposeFailure::Unavailable(_))
                        if !matches!(change, ViewChange::Evict(_)) && node.leading(queue).is_some() =>
                    {
                        tokio::time::sleep(PROPOSE_AGAIN).await;
                    }
                    Err(error) => {
                        tracing::debug!(?error, ?change, "a change of a queue's view did not happen");
                        let _ = mailbox.push(QueueMail::Mirror(Mail::Refused(epoch, change)), 0);
                        return;
                    }
                }
            }
        });
    }
}

/// Whether no leader of before serves any more: it is dead, or its leases of this node are over. One that is
/// up is in a later life, or has handed over.
pub(crate) fn serve_no_more(node: &Node, mut leaders: impl Iterator<Item = NodeId>) -> bool {
    let tables = node.tables.load();
    leaders.all(|old| {
        tables.nodes.is_up(old)
            || node.reach.gone(old).is_some_and(|verdict| verdict.certain)
            || node.reach.granted_until(old).is_some_and(|until| clock::awake() >= until)
    })
}

/// Asks the leader of a queue, wherever it is, to let another seat lead.
pub(crate) fn ask_to_yield(node: &Node, record: &Record, to: NodeId) {
    match node.leading(record.id) {
        Some(queue) => drop(queue.mailbox.push(QueueMail::Mirror(Mail::HandOver(to)), 0)),
        None => send(node, record.id, record.leader(), &Packet::Yield { to: to.0 }),
    }
}

/// Lets other nodes lead what this node leads, as far as they hold it. Returns when they do.
pub(crate) async fn hand_over_all(node: &Arc<Node>, deadline: tokio::time::Instant) {
    let mut changes = node.changes.subscribe();
    let mut asked = false;
    loop {
        changes.mark_unchanged();
        let tables = node.tables.load_full();
        let led = tables.queues.values().filter(|record| leads(node.id(), record));
        let heirs: Vec<_> = led
            .filter_map(|record| {
                let mut mirrors = record.view.mirrors();
                Some((record, mirrors.find(|mirror| node.reach.is_reachable(*mirror))?))
            })
            .collect();
        if heirs.is_empty() {
            return;
        }
        if !asked {
            for (record, heir) in &heirs {
                ask_to_yield(node, record, *heir);
            }
            asked = true;
        }
        let waited = tokio::time::timeout_at(deadline, changes.changed());
        match tokio::time::timeout(Duration::from_secs(2), waited).await {
            Ok(Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) => asked = false,
        }
    }
}
