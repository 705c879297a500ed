//! Declaring what is there already.

use super::*;

#[test]
fn a_queue_that_differs_is_refused_with_rabbitmqs_texts() {
    let ttl = |n: i64| table(&[("x-message-ttl", n.into())]);
    let quorum = || table(&[("x-queue-type", "quorum".into())]);
    let dlx = |name: &str| table(&[("x-dead-letter-exchange", name.into())]);
    // existing, declared, text behind "inequivalent arg "
    let cases = [
        (
            durable("q"),
            QueueSpec {
                durable: false,
                ..durable("q")
            },
            "'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
        ),
        (
            durable("q"),
            QueueSpec {
                auto_delete: true,
                ..durable("q")
            },
            "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            with_arguments("q", ttl(60000)),
            durable("q"),
            "'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value \
             '60000' of type 'long'",
        ),
        (
            durable("q"),
            with_arguments("q", ttl(60000)),
            "'x-message-ttl' for queue 'q' in vhost '/': received the value '60000' of type 'long' \
             but current is none",
        ),
        (
            with_arguments("q", ttl(60000)),
            with_arguments("q", ttl(300)),
            "'x-message-ttl' for queue 'q' in vhost '/': received '300' but current is '60000'",
        ),
        (
            with_arguments("q", dlx("a")),
            with_arguments("q", dlx("b")),
            "'x-dead-letter-exchange' for queue 'q' in vhost '/': received 'b' but current is 'a'",
        ),
        (
            durable("q"),
            with_arguments("q", quorum()),
            "'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type \
             'longstr' but current is none",
        ),
    ];
    for (existing, declared, text) in cases {
        let mut fixture = Fixture::new();
        fixture.done(declare(existing));
        let refusal = fixture.refused(declare(declared));
        assert_eq!(
            refusal,
            Refusal::Inequivalent(format!("inequivalent arg {text}"))
        );
    }
}

#[test]
fn a_queue_that_is_equivalent_is_found() {
    let classic = table(&[("x-queue-type", "classic".into())]);
    let cases = [
        (durable("q"), durable("q")),
        // Numbers are equal whatever their width.
        (
            with_arguments("q", table(&[("x-expires", 9_i64.into())])),
            with_arguments("q", table(&[("x-expires", 9_u8.into())])),
        ),
        (durable("q"), with_arguments("q", classic.clone())),
        (with_arguments("q", classic), durable("q")),
        // Arguments that nobody knows are not compared.
        (
            durable("q"),
            with_arguments("q", table(&[("x-whatever", 1_i64.into())])),
        ),
        // Exclusive queues are never durable.
        (
            exclusive("q", 1),
            QueueSpec {
                durable: false,
                ..exclusive("q", 1)
            },
        ),
    ];
    for (existing, declared) in cases {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.done(declare(existing)), created(1));
        let found = Outcome::Declared(Declared {
            created: false,
            queue: Some(QueueId(1)),
        });
        assert_eq!(fixture.done(declare(declared)), found);
        assert_eq!(fixture.take_changes(), [Change::QueueCreated(QueueId(1))]);
    }
}

#[test]
fn an_exclusive_queue_belongs_to_its_connection() {
    let locked = Refusal::ExclusiveOwner {
        vhost: "/".into(),
        name: "q".into(),
    };
    let mut fixture = Fixture::new();
    fixture.done(declare(exclusive("q", 1)));
    assert_eq!(fixture.refused(declare(exclusive("q", 2))), locked);
    // Even the owner must say that it is exclusive.
    assert_eq!(fixture.refused(declare(durable("q"))), locked);
    let mut fixture = Fixture::new();
    fixture.done(declare(durable("q")));
    assert_eq!(fixture.refused(declare(exclusive("q", 1))), locked);
}

