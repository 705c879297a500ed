//! What an operator may see of a connection.
//!
//! The state's word is RabbitMQ's, since tools look for it.

use std::sync::Arc;

use super::{Connection, State};
use crate::status::ConnectionStatus;
use crate::traffic::Traffic;

impl Connection {
    /// Adds what its channels have counted since they told it last.
    pub fn tell_traffic(&mut self, traffic: &mut Traffic) {
        for channel in self.channels.values_mut() {
            channel.tell_traffic(traffic);
        }
    }

    /// What an operator may see; counters of bytes are the driver's.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        let name = format!("{} -> {}", self.peer.address, self.peer.host);
        let state = match self.state {
            State::Running if self.blocked => "blocked",
            State::Running if self.alarm.is_some() => "blocking",
            State::Running => "running",
            State::Opening => "opening",
            State::Tuning => "tuning",
            State::Ending | State::Closing { .. } => "closing",
            State::Closed | State::Doomed { .. } => "closed",
            State::AwaitHeader | State::Starting => "starting",
        };
        ConnectionStatus {
            id: self.id,
            name: name.into(),
            peer: self.peer.address,
            host: self.peer.host,
            vhost: Arc::clone(&self.vhost),
            user: Arc::clone(&self.user),
            state,
            auth_mechanism: self.mechanism,
            client_properties: Arc::clone(&self.client_properties),
            channels: self.channels.values().map(|channel| channel.status()).collect(),
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat: self.heartbeat,
            connected_at: self.connected_at,
            received_bytes: 0,
            received_reads: 0,
            sent_bytes: 0,
            sent_writes: 0,
            send_pending_bytes: self.out.len() as u64,
            tls: self.peer.tls.clone(),
        }
    }
}
