//! A client that is told of a change finds it on every node: who declares a queue here may publish to it
//! there at once, as with RabbitMQ, whose metadata are written on all running nodes in one step.
//!
//! A change is in force when a majority has it. The node that was asked then waits until the others that it
//! can speak to have caught up; one that takes long is not waited for.

use std::sync::Arc;
use std::time::Duration;

use broker::metadata::{Command, Outcome};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::node::{Node, ProposeFailure};
use crate::wire::Service;

/// How long others may take to see a change before the client is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// A question is forgotten after this time: nobody waits for its answer any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Proposes a change of metadata, and waits until every node that answers has seen it.
pub(crate) async fn propose(node: &Arc<Node>, command: Command) -> Result<Outcome, ProposeFailure> {
    let before = node.tables.load().revision;
    let outcome = node.propose(command).await?;
    let revision = node.tables.load().revision;
    if revision != before {
        wait_for_others(node, revision).await;
    }
    Ok(outcome)
}

async fn wait_for_others(node: &Arc<Node>, revision: u64) {
    let tables = node.tables.load_full();
    let mut asked = JoinSet::new();
    for peer in node.peers.all() {
        if peer.life().is_none() || !tables.nodes.is_up(peer.id) || !node.reach.is_reachable(peer.id) {
            continue;
        }
        let node = Arc::clone(node);
        asked.spawn(async move {
            let question = revision.to_le_bytes();
            let answer = tokio::time::timeout(PATIENCE, node.peers.call(&peer, Service::Seen, &question)).await;
            if answer.is_err() {
                tracing::debug!("node {} takes long to see revision {revision}", peer.name);
            }
        });
    }
    while asked.join_next().await.is_some() {}
}

/// Answers a peer when this node has seen the revision it asks about.
pub(crate) async fn answer(node: &Arc<Node>, question: &[u8]) -> Bytes {
    if let Ok(revision) = question.try_into().map(u64::from_le_bytes) {
        let mut changes = node.changes.subscribe();
        let seen = async {
            while node.tables.load().revision < revision && changes.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(FORGOTTEN, seen).await;
    }
    Bytes::new()
}
