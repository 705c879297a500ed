//! The broker's only place that touches the world: sockets, files, clock, threads.
//!
//! [`server::run`] is a node from start to stop. One task for each connection and each queue, one
//! thread for the message log; machines of the `broker` crate decide, these tasks obey.

mod admin;
mod alarms;
mod clock;
pub mod config;
mod connection_driver;
mod data_folder;
mod definitions;
mod delay_driver;
mod desk;
mod disk;
mod http;
mod listener;
mod log_exchange;
mod log_writer;
mod logging;
mod mailbox;
mod metadata;
mod node;
mod node_port;
mod provision;
mod proxy_protocol;
mod queue_driver;
pub mod server;
mod start;
mod tls;
