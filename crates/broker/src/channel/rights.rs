//! Checks in the order in which RabbitMQ makes them, with its texts.

use std::sync::Arc;

use amqp::{ChannelError, Error, ShortStr};

use super::{Channel, Scope};
use crate::id::{Name, QueueId};
use crate::metadata::{Exchange, Queue, Tables, Vhost};
use crate::permission::{self, Resource, Right};

/// CR and LF are taken out of names, as RabbitMQ does; what is not UTF-8 is refused by the codec.
pub(super) fn name_of(name: &ShortStr) -> String {
    name.to_str_lossy().chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

impl Scope<'_> {
    pub(super) fn vhost(&self) -> Result<&Arc<Vhost>, Error> {
        self.context.tables.vhosts.get(self.vhost).ok_or_else(|| {
            amqp::ConnectionError::connection_forced(format_args!("vhost '{}' is deleted", self.vhost)).into()
        })
    }

    pub(super) fn may(&self, right: Right, resource: Resource<'_>) -> Result<(), Error> {
        if self.trusted {
            return Ok(());
        }
        permission::access(&self.context.tables, self.user, self.vhost, right, resource)
            .map_err(|refused| ChannelError::access_refused(refused.0).into())
    }

    /// The topic permission, where the exchange is a topic exchange.
    pub(super) fn may_topic(&self, right: Right, exchange: &Exchange, key: &[u8]) -> Result<(), Error> {
        if !exchange.kind.is_topic() || self.trusted {
            return Ok(());
        }
        permission::topic_access(&self.context.tables, self.user, self.vhost, right, &exchange.name, key)
            .map_err(|refused| ChannelError::access_refused(refused.0).into())
    }

    pub(super) fn exchange(&self, name: &str) -> Result<Arc<Exchange>, Error> {
        self.vhost()?.exchanges.get(name).map(Arc::clone).ok_or_else(|| no_exchange(name, self.vhost))
    }

    /// A queue that this connection may use.
    pub(super) fn queue(&self, name: &str) -> Result<Arc<Queue>, Error> {
        let queue = self.vhost()?.queues.get(name).map(Arc::clone).ok_or_else(|| no_queue(name, self.vhost))?;
        match queue.exclusive {
            Some(owner) if owner != self.connection => Err(locked(name, self.vhost)),
            _ => Ok(queue),
        }
    }
}

impl Channel {
    /// The queue that is meant: empty stands for the last one declared on this channel.
    pub(super) fn queue_name(&self, name: &ShortStr) -> Result<Name, Error> {
        if !name.as_bytes().is_empty() {
            return Ok(name_of(name).into());
        }
        match &self.last_queue {
            Some(name) => Ok(Arc::clone(name)),
            None => Err(ChannelError::not_found("no previously declared queue").into()),
        }
    }
}

#[cold]
pub(super) fn no_queue(name: &str, vhost: &str) -> Error {
    ChannelError::not_found(format_args!("no queue '{name}' in vhost '{vhost}'")).into()
}

/// RabbitMQ's text for a queue whose node is down; see "Clustering Guide", node failures.
#[cold]
pub(super) fn home_is_down(tables: &Tables, queue: QueueId) -> Error {
    let Some(queue) = tables.queues.get(&queue) else { return ChannelError::not_found("the queue was deleted").into() };
    let (node, name, vhost) = (tables.leader_name(queue), &queue.name, &queue.vhost);
    ChannelError::not_found(format_args!(
        "home node '{node}' of durable queue '{name}' in vhost '{vhost}' is down or inaccessible"
    ))
    .into()
}

#[cold]
pub(super) fn no_exchange(name: &str, vhost: &str) -> Error {
    ChannelError::not_found(format_args!("no exchange '{name}' in vhost '{vhost}'")).into()
}

#[cold]
pub(super) fn locked(name: &str, vhost: &str) -> Error {
    ChannelError::resource_locked(format_args!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original \
         declaration."
    ))
    .into()
}

#[cold]
pub(super) fn default_exchange() -> Error {
    ChannelError::access_refused("operation not permitted on the default exchange").into()
}
