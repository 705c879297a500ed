//! A member that votes on metadata and is no place for queues.

use super::*;

const WITNESS: NodeId = NodeId(2);

/// Nodes 1 and 3 hold queues, node 2 is the witness.
fn with_witness() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.node_of_kind("w", NodeKind::Witness);
    fixture.node("c");
    fixture
}

fn nobody_is_at_the_witness(fixture: &Fixture) {
    assert_eq!(fixture.tables().seating.queues(WITNESS).next(), None);
    assert_eq!(fixture.tables().seating.leaders(WITNESS), 0);
}

#[test]
fn no_strategy_places_a_queue_there() {
    let mut fixture = with_witness();
    for (n, strategy) in Locator::NAMES.into_iter().cycle().take(40).enumerate() {
        let argument = table(&[("x-queue-master-locator", strategy.into())]);
        let mut spec = with_arguments(&format!("q{n}"), argument);
        spec.node = "w".into();
        let draw = n as u64 * 7;
        let (vhost, suggestion) = ("/".into(), Some(WITNESS));
        let default_locator = "client-local".into();
        fixture.done(Command::PlaceQueue {
            vhost,
            spec,
            draw,
            suggestion,
            default_locator,
        });
    }
    nobody_is_at_the_witness(&fixture);
    for node in [1, 3].map(NodeId) {
        assert!(fixture.tables().seating.leaders(node) >= 10);
    }
    fixture.check_restores();
}

#[test]
fn an_exclusive_queue_of_its_client_stands_elsewhere_and_goes_with_it() {
    let mut fixture = with_witness();
    let mut spec = exclusive("e", ConnectionId::of(WITNESS, 1, 9).0);
    spec.node = "w".into();
    fixture.done(place(spec.clone(), 1));
    assert_ne!(fixture.view("e").leader(), WITNESS);
    fixture.down(WITNESS, false);
    assert!(fixture.vhost().queues.get("e").is_none());
    assert_eq!(fixture.refused_text(place(spec, 1)), "node 'w' is down");
}

#[test]
fn no_policy_has_a_mirror_there() {
    let mut fixture = with_witness();
    let names = |names: &[&str]| {
        Value::from(
            names
                .iter()
                .map(|name| Value::from(*name))
                .collect::<Vec<_>>(),
        )
    };
    let policies = [
        ("all", table(&[("ha-mode", "all".into())]), 2),
        (
            "exactly",
            table(&[("ha-mode", "exactly".into()), ("ha-params", 3_i64.into())]),
            2,
        ),
        (
            "nodes",
            table(&[
                ("ha-mode", "nodes".into()),
                ("ha-params", names(&["w", "c"])),
            ]),
            1,
        ),
        (
            "only",
            table(&[("ha-mode", "nodes".into()), ("ha-params", names(&["w"]))]),
            1,
        ),
    ];
    for (name, definition, seats) in policies {
        let queue = format!("before-{name}");
        fixture.done(place(durable(&queue), 1));
        fixture.done(set_policy(policy(
            name,
            &format!("^(before|after)-{name}$"),
            definition,
        )));
        let mut spec = durable(&format!("after-{name}"));
        spec.node = "w".into();
        fixture.done(place(spec, 1));
        assert_eq!(fixture.seats(&format!("after-{name}")).len(), seats);
        // What the policy wants of a queue that was there before never leads to the witness either.
        for draw in 0..20 {
            for step in fixture.tables().next_steps(None, draw) {
                assert!(
                    !matches!(step.change, ViewChange::AddMirror(WITNESS)),
                    "{step:?}"
                );
            }
        }
    }
    let (queue, epoch) = (fixture.id("before-all"), fixture.view("before-all").epoch);
    let change = ViewChange::AddMirror(WITNESS);
    let text = fixture.refused_text(Command::ChangeView {
        queue,
        epoch,
        change,
    });
    assert_eq!(text, "a witness holds no queues");
    nobody_is_at_the_witness(&fixture);
}

#[test]
fn it_has_no_share_in_a_rebalance() {
    let mut fixture = with_witness();
    let all = table(&[("ha-mode", "all".into())]);
    fixture.done(set_policy(policy("ha", "", all)));
    for n in 0..6 {
        fixture.done(place(durable(&format!("q{n}")), 1));
    }
    // Three nodes would lead two each.
    let moves = fixture.tables().rebalance(Scope::default(), |_| 0);
    assert_eq!(moves.len(), 3);
    assert!(moves.iter().all(|step| step.to == NodeId(3)));
}

#[test]
fn without_a_node_for_queues_there_is_no_witness_and_no_queue() {
    let mut fixture = with_witness();
    let set = |node, kind| Command::SetNodeKind { node, kind };
    fixture.done(place(durable("q"), 1));
    let text = fixture.refused_text(set(NodeId(1), NodeKind::Witness));
    assert_eq!(
        text,
        format!("node '{NODE}' has queues, and a witness holds none")
    );
    fixture.down(NodeId(3), true);
    fixture.down(NodeId(1), true);
    let force = true;
    fixture.done(Command::ForgetNode {
        node: NodeId(3),
        force,
    });
    // Its vote alone keeps no cluster.
    let forget = Command::ForgetNode {
        node: NodeId(1),
        force,
    };
    assert_eq!(fixture.refused(forget), Refusal::OnlyDiscNode(NODE.into()));
    let mut spec = durable("r");
    spec.node = "w".into();
    assert_eq!(
        fixture.refused_text(place(spec, 1)),
        "no node of the cluster that holds queues is up"
    );
}
