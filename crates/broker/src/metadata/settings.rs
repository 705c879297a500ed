//! A queue's arguments and policies, merged into what its machine obeys.
//!
//! Of two numbers the smaller holds. For the rest the queue's argument comes before the policy. The
//! arguments have been checked when the queue was declared, the policies when they were set; a value
//! of a wrong type here counts as absent.

use std::time::Duration;

use amqp::{Table, Value};

use crate::id::Name;
use crate::queue::{Overflow, Settings};

/// Merges; `policy` is the effective definition of both policies.
pub(super) fn settings(arguments: &Table, policy: &Table) -> Settings {
    let both = Both { arguments, policy };
    let text = |argument, key| both.first(argument, key).and_then(Value::as_bytes);
    Settings {
        message_ttl: both
            .least("x-message-ttl", "message-ttl")
            .map(Duration::from_millis),
        expires: both
            .least("x-expires", "expires")
            .map(Duration::from_millis),
        length_max: both.least("x-max-length", "max-length"),
        length_max_bytes: both.least("x-max-length-bytes", "max-length-bytes"),
        overflow: match text("x-overflow", "overflow") {
            Some(b"reject-publish") => Overflow::RejectPublish,
            Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
            _ => Overflow::DropHead,
        },
        dead_letter_exchange: text("x-dead-letter-exchange", "dead-letter-exchange")
            .map(|name| Name::from(String::from_utf8_lossy(name))),
        dead_letter_routing_key: text("x-dead-letter-routing-key", "dead-letter-routing-key")
            .map(<[u8]>::to_vec),
        priority_max: arguments
            .get("x-max-priority")
            .and_then(Value::as_i64)
            .and_then(|levels| u8::try_from(levels).ok()),
        single_active_consumer: arguments
            .get("x-single-active-consumer")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        delivery_limit: both
            .least("x-delivery-limit", "delivery-limit")
            .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        consumer_timeout: both
            .least("x-consumer-timeout", "consumer-timeout")
            .map(Duration::from_millis),
        lazy: text("x-queue-mode", "queue-mode") == Some(b"lazy"),
    }
}

struct Both<'a> {
    arguments: &'a Table,
    policy: &'a Table,
}

impl<'a> Both<'a> {
    fn first(&self, argument: &str, key: &str) -> Option<&'a Value> {
        self.arguments
            .get(argument)
            .or_else(|| self.policy.get(key))
    }

    fn least(&self, argument: &str, key: &str) -> Option<u64> {
        let number = |value: Option<&Value>| value?.as_i64().and_then(|n| u64::try_from(n).ok());
        let numbers = [
            number(self.arguments.get(argument)),
            number(self.policy.get(key)),
        ];
        numbers.into_iter().flatten().min()
    }
}
