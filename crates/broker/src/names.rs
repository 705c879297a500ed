//! Names that the broker draws: queues and consumer tags.
//!
//! A name tells nothing about the connection's secret, and nobody who knows some names can tell others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::queue::ChannelKey;

/// 16 bytes that only who knows the secret can tell, each `purpose` and `count` its own.
pub(crate) fn keyed(purpose: &str, secret: u64, key: ChannelKey, count: u64) -> [u8; 16] {
    let mut hash = Sha256::new();
    for number in [secret, key.connection.0, u64::from(key.number), u64::from(key.life), count] {
        hash.update(number.to_be_bytes());
    }
    hash.update(purpose);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes
}

/// A name with 22 characters behind its prefix, as RabbitMQ's. `count` is another one for each name of
/// a channel.
pub(crate) fn drawn(prefix: &str, secret: u64, key: ChannelKey, count: u64) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(keyed(prefix, secret, key, count)))
}
