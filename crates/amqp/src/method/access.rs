//! Class access, 30. Access tickets, a leftover of AMQP 0-8 that old clients still ask for.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::short_str::ShortStr;

class! {
    /// Asks for a ticket.
    Request = (30, 10) "access.request" {
        /// What the ticket is for.
        realm: ShortStr,
        /// For nobody else.
        exclusive: bool,
        /// To ask about things.
        passive: bool,
        /// To make things.
        active: bool,
        /// To publish.
        write: bool,
        /// To consume.
        read: bool,
    }

    /// The ticket.
    RequestOk = (30, 11) "access.request-ok" {
        /// Its number; nothing ever looks at it.
        ticket: u16,
    }
}
