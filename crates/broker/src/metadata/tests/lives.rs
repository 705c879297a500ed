//! Clusters live at random, from a seed: nodes come, go and are forgotten, policies change, views are
//! changed by whoever likes. Whatever happens, the views keep their promises.

use std::collections::BTreeMap;

use stdx::Rng;

use super::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const QUEUES: u64 = 6;

struct World {
    fixture: Fixture,
    rng: Rng,
    /// The views before the last command.
    views: BTreeMap<QueueId, View>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut fixture = Fixture::default();
        fixture.done(Command::PutVhost(VhostSpec {
            name: "/".into(),
            ..VhostSpec::default()
        }));
        World {
            fixture,
            rng: Rng::new(seed),
            views: BTreeMap::new(),
        }
    }

    fn node(&mut self) -> NodeId {
        let nodes: Vec<NodeId> = self.fixture.tables().nodes.iter().map(|n| n.id).collect();
        // Sometimes one that is no member, or no longer.
        match self.rng.below(nodes.len() as u64 + 1) {
            0 => NodeId(1 + self.rng.below(4)),
            n => nodes[n as usize - 1],
        }
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.below(5) as usize]
    }

    fn command(&mut self) -> Command {
        match self.rng.below(30) {
            0..4 => self.a_node_comes(),
            4..7 => self.a_node_goes(),
            7 => Command::ForgetNode {
                node: self.node(),
                force: self.rng.one_in(2),
            },
            8 => Command::SetDraining {
                node: self.node(),
                on: self.rng.one_in(2),
            },
            9..11 => self.a_policy(),
            11 => Command::ClearPolicy {
                vhost: "/".into(),
                kind: PolicyKind::User,
                name: "p".into(),
            },
            12..16 => self.a_queue(),
            16 => delete(&format!("q{}", self.rng.below(QUEUES))),
            17..22 => self.a_step().unwrap_or_else(|| self.a_queue()),
            _ => self.a_change().unwrap_or_else(|| self.a_queue()),
        }
    }

    fn a_node_comes(&mut self) -> Command {
        let name = self.name();
        let tables = self.fixture.tables();
        match tables.nodes.named(name) {
            Some(node) => Command::NodeUp {
                node: node.id,
                incarnation: node.incarnation + self.rng.below(2),
                address: String::new(),
            },
            None => Command::RegisterNode {
                name: name.into(),
                address: String::new(),
                kind: NodeKind::Disc,
                disk: self.rng.next(),
            },
        }
    }

    fn a_node_goes(&mut self) -> Command {
        let node = self.node();
        let tables = self.fixture.tables();
        let incarnation = tables.nodes.get(node).map_or(0, |node| node.incarnation);
        Command::NodeDown {
            node,
            incarnation: incarnation - u64::from(incarnation > 0 && self.rng.one_in(8)),
            clean: self.rng.one_in(2),
        }
    }

    fn a_policy(&mut self) -> Command {
        let mut definition = match self.rng.below(4) {
            0 => table(&[("max-length", 5_i64.into())]),
            1 => table(&[("ha-mode", "all".into())]),
            2 => {
                let count = 1 + self.rng.below(4) as i64;
                table(&[("ha-mode", "exactly".into()), ("ha-params", count.into())])
            }
            _ => {
                let names = vec![Value::from(self.name()), Value::from(self.name())];
                table(&[("ha-mode", "nodes".into()), ("ha-params", names.into())])
            }
        };
        if definition.contains("ha-mode") {
            for key in ["ha-promote-on-failure", "ha-promote-on-shutdown"] {
                let value = ["always", "when-synced"][self.rng.below(2) as usize];
                definition = definition.with(key, value);
            }
        }
        set_policy(policy("p", "", definition))
    }

    fn a_queue(&mut self) -> Command {
        let node = self.name();
        let tables = self.fixture.tables();
        let (id, life) = tables
            .nodes
            .named(node)
            .map_or((NodeId(0), 0), |node| (node.id, node.incarnation));
        let strategy = ["balanced", "random", "round-robin", "client-local"];
        let strategy = strategy[self.rng.below(4) as usize];
        let mut spec = durable(&format!("q{}", self.rng.below(QUEUES)));
        spec.durable = !self.rng.one_in(3);
        spec.exclusive = self.rng.one_in(5);
        spec.connection = Some(ConnectionId::of(id, life, 1));
        spec.node = node.into();
        Command::PlaceQueue {
            vhost: "/".into(),
            spec,
            draw: self.rng.next(),
            suggestion: None,
            default_locator: strategy.to_owned(),
        }
    }

    /// What the reconciler would do.
    fn a_step(&mut self) -> Option<Command> {
        let steps = self.fixture.tables().next_steps(None, self.rng.next());
        let at = self.rng.below(steps.len() as u64) as usize;
        steps.get(at).map(|step| Command::from(*step))
    }

    /// What anybody might propose, sensible or not.
    fn a_change(&mut self) -> Option<Command> {
        let ids: Vec<QueueId> = self.views.keys().copied().collect();
        let queue = *ids.get(self.rng.below(ids.len() as u64) as usize)?;
        let view = &self.views[&queue];
        let caught_up = view.catching_up.first().copied();
        let epoch = view.epoch - u64::from(self.rng.one_in(10));
        let seats: Vec<NodeId> = view.seats.iter().map(|seat| seat.node).collect();
        let node = match self.rng.below(2) {
            0 => seats[self.rng.below(seats.len() as u64) as usize],
            _ => self.node(),
        };
        let change = match self.rng.below(10) {
            0..4 => ViewChange::InSync(caught_up.unwrap_or(node)),
            4 => ViewChange::AddMirror(node),
            5 => ViewChange::Evict(node),
            6 => ViewChange::DropMirror(node),
            7 => ViewChange::Transfer(node),
            8 => ViewChange::Promote {
                node,
                unclean: self.rng.one_in(2),
            },
            _ if self.rng.one_in(2) => ViewChange::Stop,
            _ => ViewChange::Merged(node),
        };
        Some(Command::ChangeView {
            queue,
            epoch,
            change,
        })
    }

    fn step(&mut self) {
        let command = self.command();
        let told = format!("{command:?}");
        let _ = self.fixture.apply(command);
        let changes = self.fixture.take_changes();
        let tables = self.fixture.tables();
        let mut views = BTreeMap::new();
        for queue in tables.queues.values() {
            check_view(&tables, queue, &told);
            if let Some(old) = self.views.get(&queue.id).filter(|old| **old != queue.view) {
                check_change(old, &queue.view, &told);
                let changed = Change::ViewChanged(queue.id);
                assert!(changes.contains(&changed), "nobody hears of it: {told}");
            }
            views.insert(queue.id, queue.view.clone());
        }
        check_seating(&tables, &told);
        self.views = views;
    }
}

