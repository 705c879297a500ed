//! Which mirrors a policy asks for, and the steps that lead there.

use super::*;
use crate::metadata::mirroring::MirrorMode;
use crate::metadata::reconcile::{Copies, desired};

/// Nodes a to e, of which some are down.
fn cluster(down: &str) -> Fixture {
    let mut fixture = Fixture::default();
    for name in ["a", "b", "c", "d", "e"] {
        fixture.node(name);
    }
    for node in ids(down) {
        fixture.down(node, false);
    }
    fixture
}

fn ids(names: &str) -> Vec<NodeId> {
    let id = |name: &str| NodeId(u64::from(name.as_bytes()[0] - b'a') + 1);
    names.split_whitespace().map(id).collect()
}

fn letters(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes
        .iter()
        .map(|node| char::from(b'a' + node.0 as u8 - 1).to_string())
        .collect();
    names.join(" ")
}

fn mode(text: &str) -> MirrorMode {
    match text.split_once(' ') {
        None => MirrorMode::All,
        Some(("exactly", n)) => MirrorMode::Exactly(n.parse().unwrap()),
        Some((_, names)) => MirrorMode::Nodes(names.split(' ').map(Name::from).collect()),
    }
}

/// Mode; leader; mirrors, oldest first; those in sync; nodes that are down; then the expected leader
/// and mirrors. A `?` stands for any node that is free.
const TABLE: [(&str, &str, &str, &str, &str, &str, &str); 26] = [
    // all: the leader stays, everybody else who runs mirrors.
    ("all", "a", "", "", "", "a", "b c d e"),
    ("all", "c", "a", "a", "b", "c", "a d e"),
    ("all", "a", "b c", "", "d e", "a", "b c"),
    // exactly: who is there stays, others are drawn.
    ("exactly 1", "a", "", "", "", "a", ""),
    ("exactly 1", "a", "b", "b", "", "a", ""),
    ("exactly 2", "a", "", "", "", "a", "?"),
    ("exactly 2", "a", "c", "", "", "a", "c"),
    ("exactly 3", "a", "d", "d", "", "a", "d ?"),
    ("exactly 3", "a", "d b", "", "", "a", "d b"),
    ("exactly 9", "a", "c", "c", "b", "a", "c ? ?"),
    // exactly, with too many: in sync before older, then older before younger.
    ("exactly 2", "a", "b c d", "", "", "a", "b"),
    ("exactly 2", "a", "b c d", "d", "", "a", "d"),
    ("exactly 3", "a", "b c d", "d", "", "a", "d b"),
    ("exactly 3", "a", "b c d", "c d", "", "a", "c d"),
    ("exactly 2", "a", "b c d", "c d", "", "a", "c"),
    // nodes, with the leader in the list.
    ("nodes a b", "a", "", "", "", "a", "b"),
    ("nodes c a b", "a", "b", "b", "", "a", "c b"),
    ("nodes a b", "a", "c", "c", "b", "a", ""),
    // Nobody of the list runs: the leader stays alone.
    ("nodes d e", "a", "b", "b", "d e", "a", ""),
    ("nodes x y", "a", "b", "b", "", "a", ""),
    // The leader is not in the list and has the only full copy.
    ("nodes c d", "a", "", "", "", "a", "c d"),
    ("nodes c d", "a", "b c", "", "", "a", "c d"),
    // The leader is not in the list and a listed mirror is in sync.
    ("nodes c d", "a", "c d", "d", "", "d", "c"),
    ("nodes c d", "a", "b d c", "b d c", "", "d", "c"),
    // The leader is not in the list, and only others are in sync.
    ("nodes c d", "a", "b c", "b", "", "b", "c d"),
    ("nodes c d", "a", "b", "b", "c", "b", "d"),
];

#[test]
fn the_mode_decides_who_should_hold_a_queue() {
    for (n, case) in TABLE.iter().enumerate() {
        let (text, leader, mirrors, in_sync, down, next, expected) = *case;
        let fixture = cluster(down);
        let copies = Copies {
            leader: ids(leader)[0],
            mirrors: &ids(mirrors),
            in_sync: &ids(in_sync),
            recoverable: &[],
        };
        for draw in 0..8 {
            let found = desired(&mode(text), copies, &fixture.tables(), draw);
            assert_eq!(letters(&[found.leader]), next, "case {n}: {case:?}");
            let found = letters(&found.mirrors);
            assert!(
                is_like(&found, expected, leader),
                "case {n}: {case:?}: {found}"
            );
        }
    }
}

fn is_like(found: &str, expected: &str, leader: &str) -> bool {
    let (found, expected): (Vec<_>, Vec<_>) =
        (found.split(' ').collect(), expected.split(' ').collect());
    let each_once = (1..found.len()).all(|at| !found[..at].contains(&found[at]));
    let same = |(found, expected): (&&str, &&str)| found == expected || *expected == "?";
    found.len() == expected.len()
        && each_once
        && !found.contains(&leader) | found.is_empty()
        && found.iter().zip(&expected).all(same)
}

#[test]
fn a_choice_is_spread_and_prefers_old_copies_and_nodes_that_stay() {
    let mut fixture = cluster("");
    let choose = |fixture: &Fixture, recoverable: &[NodeId], draw| {
        let copies = Copies {
            leader: NodeId(1),
            mirrors: &[],
            in_sync: &[],
            recoverable,
        };
        desired(&MirrorMode::Exactly(2), copies, &fixture.tables(), draw).mirrors[0]
    };
    let drawn: std::collections::BTreeSet<NodeId> =
        (0..64).map(|draw| choose(&fixture, &[], draw)).collect();
    assert_eq!(drawn.len(), 4);
    assert!((0..64).all(|draw| choose(&fixture, &[NodeId(4)], draw) == NodeId(4)));
    for node in ids("b c d") {
        fixture.done(Command::SetDraining { node, on: true });
    }
    assert!((0..64).all(|draw| choose(&fixture, &[], draw) == NodeId(5)));
}

