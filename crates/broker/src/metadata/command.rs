//! What may be asked of the metadata, and how it answers.
//!
//! Commands are stored in the log of every node: a variant is never changed or reinterpreted; new
//! behaviour is a new variant at the end. JSON values of policies and parameters travel as
//! `amqp::Value` (object = table, null = void).

use amqp::{Table, Value};
use cluster::metadata_log::NodeId;
use serde::{Deserialize, Serialize};

use super::node::NodeKind;
use super::view::ViewChange;
use crate::id::{ConnectionId, Name, QueueId};

/// A replicated change of metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a virtual host with its default exchanges, or updates its description, tags and type.
    PutVhost(VhostSpec),
    /// Deletes a virtual host and everything in it.
    DeleteVhost { name: Name },
    /// Sets limits by name (`max-connections`, `max-queues`); a negative number means no limit.
    SetVhostLimits {
        vhost: Name,
        limits: Vec<(Name, i64)>,
    },
    /// Removes one limit, or all when `limit` is `None`.
    ClearVhostLimits { vhost: Name, limit: Option<Name> },
    /// Turns the firehose tracer of a virtual host on or off.
    SetTracing { vhost: Name, on: bool },
    /// Creates a user or replaces password hash and tags.
    PutUser(UserSpec),
    /// Replaces the tags of an existing user.
    SetUserTags { user: Name, tags: Vec<Name> },
    /// Deletes a user with all its permissions.
    DeleteUser { user: Name },
    /// Sets limits by name (`max-connections`, `max-channels`).
    SetUserLimits {
        user: Name,
        limits: Vec<(Name, i64)>,
    },
    /// Removes one limit, or all when `limit` is `None`.
    ClearUserLimits { user: Name, limit: Option<Name> },
    /// Grants a user its three patterns in a virtual host.
    SetPermission {
        vhost: Name,
        user: Name,
        configure: String,
        write: String,
        read: String,
    },
    /// Withdraws them.
    ClearPermission { vhost: Name, user: Name },
    /// Restricts routing keys of a user on a topic exchange.
    SetTopicPermission {
        vhost: Name,
        user: Name,
        exchange: Name,
        write: String,
        read: String,
    },
    /// Withdraws one exchange's topic permission, or all of the pair.
    ClearTopicPermission {
        vhost: Name,
        user: Name,
        exchange: Option<Name>,
    },
    /// Sets a runtime parameter. Policies and limits have their own commands.
    SetParameter {
        vhost: Name,
        component: Name,
        name: Name,
        value: Value,
    },
    /// Clears a runtime parameter.
    ClearParameter {
        vhost: Name,
        component: Name,
        name: Name,
    },
    /// Sets a global parameter (`cluster_name` among them).
    SetGlobalParameter { name: Name, value: Value },
    /// Clears a global parameter.
    ClearGlobalParameter { name: Name },
    /// Sets a policy and applies it to every matching object at once.
    SetPolicy {
        vhost: Name,
        kind: PolicyKind,
        policy: PolicySpec,
    },
    /// Clears a policy.
    ClearPolicy {
        vhost: Name,
        kind: PolicyKind,
        name: Name,
    },
    /// Declares an exchange, or checks that the existing one is equivalent.
    DeclareExchange { vhost: Name, spec: ExchangeSpec },
    /// Deletes an exchange with its bindings. A missing one is no error.
    DeleteExchange {
        vhost: Name,
        name: Name,
        if_unused: bool,
    },
    /// Declares a queue on the node that was asked, or checks that the existing one is equivalent.
    DeclareQueue { vhost: Name, spec: QueueSpec },
    /// Deletes a queue. `only` names the life that is meant, where the caller knows it; with it, virtual
    /// host and name may both be empty.
    DeleteQueue {
        vhost: Name,
        name: Name,
        only: Option<QueueId>,
    },
    /// Adds a binding; adding one that exists changes nothing.
    Bind {
        vhost: Name,
        source: Name,
        destination: Destination,
        routing_key: Vec<u8>,
        arguments: Table,
    },
    /// Removes a binding; a missing one is no error.
    Unbind {
        vhost: Name,
        source: Name,
        destination: Destination,
        routing_key: Vec<u8>,
        arguments: Table,
    },
    /// Deletes the exclusive queues of a connection that ended.
    ConnectionEnded { connection: ConnectionId },
    /// A node of the time before clusters starts: transient queues and exchanges of its former lives
    /// go. [`Command::NodeUp`] says more.
    NodeStarted { node: Name },
    /// Several commands in one entry (definitions import). Each is answered for itself.
    Batch(Vec<Command>),
    /// Gives the cluster its identity, or begins its next generation: the log is founded anew from the
    /// state that is here.
    FoundCluster { id: u64, generation: u64 },
    /// Makes a node a member. A known one keeps its number.
    RegisterNode {
        name: Name,
        address: String,
        kind: NodeKind,
        disk: u64,
    },
    /// A life of a node begins. A former one that nobody has seen going has ended with it.
    NodeUp {
        node: NodeId,
        incarnation: u64,
        address: String,
    },
    /// A life of a node has ended: every queue that stood there moves on.
    NodeDown {
        node: NodeId,
        incarnation: u64,
        /// It said goodbye.
        clean: bool,
    },
    /// Whether a node is to get no new queues.
    SetDraining { node: NodeId, on: bool },
    /// A stopped node is a member no longer; its queues are taken up elsewhere or deleted.
    ForgetNode {
        node: NodeId,
        /// Although queues have their last copy in sync there.
        force: bool,
    },
    /// Changes how a node keeps metadata.
    SetNodeKind { node: NodeId, kind: NodeKind },
    /// Declares a queue where its strategy says, with the mirrors its policy asks for; or checks that
    /// the existing one is equivalent.
    PlaceQueue {
        vhost: Name,
        spec: QueueSpec,
        /// Randomness from the proposer.
        draw: u64,
        /// What the proposer knows best: the node with the fewest messages or connections.
        suggestion: Option<NodeId>,
        /// The strategy where neither argument nor policy names one.
        default_locator: String,
    },
    /// Changes the view of one queue, if it is still that of `epoch`.
    ChangeView {
        queue: QueueId,
        epoch: u64,
        change: ViewChange,
    },
}

