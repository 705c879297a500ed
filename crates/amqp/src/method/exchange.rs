//! Class exchange, 40. Making, deleting and binding exchanges.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::field::Table;
use crate::short_str::ShortStr;

class! {
    /// Makes an exchange, or checks that it is as described.
    Declare = (40, 10) "exchange.declare" [u16] {
        /// Its name.
        exchange: ShortStr,
        /// Its type: `direct`, `fanout`, `topic`, `headers`, or of a plugin.
        kind: ShortStr,
        /// Only check that it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Goes with its last binding.
        auto_delete: bool,
        /// Cannot be published to.
        internal: bool,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings.
        arguments: Table,
    }

    /// The exchange is there.
    DeclareOk = (40, 11) "exchange.declare-ok" {}

    /// Deletes an exchange.
    Delete = (40, 20) "exchange.delete" [u16] {
        /// Its name.
        exchange: ShortStr,
        /// Only if it has no bindings.
        if_unused: bool,
        /// No answer is wanted.
        no_wait: bool,
    }

    /// The exchange is gone.
    DeleteOk = (40, 21) "exchange.delete-ok" {}

    /// RabbitMQ: binds an exchange to an exchange.
    Bind = (40, 30) "exchange.bind" [u16] {
        /// The exchange that receives.
        destination: ShortStr,
        /// The exchange that gives.
        source: ShortStr,
        /// The binding key.
        routing_key: ShortStr,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings.
        arguments: Table,
    }

    /// The binding is there.
    BindOk = (40, 31) "exchange.bind-ok" {}

    /// RabbitMQ: takes a binding between exchanges away.
    Unbind = (40, 40) "exchange.unbind" [u16] {
        /// The exchange that receives.
        destination: ShortStr,
        /// The exchange that gives.
        source: ShortStr,
        /// The binding key.
        routing_key: ShortStr,
        /// No answer is wanted.
        no_wait: bool,
        /// Further settings.
        arguments: Table,
    }

    /// The binding is gone. The id is 51, not 41, in RabbitMQ's protocol too.
    UnbindOk = (40, 51) "exchange.unbind-ok" {}
}
