//! Bringing in the witness: the node that leads the metadata log asks the process that `metadata_witness`
//! names to join, until the cluster has a witness.
//!
//! It has no use before there are two nodes with queues, and is not asked before: a node that is to join
//! others leaves nobody behind.

use std::sync::Arc;
use std::time::Duration;

use broker::metadata::{NodeKind, Tables};
use management::host::HostFailure;
use serde_json::json;

use super::ProcessHost;
use crate::node::Node;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// How long the witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs until the node stops.
pub(crate) async fn invite(host: Arc<ProcessHost>, node: Arc<Node>) {
    let Some(witness) = host.config.cluster.metadata_witness.clone().filter(|_| !host.config.is_witness()) else {
        return;
    };
    let own = host.config.node_name.to_string();
    let mut told = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            () = node.stopped() => return,
        }
        let leads = node.consensus().is_some_and(|log| log.is_leader());
        if !leads || !lacks_witness(&node.tables.load()) {
            continue;
        }
        let asked = host.asking(&own, PATIENCE).post_to(&witness, "/api/peer/witness", &json!({"join": own})).await;
        let why = asked.err().as_ref().map(HostFailure::to_string).unwrap_or_default();
        if !why.is_empty() && why != told {
            tracing::warn!("the witness at {}:{} is not a member yet: {why}", witness.host, witness.port);
        }
        told = why;
    }
}

fn lacks_witness(tables: &Tables) -> bool {
    let count = |kind| tables.nodes.iter().filter(|member| member.kind == kind).count();
    count(NodeKind::Disc) >= 2 && count(NodeKind::Witness) == 0
}
