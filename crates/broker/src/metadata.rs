//! The replicated metadata: a deterministic state machine.
//!
//! A [`Command`] is proposed, committed by consensus, applied on every node in the same order, and
//! answered with an [`Outcome`] or a [`Refusal`]. Applying yields the next frozen [`Tables`], which
//! readers share without locks, and [`Change`]s that tell the node which machines to start, stop or
//! notify.
//!
//! Invariants: the same commands in the same order give the same tables and the same snapshot bytes;
//! a refused command changes nothing; queue ids are never reused.

mod access;
mod already;
mod apply;
mod arguments;
mod binding;
mod codec;
mod command;
mod equivalence;
mod exchange;
mod failover;
mod limit;
mod mirroring;
mod node;
mod parameter;
mod placement;
mod policy;
mod queue;
mod rebalance;
mod reconcile;
mod seating;
mod settings;
mod snapshot;
mod tables;
mod term;
mod user;
mod vhost;
mod view;

pub use apply::Metadata;
pub use arguments::check_durations;
pub use codec::{Answer, Unreadable, decode_answer, encode_answer};
pub use command::{Change, Outcome};
pub use command::{
    Command, Declared, Destination, ExchangeSpec, PolicyKind, PolicySpec, QueueSpec, Refusal,
    UserSpec, VhostSpec,
};
pub use mirroring::{MirrorMode, Mirroring, Promotion, PromotionOrder, SyncStrategy};
pub use node::{Cluster, ClusterNode, NodeKind, NodeState, Nodes, first_epoch};
pub use placement::{Hints, Load, Locator};
pub use rebalance::{Move, Scope};
pub use reconcile::{Desired, Step};
pub use seating::Seating;
pub use tables::{Binding, Exchange, Queue, Tables, Vhost, VhostLimits};
pub use view::{Seat, View, ViewChange, ViewStatus};

pub(crate) use term::{Bytes, Pairs, Term};

#[cfg(test)]
pub(crate) mod tests;
