//! The whole state as bytes, and back.
//!
//! Only what commands brought is written; everything derived (compiled patterns, effective policies,
//! settings, routing indexes) is made anew when the bytes are read. Everything stands in the order of
//! its names, so that equal states give equal bytes. The first byte is the version.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqp::{Table, Value};
use serde::{Deserialize, Serialize};

use super::apply::Metadata;
use super::codec::{self, Unreadable};
use super::command::PolicySpec;
use super::exchange::{ExchangeParts, exchange, kind};
use super::node::{Cluster, ClusterNode};
use super::queue::{QueueParts, queue};
use super::tables::{Binding, Exchange, Queue, Tables, Vhost, VhostLimits};
use super::view::View;
use crate::id::{ConnectionId, Name, QueueId};
use crate::permission::{Pattern, Permission, TopicPermission};
use crate::policy::{self, Object, Policy};
use crate::user::User;

mod v1;

const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
struct StateRecord {
    applied: u64,
    revision: u64,
    next_queue: u64,
    next_node: u64,
    turns: u64,
    cluster: Cluster,
    nodes: Vec<Arc<ClusterNode>>,
    users: Vec<Arc<User>>,
    global_parameters: Vec<(Name, Value)>,
    vhosts: Vec<VhostRecord<View>>,
}

/// A virtual host; its queues have views of sort `V`, which is what differs between versions.
#[derive(Serialize, Deserialize)]
struct VhostRecord<V> {
    name: Name,
    description: String,
    tags: Vec<Name>,
    default_queue_type: Option<Name>,
    tracing: bool,
    limits: VhostLimits,
    /// User, then configure, write and read.
    permissions: Vec<(Name, [String; 3])>,
    /// User, exchange, then write and read.
    topic_permissions: Vec<(Name, Name, [String; 2])>,
    policies: Vec<PolicySpec>,
    operator_policies: Vec<PolicySpec>,
    /// Component, name, value.
    parameters: Vec<(Name, Name, Value)>,
    exchanges: Vec<ExchangeRecord>,
    queues: Vec<QueueRecord<V>>,
    bindings: Vec<Arc<Binding>>,
}

#[derive(Serialize, Deserialize)]
struct ExchangeRecord {
    name: Name,
    kind: Name,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Table,
}

#[derive(Serialize, Deserialize)]
struct QueueRecord<V> {
    id: QueueId,
    name: Name,
    durable: bool,
    auto_delete: bool,
    exclusive: Option<ConnectionId>,
    arguments: Table,
    view: V,
}

impl Metadata {
    /// The state as bytes. Equal states give equal bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let tables = &self.tables;
        let parameters = tables.global_parameters.iter();
        let record = StateRecord {
            applied: self.applied,
            revision: tables.revision,
            next_queue: self.next_queue,
            next_node: self.next_node,
            turns: self.turns,
            cluster: tables.cluster,
            nodes: tables.nodes.iter().map(Arc::clone).collect(),
            users: tables.users.values().map(Arc::clone).collect(),
            global_parameters: parameters
                .map(|(n, v)| (Name::clone(n), v.clone()))
                .collect(),
            vhosts: tables
                .vhosts
                .values()
                .map(|vhost| VhostRecord::of(vhost))
                .collect(),
        };
        codec::encode(VERSION, &record)
    }

    /// Reads the state back.
    ///
    /// # Errors
    /// When the bytes are no snapshot of a known version, or contradict themselves.
    pub fn restore(bytes: &[u8]) -> Result<Metadata, Unreadable> {
        let record: StateRecord = match bytes.first() {
            Some(1) => v1::read(bytes)?,
            _ => codec::decode(VERSION, bytes)?,
        };
        let mut tables = Tables {
            revision: record.revision,
            cluster: record.cluster,
            ..Tables::default()
        };
        for node in record.nodes {
            if node.id.0 >= record.next_node {
                return Err(contradiction("a node's number lies ahead of the next one"));
            }
            tables.nodes.put(ClusterNode::clone(&node));
        }
        for user in record.users {
            tables.users.insert_mut(Name::clone(&user.name), user);
        }
        for (name, value) in record.global_parameters {
            tables.global_parameters.insert_mut(name, value);
        }
        let mut exclusive = BTreeSet::new();
        for vhost in record.vhosts {
            let vhost = vhost.restore()?;
            for queue in vhost.queues.values() {
                if queue.id.0 >= record.next_queue {
                    return Err(contradiction("a queue's id lies ahead of the next one"));
                }
                exclusive.extend(queue.exclusive.map(|owner| (owner, queue.id)));
                tables.seating.add(queue.id, &queue.view);
                tables.queues.insert_mut(queue.id, Arc::clone(queue));
            }
            tables
                .vhosts
                .insert_mut(Name::clone(&vhost.name), Arc::new(vhost));
        }
        Ok(Metadata {
            tables: Arc::new(tables),
            applied: record.applied,
            next_queue: record.next_queue,
            next_node: record.next_node,
            turns: record.turns,
            exclusive,
            changed: false,
        })
    }
}

fn contradiction(what: &str) -> Unreadable {
    Unreadable::Malformed(what.to_owned())
}

