//! Coming back to queues that have gone on elsewhere, without losing what was confirmed meanwhile.
//!
//! After an unclean promotion a node's old copy may hold what the queue never had since: [`merge`].
//! After a partition it is a whole log that has gone on:
//!
//! Before a node gives way it writes down, in `returning.json`, which queues it holds and where its side
//! began. As a member of the other log, before it takes part in any queue, it publishes to the queues'
//! leaders what its store got since: sequences of its own generation (docs/decisions/0004). They enter at
//! the tail, flagged redelivered, and count as put back when their queue has confirmed them. Queues that
//! the other log does not know are declared again. The file goes when all is put back; a crash before
//! that begins again, which may double messages, flagged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amqp::Table;
use anyhow::{Context as _, Result};
use broker::message::Message;
use broker::metadata::{Command, Queue as Record, QueueSpec, ViewChange, first_epoch};
use broker::mirror::PutBack;
use broker::queue::{ChannelEvent, ChannelKey, EPOCH_SHIFT, Publish, Publisher, QueueEvent, level_key};
use broker::QueueId;
use cluster::metadata_log::NodeId;
use serde::{Deserialize, Serialize};
use store::Seq;

use crate::follow::leads;
use crate::mailbox::Mailbox;
use crate::node::{ConnectionHandle, ConnectionMail, Node, QueueMail};

const FILE: &str = "returning.json";
const FORK: &str = "fork.json";
/// Messages on their way at once.
const BATCH: usize = 500;
/// What a queue has refused is tried again after this time.
const REFUSED: Duration = Duration::from_secs(1);
/// A copy is called merged again after this time, if that was not heard.
const PROPOSE_AGAIN: Duration = Duration::from_millis(100);

/// See the file's head.
#[derive(Debug, Serialize, Deserialize)]
struct Returning {
    /// The generation that this node's side was in.
    generation: u64,
    /// Whom to ask to be taken in.
    to: String,
    /// That is done.
    taken_in: bool,
    /// What the other side held when the two parted, if it is the one that began a generation.
    held: Held,
    queues: Vec<Copy>,
}

/// For each queue, and each of its levels, the sequence after the last.
pub(crate) type Held = BTreeMap<u64, Vec<(u8, u64)>>;

/// What a node held when its side went on by itself.
#[derive(Debug, Serialize, Deserialize)]
struct Fork {
    generation: u64,
    held: Held,
}

/// A queue of which this node holds a copy.
#[derive(Debug, Serialize, Deserialize)]
struct Copy {
    id: u64,
    vhost: String,
    name: String,
    durable: bool,
    auto_delete: bool,
    level_max: u8,
    /// Encoded as in AMQP.
    arguments: Vec<u8>,
}

/// Writes down what this node holds, before it gives way.
pub(crate) fn write_down(node: &Node, to: NodeId) -> Result<()> {
    let tables = node.tables.load();
    let held = tables.queues.values().filter(|record| record.exclusive.is_none() && record.view.holds(node.id()));
    let held = held.map(|record| {
        let mut arguments = Vec::new();
        record.arguments.encode(&mut arguments);
        Copy {
            id: record.id.0,
            vhost: record.vhost.to_string(),
            name: record.name.to_string(),
            durable: record.durable,
            auto_delete: record.auto_delete,
            level_max: crate::follow::level_max(record),
            arguments,
        }
    });
    let generation = node.generation.load(Ordering::Acquire);
    let returning =
        Returning { generation, to: tables.node_name(to).to_owned(), taken_in: false, held: Held::new(), queues: held.collect() };
    write(&node.config.data_dir, &returning)
}

