//! Class channel, 20. Opening, pausing and closing a channel.
//!
//! Each declaration lists the arguments in the order they travel; `method.rs` says how it is read.

use crate::short_str::ShortStr;

class! {
    /// Opens the channel it is sent on.
    Open = (20, 10) "channel.open" {} [ShortStr]

    /// The channel is open.
    OpenOk = (20, 11) "channel.open-ok" {} [Vec<u8>]

    /// Pauses or resumes the deliveries of the peer.
    Flow = (20, 20) "channel.flow" {
        /// Whether the peer may send.
        active: bool,
    }

    /// The answer to `flow`.
    FlowOk = (20, 21) "channel.flow-ok" {
        /// Whether the peer will send.
        active: bool,
    }

    /// Ends the channel; either side may send it.
    Close = (20, 40) "channel.close" {
        /// Why, as a number.
        reply_code: u16,
        /// Why, in words.
        reply_text: ShortStr,
        /// Class of the method at fault, or 0.
        class_id: u16,
        /// Method at fault, or 0.
        method_id: u16,
    }

    /// The answer to `close`.
    CloseOk = (20, 41) "channel.close-ok" {}
}
