//! The registry: who becomes a member, which life of it counts, and how it is forgotten.

use super::*;

fn register(name: &str, disk: u64) -> Command {
    Command::RegisterNode {
        name: name.into(),
        address: format!("{name}:25672"),
        kind: NodeKind::Disc,
        disk,
    }
}

fn registered(id: u64) -> Outcome {
    Outcome::Registered { id: NodeId(id) }
}

fn node_up(node: NodeId, incarnation: u64) -> Command {
    let address = "b:25672".to_owned();
    Command::NodeUp {
        node,
        incarnation,
        address,
    }
}

#[test]
fn a_number_is_given_once() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.tables().node_name(NodeId(1)), NODE);
    assert_eq!(fixture.done(register("b", 20)), registered(2));
    assert_eq!(fixture.done(register("b", 20)), registered(2));
    let text = fixture.refused(register("b", 21));
    assert!(matches!(text, Refusal::InconsistentCluster(_)), "{text:?}");
    fixture.done(Command::ForgetNode {
        node: NodeId(2),
        force: false,
    });
    assert_eq!(fixture.done(register("b", 21)), registered(3));
    let empty = fixture.refused(register("", 1));
    assert!(matches!(empty, Refusal::Invalid(_)));
    fixture.check_restores();
}

#[test]
fn the_same_data_under_another_name_is_the_same_node() {
    let mut fixture = Fixture::new();
    fixture.done(register("b", 20));
    assert_eq!(fixture.done(register("c", 20)), registered(2));
    assert_eq!(fixture.tables().node_name(NodeId(2)), "c");
    assert!(fixture.tables().nodes.named("b").is_none());
    fixture.up(NodeId(2));
    let refused = fixture.refused(register("d", 20));
    assert!(matches!(refused, Refusal::InconsistentCluster(_)));
}

#[test]
fn a_cluster_is_founded_once_in_each_generation() {
    let mut fixture = Fixture::new();
    let found = |id, generation| Command::FoundCluster { id, generation };
    fixture.done(found(7, 1));
    assert_eq!(fixture.take_changes(), [Change::NodesChanged]);
    fixture.done(found(7, 1));
    assert_eq!(fixture.take_changes(), []);
    for other in [found(8, 1), found(7, 0), found(0, 2)] {
        let refused = fixture.refused(other);
        assert!(matches!(refused, Refusal::InconsistentCluster(_)));
    }
    fixture.done(found(7, 2));
    assert_eq!(fixture.tables().cluster.generation, 2);
    fixture.check_restores();
}

#[test]
fn only_the_present_life_of_a_node_counts() {
    let mut fixture = Fixture::new();
    let node = fixture.node("b");
    assert_eq!(fixture.tables().nodes.get(node).unwrap().incarnation, 1);
    let down = |incarnation| Command::NodeDown {
        node,
        incarnation,
        clean: false,
    };
    fixture.take_changes();
    fixture.done(down(7));
    assert!(fixture.tables().nodes.is_up(node));
    assert_eq!(fixture.take_changes(), []);
    fixture.done(down(1));
    fixture.done(down(1));
    assert_eq!(fixture.take_changes(), [Change::NodesChanged]);
    let stale = Refusal::StaleIncarnation { incarnation: 1 };
    assert_eq!(fixture.refused(node_up(node, 1)), stale);
    fixture.done(node_up(node, 2));
    assert!(fixture.tables().nodes.is_up(node));
    let nobody = NodeId(9);
    assert_eq!(
        fixture.refused(node_up(nobody, 1)),
        Refusal::NoSuchNode(nobody)
    );
}

#[test]
fn a_life_that_nobody_saw_going_ends_with_the_next() {
    let mut fixture = Fixture::new();
    let node = fixture.node("b");
    let mut spec = durable("transient");
    (spec.durable, spec.node) = (false, "b".into());
    fixture.done(declare(spec));
    let mut spec = durable("kept");
    spec.node = "b".into();
    fixture.done(declare(spec));
    let kept = fixture.view("kept");
    fixture.done(node_up(node, 2));
    assert!(fixture.vhost().queues.get("transient").is_none());
    let view = fixture.view("kept");
    assert!(view.is_running() && view.epoch == kept.epoch + 2);
    assert_eq!(view.leader(), node);
    fixture.check_restores();
}

#[test]
fn transient_exchanges_go_when_the_whole_cluster_starts_afresh() {
    let mut fixture = Fixture::new();
    let (a, b) = (NodeId(1), fixture.node("b"));
    let transient = ExchangeSpec {
        durable: false,
        ..exchange("x", "direct")
    };
    fixture.done(declare_exchange(transient));
    fixture.down(b, false);
    fixture.up(b);
    fixture.down(a, true);
    fixture.up(a);
    assert!(fixture.vhost().exchanges.get("x").is_some());
    fixture.down(a, true);
    fixture.down(b, true);
    assert!(fixture.vhost().exchanges.get("x").is_some());
    fixture.up(b);
    assert!(fixture.vhost().exchanges.get("x").is_none());
}

#[test]
fn a_node_keeps_its_disk_while_it_is_the_last() {
    let mut fixture = Fixture::new();
    let kind = |node, kind| Command::SetNodeKind { node, kind };
    let only = Refusal::OnlyDiscNode(NODE.into());
    assert_eq!(fixture.refused(kind(NodeId(1), NodeKind::Ram)), only);
    let b = fixture.node("b");
    fixture.done(kind(b, NodeKind::Ram));
    assert_eq!(fixture.refused(kind(NodeId(1), NodeKind::Ram)), only);
    fixture.down(NodeId(1), true);
    let forget = Command::ForgetNode {
        node: NodeId(1),
        force: true,
    };
    assert_eq!(fixture.refused(forget), only);
    let mut blank = Fixture::default();
    let ram = Command::RegisterNode {
        name: "r".into(),
        address: String::new(),
        kind: NodeKind::Ram,
        disk: 1,
    };
    assert_eq!(blank.refused(ram), Refusal::OnlyDiscNode("r".into()));
}

#[test]
fn draining_is_remembered() {
    let mut fixture = Fixture::new();
    let draining = |on| Command::SetDraining {
        node: NodeId(1),
        on,
    };
    fixture.done(draining(true));
    assert!(fixture.tables().nodes.get(NodeId(1)).unwrap().draining);
    fixture.take_changes();
    fixture.done(draining(true));
    assert_eq!(fixture.take_changes(), []);
    fixture.check_restores();
}

#[test]
fn a_running_node_is_not_forgotten() {
    let mut fixture = Fixture::new();
    let node = fixture.node("b");
    let forget = Command::ForgetNode { node, force: true };
    assert_eq!(
        fixture.refused(forget.clone()),
        Refusal::NodeIsUp("b".into())
    );
    fixture.down(node, true);
    fixture.done(forget.clone());
    assert_eq!(fixture.refused(forget), Refusal::NoSuchNode(node));
}

#[test]
fn a_node_of_the_time_before_clusters_is_registered_when_it_starts() {
    let mut fixture = Fixture::default();
    let started = || Command::NodeStarted { node: "a".into() };
    fixture.done(started());
    fixture.done(started());
    let node = Arc::clone(fixture.tables().nodes.named("a").unwrap());
    assert_eq!((node.id, node.incarnation, node.disk), (NodeId(1), 2, 0));
    assert_eq!(fixture.done(register("a", 20)), registered(1));
    assert_eq!(fixture.tables().nodes.named("a").unwrap().disk, 20);
}
