//! What this node tells of itself: the queues that it leads, its clients, its resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::metadata::{Tables, View};
use broker::mirror::Progress;
use broker::status::QueueStatus;
use broker::{ConnectionId, QueueId};
use cluster::metadata_log::NodeId;
use management::node::{
    AuthAttempts, Churn, ConnectionReport, DiskCounters, Listener, MirrorReport, NodeStatus, QueueReport, Totals,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::alarms;
use crate::clock;
use crate::config::MemoryWatermark;
use crate::node::{ConnectionMail, Node, QueueHandle, QueueMail};

/// How long a task may take to tell its status; less than others wait for all of them.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks many tasks at once, and takes the answers that come in time.
async fn gather<T>(asked: Vec<oneshot::Receiver<T>>) -> Vec<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(answer)) = timeout_at(deadline, answer).await {
            answers.push(answer);
        }
    }
    answers
}

fn ask_queue(handle: &QueueHandle) -> Option<oneshot::Receiver<QueueReport>> {
    let (reply, answer) = oneshot::channel();
    handle.mailbox.push(QueueMail::Report(reply), 0).ok()?;
    Some(answer)
}

/// A queue as its leader tells of it: while a mirror is sent a backlog, the queue is syncing.
pub(crate) fn queue_report(tables: &Tables, view: &View, status: QueueStatus, progress: &[Progress]) -> QueueReport {
    let messages = status.messages_ready + status.messages_unacked;
    let sending = progress.iter().filter(|mirror| mirror.active);
    // The mirror that lacks most says how far it is; what a mirror has is known after it was asked.
    let left = sending.map(|mirror| mirror.messages_left.unwrap_or(messages)).max().filter(|left| *left > 0);
    let mirror = |node: NodeId| {
        let name = tables.nodes.get(node).map(|member| Arc::clone(&member.name))?;
        let feed = progress.iter().find(|feed| feed.node == node);
        let in_sync = view.is_in_sync(node).then_some(0);
        Some(MirrorReport {
            node: name,
            sync_messages_left: feed.map_or(in_sync, |feed| feed.messages_left),
            sync_bytes_left: in_sync.filter(|_| feed.is_none()),
            sync_strategy: feed.map_or("", |feed| feed.strategy),
        })
    };
    QueueReport {
        queue: status.id,
        state: if left.is_some() { "syncing" } else { "running" },
        sync_messages: left.map(|left| messages.saturating_sub(left)),
        mirrors: view.mirrors().chain(view.catching_up.iter().copied()).filter_map(mirror).collect(),
        status,
        ..QueueReport::default()
    }
}

/// The queues that are led here.
pub(super) async fn queues(node: &Node) -> Vec<QueueReport> {
    let handles: Vec<_> = node.leading.read().values().map(Arc::clone).collect();
    let asked = handles.iter().filter_map(|handle| ask_queue(handle)).collect();
    gather(asked).await
}

/// A queue, if it is led here.
pub(super) async fn queue(node: &Node, queue: QueueId) -> Option<QueueReport> {
    let asked = ask_queue(&*node.leading(queue)?)?;
    gather(vec![asked]).await.pop()
}

/// Asks all client connections the same.
async fn ask_connections<T>(node: &Node, question: impl Fn(oneshot::Sender<T>) -> ConnectionMail) -> Vec<T> {
    let handles: Vec<_> = node.connections.read().values().map(Arc::clone).collect();
    let ask = |handle: Arc<crate::node::ConnectionHandle>| {
        let (reply, answer) = oneshot::channel();
        handle.mailbox.push(question(reply), 0).ok()?;
        Some(answer)
    };
    gather(handles.into_iter().filter_map(ask).collect()).await
}

/// The clients that are connected here and logged in.
pub(super) async fn connections(node: &Node) -> Vec<ConnectionReport> {
    let statuses = ask_connections(node, ConnectionMail::Status).await.into_iter().filter(|status| !status.vhost.is_empty());
    statuses.map(|status| ConnectionReport { node: Arc::clone(&node.name), status }).collect()
}

/// Closes a connection of this node. False when it is gone.
pub(super) fn close(node: &Node, connection: ConnectionId, reason: &str) -> bool {
    let handle = node.connections.read().get(&connection).map(Arc::clone);
    handle.is_some_and(|handle| handle.mailbox.push(ConnectionMail::Close(reason.to_owned()), 0).is_ok())
}

/// What this node's clients have published and taken, and what came and went here. What queues did on the disk is
/// as of their last report.
pub(super) async fn totals(node: &Node) -> Totals {
    ask_connections(node, ConnectionMail::Traffic).await;
    Totals { churn: churn(node), ..node.traffic.totals(&node.tables.load()) }
}

fn churn(node: &Node) -> Churn {
    let c = &node.counters;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Churn {
        connections_created: get(&c.connections_created),
        connections_closed: get(&c.connections_closed),
        channels_created: get(&c.channels_created),
        channels_closed: get(&c.channels_closed),
        queues_declared: get(&c.queues_declared),
        queues_created: get(&c.queues_created),
        queues_deleted: get(&c.queues_deleted),
    }
}

