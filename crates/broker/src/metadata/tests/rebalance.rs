//! Queue leaders are spread over the nodes.

use super::*;
use crate::permission::Pattern;

/// Nodes a to c, and six queues mirrored on all of them and led by the first.
fn lopsided() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.node("b");
    fixture.node("c");
    let all = table(&[("ha-mode", "all".into())]);
    fixture.done(set_policy(policy("ha", "^q", all)));
    for n in 0..6 {
        fixture.done(place(durable(&format!("q{n}")), n));
    }
    fixture.done(declare(durable("plain")));
    fixture
}

fn counts(fixture: &Fixture) -> [u64; 3] {
    [1, 2, 3].map(|node| fixture.tables().seating.leaders(NodeId(node)))
}

fn carry_out(fixture: &mut Fixture, moves: Vec<Move>) {
    for Move { step, .. } in moves {
        fixture.done(step.into());
    }
}

#[test]
fn the_smallest_queues_move_to_nodes_below_their_share() {
    let mut fixture = lopsided();
    assert_eq!(counts(&fixture), [7, 0, 0]);
    // The first queues are the largest.
    let moves = fixture
        .tables()
        .rebalance(Scope::default(), |id| 100 - id.0);
    let moved: Vec<QueueId> = moves.iter().map(|m| m.step.queue).collect();
    let smallest: Vec<QueueId> = ["q5", "q4", "q3", "q2"]
        .map(|name| fixture.id(name))
        .to_vec();
    assert_eq!(moved, smallest);
    carry_out(&mut fixture, moves);
    assert_eq!(counts(&fixture), [3, 2, 2]);
    let tables = fixture.tables();
    assert!(tables.rebalance(Scope::default(), |_| 0).is_empty());
}

#[test]
fn only_mirrors_in_sync_on_nodes_that_take_queues_are_given_any() {
    let mut fixture = lopsided();
    for n in 0..6 {
        fixture.change(&format!("q{n}"), ViewChange::Evict(NodeId(2)));
    }
    let moves = fixture.tables().rebalance(Scope::default(), |_| 0);
    assert_eq!(moves.len(), 2);
    assert!(
        moves
            .iter()
            .all(|m| m.to == NodeId(3) && m.from == NodeId(1))
    );
    let (node, on) = (NodeId(3), true);
    fixture.done(Command::SetDraining { node, on });
    assert!(
        fixture
            .tables()
            .rebalance(Scope::default(), |_| 0)
            .is_empty()
    );
}

#[test]
fn patterns_choose_the_queues() {
    let fixture = lopsided();
    let moves = |vhost: &str, queue: &str| {
        let patterns = [vhost, queue].map(|source| Pattern::compile(source).unwrap());
        let scope = Scope {
            vhost: Some(&patterns[0]),
            queue: Some(&patterns[1]),
        };
        fixture.tables().rebalance(scope, |_| 0).len()
    };
    assert_eq!(moves(".*", "q[012]"), 2);
    assert_eq!(moves("", "q[01]"), 1);
    assert_eq!(moves("other", ".*"), 0);
}
