//! Virtual hosts, their limits, users, and what goes with a node or a connection.

use super::*;

#[test]
fn a_virtual_host_is_made_with_its_default_exchanges() {
    let fixture = Fixture::new();
    let vhost = fixture.vhost();
    let found: Vec<(&str, &str, bool)> = vhost
        .exchanges
        .values()
        .map(|exchange| (&*exchange.name, exchange.kind.name(), exchange.internal))
        .collect();
    let expected = [
        ("", "direct", false),
        ("amq.direct", "direct", false),
        ("amq.fanout", "fanout", false),
        ("amq.headers", "headers", false),
        ("amq.match", "headers", false),
        ("amq.rabbitmq.trace", "topic", true),
        ("amq.topic", "topic", false),
    ];
    assert_eq!(found, expected);
    assert!(
        vhost
            .exchanges
            .values()
            .all(|exchange| exchange.durable && !exchange.auto_delete)
    );
}

#[test]
fn putting_a_virtual_host_again_changes_only_what_is_given() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let spec = VhostSpec {
        name: "/".into(),
        description: Some("main".into()),
        default_queue_type: Some("classic".into()),
        ..VhostSpec::default()
    };
    let again = Outcome::Declared(Declared {
        created: false,
        queue: None,
    });
    assert_eq!(fixture.done(Command::PutVhost(spec)), again);
    let tags = Some(vec!["production".into()]);
    let default_queue_type = Some("undefined".into());
    let spec = VhostSpec {
        name: "/".into(),
        tags,
        default_queue_type,
        ..VhostSpec::default()
    };
    fixture.done(Command::PutVhost(spec));
    let vhost = fixture.vhost();
    assert_eq!(
        (&*vhost.description, names(vhost.tags.iter())),
        ("main", vec!["production"])
    );
    assert_eq!(vhost.default_queue_type, None);
    assert!(vhost.queues.contains_key("q"));
    let spec = VhostSpec {
        name: "/".into(),
        default_queue_type: Some("zz".into()),
        ..VhostSpec::default()
    };
    assert_eq!(
        fixture.refused_text(Command::PutVhost(spec)),
        "unsupported queue type 'zz'"
    );
}

#[test]
fn deleting_a_virtual_host_takes_everything_along() {
    let mut fixture = Fixture::new();
    let q = fixture.queue("q");
    let x = QueueId(q.0 + 1);
    fixture.done(declare(exclusive("x", 7)));
    let delayed = table(&[("x-delayed-type", "direct".into())]);
    fixture.done(declare_exchange(ExchangeSpec {
        arguments: delayed,
        ..exchange("late", "x-delayed-message")
    }));
    fixture.take_changes();
    fixture.done(Command::DeleteVhost { name: "/".into() });
    let expected = [
        Change::QueueDeleted(q),
        Change::QueueDeleted(x),
        Change::ExchangeDeleted {
            vhost: "/".into(),
            name: "late".into(),
        },
        Change::VhostDeleted("/".into()),
    ];
    assert_eq!(fixture.take_changes(), expected);
    assert_eq!(fixture.tables().queues.size(), 0);
    assert!(fixture.tables().queues.get(&q).is_none());
    fixture.done(Command::ConnectionEnded {
        connection: ConnectionId(7),
    });
    assert_eq!(fixture.take_changes(), []);
    let missing = Refusal::NoSuchVhost("/".into());
    assert_eq!(
        fixture.refused(Command::DeleteVhost { name: "/".into() }),
        missing
    );
    assert_eq!(fixture.refused(declare(durable("q"))), missing);
}

#[test]
fn the_queue_limit_is_held_and_zero_means_none() {
    let mut fixture = Fixture::new();
    let limit = |n| Command::SetVhostLimits {
        vhost: "/".into(),
        limits: vec![("max-queues".into(), n)],
    };
    fixture.done(limit(1));
    fixture.queue("a");
    assert_eq!(
        fixture.refused_text(declare(durable("b"))),
        "cannot declare queue 'b': queue limit in vhost '/' (1) is reached"
    );
    // Declaring what is there needs no room.
    fixture.queue("a");
    fixture.done(limit(0));
    fixture.done(delete("a"));
    assert!(
        fixture
            .refused_text(declare(durable("a")))
            .contains("(0) is reached")
    );
    fixture.done(limit(-1));
    fixture.queue("a");
    fixture.done(limit(1));
    fixture.done(Command::ClearVhostLimits {
        vhost: "/".into(),
        limit: None,
    });
    fixture.queue("b");
}

