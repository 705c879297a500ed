//! Where a new queue is created, and with which mirrors.
//!
//! The strategy is the first that is named: by the queue's argument, by its policy, by the
//! configuration; else the queue stays on the node that was asked. It chooses among the nodes that run,
//! are not draining and are no witness; where the policy lists nodes, among these. A new queue is empty, so all of its
//! mirrors are in sync from the start.
//!
//! What nodes have to do is not in the tables. Where a strategy looks at that, the proposer looks
//! ([`Tables::least_loaded`]), and the command says what it found: so it computes alike everywhere.

use amqp::{Table, Value};
use cluster::metadata_log::NodeId;
use stdx::Rng;

use super::apply::Metadata;
use super::codec::Answer;
use super::command::{Change, QueueSpec, Refusal};
use super::mirroring::{MirrorMode, Mirroring};
use super::node::ClusterNode;
use super::queue::mirroring;
use super::reconcile::{Copies, desired};
use super::tables::Tables;
use super::view::View;
use crate::id::Name;
use crate::policy;

/// What the proposer adds to a declaration.
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    pub draw: u64,
    pub suggestion: Option<NodeId>,
    pub default_locator: &'a str,
}

/// A strategy of placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locator {
    /// The node that was asked.
    ClientLocal,
    /// The node that leads the fewest queues.
    Balanced,
    Random,
    /// One node after the other.
    RoundRobin,
    /// The node whose queues have the fewest messages, which the proposer knows.
    MinMessages,
    /// The node with the fewest connections, which the proposer knows.
    MinConnections,
}

/// What a node has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// In the queues that it leads.
    pub messages: u64,
    /// Of clients.
    pub connections: u64,
}

impl Locator {
    /// Every name of a strategy, in both families of spelling.
    pub(crate) const NAMES: [&'static str; 8] = [
        "client-local",
        "balanced",
        "random",
        "least-leaders",
        "min-masters",
        "round-robin",
        "min-messages",
        "min-connections",
    ];

    /// Finds a strategy by its name in policies, arguments and configuration.
    #[must_use]
    pub fn of(name: &str) -> Option<Locator> {
        Some(match name {
            "client-local" => Locator::ClientLocal,
            "min-masters" | "least-leaders" | "balanced" => Locator::Balanced,
            "random" => Locator::Random,
            "round-robin" => Locator::RoundRobin,
            "min-messages" => Locator::MinMessages,
            "min-connections" => Locator::MinConnections,
            _ => return None,
        })
    }

    /// The strategy for a queue. A name that nobody knows counts as absent.
    #[must_use]
    pub fn in_force(arguments: &Table, policy: &Table, default: &str) -> Locator {
        let named = |table: &Table, key| {
            let name = table.get(key).and_then(Value::as_str);
            name.and_then(Locator::of)
        };
        named(arguments, "x-queue-master-locator")
            .or_else(|| named(arguments, "x-queue-leader-locator"))
            .or_else(|| named(policy, "queue-master-locator"))
            .or_else(|| named(policy, "queue-leader-locator"))
            .or_else(|| Locator::of(default))
            .unwrap_or(Locator::ClientLocal)
    }
}

impl Tables {
    /// For a declaration whose strategy looks at what nodes have to do: the candidate that has the
    /// least; of several the one that leads the fewest queues. `None` for other strategies, and when of
    /// any candidate nobody knows: then the number of queues alone decides.
    #[must_use]
    pub fn least_loaded(
        &self,
        vhost: &str,
        spec: &QueueSpec,
        hints: Hints<'_>,
        load: impl Fn(NodeId) -> Option<Load>,
    ) -> Option<NodeId> {
        if spec.exclusive {
            return None;
        }
        let (policy, operator) = self.vhosts.get(vhost)?.queue_policies(&spec.name);
        let effective = policy::effective(policy.as_deref(), operator.as_deref());
        let locator = Locator::in_force(&spec.arguments, &effective, hints.default_locator);
        let figure: fn(Load) -> u64 = match locator {
            Locator::MinMessages => |load| load.messages,
            Locator::MinConnections => |load| load.connections,
            _ => return None,
        };
        let mirroring = mirroring(None, &effective);
        let placing = Placing {
            spec,
            locator,
            mirroring: mirroring.as_deref(),
            hints,
            turn: 0,
        };
        let candidates = placing.candidates(self).into_iter();
        let figures: Option<Vec<(NodeId, u64)>> = candidates
            .map(|node| Some((node, figure(load(node)?))))
            .collect();
        let figures = figures?;
        let least = figures.iter().map(|(_, figure)| *figure).min()?;
        let least = figures.iter().filter(|(_, figure)| *figure == least);
        let least: Vec<NodeId> = least.map(|(node, _)| *node).collect();
        Some(placing.least(&least, self))
    }
}

