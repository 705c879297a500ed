//! A client is never told "fresh" for a message that somebody has seen: no leader says so, and none of a
//! consumer's copies is fresh but the first. What one consumer is sent may come later than what another one is
//! sent after it.

use broker::{ConnectionId, QueueId};
use cluster::metadata_log::NodeId;
use store::Seq;

use super::{Id, Message};

pub(super) fn check_sent(seen: u32, node: NodeId, queue: QueueId, id: Id) -> Result<(), String> {
    if seen > 0 {
        return Err(format!("no unflagged duplicate: {node} says that {id:?} of {queue:?} is fresh, after {seen} deliveries"));
    }
    Ok(())
}

pub(super) fn check(
    before: &Message,
    queue: QueueId,
    consumer: ConnectionId,
    id: Id,
    seq: Seq,
    redelivered: bool,
) -> Result<(), String> {
    if !redelivered && before.consumer == Some(consumer) {
        return Err(format!(
            "no unflagged duplicate: {id:?} of {queue:?} comes as {:x} and is said to be fresh, after {} deliveries, acked: {}",
            seq.0, before.seen, before.acked
        ));
    }
    Ok(())
}