/// A virtual host as asked for. `None` leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VhostSpec {
    pub name: Name,
    pub description: Option<String>,
    pub tags: Option<Vec<Name>>,
    pub default_queue_type: Option<Name>,
    pub tracing: Option<bool>,
}

/// A user as asked for. An empty hash means that no password opens the account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserSpec {
    pub name: Name,
    /// Salt and digest, as RabbitMQ keeps them: 4 bytes salt, then the digest.
    pub password_hash: Vec<u8>,
    /// `rabbit_password_hashing_sha256`, `…sha512` or `…md5`.
    pub hashing_algorithm: Name,
    pub tags: Vec<Name>,
    /// Refuses with [`Refusal::UserExists`] when the user is there (`ctl add_user`).
    pub create_only: bool,
}

/// Which family a policy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    User,
    Operator,
}

/// A policy: applies `definition` to the objects whose name matches `pattern`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    pub name: Name,
    /// A regular expression, searched for anywhere in the object's name.
    pub pattern: String,
    /// `all`, `queues`, `classic_queues`, `quorum_queues`, `streams` or `exchanges`.
    pub apply_to: Name,
    pub priority: i64,
    pub definition: Table,
}

/// An exchange as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    pub name: Name,
    /// The type's public name: `direct`, `x-consistent-hash`, …
    pub kind: Name,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
}

/// A queue as asked for. The name is never empty: server-made names are drawn by the caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    pub name: Name,
    pub durable: bool,
    pub auto_delete: bool,
    /// The connection that owns an exclusive queue; also who asks when the queue is not exclusive.
    pub exclusive: bool,
    pub connection: Option<ConnectionId>,
    pub arguments: Table,
    /// The node that was asked.
    pub node: Name,
}

/// The far end of a binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Destination {
    Queue(Name),
    Exchange(Name),
}

