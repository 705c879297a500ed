//! How nodes start, stop and die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker::QueueId;
use broker::metadata::{Command, Metadata, Queue as Record};
use cluster::link::Incarnation;
use cluster::membership::{self, Membership};
use cluster::metadata_log::NodeId;
use stdx::Time;
use store::Batch;

use super::log_writer::{Job, LogWriter};
use super::metadata_log::Asked;
use super::node::{FOLLOW_STOP, Mail, Process, QUEUES_END, Stopping, TaskId, Then, leads};
use super::world::{NodeEvent, World};

impl World {
    pub(super) fn start(&mut self, node: NodeId) {
        if self.nodes[&node].process.is_some() {
            return;
        }
        let disk = self.nodes[&node].disk.clone();
        let log = match LogWriter::open(disk) {
            Ok(log) => log,
            Err(error) => return self.checks.fail(format!("the store of {node} cannot be opened: {error}")),
        };
        let state = self.nodes.get_mut(&node).expect("it is a node");
        state.incarnation += 1;
        state.is_silent = false;
        let incarnation = state.incarnation;
        let (now, known) = (self.clock(node), self.nodes[&node].known);
        let mut metadata = Metadata::new();
        for index in 0..known {
            let _ = metadata.apply(index as u64 + 1, &self.log.entries[index]);
        }
        let process = Process {
            tables: metadata.tables(),
            metadata,
            membership: Membership::new(node, Incarnation(incarnation), self.plan.membership, now),
            gone: BTreeMap::new(),
            lines: BTreeMap::new(),
            line_lives: BTreeMap::new(),
            lives: 0,
            leading: BTreeMap::new(),
            mirroring: BTreeMap::new(),
            doors: BTreeMap::new(),
            retired: BTreeSet::new(),
            connections: BTreeMap::new(),
            desks: BTreeMap::new(),
            connections_made: 0,
            tasks: BTreeMap::new(),
            log,
            waiting: BTreeMap::new(),
            registered: false,
            stopping: None,
            stop_until: Time::START,
            asked_to_yield_at: None,
            stops_left: 0,
            restarts: false,
            applying: false,
        };
        self.nodes.get_mut(&node).expect("it is a node").process = Some(process);
        self.tell(|| format!("{node} starts, life {incarnation}"));
        self.grant_only_to_those_up(node);
        let peers = self.nodes.keys().copied().filter(|peer| *peer != node).collect();
        self.tell_membership(node, membership::Event::Peers(peers));
        for (wait, what) in [
            (0, NodeEvent::Call),
            (100, NodeEvent::Membership),
            (1, NodeEvent::Register),
        ] {
            self.in_node(node, Duration::from_millis(wait), what);
        }
    }

    /// Has the cluster note that this life of the node is up.
    pub(super) fn register(&mut self, node: NodeId) {
        let incarnation = self.nodes[&node].incarnation;
        let process = self.process(node);
        if process.registered || process.stopping.is_some() {
            return;
        }
        if process.tables.nodes.get(node).is_some_and(|me| me.is_up() && me.incarnation == incarnation) {
            process.registered = true;
            self.tell(|| format!("{node} is up"));
            self.follow_all(node);
            self.forget_orphans(node);
            let wait = self.between(0, 200_000);
            self.in_node(node, wait, NodeEvent::Duties);
            return;
        }
        if self.leaves_a_life_that_is_over(node) {
            return;
        }
        let command = Command::NodeUp { node, incarnation, address: format!("{node}") };
        self.propose(node, Command::Batch(vec![command]), Asked::Registration);
    }

    /// Copies of queues that the cluster says are not this node's go.
    fn forget_orphans(&mut self, node: NodeId) {
        let process = self.process(node);
        let keeps = |id: QueueId| process.tables.queues.get(&id).is_some_and(|record| record.view.holds(node));
        let mut orphans = Batch::new();
        for key in process.log.stored_at_start() {
            if !keeps(broker::queue::key_owner(*key).0) {
                orphans.forget(*key);
            }
        }
        if !orphans.is_empty() {
            self.submit(node, Job::Append { batch: orphans, report: None });
        }
    }

