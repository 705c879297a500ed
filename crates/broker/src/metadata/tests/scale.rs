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
