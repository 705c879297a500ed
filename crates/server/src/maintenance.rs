//! Maintenance: a node that gives its work to others and takes none.

use std::sync::Arc;
use std::time::Duration;

use broker::metadata::Command;

use crate::node::{ConnectionMail, Node};

/// How long clients and queue leaders may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Begins or ends maintenance. Returns when clients are gone.
pub(crate) async fn drain(node: &Arc<Node>, on: bool) -> Result<(), String> {
    let command = Command::SetDraining { node: node.id(), on };
    node.propose(command).await.map_err(|error| error.to_string())?;
    if !on {
        tracing::warn!("this node is taken out of maintenance (drain) mode");
        return Ok(());
    }
    tracing::warn!("this node is put into maintenance (drain) mode: it accepts no clients and closes its connections");
    let clients = node.connections.read().len();
    for handle in node.connections.read().values() {
        let reason = "Node was put into maintenance mode".to_owned();
        let _ = handle.mailbox.push(ConnectionMail::Close(reason), 0);
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !node.connections.read().is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!("closed {} local client connections", clients - node.connections.read().len().min(clients));
    crate::mirrors::hand_over_all(node, deadline).await;
    Ok(())
}
