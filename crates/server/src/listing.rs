//! What nodes tell each other for listings: every node answers for itself, and whoever is asked by an
//! operator gathers the answers. A node that does not answer in time is left out.
//!
//! A question and an answer are a version and then what `postcard` makes of the types. Who does not know
//! the version, or cannot read the rest, answers with nothing.

mod own;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::connection::OpenCounts;
use broker::metadata::{NodeKind as Kind, Tables};
use broker::{ConnectionId, Name, QueueId};
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use management::host::NodeKind;
use management::node::{Churn, ConnectionReport, NodeStatus, QueueReport, Totals};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::node::Node;
use crate::peers::Peer;
use crate::traffic;
use crate::wire::Service;

pub(crate) use own::{queue_report, status as own_status};

/// Of questions and answers.
const VERSION: u8 = 1;
/// How long others may take to tell what they know.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client that wants in waits for the counts of others.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// Answered with the [`QueueReport`]s of the queues that are led there.
    Queues,
    /// Answered with an optional [`QueueReport`].
    Queue(QueueId),
    /// Answered with [`ConnectionReport`]s.
    Connections,
    /// Answered with whether it was there.
    Close { connection: ConnectionId, reason: String },
    /// Answered with a [`NodeStatus`].
    Status,
    /// Answered with [`Totals`] of this node.
    Totals,
    /// Answered with [`Opened`].
    Opened { user: Name, vhost: Name },
}

/// What clients have opened on a node, for limits.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Opened {
    of_user: u64,
    of_vhost: u64,
    user_channels: u64,
}

