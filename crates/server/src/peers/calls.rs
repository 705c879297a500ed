//! Questions to a peer and their answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cluster::metadata_log::NodeId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Peer, Peers};
use crate::wire::{self, Service};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("there is no link to the node")]
    Unreachable,
    #[error("the link to the node broke before it answered")]
    Lost,
}

#[derive(Default)]
pub(super) struct Calls {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, (NodeId, oneshot::Sender<Bytes>)>>,
}

/// Takes a question back when nobody waits for its answer any more.
struct Pending<'a> {
    calls: &'a Calls,
    call: u64,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.call);
    }
}

impl Calls {
    pub(super) fn answered(&self, call: u64, body: Bytes) {
        if let Some((_, waiting)) = self.waiting.lock().remove(&call) {
            let _ = waiting.send(body);
        }
    }

    /// The link to a peer broke: its answers will not come.
    pub(super) fn lost(&self, peer: NodeId) {
        self.waiting.lock().retain(|_, (asked, _)| *asked != peer);
    }
}

impl Peers {
    /// Asks a peer; the answer comes when it comes, or the link breaks. Dropping the future gives up.
    pub(crate) async fn call(&self, peer: &Arc<Peer>, service: Service, body: &[u8]) -> Result<Bytes, CallError> {
        let call = self.calls.next.fetch_add(1, Ordering::Relaxed);
        let (answer, wait) = oneshot::channel();
        self.calls.waiting.lock().insert(call, (peer.id, answer));
        let _pending = Pending { calls: &self.calls, call };
        if !peer.send(service.lane(), wire::call(call, service, body)) {
            return Err(CallError::Unreachable);
        }
        wait.await.map_err(|_| CallError::Lost)
    }
}
