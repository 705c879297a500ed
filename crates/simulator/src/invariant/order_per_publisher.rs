//! One consumer gets the messages of one session of a publisher in their order, but for what is flagged.

use std::collections::BTreeMap;

use broker::{ConnectionId, QueueId};

use super::Id;

/// The last that was fresh, by queue, consumer and session.
#[derive(Debug, Default)]
pub(super) struct OrderPerPublisher(BTreeMap<(QueueId, ConnectionId, u32), u32>);

impl OrderPerPublisher {
    pub(super) fn fresh(&mut self, queue: QueueId, consumer: ConnectionId, id: Id) -> Result<(), String> {
        let last = self.0.entry((queue, consumer, id.session)).or_default();
        if id.number <= *last {
            return Err(format!("order per publisher: {id:?} of {queue:?} comes fresh after {last}"));
        }
        *last = id.number;
        Ok(())
    }
}
