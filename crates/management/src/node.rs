//! What the API needs from the node it serves. The server implements [`Node`]; tests use a small fake.
//!
//! The API reads frozen [`Tables`], proposes [`Command`]s and asks for statuses; it holds no broker
//! state of its own but samples of counters. Every method may be called from many tasks at once.
//!
//! Units: sizes are bytes, moments are milliseconds since 1970 (UTC) unless a name says otherwise,
//! counters only rise while the node runs. Statuses are of the whole cluster: what a peer cannot tell
//! in time is left out, which is no error. Methods that change something return when the change is
//! visible to the next call.

mod cluster;
mod facts;

use std::net::IpAddr;
use std::sync::Arc;

use amqp::Properties;
use async_trait::async_trait;
use broker::metadata::{Command, Outcome, Refusal, Tables};
use broker::{ConnectionId, Name, QueueId};
use bytes::Bytes;

use crate::host::HostFailure;

pub use cluster::{
    ClusterFacts, Member, MetadataRole, RebalanceKind, RebalanceRequest, RebalanceRow,
    Synchronized, Verdict,
};
pub use facts::{
    AuthAttempts, Certificate, Churn, ConnectionReport, DiskCounters, ExchangeCounters, Fetched,
    Link, Listener, MirrorReport, NodeStatus, QueueReport, Totals, VhostCounters,
};

/// A running node, as the HTTP API and `ctl` see it.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// This node's name.
    fn name(&self) -> Name;

    /// The present moment in milliseconds since 1970.
    fn now(&self) -> u64;

    /// Four random bytes for the hash of a new password.
    fn salt(&self) -> [u8; 4];

    /// Whether a user may have this password, or else why not (`credential_validator`).
    ///
    /// # Errors
    /// What the password has to be.
    fn check_password(&self, password: &str) -> Result<(), String>;

    /// The newest metadata.
    fn tables(&self) -> Arc<Tables>;

    /// Proposes a change of metadata and waits until it is applied here.
    async fn propose(&self, command: Command) -> Result<Outcome, Failure>;

    /// Contents and state of every queue of the cluster, in no order.
    async fn queue_statuses(&self) -> Vec<QueueReport>;

    /// Contents and state of one queue; `None` when it is gone or its node does not answer.
    async fn queue_status(&self, queue: QueueId) -> Option<QueueReport>;

    /// Every client connection of the cluster with its channels, in no order.
    async fn connections(&self) -> Vec<ConnectionReport>;

    /// Closes a connection with 320 `CONNECTION_FORCED` and this reason. False when it is gone.
    async fn close_connection(&self, connection: ConnectionId, reason: &str) -> bool;

    /// Checks a password. `peer` is the address the request came from, which decides for users that
    /// may log in from loopback only; `None` when the request came from no network.
    async fn authenticate(&self, user: &str, password: &[u8], peer: Option<IpAddr>) -> Login;

    /// Publishes a message as a client's channel does, and answers whether it was routed.
    async fn publish(&self, message: Publish) -> Result<bool, Failure>;

    /// Takes up to `count` messages from the head of a queue, all before any is settled as told.
    async fn get(
        &self,
        queue: QueueId,
        count: u32,
        settle: Settle,
    ) -> Result<Vec<Fetched>, Failure>;

    /// Drops the ready messages of a queue; answers how many.
    async fn purge(&self, queue: QueueId) -> Result<u64, Failure>;

    /// Deletes a queue; answers how many messages were ready. A refused condition is
    /// [`Refusal::InUse`] with the complete text.
    async fn delete_queue(
        &self,
        queue: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, Failure>;

    /// Starts (`start`) or stops bringing a queue's mirrors up to date; answers before that is done.
    /// To start it for a queue that no policy mirrors is [`HostFailure::NotMirrored`]; to stop it where
    /// it does not go on is [`Synchronized::NotSyncing`], for any queue.
    async fn synchronize(&self, queue: QueueId, start: bool) -> Result<Synchronized, Failure>;

    /// Moves the leaders of mirrored queues as the request says; a row per running node that is not
    /// being drained, sorted by name. One at a time: [`HostFailure::RebalanceInProgress`].
    async fn rebalance(&self, request: RebalanceRequest) -> Result<Vec<RebalanceRow>, Failure>;

    /// Lets a node that has a mirror in sync lead a queue; waits until it does.
    async fn transfer(&self, queue: QueueId, to: Name) -> Result<(), Failure>;

    /// The cluster as this node sees it.
    async fn cluster(&self) -> ClusterFacts;

    /// Removes a member whose application does not run. `force` goes on where a queue would lose its
    /// last copy.
    async fn forget(&self, node: Name, force: bool) -> Result<(), Failure>;

    /// Begins (`on`) or ends the maintenance of this node: no clients, no leaders. Returns when its
    /// clients are gone and other nodes lead what they can.
    async fn drain(&self, on: bool) -> Result<(), Failure>;

    /// Closes (`on`) or opens the ports for clients; connections stay.
    async fn suspend_listeners(&self, on: bool) -> Result<(), Failure>;

    /// Ends a partition now instead of when the sides agree by themselves: this side stays.
    async fn heal_partition(&self) -> Result<(), Failure>;

    /// The nodes that peer discovery finds, this one included when it is listed.
    async fn discover_peers(&self) -> Result<Vec<Name>, Failure>;

    /// This node.
    async fn status(&self) -> NodeStatus;

    /// All nodes of the cluster, stopped ones with `running: false`, sorted by name.
    async fn nodes(&self) -> Vec<NodeStatus>;

    /// Counters of the cluster since its nodes started.
    async fn totals(&self) -> Totals;

    /// Certificates that the listeners of this node use.
    async fn certificates(&self) -> Vec<Certificate>;

    /// The effective configuration as `rabbitmq.conf` keys and values, sorted, secrets left out.
    fn environment(&self) -> Vec<(String, String)>;

    /// Sets the memory alarm: a share of the machine's memory or a number of bytes. Until restart.
    async fn set_memory_watermark(&self, limit: Watermark) -> Result<(), Failure>;

    /// Sets the free disk space below which the alarm is raised. Until restart.
    async fn set_disk_free_limit(&self, limit: Watermark) -> Result<(), Failure>;

    /// Sets the least level that is logged (`debug`, `info`, `warning`, `error`, `critical`, `none`).
    async fn set_log_level(&self, level: &str) -> Result<(), Failure>;
}

