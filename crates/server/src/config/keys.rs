//! All keys, by what they are about. Those that are served name their field; the others name only what they take.

mod access;
mod cluster;
mod http;
mod log;
mod network;
mod plugins;
mod tls;

pub(super) use access::DEFINITION_KEYS;

use super::key::Table;

/// Every key this server and RabbitMQ 3.13 know, and those of RabbitMQ 4 that people have in their files.
pub(super) fn table() -> Table {
    let mut table = Table::default();
    network::add(&mut table);
    access::add(&mut table);
    tls::add(&mut table);
    cluster::add(&mut table);
    http::add(&mut table);
    log::add(&mut table);
    plugins::add(&mut table);
    table
}
