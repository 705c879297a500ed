//! Where new queues go.

use super::*;

fn five() -> Fixture {
    let mut fixture = Fixture::new();
    for name in ["b", "c", "d", "e"] {
        fixture.node(name);
    }
    fixture
}

fn placed(fixture: &mut Fixture, spec: QueueSpec, draw: u64) -> NodeId {
    let name = spec.name.to_string();
    fixture.done(place(spec, draw));
    fixture.view(&name).leader()
}

fn located(name: &str, key: &str, strategy: &str) -> QueueSpec {
    with_arguments(name, table(&[(key, strategy.into())]))
}

#[test]
fn both_families_of_names_mean_the_same() {
    for (name, locator) in [
        ("client-local", Locator::ClientLocal),
        ("min-masters", Locator::Balanced),
        ("least-leaders", Locator::Balanced),
        ("balanced", Locator::Balanced),
        ("random", Locator::Random),
        ("round-robin", Locator::RoundRobin),
        ("min-messages", Locator::MinMessages),
        ("min-connections", Locator::MinConnections),
    ] {
        assert_eq!(Locator::of(name), Some(locator));
        assert!(Locator::NAMES.contains(&name));
    }
    assert_eq!(Locator::of("elsewhere"), None);
}

#[test]
fn the_first_strategy_that_is_named_counts() {
    let argument = |key: &str, name: &str| table(&[(key, name.into())]);
    let none = Table::new();
    let of = |arguments: &Table, policy: &Table, default: &str| {
        Locator::in_force(arguments, policy, default)
    };
    let random = argument("queue-leader-locator", "random");
    let local = argument("x-queue-master-locator", "client-local");
    assert_eq!(of(&none, &none, ""), Locator::ClientLocal);
    assert_eq!(of(&none, &none, "balanced"), Locator::Balanced);
    assert_eq!(of(&none, &random, "balanced"), Locator::Random);
    assert_eq!(of(&local, &random, "balanced"), Locator::ClientLocal);
    // A name that nobody knows counts as absent.
    let unknown = argument("x-queue-master-locator", "nowhere");
    assert_eq!(of(&unknown, &random, ""), Locator::Random);
}

#[test]
fn a_queue_stays_where_it_was_declared_unless_something_says_otherwise() {
    let mut fixture = five();
    let mut spec = durable("q");
    spec.node = "c".into();
    assert_eq!(placed(&mut fixture, spec.clone(), 1), NodeId(3));
    // A second declaration finds it, wherever it comes from.
    spec.node = "d".into();
    let again = place(spec.clone(), 2);
    assert!(fixture.tables().already(&again).is_some());
    fixture.done(again);
    assert_eq!(fixture.view("q").leader(), NodeId(3));
    // A node that went meanwhile is not asked.
    fixture.down(NodeId(4), false);
    spec.name = "r".into();
    assert_ne!(placed(&mut fixture, spec, 1), NodeId(4));
}

#[test]
fn balanced_takes_the_node_with_the_fewest_leaders() {
    let mut fixture = five();
    for n in 0..20 {
        let name = format!("q{n}");
        let spec = located(&name, "x-queue-leader-locator", "balanced");
        placed(&mut fixture, spec, n);
    }
    for node in 1..=5 {
        assert_eq!(fixture.tables().seating.leaders(NodeId(node)), 4);
    }
}

#[test]
fn random_and_round_robin_use_every_node_that_takes_queues() {
    let mut fixture = five();
    let (node, on) = (NodeId(2), true);
    fixture.done(Command::SetDraining { node, on });
    fixture.down(NodeId(5), true);
    let mut random = std::collections::BTreeSet::new();
    let mut turns = Vec::new();
    for n in 0..30 {
        let spec = located(&format!("r{n}"), "x-queue-master-locator", "random");
        random.insert(placed(&mut fixture, spec, n * 7));
        let spec = located(&format!("t{n}"), "x-queue-master-locator", "round-robin");
        turns.push(placed(&mut fixture, spec, n));
    }
    let takers = [1, 3, 4].map(NodeId);
    assert_eq!(random.into_iter().collect::<Vec<_>>(), takers);
    assert_eq!(turns[..3], takers);
    assert_eq!(turns[27..], takers);
    fixture.check_restores();
}

#[test]
fn strategies_that_need_live_numbers_follow_the_proposer() {
    let mut fixture = five();
    let asked = |name: &str, suggestion| Command::PlaceQueue {
        vhost: "/".into(),
        spec: durable(name),
        draw: 3,
        suggestion,
        default_locator: "min-messages".into(),
    };
    fixture.done(asked("q", Some(NodeId(4))));
    assert_eq!(fixture.view("q").leader(), NodeId(4));
    // A suggestion that is no candidate is as good as none.
    fixture.done(asked("r", Some(NodeId(9))));
    let leader = fixture.view("r").leader();
    assert!(leader != NodeId(4) && fixture.tables().nodes.is_up(leader));
}

