//! What a queue's leader writes in one round, as its mirrors get it: the batch of the store, and the
//! publishers' sessions that it has changed.
//!
//! ```text
//! u32 bytes of the batch | batch | u32 sessions | each: u64 id, u64 last, u32 refused, u64 number ..
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use store::{Batch, Seq};

use crate::id::ConnectionId;
use crate::mutant::{Mutant, breaks};
use crate::queue::Session;

/// The sessions of a queue's publishers, by agent.
pub type Sessions = BTreeMap<ConnectionId, Session>;

/// An operation as it travels.
#[must_use]
pub fn encode(batch: &[u8], sessions: &Sessions) -> Bytes {
    let mut out = Vec::with_capacity(batch.len() + 8 + sessions.len() * 24);
    out.extend_from_slice(&u32::try_from(batch.len()).expect("a batch is below 4 GiB").to_le_bytes());
    out.extend_from_slice(batch);
    encode_sessions(&mut out, sessions);
    out.into()
}

/// Appends sessions.
pub(crate) fn encode_sessions(out: &mut Vec<u8>, sessions: &Sessions) {
    out.extend_from_slice(&u32::try_from(sessions.len()).expect("fewer than 2^32 agents").to_le_bytes());
    for (id, session) in sessions {
        out.extend_from_slice(&id.0.to_le_bytes());
        out.extend_from_slice(&session.last.to_le_bytes());
        let refused = if breaks(Mutant::ForgetRefused) { &BTreeSet::new() } else { &session.refused };
        let count = u32::try_from(refused.len()).expect("fewer than 2^32 numbers");
        out.extend_from_slice(&count.to_le_bytes());
        for number in refused {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Reads an operation. `None`: it is none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Batch, Sessions)> {
    let (batch, sessions) = split(bytes)?;
    Some((Batch::decode(batch)?, sessions))
}

fn split(bytes: &[u8]) -> Option<(&[u8], Sessions)> {
    let (len, rest) = number32(bytes)?;
    let (batch, rest) = rest.split_at_checked(len as usize)?;
    let (sessions, rest) = decode_sessions(rest)?;
    rest.is_empty().then_some((batch, sessions))
}

/// The same operation that tells no sessions, and those that it told. `None`: it is none.
#[must_use]
pub(super) fn without_sessions(operation: &Bytes) -> Option<(Bytes, Sessions)> {
    let (batch, sessions) = split(operation)?;
    let silent = if sessions.is_empty() { operation.clone() } else { encode(batch, &Sessions::new()) };
    Some((silent, sessions))
}

pub(crate) fn decode_sessions(bytes: &[u8]) -> Option<(Sessions, &[u8])> {
    let (count, mut rest) = number32(bytes)?;
    let mut sessions = Sessions::new();
    for _ in 0..count {
        let (id, after) = number64(rest)?;
        let (last, after) = number64(after)?;
        let (refused, after) = number32(after)?;
        rest = after;
        let mut session = Session { last, ..Session::default() };
        for _ in 0..refused {
            let (number, after) = number64(rest)?;
            rest = after;
            session.refused.insert(number);
        }
        sessions.insert(ConnectionId(id), session);
    }
    Some((sessions, rest))
}

pub(crate) fn number32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), rest))
}

pub(crate) fn number64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*head), rest))
}

/// Which messages a batch takes away, by level of the queue.
pub(crate) fn removals(batch: &Batch, mut each: impl FnMut(u8, Seq, Seq)) {
    batch.removals(|key, first, last| {
        if let (_, Some(level)) = crate::queue::key_owner(key) {
            each(level, first, last);
        }
    });
}
