//! Policies: named settings applied to the objects whose names match.
//!
//! At most one policy and one operator policy are in force for an object: the one of highest priority
//! among those that match its name, apply to its sort, and hold only settings that its type supports.
//! Equal priorities are decided by name, ascending. Where both are in force they are merged key by key.

use std::sync::Arc;

use amqp::{Table, Value};
use rpds::RedBlackTreeMapSync;

use crate::id::Name;
use crate::metadata::PolicySpec;
use crate::permission::Pattern;

mod merge;
mod validate;

#[cfg(test)]
mod tests;

pub use merge::merge;
pub(crate) use validate::validate;

/// A policy with its pattern compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub spec: PolicySpec,
    pub pattern: Pattern,
}

/// The sort of object that a policy may apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    ClassicQueue,
    Exchange,
}

/// The settings that a classic queue cannot follow. A policy with one of them passes it by.
const UNSUPPORTED_BY_CLASSIC_QUEUES: [&str; 8] = [
    "dead-letter-strategy",
    "initial-cluster-size",
    "max-age",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "stream-filter-size-bytes",
    "stream-max-segment-size-bytes",
    "target-group-size",
];

impl Policy {
    /// Whether the policy is for this object.
    #[must_use]
    pub fn applies_to(&self, object: Object, name: &str) -> bool {
        let sort = matches!(
            (object, &*self.spec.apply_to),
            (_, "all")
                | (Object::Exchange, "exchanges")
                | (Object::ClassicQueue, "queues" | "classic_queues")
        );
        // As in RabbitMQ, a policy's empty pattern is found in every name.
        let found = self.spec.pattern.is_empty() || self.pattern.is_match(name);
        sort && found && self.is_supported_by(object)
    }

    fn is_supported_by(&self, object: Object) -> bool {
        let unsupported = |key: &str| UNSUPPORTED_BY_CLASSIC_QUEUES.contains(&key);
        object == Object::Exchange
            || !self
                .spec
                .definition
                .iter()
                .any(|(key, _)| key.as_str().is_some_and(unsupported))
    }

    /// One setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.spec.definition.get(key)
    }
}

/// The policy in force for an object, of one kind.
#[must_use]
pub fn in_force(
    policies: &RedBlackTreeMapSync<Name, Arc<Policy>>,
    object: Object,
    name: &str,
) -> Option<Arc<Policy>> {
    let mut best: Option<&Arc<Policy>> = None;
    // Names ascend, so that only a higher priority displaces an earlier name.
    for policy in policies.values() {
        if best.is_none_or(|best| policy.spec.priority > best.spec.priority)
            && policy.applies_to(object, name)
        {
            best = Some(policy);
        }
    }
    best.map(Arc::clone)
}

/// The settings in force: both policies merged.
#[must_use]
pub fn effective(policy: Option<&Policy>, operator_policy: Option<&Policy>) -> Table {
    match (policy, operator_policy) {
        (None, None) => Table::new(),
        (Some(policy), None) | (None, Some(policy)) => policy.spec.definition.clone(),
        (Some(policy), Some(operator)) => merge(&policy.spec.definition, &operator.spec.definition),
    }
}
