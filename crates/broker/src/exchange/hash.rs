//! Consistent-hash exchanges: one target per message, the same for the same key.
//!
//! Every binding draws a lot from the message's key and its own identity, and the best lot wins. The
//! binding key is its weight: a binding of weight 2 wins twice as often as one of weight 1. This is
//! weighted rendezvous hashing: adding a binding takes messages only to it, removing one takes only
//! its own messages away, and nothing depends on the order in which bindings came.

use std::sync::Arc;

use amqp::{Table, Value};
use rpds::RedBlackTreeMapSync;

use super::{Found, Routing, Target};
use crate::metadata::{Binding, Destination};

/// Exchange argument: hash this header instead of the routing key.
pub(super) const HASH_HEADER: &str = "hash-header";
/// Exchange argument: hash this property instead of the routing key.
pub(super) const HASH_PROPERTY: &str = "hash-property";
/// The properties that may be hashed.
pub(super) const HASH_PROPERTIES: [&str; 3] = ["correlation_id", "message_id", "timestamp"];

/// Lots by binding, and what is hashed.
#[derive(Clone, Debug)]
pub(super) struct Index {
    on: On,
    lots: RedBlackTreeMapSync<Arc<Binding>, Lot>,
}

#[derive(Clone, Debug)]
enum On {
    RoutingKey,
    Header(Arc<str>),
    CorrelationId,
    MessageId,
    Timestamp,
}

#[derive(Clone, Debug)]
struct Lot {
    seed: u64,
    weight: u32,
    target: Target,
}

/// Reads a binding key as a weight: an integer greater than 0; larger than 32 bits counts as the
/// largest.
pub(super) fn weight(key: &[u8]) -> Option<i64> {
    let text = str::from_utf8(key).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<u32>().unwrap_or(u32::MAX);
    Some(if text.starts_with('-') {
        -i64::from(size)
    } else {
        size.into()
    })
}

impl Index {
    pub(super) fn new(arguments: &Table) -> Index {
        let text = |name| arguments.get(name).and_then(Value::as_str);
        let on = match (text(HASH_HEADER), text(HASH_PROPERTY)) {
            (Some(header), _) => On::Header(header.into()),
            (None, Some("correlation_id")) => On::CorrelationId,
            (None, Some("message_id")) => On::MessageId,
            (None, Some("timestamp")) => On::Timestamp,
            _ => On::RoutingKey,
        };
        Index {
            on,
            lots: RedBlackTreeMapSync::default(),
        }
    }

    pub(super) fn add(&mut self, binding: &Arc<Binding>, target: Target) {
        let weight = weight(&binding.routing_key).unwrap_or(1);
        let lot = Lot {
            seed: seed(binding),
            weight: u32::try_from(weight).unwrap_or(1),
            target,
        };
        self.lots.insert_mut(Arc::clone(binding), lot);
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>) {
        self.lots.remove_mut(binding);
    }

    pub(super) fn find<'a>(&'a self, routing: &Routing<'_>, found: &mut Found<'a>) {
        let key = self.on.hash(routing);
        let mut lots = self.lots.values();
        let Some(mut best) = lots.next() else {
            return;
        };
        let mut best_draw = mix(key ^ best.seed);
        for lot in lots {
            let draw = mix(key ^ lot.seed);
            if beats(draw, lot.weight, best_draw, best.weight) {
                (best, best_draw) = (lot, draw);
            }
        }
        found.push(&best.target);
    }
}

/// Compares `-ln(u) / weight` for the uniform numbers `u` that the draws stand for: smaller wins.
fn beats(draw: u64, weight: u32, best_draw: u64, best_weight: u32) -> bool {
    if weight == best_weight {
        return draw > best_draw;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a uniform number needs no more digits"
    )]
    let score = |draw: u64, weight: u32| {
        let uniform = ((draw >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(weight)
    };
    score(draw, weight) < score(best_draw, best_weight)
}

impl On {
    fn hash(&self, routing: &Routing<'_>) -> u64 {
        let properties = routing.properties;
        match self {
            On::RoutingKey => bytes(routing.keys.first().copied().unwrap_or_default()),
            On::CorrelationId => bytes(properties.correlation_id().unwrap_or_default()),
            On::MessageId => bytes(properties.message_id().unwrap_or_default()),
            On::Timestamp => properties.timestamp().map_or(bytes(b""), mix),
            On::Header(name) => match properties.headers().and_then(|headers| headers.get(name)) {
                Some(value) => hash_value(&value),
                None => bytes(b""),
            },
        }
    }
}

/// Equal values hash equally whatever the width of an integer.
fn hash_value(value: &Value) -> u64 {
    match value {
        Value::LongStr(text) | Value::Binary(text) => bytes(text),
        other => match other.as_i64() {
            Some(number) => mix(number.cast_unsigned()),
            None => {
                let mut encoded = Vec::new();
                Table::new().with("", other.clone()).encode(&mut encoded);
                bytes(&encoded)
            }
        },
    }
}

/// What tells bindings apart: the far end and the arguments. The weight is left out, so that a binding
/// that only changes its weight keeps the keys it can.
fn seed(binding: &Binding) -> u64 {
    let (kind, name) = match &binding.destination {
        Destination::Queue(name) => (1, name),
        Destination::Exchange(name) => (2, name),
    };
    let mut arguments = Vec::new();
    binding.arguments.encode(&mut arguments);
    mix(bytes(name.as_bytes()) ^ mix(kind) ^ mix(bytes(&arguments)).rotate_left(1))
}

/// FNV-1a. The function is part of the contract: nodes and versions must agree on it.
fn bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    stdx::Rng::new(value).next()
}
