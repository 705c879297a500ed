//! Commands that would change nothing, told from the tables alone.
//!
//! Clients declare their queues, exchanges and bindings again whenever they connect. Where all of it
//! is there, the answer needs no entry in the log. Only good answers are given this way: a refusal
//! waits for its turn in the log, since what refuses may just have been deleted.

use super::binding::binding;
use super::command::{Command, Outcome};
use super::tables::Tables;

impl Tables {
    /// The answer to a command that finds everything as it asks for; `None` if it must be proposed.
    #[must_use]
    pub fn already(&self, command: &Command) -> Option<Outcome> {
        match command {
            Command::DeclareQueue { vhost, spec } | Command::PlaceQueue { vhost, spec, .. } => {
                self.vhosts.get(vhost)?.already_declared_queue(spec)
            }
            Command::DeclareExchange { vhost, spec } => {
                self.vhosts.get(vhost)?.declared_exchange(spec).ok()?
            }
            Command::Bind {
                vhost,
                source,
                destination,
                routing_key,
                arguments,
            } => {
                let asked = binding((source, destination, routing_key, arguments));
                let found = self.vhosts.get(vhost)?.bindings.contains(&asked);
                found.then_some(Outcome::Done)
            }
            _ => None,
        }
    }
}
