//! The nodes of the cluster: who is a member, and which of its lives is the present one.
//!
//! A node is registered under a number that no other node ever gets. Each start is a life of its own,
//! its incarnation; what was told about a former one is past. That a node went down is one command,
//! and every queue that stood there moves on with it (`failover`).

use std::sync::Arc;

use amqp::Value;
use cluster::metadata_log::NodeId;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Outcome, Refusal};
use super::failover::Leaving;
use super::tables::{Queue, Tables};
use crate::id::Name;

/// Connections and members of rings name a node in 16 bits.
const NUMBER_MAX: u64 = 0xFFFF;

/// The cluster as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn when it is founded; 0 before.
    pub id: u64,
    /// Rises each time the metadata log is founded anew.
    pub generation: u64,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    pub id: NodeId,
    pub name: Name,
    /// Host and port of its node port.
    pub address: String,
    pub kind: NodeKind,
    /// The random id of its data folder; 0 while it has not told.
    pub disk: u64,
    /// The number of its starts; 0 before the first.
    pub incarnation: u64,
    pub state: NodeState,
    /// It gets no new queues.
    pub draining: bool,
}

/// Where a node keeps metadata, and what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    Disc,
    Ram,
    /// On disk, for its vote alone: it holds no queues.
    Witness,
}

impl NodeKind {
    /// The kind of a node that keeps metadata in memory alone, or is there for its vote alone.
    #[must_use]
    pub fn of(ram: bool, witness: bool) -> NodeKind {
        match (ram, witness) {
            (_, true) => NodeKind::Witness,
            (true, false) => NodeKind::Ram,
            (false, false) => NodeKind::Disc,
        }
    }
}

/// Whether a node runs, as the cluster has agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    Up,
    Down {
        /// It said goodbye.
        clean: bool,
    },
}

impl ClusterNode {
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == NodeState::Up
    }

    /// Whether it is a place for queues and mirrors at all.
    #[must_use]
    pub fn holds_queues(&self) -> bool {
        self.kind != NodeKind::Witness
    }
}

/// The registry: by number, and the numbers by name.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    by_id: RedBlackTreeMapSync<NodeId, Arc<ClusterNode>>,
    by_name: RedBlackTreeMapSync<Name, NodeId>,
}

impl Nodes {
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Arc<ClusterNode>> {
        self.by_id.get(&id)
    }

    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<ClusterNode>> {
        self.get(*self.by_name.get(name)?)
    }

    /// All members by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClusterNode>> {
        self.by_id.values()
    }

    /// The members that run, by number.
    pub fn up(&self) -> impl Iterator<Item = &Arc<ClusterNode>> {
        self.iter().filter(|node| node.is_up())
    }

    /// Those of them that may hold queues.
    pub fn up_for_queues(&self) -> impl Iterator<Item = &Arc<ClusterNode>> {
        self.up().filter(|node| node.holds_queues())
    }

    #[must_use]
    pub fn is_up(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.is_up())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.size()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn put(&mut self, node: ClusterNode) {
        self.remove(node.id);
        self.by_name.insert_mut(Name::clone(&node.name), node.id);
        self.by_id.insert_mut(node.id, Arc::new(node));
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(old) = self.by_id.get(&id).map(Arc::clone) {
            self.by_name.remove_mut(&old.name);
            self.by_id.remove_mut(&id);
        }
    }
}

impl Tables {
    /// The cluster's name: as it was set, or else that of its first node. `None` before it has one.
    #[must_use]
    pub fn cluster_name(&self) -> Option<&str> {
        let set = self.global_parameters.get("cluster_name");
        let first = || self.nodes.iter().next().map(|node| &*node.name);
        set.and_then(Value::as_str).or_else(first)
    }

    /// The name of a node; empty if it is no member.
    #[must_use]
    pub fn node_name(&self, id: NodeId) -> &str {
        self.nodes.get(id).map_or("", |node| &node.name)
    }

    /// The name of the node that leads a queue.
    #[must_use]
    pub fn leader_name(&self, queue: &Queue) -> &str {
        self.node_name(queue.leader())
    }

    /// The names of the mirrors of a queue that are in sync.
    #[must_use]
    pub fn mirror_names(&self, queue: &Queue) -> Vec<&str> {
        let mirrors = queue.view.mirrors();
        mirrors.map(|node| self.node_name(node)).collect()
    }

    /// The names of some nodes.
    pub fn node_names<'a>(&'a self, nodes: &'a [NodeId]) -> impl Iterator<Item = &'a str> {
        nodes.iter().map(|node| self.node_name(*node))
    }
}

