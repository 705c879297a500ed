//! Many queues: the structure must stay cheap. The bounds are generous, for slow machines and builds
//! without optimization; a lost shared structure or a scan per command exceeds them by far.

use std::time::Instant;

use super::*;

const QUEUES: usize = 5_000;

fn declare_and_bind(n: usize) -> [Command; 2] {
    let name = format!("queue-{n}");
    [
        declare(durable(&name)),
        bind(
            "amq.topic",
            to_queue(&name),
            &format!("orders.{n}.#"),
            Table::new(),
        ),
    ]
}

#[test]
fn one_command_costs_the_same_among_many_queues() {
    let mut metadata = Fixture::new().metadata;
    // The clock is read by the test alone.
    let start = Instant::now();
    for (at, command) in (0..QUEUES).flat_map(declare_and_bind).enumerate() {
        let held = metadata.tables();
        let (answer, _) = metadata.apply(at as u64 + 3, &command);
        assert!(answer.is_ok());
        drop(held);
    }
    let each = start.elapsed() / (2 * QUEUES as u32);
    assert!(each.as_micros() < 2_000, "{each:?} for each command");
    assert_eq!(metadata.tables().queues.size(), QUEUES);
}

const MIRRORED: usize = 10_000;

/// A node that leads a third of all queues, and mirrors the rest, goes and comes back.
#[test]
fn one_entry_moves_ten_thousand_queues() {
    let mut fixture = Fixture::new();
    let nodes = [NodeId(1), fixture.node("b"), fixture.node("c")];
    let all = table(&[("ha-mode", "all".into())]);
    fixture.done(set_policy(policy("ha", "", all)));
    let mut metadata = fixture.metadata;
    let names = [NODE, "b", "c"];
    for n in 0..MIRRORED {
        let mut spec = durable(&format!("queue-{n}"));
        spec.node = names[n % 3].into();
        let (answer, _) = metadata.apply(n as u64 + 100, &place(spec, n as u64));
        assert!(answer.is_ok());
    }
    // Readers hold the tables meanwhile.
    let held = metadata.tables();
    let (node, incarnation, clean) = (nodes[0], 1, false);
    let down = Command::NodeDown {
        node,
        incarnation,
        clean,
    };
    let start = Instant::now();
    let (answer, changes) = metadata.apply(1_000_000, &down);
    let took = start.elapsed();
    assert_eq!((answer, changes.len()), (Ok(Outcome::Done), MIRRORED + 1));
    println!("{MIRRORED} queues without one of their three nodes: {took:?}");
    assert!(took.as_millis() < 5_000, "{took:?}");
    let start = Instant::now();
    let up = Command::NodeUp {
        node,
        incarnation: 2,
        address: String::new(),
    };
    metadata.apply(1_000_001, &up).0.unwrap();
    let tables = metadata.tables();
    let steps = tables.next_steps(None, 1);
    println!("{MIRRORED} next steps: {:?}", start.elapsed());
    assert_eq!(steps.len(), MIRRORED);
    assert_eq!(held.seating.leaders(nodes[1]), MIRRORED as u64 / 3);
}
