//! The log as a whole: any sequence of commands gives one state, whoever applies it, and a snapshot
//! taken anywhere in it carries on as if it had never been taken.

use proptest::prelude::*;

use super::*;
use crate::mutant::{Mutant, notices};

fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    (0..4_u8).prop_map(move |n| format!("{prefix}{n}"))
}

fn destination() -> impl Strategy<Value = Destination> {
    prop_oneof![
        3 => name("q").prop_map(|name| to_queue(&name)),
        1 => name("x").prop_map(|name| to_exchange(&name)),
    ]
}

fn source() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => name("x"),
        1 => Just("amq.topic".to_owned()),
        1 => Just("amq.headers".to_owned()),
    ]
}

fn arguments() -> impl Strategy<Value = Table> {
    prop_oneof![
        4 => Just(Table::new()),
        1 => (0..3_i64).prop_map(|n| table(&[("x-max-length", n.into())])),
        1 => Just(table(&[("a", 1_i64.into()), ("x-match", "any".into())])),
        1 => Just(table(&[("alternate-exchange", "x0".into())])),
    ]
}

fn a_queue() -> impl Strategy<Value = Command> {
    (name("q"), 0..3_u64, any::<[bool; 3]>(), arguments()).prop_map(
        |(name, connection, [is_durable, is_exclusive, auto_delete], arguments)| {
            let mut spec = exclusive(&name, connection);
            spec.durable = is_durable;
            spec.exclusive = is_exclusive;
            spec.auto_delete = auto_delete;
            spec.arguments = arguments;
            declare(spec)
        },
    )
}

fn an_exchange() -> impl Strategy<Value = Command> {
    let kinds = [
        "direct",
        "fanout",
        "topic",
        "headers",
        "x-consistent-hash",
        "x-random",
    ];
    (
        name("x"),
        prop::sample::select(kinds.to_vec()),
        any::<[bool; 2]>(),
        arguments(),
    )
        .prop_map(|(name, kind, [durable, auto_delete], arguments)| {
            declare_exchange(ExchangeSpec {
                durable,
                auto_delete,
                arguments,
                ..exchange(&name, kind)
            })
        })
}

fn a_binding() -> impl Strategy<Value = Command> {
    let key = prop::sample::select(vec!["", "1", "2", "a.*", "#.a.#"]);
    (any::<bool>(), source(), destination(), key, arguments()).prop_map(
        |(adds, source, destination, key, arguments)| {
            let command = if adds { bind } else { unbind };
            command(&source, destination, key, arguments)
        },
    )
}

fn a_policy() -> impl Strategy<Value = Command> {
    let pattern = prop::sample::select(vec![".*", "^q", "1$", "^x", "("]);
    let key = prop::sample::select(vec!["max-length", "alternate-exchange", "ha-mode", "foo"]);
    (name("p"), pattern, key, 0..2_i64, any::<bool>()).prop_map(
        |(name, pattern, key, priority, operator)| {
            let value = if key == "max-length" {
                3_i64.into()
            } else {
                Value::from("all")
            };
            let spec = policy(&name, pattern, table(&[(key, value)]));
            let spec = PolicySpec { priority, ..spec };
            if operator {
                set_operator_policy(spec)
            } else {
                set_policy(spec)
            }
        },
    )
}

fn a_node() -> impl Strategy<Value = Command> {
    let kinds = [NodeKind::Disc, NodeKind::Ram];
    let kind = prop::sample::select(kinds.to_vec());
    (0..6_u8, name("n"), 1..4_u64, 0..3_u64, any::<bool>(), kind).prop_map(
        |(which, name, node, incarnation, on, kind)| {
            let (node, address) = (NodeId(node), name.clone());
            match which {
                0 => Command::RegisterNode {
                    name: name.into(),
                    address,
                    kind,
                    disk: node.0,
                },
                1 => Command::NodeUp {
                    node,
                    incarnation,
                    address,
                },
                2 => Command::NodeDown {
                    node,
                    incarnation,
                    clean: on,
                },
                3 => Command::SetDraining { node, on },
                4 => Command::SetNodeKind { node, kind },
                _ => Command::ForgetNode { node, force: on },
            }
        },
    )
}

fn a_placed_queue() -> impl Strategy<Value = Command> {
    let locators = ["random", "round-robin", "min-masters", "min-messages", "?"];
    let locator = prop::sample::select(locators.to_vec());
    (name("q"), any::<u64>(), 0..4_u64, locator).prop_map(|(name, draw, node, locator)| {
        Command::PlaceQueue {
            vhost: "/".into(),
            spec: durable(&name),
            draw,
            suggestion: (node > 0).then_some(NodeId(node)),
            default_locator: locator.to_owned(),
        }
    })
}

