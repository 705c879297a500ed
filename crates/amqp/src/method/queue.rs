//! Class queue, 50. Making, deleting, binding and emptying queues.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::field::Table;
use crate::short_str::ShortStr;

class! {
    /// Makes a queue, or checks that it is as described.
    Declare = (50, 10) "queue.declare" [u16] {
        /// Its name; empty for one that the server chooses.
        queue: ShortStr,
        /// Only check that it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Belongs to this connection and goes with it.
        exclusive: bool,
        /// Goes with its last consumer.
        auto_delete: bool,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings, `x-message-ttl` and so on.
        arguments: Table,
    }

    /// The queue is there.
    DeclareOk = (50, 11) "queue.declare-ok" {
        /// Its name.
        queue: ShortStr,
        /// Messages that are ready.
        message_count: u32,
        /// Consumers.
        consumer_count: u32,
    }

    /// Binds a queue to an exchange.
    Bind = (50, 20) "queue.bind" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// The exchange.
        exchange: ShortStr,
        /// The binding key.
        routing_key: ShortStr,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings.
        arguments: Table,
    }

    /// The binding is there.
    BindOk = (50, 21) "queue.bind-ok" {}

    /// Deletes all messages that are ready.
    Purge = (50, 30) "queue.purge" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// No answer is wanted.
        no_wait: bool,
    }

    /// The queue is empty.
    PurgeOk = (50, 31) "queue.purge-ok" {
        /// How many messages were deleted.
        message_count: u32,
    }

    /// Deletes a queue.
    Delete = (50, 40) "queue.delete" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// Only if it has no consumers.
        if_unused: bool,
        /// Only if it has no messages.
        if_empty: bool,
        /// No answer is wanted.
        no_wait: bool,
    }

    /// The queue is gone.
    DeleteOk = (50, 41) "queue.delete-ok" {
        /// How many messages went with it.
        message_count: u32,
    }

    /// Takes a binding away.
    Unbind = (50, 50) "queue.unbind" [u16] {
        /// The queue; empty for the last one declared on the channel.
        queue: ShortStr,
        /// The exchange.
        exchange: ShortStr,
        /// The binding key.
        routing_key: ShortStr,
        /// Further settings.
        arguments: Table,
    }

    /// The binding is gone.
    UnbindOk = (50, 51) "queue.unbind-ok" {}
}
