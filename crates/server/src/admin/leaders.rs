//! Queue leaders that move: one by one, or spread evenly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::metadata::{Queue as Record, Refusal, Scope};
use broker::permission::Pattern;
use broker::{Name, QueueId};
use cluster::metadata_log::NodeId;
use management::host::HostFailure;
use management::node::{Failure, RebalanceKind, RebalanceRequest, RebalanceRow};
use tokio::time::{Instant, timeout_at};

use crate::listing;
use crate::node::Node;

/// How long the new leader may take to lead.
const PATIENCE: Duration = Duration::from_secs(30);
/// Looked at again after this time, whether the tables have changed or not.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Lets a node that has a mirror in sync lead a queue; waits until it does.
pub(super) async fn transfer(node: &Arc<Node>, queue: QueueId, to: &Name) -> Result<(), Failure> {
    let tables = node.tables.load_full();
    let mut members = tables.nodes.iter();
    let member = members.find(|member| cluster::handshake::is_same_node(to, &member.name));
    let target = member.ok_or(HostFailure::NotAClusterNode)?.id;
    let record = tables.queues.get(&queue).ok_or(Failure::Refused(Refusal::QueueGone(queue)))?;
    if record.leader() == target && record.view.is_running() {
        return Ok(());
    }
    if !record.view.mirrored {
        return Err(HostFailure::NotMirrored.into());
    }
    move_leader(node, queue, target).await
}

async fn move_leader(node: &Arc<Node>, queue: QueueId, to: NodeId) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut changes = node.changes.subscribe();
    let mut asked = None;
    loop {
        changes.mark_unchanged();
        let tables = node.tables.load_full();
        let record = tables.queues.get(&queue).ok_or(Failure::Refused(Refusal::QueueGone(queue)))?;
        if record.leader() == to && record.view.is_running() {
            if listing::queue(node, queue).await.is_some() {
                return Ok(());
            }
        } else if asked != Some(record.view.epoch) {
            asked = Some(record.view.epoch);
            begin(node, record, to)?;
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable("the queue did not move in time".to_owned()));
        }
        let look = (Instant::now() + LOOK_AGAIN).min(deadline);
        let _ = timeout_at(look, changes.changed()).await;
    }
}

/// Asks the leader to come to rest and hand over. A view that has changed meanwhile is looked at again.
fn begin(node: &Arc<Node>, record: &Record, to: NodeId) -> Result<(), Failure> {
    if !record.view.is_in_sync(to) {
        let why = format!("queue '{}' in vhost '{}' has no mirror in sync on that node", record.name, record.vhost);
        return Err(HostFailure::Refused(why).into());
    }
    crate::mirrors::ask_to_yield(node, record, to);
    Ok(())
}

/// Moves leaders as the request says.
pub(super) async fn rebalance(node: &Arc<Node>, wanted: &RebalanceRequest) -> Result<Vec<RebalanceRow>, Failure> {
    if matches!(wanted.kind, RebalanceKind::All | RebalanceKind::Classic) {
        for (queue, to) in plan(node, wanted).await? {
            if let Err(error) = move_leader(node, queue, to).await {
                tracing::warn!("a queue leader stays where it is: {error}");
            }
        }
    }
    Ok(rows(node, wanted))
}

async fn plan(node: &Arc<Node>, wanted: &RebalanceRequest) -> Result<Vec<(QueueId, NodeId)>, Failure> {
    let tables = node.tables.load_full();
    if let Some(name) = &wanted.target {
        let mut members = tables.nodes.iter();
        let member = members.find(|member| cluster::handshake::is_same_node(name, &member.name));
        let target = member.ok_or(HostFailure::NotAClusterNode)?.id;
        let meant = tables.queues.values().filter(|record| is_meant(wanted, record));
        let movable = meant.filter(|record| record.view.mirrors().any(|mirror| mirror == target));
        return Ok(movable.map(|record| (record.id, target)).collect());
    }
    let mut messages = BTreeMap::new();
    for report in listing::queues(node).await {
        if let Some(queue) = report.queue {
            messages.insert(queue, report.status.messages_ready + report.status.messages_unacked);
        }
    }
    let (vhosts, queues) = wanted.patterns();
    let compile = |pattern: &str| Pattern::compile(pattern).map_err(|bad| HostFailure::BadData(bad.to_string()));
    let (vhosts, queues) = (compile(vhosts)?, compile(queues)?);
    let scope = Scope { vhost: Some(&vhosts), queue: Some(&queues) };
    let moves = tables.rebalance(scope, |queue| messages.get(&queue).copied().unwrap_or_default());
    Ok(moves.into_iter().map(|step| (step.step.queue, step.to)).collect())
}

fn is_meant(wanted: &RebalanceRequest, record: &Record) -> bool {
    record.mirroring.is_some() && record.view.is_running() && wanted.selects(&record.vhost, &record.name)
}

/// How many of the queues that were meant each node leads.
fn rows(node: &Node, wanted: &RebalanceRequest) -> Vec<RebalanceRow> {
    let tables = node.tables.load_full();
    let counts = matches!(wanted.kind, RebalanceKind::All | RebalanceKind::Classic);
    let mut led: BTreeMap<NodeId, u64> = BTreeMap::new();
    for record in tables.queues.values().filter(|record| counts && is_meant(wanted, record)) {
        *led.entry(record.leader()).or_default() += 1;
    }
    let takers = tables.nodes.up_for_queues().filter(|member| !member.draining);
    let mut rows: Vec<RebalanceRow> = takers
        .map(|member| RebalanceRow {
            node: Arc::clone(&member.name),
            classic: led.get(&member.id).copied().unwrap_or_default(),
        })
        .collect();
    rows.sort_by(|a, b| a.node.cmp(&b.node));
    rows
}
