//! RabbitMQ's HTTP API: JSON in, broker requests out. Opens no socket.
//!
//! The server owns the listeners and calls [`Management::router`] as a service; `warren ctl` reaches
//! the same router over the node port with [`Identity::Operator`]. What the API needs from the node is
//! the trait [`node::Node`], and from its process [`host::Host`].
//!
//! ```text
//! request -> service (gates) -> routes (table) -> api/<resource> -> node
//! answer  <- service (bytes) <- reply, error   <- list, stats, value
//! ```

mod access;
mod api;
mod counters;
mod error;
pub mod host;
mod identity;
mod list;
pub mod node;
mod observe;
mod reply;
mod request;
mod routes;
mod service;
mod settings;
mod stats;
mod timestamp;
mod value;

#[cfg(test)]
mod tests;

pub use host::host_router;
pub use identity::{Identity, Peer, Tags};
pub use service::Management;
pub use settings::Settings;
pub use stats::SAMPLE_INTERVAL_MILLIS;

/// The version of RabbitMQ whose API this is; tools decide by it what they may ask for.
pub const RABBITMQ_VERSION: &str = "3.13.7";
/// The product's name.
pub const PRODUCT_NAME: &str = "Warren";
/// Tools insist on one; this is what RabbitMQ 3.13.7 is commonly run with.
const ERLANG_VERSION: &str = "26.2.5";
