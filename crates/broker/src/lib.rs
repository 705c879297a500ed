//! What a broker is: metadata, exchanges, bindings, queues, channels. Computes only.
//!
//! Every entity is a machine: a struct with one way in (`handle`), owned by one task, that answers
//! with effects. Nothing here opens a socket or a file, reads a clock, draws randomness or waits.
//!
//! The families:
//! * [`metadata`]: the replicated state machine. Commands in, frozen [`metadata::Tables`] out.
//! * [`queue`] and [`channel`]: the data path. They talk to each other by events only.
//! * [`agent`] and [`packet`]: a queue as it is used from a node that does not lead it.
//! * [`mirror`]: what keeps a queue on several nodes.
//! * [`status`]: what an operator may see, as plain data. [`traffic`]: what channels count for it.

pub mod agent;
pub mod channel;
pub mod connection;
pub mod dead_letter;
pub mod delay;
pub mod exchange;
pub mod message;
pub mod metadata;
pub mod mirror;
pub mod packet;
pub mod permission;
pub mod policy;
pub mod queue;
pub mod status;
pub mod traffic;
pub mod user;

mod id;
#[cfg(any(test, feature = "mutants"))]
pub mod mutant;
#[cfg(not(any(test, feature = "mutants")))]
mod mutant;
mod names;
mod reply_to;
mod window;

pub use id::{ConnectionId, Name, QueueId};
