//! Everything there is in one life, and the order in which things happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broker::QueueId;
use cluster::metadata_log::NodeId;
use stdx::{Rng, Time};

use super::client::Client;
use super::log_writer::Found;
use super::metadata_log::{Asked, Failure, Log};
use super::network::{Line, Network};
use super::node::{Node, TaskId, Then};
use super::plan::Plan;
use super::{Coverage, Settings};
use crate::invariant::Checks;

/// What happens at some moment.
#[derive(Debug)]
pub(super) enum Event {
    /// Of one life of a node; void if that is over.
    Of { node: NodeId, life: u64, what: NodeEvent },
    /// A packet comes out of a line.
    Arrive { from: NodeId, to: NodeId, line: Line },
    /// Leaders of the metadata log come and go.
    Election,
    /// A client without a connection looks for a node.
    Client(usize),
    /// Something goes wrong, or an operator does something.
    Trouble,
    /// A node that was stopped is started.
    Start(NodeId),
    /// What was cut is whole again.
    Mend(NodeId, NodeId),
    /// The cluster gets its policies and queues.
    Found,
    /// What must hold at any time is looked at.
    Look,
}

/// What happens in a node.
#[derive(Debug)]
pub(super) enum NodeEvent {
    Wake(TaskId),
    LogWork,
    LogSynced,
    Found(Then, Vec<Found>),
    Settled(Then),
    Membership,
    Call,
    Duties,
    Apply,
    Commit { command: Box<broker::metadata::Command>, asked: Asked },
    Answer { asked: Asked, answer: Result<broker::metadata::Outcome, Failure> },
    Register,
    Stopping,
    HungUp { peer: NodeId, line: Line },
}

/// See the file's head.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) rng: Rng,
    pub(super) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    pub(super) steps: u64,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) network: Network,
    pub(super) log: Log,
    pub(super) clients: Vec<Client>,
    pub(super) plan: Plan,
    pub(super) checks: Checks,
    pub(super) queues: BTreeSet<QueueId>,
    /// Things still go wrong.
    pub(super) stormy: bool,
    /// Clients publish.
    pub(super) busy: bool,
    pub(super) next_task: u64,
    pub(super) next_session: u32,
    pub(super) coverage: Coverage,
    pub(super) trace: u64,
}

impl World {
    pub(super) fn new(seed: u64, settings: Settings) -> World {
        let mut rng = Rng::new(seed ^ 0x434C_5553_5445_5200);
        let plan = Plan::draw(&mut rng);
        let nodes: Vec<NodeId> = (1..=plan.nodes).map(NodeId).collect();
        let mut world = World {
            settings,
            now: Time::from_millis(1000),
            events: BTreeMap::new(),
            next_event: 0,
            steps: 0,
            nodes: nodes.iter().map(|id| (*id, Node::new(*id, &mut rng, &plan))).collect(),
            network: Network::default(),
            log: Log::new(&nodes),
            clients: (0..plan.clients).map(|_| Client::draw(&mut rng, &plan)).collect(),
            checks: Checks::default(),
            queues: BTreeSet::new(),
            stormy: true,
            busy: true,
            next_task: 1,
            next_session: 1,
            coverage: Coverage::default(),
            trace: 0xCBF2_9CE4_8422_2325,
            plan,
            rng,
        };
        let text = format!("{:?}", world.plan);
        world.tell(|| text);
        for node in nodes {
            world.start(node);
        }
        world.after(Duration::from_millis(50), Event::Election);
        world.after(Duration::from_millis(500), Event::Found);
        world
    }

    /// For who watches a life.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.settings.tell {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{:10.3} {}", self.now.as_nanos() as f64 / 1e6, what());
        }
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.next_event += 1;
        self.events.insert((time.max(self.now), self.next_event), event);
    }

    /// The same for this life of a node.
    pub(super) fn in_node(&mut self, node: NodeId, wait: Duration, what: NodeEvent) {
        let life = self.nodes[&node].incarnation;
        self.after(wait, Event::Of { node, life, what });
    }

    /// A duration between the two.
    pub(super) fn between(&mut self, least_micros: u64, most_micros: u64) -> Duration {
        Duration::from_micros(least_micros + self.rng.below(most_micros - least_micros + 1))
    }

    /// How long a task waits for its turn.
    pub(super) fn turn(&mut self, node: NodeId) -> Duration {
        let slowness = self.nodes[&node].slowness;
        let most = if self.rng.one_in(50) { 5000 } else { 200 };
        self.between(5, most) * slowness
    }

    /// Who sleeps wakes up now, to what has been put off until it would have.
    pub(super) fn wake_all(&mut self) {
        let sleepers: Vec<_> = self.nodes.iter_mut().filter_map(|(node, state)| Some((*node, state.sleeps_until.take()?))).collect();
        for (sleeper, until) in sleepers {
            let put_off = self.events.extract_if((until, 0)..=(until, u64::MAX), |_, event| match event {
                Event::Of { node, .. } => *node == sleeper,
                Event::Arrive { to, .. } => *to == sleeper,
                _ => false,
            });
            let put_off: Vec<_> = put_off.map(|(_, event)| event).collect();
            for event in put_off {
                self.at(self.now, event);
            }
        }
    }

    /// The next thing happens.
    pub(super) fn step(&mut self) {
        let Some(((time, number), event)) = self.events.pop_first() else { return };
        self.steps += 1;
        self.now = self.now.max(time);
        self.trace = (self.trace ^ time.as_nanos() ^ number).wrapping_mul(0x0100_0000_01B3);
        match event {
            Event::Of { node, life, what } => {
                let state = &self.nodes[&node];
                if state.incarnation != life || state.process.is_none() {
                    return;
                }
                if let Some(until) = state.sleeps_until.filter(|until| *until > self.now) {
                    self.at(until, Event::Of { node, life, what });
                    return;
                }
                self.happen(node, what);
            }
            Event::Arrive { from, to, line } => {
                if let Some(until) = self.nodes[&to].sleeps_until.filter(|until| *until > self.now) {
                    self.at(until, Event::Arrive { from, to, line });
                    return;
                }
                self.arrive(from, to, line);
            }
            Event::Election => self.elect(),
            Event::Client(number) => self.client_connects(number),
            Event::Trouble => self.trouble(),
            Event::Start(node) => self.start(node),
            Event::Mend(a, b) => self.mend(a, b),
            Event::Found => self.found(),
            Event::Look => self.look(),
        }
    }

    fn happen(&mut self, node: NodeId, what: NodeEvent) {
        match what {
            NodeEvent::Wake(task) => self.wake(node, task),
            NodeEvent::LogWork => self.log_work(node),
            NodeEvent::LogSynced => self.log_synced(node),
            NodeEvent::Found(then, found) => self.surveyed(node, then, found),
            NodeEvent::Settled(then) => self.settled(node, then),
            NodeEvent::Membership => self.membership_ticks(node),
            NodeEvent::Call => self.call_peers(node),
            NodeEvent::Duties => self.duties(node),
            NodeEvent::Apply => self.apply(node),
            NodeEvent::Commit { command, asked } => self.commit(node, &command, asked),
            NodeEvent::Answer { asked, answer } => self.answered(node, asked, answer),
            NodeEvent::Register => self.register(node),
            NodeEvent::Stopping => self.go_on_stopping(node),
            NodeEvent::HungUp { peer, line } => self.hung_up(node, peer, line),
        }
    }

    pub(super) fn new_task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task)
    }
}
