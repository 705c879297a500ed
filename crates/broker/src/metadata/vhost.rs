//! Virtual hosts: made with their default exchanges, deleted with everything in them.

use std::sync::Arc;

use amqp::Table;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, Declared, Outcome, Refusal, VhostSpec};
use super::exchange::{ExchangeParts, exchange};
use super::tables::Vhost;
use crate::exchange::Kind;
use crate::id::Name;

/// The exchanges that every virtual host has: name, kind, internal.
const DEFAULT_EXCHANGES: [(&str, Kind, bool); 7] = [
    ("", Kind::Direct, false),
    ("amq.direct", Kind::Direct, false),
    ("amq.fanout", Kind::Fanout, false),
    ("amq.headers", Kind::Headers, false),
    ("amq.match", Kind::Headers, false),
    ("amq.rabbitmq.trace", Kind::Topic, true),
    ("amq.topic", Kind::Topic, false),
];

/// The queue types that may be a virtual host's default.
const QUEUE_TYPES: [&str; 3] = ["classic", "quorum", "stream"];

impl Metadata {
    pub(super) fn put_vhost(&mut self, spec: &VhostSpec) -> Answer {
        if spec.name.is_empty() {
            return Err(Refusal::Invalid(
                "the name of a virtual host is empty".into(),
            ));
        }
        let queue_type = spec
            .default_queue_type
            .as_deref()
            .filter(|t| !is_undefined(t));
        if let Some(unknown) = queue_type.filter(|t| !QUEUE_TYPES.contains(t)) {
            return Err(Refusal::Invalid(format!(
                "unsupported queue type '{unknown}'"
            )));
        }
        let old = self.tables.vhosts.get(&spec.name);
        let created = old.is_none();
        let mut vhost = match old {
            Some(old) => Vhost::clone(old),
            None => new_vhost(Name::clone(&spec.name)),
        };
        if let Some(description) = &spec.description {
            vhost.description.clone_from(description);
        }
        if let Some(tags) = &spec.tags {
            vhost.tags.clone_from(tags);
        }
        if spec.default_queue_type.is_some() {
            vhost.default_queue_type = queue_type.map(Name::from);
        }
        if let Some(tracing) = spec.tracing {
            vhost.tracing = tracing;
        }
        self.tables_mut()
            .vhosts
            .insert_mut(Name::clone(&spec.name), Arc::new(vhost));
        Ok(Outcome::Declared(Declared {
            created,
            queue: None,
        }))
    }

    pub(super) fn delete_vhost(&mut self, name: &Name, changes: &mut Vec<Change>) -> Answer {
        let vhost = Arc::clone(self.vhost(name)?);
        let tables = self.tables_mut();
        tables.vhosts.remove_mut(name);
        for queue in vhost.queues.values() {
            tables.queues.remove_mut(&queue.id);
            tables.seating.remove(queue.id, &queue.view);
            changes.push(Change::QueueDeleted(queue.id));
        }
        for exchange in vhost.exchanges.values() {
            exchange.note_deletion(changes);
        }
        for queue in vhost.queues.values() {
            if let Some(owner) = queue.exclusive {
                self.exclusive.remove(&(owner, queue.id));
            }
        }
        changes.push(Change::VhostDeleted(Name::clone(name)));
        Ok(Outcome::Deleted { existed: true })
    }

    pub(super) fn set_tracing(&mut self, vhost: &Name, on: bool) -> Answer {
        if self.vhost(vhost)?.tracing != on {
            self.vhost_mut(vhost).tracing = on;
        }
        Ok(Outcome::Done)
    }
}

/// RabbitMQ exports `undefined` for a virtual host whose default was never set.
fn is_undefined(queue_type: &str) -> bool {
    queue_type.is_empty() || queue_type == "undefined"
}

fn new_vhost(name: Name) -> Vhost {
    let mut vhost = Vhost::empty(Name::clone(&name));
    for (exchange_name, kind, internal) in DEFAULT_EXCHANGES {
        let parts = ExchangeParts {
            vhost: Name::clone(&name),
            name: exchange_name.into(),
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: Table::new(),
        };
        let exchange = exchange(parts, None, None);
        vhost
            .exchanges
            .insert_mut(Name::clone(&exchange.name), Arc::new(exchange));
    }
    vhost
}