/// The node itself.
pub(crate) fn status(node: &Node) -> NodeStatus {
    let resources = &node.resources;
    let counters = &node.counters;
    let (syncs, sync_nanos, written) = node.log.counters();
    let config = &node.config;
    let tables = node.tables.load();
    let me = tables.nodes.get(node.id());
    let paused = node.is_paused();
    let serves = |listener: &&Listener| !paused || !listener.protocol.starts_with("amqp");
    let level = |value: &AtomicU64| value.load(Ordering::Relaxed);
    NodeStatus {
        name: Arc::clone(&node.name),
        kind: me.map(|me| super::kind(me.kind)).unwrap_or_default(),
        running: true,
        being_drained: me.is_some_and(|me| me.draining),
        in_service: node.is_open.load(Ordering::Relaxed) && !node.is_stopping() && !paused,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: Duration::from_millis(clock::now().as_millis()),
        os_pid: std::process::id(),
        memory_used: alarms::memory_used(),
        memory_limit: level(&resources.memory_limit),
        memory_alarm: resources.memory_alarm(),
        memory_total: level(&resources.memory_total),
        memory_watermark: match config.resources.vm_memory_high_watermark {
            MemoryWatermark::Relative(share) => Some(share),
            MemoryWatermark::Absolute(_) => None,
        },
        disk_free: level(&resources.disk_free),
        disk_free_limit: level(&resources.disk_limit),
        disk_free_alarm: resources.disk_alarm(),
        fds_used: count_files("/proc/self/fd"),
        fds_total: fd_limit(),
        sockets_used: node.connections.read().len() as u64,
        sockets_total: fd_limit(),
        tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
        processors: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        partitions: node.cut_off(),
        listeners: node.listeners.read().iter().filter(serves).cloned().collect(),
        data_dir: config.data_dir.display().to_string(),
        log_files: crate::logging::files(config),
        config_files: config.files.iter().map(|f| f.display().to_string()).collect(),
        disk: DiskCounters {
            writes: syncs,
            write_bytes: written,
            syncs,
            sync_time: Duration::from_nanos(sync_nanos),
            ..DiskCounters::default()
        },
        churn: churn(node),
        links: node.peers.all().iter().filter_map(|peer| peer.status()).collect(),
        auth_attempts: vec![AuthAttempts {
            protocol: "amqp091",
            succeeded: level(&counters.logins),
            failed: level(&counters.logins_failed),
        }],
        connection_limit: config.limits.connection_max,
        cluster_size_target: config.cluster.formation.target_cluster_size_hint.map(u64::from),
        ..NodeStatus::default()
    }
}

fn count_files(dir: &str) -> u64 {
    std::fs::read_dir(dir).map_or(0, |entries| entries.count() as u64)
}

fn fd_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use broker::metadata::{Command, Metadata};

    use super::*;

    fn feed(node: u64, messages_left: Option<u64>, active: bool) -> Progress {
        let strategy = if active { "full" } else { "event" };
        Progress { node: NodeId(node), messages_left, messages_sent: 0, strategy, active }
    }

    #[test]
    fn a_queue_is_syncing_while_a_mirror_is_sent_a_backlog() {
        let mut metadata = Metadata::new();
        for (index, name) in (1..).zip(["a@here", "b@here", "c@here"]) {
            let (name, address) = (name.into(), "here:1".to_owned());
            let kind = broker::metadata::NodeKind::Disc;
            metadata.apply(index, &Command::RegisterNode { name, address, kind, disk: index }).0.unwrap();
        }
        let tables = metadata.tables();
        let ids: Vec<NodeId> = tables.nodes.iter().map(|node| node.id).collect();
        let mut view = View::new([ids[0], ids[1]], true);
        view.catching_up = vec![ids[2]];
        let report = |progress: &[Progress]| {
            let status = QueueStatus { messages_ready: 8, messages_unacked: 2, ..QueueStatus::default() };
            queue_report(&tables, &view, status, progress)
        };
        let third = ids[2].0;
        let quiet = report(&[feed(third, Some(10), false)]);
        assert_eq!((quiet.state, quiet.sync_messages), ("running", None));
        let shown: Vec<_> =
            quiet.mirrors.iter().map(|mirror| (&*mirror.node, mirror.sync_messages_left, mirror.sync_strategy)).collect();
        assert_eq!(shown, [("b@here", Some(0), ""), ("c@here", Some(10), "event")]);
        for (left, has) in [(None, 0), (Some(7), 3)] {
            let syncing = report(&[feed(third, left, true)]);
            assert_eq!((syncing.state, syncing.sync_messages), ("syncing", Some(has)));
        }
        let two = report(&[feed(ids[1].0, Some(9), true), feed(third, Some(4), true)]);
        assert_eq!(two.sync_messages, Some(1), "the one that lacks most counts");
        for left in [Some(0), None] {
            let empty = queue_report(&tables, &view, QueueStatus::default(), &[feed(third, left, true)]);
            assert_eq!(empty.state, "running");
        }
        assert_eq!(report(&[]).mirrors[1].sync_messages_left, None);
    }
}