/// A generation of the log gives out so many ids of queues (2 to the power of this).
const QUEUES_SHIFT: u32 = 32;
/// And so many epochs of each view.
const EPOCHS_SHIFT: u32 = 16;

/// No epoch of an earlier generation is as high as this.
#[must_use]
pub fn first_epoch(generation: u64) -> u64 {
    generation << EPOCHS_SHIFT
}

impl Metadata {
    pub(super) fn found_cluster(
        &mut self,
        id: u64,
        generation: u64,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let (old, new) = (self.tables.cluster, Cluster { id, generation });
        if old == new {
            return Ok(Outcome::Done);
        }
        if id == 0 || old.id != 0 && (old.id != id || generation < old.generation) {
            return Err(Refusal::InconsistentCluster(format!(
                "this is cluster {:016x} in generation {}, not {id:016x} in {generation}",
                old.id, old.generation
            )));
        }
        self.tables_mut().cluster = new;
        changes.push(Change::NodesChanged);
        if old.id != 0 && generation > old.generation {
            self.begin_generation(generation, changes);
        }
        Ok(Outcome::Done)
    }

    /// Another generation of this log may go on elsewhere: from here on nothing is numbered as there.
    /// Ids of queues and epochs of views, and with the epochs all sequences, say of which generation they
    /// are.
    fn begin_generation(&mut self, generation: u64, changes: &mut Vec<Change>) {
        self.next_queue = self.next_queue.max(generation << QUEUES_SHIFT);
        let mut queues: Vec<Arc<Queue>> = self.tables.queues.values().map(Arc::clone).collect();
        // In the same order everywhere, whatever the history of the tables.
        queues.sort_unstable_by_key(|queue| queue.id);
        for queue in queues {
            let mut view = queue.view.clone();
            view.epoch = (view.epoch + 1).max(first_epoch(generation));
            view.led_since = view.epoch;
            self.set_view(&queue, view, changes);
        }
    }

    pub(super) fn register_node(
        &mut self,
        name: &Name,
        address: &str,
        (kind, disk): (NodeKind, u64),
        changes: &mut Vec<Change>,
    ) -> Answer {
        if name.is_empty() {
            return Err(Refusal::Invalid("the name of a node is empty".into()));
        }
        if let Some(known) = self.tables.nodes.named(name) {
            let id = known.id;
            if known.disk != disk && known.disk != 0 {
                return Err(Refusal::InconsistentCluster(format!(
                    "node '{name}' is a member with other data: forget it first, or reset it"
                )));
            }
            if known.disk != disk {
                let mut node = ClusterNode::clone(known);
                node.disk = disk;
                self.put_node(node, changes);
            }
            return Ok(Outcome::Registered { id });
        }
        if let Some(known) = self.with_disk(disk) {
            return self.rename_node(&known, name, changes);
        }
        if kind != NodeKind::Disc && !self.has_disc_beside(NodeId(0)) {
            return Err(Refusal::OnlyDiscNode(Name::clone(name)));
        }
        self.add_node(name, address, (kind, disk), changes)
    }

    fn add_node(
        &mut self,
        name: &Name,
        address: &str,
        (kind, disk): (NodeKind, u64),
        changes: &mut Vec<Change>,
    ) -> Answer {
        let id = NodeId(self.next_node);
        if id.0 > NUMBER_MAX {
            let text = format!("more than {NUMBER_MAX} nodes have been members of this cluster");
            return Err(Refusal::LimitReached(text));
        }
        self.next_node += 1;
        let node = ClusterNode {
            id,
            name: Name::clone(name),
            address: address.to_owned(),
            kind,
            disk,
            incarnation: 0,
            state: NodeState::Down { clean: true },
            draining: false,
        };
        self.put_node(node, changes);
        Ok(Outcome::Registered { id })
    }

    fn with_disk(&self, disk: u64) -> Option<Arc<ClusterNode>> {
        let mut known = self.tables.nodes.iter();
        known
            .find(|node| disk != 0 && node.disk == disk)
            .map(Arc::clone)
    }

    /// The same data under another name: the node was renamed, which it can be while it is down or alone.
    fn rename_node(
        &mut self,
        known: &ClusterNode,
        name: &Name,
        changes: &mut Vec<Change>,
    ) -> Answer {
        if known.is_up() && self.tables.nodes.len() > 1 {
            return Err(Refusal::InconsistentCluster(format!(
                "node '{name}' has the data of '{}', which is up",
                known.name
            )));
        }
        let node = ClusterNode {
            name: Name::clone(name),
            ..known.clone()
        };
        self.put_node(node, changes);
        Ok(Outcome::Registered { id: known.id })
    }

