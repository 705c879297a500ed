//! What the metadata costs at the size it must bear: 100,000 queues, each declared, bound and routed
//! to. Run with `cargo bench -p broker --bench metadata`; an argument sets another number of queues.

use std::hint::black_box;
use std::time::Instant;

use amqp::{PropertiesView, Table};
use broker::exchange::{Routing, route};
use broker::metadata::{
    Command, Destination, Metadata, Outcome, PolicyKind, PolicySpec, QueueSpec, VhostSpec,
};

fn declare(n: usize) -> Command {
    let spec = QueueSpec {
        name: format!("queue-{n}").into(),
        durable: true,
        auto_delete: false,
        exclusive: false,
        connection: None,
        arguments: Table::new().with("x-max-length", 1_000_i64),
        node: "warren@bench".into(),
    };
    Command::DeclareQueue {
        vhost: "/".into(),
        spec,
    }
}

fn bind(n: usize, exchange: &str) -> Command {
    Command::Bind {
        vhost: "/".into(),
        source: exchange.into(),
        destination: Destination::Queue(format!("queue-{n}").into()),
        routing_key: format!("orders.{n}.*").into(),
        arguments: Table::new(),
    }
}

fn timed<T>(what: &str, count: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    let each = took.as_nanos() / count.max(1) as u128;
    println!(
        "{what:<44} {:>9.1} ms {each:>9} ns each",
        took.as_secs_f64() * 1e3
    );
    result
}

fn fresh() -> Metadata {
    let mut metadata = Metadata::new();
    let spec = VhostSpec {
        name: "/".into(),
        ..VhostSpec::default()
    };
    metadata
        .apply(1, &Command::PutVhost(spec))
        .0
        .expect("a virtual host can be made");
    metadata
}

fn route_many(metadata: &Metadata, exchange: &str, keys: &[String]) {
    let tables = metadata.tables();
    let vhost = tables.vhosts.get("/").expect("it was made");
    let exchange = vhost
        .exchanges
        .get(exchange)
        .expect("it was made with the virtual host");
    let properties = PropertiesView::default();
    let mut out = Vec::new();
    for key in keys {
        let routing = Routing {
            keys: &[key.as_bytes()],
            properties: &properties,
            random: 0,
        };
        route(&tables, vhost, exchange, &routing, &mut out);
        assert_eq!(out.len(), 1);
        black_box(&out);
    }
}

fn main() {
    let argument = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let count: usize = argument.unwrap_or(100_000);

    let mut metadata = fresh();
    timed("declare and bind, one entry each", 2 * count, || {
        let mut index = 1;
        for n in 0..count {
            for command in [declare(n), bind(n, "amq.topic")] {
                index += 1;
                // Readers hold the tables, as they do in a node: nothing can be changed in place.
                let held = metadata.tables();
                metadata
                    .apply(index, &command)
                    .0
                    .expect("nothing is in the way");
                drop(held);
            }
        }
    });
    let import = |n| [declare(n), bind(n, "amq.direct")];
    let batch = Command::Batch((0..10_000).flat_map(import).collect());
    timed("import of 10,000 queues and bindings", 20_000, || {
        let (answer, _) = fresh().apply(2, &batch);
        assert!(matches!(answer, Ok(Outcome::Batch(_))));
    });
    let topics: Vec<String> = (0..count).map(|n| format!("orders.{n}.new")).collect();
    timed("route by topic", count, || {
        route_many(&metadata, "amq.topic", &topics)
    });
    let names: Vec<String> = (0..count).map(|n| format!("queue-{n}")).collect();
    timed("route by name", count, || route_many(&metadata, "", &names));
    let policy = PolicySpec {
        name: "ha".into(),
        pattern: "^queue-.*7$".into(),
        apply_to: "queues".into(),
        priority: 0,
        definition: Table::new().with("ha-mode", "all"),
    };
    let set = Command::SetPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        policy,
    };
    let (answer, changes) = timed("set a policy over all queues", count, || {
        metadata.apply(3, &set)
    });
    assert!(answer.is_ok() && changes.len() == count / 10);
    let bytes = timed("snapshot", count, || metadata.snapshot());
    println!("{:<44} {:>9} bytes", "", bytes.len());
    timed("restore", count, || {
        Metadata::restore(&bytes).expect("it was just written")
    });
    timed("delete every queue, one entry each", count, || {
        for n in 0..count {
            let name = format!("queue-{n}").into();
            let command = Command::DeleteQueue {
                vhost: "/".into(),
                name,
                only: None,
            };
            let held = metadata.tables();
            metadata
                .apply(4 + n as u64, &command)
                .0
                .expect("deleting never fails");
            drop(held);
        }
    });
}
