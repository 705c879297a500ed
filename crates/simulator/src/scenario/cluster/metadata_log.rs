//! The metadata log, as it should be: entries in one order for all, taken while a leader has a majority. Who
//! proposes may hear nothing of the outcome. That the real one is like this is tested in `consensus`.
//!
//! Two nodes have one voter: it leads, and the other one takes its place when it stops or has certainly died.

use std::time::Duration;

use broker::QueueId;
use broker::metadata::{Command, NodeKind, Outcome, PolicyKind, PolicySpec, QueueSpec, VhostSpec, ViewChange};
use cluster::metadata_log::NodeId;

use super::node::{Mail, ReplicaMail, Stopping, TaskId};
use super::world::{Event, NodeEvent, World};

/// Who wants to know what became of a proposal.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Nothing,
    View { task: TaskId, queue: QueueId, epoch: u64, change: ViewChange },
    Registration,
    Farewell,
}

/// Why there is no outcome.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Refused,
    /// Nobody knows what became of it.
    Unavailable,
}

/// See the file's head.
pub(super) struct Log {
    pub(super) entries: Vec<Command>,
    pub(super) leader: Option<NodeId>,
    nodes: Vec<NodeId>,
    /// Of two nodes: the one that votes.
    voter: NodeId,
}

impl Log {
    pub(super) fn new(nodes: &[NodeId]) -> Log {
        let mut entries = vec![
            Command::FoundCluster { id: 1, generation: 1 },
            Command::PutVhost(VhostSpec { name: "/".into(), ..VhostSpec::default() }),
        ];
        entries.extend(nodes.iter().map(|node| Command::RegisterNode {
            name: format!("{node}").as_str().into(),
            address: format!("{node}"),
            kind: NodeKind::Disc,
            disk: node.0,
        }));
        Log { entries, leader: None, nodes: nodes.to_vec(), voter: nodes[0] }
    }

    /// A node stops: another one leads.
    pub(super) fn hand_over(&mut self, node: NodeId) {
        if self.leader == Some(node) && self.nodes.len() > 2 {
            self.leader = None;
        }
    }
}

const ELECTION: Duration = Duration::from_millis(100);
/// Who proposes without a leader in reach hears after this time that nobody knows.
const UNAVAILABLE: Duration = Duration::from_millis(1500);

impl World {
    /// Whether this node could lead the log at this moment.
    fn may_lead_log(&self, node: NodeId) -> bool {
        let there = self.nodes.keys().filter(|other| self.is_path(node, **other)).count();
        let stops = self.nodes[&node].process.as_ref().is_none_or(|process| {
            matches!(process.stopping, Some(Stopping::Farewell | Stopping::Done))
        });
        match self.nodes.len() {
            0..=2 => node == self.log.voter && there > 0,
            all => there * 2 > all && !(stops && self.log.leader != Some(node)),
        }
    }

    /// Leaders that have lost their majority are leaders no longer, and another one is found.
    pub(super) fn elect(&mut self) {
        self.after(ELECTION, Event::Election);
        if self.nodes.len() == 2 {
            self.move_vote();
        }
        if self.log.leader.is_some_and(|leader| !self.may_lead_log(leader)) {
            self.log.leader = None;
        }
        if self.log.leader.is_none() && !self.rng.one_in(3) {
            let able: Vec<NodeId> = self.nodes.keys().copied().filter(|node| self.may_lead_log(*node)).collect();
            if !able.is_empty() {
                let at = self.rng.below(able.len() as u64) as usize;
                self.log.leader = Some(able[at]);
                self.tell(|| format!("{} leads the metadata log", able[at]));
            }
        }
        self.tell_those_not_up();
    }

    /// A leader tells again what was not heard. Those that are up look by themselves.
    fn tell_those_not_up(&mut self) {
        let lags = |world: &World, node: NodeId| {
            let process = world.nodes[&node].process.as_ref();
            process.is_some_and(|process| !process.registered && process.metadata.applied() < world.log.entries.len() as u64)
        };
        if let Some(leader) = self.log.leader {
            let all: Vec<NodeId> = self.nodes.keys().copied().collect();
            for node in all.into_iter().filter(|node| lags(self, *node) && self.is_path(*node, leader)).collect::<Vec<_>>() {
                self.hear_of_entries(node);
            }
        }
    }

    /// Of two nodes: the one that is left votes, if it has everything.
    fn move_vote(&mut self) {
        let voter = self.log.voter;
        let Some(other) = self.nodes.keys().copied().find(|node| *node != voter) else { return };
        let is_certain = self.nodes[&other].process.as_ref().is_some_and(|process| {
            process.registered && process.gone.get(&voter).is_some_and(|verdict| verdict.certain)
        });
        let has_all = self.nodes[&other].known == self.log.entries.len();
        if self.nodes[&voter].process.is_none() && is_certain && has_all {
            self.log.voter = other;
            self.log.leader = None;
        }
    }

    /// Proposes a change of metadata.
    pub(super) fn propose(&mut self, node: NodeId, command: Command, asked: Asked) {
        let wait = self.between(100, 3000) * self.nodes[&node].slowness;
        self.in_node(node, wait, NodeEvent::Commit { command: Box::new(command), asked });
    }

