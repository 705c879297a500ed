//! What two machines of membership say to each other, and its bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut};

use crate::metadata_log::NodeId;

const PING: u8 = 1;
const PONG: u8 = 2;
const ROUND_BYTES: usize = 8;
const NODE_BYTES: usize = 8;

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Are you there, and do I have a lease?
    Ping {
        /// Which ping of this sender; no number is used twice, in whatever life.
        round: u64,
        /// The peers whose answers reach the sender.
        hears: BTreeSet<NodeId>,
    },
    /// The answer.
    Pong {
        /// That of the ping.
        round: u64,
        /// How long the lease is that the answer grants, counted by its holder from when the ping
        /// was sent. Zero: none.
        lease: Duration,
    },
}

/// Bytes that are neither ping nor pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("heartbeat of kind {kind} with {bytes} bytes is not understood")]
pub struct PacketError {
    /// Its first byte, zero if there is none.
    pub kind: u8,
    /// Its length.
    pub bytes: usize,
}

impl Packet {
    /// Its bytes.
    ///
    /// # Panics
    /// When more than 65,535 peers are heard, or a lease has more than 49 days.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Packet::Ping { round, hears } => {
                bytes.reserve(1 + ROUND_BYTES + 2 + hears.len() * NODE_BYTES);
                bytes.put_u8(PING);
                bytes.put_u64_le(*round);
                bytes.put_u16_le(u16::try_from(hears.len()).expect("a cluster has fewer nodes"));
                for node in hears {
                    bytes.put_u64_le(node.0);
                }
            }
            Packet::Pong { round, lease } => {
                bytes.put_u8(PONG);
                bytes.put_u64_le(*round);
                bytes.put_u32_le(u32::try_from(lease.as_millis()).expect("a lease is short"));
            }
        }
        bytes
    }

    /// Reads what [`Packet::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Packet, PacketError> {
        let kind = bytes.first().copied().unwrap_or_default();
        let error = PacketError {
            kind,
            bytes: bytes.len(),
        };
        let mut rest = bytes.get(1..).ok_or(error)?;
        let round = rest.try_get_u64_le().map_err(|_| error)?;
        match kind {
            PING => {
                let count = usize::from(rest.try_get_u16_le().map_err(|_| error)?);
                let (nodes, rest) = rest.as_chunks::<NODE_BYTES>();
                if nodes.len() != count || !rest.is_empty() {
                    return Err(error);
                }
                let hears = nodes.iter().map(|node| NodeId(u64::from_le_bytes(*node)));
                Ok(Packet::Ping {
                    round,
                    hears: hears.collect(),
                })
            }
            PONG => {
                let lease = Duration::from_millis(rest.try_get_u32_le().map_err(|_| error)?.into());
                if !rest.is_empty() {
                    return Err(error);
                }
                Ok(Packet::Pong { round, lease })
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_documented() {
        let ping = Packet::Ping {
            round: 0x0102,
            hears: [NodeId(3), NodeId(9)].into(),
        };
        let pong = Packet::Pong {
            round: 7,
            lease: Duration::from_millis(2000),
        };
        let ping_bytes = [
            &[1, 2, 1, 0, 0, 0, 0, 0, 0, 2, 0][..],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let pong_bytes = [2, 7, 0, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0];
        assert_eq!(ping.encode(), ping_bytes);
        assert_eq!(pong.encode(), pong_bytes);
        assert_eq!(Packet::decode(&ping_bytes), Ok(ping));
        assert_eq!(Packet::decode(&pong_bytes), Ok(pong));
        for whole in [&ping_bytes[..], &pong_bytes] {
            let longer = [whole, &[0]].concat();
            for damaged in (0..whole.len())
                .map(|end| &whole[..end])
                .chain([&longer[..]])
            {
                let error = Packet::decode(damaged).unwrap_err();
                assert_eq!(error.bytes, damaged.len());
            }
        }
        assert_eq!(
            Packet::decode(&[9; 13]).unwrap_err().to_string(),
            "heartbeat of kind 9 with 13 bytes is not understood"
        );
    }
}