/// A queue that is to be placed.
pub(super) struct Placing<'a> {
    pub(super) spec: &'a QueueSpec,
    pub(super) locator: Locator,
    pub(super) mirroring: Option<&'a Mirroring>,
    pub(super) hints: Hints<'a>,
    /// How many queues were placed by turns before.
    pub(super) turn: u64,
}

impl Metadata {
    pub(super) fn place_queue(
        &mut self,
        vhost: &Name,
        spec: &QueueSpec,
        hints: Hints<'_>,
        changes: &mut Vec<Change>,
    ) -> Answer {
        self.new_queue(vhost, spec, Some(hints), changes)
    }
}

impl Placing<'_> {
    /// The first view of the queue.
    pub(super) fn view(&self, tables: &Tables) -> Result<View, Refusal> {
        if self.spec.exclusive {
            let asked = self.asked_alive(tables)?;
            let node = if asked.holds_queues() {
                asked.id
            } else {
                self.leader(tables)?
            };
            return Ok(View::new([node], false));
        }
        let leader = self.leader(tables)?;
        let Some(mirroring) = self.mirroring else {
            return Ok(View::new([leader], false));
        };
        let copies = Copies {
            leader,
            mirrors: &[],
            in_sync: &[],
            recoverable: &[],
        };
        let wish = desired(&mirroring.mode, copies, tables, self.hints.draw);
        let nodes = std::iter::once(wish.leader).chain(wish.mirrors);
        Ok(View::new(nodes, true))
    }

    /// The node that was asked, if the connection that owns the exclusive queue can still be there.
    fn asked_alive<'t>(&self, tables: &'t Tables) -> Result<&'t ClusterNode, Refusal> {
        let gone = || Refusal::Invalid(format!("node '{}' is down", self.spec.node));
        let node = tables.nodes.named(&self.spec.node).ok_or_else(gone)?;
        let of_this_life =
            |connection: crate::id::ConnectionId| connection.is_of(node.id, node.incarnation);
        if node.is_up() && self.spec.connection.is_some_and(of_this_life) {
            Ok(node)
        } else {
            Err(gone())
        }
    }

    fn leader(&self, tables: &Tables) -> Result<NodeId, Refusal> {
        let asked = tables.nodes.named(&self.spec.node);
        let asked = asked.filter(|node| node.is_up() && node.holds_queues());
        let asked = asked.map(|node| node.id);
        let candidates = self.candidates(tables);
        let Some(first) = candidates.first() else {
            let up = || tables.nodes.up_for_queues().next().map(|node| node.id);
            let none = "no node of the cluster that holds queues is up";
            let none = || Refusal::Invalid(none.to_owned());
            return asked.or_else(up).ok_or_else(none);
        };
        let among = |node: Option<NodeId>| node.filter(|node| candidates.contains(node));
        let listed = matches!(self.mirroring.map(|m| &m.mode), Some(MirrorMode::Nodes(_)));
        let suggestion = among(self.hints.suggestion);
        Ok(match self.locator {
            Locator::ClientLocal => match among(asked) {
                Some(asked) => asked,
                // The policy's own order counts; where it says nothing, the load.
                None if listed => *first,
                None => asked.unwrap_or_else(|| self.least(&candidates, tables)),
            },
            Locator::Balanced => self.least(&candidates, tables),
            Locator::Random => nth(&candidates, self.hints.draw),
            Locator::RoundRobin => nth(&candidates, self.turn),
            Locator::MinMessages | Locator::MinConnections => {
                suggestion.unwrap_or_else(|| self.least(&candidates, tables))
            }
        })
    }

    /// The nodes to choose from: in the policy's order if it lists them, else by number.
    fn candidates(&self, tables: &Tables) -> Vec<NodeId> {
        let takes = |node: &ClusterNode| node.is_up() && !node.draining && node.holds_queues();
        match self.mirroring.map(|mirroring| &mirroring.mode) {
            Some(MirrorMode::Nodes(names)) => {
                let listed = names.iter().filter_map(|name| tables.nodes.named(name));
                let mut found = Vec::new();
                for node in listed.filter(|node| takes(node)) {
                    if !found.contains(&node.id) {
                        found.push(node.id);
                    }
                }
                found
            }
            _ => {
                let nodes = tables.nodes.iter().filter(|node| takes(node));
                nodes.map(|node| node.id).collect()
            }
        }
    }

    /// The candidate that leads the fewest queues; any of several.
    fn least(&self, candidates: &[NodeId], tables: &Tables) -> NodeId {
        let leaders = |node: &NodeId| tables.seating.leaders(*node);
        let least = candidates.iter().map(leaders).min();
        let least = candidates
            .iter()
            .filter(|node| Some(leaders(node)) == least);
        let least: Vec<NodeId> = least.copied().collect();
        nth(&least, Rng::new(self.hints.draw).next())
    }
}

fn nth(nodes: &[NodeId], n: u64) -> NodeId {
    nodes[(n % nodes.len() as u64) as usize]
}