impl Command {
    /// Whether the command may be applied twice in a row without a caller seeing a difference that
    /// matters: it is proposed again where nobody knows whether it has taken effect.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Command::PutVhost(_)
            | Command::SetVhostLimits { .. }
            | Command::SetTracing { .. }
            | Command::PutUser(_)
            | Command::SetUserTags { .. }
            | Command::SetUserLimits { .. }
            | Command::SetPermission { .. }
            | Command::SetTopicPermission { .. }
            | Command::SetParameter { .. }
            | Command::SetGlobalParameter { .. }
            | Command::SetPolicy { .. }
            | Command::DeclareExchange { .. }
            | Command::DeclareQueue { .. }
            | Command::PlaceQueue { .. }
            | Command::Bind { .. }
            | Command::Unbind { .. }
            | Command::ConnectionEnded { .. }
            | Command::SetDraining { .. }
            | Command::SetNodeKind { .. } => true,
            Command::Batch(commands) => commands.iter().all(Command::is_repeatable),
            // A second deletion would say that there was nothing; the rest is proposed again by its
            // owner, who looks first.
            _ => false,
        }
    }
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, or nothing to do.
    Done,
    /// A put or declare: what happened, and which queue life it concerns.
    Declared(Declared),
    /// A delete or clear: whether there was something.
    Deleted { existed: bool },
    /// The answers to a [`Command::Batch`], in order.
    Batch(Vec<Result<Outcome, Refusal>>),
    /// A node is a member under this number.
    Registered { id: NodeId },
    /// The view of a queue has changed and is now of this epoch.
    Viewed { epoch: u64 },
}

/// What a put or declare found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    pub created: bool,
    /// For queues: the life that exists now.
    pub queue: Option<QueueId>,
}

/// Why a command changed nothing. The texts that clients match on are made where it is translated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    NoSuchVhost(Name),
    NoSuchUser(Name),
    UserExists(Name),
    NoSuchExchange {
        vhost: Name,
        name: Name,
    },
    NoSuchQueue {
        vhost: Name,
        name: Name,
    },
    NoSuchParameter,
    NoSuchPolicy(Name),
    /// Equivalence failed; the text begins with `inequivalent arg` and is complete.
    Inequivalent(String),
    /// An argument of a queue, an exchange or a binding is not acceptable; the text is complete.
    InvalidArgument(String),
    /// A feature that Warren does not have (quorum queues for now): the text is complete.
    NotImplemented(String),
    /// A value is not acceptable (policy, limit, parameter); the text is complete.
    Invalid(String),
    /// The queue belongs to another connection.
    ExclusiveOwner {
        vhost: Name,
        name: Name,
    },
    /// The name is reserved, or the object may not be touched; the text is complete.
    AccessRefused(String),
    UnknownExchangeType(Name),
    InUse(String),
    /// A limit is reached; the text is complete.
    LimitReached(String),
    /// A node and the cluster disagree about each other; the text is complete.
    InconsistentCluster(String),
    NoSuchNode(NodeId),
    /// The node must be stopped first.
    NodeIsUp(Name),
    /// No node with a disk would remain.
    OnlyDiscNode(Name),
    /// That life of the node has ended; the registry knows of this one.
    StaleIncarnation {
        incarnation: u64,
    },
    /// The view has changed meanwhile.
    StaleView {
        epoch: u64,
    },
    /// That life of a queue has ended.
    QueueGone(QueueId),
    /// The node holds the last copies of `total` queues; the first of them by name.
    LastCopies {
        queues: Vec<String>,
        total: u64,
    },
}

/// What a node must do after a command was applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    QueueCreated(QueueId),
    /// The queue is gone; its machine stops, its consumers are cancelled, its messages dropped.
    QueueDeleted(QueueId),
    /// Its effective settings (policies) changed.
    QueueChanged(QueueId),
    /// Its clients are closed with 320.
    VhostDeleted(Name),
    /// Its clients are closed with 320.
    UserDeleted(Name),
    /// Password, tags or permissions changed: cached verdicts are void.
    RightsChanged,
    /// A delayed-message exchange went: its waiting messages go with it.
    ExchangeDeleted {
        vhost: Name,
        name: Name,
    },
    /// The view of a queue is another one.
    ViewChanged(QueueId),
    /// A node came, went, or is another one in some way; or the cluster itself.
    NodesChanged,
}
