//! Every queue argument, good and bad, with the text that clients are told.

use std::time::Duration;

use super::*;
use crate::queue::{Overflow, Settings};

fn refused(argument: &str, value: impl Into<Value>) -> String {
    let arguments = table(&[(argument, value.into())]);
    Fixture::new().refused_text(declare(with_arguments("q", arguments)))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn bad_arguments_are_refused_with_rabbitmqs_texts() {
    let bad: [(&str, Value, &str); 27] = [
        ("x-message-ttl", (-1_i64).into(), "{value_negative,-1}"),
        (
            "x-message-ttl",
            "a".into(),
            "\"expected integer, got longstr\"",
        ),
        (
            "x-message-ttl",
            1.5_f64.into(),
            "\"expected integer, got double\"",
        ),
        ("x-expires", 0_i32.into(), "{value_zero,0}"),
        ("x-expires", (-5_i64).into(), "{value_negative,-5}"),
        ("x-max-length", (-1_i8).into(), "{value_negative,-1}"),
        (
            "x-max-length",
            true.into(),
            "\"expected integer, got bool\"",
        ),
        ("x-max-length-bytes", (-1_i64).into(), "{value_negative,-1}"),
        (
            "x-max-length-bytes",
            Value::Void,
            "\"expected integer, got void\"",
        ),
        ("x-max-priority", 300_i64.into(), "{max_value_exceeded,300}"),
        ("x-max-priority", (-1_i64).into(), "{value_negative,-1}"),
        (
            "x-max-priority",
            "9".into(),
            "\"expected integer, got longstr\"",
        ),
        ("x-overflow", "drop-tail".into(), "invalid_overflow"),
        ("x-overflow", 1_i64.into(), "{unacceptable_type,long}"),
        (
            "x-dead-letter-routing-key",
            "k".into(),
            "routing_key_but_no_dlx_defined",
        ),
        (
            "x-dead-letter-routing-key",
            1_i16.into(),
            "{unacceptable_type,short}",
        ),
        (
            "x-queue-mode",
            "eager".into(),
            "\"unsupported queue mode 'eager'\"",
        ),
        ("x-queue-mode", 1_i64.into(), "{unacceptable_type,long}"),
        (
            "x-queue-version",
            3_i64.into(),
            "\"unsupported queue version '3'\"",
        ),
        ("x-queue-version", (-1_i64).into(), "{value_negative,-1}"),
        (
            "x-single-active-consumer",
            "true".into(),
            "{unacceptable_type,longstr}",
        ),
        (
            "x-queue-type",
            "zz".into(),
            "\"unsupported queue type 'zz'\"",
        ),
        ("x-queue-type", 1_i64.into(), "{unacceptable_type,long}"),
        (
            "x-queue-leader-locator",
            "nearest".into(),
            "invalid_queue_locator_arg",
        ),
        ("x-delivery-limit", (-1_i64).into(), "{value_negative,-1}"),
        ("x-consumer-timeout", (-1_i64).into(), "{value_negative,-1}"),
        (
            "x-consumer-timeout",
            "1h".into(),
            "\"expected integer, got longstr\"",
        ),
    ];
    for (argument, value, reason) in bad {
        let expected = format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}");
        assert_eq!(refused(argument, value), expected);
    }
    assert_eq!(
        refused("x-dead-letter-exchange", 1_i32),
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
    );
}

#[test]
fn arguments_of_other_queue_types_are_refused() {
    for argument in [
        "x-max-age",
        "x-max-in-memory-length",
        "x-initial-cluster-size",
    ] {
        assert_eq!(
            refused(argument, 1_i64),
            format!(
                "invalid arg '{argument}' for queue 'q' in vhost '/' of queue type \
                 rabbit_classic_queue"
            )
        );
    }
}

