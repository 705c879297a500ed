//! Memory and disk alarms: while a node is short of one, publishers of all nodes that hear of it wait, since any
//! of them may publish to its queues (RabbitMQ: "alarms are cluster-wide").
//!
//! Checked every interval of the configuration; an alarm ends by itself when there is room again. A full disk
//! holds up whoever uses a queue that is led here, wherever they are: if others can lead it, the node ends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::link::Lane;
use parking_lot::Mutex;

use crate::config::{DiskLimit, MemoryWatermark, PartitionHandling};
use crate::follow::leads;
use crate::node::{BROKEN, ConnectionMail, Node};
use crate::{partition, wire};

/// What a node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shortage {
    pub memory: bool,
    pub disk: bool,
}

impl Shortage {
    /// As clients are told in `connection.blocked`.
    fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        }
    }

    fn and(self, other: Shortage) -> Shortage {
        Shortage { memory: self.memory || other.memory, disk: self.disk || other.disk }
    }
}

/// What was measured last, and the thresholds.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// What others were told last.
    told: Mutex<Shortage>,
    /// Held while clients are told: they hear last what came last.
    telling: Mutex<()>,
    pub memory_used: AtomicU64,
    pub memory_limit: AtomicU64,
    pub memory_total: AtomicU64,
    pub disk_free: AtomicU64,
    pub disk_limit: AtomicU64,
}

impl Resources {
    pub(crate) fn shortage(&self) -> Shortage {
        Shortage { memory: self.memory_alarm(), disk: self.disk_alarm() }
    }

    pub(crate) fn memory_alarm(&self) -> bool {
        self.memory_used.load(Ordering::Relaxed) > self.memory_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn disk_alarm(&self) -> bool {
        self.disk_free.load(Ordering::Relaxed) < self.disk_limit.load(Ordering::Relaxed)
    }

    /// Sets the thresholds from the configuration.
    pub(crate) fn configure(&self, memory: &MemoryWatermark, disk: &DiskLimit, total_override: Option<u64>) {
        let total = total_override.unwrap_or_else(memory_total);
        self.memory_total.store(total, Ordering::Relaxed);
        self.memory_limit.store(memory_bytes(memory, total), Ordering::Relaxed);
        self.disk_limit.store(disk_bytes(disk, total), Ordering::Relaxed);
        self.disk_free.store(u64::MAX, Ordering::Relaxed);
    }
}

pub(crate) fn memory_bytes(memory: &MemoryWatermark, total: u64) -> u64 {
    match memory {
        MemoryWatermark::Relative(share) => (total as f64 * share) as u64,
        MemoryWatermark::Absolute(bytes) => *bytes,
    }
}

pub(crate) fn disk_bytes(disk: &DiskLimit, total: u64) -> u64 {
    match disk {
        DiskLimit::Relative(share) => (total as f64 * share) as u64,
        DiskLimit::Absolute(bytes) => *bytes,
    }
}

/// Watches until the node stops.
pub(crate) async fn watch(node: Arc<Node>) {
    let interval = node.config.resources.memory_monitor_interval;
    loop {
        check(&node);
        if is_in_the_way(&node) {
            tracing::error!("no room on the disk for too long: the node stops, so that others lead its queues");
            std::process::exit(BROKEN);
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = node.recheck.notified() => {}
            () = node.stopped() => return,
        }
    }
}

/// Measures, and tells clients and other nodes when an alarm begins, changes or ends.
pub(crate) fn check(node: &Node) {
    let resources = &node.resources;
    resources.memory_used.store(memory_used(), Ordering::Relaxed);
    if let Some(free) = disk_free(&node.config.data_dir) {
        resources.disk_free.store(free, Ordering::Relaxed);
    }
    let shortage = resources.shortage();
    if std::mem::replace(&mut *resources.told.lock(), shortage) != shortage {
        match shortage.reason() {
            Some(reason) => tracing::warn!("resource limit alarm set on node {}: {reason}; publishers wait", node.name),
            None => tracing::warn!("resource limit alarm cleared on node {}", node.name),
        }
        let packet = wire::standing(&partition::standing(node));
        for peer in node.peers.all() {
            peer.send(Lane::Control, packet.clone());
        }
    }
    tell_clients(node);
}

/// Has publishers wait, or go on, as this node and those in reach are short of something or not.
pub(crate) fn tell_clients(node: &Node) {
    let _order = node.resources.telling.lock();
    let own = node.resources.shortage();
    let all = partition::partners(node).into_iter().fold(own, |all, standing| all.and(standing.shortage));
    let reason = all.reason();
    let changed = node.alarm.send_if_modified(|told| {
        let is_news = told.as_deref() != reason;
        if is_news {
            *told = reason.map(Arc::from);
        }
        is_news
    });
    if !changed {
        return;
    }
    if all != own {
        tracing::warn!("publishers wait: another node is {}", reason.unwrap_or_default());
    }
    for handle in node.connections.read().values() {
        let _ = handle.mailbox.push(ConnectionMail::Alarm(reason.map(Arc::from)), 0);
    }
}

/// Whether others could confirm what this node has had no room for. It waits longer than it takes its queues
/// to part with mirrors that store nothing either: those are none to hand a queue to.
fn is_in_the_way(node: &Node) -> bool {
    let patience = node.config.cluster.replica_timeout * 3 / 2;
    if node.log.starved_for().is_none_or(|starved| starved < patience) || !can_do_without(node) {
        return false;
    }
    let tables = node.tables.load();
    let led = tables.queues.values().filter(|record| leads(node.id(), record));
    led.into_iter().any(|record| record.view.mirrors().any(|mirror| node.in_reach(mirror)))
}

/// Whether the other nodes go on when this one ends.
fn can_do_without(node: &Node) -> bool {
    let Some(log) = node.consensus() else { return false };
    let voters = log.metrics().voters;
    let others = voters.iter().filter(|voter| voter.id != node.id() && node.in_reach(voter.id)).count();
    let is_open = matches!(node.config.cluster.partition_handling, PartitionHandling::Ignore | PartitionHandling::Autoheal);
    is_open || others * 2 > voters.len()
}

/// Resident bytes of this process.
pub(crate) fn memory_used() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Memory of the machine, or of the container where that is less.
pub(crate) fn memory_total() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.into_iter().chain(container).min().unwrap_or(1 << 30)
}

/// Bytes that may still be written below `path`.
pub(crate) fn disk_free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}
