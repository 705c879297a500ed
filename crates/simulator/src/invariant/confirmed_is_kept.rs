//! What is confirmed is in the store of every seat of the newest view until a client acknowledges it, and comes
//! out in the end. So nothing but what was never confirmed is ever truncated.

use std::collections::{BTreeMap, BTreeSet};

use broker::QueueId;
use broker::message::Message as Stored;
use bytes::Bytes;
use cluster::metadata_log::NodeId;
use store::Seq;

use super::{Id, Message};

pub(super) fn check_seat(node: NodeId, queue: QueueId, kept: &BTreeSet<Id>, contents: &[(Seq, Bytes)]) -> Result<(), String> {
    // Eight bytes of expiry, then the message.
    let id = |bytes: &Bytes| Id::of(Stored::from_bytes(bytes.get(8..)?).ok()?.body());
    let held: BTreeSet<Id> = contents.iter().filter_map(|(_, bytes)| id(bytes)).collect();
    match kept.difference(&held).next() {
        Some(lost) => Err(format!(
            "confirmed is kept: seat {node} of {queue:?} lacks {lost:?} and {} others of {}",
            kept.difference(&held).count() - 1,
            kept.len()
        )),
        None => Ok(()),
    }
}

/// What is confirmed and nobody has acknowledged.
pub(super) fn missing(kept: &BTreeMap<QueueId, BTreeSet<Id>>, messages: &BTreeMap<(QueueId, Id), Message>) -> String {
    let of = |(queue, ids): (&QueueId, &BTreeSet<Id>)| {
        let first: Vec<String> =
            ids.iter().take(10).map(|id| format!("{id:?} seen {}", messages[&(*queue, *id)].seen)).collect();
        (!ids.is_empty()).then(|| format!("confirmed is kept: {} of {queue:?} did not come: {}", ids.len(), first.join(", ")))
    };
    kept.iter().filter_map(of).collect::<Vec<_>>().join("; ")
}