    pub(super) fn commit(&mut self, node: NodeId, command: &Command, asked: Asked) {
        let leader = self.log.leader.filter(|leader| self.is_path(node, *leader) && self.may_lead_log(*leader));
        let is_lost = self.stormy && self.rng.one_in(40);
        if leader.is_none() || (is_lost && self.rng.one_in(2)) {
            let wait = UNAVAILABLE + self.between(0, 500_000);
            self.in_node(node, wait, NodeEvent::Answer { asked, answer: Err(Failure::Unavailable) });
            return;
        }
        self.log.entries.push(command.clone());
        let index = self.log.entries.len() as u64;
        self.tell(|| format!("{node} commits {index}: {command:?}"));
        if self.nodes.len() == 2 {
            // The one that does not vote has everything before it is committed, while it can be reached.
            let voter = self.log.voter;
            let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != voter).collect();
            for other in others {
                if self.is_path(voter, other) {
                    let entries = self.log.entries.len();
                    self.nodes.get_mut(&other).expect("it is a node").known = entries;
                }
            }
            self.nodes.get_mut(&voter).expect("it is a node").known = index as usize;
        }
        if is_lost {
            self.coverage.outcomes_unknown += 1;
            let wait = UNAVAILABLE + self.between(0, 500_000);
            self.in_node(node, wait, NodeEvent::Answer { asked, answer: Err(Failure::Unavailable) });
        } else {
            self.process(node).waiting.entry(index).or_default().push(asked);
        }
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        for other in all {
            self.hear_of_entries(other);
        }
    }

    /// The outcome of a proposal.
    pub(super) fn answered(&mut self, node: NodeId, asked: Asked, answer: Result<Outcome, Failure>) {
        match (asked, answer) {
            (Asked::View { .. }, Ok(_)) | (Asked::Nothing, _) => {}
            (Asked::View { task, queue, epoch, change }, Err(Failure::Unavailable))
                if !matches!(change, ViewChange::Evict(_)) && self.process(node).leading.contains_key(&queue) =>
            {
                let command = Command::ChangeView { queue, epoch, change };
                self.propose(node, command, Asked::View { task, queue, epoch, change });
            }
            (Asked::View { task, epoch, change, .. }, Err(_)) => {
                let _ = self.push(node, task, Mail::Mirror(ReplicaMail::Refused(epoch, change)));
            }
            (Asked::Registration, Ok(_)) => self.register(node),
            (Asked::Registration, Err(_)) => self.in_node(node, Duration::from_millis(200), NodeEvent::Register),
            (Asked::Farewell, _) => self.process(node).stopping = Some(Stopping::Done),
        }
    }

    /// What an operator wants is proposed where it can be.
    pub(super) fn operate(&mut self, command: Command) -> bool {
        let Some(node) = self.log.leader.filter(|leader| self.may_lead_log(*leader)) else { return false };
        self.commit(node, &command, Asked::Nothing);
        true
    }

    /// The cluster gets its policies and queues.
    pub(super) fn found(&mut self) {
        let is_up = |node: &NodeId| self.nodes[node].process.as_ref().is_some_and(|process| process.registered);
        let Some(leader) = self.log.leader.filter(|_| self.nodes.keys().all(is_up)) else {
            return self.after(Duration::from_millis(100), Event::Found);
        };
        for (name, pattern) in [("many", "^many"), ("few", "^few")] {
            let mode = if name == "many" { self.plan.many_mode } else { self.plan.few_mode };
            let command = self.policy(name, pattern, mode);
            self.commit(leader, &command, Asked::Nothing);
        }
        for number in 0..self.plan.queues {
            let kind = ["many", "few", "one"][number as usize % 3];
            let kind = if number == 0 { "many" } else { kind };
            let spec = QueueSpec {
                name: format!("{kind}-{number}").as_str().into(),
                durable: true,
                auto_delete: false,
                exclusive: false,
                connection: None,
                arguments: amqp::Table::new(),
                node: format!("{}", NodeId(1 + self.rng.below(self.plan.nodes))).as_str().into(),
            };
            let draw = self.rng.next();
            let place = Command::PlaceQueue { vhost: "/".into(), spec, draw, suggestion: None, default_locator: "client-local".to_owned() };
            self.commit(leader, &place, Asked::Nothing);
        }
        self.after(Duration::from_millis(300), Event::Look);
        for number in 0..self.clients.len() {
            let wait = self.between(200_000, 800_000);
            self.after(wait, Event::Client(number));
        }
        let wait = self.between(500_000, 2_000_000);
        self.after(wait, Event::Trouble);
    }

    /// A policy: 0 mirrors on all nodes, otherwise on exactly so many.
    pub(super) fn policy(&self, name: &str, pattern: &str, mode: u64) -> Command {
        let text = |text: &str| amqp::Value::LongStr(text.as_bytes().to_vec());
        let key = amqp::ShortStr::truncated;
        let mut definition = amqp::Table::new();
        if mode == 0 {
            definition.insert(key("ha-mode"), text("all"));
        } else {
            definition.insert(key("ha-mode"), text("exactly"));
            definition.insert(key("ha-params"), amqp::Value::I64(mode as i64));
        }
        definition.insert(key("ha-sync-mode"), text("automatic"));
        definition.insert(key("ha-promote-on-failure"), text("when-synced"));
        let policy = PolicySpec {
            name: name.into(),
            pattern: pattern.to_owned(),
            apply_to: "queues".into(),
            priority: 0,
            definition,
        };
        Command::SetPolicy { vhost: "/".into(), kind: PolicyKind::User, policy }
    }
}
