//! Nothing comes out of a queue that nobody has published to it.

use broker::QueueId;

use super::Id;

pub(super) fn complaint(queue: QueueId, id: Id) -> String {
    format!("no phantom: nobody has published {id:?} to {queue:?}")
}
