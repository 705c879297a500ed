//! The broker's only place that touches the world: sockets, files, clock, threads.
//!
//! [`server::run`] is a node from start to stop, [`demo::run`] a cluster for trying things out. One task
//! for each connection and each queue, one thread for the message log; machines of the `broker` crate
//! decide, these tasks obey.

mod admin;
mod agent_driver;
mod alarms;
mod clock;
pub mod config;
mod connection_driver;
mod data_folder;
mod definitions;
mod delay_driver;
pub mod demo;
mod desk;
mod disk;
mod duties;
mod follow;
mod host;
mod http;
mod identity;
mod listener;
mod listing;
mod load;
mod log_exchange;
mod log_writer;
mod logging;
mod mailbox;
mod maintenance;
mod metadata;
mod mirror_driver;
mod mirrors;
mod node;
mod node_port;
mod node_tls;
pub mod offline;
mod partition;
mod peers;
mod provision;
mod proxy_protocol;
mod queue_driver;
mod raft_network;
mod seen;
pub mod server;
mod start;
mod returning;
mod tls;
mod traffic;
mod watch;
mod watchdog;
mod wire;
