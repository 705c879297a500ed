//! What replicas of a queue say to each other beside the ring.
//!
//! ```text
//!   mirror                                  leader
//!     | -- Wants(what it holds) ------------> |   snapshot of its own, then on one stream:
//!     | <------------ Step 1: removals ------ |
//!     | <------------ Step 2: operation ----- |   operations as they happen
//!     | <------------ Step 3: backlog ------- |   what it lacks, in between
//!     | -- Has(3) --------------------------> |   stored up to there
//!     | <------------ Welcome --------------- |   its seat in the view, and the ring's handover
//! ```

use bytes::{Buf, Bytes};
use store::Seq;

use super::operation::{Sessions, decode_sessions, encode_sessions};
use super::runs::Runs;

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A packet of the ring.
    Ring(Bytes),
    /// The sender wants a copy; what it holds by level. `feed` names this attempt.
    Wants { feed: u64, epoch: u64, holds: Vec<(u8, Runs)> },
    /// The next thing to store: a batch with its sessions ([`super::operation`]).
    Step { feed: u64, number: u64, operation: Bytes },
    /// The sender has stored all steps up to this one.
    Has { feed: u64, number: u64 },
    /// The sender's seat is in the view: this and all steps before make it a member of the ring.
    Welcome { feed: u64, after: u64, sessions: Sessions, handover: Bytes },
    /// The leader knows nothing of this feed: the mirror has to ask again.
    Stale { feed: u64 },
    /// How far is the receiver? Answered by `Progress`.
    Probe { number: u64 },
    /// The sender has stored the leader's publications up to this number.
    Progress { number: u64 },
    /// The sender has taken its place in the ring only now: what was sent to it before may be lost.
    Relink,
    /// The queue's leader should start or stop sending the backlog to mirrors.
    Synchronize { start: bool },
    /// The queue's leader should hand over to this node.
    Yield { to: u64 },
    /// What the receiver's old copy holds and the leader's lineage never had, by level: it is put back
    /// before the receiver is fed.
    Missed { feed: u64, runs: Vec<(u8, Runs)> },
}

impl Packet {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes());
        match self {
            Packet::Ring(bytes) => {
                out.push(0);
                out.extend_from_slice(bytes);
            }
            Packet::Wants { feed, epoch, holds } => {
                out.push(1);
                number(out, *feed);
                number(out, *epoch);
                out.push(u8::try_from(holds.len().saturating_sub(1)).unwrap_or(u8::MAX));
                encode_levels(out, holds);
            }
            Packet::Step { feed, number: step, operation } => {
                out.reserve(operation.len() + 17);
                out.push(2);
                number(out, *feed);
                number(out, *step);
                out.extend_from_slice(operation);
            }
            Packet::Has { feed, number: step } => {
                out.push(3);
                number(out, *feed);
                number(out, *step);
            }
            Packet::Welcome { feed, after, sessions, handover } => {
                out.push(4);
                number(out, *feed);
                number(out, *after);
                encode_sessions(out, sessions);
                out.extend_from_slice(handover);
            }
            Packet::Stale { feed } => {
                out.push(5);
                number(out, *feed);
            }
            Packet::Probe { number: at } => {
                out.push(6);
                number(out, *at);
            }
            Packet::Progress { number: at } => {
                out.push(7);
                number(out, *at);
            }
            Packet::Relink => out.push(9),
            Packet::Synchronize { start } => out.push(10 + u8::from(*start)),
            Packet::Yield { to } => {
                out.push(8);
                number(out, *to);
            }
            Packet::Missed { feed, runs } => {
                out.push(12);
                number(out, *feed);
                number(out, runs.len() as u64);
                encode_levels(out, runs);
            }
        }
    }

    /// Reads them back. `None`: they are no packet of this version.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Packet> {
        let kind = byte(&mut bytes)?;
        if kind == 0 {
            return Some(Packet::Ring(bytes));
        }
        if kind == 9 {
            return bytes.is_empty().then_some(Packet::Relink);
        }
        if kind == 10 || kind == 11 {
            return bytes.is_empty().then_some(Packet::Synchronize { start: kind == 11 });
        }
        let first = number(&mut bytes)?;
        let packet = match kind {
            1 => {
                let epoch = number(&mut bytes)?;
                let levels = u16::from(byte(&mut bytes)?) + 1;
                let holds = decode_levels(&mut bytes, u64::from(levels))?;
                Packet::Wants { feed: first, epoch, holds }
            }
            2 => {
                let number = number(&mut bytes)?;
                return Some(Packet::Step { feed: first, number, operation: bytes });
            }
            3 => Packet::Has { feed: first, number: number(&mut bytes)? },
            4 => {
                let after = number(&mut bytes)?;
                let (sessions, rest) = decode_sessions(&bytes)?;
                let handover = bytes.slice(bytes.len() - rest.len()..);
                return Some(Packet::Welcome { feed: first, after, sessions, handover });
            }
            5 => Packet::Stale { feed: first },
            6 => Packet::Probe { number: first },
            7 => Packet::Progress { number: first },
            8 => Packet::Yield { to: first },
            12 => {
                let levels = number(&mut bytes)?;
                Packet::Missed { feed: first, runs: decode_levels(&mut bytes, levels)? }
            }
            _ => return None,
        };
        bytes.is_empty().then_some(packet)
    }
}