impl VhostRecord<View> {
    fn of(vhost: &Vhost) -> VhostRecord<View> {
        let source = |pattern: &Pattern| pattern.source.clone();
        let specs = |policies: &rpds::RedBlackTreeMapSync<Name, Arc<Policy>>| {
            policies
                .values()
                .map(|policy| policy.spec.clone())
                .collect()
        };
        let permission = |p: &Arc<Permission>| {
            (
                Name::clone(&p.user),
                [source(&p.configure), source(&p.write), source(&p.read)],
            )
        };
        let topic = |p: &Arc<TopicPermission>| {
            let names = (Name::clone(&p.user), Name::clone(&p.exchange));
            (names.0, names.1, [p.write.clone(), p.read.clone()])
        };
        VhostRecord {
            name: Name::clone(&vhost.name),
            description: vhost.description.clone(),
            tags: vhost.tags.clone(),
            default_queue_type: vhost.default_queue_type.clone(),
            tracing: vhost.tracing,
            limits: vhost.limits.clone(),
            permissions: vhost.permissions.values().map(permission).collect(),
            topic_permissions: vhost.topic_permissions.values().map(topic).collect(),
            policies: specs(&vhost.policies),
            operator_policies: specs(&vhost.operator_policies),
            parameters: vhost
                .parameters
                .iter()
                .map(|((c, n), value)| (Name::clone(c), Name::clone(n), value.clone()))
                .collect(),
            exchanges: vhost
                .exchanges
                .values()
                .map(|x| ExchangeRecord::of(x))
                .collect(),
            queues: vhost
                .queues
                .values()
                .map(|queue| QueueRecord::of(queue))
                .collect(),
            bindings: vhost.bindings.iter().map(Arc::clone).collect(),
        }
    }

    fn restore(self) -> Result<Vhost, Unreadable> {
        let mut vhost = Vhost::empty(self.name);
        vhost.description = self.description;
        vhost.tags = self.tags;
        vhost.default_queue_type = self.default_queue_type;
        vhost.tracing = self.tracing;
        vhost.limits = self.limits;
        let bad = |error: crate::permission::BadPattern| contradiction(&error.0);
        for (user, [configure, write, read]) in self.permissions {
            let permission = Permission {
                user: Name::clone(&user),
                vhost: Name::clone(&vhost.name),
                configure: Pattern::compile(&configure).map_err(bad)?,
                write: Pattern::compile(&write).map_err(bad)?,
                read: Pattern::compile(&read).map_err(bad)?,
            };
            vhost.permissions.insert_mut(user, Arc::new(permission));
        }
        for (user, exchange, [write, read]) in self.topic_permissions {
            let key = (Name::clone(&user), Name::clone(&exchange));
            let name = Name::clone(&vhost.name);
            let permission = TopicPermission::compile(user, name, exchange, write, read);
            vhost
                .topic_permissions
                .insert_mut(key, Arc::new(permission.map_err(bad)?));
        }
        let all = [
            (&mut vhost.policies, self.policies),
            (&mut vhost.operator_policies, self.operator_policies),
        ];
        for (policies, specs) in all {
            for spec in specs {
                let pattern = Pattern::compile(&spec.pattern).map_err(bad)?;
                policies.insert_mut(Name::clone(&spec.name), Arc::new(Policy { spec, pattern }));
            }
        }
        for (component, name, value) in self.parameters {
            vhost.parameters.insert_mut((component, name), value);
        }
        restore_exchanges(&mut vhost, self.exchanges)?;
        restore_queues(&mut vhost, self.queues);
        restore_bindings(&mut vhost, self.bindings)?;
        Ok(vhost)
    }
}

fn restore_exchanges(vhost: &mut Vhost, records: Vec<ExchangeRecord>) -> Result<(), Unreadable> {
    for record in records {
        let kind = kind(&record.kind, &record.arguments)
            .ok_or_else(|| contradiction("an exchange of an unknown type"))?;
        let policy = policy::in_force(&vhost.policies, Object::Exchange, &record.name);
        let operator = policy::in_force(&vhost.operator_policies, Object::Exchange, &record.name);
        let parts = ExchangeParts {
            vhost: Name::clone(&vhost.name),
            name: Name::clone(&record.name),
            kind,
            durable: record.durable,
            auto_delete: record.auto_delete,
            internal: record.internal,
            arguments: record.arguments,
        };
        vhost
            .exchanges
            .insert_mut(record.name, Arc::new(exchange(parts, policy, operator)));
    }
    Ok(())
}

fn restore_queues(vhost: &mut Vhost, records: Vec<QueueRecord<View>>) {
    for record in records {
        let policy = policy::in_force(&vhost.policies, Object::ClassicQueue, &record.name);
        let operators = &vhost.operator_policies;
        let operator = policy::in_force(operators, Object::ClassicQueue, &record.name);
        let parts = QueueParts {
            id: record.id,
            vhost: Name::clone(&vhost.name),
            name: Name::clone(&record.name),
            durable: record.durable,
            auto_delete: record.auto_delete,
            exclusive: record.exclusive,
            arguments: record.arguments,
            view: record.view,
        };
        vhost
            .queues
            .insert_mut(record.name, Arc::new(queue(parts, policy, operator)));
    }
}

fn restore_bindings(vhost: &mut Vhost, bindings: Vec<Arc<Binding>>) -> Result<(), Unreadable> {
    for binding in bindings {
        let target = vhost
            .target(&binding.destination)
            .map_err(|_| contradiction("a binding without destination"))?;
        if !vhost.exchanges.contains_key(&binding.source) {
            return Err(contradiction("a binding without source"));
        }
        vhost.add_binding(binding, target);
    }
    Ok(())
}

impl ExchangeRecord {
    fn of(exchange: &Exchange) -> ExchangeRecord {
        ExchangeRecord {
            name: Name::clone(&exchange.name),
            kind: exchange.kind.name().into(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
        }
    }
}

impl QueueRecord<View> {
    fn of(queue: &Queue) -> QueueRecord<View> {
        QueueRecord {
            id: queue.id,
            name: Name::clone(&queue.name),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            exclusive: queue.exclusive,
            arguments: Table::clone(&queue.arguments),
            view: queue.view.clone(),
        }
    }
}
