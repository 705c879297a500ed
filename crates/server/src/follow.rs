//! What a node does when its metadata has changed: queues start, stop, move, and hear of new settings.
//!
//! [`follow`] is called after each batch of commands with what changed; [`follow_all`] compares
//! everything, after a start and after a snapshot. Both only ever bring the node to what the newest
//! tables say, so it does not matter how often they run; one lock keeps them apart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::QueueId;
use broker::metadata::{Change, Queue as Record, Tables};
use broker::mirror::Leader;
use broker::mirror::operation::Sessions;
use broker::queue::{Now, Queue, horizon_key, level_key};
use cluster::metadata_log::NodeId;

use crate::clock;
use crate::log_writer::{Found, Job};
use crate::node::{ConnectionMail, Node, QueueMail};
use crate::{mirrors, queue_driver};

/// What follows from applied commands.
pub(crate) fn follow(node: &Arc<Node>, changes: &[Change]) {
    let _order = node.following.lock();
    let tables = node.tables.load_full();
    if changes.contains(&Change::NodesChanged) {
        node.reach.grant_only_to_those_up(&tables);
    }
    // What the log told before this life was noted may name it the leader of queues that have moved on.
    let registered = node.registered.load(Ordering::Acquire);
    if !registered {
        members_changed(node, &tables);
    }
    for change in changes.iter().filter(|_| registered) {
        match change {
            Change::QueueCreated(id) => {
                if let Some(record) = tables.queues.get(id) {
                    queue_created(node, record);
                }
            }
            Change::QueueDeleted(id) => {
                queue_deleted(node, *id);
            }
            Change::QueueChanged(id) | Change::ViewChanged(id) => {
                if let Some(record) = tables.queues.get(id) {
                    mirrors::view_changed(node, record);
                }
            }
            Change::NodesChanged => members_changed(node, &tables),
            Change::VhostDeleted(name) => {
                close_where(node, |_, vhost| vhost == name, &format!("vhost '{name}' is deleted"));
            }
            Change::UserDeleted(name) => {
                close_where(node, |user, _| user == name, &format!("user '{name}' is deleted"));
            }
            Change::RightsChanged | Change::ExchangeDeleted { .. } => {}
        }
    }
    node.changes.send_modify(|count| *count += 1);
    // Nothing changes either when a node is taken in again, and it waits for a place in the log.
    if !registered || changes.is_empty() || changes.iter().any(rearranges) {
        node.rearrangements.send_modify(|count| *count += 1);
    }
}

/// Brings everything to what the tables say. Queues that are led here start from what the store holds.
pub(crate) async fn follow_all(node: &Arc<Node>) {
    let led = |tables: &Tables| -> Vec<(QueueId, u8)> {
        let here = tables.queues.values().filter(|record| leads(node.id(), record));
        let missing = here.filter(|record| node.leading(record.id).is_none());
        missing.map(|record| (record.id, level_max(record))).collect()
    };
    // See `follow`.
    if !node.registered.load(Ordering::Acquire) {
        let _order = node.following.lock();
        members_changed(node, &node.tables.load());
        node.changes.send_modify(|count| *count += 1);
        node.rearrangements.send_modify(|count| *count += 1);
        return;
    }
    let wanted = led(&node.tables.load());
    let found = node.log.survey(wanted).await;
    let _order = node.following.lock();
    let tables = node.tables.load_full();
    node.reach.grant_only_to_those_up(&tables);
    for found in found {
        if let Some(record) = tables.queues.get(&found.queue)
            && leads(node.id(), record)
            && node.leading(record.id).is_none()
            && !node.mirroring.read().contains_key(&record.id)
        {
            start_found(node, record, &found);
        }
    }
    // One after the other: whoever opens a door asks for the leader with the doors locked.
    let mut known: Vec<QueueId> = node.leading.read().keys().copied().collect();
    known.extend(node.doors.read().keys());
    known.extend(node.mirroring.read().keys());
    let is_gone = |id: &QueueId| *id != broker::delay::DELAY_ID && tables.queues.get(id).is_none();
    for id in known.into_iter().filter(is_gone) {
        queue_deleted(node, id);
    }
    for record in tables.queues.values() {
        mirrors::view_changed(node, record);
    }
    members_changed(node, &tables);
    node.changes.send_modify(|count| *count += 1);
    node.rearrangements.send_modify(|count| *count += 1);
}

/// Whether a change may call for another one: of who votes, or of who holds a queue. A new queue has all that
/// it should have.
fn rearranges(change: &Change) -> bool {
    matches!(change, Change::NodesChanged | Change::ViewChanged(_) | Change::QueueChanged(_))
}

