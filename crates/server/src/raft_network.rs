//! The metadata log's network: its requests travel over the links between nodes.

use std::sync::Arc;

use bytes::Bytes;
use cluster::metadata_log::Member;
use consensus::{Network, UnreachableError};

use crate::peers::Peers;
use crate::wire::Service;

/// See the file's head.
pub(crate) struct OverLinks(pub Arc<Peers>);

impl Network for OverLinks {
    fn is_linked(&self, peer: &Member) -> bool {
        self.0.get(peer.id).is_some_and(|peer| peer.life().is_some())
    }

    async fn call(&self, peer: &Member, request: Bytes) -> Result<Bytes, UnreachableError> {
        let unreachable = |why: &dyn std::fmt::Display| UnreachableError(format!("{}: {why}", peer.address));
        let link = self.0.get(peer.id).ok_or_else(|| unreachable(&"it is no member of the cluster"))?;
        self.0.call(&link, Service::Metadata, &request).await.map_err(|error| unreachable(&error))
    }
}