/// What holds for every view at every time.
fn check_view(tables: &Tables, queue: &Queue, told: &str) {
    let (view, up) = (&queue.view, |node: &NodeId| tables.nodes.is_up(*node));
    let seats: Vec<NodeId> = view.seats.iter().map(|seat| seat.node).collect();
    assert!(!seats.is_empty(), "nobody is in sync: {told}");
    let members: Vec<NodeId> = seats.iter().chain(&view.catching_up).copied().collect();
    for (at, node) in members.iter().enumerate() {
        assert!(
            !members[..at].contains(node),
            "twice a member: {told} {view:?}"
        );
    }
    assert!(
        view.catching_up.iter().all(up),
        "catches up while down: {told}"
    );
    if view.is_running() {
        assert!(
            seats.iter().all(up),
            "a seat of a node that is down: {told} {view:?}"
        );
    }
    assert!(view.seats.iter().all(|seat| seat.since <= view.epoch));
    assert!(
        !view.old.iter().any(|node| seats.contains(node)),
        "{told} {view:?}"
    );
    let kept = &view.recoverable;
    assert!(
        !kept
            .iter()
            .any(|node| members.contains(node) || view.old.contains(node))
    );
    let known = view.holders().all(|node| tables.nodes.get(node).is_some());
    assert!(known, "a copy on a node that is forgotten: {told} {view:?}");
    let mirrored = queue.mirroring.is_some() || members.len() > 1;
    assert_eq!(view.mirrored, mirrored, "{told} {view:?}");
    if let Some(owner) = queue.exclusive {
        let node = tables.nodes.get(owner.node());
        let alive = node.is_some_and(|n| n.is_up() && owner.is_of(n.id, n.incarnation));
        assert!(alive, "its owner is gone: {told}");
        assert_eq!(members, [owner.node()]);
    }
}

