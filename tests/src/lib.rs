//! Starts the real binary and speaks to it from outside.
//!
//! Black-box tests know three things about the broker: how its process is started and ended, what it
//! prints, and the protocols it speaks. Nothing here links a crate of ours, so what a test proves is
//! what a user gets.
//!
//! - [`Node`] is a process with a data folder; it can be killed, stopped and started again.
//! - [`Cluster`] is several of them that joined; [`until`] waits for what they come to agree on.
//! - [`Network`] is what the nodes of a cluster reach each other through, or do not.
//! - [`Disk`] is a small one of a node's own, to be filled.
//! - [`Wire`] is a client that may break every rule of AMQP, for answers no polite client provokes.
//! - [`http`] asks the HTTP API.
//! - [`Ledger`] judges what came out against what was confirmed.
//! - [`python`] and [`javascript`] run scripts that use the client libraries of those languages.

mod binary;
mod cluster;
mod disk;
mod http;
mod ledger;
mod network;
mod node;
mod program;
mod scripts;
mod until;
mod wire;

pub use crate::binary::{scratch, warren};
pub use crate::cluster::Cluster;
pub use crate::disk::Disk;
pub use crate::http::{http, try_http};
pub use crate::ledger::{Id, Ledger, Sees};
pub use crate::network::Network;
pub use crate::node::{Node, address, free_port};
pub use crate::program::{Output, run};
pub use crate::scripts::{javascript, python, python_with};
pub use crate::until::until;
pub use crate::wire::{Closed, Frame, Method, Value, Wire};
