//! Queues: declared, deleted, and going with their connection or their node.

use std::sync::Arc;

use amqp::{ShortStr, Table, Value};
use cluster::metadata_log::NodeId;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Declared, Destination, Outcome, QueueSpec, Refusal};
use super::failover::is_mirrored;
use super::mirroring::Mirroring;
use super::placement::{Hints, Locator, Placing};
use super::tables::{Queue, Vhost};
use super::view::View;
use super::{arguments, equivalence, settings};
use crate::id::{ConnectionId, Name, QueueId};
use crate::policy::{self, Object, Policy};

/// The longest name of a queue or an exchange.
pub(super) const NAME_LEN_MAX: usize = 255;

/// What a queue is before policies are looked at.
pub(super) struct QueueParts {
    pub(super) id: QueueId,
    pub(super) vhost: Name,
    pub(super) name: Name,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) exclusive: Option<ConnectionId>,
    pub(super) arguments: Table,
    pub(super) view: View,
}

/// A queue with everything derived.
pub(super) fn queue(
    parts: QueueParts,
    policy: Option<Arc<Policy>>,
    operator_policy: Option<Arc<Policy>>,
) -> Queue {
    let effective_policy = policy::effective(policy.as_deref(), operator_policy.as_deref());
    let settings = settings::settings(&parts.arguments, &effective_policy);
    let mirroring = mirroring(parts.exclusive, &effective_policy);
    Queue {
        id: parts.id,
        vhost: parts.vhost,
        name: parts.name,
        durable: parts.durable,
        auto_delete: parts.auto_delete,
        exclusive: parts.exclusive,
        arguments: Arc::new(parts.arguments),
        policy,
        operator_policy,
        effective_policy: Arc::new(effective_policy),
        settings: Arc::new(settings),
        mirroring,
        view: parts.view,
    }
}

/// How a queue is to be mirrored; an exclusive one never is.
pub(super) fn mirroring(
    exclusive: Option<ConnectionId>,
    effective_policy: &Table,
) -> Option<Arc<Mirroring>> {
    let mirroring = exclusive.is_none().then(|| Mirroring::of(effective_policy));
    mirroring.flatten().map(Arc::new)
}

