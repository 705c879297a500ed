//! Version 1, from the time before clusters: nodes are names only, and a view is a list of names.
//!
//! Nodes get their numbers by name. There was never more than one that held queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amqp::Value;
use cluster::metadata_log::NodeId;
use serde::Deserialize;

use super::{QueueRecord, StateRecord, VhostRecord};
use crate::id::Name;
use crate::metadata::codec::{self, Unreadable};
use crate::metadata::node::{Cluster, ClusterNode, NodeKind, NodeState};
use crate::metadata::view::{Seat, View};
use crate::user::User;

const VERSION: u8 = 1;

#[derive(Deserialize)]
struct State {
    applied: u64,
    revision: u64,
    next_queue: u64,
    nodes: BTreeSet<Name>,
    users: Vec<Arc<User>>,
    global_parameters: Vec<(Name, Value)>,
    vhosts: Vec<VhostRecord<Names>>,
}

/// A view: the epoch and the nodes in sync, leader first.
#[derive(Deserialize)]
struct Names {
    epoch: u64,
    in_sync: Vec<Name>,
}

/// Reads a state of version 1 as one of the present version.
pub(super) fn read(bytes: &[u8]) -> Result<StateRecord, Unreadable> {
    let state: State = codec::decode(VERSION, bytes)?;
    let numbers: BTreeMap<&Name, NodeId> = state.nodes.iter().zip((1..).map(NodeId)).collect();
    let nodes = numbers.iter().map(|(name, id)| Arc::new(node(name, *id)));
    Ok(StateRecord {
        applied: state.applied,
        revision: state.revision,
        next_queue: state.next_queue,
        next_node: numbers.len() as u64 + 1,
        turns: 0,
        cluster: Cluster::default(),
        nodes: nodes.collect(),
        users: state.users,
        global_parameters: state.global_parameters,
        vhosts: state
            .vhosts
            .into_iter()
            .map(|vhost| with_views(vhost, &numbers))
            .collect(),
    })
}

/// It ran when it wrote its snapshot, and has not said since that it went.
fn node(name: &Name, id: NodeId) -> ClusterNode {
    ClusterNode {
        id,
        name: Name::clone(name),
        address: String::new(),
        kind: NodeKind::Disc,
        disk: 0,
        incarnation: 1,
        state: NodeState::Up,
        draining: false,
    }
}

fn view(names: &Names, numbers: &BTreeMap<&Name, NodeId>) -> View {
    let number = |name| numbers.get(name).copied().unwrap_or(NodeId(1));
    let seat = |name| Seat {
        node: number(name),
        since: names.epoch,
    };
    let mut view = View::new([], false);
    view.epoch = names.epoch;
    view.seats = names.in_sync.iter().map(seat).collect();
    view
}

fn with_views(vhost: VhostRecord<Names>, numbers: &BTreeMap<&Name, NodeId>) -> VhostRecord<View> {
    let queue = |record: QueueRecord<Names>| QueueRecord {
        id: record.id,
        name: record.name,
        durable: record.durable,
        auto_delete: record.auto_delete,
        exclusive: record.exclusive,
        arguments: record.arguments,
        view: view(&record.view, numbers),
    };
    VhostRecord {
        name: vhost.name,
        description: vhost.description,
        tags: vhost.tags,
        default_queue_type: vhost.default_queue_type,
        tracing: vhost.tracing,
        limits: vhost.limits,
        permissions: vhost.permissions,
        topic_permissions: vhost.topic_permissions,
        policies: vhost.policies,
        operator_policies: vhost.operator_policies,
        parameters: vhost.parameters,
        exchanges: vhost.exchanges,
        queues: vhost.queues.into_iter().map(queue).collect(),
        bindings: vhost.bindings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Command, Metadata};

    /// Node `warren@a` with virtual host `v` and its queues, durable `q` and transient `t`, in the bytes
    /// of version 1.
    const WRITTEN: &[u8] = b"\x01\x05\x04\x03\x01\x08warren@a\x00\x00\x01\x01v\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x02\x01\x01q\x01\x00\x00\x00\x01\x01\x08warren@a\
        \x02\x01t\x00\x00\x00\x00\x01\x01\x08warren@a\x00";

    #[test]
    fn a_state_of_version_1_is_still_read() {
        let mut metadata = Metadata::restore(WRITTEN).unwrap();
        let tables = metadata.tables();
        assert_eq!(metadata.applied(), 5);
        assert_eq!(tables.node_name(NodeId(1)), "warren@a");
        let queue = tables.queue("v", "q").unwrap();
        assert_eq!(queue.view, View::new([NodeId(1)], false));
        assert_eq!(tables.seating.leaders(NodeId(1)), 2);
        // It is written in the present version, and lives on.
        let again = Metadata::restore(&metadata.snapshot()).unwrap();
        assert_eq!(again.snapshot(), metadata.snapshot());
        let node = NodeId(1);
        let address = "a:25672".to_owned();
        let up = Command::NodeUp {
            node,
            incarnation: 2,
            address,
        };
        metadata.apply(6, &up).0.unwrap();
        let tables = metadata.tables();
        assert!(tables.queue("v", "q").unwrap().view.is_running());
        assert!(tables.queue("v", "t").is_none());
    }
}
