//! Names that the broker draws: queues and consumer tags.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::queue::ChannelKey;

/// A name with 22 characters behind its prefix, as RabbitMQ's. Unique because the connection id is,
/// and hard to guess because of the connection's secret.
pub(crate) fn drawn(prefix: &str, secret: u64, key: ChannelKey, count: u64) -> String {
    let seed = secret ^ (u64::from(key.life) << 40) ^ (u64::from(key.number) << 24) ^ count;
    let mut rng = stdx::Rng::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ key.connection.0);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng.next().to_be_bytes());
    bytes[8..].copy_from_slice(&rng.next().to_be_bytes());
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}