#[test]
fn unknown_limits_are_refused() {
    let mut fixture = Fixture::new();
    let limits = vec![("max-queues".into(), 1), ("foo".into(), 2)];
    assert_eq!(
        fixture.refused_text(Command::SetVhostLimits {
            vhost: "/".into(),
            limits: limits.clone()
        }),
        "Validation failed\n\nUnrecognised terms [{<<\"foo\">>,2}] in limits\n"
    );
    let set = Command::SetUserLimits {
        user: "alice".into(),
        limits,
    };
    assert!(fixture.refused_text(set).ends_with("in user-limits\n"));
    let limits = vec![("max-channels".into(), 3)];
    fixture.done(Command::SetUserLimits {
        user: "alice".into(),
        limits,
    });
    assert_eq!(
        fixture
            .tables()
            .users
            .get("alice")
            .unwrap()
            .limits
            .max_channels,
        Some(3)
    );
    let clear = Command::ClearUserLimits {
        user: "alice".into(),
        limit: Some("foo".into()),
    };
    assert_eq!(fixture.refused(clear), Refusal::NoSuchParameter);
    let clear = Command::ClearUserLimits {
        user: "alice".into(),
        limit: Some("max-channels".into()),
    };
    fixture.done(clear);
    assert_eq!(
        fixture
            .tables()
            .users
            .get("alice")
            .unwrap()
            .limits
            .max_channels,
        None
    );
}

#[test]
fn exclusive_queues_go_with_their_connection() {
    let mut fixture = Fixture::new();
    fixture.done(declare(exclusive("mine", 1)));
    fixture.done(declare(exclusive("other", 2)));
    fixture.queue("durable");
    fixture.bind("amq.fanout", "mine", "");
    fixture.take_changes();
    fixture.done(Command::ConnectionEnded {
        connection: ConnectionId(1),
    });
    assert_eq!(fixture.take_changes(), [Change::QueueDeleted(QueueId(1))]);
    assert_eq!(names(fixture.vhost().queues.keys()), ["durable", "other"]);
    assert_eq!(fixture.vhost().bindings.size(), 0);
    fixture.check_restores();
}

#[test]
fn a_starting_node_loses_its_transient_queues_alone() {
    let mut fixture = Fixture::new();
    let transient = |name: &str, node: &str| {
        declare(QueueSpec {
            durable: false,
            node: node.into(),
            ..durable(name)
        })
    };
    fixture.node("warren@b");
    fixture.queue("kept");
    fixture.done(transient("gone", NODE));
    fixture.done(transient("elsewhere", "warren@b"));
    fixture.done(declare(exclusive("exclusive", 1)));
    let start = || Command::NodeStarted { node: NODE.into() };
    fixture.done(start());
    assert_eq!(names(fixture.vhost().queues.keys()), ["elsewhere", "kept"]);
    fixture.check_restores();
}

#[test]
fn transient_exchanges_go_when_the_only_node_starts() {
    let mut fixture = Fixture::new();
    let transient = ExchangeSpec {
        durable: false,
        ..exchange("x", "direct")
    };
    let start = |node: &str| Command::NodeStarted { node: node.into() };
    fixture.done(declare_exchange(transient.clone()));
    fixture.queue("q");
    fixture.bind("x", "q", "k");
    fixture.done(start(NODE));
    assert!(!fixture.vhost().exchanges.contains_key("x"));
    assert_eq!(fixture.vhost().bindings.size(), 0);
    // Another node keeps them: the cluster did not stop.
    fixture.done(declare_exchange(transient));
    fixture.done(start("warren@b"));
    fixture.done(start(NODE));
    assert!(fixture.vhost().exchanges.contains_key("x"));
}

#[test]
fn users_are_put_tagged_and_deleted_with_their_rights() {
    let mut fixture = Fixture::new();
    let create = UserSpec {
        create_only: true,
        ..user("alice")
    };
    assert_eq!(
        fixture.refused(Command::PutUser(create)),
        Refusal::UserExists("alice".into())
    );
    let limits = vec![("max-connections".into(), 5)];
    fixture.done(Command::SetUserLimits {
        user: "alice".into(),
        limits,
    });
    let mut changed = user("alice");
    changed.password_hash = vec![9; 36];
    fixture.done(Command::PutUser(changed));
    assert_eq!(fixture.take_changes(), [Change::RightsChanged]);
    let tables = fixture.tables();
    let alice = tables.users.get("alice").unwrap();
    assert_eq!(
        (alice.password_hash.len(), alice.limits.max_connections),
        (36, Some(5))
    );

    fixture.done(Command::SetUserTags {
        user: "alice".into(),
        tags: vec![],
    });
    assert!(fixture.tables().users.get("alice").unwrap().tags.is_empty());
    fixture.take_changes();
    fixture.done(Command::DeleteUser {
        user: "alice".into(),
    });
    let expected = [Change::UserDeleted("alice".into()), Change::RightsChanged];
    assert_eq!(fixture.take_changes(), expected);
    let missing = Refusal::NoSuchUser("alice".into());
    assert_eq!(
        fixture.refused(Command::DeleteUser {
            user: "alice".into()
        }),
        missing
    );
    let mut strange = user("bob");
    strange.hashing_algorithm = "rot13".into();
    assert_eq!(
        fixture.refused_text(Command::PutUser(strange)),
        "unknown hashing algorithm 'rot13'"
    );
}
