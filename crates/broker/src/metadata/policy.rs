//! Policies: set, cleared, and applied at once to every object in the virtual host.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Declared, Outcome, PolicyKind, PolicySpec, Refusal};
use super::exchange::alternate;
use super::failover::is_mirrored;
use super::queue::mirroring;
use super::settings::settings;
use super::tables::{Exchange, Queue, Vhost};
use crate::id::Name;
use crate::permission::Pattern;
use crate::policy::{self, Object, Policy};

impl Vhost {
    /// The policies of a kind.
    #[must_use]
    pub const fn policies(&self, kind: PolicyKind) -> &RedBlackTreeMapSync<Name, Arc<Policy>> {
        match kind {
            PolicyKind::User => &self.policies,
            PolicyKind::Operator => &self.operator_policies,
        }
    }

    const fn policies_mut(
        &mut self,
        kind: PolicyKind,
    ) -> &mut RedBlackTreeMapSync<Name, Arc<Policy>> {
        match kind {
            PolicyKind::User => &mut self.policies,
            PolicyKind::Operator => &mut self.operator_policies,
        }
    }
}

impl Metadata {
    pub(super) fn set_policy(
        &mut self,
        vhost: &Name,
        kind: PolicyKind,
        spec: &PolicySpec,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let old = self.vhost(vhost)?.policies(kind).get(&spec.name);
        let declared = |created| {
            Ok(Outcome::Declared(Declared {
                created,
                queue: None,
            }))
        };
        policy::validate(kind, spec).map_err(Refusal::Invalid)?;
        if old.is_some_and(|old| old.spec == *spec) {
            return declared(false);
        }
        let created = old.is_none();
        // The pattern has been compiled once for validation; this cannot fail.
        let pattern =
            Pattern::compile(&spec.pattern).map_err(|error| Refusal::Invalid(error.to_string()))?;
        let policy = Arc::new(Policy {
            spec: spec.clone(),
            pattern,
        });
        self.vhost_mut(vhost)
            .policies_mut(kind)
            .insert_mut(Name::clone(&spec.name), policy);
        self.apply_policies(vhost, changes);
        declared(created)
    }

    pub(super) fn clear_policy(
        &mut self,
        vhost: &Name,
        kind: PolicyKind,
        name: &Name,
        changes: &mut Vec<Change>,
    ) -> Answer {
        if !self.vhost(vhost)?.policies(kind).contains_key(name) {
            return Err(Refusal::NoSuchPolicy(Name::clone(name)));
        }
        self.vhost_mut(vhost).policies_mut(kind).remove_mut(name);
        self.apply_policies(vhost, changes);
        Ok(Outcome::Deleted { existed: true })
    }

    /// Matches every object anew and changes those whose policies are other ones.
    fn apply_policies(&mut self, vhost: &Name, changes: &mut Vec<Change>) {
        let Ok(found) = self.vhost(vhost) else {
            return;
        };
        let exchanges: Vec<Exchange> = found
            .exchanges
            .values()
            .filter_map(|exchange| rematch_exchange(found, exchange))
            .collect();
        let queues: Vec<Queue> = found
            .queues
            .values()
            .filter_map(|queue| rematch_queue(found, queue))
            .collect();
        let (vhost, by_id) = self.vhost_and_queues_mut(vhost);
        for exchange in exchanges {
            vhost
                .exchanges
                .insert_mut(Name::clone(&exchange.name), Arc::new(exchange));
        }
        for queue in queues {
            let queue = Arc::new(queue);
            changes.push(Change::QueueChanged(queue.id));
            let old = by_id.get(&queue.id);
            if old.is_some_and(|old| old.view != queue.view) {
                changes.push(Change::ViewChanged(queue.id));
            }
            vhost
                .queues
                .insert_mut(Name::clone(&queue.name), Arc::clone(&queue));
            by_id.insert_mut(queue.id, queue);
        }
    }
}

fn is_same(a: Option<&Arc<Policy>>, b: Option<&Arc<Policy>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn rematch_exchange(vhost: &Vhost, old: &Exchange) -> Option<Exchange> {
    let policy = policy::in_force(&vhost.policies, Object::Exchange, &old.name);
    let operator = policy::in_force(&vhost.operator_policies, Object::Exchange, &old.name);
    if is_same(policy.as_ref(), old.policy.as_ref())
        && is_same(operator.as_ref(), old.operator_policy.as_ref())
    {
        return None;
    }
    let alternate = alternate(&old.arguments, policy.as_deref(), operator.as_deref());
    Some(Exchange {
        alternate,
        policy,
        operator_policy: operator,
        ..old.clone()
    })
}

fn rematch_queue(vhost: &Vhost, old: &Queue) -> Option<Queue> {
    let policy = policy::in_force(&vhost.policies, Object::ClassicQueue, &old.name);
    let operator = policy::in_force(&vhost.operator_policies, Object::ClassicQueue, &old.name);
    if is_same(policy.as_ref(), old.policy.as_ref())
        && is_same(operator.as_ref(), old.operator_policy.as_ref())
    {
        return None;
    }
    let effective_policy = policy::effective(policy.as_deref(), operator.as_deref());
    let settings = Arc::new(settings(&old.arguments, &effective_policy));
    let operator_policy = operator;
    let mut queue = Queue {
        policy,
        operator_policy,
        mirroring: mirroring(old.exclusive, &effective_policy),
        effective_policy: Arc::new(effective_policy),
        settings,
        ..old.clone()
    };
    let mirrored = is_mirrored(&queue, &queue.view);
    if queue.view.mirrored != mirrored {
        queue.view = queue.view.next();
        queue.view.mirrored = mirrored;
    }
    Some(queue)
}