fn write(data_dir: &std::path::Path, returning: &Returning) -> Result<()> {
    let path = data_dir.join(FILE);
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        std::fs::write(&new, serde_json::to_vec(returning)?)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn read(data_dir: &std::path::Path) -> Result<Option<Returning>> {
    let path = data_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes down what this node holds at the moment at which its side goes on by itself.
pub(crate) async fn remember_fork(node: &Node, generation: u64) -> Result<()> {
    let tables = node.tables.load_full();
    let here = tables.queues.values().filter(|record| record.view.holds(node.id()));
    let queues = here.map(|record| (record.id, crate::follow::level_max(record))).collect();
    let found = node.log.survey(queues).await;
    let held = found.into_iter().map(|found| {
        let levels = found.levels.iter().map(|level| (level.level, level.next.0)).collect();
        (found.queue.0, levels)
    });
    let fork = Fork { generation, held: held.collect() };
    let path = node.config.data_dir.join(FORK);
    std::fs::write(&path, serde_json::to_vec(&fork)?).with_context(|| format!("cannot write {}", path.display()))
}

/// What this node held when its side left the generation of somebody who comes back from it.
pub(crate) fn held_at_fork(node: &Node, generation: u64) -> Held {
    let text = std::fs::read(node.config.data_dir.join(FORK)).unwrap_or_default();
    let fork: Option<Fork> = serde_json::from_slice(&text).ok();
    fork.filter(|fork| generation < fork.generation).map(|fork| fork.held).unwrap_or_default()
}

/// Whom this node should ask to be taken back in, and the generation that it comes from, if it is on its
/// way back and has not been yet.
pub(crate) fn wants_back(data_dir: &std::path::Path) -> Result<Option<(String, u64)>> {
    let returning = read(data_dir)?.filter(|returning| !returning.taken_in);
    Ok(returning.map(|returning| (returning.to, returning.generation)))
}

/// The node is a member again.
pub(crate) fn taken_in(data_dir: &std::path::Path, held: Held) -> Result<()> {
    match read(data_dir)? {
        Some(returning) => write(data_dir, &Returning { taken_in: true, held, ..returning }),
        None => Ok(()),
    }
}

/// Puts back what this node's queues got while its side went on by itself. Called when the node is up and
/// before it takes part in any queue that it does not lead.
pub(crate) async fn put_back(node: &Arc<Node>) -> Result<()> {
    let Some(returning) = read(&node.config.data_dir)? else { return Ok(()) };
    let first = Seq(first_epoch(returning.generation) << EPOCH_SHIFT);
    let mut count = 0;
    for held in &returning.queues {
        // Of the generation that the other side left, what it had not when it left it.
        let had = returning.held.get(&held.id).map(Vec::as_slice).unwrap_or_default();
        count += put_back_queue(node, held, if returning.held.is_empty() { first } else { Seq(1) }, had).await?;
    }
    std::fs::remove_file(node.config.data_dir.join(FILE))?;
    if count > 0 {
        tracing::warn!("{count} messages that this node's side took during the partition are put back");
    }
    Ok(())
}

async fn put_back_queue(node: &Arc<Node>, held: &Copy, first: Seq, had: &[(u8, u64)]) -> Result<u64> {
    let old = QueueId(held.id);
    let found = node.log.survey(vec![(old, held.level_max)]).await.pop();
    let has_some = found.is_some_and(|found| {
        found.levels.iter().any(|level| level.messages > 0 && level.next > first)
    });
    if !has_some {
        return Ok(0);
    }
    let target = match target(node, held).await {
        // It starts from what the store has, with all of it.
        Some(target) if target == old && node.tables.load().queues.get(&old).is_some_and(|r| leads(node.id(), r)) => {
            return Ok(0);
        }
        Some(target) => target,
        None => anyhow::bail!("queue '{}' in vhost '{}' cannot be declared again", held.name, held.vhost),
    };
    let mut count = 0;
    for level in 0..=held.level_max {
        let mut from = had.iter().find(|(l, _)| *l == level).map_or(first, |(_, next)| first.max(Seq(*next)));
        loop {
            let messages = node.log.read(level_key(old, level), from, BATCH).await;
            let Some((last, _)) = messages.last() else { break };
            from = Seq(last.0 + 1);
            let messages: Vec<Message> =
                messages.iter().filter_map(|(_, bytes)| Message::from_bytes(bytes.get(8..)?).ok()).collect();
            count += messages.len() as u64;
            // A full queue that refuses some takes these from no publisher either.
            let _ = publish(node, target, &messages, || true).await;
        }
    }
    Ok(count)
}

/// The queue of this name in the log that stays; declared again if it is not there.
async fn target(node: &Arc<Node>, held: &Copy) -> Option<QueueId> {
    let there = |node: &Node| Some(node.tables.load().queue(&held.vhost, &held.name)?.id);
    if let Some(id) = there(node) {
        return Some(id);
    }
    let arguments = Table::decode(held.arguments.get(4..)?).ok()?;
    let spec = QueueSpec {
        name: held.name.as_str().into(),
        durable: held.durable,
        auto_delete: held.auto_delete,
        exclusive: false,
        connection: None,
        arguments,
        node: Arc::clone(&node.name),
    };
    let command = Command::DeclareQueue { vhost: held.vhost.as_str().into(), spec };
    if let Err(error) = node.propose(command).await {
        tracing::warn!("queue '{}' in vhost '{}' was not declared again: {error}", held.name, held.vhost);
    }
    there(node)
}

/// Puts what only this node's old copy of a queue has into the queue again, and says that the copy is
/// merged when all of it is confirmed. Gives up when the queue has no use for that any more.
pub(crate) async fn merge(node: Arc<Node>, queue: QueueId, PutBack { lineage, runs }: PutBack) {
    let wanted = || -> Option<Arc<Record>> {
        let record = node.tables.load().queues.get(&queue).map(Arc::clone)?;
        let view = &record.view;
        let waits = view.lineage == lineage && view.old.contains(&node.id()) && view.is_member(node.id());
        (waits && view.is_running() && !node.is_stopping()).then_some(record)
    };
    let mut count = 0;
    for (level, mut left) in runs {
        while let Some(first) = left.first() {
            let found = node.log.read(level_key(queue, level), first, BATCH).await;
            let Some((last, _)) = found.last() else {
                // All is read, or the store has stopped.
                if node.log.survey(vec![(queue, level)]).await.is_empty() {
                    return;
                }
                break;
            };
            let missed = found.iter().filter(|(seq, _)| left.contains(*seq));
            let mut messages: Vec<Message> =
                missed.filter_map(|(_, bytes)| Message::from_bytes(bytes.get(8..)?).ok()).collect();
            left.drop_up_to(*last);
            count += messages.len() as u64;
            while !messages.is_empty() {
                let Some(rejected) = publish(&node, queue, &messages, || wanted().is_some()).await else { return };
                messages = rejected.iter().filter_map(|number| messages.get(usize::try_from(*number).ok()?.checked_sub(1)?).cloned()).collect();
                if !messages.is_empty() {
                    // The queue is full, or nobody leads it.
                    tokio::time::sleep(REFUSED).await;
                }
            }
        }
    }
    while let Some(record) = wanted() {
        let change = ViewChange::Merged(node.id());
        match node.propose(Command::ChangeView { queue, epoch: record.view.epoch, change }).await {
            Ok(_) => {
                let (name, vhost) = (&record.name, &record.vhost);
                tracing::warn!("queue '{name}' in vhost '{vhost}': {count} messages that only this node had are put back");
                return;
            }
            Err(error) => {
                tracing::debug!(?error, "an old copy is called merged later");
                tokio::time::sleep(PROPOSE_AGAIN).await;
            }
        }
    }
}

/// Publishes to a queue and waits until it has answered for all of it; the numbers, from 1, of those that
/// it refused. Everything is flagged, since a client may have seen it. `None`: the queue is gone, the node
/// stops, or it is not `wanted` any more.
async fn publish(node: &Arc<Node>, queue: QueueId, messages: &[Message], wanted: impl Fn() -> bool) -> Option<Vec<u64>> {
    let id = node.next_connection();
    let mailbox = Arc::new(Mailbox::new());
    node.desks.write().insert(id, Arc::new(ConnectionHandle::new(Arc::clone(&mailbox))));
    let channel = ChannelKey { connection: id, number: 1, life: 1 };
    let agent = crate::agent_driver::start_for_return(node, queue);
    let mut left = messages.len();
    let numbered = (1..).zip(messages).map(|(number, message)| Publish { message: message.clone(), number });
    let event = QueueEvent::Publish { from: Publisher::Channel(channel), messages: numbered.collect() };
    let bytes = crate::queue_driver::size_of_event(&event);
    let _ = agent.mailbox.push(QueueMail::Event(event), bytes);
    let (mut mails, mut refused) = (Vec::new(), Vec::new());
    let goes_on = || !node.is_stopping() && node.tables.load().queues.get(&queue).is_some() && wanted();
    while left > 0 && goes_on() {
        let take = std::future::poll_fn(|cx| mailbox.poll_take(cx, &mut mails));
        if tokio::time::timeout(Duration::from_secs(1), take).await.is_err() {
            // Nobody else tells this agent of another leader.
            let _ = agent.mailbox.push(QueueMail::Recheck, 0);
        }
        for mail in mails.drain(..) {
            match mail {
                ConnectionMail::Channel(ChannelEvent::Confirmed { runs, .. }) => {
                    left -= runs.iter().map(|(first, last)| (last - first + 1) as usize).sum::<usize>().min(left);
                }
                ConnectionMail::Channel(ChannelEvent::Rejected { numbers, .. }) => {
                    left -= numbers.len().min(left);
                    refused.extend(numbers);
                }
                _ => {}
            }
        }
    }
    let _ = agent.mailbox.push(QueueMail::Deleted, 0);
    node.desks.write().remove(&id);
    (left == 0).then_some(refused)
}
