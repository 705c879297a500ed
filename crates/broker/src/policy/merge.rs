//! What is in force where a policy and an operator policy meet: the union of both, and for a setting
//! that both have, a rule per setting.

use std::collections::BTreeMap;

use amqp::{ShortStr, Table, Value};

/// Merges a policy's definition with an operator policy's. The result is sorted by name.
#[must_use]
pub fn merge(user: &Table, operator: &Table) -> Table {
    let mut merged: BTreeMap<&ShortStr, Value> = user
        .iter()
        .map(|(key, value)| (key, value.clone()))
        .collect();
    for (key, value) in operator.iter() {
        let value = match merged.get(key) {
            Some(user) => merge_value(key.as_str().unwrap_or_default(), user, value),
            None => value.clone(),
        };
        merged.insert(key, value);
    }
    merged
        .into_iter()
        .map(|(key, value)| (key.clone(), value))
        .collect()
}

fn merge_value(key: &str, user: &Value, operator: &Value) -> Value {
    let winner = match key {
        "message-ttl"
        | "expires"
        | "max-length"
        | "max-length-bytes"
        | "max-in-memory-length"
        | "max-in-memory-bytes"
        | "delivery-limit"
        | "consumer-timeout" => smaller(user, operator),
        "ha-mode" => {
            let rank = |mode: &Value| match mode.as_str() {
                Some("all") => 2,
                Some("exactly") => 1,
                _ => 0,
            };
            if rank(user) > rank(operator) {
                user
            } else {
                operator
            }
        }
        "ha-params" => wider(user, operator),
        _ => operator,
    };
    winner.clone()
}

fn smaller<'a>(user: &'a Value, operator: &'a Value) -> &'a Value {
    match (user.as_i64(), operator.as_i64()) {
        (Some(u), Some(o)) if u < o => user,
        _ => operator,
    }
}

/// More copies: the larger number; a number before a list; the longer list.
fn wider<'a>(user: &'a Value, operator: &'a Value) -> &'a Value {
    match (user.as_i64(), operator.as_i64()) {
        (Some(u), Some(o)) => return if u > o { user } else { operator },
        (Some(_), None) => return user,
        (None, Some(_)) => return operator,
        (None, None) => {}
    }
    let len = |value: &Value| value.as_array().map_or(0, <[Value]>::len);
    if len(user) > len(operator) {
        user
    } else {
        operator
    }
}