    /// The orderly way down.
    pub(super) fn begin_to_stop(&mut self, node: NodeId, restarts: bool) {
        let until = self.now + Duration::from_secs(5);
        let Some(process) = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()) else { return };
        if process.stopping.is_some() {
            return;
        }
        process.stopping = Some(Stopping::HandingOver);
        process.restarts = restarts;
        process.stop_until = until;
        self.in_node(node, Duration::ZERO, NodeEvent::Stopping);
    }

    fn is_in_service(&mut self, node: NodeId) -> bool {
        self.process(node).tables.nodes.get(node).is_some_and(|me| me.is_up())
    }

    pub(super) fn go_on_stopping(&mut self, node: NodeId) {
        let now = self.now;
        match self.process(node).stopping {
            Some(Stopping::HandingOver) => {
                let late = now >= self.process(node).stop_until;
                if late || !self.is_in_service(node) || self.has_handed_over(node) {
                    let process = self.process(node);
                    process.stopping = Some(Stopping::Closing);
                    let clients: Vec<TaskId> = process.connections.values().copied().collect();
                    for client in clients {
                        let _ = self.push(node, client, Mail::Close);
                    }
                }
            }
            Some(Stopping::Closing) => {
                let process = self.process(node);
                if process.connections.is_empty() || now >= process.stop_until {
                    process.stopping = Some(Stopping::Queues);
                    let queues: Vec<TaskId> = process.leading.values().map(|handle| handle.task).collect();
                    process.stops_left = 0;
                    for queue in queues {
                        if self.push(node, queue, Mail::Stop).is_ok() {
                            self.process(node).stops_left += 1;
                        }
                    }
                }
            }
            Some(Stopping::Queues) => {
                if self.process(node).stops_left == 0 || now >= self.process(node).stop_until + QUEUES_END {
                    self.process(node).stopping = Some(Stopping::Settling);
                    self.submit(node, Job::Barrier(Then::Stopped));
                }
            }
            Some(Stopping::Settling | Stopping::Farewell) => {}
            Some(Stopping::Done) => {
                self.stop(node);
                return;
            }
            None => return,
        }
        self.in_node(node, FOLLOW_STOP, NodeEvent::Stopping);
    }

    /// Lets other nodes lead what this node leads, as far as they hold it. True when they do.
    fn has_handed_over(&mut self, node: NodeId) -> bool {
        let now = self.now;
        let process = self.process(node);
        let mut heirs: Vec<(Arc<Record>, NodeId)> = process
            .tables
            .queues
            .values()
            .filter(|record| leads(node, record))
            .filter_map(|record| Some((Arc::clone(record), record.view.mirrors().find(|mirror| process.is_reachable(*mirror))?)))
            .collect();
        heirs.sort_unstable_by_key(|(record, _)| record.id);
        if heirs.is_empty() {
            return true;
        }
        if process.asked_to_yield_at.is_none_or(|at| now.since(at) >= Duration::from_secs(2)) {
            process.asked_to_yield_at = Some(now);
            for (record, heir) in heirs {
                self.ask_to_yield(node, &record, heir);
            }
        }
        false
    }

    pub(super) fn say_goodbye(&mut self, node: NodeId) {
        if !self.is_in_service(node) {
            self.process(node).stopping = Some(Stopping::Done);
            return;
        }
        self.log.hand_over(node);
        let incarnation = self.nodes[&node].incarnation;
        self.propose(node, Command::NodeDown { node, incarnation, clean: true }, Asked::Farewell);
    }

    fn stop(&mut self, node: NodeId) {
        self.tell(|| format!("{node} has stopped"));
        let restarts = self.process(node).restarts;
        let peers: Vec<NodeId> = self.process(node).lines.keys().copied().collect();
        self.nodes.get_mut(&node).expect("it is a node").process.as_mut().expect("it runs").tasks.clear();
        for peer in peers {
            self.hang_up(node, peer);
        }
        if let Err(error) = self.process(node).log.close() {
            self.checks.fail(format!("the store of {node} cannot be closed: {error}"));
        }
        self.nodes.get_mut(&node).expect("it is a node").process = None;
        self.clients_lose(node);
        let wait = if restarts { self.between(50_000, 300_000) } else { self.between(200_000, 4_000_000) };
        self.after(wait, super::world::Event::Start(node));
    }

    /// The process dies on the spot; with `power` the host as well.
    pub(super) fn crash(&mut self, node: NodeId, power: bool) {
        let Some(process) = self.nodes.get_mut(&node).and_then(|node| node.process.take()) else { return };
        self.tell(|| format!("{node} dies, power: {power}"));
        self.coverage.crashes += 1;
        let lines = process.lines.clone();
        drop(process);
        for (peer, line) in lines {
            if !power {
                self.end_line(line, node, peer);
            }
        }
        let state = self.nodes.get_mut(&node).expect("it is a node");
        state.sleeps_until = None;
        state.is_silent = power;
        state.disk.restart(if power { crate::disk::Crash::Power } else { crate::disk::Crash::Process });
        self.clients_lose(node);
        let wait = self.between(50_000, if self.rng.clone().one_in(3) { 15_000_000 } else { 2_000_000 });
        self.after(wait, super::world::Event::Start(node));
    }
}
