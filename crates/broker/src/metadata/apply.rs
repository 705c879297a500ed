//! The state machine itself: one way in, and what all commands share.
//!
//! Each noun has its file with the commands that concern it. All of them follow one order: look and
//! refuse first, change afterwards, so that a refused command has changed nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::codec::Answer;
use super::command::{Change, Command, Outcome, Refusal};
use super::placement::Hints;
use super::tables::{Queue, Tables, Vhost};
use crate::id::{ConnectionId, Name, QueueId};

/// The replicated metadata. Applies committed commands in order; see the module's head.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) tables: Arc<Tables>,
    /// The index of the last command that was applied.
    pub(super) applied: u64,
    /// The id of the next queue. Invariant: above every id ever given.
    pub(super) next_queue: u64,
    /// The number of the next node. Invariant: above every number ever given.
    pub(super) next_node: u64,
    /// How many queues were placed by turns.
    pub(super) turns: u64,
    /// The exclusive queues by their connection.
    pub(super) exclusive: BTreeSet<(ConnectionId, QueueId)>,
    pub(super) changed: bool,
}

impl Default for Metadata {
    fn default() -> Metadata {
        // Queue 0 is that of the messages that wait for their time (`delay::DELAY_ID`).
        Metadata {
            tables: Arc::default(),
            applied: 0,
            next_queue: 1,
            next_node: 1,
            turns: 0,
            exclusive: BTreeSet::new(),
            changed: false,
        }
    }
}

impl Metadata {
    /// The state before the first command: nothing at all, not even a virtual host or a user.
    #[must_use]
    pub fn new() -> Metadata {
        Metadata::default()
    }

    /// The tables as they are; later commands do not change what was handed out.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// The index of the last command that was applied; 0 before the first.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Applies the command committed at `index`, and says how it went and what the node must do.
    pub fn apply(&mut self, index: u64, command: &Command) -> (Answer, Vec<Change>) {
        let mut changes = Vec::new();
        let answer = match command {
            Command::Batch(commands) => self.batch(commands, &mut changes),
            command => self.run(command, &mut changes),
        };
        self.applied = index;
        if std::mem::take(&mut self.changed) {
            self.tables_mut().revision += 1;
            self.changed = false;
        }
        (answer, changes)
    }

