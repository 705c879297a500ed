//! The metadata told in its nouns: a fixture with one virtual host, and a file of tests per noun.

use std::sync::Arc;

use amqp::{Table, Value};
use cluster::metadata_log::NodeId;

use super::*;
use crate::id::{ConnectionId, Name, QueueId};

mod access;
mod arguments;
mod binding;
mod equivalence;
mod exhaustive;
mod failover;
mod lives;
mod log;
mod mirroring;
mod node;
mod placement;
mod policy;
mod rebalance;
mod reconcile;
mod scale;
mod vhost;
mod view;
mod witness;

/// A state machine with virtual host `/` and user `alice`, and short words for its commands.
#[derive(Default)]
pub(crate) struct Fixture {
    pub(crate) metadata: Metadata,
    pub(crate) changes: Vec<Change>,
    index: u64,
}

pub(crate) const NODE: &str = "warren@a";

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let mut fixture = Fixture::default();
        fixture.node(NODE);
        fixture.done(Command::PutVhost(VhostSpec {
            name: "/".into(),
            ..VhostSpec::default()
        }));
        fixture.done(Command::PutUser(user("alice")));
        fixture.changes.clear();
        fixture
    }

    /// A node that is registered and up.
    pub(crate) fn node(&mut self, name: &str) -> NodeId {
        self.node_of_kind(name, NodeKind::Disc)
    }

    fn node_of_kind(&mut self, name: &str, kind: NodeKind) -> NodeId {
        let (name, address) = (Name::from(name), format!("{name}:25672"));
        let disk = name
            .bytes()
            .fold(7, |disk, byte| disk * 31 + u64::from(byte));
        let register = Command::RegisterNode {
            name,
            address,
            kind,
            disk,
        };
        let Outcome::Registered { id } = self.done(register) else {
            panic!("not registered")
        };
        self.up(id);
        id
    }

    /// The next life of a node begins.
    pub(crate) fn up(&mut self, node: NodeId) {
        let known = Arc::clone(self.tables().nodes.get(node).unwrap());
        let (incarnation, address) = (known.incarnation + 1, known.address.clone());
        self.done(Command::NodeUp {
            node,
            incarnation,
            address,
        });
    }

    /// The present life of a node ends.
    pub(crate) fn down(&mut self, node: NodeId, clean: bool) {
        let incarnation = self.tables().nodes.get(node).unwrap().incarnation;
        self.done(Command::NodeDown {
            node,
            incarnation,
            clean,
        });
    }

    pub(crate) fn apply(&mut self, command: Command) -> Answer {
        self.index += 1;
        // Everything goes the way it goes in the log.
        let command = Command::decode(&command.encode()).unwrap();
        let before = self.metadata.snapshot();
        let (answer, changes) = self.metadata.apply(self.index, &command);
        if answer.is_err() {
            let mut after = self.metadata.clone();
            after.applied = self.index - 1;
            assert_eq!(
                before,
                after.snapshot(),
                "a refused command changed something"
            );
            assert_eq!(changes, [], "a refused command has no changes");
        }
        assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer.clone()));
        self.changes.extend(changes);
        answer
    }

    pub(crate) fn done(&mut self, command: Command) -> Outcome {
        self.apply(command).unwrap()
    }

    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        self.apply(command).unwrap_err()
    }

    /// The text of a refusal that has one.
    pub(crate) fn refused_text(&mut self, command: Command) -> String {
        match self.refused(command) {
            Refusal::Inequivalent(text)
            | Refusal::InvalidArgument(text)
            | Refusal::NotImplemented(text)
            | Refusal::Invalid(text)
            | Refusal::AccessRefused(text)
            | Refusal::InUse(text)
            | Refusal::LimitReached(text) => text,
            other => panic!("a refusal without text: {other:?}"),
        }
    }

    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.metadata.tables()
    }

    pub(crate) fn vhost(&self) -> Arc<Vhost> {
        Arc::clone(self.metadata.tables().vhosts.get("/").unwrap())
    }

    pub(crate) fn queue(&mut self, name: &str) -> QueueId {
        match self.done(declare(durable(name))) {
            Outcome::Declared(Declared {
                queue: Some(id), ..
            }) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn id(&self, name: &str) -> QueueId {
        self.tables().queue("/", name).unwrap().id
    }

    pub(crate) fn view(&self, name: &str) -> View {
        self.tables().queue("/", name).unwrap().view.clone()
    }

    /// The nodes in sync, leader first.
    pub(crate) fn seats(&self, name: &str) -> Vec<NodeId> {
        let view = self.view(name);
        view.seats.iter().map(|seat| seat.node).collect()
    }

    /// A queue that is placed by a policy of its own.
    pub(crate) fn mirrored(&mut self, name: &str, definition: Table) {
        self.done(set_policy(policy("ha", &format!("^{name}$"), definition)));
        self.done(place(durable(name), 1));
    }

    /// Changes the view of a queue, whatever its epoch.
    pub(crate) fn change(&mut self, name: &str, change: ViewChange) {
        let (queue, epoch) = (self.id(name), self.view(name).epoch);
        self.done(Command::ChangeView {
            queue,
            epoch,
            change,
        });
    }

    /// Why a view does not change.
    pub(crate) fn not_changed(&mut self, name: &str, change: ViewChange) -> String {
        let (queue, epoch) = (self.id(name), self.view(name).epoch);
        self.refused_text(Command::ChangeView {
            queue,
            epoch,
            change,
        })
    }

    pub(crate) fn exchange(&mut self, name: &str, kind: &str) {
        self.done(declare_exchange(exchange(name, kind)));
    }

    pub(crate) fn bind(&mut self, source: &str, queue: &str, key: &str) {
        self.done(bind(source, to_queue(queue), key, Table::new()));
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether the state is what its snapshot says it is.
    pub(crate) fn check_restores(&self) {
        let bytes = self.metadata.snapshot();
        let restored = Metadata::restore(&bytes).unwrap();
        assert_eq!(restored.snapshot(), bytes);
        let (a, b) = (self.metadata.tables(), restored.tables());
        for vhost in a.vhosts.values() {
            check_same(vhost, b.vhosts.get(&vhost.name).unwrap());
            check_indexes(&a, vhost);
        }
        assert_eq!(a.queues.size(), b.queues.size());
        assert_eq!(a.seating.pairs(), b.seating.pairs());
        assert_eq!(a.seating.counts(), b.seating.counts());
        assert!(a.nodes.iter().eq(b.nodes.iter()));
        assert_eq!(self.metadata.exclusive, restored.exclusive);
    }
}

fn check_same(a: &Vhost, b: &Vhost) {
    assert_eq!(
        a.bound.iter().collect::<Vec<_>>(),
        b.bound.iter().collect::<Vec<_>>()
    );
    for (x, y) in a.exchanges.values().zip(b.exchanges.values()) {
        assert_eq!((&x.name, x.kind, x.bindings), (&y.name, y.kind, y.bindings));
        assert_eq!((&x.alternate, &x.policy), (&y.alternate, &y.policy));
    }
    for (x, y) in a.queues.values().zip(b.queues.values()) {
        assert_eq!((x.id, &x.settings, &x.view), (y.id, &y.settings, &y.view));
        assert_eq!(
            (&x.policy, &x.effective_policy),
            (&y.policy, &y.effective_policy)
        );
    }
}

/// The invariants that tie the tables of a virtual host together.
fn check_indexes(tables: &Tables, vhost: &Vhost) {
    for queue in vhost.queues.values() {
        assert!(Arc::ptr_eq(queue, tables.queues.get(&queue.id).unwrap()));
    }
    for binding in vhost.bindings.iter() {
        assert!(vhost.exchanges.contains_key(&binding.source));
        assert!(vhost.target(&binding.destination).is_ok(), "{binding:?}");
        assert!(
            vhost
                .bound
                .contains(&(binding.destination.clone(), binding.source.clone()))
        );
    }
    for (destination, source) in vhost.bound.iter() {
        assert!(vhost.bindings_between(source, destination).next().is_some());
    }
    for exchange in vhost.exchanges.values() {
        assert_eq!(
            vhost.bindings_from(&exchange.name).count(),
            exchange.bindings
        );
    }
}

pub(crate) fn user(name: &str) -> UserSpec {
    UserSpec {
        name: name.into(),
        password_hash: vec![1, 2, 3, 4, 5],
        hashing_algorithm: crate::user::DEFAULT_HASHING.into(),
        tags: vec!["management".into()],
        create_only: false,
    }
}

pub(crate) fn durable(name: &str) -> QueueSpec {
    QueueSpec {
        name: name.into(),
        durable: true,
        auto_delete: false,
        exclusive: false,
        connection: Some(ConnectionId(1)),
        arguments: Table::new(),
        node: NODE.into(),
    }
}

pub(crate) fn with_arguments(name: &str, arguments: Table) -> QueueSpec {
    QueueSpec {
        arguments,
        ..durable(name)
    }
}

pub(crate) fn exclusive(name: &str, connection: u64) -> QueueSpec {
    let connection = Some(ConnectionId(connection));
    QueueSpec {
        exclusive: true,
        connection,
        ..durable(name)
    }
}

pub(crate) fn exchange(name: &str, kind: &str) -> ExchangeSpec {
    ExchangeSpec {
        name: name.into(),
        kind: kind.into(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

pub(crate) fn declare(spec: QueueSpec) -> Command {
    Command::DeclareQueue {
        vhost: "/".into(),
        spec,
    }
}

/// The same, placed by its strategy.
pub(crate) fn place(spec: QueueSpec, draw: u64) -> Command {
    Command::PlaceQueue {
        vhost: "/".into(),
        spec,
        draw,
        suggestion: None,
        default_locator: String::new(),
    }
}

pub(crate) fn declare_exchange(spec: ExchangeSpec) -> Command {
    Command::DeclareExchange {
        vhost: "/".into(),
        spec,
    }
}

pub(crate) fn delete(name: &str) -> Command {
    Command::DeleteQueue {
        vhost: "/".into(),
        name: name.into(),
        only: None,
    }
}

pub(crate) fn delete_exchange(name: &str, if_unused: bool) -> Command {
    Command::DeleteExchange {
        vhost: "/".into(),
        name: name.into(),
        if_unused,
    }
}

pub(crate) fn to_queue(name: &str) -> Destination {
    Destination::Queue(name.into())
}

pub(crate) fn to_exchange(name: &str) -> Destination {
    Destination::Exchange(name.into())
}

pub(crate) fn bind(source: &str, destination: Destination, key: &str, arguments: Table) -> Command {
    let (vhost, source, routing_key) = ("/".into(), source.into(), key.into());
    Command::Bind {
        vhost,
        source,
        destination,
        routing_key,
        arguments,
    }
}

pub(crate) fn unbind(
    source: &str,
    destination: Destination,
    key: &str,
    arguments: Table,
) -> Command {
    let (vhost, source, routing_key) = ("/".into(), source.into(), key.into());
    Command::Unbind {
        vhost,
        source,
        destination,
        routing_key,
        arguments,
    }
}

pub(crate) fn policy(name: &str, pattern: &str, definition: Table) -> PolicySpec {
    PolicySpec {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: "all".into(),
        priority: 0,
        definition,
    }
}

pub(crate) fn set_policy(policy: PolicySpec) -> Command {
    Command::SetPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        policy,
    }
}

pub(crate) fn set_operator_policy(policy: PolicySpec) -> Command {
    Command::SetPolicy {
        vhost: "/".into(),
        kind: PolicyKind::Operator,
        policy,
    }
}

pub(crate) fn table(entries: &[(&str, Value)]) -> Table {
    entries.iter().fold(Table::new(), |table, (name, value)| {
        table.with(name, value.clone())
    })
}

pub(crate) fn created(queue: u64) -> Outcome {
    Outcome::Declared(Declared {
        created: true,
        queue: Some(QueueId(queue)),
    })
}

pub(crate) fn names<'a>(names: impl Iterator<Item = &'a Name>) -> Vec<&'a str> {
    names.map(|name| &**name).collect()
}