fn write(value: &impl Serialize) -> Bytes {
    match postcard::to_extend(value, vec![VERSION]) {
        Ok(bytes) => bytes.into(),
        Err(error) => {
            tracing::error!("an answer for a listing cannot be written: {error}");
            Bytes::new()
        }
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Answers a peer's question.
pub(crate) async fn answer(node: &Arc<Node>, question: &[u8]) -> Bytes {
    match read(question) {
        None => Bytes::new(),
        Some(Question::Queues) => write(&own::queues(node).await),
        Some(Question::Queue(queue)) => write(&own::queue(node, queue).await),
        Some(Question::Connections) => write(&own::connections(node).await),
        Some(Question::Close { connection, reason }) => write(&own::close(node, connection, &reason)),
        Some(Question::Status) => write(&own::status(node)),
        Some(Question::Totals) => write(&own::totals(node).await),
        Some(Question::Opened { user, vhost }) => {
            let counts = node.open_counts(&user, Some(&vhost));
            let OpenCounts { of_user, of_vhost, user_channels, .. } = counts;
            write(&Opened { of_user, of_vhost, user_channels })
        }
    }
}

async fn ask<T: DeserializeOwned>(node: &Node, peer: &Arc<Peer>, question: &[u8], patience: Duration) -> Option<T> {
    let answer = tokio::time::timeout(patience, node.peers.call(peer, Service::Listing, question)).await;
    read(&answer.ok()?.ok()?)
}

/// Asks all other nodes at once.
async fn ask_all<T>(node: &Arc<Node>, question: &Question, patience: Duration) -> Vec<(NodeId, T)>
where
    T: DeserializeOwned + Send + 'static,
{
    let question = write(question);
    let mut asked = JoinSet::new();
    for peer in node.peers.all() {
        let (node, question) = (Arc::clone(node), question.clone());
        asked.spawn(async move { Some((peer.id, ask(&node, &peer, &question, patience).await?)) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        answers.extend(answer.ok().flatten());
    }
    answers
}

/// The contents of all queues that somebody leads and that answer.
pub(crate) async fn queues(node: &Arc<Node>) -> Vec<QueueReport> {
    let others = ask_all::<Vec<QueueReport>>(node, &Question::Queues, PATIENCE);
    let (own, others) = tokio::join!(own::queues(node), others);
    let tables = node.tables.load_full();
    let mut found: BTreeMap<QueueId, (NodeId, QueueReport)> = BTreeMap::new();
    for (from, reports) in std::iter::once((node.id(), own)).chain(others) {
        for report in reports {
            let Some(id) = report.queue else { continue };
            let Some(record) = tables.queues.get(&id) else { continue };
            // While a queue moves two nodes may tell of it: the tables decide.
            if record.leader() == from || !found.contains_key(&id) {
                found.insert(id, (from, report));
            }
        }
    }
    found.into_values().map(|(_, report)| report).collect()
}

/// The contents of one queue, if somebody leads it.
pub(crate) async fn queue(node: &Arc<Node>, queue: QueueId) -> Option<QueueReport> {
    if node.leading(queue).is_some() {
        return own::queue(node, queue).await;
    }
    let leader = node.tables.load().queues.get(&queue)?.leader();
    let peer = node.peers.get(leader)?;
    ask::<Option<QueueReport>>(node, &peer, &write(&Question::Queue(queue)), PATIENCE).await?
}

/// All client connections.
pub(crate) async fn connections(node: &Arc<Node>) -> Vec<ConnectionReport> {
    let others = ask_all::<Vec<ConnectionReport>>(node, &Question::Connections, PATIENCE);
    let (mut all, others) = tokio::join!(own::connections(node), others);
    all.extend(others.into_iter().flat_map(|(_, reports)| reports));
    all
}

/// Closes a connection, wherever it is. False when it is gone.
pub(crate) async fn close(node: &Arc<Node>, connection: ConnectionId, reason: &str) -> bool {
    if connection.node() == node.id() {
        return own::close(node, connection, reason);
    }
    let Some(peer) = node.peers.get(connection.node()) else { return false };
    let question = write(&Question::Close { connection, reason: reason.to_owned() });
    ask(node, &peer, &question, PATIENCE).await.unwrap_or(false)
}

/// All members by name. Who is down, does not answer, or does not serve clients yet is shown as not running.
pub(crate) async fn nodes(node: &Arc<Node>) -> Vec<NodeStatus> {
    let others = ask_all::<NodeStatus>(node, &Question::Status, PATIENCE).await;
    let mut answers: BTreeMap<NodeId, NodeStatus> = others.into_iter().collect();
    answers.insert(node.id(), own::status(node));
    let tables = node.tables.load_full();
    let mut nodes: Vec<NodeStatus> = tables
        .nodes
        .iter()
        .map(|member| {
            let answer = answers.remove(&member.id).filter(|answer| member.is_up() && answer.in_service);
            NodeStatus {
                name: Arc::clone(&member.name),
                kind: kind(member.kind),
                running: answer.is_some(),
                being_drained: member.draining,
                ..answer.unwrap_or_default()
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// As the API calls it.
pub(crate) fn kind(kind: Kind) -> NodeKind {
    match kind {
        Kind::Disc => NodeKind::Disc,
        Kind::Ram => NodeKind::Ram,
        Kind::Witness => NodeKind::Witness,
    }
}

/// Counters of all nodes together.
pub(crate) async fn totals(node: &Arc<Node>) -> Totals {
    let others = ask_all::<Totals>(node, &Question::Totals, PATIENCE);
    let (mut all, others) = tokio::join!(own::totals(node), others);
    for (_, totals) in others {
        add(&mut all.churn, &totals.churn);
        traffic::merge(&mut all, totals);
    }
    all
}

fn add(all: &mut Churn, more: &Churn) {
    all.connections_created += more.connections_created;
    all.connections_closed += more.connections_closed;
    all.channels_created += more.channels_created;
    all.channels_closed += more.channels_closed;
    all.queues_declared += more.queues_declared;
    all.queues_created += more.queues_created;
    all.queues_deleted += more.queues_deleted;
}

/// Whether what a user opens in a virtual host is limited over all nodes together.
pub(crate) fn is_limited(tables: &Tables, user: &str, vhost: &str) -> bool {
    let limits = tables.users.get(user).map(|user| &user.limits);
    tables.nodes.len() > 1
        && (limits.is_some_and(|limits| limits.max_connections.is_some() || limits.max_channels.is_some())
            || tables.vhosts.get(vhost).is_some_and(|vhost| vhost.limits.max_connections.is_some()))
}

/// Counts for limits, of all nodes together but for `of_node`.
pub(crate) async fn open_counts(node: Arc<Node>, user: Name, vhost: Name) -> OpenCounts {
    let mut counts = node.open_counts(&user, Some(&vhost));
    for (_, opened) in ask_all::<Opened>(&node, &Question::Opened { user, vhost }, COUNT_PATIENCE).await {
        counts.of_user += opened.of_user;
        counts.of_vhost += opened.of_vhost;
        counts.user_channels += opened.user_channels;
    }
    counts
}

#[cfg(test)]
mod tests {
    use broker::status::QueueStatus;
    use management::node::Listener;

    use super::*;

    #[test]
    fn answers_arrive_as_they_were() {
        let listener =
            Listener { protocol: "amqp/ssl", interface: "::".to_owned(), port: 5671, backlog: 128 };
        let status = NodeStatus {
            name: "warren@here".into(),
            memory_watermark: Some(0.4),
            listeners: vec![listener],
            ..NodeStatus::default()
        };
        let found: NodeStatus = read(&write(&status)).unwrap();
        assert_eq!(format!("{found:?}"), format!("{status:?}"));
        let status = QueueStatus { id: Some(QueueId(7)), consumer_capacity: 0.5, ..QueueStatus::default() };
        let report = QueueReport { queue: Some(QueueId(7)), state: "syncing", status, ..QueueReport::default() };
        let found: Vec<QueueReport> = read(&write(&vec![report.clone()])).unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", vec![report]));
    }

    #[test]
    fn what_is_of_another_version_is_no_answer() {
        let mut bytes = write(&true).to_vec();
        assert_eq!(read::<bool>(&bytes), Some(true));
        bytes[0] = VERSION + 1;
        assert_eq!(read::<bool>(&bytes), None);
        assert_eq!(read::<bool>(&[]), None);
    }
}