    /// Whether a node with a disk that holds queues is there beside this one.
    fn has_disc_beside(&self, id: NodeId) -> bool {
        let mut nodes = self.tables.nodes.iter();
        nodes.any(|node| node.id != id && node.kind == NodeKind::Disc)
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Arc<ClusterNode>, Refusal> {
        self.tables.nodes.get(id).ok_or(Refusal::NoSuchNode(id))
    }

    pub(super) fn put_node(&mut self, node: ClusterNode, changes: &mut Vec<Change>) {
        self.tables_mut().nodes.put(node);
        changes.push(Change::NodesChanged);
    }

    pub(super) fn node_up(
        &mut self,
        id: NodeId,
        incarnation: u64,
        address: &str,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let mut node = ClusterNode::clone(self.node(id)?);
        let is_same_life = node.is_up() && node.incarnation == incarnation;
        if !is_same_life {
            if incarnation <= node.incarnation {
                let incarnation = node.incarnation;
                return Err(Refusal::StaleIncarnation { incarnation });
            }
            if node.is_up() {
                node.state = NodeState::Down { clean: false };
                self.put_node(node.clone(), changes);
                self.queues_leave(id, Leaving::Returning, changes);
            }
            // A transient exchange belongs to no node: it goes when the whole cluster starts afresh.
            if self.tables.nodes.up().next().is_none() {
                self.remove_transient_exchanges(changes);
            }
        } else if node.address == address {
            return Ok(Outcome::Done);
        }
        address.clone_into(&mut node.address);
        node.incarnation = incarnation;
        node.state = NodeState::Up;
        self.put_node(node, changes);
        if !is_same_life {
            self.queues_return(id, changes);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn node_down(
        &mut self,
        id: NodeId,
        incarnation: u64,
        clean: bool,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let mut node = ClusterNode::clone(self.node(id)?);
        if !node.is_up() || node.incarnation != incarnation {
            return Ok(Outcome::Done);
        }
        node.state = NodeState::Down { clean };
        self.put_node(node, changes);
        let how = if clean {
            Leaving::Stopped
        } else {
            Leaving::Crashed
        };
        self.queues_leave(id, how, changes);
        Ok(Outcome::Done)
    }

    /// A node of the time before clusters, which had no registry and no incarnations.
    pub(super) fn node_started(&mut self, name: &Name, changes: &mut Vec<Change>) -> Answer {
        if self.tables.nodes.named(name).is_none() {
            self.add_node(name, "", (NodeKind::Disc, 0), changes)?;
        }
        let node = self.tables.nodes.named(name).map(Arc::clone);
        let node = node.expect("it is registered");
        self.node_up(node.id, node.incarnation + 1, &node.address, changes)
    }

    pub(super) fn set_draining(
        &mut self,
        id: NodeId,
        on: bool,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let node = self.node(id)?;
        if node.draining != on {
            let mut node = ClusterNode::clone(node);
            node.draining = on;
            self.put_node(node, changes);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn set_node_kind(
        &mut self,
        id: NodeId,
        kind: NodeKind,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let node = self.node(id)?;
        if node.kind == kind {
            return Ok(Outcome::Done);
        }
        if kind != NodeKind::Disc && !self.has_disc_beside(id) {
            return Err(Refusal::OnlyDiscNode(Name::clone(&node.name)));
        }
        if kind == NodeKind::Witness && self.tables.seating.queues(id).next().is_some() {
            let text = format!("node '{}' has queues, and a witness holds none", node.name);
            return Err(Refusal::Invalid(text));
        }
        let mut node = ClusterNode::clone(node);
        node.kind = kind;
        self.put_node(node, changes);
        Ok(Outcome::Done)
    }

    pub(super) fn forget_node(
        &mut self,
        id: NodeId,
        force: bool,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let node = self.node(id)?;
        let name = Name::clone(&node.name);
        if node.is_up() {
            return Err(Refusal::NodeIsUp(name));
        }
        if !self.has_disc_beside(id) {
            return Err(Refusal::OnlyDiscNode(name));
        }
        if !force {
            self.refuse_last_copies(id)?;
        }
        self.tables_mut().nodes.remove(id);
        self.queues_are_lost(id, changes);
        changes.push(Change::NodesChanged);
        Ok(Outcome::Done)
    }
}