#[test]
fn other_queue_types_are_refused_as_not_implemented() {
    for queue_type in ["quorum", "stream"] {
        let arguments = table(&[("x-queue-type", queue_type.into())]);
        let refusal = Fixture::new().refused(declare(with_arguments("q", arguments)));
        let Refusal::NotImplemented(text) = refusal else {
            panic!("{refusal:?}")
        };
        assert!(
            text.contains(&format!("queue type '{queue_type}' is not supported")),
            "{text}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn good_arguments_become_settings() {
    let good: Vec<(&str, Value, Settings)> = vec![
        ("x-message-ttl", 0_i64.into(), {
            Settings {
                message_ttl: Some(Duration::ZERO),
                ..Settings::default()
            }
        }),
        ("x-expires", 1000_i32.into(), {
            Settings {
                expires: Some(Duration::from_secs(1)),
                ..Settings::default()
            }
        }),
        (
            "x-max-length",
            0_u8.into(),
            Settings {
                length_max: Some(0),
                ..Settings::default()
            },
        ),
        ("x-max-length-bytes", 5_u16.into(), {
            Settings {
                length_max_bytes: Some(5),
                ..Settings::default()
            }
        }),
        ("x-max-priority", 255_i64.into(), {
            Settings {
                priority_max: Some(255),
                ..Settings::default()
            }
        }),
        ("x-overflow", "reject-publish".into(), {
            Settings {
                overflow: Overflow::RejectPublish,
                ..Settings::default()
            }
        }),
        ("x-overflow", "reject-publish-dlx".into(), {
            Settings {
                overflow: Overflow::RejectPublishDlx,
                ..Settings::default()
            }
        }),
        ("x-overflow", "drop-head".into(), Settings::default()),
        ("x-dead-letter-exchange", "".into(), {
            Settings {
                dead_letter_exchange: Some("".into()),
                ..Settings::default()
            }
        }),
        (
            "x-queue-mode",
            "lazy".into(),
            Settings {
                lazy: true,
                ..Settings::default()
            },
        ),
        ("x-queue-mode", "default".into(), Settings::default()),
        ("x-queue-version", 2_i64.into(), Settings::default()),
        ("x-single-active-consumer", true.into(), {
            Settings {
                single_active_consumer: true,
                ..Settings::default()
            }
        }),
        ("x-delivery-limit", 3_i64.into(), {
            Settings {
                delivery_limit: Some(3),
                ..Settings::default()
            }
        }),
        ("x-consumer-timeout", 10_i64.into(), {
            Settings {
                consumer_timeout: Some(Duration::from_millis(10)),
                ..Settings::default()
            }
        }),
        ("x-queue-type", "classic".into(), Settings::default()),
        (
            "x-queue-master-locator",
            "min-masters".into(),
            Settings::default(),
        ),
        (
            "x-queue-leader-locator",
            "balanced".into(),
            Settings::default(),
        ),
        ("x-ha-policy", "all".into(), Settings::default()),
        ("x-nobody-knows", Value::Void, Settings::default()),
    ];
    for (argument, value, settings) in good {
        let mut fixture = Fixture::new();
        let arguments = table(&[(argument, value)]);
        fixture.done(declare(with_arguments("q", arguments.clone())));
        let vhost = fixture.vhost();
        let queue = vhost.queues.get("q").unwrap();
        assert_eq!(*queue.settings, settings, "{argument}");
        assert_eq!(*queue.arguments, arguments, "arguments are kept");
    }
}

#[test]
fn the_default_type_of_the_virtual_host_is_written_into_the_arguments() {
    let mut fixture = Fixture::new();
    let default = |queue_type: &str| {
        let default_queue_type = Some(queue_type.into());
        Command::PutVhost(VhostSpec {
            name: "/".into(),
            default_queue_type,
            ..VhostSpec::default()
        })
    };
    fixture.done(default("classic"));
    fixture.queue("a");
    let classic = table(&[("x-queue-type", "classic".into())]);
    assert_eq!(*fixture.vhost().queues.get("a").unwrap().arguments, classic);
    fixture.done(default("quorum"));
    let refusal = fixture.refused(declare(durable("b")));
    assert!(matches!(refusal, Refusal::NotImplemented(_)), "{refusal:?}");
    // What cannot be of the default type is classic, and what says so itself stays as it is.
    fixture.done(declare(exclusive("c", 1)));
    fixture.done(declare(QueueSpec {
        durable: false,
        ..durable("d")
    }));
    fixture.done(declare(QueueSpec {
        auto_delete: true,
        ..durable("e")
    }));
    fixture.done(declare(with_arguments("f", classic)));
}

#[test]
fn reserved_and_impossible_names_are_refused() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.refused_text(declare(durable("amq.foo"))),
        "queue name 'amq.foo' contains reserved prefix 'amq.*'"
    );
    fixture.done(declare(durable("amq.gen-JzTY20BRgKO-HjmUJj0wLg")));
    for name in [String::new(), "a".repeat(256)] {
        let text = fixture.refused_text(declare(durable(&name)));
        assert!(
            text.starts_with("the name of a queue has 1 to 255 bytes"),
            "{text}"
        );
    }
    let ownerless = QueueSpec {
        connection: None,
        ..exclusive("x", 1)
    };
    assert_eq!(
        fixture.refused_text(declare(ownerless)),
        "exclusive queue 'x' without a connection"
    );
}