/// How texts name a queue.
pub(super) fn describe(vhost: &str, name: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

impl Metadata {
    pub(super) fn declare_queue(
        &mut self,
        vhost: &Name,
        spec: &QueueSpec,
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.new_queue(vhost, spec, None, changes)
    }

    /// Declares a queue: where its strategy says, or without hints on the node that was asked.
    pub(super) fn new_queue(
        &mut self,
        vhost_name: &Name,
        spec: &QueueSpec,
        hints: Option<Hints<'_>>,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let vhost = self.vhost(vhost_name)?;
        check_name(spec)?;
        let arguments = with_default_type(vhost, spec)?;
        if let Some(found) = vhost.declared_queue(spec, &arguments)? {
            return Ok(found);
        }
        check_limit(vhost, &spec.name)?;
        arguments::check(&describe(vhost_name, &spec.name), &spec.name, &arguments)?;

        let (policy, operator) = vhost.queue_policies(&spec.name);
        let parts = QueueParts {
            id: QueueId(self.next_queue),
            vhost: Name::clone(vhost_name),
            name: Name::clone(&spec.name),
            durable: is_durable(spec),
            auto_delete: spec.auto_delete,
            exclusive: spec.connection.filter(|_| spec.exclusive),
            arguments,
            view: View::new([self.node_asked(&spec.node)], false),
        };
        let mut queue = queue(parts, policy, operator);
        if let Some(hints) = hints {
            queue.view = self.first_view(&queue, spec, hints)?;
        }
        self.add_queue(queue, changes)
    }

    /// The node that a declaration without placement means: while a node was alone, names counted
    /// little.
    fn node_asked(&self, name: &str) -> NodeId {
        let nodes = &self.tables.nodes;
        let node = nodes.named(name).or_else(|| nodes.up().next());
        node.map_or(NodeId(0), |node| node.id)
    }

    fn first_view(
        &mut self,
        queue: &Queue,
        spec: &QueueSpec,
        hints: Hints<'_>,
    ) -> Result<View, Refusal> {
        let default = hints.default_locator;
        let locator = Locator::in_force(&queue.arguments, &queue.effective_policy, default);
        let placing = Placing {
            spec,
            locator,
            mirroring: queue.mirroring.as_deref(),
            hints,
            turn: self.turns,
        };
        let view = placing.view(&self.tables)?;
        if locator == Locator::RoundRobin && !spec.exclusive {
            self.turns += 1;
        }
        Ok(view)
    }

    fn add_queue(&mut self, mut queue: Queue, changes: &mut Vec<Change>) -> Answer {
        let id = queue.id;
        self.next_queue += 1;
        queue.view.mirrored = is_mirrored(&queue, &queue.view);
        let queue = Arc::new(queue);
        if let Some(owner) = queue.exclusive {
            self.exclusive.insert((owner, id));
        }
        self.tables_mut().seating.add(id, &queue.view);
        let (vhost, queues) = self.vhost_and_queues_mut(&queue.vhost);
        let name = Name::clone(&queue.name);
        vhost.queues.insert_mut(name, Arc::clone(&queue));
        queues.insert_mut(id, queue);
        changes.push(Change::QueueCreated(id));
        Ok(Outcome::Declared(Declared {
            created: true,
            queue: Some(id),
        }))
    }

    pub(super) fn delete_queue(
        &mut self,
        vhost: &Name,
        name: &Name,
        only: Option<QueueId>,
        changes: &mut Vec<Change>,
    ) -> Answer {
        // A queue machine knows its id and nothing else.
        let queue = match only {
            Some(id) if vhost.is_empty() && name.is_empty() => self.tables.queues.get(&id),
            only => {
                let queue = self.vhost(vhost)?.queues.get(name);
                queue.filter(|queue| only.is_none_or(|only| only == queue.id))
            }
        };
        let Some(queue) = queue.map(Arc::clone) else {
            return Ok(Outcome::Deleted { existed: false });
        };
        self.remove_queue(&queue, changes);
        Ok(Outcome::Deleted { existed: true })
    }

    pub(super) fn remove_queue(&mut self, queue: &Queue, changes: &mut Vec<Change>) {
        let (vhost, queues) = self.vhost_and_queues_mut(&queue.vhost);
        let sources = vhost.unbind_destination(&Destination::Queue(Name::clone(&queue.name)));
        vhost.queues.remove_mut(&queue.name);
        queues.remove_mut(&queue.id);
        self.tables_mut().seating.remove(queue.id, &queue.view);
        self.remove_exchanges(&queue.vhost, sources, changes);
        if let Some(owner) = queue.exclusive {
            self.exclusive.remove(&(owner, queue.id));
        }
        changes.push(Change::QueueDeleted(queue.id));
    }

    pub(super) fn connection_ended(
        &mut self,
        connection: ConnectionId,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let (first, last) = ((connection, QueueId(0)), (connection, QueueId(u64::MAX)));
        let ids: Vec<QueueId> = self
            .exclusive
            .range(first..=last)
            .map(|(_, id)| *id)
            .collect();
        for id in ids {
            if let Some(queue) = self.tables.queues.get(&id).map(Arc::clone) {
                self.remove_queue(&queue, changes);
            }
        }
        Ok(Outcome::Done)
    }
}

impl Vhost {
    /// The policy and the operator policy in force for a queue of this name.
    pub(super) fn queue_policies(&self, name: &str) -> (Option<Arc<Policy>>, Option<Arc<Policy>>) {
        let of = |policies| policy::in_force(policies, Object::ClassicQueue, name);
        (of(&self.policies), of(&self.operator_policies))
    }

    /// What a declaration is answered with if the queue is there; refused if it is another one.
    fn declared_queue(
        &self,
        spec: &QueueSpec,
        arguments: &Table,
    ) -> Result<Option<Outcome>, Refusal> {
        let Some(old) = self.queues.get(&spec.name) else {
            return Ok(None);
        };
        check_equivalence(old, spec, arguments)?;
        Ok(Some(Outcome::Declared(Declared {
            created: false,
            queue: Some(old.id),
        })))
    }

    /// The same for a declaration that is not yet in the log.
    pub(super) fn already_declared_queue(&self, spec: &QueueSpec) -> Option<Outcome> {
        let arguments = with_default_type(self, spec).ok()?;
        self.declared_queue(spec, &arguments).ok()?
    }
}

/// An exclusive queue goes with its connection, whatever durability was asked for.
const fn is_durable(spec: &QueueSpec) -> bool {
    spec.durable && !spec.exclusive
}

/// Names that begin with `amq.` are the broker's own. The names it gives to unnamed queues are let
/// through: they come back when definitions are imported.
fn check_name(spec: &QueueSpec) -> Result<(), Refusal> {
    let name = &*spec.name;
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(Refusal::Invalid(format!(
            "the name of a queue has 1 to {NAME_LEN_MAX} bytes, not {}",
            name.len()
        )));
    }
    if name.starts_with("amq.") && !name.starts_with("amq.gen-") {
        return Err(Refusal::AccessRefused(format!(
            "queue name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    if spec.exclusive && spec.connection.is_none() {
        return Err(Refusal::Invalid(format!(
            "exclusive queue '{name}' without a connection"
        )));
    }
    Ok(())
}

/// The arguments, with the virtual host's default type where none is given and the type can be.
fn with_default_type(vhost: &Vhost, spec: &QueueSpec) -> Result<Table, Refusal> {
    let mut arguments = spec.arguments.clone();
    let Some(default) = vhost.default_queue_type.as_deref() else {
        return Ok(arguments);
    };
    if arguments.contains("x-queue-type") {
        return Ok(arguments);
    }
    let replicated_type = is_durable(spec) && !spec.auto_delete;
    if default == "classic" || replicated_type {
        arguments::supported(default, &spec.name)?;
        arguments.insert(ShortStr::truncated("x-queue-type"), Value::from(default));
    }
    Ok(arguments)
}

fn check_equivalence(old: &Queue, spec: &QueueSpec, arguments: &Table) -> Result<(), Refusal> {
    if old.exclusive != spec.connection.filter(|_| spec.exclusive) {
        let (vhost, name) = (Name::clone(&old.vhost), Name::clone(&old.name));
        return Err(Refusal::ExclusiveOwner { vhost, name });
    }
    let what = describe(&old.vhost, &old.name);
    equivalence::check(&what, "durable", &old.durable, &is_durable(spec))?;
    equivalence::check(&what, "auto_delete", &old.auto_delete, &spec.auto_delete)?;
    equivalence::check_arguments(&what, &arguments::COMPARED, &old.arguments, arguments)
}

fn check_limit(vhost: &Vhost, name: &str) -> Result<(), Refusal> {
    match vhost.limits.max_queues {
        Some(max) if vhost.queues.size() as u64 >= max => Err(Refusal::LimitReached(format!(
            "cannot declare queue '{name}': queue limit in vhost '{}' ({max}) is reached",
            vhost.name
        ))),
        _ => Ok(()),
    }
}
