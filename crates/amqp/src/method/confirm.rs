//! Class confirm, 85. RabbitMQ: publisher confirms.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

class! {
    /// Puts the channel into confirm mode.
    Select = (85, 10) "confirm.select" {
        /// No answer is wanted.
        no_wait: bool,
    }

    /// The channel is in confirm mode.
    SelectOk = (85, 11) "confirm.select-ok" {}
}
