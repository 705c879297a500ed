//! What goes wrong, what operators do, and how it all ends.

use std::time::Duration;

use broker::metadata::Scope;
use cluster::metadata_log::NodeId;

use super::node::{Actor, Stopping};
use super::world::{Event, World};

/// So long everything may take to heal.
const HEALING: Duration = Duration::from_secs(400);

impl World {
    fn any_node(&mut self) -> NodeId {
        NodeId(1 + self.rng.below(self.plan.nodes))
    }

    fn any_pair(&mut self) -> (NodeId, NodeId) {
        let (a, b) = (self.any_node(), self.rng.below(self.plan.nodes - 1));
        (a, NodeId(1 + (a.0 + b) % self.plan.nodes))
    }

    /// One thing goes wrong, or an operator does something.
    pub(super) fn trouble(&mut self) {
        if !self.stormy {
            return;
        }
        let wait = self.between(20_000, 20_000 + self.plan.calm_millis * 1000);
        self.after(wait, Event::Trouble);
        let all: u64 = self.plan.weights.iter().sum();
        let mut draw = self.rng.below(all);
        for (kind, weight) in self.plan.weights.into_iter().enumerate() {
            if draw < weight {
                return self.make(kind);
            }
            draw -= weight;
        }
    }

    fn make(&mut self, kind: usize) {
        let (a, b) = self.any_pair();
        match kind {
            0 => self.crash(a, false),
            1 => {
                self.coverage.stops += 1;
                self.tell(|| format!("{a} is stopped"));
                self.begin_to_stop(a, false);
            }
            2 => self.crash(a, true),
            3 => self.break_line(a, b),
            4 => self.cut_for_a_while(&[(a, b), (b, a)]),
            5 => self.cut_for_a_while(&[(a, b)]),
            6 => {
                // One node against all others.
                let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != a).collect();
                let pairs: Vec<_> = others.into_iter().flat_map(|other| [(a, other), (other, a)]).collect();
                self.cut_for_a_while(&pairs);
            }
            7 => {
                let until = self.now + if self.rng.one_in(2) { self.between(50_000, 2_000_000) } else { self.between(3_000_000, 7_000_000) };
                self.tell(|| format!("{a} sleeps"));
                self.coverage.sleeps += 1;
                self.nodes.get_mut(&a).expect("it is a node").sleeps_until = Some(until);
            }
            8 => {
                let slowness = [1, 1, 10, 50][self.rng.below(4) as usize];
                self.nodes.get_mut(&a).expect("it is a node").slowness = slowness;
            }
            9 => {
                let slowness = [1, 10, 100, 400][self.rng.below(4) as usize];
                self.nodes.get_mut(&a).expect("it is a node").slow_disk = slowness;
            }
            10 => {
                let micros = [30, 1000, 20_000, 100_000][self.rng.below(4) as usize];
                self.network.slow.insert((a, b), micros);
            }
            11 => {
                let (name, pattern) = if self.rng.one_in(2) { ("many", "^many") } else { ("few", "^few") };
                let mode = self.rng.below(4);
                let command = self.policy(name, pattern, mode);
                self.coverage.policies += u64::from(self.operate(command));
            }
            _ => self.rebalance(),
        }
    }

    fn cut_for_a_while(&mut self, pairs: &[(NodeId, NodeId)]) {
        let wait = self.between(20_000, if self.rng.clone().one_in(2) { 1_000_000 } else { 9_000_000 });
        self.coverage.cuts += 1;
        for (from, to) in pairs {
            self.tell(|| format!("{from} does not reach {to}"));
            self.cut(*from, *to);
            self.after(wait, Event::Mend(*from, *to));
        }
    }

    /// Leaders are spread over the nodes.
    fn rebalance(&mut self) {
        let Some(node) = self.log.leader.filter(|leader| self.nodes[leader].process.is_some()) else { return };
        let tables = std::sync::Arc::clone(&self.process(node).tables);
        for one in tables.rebalance(Scope::default(), |_| 0) {
            if let Some(record) = tables.queues.get(&one.step.queue) {
                self.coverage.rebalances += 1;
                self.ask_to_yield(node, record, one.to);
            }
        }
    }

    /// Plays a life from the beginning to the end.
    pub(super) fn play(&mut self) {
        let storm_ends = self.now + Duration::from_secs(3) + self.plan.storm;
        self.play_until(storm_ends, |_| false);
        self.calm_down();
        if self.plan.rolls {
            self.roll();
        }
        let load_ends = self.now + Duration::from_secs(2);
        self.play_until(load_ends, |_| false);
        self.busy = false;
        self.heal();
        if self.plan.ends_dark && self.checks.failure().is_none() {
            self.go_dark();
        }
    }

    pub(super) fn play_until(&mut self, end: stdx::Time, done: impl Fn(&World) -> bool) -> bool {
        let mut looked = self.now;
        while self.now < end && self.checks.failure().is_none() {
            self.step();
            if self.now.since(looked) >= Duration::from_millis(50) {
                looked = self.now;
                if done(self) {
                    return true;
                }
            }
        }
        false
    }

    fn calm_down(&mut self) {
        self.tell(|| "nothing goes wrong any more".to_owned());
        self.stormy = false;
        self.network.slow.clear();
        for (from, to) in self.network.cut.clone() {
            self.mend(from, to);
        }
        self.wake_all();
        for node in self.nodes.values_mut() {
            node.slowness = 1;
            node.slow_disk = 1;
        }
        for (name, pattern, mode) in [("many", "^many", self.plan.many_mode), ("few", "^few", self.plan.few_mode)] {
            let command = self.policy(name, pattern, mode);
            if !self.operate(command) {
                self.tell(|| format!("the policy {name} stays as it is"));
            }
        }
    }

    /// All nodes are stopped and started in turn, each when all is well again.
    fn roll(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let until = self.now + HEALING;
            self.play_until(until, World::is_whole);
            self.tell(|| format!("{node} is stopped, in its turn"));
            self.coverage.stops += 1;
            self.begin_to_stop(node, false);
            let until = self.now + Duration::from_millis(100);
            self.play_until(until, |_| false);
        }
    }

    fn heal(&mut self) {
        let until = self.now + HEALING;
        if !self.play_until(until, |world| world.is_whole() && world.is_drained()) && self.checks.failure().is_none() {
            let lost = self.checks.not_kept();
            let state = self.describe();
            let what = if self.is_whole() { "not everything comes out" } else { "the cluster does not heal" };
            self.checks.fail(format!("{what}: {lost}\n{state}"));
        }
        self.look();
    }

    /// The power goes everywhere: what was acknowledged stays gone.
    fn go_dark(&mut self) {
        let until = self.now + Duration::from_millis(1500);
        self.play_until(until, |_| false);
        self.tell(|| "the power goes".to_owned());
        self.checks.nothing_may_come();
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.crash(node, true);
        }
        let until = self.now + HEALING;
        if !self.play_until(until, World::is_whole) && self.checks.failure().is_none() {
            let state = self.describe();
            self.checks.fail(format!("the cluster does not come back:\n{state}"));
        }
        let until = self.now + Duration::from_secs(2);
        self.play_until(until, |_| false);
    }

    /// Every node is up and every queue has the mirrors that it should have, all in sync.
    pub(super) fn is_whole(&self) -> bool {
        let entries = self.log.entries.len();
        let settled = self.nodes.values().all(|node| {
            node.process.as_ref().is_some_and(|process| {
                process.registered && process.stopping.is_none() && process.metadata.applied() as usize == entries
            })
        });
        let Some(process) = self.nodes.values().find_map(|node| node.process.as_ref()).filter(|_| settled) else { return false };
        process.tables.queues.values().all(|record| {
            let view = &record.view;
            let wanted = process.tables.desired(record, 0);
            view.is_running()
                && view.catching_up.is_empty()
                && process.tables.next_step(record, 0).is_none()
                && view.seats.len() == 1 + wanted.mirrors.len()
                && self.nodes[&view.leader()].process.as_ref().is_some_and(|process| process.leading.contains_key(&record.id))
        })
    }

    /// Every message is out and acknowledged, and nothing waits for anything.
    fn is_drained(&self) -> bool {
        let rests = |actor: &Actor| match actor {
            Actor::Queue(driver) => {
                let status = driver.queue.status();
                let pending = driver.mirror.as_ref().map_or(0, broker::mirror::Leader::pending_bytes);
                status.messages_ready == 0 && status.messages_unacked == 0 && pending == 0
            }
            Actor::Agent(driver) => driver.agent.kept_bytes() == 0,
            Actor::Mirror(driver) => driver.follower.pending_bytes() == 0,
            Actor::Connection(_) => true,
        };
        self.checks.all_kept_came() && self.nodes.values().filter_map(|node| node.process.as_ref()).all(|process| process.actors().all(rests))
    }

    /// What everybody waits for.
    pub(super) fn describe(&self) -> String {
        let mut text = Vec::new();
        for (id, node) in &self.nodes {
            let Some(process) = &node.process else {
                text.push(format!("{id} is down"));
                continue;
            };
            text.push(format!(
                "{id}: registered {} stopping {:?} applied {} of {} lines {:?} gone {:?}",
                process.registered,
                process.stopping,
                process.metadata.applied(),
                self.log.entries.len(),
                process.lines.keys(),
                process.gone,
            ));
            for record in process.tables.queues.values() {
                text.push(format!("  {:?} {}: {:?}", record.id, record.name, record.view));
            }
            for actor in process.actors() {
                text.push(match actor {
                    Actor::Queue(driver) => {
                        let status = driver.queue.status();
                        let mirror = driver.mirror.as_ref().map(broker::mirror::Leader::describe);
                        let consumers: Vec<_> = status.consumers.iter().map(|consumer| consumer.connection).collect();
                        format!("  leads {:?}: {} ready, {} unacked, consumers of {:?}, {mirror:?}", status.id, status.messages_ready, status.messages_unacked, consumers)
                    }
                    Actor::Mirror(driver) => format!("  mirrors {:?}: {}", driver.follower.queue(), driver.follower.describe()),
                    Actor::Agent(driver) => format!("  agent, {} bytes kept", driver.agent.kept_bytes()),
                    Actor::Connection(driver) => format!("  a client, {:?}", driver.id()),
                });
            }
        }
        text.join("\n")
    }

    /// What must hold at any time: every seat of a view has what is confirmed.
    pub(super) fn look(&mut self) {
        self.after(Duration::from_millis(300), Event::Look);
        let Some(newest) = self
            .nodes
            .values()
            .filter_map(|node| node.process.as_ref())
            .max_by_key(|process| process.metadata.applied())
            .filter(|process| process.metadata.applied() as usize == self.log.entries.len())
        else {
            return;
        };
        let tables = std::sync::Arc::clone(&newest.tables);
        for record in tables.queues.values() {
            self.queues.insert(record.id);
            for seat in &record.view.seats {
                if let Some(process) = &mut self.nodes.get_mut(&seat.node).expect("it is a node").process
                    && process.stopping != Some(Stopping::Done)
                {
                    let contents = process.log.contents(record.id);
                    self.checks.seat_holds(seat.node, record.id, &contents);
                }
            }
        }
    }
}
