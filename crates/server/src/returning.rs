//! Coming back to queues that have gone on elsewhere, without losing what was confirmed meanwhile.
//!
//! After an unclean promotion a node's old copy may hold what the queue never had since: [`merge`].
//! After a partition it is a whole log that has gone on:
//!
//! When a node's side goes on by itself the node writes down, in `fork.json`, what its store holds, and of
//! the queues that it leads which message was the first that others may lack: such a message is confirmed
//! by this side alone. Before it gives way it writes down, in `returning.json`, which queues it holds and
//! where its side began. As a member of the other log, before it takes part in any queue, it publishes to
//! the queues' leaders what its store got since: what others may lack, and sequences of its own generation
//! (docs/decisions/0004). They enter at the tail, flagged redelivered, and count as put back when their
//! queue has confirmed them. Queues that the other log does not know are declared again. A queue that
//! refuses is asked again until it takes what it is owed, and the node serves meanwhile; its copy of that
//! queue follows nobody. The file goes when all is put back; a crash before that begins again, which may
//! double messages, flagged.

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

use crate::data_folder::replace;
use crate::follow::leads;
use crate::mailbox::Mailbox;
use crate::mirrors::Mail;
use crate::node::{ConnectionHandle, ConnectionMail, Node, ProposeFailure, QueueMail};

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
    /// The first generation of this side's own.
    since: u64,
    /// For each queue that this node led when that began, the first message that others may lack.
    incomplete: BTreeMap<u64, u64>,
    queues: Vec<Copy>,
}

/// For each queue, and each of its levels, the sequence after the last.
pub(crate) type Held = BTreeMap<u64, Vec<(u8, u64)>>;

/// What a node held when its side went on by itself.
#[derive(Debug, Serialize, Deserialize)]
struct Fork {
    generation: u64,
    held: Held,
    /// The generation in which this began, if its side has gone on by itself several times.
    since: u64,
    /// See [`Returning`].
    incomplete: BTreeMap<u64, u64>,
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
    let fork = read_fork(node).filter(|fork| fork.generation == generation);
    let (since, incomplete) = fork.map_or((generation, BTreeMap::new()), |fork| (fork.since, fork.incomplete));
    let to = tables.node_name(to).to_owned();
    let queues = held.collect();
    let returning = Returning { generation, to, taken_in: false, held: Held::new(), since, incomplete, queues };
    replace(&node.config.data_dir, FILE, &returning)
}