fn a_view_change() -> impl Strategy<Value = Command> {
    (0..8_u8, 1..9_u64, 1..5_u64, 1..4_u64).prop_map(|(which, queue, epoch, node)| {
        let node = NodeId(node);
        let change = match which {
            0 => ViewChange::AddMirror(node),
            1 => ViewChange::InSync(node),
            2 => ViewChange::Evict(node),
            3 => ViewChange::DropMirror(node),
            4 => ViewChange::Transfer(node),
            5 => ViewChange::Merged(node),
            6 => ViewChange::Stop,
            _ => ViewChange::Promote {
                node,
                unclean: epoch > 2,
            },
        };
        let queue = QueueId(queue);
        Command::ChangeView {
            queue,
            epoch,
            change,
        }
    })
}

fn a_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => a_node(),
        4 => a_placed_queue(),
        4 => a_view_change(),
        1 => (0..2_u64, 0..3_u64).prop_map(|(id, generation)| {
            Command::FoundCluster { id, generation }
        }),
        6 => a_queue(),
        4 => an_exchange(),
        12 => a_binding(),
        2 => a_policy(),
        2 => name("q").prop_map(|name| delete(&name)),
        2 => (name("x"), any::<bool>()).prop_map(|(name, unused)| delete_exchange(&name, unused)),
        1 => name("p").prop_map(|name| Command::ClearPolicy {
            vhost: "/".into(),
            kind: PolicyKind::User,
            name: name.into(),
        }),
        1 => (0..3_u64).prop_map(|n| Command::ConnectionEnded { connection: ConnectionId(n) }),
        1 => Just(Command::NodeStarted { node: NODE.into() }),
        1 => Just(Command::DeleteVhost { name: "/".into() }),
        2 => Just(Command::PutVhost(VhostSpec { name: "/".into(), ..VhostSpec::default() })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_same_log_gives_the_same_state(
        log in prop::collection::vec(a_command(), 1..60),
        cut in 0..60_usize,
    ) {
        let mut fixture = Fixture::new();
        let mut follower = Fixture::new();
        for (at, command) in log.into_iter().enumerate() {
            let answer = fixture.apply(command.clone());
            prop_assert_eq!(follower.apply(command), answer);
            if at == cut {
                // The follower falls behind and is given a snapshot.
                follower.metadata = Metadata::restore(&fixture.metadata.snapshot()).unwrap();
            }
            prop_assert_eq!(&fixture.changes, &follower.changes);
        }
        prop_assert_eq!(fixture.metadata.snapshot(), follower.metadata.snapshot());
        fixture.check_restores();
        follower.check_restores();
    }

    #[test]
    fn garbage_is_never_a_command_that_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Command::decode(&bytes);
        let _ = Metadata::restore(&bytes);
        let _ = decode_answer(&bytes);
    }
}

#[test]
fn a_batch_is_answered_one_by_one() {
    let mut fixture = Fixture::new();
    let revision = fixture.tables().revision;
    let outcome = fixture.done(Command::Batch(vec![
        declare(durable("a")),
        declare(durable("amq.b")),
        bind("amq.direct", to_queue("a"), "k", Table::new()),
        Command::Batch(vec![]),
    ]));
    let Outcome::Batch(answers) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], Ok(created(1)));
    assert!(matches!(answers[1], Err(Refusal::AccessRefused(_))));
    assert_eq!(answers[2], Ok(Outcome::Done));
    assert!(matches!(answers[3], Err(Refusal::Invalid(_))));
    assert_eq!(fixture.tables().revision, revision + 1);
}

#[test]
fn the_revision_rises_only_with_a_change() {
    let mut fixture = Fixture::new();
    let revision = fixture.tables().revision;
    let tables = fixture.tables();
    fixture.refused(declare(durable("amq.b")));
    fixture.done(delete("missing"));
    fixture.done(Command::ConnectionEnded {
        connection: ConnectionId(9),
    });
    fixture.done(unbind("amq.direct", to_queue("q"), "k", Table::new()));
    assert!(Arc::ptr_eq(&tables, &fixture.tables()));
    fixture.queue("q");
    assert_eq!(fixture.tables().revision, revision + 1);
    assert_eq!(fixture.metadata.applied(), 9);
}

#[test]
fn bytes_of_another_version_are_refused() {
    let mut bytes = Command::NodeStarted { node: NODE.into() }.encode();
    assert!(Command::decode(&bytes).is_ok());
    bytes.push(0);
    let error = Command::decode(&bytes).unwrap_err();
    assert_eq!(error, Unreadable::Malformed("1 bytes too many".into()));
    bytes[0] = 2;
    assert_eq!(Command::decode(&bytes), Err(Unreadable::Version(2)));
    assert_eq!(Command::decode(&[]), Err(Unreadable::Empty));
    assert_eq!(Metadata::restore(&[]).unwrap_err(), Unreadable::Empty);
}

#[test]
fn a_command_of_a_later_version_that_is_skipped_is_found() {
    notices(Mutant::SkipUnknown, bytes_of_another_version_are_refused);
}
