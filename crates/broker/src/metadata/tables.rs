//! The frozen tables: what routing, checks and listings read.
//!
//! A `Tables` value never changes. Its maps share structure with their predecessors, so that the next
//! version costs what the change costs. Everything derived (compiled patterns, effective policies,
//! queue settings, routing indexes) is made when a command is applied, never when a message passes.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use amqp::{Table, Value};
use cluster::metadata_log::NodeId;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};

use super::mirroring::Mirroring;
use super::node::{Cluster, Nodes};
use super::seating::Seating;
use super::view::View;
use crate::exchange::{Kind, Routes};
use crate::id::{ConnectionId, Name, QueueId};
use crate::metadata::Destination;
use crate::permission::{Permission, TopicPermission};
use crate::policy::Policy;
use crate::queue::Settings;
use crate::user::User;

/// All metadata at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Rises with every applied command that changed something.
    pub revision: u64,
    pub vhosts: RedBlackTreeMapSync<Name, Arc<Vhost>>,
    pub users: RedBlackTreeMapSync<Name, Arc<User>>,
    pub global_parameters: RedBlackTreeMapSync<Name, Value>,
    /// Every queue of every virtual host by id.
    pub queues: HashTrieMapSync<QueueId, Arc<Queue>>,
    pub cluster: Cluster,
    pub nodes: Nodes,
    /// Which queues concern which node.
    pub seating: Seating,
}

/// A virtual host and what lives in it.
#[derive(Clone, Debug)]
pub struct Vhost {
    pub name: Name,
    pub description: String,
    pub tags: Vec<Name>,
    /// `None` when never set; RabbitMQ shows `undefined`.
    pub default_queue_type: Option<Name>,
    pub tracing: bool,
    pub limits: VhostLimits,
    pub exchanges: RedBlackTreeMapSync<Name, Arc<Exchange>>,
    pub queues: RedBlackTreeMapSync<Name, Arc<Queue>>,
    /// By user.
    pub permissions: RedBlackTreeMapSync<Name, Arc<Permission>>,
    /// By (user, exchange).
    pub topic_permissions: RedBlackTreeMapSync<(Name, Name), Arc<TopicPermission>>,
    pub policies: RedBlackTreeMapSync<Name, Arc<Policy>>,
    pub operator_policies: RedBlackTreeMapSync<Name, Arc<Policy>>,
    /// By (component, name).
    pub parameters: RedBlackTreeMapSync<(Name, Name), Value>,
    /// Every explicit binding, by source, then destination, then routing key.
    /// [`Vhost::bindings_from`] and [`Vhost::bindings_to`] find those of one end.
    pub bindings: RedBlackTreeSetSync<Arc<Binding>>,
    /// Invariant: holds (destination, source) exactly while there is a binding between the two.
    pub(crate) bound: RedBlackTreeSetSync<(Destination, Name)>,
}

/// Limits of a virtual host; `None` means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VhostLimits {
    pub max_connections: Option<u64>,
    pub max_queues: Option<u64>,
}

/// An exchange with its routing index.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub vhost: Name,
    pub name: Name,
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
    /// Where unrouted messages go next: argument before policy.
    pub alternate: Option<Name>,
    pub policy: Option<Arc<Policy>>,
    pub operator_policy: Option<Arc<Policy>>,
    /// The index of the bindings whose source this is.
    pub routes: Routes,
    /// How many bindings have this exchange as source; auto-delete happens when it falls to zero.
    pub bindings: usize,
}

/// A queue's definition and effective settings; its contents live in its machine.
#[derive(Clone, Debug)]
pub struct Queue {
    pub id: QueueId,
    pub vhost: Name,
    pub name: Name,
    pub durable: bool,
    pub auto_delete: bool,
    /// The owner of an exclusive queue.
    pub exclusive: Option<ConnectionId>,
    pub arguments: Arc<Table>,
    pub policy: Option<Arc<Policy>>,
    pub operator_policy: Option<Arc<Policy>>,
    /// Both policies merged, for listings.
    pub effective_policy: Arc<Table>,
    /// Arguments and policies merged into what the queue machine obeys.
    pub settings: Arc<Settings>,
    /// How the policies want it mirrored, if they do. Exclusive queues never are.
    pub mirroring: Option<Arc<Mirroring>>,
    pub view: View,
}

/// One binding. Its identity is all four fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binding {
    pub source: Name,
    pub destination: Destination,
    pub routing_key: Vec<u8>,
    /// Sorted by name, so that the order in which a client gave them does not count.
    pub arguments: Table,
}