#[test]
fn an_exchange_that_differs_is_refused_with_rabbitmqs_texts() {
    let plain = exchange("x", "topic");
    let alternate = |name: &str| table(&[("alternate-exchange", name.into())]);
    let cases = [
        (
            exchange("x", "direct"),
            "'type' for exchange 'x' in vhost '/': received 'direct' but current is 'topic'",
        ),
        (
            ExchangeSpec {
                durable: false,
                ..plain.clone()
            },
            "'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'",
        ),
        (
            ExchangeSpec {
                auto_delete: true,
                ..plain.clone()
            },
            "'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            ExchangeSpec {
                internal: true,
                ..plain.clone()
            },
            "'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            ExchangeSpec {
                arguments: alternate("ae"),
                ..plain.clone()
            },
            "'alternate-exchange' for exchange 'x' in vhost '/': received the value 'ae' of type \
             'longstr' but current is none",
        ),
    ];
    let mut fixture = Fixture::new();
    fixture.done(declare_exchange(plain.clone()));
    for (declared, text) in cases {
        let refusal = fixture.refused(declare_exchange(declared));
        assert_eq!(
            refusal,
            Refusal::Inequivalent(format!("inequivalent arg {text}"))
        );
    }
    let other = table(&[("whatever", 1_i64.into())]);
    let found = Outcome::Declared(Declared {
        created: false,
        queue: None,
    });
    assert_eq!(
        fixture.done(declare_exchange(ExchangeSpec {
            arguments: other,
            ..plain
        })),
        found
    );
    fixture.done(declare_exchange(exchange("amq.topic", "topic")));
}

#[test]
fn exchanges_that_cannot_be_are_refused() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.refused(declare_exchange(exchange("x", "nosuchtype"))),
        Refusal::UnknownExchangeType("nosuchtype".into())
    );
    let with = |kind: &str, arguments: Table| {
        declare_exchange(ExchangeSpec {
            arguments,
            ..exchange("x", kind)
        })
    };
    let delayed = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    let nested = table(&[("x-delayed-type", "x-delayed-message".into())]);
    let both = table(&[
        ("hash-header", "h".into()),
        ("hash-property", "message_id".into()),
    ]);
    let texts = [
        (
            declare_exchange(exchange("", "direct")),
            "operation not permitted on the default exchange",
        ),
        (
            declare_exchange(exchange("amq.foo", "direct")),
            "exchange name 'amq.foo' contains reserved prefix 'amq.*'",
        ),
        (
            with("direct", table(&[("alternate-exchange", 1_i64.into())])),
            "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
        ),
        (with("x-delayed-message", Table::new()), delayed),
        (
            with(
                "x-delayed-message",
                table(&[("x-delayed-type", "zz".into())]),
            ),
            delayed,
        ),
        (with("x-delayed-message", nested), delayed),
        (
            with("x-consistent-hash", both),
            "hash-header and hash-property are mutually exclusive",
        ),
        (
            with(
                "x-consistent-hash",
                table(&[("hash-property", "user_id".into())]),
            ),
            "Unsupported property: user_id",
        ),
    ];
    for (command, text) in texts {
        assert_eq!(fixture.refused_text(command), text);
    }
}

#[test]
fn what_is_there_already_is_told_without_a_command() {
    let mut fixture = Fixture::new();
    let declared = with_arguments("q", table(&[("x-max-length", 1_i64.into())]));
    let commands = [
        declare(declared.clone()),
        declare_exchange(exchange("x", "topic")),
        bind(
            "x",
            to_queue("q"),
            "k",
            table(&[("b", 1_i64.into()), ("a", 2_i64.into())]),
        ),
    ];
    for command in &commands {
        assert_eq!(fixture.tables().already(command), None);
        fixture.done(command.clone());
        let told = fixture.tables().already(command).unwrap();
        let before = fixture.tables();
        assert_eq!(fixture.done(command.clone()), told);
        assert!(
            Arc::ptr_eq(&before, &fixture.tables()),
            "it would have changed nothing"
        );
    }
    let others = [
        declare(durable("q")),
        declare(exclusive("q", 2)),
        declare(durable("other")),
        declare_exchange(exchange("x", "direct")),
        declare_exchange(exchange("", "direct")),
        bind("x", to_queue("q"), "k", Table::new()),
        delete("q"),
    ];
    for command in others {
        assert_eq!(fixture.tables().already(&command), None, "{command:?}");
    }
}