fn read(data_dir: &std::path::Path) -> Result<Option<Returning>> {
    let path = data_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes down what this node holds at the moment at which its side goes on by itself. Nothing that others
/// lack is complete before that.
pub(crate) async fn remember_fork(node: &Node, generation: u64) -> Result<()> {
    let before = read_fork(node).filter(|fork| fork.generation == node.generation.load(Ordering::Acquire));
    let since = before.as_ref().map_or(generation, |before| before.since);
    let mut incomplete = first_incomplete(node).await;
    for (queue, first) in before.map(|before| before.incomplete).unwrap_or_default() {
        let found = incomplete.entry(queue).or_insert(first);
        *found = first.min(*found);
    }
    let tables = node.tables.load_full();
    let here = tables.queues.values().filter(|record| record.view.holds(node.id()));
    let queues = here.map(|record| (record.id, crate::follow::level_max(record))).collect();
    let found = node.log.survey(queues).await;
    let held = found.into_iter().map(|found| {
        let levels = found.levels.iter().map(|level| (level.level, level.next.0)).collect();
        (found.queue.0, levels)
    });
    let fork = Fork { generation, held: held.collect(), since, incomplete };
    replace(&node.config.data_dir, FORK, &fork)
}

/// Of each mirrored queue that this node leads, the first message that some copy may lack.
async fn first_incomplete(node: &Node) -> BTreeMap<u64, u64> {
    let leading: Vec<_> = node.leading.read().iter().map(|(id, handle)| (*id, Arc::clone(handle))).collect();
    let mut answers = Vec::new();
    for (id, handle) in leading {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let _ = handle.mailbox.push(QueueMail::Mirror(Mail::FirstIncomplete(reply)), 0);
        answers.push((id, answer));
    }
    let mut found = BTreeMap::new();
    for (id, answer) in answers {
        // One that is not mirrored does not answer, and one that ends needs not.
        if let Ok(first) = answer.await {
            found.insert(id.0, first.0);
        }
    }
    found
}

fn read_fork(node: &Node) -> Option<Fork> {
    let text = std::fs::read(node.config.data_dir.join(FORK)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What this node held when its side left the generation of somebody who comes back from it.
pub(crate) fn held_at_fork(node: &Node, generation: u64) -> Held {
    read_fork(node).filter(|fork| generation < fork.generation).map(|fork| fork.held).unwrap_or_default()
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
        Some(returning) => replace(data_dir, FILE, &Returning { taken_in: true, held, ..returning }),
        None => Ok(()),
    }
}

/// Puts back what this node's queues got while its side went on by itself. Called when the node is up and
/// before it takes part in any queue that it does not lead. What queues refuse is put back later.
pub(crate) async fn put_back(node: &Arc<Node>) -> Result<()> {
    let Some(returning) = read(&node.config.data_dir)? else { return Ok(()) };
    let (mut refused, mut count) = (Vec::new(), 0);
    for copy in &returning.queues {
        let Some(mut restored) = Restored::of(node, &returning, copy).await? else { continue };
        match restored.go_on(node).await {
            Restoring::Done => count += restored.count,
            Restoring::Refused => refused.push(restored),
            Restoring::Over => return Ok(()),
        }
    }
    if count > 0 {
        tracing::warn!("{count} messages that this node's side took during the partition are put back");
    }
    if refused.is_empty() {
        return forget_return(&node.config.data_dir);
    }
    node.put_back_later.write().extend(refused.iter().map(|restored| restored.old));
    node.run(put_back_later(Arc::clone(node), refused));
    Ok(())
}

/// All is put back, or the node stays in the generation that it wanted to leave.
pub(crate) fn forget_return(data_dir: &std::path::Path) -> Result<()> {
    let path = data_dir.join(FILE);
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Goes round the queues that refused something until each has taken all.
async fn put_back_later(node: Arc<Node>, mut refused: Vec<Restored>) {
    for restored in &refused {
        tracing::warn!(
            "{} does not take back what this node's side took during the partition: it is asked again, and until \
             then this node does not mirror it",
            restored.title
        );
    }
    while !refused.is_empty() {
        tokio::time::sleep(REFUSED).await;
        let mut still = Vec::new();
        for mut restored in refused {
            match restored.go_on(&node).await {
                Restoring::Done => {
                    tracing::warn!("{}: {} messages of the partition are put back", restored.title, restored.count);
                    node.put_back_later.write().remove(&restored.old);
                    crate::follow::follow_queue(&node, restored.old);
                }
                Restoring::Refused => still.push(restored),
                Restoring::Over => return,
            }
        }
        refused = still;
    }
    if let Err(error) = forget_return(&node.config.data_dir) {
        tracing::error!("{error:#}: at the next start messages are put back a second time");
    }
}

/// How far it is with a queue that is put back.
enum Restoring {
    Done,
    /// The queue is full, or nobody may lead it.
    Refused,
    /// The node stops.
    Over,
}

/// A queue whose messages are put back.
struct Restored {
    title: String,
    /// The copy that they are read from.
    old: QueueId,
    target: QueueId,
    /// Levels with the next sequence to be read, the last one first.
    levels: Vec<(u8, Seq)>,
    /// Read and not taken yet.
    waiting: Vec<Message>,
    count: u64,
}

impl Restored {
    /// What a copy may have that the queue has not. `None`: nothing.
    async fn of(node: &Arc<Node>, returning: &Returning, copy: &Copy) -> Result<Option<Restored>> {
        let old = QueueId(copy.id);
        let first = if returning.held.is_empty() {
            let own = first_epoch(returning.since) << EPOCH_SHIFT;
            Seq(returning.incomplete.get(&copy.id).map_or(own, |first| own.min(*first)))
        } else {
            Seq(1)
        };
        let found = node.log.survey(vec![(old, copy.level_max)]).await.pop();
        let has_some = found.is_some_and(|found| found.levels.iter().any(|level| level.messages > 0 && level.next > first));
        if !has_some {
            return Ok(None);
        }
        let Some(target) = target(node, copy).await? else { return Ok(None) };
        if target == old && node.tables.load().queues.get(&old).is_some_and(|record| leads(node.id(), record)) {
            // It starts from what the store has, with all of it.
            return Ok(None);
        }
        // Of the generation that the other side left, what it had not when it left it.
        let had = returning.held.get(&copy.id).map(Vec::as_slice).unwrap_or_default();
        let from = |level| had.iter().find(|(l, _)| *l == level).map_or(first, |(_, next)| first.max(Seq(*next)));
        let levels = (0..=copy.level_max).rev().map(|level| (level, from(level))).collect();
        let title = format!("queue '{}' in vhost '{}'", copy.name, copy.vhost);
        Ok(Some(Restored { title, old, target, levels, waiting: Vec::new(), count: 0 }))
    }

    /// Publishes until all is taken, or something is refused.
    async fn go_on(&mut self, node: &Arc<Node>) -> Restoring {
        loop {
            if self.waiting.is_empty() {
                let Some((level, from)) = self.levels.last_mut() else { return Restoring::Done };
                let found = node.log.read(level_key(self.old, *level), *from, BATCH).await;
                if node.is_stopping() {
                    return Restoring::Over;
                }
                let Some((last, _)) = found.last() else {
                    self.levels.pop();
                    continue;
                };
                *from = Seq(last.0 + 1);
                self.waiting = found.iter().filter_map(|(seq, bytes)| readable(&self.title, *seq, bytes)).collect();
                continue;
            }
            let Some(rejected) = publish(node, self.target, &self.waiting, || true).await else {
                // A queue that is deleted is owed nothing.
                return if node.is_stopping() { Restoring::Over } else { Restoring::Done };
            };
            let before = self.waiting.len();
            self.waiting = chosen(&self.waiting, &rejected);
            self.count += (before - self.waiting.len()) as u64;
            if !self.waiting.is_empty() {
                return Restoring::Refused;
            }
        }
    }
}

/// A message as the store has it.
fn readable(queue: &str, seq: Seq, bytes: &[u8]) -> Option<Message> {
    let message = bytes.get(8..).and_then(|bytes| Message::from_bytes(bytes).ok());
    if message.is_none() {
        tracing::error!("{queue}: message {} cannot be read, so it is not put back", seq.0);
    }
    message
}

/// Those of the messages that have these numbers, from 1.
fn chosen(messages: &[Message], numbers: &[u64]) -> Vec<Message> {
    let chosen = numbers.iter().filter_map(|number| messages.get(usize::try_from(*number).ok()?.checked_sub(1)?));
    chosen.cloned().collect()
}

/// The queue of this name in the log that stays; declared again if it is not there. `None`: it cannot be
/// there, since its virtual host is gone.
async fn target(node: &Arc<Node>, held: &Copy) -> Result<Option<QueueId>> {
    let arguments = held.arguments.get(4..).and_then(|bytes| Table::decode(bytes).ok());
    let arguments = arguments.with_context(|| format!("{FILE} is damaged"))?;
    loop {
        let tables = node.tables.load_full();
        if let Some(record) = tables.queue(&held.vhost, &held.name) {
            return Ok(Some(record.id));
        }
        let (name, vhost) = (&held.name, &held.vhost);
        if !tables.vhosts.contains_key(vhost.as_str()) {
            tracing::warn!("queue '{name}' is not put back: its vhost '{vhost}' is deleted");
            return Ok(None);
        }
        let spec = QueueSpec {
            name: held.name.as_str().into(),
            durable: held.durable,
            auto_delete: held.auto_delete,
            exclusive: false,
            connection: None,
            arguments: arguments.clone(),
            node: Arc::clone(&node.name),
        };
        let command = Command::DeclareQueue { vhost: held.vhost.as_str().into(), spec };
        match node.propose(command).await {
            Ok(_) => {}
            Err(ProposeFailure::Refused(refusal)) => {
                anyhow::bail!("queue '{name}' in vhost '{vhost}' cannot be declared again: {refusal:?}");
            }
            Err(ProposeFailure::Unavailable(why)) => {
                anyhow::ensure!(!node.is_stopping(), "the node stops before queue '{name}' is declared again");
                tracing::info!("queue '{name}' in vhost '{vhost}' is declared again later: {why}");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
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
            let title = || format!("queue {}", queue.0);
            let mut messages: Vec<Message> = missed.filter_map(|(seq, bytes)| readable(&title(), *seq, bytes)).collect();
            left.drop_up_to(*last);
            count += messages.len() as u64;
            while !messages.is_empty() {
                let Some(rejected) = publish(&node, queue, &messages, || wanted().is_some()).await else { return };
                messages = chosen(&messages, &rejected);
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
    let (mut mails, mut refused, mut silent) = (Vec::new(), Vec::new(), 0);
    let goes_on = || !node.is_stopping() && node.tables.load().queues.get(&queue).is_some() && wanted();
    while left > 0 && goes_on() {
        let take = std::future::poll_fn(|cx| mailbox.poll_take(cx, &mut mails));
        if tokio::time::timeout(Duration::from_secs(1), take).await.is_ok() {
            silent = 0;
        } else {
            silent += 1;
            // Nobody else tells this agent of another leader; nor that whom it asked did not lead, so that it has to
            // send everything again.
            let leader = node.tables.load().queues.get(&queue).map(|record| record.leader());
            let mail = match leader.filter(|_| silent % 3 == 0) {
                Some(leader) => QueueMail::NotLeader(leader, 0),
                None => QueueMail::Recheck,
            };
            let _ = agent.mailbox.push(mail, 0);
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