fn encode_levels(out: &mut Vec<u8>, levels: &[(u8, Runs)]) {
    for (level, runs) in levels {
        out.push(*level);
        out.extend_from_slice(&(runs.iter().count() as u64).to_le_bytes());
        for (first, last) in runs.iter() {
            out.extend_from_slice(&first.0.to_le_bytes());
            out.extend_from_slice(&last.0.to_le_bytes());
        }
    }
}

fn decode_levels(bytes: &mut Bytes, levels: u64) -> Option<Vec<(u8, Runs)>> {
    let mut decoded = Vec::new();
    for _ in 0..levels {
        let level = byte(bytes)?;
        let count = number(bytes)?;
        if count > bytes.len() as u64 / 16 {
            return None;
        }
        let mut runs = Vec::new();
        for _ in 0..count {
            runs.push((Seq(number(bytes)?), Seq(number(bytes)?)));
        }
        decoded.push((level, Runs::new(runs)));
    }
    Some(decoded)
}

fn byte(bytes: &mut Bytes) -> Option<u8> {
    let value = *bytes.first()?;
    bytes.advance(1);
    Some(value)
}

fn number(bytes: &mut Bytes) -> Option<u64> {
    let value = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    bytes.advance(8);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_as_they_went_and_damage_is_refused() {
        let runs = Runs::new([(Seq(1), Seq(9)), (Seq(20), Seq(20))]);
        let session = crate::queue::Session { last: 7, refused: [3, 4].into() };
        let sessions = Sessions::from([(crate::id::ConnectionId(5), session)]);
        let packets = [
            Packet::Ring(Bytes::from_static(b"ring")),
            Packet::Wants { feed: 1, epoch: 2, holds: vec![(0, runs.clone()), (3, Runs::default())] },
            Packet::Missed { feed: 1, runs: vec![(0, runs), (3, Runs::default())] },
            Packet::Missed { feed: 1, runs: Vec::new() },
            Packet::Step { feed: 1, number: 2, operation: Bytes::from_static(b"op") },
            Packet::Has { feed: 1, number: 2 },
            Packet::Welcome { feed: 1, after: 9, sessions, handover: Bytes::from_static(b"handover") },
            Packet::Stale { feed: 4 },
            Packet::Probe { number: 8 },
            Packet::Progress { number: 8 },
            Packet::Yield { to: 3 },
            Packet::Relink,
            Packet::Synchronize { start: true },
        ];
        for packet in packets {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            for cut in 0..bytes.len().min(30) {
                let _ = Packet::decode(Bytes::copy_from_slice(&bytes[..cut]));
            }
            assert_eq!(Packet::decode(bytes.into()), Some(packet));
        }
    }
}
