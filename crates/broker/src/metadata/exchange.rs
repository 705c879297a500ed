//! Exchanges: declared and deleted, the latter also when an auto-delete exchange loses its last binding.

use std::sync::Arc;

use amqp::{Table, Value};

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Declared, Destination, ExchangeSpec, Outcome, Refusal};
use super::equivalence;
use super::queue::NAME_LEN_MAX;
use super::tables::{Exchange, Vhost};
use crate::exchange::{self, Kind, Routes};
use crate::id::Name;
use crate::policy::{self, Object, Policy};

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// What an exchange is before policies and bindings are looked at.
pub(super) struct ExchangeParts {
    pub(super) vhost: Name,
    pub(super) name: Name,
    pub(super) kind: Kind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) arguments: Table,
}

/// An exchange with everything derived, and no bindings.
pub(super) fn exchange(
    parts: ExchangeParts,
    policy: Option<Arc<Policy>>,
    operator_policy: Option<Arc<Policy>>,
) -> Exchange {
    Exchange {
        routes: Routes::new(parts.kind, &parts.arguments),
        alternate: alternate(
            &parts.arguments,
            policy.as_deref(),
            operator_policy.as_deref(),
        ),
        vhost: parts.vhost,
        name: parts.name,
        kind: parts.kind,
        durable: parts.durable,
        auto_delete: parts.auto_delete,
        internal: parts.internal,
        arguments: parts.arguments,
        policy,
        operator_policy,
        bindings: 0,
    }
}

/// The exchange's argument comes before its policies.
pub(super) fn alternate(
    arguments: &Table,
    policy: Option<&Policy>,
    operator_policy: Option<&Policy>,
) -> Option<Name> {
    let by_policy = || {
        let by_operator = operator_policy.and_then(|policy| policy.get(ALTERNATE_EXCHANGE));
        by_operator.or_else(|| policy.and_then(|policy| policy.get(ALTERNATE_EXCHANGE)))
    };
    let name = arguments.get(ALTERNATE_EXCHANGE).or_else(by_policy);
    name.and_then(Value::as_str).map(Name::from)
}

/// How texts name an exchange.
pub(super) fn describe(vhost: &str, name: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

pub(super) fn refuse_default(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        let text = "operation not permitted on the default exchange";
        return Err(Refusal::AccessRefused(text.to_owned()));
    }
    Ok(())
}

impl Exchange {
    /// Messages may be waiting for their time at a delayed exchange.
    pub(super) fn note_deletion(&self, changes: &mut Vec<Change>) {
        if matches!(self.kind, Kind::Delayed(_)) {
            let (vhost, name) = (Name::clone(&self.vhost), Name::clone(&self.name));
            changes.push(Change::ExchangeDeleted { vhost, name });
        }
    }
}

impl Metadata {
    pub(super) fn declare_exchange(&mut self, vhost_name: &Name, spec: &ExchangeSpec) -> Answer {
        let vhost = self.vhost(vhost_name)?;
        let known = Kind::plain(&spec.kind).is_some() || &*spec.kind == DELAYED;
        if !known {
            return Err(Refusal::UnknownExchangeType(Name::clone(&spec.kind)));
        }
        refuse_default(&spec.name)?;
        if let Some(found) = vhost.declared_exchange(spec)? {
            return Ok(found);
        }
        check_name(&spec.name)?;
        let kind = check_arguments(spec, &describe(vhost_name, &spec.name))?;

        let parts = ExchangeParts {
            vhost: Name::clone(vhost_name),
            name: Name::clone(&spec.name),
            kind,
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            arguments: spec.arguments.clone(),
        };
        let policy = policy::in_force(&vhost.policies, Object::Exchange, &spec.name);
        let operator = policy::in_force(&vhost.operator_policies, Object::Exchange, &spec.name);
        let exchange = Arc::new(exchange(parts, policy, operator));
        self.vhost_mut(vhost_name)
            .exchanges
            .insert_mut(Name::clone(&spec.name), exchange);
        Ok(Outcome::Declared(Declared {
            created: true,
            queue: None,
        }))
    }

    pub(super) fn delete_exchange(
        &mut self,
        vhost_name: &Name,
        name: &Name,
        if_unused: bool,
        changes: &mut Vec<Change>,
    ) -> Answer {
        let vhost = self.vhost(vhost_name)?;
        refuse_default(name)?;
        let what = describe(vhost_name, name);
        if name.starts_with("amq.") {
            return Err(Refusal::AccessRefused(format!(
                "deletion of system {what} not allowed"
            )));
        }
        let Some(exchange) = vhost.exchanges.get(name) else {
            return Ok(Outcome::Deleted { existed: false });
        };
        if if_unused && exchange.bindings > 0 {
            return Err(Refusal::InUse(format!("{what} in use")));
        }
        self.remove_exchanges(vhost_name, vec![Name::clone(name)], changes);
        Ok(Outcome::Deleted { existed: true })
    }