#[test]
fn the_proposer_suggests_the_candidate_with_the_least_to_do() {
    let mut fixture = five();
    let (node, on) = (NodeId(5), true);
    fixture.done(Command::SetDraining { node, on });
    let suggested = |fixture: &Fixture, spec: &QueueSpec, load: &dyn Fn(NodeId) -> Option<Load>| {
        let (draw, suggestion, default_locator) = (3, None, "client-local");
        let hints = Hints {
            draw,
            suggestion,
            default_locator,
        };
        fixture.tables().least_loaded("/", spec, hints, load)
    };
    // Few messages where many connections are. The drained node has nothing to do, and gets nothing.
    let load = |node: NodeId| {
        let (messages, connections) = [(9, 1), (2, 7), (4, 3), (4, 5), (0, 0)][node.0 as usize - 1];
        Some(Load {
            messages,
            connections,
        })
    };
    let by = |strategy| located("q", "x-queue-master-locator", strategy);
    assert_eq!(
        suggested(&fixture, &by("min-messages"), &load),
        Some(NodeId(2))
    );
    assert_eq!(
        suggested(&fixture, &by("min-connections"), &load),
        Some(NodeId(1))
    );
    for other in ["client-local", "min-masters", "random", "round-robin"] {
        assert_eq!(suggested(&fixture, &by(other), &load), None);
    }
    // Of several with the least, the one that leads the fewest queues.
    let (even, idle) = (by("min-messages"), Load::default());
    fixture.done(place(
        located("one", "x-queue-leader-locator", "client-local"),
        1,
    ));
    let suggestion = suggested(&fixture, &even, &|_| Some(idle));
    assert!(suggestion.is_some_and(|node| (2..=4).contains(&node.0)));
    // Nobody knows of one candidate; of one that is none, nobody needs to.
    let not_of = |missing| move |node| load(node).filter(|_| node != NodeId(missing));
    assert_eq!(suggested(&fixture, &even, &not_of(4)), None);
    assert_eq!(suggested(&fixture, &even, &not_of(5)), Some(NodeId(2)));
}

#[test]
fn a_policy_may_ask_for_the_least_to_do_among_its_nodes() {
    let mut fixture = five();
    let names: Vec<Value> = ["d", "b"].map(Value::from).to_vec();
    let definition = table(&[
        ("ha-mode", "nodes".into()),
        ("ha-params", names.into()),
        ("queue-master-locator", "min-connections".into()),
    ]);
    fixture.done(set_policy(policy("ha", "^q$", definition)));
    let (draw, suggestion, default_locator) = (3, None, "");
    let hints = Hints {
        draw,
        suggestion,
        default_locator,
    };
    let load = |node: NodeId| {
        Some(Load {
            messages: 0,
            connections: node.0,
        })
    };
    let suggested = |spec: QueueSpec| fixture.tables().least_loaded("/", &spec, hints, load);
    assert_eq!(suggested(durable("q")), Some(NodeId(2)));
    assert_eq!(suggested(durable("other")), None);
    assert_eq!(suggested(exclusive("q", 1)), None);
}

#[test]
fn mirrors_are_there_and_in_sync_from_the_start() {
    let mut fixture = five();
    let definition = table(&[("ha-mode", "exactly".into()), ("ha-params", 3_i64.into())]);
    fixture.mirrored("q", definition);
    let view = fixture.view("q");
    assert_eq!((view.seats.len(), view.epoch), (3, 1));
    assert_eq!(view.leader(), NodeId(1));
    assert!(view.mirrored && view.catching_up.is_empty());
    let id = fixture.id("q");
    for node in view.seats.iter().map(|seat| seat.node) {
        assert!(
            fixture
                .tables()
                .seating
                .queues(node)
                .any(|queue| queue == id)
        );
    }
    assert!(fixture.tables().next_steps(None, 5).is_empty());
}

#[test]
fn a_policy_of_nodes_places_the_queue_on_one_of_them() {
    let mut fixture = five();
    let names: Vec<Value> = ["d", "b"].map(Value::from).to_vec();
    let definition = table(&[("ha-mode", "nodes".into()), ("ha-params", names.into())]);
    fixture.mirrored("q", definition.clone());
    assert_eq!(fixture.seats("q"), [NodeId(4), NodeId(2)]);
    let mut spec = durable("r");
    spec.node = "b".into();
    fixture.done(set_policy(policy("ha", "^r$", definition.clone())));
    fixture.done(place(spec, 1));
    assert_eq!(fixture.seats("r"), [NodeId(2), NodeId(4)]);
    // None of them runs: the queue is made where it was asked for.
    fixture.down(NodeId(2), false);
    fixture.down(NodeId(4), false);
    fixture.mirrored("s", definition);
    assert_eq!(fixture.seats("s"), [NodeId(1)]);
}

#[test]
fn an_exclusive_queue_stays_with_its_owner() {
    let mut fixture = five();
    let all = table(&[
        ("ha-mode", "all".into()),
        ("queue-master-locator", "random".into()),
    ]);
    fixture.done(set_policy(policy("ha", "", all)));
    let mut spec = exclusive("e", ConnectionId::of(NodeId(3), 1, 9).0);
    spec.node = "c".into();
    assert_eq!(placed(&mut fixture, spec.clone(), 1), NodeId(3));
    let view = fixture.view("e");
    assert!(!view.mirrored && view.seats.len() == 1);
    assert!(fixture.tables().next_steps(None, 1).is_empty());
    // What a life that has ended declares is nobody's.
    fixture.up(NodeId(3));
    assert!(fixture.vhost().queues.get("e").is_none());
    let text = fixture.refused_text(place(spec, 1));
    assert_eq!(text, "node 'c' is down");
}