/// Brings this node's part in one queue to what the tables say.
pub(crate) fn follow_queue(node: &Arc<Node>, id: QueueId) {
    let _order = node.following.lock();
    if let Some(record) = node.tables.load().queues.get(&id) {
        mirrors::view_changed(node, record);
    }
}

pub(crate) fn leads(me: NodeId, record: &Record) -> bool {
    record.leader() == me && record.view.is_running()
}

pub(crate) fn level_max(record: &Record) -> u8 {
    record.settings.priority_max.unwrap_or(0)
}

pub(crate) fn moment() -> Now {
    Now { time: clock::now(), unix_millis: clock::unix_millis(), budget_bytes: 0 }
}

/// Starts a queue on what the store holds of it.
pub(crate) fn start_found(node: &Arc<Node>, record: &Arc<Record>, found: &Found) {
    queue_driver::start_from_store(node, queue_of(record, found), Arc::clone(record));
}

/// Starts a mirrored queue that another node led before, with what came in for the follower.
pub(crate) fn start_leader(
    node: &Arc<Node>,
    record: &Arc<Record>,
    found: &Found,
    (leader, sessions): (Leader, Sessions),
    came: impl IntoIterator<Item = QueueMail>,
) {
    let mut queue = queue_of(record, found);
    queue.succeed(sessions);
    queue_driver::start(node, queue, Arc::clone(record), Some(leader), came);
}

fn queue_of(record: &Record, found: &Found) -> Queue {
    let horizon = found.horizon.as_ref().map(|(seq, bytes)| (*seq, &bytes[..]));
    let levels: Vec<_> = found.levels.iter().filter(|level| level.messages > 0 || level.next.0 > 1).copied().collect();
    Queue::new(record, &levels, horizon, moment())
}

fn queue_created(node: &Arc<Node>, record: &Arc<Record>) {
    // One that has been led elsewhere since, which this node hears of together, is taken over like any other.
    if leads(node.id(), record) && record.view.is_first_term() && node.leading(record.id).is_none() {
        // Counted where it is led, so that all nodes together count it once.
        node.counters.queues_created.fetch_add(1, Ordering::Relaxed);
        queue_driver::start(node, Queue::new(record, &[], None, moment()), Arc::clone(record), None, []);
    } else {
        mirrors::view_changed(node, record);
    }
}

fn queue_deleted(node: &Node, id: QueueId) {
    let queue = node.leading.write().remove(&id);
    let door = node.doors.write().remove(&id);
    node.counters.queues_deleted.fetch_add(u64::from(queue.is_some()), Ordering::Relaxed);
    let mirror = node.mirroring.read().get(&id).map(Arc::clone);
    if let Some(replica) = queue.or(mirror) {
        let _ = replica.mailbox.push(QueueMail::Deleted, 0);
    } else {
        // A copy of it may be here.
        forget_copy(node, id, 0);
    }
    if let Some(door) = door.filter(|door| door.is_agent) {
        let _ = door.mailbox.push(QueueMail::Deleted, 0);
    }
}

/// Gives up what the store holds of a queue with these levels of priority.
pub(crate) fn forget_copy(node: &Node, id: QueueId, level_max: u8) {
    let mut batch = store::Batch::new();
    for level in 0..=level_max {
        batch.forget(level_key(id, level));
    }
    batch.forget(horizon_key(id));
    node.log.submit(Job::Append { batch, report: None });
}

fn members_changed(node: &Arc<Node>, tables: &Tables) {
    let members: Vec<_> = tables
        .nodes
        .iter()
        .map(|member| (member.id, Arc::clone(&member.name), member.address.clone()))
        .collect();
    // Before its own registration is here, a node knows who it was told to call.
    if members.iter().any(|(id, ..)| *id == node.id()) {
        node.peers.arrange(&members);
    }
    node.recheck_agents();
}

fn close_where(node: &Node, which: impl Fn(&broker::Name, &broker::Name) -> bool, reason: &str) {
    for handle in node.connections.read().values() {
        if handle.identity.read().as_ref().is_some_and(|(user, vhost)| which(user, vhost)) {
            let _ = handle.mailbox.push(ConnectionMail::Close(reason.to_owned()), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_declare_rearranges_nothing() {
        let queue = QueueId(1);
        let declared = [Change::QueueCreated(queue), Change::QueueDeleted(queue), Change::RightsChanged];
        assert!(!declared.iter().any(rearranges));
        for change in [Change::NodesChanged, Change::ViewChanged(queue), Change::QueueChanged(queue)] {
            assert!(rearranges(&change), "{change:?}");
        }
    }
}