/// Why a request could not be served.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The broker says no.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No quorum, the queue's node is away, or it did not answer in time; asking again may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// What a client's channel would be closed with.
    #[error("{1} ({0})")]
    Closed(u16, String),
    /// A queue takes no more messages.
    #[error("rejected")]
    Rejected,
    /// The cluster does not allow it, or there is none.
    #[error("{0}")]
    Host(#[from] HostFailure),
}

impl From<amqp::Error> for Failure {
    fn from(error: amqp::Error) -> Failure {
        let (code, text) = match error {
            amqp::Error::Connection(error) => (error.code, error.text),
            amqp::Error::Channel(error) => (error.code, error.text),
        };
        Failure::Closed(code.value(), text)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

/// The verdict on a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Accepted,
    /// No such user, a wrong password, or an account that no password opens.
    Refused,
    /// The password is right, but this user may log in from loopback only.
    LoopbackOnly,
}

/// A message to publish on behalf of a user.
#[derive(Clone, Debug)]
pub struct Publish {
    pub vhost: Name,
    pub exchange: Name,
    pub routing_key: Vec<u8>,
    pub user: Name,
    /// No permission is asked for: the operator publishes, or the node itself.
    pub trusted: bool,
    pub properties: Properties,
    pub payload: Bytes,
}

/// What happens to messages after they were read by [`Node::get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// They are gone.
    Ack,
    /// They go back to where they were, marked redelivered.
    Requeue,
    /// They are rejected: dead-lettered where the queue says so, else gone.
    Reject,
}

/// A threshold of memory or disk space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watermark {
    /// A share of the machine's memory, 0 to 1 for memory; may exceed 1 for disk.
    Relative(f64),
    /// Bytes.
    Absolute(u64),
}
