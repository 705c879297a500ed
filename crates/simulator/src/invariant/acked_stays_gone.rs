//! A message that was acknowledged, with its removal complete, never comes again.

use broker::QueueId;

use super::Id;

/// `all_gone`: everything was acknowledged and the cluster came to rest since.
pub(super) fn check(all_gone: bool, queue: QueueId, id: Id) -> Result<(), String> {
    if all_gone {
        return Err(format!("acked stays gone: {id:?} of {queue:?} comes again"));
    }
    Ok(())
}