    fn batch(&mut self, commands: &[Command], changes: &mut Vec<Change>) -> Answer {
        let answers = commands.iter().map(|command| match command {
            Command::Batch(_) => Err(Refusal::Invalid("a batch within a batch".into())),
            command => self.run(command, changes),
        });
        Ok(Outcome::Batch(answers.collect()))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn run(&mut self, command: &Command, changes: &mut Vec<Change>) -> Answer {
        match command {
            Command::PutVhost(spec) => self.put_vhost(spec),
            Command::DeleteVhost { name } => self.delete_vhost(name, changes),
            Command::SetVhostLimits { vhost, limits } => self.set_vhost_limits(vhost, limits),
            Command::ClearVhostLimits { vhost, limit } => {
                self.clear_vhost_limits(vhost, limit.as_ref())
            }
            Command::SetTracing { vhost, on } => self.set_tracing(vhost, *on),
            Command::PutUser(spec) => self.put_user(spec, changes),
            Command::SetUserTags { user, tags } => self.set_user_tags(user, tags, changes),
            Command::DeleteUser { user } => self.delete_user(user, changes),
            Command::SetUserLimits { user, limits } => self.set_user_limits(user, limits),
            Command::ClearUserLimits { user, limit } => {
                self.clear_user_limits(user, limit.as_ref())
            }
            Command::SetPermission {
                vhost,
                user,
                configure,
                write,
                read,
            } => self.set_permission(vhost, user, [configure, write, read], changes),
            Command::ClearPermission { vhost, user } => self.clear_permission(vhost, user, changes),
            Command::SetTopicPermission {
                vhost,
                user,
                exchange,
                write,
                read,
            } => self.set_topic_permission(vhost, user, exchange, [write, read], changes),
            Command::ClearTopicPermission {
                vhost,
                user,
                exchange,
            } => self.clear_topic_permission(vhost, user, exchange.as_ref(), changes),
            Command::SetParameter {
                vhost,
                component,
                name,
                value,
            } => self.set_parameter(vhost, component, name, value, changes),
            Command::ClearParameter {
                vhost,
                component,
                name,
            } => self.clear_parameter(vhost, component, name, changes),
            Command::SetGlobalParameter { name, value } => self.set_global_parameter(name, value),
            Command::ClearGlobalParameter { name } => self.clear_global_parameter(name),
            Command::SetPolicy {
                vhost,
                kind,
                policy,
            } => self.set_policy(vhost, *kind, policy, changes),
            Command::ClearPolicy { vhost, kind, name } => {
                self.clear_policy(vhost, *kind, name, changes)
            }
            Command::DeclareExchange { vhost, spec } => self.declare_exchange(vhost, spec),
            Command::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => self.delete_exchange(vhost, name, *if_unused, changes),
            Command::DeclareQueue { vhost, spec } => self.declare_queue(vhost, spec, changes),
            Command::DeleteQueue { vhost, name, only } => {
                self.delete_queue(vhost, name, *only, changes)
            }
            Command::Bind {
                vhost,
                source,
                destination,
                routing_key,
                arguments,
            } => self.bind(vhost, source, destination, routing_key, arguments),
            Command::Unbind {
                vhost,
                source,
                destination,
                routing_key,
                arguments,
            } => self.unbind(
                vhost,
                (source, destination, routing_key, arguments),
                changes,
            ),
            Command::ConnectionEnded { connection } => self.connection_ended(*connection, changes),
            Command::NodeStarted { node } => self.node_started(node, changes),
            Command::FoundCluster { id, generation } => {
                self.found_cluster(*id, *generation, changes)
            }
            Command::RegisterNode {
                name,
                address,
                kind,
                disk,
            } => self.register_node(name, address, (*kind, *disk), changes),
            Command::NodeUp {
                node,
                incarnation,
                address,
            } => self.node_up(*node, *incarnation, address, changes),
            Command::NodeDown {
                node,
                incarnation,
                clean,
            } => self.node_down(*node, *incarnation, *clean, changes),
            Command::SetDraining { node, on } => self.set_draining(*node, *on, changes),
            Command::ForgetNode { node, force } => self.forget_node(*node, *force, changes),
            Command::SetNodeKind { node, kind } => self.set_node_kind(*node, *kind, changes),
            Command::PlaceQueue {
                vhost,
                spec,
                draw,
                suggestion,
                default_locator,
            } => {
                let hints = Hints {
                    draw: *draw,
                    suggestion: *suggestion,
                    default_locator,
                };
                self.place_queue(vhost, spec, hints, changes)
            }
            Command::ChangeView {
                queue,
                epoch,
                change,
            } => self.change_view(*queue, *epoch, *change, changes),
            Command::Batch(_) => Err(Refusal::Invalid("a batch within a batch".into())),
        }
    }

    /// The tables, to be changed: they are copied first if somebody else holds them.
    pub(super) fn tables_mut(&mut self) -> &mut Tables {
        self.changed = true;
        Arc::make_mut(&mut self.tables)
    }

    pub(super) fn vhost(&self, name: &Name) -> Result<&Arc<Vhost>, Refusal> {
        self.tables
            .vhosts
            .get(name)
            .ok_or_else(|| Refusal::NoSuchVhost(Name::clone(name)))
    }

    /// A virtual host that is known to be there, to be changed.
    pub(super) fn vhost_mut(&mut self, name: &str) -> &mut Vhost {
        self.vhost_and_queues_mut(name).0
    }

    /// The same, with the table of all queues by id.
    pub(super) fn vhost_and_queues_mut(
        &mut self,
        name: &str,
    ) -> (&mut Vhost, &mut HashTrieMapSync<QueueId, Arc<Queue>>) {
        let tables = self.tables_mut();
        let vhost = tables
            .vhosts
            .get_mut(name)
            .expect("the caller has looked it up");
        (Arc::make_mut(vhost), &mut tables.queues)
    }
}
