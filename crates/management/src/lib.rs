//! RabbitMQ's HTTP API: JSON in, broker requests out. Opens no socket.
//!
//! The server owns the listeners and calls the router as a service; `warren ctl` reaches the same
//! router over the node port with the operator's identity.

pub mod node;
