//! Direct reply-to: answers that go straight to the channel that asked, without a queue.
//!
//! The name that a request carries tells connection and channel and a proof that only the broker can
//! make, so that nobody can send to a channel that did not ask.

use amqp::ShortStr;

use crate::id::ConnectionId;
use crate::queue::ChannelKey;

/// What a client consumes from and puts into `reply_to`.
pub(crate) const NAME: &[u8] = b"amq.rabbitmq.reply-to";
const PREFIX: &[u8] = b"amq.rabbitmq.reply-to.";

/// Whether a routing key is such a name.
pub(crate) fn is_reply_name(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}

/// A number that only who knows the connection's secret can tell for a channel.
fn proof(key: ChannelKey, secret: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = crate::names::keyed("reply-to", secret, key, 0);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether `claimed` proves that the broker made the name for this channel.
#[must_use]
pub(crate) fn is_genuine(key: ChannelKey, claimed: u64, secret: u64) -> bool {
    proof(key, secret) == claimed
}

/// The name that replaces [`NAME`] in a request.
pub(crate) fn make_name(key: ChannelKey, secret: u64) -> Option<ShortStr> {
    let proof = proof(key, secret);
    let name = format!("amq.rabbitmq.reply-to.{:x}.{:x}.{:x}.{proof:016x}", key.connection.0, key.number, key.life);
    ShortStr::try_from(name).ok()
}

/// Takes a name apart: the channel, and what is claimed to be its proof.
pub(crate) fn read_name(name: &[u8]) -> Option<(ChannelKey, u64)> {
    let name = std::str::from_utf8(name.strip_prefix(PREFIX)?).ok()?;
    let mut parts = name.split('.');
    let mut part = || u64::from_str_radix(parts.next()?, 16).ok();
    let (connection, number, life, proof) = (part()?, part()?, part()?, part()?);
    let key = ChannelKey {
        connection: ConnectionId(connection),
        number: u16::try_from(number).ok()?,
        life: u32::try_from(life).ok()?,
    };
    Some((key, proof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_broker_can_make_a_name() {
        let key = ChannelKey { connection: ConnectionId(7), number: 3, life: 9 };
        let name = make_name(key, 42).expect("short");
        let (read, proof) = read_name(name.as_bytes()).expect("well formed");
        assert_eq!(read, key);
        assert!(is_genuine(read, proof, 42));
        assert!(!is_genuine(read, proof ^ 1, 42));
        assert!(!is_genuine(ChannelKey { number: 4, ..read }, proof, 42));
        assert_eq!(read_name(b"amq.rabbitmq.reply-to.zz"), None);
    }
}
