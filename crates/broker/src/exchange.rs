//! Exchanges: which queues a message goes to.
//!
//! Every exchange carries an index of the bindings whose source it is ([`Routes`]), made for its kind
//! when bindings change, so that [`route`] searches no lists of bindings. The indexes are persistent:
//! the next version shares all but the changed path with the one before.
//!
//! Invariants: a queue is found at most once, however many bindings and exchanges lead to it; the
//! answer is in ascending order of queue ids, whatever the order of bindings; cycles of exchanges end.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqp::{PropertiesView, Table, Value};
use smallvec::SmallVec;

use crate::id::{Name, QueueId};
use crate::metadata::{Binding, Bytes, Exchange, Queue, Tables, Term, Vhost};

mod direct;
mod hash;
mod headers;
mod random;
mod targets;
mod topic;

pub(crate) use targets::Target;
use targets::Targets;

#[cfg(test)]
mod tests;

/// What an exchange does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// To the queues bound with the message's routing key.
    Direct,
    /// To all.
    Fanout,
    /// To the queues bound with a matching pattern of words.
    Topic,
    /// To the queues whose binding arguments match the message's headers.
    Headers,
    /// To one queue, always the same for the same key.
    ConsistentHash,
    /// To one queue by chance.
    Random,
    /// As the inner kind, after the delay that the message asks for.
    Delayed(&'static Kind),
}

impl Kind {
    /// The kinds that have a public name of their own, and may be the inner kind of a delayed exchange.
    pub const PLAIN: [Kind; 6] = [
        Kind::Direct,
        Kind::Fanout,
        Kind::Topic,
        Kind::Headers,
        Kind::ConsistentHash,
        Kind::Random,
    ];

    /// The type's public name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Fanout => "fanout",
            Kind::Topic => "topic",
            Kind::Headers => "headers",
            Kind::ConsistentHash => "x-consistent-hash",
            Kind::Random => "x-random",
            Kind::Delayed(_) => "x-delayed-message",
        }
    }

    /// Finds a kind other than a delayed one by its public name.
    #[must_use]
    pub fn plain(name: &str) -> Option<&'static Kind> {
        static PLAIN: [Kind; 6] = Kind::PLAIN;
        PLAIN.iter().find(|kind| kind.name() == name)
    }

    /// The kind that decides the routes.
    #[must_use]
    pub const fn routing(self) -> Kind {
        match self {
            Kind::Delayed(inner) => *inner,
            plain => plain,
        }
    }

    /// Whether topic permissions apply.
    #[must_use]
    pub const fn is_topic(self) -> bool {
        matches!(self, Kind::Topic)
    }

    /// Whether nothing of a message but its routing key counts.
    const fn is_by_key(self) -> bool {
        matches!(self, Kind::Direct | Kind::Fanout | Kind::Topic)
    }
}

/// What routing may look at.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'a> {
    /// The routing key, then the keys of `CC` and `BCC`.
    pub keys: &'a [&'a [u8]],
    pub properties: &'a PropertiesView<'a>,
    /// For exchanges that route by chance.
    pub random: u64,
}

/// Says of an answer of [`route`] what it depended on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Nothing but the tables and the routing keys: the same keys give the same queues until the
    /// tables change.
    pub by_keys_alone: bool,
}

/// The index of the bindings of one exchange.
#[derive(Clone, Debug)]
pub struct Routes {
    index: Index,
    /// How many bindings lead to exchanges.
    exchanges: usize,
}

#[derive(Clone, Debug)]
enum Index {
    Direct(direct::Index),
    Fanout(Targets),
    Topic(topic::Trie),
    Headers(headers::Index),
    Hash(hash::Index),
    Random(Targets),
}

/// What one exchange found.
#[derive(Default)]
struct Found<'a> {
    queues: SmallVec<[QueueId; 8]>,
    exchanges: SmallVec<[&'a Name; 4]>,
}

impl<'a> Found<'a> {
    fn push(&mut self, target: &'a Target) {
        match target {
            Target::Queue(id) => self.queues.push(*id),
            Target::Exchange(name) => self.exchanges.push(name),
        }
    }

    fn push_all(&mut self, targets: &'a Targets) {
        targets.iter().for_each(|target| self.push(target));
    }
}

impl Routes {
    /// The empty index of an exchange of this kind with these arguments.
    #[must_use]
    pub fn new(kind: Kind, arguments: &Table) -> Routes {
        let index = match kind.routing() {
            Kind::Fanout => Index::Fanout(Targets::default()),
            Kind::Topic => Index::Topic(topic::Trie::default()),
            Kind::Headers => Index::Headers(headers::Index::default()),
            Kind::ConsistentHash => Index::Hash(hash::Index::new(arguments)),
            Kind::Random => Index::Random(Targets::default()),
            Kind::Direct | Kind::Delayed(_) => Index::Direct(direct::Index::default()),
        };
        Routes {
            index,
            exchanges: 0,
        }
    }

    /// Adds a binding that is not there.
    pub(crate) fn add(&mut self, binding: &Arc<Binding>, target: Target) {
        self.exchanges += usize::from(matches!(target, Target::Exchange(_)));
        match &mut self.index {
            Index::Direct(index) => index.add(&binding.routing_key, target),
            Index::Fanout(targets) | Index::Random(targets) => targets.add(target),
            Index::Topic(trie) => trie.add(&binding.routing_key, target),
            Index::Headers(index) => index.add(binding, target),
            Index::Hash(index) => index.add(binding, target),
        }
    }