/// What holds between a view and the next.
fn check_change(old: &View, new: &View, told: &str) {
    assert!(new.epoch > old.epoch, "a change without an epoch: {told}");
    let was_in_sync = old.seats.iter().any(|seat| seat.node == new.leader());
    if new.lineage == old.lineage {
        assert!(
            was_in_sync,
            "led by one that lacks something: {told} {old:?} {new:?}"
        );
    } else {
        assert!(new.lineage > old.lineage);
    }
    let stayed = |seat: &&Seat| new.seats.iter().any(|new| new == *seat);
    let order: Vec<&Seat> = old.seats.iter().filter(stayed).collect();
    let kept = |seat: &&Seat| old.seats.iter().any(|old| old == *seat);
    let is_same_order = new.seats.iter().filter(kept).eq(order);
    let hands_over = told.contains("Transfer");
    assert!(is_same_order || hands_over, "{told} {old:?} {new:?}");
    for seat in &new.seats {
        let sat = old.seats.iter().find(|old| old.node == seat.node);
        let stayed = sat.is_some_and(|old| old.since == seat.since);
        assert!(
            stayed || seat.since > old.epoch,
            "a seat from the past: {told}"
        );
    }
}

/// The index says what the views say.
fn check_seating(tables: &Tables, told: &str) {
    let mut expected = Vec::new();
    let mut led = BTreeMap::new();
    for queue in tables.queues.values() {
        expected.extend(queue.view.holders().map(|node| (node, queue.id)));
        *led.entry(queue.leader()).or_insert(0) += 1;
    }
    expected.sort_unstable();
    assert_eq!(tables.seating.pairs(), expected, "{told}");
    let led: Vec<(NodeId, u64)> = led.into_iter().collect();
    assert_eq!(tables.seating.counts(), led, "{told}");
}

#[test]
fn views_keep_their_promises_whatever_happens() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.step();
        }
        world.fixture.check_restores();
    }
}

#[test]
fn the_same_life_gives_the_same_state() {
    let live = || {
        let mut world = World::new(7);
        for _ in 0..200 {
            world.step();
        }
        world.fixture.metadata.snapshot()
    };
    assert_eq!(live(), live());
}

/// Left in peace, every mirrored queue gets what its policy asks for.
#[test]
fn steps_end_where_the_policy_wants_them() {
    for seed in 100..130 {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.step();
        }
        for round in 0.. {
            assert!(round < 400, "seed {seed}: steps without end");
            let tables = world.fixture.tables();
            let mut steps = tables.next_steps(None, 1);
            let waiting = tables.queues.values().filter(|q| q.view.is_running());
            let caught_up = waiting.filter_map(|queue| {
                let view = &queue.view;
                let ready = view
                    .catching_up
                    .iter()
                    .find(|node| !view.old.contains(node));
                Some(Step {
                    queue: queue.id,
                    epoch: view.epoch,
                    change: ViewChange::InSync(*ready?),
                })
            });
            if steps.is_empty() {
                steps.extend(caught_up);
            }
            let Some(step) = steps.first() else { break };
            world.fixture.done(Command::from(*step));
        }
        let tables = world.fixture.tables();
        for queue in tables.queues.values().filter(|q| q.view.is_running()) {
            let desired = tables.desired(queue, 1);
            if queue.view.old.is_empty() && !desired.waits {
                let mut mirrors: Vec<NodeId> = queue.view.mirrors().collect();
                let mut wanted = desired.mirrors;
                mirrors.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(queue.leader(), desired.leader, "seed {seed}");
                assert_eq!(mirrors, wanted, "seed {seed}");
            }
        }
    }
}