/// Takes the steps that are next until there is none; who catches up is in sync when asked again.
fn settle(fixture: &mut Fixture, name: &str) -> Vec<ViewChange> {
    let mut taken = Vec::new();
    loop {
        let tables = fixture.tables();
        let queue = tables.queue("/", name).unwrap();
        if let Some(step) = tables.next_step(queue, 1) {
            taken.push(step.change);
            fixture.done(step.into());
        } else if let Some(node) = queue.view.catching_up.first() {
            taken.push(ViewChange::InSync(*node));
            fixture.change(name, ViewChange::InSync(*node));
        } else {
            return taken;
        }
        assert!(taken.len() < 50, "{taken:?}");
    }
}

fn nodes_policy(names: &[&str]) -> Table {
    let names: Vec<Value> = names.iter().map(|name| Value::from(*name)).collect();
    table(&[("ha-mode", "nodes".into()), ("ha-params", names.into())])
}

fn with_vhost(down: &str) -> Fixture {
    let mut fixture = cluster(down);
    fixture.done(Command::PutVhost(VhostSpec {
        name: "/".into(),
        ..VhostSpec::default()
    }));
    fixture
}

#[test]
fn a_queue_moves_to_other_nodes_without_ever_being_alone() {
    let mut fixture = with_vhost("");
    fixture.done(set_policy(policy("ha", "", nodes_policy(&["a", "b"]))));
    let spec = QueueSpec {
        node: "a".into(),
        ..durable("q")
    };
    fixture.done(place(spec, 1));
    assert_eq!(fixture.seats("q"), ids("a b"));
    fixture.done(set_policy(policy("ha", "", nodes_policy(&["c", "d"]))));
    let [a, b, c, d] = [1, 2, 3, 4].map(NodeId);
    let steps = settle(&mut fixture, "q");
    assert_eq!(
        steps,
        [
            ViewChange::AddMirror(c),
            ViewChange::AddMirror(d),
            ViewChange::InSync(c),
            ViewChange::Transfer(c),
            ViewChange::InSync(d),
            ViewChange::DropMirror(a),
            ViewChange::DropMirror(b),
        ]
    );
    assert_eq!(fixture.seats("q"), [c, d]);
}

#[test]
fn without_its_policy_a_queue_drops_its_mirrors_and_keeps_its_leader() {
    let mut fixture = with_vhost("");
    fixture.mirrored("q", table(&[("ha-mode", "all".into())]));
    fixture.change("q", ViewChange::Evict(NodeId(3)));
    let leader = fixture.view("q").leader();
    fixture.done(Command::ClearPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        name: "ha".into(),
    });
    let steps = settle(&mut fixture, "q");
    assert_eq!(steps.len(), 4);
    assert_eq!(fixture.seats("q"), [leader]);
    assert!(!fixture.view("q").mirrored);
}

#[test]
fn a_lost_mirror_is_replaced_and_not_taken_back() {
    let mut fixture = with_vhost("e");
    let two = table(&[("ha-mode", "exactly".into()), ("ha-params", 2_i64.into())]);
    fixture.mirrored("q", two);
    let lost = fixture.seats("q")[1];
    fixture.down(lost, false);
    settle(&mut fixture, "q");
    assert_eq!(fixture.view("q").recoverable, [lost]);
    let seats = fixture.seats("q");
    assert_eq!(seats.len(), 2);
    fixture.up(lost);
    assert_eq!(settle(&mut fixture, "q"), [ViewChange::DropMirror(lost)]);
    assert_eq!(fixture.seats("q"), seats);
    assert!(fixture.view("q").recoverable.is_empty());
}

#[test]
fn a_mirror_that_is_back_in_time_is_taken_back() {
    let mut fixture = with_vhost("");
    let two = table(&[("ha-mode", "exactly".into()), ("ha-params", 2_i64.into())]);
    fixture.mirrored("q", two);
    let seats = fixture.seats("q");
    fixture.down(seats[1], false);
    fixture.up(seats[1]);
    settle(&mut fixture, "q");
    assert_eq!(fixture.seats("q"), seats);
}

#[test]
fn a_new_node_mirrors_what_is_mirrored_everywhere() {
    let mut fixture = with_vhost("e");
    fixture.mirrored("q", table(&[("ha-mode", "all".into())]));
    fixture.queue("plain");
    assert!(fixture.tables().next_steps(None, 1).is_empty());
    fixture.up(NodeId(5));
    let steps = fixture.tables().next_steps(None, 1);
    let (queue, epoch) = (fixture.id("q"), fixture.view("q").epoch);
    let change = ViewChange::AddMirror(NodeId(5));
    assert_eq!(
        steps,
        [Step {
            queue,
            epoch,
            change
        }]
    );
    assert_eq!(fixture.tables().next_steps(Some(&[queue]), 1), steps);
    let plain = fixture.id("plain");
    assert!(fixture.tables().next_steps(Some(&[plain]), 1).is_empty());
}

#[test]
fn a_stopped_queue_is_left_alone() {
    let mut fixture = with_vhost("");
    fixture.mirrored(
        "q",
        table(&[("ha-mode", "exactly".into()), ("ha-params", 1_i64.into())]),
    );
    let leader = fixture.view("q").leader();
    fixture.down(leader, true);
    assert!(fixture.tables().next_steps(None, 1).is_empty());
}
