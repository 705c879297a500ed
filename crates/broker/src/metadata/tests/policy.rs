//! Policies at work: which one is in force, and what it changes at once.

use std::time::Duration;

use super::*;
use crate::queue::Settings;

fn max_length(n: i64) -> Table {
    table(&[("max-length", n.into())])
}

fn settings(fixture: &Fixture, queue: &str) -> Arc<Settings> {
    Arc::clone(&fixture.vhost().queues.get(queue).unwrap().settings)
}

fn in_force(fixture: &Fixture, queue: &str) -> Option<String> {
    let vhost = fixture.vhost();
    let policy = vhost.queues.get(queue).unwrap().policy.as_ref();
    policy.map(|policy| policy.spec.name.to_string())
}

#[test]
fn a_policy_changes_matching_queues_at_once() {
    let mut fixture = Fixture::new();
    let a = fixture.queue("a.1");
    fixture.queue("b.1");
    fixture.take_changes();
    let before = fixture.tables();
    fixture.done(set_policy(policy("p", "^a", max_length(5))));
    assert_eq!(fixture.take_changes(), [Change::QueueChanged(a)]);
    assert_eq!(settings(&fixture, "a.1").length_max, Some(5));
    assert_eq!(settings(&fixture, "b.1").length_max, None);
    // Tables that were handed out do not change.
    assert_eq!(before.queue("/", "a.1").unwrap().settings.length_max, None);
    // A queue declared later matches as well.
    fixture.queue("a.2");
    assert_eq!(settings(&fixture, "a.2").length_max, Some(5));
    fixture.take_changes();
    // The same again changes nothing.
    let revision = fixture.tables().revision;
    fixture.done(set_policy(policy("p", "^a", max_length(5))));
    assert_eq!(
        (fixture.take_changes(), fixture.tables().revision),
        (vec![], revision)
    );
    fixture.check_restores();
    fixture.done(Command::ClearPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        name: "p".into(),
    });
    assert_eq!(fixture.take_changes().len(), 2);
    assert_eq!(settings(&fixture, "a.1").length_max, None);
    let missing = Command::ClearPolicy {
        vhost: "/".into(),
        kind: PolicyKind::User,
        name: "p".into(),
    };
    assert_eq!(fixture.refused(missing), Refusal::NoSuchPolicy("p".into()));
}

#[test]
fn the_highest_priority_wins_and_ties_go_by_name() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let set = |fixture: &mut Fixture, name: &str, priority: i64| {
        fixture.done(set_policy(PolicySpec {
            priority,
            ..policy(name, "", max_length(1))
        }));
    };
    // An empty pattern is found in every name.
    set(&mut fixture, "x", -9);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("x"));
    let set = |fixture: &mut Fixture, name: &str, priority: i64| {
        fixture.done(set_policy(PolicySpec {
            priority,
            ..policy(name, "q", max_length(1))
        }));
    };
    set(&mut fixture, "m", 0);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("m"));
    set(&mut fixture, "z", 0);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("m"));
    set(&mut fixture, "a", 0);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("a"));
    set(&mut fixture, "z", 1);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("z"));
    set(&mut fixture, "z", -1);
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("a"));
}

#[test]
fn a_policy_applies_to_its_sort_of_object_alone() {
    // apply-to, to the queue, to the exchange
    let cases = [
        ("all", true, true),
        ("queues", true, false),
        ("classic_queues", true, false),
        ("quorum_queues", false, false),
        ("streams", false, false),
        ("exchanges", false, true),
    ];
    for (apply_to, queue, exchange) in cases {
        let mut fixture = Fixture::new();
        fixture.queue("q");
        let definition = table(&[("alternate-exchange", "ae".into())]);
        let spec = PolicySpec {
            apply_to: apply_to.into(),
            ..policy("p", ".*", definition)
        };
        fixture.done(set_policy(spec));
        let vhost = fixture.vhost();
        assert_eq!(in_force(&fixture, "q").is_some(), queue, "{apply_to}");
        let direct = vhost.exchanges.get("amq.direct").unwrap();
        assert_eq!(
            direct.alternate.as_deref(),
            exchange.then_some("ae"),
            "{apply_to}"
        );
    }
}