    /// Removes exchanges with their bindings, and the auto-delete exchanges that thereby lose their
    /// last one, and so on.
    pub(super) fn remove_exchanges(
        &mut self,
        vhost: &Name,
        mut names: Vec<Name>,
        changes: &mut Vec<Change>,
    ) {
        while let Some(name) = names.pop() {
            let found = self.vhost_mut(vhost);
            let Some(exchange) = found.exchanges.get(&name).map(Arc::clone) else {
                continue;
            };
            found.exchanges.remove_mut(&name);
            exchange.note_deletion(changes);
            found.forget_bindings_from(&name);
            names.extend(found.unbind_destination(&Destination::Exchange(name)));
        }
    }

    pub(super) fn remove_transient_exchanges(&mut self, changes: &mut Vec<Change>) {
        let gone: Vec<Arc<Exchange>> = self
            .tables
            .vhosts
            .values()
            .flat_map(|vhost| vhost.exchanges.values())
            .filter(|exchange| !exchange.durable)
            .map(Arc::clone)
            .collect();
        for exchange in gone {
            let names = vec![Name::clone(&exchange.name)];
            self.remove_exchanges(&exchange.vhost, names, changes);
        }
    }
}

impl Vhost {
    /// What a declaration is answered with if the exchange is there; refused if it is another one.
    pub(super) fn declared_exchange(
        &self,
        spec: &ExchangeSpec,
    ) -> Result<Option<Outcome>, Refusal> {
        refuse_default(&spec.name)?;
        let Some(old) = self.exchanges.get(&spec.name) else {
            return Ok(None);
        };
        check_equivalence(old, spec, &describe(&self.name, &spec.name))?;
        Ok(Some(Outcome::Declared(Declared {
            created: false,
            queue: None,
        })))
    }
}

/// The public name of exchanges that hold messages back.
const DELAYED: &str = "x-delayed-message";

/// Reads the kind that a declaration means.
pub(super) fn kind(name: &str, arguments: &Table) -> Option<Kind> {
    if name != DELAYED {
        return Kind::plain(name).copied();
    }
    let inner = arguments.get("x-delayed-type").and_then(Value::as_str)?;
    Kind::plain(inner).map(Kind::Delayed)
}

const LOG_EXCHANGE: &str = "amq.rabbitmq.log";

fn check_name(name: &str) -> Result<(), Refusal> {
    // The node's log has an exchange of its own, which the node declares when it is asked to.
    if name.starts_with("amq.") && name != LOG_EXCHANGE {
        return Err(Refusal::AccessRefused(format!(
            "exchange name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    if name.len() > NAME_LEN_MAX {
        return Err(Refusal::Invalid(format!(
            "the name of an exchange has 1 to {NAME_LEN_MAX} bytes, not {}",
            name.len()
        )));
    }
    Ok(())
}

fn check_equivalence(old: &Exchange, spec: &ExchangeSpec, what: &str) -> Result<(), Refusal> {
    equivalence::check(what, "type", &old.kind.name(), &&*spec.kind)?;
    equivalence::check(what, "durable", &old.durable, &spec.durable)?;
    equivalence::check(what, "auto_delete", &old.auto_delete, &spec.auto_delete)?;
    equivalence::check(what, "internal", &old.internal, &spec.internal)?;
    equivalence::check_arguments(what, &[ALTERNATE_EXCHANGE], &old.arguments, &spec.arguments)
}

fn check_arguments(spec: &ExchangeSpec, what: &str) -> Result<Kind, Refusal> {
    let refuse = |text: String| Err(Refusal::InvalidArgument(text));
    let alternate = spec.arguments.get(ALTERNATE_EXCHANGE);
    if let Some(other) = alternate.filter(|value| value.as_bytes().is_none()) {
        let found = other.type_name();
        return refuse(format!(
            "invalid type '{found}' for arg '{ALTERNATE_EXCHANGE}' in {what}"
        ));
    }
    let Some(kind) = kind(&spec.kind, &spec.arguments) else {
        return refuse(
            "Invalid argument, 'x-delayed-type' must be an existing exchange type".to_owned(),
        );
    };
    if kind.routing() == Kind::ConsistentHash {
        exchange::check_hash_arguments(&spec.arguments).map_err(Refusal::InvalidArgument)?;
    }
    Ok(kind)
}