impl Ord for Binding {
    fn cmp(&self, other: &Binding) -> Ordering {
        let by_name = (&self.source, &self.destination, &self.routing_key);
        by_name
            .cmp(&(&other.source, &other.destination, &other.routing_key))
            .then_with(|| compare_tables(&self.arguments, &other.arguments))
    }
}

impl PartialOrd for Binding {
    fn partial_cmp(&self, other: &Binding) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Binding) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Binding {}

/// Tables have no order of their own; the order of their bytes is as good as any.
fn compare_tables(a: &Table, b: &Table) -> Ordering {
    if a.is_empty() && b.is_empty() {
        return Ordering::Equal;
    }
    let bytes = |table: &Table| {
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        bytes
    };
    bytes(a).cmp(&bytes(b))
}

impl Vhost {
    /// A virtual host without anything in it, not even the default exchanges.
    #[must_use]
    pub fn empty(name: Name) -> Vhost {
        Vhost {
            name,
            description: String::new(),
            tags: Vec::new(),
            default_queue_type: None,
            tracing: false,
            limits: VhostLimits::default(),
            exchanges: RedBlackTreeMapSync::default(),
            queues: RedBlackTreeMapSync::default(),
            permissions: RedBlackTreeMapSync::default(),
            topic_permissions: RedBlackTreeMapSync::default(),
            policies: RedBlackTreeMapSync::default(),
            operator_policies: RedBlackTreeMapSync::default(),
            parameters: RedBlackTreeMapSync::default(),
            bindings: RedBlackTreeSetSync::default(),
            bound: RedBlackTreeSetSync::default(),
        }
    }

    /// The explicit bindings with this source.
    pub fn bindings_from(&self, source: &Name) -> impl Iterator<Item = &Arc<Binding>> {
        let first = Binding::first(source, Destination::Queue(Name::default()));
        let source = Name::clone(source);
        self.bindings_since(first)
            .take_while(move |binding| binding.source == source)
    }

    /// The explicit bindings with this destination.
    pub fn bindings_to(&self, destination: &Destination) -> impl Iterator<Item = &Arc<Binding>> {
        let first = (destination.clone(), Name::default());
        let destination = destination.clone();
        let range = (Bound::Included(first), Bound::Unbounded);
        self.bound
            .range(range)
            .take_while({
                let destination = destination.clone();
                move |(bound, _)| *bound == destination
            })
            .flat_map(move |(_, source)| self.bindings_between(source, &destination))
    }

    /// The explicit bindings between a source and a destination.
    pub fn bindings_between(
        &self,
        source: &Name,
        destination: &Destination,
    ) -> impl Iterator<Item = &Arc<Binding>> + use<'_> {
        let (source, destination) = (Name::clone(source), destination.clone());
        self.bindings_since(Binding::first(&source, destination.clone()))
            .take_while(move |b| b.source == source && b.destination == destination)
    }

    fn bindings_since(&self, first: Binding) -> impl Iterator<Item = &Arc<Binding>> + use<'_> {
        let range = (Bound::Included(first), Bound::Unbounded);
        self.bindings.range::<Binding, _>(range)
    }
}

impl Binding {
    /// The least binding between these two.
    fn first(source: &Name, destination: Destination) -> Binding {
        Binding {
            source: Name::clone(source),
            destination,
            routing_key: Vec::new(),
            arguments: Table::new(),
        }
    }
}

impl Tables {
    /// Finds a queue by name.
    #[must_use]
    pub fn queue(&self, vhost: &str, name: &str) -> Option<&Arc<Queue>> {
        self.vhosts.get(vhost)?.queues.get(name)
    }

    /// Finds an exchange by name.
    #[must_use]
    pub fn exchange(&self, vhost: &str, name: &str) -> Option<&Arc<Exchange>> {
        self.vhosts.get(vhost)?.exchanges.get(name)
    }
}

impl Queue {
    /// The same queue with another view. Everything else is shared.
    pub(super) fn with_view(&self, view: View) -> Queue {
        Queue {
            id: self.id,
            vhost: Name::clone(&self.vhost),
            name: Name::clone(&self.name),
            durable: self.durable,
            auto_delete: self.auto_delete,
            exclusive: self.exclusive,
            arguments: Arc::clone(&self.arguments),
            policy: self.policy.clone(),
            operator_policy: self.operator_policy.clone(),
            effective_policy: Arc::clone(&self.effective_policy),
            settings: Arc::clone(&self.settings),
            mirroring: self.mirroring.clone(),
            view,
        }
    }

    /// The node that leads the queue; of a stopped queue the one that led it.
    #[must_use]
    pub fn leader(&self) -> NodeId {
        self.view.leader()
    }
}
