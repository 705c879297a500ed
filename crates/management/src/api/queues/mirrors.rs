//! Where a queue and its mirrors are: everything the API says about a queue's view is read here.

use std::sync::Arc;

use broker::metadata::{Queue, Tables};
use serde_json::{Value as Json, json};

use crate::node::{MirrorReport, NodeStatus, QueueReport};
use crate::value::Object;

/// The node that leads a queue, or led it before it was stopped.
pub(crate) fn leader<'a>(tables: &'a Tables, queue: &Queue) -> &'a str {
    tables.leader_name(queue)
}

/// Whether a policy asks for mirrors, even if there are none. Exclusive queues never have any.
pub(crate) fn is_mirrored(queue: &Queue) -> bool {
    queue.exclusive.is_none() && queue.effective_policy.contains("ha-mode")
}

/// The mirrors that have all the leader has, in order of age.
pub(crate) fn in_sync<'a>(tables: &'a Tables, queue: &Queue) -> Vec<&'a str> {
    tables.mirror_names(queue)
}

/// The state as the tables have it, for lists that ask no queue.
pub(crate) fn state_by_tables(tables: &Tables, queue: &Queue) -> &'static str {
    if queue.view.is_running() && tables.nodes.is_up(queue.leader()) {
        "running"
    } else {
        state(queue, None)
    }
}

/// The state as lists show it. Without a report the queue's node does not answer, or nobody serves it.
pub(crate) fn state(queue: &Queue, report: Option<&QueueReport>) -> &'static str {
    match report {
        Some(report) => report.state,
        None if !queue.view.is_running() && queue.view.mirrored => "stopped",
        None => "down",
    }
}

/// Adds node, state and mirrors. Mirrors are listed when a policy asks for mirroring.
pub(crate) fn put(shown: &mut Object, tables: &Tables, queue: &Queue, report: Option<&QueueReport>) {
    shown.insert("node".to_owned(), json!(leader(tables, queue)));
    if !is_mirrored(queue) {
        return;
    }
    let in_sync = in_sync(tables, queue);
    let behind = tables.node_names(&queue.view.catching_up);
    let all: Vec<&str> = in_sync.iter().copied().chain(behind).collect();
    shown.insert("slave_nodes".to_owned(), json!(all));
    shown.insert("synchronised_slave_nodes".to_owned(), json!(in_sync));
    let away = queue.view.old.iter().filter(|node| !queue.view.catching_up.contains(node));
    let recoverable: Vec<_> = queue.view.recoverable.iter().chain(away).copied().collect();
    let recoverable: Vec<&str> = tables.node_names(&recoverable).collect();
    shown.insert("recoverable_slaves".to_owned(), json!(recoverable));
    if let Some(count) = report.and_then(|report| report.sync_messages) {
        shown.insert("sync_messages".to_owned(), json!(count));
    }
    if let Some(report) = report {
        let show = |mirror: &MirrorReport| {
            json!({
                "node": mirror.node,
                "synchronised": in_sync.contains(&&*mirror.node),
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
        leader(tables, queue) == own
            && is_mirrored(queue)
            && !in_sync(tables, queue).iter().any(|mirror| runs(mirror))
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
