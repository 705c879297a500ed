//! Where a queue and its mirrors are: everything the API says about a queue's view is read here.

use std::sync::Arc;

use broker::Name;
use broker::metadata::{Queue, Tables};
use serde_json::{Value as Json, json};

use crate::node::{MirrorReport, NodeStatus, QueueReport};
use crate::value::Object;

/// The node that leads a queue, or led it before it was stopped.
pub(crate) fn leader(queue: &Queue) -> &str {
    queue.leader()
}

/// Whether a policy asks for mirrors, even if there are none.
pub(crate) fn is_mirrored(queue: &Queue) -> bool {
    queue.effective_policy.contains("ha-mode")
}

/// The mirrors that have all the leader has, in order of age.
pub(crate) fn in_sync(queue: &Queue) -> &[Name] {
    queue.view.in_sync.get(1..).unwrap_or_default()
}

/// The mirrors that lack something.
fn catching_up<'a>(
    queue: &'a Queue,
    report: Option<&'a QueueReport>,
) -> impl Iterator<Item = &'a MirrorReport> {
    let mirrors = report.map_or(&[][..], |report| &report.mirrors);
    mirrors
        .iter()
        .filter(|mirror| !in_sync(queue).contains(&mirror.node) && *mirror.node != *leader(queue))
}

/// The state as lists show it. Without a report the queue's node does not answer.
pub(crate) fn state(_queue: &Queue, report: Option<&QueueReport>) -> &'static str {
    report.map_or("down", |report| report.state)
}

/// Adds node, state and mirrors. Mirrors are listed when a policy asks for mirroring.
pub(crate) fn put(shown: &mut Object, queue: &Queue, report: Option<&QueueReport>) {
    shown.insert("node".to_owned(), json!(leader(queue)));
    if !is_mirrored(queue) {
        return;
    }
    let in_sync = in_sync(queue);
    let behind = catching_up(queue, report).map(|mirror| &mirror.node);
    let all: Vec<&Name> = in_sync.iter().chain(behind).collect();
    shown.insert("slave_nodes".to_owned(), json!(all));
    shown.insert("synchronised_slave_nodes".to_owned(), json!(in_sync));
    let recoverable = report.map_or(&[][..], |report| &report.recoverable);
    shown.insert("recoverable_slaves".to_owned(), json!(recoverable));
    if let Some(count) = report.and_then(|report| report.sync_messages) {
        shown.insert("sync_messages".to_owned(), json!(count));
    }
    if let Some(report) = report {
        let show = |mirror: &MirrorReport| {
            json!({
                "node": mirror.node,
                "synchronised": in_sync.contains(&mirror.node),
                "sync_messages_left": mirror.sync_messages_left,
                "sync_bytes_left": mirror.sync_bytes_left,
                "sync_strategy": mirror.sync_strategy,
            })
        };
        let details: Vec<Json> = report.mirrors.iter().map(show).collect();
        shown.insert("mirror_details".to_owned(), Json::Array(details));
    }
}

/// The mirrored queues led by `own` that no other running node has in sync.
pub(crate) fn last_copies(tables: &Tables, own: &str, nodes: &[NodeStatus]) -> Vec<Json> {
    let runs = |name: &str| nodes.iter().any(|node| *node.name == *name && node.running);
    let critical = |queue: &&Arc<Queue>| {
        leader(queue) == own
            && queue.exclusive.is_none()
            && is_mirrored(queue)
            && !in_sync(queue).iter().any(|mirror| runs(mirror))
    };
    let queues = tables
        .vhosts
        .values()
        .flat_map(|vhost| vhost.queues.values())
        .filter(critical);
    let show = |queue: &Arc<Queue>| {
        json!({
            "name": queue.name,
            "readable_name": format!("queue '{}' in vhost '{}'", queue.name, queue.vhost),
            "virtual_host": queue.vhost,
            "type": "classic",
        })
    };
    queues.map(show).collect()
}