#[test]
fn a_policy_with_a_setting_of_other_queue_types_passes_classic_queues_by() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let definition = table(&[("max-length", 1_i64.into()), ("max-age", "1D".into())]);
    fixture.done(set_policy(PolicySpec {
        priority: 9,
        ..policy("streams", "q", definition)
    }));
    assert_eq!(in_force(&fixture, "q"), None);
    fixture.done(set_policy(policy("other", "q", max_length(2))));
    assert_eq!(in_force(&fixture, "q").as_deref(), Some("other"));
}

#[test]
fn the_smaller_number_holds_and_other_arguments_win() {
    let mut fixture = Fixture::new();
    let arguments = table(&[
        ("x-message-ttl", 100_i64.into()),
        ("x-max-length", 10_i64.into()),
        ("x-overflow", "drop-head".into()),
        ("x-dead-letter-exchange", "mine".into()),
        ("x-queue-mode", "default".into()),
    ]);
    fixture.done(declare(with_arguments("q", arguments)));
    fixture.done(set_policy(policy(
        "p",
        ".*",
        table(&[
            ("message-ttl", 50_i64.into()),
            ("max-length", 20_i64.into()),
            ("max-length-bytes", 7_i64.into()),
            ("overflow", "reject-publish".into()),
            ("dead-letter-exchange", "theirs".into()),
            ("dead-letter-routing-key", "key".into()),
            ("queue-mode", "lazy".into()),
            ("expires", 9000_i64.into()),
            ("delivery-limit", 4_i64.into()),
            ("consumer-timeout", 1000_i64.into()),
        ]),
    )));
    let expected = Settings {
        message_ttl: Some(Duration::from_millis(50)),
        expires: Some(Duration::from_secs(9)),
        length_max: Some(10),
        length_max_bytes: Some(7),
        dead_letter_exchange: Some("mine".into()),
        dead_letter_routing_key: Some(b"key".to_vec()),
        delivery_limit: Some(4),
        consumer_timeout: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    assert_eq!(*settings(&fixture, "q"), expected);
}

#[test]
fn an_operator_policy_is_merged_with_the_users() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.done(set_policy(policy(
        "p",
        ".*",
        table(&[
            ("max-length", 20_i64.into()),
            ("overflow", "reject-publish".into()),
            ("dead-letter-exchange", "dlx".into()),
        ]),
    )));
    fixture.done(set_operator_policy(policy(
        "o",
        ".*",
        table(&[
            ("max-length", 30_i64.into()),
            ("overflow", "drop-head".into()),
            ("message-ttl", 5_i64.into()),
        ]),
    )));
    let effective = table(&[
        ("dead-letter-exchange", "dlx".into()),
        ("max-length", 20_i64.into()),
        ("message-ttl", 5_i64.into()),
        ("overflow", "drop-head".into()),
    ]);
    let vhost = fixture.vhost();
    let queue = vhost.queues.get("q").unwrap();
    assert_eq!(*queue.effective_policy, effective);
    assert_eq!(
        queue.operator_policy.as_ref().map(|o| &*o.spec.name),
        Some("o")
    );
    assert_eq!(settings(&fixture, "q").length_max, Some(20));
    fixture.check_restores();
}

#[test]
fn an_argument_comes_before_a_policy_for_the_alternate_exchange() {
    let mut fixture = Fixture::new();
    let arguments = table(&[("alternate-exchange", "mine".into())]);
    fixture.done(declare_exchange(ExchangeSpec {
        arguments,
        ..exchange("a", "direct")
    }));
    fixture.exchange("b", "direct");
    let definition = table(&[("alternate-exchange", "theirs".into())]);
    fixture.done(set_policy(policy("p", "^(a|b)$", definition)));
    let alternate = |name: &str| {
        fixture
            .vhost()
            .exchanges
            .get(name)
            .unwrap()
            .alternate
            .clone()
    };
    assert_eq!(alternate("a").as_deref(), Some("mine"));
    assert_eq!(alternate("b").as_deref(), Some("theirs"));
}

#[test]
fn bindings_survive_a_change_of_policy() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.bind("amq.direct", "q", "k");
    let definition = table(&[("alternate-exchange", "ae".into())]);
    fixture.done(set_policy(policy("p", "", definition.clone())));
    fixture.done(set_policy(policy("p", ".*", definition)));
    assert_eq!(
        fixture
            .vhost()
            .exchanges
            .get("amq.direct")
            .unwrap()
            .bindings,
        1
    );
    fixture.check_restores();
}
