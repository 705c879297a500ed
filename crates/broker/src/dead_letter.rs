//! Dead letters: what a queue gives up becomes a new publish to its dead-letter exchange.
//!
//! The history travels in the header `x-death`, newest first, one entry for each pair of queue and
//! reason (RabbitMQ, "Dead Letter Exchanges"). A message that comes round to a queue in which it has
//! died, with no rejection on the way, is dropped there: an automatic cycle would never end.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use amqp::{Properties, ShortStr, Table, Value};

use crate::exchange::{Routing, route};
use crate::id::QueueId;
use crate::message::Message;
use crate::metadata::{self, Tables};
use crate::queue::DeadLetter;

/// Routes a dead letter: the queues that must take it, and what they get. Empty when there is no
/// exchange, no route or only a cycle.
#[must_use]
pub fn dead_letter(
    tables: &Tables,
    source: &metadata::Queue,
    letter: &DeadLetter,
    unix_seconds: u64,
    random: u64,
) -> (Vec<QueueId>, Option<Message>) {
    let Some(exchange_name) = &source.settings.dead_letter_exchange else { return (Vec::new(), None) };
    let Some(vhost) = tables.vhosts.get(&source.vhost) else { return (Vec::new(), None) };
    let Some(exchange) = vhost.exchanges.get(exchange_name) else { return (Vec::new(), None) };
    let message = &letter.message;
    let Ok(mut properties) = Properties::decode(message.properties()) else { return (Vec::new(), None) };
    let mut headers = properties.headers.take().unwrap_or_default();
    let extra = extra_keys(&headers);
    let deaths = record(&mut headers, source, letter, &extra, &mut properties, unix_seconds);
    let new_key = source.settings.dead_letter_routing_key.as_deref();
    if new_key.is_some() {
        headers.remove("CC");
        headers.remove("BCC");
    }
    properties.headers = Some(headers);
    let bytes = properties.to_bytes();
    let routing_key = new_key.unwrap_or(message.routing_key());
    let Some(dead) = message.with(exchange_name.as_bytes(), routing_key, &bytes) else { return (Vec::new(), None) };
    let view = dead.view();
    let mut keys: Vec<&[u8]> = vec![routing_key];
    if new_key.is_none() {
        keys.extend(extra.iter().map(Vec::as_slice));
    }
    let mut found = Vec::new();
    let routing = Routing { keys: &keys, properties: &view, random };
    route(tables, vhost, exchange, &routing, &mut found);
    let targets = found.iter().filter(|queue| !is_cycle(&queue.name, &deaths)).map(|queue| queue.id).collect();
    (targets, Some(dead))
}

fn extra_keys(headers: &Table) -> Vec<Vec<u8>> {
    let cc = headers.get("CC").and_then(Value::as_array).unwrap_or_default();
    cc.iter().filter_map(Value::as_bytes).map(<[u8]>::to_vec).collect()
}

fn name(text: &str) -> ShortStr {
    ShortStr::truncated(text)
}

fn long(text: &[u8]) -> Value {
    Value::LongStr(text.to_vec())
}

/// One entry for each pair of queue and reason, counts added up: brokers of old wrote one for each death.
fn grouped(deaths: &[Value]) -> Vec<Value> {
    let mut groups: Vec<Table> = Vec::new();
    for death in deaths.iter().filter_map(Value::as_table) {
        let count = |t: &Table| t.get("count").and_then(Value::as_i64).unwrap_or(1);
        let like = |t: &&mut Table| t.get("queue") == death.get("queue") && t.get("reason") == death.get("reason");
        match groups.iter_mut().find(like) {
            Some(group) => {
                let sum = count(group).saturating_add(count(death));
                group.insert(name("count"), Value::I64(sum));
            }
            None => groups.push(death.clone()),
        }
    }
    groups.into_iter().map(Value::Table).collect()
}

/// Writes this death into the headers; answers the whole history.
fn record(
    headers: &mut Table,
    source: &metadata::Queue,
    letter: &DeadLetter,
    extra: &[Vec<u8>],
    properties: &mut Properties,
    unix_seconds: u64,
) -> Vec<Value> {
    let reason = letter.reason.name();
    let message = &letter.message;
    let mut deaths = grouped(headers.get("x-death").and_then(Value::as_array).unwrap_or_default());
    let same = |death: &Value| {
        death.as_table().is_some_and(|t| {
            t.get("queue").and_then(Value::as_bytes) == Some(source.name.as_bytes())
                && t.get("reason").and_then(Value::as_bytes) == Some(reason.as_bytes())
        })
    };
    let death = match deaths.iter().position(same).map(|at| deaths.remove(at)) {
        Some(Value::Table(mut death)) => {
            let count = death.get("count").and_then(Value::as_i64).unwrap_or(1);
            death.insert(name("count"), Value::I64(count.saturating_add(1)));
            death
        }
        _ => {
            let mut keys = vec![long(message.routing_key())];
            keys.extend(extra.iter().map(|key| long(key)));
            let mut death = Table::new();
            death.insert(name("count"), Value::I64(1));
            death.insert(name("reason"), long(reason.as_bytes()));
            death.insert(name("queue"), long(source.name.as_bytes()));
            death.insert(name("time"), Value::Timestamp(unix_seconds));
            death.insert(name("exchange"), long(message.exchange()));
            death.insert(name("routing-keys"), Value::Array(keys));
            if let Some(expiration) = &properties.expiration {
                death.insert(name("original-expiration"), long(expiration.as_bytes()));
            }
            death
        }
    };
    properties.expiration = None;
    deaths.insert(0, Value::Table(death));
    headers.insert(name("x-death"), Value::Array(deaths.clone()));
    let facts = [
        ("reason", long(reason.as_bytes())),
        ("queue", long(source.name.as_bytes())),
        ("exchange", long(message.exchange())),
    ];
    for (what, value) in facts {
        let first = format!("x-first-death-{what}");
        if headers.get(&first).is_none() {
            headers.insert(name(&first), value.clone());
        }
        headers.insert(name(&format!("x-last-death-{what}")), value);
    }
    if letter.count > 0 {
        headers.insert(name("x-delivery-count"), Value::I64(i64::from(letter.count)));
    }
    deaths
}

/// Whether the message died in this queue before, with no rejection since.
fn is_cycle(queue: &Arc<str>, deaths: &[Value]) -> bool {
    let field = |death: &Value, what: &str| {
        death.as_table().and_then(|t| t.get(what)).and_then(Value::as_bytes).map(<[u8]>::to_vec)
    };
    let Some(at) = deaths.iter().position(|d| field(d, "queue").as_deref() == Some(queue.as_bytes())) else {
        return false;
    };
    deaths[..=at].iter().all(|d| field(d, "reason").as_deref() != Some(b"rejected"))
}
