//! What a queue obeys: its arguments and policies, merged and typed.

use std::time::Duration;

use crate::id::Name;

/// Effective settings of a queue. Made by the metadata when a queue is declared or a policy changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `x-message-ttl` / `message-ttl`.
    pub message_ttl: Option<Duration>,
    /// `x-expires` / `expires`.
    pub expires: Option<Duration>,
    /// `x-max-length` / `max-length`: ready messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes` / `max-length-bytes`: ready bytes.
    pub length_max_bytes: Option<u64>,
    pub overflow: Overflow,
    /// `x-dead-letter-exchange` / `dead-letter-exchange`.
    pub dead_letter_exchange: Option<Name>,
    /// `x-dead-letter-routing-key` / `dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Vec<u8>>,
    /// `x-max-priority`: levels 0 to this; `None` is an ordinary queue.
    pub priority_max: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit` / `delivery-limit`: returns after which a message is dead-lettered.
    pub delivery_limit: Option<u32>,
    /// `x-consumer-timeout` / `consumer-timeout`; the node's default when absent.
    pub consumer_timeout: Option<Duration>,
    /// `x-queue-mode` lazy: shown, and pages out at once.
    pub lazy: bool,
}

/// What a full queue does with a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}
