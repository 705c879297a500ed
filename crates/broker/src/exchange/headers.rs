//! Headers exchanges: the binding's arguments are compared with the message's headers.
//!
//! `x-match` says how: `all` (also when absent) or `any` of the arguments, leaving out those whose name
//! begins with `x-`; `all-with-x` and `any-with-x` leave out `x-match` alone. An argument without value
//! (void) asks only for presence. Values are equal as RabbitMQ compares them: numbers by value, the
//! rest by bytes.

use std::sync::Arc;

use amqp::{PropertiesView, ShortStr, Table, Value};
use rpds::RedBlackTreeMapSync;

use super::{Found, Target};
use crate::metadata::Binding;

/// The name of the argument that says how to match.
pub(super) const X_MATCH: &str = "x-match";
/// What it may say.
pub(super) const MODES: [&[u8]; 4] = [b"all", b"any", b"all-with-x", b"any-with-x"];

/// Rules by binding.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(RedBlackTreeMapSync<Arc<Binding>, Arc<Rule>>);

#[derive(Debug)]
struct Rule {
    any: bool,
    /// `None` asks for presence.
    wanted: Vec<(ShortStr, Option<Value>)>,
    target: Target,
}

impl Index {
    pub(super) fn add(&mut self, binding: &Arc<Binding>, target: Target) {
        let rule = Arc::new(Rule::new(&binding.arguments, target));
        self.0.insert_mut(Arc::clone(binding), rule);
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>) {
        self.0.remove_mut(binding);
    }

    pub(super) fn find<'a>(&'a self, properties: &PropertiesView<'_>, found: &mut Found<'a>) {
        let headers = match properties.headers() {
            Some(headers) if !self.0.is_empty() => headers.decode(),
            _ => Table::new(),
        };
        for rule in self.0.values() {
            if rule.matches(&headers) {
                found.push(&rule.target);
            }
        }
    }
}

impl Rule {
    fn new(arguments: &Table, target: Target) -> Rule {
        let (any, with_x) = match arguments.get(X_MATCH).and_then(Value::as_str) {
            Some("any") => (true, false),
            Some("any-with-x") => (true, true),
            Some("all-with-x") => (false, true),
            _ => (false, false),
        };
        let counts = |name: &ShortStr| {
            if with_x {
                *name != X_MATCH
            } else {
                !name.as_bytes().starts_with(b"x-")
            }
        };
        let wanted = arguments
            .iter()
            .filter(|(name, _)| counts(name))
            .map(|(name, value)| (name.clone(), (*value != Value::Void).then(|| value.clone())));
        Rule {
            any,
            wanted: wanted.collect(),
            target,
        }
    }

    fn matches(&self, headers: &Table) -> bool {
        let mut wanted = self.wanted.iter();
        let fits = |(name, value): &(ShortStr, Option<Value>)| {
            let found = headers.0.iter().find(|(n, _)| n == name);
            found.is_some_and(|(_, f)| value.as_ref().is_none_or(|value| same(value, f)))
        };
        if self.any {
            wanted.any(fits)
        } else {
            wanted.all(fits)
        }
    }
}

/// Whether two values are equal whatever the width of their numbers.
fn same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => return a == b,
        (None, None) => {}
        _ => return false,
    }
    match (a, b) {
        (Value::LongStr(a) | Value::Binary(a), Value::LongStr(b) | Value::Binary(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

#[derive(PartialEq)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn number(value: &Value) -> Option<Number> {
    match *value {
        Value::F32(n) => Some(float(n.into())),
        Value::F64(n) => Some(float(n)),
        Value::Timestamp(n) => Some(Number::Integer(n.into())),
        ref other => other.as_i64().map(|n| Number::Integer(n.into())),
    }
}

/// A float that holds a whole number equals that number.
fn float(n: f64) -> Number {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and in range, as checked"
    )]
    if n.fract() == 0.0 && n.abs() < 1e15 {
        Number::Integer(n as i128)
    } else {
        Number::Float(n)
    }
}