    /// Removes a binding that is there.
    pub(crate) fn remove(&mut self, binding: &Arc<Binding>, target: &Target) {
        self.exchanges -= usize::from(matches!(target, Target::Exchange(_)));
        match &mut self.index {
            Index::Direct(index) => index.remove(&binding.routing_key, target),
            Index::Fanout(targets) | Index::Random(targets) => targets.remove(target),
            Index::Topic(trie) => trie.remove(&binding.routing_key, target),
            Index::Headers(index) => index.remove(binding),
            Index::Hash(index) => index.remove(binding),
        }
    }

    fn find<'a>(&'a self, routing: &Routing<'_>, found: &mut Found<'a>) {
        match &self.index {
            Index::Direct(index) => index.find(routing.keys, found),
            Index::Fanout(targets) => found.push_all(targets),
            Index::Topic(trie) => routing.keys.iter().for_each(|key| trie.find(key, found)),
            Index::Headers(index) => index.find(routing.properties, found),
            Index::Hash(index) => index.find(routing, found),
            Index::Random(targets) => random::find(targets, routing.random, found),
        }
    }
}

/// Checks what a binding asks of an exchange of this kind; the error is the text for the client.
pub(crate) fn check_binding(kind: Kind, key: &[u8], arguments: &Table) -> Result<(), String> {
    match kind.routing() {
        Kind::Headers => match arguments.get(headers::X_MATCH) {
            None => Ok(()),
            Some(Value::LongStr(mode)) if headers::MODES.contains(&mode.as_slice()) => Ok(()),
            Some(Value::LongStr(mode)) => Err(format!(
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                Bytes(mode)
            )),
            Some(other) => Err(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                other.type_name(),
                Term(other)
            )),
        },
        Kind::ConsistentHash => match hash::weight(key) {
            Some(1..) => Ok(()),
            Some(_) => Err("The binding key must be greater than 0".to_owned()),
            None => Err(format!(
                "The binding key must be an integer: {}",
                Bytes(key)
            )),
        },
        _ => Ok(()),
    }
}

/// Checks the arguments of a consistent-hash exchange; the error is the text for the client.
pub(crate) fn check_hash_arguments(arguments: &Table) -> Result<(), String> {
    match (
        arguments.get(hash::HASH_HEADER),
        arguments.get(hash::HASH_PROPERTY),
    ) {
        (Some(_), Some(_)) => {
            Err("hash-header and hash-property are mutually exclusive".to_owned())
        }
        (Some(Value::LongStr(_)), None) | (None, None) => Ok(()),
        (Some(other), None) => Err(format!("Unsupported header: {}", Term(other))),
        (None, Some(property)) => match property.as_str() {
            Some(name) if hash::HASH_PROPERTIES.contains(&name) => Ok(()),
            Some(name) => Err(format!("Unsupported property: {name}")),
            None => Err(format!("Unsupported property: {}", Term(property))),
        },
    }
}

impl Exchange {
    /// Whether every answer of [`route`] for this exchange depends on nothing but tables and routing
    /// keys, as far as that can be told without following other exchanges. Where this says no, an
    /// answer may still say so for itself ([`Routed`]).
    #[must_use]
    pub fn cacheable(&self) -> bool {
        self.kind.is_by_key() && self.routes.exchanges == 0 && self.alternate.is_none()
    }
}

/// Fills `out` with the queues that a message published to `exchange` goes to, each once.
pub fn route(
    tables: &Tables,
    vhost: &Vhost,
    exchange: &Exchange,
    routing: &Routing<'_>,
    out: &mut Vec<Arc<Queue>>,
) -> Routed {
    out.clear();
    let mut queues = SmallVec::<[QueueId; 8]>::new();
    let by_keys_alone = follow(vhost, exchange, routing, &mut queues);
    queues.sort_unstable();
    queues.dedup();
    out.extend(
        queues
            .iter()
            .filter_map(|id| tables.queues.get(id))
            .map(Arc::clone),
    );
    Routed { by_keys_alone }
}

/// Walks from exchange to exchange and collects queues, with repetitions.
fn follow(
    vhost: &Vhost,
    exchange: &Exchange,
    routing: &Routing<'_>,
    queues: &mut SmallVec<[QueueId; 8]>,
) -> bool {
    let mut by_keys_alone = true;
    // The common case leaves the set empty and so allocates nothing.
    let mut seen = BTreeSet::<&str>::new();
    let mut waiting = SmallVec::<[&Exchange; 4]>::new();
    waiting.push(exchange);
    while let Some(exchange) = waiting.pop() {
        by_keys_alone &= exchange.kind.is_by_key();
        if exchange.name.is_empty() {
            find_by_name(vhost, routing.keys, queues);
            continue;
        }
        let mut found = Found::default();
        exchange.routes.find(routing, &mut found);
        if found.queues.is_empty() && found.exchanges.is_empty() {
            found.exchanges.extend(&exchange.alternate);
        }
        queues.extend_from_slice(&found.queues);
        for name in found.exchanges {
            seen.insert(&exchange.name);
            if seen.insert(name) {
                waiting.extend(vhost.exchanges.get(name).map(|next| &**next));
            }
        }
    }
    by_keys_alone
}

/// The default exchange: every queue is bound to it by its name.
fn find_by_name(vhost: &Vhost, keys: &[&[u8]], queues: &mut SmallVec<[QueueId; 8]>) {
    for key in keys {
        let queue = str::from_utf8(key)
            .ok()
            .and_then(|name| vhost.queues.get(name));
        queues.extend(queue.map(|queue| queue.id));
    }
}
